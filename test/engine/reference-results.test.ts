import { expect, test } from 'vitest';
import { referenceBackendOf } from '../../src/engine/index.ts';
import { GraphBuilder, OPERATORS, type Operator, tableOf } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { noFile } from '../native/program-seeds.ts';

/** An operator that says its result is like its input, and gives `result`. */
const liar = (result: Tensor): Operator => ({
  domain: 'com.example',
  name: 'Liar',
  kind: 'compute',
  versions: [
    { since: 1, inputs: [1, 1], outputs: [1, 1], attributes: {}, infer: c => [c.input(0)], run: () => [result] },
  ],
});

test.each([
  ['another shape', Tensor.of('f32', [1, 2, 3]), /"it": output 0 is f32\[3\], the graph says f32\[2\]/],
  ['another rank', Tensor.of('f32', [[1, 2]]), /"it": output 0 is f32\[1,2\], the graph says f32\[2\]/],
  ['another dtype', Tensor.of('f64', [1, 2]), /"it": output 0 is f64\[2\], the graph says f32\[2\]/],
])('a kernel whose result has %s than the graph says is not followed', (_, result, message) => {
  const operators = tableOf([...OPERATORS.values(), liar(result)]);
  const b = new GraphBuilder('g', { operators });
  const x = b.input('x', { dtype: 'f32', shape: [2] });
  const made = b.node({ op: 'Liar', domain: 'com.example', opset: 1, name: 'it', inputs: [x] })[0]!;
  b.output(b.node({ op: 'Neg', inputs: [made] })[0]!);
  const executable = referenceBackendOf(operators).prepare(b.build(), { constants: noFile });
  expect(() => executable.runSync({ x: Tensor.of('f32', [1, 2]) })).toThrow(message);
});
