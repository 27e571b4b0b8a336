/**
 * Gradients of arithmetic: Add, Sub, Mul, Div, Pow, Min, Max, Sum, Mean. Operands that were repeated get sums.
 * @module
 */
import type { ValueId } from '../graph.ts';
import { type GradientContext, type GradientRule, range } from './rule.ts';

/** The second operand as it broadcasts by today's rule: before opset 7 an attribute said where it is aligned. */
function aligned(g: GradientContext): ValueId {
  const [a, b] = [g.input(0), g.input(1)];
  if (g.node.opset >= 7 || !g.flag('broadcast') || g.attribute('axis') === undefined) return b;
  const [rank, own] = [g.rankOf(a), g.rankOf(b)];
  return g.unsqueeze(b, range(rank - own - g.axis(g.number('axis'), rank), own));
}

/** A rule of two operands: `parts` gives their gradients before they are summed to the operands' shapes. */
function binary(
  parts: (g: GradientContext, a: ValueId, b: ValueId) => readonly [ValueId, ValueId | undefined],
): GradientRule {
  return g => {
    const [a, b] = [g.input(0), aligned(g)];
    const [da, db] = parts(g, a, b);
    return [
      g.needs(0) ? g.reduceTo(da, a) : undefined,
      g.needs(1) && db !== undefined ? g.reshapeLike(g.reduceTo(db, b), g.input(1)) : undefined,
    ];
  };
}

/** `d a^b = b a^(b-1) da + a^b log(a) db`, without the infinities that meet a factor of 0. */
const pow = binary((g, a, b) => {
  const { dtype } = g.facts(a);
  const exponent = g.facts(b).dtype === dtype ? b : g.op('CastLike', [b, a]);
  const one = g.scalar(1);
  const less = g.where(g.op('Equal', [exponent, g.scalar(0)]), one, g.sub(exponent, one));
  const da = g.mul(g.dy, g.mul(exponent, g.op('Pow', [a, less])));
  if (!g.needs(1)) return [da, undefined];
  const positive = g.op('Greater', [a, g.scalar(0)]);
  const log = g.mask(positive, g.op('Log', [g.where(positive, a, one)]));
  const db = g.mul(g.dy, g.mul(g.output(), log));
  return [da, exponent === b ? db : g.op('CastLike', [db, b])];
});

/** The largest or smallest share the gradient evenly. */
const extreme: GradientRule = g => {
  const one = g.full(1, g.output());
  const none = g.zeros(g.output());
  const won = g.node.inputs.map(id => g.where(g.op('Equal', [id, g.output()]), one, none));
  const share = g.div(g.dy, g.op('Sum', won));
  return g.node.inputs.map((id, i) => (g.needs(i) ? g.reduceTo(g.mul(won[i]!, share), id!) : undefined));
};

function each(g: GradientContext, part: ValueId): readonly (ValueId | undefined)[] {
  return g.node.inputs.map((id, i) => (g.needs(i) ? g.reduceTo(part, id!) : undefined));
}

/** The rules of this file. */
export const ARITHMETIC: Readonly<Record<string, GradientRule>> = {
  Add: binary(g => [g.dy, g.dy]),
  Sub: binary(g => [g.dy, g.neg(g.dy)]),
  Mul: binary((g, a, b) => [g.mul(g.dy, b), g.mul(g.dy, a)]),
  Div: binary((g, _, b) => [g.div(g.dy, b), g.neg(g.div(g.mul(g.dy, g.output()), b))]),
  Pow: pow,
  Min: extreme,
  Max: extreme,
  Sum: g => each(g, g.dy),
  Mean: g => each(g, g.div(g.dy, g.scalar(g.node.inputs.length))),
};
