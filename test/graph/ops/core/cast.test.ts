import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Tensor } from '../../../../src/tensor/index.ts';
import { compute } from '../any-node.ts';
import { infer, refusal } from '../one-node.ts';

const CODES = {
  f32: 1,
  u8: 2,
  i8: 3,
  u16: 4,
  i16: 5,
  i32: 6,
  i64: 7,
  string: 8,
  bool: 9,
  f16: 10,
  f64: 11,
  u32: 12,
  u64: 13,
  bf16: 16,
};
type Target = keyof typeof CODES;

const cast = (x: Tensor, to: Target): Tensor => compute('Cast', [x], { attributes: { to: CODES[to] } })[0]!;
const words = (...list: readonly string[]): Tensor => Tensor.from('string', [list.length], [...list]);

describe('Cast', () => {
  test('of every pair of dtypes keeps 0 and 1', () => {
    const names = Object.keys(CODES) as Target[];
    for (const from of names) {
      const source = from === 'string' ? words('0', '1') : Tensor.of(from, [0, 1]);
      for (const to of names) {
        const y = cast(source, to);
        expect(y.dtype).toBe(to);
        expect(y.values().map(Number), `${from} to ${to}`).toEqual([0, 1]);
        expect(compute('CastLike', [source, cast(source, to)])[0]!.values()).toEqual(y.values());
      }
    }
  });

  test('writes every float so that it is read back as it was, singles in the fewest digits', () => {
    fc.assert(
      fc.property(fc.float(), fc.double(), (single, double) => {
        const [a, b] = [Tensor.of('f32', [single]), Tensor.of('f64', [double])];
        expect(cast(cast(a, 'string'), 'f32').values()).toEqual([single]);
        expect(cast(cast(b, 'string'), 'f64').values()).toEqual([double]);
      }),
      {
        examples: [
          [Math.fround(0.1), -0],
          [Math.fround(1e-45), 1e300],
          [Math.fround(3.4028234663852886e38), 5e-324],
        ],
      },
    );
    expect(cast(Tensor.of('f32', [0.1, 314.15926, 3]), 'string').toArray()).toEqual(['0.1', '314.15927', '3']);
    expect(cast(Tensor.of('f64', [Number.NaN, Infinity, -Infinity]), 'string').toArray()).toEqual([
      'NaN',
      'INF',
      '-INF',
    ]);
  });

  test('writes and reads 64-bit integers exactly', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), value => {
        const text = cast(Tensor.of('i64', [value]), 'string');
        expect(text.toArray()).toEqual([String(value)]);
        expect(cast(text, 'i64').toArray()).toEqual([value]);
      }),
    );
  });

  test('reads numbers as people write them, and refuses what is none', () => {
    const read = (text: string): number => cast(words(text), 'f64').values()[0] as number;
    expect(['3.14', '1000', '1e-5', '1E8', '+INF', 'inf', '-INF', '-.5', '7.', '+2'].map(read)).toEqual([
      3.14,
      1000,
      1e-5,
      1e8,
      Infinity,
      Infinity,
      -Infinity,
      -0.5,
      7,
      2,
    ]);
    expect(read('nan')).toBeNaN();
    expect(cast(words('100.5', '-3'), 'i32').toArray()).toEqual([100, -3]);
    for (const text of ['', ' 1', '0x10', 'Hello World!', '1e', '--1', '1_000', '.']) {
      expect(
        refusal(() => cast(words(text), 'f32')),
        text,
      ).toContain('is not a number');
    }
  });

  test('of hostile text takes time in proportion to its length', () => {
    const start = performance.now();
    for (const text of ['1'.repeat(1e6), `${'1'.repeat(1e6)}x`, `-${'9'.repeat(1e6)}`])
      refusal(() => cast(words(text), 'i64'));
    expect(performance.now() - start).toBeLessThan(2000);
  });

  test('names its target by a word before opset 6, and has attributes for small floats from 19 and 24 on', () => {
    const old = compute('Cast', [Tensor.of('f32', [1.7])], { opset: 1, attributes: { to: 'INT32' } });
    expect(old[0]!.toArray()).toEqual([1]);
    const form = (opset: number, attributes: Readonly<Record<string, number | string>>): string =>
      refusal(() => compute('Cast', [Tensor.of('f32', [1])], { opset, attributes: { to: 7, ...attributes } }));
    expect(form(13, { saturate: 0 })).toContain('"saturate" is unknown at opset 13');
    expect(form(19, { saturate: 0 })).toBe('none');
    expect(form(23, { round_mode: 'up' })).toContain('"round_mode" is unknown at opset 23');
    expect(form(24, { round_mode: 'down' })).toBe('none');
    expect(form(24, { round_mode: 'sideways' })).toContain('round_mode');
    expect(form(24, { to: 17 })).toContain('element type 17 has no dtype here');
    expect(infer('Cast', [{ dtype: 'f32', shape: ['N'] }], { attributes: { to: 8 } })[0]).toEqual({
      dtype: 'string',
      shape: ['N'],
    });
  });
});

describe('BitCast', () => {
  const bitCast = (x: Tensor, to: Target): Tensor => compute('BitCast', [x], { attributes: { to: CODES[to] } })[0]!;

  test('keeps the bytes', () => {
    expect(bitCast(Tensor.of('f32', [1, -2]), 'u32').toArray()).toEqual([0x3f800000, 0xc0000000]);
    expect(bitCast(Tensor.of('f16', [1]), 'bf16').bytes()).toEqual(Uint8Array.of(0, 0x3c));
    expect(bitCast(Tensor.of('i64', [-1n]), 'u64').toArray()).toEqual([2n ** 64n - 1n]);
    fc.assert(
      fc.property(fc.array(fc.double()), list => {
        const x = Tensor.of('f64', list);
        expect(bitCast(bitCast(x, 'i64'), 'f64').toArray()).toEqual(list);
      }),
    );
  });

  test('reads a view by its elements, not the array that it lies in', () => {
    const x = Tensor.of('f32', [
      [1, 2],
      [3, 4],
    ]);
    expect(bitCast(x.slice({ axis: 0, start: 1 }), 'u32').toArray()).toEqual([[0x40400000, 0x40800000]]);
    expect(bitCast(bitCast(x.transpose(), 'i32'), 'f32').toArray()).toEqual(x.transpose().toArray());
  });

  test('makes a bool of any byte, and refuses another width', () => {
    expect(bitCast(Tensor.of('u8', [0, 1, 255]), 'bool').toArray()).toEqual([0, 1, 1]);
    expect(refusal(() => bitCast(Tensor.of('f32', [1]), 'f64'))).toContain('f32 has 4 bytes, f64 has 8');
    expect(refusal(() => bitCast(words('a'), 'f64'))).toContain('strings have no bits');
  });
});
