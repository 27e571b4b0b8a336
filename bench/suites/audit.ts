/**
 * How fast the audit log is: appends beside what the disk allows (raw writes of as many bytes, each with its own fdatasync, to a file in
 * the same folder), and opening, verifying and proving in a log of 1,000,000 records.
 * @module
 */
import { closeSync, fdatasyncSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import {
  type AuditEvent,
  type AuditLog,
  encodeRecord,
  openLog,
  openProver,
  readRecords,
  verifyBundle,
  verifyLog,
} from '../../sandbox/audit/index.ts';
import { compare } from '../measure.ts';
import { amountRow, latencyRow, type Report, rateRow } from '../rows.ts';

const RECORDS = 1_000_000;
const GROUP = 256;
/** Bytes that the log writes around a record: length, checksum and place. */
const FRAME_BYTES = 12;
const SUITE = { suite: 'audit', threads: 1 } as const;

/** The suite `audit`. */
export async function benchAudit(report: Report): Promise<void> {
  // Beside the results and not in the system's temporary folder, which may be memory, where a sync costs nothing.
  const results = join(import.meta.dirname, '..', 'results');
  mkdirSync(results, { recursive: true });
  const dir = mkdtempSync(join(results, 'audit-'));
  const raw = openSync(join(dir, 'raw'), 'a');
  try {
    await timeAppends(join(dir, 'appends'), raw, report);
    await timeReading(join(dir, 'million'), report);
  } finally {
    closeSync(raw);
    rmSync(dir, { recursive: true });
  }
}

/** A record of usual size. */
function event(number: number): AuditEvent {
  return {
    actor: `ward-${number % 7}`,
    action: number % 3 === 0 ? 'charge' : 'run',
    object: { kind: 'scope', id: 'clinic-a/2026-q4' },
    decision: { outcome: 'allow' },
    request: `r-${number}`,
    budget: { scope: 'clinic-a/2026-q4', before: 1000 * number, after: 1000 * number + 1000 },
  };
}

async function timeAppends(dir: string, raw: number, report: Report): Promise<void> {
  const log = await openLog(dir);
  const bytes = FRAME_BYTES + encodeRecord({ ...event(100_000), v: 1, seq: 100_000, time: Date.now() }).length;
  const write = (length: number): (() => void) => {
    const buffer = new Uint8Array(length);
    return () => {
      writeSync(raw, buffer);
      fdatasyncSync(raw);
    };
  };
  let appended = 0;
  const append = (): Promise<unknown> => log.append(event(appended++));
  const group = (): Promise<unknown> => Promise.all(Array.from({ length: GROUP }, append));
  const personal = { subject: 'patient 4711', fields: { ward: 'C3' } };
  const row = { ...SUITE, unit: 'records/s' };
  report.row(
    rateRow(
      { ...row, case: 'append, one at a time', peerName: 'write + fdatasync', workPerCall: 1, holdTo: { ratio: 0.8 } },
      await compare({ run: append, async: true }, { run: write(bytes) }, { roundMs: 100 }),
    ),
  );
  report.row(
    rateRow(
      {
        ...row,
        ...{ case: `append, ${GROUP} at once`, peerName: `one write of ${GROUP} + fdatasync`, workPerCall: GROUP },
        holdTo: { atLeast: 100_000 },
        note: 'tiles and checkpoints among it',
      },
      await compare({ run: group, async: true }, { run: write(GROUP * bytes) }, { roundMs: 200 }),
    ),
  );
  report.row(
    rateRow(
      {
        ...row,
        ...{ case: `append with personal data, ${GROUP} at once`, peerName: 'the same without', workPerCall: GROUP },
        note: 'encrypted under a key of the subject, durable before the record',
      },
      await compare(
        {
          run: () => Promise.all(Array.from({ length: GROUP }, () => log.append(event(appended++), { personal }))),
          async: true,
        },
        { run: group, async: true },
        { roundMs: 200 },
      ),
    ),
  );
  await log.close();
  const verdict = await verifyLog(dir, { vkey: log.vkey });
  report.check({
    name: 'the log holds every record that was timed, and verifies',
    ok: verdict.ok && verdict.size === appended,
    detail: verdict.ok
      ? `${verdict.size} of ${appended}`
      : `record ${verdict.index}: ${verdict.kind}: ${verdict.message}`,
  });
}

async function timeReading(dir: string, report: Report): Promise<void> {
  const vkey = await fill(dir, RECORDS);
  const ms = { ...SUITE, unit: 'ms', peerName: '' };
  const started = performance.now();
  let heard = 0;
  const verdict = await verifyLog(dir, { vkey, onProgress: () => void heard++ });
  report.row(
    amountRow(
      {
        ...ms,
        case: 'verify 1,000,000 records',
        holdTo: { atMost: 15_000 },
        note: `with progress, told ${heard} times`,
      },
      performance.now() - started,
    ),
  );
  report.check({
    name: 'the log of 1,000,000 records verifies',
    ok: verdict.ok && verdict.size === RECORDS,
    detail: verdict.ok ? `${verdict.size} records` : verdict.message,
  });

  const opened = performance.now();
  const log = await openLog(dir);
  report.row(amountRow({ ...ms, case: 'open a log of 1,000,000 records' }, performance.now() - opened));
  await log.close();

  using prover = openProver(dir, vkey);
  const picked = await Promise.all(
    Array.from({ length: 64 }, async (_, i) => {
      const from = (i * 15_643 + 777) % RECORDS;
      return (await readRecords(dir, { from, limit: 1 }).next()).value!;
    }),
  );
  let at = 0;
  const prove = () => prover.prove(picked[at++ % picked.length]!);
  report.check({
    name: 'every proof verifies',
    ok: picked.every(record => verifyBundle(prover.prove(record), vkey).ok),
    detail: `${picked.length} records`,
  });
  report.row(
    latencyRow(
      { ...SUITE, case: 'proof of one in 1,000,000', peerName: '', holdTo: { atMost: 1000 } },
      await compare({ run: prove }, undefined),
    ),
  );
  const one = async (): Promise<unknown> => {
    using fresh = openProver(dir, vkey);
    return fresh.prove(picked[at++ % picked.length]!);
  };
  report.row(
    latencyRow(
      { ...SUITE, case: 'proof of one in 1,000,000, opened for it', peerName: '' },
      await compare({ run: one, async: true }, undefined),
    ),
  );
}

/** A log of `size` records; returns its key. */
async function fill(dir: string, size: number): Promise<string> {
  const log: AuditLog = await openLog(dir);
  for (let from = 0; from < size; from += 8192) {
    await Promise.all(Array.from({ length: Math.min(8192, size - from) }, (_, i) => log.append(event(from + i))));
  }
  await log.close();
  return log.vkey;
}
