/**
 * Runs bench suites and prints their tables.
 *
 *     npm run bench -- [SUITE...] [--json FILE] [--markdown FILE]
 *
 * Suites: engine, kernels, memory, sandbox, ledger, audit, index, page, reference, scheduler, dp, import; all when none is named.
 * `--json FILE` writes the rows as a JSON array; `--markdown FILE` rewrites the tables of these suites in a page, such as
 * `bench/RESULTS.md`; the rows together with the machine are kept in `bench/results/COMMIT.json` as well. Results are checked before
 * they are timed: the exit code is 1 when a check failed, 2 for a usage error.
 * @module
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { describeMachine, formatMachine } from './machine.ts';
import { replaceTables } from './markdown.ts';
import { type Check, formatRows, type Report, type Row, summariseHeld } from './rows.ts';

const SUITES: Readonly<Record<string, () => Promise<(report: Report) => Promise<void>>>> = {
  engine: async () => (await import('./suites/engine.ts')).benchEngine,
  kernels: async () => (await import('./suites/kernels.ts')).benchKernels,
  memory: async () => (await import('./suites/memory.ts')).benchMemory,
  sandbox: async () => (await import('./suites/sandbox.ts')).benchSandbox,
  ledger: async () => (await import('./suites/ledger.ts')).benchLedger,
  audit: async () => (await import('./suites/audit.ts')).benchAudit,
  index: async () => (await import('./suites/audit-index.ts')).benchIndex,
  page: async () => (await import('./suites/page.ts')).benchPage,
  reference: async () => (await import('./suites/reference.ts')).benchReference,
  scheduler: async () => (await import('./suites/scheduler.ts')).benchScheduler,
  dp: async () => (await import('./suites/dp.ts')).benchDp,
  import: async () => (await import('./suites/import.ts')).benchImport,
};

const { suites, json, markdown } = parseArguments();
const machine = describeMachine();
console.log(formatMachine(machine));

const rows: Row[] = [];
const checks: Check[] = [];
for (const name of suites) {
  const bench = await SUITES[name]!();
  const first = rows.length;
  console.log(`\n${name}`);
  try {
    await bench({
      row(row) {
        rows.push(row);
        if (process.stderr.isTTY) console.error(`  ${row.case}`);
      },
      check(check) {
        checks.push(check);
        console.log(`  ${check.ok ? 'ok    ' : 'FAILED'}  ${check.name}: ${check.detail}`);
      },
      note: line => console.log(`  note    ${line}`),
    });
  } catch (error) {
    checks.push({ name: `${name} ran to its end`, ok: false, detail: String(error) });
    console.error(error);
  }
  if (rows.length > first) console.log(formatRows(rows.slice(first)));
  const held = summariseHeld(rows.slice(first));
  if (held !== undefined) console.log(held);
}

if (json !== undefined) writeFileSync(json, `${JSON.stringify(rows, null, 2)}\n`);
if (markdown !== undefined) {
  const page = existsSync(markdown) ? readFileSync(markdown, 'utf8') : '';
  writeFileSync(markdown, replaceTables(page, machine, rows));
}
const results = join(import.meta.dirname, 'results');
mkdirSync(results, { recursive: true });
writeFileSync(join(results, `${machine.commit}.json`), `${JSON.stringify({ machine, rows, checks }, null, 2)}\n`);
const failed = checks.filter(check => !check.ok);
for (const check of failed) console.error(`FAILED ${check.name}: ${check.detail}`);
process.exitCode = failed.length > 0 ? 1 : 0;

function parseArguments(): { suites: readonly string[]; json: string | undefined; markdown: string | undefined } {
  const known = Object.keys(SUITES);
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: { json: { type: 'string' }, markdown: { type: 'string' } },
    });
    const unknown = positionals.find(name => !known.includes(name));
    if (unknown !== undefined) throw new Error(`no suite ${JSON.stringify(unknown)}`);
    return { suites: positionals.length > 0 ? positionals : known, json: values.json, markdown: values.markdown };
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}`);
    console.error(`usage: npm run bench -- [${known.join('|')}]... [--json FILE] [--markdown FILE]`);
    process.exit(2);
  }
}
