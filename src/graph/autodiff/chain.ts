/**
 * The gradient of a chain of elementwise operators: that of its body.
 * @module
 */
import type { ValueId } from '../graph.ts';
import type { GradientRule } from './rule.ts';

/** The rules of this file; the operator is in the domain `cloister`. */
export const CHAIN: Readonly<Record<string, GradientRule>> = {
  Chain: g => g.through(inputs => g.inline(g.graph('body'), inputs as readonly ValueId[])),
};
