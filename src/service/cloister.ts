/**
 * The service: one directory with its ledger and audit log, one policy, and the models that run under it.
 * @module
 */
import { basename } from 'node:path';
import type { Ledger, ScopeState } from '../../privacy/budget/index.ts';
import type { AuditEvent, AuditLog, ErasedBy, PersonalData, Receipt } from '../../sandbox/audit/index.ts';
import type {
  FixedDims,
  OpenExternal,
  PluginRegistry,
  RegistryOptions,
  Sandbox,
  SandboxedModel,
} from '../../sandbox/index.ts';
import { activeLayers } from '../../sandbox/layers.ts';
import { type Clock, CloisterError, isCloisterError, systemClock } from '../base/index.ts';
import type {
  PriorityClass,
  Scheduler,
  SchedulerOptionsInput,
  SchedulerStatistics,
  ServedExecutable,
  ServeOptionsInput,
} from '../engine/scheduler/index.ts';
import type { PostgresOptions } from '../store/index.ts';
import { paths, readAnchor, writeAnchor } from './directory.ts';
import type { InputValues } from './inputs.ts';
import type { LedgerStore } from './ledger-store.ts';
import {
  abandon,
  assertUnclosed,
  compute,
  type Decoded,
  decodeProfile,
  decodeRelease,
  decodeRun,
  digestOf,
  eventOf,
  type LoadedPlugin,
  type Origin,
  type PipelineContext,
  type ProfileReply,
  plan,
  type Recorded,
  type ReleaseReply,
  type ReleaseRequest,
  type Reserved,
  type RunReply,
  record,
  release,
  reply,
  reserve,
} from './pipeline.ts';
import { openPlanFiles } from './plan-files.ts';
import { type Policy, type PolicyInput, parsePolicy, policyText } from './policy.ts';

/** What {@link openCloister} is told. */
export interface CloisterOptions {
  /** Directory of the ledger, the audit log and its key; made (mode 0700) when it does not exist. */
  readonly dir: string;
  /** What requests may do. Without one: models run in a worker process, no raw outputs leave, and there is no budget. */
  readonly policy?: PolicyInput;
  /** Where times in ledger and log come from. */
  readonly clock?: Clock;
  /**
   * Puts a scheduler in front of the runs of all models: classes, deadlines, limits, and shares by actor. Default: each model runs what
   * it is given, one after the other. Releases and profiles do not go through it.
   */
  readonly scheduling?: SchedulerOptionsInput;
  /**
   * Keeps the ledger in a PostgreSQL database, where cloisters on several machines can share one budget; each has a directory of its own
   * for its log. The URL may also come from the environment, `CLOISTER_STORE_URL`. Default: a file in the directory.
   */
  readonly store?: PostgresOptions;
}

/** Who asks, and why: recorded as given, so no personal data here. */
export interface Caller {
  /** A service account, a ward, a tenant: 1 to 256 characters. */
  readonly actor: string;
  readonly purpose: string;
  /** Trace id of the request, for the log: 32 hexadecimal digits, as in the `traceparent` of W3C Trace Context. */
  readonly trace?: string;
  readonly signal?: AbortSignal;
}

/** What {@link Model.run} may be told. */
export interface RunCaller extends Caller {
  /**
   * The person whom the run is about, and what else shall be known of them: kept beside the log, encrypted under a key of theirs; the
   * record has salted commitments. See {@link Cloister.eraseSubject}.
   */
  readonly personal?: PersonalData;
  /** How urgent it is. Only with the option `scheduling`; default `standard`. */
  readonly priority?: PriorityClass;
  /** Milliseconds within which the model's answer is wanted. Only with the option `scheduling`. */
  readonly timeoutMs?: number;
}

/** What {@link Cloister.load} may be told. */
export interface LoadModelOptions {
  /** For the audit log. Default `service`. */
  readonly actor?: string;
  /** Sizes of symbolic dimensions of the inputs, by name, that are fixed for good. Some models need it: the error says so. */
  readonly dims?: FixedDims;
  /**
   * For a model that is passed as bytes: the files that it keeps weights in, by path relative to it. Of a model that is passed as a path
   * they are looked for in its folder.
   */
  readonly external?: ReadonlyMap<string, Uint8Array> | OpenExternal;
  /**
   * Plugins that are installed, as `name` (its active version) or `name@version`: operators, processors, and one policy at most. See
   * `docs/plugins.md`. The policy must still admit them. A model with operators or processors makes no releases.
   */
  readonly plugins?: readonly string[];
  /** What the scheduler is told of it. Only with the option `scheduling`. */
  readonly serve?: Omit<ServeOptionsInput, 'name' | 'limitRuns'>;
  readonly signal?: AbortSignal;
}

