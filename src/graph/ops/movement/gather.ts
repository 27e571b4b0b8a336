/**
 * Elements read from places that other elements name: GatherElements, GatherND, ReverseSequence.
 * @module
 */
import { denseStrides, formatShape } from '../../../tensor/index.ts';
import { copyRun, dense, type Numbers, offsetsOf } from '../loops.ts';
import {
  ANY,
  define,
  from,
  type InferContext,
  int,
  type Operator,
  type OperatorVersion,
  type RunContext,
} from '../operator.ts';

/** The elements of input `input` as indices from 0; fails on one that is outside an axis of `size`. */
export function indicesInto(c: RunContext, input: number, size: number): Int32Array {
  const given = dense(c.operand(input));
  const out = new Int32Array(given.length);
  for (let i = 0; i < out.length; i++) {
    const index = Number(given[i]!);
    if (!(index >= -size && index < size)) c.fail(`an index is outside an axis of ${size}`);
    out[i] = index < 0 ? index + size : index;
  }
  return out;
}

/** Fails unless indices of `input` may pick from the data along `axis`: of the same rank, elsewhere not longer. */
export function checkElementwise(c: InferContext, axis: number): void {
  c.expect(1, ['i32', 'i64']);
  const { shape } = c.input(0);
  c.rank(1, shape.length);
  c.input(1).shape.forEach((dim, i) => {
    const size = shape[i]!;
    if (i !== axis && typeof dim === 'number' && typeof size === 'number' && dim > size) {
      c.fail(`axis ${i}: indices of ${formatShape(c.input(1).shape)} reach over data of ${formatShape(shape)}`);
    }
  });
}

const gatherElements: OperatorVersion = {
  since: 11,
  inputs: [2, 2],
  outputs: [1, 1],
  attributes: { axis: int(0) },
  infer: c => {
    c.expect(0, ANY);
    const { dtype, shape } = c.input(0);
    checkElementwise(c, c.axis(c.number('axis'), shape.length));
    return [{ dtype, shape: c.input(1).shape }];
  },
  run: c => {
    const x = c.operand(0);
    const axis = c.axis(c.number('axis'), x.shape.length);
    const indices = indicesInto(c, 1, x.shape[axis]!);
    const strides = denseStrides(x.shape);
    const step = strides[axis]!;
    const places = offsetsOf(
      c.shape(),
      strides.map((stride, i) => (i === axis ? 0 : stride)),
    );
    const out = c.allocate();
    const [to, source] = [out.data as Numbers, dense(x)];
    for (let i = 0; i < indices.length; i++) to[i] = source[places[i]! + indices[i]! * step]!;
    return [out];
  },
};

/** The length of the index tuples in input 1 of a rank-`rank` input, where it must be known before the model runs. */
export function tupleLength(c: InferContext, most: number): number {
  const { shape } = c.input(1);
  if (shape.length === 0) c.fail('indices need at least one axis');
  const length = shape.at(-1)!;
  if (typeof length !== 'number')
    return c.unsupported('how long the index tuples are must be known before the model runs');
  if (length > most) c.fail(`tuples of ${length} indices into ${most} axes`);
  return length;
}

/** Where the slices start that the index tuples of input 1 name: into axes of `sizes`, of the given strides. */
export function tupleOffsets(
  c: RunContext,
  sizes: readonly number[],
  strides: readonly number[],
  count: number,
): Uint32Array {
  const tuples = dense(c.operand(1));
  const width = sizes.length;
  const out = new Uint32Array(count);
  for (let i = 0, at = 0; i < count; i++) {
    let offset = 0;
    for (let axis = 0; axis < width; axis++, at++) {
      const [index, size] = [Number(tuples[at]!), sizes[axis]!];
      if (!(index >= -size && index < size)) c.fail(`an index is outside axis ${axis} of ${size}`);
      offset += (index < 0 ? index + size : index) * strides[axis]!;
    }
    out[i] = offset;
  }
  return out;
}

