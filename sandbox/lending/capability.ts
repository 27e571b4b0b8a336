/**
 * What a capability is: a function that the host lends to a guest by name, with limits of its own, each use of it counted.
 * @module
 */
import type { RandomSource } from '../../src/base/index.ts';

/** One option of a capability: a whole number between `least` and `most`. */
export interface Bound {
  readonly default: number;
  readonly least: number;
  readonly most: number;
}

/** What crosses the bridge, in both directions. Numbers travel as decimal text. */
export type Crossing = string | ArrayBuffer;

/** What the host's side of a capability is made over. */
export interface LendingHost {
  /** Takes a line for the caller: printable, without line feeds. */
  readonly log: (line: string) => void;
  /** Milliseconds since the call began, as exact as the machine has them. */
  readonly elapsedMs: () => number;
  readonly random: RandomSource;
  /** The keys and values of the call's owner. The capability writes into it; what is kept of that, the host decides. */
  readonly entries: Map<string, string>;
  /** The bytes of a model. Not written. */
  readonly model: Uint8Array;
  /** MiB that the guest may hold in all. */
  readonly memoryMb: number;
}

/** A function of the host: gets what crossed, and answers, or throws a {@link Refusal}. */
export type Method = (...given: readonly Crossing[]) => Crossing;

/** Takes `bytes` from what a use may move besides its arguments. Throws a {@link Refusal} when they are used up. */
export type Spend = (bytes: number) => void;

/** A capability, from both sides. `K` are the names of its options; every one has `calls` and `bytes`. */
export interface Capability<K extends string = string> {
  /** How it is asked for, and its name in `lent` on the guest's side. */
  readonly name: string;
  /** What the guest sees: its type, as TypeScript. */
  readonly sees: string;
  /** What a use of it does, in one sentence. */
  readonly does: string;
  /** What of a use is recorded besides its count. */
  readonly records: string;
  readonly options: Readonly<Record<K | 'calls' | 'bytes', Bound>>;
  /**
   * JavaScript of a function `(use, wasm) => value`, which makes what the guest sees. It runs before any guest code, on intrinsics
   * that are frozen. `use(method, ...given)` crosses the bridge: strings, numbers and ArrayBuffers are copied, all else is refused
   * unseen. `wasm` is the engine's own WebAssembly, which no guest may get.
   */
  readonly guest: string;
  /** Makes the methods that `use` reaches. Called once for each evaluation. */
  open(
    options: Readonly<Record<K | 'calls' | 'bytes', number>>,
    host: LendingHost,
    spend: Spend,
  ): Readonly<Record<string, Method>>;
}

/** Why a use is refused. The guest gets a `RangeError` for what is over a limit, a `TypeError` for what is of another form. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
  readonly kind: 'limit' | 'form';

  constructor(kind: 'limit' | 'form', message: string) {
    super(message);
    this.kind = kind;
  }
}

/** The whole number that crossed as `value`. @throws {Refusal} on anything else, negative numbers and fractions included. */
export function wholeNumber(value: Crossing | undefined, what: string): number {
  const number = typeof value === 'string' && /^\d{1,16}$/.test(value) ? Number(value) : Number.NaN;
  if (!Number.isSafeInteger(number)) throw new Refusal('form', `expected ${what} as a whole number`);
  return number;
}

/** The text that crossed. @throws {Refusal} on anything else. */
export function textOf(value: Crossing | undefined, what: string): string {
  if (typeof value !== 'string') throw new Refusal('form', `expected ${what} as a string`);
  return value;
}

/** The bytes that crossed. @throws {Refusal} on anything else. */
export function bytesOf(value: Crossing | undefined, what: string): Uint8Array<ArrayBuffer> {
  if (!(value instanceof ArrayBuffer)) throw new Refusal('form', `expected ${what} as an ArrayBuffer`);
  return new Uint8Array(value);
}
