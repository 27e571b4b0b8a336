/**
 * The seam between the sandbox and its walls: what each isolation provides, and the models and outcomes that come out of it.
 * @module
 */
import type { MemoryReport, NamedTensors, Profile } from '../src/engine/index.ts';
import type { BreakerState } from './breaker.ts';
import type { GivenModel } from './given-model.ts';
import type { KvChanges } from './lending/kv-store.ts';
import type { Uses } from './lending/lending.ts';
import type { Lent } from './lending/table.ts';
import type { LimitName } from './limit-error.ts';
import type { Limits } from './limits.ts';
import type { FixedDims, OpenExternal } from './model-files.ts';
import type { PluginDefinition } from './plugins/definition.ts';
import type { ModelPlugins, SentPlugin } from './plugins/sent.ts';
import type { ShownForm } from './shown.ts';
import type { ModelSummary, Optimisation } from './untrusted.ts';

/** Where guests run. */
export type Isolation = 'process' | 'isolate' | 'none';

/** How a script ended, and what it used. */
export interface Evaluation {
  /** `error`: it threw. `killed`: its process died of something other than a limit. */
  readonly outcome: 'ok' | 'error' | 'killed' | `limit:${LimitName}`;
  /**
   * Its last value as text, or what it threw, or why it was stopped. The first is as the script made it: not safe to print on a
   * terminal as it is.
   */
  readonly value: string | undefined;
  /** The lines that it logged, in order; none where `log` was not lent. */
  readonly messages: readonly string[];
  /**
   * How often it used each capability that it was lent. Of a script whose process was killed it is what was heard last: at least half of
   * the truth.
   */
  readonly uses: Uses;
  /** Milliseconds from its start to its end, the end of its process included. */
  readonly wallMs: number;
  /** Milliseconds of processor time. Undefined where the system does not tell. */
  readonly cpuMs: number | undefined;
  /** The most MiB that were resident at once beyond an empty worker. Undefined where the system does not tell. */
  readonly peakMb: number | undefined;
}

