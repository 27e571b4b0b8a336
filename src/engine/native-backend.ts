/**
 * The native backend: plans a graph at the sizes it meets, and runs it as a program on the host's kernels.
 * @module
 */
import { CloisterError, isCloisterError } from '../base/index.ts';
import {
  bindSizes,
  type Constant,
  type ConstantReader,
  type Graph,
  graphDigest,
  inferFacts,
  type ValueId,
} from '../graph/index.ts';
import { DTYPES, elementCount, newArray, Tensor } from '../tensor/index.ts';
import type { Backend, Executable, ExecuteOptions, MemoryReport, NamedTensors, PrepareOptions } from './backend.ts';
import type { LoadedProgram, ProgramHost } from './kernel-host.ts';
import { refusal } from './lowering.ts';
import {
  analyse,
  type PlannedPort,
  type PlannedProgram,
  planProgram,
  refusals,
  throwUnsupported,
  tidy,
} from './plan.ts';
import type { PlanCache, PlanOrigin } from './plan-cache.ts';
import { checkInputs } from './reference.ts';

/** What {@link nativeBackend} may be told. */
export interface NativeBackendOptions {
  /**
   * How many programs an executable keeps, one for each set of sizes that it met; the longest unused is closed. Default
   * 4.
   */
  readonly programs?: number;
  /** Where plans are looked up before they are made. Programs from it are verified like all others. */
  readonly plans?: PlanCache;
}

/**
 * Returns the backend that runs whole graphs as verified programs on `host`. A graph with symbolic dimensions is
 * planned anew for each set of sizes, and the last few programs are kept; each keeps its own packed weights. A graph
 * whose sizes are all known is planned by `prepare`, so that everything that can be refused is refused there.
 *
 * `run` computes on another thread; an abort while it computes takes effect when it ends, and drops the result.
 * @example
 * ```ts
 * const source = bytesSource(await readFile('digits.onnx'));
 * const graph = parseOnnx(source);
 * const binding = loadBinding(); // undefined where there is no binary
 * const backend = binding ? nativeBackend(openProgramHost(binding)) : referenceBackend;
 * const model = backend.prepare(graph, { constants: source });
 * const { logits } = await model.run({ image: Tensor.zeros('f32', [2, 1, 28, 28]) });
 * logits?.shape; // [2, 10]
 * ```
 */
export function nativeBackend(host: ProgramHost, options: NativeBackendOptions = {}): Backend {
  const programs = Math.max(1, options.programs ?? 4);
  return Object.freeze({
    name: 'native',
    supports: (node, inputs, outputs) => refusal(node, inputs, outputs) === undefined,
    prepare(graph, prepare) {
      if (!isConcrete(graph, prepare)) {
        // What folds away only at known sizes is refused here all the same: better early than in the middle of the
        // work.
        const folded = tidy(graph, prepare.constants);
        const lines = refusals(folded, analyse(folded).nodes);
        if (lines.length > 0) throwUnsupported(lines);
      }
      return new NativeExecutable(host, graph, prepare, { programs, plans: options.plans });
    },
  } satisfies Backend);
}

/** A program that is loaded, and the shapes that it is for. */
interface Ready {
  readonly plan: PlannedProgram;
  readonly program: LoadedProgram;
}

/**
 * Operations up to which a run stays on the calling thread: some 50 microseconds at most. A thread that has to wake up costs as much, and
 * on an idle machine several times that.
 */
const INLINE_WORK = 2 ** 22;

class NativeExecutable implements Executable {
  readonly #host: ProgramHost;
  readonly #graph: Graph;
  readonly #options: PrepareOptions;
  readonly #limit: number;
  readonly #plans: PlanCache | undefined;
  readonly #ready = new Map<string, Ready>(); // the longest unused first
  readonly #bound: Graph; // at the sizes that were given in advance
  #latest: Ready | undefined;
  #closed = false;

  constructor(
    host: ProgramHost,
    graph: Graph,
    options: PrepareOptions,
    { programs, plans }: { readonly programs: number; readonly plans: PlanCache | undefined },
  ) {
    this.#host = host;
    this.#graph = graph;
    this.#options = options;
    this.#limit = programs;
    this.#plans = plans;
    this.#bound = inferFacts(graph, { dims: options.dims ?? {} });
    if (isConcrete(graph, options)) this.#load(options.dims ?? {}, '');
  }

