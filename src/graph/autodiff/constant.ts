/**
 * Gradients of values in another form: Identity, Dropout (inference), Cast. What is made from a shape has none.
 * @module
 */
import type { GradientRule } from './rule.ts';

const asInput: GradientRule = g => [g.op('CastLike', [g.dy, g.input(0)])];

/** The rules of this file. */
export const CONSTANT: Readonly<Record<string, GradientRule>> = {
  Identity: g => [g.dy],
  // The ratio has no part in inference.
  Dropout: g => {
    if (g.has(2) && g.integers(g.input(2))?.[0] !== 0) g.unsupported('in training mode the mask is random');
    return [g.gradient(0)];
  },
  Cast: asInput,
  CastLike: asInput,
  EyeLike: () => [undefined],
};
