/**
 * Which capabilities are lent, checked. Apart from the capabilities, so that a worker starts without loading the schema.
 * @module
 */
import { CloisterError } from '../../src/base/index.ts';
import * as z from '../../src/base/zod.ts';
import type { Bound } from './capability.ts';
import { CAPABILITY_LIST, type Lent, type LentInput } from './table.ts';

/**
 * The schema of what is lent: capabilities by name, each with options that are whole numbers with a default and a ceiling. Unknown names
 * and options are refused.
 */
export const lentSchema: z.ZodType<Lent, LentInput> = z.strictObject(
  Object.fromEntries(CAPABILITY_LIST.map(({ name, options }) => [name, optionsSchema(options).optional()])),
) as unknown as z.ZodType<Lent, LentInput>;

function optionsSchema(options: Readonly<Record<string, Bound>>): z.ZodType {
  return z.strictObject(
    Object.fromEntries(
      Object.entries(options).map(([name, bound]) => [
        name,
        z.int().min(bound.least).max(bound.most).default(bound.default),
      ]),
    ),
  );
}

/**
 * Returns `input`, checked and complete.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` with the path and reason of everything that does not fit.
 * @example
 * ```ts
 * parseLent({ log: { calls: 10 } }).log?.lineBytes; // 4096
 * parseLent().clock; // undefined
 * ```
 */
export function parseLent(input: LentInput = {}): Lent {
  const result = lentSchema.safeParse(input);
  if (result.success) return Object.freeze(result.data);
  const issues = result.error.issues.map(issue => `${issue.path.join('.') || 'capabilities'}: ${issue.message}`);
  throw new CloisterError('INVALID_ARGUMENT', `the capabilities do not fit their schema: ${issues.join('; ')}`, {
    issues,
  });
}
