/**
 * Arbitrary native code in a worker: what the operating system still lets it do.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, type TestContext } from 'vitest';
import { findLauncher } from '../../native/index.ts';
import { openSandbox } from '../../sandbox/index.ts';
import { isCloisterError } from '../../src/base/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { canChangeUser, type Ran, runAsNobody, runAsNobodyWithoutNamespaces } from '../sandbox/plain-user.ts';
import { affineModel } from '../sandbox/tiny-model.ts';
import { attemptAll, type Outcomes } from './confinement-probe.ts';
import type { Seen } from './dump-probe.ts';

const root = join(import.meta.dirname, '..', '..');
const compiler = ['c++', 'g++', 'clang++'].find(name => spawnSync(name, ['--version']).status === 0);
const headers = [dirname(dirname(process.execPath)), join(root, 'node_modules', `node-linux-${process.arch}`)]
  .map(prefix => join(prefix, 'include', 'node'))
  .find(folder => existsSync(join(folder, 'node_api.h')));
const launcher = findLauncher();
const ready = launcher.kind === 'found' && compiler !== undefined && headers !== undefined;

/** Where a worker may read: a probe that it cannot load would prove nothing. */
const folder = join(root, 'native', 'build', `probe-${process.pid}`);
const addon = join(folder, 'probe.node');

const EACCES = 13;

/** Killed by the filter, or refused; never done. */
function succeeded(outcomes: Outcomes): readonly string[] {
  return Object.entries(outcomes)
    .filter(([, outcome]) => outcome === 0)
    .map(([name]) => name);
}

/** Attempts that an ordinary user makes with success wherever nothing confines it. */
const OPEN_TO_ALL = [
  ...['read a file outside', 'read /etc/passwd', 'list /', "read the supervisor's environment", 'write a new file'],
  ...['write the file outside', 'make a folder', 'make a link', 'rename a file', 'run a shell', 'start a process'],
  ...[
    'connect',
    'listen',
    'open a UDP socket',
    'open a local socket',
    'open a netlink socket',
    'signal another process',
  ],
  ...['signal the supervisor', 'signal everybody', 'hold another process', 'read memory by process', 'reach a keyring'],
  ...['move another process between processors', 'make anonymous files', 'run from memory', 'change its limits'],
];

