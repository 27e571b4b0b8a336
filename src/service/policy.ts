/**
 * The policy: what a request may do. Written by the operator, as an object or a JSON file; read once, when a cloister opens.
 * @module
 */
import { LAYERS, type LayerName } from '../../sandbox/layers.ts';
import { type Limits, type LimitsInput, limitsSchema } from '../../sandbox/limits.ts';
import { type PluginPolicy, type PluginPolicyInput, pluginPolicySchema } from '../../sandbox/plugins/policy.ts';
import { CloisterError, canonicalJson, type Json, limitOf } from '../base/index.ts';
import * as z from '../base/zod.ts';

/** Names of scopes: path-like, printable, at most 200 characters. */
const scopeName = z
  .string()
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,199}$/,
    'a scope name starts with a letter or digit and holds only A-Z a-z 0-9 . _ / : @ -',
  );

/** What the ledger takes as a limit. */
const limitSchema = z.number().superRefine((epsilon, context) => {
  try {
    limitOf(epsilon);
  } catch (error) {
    context.addIssue({ code: 'custom', message: (error as Error).message });
  }
});

/** The budget of one scope. */
export interface BudgetPolicy {
  /** Lifetime limit of the scope in epsilon, pure differential privacy. Rounded down to whole micro-epsilons. */
  readonly epsilon: number;
  /** The limit was raised on purpose: without this, a policy that raises the limit of an existing scope is refused. */
  readonly acknowledgeRaise: boolean;
}

/** What requests may do, after defaults were filled in. */
export interface Policy {
  /**
   * Where models run. `process` (default): a supervised worker process with an isolate inside. `isolate`: an isolate in this
   * process, for models you trust. `none`: no isolation; recorded with every entry.
   */
  readonly isolation: 'process' | 'isolate' | 'none';
  /** Layers of protection without which nothing starts: see `Capabilities`. Default none. */
  readonly require: readonly LayerName[];
  /** Limits of each model. */
  readonly limits: Limits;
  /** Whether `model.run` may hand raw outputs to the caller. `refuse` (default) leaves only releases under a budget. */
  readonly rawOutputs: 'allow' | 'refuse';
  /** Privacy budgets by scope (default none). A release names the scope that it spends. */
  readonly budgets: Readonly<Record<string, BudgetPolicy>>;
  /** Which plugins may be installed, and what they may be lent (default none). */
  readonly plugins: PluginPolicy;
}

/** A policy as a person writes it: every key but a budget's epsilon may be left out. */
export interface PolicyInput {
  readonly isolation?: Policy['isolation'] | undefined;
  readonly require?: Policy['require'] | undefined;
  readonly limits?: LimitsInput | undefined;
  readonly rawOutputs?: Policy['rawOutputs'] | undefined;
  readonly budgets?:
    | Readonly<Record<string, { readonly epsilon: number; readonly acknowledgeRaise?: boolean | undefined }>>
    | undefined;
  readonly plugins?: PluginPolicyInput | undefined;
}

/** The schema of a policy. Unknown keys are refused: a misspelt protection is worse than none. */
export const policySchema: z.ZodType<Policy, PolicyInput> = z.strictObject({
  isolation: z.enum(['process', 'isolate', 'none']).default('process'),
  require: z.array(z.enum(LAYERS)).default([]),
  limits: limitsSchema.prefault({}),
  rawOutputs: z.enum(['allow', 'refuse']).default('refuse'),
  budgets: z
    .record(scopeName, z.strictObject({ epsilon: limitSchema, acknowledgeRaise: z.boolean().default(false) }))
    .default({}),
  plugins: pluginPolicySchema.prefault({}),
});

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
  const budgets = (input as PolicyInput | undefined)?.budgets;
  // zod skips this one key of a record, and would drop the budget without a word.
  const strays = budgets && Object.hasOwn(budgets, '__proto__') ? ['budgets.__proto__: not the name of a scope'] : [];
  if (result.success && strays.length === 0) return result.data;
  const issues = (result.error?.issues ?? []).map(issue => {
    const reason = issue.code === 'invalid_key' ? (issue.issues[0]?.message ?? issue.message) : issue.message;
    return `${issue.path.length ? issue.path.join('.') : 'policy'}: ${reason}`;
  });
  issues.push(...strays);
  throw new CloisterError('INVALID_POLICY', `the policy does not fit its schema: ${issues.join('; ')}`, { issues });
}

/** The canonical spelling of a policy, whose digest names it in the audit log. */
export function policyText(policy: Policy): string {
  return canonicalJson(policy as unknown as Json);
}
