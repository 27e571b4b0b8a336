import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { forceIsa, kernelInfo, loadNative, type NativeAddon, type UnaryOp } from '../../native/index.ts';
import { erf, erfc } from './kernels-oracle.ts';

const rows = kernelInfo()?.supported ?? [];

/** A function, its exact value, and the parameters that it takes. */
interface Elementary {
  readonly exact: (x: number) => number;
  readonly p0?: number;
  readonly p1?: number;
}

const [ALPHA, GAMMA, STEEP] = [1.6732632, 1.050701, 1.702].map(Math.fround) as [number, number, number];
const swish = (x: number, a: number): number => x / (1 + Math.exp(-a * x));
/** tanh(ln(1 + e^x)), of e^x or e^-x, whichever is below 1. */
const squash = (x: number): number => {
  const t = Math.exp(-Math.abs(x));
  return x < 0 ? (t * (t + 2)) / (2 + t * (t + 2)) : (1 + 2 * t) / (1 + 2 * t + 2 * t * t);
};

const ELEMENTARY: readonly (readonly [UnaryOp, Elementary])[] = [
  ['exp', { exact: Math.exp }],
  ['log', { exact: Math.log }],
  ['tanh', { exact: Math.tanh }],
  ['sigmoid', { exact: x => 1 / (1 + Math.exp(-x)) }],
  ['erf', { exact: erf }],
  ['gelu', { exact: x => (x / 2) * erfc(-x / Math.SQRT2) }],
  ['geluTanh', { exact: x => swish(x, Math.sqrt(8 / Math.PI) * (1 + 0.044715 * x * x)) }],
  ['swish', { exact: x => swish(x, 1), p0: 1 }],
  ['swish', { exact: x => swish(x, STEEP), p0: STEEP }],
  ['swish', { exact: x => swish(x, -0.5), p0: -0.5 }],
  ['softplus', { exact: x => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))) }],
  ['elu', { exact: x => (x < 0 ? Math.expm1(x) : x), p0: 1, p1: 1 }],
  ['elu', { exact: x => GAMMA * (x < 0 ? ALPHA * Math.expm1(x) : x), p0: ALPHA, p1: GAMMA }],
  ['mish', { exact: x => x * squash(x) }],
];

/** One unit in the last place of a float32 near `x`; below the normal range, the smallest float. */
function ulp(x: number): number {
  const size = Math.abs(x);
  if (size < 2 ** -126) return 2 ** -149;
  return 2 ** (Math.min(Math.floor(Math.log2(size)), 127) - 23);
}

/** Floats from every binade, both signs, NaN and infinities among them: every `step`-th bit pattern. */
function patterns(step: number): Float32Array {
  const count = Math.floor(2 ** 32 / step);
  const bits = Uint32Array.from({ length: count }, (_, i) => i * step);
  return new Float32Array(bits.buffer);
}

const SPECIAL = Float32Array.of(
  ...[
    0,
    1,
    0.625,
    0.925,
    4,
    88.72283,
    88.72284,
    87.33654,
    103.97207,
    103.97208,
    1e-45,
    1.17549435e-38,
    1e-38,
    3.4028235e38,
    Infinity,
  ],
  ...[Math.SQRT2, Math.SQRT1_2, 0.99999994, 1.0000001],
);
const EDGES = Float32Array.from([...SPECIAL, ...SPECIAL.map(v => -v), Number.NaN]);

describe.skipIf(rows.length === 0)('elementary functions', () => {
  describe.each(rows)('%s', isa => {
    const native = loadNative() as NativeAddon;
    beforeAll(() => forceIsa(isa));
    afterAll(() => forceIsa(null));

    test.each(ELEMENTARY)('%s is within 2 ulp of the exact value: %o', (op, { exact, p0, p1 }) => {
      // Every 10,007th float, and 200,000 where the interesting ones are.
      const near = Float32Array.from({ length: 200_000 }, (_, i) => (i - 100_000) * 1.0007e-4);
      for (const x of [EDGES, patterns(10_007), near]) {
        const y = new Float32Array(x.length);
        native.unary(op, x, y, p0, p1);
        let [worst, at] = [0, 0];
        for (let i = 0; i < x.length; i++) {
          const want = exact(x[i]!);
          const rounded = Math.fround(want);
          // NaN for NaN, infinity where the exact value rounds to it, and the sign of a zero.
          const singular = Number.isNaN(rounded) || !Number.isFinite(rounded) || (rounded === 0 && y[i] === 0);
          let off = Math.abs(y[i]! - want) / ulp(want);
          if (singular) off = Object.is(y[i], rounded) ? 0 : Infinity;
          // The limit where the formula has 0 * infinity: kernels.h leaves open which of both it is.
          if (Number.isNaN(rounded) && !Number.isNaN(x[i]) && y[i] === 0) off = 0;
          if (!(off <= worst)) {
            worst = off;
            at = i;
          }
        }
        expect(worst, `${op}(${x[at]}) is ${y[at]}, exactly ${exact(x[at]!)}`).toBeLessThanOrEqual(2);
      }
    });

    test.each<[UnaryOp, (x: number) => number]>([
      ['relu', x => (x < 0 ? 0 : x)],
      ['neg', x => -x],
      ['abs', Math.abs],
      ['sqrt', Math.sqrt],
      ['floor', Math.floor],
      ['ceil', Math.ceil],
      ['reciprocal', x => 1 / x],
      ['clip', x => (x < -1.5 ? -1.5 : x > 2 ? 2 : x)],
      ['leakyRelu', x => (x < 0 ? Math.fround(-1.5) * x : x)],
    ])('%s is rounded once', (op, exact) => {
      for (const x of [EDGES, patterns(40_009)]) {
        const y = new Float32Array(x.length);
        native.unary(op, x, y, -1.5, 2);
        x.forEach((v, i) => {
          const want = Math.fround(exact(v));
          if (!(Number.isNaN(want) ? Number.isNaN(y[i]) : y[i] === want))
            throw new Error(`${op}(${v}) is ${y[i]}, not ${want}`);
        });
      }
    });

    test('any length and alignment gives what one long call gives, and the operand may be overwritten', () => {
      const x = Float32Array.from({ length: 103 }, (_, i) => Math.sin(i) * 4);
      const whole = new Float32Array(103);
      native.unary('tanh', x, whole);
      for (let start = 0; start < 5; start++) {
        for (let length = 1; length < 70; length++) {
          const part = new Float32Array(length + start).subarray(start);
          part.set(x.subarray(start, start + length));
          native.unary('tanh', part, part);
          expect(part).toEqual(whole.subarray(start, start + length));
        }
      }
    });
  });
});
