import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isCloisterError } from '../../../src/base/index.ts';
import { referenceBackend } from '../../../src/engine/index.ts';
import { bytesSource } from '../../../src/formats/index.ts';
import {
  foldConstants,
  GRADIENTS,
  type GradientRule,
  type Graph,
  GraphBuilder,
  gradient,
  inferFacts,
  runGraph,
  type ValueId,
} from '../../../src/graph/index.ts';
import { Tensor } from '../../../src/tensor/index.ts';
import {
  type Case,
  checkGradients,
  difference,
  expectClose,
  fill,
  KNOWLEDGE,
  x as operand,
  randomSource,
} from './check.ts';

/** A builder that makes nodes of one output. */
class Sketch {
  readonly b = new GraphBuilder('sketch');

  input(name: string, shape: readonly (number | string)[]): ValueId {
    return this.b.input(name, { dtype: 'f64', shape });
  }

  op(op: string, inputs: readonly (ValueId | undefined)[], attributes = {}, name?: string): ValueId {
    return this.b.node({ op, inputs, attributes, ...(name === undefined ? {} : { outputs: [name] }) })[0]!;
  }

  sum(id: ValueId, name?: string): ValueId {
    return this.op('ReduceSum', [id], { keepdims: 0 }, name);
  }

  build(...outputs: readonly ValueId[]): Graph {
    for (const id of outputs) this.b.output(id);
    return this.b.build();
  }
}

const f64 = (values: Parameters<typeof Tensor.of>[1]): Tensor<'f64'> => Tensor.of('f64', values);

function codeOf(body: () => unknown): { code: string; message: string; detail: Record<string, unknown> } {
  try {
    body();
  } catch (error) {
    if (isCloisterError(error)) return { code: error.code, message: error.message, detail: { ...error.detail } };
    throw error;
  }
  throw new Error('expected an error');
}

