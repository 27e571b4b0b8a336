/**
 * The levels of isolation side by side: what the weaker does not stop, the stronger does.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Isolation, openSandbox } from '../../sandbox/index.ts';
import { isCloisterError } from '../../src/base/index.ts';

const ENTRY = join(import.meta.dirname, '..', '..', 'sandbox', 'index.ts');
/** One call of V8 whose result is over the limit: nothing interrupts it, and V8 gives up. */
const ABORTS = "'a'.repeat(2 ** 28).split('').length";

/** Runs a script under `isolation` in a process that can be spared; says how that process ended. */
function spared(isolation: Isolation, source: string): { readonly alive: boolean; readonly said: string } {
  const program = `import { openSandbox } from ${JSON.stringify(ENTRY)};
    await using sandbox = await openSandbox({ isolation: '${isolation}', warm: 0, limits: { wallMs: 5000, memoryMb: 64 } });
    const { outcome } = await sandbox.evaluate(${JSON.stringify(source)});
    console.log(outcome);`;
  const args = ['--no-node-snapshot', '--no-warnings', '--input-type=module', '-e', program];
  const { status, stdout } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 25_000 });
  return { alive: status === 0, said: stdout.trim() };
}

describe('levels of isolation', () => {
  it('an abort of V8 ends the process that it is in, and no other', { retry: 2 }, () => {
    expect(spared('isolate', ABORTS)).toEqual({ alive: false, said: '' });
    expect(spared('process', ABORTS)).toEqual({
      alive: true,
      said: expect.stringMatching(/^(killed|limit:memoryMb)$/),
    });
  });

  it.each<Isolation>(['isolate', 'process'])(
    '%s stops what goes on after an await, and what never settles',
    async isolation => {
      await using sandbox = await openSandbox({ isolation, warm: 0, limits: { wallMs: 700, memoryMb: 64 } });
      const capabilities = { clock: {} };
      for (const source of [
        "(async () => { await lent.clock(); for (;;); })(); 'no'",
        "(async () => { for (;;) await lent.clock(); })(); 'no'",
        'new Promise(() => {})',
        '({ then() {} })',
      ]) {
        const { outcome, wallMs } = await sandbox.evaluate(source, { capabilities });
        expect(outcome).toBe('limit:wallMs');
        expect(wallMs).toBeLessThan(5_000);
      }
      expect(await sandbox.evaluate('6 * 7')).toMatchObject({ outcome: 'ok', value: '42' });
    },
  );

  it.each<Isolation>(['isolate', 'process'])('%s hears a caller who cancels', async isolation => {
    await using sandbox = await openSandbox({ isolation, warm: 0, limits: { wallMs: 20_000, memoryMb: 64 } });
    for (const signal of [AbortSignal.abort(), AbortSignal.timeout(300)]) {
      const error = await sandbox.evaluate('for (;;);', { signal }).catch((cause: unknown) => cause);
      expect(isCloisterError(error, 'ABORTED'), String(error)).toBe(true);
    }
    expect(await sandbox.evaluate('6 * 7')).toMatchObject({ outcome: 'ok', value: '42' });
  });

  // A confined worker hides its environment from all but root.
  it.skipIf(process.platform !== 'linux' || process.getuid?.() !== 0)(
    'a worker has nothing of its caller in its environment',
    async () => {
      process.env['CLOISTER_TEST_SECRET'] = 'of the caller';
      try {
        await using sandbox = await openSandbox({ warm: 1 });
        await sandbox.settled();
        const children = readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, 'utf8').trim().split(' ');
        expect(children.length).toBeGreaterThan(0);
        for (const pid of children) {
          const names = readFileSync(`/proc/${pid}/environ`, 'utf8')
            .split('\0')
            .filter(Boolean)
            .map(entry => entry.slice(0, entry.indexOf('=')));
          expect(names.filter(name => !/^(TZ|CLOISTER_(ISA|NATIVE|THREADS))$/.test(name))).toEqual([]);
        }
      } finally {
        delete process.env['CLOISTER_TEST_SECRET'];
      }
    },
  );
});
