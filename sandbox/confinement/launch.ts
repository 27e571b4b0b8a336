/**
 * Starts a worker, through the launcher where there is one.
 * @module
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { CloisterError } from '../../src/base/index.ts';
import { activeConfinement, type Confinement, parseReport } from './confinement.ts';
import { dumpLayer } from './dump.ts';
import { WorkerGroup } from './groups.ts';
import { workerFiles } from './reads.ts';

/** Exit codes of the launcher: see native/os/launcher.cc. */
const LAYER_FAILED = 69;
const REPORT_BYTES = 4_096;
/** MiB that a worker may hold before it is known what it is for. */
const WARM_MB = 256;
/** MiB over its limit at which the kernel ends a worker that the watch has not ended: its own books, buffers of its channel. */
const SLACK_MB = 32;

/** What a worker is started with. */
export interface LaunchOptions {
  readonly file: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  /** How it is confined; undefined starts it as it is. */
  readonly confinement: Confinement | undefined;
  /** Descriptors beyond 0 to 3 that it inherits, in order from 4. */
  readonly descriptors: readonly number[];
}

/** A process that was started, and what holds it. */
export class Launched {
  readonly child: ChildProcess;
  readonly #confinement: Confinement | undefined;
  readonly #group: WorkerGroup | undefined;
  #report = '';

  private constructor(child: ChildProcess, confinement: Confinement | undefined, group: WorkerGroup | undefined) {
    this.child = child;
    this.#confinement = confinement;
    this.#group = group;
    const output = child.stdout as Readable | null;
    output?.on('data', (chunk: Buffer) => {
      this.#report = (this.#report + chunk.toString('latin1')).slice(0, REPORT_BYTES);
    });
    output?.on('error', () => {}); // what is missing of the report is found missing
    this.reported = output == null ? Promise.resolve() : new Promise(resolve => output.on('close', resolve));
  }

  /** Starts it. What cannot be started is told by the events of the child. */
  static start(options: LaunchOptions): Launched {
    const { file, args, env, confinement, descriptors } = options;
    const common = { cwd: process.platform === 'win32' ? undefined : '/', windowsHide: true, detached: false };
    const launcher = confinement?.launcher;
    if (confinement === undefined || launcher === undefined) {
      const child = spawn(file, [...args], {
        ...common,
        env,
        stdio: ['ignore', 'ignore', 'pipe', 'pipe', ...descriptors],
      });
      return new Launched(child, confinement, undefined);
    }
    const group = openGroup(confinement);
    const { read, run } = workerFiles();
    const words = [
      ...['--parent', String(process.pid)],
      ...read.flatMap(path => ['--read', path]),
      ...run.flatMap(path => ['--run', path]),
      ...(group?.arguments() ?? []),
      ...[3, ...descriptors.map((_, i) => 4 + i)].flatMap(fd => ['--keep', String(fd)]),
      ...Object.entries(env).flatMap(([name, value]) => ['--env', `${name}=${value}`]),
      ...activeConfinement(confinement).flatMap(layer => ['--require', layer]),
      ...['--', file, ...args],
    ];
    const child = spawn(launcher, words, {
      ...common,
      env: {},
      stdio: ['ignore', 'pipe', 'pipe', 'pipe', ...descriptors],
    });
    return new Launched(child, confinement, group);
  }

  /** Resolves when the launcher's report is complete. */
  readonly reported: Promise<void>;

  /**
   * Checks, when the worker has greeted, that it is confined as its launcher was told, by the launcher's report, by what the worker says
   * before it has seen a byte of a guest, and by what the kernel says of the process.
   *
   * @param status - proc_pid_status(5) of the worker.
   * @throws {CloisterError} `WORKER_CRASHED` when it is not.
   */
  assertConfined(greeting: Readonly<Record<string, unknown>>, status: string): void {
    if (this.#confinement === undefined) return;
    const wanted = activeConfinement(this.#confinement);
    const reported = parseReport(this.#report);
    const missing: string[] = wanted.filter(layer => reported.get(layer)?.status !== 'active');
    const says = (field: string): string | undefined => new RegExp(`^${field}:\\s*(\\S+)$`, 'm').exec(status)?.[1];
    if (wanted.includes('noNewPrivileges') && (says('NoNewPrivs') !== '1' || !/^0+$/.test(says('CapPrm') ?? ''))) {
      missing.push('noNewPrivileges, as the kernel says');
    }
    if (wanted.includes('systemCalls') && says('Seccomp') !== '2') missing.push('systemCalls, as the kernel says');
    if (dumpLayer(this.#confinement).status === 'active' && greeting['hidden'] !== true) missing.push('noDump');
    if (missing.length === 0) return;
    const message = `the worker is not confined as its launcher was told: ${missing.join(', ')} missing`;
    throw new CloisterError('WORKER_CRASHED', message, { missing });
  }

  /** Bounds what it may hold, in MiB: `baseMb` when it was empty, and `memoryMb` over that. */
  limitMemory(baseMb: number, memoryMb: number): void {
    this.#group?.limitMemory(baseMb + memoryMb + SLACK_MB);
  }

  /** Whether the kernel ended it for want of memory. */
  ranOutOfMemory(): boolean {
    return this.#group?.ranOutOfMemory() ?? false;
  }

  /** What a launcher that ended with `code` says, or undefined when it was not the launcher that ended. */
  failure(code: number | null | undefined, stderr: string): CloisterError | undefined {
    if (code !== LAYER_FAILED || this.#confinement === undefined) return undefined;
    const [, layer, why] = /^cloister-launch: (\w+): (.*)$/m.exec(stderr) ?? [];
    if (layer === undefined) return undefined;
    const message = `a layer that was active before is not active for this worker, which was not started: ${layer} (${why})`;
    return new CloisterError('LAYER_UNAVAILABLE', message, { layers: [layer] });
  }

  /** Takes away what was made for it. Call it when the process was reaped. */
  release(): void {
    this.#group?.remove();
  }
}

/** Without its group a worker that has to have one is refused by the launcher, which says so. */
function openGroup({ groups }: Confinement): WorkerGroup | undefined {
  try {
    return WorkerGroup.open(groups, WARM_MB);
  } catch {
    return undefined;
  }
}
