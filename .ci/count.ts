/**
 * `node .ci/count.ts REPORT FAILED_STEPS` reads vitest's JSON report and prints the closing line of `.ci/run`. Exits 1 when a
 * test or a step failed, or when no test ran.
 * @module
 */
import { readFileSync } from 'node:fs';

interface Report {
  numPassedTests: number;
  numFailedTests: number;
  numFailedTestSuites: number;
  numPendingTests: number;
  numTodoTests: number;
}

const [file = '', steps = '0'] = process.argv.slice(2);
let report: Report | undefined;
try {
  report = JSON.parse(readFileSync(file, 'utf8')) as Report;
} catch {
  console.error('No test report: the tests did not run to their end.');
}
const passed = report?.numPassedTests ?? 0;
// A suite that fails to load has no failed test of its own, yet it is a failure.
const failed = Math.max(report?.numFailedTests ?? 1, report?.numFailedTestSuites ? 1 : 0) + Number(steps);
const skipped = (report?.numPendingTests ?? 0) + (report?.numTodoTests ?? 0);
console.log(`\n${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
