import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { referenceBackend } from '../../src/engine/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { corpusModel } from './corpus-models.ts';

const corpus = process.env['CLOISTER_CORPUS'] ?? '';
const SPECIES = ['Iris-setosa', 'Iris-versicolor', 'Iris-virginica'];

describe.skipIf(!existsSync(join(corpus, 'datasets')))('flowers of the corpus', () => {
  test('the boosted trees name the species of nearly all of them', () => {
    const lines = readFileSync(join(corpus, 'datasets/iris.csv'), 'utf8').trim().split(/\r?\n/);
    const flowers = lines.filter(line => line !== '').map(line => line.split(','));
    expect(flowers.length).toBe(150);
    const { graph, source } = corpusModel('xgboost');
    const [input, output] = [graph.inputs[0]!, graph.outputs[0]!].map(id => graph.values[id]!.name) as [string, string];
    const x = Tensor.of(
      'f32',
      flowers.map(flower => flower.slice(0, 4).map(Number)),
    );
    const y = referenceBackend.prepare(graph, { constants: source }).runSync({ [input]: x })[output]!;
    // The model regresses the number of the species; it was trained on most of these flowers.
    const right = flowers.filter((flower, i) => SPECIES[Math.round(Number(y.values()[i]))] === flower[4]);
    expect(right.length).toBeGreaterThanOrEqual(145);
  });
});
