/**
 * Classical models: ensembles of trees.
 * @module
 */
import {
  type AGGREGATES,
  BRANCH_MODES,
  type Classifier,
  type Ensemble,
  ensembleOfNode,
  type Facts,
  findVersion,
  type Node,
  OPERATORS,
  TRANSFORMS,
  type TreeTable,
  type ValueId,
} from '../../graph/index.ts';
import { type Draft, Unsupported, type View } from '../draft.ts';
import { SCORE_FORMS } from '../program.ts';
import type { Lowerings } from './lowering.ts';

/** Lowerings of `src/graph/ops/classical`. */
export const CLASSICAL: Lowerings = {
  TreeEnsembleClassifier: { float: false, refuses: refuseTrees, lower: lowerTrees },
  TreeEnsembleRegressor: { float: false, refuses: refuseTrees, lower: lowerTrees },
  TreeEnsemble: { float: false, refuses: refuseTrees, lower: lowerTrees },
};

const [LEQ, GTE, GT] = [0, 2, 3] as const;

function ensembleOf(node: Node): Ensemble | Classifier {
  return ensembleOfNode(node, findVersion(OPERATORS, node)!)!;
}

function refuseTrees(node: Node, inputs: readonly (Facts | undefined)[]): string | undefined {
  if (inputs[0]?.dtype !== 'f32') return `native kernels compute in f32, not ${inputs[0]?.dtype}`;
  const ensemble = ensembleOf(node);
  if ('labels' in ensemble && ensemble.labels.dtype === 'string') return 'its labels are text';
  const other = ensemble.table.modes.find(mode => mode > GT);
  return other === undefined ? undefined : `no native kernel for ${BRANCH_MODES[other]}`;
}

function lowerTrees(d: Draft, node: Node): void {
  const ensemble = ensembleOf(node);
  const { table, targets, aggregate, transform, base } = ensemble;
  const x = node.inputs[0]!;
  const [rows, features] = d.shape(x).length === 1 ? [1, d.shape(x)[0]!] : (d.shape(x) as readonly [number, number]);
  const classifier = 'labels' in ensemble ? ensemble : undefined;
  const write = (id: ValueId | undefined, bytes: number): View => (id === undefined ? d.temporary(bytes) : d.write(id));
  const best = classifier ? write(node.outputs[0], 8 * rows) : d.temporary(0);
  const y = write(node.outputs[classifier ? 1 : 0], 4 * rows * targets);
  if (rows === 0) return;
  if (table.roots.length === 0 || features === 0) throw new Unsupported('it has no trees, or no features');
  const { words, bytes } = packTrees(table, features, targets);
  const scores = d.temporary(8 * rows * targets);
  const voted = d.temporary(rows * targets);
  const packed = d.pack(d.inline(bytes), { layout: 'trees', words });
  d.emit('trees', [d.read(x), { packed }, scores, voted], [rows, AGGREGATE_NUMBERS[aggregate], ...words]);
  const form = classifier === undefined ? 'regression' : classifier.voter === undefined ? 'classes' : 'pair';
  const labels = classifier?.labels.dtype === 'i64' ? classifier.labels.values : [];
  d.emit(
    'scores',
    [
      scores,
      voted,
      base.length === 0 ? d.temporary(0) : d.inline(new Uint8Array(Float64Array.from(base).buffer)),
      labels.length === 0 ? d.temporary(0) : d.inline(new Uint8Array(BigInt64Array.from(labels, BigInt).buffer)),
      y,
      best,
    ],
    [
      ...[rows, targets, TRANSFORMS.indexOf(transform), SCORE_FORMS[form]],
      ...[classifier?.voter ?? 0, Number(classifier?.positive ?? false)],
    ],
  );
}

/** As `native/kernels/trees` numbers them. */
const AGGREGATE_NUMBERS: Readonly<Record<(typeof AGGREGATES)[number], number>> = { SUM: 0, AVERAGE: 1, MIN: 2, MAX: 3 };

/** A node of a packed table: split, feature, child, leaf. */
const NODE_WORDS = 4;

