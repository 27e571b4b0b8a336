/**
 * What a policy says about a scope, checked, and written into the scope when it differs from what is there.
 * @module
 */
import { CloisterError } from '../../src/base/index.ts';
import { type Book, decode, newScope, record, type ScopeRow } from './book.ts';
import { assertAmount, equal, exceeds, formatAmount, MEASURES, scalarOf } from './currency.ts';
import type { ScopeLimits, ScopeTerms } from './entry.ts';
import type { Budget, LimitChange } from './ledger.ts';
import { isName, show } from './names.ts';

const DAY_MS = 86_400_000;

/**
 * Checks what a policy says about one scope.
 *
 * @throws {CloisterError} `INVALID_POLICY`, `DP_INVALID_PARAMETER`.
 */
export function checkBudget(budget: Budget): void {
  const { scope, measure = 'pure', adjacency = 'add-remove', perPeriod } = budget;
  if (!isName(scope, 200)) {
    throw new CloisterError('INVALID_POLICY', `a scope name has 1 to 200 characters, got ${show(scope)}`);
  }
  const invalid = (message: string): CloisterError =>
    new CloisterError('INVALID_POLICY', `scope '${scope}': ${message}`, { scope });
  if (!MEASURES.includes(measure)) throw invalid(`measure is one of ${MEASURES.join(', ')}, got ${show(measure)}`);
  if (!['add-remove', 'replace-one', 'replace-special'].includes(adjacency)) {
    throw invalid(`adjacency is add-remove, replace-one or replace-special, got ${show(adjacency)}`);
  }
  for (const [name, limit] of Object.entries(limitsOf(budget))) assertAmount(measure, limit, `the ${name} limit`);
  if (!perPeriod) return;
  if (!(Number.isInteger(perPeriod.days) && perPeriod.days >= 1 && perPeriod.days <= 36_525)) {
    throw invalid(`a period has 1 to 36,525 whole days, got ${String(perPeriod.days)}`);
  }
  if (perPeriod.acknowledgeLifetimeGrowth !== true) {
    throw invalid(
      'a limit per period lets the loss grow with every period; say acknowledgeLifetimeGrowth if that is meant',
    );
  }
}

/** Writes the scope, or the limits that the policy changes; returns what changed in a scope that was there. */
export async function applyBudget(
  book: Book,
  budget: Budget,
  raisable: readonly string[],
): Promise<LimitChange | undefined> {
  const { scope } = budget;
  const stored = await book.tx.get('budget.scope', scope);
  const limits = limitsOf(budget);
  const terms = termsOf(budget);
  if (!stored) {
    await record(book, scope, newScope(terms, limits), { kind: 'SCOPE', ...terms, limits });
    return undefined;
  }
  const row = decode<ScopeRow>(stored.value);
  for (const key of ['adjacency', 'measure', 'disjointBlocks', 'periodMs'] as const) {
    // A period may come or go with its limit; its length is how the scope's past was counted.
    if (row.terms[key] === terms[key] || (key === 'periodMs' && !(row.terms[key] && terms[key]))) continue;
    const message = `scope '${scope}' has ${key} ${row.terms[key] ?? 'no'}, the policy says ${terms[key] ?? 'no'}: what was spent was counted so; name a new scope`;
    throw new CloisterError('POLICY_REFUSED', message, { scope, before: row.terms[key], after: terms[key] });
  }
  const names = [...new Set([...Object.keys(row.limits), ...Object.keys(limits)])] as (keyof ScopeLimits)[];
  const same = (name: keyof ScopeLimits): boolean => {
    const [a, b] = [row.limits[name], limits[name]];
    return a === undefined || b === undefined ? a === b : equal(a, b);
  };
  if (names.every(same)) return undefined;
  const risen = names.find(name => {
    const [before, after] = [row.limits[name], limits[name]];
    return before !== undefined && (after === undefined || exceeds(after, before));
  });
  if (risen !== undefined && !raisable.includes(scope)) {
    const [before, after] = [row.limits[risen], limits[risen]];
    const message =
      `scope '${scope}' has a ${risen} limit of ${formatAmount(terms.measure, before!)}, and would get ` +
      `${after === undefined ? 'none' : formatAmount(terms.measure, after)}: a limit rises only where that is acknowledged`;
    throw new CloisterError('POLICY_REFUSED', message, { scope, before, limit: after });
  }
  const after = { ...row, terms: { ...row.terms, ...terms }, limits, limit: limits.lifetime };
  const raised = risen !== undefined;
  const { row: written } = await record(book, scope, after, { kind: 'LIMIT', before: row.limits, limits, raised });
  const { measure } = terms;
  return Object.freeze({
    ...{ scope, measure, raised, entryDigest: written.head },
    ...{ spentScalar: scalarOf(measure, written.spent), limitScalar: scalarOf(measure, written.limit) },
  });
}

function limitsOf({ limit, perBlock, perTenant, perPeriod, perSubject }: Budget): ScopeLimits {
  return {
    lifetime: limit,
    ...(perBlock !== undefined && { perBlock }),
    ...(perTenant !== undefined && { perTenant }),
    ...(perPeriod !== undefined && { perPeriod: perPeriod.limit }),
    ...(perSubject !== undefined && { perSubject }),
  };
}

function termsOf({ measure = 'pure', adjacency = 'add-remove', disjointBlocks, perPeriod }: Budget): ScopeTerms {
  return {
    ...{ unit: 'subject', adjacency, measure },
    ...(disjointBlocks && { disjointBlocks: true }),
    ...(perPeriod && { periodMs: perPeriod.days * DAY_MS }),
  };
}
