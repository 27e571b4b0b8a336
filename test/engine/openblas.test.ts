import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { nativeStatus, openBlas } from '../../native/index.ts';
import {
  assignNodes,
  type Backend,
  type BlasLibrary,
  type BlasMatrix,
  measureCosts,
  mixedBackend,
  openBlasBackend,
  referenceBackend,
} from '../../src/engine/index.ts';
import type { Graph } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { canCompile, compileStub } from '../native/blas-stubs.ts';
import { filled, noFile, Sketch } from '../native/program-seeds.ts';
import { backendSuite } from '../suites/backend.ts';
import { broadcastableShapes, tensors } from '../suites/tensors.ts';

const options = { constants: noFile };

/** The product as it is defined. What does not lie in its array is `undefined`, and makes NaN. */
const definition: BlasLibrary = {
  multiply({ m, n, k, alpha, a, b, beta, c }) {
    const at = ({ data, offset, ld, transpose }: BlasMatrix, row: number, column: number): number =>
      data[offset + (transpose ? column * ld + row : row * ld + column)]!;
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let p = 0; p < k; p++) sum += at(a, i, p) * at(b, p, j);
        const place = c.offset + i * c.ld + j;
        c.data[place] = alpha * sum + (beta === 0 ? 0 : beta * c.data[place]!);
      }
    }
  },
};

/** Libraries that are there: by definition, a stub behind the native border, and that of the machine. */
function libraries(): Readonly<Record<string, BlasLibrary>> {
  const found: Record<string, BlasLibrary> = { definition };
  if (nativeStatus().kind !== 'loaded') return found;
  const ofMachine = openBlas();
  if (ofMachine.kind === 'loaded') found['OpenBLAS of this machine'] = ofMachine.library;
  if (!canCompile) return found;
  const folder = mkdtempSync(join(tmpdir(), 'cloister-blas-'));
  const before = process.env['CLOISTER_OPENBLAS'];
  process.env['CLOISTER_OPENBLAS'] = compileStub(folder, 'good');
  const stub = openBlas();
  if (stub.kind === 'loaded') found['a stub'] = stub.library;
  if (before === undefined) delete process.env['CLOISTER_OPENBLAS'];
  else process.env['CLOISTER_OPENBLAS'] = before;
  rmSync(folder, { recursive: true }); // it stays loaded
  return found;
}

/** One node over inputs of these shapes. */
function graphOf(
  op: string,
  shapes: readonly (readonly (number | string)[])[],
  attributes: Record<string, number> = {},
): Graph {
  const g = new Sketch('one');
  return g.build(
    g.op(
      op,
      shapes.map((shape, i) => g.input(`x${i}`, shape)),
      attributes,
    ),
  );
}

const named = (given: readonly Tensor[]): Record<string, Tensor> =>
  Object.fromEntries(given.map((tensor, i) => [`x${i}`, tensor]));

/** Checks that `backend` computes what the reference does, within the rounding of sums of `terms` products. */
function expectAgreement(backend: Backend, graph: Graph, given: readonly Tensor[], terms: number): void {
  const [came] = Object.values(backend.prepare(graph, options).runSync(named(given)));
  const [wanted] = Object.values(referenceBackend.prepare(graph, options).runSync(named(given)));
  expect(came!.shape).toEqual(wanted!.shape);
  const [got, want] = [came!.values().map(Number), wanted!.values().map(Number)];
  const bound = (terms + 4) ** 2 * 2 ** -20; // elements are of [-2, 2], factors at most 2
  got.forEach((value, i) => {
    expect(Math.abs(value - want[i]!)).toBeLessThanOrEqual(bound);
  });
}

