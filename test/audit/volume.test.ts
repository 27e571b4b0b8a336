/**
 * The claims of `tamper.test.ts` by the thousand: each bit of 1,000 records, each of 1,000 places, 10,000 honest logs. A sample by default;
 * all of it with `CLOISTER_SLOW`.
 */
import { expect, test } from 'vitest';
import { type AuditLog, openDirectory } from '../../sandbox/audit/log.ts';
import { TileReader } from '../../sandbox/audit/tile-store.ts';
import { encodeBundle, TILE_WIDTH, tilePath, tileWidth } from '../../sandbox/audit/tiles.ts';
import { verifyDirectory } from '../../sandbox/audit/verify-directory.ts';
import { appendGroups, event, memoryLog, ORIGIN, SLOW } from './events.ts';
import { MemoryDirectory } from './memory-directory.ts';

const SIZE = 1000;

/** A closed log of `size` records that differ from those of another `first`. */
async function closed(first: number, size: number): Promise<{ directory: MemoryDirectory; vkey: string }> {
  const { directory, log } = await memoryLog();
  await Promise.all(Array.from({ length: size }, (_, i) => log.append(event(first + i))));
  await log.close();
  return { directory, vkey: log.vkey };
}

function recordsOf(directory: MemoryDirectory, size: number): Uint8Array[] {
  const reader = new TileReader(directory, size);
  return Array.from({ length: size }, (_, index) => reader.leaf(index));
}

/** `directory` with other records in its bundles, the last of which takes what is left over. */
function rebundled(directory: MemoryDirectory, size: number, records: readonly Uint8Array[]): MemoryDirectory {
  const copy = directory.clone();
  for (let index = 0; index * TILE_WIDTH < size; index++) {
    const last = (index + 1) * TILE_WIDTH >= size;
    const part = records.slice(index * TILE_WIDTH, last ? undefined : (index + 1) * TILE_WIDTH);
    copy.set(tilePath('entries', index, tileWidth('entries', index, size)), encodeBundle(part));
  }
  return copy;
}

test('each bit of 1,000 records: that record was changed', { timeout: 7_200_000 }, async () => {
  // Short logs, so that a verdict is quick: the records are what there are 1,000 of.
  const length = 4;
  let flips = 0;
  for (let first = 0; first < SIZE; first += length) {
    const { directory, vkey } = await closed(first, length);
    const bytes = directory.bytes(tilePath('entries', 0, length));
    let start = 0;
    for (const [index, record] of recordsOf(directory, length).entries()) {
      const end = start + 2 + record.length;
      // By default two bits of each record, another pair in each.
      for (let bit = 8 * start + (SLOW ? 0 : (first * 37 + index * 11) % 1009); bit < 8 * end; bit += SLOW ? 1 : 1009) {
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        const verdict = await verifyDirectory(directory, { vkey });
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        if (verdict.ok || verdict.index !== index || verdict.kind !== 'changed')
          expect.fail(`bit ${bit - 8 * start} of record ${first + index}: ${JSON.stringify(verdict)}`);
        flips++;
      }
      start = end;
    }
    expect(await verifyDirectory(directory, { vkey })).toMatchObject({ ok: true });
  }
  expect(flips).toBeGreaterThan(SLOW ? 1_500_000 : 1500);
});

test('each of 1,000 records deleted, doubled, forged and swapped with another', { timeout: 3_600_000 }, async () => {
  const { directory, vkey } = await closed(0, SIZE);
  const records = recordsOf(directory, SIZE);
  const forged = (record: Uint8Array): Uint8Array =>
    Buffer.from(Buffer.from(record).toString().replace('"ward-', '"Ward-'));
  for (let index = 0; index < SIZE; index += SLOW ? 1 : 37) {
    const far = (index + 1 + ((index * 7919) % (SIZE - 2))) % SIZE;
    const other = far === index ? (index + 1) % SIZE : far;
    const cases = [
      [records.toSpliced(index, 1), index, index === SIZE - 1 ? 'truncated' : 'missing'],
      [records.toSpliced(index, 0, index > 0 ? records[(index * 7) % index]! : forged(records[0]!)), index, 'inserted'],
      [records.with(index, forged(records[index]!)), index, 'changed'],
      [records.with(index, records[other]!).with(other, records[index]!), Math.min(index, other), 'swapped'],
    ] as const;
    for (const [others, at, kind] of cases) {
      const verdict = await verifyDirectory(rebundled(directory, SIZE, others), { vkey });
      expect(verdict, `record ${index}, ${kind}, with ${other}`).toMatchObject({
        ok: false,
        index: at,
        through: at,
        kind,
      });
    }
  }
});

test('1,000 records cut at every seventh byte: the first that is not whole is named', {
  timeout: 3_600_000,
}, async () => {
  const { directory, vkey } = await closed(0, SIZE);
  const records = recordsOf(directory, SIZE);
  const lengths = records.map(record => 2 + record.length);
  for (let bundle = 0; bundle * TILE_WIDTH < SIZE; bundle++) {
    const name = tilePath('entries', bundle, tileWidth('entries', bundle, SIZE));
    const whole = directory.bytes(name);
    let index = bundle * TILE_WIDTH;
    let end = lengths[index]!;
    for (let cut = 0; cut < whole.length; cut += SLOW ? 7 : 1499) {
      while (cut >= end) end += lengths[++index]!;
      directory.set(name, whole.slice(0, cut));
      const verdict = await verifyDirectory(directory, { vkey });
      if (verdict.ok || verdict.index !== index) expect.fail(`cut at ${cut} of ${name}: ${JSON.stringify(verdict)}`);
    }
    directory.set(name, whole);
  }
});

test('10,000 honest logs, and not one alarm', { timeout: 3_600_000 }, async () => {
  const count = SLOW ? 10_000 : 300;
  // A small generator of our own: the choices of each log follow from its number.
  let state = 1;
  const draw = (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % below;
  };
  for (let number = 0; number < count; number++) {
    state = number + 1;
    let time = draw(2) * 1e12;
    const clock = { now: () => (time += draw(2001) - 1000) }; // jumps back and ahead
    const directory = new MemoryDirectory();
    let log: AuditLog = await openDirectory(directory, options(clock, draw(9) + 1));
    let anchor = log.head();
    for (let step = draw(7); step >= 0; step--) {
      const what = draw(8);
      if (what === 0) await log.rotateKey();
      else if (what === 1) await log.checkpoint();
      else if (what === 2) await log.append(event(step), { personal: { subject: `s${draw(2)}` } });
      else if (what === 3) await log.eraseSubject(`s${draw(2)}`, { actor: 'desk' });
      else if (what === 4) {
        anchor = log.head();
        await log.close();
        log = await openDirectory(directory, { ...options(clock, draw(9) + 1), anchor });
      } else await appendGroups(log, [1 + draw(4)], step);
    }
    const running = await verifyDirectory(directory.clone(), { vkey: log.vkey, anchor });
    expect(running, `log ${number}, open`).toMatchObject({ ok: true });
    await log.close();
    const verdict = await verifyDirectory(directory, { vkey: log.vkey, anchor: log.head() });
    expect(verdict, `log ${number}, closed`).toMatchObject({ ok: true, size: log.head().size, tornBytes: 0 });
  }
});

function options(clock: { now(): number }, checkpointEvery: number) {
  return { origin: ORIGIN, clock, checkpointEvery, checkpointMs: 3_600_000 };
}
