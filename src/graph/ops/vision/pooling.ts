/**
 * Pooling over one to three spatial axes: MaxPool, AveragePool, LpPool, their global forms, and MaxUnpool.
 * @module
 */
import { type DType, formatShape, type Tensor } from '../../../tensor/index.ts';
import type { Facts } from '../../graph.ts';
import { dense, fold, type Numbers } from '../loops.ts';
import {
  type AttributeSpec,
  define,
  FLOATS,
  float,
  from,
  type InferContext,
  int,
  ints,
  type Operator,
  type OperatorVersion,
  type RunContext,
  required,
  string,
} from '../operator.ts';
import { checkAutoPad, concreteWindow, readWindow, threeAxes, threeSizes, volume, windowShape } from './window.ts';

function inferPool(c: InferContext, dtypes: readonly DType[]): Facts {
  c.expect(0, dtypes);
  checkAutoPad(c);
  const { dtype, shape } = c.input(0);
  if (shape.length < 3 || shape.length > 5)
    c.unsupported(`pooling has kernels for 1 to 3 spatial axes, got ${formatShape(shape)}`);
  const kernel = c.numbers('kernel_shape') ?? c.fail('attribute kernel_shape is required');
  if (kernel.length !== shape.length - 2)
    c.fail(`attribute kernel_shape: expected ${shape.length - 2} sizes, got ${formatShape(kernel)}`);
  const ceil = c.has('ceil_mode') && c.number('ceil_mode') !== 0;
  return { dtype, shape: [shape[0]!, shape[1]!, ...windowShape(c, shape.slice(2), kernel, ceil)] };
}

/** Calls `visit` with each output place and, per window, with each input place in it and how many places padding takes. */
function eachWindow(
  c: RunContext,
  visit: (
    plane: number,
    at: number,
    begin: readonly number[],
    end: readonly number[],
    steps: readonly number[],
    padded: number,
  ) => void,
): void {
  const shape = c.operand(0).shape;
  const sizes = threeSizes(shape.slice(2));
  const out = threeSizes(c.shape().slice(2));
  const window = threeAxes(concreteWindow(c, shape.slice(2), c.shape().slice(2), c.numbers('kernel_shape')!));
  const planes = shape[0]! * shape[1]!;
  const first = [0, 0, 0];
  const last = [0, 0, 0];
  let at = 0;
  for (let plane = 0; plane < planes; plane++) {
    for (let oz = 0; oz < out[0]; oz++) {
      for (let oy = 0; oy < out[1]; oy++) {
        for (let ox = 0; ox < out[2]; ox++, at++) {
          let padded = 1;
          for (let axis = 0; axis < 3; axis++) {
            const o = axis === 0 ? oz : axis === 1 ? oy : ox;
            const step = window.dilations[axis]!;
            const start = o * window.strides[axis]! - window.padBegin[axis]!;
            const stop = start + window.kernel[axis]! * step;
            // Places inside the padded input, and of these the ones inside the input.
            padded *= Math.ceil((Math.min(stop, sizes[axis]! + window.padEnd[axis]!) - start) / step);
            first[axis] = start < 0 ? start + Math.ceil(-start / step) * step : start;
            last[axis] = Math.min(stop, sizes[axis]!);
          }
          visit(plane, at, first, last, window.dilations, padded);
        }
      }
    }
  }
}

function runMaxPool(c: RunContext): readonly Tensor[] {
  const x = c.operand(0);
  const values = dense(x);
  const [depth, height, width] = threeSizes(x.shape.slice(2));
  const out = c.allocate();
  const to = out.data as Numbers;
  const indices = c.node.outputs[1] === undefined ? undefined : c.allocate(1);
  const columnMajor = indices !== undefined && c.number('storage_order') === 1;
  // Of a window without any place the maximum is the least value there is.
  const least = x.dtype === 'u8' ? 0 : x.dtype === 'i8' ? -128 : Number.NEGATIVE_INFINITY;
  eachWindow(c, (plane, at, [z0, y0, x0], [z1, y1, x1], [dz, dy, dx]) => {
    let best = least;
    let where = -1;
    for (let z = z0!; z < z1!; z += dz!) {
      for (let y = y0!; y < y1!; y += dy!) {
        const line = ((plane * depth + z) * height + y) * width;
        for (let i = x0!; i < x1!; i += dx!) {
          const value = values[line + i]!;
          if (where < 0 || value > best || Number.isNaN(value)) {
            best = value;
            where = line + i;
          }
        }
      }
    }
    to[at] = best;
    if (indices)
      (indices.data as BigInt64Array)[at] = BigInt(
        columnMajor && where >= 0 ? transposedIndex(where, depth, height, width) : where,
      );
  });
  return indices ? [out, indices] : [out];
}

