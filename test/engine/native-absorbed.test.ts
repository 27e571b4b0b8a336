import { describe, expect, test } from 'vitest';
import { loadBinding, nativeStatus, openProgramHost } from '../../native/index.ts';
import { nativeBackend, referenceBackend } from '../../src/engine/index.ts';
import type { Graph, ValueId } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { filled, noFile, Sketch } from '../native/program-seeds.ts';

/** Pairs of nodes of which the second could be taken into the first, were it not for one thing. */
const NEARLY: Readonly<Record<string, (g: Sketch) => Graph>> = {
  'a padding with ones before a convolution': g =>
    g.build(g.op('Conv', [padded(g, [0, 0, 1, 1, 0, 0, 1, 1], 1), g.weight(3, 2, 3, 3)])),
  'a padding of channels before a convolution': g =>
    g.build(g.op('Conv', [padded(g, [0, 1, 1, 1, 0, 0, 1, 1], 0), g.weight(3, 3, 3, 3)])),
  'a padding of the batch before a convolution': g =>
    g.build(g.op('Conv', [padded(g, [1, 0, 1, 1, 0, 0, 1, 1], 0), g.weight(3, 2, 3, 3)])),
  'a padding with zeros before a largest of negative numbers': g =>
    g.build(
      g.op('MaxPool', [padded(g, [0, 0, 1, 1, 0, 0, 1, 1], 0, g.op('Neg', [g.op('Abs', [g.input('x', SHAPE)])]))], {
        kernel_shape: [2, 2],
      }),
    ),
  'a product and a sum that grows both': g =>
    g.build(g.op('Add', [g.op('MatMul', [g.input('x', [3, 4]), g.weight(4, 1)]), g.input('y', [1, 3])])),
  'a product and a row that every run brings': g =>
    g.build(g.op('Add', [g.op('MatMul', [g.input('x', [2, 4]), g.weight(4, 3)]), g.input('y', [1, 3])])),
  'the mean of two': g => g.build(g.op('Mean', [g.input('x', [2, 3]), g.input('y', [2, 3])])),
};

const SHAPE = [1, 2, 5, 5];

function padded(g: Sketch, pads: readonly number[], value: number, x: ValueId = g.input('x', SHAPE)): ValueId {
  return g.op('Pad', [x, g.ints(...pads), g.builder.constant('value', Tensor.from('f32', [], Float32Array.of(value)))]);
}

describe.skipIf(nativeStatus().kind !== 'loaded')('what is not taken into one step', () => {
  test.each(Object.entries(NEARLY))('%s: agrees with the reference', (name, make) => {
    const graph = make(new Sketch(name));
    const inputs = Object.fromEntries(
      graph.inputs.map(id => {
        const { name, facts } = graph.values[id]!;
        return [name, filled(facts.shape as readonly number[], id + 1)];
      }),
    );
    const [wanted] = Object.values(referenceBackend.prepare(graph, { constants: noFile }).runSync(inputs));
    const native = nativeBackend(openProgramHost(loadBinding()!)).prepare(graph, { constants: noFile });
    const [came] = Object.values(native.runSync(inputs));
    expect(came!.shape).toEqual(wanted!.shape);
    wanted!.values().forEach((value, i) => {
      expect(Number(came!.values()[i])).toBeCloseTo(Number(value), 5);
    });
    native.close();
  });
});
