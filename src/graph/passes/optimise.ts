/**
 * The pipeline: every pass, in two groups. `declutter` makes a graph smaller for any target, again and again until nothing changes;
 * `lower` then says what is left in the operators that one target is fast at.
 * @module
 */
import { CloisterError } from '../../base/index.ts';
import type { Graph } from '../graph.ts';
import { type InferOptions, inferFacts } from '../infer.ts';
import { recoverActivations } from './activations.ts';
import { recoverAttention } from './attention.ts';
import { inlineBranches } from './branches.ts';
import { cancel } from './cancellation.ts';
import { fuseChains } from './chains.ts';
import { shareSubexpressions } from './common-subexpressions.ts';
import { fixShapes } from './constant-shapes.ts';
import { foldNormalisation, fuseConvolutions } from './convolutions.ts';
import { removeDeadNodes } from './dead-nodes.ts';
import { foldConstants } from './fold-constants.ts';
import { sinkTransposes } from './layout.ts';
import { recoverNormalisations, recoverSoftmax } from './normalisations.ts';
import { fuseProducts, fuseTransposes } from './products.ts';
import { quantiseOperators } from './quantise-operators.ts';
import type { PassOptions, PassResult } from './rewriter.ts';

/** One pass. */
export interface Pass {
  readonly name: string;
  readonly group: 'declutter' | 'lower';
  /** What it does, in one sentence. */
  readonly does: string;
  /**
   * How far outputs stay what they were: to the bit; within rounding, where sums are added up in another order; or within a step
   * of a quantised result's scale.
   */
  readonly keeps: 'bits' | 'rounding' | 'steps';
  /** Takes a graph with inferred facts and gives one whose facts are right, though perhaps not the most that could be inferred. */
  readonly run: (graph: Graph, options: PassOptions) => PassResult;
}

/** Every pass, in the order in which {@link optimise} runs them within their group. */
export const PASSES: readonly Pass[] = Object.freeze([
  declutter('shape-inference', 'Infers the dtype and shape of every value.', (graph, { operators }) =>
    learnt(graph, inferFacts(graph, operators ? { operators } : {})),
  ),
  declutter('dead-code', 'Removes the nodes and constants that no output depends on.', graph =>
    shrunk(graph, removeDeadNodes(graph)),
  ),
  declutter('constant-folding', 'Computes what depends on small constants and known shapes alone.', (graph, options) =>
    shrunk(graph, foldConstants(graph, { ...options, keepQuantised: true })),
  ),
  declutter(
    'constant-branches',
    'Replaces an If whose condition is a constant by the branch that it takes.',
    inlineBranches,
  ),
  declutter('constant-shapes', 'Replaces the computed shapes of Reshape and Expand by constants.', fixShapes),
  declutter('cancellation', 'Removes nodes that change nothing, and pairs of which one undoes the other.', cancel),
  declutter('common-subexpressions', 'Computes once what is computed several times.', shareSubexpressions),
  declutter('layout', 'Moves Transposes towards the outputs, where they meet and cancel.', sinkTransposes),
  Object.freeze({
    name: 'quantised-operators',
    group: 'lower',
    does: 'Computes on integers what stands between DequantizeLinear and QuantizeLinear.',
    keeps: 'steps',
    run: quantiseOperators,
  } satisfies Pass),
  lower(
    'convolution-normalisation',
    'Takes BatchNormalization into the weights of the Conv before it.',
    foldNormalisation,
  ),
  lower(
    'layer-normalisation',
    'Recovers LayerNormalization and RMSNormalization from arithmetic.',
    recoverNormalisations,
  ),
  lower('softmax', 'Recovers Softmax from exponentials over their sum.', recoverSoftmax),
  lower('activations', 'Recovers Gelu, Swish, HardSwish and Mish from arithmetic.', recoverActivations),
  lower('attention', 'Recovers Attention from products, Softmax and mask.', recoverAttention),
  lower('convolution', 'Takes bias, residual addition and activation into the Conv before them.', fuseConvolutions),
  lower('product', 'Takes bias and activation into the product before them: Gemm, FusedGemm.', fuseProducts),
  lower('product-operands', 'Takes transposes and factors into FusedMatMul.', fuseTransposes),
  Object.freeze({
    name: 'elementwise-chains',
    group: 'lower',
    does: 'Runs neighbouring elementwise nodes block by block as one.',
    keeps: 'bits',
    run: fuseChains,
  } satisfies Pass),
]);

