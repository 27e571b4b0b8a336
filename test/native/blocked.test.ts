import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { forceIsa, kernelInfo } from '../../native/index.ts';
import { loadBinding } from '../../native/loader.ts';
import { openProgramHost } from '../../native/program-host.ts';
import { nativeBackend, PROGRAM_VERSION, planProgram, referenceBackend } from '../../src/engine/index.ts';
import { type Attribute, type Graph, GraphBuilder, type ValueId } from '../../src/graph/index.ts';
import { elementCount, Tensor } from '../../src/tensor/index.ts';
import { firstBeyond, floats, gamma, U } from './kernels-oracle.ts';
import { noFile } from './program-seeds.ts';

const rows = kernelInfo()?.supported ?? [];

/** A convolution and what comes after it; its weights are constants, so that the planner may take it into blocks. */
interface Case {
  readonly batch: number;
  readonly inC: number;
  readonly outC: number;
  readonly groups: number;
  readonly size: readonly [number, number];
  readonly kernel: readonly [number, number];
  readonly strides: readonly [number, number];
  readonly dilations: readonly [number, number];
  readonly pads: readonly [number, number, number, number];
  readonly bias: boolean;
  readonly residual: boolean;
  readonly activation: readonly [string, Readonly<Record<string, Attribute>>] | undefined;
  readonly seed: number;
}

const tensor = (shape: readonly number[], seed: number, map = (v: number) => v): Tensor =>
  Tensor.from('f32', shape, floats(elementCount(shape), seed).map(map));

/** `map` is applied to every element of input and constants: with `Math.abs`, the sums are those of the magnitudes. */
function build(c: Case, map?: (v: number) => number, plain = false): { graph: Graph; x: Tensor } {
  const b = new GraphBuilder('blocked', { opset: 17 });
  const x = b.input('x', { dtype: 'f32', shape: [c.batch, c.inC, ...c.size] });
  const weight = b.constant('w', tensor([c.outC, c.inC / c.groups, ...c.kernel], c.seed + 1, map));
  const bias = c.bias ? [b.constant('b', tensor([c.outC], c.seed + 2, map))] : [];
  const attributes = { group: c.groups, strides: c.strides, dilations: c.dilations, pads: c.pads };
  const conv = (): ValueId => b.node({ op: 'Conv', inputs: [x, weight, ...bias], attributes })[0]!;
  const first = conv();
  // The same sums twice, kept apart by an activation that only one of them has.
  let y = c.residual ? b.node({ op: 'Add', inputs: [conv(), b.node({ op: 'Abs', inputs: [first] })[0]!] })[0]! : first;
  if (c.activation !== undefined && !plain)
    y = b.node({ op: c.activation[0], inputs: [y], attributes: c.activation[1] })[0]!;
  b.output(y);
  return { graph: b.build(), x: tensor([c.batch, c.inC, ...c.size], c.seed, map) };
}

const size = (min: number, max: number) => fc.integer({ min, max });
const two = (min: number, max: number) => fc.tuple(size(min, max), size(min, max));
const channels = fc.constantFrom(1, 3, 7, 16, 17, 24, 32, 48, 50);

const cases = fc
  .record({
    batch: size(1, 2),
    inC: channels,
    outC: fc.constantFrom(5, 16, 19, 32, 40, 64, 66),
    kind: fc.constantFrom('full', 'full', 'small', 'small', 'depthwise', 'grouped'),
    groups: size(2, 3),
    size: fc.tuple(size(1, 30), size(1, 40)),
    kernel: fc.oneof(two(1, 5), fc.constantFrom([1, 1], [3, 3], [5, 5])),
    strides: fc.oneof(two(1, 3), fc.constantFrom([1, 1], [2, 2])),
    dilations: fc.oneof(fc.constant([1, 1]), two(1, 2)),
    pads: fc.tuple(size(0, 2), size(0, 2), size(0, 2), size(0, 2)),
    bias: fc.boolean(),
    residual: fc.boolean(),
    activation: fc.constantFrom(
      undefined,
      ['Relu', {}] as const,
      ['LeakyRelu', { alpha: 0.3 }] as const,
      ['Sigmoid', {}] as const,
      ['Tanh', {}] as const,
    ),
    seed: fc.nat(2 ** 30),
  })
  .map(({ kind, groups, ...rest }): Case => {
    const c = { ...rest, groups: 1 } as Case;
    if (kind === 'small')
      return {
        ...c,
        inC: Math.max(16, c.inC),
        outC: Math.max(16, c.outC),
        kernel: [3, 3],
        strides: [1, 1],
        dilations: [1, 1],
      };
    if (kind === 'depthwise') return { ...c, groups: c.inC, outC: c.inC };
    if (kind === 'grouped') return { ...c, groups, inC: 16 * groups, outC: 32 * groups };
    return c;
  })
  .filter(c =>
    [0, 1].every(i => {
      const extent = (c.kernel[i]! - 1) * c.dilations[i]! + 1;
      const [before, after] = [c.pads[i]!, c.pads[i + 2]!];
      return before < extent && after < extent && c.size[i]! + before + after >= extent;
    }),
  );

