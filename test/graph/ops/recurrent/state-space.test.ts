import { describe, expect, test } from 'vitest';
import { Tensor } from '../../../../src/tensor/index.ts';
import { distance, infer, type NodeOptions, numbers, random, refusal, run } from '../one-node.ts';

type Given = Tensor | undefined;

const at27 = (attributes: NodeOptions['attributes'] = {}): NodeOptions => ({ attributes, opset: 27, outputs: 2 });
const part = (x: Tensor, axis: number, start: number, end: number): Tensor => x.slice({ axis, start, end });
const join = (axis: number, ...parts: readonly Tensor[]): Tensor => run('Concat', parts, { attributes: { axis } })[0]!;
const map = (x: Tensor, f: (value: number) => number): Tensor =>
  Tensor.from('f64', x.shape, Float64Array.from(numbers(x), f));

describe('CausalConvWithState', () => {
  const conv = (inputs: readonly Given[], attributes: NodeOptions['attributes'] = {}): readonly Tensor[] =>
    run('CausalConvWithState', inputs, at27(attributes));
  const [x, w, bias, past] = [random(1, [2, 3, 6]), random(2, [3, 1, 4]), random(3, [3]), random(4, [2, 3, 3])];

  test('is a convolution per channel over the past and the input', () => {
    for (const before of [undefined, past]) {
      const all = join(2, before ?? Tensor.zeros('f64', [2, 3, 3]), x);
      const [y, state] = conv([x, w, bias, before]);
      expect(distance(y!, run('Conv', [all, w, bias], { attributes: { group: 3 } })[0]!)).toBeLessThan(1e-12);
      expect(distance(state!, part(all, 2, 6, 9))).toBe(0);
    }
  });

  test('goes on from its state as if it had never stopped', () => {
    const whole = conv([x, w, bias])[0]!;
    for (const stop of [1, 2, 5]) {
      const [first, state] = conv([part(x, 2, 0, stop), w, bias]);
      const [second] = conv([part(x, 2, stop, 6), w, bias, state]);
      expect(distance(join(2, first!, second!), whole)).toBe(0);
    }
  });

  test('passes its result through SiLU, which has two names', () => {
    const plain = conv([x, w])[0]!;
    const want = map(plain, value => value / (1 + Math.exp(-value)));
    for (const activation of ['silu', 'swish']) {
      expect(distance(conv([x, w], { activation })[0]!, want)).toBeLessThan(1e-15);
    }
  });

  test('keeps no state for a kernel of one, and zeros before a short input', () => {
    const [y, state] = conv([Tensor.of('f32', [[[1, 2]]]), Tensor.of('f32', [[[3]]])]);
    expect([y!.toArray(), state!.shape]).toEqual([[[[3, 6]]], [1, 1, 0]]);
    const [, kept] = conv([Tensor.of('f32', [[[1, 2]]]), Tensor.of('f32', [[[1, 1, 1, 1, 1]]])]);
    expect(kept!.toArray()).toEqual([[[0, 0, 1, 2]]]);
  });

  test('rounds halves once', () => {
    const [y, state] = conv([x.cast('f16'), w.cast('f16')]);
    expect([y!.dtype, state!.dtype]).toEqual(['f16', 'f16']);
    expect(distance(y!.cast('f64'), conv([x.cast('f16').cast('f64'), w.cast('f16').cast('f64')])[0]!)).toBeLessThan(
      1e-3,
    );
  });

  test('refuses what does not fit', () => {
    expect(refusal(() => conv([x, random(1, [2, 1, 4])]))).toContain('channels of inputs 0 and 1');
    expect(refusal(() => conv([x, random(1, [3, 2, 4])]))).toContain('axis 1 of the weights');
    expect(refusal(() => conv([x, w, random(1, [2])]))).toContain('channels and biases');
    expect(refusal(() => conv([x, w, undefined, random(1, [2, 3, 4])]))).toContain('axis 2 of the state');
    expect(refusal(() => conv([x, random(1, [3, 1, 0])]))).toContain('a kernel without elements');
    expect(refusal(() => conv([x, w], { activation: 'relu' }))).toContain('"relu" is unknown');
  });

  test('names its sizes after those of its inputs', () => {
    const facts = infer(
      'CausalConvWithState',
      [
        { dtype: 'f32', shape: ['N', 8, 'L'] },
        { dtype: 'f32', shape: [8, 1, 'k'] },
      ],
      at27(),
    );
    expect(facts[0]!.shape).toEqual(['N', 8, 'L']);
    expect(facts[1]!.shape).toEqual(['N', 8, expect.stringMatching(/^\(?k-1\)?$/)]);
  });
});

