/**
 * Loading a model in a fresh worker.
 * @module
 */
import { CloisterError, isCloisterError } from '../src/base/index.ts';
import type { KernelInfo } from '../src/engine/index.ts';
import { abortable, delay } from './abortable.ts';
import type { Limits } from './limits.ts';
import {
  addFiles,
  describeFiles,
  digestModel,
  type FixedDims,
  type ModelFiles,
  type OpenExternal,
} from './model-files.ts';
import { MAX_PLAN_BYTES, type PlanNotes, parseKernel } from './plan-notes.ts';
import type { ModelPlugins } from './plugins/sent.ts';
import { type ModelReport, parseReport, refuseGuest } from './untrusted.ts';
import type { WorkerPool } from './worker/pool.ts';
import type { WorkerProcess } from './worker/process.ts';

/** How many workers a model may end while it is being loaded, in a row, before it is refused. */
const MAX_LOAD_ATTEMPTS = 3;
/** How many workers may die in a row before they were asked anything: that is not the model's doing. */
const MAX_START_ATTEMPTS = 8;
const BACKOFF_MS = 50;
const MAX_BACKOFF_MS = 2_000;

/** What a fresh worker is given. */
export interface Loading {
  readonly pool: WorkerPool;
  /** Whose worker it is: no other is ever given to it. */
  readonly domain: string;
  readonly name: string;
  readonly limits: Limits;
  readonly files: ModelFiles;
  readonly dims: FixedDims;
  /** Opens files beside the model, when it is loaded for the first time. */
  readonly external: OpenExternal | undefined;
  readonly plans: PlanNotes | undefined;
  readonly plugins: ModelPlugins | undefined;
}

/** A model that a worker has. */
export interface Loaded {
  readonly worker: WorkerProcess;
  readonly report: ModelReport;
  readonly files: ModelFiles;
}

/**
 * Loads the model in a worker that has nothing else.
 *
 * @throws {CloisterError} what the guest found wrong with the model; `LIMIT_EXCEEDED`; `WORKER_CRASHED` when it ended
 *   {@link MAX_LOAD_ATTEMPTS} workers; `ABORTED`; `CLOSED`.
 */
export async function loadInWorker(loading: Loading, signal?: AbortSignal): Promise<Loaded> {
  const { pool, name } = loading;
  let starts = 0;
  let loads = 0;
  while (true) {
    const worker = pool.take(loading.domain);
    try {
      const { kernel } = await abortable(worker.greeted(), signal);
      return await loadInto(worker, loading, parseKernel(kernel), signal);
    } catch (error) {
      const attempts = worker.hasGreeted ? ++loads : ++starts;
      await worker.close();
      if (!isCloisterError(error, 'WORKER_CRASHED')) throw error;
      if (loads >= MAX_LOAD_ATTEMPTS) {
        const message = `the model ${JSON.stringify(name)} ended ${loads} workers while it was loaded; it is refused`;
        throw new CloisterError('WORKER_CRASHED', message, { ...error.detail, attempts: loads }, { cause: error });
      }
      if (starts >= MAX_START_ATTEMPTS) throw error;
      await delay(backoffMs(attempts));
    } finally {
      pool.refill();
    }
  }
}

/** How long to wait after so many failures in a row before the next attempt. */
export function backoffMs(failures: number): number {
  return failures === 0 ? 0 : Math.min(MAX_BACKOFF_MS, BACKOFF_MS * 2 ** (failures - 1));
}

/** Loads a model in one worker, with the files that it turns out to need, and with the plan of an earlier load if one is kept. */
async function loadInto(
  worker: WorkerProcess,
  loading: Loading,
  kernel: KernelInfo | undefined,
  signal: AbortSignal | undefined,
): Promise<Loaded> {
  const { files, dims, external, limits, plugins } = loading;
  const plans = plugins === undefined ? loading.plans : undefined; // a plan says nothing of what plugins change
  const of = plans && kernel && { digest: digestModel(files), dims, kernel };
  const plan = of && plans?.get(of);
  const header = {
    op: 'load',
    memoryMb: limits.memoryMb,
    ...describeFiles(files),
    dims,
    planBytes: plan?.length ?? 0,
    keepBytes: of ? Math.min(MAX_PLAN_BYTES, limits.outputBytes) : 0,
    plugins: plugins?.plugins.map(({ payload, ...described }) => ({ ...described, bytes: payload.length })) ?? [],
    interpret: plugins?.interpret,
  };
  const parts = [files.bytes, ...(plan ? [plan] : []), ...(plugins?.plugins.map(({ payload }) => payload) ?? [])];
  const answer = await abortable(worker.request(header, parts, limits), signal);
  if (answer.header['external'] !== undefined) {
    const opening = addFiles(files, answer.header['external'], external, limits.modelBytes);
    return loadInto(worker, { ...loading, files: await abortable(opening, signal) }, kernel, signal);
  }
  const report = parseReport(answer.header['report']);
  if (report.summary.bytes !== files.modelBytes)
    throw refuseGuest('summary.bytes', `${files.modelBytes}`, report.summary.bytes);
  if (of) plans?.set(of, answer.payload);
  return { worker, report, files };
}
