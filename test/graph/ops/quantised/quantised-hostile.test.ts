import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isCloisterError } from '../../../../src/base/index.ts';
import {
  type Attribute,
  type Dim,
  type Facts,
  GraphBuilder,
  type Operator,
  runNode,
} from '../../../../src/graph/index.ts';
import { MICROSOFT_QUANTISED } from '../../../../src/graph/ops/quantised/microsoft-quantised.ts';
import { QUANTISE } from '../../../../src/graph/ops/quantised/quantise.ts';
import { QUANTISED_ATTENTION } from '../../../../src/graph/ops/quantised/quantised-attention.ts';
import { QUANTISED_CONVOLUTION } from '../../../../src/graph/ops/quantised/quantised-convolution.ts';
import { QUANTISED_LINEAR } from '../../../../src/graph/ops/quantised/quantised-linear.ts';
import { type DType, newArray, Tensor } from '../../../../src/tensor/index.ts';

const operators = [
  ...MICROSOFT_QUANTISED,
  ...QUANTISE,
  ...QUANTISED_ATTENTION,
  ...QUANTISED_CONVOLUTION,
  ...QUANTISED_LINEAR,
];

/** Sizes that fit each other often, an absurd one now and then. */
const size: fc.Arbitrary<number> = fc.oneof(
  { weight: 20, arbitrary: fc.integer({ min: 1, max: 3 }) },
  { weight: 2, arbitrary: fc.constant(0) },
  { weight: 1, arbitrary: fc.constantFrom(2 ** 31, 2 ** 40) },
);
const shape = fc.oneof(fc.constant([]), fc.array(size, { maxLength: 5 }));
const number = fc.oneof(
  fc.integer({ min: -2, max: 4 }),
  fc.constantFrom(2 ** 31, -(2 ** 31), Number.MAX_SAFE_INTEGER, 25),
);

/** Dtypes by what an input is called upon to be, mostly; any now and then. */
const dtype: fc.Arbitrary<DType> = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom<DType>('u8', 'i8') },
  { weight: 6, arbitrary: fc.constant<DType>('f32') },
  { weight: 1, arbitrary: fc.constantFrom<DType>('i32', 'i16', 'f16', 'bool', 'string', 'i64', 'bf16', 'f64') },
);

function arbitraryOf(type: string): fc.Arbitrary<Attribute> {
  if (type === 'ints') return fc.array(number, { maxLength: 6 });
  if (type === 'string') return fc.constantFrom('NOTSET', 'SAME_UPPER', 'SAME_LOWER', 'VALID', 'x');
  if (type === 'float') return fc.oneof(fc.double(), fc.constant(Number.NaN));
  return number;
}

type Given = { readonly dtype: DType; readonly shape: readonly number[] } | undefined;

const byte = (...sizes: readonly number[]): Given => ({ dtype: 'u8', shape: sizes });
const real = (...sizes: readonly number[]): Given => ({ dtype: 'f32', shape: sizes });
const own = [real(), byte()];
const image = byte(2, 4, 5, 3);
const pooling = { kernel_shape: [2, 2], pads: [1, 0, 0, 1], strides: [2, 1], ceil_mode: 1 };
const conv = { group: 2, pads: [1, 1, 1, 1], strides: [2, 1], dilations: [1, 1], kernel_shape: [3, 3] };

/** Nodes that are well formed, from which one or two steps lead away. */
const FORMS: Readonly<
  Record<string, readonly [inputs: readonly Given[], attributes?: Readonly<Record<string, Attribute>>]>
