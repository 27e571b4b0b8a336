/**
 * A plugin in a worker process of its own, and in a fresh one when that one was ended.
 * @module
 */
import { CloisterError, canonicalJson, type ErrorCode, isCloisterError, type Json } from '../../src/base/index.ts';
import { Breaker } from '../breaker.ts';
import { Heard } from '../evaluation-frames.ts';
import type { Uses } from '../lending/lending.ts';
import { refuseGuest } from '../untrusted.ts';
import type { PluggedIn, PluginAnswer, PlugRequest } from '../walls.ts';
import type { WorkerPool } from '../worker/pool.ts';
import type { WorkerProcess } from '../worker/process.ts';
import { type PluginDefinition, parseDefinition } from './definition.ts';

/** Bytes of a message around a line. */
const LINE_FRAME_BYTES = 64;

/** What an operator answers to inputs that it does not take. */
const REFUSALS: ReadonlySet<ErrorCode> = new Set([
  'SHAPE_MISMATCH',
  'DTYPE_MISMATCH',
  'INVALID_GRAPH',
  'INVALID_ARGUMENT',
  'UNSUPPORTED_MODEL',
]);

/** A worker that has the plugin, and what it heard of it. */
interface Serving {
  readonly worker: WorkerProcess;
  readonly definition: PluginDefinition;
}

/** A plugin behind the walls of a process. */
export class SupervisedPlugin implements PluggedIn {
  readonly definition: PluginDefinition;
  readonly #pool: WorkerPool;
  readonly #request: PlugRequest;
  readonly #breaker: Breaker;
  #worker: Promise<WorkerProcess>;
  #last: WorkerProcess;
  #heard: Heard;
  #closed = false;

  private constructor(pool: WorkerPool, request: PlugRequest, { worker, definition }: Serving) {
    this.#pool = pool;
    this.#request = request;
    this.#worker = Promise.resolve(worker);
    this.#last = worker;
    this.#heard = new Heard(request.plugin.lent);
    this.definition = definition;
    this.#breaker = new Breaker(`the plugin ${request.plugin.id}`);
  }

  /** @throws {CloisterError} `GUEST_FAILED`, `LIMIT_EXCEEDED`, `WORKER_CRASHED` about the plugin; `MISSING_DEPENDENCY`, `CLOSED`. */
  static async open(pool: WorkerPool, request: PlugRequest): Promise<SupervisedPlugin> {
    return new SupervisedPlugin(pool, request, await serve(pool, request));
  }

  get uses(): Uses {
    return this.#heard.uses;
  }

  get peakMb(): number | undefined {
    return this.#last.usage.peakMb;
  }

  async ask(ask: string, header: object, parts: readonly Uint8Array[]): Promise<PluginAnswer> {
    const { limits, plugin } = this.#request;
    // Whether one record of a statistic is answered must not depend on those before.
    const probe = plugin.kind !== 'statistic' && this.#breaker.enter();
    try {
      while (true) {
        const worker = await this.#alive();
        if (!worker.isAlive) continue; // ended by another call meanwhile
        try {
          const full = { op: 'call', ask, ...header, outputBytes: limits.outputBytes };
          const answer = await request(worker, full, parts, this.#request);
          this.#heard.uses = answer.header['uses'];
          this.#breaker.succeeded();
          return answer;
        } catch (error) {
          // The worker was ended under another call, before it came to this one.
          if (isCloisterError(error, 'WORKER_CRASHED') && error.detail['waiting'] === true) continue;
          if (isCloisterError(error) && !REFUSALS.has(error.code)) {
            worker.kill(error); // whatever state the plugin is in, it goes with its worker
            this.#breaker.failed(error);
          }
          throw error;
        }
      }
    } finally {
      this.#breaker.leave(probe);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#worker.then(worker => worker.close()).catch(() => {});
  }

  /** The worker that has the plugin; a fresh one if the last was ended. Concurrent callers wait for the same. */
  async #alive(): Promise<WorkerProcess> {
    const before = this.#worker;
    const worker = await before.catch(() => undefined);
    if (this.#closed) throw new CloisterError('CLOSED', `the plugin ${this.#request.plugin.id} is closed`);
    if (worker?.isAlive) return worker;
    if (this.#worker === before) {
      this.#worker = this.#again();
      this.#worker.catch(() => {});
    }
    return await this.#worker;
  }

  async #again(): Promise<WorkerProcess> {
    const { worker, definition } = await serve(this.#pool, this.#request).catch((error: unknown) => {
      // It was opened before from the same bytes, so this may pass; but not at once, and not at the cost of the host.
      if (isCloisterError(error) && error.code !== 'CLOSED') this.#breaker.failedToLoad(error);
      throw error;
    });
    // What was checked of the first worker's plugin is not checked again.
    if (this.#closed || spelt(definition) !== spelt(this.definition)) {
      await worker.close();
      if (this.#closed) throw new CloisterError('CLOSED', `the plugin ${this.#request.plugin.id} is closed`);
      throw refuseGuest('definition', 'what it defined before', definition);
    }
    this.#heard = new Heard(this.#request.plugin.lent);
    this.#last = worker;
    return worker;
  }
}

/** A fresh worker that has the plugin. */
async function serve(pool: WorkerPool, plugRequest: PlugRequest): Promise<Serving> {
  const { plugin, limits } = plugRequest;
  const worker = pool.take(JSON.stringify(['plugin', plugRequest.tenant, plugin.digest]));
  try {
    await worker.greeted();
    const { payload, ...described } = plugin;
    const header = { op: 'plugin', memoryMb: limits.memoryMb, ...described };
    const answer = await request(worker, header, [payload], plugRequest);
    return { worker, definition: parseDefinition(plugin.kind, answer.header['definition']) };
  } catch (error) {
    await worker.close();
    throw error;
  } finally {
    pool.refill();
  }
}

function request(
  worker: WorkerProcess,
  header: object,
  parts: readonly Uint8Array[],
  { plugin, limits, onLine }: PlugRequest,
): Promise<PluginAnswer> {
  if (plugin.lent.log === undefined) return worker.request(header, parts, limits);
  const heard = new Heard(plugin.lent);
  const messageBytes = limits.messageBytes + limits.messages * LINE_FRAME_BYTES;
  return worker.request(header, parts, { ...limits, messageBytes }, message => {
    heard.take(message);
    for (const line of heard.lines.splice(0)) onLine(line);
  });
}

function spelt(definition: PluginDefinition): string {
  return canonicalJson(definition as unknown as Json);
}
