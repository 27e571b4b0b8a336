/**
 * What an operator is: one entry of the table per operator, with its versions, attributes, shape rule and reference kernel.
 * @module
 */
import { CloisterError, type ErrorCode } from '../../base/index.ts';
import { type DType, elementCount, formatShape, MAX_RANK, normaliseAxis, Tensor } from '../../tensor/index.ts';
import { canonicalDim, productOf, sumOf } from '../dimension.ts';
import { type Attribute, type Dim, type Facts, type Graph, isGraph, type Node, type ValueId } from '../graph.ts';

/** The form of one attribute. Absent and without a default, an attribute is undefined to the rule, unless it is required. */
export interface AttributeSpec {
  readonly type: 'int' | 'float' | 'string' | 'ints' | 'floats' | 'strings' | 'tensor' | 'graph';
  readonly default?: number | string | readonly number[];
  readonly required?: boolean;
}

/** How many inputs or outputs: at least and at most. */
export type Arity = readonly [least: number, most: number];

/** What an operator means from one opset on, until the next version in its entry. */
export interface OperatorVersion {
  /** The first opset of the domain in which this holds. */
  readonly since: number;
  readonly inputs: Arity;
  readonly outputs: Arity;
  readonly attributes: Readonly<Record<string, AttributeSpec>>;
  /**
   * The facts of the outputs from the facts of the inputs: the only place that knows a shape. With concrete inputs the result is
   * concrete, unless a size depends on elements, and the kernel relies on it.
   */
  readonly infer: (c: InferContext) => readonly Facts[];
  /** The elements of output 0 where they are a short list of integers that follow from shapes. */
  readonly known?: (c: InferContext) => readonly Dim[] | undefined;
  /**
   * Computes the outputs. May return views of its inputs. The oracle for every other executor. Where a size of an output
   * depends on elements, `infer` gives it a fresh name even when all inputs are concrete, and the kernel makes the tensor itself.
   */
  readonly run: (c: RunContext) => readonly Tensor[];
}

/**
 * How outputs relate to inputs, for planners: `elementwise`, each element of output 0 depends on the elements at the same
 * (broadcast) place only; `view`, output 0 can share the bytes of input 0 unchanged; `control`, the outputs are those of a subgraph;
 * `compute`, anything else.
 */
export type OperatorKind = 'elementwise' | 'view' | 'control' | 'compute';

/** One entry of the operator table. */
export interface Operator {
  /** `''` is the ONNX default domain. */
  readonly domain: string;
  readonly name: string;
  readonly kind: OperatorKind;
  /** Ascending by `since`. */
  readonly versions: readonly OperatorVersion[];
}

/** Operators by `domain:name`, as {@link operatorKey} spells it. */
export type OperatorTable = ReadonlyMap<string, Operator>;

/** The key of an operator in an {@link OperatorTable}. */
export function operatorKey(domain: string, name: string): string {
  return `${domain}:${name}`;
}

/** The highest opset of the ONNX default domain that the table was written against. */
export const MAX_OPSET = 28;

/** The version of `node`'s operator that its opset selects, or undefined where the table has none. */
export function findVersion(
  table: OperatorTable,
  node: Pick<Node, 'domain' | 'op' | 'opset'>,
): OperatorVersion | undefined {
  if (node.domain === '' && node.opset > MAX_OPSET) return undefined;
  return table.get(operatorKey(node.domain, node.op))?.versions.findLast(version => version.since <= node.opset);
}

/** A node as messages name it. Names come from the model file, so they are quoted and cut. */
export function describeNode(node: Pick<Node, 'op' | 'name'>): string {
  return `${node.op.slice(0, 80)} ${JSON.stringify(node.name.slice(0, 80))}`;
}

/** Where the names of unknown sizes come from, and what is shared while one graph is inferred. */
export interface SymbolSource {
  /** A name that no dimension of the graph has yet. */
  fresh(): string;
  /** The facts of the outputs of a subgraph whose inputs are these values of the graph around it. */
  outputsOf(graph: Graph, inputs: readonly (ValueId | undefined)[]): readonly Facts[];
}

/** A symbol that spells its own derivation is cut off here: a chain of concatenations would double it at each step. */
const MAX_SYMBOL_LENGTH = 80;

