/**
 * What each node of a graph costs on each backend, by running it there alone.
 * @module
 */
import { isCloisterError } from '../base/index.ts';
import { type ConstantReader, type Graph, liveNodes, type Node, type ValueId } from '../graph/index.ts';
import { Tensor } from '../tensor/index.ts';
import { type CostTable, cutSegments, nodeSignature } from './assignment.ts';
import type { Backend, Executable, NamedTensors } from './backend.ts';
import { tidy } from './plan.ts';

/** What {@link measureCosts} is told. */
export interface MeasureOptions {
  /** Where the bytes of the graph's `range` constants are. */
  readonly constants: ConstantReader;
  /** A clock in milliseconds. */
  readonly now: () => number;
  /** Sizes of the graph's symbolic dimensions, by name. */
  readonly dims?: Readonly<Record<string, number>>;
  /** How long one node may be timed on one backend, in milliseconds; it runs four times at least. Default 10. */
  readonly budgetMs?: number;
}

/**
 * Times every node of `graph` alone on every backend that runs it, on zeros, and returns the shortest of each. Nodes that are alike (same
 * operator, attributes, dtypes and shapes) are timed once. The times are this machine's at this moment, so what is chosen by them may
 * differ from run to run; results do not, beyond rounding. A backend that fails on a node costs infinitely much there, and is chosen only
 * where every other fails as well.
 *
 * @throws {CloisterError} Nothing of its own.
 */
export async function measureCosts(
  graph: Graph,
  backends: readonly Backend[],
  options: MeasureOptions,
): Promise<CostTable> {
  const folded = tidy(graph, options.constants, options.dims);
  const costs = new Map<string, ReadonlyMap<Backend, number>>();
  for (const node of liveNodes(folded)) {
    const key = nodeSignature(folded, node);
    if (costs.has(key)) continue;
    const times = new Map<Backend, number>();
    costs.set(key, times);
    for (const backend of backends) {
      const us = await timeNode(folded, node, backend, options);
      if (us !== undefined) times.set(backend, us);
    }
  }
  return { costs, handOverUs: HAND_OVER_US };
}

/** The first run also compiles and warms up. */
const LEAST_RUNS = 4;

/** Two more calls, and tensors made ready for them. */
const HAND_OVER_US = 3;

/** The shortest time of `node` alone, in microseconds; infinity where the backend fails on it, undefined where it does not run it. */
async function timeNode(
  graph: Graph,
  node: Node,
  backend: Backend,
  { constants, now, budgetMs = 10 }: MeasureOptions,
): Promise<number | undefined> {
  const facts = (id: ValueId | undefined) => (id === undefined ? undefined : graph.values[id]!.facts);
  if (!backend.supports(node, node.inputs.map(facts), node.outputs.map(facts))) return undefined;
  const [segment] = cutSegments(
    { ...graph, outputs: node.outputs.filter(id => id !== undefined) },
    [{ node, backend, reason: '' }],
    [...graph.inputs, ...node.inputs.filter(id => id !== undefined)],
  );
  let executable: Executable | undefined;
  try {
    executable = backend.prepare(segment!.graph, { constants });
    const inputs: NamedTensors = Object.fromEntries(
      segment!.graph.inputs.map(id => {
        const { name, facts } = graph.values[id]!;
        return [name, Tensor.zeros(facts.dtype, facts.shape as readonly number[])];
      }),
    );
    let best = Number.POSITIVE_INFINITY;
    const end = now() + budgetMs;
    for (let runs = 0; runs < LEAST_RUNS || now() < end; runs++) {
      const start = now();
      if (backend.isAsync === true) await executable.run(inputs);
      else executable.runSync(inputs);
      best = Math.min(best, now() - start);
    }
    return best * 1_000;
  } catch (error) {
    if (isCloisterError(error)) return Number.POSITIVE_INFINITY;
    throw error;
  } finally {
    executable?.close();
  }
}