/** What {@link optimise} may be told. */
export interface OptimiseOptions extends PassOptions {
  /** Sizes of symbolic dimensions of the inputs, by name. */
  readonly dims?: Readonly<Record<string, number>>;
  /** Names of passes that are left out. */
  readonly disable?: readonly string[];
  /** The groups to run; both where left out. */
  readonly groups?: readonly Pass['group'][];
  /** The most times that the passes go over the graph, all in all. Default 24; real models settle in six to ten. */
  readonly rounds?: number;
  /** Milliseconds from any fixed point, for the report; all times are 0 where left out. */
  readonly now?: () => number;
}

/** What one pass did, in all rounds together. */
export interface PassReport {
  readonly pass: string;
  readonly group: Pass['group'];
  /** Nodes when its first turn came, and what is left of them without those that it made fewer in all its turns. */
  readonly nodesBefore: number;
  readonly nodesAfter: number;
  readonly rewrites: number;
  readonly milliseconds: number;
}

/** An optimised graph, and how it came about. */
export interface Optimised {
  readonly graph: Graph;
  readonly report: readonly PassReport[];
}

/**
 * Returns a graph that computes what `graph` computes, in fewer and larger steps, with facts inferred. Inputs and outputs keep
 * their order, names, dtypes and shapes; weights are shared and never loaded. Each pass costs time linear in the graph, and the rounds
 * are bounded, so any graph is done in time linear in its size.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when `disable` names no pass; what {@link inferFacts} throws.
 * @example
 * ```ts
 * const b = new GraphBuilder('twice negated');
 * const x = b.input('x', { dtype: 'f32', shape: ['N'] });
 * const negated = b.node({ op: 'Neg', inputs: [x] })[0]!;
 * const same = b.node({ op: 'Neg', inputs: [negated] })[0]!;
 * b.output(b.node({ op: 'Exp', inputs: [same], outputs: ['y'] })[0]!);
 * const { graph, report } = optimise(b.build());
 * graph.nodes.map(node => node.op); // ['Exp']
 * report.find(row => row.pass === 'cancellation')?.rewrites; // 1
 * ```
 */
