import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PROGRAM_VERSION, planProgram } from '../../src/engine/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { filled, noFile } from '../native/program-seeds.ts';
import { type OneNode, onBoth, onEachRow, oneNode } from './native-rows.ts';

const U = 2 ** -24;

/** How far scores may be off, and how many keys there are: what the bound in native/kernels/attention/table.h needs. */
function boundOf(node: OneNode, size: number, keys: number, scale: number, extra = 0): number {
  const largest = (tensor: Tensor | undefined): number => {
    let most = 0;
    for (const value of tensor?.values() ?? [])
      if (Number.isFinite(value)) most = Math.max(most, Math.abs(Number(value)));
    return most;
  };
  const [q, k, v, mask] = [0, 1, 2, 3].map(i => largest(node.inputs[i])) as [number, number, number, number];
  const score = (size + 4 + extra) * U * scale * size * q * k + 2 * U * mask;
  return (2 * score + (keys + 8) * U) * v + 2 ** -149;
}

function expectNear(came: Tensor, wanted: Tensor, bound: number): void {
  expect(came.shape).toEqual(wanted.shape);
  const [have, want] = [came.values() as number[], wanted.values() as number[]];
  want.forEach((value, i) => {
    if (Object.is(have[i], value)) return;
    expect(Math.abs(have[i]! - value), `element ${i}: ${have[i]} instead of ${value}`).toBeLessThanOrEqual(bound);
  });
}

/** A mask of small numbers, a third of them -Infinity. */
function maskOf(shape: readonly number[], seed: number): Tensor {
  const mask = filled(shape, seed);
  for (let i = 0; i < mask.size; i++) if (mask.data[i]! > 0.33) mask.data[i] = Number.NEGATIVE_INFINITY;
  return mask;
}

const size = (most: number): fc.Arbitrary<number> => fc.integer({ min: 1, max: most });
const seed = fc.nat(1e6);

