/**
 * The types of the methods that values and graphs have for the common operators. The methods themselves come from the operator
 * table; an operator that is not listed here has one too, by the same rule, or is applied with `op(name, …)`.
 * @module
 */
import type { DType } from '../../tensor/index.ts';
import type { Expr, NamedArguments, Operand } from './fluent.ts';

/** Operands, and further arguments by name at the end. */
export type Operands = readonly Operand[] | readonly [...Operand[], NamedArguments];

/** The methods of a value. Wherever a number or an array is an operand, it takes the dtype of the value beside it. */
export interface OperatorMethods {
  /** Sum, with broadcasting. */
  add(other: Operand): Expr;
  /** Difference, with broadcasting. */
  sub(other: Operand): Expr;
  /** Product of elements, with broadcasting. */
  mul(other: Operand): Expr;
  /** Quotient, with broadcasting. Of integers, truncated towards zero. */
  div(other: Operand): Expr;
  /** Power of elements, with broadcasting. */
  pow(exponent: Operand): Expr;
  /** Remainder with the sign of the divisor; with `fmod` 1, that of the dividend. */
  mod(other: Operand, fmod?: 0 | 1): Expr;
  /** Matrix product over the last two axes, with broadcasting over those before. */
  matmul(other: Operand): Expr;
  /** `alpha * this' * b' + beta * c`, where `'` is a transposition that `transA` and `transB` ask for. */
  gemm(b: Operand, c?: Operand, named?: NamedArguments): Expr;
  /** The sum described by `equation`, as in NumPy: `x.einsum(y, { equation: 'bij,bjk->bik' })`. */
  einsum(...operands: Operands): Expr;
  /** The largest of each place, over all operands. */
  max(...others: Operands): Expr;
  /** The smallest of each place, over all operands. */
  min(...others: Operands): Expr;
  /** The sum over all operands. */
  sum(...others: Operands): Expr;
  /** The mean over all operands. */
  mean(...others: Operands): Expr;

  /** The negative of each element. */
  neg(): Expr;
  /** The absolute value of each element. */
  abs(): Expr;
  /** `e` to the power of each element. */
  exp(): Expr;
  /** The natural logarithm of each element. */
  log(): Expr;
  /** The square root of each element. */
  sqrt(): Expr;
  /** `1 / x`. */
  reciprocal(): Expr;
  /** The largest integer that is not larger. */
  floor(): Expr;
  /** The smallest integer that is not smaller. */
  ceil(): Expr;
  /** The nearest integer; of two, the even one. */
  round(): Expr;
  /** -1, 0 or 1. */
  sign(): Expr;
  /** The error function. */
  erf(): Expr;
  /** The sine. */
  sin(): Expr;
  /** The cosine. */
  cos(): Expr;
  /** The hyperbolic tangent. */
  tanh(): Expr;
  /** Each element held between two bounds, either of which may be left out. */
  clip(min?: Operand, max?: Operand): Expr;

  /** `max(x, 0)`. */
  relu(): Expr;
  /** `x` where it is positive, `alpha * x` elsewhere. */
  leakyRelu(alpha?: number): Expr;
  /** `x` where it is positive, `slope * x` elsewhere. */
  prelu(slope: Operand): Expr;
  /** `x` where it is positive, `alpha * (exp(x) - 1)` elsewhere. */
  elu(alpha?: number): Expr;
  /** The scaled exponential linear unit. */
  selu(): Expr;
  /** `x` times the normal distribution function of `x`, exactly or by `tanh`. Needs opset 20. */
  gelu(approximate?: 'none' | 'tanh'): Expr;
  /** `1 / (1 + exp(-x))`. */
  sigmoid(): Expr;
  /** `max(0, min(1, alpha * x + beta))`. */
  hardSigmoid(alpha?: number, beta?: number): Expr;
  /** `x * hardSigmoid(x)`. Needs opset 14. */
  hardSwish(): Expr;
  /** `log(1 + exp(x))`. */
  softplus(): Expr;
  /** `x * tanh(softplus(x))`. Needs opset 18. */
  mish(): Expr;
  /** Exponentials along `axis`, divided by their sum. */
  softmax(axis?: number): Expr;
  /** The logarithm of {@link softmax}. */
  logSoftmax(axis?: number): Expr;

  /** Truth values: equal. */
  equal(other: Operand): Expr;
  /** Truth values: smaller. */
  less(other: Operand): Expr;
  /** Truth values: smaller or equal. Needs opset 12. */
  lessOrEqual(other: Operand): Expr;
  /** Truth values: larger. */
  greater(other: Operand): Expr;
  /** Truth values: larger or equal. Needs opset 12. */
  greaterOrEqual(other: Operand): Expr;
  /** Both true. */
  and(other: Operand): Expr;
  /** Either true. */
  or(other: Operand): Expr;
  /** Exactly one true. */
  xor(other: Operand): Expr;
  /** The other truth value. */
  not(): Expr;
  /** Where this is true, `x`, elsewhere `y`, with broadcasting. */
  where(x: Operand, y: Operand): Expr;
  /** Whether an element is not a number. */
  isNaN(): Expr;

