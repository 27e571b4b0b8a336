/**
 * Autodiff: gradients as graphs, and the registry of rules they come from. Pure.
 * @module
 */
export { type GradientOptions, gradient } from './gradient.ts';
export { GRADIENTS } from './registry.ts';
export { GradientContext, type GradientRule, type GradientTable } from './rule.ts';
