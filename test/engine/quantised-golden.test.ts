import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { type NamedTensors, referenceBackend } from '../../src/engine/index.ts';
import { bytesSource, type ModelSource, parseOnnx } from '../../src/formats/index.ts';
import { type Graph, quantiseOperators, type ValueId } from '../../src/graph/index.ts';
import { DTYPES, type DType, elementCount, Tensor } from '../../src/tensor/index.ts';

const corpus = process.env['CLOISTER_CORPUS'] ?? '';
const NAMES: Readonly<Record<string, DType>> = { float32: 'f32', int8: 'i8', uint8: 'u8' };

type Row = readonly [name: string, dtype: string, shape: readonly number[]];

/** Inputs and outputs recorded with onnxruntime, graph optimisation off. */
function golden(folder: string): { readonly inputs: NamedTensors; readonly outputs: NamedTensors } {
  const rows = JSON.parse(readFileSync(join(folder, 'golden.json'), 'utf8')) as { inputs: Row[]; outputs: Row[] };
  const bytes = gunzipSync(readFileSync(join(folder, 'golden.bin.gz')));
  let at = 0;
  const take = ([name, type, shape]: Row): readonly [string, Tensor] => {
    const dtype = NAMES[type]!;
    const length = elementCount(shape) * DTYPES[dtype].bytes;
    at += length;
    return [name, Tensor.fromBytes(dtype, shape, bytes.subarray(at - length, at))];
  };
  const inputs = Object.fromEntries(rows.inputs.map(take));
  const outputs = Object.fromEntries(rows.outputs.map(take));
  expect(at).toBe(bytes.length);
  return { inputs, outputs };
}

function readModel(name: string): { readonly graph: Graph; readonly source: ModelSource } {
  const source = bytesSource(readFileSync(join(corpus, 'models', name, 'model.onnx')));
  return { graph: parseOnnx(source), source };
}

/**
 * One step of an output: the scale with which it is dequantised, and for a sum of dequantised tensors the sum of theirs. What is
 * no integer times a scale has no step; it is compared as numbers are.
 */
function stepOf(graph: Graph, source: ModelSource, id: ValueId): number {
  const node = graph.nodes.find(({ outputs }) => outputs.includes(id));
  if (node?.op === 'Add') return node.inputs.reduce<number>((sum, input) => sum + stepOf(graph, source, input!), 0);
  if (node?.op !== 'DequantizeLinear') return 0;
  const constant = graph.constants.get(node.inputs[1]!)!;
  if (constant.kind === 'inline') return Number(constant.tensor.values()[0]);
  return Number(Tensor.fromBytes('f32', [], source.read(constant.offset, constant.length)).values()[0]);
}

function argmax(values: readonly number[]): number {
  return values.reduce((best, value, i) => (value > values[best]! ? i : best), 0);
}

const there = existsSync(join(corpus, 'models'));
const models = ['conv-qdq-s8s8', 'dynamic-quantize-matmul', 'mnist-int8', 'mobilenet-v2-int8', 'qdq-mobilenet-slice'];

describe.skipIf(!there)('real quantised models', () => {
  test.each(models)('%s gives the recorded outputs to one step of their scale, before and after the pass', name => {
    const { graph, source } = readModel(name);
    const { inputs, outputs } = golden(join(corpus, 'models', name));
    for (const form of [graph, quantiseOperators(graph, { constants: source }).graph]) {
      const executable = referenceBackend.prepare(form, { constants: source });
      const came = executable.runSync(inputs);
      executable.close();
      for (const id of graph.outputs) {
        const output = graph.values[id]!.name;
        const [have, want] = [came[output]!, outputs[output]!].map(tensor => tensor.values().map(Number));
        const step = stepOf(graph, source, id);
        const far = have!.findIndex((value, i) => {
          const near = step > 0 ? step * 1.0001 : 1e-4 + 1e-3 * Math.abs(want![i]!);
          return !(Math.abs(value - want![i]!) <= near);
        });
        expect([output, far, have![far]]).toEqual([output, -1, undefined]);
        expect(argmax(have!)).toBe(argmax(want!));
      }
    }
  });

  test('the pass leaves no operator between dequantising and quantising', () => {
    for (const [name, made] of [
      ['conv-qdq-s8s8', { QLinearConv: 1 }],
      ['qdq-mobilenet-slice', { QLinearConv: 6, QLinearAdd: 2 }],
    ] as const) {
      const { graph, source } = readModel(name);
      const { nodes } = quantiseOperators(graph, { constants: source }).graph;
      expect(nodes.filter(node => node.op === 'QuantizeLinear').length).toBe(1);
      for (const [op, count] of Object.entries(made)) {
        expect(nodes.filter(node => node.op === op).length).toBe(count);
      }
    }
  });

  test('mobilenet-v2-int8 sees an orange', () => {
    const { graph, source } = readModel('mobilenet-v2-int8');
    const folder = join(corpus, 'models/mobilenet-v2-int8/sample');
    const pixels = readFileSync(join(folder, 'orange.raw'));
    const labels = readFileSync(join(folder, 'labels.txt'), 'utf8').trim().split('\n');
    // Height x width x RGB to planes, with the means and deviations of ImageNet.
    const x = Float32Array.from({ length: pixels.length }, (_, at) => {
      const [channel, place] = [Math.floor(at / 50176), at % 50176];
      return (pixels[3 * place + channel]! / 255 - [0.485, 0.456, 0.406][channel]!) / [0.229, 0.224, 0.225][channel]!;
    });
    const executable = referenceBackend.prepare(graph, { constants: source });
    const { output } = executable.runSync({ input: Tensor.from('f32', [1, 3, 224, 224], x) });
    // The list of labels starts with one for the background, which the model has no class for.
    expect(labels[1 + argmax(output!.values().map(Number))]).toBe('orange');
  });

  // CLOISTER_SLOW=1 shows it all digits.
  const slow = process.env['CLOISTER_SLOW'] !== undefined;
  const count = slow ? 8000 : 400;

  const claim = slow ? '7,905 of 8,000 digits, as onnxruntime does, give or take one' : '390 of 400 digits or more';

  test(`mnist-int8 recognises ${claim}`, { timeout: 300_000 }, () => {
    const idx = (name: string, header: number): Uint8Array =>
      gunzipSync(readFileSync(join(corpus, 'datasets', name))).subarray(header);
    const pixels = idx('mnist-8000-images-idx3-ubyte.gz', 16);
    const labels = idx('mnist-8000-labels-idx1-ubyte.gz', 8);
    const { graph, source } = readModel('mnist-int8');
    const executable = referenceBackend.prepare(graph, { constants: source });
    let right = 0;
    for (let i = 0; i < count; i++) {
      const x = Float32Array.from(pixels.subarray(i * 784, (i + 1) * 784), pixel => pixel / 255);
      const { Plus214_Output_0: scores } = executable.runSync({ Input3: Tensor.from('f32', [1, 1, 28, 28], x) });
      if (argmax(scores!.values().map(Number)) === labels[i]) right++;
    }
    if (slow) expect(Math.abs(right - 7905)).toBeLessThanOrEqual(1);
    // Of all 8,000 onnxruntime gets 95 wrong, so five of 400.
    else expect(right).toBeGreaterThanOrEqual(390);
  });
});
