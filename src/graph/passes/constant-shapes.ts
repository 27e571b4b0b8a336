/**
 * Constant shapes: a Reshape or Expand whose result is known but for sizes that its input has anyway needs no computed shape. Exporters
 * spell such shapes as Shape, Gather, Unsqueeze and Concat, some hundred times in a transformer; all of that is dead afterwards.
 * @module
 */
import type { Dim, Graph, Node } from '../graph.ts';
import { type PassOptions, type PassResult, type Rewriter, type Rule, rewrite } from './rewriter.ts';

/** Returns `graph` with the shapes of Reshape and Expand nodes as constants, where the facts of their results allow it. */
export function fixShapes(graph: Graph, options: PassOptions = {}): PassResult {
  return rewrite(graph, RULES, options);
}

const RULES: Readonly<Record<string, Rule>> = {
  Reshape: (r, node) => fix(r, node, reshapeTarget(r.shape(node.inputs[0]!), r.shape(node.outputs[0]!))),
  Expand: (r, node) => fix(r, node, expandTarget(r.shape(node.inputs[0]!), r.shape(node.outputs[0]!))),
};

function fix(r: Rewriter, node: Node, target: readonly number[] | undefined): boolean {
  if (target === undefined || node.inputs.length !== 2 || r.constant(node.inputs[1])) return false;
  return r.become({ ...node, attributes: {}, inputs: [node.inputs[0], r.integers('shape', target)] });
}

/** The shape that says `to` with numbers: 0 copies a size of the input, one -1 is what is left. */
function reshapeTarget(from: readonly Dim[], to: readonly Dim[]): readonly number[] | undefined {
  let open = 0;
  const target = to.map((dim, i) => {
    // A size of 0 would be copied instead; nothing is known of what -1 would be beside it.
    if (dim === 0) open = 2;
    if (typeof dim === 'number') return dim;
    if (dim === from[i]) return 0;
    open++;
    return -1;
  });
  if (open > 1) return undefined;
  // Beside a copied size that turns out to be 0, -1 could be anything.
  if (open === 1 && target.includes(0)) return undefined;
  return target;
}

/** The shape that says `to` with numbers: 1 leaves a size of the input as it is. */
function expandTarget(from: readonly Dim[], to: readonly Dim[]): readonly number[] | undefined {
  const lead = to.length - from.length;
  const target = to.map((dim, i) => (typeof dim === 'number' ? dim : dim === from[i - lead] ? 1 : -1));
  return target.includes(-1) ? undefined : target;
}
