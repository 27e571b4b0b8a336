/**
 * The operator table: one entry per operator, gathered from the families.
 * @module
 */
import { ARITHMETIC } from './arithmetic.ts';
import { COMPARISON } from './comparison.ts';
import { CONSTANT } from './constant.ts';
import { CONTROL } from './control.ts';
import { CONVOLUTION } from './convolution.ts';
import { MATMUL } from './matmul.ts';
import { MOVEMENT } from './movement.ts';
import { NORMALISATION } from './normalisation.ts';
import { NORMALISATION_GROUPS } from './normalisation-groups.ts';
import { type Operator, type OperatorTable, operatorKey } from './operator.ts';
import { POOLING } from './pooling.ts';
import { RECURRENT } from './recurrent.ts';
import { REDUCTION } from './reduction.ts';
import { SHAPE } from './shape.ts';
import { UNARY } from './unary.ts';

/** Every operator that the reference backend computes, by {@link operatorKey}. */
export const OPERATORS: OperatorTable = tableOf([
  ...ARITHMETIC,
  ...COMPARISON,
  ...CONSTANT,
  ...CONTROL,
  ...CONVOLUTION,
  ...MATMUL,
  ...MOVEMENT,
  ...NORMALISATION,
  ...NORMALISATION_GROUPS,
  ...POOLING,
  ...RECURRENT,
  ...REDUCTION,
  ...SHAPE,
  ...UNARY,
]);

/** A table of these operators. A later entry of the same domain and name replaces an earlier one. */
export function tableOf(operators: Iterable<Operator>): OperatorTable {
  return new Map([...operators].map(operator => [operatorKey(operator.domain, operator.name), operator]));
}
