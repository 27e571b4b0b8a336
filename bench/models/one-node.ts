/**
 * Graphs of a single node: what a kernel costs when it is called as a model.
 * @module
 */
import type { Attribute, Dim, Graph } from '../../src/graph/index.ts';
import { type DType, Tensor } from '../../src/tensor/index.ts';
import { Network } from './network.ts';

/** An operand: an input of the graph by its name, or a constant. */
export type Operand = Tensor | { readonly name: string; readonly dtype: DType; readonly shape: readonly Dim[] };

/** The graph of one `op` over `operands`; its output is `y`. */
export function oneNode(
  op: string,
  operands: readonly Operand[],
  attributes: Readonly<Record<string, Attribute>> = {},
): Graph {
  const net = new Network(op, 0);
  const inputs = operands.map(operand =>
    operand instanceof Tensor ? net.constant(operand) : net.input(operand.name, operand.dtype, operand.shape),
  );
  return net.build(net.add(op, inputs, attributes, { output: 'y' }));
}
