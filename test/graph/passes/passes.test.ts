import { describe, expect, test } from 'vitest';
import { isCloisterError } from '../../../src/base/index.ts';
import { type Graph, GraphBuilder, inferFacts, optimise, PASSES } from '../../../src/graph/index.ts';
import { Tensor } from '../../../src/tensor/index.ts';
import { Sketch } from '../../native/program-seeds.ts';
import { type Build, graphOf, leftOf, ops, positive, scalar, x23 } from './left-of.ts';

/** A pass, what it meets, and the operators that are left of it. */
const CASES: readonly (readonly [pass: string, claim: string, build: Build, left: string])[] = [
  // ---- declutter
  ['dead-code', 'drops what no output needs', g => [g.op('Neg', [x23(g)]), g.op('Exp', [0])].slice(0, 1), 'Neg'],
  ['dead-code', 'keeps what an output needs', g => g.op('Neg', [g.op('Exp', [x23(g)])]), 'Exp Neg'],
  [
    'constant-folding',
    'computes on constants',
    g => g.op('Add', [x23(g), g.op('Mul', [g.weight(3), g.weight(3)])]),
    'Add',
  ],
  ['constant-folding', 'leaves what depends on an input', g => g.op('Add', [x23(g), g.weight(3)]), 'Add'],
  [
    'constant-folding',
    'leaves what is too large',
    g => g.op('Add', [g.input('x', [1]), g.op('Neg', [g.weight(200, 100)])]),
    'Neg Add',
  ],
  [
    'constant-shapes',
    'fixes a shape whose sizes the input has',
    g => {
      const x = g.input('x', ['n', 6]);
      const n = g.op('Slice', [g.op('Shape', [x]), g.ints(0), g.ints(1)]);
      return g.op('Reshape', [x, g.op('Concat', [n, g.ints(2, 3)], { axis: 0 })]);
    },
    'Reshape',
  ],
  [
    'constant-shapes',
    'leaves a shape of two sizes that are free',
    g => {
      const x = g.input('x', ['n', 'm', 4]);
      const shape = g.op('Shape', [x]);
      const turned = g.op('Gather', [shape, g.ints(1, 0, 2)]);
      return g.op('Reshape', [x, turned]);
    },
    'Shape Gather Reshape',
  ],
  ['cancellation', 'drops Identity', g => g.op('Neg', [g.op('Identity', [x23(g)])]), 'Neg'],
  [
    'cancellation',
    'gives the name of an output to what it stands for',
    g => g.op('Identity', [g.op('Neg', [x23(g)])]),
    'Neg',
  ],
  ['cancellation', 'keeps an Identity from input to output', g => g.op('Identity', [x23(g)]), 'Identity'],
  [
    'cancellation',
    'drops Transposes that undo each other',
    g => g.op('Neg', [g.op('Transpose', [g.op('Transpose', [x23(g)])])]),
    'Neg',
  ],
  [
    'cancellation',
    'joins Transposes that do not',
    g => g.op('Transpose', [g.op('Transpose', [g.input('x', [2, 3, 4])], { perm: [1, 2, 0] })], { perm: [1, 2, 0] }),
    'Transpose',
  ],
  ['cancellation', 'drops Neg of Neg', g => g.op('Exp', [g.op('Neg', [g.op('Neg', [x23(g)])])]), 'Exp'],
  [
    'cancellation',
    'drops Unsqueeze and its Squeeze',
    g => g.op('Exp', [g.op('Squeeze', [g.op('Unsqueeze', [x23(g), g.ints(1)]), g.ints(1)])]),
    'Exp',
  ],
  [
    'cancellation',
    'joins Reshapes',
    g => g.op('Reshape', [g.op('Reshape', [x23(g), g.ints(6)]), g.ints(3, 2)]),
    'Reshape',
  ],
  [
    'cancellation',
    'keeps a Reshape whose successor copies sizes',
    g => g.op('Reshape', [g.op('Reshape', [x23(g), g.ints(3, 2)]), g.ints(0, 1, 2)]),
    'Reshape Reshape',
  ],
  ['cancellation', 'drops a product with 1', g => g.op('Exp', [g.op('Mul', [x23(g), scalar(g, 1)])]), 'Exp'],
  [
    'cancellation',
    'keeps a product with 1 that broadcasts',
    g => g.op('Exp', [g.op('Mul', [x23(g), g.builder.constant('ones', Tensor.of('f32', [[[1]]]))])]),
    'Mul Exp',
  ],
  [
    'cancellation',
    'keeps a sum with 0, which turns -0 into 0',
    g => g.op('Add', [g.op('Neg', [x23(g)]), scalar(g, 0)]),
    'Neg Add',
  ],
  [
    'cancellation',
    'drops a sum with -0 and a difference with 0',
    g => g.op('Exp', [g.op('Sub', [g.op('Add', [x23(g), scalar(g, -0)]), scalar(g, 0)])]),
    'Exp',
  ],
  ['cancellation', 'keeps a difference with -0', g => g.op('Exp', [g.op('Sub', [x23(g), scalar(g, -0)])]), 'Sub Exp'],
  [
    'cancellation',
    'drops a Slice of everything',
    g => g.op('Exp', [g.op('Slice', [x23(g), g.ints(0, 0), g.ints(2, 2 ** 40)])]),
    'Exp',
  ],
  [
    'cancellation',
    'keeps a Slice backwards',
    g => g.op('Exp', [g.op('Slice', [x23(g), g.ints(-1), g.ints(-100), g.ints(0), g.ints(-1)])]),
    'Slice Exp',
  ],
  ['cancellation', 'drops a Pad of nothing', g => g.op('Exp', [g.op('Pad', [x23(g), g.ints(0, 0, 0, 0)])]), 'Exp'],
  ['cancellation', 'drops a Cast to the same dtype', g => g.op('Exp', [g.op('Cast', [x23(g)], { to: 1 })]), 'Exp'],
  [
    'cancellation',
    'drops a Cast there and back that loses nothing',
    g => g.op('Exp', [g.op('Cast', [g.op('Cast', [x23(g)], { to: 11 })], { to: 1 })]),
    'Exp',
  ],
  [
    'cancellation',
    'keeps a Cast there and back that loses something',
    g => g.op('Cast', [g.op('Cast', [x23(g)], { to: 6 })], { to: 1 }),
    'Cast Cast',
  ],
  ['cancellation', 'drops Dropout', g => g.op('Exp', [g.op('Dropout', [x23(g)])]), 'Exp'],
  [
    'cancellation',
    'drops the folding of rows around a product',
    g => {
      const rows = g.op('Reshape', [g.input('x', ['n', 5, 3]), g.ints(-1, 3)]);
      return g.op('Reshape', [g.op('MatMul', [rows, g.weight(3, 4)]), g.ints(-1, 5, 4)]);
    },
    'MatMul',
  ],
  [
    'cancellation',
    'keeps a folding that is not undone',
    g => {
      const rows = g.op('Reshape', [g.input('x', [2, 5, 3]), g.ints(-1, 3)]);
      return g.op('Reshape', [g.op('MatMul', [rows, g.weight(3, 4)]), g.ints(5, 2, 4)]);
    },
    'Reshape MatMul Reshape',
  ],
  [
    'common-subexpressions',
    'computes twins once',
    g => g.op('Add', [g.op('Exp', [x23(g)]), g.op('Exp', [0])]),
    'Exp Add',
  ],
  [
    'common-subexpressions',
    'sees twins over equal constants',
    g => {
      const x = x23(g);
      return g.op('Add', [g.op('Mul', [x, scalar(g, 3)]), g.op('Mul', [x, scalar(g, 3)])]);
    },
    'Mul Add',
  ],
  [
    'common-subexpressions',
    'copies an output that is there twice',
    g => [g.op('Exp', [x23(g)]), g.op('Exp', [0])],
    'Exp Identity',
  ],
  [
    'common-subexpressions',
    'tells attributes apart',
    g => g.op('Add', [g.op('Softmax', [x23(g)], { axis: 0 }), g.op('Softmax', [0], { axis: 1 })]),
    'Softmax Softmax Add',
  ],
  [
    'common-subexpressions',
    'tells 0 and -0 apart',
    g => {
      const x = x23(g);
      return g.op('Add', [g.op('Div', [x, scalar(g, 0)]), g.op('Div', [x, scalar(g, -0)])]);
    },
    'Div Div Add',
  ],
  [
    'layout',
    'moves a Transpose behind what works element by element',
    g => g.op('Relu', [g.op('Transpose', [x23(g)])]),
    'Relu Transpose',
  ],
  [
    'layout',
    'leaves a Transpose that is needed twice',
    g => {
      const turned = g.op('Transpose', [x23(g)]);
      return [g.op('Relu', [turned]), g.op('Exp', [turned])];
    },
    'Transpose Relu Exp',
  ],
  [
    'layout',
    'joins the Transposes of two operands',
    g => g.op('Add', [g.op('Transpose', [x23(g)]), g.op('Transpose', [g.input('y', [2, 3])])]),
    'Add Transpose',
  ],
  [
    'layout',
    'leaves an operand that is not transposed',
    g => g.op('Add', [g.op('Transpose', [x23(g)]), g.input('y', [3, 2])]),
    'Transpose Add',
  ],
  [
    'layout',
    'puts a bias where the channels are',
    g => g.op('Add', [g.op('Transpose', [g.input('x', [1, 3, 4, 5])], { perm: [0, 2, 3, 1] }), g.weight(3)]),
    'Reshape Add Transpose',
  ],
  [
    'layout',
    'needs no Transpose after a mean over all it moved',
    g =>
      g.op('ReduceMean', [g.op('Transpose', [g.input('x', [1, 3, 4, 5])], { perm: [0, 2, 3, 1] }), g.ints(1, 2)], {
        keepdims: 0,
      }),
    'ReduceMean',
  ],
  [
    'layout',
    'moves a Transpose behind Concat and Pad',
    g => {
      const turn = (id: number): number => g.op('Transpose', [id], { perm: [0, 2, 1] });
      const both = g.op('Concat', [turn(g.input('x', [1, 2, 3])), turn(g.input('y', [1, 4, 3]))], { axis: 2 });
      return g.op('Pad', [both, g.ints(0, 1, 2, 0, 0, 3)]);
    },
    'Concat Pad Transpose',
  ],
  // ---- lower
  [
    'convolution-normalisation',
    'takes a normalisation into the weights',
    g => {
      const conv = g.op('Conv', [g.input('x', [1, 2, 5, 5]), g.weight(3, 2, 3, 3), g.weight(3)]);
      return g.op('BatchNormalization', [conv, g.weight(3), g.weight(3), g.weight(3), positive(g, 3)]);
    },
    'Add Sqrt Div Reshape Sub Mul Add Mul Conv',
  ],
  [
    'convolution-normalisation',
    'leaves a convolution that something else needs',
    g => {
      const conv = g.op('Conv', [g.input('x', [1, 2, 5, 5]), g.weight(3, 2, 3, 3)]);
      return [
        g.op('BatchNormalization', [conv, g.weight(3), g.weight(3), g.weight(3), positive(g, 3)]),
        g.op('Neg', [conv]),
      ];
    },
    'Conv BatchNormalization Neg',
  ],
  [
    'softmax',
    'recovers Softmax',
    g => {
      const x = x23(g);
      const power = g.op('Exp', [g.op('Sub', [x, g.op('ReduceMax', [x, g.ints(1)])])]);
      return g.op('Div', [power, g.op('ReduceSum', [power, g.ints(1)])]);
    },
    'Softmax',
  ],
  [
    'softmax',
    'leaves one whose axes differ',
    g => {
      const x = x23(g);
      const power = g.op('Exp', [g.op('Sub', [x, g.op('ReduceMax', [x, g.ints(0)])])]);
      return g.op('Div', [power, g.op('ReduceSum', [power, g.ints(1)])]);
    },
    'ReduceMax Sub Exp ReduceSum Div',
  ],
  [
    'softmax',
    'leaves one that may overflow',
    g => {
      const power = g.op('Exp', [x23(g)]);
      return g.op('Div', [power, g.op('ReduceSum', [power, g.ints(1)])]);
    },
    'Exp ReduceSum Div',
  ],
  [
    'activations',
    'recovers Gelu from erf',
    g => {
      const x = x23(g);
      const gate = g.op('Add', [scalar(g, 1), g.op('Erf', [g.op('Mul', [x, scalar(g, Math.SQRT1_2)])])]);
      return g.op('Mul', [g.op('Mul', [scalar(g, 0.5), x]), gate]);
    },
    'Gelu',
  ],
  [
    'activations',
    'leaves a Gelu with another constant',
    g => {
      const x = x23(g);
      const gate = g.op('Add', [scalar(g, 1), g.op('Erf', [g.op('Mul', [x, scalar(g, 0.7)])])]);
      return g.op('Mul', [g.op('Mul', [scalar(g, 0.5), x]), gate]);
    },
    'Mul Erf Add Mul Mul',
  ],
  [
    'activations',
    'recovers Gelu from tanh',
    g => {
      const x = x23(g);
      const cube = g.op('Mul', [g.op('Pow', [x, scalar(g, 3)]), scalar(g, 0.044715)]);
      const inner = g.op('Mul', [g.op('Add', [x, cube]), scalar(g, Math.sqrt(2 / Math.PI))]);
      return g.op('Mul', [g.op('Mul', [x, g.op('Add', [g.op('Tanh', [inner]), scalar(g, 1)])]), scalar(g, 0.5)]);
    },
    'Gelu',
  ],
  [
    'activations',
    'recovers Gelu from tanh, x taken out',
    g => {
      const x = x23(g);
      const square = g.op('Mul', [g.op('Mul', [x, scalar(g, 0.044715)]), x]);
      const inner = g.op('Mul', [
        g.op('Mul', [x, scalar(g, Math.sqrt(2 / Math.PI))]),
        g.op('Add', [square, scalar(g, 1)]),
      ]);
      return g.op('Mul', [g.op('Mul', [x, scalar(g, 0.5)]), g.op('Add', [g.op('Tanh', [inner]), scalar(g, 1)])]);
    },
    'Gelu',
  ],
  [
    'activations',
    'leaves a Gelu of another square',
    g => {
      const x = x23(g);
      const cube = g.op('Mul', [g.op('Pow', [x, scalar(g, 2)]), scalar(g, 0.044715)]);
      const inner = g.op('Mul', [g.op('Add', [x, cube]), scalar(g, Math.sqrt(2 / Math.PI))]);
      return g.op('Mul', [g.op('Mul', [x, g.op('Add', [g.op('Tanh', [inner]), scalar(g, 1)])]), scalar(g, 0.5)]);
    },
    'Pow Mul Add Mul Tanh Add Mul Mul',
  ],
  [
    'activations',
    'recovers Swish and its factor',
    g => g.op('Mul', [x23(g), g.op('Sigmoid', [g.op('Mul', [0, scalar(g, 1.702)])])]),
    'Swish',
  ],
  [
    'activations',
    'leaves a gate of something else',
    g => g.op('Mul', [x23(g), g.op('Sigmoid', [g.input('y', [2, 3])])]),
    'Sigmoid Mul',
  ],
  [
    'activations',
    'recovers HardSwish',
    g => {
      const x = x23(g);
      return g.op('Div', [
        g.op('Mul', [x, g.op('Clip', [g.op('Add', [x, scalar(g, 3)]), scalar(g, 0), scalar(g, 6)])]),
        scalar(g, 6),
      ]);
    },
    'HardSwish',
  ],
  ['activations', 'recovers Mish', g => g.op('Mul', [x23(g), g.op('Tanh', [g.op('Softplus', [0])])]), 'Mish'],
  [
    'layer-normalisation',
    'recovers LayerNormalization as PyTorch writes it',
    g => layerNorm(g, [-1], 1e-5),
    'LayerNormalization',
  ],
  [
    'layer-normalisation',
    'recovers LayerNormalization over two axes',
    g => layerNorm(g, [1, 2], 1e-5),
    'LayerNormalization',
  ],
  [
    'layer-normalisation',
    'leaves a normalisation of leading axes',
    g => layerNorm(g, [0], 1e-5),
    'ReduceMean Sub Pow ReduceMean Add Sqrt Div Mul Add',
  ],
  [
    'layer-normalisation',
    'recovers LayerNormalization as TensorFlow writes it',
    g => {
      const x = g.input('x', [2, 3, 4]);
      const mean = g.op('ReduceMean', [x, g.ints(-1)]);
      const off = g.op('Sub', [x, mean]);
      const variance = g.op('ReduceMean', [g.op('Mul', [off, off]), g.ints(-1)]);
      const inverse = g.op('Reciprocal', [g.op('Sqrt', [g.op('Add', [variance, scalar(g, 1e-3)])])]);
      const scaled = g.op('Mul', [inverse, g.weight(4)]);
      return g.op('Add', [g.op('Mul', [x, scaled]), g.op('Sub', [g.weight(4), g.op('Mul', [mean, scaled])])]);
    },
    'LayerNormalization',
  ],
  [
    'layer-normalisation',
    'recovers RMSNormalization',
    g => {
      const x = g.input('x', [2, 3, 4]);
      const mean = g.op('ReduceMean', [g.op('Pow', [x, scalar(g, 2)]), g.ints(-1)]);
      const inverse = g.op('Reciprocal', [g.op('Sqrt', [g.op('Add', [mean, scalar(g, 1e-6)])])]);
      return g.op('Mul', [g.weight(4), g.op('Mul', [x, inverse])]);
    },
    'RMSNormalization',
  ],
  [
    'layer-normalisation',
    'leaves a root of another power',
    g => {
      const x = g.input('x', [2, 3, 4]);
      const mean = g.op('ReduceMean', [g.op('Pow', [x, scalar(g, 4)]), g.ints(-1)]);
      return g.op('Div', [x, g.op('Sqrt', [g.op('Add', [mean, scalar(g, 1e-6)])])]);
    },
    'Pow ReduceMean Add Sqrt Div',
  ],
  ['attention', 'recovers attention with a mask', g => attention(g, true, -1), 'Attention'],
  ['attention', 'recovers attention without a mask', g => attention(g, false, 3), 'Attention'],
  ['attention', 'leaves a softmax over queries', g => attention(g, true, 2), 'Transpose MatMul Div Add Softmax MatMul'],
  [
    'attention',
    'leaves weights that something else needs',
    g => {
      const out = attention(g, false, -1);
      return [out, g.op('Neg', [out - 1])];
    },
    'Transpose MatMul Div Softmax MatMul Neg',
  ],
  [
    'convolution',
    'takes bias and activation',
    g => {
      const conv = g.op('Conv', [g.input('x', [1, 2, 5, 5]), g.weight(3, 2, 3, 3)]);
      return g.op('Relu', [g.op('Add', [conv, g.weight(3, 1, 1)])]);
    },
    'Reshape com.microsoft.FusedConv',
  ],
  [
    'convolution',
    'takes a sum with another tensor, then an activation',
    g => {
      const conv = g.op('Conv', [g.input('x', [1, 2, 5, 5]), g.weight(3, 2, 3, 3)]);
      return g.op('Relu', [g.op('Add', [conv, g.input('z', [1, 3, 3, 3])])]);
    },
    'com.microsoft.FusedConv',
  ],
  [
    'convolution',
    'leaves a sum along the width',
    g => {
      const conv = g.op('Conv', [g.input('x', [1, 2, 5, 5]), g.weight(3, 2, 3, 3)]);
      return g.op('Add', [conv, g.weight(3)]);
    },
    'Conv Add',
  ],
  [
    'product',
    'takes bias and activation',
    g => g.op('Relu', [g.op('Add', [g.op('MatMul', [x23(g), g.weight(3, 4)]), g.weight(4)])]),
    'com.microsoft.FusedGemm',
  ],
  [
    'product',
    'leaves a product of three axes',
    g => g.op('Add', [g.op('MatMul', [g.input('x', [2, 2, 3]), g.weight(3, 4)]), g.weight(4)]),
    'MatMul Add',
  ],
  [
    'product',
    'leaves a sum that makes the result larger',
    g => g.op('Add', [g.op('MatMul', [g.input('x', [1, 3]), g.weight(3, 4)]), g.weight(5, 4)]),
    'MatMul Add',
  ],
  [
    'product-operands',
    'takes a swap of the last axes, and a factor',
    g => {
      const keys = g.op('Transpose', [g.input('k', [2, 4, 3])], { perm: [0, 2, 1] });
      return g.op('Div', [g.op('MatMul', [g.input('q', [2, 5, 3]), keys]), scalar(g, 8)]);
    },
    'com.microsoft.FusedMatMul',
  ],
  [
    'product-operands',
    'leaves a turn of three axes',
    g => {
      const keys = g.op('Transpose', [g.input('k', [4, 3, 2])], { perm: [2, 1, 0] });
      return g.op('MatMul', [g.input('q', [2, 5, 3]), keys]);
    },
    'Transpose MatMul',
  ],
  [
    'elementwise-chains',
    'joins neighbours that broadcast',
    g => g.op('Tanh', [g.op('Mul', [g.op('Add', [x23(g), g.weight(3)]), g.weight(2, 1)])]),
    'cloister.Chain',
  ],
  [
    'elementwise-chains',
    'leaves an inner result that is smaller',
    g => g.op('Add', [x23(g), g.op('Exp', [g.input('y', [3])])]),
    'Exp Add',
  ],
  [
    'elementwise-chains',
    'leaves an inner result that is an output',
    g => {
      const inner = g.op('Exp', [x23(g)]);
      return [inner, g.op('Neg', [inner])];
    },
    'Exp Neg',
  ],
];

