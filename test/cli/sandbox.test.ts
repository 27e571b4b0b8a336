/**
 * `cloister sandbox run`: outcomes, their exit codes, and the JSON form.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';

const MAIN = join(import.meta.dirname, '..', '..', 'src', 'cli', 'main.ts');
const folder = mkdtempSync(join(tmpdir(), 'cloister-cli-sandbox-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function sandboxRun(source: string | Uint8Array, ...args: readonly string[]) {
  writeFileSync(join(folder, 'guest.js'), source);
  const env = { ...process.env, NO_COLOR: '1' };
  const argv = ['--no-node-snapshot', MAIN, 'sandbox', 'run', 'guest.js', ...args];
  return spawnSync(process.execPath, argv, { cwd: folder, env, encoding: 'utf8' });
}

describe('cloister sandbox run', () => {
  test.each([
    ['6 * 7', 0, 'ok', '42'],
    ["throw new TypeError('no')", 1, 'error', 'TypeError: no'],
    ['for (;;);', 6, 'limit:wallMs', expect.stringContaining('wallMs of 3000')],
    ["lent.log('a'); lent.log('b')", 6, 'limit:messages', expect.stringContaining('messages of 1')],
    ["'x'.repeat(200)", 6, 'limit:outputBytes', expect.stringContaining('outputBytes of 100')],
  ])('%s: exit code %i', (source, status, outcome, value) => {
    const result = sandboxRun(
      source,
      '--json',
      '--lend',
      'log',
      '--limits',
      'wallMs=3000,memoryMb=64,messages=1,outputBytes=100',
    );
    expect(JSON.parse(result.stdout)).toMatchObject({ outcome, value, uses: { log: { refused: 0 } } });
    expect(result.status).toBe(status);
  });

  test('the JSON form has every field that its help names', () => {
    const result = sandboxRun(
      "lent.log('line'); lent.clock(); 1",
      '--json',
      '--lend',
      'log,clock',
      '--isolation',
      'process',
    );
    const { wallMs, cpuMs, peakMb, ...rest } = JSON.parse(result.stdout) as Record<string, unknown>;
    expect(rest).toEqual({
      outcome: 'ok',
      value: '1',
      messages: ['line'],
      uses: { log: { calls: 1, refused: 0, bytes: 4 }, clock: { calls: 1, refused: 0, bytes: expect.any(Number) } },
    });
    expect(wallMs).toBeGreaterThan(0);
    if (process.platform === 'linux') for (const used of [cpuMs, peakMb]) expect(used).toBeTypeOf('number');
    expect(sandboxRun('', '--help').stdout.replace(/\s+/g, ' ')).toMatch(
      /outcome, value .* messages .* uses .* wallMs, cpuMs, peakMb/,
    );
  });

  test('prints for people what a terminal cannot be taken over with', () => {
    const { stdout } = sandboxRun(
      "lent.log('\\u001b[31mred'); '\\u001b[2J'",
      '--lend',
      'log',
      '--isolation',
      'isolate',
    );
    expect(stdout).toMatch(/^ok {2}wall/);
    expect(stdout).toContain('\\u{1b}[2J');
    expect(stdout).not.toContain('\u001b');
    expect(stdout).toMatch(/^log +1 +0 +\d+$/m);
  });

  test.each([
    [['--lend', 'fs'], /there are log, clock/],
    [['--limits', 'wallMs'], /wallMs/],
    [['--limits', 'hours=1'], /hours/],
    [['--limits', 'wallMs=1,wallMs=2'], /twice/],
    [['--isolation', 'none'], /process, isolate/],
  ])('refuses %j as wrong usage', (args, message) => {
    const result = sandboxRun('1', ...args);
    expect(result.status).toBe(2);
    expect(result.stderr).toMatch(message);
  });

  test('refuses a file that is no text, and one that is not there', () => {
    expect(sandboxRun(Uint8Array.of(0xff, 0xfe, 0x00))).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('UTF-8'),
    });
    const argv = ['--no-node-snapshot', MAIN, 'sandbox', 'run', 'missing.js'];
    expect(spawnSync(process.execPath, argv, { cwd: folder, encoding: 'utf8' }).status).toBe(2);
  });
});
