import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { openLog } from '../../sandbox/audit/log.ts';
import { decodeBundle, encodeBundle, tilePath, tileWidth } from '../../sandbox/audit/tiles.ts';
import { fromBase64, toBase64 } from '../../src/base/bytes.ts';
import { type Failure, type LogAccess, openCheckedLog, type Pin } from '../../src/web/check/log-check.ts';
import { TileTree } from '../../src/web/check/tile-tree.ts';
import { clinicRecord } from './clinic.ts';
import { recordBytes, testSigner, writeTiledLog } from './tiled-log.ts';

const folder = mkdtempSync(join(tmpdir(), 'cloister-check-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const signer = testSigner('clinic.example/audit');
let logs = 0;

function honestLog(size: number, recordAt = (seq: number) => recordBytes(clinicRecord(seq, size))): string {
  const dir = join(folder, String(logs++));
  writeTiledLog(dir, size, recordAt, signer);
  return dir;
}

/** A copy of a log to be tampered with. */
function copyOf(dir: string): string {
  const copy = join(folder, String(logs++));
  cpSync(dir, copy, { recursive: true });
  return copy;
}

const filesOf = (dir: string): LogAccess => ({
  fetchFile: async path => (existsSync(join(dir, path)) ? new Uint8Array(readFileSync(join(dir, path))) : undefined),
});

async function look(dir: string, knowledge: Parameters<typeof openCheckedLog>[2] = {}) {
  const note = readFileSync(join(dir, 'checkpoint'));
  return await openCheckedLog(note, readFileSync(join(dir, 'vkey'), 'utf8'), knowledge, filesOf(dir));
}

/** What is found out about a log when all of it is read. */
async function verdictOn(dir: string, knowledge: Parameters<typeof openCheckedLog>[2] = {}) {
  const { log, failure } = await look(dir, knowledge);
  return failure ?? (await log!.checkAll(() => {}));
}

function edit(dir: string, path: string, change: (bytes: Buffer) => Uint8Array): void {
  const file = join(dir, path);
  writeFileSync(file, change(readFileSync(file)));
}

/** Changes the list of records in one bundle. */
function editBundle(dir: string, size: number, number: number, change: (records: Uint8Array[]) => Uint8Array[]): void {
  const width = tileWidth('entries', number, size);
  edit(dir, tilePath('entries', number, width), bytes => encodeBundle(change([...decodeBundle(bytes, width).records])));
}

const SIZE = 65_800; // three levels of tiles
const whole = honestLog(SIZE);

describe('a log that is checked from its files', () => {
  test.each([0, 1, 2, 255, 256, 257, 511, 512, 65_536, SIZE])('of %d records verifies', async size => {
    const dir = size === SIZE ? whole : honestLog(size);
    expect(await verdictOn(dir)).toMatchObject({ ok: true, size });
  });

  test('tells how far it is, and every row and proof leads to the root', async () => {
    const { log, head } = await look(whole);
    const told: number[] = [];
    await log!.checkAll(done => told.push(done));
    expect(told.at(-1)).toBe(SIZE);
    expect(told).toHaveLength(Math.ceil(SIZE / 256));
    const rows = await log!.records(256, [65_536, 65_791]);
    expect(rows).toMatchObject([
      { seq: 65_536, state: 'verified', record: clinicRecord(65_536, SIZE) },
      { seq: 65_791, state: 'verified' },
    ]);
    expect(await log!.proof(12)).toHaveLength(17);
    expect(head).toMatchObject({ origin: 'clinic.example/audit', size: SIZE, keyKnown: false });
  });

  test('a tile tree gives the root of every earlier size', async () => {
    const size = 1000;
    const dir = honestLog(size);
    const { head } = await look(dir);
    const tree = await TileTree.open(size, fromBase64(head!.root), filesOf(dir).fetchFile);
    for (const earlier of [1, 2, 3, 255, 256, 257, 700, 999]) {
      const other = honestLog(earlier, seq => recordBytes(clinicRecord(seq, size)));
      expect(toBase64(await tree.rootAt(earlier))).toBe((await look(other)).head!.root);
    }
  });
});

describe('a log whose key was changed', () => {
  const event = (n: number) =>
    ({
      actor: `ward-${n}`,
      action: 'run',
      object: { kind: 'session', id: 's' },
      decision: { outcome: 'allow' },
    }) as const;

  /** A log of the real writer with three epochs. */
  async function epochLog(): Promise<{ dir: string; vkey: string }> {
    const dir = join(folder, String(logs++));
    await using log = await openLog(dir);
    for (let n = 0; n < 700; n++) {
      if (n === 200 || n === 500) await log.rotateKey();
      void log.append(event(n));
    }
    await log.checkpoint();
    return { dir, vkey: log.vkey };
  }

  test('verifies from its first key alone, through the seals; another first key does not do', async () => {
    const { dir } = await epochLog();
    const vkey = readFileSync(join(dir, 'vkey'), 'utf8').trim();
    const { log, head } = await look(dir, { vkeys: [vkey] });
    expect(head).toMatchObject({ size: 702, keyKnown: true, vkey });
    expect(head!.signer).not.toBe(vkey);
    expect(await log!.checkAll(() => {})).toMatchObject({ ok: true, size: 702 });
    const stranger = testSigner(head!.origin).vkey;
    expect(await verdictOn(dir, { vkeys: [stranger] })).toMatchObject({ ok: false, kind: 'resealed' });
  });

  test('a seal that is changed, gone, or of another log is noticed', async () => {
    const { dir } = await epochLog();
    const other = await epochLog();
    for (const damage of [
      (copy: string) => edit(copy, 'seal/0', bytes => Buffer.from(bytes.toString().replace(/^2\d\d$/m, '150'))),
      (copy: string) => rmSync(join(copy, 'seal/1')),
      (copy: string) => cpSync(join(other.dir, 'seal/0'), join(copy, 'seal/0')),
    ]) {
      const copy = copyOf(dir);
      damage(copy);
      expect(await verdictOn(copy)).toMatchObject({ ok: false, kind: 'resealed' });
    }
  });
});

describe('tampering is found, at the first bad record, with its kind', () => {
  const SMALL = 1000;
  const small = honestLog(SMALL);
  const numbered = fc.integer({ min: 0, max: SMALL - 1 });

  test('any bit of any record', async () => {
    await fc.assert(
      fc.asyncProperty(numbered, fc.nat(), fc.nat(7), async (seq, byte, bit) => {
        const dir = copyOf(small);
        editBundle(dir, SMALL, seq >> 8, records => {
          const record = new Uint8Array(records[seq & 255]!);
          record[byte % record.length]! ^= 1 << bit;
          records[seq & 255] = record;
          return records;
        });
        expect(await verdictOn(dir)).toMatchObject({ ok: false, kind: 'changed', index: seq, through: seq });
        const [row] = await (await look(dir)).log!.records(seq >> 8, [seq]);
        expect(row).toMatchObject({ state: 'failed' });
        rmSync(dir, { recursive: true });
      }),
      { numRuns: 20 },
    );
  });

  test.each<[string, (records: Uint8Array[]) => Uint8Array[], Partial<Failure>]>([
    ['taken out', records => records.toSpliced(20, 1), { kind: 'missing', index: 276 }],
    ['put in', records => records.toSpliced(20, 0, records[3]!), { kind: 'inserted', index: 276 }],
    ['swapped', records => records.with(20, records[30]!).with(30, records[20]!), { kind: 'swapped', index: 276 }],
    ['cut off', records => records.slice(0, 20), { kind: 'missing', index: 276 }],
  ])('records of a bundle %s', async (_, change, found) => {
    const dir = copyOf(small);
    editBundle(dir, SMALL, 1, change);
    expect(await verdictOn(dir)).toMatchObject({ ok: false, ...found });
  });

  test('records and their hash tile changed together', async () => {
    const dir = copyOf(small);
    const forged = recordBytes({ ...clinicRecord(300, SMALL), actor: 'nobody' });
    const other = honestLog(SMALL, seq => (seq === 300 ? forged : recordBytes(clinicRecord(seq, SMALL))));
    for (const path of [tilePath('entries', 1), tilePath(0, 1)]) edit(dir, path, () => readFileSync(join(other, path)));
    const verdict = await verdictOn(dir);
    expect(verdict).toMatchObject({ ok: false, kind: 'resealed' });
    const { index, through } = verdict as Failure;
    expect(index <= 300 && 300 <= through).toBe(true);
  });

  test('a damaged hash tile is told from a damaged record', async () => {
    const dir = copyOf(small);
    edit(dir, tilePath(0, 2), bytes => Buffer.from(bytes.map((byte, i) => (i === 700 ? byte ^ 1 : byte))));
    const verdict = await verdictOn(dir);
    expect(verdict).toMatchObject({ ok: false, kind: 'malformed', index: 512 });
    expect((verdict as Failure).message).toContain('intact');
  });

  test('a checkpoint by another key, a bad signature, and none at all', async () => {
    const forged = join(folder, String(logs++));
    writeTiledLog(forged, 10, seq => recordBytes(clinicRecord(seq, 10)), testSigner('clinic.example/audit'));
    expect(await verdictOn(forged)).toMatchObject({ ok: true }); // nothing is known of its key
    expect(await verdictOn(forged, { vkeys: [signer.vkey] })).toMatchObject({ ok: false, kind: 'resealed' });
    const damaged = copyOf(small);
    edit(damaged, 'checkpoint', bytes => Buffer.from(bytes.toString().replace('\n1000\n', '\n1001\n')));
    const { log, failure } = await look(damaged);
    expect(failure).toMatchObject({ ok: false, kind: 'resealed' });
    // What is there can be looked at all the same; nothing vouches for it.
    expect((await log!.records(0, [5]))[0]).toMatchObject({ state: 'unchecked', record: clinicRecord(5, SMALL) });
  });

  test('a log that does not extend what was seen before', async () => {
    const { head } = await look(small);
    const pin: Pin = { ...head!, seen: 0 };
    const longer = honestLog(1500, seq => recordBytes(clinicRecord(seq, SMALL)));
    expect((await look(longer, { pins: [pin] })).head).toMatchObject({ extends: pin, keyKnown: true });
    const shorter = honestLog(900, seq => recordBytes(clinicRecord(seq, SMALL)));
    expect(await verdictOn(shorter, { pins: [pin] })).toMatchObject({ ok: false, kind: 'rolled-back', index: 900 });
    const forked = honestLog(1500, seq => recordBytes(clinicRecord(seq, seq === 500 ? 7 : SMALL)));
    expect(await verdictOn(forked)).toMatchObject({ ok: true }); // the control: without the pin all is well
    expect(await verdictOn(forked, { pins: [pin] })).toMatchObject({ ok: false, kind: 'forked' });
    expect(await verdictOn(forked, { pins: [{ ...pin, origin: 'another.example' }] })).toMatchObject({ ok: true });
  });

  test('whatever bytes are served, there is a verdict and no exception', async () => {
    const served = fc.oneof(
      fc.constant(undefined),
      fc.uint8Array({ maxLength: 9000 }),
      fc.nat(SMALL).map(n => new Uint8Array(readFileSync(join(small, tilePath('entries', 3, SMALL - 768)))).slice(n)),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(served, { minLength: 1, maxLength: 6 }), fc.nat(2), async (answers, from) => {
        const { fetchFile } = filesOf(small);
        let asked = 0;
        const access: LogAccess = {
          fetchFile: async path => (asked++ < from ? await fetchFile(path) : answers[asked % answers.length]),
        };
        const note = readFileSync(join(small, 'checkpoint'));
        const { log, failure } = await openCheckedLog(note, signer.vkey, {}, access);
        const verdict = failure ?? (await log!.checkAll(() => {}));
        expect(verdict.ok).toBe(false);
        for (const row of (await log?.records(0, [0, 255])) ?? []) expect(row.state).not.toBe('verified');
      }),
      { numRuns: 100 },
    );
    await fc.assert(
      fc.asyncProperty(fc.uint8Array(), fc.string(), async (note, key) => {
        const { failure } = await openCheckedLog(note, key, {}, filesOf(small));
        expect(failure).toMatchObject({ ok: false });
      }),
    );
  });
});