describe('the graph of a gradient', () => {
  function square(): Graph {
    const s = new Sketch();
    const x = s.input('x', ['N']);
    return s.build(s.sum(s.op('Mul', [x, x]), 'loss'));
  }

  test('keeps inputs, outputs and value ids, and adds one named output per wrt', () => {
    const graph = square();
    const slope = gradient(graph, { of: 'loss', wrt: ['x', 0] });
    expect(slope.inputs).toEqual(graph.inputs);
    expect(slope.outputs.slice(0, 1)).toEqual(graph.outputs);
    expect(slope.values.slice(0, graph.values.length)).toEqual(graph.values);
    expect(slope.outputs.slice(1).map(id => slope.values[id]!.name)).toEqual(['d loss / d x', 'd loss / d x (2)']);
    expect(new Set(slope.values.map(value => value.name)).size).toBe(slope.values.length);
    expect(runGraph(slope, [f64([1, 2, -3])]).map(tensor => tensor.toArray())).toEqual([14, [2, 4, -6], [2, 4, -6]]);
  });

  test('has facts that inference confirms, in the shape and dtype of wrt', () => {
    const slope = gradient(square(), { of: 'loss', wrt: ['x'] });
    const id = slope.outputs[1]!;
    expect(slope.values[id]!.facts).toEqual({ dtype: 'f64', shape: ['N'] });
    const fixed = inferFacts(slope, { dims: { N: 3 } });
    expect(fixed.values[id]!.facts).toEqual({ dtype: 'f64', shape: [3] });
  });

  test('is the same after passes', () => {
    const slope = foldConstants(inferFacts(gradient(square(), { of: 'loss', wrt: ['x'] }), { dims: { N: 2 } }));
    expect(runGraph(slope, [f64([1, 5])])[1]!.toArray()).toEqual([2, 10]);
  });

  test('runs on a backend', async () => {
    const slope = gradient(square(), { of: 'loss', wrt: ['x'] });
    const model = referenceBackend.prepare(slope, { constants: bytesSource(new Uint8Array()) });
    const result = await model.run({ x: f64([3]) });
    expect(result['d loss / d x']?.toArray()).toEqual([6]);
    model.close();
  });

  test('holds nothing that no output needs', () => {
    const s = new Sketch();
    const [x, y] = [s.input('x', [2, 3]), s.input('y', [3])];
    const graph = s.build(s.sum(s.op('Mul', [x, y]), 'loss'));
    const slope = gradient(graph, { of: 'loss', wrt: ['y'] });
    const read = new Set([...slope.nodes.flatMap(node => node.inputs), ...slope.outputs]);
    expect(slope.nodes.filter(node => !node.outputs.some(id => read.has(id)))).toEqual([]);
    expect([...slope.constants.keys()].filter(id => !read.has(id))).toEqual([]);
  });

  test('is zero by what the value does not depend on, or only by what is piecewise constant', () => {
    const s = new Sketch();
    const [x, y, z] = [s.input('x', [2]), s.input('y', ['M']), s.input('z', [2])];
    const loss = s.sum(s.op('Add', [x, s.op('Floor', [z])]), 'loss');
    const slope = gradient(s.build(loss), { of: loss, wrt: [y, x, z] });
    const results = runGraph(slope, [f64([1, 2]), f64([1, 2, 3]), f64([1.5, 2.5])]).slice(1);
    expect(results.map(tensor => tensor.toArray())).toEqual([
      [0, 0, 0],
      [1, 1],
      [0, 0],
    ]);
  });

  test('of a value by itself is the seed, each as an output of its own', () => {
    const s = new Sketch();
    const x = s.input('x', []);
    const slope = gradient(s.build(x), { of: 'x', wrt: ['x', 'x'] });
    expect(new Set(slope.outputs).size).toBe(3);
    expect(runGraph(slope, [f64(5)]).map(tensor => tensor.toArray())).toEqual([5, 1, 1]);
  });

  test('by a value in the middle, and by a constant', () => {
    const s = new Sketch();
    const [x, w] = [s.input('x', [2]), s.b.constant('w', f64([3, 4]))];
    const middle = s.op('Mul', [x, w], {}, 'middle');
    const graph = s.build(s.sum(s.op('Mul', [middle, middle]), 'loss'));
    const slope = gradient(graph, { of: 'loss', wrt: ['middle', 'w', 'x'] });
    const [, ...results] = runGraph(slope, [f64([1, 2])]);
    expect(results.map(tensor => tensor.toArray())).toEqual([
      [6, 16],
      [6, 32],
      [18, 64],
    ]);
  });

  test('does not take the default of an input for what it is: a caller may give another', () => {
    const s = new Sketch();
    const [x, axes] = [s.input('x', [2, 2]), s.b.constant('axes', Tensor.of('i64', [0]))];
    const points = f64([
      [1, 2],
      [3, 4],
    ]);
    for (const keepdims of [0, 1]) {
      const sums = s.op('ReduceSum', [x, axes], { keepdims });
      s.b.output(s.sum(s.op('Mul', [sums, sums]), `loss ${keepdims}`));
    }
    const graph = { ...s.b.build(), inputs: [x, axes] };
    for (const of of ['loss 0', 'loss 1']) {
      const slope = gradient(graph, { of, wrt: ['x'] });
      expect(runGraph(slope, [points, Tensor.of('i64', [1])])[2]!.toArray()).toEqual([
        [6, 6],
        [14, 14],
      ]);
    }
  });

  test('in half precision stays in half precision', () => {
    const b = new GraphBuilder('half');
    const x = b.input('x', { dtype: 'f16', shape: [2] });
    b.output(b.node({ op: 'ReduceMean', inputs: [b.node({ op: 'Tanh', inputs: [x] })[0]!], outputs: ['y'] })[0]!);
    const slope = gradient(b.build(), { of: 'y', wrt: [x] });
    const result = runGraph(slope, [Tensor.of('f16', [0, 0])])[1]!;
    expect(result.dtype).toBe('f16');
    expect(result.toArray()).toEqual([0.5, 0.5]);
  });

  test('of a mean over a count that only the run tells stays in half precision', () => {
    const b = new GraphBuilder('half');
    const x = b.input('x', { dtype: 'f16', shape: ['N'] });
    b.output(b.node({ op: 'ReduceMean', inputs: [x], outputs: ['y'], attributes: { keepdims: 0 } })[0]!);
    const slope = gradient(b.build(), { of: 'y', wrt: [x] });
    const result = runGraph(slope, [Tensor.of('f16', [1, 2, 3, 4])])[1]!;
    expect([result.dtype, result.toArray()]).toEqual(['f16', [0.25, 0.25, 0.25, 0.25]]);
  });

  test('tells 0 from -0 among the numbers that its rules write', () => {
    const s = new Sketch();
    const x = s.input('x', []);
    const graph = s.build(s.op('Add', [s.op('Exp', [x]), s.op('Sin', [s.op('Neg', [x], {}, 'z')])], {}, 'loss'));
    const rules = new Map<string, GradientRule>(GRADIENTS)
      .set(':Exp', g => [g.div(g.dy, g.scalar(0))])
      .set(':Sin', g => [g.div(g.dy, g.scalar(-0))]);
    const slope = gradient(graph, { of: 'loss', wrt: ['z', 'x'], rules });
    // By z it is 1 / -0; by x that is turned around and 1 / 0 added.
    const results = runGraph(slope, [f64(1)]).slice(1);
    expect(results.map(tensor => tensor.toArray())).toEqual([Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY]);
  });

  test('of a long chain needs no stack', () => {
    const s = new Sketch();
    let value = s.input('x', []);
    for (let i = 0; i < 3000; i++) value = s.op('Neg', [value]);
    const slope = gradient(s.build(value), { of: value, wrt: ['x'] });
    expect(runGraph(slope, [f64(2)]).map(tensor => tensor.toArray())).toEqual([2, 1]);
  });
});

