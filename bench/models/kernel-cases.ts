/**
 * The kernels that are timed, each as a model of one node: what it is called, held to and given.
 * @module
 */
import { seededRandom } from '../../examples/digits/random.ts';
import type { NamedTensors } from '../../src/engine/index.ts';
import type { Attribute, Graph } from '../../src/graph/index.ts';
import type { Tensor } from '../../src/tensor/index.ts';
import type { Target } from '../rows.ts';
import type { Work } from '../side-by-side.ts';
import { integerTensor, normalTensor } from './network.ts';
import { type Operand, oneNode } from './one-node.ts';

/** A kernel to be timed. */
export interface KernelCase extends Pick<Work, 'case' | 'rate' | 'holdTo' | 'ceiling' | 'tolerance' | 'call'> {
  /** Makes its model and inputs. */
  readonly make: () => { readonly graph: Graph; readonly inputs: NamedTensors };
}

/** What a case may say beyond its name, work and model. */
type Extra = Pick<KernelCase, 'holdTo' | 'ceiling'>;

/** The least part of the machine's measured peak that a large matrix product is to reach. */
const LEAST_OF_PEAK = 0.75;

/** All cases. `peakGflops`: the most multiply-adds in f32 that the machine can do, where that was measured. */
export function kernelCases(peakGflops?: number): readonly KernelCase[] {
  const under = (target: Target): Extra =>
    peakGflops === undefined ? { holdTo: target } : { holdTo: target, ceiling: peakGflops };
  const near = (ratio: number): Extra =>
    under(peakGflops === undefined ? { ratio } : { ratio, atLeast: LEAST_OF_PEAK * peakGflops });
  return [
    sgemm(64, under({ ratio: 5 })),
    sgemm(128),
    sgemm(256),
    sgemm(512, near(1)),
    sgemm(1024, near(1.25)),
    sgemm(2048, near(1.35)),
    sgemm(64, {}, false),
    sgemm(512, {}, false),
    sgemm(1024, {}, false),
    gemv(1024),
    gemv(4096),
    conv('conv3x3 64->64, 56x56', { from: 64, to: 64, kernel: 3, size: 56 }, 1),
    conv('conv3x3 128->128, 28x28', { from: 128, to: 128, kernel: 3, size: 28 }),
    conv('conv1x1 64->256, 56x56', { from: 64, to: 256, kernel: 1, size: 56 }, 1.5),
    conv('conv7x7s2 3->64, 224x224', { from: 3, to: 64, kernel: 7, size: 224, stride: 2 }, 1.2),
    conv('depthwise 3x3 144, 56x56', { from: 144, to: 144, kernel: 3, size: 56, group: 144 }, 1.4),
    integerGemm('u8', 512),
    integerGemm('u8', 1024, 1),
    integerGemm('i8', 1024, 15),
    moving('softmax 4096x1024', 'Softmax', [[4096, 1024]], { axis: -1 }, 2),
    moving('softmax 12x128x128', 'Softmax', [[12, 128, 128]], { axis: -1 }),
    layerNorm(4096, 768, 2),
    layerNorm(128, 768),
    moving('relu 4M', 'Relu', [[4194304]], {}, 2),
    moving('add 4M', 'Add', [[4194304], [4194304]], {}, 2),
    moving('exp 1M', 'Exp', [[1048576]]),
    moving('tanh 1M', 'Tanh', [[1048576]]),
    moving('erf 1M', 'Erf', [[1048576]]),
    moving('sigmoid 1M', 'Sigmoid', [[1048576]]),
    moving('transpose 2048x2048', 'Transpose', [[2048, 2048]], { perm: [1, 0] }, 2.5),
    smallest('sync', { ratio: 6, atMost: 2 }),
    smallest('into'),
  ];
}

/** (size, size) times (size, size), the second a constant or an input. */
function sgemm(size: number, extra: Extra = {}, constant: boolean = true): KernelCase {
  return {
    case: constant ? `sgemm ${size}` : `sgemm ${size}, both inputs`,
    rate: gflops(2 * size ** 3),
    ...extra,
    make: () => {
      const random = seededRandom(size);
      const [a, b] = [normalTensor(random, [size, size]), normalTensor(random, [size, size])];
      return constant ? model('MatMul', { a }, [b]) : model('MatMul', { a, b });
    },
  };
}

/** (1, size) times a constant (size, size). */
function gemv(size: number): KernelCase {
  return {
    case: `gemv ${size}`,
    rate: gflops(2 * size ** 2),
    make: () => {
      const random = seededRandom(size);
      return model('MatMul', { a: normalTensor(random, [1, size]) }, [normalTensor(random, [size, size])]);
    },
  };
}

