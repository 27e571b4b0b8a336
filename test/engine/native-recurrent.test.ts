import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PROGRAM_VERSION, planProgram } from '../../src/engine/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { filled, noFile } from '../native/program-seeds.ts';
import { type OneNode, onBoth, onEachRow, oneNode } from './native-rows.ts';

const GATES = { RNN: 1, GRU: 3, LSTM: 4 } as const;
const FUNCTIONS = { RNN: 1, GRU: 2, LSTM: 3 } as const;
const NAMES = ['Sigmoid', 'tanh', 'Relu', 'Affine', 'LeakyRelu', 'ScaledTanh', 'HardSigmoid', 'Softsign'];

const size = (most: number): fc.Arbitrary<number> => fc.integer({ min: 1, max: most });

const shapes = fc.record({
  op: fc.constantFrom('RNN', 'GRU', 'LSTM'),
  sequence: size(5),
  batch: size(8),
  input: size(9),
  hidden: fc.oneof(size(9), fc.constantFrom(15, 16, 17, 33)),
  direction: fc.constantFrom('forward', 'reverse', 'bidirectional'),
  layout: fc.constantFrom(0, 1),
  bias: fc.boolean(),
  lengths: fc.boolean(),
  initial: fc.boolean(),
  peepholes: fc.boolean(),
  clip: fc.boolean(),
  flag: fc.boolean(),
  named: fc.boolean(),
  all: fc.boolean(),
  last: fc.boolean(),
  seed: fc.nat(1e6),
});
type Shape = typeof shapes extends fc.Arbitrary<infer T> ? T : never;

function nodeOf(s: Shape): OneNode {
  const op = s.op as keyof typeof GATES;
  const directions = s.direction === 'bidirectional' ? 2 : 1;
  const rows = GATES[op] * s.hidden;
  let salt = s.seed;
  const some = (...shape: readonly number[]): Tensor => filled(shape, salt++);
  const state = (): Tensor => (s.layout ? some(s.batch, directions, s.hidden) : some(directions, s.batch, s.hidden));
  const lengths = Tensor.from(
    'i32',
    [s.batch],
    Int32Array.from({ length: s.batch }, (_, i) => (i * 7) % (s.sequence + 1)),
  );
  const names = Array.from({ length: directions * FUNCTIONS[op] }, (_, i) => NAMES[(s.seed + 3 * i) % NAMES.length]!);
  return {
    op,
    opset: 14,
    inputs: [
      s.layout ? some(s.batch, s.sequence, s.input) : some(s.sequence, s.batch, s.input),
      some(directions, rows, s.input),
      some(directions, rows, s.hidden),
      s.bias ? some(directions, 2 * rows) : undefined,
      s.lengths ? lengths : undefined,
      s.initial ? state() : undefined,
      ...(op === 'LSTM'
        ? [s.initial ? state() : undefined, s.peepholes ? some(directions, 3 * s.hidden) : undefined]
        : []),
    ],
    weights: [1, 2, 3],
    outputs: [s.all ? 'y' : undefined, s.last || !s.all ? 'h' : undefined, ...(op === 'LSTM' && s.last ? ['c'] : [])],
    attributes: {
      hidden_size: s.hidden,
      direction: s.direction,
      layout: s.layout,
      // Unbounded functions are held in, or a few steps would leave no digit to compare.
      ...(s.clip || s.named ? { clip: 1.5 } : {}),
      ...(op === 'LSTM' && { input_forget: Number(s.flag) }),
      ...(op === 'GRU' && { linear_before_reset: Number(s.flag) }),
      ...(s.named && { activations: names, activation_alpha: [0.3, 0.6], activation_beta: [0.2] }),
    },
  };
}

onEachRow('native recurrent cells', () => {
  test('agree with the reference for any sizes, directions, layouts, states, lengths, clips and functions', () => {
    fc.assert(
      fc.property(shapes, s => {
        const { came, wanted } = onBoth(nodeOf(s));
        expect(Object.keys(came)).toEqual(Object.keys(wanted));
        // A gate's argument is a sum of input + hidden + 2 terms, all at most 1 but for states of unbounded functions, at
        // most 1 + sequence; its error passes through at most `sequence` steps, each of which multiplies it by the weights.
        const terms = s.input + s.hidden + 8;
        const bound = 2 ** -24 * terms * terms * s.sequence * (1 + s.sequence);
        for (const [name, tensor] of Object.entries(wanted)) {
          expect(came[name]!.shape).toEqual(tensor.shape);
          const have = came[name]!.values() as number[];
          (tensor.values() as number[]).forEach((value, i) => {
            expect(Math.abs(have[i]! - value), `${name} ${i}: ${have[i]} instead of ${value}`).toBeLessThanOrEqual(
              bound,
            );
          });
        }
      }),
      { numRuns: 120 },
    );
  }, 60_000);

  test('fail on a sequence of a length that there is not, and not before', () => {
    const lengths = (length: number): OneNode => ({
      op: 'RNN',
      opset: 14,
      inputs: [
        filled([3, 1, 2], 1),
        filled([1, 4, 2], 2),
        filled([1, 4, 4], 3),
        undefined,
        Tensor.from('i32', [1], Int32Array.of(length)),
      ],
      weights: [1, 2],
      outputs: ['y'],
    });
    expect(onBoth(lengths(3)).came['y']!.size).toBe(12);
    expect(() => onBoth(lengths(4))).toThrow();
    expect(() => onBoth(lengths(-1))).toThrow();
  });
});

describe('a lowering of recurrent cells', () => {
  const kernel = { isa: 'scalar', programVersion: PROGRAM_VERSION, gemmPanel: 16 };
  test('refuses functions that have no kernel, and weights that are computed', () => {
    const inputs = [filled([3, 1, 2], 1), filled([1, 4, 2], 2), filled([1, 4, 4], 3)];
    const node: OneNode = { op: 'RNN', opset: 14, inputs, weights: [1, 2], outputs: ['y'] };
    const plan = (of: OneNode) => planProgram(oneNode(of).graph, { kernel, constants: noFile, modelBytes: 0 });
    expect(plan(node).steps.map(({ kind }) => kind)).toEqual(['gemm', 'recurrent']);
    expect(() => plan({ ...node, attributes: { activations: ['Elu'] } })).toThrow('no native kernel');
    expect(() => plan({ ...node, weights: [1] })).toThrow('the weights of its state are computed');
  });
});
