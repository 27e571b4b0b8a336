/**
 * The lowering seam: how one operator becomes steps of a program; and what lowerings of several groups share.
 * @module
 */
import { type Attribute, type Facts, findVersion, type Node, OPERATORS } from '../../graph/index.ts';
import type { Shape } from '../../tensor/index.ts';
import { broadcastStrides, collapse, type Draft, Unsupported, type View } from '../draft.ts';
import { BINARY_OPS, floatWord, strideWords, UNARY_OPS } from '../program.ts';

/** One operator of the native backend. */
export interface Lowering {
  /** Inputs that are read while planning, not by a step: shapes, axes, bounds. */
  readonly parameters?: readonly number[];
  /** Computes in float32 only (its data inputs and its outputs). Otherwise any dtype moves through it. */
  readonly float: boolean;
  /** Why a node of this operator cannot be lowered, where that shows without the values of its parameters. */
  readonly refuses?: (node: Node, inputs: readonly (Facts | undefined)[]) => string | undefined;
  /** Adds the node's steps to the draft. May throw {@link Unsupported}. */
  readonly lower: (d: Draft, node: Node) => void;
}

/** Lowerings by operator. */
export type Lowerings = Readonly<Record<string, Lowering>>;

// ---- steps that several groups emit ----

export function emitUnary(d: Draft, node: Node, op: keyof typeof UNARY_OPS, p0: number, p1: number): void {
  const [input, output] = [node.inputs[0]!, node.outputs[0]!];
  // Element for element, so that any layout will do.
  const blocked = d.inBlocks(input);
  const x = blocked ? d.readBlocks(input) : d.read(input);
  const y = blocked ? d.writeBlocks(output) : d.write(output);
  if (y.length > 0) d.emit('unary', [x, y], [UNARY_OPS[op], floatWord(p0), floatWord(p1)], [0]);
}

export function emitBinary(
  d: Draft,
  op: keyof typeof BINARY_OPS,
  a: View,
  aShape: Shape,
  b: View,
  bShape: Shape,
  y: View,
  shape: Shape,
): void {
  if (y.length === 0) return;
  const { dims, strides } = collapse(shape, broadcastStrides(aShape, shape), broadcastStrides(bShape, shape));
  const inPlace = [a, b].flatMap((operand, i) => (operand.length === y.length ? [i] : []));
  d.emit('binary', [a, b, y], [BINARY_OPS[op], dims.length, ...dims, ...strides[0]!, ...strides[1]!], inPlace);
}

/**
 * Copies `x`, read from its first byte at `strides` (elements), into the dense `y` of `shape`. Negative strides start
 * at the end.
 */
export function emitCopy(
  d: Draft,
  x: View,
  elementBytes: number,
  shape: Shape,
  strides: readonly number[],
  y: View,
): void {
  const {
    dims,
    strides: [collapsed],
  } = collapse(shape, strides);
  d.emit('copy', [x, y], [elementBytes, dims.length, ...dims, ...collapsed!.flatMap(stride => strideWords(stride))]);
}

// ---- attributes ----

/** An integer or float attribute; where it is absent, the operator's default, or `absent`. */
export function number(node: Node, name: string, absent: number): number {
  const value = attribute(node, name);
  return typeof value === 'number' ? value : absent;
}

export function numbers(node: Node, name: string): readonly number[] | undefined {
  const value = attribute(node, name);
  return Array.isArray(value) ? (value as readonly number[]) : undefined;
}

export function attribute(node: Node, name: string): Attribute | undefined {
  return node.attributes[name] ?? findVersion(OPERATORS, node)?.attributes[name]?.default;
}

export function fromEnd(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}

/** The bounds of a Clip, ordered: where the lower one is above the upper one, every result is the upper one. */
export function clipBounds(d: Draft, node: Node): { lo: number; hi: number } {
  const bound = (input: number, name: string, absent: number): number => {
    const id = node.inputs[input];
    if (id === undefined) return node.opset < 11 ? number(node, name, absent) : absent;
    const value = d.tensor(id)?.values()[0];
    if (value === undefined) throw new Unsupported(`its ${name} is computed`);
    return Number(value);
  };
  const lo = bound(1, 'min', Number.NEGATIVE_INFINITY);
  const hi = bound(2, 'max', Number.POSITIVE_INFINITY);
  if (Number.isNaN(lo) || Number.isNaN(hi)) throw new Unsupported('a bound is not a number');
  return { lo: Math.min(lo, hi), hi };
}

/** Why a node that behaves otherwise in training is not lowered, where it does. */
export function refuseTraining(node: Node): string | undefined {
  const training = number(node, 'training_mode', 0) !== 0;
  return training || node.outputs.slice(1).some(id => id !== undefined) ? 'it asks for training outputs' : undefined;
}
