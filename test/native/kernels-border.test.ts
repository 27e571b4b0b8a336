import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { forceIsa, kernelInfo, loadNative, type NativeAddon } from '../../native/index.ts';
import { isCloisterError } from '../../src/base/index.ts';

const native = loadNative() as NativeAddon;

const f = (count: number): Float32Array => new Float32Array(count);

/** Asserts that `call` is refused with a message that fits. */
function refuses(call: () => void, message: RegExp): void {
  let caught: unknown;
  try {
    call();
  } catch (error) {
    caught = error;
  }
  expect(isCloisterError(caught, 'INVALID_ARGUMENT'), String(caught)).toBe(true);
  expect(String(caught)).toMatch(message);
}

const window = {
  batch: 1,
  inC: 2,
  inH: 4,
  inW: 4,
  outC: 2,
  outH: 4,
  outW: 4,
  kernelH: 3,
  kernelW: 3,
  padTop: 1,
  padLeft: 1,
};

describe.skipIf(loadNative() === undefined)('the border of the addon', () => {
  test('gemm refuses sizes that are not positive integers', () => {
    for (const bad of [0, -1, 1.5, Number.NaN, Infinity, 2 ** 31, 2 ** 53]) {
      refuses(() => native.gemm({ m: bad, n: 1, k: 1 }, f(1), f(1), f(1)), /m must be an integer/);
      refuses(() => native.gemm({ m: 1, n: bad, k: 1 }, f(1), f(1), f(1)), /n must be an integer/);
      refuses(() => native.gemm({ m: 1, n: 1, k: bad }, f(1), f(1), f(1)), /k must be an integer/);
    }
    refuses(() => native.gemm({ m: '2' as unknown as number, n: 1, k: 1 }, f(2), f(1), f(2)), /m must be an integer/);
  });

  test('gemm refuses leading dimensions under the row, and arrays that are too short', () => {
    const shape = { m: 3, n: 5, k: 4 };
    refuses(() => native.gemm({ ...shape, lda: 3 }, f(12), f(20), f(15)), /lda must be at least k/);
    refuses(() => native.gemm({ ...shape, lda: 2, transposeA: true }, f(12), f(20), f(15)), /lda must be at least m/);
    refuses(() => native.gemm({ ...shape, ldb: 4 }, f(12), f(20), f(15)), /ldb must be at least n/);
    refuses(() => native.gemm({ ...shape, ldc: 4 }, f(12), f(20), f(15)), /ldc must be at least n/);
    refuses(() => native.gemm(shape, f(11), f(20), f(15)), /a must hold at least 12 elements, it holds 11/);
    refuses(() => native.gemm(shape, f(12), f(19), f(15)), /b must hold at least 20/);
    refuses(() => native.gemm(shape, f(12), f(20), f(14)), /c must hold 15/);
    refuses(() => native.gemm({ ...shape, ldc: 7 }, f(12), f(20), f(18)), /c must hold 19/);
    refuses(() => native.gemm(shape, f(12), f(20), f(15), { bias: f(4) }), /bias must hold 5/);
    refuses(() => native.gemmPacked(shape, f(12), f(20), f(15)), /packed must hold/);
  });

  test('arrays of another type, detached ones, and overlapping outputs are refused', () => {
    const shape = { m: 1, n: 1, k: 1 };
    refuses(
      () => native.gemm(shape, new Float64Array(1) as unknown as Float32Array, f(1), f(1)),
      /a must be a Float32Array/,
    );
    refuses(() => native.gemm(shape, undefined as unknown as Float32Array, f(1), f(1)), /a must be a Float32Array/);
    const gone = f(4);
    structuredClone(gone.buffer, { transfer: [gone.buffer as ArrayBuffer] });
    refuses(() => native.gemm({ m: 2, n: 2, k: 2 }, gone, f(4), f(4)), /a must hold at least 4 elements, it holds 0/);
    const shared = f(10);
    refuses(
      () => native.gemm({ m: 2, n: 2, k: 2 }, shared.subarray(0, 4), f(4), shared.subarray(3, 7)),
      /c must not overlap/,
    );
    refuses(() => native.unary('exp', shared.subarray(0, 9), shared.subarray(1)), /y must not overlap/);
    refuses(
      () => native.reduce('sum', { outer: 1, n: 5, inner: 2 }, shared, shared.subarray(0, 2)),
      /y must not overlap/,
    );
    const strided = { dims: [2, 5], aStrides: [1, 2], bStrides: [0, 0] };
    refuses(() => native.binary('add', strided, shared, f(1), shared), /y must not overlap/);
  });

  test('an array over shared memory is served like any other', () => {
    const x = new Float32Array(new SharedArrayBuffer(16));
    x.set([-1, 2, -3, 4]);
    native.unary('relu', x, x);
    expect([...x]).toEqual([0, 2, 0, 4]);
  });

  test('windows are refused when their parts do not fit together', () => {
    const good = { x: f(32), w: f(36), y: f(32) };
    native.conv(window, good.x, good.w, good.y);
    refuses(() => native.conv({ ...window, groups: 3 }, good.x, good.w, good.y), /groups must divide/);
    refuses(() => native.conv({ ...window, strideW: 0 }, good.x, good.w, good.y), /strideW must be an integer from 1/);
    refuses(() => native.conv({ ...window, padTop: -1 }, good.x, good.w, good.y), /padTop must be an integer from 0/);
    refuses(() => native.conv(window, f(31), good.w, good.y), /x must hold 32/);
    refuses(() => native.conv(window, good.x, f(35), good.y), /weights must hold 36/);
    refuses(() => native.conv(window, good.x, good.w, f(33)), /y must hold 32/);
    refuses(
      () => native.conv({ ...window, kernelH: 2 ** 20, dilationH: 2 ** 20 }, good.x, good.w, good.y),
      /too large|too far/,
    );
    refuses(
      () =>
        native.conv({ ...window, inH: 2 ** 20, inW: 2 ** 20, inC: 2 ** 20, batch: 2 ** 20 }, good.x, good.w, good.y),
      /too large/,
    );
    refuses(() => native.pool('max', { ...window, outC: 1 }, good.x, f(16)), /keeps channels/);
    refuses(() => native.pool('median' as 'max', window, good.x, good.y), /expected one of max average/);
  });

  test('strided work is refused when it reaches past its arrays', () => {
    refuses(
      () => native.binary('add', { dims: [3, 4], aStrides: [4, 1], bStrides: [0, 1] }, f(11), f(4), f(12)),
      /a must hold at least 12/,
    );
    refuses(
      () => native.binary('add', { dims: [3, 4], aStrides: [4], bStrides: [0, 1] }, f(12), f(4), f(12)),
      /aStrides must be as long/,
    );
    refuses(
      () => native.binary('add', { dims: [3, 0], aStrides: [4, 1], bStrides: [0, 1] }, f(12), f(4), f(12)),
      /every element of dims/,
    );
    const rank9 = Array<number>(9).fill(1);
    refuses(
      () => native.binary('add', { dims: rank9, aStrides: rank9, bStrides: rank9 }, f(1), f(1), f(1)),
      /at most 8/,
    );
    const huge = [2 ** 30, 2 ** 30, 2 ** 30];
    refuses(
      () => native.binary('add', { dims: huge, aStrides: [0, 0, 0], bStrides: [0, 0, 0] }, f(1), f(1), f(1)),
      /over 2\^40/,
    );
    refuses(
      () => native.copy({ elementBytes: 4, dims: [2, 2], strides: [2, -1] }, new Uint8Array(16), new Uint8Array(16)),
      /strides/,
    );
    refuses(
      () => native.copy({ elementBytes: 4, dims: [2, 2], strides: [2, 1] }, new Uint8Array(15), new Uint8Array(16)),
      /x must hold/,
    );
    refuses(
      () => native.copy({ elementBytes: 3 as 4, dims: [1], strides: [1] }, new Uint8Array(3), new Uint8Array(3)),
      /1, 2, 4 or 8/,
    );
    refuses(() => native.softmax({ outer: 0, n: 1, inner: 1 }, f(0), f(0)), /outer must be/);
    refuses(() => native.softmax({ outer: 2 ** 20, n: 2 ** 20, inner: 2 ** 20 }, f(1), f(1)), /over 2\^40/);
    refuses(() => native.unary('exp', f(0), f(0)), /count must be/);
    refuses(() => native.unary('exp', f(2), f(3)), /y must hold 2/);
  });

  test('whatever numbers come, a call is served or refused', () => {
    const number = fc.oneof(
      fc.integer({ min: -2, max: 9 }),
      fc.constantFrom(0.5, Number.NaN, 2 ** 20, 2 ** 31 - 1, 2 ** 31, 1e300),
    );
    const served = { yes: 0, no: 0 };
    const attempt = (call: () => void): void => {
      try {
        call();
        served.yes++;
      } catch (error) {
        if (!isCloisterError(error, 'INVALID_ARGUMENT')) throw error;
        served.no++;
      }
    };
    fc.assert(
      fc.property(fc.array(number, { minLength: 16, maxLength: 16 }), fc.nat(300), fc.nat(300), (n, xs, ys) => {
        const [
          batch,
          inC,
          inH,
          inW,
          outC,
          outH,
          outW,
          kernelH,
          kernelW,
          strideH,
          strideW,
          dilationH,
          dilationW,
          padTop,
          padLeft,
        ] = n as [number, ...number[]];
        const w = {
          batch,
          inC,
          inH,
          inW,
          outC,
          outH,
          outW,
          kernelH,
          kernelW,
          strideH,
          strideW,
          dilationH,
          dilationW,
          padTop,
          padLeft,
        } as Parameters<NativeAddon['conv']>[0];
        attempt(() => native.conv(w, f(xs), f(ys), f(xs)));
        attempt(() => native.pool('average', w, f(xs), f(ys)));
        attempt(() => native.gemm({ m: batch, n: inC!, k: inH!, lda: inW! }, f(xs), f(ys), f(xs)));
        attempt(() =>
          native.binary(
            'sub',
            { dims: [batch, inC!], aStrides: [inH!, inW!], bStrides: [outC!, 0] },
            f(xs),
            f(ys),
            f(Math.min(xs, 81)),
          ),
        );
      }),
      { numRuns: 2000 },
    );
    expect(served.no).toBeGreaterThan(0);
  });

  test('forceIsa refuses a row that is not there, and names those that are', () => {
    const { supported } = kernelInfo()!;
    for (const name of ['', 'sse', 'AVX2', '__proto__']) {
      if (name === '') continue;
      refuses(() => forceIsa(name), new RegExp(supported.join(', ')));
    }
    expect(kernelInfo()!.isa).toBe(supported[0]);
    for (const name of supported) {
      forceIsa(name);
      expect(kernelInfo()!.isa).toBe(name);
    }
    forceIsa(null);
    expect(kernelInfo()!.isa).toBe(supported[0]);
  });
});
