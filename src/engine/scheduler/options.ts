/**
 * What a scheduler, a served executable and a request may be told.
 * @module
 */
import { CloisterError } from '../../base/index.ts';
import * as z from '../../base/zod.ts';

/** The priority classes, the most urgent first. */
export const PRIORITY_CLASSES = ['interactive', 'standard', 'batch'] as const;

/** How urgent a request is: someone waits for it; a program waits for it; it is work for when there is nothing else. */
export type PriorityClass = (typeof PRIORITY_CLASSES)[number];

/** How a scheduler shares out the machine, after defaults were filled in. */
export interface SchedulerOptions {
  /** The most bytes that running requests may need together, by their declared or estimated needs. Default: no limit. */
  readonly limitBytes: number;
  /** The most threads that running requests may use together. Default 1: one run at a time. */
  readonly limitThreads: number;
  /** The most requests of each class that may wait. Default 256, 1,024 and 4,096. */
  readonly capacity: Readonly<Record<PriorityClass, number>>;
  /**
   * Milliseconds after which a class that has requests waiting, and had no turn, gets one ahead of more urgent classes; where runs are
   * long, at least as many as 4 and 16 of them take. Default 25 and 100.
   */
  readonly ageingMs: Readonly<Record<'standard' | 'batch', number>>;
  /**
   * Milliseconds for which smaller requests may overtake one whose turn it is, but for which there are not enough bytes or threads
   * free. After that nothing starts before it. Default 50.
   */
  readonly overtakeMs: number;
  /** The share of a tenant among those of its class, by name, from 0.001 to 1,000. Default 1 for each. */
  readonly weights: Readonly<Record<string, number>>;
}

/** {@link SchedulerOptions} as a person writes them: what is left out takes its default. */
export interface SchedulerOptionsInput {
  readonly limitBytes?: number | undefined;
  readonly limitThreads?: number | undefined;
  readonly capacity?: { readonly [K in PriorityClass]?: number | undefined } | undefined;
  readonly ageingMs?: { readonly standard?: number | undefined; readonly batch?: number | undefined } | undefined;
  readonly overtakeMs?: number | undefined;
  readonly weights?: Readonly<Record<string, number>> | undefined;
}

/** Whose requests share a batch: each tenant's alone, or those of all. */
export type BatchTenants = 'apart' | 'together';

/** How requests for one executable are joined. */
export interface BatchOptions {
  /** The most rows of one batch, at least 2. A request with as many rows or more runs alone. */
  readonly maxBatch: number;
  /**
   * Milliseconds that a request may wait for others to join it while the machine is free for it. Default 0: only requests that have
   * to wait anyway are joined.
   */
  readonly maxDelayMs: number;
  /**
   * `apart` (default): a batch holds requests of one tenant. `together`: of all; for an executable whose rows are known not to
   * depend on each other.
   */
  readonly tenants: BatchTenants;
  /**
   * How many of the first batches are checked: their requests run alone as well, and get those outputs; where the batch gave others,
   * nothing is joined any more. Default 3.
   */
  readonly checks: number;
}

/** What a scheduler is told of an executable, after defaults were filled in. */
export interface ServeOptions {
  /** Names it in messages. Default `model`. */
  readonly name: string;
  /** Threads that one run uses. Default 1. */
  readonly threads: number;
  /** The most runs of it at once. Default: as many as there are threads and bytes for. */
  readonly limitRuns: number;
  /**
   * Bytes that one request needs while it runs, its weights not counted. Default: what the executable reports for activations and
   * workspace, with the bytes of the inputs; four times the bytes of the inputs where it reports nothing.
   */
  readonly needBytes?: number | undefined;
  /** What one request counts in its tenant's share. Default: the mean milliseconds of its runs so far, for each row. */
  readonly cost?: number | undefined;
  /** Whether requests are joined along the first dimension of every input. Default: they are not. */
  readonly batch?: BatchOptions | undefined;
}

/** {@link ServeOptions} as a person writes them. */
export interface ServeOptionsInput {
  readonly name?: string | undefined;
  readonly threads?: number | undefined;
  readonly limitRuns?: number | undefined;
  readonly needBytes?: number | undefined;
  readonly cost?: number | undefined;
  readonly batch?:
    | {
        readonly maxBatch: number;
        readonly maxDelayMs?: number | undefined;
        readonly tenants?: BatchTenants | undefined;
        readonly checks?: number | undefined;
      }
    | undefined;
}

/** What one request is told. */
export interface RequestOptions {
  /** Whose it is: 1 to 256 characters. Default `default`. */
  readonly tenant?: string;
  /** Default `standard`. */
  readonly priority?: PriorityClass;
  /** Milliseconds from now within which the answer is wanted, above 0. Default: it never comes too late. */
  readonly timeoutMs?: number;
  /** Cancels it, while it waits and while it runs. */
  readonly signal?: AbortSignal;
  /** Instead of what the executable was served with. */
  readonly needBytes?: number;
  /** Instead of what the executable was served with. */
  readonly cost?: number;
}

