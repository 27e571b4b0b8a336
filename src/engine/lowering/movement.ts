/**
 * Operators that move elements and compute nothing.
 * @module
 */
import type { Facts, Node, ValueId } from '../../graph/index.ts';
import { DTYPES, denseStrides, elementCount, Tensor } from '../../tensor/index.ts';
import { broadcastStrides, collapse, type Draft, Unsupported } from '../draft.ts';
import { PAD_MODES } from '../program.ts';
import { emitBlockedConcat } from './blocks.ts';
import { attribute, emitCopy, fromEnd, type Lowerings, number, numbers, refuseTraining } from './lowering.ts';

/** Lowerings of `src/graph/ops/movement`. */
export const MOVEMENT: Lowerings = {
  Transpose: { float: false, lower: lowerTranspose },
  Expand: { float: false, parameters: [1], lower: lowerExpand },
  Slice: { float: false, parameters: [1, 2, 3, 4], lower: lowerSlice },
  Split: { float: false, parameters: [1], lower: lowerSplit },
  Concat: { float: false, lower: lowerConcat },
  Gather: { float: false, refuses: refuseIndices, lower: lowerGather },
  GatherElements: { float: false, refuses: refuseIndices, lower: lowerGatherElements },
  Tile: { float: false, parameters: [1], refuses: refuseOldTile, lower: lowerTile },
  DepthToSpace: { float: false, lower: lowerDepthToSpace },
  SpaceToDepth: { float: false, lower: lowerSpaceToDepth },
  Identity: { float: false, lower: lowerAlias },
  Reshape: { float: false, parameters: [1], lower: lowerAlias },
  Flatten: { float: false, lower: lowerAlias },
  Squeeze: { float: false, parameters: [1], lower: lowerAlias },
  Unsqueeze: { float: false, parameters: [1], lower: lowerAlias },
  Dropout: { float: false, parameters: [1, 2], refuses: refuseTraining, lower: lowerAlias },
};

function lowerAlias(d: Draft, node: Node): void {
  if (
    node.op === 'Dropout' &&
    node.inputs[2] !== undefined &&
    Number(d.tensor(node.inputs[2])?.values()[0] ?? 1) !== 0
  ) {
    throw new Unsupported('it drops at inference');
  }
  d.alias(node.outputs[0]!, node.inputs[0]!);
}

function lowerTranspose(d: Draft, node: Node): void {
  const shape = d.shape(node.inputs[0]!);
  const order = numbers(node, 'perm') ?? shape.map((_, i) => shape.length - 1 - i);
  const dense = denseStrides(shape);
  strided(
    d,
    node.inputs[0]!,
    node.outputs[0]!,
    order.map(axis => dense[axis]!),
    0,
  );
}

function lowerExpand(d: Draft, node: Node): void {
  const [x, y] = [node.inputs[0]!, node.outputs[0]!];
  strided(d, x, y, broadcastStrides(d.shape(x), d.shape(y)), 0);
}

function lowerSlice(d: Draft, node: Node): void {
  const [x, y] = [node.inputs[0]!, node.outputs[0]!];
  const shape = d.shape(x);
  const list = (input: number, name: string): readonly number[] | undefined => {
    if (node.opset < 10) return numbers(node, name);
    if (node.inputs[input] === undefined) return undefined;
    const values = d.tensor(node.inputs[input])?.values().map(Number);
    if (values === undefined) throw new Unsupported(`its ${name} are computed`);
    return values;
  };
  const starts = list(1, 'starts') ?? [];
  const axes = list(3, 'axes') ?? starts.map((_, i) => i);
  const steps = list(4, 'steps') ?? starts.map(() => 1);
  const strides = [...denseStrides(shape)];
  let first = 0;
  starts.forEach((start, i) => {
    const axis = fromEnd(axes[i]!, shape.length);
    const [size, step] = [shape[axis]!, steps[i]!];
    const from = start < 0 ? start + size : start;
    first += Math.min(Math.max(from, 0), step < 0 ? size - 1 : size) * strides[axis]!;
    strides[axis]! *= step;
  });
  strided(d, x, y, strides, first);
}