/** The place of a row-major index when each plane is laid out with its first axis fastest. */
function transposedIndex(index: number, depth: number, height: number, width: number): number {
  const volume = depth * height * width;
  const inside = index % volume;
  const x = inside % width;
  const y = Math.floor(inside / width) % height;
  const z = Math.floor(inside / (width * height));
  return index - inside + (x * height + y) * depth + z;
}

function runAveragePool(c: RunContext): readonly Tensor[] {
  const x = c.operand(0);
  const values = dense(x);
  const [depth, height, width] = threeSizes(x.shape.slice(2));
  const out = c.allocate();
  const to = out.data as Numbers;
  const includePad = c.has('count_include_pad') && c.number('count_include_pad') !== 0;
  eachWindow(c, (plane, at, [z0, y0, x0], [z1, y1, x1], [dz, dy, dx], padded) => {
    let sum = 0;
    let count = 0;
    for (let z = z0!; z < z1!; z += dz!) {
      for (let y = y0!; y < y1!; y += dy!) {
        const line = ((plane * depth + z) * height + y) * width;
        for (let i = x0!; i < x1!; i += dx!, count++) sum += values[line + i]!;
      }
    }
    to[at] = sum / (includePad ? padded : count);
  });
  return [out];
}

/** The p-norm of each window; padding counts as 0. */
function runLpPool(c: RunContext): readonly Tensor[] {
  const x = c.operand(0);
  const values = dense(x);
  const [depth, height, width] = threeSizes(x.shape.slice(2));
  const out = c.allocate();
  const to = out.data as Numbers;
  const p = c.number('p');
  eachWindow(c, (plane, at, [z0, y0, x0], [z1, y1, x1], [dz, dy, dx]) => {
    let sum = 0;
    for (let z = z0!; z < z1!; z += dz!) {
      for (let y = y0!; y < y1!; y += dy!) {
        const line = ((plane * depth + z) * height + y) * width;
        for (let i = x0!; i < x1!; i += dx!) sum += Math.abs(values[line + i]!) ** p;
      }
    }
    to[at] = sum ** (1 / p);
  });
  return [out];
}

function checkNorm(c: InferContext): void {
  const p = c.number('p');
  if (!(p > 0 && Number.isFinite(p))) c.fail(`attribute p: expected a norm above 0, got ${p}`);
}

/** The place that MaxPool took each value from gets it back; the others are 0. */
function inferMaxUnpool(c: InferContext): readonly Facts[] {
  c.expect(0, FLOATS);
  c.expect(1, ['i64']);
  c.expect(2, ['i64']);
  const { dtype, shape } = c.input(0);
  if (shape.length < 3) c.fail(`expected a batch, channels and spatial axes, got ${formatShape(shape)}`);
  c.rank(1, shape.length);
  shape.forEach((dim, i) => {
    c.same(dim, c.input(1).shape[i]!, `axis ${i} of the values and of their indices`);
  });
  const kernel = c.numbers('kernel_shape')!;
  if (kernel.length !== shape.length - 2)
    c.fail(`attribute kernel_shape: expected ${shape.length - 2} sizes, got ${formatShape(kernel)}`);
  const window = readWindow(c, kernel.length, kernel);
  if (c.inputs[2]) {
    c.rank(2, 1);
    const given = c.known(2);
    if (!given) return [{ dtype, shape: shape.map(() => c.fresh()) }];
    if (given.length !== shape.length || given.some(dim => typeof dim === 'number' && dim < 0)) {
      c.fail(`expected ${shape.length} sizes of the output, got ${formatShape(given)}`);
    }
    return [{ dtype, shape: given }];
  }
  const spatial = shape.slice(2).map((size, axis) => {
    const cut = window.padBegin[axis]! + window.padEnd[axis]!;
    const [stride, rest] = [window.strides[axis]!, kernel[axis]! - cut];
    return c.derive(`(${stride}*(${size}-1)+${rest})`, [size], known => {
      const out = (known - 1) * stride + rest;
      return out >= 0 ? out : c.fail(`axis ${axis + 2}: ${cut} of padding cut off more than there is`);
    });
  });
  return [{ dtype, shape: [shape[0]!, shape[1]!, ...spatial] }];
}

function runMaxUnpool(c: RunContext): readonly Tensor[] {
  const out = c.allocate();
  const to = out.data as Numbers;
  const values = dense(c.operand(0));
  const indices = c.operand(1).elements() as BigInt64Array;
  for (let i = 0; i < values.length; i++) {
    const index = Number(indices[i]!);
    // Indices are those of the tensor that was pooled, which is the output.
    if (!(index >= 0 && index < to.length)) c.fail(`an index is outside an output of ${formatShape(out.shape)}`);
    to[index] = values[i]!;
  }
  return [out];
}

