/**
 * Values that must not leave, and values that may.
 * @module
 */
import { CloisterError, type MicroEpsilon } from '../../src/base/index.ts';
import type { DpEvent } from './event.ts';
import { type Adjacency, checkAdjacency } from './parameters.ts';

/** Reads a private value, once: for mechanisms in this room, and not exported from it. */
export let takePrivate: <T>(held: Private<T, Adjacency>) => T;

/**
 * A value that only a mechanism of this room can read, and only once. Writing it as JSON or converting it to a string or
 * number throws `POLICY_REFUSED`; a console, a debugger's `inspect` and a structured clone show nothing of it.
 *
 * `A` is the relation between neighbours under which its sensitivity is known: a mechanism takes no other.
 */
export class Private<T, A extends Adjacency = 'add-remove'> {
  /** Exists for the compiler alone. */
  declare readonly neighboring: A;
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

/**
 * Holds a value of yours for a mechanism: nothing else can read it, and the mechanism can once.
 *
 * That it has the sensitivity which the mechanism is told, under the relation named here, is your claim; the statistics of this room
 * prove theirs.
 *
 * @param neighboring - The relation between neighbours; `add-remove` unless said otherwise.
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when it is none.
 * @example
 * ```ts
 * const scores = holdPrivate([12, 40, 7]);
 * permuteAndFlip({ sensitivity: lInfSensitivity(1), candidates: 3, cost: spendOf(100) }).release(scores).value; // 1
 * ```
 */
export function holdPrivate<T>(value: T): Private<T>;
export function holdPrivate<T, A extends Adjacency>(value: T, neighboring: A): Private<T, A>;
export function holdPrivate(value: unknown, neighboring?: Adjacency): Private<unknown, Adjacency> {
  checkAdjacency(neighboring);
  return new Private(value);
}

/** An answer that may leave, and all that is public about how it came about. Plain JSON, frozen. */
export interface Released<T> {
  readonly kind: 'released';
  readonly value: T;
  /** What the mechanism did: what accountants and ledgers read. */
  readonly event: DpEvent;
}

/** An answer that noise was added to, cell by cell. */
export interface Noised<T> extends Released<T> {
  /** The charge that the noise was drawn for, where the mechanism was told one: those of pure differential privacy. */
  readonly cost?: MicroEpsilon;
  /** Each cell of the raw answer lies within this of the noised one (before clamping) with probability at least 0.95. */
  readonly errorBar: number;
  /** Whether negative cells were set to 0 after the noise was added. */
  readonly nonNegative: boolean;
}

function refuse(what: string): never {
  throw new CloisterError('POLICY_REFUSED', `a private value cannot be ${what}; release it through a mechanism`);
}
