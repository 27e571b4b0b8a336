/**
 * The launcher's border: it starts its file on a good command line and on no other, and ends with the codes that it documents.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, realpathSync } from 'node:fs';
import { basename } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { findLauncher } from '../../native/index.ts';
import { CONFINED_LAYERS } from '../../sandbox/confinement/confinement.ts';
import { workerFiles } from '../../sandbox/confinement/reads.ts';

const USAGE = 64;
const LAYER = 69;
const NO_START = 71;
const ORPHAN = 75;

const launcher = findLauncher();
const SHELL = existsSync('/bin/sh') ? realpathSync('/bin/sh') : '/bin/sh';
/** The file ends with this code, and one more for each word that it is given. A shell has no other way to say that it runs. */
const RUNS = 100;
const COMMAND = ['--', SHELL, '-c', `exit $((${RUNS} + $#))`, 'sh'];

interface Ended {
  readonly code: number | null;
  readonly report: string;
  readonly errors: string;
}

function launch(...words: readonly string[]): Ended {
  if (launcher.kind !== 'found') throw new Error(launcher.reason);
  const { status, stdout, stderr } = spawnSync(launcher.path, words, { cwd: '/', env: {}, encoding: 'utf8' });
  return { code: status, report: stdout, errors: stderr };
}

const parent = ['--parent', String(process.pid)];
/** What a shell reads and runs. */
const files = (): readonly string[] => {
  const { read, run } = workerFiles();
  const loaders = run.filter(path => /^ld[-.]/.test(basename(path)));
  return [...read.flatMap(path => ['--read', path]), ...[SHELL, ...loaders].flatMap(path => ['--run', path])];
};

