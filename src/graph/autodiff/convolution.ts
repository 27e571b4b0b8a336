/**
 * Gradients of convolution, plain and transposed. Both are linear in the image and in the weights, and each is the other's
 * gradient by the image.
 * @module
 */
import type { Attribute, ValueId } from '../graph.ts';
import { type GradientContext, type GradientRule, range } from './rule.ts';

/** The bias meets every place of its channel. */
function biasGradient(g: GradientContext): ValueId | undefined {
  if (!g.needs(2)) return undefined;
  return g.sum(g.dy, [0, ...range(g.rankOf(g.dy) - 2, 2)]);
}

/** The sizes of the kernel, which the shape rule of the operator has found to be known. */
function kernelOf(g: GradientContext): readonly number[] {
  return g.shape(g.input(1)).slice(2) as readonly number[];
}

const conv: GradientRule = g => {
  const [x, w] = [g.input(0), g.input(1)];
  const attributes = { ...g.node.attributes, kernel_shape: kernelOf(g) };
  return [
    g.needs(0) ? g.own('ConvInputGradient', [g.dy, w, g.shapeOf(x)], attributes) : undefined,
    g.needs(1) ? g.own('ConvWeightGradient', [x, g.dy], attributes) : undefined,
    biasGradient(g),
  ];
};

/**
 * The convolution that a transposed one undoes: its padding, and how many places at the end of each axis of the output no
 * weight has reached.
 */
function undone(g: GradientContext): { readonly pads: readonly number[]; readonly beyond: readonly number[] } {
  const kernel = kernelOf(g);
  const axes = kernel.length;
  const list = (name: string, none: number): readonly number[] => {
    const values = g.numbers(name) ?? [];
    return values.length === 0 ? kernel.map(() => none) : values;
  };
  const [strides, dilations, extra] = [list('strides', 1), list('dilations', 1), list('output_padding', 0)];
  const given = g.numbers('pads') ?? [];
  const pads = given.length === 0 ? new Array<number>(2 * axes).fill(0) : given;
  const auto = g.string('auto_pad');
  const wanted = (g.numbers('output_shape') ?? []).length > 0;
  const zeros = new Array<number>(axes).fill(0);
  if (!wanted && (auto === 'NOTSET' || auto === 'VALID') && extra.every((size, i) => size < strides[i]!)) {
    return { pads: auto === 'VALID' ? [...zeros, ...zeros] : pads, beyond: zeros };
  }
  const [from, to] = [g.shape(g.input(0)).slice(2), g.shape(g.output()).slice(2)];
  if (![...from, ...to].every(size => typeof size === 'number')) {
    g.unsupported('the sizes of the image must be known before the graph runs');
  }
  const reach = kernel.map((size, i) => ((from[i] as number) - 1) * strides[i]! + (size - 1) * dilations[i]! + 1);
  const begin = reach.map((places, i) => {
    if (auto === 'NOTSET' && !wanted) return pads[i]!;
    if (auto === 'VALID' && !wanted) return 0;
    const cut = Math.max(0, places + extra[i]! - (to[i] as number));
    return auto === 'SAME_UPPER' ? Math.floor(cut / 2) : Math.ceil(cut / 2);
  });
  const rest = reach.map((places, i) => places - begin[i]! - (to[i] as number));
  return {
    pads: [...begin, ...rest.map(places => Math.max(0, places))],
    beyond: rest.map(places => Math.max(0, -places)),
  };
}

const convTranspose: GradientRule = g => {
  const [x, w] = [g.input(0), g.input(1)];
  const { pads, beyond } = undone(g);
  const attributes: Record<string, Attribute> = { kernel_shape: kernelOf(g), pads };
  for (const name of ['dilations', 'group', 'strides']) {
    const value = g.attribute(name);
    if (value !== undefined) attributes[name] = value;
  }
  const axes = beyond.flatMap((places, i) => (places > 0 ? [i] : []));
  const ends = g.list(axes.map(axis => -beyond[axis]!));
  const dy =
    axes.length === 0
      ? g.dy
      : g.op('Slice', [g.dy, g.list(axes.map(() => 0)), ends, g.list(axes.map(axis => axis + 2))]);
  return [
    g.needs(0) ? g.op('Conv', [dy, w], attributes) : undefined,
    g.needs(1) ? g.own('ConvWeightGradient', [dy, x], attributes) : undefined,
    biasGradient(g),
  ];
};

/** The rules of this file. */
export const CONVOLUTION: Readonly<Record<string, GradientRule>> = { Conv: conv, ConvTranspose: convTranspose };
