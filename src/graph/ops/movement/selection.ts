/**
 * Some of the elements, found by looking at them: TopK, NonZero, Compress, Unique.
 * @module
 */
import { denseStrides, Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import { singleValue } from '../core/constant.ts';
import { around, copyRun, dense, type Numbers } from '../loops.ts';
import {
  ANY,
  define,
  from,
  type InferContext,
  int,
  NUMBERS,
  type Operator,
  type OperatorVersion,
  type RunContext,
  required,
} from '../operator.ts';

/** An order of all elements: NaN is like itself and above every number. Serves bigints and strings too. */
function compare(a: number, b: number): number {
  if (a < b) return -1;
  if (a > b) return 1;
  if (a === b) return 0;
  // NaN is the only value that is not like itself.
  return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
}

/** How many elements TopK takes: an attribute before opset 10, an input from then on. */
function topCount(c: InferContext): Dim | undefined {
  return c.node.opset < 10 ? c.number('k') : c.known(1)?.[0];
}

function inferTopK(c: InferContext): readonly Facts[] {
  c.expect(0, NUMBERS);
  c.expect(1, ['i64']);
  singleValue(c, 1);
  const { dtype, shape } = c.input(0);
  const axis = c.axis(c.number('axis'), shape.length);
  const k = topCount(c) ?? c.fresh();
  const size = shape[axis]!;
  if (typeof k === 'number' && (k < 0 || (typeof size === 'number' && k > size))) {
    c.fail(`cannot take ${k} elements of an axis of ${size}`);
  }
  const result = shape.map((dim, i) => (i === axis ? k : dim));
  return [
    { dtype, shape: result },
    { dtype: 'i64', shape: result },
  ];
}

/** Up to so many are kept in order while the rest passes by; more are sorted with the rest. */
const FEW = 64;

/** The first `k` of 0 to n - 1 as `inOrder` has them. */
function firstFew(n: number, k: number, inOrder: (a: number, b: number) => number): Uint32Array {
  const best = new Uint32Array(k);
  if (k === 0) return best;
  for (let j = 0; j < n; j++) {
    if (j >= k && inOrder(best[k - 1]!, j) < 0) continue;
    let at = Math.min(j, k - 1);
    for (; at > 0 && inOrder(j, best[at - 1]!) < 0; at--) best[at] = best[at - 1]!;
    best[at] = j;
  }
  return best;
}

function runTopK(c: RunContext): readonly Tensor[] {
  const x = c.operand(0);
  const { outer, n, inner } = around(x.shape, c.axis(c.number('axis'), x.shape.length));
  const k = topCount(c) as number;
  const sign = c.has('largest') && c.number('largest') === 0 ? 1 : -1;
  const source = dense(x);
  const [values, indices] = [c.allocate(0), c.allocate(1)];
  const [valueTo, indexTo] = [values.data as Numbers, indices.data as BigInt64Array];
  let start = 0;
  // Of equals the first comes first, whichever way the order runs.
  const inOrder = (a: number, b: number): number =>
    sign * compare(source[start + a * inner]!, source[start + b * inner]!) || a - b;
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      start = o * n * inner + i;
      const order = k <= FEW ? firstFew(n, k, inOrder) : Uint32Array.from({ length: n }, (_, j) => j).sort(inOrder);
      for (let j = 0; j < k; j++) {
        const to = (o * k + j) * inner + i;
        valueTo[to] = source[start + order[j]! * inner]!;
        indexTo[to] = BigInt(order[j]!);
      }
    }
  }
  return [values, indices];
}

const topK: OperatorVersion = {
  since: 10,
  inputs: [2, 2],
  outputs: [2, 2],
  attributes: { axis: int(-1) },
  infer: inferTopK,
  run: runTopK,
};

const nonZero: OperatorVersion = {
  since: 9,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: {},
  infer: c => {
    c.expect(0, ANY);
    return [{ dtype: 'i64', shape: [c.input(0).shape.length, c.fresh()] }];
  },
  run: c => {
    const x = c.operand(0);
    const source = dense(x) as ArrayLike<unknown>;
    const found: number[] = [];
    for (let i = 0; i < source.length; i++) {
      // Not by truth: NaN is not zero.
      if (source[i] !== 0 && source[i] !== 0n && source[i] !== '') found.push(i);
    }
    const indices = new BigInt64Array(x.shape.length * found.length);
    let at = 0;
    denseStrides(x.shape).forEach((stride, axis) => {
      for (const i of found) indices[at++] = BigInt(Math.floor(i / stride) % x.shape[axis]!);
    });
    return [Tensor.from('i64', [x.shape.length, found.length], indices)];
  },
};

/** The axis that a node names, if it does; else the elements are one list. */
function optionalAxis(c: InferContext): number | undefined {
  return c.has('axis') ? c.axis(c.number('axis'), c.input(0).shape.length) : undefined;
}

