import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { forceIsa, type GemmShape, kernelInfo, loadNative, type NativeAddon, type Window } from '../../native/index.ts';
import * as oracle from './kernels-oracle.ts';
import { firstBeyond, floats, gamma, U } from './kernels-oracle.ts';

const rows = kernelInfo()?.supported ?? [];

// Every product and sum may underflow by half the smallest float, whatever the relative bound says.
const TINY = 2 ** -149;

test('an element that is off by a little more than the bound is found', () => {
  const shape = { m: 3, n: 5, k: 7, lda: 7, ldb: 5, ldc: 5, transposeA: false, transposeB: false };
  const exact = oracle.gemm(shape, floats(21, 1), floats(35, 2), new Float32Array(15));
  const bound = (i: number): number => gamma(7) * exact.magnitude[i]!;
  expect(firstBeyond(exact.value, exact.value, bound)).toBeUndefined();
  const off = exact.value.map((v, i) => (i === 11 ? v + 1.01 * bound(i) : v));
  expect(firstBeyond(off, exact.value, bound)).toMatch(/^element 11 /);
  expect(
    firstBeyond(
      exact.value.map((v, i) => (i === 4 ? Number.NaN : v)),
      exact.value,
      bound,
    ),
  ).toMatch(/^element 4 /);
});

