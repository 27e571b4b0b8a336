/**
 * Tensors laid out by position: Trilu, EyeLike, OneHot.
 * @module
 */
import { Tensor } from '../../../tensor/index.ts';
import { ONNX_DTYPES } from '../../element-types.ts';
import type { Dim } from '../../graph.ts';
import { singleValue } from '../core/constant.ts';
import { around, copyRun, dense, type Numbers } from '../loops.ts';
import {
  ALL,
  ANY,
  define,
  from,
  type InferContext,
  int,
  NUMBERS,
  type Operator,
  type OperatorVersion,
  type RunContext,
} from '../operator.ts';

const trilu: OperatorVersion = {
  since: 14,
  inputs: [1, 2],
  outputs: [1, 1],
  attributes: { upper: int(1) },
  infer: c => {
    c.expect(0, ANY);
    c.expect(1, ['i64']);
    singleValue(c, 1);
    if (c.input(0).shape.length < 2) c.fail('expected at least 2 dimensions');
    return [c.input(0)];
  },
  run: c => {
    const x = c.operand(0);
    const diagonal = c.tensors[1] ? Number(c.operand(1).values()[0]) : 0;
    const upper = c.number('upper') !== 0;
    const [rows, columns] = x.shape.slice(-2) as [number, number];
    const out = c.allocate();
    const [to, source] = [out.data as Numbers, dense(x)];
    for (let start = 0, row = 0; start < out.size; start += columns, row = (row + 1) % rows) {
      // Row i keeps the columns from i + diagonal on, or up to there.
      const edge = Math.min(Math.max(row + diagonal + (upper ? 0 : 1), 0), columns);
      if (upper) copyRun(to, start + edge, source, start + edge, columns - edge);
      else copyRun(to, start, source, start, edge);
    }
    return [out];
  },
};

const eyeLike: OperatorVersion = {
  since: 9,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: { dtype: int(), k: int(0) },
  infer: c => {
    c.expect(0, ALL);
    c.rank(0, 2);
    const { dtype, shape } = c.input(0);
    if (!c.has('dtype')) return [{ dtype, shape }];
    const wanted = ONNX_DTYPES.get(c.number('dtype'));
    if (!wanted || wanted === 'string')
      return c.unsupported(`attribute dtype: no ones of element type ${c.number('dtype')}`);
    return [{ dtype: wanted, shape }];
  },
  run: c => {
    const out = c.allocate();
    const [rows, columns] = c.shape() as [number, number];
    const k = c.number('k');
    const one = Tensor.of(out.dtype, 1).elements()[0] as number;
    for (let row = Math.max(0, -k); row < Math.min(rows, columns - k); row++) {
      (out.data as Numbers)[row * columns + row + k] = one;
    }
    return [out];
  },
};

/** Where the new axis goes among those of the indices. */
function hotAxis(c: InferContext): number {
  return c.axis(c.number('axis'), c.input(0).shape.length + 1);
}

function runOneHot(c: RunContext): readonly Tensor[] {
  const out = c.allocate();
  const to = out.data as Numbers;
  const { outer, n, inner } = around(c.shape(), hotAxis(c));
  const indices = dense(c.operand(0));
  const [off, on] = dense(c.operand(2)) as unknown as [number, number];
  to.fill(off);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const given = Math.trunc(Number(indices[o * inner + i]!));
      // Opset 11 lets indices count from the end.
      const index = given < 0 && c.node.opset >= 11 ? given + n : given;
      if (index >= 0 && index < n) to[(o * n + index) * inner + i] = on;
    }
  }
  return [out];
}

const oneHot: OperatorVersion = {
  since: 9,
  inputs: [3, 3],
  outputs: [1, 1],
  attributes: { axis: int(-1) },
  infer: c => {
    c.expect(0, NUMBERS);
    c.expect(1, NUMBERS);
    c.expect(2, ANY);
    singleValue(c, 1);
    c.rank(2, 1);
    c.same(c.input(2).shape[0]!, 2, 'input 2: the off and the on value');
    const depth: Dim = c.known(1)?.[0] ?? c.floats(1)?.[0] ?? c.fresh();
    if (typeof depth === 'number' && !(depth >= 0)) c.fail(`a depth of ${depth}`);
    const shape = [...c.input(0).shape];
    shape.splice(hotAxis(c), 0, typeof depth === 'number' ? Math.trunc(depth) : depth);
    return [{ dtype: c.input(2).dtype, shape }];
  },
  run: runOneHot,
};

/** The operators of this file. */
export const PATTERN: readonly Operator[] = [
  define('Trilu', 'compute', trilu),
  define('EyeLike', 'compute', eyeLike),
  define('OneHot', 'compute', oneHot, from(11, oneHot)),
];
