/**
 * Writing graphs by hand: values with a method for each operator, over the {@link GraphBuilder}.
 *
 * There is one way to call an operator, {@link FluentGraph.op}: it turns numbers and nested arrays into constants, names into
 * inputs or attributes, and has the builder add the node. `g.matmul(x, w)`, `x.matmul(w)`, `` g.expr`x @ w` `` and
 * `` expr`x @ w`(g) `` all end there, so they make the same graph and fail with the same words. The methods are not written down
 * one by one: every operator of the table gets one; {@link OperatorMethods} gives the common ones their types.
 *
 * Nothing is deferred. Each call adds its node and infers its facts at once, so an error is thrown where the mistake is: at the
 * line of the call, or with a caret under the column of the formula.
 * @module
 */
import { CloisterError, isCloisterError } from '../../base/index.ts';
import { DTYPES, type DType, formatShape, type Nested, Tensor } from '../../tensor/index.ts';
import { GraphBuilder, type GraphBuilderOptions } from '../builder.ts';
import { ONNX_DTYPES } from '../element-types.ts';
import type { Attribute, Dim, Facts, Graph, LabelledColumns, ValueId } from '../graph.ts';
import { OPERATORS } from '../ops/index.ts';
import { findVersion, MAX_OPSET, type Operator, type OperatorTable } from '../ops/operator.ts';
import type { GraphFunctions, OperatorMethods } from './methods.ts';
import { compile, type Machine, run, type SubscriptValue } from './notation.ts';
import { findOperator, methodName, opsetOf, type Parameter, parametersOf } from './parameters.ts';

/** A value of a graph that is being written. Has a method for each operator, with itself as first operand. */
export type Expr = GraphValue & OperatorMethods;

/** A graph that is being written. Has a function for each operator. */
export type FluentGraph = OpenGraph & GraphFunctions;

/** What an operator is applied to. A number or nested arrays become a constant of the dtype that fits beside the other operands. */
export type Operand = Expr | Tensor | Nested;

/** Arguments by name: inputs, attributes, and the `name` of the node. */
export type NamedArguments = Readonly<Record<string, Operand | Graph | undefined>>;

/** One subscript: a place, a range of places, `null` for a new axis of size 1, `'...'` for all axes in between, or places. */
export type Index = number | IndexRange | null | '...' | Expr | Tensor | readonly number[];

/** A range of places along an axis, as in Python: negative counts from the end, ends are clamped. `{}` is all of it. */
export interface IndexRange {
  readonly start?: number | undefined;
  readonly end?: number | undefined;
  readonly step?: number | undefined;
}

/** A function from one value to another: what models are made of. */
export type Layer = (x: Expr) => Expr;

/** What stands in the holes of a formula. */
export type Hole = Operand | Layer;

/**
 * Starts a graph.
 *
 * @example
 * ```ts
 * const g = graphOf('classifier');
 * const x = g.input('x', 'f32', ['batch', 2]);
 * g.output('y', g.matmul(x, [[1, 0, 2], [0, 1, 2]]).add([0.5, 0, 0]).relu().softmax(-1));
 * g.build().values.at(-1)?.facts.shape; // ['batch', 3]
 * ```
 */
export function graphOf(name: string, options: GraphBuilderOptions = {}): FluentGraph {
  return new OpenGraph(name, options) as FluentGraph;
}

/** Whether `value` belongs to a graph that is being written. */
export function isExpr(value: unknown): value is Expr {
  return value instanceof GraphValue;
}

/** The value behind {@link Expr}. */
export class GraphValue {
  /** The graph to which it belongs. */
  readonly graph: FluentGraph;
  readonly id: ValueId;
  readonly facts: Facts;

  /** Made by the graph. */
  constructor(graph: FluentGraph, id: ValueId, facts: Facts) {
    this.graph = graph;
    this.id = id;
    this.facts = facts;
  }

  get dtype(): DType {
    return this.facts.dtype;
  }

  get shape(): readonly Dim[] {
    return this.facts.shape;
  }

  /** Applies an operator by name, with this as first operand; for operators that have no method. */
  op(name: string, ...args: readonly (Operand | NamedArguments | undefined)[]): Expr {
    const [positional, named] = splitNamed(args);
    return this.graph.op(name, [this as unknown as Expr, ...positional], named)[0]!;
  }

