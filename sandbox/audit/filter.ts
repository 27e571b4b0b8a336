/**
 * Filters over records, as a person types them: `actor:ward-3 -action:load since:7d "clinic a"`. Pure.
 *
 * ```text
 * filter = { term }                     terms are separated by white space
 * term   = ["-"] (qualifier | value)    "-" excludes; a value without a qualifier is searched for in the whole record
 * qualifier = key ":" value             key is one of FILTER_KEYS
 * value  = characters without white space and '"', or '"' characters '"', where \" and \\ stand for " and \
 * ```
 *
 * Terms of one key are alternatives, terms of different keys must all hold, words of a search must all occur, and what is excluded
 * must not hold.
 * @module
 */
import { CloisterError } from '../../src/base/errors.ts';
import { ACTIONS } from './actions.ts';
import type { AuditRecord } from './record.ts';

/** The qualifiers of a filter. */
export const FILTER_KEYS = [
  'actor', // who asked
  'action', // one of ACTIONS
  'decision', // allow, refuse, or the code of a reason
  'object', // name or kind of what it was done to
  'scope', // the scope that was charged, or that it was done to
  'request', // joins the records of one request
  'model', // digest of the model
  'since', // at or after this time
  'until', // before this time
] as const;

/** One of {@link FILTER_KEYS}. */
export type FilterKey = (typeof FILTER_KEYS)[number];

/** Characters that a filter may have. */
export const FILTER_LIMIT_CHARACTERS = 4096;

/** One condition; `text` is a word of the search. */
export interface FilterTerm {
  readonly key: Exclude<FilterKey, 'since' | 'until'> | 'text';
  readonly value: string;
  readonly exclude: boolean;
}

/** A filter that was read; see {@link matchesFilter}. */
export interface RecordFilter {
  readonly terms: readonly FilterTerm[];
  /** Milliseconds since 1970, inclusive. */
  readonly since?: number;
  /** Milliseconds since 1970, exclusive. */
  readonly until?: number;
}

/**
 * Reads a filter.
 *
 * `since:` and `until:` take a date (`2026-11-21`, midnight UTC), a time (`2026-11-21T09:30`, `2026-11-21T09:30:00Z`,
 * `2026-11-21T09:30+01:00`; without an offset UTC), or how long before `now`: `90s`, `30m`, `12h`, `7d`, `2w`. A digest may be
 * shortened to `sha256:` and its first eight digits.
 *
 * @param text - At most {@link FILTER_LIMIT_CHARACTERS} characters; an empty filter matches every record.
 * @param now - Milliseconds since 1970 from which durations count back.
 * @throws {CloisterError} `INVALID_ARGUMENT` with the place of what cannot be read: an unknown qualifier, action, decision or time,
 *   a qualifier without a value, a quote that is not closed, a time given twice or excluded, text that is not well formed.
 * @example
 * ```ts
 * const filter = parseFilter('action:refuse -actor:ward-3 since:2026-11-01', Date.now());
 * filter.terms.length; // 2
 * filter.since; // 1793491200000
 * ```
 */
export function parseFilter(text: string, now: number): RecordFilter {
  if (text.length > FILTER_LIMIT_CHARACTERS)
    refuse(`expected at most ${FILTER_LIMIT_CHARACTERS} characters, got ${text.length}`, FILTER_LIMIT_CHARACTERS);
  if (!text.isWellFormed()) refuse('expected well-formed text, got half of a surrogate pair', 0);
  const terms: FilterTerm[] = [];
  const times: { since?: number; until?: number } = {};
  for (const { key, value, exclude, at } of readTerms(text)) {
    if (key === 'since' || key === 'until') {
      if (exclude) refuse(`${key}: cannot be excluded; ${key === 'since' ? 'until' : 'since'}: says the opposite`, at);
      if (times[key] !== undefined) refuse(`${key}: is given twice`, at);
      times[key] = parseTime(key, value, now, at);
    } else {
      if (key === 'action') assertAction(value, at);
      if (key === 'decision') assertDecision(value, at);
      terms.push(Object.freeze({ key, value, exclude }));
    }
  }
  return Object.freeze({ terms: Object.freeze(terms), ...times });
}

