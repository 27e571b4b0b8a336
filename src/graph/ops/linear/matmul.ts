/**
 * Products of matrices: MatMul and Gemm.
 * @module
 */
import { broadcastShapes, type DType, formatShape, type Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import { isBig, type Numbers } from '../loops.ts';
import {
  define,
  FLOATS,
  float,
  from,
  type InferContext,
  int,
  type Operator,
  type OperatorVersion,
  type RunContext,
} from '../operator.ts';
import { type MatrixView, matmulInto } from './gemm.ts';

/** From opset 9 on, products are of integers as well. */
const PRODUCTS: readonly DType[] = [...FLOATS, 'i32', 'u32', 'i64', 'u64'];

/** NumPy's matmul: vectors are promoted to matrices, leading axes broadcast. */
function inferMatMul(c: InferContext): readonly Facts[] {
  c.expect(0, c.node.opset >= 9 ? PRODUCTS : FLOATS);
  c.sameDType(0, 1);
  const a = c.input(0).shape;
  const b = c.input(1).shape;
  if (a.length === 0 || b.length === 0)
    c.fail(`expected at least 1 dimension, got ${formatShape(a)} and ${formatShape(b)}`);
  const inner = b.length === 1 ? b[0]! : b[b.length - 2]!;
  if (c.differ(a.at(-1)!, inner)) {
    c.fail(`${formatShape(a)} x ${formatShape(b)}: inner sizes ${a.at(-1)} and ${inner} differ`);
  }
  const batch = c.broadcast(a.slice(0, -2), b.slice(0, -2));
  const rows: readonly Dim[] = a.length > 1 ? [a.at(-2)!] : [];
  const columns: readonly Dim[] = b.length > 1 ? [b.at(-1)!] : [];
  return [{ dtype: c.input(0).dtype, shape: [...batch, ...rows, ...columns] }];
}

function runMatMul(c: RunContext): readonly Tensor[] {
  const a = c.operand(0).shape.length === 1 ? c.operand(0).unsqueeze([0]) : c.operand(0);
  const b = c.operand(1).shape.length === 1 ? c.operand(1).unsqueeze([1]) : c.operand(1);
  const out = c.allocate();
  const batch = broadcastShapes(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const [m, k, n] = [a.shape.at(-2)!, a.shape.at(-1)!, b.shape.at(-1)!];
  const left = a.expand([...batch, m, k]);
  const right = b.expand([...batch, k, n]);
  const count = batch.reduce((size, dim) => size * dim, 1);
  const product = productOf(out);
  for (let i = 0; i < count; i++) {
    product(m, n, k, matrixAt(left, batch, i), matrixAt(right, batch, i), {
      data: out.data as Numbers,
      offset: i * m * n,
    });
  }
  return [out];
}

/** The `index`-th matrix of a batch. */
function matrixAt(tensor: Tensor, batch: readonly number[], index: number): MatrixView {
  let offset = tensor.offset;
  let rest = index;
  for (let axis = batch.length - 1; axis >= 0; axis--) {
    offset += (rest % batch[axis]!) * tensor.strides[axis]!;
    rest = Math.floor(rest / batch[axis]!);
  }
  return {
    data: tensor.data as Numbers,
    offset,
    rowStride: tensor.strides.at(-2)!,
    columnStride: tensor.strides.at(-1)!,
  };
}

type Product = typeof matmulInto;

/** The product of matrices of the dtype of `out`. Those of integers take no scale. */
function productOf(out: Tensor): Product {
  if (isBig(out)) return bigProduct;
  return out.dtype === 'i32' || out.dtype === 'u32' ? wordProduct : matmulInto;
}

/** 32-bit integers wrap at each step, as they do in hardware. */
const wordProduct: Product = (m, n, k, a, b, c) => {
  const sums = new Int32Array(n);
  for (let i = 0; i < m; i++) {
    sums.fill(0);
    for (let p = 0; p < k; p++) {
      const factor = a.data[a.offset + i * a.rowStride + p * a.columnStride]!;
      let at = b.offset + p * b.rowStride;
      for (let j = 0; j < n; j++, at += b.columnStride) sums[j] = (sums[j]! + Math.imul(factor, b.data[at]!)) | 0;
    }
    for (let j = 0; j < n; j++) c.data[c.offset + i * n + j] = sums[j]!;
  }
};

const bigProduct: Product = (m, n, k, a, b, c) => {
  const [x, y, z] = [a.data, b.data, c.data] as unknown as BigInt64Array[];
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0n;
      for (let p = 0; p < k; p++)
        sum +=
          x![a.offset + i * a.rowStride + p * a.columnStride]! * y![b.offset + p * b.rowStride + j * b.columnStride]!;
      z![c.offset + i * n + j] = sum;
    }
  }
};

