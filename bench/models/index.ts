/**
 * The models that the benches run, generated ones and those of the corpus, with what they are given.
 * @module
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { seededRandom } from '../../examples/digits/random.ts';
import type { NamedTensors } from '../../src/engine/index.ts';
import type { Graph } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { toOnnx } from '../engine-under-test.ts';
import { bert } from './bert.ts';
import { logisticRegression, mlp } from './dense.ts';
import { mobileNetV2 } from './mobilenet.ts';
import { integerTensor, normalTensor } from './network.ts';
import { treeEnsemble } from './trees.ts';

/** A model, and how it is called. */
export interface BenchModel {
  readonly name: string;
  /** Makes or reads the ONNX file. */
  readonly read: () => Uint8Array;
  /** Calls of it, made when they are needed. */
  readonly calls: () => readonly ModelCall[];
  readonly exact?: true;
}

/** One call of a model. */
export interface ModelCall {
  /** The model's name, and the size of the batch where that varies. */
  readonly name: string;
  readonly inputs: NamedTensors;
  /** The least ratio. */
  readonly holdTo?: number;
}

/** All models; those of the corpus where `corpus` is a folder that has them. */
export function models(corpus: string | undefined): readonly BenchModel[] {
  return [
    generated('mlp 784-128-64-10', () => mlp([784, 128, 64, 10]), { x: [1, 784] }, 4),
    generated('logistic regression 30', () => logisticRegression(30), { x: [1, 30] }, 4),
    trees('trees 100 of depth 6', 'x', () => toOnnx(treeEnsemble())),
    storedTrees(corpus),
    stored(corpus, 'squeezenet', 'squeezenet-body', { data: [1, 3, 227, 227] }, 1),
    generated('mobilenet-v2-like f32', () => mobileNetV2(), { input: [1, 3, 224, 224] }, 1),
    stored(corpus, 'ultraface', 'ultraface-320', { input: [1, 3, 240, 320] }, 1),
    // Checked to the bit beside the reference backend: see `Work.exact`.
    stored(corpus, 'mobilenet-v2 int8', 'mobilenet-v2-int8', { input: [1, 3, 224, 224] }, 1.8, true),
    bertLike('bert-like L6 H384 S128', { layers: 6, hidden: 384, heads: 12, sequence: 128 }, 1),
    bertLike('bert-like L2 H128 S128', { layers: 2, hidden: 128, heads: 2, sequence: 128 }),
  ].filter(model => model !== undefined);
}

function generated(
  name: string,
  make: () => Graph,
  shapes: Readonly<Record<string, readonly number[]>>,
  holdTo: number,
): BenchModel {
  return { name, read: () => toOnnx(make()), calls: () => [{ name, inputs: normals(shapes), holdTo }] };
}

function stored(
  corpus: string | undefined,
  name: string,
  folder: string,
  shapes: Readonly<Record<string, readonly number[]>>,
  holdTo: number,
  exact?: true,
): BenchModel | undefined {
  const path = corpus && join(corpus, 'models', folder, 'model.onnx');
  if (!path || !existsSync(path)) return undefined;
  return {
    name,
    read: () => new Uint8Array(readFileSync(path)),
    calls: () => [{ name, inputs: normals(shapes), holdTo }],
    ...(exact && { exact }),
  };
}

function trees(name: string, input: string, read: () => Uint8Array): BenchModel {
  return {
    name,
    read,
    calls: () => [
      { name: `${name}, n=1`, inputs: normals({ [input]: [1, 20] }), holdTo: 5 },
      { name: `${name}, n=1000`, inputs: normals({ [input]: [1000, 20] }), holdTo: 1 },
    ],
  };
}

/** A decision tree of scikit-learn over 20 features: labels and probabilities. */
function storedTrees(corpus: string | undefined): BenchModel | undefined {
  const model = stored(corpus, 'decision tree', 'sklearn-tree', {}, 1);
  return model && trees(model.name, 'input', model.read);
}

function bertLike(name: string, shape: Parameters<typeof bert>[0], holdTo?: number): BenchModel {
  const { sequence, vocabulary = 1000, batch = 1 } = shape;
  const tokens = [batch, sequence];
  return {
    name,
    read: () => toOnnx(bert(shape)),
    calls: () => [
      {
        name,
        inputs: {
          input_ids: integerTensor(seededRandom(7), 'i64', tokens, 0, vocabulary - 1),
          attention_mask: Tensor.from('i64', tokens, new BigInt64Array(batch * sequence).fill(1n)),
          token_type_ids: Tensor.zeros('i64', tokens),
        },
        ...(holdTo !== undefined && { holdTo }),
      },
    ],
  };
}

function normals(shapes: Readonly<Record<string, readonly number[]>>): NamedTensors {
  const random = seededRandom(6);
  return Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, normalTensor(random, shape)]));
}
