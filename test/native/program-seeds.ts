/**
 * Small graphs that together use every step of the program format, and the programs that the planner makes of them.
 * @module
 */
import { PROGRAM_VERSION, planProgram } from '../../src/engine/index.ts';
import { type Graph, GraphBuilder, type ValueId } from '../../src/graph/index.ts';
import { type DType, Tensor } from '../../src/tensor/index.ts';

/** A reader for graphs whose constants are all inline. */
export const noFile = {
  read(): never {
    throw new Error('nothing here lies in a file');
  },
};

/** Deterministic numbers in [-1, 1): xorshift32. */
export function numbers(seed: number): () => number {
  let state = seed >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return ((state >>> 0) / 2 ** 31 - 1) as number;
  };
}

/** A float32 tensor of deterministic numbers. */
export function filled(shape: readonly number[], seed: number): Tensor<'f32'> {
  const next = numbers(seed * 2_654_435_761);
  const tensor = Tensor.zeros('f32', shape);
  for (let i = 0; i < tensor.size; i++) tensor.data[i] = next();
  return tensor;
}

/** A builder with the shortest names. */
export class Sketch {
  readonly builder: GraphBuilder;
  #count = 0;

  constructor(name: string, opset = 17) {
    this.builder = new GraphBuilder(name, { opset });
  }

  input(name: string, shape: readonly (number | string)[], dtype: DType = 'f32'): ValueId {
    return this.builder.input(name, { dtype, shape });
  }

