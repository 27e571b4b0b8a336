import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Attribute } from '../../../../src/graph/index.ts';
import { Tensor } from '../../../../src/tensor/index.ts';
import { distance, type Inputs, infer, numbers, random, refusal, run } from '../one-node.ts';

type Attributes = Readonly<Record<string, Attribute>>;
const rotary = (inputs: Inputs, attributes: Attributes = {}): Tensor =>
  run('RotaryEmbedding', inputs, { attributes })[0]!;
const microsoft = (inputs: Inputs, attributes: Attributes = {}): Tensor =>
  run('RotaryEmbedding', inputs, { attributes, domain: 'com.microsoft' })[0]!;

/** Cosines and sines of `position * frequency`, one frequency per pair: (positions, pairs). */
function caches(positions: number, pairs: number): readonly [Tensor, Tensor] {
  const table = (f: (angle: number) => number): Tensor =>
    Tensor.of(
      'f64',
      Array.from({ length: positions }, (_, p) => Array.from({ length: pairs }, (_pair, i) => f(p / 3 ** i))),
    );
  return [table(Math.cos), table(Math.sin)];
}

describe('RotaryEmbedding', () => {
  test('multiplies pairs, seen as complex numbers, by the unit number at the angle of the position', () => {
    const size = fc.integer({ min: 1, max: 3 });
    fc.assert(
      fc.property(
        size,
        size,
        size,
        size,
        fc.integer({ min: 0, max: 2 }),
        fc.boolean(),
        (batch, heads, rows, pairs, rest, near) => {
          const width = 2 * pairs + rest;
          const x = random(1, [batch, heads, rows, width]);
          const [cos, sin] = caches(9, pairs);
          const positions = Tensor.of(
            'i64',
            Array.from({ length: batch }, (_, b) =>
              Array.from({ length: rows }, (_row, i) => BigInt((2 * b + 3 * i) % 9)),
            ),
          );
          const attributes = { interleaved: near ? 1 : 0, rotary_embedding_dim: 2 * pairs };
          const y = numbers(rotary([x, cos, sin, positions], attributes));
          const from = numbers(x);
          for (let i = 0; i < from.length; i++) {
            const [element, row, b] = [i % width, Math.floor(i / width) % rows, Math.floor(i / width / rows / heads)];
            if (element >= 2 * pairs) {
              expect(y[i]).toBe(from[i]);
              continue;
            }
            const pair = near ? Math.floor(element / 2) : element % pairs;
            const start = i - element;
            const [re, im] = near ? [start + 2 * pair, start + 2 * pair + 1] : [start + pair, start + pair + pairs];
            const angle = ((2 * b + 3 * row) % 9) / 3 ** pair;
            const expected =
              i === re
                ? from[re]! * Math.cos(angle) - from[im]! * Math.sin(angle)
                : from[re]! * Math.sin(angle) + from[im]! * Math.cos(angle);
            expect(y[i]).toBeCloseTo(expected, 12);
          }
        },
      ),
    );
  });

  test('of heads side by side is that of heads apart; caches by row need no positions', () => {
    const [cos, sin] = caches(6, 2);
    const x = random(1, [2, 3, 2, 4]); // (batch, rows, heads, size)
    const apart = rotary([
      x.transpose([0, 2, 1, 3]),
      cos,
      sin,
      Tensor.of('i64', [
        [0n, 1n, 2n],
        [3n, 4n, 5n],
      ]),
    ]);
    const flat = rotary([x.reshape([2, 3, 8]), cos.reshape([2, 3, 2]), sin.reshape([2, 3, 2])], { num_heads: 2 });
    expect(distance(flat.reshape([2, 3, 2, 4]).transpose([0, 2, 1, 3]), apart)).toBe(0);
  });

  test('in com.microsoft takes positions first, or the first of them alone', () => {
    const [cos, sin] = caches(8, 2);
    const x = random(1, [2, 2, 3, 4]);
    const positions = Tensor.of('i64', [
      [4n, 5n, 6n],
      [4n, 5n, 6n],
    ]);
    const expected = rotary([x, cos, sin, positions]);
    expect(distance(microsoft([x, positions, cos, sin]), expected)).toBe(0);
    expect(distance(microsoft([x, Tensor.of('i64', [4n]), cos, sin]), expected)).toBe(0);
    const flat = x.transpose([0, 2, 1, 3]).reshape([2, 3, 8]);
    const came = microsoft([flat, positions, cos, sin]); // heads as large as the caches are
    expect(distance(came.reshape([2, 3, 2, 4]).transpose([0, 2, 1, 3]), expected)).toBe(0);
  });

  test('keeps symbolic sizes', () => {
    const f32 = (shape: readonly (number | string)[]) => ({ dtype: 'f32', shape }) as const;
    const inputs = [
      f32(['B', 'H', 'S', 64]),
      f32(['M', 32]),
      f32(['M', 32]),
      { dtype: 'i64', shape: ['B', 'S'] } as const,
    ];
    expect(infer('RotaryEmbedding', inputs)[0]!.shape).toEqual(['B', 'H', 'S', 64]);
  });

  test('refuses positions outside the caches, and sizes that do not fit', () => {
    const [cos, sin] = caches(3, 2);
    const x = random(1, [1, 1, 2, 4]);
    const at = (position: bigint): string => refusal(() => rotary([x, cos, sin, Tensor.of('i64', [[0n, position]])]));
    expect(at(3n)).toBe('SHAPE_MISMATCH: RotaryEmbedding "it": a position is outside a cache of 3');
    expect(at(-1n)).toContain('a position is outside');
    expect(refusal(() => rotary([x, cos, sin]))).toContain('expected 3 dimensions');
    expect(refusal(() => rotary([random(1, [1, 1, 2, 6]), cos, sin, Tensor.of('i64', [[0n, 1n]])]))).toContain(
      '2 and 3 differ',
    );
    const odd = { rotary_embedding_dim: 3 };
    expect(refusal(() => rotary([x, cos, sin, Tensor.of('i64', [[0n, 1n]])], odd))).toContain(
      'cannot be turned in pairs',
    );
    const flat = random(1, [1, 2, 4]);
    expect(refusal(() => rotary([flat, cos.reshape([1, 3, 2]), sin.reshape([1, 3, 2])]))).toContain(
      'num_heads is required',
    );
  });
});
