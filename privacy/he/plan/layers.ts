/**
 * A graph as what a homomorphic evaluator can do: affine maps, products, and functions of one number in between. Pure.
 *
 * Every value is kept as a sum of matrices over earlier bases, plus a constant. So everything linear that follows anything linear
 * (batch norms, scales, pooling, reshapes, residual additions) melts into one matrix by itself, and one matrix costs one level.
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';
import {
  type ConstantReader,
  describeNode,
  foldConstants,
  type Graph,
  inferFacts,
  type Node,
  runNode,
  type ValueId,
} from '../../../src/graph/index.ts';
import { elementCount, formatShape, Tensor } from '../../../src/tensor/index.ts';
import type { HeadStep } from '../client-plan.ts';
import { divideChebyshev, type Polynomial } from './polynomial.ts';
import { apply, identity, product, type Sparse, SparseBuilder, scaleRows, sum } from './sparse.ts';
import { averagePoolMatrix, convolutionMatrix } from './windows.ts';

/** A base: an input of the model, or the result of a layer, in the order in which they are computed. */
export type Base = number;

/** `sum of maps[i] * inputs[i] + bias`. */
export interface AffineLayer {
  readonly kind: 'affine';
  readonly name: string;
  readonly inputs: readonly Base[];
  readonly maps: readonly Sparse[];
  readonly bias: Float64Array;
}

/** The product of two bases, element by element; the square where they are one. */
export interface ProductLayer {
  readonly kind: 'product';
  readonly name: string;
  readonly inputs: readonly [Base, Base];
}

/** A function of one number, applied to each element: to be replaced by a polynomial. */
export interface FunctionLayer {
  readonly kind: 'function';
  readonly name: string;
  readonly op: string;
  readonly inputs: readonly [Base];
  readonly evaluate: (x: Float64Array) => Float64Array;
}

export type Layer = AffineLayer | ProductLayer | FunctionLayer;

/** A model as layers. Bases 0 to `inputs.length - 1` are its inputs; base `inputs.length + i` is what layer i computes. */
export interface Layers {
  readonly inputs: readonly { readonly name: string; readonly shape: readonly number[] }[];
  readonly layers: readonly Layer[];
  /** Elements of each base. */
  readonly sizes: readonly number[];
  /** Shape of each base. */
  readonly shapes: readonly (readonly number[])[];
  /** What is decrypted: the value of the graph, its shape, and the base that holds it. */
  readonly outputs: readonly { readonly value: ValueId; readonly shape: readonly number[]; readonly base: Base }[];
  /** The graph with all facts known, and those of its nodes that the client computes in the clear, after decryption. */
  readonly graph: Graph;
  readonly head: readonly Node[];
}

/** What {@link lowerToLayers} may be told. */
export interface LoweringOptions {
  readonly constants: ConstantReader;
  /** Sizes of symbolic dimensions; those that are not named are 1. */
  readonly dims?: Readonly<Record<string, number>>;
  /** Polynomials by the name of the node whose function they stand for. Functions without one stay functions. */
  readonly polynomials?: ReadonlyMap<string, Polynomial>;
}

/** A value as an affine function of bases. */
interface Expression {
  readonly terms: ReadonlyMap<Base, Sparse>;
  readonly bias: Float64Array;
}

/** Operators that only move elements; their reference kernels say where each one goes. */
const MOVES = new Set(
  'Concat DepthToSpace Dropout Expand Flatten Gather Identity Pad Reshape Slice SpaceToDepth Split Squeeze Tile Transpose Unsqueeze'.split(
    ' ',
  ),
);

/** Functions of one number that polynomials are fitted to. */
const FUNCTIONS = new Set(
  'Celu Elu Erf Exp Gelu HardSigmoid HardSwish LeakyRelu Mish Relu Selu Sigmoid Softplus Softsign Swish Tanh ThresholdedRelu'.split(
    ' ',
  ),
);

