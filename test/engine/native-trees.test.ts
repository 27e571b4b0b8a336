import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PROGRAM_VERSION, planProgram } from '../../src/engine/index.ts';
import type { Attribute } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { noFile, numbers } from '../native/program-seeds.ts';
import { type OneNode, onBoth, onEachRow, oneNode } from './native-rows.ts';

const MODES = ['BRANCH_LEQ', 'BRANCH_LT', 'BRANCH_GTE', 'BRANCH_GT'];
/** Where comparisons go wrong when they do: zeros of both signs, neighbours, infinities, NaN, what float32 cannot hold. */
const SPECIAL = [0, -0, 1, 1 + 2 ** -23, -1, 2 ** -149, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN];
const BETWEEN = [0.1, -0.1, 1e-60, -1e-60, 1e300, -1e300, 1 + 2 ** -30];

const shapes = fc.record({
  rows: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 60, max: 150 })),
  features: fc.integer({ min: 1, max: 6 }),
  trees: fc.integer({ min: 1, max: 20 }),
  depth: fc.integer({ min: 0, max: 5 }),
  targets: fc.integer({ min: 1, max: 3 }),
  votes: fc.integer({ min: 0, max: 3 }),
  modes: fc.integer({ min: 1, max: 4 }),
  missing: fc.boolean(),
  doubles: fc.boolean(),
  base: fc.boolean(),
  aggregate: fc.constantFrom('SUM', 'AVERAGE', 'MIN', 'MAX'),
  classifier: fc.boolean(),
  seed: fc.nat(1e6),
});
type Shape = typeof shapes extends fc.Arbitrary<infer T> ? T : never;

function nodeOf(s: Shape, transform: string): OneNode {
  const next = numbers(s.seed * 2_654_435_761 + 1);
  const below = (n: number): number => Math.floor(((next() + 1) / 2) * n);
  const split = (): number => {
    const kind = below(s.doubles ? 3 : 2);
    return kind === 0 ? Math.fround(next()) : kind === 1 ? SPECIAL[below(9)]! : BETWEEN[below(7)]!;
  };
  const lists: Record<string, (number | string)[]> = {};
  const push = (name: string, value: number | string): void => {
    lists[name] ??= [];
    lists[name].push(value);
  };
  const prefix = s.classifier ? 'class' : 'target';
  for (let tree = 0; tree < s.trees; tree++) {
    let count = 0;
    const grow = (depth: number): number => {
      const node = count++;
      const leaf = depth === 0 || below(5) === 0;
      const row = lists['nodes_nodeids']?.length ?? 0;
      const values: Record<string, number | string> = {
        nodes_treeids: tree,
        nodes_nodeids: node,
        nodes_featureids: leaf ? 0 : below(s.features),
        nodes_values: leaf ? 0 : split(),
        nodes_modes: leaf ? 'LEAF' : MODES[below(s.modes)]!,
        nodes_missing_value_tracks_true: s.missing ? below(2) : 0,
        nodes_truenodeids: 0,
        nodes_falsenodeids: 0,
      };
      for (const [name, value] of Object.entries(values)) push(name, value);
      if (leaf) {
        for (let i = 0; i < (s.votes === 3 ? below(3) : s.votes); i++) {
          push(`${prefix}_treeids`, tree);
          push(`${prefix}_nodeids`, node);
          push(`${prefix}_ids`, below(s.targets));
          push(`${prefix}_weights`, Math.fround(next()));
        }
      } else {
        lists['nodes_truenodeids']![row] = grow(depth - 1);
        lists['nodes_falsenodeids']![row] = grow(depth - 1);
      }
      return node;
    };
    grow(s.depth);
  }
  const attributes: Record<string, Attribute> = { ...lists, post_transform: transform };
  if (s.doubles) {
    const values = attributes['nodes_values'] as number[];
    delete attributes['nodes_values'];
    attributes['nodes_values_as_tensor'] = Tensor.from('f64', [values.length], Float64Array.from(values));
  }
  if (s.base) attributes['base_values'] = Array.from({ length: s.targets }, () => Math.fround(next()));
  if (s.classifier) attributes['classlabels_int64s'] = Array.from({ length: s.targets }, (_, i) => 10 * i - 5);
  else Object.assign(attributes, { n_targets: s.targets, aggregate_function: s.aggregate });
  const x = Float32Array.from({ length: s.rows * s.features }, () => (below(3) === 0 ? SPECIAL[below(9)]! : next()));
  return {
    op: s.classifier ? 'TreeEnsembleClassifier' : 'TreeEnsembleRegressor',
    domain: 'ai.onnx.ml',
    opset: 3,
    inputs: [Tensor.from('f32', [s.rows, s.features], x)],
    outputs: s.classifier ? ['label', 'scores'] : ['y'],
    attributes,
  };
}

