/**
 * Privacy budgets: scopes with a lifetime limit, and the ledger that reserves, charges and releases against them.
 * @module
 */
export { type LedgerEntry, type ScopeTerms, type Totals, totalsOf } from './entry.ts';
export {
  type Budget,
  type Charge,
  type Ledger,
  type LedgerOptions,
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
