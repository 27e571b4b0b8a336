import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { openLedger, processLiveness, totalsOf } from '../../privacy/budget/index.ts';
import { encodeUtf8, limitOf, systemClock } from '../../src/base/index.ts';
import { openSqliteStore } from '../../src/store/index.ts';
import { costing } from './faults.ts';

const worker = new URL('worker.ts', import.meta.url).pathname;
const digest = (text: string): string => createHash('sha256').update(text).digest('hex');
let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'cloister-ledger-'));
  path = join(directory, 'state.db');
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

function child(...argv: string[]): { process: ChildProcess; lines: () => string[]; ended: Promise<number | null> } {
  const spawned = spawn(process.execPath, [worker, path, ...argv], { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  spawned.stdout.on('data', chunk => {
    output += chunk;
  });
  const ended = new Promise<number | null>(resolve => spawned.on('close', resolve));
  return { process: spawned, lines: () => output.split('\n').slice(0, -1), ended };
}

describe('ledger in several processes', () => {
  it.each([2, 3])(
    'grants exactly floor(limit / cost) to %i processes that race on one scope',
    async racers => {
      const children = Array.from({ length: racers }, () => child('race', '7001', '1'));
      expect(await Promise.all(children.map(one => one.ended))).toEqual(children.map(() => 0));
      const grants = children.map(one => Number(one.lines()[1]));
      expect(grants.reduce((sum, grant) => sum + grant, 0)).toBe(Math.floor(1_000_000 / 7001));
      await using store = await openSqliteStore({ path });
      await using ledger = await openLedger({
        store,
        clock: systemClock,
        budgets: [{ scope: 's', limit: limitOf(1) }],
      });
      const [scope] = await ledger.scopes();
      expect(scope).toMatchObject({ spent: 142 * 7001, reserved: 0 });
      expect(totalsOf(await ledger.history('s'))).toMatchObject({ spent: 142 * 7001, reserved: 0 });
    },
    60_000,
  );

  it('is sound after kill -9 at any moment, again and again', async () => {
    const cycles = process.env['CLOISTER_SLOW'] ? 40 : 4;
    const cost = 3;
    let charged = 0;
    const left = new Map<string, string>();
    for (let cycle = 0; cycle < cycles; cycle++) {
      const { process: running, lines, ended } = child('loop', String(cost), '1000');
      while (lines().length < 2) await sleep(5);
      await sleep(Math.random() * 100);
      running.kill('SIGKILL');
      await ended;
      for (const line of lines()) {
        const [kind, name] = line.split(' ') as [string, string];
        if (kind === 'charged') charged++;
        if (kind === 'released') left.set(name, `answer ${name}`);
      }
      await using store = await openSqliteStore({ path });
      await using ledger = await openLedger({
        store,
        clock: systemClock,
        budgets: [{ scope: 's', limit: limitOf(1000) }],
      });
      const [scope] = await ledger.scopes();
      const history = await ledger.history('s');
      const { limit, spent, reserved } = scope!;
      expect(totalsOf(history)).toEqual({ limit, spent, reserved });
      expect(reserved).toBe(0); // the killed process is known to be dead
      expect(spent).toBeGreaterThanOrEqual(cost * charged);
      // At most what was under way at each kill is spent beyond what was seen.
      expect(spent).toBeLessThanOrEqual(cost * (charged + cycle + 1));
      for (const [name, output] of [...left].slice(-20)) {
        const request = { scope: 's', event: costing(cost), requestDigest: digest(name), idempotencyKey: name };
        expect(await ledger.spend(request)).toMatchObject({ kind: 'replay', output: encodeUtf8(output) });
      }
    }
    expect(left.size).toBeGreaterThan(cycles);
  }, 240_000);
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
