import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { planArena } from '../../src/engine/index.ts';
import {
  foldConstants,
  type Graph,
  GraphBuilder,
  inferFacts,
  OPERATORS,
  operatorKey,
  type ValueId,
} from '../../src/graph/index.ts';
import { DTYPES, elementCount, Tensor } from '../../src/tensor/index.ts';
import { graphs } from '../suites/graphs.ts';
import { corpusModel, MODEL_NAMES } from './corpus-models.ts';

/**
 * Runs the plan on paper: each node writes its name into its bytes, and every value must still be there when it is read. A view is
 * the value it views.
 */
function replay(graph: Graph): void {
  const { offsets, peakBytes } = planArena(graph);
  const bytes = new Int32Array(peakBytes).fill(-1);
  const size = (id: ValueId): number => {
    const { dtype, shape } = graph.values[id]!.facts;
    return elementCount(shape as readonly number[]) * DTYPES[dtype].bytes;
  };
  const content = new Map<ValueId, number>();
  const check = (id: ValueId): void => {
    const offset = offsets.get(id);
    if (offset === undefined) return;
    expect(offset % 64).toBe(0);
    expect(offset + size(id)).toBeLessThanOrEqual(peakBytes);
    expect(new Set(bytes.subarray(offset, offset + size(id)))).toEqual(new Set([content.get(id)]));
  };
  for (const node of graph.nodes) {
    for (const id of node.inputs) if (id !== undefined) check(id);
    for (const id of node.outputs) {
      const { kind } = OPERATORS.get(operatorKey(node.domain, node.op))!;
      const viewed = kind === 'view' && id === node.outputs[0] ? node.inputs[0]! : undefined;
      if (viewed !== undefined && offsets.has(viewed)) {
        content.set(id!, content.get(viewed)!);
        continue;
      }
      content.set(id!, id!);
      const offset = offsets.get(id!);
      if (offset !== undefined) bytes.fill(id!, offset, offset + size(id!));
    }
  }
  for (const id of graph.outputs) check(id);
}

describe('the arena of a graph', () => {
  test('keeps every value until its last reader, and outputs to the end', () => {
    fc.assert(
      fc.property(graphs({ maxSteps: 25 }), ({ graph }) => replay(graph)),
      { numRuns: 300 },
    );
  });

  test('is a single buffer for a chain of elementwise nodes', () => {
    const b = new GraphBuilder('chain');
    let x = b.node({
      op: 'MatMul',
      inputs: [b.input('x', { dtype: 'f32', shape: [8, 8] }), b.constant('w', Tensor.zeros('f32', [8, 8]))],
    })[0]!;
    for (let i = 0; i < 10; i++) x = b.node({ op: i % 2 === 0 ? 'Relu' : 'Tanh', inputs: [x] })[0]!;
    b.output(x);
    expect(planArena(b.build())).toMatchObject({ peakBytes: 256, lowerBoundBytes: 256, unplanned: [] });
  });

  test('leaves out what depends on constants alone: it is computed once and kept', () => {
    const b = new GraphBuilder('weights');
    const w = b.constant('w', Tensor.zeros('f32', [64, 64]));
    const sliced = b.node({ op: 'Transpose', inputs: [w] })[0]!;
    const scaled = b.node({ op: 'Mul', inputs: [sliced, sliced] })[0]!;
    b.output(b.node({ op: 'MatMul', inputs: [b.input('x', { dtype: 'f32', shape: [1, 64] }), scaled] })[0]!);
    const { peakBytes, offsets } = planArena(b.build());
    expect([peakBytes, offsets.has(scaled), offsets.has(sliced)]).toEqual([256, false, false]);
  });

  test('leaves out what depends on elements, and refuses sizes that are not bound', () => {
    const b = new GraphBuilder('found');
    const x = b.input('x', { dtype: 'f32', shape: ['N', 2] });
    b.output(b.node({ op: 'NonZero', inputs: [x] })[0]!);
    const graph = b.build();
    expect(() => planArena(graph)).toThrow(/input "x" has a symbolic size/);
    expect(planArena(inferFacts(graph, { dims: { N: 3 } })).unplanned).toEqual(graph.outputs);
  });

  test.skipIf(MODEL_NAMES.length === 0).each(MODEL_NAMES)('of %s is at most 1.10 of what is alive at once', name => {
    const { graph, source, dims } = corpusModel(name);
    const concrete = foldConstants(inferFacts(graph, { dims }), { constants: source });
    const { peakBytes, lowerBoundBytes, unplanned } = planArena(concrete);
    expect(unplanned).toEqual([]);
    expect(lowerBoundBytes).toBeGreaterThan(0);
    expect(peakBytes / lowerBoundBytes).toBeLessThanOrEqual(1.1);
  });
});
