import { describe, expect, test } from 'vitest';
import { isCloisterError } from '../../src/base/index.ts';
import { filled } from '../native/program-seeds.ts';
import { NATIVE_ROWS, type OneNode, onBoth } from './native-rows.ts';

const stump = {
  ...{ nodes_treeids: [0, 0, 0], nodes_nodeids: [0, 1, 2], nodes_featureids: [1, 0, 0], nodes_values: [0, 0, 0] },
  ...{ nodes_modes: ['BRANCH_LEQ', 'LEAF', 'LEAF'], nodes_truenodeids: [1, 0, 0], nodes_falsenodeids: [2, 0, 0] },
  ...{ class_treeids: [0, 0, 0], class_nodeids: [1, 1, 2], class_ids: [0, 2, 1], class_weights: [0.5, 0.25, 1] },
  classlabels_int64s: [3, 5, 8],
};

/** Nodes of each operator with several outputs, and how many those are. */
const NODES: Readonly<Record<string, { readonly node: Omit<OneNode, 'outputs'>; readonly outputs: number }>> = {
  split: { node: { op: 'Split', opset: 13, inputs: [filled([6, 2], 1)] }, outputs: 3 },
  quantised: { node: { op: 'DynamicQuantizeLinear', opset: 11, inputs: [filled([3, 5], 2)] }, outputs: 3 },
  classified: {
    node: {
      ...{ op: 'TreeEnsembleClassifier', domain: 'ai.onnx.ml', opset: 3 },
      ...{ inputs: [filled([4, 2], 3)], attributes: stump },
    },
    outputs: 2,
  },
  lstm: {
    node: {
      ...{ op: 'LSTM', opset: 14, inputs: [filled([3, 2, 4], 4), filled([1, 20, 4], 5), filled([1, 20, 5], 6)] },
      ...{ weights: [1, 2], attributes: { hidden_size: 5 } },
    },
    outputs: 3,
  },
  normal: { node: { op: 'LayerNormalization', opset: 17, inputs: [filled([3, 8], 7), filled([8], 8)] }, outputs: 3 },
  skipped: {
    node: {
      ...{ op: 'SkipLayerNormalization', domain: 'com.microsoft', opset: 1 },
      inputs: [filled([1, 3, 8], 9), filled([1, 3, 8], 10), filled([8], 11)],
    },
    outputs: 4,
  },
  attention: {
    node: {
      ...{ op: 'Attention', opset: 23 },
      inputs: [1, 2, 3, undefined, 4, 5].map(seed => (seed === undefined ? undefined : filled([1, 2, 3, 4], seed))),
    },
    outputs: 3,
  },
  pooled: {
    node: { op: 'MaxPool', opset: 12, inputs: [filled([1, 2, 4, 4], 12)], attributes: { kernel_shape: [2, 2] } },
    outputs: 2,
  },
  dropped: { node: { op: 'Dropout', opset: 13, inputs: [filled([4], 13)] }, outputs: 2 },
};

describe.skipIf(NATIVE_ROWS.length === 0)('outputs that a graph leaves out', () => {
  test.each(Object.entries(NODES))('of %s are computed for nobody, or refused by name', (_, { node, outputs }) => {
    let ran = 0;
    for (let kept = 1; kept < 2 ** outputs; kept++) {
      const names = Array.from({ length: outputs }, (_, i) => ((kept >> i) & 1 ? `y${i}` : undefined));
      for (const list of [names, names.slice(0, names.findLastIndex(name => name !== undefined) + 1)]) {
        let both: ReturnType<typeof onBoth>;
        try {
          both = onBoth({ ...node, outputs: list });
        } catch (error) {
          // The graph's own rules, or the plan's.
          if (isCloisterError(error, 'INVALID_GRAPH')) continue;
          expect(error).toMatchObject({ code: 'UNSUPPORTED_MODEL', message: expect.stringContaining(node.op) });
          continue;
        }
        ran++;
        for (const [name, wanted] of Object.entries(both.wanted)) {
          const came = both.came[name]!;
          expect([came.dtype, came.shape]).toEqual([wanted.dtype, wanted.shape]);
          wanted.values().forEach((value, i) => {
            expect(Number(came.values()[i])).toBeCloseTo(Number(value), 5);
          });
        }
      }
    }
    expect(ran).toBeGreaterThan(0);
  });
});
