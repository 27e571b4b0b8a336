/**
 * Attention: queries over keys and values, with masks.
 * @module
 */
import type { Facts, Node, ValueId } from '../../graph/index.ts';
import { elementCount, type Shape } from '../../tensor/index.ts';
import { type Draft, Unsupported, type View } from '../draft.ts';
import { floatWord, MASK_FORMS } from '../program.ts';
import { emitProduct } from './linear.ts';
import { emitBinary, emitCopy, type Lowerings, number, numbers } from './lowering.ts';

/** Lowerings of the attention operators in `src/graph/ops/transformer`. */
export const ATTENTION: Lowerings = {
  Attention: { float: false, refuses: refuseAttention, lower: lowerAttention },
};

/** The same for the domain `com.microsoft`. */
export const MICROSOFT_ATTENTION: Lowerings = {
  Attention: { float: false, refuses: refuseProjected, lower: lowerProjected },
  MultiHeadAttention: { float: false, refuses: refuseMultiHead, lower: lowerMultiHead },
};

/** What attends to what. An operand is (batch, rows, heads, size) where its `rows` is set, else (batch, heads, rows, size). */
interface Heads {
  readonly batch: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly queries: number;
  readonly keys: number;
  readonly size: number;
  readonly valueSize: number;
}

/** A value that a step reads, and whether its rows come before its heads. */
interface Operand {
  readonly view: View;
  readonly rows: boolean;
}

/** Something f32 that is added to the scores, over (batch, heads, queries, keys). */
interface Mask {
  readonly view: View;
  readonly shape: Shape;
}

interface Scoring {
  readonly scale: number;
  readonly softcap?: number;
  readonly masks: readonly (Mask | undefined)[];
  /** A query sees the keys up to its own place after this many. */
  readonly causalAfter?: number | undefined;
}

function emitAttention(
  d: Draft,
  heads: Heads,
  [q, k, v]: readonly [Operand, Operand, Operand],
  out: Operand,
  { scale, softcap = 0, masks, causalAfter }: Scoring,
): void {
  if (out.view.length === 0) return;
  const { batch, kvHeads, queries, keys, size, valueSize } = heads;
  if (keys === 0 || size === 0) throw new Unsupported('there is nothing to attend to');
  const full = [batch, heads.heads, queries, keys];
  const mask = masks
    .filter(one => one !== undefined)
    .reduce((a, b) => addMasks(d, a, b), undefined as Mask | undefined);
  const axes = full.map((_, i) => (mask !== undefined && (mask.shape[mask.shape.length - 4 + i] ?? 1) !== 1 ? 1 : 0));
  const operands = [q, k, v, out];
  d.emit(
    'attention',
    [...operands.map(({ view }) => view), ...(mask === undefined ? [] : [mask.view])],
    [
      ...[batch, heads.heads, kvHeads, queries, keys, size, valueSize],
      ...operands.map(({ rows }) => Number(rows)),
      ...[floatWord(scale), floatWord(softcap)],
      ...[causalAfter === undefined ? 0 : 1, (causalAfter ?? 0) >>> 0],
      ...axes,
    ],
  );
}

/**
 * Keys or values with those of the past before them, as (batch, heads, rows, size): the output `id`, where the node has it. `sizes` are
 * those of `added`.
 */
function joined(
  d: Draft,
  past: ValueId | undefined,
  added: Operand,
  sizes: readonly [batch: number, heads: number, rows: number, size: number],
  id: ValueId | undefined,
): Operand {
  if (past === undefined && id === undefined) return added;
  const [batch, heads, rows, size] = sizes;
  const before = past === undefined ? [] : [d.read(past)].filter(({ length }) => length > 0);
  const length = before.reduce((sum, view) => sum + view.length, added.view.length);
  const whole = id === undefined ? d.temporary(length) : d.write(id);
  if (added.view.length === 0) {
    if (length > 0) d.emit('concat', [whole, ...before], [1]);
    return { view: whole, rows: false };
  }
  const turned = (to: View): View => {
    emitCopy(d, added.view, 4, [batch, heads, rows, size], [rows * heads * size, size, heads * size, 1], to);
    return to;
  };
  if (before.length === 0 && added.rows) return { view: turned(whole), rows: false };
  const upright = added.rows ? turned(d.temporary(added.view.length)) : added.view;
  d.emit('concat', [whole, ...before, upright], [batch * heads]);
  return { view: whole, rows: false };
}

/** One mask that adds what two add. */
function addMasks(d: Draft, a: Mask | undefined, b: Mask): Mask {
  if (a === undefined) return b;
  const at = (shape: Shape, i: number): number => shape[shape.length - 4 + i] ?? 1;
  const shape = [0, 1, 2, 3].map(i => Math.max(at(a.shape, i), at(b.shape, i)));
  const view = d.temporary(4 * elementCount(shape));
  emitBinary(d, 'add', a.view, a.shape, b.view, b.shape, view, shape);
  return { view, shape };
}