describe('a seed', () => {
  function affine(): Graph {
    const s = new Sketch();
    const [x, w] = [s.input('x', [2, 'K']), s.input('w', ['K', 3])];
    return s.build(s.op('MatMul', [x, w], {}, 'y'));
  }
  const inputs = [
    f64([
      [1, 2],
      [3, 4],
    ]),
    f64([
      [1, 0, 2],
      [0, 1, 3],
    ]),
  ];
  const seed = f64([
    [1, 0, 0],
    [0, 0, 1],
  ]);

  test('that is a new name becomes an input, and the result is its product with the Jacobian', () => {
    const slope = gradient(affine(), { of: 'y', wrt: ['x'], seed: 'dy' });
    expect(slope.inputs.map(id => slope.values[id]!.name)).toEqual(['x', 'w', 'dy']);
    expect(runGraph(slope, [...inputs, seed])[1]!.toArray()).toEqual([
      [1, 0],
      [2, 3],
    ]);
  });

  test('can be a value that is there', () => {
    const first = gradient(affine(), { of: 'y', wrt: ['x'], seed: 'dy' });
    const again = gradient(first, { of: 'y', wrt: ['w'], seed: 'dy' });
    expect(runGraph(again, [...inputs, seed])[2]!.toArray()).toEqual([
      [1, 0, 3],
      [2, 0, 4],
    ]);
  });

  test('of a size that only the run tells is not taken for another such size', () => {
    const s = new Sketch();
    const keep = s.b.input('keep', { dtype: 'bool', shape: ['N'] });
    const [x, y] = [s.input('x', ['N']), s.input('y', ['N'])];
    const all = s.op('ReduceSum', [s.op('Where', [keep, x, y])], { keepdims: 1 });
    // Two symbols that do not say how they relate: the sum broadcasts over what inference calls a fresh size.
    const z = s.input('z', ['M']);
    const graph = s.build(s.op('Mul', [s.op('Mul', [x, z]), all], {}, 'out'));
    const slope = gradient(graph, { of: 'out', wrt: ['x', 'z'], seed: 'seed' });
    const inputs = [Tensor.of('bool', [true, true]), f64([1, 2]), f64([0, 0]), f64([5])];
    const [, dx, dz] = runGraph(inferFacts(slope), [...inputs, f64([1, 1])]);
    expect([dx!.toArray(), dz!.toArray()]).toEqual([[30, 30], [9]]);
    expect(slope.values[slope.inputs.at(-1)!]!.facts.shape).toEqual(['seed.0']);
    const third = gradient(slope, { of: 'd out / d z', wrt: ['seed'], seed: 'v' });
    expect(
      runGraph(third, [...inputs, f64([1, 1]), f64([2])])
        .at(-1)!
        .toArray(),
    ).toEqual([6, 12]);
  });

  test('is needed unless the value is one element, and has to fit it', () => {
    const graph = affine();
    expect(codeOf(() => gradient(graph, { of: 'y', wrt: ['x'] }))).toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: 'of: "y" is [2,3]: expected one element, or a seed of that shape',
    });
    const s = new Sketch();
    const [x] = [s.input('x', [2]), s.input('other', [3])];
    const small = s.build(s.op('Exp', [x], {}, 'y'));
    expect(codeOf(() => gradient(small, { of: 'y', wrt: ['x'], seed: 'other' }))).toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: 'seed: f64[3] for "y", which is f64[2]',
    });
  });
});

