/**
 * What a bench reports: one row per case.
 * @module
 */
import type { Comparison } from './measure.ts';

/** One result. In JSON exactly so, with `null` where there is nothing. */
export interface Row {
  readonly suite: string;
  readonly case: string;
  /** Of `ours` and `peer`: `µs/call` is better low, `GFLOP/s` and the like are better high. */
  readonly unit: string;
  /** Median; null where we do not run the case yet, and `note` says why. */
  readonly ours: number | null;
  /** Median of the rival, measured in the same run; null where it is not installed, or there is none. */
  readonly peer: number | null;
  readonly peerName: string;
  /** From medians paired by round. Above 1, we are ahead. */
  readonly ratio: number | null;
  readonly threads: number;
  /** How far the rounds' medians lie from `ours` (median absolute deviation), in `unit`. */
  readonly spread: number | null;
  /** Our best single call, in `unit`. */
  readonly best: number | null;
  /**
   * From the best single calls of both sides; above 1, we are ahead. Nearer to the truth than `ratio` where others kept the
   * machine busy, since a best call is one that nobody interrupted.
   */
  readonly bestRatio: number | null;
  /** What the row is held to. */
  readonly holdTo?: Target;
  /** What a reader must know to judge the row. */
  readonly note?: string;
}

/** What a row is held to; all that is named must be met. */
export interface Target {
  /** The least ratio. */
  readonly ratio?: number;
  /** The most that `ours` may be, in the row's unit. */
  readonly atMost?: number;
  /** The least that `ours` may be, in the row's unit. */
  readonly atLeast?: number;
}

/** A condition that the run must meet; the process fails when one does not hold. */
export interface Check {
  readonly name: string;
  readonly ok: boolean;
  /** What was expected, and what came. */
  readonly detail: string;
}

/** Where a suite puts what it finds. */
export interface Report {
  row(row: Row): void;
  check(check: Check): void;
  /** A line for the reader: what was skipped, and why. */
  note(line: string): void;
}

/** What a row is of. */
export type RowHead = Pick<Row, 'suite' | 'case' | 'peerName' | 'threads' | 'holdTo' | 'note'>;

/** A row of times per call, in microseconds unless `unit` is `ms`. */
export function latencyRow(head: RowHead & { unit?: 'µs/call' | 'ms' }, comparison: Comparison): Row {
  const { unit = 'µs/call' } = head;
  const scale = unit === 'ms' ? 1 : 1e3;
  return makeRow({ ...head, unit }, comparison, ms => ms * scale);
}

/** A row of work per second, `workPerCall` of `unit`'s numerator in each call. */
export function rateRow(head: RowHead & { unit: string; workPerCall: number }, comparison: Comparison): Row {
  return makeRow(head, comparison, ms => head.workPerCall / (ms / 1e3));
}

/** A row of something that is not timed by rounds, less of it being better: bytes, or milliseconds of whole processes. */
export function amountRow(
  head: RowHead & { unit: string; best?: number; spread?: number },
  ours: number | null,
  peer: number | null = null,
): Row {
  const { best = null, spread = null, holdTo, note, ...rest } = head;
  return {
    suite: rest.suite,
    case: rest.case,
    unit: rest.unit,
    ours,
    peer,
    peerName: rest.peerName,
    ratio: ours === null || peer === null ? null : peer / ours,
    threads: rest.threads,
    spread,
    best,
    bestRatio: null,
    ...(holdTo !== undefined && { holdTo }),
    ...(note !== undefined && { note }),
  };
}

/** `row` without our side of it, for `reason`. What it is held to stays, and is not met. */
export function refusedRow(row: Row, reason: string): Row {
  return { ...row, ours: null, ratio: null, spread: null, best: null, bestRatio: null, note: reason };
}