/** The mask that says of each key of `x` whether it is seen, and adds `filter` where it is not. */
function seenMask(d: Draft, x: View, form: keyof typeof MASK_FORMS, batch: number, keys: number, filter: number): View {
  const view = d.temporary(4 * batch * keys);
  d.emit('attentionMask', [x, view], [MASK_FORMS[form], batch, keys, floatWord(filter)]);
  return view;
}

// ---- ai.onnx ----

function notFloat(inputs: readonly (Facts | undefined)[], indices: readonly number[]): string | undefined {
  const other = indices.map(i => inputs[i]).find(facts => facts !== undefined && facts.dtype !== 'f32');
  return other && `native kernels compute in f32, not ${other.dtype}`;
}

function refuseAttention(node: Node, inputs: readonly (Facts | undefined)[]): string | undefined {
  if (node.outputs[3] !== undefined) return 'it asks for its scores';
  if (node.inputs[6] !== undefined) return 'its cache is not filled to the end';
  const mask = inputs[3];
  if (mask !== undefined && mask.dtype !== 'f32' && mask.dtype !== 'bool') return `its mask is ${mask.dtype}`;
  const [keys, past] = [inputs[1]!.shape.at(-2), inputs[4]?.shape[2] ?? 0];
  const last = mask?.shape.at(-1) ?? 1;
  const known = typeof keys === 'number' && typeof past === 'number' && typeof last === 'number';
  if (known && last !== 1 && last !== keys + past) return 'its mask ends early';
  return notFloat(inputs, [0, 1, 2, 4, 5]);
}

function lowerAttention(d: Draft, node: Node): void {
  const [qId, kId, vId, maskId, pastK, pastV] = node.inputs as readonly [ValueId, ValueId, ValueId, ...ValueId[]];
  const rows = d.shape(qId).length === 3;
  /** (heads, rows, size) of an operand. */
  const sizes = (id: ValueId, attribute: string): readonly [number, number, number] => {
    const shape = d.shape(id);
    if (!rows) return [shape[1]!, shape[2]!, shape[3]!];
    const heads = number(node, attribute, 1);
    return [heads, shape[1]!, shape[2]! / heads];
  };
  const [heads, queries, size] = sizes(qId, 'q_num_heads');
  const [kvHeads, keys] = sizes(kId, 'kv_num_heads');
  const [, , valueSize] = sizes(vId, 'kv_num_heads');
  const operand = (id: ValueId): Operand => ({ view: d.read(id), rows });
  const batch = d.shape(qId)[0]!;
  const past = pastK === undefined ? 0 : d.shape(pastK)[2]!;
  emitAttention(
    d,
    { batch, heads, kvHeads, queries, keys: past + keys, size, valueSize },
    [
      operand(qId),
      joined(d, pastK, operand(kId), [batch, kvHeads, keys, size], node.outputs[1]),
      joined(d, pastV, operand(vId), [batch, kvHeads, keys, valueSize], node.outputs[2]),
    ],
    { view: d.write(node.outputs[0]!), rows },
    {
      scale: number(node, 'scale', 1 / Math.sqrt(size)),
      softcap: number(node, 'softcap', 0),
      masks: [maskId === undefined ? undefined : maskOf(d, maskId)],
      causalAfter: number(node, 'is_causal', 0) === 0 ? undefined : past,
    },
  );
}

/** A mask of floats, or of flags, whose false hides a key. */
function maskOf(d: Draft, id: ValueId): Mask {
  const shape = d.shape(id);
  const view = d.read(id);
  if (d.facts(id).dtype !== 'bool') return { view, shape };
  const lower = (): View => seenMask(d, view, 'flags', 1, elementCount(shape), Number.NEGATIVE_INFINITY);
  return { view: d.isConstant(id) ? d.atSetup(lower) : lower(), shape };
}

// ---- com.microsoft ----

/** The mask that a padding input stands for: a number per key, or where each sequence ends, or ends and starts. */
function paddingOf(d: Draft, node: Node, index: number, batch: number, keys: number): Mask | undefined {
  const id = node.inputs[index];
  if (id === undefined || keys === 0) return undefined;
  const shape = d.shape(id);
  const filter = number(node, 'mask_filter_value', -10000);
  const rows = shape.length === 3 ? batch * shape[1]! : batch;
  const form = shape.length > 1 ? 'numbers' : shape[0] === 2 * batch ? 'ranges' : 'ends';
  const view = seenMask(d, d.read(id), form, rows, keys, filter);
  return { view, shape: shape.length === 3 ? [batch, 1, shape[1]!, keys] : [batch, 1, 1, keys] };
}

function addedOf(d: Draft, id: ValueId | undefined): Mask | undefined {
  return id === undefined ? undefined : { view: d.read(id), shape: d.shape(id) };
}

function scaleOf(node: Node, size: number): number {
  return number(node, 'scale', 0) || 1 / Math.sqrt(size);
}

