/**
 * Constant folding.
 * @module
 */
import { isCloisterError } from '../../base/index.ts';
import { DTYPES, elementCount, Tensor } from '../../tensor/index.ts';
import type { Constant, ConstantReader, Facts, Graph, Node, ValueId } from '../graph.ts';
import { integerTensor } from '../infer.ts';
import { OPERATORS } from '../ops/index.ts';
import { findVersion, InferContext, operatorKey } from '../ops/operator.ts';
import { runNode } from '../run.ts';
import { removeDeadNodes } from './dead-nodes.ts';

/** What {@link foldConstants} may be told. */
export interface FoldOptions {
  /** Where the bytes of `range` constants are; where left out, they are not folded. */
  readonly constants?: ConstantReader;
  /**
   * The most bytes that a folded value, or a constant that is read for it, may have. Default 64 KiB: shapes, not
   * weights.
   */
  readonly limitBytes?: number;
  /** Leaves DequantizeLinear as it is, for passes that compute on the integers. Default false. */
  readonly keepQuantised?: boolean;
}

/**
 * Returns `graph` with every node that has a known result replaced by that result, computed by the reference kernels:
 * nodes over small constants, and nodes whose integers follow from shapes (`Shape` and what is computed from it). Facts
 * must have been inferred. A node that fails to compute stays, and fails where it is run.
 * @example
 * ```ts
 * const b = new GraphBuilder('half folded');
 * const x = b.input('x', { dtype: 'f32', shape: ['N'] });
 * const [two, three] = [2, 3].map(n => b.constant(`c${n}`, Tensor.of('f32', n)));
 * const six = b.node({ op: 'Mul', inputs: [two!, three!] })[0]!;
 * b.output(b.node({ op: 'Add', inputs: [x, six], outputs: ['y'] })[0]!);
 * foldConstants(b.build()).nodes.map(node => node.op); // ['Add']
 * ```
 */
export function foldConstants(graph: Graph, options: FoldOptions = {}): Graph {
  const limitBytes = options.limitBytes ?? 65_536;
  const constants = new Map<ValueId, Constant>(graph.constants);
  const overridable = new Set(graph.inputs);
  const tensors = new Map<ValueId, Tensor>();
  const nodes: Node[] = [];

  /** A constant that may be looked at. */
  const smallConstant = (id: ValueId): Constant | undefined => {
    const constant = constants.get(id);
    const there = constant?.kind === 'inline' || options.constants !== undefined;
    return there && !overridable.has(id) && bytesOf(graph.values[id]!.facts) <= limitBytes ? constant : undefined;
  };
  const tensorOf = (id: ValueId): Tensor | undefined => {
    const constant = smallConstant(id);
    if (constant === undefined || constant.kind === 'inline') return constant?.tensor;
    if (options.constants === undefined) return undefined;
    const { facts } = graph.values[id]!;
    const cached = tensors.get(id);
    if (cached !== undefined) return cached;
    const bytes = options.constants.read(constant.offset, constant.length);
    const tensor = Tensor.fromBytes(facts.dtype, facts.shape as readonly number[], bytes);
    tensors.set(id, tensor);
    return tensor;
  };

  for (const node of graph.nodes) {
    const kept = options.keepQuantised === true && node.op === 'DequantizeLinear';
    const results = !kept && fits(graph, node, limitBytes) ? evaluate(graph, node, tensorOf, smallConstant) : undefined;
    if (results === undefined) {
      nodes.push(node);
      continue;
    }
    node.outputs.forEach((id, i) => {
      if (id !== undefined) constants.set(id, Object.freeze({ kind: 'inline', tensor: results[i]! }));
    });
  }
  if (nodes.length === graph.nodes.length) return graph;
  return removeDeadNodes(Object.freeze({ ...graph, nodes: Object.freeze(nodes), constants }));
}

/** Bytes of a value; NaN while a size is symbolic. */
function bytesOf({ dtype, shape }: Facts): number {
  if (shape.some(dim => typeof dim === 'string')) return Number.NaN;
  return elementCount(shape as readonly number[]) * DTYPES[dtype].bytes;
}

/** Whether the results are small enough. A node without inputs (`Constant`) holds its result already. */
function fits(graph: Graph, node: Node, limitBytes: number): boolean {
  if (node.inputs.length === 0) return true;
  return node.outputs.every(id => id === undefined || bytesOf(graph.values[id]!.facts) <= limitBytes);
}

function evaluate(
  graph: Graph,
  node: Node,
  tensorOf: (id: ValueId) => Tensor | undefined,
  smallConstant: (id: ValueId) => Constant | undefined,
): readonly Tensor[] | undefined {
  const [out] = node.outputs;
  // Nothing is read from the file before all of it is known to be of use.
  const constant = node.inputs.every(id => id === undefined || smallConstant(id) !== undefined);
  const listed =
    node.outputs.length === 1 && out !== undefined && DTYPES[graph.values[out]!.facts.dtype].kind === 'int';
  if (!constant && !listed) return undefined;
  const version = findVersion(OPERATORS, node);
  if (version === undefined || OPERATORS.get(operatorKey(node.domain, node.op))!.kind === 'control') return undefined;
  try {
    if (constant) {
      const inputs = node.inputs.map(id => (id === undefined ? undefined : tensorOf(id)));
      // A result may be a view of an input; a constant of its own holds no more bytes than it has elements.
      return runNode(node, inputs).map(result => result.clone());
    }
    if (version.known === undefined || !listed) return undefined;
    const facts = node.inputs.map(id => (id === undefined ? undefined : graph.values[id]!.facts));
    const known = (i: number): readonly number[] | undefined => tensorOf(node.inputs[i]!)?.values().map(Number);
    const integerList = version.known(new InferContext(node, version, facts, known, NO_SYMBOLS));
    return integerList === undefined ? undefined : integers(graph.values[out]!.facts, integerList);
  } catch (error) {
    if (isCloisterError(error)) return undefined;
    throw error;
  }
}

/** Symbols for a rule that may ask for one: a size by this name is no number, so nothing is made of it. */
const NO_SYMBOLS = { fresh: (): string => '?', outputsOf: (): readonly Facts[] => [] };

function integers({ dtype, shape }: Facts, known: readonly (number | string)[]): readonly Tensor[] | undefined {
  if (!known.every(item => typeof item === 'number')) return undefined;
  const tensor = integerTensor(dtype, shape as readonly number[], known);
  return tensor && [tensor];
}