describe.each(Object.entries(libraries()))('the openblas backend over %s', (name, library) => {
  const backend = openBlasBackend(library);
  const numbers = { dtypes: ['f32'], range: [-2, 2] } as const;

  backendSuite(`openblas (${name}) beside reference`, () => mixedBackend([backend, referenceBackend]));

  test('multiplies matrices of every layout, whose batches broadcast, as the reference does', () => {
    const size = fc.integer({ min: 0, max: 5 });
    const cases = fc
      .record({ batches: broadcastableShapes(2, { maxRank: 3, maxSize: 3 }), m: size, k: size, n: size })
      .chain(({ batches: [left, right], m, k, n }) =>
        fc.tuple(tensors({ ...numbers, shape: [...left!, m, k] }), tensors({ ...numbers, shape: [...right!, k, n] })),
      );
    fc.assert(
      fc.property(cases, ([a, b]) => {
        expectAgreement(backend, graphOf('MatMul', [a.shape, b.shape]), [a, b], a.shape.at(-1)!);
      }),
      { numRuns: 300 },
    );
  });

  test('computes Gemm with every transpose, factor and bias as the reference does', () => {
    const size = fc.integer({ min: 0, max: 5 });
    const flag = fc.integer({ min: 0, max: 1 });
    const cases = fc
      .record({
        ...{ m: size, k: size, n: size, transA: flag, transB: flag },
        alpha: fc.constantFrom(1, -1, 0.5, 2),
        beta: fc.constantFrom(0, 1, -1, 0.5),
        bias: fc.constantFrom('none', 'scalar', 'row', 'column', 'whole'),
      })
      .chain(({ m, k, n, bias, ...attributes }) => {
        const of = (shape: readonly number[]) => tensors({ ...numbers, shape });
        const a = of(attributes.transA ? [k, m] : [m, k]);
        const b = of(attributes.transB ? [n, k] : [k, n]);
        const shapes = { none: undefined, scalar: [], row: [n], column: [m, 1], whole: [m, n] };
        const shape = shapes[bias as keyof typeof shapes];
        const given = shape === undefined ? fc.tuple(a, b) : fc.tuple(a, b, of(shape));
        return fc.record({ given, attributes: fc.constant(attributes), k: fc.constant(k) });
      });
    fc.assert(
      fc.property(cases, ({ given, attributes, k }) => {
        const graph = graphOf(
          'Gemm',
          given.map(({ shape }) => shape),
          attributes,
        );
        expectAgreement(backend, graph, given, k);
      }),
      { numRuns: 300 },
    );
  });

  test('runs chains of products with weights, at every size, in all three ways', async () => {
    const g = new Sketch('chain');
    const x = g.input('x', ['rows', 4]);
    const graph = g.build(g.op('Gemm', [g.op('MatMul', [x, g.weight(4, 6)]), g.weight(6, 3), g.weight(3)]));
    const model = backend.prepare(graph, options);
    expect(model.memory.permanentBytes).toBe(4 * (24 + 18 + 3));
    for (const rows of [1, 5, 0, 3]) {
      const input = filled([rows, 4], rows + 1);
      const [wanted] = Object.values(referenceBackend.prepare(graph, options).runSync({ x: input }));
      const [[out, sync]] = Object.entries(model.runSync({ x: input })) as [[string, Tensor]];
      sync.values().forEach((value, i) => {
        expect(value).toBeCloseTo(Number(wanted!.values()[i]), 4);
      });
      expect(Object.values(await model.run({ x: input }))[0]!.toBytes()).toEqual(sync.toBytes());
      const into = Tensor.zeros('f32', [rows, 3]);
      model.runInto({ x: input }, { [out]: into });
      expect(into.toBytes()).toEqual(sync.toBytes());
    }
    model.close();
    expect(() => model.runSync({ x: filled([1, 4], 1) })).toThrow(expect.objectContaining({ code: 'CLOSED' }));
  });
});

