/**
 * The mixed backend: each node of a graph on the backend that is best for it.
 * @module
 */
import { CloisterError, isCloisterError } from '../base/index.ts';
import { bindSizes, type Graph, inferFacts, type ValueId } from '../graph/index.ts';
import type { Tensor } from '../tensor/index.ts';
import { assignNodes, type CostTable, cutSegments, type NodeChoice, type Segment } from './assignment.ts';
import type { Backend, Executable, ExecuteOptions, MemoryReport, NamedTensors, PrepareOptions } from './backend.ts';
import { fillOutputs } from './outputs.ts';
import { tidy } from './plan.ts';
import { checkInputs, loadConstant } from './reference.ts';

/** What {@link mixedBackend} may be told. */
export interface MixedBackendOptions {
  /** What nodes cost where, from {@link measureCosts}. Without it every node goes to the first backend that runs it. */
  readonly costs?: CostTable;
}

/** The backend that {@link mixedBackend} returns. */
export interface MixedBackend extends Omit<Backend, 'prepare'> {
  /** @throws {CloisterError} As {@link Backend.prepare}, where no backend runs a node. */
  prepare(graph: Graph, options: PrepareOptions): MixedExecutable;
}

/** A graph made ready on several backends. */
export interface MixedExecutable extends Executable {
  /** The choice for each node, once the sizes of the graph are known. */
  readonly choices: readonly NodeChoice[];
}

/**
 * Returns a backend that cuts a graph into segments and runs each on one of `backends`, the best first. The last one should run every
 * operator. Values cross between backends as tensors. Where one of them answers asynchronously only, so does the whole: `runSync` then
 * throws `UNSUPPORTED_MODEL`.
 * @example
 * ```ts
 * const source = bytesSource(await readFile('digits.onnx'));
 * const binding = loadBinding();
 * const native = binding ? [nativeBackend(openProgramHost(binding))] : [];
 * const model = mixedBackend([...native, referenceBackend]).prepare(parseOnnx(source), { constants: source });
 * const { logits } = await model.run({ image: Tensor.zeros('f32', [2, 1, 28, 28]) });
 * logits?.shape; // [2, 10]
 * ```
 */
export function mixedBackend(backends: readonly Backend[], options: MixedBackendOptions = {}): MixedBackend {
  return Object.freeze({
    name: 'mixed',
    supports: (...what: Parameters<Backend['supports']>) => backends.some(backend => backend.supports(...what)),
    prepare: (graph: Graph, prepare: PrepareOptions) => new Mixed(graph, backends, options.costs, prepare),
  });
}

/** A segment that is ready to run. */
interface Part {
  readonly executable: Executable;
  readonly graph: Graph;
  /** Values that no later part needs. */
  readonly release: readonly ValueId[];
}

interface Ready {
  readonly graph: Graph;
  readonly choices: readonly NodeChoice[];
  readonly parts: readonly Part[];
}

/** Where the nodes of a segment run instead, and why. */
type Refused = Pick<NodeChoice, 'backend' | 'reason'>;

/** Sets of sizes that are kept ready. */
const MOST_READY = 4;

class Mixed implements MixedExecutable {
  readonly #graph: Graph;
  readonly #backends: readonly Backend[];
  readonly #costs: CostTable | undefined;
  readonly #options: PrepareOptions;
  readonly #ready = new Map<string, Ready>();
  #latest: Ready | undefined;
  #closed = false;

