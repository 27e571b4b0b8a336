/**
 * How many spends a filter checks in a second, in memory, and how many charges the ledger makes durable, beside what the disk allows:
 * the same number of raw writes, each with its own fdatasync, to a file in the same folder. A log grows, so the peer appends; what
 * overwriting one place for ever would give is a row of its own.
 * @module
 */
import { closeSync, fdatasyncSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type Amount, type Ledger, limitIn, type Measure, openFilter, openLedger } from '../../privacy/budget/index.ts';
import { limitOf, systemClock } from '../../src/base/index.ts';
import { openPostgresStore, openSqliteStore } from '../../src/store/index.ts';
import { compare } from '../measure.ts';
import { type Report, rateRow } from '../rows.ts';
import { dropSchema } from './audit-index.ts';

const SCOPE = 'bench/ledger';
// About what one charge adds to the store: the scope's row, the reservation's row, two entries.
const RECORD_BYTES = 1024;
const BATCH = 64;
const DIGEST = 'ab'.repeat(32);
const OUTPUT = new Uint8Array(80);

/** The suite `ledger`. */
export async function benchLedger(report: Report): Promise<void> {
  // Beside the results and not in the system's temporary folder, which may be memory, where a sync costs nothing.
  await checkFilters(report);
  const results = join(import.meta.dirname, '..', 'results');
  mkdirSync(results, { recursive: true });
  const dir = mkdtempSync(join(results, 'ledger-'));
  const store = await openSqliteStore({ path: join(dir, 'state.db') });
  const raw = openSync(join(dir, 'raw'), 'w');
  try {
    const ledger = await openLedger({ store, clock: systemClock, budgets: [{ scope: SCOPE, limit: limitOf(1e6) }] });
    await time(ledger, raw, report);
    await ledger.close();
    await timePostgres(report);
  } finally {
    closeSync(raw);
    await store.close();
    rmSync(dir, { recursive: true });
  }
}

/** Checks of a filter, after one spend and after a million: the time must not depend on the past. */
async function checkFilters(report: Report): Promise<void> {
  const limits: readonly (readonly [Measure, Amount])[] = [
    ['pure', limitIn('pure', { epsilon: 1e6 })],
    ['zcdp', limitIn('zcdp', { rho: 9000 })],
    ['rdp', limitIn('rdp', { epsilon: 1000, delta: 1e-9 })],
  ];
  for (const [measure, limit] of limits) {
    const event =
      measure === 'pure'
        ? ({ kind: 'pure', epsilon: 1e-6, neighboring: 'add-remove' } as const)
        : ({ kind: 'gaussian', noiseMultiplier: 10_000, neighboring: 'add-remove' } as const);
    const fresh = openFilter({ measure, limit });
    const worn = openFilter({ measure, limit });
    const cost = fresh.cost(event);
    for (let i = 0; i < 1_000_000; i++) worn.spend(cost);
    const checks = (filter: typeof fresh) => (): void => {
      for (let i = 0; i < 1000; i++) filter.spend(cost);
    };
    report.row(
      rateRow(
        {
          ...{ suite: 'ledger', unit: 'checks/s', threads: 1, case: `filter, ${measure}, after a million` },
          ...{ peerName: 'the same, new', workPerCall: 1000, holdTo: { atLeast: 200_000 } },
        },
        await compare({ run: checks(worn) }, { run: checks(fresh) }),
      ),
    );
    report.row(
      rateRow(
        {
          ...{ suite: 'ledger', unit: 'events/s', threads: 1, case: `cost of an event, ${measure}` },
          ...{ peerName: 'a check', workPerCall: 1000 },
        },
        await compare(
          {
            run: () => {
              for (let i = 0; i < 1000; i++) fresh.cost(event);
            },
          },
          { run: checks(fresh) },
        ),
      ),
    );
  }
}