/** Operators that a client may compute after decryption, where nothing encrypted follows. */
const HEADS: ReadonlySet<string> = new Set(['Softmax', 'LogSoftmax', 'Sigmoid', 'ArgMax']);

/**
 * What the client computes: the nodes of the head, which stand one behind the other.
 *
 * @throws {CloisterError} `UNSUPPORTED_MODEL` when a step works on another axis than the last.
 */
export function headSteps({ head, graph }: Layers): readonly HeadStep[] {
  return head.map(node => {
    const shape = graph.values[node.inputs[0]!]!.facts.shape;
    const axis = Number(node.attributes['axis'] ?? (node.op === 'ArgMax' ? 0 : -1));
    const last = axis === -1 || axis === shape.length - 1;
    if (node.op !== 'Sigmoid' && !last)
      throw refused(
        `${describeNode(node)}: the client computes it over the last axis, and this is axis ${axis}`,
        node.name,
      );
    return { op: node.op as HeadStep['op'] };
  });
}

/**
 * Returns what `graph` computes as layers.
 *
 * @throws {CloisterError} `UNSUPPORTED_MODEL` naming the node that has no encrypted form, and what could take its place.
 */
export function lowerToLayers(graph: Graph, options: LoweringOptions): Layers {
  const named = new Set(
    graph.inputs.flatMap(id => graph.values[id]!.facts.shape).filter(dim => typeof dim === 'string'),
  );
  const dims = { ...Object.fromEntries([...named].map(name => [name, 1])), ...options.dims };
  const known = foldConstants(inferFacts(graph, { dims }), { constants: options.constants, limitBytes: 2 ** 30 });
  return new Lowering(known, options).run();
}

class Lowering {
  readonly #graph: Graph;
  readonly #reader: ConstantReader;
  readonly #polynomials: ReadonlyMap<string, Polynomial>;
  readonly #expressions = new Map<ValueId, Expression>();
  readonly #constants = new Map<ValueId, Tensor>();
  readonly #layers: Layer[] = [];
  readonly #sizes: number[] = [];
  readonly #shapes: (readonly number[])[] = [];
  /** The base that holds a value as it is, if one does. */
  readonly #bases = new Map<ValueId, Base>();
  /** Bases of expressions that were made into layers. */
  readonly #held = new Map<Expression, Base>();
  readonly #head: Node[] = [];
  readonly #inHead = new Set<ValueId>();

  constructor(graph: Graph, { constants, polynomials }: LoweringOptions) {
    this.#graph = graph;
    this.#reader = constants;
    this.#polynomials = polynomials ?? new Map();
  }

