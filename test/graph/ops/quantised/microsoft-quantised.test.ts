import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Attribute } from '../../../../src/graph/index.ts';
import { Tensor } from '../../../../src/tensor/index.ts';
import { byteOf, bytesOf, byteType, farthest, MICROSOFT, numbers, refusal, run, scale } from './quantised-world.ts';

const f32 = (value: number): Tensor => Tensor.of('f32', value);

type Attributes = Readonly<Record<string, Attribute>>;

/** A quantised tensor with its scale and zero point: three inputs of a node. */
type Quantised = readonly [Tensor, Tensor, Tensor];

const parameters = byteType.chain(dtype =>
  fc.record({
    dtype: fc.constant(dtype),
    scales: fc.array(scale.map(f32), { minLength: 3, maxLength: 3 }),
    zeros: fc.array(
      byteOf(dtype).map(value => Tensor.of(dtype, value)),
      { minLength: 3, maxLength: 3 },
    ),
  }),
);

/** `count` tensors of these shapes with parameters of their own, and the parameters of a result. */
function quantisedOf(
  ...shapes: readonly (readonly number[])[]
): fc.Arbitrary<readonly [readonly Quantised[], Tensor, Tensor]> {
  return parameters.chain(({ dtype, scales, zeros }) =>
    fc.tuple(...shapes.map(shape => bytesOf(dtype, shape))).map(tensors => {
      const parts = tensors.map((x, i): Quantised => [x, scales[i]!, zeros[i]!]);
      return [parts, scales[2]!, zeros[2]!] as const;
    }),
  );
}

/** What the operator is to give: its operands dequantised, the float operator, and the result quantised. */
function slowly(
  op: string,
  parts: readonly Quantised[],
  to: readonly Tensor[],
  attributes: Attributes,
  lead: readonly Tensor[] = [],
): Tensor {
  const reals = parts.map(part => run('DequantizeLinear', part, { opset: 13 })[0]!);
  const [y] = run(op, [...lead, ...reals], { opset: 13, attributes });
  return run('QuantizeLinear', [y!, ...to], { opset: 13 })[0]!;
}

function quickly(op: string, inputs: readonly Tensor[], attributes: Attributes = {}): Tensor {
  return run(op, inputs, { domain: MICROSOFT, attributes })[0]!;
}

