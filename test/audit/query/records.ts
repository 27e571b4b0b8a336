/**
 * Logs of records for the tests of the index: an array of records as a source, and records that differ in everything.
 * @module
 */
import fc from 'fast-check';
import { ACTIONS } from '../../../sandbox/audit/actions.ts';
import { pureHasher, TreeBuilder } from '../../../sandbox/audit/merkle.ts';
import type { LogSource } from '../../../sandbox/audit/query/log-index.ts';
import { type AuditRecord, encodeRecord } from '../../../sandbox/audit/record.ts';

/** The records as a log would have them. */
export function sourceOf(records: readonly AuditRecord[]): LogSource {
  const leaves = records.map(encodeRecord);
  return {
    size: leaves.length,
    rootAt(size) {
      const tree = new TreeBuilder();
      for (const leaf of leaves.slice(0, size)) tree.append(pureHasher.leaf(leaf));
      return tree.root();
    },
    leaves: (from, to) => leaves.slice(from, to),
  };
}

/** Numbers that look random and are the same each time. */
function mixed(seed: number): number {
  let x = (seed + 0x9e3779b9) | 0;
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
  x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
  return (x ^ (x >>> 15)) >>> 0;
}

function pick<T>(from: readonly T[], seed: number): T {
  return from[mixed(seed) % from.length]!;
}

const ACTORS = ['ward-3', 'ward-33', 'Ward-3', 'ΜΕΣΟΣ', 'İstanbul', '\u{1f600}ward', 'sha256:0123456789'];
const SCOPES = ['clinic-a/2026-q4', 'clinic-a', 'ward-3', 'Clinic B', 'refuse'];
const REASONS = ['SCOPE_EXHAUSTED', 'POLICY_REFUSED', 'RUN'];
export const DIGESTS: readonly string[] = ['01234567', '0123456789abcdef', 'ffffffffffffffff'].map(
  (start, i) => `sha256:${start}${String(i).repeat(64 - start.length)}`,
);

/** Record `seq` of a log that goes by `seed`: every field of it may be there or not. */
export function recordAt(seq: number, seed = 0): AuditRecord {
  const dice = (salt: number): number => mixed(mixed(seed * 1009 + seq) + salt);
  const kind = pick(['model', 'scope', 'session', 'plugin'] as const, dice(1));
  const refused = dice(2) % 4 === 0;
  const before = 1000 * seq;
  return {
    v: 1,
    seq,
    // Clocks jump back now and then.
    time: 1_790_000_000_000 + 60_000 * seq - (dice(3) % 10 === 0 ? 3_000_000 : 0),
    actor: pick(ACTORS, dice(4)),
    action: pick(ACTIONS, dice(5)),
    object: { kind, id: kind === 'model' ? pick(DIGESTS, dice(6)) : pick(SCOPES, dice(6)) },
    decision: refused
      ? { outcome: 'refuse', reason: pick(REASONS, dice(7)) }
      : { outcome: 'allow', ...(dice(8) % 5 === 0 && { reason: 'RUN' }) },
    ...(dice(9) % 2 === 0 && { request: `r-${dice(10) % 50}` }),
    ...(dice(11) % 3 === 0 && { model: pick(DIGESTS, dice(12)) }),
    ...(dice(13) % 2 === 0 && { budget: { scope: pick(SCOPES, dice(14)), before, after: before + 1000 } }),
    ...(dice(15) % 3 === 0 && { purpose: pick(['two words', 'ΟΔΥΣΣΕΥΣ', 'a "b" \\ c', '\u0000\uffff'], dice(16)) }),
    ...(dice(17) % 4 === 0 && { commitments: { subject: pick(DIGESTS, dice(18)) } }),
  };
}

/** A log of `size` such records. */
export function recordsOf(size: number, seed = 0): AuditRecord[] {
  return Array.from({ length: size }, (_, seq) => recordAt(seq, seed));
}

const values = fc.oneof(
  fc.constantFrom(
    ...ACTORS,
    ...SCOPES,
    ...DIGESTS,
    'r-1',
    'r-33',
    'model',
    'scope',
    'μεσος',
    'two words',
    'a "b" \\ c',
  ),
  fc.constantFrom(
    'sha256:01234567',
    'sha256:0123456',
    'sha256:012345670',
    'sha256:',
    'σ',
    'ς',
    'i',
    'ward',
    'q4',
    '\u{1f600}',
  ),
  fc.string({ unit: 'binary', minLength: 1, maxLength: 2 }),
);

/** Filters as somebody might type them, about such records. */
export const filterArb: fc.Arbitrary<string> = fc
  .record({
    terms: fc.array(
      fc.oneof(
        fc.record({
          key: fc.constantFrom('actor', 'object', 'scope', 'request', 'model', 'text'),
          value: values,
          exclude: fc.boolean(),
        }),
        fc.record({ key: fc.constant('action'), value: fc.constantFrom(...ACTIONS), exclude: fc.boolean() }),
        fc.record({
          key: fc.constant('decision'),
          value: fc.constantFrom('allow', 'refuse', ...REASONS, 'NONE'),
          exclude: fc.boolean(),
        }),
      ),
      { maxLength: 4 },
    ),
    since: fc.option(fc.integer({ min: -10, max: 700 })),
    until: fc.option(fc.integer({ min: -10, max: 700 })),
  })
  .map(({ terms, since, until }) => {
    const at = (minutes: number): string => new Date(1_790_000_000_000 + 60_000 * minutes).toISOString();
    const words = terms.map(({ key, value, exclude }) => {
      const quoted = `"${value.replace(/["\\]/g, '\\$&')}"`;
      return `${exclude ? '-' : ''}${key === 'text' ? '' : `${key}:`}${quoted}`;
    });
    if (since !== null) words.push(`since:${at(since)}`);
    if (until !== null) words.push(`until:${at(until)}`);
    return words.join(' ');
  });
