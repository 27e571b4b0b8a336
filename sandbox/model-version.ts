/**
 * One version of a supervised model: its worker, the fresh one when that dies, and what is refused meanwhile.
 * @module
 */
import { CloisterError, decodeUtf8, isCloisterError } from '../src/base/index.ts';
import type { NamedTensors, Profile } from '../src/engine/index.ts';
import { abortable, delay } from './abortable.ts';
import { assertOutputs, bindInputs } from './binding.ts';
import { Breaker } from './breaker.ts';
import { digestModel, type FixedDims } from './model-files.ts';
import { backoffMs, type Loaded, type Loading, loadInWorker } from './model-loading.ts';
import { profileInPieces } from './profiling.ts';
import { MAX_ENDED_WORKERS, Quarantine } from './quarantine.ts';
import { MAX_SHOWN_BYTES, parseShown, type ShownForm } from './shown.ts';
import { type PackedTensors, packTensors, unpackTensors } from './tensors.ts';
import { type ModelReport, type Optimisation, parseOptimisation, parseProfile, refuseGuest } from './untrusted.ts';
import type { ModelHealth, ProfileRunOptions, RunOptions } from './walls.ts';
import type { WorkerProcess } from './worker/process.ts';

/** What is asked of a worker, and by whom. */
interface Ask<T> extends RunOptions {
  readonly inputs?: PackedTensors;
  /** Asks one worker, and reads its answer. */
  readonly of: (worker: WorkerProcess) => Promise<T>;
}

/** A model as it was loaded, in a worker of its own. */
export class ModelVersion {
  readonly digest: string;
  readonly dims: FixedDims;
  readonly #loading: Loading;
  readonly #breaker: Breaker;
  readonly #quarantine = new Quarantine();
  #report: ModelReport;
  #worker: Promise<WorkerProcess>;
  #restarts = 0;
  /** Calls that are not over, and who waits for that. */
  #calls = 0;
  #idle: (() => void) | undefined;
  #closed = false;

  private constructor(loading: Loading, { worker, report, files }: Loaded) {
    this.#loading = { ...loading, files, external: undefined };
    this.#breaker = new Breaker(`the model ${JSON.stringify(loading.name)}`);
    this.dims = loading.dims;
    this.digest = digestModel(files);
    this.#worker = Promise.resolve(worker);
    this.#report = report;
  }

  /** @throws {CloisterError} as {@link loadInWorker}. */
  static async open(loading: Loading, signal?: AbortSignal): Promise<ModelVersion> {
    return new ModelVersion(loading, await loadInWorker(loading, signal));
  }

  get report(): ModelReport {
    return this.#report;
  }