  /** Gives this to a layer: `x.pipe(f)` is `f(x)`. */
  pipe(layer: Layer): Expr {
    return layer(this as unknown as Expr);
  }

  /**
   * Parts of this, as NumPy's subscripts take them: `x.at({}, 0)` is `x[:, 0]`. Places given as a list or a value are gathered
   * along their axis.
   *
   * @throws {CloisterError} `INVALID_GRAPH` on more subscripts than axes, or a place outside.
   */
  at(...items: readonly Index[]): Expr {
    return index(this as unknown as Expr, items);
  }

  toString(): string {
    return `${this.dtype}${formatShape(this.shape)}`;
  }
}

/** The graph behind {@link FluentGraph}. */
export class OpenGraph {
  readonly name: string;
  /** The opset of ONNX's own operators in this graph. */
  readonly opset: number;
  readonly #operators: OperatorTable;
  readonly #builder: GraphBuilder;
  /** Inputs, named constants and outputs. */
  readonly #values = new Map<string, Expr>();
  readonly #names = new Map<ValueId, string>();
  readonly #outputs = new Set<ValueId>();
  #constants = 0;
  #nodes = 0;

  constructor(name: string, options: GraphBuilderOptions) {
    this.name = name;
    this.opset = options.opset ?? MAX_OPSET;
    this.#operators = options.operators ?? OPERATORS;
    this.#builder = new GraphBuilder(name, options);
  }

  /** Adds an input. A size that is a name is fixed by the caller of the model. */
  input(name: string, dtype: DType, shape: readonly Dim[]): Expr {
    return this.#named(name, this.#builder.input(name, { dtype, shape }));
  }

  /** Adds a constant under a name. Nested arrays take `dtype`, f32 where left out; a tensor is shared, not copied. */
  constant(name: string, value: Tensor | Nested, dtype: DType = 'f32'): Expr {
    return this.#named(name, this.#builder.constant(name, value instanceof Tensor ? value : exactly(dtype, value)));
  }

