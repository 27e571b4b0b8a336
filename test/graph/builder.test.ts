import { describe, expect, test } from 'vitest';
import { CloisterError } from '../../src/base/index.ts';
import {
  type Attribute,
  type Dim,
  type Graph,
  GraphBuilder,
  inferFacts,
  MAX_NESTING,
  OPERATORS,
} from '../../src/graph/index.ts';
import { type DType, Tensor } from '../../src/tensor/index.ts';

/** The error that `run` throws. */
function refusal(run: () => unknown): CloisterError {
  try {
    run();
  } catch (error) {
    if (error instanceof CloisterError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

/** The shape that one operator gives; constants are given as tensors, inputs as shapes. */
function shapeOf(
  op: string,
  inputs: readonly (readonly Dim[] | Tensor)[],
  attributes: Readonly<Record<string, Attribute>> = {},
  options: { readonly opset?: number; readonly dtype?: DType } = {},
): readonly Dim[] {
  const b = new GraphBuilder('one', { opset: options.opset ?? 17 });
  const ids = inputs.map((input, i) =>
    input instanceof Tensor
      ? b.constant(`c${i}`, input)
      : b.input(`x${i}`, { dtype: options.dtype ?? 'f32', shape: input }),
  );
  return b.facts(b.node({ op, inputs: ids, attributes })[0]!).shape;
}

const i64 = (...values: readonly number[]): Tensor => Tensor.of('i64', values);

describe('the builder', () => {
  test('freezes what it built', () => {
    const b = new GraphBuilder('g');
    const x = b.input('x', { dtype: 'f32', shape: ['N', 3] });
    b.output(b.node({ op: 'Relu', inputs: [x], outputs: ['y'] })[0]!);
    const graph = b.build();
    for (const part of [graph, graph.values, graph.values[0], graph.values[0]!.facts, graph.nodes, graph.nodes[0]]) {
      expect(Object.isFrozen(part)).toBe(true);
    }
    expect(graph.values[1]).toEqual({ name: 'y', facts: { dtype: 'f32', shape: ['N', 3] } });
  });

  test('refuses a name that is in use, an input that does not exist yet, and an empty graph', () => {
    const b = new GraphBuilder('g');
    const x = b.input('x', { dtype: 'f32', shape: [1] });
    expect(refusal(() => b.input('x', { dtype: 'f32', shape: [1] })).message).toContain('"x" is defined twice');
    expect(refusal(() => b.node({ op: 'Relu', inputs: [x], outputs: ['x'] })).code).toBe('INVALID_GRAPH');
    expect(refusal(() => b.node({ op: 'Relu', inputs: [9], name: 'r' })).message).toBe(
      'Relu "r": input 9 is not defined yet',
    );
    expect(refusal(() => b.build()).message).toBe('graph g has no output');
    expect(refusal(() => b.range('w', { dtype: 'f32', shape: [2] }, { offset: 0, length: 7 })).code).toBe(
      'INVALID_GRAPH',
    );
  });

  test('refuses the wrong number of inputs, unknown and missing attributes, by the name of the node', () => {
    const b = new GraphBuilder('g', { opset: 17 });
    const x = b.input('x', { dtype: 'f32', shape: [1, 1, 4, 4] });
    const message = (
      op: string,
      inputs: readonly number[],
      attributes: Readonly<Record<string, Attribute>> = {},
    ): string => refusal(() => b.node({ op, name: 'n', inputs, attributes })).message;
    expect(message('Add', [x])).toBe('Add "n": expected 2 to 2 inputs, got 1');
    expect(message('Relu', [x], { alpha: 1 })).toBe('Relu "n": attribute "alpha" is unknown at opset 17');
    expect(message('MaxPool', [x])).toBe('MaxPool "n": attribute kernel_shape is required');
    expect(message('Flatten', [x], { axis: 1.5 })).toBe('Flatten "n": attribute axis: expected int');
    expect(message('Frobnicate', [x])).toContain('no kernel for Frobnicate-17');
  });
});

describe('shape rules', () => {
  test('name the node and both sides when shapes do not agree', () => {
    const b = new GraphBuilder('g');
    const x = b.input('x', { dtype: 'f32', shape: [2, 3] });
    const y = b.input('y', { dtype: 'f32', shape: [4, 5] });
    expect(refusal(() => b.node({ op: 'MatMul', name: 'mm', inputs: [x, y] })).message).toBe(
      'MatMul "mm": [2,3] x [4,5]: inner sizes 3 and 4 differ',
    );
    expect(refusal(() => b.node({ op: 'Add', name: 'a', inputs: [x, y] })).message).toBe(
      'Add "a": cannot broadcast [2,3] with [4,5]: sizes 2 and 4 differ',
    );
  });

  test('carry symbols through', () => {
    expect(shapeOf('Add', [['N', 3], [1]])).toEqual(['N', 3]);
    expect(
      shapeOf('MatMul', [
        ['N', 784],
        [784, 10],
      ]),
    ).toEqual(['N', 10]);
    expect(shapeOf('Flatten', [['N', 16, 4, 4]])).toEqual(['N', 256]);
    expect(shapeOf('Reshape', [['N', 16, 4, 4], i64(-1, 256)])).toEqual(['N', 256]);
    expect(shapeOf('Reshape', [['N', 16, 4, 4], i64(0, -1)])).toEqual(['N', 256]);
    expect(shapeOf('Transpose', [['N', 2, 3]], { perm: [2, 0, 1] })).toEqual([3, 'N', 2]);
    expect(
      shapeOf(
        'Concat',
        [
          ['N', 2],
          ['N', 3],
        ],
        { axis: 1 },
      ),
    ).toEqual(['N', 5]);
    expect(
      shapeOf(
        'Conv',
        [
          ['N', 1, 28, 28],
          [8, 1, 5, 5],
        ],
        { pads: [2, 2, 2, 2], strides: [2, 2] },
      ),
    ).toEqual(['N', 8, 14, 14]);
  });

  test('give one expression one name', () => {
    const b = new GraphBuilder('g');
    const x = b.input('x', { dtype: 'f32', shape: [1, 1, 'H', 'H'] });
    const w = b.input('w', { dtype: 'f32', shape: [1, 1, 3, 3] });
    const { shape } = b.facts(b.node({ op: 'Conv', inputs: [x, w] })[0]!);
    expect(shape[2]).toBe(shape[3]);
    expect(typeof shape[2]).toBe('string');
  });

  test('follow a shape that is computed in the graph', () => {
    const b = new GraphBuilder('g', { opset: 17 });
    const x = b.input('x', { dtype: 'f32', shape: ['N', 4, 5] });
    const shape = b.node({ op: 'Shape', inputs: [x] })[0]!;
    const first = b.node({ op: 'Gather', inputs: [shape, b.constant('zero', i64(0))] })[0]!;
    const target = b.node({ op: 'Concat', inputs: [first, b.constant('rest', i64(20))], attributes: { axis: 0 } })[0]!;
    expect(b.facts(b.node({ op: 'Reshape', inputs: [x, target] })[0]!).shape).toEqual(['N', 20]);
  });

  test('follow the semantics of the opset', () => {
    expect(shapeOf('Squeeze', [[1, 3, 1]], { axes: [0] }, { opset: 11 })).toEqual([3, 1]);
    expect(shapeOf('Squeeze', [[1, 3, 1], i64(-1)], {}, { opset: 13 })).toEqual([1, 3]);
    expect(shapeOf('Add', [[2, 3, 4], [3]], { axis: 1, broadcast: 1 }, { opset: 6 })).toEqual([2, 3, 4]);
    expect(refusal(() => shapeOf('Add', [[2, 3, 4], [3]], {}, { opset: 6 })).message).toContain('broadcast is 0');
    expect(refusal(() => shapeOf('Add', [[2, 3, 4], [3]], { axis: 1 }, { opset: 7 })).code).toBe('INVALID_GRAPH');
    expect(shapeOf('ReduceSum', [[2, 3]], { axes: [1], keepdims: 0 }, { opset: 11 })).toEqual([2]);
    expect(shapeOf('ReduceSum', [[2, 3], i64(1)], { keepdims: 0 }, { opset: 13 })).toEqual([2]);
    expect(refusal(() => shapeOf('Relu', [[1]], {}, { opset: 99 })).code).toBe('UNSUPPORTED_MODEL');
  });

  test('round pooling as ONNX does', () => {
    const pool = { kernel_shape: [3, 3], strides: [2, 2] };
    expect(shapeOf('MaxPool', [[1, 1, 4, 4]], pool)).toEqual([1, 1, 1, 1]);
    expect(shapeOf('MaxPool', [[1, 1, 4, 4]], { ...pool, ceil_mode: 1 })).toEqual([1, 1, 2, 2]);
    expect(shapeOf('MaxPool', [[1, 1, 5, 4]], { ...pool, auto_pad: 'SAME_UPPER' })).toEqual([1, 1, 3, 2]);
    expect(refusal(() => shapeOf('MaxPool', [[1, 1, 2, 2]], pool)).message).toContain(
      'a window of 3 does not fit in 2',
    );
  });

  test('refuse results that cannot exist', () => {
    expect(refusal(() => shapeOf('Expand', [[1], i64(65536, 65536, 65536)])).code).toBe('INVALID_GRAPH');
    expect(refusal(() => shapeOf('Tile', [[4], i64(2 ** 40)])).code).toBe('INVALID_GRAPH');
    expect(refusal(() => shapeOf('ConstantOfShape', [i64(-1)])).code).toBe('INVALID_GRAPH');
  });
});

describe('sizes that depend on data', () => {
  const nonZero = (b: GraphBuilder, x: number): Dim => b.facts(b.node({ op: 'NonZero', inputs: [x] })[0]!).shape[1]!;

  test('have names that no size of an input has', () => {
    const b = new GraphBuilder('g');
    const x = b.input('x', { dtype: 'f32', shape: ['?0', '?1'] });
    const made = [nonZero(b, x), nonZero(b, x)];
    expect(new Set(['?0', '?1', ...made]).size).toBe(4);
  });

  test('have names of their own in each subgraph', () => {
    const b = new GraphBuilder('g');
    const x = b.input('x', { dtype: 'f32', shape: [4] });
    const condition = b.input('c', { dtype: 'bool', shape: [] });
    const outside = nonZero(b, x);
    const branch = (name: string): Graph => {
      const inner = new GraphBuilder(name, { within: b });
      inner.output(inner.node({ op: 'NonZero', inputs: [inner.capture(x)] })[0]!);
      return inner.build();
    };
    const attributes = { then_branch: branch('then'), else_branch: branch('else') };
    const picked = b.facts(b.node({ op: 'If', inputs: [condition, x], attributes })[0]!).shape[1]!;
    expect([typeof picked, picked === outside]).toEqual(['string', false]);
  });
});

describe('subgraphs', () => {
  /** An If over an input, with a branch for each shape. */
  function picked(b: GraphBuilder, ...shapes: readonly (readonly number[])[]): number {
    const condition = b.input('c', { dtype: 'bool', shape: [] });
    const [yes, no] = shapes.map((sizes, i) => {
      const inner = new GraphBuilder(`branch ${i}`, { within: b });
      inner.output(inner.constant(`sizes ${i}`, i64(...sizes)));
      return inner.build();
    });
    return b.node({ op: 'If', inputs: [condition], attributes: { then_branch: yes!, else_branch: no! } })[0]!;
  }

  test('say nothing of elements in which they differ', () => {
    const b = new GraphBuilder('g');
    const x = b.input('x', { dtype: 'f32', shape: [6] });
    const y = b.node({ op: 'Reshape', inputs: [x, picked(b, [2, 3], [3, 2])] })[0]!;
    expect(b.facts(y).shape.map(dim => typeof dim)).toEqual(['string', 'string']);
    expect(b.known(y)).toBeUndefined();
  });

  test('know the elements that they capture', () => {
    const b = new GraphBuilder('g');
    const x = b.input('x', { dtype: 'f32', shape: ['n', 6] });
    const shape = b.node({ op: 'Shape', inputs: [x] })[0]!;
    const fixed = b.constant('fixed', i64(2, 3));
    const inner = new GraphBuilder('inner', { within: b });
    const [a, sizes, two] = [inner.capture(x), inner.capture(shape), inner.capture(fixed)];
    expect(inner.facts(inner.node({ op: 'Reshape', inputs: [a, sizes] })[0]!).shape).toEqual(['n', 6]);
    expect(inner.facts(inner.node({ op: 'ConstantOfShape', inputs: [two] })[0]!).shape).toEqual([2, 3]);
  });

  test('are refused where they lie too deep in each other', () => {
    const within = (depth: number, builder: GraphBuilder): number => {
      const condition = builder.constant('c', Tensor.of('bool', true));
      if (depth === 0) return builder.constant('leaf', i64(1));
      const branch = (): Graph => {
        const inner = new GraphBuilder('inner', { within: builder });
        inner.output(within(depth - 1, inner));
        return inner.build();
      };
      const attributes = { then_branch: branch(), else_branch: leaf };
      return builder.node({ op: 'If', inputs: [condition], attributes })[0]!;
    };
    const last = new GraphBuilder('leaf');
    last.output(last.constant('one', i64(1)));
    const leaf = last.build();
    expect(() => within(MAX_NESTING, new GraphBuilder('g'))).not.toThrow();
    expect(refusal(() => within(MAX_NESTING + 1, new GraphBuilder('g'))).code).toBe('UNSUPPORTED_MODEL');
  });
});

describe('outputs of a graph', () => {
  test('are each one once, and exist', () => {
    const b = new GraphBuilder('g');
    const x = b.input('x', { dtype: 'f32', shape: [2] });
    b.output(x);
    expect(refusal(() => b.output(x)).message).toContain('is one already');
    expect(refusal(() => b.output(7)).message).toContain('no such value');
  });

  test('have a column for each label', () => {
    const b = new GraphBuilder('g');
    const x = b.input('x', { dtype: 'f32', shape: ['n', 2] });
    expect(refusal(() => b.output(x, { labels: ['yes', 'no', 'perhaps'] })).message).toContain('3 columns');
    b.output(x, { labels: ['yes', 'no'] });
    expect(b.build().maps.get(x)).toEqual({ labels: ['yes', 'no'] });
  });
});

describe('inferFacts', () => {
  const b = new GraphBuilder('g');
  const x = b.input('x', { dtype: 'f32', shape: ['N', 1, 'H', 8] });
  const w = b.constant('w', Tensor.zeros('f32', [2, 1, 3, 3]));
  b.output(b.node({ op: 'Flatten', inputs: [b.node({ op: 'Conv', inputs: [x, w] })[0]], outputs: ['y'] })[0]!);
  const graph = b.build();

  test('binds symbols to sizes', () => {
    const bound = inferFacts(graph, { dims: { N: 4, H: 10 } });
    expect(bound.values[bound.outputs[0]!]!.facts.shape).toEqual([4, 2 * 8 * 6]);
    expect(bound.values.every(value => value.facts.shape.every(dim => typeof dim === 'number'))).toBe(true);
    expect(inferFacts(graph).values).toEqual(graph.values);
  });

  test('refuses a size that does not fit, an unknown name, and what is no size', () => {
    expect(refusal(() => inferFacts(graph, { dims: { H: 2 } })).code).toBe('INVALID_GRAPH');
    expect(refusal(() => inferFacts(graph, { dims: { M: 2 } })).code).toBe('INVALID_ARGUMENT');
    expect(refusal(() => inferFacts(graph, { dims: { N: -1 } })).code).toBe('INVALID_ARGUMENT');
  });
});

test('every operator has versions in ascending order', () => {
  for (const operator of OPERATORS.values()) {
    const since = operator.versions.map(version => version.since);
    expect(since, operator.name).toEqual([...new Set(since)].sort((a, b) => a - b));
  }
});