function lowerSplit(d: Draft, node: Node): void {
  const x = node.inputs[0]!;
  const axis = fromEnd(number(node, 'axis', 0), d.shape(x).length);
  const strides = denseStrides(d.shape(x));
  let first = 0;
  for (const y of node.outputs) {
    // A part that nobody asked for has no size here to step over.
    if (y === undefined) throw new Unsupported('one of its outputs is left out');
    strided(d, x, y, strides, first);
    first += d.shape(y)[axis]! * strides[axis]!;
  }
}

/**
 * `y` = the elements of `x` at `strides` from element `first`. Takes the bytes between the lowest and the highest of
 * them.
 */
function strided(d: Draft, x: ValueId, y: ValueId, strides: readonly number[], first: number): void {
  const shape = d.shape(y);
  const source = d.read(x);
  const target = d.write(y);
  if (target.length === 0) return;
  const element = DTYPES[d.facts(y).dtype].bytes;
  let low = first;
  let high = first;
  strides.forEach((stride, i) => {
    if (stride < 0) low += stride * (shape[i]! - 1);
    else high += stride * (shape[i]! - 1);
  });
  const view = { buffer: source.buffer, offset: source.offset + low * element, length: (high - low + 1) * element };
  emitCopy(d, view, element, shape, strides, target);
}

function lowerConcat(d: Draft, node: Node): void {
  const out = node.outputs[0]!;
  const axis = fromEnd(number(node, 'axis', 0), d.shape(out).length);
  if (emitBlockedConcat(d, node, axis)) return;
  const outer = elementCount(d.shape(out).slice(0, axis));
  const parts = node.inputs.filter(id => id !== undefined).map(id => d.read(id));
  const filled = parts.filter(part => part.length > 0);
  if (filled.length > MAX_PARTS) throw new Unsupported(`it joins more than ${MAX_PARTS} tensors`);
  const y = d.write(out);
  if (y.length > 0) d.emit('concat', [y, ...filled], [outer]);
}

const MAX_PARTS = 1023;

function refuseIndices(_: Node, inputs: readonly (Facts | undefined)[]): string | undefined {
  const dtype = inputs[1]?.dtype;
  return dtype === 'i32' || dtype === 'i64' ? undefined : `its indices are ${dtype}`;
}

function lowerGather(d: Draft, node: Node): void {
  const [xId, indexId, out] = [node.inputs[0]!, node.inputs[1]!, node.outputs[0]!];
  const shape = d.shape(xId);
  const axis = fromEnd(number(node, 'axis', 0), shape.length);
  const element = DTYPES[d.facts(xId).dtype].bytes;
  const inner = elementCount(shape.slice(axis + 1)) * element;
  const [x, indices] = [d.read(xId), d.read(indexId)];
  const y = d.write(out);
  if (y.length === 0) return;
  if (x.length === 0) throw new Unsupported('it gathers from nothing');
  const count = elementCount(d.shape(indexId));
  const wide = Number(d.facts(indexId).dtype === 'i64');
  const words = [elementCount(shape.slice(0, axis)), shape[axis]!, inner, count, wide, element];
  d.emit('gather', [x, indices, y], words);
}

function lowerGatherElements(d: Draft, node: Node): void {
  const [xId, indexId, out] = [node.inputs[0]!, node.inputs[1]!, node.outputs[0]!];
  const shape = d.shape(xId);
  const [x, indices] = [d.read(xId), d.read(indexId)];
  const y = d.write(out);
  if (y.length === 0) return;
  if (shape.length === 0 || shape.length > 8) throw new Unsupported('it has no axes, or too many');
  const wide = Number(d.facts(indexId).dtype === 'i64');
  const axis = fromEnd(number(node, 'axis', 0), shape.length);
  const head = [DTYPES[d.facts(xId).dtype].bytes, wide, shape.length, axis];
  d.emit('gatherElements', [x, indices, y], [...head, ...shape, ...d.shape(out)]);
}

