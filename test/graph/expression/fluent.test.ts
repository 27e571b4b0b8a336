import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { CloisterError } from '../../../src/base/index.ts';
import {
  activation,
  averagePool2d,
  batchNorm,
  conv2d,
  dense,
  embedding,
  expr,
  flatten,
  GraphValue,
  graphOf,
  type Layer,
  layerNorm,
  maxPool2d,
  OpenGraph,
  operator,
  parallel,
  residual,
  sequential,
} from '../../../src/graph/expression/index.ts';
import {
  defineOp,
  type Graph,
  type InferContext,
  MAX_OPSET,
  OPERATORS,
  type RunContext,
  runGraph,
  tableOf,
} from '../../../src/graph/index.ts';
import { type Nested, Tensor } from '../../../src/tensor/index.ts';

/** The error that `make` throws. */
function refusal(make: () => unknown): CloisterError {
  try {
    make();
  } catch (error) {
    if (error instanceof CloisterError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

const opsOf = (graph: Graph): readonly string[] => graph.nodes.map(node => node.op);

/** What a layer makes of one input. */
function applied(layer: Layer, values: Nested, dtype: 'f32' | 'i64' = 'f32'): Nested {
  const x = Tensor.of(dtype, values);
  const g = graphOf('g');
  g.output('y', layer(g.input('x', dtype, x.shape)));
  return runGraph(g.build(), [x])[0]!.toArray();
}

describe('a graph that is being written', () => {
  test('has a method for every common operator that the types promise', () => {
    const source = readFileSync(new URL('../../../src/graph/expression/methods.ts', import.meta.url), 'utf8');
    const body = source.slice(source.indexOf('interface OperatorMethods'), source.indexOf('GraphFunctions'));
    const promised = [...body.matchAll(/^ {2}(\w+)\(/gm)].map(([, name]) => name!);
    expect(promised.length).toBeGreaterThan(70);
    expect(promised.filter(name => !(name in GraphValue.prototype))).toEqual([]);
    expect(promised.filter(name => !(name in OpenGraph.prototype))).toEqual([]);
  });

  test('names operators alike in every spelling', () => {
    const g = graphOf('g');
    const x = g.input('x', 'f32', [2, 3]);
    for (const name of ['ReduceSum', 'reduceSum', 'reduce_sum', 'ai.onnx::ReduceSum']) {
      expect(g.op(name, [x, [1]])[0]!.shape).toEqual([2, 1]);
    }
  });

  test('gives outputs the names that they are given, by a node where a value has one already', () => {
    const g = graphOf('g');
    const x = g.input('x', 'f32', ['n']);
    const y = g.output('y', x.relu());
    expect(g.find('y')?.id).toBe(y.id);
    g.output('copy', y);
    g.output('same', x);
    const graph = g.build();
    expect(graph.outputs.map(id => graph.values[id]!.name)).toEqual(['y', 'copy', 'same']);
    expect(opsOf(graph)).toEqual(['Relu', 'Identity', 'Identity']);
    expect(refusal(() => g.output('y', x.neg())).message).toContain('"y" is defined twice');
  });

  test('takes attributes for inputs where the opset has them so', () => {
    const old = graphOf('old', { opset: 11 });
    old.output('y', old.input('x', 'f32', [2, 3]).reduceSum(1));
    expect(old.build().nodes[0]).toMatchObject({ attributes: { axes: [1] }, inputs: [0] });
    const now = graphOf('now');
    now.output('y', now.input('x', 'f32', [2, 3]).reduceSum(1));
    expect(now.build().nodes[0]).toMatchObject({ attributes: {}, inputs: [0, 1] });
  });

  test('makes numbers and arrays constants of the dtype beside them, whichever side they are on', () => {
    const g = graphOf('g');
    const x = g.input('x', 'f16', [2]);
    expect(x.mul(2).dtype).toBe('f16');
    expect(g.sub(1, x).dtype).toBe('f16');
    expect(g.input('k', 'i64', [2]).add([1, 2]).dtype).toBe('i64');
    expect(g.where([true, false], x, 0).dtype).toBe('f16');
  });

  test('refuses a number that the dtype does not hold', () => {
    const g = graphOf('g');
    const k = g.input('k', 'i32', [2]);
    expect(refusal(() => k.add(0.5)).message).toBe('0.5 is no i32 value');
    expect(refusal(() => k.add([1, [2]] as unknown as number[])).code).toBe('SHAPE_MISMATCH');
    expect(refusal(() => k.add('one' as unknown as number)).message).toBe('"one" is no i32 value');
  });

  test('names the node and both shapes in an error', () => {
    const g = graphOf('g');
    const error = refusal(() => g.input('x', 'f32', [2, 3]).op('Add', [[1, 2]], { name: 'shift' }));
    expect(error.code).toBe('INVALID_GRAPH');
    expect(error.message).toContain('Add "shift"');
    expect(error.message).toContain('[2,3]');
    expect(error.message).toContain('[1,2]');
  });

  test('refuses a value of another graph, too many arguments and names twice', () => {
    const [a, b] = [graphOf('a'), graphOf('b')];
    const x = a.input('x', 'f32', [1]);
    const y = b.input('y', 'f32', [1]);
    expect(refusal(() => x.add(y)).message).toContain('a value of graph b cannot be used in graph a');
    expect(refusal(() => x.op('softmax', 1, 2)).message).toContain('Softmax takes input, axis: got 3 arguments');
    expect(refusal(() => x.op('softmax', 1, { axis: 1 })).message).toContain('axis is given twice');
    expect(refusal(() => x.op('softmax', x)).message).toContain('attribute axis is fixed when the graph is built');
    expect(refusal(() => a.build()).message).toContain('no output');
  });

  test('has one opset for each domain, so that it can be written to a file', () => {
    const domain = 'com.example';
    const same = { domain, inputs: ['x'], outputs: ['y'], infer: (c: InferContext) => [c.input(0)] };
    const run = (c: RunContext): readonly Tensor[] => [c.operand(0)];
    const own = [defineOp({ ...same, name: 'Old', run }), defineOp({ ...same, name: 'New', since: 3, run })];
    const g = graphOf('g', { operators: tableOf([...OPERATORS.values(), ...own]) });
    g.output('y', g.input('x', 'f32', [2]).op('old').op('new').relu());
    expect(g.build().nodes.map(node => node.opset)).toEqual([3, 3, MAX_OPSET]);
  });

  test('splits and sorts into several values', () => {
    const g = graphOf('g');
    const x = g.input('x', 'f32', [2, 5]);
    const parts = x.split([2, 3], { axis: 1, outputs: 2 });
    expect(parts.map(part => part.shape)).toEqual([
      [2, 2],
      [2, 3],
    ]);
    const [values, places] = x.topK(2);
    expect([values.dtype, places.dtype]).toEqual(['f32', 'i64']);
  });

  test('every operator of the table with one input and no required attribute is a method', () => {
    const taken = new Set(['shape', 'size', 'constant']);
    const missing = [...OPERATORS.values()]
      .filter(({ domain, versions }) => domain === '' && versions.at(-1)!.inputs[0] === 1)
      .map(({ name }) => name)
      .filter(name => {
        const key = Object.getOwnPropertyNames(GraphValue.prototype).find(
          method => method.toLowerCase() === name.toLowerCase(),
        );
        return key === undefined && !taken.has(name.toLowerCase());
      });
    expect(missing).toEqual([]);
  });
});

describe('layers', () => {
  test('run in order, and a formula is one of them', () => {
    const layer = sequential(
      dense(
        [
          [1, -1],
          [2, 0],
        ],
        [0.5, 0.5],
      ),
      activation('relu'),
      expr`x * 2`,
    );
    expect(applied(layer, [[1, 2]])).toEqual([[11, 0]]);
  });

  test('are added to what they were given, and joined', () => {
    expect(applied(residual(activation('neg')), [[1, 2]])).toEqual([[0, 0]]);
    expect(applied(parallel([activation('neg'), x => x]), [[1, 2]])).toEqual([[-1, -2, 1, 2]]);
    expect(applied(parallel([activation('neg'), x => x], { join: 'mul' }), [[1, 2]])).toEqual([[-1, -4]]);
    expect(refusal(() => parallel([])).message).toContain('at least one layer');
  });

  test('convolve, pool and normalise', () => {
    const image = [
      [
        [
          [1, 2],
          [3, 4],
        ],
      ],
    ];
    expect(
      applied(
        conv2d(
          [
            [
              [
                [1, 1],
                [1, 1],
              ],
            ],
          ],
          { bias: [1] },
        ),
        image,
      ),
    ).toEqual([[[[11]]]]);
    expect(
      applied(
        conv2d(
          [
            [
              [
                [0, 0, 0],
                [0, 1, 0],
                [0, 0, 0],
              ],
            ],
          ],
          { padding: 'same' },
        ),
        image,
      ),
    ).toEqual(image);
    expect(applied(sequential(maxPool2d(2), flatten()), image)).toEqual([[4]]);
    expect(applied(averagePool2d(2), image)).toEqual([[[[2.5]]]]);
    expect(applied(layerNorm([1, 1], [0, 1], { epsilon: 0 }), [[1, 3]])).toEqual([[-1, 2]]);
    const statistics = { scale: [2], bias: [1], mean: [1], variance: [4] };
    expect(applied(batchNorm(statistics, { epsilon: 0 }), [[[[1, 3]]]])).toEqual([[[[1, 3]]]]);
    expect(applied(operator('clip', { max: 2 }), [1, 3])).toEqual([1, 2]);
    expect(
      applied(
        embedding([
          [1, 2],
          [3, 4],
        ]),
        [1, 0],
        'i64',
      ),
    ).toEqual([
      [3, 4],
      [1, 2],
    ]);
  });
});
