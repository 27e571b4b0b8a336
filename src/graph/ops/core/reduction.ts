/**
 * Reduction along axes: ReduceSum and its kin, ArgMax, ArgMin.
 * @module
 */
import { DTYPES, type DType, Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import { around, dense, fold, isBig, type Numbers } from '../loops.ts';
import {
  define,
  from,
  type InferContext,
  int,
  ints,
  lengthOf,
  NUMBERS,
  type Operator,
  type OperatorVersion,
  type RunContext,
} from '../operator.ts';

/** One way to fold a row of elements into one. */
interface Fold<T> {
  readonly start: T;
  readonly step: (sum: T, x: T) => T;
  readonly finish?: (sum: T, count: number) => T;
}

/**
 * How a row of elements becomes one: in double precision; where it differs, on integers of at most 32 bits, which wrap when they are
 * stored; and in bigints where the dtype is of 64 bits. `extreme` starts from the least or the largest value of the dtype.
 */
interface Reducer extends Fold<number> {
  readonly int?: Fold<number>;
  readonly big: Fold<bigint>;
  readonly extreme?: 'least' | 'largest';
}

const plus = (sum: number, x: number): number => sum + x;
const plusBig = (sum: bigint, x: bigint): bigint => sum + x;
const plusSquare = (sum: bigint, x: bigint): bigint => sum + x * x;
const absolute = (x: bigint): bigint => (x < 0n ? -x : x);
/** A double as a 64-bit integer; NaN and infinities become 0, as they do in {@link Tensor.cast}. */
const whole = (x: number): bigint => (Number.isFinite(x) ? BigInt(Math.trunc(x)) : 0n);

const REDUCERS: Readonly<Record<string, Reducer>> = {
  ReduceSum: {
    start: 0,
    step: plus,
    int: { start: 0, step: (sum, x) => (sum + x) | 0 },
    big: { start: 0n, step: plusBig },
  },
  ReduceMean: {
    start: 0,
    step: plus,
    finish: (sum, count) => sum / count,
    big: { start: 0n, step: plusBig, finish: (sum, count) => (count === 0 ? 0n : sum / BigInt(count)) },
  },
  ReduceMax: {
    start: Number.NEGATIVE_INFINITY,
    step: Math.max,
    big: { start: 0n, step: (a, b) => (a > b ? a : b) },
    extreme: 'least',
  },
  ReduceMin: {
    start: Number.POSITIVE_INFINITY,
    step: Math.min,
    big: { start: 0n, step: (a, b) => (a < b ? a : b) },
    extreme: 'largest',
  },
  ReduceProd: {
    start: 1,
    step: (product, x) => product * x,
    int: { start: 1, step: Math.imul },
    big: { start: 1n, step: (a, b) => BigInt.asIntN(64, a * b) },
  },
  ReduceL1: {
    start: 0,
    step: (sum, x) => sum + Math.abs(x),
    int: { start: 0, step: (sum, x) => (sum + Math.abs(x)) | 0 },
    big: { start: 0n, step: (sum, x) => sum + absolute(x) },
  },
  ReduceL2: {
    start: 0,
    step: (sum, x) => sum + x * x,
    finish: Math.sqrt,
    big: { start: 0n, step: plusSquare, finish: sum => whole(Math.sqrt(Number(sum))) },
  },
  ReduceSumSquare: {
    start: 0,
    step: (sum, x) => sum + x * x,
    int: { start: 0, step: (sum, x) => (sum + Math.imul(x, x)) | 0 },
    big: { start: 0n, step: plusSquare },
  },
  ReduceLogSum: {
    start: 0,
    step: plus,
    finish: Math.log,
    big: { start: 0n, step: plusBig, finish: sum => whole(Math.log(Number(sum))) },
  },
};

/** Where the axes come from: an attribute until opset 13 (ReduceSum) or 18 (the others), then an input. */
type AxesFrom = 'attribute' | 'input';

/** The reduced axes, or undefined where an input holds them and is not known. No axes at all means every axis, or none. */
function reducedAxes(c: InferContext, source: AxesFrom): readonly number[] | undefined {
  const rank = c.input(0).shape.length;
  const given = source === 'attribute' ? (c.numbers('axes') ?? []) : c.inputs[1] ? c.integers(1) : [];
  if (given === undefined) return undefined;
  if (given.length > 0) return c.axes(given, rank);
  const keepAll = source === 'input' && c.number('noop_with_empty_axes') !== 0;
  return keepAll ? [] : c.input(0).shape.map((_, i) => i);
}

function inferReduce(source: AxesFrom, dtypes: readonly DType[]): (c: InferContext) => readonly Facts[] {
  return c => {
    c.expect(0, dtypes);
    c.expect(1, ['i64']);
    const { dtype, shape } = c.input(0);
    const axes = reducedAxes(c, source);
    const keep = c.number('keepdims') !== 0;
    if (axes === undefined) {
      // As many axes as the input is long, whichever they are.
      const gone = keep ? 0 : lengthOf(c, 1);
      if (gone > shape.length) c.fail(`${gone} axes of a rank ${shape.length} tensor`);
      return [{ dtype, shape: Array.from({ length: shape.length - gone }, () => c.fresh()) }];
    }
    const kept = shape.flatMap((dim, i) => (axes.includes(i) ? (keep ? [1] : []) : [dim]));
    return [{ dtype, shape: kept }];
  };
}

/** A list that is too long to be looked at is longer than a tensor has axes. */
const TOO_MANY = 'more axes than a tensor has';

/** The input with the reduced axes last, and how many elements each result takes. */
function rows(x: Tensor, axes: readonly number[]): { values: Numbers; count: number } {
  const rest = x.shape.map((_, i) => i).filter(i => !axes.includes(i));
  return {
    values: dense(x.transpose([...rest, ...axes])),
    count: axes.reduce((size, axis) => size * x.shape[axis]!, 1),
  };
}

/** The smallest or largest value of a dtype: what no element is beyond. */
function extremeOf(dtype: DType, which: 'least' | 'largest'): number {
  const least = which === 'least';
  const { kind, bytes } = DTYPES[dtype];
  if (kind === 'float') return least ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  if (kind === 'bool') return least ? 0 : 1;
  const signed = dtype.startsWith('i');
  const bits = 8 * bytes;
  // Bigints for 64 bits, which are not numbers but pass for them where elements do.
  if (bits === 64) {
    if (least) return (signed ? -(2n ** 63n) : 0n) as unknown as number;
    return (signed ? 2n ** 63n - 1n : 2n ** 64n - 1n) as unknown as number;
  }
  if (least) return signed ? -(2 ** (bits - 1)) : 0;
  return signed ? 2 ** (bits - 1) - 1 : 2 ** bits - 1;
}

function runReduce(source: AxesFrom, reducer: Reducer): (c: RunContext) => readonly Tensor[] {
  return c => {
    const out = c.allocate();
    const { values, count } = rows(c.operand(0), reducedAxes(c, source) ?? c.fail(TOO_MANY));
    const to = out.data as Numbers;
    // The loop is the same for bigints.
    const big = reducer.big as unknown as Fold<number>;
    const fold = isBig(out) ? big : DTYPES[out.dtype].kind === 'int' ? (reducer.int ?? reducer) : reducer;
    const { step, finish } = fold;
    const start = reducer.extreme ? extremeOf(out.dtype, reducer.extreme) : fold.start;
    for (let i = 0, at = 0; i < to.length; i++) {
      let sum = start;
      for (let j = 0; j < count; j++, at++) sum = step(sum, values[at]!);
      to[i] = finish ? finish(sum, count) : sum;
    }
    return [out];
  };
}

/** Subtracts the largest element before the exponentials, as softmax does. Integers are computed as doubles. */
function runLogSumExp(source: AxesFrom): (c: RunContext) => readonly Tensor[] {
  return c => {
    const x = c.operand(0);
    const { dtype } = c.outputs[0]!;
    const doubles = isBig(x) ? x.cast('f64') : x;
    const out = Tensor.zeros(isBig(x) ? 'f64' : dtype, c.shape());
    const { values, count } = rows(doubles, reducedAxes(c, source) ?? c.fail(TOO_MANY));
    for (let i = 0; i < out.size; i++) {
      const row = values.subarray(i * count, (i + 1) * count);
      const largest = fold(row, Number.NEGATIVE_INFINITY, Math.max);
      const shift = Number.isFinite(largest) ? largest : 0;
      (out.data as Numbers)[i] = shift + Math.log(fold(row, 0, (sum, x) => sum + Math.exp(x - shift)));
    }
    return [isBig(x) ? out.cast(dtype) : out];
  };
}

/** The product of a list of sizes, some of which may be symbols. */
function knownProduct(source: AxesFrom): (c: InferContext) => readonly Dim[] | undefined {
  return c => {
    const sizes = c.known(0);
    if (!sizes || c.input(0).shape.length !== 1 || reducedAxes(c, source)?.length !== 1) return undefined;
    return [c.product(sizes)];
  };
}

function reduction(
  name: string,
  axesInputSince: number,
  run: (source: AxesFrom) => (c: RunContext) => readonly Tensor[],
  dtypes: readonly DType[],
): Operator {
  const early: OperatorVersion = {
    since: 1,
    inputs: [1, 1],
    outputs: [1, 1],
    attributes: { axes: ints(), keepdims: int(1) },
    infer: inferReduce('attribute', dtypes),
    run: run('attribute'),
    ...(name === 'ReduceProd' ? { known: knownProduct('attribute') } : {}),
  };
  const late: OperatorVersion = {
    since: axesInputSince,
    inputs: [1, 2],
    outputs: [1, 1],
    attributes: { keepdims: int(1), noop_with_empty_axes: int(0) },
    infer: inferReduce('input', dtypes),
    run: run('input'),
    ...(name === 'ReduceProd' ? { known: knownProduct('input') } : {}),
  };
  return define(name, 'compute', early, late);
}

const WITH_BOOL: readonly DType[] = [...NUMBERS, 'bool'];

/** ArgMax and ArgMin: the index of the best element, the first or (from opset 12 on request) the last of equals; a NaN is best. */
function argument(name: string, better: (a: number, b: number) => boolean): Operator {
  const axisOf = (c: InferContext): number => c.axis(c.number('axis'), c.input(0).shape.length);
  const version: OperatorVersion = {
    since: 1,
    inputs: [1, 1],
    outputs: [1, 1],
    attributes: { axis: int(0), keepdims: int(1) },
    infer: c => {
      c.expect(0, NUMBERS);
      const { shape } = c.input(0);
      const axis = axisOf(c);
      if (shape[axis] === 0) c.fail(`axis ${axis} is empty`);
      const keep = c.number('keepdims') !== 0;
      return [{ dtype: 'i64', shape: shape.flatMap((dim, i) => (i === axis ? (keep ? [1] : []) : [dim])) }];
    },
    run: c => {
      const x = c.operand(0);
      const values = dense(x);
      const { outer, n, inner } = around(x.shape, axisOf(c));
      const last = c.has('select_last_index') && c.number('select_last_index') !== 0;
      const indices = new BigInt64Array(outer * inner);
      for (let o = 0; o < outer; o++) {
        for (let i = 0; i < inner; i++) {
          const start = o * n * inner + i;
          let best = 0;
          for (let j = 1; j < n; j++) {
            const [a, b] = [values[start + j * inner]!, values[start + best * inner]!];
            const [isNone, wasNone] = [Number.isNaN(a), Number.isNaN(b)];
            if (wasNone ? last && isNone : isNone || better(a, b) || (last && a === b)) best = j;
          }
          indices[o * inner + i] = BigInt(best);
        }
      }
      return [Tensor.from('i64', c.shape(), indices)];
    },
  };
  return define(
    name,
    'compute',
    version,
    from(12, version, { attributes: { ...version.attributes, select_last_index: int(0) } }),
  );
}

/** The operators of this file. */
export const REDUCTION: readonly Operator[] = [
  ...Object.entries(REDUCERS).map(([name, reducer]) =>
    reduction(
      name,
      name === 'ReduceSum' ? 13 : 18,
      source => runReduce(source, reducer),
      reducer.extreme ? WITH_BOOL : NUMBERS,
    ),
  ),
  reduction('ReduceLogSumExp', 18, runLogSumExp, NUMBERS),
  argument('ArgMax', (a, b) => a > b),
  argument('ArgMin', (a, b) => a < b),
];
