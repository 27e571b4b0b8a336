import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Attribute } from '../../../../src/graph/index.ts';
import { Tensor } from '../../../../src/tensor/index.ts';
import { distance, type Inputs, infer, numbers, random, refusal, run } from '../one-node.ts';

type Attributes = Readonly<Record<string, Attribute>>;
const onnx = (op: string, inputs: Inputs, attributes: Attributes = {}, outputs = 1): readonly Tensor[] =>
  run(op, inputs, { attributes, outputs });
const fused = (op: string, inputs: Inputs, attributes: Attributes, outputs = 1): readonly Tensor[] =>
  run(op, inputs, { attributes, outputs, domain: 'com.microsoft' });

/** 0 where it is visible, else the value that stands for padding. */
const filtered = (shape: readonly number[], visible: (index: number) => boolean): Tensor =>
  Tensor.from(
    'f64',
    shape,
    Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => (visible(i) ? 0 : -10000)),
  );

const sizes = fc.record({
  batch: fc.integer({ min: 1, max: 2 }),
  heads: fc.integer({ min: 1, max: 3 }),
  rows: fc.integer({ min: 1, max: 4 }),
  past: fc.integer({ min: 0, max: 3 }),
  size: fc.integer({ min: 1, max: 3 }),
  input: fc.integer({ min: 1, max: 5 }),
});

