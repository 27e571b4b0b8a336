/**
 * The seam between the sandbox and its walls: what each isolation provides, and the models and outcomes that come out of it.
 * @module
 */
import type { MemoryReport, NamedTensors, Profile } from '../src/engine/index.ts';
import type { KvChanges } from './lending/kv-store.ts';
import type { Uses } from './lending/lending.ts';
import type { Lent } from './lending/table.ts';
import type { LimitName } from './limit-error.ts';
import type { Limits } from './limits.ts';
import type { FixedDims, OpenExternal } from './model-files.ts';
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

/** A model that was loaded. Behaves alike under every isolation; the walls differ. */
export interface SandboxedModel extends AsyncDisposable {
  readonly name: string;
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
   * When the worker was stopped or died, the next run is served by a fresh one, which loads the model again by itself.
   *
   * @throws {CloisterError} `INPUT_MISMATCH`, `DTYPE_MISMATCH`, `SHAPE_MISMATCH` before anything runs; `LIMIT_EXCEEDED`
   *   (`detail.limit`), `WORKER_CRASHED`, `GUEST_FAILED`, `OUT_OF_MEMORY`, `ABORTED`, `CLOSED`.
   */
  run(inputs: NamedTensors, options?: { readonly signal?: AbortSignal }): Promise<NamedTensors>;
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
export interface LoadRequest {
  /** Belongs to the callee. */
  readonly bytes: Uint8Array;
  readonly name: string;
  readonly limits: Limits;
  readonly dims: FixedDims;
  readonly external: OpenExternal | undefined;
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

/** What one isolation provides; `openSandbox` does the rest. */
export interface Walls {
  load(request: LoadRequest): Promise<SandboxedModel>;
  evaluate(request: EvaluateRequest): Promise<Evaluated>;
  settled(): Promise<void>;
  close(): Promise<void>;
}
