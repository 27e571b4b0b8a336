/**
 * The arena of a graph: what its activations need, when each may lie where another has been.
 * @module
 */
import { CloisterError } from '../base/index.ts';
import {
  type Facts,
  type Graph,
  type Node,
  OPERATORS,
  type OperatorKind,
  operatorKey,
  type ValueId,
} from '../graph/index.ts';
import { DTYPES, elementCount } from '../tensor/index.ts';
import { type Lifetime, planMemory } from './memory-planner.ts';

/** The memory that the activations of a graph need, known before it runs. */
export interface ArenaPlan {
  /** Offset of each value that lies in the arena, by value id. Values that share bytes (views, work in place) share an offset. */
  readonly offsets: ReadonlyMap<ValueId, number>;
  /** Bytes of the whole arena. */
  readonly peakBytes: number;
  /** The most bytes that are alive at one step: what no placement can go below. */
  readonly lowerBoundBytes: number;
  /** Values whose size depends on elements, so that no plan knows it. */
  readonly unplanned: readonly ValueId[];
}

/**
 * Plans where the activations of `graph` lie. A view shares the bytes of what it views; an elementwise node writes over an input
 * that nobody reads later, if that is of the same size. Inputs and constants of the graph are not in the arena, nor what depends on
 * constants alone, which is computed once and kept; outputs are, to the end.
 *
 * @param graph - With concrete sizes: after `inferFacts` with every symbol bound.
 * @throws {CloisterError} `SHAPE_MISMATCH` when an input has a symbolic size.
 * @example
 * ```ts
 * const b = new GraphBuilder('twice');
 * const x = b.input('x', { dtype: 'f32', shape: [1024] });
 * const y = b.node({ op: 'MatMul', inputs: [b.constant('w', Tensor.zeros('f32', [1024, 1024])), x] })[0]!;
 * b.output(b.node({ op: 'Relu', inputs: [y] })[0]!);
 * planArena(b.build()).peakBytes; // 4096: Relu works in place
 * ```
 */
export function planArena(graph: Graph): ArenaPlan {
  for (const id of graph.inputs) {
    const { name, facts } = graph.values[id]!;
    if (bytesOf(facts) === undefined) {
      throw new CloisterError('SHAPE_MISMATCH', `input ${JSON.stringify(name)} has a symbolic size: bind it first`);
    }
  }
  const lastUse = lastUses(graph);
  const owners = new Map<ValueId, number>(); // value -> buffer
  const buffers: { bytes: number; first: number; last: number }[] = [];
  const unplanned: ValueId[] = [];
  const kept = new Set<ValueId>([...graph.constants.keys()].filter(id => !graph.inputs.includes(id)));
  graph.nodes.forEach((node, step) => {
    if (node.inputs.every(id => id === undefined || kept.has(id))) {
      for (const id of node.outputs) if (id !== undefined) kept.add(id);
      return;
    }
    const shared = sharedInput(graph, node, step, owners, buffers, lastUse);
    node.outputs.forEach((id, i) => {
      if (id === undefined) return;
      const bytes = bytesOf(graph.values[id]!.facts);
      const last = lastUse.get(id) ?? step;
      if (bytes === undefined) unplanned.push(id);
      else if (i === 0 && shared !== undefined) {
        owners.set(id, shared);
        buffers[shared]!.last = Math.max(buffers[shared]!.last, last);
      } else {
        owners.set(id, buffers.length);
        buffers.push({ bytes, first: step, last });
      }
    });
  });
  const plan = planMemory(buffers as readonly Lifetime[]);
  return Object.freeze({
    offsets: new Map([...owners].map(([id, buffer]) => [id, plan.offsets[buffer]!])),
    peakBytes: plan.peakBytes,
    lowerBoundBytes: plan.lowerBoundBytes,
    unplanned: Object.freeze(unplanned),
  });
}

/** The buffer that output 0 of a node shares with one of its inputs, if any. */
function sharedInput(
  graph: Graph,
  node: Node,
  step: number,
  owners: ReadonlyMap<ValueId, number>,
  buffers: readonly { readonly bytes: number; readonly last: number }[],
  lastUse: ReadonlyMap<ValueId, number>,
): number | undefined {
  const [out] = node.outputs;
  const bytes = out === undefined ? undefined : bytesOf(graph.values[out]!.facts);
  if (bytes === undefined) return undefined;
  const kind: OperatorKind | undefined = OPERATORS.get(operatorKey(node.domain, node.op))?.kind;
  const [first] = node.inputs;
  if (kind === 'view') return first === undefined ? undefined : owners.get(first);
  if (kind !== 'elementwise') return undefined;
  for (const id of node.inputs) {
    const buffer = id === undefined ? undefined : owners.get(id);
    // A buffer that a view still needs lives longer than this value.
    if (
      buffer !== undefined &&
      buffers[buffer]!.bytes === bytes &&
      buffers[buffer]!.last === step &&
      lastUse.get(id!) === step
    )
      return buffer;
  }
  return undefined;
}

/** The last step that reads each value; behind the last one for outputs. */
function lastUses(graph: Graph): ReadonlyMap<ValueId, number> {
  const last = new Map<ValueId, number>();
  graph.nodes.forEach(({ inputs }, step) => {
    for (const id of inputs) if (id !== undefined) last.set(id, step);
  });
  for (const id of graph.outputs) last.set(id, graph.nodes.length);
  return last;
}

function bytesOf({ dtype, shape }: Facts): number | undefined {
  if (shape.some(dim => typeof dim !== 'number')) return undefined;
  return elementCount(shape as readonly number[]) * DTYPES[dtype].bytes;
}
