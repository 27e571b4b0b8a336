/**
 * Control groups: one for each worker, below the one that this process is in, wherever that may be written. Both versions of the
 * kernel's interface, cgroups(7): in version 1 every controller has a tree of its own, in version 2 there is one tree.
 * @module
 */
import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, dirname, join } from 'node:path';

const MIB = 1_048_576;
const PREFIX = 'cloister-worker-';
/** Where this process moves in version 2, in which a group has either processes or groups with limits. */
const OWN = 'cloister-supervisor';
/** Threads that a worker may have: those of Node and V8, of isolates, and at most 64 of kernels. */
const MAX_TASKS = 256;

/** What a controller does for a worker. */
export type GroupLayer = 'memoryCap' | 'taskCap' | 'cpuShare';

const CONTROLLERS = { memoryCap: 'memory', taskCap: 'pids', cpuShare: 'cpu' } as const;
const GROUP_LAYERS = Object.keys(CONTROLLERS) as readonly GroupLayer[];

/** A folder below which groups can be made. */
interface Parent {
  readonly version: 1 | 2;
  readonly folder: string;
}

/** Where workers get their groups; a layer without a parent cannot be had, and `why` says it. */
export type Groups = Readonly<Partial<Record<GroupLayer, Parent>>> & { readonly why?: string };

/**
 * Finds the groups that this process may divide, and takes away what workers of dead supervisors left there.
 *
 * @param proc - The folder of the kernel's view of this process; tests have their own.
 */
export function findGroups(proc = '/proc/self'): Groups {
  const found: Partial<Record<GroupLayer, Parent>> = {};
  let why: string | undefined;
  for (const layer of GROUP_LAYERS) {
    try {
      const parent = parentFor(CONTROLLERS[layer], proc);
      if (typeof parent === 'string') why ??= parent;
      else found[layer] = parent;
    } catch (error) {
      why ??= (error as Error).message;
    }
  }
  for (const folder of new Set(Object.values(found).map(parent => parent.folder))) sweep(folder);
  return Object.freeze({ ...found, ...(why !== undefined && { why }) });
}

/** The control group of one worker, or none where there is none to be had. */
export class WorkerGroup {
  readonly #folders: readonly (readonly [GroupLayer, 1 | 2, string])[];
  #limitMb = 0;

  private constructor(folders: readonly (readonly [GroupLayer, 1 | 2, string])[]) {
    this.#folders = folders;
  }

  /** Makes the group, with its limits, for a process that is about to start. */
  static open(groups: Groups, limitMb: number): WorkerGroup {
    const name = `${PREFIX}${process.pid}-${startTime(process.pid) ?? 0}-${next++}`;
    const folders = GROUP_LAYERS.flatMap(layer => {
      const parent = groups[layer];
      return parent === undefined ? [] : [[layer, parent.version, join(parent.folder, name)] as const];
    });
    for (const folder of new Set(folders.map(([, , path]) => path))) mkdirSync(folder, { recursive: true });
    const group = new WorkerGroup(folders);
    for (const [layer, version, folder] of folders) {
      if (layer === 'taskCap') writeFileSync(join(folder, 'pids.max'), String(MAX_TASKS));
      // As much as its kernels may use at best, however many threads it has.
      else if (layer === 'cpuShare') {
        const processors = availableParallelism();
        const [file, share] = version === 1 ? ['cpu.shares', 1_024 * processors] : ['cpu.weight', 100 * processors];
        writeFileSync(join(folder, file as string), String(Math.min(10_000, share as number)));
      }
    }
    group.#setMemory(limitMb);
    return group;
  }

  /** How the launcher is told. */
  arguments(): readonly string[] {
    return this.#folders.flatMap(([layer, , folder]) => ['--group', `${layer}=${folder}`]);
  }

  /** MiB that everything in the group may hold together. Where it holds more already the old limit stays, and the watch sees to it. */
  limitMemory(limitMb: number): void {
    if (limitMb === this.#limitMb) return;
    try {
      this.#setMemory(limitMb);
    } catch {
      // more is held than that, or the group is gone
    }
  }

  #setMemory(limitMb: number): void {
    const memory = this.#memory();
    if (memory === undefined) return;
    const bytes = String(Math.ceil(limitMb) * MIB);
    const [version, folder] = memory;
    if (version === 2) {
      writeFileSync(join(folder, 'memory.max'), bytes);
      writeIfThere(join(folder, 'memory.swap.max'), '0');
    } else {
      // The limit on memory and swap together is never below that on memory: which goes first depends on the direction.
      const both = join(folder, 'memory.memsw.limit_in_bytes');
      if (limitMb > this.#limitMb) writeIfThere(both, bytes);
      writeFileSync(join(folder, 'memory.limit_in_bytes'), bytes);
      writeIfThere(both, bytes);
    }
    this.#limitMb = limitMb;
  }

  /** Whether the kernel ended something in it for want of memory. */
  ranOutOfMemory(): boolean {
    const memory = this.#memory();
    if (memory === undefined) return false;
    const [version, folder] = memory;
    try {
      const text = readFileSync(join(folder, version === 2 ? 'memory.events' : 'memory.oom_control'), 'utf8');
      return Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0) > 0;
    } catch {
      return false; // gone
    }
  }

