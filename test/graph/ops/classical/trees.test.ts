import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CloisterError } from '../../../../src/base/index.ts';
import { type Attribute, GraphBuilder, type Node, runNode } from '../../../../src/graph/index.ts';
import { type DType, Tensor } from '../../../../src/tensor/index.ts';

type Attributes = Readonly<Record<string, Attribute>>;

/** One checked node of the domain of classical models. */
function nodeOf(op: string, x: Tensor, attributes: Attributes, opset = 3, outputs = ['y']): Node {
  const b = new GraphBuilder('one');
  const id = b.input('x', { dtype: x.dtype, shape: x.shape });
  for (const out of b.node({ domain: 'ai.onnx.ml', opset, op, inputs: [id], attributes, outputs, name: 'forest' })) {
    b.output(out!);
  }
  return b.build().nodes[0]!;
}

function regress(x: Tensor, attributes: Attributes, opset = 3): Tensor {
  return runNode(nodeOf('TreeEnsembleRegressor', x, attributes, opset), [x])[0]!;
}

function classify(x: Tensor, attributes: Attributes): { labels: unknown; scores: unknown } {
  const [y, z] = runNode(nodeOf('TreeEnsembleClassifier', x, attributes, 3, ['y', 'z']), [x]);
  return { labels: y!.toArray(), scores: z!.toArray() };
}

