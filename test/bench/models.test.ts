import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { disagreement } from '../../bench/agreement.ts';
import { bert, bertFlops } from '../../bench/models/bert.ts';
import { logisticRegression, mlp } from '../../bench/models/dense.ts';
import { models } from '../../bench/models/index.ts';
import { kernelCases } from '../../bench/models/kernel-cases.ts';
import { mobileNetV2 } from '../../bench/models/mobilenet.ts';
import { integerTensor, normalTensor } from '../../bench/models/network.ts';
import { oneNode } from '../../bench/models/one-node.ts';
import { treeEnsemble } from '../../bench/models/trees.ts';
import { seededRandom } from '../../examples/digits/random.ts';
import { type NamedTensors, referenceBackend } from '../../src/engine/index.ts';
import { bytesSource, parseOnnx, writeOnnx } from '../../src/formats/index.ts';
import { type Graph, graphDigest, inferFacts } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';

const normals = (...shape: number[]) => normalTensor(seededRandom(9), shape);
const smallBert = { layers: 2, hidden: 16, heads: 4, sequence: 6, vocabulary: 30 };
const tokens = (): NamedTensors => ({
  input_ids: integerTensor(seededRandom(1), 'i64', [1, 6], 0, 29),
  attention_mask: Tensor.of('i64', [[1, 1, 1, 1, 0, 0]]),
  token_type_ids: Tensor.zeros('i64', [1, 6]),
});

const generators: readonly [string, (seed: number) => Graph, () => NamedTensors, readonly number[]][] = [
  ['mlp', seed => mlp([6, 5, 3], { seed }), () => ({ x: normals(1, 6) }), [1, 3]],
  ['logistic regression', seed => logisticRegression(7, { seed }), () => ({ x: normals(1, 7) }), [1, 1]],
  ['bert', seed => bert({ ...smallBert, seed }), tokens, [1, 6, 16]],
  ['bert, decomposed', seed => bert({ ...smallBert, layerNorm: 'decomposed', seed }), tokens, [1, 6, 16]],
  [
    'mobilenet',
    seed => mobileNetV2({ size: 32, classes: 5, width: 0.25, seed }),
    () => ({ input: normals(1, 3, 32, 32) }),
    [1, 5],
  ],
  ['trees', seed => treeEnsemble({ trees: 3, depth: 2, features: 4, seed }), () => ({ x: normals(5, 4) }), [5, 1]],
];

describe.each(generators)('%s', (_, make, inputs, shape) => {
  test('is the same file for the same seed, and another for another', () => {
    const digest = (seed: number): string =>
      createHash('sha256')
        .update(writeOnnx(make(seed)))
        .digest('hex');
    expect(digest(1)).toBe(digest(1));
    expect(digest(1)).not.toBe(digest(2));
  });

  test('is read back as it was built, and computes numbers of the right shape', () => {
    const graph = make(1);
    const bytes = writeOnnx(graph);
    const source = bytesSource(bytes);
    const read = parseOnnx(source);
    expect(inferFacts(read).nodes.length).toBe(graph.nodes.length);
    const run = (graph: Graph): Tensor => {
      const executable = referenceBackend.prepare(graph, { constants: source });
      const [output] = Object.values(executable.runSync(inputs()));
      executable.close();
      return output!;
    };
    const [built, again] = [run(graph), run(read)];
    expect(again.shape).toEqual(shape);
    expect(again.toArray()).toEqual(built.toArray());
    expect(again.values().every(value => Number.isFinite(value))).toBe(true);
    expect(new Set(again.values()).size).toBeGreaterThan(shape.reduce((a, b) => a * b, 1) / 3);
  });
});

test('both forms of layer normalisation are the same encoder', () => {
  const [one, other] = (['operator', 'decomposed'] as const).map(layerNorm => {
    const executable = referenceBackend.prepare(bert({ ...smallBert, layerNorm }), {
      constants: bytesSource(new Uint8Array()),
    });
    const output = executable.runSync(tokens())['last_hidden_state']!;
    return { y: { data: output.elements() as Float32Array, shape: output.shape } };
  });
  expect(disagreement(one!, other!)).toBeLessThan(1);
});

