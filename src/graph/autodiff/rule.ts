/**
 * What a gradient rule is, and what it sees of its node.
 * @module
 */
import { CloisterError } from '../../base/index.ts';
import { Tensor } from '../../tensor/index.ts';
import { type Attribute, type Dim, type Facts, type Graph, isGraph, type Node, type ValueId } from '../graph.ts';
import { describeNode } from '../ops/operator.ts';
import { scalarKey, type Tape } from './tape.ts';

/**
 * The gradients of a node's inputs, one per input in order, from those of its outputs: it writes nodes that compute them and
 * returns their values. `undefined` for an input that has none: an index, a shape, a condition, or a float of which the
 * operator is piecewise constant.
 */
export type GradientRule = (g: GradientContext) => readonly (ValueId | undefined)[];

/** Rules by the key of the operator, as `operatorKey` spells it. */
export type GradientTable = ReadonlyMap<string, GradientRule>;

/** What rules lean on: differentiation itself. */
export interface Differentiation {
  /** Pulls gradients of outputs back through nodes that were written. */
  through(
    nodes: readonly Node[],
    seeds: readonly (readonly [output: ValueId, gradient: ValueId])[],
    wrt: readonly ValueId[],
  ): ReadonlyMap<ValueId, ValueId>;
  /**
   * The gradient of a subgraph: a graph with one more input per output in `of`, its gradient, and as outputs the gradients of the
   * inputs in `wrt`. Both are counted from 0.
   */
  ofGraph(graph: Graph, of: readonly number[], wrt: readonly number[]): Graph;
}

/** What a rule sees, and what it writes with. Nodes are written at the end of the graph. */
export class GradientContext {
  readonly node: Node;
  readonly #tape: Tape;
  readonly #gradients: readonly (ValueId | undefined)[];
  readonly #needed: ReadonlySet<ValueId>;
  readonly #differentiation: Differentiation;
  #forward: readonly ValueId[] | undefined;

  constructor(
    node: Node,
    tape: Tape,
    gradients: readonly (ValueId | undefined)[],
    needed: ReadonlySet<ValueId>,
    differentiation: Differentiation,
  ) {
    this.node = node;
    this.#tape = tape;
    this.#gradients = gradients;
    this.#needed = needed;
    this.#differentiation = differentiation;
  }

  // The node

  has(index: number): boolean {
    return this.node.inputs[index] !== undefined;
  }

  /** An input that the operator requires, or that {@link GradientContext.has} has found. */
  input(index: number): ValueId {
    return this.node.inputs[index] ?? this.fail(`input ${index} is missing`);
  }

  /** Whether somebody asks for the gradient of an input. A rule may compute it all the same; it is dropped then. */
  needs(index: number): boolean {
    const id = this.node.inputs[index];
    return id !== undefined && this.#needed.has(id);
  }

  /** Output `index` of the node. One that the node leaves out is computed by writing the node once more. */
  output(index = 0): ValueId {
    const own = this.node.outputs[index];
    if (own !== undefined) return own;
    const count = Math.max(index + 1, this.node.outputs.length);
    if (!this.#forward || this.#forward.length < count) {
      this.#forward = this.#tape.emit({ ...this.node, outputs: count });
    }
    return this.#forward[index]!;
  }

  /** The gradient of an output, of its shape and dtype; undefined where nothing depends on that output. */
  gradient(index: number): ValueId | undefined {
    return this.#gradients[index];
  }

  /** The gradient of output 0; zeros where only another output is asked for. */
  get dy(): ValueId {
    return this.#gradients[0] ?? this.zeros(this.output(0));
  }

  /** An attribute, or its default in the operator's version. */
  attribute(name: string): Attribute | undefined {
    return this.node.attributes[name] ?? this.#tape.version(this.node).attributes[name]?.default;
  }

  number(name: string): number {
    const value = this.attribute(name);
    return typeof value === 'number' ? value : this.fail(`attribute ${name} is missing`);
  }

