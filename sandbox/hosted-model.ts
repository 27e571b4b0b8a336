/**
 * A model inside the walls: the guest that parsed it, and the native program or the guest's own interpreter that runs it.
 * The same code serves in a worker process and in the calling process.
 * @module
 */

import type { NativeProgram, NativeProgramHost } from '../native/index.ts';
import { CloisterError, type ErrorCode, isCloisterError } from '../src/base/index.ts';
import type { NamedTensors } from '../src/engine/index.ts';
import { DTYPES, Tensor } from '../src/tensor/index.ts';
import { bindInputs, type Dims, dimsKey } from './binding.ts';
import type { GuestAnswer } from './isolate.ts';
import type { Kernels } from './kernels.ts';
import { limitError } from './limit-error.ts';
import { MAX_SHOWN_BYTES, parseShown, type ShownForm } from './shown.ts';
import { joinParts, packTensors, type TensorHead, unpackTensors } from './tensors.ts';
import {
  isRecord,
  isSafeName,
  type ModelReport,
  type ModelSummary,
  parseReport,
  parseSummary,
  refuseGuest,
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
  readonly kernels: Kernels;
  /** The model file. The guest is lent the same bytes. */
  readonly model: Uint8Array;
  /** The most bytes of one program's arenas. */
  readonly limitBytes: number;
}

/** One set of sizes made ready. */
interface Variant {
  readonly program: NativeProgram;
  readonly inputs: readonly TensorHead[];
  readonly outputs: readonly TensorHead[];
}

/** A model that was parsed by a guest and prepared for one backend. */
export class HostedModel {
  readonly report: ModelReport;
  readonly #options: HostOptions;
  readonly #variants = new Map<string, Variant>();
  /** Sizes that are being planned, until they are ready or have failed. */
  readonly #planning = new Map<string, Promise<unknown>>();
  #closed = false;
  /** Set once a native model met sizes that only the guest's interpreter runs. */
  #prepared: Promise<GuestAnswer> | undefined;

  private constructor(options: HostOptions, report: ModelReport, first: Variant | undefined, dims: Dims) {
    this.#options = options;
    this.report = report;
    if (first !== undefined) this.#variants.set(dimsKey(dims), first);
  }

  /**
   * Lets the guest parse the model, plans it for native kernels where there are some and they can run it, and prepares the
   * guest's interpreter otherwise. A plan for every symbolic dimension at 1 decides which.
   *
   * @throws {CloisterError} `INVALID_MODEL`, `MODEL_TOO_LARGE`, `UNSUPPORTED_MODEL`, `OUT_OF_MEMORY`, `GUEST_FAILED`.
   */
  static async open(options: HostOptions): Promise<HostedModel> {
    const { header } = await options.call('load', { bytes: options.model.length });
    const summary = parseSummary(header['summary']);
    if (summary.bytes !== options.model.length)
      throw refuseGuest('summary.bytes', `${options.model.length}`, summary.bytes);
    const dims = smallestDims(summary);
    const { host, why } = options.kernels;
    if (host === undefined) return HostedModel.#interpreted(options, summary, why);
    const planned = await plan(options, host, summary, dims).catch(error => {
      // A model may have no meaning where every open size is 1; then the first run plans.
      const open = Object.keys(dims).length > 0 && isCloisterError(error) && OF_THESE_SIZES.has(error.code);
      if (open) return undefined;
      throw error;
    });
    if (planned?.kind === 'reference') return HostedModel.#interpreted(options, summary, planned.why);
    const memory = planned?.variant.program.memory ?? { permanentBytes: 0, temporaryBytes: 0, scratchBytes: 0 };
    const report = parseReport({ summary, backend: 'native', why, memory });
    return new HostedModel(options, report, planned?.variant, dims);
  }

  static async #interpreted(options: HostOptions, summary: ModelSummary, why: string): Promise<HostedModel> {
    const { header } = await options.call('prepare', { limitBytes: options.limitBytes });
    const report = parseReport({ summary, backend: 'reference', why, memory: header['memory'] });
    return new HostedModel(options, report, undefined, {});
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
    const planning = plan(this.#options, this.#options.kernels.host!, this.report.summary, dims);
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
): Promise<Planned> {
  let answer: GuestAnswer;
  try {
    answer = await options.call('plan', { kernels: host.info, dims, limitBytes: options.limitBytes });
  } catch (error) {
    if (!isCloisterError(error, 'UNSUPPORTED_MODEL')) throw error;
    return { kind: 'reference', why: error.message.slice(0, 1_000) };
  }
  const inputs = ports(
    answer.header['inputs'],
    summary.inputs.map(({ name }) => name),
    'plan.inputs',
  );
  const outputs = ports(
    answer.header['outputs'],
    summary.outputs.map(({ name }) => name),
    'plan.outputs',
  );
  const program = host.load(answer.payload, options.model, options.limitBytes);
  if (!fits(inputs, program.inputBytes) || !fits(outputs, program.outputBytes)) {
    program.close();
    throw refuseGuest('plan', 'ports of the sizes that the program has', 'others');
  }
  return { kind: 'native', variant: { program, inputs, outputs } };
}

/** Checks that the ports of a program are the model's, each once, and says how large each is. */
function ports(value: unknown, names: readonly string[], where: string): readonly TensorHead[] {
  if (!Array.isArray(value) || value.length !== names.length) throw refuseGuest(where, `${names.length} ports`, value);
  const seen = new Set<string>();
  return value.map((port: unknown) => {
    if (!isRecord(port)) throw refuseGuest(where, 'a port', port);
    const { name, dtype, shape } = port;
    if (!isSafeName(name) || !names.includes(name) || seen.has(name))
      throw refuseGuest(where, 'a port of the model', name);
    seen.add(name);
    if (typeof dtype !== 'string' || !Object.hasOwn(DTYPES, dtype)) throw refuseGuest(where, 'a dtype', dtype);
    const good = Array.isArray(shape) && shape.every(dim => Number.isSafeInteger(dim) && dim >= 0);
    if (!good) throw refuseGuest(where, 'a shape', shape);
    return { name, dtype, shape } as TensorHead;
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
  for (const { shape } of summary.inputs) for (const dim of shape) if (typeof dim === 'string') dims[dim] = 1;
  return dims;
}