test('the encoder looks at no token that its mask hides', () => {
  const executable = referenceBackend.prepare(bert({ ...smallBert, layers: 1 }), {
    constants: bytesSource(new Uint8Array()),
  });
  const first = (last: bigint): unknown[] => {
    const ids = Tensor.from('i64', [1, 6], BigInt64Array.of(1n, 2n, 3n, 4n, 5n, last));
    const output = executable.runSync({ ...tokens(), input_ids: ids })['last_hidden_state']!;
    return output.slice({ axis: 1, end: 4 }).values();
  };
  expect(first(6n)).toEqual(first(7n));
});

test('an encoder of L6 H384 S128 is 2.87 GFLOP', () => {
  const flops = bertFlops({ layers: 6, hidden: 384, heads: 12, sequence: 128 });
  expect(flops / 1e9).toBeCloseTo(2.87, 1);
});

test('a graph of one node has the operands that it was given', () => {
  const graph = oneNode('Add', [{ name: 'x', dtype: 'f32', shape: [2] }, Tensor.of('f32', [1, 2])]);
  expect(graph.nodes.map(({ op }) => op)).toEqual(['Add']);
  expect([graph.inputs.length, graph.constants.size, graph.outputs.length]).toEqual([1, 1, 1]);
  expect(graphDigest(graph)).not.toBe(
    graphDigest(oneNode('Sub', [{ name: 'x', dtype: 'f32', shape: [2] }, Tensor.of('f32', [1, 2])])),
  );
});

test('every case has a name of its own, and every target of the table is in a row', () => {
  const cases = kernelCases(100);
  const calls = models(undefined).flatMap(model => model.calls());
  const names = [...cases.map(item => item.case), ...calls.map(call => call.name)];
  expect(new Set(names).size).toBe(names.length);
  const held = Object.fromEntries(cases.filter(item => item.holdTo).map(item => [item.case, item.holdTo!.ratio]));
  expect(held).toEqual({
    'sgemm 64': 5,
    'sgemm 512': 1,
    'sgemm 1024': 1.25,
    'sgemm 2048': 1.35,
    'conv3x3 64->64, 56x56': 1,
    'conv1x1 64->256, 56x56': 1.5,
    'conv7x7s2 3->64, 224x224': 1.2,
    'depthwise 3x3 144, 56x56': 1.4,
    'int8 u8xs8 1024': 1,
    'int8 s8xs8 1024': 15,
    'softmax 4096x1024': 2,
    'layernorm 4096x768': 2,
    'relu 4M': 2,
    'add 4M': 2,
    'transpose 2048x2048': 2.5,
    'one-node graph, runSync': 6,
  });
  expect(cases.find(item => item.case === 'sgemm 1024')!.holdTo!.atLeast).toBe(75);
  expect(Object.fromEntries(calls.map(call => [call.name, call.holdTo]))).toMatchObject({
    'mlp 784-128-64-10': 4,
    'logistic regression 30': 4,
    'mobilenet-v2-like f32': 1,
    'bert-like L6 H384 S128': 1,
  });
});

test('a product at a machine whose peak is not known is held to its ratio alone', () => {
  const product = kernelCases().find(item => item.case === 'sgemm 1024')!;
  expect([product.holdTo, product.ceiling]).toEqual([{ ratio: 1.25 }, undefined]);
});

test('what is given to a kernel is what its model wants', () => {
  const { make } = kernelCases().find(item => item.case === 'sgemm 64, both inputs')!;
  const { graph, inputs } = make();
  expect(graph.inputs.map(id => graph.values[id]!.name)).toEqual(Object.keys(inputs));
  expect(inputs['a']!.shape).toEqual([64, 64]);
});
