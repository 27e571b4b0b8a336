/**
 * Our side of the engine benches: a model made ready on a backend, in the clear.
 * @module
 */
import { loadBinding, openModelFile, openProgramHost, threadInfo } from '../native/index.ts';
import {
  type Backend,
  type Executable,
  type NamedTensors,
  nativeBackend,
  planArena,
  referenceBackend,
} from '../src/engine/index.ts';
import { bytesSource, parseOnnx, writeOnnx } from '../src/formats/index.ts';
import { bindSizes, type ConstantReader, type Graph, inferFacts, optimise } from '../src/graph/index.ts';

/** Of a graph whose constants are all inline. */
const NO_BYTES = new Uint8Array(0);

/** A prepared graph that `using` closes. */
export type Ready = Executable & Disposable;

/** The graph of a model file. */
export function parseModel(bytes: Uint8Array): Graph {
  return parseOnnx(bytesSource(bytes));
}

/** The bytes of an ONNX file of `graph`, whose constants are all inline. */
export function toOnnx(graph: Graph): Uint8Array {
  return writeOnnx(graph);
}

/** How a prepared graph may compute. */
export interface ReadyOptions {
  /** Threads of one call; 1 where left out, and never more than {@link threadsOnOffer}. */
  readonly threads?: number;
}

/** How many threads the native backend can compute one call on. */
export function threadsOnOffer(): number {
  return threadInfo()?.limit ?? 1;
}

/** `graph` on the native backend, or on the reference backend where there is no binary. `bytes`: the file it came from. */
export function openNative(graph: Graph, bytes: Uint8Array = NO_BYTES, { threads = 1 }: ReadyOptions = {}): Ready {
  if (threads > threadsOnOffer()) throw new Error(`the native backend has no ${threads} threads`);
  const binding = loadBinding();
  return prepare(
    binding === undefined ? referenceBackend : nativeBackend(openProgramHost(binding, { threads })),
    graph,
    bytesSource(bytes),
  );
}

/** The model in the file at `path` on the native backend, as its owner would load it: read in pieces, never held. */
export function openFile(path: string): Ready {
  const file = openModelFile(path);
  const binding = loadBinding();
  const backend = binding === undefined ? referenceBackend : nativeBackend(openProgramHost(binding, { threads: 1 }));
  const ready = prepare(backend, parseOnnx(file), file);
  const close = (): void => {
    ready.close();
    file.close();
  };
  return {
    ...ready,
    get memory() {
      return ready.memory;
    },
    close,
    [Symbol.dispose]: close,
  };
}

/** What no way of running a model can do without. */
export interface ModelNeeds {
  /** Its constants, as they are in the file. */
  readonly weightBytes: number;
  /** Its activations, at the offsets that the planner finds for the optimised graph. */
  readonly arenaBytes: number;
}

/** The needs of the model in `bytes` when it is given `inputs`. */
export function needsOf(bytes: Uint8Array, inputs: NamedTensors): ModelNeeds {
  const graph = parseModel(bytes);
  const constants = bytesSource(bytes);
  const weightBytes = [...graph.constants.values()].reduce(
    (sum, constant) => sum + (constant.kind === 'range' ? constant.length : constant.tensor.bytes().length),
    0,
  );
  const pairs = graph.inputs
    .map(id => graph.values[id]!)
    .filter(({ name }) => inputs[name] !== undefined)
    .map(({ name, facts }) => ({ declared: facts.shape, actual: inputs[name]!.shape }));
  const { graph: small } = optimise(graph, { constants });
  const { peakBytes } = planArena(inferFacts(small, { dims: bindSizes(pairs).sizes }));
  return { weightBytes, arenaBytes: peakBytes };
}

/** `graph` on the reference backend. */
export function openReference(graph: Graph, bytes: Uint8Array = NO_BYTES): Ready {
  return prepare(referenceBackend, graph, bytesSource(bytes));
}

function prepare(backend: Backend, graph: Graph, constants: ConstantReader): Ready {
  const executable = backend.prepare(graph, { constants });
  return {
    get memory() {
      return executable.memory;
    },
    run: (inputs, signal) => executable.run(inputs, signal),
    runSync: inputs => executable.runSync(inputs),
    runInto: (inputs, outputs) => executable.runInto(inputs, outputs),
    close: () => executable.close(),
    [Symbol.dispose]: () => executable.close(),
  };
}
