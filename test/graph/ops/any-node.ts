/**
 * One node, run by its reference kernel on tensors whose sizes may decide less than its elements do.
 * @module
 */
import { type Attribute, checkNode, findVersion, type Node, OPERATORS, runNode } from '../../../src/graph/index.ts';
import type { Tensor } from '../../../src/tensor/index.ts';
import { infer } from './one-node.ts';

export interface NodeForm {
  readonly attributes?: Readonly<Record<string, Attribute>>;
  readonly opset?: number;
  readonly outputs?: number;
}

/** The node that has this form, checked against the version of its operator. */
export function nodeOf(op: string, inputs: readonly unknown[], form: NodeForm = {}): Node {
  const node: Node = {
    name: 'it',
    domain: '',
    op,
    opset: form.opset ?? 26,
    inputs: inputs.map((input, i) => (input === undefined ? undefined : i)),
    outputs: Array.from({ length: form.outputs ?? 1 }, (_, i) => 100 + i),
    attributes: form.attributes ?? {},
  };
  checkNode(node, findVersion(OPERATORS, node)!);
  return node;
}

/** The outputs of `op`. What inference knows of each, from the shapes alone, must be what comes. */
export function compute(op: string, inputs: readonly (Tensor | undefined)[], form: NodeForm = {}): readonly Tensor[] {
  const results = runNode(nodeOf(op, inputs, form), inputs).slice(0, form.outputs ?? 1);
  const facts = infer(
    op,
    inputs.map(x => x && { dtype: x.dtype, shape: x.shape }),
    { opset: 26, ...form },
  );
  results.forEach(({ dtype, shape }, i) => {
    const known = facts[i]!;
    const fits =
      shape.length === known.shape.length &&
      shape.every((dim, axis) => [dim, '?'].includes(loosely(known.shape[axis]!)));
    if (dtype !== known.dtype || !fits) throw new Error(`${op}: ${dtype}[${shape}] is not ${JSON.stringify(known)}`);
  });
  return results;
}

function loosely(dim: number | string): number | string {
  return typeof dim === 'number' ? dim : '?';
}

/** Every index of a tensor of `shape`, in row-major order. */
export function* indicesOf(shape: readonly number[]): Generator<readonly number[]> {
  if (shape.length === 0) {
    yield [];
    return;
  }
  for (let i = 0; i < shape[0]!; i++) for (const rest of indicesOf(shape.slice(1))) yield [i, ...rest];
}

/** The element at `index`, found the slow way. */
export function at(tensor: Tensor, index: readonly number[]): unknown {
  const flat = index.reduce((sum, i, axis) => sum * tensor.shape[axis]! + i, 0);
  return tensor.values()[flat];
}
