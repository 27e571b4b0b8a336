/**
 * Networks that encrypted inference runs well: squares for activations, strides and averages for pooling.
 * @module
 */
import { type Expr, type Graph, graphOf } from '../../src/graph/index.ts';
import type { Tensor } from '../../src/tensor/index.ts';

/** One layer that learns: its weights go from `inputs` numbers to each output. */
export interface Parameter {
  readonly name: string;
  readonly shape: readonly number[];
  /** Numbers that an output is a sum of; 0 for biases. */
  readonly fanIn: number;
}

/** A network: what it learns, and what it computes with that. */
export interface Network {
  readonly name: string;
  readonly about: string;
  readonly input: { readonly name: string; readonly shape: readonly number[] };
  readonly parameters: readonly Parameter[];
  /** The logits of `x`, a batch. */
  readonly forward: (x: Expr, p: Readonly<Record<string, Expr>>) => Expr;
}

const dense = (name: string, inputs: number, outputs: number): Parameter[] => [
  { name: `${name}.weight`, shape: [inputs, outputs], fanIn: inputs },
  { name: `${name}.bias`, shape: [outputs], fanIn: 0 },
];

const conv = (name: string, inputs: number, outputs: number, kernel: number): Parameter[] => [
  { name: `${name}.weight`, shape: [outputs, inputs, kernel, kernel], fanIn: inputs * kernel * kernel },
  { name: `${name}.bias`, shape: [outputs], fanIn: 0 },
];

const image = { name: 'image', shape: [1, 28, 28] } as const;
const square = (x: Expr): Expr => x.mul(x);
const flat = (x: Expr): Expr => x.flatten(1);

/** Every network of this folder, by name. */
export const NETWORKS: readonly Network[] = [
  {
    name: 'mlp',
    about: '784-128-128-10',
    input: image,
    parameters: [...dense('first', 784, 128), ...dense('second', 128, 128), ...dense('last', 128, 10)],
    forward: (x, p) => {
      const first = square(linear(flat(x), p, 'first'));
      return linear(square(linear(first, p, 'second')), p, 'last');
    },
  },
  {
    name: 'cryptonets',
    about: 'after CryptoNets and LoLa: 5 channels of 5x5 with stride 2, 845-100-10',
    input: image,
    parameters: [...conv('conv', 1, 5, 5), ...dense('first', 845, 100), ...dense('last', 100, 10)],
    forward: (x, p) => {
      const maps = square(convolve(x, p, 'conv', { strides: [2, 2], pads: [1, 1, 1, 1] }));
      return linear(square(linear(flat(maps), p, 'first')), p, 'last');
    },
  },
  {
    name: 'tutorial',
    about: "TenSEAL's tutorial: 4 channels of 7x7 with stride 3, 256-64-10",
    input: image,
    parameters: [...conv('conv', 1, 4, 7), ...dense('first', 256, 64), ...dense('last', 64, 10)],
    forward: (x, p) => {
      const maps = square(convolve(x, p, 'conv', { strides: [3, 3] }));
      return linear(square(linear(flat(maps), p, 'first')), p, 'last');
    },
  },
  {
    name: 'lenet',
    about: 'like LeNet-5: two convolutions of 5x5 with averages behind them, 256-84-10',
    input: image,
    parameters: [
      ...conv('conv1', 1, 6, 5),
      ...conv('conv2', 6, 16, 5),
      ...dense('first', 256, 84),
      ...dense('last', 84, 10),
    ],
    forward: (x, p) => {
      const pool = (y: Expr): Expr => y.averagePool([2, 2], { strides: [2, 2] });
      const one = pool(square(convolve(x, p, 'conv1', {})));
      const two = pool(square(convolve(one, p, 'conv2', {})));
      return linear(square(linear(flat(two), p, 'first')), p, 'last');
    },
  },
];

/** Logistic regression on thirty numbers of a cell nucleus, scaled to mean 0 and deviation 1 within the model. */
export const WDBC: Network = {
  name: 'wdbc',
  about: 'logistic regression on the thirty features of WDBC',
  input: { name: 'features', shape: [30] },
  parameters: dense('last', 30, 1),
  forward: (x, p) => linear(x, p, 'last'),
};

function linear(x: Expr, p: Readonly<Record<string, Expr>>, name: string): Expr {
  return x.gemm(p[`${name}.weight`]!, p[`${name}.bias`]!);
}

function convolve(x: Expr, p: Readonly<Record<string, Expr>>, name: string, window: Record<string, number[]>): Expr {
  return x.conv(p[`${name}.weight`]!, p[`${name}.bias`]!, window);
}

/** The finished model: `input` of a batch to `logits`, or, of one number, to its probability. */
export function modelOf(
  network: Network,
  values: Readonly<Record<string, Tensor>>,
  finish: (x: Expr) => Expr = x => x,
): Graph {
  const g = graphOf(network.name);
  const x = g.input(network.input.name, 'f32', ['batch', ...network.input.shape]);
  const constants = Object.fromEntries(
    network.parameters.map(({ name }) => [name, g.constant(name, values[name]!)] as const),
  );
  g.output('logits', finish(network.forward(x, constants)));
  return g.build();
}