describe('refusals', () => {
  test('one error lists every operator without a rule, with the names of its nodes', () => {
    const s = new Sketch();
    const x = s.input('x', [2]);
    const mod = s.b.node({ op: 'Mod', inputs: [x, x], attributes: { fmod: 1 }, name: 'first' })[0]!;
    const again = s.b.node({ op: 'Mod', inputs: [mod, x], attributes: { fmod: 1 }, name: 'second' })[0]!;
    const [values] = s.b.node({
      op: 'CumProd',
      inputs: [again, s.b.constant('c', Tensor.of('i64', 0))],
      name: 'third',
    });
    // Not on the way: it does not reach the loss.
    s.b.node({ op: 'Mod', inputs: [x, x], attributes: { fmod: 1 }, name: 'aside' });
    const graph = s.build(s.sum(values!, 'loss'));
    const error = codeOf(() => gradient(graph, { of: 'loss', wrt: ['x'] }));
    expect(error.code).toBe('UNSUPPORTED_MODEL');
    expect(error.detail).toEqual({ operators: ['Mod', 'CumProd'], nodes: ['first', 'second', 'third'] });
    expect(error.message).toContain('Mod "second"');
  });

  test('unknown names and integers are refused', () => {
    const s = new Sketch();
    const [x, i] = [s.input('x', []), s.b.input('i', { dtype: 'i64', shape: [] })];
    const graph = s.build(x, i);
    for (const options of [
      { of: 'nothing', wrt: ['x'] },
      { of: 'x', wrt: ['nothing'] },
      { of: 'x', wrt: [99] },
      { of: 'i', wrt: ['x'] },
      { of: 'x', wrt: ['i'] },
    ]) {
      expect(codeOf(() => gradient(graph, options)).code).toBe('INVALID_ARGUMENT');
    }
  });

  test.each<readonly [why: string, op: string, inputs: readonly (readonly number[] | Tensor)[], attributes: object]>([
    ['reduction "mul" has none', 'ScatterElements', [[3], Tensor.of('i64', [1]), [1]], { reduction: 'mul' }],
    ['reduction "max" has none', 'ScatterND', [[3], Tensor.of('i64', [[1]]), [1]], { reduction: 'max' }],
    ['mode CRD has none', 'DepthToSpace', [[1, 4, 1, 2]], { blocksize: 2, mode: 'CRD' }],
    ['a diagonal of an axis that stretches', 'Einsum', [[1, 3]], { equation: 'ii->i' }],
    [
      'by the cosines and sines there is none',
      'RotaryEmbedding',
      [
        [1, 2, 3, 4],
        [1, 3, 2],
        [1, 3, 2],
      ],
      {},
    ],
    [
      'a mask that may end before the keys do',
      'Attention',
      [
        [1, 1, 2, 2],
        [1, 1, 4, 2],
        [1, 1, 4, 2],
        [2, 3],
      ],
      {},
    ],
  ])('a form is refused by the name of the node: %s', (why, op, given, attributes) => {
    const s = new Sketch();
    const inputs = given.map((each, i) =>
      each instanceof Tensor ? s.b.constant(`c${i}`, each) : s.input(`x${i}`, each),
    );
    const y = s.b.node({ op, inputs, attributes: { ...attributes }, name: 'it' })[0]!;
    const wrt = given.flatMap((each, i) => (each instanceof Tensor ? [] : [`x${i}`]));
    const { code, message } = codeOf(() => gradient(s.build(s.sum(y, 'loss')), { of: 'loss', wrt }));
    expect(code).toBe('UNSUPPORTED_MODEL');
    expect(message).toContain(`${op} "it"`);
    expect(message).toContain(why);
  });

  test('a rule that gives another shape is refused by the name of the node', () => {
    const s = new Sketch();
    const x = s.input('x', [2]);
    const graph = s.build(s.sum(s.op('Exp', [x]), 'loss'));
    const rules = new Map<string, GradientRule>(GRADIENTS).set(':Exp', g => [g.unsqueeze(g.dy, [0])]);
    const error = codeOf(() => gradient(graph, { of: 'loss', wrt: ['x'], rules }));
    expect(error.code).toBe('INVALID_GRAPH');
    expect(error.message).toContain('its rule gave f64[1,2] for input 0, which is f64[2]');
  });
});

/** A graph of random nodes over two inputs that broadcast; every operator is smooth, and values stay moderate. */
function randomGraph(shape: readonly number[], choices: readonly number[]): Graph {
  const s = new Sketch();
  const values = [s.input('x', shape), s.input('y', [shape.at(-1)!])];
  const sizes = (id: ValueId): readonly number[] => s.b.facts(id).shape as readonly number[];
  for (const choice of choices) {
    const pick = (salt: number): ValueId => values[Math.floor(choice / salt) % values.length]!;
    const [a, b] = [pick(7), pick(101)];
    const rank = sizes(a).length;
    const axis = rank === 0 ? 0 : Math.floor(choice / 13) % rank;
    const unary = ['Tanh', 'Sigmoid', 'Erf', 'Sin', 'Softplus', 'Mish', 'Gelu'][Math.floor(choice / 11) % 7]!;
    const binary = ['Add', 'Sub', 'Mul', 'Sum', 'Mean'][Math.floor(choice / 11) % 5]!;
    const both = [sizes(a), sizes(b)].map(dims => [...new Array<number>(8 - dims.length).fill(1), ...dims]);
    const broadcast = both[0]!.every((dim, i) => dim === both[1]![i] || dim === 1 || both[1]![i] === 1);
    const kind = choice % 9;
    if (kind < 2) values.push(s.op(unary, [a]));
    else if (kind < 5 && broadcast) values.push(s.op(binary, [s.op('Tanh', [a]), b]));
    else if (rank === 0) continue;
    else if (kind === 5) values.push(s.op('Softmax', [a], { axis }));
    else if (kind === 6)
      values.push(s.op('ReduceMean', [a, s.b.constant(`a${values.length}`, Tensor.of('i64', [axis]))]));
    else if (kind === 7) values.push(s.op('Transpose', [a]));
    else if (sizes(b).length < 3 && sizes(a).at(-1) === sizes(b).at(-1)) {
      values.push(s.op('Tanh', [s.op('MatMul', [a, s.op('Transpose', [b])])]));
    }
  }
  const sums = values.map(id => s.sum(id));
  return s.build(s.op('Sum', sums, {}, 'loss'));
}

const shapes = fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 3 });

