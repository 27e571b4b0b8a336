import { describe, expect, test } from 'vitest';
import { type Graph, optimise, PASSES } from '../../../src/graph/index.ts';
import { type DType, Tensor } from '../../../src/tensor/index.ts';
import type { Sketch } from '../../native/program-seeds.ts';
import { type Build, graphOf, leftOf, ops, positive, scalar, x23 } from './left-of.ts';

/** A node of an older opset than the graph's. */
function at(g: Sketch, opset: number, op: string, inputs: readonly number[], attributes = {}): number {
  return g.builder.node({ op, opset, inputs, attributes })[0]!;
}

const conv = (g: Sketch, ...more: number[]): number =>
  g.op('Conv', [g.input('x', [1, 2, 5, 5]), g.weight(3, 2, 3, 3), ...more]);

/** `x - mean(of)`, and the root of the mean of its squares. */
function deviation(g: Sketch, x: number, of: number, axis: number): readonly [centred: number, root: number] {
  const centred = g.op('Sub', [x, g.op('ReduceMean', [of, g.ints(axis)])]);
  const squares = g.op('ReduceMean', [g.op('Pow', [centred, scalar(g, 2)]), g.ints(-1)]);
  return [centred, g.op('Sqrt', [g.op('Add', [squares, scalar(g, 1e-5)])])];
}

/** How TensorFlow writes a layer over `x`, with `y` where the product takes x and `middle` where it takes the mean off. */
function tensorflow(g: Sketch, y?: number, middle?: number): number {
  const x = g.input('x', [2, 3, 4]);
  const mean = g.op('ReduceMean', [x, g.ints(-1)]);
  const off = g.op('Sub', [x, mean]);
  const variance = g.op('ReduceMean', [g.op('Mul', [off, off]), g.ints(-1)]);
  const inverse = g.op('Reciprocal', [g.op('Sqrt', [g.op('Add', [variance, scalar(g, 1e-3)])])]);
  const scaled = g.op('Mul', [inverse, g.weight(4)]);
  const rest = g.op('Sub', [g.weight(4), g.op('Mul', [middle ?? mean, scaled])]);
  return g.op('Add', [g.op('Mul', [y ?? x, scaled]), rest]);
}

/** Attention whose parts a case may replace. */
function attention(
  g: Sketch,
  parts: {
    readonly query?: (q: number) => number;
    readonly key?: number;
    readonly mask?: number;
    readonly softmax?: (scores: number) => number;
  },
): number {
  const [q, v] = [g.input('q', [2, 2, 3, 4]), g.input('v', [2, 2, 3, 4])];
  const key = parts.key ?? g.op('Transpose', [g.input('k', [2, 2, 3, 4])], { perm: [0, 1, 3, 2] });
  const product = g.op('MatMul', [parts.query?.(q) ?? q, key]);
  const scores = parts.mask === undefined ? product : g.op('Add', [product, parts.mask]);
  return g.op('MatMul', [parts.softmax?.(scores) ?? g.op('Softmax', [scores], { axis: -1 }), v]);
}

/** `x / 2 (1 + tanh(factor (x + 0.044715 x^3)))`. */
function geluTanh(g: Sketch, factor: number): number {
  const x = x23(g);
  const cube = g.op('Mul', [g.op('Pow', [x, scalar(g, 3)]), scalar(g, 0.044715)]);
  const inner = g.op('Mul', [g.op('Add', [x, cube]), scalar(g, factor)]);
  return g.op('Mul', [g.op('Mul', [x, g.op('Add', [g.op('Tanh', [inner]), scalar(g, 1)])]), scalar(g, 0.5)]);
}

function geluErf(g: Sketch, factor: number, inside: number): number {
  const x = x23(g);
  const gate = g.op('Add', [scalar(g, 1), g.op('Erf', [g.op('Mul', [x, scalar(g, inside)])])]);
  return g.op('Mul', [g.op('Mul', [scalar(g, factor), x]), gate]);
}

