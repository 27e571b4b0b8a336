/**
 * The gradient of choice: Where. Comparisons give no floats.
 * @module
 */
import type { GradientRule } from './rule.ts';

/** The rules of this file. */
export const COMPARISON: Readonly<Record<string, GradientRule>> = {
  Where: g => {
    const [condition, yes, no] = [g.input(0), g.input(1), g.input(2)];
    const none = g.scalar(0, g.dy);
    return [
      undefined,
      g.needs(1) ? g.reduceTo(g.where(condition, g.dy, none), yes) : undefined,
      g.needs(2) ? g.reduceTo(g.where(condition, none, g.dy), no) : undefined,
    ];
  },
};
