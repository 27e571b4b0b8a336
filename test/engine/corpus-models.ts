/** The real models of the corpus, and the outputs that onnxruntime recorded for them with its graph optimisation off. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import type { NamedTensors } from '../../src/engine/index.ts';
import { bytesSource, type ModelSource, parseOnnx } from '../../src/formats/index.ts';
import type { Graph } from '../../src/graph/index.ts';
import { DTYPES, type DType, elementCount, Tensor } from '../../src/tensor/index.ts';

const folder = process.env['CLOISTER_CORPUS'] && join(process.env['CLOISTER_CORPUS'], 'models');
const NAMES: Readonly<Record<string, DType>> = {
  float32: 'f32',
  int8: 'i8',
  uint8: 'u8',
  int32: 'i32',
  int64: 'i64',
};

/** Sizes that a model must know when it is imported, because they decide the rank of its values. */
const DIMS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  'silero-vad': { batch: 1, sequence: 576 },
};

/** A model with its golden inputs and outputs. */
export interface CorpusModel {
  readonly graph: Graph;
  readonly source: ModelSource;
  readonly inputs: NamedTensors;
  readonly outputs: NamedTensors;
  /** The sizes of its symbolic dimensions in the golden inputs. */
  readonly dims: Readonly<Record<string, number>>;
}

/** The names of all models; none without a corpus. */
export const MODEL_NAMES: readonly string[] = folder
  ? readdirSync(folder).filter(name => existsSync(join(folder, name, 'model.onnx')))
  : [];

type Row = readonly [name: string, dtype: string, shape: readonly number[]];

/** Reads one model, which must be in the corpus. */
export function corpusModel(name: string): CorpusModel {
  const path = join(folder!, name);
  const source = bytesSource(readFileSync(join(path, 'model.onnx')));
  const dims = DIMS[name];
  const graph = parseOnnx(source, dims ? { dims } : {});
  const rows = JSON.parse(readFileSync(join(path, 'golden.json'), 'utf8')) as { inputs: Row[]; outputs: Row[] };
  const bytes = gunzipSync(readFileSync(join(path, 'golden.bin.gz')));
  let at = 0;
  const take = ([port, type, shape]: Row): readonly [string, Tensor] => {
    const dtype = NAMES[type]!;
    const length = elementCount(shape) * DTYPES[dtype].bytes;
    at += length;
    return [port, Tensor.fromBytes(dtype, shape, bytes.subarray(at - length, at))];
  };
  const inputs = Object.fromEntries(rows.inputs.map(take));
  const outputs = Object.fromEntries(rows.outputs.map(take));
  if (at !== bytes.length) throw new Error(`${name}: ${bytes.length - at} golden bytes are left over`);
  const bound: Record<string, number> = {};
  for (const id of graph.inputs) {
    const { name: port, facts } = graph.values[id]!;
    facts.shape.forEach((dim, axis) => {
      if (typeof dim === 'string' && inputs[port]) bound[dim] = inputs[port].shape[axis]!;
    });
  }
  return { graph, source, inputs, outputs, dims: bound };
}
