import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type Attribute,
  type Dim,
  type Graph,
  GraphBuilder,
  inferFacts,
  quantiseOperators,
  runGraph,
  type ValueId,
} from '../../../src/graph/index.ts';
import { Tensor } from '../../../src/tensor/index.ts';
import { byteOf, bytesOf, byteType, farthest, scale } from '../ops/quantised/quantised-world.ts';

type Byte = 'i8' | 'u8';

const f32 = (values: readonly number[] | number): Tensor => Tensor.of('f32', values);

/** Builds islands: what is dequantised, computed and quantised again. */
class Islands {
  readonly builder: GraphBuilder;
  #count = 0;

  constructor(opset = 17) {
    this.builder = new GraphBuilder('islands', { opset });
  }

  input(dtype: Byte, shape: readonly Dim[]): ValueId {
    return this.builder.input(`x${this.#count++}`, { dtype, shape });
  }

  constant(tensor: Tensor): ValueId {
    return this.builder.constant(`c${this.#count++}`, tensor);
  }

  node(
    op: string,
    inputs: readonly (ValueId | undefined)[],
    attributes: Readonly<Record<string, Attribute>> = {},
  ): ValueId {
    return this.builder.node({ op, inputs, attributes })[0]!;
  }

  real(x: ValueId, by: Tensor, zero?: Tensor, axis = 1): ValueId {
    const inputs = [x, this.constant(by), ...(zero ? [this.constant(zero)] : [])];
    return this.node('DequantizeLinear', inputs, { axis });
  }

  /** Quantises, and makes that the output. */
  build(real: ValueId, by: Tensor, zero: Tensor): Graph {
    this.builder.output(this.node('QuantizeLinear', [real, this.constant(by), this.constant(zero)]));
    return this.builder.build();
  }
}

/** The pass on `graph`: checks that ids, names and facts stay right and that the result is within `steps`. Returns operators. */
function pass(graph: Graph, inputs: readonly Tensor[], steps = 1): readonly string[] {
  const { graph: after, rewrites } = quantiseOperators(graph);
  expect(rewrites > 0).toBe(after !== graph);
  expect([after.inputs, after.outputs]).toEqual([graph.inputs, graph.outputs]);
  graph.values.forEach((value, id) => {
    expect(after.values[id]!.name).toBe(value.name);
  });
  const inferred = inferFacts(after);
  for (const id of after.nodes.flatMap(node => node.outputs)) {
    expect(after.values[id!]!.facts).toEqual(inferred.values[id!]!.facts);
  }
  const [before, now] = [runGraph(graph, inputs), runGraph(after, inputs)];
  before.forEach((want, i) => {
    expect([now[i]!.dtype, now[i]!.shape]).toEqual([want.dtype, want.shape]);
    expect(farthest(now[i]!, want)).toBeLessThanOrEqual(steps);
  });
  return after.nodes.map(node => node.op);
}

/** The bounds of the Clip at the end of a graph. */
function boundsOf(graph: Graph): readonly number[] {
  return graph.nodes
    .at(-1)!
    .inputs.slice(1)
    .map(id => {
      const constant = graph.constants.get(id!);
      return constant?.kind === 'inline' ? Number(constant.tensor.values()[0]) : Number.NaN;
    });
}

const small = (min: number, max: number): fc.Arbitrary<number> => fc.integer({ min, max });
const types = fc.tuple(byteType, byteType, byteType);

/** One scale and zero point for each of three tensors, and scales for channels. */
const parameters = types.chain(dtypes =>
  fc.record({
    dtypes: fc.constant(dtypes),
    scales: fc.array(scale, { minLength: 3, maxLength: 3 }),
    zeros: fc.tuple(byteOf(dtypes[0]), byteOf(dtypes[1]), byteOf(dtypes[2])),
    channels: fc.array(scale, { minLength: 8, maxLength: 8 }),
    bias: fc.array(fc.double({ min: -100, max: 100, noNaN: true }), { minLength: 8, maxLength: 8 }),
  }),
);

