/**
 * The bridge between a guest and what it is lent: one function, through which strings and buffers cross, and nothing else does.
 * @module
 */
import { type Capability, type Crossing, type LendingHost, type Method, Refusal } from './capability.ts';
import { CAPABILITY_LIST, type CapabilityName, type Lent } from './table.ts';

/** How often a capability was used, and what crossed the bridge for it. */
export interface Use {
  /** Uses that were granted. */
  readonly calls: number;
  /** Uses that were refused: over a limit, or of another form. */
  readonly refused: number;
  /** Bytes that crossed, in both directions. */
  readonly bytes: number;
}

/** The uses of each capability that was lent. */
export type Uses = { readonly [N in CapabilityName]?: Use };

/** The most of one string or buffer that crosses: the guest's side does not let more pass, the host's refuses it. */
export const MAX_CROSSING = 268_435_456;

interface Loan {
  readonly capability: Capability;
  readonly options: Readonly<Record<string, number>>;
  readonly methods: ReadonlyMap<string, Method>;
  readonly use: { calls: number; refused: number; bytes: number };
}

/** What one evaluation is lent, seen from the host. */
export class Lending {
  readonly #loans = new Map<string, Loan>();
  readonly #onUse: (name: CapabilityName) => void;
  #ended = false;

  /** @param onUse - Hears of each use when it has been counted. */
  constructor(lent: Lent, host: LendingHost, onUse: (name: CapabilityName) => void = () => {}) {
    this.#onUse = onUse;
    for (const capability of CAPABILITY_LIST) {
      const options = lent[capability.name as CapabilityName];
      if (options === undefined) continue;
      const use = { calls: 0, refused: 0, bytes: 0 };
      const spend = (bytes: number): void => {
        if (use.bytes + bytes > options.bytes) throw new Refusal('limit', `the uses are over bytes (${options.bytes})`);
        use.bytes += bytes;
      };
      const methods = new Map(Object.entries(capability.open(options, host, spend)));
      this.#loans.set(capability.name, { capability, options, methods, use });
    }
  }

