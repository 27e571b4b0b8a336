/**
 * Gradients of operators that hold graphs: If, and our own chain of elementwise operators.
 * @module
 */
import type { ValueId } from '../graph.ts';
import { type GradientRule, range } from './rule.ts';

/** The gradient takes the same branch, of which it needs the inputs and the gradients of the outputs. */
const conditional: GradientRule = g => {
  const [condition, ...captured] = g.node.inputs;
  const of = range(g.node.outputs.length).filter(i => g.gradient(i) !== undefined);
  const wrt = range(captured.length).filter(i => g.needs(i + 1));
  const seeds = of.map(i => g.gradient(i));
  const gradients = g.ops('If', wrt.length, [condition, ...captured, ...seeds], {
    then_branch: g.gradientOf(g.graph('then_branch'), 1, of, wrt),
    else_branch: g.gradientOf(g.graph('else_branch'), 1, of, wrt),
  });
  return [undefined, ...captured.map((_, i) => (wrt.includes(i) ? gradients[wrt.indexOf(i)] : undefined))];
};

/** The rules of this file. */
export const CONTROL: Readonly<Record<string, GradientRule>> = { If: conditional };

/** The rule of the chain, an operator in the domain `cloister`: its body is written out. */
export const CHAIN: Readonly<Record<string, GradientRule>> = {
  Chain: g => g.through(inputs => g.inline(g.graph('body'), inputs as readonly ValueId[])),
};
