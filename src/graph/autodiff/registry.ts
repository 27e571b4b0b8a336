/**
 * The registry of gradients: one rule per operator, gathered from the families.
 * @module
 */
import { operatorKey } from '../ops/operator.ts';
import { ARITHMETIC } from './arithmetic.ts';
import { ATTENTION } from './attention.ts';
import { COMPARISON } from './comparison.ts';
import { CONSTANT } from './constant.ts';
import { CHAIN, CONTROL } from './control.ts';
import { CONVOLUTION } from './convolution.ts';
import { EINSUM } from './einsum.ts';
import { GRADIENT_RULES } from './gradients.ts';
import { LOSSES } from './losses.ts';
import { MATMUL } from './matmul.ts';
import { MOVEMENT } from './movement.ts';
import { NORMALISATION } from './normalisation.ts';
import { POOLING } from './pooling.ts';
import { REDUCTION } from './reduction.ts';
import type { GradientRule, GradientTable } from './rule.ts';
import { SHAPE } from './shape.ts';
import { UNARY } from './unary.ts';

/** Every rule, by the key of its operator. */
export const GRADIENTS: GradientTable = new Map([
  ...rulesIn('', {
    ...ARITHMETIC,
    ...ATTENTION,
    ...COMPARISON,
    ...CONSTANT,
    ...CONTROL,
    ...CONVOLUTION,
    ...EINSUM,
    ...LOSSES,
    ...MATMUL,
    ...MOVEMENT,
    ...NORMALISATION,
    ...POOLING,
    ...REDUCTION,
    ...SHAPE,
    ...UNARY,
  }),
  ...rulesIn('cloister', { ...CHAIN, ...GRADIENT_RULES }),
]);

function rulesIn(
  domain: string,
  rules: Readonly<Record<string, GradientRule>>,
): readonly (readonly [string, GradientRule])[] {
  return Object.entries(rules).map(([name, rule]) => [operatorKey(domain, name), rule] as const);
}
