/**
 * What a graph is, in numbers and names: made by whoever parsed it. Pure.
 * @module
 */
import { CloisterError } from '../src/base/index.ts';
import { planArena } from '../src/engine/index.ts';
import type { Graph, Node, ValueId } from '../src/graph/index.ts';
import { elementCount } from '../src/tensor/index.ts';
import {
  type ArenaSummary,
  isSafeName,
  MAX_LABELS,
  MAX_OUTLINE,
  type ModelSummary,
  type ValueSummary,
} from './untrusted.ts';

/**
 * Returns the summary of `graph`, which was read from a file of `bytes` bytes.
 *
 * @throws {CloisterError} `INVALID_MODEL` when a name that is to be shown holds control characters or overrides of the writing
 *   direction, has more than 1,000 characters, or is `__proto__`.
 */
export function summarise(graph: Graph, bytes: number): ModelSummary {
  const describe = (id: ValueId): ValueSummary => {
    const { name, facts } = graph.values[id]!;
    assertSafe(name, 'value');
    for (const dim of facts.shape) if (typeof dim === 'string') assertSafe(dim, 'dimension');
    const labels = graph.maps.get(id)?.labels;
    if (labels && labels.length > MAX_LABELS) {
      throw new CloisterError('MODEL_TOO_LARGE', `an output has ${labels.length} labels, the limit is ${MAX_LABELS}`);
    }
    for (const label of labels ?? []) if (typeof label === 'string') assertSafe(label, 'label');
    return { name, dtype: facts.dtype, shape: [...facts.shape], ...(labels && { labels }) };
  };
  const counts = new Map<string, number>();
  const operatorOf = ({ domain, op }: Node): string => (domain === '' ? op : `${domain}::${op}`);
  for (const node of graph.nodes) {
    const name = operatorOf(node);
    assertSafe(name, 'operator');
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const outline = graph.nodes.slice(0, MAX_OUTLINE).map(node => {
    assertSafe(node.name, 'node');
    return {
      name: node.name,
      op: operatorOf(node),
      outputs: node.outputs.filter(id => id !== undefined).map(describe),
    };
  });
  let parameters = 0;
  let parameterBytes = 0;
  for (const [id, constant] of graph.constants) {
    parameters += elementCount(graph.values[id]!.facts.shape as readonly number[]);
    parameterBytes += constant.kind === 'range' ? constant.length : constant.tensor.bytes().length;
  }
  return {
    name: isSafeName(graph.name) ? graph.name : '',
    bytes,
    inputs: graph.inputs.filter(id => !graph.constants.has(id)).map(describe),
    outputs: graph.outputs.map(describe),
    operators: [...counts]
      .map(([op, count]) => ({ op, count }))
      .sort((a, b) => b.count - a.count || (a.op < b.op ? -1 : 1)),
    nodes: graph.nodes.length,
    outline,
    parameters,
    parameterBytes,
  };
}

/** What the activations of `graph` need; undefined where a size of an input is open. */
export function arenaOf(graph: Graph): ArenaSummary | undefined {
  if (graph.inputs.some(id => graph.values[id]!.facts.shape.some(dim => typeof dim === 'string'))) return undefined;
  const { peakBytes, lowerBoundBytes, unplanned } = planArena(graph);
  return { peakBytes, lowerBoundBytes, unplanned: unplanned.length };
}

function assertSafe(name: string, what: string): void {
  if (isSafeName(name)) return;
  throw new CloisterError(
    'INVALID_MODEL',
    `the name of a ${what} is not printable, longer than 1000 characters, or __proto__`,
    {
      what,
    },
  );
}
