import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { forceIsa, kernelInfo, loadBinding, openProgramHost } from '../../native/index.ts';
import { nativeBackend, referenceBackend } from '../../src/engine/index.ts';
import { type Attribute, type Graph, GraphBuilder } from '../../src/graph/index.ts';
import { type DType, Tensor } from '../../src/tensor/index.ts';
import { noFile } from '../native/program-seeds.ts';

const rows = kernelInfo()?.supported ?? [];

interface Case {
  readonly op: string;
  readonly domain?: string;
  readonly opset?: number;
  readonly inputs: readonly (Tensor | undefined)[];
  readonly attributes?: Readonly<Record<string, Attribute>>;
  /** Inputs that are constants of the graph. */
  readonly constant?: readonly number[];
  readonly outputs?: readonly (string | undefined)[];
}

let state = 1;
function random(): number {
  state = (Math.imul(state, 1664525) + 1013904223) | 0;
  return (state >>> 8) / 2 ** 24;
}
const whole = (most: number): number => Math.floor(random() * (most + 1));

/** Floats around 0, with zeros, NaN and infinities among them where `special`. */
function tensor(dtype: DType, shape: readonly number[], special = false): Tensor {
  const size = shape.reduce((product, dim) => product * dim, 1);
  const values = Array.from({ length: size }, () => {
    const pick = special ? whole(30) : 9;
    if (dtype === 'bool') return whole(1);
    if (!dtype.startsWith('f') && dtype !== 'bf16') return dtype.startsWith('u') ? whole(200) : whole(200) - 100;
    return pick === 0 ? Number.NaN : pick === 1 ? Infinity : pick === 2 ? -Infinity : pick === 3 ? 0 : random() * 8 - 4;
  });
  const wide = dtype === 'i64' || dtype === 'u64';
  return Tensor.of(dtype, (wide ? values.map(value => BigInt(value)) : values) as number[]).reshape(shape);
}

function graphOf({
  op,
  domain = '',
  opset = 24,
  inputs,
  attributes = {},
  constant = [],
  outputs = ['y'],
}: Case): Graph {
  const b = new GraphBuilder('one', { opset });
  const ids = inputs.map((given, i) =>
    given === undefined
      ? undefined
      : constant.includes(i)
        ? b.constant(`x${i}`, given)
        : b.input(`x${i}`, { dtype: given.dtype, shape: given.shape }),
  );
  const made = b.node({ op, domain, inputs: ids, outputs, attributes, ...(domain === '' ? {} : { opset: 1 }) });
  for (const id of made) if (id !== undefined) b.output(id);
  return b.build();
}

function check(given: Case, tolerance = 3e-6): void {
  const graph = graphOf(given);
  const { constant = [] } = given;
  const feeds = Object.fromEntries(
    given.inputs.flatMap((x, i) => (x === undefined || constant.includes(i) ? [] : [[`x${i}`, x]])),
  );
  const native = nativeBackend(openProgramHost(loadBinding()!)).prepare(graph, { constants: noFile });
  const reference = referenceBackend.prepare(graph, { constants: noFile });
  const got = native.runSync(feeds);
  const want = reference.runSync(feeds);
  native.close();
  reference.close();
  for (const [name, expected] of Object.entries(want)) {
    const actual = got[name]!;
    const label = `${given.op} ${given.inputs.map(x => `${x?.dtype}[${x?.shape}]`).join(' ')}`;
    expect(actual.shape, label).toEqual(expected.shape);
    expect(actual.dtype, label).toBe(expected.dtype);
    const [a, b] = [actual.values(), expected.values()];
    b.forEach((value, i) => {
      const [x, y] = [Number(a[i]), Number(value)];
      const near = Object.is(x, y) || x === y || Math.abs(x - y) <= tolerance * (1 + Math.abs(y));
      if (!near) expect.fail(`${label}: element ${i} is ${a[i]}, not ${value}`);
    });
  }
}

/** Shapes that broadcast into `shape`: any of its dims 1, leading ones left out. */
function part(shape: readonly number[]): readonly number[] {
  const cut = shape.map(dim => (whole(2) === 0 ? 1 : dim));
  return cut.slice(whole(2) === 0 ? whole(cut.length) : 0);
}
const someShape = (): readonly number[] =>
  Array.from({ length: whole(4) }, () => [1, 2, 3, 5, 7, 16, 33, 600][whole(6)]!);

const FLOAT_UNARY =
  `Relu Neg Abs Sqrt Exp Log Tanh Sigmoid Erf Floor Ceil Reciprocal Round Sign HardSwish Softplus Softsign
  Mish Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Gelu Swish LeakyRelu HardSigmoid Elu Selu Celu
  ThresholdedRelu Shrink IsNaN IsInf`.split(/\s+/);
