/**
 * The operator table: one entry per operator, gathered from the families.
 * @module
 */

import { CloisterError } from '../../base/index.ts';
import type { Tensor } from '../../tensor/index.ts';
import type { Node } from '../graph.ts';
import { ARITHMETIC } from './arithmetic.ts';
import { COMPARISON } from './comparison.ts';
import { CONSTANT } from './constant.ts';
import { CONVOLUTION } from './convolution.ts';
import { MATMUL } from './matmul.ts';
import { MOVEMENT } from './movement.ts';
import { NORMALISATION } from './normalisation.ts';
import { describeNode, findVersion, type Operator, type OperatorTable, operatorKey, RunContext } from './operator.ts';
import { POOLING } from './pooling.ts';
import { REDUCTION } from './reduction.ts';
import { SHAPE } from './shape.ts';
import { UNARY } from './unary.ts';

/** Every operator that the reference backend computes, by {@link operatorKey}. */
export const OPERATORS: OperatorTable = tableOf([
  ...ARITHMETIC,
  ...COMPARISON,
  ...CONSTANT,
  ...CONVOLUTION,
  ...MATMUL,
  ...MOVEMENT,
  ...NORMALISATION,
  ...POOLING,
  ...REDUCTION,
  ...SHAPE,
  ...UNARY,
]);

/** A table of these operators. A later entry of the same domain and name replaces an earlier one. */
export function tableOf(operators: Iterable<Operator>): OperatorTable {
  return new Map([...operators].map(operator => [operatorKey(operator.domain, operator.name), operator]));
}

/**
 * Computes one node with its reference kernel. Results may be views of the inputs. f16 and bf16 are computed in f32 and rounded
 * once at the end.
 *
 * @param tensors - One per input of the node; `undefined` where an optional input is left out.
 * @returns One tensor per output that the operator computes, in order; there may be more than the node names.
 * @throws {CloisterError} `SHAPE_MISMATCH` naming the node when the tensors do not fit; `UNSUPPORTED_MODEL`.
 */
export function runNode(
  node: Node,
  tensors: readonly (Tensor | undefined)[],
  operators: OperatorTable = OPERATORS,
): readonly Tensor[] {
  const version = findVersion(operators, node);
  if (!version)
    throw new CloisterError('UNSUPPORTED_MODEL', `${describeNode(node)}: no such operator`, { node: node.name });
  const context = RunContext.prepare(node, version, tensors);
  const kind = operators.get(operatorKey(node.domain, node.op))!.kind;
  if (kind === 'view' || !tensors.some(tensor => tensor !== undefined && isHalf(tensor))) return version.run(context);
  const wide = tensors.map(tensor => (tensor && isHalf(tensor) ? tensor.cast('f32') : tensor));
  return version
    .run(RunContext.prepare(node, version, wide))
    .map((result, i) => (result.dtype === 'f32' ? result.cast(context.outputs[i]!.dtype) : result));
}

function isHalf(tensor: Tensor): boolean {
  return tensor.dtype === 'f16' || tensor.dtype === 'bf16';
}
