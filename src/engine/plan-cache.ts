/**
 * The plan cache: plans by what they were made from, in memory and, through a store, beyond the process.
 * @module
 */
import { CloisterError, canonicalJson, decodeUtf8, encodeUtf8, isCloisterError, toHex } from '../base/index.ts';
import { sha256 } from '../base/sha256.ts';
import { DTYPES, type DType, elementCount } from '../tensor/index.ts';
import type { PlannedMemory, PlannedPort, PlannedProgram } from './plan.ts';

/** Where plans outlive the process: files, a table. It may forget at any time, and what it returns is not trusted. */
export interface PlanStore {
  get(key: string): Uint8Array | undefined;
  set(key: string, bytes: Uint8Array): void;
  delete(key: string): void;
}

/** What {@link PlanCache} may be told. */
export interface PlanCacheOptions {
  /** The most bytes of programs that are kept in memory. Default 64 MiB. */
  readonly limitBytes?: number;
  readonly store?: PlanStore;
}

/** What a plan depends on, each part of which changes the key. */
export interface PlanOrigin {
  /** Of `graphDigest`. */
  readonly graph: string;
  /** Digest of the file in which the graph's `range` constants lie. */
  readonly source: string;
  /** The backend with whatever changes its plans: instruction set, versions, sizes of panels. */
  readonly backend: Readonly<Record<string, string | number>>;
  readonly dims: Readonly<Record<string, number>>;
}

/**
 * Plans by origin. The longest unused is forgotten first, once more than `limitBytes` are kept.
 *
 * A plan from a store is as little trusted as one from a guest: its form is checked here, its program by whoever loads it.
 * @example
 * ```ts
 * const cache = new PlanCache({ limitBytes: 1_000_000 });
 * cache.get({ graph: 'ab', source: 'cd', backend: { name: 'native' }, dims: {} }); // undefined
 * ```
 */
export class PlanCache {
  readonly #limitBytes: number;
  readonly #store: PlanStore | undefined;
  readonly #plans = new Map<string, { readonly plan: PlannedProgram; readonly bytes: number }>(); // the longest unused first
  #bytes = 0;

  constructor(options: PlanCacheOptions = {}) {
    this.#limitBytes = options.limitBytes ?? 64 * 2 ** 20;
    this.#store = options.store;
  }

  /** Bytes of the plans in memory. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The plan of this origin, if it is known. */
  get(origin: PlanOrigin): PlannedProgram | undefined {
    const key = keyOf(origin);
    const kept = this.#plans.get(key);
    if (kept) {
      this.#plans.delete(key);
      this.#plans.set(key, kept);
      return kept.plan;
    }
    const stored = this.#store?.get(key);
    if (!stored) return undefined;
    try {
      const plan = decodePlan(stored);
      this.#keep(key, plan, stored.length);
      return plan;
    } catch (error) {
      if (!isCloisterError(error, 'INVALID_PROGRAM')) throw error;
      this.#store?.delete(key);
      return undefined;
    }
  }

  /** Keeps `plan`, here and in the store. */
  set(origin: PlanOrigin, plan: PlannedProgram): void {
    const key = keyOf(origin);
    const bytes = encodePlan(plan);
    this.#keep(key, plan, bytes.length);
    this.#store?.set(key, bytes);
  }

  /** Forgets the plan of this origin: its program was refused where it was loaded. */
  delete(origin: PlanOrigin): void {
    const key = keyOf(origin);
    this.#drop(key);
    this.#store?.delete(key);
  }

  #keep(key: string, plan: PlannedProgram, bytes: number): void {
    this.#drop(key);
    if (bytes > this.#limitBytes) return;
    this.#plans.set(key, { plan, bytes });
    this.#bytes += bytes;
    for (const oldest of this.#plans.keys()) {
      if (this.#bytes <= this.#limitBytes) break;
      this.#drop(oldest);
    }
  }

  #drop(key: string): void {
    this.#bytes -= this.#plans.get(key)?.bytes ?? 0;
    this.#plans.delete(key);
  }
}

