/**
 * Values that must not leave, and values that may.
 * @module
 */
import { CloisterError, type MicroEpsilon } from '../../src/base/index.ts';
import type { DpEvent } from './event.ts';

/** Reads a private value, once: for mechanisms in this room, and not exported from it. */
export let takePrivate: <T>(held: Private<T>) => T;

/**
 * A value that only a mechanism of this room can read, and only once. Writing it as JSON or converting it to a string or
 * number throws `POLICY_REFUSED`; a console, a debugger's `inspect` and a structured clone show nothing of it.
 */
export class Private<T> {
  #held: { readonly value: T } | undefined;

  static {
    takePrivate = held => {
      const contents = held.#held;
      if (!contents)
        throw new CloisterError('INVALID_ARGUMENT', 'this private value was released already: one charge, one release');
      held.#held = undefined;
      return contents.value;
    };
    // What `console.log` and `util.inspect` print.
    Object.defineProperty(Private.prototype, Symbol.for('nodejs.util.inspect.custom'), { value: () => '[Private]' });
  }

  constructor(value: T) {
    this.#held = { value };
    Object.freeze(this);
  }

  toJSON(): never {
    return refuse('written as JSON');
  }

  toString(): never {
    return refuse('turned into a string');
  }

  [Symbol.toPrimitive](): never {
    return refuse('turned into a primitive');
  }
}

/** A noised answer, and all that is public about how it came about. Plain JSON, frozen. */
export interface Released<T> {
  readonly kind: 'released';
  readonly value: T;
  readonly event: DpEvent;
  /** What it cost: the charge that the noise was drawn for. */
  readonly cost: MicroEpsilon;
  /** Each cell of the raw answer lies within this of the noised one (before clamping) with probability at least 0.95. */
  readonly errorBar: number;
  /** Whether negative cells were set to 0 after the noise was added. */
  readonly nonNegative: boolean;
}

function refuse(what: string): never {
  throw new CloisterError('POLICY_REFUSED', `a private value cannot be ${what}; release it through a mechanism`);
}
