/**
 * Ensembles of decision trees: TreeEnsembleClassifier, TreeEnsembleRegressor, TreeEnsemble.
 *
 * A description is verified when its node is first looked at; the flat form is kept for as long as the attributes are.
 * @module
 */
import type { DType, Tensor } from '../../../tensor/index.ts';
import type { Facts, Node } from '../../graph.ts';
import {
  type AttributeSpec,
  defineIn,
  floats,
  from,
  InferContext,
  int,
  ints,
  type Operator,
  type OperatorVersion,
  type RunContext,
  required,
  string,
  strings,
  tensor,
} from '../operator.ts';
import {
  FEATURES,
  features,
  type Labels,
  labelsOf,
  labelTensor,
  ML,
  postTransform,
  rowsOf,
  scorePair,
  scoreTensor,
  stringList,
  TRANSFORMS,
  type Transform,
  transformOf,
  transformScores,
} from './scores.ts';
import {
  AGGREGATES,
  type Aggregate,
  BRANCH_MODES,
  MEMBER,
  type TreeDescription,
  type TreeTable,
  verifyTrees,
  voteTrees,
} from './tree-table.ts';

/** What the attributes of a node say, verified. */
export interface Ensemble {
  readonly table: TreeTable;
  readonly targets: number;
  readonly aggregate: Aggregate;
  readonly transform: Transform;
  /** Added to the scores: one value per target, or none; one or two for two classes. */
  readonly base: readonly number[];
}

/** An ensemble whose scores choose a class. */
export interface Classifier extends Ensemble {
  readonly labels: Labels;
  /** Where two classes share one score: the class whose votes are that score. */
  readonly voter: number | undefined;
  /** No vote is negative: the one score of two classes is taken for a probability. */
  readonly positive: boolean;
}

/** Keeps what `of` makes of the attributes of a node, so that neither a run nor a pass that moves the node verifies again. */
function remembered<T>(of: (c: InferContext) => T): (c: InferContext) => T {
  const known = new WeakMap<Node['attributes'], T>();
  return c => {
    const { attributes } = c.node;
    let value = known.get(attributes);
    if (value === undefined) {
      value = of(c);
      known.set(attributes, value);
    }
    return value;
  };
}

/** A list of numbers that is given as floats or, where their precision matters, as a tensor. */
function eitherList(c: InferContext, name: string): readonly number[] | undefined {
  const list = c.numbers(name);
  const dense = c.tensor(`${name}_as_tensor`);
  if (!dense) return list;
  if (list && list.length > 0) c.fail(`expected one of ${name} and ${name}_as_tensor`);
  if (dense.dtype !== 'f32' && dense.dtype !== 'f64') c.fail(`${name}_as_tensor: expected floats, got ${dense.dtype}`);
  return dense.values() as number[];
}

/** The lists of equal length that `names` name. */
function lists<const Names extends readonly string[]>(
  c: InferContext,
  names: Names,
): { readonly [I in keyof Names]: readonly number[] } {
  const all = names.map(name => eitherList(c, name) ?? []);
  const expected = all[0]!.length;
  all.forEach((list, i) => {
    if (list.length !== expected) c.fail(`${names[i]} has ${list.length} entries, expected ${expected}`);
  });
  return all as { [I in keyof Names]: readonly number[] };
}

/** Flags that may be left out: all false. */
function flags(c: InferContext, name: string, count: number): readonly number[] | undefined {
  const list = c.numbers(name);
  if (!list || list.length === 0) return undefined;
  if (list.length !== count) c.fail(`${name} has ${list.length} entries, expected ${count}`);
  return list;
}

/** The nodes of one tree. Nearly always they lie one after the other and count from 0; what does not is in `others`. */
interface TreeNodes {
  readonly first: number;
  count: number;
  readonly others: Map<number, number>;
}

/** Finds the nodes of trees by the ids that a model gives them. */
class NodeIndex {
  readonly #trees = new Map<number, TreeNodes>();