/** What {@link Model.profile} may be told, with who asks and why. */
export interface ProfileCaller extends Caller {
  /** Runs that are measured, after one that is not. Default 10. */
  readonly runs?: number;
  readonly onProgress?: (done: number, total: number) => void;
}

/** Milliseconds that each stage of a request took. */
export type Timings = Readonly<Record<'decode' | 'plan' | 'reserve' | 'compute' | 'release' | 'record', number>>;

/**
 * Opens the cloister in `dir`: recovers ledger and log, checks that the log extends what the ledger last saw of it and that the
 * ledger has spent what the log says, and starts the sandbox. One process at a time.
 *
 * @throws {CloisterError} `INVALID_POLICY`; `POLICY_REFUSED` when the policy raises a stored limit without saying so; `LOCKED` when
 *   another process has it open; `AUDIT_INVALID` when the log was changed, cut or put back; `STORE_FAILED` (also when the
 *   ledger is gone or was put back);
 *   `MISSING_DEPENDENCY`.
 * @example
 * ```ts
 * const policy = { budgets: { 'clinic-a/2026-q4': { epsilon: 2 } } };
 * await using cloister = await openCloister({ dir: './cloister-data', policy });
 * const model = await cloister.load('digits.onnx');
 * model.summary.inputs; // [{ name: 'image', dtype: 'f32', shape: ['batch', 1, 28, 28] }]
 * ```
 */
export async function openCloister(options: CloisterOptions): Promise<Cloister> {
  const policy = parsePolicy(options.policy ?? {});
  // Loaded by whoever opens a cloister, not by everybody who imports the facade.
  const [{ openScheduler }, { makeDirectory }, { openLog }, { openLedger }, { openSandbox, openPluginRegistry }] =
    await Promise.all([
      import('../engine/scheduler/index.ts'),
      import('../store/index.ts'),
      import('../../sandbox/audit/index.ts'),
      import('../../privacy/budget/index.ts'),
      import('../../sandbox/index.ts'),
    ]);
  const scheduler = options.scheduling && openScheduler(options.scheduling);
  const clock = options.clock ?? systemClock;
  const { auditDir, plansDir, pluginsDir } = paths(options.dir);
  const openPlugins: Parts['openPlugins'] = record =>
    openPluginRegistry(pluginsDir, { policy: policy.plugins, record });
  openPlugins(async () => {}); // for what is wrong with the policy, before anything is made
  makeDirectory(options.dir);
  await using opened = new AsyncDisposableStack();
  const { openLedgerStore } = await import('./ledger-store.ts');
  const kept = opened.use(await openLedgerStore(options.dir, options.store));
  const { store, place } = kept;
  const anchor = await readAnchor(store, kept.anchor);
  const log = opened.use(await openLog(auditDir, { clock, anchor }));
  if (anchor === undefined && log.head().size > 0) {
    const message = `${auditDir} holds ${log.head().size} records, and the ledger ${place} has never seen any: restore the ledger from backup, or start a new directory`;
    throw new CloisterError('STORE_FAILED', message, { records: log.head().size });
  }
  const { ledgerBudgets, limitEvent } = await import('./budgets.ts');
  const raised = Object.entries(policy.budgets).filter(([, budget]) => budget.acknowledgeRaise);
  const ledger = opened.use(
    await openLedger({
      store,
      clock,
      budgets: await ledgerBudgets(policy),
      acknowledgeRaised: raised.map(([scope]) => scope),
      auditHead: () => log.head(),
      // The log has a change before the ledger does: a crash between the two leaves a record too many, and no change without one.
      within: async (tx, changes) => {
        const by = { actor: 'service', policy: digestOf(policyText(policy)) };
        for (const change of changes) await log.append(limitEvent(change, by));
        await writeAnchor(tx, log.head(), kept.anchor);
      },
    }),
  );
  await assertLedgerKnows(ledger, log, anchor?.size ?? 0, place);
  const sandbox = opened.use(
    await openSandbox({
      isolation: policy.isolation,
      limits: policy.limits,
      require: policy.require,
      plans: openPlanFiles(plansDir),
    }),
  );
  const cloister = new Cloister({ dir: options.dir, policy, kept, log, ledger, sandbox, scheduler, openPlugins });
  await cloister.start();
  cloister.own(opened.move());
  return cloister;
}