  constructor(graph: Graph, backends: readonly Backend[], costs: CostTable | undefined, options: PrepareOptions) {
    this.#graph = inferFacts(graph, { dims: options.dims ?? {} });
    this.#backends = backends;
    this.#costs = costs;
    this.#options = options;
    const isConcrete = this.#graph.inputs.every(id =>
      this.#graph.values[id]!.facts.shape.every(dim => typeof dim === 'number'),
    );
    if (isConcrete) this.#load({});
  }

  get choices(): readonly NodeChoice[] {
    return this.#latest?.choices ?? [];
  }

  get memory(): MemoryReport {
    const reports = (this.#latest?.parts ?? []).map(({ executable }) => executable.memory);
    const total = (key: keyof MemoryReport): number => reports.reduce((sum, report) => sum + report[key], 0);
    const most = (key: keyof MemoryReport): number => Math.max(0, ...reports.map(report => report[key]));
    return {
      permanentBytes: total('permanentBytes'),
      temporaryBytes: most('temporaryBytes'),
      scratchBytes: most('scratchBytes'),
      portBytes: most('portBytes'),
      blockBytes: total('blockBytes'),
    };
  }

  async run(inputs: NamedTensors, options: ExecuteOptions = {}): Promise<NamedTensors> {
    const walk = this.#walk(inputs);
    const counted = { ...options, ...this.#counting(options.onNode) };
    let results: NamedTensors | undefined;
    for (;;) {
      const { done, value } = results === undefined ? walk.next() : walk.next(results);
      if (done) return value;
      results = await value.executable.run(value.inputs, counted);
    }
  }

  runSync(inputs: NamedTensors, options: Pick<ExecuteOptions, 'onNode'> = {}): NamedTensors {
    const walk = this.#walk(inputs);
    const counted = this.#counting(options.onNode);
    let results: NamedTensors | undefined;
    for (;;) {
      const { done, value } = results === undefined ? walk.next() : walk.next(results);
      if (done) return value;
      results = value.executable.runSync(value.inputs, counted);
    }
  }

  runInto(inputs: NamedTensors, outputs: NamedTensors): void {
    fillOutputs(this.runSync(inputs), outputs);
  }

  close(): void {
    this.#closed = true;
    for (const ready of this.#ready.values()) closeParts(ready.parts);
    this.#ready.clear();
    this.#latest = undefined;
  }

  /** Counts the nodes of all parts as those of one run. */
  #counting(onNode: ExecuteOptions['onNode']): Pick<ExecuteOptions, 'onNode'> {
    if (onNode === undefined) return {};
    let started = 0;
    return {
      onNode: event => {
        if (event.kind === 'start') started++;
        onNode({ ...event, index: started - 1, total: this.choices.length });
      },
    };
  }

  /** Yields each part with what it takes; is given what it computed. */
  *#walk(
    inputs: NamedTensors,
  ): Generator<{ readonly executable: Executable; readonly inputs: NamedTensors }, NamedTensors, NamedTensors> {
    const ready = this.#find(inputs);
    const { values } = ready.graph;
    const tensors = new Map<ValueId, Tensor>();
    for (const id of ready.graph.inputs) tensors.set(id, inputs[values[id]!.name]!);
    for (const { executable, graph, release } of ready.parts) {
      const given = graph.inputs.map(id => [values[id]!.name, tensors.get(id)!] as const);
      const results: NamedTensors = yield { executable, inputs: Object.fromEntries(given) };
      for (const id of graph.outputs) tensors.set(id, results[values[id]!.name]!);
      for (const id of release) tensors.delete(id);
    }
    return this.#outputs(ready.graph, tensors);
  }

  /** The graph's outputs as tensors of their own. */
  #outputs(graph: Graph, tensors: ReadonlyMap<ValueId, Tensor>): NamedTensors {
    const taken = new Set<ValueId>(graph.inputs);
    return Object.fromEntries(
      graph.outputs.map(id => {
        const tensor = tensors.get(id) ?? loadConstant(graph, id, this.#options.constants);
        const own = taken.has(id) || graph.constants.has(id) ? tensor.clone() : tensor;
        taken.add(id);
        return [graph.values[id]!.name, own];
      }),
    );
  }

  #find(inputs: NamedTensors): Ready {
    if (this.#closed) throw new CloisterError('CLOSED', `graph ${this.#graph.name}: the executable is closed`);
    const pairs = [...checkInputs(this.#graph, inputs)].map(([id, { shape }]) => ({
      declared: this.#graph.values[id]!.facts.shape,
      actual: shape,
    }));
    return this.#load(bindSizes(pairs).sizes);
  }

  #load(sizes: Readonly<Record<string, number>>): Ready {
    const key = JSON.stringify(Object.entries(sizes).sort(([a], [b]) => (a < b ? -1 : 1)));
    let ready = this.#ready.get(key);
    this.#ready.delete(key);
    ready ??= this.#prepare(sizes);
    this.#ready.set(key, ready);
    for (const [old, { parts }] of this.#ready) {
      if (this.#ready.size <= MOST_READY) break;
      closeParts(parts);
      this.#ready.delete(old);
    }
    this.#latest = ready;
    return ready;
  }

  /** A segment on its backend; or, where that refuses it only when it plans, on the last one, which should run everything. */
  #open(
    { backend, graph }: Segment,
    options: PrepareOptions,
  ): { readonly executable: Executable; readonly refused?: Refused } {
    try {
      return { executable: backend.prepare(graph, options) };
    } catch (error) {
      const last = this.#backends.at(-1)!;
      const isRefusal = isCloisterError(error, 'UNSUPPORTED_MODEL') || isCloisterError(error, 'MODEL_TOO_LARGE');
      if (!isRefusal || backend === last) throw error;
      return { executable: last.prepare(graph, options), refused: { backend: last, reason: error.message } };
    }
  }

  #prepare(sizes: Readonly<Record<string, number>>): Ready {
    const graph = tidy(this.#graph, this.#options.constants, sizes);
    let choices = assignNodes(graph, this.#backends, this.#costs);
    const segments = cutSegments(graph, choices);
    const { dims: _, sourceDigest: __, ...options } = this.#options;
    const parts: Part[] = [];
    try {
      const kept = new Set<ValueId>(graph.outputs);
      for (const segment of segments.toReversed()) {
        const release = [...segment.graph.inputs, ...segment.graph.outputs].filter(id => !kept.has(id));
        for (const id of segment.graph.inputs) kept.add(id);
        const { executable, refused } = this.#open(segment, options);
        if (refused !== undefined) choices = choices.map(choice => movedTo(choice, segment, refused));
        parts.unshift({ executable, graph: segment.graph, release });
      }
    } catch (error) {
      closeParts(parts);
      throw error;
    }
    return { graph, choices, parts };
  }
}

function movedTo(choice: NodeChoice, segment: Segment, refused: Refused): NodeChoice {
  return segment.graph.nodes.includes(choice.node) ? { ...choice, ...refused } : choice;
}

function closeParts(parts: readonly Part[]): void {
  for (const { executable } of parts) executable.close();
}
