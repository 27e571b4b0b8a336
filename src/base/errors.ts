/**
 * The one error class of the library, and the catalogue of its codes.
 * @module
 */

/**
 * Every code an error of this library can carry: what it means for the caller. Codes are added, never renamed or reused.
 * Docs, `--json` output and exit codes are derived from this table.
 */
export const ERROR_CODES = {
  /** The caller passed a value of the wrong type, sign or range. */
  INVALID_ARGUMENT: 'an argument is not of the documented form',
  /** The policy file or object does not fit its schema (unknown keys included). */
  INVALID_POLICY: 'the policy does not fit its schema',
  /** Bytes that claim to be a model (or tensor, or program) are not: truncated, corrupt, or over a parser limit. */
  INVALID_MODEL: 'the model file is malformed',
  /** A parser limit (bytes, depth, count) was reached before the input ended. */
  MODEL_TOO_LARGE: 'the model is over a size, depth or count limit',
  /** The model is well formed but uses operators, opsets or dtypes that no executor here has. */
  UNSUPPORTED_MODEL: 'the model needs something this build does not have',
  /** Types or shapes inside a graph do not agree. */
  INVALID_GRAPH: 'the graph is not well typed',
  /** A tensor's shape is not the shape that is needed here. */
  SHAPE_MISMATCH: 'a shape is not the expected one',
  /** A tensor's dtype is not the dtype that is needed here. */
  DTYPE_MISMATCH: 'a dtype is not the expected one',
  /** An input is missing, unknown, or given twice. */
  INPUT_MISMATCH: 'the inputs are not those of the model',
  /** A plugin's package is malformed, does not verify, or is for another version of the plugin interface. Nothing of it was run. */
  INVALID_PLUGIN: 'the plugin is malformed or does not verify',
  /** A program failed verification; nothing was run. */
  INVALID_PROGRAM: 'the program failed verification',
  /** A kernel does not compute here what the reference computes: this CPU, or what emulates it, is not as it says. */
  KERNEL_MISMATCH: 'a kernel and the reference disagree',
  /** An arena, allocation or count limit would be exceeded. */
  OUT_OF_MEMORY: 'a memory limit would be exceeded',
  /** A guest or worker passed one of its limits and was stopped. `detail.limit` says which. */
  LIMIT_EXCEEDED: 'a limit was exceeded and the work was stopped',
  /** A worker process died (crash, kill, or protocol violation). A fresh one serves the next call. */
  WORKER_CRASHED: 'the worker process died',
  /** A guest has ended one worker after the other and is refused for a while. `detail.retryAfterMs` says when to try again. */
  GUEST_REFUSED: 'the guest failed too often and is refused for a while',
  /** These inputs have ended several workers in a row; others are served. */
  REQUEST_QUARANTINED: 'these inputs ended several workers and are refused',
  /** Guest code threw, or answered with something that is not of the agreed form. */
  GUEST_FAILED: 'sandboxed code failed',
  /** The caller's signal was aborted. */
  ABORTED: 'the caller cancelled',
  /** There is no room for the request now: its queue is full. Later there may be; `detail.retryAfterMs` says when to try, if known. */
  OVERLOADED: 'too many requests are waiting',
  /** The time that the request was given has passed, or is shorter than its run takes. */
  DEADLINE_EXCEEDED: 'the request cannot be answered in its time',
  /** The object was closed. */
  CLOSED: 'the object is closed',
  /** A request asks for something that the policy does not allow. */
  POLICY_REFUSED: 'the policy does not allow this',
  /** No scope of this name exists in the policy. */
  UNKNOWN_SCOPE: 'no budget scope of this name',
  /** A privacy parameter is not a usable number (NaN, infinite, negative, out of range). */
  DP_INVALID_PARAMETER: 'a privacy parameter is out of range',
  /** Parameters of homomorphic encryption are below the security that is asked for. */
  HE_INSECURE_PARAMETERS: 'the parameters are not secure',
  /** Bytes that claim to be a key, a ciphertext or a message of encrypted inference are not, or belong to other parameters. */
  HE_INVALID_MESSAGE: 'an encrypted message is malformed or does not belong here',
  /** The same idempotency key was used before with another request. */
  IDEMPOTENCY_CONFLICT: 'the idempotency key belongs to another request',
  /** A release with this key was charged and its output was lost; it stays spent. */
  RELEASE_LOST: 'a charged release has no stored output',
  /** A conditional update found another revision than expected. */
  STORE_CONFLICT: 'another writer changed the row first',
  /** A store or log cannot be written or read (disk full, permission, I/O error). */
  STORE_FAILED: 'durable storage failed',
  /** The directory is in use by another process that must be alone. */
  LOCKED: 'another process holds the lock',
  /** The log, a checkpoint, a proof or a signature does not verify, or the log was rolled back. */
  AUDIT_INVALID: 'the audit log does not verify',
  /** A layer of protection that is required is not active here. `detail.layers` names it; the message says why, and what mends it. */
  LAYER_UNAVAILABLE: 'a required layer of protection is not active here',
  /** An optional package or the native binary is missing. `detail.install` is the command that mends it. */
  MISSING_DEPENDENCY: 'an optional part is not installed',
} as const;