/**
 * A charge is in the ledger before it is in the log. So where the log, after the anchor, knows of one that the ledger does not,
 * the ledger was put back to an earlier copy, and would spend again what was spent.
 */
async function assertLedgerKnows(ledger: Ledger, log: AuditLog, from: number, place: string): Promise<void> {
  const spent = new Map((await ledger.scopes()).map(state => [state.scope, state.spentScalar]));
  for await (const { seq, budget } of log.records({ from, action: 'charge' })) {
    if (!budget || (spent.get(budget.scope) ?? -1) >= budget.after) continue;
    const message =
      `record ${seq} of the audit log says that ${budget.after} units of ${budget.scope} were spent, the ledger ${place} ` +
      'knows of less: it was put back to an earlier copy. Restore the newest one, or start a new directory';
    throw new CloisterError('STORE_FAILED', message, { index: seq, scope: budget.scope });
  }
}

interface Parts {
  readonly dir: string;
  readonly policy: Policy;
  readonly kept: LedgerStore;
  readonly log: AuditLog;
  readonly ledger: Ledger;
  readonly sandbox: Sandbox;
  readonly scheduler: Scheduler | undefined;
  readonly openPlugins: (record: RegistryOptions['record']) => PluginRegistry;
}

/** An open cloister. Close it, or hold it with `await using`: closing writes the last checkpoint of the log. */
export class Cloister {
  readonly dir: string;
  readonly policy: Policy;
  /** Public key of the audit log: give it to whoever shall verify, by another way than the directory. */
  readonly auditKey: string;
  readonly #parts: Parts;
  readonly #policyDigest: string;
  readonly #session: string = crypto.randomUUID();
  #resources: AsyncDisposableStack | undefined;
  readonly #ending = new AbortController();
  #closing: Promise<void> | undefined;

  /** @internal Call {@link openCloister}. */
  constructor(parts: Parts) {
    this.#parts = parts;
    this.dir = parts.dir;
    this.policy = parts.policy;
    this.auditKey = parts.log.vkey;
    this.#policyDigest = digestOf(policyText(parts.policy));
  }

  /** @internal Records the start, and anchors the log in the ledger's store. */
  async start(): Promise<void> {
    const { cutBytes } = this.#parts.log;
    // Before the first record: a log with records and a store without an anchor is what a lost ledger looks like.
    await this.#anchor();
    if (cutBytes > 0) await this.#append({ action: 'recover', measures: { cutBytes } });
    await this.#append({ action: 'open' });
    await this.#anchor();
  }

  /** @internal Takes over what has to be closed. */
  own(resources: AsyncDisposableStack): void {
    this.#resources = resources;
  }

