/**
 * Which backend runs which node of a graph, and the segments that this cuts the graph into.
 * @module
 */
import { type Graph, graphDigest, isGraph, liveNodes, type Node, type ValueId } from '../graph/index.ts';
import { Tensor } from '../tensor/index.ts';
import type { Backend } from './backend.ts';

/** What nodes cost on each backend, in microseconds, where that was measured. */
export interface CostTable {
  /** By what a node is: {@link nodeSignature}. Infinity: the backend fails on it. */
  readonly costs: ReadonlyMap<string, ReadonlyMap<Backend, number>>;
  /** What handing values over to another backend costs, whatever their size. */
  readonly handOverUs: number;
}

/** The choice for one node. */
export interface NodeChoice {
  readonly node: Node;
  readonly backend: Backend;
  /** Why, for people. */
  readonly reason: string;
}

/** Nodes that one backend runs in one go. */
export interface Segment {
  readonly backend: Backend;
  /** The nodes in order, with what they need from outside as inputs and what others need of them as outputs. */
  readonly graph: Graph;
}

/**
 * Chooses a backend for every node of `graph` that an output needs, whose sizes are known: the cheapest way through all nodes in order,
 * where each costs what was measured and each change of backend costs `handOverUs`. What was not measured costs nothing on the first
 * backend that runs it, so that without costs every node goes to the first of `backends` that runs it.
 *
 * @throws {CloisterError} Nothing: a node that no backend runs goes to the last one, which then refuses it.
 */
export function assignNodes(graph: Graph, backends: readonly Backend[], costs?: CostTable): readonly NodeChoice[] {
  const nodes = liveNodes(graph);
  const refused = new Map(backends.map(backend => [backend, refusalsOf(backend, graph, nodes)]));
  const last = backends.at(-1)!;
  // For each node and each backend that it may run on: the cheapest way to have computed everything up to it.
  interface Way {
    readonly cost: number;
    readonly backend: Backend;
    readonly before: Way | undefined;
    readonly reason: string;
  }
  let ways: readonly Way[] = [];
  for (const node of nodes) {
    const able = backends.filter(backend => !refused.get(backend)!.has(node));
    const measured = costs?.costs.get(nodeSignature(graph, node));
    const sound = able.filter(backend => measured?.get(backend) !== Number.POSITIVE_INFINITY);
    const options = sound.length > 0 ? sound : able.length > 0 ? able : [last];
    ways = options.map((backend, rank): Way => {
      const us = measured?.get(backend);
      const own = us !== undefined && us < Number.POSITIVE_INFINITY ? us : Number.EPSILON * rank;
      let best: Way | undefined;
      let least = Number.POSITIVE_INFINITY;
      for (const way of ways) {
        const cost = way.cost + (way.backend === backend ? 0 : (costs?.handOverUs ?? 0));
        if (cost < least) [least, best] = [cost, way];
      }
      const reason = reasonFor(backend, options, refused.get(backends[0]!)!.get(node), measured);
      return { cost: (best === undefined ? 0 : least) + own, backend, before: best, reason };
    });
  }
  let way = ways.reduce<Way | undefined>((a, b) => (a === undefined || b.cost < a.cost ? b : a), undefined);
  const choices: NodeChoice[] = [];
  for (let i = nodes.length - 1; i >= 0 && way !== undefined; i--) {
    choices.push({ node: nodes[i]!, backend: way.backend, reason: way.reason });
    way = way.before;
  }
  return choices.reverse();
}

/** What a node computes, as text: operator, attributes, dtypes and shapes. Two nodes with the same one cost the same. */
export function nodeSignature(graph: Graph, node: Node): string {
  const facts = (id: ValueId | undefined) => (id === undefined ? null : graph.values[id]!.facts);
  const attributes = Object.entries(node.attributes).map(([name, value]) =>
    isGraph(value)
      ? [name, graphDigest(value)]
      : value instanceof Tensor
        ? [name, value.dtype, value.shape, [...value.toBytes()].join()]
        : [name, value],
  );
  const constants = node.inputs.map(id => id !== undefined && graph.constants.has(id));
  const { domain, op, opset, inputs, outputs } = node;
  return JSON.stringify([domain, op, opset, attributes, inputs.map(facts), outputs.map(facts), constants]);
}

function reasonFor(
  backend: Backend,
  options: readonly Backend[],
  refused: string | undefined,
  measured: ReadonlyMap<Backend, number> | undefined,
): string {
  if (measured !== undefined && measured.size > 1) {
    const time = (us: number): string => (us < Number.POSITIVE_INFINITY ? `${us.toFixed(1)} us` : 'fails');
    const times = [...measured].map(([{ name }, us]) => `${name} ${time(us)}`).join(', ');
    return `measured: ${times}`;
  }
  if (refused !== undefined) return refused;
  return options.length === 1 ? `only ${backend.name} runs it` : `${backend.name} comes first`;
}

/** Why `backend` does not run a node, for each node that it does not. */
function refusalsOf(backend: Backend, graph: Graph, nodes: readonly Node[]): ReadonlyMap<Node, string> {
  if (backend.refusals !== undefined) return backend.refusals(graph, nodes);
  const facts = (id: ValueId | undefined) => (id === undefined ? undefined : graph.values[id]!.facts);
  const lacking = nodes.filter(node => !backend.supports(node, node.inputs.map(facts), node.outputs.map(facts)));
  return new Map(lacking.map(node => [node, `${backend.name} does not run ${node.op} ${JSON.stringify(node.name)}`]));
}

/**
 * Cuts `graph` into segments, to be run one after another: each takes every node of its backend that is ready, so that hand-overs are
 * few. Constants stay where they are read. `given`: the values that are there at the beginning.
 */
export function cutSegments(
  graph: Graph,
  choices: readonly NodeChoice[],
  given: readonly ValueId[] = graph.inputs,
): readonly Segment[] {
  const made = new Set<ValueId>([...given, ...graph.constants.keys()]);
  const left = new Set(choices);
  const segments: Segment[] = [];
  const isReady = ({ node }: NodeChoice): boolean => node.inputs.every(id => id === undefined || made.has(id));
  while (left.size > 0) {
    const { backend } = [...left].find(isReady)!; // the first that is left always is: nodes stand in order
    const nodes: Node[] = [];
    for (const choice of left) {
      if (choice.backend !== backend || !isReady(choice)) continue;
      left.delete(choice);
      nodes.push(choice.node);
      for (const id of choice.node.outputs) if (id !== undefined) made.add(id);
    }
    segments.push({ backend, graph: subgraphOf(graph, nodes, left) });
  }
  return segments;
}

function subgraphOf(graph: Graph, nodes: readonly Node[], later: ReadonlySet<NodeChoice>): Graph {
  const inside = new Set(nodes.flatMap(node => node.outputs.filter(id => id !== undefined)));
  const read = new Set(nodes.flatMap(node => node.inputs.filter(id => id !== undefined)));
  const wanted = new Set<ValueId>(graph.outputs);
  for (const { node } of later) for (const id of node.inputs) if (id !== undefined) wanted.add(id);
  return {
    ...graph,
    nodes,
    inputs: [...read].filter(id => !inside.has(id) && !graph.constants.has(id)),
    outputs: [...inside].filter(id => wanted.has(id)),
    constants: new Map([...graph.constants].filter(([id]) => read.has(id))),
    maps: new Map(),
  };
}
