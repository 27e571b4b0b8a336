import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Attribute } from '../../../../src/graph/index.ts';
import { Tensor } from '../../../../src/tensor/index.ts';
import { distance, type Inputs, infer, random, refusal, run } from '../one-node.ts';

type Attributes = Readonly<Record<string, Attribute>>;
const onnx = (op: string, inputs: Inputs, attributes: Attributes = {}, outputs = 1): readonly Tensor[] =>
  run(op, inputs, { attributes, outputs });
const grouped = (inputs: Inputs, attributes: Attributes = {}, outputs = 3): readonly Tensor[] =>
  run('GroupQueryAttention', inputs, {
    attributes: { num_heads: 4, kv_num_heads: 2, ...attributes },
    domain: 'com.microsoft',
    outputs,
  });
const i32 = (...list: readonly number[]): Tensor => Tensor.of('i32', list);

const SIZE = 4;
const heads = { q_num_heads: 4, kv_num_heads: 2 };

/** 0 where a query may see a key, else -Infinity: (1, 1, rows, keys). */
const visible = (rows: number, keys: number, sees: (query: number, key: number) => boolean): Tensor =>
  Tensor.of('f64', [
    [Array.from({ length: rows }, (_, i) => Array.from({ length: keys }, (_key, j) => (sees(i, j) ? 0 : -Infinity)))],
  ]);

