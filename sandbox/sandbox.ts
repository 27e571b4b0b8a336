/**
 * The sandbox: one way to load and run a model, whatever walls are around it.
 * @module
 */
import { CloisterError } from '../src/base/index.ts';
import * as z from '../src/base/zod.ts';
import type { PlanStore } from '../src/engine/index.ts';
import { type Confinement, chooseConfinement, probeConfinement } from './confinement/confinement.ts';
import { copyOfModel, takeModel } from './given-model.ts';
import { type Capabilities, LAYERS, type LayerName, requireLayers } from './layers.ts';
import { type KvStore, type LentInput, memoryKv, parseLent } from './lending/index.ts';
import { entriesOf, keepChanges } from './lending/keep.ts';
import { type Limits, type LimitsInput, limitsSchema, parseLimits } from './limits.ts';
import { listLayers } from './list-layers.ts';
import { PlanNotes } from './plan-notes.ts';
import type { AdmittedPlugin } from './plugins/registry.ts';
import { type PlugOptions, WorkingPlugin } from './plugins/working-plugin.ts';
import { isSafeName } from './untrusted.ts';
import type { Evaluation, Isolation, ReloadOptions, SandboxedModel, Walls } from './walls.ts';

/** Characters of a script. */
const MAX_SOURCE = 16 * 1_048_576;
/** Characters of the name of an owner, and of a seed. */
const MAX_NAME = 1_000;

/** Options of {@link openSandbox}: what is left out takes its default. */
export interface SandboxOptions {
  /**
   * `process` (the default): a supervised worker process for each model, with an isolate inside. `isolate`: an isolate in this
   * process, for models you trust: its limits stop careless code, not hostile code. `none`: no walls at all.
   */
  readonly isolation?: Isolation | undefined;
  /** Limits of each guest that is not given its own. */
  readonly limits?: LimitsInput | undefined;
  /** Workers that wait, started, for the next load or evaluation. Each holds about 60 MiB. `process` only. Default 1. */
  readonly warm?: number | undefined;
  /** Layers without which the sandbox does not open: see {@link Capabilities}. Default none. */
  readonly require?: readonly LayerName[] | undefined;
  /**
   * Where plans outlive the process, see `openPlanFiles`: a model that was loaded before is not planned again. Only this process reaches
   * it, never a guest or worker; programs from it are verified like all others. Only what a load is planned to is kept.
   */
  readonly plans?: PlanStore | undefined;
  /** Where the keys and values of the capability `kv` are kept. Default: in the memory of this process, until the sandbox is closed. */
  readonly kv?: KvStore | undefined;
}

/** The schema of {@link SandboxOptions}, with its defaults. Unknown keys are refused. */
export const sandboxSchema: z.ZodType<
  {
    isolation: Isolation;
    limits: Limits;
    warm: number;
    require: LayerName[];
    plans?: PlanStore | undefined;
    kv?: KvStore | undefined;
  },
  SandboxOptions
> = z.strictObject({
  isolation: z.enum(['process', 'isolate', 'none']).default('process'),
  limits: limitsSchema.prefault({}),
  warm: z.int().min(0).max(64).default(1),
  require: z.array(z.enum(LAYERS)).default([]),
  plans: z.custom<PlanStore>(has('get', 'set', 'delete'), 'expected a store of plans: get, set, delete').optional(),
  kv: z.custom<KvStore>(has('read', 'apply'), 'expected a store of keys and values: read, apply').optional(),
});

function has(...methods: readonly string[]): (value: unknown) => boolean {
  return value => {
    const store = value as Readonly<Record<string, unknown>> | null;
    return typeof store === 'object' && methods.every(method => typeof store?.[method] === 'function');
  };
}

/** What {@link Sandbox.load} may be told. */
export interface LoadOptions extends ReloadOptions {
  /** For messages. Default `model`. */
  readonly name?: string;
  /**
   * Whose model it is, and whose inputs it will see. Each loaded model has processes of its own under isolation `process`, and none
   * of them ever serves another tenant or another model, so load a model once for each tenant. Default the empty text.
   */
  readonly tenant?: string;
  /** Over those of the sandbox. */
  readonly limits?: LimitsInput;
  /**
   * Plugins that were admitted, see `PluginRegistry.open`. Operators are evaluated in the model's guest before the model is read, and a
   * model that uses one runs there as a whole, on the reference backend. Processors see its inputs in this order and its outputs in the
   * reverse one, each in a worker of its own. A policy is asked for the backend once. A reload of the model keeps them.
   */
  readonly plugins?: readonly AdmittedPlugin[];
}

/** What {@link Sandbox.evaluate} may be told. */
export interface EvaluationOptions {
  /** Over those of the sandbox. */
  readonly limits?: LimitsInput;
  /**
   * What the script is lent, by name, each with its own limits: `log`, `clock`, `random`, `kv`, `readModel`, `kernels`, `wasm`. It finds
   * them in the global `lent` (`wasm` also as `WebAssembly`). What is not named is not there.
   */
  readonly capabilities?: LentInput;
  /** What `random` gives follows from this text, so that a run can be repeated. Without it, the operating system gives it. */
  readonly seed?: string;
  /** Whose keys and values `kv` reaches: nobody else's. Default the empty name. */
  readonly owner?: string;
  /** What `readModel` reads and the programs of `kernels` take their constants from. Copied before this returns control. */
  readonly model?: Uint8Array;
  readonly signal?: AbortSignal;
}

