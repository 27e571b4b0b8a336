/**
 * From the budgets of a policy to what the ledger takes, and from a change of a limit to what the log says of it.
 * @module
 */
import type { Budget, LimitChange } from '../../privacy/budget/index.ts';
import type { AuditEvent } from '../../sandbox/audit/index.ts';
import { CloisterError, isCloisterError } from '../base/index.ts';
import { type BudgetPolicy, limitsOf, type Policy } from './policy.ts';

/**
 * The scopes of `policy` with their limits in whole units, rounded down.
 *
 * @throws {CloisterError} `INVALID_POLICY` when a limit is too small to be counted.
 */
export async function ledgerBudgets(policy: Pick<Policy, 'budgets'>): Promise<readonly Budget[]> {
  const { limitIn } = await import('../../privacy/budget/index.ts');
  return Object.entries(policy.budgets).map(([scope, budget]) => {
    const { measure, adjacency, disjointBlocks, perPeriod } = budget;
    const amounts = Object.entries(limitsOf(budget)).map(([name, bound]) => {
      try {
        return [name, limitIn(measure, bound)] as const;
      } catch (cause) {
        if (!isCloisterError(cause)) throw cause;
        throw new CloisterError('INVALID_POLICY', `budgets.${scope}, ${name}: ${cause.message}`, { scope }, { cause });
      }
    });
    const { lifetime, perPeriod: periodLimit, ...others } = Object.fromEntries(amounts);
    return {
      ...{ scope, measure, adjacency, limit: lifetime!, ...others },
      ...(disjointBlocks && { disjointBlocks }),
      ...(perPeriod && { perPeriod: periodOf(perPeriod, periodLimit!) }),
    };
  });
}

/** What the audit log says of a change of limits. The ledger's entry that it commits to has all limits, before and after. */
export function limitEvent(
  { scope, measure, raised, spentScalar, limitScalar, entryDigest }: LimitChange,
  by: Pick<AuditEvent, 'actor' | 'purpose' | 'policy'>,
): AuditEvent {
  return {
    ...by,
    action: 'policy',
    object: { kind: 'scope', id: scope },
    decision: { outcome: 'allow', reason: raised ? 'LIMIT_RAISED' : 'LIMIT_LOWERED' },
    budget: { scope, measure, before: spentScalar, after: spentScalar, limit: limitScalar },
    commitments: { ledger: `sha256:${entryDigest}` },
  };
}

function periodOf(
  { days, clockKnownUntil }: NonNullable<BudgetPolicy['perPeriod']>,
  limit: Budget['limit'],
): NonNullable<Budget['perPeriod']> {
  return {
    ...{ limit, days, acknowledgeLifetimeGrowth: true },
    ...(clockKnownUntil !== undefined && { clockKnownUntil: Date.parse(clockKnownUntil) }),
  };
}