describe.skipIf(rows.length === 0)('the blocked layout', () => {
  describe.each(rows)('%s', isa => {
    const native = nativeBackend(openProgramHost(loadBinding()!));
    beforeAll(() => forceIsa(isa));
    afterAll(() => forceIsa(null));

    const run = (graph: Graph, x: Tensor): Float32Array => {
      const model = native.prepare(graph, { constants: noFile });
      try {
        return Object.values(model.runSync({ x }))[0]!.data as Float32Array;
      } finally {
        model.close();
      }
    };

    test('a convolution and what follows it are within the bound of their sums, for any geometry', () => {
      fc.assert(
        fc.property(cases, c => {
          const { graph, x } = build(c);
          const expected = values(graph, x);
          const sizes = build(c, Math.abs, true);
          const magnitude = values(sizes.graph, sizes.x);
          const terms = (c.inC / c.groups) * c.kernel[0] * c.kernel[1] + 3;
          // The reference sums in its own order; no activation is steeper than 1; sigmoid and tanh add 2 ulp.
          const bound = (i: number): number => 2 * gamma(terms) * magnitude[i]! + 4 * U;
          expect(firstBeyond(run(graph, x), expected, bound)).toBeUndefined();
        }),
        { numRuns: isa === 'scalar' ? 15 : 60 },
      );
    });

    test('a network stays in blocks and computes what the reference does', () => {
      const { graph, x } = network();
      const expected = values(graph, x);
      const got = run(graph, x);
      expect(firstBeyond(got, expected, i => 1e-4 * Math.max(1, Math.abs(expected[i]!)))).toBeUndefined();
    });

    test.each([20, 32])('a mean of each of %i channels leaves the blocks as it entered', channels => {
      const b = new GraphBuilder('mean', { opset: 17 });
      const x = b.input('x', { dtype: 'f32', shape: [2, 3, 9, 9] });
      const w = b.constant('w', tensor([channels, 3, 3, 3], 4));
      const [made] = b.node({ op: 'Conv', inputs: [x, w] });
      const [mean] = b.node({ op: 'GlobalAveragePool', inputs: [made] });
      b.output(b.node({ op: 'Flatten', inputs: [mean] })[0]!);
      const graph = b.build();
      const input = tensor([2, 3, 9, 9], 5);
      const expected = values(graph, input);
      expect(firstBeyond(run(graph, input), expected, () => 1e-4)).toBeUndefined();
    });

    test('an infinity and a NaN reach what they must, and what is far from them stays a number', () => {
      const c: Case = {
        ...{
          batch: 1,
          inC: 16,
          outC: 16,
          groups: 1,
          size: [24, 24],
          kernel: [3, 3],
          strides: [1, 1],
          dilations: [1, 1],
        },
        ...{ pads: [1, 1, 1, 1], bias: true, residual: false, activation: undefined, seed: 7 },
      };
      for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) {
        const { graph, x } = build(c);
        x.data[3 * 576 + 12 * 24 + 12] = value;
        const y = run(graph, x);
        for (let i = 0; i < y.length; i++) {
          const [row, column] = [Math.floor((i % 576) / 24), i % 24];
          const apart = Math.max(Math.abs(row - 12), Math.abs(column - 12));
          if (apart <= 1) expect(y[i]).not.toSatisfy(Number.isFinite);
          // A tile of the transformed domain is 4 outputs wide.
          if (apart > 5) expect(y[i]).toSatisfy(Number.isFinite);
        }
      }
    });
  });
});

