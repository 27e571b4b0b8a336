/**
 * The rival of the engine: onnxruntime-node, installed apart in `bench/peers`.
 * @module
 */
import { createRequire } from 'node:module';
import type { BufferDType, Tensor } from '../src/tensor/index.ts';

/** The command that installs the rival. The variable keeps its install script from downloading CUDA libraries. */
export const INSTALL_PEERS = 'ONNXRUNTIME_NODE_INSTALL=skip npm i --prefix bench/peers';

/** What a bench uses of onnxruntime-node. */
export interface OnnxRuntime {
  /** `onnxruntime-node 1.30.0` */
  readonly name: string;
  /**
   * A session on the CPU: intra-op `threads` (1 where left out), inter-op 1, sequential; with all graph optimisations, as is its
   * default. `model`: the bytes of a file, or where it is.
   */
  open(model: Uint8Array | string, threads?: number): Promise<OnnxSession>;
  tensor(data: Float32Array, shape: readonly number[]): unknown;
  /** The same elements as one of its tensors. */
  fromTensor(tensor: Tensor): unknown;
}

/** One of its tensors, as far as a bench reads it. */
export interface OnnxTensor {
  readonly data: Float32Array;
  readonly dims: readonly number[];
}

/** A loaded model. */
export interface OnnxSession {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  run(feeds: Readonly<Record<string, unknown>>): Promise<Readonly<Record<string, OnnxTensor>>>;
  release(): Promise<void>;
}

interface Module {
  InferenceSession: { create(model: Uint8Array | string, options: object): Promise<OnnxSession> };
  Tensor: new (type: string, data: unknown, shape: readonly number[]) => unknown;
}

const TYPES: Readonly<Partial<Record<BufferDType, string>>> = {
  f32: 'float32',
  f64: 'float64',
  i8: 'int8',
  u8: 'uint8',
  i32: 'int32',
  i64: 'int64',
};

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
    open: (model, threads = 1) =>
      ort.InferenceSession.create(model, {
        executionProviders: ['cpu'],
        intraOpNumThreads: threads,
        interOpNumThreads: 1,
        executionMode: 'sequential',
        logSeverityLevel: 3,
      }),
    tensor: (data, shape) => new ort.Tensor('float32', data, shape),
    fromTensor(tensor) {
      const type = TYPES[tensor.dtype as BufferDType];
      if (type === undefined) throw new Error(`no tensor of ${tensor.dtype} is given to the rival`);
      return new ort.Tensor(type, tensor.elements(), tensor.shape);
    },
  };
}
