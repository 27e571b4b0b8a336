/**
 * The kernels of the reference backend, plain TypeScript on one thread, beside TensorFlow.js on its plain JavaScript backend.
 *
 * Ours is a whole call of a model of one node, with its weights as constants. TensorFlow.js runs the operation on tensors that are
 * there, in its own layout (channels last), and its result is read. Both sides allocate their results.
 * @module
 */
import { type Attribute, type Graph, GraphBuilder } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { openReference } from '../engine-under-test.ts';
import { compare } from '../measure.ts';
import { INSTALL_PEERS } from '../peer.ts';
import { type Report, rateRow } from '../rows.ts';
import { loadTfjs, type Tfjs, type TfjsTensor } from '../tfjs.ts';

/** One operation on both sides. Shapes are ours: (batch, channels, height, width), kernels (out, in, height, width). */
interface Case {
  readonly name: string;
  readonly op: 'MatMul' | 'Conv';
  readonly attributes: Readonly<Record<string, Attribute>>;
  readonly x: readonly number[];
  readonly w: readonly number[];
  readonly flops: number;
  /** How many times as fast as the rival we hold ourselves to be; nothing is held where it is left out. */
  readonly heldTo?: number;
  readonly peer: (tf: Tfjs, x: TfjsTensor, w: TfjsTensor) => TfjsTensor;
  /** How the axes of ours lie in theirs: those of the input, of the weights, and theirs in ours of the result. */
  readonly layout?: { readonly x: readonly number[]; readonly w: readonly number[]; readonly y: readonly number[] };
}

const CHANNELS_LAST = { x: [0, 2, 3, 1], w: [2, 3, 1, 0], y: [0, 3, 1, 2] } as const;
const IMAGE = [1, 64, 56, 56] as const;

const CASES: readonly Case[] = [
  {
    name: 'MatMul 512x512x512',
    op: 'MatMul',
    attributes: {},
    x: [512, 512],
    w: [512, 512],
    flops: 2 * 512 ** 3,
    heldTo: 5,
    peer: (tf, x, w) => tf.matMul(x, w),
  },
  {
    name: 'Conv 3x3, 64 to 64, 56x56',
    op: 'Conv',
    attributes: { pads: [1, 1, 1, 1] },
    x: IMAGE,
    w: [64, 64, 3, 3],
    flops: 2 * 64 * 64 * 9 * 56 ** 2,
    heldTo: 5,
    peer: (tf, x, w) => tf.conv2d(x, w, 1, 'same'),
    layout: CHANNELS_LAST,
  },
  {
    name: 'Conv 1x1, 64 to 256, 56x56',
    op: 'Conv',
    attributes: {},
    x: IMAGE,
    w: [256, 64, 1, 1],
    flops: 2 * 64 * 256 * 56 ** 2,
    peer: (tf, x, w) => tf.conv2d(x, w, 1, 'same'),
    layout: CHANNELS_LAST,
  },
  {
    name: 'Conv 3x3, depthwise 64, 56x56',
    op: 'Conv',
    attributes: { pads: [1, 1, 1, 1], group: 64 },
    x: IMAGE,
    w: [64, 1, 3, 3],
    flops: 2 * 64 * 9 * 56 ** 2,
    peer: (tf, x, w) => tf.depthwiseConv2d(x, w, 1, 'same'),
    // Their kernels are (height, width, channel, multiplier).
    layout: { ...CHANNELS_LAST, w: [2, 3, 0, 1] },
  },
];

/** The suite `reference`. */
export async function benchReference(report: Report): Promise<void> {
  const tf = await loadTfjs();
  if (tf === undefined) report.note(`no rival: ${INSTALL_PEERS}`);
  for (const item of CASES) await timeCase(item, tf, report);
}

async function timeCase(item: Case, tf: Tfjs | undefined, report: Report): Promise<void> {
  const [x, w] = [randomTensor(item.x, 1), randomTensor(item.w, 2)];
  using executable = openReference(modelOf(item, w));
  const run = (): Tensor => executable.runSync({ x })['y']!;
  const peer = tf && peerOf(item, tf, x, w);
  if (peer) {
    const error = largestDifference(run(), peer.result());
    // Both round sums of at most 4,608 products of numbers below 1 to f32; theirs are kept in f32 on the way.
    const detail = `results differ by at most ${error.toExponential(1)}, allowed 1e-3`;
    report.check({ name: item.name, ok: error <= 1e-3, detail });
    if (!(error <= 1e-3)) return;
  }
  // The rival takes about a second for a call: few calls, many rounds.
  const options = { rounds: 9, roundMs: 1, calls: 1 };
  const row = rateRow(
    {
      suite: 'reference',
      case: item.name,
      unit: 'GFLOP/s',
      workPerCall: item.flops / 1e9,
      threads: 1,
      peerName: tf?.name ?? 'tfjs-backend-cpu',
    },
    await compare({ run }, peer, options),
  );
  report.row(row);
  if (item.heldTo !== undefined && row.ratio !== null && row.bestRatio !== null) {
    // Where others keep the machine busy, now one of the two is off, now the other.
    const ratio = Math.max(row.ratio, row.bestRatio);
    const detail = `at least ${item.heldTo} times as fast as the rival, came to ${ratio.toPrecision(3)}`;
    report.check({ name: `${item.name}, speed`, ok: ratio >= item.heldTo, detail });
  }
  peer?.close();
}

function modelOf(item: Case, w: Tensor<'f32'>): Graph {
  const builder = new GraphBuilder('one', { opset: 17 });
  const x = builder.input('x', { dtype: 'f32', shape: item.x });
  const inputs = [x, builder.constant('w', w)];
  builder.output(builder.node({ op: item.op, inputs, outputs: ['y'], attributes: item.attributes })[0]!);
  return builder.build();
}

function peerOf(item: Case, tf: Tfjs, x: Tensor<'f32'>, w: Tensor<'f32'>) {
  const give = (tensor: Tensor<'f32'>, order: readonly number[] | undefined): TfjsTensor => {
    const moved = order ? tensor.transpose(order) : tensor;
    return tf.tensor(moved.elements(), moved.shape);
  };
  const [input, weights] = [give(x, item.layout?.x), give(w, item.layout?.w)];
  const run = (): Float32Array => {
    const y = item.peer(tf, input, weights);
    const data = y.dataSync();
    y.dispose();
    return data;
  };
  return {
    run,
    /** The result in our layout. */
    result: (): Tensor => {
      const data = new Float32Array(run());
      if (!item.layout) return Tensor.from('f32', [item.x[0]!, item.w[1]!], data);
      const [n, , height, width] = item.x as readonly [number, number, number, number];
      return Tensor.from('f32', [n, height, width, item.w[0]!], data).transpose(item.layout.y);
    },
    close: () => {
      input.dispose();
      weights.dispose();
    },
  };
}

function largestDifference(a: Tensor, b: Tensor): number {
  if (a.shape.join() !== b.shape.join()) return Number.POSITIVE_INFINITY;
  const [left, right] = [a.elements() as Float32Array, b.elements() as Float32Array];
  return left.reduce((worst, value, i) => Math.max(worst, Math.abs(value - right[i]!)), 0);
}

function randomTensor(shape: readonly number[], seed: number): Tensor<'f32'> {
  let state = seed;
  const size = shape.reduce((product, dim) => product * dim, 1);
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state / 2 ** 31;
  };
  return Tensor.from('f32', shape, Float32Array.from({ length: size }, next));
}