describe('GroupQueryAttention', () => {
  const rows = (count: number, seed: number): readonly Tensor[] => [
    random(seed, [2, count, 4 * SIZE]),
    random(seed + 1, [2, count, 2 * SIZE]),
    random(seed + 2, [2, count, 2 * SIZE]),
  ];

  test('of a prompt is causal attention, and of one tensor the same', () => {
    const [q, k, v] = rows(3, 1);
    const [expected, key, value] = onnx('Attention', [q, k, v], { ...heads, is_causal: 1 }, 3);
    const rest = [undefined, undefined, i32(2, 2), i32(3)];
    const came = grouped([q, k, v, ...rest]);
    expect([expected!, key!, value!].map((x, i) => distance(x, came[i]!))).toEqual([0, 0, 0]);
    const packed = onnx('Concat', [q, k, v], { axis: 2 })[0]!;
    expect(distance(grouped([packed, undefined, undefined, ...rest])[0]!, expected!)).toBe(0);
  });

  test('step by step gives what the whole at once gives', () => {
    const length = fc.integer({ min: 1, max: 4 });
    fc.assert(
      fc.property(
        length,
        length,
        fc.boolean(),
        fc.boolean(),
        fc.integer({ min: 0, max: 3 }),
        (first, more, turns, near, window) => {
          const all = first + more;
          const [q, k, v] = rows(all, 5);
          const angles = random(9, [all, SIZE / 2]);
          const cos = onnx('Cos', [angles])[0]!;
          const sin = onnx('Sin', [angles])[0]!;
          const attributes = {
            do_rotary: turns ? 1 : 0,
            rotary_interleaved: near ? 1 : 0,
            local_window_size: window === 0 ? -1 : window,
            softcap: 0.5,
          };
          const whole = grouped([q, k, v, undefined, undefined, i32(all - 1, all - 1), i32(all), cos, sin], attributes);
          const part = (x: Tensor, start: number, end: number): Tensor => x.slice({ axis: 1, start, end });
          const start = [q!, k!, v!].map(x => part(x, 0, first));
          let [y, key, value] = grouped(
            [...start, undefined, undefined, i32(first - 1, first - 1), i32(first), cos, sin],
            attributes,
          );
          for (let at = first; at < all; at++) {
            const step = [q!, k!, v!].map(x => part(x, at, at + 1));
            [y, key, value] = grouped([...step, key, value, i32(at, at), i32(at + 1), cos, sin], attributes);
          }
          expect(distance(y!, part(whole[0]!, all - 1, all))).toBeLessThan(1e-13);
          expect(distance(key!, whole[1]!)).toBe(0);
          expect(distance(value!, whole[2]!)).toBe(0);
        },
      ),
      { numRuns: 50 },
    );
  });

  test('turns queries and keys as RotaryEmbedding does', () => {
    const [q, k, v] = rows(3, 1);
    const angles = random(9, [8, 1]); // a pair of each head, the other stays
    const [cos, sin] = [onnx('Cos', [angles])[0]!, onnx('Sin', [angles])[0]!];
    const positions = Tensor.of('i64', [
      [2n, 3n, 4n],
      [2n, 3n, 4n],
    ]);
    const turn = (x: Tensor, num_heads: number): Tensor =>
      onnx('RotaryEmbedding', [x, cos, sin, positions], { num_heads, rotary_embedding_dim: 2 })[0]!;
    const [expected] = onnx('Attention', [turn(q!, 4), turn(k!, 2), v], { ...heads, is_causal: 1 });
    const [y] = grouped([q, k, v, undefined, undefined, i32(2, 2), i32(3), cos, sin, positions], { do_rotary: 1 });
    expect(distance(y!, expected!)).toBeLessThan(1e-14);
  });

  test('fills a larger cache in place, each sample from its own length on', () => {
    const [q, k, v] = rows(1, 1);
    const past = [random(4, [2, 2, 6, SIZE]), random(5, [2, 2, 6, SIZE])];
    const [y, key] = grouped([q, k, v, ...past, i32(4, 2), i32(5)]);
    expect(key!.shape).toEqual([2, 2, 6, SIZE]);
    for (const [sample, before] of [4, 2].entries()) {
      const of = (x: Tensor): Tensor => x.slice({ axis: 0, start: sample, end: sample + 1 });
      const cut = (x: Tensor): Tensor => of(x).slice({ axis: 2, end: before });
      const [expected, joined] = onnx(
        'Attention',
        [of(q!), of(k!), of(v!), undefined, cut(past[0]!), cut(past[1]!)],
        heads,
        2,
      );
      expect(distance(of(y!), expected!)).toBeLessThan(1e-14);
      expect(distance(of(key!).slice({ axis: 2, end: before + 1 }), joined!)).toBe(0);
      expect(
        of(key!)
          .slice({ axis: 2, start: before + 1 })
          .values()
          .every(x => x === 0),
      ).toBe(true);
    }
  });

  test('sees a window, a bias, both ways, or a sink', () => {
    const [q, k, v] = rows(4, 1);
    const inputs = [q, k, v, undefined, undefined, i32(3, 3), i32(4)];
    const against = (sees: (query: number, key: number) => boolean): Tensor =>
      onnx('Attention', [q, k, v, visible(4, 4, sees)], heads)[0]!;
    const windowed = grouped(inputs, { local_window_size: 2 }, 1)[0]!;
    expect(
      distance(
        windowed,
        against((i, j) => j <= i && j > i - 2),
      ),
    ).toBe(0);
    expect(
      distance(
        grouped(inputs, { causal: 0 }, 1)[0]!,
        against(() => true),
      ),
    ).toBe(0);
    const bias = random(7, [1, 4, 4, 4]);
    const biased = grouped([...inputs, undefined, undefined, undefined, bias], {}, 1)[0]!;
    expect(distance(biased, onnx('Attention', [q, k, v, bias], { ...heads, is_causal: 1 })[0]!)).toBe(0);
    // A sink of score s is a key of that score whose value is zero.
    const sinks = random(8, [4]);
    const extra = (x: Tensor): Tensor => onnx('Concat', [Tensor.zeros('f64', [2, 1, 2 * SIZE]), x], { axis: 1 })[0]!;
    const mask = onnx(
      'Concat',
      [
        onnx('Expand', [sinks.reshape([1, 4, 1, 1]), Tensor.of('i64', [1n, 4n, 4n, 1n])])[0]!,
        onnx('Expand', [visible(4, 4, (i, j) => j <= i), Tensor.of('i64', [1n, 4n, 4n, 4n])])[0]!,
      ],
      { axis: 3 },
    )[0]!;
    const expected = onnx('Attention', [q, extra(k!), extra(v!), mask], heads)[0]!;
    const none = [undefined, undefined, undefined, undefined];
    expect(distance(grouped([...inputs, ...none, sinks], {}, 1)[0]!, expected)).toBeLessThan(1e-14);
    const smooth = grouped(inputs, { smooth_softmax: 1 }, 1)[0]!;
    expect(distance(smooth, grouped([...inputs, ...none, Tensor.zeros('f64', [4])], {}, 1)[0]!)).toBe(0);
  });

  test('keeps symbolic sizes where the total is not known', () => {
    const f32 = (shape: readonly (number | string)[]) => ({ dtype: 'f32', shape }) as const;
    const int = (shape: readonly (number | string)[]) => ({ dtype: 'i32', shape }) as const;
    const cache = f32(['B', 2, 'P', 4]);
    const facts = infer(
      'GroupQueryAttention',
      [f32(['B', 'S', 16]), f32(['B', 'S', 8]), f32(['B', 'S', 8]), cache, cache, int(['B']), int([1])],
      { attributes: { num_heads: 4, kv_num_heads: 2 }, domain: 'com.microsoft', outputs: 3 },
    );
    expect(facts[0]!.shape).toEqual(['B', 'S', 16]);
    expect(facts[1]!.shape).toEqual(['B', 2, 'max(P,?0)', 4]);
  });

  test('refuses lengths that no cache has, and names the node', () => {
    const [q, k, v] = rows(1, 1);
    const past = [random(4, [2, 2, 3, SIZE]), random(5, [2, 2, 3, SIZE])];
    const refused = (lengths: Tensor, total: Tensor, attributes: Attributes = {}): string =>
      refusal(() => grouped([q, k, v, ...past, lengths, total], attributes));
    expect(refused(i32(3, 3), i32(2 ** 31 - 1))).toBe(
      'SHAPE_MISMATCH: GroupQueryAttention "it": 1 rows after 3 cannot make a total of 2147483647',
    );
    expect(refused(i32(4, 3), i32(4))).toContain('sample 0: 1 rows after 3 cannot make 5 of at most 4');
    expect(refused(i32(-1, 3), i32(4))).toContain('sample 0');
    expect(refused(i32(3), i32(4))).toContain('input 5 of [1]: 1 and 2 differ');
    expect(refused(i32(3, 3), i32(4), { kv_num_heads: 3 })).toContain('4 heads cannot share 3');
    expect(refused(i32(3, 3), i32(4), { do_rotary: 1 })).toContain('input 7 is missing');
    expect(refused(i32(3, 3), i32(4), { k_quant_type: 'PER_TENSOR' })).toContain('UNSUPPORTED_MODEL');
    const cache = random(6, [2, 2]);
    expect(refusal(() => grouped([q, k, v, ...past, i32(3, 3), i32(4), cache, cache], { do_rotary: 1 }))).toContain(
      'a position is outside a cache of 2',
    );
  });
});
