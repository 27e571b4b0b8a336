import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { forceIsa, kernelInfo } from '../../native/index.ts';
import { loadBinding } from '../../native/loader.ts';
import { openProgramHost } from '../../native/program-host.ts';
import { nativeBackend, referenceBackend } from '../../src/engine/index.ts';
import { type Attribute, type Graph, GraphBuilder } from '../../src/graph/index.ts';
import type { Tensor } from '../../src/tensor/index.ts';
import { filled, noFile } from '../native/program-seeds.ts';

const rows = kernelInfo()?.supported ?? [];

interface Case {
  readonly op: 'MatMul' | 'FusedMatMul' | 'Gemm' | 'FusedGemm';
  readonly shapes: readonly (readonly number[])[];
  readonly fixed: readonly boolean[];
  readonly attributes: Readonly<Record<string, Attribute>>;
  /** What follows: a bias for each column, a tensor of the result's size, a Relu. */
  readonly bias: boolean;
  readonly residual: boolean;
  readonly relu: boolean;
}

function build(c: Case, outShape: readonly number[]): Graph {
  const b = new GraphBuilder('product', { opset: 17 });
  const residual = b.input('r', { dtype: 'f32', shape: outShape });
  const operands = c.shapes.map((shape, i) =>
    c.fixed[i] ? b.constant(`c${i}`, filled(shape, i + 1)) : b.input(`x${i}`, { dtype: 'f32', shape }),
  );
  const fused = c.op.startsWith('Fused');
  let out = b.node({
    op: c.op,
    ...(fused ? { domain: 'com.microsoft', opset: 1 } : {}),
    inputs: operands,
    attributes: c.attributes,
  })[0]!;
  if (c.bias) out = b.node({ op: 'Add', inputs: [out, b.constant('bias', filled([outShape.at(-1)!], 9))] })[0]!;
  if (c.residual) out = b.node({ op: 'Add', inputs: [residual, out] })[0]!;
  if (c.relu) out = b.node({ op: 'Relu', inputs: [out] })[0]!;
  b.output(out);
  return b.build();
}

const size = fc.oneof(fc.integer({ min: 1, max: 9 }), fc.constantFrom(13, 14, 15, 16, 17, 31, 32, 33, 64, 65, 130));
const flag = fc.boolean();
const alpha = fc.constantFrom(1, 1, 0.125, -2);
const after = { bias: flag, residual: flag, relu: flag, fixed: fc.tuple(flag, flag, flag) };

/** Batches that broadcast: a dimension of either operand may be 1 where the other's is not. */
const batched = fc
  .record({
    ...after,
    m: size,
    n: size,
    k: size,
    batch: fc.array(fc.tuple(fc.integer({ min: 1, max: 3 }), fc.constantFrom('both', 'both', 'a', 'b')), {
      maxLength: 3,
    }),
    transA: fc.nat(1),
    transB: fc.nat(1),
    alpha,
    fused: flag,
  })
  .map(({ m, n, k, batch, transA, transB, alpha, fused, ...rest }): { c: Case; out: readonly number[] } => {
    const lead = (side: string): readonly number[] =>
      batch.map(([dim, has]) => (has === 'both' || has === side ? dim : 1));
    const [ta, tb] = fused ? [transA, transB] : [0, 0];
    const a = [...lead('a'), ...(ta ? [k, m] : [m, k])];
    const b = [...lead('b'), ...(tb ? [n, k] : [k, n])];
    const attributes = fused ? { transA: ta, transB: tb, alpha } : {};
    const out = [...batch.map(([dim]) => dim), m, n];
    return { c: { ...rest, op: fused ? 'FusedMatMul' : 'MatMul', shapes: [a, b], attributes }, out };
  });

const general = fc
  .record({
    ...after,
    m: size,
    n: size,
    k: size,
    transA: fc.nat(1),
    transB: fc.nat(1),
    alpha,
    beta: fc.constantFrom(1, 1, 0, 0.5),
    addend: fc.constantFrom('none', 'row', 'column', 'full', 'one'),
    activation: fc.constantFrom('', '', 'Relu', 'Tanh', 'Sigmoid', 'LeakyRelu'),
  })
  .map(({ m, n, k, transA, transB, alpha, beta, addend, activation, ...rest }): { c: Case; out: readonly number[] } => {
    const c = { none: [], row: [[n]], column: [[m, 1]], full: [[m, n]], one: [[1]] }[addend] ?? [];
    const shapes = [transA ? [k, m] : [m, k], transB ? [n, k] : [k, n], ...c];
    const own = activation === '' ? {} : { activation };
    const op = activation === '' ? 'Gemm' : 'FusedGemm';
    return { c: { ...rest, op, shapes, attributes: { transA, transB, alpha, beta, ...own } }, out: [m, n] };
  });

describe.skipIf(rows.length === 0).each(rows)('products on %s', isa => {
  beforeAll(() => forceIsa(isa));
  afterAll(() => forceIsa(null));

  function check({ c, out }: { c: Case; out: readonly number[] }): void {
    const graph = build(c, out);
    const inputs: Record<string, Tensor> = { r: filled(out, 7) };
    c.shapes.forEach((shape, i) => {
      if (!c.fixed[i]) inputs[`x${i}`] = filled(shape, i + 1);
    });
    const given = Object.fromEntries(graph.inputs.map(id => [graph.values[id]!.name, inputs[graph.values[id]!.name]!]));
    const native = nativeBackend(openProgramHost(loadBinding()!)).prepare(graph, { constants: noFile });
    const reference = referenceBackend.prepare(graph, { constants: noFile });
    const [got] = Object.values(native.runSync(given));
    const [wanted] = Object.values(reference.runSync(given));
    native.close();
    reference.close();
    expect(got!.shape).toEqual(wanted!.shape);
    const [y, z] = [got!.values(), wanted!.values()].map(values => values.map(Number));
    // Operands are below 1, sums of at most 130 products below 2 * 130 + 4: twice the bound of one side.
    y!.forEach((value, i) => {
      expect(Math.abs(value - z![i]!)).toBeLessThanOrEqual(2 * 133 * 2 ** -24 * 264);
    });
  }

  test('agree with the reference for any batch, transposition, scale and what follows', () => {
    fc.assert(fc.property(batched, check), { numRuns: 60 });
  });

  test('agree with the reference for any form of Gemm', () => {
    // A bias joins a Gemm that has none, whatever beta says.
    const joined = {
      op: 'Gemm',
      shapes: [
        [1, 13],
        [13, 13],
      ],
      attributes: { beta: 0.5 },
      fixed: [false, false, false],
    } as const;
    const examples: [{ c: Case; out: readonly number[] }][] = [
      [{ c: { ...joined, bias: false, residual: true, relu: false }, out: [1, 13] }],
    ];
    fc.assert(fc.property(general, check), { numRuns: 60, examples });
  });
});