> = {
  ConvInteger: [[image, byte(4, 2, 3, 3), byte(), byte(4)], conv],
  DequantizeLinear: [[image, real(4), byte(4)], { axis: 1 }],
  DynamicQuantizeLinear: [[real(3, 2)]],
  DynamicQuantizeMatMul: [[real(2, 3), byte(3, 4), real(4), byte(4), real(4)]],
  MatMulInteger: [[byte(2, 1, 3), byte(2, 3, 4), byte(2, 1, 1), byte(2, 1, 4)]],
  MatMulIntegerToFloat: [[byte(2, 3), byte(3, 4), real(), real(4), byte(), byte(4), real(4)]],
  QAttention: [
    [byte(2, 3, 4), byte(4, 12), real(12), ...[real(), real(12)], undefined, byte(), byte(12)],
    { num_heads: 2 },
  ],
  QGemm: [[byte(2, 3), ...own, byte(4, 3), real(4), byte(4), undefined, ...own], { transB: 1 }],
  QLinearAdd: [[byte(3, 1), ...own, byte(4), ...own, ...own]],
  QLinearAveragePool: [[image, ...own, ...own], pooling],
  QLinearConcat: [[...own, byte(2, 3), ...own, byte(2, 1), ...own], { axis: 1 }],
  QLinearConv: [[image, ...own, byte(4, 2, 3, 3), real(4), byte(4), ...own, { dtype: 'i32', shape: [4] }], conv],
  QLinearGlobalAveragePool: [[image, ...own, ...own]],
  QLinearLeakyRelu: [[image, ...own, ...own]],
  QLinearMatMul: [[byte(2, 3), ...own, byte(3, 4), real(4), byte(4), ...own]],
  QLinearMul: [[byte(3, 1), ...own, byte(4), ...own, ...own]],
  QLinearReduceMean: [[image, ...own, ...own], { axes: [1, -1], keepdims: 0 }],
  QLinearSigmoid: [[image, ...own, ...own]],
  QLinearSoftmax: [[image, ...own, ...own], { axis: 1, opset: 13 }],
  QLinearWhere: [[{ dtype: 'bool', shape: [3, 1] }, byte(4), ...own, byte(3, 4), ...own, ...own]],
  QuantizeLinear: [[real(2, 4), real(2, 2)], { axis: 1, block_size: 2 }],
};

/** One step away: another shape, dtype or size of one input, or one input less. */
const mutation = fc.oneof(
  fc.record({ kind: fc.constant('shape' as const), at: fc.nat(8), shape }),
  fc.record({ kind: fc.constant('size' as const), at: fc.nat(8), axis: fc.nat(4), size }),
  fc.record({ kind: fc.constant('dtype' as const), at: fc.nat(8), dtype }),
  fc.record({ kind: fc.constant('drop' as const), at: fc.nat(8) }),
);

const nodes = fc.constantFrom<Operator>(...operators).chain(operator =>
  fc.constantFrom(...operator.versions).chain(version => {
    const [inputs, attributes = {}] = FORMS[operator.name]!;
    const names = Object.keys(version.attributes);
    const attribute =
      names.length === 0
        ? fc.constant({})
        : fc.constantFrom(...names).chain(name => {
            return arbitraryOf(version.attributes[name]!.type).map(value => ({ [name]: value }));
          });
    return fc.record({
      operator: fc.constant(operator),
      version: fc.constant(version),
      inputs: fc.array(mutation, { maxLength: 2 }).map(steps => steps.reduce(mutated, inputs)),
      attributes: fc.option(attribute, { nil: {} }).map(changed => ({
        ...Object.fromEntries(Object.entries(attributes).filter(([name]) => names.includes(name))),
        ...changed,
      })),
      seed: fc.nat(),
    });
  }),
);

type Mutation = typeof mutation extends fc.Arbitrary<infer M> ? M : never;

function mutated(inputs: readonly Given[], step: Mutation): readonly Given[] {
  return inputs.map((given, i) => {
    if (i !== step.at % inputs.length || given === undefined) return given;
    switch (step.kind) {
      case 'shape':
        return { ...given, shape: step.shape };
      case 'size':
        return { ...given, shape: given.shape.map((dim, axis) => (axis === step.axis ? step.size : dim)) };
      case 'dtype':
        return { ...given, dtype: step.dtype };
      default:
        return undefined;
    }
  });
}

/** Some elements of a dtype; undefined where there would be too many. */
function tensorOf(
  facts: { readonly dtype: DType; readonly shape: readonly number[] },
  seed: number,
): Tensor | undefined {
  const count = facts.shape.reduce((product, dim) => product * dim, 1);
  if (count > 10_000) return undefined;
  const data = newArray(facts.dtype, count);
  for (let i = 0; i < count; i++) {
    const value = Math.imul(seed + i, 2654435761) >> 8;
    data[i] =
      facts.dtype === 'string'
        ? String(value)
        : facts.dtype === 'i64'
          ? BigInt(value)
          : facts.dtype === 'bool'
            ? value & 1
            : facts.dtype === 'f32'
              ? value / 2 ** 20
              : value;
  }
  return Tensor.from(facts.dtype, facts.shape, data);
}

