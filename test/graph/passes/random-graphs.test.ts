import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { referenceBackend } from '../../../src/engine/index.ts';
import { type Graph, inferFacts, optimise, PASSES } from '../../../src/graph/index.ts';
import { graphs } from '../../suites/graphs.ts';
import { disagreement, factsOf } from '../../suites/passes.ts';

const constants = {
  read(): never {
    throw new Error('nothing here lies in a file');
  },
};

const text = (graph: Graph): string =>
  JSON.stringify(graph.nodes.map(({ op, inputs, outputs, attributes }) => ({ op, inputs, outputs, attributes })));

describe('random graphs', () => {
  test.each(PASSES.map(pass => [pass.name, pass] as const))(
    '%s keeps what a graph computes, its facts and itself',
    (_, pass) => {
      let fired = 0;
      fc.assert(
        fc.property(graphs(), ({ graph, inputs }) => {
          const wanted = referenceBackend.prepare(graph, { constants }).runSync(inputs);
          const result = pass.run(inferFacts(graph), {});
          fired += result.rewrites;
          const came = referenceBackend.prepare(result.graph, { constants }).runSync(inputs);
          expect(disagreement(came, wanted, pass.keeps)).toBeUndefined();
          expect(factsOf(result.graph)).toEqual(factsOf(inferFacts(result.graph)));
          if (result.rewrites === 0) expect(text(result.graph)).toBe(text(graph));
        }),
        { numRuns: 100 },
      );
      // There is nothing to learn or to fold here, and no step makes an If or a quantised tensor.
      if (!['shape-inference', 'constant-branches', 'constant-folding', 'quantised-operators'].includes(pass.name))
        expect(fired).toBeGreaterThan(0);
    },
  );

  test.each([false, true])(
    'the pipeline keeps what a graph computes, and finds nothing to do twice (symbolic: %s)',
    symbolic => {
      fc.assert(
        fc.property(graphs({ symbolic }), ({ graph, inputs }) => {
          const wanted = referenceBackend.prepare(graph, { constants }).runSync(inputs);
          const once = optimise(graph).graph;
          const came = referenceBackend.prepare(once, { constants }).runSync(inputs);
          expect(disagreement(came, wanted, 'rounding')).toBeUndefined();
          expect(factsOf(once)).toEqual(factsOf(inferFacts(once)));
          expect(once.nodes.length).toBeLessThanOrEqual(graph.nodes.length + 8);
          const twice = optimise(once);
          expect(twice.report.filter(row => row.rewrites > 0)).toEqual([]);
          expect(text(twice.graph)).toBe(text(once));
        }),
        { numRuns: 200 },
      );
    },
  );

  test('declutter alone changes no bit', () => {
    fc.assert(
      fc.property(graphs({ symbolic: true }), ({ graph, inputs }) => {
        const wanted = referenceBackend.prepare(graph, { constants }).runSync(inputs);
        const { graph: tidy } = optimise(graph, { groups: ['declutter'] });
        expect(
          disagreement(referenceBackend.prepare(tidy, { constants }).runSync(inputs), wanted, 'bits'),
        ).toBeUndefined();
        expect(tidy.nodes.length).toBeLessThanOrEqual(graph.nodes.length);
      }),
      { numRuns: 200 },
    );
  });
});
