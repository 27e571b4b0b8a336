import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { forceIsa, kernelInfo, nativeStatus } from '../../native/index.ts';
import { loadBinding } from '../../native/loader.ts';
import { openProgramHost } from '../../native/program-host.ts';
import { type Backend, type NamedTensors, nativeBackend, referenceBackend } from '../../src/engine/index.ts';
import { bytesSource, parseOnnx } from '../../src/formats/index.ts';
import { type Attribute, type Graph, GraphBuilder, quantiseOperators } from '../../src/graph/index.ts';
import { type DType, elementCount, Tensor } from '../../src/tensor/index.ts';
import { noFile } from '../native/program-seeds.ts';

const there = nativeStatus().kind === 'loaded';
const rows = kernelInfo()?.supported ?? [];

/** Deterministic noise. */
class Noise {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 1;
  }

  whole(least: number, most: number): number {
    this.#state = (Math.imul(this.#state, 1664525) + 1013904223) | 0;
    return least + Math.floor(((this.#state >>> 8) / 2 ** 24) * (most - least + 1));
  }

  flip(): boolean {
    return this.whole(0, 1) === 1;
  }

  byte(): 'i8' | 'u8' {
    return this.flip() ? 'i8' : 'u8';
  }

  /** Any bytes, the ends of their range often. */
  bytes(dtype: 'i8' | 'u8', shape: readonly number[]): Tensor {
    const [least, most] = dtype === 'i8' ? [-128, 127] : [0, 255];
    const one = (): number => [least, most, this.whole(least!, most!)][this.whole(0, 2)]!;
    const elements = Uint8Array.from({ length: elementCount(shape) }, () => one() & 255);
    return Tensor.fromBytes(dtype, shape, elements);
  }

  /** Scales whose quotients are often exact, so that results lie halfway between two integers. */
  scales(shape: readonly number[]): Tensor {
    const one = (): number => this.whole(1, 64) * (this.flip() ? 2 ** -6 : 0.003);
    return Tensor.from('f32', shape, Float32Array.from({ length: elementCount(shape) }, one));
  }

  integers(shape: readonly number[]): Tensor {
    return Tensor.from(
      'i32',
      shape,
      Int32Array.from({ length: elementCount(shape) }, () => this.whole(-60000, 60000)),
    );
  }
}

interface Case {
  readonly graph: Graph;
  readonly inputs: NamedTensors;
}

/** A graph of one node, of whose operands (none where undefined) those at `fed` are inputs and the others constants. */
function oneNode(
  op: string,
  operands: readonly (Tensor | undefined)[],
  fed: readonly number[],
  attributes: Readonly<Record<string, Attribute>> = {},
  domain = '',
  outputs = 1,
): Case {
  const b = new GraphBuilder(op, { opset: 21 });
  const inputs: Record<string, Tensor> = {};
  const ids = operands.map((tensor, i) => {
    if (tensor === undefined) return undefined;
    if (!fed.includes(i)) return b.constant(`c${i}`, tensor);
    inputs[`x${i}`] = tensor;
    return b.input(`x${i}`, { dtype: tensor.dtype, shape: tensor.shape });
  });
  const names = Array.from({ length: outputs }, (_, i) => `y${i}`);
  const node = { op, inputs: ids, outputs: names, attributes };
  for (const id of b.node(domain === '' ? node : { ...node, domain, opset: 1 })) b.output(id!);
  return { graph: b.build(), inputs };
}

/** Runs both backends, and wants the same bits. */
function agree({ graph, inputs }: Case): void {
  const run = (backend: Backend): NamedTensors => {
    const executable = backend.prepare(graph, { constants: noFile });
    const outputs = executable.runSync(inputs);
    executable.close();
    return outputs;
  };
  const want = run(referenceBackend);
  const have = run(nativeBackend(openProgramHost(loadBinding()!)));
  for (const [name, tensor] of Object.entries(want)) {
    expect(have[name]!.dtype).toBe(tensor.dtype);
    expect(have[name]!.shape).toEqual(tensor.shape);
    sameBytes(have[name]!, tensor);
  }
}

/** The first byte that differs, and what it is, where there is one. */
function sameBytes(have: Tensor, want: Tensor): void {
  const [came, due] = [have.toBytes(), want.toBytes()];
  const at = due.findIndex((byte, i) => byte !== came[i]);
  expect([at, came[at], came.length]).toEqual([-1, undefined, due.length]);
}

/** A matrix product: its shapes, dtypes and zero points. */
function products(n: Noise): Case {
  const [rows, depth, columns] = [n.whole(1, n.flip() ? 4 : 70), n.whole(1, 130), n.whole(1, 100)];
  const batch = [[], [], [2], [2, 3]][n.whole(0, 3)]!;
  const [aType, bType, yType] = [n.byte(), n.byte(), n.byte()];
  const a = n.bytes(aType, [...(n.flip() ? batch : []), rows, depth]);
  const b = n.bytes(bType, [...(n.flip() ? batch : []), depth, columns]);
  const aZero = n.flip() ? n.bytes(aType, []) : undefined;
  const bZero = n.flip() ? n.bytes(bType, n.flip() ? [] : [columns]) : undefined;
  if (n.flip()) return oneNode('MatMulInteger', [a, b, aZero, bZero], n.flip() ? [0, 1, 2, 3] : [0, 2]);
  const perColumn = n.flip() ? [columns] : [];
  const parameters = [n.scales([]), aZero ?? n.bytes(aType, []), b, n.scales(perColumn), n.bytes(bType, perColumn)];
  return oneNode('QLinearMatMul', [a, ...parameters, n.scales([]), n.bytes(yType, [])], n.flip() ? [0, 3] : [0]);
}

/** A convolution; every kind that has a kernel of its own. */
function convolutions(n: Noise): Case {
  const kind = n.whole(0, 3); // pointwise, depthwise, grouped, plain
  const spatial = n.whole(1, 2);
  const kernel = Array.from({ length: spatial }, () => (kind === 0 ? 1 : n.flip() ? 3 : n.whole(1, 5)));
  const strides = kernel.map(() => (kind === 0 ? 1 : n.whole(1, 3)));
  const dilations = kernel.map(() => (kind > 0 && n.whole(0, 3) === 0 ? 2 : 1));
  const extent = kernel.map((size, i) => (size - 1) * dilations[i]! + 1);
  const pads = [...extent, ...extent].map(size => n.whole(0, size - 1));
  const sizes = extent.map(size => size + n.whole(0, 9));
  const groups = kind === 1 ? n.whole(2, 150) : kind === 2 ? n.whole(2, 3) : 1;
  const depth = kind === 1 ? 1 : n.whole(1, 40);
  const outputs = groups * (kind === 1 ? 1 : n.whole(1, 40));
  const [xType, wType, yType] = [n.byte(), n.byte(), n.byte()];
  const x = n.bytes(xType, [n.whole(1, 2), groups * depth, ...sizes]);
  const w = n.bytes(wType, [outputs, depth, ...kernel]);
  const attributes = { kernel_shape: kernel, strides, dilations, pads, group: groups };
  const each = n.flip() ? [outputs] : [];
  if (n.whole(0, 3) === 0) {
    const zeros = [n.flip() ? n.bytes(xType, []) : undefined, n.flip() ? n.bytes(wType, each) : undefined];
    return oneNode('ConvInteger', [x, w, ...zeros], n.flip() ? [0, 1] : [0], attributes);
  }
  const bias = n.flip() ? n.integers([outputs]) : undefined;
  const parameters = [n.scales([]), n.bytes(xType, []), w, n.scales(each), n.bytes(wType, each), n.scales([])];
  return oneNode(
    'QLinearConv',
    [x, ...parameters, n.bytes(yType, []), bias],
    n.whole(0, 3) === 0 ? [0, 3] : [0],
    attributes,
  );
}

/** Quantising, dequantising and what com.microsoft does byte by byte. */
function elementwise(n: Noise): Case {
  const dtype = n.byte();
  const shape = [n.whole(1, 3), n.whole(1, 40), n.whole(1, 30)];
  const axis = n.whole(0, 2);
  const each = n.flip() ? [] : [shape[axis]!];
  const numbers = Float32Array.from({ length: elementCount(shape) }, () => {
    const odd = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0, 3.4e38][n.whole(0, 90)];
    return odd ?? n.whole(-4000, 4000) / 64;
  });
  const x = Tensor.from('f32', shape, numbers);
  const zero = n.flip() ? n.bytes(dtype, each) : undefined;
  switch (n.whole(0, 7)) {
    case 0:
      return oneNode('QuantizeLinear', [x, n.scales(each), n.bytes(dtype, each)], [0], { axis });
    case 1:
      return oneNode('DequantizeLinear', [n.bytes(dtype, shape), n.scales(each), zero], [0], { axis });
    case 2:
      return oneNode('DequantizeLinear', [n.integers(shape), n.scales(each)], [0], { axis });
    case 3: {
      const finite = Tensor.from(
        'f32',
        shape,
        numbers.map(value => (Number.isFinite(value) ? value : 0)),
      );
      return oneNode('DynamicQuantizeLinear', [finite], [0], {}, '', 3);
    }
    case 4: {
      const x4 = n.bytes(dtype, [n.whole(1, 2), n.whole(1, 90), n.whole(1, 9), n.whole(1, 9)]);
      const parameters = [n.scales([]), n.bytes(dtype, []), n.scales([]), n.bytes(dtype, [])];
      const last = Number(n.flip());
      return oneNode('QLinearGlobalAveragePool', [x4, ...parameters], [0], { channels_last: last }, 'com.microsoft');
    }
    case 5: {
      const op = n.flip() ? 'QLinearSigmoid' : 'QLinearLeakyRelu';
      const parameters = [n.scales([]), n.bytes(dtype, []), n.scales([]), n.bytes(dtype, [])];
      return oneNode(op, [n.bytes(dtype, shape), ...parameters], [0], {}, 'com.microsoft');
    }
    case 6: {
      const own = [n.scales([]), n.bytes(dtype, [])];
      const part = () => [n.bytes(dtype, shape), ...(n.flip() ? own : [n.scales([]), n.bytes(dtype, [])])];
      return oneNode('QLinearConcat', [...own, ...part(), ...part()], [2, 5], { axis }, 'com.microsoft');
    }
    default: {
      const other = [shape, shape.slice(1), [1], shape.map(size => (n.flip() ? size : 1))][n.whole(0, 3)]!;
      const [a, b] = [n.bytes(dtype, shape), n.bytes(dtype, other)];
      const [first, second] = n.flip() ? [a, b] : [b, a];
      const operand = (tensor: Tensor) => [tensor, n.scales([]), n.bytes(dtype, [])];
      const parts = [...operand(first), ...operand(second), n.scales([]), n.bytes(dtype, [])];
      return oneNode(n.flip() ? 'QLinearAdd' : 'QLinearMul', parts, n.flip() ? [0, 3] : [0], {}, 'com.microsoft');
    }
  }
}

describe.skipIf(!there).each(rows)('kernels of bytes, %s', isa => {
  beforeAll(() => forceIsa(isa));
  afterAll(() => forceIsa(null));

  test.each([
    ['products', products],
    ['convolutions', convolutions],
    ['elementwise work', elementwise],
  ] as const)('%s are those of the reference to the bit', { timeout: 120_000 }, (_, make) => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 30 }), seed => agree(make(new Noise(seed)))),
      { numRuns: 120 },
    );
  });

  test('sums beyond 32 bits wrap', () => {
    const [a, b] = [new Uint8Array(40_000).fill(255), new Int8Array(40_000).fill(-128)];
    const of = (zero: number): Case =>
      oneNode(
        'MatMulInteger',
        [
          Tensor.from('u8', [1, 40_000], a),
          Tensor.from('i8', [40_000, 1], b),
          Tensor.of('u8', 0),
          Tensor.of('i8', zero),
        ],
        [0],
      );
    agree(of(0));
    agree(of(127));
  });

  test('an image that several nodes read is the same to all of them', () => {
    const n = new Noise(5);
    const b = new GraphBuilder('residual', { opset: 21 });
    const x = b.input('x', { dtype: 'u8', shape: [1, 24, 9, 7] });
    let count = 0;
    const constant = (tensor: Tensor) => b.constant(`c${count++}`, tensor);
    const operand = () => [constant(Tensor.of('f32', 0.05)), constant(n.bytes('u8', []))];
    const conv = (from: number, kernel: number, groups: number) =>
      b.node({
        op: 'QLinearConv',
        inputs: [
          from,
          ...operand(),
          constant(n.bytes('u8', [24, 24 / groups, kernel, kernel])),
          ...operand(),
          ...[constant(Tensor.of('f32', 2)), constant(Tensor.of('u8', 128))],
        ],
        attributes: { kernel_shape: [kernel, kernel], pads: new Array(4).fill((kernel - 1) / 2), group: groups },
      })[0]!;
    const first = conv(x, 1, 1);
    const second = conv(conv(first, 3, 24), 3, 2);
    const join = (domain: string, op: string, inputs: readonly number[]) =>
      b.node({ domain, opset: 1, op, inputs })[0]!;
    const sum = join('com.microsoft', 'QLinearAdd', [second, ...operand(), first, ...operand(), ...operand()]);
    const pool = join('com.microsoft', 'QLinearGlobalAveragePool', [sum, ...operand(), ...operand()]);
    const scale = operand();
    const both = b.node({
      domain: 'com.microsoft',
      opset: 1,
      op: 'QLinearConcat',
      inputs: [...scale, second, ...scale, sum, ...scale],
      attributes: { axis: 1 },
    })[0]!;
    const flat = b.node({ op: 'Flatten', inputs: [pool], attributes: { axis: 1 } })[0]!;
    for (const id of [first, sum, pool, both, flat]) b.output(id!);
    agree({ graph: b.build(), inputs: { x: n.bytes('u8', [1, 24, 9, 7]) } });
  });
});