/** A term of a filter as it is written. */
export interface WrittenTerm {
  readonly key: FilterKey | 'text';
  readonly value: string;
  readonly exclude: boolean;
  /** Where it begins, and where it has ended. */
  readonly at: number;
  readonly end: number;
}

/**
 * The terms of a filter in the order and at the place in which they are written, values unchecked.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` with the place of what cannot be read.
 * @example
 * ```ts
 * const [first, second] = writtenTerms('-actor:ward-3 since:7d');
 * first; // { key: 'actor', value: 'ward-3', exclude: true, at: 0, end: 13 }
 * second?.at; // 14
 * ```
 */
export function writtenTerms(text: string): WrittenTerm[] {
  return [...readTerms(text)];
}

/**
 * A term as a filter spells it, quoted where it has to be.
 *
 * @example
 * ```ts
 * formatTerm({ key: 'object', value: 'a b', exclude: true }); // '-object:"a b"'
 * formatTerm({ key: 'text', value: 'actor:', exclude: false }); // '"actor:"'
 * ```
 */
export function formatTerm({ key, value, exclude }: Pick<WrittenTerm, 'key' | 'value' | 'exclude'>): string {
  const plain = !/[\s"]/.test(value) && (key !== 'text' || !/^(-|[A-Za-z]+:)/.test(value));
  const spelt = plain ? value : `"${value.replace(/["\\]/g, mark => `\\${mark}`)}"`;
  return `${exclude ? '-' : ''}${key === 'text' ? '' : `${key}:`}${spelt}`;
}

/**
 * Whether `record` is one that `filter` asks for. The words of a search are sought in every text of the record, upper and lower
 * case alike; everything else is compared as it is.
 *
 * @example
 * ```ts
 * const object = { kind: 'scope', id: 'clinic-a/2026-q4' } as const;
 * const record = { v: 1, seq: 0, time: 0, actor: 'ward-3', action: 'charge', object, decision: { outcome: 'allow' } } as const;
 * matchesFilter(record, parseFilter('scope:clinic-a/2026-q4 -actor:ward-4', 0)); // true
 * matchesFilter(record, parseFilter('CLINIC', 0)); // true
 * matchesFilter(record, parseFilter('decision:refuse', 0)); // false
 * ```
 */
export function matchesFilter(record: AuditRecord, filter: RecordFilter): boolean {
  if (filter.since !== undefined && record.time < filter.since) return false;
  if (filter.until !== undefined && record.time >= filter.until) return false;
  const asked = new Map<FilterTerm['key'], boolean>();
  for (const term of filter.terms) {
    const holds = termHolds(record, term);
    if (term.exclude || term.key === 'text') {
      if (holds === term.exclude) return false;
    } else {
      asked.set(term.key, holds || asked.get(term.key) === true);
    }
  }
  return [...asked.values()].every(Boolean);
}

function* readTerms(text: string): Generator<WrittenTerm, void, undefined> {
  let at = 0;
  for (;;) {
    while (at < text.length && isSpace(text[at]!)) at++;
    if (at === text.length) return;
    const start = at;
    const exclude = text[at] === '-';
    if (exclude) at++;
    const name = /^[A-Za-z]+(?=:)/.exec(text.slice(at))?.[0];
    let key: WrittenTerm['key'] = 'text';
    if (name !== undefined) {
      const known = FILTER_KEYS.find(one => one === name);
      if (known === undefined) {
        refuse(`expected one of ${FILTER_KEYS.join(', ')}, got ${name}:. To search for it, quote it: "${name}:…"`, at);
      }
      key = known;
      at += name.length + 1;
    }
    const { value, end } = readValue(text, at);
    if (value === '') refuse(`expected a value after ${JSON.stringify(text.slice(start, at))}`, end);
    at = end;
    yield { key, value, exclude, at: start, end };
  }
}

function readValue(text: string, from: number): { readonly value: string; readonly end: number } {
  let at = from;
  if (text[at] !== '"') {
    while (at < text.length && !isSpace(text[at]!)) {
      if (text[at] === '"') refuse('expected a quote at the beginning of a value alone', at);
      at++;
    }
    return { value: text.slice(from, at), end: at };
  }
  let value = '';
  for (at++; text[at] !== '"'; at++) {
    if (text[at] === '\\') at++;
    if (at >= text.length) refuse('expected a closing quote', from);
    value += text[at];
  }
  at++;
  if (at < text.length && !isSpace(text[at]!)) refuse('expected white space after the closing quote', at);
  return { value, end: at };
}

function isSpace(character: string): boolean {
  return /\s/.test(character);
}

function assertAction(value: string, at: number): void {
  if (ACTIONS.some(action => action === value)) return;
  refuse(`action: expected one of ${ACTIONS.join(', ')}, got ${JSON.stringify(value)}`, at);
}

function assertDecision(value: string, at: number): void {
  if (/^(allow|refuse|[A-Z][A-Z0-9_]*)$/.test(value)) return;
  refuse(`decision: expected allow, refuse, or a reason such as SCOPE_EXHAUSTED, got ${JSON.stringify(value)}`, at);
}

const UNIT_MS = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 } as const;

