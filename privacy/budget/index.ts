/**
 * Privacy budgets: measures of loss, scopes with their limits, and the ledger that reserves, charges and releases against them.
 * @module
 */
export {
  type Amount,
  type Bound,
  type CostContext,
  costIn,
  formatAmount,
  lastingOrder,
  limitIn,
  MEASURES,
  type Measure,
  RDP_ORDERS,
  shareOf,
  timesIn,
  worstOver,
} from './currency.ts';
export {
  type Account,
  type AuditHead,
  digestOfEntry,
  type HistoryVerdict,
  type LedgerEntry,
  type Parties,
  type ScopeLimits,
  type ScopeTerms,
  type Totals,
  totalsOf,
  verifyHistory,
} from './entry.ts';
export { type Filter, type FilterOptions, openFilter } from './filter.ts';
export {
  type AccountState,
  type Budget,
  type Charge,
  type Ledger,
  type LedgerOptions,
  type LimitChange,
  openLedger,
  type Refusal,
  type Replay,
  type Reservation,
  type ScopeState,
  type Settlement,
  type SpendRequest,
  type StepOptions,
} from './ledger.ts';
export { type Liveness, processLiveness } from './liveness.ts';
