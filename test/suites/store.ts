/**
 * What every {@link Store} promises, as tests. An implementation runs it with a function that opens an empty store.
 * @module
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { decodeUtf8, encodeUtf8 } from '../../src/base/index.ts';
import type { Store, Transaction } from '../../src/store/index.ts';

const bytes = encodeUtf8;
const text = (row: { value: Uint8Array } | undefined): string | undefined => row && decodeUtf8(row.value);

export function storeSuite(name: string, open: () => Promise<Store>): void {
  describe(`store contract: ${name}`, () => {
    let store: Store;
    beforeEach(async () => {
      store = await open();
    });
    afterEach(async () => {
      await store.close();
    });
    const keysOf = (collection: string, prefix?: string) =>
      store.transaction(async tx => (await tx.list(collection, prefix)).map(row => row.key));

    it('gives back what was written, with its revision', async () => {
      await store.transaction(async tx => {
        expect(await tx.get('c', 'k')).toBeUndefined();
        await tx.put('c', 'k', bytes('one'), 0);
        expect(await tx.get('c', 'k')).toEqual({ value: bytes('one'), revision: 1 });
        await tx.put('c', 'k', bytes('two'), 1);
      });
      const row = await store.transaction(tx => tx.get('c', 'k'));
      expect(row).toEqual({ value: bytes('two'), revision: 2 });
      expect(await store.transaction(tx => tx.get('other', 'k'))).toBeUndefined();
    });

    it('keeps empty values, and values apart from the buffers they came from and went to', async () => {
      const value = Uint8Array.of(1, 2, 3);
      await store.transaction(async tx => {
        await tx.put('c', 'k', value, 0);
        await tx.put('c', 'empty', new Uint8Array(0), 0);
        await tx.append('s', value);
        value.fill(9);
      });
      await store.transaction(async tx => {
        const row = await tx.get('c', 'k');
        expect(row?.value).toEqual(Uint8Array.of(1, 2, 3));
        row?.value.fill(7);
        (await tx.read('s', 0, 1))[0]?.value.fill(7);
      });
      await store.transaction(async tx => {
        expect((await tx.get('c', 'k'))?.value).toEqual(Uint8Array.of(1, 2, 3));
        expect((await tx.get('c', 'empty'))?.value).toEqual(new Uint8Array(0));
        expect((await tx.read('s', 0, 1))[0]?.value).toEqual(Uint8Array.of(1, 2, 3));
      });
    });

    it('leaves nothing of a body that throws', async () => {
      await store.transaction(async tx => {
        await tx.put('c', 'kept', bytes('before'), 0);
        await tx.put('c', 'removed', bytes('before'), 0);
        await tx.append('s', bytes('before'));
      });
      const failure = new Error('the body fails');
      const failed = store.transaction(async tx => {
        await tx.put('c', 'kept', bytes('after'), 1);
        await tx.put('c', 'kept', bytes('after that'), 2);
        await tx.remove('c', 'removed', 1);
        await tx.put('c', 'new', bytes('after'), 0);
        await tx.append('s', bytes('after'));
        throw failure;
      });
      await expect(failed).rejects.toBe(failure);
      await store.transaction(async tx => {
        expect(await tx.get('c', 'kept')).toEqual({ value: bytes('before'), revision: 1 });
        expect(await tx.get('c', 'removed')).toEqual({ value: bytes('before'), revision: 1 });
        expect(await tx.get('c', 'new')).toBeUndefined();
        expect((await tx.read('s', 0, 10)).map(text)).toEqual(['before']);
        expect(await tx.append('s', bytes('next'))).toBe(1);
      });
    });

    it('fails alone among transactions that were asked for together', async () => {
      const outcomes = await Promise.allSettled(
        Array.from({ length: 20 }, (_, i) =>
          store.transaction(async tx => {
            await tx.append('s', bytes(String(i)));
            if (i % 3 === 1) throw new Error('no');
          }),
        ),
      );
      const good = outcomes.flatMap((outcome, i) => (outcome.status === 'fulfilled' ? [String(i)] : []));
      expect(good).toHaveLength(13);
      expect((await store.transaction(tx => tx.read('s', 0, 100))).map(text)).toEqual(good);
    });

    it('refuses a write at another revision, and dooms the transaction even if the body goes on', async () => {
      await store.transaction(tx => tx.put('c', 'k', bytes('one'), 0));
      for (const expected of [0, 2, 7]) {
        const attempt = store.transaction(async tx => {
          await tx.append('s', bytes('must not stay'));
          await tx.put('c', 'k', bytes('two'), expected).catch(() => undefined);
          await tx.get('c', 'k').catch(() => undefined);
        });
        await expect(attempt).rejects.toMatchObject({ code: 'STORE_CONFLICT', detail: { expected, found: 1 } });
      }
      await expect(store.transaction(tx => tx.put('c', 'absent', bytes('x'), 1))).rejects.toMatchObject({
        code: 'STORE_CONFLICT',
        detail: { found: 0 },
      });
      await expect(store.transaction(tx => tx.remove('c', 'k', 2))).rejects.toMatchObject({ code: 'STORE_CONFLICT' });
      await expect(store.transaction(tx => tx.remove('c', 'absent', 0))).rejects.toMatchObject({
        code: 'STORE_CONFLICT',
      });
      expect(await store.transaction(tx => tx.read('s', 0, 10))).toEqual([]);
      expect(text(await store.transaction(tx => tx.get('c', 'k')))).toBe('one');
    });

    it('starts a removed row at revision 1 again', async () => {
      await store.transaction(tx => tx.put('c', 'k', bytes('one'), 0));
      await store.transaction(tx => tx.put('c', 'k', bytes('two'), 1));
      await store.transaction(tx => tx.remove('c', 'k', 2));
      expect(await keysOf('c')).toEqual([]);
      await store.transaction(tx => tx.put('c', 'k', bytes('three'), 0));
      expect((await store.transaction(tx => tx.get('c', 'k')))?.revision).toBe(1);
    });

    it('runs one body at a time, also when bodies wait', async () => {
      let inside = 0;
      const increments = Array.from({ length: 12 }, (_, i) =>
        store.transaction(async tx => {
          expect(inside++).toBe(0);
          const row = await tx.get('c', 'counter');
          if (i % 4 === 0) await sleep(15);
          await tx.put('c', 'counter', bytes(String(Number(text(row) ?? 0) + 1)), row?.revision ?? 0);
          expect(--inside).toBe(0);
        }),
      );
      await Promise.all(increments);
      expect(text(await store.transaction(tx => tx.get('c', 'counter')))).toBe('12');
    });

    it('numbers a stream without gaps, each stream for itself, whatever fails between', async () => {
      const seqs: number[] = [];
      for (let i = 0; i < 30; i++) {
        const attempt = store.transaction(async tx => {
          const seq = await tx.append('a', bytes(String(i)));
          await tx.append(`b${i % 2}`, bytes(String(i)));
          if (i % 5 === 4) throw new Error('no');
          return seq;
        });
        await attempt.then(seq => seqs.push(seq)).catch(() => undefined);
      }
      expect(seqs).toEqual(Array.from({ length: 24 }, (_, i) => i));
      await store.transaction(async tx => {
        expect((await tx.read('a', 0, 1000)).map(entry => entry.seq)).toEqual(seqs);
        expect((await tx.read('a', 5, 3)).map(entry => entry.seq)).toEqual([5, 6, 7]);
        expect(await tx.read('a', 24, 3)).toEqual([]);
        expect(await tx.read('a', 0, 0)).toEqual([]);
        expect((await tx.read('b1', 0, 1000)).map(entry => entry.seq)).toEqual(Array.from({ length: 12 }, (_, i) => i));
      });
    });

    it('lists rows by prefix in code-point order', async () => {
      // U+FF5E sorts before U+1F600 by code point and after it by UTF-16 unit.
      const keys = ['b', 'a', 'ab', 'a%', 'a_', 'A', 'a\u{10ffff}', 'a\u{10ffff}z', 'a\uff5e', 'a\u{1f600}', "a'"];
      await store.transaction(async tx => {
        for (const key of keys) await tx.put('c', key, bytes(key), 0);
        await tx.put('d', 'a', bytes('other'), 0);
      });
      const sorted = ["a'", 'a%', 'a_', 'ab', 'a\uff5e', 'a\u{1f600}', 'a\u{10ffff}', 'a\u{10ffff}z'];
      const byPoint = (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b));
      expect(await keysOf('c', 'a')).toEqual(['a', ...sorted].sort(byPoint));
      expect(await keysOf('c')).toEqual([...keys].sort(byPoint));
      expect(await keysOf('c', 'a\u{10ffff}')).toEqual(['a\u{10ffff}', 'a\u{10ffff}z']);
      expect(await keysOf('c', 'zz')).toEqual([]);
      expect(await keysOf('none')).toEqual([]);
    });

    it('refuses names, revisions and values that are not of the documented form', async () => {
      for (const name of ['', '\0', 'a\0b', 'a\ud800', 'x'.repeat(1025), 3 as unknown as string]) {
        for (const operation of [
          (tx: Transaction) => tx.get(name, 'k'),
          (tx: Transaction) => tx.get('c', name),
          (tx: Transaction) => tx.append(name, bytes('v')),
        ]) {
          await expect(store.transaction<unknown>(operation)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
        }
      }
      for (const bad of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
        await expect(store.transaction(tx => tx.put('c', 'k', bytes('v'), bad))).rejects.toMatchObject({
          code: 'INVALID_ARGUMENT',
        });
        await expect(store.transaction(tx => tx.read('s', bad, 1))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
      }
      const put = store.transaction(tx => tx.put('c', 'k', 'text' as unknown as Uint8Array, 0));
      await expect(put).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
      expect(await keysOf('c')).toEqual([]);
    });

    it('refuses a transaction inside a transaction, instead of waiting for itself', async () => {
      const nested = store.transaction(async tx => {
        await tx.put('c', 'k', bytes('v'), 0);
        await store.transaction(inner => inner.get('c', 'k'));
      });
      await expect(nested).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
      await expect(store.transaction(() => store.close())).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
      expect(await keysOf('c')).toEqual([]);
    });

    it('lets work that a body left behind use the store once the body is over', async () => {
      let later: Promise<number> | undefined;
      await store.transaction(async tx => {
        await tx.append('s', bytes('one'));
        later = sleep(20).then(() => store.transaction(after => after.append('s', bytes('two'))));
      });
      expect(await later).toBe(1);
    });

    it('refuses a handle after its body has settled', async () => {
      let kept: Transaction | undefined;
      await store.transaction(async tx => {
        kept = tx;
      });
      await expect(kept?.append('s', bytes('late'))).rejects.toMatchObject({ code: 'CLOSED' });
      const failed = store.transaction(async tx => {
        kept = tx;
        throw new Error('no');
      });
      await expect(failed).rejects.toThrow('no');
      await expect(kept?.append('s', bytes('late'))).rejects.toMatchObject({ code: 'CLOSED' });
      let slow: Promise<void> | undefined;
      await store.transaction(async tx => {
        slow = sleep(10).then(() => tx.put('c', 'k', bytes('late'), 0));
      });
      await store.transaction(async () => {
        await expect(slow).rejects.toMatchObject({ code: 'CLOSED' });
      });
      expect(await keysOf('c')).toEqual([]);
    });

    it('finishes what was asked for before it closes, and refuses what comes after', async () => {
      const before = store.transaction(async tx => {
        await sleep(10);
        return tx.append('s', bytes('one'));
      });
      const closed = store.close();
      const after = store.transaction(tx => tx.append('s', bytes('two')));
      await expect(after).rejects.toMatchObject({ code: 'CLOSED' });
      expect(await before).toBe(0);
      await closed;
      await store.close();
    });

    it('lets other work run while many transactions follow each other', async () => {
      let ticks = 0;
      const timer = setInterval(() => ticks++, 1);
      const end = performance.now() + 100;
      while (performance.now() < end) await store.transaction(tx => tx.append('s', bytes('x')));
      clearInterval(timer);
      expect(ticks).toBeGreaterThan(2);
    });
  });
}
