import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Tensor } from '../../../../src/tensor/index.ts';
import { distance, infer, random, refusal, run } from '../one-node.ts';

const one = (op: string, inputs: readonly Tensor[], attributes = {}, opset = 24): Tensor =>
  run(op, inputs, { attributes, opset })[0]!;

/** Attention as a composition of other operators, on (batch, heads, rows, size). */
function composed(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: { scale: number; softcap?: number; bias?: Tensor },
): Tensor {
  const repeats = q.shape[1]! / k.shape[1]!;
  const repeated = (x: Tensor): Tensor =>
    one(
      'Gather',
      [
        x,
        Tensor.of(
          'i64',
          Array.from({ length: q.shape[1]! }, (_, i) => Math.floor(i / repeats)),
        ),
      ],
      {
        axis: 1,
      },
    );
  const scalar = (value: number): Tensor => Tensor.of('f64', value);
  const down = one('Transpose', [repeated(k)], { perm: [0, 1, 3, 2] });
  let scores = one('Mul', [one('MatMul', [q, down]), scalar(options.scale)]);
  if (options.softcap) {
    scores = one('Mul', [one('Tanh', [one('Div', [scores, scalar(options.softcap)])]), scalar(options.softcap)]);
  }
  if (options.bias) scores = one('Add', [scores, options.bias]);
  return one('MatMul', [one('Softmax', [scores]), repeated(v)]);
}

/** 0 where a query may see a key, else -Infinity. */
function visible(rows: number, keys: number, sees: (query: number, key: number) => boolean): Tensor {
  return Tensor.of(
    'f64',
    Array.from({ length: rows }, (_, i) => Array.from({ length: keys }, (_, j) => (sees(i, j) ? 0 : -Infinity))),
  );
}

const sizes = fc.record({
  batch: fc.integer({ min: 1, max: 2 }),
  kvHeads: fc.integer({ min: 1, max: 2 }),
  groups: fc.integer({ min: 1, max: 3 }),
  queries: fc.integer({ min: 1, max: 70 }),
  keys: fc.integer({ min: 1, max: 6 }),
  past: fc.integer({ min: 0, max: 4 }),
  size: fc.integer({ min: 1, max: 5 }),
  valueSize: fc.integer({ min: 1, max: 4 }),
  seed: fc.nat(1000),
});

