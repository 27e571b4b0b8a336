/**
 * The ONNX backend tests below a folder, as tests of a backend.
 * @module
 */
import { describe, expect, it } from 'vitest';
import type { Backend } from '../../src/engine/index.ts';
import { findCases, runCase, TOLERANCE, type Tolerance } from '../conformance/cases.ts';

/**
 * Runs every case below `dir` on the backend that `open` gives: one test each. A model that the backend refuses as unsupported is
 * skipped, with the reason.
 */
export function conformanceSuite(
  name: string,
  dir: string,
  open: () => Backend,
  tolerance: Tolerance = TOLERANCE,
): void {
  describe(`ONNX cases: ${name}`, () => {
    const cases = findCases(dir);
    it('are there', () => expect(cases.length).toBeGreaterThan(0));
    for (const { name: title, path } of cases) {
      it(title, context => {
        const outcome = runCase(path, open(), tolerance);
        if (outcome.kind === 'skipped') context.skip(outcome.reason);
        expect(outcome).toEqual({ kind: 'passed' });
      });
    }
  });
}