/** Whether a row meets what it is held to; undefined where it is held to nothing, or to a ratio without a rival to have it with. */
export function isHeld(row: Row): boolean | undefined {
  const { holdTo } = row;
  if (holdTo === undefined) return undefined;
  if (row.ours === null) return false;
  if (holdTo.atMost !== undefined && row.ours > holdTo.atMost) return false;
  if (holdTo.atLeast !== undefined && row.ours < holdTo.atLeast) return false;
  if (holdTo.ratio === undefined) return true;
  return row.ratio === null ? undefined : row.ratio >= holdTo.ratio;
}

/** What a row is held to, in words: `1.25×, ≥ 98.0`; empty where it is held to nothing. */
export function formatTarget({ ratio, atMost, atLeast }: Target = {}): string {
  const parts: string[] = [];
  if (ratio !== undefined) parts.push(`${ratio}×`);
  if (atMost !== undefined) parts.push(`≤ ${formatNumber(atMost)}`);
  if (atLeast !== undefined) parts.push(`≥ ${formatNumber(atLeast)}`);
  return parts.join(', ');
}

/** The rows as a table for a terminal. */
export function formatRows(rows: readonly Row[]): string {
  const header = [
    'suite',
    'case',
    'unit',
    'ours',
    '±',
    'best',
    'peer',
    'ratio',
    'best ratio',
    'held to',
    '',
    'thr',
    'peer is',
  ];
  const lines = rows.map(row => [
    row.suite,
    row.case,
    row.unit,
    formatNumber(row.ours),
    formatNumber(row.spread),
    formatNumber(row.best),
    formatNumber(row.peer),
    formatRatio(row.ratio),
    formatRatio(row.bestRatio),
    formatTarget(row.holdTo),
    { true: 'yes', false: 'NO', undefined: '' }[`${isHeld(row)}`],
    String(row.threads),
    row.peerName,
  ]);
  const widths = header.map((name, i) => Math.max(name.length, ...lines.map(line => line[i]!.length)));
  const isText = (i: number): boolean => i < 3 || i > 8;
  const format = (line: readonly string[]): string =>
    line
      .map((cell, i) => (isText(i) ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join('  ')
      .trimEnd();
  const notes = rows.filter(row => row.note !== undefined).map(row => `  ${row.suite}/${row.case}: ${row.note}`);
  return [format(header), widths.map(width => '─'.repeat(width)).join('  '), ...lines.map(format), ...notes].join('\n');
}

/** How many of the rows that are held to something meet it, as a sentence; undefined where none is. */
export function summariseHeld(rows: readonly Row[]): string | undefined {
  const verdicts = rows.map(isHeld).filter(verdict => verdict !== undefined);
  if (verdicts.length === 0) return undefined;
  const refused = rows.filter(row => row.holdTo !== undefined && row.ours === null).length;
  const held = verdicts.filter(Boolean).length;
  return `${held} of ${verdicts.length} rows meet what they are held to; ${refused} of the others are not run yet`;
}

/** A number to three digits, `-` for null. */
export function formatNumber(value: number | null): string {
  if (value === null) return '-';
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString('en-GB');
  return String(Number(value.toPrecision(3)));
}

/** A ratio to three digits, `-` for null. */
export function formatRatio(ratio: number | null): string {
  return ratio === null ? '-' : `${ratio.toPrecision(3)}×`;
}

function makeRow(
  { suite, case: name, unit, peerName, threads, holdTo, note }: RowHead & { unit: string },
  { ours, peer, ratio }: Comparison,
  convert: (ms: number) => number,
): Row {
  return {
    suite,
    case: name,
    unit,
    ours: convert(ours.median),
    peer: peer === undefined ? null : convert(peer.median),
    peerName,
    ratio: ratio ?? null,
    threads,
    spread: convert(ours.median) * (ours.spread / ours.median),
    best: convert(ours.best),
    bestRatio: peer === undefined ? null : peer.best / ours.best,
    ...(holdTo !== undefined && { holdTo }),
    ...(note !== undefined && { note }),
  };
}
