/**
 * The supervisor: models that have a worker process of their own, a fresh one when that one dies, and another version when they are
 * told so; and scripts, each in a process of its own.
 * @module
 */
import { CloisterError } from '../src/base/index.ts';
import type { NamedTensors, Profile } from '../src/engine/index.ts';
import { abortable } from './abortable.ts';
import { encodeRequest, Heard, parseAnswer, requestLimits } from './evaluation-frames.ts';
import { assertUnaborted, type GivenModel, takeModel } from './given-model.ts';
import type { KvChanges } from './lending/kv-store.ts';
import type { Limits } from './limits.ts';
import { aloneModel, digestModel, type FixedDims, type OpenExternal } from './model-files.ts';
import type { Loading } from './model-loading.ts';
import { ModelVersion } from './model-version.ts';
import { outcomeOf } from './outcome.ts';
import type { PlanNotes } from './plan-notes.ts';
import type { ModelPlugins } from './plugins/sent.ts';
import type { ShownForm } from './shown.ts';
import type { ModelReport, Optimisation } from './untrusted.ts';
import type {
  Evaluated,
  EvaluateRequest,
  Evaluation,
  ModelHealth,
  ProfileRunOptions,
  ReloadOptions,
  RunOptions,
  SandboxedModel,
} from './walls.ts';
import type { WorkerPool } from './worker/pool.ts';

/** What a supervised model is made of. */
export interface SupervisedOptions {
  readonly pool: WorkerPool;
  /** Owned by the model from now on: what a worker is sent, now and after each of its deaths. */
  readonly bytes: Uint8Array;
  readonly name: string;
  readonly limits: Limits;
  /** Whose model it is. */
  readonly tenant?: string;
  readonly dims?: FixedDims;
  /** Opens files beside the model, while it is opened for the first time. */
  readonly external?: OpenExternal | undefined;
  readonly plans?: PlanNotes | undefined;
  readonly plugins?: ModelPlugins | undefined;
}

/** What every version of a model is given. */
type Common = Pick<Loading, 'pool' | 'name' | 'limits' | 'plans' | 'plugins'>;

/** Scripts so far: each is a trust domain of its own. */
let scripts = 0;

/** A model in a worker process of its own. */
export class SupervisedModel implements SandboxedModel {
  readonly name: string;
  readonly tenant: string;
  /** What every version of it is given. */
  readonly #common: Common;
  #version: ModelVersion;
  /** Versions that still answer what was asked of them before they were replaced. */
  readonly #retiring = new Set<ModelVersion>();
  #reloading: Promise<unknown> = Promise.resolve();
  #closed = false;

  private constructor(common: Common, tenant: string, version: ModelVersion) {
    this.#common = common;
    this.name = common.name;
    this.tenant = tenant;
    this.#version = version;
  }

  /**
   * Loads the model in a fresh worker.
   *
   * @throws {CloisterError} what the guest found wrong with the model; `LIMIT_EXCEEDED`; `WORKER_CRASHED` when it ended several
   *   workers; `ABORTED`.
   */
  static async open(options: SupervisedOptions, signal?: AbortSignal): Promise<SupervisedModel> {
    const { bytes, dims = {}, external, plans, plugins, pool, name, limits, tenant = '' } = options;
    const common = { pool, name, limits, plans, plugins };
    return new SupervisedModel(common, tenant, await openVersion(common, tenant, { bytes, dims, external }, signal));
  }

  get digest(): string {
    return this.#version.digest;
  }

  get dims(): FixedDims {
    return this.#version.dims;
  }

  get summary(): ModelReport['summary'] {
    return this.#version.report.summary;
  }

  get backend(): ModelReport['backend'] {
    return this.#version.report.backend;
  }

  get why(): string {
    return this.#version.report.why;
  }

  get memory(): ModelReport['memory'] {
    return this.#version.report.memory;
  }

  health(): ModelHealth {
    return this.#version.health();
  }

  async run(inputs: NamedTensors, options: RunOptions = {}): Promise<NamedTensors> {
    return await this.#open().run(inputs, options);
  }

  async show(form: ShownForm): Promise<string> {
    return await this.#open().show(form);
  }

  async profile(inputs: NamedTensors, options: ProfileRunOptions = {}): Promise<Profile> {
    return await this.#open().profile(inputs, options);
  }

  async passes(): Promise<Optimisation> {
    return await this.#open().passes();
  }

  async reload(model: Uint8Array, options: ReloadOptions = {}): Promise<void> {
    this.#open();
    const given = takeModel(model, options, this.#common.limits, this.dims);
    const { signal } = options;
    // One after the other: the last that was asked for is the one that serves.
    const turn = this.#reloading.then(async () => {
      this.#open();
      const fresh = await openVersion(this.#common, this.tenant, given, signal);
      if (this.#closed || signal?.aborted) {
        await fresh.close();
        this.#open();
        assertUnaborted(signal);
      }
      const old = this.#version;
      this.#version = fresh;
      this.#retiring.add(old);
      void old.retire().finally(() => this.#retiring.delete(old));
    });
    this.#reloading = turn.catch(() => {});
    await turn;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await Promise.all([this.#version, ...this.#retiring].map(version => version.close()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #open(): ModelVersion {
    if (this.#closed) throw new CloisterError('CLOSED', `the model ${this.name} is closed`);
    return this.#version;
  }
}

function openVersion(
  common: Common,
  tenant: string,
  { bytes, dims, external }: GivenModel,
  signal: AbortSignal | undefined,
): Promise<ModelVersion> {
  const files = aloneModel(bytes);
  const domain = JSON.stringify([tenant, digestModel(files), common.plugins?.plugins.map(({ digest }) => digest)]);
  return ModelVersion.open({ ...common, domain, files, dims, external }, signal);
}

/** Runs a script in a worker of its own, which is ended afterwards whatever happened. */
export async function evaluateInWorker(pool: WorkerPool, request: EvaluateRequest): Promise<Evaluated> {
  const { limits, lent, signal } = request;
  const worker = pool.take(`script ${++scripts}`);
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
    const asked = worker.request(header, parts, requestLimits(request), onMessage);
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
  const { uses } = heard;
  const messages = Object.freeze(heard.lines);
  const wallMs = performance.now() - start;
  return { evaluation: Object.freeze({ outcome, value, messages, uses, wallMs, cpuMs, peakMb }), changes };
}