/** A place where guests run. Holds processes: close it. */
export interface Sandbox extends AsyncDisposable {
  readonly isolation: Isolation;
  readonly limits: Limits;
  /**
   * Parses and prepares a model inside the walls. The bytes are copied before this returns control: what runs, now and after
   * every restart, is what was passed in. So are files beside it, when they are asked for.
   *
   * @throws {CloisterError} `MODEL_TOO_LARGE`, `INVALID_MODEL`, `UNSUPPORTED_MODEL`, `INVALID_GRAPH` about the file;
   *   `LIMIT_EXCEEDED`, `WORKER_CRASHED`, `GUEST_FAILED`, `OUT_OF_MEMORY` about the guest; `MISSING_DEPENDENCY`, `ABORTED`,
   *   `CLOSED`.
   */
  load(model: Uint8Array, options?: LoadOptions): Promise<SandboxedModel>;
  /**
   * Runs `source` as a script inside the walls and says how it ended. The script is lent nothing that `capabilities` does not name: no
   * host function, no clock, no randomness, no input or output but its last value, which is awaited if it is a promise, and turned into
   * text inside. A script that throws, or is stopped, is an outcome and not an exception.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` under isolation `none`, and on options that do not fit; `STORE_FAILED` when the store of
   *   `kv` does; `MODEL_TOO_LARGE`, `MISSING_DEPENDENCY`, `ABORTED`, `CLOSED`.
   * @example
   * ```ts
   * await using sandbox = await openSandbox();
   * const { outcome } = await sandbox.evaluate('for (;;);', { limits: { wallMs: 200 } }); // 'limit:wallMs'
   * ```
   * A script that is lent a log of ten lines.
   * ```ts
   * await using sandbox = await openSandbox();
   * const { messages } = await sandbox.evaluate("lent.log('hello')", { capabilities: { log: { calls: 10 } } });
   * messages; // ['hello']
   * ```
   */
  evaluate(source: string, options?: EvaluationOptions): Promise<Evaluation>;
  /**
   * Opens a plugin that was admitted, in a worker of its own, under the limits and with the capabilities that it was admitted with.
   * Its entry is evaluated, and what it defines is checked. A model takes plugins by the option `plugins` of {@link load}; this is for
   * whoever calls one directly: a processor, a policy, a statistic.
   *
   * @throws {CloisterError} `GUEST_FAILED`, `LIMIT_EXCEEDED`, `WORKER_CRASHED` about the plugin; `POLICY_REFUSED` when it is to be lent
   *   what its kind cannot be lent; `INVALID_ARGUMENT` under isolation `none`; `MISSING_DEPENDENCY`, `CLOSED`.
   * @example
   * ```ts
   * const main = 'define({ before: ({ x }) => ({ x: { ...x, data: x.data.map(v => v / 2) } }) });';
   * const source = { name: 'half', version: '1.0.0', api: '^1.0.0', entry: 'main.js', licence: 'MIT', files: ['main.js'] };
   * const files = new Map([['main.js', new TextEncoder().encode(main)]]);
   * const policy = pluginPolicySchema.parse({ unsigned: true });
   * const registry = openPluginRegistry('./plugins', { policy, record: async () => {} });
   * await registry.install(packPlugin({ ...source, kind: 'processor' }, files));
   * await using sandbox = await openSandbox();
   * await using half = await sandbox.plug(registry.open('half'));
   * const { x } = await half.map('before', { x: Tensor.of('f32', [1, 3]) });
   * x?.toArray(); // [0.5, 1.5]
   * ```
   */
  plug(plugin: AdmittedPlugin, options?: PlugOptions): Promise<WorkingPlugin>;
  /** Which layers of protection are active here, and why others are not. */
  capabilities(): Capabilities;
  /** Resolves when as many workers wait as `warm` asks for. Nobody has to call it; benches do. */
  settled(): Promise<void>;
  /** Ends every worker and closes every model; resolves when nothing of them is left. Harmless twice. */
  close(): Promise<void>;
}

/**
 * Opens a sandbox, and starts its warm workers in the background.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` on options that do not fit {@link sandboxSchema}; `MISSING_DEPENDENCY` when
 *   isolated-vm is not installed; `LAYER_UNAVAILABLE` when a layer that is required is not active here.
 * @example
 * ```ts
 * await using sandbox = await openSandbox({ limits: { wallMs: 2000 } });
 * const model = await sandbox.load(await readFile('digits.onnx'));
 * const { logits } = await model.run({ image: Tensor.zeros('f32', [1, 1, 28, 28]) });
 * logits?.shape; // [1, 10]
 * ```
 */
