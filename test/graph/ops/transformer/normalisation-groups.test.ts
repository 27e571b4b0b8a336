import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Attribute } from '../../../../src/graph/index.ts';
import { Tensor } from '../../../../src/tensor/index.ts';
import { distance, type Inputs, numbers, random, refusal, run } from '../one-node.ts';

type Attributes = Readonly<Record<string, Attribute>>;
const one = (op: string, inputs: Inputs, attributes: Attributes = {}, opset = 24): Tensor =>
  run(op, inputs, { attributes, opset })[0]!;

/** Positive numbers. */
const positive = (seed: number, shape: readonly number[]): Tensor =>
  one('Add', [one('Abs', [random(seed, shape)]), Tensor.of('f64', 0.1)]);

/** (x - mean) / sqrt(variance + epsilon) * scale + bias, element by element, each by its own channel. */
function byChannel(x: Tensor, of: (element: number) => number, channels: number, epsilon: number) {
  const values = numbers(x);
  const members = Array.from({ length: channels }, (_, c) => values.filter((_value, i) => of(i) === c));
  const means = members.map(list => list.reduce((sum, value) => sum + value, 0) / list.length);
  const variances = members.map(
    (list, c) => list.reduce((sum, value) => sum + (value - means[c]!) ** 2, 0) / list.length,
  );
  const y = values.map((value, i) => (value - means[of(i)]!) / Math.sqrt(variances[of(i)]! + epsilon));
  return { y, means, variances };
}

const dims = fc.tuple(
  fc.integer({ min: 1, max: 3 }),
  fc.integer({ min: 1, max: 4 }),
  fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 3 }),
);

describe('BatchNormalization', () => {
  test('scales each channel by the statistics that it is given', () => {
    fc.assert(
      fc.property(dims, fc.constantFrom(1, 6, 7, 9, 14, 15), ([batch, channels, rest], opset) => {
        const x = random(1, [batch, channels, ...rest]);
        const [scale, bias, mean] = [2, 3, 4].map(seed => random(seed, [channels])) as [Tensor, Tensor, Tensor];
        const variance = positive(5, [channels]);
        const attributes = { epsilon: 0.01, ...(opset < 7 ? { is_test: 1 } : {}) };
        const column = (t: Tensor): Tensor => t.reshape([channels, ...rest.map(() => 1)]);
        const deviation = one('Sqrt', [one('Add', [variance, Tensor.of('f64', 0.01)])]);
        const normal = one('Div', [one('Sub', [x, column(mean)]), column(deviation)]);
        const expected = one('Add', [one('Mul', [normal, column(scale)]), column(bias)]);
        expect(
          distance(one('BatchNormalization', [x, scale, bias, mean, variance], attributes, opset), expected),
        ).toBeLessThan(1e-12);
      }),
    );
  });

  test('in training takes the statistics of the batch and moves the running ones', () => {
    const x = random(1, [3, 2, 4]);
    const [scale, bias, mean, variance] = [random(2, [2]), random(3, [2]), random(4, [2]), positive(5, [2])];
    const channel = (i: number): number => Math.floor(i / 4) % 2;
    const { y, means, variances } = byChannel(x, channel, 2, 1e-5);
    const expected = y.map((value, i) => value * numbers(scale)[channel(i)]! + numbers(bias)[channel(i)]!);
    const moved = (running: Tensor, current: readonly number[]): Tensor =>
      Tensor.of(
        'f64',
        current.map((value, i) => numbers(running)[i]! * 0.8 + value * 0.2),
      );
    const inputs = [x, scale, bias, mean, variance];
    const modern = run('BatchNormalization', inputs, {
      attributes: { training_mode: 1, momentum: 0.8 },
      opset: 15,
      outputs: 3,
    });
    const early = run('BatchNormalization', inputs, { attributes: { momentum: 0.8 }, opset: 9, outputs: 5 });
    const oldest = run('BatchNormalization', inputs, { attributes: { momentum: 0.8 }, opset: 6 });
    for (const results of [modern, early, oldest]) {
      expect(distance(results[0]!, Tensor.of('f64', expected).reshape([3, 2, 4]))).toBeLessThan(1e-12);
    }
    for (const results of [modern, early]) {
      expect(distance(results[1]!, moved(mean, means))).toBeLessThan(1e-14);
      expect(distance(results[2]!, moved(variance, variances))).toBeLessThan(1e-14);
    }
    expect(distance(early[3]!, Tensor.of('f64', means))).toBeLessThan(1e-14);
    expect(distance(early[4]!, Tensor.of('f64', variances))).toBeLessThan(1e-14);
  });

  test('before opset 9 has statistics of every element on request', () => {
    const x = random(1, [2, 3, 2]);
    const [scale, bias, mean, variance] = [
      random(2, [3, 2]),
      random(3, [3, 2]),
      random(4, [3, 2]),
      positive(5, [3, 2]),
    ];
    const deviation = one('Sqrt', [one('Add', [variance, Tensor.of('f64', 1e-5)])]);
    const expected = one('Add', [one('Mul', [one('Div', [one('Sub', [x, mean]), deviation]), scale]), bias]);
    const came = one('BatchNormalization', [x, scale, bias, mean, variance], { spatial: 0 }, 7);
    expect(distance(came, expected)).toBeLessThan(1e-12);
  });

  test('takes a vector as a batch of one channel, and statistics of another dtype from opset 15 on', () => {
    const single = Tensor.of('f32', [1]);
    const zero = Tensor.of('f32', [0]);
    const attributes = { epsilon: 0 };
    expect(
      one('BatchNormalization', [Tensor.of('f32', [1, 2]), single, zero, single, single], attributes).toArray(),
    ).toEqual([0, 1]);
    const half = one('BatchNormalization', [random(1, [2, 1], 'f16'), single, zero, zero, single], {}, 15);
    expect(half.dtype).toBe('f16');
    expect(
      refusal(() => one('BatchNormalization', [random(1, [2, 1], 'f16'), single, zero, zero, single], {}, 14)),
    ).toContain('of one dtype, got f16 and f32');
  });

  test('refuses channels that differ, and outputs of training without it', () => {
    const [x, c] = [random(1, [2, 3]), positive(2, [3])];
    const wrong = positive(2, [2]);
    expect(refusal(() => one('BatchNormalization', [x, c, c, c, wrong]))).toContain(
      'channels of inputs 0 and 4: 3 and 2 differ',
    );
    expect(refusal(() => run('BatchNormalization', [x, c, c, c, c], { outputs: 3 }))).toBe(
      'INVALID_GRAPH: BatchNormalization "it": outputs of training without training',
    );
  });
});