const count = z.int().min(1);
const durationMs = z.number().min(0).max(86_400_000);

/** Bounds of costs and of shares: near enough to each other that small ones are not lost in the sums that they are added to. */
export const COST: { readonly min: number; readonly max: number } = { min: 1e-3, max: 1e6 };
const SHARE = { min: 1e-3, max: 1e3 };

/** The schema of {@link SchedulerOptions}, with its defaults. Unknown keys are refused. */
export const schedulerOptionsSchema: z.ZodType<SchedulerOptions, SchedulerOptionsInput> = z.strictObject({
  limitBytes: count.default(Number.MAX_SAFE_INTEGER),
  limitThreads: count.max(65_536).default(1),
  capacity: z
    .strictObject({
      interactive: count.max(1_000_000).default(256),
      standard: count.max(1_000_000).default(1_024),
      batch: count.max(1_000_000).default(4_096),
    })
    .prefault({}),
  ageingMs: z.strictObject({ standard: durationMs.default(25), batch: durationMs.default(100) }).prefault({}),
  overtakeMs: durationMs.default(50),
  weights: z.record(z.string().min(1).max(256), z.number().min(SHARE.min).max(SHARE.max)).default({}),
});

/** The schema of {@link ServeOptions}, with its defaults. Unknown keys are refused. */
export const serveOptionsSchema: z.ZodType<ServeOptions, ServeOptionsInput> = z.strictObject({
  name: z.string().min(1).max(256).default('model'),
  threads: count.max(65_536).default(1),
  limitRuns: count.default(Number.MAX_SAFE_INTEGER),
  needBytes: z.int().min(0).optional(),
  cost: z.number().min(COST.min).max(COST.max).optional(),
  batch: z
    .strictObject({
      maxBatch: z.int().min(2).max(65_536),
      maxDelayMs: durationMs.default(0),
      tenants: z.enum(['apart', 'together']).default('apart'),
      checks: z.int().min(0).max(1_000).default(3),
    })
    .optional(),
});

/**
 * Returns `input` as `schema` gives it.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` with the path and reason of everything that does not fit.
 */
export function parseOptions<T>(schema: z.ZodType<T>, what: string, input: unknown): T {
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  const issues = result.error.issues.map(issue => `${issue.path.join('.') || what}: ${issue.message}`);
  throw new CloisterError('INVALID_ARGUMENT', `${what}: ${issues.join('; ')}`, { issues });
}

/**
 * Returns `options` with defaults. Written out: a schema would take longer than all the rest of a request.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT`.
 */
export function checkRequest(options: RequestOptions): {
  readonly tenant: string;
  readonly priority: PriorityClass;
  readonly timeoutMs: number;
} {
  if (typeof options !== 'object' || options === null) throw invalid('options', 'an object', options);
  for (const key in options) if (!REQUEST_KEYS.has(key)) throw invalid('options', 'no key of another name', key);
  const { tenant = 'default', priority = 'standard', timeoutMs = Number.POSITIVE_INFINITY } = options;
  const { signal, needBytes, cost } = options;
  if (typeof tenant !== 'string' || tenant.length < 1 || tenant.length > 256)
    throw invalid('tenant', '1 to 256 characters', tenant);
  if (!PRIORITY_CLASSES.includes(priority)) throw invalid('priority', PRIORITY_CLASSES.join(', '), priority);
  if (!(typeof timeoutMs === 'number' && timeoutMs > 0)) throw invalid('timeoutMs', 'a number above 0', timeoutMs);
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw invalid('signal', 'an AbortSignal', signal);
  if (needBytes !== undefined && !(Number.isSafeInteger(needBytes) && needBytes >= 0))
    throw invalid('needBytes', 'a whole number of bytes', needBytes);
  if (cost !== undefined && !(typeof cost === 'number' && cost >= COST.min && cost <= COST.max))
    throw invalid('cost', `a number from ${COST.min} to ${COST.max}`, cost);
  return { tenant, priority, timeoutMs };
}

const REQUEST_KEYS: ReadonlySet<string> = new Set([
  'tenant',
  'priority',
  'timeoutMs',
  'signal',
  'needBytes',
  'cost',
] satisfies (keyof RequestOptions)[]);

function invalid(what: string, expected: string, got: unknown): CloisterError {
  const shown =
    typeof got === 'number' ? String(got) : typeof got === 'string' ? JSON.stringify(got.slice(0, 50)) : typeof got;
  return new CloisterError('INVALID_ARGUMENT', `${what}: expected ${expected}, got ${shown}`);
}