  /**
   * Loads a model. The file is read here and parsed in the sandbox; it is not trusted. What is wrong with it is recorded. Files that it
   * keeps weights in are read too, if they lie in its folder or below: give models a folder of their own.
   *
   * @param source - A path, or the bytes of the file (copied).
   * @throws {CloisterError} `INVALID_ARGUMENT` when it is no regular file that can be read, or on sizes that no input has;
   *   `INVALID_MODEL`, `MODEL_TOO_LARGE`, `UNSUPPORTED_MODEL`, `INVALID_GRAPH`; `LIMIT_EXCEEDED`, `WORKER_CRASHED`; `CLOSED`; what
   *   the log throws. With plugins also `INVALID_PLUGIN`, `POLICY_REFUSED`, `GUEST_FAILED`.
   */
  async load(source: string | Uint8Array, options: LoadModelOptions = {}): Promise<Model> {
    this.#assertOpen();
    if (typeof source !== 'string' && !(source instanceof Uint8Array)) {
      throw new CloisterError('INVALID_ARGUMENT', `load: expected a path or a Uint8Array, got ${typeof source}`);
    }
    const actor = checkText('actor', options.actor ?? 'service');
    const { dims, signal, serve } = options;
    const { scheduler } = this.#parts;
    if (serve && !scheduler) {
      const message = 'load: serve needs a scheduler: open the cloister with the option scheduling';
      throw new CloisterError('INVALID_ARGUMENT', message);
    }
    let bytes: Uint8Array | undefined;
    let model: SandboxedModel;
    let plugins: readonly LoadedPlugin[] = [];
    try {
      const admitted = (options.plugins ?? []).map(id => this.plugins(actor).open(...splitId(id)));
      plugins = admitted.map(({ manifest: { name, version, kind }, digest }) => {
        return { id: `${name}@${version}`, kind, digest };
      });
      const limitBytes = this.policy.limits.modelBytes;
      let beside: OpenExternal | undefined;
      if (typeof source === 'string') {
        const [{ openBeside }, { readRegularFile }] = await Promise.all([import('./beside.ts'), import('./files.ts')]);
        bytes = await readRegularFile(source, limitBytes, 'MODEL_TOO_LARGE');
        beside = openBeside(source, { limitBytes, except: [this.dir] });
      } else bytes = source;
      const external = options.external ?? beside;
      model = await this.#parts.sandbox.load(bytes, {
        name: typeof source === 'string' ? basename(source) : 'model',
        ...(dims && { dims }),
        ...(external && { external }),
        ...(admitted.length > 0 && { plugins: admitted }),
        ...(signal && { signal }),
      });
    } catch (error) {
      const digest = bytes && digestOf(bytes);
      await this.#append({
        ...failureOf(error),
        ...blamed(error, plugins),
        actor,
        ...(digest && { object: { kind: 'model', id: digest }, model: digest }),
      });
      throw error;
    }
    const modelDigest = model.digest;
    let served: ServedExecutable | undefined;
    try {
      // A worker runs one request after the other: what waits for it waits where its class and its deadline count.
      served = scheduler?.serve(model, { ...serve, name: model.name, limitRuns: 1 });
      for (const { id, digest } of plugins) {
        const object = { kind: 'plugin', id } as const;
        await this.#append({ action: 'load', actor, object, plugin: digest, model: modelDigest });
      }
      await this.#append({
        action: 'load',
        actor,
        object: { kind: 'model', id: modelDigest },
        model: modelDigest,
        backend: model.backend,
      });
    } catch (error) {
      await model.close();
      throw error;
    }
    const { policy, log, ledger, kept } = this.#parts;
    const anchor: PipelineContext['anchor'] = tx => writeAnchor(tx, log.head(), kept.anchor);
    const closed = this.#ending.signal;
    return new Model({
      ...{ policy, policyDigest: this.#policyDigest, ledger, log, anchor, model, modelDigest, plugins, closed },
      layers: activeLayers(this.#parts.sandbox.capabilities()),
      ...(served && { served }),
    });
  }

  /** Every scope that the ledger knows, as it stands. */
  async budgets(): Promise<readonly ScopeState[]> {
    this.#assertOpen();
    return this.#parts.ledger.scopes();
  }

  /**
   * The plugins of this cloister, under its policy. Each change and each refusal is recorded, as asked for by `actor`.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when `actor` is not 1 to 256 characters; `CLOSED`.
   * @example
   * ```ts
   * await using cloister = await openCloister({ dir: './cloister-data', policy: { plugins: { unsigned: true } } });
   * const files = new Map([['main.js', new TextEncoder().encode('define({ after: outputs => outputs });')]]);
   * const plugin = packPlugin(
   *   {
   *     name: 'identity',
   *     version: '1.0.0',
   *     api: '^1.0.0',
   *     kind: 'processor',
   *     entry: 'main.js',
   *     licence: 'MIT',
   *     files: ['main.js'],
   *   },
   *   files,
   * );
   * const { downgrade } = await cloister.plugins('admin').install(plugin);
   * downgrade; // false
   * cloister.plugins().list().length; // 1
   * ```
   */
  plugins(actor = 'service'): PluginRegistry {
    this.#assertOpen();
    checkText('actor', actor);
    return this.#parts.openPlugins(async event => {
      this.#assertOpen();
      await this.#append({ ...event, actor });
    });
  }

  /** What the scheduler counted; undefined without the option `scheduling`. Names no actor. */
  scheduling(): SchedulerStatistics | undefined {
    return this.#parts.scheduler?.statistics();
  }

  /**
   * Erases a person from the audit log: destroys the key of the data that records commit to, and records that it was done. Records and
   * proofs stay. Undefined when there are no data of that person. See `AuditLog.eraseSubject` of `cloister/audit`.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT`; `STORE_FAILED`; `CLOSED`.
   */
  eraseSubject(subject: string, by: ErasedBy): Promise<Receipt | undefined> {
    return this.#parts.log.eraseSubject(subject, by);
  }

  /**
   * Gives the audit log a new key and returns its public part; what auditors keep stays {@link auditKey}. See `AuditLog.rotateKey`.
   *
   * @throws {CloisterError} `STORE_FAILED`; `CLOSED`.
   */
  rotateAuditKey(): Promise<string> {
    return this.#parts.log.rotateKey();
  }

  /** Ends workers, gives back what was reserved and not charged, and writes the last checkpoint of the log. */
  close(): Promise<void> {
    this.#ending.abort();
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    const idle = this.#parts.scheduler?.close(); // what waits is refused now; what runs ends with its worker
    try {
      await this.#append({ action: 'close' });
      await this.#anchor();
    } finally {
      await this.#resources?.disposeAsync();
      await idle;
    }
  }

  async #anchor(): Promise<void> {
    const { kept, log } = this.#parts;
    await kept.store.transaction(tx => writeAnchor(tx, log.head(), kept.anchor));
  }

  async #append(event: Partial<AuditEvent> & Pick<AuditEvent, 'action'>): Promise<void> {
    await this.#parts.log.append({
      actor: 'service',
      object: { kind: 'session', id: this.#session },
      decision: { outcome: 'allow' },
      policy: this.#policyDigest,
      isolation: this.policy.isolation,
      layers: activeLayers(this.#parts.sandbox.capabilities()),
      ...event,
    });
  }

  #assertOpen(): void {
    if (this.#closing) throw new CloisterError('CLOSED', 'the cloister is closed');
  }
}