/** `x clip(x + 3, 0, high) / 6`. */
function hardSwish(g: Sketch, high: number): number {
  const x = x23(g);
  const gate = g.op('Clip', [g.op('Add', [x, scalar(g, 3)]), scalar(g, 0), scalar(g, high)]);
  return g.op('Div', [g.op('Mul', [x, gate]), scalar(g, 6)]);
}

/** One condition of a pass each: what it must look at before it fires, or take over when it does. */
const CONDITIONS: readonly (readonly [pass: string, claim: string, build: Build, left: string, opset?: number])[] = [
  [
    'constant-folding',
    'leaves quantised weights as they are',
    g => {
      const weights = g.builder.constant('q', Tensor.of('i8', [1, -2, 3]));
      return g.op('Add', [x23(g), g.op('DequantizeLinear', [weights, scalar(g, 0.5)])]);
    },
    'DequantizeLinear Add',
  ],
  [
    'constant-folding',
    'leaves a small constant that becomes a large one',
    g => g.op('Add', [g.input('x', [1]), g.op('Expand', [scalar(g, 2), g.ints(200, 100)])]),
    'Expand Add',
  ],
  [
    'constant-shapes',
    'leaves a size of 0, which would be read as a copy',
    g => {
      const x = g.input('x', ['n', 0, 3]);
      return g.op('Reshape', [x, g.op('Gather', [g.op('Shape', [x]), g.ints(1, 2)])], { allowzero: 1 });
    },
    'Shape Gather Reshape',
  ],
  [
    'constant-shapes',
    'leaves a free size beside a copied one, which may be 0',
    g => {
      const x = g.input('x', ['n', 'm', 4]);
      return g.op('Reshape', [x, g.op('Gather', [g.op('Shape', [x]), g.ints(0, 2, 1)])]);
    },
    'Shape Gather Reshape',
  ],
  [
    'constant-shapes',
    'leaves an Expand by a size that the input does not have',
    g => {
      const x = g.input('x', ['n']);
      const both = g.op('Concat', [g.op('Shape', [g.input('y', ['m'])]), g.op('Shape', [x])], { axis: 0 });
      return g.op('Expand', [x, both]);
    },
    'Shape Shape Concat Expand',
  ],
  [
    'cancellation',
    'joins two different Transposes in their order',
    g => g.op('Transpose', [g.op('Transpose', [g.input('x', [2, 3, 4])], { perm: [1, 0, 2] })], { perm: [0, 2, 1] }),
    'Transpose',
  ],
  [
    'cancellation',
    'keeps a Slice with a step',
    g => g.op('Exp', [g.op('Slice', [x23(g), g.ints(0), g.ints(2), g.ints(0), g.ints(2)])]),
    'Slice Exp',
  ],
  [
    'cancellation',
    'keeps a Slice that may end before its axis does',
    g => g.op('Exp', [g.op('Slice', [g.input('x', ['n', 3]), g.ints(0), g.ints(1), g.ints(0)])]),
    'Slice Exp',
  ],
  [
    'cancellation',
    'keeps a Reshape whose successor copies a size that has moved',
    g => g.op('Reshape', [g.op('Reshape', [g.input('x', ['n', 3]), g.ints(3, -1)]), g.ints(0, -1, 1)]),
    'Reshape Reshape',
  ],
  [
    'cancellation',
    'keeps a folding that may not be undone',
    g => {
      const rows = g.op('Reshape', [g.input('x', ['n', 'm', 3]), g.ints(-1, 3)]);
      return g.op('Reshape', [g.op('MatMul', [rows, g.weight(3, 4)]), g.ints(-1, 4, 4)]);
    },
    'Reshape MatMul Reshape',
  ],
  ['cancellation', 'keeps Exp of Exp', g => g.op('Exp', [g.op('Exp', [x23(g)])]), 'Exp Exp'],
  [
    'cancellation',
    'keeps a Cast of 32 bits through a float',
    g => g.op('Neg', [g.op('Cast', [g.op('Cast', [g.input('x', [3], 'i32')], { to: 1 })], { to: 6 })]),
    'Cast Cast Neg',
  ],
  [
    'cancellation',
    'keeps a Dropout that trains',
    g => {
      const training = g.builder.constant('training', Tensor.of('bool', true));
      return g.op('Exp', [g.op('Dropout', [x23(g), scalar(g, 0), training])]);
    },
    'Dropout Exp',
  ],
  [
    'cancellation',
    'keeps a Dropout whose mask is read',
    g => g.builder.node({ op: 'Dropout', inputs: [g.op('Neg', [x23(g)])], outputs: ['kept', 'mask'] })[1]!,
    'Neg Dropout',
  ],
  [
    'common-subexpressions',
    'tells opsets apart',
    g => {
      const x = g.input('x', [2, 3, 4]);
      return g.op('Add', [at(g, 11, 'Softmax', [x], { axis: 1 }), at(g, 13, 'Softmax', [x], { axis: 1 })]);
    },
    'Softmax Softmax Add',
  ],
  [
    'common-subexpressions',
    'tells attributes of 0 and -0 apart',
    g => {
      const x = x23(g);
      return g.op('Add', [g.op('LeakyRelu', [x], { alpha: 0 }), g.op('LeakyRelu', [x], { alpha: -0 })]);
    },
    'LeakyRelu LeakyRelu Add',
  ],
  [
    'common-subexpressions',
    'does not mind the order of attributes',
    g => {
      const x = x23(g);
      const [a, b] = [
        { alpha: 0.3, beta: 0.4 },
        { beta: 0.4, alpha: 0.3 },
      ];
      return g.op('Add', [g.op('HardSigmoid', [x], a), g.op('HardSigmoid', [x], b)]);
    },
    'HardSigmoid Add',
  ],
  [
    'layout',
    'leaves operands that are turned in different ways',
    g => {
      const turned = (name: string, perm: readonly number[]): number =>
        g.op('Transpose', [g.input(name, [3, 3, 3])], { perm });
      return g.op('Add', [turned('x', [1, 0, 2]), turned('y', [0, 2, 1])]);
    },
    'Transpose Transpose Add',
  ],
  [
    'layout',
    'leaves parts of a Concat that are turned in different ways',
    g => {
      const turned = (name: string, perm: readonly number[]): number =>
        g.op('Transpose', [g.input(name, [3, 3, 3])], { perm });
      return g.op('Concat', [turned('x', [1, 0, 2]), turned('y', [0, 2, 1])], { axis: 0 });
    },
    'Transpose Transpose Concat',
  ],
  [
    'layout',
    'turns what a reduction leaves in another order',
    g =>
      g.op('ReduceMean', [g.op('Transpose', [g.input('x', [2, 3, 4])], { perm: [2, 0, 1] }), g.ints(1)], {
        keepdims: 0,
      }),
    'ReduceMean Transpose',
  ],
  [
    'layout',
    'leaves a reduction along no axes at all',
    g => g.op('ReduceSum', [g.op('Transpose', [x23(g)]), g.ints()], { noop_with_empty_axes: 1 }),
    'Transpose ReduceSum',
  ],
  [
    'layout',
    'leaves a Softmax over several axes',
    g => at(g, 11, 'Softmax', [g.op('Transpose', [g.input('x', [2, 3, 4])], { perm: [0, 2, 1] })], { axis: 1 }),
    'Transpose Softmax',
  ],
  [
    'layout',
    'leaves a Pad of axes that it names',
    g => {
      const turned = g.op('Transpose', [g.input('x', [2, 3, 4])], { perm: [0, 2, 1] });
      return g.builder.node({ op: 'Pad', inputs: [turned, g.ints(1, 0, 2, 0, 3, 0), undefined, g.ints(2, 0, 1)] })[0]!;
    },
    'Transpose Pad',
  ],
  [
    'layout',
    'leaves an operand that an attribute aligns',
    g => g.op('Add', [g.op('Transpose', [g.input('x', [3, 3])]), g.weight(3)], { broadcast: 1, axis: 0 }),
    'Transpose Add',
    6,
  ],
  [
    'convolution-normalisation',
    'leaves a scale that is no constant',
    g => g.op('BatchNormalization', [conv(g), g.input('scale', [3]), g.weight(3), g.weight(3), positive(g, 3)]),
    'Conv BatchNormalization',
  ],
  [
    'convolution-normalisation',
    'takes the default epsilon',
    g => {
      const tiny = g.builder.constant('tiny', Tensor.of('f32', [1e-5, 2e-5, 3e-5]));
      return g.op('BatchNormalization', [conv(g), g.weight(3), g.weight(3), g.weight(3), tiny]);
    },
    'Add Sqrt Div Reshape Mul Sub Mul Conv',
  ],
  [
    'convolution',
    'adds a bias to the bias that is there',
    g => g.op('Add', [conv(g, g.weight(3)), g.weight(3, 1, 1)]),
    'Reshape Add Conv',
  ],
  [
    'convolution',
    'leaves a sum that may repeat the result',
    g => {
      const x = g.input('x', ['n', 2, 5, 5]);
      return g.op('Add', [g.op('Conv', [x, g.weight(3, 2, 3, 3)]), g.input('z', ['m', 3, 3, 3])]);
    },
    'Conv Add',
  ],
  [
    'convolution',
    'leaves a second activation',
    g => g.op('Tanh', [g.op('Relu', [conv(g)])]),
    'com.microsoft.FusedConv Tanh',
  ],
  [
    'convolution',
    'leaves an activation of what is an output',
    g => {
      const out = conv(g);
      return [g.op('Relu', [out]), out];
    },
    'Conv Relu',
  ],
  [
    'convolution',
    'takes a Clip with one bound',
    g => g.builder.node({ op: 'Clip', inputs: [conv(g), undefined, scalar(g, 0.25)] })[0]!,
    'com.microsoft.FusedConv',
  ],
  ['convolution', 'takes the slope that LeakyRelu has', g => g.op('LeakyRelu', [conv(g)]), 'com.microsoft.FusedConv'],
  [
    'convolution',
    'takes the line that HardSigmoid has',
    g => g.op('HardSigmoid', [conv(g)]),
    'com.microsoft.FusedConv',
  ],
  [
    'product',
    'leaves a second bias',
    g => g.op('Add', [g.op('Gemm', [x23(g), g.weight(3, 4), g.weight(4)]), g.input('b', [4])]),
    'Gemm Add',
  ],
  [
    'product-operands',
    'turns the flags of a Gemm',
    g => {
      const [a, b] = [g.op('Transpose', [g.input('x', [3, 2])]), g.op('Transpose', [g.weight(3, 4)])];
      return g.op('Gemm', [a, b], { transB: 1 });
    },
    'Gemm',
  ],
  [
    'product-operands',
    'leaves a turn of the leading axes',
    g => {
      const keys = g.op('Transpose', [g.input('k', [2, 2, 5, 4])], { perm: [1, 0, 3, 2] });
      return g.op('MatMul', [g.input('q', [2, 2, 3, 4]), keys]);
    },
    'Transpose MatMul',
  ],
  [
    'layer-normalisation',
    'takes no mean off that is along another axis',
    g => {
      const x = g.input('x', [2, 3, 4]);
      const [centred, root] = deviation(g, x, x, 1);
      return g.op('Div', [centred, root]);
    },
    'ReduceMean Sub RMSNormalization',
  ],
  [
    'layer-normalisation',
    'takes no mean off that is of something else',
    g => {
      const [centred, root] = deviation(g, g.input('x', [2, 3, 4]), g.input('y', [2, 3, 4]), -1);
      return g.op('Div', [centred, root]);
    },
    'ReduceMean Sub RMSNormalization',
  ],
  [
    'layer-normalisation',
    'leaves a deviation of something else',
    g => {
      const x = g.input('x', [2, 3, 4]);
      return g.op('Div', [x, deviation(g, x, x, -1)[1]]);
    },
    'ReduceMean Sub Pow ReduceMean Add Sqrt Div',
  ],
  [
    'layer-normalisation',
    'leaves a second scale',
    g => {
      const x = g.input('x', [2, 3, 4]);
      const normal = g.op('Div', [...deviation(g, x, x, -1)]);
      return g.op('Mul', [g.op('Mul', [normal, g.weight(4)]), g.weight(4)]);
    },
    'LayerNormalization Mul',
  ],
  [
    'layer-normalisation',
    'leaves a scale of more axes than are normalised',
    g => {
      const x = g.input('x', [2, 3, 4]);
      return g.op('Mul', [g.op('Div', [...deviation(g, x, x, -1)]), g.weight(3, 4)]);
    },
    'LayerNormalization Mul',
  ],
  [
    'layer-normalisation',
    'leaves a product of something else, as TensorFlow writes it',
    g => tensorflow(g, g.input('y', [2, 3, 4])),
    'ReduceMean Sub Mul ReduceMean Add Sqrt Reciprocal Mul Mul Sub Mul Add',
  ],
  [
    'layer-normalisation',
    'leaves another mean, as TensorFlow writes it',
    g => tensorflow(g, undefined, g.input('m', [2, 3, 1])),
    'ReduceMean Sub Mul ReduceMean Add Sqrt Reciprocal Mul Mul Sub Mul Add',
  ],
  [
    'softmax',
    'leaves a sum of something else',
    g => {
      const x = x23(g);
      const power = g.op('Exp', [g.op('Sub', [x, g.op('ReduceMax', [x, g.ints(1)])])]);
      return g.op('Div', [power, g.op('ReduceSum', [g.op('Exp', [g.input('y', [2, 3])]), g.ints(1)])]);
    },
    'ReduceMax Sub Exp Exp ReduceSum Div',
  ],
  [
    'softmax',
    'leaves sums that meet other rows',
    g => {
      const x = g.input('x', [3, 3]);
      const along = (op: string, id: number): number => g.op(op, [id, g.ints(1)], { keepdims: 0 });
      const power = g.op('Exp', [g.op('Sub', [x, along('ReduceMax', x)])]);
      return g.op('Div', [power, along('ReduceSum', power)]);
    },
    'ReduceMax Sub Exp ReduceSum Div',
  ],
  [
    'activations',
    'leaves a gate that is an output',
    g => {
      const x = x23(g);
      const gate = g.op('Sigmoid', [x]);
      return [g.op('Mul', [x, gate]), gate];
    },
    'Sigmoid Mul',
  ],
  [
    'activations',
    'leaves a Swish twice as large',
    g => g.op('Mul', [g.op('Mul', [x23(g), scalar(g, 2)]), g.op('Sigmoid', [0])]),
    'Mul Sigmoid Mul',
  ],
  [
    'activations',
    'leaves the line that HardSigmoid has by itself',
    g => g.op('Mul', [x23(g), g.op('HardSigmoid', [0])]),
    'HardSigmoid Mul',
  ],
  [
    'activations',
    'recovers HardSwish from the line that it has',
    g => g.op('Mul', [x23(g), g.op('HardSigmoid', [0], { alpha: 1 / 6 })]),
    'HardSwish',
  ],
  ['activations', 'leaves a HardSwish with another bound', g => hardSwish(g, 5), 'Add Clip Mul Div'],
  [
    'activations',
    'leaves a Mish of something else',
    g => g.op('Mul', [x23(g), g.op('Tanh', [g.op('Softplus', [g.input('y', [2, 3])])])]),
    'Softplus Tanh Mul',
  ],
  ['activations', 'leaves half a Gelu', g => geluErf(g, 0.25, Math.SQRT1_2), 'Mul Erf Add Mul Mul'],
  [
    'activations',
    'leaves a Gelu with a constant that is nearly right',
    g => geluErf(g, 0.5, 0.7072),
    'Mul Erf Add Mul Mul',
  ],
  ['activations', 'leaves a tanh of another factor', g => geluTanh(g, 0.5), 'Pow Mul Add Mul Tanh Add Mul Mul'],
  [
    'attention',
    'takes the factor of the queries',
    g => attention(g, { query: q => g.op('Mul', [q, scalar(g, 0.3)]) }),
    'Attention',
  ],
  [
    'attention',
    'turns keys that come with their heads behind',
    g => attention(g, { key: g.op('Transpose', [g.input('k', [2, 3, 2, 4])], { perm: [0, 2, 3, 1] }) }),
    'Transpose Attention',
  ],
  [
    'attention',
    'leaves a mask that is spread over the keys',
    g => attention(g, { mask: g.input('mask', [2, 1, 3, 1]) }),
    'Transpose MatMul Add Softmax MatMul',
  ],
  [
    'attention',
    'leaves a softmax over several axes',
    g => attention(g, { softmax: scores => at(g, 11, 'Softmax', [scores]) }),
    'Transpose MatMul Softmax MatMul',
  ],
  [
    'elementwise-chains',
    'leaves what broadcasts by an older rule',
    g => g.op('Tanh', [g.op('Neg', [x23(g)])]),
    'Neg Tanh',
    6,
  ],
  [
    'elementwise-chains',
    'leaves halves, which are rounded after each node',
    g => g.op('Tanh', [g.op('Neg', [g.input('x', [2, 3], 'f16')])]),
    'Neg Tanh',
  ],
  [
    'elementwise-chains',
    'begins anew after 64 nodes',
    g => {
      let last = x23(g);
      for (let i = 0; i < 100; i++) last = g.op('Tanh', [last]);
      return last;
    },
    'cloister.Chain cloister.Chain',
  ],
];