  health(): ModelHealth {
    return Object.freeze({
      breaker: Object.freeze(this.#breaker.state),
      quarantined: this.#quarantine.size,
      restarts: this.#restarts,
    });
  }

  async run(inputs: NamedTensors, options: RunOptions): Promise<NamedTensors> {
    const { summary } = this.#report;
    const dims = bindInputs(summary.inputs, inputs);
    const packed = packTensors(inputs);
    const { limits } = this.#loading;
    const header = { op: 'run', tensors: packed.heads, outputBytes: limits.outputBytes };
    return await this.#serve({
      ...options,
      inputs: packed,
      of: async worker => {
        const answer = await abortable(worker.request(header, packed.parts, limits), options.signal);
        const outputs = unpackTensors(answer.header['tensors'], answer.payload);
        assertOutputs(summary.outputs, outputs, dims);
        return outputs;
      },
    });
  }

  async show(form: ShownForm): Promise<string> {
    const { limits } = this.#loading;
    return await this.#serve({
      of: async worker => {
        const { payload } = await worker.request({ op: 'show', form, outputBytes: limits.outputBytes }, [], limits);
        return parseShown(payload, form, Math.min(limits.outputBytes, MAX_SHOWN_BYTES));
      },
    });
  }

  async profile(inputs: NamedTensors, options: ProfileRunOptions): Promise<Profile> {
    bindInputs(this.#report.summary.inputs, inputs);
    const packed = packTensors(inputs);
    const { limits } = this.#loading;
    const { outputBytes, wallMs } = limits;
    // What a fresh worker measures first is not measured, even in the middle.
    let last: WorkerProcess | undefined;
    const request = (runs: number): Promise<Profile> =>
      this.#serve({
        inputs: packed,
        ...(options.signal && { signal: options.signal }),
        of: async worker => {
          const header = { op: 'profile', tensors: packed.heads, runs, warm: worker === last, wallMs, outputBytes };
          const { payload } = await abortable(worker.request(header, packed.parts, limits), options.signal);
          last = worker;
          return parseProfile(parseJson(payload), runs);
        },
      });
    return await profileInPieces(request, options);
  }

  async passes(): Promise<Optimisation> {
    const { limits } = this.#loading;
    return await this.#serve({
      of: async worker => parseOptimisation((await worker.request({ op: 'passes' }, [], limits)).header),
    });
  }

  /** Closes when every call that has begun is over. */
  async retire(): Promise<void> {
    if (this.#calls > 0) await new Promise<void>(resolve => (this.#idle = resolve));
    await this.close();
  }

  /** Ends the worker; calls that are not over fail with `CLOSED`. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#worker.then(worker => worker.close()).catch(() => {});
  }

  /**
   * Asks a worker, and another one where the first was ended before it came to this request, or crashed on it for the first time.
   * A worker that answered in another form is ended. What was let in once is not refused for what happens to others meanwhile, but
   * waits for `wallMs` at most, where something that is independent of others waits as long as it takes.
   */
  async #serve<T>(ask: Ask<T>): Promise<T> {
    const { wallMs } = this.#loading.limits;
    let waitsUntil = ask.independent ? Number.POSITIVE_INFINITY : 0;
    this.#calls++;
    try {
      for (let crashes = 0; ; ) {
        if (this.#closed) throw closed(this.#loading.name);
        const probe = await this.#enter(waitsUntil, ask.signal);
        waitsUntil ||= performance.now() + wallMs;
        const outcome = await this.#attempt(ask, waitsUntil).finally(() => this.#breaker.leave(probe));
        if ('answer' in outcome) return outcome.answer;
        const { error, waiting } = outcome;
        if (waiting) continue;
        const again = error.code === 'WORKER_CRASHED' && ask.inputs && !this.#quarantine.holds(ask.inputs);
        if (!again || ++crashes >= MAX_ENDED_WORKERS) throw error;
      }
    } finally {
      this.#calls--;
      if (this.#calls === 0) this.#idle?.();
    }
  }

  /** One attempt: an answer, or how the worker ended. Throws where no worker was ended, and where another would not help. */
  async #attempt<T>(
    { inputs, independent, signal, of }: Ask<T>,
    waitsUntil: number,
  ): Promise<{ answer: T } | { error: CloisterError; waiting: boolean }> {
    if (inputs && !independent) this.#quarantine.assertFree(inputs);
    let worker: WorkerProcess;
    try {
      worker = await abortable(this.#alive(), signal);
    } catch (error) {
      const passing = isCloisterError(error, 'WORKER_CRASHED') || isCloisterError(error, 'LIMIT_EXCEEDED');
      if (passing && performance.now() < waitsUntil) return { error, waiting: true };
      throw error;
    }
    try {
      const answer = await of(worker);
      this.#breaker.succeeded();
      if (inputs) this.#quarantine.answered(inputs);
      return { answer };
    } catch (error) {
      if (!isCloisterError(error)) throw error;
      if (error.code === 'WORKER_CRASHED' && error.detail['waiting'] === true) return { error, waiting: true };
      if (error.code !== 'WORKER_CRASHED' && !isFinal(error)) throw error;
      worker.kill(error);
      this.#breaker.failed(error);
      if (inputs) this.#quarantine.ended(inputs);
      return { error, waiting: false };
    }
  }

  /** Lets a request in; one that may wait, when its time has come. */
  async #enter(waitsUntil: number, signal: AbortSignal | undefined): Promise<boolean> {
    while (true) {
      try {
        return this.#breaker.enter();
      } catch (error) {
        const retryAfterMs = isCloisterError(error, 'GUEST_REFUSED') ? Number(error.detail['retryAfterMs']) : Infinity;
        if (performance.now() + retryAfterMs >= waitsUntil) throw error;
        await abortable(delay(retryAfterMs), signal);
        if (this.#closed) throw closed(this.#loading.name);
      }
    }
  }

  /** The worker that has the model; a fresh one if the last died. Concurrent callers wait for the same. */
  async #alive(): Promise<WorkerProcess> {
    const before = this.#worker;
    const worker = await before.catch(() => undefined);
    if (this.#closed) throw closed(this.#loading.name);
    if (worker?.isAlive) return worker;
    if (this.#worker === before) {
      this.#worker = this.#restart();
      this.#worker.catch(() => {});
    }
    return this.#worker;
  }

  async #restart(): Promise<WorkerProcess> {
    const { kind, failures } = this.#breaker.state;
    // The first is replaced at once; one that is tried after a refusal has waited already.
    if (kind === 'closed' && failures > 1) await delay(backoffMs(failures - 1));
    try {
      const { worker, report } = await loadInWorker(this.#loading);
      if (this.#closed) {
        await worker.close();
        throw closed(this.#loading.name);
      }
      this.#report = report;
      this.#restarts++;
      return worker;
    } catch (error) {
      // It was loaded before from the same bytes, so this may pass; but not at once, and not at the cost of the host.
      if (isCloisterError(error) && error.code !== 'CLOSED') this.#breaker.failedToLoad(error);
      throw error;
    }
  }
}

/** Whether the worker is of no further use: its guest passed a limit of the isolate, or does not speak our forms any more. */
function isFinal(error: CloisterError): boolean {
  return error.code === 'GUEST_FAILED' || (error.code === 'LIMIT_EXCEEDED' && error.detail['limit'] !== 'outputBytes');
}

function closed(name: string): CloisterError {
  return new CloisterError('CLOSED', `the model ${name} is closed`);
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(decodeUtf8(bytes));
  } catch {
    throw refuseGuest('profile', 'JSON', 'something else');
  }
}
