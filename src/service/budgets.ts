/**
 * From the budgets of a policy to what the ledger takes.
 * @module
 */
import type { Budget } from '../../privacy/budget/index.ts';
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

function periodOf(
  { days, clockKnownUntil }: NonNullable<BudgetPolicy['perPeriod']>,
  limit: Budget['limit'],
): NonNullable<Budget['perPeriod']> {
  return {
    ...{ limit, days, acknowledgeLifetimeGrowth: true },
    ...(clockKnownUntil !== undefined && { clockKnownUntil: Date.parse(clockKnownUntil) }),
  };
}
