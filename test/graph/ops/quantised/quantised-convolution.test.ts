import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Attribute } from '../../../../src/graph/index.ts';
import { Tensor } from '../../../../src/tensor/index.ts';
import { byteOf, bytesOf, byteType, MICROSOFT, numbers, quantised, refusal, run, scale } from './quantised-world.ts';

const f32 = (values: readonly number[] | number): Tensor => Tensor.of('f32', values);

/** Convolution over two axes, output element by output element, as integers. */
function sums(
  x: Tensor,
  w: Tensor,
  xZero: number,
  wZeros: readonly number[],
  attributes: Readonly<Record<string, Attribute>>,
): { readonly shape: readonly number[]; readonly values: readonly number[] } {
  const list = (name: string, none: number): readonly number[] =>
    (attributes[name] as readonly number[] | undefined) ?? [none, none, none, none];
  const [strides, dilations, pads] = [list('strides', 1), list('dilations', 1), list('pads', 0)];
  const groups = Number(attributes['group'] ?? 1);
  const [batch, channels, height, width] = x.shape as readonly [number, number, number, number];
  const [outputs, perGroup, kh, kw] = w.shape as readonly [number, number, number, number];
  const size = (axis: number, from: number, kernel: number): number =>
    Math.floor((from + pads[axis]! + pads[axis + 2]! - (kernel - 1) * dilations[axis]! - 1) / strides[axis]!) + 1;
  const [oh, ow] = [size(0, height, kh), size(1, width, kw)];
  const [image, kernel] = [numbers(x), numbers(w)];
  const values: number[] = [];
  for (let n = 0; n < batch; n++) {
    for (let o = 0; o < outputs; o++) {
      const first = Math.floor(o / (outputs / groups)) * perGroup;
      for (let at = 0; at < oh * ow; at++) {
        const [oy, ox] = [Math.floor(at / ow), at % ow];
        let sum = 0;
        for (let i = 0; i < perGroup * kh * kw; i++) {
          const [channel, ky, kx] = [Math.floor(i / (kh * kw)), Math.floor(i / kw) % kh, i % kw];
          const y = oy * strides[0]! + ky * dilations[0]! - pads[0]!;
          const z = ox * strides[1]! + kx * dilations[1]! - pads[1]!;
          if (y < 0 || y >= height || z < 0 || z >= width) continue;
          const pixel = image[((n * channels + first + channel) * height + y) * width + z]! - xZero;
          sum += pixel * (kernel[o * perGroup * kh * kw + i]! - wZeros[o]!);
        }
        values.push(sum);
      }
    }
  }
  return { shape: [batch, outputs, oh, ow], values };
}

const small = (min: number, max: number): fc.Arbitrary<number> => fc.integer({ min, max });

/** Images and kernels that fit: depthwise, pointwise and grouped ones among them. */
const convolutions = fc
  .record({
    batch: small(1, 2),
    groups: small(1, 3),
    perGroup: small(1, 3),
    perOut: small(1, 5),
    kernel: fc.tuple(small(1, 3), small(1, 3)),
    spare: fc.tuple(small(0, 5), small(0, 5)),
    strides: fc.tuple(small(1, 3), small(1, 3)),
    dilations: fc.tuple(small(1, 2), small(1, 2)),
    pads: fc.tuple(small(0, 2), small(0, 2), small(0, 2), small(0, 2)),
    types: fc.tuple(byteType, byteType),
  })
  .chain(({ batch, groups, perGroup, perOut, kernel, spare, strides, dilations, pads, types }) => {
    const outputs = groups * perOut;
    const spatial = kernel.map((size, i) => (size - 1) * dilations[i]! + 1 + spare[i]!);
    return fc.record({
      x: bytesOf(types[0], [batch, groups * perGroup, ...spatial]),
      w: bytesOf(types[1], [outputs, perGroup, ...kernel]),
      xZero: byteOf(types[0]),
      wZeros: fc.array(byteOf(types[1]), { minLength: outputs, maxLength: outputs }),
      xScale: scale,
      wScales: fc.array(scale, { minLength: outputs, maxLength: outputs }),
      yScale: scale.map(value => Math.fround(value * 1000)),
      bias: fc.array(fc.integer({ min: -100000, max: 100000 }), { minLength: outputs, maxLength: outputs }),
      attributes: fc.constant({ group: groups, strides, dilations, pads, kernel_shape: kernel }),
    });
  });

