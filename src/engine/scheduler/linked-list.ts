/**
 * A doubly linked list: what waits is added at the end and taken from anywhere, each in constant time.
 * @module
 */

/** The place of a value in a list. It is in at most one. */
export interface Place<T> {
  readonly value: T;
  previous: Place<T> | undefined;
  next: Place<T> | undefined;
}

/** Values in the order in which they came. */
export class LinkedList<T> {
  #first: Place<T> | undefined;
  #last: Place<T> | undefined;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get first(): T | undefined {
    return this.#first?.value;
  }

  get last(): T | undefined {
    return this.#last?.value;
  }

  /** Adds `value` at the end. The place that it returns takes it out again. */
  push(value: T): Place<T> {
    const place: Place<T> = { value, previous: this.#last, next: undefined };
    if (this.#last) this.#last.next = place;
    else this.#first = place;
    this.#last = place;
    this.#size++;
    return place;
  }

  /** Takes out what is at `place`, which must be a place of this list that was not taken out before. */
  remove(place: Place<T>): void {
    if (place.previous) place.previous.next = place.next;
    else this.#first = place.next;
    if (place.next) place.next.previous = place.previous;
    else this.#last = place.previous;
    this.#size--;
  }

  *[Symbol.iterator](): Generator<T> {
    // The next place is read first: the value at hand may be taken out meanwhile.
    for (let at = this.#first; at; ) {
      const { value, next } = at;
      yield value;
      at = next;
    }
  }
}
