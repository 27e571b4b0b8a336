/**
 * What an index counts over its runs: records over time, what was spent, which values there are.
 * @module
 */
import type { RecordFilter } from '../filter.ts';
import type { BurnDown, Histogram, ValueCount, ValueKey } from './log-index.ts';
import { columnsOf, type Scan, selected } from './run.ts';
import type { TermTable } from './term-table.ts';

/** Distinct values that are counted before older records are left out. */
const DISTINCT_LIMIT = 20_000;

/** See `LogIndex.histogram`. */
export async function histogramOf(scan: Scan, filter: RecordFilter, buckets: number): Promise<Histogram> {
  const hits: { readonly mask: Uint8Array; readonly times: Float64Array; readonly refused: Uint8Array }[] = [];
  let earliest = Infinity;
  let latest = -Infinity;
  await scan(['times', 'decision', ...columnsOf(filter)], async run => {
    const mask = await selected(run, filter);
    if (mask === undefined) return true;
    const times = await run.numbers('times');
    const decision = await run.terms('decision');
    const refused = new Uint8Array(run.records);
    for (const index of decision.find('is', 'refuse')) for (const place of decision.places(index)) refused[place] = 1;
    for (let i = 0; i < mask.length; i++) {
      if (mask[i] === 0) continue;
      if (times[i]! < earliest) earliest = times[i]!;
      if (times[i]! > latest) latest = times[i]!;
    }
    hits.push({ mask, times, refused });
    return true;
  });
  const from = filter.since ?? (hits.length > 0 ? earliest : undefined);
  const to = filter.until ?? (hits.length > 0 ? latest + 1 : undefined);
  if (from === undefined || to === undefined || to <= from)
    return { from: 0, to: 0, widthMs: 1, allow: [], refuse: [] };
  const widthMs = Math.max(1, Math.ceil((to - from) / buckets));
  const count = Math.min(buckets, Math.ceil((to - from) / widthMs));
  const allow = new Array<number>(count).fill(0);
  const refuse = new Array<number>(count).fill(0);
  for (const { mask, times, refused } of hits) {
    for (let i = 0; i < mask.length; i++) {
      if (mask[i] === 0) continue;
      const bucket = Math.min(count - 1, Math.floor((times[i]! - from) / widthMs));
      if (refused[i] === 1) refuse[bucket]!++;
      else allow[bucket]!++;
    }
  }
  return { from, to, widthMs, allow, refuse };
}

/** See `LogIndex.budgets`. */
export async function budgetsOf(scan: Scan, limitPoints: number): Promise<readonly BurnDown[]> {
  const charged = new Map<string, number>();
  const refused = new Map<string, number>();
  await scan(['spent', 'denied'], async run => {
    addCounts(charged, await run.terms('spent'), '');
    addCounts(refused, await run.terms('denied'), '');
    return true;
  });
  const scopes = new Map(
    [...charged.keys(), ...refused.keys()].sort().map(scope => [
      scope,
      {
        charged: charged.get(scope) ?? 0,
        refused: refused.get(scope) ?? 0,
        charges: [] as BurnDown['charges'][number][],
        refusals: [] as BurnDown['refusals'][number][],
      },
    ]),
  );
  const someCharges = new Thinning(charged, limitPoints);
  const someRefusals = new Thinning(refused, limitPoints);
  await scan(['spent', 'denied', 'times', 'levels', 'decision'], async run => {
    const times = await run.numbers('times');
    const levels = await run.numbers('levels');
    for (const { text, places } of (await run.terms('spent')).all()) {
      for (const place of someCharges.of(text, places)) {
        const [before = 0, after = 0] = levels.subarray(2 * place);
        scopes.get(text)?.charges.push({ seq: run.first + place, time: times[place]!, before, after });
      }
    }
    const denied = await run.terms('denied');
    const reasons = denied.size === 0 ? [] : reasonsOf(run.records, await run.terms('decision'));
    for (const { text, places } of denied.all()) {
      for (const place of someRefusals.of(text, places))
        scopes.get(text)?.refusals.push({ seq: run.first + place, time: times[place]!, reason: reasons[place]! });
    }
    return true;
  });
  return [...scopes].map(([scope, spent]) => ({ scope, ...spent }));
}

/** The reason in the decision of each record of a run. */
function reasonsOf(records: number, decisions: TermTable): string[] {
  const reasons = new Array<string>(records).fill('');
  for (const { text, places } of decisions.all())
    if (text !== 'allow' && text !== 'refuse') for (const place of places) reasons[place] = text;
  return reasons;
}

function addCounts(counts: Map<string, number>, table: TermTable, prefix: string): void {
  for (const index of table.find('begins', prefix)) {
    const text = table.text(index);
    counts.set(text, (counts.get(text) ?? 0) + table.places(index).length);
  }
}

/** See `LogIndex.values`. */
export async function valuesOf(
  scan: Scan,
  key: ValueKey,
  prefix: string,
  limit: number,
): Promise<readonly ValueCount[]> {
  const counts = new Map<string, number>();
  await scan([key], async run => {
    addCounts(counts, await run.terms(key), prefix);
    return counts.size < DISTINCT_LIMIT;
  });
  return [...counts]
    .map(([value, count]) => ({ value, count }))
    .sort((a, b) => b.count - a.count || (a.value < b.value ? -1 : 1))
    .slice(0, limit);
}

/** Leaves `limit` of many, evenly spread by rank, the first and the last among them. */
class Thinning {
  readonly #totals: ReadonlyMap<string, number>;
  readonly #limit: number;
  /** How many of each were seen, and how many of them were left. */
  readonly #seen = new Map<string, { rank: number; kept: number }>();

  constructor(totals: ReadonlyMap<string, number>, limit: number) {
    this.#totals = totals;
    this.#limit = limit;
  }

  *of(name: string, places: Uint16Array): Generator<number, void, undefined> {
    const total = this.#totals.get(name) ?? 0;
    const seen = this.#seen.get(name) ?? { rank: 0, kept: 0 };
    this.#seen.set(name, seen);
    const start = seen.rank;
    seen.rank += places.length;
    if (total <= this.#limit) {
      yield* places;
      return;
    }
    for (;;) {
      const next = Math.floor((seen.kept * (total - 1)) / (this.#limit - 1)) - start;
      if (next >= places.length || seen.kept === this.#limit) return;
      seen.kept++;
      yield places[next]!;
    }
  }
}