describe('Attention', () => {
  test('equals products and a softmax, with a past, shared heads, a mask, a softcap and causality', () => {
    fc.assert(
      fc.property(sizes, fc.boolean(), fc.boolean(), fc.boolean(), (s, isCausal, capped, hasMask) => {
        const heads = s.kvHeads * s.groups;
        const total = s.past + s.keys;
        const q = random(s.seed, [s.batch, heads, s.queries, s.size]);
        const k = random(s.seed + 1, [s.batch, s.kvHeads, s.keys, s.size]);
        const v = random(s.seed + 2, [s.batch, s.kvHeads, s.keys, s.valueSize]);
        const pastKey = random(s.seed + 3, [s.batch, s.kvHeads, s.past, s.size]);
        const pastValue = random(s.seed + 4, [s.batch, s.kvHeads, s.past, s.valueSize]);
        const mask = hasMask ? random(s.seed + 5, [heads, s.queries, total]) : undefined;
        const softcap = capped ? 0.7 : 0;
        const [y, presentKey, presentValue] = run('Attention', [q, k, v, mask, pastKey, pastValue], {
          attributes: { is_causal: isCausal ? 1 : 0, softcap },
          opset: 23,
          outputs: 3,
        });
        const key = one('Concat', [pastKey, k], { axis: 2 });
        const value = one('Concat', [pastValue, v], { axis: 2 });
        const causalBias = visible(s.queries, total, (i, j) => !isCausal || j <= i + s.past);
        const bias = mask ? one('Add', [mask, causalBias]) : causalBias;
        const expected = composed(q, key, value, { scale: 1 / Math.sqrt(s.size), softcap, bias });
        expect(distance(y!, expected)).toBeLessThan(1e-12);
        expect(distance(presentKey!, key)).toBe(0);
        expect(distance(presentValue!, value)).toBe(0);
      }),
      { numRuns: 60 },
    );
  });

  test('of heads that lie side by side is that of heads apart', () => {
    const [q, k, v] = [random(1, [2, 5, 12]), random(2, [2, 3, 6]), random(3, [2, 3, 10])];
    const apart = (x: Tensor, heads: number): Tensor =>
      x.reshape([x.shape[0]!, x.shape[1]!, heads, -1]).transpose([0, 2, 1, 3]);
    const [flat] = run('Attention', [q, k, v], { attributes: { q_num_heads: 4, kv_num_heads: 2 } });
    const [split] = run('Attention', [apart(q, 4), apart(k, 2), apart(v, 2)]);
    expect(flat!.shape).toEqual([2, 5, 20]);
    expect(distance(apart(flat!, 4), split!)).toBe(0);
  });

  test('hands out the scores of each stage', () => {
    const [q, k, v] = [random(1, [1, 2, 3, 4]), random(2, [1, 2, 5, 4]), random(3, [1, 2, 5, 4])];
    const mask = random(4, [3, 5]);
    const stage = (mode: number): Tensor =>
      run('Attention', [q, k, v, mask], {
        attributes: { qk_matmul_output_mode: mode, softcap: 0.5, scale: 2 },
        outputs: 4,
      })[3]!;
    const scaled = one('Mul', [one('MatMul', [q, k.transpose([0, 1, 3, 2])]), Tensor.of('f64', 2)]);
    const half = Tensor.of('f64', 0.5);
    const capped = one('Mul', [one('Tanh', [one('Div', [scaled, half])]), half]);
    const biased = one('Add', [capped, mask]);
    for (const [mode, expected] of [scaled, capped, biased, one('Softmax', [biased])].entries()) {
      expect(distance(stage(mode), expected)).toBeLessThan(1e-14);
    }
  });

  test('treats a bool mask as a mask of zeros and minus infinities', () => {
    const [q, k, v] = [random(1, [2, 2, 3, 4]), random(2, [2, 2, 4, 4]), random(3, [2, 2, 4, 4])];
    const flags = Tensor.of('bool', [
      [1, 0, 1, 1],
      [0, 1, 0, 0],
      [1, 1, 1, 1],
    ]);
    const added = visible(3, 4, (i, j) => flags.values()[4 * i + j] === 1);
    const [a] = run('Attention', [q, k, v, flags]);
    const [b] = run('Attention', [q, k, v, added]);
    expect(distance(a!, b!)).toBe(0);
  });

  test('gives a query that may see nothing a result of zero and no weights', () => {
    const [q, k, v] = [random(1, [1, 1, 2, 4]), random(2, [1, 1, 3, 4]), random(3, [1, 1, 3, 2])];
    const mask = Tensor.of('bool', [
      [0, 0, 0],
      [1, 0, 0],
    ]);
    const [y, , , weights] = run('Attention', [q, k, v, mask], {
      attributes: { qk_matmul_output_mode: 3 },
      outputs: 4,
    });
    expect(weights!.toArray()).toEqual([
      [
        [
          [0, 0, 0],
          [1, 0, 0],
        ],
      ],
    ]);
    expect(y!.values().slice(0, 2)).toEqual([0, 0]);
    expect(y!.values().slice(2)).toEqual(v.values().slice(0, 2));
  });

  test('hides the keys after the end of a short mask, from opset 24 on', () => {
    const [q, k, v] = [random(1, [1, 1, 2, 4]), random(2, [1, 1, 3, 4]), random(3, [1, 1, 3, 4])];
    const short = random(4, [2, 2]);
    const full = one('Concat', [short, Tensor.of('f64', [[-Infinity], [-Infinity]])], { axis: 1 });
    expect(distance(one('Attention', [q, k, v, short]), one('Attention', [q, k, v, full]))).toBe(0);
    expect(refusal(() => one('Attention', [q, k, v, short], {}, 23))).toMatch(
      /INVALID_GRAPH: Attention "it": .*broadcast/,
    );
  });

  test('lets queries be the last of a cache that is filled to a length of each sample', () => {
    const [q, k, v] = [random(1, [2, 1, 2, 4]), random(2, [2, 1, 5, 4]), random(3, [2, 1, 5, 4])];
    const filled = Tensor.of('i64', [3n, 5n]);
    const [y] = run('Attention', [q, k, v, undefined, undefined, undefined, filled], { attributes: { is_causal: 1 } });
    for (const [sample, length] of [3, 5].entries()) {
      const of = (x: Tensor): Tensor => x.slice({ axis: 0, start: sample, end: sample + 1 });
      const bias = visible(2, 5, (i, j) => j <= i + length - 2);
      expect(distance(of(y!), composed(of(q), of(k), of(v), { scale: 0.5, bias }))).toBeLessThan(1e-14);
    }
  });

  test('computes halves in single precision and rounds once', () => {
    const [q, k, v] = [1, 2, 3].map(seed => random(seed, [1, 2, 3, 4], 'f16'));
    const wide = run('Attention', [q!.cast('f32'), k!.cast('f32'), v!.cast('f32')])[0]!;
    expect(distance(run('Attention', [q!, k!, v!])[0]!, wide.cast('f16'))).toBe(0);
  });

  test('of nothing is nothing, and of no keys is zero', () => {
    const empty = (shape: readonly number[]): Tensor => Tensor.zeros('f32', shape);
    expect(one('Attention', [empty([0, 1, 2, 3]), empty([0, 1, 2, 3]), empty([0, 1, 2, 3])]).shape).toEqual([
      0, 1, 2, 3,
    ]);
    expect(
      one('Attention', [random(1, [1, 1, 1, 2]), random(2, [1, 1, 0, 2]), random(3, [1, 1, 0, 2])]).toArray(),
    ).toEqual([[[[0, 0]]]]);
  });

  test('names its sizes after those of its inputs', () => {
    const facts = (shape: readonly (number | string)[]) => ({ dtype: 'f32', shape }) as const;
    const inputs = [
      facts(['B', 'S', 64]),
      facts(['B', 'L', 64]),
      facts(['B', 'L', 64]),
      undefined,
      facts(['B', 4, 'P', 16]),
      facts(['B', 4, 'P', 16]),
    ];
    const shapes = infer('Attention', inputs, { attributes: { q_num_heads: 4, kv_num_heads: 4 }, outputs: 4 });
    expect(shapes.map(({ shape }) => shape)).toEqual([
      ['B', 'S', 64],
      ['B', 4, 'L+P', 16],
      ['B', 4, 'L+P', 16],
      ['B', 4, 'S', 'L+P'],
    ]);
  });

  test('refuses what does not fit, and names the node', () => {
    const q = random(1, [1, 3, 2, 4]);
    const refused = (inputs: readonly (Tensor | undefined)[], attributes = {}): string =>
      refusal(() => run('Attention', inputs, { attributes }));
    expect(refused([q, random(2, [1, 2, 2, 4]), random(3, [1, 2, 2, 4])])).toContain(
      'Attention "it": 3 heads cannot share 2',
    );
    expect(refused([q, random(2, [1, 3, 2, 5]), q])).toContain('head sizes of inputs 0 and 1: 4 and 5 differ');
    expect(refused([q, q, q], { qk_matmul_output_mode: 4 })).toContain('qk_matmul_output_mode: expected 0 to 3');
    expect(refused([q, q, q], { softcap: -1 })).toContain('softcap');
    expect(refused([q, q, q], { softmax_precision: 7 })).toContain('softmax_precision');
    expect(refused([q, q, q, undefined, q])).toContain('past keys and past values come together');
    expect(refused([q, q, q, random(4, [2, 3])])).toContain('a mask of 3 keys, of which there are 2');
    const flat = random(1, [1, 2, 7]);
    expect(refused([flat, flat, flat])).toContain('q_num_heads is required');
    expect(refused([flat, flat, flat], { q_num_heads: 2, kv_num_heads: 2 })).toContain('7 cannot be cut into 2 heads');
    expect(refused([flat, flat, flat], { q_num_heads: 0, kv_num_heads: 1 })).toContain('expected at least 1, got 0');
  });
});