onEachRow('native trees', () => {
  test('give the bits of the reference: any modes, splits, NaN, votes, aggregates and classes', () => {
    fc.assert(
      fc.property(shapes, s => {
        const { came, wanted } = onBoth(nodeOf(s, 'NONE'));
        for (const [name, tensor] of Object.entries(wanted)) expect(came[name]!.values()).toEqual(tensor.values());
      }),
      { numRuns: 150 },
    );
  }, 120_000);

  test.each(['SOFTMAX', 'LOGISTIC', 'SOFTMAX_ZERO', 'PROBIT'])(
    '%s is within an ulp of the reference',
    transform => {
      fc.assert(
        fc.property(shapes, s => {
          const { came, wanted } = onBoth(nodeOf(s, transform));
          for (const [name, tensor] of Object.entries(wanted)) {
            const have = came[name]!.values();
            tensor.values().forEach((value, i) => {
              if (Object.is(have[i], value)) return;
              const bound = tensor.dtype === 'i64' ? 0 : 2 ** -23 * Math.abs(Number(value));
              expect(Math.abs(Number(have[i]) - Number(value)), `${name} ${i}`).toBeLessThanOrEqual(bound);
            });
          }
        }),
        { numRuns: 25 },
      );
    },
    60_000,
  );

  test('of TreeEnsemble-5, whose leaves lie in a list of their own', () => {
    const node: OneNode = {
      op: 'TreeEnsemble',
      domain: 'ai.onnx.ml',
      opset: 5,
      inputs: [Tensor.from('f32', [4, 2], Float32Array.of(1, 2, 3, -4, Number.NaN, 0, 0, 9))],
      outputs: ['y'],
      attributes: {
        n_targets: 2,
        tree_roots: [0],
        nodes_featureids: [0, 1],
        nodes_splits: Tensor.from('f32', [2], Float32Array.of(1, 0)),
        nodes_modes: Tensor.from('u8', [2], Uint8Array.of(0, 3)),
        nodes_truenodeids: [1, 0],
        nodes_falsenodeids: [2, 1],
        nodes_trueleafs: [0, 1],
        nodes_falseleafs: [1, 1],
        leaf_targetids: [0, 1, 0],
        leaf_weights: Tensor.from('f32', [3], Float32Array.of(5, 6, 7)),
      },
    };
    const { came, wanted } = onBoth(node);
    expect(came['y']!.values()).toEqual(wanted['y']!.values());
  });
});

describe('a lowering of trees', () => {
  test('refuses modes without a kernel and labels of text', () => {
    const kernel = { isa: 'scalar', programVersion: PROGRAM_VERSION, gemmPanel: 16 };
    const plan = (node: OneNode) => planProgram(oneNode(node).graph, { kernel, constants: noFile, modelBytes: 0 });
    const plain = { rows: 1, features: 1, trees: 1, depth: 2, targets: 2, votes: 1, modes: 1 };
    const flags = { missing: false, doubles: false, base: false, aggregate: 'SUM', classifier: true } as const;
    const node = nodeOf({ ...plain, ...flags, seed: 8 }, 'NONE');
    expect(plan(node).steps.map(({ kind }) => kind)).toEqual(['trees', 'scores']);
    const modes = (node.attributes!['nodes_modes'] as readonly string[]).map(mode =>
      mode === 'LEAF' ? mode : 'BRANCH_EQ',
    );
    expect(() => plan({ ...node, attributes: { ...node.attributes, nodes_modes: modes } })).toThrow('BRANCH_EQ');
    const { classlabels_int64s: _, ...rest } = node.attributes!;
    expect(() => plan({ ...node, attributes: { ...rest, classlabels_strings: ['a', 'b'] } })).toThrow('text');
  });
});
