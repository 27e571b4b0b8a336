import { describe, expect, test } from 'vitest';
import { CloisterError } from '../../src/base/index.ts';
import { referenceBackend } from '../../src/engine/index.ts';
import { bytesSource, DEFAULT_ONNX_LIMITS, type OnnxLimits, parseOnnx } from '../../src/formats/index.ts';
import type { Graph } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { field, message, model, node } from './onnx-bytes.ts';
import { forestModel } from './onnx-forest.ts';

const parse = (bytes: Uint8Array, limits: Partial<OnnxLimits> = {}): Graph => parseOnnx(bytesSource(bytes), { limits });

function problem(call: () => unknown): string {
  try {
    call();
    return 'nothing was refused';
  } catch (error) {
    if (error instanceof CloisterError) return `${error.code}: ${error.message}`;
    throw error;
  }
}

describe('lists in attributes', () => {
  test('hold a forest of 100 trees with 1,000 nodes each', () => {
    const bytes = forestModel(100, 1000);
    const graph = parse(bytes);
    const { nodes_treeids, nodes_values, nodes_modes } = graph.nodes[0]!.attributes as Record<
      string,
      readonly unknown[]
    >;
    expect([nodes_treeids, nodes_values, nodes_modes].map(list => list!.length)).toEqual([100_100, 100_100, 100_100]);
    const { y } = referenceBackend
      .prepare(graph, { constants: bytesSource(bytes) })
      .runSync({ x: Tensor.of('f32', [[0.3]]) });
    expect(y?.toArray()).toEqual([[100]]);
    expect(problem(() => parse(bytes, { listItems: 1_000_000 }))).toMatch(/^MODEL_TOO_LARGE: .* 1000000 listItems/);
  });

  /** LabelEncoder from strings to int64s. */
  const encoder = (keys: readonly string[]): Uint8Array =>
    model([
      field(
        1,
        node(
          'LabelEncoder',
          ['words'],
          ['numbers'],
          field(7, 'ai.onnx.ml'),
          field(5, message(field(1, 'keys_strings'), ...keys.map(key => field(9, key)), field(20, 8))),
          field(5, message(field(1, 'values_int64s'), ...keys.map((_, i) => field(8, i)), field(20, 7))),
        ),
      ),
    ]);

  test('are refused past their limit, wherever the items are', () => {
    const bytes = encoder(['a', 'b', 'c']);
    expect(problem(() => parse(bytes, { listItems: 5 }))).toMatch(
      /^MODEL_TOO_LARGE: .* limit of 5 listItems \(at byte/,
    );
    expect(problem(() => parse(bytes, { listItems: 6 }))).not.toMatch(/^MODEL_TOO_LARGE/);
  });

  test('pay for each string that they say for the first time, and once for those that they repeat', () => {
    const many = 3000;
    const distinct = encoder(Array.from({ length: many }, (_, i) => `word ${i}`));
    const same = encoder(new Array<string>(many).fill('word'));
    const tight = { inlineBytes: 20 * many };
    expect(problem(() => parse(distinct, tight))).toMatch(/^MODEL_TOO_LARGE: .* inlineBytes/);
    expect(problem(() => parse(same, tight))).not.toMatch(/^MODEL_TOO_LARGE/);
  });

  test('keep 64-bit integers exact', () => {
    // The longest varint: ten bytes, -1; and nine bytes, 2^62.
    const ends = Uint8Array.from([
      ...[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40], // 2^62
      ...[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], // -1
      7,
    ]);
    const bytes = model([
      field(1, node('Constant', [], ['c'], field(5, message(field(1, 'value_ints'), field(8, ends), field(20, 7))))),
      field(1, node('Identity', ['x'], ['y'])),
    ]);
    const graph = parse(bytes);
    const id = graph.values.findIndex(({ name }) => name === 'c');
    const constant = graph.constants.get(id);
    expect(constant?.kind === 'inline' && constant.tensor.toArray()).toEqual([2n ** 62n, -1n, 7n]);
  });

  test('cost at most 128 MiB as numbers by default', () => {
    expect(DEFAULT_ONNX_LIMITS.listItems * 8).toBeLessThanOrEqual(128 * 2 ** 20);
  });
});

test('elements that are fields of their own have a limit of their own', () => {
  const strings = message(field(1, 3), field(2, 8), field(6, 'a'), field(6, 'b'), field(6, 'c'), field(8, 's'));
  const bytes = model([field(5, strings), field(1, node('Identity', ['x'], ['y']))]);
  expect(problem(() => parse(bytes, { tensorFields: 1 }))).toMatch(/^MODEL_TOO_LARGE: .* 1 tensorFields/);
  expect(parse(bytes, { tensorFields: 2 }).constants.size).toBe(1);
});