describe('TensorScatter', () => {
  const cache = Tensor.of('i32', [
    [[0], [0], [0], [0]],
    [[0], [0], [0], [0]],
  ]);
  const update = Tensor.of('i32', [
    [[1], [2]],
    [[3], [4]],
  ]);

  test('writes rows from an index of each sample on, and leaves the cache alone', () => {
    const [y] = run('TensorScatter', [cache, update, Tensor.of('i64', [2n, 0n])]);
    expect(y!.toArray()).toEqual([
      [[0], [0], [1], [2]],
      [[3], [4], [0], [0]],
    ]);
    expect(cache.values()).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
    expect(run('TensorScatter', [cache, update])[0]!.toArray()).toEqual([
      [[1], [2], [0], [0]],
      [[3], [4], [0], [0]],
    ]);
  });

  test('begins anew at the end of a circular cache, along any axis', () => {
    const attributes = { mode: 'circular', axis: 1 };
    const [y] = run('TensorScatter', [cache, update, Tensor.of('i64', [3n, 7n])], { attributes });
    expect(y!.toArray()).toEqual([
      [[2], [0], [0], [1]],
      [[4], [0], [0], [3]],
    ]);
  });

  test('moves strings as well', () => {
    const [y] = run('TensorScatter', [Tensor.of('string', [['a'], ['b']]), Tensor.of('string', [['c'], ['d']])], {
      attributes: { axis: 1 },
    });
    expect(y!.toArray()).toEqual([['c'], ['d']]);
  });

  test('refuses rows outside the cache', () => {
    const at = (start: bigint, attributes = {}): string =>
      refusal(() => run('TensorScatter', [cache, update, Tensor.of('i64', [start, 0n])], { attributes }));
    expect(at(3n)).toContain('SHAPE_MISMATCH: TensorScatter "it": rows 3 to 5 of a cache of 4');
    expect(at(-1n)).toContain('rows -1 to 1');
    expect(at(0n, { mode: 'spiral' })).toContain('attribute mode');
    expect(at(0n, { axis: 0 })).toContain('axis 0 is the batch');
    expect(refusal(() => run('TensorScatter', [update, cache]))).toContain('4 rows into a cache of 2');
  });
});
