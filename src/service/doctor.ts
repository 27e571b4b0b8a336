/**
 * What this machine has, what is missing, and the command that mends it.
 * @module
 */
import { join } from 'node:path';
import type { Capabilities, Layer } from '../../sandbox/index.ts';
import { isCloisterError } from '../base/index.ts';
import { paths } from './directory.ts';
import { measurePlanFiles, PLAN_FILES_BYTES } from './plan-files.ts';

/** One thing that was looked at. */
export interface Check {
  readonly name: string;
  /** `degraded`: works, with less speed or fewer walls. `missing`: part of the library does not work. */
  readonly state: 'ok' | 'degraded' | 'missing';
  readonly found: string;
  /** The command or step that mends it. */
  readonly mend?: string;
}

/** What {@link diagnose} found. */
export interface Diagnosis {
  /** Whether nothing is missing. Degraded parts do not count. */
  readonly ok: boolean;
  readonly checks: readonly Check[];
}

const NODE_FLOOR = 24;

/**
 * Looks at Node, the kernels, the isolate, the worker process and the store, by using each once; and at how much is kept in the
 * cloister's directory `dir`, if one is named.
 * @example
 * ```ts
 * const { ok, checks } = await diagnose();
 * if (!ok) console.error(checks.filter(({ state }) => state === 'missing').map(({ name, mend }) => `${name}: ${mend}`));
 * ```
 */
export async function diagnose(options: { readonly dir?: string } = {}): Promise<Diagnosis> {
  const checks = [
    checkNode(),
    await checkKernels(),
    await checkIsolate(),
    await checkProcess(),
    await checkStore(),
    ...(options.dir === undefined ? [] : [checkPlans(options.dir)]),
    ...(await checkWalls()),
  ];
  return { ok: checks.every(check => check.state !== 'missing'), checks };
}

function checkNode(): Check {
  const found = `${process.version} on ${process.platform}-${process.arch}`;
  if (Number(process.versions.node.split('.')[0]) >= NODE_FLOOR) return { name: 'node', state: 'ok', found };
  return {
    name: 'node',
    state: 'missing',
    found,
    mend: `use Node ${NODE_FLOOR} or newer; older ones have no safe isolated-vm`,
  };
}

async function checkKernels(): Promise<Check> {
  const { kernelInfo, nativeStatus } = await import('../../native/index.ts');
  const status = nativeStatus();
  if (status.kind !== 'loaded') {
    return { name: 'kernels', state: 'degraded', found: `reference backend: ${status.reason}`, mend: status.mend };
  }
  const info = kernelInfo();
  const features = info?.features.join(' ') ?? '';
  return {
    name: 'kernels',
    state: 'ok',
    found: `native, row ${info?.isa} of ${info?.supported.join(' ')} (cpu: ${features})`,
  };
}

async function checkIsolate(): Promise<Check> {
  return tryGuest('isolate', 'isolate');
}

async function checkProcess(): Promise<Check> {
  return tryGuest('worker', 'process');
}

async function tryGuest(name: string, isolation: 'isolate' | 'process'): Promise<Check> {
  const { openSandbox } = await import('../../sandbox/index.ts');
  const started = performance.now();
  try {
    await using sandbox = await openSandbox({ isolation, warm: 0 });
    const { outcome } = await sandbox.evaluate('String(6 * 7)', { limits: { wallMs: 5000 } });
    const took = `${Math.round(performance.now() - started)} ms to start and answer`;
    return outcome === 'ok'
      ? { name, state: 'ok', found: took }
      : { name, state: 'missing', found: `a trivial guest ended with ${outcome}` };
  } catch (error) {
    const install = isCloisterError(error, 'MISSING_DEPENDENCY') ? error.detail['install'] : undefined;
    return {
      name,
      state: 'missing',
      found: error instanceof Error ? error.message : String(error),
      ...(typeof install === 'string' ? { mend: install } : {}),
    };
  }
}

async function checkStore(): Promise<Check> {
  const { mkdtemp, rm } = await import('node:fs/promises');
  const { tmpdir } = await import('node:os');
  const { openSqliteStore } = await import('../store/index.ts');
  const folder = await mkdtemp(join(tmpdir(), 'cloister-doctor-'));
  try {
    await using store = await openSqliteStore({ path: join(folder, 'store.sqlite') });
    await store.transaction(async tx => void (await tx.append('doctor', new Uint8Array(1))));
    return { name: 'store', state: 'ok', found: 'SQLite' };
  } catch (error) {
    const install = isCloisterError(error, 'MISSING_DEPENDENCY') ? error.detail['install'] : undefined;
    return {
      name: 'store',
      state: 'missing',
      found: error instanceof Error ? error.message : String(error),
      ...(typeof install === 'string' ? { mend: install } : {}),
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Never more than a remark: plans are made anew where there are none. */
function checkPlans(dir: string): Check {
  const { plansDir } = paths(dir);
  const { plans, bytes } = measurePlanFiles(plansDir);
  const found = `${plans} kept in ${plansDir}, ${Math.ceil(bytes / 1024)} of at most ${PLAN_FILES_BYTES / 1024} KiB`;
  return { name: 'plans', state: 'ok', found };
}

/** The layers of the sandbox, in words. */
const WALLS = {
  isolate: 'isolate',
  process: 'process',
  wallWatch: 'watch on time',
  cpuWatch: 'watch on processor time',
  memoryWatch: 'watch on memory',
  noNewPrivileges: 'privileges',
  filesystem: 'file system',
  systemCalls: 'system calls',
  network: 'network',
  namespaces: 'namespaces',
  resourceLimits: 'resource limits',
  parentDeath: 'death with the supervisor',
  noDump: 'sight by its user',
  memoryCap: 'memory cap',
  taskCap: 'task cap',
  cpuShare: 'processor share',
} as const satisfies Record<keyof Capabilities['layers'], string>;

/** The walls around a worker, as the sandbox reports them. */
async function checkWalls(): Promise<readonly Check[]> {
  const { openSandbox } = await import('../../sandbox/index.ts');
  try {
    await using sandbox = await openSandbox({ isolation: 'process', warm: 0 });
    return Object.entries(sandbox.capabilities().layers).map(([name, layer]) =>
      checkWall(WALLS[name as keyof typeof WALLS], layer),
    );
  } catch {
    return []; // the worker check above already says why
  }
}

function checkWall(wall: string, layer: Layer): Check {
  const name = `wall: ${wall}`;
  if (layer.status === 'active') return { name, state: 'ok', found: `active${layer.how ? `: ${layer.how}` : ''}` };
  if (layer.status === 'not requested')
    return { name, state: 'ok', found: `${layer.status}: costs some microseconds a call` };
  return { name, state: 'degraded', found: `unavailable: ${layer.why}`, mend: layer.mend };
}
