/**
 * The seam between the sandbox and its walls: what each isolation provides, and the models and outcomes that come out of it.
 * @module
 */
import type { MemoryReport, NamedTensors } from '../src/engine/index.ts';
import type { LimitName } from './limit-error.ts';
import type { Limits } from './limits.ts';
import type { ShownForm } from './shown.ts';
import type { ModelSummary } from './untrusted.ts';

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
  /** Milliseconds from its start to its end, the end of its process included. */
  readonly wallMs: number;
  /** Milliseconds of processor time. Undefined where the system does not tell. */
  readonly cpuMs: number | undefined;
  /** The most MiB that were resident at once beyond an empty worker. Undefined where the system does not tell. */
  readonly peakMb: number | undefined;
}

/** A model that was loaded. Behaves alike under every isolation; the walls differ. */
export interface SandboxedModel extends AsyncDisposable {
  readonly name: string;
  /** What the model is, as its file says: checked for form, not for truth. */
  readonly summary: ModelSummary;
  readonly backend: 'native' | 'reference';
  /** Why this backend runs, and not the other. */
  readonly why: string;
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
  /** Frees everything; resolves when nothing of the worker is left. Later runs throw `CLOSED`. Harmless twice. */
  close(): Promise<void>;
}

/** What one isolation provides; `openSandbox` does the rest. */
export interface Walls {
  /** `model` belongs to the callee. */
  load(model: Uint8Array, name: string, limits: Limits, signal: AbortSignal | undefined): Promise<SandboxedModel>;
  evaluate(source: string, limits: Limits, signal: AbortSignal | undefined): Promise<Evaluation>;
  settled(): Promise<void>;
  close(): Promise<void>;
}