const corpus = process.env['CLOISTER_CORPUS'] ?? '';

describe.skipIf(!there || !existsSync(join(corpus, 'models')))('real quantised models', () => {
  test.each(['conv-qdq-s8s8', 'mobilenet-v2-int8'])(
    '%s: the same bits as the reference',
    { timeout: 120_000 },
    name => {
      const source = bytesSource(readFileSync(join(corpus, 'models', name, 'model.onnx')));
      const { graph } = quantiseOperators(parseOnnx(source), { constants: source });
      const n = new Noise(9);
      const inputs = Object.fromEntries(
        graph.inputs.map(id => {
          const { name: input, facts } = graph.values[id]!;
          const shape = facts.shape.map(dim => (typeof dim === 'number' ? dim : 1));
          const elements = Float32Array.from({ length: elementCount(shape) }, () => n.whole(-2000, 2000) / 1000);
          return [input, Tensor.from(facts.dtype as DType & 'f32', shape, elements)];
        }),
      );
      const run = (backend: Backend): NamedTensors => backend.prepare(graph, { constants: source }).runSync(inputs);
      const want = run(referenceBackend);
      const have = run(nativeBackend(openProgramHost(loadBinding()!)));
      for (const [output, tensor] of Object.entries(want)) sameBytes(have[output]!, tensor);
    },
  );
});