export async function openSandbox(options: SandboxOptions = {}): Promise<Sandbox> {
  const result = sandboxSchema.safeParse(options);
  if (!result.success) {
    const issues = result.error.issues.map(issue => `${issue.path.join('.') || 'options'}: ${issue.message}`);
    throw new CloisterError('INVALID_ARGUMENT', `the options do not fit their schema: ${issues.join('; ')}`, {
      issues,
    });
  }
  const { isolation, limits, warm, require, plans, kv = memoryKv() } = result.data;
  const confinement = isolation === 'process' ? chooseConfinement(await probeConfinement(), require) : undefined;
  const layers = listLayers(isolation, confinement);
  requireLayers(layers, require);
  const walls = await openWalls(isolation, confinement, warm, plans);
  return new OpenSandbox(layers, parseLimits(limits), walls, kv);
}

/** Each isolation loads only what it needs. */
async function openWalls(
  isolation: Isolation,
  confinement: Confinement | undefined,
  warm: number,
  plans: PlanStore | undefined,
): Promise<Walls> {
  const notes = plans && new PlanNotes(plans);
  if (confinement !== undefined) return (await import('./process-walls.ts')).openProcessWalls(warm, notes, confinement);
  if (isolation === 'isolate') return (await import('./isolate-walls.ts')).openIsolateWalls(notes);
  return (await import('./no-walls.ts')).openNoWalls(plans);
}

/** Checks what comes in, once, before any walls. */
class OpenSandbox implements Sandbox {
  readonly isolation: Isolation;
  readonly limits: Limits;
  readonly #layers: Capabilities;
  readonly #walls: Walls;
  readonly #kv: KvStore;
  #keeping: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(layers: Capabilities, limits: Limits, walls: Walls, kv: KvStore) {
    this.isolation = layers.isolation;
    this.#layers = layers;
    this.limits = limits;
    this.#walls = walls;
    this.#kv = kv;
  }

  async load(model: Uint8Array, options: LoadOptions = {}): Promise<SandboxedModel> {
    this.#assertOpen();
    const { name = 'model', tenant = '', limits, plugins = [], signal } = options;
    const allowed = parseLimits(limits, this.limits);
    if (!isSafeName(tenant)) {
      throw new CloisterError('INVALID_ARGUMENT', 'tenant: expected printable text of at most 1000 characters');
    }
    const given = takeModel(model, options, allowed, {});
    const request = { ...given, name, tenant, limits: allowed, plugins: undefined, signal };
    const opened = await (plugins.length > 0
      ? (await import('./plugins/plugged-model.ts')).loadPlugged(this.#walls, request, plugins)
      : this.#walls.load(request));
    if (!signal?.aborted && !this.#closed) return opened;
    await opened.close();
    this.#assertOpen();
    throw new CloisterError('ABORTED', 'the caller cancelled', {}, { cause: signal?.reason });
  }

  async evaluate(source: string, options: EvaluationOptions = {}): Promise<Evaluation> {
    this.#assertOpen();
    if (typeof source !== 'string' || source.length > MAX_SOURCE) {
      throw new CloisterError('INVALID_ARGUMENT', `evaluate: expected a script of at most ${MAX_SOURCE} characters`);
    }
    const { seed, owner = '', signal } = options;
    for (const [name, text] of Object.entries({ seed: seed ?? '', owner })) {
      if (typeof text !== 'string' || text.length > MAX_NAME) {
        throw new CloisterError('INVALID_ARGUMENT', `${name}: expected text of at most ${MAX_NAME} characters`);
      }
    }
    const limits = parseLimits(options.limits, this.limits);
    const lent = parseLent(options.capabilities);
    const model = options.model === undefined ? new Uint8Array(0) : copyOfModel(options.model, limits);
    const entries = lent.kv === undefined ? new Map<string, string>() : await entriesOf(this.#kv, owner);
    const request = { source, limits, lent, seed, entries, model, signal };
    const { evaluation, changes } = await this.#walls.evaluate(request);
    if (evaluation.outcome !== 'ok' || lent.kv === undefined || changes.size === 0) return evaluation;
    const { kv } = lent;
    // One after the other: each is checked against what the one before left.
    const kept = this.#keeping.then(() => keepChanges(this.#kv, owner, changes, kv));
    this.#keeping = kept.catch(() => {});
    const refused = await kept;
    return refused === undefined ? evaluation : Object.freeze({ ...evaluation, outcome: 'error', value: refused });
  }

  async plug(plugin: AdmittedPlugin, options: PlugOptions = {}): Promise<WorkingPlugin> {
    this.#assertOpen();
    if (!isSafeName(options.tenant ?? '')) {
      throw new CloisterError('INVALID_ARGUMENT', 'tenant: expected printable text of at most 1000 characters');
    }
    const opened = await WorkingPlugin.open(request => this.#walls.plug(request), plugin, options);
    if (!this.#closed) return opened;
    await opened.close();
    throw new CloisterError('CLOSED', 'the sandbox is closed');
  }

  capabilities(): Capabilities {
    return this.#layers;
  }

  settled(): Promise<void> {
    return this.#walls.settled();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#walls.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #assertOpen(): void {
    if (this.#closed) throw new CloisterError('CLOSED', 'the sandbox is closed');
  }
}