describe('properties', () => {
  test('the gradient of a random graph agrees with differences', () => {
    fc.assert(
      fc.property(
        shapes,
        fc.array(fc.nat(1e6), { minLength: 1, maxLength: 8 }),
        fc.nat(1e6),
        (shape, choices, seed) => {
          const random = randomSource(seed);
          const graph = randomGraph(shape, choices);
          const inputs = [fill(operand(shape, -1, 1), random), fill(operand([shape.at(-1)!], -1, 1), random)];
          const slope = gradient(graph, { of: 'loss', wrt: ['x', 'y'] });
          const results = runGraph(slope, inputs).slice(1);
          results.forEach((result, i) => {
            expectClose(result, difference(graph, inputs, i, 0), inputs[i]!.shape, `d ${i}`);
          });
        },
      ),
      { numRuns: 150 },
    );
  });

  test('of a sum is the sum of the gradients, and of a multiple the multiple', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(1e6), { minLength: 1, maxLength: 6 }),
        fc.double({ min: -4, max: 4, noNaN: true }),
        fc.nat(1e6),
        (choices, factor, seed) => {
          const s = new Sketch();
          const x = s.input('x', [2, 2]);
          const run = (salt: number): ValueId =>
            choices.reduce((value, choice) => s.op(['Tanh', 'Sin', 'Softplus'][(choice + salt) % 3]!, [value]), x);
          const [f, g] = [s.sum(run(0), 'f'), s.sum(run(1), 'g')];
          const scaled = s.op('Mul', [g, s.b.constant('factor', f64(factor))]);
          const graph = s.build(s.op('Add', [f, scaled], {}, 'h'));
          const inputs = [fill(operand([2, 2]), randomSource(seed))];
          const at = (of: string): number[] =>
            runGraph(gradient(graph, { of, wrt: ['x'] }), inputs)[1]!.values() as number[];
          const [df, dg, dh] = [at('f'), at('g'), at('h')];
          dh!.forEach((value, i) => {
            expect(Math.abs(value - (df![i]! + factor * dg![i]!))).toBeLessThan(1e-13);
          });
        },
      ),
    );
  });

  test('broadcasting of random shapes, known and not, agrees with differences', () => {
    const dims = fc.array(fc.tuple(fc.integer({ min: 1, max: 3 }), fc.constantFrom(0, 1, 2)), { maxLength: 4 });
    fc.assert(
      fc.property(
        dims,
        fc.constantFrom('Add', 'Mul', 'Div', 'Sub'),
        fc.nat(4),
        fc.boolean(),
        fc.nat(1e6),
        (axes, op, cut, known, seed) => {
          const left = axes.map(([size, repeat]) => (repeat === 1 ? 1 : size));
          const right = axes.map(([size, repeat]) => (repeat === 2 ? 1 : size)).slice(Math.min(cut, axes.length));
          const given: Case = { op, inputs: [operand(left, 0.5, 2), operand(right, 0.5, 2)], once: 'in the table' };
          checkGradients(given, known ? 'everything' : 'no sizes', seed);
        },
      ),
      { numRuns: 100 },
    );
  });

  test('products, reductions and slices of random shapes, known and not, agree with differences', () => {
    const size = fc.integer({ min: 1, max: 3 });
    const lead = fc.array(fc.tuple(size, fc.constantFrom(0, 1, 2)), { maxLength: 2 });
    const product = fc.record({ lead, rows: size, inner: size, columns: size, cut: fc.nat(2) }).map((given): Case => {
      const left = given.lead.map(([dim, repeat]) => (repeat === 1 ? 1 : dim));
      const right = given.lead.map(([dim, repeat]) => (repeat === 2 ? 1 : dim)).slice(Math.min(given.cut, left.length));
      const [a, b] = [operand([...left, given.rows, given.inner]), operand([...right, given.inner, given.columns])];
      return { op: 'MatMul', inputs: [a, b], once: 'in the table' };
    });
    const names = ['Sum', 'Mean', 'Max', 'Min', 'Prod', 'L1', 'L2', 'SumSquare', 'LogSum', 'LogSumExp'];
    const reduction = fc
      .record({
        shape: shapes,
        axes: fc.array(fc.boolean(), { minLength: 3, maxLength: 3 }),
        keep: fc.boolean(),
        at: fc.nat(9),
      })
      .map(({ shape, axes, keep, at }): Case => {
        const reduced = shape.flatMap((_, axis) => (axes[axis] ? [axis % 2 === 0 ? axis : axis - shape.length] : []));
        const given = operand(shape, 0.5, 2, { distinct: true });
        return {
          op: `Reduce${names[at]}`,
          inputs: reduced.length === 0 ? [given] : [given, Tensor.of('i64', reduced)],
          attributes: { keepdims: keep ? 1 : 0 },
          once: 'in the table',
        };
      });
    const bound = fc.integer({ min: -7, max: 7 });
    const cut = fc.record({ start: bound, end: bound, step: fc.constantFrom(-3, -2, -1, 1, 2, 3) });
    const slice = fc
      .array(fc.tuple(fc.integer({ min: 1, max: 5 }), cut), { minLength: 1, maxLength: 2 })
      .map((axes): Case => {
        const list = (key: 'start' | 'end' | 'step'): Tensor =>
          Tensor.of(
            'i64',
            axes.map(([, given]) => given[key]),
          );
        const named = Tensor.of(
          'i64',
          axes.map((_, axis) => axis),
        );
        return {
          op: 'Slice',
          inputs: [operand(axes.map(([dim]) => dim)), list('start'), list('end'), named, list('step')],
          once: 'in the table',
        };
      });
    fc.assert(
      fc.property(fc.oneof(product, reduction, slice), fc.constantFrom(...KNOWLEDGE), fc.nat(1e6), checkGradients),
      { numRuns: 300 },
    );
  });

  test('convolution and pooling of random geometry agree with differences', () => {
    const axis = fc.record({
      size: fc.integer({ min: 3, max: 5 }),
      kernel: fc.integer({ min: 1, max: 3 }),
      stride: fc.integer({ min: 1, max: 3 }),
      dilation: fc.integer({ min: 1, max: 2 }),
      begin: fc.integer({ min: 0, max: 2 }),
      end: fc.integer({ min: 0, max: 2 }),
    });
    const axes = fc.array(axis, { minLength: 1, maxLength: 2 });
    fc.assert(
      fc.property(axes, fc.constantFrom('Conv', 'MaxPool', 'AveragePool'), fc.nat(1e6), (given, op, seed) => {
        const extents = given.map(({ kernel, dilation }) => (kernel - 1) * dilation + 1);
        fc.pre(given.every(({ size, begin, end }, i) => size + begin + end >= extents[i]!));
        // A window of padding alone has no maximum and no mean.
        fc.pre(
          op === 'Conv' ||
            given.every(({ begin, end, kernel, dilation }) => dilation === 1 && begin < kernel && end < kernel),
        );
        const attributes = {
          strides: given.map(({ stride }) => stride),
          dilations: given.map(({ dilation }) => dilation),
          pads: [...given.map(({ begin }) => begin), ...given.map(({ end }) => end)],
          kernel_shape: given.map(({ kernel }) => kernel),
        };
        const image = operand([1, 2, ...given.map(({ size }) => size)], -2, 2, { distinct: op === 'MaxPool' });
        const weights = operand([2, 1, ...given.map(({ kernel }) => kernel)]);
        const conv = op === 'Conv';
        checkGradients(
          {
            op,
            inputs: conv ? [image, weights] : [image],
            attributes: conv ? { ...attributes, group: 2 } : attributes,
            fixed: [1],
            once: 'in the table',
          },
          seed % 2 === 0 ? 'everything' : 'no sizes',
          seed,
        );
      }),
      { numRuns: 60 },
    );
  });
});