function keyOf({ graph, source, backend, dims }: PlanOrigin): string {
  return toHex(sha256(encodeUtf8(canonicalJson({ graph, source, backend, dims }))));
}

/**
 * A plan as bytes.
 *
 * | offset | bytes | |
 * |---|---|---|
 * | 0 | 4 | `plan` |
 * | 4 | 4 | length of the head, u32 little-endian |
 * | 8 | head | canonical JSON: inputs, outputs, memory, steps |
 * | 8 + head | rest | the program |
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when a name cannot be spelt.
 */
export function encodePlan({ program, inputs, outputs, memory, steps }: PlannedProgram): Uint8Array {
  const port = ({ name, dtype, shape }: PlannedPort) => ({ name, dtype, shape });
  const head = encodeUtf8(
    canonicalJson({
      inputs: inputs.map(port),
      outputs: outputs.map(port),
      memory: { ...memory },
      steps: steps.map(({ kind, node }) => ({ kind, node })),
    }),
  );
  const out = new Uint8Array(8 + head.length + program.length);
  out.set(MAGIC);
  new DataView(out.buffer).setUint32(4, head.length, true);
  out.set(head, 8);
  out.set(program, 8 + head.length);
  return out;
}

const MAGIC = encodeUtf8('plan');

/**
 * Returns the plan that `bytes` are. Its form is checked; whether its program may run, whoever loads it finds out.
 *
 * @throws {CloisterError} `INVALID_PROGRAM`.
 */
export function decodePlan(bytes: Uint8Array): PlannedProgram {
  const refuse = (cause?: unknown): never => {
    throw new CloisterError('INVALID_PROGRAM', 'the bytes are not those of a plan', { bytes: bytes.length }, { cause });
  };
  if (bytes.length < 8 || MAGIC.some((byte, i) => bytes[i] !== byte)) return refuse();
  const length = new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint32(4, true);
  if (8 + length > bytes.length) return refuse();
  let head: unknown;
  try {
    head = JSON.parse(decodeUtf8(bytes.subarray(8, 8 + length)));
  } catch (cause) {
    return refuse(cause);
  }
  const { inputs, outputs, memory, steps } = record(head) ?? {};
  const sizes = record(memory) ?? {};
  const plan = {
    program: bytes.subarray(8 + length),
    inputs: list(inputs, portOf),
    outputs: list(outputs, portOf),
    memory: MEMORY.every(name => isSize(sizes[name])) ? (sizes as unknown as PlannedMemory) : undefined,
    steps: list(steps, stepOf),
  };
  const { inputs: ins, outputs: outs, memory: needs, steps: does } = plan;
  if (!ins || !outs || !needs || !does) return refuse();
  return Object.freeze({ program: plan.program, inputs: ins, outputs: outs, memory: needs, steps: does });
}

const MEMORY = ['permanentBytes', 'temporaryBytes', 'temporaryLowerBoundBytes', 'stagingBytes'] as const;

const isSize = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

function record(value: unknown): Readonly<Record<string, unknown>> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Readonly<Record<string, unknown>>)
    : undefined;
}

/** The items of a list, if it is one and each is of its form. */
function list<T>(value: unknown, item: (value: unknown) => T | undefined): readonly T[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const items = value.map(item);
  return items.includes(undefined) ? undefined : (items as readonly T[]);
}

function portOf(value: unknown): PlannedPort | undefined {
  const { name, dtype, shape } = record(value) ?? {};
  const good =
    typeof name === 'string' &&
    typeof dtype === 'string' &&
    Object.hasOwn(DTYPES, dtype) &&
    Array.isArray(shape) &&
    shape.every(isSize);
  if (!good) return undefined;
  try {
    elementCount(shape);
  } catch {
    return undefined;
  }
  return Object.freeze({ name, dtype: dtype as DType, shape: Object.freeze(shape) });
}

function stepOf(value: unknown): PlannedProgram['steps'][number] | undefined {
  const { kind, node } = record(value) ?? {};
  return typeof kind === 'string' && typeof node === 'string' ? Object.freeze({ kind, node }) : undefined;
}