function refuseMultiHead(_node: Node, inputs: readonly (Facts | undefined)[]): string | undefined {
  if (inputs[0]!.shape.length !== 3 || inputs[1]?.shape.length === 5) return 'its operands come in one tensor';
  return notFloat(inputs, [0, 1, 2, 3, 5, 6, 7]);
}

function lowerMultiHead(d: Draft, node: Node): void {
  const [qId, kId, vId, biasId] = node.inputs as readonly [ValueId, ValueId, ValueId, ValueId | undefined];
  const heads = number(node, 'num_heads', 1);
  const [batch, queries, hidden] = d.shape(qId) as readonly [number, number, number];
  const cached = d.shape(kId).length === 4;
  const keys = d.shape(kId)[cached ? 2 : 1]!;
  const size = hidden / heads;
  const valueSize = cached ? d.shape(vId)[3]! : d.shape(vId)[2]! / heads;
  let start = 0;
  const operand = (id: ValueId, width: number): Operand => {
    const rows = d.shape(id).length === 3;
    const from = start;
    start += width;
    // Keys and values that come in heads have had their bias.
    if (biasId === undefined || !rows) return { view: d.read(id), rows };
    const view = d.temporary(d.bytes(id));
    const bias = { ...d.read(biasId), offset: 4 * from, length: 4 * width };
    emitBinary(d, 'add', d.read(id), d.shape(id), bias, [width], view, d.shape(id));
    return { view, rows };
  };
  const [pastK, pastV] = node.inputs.slice(6);
  const past = pastK === undefined ? 0 : d.shape(pastK)[2]!;
  const total = past + keys;
  const [q, k, v] = [operand(qId, hidden), operand(kId, hidden), operand(vId, heads * valueSize)];
  emitAttention(
    d,
    { batch, heads, kvHeads: heads, queries, keys: total, size, valueSize },
    [
      q,
      joined(d, pastK, k, [batch, heads, keys, size], node.outputs[1]),
      joined(d, pastV, v, [batch, heads, keys, valueSize], node.outputs[2]),
    ],
    { view: d.write(node.outputs[0]!), rows: true },
    {
      scale: scaleOf(node, size),
      masks: [paddingOf(d, node, 4, batch, total), addedOf(d, node.inputs[5])],
      causalAfter: number(node, 'unidirectional', 0) === 0 ? undefined : total - queries,
    },
  );
}

function refuseProjected(node: Node, inputs: readonly (Facts | undefined)[]): string | undefined {
  if (node.outputs[1] !== undefined || node.inputs[4] !== undefined) return 'it keeps a past';
  return notFloat(inputs, [0, 1, 2, 5]);
}

/** Queries, keys and values are products of the input with a third of the weights each. */
function lowerProjected(d: Draft, node: Node): void {
  const [xId, weightsId, biasId] = node.inputs as readonly [ValueId, ValueId, ValueId | undefined];
  const heads = number(node, 'num_heads', 1);
  const [batch, rows, inner] = d.shape(xId) as readonly [number, number, number];
  const columns = d.shape(weightsId)[1]!;
  const widths = numbers(node, 'qkv_hidden_sizes') ?? new Array<number>(3).fill(columns / 3);
  const out = d.write(node.outputs[0]!);
  if (out.length === 0) return;
  if (inner === 0) throw new Unsupported('its inner size is 0');
  let start = 0;
  const [q, k, v] = widths.map((width): Operand => {
    const from = start;
    start += width;
    const slice = (): View => {
      const weights = { ...d.read(weightsId), offset: 4 * from, length: 4 * ((inner - 1) * columns + width) };
      const view = d.temporary(4 * inner * width);
      emitCopy(d, weights, 4, [inner, width], [columns, 1], view);
      return view;
    };
    const packs = d.isConstant(weightsId) && !d.inSetup;
    const source = packs ? d.atSetup(slice) : slice();
    const weights = packs ? { packed: d.pack(source, { layout: 'gemm', words: [inner, width, 0] }) } : source;
    const view = d.temporary(4 * batch * rows * width);
    const bias = biasId === undefined ? undefined : { ...d.read(biasId), offset: 4 * from, length: 4 * width };
    emitProduct(d, { m: batch * rows, n: width, k: inner, bTransposed: false }, d.read(xId), weights, view, bias);
    return { view, rows: true };
  }) as [Operand, Operand, Operand];
  const [size, valueSize] = [widths[0]! / heads, widths[2]! / heads];
  emitAttention(
    d,
    { batch, heads, kvHeads: heads, queries: rows, keys: rows, size, valueSize },
    [q, k, v],
    { view: out, rows: true },
    {
      scale: scaleOf(node, size),
      masks: [paddingOf(d, node, 3, batch, rows), addedOf(d, node.inputs[5])],
      causalAfter: number(node, 'unidirectional', 0) === 0 ? undefined : 0,
    },
  );
}