  /** Whether the ids were free. */
  add(tree: number, node: number, at: number): boolean {
    let nodes = this.#trees.get(tree);
    if (!nodes) {
      nodes = { first: at, count: 0, others: new Map() };
      this.#trees.set(tree, nodes);
    }
    if (this.#of(nodes, node) !== undefined) return false;
    if (node === nodes.count && at === nodes.first + node) nodes.count++;
    else nodes.others.set(node, at);
    return true;
  }

  find(tree: number, node: number): number | undefined {
    const nodes = this.#trees.get(tree);
    return nodes && this.#of(nodes, node);
  }

  #of({ first, count, others }: TreeNodes, node: number): number | undefined {
    return node >= 0 && node < count ? first + node : others.get(node);
  }
}

/** The trees of TreeEnsembleClassifier and TreeEnsembleRegressor: nodes of all trees in one list, found by tree and node id. */
function classicTrees(c: InferContext, votes: 'class' | 'target', targets: number): TreeTable {
  const [trees, nodes, featureIds, trueIds, falseIds, splits] = lists(c, [
    'nodes_treeids',
    'nodes_nodeids',
    'nodes_featureids',
    'nodes_truenodeids',
    'nodes_falsenodeids',
    'nodes_values',
  ]);
  const count = trees.length;
  const modeNames = stringList(c, 'nodes_modes') ?? [];
  if (modeNames.length !== count) c.fail(`nodes_modes has ${modeNames.length} entries, expected ${count}`);
  const missing = flags(c, 'nodes_missing_value_tracks_true', count);
  const nameOf = (at: number): string => `node ${nodes[at]} of tree ${trees[at]}`;

  // A node becomes a branch (its index among branches) or a leaf (~ its index among leaves).
  const index = new NodeIndex();
  const encoded = new Int32Array(count);
  const branches: number[] = [];
  let leaves = 0;
  for (let at = 0; at < count; at++) {
    if (!index.add(trees[at]!, nodes[at]!, at)) c.fail(`${nameOf(at)} is described twice`);
    encoded[at] = modeNames[at] === 'LEAF' ? ~leaves++ : branches.push(at) - 1;
  }
  const isChild = new Uint8Array(count);
  const childOf = (at: number, id: number): number => {
    const child = index.find(trees[at]!, id) ?? c.fail(`${nameOf(at)} leads to node ${id}, which does not exist`);
    isChild[child] = 1;
    return encoded[child]!;
  };
  const whenTrue = Int32Array.from(branches, at => childOf(at, trueIds[at]!));
  const whenFalse = Int32Array.from(branches, at => childOf(at, falseIds[at]!));
  const modes = Uint8Array.from(branches, at => {
    const mode = BRANCH_MODES.indexOf(modeNames[at] as (typeof BRANCH_MODES)[number]);
    if (mode < 0 || mode === MEMBER) c.fail(`${nameOf(at)}: no mode ${JSON.stringify(modeNames[at]!.slice(0, 40))}`);
    return mode;
  });

  // A tree starts at its one node that is nobody's child.
  const rootOf = new Map<number, number>();
  for (let at = 0; at < count; at++) {
    if (isChild[at] === 1) continue;
    const other = rootOf.get(trees[at]!);
    if (other !== undefined) c.fail(`tree ${trees[at]} starts at node ${nodes[other]} and at node ${nodes[at]}`);
    rootOf.set(trees[at]!, at);
  }
  const rootless = trees.find(tree => !rootOf.has(tree));
  if (rootless !== undefined) c.fail(`tree ${rootless} goes round in a circle: each of its nodes is a child`);

  const description: TreeDescription = {
    roots: Array.from(rootOf.values(), at => encoded[at]!),
    whenTrue,
    whenFalse,
    features: branches.map(at => featureIds[at]!),
    splits: branches.map(at => splits[at]!),
    modes,
    missing: Uint8Array.from(branches, at => (missing?.[at] ? 1 : 0)),
    members: new Map(),
    ...classicVotes(c, votes, targets, leaves, (tree, node) => {
      const at = index.find(tree, node) ?? c.fail(`a vote of node ${node} of tree ${tree}, which does not exist`);
      return encoded[at]!;
    }),
    nameOf: branch => nameOf(branches[branch]!),
  };
  return verifyTrees(description, message => c.fail(message));
}

