import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CloisterError } from '../../../src/base/index.ts';
import { type Expr, expr, graphOf, parseFormula } from '../../../src/graph/expression/index.ts';
import { type Attribute, type Graph, GraphBuilder, runGraph } from '../../../src/graph/index.ts';
import { Tensor } from '../../../src/tensor/index.ts';

/** A graph without the names that were made up, and with constants by their elements. */
function shapeOf(graph: Graph): unknown {
  const show = (id: number | undefined): unknown => {
    if (id === undefined) return undefined;
    const constant = graph.constants.get(id);
    return constant?.kind === 'inline' ? [constant.tensor.dtype, constant.tensor.toArray()] : order.get(id);
  };
  const order = new Map<number, number>();
  for (const id of [...graph.inputs, ...graph.nodes.flatMap(node => node.outputs)]) {
    if (id !== undefined) order.set(id, order.size);
  }
  return {
    inputs: graph.inputs.map(id => graph.values[id]),
    nodes: graph.nodes.map(({ domain, op, opset, inputs, outputs, attributes }) => ({
      domain,
      op,
      opset,
      attributes,
      inputs: inputs.map(show),
      outputs: outputs.map(id => graph.values[id!]!.facts),
    })),
    outputs: graph.outputs.map(id => [graph.values[id]!.name, order.get(id)]),
  };
}

interface Call {
  readonly op: string;
  /** Numbers refer to inputs (from 0) and then nodes. */
  readonly inputs: readonly (number | Tensor)[];
  readonly attributes?: Readonly<Record<string, Attribute>>;
}

/** The graph of `x: f32[n,4]`, `w: f32[4,3]`, `b: f32[3]`, built node by node. */
function built(...calls: readonly Call[]): Graph {
  const g = new GraphBuilder('g');
  const ids = [
    g.input('x', { dtype: 'f32', shape: ['n', 4] }),
    g.input('w', { dtype: 'f32', shape: [4, 3] }),
    g.input('b', { dtype: 'f32', shape: [3] }),
  ];
  let constants = 0;
  calls.forEach(({ op, inputs, attributes }, i) => {
    const list = inputs.map(input => (input instanceof Tensor ? g.constant(`c${constants++}`, input) : ids[input]!));
    const name = i === calls.length - 1 ? 'y' : `v${i}`;
    ids.push(g.node({ op, inputs: list, outputs: [name], ...(attributes ? { attributes } : {}) })[0]!);
  });
  g.output(ids.at(-1)!);
  return g.build();
}

/** The same values, and what `make` says of them. */
function written(make: (x: Expr, w: Expr, b: Expr) => Expr): Graph {
  const g = graphOf('g');
  g.output('y', make(g.input('x', 'f32', ['n', 4]), g.input('w', 'f32', [4, 3]), g.input('b', 'f32', [3])));
  return g.build();
}

const formula = (text: string): Graph => written((x, w, b) => parseFormula(text)({ x, w, b }));
const f32 = (values: Parameters<typeof Tensor.of>[1]): Tensor => Tensor.of('f32', values);
const i64 = (values: Parameters<typeof Tensor.of>[1]): Tensor => Tensor.of('i64', values);

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