/** What {@link SandboxedModel.profile} may be told. */
export interface ProfileRunOptions {
  /** Runs that are measured, after one that is not: 1 to 1,000,000. Default 10. */
  readonly runs?: number;
  /** Stops between two requests to the guest. */
  readonly signal?: AbortSignal;
  /** Called whenever more runs are done, at most every 200 milliseconds or after each run. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** What {@link SandboxedModel.run} may be told. */
export interface RunOptions {
  readonly signal?: AbortSignal;
  /**
   * The answer is not to depend on what earlier requests did: inputs are not refused because equal ones ended workers, and while the
   * model is refused because of others, this waits. For releases under differential privacy, where whether one record is answered must
   * not depend on another record. Default false.
   */
  readonly independent?: boolean;
}

/** What {@link SandboxedModel.reload} may be told. */
export interface ReloadOptions {
  /**
   * Sizes of symbolic dimensions of the inputs, by name, that are fixed for good. Some models need it: the error says so.
   * A reload without them keeps those of before.
   */
  readonly dims?: FixedDims;
  /**
   * The files beside the model that it keeps weights in, by path relative to the model's folder; or what opens one of them. A model
   * chooses what is opened, by plain names inside its folder. Model and files together keep to the limit `modelBytes`.
   */
  readonly external?: ReadonlyMap<string, Uint8Array> | OpenExternal;
  readonly signal?: AbortSignal;
}

/** How a model has fared since it was loaded or reloaded. */
export interface ModelHealth {
  /**
   * `closed`: requests are served. `open`: five workers were ended in a row, or the model could not be loaded again; requests are
   * refused with `GUEST_REFUSED` for `retryAfterMs`. `half-open`: the next request decides.
   */
  readonly breaker: BreakerState;
  /** How many inputs are refused with `REQUEST_QUARANTINED`, because they ended two workers in a row. */
  readonly quarantined: number;
  /** Workers that took the place of one that died. */
  readonly restarts: number;
}

/** A model that was loaded. Behaves alike under every isolation; the walls differ. */
export interface SandboxedModel extends AsyncDisposable {
  readonly name: string;
  /** Whose it is: see `LoadOptions.tenant`. */
  readonly tenant: string;
  /** What the model is, as its file says: checked for form, not for truth. */
  readonly summary: ModelSummary;
  readonly backend: 'native' | 'reference';
  /** Why this backend runs, and not the other. */
  readonly why: string;
  /**
   * `sha256:` and the SHA-256 of the model file, where it is alone. Where it keeps weights in files beside it, SHA-256 over the line
   * `cloister model 1` and then one line for the model and each file, files sorted by path: SHA-256 of its bytes in hexadecimal,
   * length, path as JSON (the model's is `""`), separated by spaces. Made outside the walls.
   */
  readonly digest: string;
  /** Sizes that were fixed on import. */
  readonly dims: FixedDims;
  /** What the prepared model holds, in bytes. */
  readonly memory: MemoryReport;
  /**
   * Computes all outputs of the model. The inputs are read, and may be changed when the promise has settled, not before; the
   * outputs belong to the caller. Concurrent runs are served one after the other.
   *
   * When the worker was stopped or died, a fresh one takes its place, which loads the model again by itself. Runs that waited behind
   * are served by it unnoticed, and so is the run under which the worker died, once: inputs that end a second worker are refused from
   * then on (`REQUEST_QUARANTINED`), as far as the model is kept in memory. A run that was stopped at a limit is not tried again.
   *
   * @throws {CloisterError} `INPUT_MISMATCH`, `DTYPE_MISMATCH`, `SHAPE_MISMATCH` before anything runs; `LIMIT_EXCEEDED`
   *   (`detail.limit`), `WORKER_CRASHED`, `GUEST_FAILED`, `OUT_OF_MEMORY`, `ABORTED`, `CLOSED`; `GUEST_REFUSED` (`detail.retryAfterMs`)
   *   while the model is refused because it ended one worker after the other.
   */
  run(inputs: NamedTensors, options?: RunOptions): Promise<NamedTensors>;
  /**
   * Puts another version in the place of the model. It is loaded beside the old one, which serves until the new one is ready; runs that
   * began before are answered by the old one, which is closed after them. When the new version does not load, the old one goes on.
   * Concurrent reloads are made one after the other. Inputs, outputs and the digest are the new version's from then on.
   *
   * @throws {CloisterError} what `Sandbox.load` throws, about the new version.
   * @example
   * ```ts
   * await using sandbox = await openSandbox();
   * const model = await sandbox.load(await readFile('digits.onnx'));
   * await model.reload(await readFile('digits.onnx'));
   * ```
   */
  reload(model: Uint8Array, options?: ReloadOptions): Promise<void>;
  /** How it has fared. Under isolations without workers there is nothing that could fail apart from the caller. */
  health(): ModelHealth;
  /**
   * The model as text for reading (`text`), as a picture (`svg`), or for Graphviz (`dot`): drawn inside the walls, and checked
   * outside. Names are escaped; there are no weights in it.
   *
   * @throws {CloisterError} `LIMIT_EXCEEDED` when it would have more than 16 MiB, or more than the limit `outputBytes`; what
   *   {@link SandboxedModel.run} throws about the worker.
   */
  show(form: ShownForm): Promise<string>;
  /**
   * Runs the model on `inputs` and says how long each node took: on the guest's interpreter (the reference backend), also where runs
   * go to native kernels, which make one call of a whole model. The limits hold for each request of about 200 milliseconds or of one
   * run, not for all of them together. Names come from the model's file; times are the guest's, in steps of 0.005 milliseconds
   * under isolation `process` and 0.1 under `isolate`.
   *
   * Times, and sizes that depend on elements, tell about the inputs: whoever may not see outputs should not see a profile.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` on `runs`; as {@link SandboxedModel.run}.
   */
  profile(inputs: NamedTensors, options?: ProfileRunOptions): Promise<Profile>;
  /**
   * What each pass does to the model's graph, and the memory that its activations then need. Computed inside the walls.
   *
   * @throws {CloisterError} what {@link SandboxedModel.run} throws about the worker.
   */
  passes(): Promise<Optimisation>;
  /** Frees everything; resolves when nothing of the worker is left. Later runs throw `CLOSED`. Harmless twice. */
  close(): Promise<void>;
}

/** A model that is to be loaded; all of it was checked. */
export interface LoadRequest extends GivenModel {
  /** What is evaluated in the model's guest before the model is read. */
  readonly plugins: ModelPlugins | undefined;
  readonly name: string;
  readonly tenant: string;
  readonly limits: Limits;
  readonly signal: AbortSignal | undefined;
}

/** A script that is to be run; all of it was checked. */
export interface EvaluateRequest {
  readonly source: string;
  readonly limits: Limits;
  readonly lent: Lent;
  readonly seed: string | undefined;
  /** What `kv` reads. Belongs to the callee. */
  readonly entries: Map<string, string>;
  /** What `readModel` and `kernels` read. Not written. */
  readonly model: Uint8Array;
  readonly signal: AbortSignal | undefined;
}

/** How a script ended, and what it would have `kv` keep: to be kept only if it ended well, and then checked first. */
export interface Evaluated {
  readonly evaluation: Evaluation;
  readonly changes: KvChanges;
}

/** A plugin that is to be opened; it was admitted. */
export interface PlugRequest {
  readonly plugin: SentPlugin;
  /** For whom it works: a worker serves one plugin for one tenant. */
  readonly tenant: string;
  readonly limits: Limits;
  /** Hears each line that it logs. */
  readonly onLine: (line: string) => void;
}

/** What a plugin answered: claims, to be checked. */
export interface PluginAnswer {
  readonly header: Readonly<Record<string, unknown>>;
  readonly payload: Uint8Array<ArrayBuffer>;
}

/** A plugin in a guest of its own. When it fails or passes a limit, a fresh guest takes its place at the next call. */
export interface PluggedIn {
  readonly definition: PluginDefinition;
  /** What it used of what it is lent, in the guest that is there now. */
  readonly uses: Uses;
  /** The most MiB that its worker held beyond an empty one; undefined where the system does not tell, or there is none. */
  readonly peakMb: number | undefined;
  /** @throws {CloisterError} `GUEST_FAILED`, `LIMIT_EXCEEDED`, `WORKER_CRASHED`, `CLOSED`. */
  ask(ask: string, header: object, parts: readonly Uint8Array[]): Promise<PluginAnswer>;
  close(): Promise<void>;
}

/** What one isolation provides; `openSandbox` does the rest. */
export interface Walls {
  load(request: LoadRequest): Promise<SandboxedModel>;
  evaluate(request: EvaluateRequest): Promise<Evaluated>;
  plug(request: PlugRequest): Promise<PluggedIn>;
  settled(): Promise<void>;
  close(): Promise<void>;
}