  /** Takes it away. What is still in it, a supervisor that comes later will find. */
  remove(): void {
    for (const [, , folder] of this.#folders) removeGroup(folder);
  }

  #memory(): readonly [1 | 2, string] | undefined {
    const found = this.#folders.find(([layer]) => layer === 'memoryCap');
    return found && [found[1], found[2]];
  }
}

let next = 0;

/** The folder for groups under `controller`, or why there is none. */
function parentFor(controller: string, proc: string): Parent | string {
  const mounts = readFileSync(join(proc, 'mountinfo'), 'utf8').split('\n').map(parseMount);
  const lines = readFileSync(join(proc, 'cgroup'), 'utf8').split('\n');
  for (const line of lines) {
    // ID:CONTROLLERS:PATH, and 0::PATH for version 2.
    const [, id, controllers = '', path = ''] = /^(\d+):([^:]*):(.*)$/.exec(line) ?? [];
    const version = id === '0' && controllers === '' ? 2 : 1;
    if (version === 1 && !controllers.split(',').includes(controller)) continue;
    const mount = mounts.find(one =>
      version === 2 ? one?.type === 'cgroup2' : one?.type === 'cgroup' && one.options.includes(controller),
    );
    if (mount === undefined) continue;
    const below = path.startsWith(mount.root === '/' ? '/' : `${mount.root}/`) || path === mount.root;
    if (!below) continue;
    const folder = join(mount.point, mount.root === '/' ? path : path.slice(mount.root.length));
    if (version === 1) return tried({ version, folder });
    const has = readFileSync(join(folder, 'cgroup.controllers'), 'utf8').trim().split(' ').includes(controller);
    if (has) return tried({ version, folder: divide(folder, controller) });
  }
  return `this process is in no control group with the controller ${controller}`;
}

/** Whether a group can be made there. */
function tried(parent: Parent): Parent | string {
  const folder = join(parent.folder, `${PREFIX}${process.pid}-${startTime(process.pid) ?? 0}-trial`);
  try {
    mkdirSync(folder);
    rmdirSync(folder);
    return parent;
  } catch (error) {
    return `the control group ${parent.folder} cannot be divided (${(error as NodeJS.ErrnoException).code})`;
  }
}

/** Version 2: lets the groups below have `controller`, for which this process may have to step aside. */
function divide(folder: string, controller: string): string {
  const parent = basename(folder) === OWN ? dirname(folder) : folder;
  const control = join(parent, 'cgroup.subtree_control');
  if (readFileSync(control, 'utf8').trim().split(' ').includes(controller)) return parent;
  try {
    writeFileSync(control, `+${controller}`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EBUSY') throw error;
    const others = readFileSync(join(parent, 'cgroup.procs'), 'utf8').trim().split('\n').filter(Boolean);
    if (others.some(pid => pid !== String(process.pid))) {
      throw new Error(`the control group ${parent} holds other processes`, { cause: error });
    }
    const own = join(parent, OWN);
    mkdirSync(own, { recursive: true });
    writeFileSync(join(own, 'cgroup.procs'), String(process.pid));
    writeFileSync(control, `+${controller}`);
  }
  return parent;
}

interface Mount {
  readonly root: string;
  readonly point: string;
  readonly type: string;
  readonly options: readonly string[];
}

/** proc_pid_mountinfo(5): the fields before ` - `, then type, source and options of the file system. */
function parseMount(line: string): Mount | undefined {
  const [before = '', after] = line.split(' - ');
  const [, , , root, point] = before.split(' ');
  const [type = '', , options = ''] = after?.split(' ') ?? [];
  if (root === undefined || point === undefined) return undefined;
  const plain = (path: string): string =>
    path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  return { root: plain(root), point: plain(point), type, options: options.split(',') };
}

/** Removes the groups of supervisors that are gone, and ends what should have ended with them. */
function sweep(parent: string): void {
  for (const name of readdirSync(parent)) {
    const [, pid, started] = /^cloister-worker-(\d+)-(\d+)-\w+$/.exec(name) ?? [];
    if (pid === undefined || startTime(Number(pid)) === Number(started)) continue;
    const folder = join(parent, name);
    try {
      for (const left of readFileSync(join(folder, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean)) {
        process.kill(Number(left), 'SIGKILL');
      }
    } catch {
      // gone between two looks
    }
    removeGroup(folder);
  }
}

function removeGroup(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // Something in it has not been reaped yet, or it is gone: the next supervisor sweeps.
  }
}

function writeIfThere(path: string, text: string): void {
  try {
    writeFileSync(path, text, { flag: 'r+' });
  } catch {
    // no accounting of swap in this kernel
  }
}

/** When a process started, in ticks since the machine did: with its number, this names it for good. */
function startTime(pid: number): number | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // proc_pid_stat(5): field 22; the name in parentheses may hold anything.
    return Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[19]);
  } catch {
    return undefined;
  }
}
