/**
 * Gradients of the same elements in another shape: the way back.
 * @module
 */
import { type GradientRule, range } from './rule.ts';

const back: GradientRule = g => [g.reshapeLike(g.dy, g.input(0))];

/** The rules of this file. */
export const SHAPE: Readonly<Record<string, GradientRule>> = {
  Reshape: back,
  Flatten: back,
  Squeeze: back,
  Unsqueeze: back,
  Transpose: g => {
    const rank = g.rankOf(g.input(0));
    const perm = g.numbers('perm')?.map(axis => g.axis(axis, rank)) ?? range(rank).toReversed();
    return [
      g.transpose(
        g.dy,
        range(rank).map(axis => perm.indexOf(axis)),
      ),
    ];
  },
  Expand: g => [g.reduceTo(g.dy, g.input(0))],
};
