import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { planInference, predictedMs } from '../../privacy/he/plan/index.ts';
import { MODULUS_BITS } from '../../privacy/he/security.ts';
import { simulate } from '../../privacy/he/simulate.ts';
import { type Graph, runGraph, type ValueId } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { NO_FILE, numbers, Pieces } from './models.ts';

function sampleOf(size: number, seed: number): Float64Array {
  const next = numbers(seed);
  return Float64Array.from({ length: size }, () => 2 * next());
}

/** The largest difference between what a plan answers on plain slots and what the reference kernels answer. */
function differenceOf(graph: Graph, shape: readonly number[], seed: number, degree?: number): number {
  const size = shape.reduce((all, extent) => all * extent, 1);
  const samples = [0, 1, 2].map(i => ({ x: sampleOf(size, seed + i) }));
  const planned = planInference(graph, { constants: NO_FILE, samples, ...(degree !== undefined && { degree }) });
  const { outputs } = simulate(planned.plan, samples[0]!);
  const [got] = Object.values(outputs);
  const [want] = runGraph(graph, [Tensor.from('f32', shape, Float32Array.from(samples[0]!.x))]);
  const values = want!.values().map(Number);
  expect(got).toHaveLength(values.length);
  return values.reduce((most, value, i) => Math.max(most, Math.abs(value - got![i]!)), 0);
}