onEachRow('native attention', () => {
  test('is within the bound of the reference for any sizes, layout, mask, softcap and causality', () => {
    const shape = fc.record({
      batch: size(2),
      kvHeads: size(2),
      group: size(2),
      queries: size(40),
      keys: fc.oneof(size(20), fc.integer({ min: 120, max: 300 })),
      size: size(20),
      valueSize: size(20),
      flat: fc.boolean(),
      causal: fc.boolean(),
      softcap: fc.constantFrom(0, 0.5),
      mask: fc.constantFrom(undefined, 'keys', 'rows', 'heads', 'all', 'queries', 'flags'),
    });
    fc.assert(
      fc.property(shape, seed, (s, hash) => {
        const heads = s.kvHeads * s.group;
        const operand = (count: number, rows: number, width: number, salt: number): Tensor =>
          filled(s.flat ? [s.batch, rows, count * width] : [s.batch, count, rows, width], hash + salt);
        const masks = {
          keys: [s.batch, 1, 1, s.keys],
          rows: [s.queries, s.keys],
          heads: [heads, 1, s.keys],
          all: [s.batch, heads, s.queries, s.keys],
          queries: [1, 1, s.queries, 1],
          flags: [s.queries, s.keys],
        };
        const mask = s.mask && maskOf(masks[s.mask], hash + 4);
        const flags =
          mask &&
          Tensor.from(
            'bool',
            mask.shape,
            Uint8Array.from(mask.values() as number[], v => +(v > -1)),
          );
        const node: OneNode = {
          op: 'Attention',
          opset: 23,
          inputs: [
            operand(heads, s.queries, s.size, 1),
            operand(s.kvHeads, s.keys, s.size, 2),
            operand(s.kvHeads, s.keys, s.valueSize, 3),
            ...(mask ? [s.mask === 'flags' ? flags : mask] : []),
          ],
          outputs: ['y'],
          attributes: {
            is_causal: Number(s.causal),
            softcap: s.softcap,
            scale: 0.7,
            ...(s.flat && { q_num_heads: heads, kv_num_heads: s.kvHeads }),
          },
        };
        const { came, wanted } = onBoth(node);
        expectNear(came['y']!, wanted['y']!, boundOf(node, s.size, s.keys, 0.7, s.softcap > 0 ? 8 : 0));
      }),
      { numRuns: 60 },
    );
  }, 60_000);

  test('joins keys and values to those of the past, and gives both away', () => {
    const shape = fc.record({
      batch: size(2),
      heads: size(3),
      queries: size(4),
      past: fc.integer({ min: 0, max: 4 }),
      size: size(5),
      valueSize: size(5),
      flat: fc.boolean(),
      causal: fc.boolean(),
      microsoft: fc.boolean(),
      given: fc.boolean(),
      asked: fc.boolean(),
    });
    fc.assert(
      fc.property(shape, seed, (s, hash) => {
        const { batch, heads, queries, microsoft } = s;
        const flat = s.flat || microsoft;
        const operand = (width: number, salt: number): Tensor =>
          filled(flat ? [batch, queries, heads * width] : [batch, heads, queries, width], hash + salt);
        const operands = [operand(s.size, 1), operand(s.size, 2), operand(s.valueSize, 3)];
        const past = s.given
          ? [filled([batch, heads, s.past, s.size], hash + 4), filled([batch, heads, s.past, s.valueSize], hash + 5)]
          : [];
        const outputs = s.asked ? ['y', 'k', 'v'] : ['y'];
        const node: OneNode = microsoft
          ? {
              op: 'MultiHeadAttention',
              domain: 'com.microsoft',
              opset: 1,
              inputs: [...operands, undefined, undefined, undefined, ...past],
              outputs,
              attributes: { num_heads: heads, unidirectional: Number(s.causal), scale: 0.7 },
            }
          : {
              op: 'Attention',
              opset: 23,
              inputs: [...operands, undefined, ...past],
              outputs,
              attributes: {
                is_causal: Number(s.causal),
                scale: 0.7,
                ...(flat && { q_num_heads: heads, kv_num_heads: heads }),
              },
            };
        const { came, wanted } = onBoth(node);
        // No element is over 1, of the past or not.
        const one = Tensor.of('f32', [1]);
        const bound = boundOf({ ...node, inputs: [one, one, one] }, s.size, queries + s.past, 0.7);
        expectNear(came['y']!, wanted['y']!, bound);
        for (const name of outputs.slice(1)) expect(came[name]!.values()).toEqual(wanted[name]!.values());
      }),
      { numRuns: 60 },
    );
  }, 60_000);

  test('keeps apart what is NaN, what is hidden and what is neither', () => {
    const q = filled([1, 1, 35, 3], 1);
    q.data[0] = Number.NaN;
    const mask = filled([35, 200], 2);
    // Query 1 sees nothing, query 2 the last key alone, from behind the first block of keys.
    mask.data.fill(Number.NEGATIVE_INFINITY, 200, 600 - 1);
    const v = filled([1, 1, 200, 2], 3);
    const node: OneNode = {
      op: 'Attention',
      opset: 23,
      inputs: [q, filled([1, 1, 200, 3], 4), v, mask],
      outputs: ['y'],
    };
    const y = onBoth(node).came['y']!.values() as number[];
    expect(y.slice(0, 4)).toEqual([Number.NaN, Number.NaN, 0, 0]);
    expect(y.slice(4, 6)).toEqual([v.data[398], v.data[399]]);
    expect(y.slice(6).every(Number.isFinite)).toBe(true);
  });

  test('takes the operators of onnxruntime: projections, biases, padding in each form, added scores', () => {
    const property = fc.record({
      batch: size(3),
      heads: size(3),
      queries: size(9),
      keys: size(9),
      size: size(6),
      valueSize: size(6),
      bias: fc.boolean(),
      added: fc.constantFrom(undefined, 'all', 'heads'),
      padding: fc.constantFrom(undefined, 'ends', 'keys', 'pairs', 'ranges'),
      causal: fc.boolean(),
      projected: fc.boolean(),
      weights: fc.boolean(),
    });
    fc.assert(
      fc.property(property, seed, (s, hash) => {
        const { batch, heads, queries, projected } = s;
        const keys = projected || s.causal ? queries : s.keys;
        const [hidden, width] = [heads * s.size, heads * s.valueSize];
        const integers = (shape: readonly number[], most: number): Tensor => {
          const of = filled(shape, hash + 9);
          return Tensor.from(
            'i32',
            shape,
            Int32Array.from(of.data, v => Math.round(Math.abs(v) * most)),
          );
        };
        const paddings = {
          ends: () => integers([batch], keys),
          keys: () => integers([batch, keys], 1),
          pairs: () => integers([batch, queries, keys], 1),
          ranges: () => integers([2 * batch], keys),
        };
        const form = s.padding === 'ranges' && !projected ? undefined : s.padding;
        const padding = form && paddings[form]();
        const addedShape = s.added === 'all' ? [batch, heads, queries, keys] : [1, heads, queries, keys];
        const added = s.added && filled(addedShape, hash + 8);
        const sum = 2 * hidden + width;
        const common = { opset: 1, domain: 'com.microsoft', outputs: ['y'] };
        const attributes = { num_heads: heads, unidirectional: Number(s.causal) };
        const node: OneNode = projected
          ? {
              ...common,
              op: 'Attention',
              inputs: [
                filled([batch, queries, 5], hash),
                filled([5, sum], hash + 1),
                s.bias ? filled([sum], hash + 2) : undefined,
                padding,
                undefined,
                added,
              ],
              weights: s.weights ? [1, 2] : [],
              attributes: { ...attributes, qkv_hidden_sizes: [hidden, hidden, width] },
            }
          : {
              ...common,
              op: 'MultiHeadAttention',
              inputs: [
                filled([batch, queries, hidden], hash),
                filled([batch, keys, hidden], hash + 1),
                filled([batch, keys, width], hash + 2),
                s.bias ? filled([sum], hash + 3) : undefined,
                padding,
                added,
              ],
              attributes,
            };
        const { came, wanted } = onBoth(node);
        // Operands are at most 6 (five products and a bias), scores six of their squares; -10000 costs 2^-10 of a score.
        expectNear(came['y']!, wanted['y']!, form ? 5e-3 : 2e-4);
      }),
      { numRuns: 60 },
    );
  }, 60_000);
});

describe('a lowering of attention', () => {
  const kernel = { isa: 'scalar', programVersion: PROGRAM_VERSION, gemmPanel: 16 };
  const plan = (node: OneNode) => planProgram(oneNode(node).graph, { kernel, constants: noFile, modelBytes: 0 });
  const operand = filled([1, 2, 4, 3], 1);

  test('refuses a cache with an end of its own, and who asks for scores', () => {
    const node: OneNode = { op: 'Attention', opset: 23, inputs: [operand, operand, operand], outputs: ['y'] };
    expect(plan(node).steps.map(({ kind }) => kind)).toEqual(['attention']);
    expect(() => plan({ ...node, outputs: ['y', undefined, undefined, 's'] })).toThrow('it asks for its scores');
    const ends = Tensor.from('i64', [1], BigInt64Array.of(2n));
    const cached: OneNode = {
      ...node,
      opset: 24,
      inputs: [operand, operand, operand, undefined, undefined, undefined, ends],
    };
    expect(() => plan(cached)).toThrow('its cache is not filled to the end');
  });
});
