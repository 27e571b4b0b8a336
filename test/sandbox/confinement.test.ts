/**
 * What the launcher says is read strictly; what workers of a dead supervisor left behind is found and removed; what the kernel ends is
 * told as what it is.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { canForbidDump, findLauncher } from '../../native/index.ts';
import { CONFINED_LAYERS, parseReport, probeConfinement } from '../../sandbox/confinement/confinement.ts';
import { findGroups, WorkerGroup } from '../../sandbox/confinement/groups.ts';
import { parseLimits } from '../../sandbox/limits.ts';
import { WorkerProcess } from '../../sandbox/worker/process.ts';
import { isCloisterError } from '../../src/base/index.ts';
import { canChangeUser, runAsNobody } from './plain-user.ts';

describe('the report of the launcher', () => {
  it('is read layer by layer', () => {
    const layers = parseReport(
      'filesystem\tactive\tLandlock, ABI 7\nnamespaces\tunavailable\tOperation not permitted\n',
    );
    expect(layers.get('filesystem')).toEqual({ status: 'active', how: 'Landlock, ABI 7' });
    expect(layers.get('namespaces')).toMatchObject({ status: 'unavailable', why: 'Operation not permitted' });
    expect(layers.size).toBe(2);
  });

  it('is refused in any other form', () => {
    const line = fc.oneof(
      fc.string().filter(text => !text.includes('\n')),
      fc
        .tuple(fc.constantFrom(...CONFINED_LAYERS), fc.string({ unit: fc.constantFrom('a', ' ', 'b') }))
        .map(parts => parts.join('\t')),
      fc.constant('filesystem\tactive\tx\nfilesystem\tactive\tx'),
    );
    fc.assert(
      fc.property(line, text => {
        let error: unknown;
        try {
          parseReport(`${text}\n`);
        } catch (cause) {
          error = cause;
        }
        expect(isCloisterError(error, 'WORKER_CRASHED')).toBe(true);
      }),
    );
  });
});

const parent = findGroups().memoryCap?.folder;

describe.skipIf(parent === undefined)('control groups', () => {
  it('of a worker are gone when it is', () => {
    const group = WorkerGroup.open(findGroups(), 64);
    const folders = group.arguments().flatMap(word => (word === '--group' ? [] : [word.slice(word.indexOf('=') + 1)]));
    expect(folders.filter(folder => existsSync(folder))).toEqual(folders);
    group.remove();
    expect(folders.filter(folder => existsSync(folder))).toEqual([]);
  });

  it('of a supervisor that is gone are swept, those of a living one are not', () => {
    // No process starts at tick 1 and has this number.
    const left = join(parent!, `cloister-worker-${process.pid}-1-0`);
    mkdirSync(left);
    const own = WorkerGroup.open(findGroups(), 64);
    try {
      expect(readdirSync(parent!)).not.toContain(`cloister-worker-${process.pid}-1-0`);
      expect(readdirSync(parent!).some(name => name.startsWith(`cloister-worker-${process.pid}-`))).toBe(true);
    } finally {
      own.remove();
      if (existsSync(left)) rmdirSync(left);
    }
  });
});

/** A kernel's view of a process in one tree of control groups, where folders are folders. */
class Tree {
  readonly root = mkdtempSync(join(tmpdir(), 'cloister groups '));
  readonly proc = join(this.root, 'proc');
  readonly mount = join(this.root, 'unified');

  constructor(path: string, controllers: string, mountRoot = '/') {
    mkdirSync(this.proc);
    const escaped = this.mount.replaceAll(' ', '\\040');
    const mounts = [
      '22 1 0:21 / /proc rw,nosuid - proc proc rw',
      `30 22 0:26 ${mountRoot} ${escaped} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate`,
      '',
    ];
    writeFileSync(join(this.proc, 'mountinfo'), mounts.join('\n'));
    writeFileSync(join(this.proc, 'cgroup'), `0::${path}\n`);
    const group = this.group(mountRoot === '/' ? path : path.slice(mountRoot.length));
    for (const folder of new Set([group, join(group, '..')])) {
      writeFileSync(join(folder, 'cgroup.controllers'), `${controllers}\n`);
      writeFileSync(join(folder, 'cgroup.subtree_control'), '\n');
      writeFileSync(join(folder, 'cgroup.procs'), '');
    }
  }