describe('the openblas backend', () => {
  const counting = (): { readonly backend: Backend; readonly calls: number[][] } => {
    const calls: number[][] = [];
    const backend = openBlasBackend({
      multiply(product) {
        calls.push([product.m, product.n, product.k]);
        definition.multiply(product);
      },
    });
    return { backend, calls };
  };

  test('makes one call for a batch that is multiplied by one matrix, and copies no transposed view', () => {
    const { backend, calls } = counting();
    const weights = filled([5, 4], 2);
    const graph = graphOf('MatMul', [
      [2, 3, 4],
      [4, 5],
    ]);
    backend.prepare(graph, options).runSync(named([filled([2, 3, 4], 1), weights.transpose()]));
    expect(calls).toEqual([[6, 5, 4]]);
    const seen: BlasMatrix[] = [];
    const watching = openBlasBackend({ multiply: ({ a, b }) => void seen.push(a, b) });
    watching.prepare(graph, options).runSync(named([filled([2, 3, 4], 1), weights.transpose()]));
    expect(seen[1]).toMatchObject({ transpose: true, ld: 4 });
    expect(seen[1]!.data).toBe(weights.data);
  });

  test('asks the library for nothing where there is nothing to multiply', () => {
    const { backend, calls } = counting();
    for (const shapes of [
      [
        [0, 3],
        [3, 2],
      ],
      [
        [2, 0],
        [0, 3],
      ],
      [
        [0, 2, 3],
        [3, 2],
      ],
    ]) {
      const given = shapes.map(shape => Tensor.zeros('f32', shape));
      const [y] = Object.values(backend.prepare(graphOf('MatMul', shapes), options).runSync(named(given)));
      expect(y!.toArray()).toEqual(
        Object.values(referenceBackend.prepare(graphOf('MatMul', shapes), options).runSync(named(given)))[0]!.toArray(),
      );
    }
    expect(calls).toEqual([]);
  });

  test('refuses what the library does not compute, each node by name with why', () => {
    const { backend, calls } = counting();
    const g = new Sketch('refused');
    const [x, y] = [g.input('x', [3, 3]), g.input('y', [3, 3], 'f64')];
    const graph = g.build(
      g.op('MatMul', [x, x]),
      g.op('Relu', [x]),
      g.op('MatMul', [y, y]),
      g.op('MatMul', [g.input('v', [3]), x]),
      g.op('Gemm', [x, x], { alpha: 0 }),
    );
    const refused = backend.refusals!(graph, graph.nodes);
    const why = graph.nodes.map(node => refused.get(node));
    expect(why).toEqual([
      undefined,
      expect.stringMatching(/^Relu "Relu#\d": OpenBLAS has MatMul and Gemm only$/),
      expect.stringMatching(/f32, got f64/),
      expect.stringMatching(/got a vector/),
      expect.stringMatching(/scaled by 0/),
    ]);
    for (const node of graph.nodes) {
      const facts = node.inputs.map(id => graph.values[id!]!.facts);
      expect(backend.supports(node, facts, [])).toBe(!refused.has(node));
    }
    expect(() => backend.prepare(graph, options)).toThrow(
      expect.objectContaining({
        code: 'UNSUPPORTED_MODEL',
        message: expect.stringMatching(/^not run by OpenBLAS: Relu.*f64.*vector.*by 0/),
      }),
    );
    expect(calls).toEqual([]);
  });

  test('is chosen where it was measured to be fastest, and nowhere else', async () => {
    let time = 0;
    const taking = (ms: number): Backend =>
      openBlasBackend({
        multiply(product) {
          time += ms;
          definition.multiply(product);
        },
      });
    const reference: Backend = {
      ...referenceBackend,
      prepare: (graph, prepare) => {
        const model = referenceBackend.prepare(graph, prepare);
        return {
          memory: model.memory,
          run: (inputs, how) => model.run(inputs, how),
          runSync(inputs) {
            time += 5;
            return model.runSync(inputs);
          },
          runInto: (inputs, outputs) => model.runInto(inputs, outputs),
          close: () => model.close(),
        };
      },
    };
    const g = new Sketch('chosen');
    const graph = g.build(g.op('Relu', [g.op('MatMul', [g.input('x', [3, 4]), g.weight(4, 4)])]));
    const chosen = async (ms: number): Promise<string[]> => {
      const backends = [taking(ms), reference];
      const costs = await measureCosts(graph, backends, { ...options, now: () => time });
      const model = mixedBackend(backends, { costs }).prepare(graph, options);
      expect(assignNodes(graph, backends, costs)).toEqual(model.choices);
      const x = filled([3, 4], 1);
      const [wanted] = Object.values(referenceBackend.prepare(graph, options).runSync({ x }));
      const [came] = Object.values(model.runSync({ x }));
      came!.values().forEach((value, i) => {
        expect(value).toBeCloseTo(Number(wanted!.values()[i]), 5);
      });
      return model.choices.map(({ node, backend, reason }) => `${node.op} ${backend.name} ${reason}`);
    };
    const relu = expect.stringMatching(/^Relu reference/);
    expect(await chosen(50)).toEqual(['MatMul reference measured: openblas 50000.0 us, reference 5000.0 us', relu]);
    expect(await chosen(1)).toEqual(['MatMul openblas measured: openblas 1000.0 us, reference 5000.0 us', relu]);
  });
});
