/**
 * Lowering: how each operator that the native backend runs becomes steps of a program. One entry per operator, in the groups of
 * `src/graph/ops`.
 * @module
 */
import { type Facts, findVersion, type Node, OPERATORS, type ValueId } from '../../graph/index.ts';
import { ATTENTION, MICROSOFT_ATTENTION } from './attention.ts';
import { CHAINS } from './chain.ts';
import { CLASSICAL } from './classical.ts';
import { CORE } from './core.ts';
import { LINEAR, LINEAR_FUSED } from './linear.ts';
import type { Lowering, Lowerings } from './lowering.ts';
import { MOVEMENT } from './movement.ts';
import { MICROSOFT_NORMALISATION, NORMALISATION } from './normalisation.ts';
import { MICROSOFT_QUANTISED, QUANTISED } from './quantised.ts';
import { RECURRENT } from './recurrent.ts';
import { VISION } from './vision.ts';

/** By domain, then by operator. */
const LOWERINGS: Readonly<Record<string, Lowerings>> = {
  '': { ...CORE, ...LINEAR, ...MOVEMENT, ...VISION, ...ATTENTION, ...RECURRENT, ...NORMALISATION, ...QUANTISED },
  'ai.onnx.ml': CLASSICAL,
  'com.microsoft': { ...LINEAR_FUSED, ...MICROSOFT_ATTENTION, ...MICROSOFT_NORMALISATION, ...MICROSOFT_QUANTISED },
  cloister: CHAINS,
};

/** The inputs of `node` that a step reads. */
export function dataInputs(node: Node): readonly ValueId[] {
  const parameters = findLowering(node)?.parameters ?? [];
  return node.inputs.filter((id, i): id is ValueId => id !== undefined && !parameters.includes(i));
}

/** The inputs of `node` that are read while planning. */
export function parameterInputs(node: Node): readonly ValueId[] {
  const parameters = findLowering(node)?.parameters ?? [];
  return node.inputs.filter((id, i): id is ValueId => id !== undefined && parameters.includes(i));
}

/** How `node` is lowered, if its operator is. */
export function findLowering(node: Node): Lowering | undefined {
  const lowerings = Object.hasOwn(LOWERINGS, node.domain) ? LOWERINGS[node.domain]! : {};
  return Object.hasOwn(lowerings, node.op) ? lowerings[node.op] : undefined;
}

/** Why the native backend does not run `node`, whose inputs and outputs have these facts; undefined when it does. */
export function refusal(
  node: Node,
  inputs: readonly (Facts | undefined)[],
  outputs: readonly (Facts | undefined)[],
): string | undefined {
  const lowering = findLowering(node);
  if (lowering === undefined) return `no native kernel for ${node.domain === '' ? '' : `${node.domain}.`}${node.op}`;
  if (findVersion(OPERATORS, node) === undefined) return `${node.op} has no version for opset ${node.opset}`;
  const parameters = lowering.parameters ?? [];
  if (lowering.float) {
    const data = [...inputs.filter((_, i) => !parameters.includes(i)), ...outputs];
    const other = data.find(facts => facts !== undefined && facts.dtype !== 'f32');
    if (other !== undefined) return `native kernels compute in f32, not ${other.dtype}`;
  }
  return lowering.refuses?.(node, inputs);
}