describe('com.microsoft.Attention', () => {
  test('is a projection, then attention, with a past, a bias and causality', () => {
    fc.assert(
      fc.property(sizes, fc.boolean(), fc.boolean(), (s, isCausal, hasBias) => {
        const hidden = s.heads * s.size;
        const x = random(1, [s.batch, s.rows, s.input]);
        const weights = random(2, [s.input, 3 * hidden]);
        const bias = hasBias ? random(3, [3 * hidden]) : undefined;
        const past = random(4, [2, s.batch, s.heads, s.past, s.size]);
        const added = random(5, [1, s.heads, s.rows, s.past + s.rows]);
        const [y, present] = fused(
          'Attention',
          [x, weights, bias, undefined, past, added],
          { num_heads: s.heads, unidirectional: isCausal ? 1 : 0, scale: 0.7 },
          2,
        );
        const product = onnx('MatMul', [x, weights])[0]!;
        const projected = bias ? onnx('Add', [product, bias])[0]! : product;
        const [q, k, v] = onnx(
          'Split',
          [projected, Tensor.of('i64', [hidden, hidden, hidden].map(BigInt))],
          { axis: 2 },
          3,
        );
        const half = (at: number): Tensor => past.slice({ axis: 0, start: at, end: at + 1 }).squeeze([0]);
        const [expected, key, value] = onnx(
          'Attention',
          [q, k, v, added, half(0), half(1)],
          { q_num_heads: s.heads, kv_num_heads: s.heads, is_causal: isCausal ? 1 : 0, scale: 0.7 },
          3,
        );
        expect(distance(y!, expected!)).toBeLessThan(1e-13);
        const stacked = onnx('Concat', [key!.unsqueeze([0]), value!.unsqueeze([0])], { axis: 0 })[0]!;
        expect(distance(present!, stacked)).toBeLessThan(1e-15);
      }),
      { numRuns: 60 },
    );
  });

  test('adds a low value to padding, in each form of its mask', () => {
    const [x, weights] = [random(1, [2, 4, 3]), random(2, [3, 12])];
    const run2 = (mask: Tensor | undefined, added?: Tensor): Tensor =>
      fused('Attention', [x, weights, undefined, mask, undefined, added], { num_heads: 2 })[0]!;
    // Sample 0 has 3 keys from 0 on, sample 1 has 2 from 1 on.
    const sees = (sample: number, key: number): boolean => (sample === 0 ? key < 3 : key >= 1 && key < 3);
    const full = filtered([2, 1, 4, 4], i => sees(Math.floor(i / 16), i % 4));
    const flags = (shape: readonly number[], per: number): Tensor =>
      Tensor.from(
        'i32',
        shape,
        Int32Array.from({ length: 2 * per }, (_, i) => (sees(Math.floor(i / per), i % 4) ? 1 : 0)),
      );
    const expected = run2(undefined, onnx('Expand', [full, Tensor.of('i64', [2n, 2n, 4n, 4n])])[0]!);
    expect(distance(run2(flags([2, 4], 4)), expected)).toBe(0);
    expect(distance(run2(flags([2, 4, 4], 16)), expected)).toBe(0);
    expect(distance(run2(Tensor.of('i32', [3, 3, 0, 1])), expected)).toBe(0);
    const ends = run2(
      undefined,
      filtered([2, 1, 4, 4], i => i % 4 < (i < 16 ? 3 : 2)),
    );
    expect(distance(run2(Tensor.of('i32', [3, 2])), ends)).toBe(0);
  });

  test('lets values be of another size than keys', () => {
    const [x, weights] = [random(1, [1, 3, 2]), random(2, [2, 4 + 4 + 6])];
    const [y] = fused('Attention', [x, weights], { num_heads: 2, qkv_hidden_sizes: [4, 4, 6] });
    const [q, k, v] = onnx('Split', [onnx('MatMul', [x, weights])[0]!, Tensor.of('i64', [4n, 4n, 6n])], { axis: 2 }, 3);
    const [expected] = onnx('Attention', [q, k, v], { q_num_heads: 2, kv_num_heads: 2 });
    expect(distance(y!, expected!)).toBeLessThan(1e-14);
  });

  test('keeps symbolic sizes', () => {
    const f32 = (shape: readonly (number | string)[]) => ({ dtype: 'f32', shape }) as const;
    const inputs = [f32(['B', 'S', 8]), f32([8, 24]), f32([24]), undefined, f32([2, 'B', 2, 'P', 4])];
    const facts = infer('Attention', inputs, { attributes: { num_heads: 2 }, domain: 'com.microsoft', outputs: 2 });
    expect(facts.map(({ shape }) => shape)).toEqual([
      ['B', 'S', 8],
      [2, 'B', 2, 'P+S', 4],
    ]);
  });

  test('refuses what does not fit, and names the node', () => {
    const [x, weights] = [random(1, [2, 3, 4]), random(2, [4, 12])];
    const refused = (inputs: Inputs, attributes: Attributes = {}): string =>
      refusal(() => fused('Attention', inputs, { num_heads: 2, ...attributes }));
    expect(refused([x, random(2, [5, 12])])).toBe(
      'INVALID_GRAPH: Attention "it": sizes of inputs 0 and 1: 4 and 5 differ',
    );
    expect(refused([x, random(2, [4, 13])])).toContain('in weights of 13 columns');
    expect(refused([x, weights], { num_heads: 3 })).toContain('4 cannot be cut into 3 heads');
    expect(refused([x, weights], { num_heads: 0 })).toContain('num_heads: expected at least 1');
    expect(refused([x, weights], { qkv_hidden_sizes: [4, 4] })).toContain('in weights of 12 columns');
    expect(refused([x, weights, undefined, Tensor.of('i32', [1, 2, 3])])).toContain('UNSUPPORTED_MODEL');
    expect(refused([x, weights], { do_rotary: 1 })).toContain('UNSUPPORTED_MODEL: Attention "it"');
    expect(refused([x, weights, undefined, undefined, random(3, [2, 2, 2, 1, 3])])).toContain(
      'axis 4 of the past: 2 and 3 differ',
    );
  });
});

