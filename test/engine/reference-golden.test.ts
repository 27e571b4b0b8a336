import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { referenceBackend } from '../../src/engine/index.ts';
import { difference, runCase } from '../conformance/cases.ts';
import { corpusModel, MODEL_NAMES } from './corpus-models.ts';

const corpus = process.env['CLOISTER_CORPUS'];
/** Where a rounding to integers may fall the other way, the bound is a step of the scale: see quantised-golden.test.ts. */
const quantised = [
  'conv-qdq-s8s8',
  'dynamic-quantize-matmul',
  'mnist-int8',
  'mobilenet-v2-int8',
  'qdq-mobilenet-slice',
];

describe.skipIf(!corpus)('real models', () => {
  test.each(MODEL_NAMES.filter(name => !quantised.includes(name)))('%s gives the recorded outputs', name => {
    const { graph, source, inputs, outputs } = corpusModel(name);
    const came = referenceBackend.prepare(graph, { constants: source }).runSync(inputs);
    expect(Object.keys(outputs).length).toBeGreaterThan(0);
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