describe('InstanceNormalization and GroupNormalization', () => {
  test('normalise each channel, or each group of channels, of each sample', () => {
    fc.assert(
      fc.property(dims, fc.integer({ min: 1, max: 3 }), ([batch, groups, rest], parts) => {
        const channels = groups * parts;
        const inner = rest.reduce((product, size) => product * size, 1);
        const x = random(1, [batch, channels, ...rest]);
        const [scale, bias] = [random(2, [channels]), random(3, [channels])];
        const channel = (i: number): number => Math.floor(i / inner) % channels;
        const scaled = (y: readonly number[], at: (i: number) => number): Tensor =>
          Tensor.of(
            'f64',
            y.map((value, i) => value * numbers(scale)[at(i)]! + numbers(bias)[at(i)]!),
          ).reshape(x.shape);
        const instance = byChannel(x, i => Math.floor(i / inner), batch * channels, 0.1);
        const came = one('InstanceNormalization', [x, scale, bias], { epsilon: 0.1 }, 6);
        expect(distance(came, scaled(instance.y, channel))).toBeLessThan(1e-12);
        const { y } = byChannel(x, i => Math.floor(i / inner / parts), batch * groups, 0.1);
        const attributes = { epsilon: 0.1, num_groups: groups };
        const modern = one('GroupNormalization', [x, scale, bias], attributes, 21);
        expect(distance(modern, scaled(y, channel))).toBeLessThan(1e-12);
        const first = (t: Tensor): Tensor => t.slice({ axis: 0, end: groups });
        const early = one('GroupNormalization', [x, first(scale), first(bias)], attributes, 18);
        expect(
          distance(
            early,
            scaled(y, i => Math.floor(channel(i) / parts)),
          ),
        ).toBeLessThan(1e-12);
      }),
    );
  });

  test('com.microsoft.GroupNorm is the same with channels last, and a sigmoid linear unit on request', () => {
    const x = random(1, [2, 4, 3, 2]);
    const [scale, bias] = [random(2, [4]), random(3, [4])];
    const expected = one('GroupNormalization', [x, scale, bias], { num_groups: 2 });
    const came = (channels_last: number, activation: number): Tensor => {
      const input = channels_last ? x.transpose([0, 2, 3, 1]) : x;
      const attributes = { groups: 2, activation, channels_last };
      const [y] = run('GroupNorm', [input, scale, bias], { attributes, domain: 'com.microsoft' });
      return channels_last ? y!.transpose([0, 3, 1, 2]) : y!;
    };
    expect(distance(came(1, 0), expected)).toBe(0);
    expect(distance(came(0, 0), expected)).toBe(0);
    const unit = one('Mul', [expected, one('Sigmoid', [expected])]);
    expect(distance(came(1, 1), unit)).toBeLessThan(1e-15);
  });

  test('refuse groups that do not divide the channels', () => {
    const [x, c] = [random(1, [1, 3, 2]), random(2, [3])];
    for (const num_groups of [2, 0, -1]) {
      expect(refusal(() => one('GroupNormalization', [x, c, c], { num_groups }))).toBe(
        `INVALID_GRAPH: GroupNormalization "it": 3 channels cannot be cut into ${num_groups} groups`,
      );
    }
    expect(refusal(() => one('GroupNormalization', [x, c, c], { num_groups: 1 }, 18))).toContain(
      'groups of inputs 0 and 1',
    );
    expect(refusal(() => one('InstanceNormalization', [c, c, c]))).toContain('expected a batch and channels, got [3]');
  });
});

