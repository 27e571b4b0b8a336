/**
 * A model inside the walls: the guest that parsed it, and the native program or the guest's own interpreter that runs it.
 * The same code serves in a worker process and in the calling process.
 * @module
 */

import type { NativeProgram, NativeProgramHost } from '../native/index.ts';
import { CloisterError, decodeUtf8, type ErrorCode, encodeUtf8, isCloisterError } from '../src/base/index.ts';
import { NO_MEMORY } from '../src/engine/backend.ts';
import type { NamedTensors, PlannedPort, Profile } from '../src/engine/index.ts';
import { decodePlan, encodePlan } from '../src/engine/plan-cache.ts';
import { evaluateDim, namesOf } from '../src/graph/dimension.ts';
import { DTYPES, Tensor } from '../src/tensor/index.ts';
import { bindInputs, type Dims, dimsKey } from './binding.ts';
import type { GuestAnswer } from './isolate.ts';
import type { Kernels } from './kernels.ts';
import { limitError } from './limit-error.ts';
import { aloneModel, describeFiles, type FixedDims, type ModelFiles } from './model-files.ts';
import { MAX_PLAN_BYTES } from './plan-notes.ts';
import { MAX_SHOWN_BYTES, parseShown, type ShownForm } from './shown.ts';
import { joinParts, packTensors, type TensorHead, unpackTensors } from './tensors.ts';
import {
  isRecord,
  isSafeName,
  type ModelReport,
  type ModelSummary,
  type Optimisation,
  parseOptimisation,
  parseProfile,
  parseReport,
  parseSummary,
  refuseGuest,
  type ValueSummary,
} from './untrusted.ts';

/** Programs kept for different sizes of the symbolic dimensions; each holds its own packed weights. */
const MAX_VARIANTS = 4;

/** What a plan fails with where the sizes, not the model, are wrong. */
const OF_THESE_SIZES: ReadonlySet<ErrorCode> = new Set(['INVALID_GRAPH', 'SHAPE_MISMATCH', 'INVALID_ARGUMENT']);

/** How a guest is called: directly, or on its own thread. */
export type GuestCall = (op: string, header: object, payload?: Uint8Array) => GuestAnswer | Promise<GuestAnswer>;

/** What a model is hosted with. */
export interface HostOptions {
  readonly call: GuestCall;
  /** Calls the guest on the calling thread, where a look at the clock costs least. */
  readonly measure?: GuestCall;
  readonly kernels: Kernels;
  /** The model file, with the files beside it. The guest is lent the same bytes. */
  readonly model: Uint8Array | ModelFiles;
  /** Sizes that are fixed on import. */
  readonly dims?: FixedDims;
  /** What an earlier load of the same model was planned to. Not trusted. */
  readonly plan?: Uint8Array | undefined;
  /** Why the guest's interpreter runs it, where native kernels could, too. */
  readonly interpret?: string | undefined;
  /** The most bytes of one program's arenas. */
  readonly limitBytes: number;
}

/** One set of sizes made ready. */
interface Variant {
  readonly program: NativeProgram;
  readonly inputs: readonly TensorHead[];
  readonly outputs: readonly TensorHead[];
  /** The plan that was made for it; undefined where it was known before, or is not to be kept. */
  readonly fresh?: Uint8Array | undefined;
}

/** What the guest says before it can read the model: that weights are in other files. A claim, to be checked. */
export class NeedsFiles {
  readonly asked: unknown;

  constructor(asked: unknown) {
    this.asked = asked;
  }
}

/** A model that was parsed by a guest and prepared for one backend. */
export class HostedModel {
  readonly report: ModelReport;
  /** What the load was planned to, or that there is no native plan, if that was not known before: for whoever keeps plans. */
  readonly freshPlan: Uint8Array | undefined;
  readonly #options: HostOptions;
  readonly #variants = new Map<string, Variant>();
  /** Sizes that are being planned, until they are ready or have failed. */
  readonly #planning = new Map<string, Promise<unknown>>();
  #closed = false;
  /** Set once a native model met sizes that only the guest's interpreter runs. */
  #prepared: Promise<GuestAnswer> | undefined;

  private constructor(
    options: HostOptions,
    report: ModelReport,
    first: Variant | undefined,
    dims: Dims,
    fresh: Uint8Array | undefined,
  ) {
    const { plan: _, ...rest } = options; // it was for the load
    this.#options = rest;
    this.report = report;
    this.freshPlan = fresh;
    if (first !== undefined) this.#variants.set(dimsKey(dims), { ...first, fresh: undefined });
  }

