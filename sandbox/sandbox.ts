/**
 * The sandbox: one way to load and run a model, whatever walls are around it.
 * @module
 */
import { z } from 'zod';
import { CloisterError } from '../src/base/index.ts';
import { type Capabilities, probeCapabilities } from './capabilities.ts';
import { type Limits, type LimitsInput, limitsSchema, parseLimits } from './limits.ts';
import type { Evaluation, Isolation, SandboxedModel, Walls } from './walls.ts';

/** Characters of a script. */
const MAX_SOURCE = 16 * 1_048_576;

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
}

/** The schema of {@link SandboxOptions}, with its defaults. Unknown keys are refused. */
export const sandboxSchema: z.ZodType<{ isolation: Isolation; limits: Limits; warm: number }, SandboxOptions> =
  z.strictObject({
    isolation: z.enum(['process', 'isolate', 'none']).default('process'),
    limits: limitsSchema.prefault({}),
    warm: z.int().min(0).max(64).default(1),
  });

/** What {@link Sandbox.load} may be told. */
export interface LoadOptions {
  /** For messages. Default `model`. */
  readonly name?: string;
  /** Over those of the sandbox. */
  readonly limits?: LimitsInput;
  readonly signal?: AbortSignal;
}

/** What {@link Sandbox.evaluate} may be told. */
export interface EvaluationOptions {
  /** Over those of the sandbox. */
  readonly limits?: LimitsInput;
  readonly signal?: AbortSignal;
}

/** A place where guests run. Holds processes: close it. */
export interface Sandbox extends AsyncDisposable {
  readonly isolation: Isolation;
  readonly limits: Limits;
  /**
   * Parses and prepares a model inside the walls. The bytes are copied before this returns control: what runs, now and after
   * every restart, is what was passed in.
   *
   * @throws {CloisterError} `MODEL_TOO_LARGE`, `INVALID_MODEL`, `UNSUPPORTED_MODEL`, `INVALID_GRAPH` about the file;
   *   `LIMIT_EXCEEDED`, `WORKER_CRASHED`, `GUEST_FAILED`, `OUT_OF_MEMORY` about the guest; `MISSING_DEPENDENCY`, `ABORTED`,
   *   `CLOSED`.
   */
  load(model: Uint8Array, options?: LoadOptions): Promise<SandboxedModel>;
  /**
   * Runs `source` as a script inside the walls and says how it ended. The script is lent nothing: no host function, no clock, no
   * randomness, no input or output but its last value, which is awaited if it is a promise, and turned into text inside. A
   * script that throws, or is stopped, is an outcome and not an exception.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` under isolation `none`; `MISSING_DEPENDENCY`, `ABORTED`, `CLOSED`.
   * @example
   * ```ts
   * await using sandbox = await openSandbox();
   * const { outcome } = await sandbox.evaluate('for (;;);', { limits: { wallMs: 200 } }); // 'limit:wallMs'
   * ```
   */
  evaluate(source: string, options?: EvaluationOptions): Promise<Evaluation>;
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
 *   isolated-vm is not installed.
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
  const { isolation, limits, warm } = result.data;
  const walls = await openWalls(isolation, warm);
  return new OpenSandbox(isolation, parseLimits(limits), walls);
}

/** Each isolation loads only what it needs. */
async function openWalls(isolation: Isolation, warm: number): Promise<Walls> {
  if (isolation === 'process') return (await import('./process-walls.ts')).openProcessWalls(warm);
  if (isolation === 'isolate') return (await import('./isolate-walls.ts')).openIsolateWalls();
  return (await import('./no-walls.ts')).openNoWalls();
}

/** Checks what comes in, once, before any walls. */
class OpenSandbox implements Sandbox {
  readonly isolation: Isolation;
  readonly limits: Limits;
  readonly #walls: Walls;
  #closed = false;

  constructor(isolation: Isolation, limits: Limits, walls: Walls) {
    this.isolation = isolation;
    this.limits = limits;
    this.#walls = walls;
  }

  async load(model: Uint8Array, { name = 'model', limits, signal }: LoadOptions = {}): Promise<SandboxedModel> {
    this.#assertOpen();
    if (!(model instanceof Uint8Array)) {
      throw new CloisterError('INVALID_ARGUMENT', 'load: expected the bytes of a model as a Uint8Array');
    }
    const allowed = parseLimits(limits, this.limits);
    if (model.length > allowed.modelBytes) {
      const message = `the model has ${model.length} bytes, over the limit modelBytes of ${allowed.modelBytes}`;
      throw new CloisterError('MODEL_TOO_LARGE', message, { bytes: model.length, allowed: allowed.modelBytes });
    }
    const aborted = (): CloisterError =>
      new CloisterError('ABORTED', 'the caller cancelled', {}, { cause: signal?.reason });
    if (signal?.aborted) throw aborted();
    const opened = await this.#walls.load(new Uint8Array(model), name, allowed, signal);
    if (!signal?.aborted && !this.#closed) return opened;
    await opened.close();
    this.#assertOpen();
    throw aborted();
  }

  async evaluate(source: string, { limits, signal }: EvaluationOptions = {}): Promise<Evaluation> {
    this.#assertOpen();
    if (typeof source !== 'string' || source.length > MAX_SOURCE) {
      throw new CloisterError('INVALID_ARGUMENT', `evaluate: expected a script of at most ${MAX_SOURCE} characters`);
    }
    return this.#walls.evaluate(source, parseLimits(limits, this.limits), signal);
  }

  capabilities(): Capabilities {
    return probeCapabilities(this.isolation);
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