/** The votes, gathered by leaf. Votes of nodes that are no leaves count for nothing. */
function classicVotes(
  c: InferContext,
  prefix: 'class' | 'target',
  targets: number,
  leaves: number,
  find: (tree: number, node: number) => number,
): Pick<TreeDescription, 'leafStart' | 'targets' | 'weights'> {
  const [trees, nodes, ids, weights] = lists(c, [
    `${prefix}_treeids`,
    `${prefix}_nodeids`,
    `${prefix}_ids`,
    `${prefix}_weights`,
  ]);
  const leafOf = Int32Array.from(trees, (tree, i) => ~find(tree, nodes[i]!));
  const leafStart = new Int32Array(leaves + 1);
  leafOf.forEach((leaf, i) => {
    const id = ids[i]!;
    if (id < 0 || id >= targets) c.fail(`${prefix}_ids: ${id} is not one of ${targets}`);
    if (leaf >= 0) leafStart[leaf + 1] = leafStart[leaf + 1]! + 1;
  });
  for (let leaf = 0; leaf < leaves; leaf++) leafStart[leaf + 1] = leafStart[leaf + 1]! + leafStart[leaf]!;
  const cursor = leafStart.slice();
  const votes = {
    leafStart,
    targets: new Int32Array(leafStart[leaves]!),
    weights: new Float64Array(leafStart[leaves]!),
  };
  leafOf.forEach((leaf, i) => {
    if (leaf < 0) return;
    const at = cursor[leaf]!;
    cursor[leaf] = at + 1;
    votes.targets[at] = ids[i]!;
    votes.weights[at] = weights[i]!;
  });
  return votes;
}

function checkBase(c: InferContext, base: readonly number[], fits: boolean, expected: string): readonly number[] {
  return base.length === 0 || fits ? base : c.fail(`expected ${expected} base_values or none, got ${base.length}`);
}

const classifierOf: (c: InferContext) => Classifier = remembered(c => {
  const labels = labelsOf(c, 'classlabels_strings', 'classlabels_int64s');
  const targets = labels.values.length;
  const table = classicTrees(c, 'class', targets);
  const base = eitherList(c, 'base_values') ?? [];
  const voted = new Set(c.numbers('class_ids'));
  return {
    table,
    targets,
    aggregate: 'SUM',
    transform: transformOf(c),
    base: checkBase(c, base, base.length === targets || (targets === 2 && base.length === 1), String(targets)),
    labels,
    voter: targets === 2 && voted.size === 1 ? [...voted][0]! : undefined,
    positive: (eitherList(c, 'class_weights') ?? []).every(weight => weight >= 0),
  };
});

const regressorOf: (c: InferContext) => Ensemble = remembered(c => {
  const targets = targetsOf(c);
  const aggregate = c.string('aggregate_function');
  const base = eitherList(c, 'base_values') ?? [];
  return {
    table: classicTrees(c, 'target', targets),
    targets,
    aggregate:
      AGGREGATES.find(known => known === aggregate) ??
      c.fail(`no aggregate_function ${JSON.stringify(aggregate.slice(0, 40))}`),
    transform: transformOf(c),
    base: checkBase(c, base, base.length === targets, String(targets)),
  };
});

function targetsOf(c: InferContext): number {
  const targets = c.has('n_targets') ? c.number('n_targets') : 1;
  return targets >= 1 ? targets : c.fail(`expected at least 1 target, got ${targets}`);
}