function layerNorm(g: Sketch, axes: readonly number[], epsilon: number): number {
  const x = g.input('x', [2, 3, 4]);
  const mean = (id: number): number => g.op('ReduceMean', [id, g.ints(...axes)]);
  const off = g.op('Sub', [x, mean(x)]);
  const deviation = g.op('Sqrt', [g.op('Add', [mean(g.op('Pow', [off, scalar(g, 2)])), scalar(g, epsilon)])]);
  return g.op('Add', [g.op('Mul', [g.op('Div', [off, deviation]), g.weight(4)]), g.weight(4)]);
}

function attention(g: Sketch, masked: boolean, axis: number): number {
  const [q, k, v] = ['q', 'k', 'v'].map(name => g.input(name, [2, 2, 3, 4])) as [number, number, number];
  const mask = masked ? g.input('mask', [2, 1, 1, 3]) : undefined;
  const product = g.op('MatMul', [q, g.op('Transpose', [k], { perm: [0, 1, 3, 2] })]);
  const scores = g.op('Div', [product, scalar(g, 2)]);
  const weights = g.op('Softmax', [mask === undefined ? scores : g.op('Add', [scores, mask])], { axis });
  return g.op('MatMul', [weights, v]);
}

describe('passes', () => {
  test.each(CASES)('%s: %s', (pass, _, build, left) => {
    expect(leftOf(pass, graphOf(build))).toBe(left);
  });

  test('every pass has a case in which it fires and one in which it does not', () => {
    const tried = new Set(CASES.map(([pass]) => pass));
    const elsewhere = ['shape-inference', 'constant-branches', 'quantised-operators'];
    expect(PASSES.map(pass => pass.name).filter(name => !tried.has(name) && !elsewhere.includes(name))).toEqual([]);
  });

  test('constant-folding rounds half-precision numbers as a run does', () => {
    const g = new Sketch('halves');
    const half = (name: string, value: number): number => g.builder.constant(name, Tensor.of('f16', [value]));
    const product = g.op('Mul', [g.op('Add', [half('a', 1.001), half('b', 2049)]), half('c', 3)]);
    expect(leftOf('constant-folding', g.build(g.op('Add', [g.input('x', [2], 'f16'), product])))).toBe('Add');
  });

  test('shape-inference learns what constants say by now, and nothing twice', () => {
    const g = new Sketch('late');
    const graph = g.build(g.op('Reshape', [g.input('x', ['n', 4]), g.ints(-1, 2)]));
    const pass = PASSES[0]!;
    const vague: Graph = {
      ...graph,
      values: graph.values.map((value, id) =>
        graph.outputs.includes(id) ? { ...value, facts: { dtype: 'f32', shape: ['?7', '?8'] } } : value,
      ),
    };
    const learnt = pass.run(vague, {});
    expect(learnt.rewrites).toBe(1);
    expect(learnt.graph.values[graph.outputs[0]!]!.facts.shape).toEqual(['2*n', 2]);
    expect(pass.run(learnt.graph, {})).toEqual({ graph: learnt.graph, rewrites: 0 });
  });

  test('shape-inference learns that two sizes are one', () => {
    const graph = graphOf(g => g.op('Neg', [g.input('x', ['n', 'n'])]));
    const vague: Graph = {
      ...graph,
      values: graph.values.map((value, id) =>
        graph.outputs.includes(id) ? { ...value, facts: { dtype: 'f32', shape: ['?1', '?2'] } } : value,
      ),
    };
    const learnt = PASSES[0]!.run(vague, {});
    expect(learnt.rewrites).toBe(1);
    expect(learnt.graph.values[graph.outputs[0]!]!.facts.shape).toEqual(['n', 'n']);
  });

  /** `y = condition ? exp(x) : x`, the condition a constant or an input. */
  function conditional(known: boolean | undefined): Graph {
    const branch = (name: string, op: string): Graph => {
      const b = new GraphBuilder(name, { opset: 18 });
      const inner = b.input('captured', { dtype: 'f32', shape: ['n'] });
      b.output(b.node({ op, inputs: [inner], outputs: ['inner'] })[0]!);
      return b.build();
    };
    const b = new GraphBuilder('conditional', { opset: 18 });
    const x = b.input('x', { dtype: 'f32', shape: ['n'] });
    const condition =
      known === undefined ? b.input('c', { dtype: 'bool', shape: [] }) : b.constant('c', Tensor.of('bool', known));
    const attributes = { then_branch: branch('then', 'Exp'), else_branch: branch('else', 'Identity') };
    const made = b.node({ op: 'If', inputs: [condition, x], outputs: ['picked'], attributes })[0]!;
    b.output(b.node({ op: 'Neg', inputs: [made], outputs: ['y'] })[0]!);
    return b.build();
  }

  test.each([
    [true, 'Exp Neg'],
    [false, 'Identity Neg'],
    [undefined, 'If Neg'],
  ])('constant-branches: a condition of %s leaves %s', (known, left) => {
    expect(leftOf('constant-branches', conditional(known))).toBe(left);
  });

  test('constant-branches: what a branch captures may be its output, and the output of the graph', () => {
    const b = new GraphBuilder('pass through', { opset: 18 });
    const inner = new GraphBuilder('same', { opset: 18 });
    inner.output(inner.input('captured', { dtype: 'f32', shape: [2] }));
    const same = inner.build();
    const x = b.input('x', { dtype: 'f32', shape: [2] });
    const yes = b.constant('yes', Tensor.of('bool', true));
    b.output(
      b.node({ op: 'If', inputs: [yes, x], outputs: ['y'], attributes: { then_branch: same, else_branch: same } })[0]!,
    );
    expect(leftOf('constant-branches', b.build())).toBe('Identity');
  });

  test('constant-branches: what a branch captures keeps its place', () => {
    const b = new GraphBuilder('difference', { opset: 18 });
    const [x, y] = ['x', 'y'].map(name => b.input(name, { dtype: 'f32', shape: [2] })) as [number, number];
    const inner = new GraphBuilder('branch', { opset: 18, within: b });
    const [first, second] = [inner.capture(x), inner.capture(y)];
    inner.output(inner.node({ op: 'Sub', inputs: [first, second], outputs: ['difference'] })[0]!);
    const branch = inner.build();
    const yes = b.constant('yes', Tensor.of('bool', true));
    const attributes = { then_branch: branch, else_branch: branch };
    b.output(b.node({ op: 'If', inputs: [yes, x, y], outputs: ['z'], attributes })[0]!);
    expect(leftOf('constant-branches', b.build())).toBe('Sub');
  });

  test('cancellation keeps a Squeeze of whatever turns out to be 1', () => {
    const graph = graphOf(g => g.op('Exp', [g.op('Squeeze', [g.op('Unsqueeze', [g.input('x', ['n']), g.ints(0)])])]));
    expect(leftOf('cancellation', graph)).toBe('Unsqueeze Squeeze Exp');
    expect(
      leftOf(
        'cancellation',
        graphOf(g => g.op('Exp', [g.op('Squeeze', [g.op('Unsqueeze', [g.input('x', [3]), g.ints(0)])])])),
      ),
    ).toBe('Exp');
  });

  test('attention leaves keys that are the same for all of a batch', () => {
    const graph = graphOf(g => {
      const [q, k] = [g.input('q', ['n', 2, 3, 4]), g.input('k', [1, 2, 3, 4])];
      const scores = g.op('MatMul', [q, g.op('Transpose', [k], { perm: [0, 1, 3, 2] })]);
      return g.op('MatMul', [g.op('Softmax', [scores], { axis: -1 }), k]);
    });
    expect(leftOf('attention', graph)).toBe('Transpose MatMul Softmax MatMul');
  });

  test('a constant that callers can override is none', () => {
    const g = new Sketch('overridable');
    const x = x23(g);
    const graph = g.build(g.op('Exp', [g.op('Mul', [x, g.input('one', [])])]));
    const one = graph.inputs[1]!;
    const constants = new Map([[one, { kind: 'inline', tensor: Tensor.of('f32', 1) } as const]]);
    expect(ops(optimise({ ...graph, constants }, { disable: ['elementwise-chains'] }).graph)).toBe('Mul Exp');
  });

  test.each(PASSES.filter(pass => pass.group === 'lower').map(pass => pass.name))(
    '%s does nothing that the target does not take',
    name => {
      const pass = PASSES.find(candidate => candidate.name === name)!;
      for (const [other, , build] of CASES) {
        if (other !== name) continue;
        const graph = inferFacts(graphOf(build));
        const known = new Set(graph.nodes.map(node => `${node.domain}:${node.op}`));
        const supports = (node: { domain: string; op: string }): boolean => known.has(`${node.domain}:${node.op}`);
        const left = pass.run(graph, { supports }).graph;
        expect(left.nodes.every(node => supports(node))).toBe(true);
        expect(ops(pass.run(graph, { supports: () => false }).graph)).toBe(ops(graph));
      }
    },
  );
});

