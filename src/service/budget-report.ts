/**
 * Looking at budgets without opening the service, asking what a spend would cost, and changing a limit.
 * @module
 */
import type { AccountState, Budget, Ledger, LedgerEntry, ScopeState } from '../../privacy/budget/index.ts';
import type { DpEvent } from '../../privacy/dp/index.ts';
import { type Bound, CloisterError, isCloisterError, systemClock } from '../base/index.ts';

/**
 * Returns every scope of the ledger in `dir`, as it stands. May run beside the service.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when there is no ledger; `STORE_FAILED`.
 * @example
 * ```ts
 * const policy = { budgets: { 'clinic-a/2026-q4': { epsilon: 2 } } };
 * await using cloister = await openCloister({ dir: './cloister-data', policy });
 * const [scope] = await readBudgets('./cloister-data');
 * scope?.remaining; // 2000000
 * ```
 */
export async function readBudgets(dir: string): Promise<readonly ScopeState[]> {
  await using opened = await openOffline(dir);
  return await opened.ledger.scopes();
}

/**
 * Returns the history of one scope, oldest entry first. May run beside the service.
 *
 * @throws {CloisterError} `UNKNOWN_SCOPE`; `INVALID_ARGUMENT` when there is no ledger; `STORE_FAILED`.
 * @example
 * ```ts
 * const policy = { budgets: { 'clinic-a/2026-q4': { epsilon: 2 } } };
 * await using cloister = await openCloister({ dir: './cloister-data', policy });
 * const history = await readHistory('./cloister-data', 'clinic-a/2026-q4');
 * history.length; // 1: the scope was opened
 * ```
 */
export async function readHistory(dir: string, scope: string): Promise<readonly LedgerEntry[]> {
  await using opened = await openOffline(dir);
  return await opened.ledger.history(scope);
}

/** How much of a scope was left after an entry. */
export interface BurnPoint {
  readonly seq: number;
  /** Milliseconds since 1970. */
  readonly at: number;
  /** Share of the lifetime's limit of then that was neither spent nor reserved, 0 to 1. */
  readonly left: number;
  readonly refused: boolean;
}

/** A scope, its parts, and how it came to be as it is. */
export interface BudgetReport {
  readonly scope: ScopeState;
  readonly accounts: readonly AccountState[];
  /** Whether each entry of the history holds the one before it, and the totals follow from them. */
  readonly chain: { readonly ok: true; readonly entries: number } | { readonly ok: false; readonly reason: string };
  readonly burnDown: readonly BurnPoint[];
  /** Where there is a limit per period: the most that can be lost over so many of them, in words. */
  readonly worstCase?: { readonly periods: number; readonly lost: string };
}

/**
 * Returns all that is public about one scope. With a limit per period, `periods` (default 12) says over how many of them the worst
 * case is computed. May run beside the service.
 *
 * @throws {CloisterError} `UNKNOWN_SCOPE`; `INVALID_ARGUMENT` when there is no ledger; `STORE_FAILED`.
 * @example
 * ```ts
 * const policy = { budgets: { 'clinic-a/2026-q4': { epsilon: 2 } } };
 * await using cloister = await openCloister({ dir: './cloister-data', policy });
 * const report = await reportBudget('./cloister-data', 'clinic-a/2026-q4');
 * report.scope.shown.remaining; // 'epsilon 2'
 * report.chain.ok; // true
 * ```
 */