  /**
   * Makes a value an output called `name`, and returns it.
   *
   * @param columns - How a person reads the output, where it stands for a map.
   */
  output(name: string, value: Expr, columns?: LabelledColumns): Expr {
    this.#assertOwn(value);
    // An input, a named constant or another output keeps its name: the value gets a second one by a node.
    const known = this.#names.get(value.id);
    const own = known === undefined || (known === name && !this.#outputs.has(value.id)) ? value : this.#copy(value);
    if (this.#names.get(own.id) !== name) {
      this.#builder.rename(own.id, name);
      this.#named(name, own.id);
    }
    this.#builder.output(own.id, columns);
    this.#outputs.add(own.id);
    return own;
  }

  /** The finished graph. @throws {CloisterError} `INVALID_GRAPH` when it has no output. */
  build(): Graph {
    return this.#builder.build();
  }

  /** The input, named constant or output of this name. */
  find(name: string): Expr | undefined {
    return this.#values.get(name);
  }

  /**
   * Applies an operator: the one place where all notations meet. `name` is the operator's in any spelling (`reduceSum`,
   * `ReduceSum`), or `domain::Name`.
   *
   * @param args - Inputs in order, then common attributes in the order that the methods have.
   * @param named - Further inputs and attributes by their ONNX names; `name` names the node.
   * @param outputs - How many outputs are wanted; as many as the operator always has, where left out.
   * @throws {CloisterError} `INVALID_ARGUMENT` about the arguments; `INVALID_GRAPH` naming the node and what it was applied to;
   *   `UNSUPPORTED_MODEL` when the table has no such operator.
   */
  op(
    name: string,
    args: readonly (Operand | Graph | undefined)[] = [],
    named: NamedArguments = {},
    outputs?: number,
  ): readonly Expr[] {
    const operator = findOperator(this.#operators, name);
    if (!operator)
      throw new CloisterError('UNSUPPORTED_MODEL', `there is no operator ${JSON.stringify(name.slice(0, 80))}`);
    const opset = operator.domain === '' ? this.opset : opsetOf(this.#operators, operator.domain);
    const version = findVersion(this.#operators, { domain: operator.domain, op: operator.name, opset });
    const { inputs, attributes, node } = this.#arguments(operator, version?.attributes ?? {}, args, named);
    const count = outputs ?? Math.max(1, version?.outputs[0] ?? 1);
    const own = node ?? `${operator.name}#${this.#nodes}`;
    const ids = describing(inputs, () =>
      this.#builder.node({
        op: operator.name,
        domain: operator.domain,
        opset,
        name: own,
        inputs: inputs.map(value => value?.id),
        outputs: Array.from({ length: count }, (_, i) => `${own}:${i}`),
        attributes,
      }),
    );
    this.#nodes++;
    return ids.map(id => this.#wrap(id!));
  }

  /**
   * Evaluates a formula in this graph: its names are inputs, constants and outputs of the graph.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` about the text; what {@link OpenGraph.op} throws; both with a caret under the column.
   * @example
   * ```ts
   * const g = graphOf('affine');
   * g.input('x', 'f32', ['n', 2]);
   * const b = Tensor.of('f32', [1, 2]);
   * g.output('y', g.expr`relu(x[:, ::-1] * 2 + ${b})`);
   * g.build().nodes.map(node => node.op); // ['Slice', 'Mul', 'Add', 'Relu']
   * ```
   */
  expr(parts: TemplateStringsArray, ...holes: readonly Hole[]): Expr {
    return this.evaluate(compile(parts), name => this.find(name), holes);
  }

  /** Runs a compiled formula in this graph, with the names that `bindings` knows. */
  evaluate(
    program: Parameters<typeof run>[0],
    bindings: (name: string) => Hole | undefined,
    holes: readonly Hole[] = [],
  ): Expr {
    const value = run(program, this.#machine(bindings, holes));
    if (Array.isArray(value) && value.some(isExpr)) {
      throw new CloisterError('INVALID_ARGUMENT', 'the formula has several results: assign them to names');
    }
    return this.#lift(value as Operand, undefined);
  }

  #copy(value: Expr): Expr {
    return this.op('Identity', [value])[0]!;
  }

  #named(name: string, id: ValueId): Expr {
    const value = this.#wrap(id);
    this.#values.set(name, value);
    this.#names.set(id, name);
    return value;
  }

  #wrap(id: ValueId): Expr {
    return new GraphValue(this as unknown as FluentGraph, id, this.#builder.facts(id)) as Expr;
  }

  #assertOwn(value: Expr): void {
    if (value.graph !== (this as unknown as FluentGraph)) {
      throw new CloisterError(
        'INVALID_ARGUMENT',
        `a value of graph ${value.graph.name} cannot be used in graph ${this.name}`,
      );
    }
  }

  /** The value, or a constant of `dtype` (f32, bool or string by itself) in its place. */
  #lift(value: Operand, dtype: DType | undefined): Expr {
    if (isExpr(value)) {
      this.#assertOwn(value);
      return value;
    }
    const tensor = value instanceof Tensor ? value : exactly(dtype ?? naturalDType(value), value as Nested);
    return this.#wrap(this.#builder.constant(`const#${this.#constants++}`, tensor));
  }

