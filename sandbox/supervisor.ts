/**
 * The supervisor: keeps workers warm, gives each model one of its own, and a fresh one when that one dies.
 * @module
 */
import { CloisterError, decodeUtf8, isCloisterError } from '../src/base/index.ts';
import type { KernelInfo, NamedTensors, Profile } from '../src/engine/index.ts';
import { assertOutputs, bindInputs } from './binding.ts';
import { encodeRequest, Heard, parseAnswer, requestLimits } from './evaluation-frames.ts';
import type { KvChanges } from './lending/kv-store.ts';
import type { Limits } from './limits.ts';
import {
  addFiles,
  aloneModel,
  describeFiles,
  digestModel,
  type FixedDims,
  type ModelFiles,
  type OpenExternal,
} from './model-files.ts';
import { outcomeOf } from './outcome.ts';
import { MAX_PLAN_BYTES, type PlanNotes, parseKernel } from './plan-notes.ts';
import { profileInPieces } from './profiling.ts';
import { MAX_SHOWN_BYTES, parseShown, type ShownForm } from './shown.ts';
import { packTensors, unpackTensors } from './tensors.ts';
import {
  type ModelReport,
  type Optimisation,
  parseOptimisation,
  parseProfile,
  parseReport,
  refuseGuest,
} from './untrusted.ts';
import type { Evaluated, EvaluateRequest, Evaluation, ProfileRunOptions, SandboxedModel } from './walls.ts';
import { type WorkerAnswer, type WorkerCommand, WorkerProcess } from './worker/process.ts';

/** How many workers a model may end while it is being loaded, in a row, before it is refused. */
const MAX_LOAD_ATTEMPTS = 3;
/** How many workers may die in a row before they were asked anything: that is not the model's doing. */
const MAX_START_ATTEMPTS = 8;
const BACKOFF_MS = 50;
const MAX_BACKOFF_MS = 2_000;
const REFILL_MS = 100;
/** How long a model that could not be loaded again is refused, at first and at most. */
const REFUSAL_MS = 500;
const MAX_REFUSAL_MS = 30_000;

/** Workers that were started before anybody needs one. They do not keep the caller's event loop alive. */
export class WorkerPool {
  readonly #size: number;
  readonly #command: WorkerCommand | undefined;
  readonly #warm: WorkerProcess[] = [];
  readonly #taken = new Set<WorkerProcess>();
  #refilling: NodeJS.Timeout | undefined;
  #closed = false;

  /** @param size - How many workers wait; 0 starts each when it is asked for. */
  constructor(size: number, command?: WorkerCommand) {
    this.#size = size;
    this.#command = command;
    this.#fill();
  }

