/**
 * Stores that fail on purpose, and holders that are dead on command.
 * @module
 */
import type { Liveness } from '../../privacy/budget/index.ts';
import type { DpEvent } from '../../privacy/dp/index.ts';
import type { Store, Transaction } from '../../src/store/index.ts';

/** An event that costs `micro` micro-epsilon in a pure scope, exactly. */
export function costing(micro: number): DpEvent {
  return { kind: 'discrete-laplace', sensitivity: 1, scale: { numerator: '1000000', denominator: String(micro) } };
}

/** What the medium does at a fault. */
export class Fault extends Error {}

/**
 * Wraps `store` so that something happens at one numbered point. Points are: before a transaction, before each operation in
 * it, after its body and before its commit, and after its commit (done, and not acknowledged). `reached` counts them.
 */
export class FaultyStore implements Store {
  readonly name = 'faulty';
  readonly durable: boolean;
  reached = 0;
  /** The point that fails; every later one fails as well, as after a crash. */
  failAt: number;
  readonly #inner: Store;

  constructor(inner: Store, failAt = Number.POSITIVE_INFINITY) {
    this.#inner = inner;
    this.durable = inner.durable;
    this.failAt = failAt;
  }

  #point(): void {
    if (this.reached++ >= this.failAt) throw new Fault(`fault at point ${this.reached - 1}`);
  }

  async transaction<T>(body: (tx: Transaction) => Promise<T>): Promise<T> {
    this.#point();
    const result = await this.#inner.transaction(async tx => {
      const value = await body(this.#watch(tx));
      this.#point();
      return value;
    });
    this.#point();
    return result;
  }

  #watch(tx: Transaction): Transaction {
    return new Proxy(tx, {
      get:
        (target, name: keyof Transaction) =>
        (...args: never[]) => {
          this.#point();
          return (target[name] as (...args: never[]) => unknown).apply(target, args);
        },
    });
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** A world of named holders: each `next()` is a new process, and all earlier ones are dead once `kill()` was called. */
export class Holders {
  #last = 0;
  #deadUpTo = 0;

  next(): Liveness {
    const self = String(++this.#last);
    return { self, isDead: holder => Number(holder) <= this.#deadUpTo };
  }

  kill(): void {
    this.#deadUpTo = this.#last;
  }
}