  /** Sorts arguments into inputs and attributes. */
  #arguments(
    operator: Operator,
    specs: Readonly<Record<string, { readonly type: string }>>,
    args: readonly (Operand | Graph | undefined)[],
    named: NamedArguments,
  ): {
    readonly inputs: readonly (Expr | undefined)[];
    readonly attributes: Record<string, Attribute>;
    readonly node: string | undefined;
  } {
    const parameters = parametersOf(operator);
    const attributes: Record<string, Attribute> = {};
    const slots: { readonly value: Operand; readonly parameter: Parameter | undefined }[] = [];
    const isAttribute = (name: string): boolean => Object.hasOwn(specs, name);
    const inputNames = parameters?.filter(({ name }) => !isAttribute(name)).map(({ name }) => name) ?? [];
    let place = 0;
    args.forEach((value, i) => {
      const last = parameters?.at(-1);
      const parameter = parameters?.[i] ?? (last?.rest ? last : undefined);
      if (parameters && !parameter) {
        const takes = parameters.map(({ name }) => name).join(', ');
        throw new CloisterError('INVALID_ARGUMENT', `${operator.name} takes ${takes}: got ${args.length} arguments`);
      }
      if (parameter && isAttribute(parameter.name)) {
        if (value !== undefined) attributes[parameter.name] = attributeOf(operator, parameter.name, specs, value);
        return;
      }
      if (value !== undefined) slots[place] = { value: value as Operand, parameter };
      place++;
    });
    let node: string | undefined;
    for (const [name, value] of Object.entries(named)) {
      if (value === undefined) continue;
      const input = inputNames.indexOf(name);
      if (isAttribute(name)) {
        if (Object.hasOwn(attributes, name)) throw twice(operator, name);
        attributes[name] = attributeOf(operator, name, specs, value);
      } else if (input !== -1) {
        if (slots[input]) throw twice(operator, name);
        slots[input] = { value: value as Operand, parameter: parameters?.find(parameter => parameter.name === name) };
      } else if (name === 'name' && typeof value === 'string') {
        node = value;
      } else {
        const known = [...inputNames, ...Object.keys(specs)].join(', ') || 'no named arguments';
        throw new CloisterError('INVALID_ARGUMENT', `${operator.name} has no ${JSON.stringify(name)}; it has ${known}`);
      }
    }
    const dtype = slots.find(slot => slot && !slot.parameter?.dtype && hasDType(slot.value))?.value as
      | Expr
      | Tensor
      | undefined;
    const inputs = Array.from(slots, slot => {
      if (!slot) return undefined;
      const { parameter } = slot;
      const value = parameter?.list && typeof slot.value === 'number' ? [slot.value] : slot.value;
      return this.#lift(value, parameter?.dtype ?? dtype?.dtype);
    });
    return { inputs, attributes, node };
  }

  #machine(bindings: (name: string) => Hole | undefined, holes: readonly Hole[]): Machine {
    return {
      name: bindings,
      hole: i => holes[i],
      call: (callee, positional, named, outputs) => {
        if (typeof callee === 'function') {
          if (positional.length !== 1 || Object.keys(named).length > 0 || (outputs ?? 1) !== 1) {
            throw new CloisterError('INVALID_ARGUMENT', 'a layer takes one value and gives one');
          }
          return (callee as Layer)(this.#lift(positional[0] as Operand, undefined));
        }
        if (typeof callee !== 'string') throw new CloisterError('INVALID_ARGUMENT', 'this cannot be called');
        const results = this.op(callee, positional as readonly Operand[], named as NamedArguments, outputs);
        return results.length === 1 ? results[0] : results;
      },
      operator: (symbol, operands) =>
        folded(symbol, operands) ?? this.#operator(symbol, operands as readonly Operand[]),
      index: (value, items) => index(this.#lift(value as Operand, undefined), items.map(subscript)),
    };
  }

  #operator(symbol: string, operands: readonly Operand[]): Expr {
    if (operands.some(operand => Array.isArray(operand) && operand.some(isExpr))) {
      throw new CloisterError('INVALID_ARGUMENT', 'an operator with several results: assign them to names');
    }
    if (symbol === '!=') return this.op('Not', this.op('Equal', operands))[0]!;
    return this.op(SYMBOLS[symbol]!, operands)[0]!;
  }
}

/** What the signs of the notation mean. */
const SYMBOLS: Readonly<Record<string, string>> = {
  '+': 'Add',
  '-': 'Sub',
  '*': 'Mul',
  '/': 'Div',
  '@': 'MatMul',
  '**': 'Pow',
  neg: 'Neg',
  not: 'Not',
  and: 'And',
  or: 'Or',
  '==': 'Equal',
  '<': 'Less',
  '<=': 'LessOrEqual',
  '>': 'Greater',
  '>=': 'GreaterOrEqual',
};

/** Arithmetic on plain numbers is done here, not by nodes. */
function folded(symbol: string, operands: readonly unknown[]): number | undefined {
  if (!operands.every(operand => typeof operand === 'number')) return undefined;
  const [a, b] = operands as readonly [number, number];
  switch (symbol) {
    case 'neg':
      return -a;
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return a * b;
    case '/':
      return a / b;
    case '**':
      return a ** b;
    default:
      return undefined;
  }
}

function twice(operator: Operator, name: string): CloisterError {
  return new CloisterError('INVALID_ARGUMENT', `${operator.name}: ${name} is given twice`);
}