/** What a shape rule sees of its node. */
export class InferContext {
  readonly node: Node;
  readonly inputs: readonly (Facts | undefined)[];
  readonly #version: OperatorVersion;
  readonly #known: (input: number) => readonly Dim[] | undefined;
  readonly #symbols: SymbolSource;
  readonly #code: ErrorCode;
  readonly #tensor: (input: number) => Tensor | undefined;

  constructor(
    node: Node,
    version: OperatorVersion,
    inputs: readonly (Facts | undefined)[],
    known: (input: number) => readonly Dim[] | undefined,
    symbols: SymbolSource,
    code: ErrorCode = 'INVALID_GRAPH',
    tensor: (input: number) => Tensor | undefined = () => undefined,
  ) {
    this.node = node;
    this.inputs = inputs;
    this.#version = version;
    this.#known = known;
    this.#symbols = symbols;
    this.#code = code;
    this.#tensor = tensor;
  }

  /** The facts of an input that the arity check has found present. */
  input(index: number): Facts {
    return this.inputs[index] ?? this.fail(`input ${index} is missing`);
  }

  /** The elements of an integer input, in row-major order, where they are known; an unknown single element is a symbol. */
  known(index: number): readonly Dim[] | undefined {
    return this.inputs[index] ? this.#known(index) : undefined;
  }

  /** {@link InferContext.known}, with every element a number. */
  integers(index: number): readonly number[] | undefined {
    const dims = this.known(index);
    return dims?.every(dim => typeof dim === 'number') ? (dims as readonly number[]) : undefined;
  }

  /** The elements of a float input, in row-major order, where they are known. */
  floats(index: number): readonly number[] | undefined {
    const facts = this.inputs[index];
    const tensor = facts instanceof Tensor ? facts : facts && this.#tensor(index);
    return tensor && tensor.size <= MAX_KNOWN ? tensor.values().map(Number) : undefined;
  }

  has(name: string): boolean {
    return this.#attribute(name) !== undefined;
  }

  /** An integer or float attribute with a default, or a required one. */
  number(name: string): number {
    const value = this.#attribute(name);
    return typeof value === 'number' ? value : this.fail(`attribute ${name} is missing`);
  }

  string(name: string): string {
    const value = this.#attribute(name);
    return typeof value === 'string' ? value : this.fail(`attribute ${name} is missing`);
  }

  numbers(name: string): readonly number[] | undefined {
    const value = this.#attribute(name);
    return Array.isArray(value) ? (value as readonly number[]) : undefined;
  }

  tensor(name: string): Tensor | undefined {
    const value = this.#attribute(name);
    return value instanceof Tensor ? value : undefined;
  }

  /** A subgraph that the node must have. */
  graph(name: string): Graph {
    const value = this.#attribute(name);
    return isGraph(value) ? value : this.fail(`attribute ${name} is missing`);
  }

  /** The facts of the outputs of a subgraph of this node whose inputs are the node's own from input `first` on. */
  outputsOf(graph: Graph, first: number): readonly Facts[] {
    return this.#symbols.outputsOf(graph, this.node.inputs.slice(first));
  }

  /** `axis` counted from 0; fails when a tensor of `rank` has no such axis. */
  axis(axis: number, rank: number): number {
    if (!Number.isInteger(axis) || axis < -rank || axis >= rank) {
      this.fail(`expected an axis of a rank ${rank} tensor, got ${axis}`);
    }
    return normaliseAxis(axis, rank);
  }

  /** The distinct axes that `axes` name, counted from 0. */
  axes(axes: readonly number[], rank: number): readonly number[] {
    const out = axes.map(axis => this.axis(axis, rank));
    if (new Set(out).size !== out.length) this.fail(`expected distinct axes, got ${formatShape(axes)}`);
    return out;
  }

  /** A size that nothing is known of. */
  fresh(): string {
    return this.#symbols.fresh();
  }

  /**
   * A computed size: `value` where all of `dims` are numbers, else the size that `expression` spells, in its one spelling, so that
   * equal sizes are known to be equal. What is no sum or product is spelt as a call, and a difference with spaces around the minus.
   */
  derive(expression: string, dims: readonly Dim[], value: (...dims: number[]) => number): Dim {
    if (dims.every(dim => typeof dim === 'number')) return value(...(dims as number[]));
    return this.#short(canonicalDim(expression));
  }