describe('MeanVarianceNormalization', () => {
  test('makes mean 0 and variance 1 over its axes', () => {
    const x = random(1, [2, 3, 4, 5]);
    const y = one('MeanVarianceNormalization', [x]);
    const channel = (i: number): number => Math.floor(i / 20) % 3;
    expect(distance(y, Tensor.of('f64', byChannel(x, channel, 3, 0).y).reshape(x.shape))).toBeLessThan(1e-7);
    const last = one('MeanVarianceNormalization', [x], { axes: [-1] }, 9);
    const rows = byChannel(x, i => Math.floor(i / 5), 24, 0);
    expect(distance(last, Tensor.of('f64', rows.y).reshape(x.shape))).toBeLessThan(1e-7);
  });

  test('before opset 9 takes all axes but the channels, or with them, and may leave the variance', () => {
    const x = random(1, [2, 3, 4]);
    const channel = (i: number): number => Math.floor(i / 4) % 3;
    const apart = byChannel(x, channel, 3, 0);
    const across = byChannel(x, () => 0, 1, 0);
    const of = (attributes: Attributes): Tensor => one('MeanVarianceNormalization', [x], attributes, 1);
    const tensor = (y: readonly number[]): Tensor => Tensor.of('f64', y).reshape(x.shape);
    expect(distance(of({}), tensor(apart.y))).toBeLessThan(1e-7);
    expect(distance(of({ across_channels: 1 }), tensor(across.y))).toBeLessThan(1e-7);
    const shifted = numbers(x).map((value, i) => value - apart.means[channel(i)]!);
    expect(distance(of({ normalize_variance: 0 }), tensor(shifted))).toBeLessThan(1e-15);
  });
});

describe('LRN', () => {
  test('divides by the squares of the channels in its window', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 8 }), (channels, size) => {
        const x = random(1, [2, channels, 3]);
        const at = (n: number, c: number, i: number): number => numbers(x)[(n * channels + c) * 3 + i]!;
        const y = one('LRN', [x], { size, alpha: 0.5, beta: 0.6, bias: 2 }).values() as number[];
        y.forEach((value, index) => {
          const [n, c, i] = [Math.floor(index / channels / 3), Math.floor(index / 3) % channels, index % 3];
          let sum = 0;
          for (let near = c - Math.floor((size - 1) / 2); near <= c + Math.ceil((size - 1) / 2); near++) {
            if (near >= 0 && near < channels) sum += at(n, near, i) ** 2;
          }
          expect(value).toBeCloseTo(at(n, c, i) / (2 + (0.5 / size) * sum) ** 0.6, 12);
        });
      }),
    );
  });

  test('refuses a window of no channels', () => {
    expect(refusal(() => one('LRN', [random(1, [1, 2, 2])], { size: 0 }))).toContain('LRN "it": attribute size');
  });
});
