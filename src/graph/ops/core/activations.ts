/**
 * Activations as functions of one number, for all operators that apply one: on their own, after a product, in a recurrent cell.
 * @module
 */

/** A function of one number, in double precision. NaN gives NaN. */
export type Activation = (x: number) => number;

export const sigmoid: Activation = x => 1 / (1 + Math.exp(-x));

/** log(1 + e^x), which does not overflow. */
export const softplus: Activation = x => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

export const softsign: Activation = x => x / (1 + Math.abs(x));

/** Keeps -0, which is not below 0. */
export const relu: Activation = x => (x < 0 ? 0 : x);

export const hardSwish: Activation = x => x * Math.max(0, Math.min(1, x / 6 + 0.5));

export const mish: Activation = x => x * Math.tanh(softplus(x));

/** x times the distribution function of the standard normal. */
export const gelu: Activation = x => 0.5 * x * (1 + erf(x / Math.SQRT2));

/** {@link gelu} by its approximation with tanh. */
export const geluTanh: Activation = x => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

export function leakyRelu(alpha: number): Activation {
  return x => (x < 0 ? alpha * x : x);
}

/** `gamma * x`, left of 0 `gamma * alpha * (e^x - 1)`: Elu where gamma is 1, Selu elsewhere. */
export function elu(alpha: number, gamma = 1): Activation {
  return x => gamma * (x < 0 ? alpha * Math.expm1(x) : x);
}

export function celu(alpha: number): Activation {
  return x => Math.max(0, x) + Math.min(0, alpha * Math.expm1(x / alpha));
}

export function hardSigmoid(alpha: number, beta: number): Activation {
  return x => Math.max(0, Math.min(1, alpha * x + beta));
}

export function thresholdedRelu(alpha: number): Activation {
  return x => (x > alpha ? x : 0);
}

export function swish(alpha: number): Activation {
  return x => x * sigmoid(alpha * x);
}

/** The upper bound is applied last, so that it wins where the bounds cross. */
export function clip(low: number, high: number): Activation {
  return x => Math.min(Math.max(x, low), high);
}

/** 2 / sqrt(pi). */
const TWO_OVER_SQRT_PI = 1.1283791670955126;

/**
 * The error function, to about 1e-15. Below 3 its series in positive terms (Abramowitz & Stegun 7.1.6), from there the continued
 * fraction of the complement (7.1.14); from 6 on it is 1 in double precision.
 */
export function erf(x: number): number {
  const size = Math.abs(x);
  if (Number.isNaN(x)) return x;
  if (size >= 6) return Math.sign(x);
  if (size < 3) {
    let term = x;
    let sum = x;
    for (let n = 1; Math.abs(term) > Math.abs(sum) * 1e-17; n++) {
      term *= (2 * x * x) / (2 * n + 1);
      sum += term;
    }
    return TWO_OVER_SQRT_PI * Math.exp(-x * x) * sum;
  }
  let tail = size;
  for (let n = 60; n >= 1; n--) tail = size + n / 2 / tail;
  return Math.sign(x) * (1 - Math.exp(-x * x) / (tail * Math.sqrt(Math.PI)));
}
