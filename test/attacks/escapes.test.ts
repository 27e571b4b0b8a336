/**
 * The third-party corpus of escape and abuse attempts, each as a script in a worker process. A result that starts with `ESC:`
 * is an escape; a case of which the corpus expects `bounded` may end in any way, but must end. The corpus calls one host function,
 * `host(x)`: here it hands `x`, whatever it is, to what is lent.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runInNewContext } from 'node:vm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openSandbox, type Sandbox } from '../../sandbox/index.ts';

interface Case {
  readonly id: string;
  readonly technique: string;
  readonly payload: string;
  readonly expect: 'no-escape' | 'bounded';
}

const file = join(process.env['CLOISTER_CORPUS'] ?? '', 'sandbox/escapes.json');
const cases = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as { cases: Case[] }).cases : [];
const WALL_MS = 500;
const MEMORY_MB = 128;
const RUNS = process.env['CLOISTER_SLOW'] === '1' ? 20 : 1;
const capabilities = { log: {}, kv: {}, clock: {} };
const HOST = `globalThis.host = x => {
  if (x?.op === 'set') return lent.kv.set(x.path, x.v);
  if (x?.op === 'log') return lent.log(x.v);
  lent.kv.get(x);
  return lent.log(x);
};
globalThis.hostAsync = async () => lent.clock();
`;

// A machine that is busy with other things may stop a script late; not three times in a row. Escapes are counted over all tries.
describe.skipIf(cases.length === 0)('the escape corpus', { retry: 2, timeout: 30_000 * RUNS }, () => {
  const escaped: string[] = [];
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await openSandbox({ warm: 1, limits: { wallMs: WALL_MS, memoryMb: MEMORY_MB, outputBytes: 65_536 } });
  });
  afterAll(() => sandbox.close());

  it.each(cases.map(one => [one.id, one.technique, one] as const))('%s: %s', async (id, _, { payload }) => {
    for (let run = 0; run < RUNS; run++) {
      await sandbox.settled();
      const before = process.memoryUsage().rss;
      const { outcome, value, wallMs, peakMb } = await sandbox.evaluate(HOST + payload, { capabilities });
      if (/^(Error: )?ESC/.test(`${value}`)) escaped.push(id);
      expect(wallMs).toBeLessThan(WALL_MS + 250);
      if (peakMb !== undefined) expect(peakMb).toBeLessThan(MEMORY_MB + 64);
      expect(process.memoryUsage().rss - before).toBeLessThan(20 * 1_048_576);
      expect(outcome).toBeTypeOf('string');
    }
  });

  it('was not escaped from, in any try', () => {
    expect(escaped).toEqual([]);
  });

  it('reaches the bridge: what the corpus hands to `host` is refused there, and counted', async () => {
    const { uses } = await sandbox.evaluate(`${HOST} try { host({ op: 'obj' }) } catch {}`, { capabilities });
    expect(uses.kv).toMatchObject({ calls: 0, refused: 1 });
  });

  it('has teeth: where objects of the host are shared, some of it escapes', () => {
    const host = (): object => ({});
    const out = cases.filter(({ expect: wanted, payload }) => {
      if (wanted !== 'no-escape') return false;
      try {
        return String(runInNewContext(payload, { host }, { timeout: 1_000 })).startsWith('ESC');
      } catch {
        return false;
      }
    });
    expect(out.map(({ id }) => id)).toContain('ctor-global');
  });
});
