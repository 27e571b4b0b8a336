/**
 * Scaled dot-product attention: the kernel under every attention operator.
 * @module
 */
import { Tensor } from '../../../tensor/index.ts';
import { type MatrixView, matmulInto } from '../linear/gemm.ts';
import type { Numbers } from '../loops.ts';

/** Adds to `bias` what one query's scores get, a number per key; -Infinity hides the key. */
export type RowBias = (bias: Float64Array, batch: number, head: number, query: number) => void;

/** At which step of the computation scores are kept. */
export type ScoreStage = 'scaled' | 'capped' | 'biased' | 'softmax';

/** What attends to what. Tensors are of rank 4 and may have any strides. */
export interface Attention {
  /** (batch, heads, queries, size) */
  readonly query: Tensor;
  /** (batch, kvHeads, keys, size), where `heads` is a multiple of `kvHeads`: neighbouring heads share one. */
  readonly key: Tensor;
  /** (batch, kvHeads, keys, valueSize) */
  readonly value: Tensor;
  readonly scale: number;
  /** Scores are squeezed into -softcap..softcap by a tangent; 0 leaves them. */
  readonly softcap: number;
  readonly biases: readonly RowBias[];
  /** A score per head that takes part in the softmax and that no value belongs to. */
  readonly sink?: (head: number) => number;
}

/** Queries that are computed at a time: what bounds the memory for scores. */
const ROWS = 64;

/**
 * Writes `softmax(softcap(query x key^T * scale) + bias) x value` into `out`, which is (batch, heads, queries, valueSize) in any
 * strides, and the scores of one stage into `kept`, which is dense (batch, heads, queries, keys). A query all of whose keys are
 * hidden has no weights: its result is zero. Scores are kept in double precision for a few queries at a time.
 */
export function attend(
  attention: Attention,
  out: Tensor,
  kept?: { readonly stage: ScoreStage; readonly scores: Tensor },
): void {
  const { query, key, value, scale, softcap, biases } = attention;
  const [batch, heads, queries, size] = query.shape as readonly [number, number, number, number];
  const [, kvHeads, keys] = key.shape as readonly [number, number, number];
  const valueSize = value.shape[3]!;
  // With nothing to write, no tensor bounds the number of keys either.
  if (out.size === 0 && !kept?.scores.size) return;
  const scores = Tensor.zeros('f64', [Math.min(ROWS, queries), keys]).data;
  const result = Tensor.zeros('f64', [Math.min(ROWS, queries), valueSize]).data;
  const bias = new Float64Array(keys);
  const weights: MatrixView = { data: scores, offset: 0, rowStride: keys, columnStride: 1 };
  const keep = (stage: ScoreStage, at: number, rows: number): void => {
    if (kept?.stage === stage) (kept.scores.data as Numbers).set(scores.subarray(0, rows * keys), at);
  };
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const kvHead = Math.floor(h / (heads / kvHeads));
      const values = matrix(value, b, kvHead, 0);
      const keysDown = matrix(key, b, kvHead, 0);
      const keysAcross = { ...keysDown, rowStride: keysDown.columnStride, columnStride: keysDown.rowStride };
      for (let top = 0; top < queries; top += ROWS) {
        const rows = Math.min(ROWS, queries - top);
        const at = ((b * heads + h) * queries + top) * keys;
        scores.fill(0);
        matmulInto(rows, keys, size, matrix(query, b, h, top), keysAcross, { data: scores, offset: 0 }, scale);
        keep('scaled', at, rows);
        if (softcap > 0) {
          for (let i = 0; i < rows * keys; i++) scores[i] = softcap * Math.tanh(scores[i]! / softcap);
        }
        keep('capped', at, rows);
        const hidden = new Array<boolean>(rows).fill(false);
        if (biases.length > 0) {
          for (let row = 0; row < rows; row++) {
            bias.fill(0);
            for (const add of biases) add(bias, b, h, top + row);
            hidden[row] = addRow(scores, row * keys, bias);
          }
        }
        keep('biased', at, rows);
        for (let row = 0; row < rows; row++) {
          const weightsOf = scores.subarray(row * keys, (row + 1) * keys);
          if (hidden[row]) weightsOf.fill(0);
          else softmaxRow(weightsOf, attention.sink?.(h));
        }
        keep('softmax', at, rows);
        result.fill(0);
        matmulInto(rows, valueSize, keys, weights, values, { data: result, offset: 0 });
        store(result, rows, out, b, h, top);
      }
    }
  }
}

