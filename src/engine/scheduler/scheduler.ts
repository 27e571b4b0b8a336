/**
 * The scheduler of requests: bounded queues in front of executables, and the rule by which one of those that wait is started.
 *
 * A pick looks at the classes in order of urgency, except that one that had no turn for `ageingMs` comes first; within a class at the
 * oldest request of each tenant, in fair order. The first for which there are threads and bytes free starts, and those
 * that may run with it as one batch start with it. Nothing here waits for anything but the executables: every arrival, every end of a
 * run and every timer picks anew.
 * @module
 */
import { CloisterError, systemTimers, type Timers } from '../../base/index.ts';
import type { Executable, NamedTensors } from '../backend.ts';
import { agree, joinRows, rowsOf, splitRows } from './batching.ts';
import { Durations, estimateBytes } from './estimates.ts';
import { FairQueue, type Waiting } from './fair-queue.ts';
import {
  COST,
  checkRequest,
  PRIORITY_CLASSES,
  type PriorityClass,
  parseOptions,
  type RequestOptions,
  type SchedulerOptions,
  type SchedulerOptionsInput,
  type ServeOptions,
  type ServeOptionsInput,
  schedulerOptionsSchema,
  serveOptionsSchema,
} from './options.ts';
import { ClassCounts, type Ending, perClass, type SchedulerStatistics } from './statistics.ts';

/** What a scheduler runs: an {@link Executable}, or something that runs as one does. */
export type Runnable = Pick<Executable, 'run'> & Partial<Pick<Executable, 'memory'>>;

/** An executable as it was served. */
interface Model {
  readonly runnable: Runnable;
  readonly options: ServeOptions;
  readonly id: number;
  readonly durations: Durations;
  /** Whether its requests may be joined: until a batch gave outputs without rows, or others than its requests alone. */
  joins: boolean;
  /** How many batches are still to be checked. */
  checks: number;
  runs: number;
  /** Requests that have not ended, and runs. */
  open: number;
  closing: PromiseWithResolvers<void> | undefined;
}

interface Request extends Waiting {
  readonly model: Model;
  /** A record of the scheduler's own: what the caller does with theirs while the request waits does not matter. */
  readonly inputs: NamedTensors;
  readonly priority: PriorityClass;
  readonly needBytes: number;
  readonly arrivedAt: number;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (outputs: NamedTensors) => void;
  readonly reject: (error: unknown) => void;
  /** Takes its listener and its timer away. */
  release: () => void;
  state: 'waiting' | 'running' | 'ended';
  run: Run | undefined;
  /** Since when it was its turn and it did not fit. */
  blockedAt: number | undefined;
  /** Why it is to end once its run has let go of its inputs. */
  leaving: { readonly ending: Ending; readonly error: CloisterError } | undefined;
}

interface Run {
  readonly requests: readonly Request[];
  readonly model: Model;
  readonly rows: number;
  readonly threads: number;
  readonly bytes: number;
  /** Whose own inputs the executable reads now; undefined while it reads a joined copy. */
  reading: Request | undefined;
  controller: AbortController | undefined;
}

/** An executable behind a scheduler. */
export interface ServedExecutable extends AsyncDisposable {
  /**
   * Computes every output of the graph when its turn comes. Inputs are read until the promise has settled, and never kept; outputs are
   * new tensors that the caller owns, and share memory with no other request's.
   *
   * When the request is cancelled or its time is over, the promise rejects as soon as nothing reads its inputs any more: at once while
   * it waits or is part of a batch, else when the run has ended, and its slot is free no earlier than that.
   *
   * @throws {CloisterError} `OVERLOADED` when the queue of its class is full, also later if a tenant with less waiting needs the place;
   *   `DEADLINE_EXCEEDED` when `timeoutMs` is over, or shorter than the fastest of the last runs; `OUT_OF_MEMORY` when it needs more
   *   than the limit of all together; `ABORTED`; `CLOSED`; `INVALID_ARGUMENT`; what the executable throws.
   */
  run(inputs: NamedTensors, options?: RequestOptions): Promise<NamedTensors>;
  /**
   * Refuses new requests and those that wait (`CLOSED`); resolves when none of them runs any more. The executable itself stays as it
   * is: it is the caller's. Harmless twice.
   */
  close(): Promise<void>;
}

