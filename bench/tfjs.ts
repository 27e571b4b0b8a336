/**
 * The rival of the reference backend: TensorFlow.js on its plain JavaScript backend, installed apart in `bench/peers`.
 * @module
 */
import { createRequire } from 'node:module';

/** A tensor of TensorFlow.js, as far as a bench uses it. */
export interface TfjsTensor {
  dataSync(): Float32Array;
  dispose(): void;
}

/** What a bench uses of TensorFlow.js: channels are the last axis, kernels are (height, width, in, out). */
export interface Tfjs {
  /** `tfjs-backend-cpu 4.22.0` */
  readonly name: string;
  tensor(data: Float32Array, shape: readonly number[]): TfjsTensor;
  matMul(a: TfjsTensor, b: TfjsTensor): TfjsTensor;
  conv2d(x: TfjsTensor, filter: TfjsTensor, strides: number, pad: 'same' | 'valid'): TfjsTensor;
  depthwiseConv2d(x: TfjsTensor, filter: TfjsTensor, strides: number, pad: 'same' | 'valid'): TfjsTensor;
}

/** Returns the rival, or `undefined` when it is not installed. */
export async function loadTfjs(): Promise<Tfjs | undefined> {
  const require = createRequire(new URL('peers/package.json', import.meta.url));
  let tf: Omit<Tfjs, 'name'> & { setBackend(name: string): Promise<boolean> };
  let version: string;
  try {
    tf = require('@tensorflow/tfjs-core');
    require('@tensorflow/tfjs-backend-cpu');
    version = (require('@tensorflow/tfjs-backend-cpu/package.json') as { version: string }).version;
  } catch {
    return undefined;
  }
  if (!(await tf.setBackend('cpu'))) throw new Error('TensorFlow.js has no backend cpu');
  return {
    name: `tfjs-backend-cpu ${version}`,
    tensor: (data, shape) => tf.tensor(data, shape),
    matMul: (a, b) => tf.matMul(a, b),
    conv2d: (x, filter, strides, pad) => tf.conv2d(x, filter, strides, pad),
    depthwiseConv2d: (x, filter, strides, pad) => tf.depthwiseConv2d(x, filter, strides, pad),
  };
}
