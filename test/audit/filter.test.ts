import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ACTIONS } from '../../sandbox/audit/actions.ts';
import {
  FILTER_KEYS,
  type FilterTerm,
  formatTerm,
  matchesFilter,
  parseFilter,
  writtenTerms,
} from '../../sandbox/audit/filter.ts';
import { readDirectory } from '../../sandbox/audit/read.ts';
import type { AuditRecord } from '../../sandbox/audit/record.ts';
import { isCloisterError } from '../../src/base/errors.ts';
import { event, memoryLog } from './events.ts';

const NOW = Date.UTC(2026, 10, 21, 12);
const DIGEST = `sha256:${'0123456789abcdef'.repeat(4)}`;

function recordOf(more: Partial<AuditRecord> = {}): AuditRecord {
  return { ...event(3), v: 1, seq: 3, time: NOW, ...more };
}

function matching(text: string, record: AuditRecord = recordOf()): boolean {
  return matchesFilter(record, parseFilter(text, NOW));
}

const MODEL_RUN = recordOf({ action: 'run', object: { kind: 'session', id: 'triage' }, model: DIGEST });
const REFUSAL = recordOf({ action: 'refuse', decision: { outcome: 'refuse', reason: 'SCOPE_EXHAUSTED' } });

describe('a filter', () => {
  test.each<[string, AuditRecord, boolean]>([
    ['', recordOf(), true],
    ['actor:ward-3', recordOf(), true],
    ['actor:ward', recordOf(), false],
    ['actor:WARD-3', recordOf(), false],
    ['actor:ward-4 actor:ward-3', recordOf(), true],
    ['actor:ward-3 action:refuse', recordOf(), false],
    ['-actor:ward-4', recordOf(), true],
    ['-actor:ward-3', recordOf(), false],
    ['actor:ward-3 -actor:ward-3', recordOf(), false],
    ['action:charge', recordOf(), true],
    ['decision:allow', recordOf(), true],
    ['decision:refuse', REFUSAL, true],
    ['decision:SCOPE_EXHAUSTED', REFUSAL, true],
    ['decision:POLICY_REFUSED', REFUSAL, false],
    ['object:clinic-a/2026-q4', recordOf(), true],
    ['object:scope', recordOf(), true],
    ['object:model', recordOf(), false],
    ['scope:clinic-a/2026-q4', recordOf(), true],
    ['scope:clinic-a/2026-q4', recordOf({ budget: undefined }), true],
    ['scope:clinic-a/2026-q4', recordOf({ object: { kind: 'model', id: 'm' } }), true],
    ['scope:clinic-a/2026-q4', recordOf({ object: { kind: 'model', id: 'm' }, budget: undefined }), false],
    ['request:r-3', recordOf(), true],
    ['request:r-33', recordOf(), false],
    [`model:${DIGEST}`, MODEL_RUN, true],
    ['model:sha256:01234567', MODEL_RUN, true],
    ['model:sha256:0123456', MODEL_RUN, false],
    ['model:sha256:01234568', MODEL_RUN, false],
    ['model:sha256:01234567', recordOf({ object: { kind: 'model', id: DIGEST } }), true],
    ['object:sha256:01234567', recordOf({ object: { kind: 'model', id: DIGEST } }), true],
    ['clinic', recordOf(), true],
    ['CLINIC-A', recordOf(), true],
    ['clinic ward-3', recordOf(), true],
    ['clinic ward-4', recordOf(), false],
    ['-clinic', recordOf(), false],
    ['sha256:01234567', MODEL_RUN, true],
    ['"actor:ward"', recordOf({ purpose: 'on actor:ward business' }), true],
    ['"two words"', recordOf({ purpose: 'in two words' }), true],
    ['"two words"', recordOf({ purpose: 'words two' }), false],
    ['actor:"a \\"b\\" \\\\"', recordOf({ actor: 'a "b" \\' }), true],
    ['-"two words"', recordOf({ purpose: 'in two words' }), false],
    ['since:2026-11-21', recordOf(), true],
    ['since:2026-11-21T12:00', recordOf(), true],
    ['since:2026-11-21T12:00:00.001Z', recordOf(), false],
    ['until:2026-11-21T12:00Z', recordOf(), false],
    ['until:2026-11-21T14:00+01:00', recordOf(), true],
    ['until:2026-11-21T13:00+01:00', recordOf(), false],
    ['since:1h until:0s', recordOf({ time: NOW - 1 }), true],
    ['since:7d', recordOf({ time: NOW - 7 * 86_400_000 }), true],
    ['since:7d', recordOf({ time: NOW - 7 * 86_400_000 - 1 }), false],
    ['until:2w', recordOf({ time: NOW - 14 * 86_400_000 - 1 }), true],
    ['since:2024-02-29', recordOf(), true],
  ])('%j on record %#: %j', (text, record, expected) => {
    expect(matching(text, record)).toBe(expected);
  });

  test.each<[string, number, RegExp]>([
    ['who:me', 0, /expected one of actor, .*got who:.*quote it/],
    ['a -Actor:x', 3, /expected one of/],
    ['action:fly', 0, /expected one of open, .*got "fly"/],
    ['decision:maybe', 0, /allow, refuse, or a reason/],
    ['actor:', 6, /expected a value after "actor:"/],
    ['actor: x', 6, /expected a value/],
    ['-', 1, /expected a value after "-"/],
    ['""', 2, /expected a value/],
    ['actor:"x', 6, /closing quote/],
    ['actor:"x\\', 6, /closing quote/],
    ['actor:"x"y', 9, /white space/],
    ['ab"c"', 2, /at the beginning/],
    ['-since:1d', 0, /until: says the opposite/],
    ['since:1d since:2d', 9, /twice/],
    ['since:yesterday', 0, /expected a date/],
    ['since:2026-02-30', 0, /expected a date/],
    ['since:2026-11-21T25:00', 0, /expected a date/],
    ['since:1y', 0, /expected a date/],
    ['since:-1d', 0, /expected a date/],
    ['x'.repeat(4097), 4096, /at most 4096 characters, got 4097/],
  ])('refuses %j at character %i', (text, at, message) => {
    let caught: unknown;
    try {
      parseFilter(text, NOW);
    } catch (error) {
      caught = error;
    }
    expect(isCloisterError(caught, 'INVALID_ARGUMENT')).toBe(true);
    expect(caught).toMatchObject({ message: expect.stringMatching(message), detail: { at } });
  });

  const keyArb = fc.constantFrom<FilterTerm['key']>('actor', 'object', 'scope', 'request', 'model', 'text');
  const termArb = fc.record({ key: keyArb, value: fc.string({ unit: 'binary', minLength: 1 }), exclude: fc.boolean() });

  test('says again what was written, whatever the values are', () => {
    const written = ({ key, value, exclude }: FilterTerm): string =>
      `${exclude ? '-' : ''}${key === 'text' ? '' : `${key}:`}"${value.replace(/["\\]/g, '\\$&')}"`;
    fc.assert(
      fc.property(fc.array(termArb, { maxLength: 20 }), fc.constantFrom(' ', '\t\n  '), (terms, space) => {
        expect(parseFilter(terms.map(written).join(space), NOW).terms).toEqual(terms);
      }),
    );
  });

  test('any text is read or refused with INVALID_ARGUMENT, and what is read matches or not', () => {
    const piece = fc.oneof(
      fc.constantFrom(...FILTER_KEYS.map(key => `${key}:`), ...ACTIONS, '-', '"', '\\', ' ', '7d', '2026-11-21', 'T'),
      fc.string({ unit: 'binary', maxLength: 5 }),
    );
    let read = 0;
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), pieces => {
        try {
          const filter = parseFilter(pieces.join(''), NOW);
          read++;
          expect(typeof matchesFilter(recordOf(), filter)).toBe('boolean');
        } catch (error) {
          if (!isCloisterError(error, 'INVALID_ARGUMENT')) throw error;
        }
      }),
      { numRuns: 2000 },
    );
    expect(read).toBeGreaterThan(100); // else the property has seen refusals alone
  });

  test('a term and its exclusion part the records', () => {
    fc.assert(
      fc.property(fc.constantFrom('ward-3', 'ward-4', 'r-3', 'scope', 'clinic-a/2026-q4'), keyArb, (value, key) => {
        const term = key === 'text' ? value : `${key}:${value}`;
        expect(matching(`-${term}`)).toBe(!matching(term));
      }),
    );
  });

  test('every term that can be written is read back as it was, at its place', () => {
    const key = fc.constantFrom(...FILTER_KEYS, 'text' as const);
    const value = fc.oneof(
      fc.string({ minLength: 1 }),
      fc.string({ unit: 'binary', minLength: 1 }),
      fc.constant('-a:"\\'),
    );
    const termArb = fc.record({ key, value, exclude: fc.boolean() });
    fc.assert(
      fc.property(fc.array(termArb, { maxLength: 5 }), terms => {
        const text = terms.map(formatTerm).join('  ');
        const read = writtenTerms(text);
        expect(read).toMatchObject(terms);
        expect(read.map(({ at, end }) => text.slice(at, end))).toEqual(terms.map(formatTerm));
      }),
    );
  });

  test('restricts what is read from a log, together with the other conditions', async () => {
    const { directory, log } = await memoryLog();
    for (let number = 0; number < 20; number++) await log.append(event(number));
    await log.close();
    const seqs: number[] = [];
    const filter = parseFilter('actor:ward-1 actor:ward-2 -request:r-6', NOW);
    for await (const { seq } of readDirectory(directory, { from: 2, limit: 4, filter })) seqs.push(seq);
    expect(seqs).toEqual([2, 7, 11, 12]);
  });
});
