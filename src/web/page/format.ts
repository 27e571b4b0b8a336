/**
 * Numbers and times as the page shows them. Times are in UTC, as filters are.
 * @module
 */
import type { AuditRecord } from '../../../sandbox/audit/record.ts';
import { isoTime } from '../../base/clock.ts';

/** A count with its thousands apart. */
export function count(value: number): string {
  return value.toLocaleString('en');
}

/** `2026-11-21 09:30:12.123`. */
export function time(ms: number): string {
  return isoTime(ms).replace('T', ' ').replace(/Z$/, '');
}

/** `2026-11-21 09:30`. */
export function minute(ms: number): string {
  return time(ms).slice(0, 16);
}

/** What amounts of a budget are in; records without one are in `pure`. */
export type Measure = NonNullable<NonNullable<AuditRecord['budget']>['measure']>;

/** What amounts of a measure are called, and how many units are one of it (`AuditRecord.budget`). */
const MEASURES: Readonly<Record<Measure, readonly [sign: string, units: number]>> = {
  pure: ['ε', 1e6],
  approx: ['ε', 1e6],
  zcdp: ['ρ', 1e12],
  gdp: ['μ²', 1e12],
  rdp: ['R₂', 1e12], // Rényi divergence at order 2
};

/** An amount as a number of its measure. */
export function inMeasure(amount: number, measure: Measure = 'pure'): number {
  return amount / MEASURES[measure][1];
}

/** An amount with its sign, `ε 0.5`. */
export function amountText(amount: number, measure: Measure = 'pure'): string {
  return `${MEASURES[measure][0]} ${Number(inMeasure(amount, measure).toPrecision(6))}`;
}

/** `record` or `records`. */
export function records(value: number): string {
  return `${count(value)} ${value === 1 ? 'record' : 'records'}`;
}