  flag(name: string): boolean {
    const value = this.attribute(name);
    return typeof value === 'number' && value !== 0;
  }

  string(name: string): string {
    const value = this.attribute(name);
    return typeof value === 'string' ? value : this.fail(`attribute ${name} is missing`);
  }

  numbers(name: string): readonly number[] | undefined {
    const value = this.attribute(name);
    return Array.isArray(value) ? (value as readonly number[]) : undefined;
  }

  /** An attribute that holds a subgraph. */
  graph(name: string): Graph {
    const value = this.attribute(name);
    return isGraph(value) ? value : this.fail(`attribute ${name} is missing`);
  }

  // Values

  facts(id: ValueId): Facts {
    return this.#tape.facts(id);
  }

  shape(id: ValueId): readonly Dim[] {
    return this.#tape.facts(id).shape;
  }

  rankOf(id: ValueId): number {
    return this.#tape.facts(id).shape.length;
  }

  /** The elements of an integer value where all are known before the graph runs. */
  integers(id: ValueId): readonly number[] | undefined {
    const known = this.#tape.known(id);
    return known?.every(dim => typeof dim === 'number') ? (known as readonly number[]) : undefined;
  }

  /** An axis counted from 0. */
  axis(axis: number, rank: number): number {
    return axis < 0 ? axis + rank : axis;
  }

  // Writing

  /** Writes a node of the ONNX domain with one output. */
  op(op: string, inputs: readonly (ValueId | undefined)[], attributes: Node['attributes'] = {}): ValueId {
    return this.#tape.emit({ op, inputs, attributes })[0]!;
  }

  /** Writes a node of the ONNX domain with several outputs. */
  ops(
    op: string,
    outputs: number,
    inputs: readonly (ValueId | undefined)[],
    attributes: Node['attributes'] = {},
  ): readonly ValueId[] {
    return this.#tape.emit({ op, inputs, outputs, attributes });
  }

  /** Writes one of the gradient operators that ONNX does not have. */
  own(op: string, inputs: readonly (ValueId | undefined)[], attributes: Node['attributes'] = {}): ValueId {
    return this.#tape.emit({ op, domain: 'cloister', inputs, attributes })[0]!;
  }

  add(a: ValueId, b: ValueId): ValueId {
    return this.op('Add', [a, b]);
  }

  sub(a: ValueId, b: ValueId): ValueId {
    return this.op('Sub', [a, b]);
  }

  mul(a: ValueId, b: ValueId): ValueId {
    return this.op('Mul', [a, b]);
  }

  div(a: ValueId, b: ValueId): ValueId {
    return this.op('Div', [a, b]);
  }

  neg(a: ValueId): ValueId {
    return this.op('Neg', [a]);
  }

  /** `a` times a number. */
  scale(a: ValueId, by: number): ValueId {
    if (by === 1) return a;
    return by === -1 ? this.neg(a) : this.mul(a, this.scalar(by, a));
  }

  /** `a` plus a number. */
  shift(a: ValueId, by: number): ValueId {
    return by === 0 ? a : this.add(a, this.scalar(by, a));
  }

  where(condition: ValueId, yes: ValueId, no: ValueId): ValueId {
    return this.op('Where', [condition, yes, no]);
  }

  /** `yes` where the condition holds, else 0: infinities elsewhere do not matter. */
  mask(condition: ValueId, yes: ValueId): ValueId {
    return this.where(condition, yes, this.scalar(0, yes));
  }

  /** A number as a scalar of the dtype of another value. */
  scalar(value: number, like: ValueId = this.input(0)): ValueId {
    const { dtype } = this.facts(like);
    return this.#tape.constant(scalarKey(dtype, value), () => Tensor.of(dtype, value));
  }