describe('training', () => {
  /** Two classes that no line separates: inside and outside a ring. */
  function ring(count: number): { readonly x: Tensor; readonly labels: Tensor; readonly classes: readonly number[] } {
    const random = randomSource(7);
    const points = Array.from({ length: count }, () => [random() * 2 - 1, random() * 2 - 1] as const);
    const classes = points.map(([a, b]) => (a * a + b * b < 0.5 ? 1 : 0));
    const labels = Tensor.of(
      'f32',
      classes.map(label => [1 - label, label]),
    );
    return { x: Tensor.of('f32', points), labels, classes };
  }

  /** Softmax cross-entropy of `relu(x w1 + b1) w2 + b2`, averaged over the batch. */
  function classifier(hidden: number): Graph {
    const b = new GraphBuilder('classifier');
    const input = (name: string, shape: readonly (number | string)[]): ValueId =>
      b.input(name, { dtype: 'f32', shape });
    const node = (op: string, inputs: readonly ValueId[], attributes = {}, name?: string): ValueId =>
      b.node({ op, inputs, attributes, ...(name === undefined ? {} : { outputs: [name] }) })[0]!;
    const [x, labels] = [input('x', ['N', 2]), input('labels', ['N', 2])];
    const [w1, b1] = [input('w1', [2, hidden]), input('b1', [hidden])];
    const [w2, b2] = [input('w2', [hidden, 2]), input('b2', [2])];
    const layer = node('Relu', [node('Gemm', [x, w1, b1])]);
    const scores = node('Gemm', [layer, w2, b2], {}, 'scores');
    const likelihood = node('Mul', [labels, node('LogSoftmax', [scores])]);
    const axis = b.constant('classes', Tensor.of('i64', [1]));
    const perExample = node('ReduceSum', [likelihood, axis], { keepdims: 0 });
    b.output(node('Neg', [node('ReduceMean', [perExample], { keepdims: 0 })], {}, 'loss'));
    b.output(scores);
    return b.build();
  }

  test('a small network learns by plain gradient descent', () => {
    const { x, labels, classes } = ring(96);
    const names = ['w1', 'b1', 'w2', 'b2'];
    const graph = gradient(classifier(16), { of: 'loss', wrt: names });
    const model = referenceBackend.prepare(graph, { constants: bytesSource(new Uint8Array()) });
    const random = randomSource(11);
    const parameters: Record<string, Tensor> = {};
    for (const id of graph.inputs.slice(2)) {
      const { name, facts } = graph.values[id]!;
      parameters[name] = fill(operand(facts.shape as readonly number[], -0.7, 0.7), random).cast('f32');
    }
    const losses: number[] = [];
    let scores: number[] = [];
    for (let step = 0; step < 300; step++) {
      const result = model.runSync!({ x, labels, ...parameters });
      losses.push(Number(result['loss']!.values()[0]));
      scores = result['scores']!.values() as number[];
      for (const name of names) {
        const values = parameters[name]!.values() as number[];
        const slope = result[`d loss / d ${name}`]!.values() as number[];
        parameters[name] = Tensor.from(
          'f32',
          parameters[name]!.shape,
          Float32Array.from(values, (value, i) => value - 0.5 * slope[i]!),
        );
      }
    }
    model.close();
    const right = classes.filter((label, i) => (scores[2 * i + 1]! > scores[2 * i]! ? 1 : 0) === label).length;
    expect(losses.at(-1)!).toBeLessThan(losses[0]! / 3);
    expect(losses[100]!).toBeLessThan(losses[10]!);
    expect(right / classes.length).toBeGreaterThan(0.9);
  });

  test('by copies of a parameter, one per example, gives one gradient per example; their sum is that of the batch', () => {
    const s = new Sketch();
    const [x, w] = [s.input('x', ['N', 3]), s.input('w', [3, 2])];
    const rows = s.op('Unsqueeze', [x, s.b.constant('one', Tensor.of('i64', [1]))]);
    const batch = s.op('Shape', [x], { start: 0, end: 1 });
    const shape = s.op('Concat', [batch, s.b.constant('shape', Tensor.of('i64', [3, 2]))], { axis: 0 });
    const copies = s.op('Expand', [w, shape], {}, 'copies');
    const loss = s.sum(s.op('Tanh', [s.op('MatMul', [rows, copies])]), 'loss');
    const slope = gradient(s.build(loss), { of: 'loss', wrt: ['copies', 'w'] });
    const random = randomSource(3);
    const [points, weights] = [fill(operand([4, 3]), random), fill(operand([3, 2]), random)];
    const [, perExample, whole] = runGraph(slope, [points, weights]);
    expect(perExample!.shape).toEqual([4, 3, 2]);
    for (let example = 0; example < 4; example++) {
      const one = points.slice({ axis: 0, start: example, end: example + 1 });
      const alone = runGraph(slope, [one, weights])[2]!;
      expectClose(
        alone,
        perExample!.slice({ axis: 0, start: example, end: example + 1 }).values() as number[],
        [3, 2],
        'example',
      );
    }
    const sum = new Array<number>(6).fill(0);
    (perExample!.values() as number[]).forEach((value, i) => {
      sum[i % 6]! += value;
    });
    expectClose(whole!, sum, [3, 2], 'batch');
  });
});

