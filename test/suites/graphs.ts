/**
 * Random graphs for property tests: small, valid, of the shapes that exporters write, with inputs to run them on.
 * @module
 */
import fc from 'fast-check';
import { isCloisterError } from '../../src/base/index.ts';
import type { NamedTensors } from '../../src/engine/index.ts';
import {
  checkNode,
  type Dim,
  type Graph,
  GraphBuilder,
  type Operator,
  type OperatorTable,
  runNode,
  type ValueId,
} from '../../src/graph/index.ts';
import { elementCount, Tensor } from '../../src/tensor/index.ts';

/** A graph and one set of inputs that it runs on. */
export interface SampleGraph {
  readonly graph: Graph;
  readonly inputs: NamedTensors;
}

/** What {@link graphs} may be told. */
export interface GraphsOptions {
  /** Which steps graphs are made of; all where left out. */
  readonly steps?: readonly StepName[];
  /** The most steps; one may be several nodes. Default 12. */
  readonly maxSteps?: number;
  /** Whether the first input has a symbolic size. Default false. */
  readonly symbolic?: boolean;
  /**
   * Operators that graphs are made of as well: nodes of any dtype, in any form that takes the values which are there. What
   * compares elements or rounds them is among them, so a small difference early may be a large one at the end. None by default.
   */
  readonly operators?: OperatorTable;
}

/** Numbers in [-1, 1) that depend on the seed alone: xorshift32. */
function numbers(seed: number): () => number {
  let state = Math.imul(seed, 2_654_435_761) >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 31 - 1;
  };
}

/** A float32 tensor of numbers in [-1, 1) that depend on the seed alone. */
export function sampleTensor(shape: readonly number[], seed: number): Tensor<'f32'> {
  const next = numbers(seed);
  return Tensor.from('f32', shape, Float32Array.from({ length: elementCount(shape) }, next));
}

/** A graph in the making: what a step sees. */
class Draft {
  readonly builder: GraphBuilder;
  readonly operators: readonly Operator[];
  /** Values of float32, which steps work on. */
  readonly values: ValueId[] = [];
  /** Values that only nodes of any operator read. */
  readonly others: ValueId[] = [];
  /** What values are on the inputs of the sample, where operators are tried on them. */
  readonly tensors: Map<ValueId, Tensor> = new Map();
  /** What this step chose, for what it has to choose itself. */
  choice = 0;
  #count = 0;

  constructor(operators: OperatorTable | undefined) {
    this.builder = new GraphBuilder('random', { opset: 18, ...(operators ? { operators } : {}) });
    this.operators = [...(operators?.values() ?? [])];
  }

  input(name: string, shape: readonly Dim[], tensor: Tensor): ValueId {
    const id = this.builder.input(name, { dtype: tensor.dtype, shape });
    this.tensors.set(id, tensor);
    return id;
  }

  /** A node of any operator of the table on values that are there, where it computes something from them. */
  anything(choice: number): void {
    const operator = this.operators[choice % this.operators.length];
    if (!operator) return;
    const opset = operator.domain === '' ? 18 : operator.versions.at(-1)!.since;
    const version = operator.versions.findLast(({ since }) => since <= opset);
    if (!version || operator.kind === 'control') return;
    const pool = [...this.values, ...this.others];
    const [least, most] = version.inputs;
    const count = Math.max(1, Math.min(most, least + (choice % 3 === 0 ? 1 : 0)));
    const inputs = Array.from({ length: count }, (_, i) => pool[Math.floor(choice / (13 + 29 * i)) % pool.length]!);
    const node = { op: operator.name, domain: operator.domain, opset, inputs, attributes: {} };
    try {
      const tensors = inputs.map(id => this.tensors.get(id));
      const tried = { ...node, name: 'tried', outputs: [0] };
      checkNode(tried, version);
      const [result] = runNode(tried, tensors);
      if (!result || result.size > MOST_ELEMENTS) return;
      const id = this.builder.node(node)[0]!;
      this.tensors.set(id, result);
      const { dtype, shape } = this.builder.facts(id);
      if (dtype === 'f32' && shape.length > 0 && !shape.includes(0)) this.values.push(id);
      else this.others.push(id);
    } catch (error) {
      // It does not take these values.
      if (!isCloisterError(error)) throw error;
    }
  }