/**
 * The table that native kernels walk, in the layout `trees`, with the words that describe it. A branch asks whether the key of a
 * feature is at most a split, whatever its mode: `x < s` is `x <= s'` with s' the next float below, `x > s` is the other way of
 * `x <= s`. NaN is highest among the keys of a feature, and lowest among those that lie `features` later, so that either way is a
 * comparison too.
 */
export function packTrees(
  table: TreeTable,
  features: number,
  targets: number,
): { readonly words: readonly number[]; readonly bytes: Uint8Array } {
  const leaves = table.leafStart.length - 1;
  const votes = table.leafStart[leaves]!;
  const { nodes, roots, depth } = layTrees(table, features);
  const count = nodes.length / NODE_WORDS;
  const slots = nodes.some((word, i) => i % NODE_WORDS === 1 && word >= features) ? 2 * features : features;
  const single = targets === 1 && votes === leaves && table.leafStart.every((start, i) => start === i);
  const words = [...roots, ...nodes, ...table.leafStart, ...table.targets];
  const size = 8 * votes + 4 * words.length;
  const out = new DataView(new ArrayBuffer(Math.ceil(size / 8) * 8));
  for (let i = 0; i < votes; i++) out.setFloat64(8 * i, table.weights[i]!, true);
  for (let i = 0; i < words.length; i++) out.setUint32(8 * votes + 4 * i, words[i]!, true);
  return {
    words: [features, slots, targets, table.roots.length, count, leaves, votes, depth, Number(single)],
    bytes: new Uint8Array(out.buffer),
  };
}

/** The nodes of all trees, level by level, siblings side by side, and a last one that nothing leads to; root and depth of each tree. */
function layTrees(
  table: TreeTable,
  features: number,
): { readonly nodes: readonly number[]; readonly roots: readonly number[]; readonly depth: number } {
  const nodes: number[] = [];
  const roots: number[] = [];
  let deepest = 0;
  for (const root of table.roots) {
    const first = nodes.length / NODE_WORDS;
    let level = [root];
    let depth = 0;
    let next = first + 1;
    for (; level.length > 0; depth++) {
      const below: number[] = [];
      for (const node of level) {
        if (node < 0) {
          nodes.push(0xffffffff, 0, nodes.length / NODE_WORDS, ~node);
          continue;
        }
        const { split, feature, children } = branchOf(table, node, features);
        nodes.push(split, feature, next, 0);
        next += 2;
        below.push(...children);
      }
      level = below;
    }
    roots.push(first, depth - 1);
    deepest = Math.max(deepest, depth - 1);
  }
  nodes.push(0, 0, 0, 0);
  return { nodes, roots, depth: deepest };
}

/** A branch as `key <= split ? children[0] : children[1]`. */
function branchOf(
  { next, features: asked, splits, modes, missing }: TreeTable,
  node: number,
  features: number,
): { readonly split: number; readonly feature: number; readonly children: readonly [number, number] } {
  const [whenFalse, whenTrue] = [next[2 * node]!, next[2 * node + 1]!];
  const mode = modes[node]!;
  const upwards = mode === GTE || mode === GT;
  // NaN goes where no comparison holds, or to the true side where that is asked for: to the first child or to the second.
  const lowest = upwards === (missing[node] === 0);
  const split = splits[node]!;
  const below = mode === LEQ || mode === GT ? keyBelow(split) : keyBelow(split, true);
  // Nothing compares with NaN: only what NaN itself is to do is left of the branch.
  const nowhere = upwards ? 0xfffffffe : 0;
  return {
    split: Number.isNaN(split) ? nowhere : below,
    feature: asked[node]! + (lowest ? features : 0),
    children: upwards ? [whenFalse, whenTrue] : [whenTrue, whenFalse],
  };
}

/** The largest key of a float32 that is at most `value`, or, `strictly`, below it. */
function keyBelow(value: number, strictly = false): number {
  const near = Math.fround(value);
  const key = floatKey(near);
  if (strictly) return near < value ? key : key - 1;
  return near > value ? key - 1 : key;
}

/** Floats as integers in the same order, as `feature_key` in `native/kernels/trees`. */
function floatKey(value: number): number {
  const bits = new Uint32Array(Float32Array.of(value === 0 ? 0 : value).buffer)[0]!;
  return bits >= 0x80000000 ? ~bits >>> 0 : bits + 0x80000000;
}
