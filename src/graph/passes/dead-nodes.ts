/**
 * Dead code removal.
 * @module
 */
import type { Graph, Node, ValueId } from '../graph.ts';

/** Returns `graph` without the nodes and constants that no output depends on; itself where there are none. Inputs stay. */
export function removeDeadNodes(graph: Graph): Graph {
  const { nodes, needed } = live(graph);
  for (const id of graph.inputs) needed.add(id);
  const constants = new Map([...graph.constants].filter(([id]) => needed.has(id)));
  if (nodes.length === graph.nodes.length && constants.size === graph.constants.size) return graph;
  return Object.freeze({ ...graph, nodes: Object.freeze(nodes), constants });
}

/** The nodes that an output needs, in order. */
export function liveNodes(graph: Graph): readonly Node[] {
  return live(graph).nodes;
}

function live(graph: Graph): { readonly nodes: Node[]; readonly needed: Set<ValueId> } {
  const needed = new Set<ValueId>(graph.outputs);
  const nodes: Node[] = [];
  for (const node of graph.nodes.toReversed()) {
    if (!node.outputs.some(id => id !== undefined && needed.has(id))) continue;
    nodes.push(node);
    for (const id of node.inputs) if (id !== undefined) needed.add(id);
  }
  return { nodes: nodes.reverse(), needed };
}