describe('a plan', () => {
  test('answers what the model answers, for random chains of linear and square layers', () => {
    const layer = fc.constantFrom('dense', 'conv', 'stride', 'pad', 'pool', 'norm', 'square', 'residual', 'group');
    fc.assert(
      fc.property(fc.array(layer, { minLength: 1, maxLength: 5 }), fc.integer({ min: 1, max: 1e6 }), (layers, seed) => {
        const p = new Pieces('chain', seed);
        let x: ValueId = p.input(1, 2, 8, 8);
        let [channels, side] = [2, 8];
        let squares = 0;
        for (const kind of layers) {
          if (side === 0) {
            if (kind === 'dense') x = p.dense(x, channels, 12);
            if (kind === 'dense') channels = 12;
            if (kind === 'square' && squares++ < 3) x = p.square(x);
            continue;
          }
          if (kind === 'square' && squares++ < 3) x = p.square(x);
          if (kind === 'conv' && side >= 3) [x, channels, side] = [p.conv(x, channels, 3, 3), 3, side - 2];
          if (kind === 'stride' && side >= 3)
            [x, channels, side] = [p.conv(x, channels, 4, 3, { strides: [2, 2] }), 4, Math.floor((side - 3) / 2) + 1];
          if (kind === 'pad') x = p.conv(x, channels, channels, 3, { pads: [1, 1, 1, 1] });
          if (kind === 'group') x = p.conv(x, 1, channels, 3, { pads: [1, 1, 1, 1], group: channels });
          if (kind === 'pool' && side >= 2)
            [x, side] = [p.node('AveragePool', [x], { kernel_shape: [2, 2], strides: [2, 2] }), Math.floor(side / 2)];
          if (kind === 'norm') {
            const [scale, shift, mean] = [0, 1, 2].map(() => p.weights([channels], 1)) as [ValueId, ValueId, ValueId];
            x = p.node('BatchNormalization', [x, scale, shift, mean, p.positive(channels)]);
          }
          if (kind === 'residual') x = p.node('Add', [p.conv(x, channels, channels, 3, { pads: [1, 1, 1, 1] }), x]);
          if (kind === 'dense') {
            const size = channels * side * side;
            [x, channels, side] = [p.dense(p.node('Flatten', [x]), size, 16), 16, 0];
          }
        }
        const last = p.node('Neg', [x]);
        expect(differenceOf(p.build(last), [1, 2, 8, 8], seed)).toBeLessThan(1e-4);
      }),
      { numRuns: Number(process.env['CLOISTER_FUZZ_RUNS'] ?? 60) },
    );
  });

  test('stays within the modulus that 128 bits of security allow, with exactly the rotations that it uses', () => {
    const p = new Pieces('net', 1);
    const x = p.square(p.conv(p.input(1, 1, 28, 28), 1, 4, 7, { strides: [3, 3] }));
    const graph = p.build(p.dense(p.square(p.dense(p.node('Flatten', [x]), 256, 64)), 64, 10));
    const { plan } = planInference(graph, { constants: NO_FILE });
    const { degree, bits, primes } = plan.parameters;
    expect(bits.reduce((sum, size) => sum + size, 0)).toBeLessThanOrEqual(MODULUS_BITS.get(degree)!);
    expect(primes.map(prime => prime.toString(2).length)).toEqual(bits);
    const used = new Set(plan.steps.flatMap(step => (step.op === 'rotate' ? [step.steps] : [])));
    expect([...used].sort((a, b) => a - b)).toEqual(plan.rotations);
    // One rotation for each row, as a peer does it, would be 330 of them.
    expect(plan.steps.filter(({ op }) => op === 'rotate').length).toBeLessThanOrEqual(24);
    expect(predictedMs(plan)).toBeLessThan(700);
  });

  test('keeps every level and scale: sums are of equal ones, and each step is at the level of its inputs', () => {
    const p = new Pieces('residual', 2);
    const x = p.input(1, 2, 8, 8);
    const wide = { pads: [1, 1, 1, 1] };
    const product = p.node('Mul', [p.conv(x, 2, 2, 3, wide), p.conv(x, 2, 2, 3, wide)]);
    const y = p.node('Tanh', [p.node('Add', [p.conv(product, 2, 2, 3, wide), x])]);
    const { plan } = planInference(p.build(p.node('GlobalAveragePool', [y])), { constants: NO_FILE, degree: 5 });
    for (const step of plan.steps) {
      if (step.op === 'input') continue;
      const of = plan.steps[step.of]!;
      expect(step.level).toBe(step.op === 'rescale' || step.op === 'modSwitch' ? of.level - 1 : of.level);
      if (step.op === 'add') {
        const by = plan.steps[step.by]!;
        expect([by.level, of.level]).toEqual([step.level, step.level]);
        expect(Math.abs(by.scale / of.scale - 1)).toBeLessThan(1e-12);
      }
      if (step.op === 'multiply') expect(plan.steps[step.by]!.level).toBe(step.level);
      if (step.op === 'addPlain')
        expect(plan.plains[step.plain]).toMatchObject({ level: step.level, scale: step.scale });
      if (step.op === 'multiplyPlain') expect(plan.plains[step.plain]!.level).toBe(step.level);
    }
    for (const { cipher } of plan.outputs) expect(plan.steps[cipher]!.level).toBe(0);
  });

  test.each(['Relu', 'Gelu', 'Sigmoid', 'Tanh', 'Softplus'])('puts a polynomial of any degree in place of %s', op => {
    let before = Number.POSITIVE_INFINITY;
    for (const degree of [2, 3, 7, 15, 31]) {
      const p = new Pieces(op, 3);
      const hidden = p.node(op, [p.dense(p.input(1, 8), 8, 8)]);
      const error = differenceOf(p.build(p.dense(hidden, 8, 3)), [1, 8], 5, degree);
      expect(error).toBeLessThan(Math.max(1e-5, before * 1.5));
      before = error;
    }
    expect(before).toBeLessThan(op === 'Relu' ? 0.03 : 1e-5);
  });

  test('leaves Softmax and ArgMax at the end to the client', () => {
    const p = new Pieces('head', 4);
    const soft = p.node('Softmax', [p.dense(p.input('N', 6), 6, 3)]);
    const planned = planInference(p.build(p.node('ArgMax', [soft], { axis: 1 })), { constants: NO_FILE });
    expect(planned.head).toEqual([{ op: 'Softmax' }, { op: 'ArgMax' }]);
  });
});

describe('what has no encrypted form is refused with advice', () => {
  test.each([
    ['MaxPool', { kernel_shape: [2, 2] }, 'AveragePool'],
    ['LRN', { size: 3 }, 'no encrypted form'],
  ])('%s', (op, attributes, advice) => {
    const p = new Pieces('odd', 1);
    const x = p.conv(p.node(op, [p.input(1, 1, 8, 8)], attributes as Record<string, number>), 1, 1, 3);
    expect(() => planInference(p.build(x), { constants: NO_FILE })).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED_MODEL', message: expect.stringContaining(advice) }),
    );
  });

  test('a model that is too deep, with how many levels too many', () => {
    const p = new Pieces('deep', 1);
    let x = p.input(1, 4);
    for (let i = 0; i < 20; i++) x = p.square(p.dense(x, 4, 4));
    expect(() => planInference(p.build(x), { constants: NO_FILE })).toThrow(
      /40 products deep, and \d\d fit .* refresh/s,
    );
  });
});