  run(): Layers {
    const graph = this.#graph;
    const inputs = graph.inputs
      .filter(id => !graph.constants.has(id))
      .map(id => ({ id, name: graph.values[id]!.name, shape: this.#shape(id) }));
    inputs.forEach(({ id, shape }, base) => {
      const size = elementCount(shape);
      this.#sizes.push(size);
      this.#shapes.push(shape);
      this.#bases.set(id, base);
      this.#expressions.set(id, { terms: new Map([[base, identity(size)]]), bias: new Float64Array(size) });
    });
    for (const node of graph.nodes) if (!this.#isHead(node)) this.#lower(node);
    const wanted = [
      ...graph.outputs.filter(id => !this.#inHead.has(id)),
      ...this.#head.flatMap(node => node.inputs.filter(id => id !== undefined)),
    ].filter(id => this.#expressions.has(id));
    const outputs = [...new Set(wanted)].map(value => ({
      value,
      shape: this.#shape(value),
      base: this.#materialise(value),
    }));
    if (outputs.length === 0) throw refused('no output of the model depends on an input', graph.name);
    return {
      inputs: inputs.map(({ name, shape }) => ({ name, shape })),
      layers: this.#layers,
      sizes: this.#sizes,
      shapes: this.#shapes,
      outputs,
      graph,
      head: graph.nodes.filter(node => this.#head.includes(node)),
    };
  }

  /** Whether a node, and all that follows it, is left to the client: functions at the very end too, which then stay exact. */
  #isHead(node: Node): boolean {
    const readers = this.#graph.nodes.filter(other => other.inputs.includes(node.outputs[0]));
    const last = HEADS.has(node.op) && node.domain === '' && readers.every(other => this.#isHead(other));
    if (last && node.inputs.every(id => id === undefined || !this.#constants.has(id))) {
      if (!this.#head.includes(node)) this.#head.push(node);
      for (const id of node.outputs) if (id !== undefined) this.#inHead.add(id);
      return true;
    }
    return false;
  }

  #lower(node: Node): void {
    const inputs = node.inputs.filter(id => id !== undefined);
    if (!inputs.some(id => this.#expressions.has(id) || this.#inHead.has(id))) {
      this.#fold(node);
      return;
    }
    const result = inputs.some(id => this.#inHead.has(id)) ? undefined : this.#apply(node);
    if (result === undefined) {
      throw refused(
        `${describeNode(node)} has no encrypted form. ${ADVICE[node.op] ?? 'Linear operators, products, squares and activations have one; a head of Softmax or ArgMax is computed by the client'}`,
        node.name,
      );
    }
    result.forEach((expression, i) => {
      const id = node.outputs[i];
      if (id !== undefined) this.#expressions.set(id, expression);
    });
  }

  #fold(node: Node): void {
    const results = runNode(
      node,
      node.inputs.map(id => (id === undefined ? undefined : this.#constant(id))),
    );
    node.outputs.forEach((id, i) => {
      if (id !== undefined) this.#constants.set(id, results[i]!);
    });
  }

  #apply(node: Node): readonly Expression[] | undefined {
    const [a, b] = node.inputs;
    const x = a === undefined ? undefined : this.#expressions.get(a);
    const y = b === undefined ? undefined : this.#expressions.get(b);
    if (node.domain !== '' && !(node.domain === 'com.microsoft' && FUNCTIONS.has(node.op))) return undefined;
    if (MOVES.has(node.op)) return this.#move(node);
    switch (node.op) {
      case 'Add':
      case 'Sub':
        return [this.#add(node, node.op === 'Add' ? 1 : -1)];
      case 'Sum':
        return node.inputs.length === 2 ? [this.#add(node, 1)] : undefined;
      case 'Neg':
        return [scaled(x!, -1)];
      case 'Mul':
        if (x !== undefined && y !== undefined) return [this.#multiply(node, a!, b!)];
        return [this.#scale(node, (x ?? y)!, x === undefined ? b! : a!, x === undefined ? a! : b!, value => value)];
      case 'Div':
        return y !== undefined || x === undefined ? undefined : [this.#scale(node, x, a!, b!, value => 1 / value)];
      case 'Pow':
        return x === undefined || y !== undefined ? undefined : this.#power(node, a!, b!);
      case 'Gemm':
        return x === undefined || y !== undefined ? undefined : [this.#gemm(node, x)];
      case 'MatMul':
        return x !== undefined && y !== undefined ? undefined : [this.#matmul(node)];
      case 'Conv': {
        if (x === undefined || y !== undefined) return undefined;
        const weights = this.#constant(b!);
        const values = Float64Array.from(weights.values(), Number);
        const map = convolutionMatrix(node, this.#shape(a!), this.#shapeOut(node), { shape: weights.shape, values });
        return [this.#linear(x, map, this.#channelBias(node))];
      }
      case 'AveragePool':
        return [
          this.#linear(
            x!,
            averagePoolMatrix(
              node,
              this.#shape(a!),
              this.#shapeOut(node),
              node.attributes['kernel_shape'] as readonly number[],
            ),
          ),
        ];
      case 'GlobalAveragePool':
        return [
          this.#linear(x!, averagePoolMatrix(node, this.#shape(a!), this.#shapeOut(node), this.#shape(a!).slice(2))),
        ];
      case 'BatchNormalization':
        return this.#batchNorm(node, x!);
      case 'ReduceMean':
      case 'ReduceSum':
        return y !== undefined ? undefined : [this.#reduce(node, x!)];
      default:
        return FUNCTIONS.has(node.op) && x !== undefined ? this.#function(node, a!) : undefined;
    }
  }

  // Linear operators.

  #linear(x: Expression, map: Sparse, bias?: Float64Array): Expression {
    const moved = new Float64Array(map.rows);
    if (bias !== undefined) moved.set(bias);
    apply(map, x.bias, moved);
    return { terms: new Map([...x.terms].map(([base, matrix]) => [base, product(map, matrix)])), bias: moved };
  }

  #move(node: Node): readonly Expression[] | undefined {
    const parts: Expression[] = [];
    let next = 1;
    const tensors = node.inputs.map(id => {
      if (id === undefined) return undefined;
      const expression = this.#expressions.get(id);
      if (expression === undefined) return this.#constant(id);
      parts.push(expression);
      const shape = this.#shape(id);
      const places = Float64Array.from({ length: elementCount(shape) }, () => next++);
      return Tensor.from('f64', shape, places);
    });
    // What a constant that is moved along would do to the places is unknown; it is moved in a second pass, alone.
    const data = node.op === 'Concat' ? node.inputs : node.inputs.slice(0, 1);
    if (data.some(id => id !== undefined && !this.#expressions.has(id)) && node.op !== 'Concat') return undefined;
    const fixed = tensors.map((tensor, i) => {
      const id = data[i];
      if (tensor === undefined || id === undefined) return tensor;
      return this.#expressions.has(id) ? zeros(tensor.shape) : tensor.cast('f64');
    });
    const moving = tensors.map((tensor, i) => {
      const id = data[i];
      return tensor !== undefined && id !== undefined && !this.#expressions.has(id) ? zeros(tensor.shape) : tensor;
    });
    const where = runNode(node, moving);
    const constant = runNode(node, fixed);
    return where.slice(0, node.outputs.length).map((tensor, i) => {
      const places = tensor.values().map(Number);
      const bias = Float64Array.from(constant[i]!.values(), Number);
      const terms = new Map<Base, Sparse>();
      let first = 1;
      for (const part of parts) {
        const size = part.bias.length;
        const builder = new SparseBuilder(size);
        places.forEach((place, row) => {
          const at = place - first;
          if (at >= 0 && at < size) {
            builder.add(at, 1);
            bias[row] = bias[row]! + part.bias[at]!;
          }
          builder.endRow();
        });
        const pick = builder.build();
        for (const [base, matrix] of part.terms) addTerm(terms, base, product(pick, matrix));
        first += size;
      }
      return { terms, bias };
    });
  }

  /** Both operands of an elementwise node, spread to its output; constants as expressions without terms. */
  #operands(node: Node): readonly [Expression, Expression] {
    const shape = this.#shapeOut(node);
    const both = node.inputs.map((id): Expression => {
      const from = this.#expressions.get(id!);
      if (from === undefined) {
        return { terms: new Map<Base, Sparse>(), bias: spread(this.#constant(id!), shape) };
      }
      return this.#spread(from, this.#shape(id!), shape);
    });
    return [both[0]!, both[1]!];
  }

  #spread(x: Expression, from: readonly number[], to: readonly number[]): Expression {
    if (elementCount(from) === elementCount(to)) return x;
    const builder = new SparseBuilder(x.bias.length);
    for (const place of spreadPlaces(from, to)) {
      builder.add(place, 1);
      builder.endRow();
    }
    return this.#linear(x, builder.build());
  }

  #add(node: Node, sign: 1 | -1): Expression {
    const [x, y] = this.#operands(node);
    return summed(x, sign === 1 ? y : scaled(y, -1));
  }

  #scale(node: Node, x: Expression, xId: ValueId, by: ValueId, factorOf: (value: number) => number): Expression {
    const shape = this.#shapeOut(node);
    const factors = spread(this.#constant(by), shape).map(factorOf);
    const wide = this.#spread(x, this.#shape(xId), shape);
    return {
      terms: new Map([...wide.terms].map(([base, matrix]) => [base, scaleRows(matrix, factors)])),
      bias: wide.bias.map((value, i) => value * factors[i]!),
    };
  }

  #gemm(node: Node, x: Expression): Expression {
    const number = (name: string, fallback: number): number => Number(node.attributes[name] ?? fallback);
    const shape = this.#shape(node.inputs[0]!);
    if (number('transA', 0) !== 0 && shape[0] !== 1)
      throw refused(`${describeNode(node)}: transA over a batch`, node.name);
    const weights = this.#constant(node.inputs[1]!);
    const b = number('transB', 0) === 0 ? weights : weights.transpose();
    const map = rowsTimes(elementCount(shape) / b.shape[0]!, b, number('alpha', 1));
    const out = this.#shapeOut(node);
    const c = node.inputs[2];
    if (c === undefined) return this.#linear(x, map);
    const beta = number('beta', 1);
    return this.#linear(
      x,
      map,
      spread(this.#constant(c), out).map(value => beta * value),
    );
  }

  #matmul(node: Node): Expression {
    const [a, b] = node.inputs as readonly [ValueId, ValueId];
    const x = this.#expressions.get(a);
    if (x !== undefined) {
      const weights = this.#constant(b);
      if (weights.shape.length !== 2) throw refused(`${describeNode(node)}: weights of two axes`, node.name);
      return this.#linear(x, rowsTimes(x.bias.length / weights.shape[0]!, weights, 1));
    }
    const weights = this.#constant(a);
    const shape = this.#shape(b);
    if (weights.shape.length !== 2 || shape.length > 2)
      throw refused(`${describeNode(node)}: weights of two axes, an input of one or two`, node.name);
    const [m, k] = weights.shape as readonly [number, number];
    const n = shape[1] ?? 1;
    const values = weights.values().map(Number);
    const builder = new SparseBuilder(k * n);
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        for (let p = 0; p < k; p++) builder.add(p * n + j, values[i * k + p]!);
        builder.endRow();
      }
    }
    return this.#linear(this.#expressions.get(b)!, builder.build());
  }

  #channelBias(node: Node): Float64Array | undefined {
    const id = node.inputs[2];
    if (id === undefined) return undefined;
    const out = this.#shapeOut(node);
    const plane = elementCount(out.slice(2));
    const values = this.#constant(id).values().map(Number);
    return Float64Array.from({ length: elementCount(out) }, (_, i) => values[Math.floor(i / plane)]!);
  }

  #batchNorm(node: Node, x: Expression): readonly Expression[] | undefined {
    if (Number(node.attributes['training_mode'] ?? 0) !== 0 || node.outputs.slice(1).some(id => id !== undefined))
      return undefined;
    const [scale, shift, mean, variance] = node.inputs.slice(1).map(id => this.#constant(id!).values().map(Number)) as [
      number[],
      number[],
      number[],
      number[],
    ];
    const epsilon = Number(node.attributes['epsilon'] ?? 1e-5);
    const shape = this.#shapeOut(node);
    const plane = elementCount(shape.slice(2));
    const channel = (i: number): number => Math.floor(i / plane) % shape[1]!;
    const factor = scale.map((value, c) => value / Math.sqrt(variance[c]! + epsilon));
    const size = x.bias.length;
    const factors = Float64Array.from({ length: size }, (_, i) => factor[channel(i)]!);
    return [
      {
        terms: new Map([...x.terms].map(([base, matrix]) => [base, scaleRows(matrix, factors)])),
        bias: x.bias.map((value, i) => (value - mean[channel(i)]!) * factors[i]! + shift[channel(i)]!),
      },
    ];
  }

  #reduce(node: Node, x: Expression): Expression {
    const shape = this.#shape(node.inputs[0]!);
    const listed =
      node.inputs[1] === undefined
        ? (node.attributes['axes'] as readonly number[] | undefined)
        : this.#constant(node.inputs[1]).values().map(Number);
    const whole = listed === undefined || listed.length === 0;
    if (whole && Number(node.attributes['noop_with_empty_axes'] ?? 0) !== 0) return x;
    const axes = new Set(whole ? shape.keys() : listed.map(axis => (axis < 0 ? axis + shape.length : axis)));
    const count = shape.reduce((all, size, axis) => (axes.has(axis) ? all * size : all), 1);
    const kept = shape.map((size, axis) => (axes.has(axis) ? 1 : size));
    const rows: number[][] = Array.from({ length: elementCount(kept) }, () => []);
    spreadPlaces(kept, shape).forEach((row, place) => {
      rows[row]!.push(place);
    });
    const factor = node.op === 'ReduceMean' ? 1 / count : 1;
    const map = new SparseBuilder(x.bias.length);
    for (const places of rows) {
      for (const place of places) map.add(place, factor);
      map.endRow();
    }
    return this.#linear(x, map.build());
  }

  // What is not linear.

  #multiply(node: Node, a: ValueId, b: ValueId): Expression {
    const shape = this.#shapeOut(node);
    if (formatShape(this.#shape(a)) !== formatShape(this.#shape(b)))
      throw refused(`${describeNode(node)}: encrypted factors of one shape, got ${formatShape(shape)}`, node.name);
    const left = this.#materialise(a);
    const right = a === b ? left : this.#materialise(b);
    return this.#push({ kind: 'product', name: node.name, inputs: [left, right] }, shape);
  }

  #power(node: Node, a: ValueId, b: ValueId): readonly Expression[] | undefined {
    const exponents = new Set(this.#constant(b).values().map(Number));
    const [exponent] = exponents;
    if (exponents.size !== 1 || exponent === undefined || !Number.isInteger(exponent) || exponent < 1 || exponent > 31)
      return undefined;
    if (exponent === 1) return [this.#expressions.get(a)!];
    if (exponent === 2) return [this.#multiply(node, a, a)];
    return this.#function(node, a);
  }

  #function(node: Node, a: ValueId): readonly Expression[] {
    const polynomial = this.#polynomials.get(node.name);
    if (polynomial !== undefined) {
      const result = this.#polynomial(node, scaled(this.#expressions.get(a)!, 1 / polynomial.radius), polynomial);
      const one = result.terms.size > 1 ? this.#hold(result, node.name, this.#shape(a)) : undefined;
      return [one === undefined ? result : this.#baseExpression(one)];
    }
    const rest = node.inputs.slice(1).map(id => (id === undefined ? undefined : this.#constant(id)));
    const evaluate = (x: Float64Array): Float64Array => {
      const [y] = runNode(node, [Tensor.from('f64', [x.length], x), ...rest]);
      return Float64Array.from(y!.values(), Number);
    };
    const op = node.op;
    const base = this.#materialise(a);
    return [this.#push({ kind: 'function', name: node.name, op, inputs: [base], evaluate }, this.#shape(a))];
  }

  /** The polynomial of `t`, by baby steps up to T_3 and giant steps T_4, T_8, T_16 (Paterson & Stockmeyer 1973 in Chebyshev's basis). */
  #polynomial(node: Node, t: Expression, { coefficients }: Polynomial): Expression {
    const shape = this.#shape(node.inputs[0]!);
    if (coefficients.length === 3 && coefficients[2] !== 0) {
      // c0 + c1 t + c2 (2 t^2 - 1) = 2 c2 (t + c1 / (4 c2))^2 + what is left: one square, and no product with a coefficient.
      const [c0, c1, c2] = coefficients as readonly [number, number, number];
      const shift = c1 / (4 * c2);
      const square = this.#times(node, shifted(t, shift), undefined, shape);
      return shifted(scaled(square, 2 * c2), c0 - c2 - 2 * c2 * shift * shift);
    }
    const known = new Map<number, Expression>([[1, t]]);
    const chebyshev = (k: number): Expression => {
      let found = known.get(k);
      if (found === undefined) {
        const half = chebyshev(k >> 1);
        // T_2k = 2 T_k^2 - 1, T_3 = 2 T_1 T_2 - T_1.
        const one = this.#times(node, half, k === 3 ? chebyshev(2) : undefined, shape);
        found = k === 3 ? summed(scaled(one, 2), scaled(t, -1)) : shifted(scaled(one, 2), -1);
        known.set(k, found);
      }
      return found;
    };
    const evaluate = (p: readonly number[]): Expression => {
      let degree = p.length - 1;
      while (degree > 0 && p[degree] === 0) degree--;
      if (degree < 4) {
        let total = shifted(scaled(t, p[1] ?? 0), p[0]!);
        for (let k = 2; k <= degree; k++) if (p[k] !== 0) total = summed(total, scaled(chebyshev(k), p[k]!));
        return total;
      }
      const m = 2 ** Math.floor(Math.log2(degree));
      const { quotient, remainder } = divideChebyshev(p.slice(0, degree + 1), m);
      const rest = evaluate(remainder);
      const [only] = quotient;
      if (quotient.slice(1).every(c => c === 0)) return summed(scaled(chebyshev(m), only!), rest);
      return summed(this.#times(node, evaluate(quotient), chebyshev(m), shape), rest);
    };
    return evaluate(coefficients);
  }

  /** The product of two expressions, or the square of one. */
  #times(node: Node, x: Expression, y: Expression | undefined, shape: readonly number[]): Expression {
    const left = this.#hold(x, node.name, shape);
    const right = y === undefined || y === x ? left : this.#hold(y, node.name, shape);
    return this.#push({ kind: 'product', name: node.name, inputs: [left, right] }, shape);
  }

  /** Makes a base of a value: a layer, unless one holds it already. */
  #materialise(id: ValueId): Base {
    const held = this.#bases.get(id);
    if (held !== undefined) return held;
    const base = this.#hold(this.#expressions.get(id)!, this.#graph.values[id]!.name, this.#shape(id));
    this.#bases.set(id, base);
    this.#expressions.set(id, this.#baseExpression(base));
    return base;
  }

  /** The base of an expression; one expression has one base. */
  #hold(expression: Expression, name: string, shape: readonly number[]): Base {
    const { terms, bias } = expression;
    const [only] = terms;
    if (terms.size === 1 && only !== undefined && isIdentity(only[1]) && bias.every(value => value === 0))
      return only[0];
    const before = this.#held.get(expression);
    if (before !== undefined) return before;
    const maps = [...terms.values()];
    this.#push({ kind: 'affine', name, inputs: [...terms.keys()], maps, bias }, shape);
    const base = this.#sizes.length - 1;
    this.#held.set(expression, base);
    return base;
  }

  #baseExpression(base: Base): Expression {
    const size = this.#sizes[base]!;
    return { terms: new Map([[base, identity(size)]]), bias: new Float64Array(size) };
  }

  #push(layer: Layer, shape: readonly number[]): Expression {
    const base = this.#sizes.length;
    const size = layer.kind === 'affine' ? layer.bias.length : this.#sizes[layer.inputs[0]]!;
    this.#layers.push(layer);
    this.#sizes.push(size);
    this.#shapes.push(shape);
    return this.#baseExpression(base);
  }

  // Facts.

  #shape(id: ValueId): readonly number[] {
    const { name, facts } = this.#graph.values[id]!;
    if (facts.shape.some(dim => typeof dim !== 'number'))
      throw refused(`${name} has the shape ${formatShape(facts.shape)}; encrypted inference needs every size`, name);
    return facts.shape as readonly number[];
  }

  #shapeOut(node: Node): readonly number[] {
    return this.#shape(node.outputs[0]!);
  }

  #constant(id: ValueId): Tensor {
    const held = this.#constants.get(id);
    if (held !== undefined) return held;
    const constant = this.#graph.constants.get(id);
    const { name, facts } = this.#graph.values[id]!;
    if (constant === undefined) throw refused(`${name} would have to be known when the model is prepared`, name);
    const tensor =
      constant.kind === 'inline'
        ? constant.tensor
        : Tensor.fromBytes(
            facts.dtype,
            facts.shape as readonly number[],
            this.#reader.read(constant.offset, constant.length),
          );
    this.#constants.set(id, tensor);
    return tensor;
  }
}

const ADVICE: Readonly<Record<string, string>> = {
  MaxPool: 'AveragePool, or a convolution with a stride, is linear: train with one of them',
  GlobalMaxPool: 'GlobalAveragePool is linear: train with it',
  LayerNormalization: 'BatchNormalization folds into the weights: train with it',
};

function scaled({ terms, bias }: Expression, factor: number): Expression {
  const by = (map: Sparse): Sparse => ({ ...map, value: map.value.map(value => value * factor) });
  const kept = factor === 0 ? [] : [...terms];
  return { terms: new Map(kept.map(([base, map]) => [base, by(map)])), bias: bias.map(value => value * factor) };
}

function shifted({ terms, bias }: Expression, by: number): Expression {
  return { terms, bias: bias.map(value => value + by) };
}

function summed(a: Expression, b: Expression): Expression {
  const terms = new Map(a.terms);
  for (const [base, map] of b.terms) addTerm(terms, base, map);
  return { terms, bias: a.bias.map((value, i) => value + b.bias[i]!) };
}

function addTerm(terms: Map<Base, Sparse>, base: Base, matrix: Sparse): void {
  const before = terms.get(base);
  terms.set(base, before === undefined ? matrix : sum(before, matrix));
}

/** The map of (count, k) times the weights (k, n), both flattened. */
function rowsTimes(count: number, weights: Tensor, alpha: number): Sparse {
  const [k, n] = weights.shape as readonly [number, number];
  const values = weights.values().map(Number);
  const builder = new SparseBuilder(count * k);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < n; j++) {
      for (let p = 0; p < k; p++) builder.add(i * k + p, alpha * values[p * n + j]!);
      builder.endRow();
    }
  }
  return builder.build();
}

/** For each element of the shape `to`, which element of the shape `from` it is a copy of, where `from` is spread to `to`. */
function spreadPlaces(from: readonly number[], to: readonly number[]): Uint32Array {
  const lead = to.length - from.length;
  let places = Uint32Array.of(0);
  let step = 1;
  for (let axis = to.length - 1; axis >= 0; axis--) {
    const size = axis < lead ? 1 : from[axis - lead]!;
    const inner = places;
    const stride = size === 1 ? 0 : step;
    places = new Uint32Array(to[axis]! * inner.length);
    for (let i = 0; i < to[axis]!; i++)
      for (let j = 0; j < inner.length; j++) places[i * inner.length + j] = inner[j]! + i * stride;
    step *= size;
  }
  return places;
}

function spread(tensor: Tensor, to: readonly number[]): Float64Array {
  const values = tensor.values();
  return Float64Array.from(spreadPlaces(tensor.shape, to), place => Number(values[place]));
}

function isIdentity(matrix: Sparse): boolean {
  if (matrix.rows !== matrix.columns || matrix.value.length !== matrix.rows) return false;
  return matrix.value.every((value, i) => value === 1 && matrix.column[i] === i);
}

function zeros(shape: readonly number[]): Tensor {
  return Tensor.zeros('f64', shape);
}

function refused(message: string, node: string): CloisterError {
  return new CloisterError('UNSUPPORTED_MODEL', `encrypted inference: ${message}`, { node });
}