/** A loaded model under the policy. Its worker lives until it is closed. */
export class Model {
  /** `sha256:…` of the file, and of the files beside it where it needs some: see `SandboxedModel.digest`. */
  readonly digest: string;
  readonly #context: PipelineContext;
  readonly #ending = new AbortController();

  /** @internal Call `cloister.load`. */
  constructor(context: PipelineContext) {
    this.#context = { ...context, closed: AbortSignal.any([context.closed, this.#ending.signal]) };
    this.digest = context.modelDigest;
  }

  /** Inputs, outputs, operators and size, as the sandbox read them out of the file. */
  get summary(): SandboxedModel['summary'] {
    return this.#context.model.summary;
  }

  /**
   * What the model needs where it runs, in bytes: weights and constants as they are kept, activations of one run at planned offsets,
   * workspace of kernels, inputs and outputs of one run. Known when it is loaded; zeros where sizes are known to runs only.
   * @example
   * ```ts
   * await using cloister = await openCloister({ dir: './cloister-data' });
   * const model = await cloister.load('digits.onnx');
   * const { permanentBytes, temporaryBytes, scratchBytes } = model.memory();
   * permanentBytes + temporaryBytes + scratchBytes < 2 ** 20; // true
   * ```
   */
  memory(): SandboxedModel['memory'] {
    return this.#context.model.memory;
  }

  /** Where it runs: on native kernels, or on the reference backend in the guest. */
  get backend(): SandboxedModel['backend'] {
    return this.#context.model.backend;
  }

  /**
   * Runs the model once and hands out its raw outputs, if the policy allows that. Recorded with a digest of the outputs.
   *
   * @param inputs - By name; see `InputValue` for the forms.
   * @returns Outputs that the caller owns, and the receipt of the record.
   * @throws {CloisterError} `POLICY_REFUSED`; `INPUT_MISMATCH`, `DTYPE_MISMATCH`, `SHAPE_MISMATCH`; `LIMIT_EXCEEDED`,
   *   `WORKER_CRASHED` (the next call gets a fresh worker); with a scheduler `OVERLOADED`, `DEADLINE_EXCEEDED`, `OUT_OF_MEMORY`;
   *   `ABORTED`; `CLOSED`; what the log throws, and then nothing leaves.
   * @example
   * ```ts
   * await using cloister = await openCloister({ dir: './cloister-data', policy: { rawOutputs: 'allow' } });
   * const model = await cloister.load('digits.onnx');
   * const image = new Float32Array(28 * 28);
   * const { outputs, receipt } = await model.run({ image }, { actor: 'ward-3', purpose: 'triage' });
   * outputs['logits']?.shape; // [1, 10]
   * verifyReceipt(receipt, cloister.auditKey).ok; // true
   * ```
   */
  async run(inputs: InputValues, caller: RunCaller): Promise<RunReply & { readonly timings: Timings }> {
    checkRecord('caller', caller, 'actor, purpose');
    const { priority, timeoutMs, signal } = caller;
    const request = {
      ...(priority !== undefined && { priority }),
      ...(timeoutMs !== undefined && { timeoutMs }),
      ...(signal && { signal }),
    };
    const origin = { ...originOf(caller), ...(caller.personal && { personal: caller.personal }) };
    const answer = await this.#drive(origin, asked => decodeRun(this.#context, inputs, asked, request));
    return answer as RunReply & { readonly timings: Timings };
  }

