/**
 * Spatial axes cut, padded and folded: DepthToSpace, SpaceToDepth, CenterCropPad, Col2Im.
 * @module
 */
import { formatShape, type Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import { dense, isBig, type Numbers } from '../loops.ts';
import {
  ANY,
  define,
  from,
  type InferContext,
  int,
  ints,
  NUMBERS,
  type Operator,
  type OperatorVersion,
  type RunContext,
  required,
  string,
} from '../operator.ts';
import { readWindow, volume, type Window } from './window.ts';

function blockSize(c: InferContext): number {
  c.rank(0, 4);
  const size = c.number('blocksize');
  return size >= 1 ? size : c.fail(`attribute blocksize: expected at least 1, got ${size}`);
}

/** `size / by`, which must be whole. */
function divide(c: InferContext, size: Dim, by: number, what: string): Dim {
  return c.derive(`(${size}/${by})`, [size], known =>
    known % by === 0 ? known / by : c.fail(`${what}: ${known} cannot be cut into blocks of ${by}`),
  );
}

function multiply(c: InferContext, size: Dim, by: number): Dim {
  return c.product([size, by]);
}

const depthToSpace: OperatorVersion = {
  since: 11,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: { blocksize: required(int()), mode: string('DCR') },
  infer: c => {
    const block = blockSize(c);
    if (c.has('mode') && !['DCR', 'CRD'].includes(c.string('mode'))) c.fail('attribute mode: expected DCR or CRD');
    const { dtype, shape } = c.input(0);
    const [n, channels, height, width] = shape as readonly [Dim, Dim, Dim, Dim];
    const rest = divide(c, channels, block * block, 'channels');
    return [{ dtype, shape: [n, rest, multiply(c, height, block), multiply(c, width, block)] }];
  },
  run: c => {
    const block = c.number('blocksize');
    const [n, rest] = c.shape() as readonly [number, number];
    const [height, width] = c.operand(0).shape.slice(2) as unknown as readonly [number, number];
    // A pixel's channels are rows and columns of its block, then depth (DCR), or depth first (CRD).
    const columnsFirst = c.has('mode') && c.string('mode') === 'CRD';
    const blocks = columnsFirst
      ? c.operand(0).reshape([n, rest, block, block, height, width]).transpose([0, 1, 4, 2, 5, 3])
      : c.operand(0).reshape([n, block, block, rest, height, width]).transpose([0, 3, 4, 1, 5, 2]);
    return [blocks.reshape(c.shape())];
  },
};

const spaceToDepth: OperatorVersion = {
  since: 1,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: { blocksize: required(int()) },
  infer: c => {
    const block = blockSize(c);
    const { dtype, shape } = c.input(0);
    const [n, channels, height, width] = shape as readonly [Dim, Dim, Dim, Dim];
    const [rows, columns] = [divide(c, height, block, 'height'), divide(c, width, block, 'width')];
    return [{ dtype, shape: [n, multiply(c, channels, block * block), rows, columns] }];
  },
  run: c => {
    const block = c.number('blocksize');
    const [n, channels] = c.operand(0).shape as readonly [number, number];
    const [rows, columns] = c.shape().slice(2) as unknown as readonly [number, number];
    const blocks = c.operand(0).reshape([n, channels, rows, block, columns, block]);
    return [blocks.transpose([0, 3, 5, 1, 2, 4]).reshape(c.shape())];
  },
};

/** The axes that CenterCropPad works on, in the order of its list of sizes. */
function centredAxes(c: InferContext): readonly number[] {
  const rank = c.input(0).shape.length;
  return c.axes(c.numbers('axes') ?? Array.from({ length: rank }, (_, i) => i), rank);
}

const centerCropPad: OperatorVersion = {
  since: 18,
  inputs: [2, 2],
  outputs: [1, 1],
  attributes: { axes: ints() },
  infer: c => {
    c.expect(0, ANY);
    c.expect(1, ['i32', 'i64']);
    c.rank(1, 1);
    const { dtype, shape } = c.input(0);
    const axes = centredAxes(c);
    const wanted = c.known(1);
    const result = [...shape];
    if (wanted && wanted.length !== axes.length) c.fail(`expected ${axes.length} sizes, got ${formatShape(wanted)}`);
    axes.forEach((axis, i) => {
      const size = wanted ? wanted[i]! : c.fresh();
      if (typeof size === 'number' && size < 0) c.fail(`expected sizes of at least 0, got ${size}`);
      result[axis] = size;
    });
    return [{ dtype, shape: result }];
  },
  run: c => {
    const out = c.allocate();
    // Both windows are centred; where the difference is odd, what is more is at the end.
    let source = c.operand(0);
    let target: Tensor = out;
    c.operand(0).shape.forEach((size, axis) => {
      const wanted = c.shape()[axis]!;
      const start = Math.floor(Math.abs(size - wanted) / 2);
      const end = start + Math.min(size, wanted);
      if (size > wanted) source = source.slice({ axis, start, end });
      else if (size < wanted) target = target.slice({ axis, start, end });
    });
    copyInto(target, source);
    return [out];
  },
};

/** Copies elements into a view of the same shape. */
function copyInto(target: Tensor, source: Tensor): void {
  const from = dense(source);
  const to = target.data as Numbers;
  const index = new Array<number>(target.shape.length).fill(0);
  let at = target.offset;
  for (let i = 0; i < from.length; i++) {
    to[at] = from[i]!;
    for (let axis = index.length - 1; axis >= 0; axis--) {
      at += target.strides[axis]!;
      if (++index[axis]! < target.shape[axis]!) break;
      at -= target.shape[axis]! * target.strides[axis]!;
      index[axis] = 0;
    }
  }
}

/** The window of Col2Im over the image, and how many blocks lie along each axis; undefined where a list is not known. */
function foldWindow(
  c: InferContext,
): { readonly window: Window; readonly image: readonly number[]; readonly blocks: readonly number[] } | undefined {
  const [image, kernel] = [c.integers(1), c.integers(2)];
  if (!image || !kernel) return undefined;
  if (image.length === 0 || image.length !== kernel.length) {
    c.fail(`an image of ${formatShape(image)} and blocks of ${formatShape(kernel)} have not as many axes`);
  }
  if (image.some(size => size < 0)) c.fail(`expected image sizes of at least 0, got ${formatShape(image)}`);
  const window = readWindow(c, image.length, kernel);
  const blocks = image.map((size, axis) => {
    const extent = (kernel[axis]! - 1) * window.dilations[axis]! + 1;
    const room = size + window.padBegin[axis]! + window.padEnd[axis]! - extent;
    if (room < 0) c.fail(`axis ${axis}: a block of ${extent} does not fit in ${room + extent}`);
    return Math.floor(room / window.strides[axis]!) + 1;
  });
  return { window, image, blocks };
}

const col2im: OperatorVersion = {
  since: 18,
  inputs: [3, 3],
  outputs: [1, 1],
  attributes: { dilations: ints(), pads: ints(), strides: ints() },
  infer: inferCol2Im,
  run: runCol2Im,
};

function inferCol2Im(c: InferContext): readonly Facts[] {
  c.expect(0, NUMBERS);
  c.expect(1, ['i64']);
  c.expect(2, ['i64']);
  c.rank(0, 3);
  c.rank(1, 1);
  c.rank(2, 1);
  const { dtype, shape } = c.input(0);
  const fold = foldWindow(c);
  if (!fold) {
    const axes = c.input(1).shape[0]!;
    if (typeof axes !== 'number')
      return c.unsupported('how many axes the image has must be known before the model runs');
    if (axes > 8) c.fail(`an image of ${axes} axes`);
    return [{ dtype, shape: [shape[0]!, c.fresh(), ...Array.from({ length: axes }, () => c.fresh())] }];
  }
  const count = volume(fold.blocks);
  if (c.differ(shape[2]!, count)) c.fail(`the image has ${count} blocks, the input ${shape[2]}`);
  const channels = divide(c, shape[1]!, volume(fold.window.kernel), 'channels');
  return [{ dtype, shape: [shape[0]!, channels, ...fold.image] }];
}

function runCol2Im(c: RunContext): readonly Tensor[] {
  const out = c.allocate();
  const { window, image, blocks } = foldWindow(c) ?? c.fail('more sizes than axes');
  const rank = image.length;
  const taps = volume(window.kernel);
  const count = volume(blocks);
  const size = volume(image);
  const source = dense(c.operand(0));
  const to = out.data as Numbers;
  const add = isBig(out) ? addBig : addNumber;
  const planes = out.shape[0]! * out.shape[1]!;
  const tap = new Array<number>(rank).fill(0);
  const block = new Array<number>(rank).fill(0);
  let at = 0;
  for (let plane = 0; plane < planes; plane++) {
    for (let k = 0; k < taps; k++) {
      for (let b = 0; b < count; b++, at++) {
        let place = 0;
        let inside = true;
        for (let axis = 0; axis < rank; axis++) {
          const x =
            block[axis]! * window.strides[axis]! + tap[axis]! * window.dilations[axis]! - window.padBegin[axis]!;
          if (x < 0 || x >= image[axis]!) inside = false;
          place = place * image[axis]! + x;
        }
        if (inside) add(to, plane * size + place, source, at);
        step(block, blocks);
      }
      step(tap, window.kernel);
    }
  }
  return [out];
}

function addNumber(to: Numbers, at: number, source: Numbers, from: number): void {
  to[at] = to[at]! + source[from]!;
}

function addBig(to: Numbers, at: number, source: Numbers, from: number): void {
  const [sums, values] = [to, source] as unknown as [BigInt64Array, BigInt64Array];
  sums[at] = sums[at]! + values[from]!;
}

/** The next index in row-major order; after the last comes the first. */
function step(index: number[], sizes: readonly number[]): void {
  for (let axis = sizes.length - 1; axis >= 0 && ++index[axis]! === sizes[axis]; axis--) index[axis] = 0;
}

/** The operators of this file. */
export const SPATIAL: readonly Operator[] = [
  define(
    'DepthToSpace',
    'compute',
    from(1, depthToSpace, { attributes: { blocksize: required(int()) } }),
    depthToSpace,
  ),
  define('SpaceToDepth', 'compute', spaceToDepth),
  define('CenterCropPad', 'compute', centerCropPad),
  define('Col2Im', 'compute', col2im),
];
