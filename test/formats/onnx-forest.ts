/** A forest of regression trees as an ONNX file spelt by hand. */
import { concatBytes } from '../../src/base/index.ts';
import { field, message, port } from './onnx-bytes.ts';

function varints(values: readonly number[]): Uint8Array {
  const bytes: number[] = [];
  for (let value of values) {
    for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
    bytes.push(value);
  }
  return Uint8Array.from(bytes);
}

/**
 * `trees` complete trees of about `nodes` nodes each over one feature x of shape [1, 1]. Inner node i goes left where
 * x <= 0.5 + i / nodes, so x = 0.3 always does; leaf i of tree t has weight 1, so y counts the trees.
 */
export function forestModel(trees: number, nodes: number): Uint8Array {
  const inner = Math.floor(nodes / 2);
  const perTree = 2 * inner + 1;
  const lists: Record<string, number[]> = {};
  const put = (list: string, value: number): void => {
    lists[list] ??= [];
    lists[list].push(value);
  };
  const values: number[] = [];
  const [branch, leaf] = [field(9, 'BRANCH_LEQ'), field(9, 'LEAF')];
  const modes = concatBytes(...Array.from({ length: perTree }, (_, i) => (i < inner ? branch : leaf)));
  const weights: number[] = [];
  for (let t = 0; t < trees; t++) {
    for (let i = 0; i < perTree; i++) {
      put('nodes_treeids', t);
      put('nodes_nodeids', i);
      put('nodes_featureids', 0);
      put('nodes_truenodeids', i < inner ? 2 * i + 1 : 0);
      put('nodes_falsenodeids', i < inner ? 2 * i + 2 : 0);
      put('nodes_missing_value_tracks_true', 0);
      values.push(0.5 + i / nodes);
      if (i < inner) continue;
      put('target_treeids', t);
      put('target_nodeids', i);
      put('target_ids', 0);
      weights.push(1);
    }
  }
  const floats = (list: readonly number[]): Uint8Array => new Uint8Array(Float32Array.from(list).buffer);
  const attributes = [
    ...Object.entries(lists).map(([name, list]) => message(field(1, name), field(8, varints(list)), field(20, 7))),
    message(field(1, 'nodes_values'), field(7, floats(values)), field(20, 6)),
    message(field(1, 'nodes_hitrates'), field(7, floats(values)), field(20, 6)),
    message(field(1, 'target_weights'), field(7, floats(weights)), field(20, 6)),
    message(field(1, 'nodes_modes'), ...new Array<Uint8Array>(trees).fill(modes), field(20, 8)),
    message(field(1, 'n_targets'), field(3, 1), field(20, 2)),
  ];
  const node = message(
    field(1, 'x'),
    field(2, 'y'),
    field(4, 'TreeEnsembleRegressor'),
    field(7, 'ai.onnx.ml'),
    ...attributes.map(attribute => field(5, attribute)),
  );
  const graph = message(field(1, node), field(11, port('x', 1, [1, 1])), field(12, port('y', 1, [1, 1])));
  return message(field(8, field(2, 13)), field(8, message(field(1, 'ai.onnx.ml'), field(2, 3))), field(7, graph));
}
