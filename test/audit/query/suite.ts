/**
 * What every index promises, as tests: it is run on each kind of store.
 * @module
 */
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { matchesFilter, parseFilter, type RecordFilter } from '../../../sandbox/audit/filter.ts';
import { EMPTY_ROOT } from '../../../sandbox/audit/merkle.ts';
import type { LogIndex, LogSource } from '../../../sandbox/audit/query/log-index.ts';
import { openStoreIndex } from '../../../sandbox/audit/query/store-index.ts';
import { type AuditRecord, encodeRecord } from '../../../sandbox/audit/record.ts';
import { encodeUtf8 } from '../../../src/base/index.ts';
import type { Store } from '../../../src/store/index.ts';
import { filterArb, recordAt, recordsOf, sourceOf } from './records.ts';

/** Records in a run: few, so that a small log has many. */
const WIDTH = 64;
const ALL: RecordFilter = parseFilter('', 0);

/** The answer by reading every record. */
function directly(records: readonly AuditRecord[], filter: RecordFilter): number[] {
  return records.filter(record => matchesFilter(record, filter)).map(record => record.seq);
}

export function indexSuite(name: string, open: () => Promise<Store>): void {
  describe(`index of a log: ${name}`, () => {
    let store: Store;
    let index: LogIndex;
    beforeEach(async () => {
      store = await open();
      index = await openStoreIndex(store, WIDTH);
    });
    afterEach(async () => {
      await index.close();
      await store.close();
    });
    const seqs = async (filter: string | RecordFilter): Promise<number[]> =>
      Array.from(await index.seqs(typeof filter === 'string' ? parseFilter(filter, 0) : filter));
    const size = 9 * WIDTH + 40;
    const records = recordsOf(size);
    const source = sourceOf(records);

    it('finds exactly the records that the filter finds by reading them all', async () => {
      await index.update(source);
      let selective = 0;
      let unselective = 0;
      await fc.assert(
        fc.asyncProperty(filterArb, async text => {
          const filter = parseFilter(text, 0);
          const expected = directly(records, filter);
          if (expected.length > 0) expected.length < size / 10 ? selective++ : unselective++;
          expect(await seqs(filter)).toEqual(expected);
        }),
        {
          numRuns: 150,
          examples: [
            [''],
            ['actor:ward-3 -decision:refuse "two words"'],
            ['model:sha256:01234567 -text'],
            ['-Σ'],
            ['SHA256:0123'],
            ['-abcdef'],
            ['256:ff clinic'],
          ],
        },
      );
      expect(Math.min(selective, unselective)).toBeGreaterThan(10); // else the property has seen nothing
    });

    it('finds them in any log, however it grew', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.integer({ min: 0, max: 150 }), { minLength: 1, maxLength: 4 }),
          fc.nat(1000),
          filterArb,
          async (steps, seed, text) => {
            const filter = parseFilter(text, 0);
            let length = 0;
            for (const step of steps) {
              length += step;
              const log = recordsOf(length, seed);
              expect(await index.update(sourceOf(log))).toBe(length);
              expect(await seqs(filter)).toEqual(directly(log, filter));
            }
          },
        ),
        { numRuns: 40 },
      );
    });

    it('says how many were allowed and refused over time', async () => {
      await index.update(source);
      await fc.assert(
        fc.asyncProperty(filterArb, fc.integer({ min: 1, max: 200 }), async (text, buckets) => {
          const filter = parseFilter(text, 0);
          const { from, to, widthMs, allow, refuse } = await index.histogram(filter, buckets);
          const hits = records.filter(record => matchesFilter(record, filter));
          const counted = { allow: allow.map(() => 0), refuse: refuse.map(() => 0) };
          for (const { time, decision } of hits) counted[decision.outcome][Math.floor((time - from) / widthMs)]!++;
          expect({ allow, refuse }).toEqual(counted);
          expect(allow.length).toBeLessThanOrEqual(buckets);
          if (hits.length === 0) return;
          expect(from).toBe(filter.since ?? Math.min(...hits.map(record => record.time)));
          expect(to).toBe(filter.until ?? Math.max(...hits.map(record => record.time)) + 1);
          expect(allow.length * widthMs).toBeGreaterThanOrEqual(to - from);
        }),
        { numRuns: 40 },
      );
    });

    it('counts over spans that are empty, a millisecond, or thousands of years', async () => {
      expect(await index.histogram(ALL, 10)).toEqual({ from: 0, to: 0, widthMs: 1, allow: [], refuse: [] });
      await index.update(sourceOf([recordAt(0)]));
      const { allow, refuse, widthMs } = await index.histogram(ALL, 10);
      expect([[...allow, ...refuse].length, allow[0]! + refuse[0]!, widthMs]).toEqual([2, 1, 1]);
      expect((await index.histogram(parseFilter('since:2030-01-01 until:2020-01-01', 0), 10)).allow).toEqual([]);
      const far = [Number.MIN_SAFE_INTEGER, 0, Number.MAX_SAFE_INTEGER].map((time, seq) => ({
        ...recordAt(seq),
        time,
      }));
      await index.update(sourceOf(far));
      const wide = await index.histogram(ALL, 7);
      expect(wide.allow.map((count, i) => count + wide.refuse[i]!)).toEqual([1, 0, 0, 1, 0, 0, 1]);
    });

    it('says what was spent of each scope, and what was refused', async () => {
      await index.update(source);
      const budgets = await index.budgets(1_000_000);
      const scopes = new Set(
        records.flatMap(({ budget, object }) => [budget?.scope, object.kind === 'scope' && object.id]),
      );
      expect(budgets.map(({ scope }) => scope)).toEqual([...scopes].filter(Boolean).sort());
      for (const { scope, charged, refused, charges, refusals } of budgets) {
        const spent = records.filter(
          ({ action, decision, budget }) =>
            decision.outcome === 'allow' && budget?.scope === scope && action !== 'policy',
        );
        expect(charges).toEqual(
          spent.map(({ seq, time, budget }) => ({ seq, time, before: budget!.before, after: budget!.after })),
        );
        const denied = records.filter(
          ({ decision, budget, object }) =>
            decision.outcome === 'refuse' &&
            (budget?.scope ?? (object.kind === 'scope' ? object.id : undefined)) === scope,
        );
        expect(refusals).toEqual(denied.map(({ seq, time, decision }) => ({ seq, time, reason: decision.reason })));
        expect([charged, refused]).toEqual([spent.length, denied.length]);
      }
    });

    it('thins out many charges to those that are asked for, the first and the last among them', async () => {
      await index.update(source);
      const whole = await index.budgets(1_000_000);
      for (const points of [2, 3, 17, 200]) {
        for (const [i, { charges, charged, refusals }] of (await index.budgets(points)).entries()) {
          const all = whole[i]!.charges;
          expect(charges.length).toBe(Math.min(points, all.length));
          expect([charges[0], charges.at(-1)]).toEqual([all[0], all.at(-1)]);
          expect(all).toEqual(expect.arrayContaining([...charges]));
          expect(charged).toBe(all.length);
          expect(refusals.length).toBe(Math.min(points, whole[i]!.refusals.length));
        }
      }
    });

    it('suggests values, those of most records first', async () => {
      await index.update(source);
      const count = (value: string): number => directly(records, parseFilter(`actor:"${value}"`, 0)).length;
      const actors = [...new Set(records.map(record => record.actor))];
      const suggested = await index.values('actor', '', 100);
      expect(new Map(suggested.map(({ value, count }) => [value, count]))).toEqual(
        new Map(actors.map(a => [a, count(a)])),
      );
      expect(suggested.map(({ count }) => count)).toEqual(suggested.map(({ count }) => count).sort((a, b) => b - a));
      const wards = await index.values('actor', 'ward-', 100);
      expect(wards.map(({ value }) => value).sort()).toEqual(['ward-3', 'ward-33']);
      expect(await index.values('actor', 'ward-', 1)).toEqual(wards.slice(0, 1));
      expect(await index.values('request', 'absent', 5)).toEqual([]);
      expect((await index.values('decision', '', 9)).map(({ value }) => value)).toContain('SCOPE_EXHAUSTED');
    });

    it('stores whole runs, and reads no record of them again', async () => {
      let read = 0;
      const counting = (log: LogSource): LogSource => ({
        ...log,
        *leaves(from, to) {
          for (const leaf of log.leaves(from, to) as Iterable<Uint8Array>) {
            read++;
            yield leaf;
          }
        },
      });
      await index.update(counting(source));
      expect(read).toBe(size);
      await index.update(counting(sourceOf(recordsOf(size + 3))));
      expect(read).toBe(size + 3);
      const again = await openStoreIndex(store, WIDTH);
      expect(again.size).toBe(9 * WIDTH);
      expect(await again.update(counting(source))).toBe(size);
      expect(read).toBe(size + 3 + 40);
      expect(await again.seqs(ALL)).toHaveLength(size);
    });

    it.each([
      ['another log', recordsOf(size, 7)],
      ['a log that was rolled back', recordsOf(2 * WIDTH - 3)],
      ['a log with another record under what is stored', records.with(5, recordAt(5, 9))],
      ['a log with another record after it', records.with(-5, recordAt(size - 5, 9))],
      ['an empty log', []],
    ])('is made anew for %s', async (_, other) => {
      await index.update(source);
      const again = await openStoreIndex(store, WIDTH);
      for (const one of [index, again]) {
        expect(await one.update(sourceOf(other))).toBe(other.length);
        const filter = parseFilter('actor:ward-3', 0);
        expect(Array.from(await one.seqs(filter))).toEqual(directly(other, filter));
      }
      const kept = await store.transaction(tx => tx.list('audit-index'));
      expect(kept.length).toBe(1 + 13 * Math.floor(other.length / WIDTH)); // nothing is left of what was
    });

    it('is kept by several users at once', async () => {
      const longer = sourceOf(recordsOf(10 * WIDTH + 5));
      const others = [index, await openStoreIndex(store, WIDTH), await openStoreIndex(store, WIDTH)];
      await Promise.all(others.map(one => one.update(source)));
      await Promise.all(others.map(one => one.update(longer)));
      for (const one of others) expect([one.size, (await one.seqs(ALL)).length]).toEqual([645, 645]);
    });

    it('answers from what it was before while it is made anew by another', async () => {
      await index.update(source);
      const other = await openStoreIndex(store, WIDTH);
      const anew = other.update(sourceOf(recordsOf(size, 3)));
      const asked = index.seqs(parseFilter('ward', 0)).catch(error => error.code);
      await anew;
      expect([directly(records, parseFilter('ward', 0)), 'STORE_CONFLICT']).toContainEqual(
        await asked.then(answer => (typeof answer === 'string' ? answer : Array.from(answer))),
      );
      await index.update(sourceOf(recordsOf(size, 3)));
      expect(await seqs('ward')).toEqual(directly(recordsOf(size, 3), parseFilter('ward', 0)));
    });

    it('stops when it is told to, keeps what is stored, and goes on from there', async () => {
      const long = sourceOf(recordsOf(2 * WIDTH + 9));
      const stop = new AbortController();
      const seen: number[] = [];
      const onProgress = (done: number): void => {
        seen.push(done);
        stop.abort();
      };
      await expect(index.update(long, { onProgress, signal: stop.signal })).rejects.toMatchObject({ code: 'ABORTED' });
      expect([index.size, seen]).toEqual([WIDTH, [WIDTH]]);
      expect(await index.update(long)).toBe(long.size);
    });

    it('says which record is damaged, or missing', async () => {
      const leaves = records.slice(0, 20).map(encodeRecord);
      const damaged = leaves.with(7, leaves[8]!);
      const cut = (list: readonly Uint8Array[]): LogSource => ({
        size: 20,
        rootAt: () => EMPTY_ROOT,
        leaves: (from, to) => list.slice(from, to),
      });
      await expect(index.update(cut(damaged))).rejects.toMatchObject({
        code: 'AUDIT_INVALID',
        detail: { index: 7 },
      });
      const short = index.update(cut(leaves.slice(0, 9)));
      await expect(short).rejects.toMatchObject({ code: 'AUDIT_INVALID', detail: { kind: 'missing', index: 9 } });
      expect(await index.update(cut(leaves))).toBe(20);
    });

    it('says that it is damaged, and what to do', async () => {
      await index.update(source);
      const damage = async (key: string, change: (value: Uint8Array) => Uint8Array): Promise<void> => {
        await store.transaction(async tx => {
          const row = (await tx.get('audit-index', key))!;
          await tx.put('audit-index', key, change(row.value), row.revision);
        });
      };
      await damage('0/0/actor', value => value.subarray(0, -1));
      await damage('0/0/times', value => value.subarray(8));
      await damage('0/0/text', value => value.fill(7, 0, 4));
      const again = await openStoreIndex(store, WIDTH);
      for (const filter of ['actor:x', 'since:1h', 'x']) {
        const asked = again.seqs(parseFilter(filter, 0));
        await expect(asked).rejects.toMatchObject({
          code: 'STORE_FAILED',
          message: expect.stringMatching(/delete it/),
        });
      }
      await damage('head', () => encodeUtf8('{"version":2}'));
      await expect(openStoreIndex(store, WIDTH)).rejects.toMatchObject({ code: 'STORE_FAILED' });
    });

    it('refuses what it cannot answer', async () => {
      const bad = { code: 'INVALID_ARGUMENT' };
      for (const buckets of [0, 1.5, -1, 10_001, Number.NaN])
        await expect(index.histogram(ALL, buckets)).rejects.toMatchObject(bad);
      for (const points of [0, 1, 2.5]) await expect(index.budgets(points)).rejects.toMatchObject(bad);
      await expect(index.values('since' as 'actor', '', 1)).rejects.toMatchObject(bad);
      await expect(index.values('text' as 'actor', '', 1)).rejects.toMatchObject(bad);
      await expect(index.values('actor', '', 0)).rejects.toMatchObject(bad);
      const half = { terms: [{ key: 'text', value: '\ud83d', exclude: false }] } as const;
      await expect(index.seqs(half)).rejects.toMatchObject(bad);
      await index.close();
      await expect(index.seqs(ALL)).rejects.toMatchObject({ code: 'CLOSED' });
      await expect(index.update(sourceOf([]))).rejects.toMatchObject({ code: 'CLOSED' });
    });
  });
}