export async function reportBudget(
  dir: string,
  name: string,
  { periods = 12 }: { readonly periods?: number } = {},
): Promise<BudgetReport> {
  const { formatAmount, shareOf, verifyHistory, worstOver } = await import('../../privacy/budget/index.ts');
  await using opened = await openOffline(dir);
  const scope = await stateOf(opened.ledger, name);
  const history = await opened.ledger.history(name);
  const accounts = await opened.ledger.accounts(name);
  const { measure, limits } = scope;
  const burnDown = history.map(entry => ({
    seq: entry.seq,
    at: entry.at,
    left: Math.max(0, 1 - shareOf(measure, entry.limit, entry.spent, entry.reserved)),
    refused: entry.kind === 'REFUSE',
  }));
  const verdict = verifyHistory(history);
  const chain = verdict.ok
    ? ({ ok: true, entries: history.length } as const)
    : ({ ok: false, reason: `entry ${verdict.seq}: ${verdict.reason}` } as const);
  const { lifetime, perPeriod } = limits;
  return {
    ...{ scope, accounts, chain, burnDown },
    ...(perPeriod !== undefined && {
      worstCase: { periods, lost: formatAmount(measure, worstOver(lifetime, perPeriod, periods)) },
    }),
  };
}

/** What {@link planBudget} is asked. */
export interface PlanQuestion {
  readonly event: DpEvent;
  /** In an `approx` scope: the delta at which the event is charged. */
  readonly delta?: number;
  /** Steps of a plan that does `event` in each. */
  readonly steps?: number;
}

/** What a spend would cost. Nothing was charged. */
export interface PlanAnswer {
  readonly scope: string;
  readonly measure: ScopeState['measure'];
  /** In units of the measure. */
  readonly cost: ScopeState['remaining'];
  /** In words. */
  readonly shown: { readonly cost: string; readonly remaining: string; readonly limit: string };
  /** How often it fits into what the lifetime has left, one after the other. */
  readonly times: number;
}

/**
 * Answers what `question` would cost in a scope of the ledger in `dir`, and how often it fits. Charges nothing.
 *
 * @throws {CloisterError} `UNKNOWN_SCOPE`; `DP_INVALID_PARAMETER` when the event has no sound cost in the scope's measure;
 *   `INVALID_ARGUMENT` when there is no ledger; `STORE_FAILED`.
 * @example
 * ```ts
 * const policy = { budgets: { ward: { epsilon: 2 } } };
 * await using cloister = await openCloister({ dir: './cloister-data', policy });
 * const event = { kind: 'pure', epsilon: 0.5, neighboring: 'add-remove' } as const;
 * const { shown, times } = await planBudget('./cloister-data', 'ward', { event, steps: 2 });
 * shown.cost; // 'epsilon 1'
 * times; // 2
 * ```
 */
export async function planBudget(dir: string, name: string, question: PlanQuestion): Promise<PlanAnswer> {
  const { costIn, formatAmount, lastingOrder, timesIn } = await import('../../privacy/budget/index.ts');
  await using opened = await openOffline(dir);
  const { measure, adjacency, limit, spent, reserved, remaining } = await stateOf(opened.ledger, name);
  const { steps, delta } = question;
  const event: DpEvent =
    steps === undefined ? question.event : { kind: 'self-composition', event: question.event, count: steps };
  const cost = costIn(measure, event, { adjacency, delta });
  // A curve is shown at the order at which this event lasts longest.
  const place = lastingOrder(remaining, cost);
  const words = (amount: typeof cost): string => formatAmount(measure, amount, place);
  return {
    ...{ scope: name, measure, cost },
    shown: { cost: words(cost), remaining: words(remaining), limit: words(limit) },
    times: timesIn(measure, limit, spent, reserved, cost),
  };
}

/** Who changes a limit, and why: for the audit log. */
export interface LimitOptions {
  /** That the limit may rise. Default false. */
  readonly acknowledgeRaise?: boolean;
  readonly actor: string;
  readonly purpose?: string | undefined;
}

