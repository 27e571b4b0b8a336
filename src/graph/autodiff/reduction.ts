/**
 * Gradients of reductions: each result spreads back over the elements it was made of.
 * @module
 */
import type { ValueId } from '../graph.ts';
import { type GradientContext, type GradientRule, range } from './rule.ts';

/** A value of the output's shape with the reduced axes put back as ones, so that it broadcasts against the input. */
function spread(g: GradientContext, id: ValueId): ValueId {
  if (g.flag('keepdims')) return id;
  const rank = g.rankOf(g.input(0));
  const given = g.has(1) ? g.input(1) : undefined;
  const known = given === undefined ? (g.numbers('axes') ?? []) : g.integers(given);
  if (known === undefined) return g.op('Unsqueeze', [id, given]);
  if (known.length > 0) return g.unsqueeze(id, known);
  return g.flag('noop_with_empty_axes') ? id : g.unsqueeze(id, range(rank));
}

/** A reduction of the input along the same axes, with the axes kept as ones. */
function reduceAgain(g: GradientContext, op: string, id: ValueId): ValueId {
  const rank = g.rankOf(g.input(0));
  const attributes = { keepdims: 1, noop_with_empty_axes: g.flag('noop_with_empty_axes') ? 1 : 0 };
  if (g.has(1)) return g.op(op, [id, g.input(1)], attributes);
  const axes = g.numbers('axes')?.map(axis => g.axis(axis, rank)) ?? [];
  return g.op(op, axes.length > 0 ? [id, g.list(axes)] : [id], attributes);
}

/** A rule from the derivative by each element; dy and y broadcast against x. */
function spreading(part: (g: GradientContext, x: ValueId, dy: ValueId, y: ValueId) => ValueId): GradientRule {
  return g => {
    const x = g.input(0);
    return [g.expandLike(part(g, x, spread(g, g.dy), spread(g, g.output())), x)];
  };
}

/** One over how many elements each result is made of, as a scalar: half precision has room for it, not for the number. */
function share(g: GradientContext): ValueId {
  const [x, y] = [g.input(0), g.output()];
  const product = (id: ValueId): number =>
    g.shape(id).reduce<number>((size, dim) => size * (typeof dim === 'number' ? dim : Number.NaN), 1);
  const known = product(x) / product(y);
  if (Number.isSafeInteger(known)) return g.scalar(1 / known);
  const to = g.facts(x).dtype === 'f64' ? FLOAT64 : FLOAT32;
  const [many, few] = [x, y].map(id => g.op('Cast', [g.op('Size', [id])], { to })) as [ValueId, ValueId];
  return g.op('CastLike', [g.div(few, many), x]);
}

/** Numbers in ONNX's list of element types. */
const FLOAT32 = 1;
const FLOAT64 = 11;

const isZero = (g: GradientContext, x: ValueId): ValueId => g.op('Equal', [x, g.scalar(0, x)]);

/** The largest or smallest elements share the gradient evenly. */
const extreme = spreading((g, x, dy, y) => {
  const won = g.where(g.op('Equal', [x, y]), g.full(1, x), g.scalar(0));
  return g.mul(won, g.div(dy, reduceAgain(g, 'ReduceSum', won)));
});

/** The product of the others: `y / x`, and beside a single zero the product of the rest, at the zero alone. */
const product = spreading((g, x, dy) => {
  const zero = isZero(g, x);
  const one = g.scalar(1);
  const zeros = reduceAgain(g, 'ReduceSum', g.where(zero, g.full(1, x), g.scalar(0)));
  const solid = g.where(zero, one, x);
  const rest = g.mul(dy, reduceAgain(g, 'ReduceProd', solid));
  const alone = g.op('Equal', [zeros, g.where(zero, one, g.scalar(0))]);
  return g.mask(alone, g.div(rest, solid));
});

/** The rules of this file. */
export const REDUCTION: Readonly<Record<string, GradientRule>> = {
  ReduceSum: spreading((_, __, dy) => dy),
  ReduceMean: spreading((g, _, dy) => g.mul(dy, share(g))),
  ReduceMax: extreme,
  ReduceMin: extreme,
  ReduceProd: product,
  ReduceL1: spreading((g, x, dy) => g.mul(dy, g.op('Sign', [x]))),
  ReduceL2: spreading((g, x, dy, y) => g.mul(x, g.div(dy, g.where(isZero(g, y), g.scalar(1), y)))),
  ReduceSumSquare: spreading((g, x, dy) => g.mul(g.scale(x, 2), dy)),
  ReduceLogSum: spreading((g, _, dy, y) => g.mul(dy, g.op('Exp', [g.neg(y)]))),
  ReduceLogSumExp: spreading((g, x, dy, y) => g.mul(dy, g.op('Exp', [g.sub(x, y)]))),
};