/** The shape with a size that depends on elements along `axis`, or a list of such a size. */
function thinned(c: InferContext, axis: number | undefined, size: Dim): readonly Dim[] {
  return axis === undefined ? [size] : c.input(0).shape.map((dim, i) => (i === axis ? size : dim));
}

/** The slices `picks` of an axis of `x`, or of its elements as one list. */
function pick(x: Tensor, axis: number | undefined, picks: ArrayLike<number>): Tensor {
  const list = axis === undefined ? x.reshape([x.size]) : x;
  const { outer, n, inner } = around(list.shape, axis ?? 0);
  const out = Tensor.zeros(
    x.dtype,
    list.shape.map((dim, i) => (i === (axis ?? 0) ? picks.length : dim)),
  );
  const [to, source] = [out.data as Numbers, dense(list)];
  for (let o = 0, at = 0; o < outer; o++) {
    for (let i = 0; i < picks.length; i++, at += inner) copyRun(to, at, source, (o * n + picks[i]!) * inner, inner);
  }
  return out;
}

const compress: OperatorVersion = {
  since: 9,
  inputs: [2, 2],
  outputs: [1, 1],
  attributes: { axis: int() },
  infer: c => {
    c.expect(0, ANY);
    c.expect(1, ['bool']);
    c.rank(1, 1);
    const axis = optionalAxis(c);
    const { shape } = c.input(0);
    const size = axis === undefined ? c.product(shape) : shape[axis]!;
    const length = c.input(1).shape[0]!;
    if (typeof size === 'number' && typeof length === 'number' && length > size) {
      c.fail(`a condition of ${length} for ${size} elements`);
    }
    return [{ dtype: c.input(0).dtype, shape: thinned(c, axis, c.fresh()) }];
  },
  run: c => {
    const condition = dense(c.operand(1));
    const picks: number[] = [];
    for (let i = 0; i < condition.length; i++) if (condition[i]) picks.push(i);
    return [pick(c.operand(0), optionalAxis(c), picks)];
  },
};

const unique: OperatorVersion = {
  since: 11,
  inputs: [1, 1],
  outputs: [1, 4],
  attributes: { axis: int(), sorted: int(1) },
  infer: c => {
    c.expect(0, ANY);
    const axis = optionalAxis(c);
    const { dtype, shape } = c.input(0);
    const count = c.fresh();
    const all = axis === undefined ? c.product(shape) : shape[axis]!;
    return [
      { dtype, shape: thinned(c, axis, count) },
      { dtype: 'i64', shape: [count] },
      { dtype: 'i64', shape: [all] },
      { dtype: 'i64', shape: [count] },
    ];
  },
  run: c => {
    const x = c.operand(0);
    const axis = optionalAxis(c);
    // Each slice along the axis is a row; rows are compared element by element.
    const rest = x.shape.map((_, i) => i).filter(i => i !== axis);
    const rows = dense(axis === undefined ? x : x.transpose([axis, ...rest]));
    const n = axis === undefined ? x.size : x.shape[axis]!;
    const width = axis === undefined ? 1 : rest.reduce((size, i) => size * x.shape[i]!, 1);
    const compareRows = (a: number, b: number): number => {
      for (let i = 0; i < width; i++) {
        const order = compare(rows[a * width + i]!, rows[b * width + i]!);
        if (order !== 0) return order;
      }
      return 0;
    };
    const order = Uint32Array.from({ length: n }, (_, i) => i).sort((a, b) => compareRows(a, b) || a - b);
    // Runs of equal rows, each known by its first row, which the order puts first.
    const groups: { first: number; readonly members: number[] }[] = [];
    for (const row of order) {
      const last = groups.at(-1);
      if (last && compareRows(last.first, row) === 0) last.members.push(row);
      else groups.push({ first: row, members: [row] });
    }
    if (c.number('sorted') === 0) groups.sort((a, b) => a.first - b.first);
    const inverse = new BigInt64Array(n);
    groups.forEach(({ members }, at) => {
      for (const row of members) inverse[row] = BigInt(at);
    });
    const list = (values: readonly number[]): Tensor =>
      Tensor.from('i64', [values.length], BigInt64Array.from(values, BigInt));
    const firsts = groups.map(({ first }) => first);
    return [
      pick(x, axis, firsts),
      list(firsts),
      Tensor.from('i64', [n], inverse),
      list(groups.map(({ members }) => members.length)),
    ];
  },
};

/** The operators of this file. */
export const SELECTION: readonly Operator[] = [
  define(
    'TopK',
    'compute',
    from(1, topK, { inputs: [1, 1], attributes: { axis: int(-1), k: required(int()) } }),
    topK,
    from(11, topK, { attributes: { axis: int(-1), largest: int(1), sorted: int(1) } }),
  ),
  define('NonZero', 'compute', nonZero),
  define('Compress', 'compute', compress),
  define('Unique', 'compute', unique),
];