const matmul: OperatorVersion = {
  since: 1,
  inputs: [2, 2],
  outputs: [1, 1],
  attributes: {},
  infer: inferMatMul,
  run: runMatMul,
};

function inferGemm(c: InferContext): readonly Facts[] {
  c.expect(0, c.node.opset >= 9 ? PRODUCTS : FLOATS);
  c.sameDType(0, 1);
  c.sameDType(0, 2);
  c.rank(0, 2);
  c.rank(1, 2);
  const [a, b] = [c.input(0).shape, c.input(1).shape];
  const [m, k] = c.number('transA') ? [a[1]!, a[0]!] : [a[0]!, a[1]!];
  const [inner, n] = c.number('transB') ? [b[1]!, b[0]!] : [b[0]!, b[1]!];
  if (c.differ(k, inner)) c.fail(`${formatShape(a)} x ${formatShape(b)}: inner sizes ${k} and ${inner} differ`);
  const bias = c.inputs[2]?.shape;
  if (bias) {
    const shape = c.broadcast([m, n], bias);
    if (shape.length !== 2 || c.differ(shape[0]!, m) || c.differ(shape[1]!, n)) {
      c.fail(`the bias ${formatShape(bias)} does not broadcast into ${formatShape([m, n])}`);
    }
  }
  return [{ dtype: c.input(0).dtype, shape: [m, n] }];
}

function runGemm(c: RunContext): readonly Tensor[] {
  const a = c.number('transA') ? c.operand(0).transpose() : c.operand(0);
  const b = c.number('transB') ? c.operand(1).transpose() : c.operand(1);
  const beta = c.number('beta');
  const bias = beta === 0 ? undefined : c.tensors[2];
  const [left, right] = [matrixAt(a, [], 0), matrixAt(b, [], 0)];
  const [m, n] = c.shape() as [number, number];
  const k = a.shape[1]!;
  if (!FLOATS.includes(a.dtype)) {
    const out = c.allocate();
    productOf(out)(m, n, k, left, right, { data: out.data as Numbers, offset: 0 });
    return [scaleIntegers(out, c.number('alpha'), bias?.expand(c.shape()), beta)];
  }
  const out = bias ? bias.expand(c.shape()).clone() : c.allocate();
  const data = out.data as Numbers;
  if (bias && beta !== 1) for (let i = 0; i < data.length; i++) data[i] = data[i]! * beta;
  matmulInto(m, n, k, left, right, { data, offset: 0 }, c.number('alpha'));
  return [out];
}

/** `alpha * product + beta * bias` in place. Whole factors keep integers exact; others are applied in double and truncated. */
function scaleIntegers(product: Tensor, alpha: number, bias: Tensor | undefined, beta: number): Tensor {
  if (alpha === 1 && !bias) return product;
  const added = bias?.elements();
  if (isBig(product)) {
    const to = product.data as BigInt64Array;
    const whole = Number.isSafeInteger(alpha) && Number.isSafeInteger(beta);
    for (let i = 0; i < to.length; i++) {
      const [x, y] = [to[i]!, (added?.[i] ?? 0n) as bigint];
      to[i] = whole ? BigInt(alpha) * x + BigInt(beta) * y : truncated(alpha * Number(x) + beta * Number(y));
    }
    return product;
  }
  const to = product.data as Numbers;
  for (let i = 0; i < to.length; i++) to[i] = alpha * to[i]! + beta * ((added?.[i] ?? 0) as number);
  return product;
}

function truncated(value: number): bigint {
  return Number.isFinite(value) ? BigInt(Math.trunc(value)) : 0n;
}

const gemm: OperatorVersion = {
  since: 7,
  inputs: [3, 3],
  outputs: [1, 1],
  attributes: { alpha: float(1), beta: float(1), transA: int(0), transB: int(0) },
  infer: inferGemm,
  run: runGemm,
};

/** Before opset 7 the bias broadcast only on request. */
const gemmLegacy = from(1, gemm, {
  attributes: { ...gemm.attributes, broadcast: int(0) },
  infer: c => {
    const [facts] = inferGemm(c);
    const bias = c.input(2).shape;
    if (c.number('broadcast') === 0 && (bias.length !== 2 || bias.some((dim, i) => c.differ(dim, facts!.shape[i]!)))) {
      c.fail(`the bias ${formatShape(bias)} is not ${formatShape(facts!.shape)} and broadcast is 0`);
    }
    return [facts!];
  },
});

/** The operators of this file. */
export const MATMUL: readonly Operator[] = [
  define('MatMul', 'compute', matmul),
  define('Gemm', 'compute', gemmLegacy, gemm, from(11, gemm, { inputs: [2, 3] })),
];
