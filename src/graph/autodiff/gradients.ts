/**
 * Gradients of the gradient operators: each undoes a linear operator, and is undone by it.
 * @module
 */
import type { GradientRule } from './rule.ts';

/** The rules of this file; the operators are in the domain `cloister`. */
export const GRADIENT_RULES: Readonly<Record<string, GradientRule>> = {
  ConvInputGradient: g => {
    const [dy, w] = [g.input(0), g.input(1)];
    const { attributes } = g.node;
    return [
      g.needs(0) ? g.op('Conv', [g.dy, w], attributes) : undefined,
      g.needs(1) ? g.own('ConvWeightGradient', [g.dy, dy], attributes) : undefined,
      undefined,
    ];
  },
  ConvWeightGradient: g => {
    const [x, dy] = [g.input(0), g.input(1)];
    const { attributes } = g.node;
    return [
      g.needs(0) ? g.own('ConvInputGradient', [dy, g.dy, g.shapeOf(x)], attributes) : undefined,
      g.needs(1) ? g.op('Conv', [x, g.dy], attributes) : undefined,
    ];
  },
  AveragePoolGradient: g => [g.op('AveragePool', [g.dy], g.node.attributes), undefined],
  SliceGradient: g => [g.op('Slice', [g.dy, ...g.node.inputs.slice(2)])],
};