/**
 * Opens a scheduler: bounded queues, fair shares, deadlines and batches in front of executables.
 *
 * Nothing is measured or started here, and no thread is made: work begins and ends on the calling thread, as the executables say.
 *
 * @param options - As {@link SchedulerOptionsInput}; `timers` is where time comes from.
 * @throws {CloisterError} `INVALID_ARGUMENT` on options that do not fit their schema.
 * @example
 * Two requests of one model run as one batch.
 * ```ts
 * const b = new GraphBuilder('double');
 * const x = b.input('x', { dtype: 'f32', shape: ['N', 2] });
 * b.output(b.node({ op: 'Add', inputs: [x, x], outputs: ['y'] })[0]!);
 * const executable = referenceBackend.prepare(b.build(), { constants: bytesSource(new Uint8Array()) });
 *
 * await using scheduler = openScheduler({ limitBytes: 64 * 2 ** 20, weights: { 'ward-3': 2 } });
 * const model = scheduler.serve(executable, { batch: { maxBatch: 8, maxDelayMs: 2 } });
 * const urgent = { tenant: 'ward-3', priority: 'interactive', timeoutMs: 5_000 } as const;
 * const [first, second] = await Promise.all([
 *   model.run({ x: Tensor.of('f32', [[1, 2]]) }, urgent),
 *   model.run({ x: Tensor.of('f32', [[3, 4]]) }, urgent),
 * ]);
 * first['y']?.toArray(); // [[2, 4]]
 * second['y']?.toArray(); // [[6, 8]]
 * scheduler.statistics().batches; // { count: 1, requests: 2, … }
 * ```
 */
export function openScheduler(options: SchedulerOptionsInput & { readonly timers?: Timers } = {}): Scheduler {
  const { timers = systemTimers, ...rest } = options;
  return new Scheduler(parseOptions(schedulerOptionsSchema, 'scheduler', rest), timers);
}

/** An open scheduler. Close it, or hold it with `await using`. */
export class Scheduler implements AsyncDisposable {
  readonly options: SchedulerOptions;
  readonly #timers: Timers;
  readonly #queues: Readonly<Record<PriorityClass, FairQueue<Request>>>;
  /** When each class last had a turn, or began to wait for one. */
  readonly #turnAt: Record<PriorityClass, number> = perClass(() => 0);
  readonly #runs = new Set<Run>();
  /** A request that nothing may overtake any more. */
  #holder: Request | undefined;
  #wake: { readonly at: number; readonly cancel: () => void } | undefined;
  #picking = false;
  #pickAgain = false;
  #state: 'open' | 'draining' | 'closed' = 'open';
  #idle: PromiseWithResolvers<void> | undefined;
  #arrivals = 0;
  #models = 0;
  readonly #runDurations = new Durations();
  readonly #requestDurations = new Durations();
  readonly #counts: Readonly<Record<PriorityClass, ClassCounts>> = perClass(() => new ClassCounts());
  readonly #running = { requests: 0, threads: 0, bytes: 0, threadsPeak: 0, bytesPeak: 0 };
  readonly #batches = { count: 0, requests: 0, rows: 0, retried: 0 };

  /** @internal Call {@link openScheduler}. */
  constructor(options: SchedulerOptions, timers: Timers) {
    this.options = options;
    this.#timers = timers;
    const weights = new Map(Object.entries(options.weights));
    this.#queues = perClass(priority => new FairQueue(options.capacity[priority], tenant => weights.get(tenant) ?? 1));
  }