describe('the quantised operators of com.microsoft', () => {
  test.each(['Add', 'Mul'])('QLinear%s is within a step of the float operator, and broadcasts', op => {
    fc.assert(
      fc.property(quantisedOf([3, 1, 4], [2, 4]), ([parts, by, zero]) => {
        const came = quickly(`QLinear${op}`, [...parts.flat(), by, zero]);
        expect(farthest(came, slowly(op, parts, [by, zero], {}))).toBeLessThanOrEqual(1);
      }),
    );
  });

  test.each([
    ['LeakyRelu', { alpha: 0.25 }],
    ['Sigmoid', {}],
  ] as const)('QLinear%s gives the integers of the float operator', (op, attributes) => {
    fc.assert(
      fc.property(quantisedOf([40]), ([parts, by, zero]) => {
        const came = quickly(`QLinear${op}`, [...parts.flat(), by, zero], attributes);
        expect(farthest(came, slowly(op, parts, [by, zero], attributes))).toBeLessThanOrEqual(1);
      }),
    );
  });

  test('QLinearSoftmax is within a step of Softmax, over one axis or all that follow', () => {
    fc.assert(
      fc.property(
        quantisedOf([2, 3, 4]),
        fc.constantFrom(0, 1, -1),
        fc.constantFrom(11, 13),
        ([parts, , zero], axis, opset) => {
          const by = f32(1 / 256);
          const reals = run('DequantizeLinear', parts[0]!, { opset: 13 })[0]!;
          const [y] = run('Softmax', [reals], { opset, attributes: { axis } });
          const want = run('QuantizeLinear', [y!, by, zero], { opset: 13 })[0]!;
          const came = quickly('QLinearSoftmax', [...parts.flat(), by, zero], { axis, opset });
          expect(farthest(came, want)).toBeLessThanOrEqual(1);
        },
      ),
    );
  });

  test.each([
    { kernel_shape: [2, 2] },
    { kernel_shape: [3, 2], pads: [1, 1, 1, 0], strides: [2, 1] },
    { kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [2, 2], count_include_pad: 1 },
    { kernel_shape: [2, 3], strides: [2, 2], ceil_mode: 1 },
    { kernel_shape: [3, 3], auto_pad: 'SAME_LOWER' },
  ])('QLinearAveragePool is within a step of AveragePool, channels first or last: %j', attributes => {
    fc.assert(
      fc.property(quantisedOf([2, 3, 5, 6]), ([parts, by, zero]) => {
        const came = quickly('QLinearAveragePool', [...parts.flat(), by, zero], attributes);
        expect(farthest(came, slowly('AveragePool', parts, [by, zero], attributes))).toBeLessThanOrEqual(1);
        const [x, ...own] = parts[0]!;
        const last = x.transpose([0, 2, 3, 1]).clone();
        const turned = quickly('QLinearAveragePool', [last, ...own, by, zero], { ...attributes, channels_last: 1 });
        expect(turned.transpose([0, 3, 1, 2]).toArray()).toEqual(came.toArray());
      }),
      { numRuns: 30 },
    );
  });

  test('QLinearGlobalAveragePool is within a step of GlobalAveragePool, channels first or last', () => {
    fc.assert(
      fc.property(quantisedOf([2, 3, 4, 5]), ([parts, by, zero]) => {
        const came = quickly('QLinearGlobalAveragePool', [...parts.flat(), by, zero]);
        expect(farthest(came, slowly('GlobalAveragePool', parts, [by, zero], {}))).toBeLessThanOrEqual(1);
        const [x, ...own] = parts[0]!;
        const last = x.transpose([0, 2, 3, 1]).clone();
        const turned = quickly('QLinearGlobalAveragePool', [last, ...own, by, zero], { channels_last: 1 });
        expect([turned.shape, numbers(turned)]).toEqual([[2, 1, 1, 3], numbers(came)]);
      }),
    );
  });

  test.each([{ axes: [1, -1], keepdims: 1 }, { axes: [0], keepdims: 0 }, { keepdims: 0 }])(
    'QLinearReduceMean is within a step of ReduceMean: %j',
    attributes => {
      fc.assert(
        fc.property(quantisedOf([2, 3, 4]), ([parts, by, zero]) => {
          const came = quickly('QLinearReduceMean', [...parts.flat(), by, zero], attributes);
          const want = slowly('ReduceMean', parts, [by, zero], attributes);
          expect(came.shape).toEqual(want.shape);
          expect(farthest(came, want)).toBeLessThanOrEqual(1);
        }),
      );
    },
  );

  test('QLinearConcat and QLinearWhere give the integers of the float operators', () => {
    fc.assert(
      fc.property(quantisedOf([2, 3], [2, 3]), fc.integer({ min: -2, max: 1 }), ([parts, by, zero], axis) => {
        const joined = quickly('QLinearConcat', [by, zero, ...parts.flat()], { axis });
        expect(joined.toArray()).toEqual(slowly('Concat', parts, [by, zero], { axis }).toArray());
        const condition = Tensor.of('bool', [[1], [0]]);
        const chosen = quickly('QLinearWhere', [condition, ...parts.flat(), by, zero]);
        expect(chosen.toArray()).toEqual(slowly('Where', parts, [by, zero], {}, [condition]).toArray());
      }),
    );
  });

  test('empty tensors stay empty', () => {
    const [by, zero] = [f32(1), Tensor.of('u8', 0)];
    const none = (...shape: readonly number[]): readonly Tensor[] => [Tensor.zeros('u8', shape), by, zero];
    expect(quickly('QLinearAdd', [...none(0, 3), ...none(1, 3), by, zero]).shape).toEqual([0, 3]);
    expect(quickly('QLinearSoftmax', [...none(2, 0), by, zero], { opset: 13 }).shape).toEqual([2, 0]);
    expect(quickly('QLinearGlobalAveragePool', [...none(0, 3, 2, 2), by, zero]).shape).toEqual([0, 3, 1, 1]);
    const pool = { kernel_shape: [2, 2] };
    expect(quickly('QLinearAveragePool', [...none(1, 0, 4, 4), by, zero], pool).shape).toEqual([1, 0, 3, 3]);
    expect(quickly('QLinearConcat', [by, zero, ...none(0, 2), ...none(0, 2)], { axis: 0 }).shape).toEqual([0, 2]);
  });

  test('parameters of anything but the whole tensor are refused, naming the node', () => {
    const x = Tensor.zeros('u8', [2, 3]);
    const [by, zero, many] = [f32(1), Tensor.of('u8', 0), Tensor.of('f32', [1, 2, 3])];
    const message = (...inputs: readonly Tensor[]): string => refusal(() => quickly('QLinearSigmoid', inputs));
    expect(message(x, many, zero, by, zero)).toContain('QLinearSigmoid "it": input 1: expected one scale');
    expect(message(x, by, zero, many, zero)).toContain('input 3: expected one scale');
    expect(message(x, by, Tensor.of('i8', 0), by, zero)).toContain('one dtype');
    expect(message(Tensor.zeros('i32', [2]), by, zero, by, zero)).toContain('i32');
    expect(refusal(() => quickly('QLinearConcat', [by, zero, x, by, zero, x], { axis: 0 }))).toContain('6 inputs');
  });
});
