import { describe, expect, test } from 'vitest';
import { loadBinding } from '../../native/loader.ts';
import { openProgramHost } from '../../native/program-host.ts';
import { type NamedTensors, nativeBackend, referenceBackend } from '../../src/engine/index.ts';
import type { Attribute, Graph } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { filled, noFile, numbers, Sketch } from '../native/program-seeds.ts';
import { NATIVE_ROWS, onBoth, onEachRow } from './native-rows.ts';

/** What `terms` products of numbers below 1 may be off by: kernels.h has it for the transformed domain, the widest of all ways. */
const bound = (terms: number): number => 12 * 2 ** -24 * (terms + 1);

function expectNear(came: NamedTensors, wanted: NamedTensors, terms: number, label: string): void {
  for (const [name, tensor] of Object.entries(wanted)) {
    expect(came[name]!.shape, label).toEqual(tensor.shape);
    const [got, values] = [came[name]!.values(), tensor.values()];
    values.forEach((value, i) => {
      const off = Math.abs(Number(got[i]) - Number(value));
      if (!(off <= bound(terms))) expect.fail(`${label}: element ${i} is ${got[i]}, not ${value}`);
    });
  }
}

interface Given {
  readonly x: readonly number[];
  readonly w: readonly number[];
  readonly bias?: boolean;
  readonly attributes?: Readonly<Record<string, Attribute>>;
  /** Whether weights and bias are known before a run; they are where left out. */
  readonly constant?: boolean;
}

function check({ x, w, bias = false, attributes = {}, constant = true }: Given): void {
  const groups = Number(attributes['group'] ?? 1);
  const inputs = [filled(x, 3), filled(w, 5), bias ? filled([w[1]! * groups], 7) : undefined];
  const node = { op: 'ConvTranspose', opset: 11, inputs, weights: constant ? [1, 2] : [], outputs: ['y'], attributes };
  const { came, wanted } = onBoth(node);
  const taps = w.slice(2).reduce((product, size) => product * size, 1);
  expectNear(came, wanted, (x[1]! / groups) * taps, JSON.stringify({ x, w, bias, attributes, constant }));
}

/** Geometries that a convolution of stride 1 meets in each of its forms. */
const FORMS: readonly (readonly [string, Given])[] = [
  ['doubles, without overlap', { x: [2, 5, 7, 6], w: [5, 3, 2, 2], attributes: { strides: [2, 2] } }],
  ['doubles in blocks', { x: [2, 20, 7, 6], w: [20, 32, 2, 2], bias: true, attributes: { strides: [2, 2] } }],
  [
    'doubles in a transformed domain',
    { x: [1, 16, 9, 8], w: [16, 16, 4, 4], attributes: { strides: [2, 2], pads: [1, 1, 1, 1] } },
  ],
  [
    'ends one place late',
    { x: [1, 3, 5, 6], w: [3, 4, 3, 3], attributes: { strides: [2, 2], pads: [1, 1, 1, 1], output_padding: [1, 1] } },
  ],
  ['ends within a stride, in blocks', { x: [1, 16, 5, 6], w: [16, 16, 3, 3], attributes: { strides: [2, 3] } }],
  ['has a stride of 1', { x: [2, 6, 7, 9], w: [6, 5, 3, 2], bias: true, attributes: { pads: [1, 0, 0, 1] } }],
  ['has a stride of 1, in blocks', { x: [1, 18, 7, 9], w: [18, 20, 3, 3], attributes: { pads: [1, 1, 1, 1] } }],
  ['leaves gaps', { x: [1, 2, 4, 5], w: [2, 3, 2, 1], bias: true, attributes: { strides: [3, 4] } }],
  ['is dilated', { x: [1, 4, 6, 7], w: [4, 3, 3, 2], attributes: { dilations: [2, 3] } }],
  ['is dilated in strides', { x: [1, 4, 6, 7], w: [4, 3, 3, 2], attributes: { dilations: [2, 3], strides: [2, 2] } }],
  ['cuts more than the kernel', { x: [1, 3, 9, 9], w: [3, 2, 2, 2], attributes: { pads: [3, 2, 1, 4] } }],
  [
    'adds more than the kernel',
    { x: [1, 3, 4, 4], w: [3, 2, 1, 2], attributes: { strides: [3, 1], dilations: [1, 3], output_padding: [2, 2] } },
  ],
  ['has groups', { x: [2, 6, 5, 4], w: [6, 4, 3, 3], bias: true, attributes: { group: 3, strides: [2, 2] } }],
  ['has groups of whole blocks', { x: [1, 32, 5, 4], w: [32, 16, 2, 2], attributes: { group: 2, strides: [2, 2] } }],
  [
    'is depthwise',
    { x: [1, 18, 6, 5], w: [18, 1, 4, 4], bias: true, attributes: { group: 18, strides: [2, 2], pads: [1, 1, 1, 1] } },
  ],
  ['asks for its output', { x: [1, 3, 5, 5], w: [3, 2, 3, 3], attributes: { strides: [3, 2], output_shape: [15, 9] } }],
  ['is the same above', { x: [1, 3, 5, 6], w: [3, 2, 4, 3], attributes: { strides: [2, 3], auto_pad: 'SAME_UPPER' } }],
  ['is the same below', { x: [1, 3, 5, 6], w: [3, 2, 4, 3], attributes: { strides: [3, 2], auto_pad: 'SAME_LOWER' } }],
  ['is valid', { x: [1, 3, 5, 6], w: [3, 2, 4, 3], attributes: { strides: [2, 3], auto_pad: 'VALID' } }],
  ['is a wave', { x: [2, 3, 11], w: [3, 4, 5], bias: true, attributes: { strides: [2], pads: [2, 1] } }],
  ['is a wave in blocks', { x: [1, 32, 21], w: [32, 16, 8], bias: true, attributes: { strides: [4], pads: [2, 2] } }],
  [
    'reads a picture into blocks',
    { x: [1, 3, 9, 8], w: [3, 16, 4, 4], attributes: { strides: [2, 2], pads: [1, 1, 1, 1] } },
  ],
  [
    'makes few channels from blocks',
    { x: [1, 32, 9, 8], w: [32, 3, 4, 4], bias: true, attributes: { strides: [2, 2], pads: [1, 1, 1, 1] } },
  ],
];