describe.skipIf(launcher.kind === 'missing')('the launcher', () => {
  it('starts its file on a good command line, with the words that follow it (the control)', () => {
    const good = launch(...parent, ...files(), '--env', 'A=b', ...COMMAND, '--parent', 'x');
    expect(good).toMatchObject({ code: RUNS + 2, errors: '' });
    expect(good.report).toMatch(/^noNewPrivileges\tactive\t/m);
  });

  const bad: Readonly<Record<string, readonly string[]>> = {
    nothing: [],
    'a file and no parent': [...COMMAND],
    'no file': [...parent],
    'no file behind --': [...parent, '--'],
    'a probe and a file': [...parent, '--probe', ...COMMAND],
    'an unknown option': [...parent, '--write', '/tmp', ...COMMAND],
    'a word that is no option': [...parent, 'x', 'y', ...COMMAND],
    'an option in another case': ['--PARENT', String(process.pid), ...COMMAND],
    'an option with its value attached': [`--parent=${process.pid}`, '', ...COMMAND],
    'an option without its value': [...parent, '--read'],
    'a parent that is no number': ['--parent', 'x', ...COMMAND],
    'a parent that is empty': ['--parent', '', ...COMMAND],
    'a parent with something behind it': ['--parent', `${process.pid}x`, ...COMMAND],
    'a parent of 0': ['--parent', '0', ...COMMAND],
    'a parent below 0': ['--parent', '-1', ...COMMAND],
    'a parent over 2^64': ['--parent', '18446744073709551617', ...COMMAND],
    'a relative path to read': [...parent, '--read', 'etc', ...COMMAND],
    'an empty path to read': [...parent, '--read', '', ...COMMAND],
    'a relative path to run': [...parent, '--run', './sh', ...COMMAND],
    'a relative file': [...parent, '--', 'sh'],
    'a group without a folder': [...parent, '--group', 'memoryCap', ...COMMAND],
    'a group in a relative folder': [...parent, '--group', 'memoryCap=x', ...COMMAND],
    'a group for no layer': [...parent, '--group', 'memory=/x', ...COMMAND],
    'a group for the start of a layer': [...parent, '--group', 'memoryCa=/x', ...COMMAND],
    'a descriptor that is not open': [...parent, '--keep', '17', ...COMMAND],
    'a standard stream to keep': [...parent, '--keep', '2', ...COMMAND],
    'a descriptor over 31': [...parent, '--keep', '32', ...COMMAND],
    'a descriptor that is no number': [...parent, '--keep', '3.5', ...COMMAND],
    'a variable without a value': [...parent, '--env', 'A', ...COMMAND],
    'a variable without a name': [...parent, '--env', '=b', ...COMMAND],
    'a setting of the loader': [...parent, '--env', 'LD_PRELOAD=/x.so', ...COMMAND],
    'another setting of the loader': [...parent, '--env', 'LD_AUDIT=/x.so', ...COMMAND],
    'an unknown layer that is required': [...parent, '--require', 'everything', ...COMMAND],
    'an empty layer that is required': [...parent, '--require', '', ...COMMAND],
    'too many paths to read': [...parent, ...Array(256).fill(['--read', '/x']).flat(), ...COMMAND],
    'too many paths to run': [...parent, ...Array(256).fill(['--run', '/x']).flat(), ...COMMAND],
    'too many variables': [...parent, ...Array(256).fill(['--env', 'A=b']).flat(), ...COMMAND],
  };
  for (const [what, words] of Object.entries(bad)) {
    it(`refuses ${what}, and starts nothing`, () => {
      const ended = launch(...words);
      expect(ended).toMatchObject({ code: USAGE, report: '' });
      expect(ended.errors).toMatch(/^cloister-launch: .+\n$/);
    });
  }

  it('keeps at most 16 descriptors', () => {
    if (launcher.kind !== 'found') throw new Error(launcher.reason);
    const keeping = (count: number): number | null => {
      const keep = Array.from({ length: count }, (_, i) => ['--keep', String(3 + i)]).flat();
      const options = { cwd: '/', env: {}, stdio: Array<'pipe'>(20).fill('pipe') } as const;
      return spawnSync(launcher.path, [...parent, ...files(), ...keep, ...COMMAND], options).status;
    };
    expect(keeping(16)).toBe(RUNS);
    expect(keeping(17)).toBe(USAGE);
  });

  it('refuses a parent that is not the one that started it', () => {
    const ended = launch('--parent', String(process.ppid), ...files(), ...COMMAND);
    expect(ended).toMatchObject({ code: ORPHAN, report: '' });
  });

  it.each([
    ['is not there', '/nonexistent/program'],
    ['is a folder', '/'],
    ['is no program', '/etc/passwd'],
    ['may not be run', SHELL],
  ])('says of a file that %s that it does not start', (_, file) => {
    const ended = launch(...parent, ...(file === SHELL ? [] : ['--run', file]), '--', file);
    expect(ended.code).toBe(NO_START);
    expect(ended.errors).toMatch(/^cloister-launch: the worker's program(?: does not start)?: .+\n$/);
  });

  it('starts nothing without a layer that is required, and names it', () => {
    const ended = launch(...parent, ...files(), '--group', 'taskCap=/nonexistent', '--require', 'taskCap', ...COMMAND);
    expect(ended).toMatchObject({ code: LAYER, errors: expect.stringMatching(/^cloister-launch: taskCap: .+\n$/) });
    expect(launch(...parent, ...files(), '--require', 'memoryCap', ...COMMAND)).toMatchObject({ code: LAYER });
    // The control: what is not required is reported.
    const told = launch(...parent, ...files(), '--group', 'taskCap=/nonexistent', ...COMMAND);
    expect(told).toMatchObject({ code: RUNS, report: expect.stringMatching(/^taskCap\tunavailable\t/m) });
  });

  it('whatever it is given ends as it documents, and starts its file on no bad command line', () => {
    const values = fc.oneof(
      fc.constantFrom(...CONFINED_LAYERS, '/', '/usr', '/nonexistent', 'x', '', '3', '99', '-1', 'A=b', '=', 'LD_X=y'),
      fc.constantFrom('memoryCap=/nonexistent', 'filesystem=/', 'cpuShare=x', String(process.pid), '--', '--probe'),
      fc.string({ maxLength: 40 }).filter(text => !text.includes('\0')),
    );
    const options = fc.constantFrom('--parent', '--read', '--run', '--group', '--keep', '--env', '--require');
    const words = fc.array(fc.oneof(fc.tuple(options, values), fc.tuple(values)), { maxLength: 5 });
    const line = fc.tuple(fc.boolean(), words, fc.boolean());
    let good = 0;
    fc.assert(
      fc.property(line, ([before, given, file]) => {
        const all = [...(before ? parent : []), ...given.flat(), ...files(), ...(file ? COMMAND : [])];
        const ended = launch(...all);
        const told = `${JSON.stringify(given)} ${JSON.stringify(ended)}`;
        expect([0, RUNS, USAGE, LAYER, NO_START, ORPHAN], told).toContain(ended.code);
        if (!isGood(all)) expect(ended, told).toMatchObject({ code: USAGE, report: '' });
        else expect(ended.code, told).not.toBe(USAGE);
        if (ended.code === RUNS) good++;
        else if (ended.code !== 0) expect(ended.errors, told).toMatch(/^cloister-launch: .+\n$/);
      }),
      { numRuns: 300 },
    );
    expect(good).toBeGreaterThan(0);
  });

  it('ends with its supervisor', async () => {
    if (launcher.kind !== 'found') throw new Error(launcher.reason);
    const script = `const { spawn } = require('node:child_process');
      const words = JSON.parse(process.argv[1]).map(word => word === 'ME' ? String(process.pid) : word);
      const child = spawn(${JSON.stringify(launcher.path)}, words, { stdio: ['ignore', 'pipe', 'ignore'], env: {} });
      child.stdout.resume().once('close', () => process.stdout.write(String(child.pid)));`;
    const words = ['--parent', 'ME', ...files(), '--', SHELL, '-c', 'while :; do :; done'];
    const supervisor = spawn(process.execPath, ['-e', script, JSON.stringify(words)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [said] = (await once(supervisor.stdout, 'data')) as [Buffer];
    const pid = Number(said);
    expect(existsSync(`/proc/${pid}/stat`)).toBe(true);
    supervisor.kill('SIGKILL');
    await once(supervisor, 'close');
    await expect.poll(() => isAlive(pid), { timeout: 20_000 }).toBe(false);
  });
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Whether the launcher's own description of itself allows this command line, where no descriptor over 2 is open. */
function isGood(words: readonly string[]): boolean {
  const forms: Readonly<Record<string, RegExp>> = {
    '--parent': /^\s*\+?0*[1-9]\d{0,8}$/,
    '--read': /^\//,
    '--run': /^\//,
    '--group': new RegExp(`^(?:${CONFINED_LAYERS.join('|')})=/`),
    '--keep': /^(?!)/,
    '--env': /^(?!LD_)[^=]+=/s,
    '--require': new RegExp(`^(?:${CONFINED_LAYERS.join('|')})$`),
  };
  let parents = 0;
  let probes = 0;
  let at = 0;
  for (; at < words.length && words[at] !== '--'; at++) {
    const option = words[at]!;
    if (option === '--probe') {
      probes++;
      continue;
    }
    const value = words[++at];
    if (value === undefined || !forms[option]?.test(value)) return false;
    if (option === '--parent') parents++;
  }
  const file = words[at + 1];
  return parents > 0 && (file === undefined) === probes > 0 && (file === undefined || file.startsWith('/'));
}