/** A code from {@link ERROR_CODES}. */
export type ErrorCode = keyof typeof ERROR_CODES;

/** Shapes, limits, names and counts that explain an error. Never tensor contents, keys or subjects. */
export type ErrorDetail = Readonly<Record<string, unknown>>;

/**
 * Any failure that this library reports. Switch on `code`; `message` says what was expected, what came and where, and what
 * to do when there is something to do.
 *
 * @example
 * A caller that treats a refused model differently from a broken worker.
 * ```ts
 * try {
 *   throw new CloisterError('SHAPE_MISMATCH', 'matmul: [2,3] x [4,5]: inner sizes 3 and 4 differ', { lhs: [2, 3], rhs: [4, 5] });
 * } catch (error) {
 *   if (!isCloisterError(error, 'SHAPE_MISMATCH')) throw error;
 * }
 * ```
 */
export class CloisterError extends Error {
  override readonly name = 'CloisterError';
  readonly code: ErrorCode;
  readonly detail: ErrorDetail;

  constructor(code: ErrorCode, message: string, detail: ErrorDetail = {}, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
    this.detail = Object.freeze({ ...detail });
  }

  /** The form that crosses a process or isolate border, and that `--json` prints. The stack and the cause stay behind. */
  toJSON(): { code: ErrorCode; message: string; detail: ErrorDetail } {
    return { code: this.code, message: this.message, detail: this.detail };
  }
}

/**
 * Whether `error` is a {@link CloisterError}, and, if a code is given, one of that code.
 * @example
 * ```ts
 * const error: unknown = new CloisterError('CLOSED', 'the cloister is closed');
 * isCloisterError(error); // true
 * isCloisterError(error, 'LOCKED'); // false
 * ```
 */
export function isCloisterError(error: unknown, code?: ErrorCode): error is CloisterError {
  return error instanceof CloisterError && (code === undefined || error.code === code);
}

/**
 * Rebuilds an error from what {@link CloisterError.toJSON} made on the far side of a border. The sender is not trusted: an
 * unknown code becomes `fallback`, and the message is cut at 2,000 characters.
 */
export function errorFromJson(value: unknown, fallback: ErrorCode): CloisterError {
  const record = typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  const code = record['code'];
  const message = typeof record['message'] === 'string' ? record['message'].slice(0, 2000) : ERROR_CODES[fallback];
  const detail =
    typeof record['detail'] === 'object' && record['detail'] !== null ? (record['detail'] as ErrorDetail) : {};
  const known = typeof code === 'string' && Object.hasOwn(ERROR_CODES, code) ? (code as ErrorCode) : fallback;
  return new CloisterError(known, message, detail);
}
