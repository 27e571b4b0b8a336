/**
 * Inference: the facts of every value, from those of the inputs and constants.
 * @module
 */
import { CloisterError, isCloisterError } from '../base/index.ts';
import { DTYPES, type DType, elementCount, formatShape, newArray, Tensor } from '../tensor/index.ts';
import { canonicalDim, namesOf, substituteDim } from './dimension.ts';
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
  type OperatorVersion,
  operatorKey,
  type SymbolSource,
} from './ops/operator.ts';
import { runNode } from './run.ts';

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
  const open = graph.inputs.flatMap(id => graph.values[id]!.facts.shape);
  const names = new Set<Dim>([...open, ...open.flatMap(namesOf)]);
  for (const [name, size] of Object.entries(dims)) {
    if (!Number.isSafeInteger(size) || size < 0) {
      throw new CloisterError('INVALID_ARGUMENT', `dimension ${name}: expected a size of at least 0, got ${size}`);
    }
    if (!names.has(name)) {
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
    facts[id] = freezeFacts({ dtype, shape: shape.map(dim => substituteDim(dim, dims)) });
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

/** How deep subgraphs may lie in subgraphs. */
export const MAX_NESTING = 8;

/**
 * Facts of the values of one graph while its nodes are walked in order. Short lists of elements are followed as well: shapes are
 * computed by ordinary nodes, so a node whose inputs are all known is computed here and now.
 */
export class Inference {
  readonly #operators: OperatorTable;
  readonly #facts = new Map<ValueId, Facts>();
  /** Elements of values that are lists of integers, some of which may be symbols. */
  readonly #known = new Map<ValueId, readonly Dim[]>();
  /** Values of at most {@link MAX_KNOWN} elements that are known in full. */
  readonly #tensors = new Map<ValueId, Tensor>();
  readonly #symbols: SymbolSource;
  /** The subgraphs that the rule of the current node has asked for. */
  #entered: { readonly graph: Graph; readonly inference: Inference }[] = [];

  readonly #depth: number;
  readonly #outer: Inference | undefined;
  #count = 0;

  /** @param outer - The inference of the graph around, for a subgraph. */
  constructor(operators: OperatorTable, outer?: Inference) {
    this.#operators = operators;
    this.#outer = outer;
    this.#depth = outer ? outer.#depth + 1 : 0;
    this.#symbols = {
      fresh: outer ? outer.#symbols.fresh : () => `?${this.#count++}`,
      outputsOf: (graph, inputs) => this.#outputsOf(graph, inputs),
    };
  }

  /** Records an input or a constant. */
  define(id: ValueId, facts: Facts, constant?: Constant): void {
    this.#facts.set(id, facts);
    for (const dim of facts.shape) {
      // An input of a subgraph may have a size that was made up outside of it.
      if (typeof dim === 'string' && /^\?\d{1,9}$/.test(dim))
        this.#count = Math.max(this.#count, Number(dim.slice(1)) + 1);
    }
    if (constant?.kind === 'inline' && constant.tensor.size <= MAX_KNOWN) this.#tensors.set(id, constant.tensor);
  }

  /** Records an input of a subgraph that is value `outside` of the graph around it, with all that is known of it there. */
  capture(id: ValueId, outside: ValueId): void {
    const outer = this.#outer!;
    this.define(id, outer.#facts.get(outside)!);
    const known = outer.#known.get(outside);
    if (known) this.#known.set(id, known);
    const tensor = outer.#tensors.get(outside);
    if (tensor) this.#tensors.set(id, tensor);
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
      input => this.#knownOf(node.inputs[input]!),
      this.#symbols,
      'INVALID_GRAPH',
      input => this.#tensors.get(node.inputs[input]!),
    );
    this.#entered = [];
    const inferred = version.infer(context).map(freezeFacts);
    for (const facts of inferred) checkFacts(node, facts, 'INVALID_GRAPH');
    node.outputs.forEach((id, i) => {
      if (id === undefined) return;
      const facts = inferred[i] ?? context.fail(`has no output ${i}`);
      this.#facts.set(id, facts);
    });
    this.#follow(node, version, context, inferred);
    return inferred;
  }

  /** Records what is known of the elements of the outputs. */
  #follow(node: Node, version: OperatorVersion, context: InferContext, inferred: readonly Facts[]): void {
    const first = node.outputs[0];
    if (first === undefined) return;
    const known = version.known?.(context);
    if (known && known.length <= MAX_KNOWN) {
      this.#known.set(first, known);
      return;
    }
    const small = inferred.every(
      ({ shape }) =>
        shape.every(dim => typeof dim === 'number') && elementCount(shape as readonly number[]) <= MAX_KNOWN,
    );
    if (this.#operators.get(operatorKey(node.domain, node.op))!.kind === 'control') {
      const [only, other] = this.#entered;
      if (!only || other) return;
      node.outputs.forEach((id, i) => {
        this.#adopt(id, only.inference, only.graph.outputs[i]);
      });
      return;
    }
    if (!small) return;
    const inputs = node.inputs.map(id => (id === undefined ? undefined : this.#tensorOf(id)));
    if (inputs.some((tensor, i) => tensor === undefined && node.inputs[i] !== undefined)) return;
    try {
      const results = runNode(node, inputs, { operators: this.#operators });
      node.outputs.forEach((id, i) => {
        const result = results[i];
        if (id !== undefined && result && result.size <= MAX_KNOWN) this.#tensors.set(id, result);
      });
    } catch (error) {
      // It fails where it is run, if it is; a shape that needs it is not known before.
      if (!isCloisterError(error)) throw error;
    }
  }

  /** The elements of a value that is a short list of integers, where they have been followed. */
  known(id: ValueId): readonly Dim[] | undefined {
    return this.#knownOf(id);
  }

  /** Takes over what is known of an output of the one subgraph that can run. */
  #adopt(id: ValueId | undefined, inner: Inference, inside: ValueId | undefined): void {
    if (id === undefined || inside === undefined) return;
    const known = inner.#known.get(inside);
    if (known) this.#known.set(id, known);
    const tensor = inner.#tensors.get(inside);
    if (tensor) this.#tensors.set(id, tensor);
  }

  /** A value of at most {@link MAX_KNOWN} elements, where it is known whatever the model is given. */
  tensor(id: ValueId): Tensor | undefined {
    return this.#tensorOf(id);
  }

  #knownOf(id: ValueId): readonly Dim[] | undefined {
    const known = this.#known.get(id);
    const tensor = this.#tensors.get(id);
    if (known !== undefined || tensor === undefined) return known;
    const { kind } = DTYPES[tensor.dtype];
    if (kind !== 'int' && kind !== 'bool') return undefined;
    const values = tensor.values().map(value => clampToSafe(Number(value)));
    this.#known.set(id, values);
    return values;
  }

  #tensorOf(id: ValueId): Tensor | undefined {
    const tensor = this.#tensors.get(id);
    if (tensor) return tensor;
    const known = this.#known.get(id);
    const { dtype, shape } = this.#facts.get(id)!;
    if (!known?.every(item => typeof item === 'number') || shape.some(dim => typeof dim !== 'number')) return undefined;
    const made = integerTensor(dtype, shape as readonly number[], known as readonly number[]);
    if (made) this.#tensors.set(id, made);
    return made;
  }

  #outputsOf(graph: Graph, inputs: readonly (ValueId | undefined)[]): readonly Facts[] {
    if (this.#depth === MAX_NESTING) {
      throw new CloisterError('UNSUPPORTED_MODEL', `subgraphs lie more than ${MAX_NESTING} deep in each other`);
    }
    const inner = new Inference(this.#operators, this);
    graph.inputs.forEach((id, i) => {
      inner.capture(id, inputs[i]!);
    });
    for (const [id, constant] of graph.constants) inner.define(id, graph.values[id]!.facts, constant);
    for (const node of graph.nodes) inner.node(node);
    this.#entered.push({ graph, inference: inner });
    return graph.outputs.map(id => inner.#facts.get(id)!);
  }
}

/** A list of integers as a tensor; undefined where they are not as many as the shape needs, or of no integer dtype. */
export function integerTensor(dtype: DType, shape: readonly number[], values: readonly number[]): Tensor | undefined {
  const { kind } = DTYPES[dtype];
  if ((kind !== 'int' && kind !== 'bool') || elementCount(shape) !== values.length) return undefined;
  const data = newArray(dtype, values.length);
  const big = data instanceof BigInt64Array || data instanceof BigUint64Array;
  values.forEach((value, i) => {
    (data as unknown as Record<number, number | bigint>)[i] = big ? BigInt(value) : value;
  });
  return Tensor.from(dtype, shape, data);
}

/** Checks the facts of an input or constant and freezes them. @throws {CloisterError} `INVALID_GRAPH`. */
export function declaredFacts(name: string, facts: Facts): Facts {
  for (const dim of facts.shape) {
    if (dim === '') throw new CloisterError('INVALID_GRAPH', `${name}: a symbolic dimension needs a name`);
  }
  const shape = facts.shape.map(dim => (typeof dim === 'string' ? canonicalDim(dim) : dim));
  try {
    elementCount(shape.map(dim => (typeof dim === 'number' ? dim : 1)));
  } catch (cause) {
    const message = `value ${JSON.stringify(name)} of shape ${formatShape(facts.shape)} cannot exist: ${(cause as Error).message}`;
    throw new CloisterError('INVALID_GRAPH', message, { value: name }, { cause });
  }
  return freezeFacts({ dtype: facts.dtype, shape });
}

function freezeFacts(facts: Facts): Facts {
  return Object.freeze({ dtype: facts.dtype, shape: Object.freeze([...facts.shape]) });
}

/** int64 limits mean «to the end» in ONNX slices; a double keeps that meaning as the nearest safe integer. */
function clampToSafe(value: number): number {
  return Math.min(Math.max(value, Number.MIN_SAFE_INTEGER), Number.MAX_SAFE_INTEGER);
}