/** TreeEnsemble-5: branches and leaves in two lists, children by their index there. */
const ensembleOf: (c: InferContext) => Ensemble = remembered(c => {
  const [whenTrue, whenFalse, featureIds, trueLeaves, falseLeaves] = lists(c, [
    'nodes_truenodeids',
    'nodes_falsenodeids',
    'nodes_featureids',
    'nodes_trueleafs',
    'nodes_falseleafs',
  ]);
  const count = whenTrue.length;
  const splits = floatTensor(c, 'nodes_splits') ?? [];
  if (splits.length !== count) c.fail(`nodes_splits has ${splits.length} entries, expected ${count}`);
  const modeTensor = c.tensor('nodes_modes')!;
  if (modeTensor.dtype !== 'u8' || modeTensor.size !== count) c.fail(`nodes_modes: expected ${count} elements of u8`);
  const modes = Uint8Array.from(modeTensor.values() as number[]);
  const nameOf = (branch: number): string => `node ${branch}`;
  const unknown = modes.findIndex(mode => mode > MEMBER);
  if (unknown >= 0) c.fail(`${nameOf(unknown)}: no mode ${modes[unknown]}`);
  const missing = flags(c, 'nodes_missing_value_tracks_true', count);

  const weights = floatTensor(c, 'leaf_weights') ?? [];
  const ids = c.numbers('leaf_targetids') ?? [];
  if (weights.length !== ids.length) c.fail(`${weights.length} leaf_weights for ${ids.length} leaf_targetids`);
  const targets = targetsOf(c);
  for (const id of ids) if (id < 0 || id >= targets) c.fail(`leaf_targetids: ${id} is not one of ${targets}`);

  // Out of range becomes an index that the verification refuses, so that ids of any size fit in 32 bits.
  const child = (id: number, isLeaf: number): number =>
    id < 0 || id >= (isLeaf ? ids.length : count) ? count : isLeaf ? ~id : id;
  const roots = c.numbers('tree_roots') ?? [];
  const description: TreeDescription = {
    roots: roots.map(root => child(root, 0)),
    whenTrue: Int32Array.from(whenTrue, (id, i) => child(id, trueLeaves[i]!)),
    whenFalse: Int32Array.from(whenFalse, (id, i) => child(id, falseLeaves[i]!)),
    features: featureIds,
    splits,
    modes,
    missing: Uint8Array.from(modes, (_, i) => (missing?.[i] ? 1 : 0)),
    members: memberSets(c, modes),
    leafStart: Int32Array.from({ length: ids.length + 1 }, (_, i) => i),
    targets: Int32Array.from(ids),
    weights: Float64Array.from(weights),
    nameOf,
  };
  return {
    table: verifyTrees(description, message => c.fail(message)),
    targets,
    aggregate: AGGREGATES[c.number('aggregate_function')] ?? c.fail('aggregate_function: expected 0 to 3'),
    transform: TRANSFORMS[c.number('post_transform')] ?? c.fail('post_transform: expected 0 to 4'),
    base: [],
  };
});

function floatTensor(c: InferContext, name: string): readonly number[] | undefined {
  const value = c.tensor(name);
  if (!value) return undefined;
  if (value.dtype !== 'f32' && value.dtype !== 'f64' && value.dtype !== 'f16') {
    c.fail(`${name}: expected floats, got ${value.dtype}`);
  }
  return value.values() as number[];
}

/** The sets of MEMBER branches, which lie one after the other in the order of the branches, each closed by a NaN. */
function memberSets(c: InferContext, modes: Uint8Array): ReadonlyMap<number, ReadonlySet<number>> {
  const values = floatTensor(c, 'membership_values') ?? [];
  const sets = new Map<number, ReadonlySet<number>>();
  let at = 0;
  modes.forEach((mode, branch) => {
    if (mode !== MEMBER) return;
    if (at >= values.length) c.fail(`node ${branch}: membership_values has no set for it`);
    const set = new Set<number>();
    // The NaN after the last set may be missing.
    for (; at < values.length && !Number.isNaN(values[at]!); at++) set.add(values[at]!);
    at++;
    sets.set(branch, set);
  });
  if (at < values.length) c.fail('membership_values has more sets than there are nodes of mode BRANCH_MEMBER');
  return sets;
}

