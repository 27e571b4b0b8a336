import { mkdtempSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { openPlanFiles } from '../../src/service/plan-files.ts';

const folder = mkdtempSync(join(tmpdir(), 'cloister-plans-'));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const key = (n: number): string => n.toString(16).padStart(64, '0');

describe('plans in files', () => {
  test('are read back whole, for the owner alone', () => {
    const store = openPlanFiles(folder);
    store.set(key(1), Uint8Array.of(1, 2, 3));
    expect(openPlanFiles(folder).get(key(1))).toEqual(Uint8Array.of(1, 2, 3));
    expect(store.get(key(2))).toBeUndefined();
    const [file] = readdirSync(folder);
    expect(statSync(join(folder, file!)).mode & 0o077).toBe(0);
    store.delete(key(1));
    expect(store.get(key(1))).toBeUndefined();
  });

  test('stay within the limit: the longest unused goes first, drafts of the dead as well', () => {
    const store = openPlanFiles(folder, { limitBytes: 250 });
    const old = new Date(Date.now() - 7_200_000);
    for (const n of [1, 2]) store.set(key(n), new Uint8Array(100));
    for (const n of [1, 2]) utimesSync(join(folder, `${key(n)}.plan`), old, new Date(old.getTime() + n));
    writeFileSync(join(folder, `${key(9)}.plan.1.tmp`), 'left behind');
    utimesSync(join(folder, `${key(9)}.plan.1.tmp`), old, old);
    expect(store.get(key(1))).toHaveLength(100); // used, so the second is older now
    store.set(key(3), new Uint8Array(100));
    expect([1, 2, 3].map(n => store.get(key(n)) !== undefined)).toEqual([true, false, true]);
    expect(readdirSync(folder).filter(name => name.endsWith('.tmp'))).toEqual([]);
    store.set(key(4), new Uint8Array(251));
    expect(store.get(key(4))).toBeUndefined();
  });

  test('are looked for under their key alone', () => {
    const store = openPlanFiles(folder);
    for (const bad of ['../x', '', 'A'.repeat(64), `${key(1)}/..`]) {
      expect(() => store.get(bad)).toThrow(/64 hexadecimal digits/);
      expect(() => store.set(bad, new Uint8Array())).toThrow(/64 hexadecimal digits/);
    }
  });
});