  /** A list of integers, as axes and sizes are given. */
  list(values: readonly number[]): ValueId {
    return this.#tape.constant(`i64 [${values}]`, () => Tensor.of('i64', values));
  }

  /** The shape of a value as an i64 vector: a constant where it is known. */
  shapeOf(id: ValueId): ValueId {
    const shape = this.shape(id);
    return shape.every(dim => typeof dim === 'number') ? this.list(shape) : this.#tape.shapeOf(id);
  }

  /** The size of an axis of a value, as an i64 vector of one element. */
  sizeOf(id: ValueId, axis: number): ValueId {
    const size = this.shape(id)[axis]!;
    return typeof size === 'number'
      ? this.list([size])
      : this.op('Gather', [this.#tape.shapeOf(id), this.list([axis])]);
  }

  /** Zeros of the shape and dtype of a value. */
  zeros(like: ValueId): ValueId {
    return this.full(0, like);
  }

  /** One number in the shape and dtype of a value. */
  full(value: number, like: ValueId): ValueId {
    return this.op('ConstantOfShape', [this.shapeOf(like)], { value: Tensor.of(this.facts(like).dtype, [value]) });
  }

  /** The elements of a value in the shape of another. */
  reshapeLike(id: ValueId, like: ValueId): ValueId {
    const [from, to] = [this.shape(id), this.shape(like)];
    if (from.length === to.length && from.every((dim, i) => dim === to[i])) return id;
    return this.reshape(id, this.shapeOf(like));
  }

  /** The elements of a value in the shape that a vector gives; a 0 there is a size, not a copy of one. */
  reshape(id: ValueId, shape: ValueId): ValueId {
    const sizes = this.integers(shape);
    const literal = sizes?.every(size => size !== 0) ? {} : { allowzero: 1 };
    return this.op('Reshape', [id, shape], literal);
  }

  /** A value repeated to the shape of another, to which it broadcasts. */
  expandLike(id: ValueId, like: ValueId): ValueId {
    const [from, to] = [this.shape(id), this.shape(like)];
    if (from.length === to.length && from.every((dim, i) => dim === to[i])) return id;
    return this.op('Expand', [id, this.shapeOf(like)]);
  }

  unsqueeze(id: ValueId, axes: readonly number[]): ValueId {
    return axes.length === 0 ? id : this.op('Unsqueeze', [id, this.list(axes)]);
  }

  /** The sum along axes. */
  sum(id: ValueId, axes: readonly number[], keepdims = false): ValueId {
    return axes.length === 0 ? id : this.op('ReduceSum', [id, this.list(axes)], { keepdims: keepdims ? 1 : 0 });
  }

  transpose(id: ValueId, perm: readonly number[]): ValueId {
    return perm.every((axis, i) => axis === i) ? id : this.op('Transpose', [id], { perm });
  }

  /** The last two axes exchanged. */
  transposeLast(id: ValueId): ValueId {
    const rank = this.rankOf(id);
    return this.transpose(id, [...range(rank - 2), rank - 1, rank - 2]);
  }

  /**
   * Sums a gradient over the axes along which an operand was repeated: the gradient of broadcasting. Where it is not known
   * before the graph runs whether an axis was repeated (its size `s` may be 1 or the size `n` of the result), the axis is cut
   * into `n/s` rows of `s` and the rows are summed, which is right for both.
   */
  reduceTo(gradient: ValueId, operand: ValueId): ValueId {
    const to = this.shape(operand);
    const lead = this.rankOf(gradient) - to.length;
    let sum = this.sum(gradient, range(lead));
    const repeated = to.flatMap((dim, i) => (dim === 1 && this.shape(sum)[i] !== 1 ? [i] : []));
    sum = this.sum(sum, repeated, true);
    to.forEach((dim, i) => {
      const have = this.shape(sum)[i]!;
      if (have === dim || typeof dim === 'number') return;
      const size = this.sizeOf(operand, i);
      const rows = this.op('Div', [this.sizeOf(sum, i), this.op('Max', [size, this.list([1])])]);
      const sizes = to.map((_, axis) => this.sizeOf(axis < i ? operand : sum, axis));
      sizes.splice(i, 1, rows, size);
      sum = this.sum(this.reshape(sum, this.op('Concat', sizes, { axis: 0 })), [i]);
    });
    return this.reshapeLike(sum, operand);
  }

  /**
   * The gradients of the inputs through `forward`, which writes nodes that compute the outputs once more in operators that have
   * rules. For an operator that is a formula in others.
   */
  through(
    forward: (inputs: readonly (ValueId | undefined)[]) => readonly (ValueId | undefined)[],
  ): readonly (ValueId | undefined)[] {
    const { inputs } = this.node;
    const first = this.#tape.nodes.length;
    const outputs = forward(inputs);
    const nodes = this.#tape.nodes.slice(first);
    const seeds = outputs.flatMap((id, i) => {
      const gradient = this.#gradients[i];
      return id !== undefined && gradient !== undefined ? [[id, gradient] as const] : [];
    });
    const wrt = inputs.filter((id, i) => id !== undefined && this.needs(i)) as readonly ValueId[];
    const totals = this.#differentiation.through(nodes, seeds, [...new Set(wrt)]);
    // A value that stands at two inputs has one total.
    return inputs.map((id, i) => (id !== undefined && inputs.indexOf(id) === i ? totals.get(id) : undefined));
  }

  /** The gradient of a subgraph whose inputs are the inputs of the node from `first` on: see {@link Differentiation.ofGraph}. */
  gradientOf(graph: Graph, first: number, of: readonly number[], wrt: readonly number[]): Graph {
    const values = [...graph.values];
    graph.inputs.forEach((id, i) => {
      const { dtype, shape } = this.facts(this.input(first + i));
      // Sizes that were made up outside would be taken for those that are made up inside.
      const own = shape.map((dim, axis) => (String(dim).includes('?') ? `input ${i}.${axis}` : dim));
      values[id] = { ...values[id]!, facts: { dtype, shape: own } };
    });
    return this.#differentiation.ofGraph({ ...graph, values }, of, wrt);
  }

  /** Writes the nodes of a graph on values that stand for its inputs, and returns those of its outputs. */
  inline(graph: Graph, inputs: readonly ValueId[]): readonly ValueId[] {
    const ids = new Map<ValueId, ValueId>(graph.inputs.map((id, i) => [id, inputs[i]!]));
    for (const [id, constant] of graph.constants) {
      if (constant.kind === 'range') this.unsupported('a subgraph whose constants lie in the file');
      else
        ids.set(
          id,
          this.#tape.constant(`of node ${this.node.outputs[0]}: ${id}`, () => constant.tensor),
        );
    }
    for (const node of graph.nodes) {
      const written = this.#tape.emit({
        ...node,
        inputs: node.inputs.map(id => (id === undefined ? undefined : ids.get(id))),
        outputs: node.outputs.length,
      });
      node.outputs.forEach((id, i) => {
        if (id !== undefined) ids.set(id, written[i]!);
      });
    }
    return graph.outputs.map(id => ids.get(id)!);
  }

  // Refusing

  fail(message: string): never {
    throw new CloisterError('INVALID_GRAPH', `gradient of ${describeNode(this.node)}: ${message}`, this.#detail());
  }

  /** Throws an error which says that this form of the operator has no gradient here. */
  unsupported(message: string): never {
    throw new CloisterError('UNSUPPORTED_MODEL', `gradient of ${describeNode(this.node)}: ${message}`, this.#detail());
  }

  #detail(): { node: string; op: string } {
    return { node: this.node.name, op: this.node.op };
  }
}

/** The integers from 0 up to `count`. */
export function range(count: number, start = 0): readonly number[] {
  return Array.from({ length: Math.max(0, count) }, (_, i) => start + i);
}