describe('the pipeline', () => {
  test('lowers two spellings of a dense layer to one node, and says how', () => {
    let clock = 0;
    const graph = graphOf(g => {
      const x = g.input('x', ['n', 3]);
      const folded = g.op('Identity', [g.op('Transpose', [g.op('Transpose', [x])])]);
      return g.op('Relu', [g.op('Add', [g.op('MatMul', [folded, g.weight(3, 4)]), g.weight(4)])]);
    });
    const { graph: done, report } = optimise(graph, { now: () => clock++ });
    expect(ops(done)).toBe('com.microsoft.FusedGemm');
    const row = report.find(({ pass }) => pass === 'cancellation')!;
    expect(row).toMatchObject({ group: 'declutter', nodesBefore: 6 });
    expect(row.rewrites).toBeGreaterThan(1);
    expect(report.find(({ pass }) => pass === 'product')).toMatchObject({ group: 'lower', rewrites: 2, nodesAfter: 1 });
    expect(report.every(({ milliseconds }) => milliseconds > 0)).toBe(true);
    expect(new Set(report.map(({ pass }) => pass)).size).toBe(report.length);
  });

  test('leaves out what is disabled, and refuses a name that no pass has', () => {
    const graph = graphOf(g => g.op('Neg', [g.op('Neg', [g.op('Exp', [x23(g)])])]));
    expect(ops(optimise(graph).graph)).toBe('Exp');
    expect(ops(optimise(graph, { disable: ['cancellation', 'elementwise-chains'] }).graph)).toBe('Exp Neg Neg');
    let refused: unknown;
    try {
      optimise(graph, { disable: ['cancelation'] });
    } catch (error) {
      refused = error;
    }
    expect(isCloisterError(refused, 'INVALID_ARGUMENT')).toBe(true);
  });

  test('binds sizes and says so in the facts', () => {
    const graph = graphOf(g => g.op('Exp', [g.input('x', ['n', 3])]));
    const { graph: bound } = optimise(graph, { dims: { n: 5 } });
    expect(bound.values[bound.outputs[0]!]!.facts.shape).toEqual([5, 3]);
  });

  test('shares constants: no tensor is copied, whatever is rewritten', () => {
    const graph = graphOf(g => g.op('Relu', [g.op('Add', [g.op('MatMul', [x23(g), g.weight(3, 4)]), g.weight(4)])]));
    const before = new Set([...graph.constants.values()]);
    const { graph: done } = optimise(graph);
    expect(done.constants.size).toBe(2);
    for (const constant of done.constants.values()) expect(before.has(constant)).toBe(true);
  });

  test('the description of each pass is one sentence, and names are distinct', () => {
    for (const pass of PASSES) expect(pass.does).toMatch(/^[A-Z][^.]*\.$/);
    expect(new Set(PASSES.map(pass => pass.name)).size).toBe(PASSES.length);
  });

  /** Shapes of graph in which something that looks back, or starts again, would take quadratic time. */
  const HOSTILE: Readonly<Record<string, (g: Sketch, n: number) => number | readonly number[]>> = {
    'a line of Neg': (g, n) => {
      let at = x23(g);
      for (let i = 0; i < n; i++) at = g.op('Neg', [at]);
      return at;
    },
    'a line of Transposes': (g, n) => {
      let at = g.input('x', [2, 3, 4]);
      for (let i = 0; i < n; i++)
        at = g.op(i % 3 === 0 ? 'Relu' : 'Transpose', [at], i % 3 === 0 ? {} : { perm: [1, 2, 0] });
      return at;
    },
    'a line of Reshapes': (g, n) => {
      let at = x23(g);
      for (let i = 0; i < n; i++) at = g.op('Reshape', [at, g.ints(...(i % 2 === 0 ? [6, 1] : [1, 6]))]);
      return at;
    },
    'sums that double': (g, n) => {
      let at = x23(g);
      for (let i = 0; i < n; i++) at = g.op('Add', [at, at]);
      return at;
    },
    'products that double': (g, n) => {
      let at = x23(g);
      for (let i = 0; i < n; i++) at = g.op('Mul', [at, g.op('Sigmoid', [at])]);
      return at;
    },
    'one value that all need': (g, n) => {
      const x = x23(g);
      const hub = g.op('Identity', [g.op('Transpose', [x])]);
      return Array.from({ length: n }, () => g.op('Exp', [hub]));
    },
    'a fan that meets': (g, n) => {
      const x = x23(g);
      return g.op(
        'Sum',
        Array.from({ length: n }, (_, i) => g.op('LeakyRelu', [x], { alpha: i })),
      );
    },
  };

  test.each(Object.keys(HOSTILE))('takes time in proportion to %s', name => {
    const time = (n: number): number => {
      const g = new Sketch('hostile');
      const made = HOSTILE[name]!(g, n);
      const graph = g.build(...(typeof made === 'number' ? [made] : made));
      const start = process.cpuUsage();
      optimise(graph);
      const { user, system } = process.cpuUsage(start);
      return (user + system) / 1000;
    };
    time(500);
    const [small, large] = [Math.max(time(2_000), 20), time(16_000)];
    // Eight times the nodes: quadratic time would be 64 times as long.
    expect(large / small).toBeLessThan(32);
  });
});