test('a region of blocks is converted at its borders only', () => {
  const info = { isa: 'any', programVersion: PROGRAM_VERSION, gemmPanel: 1 };
  const { steps } = planProgram(network().graph, { kernel: info, constants: noFile, modelBytes: 0 });
  const kinds = steps.map(({ kind }) => kind);
  expect(kinds.filter(kind => kind === 'toBlocks' || kind === 'conv' || kind === 'pool')).toEqual([]);
  expect(kinds.filter(kind => kind === 'fromBlocks').length).toBe(1);
});

function values(graph: Graph, x: Tensor): Float32Array {
  const model = referenceBackend.prepare(graph, { constants: noFile });
  return Object.values(model.runSync({ x }))[0]!.data as Float32Array;
}

/** First layer from a picture, pooling, squeeze and expand with Concat, depthwise with a residual, scales, a channel mean. */
function network(): { graph: Graph; x: Tensor } {
  const b = new GraphBuilder('network', { opset: 17 });
  let count = 0;
  const weight = (...shape: readonly number[]): ValueId => {
    const fan = elementCount(shape.slice(1)) || 1;
    return b.constant(
      `w${count++}`,
      tensor(shape, count, v => v / Math.sqrt(fan)),
    );
  };
  const op = (name: string, inputs: readonly ValueId[], attributes: Record<string, Attribute> = {}): ValueId =>
    b.node({ op: name, inputs, attributes })[0]!;
  const x = b.input('x', { dtype: 'f32', shape: [2, 3, 33, 41] });
  const same = { pads: [1, 1, 1, 1] };
  const stem = op('Relu', [op('Conv', [x, weight(24, 3, 3, 3), weight(24)], { ...same, strides: [2, 2] })]);
  const padded = op('Pad', [
    stem,
    ints(b, 'after', 0, 0, 0, 0, 0, 0, 1, 1),
    b.constant('lowest', Tensor.of('f32', -3.4028234663852886e38)),
  ]);
  const pooled = op('MaxPool', [padded], { kernel_shape: [3, 3], strides: [2, 2] });
  const squeezed = op('LeakyRelu', [op('Conv', [pooled, weight(16, 24, 1, 1)])], { alpha: 0.1 });
  const wide = op(
    'Concat',
    [
      op('Conv', [squeezed, weight(32, 16, 1, 1), weight(32)]),
      op('Tanh', [op('Conv', [squeezed, weight(20, 16, 3, 3), weight(20)], same)]),
    ],
    { axis: 1 },
  );
  const scaled = op('Mul', [op('Add', [wide, weight(52, 1, 1)]), b.constant('half', Tensor.of('f32', 0.5))]);
  const framed = op('Pad', [scaled, ints(b, 'around', 0, 0, 2, 1, 0, 0, 0, 1)]);
  const deep = op('Conv', [framed, weight(52, 1, 3, 3), weight(52)], { group: 52 });
  const sum = op('Clip', [
    op('Add', [op('Conv', [deep, weight(52, 52, 1, 1)]), scaled]),
    scalar(b, 'lo', -1),
    scalar(b, 'hi', 1),
  ]);
  const gate = op('Sigmoid', [op('Conv', [op('GlobalAveragePool', [sum]), weight(52, 52, 1, 1), weight(52)])]);
  const mean = op('AveragePool', [op('Mul', [sum, gate])], { kernel_shape: [2, 2], ...same });
  b.output(op('Transpose', [op('Sqrt', [op('Abs', [mean])])], { perm: [0, 2, 3, 1] }));
  return { graph: b.build(), x: tensor([2, 3, 33, 41], 99) };
}

function ints(b: GraphBuilder, name: string, ...list: readonly number[]): ValueId {
  return b.constant(name, Tensor.from('i64', [list.length], BigInt64Array.from(list.map(BigInt))));
}

function scalar(b: GraphBuilder, name: string, value: number): ValueId {
  return b.constant(name, Tensor.of('f32', value));
}
