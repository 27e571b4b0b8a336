/**
 * A tree ensemble with random splits, in the list form that converters of scikit-learn, XGBoost and LightGBM write.
 * @module
 */
import type { Graph } from '../../src/graph/index.ts';
import { Network } from './network.ts';

/** A regression forest of full trees over normal features: x is (N, features), y is (N, 1), the sum over the trees. */
export function treeEnsemble({ trees = 100, depth = 6, features = 20, seed = 5 } = {}): Graph {
  const net = new Network('tree-ensemble', seed);
  const tree: number[] = [];
  const node: number[] = [];
  const feature: number[] = [];
  const split: number[] = [];
  const mode: string[] = [];
  const whenTrue: number[] = [];
  const whenFalse: number[] = [];
  const leafTree: number[] = [];
  const leafNode: number[] = [];
  const leafWeight: number[] = [];
  const branches = 2 ** depth - 1;
  for (let t = 0; t < trees; t++) {
    for (let n = 0; n < 2 * branches + 1; n++) {
      const isLeaf = n >= branches;
      tree.push(t);
      node.push(n);
      feature.push(isLeaf ? 0 : net.random.below(features));
      split.push(isLeaf ? 0 : Math.fround(net.random.normal(0.7)));
      mode.push(isLeaf ? 'LEAF' : 'BRANCH_LEQ');
      // Heap order: the children of n are 2n + 1 and 2n + 2.
      whenTrue.push(isLeaf ? 0 : 2 * n + 1);
      whenFalse.push(isLeaf ? 0 : 2 * n + 2);
      if (!isLeaf) continue;
      leafTree.push(t);
      leafNode.push(n);
      leafWeight.push(Math.fround(net.random.normal(0.1)));
    }
  }
  const x = net.input('x', 'f32', ['N', features]);
  const attributes = {
    n_targets: 1,
    aggregate_function: 'SUM',
    post_transform: 'NONE',
    nodes_treeids: tree,
    nodes_nodeids: node,
    nodes_featureids: feature,
    nodes_values: split,
    nodes_modes: mode,
    nodes_truenodeids: whenTrue,
    nodes_falsenodeids: whenFalse,
    target_treeids: leafTree,
    target_nodeids: leafNode,
    target_ids: leafTree.map(() => 0),
    target_weights: leafWeight,
  };
  return net.build(net.add('TreeEnsembleRegressor', [x], attributes, { domain: 'ai.onnx.ml', opset: 3, output: 'y' }));
}