/**
 * What the attributes of a tree operator say, `version` being its version: a {@link Classifier} where it has labels. Undefined for any
 * other node.
 *
 * @throws {CloisterError} `INVALID_GRAPH` when the attributes describe no trees.
 */
export function ensembleOfNode(node: Node, version: OperatorVersion): Ensemble | Classifier | undefined {
  const of = { TreeEnsembleClassifier: classifierOf, TreeEnsembleRegressor: regressorOf, TreeEnsemble: ensembleOf }[
    node.op
  ];
  // Attributes alone are looked at: there is no size that could be unknown, nor a subgraph.
  const symbols = { fresh: () => '?', outputsOf: () => [] };
  return node.domain === ML ? of?.(new InferContext(node, version, [], () => undefined, symbols)) : undefined;
}

/** Checks the input of trees and returns how many rows it has. */
function treeRows(c: InferContext, { table }: Ensemble, dtypes: readonly DType[]): Facts['shape'][number] {
  c.expect(0, dtypes);
  const { rows, width } = rowsOf(c);
  if (typeof width === 'number' && width <= table.lastFeature) {
    c.fail(`a tree asks for feature ${table.lastFeature} of rows of ${width}`);
  }
  return rows;
}

function votesOf(c: RunContext, ensemble: Ensemble): ReturnType<typeof voteTrees> & { readonly rows: number } {
  const { rows, width } = rowsOf(c) as { rows: number; width: number };
  const x = features(c.operand(0));
  return { rows, ...voteTrees(ensemble.table, ensemble.aggregate, x, rows, width, ensemble.targets) };
}

function runRegressor(of: (c: InferContext) => Ensemble): (c: RunContext) => readonly Tensor[] {
  return c => {
    const ensemble = of(c);
    const { targets, transform, base } = ensemble;
    const { rows, scores } = votesOf(c, ensemble);
    for (let row = 0; row < rows; row++) {
      const at = row * targets;
      for (let i = 0; i < base.length; i++) scores[at + i] = scores[at + i]! + base[i]!;
      transformScores(transform, scores, at, targets);
    }
    return [scoreTensor(c, 0, scores)];
  };
}

function runClassifier(c: RunContext): readonly Tensor[] {
  const classifier = classifierOf(c);
  const { targets, transform, base, labels } = classifier;
  const { rows, scores, voted } = votesOf(c, classifier);
  const best = new Int32Array(rows);
  for (let row = 0; row < rows; row++) {
    const at = row * targets;
    for (let i = 0; i < base.length; i++) {
      scores[at + i] = scores[at + i]! + base[i]!;
      voted[at + i] = 1;
    }
    if (classifier.voter !== undefined) best[row] = finishPair(classifier, scores, at);
    else {
      best[row] = firstLargest(scores, voted, at, targets);
      transformScores(transform, scores, at, targets);
    }
  }
  return [labelTensor(labels, best), scoreTensor(c, 1, scores)];
}

/** The class of the first largest score among those that were voted for. */
function firstLargest(scores: Float64Array, voted: Uint8Array, at: number, count: number): number {
  let best = -1;
  for (let i = 0; i < count; i++) {
    if (voted[at + i] === 1 && (best < 0 || scores[at + i]! > scores[at + best]!)) best = i;
  }
  return Math.max(best, 0);
}

/**
 * Two classes, all votes for one of them. Converters write the votes of the second class as those of the first: the sum is the score of
 * the second, a probability where no vote is negative and no transform follows, else a margin. This is how onnxruntime reads them, but
 * for one point: there a transform is dropped when no vote is negative.
 */