  /** The product of sizes. */
  product(dims: readonly Dim[]): Dim {
    if (dims.every(dim => typeof dim === 'number')) return dims.reduce<number>((size, dim) => size * dim, 1);
    // Names are the model's, and may be of any length: what will not be spelt is not multiplied out.
    const spelt = dims.reduce<number>((sum, dim) => sum + (typeof dim === 'string' ? dim.length : 0), 0);
    return spelt > 8 * MAX_SYMBOL_LENGTH ? this.fresh() : this.#short(productOf(dims));
  }

  /** A size that has become too long to spell is one that nothing is known of. */
  #short(dim: Dim | undefined): Dim {
    const long = dim === undefined || (typeof dim === 'string' && dim.length > MAX_SYMBOL_LENGTH);
    return long ? this.fresh() : dim;
  }

  /** Whether two sizes are known to differ: 3 and 4 do, and so do `n` and `n+1`. */
  differ(a: Dim, b: Dim): boolean {
    if (a === b) return false;
    if (typeof a === 'number' && typeof b === 'number') return true;
    const difference = sumOf([a, productOf([b, -1]) ?? b]);
    return typeof difference === 'number' && difference !== 0;
  }

  /** Fails unless two sizes may be equal; returns the better known one. */
  same(a: Dim, b: Dim, what: string): Dim {
    if (this.differ(a, b)) this.fail(`${what}: ${a} and ${b} differ`);
    return typeof a === 'number' ? a : b;
  }

  /** The shape to which the inputs broadcast. Two different symbols give a fresh one. */
  broadcast(a: readonly Dim[], b: readonly Dim[]): readonly Dim[] {
    const rank = Math.max(a.length, b.length);
    return Array.from({ length: rank }, (_, i) => {
      const left = a[a.length - rank + i] ?? 1;
      const right = b[b.length - rank + i] ?? 1;
      if (left === right || right === 1) return left;
      if (left === 1) return right;
      if (typeof left === 'number' && typeof right === 'number') {
        this.fail(`cannot broadcast ${formatShape(a)} with ${formatShape(b)}: sizes ${left} and ${right} differ`);
      }
      if (typeof left === 'number') return left;
      if (typeof right === 'number') return right;
      return this.fresh();
    });
  }

  /** Fails unless input `index`, where present, has one of `dtypes`. */
  expect(index: number, dtypes: readonly DType[]): void {
    const facts = this.inputs[index];
    if (facts && !dtypes.includes(facts.dtype)) {
      const message = `${describeNode(this.node)}: input ${index}: expected one of ${dtypes.join(' ')}, got ${facts.dtype}`;
      throw new CloisterError('UNSUPPORTED_MODEL', message, { node: this.node.name, op: this.node.op });
    }
  }

  /** Fails unless two inputs are of one dtype. */
  sameDType(a: number, b: number): void {
    const [left, right] = [this.inputs[a], this.inputs[b]];
    if (left && right && left.dtype !== right.dtype) {
      this.fail(`inputs ${a} and ${b} must be of one dtype, got ${left.dtype} and ${right.dtype}`);
    }
  }

  /** Fails unless input `index` has `rank` dimensions. */
  rank(index: number, rank: number): void {
    const facts = this.inputs[index];
    if (facts && facts.shape.length !== rank) {
      this.fail(`input ${index}: expected ${rank} dimensions, got ${formatShape(facts.shape)}`);
    }
  }

  /** Throws an error that names the node. */
  fail(message: string): never {
    throw new CloisterError(this.#code, `${describeNode(this.node)}: ${message}`, {
      node: this.node.name,
      op: this.node.op,
      inputs: this.inputs.map(facts => (facts ? `${facts.dtype}${formatShape(facts.shape)}` : null)),
    });
  }

  /** Throws an error which says that the node is well formed, but that no kernel here computes it. */
  unsupported(message: string): never {
    throw new CloisterError('UNSUPPORTED_MODEL', `${describeNode(this.node)}: ${message}`, {
      node: this.node.name,
      op: this.node.op,
    });
  }

  #attribute(name: string): Attribute | undefined {
    return this.node.attributes[name] ?? this.#version.attributes[name]?.default;
  }
}

/** What a kernel sees: concrete facts, and the tensors themselves. */
export class RunContext extends InferContext {
  readonly tensors: readonly (Tensor | undefined)[];
  /** The concrete facts of the outputs. */
  readonly outputs: readonly Facts[];
  readonly #evaluate: Evaluate;

