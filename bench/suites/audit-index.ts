/**
 * How fast the index over a log of 1,000,000 records answers, beside reading every record through the filter: with its columns in memory,
 * as a page asks for the second time, and as somebody asks who has just opened it.
 * @module
 */
import { mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import {
  type AuditRecord,
  type LogIndex,
  type LogSource,
  matchesFilter,
  openLogIndex,
  parseFilter,
} from '../../sandbox/audit/index.ts';
import { canonicalJson, encodeUtf8, type Json } from '../../src/base/index.ts';
import { openPostgresStore, openSqliteStore, type Store } from '../../src/store/index.ts';
import { compare } from '../measure.ts';
import { amountRow, latencyRow, type Report } from '../rows.ts';

const RECORDS = 1_000_000;
const SUITE = { suite: 'index', threads: 1 } as const;
const QUICK = { rounds: 3, roundMs: 1, calls: 3 } as const;
const DIGEST = 'ab'.repeat(24);

/** Filters, from those that ask for one record to those that ask for all. */
const FILTERS = [
  'request:5f0c-500000',
  'decision:refuse actor:ward-7',
  'actor:ward-3',
  '-actor:ward-3',
  'action:charge since:2026-09-21',
  '',
  '500000ab', // a word in one record
  'TRIAGE', // a word in all of them
];

/** The suite `index`. */
export async function benchIndex(report: Report): Promise<void> {
  const results = join(import.meta.dirname, '..', 'results');
  mkdirSync(results, { recursive: true });
  const dir = mkdtempSync(join(results, 'index-'));
  const path = join(dir, 'index.sqlite');
  try {
    await timeStore('SQLite', () => openSqliteStore({ path }), report);
    const bytes = statSync(path).size / 2 ** 20;
    report.row(amountRow({ ...SUITE, case: 'SQLite, size of the file', unit: 'MiB', peerName: '–' }, bytes, null));
    const url = process.env['CLOISTER_POSTGRES_URL'];
    const schema = `bench_index_${process.pid}`;
    if (url) await timeStore('PostgreSQL', () => openPostgresStore({ url, schema }), report);
    else report.note('no rows on PostgreSQL: CLOISTER_POSTGRES_URL is not set');
    if (url) await dropSchema(url, schema);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** Takes away what a bench made on a server. */
export async function dropSchema(url: string, schema: string): Promise<void> {
  const { default: pg } = await import('pg');
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);
  await client.end();
}

async function timeStore(name: string, open: () => Promise<Store>, report: Report): Promise<void> {
  await using store = await open();
  const start = performance.now();
  await using index = await openLogIndex(store);
  await index.update(source());
  const built = (performance.now() - start) / 1000;
  report.row(
    amountRow({ ...SUITE, case: `${name}, made from 1,000,000 records`, unit: 's', peerName: '–' }, built, null),
  );
  for (const text of FILTERS) await timeFilter(`${name}, ${text || 'all records'}`, text, store, index, report);
  report.row(
    latencyRow(
      { ...SUITE, case: `${name}, what was spent of each scope`, unit: 'ms', peerName: '–', holdTo: { atMost: 300 } },
      await compare({ run: () => index.budgets(), async: true }, undefined, QUICK),
    ),
  );
}

async function timeFilter(name: string, text: string, store: Store, index: LogIndex, report: Report): Promise<void> {
  const filter = parseFilter(text, 0);
  const expected = countDirectly(text);
  const cold = performance.now();
  await using fresh = await openLogIndex(store);
  await fresh.update(source());
  const found = await fresh.seqs(filter);
  const note = `${found.length.toLocaleString('en')} records; ${Math.round(performance.now() - cold)} ms by an index that was just opened`;
  report.check({
    name: `${name}: as many records as the filter finds`,
    ok: found.length === expected,
    detail: `${found.length} of ${expected}`,
  });
  const row = { ...SUITE, unit: 'ms', peerName: '–', holdTo: { atMost: 300 } } as const;
  const seqs = { run: () => index.seqs(filter), async: true };
  report.row(latencyRow({ ...row, case: `${name}: which records`, note }, await compare(seqs, undefined, QUICK)));
  const histogram = { run: () => index.histogram(filter, 100), async: true };
  report.row(latencyRow({ ...row, case: `${name}: histogram` }, await compare(histogram, undefined, QUICK)));
}

/** A log without its files: the index reads what a log would give it. */
function source(): LogSource {
  return {
    size: RECORDS,
    rootAt: size => encodeUtf8(String(size).padStart(32)),
    *leaves(from, to) {
      for (let seq = from; seq < to; seq++) yield encodeUtf8(canonicalJson(record(seq) as unknown as Json));
    },
  };
}

/** A record of usual size. */
function record(seq: number): AuditRecord {
  const refused = seq % 97 === 0;
  const scope = `clinic-${seq % 3}/2026-q4`;
  return {
    v: 1,
    seq,
    time: Date.UTC(2026, 8, 20) + 250 * seq,
    actor: `ward-${seq % 41}`,
    action: refused ? 'refuse' : seq % 2 === 0 ? 'charge' : 'release',
    object: { kind: 'scope', id: scope },
    decision: refused ? { outcome: 'refuse', reason: 'SCOPE_EXHAUSTED' } : { outcome: 'allow' },
    purpose: 'triage',
    request: `5f0c-${seq}`,
    model: `sha256:${DIGEST}${'0'.repeat(16)}`,
    output: `sha256:${DIGEST}${String(seq).padStart(14, '0')}ab`,
    budget: { scope, before: seq, after: seq + 1 },
    isolation: 'process',
  };
}

function countDirectly(text: string): number {
  const filter = parseFilter(text, 0);
  let count = 0;
  for (let seq = 0; seq < RECORDS; seq++) if (matchesFilter(record(seq), filter)) count++;
  return count;
}