describe('the conditions of passes', () => {
  test.each(CONDITIONS.map(row => [row[0], row[1], row] as const))('%s: %s', (pass, _, [, , build, left, opset]) => {
    expect(leftOf(pass, graphOf(build, opset))).toBe(left);
  });
});

/** `graph` with defaults for inputs, which callers may override. */
function withDefaults(graph: Graph, defaults: Readonly<Record<string, Tensor>>): Graph {
  const constants = new Map(graph.constants);
  for (const id of graph.inputs) {
    const tensor = defaults[graph.values[id]!.name];
    if (tensor) constants.set(id, { kind: 'inline', tensor });
  }
  return { ...graph, constants };
}

describe('an input with a default', () => {
  const run = (name: string, graph: Graph): Graph => PASSES.find(pass => pass.name === name)!.run(graph, {}).graph;
  const one = Tensor.of('f32', 1);

  test('is not folded', () => {
    const graph = graphOf(g => g.op('Add', [x23(g), g.op('Neg', [g.input('c', [])])]));
    expect(ops(run('constant-folding', withDefaults(graph, { c: one })))).toBe('Neg Add');
  });

  test('is not shared with another of the same default', () => {
    const graph = graphOf(g => {
      const x = x23(g);
      return g.op('Add', [g.op('Mul', [x, g.input('a', [])]), g.op('Mul', [x, g.input('b', [])])]);
    });
    expect(ops(run('common-subexpressions', withDefaults(graph, { a: one, b: one })))).toBe('Mul Mul Add');
  });

  test('keeps its default where nothing reads it', () => {
    const graph = graphOf(g => {
      g.input('unused', []);
      const [kept] = [g.op('Neg', [x23(g)]), g.op('Exp', [1])];
      return kept!;
    });
    const left = run('dead-code', withDefaults(graph, { unused: one }));
    expect(ops(left)).toBe('Neg');
    expect([...left.constants.keys()]).toEqual([left.inputs[0]]);
  });
});

test('the pipeline asks the target for what it lowers to, and for nothing else', () => {
  const dtypes = new Set<DType | undefined>();
  const asked = new Set<string>();
  const graph = graphOf(g => g.op('Mul', [g.op('Neg', [g.op('Neg', [x23(g)])]), g.op('Sigmoid', [0])]));
  const { graph: left } = optimise(graph, {
    supports: (node, inputs) => {
      asked.add(node.op);
      for (const facts of inputs) dtypes.add(facts?.dtype);
      return false;
    },
  });
  expect(ops(left)).toBe('Sigmoid Mul');
  expect([...asked].sort()).toEqual(['Chain', 'Swish']);
  expect([...dtypes]).toEqual(['f32']);
});
