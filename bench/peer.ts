/**
 * The rival of the engine: onnxruntime-node, installed apart in `bench/peers`.
 * @module
 */
import { createRequire } from 'node:module';

/** The command that installs the rival. The variable keeps its install script from downloading CUDA libraries. */
export const INSTALL_PEERS = 'ONNXRUNTIME_NODE_INSTALL=skip npm i --prefix bench/peers';

/** What a bench uses of onnxruntime-node. */
export interface OnnxRuntime {
  /** `onnxruntime-node 1.30.0` */
  readonly name: string;
  /** A session on the CPU with one thread: intra-op 1, inter-op 1, sequential; optimised as is its default. */
  open(model: Uint8Array): Promise<OnnxSession>;
  tensor(data: Float32Array, shape: readonly number[]): unknown;
}

/** A loaded model. */
export interface OnnxSession {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  run(feeds: Readonly<Record<string, unknown>>): Promise<Readonly<Record<string, { readonly data: Float32Array }>>>;
  release(): Promise<void>;
}

interface Module {
  InferenceSession: { create(model: Uint8Array, options: object): Promise<OnnxSession> };
  Tensor: new (type: 'float32', data: Float32Array, shape: readonly number[]) => unknown;
}

/** Returns the rival, or `undefined` when it is not installed. */
export function loadOnnxRuntime(): OnnxRuntime | undefined {
  const require = createRequire(new URL('peers/package.json', import.meta.url));
  let ort: Module;
  let version: string;
  try {
    ort = require('onnxruntime-node') as Module;
    version = (require('onnxruntime-node/package.json') as { version: string }).version;
  } catch {
    return undefined;
  }
  return {
    name: `onnxruntime-node ${version}`,
    open: model =>
      ort.InferenceSession.create(model, {
        executionProviders: ['cpu'],
        intraOpNumThreads: 1,
        interOpNumThreads: 1,
        executionMode: 'sequential',
        logSeverityLevel: 3,
      }),
    tensor: (data, shape) => new ort.Tensor('float32', data, shape),
  };
}
