/**
 * How far the operating system confines the workers of this process: asked once, of the launcher itself.
 * @module
 */
import { spawn } from 'node:child_process';
import { findLauncher } from '../../native/index.ts';
import { CloisterError } from '../../src/base/index.ts';
import type { Layer } from '../layers.ts';
import { findGroups, type Groups, WorkerGroup } from './groups.ts';

/** The layers that the launcher brings up, with what mends each. */
const MENDS = {
  noNewPrivileges: 'use Linux 3.5 or newer',
  filesystem: 'use Linux 5.13 or newer, with landlock among its security modules (kernel parameter lsm=)',
  systemCalls: 'use a kernel with CONFIG_SECCOMP_FILTER',
  network: 'let one of namespaces, filesystem and systemCalls be active',
  namespaces: 'allow user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone)',
  resourceLimits: 'raise the hard limits of the service',
  parentDeath: 'use a kernel with PR_SET_PDEATHSIG',
  memoryCap: 'give the service a control group of its own that it may write (systemd: Delegate=yes)',
  taskCap: 'give the service a control group of its own that it may write (systemd: Delegate=yes)',
  cpuShare: 'give the service a control group of its own that it may write (systemd: Delegate=yes)',
} as const;

/** A layer that the launcher brings up. */
export type ConfinedLayer = keyof typeof MENDS;

/** A launcher that does not answer by then is none. */
const PROBE_MS = 5_000;
const REPORT_BYTES = 4_096;
/** MiB that the launcher's own trial may hold. */
const PROBE_MB = 64;

/** What the launcher gives here. */
export interface Confinement {
  /** Undefined where there is none: workers then start without it. */
  readonly launcher: string | undefined;
  readonly groups: Groups;
  readonly layers: Readonly<Record<ConfinedLayer, Layer>>;
}

/** Whether `name` is a layer that the launcher brings up. */
export function isConfinedLayer(name: string): name is ConfinedLayer {
  return Object.hasOwn(MENDS, name);
}

/** The layers that the launcher brings up, in no order that matters. */
export const CONFINED_LAYERS = Object.keys(MENDS) as readonly ConfinedLayer[];

let probed: Promise<Confinement> | undefined;

/** Has the launcher confine a process that does nothing, and returns its report. Asked once in the life of this process. */
export function probeConfinement(): Promise<Confinement> {
  probed ??= probe();
  return probed;
}

/**
 * The confinement of workers for which `required` is required. Everything that works here is brought up unasked but `cpuShare`: a
 * group of its own for the processor costs each call two changes between groups, some microseconds.
 */
export function chooseConfinement(given: Confinement, required: readonly string[]): Confinement {
  if (required.includes('cpuShare')) return given;
  const { cpuShare, ...groups } = given.groups;
  return { ...given, groups, layers: { ...given.layers, cpuShare: { status: 'not requested' } } };
}

/** The layers that are active. A worker is started with all of them, or not at all. */
export function activeConfinement({ layers }: Confinement): readonly ConfinedLayer[] {
  return CONFINED_LAYERS.filter(name => layers[name].status === 'active');
}

/**
 * Reads a launcher's report: a line for each layer, `LAYER <tab> active|unavailable <tab> WHAT`.
 *
 * @throws {CloisterError} `WORKER_CRASHED` when it is of another form.
 */
export function parseReport(text: string): ReadonlyMap<ConfinedLayer, Layer> {
  const found = new Map<ConfinedLayer, Layer>();
  for (const line of text.split('\n').slice(0, -1)) {
    const [name = '', status, what, ...rest] = line.split('\t');
    if (!isConfinedLayer(name) || found.has(name) || what === undefined || rest.length > 0) throw unreadable();
    if (status === 'active') found.set(name, { status, how: what });
    else if (status === 'unavailable') found.set(name, { status, why: what, mend: MENDS[name] });
    else throw unreadable();
  }
  return found;
}

function unreadable(): CloisterError {
  return new CloisterError('WORKER_CRASHED', 'the report of the launcher is not of the agreed form; build it again');
}

async function probe(): Promise<Confinement> {
  const launcher = findLauncher();
  if (launcher.kind === 'missing') return nothing(launcher.reason, launcher.mend);
  const groups = findGroups();
  const group = WorkerGroup.open(groups, PROBE_MB);
  try {
    const reported = parseReport(await ask(launcher.path, group));
    const layers = CONFINED_LAYERS.map(name => [name, reported.get(name) ?? absent(groups, name)]);
    return Object.freeze({ launcher: launcher.path, groups, layers: Object.freeze(Object.fromEntries(layers)) });
  } catch (error) {
    // A launcher that does not run here confines nobody: a policy that requires a layer then refuses.
    return nothing(error instanceof Error ? error.message : String(error), 'npm run build:native');
  } finally {
    group.remove();
  }
}

function nothing(why: string, mend: string): Confinement {
  const layers = CONFINED_LAYERS.map(name => [name, { status: 'unavailable', why, mend } as const]);
  return Object.freeze({ launcher: undefined, groups: {}, layers: Object.freeze(Object.fromEntries(layers)) });
}

/** A layer that the launcher was not asked for, since there is no control group for it. */
function absent(groups: Groups, name: ConfinedLayer): Layer {
  const why = groups.why ?? 'there is no control group for it that can be written';
  return { status: 'unavailable', why, mend: MENDS[name] };
}

function ask(launcher: string, group: WorkerGroup): Promise<string> {
  return new Promise((resolve, reject) => {
    const args = ['--parent', String(process.pid), ...group.arguments(), '--probe'];
    const child = spawn(launcher, args, { cwd: '/', env: {}, stdio: ['ignore', 'pipe', 'pipe'] });
    const timer = setTimeout(() => child.kill('SIGKILL'), PROBE_MS);
    let report = '';
    let errors = '';
    child.stdout.on('data', (chunk: Buffer) => {
      report = (report + chunk.toString('latin1')).slice(0, REPORT_BYTES);
    });
    child.stderr.on('data', (chunk: Buffer) => {
      errors = (errors + chunk.toString('latin1')).slice(0, REPORT_BYTES);
    });
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      if (code === 0) resolve(report);
      else reject(new Error(errors.split('\n')[0] || `the launcher ended with ${signal ?? `code ${code}`}`));
    });
  });
}