describe('inputs of different dtypes', () => {
  type Float = 'f16' | 'f32' | 'f64';
  /** `op` of random inputs of these dtypes; the gradients of a weighting of its outputs by each, as numbers. */
  function slopes(
    op: string,
    given: readonly (readonly [readonly number[], Float])[],
    outputs: number,
    more: { readonly opset: number; readonly attributes?: Readonly<Record<string, number>> },
  ): readonly (readonly number[])[] {
    const s = new Sketch();
    const random = randomSource(5);
    const tensors = given.map(([shape, dtype]) => fill(operand(shape, 0.5, 1.5), random).cast(dtype));
    const ids = given.map(([shape, dtype], i) => s.b.input(`x${i}`, { dtype, shape }));
    const { attributes = {}, opset } = more;
    const results = s.b.node({ op, opset, inputs: ids, attributes, outputs: ['a', 'b', 'c'].slice(0, outputs) });
    const terms = results.map((id, i) => {
      const wide = s.op('Cast', [id], { to: 11 });
      const weights = fill(operand(s.b.facts(id!).shape as readonly number[], -1, 1), random);
      return s.sum(s.op('Mul', [wide, s.b.constant(`weights ${i}`, weights)]));
    });
    const slope = gradient(s.build(s.op('Sum', terms, {}, 'loss')), { of: 'loss', wrt: ids });
    const gradients = runGraph(slope, tensors).slice(1);
    expect(gradients.map(({ dtype, shape }) => [shape, dtype])).toEqual(given);
    return gradients.map(tensor => tensor.values().map(Number));
  }

  test.each<readonly [string, readonly (readonly [readonly number[], Float])[], number, Parameters<typeof slopes>[3]]>([
    [
      'LayerNormalization',
      [
        [[3, 4], 'f16'],
        [[4], 'f16'],
        [[4], 'f16'],
      ],
      3,
      { opset: 17, attributes: { axis: -1 } },
    ],
    [
      'RMSNormalization',
      [
        [[3, 4], 'f16'],
        [[4], 'f32'],
      ],
      1,
      { opset: 23 },
    ],
    [
      'BatchNormalization',
      [
        [[4, 2, 2], 'f16'],
        [[2], 'f32'],
        [[2], 'f32'],
        [[2], 'f64'],
        [[2], 'f64'],
      ],
      3,
      { opset: 15, attributes: { training_mode: 1 } },
    ],
    [
      'BatchNormalization',
      [
        [[4, 2, 2], 'f32'],
        [[2], 'f16'],
        [[2], 'f16'],
        [[2], 'f64'],
        [[2], 'f64'],
      ],
      1,
      { opset: 15 },
    ],
    [
      'Attention',
      [
        [[1, 1, 2, 2], 'f64'],
        [[1, 1, 3, 2], 'f64'],
        [[1, 1, 3, 2], 'f64'],
        [[2, 3], 'f32'],
      ],
      1,
      { opset: 23 },
    ],
  ])(
    '%s of %j has the gradients that it has in double precision, each in its own dtype',
    (op, given, outputs, more) => {
      const wide = slopes(
        op,
        given.map(([shape]) => [shape, 'f64']),
        outputs,
        op === 'LayerNormalization' ? { ...more, attributes: { ...more.attributes, stash_type: 11 } } : more,
      );
      slopes(op, given, outputs, more).forEach((values, i) => {
        values.forEach((value, at) => {
          expect(Math.abs(value - wide[i]![at]!), `x${i}[${at}]`).toBeLessThan(
            0.02 * Math.max(1, Math.abs(wide[i]![at]!)),
          );
        });
      });
    },
  );

  test('a query that sees no key has no gradient, in half precision as well', () => {
    const b = new GraphBuilder('hidden', { opset: 23 });
    const ids = ['q', 'k', 'v'].map(name => b.input(name, { dtype: 'f16', shape: [1, 1, 2, 2] }));
    const mask = b.constant(
      'mask',
      Tensor.of('bool', [
        [true, true],
        [false, false],
      ]),
    );
    const y = b.node({ op: 'Attention', inputs: [...ids, mask] })[0]!;
    b.output(b.node({ op: 'ReduceSum', inputs: [y], attributes: { keepdims: 0 }, outputs: ['loss'] })[0]!);
    const x = Tensor.of('f16', [
      [
        [
          [1, 2],
          [3, -1],
        ],
      ],
    ]);
    const [, dq, , dv] = runGraph(gradient(b.build(), { of: 'loss', wrt: ids }), [x, x, x]);
    expect(dq!.values().map(Number).slice(2)).toEqual([0, 0]);
    // The first query alone weighs the values, with 1 in all.
    const [a = 0, , c = 0] = dv!.values().map(Number);
    expect(a + c).toBeCloseTo(1, 2);
  });
});

