import { describe, expect, test } from 'vitest';
import { CloisterError } from '../../src/base/index.ts';
import { referenceBackendOf } from '../../src/engine/index.ts';
import { bytesSource } from '../../src/formats/index.ts';
import {
  defineOp,
  GRADIENTS,
  gradient,
  gradientsWith,
  graphOf,
  inferFacts,
  OPERATORS,
  type OpDefinition,
  runGraph,
  tableOf,
} from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';

/** The error that `make` throws. */
async function refusal(make: () => unknown): Promise<CloisterError> {
  try {
    await make();
  } catch (error) {
    if (error instanceof CloisterError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

const halve: OpDefinition = {
  domain: 'com.example',
  name: 'Halve',
  inputs: ['x', 'rest?'],
  outputs: ['low', 'high'],
  attributes: { by: { type: 'float', default: 2 } },
  infer: c => [c.input(0), c.input(0)],
  run: c => {
    const half = c
      .operand(0)
      .values()
      .map(x => Number(x) / c.number('by'));
    const low = Tensor.of(c.outputs[0]!.dtype, half).reshape(c.shape());
    return [low, low.clone()];
  },
};

/** Builds and runs a graph of one node. */
async function run(definition: OpDefinition, dtype: 'f32' | 'f16' = 'f32'): Promise<unknown> {
  const operators = tableOf([...OPERATORS.values(), defineOp(definition)]);
  const g = graphOf('g', { operators });
  const outputs = g.op('halve', [g.input('x', dtype, ['n'])], { name: 'mine', by: 4 }, 2);
  outputs.forEach((value, i) => {
    g.output(`y${i}`, value);
  });
  const model = referenceBackendOf(operators).prepare(g.build(), { constants: bytesSource(new Uint8Array()) });
  const results = await model.run({ x: Tensor.of(dtype, [2, 6]) });
  return Object.values(results).map(tensor => [tensor.dtype, tensor.toArray()]);
}

describe('an operator of one’s own', () => {
  test('runs like any other, also in half precision', async () => {
    expect(await run(halve)).toEqual([
      ['f32', [0.5, 1.5]],
      ['f32', [0.5, 1.5]],
    ]);
    expect(await run(halve, 'f16')).toEqual([
      ['f16', [0.5, 1.5]],
      ['f16', [0.5, 1.5]],
    ]);
  });

  test('knows its inputs by name and its domain', () => {
    const operators = tableOf([...OPERATORS.values(), defineOp(halve)]);
    const g = graphOf('g', { operators });
    const x = g.input('x', 'f32', [2]);
    const [low] = g.op('com.example::Halve', [x], { rest: [1, 2] });
    g.output('y', low!);
    expect(g.build().nodes[0]).toMatchObject({ domain: 'com.example', op: 'Halve', opset: 1, inputs: [0, 1] });
    expect(inferFacts(g.build(), { operators }).values[0]?.facts.dtype).toBe('f32');
  });

  test('brings its gradient', () => {
    const square = defineOp({
      domain: 'com.example',
      name: 'Square',
      inputs: ['x'],
      outputs: ['y'],
      infer: c => [c.input(0)],
      run: c => [
        Tensor.of(
          'f64',
          c
            .operand(0)
            .values()
            .map(x => Number(x) ** 2),
        ).reshape(c.shape()),
      ],
      gradient: g => [g.mul(g.gradient(0)!, g.mul(g.input(0), g.scalar(2)))],
    });
    const operators = tableOf([...OPERATORS.values(), square]);
    const g = graphOf('g', { operators });
    g.output('y', g.input('x', 'f64', [3]).op('square').reduceSum(0, { keepdims: 0 }));
    const rules = gradientsWith(GRADIENTS, operators.values());
    const slope = gradient(g.build(), { of: 'y', wrt: ['x'], rules, operators });
    const results = runGraph(slope, [Tensor.of('f64', [1, 2, 3])], { operators });
    expect(results.map(tensor => tensor.toArray())).toEqual([14, [2, 4, 6]]);
  });

  const lies: readonly (readonly [string, Partial<OpDefinition>, string, string])[] = [
    [
      'another shape',
      { run: c => [Tensor.zeros('f32', [1]), c.operand(0)] },
      'SHAPE_MISMATCH',
      'shape [1] for low, expected [2]',
    ],
    [
      'another dtype',
      { run: c => [c.operand(0), Tensor.zeros('i32', [2])] },
      'DTYPE_MISMATCH',
      'i32 for high, expected f32',
    ],
    ['too few results', { run: c => [c.operand(0)] }, 'SHAPE_MISMATCH', '1 results, expected 2'],
    ['nothing', { run: () => undefined as unknown as Tensor[] }, 'SHAPE_MISMATCH', 'no list of results'],
    ['no tensor', { run: c => [c.operand(0), 7 as unknown as Tensor] }, 'DTYPE_MISMATCH', 'no tensor for high'],
    ['no facts', { infer: () => [] }, 'INVALID_GRAPH', 'its infer did not return the dtype and shape of 2 outputs'],
    [
      'facts of no tensor',
      { infer: c => [c.input(0), { dtype: 'f32', shape: [-1] }] },
      'INVALID_GRAPH',
      'its infer did not',
    ],
    [
      'an unknown dtype',
      { infer: c => [c.input(0), { dtype: 'f8' as 'f32', shape: [] }] },
      'INVALID_GRAPH',
      'its infer did not',
    ],
  ];
  test.each(lies)('that returns %s is caught, and named', async (_, change, code, message) => {
    const error = await refusal(() => run({ ...halve, ...change }));
    expect(error.code).toBe(code);
    expect(error.message).toContain('Halve "mine"');
    expect(error.message).toContain(message);
  });

  const wrong: readonly (readonly [string, Partial<OpDefinition>])[] = [
    ['a name that is none', { name: 'no name' }],
    ['ONNX’s own domain', { domain: '' }],
    ['a domain that others specify', { domain: 'com.microsoft' }],
    ['an opset below 1', { since: 0 }],
    ['a kind that is none', { kind: 'control' as 'compute' }],
    ['two inputs of one name', { inputs: ['x', 'x'] }],
    ['a required input after an optional one', { inputs: ['x?', 'y'] }],
    ['an open list that is not the last', { inputs: ['...x', 'y'] }],
    ['an input that is no name', { inputs: ['x y'] }],
    ['no outputs', { outputs: [] }],
    ['two outputs of one name', { outputs: ['y', 'y'] }],
    ['a default of another type', { attributes: { by: { type: 'float', default: 'two' } } }],
    ['an attribute of no type', { attributes: { by: { type: 'double' as 'float' } } }],
    ['a default of what is required', { attributes: { by: { type: 'int', default: 1, required: true } } }],
    ['an attribute with the name of an input', { attributes: { x: { type: 'float' } } }],
    ['a rule that is no function', { infer: 1 as unknown as OpDefinition['infer'] }],
  ];
  test.each(wrong)('is refused with %s', async (_, change) => {
    const error = await refusal(() => defineOp({ ...halve, ...change }));
    expect(error.code).toBe('INVALID_ARGUMENT');
    expect(error.message).toMatch(/^operator ".*": /);
  });
});