function finishPair(classifier: Classifier, scores: Float64Array, at: number): number {
  const { transform, base, voter, positive } = classifier;
  const score = scores[at + voter!]!;
  if (voter === 0 && base.length < 2) scorePair(transform, score, positive, scores, at);
  else transformScores(transform, scores, at, 2);
  const probability = positive && (transform === 'NONE' || transform === 'PROBIT');
  return score > (probability ? 0.5 : 0) ? 1 : 0;
}

const NODES: Readonly<Record<string, AttributeSpec>> = {
  nodes_treeids: ints(),
  nodes_nodeids: ints(),
  nodes_featureids: ints(),
  nodes_values: floats,
  nodes_hitrates: floats,
  nodes_modes: strings,
  nodes_truenodeids: ints(),
  nodes_falsenodeids: ints(),
  nodes_missing_value_tracks_true: ints(),
  post_transform: postTransform,
  base_values: floats,
};

/** From version 3 on thresholds and the like may be doubles, in tensors. */
const NODE_TENSORS: Readonly<Record<string, AttributeSpec>> = {
  nodes_values_as_tensor: tensor,
  nodes_hitrates_as_tensor: tensor,
  base_values_as_tensor: tensor,
};

const CLASSIFIER: OperatorVersion = {
  since: 1,
  inputs: [1, 1],
  outputs: [2, 2],
  attributes: {
    ...NODES,
    class_treeids: ints(),
    class_nodeids: ints(),
    class_ids: ints(),
    class_weights: floats,
    classlabels_strings: strings,
    classlabels_int64s: ints(),
  },
  infer: c => {
    const classifier = classifierOf(c);
    const rows = treeRows(c, classifier, FEATURES);
    return [
      { dtype: classifier.labels.dtype, shape: [rows] },
      { dtype: 'f32', shape: [rows, classifier.targets] },
    ];
  },
  run: runClassifier,
};

const REGRESSOR: OperatorVersion = {
  since: 1,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: {
    ...NODES,
    target_treeids: ints(),
    target_nodeids: ints(),
    target_ids: ints(),
    target_weights: floats,
    n_targets: int(),
    aggregate_function: string('SUM'),
  },
  infer: c => {
    const ensemble = regressorOf(c);
    return [{ dtype: 'f32', shape: [treeRows(c, ensemble, FEATURES), ensemble.targets] }];
  },
  run: runRegressor(regressorOf),
};

const ENSEMBLE: OperatorVersion = {
  since: 5,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: {
    aggregate_function: int(1),
    leaf_targetids: required(ints()),
    leaf_weights: required(tensor),
    membership_values: tensor,
    n_targets: int(),
    nodes_falseleafs: required(ints()),
    nodes_falsenodeids: required(ints()),
    nodes_featureids: required(ints()),
    nodes_hitrates: tensor,
    nodes_missing_value_tracks_true: ints(),
    nodes_modes: required(tensor),
    nodes_splits: required(tensor),
    nodes_trueleafs: required(ints()),
    nodes_truenodeids: required(ints()),
    post_transform: int(0),
    tree_roots: required(ints()),
  },
  infer: c => {
    const ensemble = ensembleOf(c);
    const rows = treeRows(c, ensemble, ['f32', 'f64', 'f16']);
    return [{ dtype: c.input(0).dtype, shape: [rows, ensemble.targets] }];
  },
  run: runRegressor(ensembleOf),
};

/** The operators of this file. */
export const ML_TREES: readonly Operator[] = [
  defineIn(
    ML,
    'TreeEnsembleClassifier',
    'compute',
    CLASSIFIER,
    from(3, CLASSIFIER, {
      attributes: { ...CLASSIFIER.attributes, ...NODE_TENSORS, class_weights_as_tensor: tensor },
    }),
  ),
  defineIn(
    ML,
    'TreeEnsembleRegressor',
    'compute',
    REGRESSOR,
    from(3, REGRESSOR, {
      attributes: { ...REGRESSOR.attributes, ...NODE_TENSORS, target_weights_as_tensor: tensor },
    }),
  ),
  defineIn(ML, 'TreeEnsemble', 'compute', ENSEMBLE),
];
