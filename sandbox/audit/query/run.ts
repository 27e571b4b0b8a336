/**
 * A run of consecutive records as an index keeps it: one column for each thing that may be asked, each stored apart, so that a query
 * reads the columns that it needs.
 * @module
 */
import { CloisterError } from '../../../src/base/errors.ts';
import { type FilterTerm, isShortDigest, type RecordFilter, termTexts } from '../filter.ts';
import type { AuditRecord } from '../record.ts';
import { encodeTermTable, type TermTable } from './term-table.ts';

/** A column of texts: of one key of a filter; the digests among all texts; the scopes whose budget was spent or refused. */
export type TermColumn = FilterTerm['key'] | 'digest' | 'spent' | 'denied';

/** The columns that are term tables. */
export const TERM_COLUMNS: readonly TermColumn[] = [
  'actor',
  'action',
  'decision',
  'object',
  'scope',
  'request',
  'model',
  'text', // every text of a record but its digests, in lower case
  'digest', // they are most of the bytes, and few words can occur in one
  'spent',
  'denied',
];

/** The columns that are float64 arrays, and how many numbers a record has in each. */
export const NUMBER_COLUMNS: Readonly<Record<NumberColumn, number>> = {
  times: 1,
  levels: 2, // of a budget before and after; NaN without one
};

/** A column of numbers. */
export type NumberColumn = 'times' | 'levels';

/** A column. */
export type Column = TermColumn | NumberColumn;

/** A run whose columns are read when they are asked for. */
export interface Run {
  /** Position in the log of the first record. */
  readonly first: number;
  /** How many records. */
  readonly records: number;
  terms(column: TermColumn): Promise<TermTable>;
  numbers(column: NumberColumn): Promise<Float64Array>;
}

/** Looks at a run; returns whether it wants more. */
export type Visit = (run: Run) => Promise<boolean>;

/** Calls a visitor with each run of an index, as long as it wants more. The visitor may look at the named columns alone. */
export type Scan = (columns: readonly Column[], visit: Visit) => Promise<void>;

/** The columns of a run, encoded. */
export function encodeRun(records: readonly AuditRecord[]): ReadonlyMap<Column, Uint8Array> {
  const columns = new Map<Column, Uint8Array>();
  for (const column of TERM_COLUMNS) {
    const terms = new Map<string, number[]>();
    records.forEach((record, place) => {
      for (const text of textsOf(record, column)) {
        const places = terms.get(text);
        if (places === undefined) terms.set(text, [place]);
        else if (places.at(-1) !== place) places.push(place);
      }
    });
    columns.set(column, encodeTermTable(terms));
  }
  const times = Float64Array.from(records, record => record.time);
  const levels = Float64Array.from(
    records.flatMap(({ budget }) => (budget ? [budget.before, budget.after] : [NaN, NaN])),
  );
  columns.set('times', new Uint8Array(times.buffer));
  columns.set('levels', new Uint8Array(levels.buffer));
  return columns;
}

/** @throws {CloisterError} `STORE_FAILED` when the bytes are no such column of a run of `records` records. */
export function decodeNumbers(bytes: Uint8Array, column: NumberColumn, records: number): Float64Array {
  const count = NUMBER_COLUMNS[column] * records;
  if (bytes.length !== 8 * count) {
    throw new CloisterError(
      'STORE_FAILED',
      `the index of the log is damaged: ${column} has ${bytes.length} bytes, expected ${8 * count}; delete it, it is made anew`,
    );
  }
  const whole = bytes.byteOffset % 8 === 0 ? bytes : bytes.slice();
  return new Float64Array(whole.buffer, whole.byteOffset, count);
}

/** The columns that `filter` looks at. */
export function columnsOf(filter: RecordFilter): readonly Column[] {
  const columns: Column[] = filter.terms.flatMap(columnsFor);
  return filter.since === undefined && filter.until === undefined ? columns : ['times', ...columns];
}

/** Which records of a run `filter` asks for: 1 in the place of each. Undefined: none of them. */
export async function selected(run: Run, filter: RecordFilter): Promise<Uint8Array | undefined> {
  const { since = -Infinity, until = Infinity, terms } = filter;
  const mask = new Uint8Array(run.records).fill(1);
  if (since !== -Infinity || until !== Infinity) {
    const times = await run.numbers('times');
    for (let i = 0; i < mask.length; i++) if (!(times[i]! >= since && times[i]! < until)) mask[i] = 0;
    if (!mask.includes(1)) return undefined;
  }
  const asked = Map.groupBy(
    terms.filter(term => !term.exclude && term.key !== 'text'),
    term => term.key,
  );
  for (const alternatives of asked.values()) {
    const either = new Uint8Array(run.records);
    for (const term of alternatives) await mark(run, term, either, 1);
    if (!keep(mask, either)) return undefined;
  }
  // The words of a search last: their column is by far the largest, and few records may be left.
  for (const term of terms.filter(term => term.exclude).sort(textLast)) {
    await mark(run, term, mask, 0);
    if (!mask.includes(1)) return undefined;
  }
  for (const term of terms.filter(term => !term.exclude && term.key === 'text')) {
    const having = new Uint8Array(run.records);
    await mark(run, term, having, 1);
    if (!keep(mask, having)) return undefined;
  }
  return mask;
}

function textLast(a: FilterTerm, b: FilterTerm): number {
  return Number(a.key === 'text') - Number(b.key === 'text');
}

/** Writes `bit` where `term` holds. */
async function mark(run: Run, term: FilterTerm, mask: Uint8Array, bit: 0 | 1): Promise<void> {
  const { key } = term;
  const match = key === 'text' ? 'has' : isShortDigest(key, term.value) ? 'begins' : 'is';
  const value = key === 'text' ? term.value.toLowerCase() : term.value;
  for (const column of columnsFor(term)) {
    const table = await run.terms(column);
    for (const index of table.find(match, value)) for (const place of table.places(index)) mask[place] = bit;
  }
}

/** The columns that can hold what `term` asks for. */
function columnsFor({ key, value }: FilterTerm): readonly TermColumn[] {
  return key === 'text' && OF_DIGEST.test(value.toLowerCase()) ? ['text', 'digest'] : [key];
}

const DIGEST = /^sha256:[0-9a-f]{64}$/;
/** A word of the characters that a digest has. */
const OF_DIGEST = /^[sh:0-9a-f]*$/;

/** Takes out of `mask` what `other` has not. Returns whether anything is left. */
function keep(mask: Uint8Array, other: Uint8Array): boolean {
  let left = 0;
  for (let i = 0; i < mask.length; i++) left |= mask[i]! &= other[i]!;
  return left === 1;
}

function textsOf(record: AuditRecord, column: TermColumn): readonly string[] {
  const { budget, decision } = record;
  switch (column) {
    case 'text':
      return termTexts(record, 'text')
        .filter(text => !DIGEST.test(text))
        .map(text => text.toLowerCase());
    case 'digest':
      return termTexts(record, 'text').filter(text => DIGEST.test(text));
    case 'spent':
      return decision.outcome === 'allow' && budget && record.action !== 'policy' ? [budget.scope] : [];
    case 'denied':
      return decision.outcome === 'refuse' ? termTexts(record, 'scope').slice(0, 1) : [];
    default:
      return termTexts(record, column);
  }
}
