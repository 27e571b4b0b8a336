/**
 * Running totals along an axis: CumSum, CumProd.
 * @module
 */
import type { Tensor } from '../../../tensor/index.ts';
import { around, dense, isBig, type Numbers } from '../loops.ts';
import { define, FLOATS, int, NUMBERS, type Operator, type OperatorVersion, type RunContext } from '../operator.ts';
import { singleValue } from './constant.ts';

/** A sum or a product: on doubles, on 32-bit integers that wrap, and on 64-bit ones. */
interface Running {
  readonly start: 0 | 1;
  readonly float: (total: number, x: number) => number;
  readonly int: (total: number, x: number) => number;
  readonly big: (total: bigint, x: bigint) => bigint;
}

const SUM: Running = {
  start: 0,
  float: (total, x) => total + x,
  int: (total, x) => (total + x) | 0,
  big: (total, x) => BigInt.asIntN(64, total + x),
};

const PRODUCT: Running = {
  start: 1,
  float: (total, x) => total * x,
  int: Math.imul,
  big: (total, x) => BigInt.asIntN(64, total * x),
};

function runScan(c: RunContext, running: Running): readonly Tensor[] {
  const x = c.operand(0);
  const { outer, n, inner } = around(x.shape, c.axis(Number(c.operand(1).values()[0]), x.shape.length));
  const [exclusive, reverse] = [c.number('exclusive') !== 0, c.number('reverse') !== 0];
  const big = isBig(x);
  // Elements of 64-bit tensors are bigints, and so is their start; the loop is the same.
  const start = (big ? BigInt(running.start) : running.start) as number;
  const step = big
    ? (running.big as unknown as Running['float'])
    : FLOATS.includes(x.dtype)
      ? running.float
      : running.int;
  const out = c.allocate();
  const [to, source] = [out.data as Numbers, dense(x)];
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      let total = start;
      for (let j = 0; j < n; j++) {
        const at = (o * n + (reverse ? n - 1 - j : j)) * inner + i;
        const next = step(total, source[at]!);
        to[at] = exclusive ? total : next;
        total = next;
      }
    }
  }
  return [out];
}

function scan(since: number, running: Running): OperatorVersion {
  return {
    since,
    inputs: [2, 2],
    outputs: [1, 1],
    attributes: { exclusive: int(0), reverse: int(0) },
    infer: c => {
      c.expect(0, NUMBERS);
      c.expect(1, ['i32', 'i64']);
      singleValue(c, 1);
      const axis = c.integers(1)?.[0];
      if (axis !== undefined) c.axis(axis, c.input(0).shape.length);
      return [c.input(0)];
    },
    run: c => runScan(c, running),
  };
}

/** The operators of this file. */
export const SCAN: readonly Operator[] = [
  define('CumSum', 'compute', scan(11, SUM)),
  define('CumProd', 'compute', scan(26, PRODUCT)),
];
