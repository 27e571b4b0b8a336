/**
 * Elementwise chains: neighbours that work element by element become one Chain node, whose body holds them.
 * @module
 */
import type { Dim, Graph, Node, Value, ValueId } from '../graph.ts';
import { CHAINABLE } from '../ops/core/chain.ts';
import { type PassOptions, type PassResult, Rewriter, sameDims } from './rewriter.ts';

/** The most nodes in one chain. */
const MAX_NODES = 64;

/** More than one chain needs a value. */
const SHARED = -1;

interface Chain {
  readonly shape: readonly Dim[];
  /** From the last to the first. */
  readonly nodes: Node[];
}

/**
 * Returns `graph` with each tree of elementwise nodes, whose inner results have the shape of the last one and are needed inside
 * only, as one node `cloister.Chain`. The numbers are the same to the bit.
 */
export function fuseChains(graph: Graph, options: PassOptions = {}): PassResult {
  const chains = findChains(graph);
  const byLast = new Map(chains.map(chain => [chain.nodes[0]!.outputs[0]!, chain]));
  if (byLast.size === 0) return { graph, rewrites: 0 };
  const rewriter = new Rewriter(graph, options);
  rewriter.walk(node => {
    const chain = byLast.get(node.outputs[0] ?? SHARED);
    if (chain === undefined) return false;
    const body = bodyOf(graph, chain);
    return rewriter.become({
      op: 'Chain',
      domain: 'cloister',
      opset: 1,
      inputs: body.captured,
      attributes: { body: body.graph },
    });
  });
  return rewriter.finish();
}

/** The chains of two nodes and more. Seen from the end, what needs a value is known before what makes it. */
function findChains(graph: Graph): readonly Chain[] {
  const chains: Chain[] = [];
  const needs = new Map<ValueId, number>();
  for (const id of graph.outputs) needs.set(id, SHARED);
  for (const node of graph.nodes.toReversed()) {
    const which = chainOf(graph, node, chains, needs);
    for (const id of node.inputs) {
      if (id !== undefined) needs.set(id, (needs.get(id) ?? which) === which ? which : SHARED);
    }
  }
  return chains.filter(chain => chain.nodes.length > 1);
}

/** The chain that `node` joins or begins. */
function chainOf(graph: Graph, node: Node, chains: Chain[], needs: ReadonlyMap<ValueId, number>): number {
  const out = node.outputs[0];
  if (out === undefined || node.outputs.length > 1 || !isChainable(graph, node)) return SHARED;
  const { shape } = graph.values[out]!.facts;
  const which = needs.get(out) ?? SHARED;
  const chain = which === SHARED ? undefined : chains[which];
  if (chain && chain.nodes.length < MAX_NODES && sameDims(chain.shape, shape)) {
    chain.nodes.push(node);
    return which;
  }
  return chains.push({ shape, nodes: [node] }) - 1;
}

function isChainable(graph: Graph, node: Node): boolean {
  if (node.domain !== '' || node.opset < 7 || !CHAINABLE.has(node.op)) return false;
  return [...node.inputs, ...node.outputs].every(id => {
    const dtype = id === undefined ? 'f32' : graph.values[id]!.facts.dtype;
    return dtype !== 'f16' && dtype !== 'bf16' && dtype !== 'string';
  });
}

/** The chain as a graph of its own, and the values that its inputs stand for. */
function bodyOf(graph: Graph, chain: Chain): { readonly graph: Graph; readonly captured: readonly ValueId[] } {
  const values: Value[] = [];
  const ids = new Map<ValueId, ValueId>();
  const add = (id: ValueId): ValueId => {
    const there = ids.get(id);
    if (there !== undefined) return there;
    ids.set(id, values.length);
    return values.push(graph.values[id]!) - 1;
  };
  const made = new Set(chain.nodes.map(node => node.outputs[0]!));
  const nodes = chain.nodes.toReversed();
  const captured = [
    ...new Set(nodes.flatMap(node => node.inputs.filter(id => id !== undefined)).filter(id => !made.has(id))),
  ];
  const inputs = captured.map(add);
  const inner = nodes.map(node =>
    Object.freeze({
      ...node,
      inputs: Object.freeze(node.inputs.map(id => (id === undefined ? undefined : add(id)))),
      outputs: Object.freeze([add(node.outputs[0]!)]),
    }),
  );
  const body: Graph = Object.freeze({
    name: nodes.at(-1)!.name,
    values: Object.freeze(values),
    nodes: Object.freeze(inner),
    inputs: Object.freeze(inputs),
    outputs: Object.freeze([ids.get(chain.nodes[0]!.outputs[0]!)!]),
    constants: new Map(),
    maps: new Map(),
  });
  return { graph: body, captured };
}