  private constructor(
    node: Node,
    version: OperatorVersion,
    tensors: readonly (Tensor | undefined)[],
    outputs: readonly Facts[],
    known: (input: number) => readonly Dim[] | undefined,
    evaluate: Evaluate,
  ) {
    super(node, version, tensors, known, CONCRETE, 'SHAPE_MISMATCH');
    this.tensors = tensors;
    this.outputs = outputs;
    this.#evaluate = evaluate;
  }

  /** Infers the facts of the outputs from the tensors, and returns the context in which the kernel runs. */
  static prepare(
    node: Node,
    version: OperatorVersion,
    tensors: readonly (Tensor | undefined)[],
    evaluate: Evaluate = noSubgraphs,
  ): RunContext {
    const known = (input: number): readonly Dim[] | undefined => {
      const tensor = tensors[input];
      return tensor && tensor.size <= MAX_KNOWN ? tensor.values().map(Number) : undefined;
    };
    const infer = new InferContext(node, version, tensors, known, CONCRETE, 'SHAPE_MISMATCH');
    const outputs = version.infer(infer);
    for (const facts of outputs) checkFacts(node, facts, 'SHAPE_MISMATCH');
    return new RunContext(node, version, tensors, outputs, known, evaluate);
  }

  /** The tensor of a present input. */
  operand(index: number): Tensor {
    return this.tensors[index] ?? this.fail(`input ${index} is missing`);
  }

  /** The shape of output `index`, where it does not depend on elements. */
  shape(index = 0): readonly number[] {
    const { shape } = this.outputs[index]!;
    if (shape.some(dim => typeof dim !== 'number')) this.fail(`the shape of output ${index} depends on elements`);
    return shape as readonly number[];
  }

  /** The outputs of a subgraph of this node for these inputs. */
  evaluate(graph: Graph, inputs: readonly Tensor[]): readonly Tensor[] {
    return this.#evaluate(graph, inputs);
  }

  /** A new zeroed tensor for output `index`. */
  allocate(index = 0): Tensor {
    return Tensor.zeros(this.outputs[index]!.dtype, this.shape(index));
  }
}

/** The longest list of integers whose elements are followed through a graph. */
export const MAX_KNOWN = 256;

/** Runs a subgraph for the kernel of the node that holds it. */
export type Evaluate = (graph: Graph, inputs: readonly Tensor[]) => readonly Tensor[];

const noSubgraphs: Evaluate = graph => {
  throw new CloisterError(
    'UNSUPPORTED_MODEL',
    `subgraph ${JSON.stringify(graph.name.slice(0, 80))} cannot be run here`,
  );
};

/** At run time a size that is not known depends on elements, and of subgraphs only the one that runs is looked at. */
const CONCRETE: SymbolSource = {
  fresh: () => '?',
  outputsOf: graph => graph.outputs.map(id => graph.values[id]!.facts),
};

/** Fails unless the numeric sizes in `facts` can be those of a tensor. */
export function checkFacts(node: Node, facts: Facts, code: ErrorCode): void {
  const sizes = facts.shape.map(dim => (typeof dim === 'number' ? dim : 1));
  if (sizes.length > MAX_RANK) {
    const message = `${describeNode(node)}: a result of ${sizes.length} dimensions; at most ${MAX_RANK} are supported`;
    throw new CloisterError('UNSUPPORTED_MODEL', message, { node: node.name });
  }
  try {
    elementCount(sizes);
  } catch (cause) {
    const message = `${describeNode(node)}: a result of shape ${formatShape(facts.shape)} cannot exist`;
    throw new CloisterError(code, message, { node: node.name }, { cause });
  }
}

/**
 * Checks that `node` has the attributes and the number of inputs and outputs that its operator version allows.
 *
 * @throws {CloisterError} `INVALID_GRAPH` naming the node.
 */
