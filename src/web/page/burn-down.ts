/**
 * When a budget will be spent, from how it was spent. Pure.
 * @module
 */
import type { BurnDown } from '../../../sandbox/audit/query/log-index.ts';

/** How fast a budget was spent of late, and when it will be gone at that rate. */
export interface Projection {
  /** Micro-epsilon a day. */
  readonly perDay: number;
  /** The span that the rate was taken from, milliseconds since 1970. */
  readonly from: number;
  readonly to: number;
  /** Milliseconds since 1970; undefined where the limit is not known. */
  readonly exhausted: number | undefined;
}

const DAY_MS = 86_400_000;
/** The rate is that of the last part of what was observed: spending changes. */
const LATE_SHARE = 0.5;

/**
 * Projects the later half of the observed time onwards at its mean rate; undefined where fewer than two charges, or no time between
 * them, say nothing of a rate, or the clock of the log went back.
 */
export function project({ charges }: Pick<BurnDown, 'charges'>, limit: number | undefined): Projection | undefined {
  const first = charges[0];
  const last = charges.at(-1);
  if (first === undefined || last === undefined || last.time <= first.time) return undefined;
  const since = last.time - (last.time - first.time) * LATE_SHARE;
  const start = charges.findLast(charge => charge.time <= since) ?? first;
  const spent = last.after - start.after;
  if (!(last.time > start.time) || spent <= 0) return undefined;
  const perMs = spent / (last.time - start.time);
  const exhausted = limit === undefined ? undefined : last.time + Math.max(0, limit - last.after) / perMs;
  return { perDay: perMs * DAY_MS, from: start.time, to: last.time, exhausted };
}