const SHAPE_ATTRIBUTES = {
  auto_pad: string('NOTSET'),
  kernel_shape: required(ints()),
  pads: ints(),
  strides: ints(),
} as const;

const maxPool1: OperatorVersion = {
  since: 1,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: SHAPE_ATTRIBUTES,
  infer: c => [inferPool(c, FLOATS)],
  run: runMaxPool,
};

const maxPool8 = from(8, maxPool1, {
  outputs: [1, 2],
  attributes: { ...SHAPE_ATTRIBUTES, storage_order: int(0) },
  infer: c => {
    const facts = inferPool(c, c.node.opset >= 12 ? [...FLOATS, 'i8', 'u8'] : FLOATS);
    return [facts, { dtype: 'i64', shape: facts.shape }];
  },
});

const averagePool1: OperatorVersion = {
  since: 1,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: SHAPE_ATTRIBUTES,
  infer: c => [inferPool(c, FLOATS)],
  run: runAveragePool,
};

const averagePool7 = from(7, averagePool1, { attributes: { ...SHAPE_ATTRIBUTES, count_include_pad: int(0) } });
const averagePool10 = from(10, averagePool7, { attributes: { ...averagePool7.attributes, ceil_mode: int(0) } });

const lpPool2: OperatorVersion = {
  since: 2,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: { ...SHAPE_ATTRIBUTES, p: int(2) },
  infer: c => {
    checkNorm(c);
    return [inferPool(c, FLOATS)];
  },
  run: runLpPool,
};

const maxUnpool: OperatorVersion = {
  since: 9,
  inputs: [2, 3],
  outputs: [1, 1],
  attributes: { kernel_shape: required(ints()), pads: ints(), strides: ints() },
  infer: inferMaxUnpool,
  run: runMaxUnpool,
};

/** Pooling of each plane to one value, by a function that is made from the node's attributes. */
function globalPool(
  make: (c: RunContext) => (values: Numbers) => number,
  attributes: OperatorVersion['attributes'] = {},
  check: (c: InferContext) => void = () => {},
): OperatorVersion {
  return {
    since: 1,
    inputs: [1, 1],
    outputs: [1, 1],
    attributes,
    infer: c => {
      check(c);
      c.expect(0, FLOATS);
      const { dtype, shape } = c.input(0);
      if (shape.length < 3) c.fail(`expected a batch, channels and spatial axes, got ${formatShape(shape)}`);
      return [{ dtype, shape: shape.map((dim, i) => (i < 2 ? dim : 1)) }];
    },
    run: c => {
      const out = c.allocate();
      const values = dense(c.operand(0));
      const size = volume(c.operand(0).shape.slice(2));
      const reduce = make(c);
      for (let i = 0; i < out.size; i++) (out.data as Numbers)[i] = reduce(values.subarray(i * size, (i + 1) * size));
      return [out];
    },
  };
}

const globalLpPool = (p: AttributeSpec): OperatorVersion =>
  globalPool(
    c => {
      const norm = c.number('p');
      return values => fold(values, 0, (sum, x) => sum + Math.abs(x) ** norm) ** (1 / norm);
    },
    { p },
    checkNorm,
  );

/** The operators of this file. */
export const POOLING: readonly Operator[] = [
  define(
    'MaxPool',
    'compute',
    maxPool1,
    maxPool8,
    from(10, maxPool8, { attributes: { ...maxPool8.attributes, ceil_mode: int(0), dilations: ints() } }),
  ),
  define(
    'AveragePool',
    'compute',
    averagePool1,
    averagePool7,
    averagePool10,
    from(19, averagePool10, { attributes: { ...averagePool10.attributes, dilations: ints() } }),
  ),
  define(
    'LpPool',
    'compute',
    from(1, lpPool2, { attributes: { ...SHAPE_ATTRIBUTES, kernel_shape: ints(), p: float(2) } }),
    lpPool2,
    from(18, lpPool2, { attributes: { ...lpPool2.attributes, ceil_mode: int(0), dilations: ints() } }),
  ),
  define('MaxUnpool', 'compute', maxUnpool),
  define(
    'GlobalAveragePool',
    'compute',
    globalPool(() => values => fold(values, 0, (sum, x) => sum + x) / values.length),
  ),
  define(
    'GlobalMaxPool',
    'compute',
    globalPool(() => values => fold(values, Number.NEGATIVE_INFINITY, Math.max)),
  ),
  define('GlobalLpPool', 'compute', globalLpPool(float(2)), from(2, globalLpPool(int(2)))),
];