describe('quantised operators', () => {
  test('give an outcome or a typed error for any node, at once, and inference knows the shape of what comes', () => {
    const outcomes = new Map<string, number>();
    let refusals = 0;
    fc.assert(
      fc.property(nodes, ({ operator, version, inputs, attributes, seed }) => {
        try {
          const b = new GraphBuilder('any', { opset: version.since });
          const tensors: (Tensor | undefined)[] = [];
          const ids = inputs.map((given, i) => {
            if (given === undefined) {
              tensors.push(undefined);
              return undefined;
            }
            const tensor = tensorOf(given, seed + i);
            tensors.push(tensor);
            const facts: Facts = tensor ?? given;
            return b.input(`x${i}`, { dtype: facts.dtype, shape: facts.shape });
          });
          const count = operator.name === 'DynamicQuantizeLinear' ? 3 : 1;
          const outputs = Array.from({ length: count }, (_, i) => `y${i}`);
          const made = b.node({ op: operator.name, domain: operator.domain, inputs: ids, attributes, outputs });
          for (const id of made) b.output(id!);
          if (tensors.some((tensor, i) => tensor === undefined && inputs[i] !== undefined)) return;
          const came = runNode(b.build().nodes[0]!, tensors);
          made.forEach((id, i) => {
            expect([came[i]!.dtype, came[i]!.shape]).toEqual([b.facts(id!).dtype, b.facts(id!).shape]);
          });
          outcomes.set(operator.name, (outcomes.get(operator.name) ?? 0) + 1);
        } catch (error) {
          if (!isCloisterError(error)) throw error;
          refusals++;
        }
      }),
      { numRuns: 10_000 },
    );
    expect([...outcomes.keys()].sort()).toEqual(Object.keys(FORMS).sort());
    expect(refusals).toBeGreaterThan(1000);
  });

  test('infer a symbolic batch through to the output', () => {
    const f32: Facts = { dtype: 'f32', shape: [] };
    const u8: Facts = { dtype: 'u8', shape: [] };
    const byte = (...sizes: readonly Dim[]): Facts => ({ dtype: 'u8', shape: sizes });
    const rows: readonly (readonly [
      op: string,
      domain: string,
      inputs: readonly Facts[],
      result: readonly Dim[],
      attributes?: Readonly<Record<string, Attribute>>,
    ])[] = [
      ['QLinearConv', '', [byte('N', 2, 'H', 5), f32, u8, byte(4, 2, 3, 3), f32, u8, f32, u8], ['N', 4, 'H-2', 3]],
      ['QLinearMatMul', '', [byte('N', 'T', 4), f32, u8, byte(4, 6), f32, u8, f32, u8], ['N', 'T', 6]],
      ['MatMulInteger', '', [byte('N', 4), byte(4, 'M')], ['N', 'M']],
      ['QLinearAdd', 'com.microsoft', [byte('N', 4), f32, u8, byte(4), f32, u8, f32, u8], ['N', 4]],
      ['QLinearGlobalAveragePool', 'com.microsoft', [byte('N', 4, 'H', 'W'), f32, u8, f32, u8], ['N', 4, 1, 1]],
      [
        'QLinearConcat',
        'com.microsoft',
        [f32, u8, byte('N', 4), f32, u8, byte('N', 3), f32, u8],
        ['N', 7],
        { axis: 1 },
      ],
      ['QGemm', 'com.microsoft', [byte('N', 4), f32, u8, byte(6, 4), f32, u8], ['N', 6], { transB: 1 }],
    ];
    for (const [op, domain, inputs, result, attributes = {}] of rows) {
      const b = new GraphBuilder('symbolic', { opset: domain ? 1 : 21 });
      const ids = inputs.map((facts, i) => b.input(`x${i}`, facts));
      expect([op, b.facts(b.node({ op, domain, inputs: ids, attributes })[0]!).shape]).toEqual([op, result]);
    }
  });
});