describe('com.microsoft.MultiHeadAttention', () => {
  const heads = 2;
  const both = { q_num_heads: heads, kv_num_heads: heads };

  test('is attention after a bias, in each layout of its inputs', () => {
    const [q, k, v] = [random(1, [2, 3, 8]), random(2, [2, 5, 8]), random(3, [2, 5, 6])];
    const bias = random(4, [22]);
    const [bq, bk, bv] = onnx('Split', [bias, Tensor.of('i64', [8n, 8n, 6n])], { axis: 0 }, 3);
    const add = (x: Tensor, b: Tensor): Tensor => onnx('Add', [x, b])[0]!;
    const [expected, key, value] = onnx('Attention', [add(q, bq!), add(k, bk!), add(v, bv!)], both, 3);
    const came = fused('MultiHeadAttention', [q, k, v, bias], { num_heads: heads }, 3);
    expect([expected!, key!, value!].map((x, i) => distance(x, came[i]!))).toEqual([0, 0, 0]);
    const [cached] = fused('MultiHeadAttention', [q, key, value, bias], { num_heads: heads });
    expect(distance(cached!, expected!)).toBe(0);
  });

  test('takes keys and values, or all three, from one tensor', () => {
    const parts = [1, 2, 3].map(seed => random(seed, [2, 4, heads, 1, 3]));
    const joined = (list: readonly Tensor[]): Tensor => onnx('Concat', list, { axis: 3 })[0]!;
    const [q, k, v] = parts.map((part): Tensor => part.reshape([2, 4, 6]));
    const [expected] = fused('MultiHeadAttention', [q, k, v], { num_heads: heads });
    expect(
      distance(fused('MultiHeadAttention', [q, joined(parts.slice(1))], { num_heads: heads })[0]!, expected!),
    ).toBe(0);
    expect(distance(fused('MultiHeadAttention', [joined(parts)], { num_heads: heads })[0]!, expected!)).toBe(0);
  });

  test('goes on from a past, with padding, a bias of scores and causality', () => {
    const [q, k, v] = [random(1, [2, 3, 4]), random(2, [2, 3, 4]), random(3, [2, 3, 4])];
    const [pastKey, pastValue] = [random(4, [2, heads, 2, 2]), random(5, [2, heads, 2, 2])];
    const added = random(6, [1, 1, 3, 5]);
    const padding = Tensor.of('i32', [
      [1, 1, 1, 1, 0],
      [0, 1, 1, 1, 1],
    ]);
    const low = filtered([2, 1, 1, 5], i => Number(numbers(padding.cast('f64'))[i]) > 0);
    const mask = onnx('Add', [low, added])[0]!;
    const [expected] = onnx('Attention', [q, k, v, mask, pastKey, pastValue], { ...both, is_causal: 1 });
    const inputs = [q, k, v, undefined, padding, added, pastKey, pastValue];
    const [y, presentKey] = fused('MultiHeadAttention', inputs, { num_heads: heads, unidirectional: 1 }, 2);
    expect(distance(y!, expected!)).toBe(0);
    expect(presentKey!.shape).toEqual([2, heads, 5, 2]);
  });

  test('refuses what does not fit, and names the node', () => {
    const q = random(1, [2, 3, 4]);
    const refused = (inputs: Inputs, outputs = 1): string =>
      refusal(() => fused('MultiHeadAttention', inputs, { num_heads: heads }, outputs));
    expect(refused([q, random(2, [2, 3, 6]), q])).toBe(
      'INVALID_GRAPH: MultiHeadAttention "it": axis 2 of input 1: 4 and 6 differ',
    );
    expect(refused([q])).toContain('input 1 is missing');
    expect(refused([q, q])).toContain('input 2 is missing');
    expect(refused([q, q, q, random(3, [11])])).toContain('12 and 11 differ');
    expect(refused([q, q, q, undefined, Tensor.of('i32', [1])])).toContain('UNSUPPORTED_MODEL');
    expect(refused([q, q, q], 4)).toContain('UNSUPPORTED_MODEL');
    const k = random(2, [2, 5, 4]);
    const causal = { num_heads: heads, unidirectional: 1 };
    expect(refusal(() => fused('MultiHeadAttention', [q, k, k], causal))).toContain(
      'a causal mask of 3 queries over 5 keys',
    );
    expect(refused([random(1, [2, 3, 2, 2, 2])])).toContain('axis 3 of input 0');
  });
});
