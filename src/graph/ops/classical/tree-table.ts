/**
 * Trees as flat tables: described by whoever wrote the model, verified once, then walked without checks.
 * @module
 */
import type { Numbers } from '../loops.ts';

/** Comparisons of branches, in the order in which TreeEnsemble-5 numbers them. */
export const BRANCH_MODES = [
  'BRANCH_LEQ',
  'BRANCH_LT',
  'BRANCH_GTE',
  'BRANCH_GT',
  'BRANCH_EQ',
  'BRANCH_NEQ',
  'BRANCH_MEMBER',
] as const;

const LEQ = 0;
const LT = 1;
const GTE = 2;
const GT = 3;
const EQ = 4;
const NEQ = 5;
export const MEMBER = 6;

/**
 * Branches and leaves as a model lists them. A child or root of at least 0 is the index of a branch, `~i` is leaf `i`. The lists of
 * branches are of one length, and so are targets and weights.
 */
export interface TreeDescription {
  readonly roots: readonly number[];
  readonly whenTrue: Int32Array;
  readonly whenFalse: Int32Array;
  readonly features: readonly number[];
  readonly splits: readonly number[];
  readonly modes: Uint8Array;
  /** Whether NaN goes the way of true. */
  readonly missing: Uint8Array;
  /** The values that a branch of mode MEMBER looks for. */
  readonly members: ReadonlyMap<number, ReadonlySet<number>>;
  /** The votes of leaf `i` are those from `leafStart[i]` up to `leafStart[i + 1]`. */
  readonly leafStart: Int32Array;
  readonly targets: Int32Array;
  readonly weights: Float64Array;
  /** How an error names a branch. */
  readonly nameOf: (branch: number) => string;
}

/** Trees that were verified: every walk from a root ends at a leaf after fewer steps than there are branches. */
export interface TreeTable {
  readonly roots: Int32Array;
  /** Where branch `i` leads when false (`2 i`) and when true (`2 i + 1`). */
  readonly next: Int32Array;
  readonly features: Int32Array;
  readonly splits: Float64Array;
  readonly modes: Uint8Array;
  readonly missing: Uint8Array;
  readonly members: ReadonlyMap<number, ReadonlySet<number>>;
  /** All branches compare by LEQ, and NaN goes the way of false: as most tables are. */
  readonly plain: boolean;
  /** Rows must have more features than this. */
  readonly lastFeature: number;
  readonly leafStart: Int32Array;
  readonly targets: Int32Array;
  readonly weights: Float64Array;
}

/**
 * Verifies a description and lays its branches out in the order of a walk. Fails unless children, roots and features are in range and
 * every branch is reached from the roots exactly once, which leaves no room for a circle. Leaves may be shared. Targets are not looked
 * at. Takes time and memory in proportion to the description.
 *
 * @param fail - Throws an error that names the node.
 */
export function verifyTrees(description: TreeDescription, fail: (message: string) => never): TreeTable {
  const { roots, whenTrue, whenFalse, nameOf } = description;
  const count = whenTrue.length;
  const leaves = description.leafStart.length - 1;
  const inRange = (child: number): boolean => child < count && child >= -leaves;
  /** Where each branch comes to lie. */
  const place = new Int32Array(count).fill(-1);
  const order: number[] = [];
  const stack: number[] = [];
  for (const root of roots) {
    if (!inRange(root)) fail('a tree starts at a node that does not exist');
    if (root < 0) continue;
    stack.push(root);
    while (stack.length > 0) {
      const branch = stack.pop()!;
      if (place[branch] !== -1) fail(`${nameOf(branch)} is reached twice`);
      place[branch] = order.length;
      order.push(branch);
      // The true side is walked first: it lies next to its parent.
      for (const child of [whenFalse[branch]!, whenTrue[branch]!]) {
        if (!inRange(child)) fail(`${nameOf(branch)} leads to a node that does not exist`);
        if (child >= 0) stack.push(child);
      }
    }
  }
  if (order.length < count) fail(`${nameOf(place.indexOf(-1))} is reached from no root`);
  const next = new Int32Array(2 * count);
  const features = new Int32Array(count);
  const members = new Map<number, ReadonlySet<number>>();
  const moved = (child: number): number => (child >= 0 ? place[child]! : child);
  let lastFeature = -1;
  order.forEach((branch, at) => {
    next[2 * at] = moved(whenFalse[branch]!);
    next[2 * at + 1] = moved(whenTrue[branch]!);
    const feature = description.features[branch]!;
    if (!(feature >= 0 && feature <= MAX_FEATURE)) fail(`${nameOf(branch)} asks for feature ${feature}`);
    features[at] = feature;
    lastFeature = Math.max(lastFeature, feature);
    const set = description.members.get(branch);
    if (set) members.set(at, set);
  });
  const modes = Uint8Array.from(order, branch => description.modes[branch]!);
  const missing = Uint8Array.from(order, branch => description.missing[branch]!);
  return {
    roots: Int32Array.from(roots, moved),
    next,
    features,
    splits: Float64Array.from(order, branch => description.splits[branch]!),
    modes,
    missing,
    members,
    plain: modes.every(mode => mode === LEQ) && missing.every(value => value === 0),
    lastFeature,
    leafStart: description.leafStart,
    targets: description.targets,
    weights: description.weights,
  };
}