  /** A value that is there already. */
  pick(salt: number): ValueId {
    return this.values[Math.floor(this.choice / salt) % this.values.length]!;
  }

  shape(id: ValueId): readonly (number | string)[] {
    return this.builder.facts(id).shape;
  }

  rank(id: ValueId): number {
    return this.shape(id).length;
  }

  op(
    op: string,
    inputs: readonly (ValueId | undefined)[],
    attributes: Record<string, number | string | readonly number[]> = {},
  ): ValueId {
    const id = this.builder.node({ op, inputs, attributes })[0]!;
    if (this.operators.length === 0) return id;
    const tensors = inputs.map(input => (input === undefined ? undefined : this.tensors.get(input)));
    this.tensors.set(
      id,
      runNode({ name: op, domain: '', op, opset: 18, inputs, outputs: [id], attributes }, tensors)[0]!,
    );
    return id;
  }

  constant(tensor: Tensor): ValueId {
    const id = this.builder.constant(`c${this.#count++}`, tensor);
    this.tensors.set(id, tensor);
    return id;
  }

  weight(...shape: readonly number[]): ValueId {
    return this.constant(sampleTensor(shape, this.#count + 1));
  }

  scalar(value: number): ValueId {
    return this.constant(Tensor.of('f32', value));
  }

  ints(...values: readonly number[]): ValueId {
    return this.constant(Tensor.from('i64', [values.length], BigInt64Array.from(values, BigInt)));
  }

  /** The size of the last axis, where it is known. */
  width(id: ValueId): number | undefined {
    const size = this.shape(id).at(-1);
    return typeof size === 'number' && size > 0 ? size : undefined;
  }
}

/** No value that a node of any operator makes is larger. */
const MOST_ELEMENTS = 2000;

const UNARY = ['Relu', 'Tanh', 'Sigmoid', 'Abs', 'Neg', 'Identity', 'Erf'];
const BINARY = ['Add', 'Sub', 'Mul', 'Min', 'Max', 'Sum', 'Mean'];

/** Whether two shapes broadcast, axis by axis. */
function compatible(a: readonly (number | string)[], b: readonly (number | string)[]): boolean {
  return a.length === b.length && a.every((size, i) => size === b[i] || size === 1 || b[i] === 1);
}

/** The steps that graphs are made of: each takes values that are there and makes one, or nothing where it does not fit. */
const STEPS: Readonly<Record<StepName, (g: Draft) => ValueId | undefined>> = {
  unary: g => g.op(UNARY[g.choice % UNARY.length]!, [g.pick(7)]),
  binary: g => {
    const [a, b] = [g.pick(7), g.pick(101)];
    return compatible(g.shape(a), g.shape(b)) ? g.op(BINARY[g.choice % BINARY.length]!, [a, b]) : undefined;
  },
  transpose: g => (g.rank(g.pick(7)) === 3 ? g.op('Transpose', [g.pick(7)], { perm: [2, 0, 1] }) : undefined),
  matmul: g => {
    const k = g.width(g.pick(7));
    return k === undefined ? undefined : g.op('MatMul', [g.pick(7), g.weight(k, 3)]);
  },
  dense: g => {
    const k = g.width(g.pick(7));
    return k === undefined ? undefined : g.op('Add', [g.op('MatMul', [g.pick(7), g.weight(k, 4)]), g.weight(4)]);
  },
  rows: g => {
    const k = g.width(g.pick(7));
    if (k === undefined) return undefined;
    const matrix = g.op('Flatten', [g.pick(7)], { axis: -1 });
    const sum = g.op('Add', [g.op('MatMul', [matrix, g.weight(k, 4)]), g.weight(4)]);
    return g.op('Unsqueeze', [g.choice % 2 === 0 ? g.op('Relu', [sum]) : sum, g.ints(0)]);
  },
  softmax: g => g.op('Softmax', [g.pick(7)], { axis: g.choice % g.rank(g.pick(7)) }),
  mean: g => g.op('ReduceMean', [g.pick(7), g.ints(g.choice % g.rank(g.pick(7)))], {}),
  concat: g => ((g.width(g.pick(7)) ?? 99) < 40 ? g.op('Concat', [g.pick(7), g.pick(7)], { axis: -1 }) : undefined),
  slice: g =>
    g.op('Slice', [
      g.pick(7),
      g.ints(-1),
      g.ints(-100),
      g.ints(g.choice % g.rank(g.pick(7))),
      g.ints(-1 - (g.choice % 2)),
    ]),
  wholeSlice: g => g.op('Slice', [g.pick(7), g.ints(0), g.ints(2 ** 40), g.ints(g.choice % g.rank(g.pick(7)))]),
  /** The way back of `transpose`. */
  turnBack: g => (g.rank(g.pick(7)) === 3 ? g.op('Transpose', [g.pick(7)], { perm: [1, 2, 0] }) : undefined),
  turnedPair: g => {
    const x = g.pick(7);
    if (g.rank(x) !== 3) return undefined;
    const turn = (id: ValueId): ValueId => g.op('Transpose', [id], { perm: [0, 2, 1] });
    return g.op('Sub', [turn(x), turn(g.op('Abs', [x]))]);
  },
  flatten: g => g.op('Reshape', [g.pick(7), g.ints(1, -1, 1)]),
  /** To the shape that a value has anyhow, computed from it. */
  sameReshape: g => g.op('Reshape', [g.pick(7), g.op('Shape', [g.pick(7)])]),
  lift: g => {
    const axis = g.choice % g.rank(g.pick(7));
    return g.op('Squeeze', [g.op('Unsqueeze', [g.pick(7), g.ints(axis)]), g.ints(axis)]);
  },
  neutral: g => {
    const [op, value] = (
      [
        ['Mul', 1],
        ['Div', 1],
        ['Sub', 0],
        ['Add', 0],
        ['Add', -0],
        ['Mul', 2],
      ] as const
    )[g.choice % 6]!;
    return g.op(op, [g.pick(7), g.scalar(value)]);
  },
  /** What is there already, once more. */
  twice: g => {
    const x = g.pick(7);
    return g.op('Add', [g.op('Tanh', [x]), g.op('Tanh', [x])]);
  },
  pad: g => {
    const rank = g.rank(g.pick(7));
    const pads = Array.from({ length: 2 * rank }, (_, i) => (g.choice >> i) & 1);
    return rank === 3 ? g.op('Pad', [g.pick(7), g.ints(...pads), g.scalar(0.5)]) : undefined;
  },
  choose: g => {
    const x = g.pick(7);
    return g.op('Where', [g.op('Less', [x, g.scalar(0)]), x, g.scalar(0.25)]);
  },
  gelu: g => {
    const x = g.pick(7);
    const gate = g.op('Add', [g.op('Erf', [g.op('Div', [x, g.scalar(Math.SQRT2)])]), g.scalar(1)]);
    return g.op('Mul', [g.op('Mul', [x, gate]), g.scalar(0.5)]);
  },
  swish: g => g.op('Mul', [g.pick(7), g.op('Sigmoid', [g.pick(7)])]),
  layerNorm: g => {
    const x = g.pick(7);
    const n = g.width(x);
    if (n === undefined) return undefined;
    const last = (id: ValueId): ValueId => g.op('ReduceMean', [id, g.ints(-1)]);
    const centred = g.op('Sub', [x, last(x)]);
    const variance = last(g.op('Pow', [centred, g.scalar(2)]));
    const deviation = g.op('Sqrt', [g.op('Add', [variance, g.scalar(1e-3)])]);
    return g.op('Add', [g.op('Mul', [g.op('Div', [centred, deviation]), g.weight(n)]), g.weight(n)]);
  },
  longSoftmax: g => {
    const x = g.pick(7);
    const axis = g.ints(-1);
    const power = g.op('Exp', [g.op('Sub', [x, g.op('ReduceMax', [x, axis])])]);
    return g.op('Div', [power, g.op('ReduceSum', [power, axis])]);
  },
  attention: g => {
    const x = g.pick(7);
    const n = g.width(x);
    if (n === undefined || g.rank(x) !== 3) return undefined;
    const heads = g.op('Unsqueeze', [x, g.ints(1)]);
    const keys = g.op('Transpose', [g.op('Tanh', [heads])], { perm: [0, 1, 3, 2] });
    const scores = g.op('Mul', [g.op('MatMul', [heads, keys]), g.scalar(0.5)]);
    const weights = g.op('Softmax', [scores], { axis: -1 });
    return g.op('Squeeze', [g.op('MatMul', [weights, heads]), g.ints(1)]);
  },
  convolution: g => {
    const x = g.pick(7);
    const channels = g.shape(x)[1];
    if (g.rank(x) !== 3 || typeof channels !== 'number' || channels === 0) return undefined;
    const conv = g.op('Conv', [x, g.weight(4, channels, 3), g.weight(4)], { pads: [1, 1] });
    if (g.choice % 2 === 0) return g.op('Relu', [g.op('Add', [conv, g.weight(4, 1)])]);
    const variance = g.constant(Tensor.of('f32', [0.5, 1, 1.5, 2]));
    return g.op('BatchNormalization', [conv, g.weight(4), g.weight(4), g.weight(4), variance]);
  },
};

/** The steps that graphs can be made of. */
export type StepName =
  | 'unary'
  | 'binary'
  | 'transpose'
  | 'matmul'
  | 'dense'
  | 'rows'
  | 'softmax'
  | 'mean'
  | 'concat'
  | 'slice'
  | 'wholeSlice'
  | 'turnBack'
  | 'turnedPair'
  | 'flatten'
  | 'sameReshape'
  | 'lift'
  | 'neutral'
  | 'twice'
  | 'pad'
  | 'choose'
  | 'gelu'
  | 'swish'
  | 'layerNorm'
  | 'longSoftmax'
  | 'attention'
  | 'convolution';

/** The names of all steps. */
export const STEP_NAMES: readonly StepName[] = Object.keys(STEPS) as StepName[];

/** Steps whose nodes move data, multiply matrices or work element by element, in float32: what a first backend computes. */
export const PLAIN_STEPS: readonly StepName[] = [
  'unary',
  'binary',
  'transpose',
  'matmul',
  'dense',
  'softmax',
  'mean',
  'concat',
  'slice',
];

/**
 * Graphs of up to `maxSteps` steps, each over values that were made before it. Sizes are from 1 to 5 and stay small; two inputs
 * broadcast against each other. Each graph comes with inputs in [-1, 1).
 */
export function graphs(options: GraphsOptions = {}): fc.Arbitrary<SampleGraph> {
  const { steps = STEP_NAMES, maxSteps = 12, symbolic = false, operators } = options;
  const names = operators ? [...steps, ...steps.map(() => 'anything' as const)] : steps;
  return fc
    .record({
      shape: fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 3, maxLength: 3 }),
      choices: fc.array(fc.tuple(fc.constantFrom(...names), fc.nat(1_000_000)), { minLength: 1, maxLength: maxSteps }),
    })
    .map(({ shape, choices }) => build(shape, choices, symbolic, operators));
}

function build(
  shape: readonly number[],
  choices: readonly (readonly [StepName | 'anything', number])[],
  symbolic: boolean,
  operators: OperatorTable | undefined,
): SampleGraph {
  const g = new Draft(operators);
  const small = shape.map((size, i) => (i === 0 ? 1 : size));
  const declared = symbolic ? ['batch', ...shape.slice(1)] : shape;
  const inputs = { x: sampleTensor(shape, 1), y: sampleTensor(small, 2) };
  g.values.push(g.input('x', declared, inputs.x), g.input('y', small, inputs.y));
  if (operators) g.others.push(g.ints(0, 1), g.constant(Tensor.of('bool', true)), g.ints(2, 1, 3));
  for (const [name, choice] of choices) {
    g.choice = choice;
    if (name === 'anything') {
      g.anything(choice);
      continue;
    }
    const made = STEPS[name](g);
    if (made !== undefined) g.values.push(made);
  }
  const made = g.values.slice(2);
  for (const id of new Set(made.length > 0 ? made.slice(-2) : g.values)) g.builder.output(id);
  // The first three are constants.
  for (const id of g.others.slice(3).slice(-2)) g.builder.output(id);
  return { graph: g.builder.build(), inputs };
}