  group(path: string): string {
    const folder = join(this.mount, path);
    mkdirSync(folder, { recursive: true });
    return folder;
  }
}

describe('control groups of version 2', () => {
  const trees: Tree[] = [];
  const plant = (...given: ConstructorParameters<typeof Tree>): Tree => {
    const tree = new Tree(...given);
    trees.push(tree);
    return tree;
  };
  afterEach(() => {
    for (const { root } of trees.splice(0)) rmSync(root, { recursive: true });
  });
  const everywhere = (folder: string) => {
    const parent = { version: 2, folder };
    return { memoryCap: parent, taskCap: parent, cpuShare: parent };
  };

  it('are made below that of this process, whose controllers they get', () => {
    const tree = plant('/system.slice/service', 'cpuset cpu io memory pids');
    const folder = tree.group('/system.slice/service');
    const groups = findGroups(tree.proc);
    expect(groups).toEqual(everywhere(folder));
    expect(readFileSync(join(folder, 'cgroup.subtree_control'), 'utf8')).toMatch(/^\+(memory|pids|cpu)$/);

    const group = WorkerGroup.open(groups, 64);
    const made = group.arguments()[1]!.slice('memoryCap='.length);
    expect(group.arguments()).toEqual(
      ['memoryCap', 'taskCap', 'cpuShare'].flatMap(layer => ['--group', `${layer}=${made}`]),
    );
    const says = (file: string): string => readFileSync(join(made, file), 'utf8');
    expect([says('memory.max'), says('pids.max')]).toEqual([String(64 * 2 ** 20), '256']);
    expect(Number(says('cpu.weight'))).toBeGreaterThanOrEqual(100);
    writeFileSync(join(made, 'memory.swap.max'), 'max');
    group.limitMemory(96.5);
    expect([says('memory.max'), says('memory.swap.max')[0]]).toEqual([String(97 * 2 ** 20), '0']);

    writeFileSync(join(made, 'memory.events'), 'low 0\nhigh 0\nmax 7\noom 1\noom_kill 0\n');
    expect(group.ranOutOfMemory()).toBe(false);
    writeFileSync(join(made, 'memory.events'), 'low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\n');
    expect(group.ranOutOfMemory()).toBe(true);
  });

  it('are made beside that of this process where it has stepped aside before', () => {
    const tree = plant('/service/cloister-supervisor', 'cpu memory pids');
    expect(findGroups(tree.proc)).toEqual(everywhere(tree.group('/service')));
  });

  it('are found where a container sees a part of the tree only', () => {
    const tree = plant('/box/service', 'cpu memory pids', '/box');
    expect(findGroups(tree.proc)).toEqual(everywhere(tree.group('/service')));
    // A group outside that part cannot be reached, and the start of a name is not the name.
    writeFileSync(join(tree.proc, 'cgroup'), '0::/boxes/service\n');
    expect(findGroups(tree.proc)).toEqual({ why: expect.stringContaining('no control group') });
  });

  it('are had for the controllers that are there, and the reason is told for the others', () => {
    const tree = plant('/service', 'memory');
    const groups = findGroups(tree.proc);
    expect(groups).toEqual({
      memoryCap: { version: 2, folder: tree.group('/service') },
      why: expect.stringContaining('controller pids'),
    });
    rmSync(join(tree.group('/service'), 'cgroup.controllers'));
    expect(findGroups(tree.proc)).toEqual({ why: expect.stringContaining('ENOENT') });
    expect(findGroups(join(tree.root, 'nowhere'))).toEqual({ why: expect.stringContaining('ENOENT') });
  });

  it('of a supervisor that is gone lose what still runs in them, those of a living one do not', async () => {
    const tree = plant('/service', 'cpu memory pids');
    const [left, kept] = [spawn('sleep', ['300']), spawn('sleep', ['300'])];
    const ended = once(left, 'exit');
    const own = WorkerGroup.open(findGroups(tree.proc), 64);
    const mine = own.arguments()[1]!.slice('memoryCap='.length);
    try {
      writeFileSync(join(mine, 'cgroup.procs'), `${kept.pid}\n`);
      // No process starts at tick 1 and has this number.
      const theirs = tree.group(`/service/cloister-worker-${process.pid}-1-0`);
      writeFileSync(join(theirs, 'cgroup.procs'), `${left.pid}\n`);
      findGroups(tree.proc);
      expect((await ended)[1]).toBe('SIGKILL');
      expect(kept.signalCode).toBe(null);
    } finally {
      left.kill('SIGKILL');
      kept.kill('SIGKILL');
    }
  });
});

