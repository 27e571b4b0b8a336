/**
 * Gradients of products of matrices: MatMul and Gemm.
 * @module
 */
import type { GradientRule } from './rule.ts';

/** Vectors are promoted to matrices, then `dA = dY B^T` and `dB = A^T dY`, summed over leading axes that were repeated. */
const matmul: GradientRule = g => {
  const [vectorA, vectorB] = [g.rankOf(g.input(0)) === 1, g.rankOf(g.input(1)) === 1];
  const a = vectorA ? g.unsqueeze(g.input(0), [0]) : g.input(0);
  const b = vectorB ? g.unsqueeze(g.input(1), [1]) : g.input(1);
  const dy = g.unsqueeze(g.dy, [...(vectorA ? [-2] : []), ...(vectorB ? [-1] : [])]);
  // Weights that all batches share: one product over all rows, not one per batch and a sum.
  const shared = g.rankOf(b) === 2 && g.rankOf(a) > 2;
  const rows = (id: number): number => (shared ? g.op('Flatten', [id], { axis: -1 }) : id);
  return [
    g.needs(0) ? g.reshapeLike(g.reduceTo(g.op('MatMul', [dy, g.transposeLast(b)]), a), g.input(0)) : undefined,
    g.needs(1)
      ? g.reshapeLike(g.reduceTo(g.op('MatMul', [g.transposeLast(rows(a)), rows(dy)]), b), g.input(1))
      : undefined,
  ];
};

const gemm: GradientRule = g => {
  const [a, b, alpha] = [g.input(0), g.input(1), g.number('alpha')];
  const [transA, transB] = [g.flag('transA'), g.flag('transB')];
  const product = (left: number, transLeft: boolean, right: number, transRight: boolean): number =>
    g.op('Gemm', [left, right], { alpha, transA: Number(transLeft), transB: Number(transRight) });
  return [
    g.needs(0) ? (transA ? product(b, transB, g.dy, true) : product(g.dy, false, b, !transB)) : undefined,
    g.needs(1) ? (transB ? product(g.dy, true, a, transA) : product(a, !transA, g.dy, false)) : undefined,
    g.needs(2) ? g.reduceTo(g.scale(g.dy, g.number('beta')), g.input(2)) : undefined,
  ];
};

/** The rules of this file. */
export const MATMUL: Readonly<Record<string, GradientRule>> = { MatMul: matmul, Gemm: gemm };
