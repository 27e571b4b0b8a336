/**
 * The quantised forms of other operators that com.microsoft defines: tensors of eight bits in and out, each with a scale and a
 * zero point.
 * @module
 */
import { formatShape, Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import { around, dense, type Numbers, zipInto } from '../loops.ts';
import {
  type AttributeSpec,
  defineIn,
  float,
  type InferContext,
  int,
  ints,
  MANY,
  type Operator,
  type RunContext,
  required,
  string,
} from '../operator.ts';
import { checkAutoPad, concreteWindow, threeAxes, threeSizes, windowShape } from '../vision/window.ts';
import {
  BYTES,
  expectQuantised,
  expectSingle,
  type Quantisation,
  quantisationOf,
  quantisedRange,
  requantiseTable,
  saturate,
  throughTable,
} from './quantisation.ts';

function define(
  name: string,
  inputs: readonly [number, number],
  attributes: Readonly<Record<string, AttributeSpec>>,
  infer: (c: InferContext) => readonly Facts[],
  run: (c: RunContext) => readonly Tensor[],
): Operator {
  return defineIn('com.microsoft', name, 'compute', { since: 1, inputs, outputs: [1, 1], attributes, infer, run });
}

/** Two operands that broadcast: inputs are A, its scale and zero point, B, its scale and zero point, scale and zero point of C. */
function binary(name: string, kernel: (c: RunContext, out: Tensor, c0: Quantisation) => void): Operator {
  return define(
    name,
    [7, 8],
    {},
    c => {
      expectQuantised(c, 0, 1, 2);
      expectQuantised(c, 3, 4, 5);
      c.sameDType(0, 3);
      c.sameDType(0, 7);
      c.expect(6, ['f32']);
      expectSingle(c, 6, 7);
      return [{ dtype: c.input(0).dtype, shape: c.broadcast(c.input(0).shape, c.input(3).shape) }];
    },
    c => {
      const out = c.allocate();
      kernel(c, out, quantisationOf(c, 6, 7));
      return [out];
    },
  );
}

/** What each value of eight bits stands for, in units of another scale, at its place `value & 255`. */
function unitsTable(dtype: 'i8' | 'u8', from: Quantisation, scale: number): Float64Array {
  const table = new Float64Array(256);
  const [least, most] = quantisedRange(dtype);
  for (let value = least; value <= most; value++) table[value & 255] = ((value - from.zero) * from.scale) / scale;
  return table;
}

const add = binary('QLinearAdd', (c, out, to) => {
  const [least, most] = quantisedRange(out.dtype);
  const left = unitsTable(out.dtype as 'i8' | 'u8', quantisationOf(c, 1, 2), to.scale);
  const right = unitsTable(out.dtype as 'i8' | 'u8', quantisationOf(c, 4, 5), to.scale);
  zipInto(out, c.operand(0), c.operand(3), (a, b) => {
    return saturate(Math.fround(left[a & 255]! + right[b & 255]!), to.zero, least, most);
  });
});

const multiply = binary('QLinearMul', (c, out, to) => {
  const [least, most] = quantisedRange(out.dtype);
  const [a, b] = [quantisationOf(c, 1, 2), quantisationOf(c, 4, 5)];
  const factor = Math.fround(Math.fround(a.scale * b.scale) / to.scale);
  zipInto(out, c.operand(0), c.operand(3), (x, y) => {
    return saturate(Math.fround((x - a.zero) * (y - b.zero) * factor), to.zero, least, most);
  });
});

/** One operand: inputs are X, its scale and zero point, the scale and the zero point of Y. */
function inferUnary(c: InferContext, shape: readonly Dim[] = c.input(0).shape): readonly Facts[] {
  expectQuantised(c, 0, 1, 2);
  c.expect(3, ['f32']);
  c.sameDType(0, 4);
  expectSingle(c, 3, 4);
  return [{ dtype: c.input(0).dtype, shape }];
}

/** A function of single elements: 256 values are all that there are. */
function mapped(
  name: string,
  attributes: Readonly<Record<string, AttributeSpec>>,
  f: (c: RunContext, real: number) => number,
): Operator {
  return define(
    name,
    [4, 5],
    attributes,
    c => inferUnary(c),
    c => {
      const out = c.allocate();
      const [from, to] = [quantisationOf(c, 1, 2), quantisationOf(c, 3, 4)];
      const table = requantiseTable(out.dtype, from, to, real => f(c, real));
      throughTable(c.operand(0), table, out.data as Numbers);
      return [out];
    },
  );
}

/** A tensor whose channels are after the batch: the same one, or a view of one that has them last. */
function channelsSecond(c: InferContext, x: Tensor): Tensor {
  if (c.number('channels_last') === 0) return x;
  const rank = x.shape.length;
  return x.transpose([0, rank - 1, ...Array.from({ length: rank - 2 }, (_, i) => i + 1)]);
}

/** The view that {@link channelsSecond} undoes. */
function channelsBack(c: InferContext, x: Tensor): Tensor {
  if (c.number('channels_last') === 0) return x;
  return x.transpose([0, ...Array.from({ length: x.shape.length - 2 }, (_, i) => i + 2), 1]);
}

/** Batch, channels and the rest of the input's shape, wherever its channels are. */
function imageShape(c: InferContext): readonly Dim[] {
  const { shape } = c.input(0);
  if (shape.length < 3) c.fail(`expected a batch, channels and spatial axes, got ${formatShape(shape)}`);
  return c.number('channels_last') === 0 ? shape : [shape[0]!, shape.at(-1)!, ...shape.slice(1, -1)];
}

/** A shape whose channels are after the batch, in the layout that the node asks for. */
function inLayout(c: InferContext, shape: readonly Dim[]): readonly Dim[] {
  return c.number('channels_last') === 0 ? shape : [shape[0]!, ...shape.slice(2), shape[1]!];
}

const globalAveragePool = define(
  'QLinearGlobalAveragePool',
  [4, 5],
  { channels_last: int(0) },
  c => {
    const shape = imageShape(c);
    return inferUnary(
      c,
      inLayout(
        c,
        shape.map((dim, i) => (i < 2 ? dim : 1)),
      ),
    );
  },
  c => {
    const x = channelsSecond(c, c.operand(0)).contiguous();
    const planes = x.shape[0]! * x.shape[1]!;
    return [Tensor.from(x.dtype, c.shape(), meansOf(c, x, planes).data)];
  },
);

/** The means of `rows` equal parts of a dense tensor: exact sums, divided once. */
function meansOf(c: RunContext, x: Tensor, rows: number): Tensor {
  const out = Tensor.zeros(x.dtype, [rows]);
  if (rows === 0) return out;
  const [from, to] = [quantisationOf(c, 1, 2), quantisationOf(c, 3, 4)];
  const [least, most] = quantisedRange(x.dtype);
  const values = dense(x);
  const count = values.length / rows;
  const factor = from.scale / (to.scale * count);
  for (let row = 0, at = 0; row < rows; row++) {
    let sum = 0;
    for (const end = at + count; at < end; at++) sum += values[at]!;
    (out.data as Numbers)[row] = saturate(Math.fround((sum - from.zero * count) * factor), to.zero, least, most);
  }
  return out;
}

const reduceMean = define(
  'QLinearReduceMean',
  [4, 5],
  { axes: ints(), keepdims: required(int()) },
  c => {
    const { shape } = c.input(0);
    const axes = new Set(reducedAxes(c));
    const keep = c.number('keepdims') !== 0;
    return inferUnary(
      c,
      shape.flatMap((dim, axis) => (axes.has(axis) ? (keep ? [1] : []) : [dim])),
    );
  },
  c => {
    const x = c.operand(0);
    const axes = reducedAxes(c);
    const kept = x.shape.flatMap((_, axis) => (axes.includes(axis) ? [] : [axis]));
    const rows = kept.reduce((size, axis) => size * x.shape[axis]!, 1);
    return [meansOf(c, x.transpose([...kept, ...axes]).contiguous(), rows).reshape(c.shape())];
  },
);

function reducedAxes(c: InferContext): readonly number[] {
  const rank = c.input(0).shape.length;
  return c.axes(c.numbers('axes') ?? Array.from({ length: rank }, (_, axis) => axis), rank);
}

const averagePool = define(
  'QLinearAveragePool',
  [4, 5],
  {
    auto_pad: string('NOTSET'),
    ceil_mode: int(0),
    channels_last: int(0),
    count_include_pad: int(0),
    kernel_shape: required(ints()),
    pads: ints(),
    strides: ints(),
  },
  c => {
    checkAutoPad(c);
    const shape = imageShape(c);
    if (shape.length > 5) c.unsupported(`pooling has kernels for 1 to 3 spatial axes, got ${formatShape(shape)}`);
    const kernel = c.numbers('kernel_shape')!;
    if (kernel.length !== shape.length - 2) {
      c.fail(`attribute kernel_shape: expected ${shape.length - 2} sizes, got ${formatShape(kernel)}`);
    }
    const places = windowShape(c, shape.slice(2), kernel, c.number('ceil_mode') !== 0);
    return inferUnary(c, inLayout(c, [shape[0]!, shape[1]!, ...places]));
  },
  runAveragePool,
);

function runAveragePool(c: RunContext): readonly Tensor[] {
  const x = channelsSecond(c, c.operand(0)).contiguous();
  const given = c.shape();
  const shape = c.number('channels_last') === 0 ? given : [given[0]!, given.at(-1)!, ...given.slice(1, -1)];
  if (x.size === 0 || shape.includes(0)) return [c.allocate()];
  const [depth, height, width] = threeSizes(x.shape.slice(2));
  const places = threeSizes(shape.slice(2));
  const window = threeAxes(concreteWindow(c, x.shape.slice(2), shape.slice(2), c.numbers('kernel_shape')!));
  const spans = [depth, height, width].map((size, axis) => {
    return Array.from({ length: places[axis]! }, (_, o) => {
      const start = o * window.strides[axis]! - window.padBegin[axis]!;
      const end = start + window.kernel[axis]!;
      const padded = Math.min(end, size + window.padEnd[axis]!) - start;
      return { first: Math.max(start, 0), end: Math.min(end, size), padded };
    });
  });
  const [from, to] = [quantisationOf(c, 1, 2), quantisationOf(c, 3, 4)];
  const [least, most] = quantisedRange(x.dtype);
  const includePad = c.number('count_include_pad') !== 0;
  const values = dense(x);
  const out = Tensor.zeros(x.dtype, shape);
  const target = out.data as Numbers;
  for (let at = 0, plane = 0; at < target.length; plane += depth * height * width) {
    for (const z of spans[0]!) {
      for (const y of spans[1]!) {
        for (const column of spans[2]!) {
          let [sum, count] = [0, 0];
          for (let iz = z.first; iz < z.end; iz++) {
            for (let iy = y.first; iy < y.end; iy++) {
              const line = plane + (iz * height + iy) * width;
              for (let i = line + column.first; i < line + column.end; i++, count++) sum += values[i]!;
            }
          }
          const by = includePad ? z.padded * y.padded * column.padded : count;
          const mean = ((sum - from.zero * count) * from.scale) / by;
          target[at++] = saturate(Math.fround(Math.fround(mean) / to.scale), to.zero, least, most);
        }
      }
    }
  }
  return [channelsBack(c, out)];
}

/** Which axes are normalised together: one since Softmax-13, all from `axis` on before. */
function softmaxSpan(c: InferContext): { readonly axis: number; readonly together: boolean } {
  const together = c.number('opset') < 13;
  const rank = Math.max(c.input(0).shape.length, 1);
  return { axis: c.axis(c.has('axis') ? c.number('axis') : together ? Math.min(1, rank - 1) : -1, rank), together };
}

const softmax = define(
  'QLinearSoftmax',
  [5, 5],
  { axis: int(), opset: required(int()) },
  c => {
    softmaxSpan(c);
    return inferUnary(c);
  },
  c => {
    const out = c.allocate();
    const [from, to] = [quantisationOf(c, 1, 2), quantisationOf(c, 3, 4)];
    const [least, most] = quantisedRange(out.dtype);
    // exp of a distance below the largest element, which is all that the zero point could shift.
    const powers = Float64Array.from({ length: 256 }, (_, below) => Math.exp(-below * from.scale));
    const x = dense(c.operand(0));
    const target = out.data as Numbers;
    const { axis, together } = softmaxSpan(c);
    const sizes = around(c.shape().length === 0 ? [1] : c.shape(), axis);
    const n = together ? sizes.n * sizes.inner : sizes.n;
    const inner = together ? 1 : sizes.inner;
    if (x.length === 0) return [out];
    for (let o = 0; o < sizes.outer; o++) {
      for (let i = 0; i < inner; i++) {
        const start = o * n * inner + i;
        const end = start + n * inner;
        let largest = least;
        for (let at = start; at < end; at += inner) largest = Math.max(largest, x[at]!);
        let sum = 0;
        for (let at = start; at < end; at += inner) sum += powers[largest - x[at]!]!;
        for (let at = start; at < end; at += inner) {
          target[at] = saturate(powers[largest - x[at]!]! / (sum * to.scale), to.zero, least, most);
        }
      }
    }
    return [out];
  },
);

/** Inputs are the scale and zero point of the result, then each part with its own. */
const concat = define(
  'QLinearConcat',
  [5, MANY],
  { axis: required(int()) },
  c => {
    const parts = (c.inputs.length - 2) / 3;
    if (!Number.isInteger(parts))
      c.fail(`expected a scale and zero point for each part, got ${c.inputs.length} inputs`);
    c.expect(0, ['f32']);
    c.expect(1, BYTES);
    expectSingle(c, 0, 1);
    const first = c.input(2).shape;
    const axis = c.axis(c.number('axis'), first.length);
    const shape = [...first];
    for (let part = 0; part < parts; part++) {
      const at = 2 + 3 * part;
      expectQuantised(c, at, at + 1, at + 2);
      c.sameDType(1, at);
      c.rank(at, first.length);
      if (part === 0) continue;
      const other = c.input(at).shape;
      for (let i = 0; i < shape.length; i++) {
        shape[i] =
          i === axis
            ? c.derive(`(${shape[i]}+${other[i]})`, [shape[i]!, other[i]!], (a, b) => a + b)
            : c.same(shape[i]!, other[i]!, `axis ${i} of parts 0 and ${part}`);
      }
    }
    return [{ dtype: c.input(1).dtype, shape }];
  },
  c => {
    const out = c.allocate();
    const target = out.data as Numbers;
    if (target.length === 0) return [out];
    const to = quantisationOf(c, 0, 1);
    const axis = c.axis(c.number('axis'), c.shape().length);
    const { outer, n, inner } = around(c.shape(), axis);
    for (let part = 2, start = 0; part < c.tensors.length; part += 3) {
      const x = c.operand(part);
      const width = x.shape[axis]! * inner;
      const values = dense(x);
      const from = quantisationOf(c, part + 1, part + 2);
      // Under the same scale a value is copied: there is no rounding that could change it.
      const table = from.scale === to.scale && from.zero === to.zero ? undefined : requantiseTable(out.dtype, from, to);
      for (let o = 0; o < outer; o++) {
        const at = o * n * inner + start;
        for (let i = 0; i < width; i++) {
          const value = values[o * width + i]!;
          target[at + i] = table ? table[value & 255]! : value;
        }
      }
      start += width;
    }
    return [out];
  },
);

const where = define(
  'QLinearWhere',
  [9, 9],
  {},
  c => {
    c.expect(0, ['bool']);
    expectQuantised(c, 1, 2, 3);
    expectQuantised(c, 4, 5, 6);
    c.sameDType(1, 4);
    c.sameDType(1, 8);
    c.expect(7, ['f32']);
    expectSingle(c, 7, 8);
    const shape = c.broadcast(c.broadcast(c.input(0).shape, c.input(1).shape), c.input(4).shape);
    return [{ dtype: c.input(1).dtype, shape }];
  },
  c => {
    const out = c.allocate();
    const to = quantisationOf(c, 7, 8);
    const tables = [
      requantiseTable(out.dtype, quantisationOf(c, 5, 6), to),
      requantiseTable(out.dtype, quantisationOf(c, 2, 3), to),
    ] as const;
    const target = out.data as Numbers;
    const condition = dense(c.operand(0).expand(c.shape()));
    const [x, y] = [dense(c.operand(1).expand(c.shape())), dense(c.operand(4).expand(c.shape()))];
    for (let i = 0; i < target.length; i++) {
      target[i] = condition[i] === 0 ? tables[0][y[i]! & 255]! : tables[1][x[i]! & 255]!;
    }
    return [out];
  },
);

/** The operators of this file. */
export const MICROSOFT_QUANTISED: readonly Operator[] = [
  add,
  multiply,
  mapped('QLinearLeakyRelu', { alpha: float(0.01) }, (c, real) => (real < 0 ? real * c.number('alpha') : real)),
  mapped('QLinearSigmoid', {}, (_, real) => 1 / (1 + Math.exp(-real))),
  globalAveragePool,
  averagePool,
  reduceMean,
  softmax,
  concat,
  where,
];
