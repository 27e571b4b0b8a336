/**
 * Gradients of the losses of classifiers, for the scores and for the weights of classes.
 * @module
 */
import type { ValueId } from '../graph.ts';
import { type GradientContext, type GradientRule, range } from './rule.ts';

/** Where a label says its class: (batch, classes, places...). Labels that are ignored say none. */
function labelled(g: GradientContext): ValueId {
  const [scores, labels] = [g.input(0), g.op('Cast', [g.input(1)], { to: 7 })];
  const numbered = g.op('Range', [g.list([0]), g.sizeOf(scores, 1), g.list([1])]);
  const classes = perClass(g, numbered);
  const hot = g.op('Equal', [g.unsqueeze(labels, [1]), classes]);
  if (g.attribute('ignore_index') === undefined) return hot;
  const ignored = g.op('Equal', [classes, g.list([g.number('ignore_index')])]);
  return g.op('And', [hot, g.op('Not', [ignored])]);
}

/** A vector over classes, to broadcast along the places. */
function perClass(g: GradientContext, vector: ValueId): ValueId {
  const places = g.rankOf(g.input(0)) - 2;
  return places === 0 ? vector : g.unsqueeze(vector, range(places, 1));
}

function loss(softmax: boolean): GradientRule {
  return g => {
    const rank = g.rankOf(g.input(0));
    const logs = softmax ? g.output(1) : g.input(0);
    const hot = labelled(g);
    const weights = g.mask(hot, g.has(2) ? perClass(g, g.input(2)) : g.scalar(1));
    const reduction = g.string('reduction');
    const mean = reduction === 'mean';
    let dy = reduction === 'none' ? g.unsqueeze(g.dy, [1]) : g.dy;
    if (mean) dy = g.div(dy, g.sum(weights, range(rank, 0)));
    let dlogs = g.neg(g.mul(weights, dy));
    if (softmax) {
      const kept = g.gradient(1);
      if (kept !== undefined) dlogs = g.add(dlogs, kept);
      dlogs = g.sub(dlogs, g.mul(g.op('Exp', [logs]), g.sum(dlogs, [1], true)));
    }
    if (!g.needs(2)) return [dlogs];
    // A mean is over the weights, so each of them also moves all that it divides.
    const each = g.neg(mean ? g.add(logs, g.output()) : logs);
    return [dlogs, undefined, g.sum(g.mul(g.mask(hot, each), dy), [0, ...range(rank - 2, 2)])];
  };
}

/** The rules of this file. */
export const LOSSES: Readonly<Record<string, GradientRule>> = {
  NegativeLogLikelihoodLoss: loss(false),
  SoftmaxCrossEntropyLoss: loss(true),
};