function hasDType(value: Operand | undefined): value is Expr | Tensor {
  return isExpr(value) || value instanceof Tensor;
}

/** Arguments, and the names at their end. */
function splitNamed<T>(args: readonly (T | NamedArguments | undefined)[]): [(T | undefined)[], NamedArguments] {
  const last = args.at(-1);
  return isNamed(last) ? [args.slice(0, -1) as T[], last] : [args as T[], {}];
}

function isNamed(value: unknown): value is NamedArguments {
  if (typeof value !== 'object' || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function naturalDType(value: unknown): DType {
  const first = Array.isArray(value) ? value.flat(Number.POSITIVE_INFINITY)[0] : value;
  if (typeof first === 'boolean') return 'bool';
  return typeof first === 'string' ? 'string' : 'f32';
}

/** A constant whose dtype holds the values: a fraction or a large number does not become an integer by itself. */
function exactly(dtype: DType, values: Nested): Tensor {
  const { kind } = DTYPES[dtype];
  const leaves = (Array.isArray(values) ? values.flat(MAX_NESTING) : [values]) as readonly unknown[];
  const bad = leaves.find(leaf => {
    if (kind === 'string') return typeof leaf !== 'string';
    if (kind === 'bool') return typeof leaf !== 'boolean' && leaf !== 0 && leaf !== 1;
    if (typeof leaf === 'bigint') return kind !== 'int';
    return (
      !(typeof leaf === 'number' || typeof leaf === 'boolean') || (kind === 'int' && !Number.isInteger(Number(leaf)))
    );
  });
  if (bad === undefined) return Tensor.of(dtype, values);
  const shown =
    typeof bad === 'string'
      ? JSON.stringify(bad.slice(0, 40))
      : Array.isArray(bad)
        ? 'a deep array'
        : typeof bad === 'object'
          ? 'an object'
          : String(bad);
  throw new CloisterError('INVALID_ARGUMENT', `${shown} is no ${dtype} value`);
}

/** More than any tensor has dimensions. */
const MAX_NESTING = 64;

/** `value` in the form that the attribute has: a dtype as its code, a truth value as 0 or 1, one number as a list of one. */
function attributeOf(
  operator: Operator,
  name: string,
  specs: Readonly<Record<string, { readonly type: string }>>,
  value: Operand | Graph,
): Attribute {
  const { type } = specs[name]!;
  if (type === 'int' && typeof value === 'boolean') return value ? 1 : 0;
  if (type === 'int' && typeof value === 'string') {
    for (const [code, dtype] of ONNX_DTYPES) if (dtype === value) return code;
  }
  if ((type === 'ints' || type === 'floats') && typeof value === 'number') return [value];
  if (isExpr(value) || typeof value === 'boolean' || typeof value === 'bigint') {
    const came = isExpr(value) ? 'a value' : String(value);
    throw new CloisterError(
      'INVALID_ARGUMENT',
      `${operator.name}: attribute ${name} is fixed when the graph is built, got ${came}`,
    );
  }
  return Array.isArray(value) ? Object.freeze([...value] as number[]) : (value as Attribute);
}

/** Adds to an error what the node was applied to. */
function describing<T>(inputs: readonly (Expr | undefined)[], add: () => T): T {
  try {
    return add();
  } catch (error) {
    if (!isCloisterError(error, 'INVALID_GRAPH') && !isCloisterError(error, 'UNSUPPORTED_MODEL')) throw error;
    const operands = inputs.map(value => (value ? value.toString() : 'nothing')).join(', ');
    throw new CloisterError(error.code, `${error.message}; applied to ${operands}`, error.detail, { cause: error });
  }
}

function subscript(item: SubscriptValue): Index {
  if (item.kind === 'new') return null;
  if (item.kind === 'rest') return '...';
  if (item.kind === 'at') return item.value as Index;
  const bound = (value: unknown): number | undefined => {
    if (value === undefined || (typeof value === 'number' && Number.isSafeInteger(value))) return value;
    throw new CloisterError('INVALID_ARGUMENT', 'the ends and the step of a range are whole numbers');
  };
  return { start: bound(item.start), end: bound(item.end), step: bound(item.step) };
}

/** NumPy's basic subscripts as Slice, Gather, Squeeze and Unsqueeze; of places given as a list, one. */
function index(x: Expr, items: readonly Index[]): Expr {
  const refuse = (message: string): never => {
    throw new CloisterError('INVALID_GRAPH', `subscript of ${x}: ${message}`);
  };
  const rank = x.shape.length;
  const taken = items.filter(item => item !== null && item !== '...').length;
  if (items.filter(item => item === '...').length > 1) refuse('at most one ...');
  if (taken > rank) refuse(`${taken} subscripts for ${rank} axes`);
  const full = items.includes('...') ? items : [...items, '...' as const];
  const slices: { readonly axis: number; readonly range: IndexRange }[] = [];
  const gathers: { readonly axis: number; readonly at: number | Expr | Tensor | readonly number[] }[] = [];
  const added: number[] = [];
  let axis = 0;
  let place = 0;
  for (const item of full) {
    if (item === null) {
      added.push(place++);
    } else if (item === '...') {
      axis += rank - taken;
      place += rank - taken;
    } else if (typeof item === 'number') {
      const size = x.shape[axis];
      if (!Number.isInteger(item)) refuse(`${item} is no place`);
      if (typeof size === 'number' && (item < -size || item >= size)) refuse(`place ${item} on an axis of ${size}`);
      gathers.push({ axis: axis++, at: item });
    } else if (isExpr(item) || item instanceof Tensor || Array.isArray(item)) {
      if (gathers.some(({ at }) => typeof at !== 'number')) refuse('at most one list of places');
      gathers.push({ axis: axis++, at: item });
      place += isExpr(item) || item instanceof Tensor ? item.shape.length : 1;
    } else if (isNamed(item)) {
      slices.push({ axis: axis++, range: item as IndexRange });
      place++;
    } else {
      refuse('expected places, ranges, None or ...');
    }
  }
  let out = x;
  const real = slices.filter(
    ({ range }) => range.start !== undefined || range.end !== undefined || (range.step ?? 1) !== 1,
  );
  if (real.length > 0) {
    const last = Number.MAX_SAFE_INTEGER;
    const forward = ({ range }: { readonly range: IndexRange }): boolean => (range.step ?? 1) > 0;
    out = x.graph.op('Slice', [
      out,
      real.map(slice => slice.range.start ?? (forward(slice) ? 0 : last)),
      real.map(slice => slice.range.end ?? (forward(slice) ? last : -last)),
      real.map(slice => slice.axis),
      ...(real.some(({ range }) => (range.step ?? 1) !== 1) ? [real.map(({ range }) => range.step ?? 1)] : []),
    ])[0]!;
  }
  // From the last axis on, so that those before keep their numbers.
  for (const { axis: along, at } of gathers.reverse()) out = x.graph.op('Gather', [out, at], { axis: along })[0]!;
  return added.length > 0 ? x.graph.op('Unsqueeze', [out, added])[0]! : out;
}

/** Every operator of the table becomes a method of values and a function of graphs, where the name is free. */
for (const { domain, name } of OPERATORS.values()) {
  const method = methodName(name);
  if (domain !== '') continue;
  if (!(method in GraphValue.prototype)) {
    Object.defineProperty(GraphValue.prototype, method, {
      value(this: GraphValue, ...args: readonly (Operand | NamedArguments | undefined)[]): unknown {
        return unwrap(callOf(this.graph, name, [this as unknown as Expr, ...args]));
      },
    });
  }
  if (!(method in OpenGraph.prototype)) {
    Object.defineProperty(OpenGraph.prototype, method, {
      value(this: OpenGraph, ...args: readonly (Operand | NamedArguments | undefined)[]): unknown {
        return unwrap(callOf(this, name, args));
      },
    });
  }
}

function callOf(
  graph: OpenGraph,
  name: string,
  args: readonly (Operand | NamedArguments | undefined)[],
): readonly Expr[] {
  const [positional, { outputs, ...named }] = splitNamed<Operand>(args);
  return graph.op(name, positional, named, typeof outputs === 'number' ? outputs : undefined);
}

function unwrap(results: readonly Expr[]): Expr | readonly Expr[] {
  return results.length === 1 ? results[0]! : results;
}