  /** The capabilities that are lent, in the order of the table. */
  get capabilities(): readonly Capability[] {
    return [...this.#loans.values()].map(({ capability }) => capability);
  }

  /** What was used so far. */
  get uses(): Uses {
    const entries = [...this.#loans].map(([name, { use }]) => [name, Object.freeze({ ...use })] as const);
    return Object.freeze(Object.fromEntries(entries));
  }

  /** From now on everything is refused. */
  end(): void {
    this.#ended = true;
  }

  /**
   * One use: `given` is the capability's name, the method's, and what crosses. Never throws: an error of the host would carry its stack
   * into the guest. The answer is a buffer; or a string, behind `+` the answer, behind `R` or `T` why the use was refused.
   */
  call(given: readonly unknown[]): Crossing {
    const [name, method, ...rest] = given;
    const loan = typeof name === 'string' ? this.#loans.get(name) : undefined;
    if (loan === undefined || this.#ended)
      return `T${this.#ended ? 'the call has ended' : 'nothing of this name is lent'}`;
    try {
      const answer = granted(loan, method, rest);
      loan.use.calls++;
      return typeof answer === 'string' ? `+${answer}` : answer;
    } catch (error) {
      loan.use.refused++;
      if (!(error instanceof Refusal)) return `T${loan.capability.name}: it failed on the host's side`;
      return `${error.kind === 'limit' ? 'R' : 'T'}${loan.capability.name}: ${error.message}`;
    } finally {
      this.#onUse(loan.capability.name as CapabilityName);
    }
  }
}

function granted({ options, methods, use }: Loan, method: unknown, rest: readonly unknown[]): Crossing {
  if (use.calls >= options['calls']!) throw new Refusal('limit', `the uses are over calls (${options['calls']})`);
  const run = typeof method === 'string' ? methods.get(method) : undefined;
  if (run === undefined || !rest.every(isCrossing)) throw new Refusal('form', 'expected strings and ArrayBuffers');
  const bytes = rest.reduce(
    (sum, item) => sum + (typeof item === 'string' ? Buffer.byteLength(item) : item.byteLength),
    0,
  );
  if (use.bytes + bytes > options['bytes']!)
    throw new Refusal('limit', `the uses are over bytes (${options['bytes']})`);
  use.bytes += bytes;
  return run(...rest);
}

function isCrossing(value: unknown): value is Crossing {
  return typeof value === 'string' || value instanceof ArrayBuffer;
}

/**
 * The guest's side: a function body of `$0`, the bridge, and `$1`, the engine's own WebAssembly. It runs on intrinsics that the bootstrap
 * froze, before any guest code, and keeps what it takes from the global object, which guests may write.
 */
export function guestSide(lending: Lending): string {
  const parts = lending.capabilities.map(({ name, guest }) => {
    const made = `(${guest})(useOf(${JSON.stringify(name)}), wasm)`;
    return `loans[${JSON.stringify(name)}] = deepFreeze(${made});`;
  });
  return `'use strict';
const { ArrayBuffer, Uint8Array, DataView, JSON, Number, String, Symbol, TypeError, RangeError, Set, Reflect, Object } = globalThis;
const { apply, construct, defineProperty, deleteProperty, getOwnPropertyDescriptor, getPrototypeOf, ownKeys } = Reflect;
const { freeze, isFrozen } = Object;
const bridge = $0;
const wasm = $1;
const getter = (prototype, name) => getOwnPropertyDescriptor(prototype, name).get;
const TypedArray = getPrototypeOf(Uint8Array);
const bufferBytes = getter(ArrayBuffer.prototype, 'byteLength');
const views = [
  [getter(TypedArray.prototype, 'buffer'), getter(TypedArray.prototype, 'byteOffset'), getter(TypedArray.prototype, 'byteLength')],
  [getter(DataView.prototype, 'buffer'), getter(DataView.prototype, 'byteOffset'), getter(DataView.prototype, 'byteLength')],
];
const setBytes = TypedArray.prototype.set;
const slice = String.prototype.slice;

// Getters of internal slots: they run no guest code, throw on a proxy, and see no property that a guest put there.
function copyBytes(given) {
  let buffer = given;
  let offset = 0;
  let length = -1;
  for (const [bufferOf, offsetOf, lengthOf] of views) {
    try {
      buffer = apply(bufferOf, given, []);
      offset = apply(offsetOf, given, []);
      length = apply(lengthOf, given, []);
      break;
    } catch {}
  }
  try {
    if (length < 0) length = apply(bufferBytes, buffer, []);
  } catch {
    return undefined;
  }
  if (length > ${MAX_CROSSING}) throw new RangeError('a buffer of ' + length + ' bytes does not cross');
  const own = new Uint8Array(length);
  if (length > 0) apply(setBytes, own, [new Uint8Array(buffer, offset, length)]);
  return own.buffer;
}

function useOf(name) {
  return (method, ...given) => {
    const crossing = [name, method];
    for (let i = 0; i < given.length; i++) {
      const one = given[i];
      let copy;
      if (typeof one === 'string') copy = one.length > ${MAX_CROSSING / 4} ? undefined : one;
      else if (typeof one === 'number') copy = String(one);
      else if (typeof one === 'object' && one !== null) copy = copyBytes(one);
      if (copy === undefined) {
        crossing.length = 2;
        crossing[1] = '';
        break;
      }
      crossing[i + 2] = copy;
    }
    const answer = apply(bridge, undefined, crossing);
    if (typeof answer !== 'string') return answer;
    const text = apply(slice, answer, [1]);
    if (answer[0] === '+') return text;
    throw answer[0] === 'R' ? new RangeError(text) : new TypeError(text);
  };
}

// What is frozen already is an intrinsic: nothing that is lent comes frozen.
function deepFreeze(value) {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null || isFrozen(value)) return value;
  freeze(value);
  deepFreeze(getPrototypeOf(value));
  for (const key of ownKeys(value)) {
    const descriptor = getOwnPropertyDescriptor(value, key);
    deepFreeze(descriptor.value);
    deepFreeze(descriptor.get);
    deepFreeze(descriptor.set);
  }
  return value;
}

const loans = { __proto__: null };
${parts.join('\n')}
defineProperty(globalThis, 'lent', { value: freeze(loans) });`;
}
