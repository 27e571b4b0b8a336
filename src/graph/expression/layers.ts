/**
 * Layers: functions from a value to a value, the common ones, and ways to put them together.
 * @module
 */
import { CloisterError } from '../../base/index.ts';
import type { Nested, Tensor } from '../../tensor/index.ts';
import type { Expr, Layer, NamedArguments, Operand } from './fluent.ts';
import type { OperatorMethods } from './methods.ts';

/** Weights of a layer. */
export type Weights = Expr | Tensor | Nested;

/**
 * One layer after the other.
 *
 * @example
 * ```ts
 * const g = graphOf('mlp');
 * const model = sequential(dense([[1, -1], [2, 0]], [0.5, 0.5]), activation('relu'), expr`softmax(x)`);
 * g.output('y', model(g.input('x', 'f32', ['n', 2])));
 * g.build().nodes.map(node => node.op); // ['MatMul', 'Add', 'Relu', 'Softmax']
 * ```
 */
export function sequential(...layers: readonly Layer[]): Layer {
  return x => layers.reduce((value, layer) => layer(value), x);
}

/** `x + f(x)`. The shapes must broadcast. */
export function residual(...layers: readonly Layer[]): Layer {
  const inner = sequential(...layers);
  return x => x.add(inner(x));
}

/**
 * Gives one value to several layers and joins what they make.
 *
 * @param join - `concat` along `axis` (default -1), `add` or `mul`.
 */
export function parallel(
  layers: readonly Layer[],
  { join = 'concat', axis = -1 }: { readonly join?: 'concat' | 'add' | 'mul'; readonly axis?: number } = {},
): Layer {
  if (layers.length === 0) throw new CloisterError('INVALID_ARGUMENT', 'parallel: expected at least one layer');
  return x => {
    const [first, ...others] = layers.map(layer => layer(x)) as [Expr, ...Expr[]];
    if (join === 'concat') return first.concat(...others, { axis });
    return others.reduce((sum, value) => (join === 'add' ? sum.add(value) : sum.mul(value)), first);
  };
}

/** Names of methods that take nothing. */
export type Activation = {
  [K in keyof OperatorMethods]: OperatorMethods[K] extends () => Expr ? K : never;
}[keyof OperatorMethods];

/** The method of this name as a layer. */
export function activation(name: Activation | 'softmax' | 'gelu'): Layer {
  return x => x[name]();
}

/** `x @ weights + bias`. @param weights - (inputs, outputs). @param bias - (outputs). */
export function dense(weights: Weights, bias?: Weights): Layer {
  return x => {
    const product = x.matmul(weights);
    return bias === undefined ? product : product.add(bias);
  };
}

/** How windows move over images. */
export interface WindowOptions {
  /** One size for both axes, or (rows, columns). Default 1; of pooling, the size of the window. */
  readonly stride?: number | readonly [number, number];
  /** Zeros at every edge, or (top, left, bottom, right), or as many as keep the size at stride 1. Default 0. */
  readonly padding?: number | readonly [number, number, number, number] | 'same';
  /** Distance of neighbours in the window. Default 1. */
  readonly dilation?: number | readonly [number, number];
}

/**
 * Convolution of images (n, channels, rows, columns).
 *
 * @param filters - (outputs, channels / groups, rows, columns).
 */
export function conv2d(
  filters: Weights,
  { bias, groups = 1, ...options }: WindowOptions & { readonly bias?: Weights; readonly groups?: number } = {},
): Layer {
  return x => x.conv(filters, bias, { ...windowOf(options, 1), ...(groups === 1 ? {} : { group: groups }) });
}

/** The largest in each window of (n, channels, rows, columns). */
export function maxPool2d(size: number | readonly [number, number], options: WindowOptions = {}): Layer {
  return x => x.maxPool(pair(size), windowOf(options, size));
}

/** The mean of each window of (n, channels, rows, columns); what lies beyond the edge does not count. */
export function averagePool2d(size: number | readonly [number, number], options: WindowOptions = {}): Layer {
  return x => x.averagePool(pair(size), windowOf(options, size));
}

/** Normalisation over the last axis. */
export function layerNorm(
  scale: Weights,
  bias?: Weights,
  { epsilon = 1e-5 }: { readonly epsilon?: number } = {},
): Layer {
  return x => x.layerNormalization(scale, bias, { epsilon });
}

/** Normalisation of each channel by statistics that are known. */
export function batchNorm(
  statistics: { readonly scale: Weights; readonly bias: Weights; readonly mean: Weights; readonly variance: Weights },
  { epsilon = 1e-5 }: { readonly epsilon?: number } = {},
): Layer {
  const { scale, bias, mean, variance } = statistics;
  return x => x.batchNormalization(scale, bias, mean, variance, { epsilon });
}

/** The rows of `table` that the integers of the value name. */
export function embedding(table: Weights): Layer {
  return x => x.graph.gather(table, x);
}

/** All axes from `axis` (default 1) on as one. */
export function flatten(axis = 1): Layer {
  return x => x.flatten(axis);
}

/** The operator of this name as a layer, with further arguments by name. */
export function operator(name: string, named: NamedArguments = {}, ...others: readonly Operand[]): Layer {
  return x => x.op(name, ...others, named);
}

function pair(value: number | readonly [number, number]): readonly [number, number] {
  return typeof value === 'number' ? [value, value] : value;
}

function windowOf(
  { stride, padding = 0, dilation = 1 }: WindowOptions,
  usualStride: number | readonly [number, number],
): NamedArguments {
  const strides = pair(stride ?? usualStride);
  const dilations = pair(dilation);
  const edges =
    padding === 'same'
      ? { auto_pad: 'SAME_UPPER' }
      : { pads: typeof padding === 'number' ? [padding, padding, padding, padding] : padding };
  return { strides, ...edges, ...(dilations.every(step => step === 1) ? {} : { dilations }) };
}
