import { describe, expect, test } from 'vitest';
import { Tensor } from '../../../../src/tensor/index.ts';
import { infer, numbers, random, refusal, run } from '../one-node.ts';

/** (batch 2, classes 3, places 2) */
const logs = Tensor.of('f32', [
  [
    [-1, -2],
    [-3, -4],
    [-5, -6],
  ],
  [
    [-0.5, -1.5],
    [-2.5, -3.5],
    [-4.5, -5.5],
  ],
]);
const labels = Tensor.of('i64', [
  [0n, 2n],
  [1n, 1n],
]);
const weights = Tensor.of('f32', [1, 2, 4]);
const nll = (inputs: readonly (Tensor | undefined)[], attributes = {}): Tensor =>
  run('NegativeLogLikelihoodLoss', inputs, { attributes })[0]!;

describe('NegativeLogLikelihoodLoss', () => {
  test('picks what stands under each label, and turns its sign', () => {
    expect(nll([logs, labels], { reduction: 'none' }).toArray()).toEqual([
      [1, 6],
      [2.5, 3.5],
    ]);
    expect(nll([logs, labels], { reduction: 'sum' }).toArray()).toBe(13);
    expect(nll([logs, labels]).toArray()).toBe(3.25);
  });

  test('weighs classes, and takes the mean over weights', () => {
    // Weights of the labels: 1 4 2 2.
    expect(nll([logs, labels, weights], { reduction: 'none' }).toArray()).toEqual([
      [1, 24],
      [5, 7],
    ]);
    expect(nll([logs, labels, weights], { reduction: 'sum' }).toArray()).toBe(37);
    expect(nll([logs, labels, weights]).toArray()).toBeCloseTo(37 / 9, 6);
  });

  test('leaves an ignored label out of the sum and of the mean, be it a class or none', () => {
    expect(nll([logs, labels], { ignore_index: 1 }).toArray()).toBe(3.5);
    expect(nll([logs, labels, weights], { ignore_index: 1 }).toArray()).toBe(5);
    const odd = Tensor.of('i32', [
      [-7, 2],
      [1, -7],
    ]);
    expect(nll([logs, odd], { ignore_index: -7, reduction: 'none' }).toArray()).toEqual([
      [0, 6],
      [2.5, 0],
    ]);
    expect(nll([logs, odd], { ignore_index: -7 }).toArray()).toBe(4.25);
  });

  test('of nothing sums to 0 and has no mean', () => {
    const none = [Tensor.zeros('f32', [0, 3]), Tensor.zeros('i64', [0])];
    expect(nll(none, { reduction: 'sum' }).toArray()).toBe(0);
    expect(nll(none).toArray()).toBeNaN();
    expect(nll(none, { reduction: 'none' }).shape).toEqual([0]);
  });

  test('takes halves, and labels without places', () => {
    const x = Tensor.of('f16', [
      [-1, -2],
      [-3, -4],
    ]);
    const loss = nll([x, Tensor.of('i32', [1, 0])]);
    expect([loss.dtype, loss.toArray()]).toEqual(['f16', 2.5]);
  });

  test('refuses labels that are no class, and shapes that do not fit', () => {
    const label = Tensor.of('i64', [3n]);
    const x = Tensor.zeros('f32', [1, 3]);
    expect(refusal(() => nll([x, label]))).toContain('label 3 is none of 3 classes');
    expect(refusal(() => nll([x, Tensor.of('i64', [-1n])]))).toContain('label -1 is none');
    expect(refusal(() => nll([x, Tensor.zeros('i64', [2])]))).toContain('INVALID_GRAPH');
    expect(refusal(() => nll([x, Tensor.zeros('i64', [1]), Tensor.zeros('f32', [4])]))).toContain('INVALID_GRAPH');
    expect(refusal(() => nll([x, Tensor.zeros('i64', [1])], { reduction: 'most' }))).toContain('none, sum, mean');
    expect(refusal(() => nll([Tensor.zeros('f32', [3]), Tensor.zeros('i64', [])]))).toContain('a batch and classes');
  });

  test('knows its shape from symbols', () => {
    const facts = infer(
      'NegativeLogLikelihoodLoss',
      [
        { dtype: 'f32', shape: ['N', 5, 'H'] },
        { dtype: 'i64', shape: ['N', 7] },
      ],
      { attributes: { reduction: 'none' } },
    );
    expect(facts[0]).toEqual({ dtype: 'f32', shape: ['N', 7] });
  });
});

describe('SoftmaxCrossEntropyLoss', () => {
  test.each(['none', 'sum', 'mean'])('is the loss of LogSoftmax over the classes, reduced by %s', reduction => {
    const x = random(1, [4, 5, 2, 3], 'f32');
    const picked = random(2, [4, 2, 3])
      .values()
      .map(value => BigInt(Math.floor((Number(value) + 1) * 2.5)));
    const y = Tensor.from('i64', [4, 2, 3], BigInt64Array.from(picked));
    const w = Tensor.of('f32', [0.1, 0.7, 0.3, 0.9, 0.2]);
    const attributes = { reduction, ignore_index: 2 };
    const [log] = run('LogSoftmax', [x], { attributes: { axis: 1 } });
    for (const weight of [undefined, w]) {
      const [loss, kept] = run('SoftmaxCrossEntropyLoss', [x, y, weight], { attributes, outputs: 2 });
      const want = numbers(nll([log, y, weight], attributes));
      numbers(loss!).forEach((value, i) => {
        expect(value).toBeCloseTo(want[i]!, 5);
      });
      expect(loss!.shape).toEqual(reduction === 'none' ? [4, 2, 3] : []);
      numbers(kept!).forEach((value, i) => {
        expect(value).toBeCloseTo(numbers(log!)[i]!, 5);
      });
    }
  });

  test('is the logarithm of the number of classes where all scores are equal, however large', () => {
    const x = Tensor.from('f32', [2, 8], new Float32Array(16).fill(1e30));
    const [loss] = run('SoftmaxCrossEntropyLoss', [x, Tensor.of('i64', [0n, 7n])]);
    expect(loss!.toArray()).toBeCloseTo(Math.log(8), 6);
  });

  test('loops over no classes that are not there', () => {
    const x = Tensor.zeros('f32', [1, 2 ** 30, 0]);
    const [loss, log] = run('SoftmaxCrossEntropyLoss', [x, Tensor.zeros('i64', [1, 0])], {
      attributes: { reduction: 'sum' },
      outputs: 2,
    });
    expect([loss!.toArray(), log!.shape]).toEqual([0, [1, 2 ** 30, 0]]);
  });
});