describe.skipIf(parent === undefined || findLauncher().kind === 'missing')(
  'a worker that its control group ends',
  () => {
    /** Takes memory until there is none left, or 64 MiB. */
    const worker = async (endless: boolean): Promise<WorkerProcess> => {
      const script = `
      const fs = require('node:fs');
      const say = (id, text) => {
        const head = Buffer.alloc(16);
        head.write('CLF1'); head.writeUInt32LE(id, 4); head.writeUInt32LE(text.length, 8);
        fs.writeSync(3, Buffer.concat([head, Buffer.from(text)]));
      };
      say(0, '{"hidden":${canForbidDump()}}');
      new (require('node:net').Socket)({ fd: 3 }).once('data', () => {
        const held = [];
        while (${endless} || held.length < 16) held.push(Buffer.alloc(1 << 22, 1));
        say(1, '{}');
      });`;
      const args = ['--openssl-config=/dev/null', '-e', script];
      return new WorkerProcess({ file: process.execPath, args }, await probeConfinement());
    };
    const limits = parseLimits({ wallMs: 120_000, cpuMs: 60_000, memoryMb: 128 });

    it('has passed memoryMb, although no watch looked', { timeout: 60_000 }, async () => {
      const greedy = await worker(true);
      await greedy.greeted();
      const answer = greedy.request({ op: 'run' }, [], limits).catch((cause: unknown) => cause);
      // Nothing of this thread runs meanwhile, the watch neither: what ends it is the kernel.
      const deadline = performance.now() + 30_000;
      while (stateOf(greedy.pid) !== 'Z' && performance.now() < deadline) {
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
      }
      expect(stateOf(greedy.pid)).toBe('Z');
      const error = await answer;
      expect(isCloisterError(error, 'LIMIT_EXCEEDED'), String(error)).toBe(true);
      expect((error as { detail: unknown }).detail).toMatchObject({ limit: 'memoryMb' });
      await greedy.close();
    });

    it('is not one that keeps to it (the control)', { timeout: 60_000 }, async () => {
      const modest = await worker(false);
      await modest.greeted();
      expect((await modest.request({ op: 'run' }, [], limits)).header).toEqual({});
      await modest.close();
    });
  },
);

function stateOf(pid: number): string | undefined {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  return text.slice(text.lastIndexOf(')') + 2)[0];
}

describe.skipIf(!canChangeUser || findLauncher().kind === 'missing')('a sandbox of an ordinary user', () => {
  it('confines, answers, and holds limits', { timeout: 120_000 }, async context => {
    const { status, stdout, stderr } = await runAsNobody([join(import.meta.dirname, 'used-sandbox.ts')]);
    if (/EACCES|Cannot find module/.test(stderr)) {
      return context.skip(`another user cannot read this: ${stderr.slice(0, 200)}`);
    }
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const used = JSON.parse(stdout) as Record<string, unknown>;
    expect(used).toMatchObject({ user: 65_534, y: [2], value: '42', endless: 'limit:cpuMs', greedy: 'limit:memoryMb' });
    // What an ordinary user has everywhere. Namespaces and groups are for the machine to allow.
    expect(used['active']).toEqual(
      expect.arrayContaining(['noNewPrivileges', 'systemCalls', 'network', 'resourceLimits', 'parentDeath']),
    );
    expect(used['running']).toEqual([]);
  });
});