async function time(ledger: Ledger, raw: number, report: Report): Promise<void> {
  let charged = 0;
  const event = { kind: 'pure', epsilon: 1e-6, neighboring: 'add-remove' } as const;
  const charge = async (): Promise<void> => {
    const outcome = await ledger.spend({ scope: SCOPE, event, requestDigest: DIGEST });
    if (outcome.kind !== 'charged') throw new Error(`expected a charge, got ${outcome.kind}`);
    charged++;
  };
  const release = async (): Promise<void> => {
    const reserved = await ledger.reserve({ scope: SCOPE, event, requestDigest: DIGEST });
    if (reserved.kind !== 'reserved') throw new Error(`expected a reservation, got ${reserved.kind}`);
    await ledger.release(await ledger.charge(reserved), OUTPUT);
    charged++;
  };
  const record = new Uint8Array(RECORD_BYTES);
  const records = new Uint8Array(BATCH * RECORD_BYTES);
  const append = (bytes: Uint8Array) => (): void => {
    writeSync(raw, bytes);
    fdatasyncSync(raw);
  };
  const overwrite = (): void => {
    writeSync(raw, record, 0, record.length, 0);
    fdatasyncSync(raw);
  };
  const appendEach = (): void => {
    for (let i = 0; i < BATCH; i++) append(record)();
  };

  const row = { suite: 'ledger', unit: 'charges/s', threads: 1 };
  report.row(
    rateRow(
      { ...row, case: 'spend, one at a time', peerName: 'append + fdatasync', workPerCall: 1, holdTo: { ratio: 0.8 } },
      await compare({ run: charge, async: true }, { run: append(record) }),
    ),
  );
  report.row(
    rateRow(
      { ...row, case: 'spend, one at a time, vs in place', peerName: 'overwrite + fdatasync', workPerCall: 1 },
      await compare({ run: charge, async: true }, { run: overwrite }),
    ),
  );
  report.row(
    rateRow(
      {
        ...row,
        ...{ case: 'reserve, charge, release, one at a time', peerName: 'append + fdatasync', workPerCall: 1 },
        note: 'three durable steps of ours against one write',
      },
      await compare({ run: release, async: true }, { run: append(record) }),
    ),
  );
  const batch = { run: () => Promise.all(Array.from({ length: BATCH }, charge)), async: true };
  report.row(
    rateRow(
      {
        ...row,
        ...{
          case: `spend, ${BATCH} at once`,
          peerName: 'append + fdatasync each',
          workPerCall: BATCH,
          holdTo: { atLeast: 10_000 },
        },
        note: 'charges that arrive together share a commit; each of the writes has its own sync',
      },
      await compare(batch, { run: appendEach }),
    ),
  );
  report.row(
    rateRow(
      {
        ...row,
        case: `spend, ${BATCH} at once, vs one sync`,
        peerName: `one append of ${BATCH} KiB + fdatasync`,
        workPerCall: BATCH,
      },
      await compare(batch, { run: append(records) }),
    ),
  );

  const state = (await ledger.scopes()).find(({ scope }) => scope === SCOPE)!;
  report.check({
    name: 'the ledger holds every charge that was timed',
    ok: state.spent === charged && state.reserved === 0,
    detail: `${charged} charged, ${state.spent} micro-epsilon spent`,
  });
}

/** The same scope on a PostgreSQL server, where the environment has one. */
async function timePostgres(report: Report): Promise<void> {
  const url = process.env['CLOISTER_POSTGRES_URL'];
  if (!url) {
    report.note('no rows on PostgreSQL: CLOISTER_POSTGRES_URL is not set');
    return;
  }
  const schema = `bench_ledger_${process.pid}`;
  await using store = await openPostgresStore({ url, schema });
  await using ledger = await openLedger({
    store,
    clock: systemClock,
    budgets: [{ scope: SCOPE, limit: limitOf(1e6) }],
  });
  const event = { kind: 'pure', epsilon: 1e-6, neighboring: 'add-remove' } as const;
  const charge = async (): Promise<void> => {
    const outcome = await ledger.spend({ scope: SCOPE, event, requestDigest: DIGEST });
    if (outcome.kind !== 'charged') throw new Error(`expected a charge, got ${outcome.kind}`);
  };
  const batch = (): Promise<unknown> => Promise.all(Array.from({ length: BATCH }, charge));
  const row = { suite: 'ledger', unit: 'charges/s', threads: 1, peerName: '–' };
  report.row(
    rateRow(
      { ...row, case: 'PostgreSQL, spend, one at a time', workPerCall: 1 },
      await compare({ run: charge, async: true }, undefined),
    ),
  );
  report.row(
    rateRow(
      { ...row, case: `PostgreSQL, spend, ${BATCH} at once`, workPerCall: BATCH, holdTo: { atLeast: 1000 } },
      await compare({ run: batch, async: true }, undefined),
    ),
  );
  await ledger.close();
  await store.close();
  await dropSchema(url, schema);
}
