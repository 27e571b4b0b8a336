/**
 * The native backend: plans a graph at the sizes it meets, and runs it as a program on the host's kernels.
 * @module
 */
import { CloisterError, isCloisterError } from '../base/index.ts';
import { bindSizes, type Graph, graphDigest, inferFacts, type ValueId } from '../graph/index.ts';
import { DTYPES, Tensor } from '../tensor/index.ts';
import { type AppendedConstants, appendConstants } from './appended-constants.ts';
import {
  type Backend,
  type Executable,
  type ExecuteOptions,
  type MemoryReport,
  type NamedTensors,
  NO_MEMORY,
  type PrepareOptions,
} from './backend.ts';
import type { LoadedProgram, ProgramHost } from './kernel-host.ts';
import { refusal } from './lowering/index.ts';
import { checkOutputs } from './outputs.ts';
import {
  analyse,
  nativeForm,
  nodeRefusals,
  type PlannedPort,
  type PlannedProgram,
  planProgram,
  refusals,
  throwUnsupported,
} from './plan.ts';
import type { PlanCache, PlanOrigin } from './plan-cache.ts';
import { checkInputs } from './reference.ts';
import { selfTest } from './self-test/self-test.ts';

/** What {@link nativeBackend} may be told. */
export interface NativeBackendOptions {
  /**
   * How many programs an executable keeps, one for each set of sizes that it met; the longest unused is closed. Default
   * 4.
   */
  readonly programs?: number;
  /**
   * Compares every kernel with the reference backend on random sizes first, which takes about a second; `nativeBackend` then throws
   * `KERNEL_MISMATCH` where one differs. See {@link selfTest}.
   */
  readonly selfTest?: boolean;
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
  const backend: Backend = Object.freeze({
    name: 'native',
    supports: (node, inputs, outputs) => refusal(node, inputs, outputs) === undefined,
    refusals: nodeRefusals,
    prepare(graph, prepare) {
      if (!isConcrete(graph, prepare)) {
        // What folds away only at known sizes is refused here all the same: better early than in the middle of the
        // work.
        const folded = nativeForm(graph, prepare.constants);
        const lines = refusals(folded, analyse(folded).nodes);
        if (lines.length > 0) throwUnsupported(lines);
      }
      return new NativeExecutable(host, graph, prepare, { programs, plans: options.plans });
    },
  } satisfies Backend);
  if (options.selfTest === true) assertSelfTest(backend, host);
  return backend;
}

function assertSelfTest(backend: Backend, host: ProgramHost): void {
  const { failures, checked } = selfTest(backend);
  const [first] = failures;
  if (first === undefined) return;
  const message = `row ${host.info.isa}: ${failures.length} of ${checked} cases differ from the reference; ${first.operator} on ${first.inputs.join(', ')}: ${first.why}; set CLOISTER_ISA to another row, or CLOISTER_NATIVE=off`;
  throw new CloisterError('KERNEL_MISMATCH', message, { isa: host.info.isa, operator: first.operator });
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
  readonly #planned: AppendedConstants; // what is planned and loaded
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
    this.#planned = appendConstants(graph, options.constants);
    this.#options = options;
    this.#limit = programs;
    this.#plans = plans;
    this.#bound = inferFacts(graph, { dims: options.dims ?? {} });
    if (isConcrete(graph, options)) this.#load(options.dims ?? {}, '');
  }

  /** Of the program that ran last; zeros until sizes are known. */
  get memory(): MemoryReport {
    if (this.#closed || this.#latest === undefined) return NO_MEMORY;
    const { permanentBytes, temporaryBytes, scratchBytes, portBytes, blockBytes } = this.#latest.program.memory;
    return { permanentBytes, temporaryBytes, scratchBytes, portBytes, blockBytes };
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
    await ready.program.runAsync(inputElements(ready.plan, inputs), outputs.map(elementsOf));
    throwIfAborted(signal);
    return named(ready.plan, outputs);
  }

  runSync(inputs: NamedTensors): NamedTensors {
    const ready = this.#find(inputs);
    const outputs = ready.plan.outputs.map(allocate);
    ready.program.run(inputElements(ready.plan, inputs), outputs.map(elementsOf));
    return named(ready.plan, outputs);
  }

  runInto(inputs: NamedTensors, outputs: NamedTensors): void {
    const ready = this.#find(inputs);
    checkOutputs(ready.plan.outputs, outputs);
    ready.program.run(
      inputElements(ready.plan, inputs),
      ready.plan.outputs.map(({ name }) => outputs[name]!.elements() as ArrayBufferView),
    );
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
    while (this.#ready.size >= this.#limit) this.#drop(this.#ready.keys().next().value!);
    let ready: Ready;
    try {
      ready = this.#open(dims);
    } catch (error) {
      // What other sizes hold is a cache: it is given up before a load fails for want of memory.
      if (!isCloisterError(error, 'OUT_OF_MEMORY') || this.#ready.size === 0) throw error;
      for (const other of [...this.#ready.keys()]) this.#drop(other);
      ready = this.#open(dims);
    }
    this.#ready.set(key, ready);
    this.#latest = ready;
    return ready;
  }

  #drop(key: string): void {
    const ready = this.#ready.get(key)!;
    ready.program.close();
    this.#ready.delete(key);
    if (this.#latest === ready) this.#latest = undefined;
  }

  /** A program for these sizes: from the cache, if what is there is accepted, or planned now. */
  #open(dims: Readonly<Record<string, number>>): Ready {
    const { limitBytes = Number.MAX_SAFE_INTEGER, sourceDigest } = this.#options;
    const { graph, model } = this.#planned;
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
        const program = this.#host.load(known.program, model, limitBytes);
        if (agrees(known, program, this.#bound, dims)) return { plan: known, program };
        program.close();
        plans?.delete(origin);
      } catch (error) {
        if (!isCloisterError(error, 'INVALID_PROGRAM')) throw error;
        plans?.delete(origin);
      }
    }
    const plan = planProgram(graph, { kernel, constants: model, modelBytes: model.size, dims });
    const program = this.#host.load(plan.program, model, limitBytes);
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
  return Tensor.zeros(dtype, shape);
}

function inputElements(plan: PlannedProgram, inputs: NamedTensors): readonly ArrayBufferView[] {
  const list: ArrayBufferView[] = [];
  for (const { name } of plan.inputs) list.push(elementsOf(inputs[name]!));
  return list;
}

/** The elements of `tensor` in order, as the kernels take them: where it is dense over a buffer of its own they are its own. */
function elementsOf(tensor: Tensor): ArrayBufferView {
  return (tensor.isContiguous && isPrivate(tensor) ? tensor : tensor.clone()).elements() as ArrayBufferView;
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
