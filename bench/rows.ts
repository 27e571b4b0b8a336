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
  /** Median. */
  readonly ours: number;
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
  /** What a reader must know to judge the row. */
  readonly note?: string;
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
export type RowHead = Pick<Row, 'suite' | 'case' | 'peerName' | 'threads' | 'note'>;

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

function makeRow(
  { suite, case: name, unit, peerName, threads, note }: RowHead & { unit: string },
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
    ...(note !== undefined && { note }),
  };
}

/** The rows as a table for a terminal. */
export function formatRows(rows: readonly Row[]): string {
  const header = ['suite', 'case', 'unit', 'ours', '±', 'best', 'peer', 'ratio', 'best ratio', 'thr', 'peer is'];
  const lines = rows.map(row => [
    row.suite,
    row.case,
    row.unit,
    number(row.ours),
    number(row.spread),
    number(row.best),
    number(row.peer),
    times(row.ratio),
    times(row.bestRatio),
    String(row.threads),
    row.peerName,
  ]);
  const widths = header.map((name, i) => Math.max(name.length, ...lines.map(line => line[i]!.length)));
  const isText = (i: number): boolean => i < 3 || i === 10;
  const format = (line: readonly string[]): string =>
    line
      .map((cell, i) => (isText(i) ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join('  ')
      .trimEnd();
  const notes = rows.filter(row => row.note !== undefined).map(row => `  ${row.suite}/${row.case}: ${row.note}`);
  return [format(header), widths.map(width => '─'.repeat(width)).join('  '), ...lines.map(format), ...notes].join('\n');
}

function number(value: number | null): string {
  if (value === null) return '-';
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString('en-GB');
  return value.toPrecision(3);
}

function times(ratio: number | null): string {
  return ratio === null ? '-' : `${ratio.toPrecision(3)}×`;
}