  /** The sum along `axes`, or of everything; `{ keepdims: 0 }` drops the axes. */
  reduceSum(axes?: number | readonly number[], named?: NamedArguments): Expr;
  /** The mean along `axes`, or of everything. */
  reduceMean(axes?: number | readonly number[], named?: NamedArguments): Expr;
  /** The largest along `axes`, or of everything. */
  reduceMax(axes?: number | readonly number[], named?: NamedArguments): Expr;
  /** The smallest along `axes`, or of everything. */
  reduceMin(axes?: number | readonly number[], named?: NamedArguments): Expr;
  /** The product along `axes`, or of everything. */
  reduceProd(axes?: number | readonly number[], named?: NamedArguments): Expr;
  /** The Euclidean norm along `axes`, or of everything. */
  reduceL2(axes?: number | readonly number[], named?: NamedArguments): Expr;
  /** `log(sum(exp(x)))` along `axes`, or of everything. */
  reduceLogSumExp(axes?: number | readonly number[], named?: NamedArguments): Expr;
  /** The place of the largest along `axis`. */
  argMax(axis?: number, named?: NamedArguments): Expr;
  /** The place of the smallest along `axis`. */
  argMin(axis?: number, named?: NamedArguments): Expr;
  /** The `k` largest along the last axis or `{ axis }`, and their places. */
  topK(k: number | Operand, named?: NamedArguments): readonly [values: Expr, indices: Expr];
  /** Running sums along `axis`. */
  cumSum(axis: number | Operand, named?: NamedArguments): Expr;

  /** The same elements in another shape: one size may be -1, and 0 keeps the size that is there. */
  reshape(shape: readonly number[] | Operand, named?: NamedArguments): Expr;
  /** All axes before `axis` as one, and all from it on as another. */
  flatten(axis?: number): Expr;
  /** The axes in another order; reversed where none is given. */
  transpose(perm?: readonly number[]): Expr;
  /** Without the axes of size 1 that are named, or without any. */
  squeeze(axes?: number | readonly number[]): Expr;
  /** With new axes of size 1 at these places of the result. */
  unsqueeze(axes: number | readonly number[]): Expr;
  /** Broadcast to `shape`. */
  expand(shape: readonly number[] | Operand): Expr;
  /** Repeated along each axis. */
  tile(repeats: readonly number[] | Operand): Expr;
  /** Joined with `others` along an axis: `x.concat(y, z, { axis: 1 })`. */
  concat(...others: Operands): Expr;
  /** Cut along `{ axis }` into parts of these sizes; `outputs` says how many. */
  split(sizes: readonly number[] | Operand, named: NamedArguments & { readonly outputs: number }): readonly Expr[];
  /** Ranges along axes; {@link Expr} has `at` for subscripts as Python has them. */
  slice(
    starts: readonly number[] | Operand,
    ends: readonly number[] | Operand,
    axes?: readonly number[] | Operand,
    steps?: readonly number[] | Operand,
  ): Expr;
  /** The places `indices` along `{ axis }`. */
  gather(indices: Operand, named?: NamedArguments): Expr;
  /** With a margin: sizes before every axis, then sizes after every axis. */
  pad(pads: readonly number[] | Operand, value?: Operand, named?: NamedArguments): Expr;
  /** As another dtype. */
  cast(to: DType): Expr;
  /** As the dtype of another value. Needs opset 15. */
  castLike(other: Operand): Expr;

  /** Convolution of (N, C, …) with filters (M, C/group, …). */
  conv(filters: Operand, bias?: Operand, named?: NamedArguments): Expr;
  /** The transpose of a convolution. */
  convTranspose(filters: Operand, bias?: Operand, named?: NamedArguments): Expr;
  /** The largest in each window. */
  maxPool(kernelShape: readonly number[], named?: NamedArguments): Expr;
  /** The mean of each window. */
  averagePool(kernelShape: readonly number[], named?: NamedArguments): Expr;
  /** The mean over all spatial axes. */
  globalAveragePool(): Expr;
  /** The largest over all spatial axes. */
  globalMaxPool(): Expr;
  /** Normalisation by given statistics of each channel. */
  batchNormalization(scale: Operand, bias: Operand, mean: Operand, variance: Operand, named?: NamedArguments): Expr;
  /** Normalisation over the axes from `{ axis }` on. Needs opset 17. */
  layerNormalization(scale: Operand, bias?: Operand, named?: NamedArguments): Expr;
  /** Normalisation by the root mean square. Needs opset 23. */
  rmsNormalization(scale: Operand, named?: NamedArguments): Expr;
  /** The same value. */
  identity(): Expr;
}

/** The same operators as functions of a graph: `g.matmul(x, w)` is `x.matmul(w)`, and `x` may be a constant. */
export type GraphFunctions = {
  readonly [K in keyof OperatorMethods]: (
    x: Operand,
    ...args: Parameters<OperatorMethods[K]>
  ) => ReturnType<OperatorMethods[K]>;
};