describe('a formula makes the graph that the builder makes', () => {
  const cases: readonly (readonly [string, readonly Call[]])[] = [
    [
      'softmax(x @ w + b)',
      [
        { op: 'MatMul', inputs: [0, 1] },
        { op: 'Add', inputs: [3, 2] },
        { op: 'Softmax', inputs: [4] },
      ],
    ],
    ['softmax(x, axis=-1)', [{ op: 'Softmax', inputs: [0], attributes: { axis: -1 } }]],
    ['softmax(x, -1)', [{ op: 'Softmax', inputs: [0], attributes: { axis: -1 } }]],
    [
      '-x ** 2',
      [
        { op: 'Pow', inputs: [0, f32(2)] },
        { op: 'Neg', inputs: [3] },
      ],
    ],
    [
      'x ** -x ** 2',
      [
        { op: 'Pow', inputs: [0, f32(2)] },
        { op: 'Neg', inputs: [3] },
        { op: 'Pow', inputs: [0, 4] },
      ],
    ],
    [
      'x - x - 1',
      [
        { op: 'Sub', inputs: [0, 0] },
        { op: 'Sub', inputs: [3, f32(1)] },
      ],
    ],
    [
      'x + x * 2',
      [
        { op: 'Mul', inputs: [0, f32(2)] },
        { op: 'Add', inputs: [0, 3] },
      ],
    ],
    ['x ** (1 / 4)', [{ op: 'Pow', inputs: [0, f32(0.25)] }]],
    [
      'not x < 1 and x == 2 or x != 3',
      [
        { op: 'Less', inputs: [0, f32(1)] },
        { op: 'Not', inputs: [3] },
        { op: 'Equal', inputs: [0, f32(2)] },
        { op: 'And', inputs: [4, 5] },
        { op: 'Equal', inputs: [0, f32(3)] },
        { op: 'Not', inputs: [7] },
        { op: 'Or', inputs: [6, 8] },
      ],
    ],
    ['x[:, 0]', [{ op: 'Gather', inputs: [0, i64(0)], attributes: { axis: 1 } }]],
    [
      'x[None, 1:, ::-1]',
      [
        {
          op: 'Slice',
          inputs: [
            0,
            i64([1, Number.MAX_SAFE_INTEGER]),
            i64([Number.MAX_SAFE_INTEGER, -Number.MAX_SAFE_INTEGER]),
            i64([0, 1]),
            i64([1, -1]),
          ],
        },
        { op: 'Unsqueeze', inputs: [3, i64([0])] },
      ],
    ],
    ['x[..., [2, 0]]', [{ op: 'Gather', inputs: [0, i64([2, 0])], attributes: { axis: 1 } }]],
    ['w.reduce_sum([0], keepdims=0)', [{ op: 'ReduceSum', inputs: [1, i64([0])], attributes: { keepdims: 0 } }]],
    ["cast(x, to='f64')", [{ op: 'Cast', inputs: [0], attributes: { to: 11 } }]],
    ['concat(x, x, axis=1)', [{ op: 'Concat', inputs: [0, 0], attributes: { axis: 1 } }]],
    [
      'where(x > 0, x, 0)',
      [
        { op: 'Greater', inputs: [0, f32(0)] },
        { op: 'Where', inputs: [3, 0, f32(0)] },
      ],
    ],
    [
      'h = x @ w  # the first layer\n\n relu(h\n + b);',
      [
        { op: 'MatMul', inputs: [0, 1] },
        { op: 'Add', inputs: [3, 2] },
        { op: 'Relu', inputs: [4] },
      ],
    ],
  ];
  test.each(cases)('%s', (text, calls) => {
    expect(shapeOf(formula(text))).toEqual(shapeOf(built(...calls)));
  });

  test('a call by methods is the same graph as one by signs', () => {
    const byMethods = written((x, w, b) => x.matmul(w).add(b).mul(2).softmax(-1).at({}, 0));
    expect(shapeOf(byMethods)).toEqual(shapeOf(formula('softmax((x @ w + b) * 2, axis=-1)[:, 0]')));
    const byGraph = written((x, w, b) => {
      const g = x.graph;
      return g.softmax(g.mul(g.add(g.matmul(x, w), b), 2), -1).at({}, 0);
    });
    expect(shapeOf(byGraph)).toEqual(shapeOf(byMethods));
    const inGraph = written(x => x.graph.expr`softmax((x @ w + b) * 2, -1)[:, 0]`);
    expect(shapeOf(inGraph)).toEqual(shapeOf(byMethods));
    const withHoles = written((x, w, b) => expr`softmax((${x} @ ${w} + ${b}) * ${2}, -1)[:, 0]`());
    expect(shapeOf(withHoles)).toEqual(shapeOf(byMethods));
    const ofGraph = written(x => expr`softmax((x @ w + b) * 2, -1)[:, 0]`(x.graph));
    expect(shapeOf(ofGraph)).toEqual(shapeOf(byMethods));
  });

  test('several results are assigned to several names', () => {
    const graph = formula('best, places = topk(x, 2)\nbest + cast(places, "f32")');
    expect(graph.nodes.map(node => [node.op, node.outputs.length])).toEqual([
      ['TopK', 2],
      ['Cast', 1],
      ['Add', 1],
    ]);
  });

  test('says which names are free', () => {
    expect(expr`h = relu(x @ w); softmax(h + b, axis=k)`.names).toEqual(['x', 'w', 'b', 'k']);
  });

  test('gives the values that the text says', () => {
    const g = graphOf('g');
    const x = g.input('x', 'f32', [2, 3]);
    g.output('y', expr`x[::-1, 1:] * -2 ** 2 + [[10, 20]]`(x));
    const [y] = runGraph(g.build(), [
      f32([
        [1, 2, 3],
        [4, 5, 6],
      ]),
    ]);
    expect(y?.toArray()).toEqual([
      [10 - 20, 20 - 24],
      [10 - 8, 20 - 12],
    ]);
  });
});