  /**
   * Lets the guest parse the model, plans it for native kernels where there are some and they can run it, and prepares the
   * guest's interpreter otherwise. A plan for every symbolic dimension at 1 decides which.
   *
   * @returns {@link NeedsFiles} when weights are in files that were not given: the guest may be asked again with them.
   * @throws {CloisterError} `INVALID_MODEL`, `MODEL_TOO_LARGE`, `UNSUPPORTED_MODEL`, `OUT_OF_MEMORY`, `GUEST_FAILED`;
   *   `INVALID_ARGUMENT` on sizes that no input has.
   */
  static async open(options: HostOptions): Promise<HostedModel | NeedsFiles> {
    const model = filesOf(options);
    const header = { ...describeFiles(model), total: model.bytes.length, dims: options.dims ?? {} };
    const answer = (await options.call('load', header)).header;
    if (answer['external'] !== undefined) return new NeedsFiles(answer['external']);
    const summary = parseSummary(answer['summary']);
    if (summary.bytes !== model.modelBytes) throw refuseGuest('summary.bytes', `${model.modelBytes}`, summary.bytes);
    if (options.interpret !== undefined) return HostedModel.#interpreted(options, summary, options.interpret);
    const dims = smallestDims(summary);
    const { host, why } = options.kernels;
    if (host === undefined) return HostedModel.#interpreted(options, summary, why);
    const known = knownPlan(options, host, summary, dims);
    const planned =
      known ??
      (await plan(options, host, summary, dims, true).catch(error => {
        // A model may have no meaning where every open size is 1; then the first run plans.
        const open = Object.keys(dims).length > 0 && isCloisterError(error) && OF_THESE_SIZES.has(error.code);
        if (open) return undefined;
        throw error;
      }));
    if (planned?.kind === 'reference') {
      return HostedModel.#interpreted(options, summary, planned.why, known ? undefined : encodeRefusal(planned.why));
    }
    const memory = planned?.variant.program.memory ?? NO_MEMORY;
    const report = parseReport({ summary, backend: 'native', why, memory });
    return new HostedModel(options, report, planned?.variant, dims, planned?.variant.fresh);
  }

