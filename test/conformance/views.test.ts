import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Backend, type NamedTensors, referenceBackend } from '../../src/engine/index.ts';
import { type ArrayOf, type DType, denseStrides, newArray, Tensor } from '../../src/tensor/index.ts';
import { findCases, runCase } from './cases.ts';

/** How many elements of something else lie before those of a view, and behind them. */
const MARGIN = 3;

/** The same elements, laid out from the last axis to the first, in the middle of a larger array of other ones. */
function asView(x: Tensor): Tensor {
  const turned = x.transpose().clone();
  const data = newArray(x.dtype, x.size + 2 * MARGIN) as ArrayOf<DType>;
  for (let i = 0; i < data.length; i++) {
    if (x.dtype === 'string') data[i] = 'something else';
    else data[i] = x.dtype === 'i64' || x.dtype === 'u64' ? 1n : 1;
  }
  turned.values().forEach((_, i) => {
    data[i + MARGIN] = turned.data[i]!;
  });
  return new Tensor(x.dtype, turned.shape, data, denseStrides(turned.shape), MARGIN).transpose();
}

/** The reference backend, given views in place of dense tensors. */
const onViews: Backend = {
  ...referenceBackend,
  prepare: (graph, options) => {
    const executable = referenceBackend.prepare(graph, options);
    const viewed = (inputs: NamedTensors): NamedTensors =>
      Object.fromEntries(Object.entries(inputs).map(([name, tensor]) => [name, asView(tensor)]));
    return {
      memory: executable.memory,
      run: (inputs, more) => executable.run(viewed(inputs), more),
      runSync: (inputs, more) => executable.runSync(viewed(inputs), more),
      runInto: (inputs, outputs) => executable.runInto(viewed(inputs), outputs),
      close: () => executable.close(),
    };
  },
};

test('a view has the elements of what it was made of', () => {
  const x = Tensor.of('f32', [
    [1, 2, 3],
    [4, 5, 6],
  ]);
  const view = asView(x);
  expect(view.toArray()).toEqual(x.toArray());
  expect([view.offset, view.isContiguous]).toEqual([MARGIN, false]);
});

const corpus = process.env['CLOISTER_CORPUS'];

describe.skipIf(!corpus)('the ONNX backend tests', () => {
  test('pass on inputs that have strides and an offset', () => {
    const failed = findCases(join(corpus!, 'onnx'))
      .map(({ name, path }) => ({ name, ...runCase(path, onViews) }))
      .filter(({ kind }) => kind === 'failed');
    expect(failed).toEqual([]);
  }, 120_000);
});
