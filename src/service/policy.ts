/**
 * The policy: what a request may do. Written by the operator, as an object or a JSON file; read once, when a cloister opens.
 * @module
 */
import { LAYERS, type LayerName } from '../../sandbox/layers.ts';
import { type Limits, type LimitsInput, limitsSchema } from '../../sandbox/limits.ts';
import { type PluginPolicy, type PluginPolicyInput, pluginPolicySchema } from '../../sandbox/plugins/policy.ts';
import {
  type Bound,
  boundProblem,
  CloisterError,
  canonicalJson,
  type Json,
  MEASURES,
  type Measure,
} from '../base/index.ts';
import * as z from '../base/zod.ts';

/** Names of scopes: path-like, printable, at most 200 characters. */
const scopeName = z
  .string()
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,199}$/,
    'a scope name starts with a letter or digit and holds only A-Z a-z 0-9 . _ / : @ -',
  );

/** A limit of a scope that differs by block, tenant, subject or period. */
const boundShape = {
  epsilon: z.number().optional(),
  delta: z.number().optional(),
  rho: z.number().optional(),
  mu: z.number().optional(),
};

const budgetSchema = z
  .strictObject({
    measure: z.enum(MEASURES).default('pure'),
    adjacency: z.enum(['add-remove', 'replace-one', 'replace-special']).default('add-remove'),
    ...boundShape,
    perBlock: z.strictObject(boundShape).optional(),
    disjointBlocks: z.boolean().default(false),
    perTenant: z.strictObject(boundShape).optional(),
    perSubject: z.strictObject(boundShape).optional(),
    perPeriod: z
      .strictObject({
        ...boundShape,
        days: z.number().int().min(1).max(36_525),
        acknowledgeLifetimeGrowth: z.literal(true),
        clockKnownUntil: z
          .string()
          .regex(/^\d{4}-\d{2}-\d{2}$/, 'a date is written as 2027-01-31')
          .optional(),
      })
      .optional(),
    acknowledgeRaise: z.boolean().default(false),
  })
  .superRefine((budget, context) => {
    for (const [key, bound] of Object.entries(limitsOf(budget))) {
      const message = boundProblem(budget.measure, bound);
      if (message !== undefined) context.addIssue({ code: 'custom', message, path: pathOf(key, message, bound) });
    }
  });

/** The budget of one scope. Its own epsilon, delta, rho or mu are the limit for its whole life. */
export interface BudgetPolicy extends Bound {
  /** What is counted: epsilon (`pure`), epsilon and delta (`approx`), rho (`zcdp`), a Rényi curve (`rdp`), mu (`gdp`). Default `pure`. */
  readonly measure: Measure;
  /** When two data sets are neighbours. Statistics of predictions hold for `add-remove`. Default `add-remove`. */
  readonly adjacency: 'add-remove' | 'replace-one' | 'replace-special';
  /** Limit for each block of data that a release names. */
  readonly perBlock?: Bound | undefined;
  /** No subject is in two blocks, so the lifetime's limit holds for each block. Default false. */
  readonly disjointBlocks: boolean;
  /** Limit for each actor. */
  readonly perTenant?: Bound | undefined;
  /** Limit for each subject; one that has nothing left is silently left out. */
  readonly perSubject?: Bound | undefined;
  /** Limit for each period of `days`: the data are the same, so the loss grows with each period, up to the lifetime's limit. */
  readonly perPeriod?: PeriodPolicy | undefined;
  /** The limits were raised on purpose: without this, a policy that raises a limit of an existing scope is refused. */
  readonly acknowledgeRaise: boolean;
}

/** A limit that starts anew with each period. */
export interface PeriodPolicy extends Bound {
  readonly days: number;
  readonly acknowledgeLifetimeGrowth: true;
  /** A date, such as `2027-01-31`, up to which a clock that jumped over more than one period is right. */
  readonly clockKnownUntil?: string | undefined;
}

/** Every limit of a budget, by what it is for. */
export function limitsOf(budget: Bound & Partial<Pick<BudgetPolicy, LimitName>>): Readonly<Record<string, Bound>> {
  const { epsilon, delta, rho, mu } = budget;
  const named = (['perBlock', 'perTenant', 'perSubject', 'perPeriod'] as const).flatMap(name => {
    const bound = budget[name];
    return bound ? [[name, { epsilon: bound.epsilon, delta: bound.delta, rho: bound.rho, mu: bound.mu }] as const] : [];
  });
  return { lifetime: { epsilon, delta, rho, mu }, ...Object.fromEntries(named) };
}

type LimitName = 'perBlock' | 'perTenant' | 'perSubject' | 'perPeriod';

/** Where in a budget a problem with one of its limits is. */
function pathOf(limit: string, message: string, bound: Bound): string[] {
  const field = Object.keys(bound).find(name => message.startsWith(`${name} is`));
  return [...(limit === 'lifetime' ? [] : [limit]), ...(field ? [field] : [])];
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

/** A budget as a person writes it: every key but the numbers of its limit may be left out. */
export type BudgetInput = { readonly [K in keyof BudgetPolicy]?: BudgetPolicy[K] | undefined };

/** A policy as a person writes it: every key may be left out. */
export interface PolicyInput {
  readonly isolation?: Policy['isolation'] | undefined;
  readonly require?: Policy['require'] | undefined;
  readonly limits?: LimitsInput | undefined;
  readonly rawOutputs?: Policy['rawOutputs'] | undefined;
  readonly budgets?: Readonly<Record<string, BudgetInput>> | undefined;
  readonly plugins?: PluginPolicyInput | undefined;
  /** Where an editor finds the JSON schema of policies. */
  readonly $schema?: string | undefined;
}

/** The schema of a policy. Unknown keys are refused: a misspelt protection is worse than none. */
export const policySchema: z.ZodType<Policy, PolicyInput> = z.strictObject({
  isolation: z.enum(['process', 'isolate', 'none']).default('process'),
  require: z.array(z.enum(LAYERS)).default([]),
  limits: limitsSchema.prefault({}),
  rawOutputs: z.enum(['allow', 'refuse']).default('refuse'),
  budgets: z.record(scopeName, budgetSchema).default({}),
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
  const result = policySchema.safeParse(withoutSchema(input));
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

/** `input` without the key by which editors find the schema. */
function withoutSchema(input: unknown): unknown {
  if (typeof input !== 'object' || input === null || !Object.hasOwn(input, '$schema')) return input;
  const { $schema: _, ...rest } = input as Record<string, unknown>;
  return rest;
}

/** The canonical spelling of a policy, whose digest names it in the audit log. */
export function policyText(policy: Policy): string {
  return canonicalJson(policy as unknown as Json);
}