interface ConvShape {
  readonly from: number;
  readonly to: number;
  readonly kernel: number;
  /** Height and width of the input; padding keeps them, but for the stride. */
  readonly size: number;
  readonly stride?: number;
  readonly group?: number;
}

function conv(name: string, shape: ConvShape, ratio?: number): KernelCase {
  const { from, to, kernel, size, stride = 1, group = 1 } = shape;
  const pad = (kernel - 1) / 2;
  const attributes = { kernel_shape: [kernel, kernel], strides: [stride, stride], pads: [pad, pad, pad, pad], group };
  return {
    case: name,
    rate: gflops(2 * (size / stride) ** 2 * to * (from / group) * kernel ** 2),
    // Winograd's transforms round differently from sums: small results of large ones may differ in the fourth digit.
    tolerance: { ofLargest: 1e-4 },
    ...held(ratio),
    make: () => {
      const random = seededRandom(kernel);
      const weights = normalTensor(random, [to, from / group, kernel, kernel], 0.1);
      const x = normalTensor(random, [1, from, size, size]);
      return model('Conv', { x }, [weights, normalTensor(random, [to])], attributes);
    },
  };
}

function integerGemm(left: 'u8' | 'i8', size: number, ratio?: number): KernelCase {
  return {
    case: `int8 ${left === 'u8' ? 'u8xs8' : 's8xs8'} ${size}`,
    rate: { unit: 'GOP/s', perCall: (2 * size ** 3) / 1e9 },
    tolerance: { relative: 0, ofLargest: 0 },
    ...held(ratio),
    make: () => {
      const random = seededRandom(size);
      const [low, high] = left === 'u8' ? [0, 255] : [-128, 127];
      const a = integerTensor(random, left, [size, size], low!, high!);
      return model('MatMulInteger', { a }, [integerTensor(random, 'i8', [size, size], -128, 127)]);
    },
  };
}

/** Work that is bound by memory: its rate counts what is read and written once. */
function moving(
  name: string,
  op: string,
  shapes: readonly (readonly number[])[],
  attributes: Readonly<Record<string, Attribute>> = {},
  ratio?: number,
): KernelCase {
  const sizes = shapes.map(shape => shape.reduce((product, dim) => product * dim, 1));
  const elements = sizes.reduce((sum, size) => sum + size, sizes[0]!);
  return {
    case: name,
    rate: gigabytes(4 * elements),
    ...held(ratio),
    make: () => {
      const random = seededRandom(shapes.length);
      const inputs = Object.fromEntries(shapes.map((shape, i) => [`x${i}`, normalTensor(random, shape)]));
      return model(op, inputs, [], attributes);
    },
  };
}

function layerNorm(rows: number, width: number, ratio?: number): KernelCase {
  return {
    case: `layernorm ${rows}x${width}`,
    rate: gigabytes(8 * rows * width),
    ...held(ratio),
    make: () => {
      const random = seededRandom(rows);
      const constants = [normalTensor(random, [width], 0.1, 1), normalTensor(random, [width], 0.1)];
      return model('LayerNormalization', { x: normalTensor(random, [rows, width]) }, constants, { axis: -1 });
    },
  };
}

/** One addition of one element: what remains is the call. */
function smallest(call: 'sync' | 'into', holdTo?: Target): KernelCase {
  return {
    case: `one-node graph, ${call === 'sync' ? 'runSync' : 'runInto'}`,
    call,
    ...(holdTo && { holdTo }),
    make: () => {
      const random = seededRandom(1);
      return model('Add', { x: normalTensor(random, [1]), z: normalTensor(random, [1]) });
    },
  };
}

/** A model of one node whose first operands are its inputs, the others constants. */
function model(
  op: string,
  inputs: NamedTensors,
  constants: readonly Tensor[] = [],
  attributes: Readonly<Record<string, Attribute>> = {},
): { graph: Graph; inputs: NamedTensors } {
  const operands: Operand[] = Object.entries(inputs).map(([name, { dtype, shape }]) => ({ name, dtype, shape }));
  return { graph: oneNode(op, [...operands, ...constants], attributes), inputs };
}

function gflops(operations: number): NonNullable<Work['rate']> {
  return { unit: 'GFLOP/s', perCall: operations / 1e9 };
}

function gigabytes(bytes: number): NonNullable<Work['rate']> {
  return { unit: 'GB/s', perCall: bytes / 1e9 };
}

function held(ratio: number | undefined): { holdTo?: Target } {
  return ratio === undefined ? {} : { holdTo: { ratio } };
}