/**
 * Sets the lifetime limit of a scope of the ledger in `dir`, at once and durably, with a record in the audit log; returns the scope after
 * it. A service that runs has the log: change the limit in its policy instead. A policy that says more is refused when it is next opened,
 * unless it acknowledges that it raises the limit.
 *
 * @throws {CloisterError} `LOCKED` while a service runs, and then nothing was changed; `POLICY_REFUSED` when the limit rises and
 *   `acknowledgeRaise` is not set; `UNKNOWN_SCOPE`; `DP_INVALID_PARAMETER` when `bound` is no limit in the scope's measure;
 *   `INVALID_ARGUMENT` when there is no ledger or no log; `AUDIT_INVALID` and `STORE_FAILED` as `openCloister`.
 * @example
 * ```ts
 * const policy = { budgets: { ward: { epsilon: 2 } } };
 * const cloister = await openCloister({ dir: './cloister-data', policy });
 * await cloister.close();
 * const { shown } = await setBudgetLimit('./cloister-data', 'ward', { epsilon: 1.5 }, { actor: 'privacy-desk' });
 * shown.limit; // 'epsilon 1.5'
 * ```
 */
export async function setBudgetLimit(
  dir: string,
  name: string,
  bound: Bound,
  { acknowledgeRaise = false, actor, purpose }: LimitOptions,
): Promise<ScopeState> {
  const [{ limitIn, openLedger }, { withLog }, { limitEvent }, { writeAnchor }] = await Promise.all([
    import('../../privacy/budget/index.ts'),
    import('./audit-desk.ts'),
    import('./budgets.ts'),
    import('./directory.ts'),
  ]);
  const change = withLog(dir, async (log, { store, anchor }) => {
    const ledgerOf = (budgets: readonly Budget[]): Promise<Ledger> =>
      openLedger({
        ...{ store, clock: systemClock, budgets, acknowledgeRaised: acknowledgeRaise ? [name] : [] },
        auditHead: () => log.head(),
        within: async (tx, changes) => {
          for (const changed of changes) await log.append(limitEvent(changed, { actor, purpose }));
          await writeAnchor(tx, log.head(), anchor);
        },
      });
    await using before = await ledgerOf([]);
    const { measure, adjacency, limits, disjointBlocks, periodMs } = await stateOf(before, name);
    const { lifetime: _, perPeriod, ...others } = limits;
    const budget: Budget = {
      ...{ scope: name, measure, adjacency, limit: limitIn(measure, bound), ...others },
      ...(disjointBlocks && { disjointBlocks }),
      ...(perPeriod !== undefined && {
        perPeriod: { limit: perPeriod, days: periodMs! / 86_400_000, acknowledgeLifetimeGrowth: true },
      }),
    };
    await using after = await ledgerOf([budget]);
    return await stateOf(after, name);
  });
  return await change.catch(cause => {
    if (!isCloisterError(cause, 'LOCKED')) throw cause;
    const message = `${dir} is open in a service, which has its audit log: a limit changes on the record only. Stop the service, or set the limit in its policy and start it again; nothing was changed`;
    throw new CloisterError('LOCKED', message, { dir }, { cause });
  });
}

async function stateOf(ledger: Ledger, name: string): Promise<ScopeState> {
  const scopes = await ledger.scopes();
  const found = scopes.find(({ scope }) => scope === name);
  if (found) return found;
  const known = scopes.map(({ scope }) => scope);
  const message = `no scope '${String(name).slice(0, 200)}' in this ledger; it has ${known.join(', ') || 'none'}`;
  throw new CloisterError('UNKNOWN_SCOPE', message, { known });
}

/** The ledger of an existing cloister, with no budgets of its own; a missing one is not made. */
async function openOffline(dir: string): Promise<{ readonly ledger: Ledger } & AsyncDisposable> {
  const [{ openExistingStore }, { openLedger }] = await Promise.all([
    import('./ledger-store.ts'),
    import('../../privacy/budget/index.ts'),
  ]);
  const { store } = await openExistingStore(dir);
  try {
    const ledger = await openLedger({ store, clock: systemClock, budgets: [] });
    const close = async (): Promise<void> => {
      await ledger.close();
      await store.close();
    };
    return { ledger, [Symbol.asyncDispose]: close };
  } catch (error) {
    await store.close();
    throw error;
  }
}