/** A Pad as a step of its own. */
export function lowerPadding(d: Draft, node: Node): void {
  const [xId, out] = [node.inputs[0]!, node.outputs[0]!];
  const shape = d.shape(xId);
  const rank = shape.length;
  const list = (input: number): readonly number[] | undefined => {
    if (node.inputs[input] === undefined) return undefined;
    const values = d.tensor(node.inputs[input])?.values().map(Number);
    if (values === undefined) throw new Unsupported('its paddings are computed');
    return values;
  };
  const pads = node.opset < 11 ? (numbers(node, 'pads') ?? []) : list(1)!;
  const axes = (list(3) ?? shape.map((_, i) => i)).map(axis => fromEnd(axis, rank));
  const before = new Array<number>(rank).fill(0);
  axes.forEach((axis, i) => {
    before[axis] = pads[i]!;
  });
  const mode = String(attribute(node, 'mode') ?? 'constant') as keyof typeof PAD_MODES;
  const { dtype } = d.facts(xId);
  const element = DTYPES[dtype].bytes;
  const fill =
    node.opset < 11
      ? Tensor.of('f64', number(node, 'value', 0))
          .cast(dtype)
          .toBytes()
      : new Uint8Array(element);
  const x = d.read(xId);
  const value = node.opset >= 11 && node.inputs[2] !== undefined ? d.read(node.inputs[2]) : d.inline(fill);
  const y = d.write(out);
  if (y.length === 0) return;
  if (x.length === 0) throw new Unsupported('it pads nothing');
  if (rank === 0 || rank > 8) throw new Unsupported('it has no axes, or too many');
  const words = [element, PAD_MODES[mode], rank, ...shape, ...d.shape(out), ...before.map(size => size >>> 0)];
  d.emit('pad', [x, value, y], words);
}

function refuseOldTile(node: Node): string | undefined {
  return node.opset < 6 ? 'before opset 6 it repeats one axis' : undefined;
}

/** Each axis becomes two: how often, which is not walked, and the axis itself. */
function lowerTile(d: Draft, node: Node): void {
  const [x, y] = [node.inputs[0]!, node.outputs[0]!];
  const shape = d.shape(x);
  const dense = denseStrides(shape);
  const pairs = shape.map((size, i) => [d.shape(y)[i]! / size, size]);
  rearrange(
    d,
    x,
    y,
    pairs.flat(),
    dense.flatMap(stride => [0, stride]),
  );
}

function lowerDepthToSpace(d: Draft, node: Node): void {
  const [x, y] = [node.inputs[0]!, node.outputs[0]!];
  const [batch, channels, height, width] = d.shape(x) as [number, number, number, number];
  const block = number(node, 'blocksize', 1);
  const depth = channels / block ** 2;
  const plane = height * width;
  const crd = attribute(node, 'mode') === 'CRD';
  // A channel of x is (row in the block, column in the block, channel of y), or has the last first.
  const [ofChannel, ofRow, ofColumn] = crd
    ? [block * block * plane, block * plane, plane]
    : [plane, block * depth * plane, depth * plane];
  const dims = [batch, depth, height, block, width, block];
  rearrange(d, x, y, dims, [channels * plane, ofChannel, width, ofRow, 1, ofColumn]);
}

function lowerSpaceToDepth(d: Draft, node: Node): void {
  const [x, y] = [node.inputs[0]!, node.outputs[0]!];
  const [batch, channels, height, width] = d.shape(x) as [number, number, number, number];
  const block = number(node, 'blocksize', 1);
  const plane = height * width;
  const dims = [batch, block, block, channels, height / block, width / block];
  rearrange(d, x, y, dims, [channels * plane, width, 1, plane, block * width, block]);
}

/** `y` = the elements of `x` at `strides` over `dims`, which are y's shape cut finer. */
function rearrange(d: Draft, x: ValueId, y: ValueId, dims: readonly number[], strides: readonly number[]): void {
  const source = d.read(x);
  const target = d.write(y);
  if (target.length === 0) return;
  if (collapse(dims, strides).dims.length > 8) throw new Unsupported('it has too many axes');
  emitCopy(d, source, DTYPES[d.facts(y).dtype].bytes, dims, strides, target);
}