export function checkNode(node: Node, version: OperatorVersion): void {
  const fail = (message: string): never => {
    throw new CloisterError('INVALID_GRAPH', `${describeNode(node)}: ${message}`, { node: node.name, op: node.op });
  };
  const count = (kind: string, slots: readonly unknown[], [least, most]: Arity): void => {
    if (slots.length > most || slots.length < least || slots.slice(0, least).includes(undefined)) {
      const expected = most === Number.POSITIVE_INFINITY ? `at least ${least}` : `${least} to ${most}`;
      fail(`expected ${expected} ${kind}, got ${slots.filter(slot => slot !== undefined).length}`);
    }
  };
  count('inputs', node.inputs, version.inputs);
  count('outputs', node.outputs, [Math.min(version.outputs[0], 1), version.outputs[1]]);
  for (const [name, value] of Object.entries(node.attributes)) {
    const spec = Object.hasOwn(version.attributes, name) ? version.attributes[name] : undefined;
    if (!spec) fail(`attribute ${JSON.stringify(name)} is unknown at opset ${node.opset}`);
    else if (!fits(value, spec.type)) fail(`attribute ${name}: expected ${spec.type}`);
  }
  for (const [name, spec] of Object.entries(version.attributes)) {
    if (spec.required && node.attributes[name] === undefined) fail(`attribute ${name} is required`);
  }
}

function fits(value: Attribute, type: AttributeSpec['type']): boolean {
  const all = (kind: 'number' | 'string'): boolean =>
    Array.isArray(value) && (value as readonly unknown[]).every(item => typeof item === kind);
  switch (type) {
    case 'int':
      return Number.isSafeInteger(value);
    case 'float':
      return typeof value === 'number';
    case 'string':
      return typeof value === 'string';
    case 'ints':
      return all('number') && (value as readonly number[]).every(Number.isSafeInteger);
    case 'floats':
      return all('number');
    case 'strings':
      return all('string');
    case 'tensor':
      return value instanceof Tensor;
    case 'graph':
      return isGraph(value);
  }
}

/** How many elements a list input has, where its rule must know that much before the model runs. */
export function lengthOf(c: InferContext, index: number): number {
  c.rank(index, 1);
  const length = c.input(index).shape[0]!;
  if (typeof length !== 'number')
    return c.unsupported(`how long input ${index} is must be known before the model runs`);
  if (length > MAX_KNOWN) c.fail(`input ${index}: a list of ${length} sizes or axes`);
  return length;
}

/** Groups of element types that rules name. */
export const FLOATS: readonly DType[] = ['f32', 'f64', 'f16', 'bf16'];
export const INTS: readonly DType[] = ['i8', 'u8', 'i16', 'u16', 'i32', 'u32', 'i64', 'u64'];
export const NUMBERS: readonly DType[] = [...FLOATS, ...INTS];
export const ALL: readonly DType[] = [...NUMBERS, 'bool'];
export const ANY: readonly DType[] = [...ALL, 'string'];

/** Any number of inputs. */
export const MANY: number = Number.POSITIVE_INFINITY;

/** Attribute forms, for terse entries: `int(0)` has a default, `int()` has none. */
export const int = (value?: number): AttributeSpec => spec('int', value);
export const float = (value?: number): AttributeSpec => spec('float', value);
export const string = (value?: string): AttributeSpec => spec('string', value);
export const ints = (value?: readonly number[]): AttributeSpec => spec('ints', value);
export const floats: AttributeSpec = { type: 'floats' };
export const strings: AttributeSpec = { type: 'strings' };
export const tensor: AttributeSpec = { type: 'tensor' };
export const subgraph: AttributeSpec = { type: 'graph' };

/** The same attribute, without which the node is refused. */
export const required = (of: AttributeSpec): AttributeSpec => ({ ...of, required: true });

/** An operator of the ONNX default domain. */
export function define(name: string, kind: OperatorKind, ...versions: readonly OperatorVersion[]): Operator {
  return defineIn('', name, kind, ...versions);
}

/** An operator of another domain. */
export function defineIn(
  domain: string,
  name: string,
  kind: OperatorKind,
  ...versions: readonly OperatorVersion[]
): Operator {
  return Object.freeze({ domain, name, kind, versions: Object.freeze(versions) });
}

/** `version` as it is from another opset on, with what changed there. */
export function from(
  since: number,
  version: OperatorVersion,
  changes: Partial<Omit<OperatorVersion, 'since'>> = {},
): OperatorVersion {
  return { ...version, ...changes, since };
}

function spec(type: AttributeSpec['type'], value: AttributeSpec['default']): AttributeSpec {
  return value === undefined ? { type } : { type, default: value };
}