  /** A worker that nobody else has. It may still be starting; one that died while it waited is passed over. */
  take(): WorkerProcess {
    if (this.#closed) throw new CloisterError('CLOSED', 'the sandbox is closed');
    let worker = this.#warm.shift();
    while (worker !== undefined && !worker.isAlive) worker = this.#warm.shift();
    worker ??= this.#spawn();
    const taken = worker;
    this.#taken.add(taken);
    void taken.exited.then(() => this.#taken.delete(taken));
    return taken;
  }

  /** Starts what is missing, a little later: a newcomer is not to compete for the processor with the run that comes next. */
  refill(): void {
    this.#refilling ??= setTimeout(() => this.#fill(), REFILL_MS).unref();
  }

  /** Starts what is missing, and resolves when every waiting worker has greeted or died. */
  async settled(): Promise<void> {
    this.#fill();
    await Promise.allSettled(this.#warm.map(worker => worker.greeted()));
  }

  /** Ends all workers, taken ones too, and waits until nothing of them is left. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#refilling);
    const all = [...this.#warm.splice(0), ...this.#taken];
    await Promise.all(all.map(worker => worker.close()));
  }

  #fill(): void {
    clearTimeout(this.#refilling);
    this.#refilling = undefined;
    while (!this.#closed && this.#warm.length < this.#size) this.#warm.push(this.#spawn());
  }

  #spawn(): WorkerProcess {
    return this.#command === undefined ? new WorkerProcess() : new WorkerProcess(this.#command);
  }
}

/** What a supervised model is made of. */
export interface SupervisedOptions {
  readonly pool: WorkerPool;
  /** Owned by the model from now on: what a worker is sent, now and after each of its deaths. */
  readonly bytes: Uint8Array;
  readonly name: string;
  readonly limits: Limits;
  readonly dims?: FixedDims;
  /** Opens files beside the model, while it is opened for the first time. */
  readonly external?: OpenExternal | undefined;
  readonly plans?: PlanNotes | undefined;
}

/** What a fresh worker is given. */
interface Loading {
  readonly files: ModelFiles;
  readonly dims: FixedDims;
  readonly external: OpenExternal | undefined;
  readonly plans: PlanNotes | undefined;
  readonly pool: WorkerPool;
  readonly name: string;
  readonly limits: Limits;
}

/** A model that a worker has. */
interface Loaded {
  readonly worker: WorkerProcess;
  readonly report: ModelReport;
  readonly files: ModelFiles;
}

/** A model in a worker process of its own. */
export class SupervisedModel implements SandboxedModel {
  readonly name: string;
  readonly digest: string;
  readonly dims: FixedDims;
  readonly #options: Loading;
  #report: ModelReport;
  #worker: Promise<WorkerProcess>;
  /** Workers that died one after the other without having answered a run. */
  #failures = 0;
  /** Why the model could not be loaded again, and until when nobody tries. */
  #refused: { readonly error: CloisterError; readonly until: number } | undefined;
  #closed = false;

  private constructor(options: Loading, { worker, report, files }: Loaded) {
    this.#options = { ...options, files, external: undefined };
    this.name = options.name;
    this.dims = options.dims;
    this.digest = digestModel(files);
    this.#worker = Promise.resolve(worker);
    this.#report = report;
  }

  /**
   * Loads the model in a fresh worker.
   *
   * @throws {CloisterError} what the guest found wrong with the model; `LIMIT_EXCEEDED`; `WORKER_CRASHED` when it ended
   *   {@link MAX_LOAD_ATTEMPTS} workers; `ABORTED`.
   */
  static async open(options: SupervisedOptions, signal?: AbortSignal): Promise<SupervisedModel> {
    const { bytes, dims = {}, external, plans, pool, name, limits } = options;
    const loading: Loading = { files: aloneModel(bytes), dims, external, plans, pool, name, limits };
    return new SupervisedModel(loading, await loadInWorker(loading, signal));
  }

  get summary(): ModelReport['summary'] {
    return this.#report.summary;
  }

  get backend(): ModelReport['backend'] {
    return this.#report.backend;
  }

  get why(): string {
    return this.#report.why;
  }

  get memory(): ModelReport['memory'] {
    return this.#report.memory;
  }

  async run(inputs: NamedTensors, { signal }: { readonly signal?: AbortSignal } = {}): Promise<NamedTensors> {
    if (this.#closed) throw new CloisterError('CLOSED', `the model ${this.name} is closed`);
    const dims = bindInputs(this.summary.inputs, inputs);
    const { heads, parts } = packTensors(inputs);
    const { limits } = this.#options;
    const worker = await abortable(this.#alive(), signal);
    try {
      const request = worker.request({ op: 'run', tensors: heads, outputBytes: limits.outputBytes }, parts, limits);
      const { header, payload } = await abortable(request, signal);
      const outputs = unpackTensors(header['tensors'], payload);
      assertOutputs(this.summary.outputs, outputs, dims);
      this.#failures = 0;
      return outputs;
    } catch (error) {
      if (isCloisterError(error) && isFinal(error)) worker.kill(error);
      throw error;
    }
  }

  async show(form: ShownForm): Promise<string> {
    const { limits } = this.#options;
    const { payload } = await this.#ask({ op: 'show', form, outputBytes: limits.outputBytes }, []);
    return this.#judged(() => parseShown(payload, form, Math.min(limits.outputBytes, MAX_SHOWN_BYTES)));
  }

  async profile(inputs: NamedTensors, options: ProfileRunOptions = {}): Promise<Profile> {
    bindInputs(this.summary.inputs, inputs);
    const { heads, parts } = packTensors(inputs);
    const { outputBytes, wallMs } = this.#options.limits;
    // What a fresh worker measures first is not measured, even in the middle.
    let last: WorkerProcess | undefined;
    return await profileInPieces(async runs => {
      const worker = await abortable(this.#alive(), options.signal);
      const header = { op: 'profile', tensors: heads, runs, warm: worker === last, wallMs, outputBytes };
      const { payload } = await this.#ask(header, parts, worker, options.signal);
      last = worker;
      return this.#judged(() => parseProfile(parseJson(payload), runs));
    }, options);
  }

  async passes(): Promise<Optimisation> {
    const { header } = await this.#ask({ op: 'passes' }, []);
    return this.#judged(() => parseOptimisation(header));
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#worker.then(worker => worker.close()).catch(() => {});
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** One request to the worker that has the model. A worker that answers in another form is ended. */
  async #ask(
    header: object,
    parts: readonly Uint8Array[],
    chosen?: WorkerProcess,
    signal?: AbortSignal,
  ): Promise<WorkerAnswer> {
    if (this.#closed) throw new CloisterError('CLOSED', `the model ${this.name} is closed`);
    const worker = chosen ?? (await this.#alive());
    try {
      return await abortable(worker.request(header, parts, this.#options.limits), signal);
    } catch (error) {
      if (isCloisterError(error) && isFinal(error)) worker.kill(error);
      throw error;
    }
  }

  /** What `parse` makes of an answer; the worker that gave one which does not parse is ended. */
  async #judged<T>(parse: () => T): Promise<T> {
    try {
      return parse();
    } catch (error) {
      if (isCloisterError(error) && isFinal(error)) (await this.#worker.catch(() => undefined))?.kill(error);
      throw error;
    }
  }

  /** The worker that has the model; a fresh one if the last died. Concurrent callers wait for the same. */
  async #alive(): Promise<WorkerProcess> {
    if (this.#refused !== undefined && performance.now() < this.#refused.until) throw this.#refused.error;
    const before = this.#worker;
    const worker = await before.catch(() => undefined);
    if (this.#closed) throw new CloisterError('CLOSED', `the model ${this.name} is closed`);
    if (worker?.isAlive) return worker;
    if (this.#worker === before) {
      this.#worker = this.#reload();
      this.#worker.catch(() => {});
    }
    return this.#worker;
  }

  async #reload(): Promise<WorkerProcess> {
    if (this.#failures > 0) await delay(backoff(this.#failures));
    this.#failures++;
    try {
      const { worker, report } = await loadInWorker(this.#options);
      if (this.#closed) {
        await worker.close();
        throw new CloisterError('CLOSED', `the model ${this.name} is closed`);
      }
      this.#report = report;
      this.#refused = undefined;
      return worker;
    } catch (error) {
      // It was loaded before from the same bytes, so this may pass; but not at once, and not at the cost of the host.
      const until = performance.now() + Math.min(MAX_REFUSAL_MS, REFUSAL_MS * 2 ** this.#failures);
      if (error instanceof CloisterError && error.code !== 'CLOSED') this.#refused = { error, until };
      throw error;
    }
  }
}

/** Runs a script in a worker of its own, which is ended afterwards whatever happened. */
export async function evaluateInWorker(pool: WorkerPool, request: EvaluateRequest): Promise<Evaluated> {
  const { limits, lent, signal } = request;
  const worker = pool.take();
  const heard = new Heard(lent);
  let start = performance.now();
  let outcome: Evaluation['outcome'];
  let value: string | undefined;
  let changes: KvChanges = new Map();
  try {
    await abortable(worker.greeted(), signal);
    start = performance.now();
    const { header, parts } = encodeRequest(request);
    const onMessage = Object.keys(lent).length > 0 ? (message: unknown) => heard.take(message) : undefined;
    const asked = worker.request(header, parts, requestLimits(limits, lent), onMessage);
    const answer = await abortable(asked, signal);
    ({ outcome, value, changes } = parseAnswer(answer.header, answer.payload, limits.outputBytes));
    heard.uses = answer.header['uses'];
  } catch (error) {
    if (!(error instanceof CloisterError) || error.code === 'ABORTED' || error.code === 'MISSING_DEPENDENCY')
      throw error;
    outcome = outcomeOf(error);
    value = error.message;
  } finally {
    await worker.close();
    pool.refill();
  }
  const { cpuMs, peakMb } = worker.usage;
  const { lines: messages, uses } = heard;
  const wallMs = performance.now() - start;
  return { evaluation: Object.freeze({ outcome, value, messages, uses, wallMs, cpuMs, peakMb }), changes };
}

/** Whether the worker is of no further use: its guest passed a limit of the isolate, or does not speak our forms any more. */
function isFinal(error: CloisterError): boolean {
  return error.code === 'GUEST_FAILED' || (error.code === 'LIMIT_EXCEEDED' && error.detail['limit'] !== 'outputBytes');
}

async function loadInWorker(loading: Loading, signal?: AbortSignal): Promise<Loaded> {
  const { pool, name } = loading;
  let starts = 0;
  let loads = 0;
  while (true) {
    const worker = pool.take();
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
      await delay(backoff(attempts));
    } finally {
      pool.refill();
    }
  }
}

/** Loads a model in one worker, with the files that it turns out to need, and with the plan of an earlier load if one is kept. */
async function loadInto(
  worker: WorkerProcess,
  loading: Loading,
  kernel: KernelInfo | undefined,
  signal: AbortSignal | undefined,
): Promise<Loaded> {
  const { files, dims, external, plans, limits } = loading;
  const of = plans && kernel && { digest: digestModel(files), dims, kernel };
  const plan = of && plans?.get(of);
  const header = {
    op: 'load',
    memoryMb: limits.memoryMb,
    ...describeFiles(files),
    dims,
    planBytes: plan?.length ?? 0,
    keepBytes: of ? Math.min(MAX_PLAN_BYTES, limits.outputBytes) : 0,
  };
  const answer = await abortable(worker.request(header, plan ? [files.bytes, plan] : [files.bytes], limits), signal);
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

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(decodeUtf8(bytes));
  } catch {
    throw refuseGuest('profile', 'JSON', 'something else');
  }
}

/** Stops waiting when the signal is aborted; what is under way goes on, under its limits, and its answer is dropped. */
async function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  const aborted = Promise.withResolvers<never>();
  const abort = (): void =>
    aborted.reject(new CloisterError('ABORTED', 'the caller cancelled', {}, { cause: signal.reason }));
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', abort);
    work.catch(() => {});
    aborted.promise.catch(() => {});
  }
}

function backoff(failures: number): number {
  return Math.min(MAX_BACKOFF_MS, BACKOFF_MS * 2 ** (failures - 1));
}

function delay(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms));
}