  /** Of the program that ran last; zeros until sizes are known. */
  get memory(): MemoryReport {
    const none = { permanentBytes: 0, temporaryBytes: 0, scratchBytes: 0 };
    if (this.#closed || this.#latest === undefined) return none;
    const { permanentBytes, temporaryBytes, scratchBytes } = this.#latest.program.memory;
    return { permanentBytes, temporaryBytes, scratchBytes };
  }

  async run(inputs: NamedTensors, { signal }: ExecuteOptions = {}): Promise<NamedTensors> {
    throwIfAborted(signal);
    const ready = this.#find(inputs);
    if (ready.program.work <= INLINE_WORK) {
      const outputs = this.runSync(inputs);
      await undefined; // whoever aborts right after the call is heard, as on the long way
      throwIfAborted(signal);
      return outputs;
    }
    const outputs = ready.plan.outputs.map(allocate);
    await ready.program.runAsync(inputBytes(ready.plan, inputs), outputs.map(bytesOf));
    throwIfAborted(signal);
    return named(ready.plan, outputs);
  }

  runSync(inputs: NamedTensors): NamedTensors {
    const ready = this.#find(inputs);
    const outputs = ready.plan.outputs.map(allocate);
    ready.program.run(inputBytes(ready.plan, inputs), outputs.map(bytesOf));
    return named(ready.plan, outputs);
  }

  close(): void {
    this.#closed = true;
    this.#latest = undefined;
    for (const { program } of this.#ready.values()) program.close();
    this.#ready.clear();
  }

  /** The program for these inputs, once they are found to be those of the graph. */
  #find(inputs: NamedTensors): Ready {
    if (this.#closed) throw new CloisterError('CLOSED', `graph ${this.#graph.name}: the executable is closed`);
    const latest = this.#latest;
    if (latest !== undefined && fits(latest.plan.inputs, inputs)) return latest;
    const dims = bind(this.#bound, inputs, this.#options.dims ?? {});
    const key = JSON.stringify(Object.entries(dims).sort(([a], [b]) => (a < b ? -1 : 1)));
    const ready = this.#ready.get(key) ?? this.#load(dims, key);
    this.#ready.delete(key);
    this.#ready.set(key, ready);
    this.#latest = ready;
    return ready;
  }

  #load(dims: Readonly<Record<string, number>>, key: string): Ready {
    const { graph, reader, bytes } = compact(this.#graph, this.#options.constants);
    while (this.#ready.size >= this.#limit) {
      const [key, oldest] = this.#ready.entries().next().value!;
      oldest.program.close();
      this.#ready.delete(key);
      if (this.#latest === oldest) this.#latest = undefined;
    }
    const ready = this.#open(graph, reader, bytes, dims);
    this.#ready.set(key, ready);
    this.#latest = ready;
    return ready;
  }

  /** A program for these sizes: from the cache, if what is there is accepted, or planned now. */
  #open(graph: Graph, reader: ConstantReader, bytes: Uint8Array, dims: Readonly<Record<string, number>>): Ready {
    const { limitBytes = Number.MAX_SAFE_INTEGER, sourceDigest } = this.#options;
    const kernel = this.#host.info;
    const inFile = [...this.#graph.constants.values()].some(({ kind }) => kind === 'range');
    const plans = inFile && sourceDigest === undefined ? undefined : this.#plans;
    const origin: PlanOrigin | undefined = plans && {
      graph: graphDigest(this.#graph),
      source: sourceDigest ?? '',
      backend: { name: 'native', ...kernel },
      dims,
    };
    const known = origin && plans?.get(origin);
    if (known) {
      try {
        const program = this.#host.load(known.program, bytes, limitBytes);
        if (agrees(known, program, this.#bound, dims)) return { plan: known, program };
        program.close();
        plans?.delete(origin);
      } catch (error) {
        if (!isCloisterError(error, 'INVALID_PROGRAM')) throw error;
        plans?.delete(origin);
      }
    }
    const plan = planProgram(graph, { kernel, constants: reader, modelBytes: bytes.length, dims });
    const program = this.#host.load(plan.program, bytes, limitBytes);
    if (origin) plans?.set(origin, plan);
    return { plan, program };
  }
}

/** Whether a plan from elsewhere has the ports of this graph at these sizes, and its program their lengths. */
function agrees(
  plan: PlannedProgram,
  program: LoadedProgram,
  graph: Graph,
  dims: Readonly<Record<string, number>>,
): boolean {
  const { values, inputs, outputs } = inferFacts(graph, { dims: openDims(graph, dims) });
  const same = (ids: readonly ValueId[], ports: readonly PlannedPort[], bytes: readonly number[]): boolean =>
    ids.length === ports.length &&
    ids.every((id, i) => {
      const { name, facts } = values[id]!;
      const port = ports[i]!;
      const length = facts.shape.reduce<number>((size, dim) => size * Number(dim), DTYPES[facts.dtype].bytes);
      const described = port.name === name && port.dtype === facts.dtype && `${port.shape}` === `${facts.shape}`;
      return described && bytes[i] === length;
    });
  return same(inputs, plan.inputs, program.inputBytes) && same(outputs, plan.outputs, program.outputBytes);
}

/** The part of `dims` that the inputs of `graph` still have. */
function openDims(graph: Graph, dims: Readonly<Record<string, number>>): Readonly<Record<string, number>> {
  const open = new Set(graph.inputs.flatMap(id => graph.values[id]!.facts.shape));
  return Object.fromEntries(Object.entries(dims).filter(([name]) => open.has(name)));
}

/** Whether all sizes of the inputs are known before the first run. */
function isConcrete(graph: Graph, options: PrepareOptions): boolean {
  const dims = options.dims ?? {};
  return graph.inputs.every(id =>
    graph.values[id]!.facts.shape.every(dim => typeof dim === 'number' || Object.hasOwn(dims, dim)),
  );
}

/**
 * The `range` constants of `graph`, read and laid one behind another: the model file, without what is not needed of it.
 */
function compact(graph: Graph, reader: ConstantReader): { graph: Graph; reader: ConstantReader; bytes: Uint8Array } {
  const ranges = [...graph.constants.values()].filter(constant => constant.kind === 'range');
  const bytes = new Uint8Array(ranges.reduce((sum, { length }) => sum + length, 0));
  const constants = new Map<ValueId, Constant>();
  let at = 0;
  for (const [id, constant] of graph.constants) {
    if (constant.kind === 'inline') {
      constants.set(id, constant);
      continue;
    }
    bytes.set(reader.read(constant.offset, constant.length), at);
    constants.set(id, { kind: 'range', offset: at, length: constant.length });
    at += constant.length;
  }
  return {
    graph: { ...graph, constants },
    reader: { read: (offset, length) => bytes.subarray(offset, offset + length) },
    bytes,
  };
}

function fits(ports: readonly PlannedPort[], inputs: NamedTensors): boolean {
  let count = 0;
  for (const _ in inputs) count++;
  if (count !== ports.length) return false;
  for (const { name, dtype, shape } of ports) {
    const tensor = Object.hasOwn(inputs, name) ? inputs[name] : undefined;
    if (!(tensor instanceof Tensor) || tensor.dtype !== dtype || tensor.shape.length !== shape.length) return false;
    for (let i = 0; i < shape.length; i++) if (tensor.shape[i] !== shape[i]) return false;
  }
  return true;
}

/**
 * The size of every symbol, from the shapes of the inputs. @throws {CloisterError} when they are not those of the
 * graph.
 */
function bind(graph: Graph, inputs: NamedTensors, given: Readonly<Record<string, number>>): Record<string, number> {
  const pairs = [...checkInputs(graph, inputs)].map(([id, { shape }]) => ({
    declared: graph.values[id]!.facts.shape,
    actual: shape,
  }));
  return { ...given, ...bindSizes(pairs).sizes };
}

function allocate({ dtype, shape }: PlannedPort): Tensor {
  return Tensor.from(dtype, shape, newArray(dtype, elementCount(shape)));
}

function inputBytes(plan: PlannedProgram, inputs: NamedTensors): readonly Uint8Array[] {
  return plan.inputs.map(({ name }) => bytesOf(inputs[name]!));
}

/** The dense little-endian bytes of `tensor`: a view where it is dense over a buffer of its own, else a copy. */
function bytesOf(tensor: Tensor): Uint8Array {
  return (tensor.isContiguous && isPrivate(tensor) ? tensor : tensor.clone()).bytes();
}

function isPrivate(tensor: Tensor): boolean {
  return tensor.buffer instanceof ArrayBuffer;
}

function named(plan: PlannedProgram, outputs: readonly Tensor[]): NamedTensors {
  return Object.fromEntries(plan.outputs.map(({ name }, i) => [name, outputs[i]!]));
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new CloisterError('ABORTED', 'the run was aborted', {}, { cause: signal.reason });
}
