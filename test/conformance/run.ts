/**
 * Runs ONNX backend-test cases against a backend and reports what passed.
 *
 *     npm run conformance -- DIR [--backend reference|native] [--json FILE]
 *
 * Every folder below DIR with a `model.onnx` is a case. A case whose model is refused as unsupported is skipped, with the operators
 * that are missing. The exit code is 1 when a case failed, 2 on wrong usage.
 * @module
 */
import { statSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { Backend } from '../../src/engine/index.ts';
import { referenceBackend } from '../../src/engine/reference.ts';
import { findCases, type Outcome, runCase } from './cases.ts';

/** The commonest reasons of skips are shown; --json has all of them. */
const MOST_REASONS = 20;

function usage(problem: string): never {
  console.error(`${problem}\nusage: npm run conformance -- DIR [--backend reference|native] [--json FILE]`);
  process.exit(2);
}

async function pick(name: string): Promise<Backend> {
  if (name === 'reference') return referenceBackend;
  if (name !== 'native') usage(`unknown backend ${JSON.stringify(name)}`);
  const { loadKernels } = await import('../../sandbox/kernels.ts');
  const { nativeBackend } = await import('../../src/engine/native-backend.ts');
  const { host, why } = loadKernels();
  if (!host) usage(`there is no native backend here: ${why}`);
  return nativeBackend(host);
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { backend: { type: 'string', default: 'reference' }, json: { type: 'string' } },
});
const [dir] = positionals;
if (dir === undefined || positionals.length > 1) usage('expected one directory');
if (!statSync(dir, { throwIfNoEntry: false })?.isDirectory()) usage(`${dir} is not a directory`);

const backend = await pick(values.backend);
const results: { readonly name: string; readonly outcome: Outcome }[] = [];
const missing = new Map<string, number>();
const reasons = new Map<string, number>();
for (const { name, path } of findCases(dir)) {
  const outcome = runCase(path, backend);
  results.push({ name, outcome });
  if (outcome.kind === 'failed') console.log(`FAILED ${name}: ${outcome.reason}`);
  if (outcome.kind === 'skipped') {
    for (const operator of outcome.operators) missing.set(operator, (missing.get(operator) ?? 0) + 1);
    if (outcome.operators.length === 0) {
      // Names and offsets differ from case to case; what is left of the message groups them.
      const reason = outcome.reason.replace(/"[^"]*"/g, '…').replace(/\d+/g, 'N');
      reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
    }
  }
}
const byCount = (counts: ReadonlyMap<string, number>): readonly (readonly [string, number])[] =>
  [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
if (missing.size > 0) {
  console.log(
    `skipped for want of: ${byCount(missing)
      .map(([name, count]) => `${name} (${count})`)
      .join(', ')}`,
  );
}
const grouped = byCount(reasons);
for (const [reason, count] of grouped.slice(0, MOST_REASONS)) console.log(`skipped ${count}: ${reason.slice(0, 160)}`);
if (grouped.length > MOST_REASONS) console.log(`skipped for ${grouped.length - MOST_REASONS} more reasons`);

const count = (kind: Outcome['kind']): number => results.filter(({ outcome }) => outcome.kind === kind).length;
if (values.json !== undefined) {
  const report = {
    backend: backend.name,
    passed: count('passed'),
    failed: count('failed'),
    skipped: count('skipped'),
    results,
  };
  writeFileSync(values.json, `${JSON.stringify(report, null, 2)}\n`);
}
console.log(`${count('passed')} passed, ${count('failed')} failed, ${count('skipped')} skipped`);
process.exitCode = count('failed') > 0 ? 1 : 0;