/** The matrix of one head, from row `top` on. */
function matrix(tensor: Tensor, batch: number, head: number, top: number): MatrixView {
  const [byBatch, byHead, byRow, byColumn] = tensor.strides as readonly [number, number, number, number];
  return {
    data: tensor.data as Numbers,
    offset: tensor.offset + batch * byBatch + head * byHead + top * byRow,
    rowStride: byRow,
    columnStride: byColumn,
  };
}

/** Adds a bias to a row of scores; whether it hides all of them. */
function addRow(scores: Float64Array, start: number, bias: Float64Array): boolean {
  let largest = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < bias.length; i++) {
    scores[start + i]! += bias[i]!;
    largest = Math.max(largest, bias[i]!);
  }
  return largest === Number.NEGATIVE_INFINITY;
}

function softmaxRow(row: Float64Array, sink = Number.NEGATIVE_INFINITY): void {
  let largest = sink;
  for (let i = 0; i < row.length; i++) largest = Math.max(largest, row[i]!);
  let sum = sink === Number.NEGATIVE_INFINITY ? 0 : Math.exp(sink - largest);
  for (let i = 0; i < row.length; i++) {
    row[i] = Math.exp(row[i]! - largest);
    sum += row[i]!;
  }
  for (let i = 0; i < row.length; i++) row[i]! /= sum;
}

function store(result: Float64Array, rows: number, out: Tensor, batch: number, head: number, top: number): void {
  const { data, offset, rowStride, columnStride } = matrix(out, batch, head, top);
  const columns = out.shape[3]!;
  for (let row = 0, from = 0; row < rows; row++) {
    let to = offset + row * rowStride;
    for (let i = 0; i < columns; i++, to += columnStride) data[to] = result[from++]!;
  }
}

/** Hides every key after its query, where query 0 stands at position `offset(batch)` among the keys. */
export function causal(offset: (batch: number) => number): RowBias {
  return (bias, batch, _, query) => {
    for (let key = Math.max(0, query + offset(batch) + 1); key < bias.length; key++)
      bias[key] = Number.NEGATIVE_INFINITY;
  };
}

/** Hides the keys from `length(batch)` on. */
export function padding(length: (batch: number) => number): RowBias {
  return (bias, batch) => {
    for (let key = Math.max(0, length(batch)); key < bias.length; key++) bias[key] = Number.NEGATIVE_INFINITY;
  };
}

/**
 * Adds a mask that broadcasts to (batch, heads, queries, n), and hides the keys from `n` on. A bool mask hides where it is false
 * and adds nothing elsewhere.
 */
export function masked(mask: Tensor, shape: readonly [number, number, number, number]): RowBias {
  const flags = mask.dtype === 'bool';
  const full = mask.expand(shape);
  const [byBatch, byHead, byRow, byColumn] = full.strides as readonly [number, number, number, number];
  const data = full.data as Numbers;
  return (bias, batch, head, query) => {
    let at = full.offset + batch * byBatch + head * byHead + query * byRow;
    for (let key = 0; key < shape[3]; key++, at += byColumn) {
      if (!flags) bias[key]! += data[at]!;
      else if (data[at] === 0) bias[key] = Number.NEGATIVE_INFINITY;
    }
    bias.fill(Number.NEGATIVE_INFINITY, shape[3]);
  };
}

/** (batch, rows, heads * size) as (batch, heads, rows, size), without a copy where the last axis is dense. */
export function splitHeads(x: Tensor, heads: number): Tensor {
  const [batch, rows, hidden] = x.shape as readonly [number, number, number];
  return x.reshape([batch, rows, heads, heads === 0 ? 0 : hidden / heads]).transpose([0, 2, 1, 3]);
}

/** Keys or values of the past followed by new ones: (batch, heads, rows, size), dense. */
export function joinRows(past: Tensor, added: Tensor): Tensor {
  const [batch, heads, before, size] = past.shape as readonly [number, number, number, number];
  const rows = before + added.shape[2]!;
  const out = Tensor.zeros(past.dtype, [batch, heads, rows, size]);
  const [first, second] = [past.elements() as Numbers, added.elements() as Numbers];
  const to = out.data as Numbers;
  const width = added.shape[2]! * size;
  for (let i = 0; i < batch * heads; i++) {
    to.set(first.subarray(i * before * size, (i + 1) * before * size), i * rows * size);
    to.set(second.subarray(i * width, (i + 1) * width), (i * rows + before) * size);
  }
  return out;
}
