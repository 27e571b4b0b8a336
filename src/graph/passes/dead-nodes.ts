/**
 * Dead code removal.
 * @module
 */
import type { Graph, Node, ValueId } from '../graph.ts';

/** Returns `graph` without the nodes and constants that no output depends on. Inputs stay, used or not. */
export function removeDeadNodes(graph: Graph): Graph {
  const needed = new Set<ValueId>(graph.outputs);
  const nodes: Node[] = [];
  for (const node of graph.nodes.toReversed()) {
    if (!node.outputs.some(id => id !== undefined && needed.has(id))) continue;
    nodes.push(node);
    for (const id of node.inputs) if (id !== undefined) needed.add(id);
  }
  const constants = new Map([...graph.constants].filter(([id]) => needed.has(id) || graph.inputs.includes(id)));
  return Object.freeze({ ...graph, nodes: Object.freeze(nodes.reverse()), constants });
}
