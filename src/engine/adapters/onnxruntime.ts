/**
 * An adapter over onnxruntime-node: its sessions as a backend.
 * @module
 */
import { CloisterError } from '../../base/index.ts';
import { type Constant, type ConstantReader, findVersion, type Graph, isGraph, OPERATORS } from '../../graph/index.ts';
import { fromTensor, MEMORY_TYPES, Tensor, toTensor } from '../../tensor/index.ts';
import {
  type Backend,
  type Executable,
  type ExecuteOptions,
  type MemoryReport,
  type NamedTensors,
  NO_MEMORY,
  type PrepareOptions,
} from '../backend.ts';
import { checkInputs } from '../reference.ts';

/** What is used of the module `onnxruntime-node`. */
export interface OnnxRuntimeModule {
  readonly InferenceSession: {
    create(model: Uint8Array, options: Readonly<Record<string, unknown>>): Promise<OnnxRuntimeSession>;
  };
  readonly Tensor: new (type: string, data: unknown, dims: readonly number[]) => OnnxRuntimeTensor;
}

/** A session of onnxruntime. */
export interface OnnxRuntimeSession {
  run(feeds: Readonly<Record<string, OnnxRuntimeTensor>>): Promise<Readonly<Record<string, OnnxRuntimeTensor>>>;
  release(): Promise<void>;
}

/** A tensor of onnxruntime. */
export interface OnnxRuntimeTensor {
  readonly type: string;
  readonly data: unknown;
  readonly dims: readonly number[];
}

/** What {@link onnxRuntimeBackend} is told. */
export interface OnnxRuntimeOptions {
  /** Writes a graph whose constants are inline as an ONNX file: `writeOnnx` of `cloister/formats`. */
  readonly encode: (graph: Graph) => Uint8Array;
  /** Threads of each session. Default 1. */
  readonly threads?: number;
}

/**
 * Returns a backend over `ort`, which is what `import('onnxruntime-node')` gives. It answers asynchronously only: `runSync` and `runInto`
 * throw `UNSUPPORTED_MODEL`. A session is made in the background; what onnxruntime refuses, the first run throws as `UNSUPPORTED_MODEL`.
 * It is native code that parses the model in this process, so it is for models that are trusted.
 */
export function onnxRuntimeBackend(ort: OnnxRuntimeModule, options: OnnxRuntimeOptions): Backend {
  return Object.freeze({
    name: 'onnxruntime',
    isAsync: true,
    supports: (node, inputs, outputs) =>
      DOMAINS.has(node.domain) &&
      findVersion(OPERATORS, node) !== undefined &&
      [...inputs, ...outputs].every(facts => facts === undefined || Object.hasOwn(MEMORY.dtypes, facts.dtype)) &&
      !Object.values(node.attributes).some(isGraph),
    prepare: (graph, prepare) => new Session(ort, graph, prepare, options),
  } satisfies Backend);
}

const DOMAINS: ReadonlySet<string> = new Set(['', 'ai.onnx.ml', 'com.microsoft']);

/** How onnxruntime holds tensors. */
const MEMORY = MEMORY_TYPES.find(({ name }) => name === 'onnxruntime')!;

class Session implements Executable {
  readonly memory: MemoryReport = NO_MEMORY;
  readonly #ort: OnnxRuntimeModule;
  readonly #graph: Graph;
  readonly #session: Promise<OnnxRuntimeSession>;
  #closed = false;

  constructor(
    ort: OnnxRuntimeModule,
    graph: Graph,
    prepare: PrepareOptions,
    { encode, threads = 1 }: OnnxRuntimeOptions,
  ) {
    this.#ort = ort;
    this.#graph = graph;
    this.#session = ort.InferenceSession.create(encode(inlined(graph, prepare.constants)), {
      executionProviders: ['cpu'],
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      logSeverityLevel: 3,
    });
    this.#session.catch(() => {}); // told by the first run
  }

  async run(inputs: NamedTensors, { signal }: ExecuteOptions = {}): Promise<NamedTensors> {
    if (this.#closed) throw new CloisterError('CLOSED', `graph ${this.#graph.name}: the executable is closed`);
    throwIfAborted(signal);
    const given = checkInputs(this.#graph, inputs);
    const { values } = this.#graph;
    const feeds = Object.fromEntries(
      [...given].map(([id, tensor]) => [
        values[id]!.name,
        fromTensor(tensor, MEMORY.name, this.#ort) as OnnxRuntimeTensor,
      ]),
    );
    let results: Readonly<Record<string, OnnxRuntimeTensor>>;
    try {
      results = await (await this.#session).run(feeds);
    } catch (cause) {
      const message = `onnxruntime does not run this graph: ${String(cause).slice(0, 400)}`;
      throw new CloisterError('UNSUPPORTED_MODEL', message, {}, { cause });
    }
    throwIfAborted(signal);
    return Object.fromEntries(
      this.#graph.outputs.map(id => {
        const { name, facts } = values[id]!;
        return [name, toTensor(results[name], { dtype: facts.dtype })];
      }),
    );
  }

  runSync(): never {
    throw new CloisterError('UNSUPPORTED_MODEL', 'onnxruntime answers asynchronously only: use run');
  }

  runInto(): never {
    this.runSync();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#session.then(session => session.release()).catch(() => {});
  }
}

/** `graph` with every constant in it. */
function inlined(graph: Graph, reader: ConstantReader): Graph {
  const constants = new Map<number, Constant>();
  for (const [id, constant] of graph.constants) {
    const { dtype, shape } = graph.values[id]!.facts;
    constants.set(
      id,
      constant.kind === 'inline'
        ? constant
        : {
            kind: 'inline',
            tensor: Tensor.fromBytes(dtype, shape as readonly number[], reader.read(constant.offset, constant.length)),
          },
    );
  }
  return { ...graph, constants };
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new CloisterError('ABORTED', 'the run was aborted', {}, { cause: signal.reason });
}
