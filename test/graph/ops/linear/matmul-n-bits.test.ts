import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Attribute } from '../../../../src/graph/index.ts';
import { Tensor } from '../../../../src/tensor/index.ts';
import { distance, type Inputs, numbers, random, refusal, run } from '../one-node.ts';

const nBits = (inputs: Inputs, attributes: Readonly<Record<string, Attribute>>): Tensor =>
  run('MatMulNBits', inputs, { attributes, domain: 'com.microsoft' })[0]!;
const onnx = (op: string, inputs: Inputs): Tensor => run(op, inputs)[0]!;

/** `count` rows of numbers below 2^bits, each row packed from the lowest bits of its bytes on. */
function pack(rows: readonly (readonly number[])[], bits: number): Uint8Array {
  return Uint8Array.from(
    rows.flatMap(row => {
      let all = 0n;
      row.forEach((value, i) => {
        all |= BigInt(value) << BigInt(i * bits);
      });
      return Array.from({ length: Math.ceil((row.length * bits) / 8) }, (_, i) =>
        Number((all >> BigInt(8 * i)) & 255n),
      );
    }),
  );
}

describe('MatMulNBits', () => {
  test('is a product with the weights that its blocks stand for', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(2, 4, 8),
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 5 }),
        fc.constantFrom('none', 'packed', 'plain'),
        fc.boolean(),
        (bits, K, N, zeros, hasBias) => {
          const block_size = 16;
          const perRow = Math.ceil(K / block_size);
          const integer = (seed: number, count: number, below: number): number[] =>
            numbers(random(seed, [count])).map(x => Math.floor(((x + 1) / 2) * below));
          const values = integer(1, N * perRow * block_size, 2 ** bits);
          const blocks = Array.from({ length: N * perRow }, (_, i) =>
            values.slice(i * block_size, (i + 1) * block_size),
          );
          const scales = random(2, [N, perRow], 'f32');
          const offsets =
            zeros === 'none' ? Array<number>(N * perRow).fill(2 ** (bits - 1)) : integer(3, N * perRow, 2 ** bits);
          const byRow = Array.from({ length: N }, (_, n) => offsets.slice(n * perRow, (n + 1) * perRow));
          const packed = pack(byRow, bits);
          const zeroPoints =
            zeros === 'none'
              ? undefined
              : zeros === 'packed'
                ? Tensor.from('u8', [packed.length], packed)
                : Tensor.of('f32', byRow);
          const weights = Tensor.from('u8', [N, perRow, (block_size * bits) / 8], pack(blocks, bits));
          const bias = hasBias ? random(4, [N], 'f32') : undefined;
          const x = random(5, [2, 3, K], 'f32');
          const y = nBits([x, weights, scales, zeroPoints, undefined, bias], { K, N, bits, block_size });
          const dense = Tensor.of(
            'f32',
            Array.from({ length: K }, (_, k) =>
              Array.from({ length: N }, (_column, n) => {
                const at = n * perRow + Math.floor(k / block_size);
                return (blocks[at]![k % block_size]! - offsets[at]!) * numbers(scales)[at]!;
              }),
            ),
          );
          const product = onnx('MatMul', [x, dense]);
          expect(distance(y, bias ? onnx('Add', [product, bias]) : product)).toBeLessThan(1e-4);
        },
      ),
    );
  });

  test('refuses what does not fit, and names the node', () => {
    const x = random(1, [2, 16], 'f32');
    const weights = Tensor.zeros('u8', [3, 1, 8]);
    const scales = random(2, [3], 'f32');
    const refused = (inputs: Inputs, attributes = {}): string =>
      refusal(() => nBits(inputs, { K: 16, N: 3, block_size: 16, ...attributes }));
    expect(refused([x, weights, scales])).toBe('none');
    expect(refused([x, weights, scales], { N: 4 })).toBe(
      'INVALID_GRAPH: MatMulNBits "it": input 1 of [3,1,8]: 24 and 32 differ',
    );
    expect(refused([x, weights, scales], { K: 17 })).toContain('input 1 of [3,1,8]');
    expect(refused([random(1, [2, 15], 'f32'), weights, scales])).toContain('columns of input 0 and K');
    expect(refused([x, weights, scales], { block_size: 24 })).toContain('expected a power of 2');
    expect(refused([x, weights, scales], { block_size: 0 })).toContain('expected a power of 2');
    expect(refused([x, weights, scales], { bits: 3 })).toContain('UNSUPPORTED_MODEL');
    expect(refused([x, weights, scales], { K: 2 ** 40, N: 2 ** 40 })).toContain('INVALID_GRAPH');
    expect(refused([x, weights, scales], { N: -3 })).toContain('weights of -3 x 16');
  });
});