function refusal(of: () => unknown): string {
  try {
    of();
  } catch (error) {
    if (error instanceof CloisterError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'none';
}

type Tree =
  | { readonly votes: readonly { readonly target: number; readonly weight: number }[] }
  | {
      readonly mode: string;
      readonly feature: number;
      readonly split: number;
      readonly set: readonly number[];
      readonly missing: boolean;
      readonly yes: Tree;
      readonly no: Tree;
    };

const MODES = ['BRANCH_LEQ', 'BRANCH_LT', 'BRANCH_GTE', 'BRANCH_GT', 'BRANCH_EQ', 'BRANCH_NEQ', 'BRANCH_MEMBER'];
const TARGETS = 3;
const WIDTH = 4;

/** What a tree says of a row, by the words of the specification. */
function votes(tree: Tree, row: readonly number[]): readonly { target: number; weight: number }[] {
  if ('votes' in tree) return tree.votes;
  const x = row[tree.feature]!;
  const says: Readonly<Record<string, boolean>> = {
    BRANCH_LEQ: x <= tree.split,
    BRANCH_LT: x < tree.split,
    BRANCH_GTE: x >= tree.split,
    BRANCH_GT: x > tree.split,
    BRANCH_EQ: x === tree.split,
    BRANCH_NEQ: x !== tree.split,
    BRANCH_MEMBER: tree.set.includes(x),
  };
  return votes(says[tree.mode]! || (tree.missing && Number.isNaN(x)) ? tree.yes : tree.no, row);
}

function aggregate(trees: readonly Tree[], how: string, row: readonly number[], base: readonly number[]): number[] {
  return Array.from({ length: TARGETS }, (_, target) => {
    const all = trees.flatMap(tree => votes(tree, row)).filter(vote => vote.target === target);
    const weights = all.map(({ weight }) => weight);
    const sum = weights.reduce((a, b) => a + b, 0);
    const best = weights.length === 0 ? 0 : how === 'MIN' ? Math.min(...weights) : Math.max(...weights);
    return (base[target] ?? 0) + (how === 'SUM' ? sum : how === 'AVERAGE' ? sum / trees.length : best);
  });
}

// Quarters add exactly, so that results are equal and not just near.
const quarter = fc.integer({ min: -8, max: 8 }).map(value => value / 4);

function trees(modes: readonly string[], mostVotes: number, leastVotes = 0): fc.Arbitrary<readonly Tree[]> {
  const vote = fc.record({ target: fc.nat(TARGETS - 1), weight: quarter });
  const { tree } = fc.letrec<{ tree: Tree; leaf: Tree; branch: Tree }>(tie => ({
    tree: fc.oneof({ depthSize: 'small', withCrossShrink: true }, tie('leaf'), tie('branch')),
    leaf: fc.record({ votes: fc.array(vote, { minLength: leastVotes, maxLength: mostVotes }) }),
    branch: fc.record({
      mode: fc.constantFrom(...modes),
      feature: fc.nat(WIDTH - 1),
      split: quarter,
      set: fc.uniqueArray(quarter, { maxLength: 3 }),
      missing: fc.boolean(),
      yes: tie('tree'),
      no: tie('tree'),
    }),
  }));
  return fc.array(tree, { minLength: 1, maxLength: 4 });
}

const rows = fc.array(
  fc.array(fc.oneof({ weight: 5, arbitrary: quarter }, fc.constant(Number.NaN)), {
    minLength: WIDTH,
    maxLength: WIDTH,
  }),
  { minLength: 1, maxLength: 6 },
);

/** The lists of TreeEnsembleRegressor, nodes in an order that `shuffle` gives, under ids that say nothing. */
function classic(forest: readonly Tree[], shuffle: (i: number) => number): Record<string, Attribute> {
  const nodes: {
    tree: number;
    id: number;
    mode: string;
    feature: number;
    split: number;
    yes: number;
    no: number;
    missing: number;
  }[] = [];
  const weights: { tree: number; node: number; target: number; weight: number }[] = [];
  forest.forEach((root, number) => {
    let count = 0;
    const add = (tree: Tree): number => {
      const id = 1000 - 7 * count++;
      if ('votes' in tree) {
        nodes.push({ tree: number * 3, id, mode: 'LEAF', feature: 0, split: 0, yes: 0, no: 0, missing: 0 });
        for (const { target, weight } of tree.votes) weights.push({ tree: number * 3, node: id, target, weight });
        return id;
      }
      const { mode, feature, split } = tree;
      const [yes, no] = [add(tree.yes), add(tree.no)];
      nodes.push({ tree: number * 3, id, mode, feature, split, yes, no, missing: Number(tree.missing) });
      return id;
    };
    add(root);
  });
  nodes.sort((a, b) => shuffle(a.id + a.tree * 31) - shuffle(b.id + b.tree * 31));
  return {
    nodes_treeids: nodes.map(({ tree }) => tree),
    nodes_nodeids: nodes.map(({ id }) => id),
    nodes_modes: nodes.map(({ mode }) => mode),
    nodes_featureids: nodes.map(({ feature }) => feature),
    nodes_values: nodes.map(({ split }) => split),
    nodes_truenodeids: nodes.map(({ yes }) => yes),
    nodes_falsenodeids: nodes.map(({ no }) => no),
    nodes_missing_value_tracks_true: nodes.map(({ missing }) => missing),
    target_treeids: weights.map(({ tree }) => tree),
    target_nodeids: weights.map(({ node }) => node),
    target_ids: weights.map(({ target }) => target),
    target_weights: weights.map(({ weight }) => weight),
    n_targets: TARGETS,
  };
}

/** The lists of TreeEnsemble-5. A tree that is a leaf becomes a branch whose ways both lead there. */
function modern(forest: readonly Tree[], dtype: 'f32' | 'f64'): Record<string, Attribute> {
  const nodes: {
    mode: number;
    feature: number;
    split: number;
    missing: number;
    yes: number;
    no: number;
    ends: [number, number];
    set: readonly number[];
  }[] = [];
  const leaves: { target: number; weight: number }[] = [];
  const add = (tree: Tree): [index: number, isLeaf: number] => {
    if ('votes' in tree) return [leaves.push(tree.votes[0]!) - 1, 1];
    const { feature, split, set } = tree;
    const at =
      nodes.push({
        mode: MODES.indexOf(tree.mode),
        feature,
        split,
        missing: Number(tree.missing),
        yes: 0,
        no: 0,
        ends: [0, 0],
        set,
      }) - 1;
    const [yes, yesEnds] = add(tree.yes);
    const [no, noEnds] = add(tree.no);
    Object.assign(nodes[at]!, { yes, no, ends: [yesEnds, noEnds] });
    return [at, 0];
  };
  const roots = forest.map(tree => {
    const root =
      'votes' in tree
        ? { mode: 'BRANCH_LEQ', feature: 0, split: 0, set: [], missing: false, yes: tree, no: tree }
        : tree;
    return add(root)[0];
  });
  const sets = nodes.filter(({ mode }) => mode === 6).flatMap(({ set }) => [...set, Number.NaN]);
  return {
    tree_roots: roots,
    n_targets: TARGETS,
    nodes_modes: Tensor.of(
      'u8',
      nodes.map(({ mode }) => mode),
    ),
    nodes_featureids: nodes.map(({ feature }) => feature),
    nodes_splits: Tensor.of(
      dtype,
      nodes.map(({ split }) => split),
    ),
    nodes_truenodeids: nodes.map(({ yes }) => yes),
    nodes_falsenodeids: nodes.map(({ no }) => no),
    nodes_trueleafs: nodes.map(({ ends }) => ends[0]),
    nodes_falseleafs: nodes.map(({ ends }) => ends[1]),
    nodes_missing_value_tracks_true: nodes.map(({ missing }) => missing),
    leaf_targetids: leaves.map(({ target }) => target),
    leaf_weights: Tensor.of(
      dtype,
      leaves.map(({ weight }) => weight),
    ),
    ...(sets.length > 0 ? { membership_values: Tensor.of(dtype, sets) } : {}),
  };
}

const HOW = ['AVERAGE', 'SUM', 'MIN', 'MAX'];

describe('TreeEnsembleRegressor', () => {
  test('is the naive walk of every tree, however its nodes are listed', () => {
    fc.assert(
      fc.property(
        trees(MODES.slice(0, 6), 3),
        rows,
        fc.constantFrom(...HOW),
        fc.array(quarter, { minLength: TARGETS, maxLength: TARGETS }),
        fc.integer(),
        (forest, data, how, base, seed) => {
          const shuffle = (i: number) => (Math.imul(i, 2654435761) ^ seed) >>> 0;
          const attributes = { ...classic(forest, shuffle), aggregate_function: how, base_values: base };
          const want = data.map(row => aggregate(forest, how, row, base).map(Math.fround));
          expect(regress(Tensor.of('f32', data), attributes, 1).toArray()).toEqual(want);
        },
      ),
      { numRuns: 500 },
    );
  });

  test('reads integers and doubles as features, and thresholds as doubles', () => {
    const attributes = {
      ...classic(
        [{ mode: 'BRANCH_LT', feature: 1, split: 2, set: [], missing: false, yes: leaf(1), no: leaf(2) }],
        i => i,
      ),
      n_targets: 1,
    };
    for (const dtype of ['i32', 'i64', 'f32', 'f64'] as const satisfies readonly DType[]) {
      expect(
        regress(
          Tensor.of(dtype, [
            [9, 1],
            [9, 2],
          ]),
          attributes,
        ).toArray(),
      ).toEqual([[1], [2]]);
    }
    const split = 2 + 1e-12;
    const exact = {
      ...attributes,
      nodes_values: [],
      nodes_values_as_tensor: Tensor.of('f64', [split, split, split]),
    };
    expect(
      regress(
        Tensor.of('f64', [
          [0, 2],
          [0, split],
        ]),
        exact,
      ).toArray(),
    ).toEqual([[1], [2]]);
  });

  test('applies the transform to a single target', () => {
    const attributes = { ...classic([leaf(0.75)], i => i), n_targets: 1 };
    const x = Tensor.zeros('f32', [1, 1]);
    const of = (post_transform: string) => Number(regress(x, { ...attributes, post_transform }).values()[0]);
    expect(of('NONE')).toBe(0.75);
    expect(of('LOGISTIC')).toBeCloseTo(1 / (1 + Math.exp(-0.75)), 6);
    expect(of('SOFTMAX')).toBe(1);
    // The 75 % quantile of the normal distribution is 0.6745; the formula that executors share is within 2e-3.
    expect(Math.abs(of('PROBIT') - 0.6745)).toBeLessThan(2e-3);
  });

  test('takes one vector for one row, and no rows for none', () => {
    const attributes = { ...classic([leaf(4)], i => i), n_targets: 1 };
    expect(regress(Tensor.of('f32', [1, 2]), attributes).toArray()).toEqual([[4]]);
    expect(regress(Tensor.zeros('f32', [0, 2]), attributes).shape).toEqual([0, 1]);
  });

  test('walks a tree as deep as it is long', () => {
    const depth = 50_000;
    const count = 2 * depth + 1;
    const at = Array.from({ length: count }, (_, i) => i);
    const isLeaf = (i: number) => i % 2 === 1 || i === count - 1;
    const attributes = {
      nodes_treeids: at.map(() => 0),
      nodes_nodeids: at,
      nodes_modes: at.map(i => (isLeaf(i) ? 'LEAF' : 'BRANCH_LEQ')),
      nodes_featureids: at.map(() => 0),
      nodes_values: at,
      nodes_truenodeids: at.map(i => (isLeaf(i) ? 0 : i + 1)),
      nodes_falsenodeids: at.map(i => (isLeaf(i) ? 0 : i + 2)),
      target_treeids: at.filter(isLeaf).map(() => 0),
      target_nodeids: at.filter(isLeaf),
      target_ids: at.filter(isLeaf).map(() => 0),
      target_weights: at.filter(isLeaf),
      n_targets: 1,
    };
    expect(regress(Tensor.of('f32', [[-1], [10], [1e6]]), attributes).toArray()).toEqual([[1], [11], [count - 1]]);
  });
});

function leaf(weight: number, target = 0): Tree {
  return { votes: [{ target, weight }] };
}

describe('TreeEnsemble', () => {
  test('is the naive walk of every tree, sets included', () => {
    fc.assert(
      fc.property(
        trees(MODES, 1, 1),
        rows,
        fc.nat(3),
        fc.constantFrom('f32' as const, 'f64' as const),
        (forest, data, how, dtype) => {
          const x = Tensor.of(dtype, data);
          const node = nodeOf('TreeEnsemble', x, { ...modern(forest, dtype), aggregate_function: how }, 5);
          const [y] = runNode(node, [x]);
          const round = dtype === 'f32' ? Math.fround : (value: number) => value;
          expect(y!.dtype).toBe(dtype);
          expect(y!.toArray()).toEqual(data.map(row => aggregate(forest, HOW[how]!, row, []).map(round)));
        },
      ),
      { numRuns: 500 },
    );
  });

  test('keeps half precision from end to end', () => {
    const forest: Tree[] = [
      { mode: 'BRANCH_GT', feature: 0, split: 0.5, set: [], missing: false, yes: leaf(1), no: leaf(2) },
    ];
    const attributes = modern(forest, 'f32');
    const half = {
      ...attributes,
      nodes_splits: (attributes['nodes_splits'] as Tensor).cast('f16'),
      leaf_weights: (attributes['leaf_weights'] as Tensor).cast('f16'),
    };
    const x = Tensor.of('f16', [[1], [0.25]]);
    const [y] = runNode(nodeOf('TreeEnsemble', x, { ...half, n_targets: 1 }, 5), [x]);
    expect([y!.dtype, y!.toArray()]).toEqual(['f16', [[1], [2]]]);
  });
});

/** One split of feature 0 at 0.5; the votes of the sides are for `classes`. */
function stump(classes: readonly number[], weights: readonly number[], more: Attributes): Attributes {
  return {
    nodes_treeids: [0, 0, 0],
    nodes_nodeids: [0, 1, 2],
    nodes_modes: ['BRANCH_LEQ', 'LEAF', 'LEAF'],
    nodes_featureids: [0, 0, 0],
    nodes_values: [0.5, 0, 0],
    nodes_truenodeids: [1, 0, 0],
    nodes_falsenodeids: [2, 0, 0],
    class_treeids: classes.map(() => 0),
    class_nodeids: classes.map((_, i) => (i < classes.length / 2 ? 1 : 2)),
    class_ids: classes,
    class_weights: weights,
    ...more,
  };
}

const both = Tensor.of('f32', [[0], [1]]);
const TWO = { classlabels_int64s: [10, 20] };
const sigmoid = (x: number): number => Math.fround(1 / (1 + Math.exp(-x)));

describe('TreeEnsembleClassifier', () => {
  test('names the class of the largest score, the first of equals', () => {
    const attributes = stump([0, 2, 1, 2], [0.25, 0.75, 0.5, 0.5], { classlabels_strings: ['a', 'b', 'c'] });
    expect(classify(both, attributes)).toEqual({
      labels: ['c', 'b'],
      scores: [
        [0.25, 0, 0.75],
        [0, 0.5, 0.5],
      ],
    });
  });

  test('does not choose a class that nothing spoke for', () => {
    const attributes = stump([0, 1], [-1, -2], { classlabels_int64s: [5, 6, 7] });
    expect(classify(both, attributes).labels).toEqual([5n, 6n]);
    const withBase = { ...attributes, base_values: [0, 0, 0.5] };
    expect(classify(both, withBase).labels).toEqual([7n, 7n]);
  });

  test('turns scores into probabilities', () => {
    const attributes = stump([0, 1], [1, 2], { classlabels_int64s: [5, 6, 7] });
    const softmax = classify(both, { ...attributes, post_transform: 'SOFTMAX' }).scores as number[][];
    const e = Math.E;
    [e / (e + 2), 1 / (e + 2), 1 / (e + 2)].forEach((want, i) => {
      expect(softmax[0]![i]).toBeCloseTo(want, 6);
    });
    expect(classify(both, { ...attributes, post_transform: 'SOFTMAX_ZERO' }).scores).toEqual([
      [1, 0, 0],
      [0, 1, 0],
    ]);
    const logistic = classify(both, { ...attributes, post_transform: 'LOGISTIC' }).scores as number[][];
    expect(logistic[0]).toEqual([sigmoid(1), 0.5, 0.5]);
  });

  test('reads one score of two classes as a probability where no vote is negative', () => {
    const attributes = stump([0, 0], [0.25, 0.75], TWO);
    expect(classify(both, attributes)).toEqual({
      labels: [10n, 20n],
      scores: [
        [0.75, 0.25],
        [0.25, 0.75],
      ],
    });
  });

  test('reads one score of two classes as a margin where a vote is negative', () => {
    const attributes = stump([0, 0], [-0.25, 0.75], TWO);
    expect(classify(both, attributes)).toEqual({
      labels: [10n, 20n],
      scores: [
        [0.25, -0.25],
        [-0.75, 0.75],
      ],
    });
    expect(classify(both, { ...attributes, post_transform: 'LOGISTIC' })).toEqual({
      labels: [10n, 20n],
      scores: [
        [sigmoid(0.25), sigmoid(-0.25)],
        [sigmoid(-0.75), sigmoid(0.75)],
      ],
    });
    const shifted = classify(both, { ...attributes, base_values: [0.5] });
    expect(shifted).toEqual({
      labels: [20n, 20n],
      scores: [
        [-0.25, 0.25],
        [-1.25, 1.25],
      ],
    });
  });

  test('takes a vote of 0 for no negative one', () => {
    expect(classify(both, stump([0, 0], [0, 0.75], TWO))).toEqual({
      labels: [10n, 20n],
      scores: [
        [1, 0],
        [0.25, 0.75],
      ],
    });
  });

  test('leaves the score of the second class where all votes are for it', () => {
    expect(classify(both, stump([1, 1], [0.25, 0.75], TWO))).toEqual({
      labels: [10n, 20n],
      scores: [
        [0, 0.25],
        [0, 0.75],
      ],
    });
  });

  test('applies LOGISTIC to a margin also where no vote is negative', () => {
    const attributes = stump([0, 0], [0.25, 3], { ...TWO, post_transform: 'LOGISTIC' });
    expect(classify(both, attributes)).toEqual({
      labels: [20n, 20n],
      scores: [
        [sigmoid(-0.25), sigmoid(0.25)],
        [sigmoid(-3), sigmoid(3)],
      ],
    });
  });

  test('compares two classes that both have votes', () => {
    const attributes = stump([0, 1, 0, 1], [0.75, 0.25, 0.25, 0.75], TWO);
    expect(classify(both, attributes)).toEqual({
      labels: [10n, 20n],
      scores: [
        [0.75, 0.25],
        [0.25, 0.75],
      ],
    });
  });
});

describe('a hostile table', () => {
  const x = Tensor.zeros('f32', [1, 2]);
  const good = stump([0, 0], [1, 2], TWO);
  const refused = (changes: Record<string, unknown>): string =>
    refusal(() => classify(x, { ...good, ...changes } as Attributes));

  test.each([
    ['a child that does not exist', { nodes_truenodeids: [77, 0, 0] }, 'node 0 of tree 0 leads to node 77'],
    ['a child in another tree', { nodes_treeids: [0, 0, 1] }, 'leads to node 2, which does not exist'],
    ['a node that is its own child', { nodes_truenodeids: [0, 0, 0] }, 'tree 0'],
    [
      'a circle',
      {
        nodes_modes: ['BRANCH_LEQ', 'BRANCH_LEQ', 'LEAF'],
        nodes_truenodeids: [1, 0, 0],
        nodes_falsenodeids: [2, 2, 0],
      },
      'tree 0 goes round in a circle',
    ],
    ['two roots', { nodes_falsenodeids: [1, 0, 0] }, 'tree 0 starts at node 0 and at node 2'],
    ['a node twice', { nodes_nodeids: [0, 1, 1] }, 'node 1 of tree 0 is described twice'],
    ['an unknown mode', { nodes_modes: ['BRANCH_IN', 'LEAF', 'LEAF'] }, 'no mode "BRANCH_IN"'],
    ['a feature below zero', { nodes_featureids: [-1, 0, 0] }, 'asks for feature -1'],
    ['a feature that no row has', { nodes_featureids: [2, 0, 0] }, 'asks for feature 2 of rows of 2'],
    ['a feature beyond 32 bits', { nodes_featureids: [2 ** 40, 0, 0] }, 'asks for feature'],
    ['a class that does not exist', { class_ids: [0, 2] }, 'class_ids: 2 is not one of 2'],
    ['a class below zero', { class_ids: [0, -1] }, 'class_ids: -1 is not one of 2'],
    ['a vote of no node', { class_nodeids: [1, 9] }, 'a vote of node 9 of tree 0'],
    ['lists of different lengths', { nodes_values: [0.5] }, 'nodes_values has 1 entries, expected 3'],
    ['flags of another length', { nodes_missing_value_tracks_true: [1] }, 'expected 3'],
    ['an unknown transform', { post_transform: 'TWICE' }, 'no post_transform "TWICE"'],
    ['too many base values', { base_values: [1, 2, 3] }, 'base_values'],
    ['labels of both kinds', { classlabels_strings: ['a', 'b'] }, 'labels'],
    ['no labels', { classlabels_int64s: [] }, 'labels'],
    ['values of both kinds', { nodes_values_as_tensor: Tensor.of('f64', [1, 2, 3]) }, 'one of nodes_values'],
  ])('with %s is refused by name', (_, changes, message) => {
    const text = refused(changes);
    expect(text).toContain('INVALID_GRAPH: TreeEnsembleClassifier "forest"');
    expect(text).toContain(message);
  });

  test('with a circle beside a tree is refused', () => {
    const attributes = {
      ...good,
      nodes_treeids: [0, 0, 0, 0, 0],
      nodes_nodeids: [0, 1, 2, 3, 4],
      nodes_modes: ['BRANCH_LEQ', 'LEAF', 'LEAF', 'BRANCH_LEQ', 'BRANCH_LEQ'],
      nodes_featureids: [0, 0, 0, 0, 0],
      nodes_values: [0, 0, 0, 0, 0],
      nodes_truenodeids: [1, 0, 0, 4, 3],
      nodes_falsenodeids: [2, 0, 0, 1, 2],
    };
    expect(refusal(() => classify(x, attributes))).toContain('node 3 of tree 0 is reached from no root');
  });

  test('with a branch that two branches lead to is refused', () => {
    const attributes = {
      ...good,
      nodes_treeids: [0, 0, 0, 0],
      nodes_nodeids: [0, 1, 2, 3],
      nodes_modes: ['BRANCH_LEQ', 'BRANCH_LEQ', 'BRANCH_LEQ', 'LEAF'],
      nodes_featureids: [0, 0, 0, 0],
      nodes_values: [0, 0, 0, 0],
      nodes_truenodeids: [1, 2, 3, 0],
      nodes_falsenodeids: [2, 3, 3, 0],
      class_nodeids: [3, 3],
    };
    expect(refusal(() => classify(x, attributes))).toContain('node 2 of tree 0 is reached twice');
  });

  const fresh = modern(
    [{ mode: 'BRANCH_MEMBER', feature: 0, split: 0, set: [1, 2], missing: false, yes: leaf(1), no: leaf(2) }],
    'f32',
  );
  test.each([
    ['a root out of range', { tree_roots: [5] }, 'a tree starts at a node that does not exist'],
    ['a root below zero', { tree_roots: [-1] }, 'does not exist'],
    ['one root for two trees', { tree_roots: [0, 0] }, 'node 0 is reached twice'],
    ['a circle', { nodes_truenodeids: [0], nodes_trueleafs: [0] }, 'node 0 is reached twice'],
    ['a child beyond 32 bits', { nodes_truenodeids: [2 ** 32] }, 'node 0 leads to a node that does not exist'],
    ['a leaf out of range', { nodes_falsenodeids: [2] }, 'node 0 leads to a node that does not exist'],
    ['no root', { tree_roots: [] }, 'node 0 is reached from no root'],
    ['an unknown mode', { nodes_modes: Tensor.of('u8', [7]) }, 'no mode 7'],
    ['modes of another dtype', { nodes_modes: Tensor.of('i64', [0]) }, 'nodes_modes'],
    ['splits that are integers', { nodes_splits: Tensor.of('i64', [0]) }, 'nodes_splits: expected floats'],
    ['a target out of range', { leaf_targetids: [0, 3] }, 'leaf_targetids: 3 is not one of 3'],
    ['weights of another length', { leaf_weights: Tensor.of('f32', [1]) }, '1 leaf_weights for 2'],
    ['an unknown aggregate', { aggregate_function: -1 }, 'aggregate_function'],
    ['an unknown transform', { post_transform: 5 }, 'post_transform'],
    ['no set for a set node', { membership_values: Tensor.of('f32', []) }, 'membership_values has no set for it'],
    ['a set too many', { membership_values: Tensor.of('f32', [1, Number.NaN, 2, Number.NaN]) }, 'more sets than'],
    ['no targets', { n_targets: 0 }, 'at least 1 target'],
  ])('of TreeEnsemble with %s is refused by name', (_, changes, message) => {
    const text = refusal(() => nodeOf('TreeEnsemble', x, { ...fresh, ...changes } as Attributes, 5));
    expect(text).toContain('INVALID_GRAPH: TreeEnsemble "forest"');
    expect(text).toContain(message);
  });

  test('of any content is a forest that a bounded walk agrees with, or refused', () => {
    const id = fc.integer({ min: -1, max: 6 });
    const node = fc.record({
      tree: fc.nat(1),
      id: fc.nat(6),
      mode: fc.constantFrom('LEAF', 'LEAF', 'BRANCH_LEQ', 'BRANCH_GT'),
      feature: fc.integer({ min: 0, max: 2 }),
      yes: id,
      no: id,
    });
    // Half of the tables are made to hold together at least at their first branch.
    const table = fc.tuple(fc.array(node, { maxLength: 7 }), fc.boolean()).map(([nodes, repair]) => {
      if (!repair) return nodes;
      return nodes.map((each, i) => ({ ...each, tree: 0, id: i, yes: 2 * i + 1, no: 2 * i + 2 }));
    });
    let accepted = 0;
    const data = [
      [-1, 0.5],
      [0, -2],
      [2, 1],
    ];
    const wide = Tensor.of('f32', data);
    fc.assert(
      fc.property(table, nodes => {
        const attributes = {
          nodes_treeids: nodes.map(({ tree }) => tree),
          nodes_nodeids: nodes.map(each => each.id),
          nodes_modes: nodes.map(({ mode }) => mode),
          nodes_featureids: nodes.map(({ feature }) => feature),
          nodes_values: nodes.map(() => 0),
          nodes_truenodeids: nodes.map(({ yes }) => yes),
          nodes_falsenodeids: nodes.map(({ no }) => no),
          target_treeids: nodes.map(({ tree }) => tree),
          target_nodeids: nodes.map(each => each.id),
          target_ids: nodes.map(() => 0),
          target_weights: nodes.map((_, i) => 2 ** i),
          n_targets: 1,
        };
        let came: unknown;
        if (refusal(() => (came = regress(wide, attributes).toArray())) !== 'none') return;
        accepted++;
        const find = (tree: number, wanted: number) => nodes.find(each => each.tree === tree && each.id === wanted)!;
        const want = data.map(row => {
          let sum = 0;
          for (const tree of new Set(nodes.map(each => each.tree))) {
            const own = nodes.filter(each => each.tree === tree);
            const children = own.filter(each => each.mode !== 'LEAF').flatMap(each => [each.yes, each.no]);
            let at = own.find(each => !children.includes(each.id))!;
            for (let steps = 0; at.mode !== 'LEAF'; steps++) {
              expect(steps).toBeLessThan(nodes.length);
              const taken = at.mode === 'BRANCH_LEQ' ? row[at.feature]! <= 0 : row[at.feature]! > 0;
              at = find(tree, taken ? at.yes : at.no);
            }
            sum += 2 ** nodes.indexOf(at);
          }
          return [sum];
        });
        expect(came).toEqual(want);
      }),
      { numRuns: 3000 },
    );
    expect(accepted).toBeGreaterThan(100);
  });

  test('with more targets than a tensor has room for is refused before anything is allocated', () => {
    const text = refusal(() => regress(x, { ...classic([leaf(1)], i => i), n_targets: 2 ** 50 }));
    expect(text).toContain('TreeEnsembleRegressor "forest"');
  });

  test('is looked at once for each node, not at each run', () => {
    let reads = 0;
    const attributes = {
      ...good,
      get nodes_values() {
        reads++;
        return [0.5, 0, 0];
      },
    };
    const plain = nodeOf('TreeEnsembleClassifier', x, good, 3, ['y', 'z']);
    const node: Node = { ...plain, attributes: attributes as unknown as Attributes };
    runNode(node, [x]);
    const once = reads;
    for (let i = 0; i < 5; i++) runNode(node, [x]);
    expect(once).toBeGreaterThan(0);
    expect(reads).toBe(once);
  });
});