/** Where a sum is so large that its float32 form has lost units, a step of the output holds many more of them. */
const wide = (by: number): Tensor => f32(Math.fround(by * 500));

describe('quantiseOperators', () => {
  test('makes QLinearConv of a convolution, whatever its bias and the scales of its weights', () => {
    fc.assert(
      fc.property(
        parameters.chain(given =>
          fc.record({
            given: fc.constant(given),
            x: bytesOf(given.dtypes[0], [2, 4, 5, 6]),
            w: bytesOf(given.dtypes[1], [6, 2, 3, 2]),
            perChannel: fc.boolean(),
            kind: fc.constantFrom('none', 'quantised', 'other scale', 'float'),
          }),
        ),
        ({ given, x, w, perChannel, kind }) => {
          const { dtypes, scales, zeros, channels, bias } = given;
          const g = new Islands();
          const by = perChannel ? channels.slice(0, 6) : [scales[1]!];
          const wScale = perChannel ? f32(by) : f32(by[0]!);
          const wZero = Tensor.of(dtypes[1], perChannel ? by.map(() => zeros[1]) : zeros[1]);
          const input = g.input(dtypes[0], ['N', 4, 5, 6]);
          const inputs = [
            g.real(input, f32(scales[0]!), Tensor.of(dtypes[0], zeros[0])),
            g.real(g.constant(w), wScale, wZero, 0),
          ];
          const units = Array.from({ length: 6 }, (_, i) => scales[0]! * by[perChannel ? i : 0]!);
          const whole = Tensor.of(
            'i32',
            bias.slice(0, 6).map((value, i) => Math.round(value / units[i]!)),
          );
          if (kind === 'quantised') inputs.push(g.real(g.constant(whole), f32(units), undefined, 0));
          if (kind === 'other scale')
            inputs.push(g.real(g.constant(whole), f32(units.map(unit => unit * 2)), undefined, 0));
          if (kind === 'float') inputs.push(g.constant(f32(bias.slice(0, 6))));
          const y = g.node('Conv', inputs, { group: 2, pads: [1, 0, 2, 1], strides: [1, 2] });
          const graph = g.build(y, wide(scales[2]!), Tensor.of(dtypes[2], zeros[2]));
          expect(pass(graph, [x])).toEqual(['QLinearConv']);
        },
      ),
    );
  });

  test('makes QLinearMatMul of a product, and QGemm of a Gemm', () => {
    fc.assert(
      fc.property(
        parameters.chain(given =>
          fc.record({
            given: fc.constant(given),
            x: bytesOf(given.dtypes[0], [3, 5]),
            w: bytesOf(given.dtypes[1], [5, 8]),
            perColumn: fc.boolean(),
            transB: small(0, 1),
            alpha: fc.constantFrom(1, 0.5, 3),
            beta: fc.constantFrom(0, 1, -2),
            biased: fc.boolean(),
          }),
        ),
        ({ given, x, w, perColumn, transB, alpha, beta, biased }) => {
          const { dtypes, scales, zeros, channels, bias } = given;
          for (const op of ['MatMul', 'Gemm']) {
            const g = new Islands();
            const turned = op === 'Gemm' && transB === 1;
            const weights = g.constant(turned ? w.transpose().clone() : w);
            const wScale = f32(perColumn ? channels : scales[1]!);
            const wZero = Tensor.of(dtypes[1], perColumn ? channels.map(() => zeros[1]) : zeros[1]);
            const inputs = [
              g.real(g.input(dtypes[0], ['N', 5]), f32(scales[0]!), Tensor.of(dtypes[0], zeros[0])),
              g.real(weights, wScale, wZero, turned ? 0 : 1),
            ];
            if (op === 'Gemm' && biased) inputs.push(g.constant(f32(bias)));
            const y = g.node(op, inputs, op === 'Gemm' ? { alpha, beta, transB } : {});
            const graph = g.build(y, wide(scales[2]!), Tensor.of(dtypes[2], zeros[2]));
            expect(pass(graph, [x])).toEqual([op === 'Gemm' ? 'QGemm' : 'QLinearMatMul']);
          }
        },
      ),
    );
  });

  test.each([
    ['Add', 2, 'QLinearAdd', {}],
    ['Mul', 2, 'QLinearMul', {}],
    ['GlobalAveragePool', 1, 'QLinearGlobalAveragePool', {}],
    ['AveragePool', 1, 'QLinearAveragePool', { kernel_shape: [2, 3], pads: [1, 1, 0, 1], count_include_pad: 1 }],
    ['LeakyRelu', 1, 'QLinearLeakyRelu', { alpha: 0.125 }],
    ['Sigmoid', 1, 'QLinearSigmoid', {}],
    ['Softmax', 1, 'QLinearSoftmax', { axis: 1 }],
    ['ReduceMean', 1, 'QLinearReduceMean', { axes: [1, 3], keepdims: 0 }],
    ['Concat', 2, 'QLinearConcat', { axis: -1 }],
  ] as const)('makes of %s on %i tensors %s', (op, count, made, attributes) => {
    const operands = byteType.chain(dtype =>
      fc.record({
        dtype: fc.constant(dtype),
        tensors: fc.array(bytesOf(dtype, [1, 3, 4, 5]), { minLength: count, maxLength: count }),
        scales: fc.uniqueArray(scale, { minLength: 3, maxLength: 3 }),
        zeros: fc.array(byteOf(dtype), { minLength: 3, maxLength: 3 }),
      }),
    );
    fc.assert(
      fc.property(operands, ({ dtype, tensors, scales, zeros }) => {
        const g = new Islands();
        const inputs = tensors.map((_, i) =>
          g.real(g.input(dtype, ['N', 3, 4, 5]), f32(scales[i]!), Tensor.of(dtype, zeros[i]!)),
        );
        const graph = g.build(g.node(op, inputs, attributes), f32(scales[2]!), Tensor.of(dtype, zeros[2]!));
        expect(pass(graph, tensors)).toEqual([made]);
      }),
    );
  });

  test('makes QLinearWhere of Where, and leaves the condition alone', () => {
    const g = new Islands();
    const condition = g.builder.input('condition', { dtype: 'bool', shape: [3] });
    const zero = Tensor.of('i8', 1);
    const parts = [f32(1), f32(0.5)].map(by => g.real(g.input('i8', [3]), by, zero));
    const graph = g.build(g.node('Where', [condition, ...parts]), f32(2), zero);
    const x = Tensor.of('i8', [1, -100, 90]);
    expect(pass(graph, [Tensor.of('bool', [1, 0, 1]), x, x])).toEqual(['QLinearWhere']);
  });

  test('runs what moves elements on the integers, exactly, where they mean the same before and after', () => {
    const x = Tensor.from(
      'u8',
      [1, 4, 4, 4],
      Uint8Array.from({ length: 64 }, (_, i) => (i * 37) % 256),
    );
    const list = (g: Islands, values: readonly number[]): ValueId => g.constant(Tensor.of('i64', values));
    const movers: Readonly<Record<string, (g: Islands, x: ValueId) => ValueId>> = {
      MaxPool: (g, x) => g.node('MaxPool', [x], { kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [2, 2] }),
      Reshape: (g, x) => g.node('Reshape', [x, list(g, [2, -1])]),
      Transpose: (g, x) => g.node('Transpose', [x], { perm: [0, 2, 3, 1] }),
      Flatten: (g, x) => g.node('Flatten', [x]),
      Squeeze: (g, x) => g.node('Squeeze', [x, list(g, [0])]),
      Slice: (g, x) => g.node('Slice', [x, list(g, [1]), list(g, [3]), list(g, [2])]),
      DepthToSpace: (g, x) => g.node('DepthToSpace', [x], { blocksize: 2 }),
      Concat: (g, x) => g.node('Concat', [x, x], { axis: 1 }),
    };
    for (const [op, put] of Object.entries(movers)) {
      for (const same of [true, false]) {
        const g = new Islands();
        const [by, zero] = [f32(0.25), Tensor.of('u8', 9)];
        const graph = g.build(put(g, g.real(g.input('u8', [1, 4, 4, 4]), by, zero)), same ? by : f32(0.5), zero);
        const left = op === 'Concat' ? ['QLinearConcat'] : ['DequantizeLinear', op, 'QuantizeLinear'];
        expect(pass(graph, [x], 0)).toEqual(same ? [op] : left);
      }
    }
  });

  test('drops a pair that changes nothing', () => {
    const g = new Islands();
    const [by, zero] = [f32(0.1), Tensor.of('i8', -3)];
    const x = g.input('i8', [256]);
    const negated = g.node('Neg', [g.real(g.node('Identity', [x]), by, zero)]);
    const q = g.node('QuantizeLinear', [negated, g.constant(by), g.constant(zero)]);
    const graph = g.build(g.real(q, by, zero), by, zero);
    const all = Tensor.from(
      'i8',
      [256],
      Int8Array.from({ length: 256 }, (_, i) => i - 128),
    );
    expect(pass(graph, [all], 0)).toEqual(['Identity', 'DequantizeLinear', 'Neg', 'QuantizeLinear']);
  });

  test('keeps the bounds of Relu and Clip on the integers, or drops them where the integers cannot leave them', () => {
    const activations: readonly (readonly [zero: number, low: number, high: number, left: readonly string[]])[] = [
      [0, 0, Number.POSITIVE_INFINITY, ['QLinearAdd']],
      [10, 0, Number.POSITIVE_INFINITY, ['QLinearAdd', 'Clip']],
      [0, 0, 6, ['QLinearAdd', 'Clip']],
      [128, -1000, 1000, ['QLinearAdd']],
      [128, -2, 3.3, ['QLinearAdd', 'Clip']],
    ];
    for (const [zero, low, high, left] of activations) {
      const g = new Islands();
      const [by, at] = [f32(0.1), Tensor.of('u8', zero)];
      const parts = [g.real(g.input('u8', [256]), by, at), g.real(g.input('u8', [256]), by, at)];
      const sum = g.node('Add', parts);
      const bounded =
        low === 0 && high > 1e9
          ? g.node('Relu', [sum])
          : g.node('Clip', [sum, g.constant(f32(low)), g.constant(f32(high))]);
      const x = Tensor.from(
        'u8',
        [256],
        Uint8Array.from({ length: 256 }, (_, i) => i),
      );
      expect(pass(g.build(bounded, by, at), [x, x])).toEqual(left);
    }
  });

  test('applies one bound after another in their order', () => {
    for (const [first, second] of [
      [
        [0, 6],
        [8, 9],
      ],
      [
        [8, 9],
        [0, 6],
      ],
      [
        [-1, 6],
        [0, 9],
      ],
    ] as const) {
      const g = new Islands();
      const [by, zero] = [f32(0.1), Tensor.of('u8', 100)];
      let x = g.real(g.input('u8', [256]), by, zero);
      for (const [low, high] of [first, second]) x = g.node('Clip', [x, g.constant(f32(low)), g.constant(f32(high))]);
      const all = Tensor.from(
        'u8',
        [256],
        Uint8Array.from({ length: 256 }, (_, i) => i),
      );
      expect(pass(g.build(x, by, zero), [all])).toEqual(['Clip']);
    }
  });

  test('leaves an island whose real numbers something else reads', () => {
    const [by, zero] = [f32(0.5), Tensor.of('u8', 3)];
    const g = new Islands();
    const sum = g.node('Add', [g.real(g.input('u8', [2]), by, zero), g.real(g.input('u8', [2]), by, zero)]);
    g.builder.output(sum);
    const x = Tensor.of('u8', [1, 2]);
    expect(pass(g.build(sum, by, zero), [x, x], 0)).toContain('Add');
  });

  test('leaves what has no constant scale, 16 bits, or sums that 32 bits do not hold', () => {
    const [by, zero] = [f32(0.5), Tensor.of('u8', 0)];
    const fed = new Islands();
    const given = fed.builder.input('scale', { dtype: 'f32', shape: [] });
    const real = fed.node('DequantizeLinear', [fed.input('u8', [2]), given, fed.constant(zero)]);
    expect(quantiseOperators(fed.build(fed.node('Sigmoid', [real]), by, zero)).rewrites).toBe(0);

    const wider = new Islands(21);
    const x = wider.builder.input('x', { dtype: 'i16', shape: [2] });
    const half = wider.real(x, by, Tensor.of('i16', 0));
    expect(quantiseOperators(wider.build(wider.node('Sigmoid', [half]), by, zero)).rewrites).toBe(0);

    for (const [depth, rewrites] of [
      [33025, 1],
      [33026, 0],
    ] as const) {
      const deep = new Islands();
      const row = deep.real(deep.input('u8', [1, depth]), by, zero);
      const column = deep.real(deep.input('u8', [depth, 1]), by, zero);
      expect(quantiseOperators(deep.build(deep.node('MatMul', [row, column]), by, zero)).rewrites).toBe(rewrites);
    }
  });

  test('reads scales that lie in the model file, and leaves what it may not read', () => {
    const file = new Uint8Array(8);
    new DataView(file.buffer).setFloat32(0, 0.5, true);
    file[4] = 7;
    const b = new GraphBuilder('filed', { opset: 13 });
    const by = b.range('scale', { dtype: 'f32', shape: [] }, { offset: 0, length: 4 });
    const zero = b.range('zero', { dtype: 'u8', shape: [] }, { offset: 4, length: 1 });
    const x = b.input('x', { dtype: 'u8', shape: [3] });
    const real = b.node({ op: 'DequantizeLinear', inputs: [x, by, zero] })[0]!;
    const y = b.node({ op: 'Sigmoid', inputs: [real] })[0]!;
    b.output(b.node({ op: 'QuantizeLinear', inputs: [y, by, zero] })[0]!);
    const graph = b.build();
    expect(quantiseOperators(graph).graph).toBe(graph);
    const constants = { read: (offset: number, length: number) => file.subarray(offset, offset + length) };
    const { graph: after } = quantiseOperators(graph, { constants });
    expect(after.nodes.map(node => node.op)).toEqual(['QLinearSigmoid']);
  });

  test('puts down nothing that the target does not take', () => {
    const g = new Islands();
    const [by, zero] = [f32(0.5), Tensor.of('u8', 3)];
    const graph = g.build(g.node('Sigmoid', [g.real(g.input('u8', [2]), by, zero)]), by, zero);
    const { graph: after } = quantiseOperators(graph, { supports: node => node.domain === '' });
    expect(after).toBe(graph);
  });

  test('leaves weights whose scales run along another axis than the one that the operator keeps', () => {
    const [by, zero] = [f32(0.5), Tensor.of('u8', 3)];
    const [scales, zeros] = [f32([1, 2, 4]), Tensor.of('i8', [0, 0, 0])];
    const square = Tensor.of('i8', [
      [1, -2, 3],
      [4, 5, -6],
      [-7, 8, 9],
    ]);
    const forms = [
      ['Conv', square.reshape([3, 3, 1, 1]), [1, 3, 2, 2], {}, 0],
      ['MatMul', square, [2, 3], {}, 1],
      ['Gemm', square, [2, 3], {}, 1],
      ['Gemm', square, [2, 3], { transB: 1 }, 0],
    ] as const;
    for (const [op, weights, shape, attributes, kept] of forms) {
      for (const axis of [0, 1]) {
        const g = new Islands();
        const x = g.real(g.input('u8', shape), by, zero);
        const y = g.node(op, [x, g.real(g.constant(weights), scales, zeros, axis)], attributes);
        const image = Tensor.from(
          'u8',
          shape,
          Uint8Array.from({ length: shape.reduce((size: number, dim) => size * dim, 1) }, (_, i) => (i * 53) % 256),
        );
        const left = pass(g.build(y, f32(50), zero), [image]);
        expect(left.includes(op), `${op} ${JSON.stringify(attributes)} along ${axis}`).toBe(axis !== kept);
      }
    }
  });

  test('leaves a Gemm whose bias is a column, also one as long as a row', () => {
    const [by, zero] = [f32(0.5), Tensor.of('u8', 3)];
    const weights = Tensor.of('u8', [
      [1, 2],
      [3, 4],
    ]);
    for (const [shape, left] of [
      [[1, 2], ['QGemm']],
      [
        [2, 1],
        ['DequantizeLinear', 'DequantizeLinear', 'Gemm', 'QuantizeLinear'],
      ],
    ] as const) {
      const g = new Islands();
      const bias = g.constant(f32([10, 200]).reshape(shape));
      const y = g.node('Gemm', [g.real(g.input('u8', [2, 2]), by, zero), g.real(g.constant(weights), by, zero), bias]);
      const x = Tensor.of('u8', [
        [9, 8],
        [7, 6],
      ]);
      expect(pass(g.build(y, f32(1), zero), [x])).toEqual(left);
    }
  });

  test.each([1, 12, 13])('keeps the axis that Softmax of opset %i has where it names none', opset => {
    const g = new Islands(opset === 1 ? 10 : opset);
    const zero = Tensor.of('u8', 0);
    const x = g.input('u8', [2, 3, 4]);
    const real = g.node('DequantizeLinear', [x, g.constant(f32(0.02)), g.constant(zero)]);
    const y = g.builder.node({ op: 'Softmax', opset, inputs: [real] })[0]!;
    const values = Tensor.from(
      'u8',
      [2, 3, 4],
      Uint8Array.from({ length: 24 }, (_, i) => (i * 41) % 256),
    );
    const graph = g.build(y, f32(1 / 256), zero);
    expect(pass(graph, [values])).toEqual(['QLinearSoftmax']);
    expect(quantiseOperators(graph).graph.nodes[0]!.attributes).toEqual({ axis: opset < 13 ? 1 : -1, opset });
  });

  test('leaves a bias whose zero point is not 0', () => {
    const [by, zero] = [f32(1), Tensor.of('u8', 0)];
    for (const [at, left] of [
      [0, ['QLinearConv']],
      [7, ['DequantizeLinear', 'DequantizeLinear', 'DequantizeLinear', 'Conv', 'QuantizeLinear']],
    ] as const) {
      const g = new Islands();
      const bias = g.real(g.constant(Tensor.of('i32', [50])), by, Tensor.of('i32', at));
      const weights = g.real(g.constant(Tensor.of('u8', [[[3]]])), by, zero);
      const y = g.node('Conv', [g.real(g.input('u8', [1, 1, 3]), by, zero), weights, bias]);
      expect(pass(g.build(y, by, zero), [Tensor.of('u8', [[[1, 20, 30]]])], 0)).toEqual(left);
    }
  });

  test('rounds a bound that lies between two integers to the even one, as QuantizeLinear does', () => {
    const all = Tensor.from(
      'i8',
      [256],
      Int8Array.from({ length: 256 }, (_, i) => i - 128),
    );
    for (const [low, high, bounds] of [
      [-2.5, 2.5, [-2, 2]],
      [-3.5, 3.5, [-4, 4]],
      [-0.5, 1.5, [0, 2]],
    ] as const) {
      const g = new Islands();
      const [by, zero] = [f32(1), Tensor.of('i8', 0)];
      const x = g.real(g.input('i8', [256]), by, zero);
      const graph = g.build(g.node('Clip', [x, g.constant(f32(low)), g.constant(f32(high))]), by, zero);
      expect(pass(graph, [all], 0)).toEqual(['Clip']);
      expect(boundsOf(quantiseOperators(graph).graph)).toEqual(bounds);
    }
  });

  test('puts down bounds that do not cross where those of the activations do', () => {
    // Before opset 13 nothing says what bounds that cross mean.
    const g = new Islands(12);
    const [by, zero] = [f32(1), Tensor.of('u8', 0)];
    let x = g.node('DequantizeLinear', [g.input('u8', [4]), g.constant(by), g.constant(zero)]);
    for (const [low, high] of [
      [8, 9],
      [1, 6],
    ] as const) {
      x = g.node('Clip', [x, g.constant(f32(low)), g.constant(f32(high))]);
    }
    const graph = g.build(x, by, zero);
    expect(pass(graph, [Tensor.of('u8', [0, 5, 8, 200])], 0)).toEqual(['Clip']);
    expect(boundsOf(quantiseOperators(graph).graph)).toEqual([6, 6]);
  });

  test('leaves bounds before opset 12, where Clip takes no integers, and puts nothing beside them', () => {
    for (const [opset, left] of [
      [11, ['DequantizeLinear', 'Sigmoid', 'Clip', 'QuantizeLinear']],
      [12, ['QLinearSigmoid', 'Clip']],
    ] as const) {
      const g = new Islands(opset);
      const [by, zero] = [f32(1 / 256), Tensor.of('u8', 0)];
      const real = g.node('DequantizeLinear', [g.input('u8', [3]), g.constant(by), g.constant(zero)]);
      const bounded = g.node('Clip', [g.node('Sigmoid', [real]), g.constant(f32(0.25)), g.constant(f32(0.75))]);
      expect(pass(g.build(bounded, by, zero), [Tensor.of('u8', [0, 5, 250])])).toEqual(left);
    }
  });

  test('leaves bounds that the target does not take on integers, and puts nothing beside them', () => {
    const g = new Islands();
    const [by, zero] = [f32(1 / 256), Tensor.of('u8', 0)];
    const y = g.node('Sigmoid', [g.real(g.input('u8', [3]), by, zero)]);
    const graph = g.build(g.node('Clip', [y, g.constant(f32(0.25)), g.constant(f32(0.75))]), by, zero);
    const { graph: after } = quantiseOperators(graph, { supports: node => node.op !== 'Clip' });
    expect(after.nodes.map(node => node.op)).toEqual(['DequantizeLinear', 'Sigmoid', 'Clip', 'QuantizeLinear']);
  });

  test('leaves what moves elements at opsets where it takes no bytes', () => {
    const window = { kernel_shape: [2] };
    const forms = [
      ['MaxPool', 11, [], window, true],
      ['MaxPool', 12, [], window, false],
      ['ReduceMax', 11, [], { axes: [2] }, true],
      ['ReduceMax', 12, [], { axes: [2] }, false],
      ['Flatten', 8, [], {}, true],
      ['Flatten', 9, [], {}, false],
    ] as const;
    for (const [op, opset, more, attributes, stays] of forms) {
      const g = new Islands(12);
      const [by, zero] = [f32(0.5), Tensor.of('u8', 3)];
      const x = g.node('DequantizeLinear', [g.input('u8', [1, 2, 3]), g.constant(by), g.constant(zero)]);
      const y = g.builder.node({ op, opset, inputs: [x, ...more], attributes })[0]!;
      const left = stays ? ['DequantizeLinear', op, 'QuantizeLinear'] : [op];
      const bytes = Tensor.of('u8', [
        [
          [1, 200, 3],
          [4, 5, 60],
        ],
      ]);
      expect(pass(g.build(y, by, zero), [bytes], 0), `${op}-${opset}`).toEqual(left);
    }
  });
});