/** Leading axes that data and indices share, one slice of each for one slice of the other. */
function batchAxes(c: InferContext): number {
  const count = c.has('batch_dims') ? c.number('batch_dims') : 0;
  const [rank, indexRank] = [c.input(0).shape.length, c.input(1).shape.length];
  if (count < 0 || count >= Math.min(rank, indexRank)) {
    c.fail(`attribute batch_dims: ${count} of ${rank} axes of data and ${indexRank} of indices`);
  }
  return count;
}

const gatherNd: OperatorVersion = {
  since: 11,
  inputs: [2, 2],
  outputs: [1, 1],
  attributes: {},
  infer: c => {
    c.expect(0, ANY);
    c.expect(1, ['i64']);
    const { dtype, shape } = c.input(0);
    const batch = batchAxes(c);
    const length = tupleLength(c, shape.length - batch);
    if (length === 0) c.fail('tuples of 0 indices');
    const lead = [...c.input(1).shape.slice(0, -1)];
    for (let i = 0; i < batch; i++) lead[i] = c.same(shape[i]!, lead[i]!, `batch axis ${i}`);
    return [{ dtype, shape: [...lead, ...shape.slice(batch + length)] }];
  },
  run: c => {
    const x = c.operand(0);
    const indices = c.operand(1).shape;
    const batch = batchAxes(c);
    const end = batch + indices.at(-1)!;
    const product = (dims: readonly number[]): number => dims.reduce((size, dim) => size * dim, 1);
    const width = product(x.shape.slice(end));
    const strides = denseStrides(x.shape).slice(batch, end);
    const batches = product(indices.slice(0, batch));
    const perBatch = product(indices.slice(batch, -1));
    const starts = tupleOffsets(c, x.shape.slice(batch, end), strides, batches * perBatch);
    const out = c.allocate();
    const [to, source] = [out.data as Numbers, dense(x)];
    const batchSize = product(x.shape.slice(batch));
    for (let i = 0; i < starts.length; i++) {
      copyRun(to, i * width, source, Math.floor(i / perBatch) * batchSize + starts[i]!, width);
    }
    return [out];
  },
};

const reverseSequence: OperatorVersion = {
  since: 10,
  inputs: [2, 2],
  outputs: [1, 1],
  attributes: { batch_axis: int(1), time_axis: int(0) },
  infer: c => {
    c.expect(0, ANY);
    c.expect(1, ['i64']);
    c.rank(1, 1);
    const { shape } = c.input(0);
    const [batch, time] = [c.number('batch_axis'), c.number('time_axis')];
    if (shape.length < 2 || batch + time !== 1 || batch * time !== 0) {
      c.fail(`expected batch and time to be axes 0 and 1 in either order, got ${batch} and ${time}`);
    }
    c.same(shape[batch]!, c.input(1).shape[0]!, 'batch axis and sequence lengths');
    return [c.input(0)];
  },
  run: c => {
    const x = c.operand(0);
    const [batch, time] = [c.number('batch_axis'), c.number('time_axis')];
    const lengths = dense(c.operand(1));
    const strides = denseStrides(x.shape);
    const [sequences, steps] = [x.shape[batch]!, x.shape[time]!];
    const width = x.shape.slice(2).reduce((size, dim) => size * dim, 1);
    const out = c.allocate();
    const [to, source] = [out.data as Numbers, dense(x)];
    for (let i = 0; i < sequences; i++) {
      const length = Number(lengths[i]!);
      if (!(length >= 0 && length <= steps)) c.fail(`sequence ${i} of ${length} steps in an axis of ${steps}`);
      for (let t = 0; t < steps; t++) {
        const start = i * strides[batch]!;
        const read = t < length ? length - 1 - t : t;
        copyRun(to, start + t * strides[time]!, source, start + read * strides[time]!, width);
      }
    }
    return [out];
  },
};

/** The operators of this file. */
export const GATHER: readonly Operator[] = [
  define('GatherElements', 'compute', gatherElements),
  define('GatherND', 'compute', gatherNd, from(12, gatherNd, { attributes: { batch_dims: int(0) } })),
  define('ReverseSequence', 'compute', reverseSequence),
];
