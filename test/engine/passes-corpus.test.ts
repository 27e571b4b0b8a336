import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { referenceBackend } from '../../src/engine/index.ts';
import {
  type Graph,
  inferFacts,
  optimise,
  PASSES,
  type PassOptions,
  quantiseOperators,
} from '../../src/graph/index.ts';
import { findCases, runCase } from '../conformance/cases.ts';
import { type Agreement, comparing, disagreement, factsOf } from '../suites/passes.ts';
import { corpusModel, MODEL_NAMES } from './corpus-models.ts';

const corpus = process.env['CLOISTER_CORPUS'];

type Row = readonly [name: string, agreement: Agreement, run: (graph: Graph, options: PassOptions) => Graph];

/** Every pass alone, and all of them together. */
const ROWS: readonly Row[] = [
  ...PASSES.map((pass): Row => [pass.name, pass.keeps, (graph, options) => pass.run(graph, options).graph]),
  ['declutter', 'bits', (graph, options) => optimise(graph, { ...options, groups: ['declutter'] }).graph],
  [
    'everything on real numbers',
    'rounding',
    (graph, options) => optimise(graph, { ...options, disable: ['quantised-operators'] }).graph,
  ],
  ['everything', 'steps', (graph, options) => optimise(graph, options).graph],
];

describe.skipIf(!corpus)('ONNX cases', () => {
  const cases = corpus ? findCases(join(corpus, 'onnx')) : [];

  test.each(ROWS)('%s keeps the outputs of every case', (_, agreement, run) => {
    let passed = 0;
    const wrong: string[] = [];
    for (const { name, path } of cases) {
      const found: string[] = [];
      const outcome = runCase(
        path,
        comparing((graph, { constants }) => run(graph, { constants }), agreement, found),
      );
      for (const why of found) wrong.push(`${name}: ${why}`);
      if (outcome.kind === 'failed') wrong.push(`${name}: ${outcome.reason}`);
      if (outcome.kind === 'passed') passed++;
    }
    expect(wrong).toEqual([]);
    expect(passed).toBeGreaterThan(500);
  });
});

describe.skipIf(!corpus)('real models', () => {
  test.each(MODEL_NAMES)('%s: every pass keeps its outputs, sizes free or bound', name => {
    const { graph, source, inputs, dims } = corpusModel(name);
    const options = { constants: source };
    const outputsOf = (which: Graph) => referenceBackend.prepare(which, options).runSync(inputs);
    const wanted = outputsOf(graph);
    // quantised-golden.test.ts holds the pass by itself to the scales of the outputs; with the others it may do no more.
    const quantised = outputsOf(quantiseOperators(graph, options).graph);
    const wrong: string[] = [];
    for (const sizes of [{}, dims]) {
      const before = inferFacts(graph, { dims: sizes });
      for (const [pass, agreement, run] of ROWS) {
        const after = run(before, options);
        const bound = agreement === 'steps' ? 'rounding' : agreement;
        const why =
          after === before
            ? undefined
            : disagreement(outputsOf(after), agreement === 'steps' ? quantised : wanted, bound);
        if (why !== undefined) wrong.push(`${pass}: ${why}`);
        expect(after.inputs.map(id => after.values[id]!.name)).toEqual(graph.inputs.map(id => graph.values[id]!.name));
      }
      const { graph: done } = optimise(graph, { ...options, dims: sizes });
      expect(factsOf(done)).toEqual(factsOf(inferFacts(done)));
      expect(optimise(done, options).report.filter(row => row.rewrites > 0)).toEqual([]);
    }
    expect(wrong).toEqual([]);
  });

  /** How many nodes of an operator are left, sizes bound. */
  function counts(name: string): Readonly<Record<string, number>> {
    const { graph, source, dims } = corpusModel(name);
    const out: Record<string, number> = {};
    const { graph: done } = optimise(graph, { constants: source, dims, disable: ['elementwise-chains'] });
    for (const { op } of done.nodes) out[op] = (out[op] ?? 0) + 1;
    return out;
  }

  test('tf-bert-qa is found to be 24 layers of attention, normalisation and Gelu', () => {
    const { graph } = corpusModel('tf-bert-qa');
    const left = counts('tf-bert-qa');
    expect(left).toMatchObject({ Attention: 24, LayerNormalization: 49, Gelu: 24 });
    expect(left).not.toHaveProperty('Shape');
    expect(Object.values(left).reduce((sum, n) => sum + n, 0)).toBeLessThan(graph.nodes.length / 5);
  });

  test('bert-toy-5layer is found to be 5 layers of attention, normalisation and Gelu', () => {
    expect(counts('bert-toy-5layer')).toMatchObject({ Attention: 5, LayerNormalization: 12, Gelu: 6 });
  });

  test('the convolutions of qdq-mobilenet-slice compute on integers', () => {
    const left = counts('qdq-mobilenet-slice');
    expect(left['QLinearConv']).toBe(6);
    expect(left).not.toHaveProperty('Conv');
  });

  test('the convolutions of squeezenet-body take their activations', () => {
    const left = counts('squeezenet-body');
    expect(left['FusedConv']).toBe(25);
    expect(left).not.toHaveProperty('Relu');
  });
});