export function optimise(graph: Graph, options: OptimiseOptions = {}): Optimised {
  const disabled = new Set(options.disable);
  for (const name of disabled) {
    if (!PASSES.some(pass => pass.name === name)) {
      const message = `no pass ${JSON.stringify(name.slice(0, 80))}; there are ${PASSES.map(pass => pass.name).join(', ')}`;
      throw new CloisterError('INVALID_ARGUMENT', message);
    }
  }
  const now = options.now ?? (() => 0);
  const infer: InferOptions = {
    ...(options.dims ? { dims: options.dims } : {}),
    ...(options.operators ? { operators: options.operators } : {}),
  };
  const rows = new Map<string, PassReport>();
  // Sizes are bound once; what the passes find later is inferred from the graph that has them.
  const start = now();
  let current = options.dims === undefined && disabled.has('shape-inference') ? graph : inferFacts(graph, infer);
  const first = PASSES[0]!;
  if (!disabled.has(first.name)) rows.set(first.name, row(first, graph, current, 0, now() - start));

  // A target says what it takes when operators are chosen for it; a tidy graph is anyone's.
  const { supports, ...anyone } = options;
  let rounds = options.rounds ?? 24;
  const settled = new Map<Pass, Graph>([[first, current]]);
  /** Runs passes that have not seen the graph as it is, until none changes it. Returns whether one did. */
  const settle = (passes: readonly Pass[]): boolean => {
    const before = current;
    for (; rounds > 0 && passes.some(pass => settled.get(pass) !== current); rounds--) {
      for (const pass of passes) {
        if (settled.get(pass) === current) continue;
        const from = current;
        const began = now();
        const result = pass.run(from, pass.group === 'lower' && supports ? { ...anyone, supports } : anyone);
        current = result.graph;
        rows.set(pass.name, row(pass, from, current, result.rewrites, now() - began, rows.get(pass.name)));
        if (result.rewrites === 0) settled.set(pass, current);
      }
    }
    return current !== before;
  };

  const groups = options.groups ?? ['declutter', 'lower'];
  const of = (group: Pass['group']): readonly Pass[] =>
    PASSES.filter(pass => groups.includes(group) && pass.group === group && !disabled.has(pass.name));
  const lowering = of('lower').filter(pass => pass.name !== LAST);
  const tidying = of('declutter').filter(pass => pass !== first);
  const learning = of('declutter').filter(pass => pass === first);
  const tidy = (): void => {
    do settle(tidying);
    while (settle(learning));
  };
  tidy();
  // What is recovered may let go of what kept a Transpose in its place, and leaves arithmetic on constants behind.
  while (settle(lowering)) tidy();
  rounds = Math.max(rounds, 2);
  settle(of('lower').filter(pass => pass.name === LAST));
  return Object.freeze({ graph: current, report: Object.freeze([...rows.values()]) });
}

/** A chain hides what is in it, so it is made when nobody looks for anything any more. */
const LAST = 'elementwise-chains';

function row(
  pass: Pass,
  before: Graph,
  after: Graph,
  rewrites: number,
  milliseconds: number,
  earlier?: PassReport,
): PassReport {
  const { length } = before.nodes;
  return Object.freeze({
    pass: pass.name,
    group: pass.group,
    nodesBefore: earlier?.nodesBefore ?? length,
    nodesAfter: Math.max(0, (earlier?.nodesAfter ?? length) - (length - after.nodes.length)),
    rewrites: (earlier?.rewrites ?? 0) + rewrites,
    milliseconds: (earlier?.milliseconds ?? 0) + milliseconds,
  });
}

function declutter(name: string, does: string, run: Pass['run']): Pass {
  return Object.freeze({ name, group: 'declutter', does, keeps: 'bits', run });
}

function lower(name: string, does: string, run: Pass['run']): Pass {
  return Object.freeze({ name, group: 'lower', does, keeps: 'rounding', run });
}

function shrunk(before: Graph, after: Graph): PassResult {
  const gone = before.nodes.length - after.nodes.length;
  const same = gone === 0 && before.constants.size === after.constants.size;
  return same ? { graph: before, rewrites: 0 } : { graph: after, rewrites: Math.max(gone, 1) };
}

/** `after` where its facts say anything that those of `before` do not; other names for the same unknown sizes say nothing. */
function learnt(before: Graph, after: Graph): PassResult {
  const there = new Map<string, string>();
  const back = new Map<string, string>();
  const same = before.values.every((value, id) => {
    const other = after.values[id]!.facts;
    const { dtype, shape } = value.facts;
    if (value.facts === other) return true;
    if (dtype !== other.dtype || shape.length !== other.shape.length) return false;
    return shape.every((dim, i) => {
      const now = other.shape[i]!;
      if (typeof dim === 'number' || typeof now === 'number') return dim === now;
      if (!there.has(dim)) there.set(dim, now);
      if (!back.has(now)) back.set(now, dim);
      return there.get(dim) === now && back.get(now) === dim;
    });
  });
  return same ? { graph: before, rewrites: 0 } : { graph: after, rewrites: 1 };
}