  static async #interpreted(
    options: HostOptions,
    summary: ModelSummary,
    why: string,
    fresh?: Uint8Array,
  ): Promise<HostedModel> {
    const { header } = await options.call('prepare', { limitBytes: options.limitBytes });
    const report = parseReport({ summary, backend: 'reference', why, memory: header['memory'] });
    return new HostedModel(options, report, undefined, {}, fresh);
  }

  /**
   * Computes all outputs. The inputs are read, never kept; the outputs are new, of at most `outputBytes` bytes in all.
   *
   * @throws {CloisterError} `INPUT_MISMATCH`, `DTYPE_MISMATCH`, `SHAPE_MISMATCH`, `OUT_OF_MEMORY`, `GUEST_FAILED`;
   *   `LIMIT_EXCEEDED` where a native program's outputs are larger, before they are allocated; `CLOSED`.
   */
  run(inputs: NamedTensors, outputBytes: number): NamedTensors | Promise<NamedTensors> {
    const dims = bindInputs(this.report.summary.inputs, inputs);
    if (this.report.backend === 'reference') return this.#interpret(inputs);
    const variant = this.#variants.get(dimsKey(dims));
    return variant === undefined
      ? this.#planAndRun(dims, inputs, outputBytes)
      : runVariant(variant, inputs, outputBytes);
  }

  /**
   * The model as text or as a picture, made by the guest and checked here.
   *
   * @throws {CloisterError} `LIMIT_EXCEEDED` when it has more than `outputBytes` bytes; `GUEST_FAILED`.
   */
  async show(form: ShownForm, outputBytes: number): Promise<string> {
    const limitBytes = Math.min(outputBytes, MAX_SHOWN_BYTES);
    const { payload } = await this.#options.call('show', { form, limitBytes });
    return parseShown(payload, form, limitBytes);
  }

  /**
   * Runs the model `runs` times on the guest's interpreter, and says how long each node took.
   *
   * @param warm - It has run before: otherwise one run more, which is not measured.
   * @throws {CloisterError} as {@link HostedModel.run}; `LIMIT_EXCEEDED` when the profile has more than `outputBytes` bytes.
   */
  async profile(inputs: NamedTensors, runs: number, warm: boolean, outputBytes: number): Promise<Profile> {
    bindInputs(this.report.summary.inputs, inputs);
    const { call, measure = call, limitBytes } = this.#options;
    const packed = packTensors(inputs);
    const header = { tensors: packed.heads, runs, warm, limitBytes };
    const { payload } = await measure('profile', header, joinParts(packed));
    if (payload.length > outputBytes) throw limitError('outputBytes', outputBytes, payload.length);
    return parseProfile(parseJson(payload, 'profile'), runs);
  }

  /** What the passes do to the model, and what memory it then needs, as the guest says. @throws {CloisterError} `GUEST_FAILED`. */
  async passes(): Promise<Optimisation> {
    return parseOptimisation((await this.#options.call('passes', {})).header);
  }

  /** Frees the programs. The guest belongs to the caller. */
  close(): void {
    this.#closed = true;
    for (const { program } of this.#variants.values()) program.close();
    this.#variants.clear();
  }

  async #interpret(inputs: NamedTensors): Promise<NamedTensors> {
    const packed = packTensors(inputs);
    const { header, payload } = await this.#options.call('run', { tensors: packed.heads }, joinParts(packed));
    return unpackTensors(header['tensors'], payload);
  }

  async #planAndRun(dims: Dims, inputs: NamedTensors, outputBytes: number): Promise<NamedTensors> {
    const key = dimsKey(dims);
    const other = this.#planning.get(key);
    if (other !== undefined) {
      await other;
      return this.run(inputs, outputBytes);
    }
    const planning = plan(this.#options, this.#options.kernels.host!, this.report.summary, dims, false);
    this.#planning.set(
      key,
      planning.catch(() => {}),
    );
    let planned: Planned;
    try {
      planned = await planning; // and goes on before those who wait for it
    } finally {
      this.#planning.delete(key);
    }
    if (this.#closed) {
      if (planned.kind === 'native') planned.variant.program.close();
      throw new CloisterError('CLOSED', 'the model is closed');
    }
    if (planned.kind === 'reference') {
      this.#prepared ??= Promise.resolve(this.#options.call('prepare', { limitBytes: this.#options.limitBytes }));
      await this.#prepared;
      return this.#interpret(inputs);
    }
    const [oldest] = this.#variants.keys();
    if (this.#variants.size >= MAX_VARIANTS && oldest !== undefined) {
      this.#variants.get(oldest)!.program.close();
      this.#variants.delete(oldest);
    }
    this.#variants.set(key, planned.variant);
    return runVariant(planned.variant, inputs, outputBytes);
  }
}

type Planned =
  | { readonly kind: 'native'; readonly variant: Variant }
  | { readonly kind: 'reference'; readonly why: string };

/** Asks the guest for a program, and has it verified. Only "I cannot plan this" leads to the other backend. */
async function plan(
  options: HostOptions,
  host: NativeProgramHost,
  summary: ModelSummary,
  dims: Dims,
  keep: boolean,
): Promise<Planned> {
  let answer: GuestAnswer;
  try {
    answer = await options.call('plan', { kernels: host.info, dims, limitBytes: options.limitBytes });
  } catch (error) {
    if (!isCloisterError(error, 'UNSUPPORTED_MODEL')) throw error;
    return { kind: 'reference', why: error.message.slice(0, 1_000) };
  }
  const { inputs, outputs } = answer.header;
  const variant = makeReady(options, host, summary, dims, { inputs, outputs, program: answer.payload });
  if (!keep) return { kind: 'native', variant };
  const memory = { permanentBytes: 0, temporaryBytes: 0, temporaryLowerBoundBytes: 0, stagingBytes: 0 };
  const ready = {
    inputs: variant.inputs as readonly PlannedPort[],
    outputs: variant.outputs as readonly PlannedPort[],
  };
  const fresh = encodePlan({ ...ready, program: answer.payload, memory, steps: [] });
  return { kind: 'native', variant: { ...variant, fresh: fresh.length <= MAX_PLAN_BYTES ? fresh : undefined } };
}

/** The plan of an earlier load, checked like one that the guest makes now; undefined where it does not pass. */
function knownPlan(
  options: HostOptions,
  host: NativeProgramHost,
  summary: ModelSummary,
  dims: Dims,
): Planned | undefined {
  if (options.plan === undefined) return undefined;
  const why = decodeRefusal(options.plan);
  if (why !== undefined) return { kind: 'reference', why };
  try {
    return { kind: 'native', variant: makeReady(options, host, summary, dims, decodePlan(options.plan)) };
  } catch (error) {
    if (isCloisterError(error, 'INVALID_PROGRAM') || isCloisterError(error, 'GUEST_FAILED')) return undefined;
    throw error;
  }
}

