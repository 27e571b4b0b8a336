/**
 * The operator table: one entry per operator, gathered from the families.
 * @module
 */
import { ARITHMETIC } from './arithmetic.ts';
import { ATTENTION } from './attention.ts';
import { BITWISE } from './bitwise.ts';
import { BOXES } from './boxes.ts';
import { CAST } from './cast.ts';
import { CHAIN } from './chain.ts';
import { COMPARISON } from './comparison.ts';
import { CONSTANT } from './constant.ts';
import { CONTROL } from './control.ts';
import { CONV_TRANSPOSE } from './conv-transpose.ts';
import { CONVOLUTION } from './convolution.ts';
import { DEFORM_CONV } from './deform-conv.ts';
import { DETERMINANT } from './determinant.ts';
import { EINSUM } from './einsum.ts';
import { EXPERIMENTAL } from './experimental.ts';
import { GATHER } from './gather.ts';
import { GRADIENT_OPERATORS } from './gradients.ts';
import { GRID_SAMPLE } from './grid-sample.ts';
import { GROUP_QUERY_ATTENTION } from './group-query-attention.ts';
import { LOSSES } from './losses.ts';
import { MATMUL } from './matmul.ts';
import { MATMUL_N_BITS } from './matmul-n-bits.ts';
import { MICROSOFT_ATTENTION } from './microsoft-attention.ts';
import { MICROSOFT_FUSED } from './microsoft-fused.ts';
import { MICROSOFT_NORMALISATION } from './microsoft-normalisation.ts';
import { MICROSOFT_QUANTISED } from './microsoft-quantised.ts';
import { ML_LINEAR } from './ml-linear.ts';
import { ML_PREPROCESSING } from './ml-preprocessing.ts';
import { ML_TREES } from './ml-trees.ts';
import { MOVEMENT } from './movement.ts';
import { NORMALISATION } from './normalisation.ts';
import { NORMALISATION_GROUPS } from './normalisation-groups.ts';
import { type Operator, type OperatorTable, operatorKey } from './operator.ts';
import { PATTERN } from './pattern.ts';
import { POOLING } from './pooling.ts';
import { QUANTISE } from './quantise.ts';
import { QUANTISED_ATTENTION } from './quantised-attention.ts';
import { QUANTISED_CONVOLUTION } from './quantised-convolution.ts';
import { QUANTISED_LINEAR } from './quantised-linear.ts';
import { RECURRENT } from './recurrent.ts';
import { REDUCTION } from './reduction.ts';
import { REGIONS } from './regions.ts';
import { RESIZE } from './resize.ts';
import { ROTARY } from './rotary.ts';
import { SCAN } from './scan.ts';
import { SCATTER } from './scatter.ts';
import { SELECTION } from './selection.ts';
import { SHAPE } from './shape.ts';
import { SIGNAL_WINDOWS } from './signal-windows.ts';
import { SPATIAL } from './spatial.ts';
import { STATE_SPACE } from './state-space.ts';
import { TEXT } from './text.ts';
import { UNARY } from './unary.ts';

/** Every operator that the reference backend computes, by {@link operatorKey}. */
export const OPERATORS: OperatorTable = tableOf([
  ...ARITHMETIC,
  ...ATTENTION,
  ...BITWISE,
  ...BOXES,
  ...CAST,
  ...CHAIN,
  ...COMPARISON,
  ...CONSTANT,
  ...CONTROL,
  ...CONV_TRANSPOSE,
  ...CONVOLUTION,
  ...DEFORM_CONV,
  ...DETERMINANT,
  ...EINSUM,
  ...EXPERIMENTAL,
  ...GATHER,
  ...GRADIENT_OPERATORS,
  ...GRID_SAMPLE,
  ...GROUP_QUERY_ATTENTION,
  ...LOSSES,
  ...MATMUL,
  ...MATMUL_N_BITS,
  ...MICROSOFT_ATTENTION,
  ...MICROSOFT_FUSED,
  ...MICROSOFT_NORMALISATION,
  ...MICROSOFT_QUANTISED,
  ...ML_LINEAR,
  ...ML_PREPROCESSING,
  ...ML_TREES,
  ...MOVEMENT,
  ...NORMALISATION,
  ...NORMALISATION_GROUPS,
  ...PATTERN,
  ...POOLING,
  ...QUANTISE,
  ...QUANTISED_ATTENTION,
  ...QUANTISED_CONVOLUTION,
  ...QUANTISED_LINEAR,
  ...RECURRENT,
  ...REDUCTION,
  ...REGIONS,
  ...ROTARY,
  ...SCAN,
  ...SCATTER,
  ...SELECTION,
  ...RESIZE,
  ...SHAPE,
  ...SIGNAL_WINDOWS,
  ...SPATIAL,
  ...STATE_SPACE,
  ...TEXT,
  ...UNARY,
]);

/** A table of these operators. A later entry of the same domain and name replaces an earlier one. */
export function tableOf(operators: Iterable<Operator>): OperatorTable {
  return new Map([...operators].map(operator => [operatorKey(operator.domain, operator.name), operator]));
}