  weight(...shape: readonly number[]): ValueId {
    return this.builder.constant(`w${this.#count++}`, filled(shape, this.#count));
  }

  ints(...values: readonly number[]): ValueId {
    return this.builder.constant(
      `i${this.#count++}`,
      Tensor.from('i64', [values.length], BigInt64Array.from(values.map(BigInt))),
    );
  }

  op(
    op: string,
    inputs: readonly (ValueId | undefined)[],
    attributes: Record<string, number | string | readonly number[]> = {},
  ): ValueId {
    return this.builder.node({ op, inputs, attributes })[0]!;
  }

  build(...outputs: readonly ValueId[]): Graph {
    for (const id of outputs) this.builder.output(id);
    return this.builder.build();
  }
}

/** Rows that indices choose, normalised, through a chain, padded and ranked: norm, chain, gather, pad and arg. */
function rows(): Graph {
  const g = new Sketch('rows');
  const x = g.input('x', [5, 8]);
  const chosen = g.op('Gather', [x, g.input('i', [3], 'i32')], { axis: 0 });
  const normal = g.op('LayerNormalization', [chosen, g.weight(8), g.weight(8)], { axis: -1 });
  const gate = g.op('Sigmoid', [g.op('Mul', [normal, g.weight(1)])]);
  const mixed = g.op('Add', [g.op('Mul', [normal, gate]), g.op('Tanh', [chosen])]);
  const padded = g.op('Pad', [mixed, g.ints(1, 0, 0, 2)], { mode: 'reflect' });
  return g.build(padded, g.op('ArgMax', [mixed], { axis: 1, keepdims: 0 }));
}

/** Graphs by name. All sizes are known. */
export function seedGraphs(): Readonly<Record<string, Graph>> {
  return {
    digits: digits(1),
    mlp: mlp(),
    moves: moves(),
    normal: normal(),
    blocks: blocks(),
    rows: rows(),
    up: up(),
    attention: attention(),
    wave: wave(),
    wires: wires(),
    heads: heads(),
    cells: cells(),
    forest: forest(),
    bytes: bytes(),
  };
}

/** The network of the MNIST models: two convolutions with bias, Relu and pooling, then a matrix product. */
export function digits(batch: number | string): Graph {
  const g = new Sketch('digits');
  const x = g.input('image', [batch, 1, 28, 28]);
  const same = { auto_pad: 'SAME_UPPER' };
  const first = g.op('Relu', [g.op('Add', [g.op('Conv', [x, g.weight(8, 1, 5, 5)], same), g.weight(8, 1, 1)])]);
  const half = g.op('MaxPool', [first], { kernel_shape: [2, 2], strides: [2, 2] });
  const second = g.op('Relu', [g.op('Add', [g.op('Conv', [half, g.weight(16, 8, 5, 5)], same), g.weight(16, 1, 1)])]);
  const small = g.op('MaxPool', [second], { kernel_shape: [3, 3], strides: [3, 3] });
  const flat = g.op('Flatten', [small]);
  return g.build(g.op('LogSoftmax', [g.op('Add', [g.op('MatMul', [flat, g.weight(256, 10)]), g.weight(1, 10)])]));
}

/** Every step on bytes. */
function bytes(): Graph {
  const g = new Sketch('bytes', 13);
  let count = 0;
  const constant = (tensor: Tensor): ValueId => g.builder.constant(`q${count++}`, tensor);
  const weights = (dtype: 'i8' | 'u8', ...shape: readonly number[]): ValueId => {
    const elements = Uint8Array.from(filled(shape, 90 + count).data, value => Math.floor(value * 128) & 255);
    return constant(Tensor.fromBytes(dtype, shape, elements));
  };
  const as = (scale: number, zero = 120): readonly ValueId[] => [
    constant(Tensor.of('f32', scale)),
    constant(Tensor.of('u8', zero)),
  ];
  const signed = (scale: number): readonly ValueId[] => [
    constant(Tensor.of('f32', scale)),
    constant(Tensor.of('i8', -3)),
  ];
  const microsoft = (
    op: string,
    inputs: readonly ValueId[],
    attributes: Readonly<Record<string, number>> = {},
  ): ValueId => g.builder.node({ op, domain: 'com.microsoft', opset: 1, inputs, attributes })[0]!;
  const x = g.input('x', [2, 3, 6, 5]);
  const image = g.op('QuantizeLinear', [x, ...as(0.01)]);
  const bias = constant(
    Tensor.from(
      'i32',
      [20],
      Int32Array.from({ length: 20 }, (_, i) => 50 * i - 400),
    ),
  );
  const wide = g.op('QLinearConv', [
    image,
    ...as(0.01),
    weights('i8', 20, 3, 1, 1),
    ...signed(0.02),
    ...as(0.03),
    bias,
  ]);
  const deep = g.op('QLinearConv', [wide, ...as(0.03), weights('u8', 20, 1, 3, 3), ...as(0.02), ...as(0.1)], {
    group: 20,
    pads: [1, 1, 1, 1],
  });
  const sum = microsoft('QLinearAdd', [wide, ...as(0.03), deep, ...as(0.1), ...as(0.12)]);
  const mild = microsoft('QLinearSigmoid', [sum, ...as(0.12), ...as(0.004, 0)]);
  const mean = microsoft('QLinearGlobalAveragePool', [mild, ...as(0.004, 0), ...as(0.004, 0)], { channels_last: 0 });
  const flat = g.op('Flatten', [mean]);
  const product = g.op('QLinearMatMul', [flat, ...as(0.004, 0), weights('i8', 20, 7), ...signed(0.01), ...as(0.01)]);
  const [live, scale, zero] = g.builder.node({
    op: 'DynamicQuantizeLinear',
    inputs: [g.op('Flatten', [x])],
    outputs: ['live', 'scale', 'zero'],
  });
  const moved = g.op('Transpose', [live!]);
  const square = g.op('MatMulInteger', [live!, moved, zero!, zero!]);
  return g.build(g.op('DequantizeLinear', [product, ...as(0.01)]), mild, square, scale!);
}

function mlp(): Graph {
  const g = new Sketch('mlp');
  const x = g.input('x', [3, 20]);
  const hidden = g.op('Relu', [g.op('Gemm', [x, g.weight(16, 20), g.weight(16)], { transB: 1 })]);
  const scaled = g.op('Gemm', [hidden, g.weight(16, 5), g.weight(3, 1)], { alpha: 0.5, beta: 2 });
  const bounded = g.op('Clip', [
    scaled,
    g.builder.constant('lo', Tensor.of('f32', -0.5)),
    g.builder.constant('hi', Tensor.of('f32', 1)),
  ]);
  return g.build(g.op('Softmax', [bounded], { axis: 0 }), g.op('Sigmoid', [scaled]));
}

function moves(): Graph {
  const g = new Sketch('moves');
  const x = g.input('x', [2, 3, 8]);
  const n = g.input('n', [2, 3], 'i64');
  const turned = g.op('Transpose', [x], { perm: [2, 0, 1] });
  const back = g.op('Slice', [turned, g.ints(-1), g.ints(-100), g.ints(0), g.ints(-2)]);
  const [left, right] = g.builder.node({
    op: 'Split',
    inputs: [x, g.ints(3, 5)],
    outputs: ['left', 'right'],
    attributes: { axis: 2 },
  });
  const joined = g.op('Concat', [right!, left!, x], { axis: 2 });
  const wide = g.op('Expand', [g.op('Unsqueeze', [n, g.ints(0)]), g.ints(4, 2, 3)]);
  return g.build(back, joined, wide, g.op('Identity', [n]));
}

function normal(): Graph {
  const g = new Sketch('normal');
  const x = g.input('x', [2, 4, 9, 7]);
  const positive = g.builder.constant('variance', Tensor.from('f32', [6], Float32Array.of(0.5, 1, 2, 0.1, 3, 0.7)));
  const convolved = g.op('Conv', [x, g.weight(6, 2, 3, 3), g.weight(6)], {
    group: 2,
    pads: [1, 1, 1, 1],
    strides: [2, 1],
  });
  const folded = g.op('BatchNormalization', [convolved, g.weight(6), g.weight(6), g.weight(6), positive]);
  const rectified = g.op('LeakyRelu', [folded], { alpha: 0.2 });
  const averaged = g.op('AveragePool', [rectified], { kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [2, 2] });
  const again = g.op('BatchNormalization', [averaged, g.weight(6), g.weight(6), g.weight(6), positive]);
  const pooled = g.op('GlobalAveragePool', [g.op('Tanh', [again])]);
  return g.build(
    pooled,
    g.op('ReduceMean', [again], { axes: [1, 3], keepdims: 0 }),
    g.op('ReduceMax', [again], { axes: [2] }),
  );
}

/** Convolutions whose planner takes them into blocks: from a picture, per channel, in the transformed domain, with a residual. */
function blocks(): Graph {
  const g = new Sketch('blocks');
  const x = g.input('x', [1, 3, 17, 15]);
  const same = { pads: [1, 1, 1, 1] };
  const stem = g.op('Relu', [g.op('Conv', [x, g.weight(20, 3, 3, 3), g.weight(20)], same)]);
  const pooled = g.op('MaxPool', [stem], { kernel_shape: [2, 2] });
  const deep = g.op('Tanh', [g.op('Conv', [pooled, g.weight(20, 1, 3, 3)], { ...same, group: 20 })]);
  // Small enough that no rounding grows on its way to the outputs.
  const faint = g.op('Mul', [deep, g.builder.constant('faint', Tensor.of('f32', 0.02))]);
  const turned = g.op('Conv', [faint, g.weight(20, 20, 3, 3), g.weight(20)], same);
  const sum = g.op('Tanh', [g.op('Add', [turned, pooled])]);
  const mean = g.op('GlobalAveragePool', [sum]);
  const wide = g.op('Conv', [g.op('Mul', [sum, mean]), g.weight(32, 20, 1, 1)]);
  const groups = g.op('LeakyRelu', [g.op('Conv', [wide, g.weight(32, 16, 1, 1)], { group: 2 })]);
  return g.build(g.op('Concat', [wide, groups], { axis: 1 }));
}

/** Transposed convolutions: in blocks, within strides, of few channels, and with weights that a run brings. */
function up(): Graph {
  const g = new Sketch('up');
  const x = g.input('x', [1, 16, 5, 4]);
  const wide = g.op('Relu', [g.op('ConvTranspose', [x, g.weight(16, 16, 3, 3), g.weight(16)], { strides: [2, 2] })]);
  const picture = g.op('ConvTranspose', [wide, g.weight(16, 3, 4, 4)], { strides: [2, 2], pads: [1, 1, 1, 1] });
  const own = g.op('ConvTranspose', [g.op('Tanh', [picture]), g.input('w', [3, 2, 2, 2])], { strides: [3, 1] });
  return g.build(picture, own);
}

function attention(): Graph {
  const g = new Sketch('attention');
  const x = g.input('x', [2, 5, 8]);
  const heads = (): ValueId => {
    const projected = g.op('MatMul', [x, g.weight(8, 8)]);
    return g.op('Transpose', [g.op('Reshape', [projected, g.ints(2, 5, 2, 4)])], { perm: [0, 2, 1, 3] });
  };
  const keys = g.op('Transpose', [heads()], { perm: [0, 1, 3, 2] });
  const scores = g.op('Softmax', [
    g.op('Div', [g.op('MatMul', [heads(), keys]), g.builder.constant('scale', Tensor.of('f32', 2))]),
  ]);
  const mixed = g.op('Transpose', [g.op('MatMul', [scores, heads()])], { perm: [0, 2, 1, 3] });
  return g.build(g.op('Add', [g.op('Reshape', [mixed, g.ints(2, 5, 8)]), x]));
}

function wave(): Graph {
  const g = new Sketch('wave');
  const x = g.input('x', [1, 2, 40]);
  const convolved = g.op('Conv', [x, g.weight(4, 2, 5)], { dilations: [2], pads: [4, 4], strides: [2] });
  const weights = g.op('Reshape', [x, g.ints(20, 2, 2, 1)]);
  const own = g.op('Conv', [g.op('Reshape', [x, g.ints(1, 2, 8, 5)]), weights], { pads: [1, 0, 0, 0] });
  return g.build(g.op('MaxPool', [convolved], { kernel_shape: [3], ceil_mode: 1, strides: [2] }), g.op('Exp', [own]));
}

function wires(): Graph {
  const g = new Sketch('wires');
  const x = g.input('x', [4, 6]);
  const y = g.input('y', [6]);
  const sum = g.op('Sum', [x, y, g.weight(4, 1)]);
  const constant = g.op('Sqrt', [g.op('Mul', [g.weight(4, 6), g.builder.constant('twice', Tensor.of('f32', 2))])]);
  const most = g.op('Max', [g.op('Mul', [sum, sum]), g.op('Sub', [x, constant]), y]);
  return g.build(g.op('Mean', [most, x]), g.op('Pow', [g.op('Abs', [x]), y]), constant, g.op('Min', [x, y]));
}

/** A program with what it takes to run it. */
export interface Seed {
  readonly name: string;
  readonly program: Uint8Array;
  readonly model: Uint8Array;
}

/** Attention as an operator: with a mask of flags, and with padding by lengths. */
function heads(): Graph {
  const g = new Sketch('heads', 23);
  const [q, k, v] = [g.input('q', [1, 4, 3, 5]), g.input('k', [1, 2, 7, 5]), g.input('v', [1, 2, 7, 4])];
  const seen = g.builder.constant(
    'seen',
    Tensor.from(
      'bool',
      [3, 7],
      new Uint8Array(21).map((_, i) => i % 3),
    ),
  );
  const attributes = { is_causal: 1, softcap: 2 };
  const first = g.builder.node({ op: 'Attention', inputs: [q, k, v, seen], attributes })[0]!;
  const x = g.input('x', [2, 3, 6]);
  const ends = g.builder.constant('ends', Tensor.from('i32', [2], Int32Array.of(2, 3)));
  const [w, b] = [g.weight(6, 18), g.weight(18)];
  const projected = { op: 'Attention', domain: 'com.microsoft', opset: 1, attributes: { num_heads: 2 } };
  return g.build(first, g.builder.node({ ...projected, inputs: [x, w, b, ends] })[0]!);
}

function cells(): Graph {
  const g = new Sketch('cells', 14);
  const x = g.input('x', [3, 2, 4]);
  const lengths = g.builder.constant('lengths', Tensor.from('i32', [2], Int32Array.of(3, 1)));
  const lstm = g.builder.node({
    op: 'LSTM',
    inputs: [
      x,
      g.weight(2, 20, 4),
      g.weight(2, 20, 5),
      g.weight(2, 40),
      lengths,
      undefined,
      undefined,
      g.weight(2, 15),
    ],
    outputs: ['a', undefined, 'b'],
    attributes: { hidden_size: 5, direction: 'bidirectional' },
  });
  const gru = g.builder.node({
    op: 'GRU',
    inputs: [x, g.weight(1, 15, 4), g.weight(1, 15, 5), g.weight(1, 30), undefined, g.weight(1, 2, 5)],
    outputs: [undefined, 'c'],
    attributes: { hidden_size: 5, linear_before_reset: 1 },
  });
  return g.build(lstm[0]!, lstm[2]!, gru[1]!);
}

/** Two trees and two classes, of which one is a leaf alone. */
function forest(): Graph {
  const g = new Sketch('forest');
  const x = g.input('x', [11, 2]);
  const [label, scores] = g.builder.node({
    op: 'TreeEnsembleClassifier',
    domain: 'ai.onnx.ml',
    opset: 3,
    inputs: [x],
    outputs: ['label', 'scores'],
    attributes: {
      nodes_treeids: [0, 0, 0, 0, 0, 1],
      nodes_nodeids: [0, 1, 2, 3, 4, 0],
      nodes_featureids: [1, 0, 0, 0, 0, 0],
      nodes_values: [0.5, 0, -0.25, 0, 0, 0],
      nodes_modes: ['BRANCH_LT', 'LEAF', 'BRANCH_GTE', 'LEAF', 'LEAF', 'LEAF'],
      nodes_truenodeids: [1, 0, 3, 0, 0, 0],
      nodes_falsenodeids: [2, 0, 4, 0, 0, 0],
      nodes_missing_value_tracks_true: [1, 0, 0, 0, 0, 0],
      class_treeids: [0, 0, 0, 1],
      class_nodeids: [1, 3, 4, 0],
      class_ids: [0, 1, 0, 1],
      class_weights: [0.5, 0.25, -1, 0.125],
      classlabels_int64s: [3, 7],
      base_values: [0.5, 0.25],
      post_transform: 'SOFTMAX',
    },
  });
  return g.build(label!, scores!);
}

/** The programs of {@link seedGraphs}, with half of their constants in a model file. */
export function seedPrograms(): readonly Seed[] {
  const seeds: Seed[] = [];
  const info = { isa: 'any', programVersion: PROGRAM_VERSION, gemmPanel: 1 };
  for (const [name, graph] of Object.entries(seedGraphs())) {
    const filed = fileConstants(graph);
    const read = (offset: number, length: number) => filed.model.subarray(offset, offset + length);
    const { program } = planProgram(filed.graph, { kernel: info, constants: { read }, modelBytes: filed.model.length });
    seeds.push({ name, program, model: filed.model });
  }
  return seeds;
}

/** `graph` with every other constant moved into a model file, one byte off any alignment. */
export function fileConstants(graph: Graph): { graph: Graph; model: Uint8Array } {
  const parts: Uint8Array[] = [Uint8Array.of(0)];
  let at = 1;
  let count = 0;
  const constants = new Map(graph.constants);
  for (const [id, constant] of graph.constants) {
    if (constant.kind !== 'inline' || graph.values[id]!.facts.dtype !== 'f32' || count++ % 2 !== 0) continue;
    const bytes = constant.tensor.toBytes();
    constants.set(id, { kind: 'range', offset: at, length: bytes.length });
    parts.push(bytes);
    at += bytes.length;
  }
  const model = new Uint8Array(at);
  let offset = 0;
  for (const part of parts) {
    model.set(part, offset);
    offset += part.length;
  }
  return { graph: { ...graph, constants }, model };
}