describe('LinearAttention', () => {
  const [batch, steps, heads, size, valueSize] = [2, 5, 4, 3, 2] as const;
  const q = random(1, [batch, steps, heads * size]);
  const k = random(2, [batch, steps, heads * size]);
  const v = random(3, [batch, steps, heads * valueSize]);
  const beta = map(random(4, [batch, steps, heads]), value => (value + 1) / 2);
  const decay = map(random(5, [batch, steps, heads * size]), value => -Math.abs(value));
  const past = random(6, [batch, heads, size, valueSize]);
  const all = [q, k, v, past, decay, beta] as const;
  const attend = (rule: string, inputs: readonly Given[], more: NodeOptions['attributes'] = {}): readonly Tensor[] =>
    run('LinearAttention', inputs, at27({ q_num_heads: heads, kv_num_heads: heads, update_rule: rule, ...more }));

  test('without a gate is attention to the past without a softmax', () => {
    const [y] = attend('linear', [q, k, v]);
    const [Q, K, V] = [q, k, v].map(numbers) as [number[], number[], number[]];
    const want = new Float64Array(batch * steps * heads * valueSize);
    for (let i = 0; i < want.length; i++) {
      const [m, h] = [i % valueSize, Math.floor(i / valueSize) % heads];
      const row = Math.floor(i / (valueSize * heads));
      for (let other = row - (row % steps); other <= row; other++) {
        let score = 0;
        for (let d = 0; d < size; d++) score += Q[(row * heads + h) * size + d]! * K[(other * heads + h) * size + d]!;
        want[i]! += (score * V[(other * heads + h) * valueSize + m]!) / Math.sqrt(size);
      }
    }
    expect(distance(y!, Tensor.from('f64', y!.shape, want))).toBeLessThan(1e-12);
  });

  test.each(['linear', 'gated', 'delta', 'gated_delta'])('goes on from its state, by the rule %s', rule => {
    const given = all.map((x, i) =>
      (i === 4 && !rule.includes('gated')) || (i === 5 && !rule.includes('delta')) ? undefined : x,
    );
    const [whole, last] = attend(rule, given);
    const cut = (start: number, end: number, state: Tensor): readonly Given[] =>
      given.map((x, i) => (i === 3 ? state : x && part(x, 1, start, end)));
    const [first, between] = attend(rule, cut(0, 2, past));
    const [second, end] = attend(rule, cut(2, steps, between!));
    expect(distance(join(1, first!, second!), whole!)).toBeLessThan(1e-12);
    expect(distance(end!, last!)).toBeLessThan(1e-12);
  });

  test('fades by the exponential of the decay, per key or per head', () => {
    const never = Tensor.zeros('f64', decay.shape);
    expect(distance(attend('gated', [q, k, v, past, never])[0]!, attend('linear', [q, k, v, past])[0]!)).toBe(0);
    const perHead = random(7, [batch, steps, heads]);
    const spread = Tensor.from(
      'f64',
      decay.shape,
      Float64Array.from({ length: decay.size }, (_, i) => numbers(perHead)[Math.floor(i / size)]!),
    );
    const want = attend('gated', [q, k, v, past, spread])[0]!;
    expect(distance(attend('gated', [q, k, v, past, perHead])[0]!, want)).toBe(0);
    // What one step keeps of a state, where its key writes nothing.
    const nothing = Tensor.zeros('f64', [1, 1, 1]);
    const one = (x: number): Tensor => Tensor.from('f64', [1, 1, 1], Float64Array.of(x));
    const heads1 = { q_num_heads: 1, kv_num_heads: 1 };
    const [, state] = attend('gated', [nothing, nothing, nothing, Tensor.of('f64', [[[[8]]]]), one(-Math.LN2)], heads1);
    expect(numbers(state!)[0]).toBeCloseTo(4, 12);
  });

  test('by the delta rule with a rate of 1 puts a value in the place of what a unit key held', () => {
    const heads1 = { q_num_heads: 1, kv_num_heads: 1, scale: 1 };
    const key = Tensor.of('f64', [[[0.6, 0.8]]]);
    const [y] = attend(
      'delta',
      [key, key, Tensor.of('f64', [[[5, 7]]]), random(8, [1, 1, 2, 2]), undefined, Tensor.of('f64', [[[1]]])],
      heads1,
    );
    expect(numbers(y!)[0]).toBeCloseTo(5, 12);
    expect(numbers(y!)[1]).toBeCloseTo(7, 12);
  });

  test('lets neighbouring queries share a state, and all heads one rate', () => {
    const [k2, v2] = [part(k, 2, 0, 2 * size), part(v, 2, 0, 2 * valueSize)];
    const twice = (x: Tensor, width: number): Tensor => {
      const [first, second] = [part(x, 2, 0, width), part(x, 2, width, 2 * width)];
      return join(2, first, first, second, second);
    };
    const shared = attend('linear', [q, k2, v2], { kv_num_heads: 2 })[0]!;
    expect(distance(shared, attend('linear', [q, twice(k2, size), twice(v2, valueSize)])[0]!)).toBe(0);
    const single = part(beta, 2, 0, 1);
    const same = attend('delta', [q, k, v, past, undefined, join(2, single, single, single, single)])[0]!;
    expect(distance(attend('delta', [q, k, v, past, undefined, single])[0]!, same)).toBe(0);
  });

  test('has a state of its own dtype', () => {
    const half = [q, k, v].map(x => x.cast('f16'));
    const [y, state] = attend('linear', [...half, past.cast('f32')]);
    expect([y!.dtype, state!.dtype]).toEqual(['f16', 'f32']);
    const none = attend('linear', half)[1]!;
    expect(none.dtype).toBe('f16');
  });

  test('refuses what its rule does not take, and sizes that do not fit', () => {
    expect(refusal(() => attend('gated', [q, k, v]))).toContain('needs a decay');
    expect(refusal(() => attend('linear', all))).toContain('takes no decay');
    expect(refusal(() => attend('delta', [q, k, v]))).toContain('needs a beta');
    expect(refusal(() => attend('else', [q, k, v]))).toContain('"else" is unknown');
    expect(refusal(() => attend('linear', [q, k, v], { kv_num_heads: 3 }))).toContain('4 heads cannot share 3');
    expect(refusal(() => attend('linear', [q, k, v], { q_num_heads: 0 }))).toContain('cannot share');
    expect(refusal(() => attend('gated', [q, k, v, past, random(1, [batch, steps, 5])]))).toContain('of 5 numbers');
    expect(refusal(() => attend('linear', [q, k, v, random(1, [batch, heads, size, 9])]))).toContain(
      'axis 3 of the state',
    );
  });

  test('of no values is nothing, whatever the sizes beside them', () => {
    const empty = Tensor.zeros('f32', [1, 1, 0]);
    const long = Tensor.zeros('f32', [1, 2 ** 30, 0]);
    const heads1 = { q_num_heads: 1, kv_num_heads: 1 };
    expect(attend('linear', [long, long, long], heads1).map(({ shape }) => shape)).toEqual([
      [1, 2 ** 30, 0],
      [1, 1, 0, 0],
    ]);
    expect(attend('linear', [empty, empty, Tensor.zeros('f32', [1, 1, 4])], heads1)[0]!.toArray()).toEqual([
      [[0, 0, 0, 0]],
    ]);
  });
});

describe('SwiGLU', () => {
  test('lets its second input through by the Swish of the first', () => {
    const [a, b] = [random(1, [2, 3]), random(2, [2, 3])];
    for (const alpha of [1, 0.5, -2]) {
      const [swish] = run('Swish', [a], { attributes: { alpha } });
      const [want] = run('Mul', [swish, b]);
      expect(distance(run('SwiGLU', [a, b], { attributes: { alpha }, opset: 28 })[0]!, want!)).toBeLessThan(1e-15);
    }
    expect(run('SwiGLU', [Tensor.of('f16', [0, 1]), Tensor.of('f16', [5, 0])], { opset: 28 })[0]!.toArray()).toEqual([
      0, 0,
    ]);
    expect(refusal(() => run('SwiGLU', [a, b], { opset: 27 }))).toContain('no kernel for SwiGLU-27');
  });
});