describe('what is wrong is shown with a caret', () => {
  const texts: readonly (readonly [string, string])[] = [
    ['softmax(x @ * w)', 'expected a value, got "*" (line 1, column 13)\n  softmax(x @ * w)\n              ^'],
    ['x +', 'expected a value, got the end (line 1, column 4)\n  x +\n     ^'],
    ['x $ w', 'this character has no meaning here (line 1, column 3)\n  x $ w\n    ^'],
    ['h = x\nh @ (w', 'expected «)», got the end (line 2, column 7)\n  h @ (w\n        ^'],
    ['x < w < b', 'comparisons do not chain: write them with «and» (line 1, column 7)\n  x < w < b\n        ^'],
    [
      'relu(a=1, 2)',
      'an argument without a name comes before those with one (line 1, column 11)\n  relu(a=1, 2)\n            ^',
    ],
    ['x[]', 'expected a subscript, got "]" (line 1, column 3)\n  x[]\n    ^'],
    ['x w', 'expected an operator, or the end, got "w" (line 1, column 3)\n  x w\n    ^'],
  ];
  test.each(texts)('%s', (text, message) => {
    const error = refusal(() => parseFormula(text));
    expect(error.message).toBe(message);
    expect(error.code).toBe('INVALID_ARGUMENT');
  });

  test('shapes that do not fit name the node and both shapes, under the sign', () => {
    const error = refusal(() => formula('relu(w @ w + b)'));
    expect(error.code).toBe('INVALID_GRAPH');
    expect(error.message).toContain('MatMul "MatMul#0"');
    expect(error.message).toContain('f32[4,3], f32[4,3]');
    expect(error.message).toContain('  relu(w @ w + b)\n         ^');
    expect(error.detail).toMatchObject({ line: 1, column: 8 });
  });

  test('a name that stands for nothing, an unknown operator and an unknown attribute are named', () => {
    expect(refusal(() => formula('x + u')).message).toContain('nothing is called u');
    expect(refusal(() => formula('nonsense(x)')).message).toContain('there is no operator "nonsense"');
    const wrong = refusal(() => formula('softmax(x, axes=1)'));
    expect(wrong.message).toContain('Softmax has no "axes"; it has input, axis');
    expect(refusal(() => formula('x[0, 0, 0]')).message).toContain('3 subscripts for 2 axes');
    expect(refusal(() => formula('x[:, 4]')).message).toContain('place 4 on an axis of 4');
  });

  test('a long line is cut around the column', () => {
    const error = refusal(() => parseFormula(`${'x + '.repeat(500)}*`));
    expect(error.message.length).toBeLessThan(250);
    expect(error.message.split('\n')[2]).toBe(`  ${' '.repeat(50)}^`);
  });

  test('what is nested too deep or too long is refused', () => {
    expect(refusal(() => parseFormula(`${'('.repeat(1000)}x`)).message).toContain('nested more than 64 deep');
    expect(refusal(() => parseFormula(`${'-'.repeat(1000)}x`)).message).toContain('nested more than 64 deep');
    expect(refusal(() => parseFormula(`x${'**x'.repeat(1000)}`)).message).toContain('nested more than 64 deep');
    expect(refusal(() => parseFormula(' '.repeat(70_000))).message).toContain('at most 65536');
  });
});

describe('any text', () => {
  const pieces = fc.constantFrom(
    ...'x w b 1 2.5 1e3 ( ) [ ] , : = == + - * / @ ** < and or not None ... . ; \n softmax relu concat axis topk "f32" true inf x:: # $ {'.split(
      ' ',
    ),
    '\n',
  );
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 60 }),
    fc.array(pieces, { maxLength: 24 }).map(list => list.join(' ')),
  );

  test('is a graph or a typed error', () => {
    fc.assert(
      fc.property(text, source => {
        try {
          expect(formula(source).outputs).toHaveLength(1);
        } catch (error) {
          if (!(error instanceof CloisterError)) throw error;
        }
      }),
      { numRuns: 3000 },
    );
  });

  test.each<[string, (n: number) => string]>([
    ['a sum', n => `x${' + x'.repeat(n)}`],
    ['keys', n => `relu(${Array.from({ length: n / 2 }, (_, i) => `a${i}=1`).join()})`],
    ['dots', n => `a${'.a'.repeat(2 * n)}`],
    ['a list', n => `x[[${'0,'.repeat(2 * n)}]]`],
    ['assignments', n => 'h=x;'.repeat(n)],
    ['subscripts', n => `x${'[0:]'.repeat(n)}`],
    ['quotes', n => '"'.repeat(4 * n)],
  ])('takes time in proportion to its length: %s', (_, source) => {
    const time = (n: number): number => {
      const start = performance.now();
      try {
        formula(source(n));
      } catch (error) {
        if (!(error instanceof CloisterError)) throw error;
      }
      return performance.now() - start;
    };
    // Eight times the length: sixty-four times the time would be quadratic. The better of two, as others use the machine too.
    const best = (n: number): number => Math.min(time(n), time(n));
    best(500);
    expect(best(8000)).toBeLessThan(32 * Math.max(best(1000), 1));
  });
});