describe('one value at several places', () => {
  test.each(['Max', 'Min'])('equal operands of %s share the gradient evenly', op => {
    const s = new Sketch();
    const [x, y, z] = ['x', 'y', 'z'].map(name => s.input(name, [3])) as [ValueId, ValueId, ValueId];
    const loss = s.sum(s.op(op, [x, y, z]), 'loss');
    const [largest, other] = op === 'Max' ? [2, 1] : [1, 2];
    const inputs = [
      [2, largest, largest],
      [2, largest, other],
      [2, other, largest],
    ].map(f64);
    const slopes = runGraph(gradient(s.build(loss), { of: 'loss', wrt: ['x', 'y', 'z'] }), inputs).slice(1);
    expect(slopes.map(slope => slope.toArray())).toEqual([
      [1 / 3, 0.5, 0.5],
      [1 / 3, 0.5, 0],
      [1 / 3, 0, 0.5],
    ]);
  });

  test('a value that is input and scale of a normalisation has both gradients, each once', () => {
    const s = new Sketch();
    const x = s.input('x', [1]);
    // x / sqrt(x^2 + epsilon) * x is nearly |x|.
    const loss = s.sum(s.op('RMSNormalization', [x, x], { epsilon: 1e-12 }), 'loss');
    const [, slope] = runGraph(gradient(s.build(loss), { of: 'loss', wrt: ['x'] }), [f64([3])]);
    expect((slope!.toArray() as number[])[0]).toBeCloseTo(1, 9);
  });
});

test('where the bounds of Clip cross, the upper one has the gradient', () => {
  const s = new Sketch();
  const x = s.input('x', [2]);
  const [low, high] = [s.input('low', []), s.input('high', [])];
  const loss = s.sum(s.op('Clip', [x, low, high]), 'loss');
  const slopes = runGraph(gradient(s.build(loss), { of: 'loss', wrt: ['x', 'low', 'high'] }), [
    f64([0, 5]),
    f64(2),
    f64(1),
  ]);
  expect(slopes.slice(1).map(slope => slope.toArray())).toEqual([[0, 0], 0, 2]);
});
