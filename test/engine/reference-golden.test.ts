import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { type NamedTensors, referenceBackend } from '../../src/engine/index.ts';
import { bytesSource, parseOnnx } from '../../src/formats/index.ts';
import { DTYPES, type DType, elementCount, Tensor } from '../../src/tensor/index.ts';
import { difference, runCase } from '../conformance/cases.ts';

const corpus = process.env['CLOISTER_CORPUS'];
const models = ['mnist-8', 'mnist-cnn-pytorch', 'bert-tiny-encoder', 'bert-toy-5layer', 't5-encoder', 'tf-bert-qa'];
const NAMES: Readonly<Record<string, DType>> = { float32: 'f32', int32: 'i32', int64: 'i64' };

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

describe.skipIf(!corpus)('real models', () => {
  test.each(models)('%s gives the recorded outputs', name => {
    const folder = join(corpus!, 'models', name);
    const source = bytesSource(readFileSync(join(folder, 'model.onnx')));
    const executable = referenceBackend.prepare(parseOnnx(source), { constants: source });
    const { inputs, outputs } = golden(folder);
    const came = executable.runSync(inputs);
    for (const [output, expected] of Object.entries(outputs)) {
      expect(difference(came[output], expected, { relative: 1e-3, absolute: 1e-4 })).toBeUndefined();
    }
  });

  test('mnist-8 gives the outputs that were published with it', () => {
    const folder = join(corpus!, 'models/mnist-8');
    expect(readdirSync(folder).filter(name => name.startsWith('test_data_set_')).length).toBe(3);
    expect(runCase(folder, referenceBackend, { relative: 1e-3, absolute: 1e-4 })).toEqual({ kind: 'passed' });
  });
});