function parseTime(key: 'since' | 'until', value: string, now: number, at: number): number {
  const ago = /^(\d{1,6})([smhdw])$/.exec(value);
  if (ago) return now - Number(ago[1]) * UNIT_MS[ago[2] as keyof typeof UNIT_MS];
  const date = /^(\d{4}-\d{2}-\d{2})(?:T(\d{2}:\d{2}(?::\d{2}(?:\.\d{1,3})?)?)(Z|[+-]\d{2}:\d{2})?)?$/.exec(value);
  if (date) {
    const [, day = '', clock = '00:00', offset = 'Z'] = date;
    const midnight = Date.parse(`${day}T00:00Z`);
    const time = Date.parse(`${day}T${clock}${offset}`);
    // Some engines take the 30th of February for the 2nd of March.
    const real = !Number.isNaN(midnight) && new Date(midnight).toISOString().startsWith(day);
    if (real && !Number.isNaN(time)) return time;
  }
  return refuse(
    `${key}: expected a date (2026-11-21), a time (2026-11-21T09:30Z) or how long ago (90s, 30m, 12h, 7d, 2w), got ${JSON.stringify(value)}`,
    at,
  );
}

function termHolds(record: AuditRecord, { key, value }: FilterTerm): boolean {
  const texts = termTexts(record, key);
  if (key === 'text') return texts.some(text => text.toLowerCase().includes(value.toLowerCase()));
  return texts.includes(value) || (isShortDigest(key, value) && texts.some(text => text.startsWith(value)));
}

/** The texts of a record that a term with this key is compared with. */
export function termTexts(record: AuditRecord, key: FilterTerm['key']): readonly string[] {
  const { object, decision, budget } = record;
  switch (key) {
    case 'actor':
      return [record.actor];
    case 'action':
      return [record.action];
    case 'decision':
      return [decision.outcome, ...given(decision.reason)];
    case 'object':
      return [object.kind, object.id];
    case 'scope':
      return [...given(budget?.scope), ...given(object.kind === 'scope' ? object.id : undefined)];
    case 'request':
      return given(record.request);
    case 'model':
      return [...given(record.model), ...given(object.kind === 'model' ? object.id : undefined)];
    case 'text':
      return textsOf(record);
    default:
      return key satisfies never;
  }
}

/** Whether `value` may be a digest cut short, so that it stands for all that begin with it. */
export function isShortDigest(key: FilterTerm['key'], value: string): boolean {
  return (key === 'object' || key === 'model') && /^sha256:[0-9a-f]{8,}$/.test(value);
}

function given(text: string | undefined): readonly string[] {
  return text === undefined ? [] : [text];
}

/** Every text in a value, however deep. */
function textsOf(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(textsOf) : [];
}

function refuse(why: string, at: number): never {
  throw new CloisterError('INVALID_ARGUMENT', `filter, character ${at + 1}: ${why}`, { at });
}
