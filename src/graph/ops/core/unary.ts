/**
 * Functions of one element: Neg, Abs, Sqrt, Exp, Erf and the rest, and the activations, which are functions with parameters.
 * @module
 */
import { type DType, formatShape } from '../../../tensor/index.ts';
import type { Dim } from '../../graph.ts';
import { isBig, mapInto, zipInto } from '../loops.ts';
import {
  type AttributeSpec,
  define,
  FLOATS,
  float,
  from,
  type InferContext,
  ints,
  NUMBERS,
  type Operator,
  type OperatorVersion,
  type RunContext,
  string,
} from '../operator.ts';
import {
  type Activation,
  celu,
  clip as clipBy,
  elu,
  erf,
  gelu,
  geluTanh,
  hardSigmoid,
  hardSwish,
  leakyRelu,
  mish,
  relu,
  sigmoid,
  softplus,
  softsign,
  swish,
  thresholdedRelu,
} from './activations.ts';
import { singleValue } from './constant.ts';

interface UnaryOptions {
  readonly since?: number;
  /** Whether opset 1 let a node say which inputs it may overwrite, until opset 6. The hint has no meaning here. */
  readonly hinted?: boolean;
  readonly dtypes?: readonly DType[];
  readonly attributes?: Readonly<Record<string, AttributeSpec>>;
  /** The function on 64-bit integers, where `dtypes` has them; left out, they are computed as doubles. */
  readonly big?: (x: bigint) => bigint;
}

/** An operator that applies one function, made from the node's attributes, to each element. */
function unary(name: string, make: (c: RunContext) => Activation, options: UnaryOptions = {}): Operator {
  const { since = 1, hinted = since === 1, dtypes = FLOATS, attributes = {}, big } = options;
  const version: OperatorVersion = {
    since,
    inputs: [1, 1],
    outputs: [1, 1],
    attributes,
    infer: c => {
      c.expect(0, dtypes);
      return [c.input(0)];
    },
    run: c => {
      const x = c.operand(0);
      return [mapInto(c.allocate(), x, isBig(x) ? ((big ?? onDoubles(make(c))) as unknown as Activation) : make(c))];
    },
  };
  if (!hinted) return define(name, 'elementwise', version);
  return define(
    name,
    'elementwise',
    from(1, version, { attributes: { ...attributes, consumed_inputs: ints() } }),
    from(6, version),
  );
}

/** `f` on 64-bit integers: exact as long as arguments and results are below 2^53, cut towards zero as a cast cuts. */
function onDoubles(f: Activation): (x: bigint) => bigint {
  return x => {
    const y = f(Number(x));
    return Number.isFinite(y) ? BigInt(Math.trunc(y)) : 0n;
  };
}

/** A unary operator without attributes. */
function plain(name: string, f: Activation, options: UnaryOptions = {}): Operator {
  return unary(name, () => f, options);
}

/** Clip with bounds as attributes (before opset 11) or as inputs. A bound left out does not bind. */
function clipWith(c: RunContext, low: number, high: number): readonly ReturnType<typeof mapInto>[] {
  return [mapInto(c.allocate(), c.operand(0), clipBy(low, high))];
}

const clip: OperatorVersion = {
  since: 11,
  inputs: [1, 3],
  outputs: [1, 1],
  attributes: {},
  infer: c => {
    c.expect(0, NUMBERS);
    for (const bound of [1, 2]) {
      c.sameDType(0, bound);
      singleValue(c, bound);
    }
    return [c.input(0)];
  },
  run: c => {
    const x = c.operand(0);
    if (!isBig(x)) {
      const bound = (i: number, none: number): number => (c.tensors[i] ? Number(c.operand(i).values()[0]) : none);
      return clipWith(c, bound(1, Number.NEGATIVE_INFINITY), bound(2, Number.POSITIVE_INFINITY));
    }
    const largest = (a: bigint, b: bigint): bigint => (a > b ? a : b);
    const smallest = (a: bigint, b: bigint): bigint => (a < b ? a : b);
    let out = x;
    if (c.tensors[1]) out = zipInto(c.allocate(), out, c.operand(1).reshape([]), largest as unknown as Math['max']);
    if (c.tensors[2]) out = zipInto(c.allocate(), out, c.operand(2).reshape([]), smallest as unknown as Math['min']);
    return [out];
  },
};

