/**
 * The policy: what a request may do. Written by the operator, as an object or a JSON file; read once, when a cloister opens.
 * @module
 */
import { z } from 'zod';
import { limitsSchema } from '../../sandbox/index.ts';
import { CloisterError, canonicalJson, type Json } from '../base/index.ts';

/** Names of scopes: path-like, printable, at most 200 characters. */
const scopeName = z
  .string()
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,199}$/,
    'a scope name starts with a letter or digit and holds only A-Z a-z 0-9 . _ / : @ -',
  );

const budgetSchema = z.strictObject({
  /** Lifetime limit of the scope in epsilon, pure differential privacy. Rounded down to whole micro-epsilons. */
  epsilon: z.number(),
  /** The limit was raised on purpose: without this, a policy that raises the limit of an existing scope is refused. */
  acknowledgeRaise: z.boolean().default(false),
});

/** The schema of a policy. Unknown keys are refused: a misspelt protection is worse than none. */
export const policySchema = z.strictObject({
  /**
   * Where models run. `process`: a supervised worker process with an isolate inside. `isolate`: an isolate in this process,
   * for models you trust. `none`: no isolation; never the default, and recorded with every entry.
   */
  isolation: z.enum(['process', 'isolate', 'none']).default('process'),
  /** Limits of each model. */
  limits: limitsSchema.prefault({}),
  /** Whether `model.run` may hand raw outputs to the caller. `refuse` leaves only releases under a budget. */
  rawOutputs: z.enum(['allow', 'refuse']).default('refuse'),
  /** Privacy budgets by scope. A release names the scope that it spends. */
  budgets: z.record(scopeName, budgetSchema).default({}),
});

/** A policy as a person writes it: every key may be left out. */
export type PolicyInput = z.input<typeof policySchema>;

/** A policy after its defaults were filled in. */
export type Policy = z.output<typeof policySchema>;

/**
 * Returns `input` as a checked policy.
 *
 * @throws {CloisterError} `INVALID_POLICY` with the path and reason of everything that does not fit.
 * @example
 * ```ts
 * const policy = parsePolicy({ rawOutputs: 'allow', budgets: { 'clinic-a/2026-q4': { epsilon: 2 } } });
 * policy.isolation; // 'process'
 * ```
 */
export function parsePolicy(input: unknown): Policy {
  const result = policySchema.safeParse(input);
  if (result.success) return result.data;
  const issues = result.error.issues.map(issue => {
    const reason = issue.code === 'invalid_key' ? (issue.issues[0]?.message ?? issue.message) : issue.message;
    return `${issue.path.length ? issue.path.join('.') : 'policy'}: ${reason}`;
  });
  throw new CloisterError('INVALID_POLICY', `the policy does not fit its schema: ${issues.join('; ')}`, { issues });
}

/** The canonical spelling of a policy, whose digest names it in the audit log. */
export function policyText(policy: Policy): string {
  return canonicalJson(policy as unknown as Json);
}
