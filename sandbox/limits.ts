/**
 * What a guest may use: one record, and the one error that says it was passed.
 * @module
 */
import { CloisterError } from '../src/base/index.ts';
import * as z from '../src/base/zod.ts';

const DAY_MS = 86_400_000;
const MIB = 1_048_576;

/**
 * The limits of one guest. Every limit is counted for one call (a load, a run, an evaluation), except `memoryMb` and
 * `modelBytes`, which bound what the guest holds at any moment.
 */
export interface Limits {
  /**
   * Milliseconds from the moment a call starts to run until its answer is complete. Waiting behind other calls does not count.
   * Default 30,000.
   */
  readonly wallMs: number;
  /** Milliseconds of processor time of all threads of the worker during the call, seen in steps of 10 to 20 ms. Default 60,000. */
  readonly cpuMs: number;
  /**
   * MiB that the worker may hold resident beyond what an empty worker holds: heap, buffers, weights and arenas together.
   * Default 512.
   */
  readonly memoryMb: number;
  /** Bytes of one answer: all output tensors of a run together, or the text of an evaluation. Default 64 MiB. */
  readonly outputBytes: number;
  /** Messages that guest code may send to its host during a call. Default 1,000. */
  readonly messages: number;
  /** Bytes of all these messages together, as JSON. Default 1 MiB. */
  readonly messageBytes: number;
  /** Bytes of a model file. Default 1 GiB. */
  readonly modelBytes: number;
}

/** Limits as a person writes them: what is left out takes its default. */
export type LimitsInput = { readonly [K in keyof Limits]?: Limits[K] | undefined };

/** The schema of {@link Limits}, with its defaults. Unknown keys are refused. */
export const limitsSchema: z.ZodType<Limits, LimitsInput> = z.strictObject({
  wallMs: z.int().min(1).max(DAY_MS).default(30_000),
  cpuMs: z.int().min(1).max(DAY_MS).default(60_000),
  memoryMb: z.int().min(16).max(1_048_576).default(512),
  outputBytes: z
    .int()
    .min(1)
    .max(0xff00_0000)
    .default(64 * MIB),
  messages: z.int().min(0).max(1_000_000_000).default(1_000),
  messageBytes: z.int().min(0).max(0xff00_0000).default(MIB),
  modelBytes: z
    .int()
    .min(1)
    .max(0xff00_0000)
    .default(1_024 * MIB),
});

/**
 * Returns `input` over `base`, checked.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` with the path and reason of everything that does not fit.
 * @example
 * ```ts
 * parseLimits({ wallMs: 500 }).memoryMb; // 512
 * ```
 */
export function parseLimits(input: LimitsInput = {}, base: Partial<Limits> = {}): Limits {
  const result = limitsSchema.safeParse({ ...base, ...input });
  if (result.success) return Object.freeze(result.data);
  const issues = result.error.issues.map(issue => `${issue.path.join('.') || 'limits'}: ${issue.message}`);
  throw new CloisterError('INVALID_ARGUMENT', `the limits do not fit their schema: ${issues.join('; ')}`, { issues });
}