const clipAttributes = from(1, clip, {
  inputs: [1, 1],
  attributes: { min: float(), max: float(), consumed_inputs: ints() },
  infer: c => {
    c.expect(0, FLOATS);
    return [c.input(0)];
  },
  run: c => {
    const low = c.has('min') ? c.number('min') : Number.NEGATIVE_INFINITY;
    const high = c.has('max') ? c.number('max') : Number.POSITIVE_INFINITY;
    return clipWith(c, low, high);
  },
});

const prelu: OperatorVersion = {
  since: 7,
  inputs: [2, 2],
  outputs: [1, 1],
  attributes: {},
  infer: c => {
    c.expect(0, [...FLOATS, 'i32', 'u32', 'i64', 'u64']);
    c.sameDType(0, 1);
    const { shape } = c.input(0);
    const result = c.broadcast(shape, c.input(1).shape);
    if (result.length !== shape.length || result.some((dim, i) => c.differ(dim, shape[i]!))) {
      c.fail(`${formatShape(c.input(1).shape)} does not broadcast into ${formatShape(shape)}`);
    }
    return [c.input(0)];
  },
  // A product of bigints is one, too; `x < 0` compares both kinds.
  run: c => [zipInto(c.allocate(), c.operand(0), c.operand(1), (x, slope) => (x < 0 ? slope * x : x))],
};

/** Before opset 7 the slope was one for all, or one for each channel. */
const preluChannels = from(6, prelu, {
  infer: c => {
    c.expect(0, FLOATS);
    c.sameDType(0, 1);
    channelSlope(c);
    return [c.input(0)];
  },
  run: c => [
    zipInto(c.allocate(), c.operand(0), c.operand(1).reshape(channelSlope(c) as readonly number[]), (x, slope) =>
      x < 0 ? slope * x : x,
    ),
  ],
});

/** The shape in which a slope per channel meets the channels, which are axis 1. */
function channelSlope(c: InferContext): readonly Dim[] {
  const [x, slope] = [c.input(0).shape, c.input(1).shape];
  const size = c.product(slope);
  if (size === 1) return [];
  if (slope.length !== 1 || x.length < 2) c.fail(`expected one slope or one per channel, got ${formatShape(slope)}`);
  c.same(size, x[1]!, 'slopes and channels');
  return [size, ...new Array<number>(x.length - 2).fill(1)];
}

const selu: OperatorVersion = {
  since: 6,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: { alpha: float(1.6732631921768188), gamma: float(1.0507010221481323) },
  infer: c => {
    c.expect(0, FLOATS);
    return [c.input(0)];
  },
  run: c => [mapInto(c.allocate(), c.operand(0), elu(c.number('alpha'), c.number('gamma')))],
};

/** The largest finite float32. */
const MAX_F32 = 3.4028234663852886e38;

const abs64 = (x: bigint): bigint => (x < 0n ? -x : x);

/** Rounds half to even, as IEEE 754 does and Math.round does not. */
function roundEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** The second input, let through by the first. */
const swiglu: OperatorVersion = {
  since: 28,
  inputs: [2, 2],
  outputs: [1, 1],
  attributes: { alpha: float(1) },
  infer: c => {
    c.expect(0, FLOATS);
    c.sameDType(0, 1);
    return [{ dtype: c.input(0).dtype, shape: c.broadcast(c.input(0).shape, c.input(1).shape) }];
  },
  run: c => {
    const gate = swish(c.number('alpha'));
    return [zipInto(c.allocate(), c.operand(0), c.operand(1), (a, b) => gate(a) * b)];
  },
};

