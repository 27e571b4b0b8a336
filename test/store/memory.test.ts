import { expect, test } from 'vitest';
import { memoryStore } from '../../src/store/index.ts';
import { storeSuite } from '../suites/store.ts';

storeSuite('memory', async () => memoryStore());

test('a memory store says that it is not durable, and shares nothing with another', async () => {
  const [one, other] = [memoryStore(), memoryStore()];
  expect([one.name, one.durable]).toEqual(['memory', false]);
  await one.transaction(async tx => {
    await tx.put('c', 'k', Uint8Array.of(1), 0);
    await tx.append('s', Uint8Array.of(2));
  });
  expect(await one.transaction(tx => tx.read('s', 0, 9))).toHaveLength(1);
  expect(await other.transaction(tx => tx.get('c', 'k'))).toBeUndefined();
  expect(await other.transaction(tx => tx.read('s', 0, 9))).toEqual([]);
  await Promise.all([one.close(), other.close()]);
});
