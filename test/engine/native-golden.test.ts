import { expect, test } from 'vitest';
import { nativeStatus } from '../../native/index.ts';
import { loadBinding } from '../../native/loader.ts';
import { openProgramHost } from '../../native/program-host.ts';
import { nativeBackend } from '../../src/engine/index.ts';
import { disagreement } from '../suites/passes.ts';
import { corpusModel, MODEL_NAMES } from './corpus-models.ts';

const SEQUENCES = ['bert-tiny-encoder', 'bert-toy-5layer', 'tf-bert-qa', 't5-encoder', 'sklearn-tree', 'xgboost'];

test.skipIf(nativeStatus().kind !== 'loaded' || MODEL_NAMES.length === 0).each(SEQUENCES)(
  '%s runs whole on native kernels and agrees with onnxruntime within rounding',
  name => {
    const { graph, source, inputs, outputs, dims } = corpusModel(name);
    const backend = nativeBackend(openProgramHost(loadBinding()!));
    const executable = backend.prepare(graph, { constants: source, dims });
    try {
      expect(disagreement(executable.runSync(inputs), outputs, 'rounding')).toBeUndefined();
    } finally {
      executable.close();
    }
  },
  30_000,
);