onEachRow('ConvTranspose agrees with the reference where it', () => {
  test.each(FORMS)('%s', (_, given) => {
    check(given);
    check({ ...given, constant: false });
  });

  test('has any sizes', () => {
    const next = numbers(17);
    const whole = (least: number, most: number): number => least + Math.floor(((next() + 1) / 2) * (most - least + 1));
    for (let round = 0; round < 60; round++) {
      const axes = whole(1, 2);
      const each = (least: number, most: number): number[] => Array.from({ length: axes }, () => whole(least, most));
      const group = whole(1, 4) === 1 ? whole(2, 3) : 1;
      const channels = group * whole(1, 20);
      const kernel = each(1, 5);
      const [strides, dilations] = [each(1, 4), each(1, 2)];
      // What is cut off leaves something.
      const pads = [...kernel, ...kernel].map((size, i) =>
        whole(0, Math.floor(((size - 1) * dilations[i % axes]!) / 2)),
      );
      const output_padding = strides.map((stride, i) => whole(0, Math.max(stride, dilations[i]!) - 1));
      check({
        x: [whole(1, 2), channels, ...each(1, 9)],
        w: [channels, whole(1, 3) === 1 ? 16 : whole(1, 9), ...kernel],
        bias: whole(0, 1) === 1,
        attributes: { group, strides, dilations, pads, output_padding },
        constant: whole(0, 3) > 0,
      });
    }
  });

  /** A region of blocks: up, normalised, rectified, beside what was there, and up again to a picture. */
  const decoder = (): Graph => {
    const g = new Sketch('decoder', 13);
    const x = g.input('x', [2, 16, 6, 5]);
    const positive = g.builder.constant(
      'variance',
      Tensor.from(
        'f32',
        [16],
        filled([16], 9).data.map(v => v + 1.5),
      ),
    );
    const start = g.op('Conv', [x, g.weight(16, 16, 3, 3)], { pads: [1, 1, 1, 1] });
    const up = g.op('ConvTranspose', [start, g.weight(16, 16, 4, 4), g.weight(16)], {
      strides: [2, 2],
      pads: [1, 1, 1, 1],
    });
    const normal = g.op('BatchNormalization', [up, g.weight(16), g.weight(16), g.weight(16), positive]);
    const mild = g.op('Mul', [g.op('LeakyRelu', [normal]), g.builder.constant('mild', Tensor.of('f32', 0.01))]);
    const again = g.op('ConvTranspose', [mild, g.weight(16, 3, 2, 2)], { strides: [2, 2] });
    const shifted = g.op('Add', [again, g.weight(1, 3, 1, 1)]);
    return g.build(
      g.op('Tanh', [shifted]),
      g.op('Relu', [g.op('ConvTranspose', [x, g.weight(16, 2, 3, 3), g.weight(2)])]),
    );
  };

  test('stands between convolutions, with what follows it folded in', () => {
    const inputs = { x: filled([2, 16, 6, 5], 4) };
    const run = (backend: { prepare: typeof referenceBackend.prepare }): NamedTensors => {
      const executable = backend.prepare(decoder(), { constants: noFile });
      const result = executable.runSync(inputs);
      executable.close();
      return result;
    };
    expectNear(run(nativeBackend(openProgramHost(loadBinding()!))), run(referenceBackend), 16 * 25 * 16, 'decoder');
  });
});

describe.skipIf(NATIVE_ROWS.length === 0)('ConvTranspose is refused', () => {
  test('over three spatial axes, which the message says', () => {
    const node = { op: 'ConvTranspose', opset: 11, weights: [1], outputs: ['y'] };
    expect(() => onBoth({ ...node, inputs: [filled([1, 1, 2, 2, 2], 1), filled([1, 1, 1, 1, 1], 2)] })).toThrow(
      'not 3-D',
    );
  });
});