const INTEGER_BINARY = `Add Sub Mul Div Min Max Mod Less LessOrEqual Greater GreaterOrEqual Equal`.split(' ');
const NUMBERS: readonly DType[] = ['f32', 'i32', 'i64', 'i8', 'u8'];
const CASTS: readonly DType[] = [
  ...(['f32', 'f64', 'f16', 'bf16', 'i8', 'u8', 'i16'] as const),
  ...(['u16', 'i32', 'u32', 'i64', 'u64', 'bool'] as const),
];

describe.skipIf(rows.length === 0)('operators on native kernels agree with the reference', () => {
  describe.each(rows)('%s', isa => {
    beforeAll(() => forceIsa(isa));
    afterAll(() => forceIsa(null));

    test.each(FLOAT_UNARY)('%s', op => {
      for (const length of [1, 7, 100, 1500]) {
        // What has poles amplifies the rounding of its argument; where it is defined is tested elsewhere.
        check({ op, inputs: [tensor('f32', [length], !['Gelu', 'Swish', 'Mish', 'HardSwish'].includes(op))] }, 1e-5);
      }
    });

    test.each(INTEGER_BINARY)('%s broadcasts, on floats and integers', op => {
      for (let round = 0; round < 12; round++) {
        for (const dtype of op === 'Mod' ? NUMBERS.slice(1) : NUMBERS) {
          const shape = someShape();
          const inputs = [tensor(dtype, part(shape), true), tensor(dtype, part(shape), true)];
          check({ op, inputs: whole(1) ? inputs : inputs.toReversed() });
        }
      }
    });

    test.each(['And', 'Or', 'Xor'])('%s', op => {
      for (let round = 0; round < 12; round++) {
        const shape = someShape();
        check({ op, inputs: [tensor('bool', part(shape)), tensor('bool', part(shape))] });
      }
    });

    test('Not, Where, PRelu, Pow, Sum, Mean, Clip', () => {
      for (let round = 0; round < 20; round++) {
        const shape = someShape();
        const float = (): Tensor => tensor('f32', part(shape), true);
        check({ op: 'Not', inputs: [tensor('bool', shape)] });
        check({ op: 'Where', inputs: [tensor('bool', part(shape)), float(), float()] });
        check({ op: 'PRelu', inputs: [tensor('f32', shape), tensor('f32', part(shape))] });
        for (const exponent of [2, 0.5, -1, 3, 1]) {
          check({ op: 'Pow', inputs: [tensor('f32', shape, true), Tensor.of('f32', exponent)], constant: [1] });
        }
        check({ op: 'Sum', inputs: [float(), float(), float()] });
        check({ op: 'Mean', inputs: [tensor('f32', part(shape)), tensor('f32', part(shape))] });
      }
    });

    test('Cast from every dtype to every other', () => {
      for (const from of CASTS) {
        for (const to of CASTS) {
          const code = [1, 11, 10, 16, 3, 2, 5, 4, 6, 12, 7, 13, 9][CASTS.indexOf(to)]!;
          check({ op: 'Cast', inputs: [tensor(from, [300], from.startsWith('f'))], attributes: { to: code } }, 0);
        }
      }
    });

    test.each(`Sum Mean Max Min Prod L1 L2 SumSquare`.split(' '))('Reduce%s over any axes', name => {
      for (let round = 0; round < 25; round++) {
        const shape = [1 + whole(4), 1 + whole(20), 1 + whole(40)];
        const axes = [[0], [1], [2], [1, 2], [0, 1], [0, 1, 2]][whole(5)]!;
        const inputs = [tensor('f32', shape), Tensor.of('i64', axes.map(BigInt))];
        check({ op: `Reduce${name}`, inputs, constant: [1], attributes: { keepdims: whole(1) } }, 2e-5);
      }
    });

    test('ArgMax and ArgMin, of ties and NaN', () => {
      for (let round = 0; round < 40; round++) {
        const x = Tensor.from(
          'f32',
          [3, 9, 5],
          Float32Array.from({ length: 135 }, () => (whole(9) === 0 ? Number.NaN : whole(4))),
        );
        const attributes = { axis: whole(2), select_last_index: whole(1), keepdims: whole(1) };
        check({ op: whole(1) ? 'ArgMax' : 'ArgMin', inputs: [x], attributes });
      }
    });

    test('LayerNormalization, RMSNormalization and their skips', () => {
      for (let round = 0; round < 20; round++) {
        const n = 1 + whole(120);
        const x = (): Tensor => tensor('f32', [2, 1 + (round % 3), n]);
        const vector = (): Tensor => tensor('f32', [n]);
        check({ op: 'LayerNormalization', inputs: [x(), vector(), round % 2 ? vector() : undefined] }, 1e-4);
        check({ op: 'LayerNormalization', inputs: [x(), vector(), vector()], attributes: { axis: 1 } }, 1e-4);
        check({ op: 'RMSNormalization', inputs: [x(), vector()] }, 1e-4);
        const skip = { domain: 'com.microsoft', outputs: ['y', undefined, undefined, ...(round % 2 ? ['sum'] : [])] };
        const inputs = [x(), x(), vector(), vector(), round % 3 ? vector() : undefined];
        check({ op: 'SkipLayerNormalization', ...skip, inputs }, 1e-4);
        check({ op: 'SkipSimplifiedLayerNormalization', ...skip, inputs: [x(), x(), vector()] }, 1e-4);
      }
    });

    test('InstanceNormalization and GroupNormalization', () => {
      for (const opset of [18, 21]) {
        const affine = (size: number): Tensor => tensor('f32', [size]);
        const x = tensor('f32', [2, 6, 5, 7]);
        check({ op: 'InstanceNormalization', inputs: [x, affine(6), affine(6)] }, 1e-4);
        const size = opset === 18 ? 3 : 6;
        const inputs = [x, affine(size), affine(size)];
        check({ op: 'GroupNormalization', opset, inputs, attributes: { num_groups: 3 } }, 1e-4);
      }
    });

    test('Transpose of any rank and element', () => {
      for (let round = 0; round < 60; round++) {
        const rank = 2 + whole(3);
        const shape = Array.from({ length: rank }, () => 1 + whole(rank < 4 ? 40 : 9));
        const perm = shape.map((_, i) => i).sort(() => random() - 0.5);
        const dtype = (['f32', 'i64', 'u8', 'i16'] as const)[whole(3)]!;
        check({ op: 'Transpose', inputs: [tensor(dtype, shape)], attributes: { perm } }, 0);
      }
    });

    test('Gather and GatherElements', () => {
      for (let round = 0; round < 40; round++) {
        const x = tensor((['f32', 'u8', 'i64'] as const)[whole(2)]!, [4, 5, 1 + whole(40)]);
        const axis = whole(2);
        const size = x.shape[axis]!;
        const indices = (shape: readonly number[]): Tensor => {
          const list = Array.from({ length: shape.reduce((p, d) => p * d, 1) }, () => whole(2 * size - 1) - size);
          return Tensor.of('i64', list.map(BigInt))
            .reshape(shape)
            .cast(whole(1) ? 'i32' : 'i64');
        };
        check({ op: 'Gather', inputs: [x, indices([2, 3])], attributes: { axis } }, 0);
        check({ op: 'GatherElements', inputs: [x, indices([3, 4, x.shape[2]!])], attributes: { axis } }, 0);
      }
    });

    test.each(['Gather', 'GatherElements'])('%s fails on an index outside the axis, and reads nothing there', op => {
      const x = tensor('f32', [4, 3]);
      for (const index of [4, -5, 2 ** 31 - 1, -(2 ** 31)]) {
        const inputs = [x, Tensor.of('i32', [[0, 1, index]])];
        const native = nativeBackend(openProgramHost(loadBinding()!)).prepare(graphOf({ op, inputs }), {
          constants: noFile,
        });
        expect(() => native.runSync({ x0: x, x1: inputs[1]! })).toThrow();
        native.close();
      }
    });

    test('Pad in every mode, Tile, DepthToSpace, SpaceToDepth', () => {
      for (let round = 0; round < 30; round++) {
        const shape = [3, 3 + whole(4), 3 + whole(30)];
        const pads = Array.from({ length: 6 }, () => BigInt(whole(4) - 1));
        const mode = ['constant', 'edge', 'reflect', 'wrap'][round % 4]!;
        const dtype = (['f32', 'i64', 'u8'] as const)[whole(2)]!;
        const value = whole(1) ? tensor(dtype, []) : undefined;
        const inputs = [tensor(dtype, shape), Tensor.of('i64', pads), mode === 'constant' ? value : undefined];
        check({ op: 'Pad', inputs, constant: [1, 2], attributes: { mode } }, 0);
        check({ op: 'Tile', inputs: [tensor('f32', shape), Tensor.of('i64', [2n, 1n, 3n])], constant: [1] }, 0);
      }
      for (const mode of ['DCR', 'CRD']) {
        const attributes = { blocksize: 2, mode };
        check({ op: 'DepthToSpace', inputs: [tensor('f32', [2, 12, 3, 5])], attributes }, 0);
      }
      check({ op: 'SpaceToDepth', inputs: [tensor('f32', [2, 3, 4, 6])], attributes: { blocksize: 2 } }, 0);
    });
  });
});