  /**
   * Puts `runnable` behind the queues of this scheduler. The same one may be served several times, with other options.
   *
   * Joining requests is right only where a row of the outputs depends on the same row of the inputs and on no other, and where every
   * input and output has one row each along its first dimension; that is for the caller to know. What is noticed, on the requests that
   * come and not on all that might: outputs without one row each, and, for the first batches (`checks`), outputs that are not those of
   * the request alone. Then requests run one by one from there on.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` on options that do not fit their schema, or more threads than the scheduler may use;
   *   `CLOSED`.
   */
  serve(runnable: Runnable, options: ServeOptionsInput = {}): ServedExecutable {
    this.#assertOpen();
    const parsed = parseOptions(serveOptionsSchema, 'serve', options);
    const { limitThreads } = this.options;
    if (typeof runnable?.run !== 'function')
      throw new CloisterError('INVALID_ARGUMENT', `serve: expected an executable, got ${typeof runnable}`);
    if (parsed.threads > limitThreads) {
      const message = `serve: ${parsed.name} uses ${parsed.threads} threads, and the scheduler has ${limitThreads}`;
      throw new CloisterError('INVALID_ARGUMENT', message, { threads: parsed.threads, limitThreads });
    }
    const model: Model = {
      ...{ runnable, options: parsed, id: this.#models++, durations: new Durations() },
      ...{ joins: true, checks: parsed.batch?.checks ?? 0, runs: 0, open: 0, closing: undefined },
    };
    const close = (): Promise<void> => this.#closeModel(model);
    return Object.freeze({
      run: (inputs: NamedTensors, request: RequestOptions = {}) => {
        try {
          return this.#submit(model, inputs, request);
        } catch (error) {
          return Promise.reject(error);
        }
      },
      close,
      [Symbol.asyncDispose]: close,
    });
  }

  /** What was counted until now. */
  statistics(): SchedulerStatistics {
    return {
      classes: perClass(priority => this.#counts[priority].snapshot(this.#queues[priority].size)),
      running: { ...this.#running },
      batches: { ...this.#batches },
    };
  }

  /** Refuses new requests (`CLOSED`), and resolves when those that were accepted have ended. Harmless twice. */
  drain(): Promise<void> {
    if (this.#state === 'open') this.#state = 'draining';
    this.#pick(); // nobody waits for others to join any more
    return this.#whenIdle();
  }

  /** Refuses new requests and those that wait (`CLOSED`), and resolves when those that run have ended. Harmless twice. */
  close(): Promise<void> {
    this.#state = 'closed';
    const waiting = PRIORITY_CLASSES.flatMap(priority => this.#queues[priority].all());
    for (const request of waiting) this.#drop(request, 'closed', closed());
    this.#pick(); // calls the timer off
    return this.#whenIdle();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #whenIdle(): Promise<void> {
    this.#idle ??= Promise.withResolvers();
    this.#noticeIdle();
    return this.#idle.promise;
  }

  #noticeIdle(): void {
    if (this.#idle && this.#runs.size === 0 && PRIORITY_CLASSES.every(priority => this.#queues[priority].size === 0))
      this.#idle.resolve();
  }

  #closeModel(model: Model): Promise<void> {
    model.closing ??= Promise.withResolvers();
    for (const priority of PRIORITY_CLASSES)
      for (const request of this.#queues[priority].all())
        if (request.model === model) this.#drop(request, 'closed', closed(model.options.name));
    if (model.open === 0) model.closing.resolve();
    this.#pick();
    return model.closing.promise;
  }

  #assertOpen(): void {
    if (this.#state !== 'open') throw closed();
  }

  // Arrival

  #submit(model: Model, inputs: NamedTensors, options: RequestOptions): Promise<NamedTensors> {
    const { tenant, priority, timeoutMs } = checkRequest(options);
    if (typeof inputs !== 'object' || inputs === null)
      throw new CloisterError('INVALID_ARGUMENT', `inputs: expected tensors by name, got ${typeof inputs}`);
    const own = { ...inputs };
    const needBytes = options.needBytes ?? model.options.needBytes ?? estimateBytes(model.runnable.memory, own);
    const now = this.#timers.now();
    const refusal = this.#refusal({ model, needBytes, timeoutMs, signal: options.signal, now });
    if (refusal) {
      this.#counts[priority].refuse(refusal.code);
      throw refusal;
    }
    const { batch } = model.options;
    const joinable = batch && rowsOf(own); // also where they are joined no longer: their cost counts rows
    const rows = joinable?.rows ?? 1;
    const group =
      joinable && model.joins && rows < batch.maxBatch
        ? `${model.id} ${joinable.form}${batch.tenants === 'apart' ? ` ${tenant}` : ''}`
        : undefined;
    const cost = options.cost ?? model.options.cost ?? clampCost((model.durations.meanMs ?? 1) * rows);
    const { promise, resolve, reject } = Promise.withResolvers<NamedTensors>();
    const request: Request = {
      ...{ tenant, priority, cost, group, rows, lane: model.id, order: this.#arrivals++ },
      ...{ model, inputs: own, needBytes, arrivedAt: now, timeoutMs, signal: options.signal, resolve, reject },
      ...{ release: () => {}, state: 'waiting', run: undefined, blockedAt: undefined, leaving: undefined },
    };
    this.#enqueue(request, now);
    this.#pick();
    return promise;
  }

  /** Why there is no use in queueing a request; undefined where there is. */
  #refusal(asked: {
    readonly model: Model;
    readonly needBytes: number;
    readonly timeoutMs: number;
    readonly signal: AbortSignal | undefined;
    readonly now: number;
  }): CloisterError | undefined {
    const { model, needBytes, timeoutMs, signal, now } = asked;
    const { limitBytes } = this.options;
    if (this.#state !== 'open') return closed();
    if (model.closing) return closed(model.options.name);
    if (signal?.aborted) return aborted(signal);
    if (needBytes > limitBytes) {
      const message = `${model.options.name}: the request needs ${needBytes} bytes, and all requests together may need ${limitBytes}`;
      return new CloisterError('OUT_OF_MEMORY', message, { needBytes, limitBytes });
    }
    const fastestMs = model.durations.fastestMs(now);
    if (timeoutMs < fastestMs) {
      const message = `${model.options.name}: timeoutMs is ${timeoutMs}, and the fastest of the last runs took ${fastestMs}`;
      return new CloisterError('DEADLINE_EXCEEDED', message, { timeoutMs, fastestMs });
    }
    return undefined;
  }

  /** @throws {CloisterError} `OVERLOADED`. */
  #enqueue(request: Request, now: number): void {
    const { priority, signal, timeoutMs } = request;
    const queue = this.#queues[priority];
    const counts = this.#counts[priority];
    if (queue.size === 0) this.#turnAt[priority] = now;
    const displaced = queue.add(request);
    if (displaced === request) {
      counts.refuse('OVERLOADED');
      throw this.#overloaded(priority);
    }
    counts.accepted++;
    counts.waitingPeak = Math.max(counts.waitingPeak, queue.size);
    request.model.open++;
    if (displaced) this.#end(displaced, 'displaced', () => displaced.reject(this.#overloaded(priority)));
    const onAbort = signal && ((): void => this.#leave(request, 'aborted', aborted(signal)));
    if (onAbort) signal.addEventListener('abort', onAbort, { once: true });
    const cancelTimer = Number.isFinite(timeoutMs)
      ? this.#timers.after(timeoutMs, () => this.#leave(request, 'expired', expired(request)))
      : undefined;
    request.release = () => {
      cancelTimer?.();
      if (onAbort) signal.removeEventListener('abort', onAbort);
    };
  }

  #overloaded(priority: PriorityClass): CloisterError {
    const waiting = this.#queues[priority].size;
    const meanMs = this.#requestDurations.meanMs;
    const retryAfterMs = meanMs && Math.ceil((meanMs * waiting) / Math.max(1, this.#runs.size));
    const message = `the queue ${priority} is full: ${waiting} requests wait`;
    const detail = { priority, waiting, ...(retryAfterMs !== undefined && { retryAfterMs }) };
    return new CloisterError('OVERLOADED', message, detail);
  }

  // Start

  /** Starts whatever can start now. */
  #pick(): void {
    if (this.#picking) {
      this.#pickAgain = true; // called from within an executable
      return;
    }
    this.#picking = true;
    try {
      do {
        this.#pickAgain = false;
        for (let next = this.#next(); next; next = this.#next()) this.#start(next);
      } while (this.#pickAgain);
    } finally {
      this.#picking = false;
    }
    this.#noticeIdle();
  }

  /** The request to be started now, if any; sets the timer for those that wait for others to join them. */
  #next(): Request | undefined {
    const now = this.#timers.now();
    if (this.#running.threads >= this.options.limitThreads) return this.#wakeAt(Number.POSITIVE_INFINITY);
    if (this.#holder?.state !== 'waiting') this.#holder = undefined;
    if (this.#holder) return this.#fits(this.#holder) ? this.#holder : this.#wakeAt(Number.POSITIVE_INFINITY);
    let wakeAt = Number.POSITIVE_INFINITY;
    let blocked = false;
    for (const priority of this.#byUrgency()) {
      for (const request of this.#queues[priority].heads()) {
        if (request.model.runs >= request.model.options.limitRuns) continue;
        const readyAt = this.#readyAt(request);
        if (readyAt > now) {
          wakeAt = Math.min(wakeAt, readyAt);
          continue;
        }
        if (this.#fits(request)) return request;
        if (blocked) continue;
        blocked = true;
        request.blockedAt ??= now;
        if (now - request.blockedAt >= this.options.overtakeMs) {
          this.#holder = request;
          return this.#wakeAt(Number.POSITIVE_INFINITY);
        }
      }
    }
    return this.#wakeAt(wakeAt);
  }

  /**
   * Classes with something waiting, in the order of their turns: each is due `ageingMs` after its last one, the most urgent at once.
   * A class that is over its time comes before all that had a turn since, so at most one turn of each other class is before it.
   */
  #byUrgency(): readonly PriorityClass[] {
    const waiting = PRIORITY_CLASSES.filter(priority => this.#queues[priority].size > 0);
    if (waiting.length < 2) return waiting;
    const { standard, batch } = this.options.ageingMs;
    // Where runs are longer than that, a class less urgent still does not get every other one.
    const runMs = this.#runDurations.meanMs ?? 0;
    const ageing = { interactive: 0, standard: Math.max(standard, 4 * runMs), batch: Math.max(batch, 16 * runMs) };
    const dueAt = (priority: PriorityClass): number => this.#turnAt[priority] + ageing[priority];
    return waiting.sort((a, b) => dueAt(a) - dueAt(b)); // stable: together in order of urgency
  }

  #fits({ needBytes, model }: Request): boolean {
    const { limitBytes, limitThreads } = this.options;
    const { bytes, threads } = this.#running;
    return bytes + needBytes <= limitBytes && threads + model.options.threads <= limitThreads;
  }

  /** From when on `request` waits for nobody to join it. */
  #readyAt(request: Request): number {
    const { group, model, arrivedAt, timeoutMs, priority } = request;
    const { batch } = model.options;
    if (group === undefined || !batch || this.#state !== 'open') return arrivedAt;
    if (this.#queues[priority].groupRows(request) >= batch.maxBatch) return arrivedAt;
    // Half of its time at most: the other half is for the run.
    return arrivedAt + Math.min(batch.maxDelayMs, timeoutMs / 2);
  }

  #wakeAt(at: number): undefined {
    if (this.#wake?.at === at) return;
    this.#wake?.cancel();
    this.#wake = undefined;
    if (at === Number.POSITIVE_INFINITY) return;
    const cancel = this.#timers.after(Math.max(0, at - this.#timers.now()), () => {
      this.#wake = undefined;
      this.#pick();
    });
    this.#wake = { at, cancel };
  }

  #start(head: Request): void {
    const now = this.#timers.now();
    const { model, priority, timeoutMs, arrivedAt } = head;
    const leftMs = arrivedAt + timeoutMs - now;
    if (leftMs <= 0 || leftMs < model.durations.fastestMs(now)) {
      this.#drop(head, 'expired', expired(head));
      return;
    }
    const queue = this.#queues[priority];
    queue.take(head);
    this.#turnAt[priority] = now;
    const maxBatch = (model.joins && model.options.batch?.maxBatch) || 1; // those that wait may have come before that was known
    const requests = [head];
    let { rows, needBytes: bytes } = head;
    const fits = (request: Request): boolean =>
      rows + request.rows <= maxBatch && this.#running.bytes + bytes + request.needBytes <= this.options.limitBytes;
    for (let next = queue.takeCompanion(head, fits); next; next = queue.takeCompanion(head, fits)) {
      requests.push(next);
      rows += next.rows;
      bytes += next.needBytes;
    }
    const { threads } = model.options;
    this.#begin({ requests, model, rows, threads, bytes, reading: undefined, controller: undefined }, now);
  }

  #begin(run: Run, now: number): void {
    const { requests, model, threads, bytes, rows } = run;
    this.#runs.add(run);
    model.runs++;
    model.open++;
    const running = this.#running;
    running.threads += threads;
    running.bytes += bytes;
    running.requests += requests.length;
    running.threadsPeak = Math.max(running.threadsPeak, running.threads);
    running.bytesPeak = Math.max(running.bytesPeak, running.bytes);
    for (const request of requests) {
      request.state = 'running';
      request.run = run;
      this.#counts[request.priority].waited(now - request.arrivedAt);
    }
    if (requests.length > 1) {
      this.#batches.count++;
      this.#batches.requests += requests.length;
      this.#batches.rows += rows;
    }
    void this.#execute(run);
  }

  // Run

  /** Runs the requests of `run`, ends each of them, and gives back what the run holds. Never rejects. */
  async #execute(run: Run): Promise<void> {
    const { requests, model, threads, bytes } = run;
    if (requests.length === 1) await this.#runAlone(run, requests[0]!);
    else {
      const parts = await this.#runJoined(run);
      if (parts && model.joins && model.checks === 0) {
        for (const [i, request] of requests.entries())
          if (request.state !== 'ended') this.#end(request, 'completed', () => request.resolve(parts[i]!));
      } else await this.#runEach(run, parts);
    }
    this.#runs.delete(run);
    model.runs--;
    this.#running.threads -= threads;
    this.#running.bytes -= bytes;
    this.#closeOne(model);
    this.#pick();
  }

  /**
   * Runs the requests of a batch that failed, or that is to be checked, one by one. What one of them did wrong is not for the others to
   * bear, nor to hear of; and nobody gets outputs of a batch before it is known that they depend on nobody else's inputs.
   */
  async #runEach(run: Run, parts: readonly NamedTensors[] | undefined): Promise<void> {
    const { requests, model } = run;
    if (!parts) this.#batches.retried++;
    for (const [i, request] of requests.entries()) {
      if (request.state === 'ended') continue;
      const alone = await this.#runAlone(run, request);
      if (alone && parts && !agree(alone, parts[i]!)) model.joins = false;
    }
    if (parts && model.joins) model.checks = Math.max(0, model.checks - 1);
  }

  /** Runs one request, and ends it. Returns its outputs, where there are any. */
  async #runAlone(run: Run, request: Request): Promise<NamedTensors | undefined> {
    const { model } = run;
    const { inputs, signal, timeoutMs } = request;
    run.reading = request;
    run.controller = signal || Number.isFinite(timeoutMs) ? new AbortController() : undefined;
    const startedAt = this.#timers.now();
    let outcome: { readonly outputs: NamedTensors } | { readonly error: unknown };
    try {
      const outputs = await model.runnable.run(inputs, run.controller ? { signal: run.controller.signal } : {});
      this.#observe(model, { startedAt, requests: 1, rows: request.rows });
      outcome = { outputs };
    } catch (error) {
      outcome = { error };
    }
    run.reading = undefined;
    const { leaving } = request;
    if (leaving) this.#end(request, leaving.ending, () => request.reject(leaving.error));
    else if ('outputs' in outcome) this.#end(request, 'completed', () => request.resolve(outcome.outputs));
    else this.#end(request, 'failed', () => request.reject(outcome.error));
    return 'outputs' in outcome ? outcome.outputs : undefined;
  }

  /** Runs the requests of `run` as one, and returns the outputs of each; undefined where that failed. */
  async #runJoined(run: Run): Promise<NamedTensors[] | undefined> {
    const { requests, model, rows } = run;
    const mayLeave = requests.every(({ signal, timeoutMs }) => signal || Number.isFinite(timeoutMs));
    run.controller = mayLeave ? new AbortController() : undefined;
    const startedAt = this.#timers.now();
    let outputs: NamedTensors;
    try {
      const inputs = joinRows(requests.map(request => request.inputs));
      outputs = await model.runnable.run(inputs, run.controller ? { signal: run.controller.signal } : {});
    } catch {
      return undefined;
    }
    this.#observe(model, { startedAt, requests: requests.length, rows });
    try {
      return splitRows(
        outputs,
        requests.map(request => request.rows),
      );
    } catch {
      model.joins = false; // it would be so again
      return undefined;
    }
  }

  #observe(model: Model, run: { readonly startedAt: number; readonly requests: number; readonly rows: number }): void {
    const now = this.#timers.now();
    const durationMs = now - run.startedAt;
    model.durations.observe(durationMs, run.rows, now);
    this.#runDurations.observe(durationMs, 1, now);
    this.#requestDurations.observe(durationMs, run.requests, now);
  }

  // End

  /** Ends a request before its outputs are there, or as soon as its run has let go of its inputs. */
  #leave(request: Request, ending: Ending, error: CloisterError): void {
    if (request.state === 'waiting') {
      this.#drop(request, ending, error);
      this.#pick();
      return;
    }
    const { run, state } = request;
    if (state === 'ended' || !run || request.leaving) return;
    if (run.reading === request) {
      request.leaving = { ending, error };
      run.controller?.abort(error);
      return;
    }
    this.#end(request, ending, () => request.reject(error));
    if (!run.reading && run.requests.every(other => other.state === 'ended')) run.controller?.abort(error);
  }

  /** Ends a request that waits. */
  #drop(request: Request, ending: Ending, error: CloisterError): void {
    this.#queues[request.priority].remove(request);
    this.#end(request, ending, () => request.reject(error));
  }

  #end(request: Request, ending: Ending, settle: () => void): void {
    if (request.state === 'running') this.#running.requests--;
    request.state = 'ended';
    request.release();
    this.#counts[request.priority].ended[ending]++;
    settle();
    this.#closeOne(request.model);
  }

  #closeOne(model: Model): void {
    model.open--;
    if (model.open === 0) model.closing?.resolve();
  }
}

function clampCost(cost: number): number {
  return Math.min(COST.max, Math.max(COST.min, cost));
}

function closed(name?: string): CloisterError {
  return new CloisterError('CLOSED', name === undefined ? 'the scheduler is closed' : `${name} is served no longer`);
}

function aborted(signal: AbortSignal): CloisterError {
  return new CloisterError('ABORTED', 'the request was cancelled', {}, { cause: signal.reason });
}

function expired({ model, timeoutMs }: Request): CloisterError {
  const message = `${model.options.name}: the request was not answered within ${timeoutMs} milliseconds`;
  return new CloisterError('DEADLINE_EXCEEDED', message, { timeoutMs });
}
