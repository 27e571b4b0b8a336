import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { openLedger, processLiveness, totalsOf, verifyHistory } from '../../privacy/budget/index.ts';
import { encodeUtf8, limitOf, systemClock } from '../../src/base/index.ts';
import { newSchema, postgresUrl } from '../store/schemas.ts';
import { costing } from './faults.ts';
import { openTarget } from './targets.ts';

const slow = process.env['CLOISTER_SLOW'] !== undefined;
const worker = new URL('worker.ts', import.meta.url).pathname;
const digest = (text: string): string => createHash('sha256').update(text).digest('hex');
let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'cloister-ledger-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

function child(...argv: string[]): { process: ChildProcess; lines: () => string[]; ended: Promise<number | null> } {
  const spawned = spawn(process.execPath, [worker, ...argv], { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  spawned.stdout.on('data', chunk => {
    output += chunk;
  });
  const ended = new Promise<number | null>(resolve => spawned.on('close', resolve));
  return { process: spawned, lines: () => output.split('\n').slice(0, -1), ended };
}

const media = [
  { name: 'SQLite', skip: false, target: () => join(directory, 'state.db'), cycles: slow ? 1000 : 4 },
  { name: 'PostgreSQL', skip: postgresUrl === '', target: () => `schema:${newSchema()}`, cycles: slow ? 1000 : 3 },
];

describe.each(media)('ledger in several processes on $name', ({ skip, target: newTarget, cycles }) => {
  it.skipIf(skip).each(slow ? [2, 4, 8, 16, 32] : [3])(
    'grants exactly floor(limit / cost) to %i processes that race on one scope',
    async racers => {
      const target = newTarget();
      const children = Array.from({ length: racers }, () => child(target, 'race', '7001', '1'));
      expect(await Promise.all(children.map(one => one.ended))).toEqual(children.map(() => 0));
      const grants = children.map(one => Number(one.lines()[1]));
      expect(grants.reduce((sum, grant) => sum + grant, 0)).toBe(Math.floor(1_000_000 / 7001));
      await using store = await openTarget(target);
      await using ledger = await openLedger({
        store,
        clock: systemClock,
        budgets: [{ scope: 's', limit: limitOf(1) }],
      });
      const [scope] = await ledger.scopes();
      expect(scope).toMatchObject({ spent: 142 * 7001, reserved: 0 });
      const history = await ledger.history('s');
      expect(totalsOf(history)).toMatchObject({ spent: 142 * 7001, reserved: 0 });
      expect(verifyHistory(history)).toMatchObject({ ok: true });
    },
    slow ? 600_000 : 60_000,
  );

  it.skipIf(skip)(
    'is sound after kill -9 at any moment, again and again',
    async () => {
      const cost = 3;
      const target = newTarget();
      let charged = 0;
      let released = 0;
      let recent: string[] = [];
      for (let cycle = 0; cycle < cycles; cycle++) {
        const { process: running, lines, ended } = child(target, 'loop', String(cost), '1000');
        while (lines().length < 2) await sleep(2);
        await sleep(Math.random() * (slow ? 30 : 100));
        running.kill('SIGKILL');
        await ended;
        recent = [];
        for (const line of lines()) {
          const [kind, name] = line.split(' ') as [string, string];
          if (kind === 'charged') charged++;
          if (kind === 'released') recent.push(name);
        }
        released += recent.length;
        await using store = await openTarget(target);
        await using ledger = await openLedger({
          store,
          clock: systemClock,
          budgets: [{ scope: 's', limit: limitOf(1000) }],
        });
        const [scope] = await ledger.scopes();
        const { spent, reserved } = scope!;
        expect(reserved).toBe(0); // the killed process is known to be dead
        expect(spent).toBeGreaterThanOrEqual(cost * charged);
        // At most what was under way at each kill is spent beyond what was seen.
        expect(spent).toBeLessThanOrEqual(cost * (charged + cycle + 1));
        for (const name of recent.slice(-5)) {
          const request = { scope: 's', event: costing(cost), requestDigest: digest(name), idempotencyKey: name };
          expect(await ledger.spend(request)).toMatchObject({ kind: 'replay', output: encodeUtf8(`answer ${name}`) });
        }
        if (cycle % 50 !== 0 && cycle !== cycles - 1) continue;
        const history = await ledger.history('s');
        expect(verifyHistory(history)).toMatchObject({ ok: true });
        expect(totalsOf(history)).toMatchObject({ spent, reserved });
      }
      expect(released).toBeGreaterThan(cycles);
    },
    slow ? 3_600_000 : 240_000,
  );
});

describe('process liveness', () => {
  it('knows this process to be alive, and a killed one to be dead', async () => {
    const here = processLiveness();
    expect(here.isDead(here.self)).toBe(false);
    expect(processLiveness().self).toBe(here.self);
    const script = `
      const { processLiveness } = await import(${JSON.stringify(new URL('../../privacy/budget/index.ts', import.meta.url).href)});
      console.log(processLiveness().self);
      setInterval(() => {}, 1000);`;
    const spawned = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const other = await new Promise<string>(resolve =>
      spawned.stdout.once('data', chunk => resolve(String(chunk).trim())),
    );
    expect(here.isDead(other)).toBe(false);
    const gone = new Promise(resolve => spawned.once('close', resolve));
    spawned.kill('SIGKILL');
    await gone;
    expect(here.isDead(other)).toBe(true);
  });

  it('takes a reused number for dead, an earlier boot for dead, and another host for alive', () => {
    const here = processLiveness();
    const self = JSON.parse(here.self) as Record<string, unknown>;
    const verdict = (change: Record<string, unknown>): boolean => here.isDead(JSON.stringify({ ...self, ...change }));
    expect(verdict({ started: 'another' })).toBe(true);
    expect(verdict({ boot: 'another' })).toBe(true);
    expect(verdict({ host: 'another' })).toBe(false);
    expect(verdict({ host: 'another', boot: 'another', pid: 1 })).toBe(false);
    expect(verdict({ pid: 2 ** 22 + 1 })).toBe(true);
  });
});