  /**
   * Publishes a statistic of the predictions over `records` under pure epsilon-differential privacy: neighbours differ in all
   * records of one subject, added or removed; the first record of a subject counts. The charge is durable before the first
   * record is read, and is never given back. A record that does not fit, or on which the model fails, contributes nothing.
   *
   * With an idempotency key, the same request gives the same bytes and is charged once, also after a restart.
   *
   * @returns The noised value, or a refusal when the scope has not enough left: check `kind`.
   * @throws {CloisterError} `DP_INVALID_PARAMETER`, `UNKNOWN_SCOPE`, `INVALID_ARGUMENT`, `UNSUPPORTED_MODEL` and whatever the model
   *   does on zeros, all before anything is charged; `IDEMPOTENCY_CONFLICT`, `RELEASE_LOST`; `ABORTED` and whatever the
   *   iterable throws, after the charge; `STORE_FAILED`, `CLOSED`.
   * @example
   * ```ts
   * const policy = { budgets: { 'clinic-a/2026-q4': { epsilon: 0.6 } } };
   * await using cloister = await openCloister({ dir: './cloister-data', policy });
   * const model = await cloister.load('digits.onnx');
   * const request = {
   *   records: [{ subject: 'a', inputs: { image: new Float32Array(28 * 28) } }],
   *   statistic: histogram({ of: 'argmax', classes: 10 }),
   *   epsilon: 0.5,
   *   scope: 'clinic-a/2026-q4',
   * };
   * const first = await model.release(request);
   * first.kind; // 'released': ten noised counts in `value`
   * const second = await model.release(request);
   * second.kind; // 'refused': 0.1 of epsilon is left
   * ```
   */
  async release(request: ReleaseRequest & Partial<Caller>): Promise<ReleaseReply & { readonly timings: Timings }> {
    checkRecord('request', request, 'records, statistic, epsilon, scope');
    const { actor = 'service', purpose = 'release', trace } = request;
    const caller = { actor, purpose, ...(trace !== undefined && { trace }) };
    const answer = await this.#drive(originOf(caller), origin => decodeRelease(request, origin));
    return answer as ReleaseReply & { readonly timings: Timings };
  }

  /**
   * Runs the model on `inputs` and says how long each node took, if the policy allows raw outputs: times, and sizes that depend on
   * elements, tell about the inputs. Measured on the reference backend in the guest, also where `run` uses native kernels. Recorded as a
   * run, with the number of runs and a salted commitment to the profile.
   *
   * @throws {CloisterError} `POLICY_REFUSED`; as {@link Model.run}.
   * @example
   * ```ts
   * await using cloister = await openCloister({ dir: './cloister-data', policy: { rawOutputs: 'allow' } });
   * const model = await cloister.load('digits.onnx');
   * const image = new Float32Array(28 * 28);
   * const { profile } = await model.profile({ image }, { actor: 'dev', purpose: 'tuning', runs: 2 });
   * profile.runs; // 2
   * ```
   */
  async profile(inputs: InputValues, caller: ProfileCaller): Promise<ProfileReply & { readonly timings: Timings }> {
    checkRecord('caller', caller, 'actor, purpose');
    const { runs, signal, onProgress } = caller;
    const options = {
      ...(runs !== undefined && { runs }),
      ...(signal && { signal }),
      ...(onProgress && { onProgress }),
    };
    const answer = await this.#drive(originOf(caller), origin => decodeProfile(this.#context, inputs, options, origin));
    return answer as ProfileReply & { readonly timings: Timings };
  }