describe('ConvInteger', () => {
  test('is the sum of the products of distances from the zero points; padding is at the zero point', () => {
    fc.assert(
      fc.property(convolutions, fc.boolean(), ({ x, w, xZero, wZeros, attributes }, perChannel) => {
        const zeros = perChannel ? wZeros : wZeros.map(() => wZeros[0]!);
        const wZero = Tensor.of(w.dtype, perChannel ? wZeros : wZeros[0]!);
        const [y] = run('ConvInteger', [x, w, Tensor.of(x.dtype, xZero), wZero], { opset: 10, attributes });
        const want = sums(x, w, xZero, zeros, attributes);
        expect([y!.shape, numbers(y!)]).toEqual([want.shape, want.values]);
      }),
      { numRuns: 300 },
    );
  });

  test('agrees with itself when the columns of an image are made in parts', () => {
    // 64 channels under a 6 x 6 kernel: 2304 rows, so 8100 places take several parts.
    const x = Tensor.from(
      'u8',
      [1, 64, 95, 95],
      Uint8Array.from({ length: 64 * 95 * 95 }, (_, i) => (i * 7) % 251),
    );
    const w = Tensor.from(
      'i8',
      [2, 64, 6, 6],
      Int8Array.from({ length: 2 * 64 * 36 }, (_, i) => ((i * 13) % 255) - 127),
    );
    const [y] = run('ConvInteger', [x, w], { opset: 10 });
    const [top] = run('ConvInteger', [x.slice({ axis: 2, end: 8 }).clone(), w], { opset: 10 });
    const [bottom] = run('ConvInteger', [x.slice({ axis: 2, start: -6 }).clone(), w], { opset: 10 });
    expect(numbers(y!.slice({ axis: 2, end: 3 }))).toEqual(numbers(top!));
    expect(numbers(y!.slice({ axis: 2, start: -1 }))).toEqual(numbers(bottom!));
  });

  test('takes one and three spatial axes and the paddings of auto_pad', () => {
    const line = Tensor.of('u8', [[[1, 2, 3]]]);
    const same = { attributes: { auto_pad: 'SAME_UPPER' }, opset: 10 };
    expect(run('ConvInteger', [line, Tensor.of('u8', [[[1, 1]]])], same)[0]!.toArray()).toEqual([[[3, 5, 3]]]);
    const cube = Tensor.from('u8', [1, 1, 2, 2, 2], Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8]));
    const [y] = run('ConvInteger', [cube, Tensor.from('i8', [1, 1, 2, 2, 2], new Int8Array(8).fill(-1))], {
      opset: 10,
    });
    expect(numbers(y!)).toEqual([-36]);
  });

  test('refuses what does not fit, naming the node', () => {
    const [x, w] = [Tensor.zeros('u8', [1, 4, 5, 5]), Tensor.zeros('u8', [3, 4, 3, 3])];
    const message = (inputs: readonly Tensor[], attributes: Readonly<Record<string, Attribute>> = {}): string =>
      refusal(() => run('ConvInteger', inputs, { opset: 10, attributes }));
    expect(message([x, w], { group: 0 })).toContain('ConvInteger "it"');
    expect(message([x, w], { group: 2 })).toContain('cannot be cut into 2 groups');
    expect(message([x, w], { kernel_shape: [2, 3] })).toContain('2 is not 3 of the weights');
    expect(message([x, w, Tensor.of('u8', [1, 2])])).toContain('for the whole tensor');
    expect(message([x, w, Tensor.of('u8', 1), Tensor.of('u8', [1, 2])])).toContain('one per output channel');
    expect(message([Tensor.zeros('u8', [1, 4]), w])).toContain('UNSUPPORTED_MODEL');
  });
});

describe('QLinearConv', () => {
  test('is the quantised sum with its bias, with a scale per output channel', () => {
    fc.assert(
      fc.property(convolutions, byteType, fc.boolean(), (given, dtype, biased) => {
        const { x, w, xZero, wZeros, xScale, wScales, yScale, bias, attributes } = given;
        const inputs = [x, f32(xScale), Tensor.of(x.dtype, xZero), w, f32(wScales), Tensor.of(w.dtype, wZeros)];
        const rest = [f32(yScale), Tensor.of(dtype, 5), ...(biased ? [Tensor.of('i32', bias)] : [])];
        const [y] = run('QLinearConv', [...inputs, ...rest], { opset: 10, attributes });
        const want = sums(x, w, xZero, wZeros, attributes);
        const volume = want.shape[2]! * want.shape[3]!;
        const expected = want.values.map((sum, at) => {
          const channel = Math.floor(at / volume) % wScales.length;
          const factor = Math.fround(Math.fround(xScale * wScales[channel]!) / yScale);
          return quantised(Math.fround((sum + (biased ? bias[channel]! : 0)) * factor), 1, 5, dtype);
        });
        expect([y!.dtype, y!.shape, numbers(y!)]).toEqual([dtype, want.shape, expected]);
      }),
      { numRuns: 200 },
    );
  });

  test('of com.microsoft gives the same with its channels last', () => {
    fc.assert(
      fc.property(convolutions, ({ x, w, xZero, wZeros, xScale, wScales, yScale, attributes }) => {
        const after = [f32(xScale), Tensor.of(x.dtype, xZero), w, f32(wScales), Tensor.of(w.dtype, wZeros)];
        const rest = [...after, f32(yScale), Tensor.of(x.dtype, xZero)];
        const [first] = run('QLinearConv', [x, ...rest], { opset: 10, attributes });
        const last = x.transpose([0, 2, 3, 1]).clone();
        const options = { domain: MICROSOFT, attributes: { ...attributes, channels_last: 1 } };
        const [y] = run('QLinearConv', [last, ...rest], options);
        expect(y!.transpose([0, 3, 1, 2]).toArray()).toEqual(first!.toArray());
      }),
      { numRuns: 50 },
    );
  });
});
