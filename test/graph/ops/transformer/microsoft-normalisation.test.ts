import { describe, expect, test } from 'vitest';
import type { Attribute } from '../../../../src/graph/index.ts';
import { Tensor } from '../../../../src/tensor/index.ts';
import { distance, type Inputs, random, refusal, run } from '../one-node.ts';

type Attributes = Readonly<Record<string, Attribute>>;
const onnx = (op: string, inputs: Inputs, attributes: Attributes = {}): Tensor => run(op, inputs, { attributes })[0]!;
const fused = (op: string, inputs: Inputs, outputs: number, attributes: Attributes = {}): readonly Tensor[] =>
  run(op, inputs, { attributes, domain: 'com.microsoft', outputs });

describe('SkipLayerNormalization', () => {
  const [x, skip] = [random(1, [2, 3, 4], 'f32'), random(2, [2, 3, 4], 'f32')];
  const [gamma, beta, bias] = [random(3, [4], 'f32'), random(4, [4], 'f32'), random(5, [4], 'f32')];

  test('normalises the sum of its inputs and hands it out', () => {
    const sum = onnx('Add', [onnx('Add', [x, skip]), bias]);
    const [expected, mean, inverse] = run('LayerNormalization', [sum, gamma, beta], {
      attributes: { epsilon: 1e-12 },
      outputs: 3,
    });
    const came = fused('SkipLayerNormalization', [x, skip, gamma, beta, bias], 4);
    expect([expected!, mean!, inverse!, sum].map((tensor, i) => distance(tensor, came[i]!))).toEqual([0, 0, 0, 0]);
    const [plain] = fused('SkipLayerNormalization', [x, skip, gamma], 1, { epsilon: 0.5 });
    expect(distance(plain!, onnx('LayerNormalization', [onnx('Add', [x, skip]), gamma], { epsilon: 0.5 }))).toBe(0);
  });

  test('skips one sample for a whole batch', () => {
    const single = random(6, [1, 3, 4], 'f32');
    const [y] = fused('SkipLayerNormalization', [x, single, gamma, beta], 1);
    const [flat] = fused('SkipLayerNormalization', [x, single.reshape([3, 4]), gamma, beta], 1);
    const expected = onnx('LayerNormalization', [onnx('Add', [x, single]), gamma, beta], { epsilon: 1e-12 });
    expect(distance(y!, expected)).toBe(0);
    expect(distance(flat!, expected)).toBe(0);
  });

  test('simplified, divides by the root mean square', () => {
    const sum = onnx('Add', [onnx('Add', [x, skip]), bias]);
    const b = { domain: 'com.microsoft', outputs: 1 };
    const [y] = run('SkipSimplifiedLayerNormalization', [x, skip, gamma, bias], b);
    expect(distance(y!, onnx('RMSNormalization', [sum, gamma], { epsilon: 1e-12 }))).toBe(0);
    expect(refusal(() => fused('SkipSimplifiedLayerNormalization', [x, skip, gamma], 2))).toContain(
      'UNSUPPORTED_MODEL',
    );
  });

  test('refuses what does not fit, and names the node', () => {
    const refused = (inputs: Inputs): string => refusal(() => fused('SkipLayerNormalization', inputs, 1));
    expect(refused([x, random(2, [2, 2, 4], 'f32'), gamma])).toBe(
      'INVALID_GRAPH: SkipLayerNormalization "it": axis 1 of inputs 0 and 1: 3 and 2 differ',
    );
    expect(refused([x, random(2, [1, 2, 3, 4], 'f32'), gamma])).toContain('has more dimensions');
    expect(refused([x, skip, random(3, [3], 'f32')])).toContain('sizes of inputs 0 and 2');
  });
});

describe('EmbedLayerNormalization', () => {
  const ids = Tensor.of('i32', [
    [1, 0, 4],
    [2, 2, 3],
  ]);
  const segmentIds = Tensor.of('i32', [
    [0, 1, 1],
    [0, 0, 1],
  ]);
  const [words, positions, segments] = [random(1, [5, 4]), random(2, [6, 4]), random(3, [2, 4])];
  const [gamma, beta] = [random(4, [4]), random(5, [4])];
  const mask = Tensor.of('i32', [
    [1, 1, 0],
    [1, 0, 0],
  ]);

  test('normalises the sum of three embeddings and counts the words', () => {
    const places = Tensor.of('i32', [[2, 3, 5]]);
    const embedded = [
      onnx('Gather', [words, ids]),
      onnx('Gather', [positions, places]),
      onnx('Gather', [segments, segmentIds]),
    ];
    const sum = onnx('Sum', embedded);
    const inputs = [ids, segmentIds, words, positions, segments, gamma, beta, mask, places];
    const [y, lengths, total] = fused('EmbedLayerNormalization', inputs, 3, { epsilon: 0.25 });
    expect(distance(y!, onnx('LayerNormalization', [sum, gamma, beta], { epsilon: 0.25 }))).toBeLessThan(1e-15);
    expect(distance(total!, sum)).toBeLessThan(1e-15);
    expect(lengths!.toArray()).toEqual([2, 1]);
  });

  test('does without segments, a mask and positions', () => {
    const sum = onnx('Add', [onnx('Gather', [words, ids]), positions.slice({ axis: 0, end: 3 })]);
    const inputs = [ids, undefined, words, positions, undefined, gamma, beta];
    const [y, lengths] = fused('EmbedLayerNormalization', inputs, 2);
    expect(distance(y!, onnx('LayerNormalization', [sum, gamma, beta], { epsilon: 1e-12 }))).toBeLessThan(1e-15);
    expect(lengths!.toArray()).toEqual([0, 0]);
  });

  test('refuses ids outside an embedding, and half of the segments', () => {
    const of = (inputs: Inputs): string => refusal(() => fused('EmbedLayerNormalization', inputs, 1));
    const tables = [words, positions, undefined, gamma, beta];
    expect(of([Tensor.of('i32', [[5]]), undefined, ...tables])).toBe(
      'SHAPE_MISMATCH: EmbedLayerNormalization "it": an index is outside an embedding of 5',
    );
    expect(of([Tensor.of('i32', [[-1]]), undefined, ...tables])).toContain('an index is outside');
    expect(of([Tensor.zeros('i32', [1, 7]), undefined, ...tables])).toContain('an index is outside an embedding of 6');
    expect(of([ids, segmentIds, ...tables])).toContain('come together');
    expect(of([ids, undefined, words, positions])).toContain('input 5 is missing');
  });
});