  /** Ends its worker. Later calls throw `CLOSED`. */
  async close(): Promise<void> {
    this.#ending.abort();
    const idle = this.#context.served?.close();
    await this.#context.model.close();
    await idle;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /**
   * Takes one request through all stages. What fails is recorded with its code before it is thrown; where it cannot be
   * recorded, the reason of that is thrown instead.
   */
  async #drive(
    origin: Origin,
    decode: (origin: Origin) => Decoded,
  ): Promise<(RunReply | ProfileReply | ReleaseReply) & { timings: Timings }> {
    const context = this.#context;
    assertUnclosed(context);
    const timings = { decode: 0, plan: 0, reserve: 0, compute: 0, release: 0, record: 0 };
    const timed = async <T>(name: keyof Timings, stage: () => T | Promise<T>): Promise<T> => {
      const started = performance.now();
      const result = await stage();
      timings[name] = performance.now() - started;
      return result;
    };
    let recorded: Recorded;
    let open: Reserved | undefined;
    try {
      const decoded = await timed('decode', () => decode(origin));
      const planned = await timed('plan', () => plan(context, decoded));
      const reserved = await timed('reserve', () => reserve(context, planned));
      if ('receipt' in reserved) recorded = reserved;
      else {
        open = reserved;
        const computed = await timed('compute', () => compute(context, reserved));
        const released = await timed('release', () => release(context, computed));
        open = undefined;
        recorded = await timed('record', () => record(context, released));
      }
    } catch (error) {
      // A ledger that cannot be written is the reason of the failure, or will be that of the next one.
      if (open) await abandon(context, open).catch(() => undefined);
      await this.#recordFailure(origin, error);
      throw error;
    }
    return { ...reply(recorded), timings };
  }

  async #recordFailure(origin: Origin, error: unknown): Promise<void> {
    const { log, modelDigest, plugins } = this.#context;
    const event = {
      ...eventOf(this.#context, origin),
      ...failureOf(error),
      ...blamed(error, plugins),
      object: { kind: 'model', id: modelDigest } as const,
    };
    await log.append(event);
  }
}

/** How a failure is recorded: its code, and nothing that a message might quote. */
function failureOf(error: unknown): Pick<AuditEvent, 'action' | 'decision'> {
  const reason = error instanceof CloisterError ? error.code : 'UNEXPECTED';
  const refused = [
    'POLICY_REFUSED',
    'UNKNOWN_SCOPE',
    'DP_INVALID_PARAMETER',
    'IDEMPOTENCY_CONFLICT',
    'RELEASE_LOST',
    'OVERLOADED',
  ].includes(reason);
  const action = refused ? 'refuse' : isCloisterError(error, 'LIMIT_EXCEEDED') ? 'kill' : 'fail';
  return { action, decision: { outcome: 'refuse', reason } };
}

/** The digest of the plugin that an error is about, if it is one of these. */
function blamed(error: unknown, plugins: readonly LoadedPlugin[]): Pick<AuditEvent, 'plugin'> {
  if (!(error instanceof CloisterError)) return {};
  const plugin = plugins.find(({ id }) => id === error.detail['plugin']);
  return plugin ? { plugin: plugin.digest } : {};
}

/** `name@version`, taken apart; a scope begins with an `@`, too. */
function splitId(id: unknown): [string, string?] {
  if (typeof id !== 'string') throw new CloisterError('INVALID_ARGUMENT', 'plugins: expected names, as name@version');
  const at = id.indexOf('@', 1);
  return at < 0 ? [id] : [id.slice(0, at), id.slice(at + 1)];
}

function originOf({ actor, purpose, trace }: Pick<Caller, 'actor' | 'purpose' | 'trace'>): Origin {
  if (trace !== undefined && !/^(?!0{32})[0-9a-f]{32}$/.test(trace))
    throw new CloisterError('INVALID_ARGUMENT', 'trace: expected 32 hexadecimal digits in lower case, not all zero');
  return {
    actor: checkText('actor', actor),
    purpose: checkText('purpose', purpose),
    request: crypto.randomUUID(),
    ...(trace !== undefined && { trace }),
  };
}

/** What the log takes as an actor or a purpose. */
function checkText(name: string, value: unknown): string {
  if (typeof value === 'string' && value.length >= 1 && value.length <= 256 && value.isWellFormed()) return value;
  throw new CloisterError(
    'INVALID_ARGUMENT',
    `${name}: expected 1 to 256 characters, got ${typeof value === 'string' ? value.length : typeof value}`,
  );
}

function checkRecord(name: string, value: unknown, keys: string): void {
  if (typeof value === 'object' && value !== null) return;
  throw new CloisterError(
    'INVALID_ARGUMENT',
    `${name}: expected { ${keys} }, got ${value === null ? 'null' : typeof value}`,
  );
}
