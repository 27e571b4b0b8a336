/**
 * Elements written to places that other elements name: Scatter, ScatterElements, ScatterND.
 * @module
 */
import { denseStrides, formatShape, type Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import { dense, isBig, type Numbers, offsetsOf } from '../loops.ts';
import {
  ANY,
  define,
  from,
  type InferContext,
  int,
  type Operator,
  type OperatorVersion,
  type RunContext,
  string,
} from '../operator.ts';
import { checkElementwise, indicesInto, tupleLength, tupleOffsets } from './gather.ts';

/** What becomes of an element and the update that meets it. */
type Merge = (old: number, update: number) => number;

/** JavaScript's comparisons, sums and products serve bigints too; 32-bit products wrap as integers do. */
function mergeOf(c: InferContext, big: boolean): Merge | undefined {
  const reduction = c.has('reduction') ? c.string('reduction') : 'none';
  const { dtype } = c.input(0);
  if (reduction === 'none') return undefined;
  if (dtype === 'string')
    return c.unsupported(`strings cannot be reduced by ${JSON.stringify(reduction.slice(0, 20))}`);
  const float = dtype === 'f32' || dtype === 'f64' || dtype === 'f16' || dtype === 'bf16';
  if (reduction === 'add') return dtype === 'bool' ? (a, b) => a | b : (a, b) => a + b;
  if (reduction === 'mul') return float || big ? (a, b) => a * b : Math.imul;
  if (c.node.opset >= 18 && reduction === 'max') return float ? Math.max : (a, b) => (a > b ? a : b);
  if (c.node.opset >= 18 && reduction === 'min') return float ? Math.min : (a, b) => (a < b ? a : b);
  return c.fail(`attribute reduction: ${JSON.stringify(reduction.slice(0, 20))} is unknown at opset ${c.node.opset}`);
}

/** A copy of the data with the updates written over it; where floats are merged, in double precision and rounded once. */
function scatter(
  c: RunContext,
  write: (data: Numbers, updates: Numbers, merge: Merge | undefined) => void,
): readonly Tensor[] {
  const out = c.operand(0).clone();
  const merge = mergeOf(c, isBig(out));
  const data = out.data as Numbers;
  const wide = merge && out.dtype === 'f32' ? Float64Array.from(data) : data;
  write(wide, dense(c.operand(2)), merge);
  if (wide !== data) data.set(wide);
  return [out];
}

function inferScatter(c: InferContext, axis: number | undefined): readonly Facts[] {
  c.expect(0, ANY);
  c.sameDType(0, 2);
  mergeOf(c, false);
  const { shape } = c.input(0);
  let wanted: readonly Dim[];
  if (axis === undefined) {
    c.expect(1, ['i64']);
    const length = tupleLength(c, shape.length);
    wanted = [...c.input(1).shape.slice(0, -1), ...shape.slice(length)];
  } else {
    checkElementwise(c, axis);
    wanted = c.input(1).shape;
  }
  const updates = c.input(2).shape;
  if (updates.length !== wanted.length || updates.some((dim, i) => c.differ(dim, wanted[i]!))) {
    c.fail(`expected updates of ${formatShape(wanted)}, got ${formatShape(updates)}`);
  }
  return [c.input(0)];
}

const scatterElements: OperatorVersion = {
  since: 9,
  inputs: [3, 3],
  outputs: [1, 1],
  attributes: { axis: int(0) },
  infer: c => inferScatter(c, c.axis(c.number('axis'), c.input(0).shape.length)),
  run: c => {
    const x = c.operand(0);
    const axis = c.axis(c.number('axis'), x.shape.length);
    const indices = indicesInto(c, 1, x.shape[axis]!);
    const strides = denseStrides(x.shape);
    const step = strides[axis]!;
    const places = offsetsOf(
      c.operand(1).shape,
      strides.map((stride, i) => (i === axis ? 0 : stride)),
    );
    return scatter(c, (data, updates, merge) => {
      for (let i = 0; i < indices.length; i++) {
        const at = places[i]! + indices[i]! * step;
        data[at] = merge ? merge(data[at]!, updates[i]!) : updates[i]!;
      }
    });
  },
};

const scatterNd: OperatorVersion = {
  since: 11,
  inputs: [3, 3],
  outputs: [1, 1],
  attributes: {},
  infer: c => inferScatter(c, undefined),
  run: c => {
    const x = c.operand(0);
    const indices = c.operand(1).shape;
    const length = indices.at(-1)!;
    const count = indices.slice(0, -1).reduce((size, dim) => size * dim, 1);
    const width = x.shape.slice(length).reduce((size, dim) => size * dim, 1);
    const starts = tupleOffsets(c, x.shape.slice(0, length), denseStrides(x.shape), count);
    return scatter(c, (data, updates, merge) => {
      for (let i = 0, read = 0; i < count; i++) {
        for (let at = starts[i]!, end = at + width; at < end; at++, read++) {
          data[at] = merge ? merge(data[at]!, updates[read]!) : updates[read]!;
        }
      }
    });
  },
};

/** Opset 16 brought `reduction` with add and mul; 18 brought max and min. */
const REDUCTION = { reduction: string('none') } as const;

/** The operators of this file. */
export const SCATTER: readonly Operator[] = [
  define('Scatter', 'compute', scatterElements),
  define(
    'ScatterElements',
    'compute',
    from(11, scatterElements),
    from(16, scatterElements, { attributes: { axis: int(0), ...REDUCTION } }),
  ),
  define('ScatterND', 'compute', scatterNd, from(16, scatterNd, { attributes: REDUCTION })),
];
