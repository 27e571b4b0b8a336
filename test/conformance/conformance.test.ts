import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { referenceBackend } from '../../src/engine/index.ts';
import { writeOnnx, writeTensorProto } from '../../src/formats/index.ts';
import { GraphBuilder, OPERATORS } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { difference, findCases, type Outcome, runCase, TOLERANCE } from './cases.ts';

const corpus = process.env['CLOISTER_CORPUS'];

describe.skipIf(!corpus)('the ONNX backend tests', () => {
  test('pass, or need an operator that is not in the table', () => {
    const outcomes = findCases(join(corpus!, 'onnx')).map(({ name, path }) => ({
      name,
      ...runCase(path, referenceBackend),
    }));
    expect(outcomes.filter(({ kind }) => kind === 'failed')).toEqual([]);
    for (const outcome of outcomes) {
      if (outcome.kind !== 'skipped') continue;
      for (const operator of outcome.operators) {
        // «Resize-19»: what was missing is really missing at that opset.
        const [name, opset] = operator.split('-') as [string, string];
        const since = OPERATORS.get(`:${name}`)?.versions[0]?.since ?? Number.POSITIVE_INFINITY;
        expect(Number(opset), operator).toBeLessThan(since);
      }
    }
    expect(outcomes.filter(({ kind }) => kind === 'passed').length).toBeGreaterThanOrEqual(535);
  }, 120_000);
});

describe('the runner', () => {
  /** A case of one Relu, whose expected output is `expected`. */
  function withCase(expected: Tensor | undefined, check: (outcome: Outcome) => void): void {
    const dir = mkdtempSync(join(tmpdir(), 'conformance-'));
    try {
      const b = new GraphBuilder('g', { opset: 17 });
      const x = b.input('x', { dtype: 'f32', shape: [2] });
      b.output(b.node({ op: 'Relu', inputs: [x], outputs: ['y'] })[0]!);
      writeFileSync(join(dir, 'model.onnx'), writeOnnx(b.build()));
      mkdirSync(join(dir, 'test_data_set_0'));
      writeFileSync(join(dir, 'test_data_set_0/input_0.pb'), writeTensorProto('x', Tensor.of('f32', [-1, 2])));
      if (expected) writeFileSync(join(dir, 'test_data_set_0/output_0.pb'), writeTensorProto('y', expected));
      check(runCase(dir, referenceBackend));
    } finally {
      rmSync(dir, { recursive: true });
    }
  }

  test('tells agreement from disagreement', () => {
    withCase(Tensor.of('f32', [0, 2]), outcome => expect(outcome).toEqual({ kind: 'passed' }));
    withCase(Tensor.of('f32', [0, 2.01]), outcome => expect(outcome.kind).toBe('failed'));
    withCase(Tensor.of('f64', [0, 2]), outcome => expect(outcome.kind).toBe('failed'));
    withCase(Tensor.of('f32', [[0, 2]]), outcome => expect(outcome.kind).toBe('failed'));
    withCase(undefined, outcome => expect(outcome.kind).toBe('failed'));
  });

  test('compares infinities and NaN with themselves only', () => {
    const [inf, nan] = [Number.POSITIVE_INFINITY, Number.NaN];
    const differs = (came: number, expected: number): boolean =>
      difference(Tensor.of('f32', [came]), Tensor.of('f32', [expected]), TOLERANCE) !== undefined;
    expect([differs(inf, inf), differs(nan, nan)]).toEqual([false, false]);
    expect([differs(1, inf), differs(inf, -inf), differs(nan, 1), differs(1, nan), differs(inf, 1)]).not.toContain(
      false,
    );
  });
});
