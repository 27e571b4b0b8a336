/**
 * Inference: the facts of every value, from those of the inputs and constants.
 * @module
 */
import { CloisterError } from '../base/index.ts';
import { DTYPES, elementCount, formatShape } from '../tensor/index.ts';
import type { Constant, Dim, Facts, Graph, Node, ValueId } from './graph.ts';
import { OPERATORS } from './ops/index.ts';
import {
  checkFacts,
  checkNode,
  describeNode,
  findVersion,
  InferContext,
  MAX_KNOWN,
  type OperatorTable,
  type SymbolSource,
} from './ops/operator.ts';

/** What {@link inferFacts} may be told. */
export interface InferOptions {
  /** Sizes of symbolic dimensions of the graph's inputs, by name. */
  readonly dims?: Readonly<Record<string, number>>;
  /** The operators to infer by; the whole table where left out. */
  readonly operators?: OperatorTable;
}

/**
 * Returns `graph` with the facts of every value inferred anew, after the symbolic dimensions of its inputs were replaced by
 * `dims`. Value ids, nodes and constants stay as they are. When every symbol of the inputs is bound and no shape depends on
 * computed data, every shape in the result is concrete.
 *
 * @throws {CloisterError} `INVALID_GRAPH` naming the node whose inputs do not fit; `UNSUPPORTED_MODEL` listing every node whose
 *   operator is unknown; `INVALID_ARGUMENT` when `dims` names no dimension or holds a size that is none.
 * @example
 * ```ts
 * const b = new GraphBuilder('double');
 * const x = b.input('x', { dtype: 'f32', shape: ['N'] });
 * const y = b.node({ op: 'Add', inputs: [x, x], outputs: ['y'] })[0]!;
 * b.output(y);
 * inferFacts(b.build(), { dims: { N: 4 } }).values[y]?.facts.shape; // [4]
 * ```
 */
export function inferFacts(graph: Graph, options: InferOptions = {}): Graph {
  const dims = options.dims ?? {};
  for (const [name, size] of Object.entries(dims)) {
    if (!Number.isSafeInteger(size) || size < 0) {
      throw new CloisterError('INVALID_ARGUMENT', `dimension ${name}: expected a size of at least 0, got ${size}`);
    }
    if (!graph.inputs.some(id => graph.values[id]!.facts.shape.includes(name))) {
      throw new CloisterError(
        'INVALID_ARGUMENT',
        `no input of graph ${graph.name} has a dimension ${JSON.stringify(name)}`,
      );
    }
  }
  const operators = options.operators ?? OPERATORS;
  refuseUnknown(graph.nodes, operators);
  const inference = new Inference(operators);
  const facts: Facts[] = graph.values.map(value => value.facts);
  for (const id of graph.inputs) {
    const { dtype, shape } = facts[id]!;
    facts[id] = freezeFacts({ dtype, shape: shape.map(dim => (typeof dim === 'string' ? (dims[dim] ?? dim) : dim)) });
    if (!graph.constants.has(id)) inference.define(id, facts[id]);
  }
  for (const [id, constant] of graph.constants) inference.define(id, facts[id]!, constant);
  for (const node of graph.nodes) {
    inference.node(node).forEach((inferred, i) => {
      const id = node.outputs[i];
      if (id !== undefined) facts[id] = inferred;
    });
  }
  const values = graph.values.map((value, id) => Object.freeze({ name: value.name, facts: facts[id]! }));
  return Object.freeze({ ...graph, values: Object.freeze(values) });
}

/**
 * Throws one error that names every node whose operator, at its opset, is not in `operators`.
 *
 * @throws {CloisterError} `UNSUPPORTED_MODEL`; `detail.operators` lists the operators, `detail.nodes` the nodes.
 */