describe.skipIf(rows.length === 0)('kernels', () => {
  describe.each(rows)('%s', isa => {
    const native = loadNative() as NativeAddon;
    beforeAll(() => forceIsa(isa));
    afterAll(() => forceIsa(null));

    const size = (most: number): fc.Arbitrary<number> =>
      fc.oneof(
        fc.integer({ min: 1, max: most }),
        fc.constantFrom(...[1, 2, 3, 5, 6, 7, 8, 12, 13, 14, 15, 16, 17, 31, 32, 33].filter(v => v <= most)),
      );
    const seed = fc.integer({ min: 0, max: 2 ** 32 - 1 });

    describe('gemm', () => {
      function checkGemm(shape: Required<GemmShape>, hash: number, withBias: boolean, skew: number): void {
        const { m, n, k, lda, ldb, ldc, transposeA, transposeB } = shape;
        const a = floats(transposeA ? (k - 1) * lda + m : (m - 1) * lda + k, hash, skew);
        const b = floats(transposeB ? (n - 1) * ldb + k : (k - 1) * ldb + n, hash + 1, skew);
        const c = floats((m - 1) * ldc + n, hash + 2, skew);
        const bias = withBias ? floats(n, hash + 3, skew) : undefined;
        const exact = oracle.gemm(shape, a, b, c, bias);
        const relu = { ...(bias && { bias }), activation: 'relu' } as const;
        const got = c.slice();
        native.gemm(shape, a, b, got, bias && { bias });
        // Between rows of C nothing is written; there the magnitude is 0 and so is the bound, but for TINY.
        const bound = (i: number): number => gamma(k + 1) * exact.magnitude[i]! + (k + 1) * TINY;
        expect(firstBeyond(got, exact.value, bound)).toBeUndefined();
        const rectified = c.slice();
        native.gemm(shape, a, b, rectified, relu);
        for (let i = 0; i < m; i++) {
          for (let j = 0; j < n; j++) expect(rectified[i * ldc + j]).toBe(Math.max(got[i * ldc + j]!, 0));
        }
      }

      test('is within the bound of a sum of k products, for any shape, stride, transposition and alignment', () => {
        fc.assert(
          fc.property(
            size(70),
            size(110),
            size(90),
            fc.nat(5),
            fc.nat(5),
            fc.nat(5),
            fc.boolean(),
            fc.boolean(),
            seed,
            fc.boolean(),
            fc.nat(3),
            (m, n, k, padA, padB, padC, transposeA, transposeB, hash, withBias, skew) => {
              const lda = (transposeA ? m : k) + padA;
              const ldb = (transposeB ? k : n) + padB;
              checkGemm({ m, n, k, lda, ldb, ldc: n + padC, transposeA, transposeB }, hash, withBias, skew);
            },
          ),
          { numRuns: 120 },
        );
      });

      // Past one slice of k, one block of rows, one panel; a single row; a single column.
      test.each([
        [230, 40, 800],
        [15, 129, 385],
        [300, 130, 390],
        [1, 100, 1000],
        [2, 33, 769],
        [3, 64, 500],
        [97, 1, 513],
        [227, 97, 384],
        [14, 97, 768],
      ])('crosses its blocks at %i x %i x %i', (m, n, k) => {
        for (const transpose of [false, true]) {
          const lds = { lda: transpose ? m : k, ldb: transpose ? k : n, ldc: n };
          checkGemm({ m, n, k, ...lds, transposeA: transpose, transposeB: transpose }, m * n + k, true, 1);
        }
      });

      test('packs rows that start at the same place of their pages', () => {
        checkGemm(
          { m: 31, n: 130, k: 390, lda: 1024, ldb: 130, ldc: 131, transposeA: false, transposeB: false },
          5,
          true,
          0,
        );
      });

      test('serves many products from one packed operand', () => {
        const [n, k] = [37, 53];
        const b = floats(n * k, 7);
        const packed = native.packGemm({ n, k }, b);
        for (const m of [1, 6, 29]) {
          const a = floats(m * k, m);
          const [once, twice] = [new Float32Array(m * n), new Float32Array(m * n)];
          native.gemm({ m, n, k }, a, b, once);
          native.gemmPacked({ m, n, k }, a, packed, twice);
          expect(twice).toEqual(once);
        }
      });

      test('carries NaN and infinity into the rows and columns they belong to, and nowhere else', () => {
        const [m, n, k] = [19, 45, 21];
        const [a, b, c] = [floats(m * k, 1), floats(k * n, 2), new Float32Array(m * n)];
        a[3 * k + 5] = Number.NaN;
        b[7 * n + 40] = Number.POSITIVE_INFINITY;
        native.gemm({ m, n, k }, a, b, c, { activation: 'clip', lo: -2, hi: 2 });
        for (let i = 0; i < m; i++) {
          for (let j = 0; j < n; j++) {
            if (i === 3) expect(c[i * n + j]).toBeNaN();
            else if (j === 40) expect(Math.abs(c[i * n + j]!)).toBe(2);
            else expect(Math.abs(c[i * n + j]!)).toBeLessThanOrEqual(2);
          }
        }
      });
    });

    const windows = (pooling: boolean): fc.Arbitrary<Required<Window>> =>
      fc
        .record({
          batch: fc.integer({ min: 1, max: 2 }),
          groups: pooling ? fc.constant(1) : fc.integer({ min: 1, max: 3 }),
          inPer: fc.integer({ min: 1, max: 5 }),
          outPer: size(19),
          inH: size(20),
          inW: size(40),
          kernelH: fc.integer({ min: 1, max: 5 }),
          kernelW: fc.integer({ min: 1, max: 5 }),
          strideH: fc.integer({ min: 1, max: 4 }),
          strideW: fc.integer({ min: 1, max: 4 }),
          dilationH: fc.integer({ min: 1, max: 3 }),
          dilationW: fc.integer({ min: 1, max: 3 }),
          padTop: fc.nat(3),
          padLeft: fc.nat(3),
          padBottom: fc.nat(3),
          padRight: fc.nat(3),
        })
        .map(({ inPer, outPer, padBottom, padRight, ...w }) => {
          const out = (
            size: number,
            before: number,
            after: number,
            kernel: number,
            stride: number,
            dilation: number,
          ): number => Math.floor((size + before + after - (kernel - 1) * dilation - 1) / stride) + 1;
          return {
            ...w,
            inC: w.groups * inPer,
            outC: pooling ? inPer : w.groups * outPer,
            outH: out(w.inH, w.padTop, padBottom, w.kernelH, w.strideH, w.dilationH),
            outW: out(w.inW, w.padLeft, padRight, w.kernelW, w.strideW, w.dilationW),
          };
        })
        .filter(w => w.outH >= 1 && w.outW >= 1);

    function checkConv(w: Required<Window>, hash: number, skew: number): void {
      const perGroup = (w.inC / w.groups) * w.kernelH * w.kernelW;
      const x = floats(w.batch * w.inC * w.inH * w.inW, hash, skew);
      const weights = floats(w.outC * perGroup, hash + 1, skew);
      const bias = floats(w.outC, hash + 2, skew);
      const exact = oracle.conv(w, x, weights, bias);
      const bound = (i: number): number => gamma(perGroup + 1) * exact.magnitude[i]! + (perGroup + 1) * TINY;
      const y = floats(exact.value.length, 1, skew);
      native.conv(w, x, weights, y, { bias });
      expect(firstBeyond(y, exact.value, bound)).toBeUndefined();
      const clipped = new Float32Array(y.length);
      native.conv(w, x, weights, clipped, { bias, activation: 'clip', lo: -0.25, hi: 0.5 });
      expect(clipped).toEqual(y.map(v => Math.min(Math.max(v, -0.25), 0.5)));
    }

    describe('conv', () => {
      test('is within the bound of a sum of its taps, for any window, group and alignment', () => {
        fc.assert(fc.property(windows(false), seed, fc.nat(3), checkConv), { numRuns: 150 });
      });

      const base = { batch: 1, strideH: 1, strideW: 1, dilationH: 1, dilationW: 1, padTop: 0, padLeft: 0, groups: 1 };
      test.each<[string, Required<Window>]>([
        [
          '5x5, 1 -> 8, 28x28, padded',
          {
            ...base,
            inC: 1,
            inH: 28,
            inW: 28,
            outC: 8,
            outH: 28,
            outW: 28,
            kernelH: 5,
            kernelW: 5,
            padTop: 2,
            padLeft: 2,
          },
        ],
        [
          '5x5, 8 -> 16, 14x14, padded',
          {
            ...base,
            inC: 8,
            inH: 14,
            inW: 14,
            outC: 16,
            outH: 14,
            outW: 14,
            kernelH: 5,
            kernelW: 5,
            padTop: 2,
            padLeft: 2,
          },
        ],
        [
          '5x5, 10 -> 20, narrow',
          { ...base, inC: 10, inH: 12, inW: 12, outC: 20, outH: 8, outW: 8, kernelH: 5, kernelW: 5 },
        ],
        [
          'vectors across row ends, in place',
          { ...base, inC: 4, inH: 9, inW: 28, outC: 10, outH: 5, outW: 24, kernelH: 5, kernelW: 5 },
        ],
        [
          'vectors across row ends, padded',
          {
            ...base,
            inC: 20,
            inH: 7,
            inW: 7,
            outC: 24,
            outH: 7,
            outW: 7,
            kernelH: 3,
            kernelW: 3,
            padTop: 1,
            padLeft: 1,
          },
        ],
        [
          'a stride over the whole input',
          {
            ...base,
            inC: 3,
            inH: 4,
            inW: 9,
            outC: 5,
            outH: 1,
            outW: 1,
            kernelH: 3,
            kernelW: 4,
            strideH: 90_000,
            strideW: 90_000,
          },
        ],
        [
          '1x1, 24 -> 40, 9x11',
          { ...base, inC: 24, inH: 9, inW: 11, outC: 40, outH: 9, outW: 11, kernelH: 1, kernelW: 1 },
        ],
        ['1x1 on one pixel', { ...base, inC: 24, inH: 1, inW: 1, outC: 17, outH: 1, outW: 1, kernelH: 1, kernelW: 1 }],
        [
          '7x7 at stride 2',
          {
            ...base,
            inC: 3,
            inH: 37,
            inW: 45,
            outC: 9,
            outH: 19,
            outW: 23,
            kernelH: 7,
            kernelW: 7,
            strideH: 2,
            strideW: 2,
            padTop: 3,
            padLeft: 3,
          },
        ],
        [
          'depthwise 3x3',
          {
            ...base,
            batch: 2,
            inC: 7,
            inH: 18,
            inW: 35,
            outC: 7,
            outH: 18,
            outW: 35,
            kernelH: 3,
            kernelW: 3,
            padTop: 1,
            padLeft: 1,
            groups: 7,
          },
        ],
        ['one dimension', { ...base, inC: 5, inH: 1, inW: 200, outC: 6, outH: 1, outW: 196, kernelH: 1, kernelW: 5 }],
        [
          'more weights than input',
          {
            ...base,
            inC: 40,
            inH: 5,
            inW: 20,
            outC: 50,
            outH: 5,
            outW: 20,
            kernelH: 3,
            kernelW: 3,
            padTop: 1,
            padLeft: 1,
          },
        ],
      ])('takes every path: %s', (_, w) => {
        checkConv(w, 11, 0);
        checkConv(w, 12, 1);
      });

      test('an infinite pixel reaches only the outputs whose window holds it', () => {
        const w = {
          ...base,
          inC: 1,
          inH: 9,
          inW: 30,
          outC: 3,
          outH: 9,
          outW: 30,
          kernelH: 3,
          kernelW: 3,
          padTop: 1,
          padLeft: 1,
        };
        const x = floats(9 * 30, 3);
        x[4 * 30 + 15] = Number.POSITIVE_INFINITY;
        const y = new Float32Array(3 * 9 * 30);
        native.conv(w, x, floats(27, 4), y);
        y.forEach((v, i) => {
          const [oh, ow] = [Math.floor((i % 270) / 30), i % 30];
          expect(Number.isFinite(v)).toBe(Math.abs(oh - 4) > 1 || Math.abs(ow - 15) > 1);
        });
      });
    });

    describe('pool', () => {
      test.each(['max', 'average', 'averageIncludePad'] as const)('%s agrees with its definition', op => {
        fc.assert(
          fc.property(windows(true), seed, fc.nat(3), (w, hash, skew) => {
            const x = floats(w.batch * w.inC * w.inH * w.inW, hash, skew);
            const exact = oracle.pool(op, w, x);
            const y = new Float32Array(exact.value.length);
            native.pool(op, w, x, y);
            const bound = (i: number): number =>
              op === 'max' ? 0 : gamma(w.kernelH * w.kernelW + 1) * exact.magnitude[i]! + TINY;
            expect(firstBeyond(y, exact.value, bound)).toBeUndefined();
          }),
          { numRuns: 100 },
        );
      });

      test('takes kernels and rows that are wider than its buffer', () => {
        const base = { batch: 1, strideH: 1, strideW: 1, dilationH: 1, dilationW: 1, padTop: 0, padLeft: 0, groups: 1 };
        for (const [inW, kernelW, strideW, padLeft] of [
          [3000, 3, 1, 1],
          [3000, 3, 2, 0],
          [4000, 1500, 100, 700],
          [2500, 1, 1100, 0],
        ] as const) {
          const outW = Math.floor((inW + 2 * padLeft - kernelW) / strideW) + 1;
          const w = { ...base, inC: 2, inH: 3, inW, outC: 2, outH: 2, outW, kernelH: 2, kernelW, strideW, padLeft };
          const x = floats(2 * 3 * inW, inW);
          for (const op of ['max', 'average'] as const) {
            const exact = oracle.pool(op, w, x);
            const y = new Float32Array(exact.value.length);
            native.pool(op, w, x, y);
            const bound = (i: number): number => (op === 'max' ? 0 : gamma(2 * kernelW + 1) * exact.magnitude[i]!);
            expect(firstBeyond(y, exact.value, bound)).toBeUndefined();
          }
        }
      });

      test('a NaN in a window is the maximum of it', () => {
        const w = {
          batch: 1,
          inC: 1,
          inH: 4,
          inW: 40,
          outC: 1,
          outH: 2,
          outW: 20,
          kernelH: 2,
          kernelW: 2,
          strideH: 2,
          strideW: 2,
        };
        for (const at of [0, 41, 38, 79, 121, 159]) {
          const x = floats(160, 9);
          x[at] = Number.NaN;
          const y = new Float32Array(40);
          native.pool('max', w, x, y);
          const hit = Math.floor(Math.floor(at / 40) / 2) * 20 + Math.floor((at % 40) / 2);
          y.forEach((v, i) => void expect(Number.isNaN(v)).toBe(i === hit));
        }
      });
    });

    // Strides of one operand: each dimension is walked densely or repeated, in this order or the other way round.
    const broadcasts = fc
      .array(fc.tuple(fc.integer({ min: 1, max: 9 }), fc.boolean(), fc.boolean()), { maxLength: 5 })
      .chain(axes =>
        fc.record({
          dims: fc.constant(axes.map(([size]) => size)),
          aRepeats: fc.constant(axes.map(([, repeats]) => repeats)),
          bRepeats: fc.constant(axes.map(([, , repeats]) => repeats)),
          turned: fc.boolean(),
        }),
      );
    function strides(
      dims: readonly number[],
      repeats: readonly boolean[],
      turned: boolean,
    ): { strides: number[]; reach: number } {
      const order = dims.map((_, d) => d);
      if (!turned) order.reverse();
      const result = dims.map(() => 0);
      let step = 1;
      for (const d of order) {
        if (repeats[d]) continue;
        result[d] = step;
        step *= dims[d]!;
      }
      return { strides: result, reach: step };
    }

    describe('binary', () => {
      test.each(['add', 'sub', 'mul', 'div', 'min', 'max', 'pow'] as const)(
        '%s is rounded once, for any broadcast',
        op => {
          fc.assert(
            fc.property(broadcasts, seed, ({ dims, aRepeats, bRepeats, turned }, hash) => {
              const a = strides(dims, aRepeats, turned);
              const b = strides(dims, bRepeats, false);
              const [x, z] = [floats(a.reach, hash), floats(b.reach, hash + 1)];
              const shape = { dims, aStrides: a.strides, bStrides: b.strides };
              const exact = oracle.binary(op, shape, x, z);
              const y = new Float32Array(exact.length);
              native.binary(op, shape, x, z, y);
              expect(firstBeyond(y, exact, i => (op === 'pow' ? 2 * U * Math.abs(exact[i]!) : 0))).toBeUndefined();
            }),
            { numRuns: 60 },
          );
        },
      );

      test.each(['add', 'sub', 'mul', 'div', 'min', 'max', 'pow'] as const)(
        '%s knows NaN, infinities and zeros',
        op => {
          const special = [Number.NaN, Infinity, -Infinity, 0, -0, 1, -1, 2.5, 1e-40, 3e38, -3e38];
          const shape = { dims: [special.length, special.length], aStrides: [1, 0], bStrides: [0, 1] };
          const operand = Float32Array.from(special);
          const exact = oracle.binary(op, shape, operand, operand);
          const y = new Float32Array(exact.length);
          native.binary(op, shape, operand, operand, y);
          // `===` and not Object.is: which zero min and max return is left open.
          exact.forEach(
            (want, i) =>
              void expect(
                Number.isNaN(want) ? Number.isNaN(y[i]) : y[i] === want,
                `${op} at ${i}: ${y[i]}, not ${want}`,
              ).toBe(true),
          );
        },
      );

      test('may overwrite either operand', () => {
        const shape = { dims: [3, 50], aStrides: [50, 1], bStrides: [0, 1] };
        const [a, b] = [floats(150, 1), floats(50, 2)];
        const want = oracle.binary('mul', shape, a, b);
        native.binary('mul', shape, a, b, a);
        expect(a).toEqual(want);
      });
    });

    describe('softmax', () => {
      test('of short rows is the same to the bit wherever a row stands', () => {
        for (const n of [1, 2, 3, 7, 8, 10, 16]) {
          const x = floats(37 * n, n, 1);
          const [whole, apart] = [new Float32Array(37 * n), new Float32Array(37 * n)];
          for (const log of [false, true]) {
            native.softmax({ outer: 37, n, inner: 1, log }, x, whole);
            for (let row = 0; row < 37; row++) {
              const part = (of: Float32Array): Float32Array => of.subarray(row * n, (row + 1) * n);
              native.softmax({ outer: 1, n, inner: 1, log }, part(x), part(apart));
            }
            expect(apart).toEqual(whole);
          }
        }
      });

      test.each([false, true])('is close to exact, with log %s', log => {
        fc.assert(
          fc.property(size(4), size(200), size(40), seed, fc.constantFrom(1, 30), (outer, n, inner, hash, spread) => {
            const x = floats(outer * n * inner, hash).map(v => v * spread);
            const exact = oracle.softmax(outer, n, inner, log, x);
            const y = new Float32Array(x.length);
            native.softmax({ outer, n, inner, log }, x, y);
            // x - top is off by 2 spread u at most, exp by 2 ulp, the sum by gamma(n); then one quotient.
            const relative = 2 * spread * U + 4 * U + gamma(n) + 2 * spread * U + 4 * U + 2 * U;
            const bound = (i: number): number =>
              log ? relative + 4 * U * Math.abs(exact[i]!) + 4 * U * Math.log(n) : relative * exact[i]! + TINY;
            expect(firstBeyond(y, exact, bound)).toBeUndefined();
            native.softmax({ outer, n, inner, log }, x, x);
            expect(x).toEqual(y);
          }),
          { numRuns: 60 },
        );
      });

      test('large logits neither overflow nor lose the others, and a NaN makes its row NaN alone', () => {
        const x = Float32Array.of(1e30, 1e30, -1e30, 1000, 1000, 1000, 1, Number.NaN, 2);
        const y = new Float32Array(9);
        native.softmax({ outer: 3, n: 3, inner: 1 }, x, y);
        expect([...y.subarray(0, 3)]).toEqual([0.5, 0.5, 0]);
        for (const v of y.subarray(3, 6)) expect(v).toBeCloseTo(1 / 3, 7);
        for (const v of y.subarray(6)) expect(v).toBeNaN();
      });
    });

    describe('reduce', () => {
      test.each(['sum', 'mean', 'max', 'min'] as const)('%s is within the bound of a blocked sum', op => {
        fc.assert(
          fc.property(
            size(4),
            fc.oneof(size(40), fc.integer({ min: 1, max: 3000 })),
            size(70),
            seed,
            (outer, n, inner, hash) => {
              const x = floats(outer * n * inner, hash);
              const exact = oracle.reduce(op, outer, n, inner, x);
              const y = new Float32Array(outer * inner);
              native.reduce(op, { outer, n, inner }, x, y);
              const terms = Math.min(n, 80 + n / 64);
              const bound = (i: number): number =>
                op === 'sum' || op === 'mean' ? gamma(terms + 1) * exact.magnitude[i]! + TINY : 0;
              expect(firstBeyond(y, exact.value, bound)).toBeUndefined();
            },
          ),
          { numRuns: 50 },
        );
      });

      test('a NaN is the maximum and the minimum', () => {
        for (const n of [1, 3, 17, 100, 1000]) {
          for (const at of [0, n >> 1, n - 1]) {
            const x = floats(n, n);
            x[at] = Number.NaN;
            for (const op of ['max', 'min', 'sum'] as const) {
              const y = new Float32Array(1);
              native.reduce(op, { outer: 1, n, inner: 1 }, x, y);
              expect(y[0]).toBeNaN();
            }
          }
        }
      });
    });

    describe('copy', () => {
      test.each([1, 2, 4, 8] as const)('moves elements of %i bytes as strides say', elementBytes => {
        fc.assert(
          fc.property(broadcasts, seed, fc.integer({ min: 0, max: 2 }), ({ dims, aRepeats, turned }, hash, gap) => {
            const { strides: walk, reach } = strides(dims, aRepeats, turned);
            const spread = walk.map(stride => stride * (gap + 1));
            const x = new Uint8Array(((reach - 1) * (gap + 1) + 1) * elementBytes).map(
              (_, i) => (i * 131 + hash) & 255,
            );
            const y = new Uint8Array(dims.reduce((product, d) => product * d, 1) * elementBytes);
            native.copy({ elementBytes, dims, strides: spread }, x, y);
            const want = [...oracle.indices(dims, spread)].flatMap(i => [
              ...x.subarray(i * elementBytes, (i + 1) * elementBytes),
            ]);
            expect([...y]).toEqual(want);
          }),
          { numRuns: 60 },
        );
      });

      test('transposes past one square', () => {
        const [rowCount, columnCount] = [37, 70];
        const x = floats(rowCount * columnCount, 5);
        const y = new Float32Array(x.length);
        const shape = { elementBytes: 4, dims: [columnCount, rowCount], strides: [1, columnCount] } as const;
        native.copy(shape, new Uint8Array(x.buffer), new Uint8Array(y.buffer));
        for (let r = 0; r < rowCount; r++)
          for (let c = 0; c < columnCount; c++) expect(y[c * rowCount + r]).toBe(x[r * columnCount + c]);
      });
    });
  });
});
