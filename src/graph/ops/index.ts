/**
 * The operator table: one entry per operator, gathered from the families.
 * @module
 */

import { ML_LINEAR } from './classical/linear.ts';
import { ML_PREPROCESSING } from './classical/preprocessing.ts';
import { ML_TREES } from './classical/trees.ts';
import { ARITHMETIC } from './core/arithmetic.ts';
import { BITWISE } from './core/bitwise.ts';
import { CAST } from './core/cast.ts';
import { CHAIN } from './core/chain.ts';
import { COMPARISON } from './core/comparison.ts';
import { CONSTANT } from './core/constant.ts';
import { CONTROL } from './core/control.ts';
import { LOSSES } from './core/losses.ts';
import { REDUCTION } from './core/reduction.ts';
import { SCAN } from './core/scan.ts';
import { SIGNAL_WINDOWS } from './core/signal-windows.ts';
import { TEXT } from './core/text.ts';
import { UNARY } from './core/unary.ts';
import { GRADIENT_OPERATORS } from './gradients.ts';
import { DETERMINANT } from './linear/determinant.ts';
import { EINSUM } from './linear/einsum.ts';
import { MATMUL } from './linear/matmul.ts';
import { MATMUL_N_BITS } from './linear/matmul-n-bits.ts';
import { GATHER } from './movement/gather.ts';
import { MOVEMENT } from './movement/movement.ts';
import { PATTERN } from './movement/pattern.ts';
import { SCATTER } from './movement/scatter.ts';
import { SELECTION } from './movement/selection.ts';
import { SHAPE } from './movement/shape.ts';
import { type Operator, type OperatorTable, operatorKey } from './operator.ts';
import { MICROSOFT_QUANTISED } from './quantised/microsoft-quantised.ts';
import { QUANTISE } from './quantised/quantise.ts';
import { QUANTISED_ATTENTION } from './quantised/quantised-attention.ts';
import { QUANTISED_CONVOLUTION } from './quantised/quantised-convolution.ts';
import { QUANTISED_LINEAR } from './quantised/quantised-linear.ts';
import { RECURRENT } from './recurrent/recurrent.ts';
import { STATE_SPACE } from './recurrent/state-space.ts';
import { ATTENTION } from './transformer/attention.ts';
import { GROUP_QUERY_ATTENTION } from './transformer/group-query-attention.ts';
import { MICROSOFT_ATTENTION } from './transformer/microsoft-attention.ts';
import { MICROSOFT_FUSED } from './transformer/microsoft-fused.ts';
import { MICROSOFT_NORMALISATION } from './transformer/microsoft-normalisation.ts';
import { NORMALISATION } from './transformer/normalisation.ts';
import { NORMALISATION_GROUPS } from './transformer/normalisation-groups.ts';
import { ROTARY } from './transformer/rotary.ts';
import { BOXES } from './vision/boxes.ts';
import { CONV_TRANSPOSE } from './vision/conv-transpose.ts';
import { CONVOLUTION } from './vision/convolution.ts';
import { DEFORM_CONV } from './vision/deform-conv.ts';
import { EXPERIMENTAL } from './vision/experimental.ts';
import { GRID_SAMPLE } from './vision/grid-sample.ts';
import { POOLING } from './vision/pooling.ts';
import { REGIONS } from './vision/regions.ts';
import { RESIZE } from './vision/resize.ts';
import { SPATIAL } from './vision/spatial.ts';

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