/** The operators of this file. */
export const UNARY: readonly Operator[] = [
  plain('Neg', x => -x, { dtypes: NUMBERS, big: x => -x }),
  plain('Abs', Math.abs, { dtypes: NUMBERS, big: abs64 }),
  plain('Sqrt', Math.sqrt),
  plain('Exp', Math.exp),
  plain('Log', Math.log),
  plain('Floor', Math.floor),
  plain('Ceil', Math.ceil),
  plain('Reciprocal', x => 1 / x),
  plain('Sigmoid', sigmoid),
  plain('Tanh', Math.tanh),
  plain('Relu', relu, { dtypes: NUMBERS, big: x => (x < 0n ? 0n : x) }),
  plain('Erf', erf, { since: 9, dtypes: NUMBERS }),
  plain('Sign', Math.sign, { since: 9, dtypes: NUMBERS, big: x => (x > 0n ? 1n : x < 0n ? -1n : 0n) }),
  plain('Round', roundEven, { since: 11 }),
  plain('Sin', Math.sin, { since: 7 }),
  plain('Cos', Math.cos, { since: 7 }),
  plain('Tan', Math.tan, { since: 7 }),
  plain('Asin', Math.asin, { since: 7 }),
  plain('Acos', Math.acos, { since: 7 }),
  plain('Atan', Math.atan, { since: 7 }),
  plain('Sinh', Math.sinh, { since: 9 }),
  plain('Cosh', Math.cosh, { since: 9 }),
  plain('Asinh', Math.asinh, { since: 9 }),
  plain('Acosh', Math.acosh, { since: 9 }),
  plain('Atanh', Math.atanh, { since: 9 }),
  plain('Softplus', softplus, { hinted: false }),
  plain('Softsign', softsign, { hinted: false }),
  plain('HardSwish', hardSwish, { since: 14 }),
  plain('Mish', mish, { since: 18 }),
  unary('LeakyRelu', c => leakyRelu(c.number('alpha')), { attributes: { alpha: float(0.01) } }),
  unary('Elu', c => elu(c.number('alpha')), { attributes: { alpha: float(1) } }),
  define(
    'Selu',
    'elementwise',
    // The constants had five digits before opset 6.
    from(1, selu, { attributes: { alpha: float(1.6732), gamma: float(1.0507), consumed_inputs: ints() } }),
    selu,
  ),
  unary('Celu', c => celu(c.number('alpha')), { since: 12, attributes: { alpha: float(1) } }),
  unary('HardSigmoid', c => hardSigmoid(c.number('alpha'), c.number('beta')), {
    attributes: { alpha: float(0.2), beta: float(0.5) },
  }),
  unary('ThresholdedRelu', c => thresholdedRelu(c.number('alpha')), { since: 10, attributes: { alpha: float(1) } }),
  unary('Swish', c => swish(c.number('alpha')), { since: 24, attributes: { alpha: float(1) } }),
  define('SwiGLU', 'elementwise', swiglu),
  unary('Gelu', geluOf, { since: 20, attributes: { approximate: string('none') } }),
  unary('Shrink', c => shrink(c.number('lambd'), c.number('bias')), {
    since: 9,
    dtypes: NUMBERS,
    attributes: { bias: float(0), lambd: float(0.5) },
  }),
  define(
    'PRelu',
    'elementwise',
    from(1, preluChannels, { attributes: { consumed_inputs: ints() } }),
    preluChannels,
    prelu,
  ),
  define(
    'Clip',
    'elementwise',
    clipAttributes,
    // Opset 6 made the bounds of float32 the default ones.
    from(6, clipAttributes, { attributes: { min: float(-MAX_F32), max: float(MAX_F32) } }),
    clip,
  ),
];

function geluOf(c: RunContext): Activation {
  const approximate = c.string('approximate');
  if (approximate === 'none') return gelu;
  if (approximate === 'tanh') return geluTanh;
  return c.fail(`attribute approximate: expected none or tanh, got ${JSON.stringify(approximate.slice(0, 20))}`);
}

function shrink(lambd: number, bias: number): Activation {
  return x => (x < -lambd ? x + bias : x > lambd ? x - bias : 0);
}