/** What is kept of a model that has no native plan: `none`, then why, in UTF-8. */
function encodeRefusal(why: string): Uint8Array {
  return encodeUtf8(`none${why}`);
}

function decodeRefusal(bytes: Uint8Array): string | undefined {
  if (bytes.length > 4_096) return undefined;
  try {
    const text = decodeUtf8(bytes);
    const why = text.slice(4);
    return text.startsWith('none') && isSafeName(why) ? why : undefined;
  } catch {
    return undefined;
  }
}

/** Has a program verified and loaded, for ports that are the model's at these sizes. */
function makeReady(
  options: HostOptions,
  host: NativeProgramHost,
  summary: ModelSummary,
  dims: Dims,
  from: { readonly inputs: unknown; readonly outputs: unknown; readonly program: Uint8Array },
): Variant {
  const inputs = ports(from.inputs, summary.inputs, dims, 'plan.inputs');
  const outputs = ports(from.outputs, summary.outputs, dims, 'plan.outputs');
  const program = host.load(from.program, filesOf(options).bytes, options.limitBytes);
  if (!fits(inputs, program.inputBytes) || !fits(outputs, program.outputBytes)) {
    program.close();
    throw refuseGuest('plan', 'ports of the sizes that the program has', 'others');
  }
  return { program, inputs, outputs };
}

function filesOf({ model }: HostOptions): ModelFiles {
  return model instanceof Uint8Array ? aloneModel(model) : model;
}

function parseJson(bytes: Uint8Array, where: string): unknown {
  try {
    return JSON.parse(decodeUtf8(bytes));
  } catch {
    throw refuseGuest(where, 'JSON', 'something else');
  }
}

/** Checks that the ports of a program are the model's at these sizes, each once, and says how large each is. */
function ports(value: unknown, values: readonly ValueSummary[], dims: Dims, where: string): readonly TensorHead[] {
  if (!Array.isArray(value) || value.length !== values.length)
    throw refuseGuest(where, `${values.length} ports`, value);
  const byName = new Map(values.map(item => [item.name, item]));
  return value.map((port: unknown) => {
    if (!isRecord(port)) throw refuseGuest(where, 'a port', port);
    const { name, dtype, shape } = port;
    const known = isSafeName(name) ? byName.get(name) : undefined;
    if (known === undefined) throw refuseGuest(where, 'a port of the model', name);
    byName.delete(known.name);
    if (dtype !== known.dtype) throw refuseGuest(where, known.dtype, dtype);
    const good =
      Array.isArray(shape) &&
      shape.length === known.shape.length &&
      shape.every((size, i) => {
        const dim = known.shape[i]!;
        const expected = evaluateDim(dim, dims);
        return Number.isSafeInteger(size) && size >= 0 && (expected === undefined || expected === size);
      });
    if (!good) throw refuseGuest(where, 'a shape of the model', shape);
    return { name: known.name, dtype: known.dtype, shape } as TensorHead;
  });
}

function fits(heads: readonly TensorHead[], bytes: readonly number[]): boolean {
  const size = ({ dtype, shape }: TensorHead): number => shape.reduce((a, b) => a * b, DTYPES[dtype].bytes);
  return heads.length === bytes.length && heads.every((head, i) => size(head) === bytes[i]);
}

function runVariant({ program, inputs, outputs }: Variant, given: NamedTensors, outputBytes: number): NamedTensors {
  const bytes = program.outputBytes.reduce((sum, length) => sum + length, 0);
  if (bytes > outputBytes) throw limitError('outputBytes', outputBytes, bytes);
  const bytesIn = inputs.map(({ name }) => {
    const tensor = given[name]!;
    return (tensor.buffer instanceof ArrayBuffer ? tensor : tensor.clone()).bytes();
  });
  const bytesOut = program.outputBytes.map(length => new Uint8Array(length));
  program.run(bytesIn, bytesOut);
  const results: Record<string, Tensor> = Object.create(null);
  outputs.forEach(({ name, dtype, shape }, i) => {
    results[name] = Tensor.fromBytes(dtype, shape, bytesOut[i]!);
  });
  return results;
}

function smallestDims(summary: ModelSummary): Dims {
  const dims: Record<string, number> = Object.create(null);
  for (const { shape } of summary.inputs) for (const dim of shape) for (const name of namesOf(dim)) dims[name] = 1;
  return dims;
}