const MAX_FEATURE = 2 ** 31 - 1;

/** How the votes of trees become one score. */
export const AGGREGATES = ['AVERAGE', 'SUM', 'MIN', 'MAX'] as const;
export type Aggregate = (typeof AGGREGATES)[number];

/** Rows that walk one tree after another together, so that a tree stays in the cache while they do. */
const BLOCK = 1024;

/**
 * The votes of all trees for `rows` rows of `width` features: `scores[row * targets + target]`, and `voted` in the same places is 1
 * where there was any. AVERAGE divides by the number of trees.
 */
export function voteTrees(
  table: TreeTable,
  aggregate: Aggregate,
  x: Numbers,
  rows: number,
  width: number,
  targets: number,
): { readonly scores: Float64Array; readonly voted: Uint8Array } {
  const scores = new Float64Array(rows * targets);
  const voted = new Uint8Array(rows * targets);
  const { leafStart, weights } = table;
  const walk = table.plain ? walkPlain : walkAny;
  const sums = aggregate === 'SUM' || aggregate === 'AVERAGE';
  const sign = aggregate === 'MIN' ? -1 : 1;
  for (let top = 0; top < rows; top += BLOCK) {
    const bottom = Math.min(rows, top + BLOCK);
    for (let tree = 0; tree < table.roots.length; tree++) {
      const root = table.roots[tree]!;
      for (let row = top; row < bottom; row++) {
        const leaf = ~walk(table, root, x, row * width);
        for (let vote = leafStart[leaf]!; vote < leafStart[leaf + 1]!; vote++) {
          const at = row * targets + table.targets[vote]!;
          const weight = weights[vote]!;
          if (sums) scores[at] = scores[at]! + weight;
          else if (voted[at] === 0 || sign * weight > sign * scores[at]!) scores[at] = weight;
          voted[at] = 1;
        }
      }
    }
  }
  if (aggregate === 'AVERAGE' && table.roots.length > 0) {
    for (let i = 0; i < scores.length; i++) scores[i] = scores[i]! / table.roots.length;
  }
  return { scores, voted };
}

/** The leaf, as `~index`, that the row from `x[row]` on reaches from `at`. */
function walkPlain({ next, features, splits }: TreeTable, start: number, x: Numbers, row: number): number {
  let at = start;
  while (at >= 0) at = next[2 * at + (x[row + features[at]!]! <= splits[at]! ? 1 : 0)]!;
  return at;
}

function walkAny(table: TreeTable, start: number, x: Numbers, row: number): number {
  const { next, features, splits, modes, missing } = table;
  let at = start;
  while (at >= 0) {
    const value = x[row + features[at]!]!;
    const split = splits[at]!;
    let taken: boolean;
    switch (modes[at]) {
      case LEQ:
        taken = value <= split;
        break;
      case LT:
        taken = value < split;
        break;
      case GTE:
        taken = value >= split;
        break;
      case GT:
        taken = value > split;
        break;
      case EQ:
        taken = value === split;
        break;
      case NEQ:
        taken = value !== split;
        break;
      default:
        taken = table.members.get(at)!.has(value);
    }
    if (missing[at] === 1 && Number.isNaN(value)) taken = true;
    at = next[2 * at + (taken ? 1 : 0)]!;
  }
  return at;
}
