/**
 * Running by the reference kernels: one node, or a whole graph value by value.
 * @module
 */
import { CloisterError } from '../base/index.ts';
import type { Tensor } from '../tensor/index.ts';
import type { Facts, Graph, Node, ValueId } from './graph.ts';
import { OPERATORS } from './ops/index.ts';
import {
  describeNode,
  type Evaluate,
  findVersion,
  type OperatorTable,
  operatorKey,
  RunContext,
} from './ops/operator.ts';

/** Who is asked before memory is taken, and told of what is held. */
export interface MemoryAccount {
  /** Throws when values of these facts do not fit beside what is held. A size that depends on elements is a symbol. */
  needs(facts: readonly Facts[]): void;
  /** Results that {@link runGraph} keeps until it is done. */
  holds(results: readonly Tensor[]): void;
}

/** What {@link runNode} and {@link runGraph} may be told. */
export interface RunOptions {
  /** The operators to run by; the whole table where left out. */
  readonly operators?: OperatorTable;
  /** The tensor of a constant; inline constants alone where left out. */
  readonly constant?: (graph: Graph, id: ValueId) => Tensor;
  /** How the subgraphs of a node are run; {@link runGraph} where left out. */
  readonly evaluate?: Evaluate;
  /** Without it, nothing but the size of a tensor limits memory. */
  readonly memory?: MemoryAccount;
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
  options: RunOptions = {},
): readonly Tensor[] {
  const operators = options.operators ?? OPERATORS;
  const version = findVersion(operators, node);
  if (!version) {
    throw new CloisterError('UNSUPPORTED_MODEL', `${describeNode(node)}: no such operator`, { node: node.name });
  }
  const evaluate: Evaluate = options.evaluate ?? ((graph, inputs) => runGraph(graph, inputs, options));
  const context = RunContext.prepare(node, version, tensors, evaluate);
  const { kind } = operators.get(operatorKey(node.domain, node.op))!;
  const halves = tensors.filter(tensor => tensor !== undefined && isHalf(tensor)) as readonly Tensor[];
  if (kind === 'view' || kind === 'control' || halves.length === 0) {
    // What a subgraph makes is asked for where it is made.
    if (kind !== 'control') options.memory?.needs(context.outputs);
    return version.run(context);
  }
  options.memory?.needs([...context.outputs, ...[...halves, ...context.outputs.filter(isHalf)].map(widened)]);
  const wide = tensors.map(tensor => (tensor && isHalf(tensor) ? tensor.cast('f32') : tensor));
  return version
    .run(RunContext.prepare(node, version, wide, evaluate))
    .map((result, i) => (result.dtype === 'f32' ? result.cast(context.outputs[i]!.dtype) : result));
}

function isHalf({ dtype }: Facts): boolean {
  return dtype === 'f16' || dtype === 'bf16';
}

function widened({ shape }: Facts): Facts {
  return { dtype: 'f32', shape };
}

/**
 * Computes the outputs of `graph` with the reference kernels, all at once: what a subgraph needs. A model is run by a backend,
 * which checks inputs, keeps limits and can be cancelled.
 *
 * @param inputs - One per input of the graph, in order.
 * @returns One per output, in order. May be views of inputs and constants.
 * @throws {CloisterError} as {@link runNode}; `UNSUPPORTED_MODEL` for a constant that lies in a file, without `options.constant`.
 * @example
 * ```ts
 * const b = new GraphBuilder('square');
 * const x = b.input('x', { dtype: 'f32', shape: ['N'] });
 * b.output(b.node({ op: 'Mul', inputs: [x, x] })[0]!);
 * runGraph(b.build(), [Tensor.of('f32', [1, 2, 3])])[0]?.toArray(); // [1, 4, 9]
 * ```
 */
export function runGraph(graph: Graph, inputs: readonly Tensor[], options: RunOptions = {}): readonly Tensor[] {
  const values = new Map<ValueId, Tensor>();
  graph.inputs.forEach((id, i) => {
    const tensor = inputs[i];
    if (tensor) values.set(id, tensor);
  });
  const tensorOf = (id: ValueId): Tensor => {
    const there = values.get(id);
    if (there) return there;
    const constant = graph.constants.get(id);
    const tensor = options.constant?.(graph, id) ?? (constant?.kind === 'inline' ? constant.tensor : undefined);
    if (!tensor) {
      const message = `value ${JSON.stringify(graph.values[id]!.name.slice(0, 80))} is not at hand`;
      throw new CloisterError('UNSUPPORTED_MODEL', message);
    }
    values.set(id, tensor);
    return tensor;
  };
  for (const node of graph.nodes) {
    const results = runNode(
      node,
      node.inputs.map(id => (id === undefined ? undefined : tensorOf(id))),
      options,
    );
    options.memory?.holds(results);
    node.outputs.forEach((id, i) => {
      if (id === undefined) return;
      const result = results[i];
      if (!result) throw new CloisterError('UNSUPPORTED_MODEL', `${describeNode(node)}: output ${i} has no kernel`);
      values.set(id, result);
    });
  }
  return graph.outputs.map(tensorOf);
}
