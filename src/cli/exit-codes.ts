/**
 * Exit codes by cause, so that a script can tell a spent budget from a broken disk.
 * @module
 */
import { CloisterError, type ErrorCode } from '../base/index.ts';

/** What each exit code means; `cloister --help` prints this table. */
export const EXIT_CODES = {
  ok: 0,
  failed: 1,
  usage: 2,
  verification: 3,
  budget: 4,
  model: 5,
  sandbox: 6,
  storage: 7,
  missing: 8,
} as const;

/** The name of an exit code. */
export type Exit = keyof typeof EXIT_CODES;

/** One line per exit code, for `--help`. */
export const EXIT_MEANINGS: Readonly<Record<Exit, string>> = {
  ok: 'done',
  failed: 'any other failure',
  usage: 'wrong usage, policy or privacy parameter',
  verification: 'the audit log, a receipt or a plugin does not verify',
  budget: 'the budget refused',
  model: 'the model or its inputs were refused',
  sandbox: 'the sandbox stopped the work',
  storage: 'durable storage failed or is in use',
  missing: 'an optional part is not installed',
};

const BY_CODE = {
  INVALID_ARGUMENT: 'usage',
  INVALID_POLICY: 'usage',
  DP_INVALID_PARAMETER: 'usage',
  POLICY_REFUSED: 'usage',
  INVALID_MODEL: 'model',
  MODEL_TOO_LARGE: 'model',
  UNSUPPORTED_MODEL: 'model',
  INVALID_GRAPH: 'model',
  SHAPE_MISMATCH: 'model',
  DTYPE_MISMATCH: 'model',
  INPUT_MISMATCH: 'model',
  INVALID_PLUGIN: 'verification',
  INVALID_PROGRAM: 'sandbox',
  KERNEL_MISMATCH: 'failed',
  OUT_OF_MEMORY: 'sandbox',
  LIMIT_EXCEEDED: 'sandbox',
  WORKER_CRASHED: 'sandbox',
  GUEST_REFUSED: 'sandbox',
  REQUEST_QUARANTINED: 'sandbox',
  GUEST_FAILED: 'sandbox',
  ABORTED: 'failed',
  OVERLOADED: 'failed',
  DEADLINE_EXCEEDED: 'failed',
  CLOSED: 'failed',
  UNKNOWN_SCOPE: 'budget',
  IDEMPOTENCY_CONFLICT: 'budget',
  RELEASE_LOST: 'budget',
  STORE_CONFLICT: 'storage',
  STORE_FAILED: 'storage',
  LOCKED: 'storage',
  AUDIT_INVALID: 'verification',
  LAYER_UNAVAILABLE: 'missing',
  MISSING_DEPENDENCY: 'missing',
} as const satisfies Partial<Record<ErrorCode, Exit>>;

/** The exit code for a thrown value. */
export function exitFor(error: unknown): number {
  if (!(error instanceof CloisterError)) return EXIT_CODES.failed;
  const exits: Partial<Record<ErrorCode, Exit>> = BY_CODE;
  return EXIT_CODES[exits[error.code] ?? 'failed'];
}
