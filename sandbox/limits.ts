/**
 * What a guest may use: one record, and the one error that says it was passed.
 * @module
 */
import { z } from 'zod';
import { CloisterError } from '../src/base/index.ts';

const DAY_MS = 86_400_000;
const MIB = 1_048_576;

/**
 * The schema of the limits of one guest. Every limit is counted for one call (a load, a run, an evaluation), except
 * `memoryMb` and `modelBytes`, which bound what the guest holds at any moment. Unknown keys are refused.
 */
export const limitsSchema = z.strictObject({
  /** Milliseconds from the moment a call starts to run until its answer is complete. Waiting behind other calls does not count. */
  wallMs: z.int().min(1).max(DAY_MS).default(30_000),
  /** Milliseconds of processor time of all threads of the worker during the call, seen in steps of 10 to 20 ms. */
  cpuMs: z.int().min(1).max(DAY_MS).default(60_000),
  /** MiB that the worker may hold resident beyond what an empty worker holds: heap, buffers, weights and arenas together. */
  memoryMb: z.int().min(16).max(1_048_576).default(512),
  /** Bytes of one answer: all output tensors of a run together, or the text of an evaluation. */
  outputBytes: z
    .int()
    .min(1)
    .max(0xff00_0000)
    .default(64 * MIB),
  /** Bytes of a model file. */
  modelBytes: z
    .int()
    .min(1)
    .max(0xff00_0000)
    .default(1024 * MIB),
});

/** Limits as a person writes them: what is left out takes its default. */
export type LimitsInput = z.input<typeof limitsSchema>;

/** Limits with every default filled in. */
export type Limits = Readonly<z.output<typeof limitsSchema>>;

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