export function refuseUnknown(
  nodes: readonly Pick<Node, 'name' | 'domain' | 'op' | 'opset'>[],
  operators: OperatorTable,
): void {
  const unknown = nodes.filter(node => findVersion(operators, node) === undefined);
  if (unknown.length === 0) return;
  const names = [
    ...new Set(unknown.map(node => `${node.domain === '' ? '' : `${node.domain}.`}${node.op}-${node.opset}`)),
  ];
  const shown = unknown.slice(0, 8).map(describeNode).join(', ');
  const rest = unknown.length > 8 ? ` and ${unknown.length - 8} more` : '';
  throw new CloisterError(
    'UNSUPPORTED_MODEL',
    `no kernel for ${names.slice(0, 32).join(' ')}: needed by ${shown}${rest}`,
    {
      operators: names.slice(0, MAX_LISTED),
      nodes: unknown.slice(0, MAX_LISTED).map(node => node.name),
    },
  );
}

/** An error lists at most so many names: a hostile model may have any number. */
const MAX_LISTED = 1000;

/** Facts of the values of one graph while its nodes are walked in order. */
export class Inference {
  readonly #operators: OperatorTable;
  readonly #facts = new Map<ValueId, Facts>();
  readonly #known = new Map<ValueId, readonly Dim[]>();
  readonly #symbols: SymbolSource;

  constructor(operators: OperatorTable) {
    this.#operators = operators;
    let count = 0;
    this.#symbols = { fresh: () => `?${count++}` };
  }

  /** Records an input or a constant. */
  define(id: ValueId, facts: Facts, constant?: Constant): void {
    this.#facts.set(id, facts);
    if (constant?.kind === 'inline' && DTYPES[facts.dtype].kind !== 'float' && constant.tensor.size <= MAX_KNOWN) {
      const values = constant.tensor.values().map(Number);
      if (values.every(Number.isSafeInteger)) this.#known.set(id, values);
      else
        this.#known.set(
          id,
          values.map(value => clampToSafe(value)),
        );
    }
  }

  /** Checks `node` against its operator, records the facts of its outputs and returns them. */
  node(node: Node): readonly Facts[] {
    const version = findVersion(this.#operators, node);
    if (!version) {
      refuseUnknown([node], this.#operators);
      return [];
    }
    checkNode(node, version);
    const context = new InferContext(
      node,
      version,
      node.inputs.map(id => (id === undefined ? undefined : this.#facts.get(id))),
      input => this.#known.get(node.inputs[input]!),
      this.#symbols,
    );
    const inferred = version.infer(context).map(freezeFacts);
    for (const facts of inferred) checkFacts(node, facts, 'INVALID_GRAPH');
    node.outputs.forEach((id, i) => {
      if (id === undefined) return;
      const facts = inferred[i] ?? context.fail(`has no output ${i}`);
      this.#facts.set(id, facts);
    });
    const known = version.known?.(context);
    const first = node.outputs[0];
    if (known && first !== undefined && known.length <= MAX_KNOWN) this.#known.set(first, known);
    return inferred;
  }
}

/** Checks the facts of an input or constant and freezes them. @throws {CloisterError} `INVALID_GRAPH`. */
export function declaredFacts(name: string, facts: Facts): Facts {
  for (const dim of facts.shape) {
    if (dim === '') throw new CloisterError('INVALID_GRAPH', `${name}: a symbolic dimension needs a name`);
  }
  try {
    elementCount(facts.shape.map(dim => (typeof dim === 'number' ? dim : 1)));
  } catch (cause) {
    const message = `value ${JSON.stringify(name)} of shape ${formatShape(facts.shape)} cannot exist: ${(cause as Error).message}`;
    throw new CloisterError('INVALID_GRAPH', message, { value: name }, { cause });
  }
  return freezeFacts(facts);
}

function freezeFacts(facts: Facts): Facts {
  return Object.freeze({ dtype: facts.dtype, shape: Object.freeze([...facts.shape]) });
}

/** int64 limits mean «to the end» in ONNX slices; a double keeps that meaning as the nearest safe integer. */
function clampToSafe(value: number): number {
  return Math.min(Math.max(value, Number.MIN_SAFE_INTEGER), Number.MAX_SAFE_INTEGER);
}