beforeAll(() => {
  if (!ready) return;
  mkdirSync(folder, { recursive: true });
  chmodSync(folder, 0o755);
  const source = join(import.meta.dirname, 'confinement-probe.cc');
  execFileSync(compiler!, ['-std=gnu++20', '-shared', '-fPIC', `-I${headers}`, '-o', addon, source]);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.skipIf(!ready)('native code in a confined worker', () => {
  it('does none of what it might try', { timeout: 120_000 }, async () => {
    const outcomes = await attemptAll(addon, true);
    expect(Object.keys(outcomes).length).toBeGreaterThan(60);
    expect(succeeded(outcomes)).toEqual([]);
    // Taking others over is answered by the end of the process, not by an error.
    expect(outcomes).toMatchObject({ 'trace another process': 'SIGSYS', mount: 'SIGSYS', 'reach bpf': 'SIGSYS' });
  });

  it('does much of it where nothing confines it (the control)', { timeout: 120_000 }, async () => {
    const done = new Set(succeeded(await attemptAll(addon, false)));
    expect(OPEN_TO_ALL.filter(name => !done.has(name))).toEqual([]);
  });

  it.skipIf(process.getuid?.() !== 0)('does none of it as an ordinary user either', { timeout: 120_000 }, context => {
    const program = join(import.meta.dirname, 'confinement-probe.ts');
    const asNobody = (mode: string) =>
      spawnSync(process.execPath, ['--no-node-snapshot', '--no-warnings', program, addon, mode], {
        ...{ uid: 65534, gid: 65534, cwd: '/', encoding: 'utf8' },
      });
    const open = asNobody('open');
    if (open.status !== 0) return context.skip(`another user cannot read this folder: ${open.stderr.slice(0, 200)}`);
    const control = JSON.parse(open.stdout) as Outcomes;
    expect(OPEN_TO_ALL.filter(name => control[name] !== 0)).toEqual([]);
    const confined = asNobody('confined');
    expect(confined.stderr).toBe('');
    expect(succeeded(JSON.parse(confined.stdout) as Outcomes)).toEqual([]);
  });
});

/** Root sees everything, so this is looked at as an ordinary user: skipped, and counted, where that cannot be had. */
describe.skipIf(!ready || !canChangeUser)('another process of the user of a confined worker', () => {
  const words = [join(import.meta.dirname, 'dump-probe.ts'), addon];

  /** What the program saw; it is skipped where the other user cannot read this folder. */
  function seen({ status, stdout, stderr }: Ran, context: TestContext): Seen {
    if (/EACCES|Cannot find module/.test(stderr))
      context.skip(`another user cannot read this: ${stderr.slice(0, 200)}`);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const found = JSON.parse(stdout) as Seen;
    // The control: of a process that is confined alike and has not hidden itself, all of it can be had.
    expect(Object.keys(found.control)).toHaveLength(5);
    expect(succeeded(found.control)).toEqual(Object.keys(found.control));
    // And the supervisor still sees what it watches over.
    expect(found.outcome).toBe('limit:cpuMs');
    return found;
  }

  it('opens neither its environment nor its memory', { timeout: 120_000 }, async context => {
    const { worker, layer } = seen(await runAsNobody(words), context);
    expect(layer).toMatchObject({ status: 'active', how: expect.stringContaining('PR_SET_DUMPABLE') });
    expect(worker).toMatchObject({ "read another's environment": EACCES, "open another's memory": EACCES });
  });

  it('cannot trace it either where workers have no user namespace', { timeout: 120_000 }, async context => {
    const outcome = await runAsNobodyWithoutNamespaces(words).catch((error: Error) => error);
    if (outcome instanceof Error) return context.skip(`no such place can be made here: ${outcome.message}`);
    const { worker, layer } = seen(outcome, context);
    expect(layer).toMatchObject({ how: 'PR_SET_DUMPABLE 0: its user can neither trace nor read it' });
    expect(succeeded(worker)).toEqual([]);
  });
});

describe.skipIf(launcher.kind === 'missing')('a confined worker', () => {
  it('is what the kernel says too, and holds no descriptor of its supervisor', async () => {
    await using sandbox = await openSandbox({ warm: 0 });
    await using model = await sandbox.load(affineModel());
    await model.run({ x: Tensor.zeros('f32', [1, 3]) });
    const children = readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, 'utf8').trim().split(' ');
    const workers = children.filter(pid => readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('worker/main'));
    expect(workers.length).toBeGreaterThan(0);
    for (const pid of workers) {
      const status = readFileSync(`/proc/${pid}/status`, 'latin1');
      expect(status).toMatch(/^NoNewPrivs:\t1$/m);
      expect(status).toMatch(/^Seccomp:\t2$/m);
      expect(status).toMatch(/^CapEff:\t0+$/m);
      expect(status).toMatch(/^CapBnd:\t0+$/m);
      expect(readFileSync(`/proc/${pid}/environ`, 'latin1')).not.toContain('PATH=');
      const links = spawnSync('ls', ['-l', `/proc/${pid}/fd`], { encoding: 'utf8' }).stdout;
      const files = links.match(/-> (\/.*)$/gm)?.filter(link => !/\/dev\/null$|\/memfd:cloister/.test(link)) ?? [];
      expect(files).toEqual([]);
    }
  });
});

it('a layer that is required and not there refuses to open the sandbox, and says why', async () => {
  const refused = await openSandbox({ isolation: 'isolate', require: ['filesystem'] }).catch((error: unknown) => error);
  expect(isCloisterError(refused, 'LAYER_UNAVAILABLE'), String(refused)).toBe(true);
  expect(String(refused)).toContain('filesystem');
  expect((refused as { detail: unknown }).detail).toEqual({ layers: ['filesystem'] });
});
