/**
 * Normalisation of rows and of groups of channels.
 * @module
 */
import type { Facts, Node, ValueId } from '../../graph/index.ts';
import { elementCount, type Shape } from '../../tensor/index.ts';
import { broadcastStrides, type Draft, type View } from '../draft.ts';
import { floatWord } from '../program.ts';
import { emitCopy, fromEnd, type Lowerings, number } from './lowering.ts';

/** Lowerings of `src/graph/ops/transformer` that normalise. */
export const NORMALISATION: Lowerings = {
  LayerNormalization: { float: true, refuses: refuseStatistics, lower: (d, node) => lowerRows(d, node, true) },
  RMSNormalization: { float: true, lower: (d, node) => lowerRows(d, node, false) },
  SimplifiedLayerNormalization: {
    float: true,
    refuses: refuseStatistics,
    lower: (d, node) => lowerRows(d, node, false),
  },
  InstanceNormalization: { float: true, lower: lowerInstance },
  GroupNormalization: { float: true, lower: lowerGroup },
};

/** The same for the domain `com.microsoft`. */
export const MICROSOFT_NORMALISATION: Lowerings = {
  SkipLayerNormalization: { float: true, refuses: refuseSkipStatistics, lower: (d, node) => lowerSkip(d, node, true) },
  SkipSimplifiedLayerNormalization: {
    float: true,
    refuses: refuseSkipStatistics,
    lower: (d, node) => lowerSkip(d, node, false),
  },
};

function refuseStatistics(node: Node): string | undefined {
  return node.outputs.slice(1).some(id => id !== undefined) ? 'it asks for its statistics' : undefined;
}

function refuseSkipStatistics(node: Node, inputs: readonly (Facts | undefined)[]): string | undefined {
  if (node.outputs[1] !== undefined || node.outputs[2] !== undefined) return 'it asks for its statistics';
  const [x, skip] = [inputs[0]?.shape ?? [], inputs[1]?.shape ?? []];
  return x.length === skip.length && x.every((dim, i) => dim === skip[i]) ? undefined : 'its skip is broadcast';
}

/** `id` with exactly the elements of `shape`. */
function spread(d: Draft, id: ValueId, shape: Shape): View {
  const x = d.read(id);
  if (elementCount(d.shape(id)) === elementCount(shape)) return x;
  const copy = (): View => {
    const y = d.temporary(4 * elementCount(shape));
    emitCopy(d, x, 4, shape, broadcastStrides(d.shape(id), shape), y);
    return y;
  };
  return d.isConstant(id) ? d.atSetup(copy) : copy();
}

function lowerRows(d: Draft, node: Node, centred: boolean): void {
  const [xId, scaleId, biasId] = [node.inputs[0]!, node.inputs[1]!, node.inputs[2]];
  const shape = d.shape(xId);
  const axis = fromEnd(number(node, 'axis', -1), shape.length);
  const row = shape.slice(axis);
  const x = d.read(xId);
  const scale = spread(d, scaleId, row);
  const bias = biasId === undefined ? [] : [spread(d, biasId, row)];
  const y = d.write(node.outputs[0]!);
  if (y.length === 0) return;
  const words = [elementCount(shape.slice(0, axis)), elementCount(row), floatWord(number(node, 'epsilon', 1e-5))];
  d.emit('rowNorm', [y, x, scale, ...bias], [...words, Number(centred), bias.length, 0, 0], [1]);
}

/** Inputs x, skip, gamma, [beta of a centred one], [bias]; output 3 is what was normalised. */
function lowerSkip(d: Draft, node: Node, centred: boolean): void {
  const [xId, skipId, scaleId] = [node.inputs[0]!, node.inputs[1]!, node.inputs[2]!];
  const betaId = centred ? node.inputs[3] : undefined;
  const biasId = node.inputs[centred ? 4 : 3];
  const optional = (id: ValueId | undefined): readonly View[] => (id === undefined ? [] : [d.read(id)]);
  const [beta, bias] = [optional(betaId), optional(biasId)];
  const [x, skip, scale] = [d.read(xId), d.read(skipId), d.read(scaleId)];
  const shape = d.shape(xId);
  const n = shape.at(-1)!;
  const y = d.write(node.outputs[0]!);
  const sum = node.outputs[3] === undefined ? [] : [d.write(node.outputs[3])];
  if (y.length === 0) return;
  const words = [elementCount(shape) / n, n, floatWord(number(node, 'epsilon', 1e-5)), Number(centred)];
  d.emit(
    sum.length === 0 ? 'rowNorm' : 'rowNormSum',
    [y, ...sum, x, scale, ...beta, skip, ...bias],
    [...words, beta.length, 1, bias.length],
  );
}

function emitGroups(d: Draft, node: Node, groups: number, scale: View, bias: View): void {
  const shape = d.shape(node.inputs[0]!);
  const [batch, channels] = shape as [number, number];
  const x = d.read(node.inputs[0]!);
  const y = d.write(node.outputs[0]!);
  if (y.length === 0) return;
  const words = [batch * groups, groups, channels / groups, elementCount(shape.slice(2))];
  d.emit('groupNorm', [y, x, scale, bias], [...words, floatWord(number(node, 'epsilon', 1e-5))], [1]);
}

function lowerInstance(d: Draft, node: Node): void {
  const channels = d.shape(node.inputs[0]!)[1]!;
  emitGroups(d, node, channels, d.read(node.inputs[1]!), d.read(node.inputs[2]!));
}

/** Before opset 21 there is a scale and a bias for each group, from there on for each channel. */
function lowerGroup(d: Draft, node: Node): void {
  const channels = d.shape(node.inputs[0]!)[1]!;
  const groups = number(node, 'num_groups', 1);
  const affine = (id: ValueId): View => {
    const view = d.read(id);
    if (d.bytes(id) === 4 * channels) return view;
    const y = d.temporary(4 * channels);
    emitCopy(d, view, 4, [groups, channels / groups], [1, 0], y);
    return y;
  };
  emitGroups(d, node, groups, affine(node.inputs[1]!), affine(node.inputs[2]!));
}
