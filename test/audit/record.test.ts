import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ACTIONS } from '../../sandbox/audit/actions.ts';
import { commit } from '../../sandbox/audit/commitment.ts';
import {
  type AuditRecord,
  auditRecordSchema,
  decodeRecord,
  encodeRecord,
  RECORD_LIMIT_BYTES,
} from '../../sandbox/audit/record.ts';
import { canonicalJson, type Json } from '../../src/base/canonical.ts';
import { event } from './events.ts';

const DELETED = Symbol('deleted');

const record = (number = 0): AuditRecord => ({ ...event(number), v: 1, seq: number, time: 1_767_225_600_000 });
const textArb = (limit: number) =>
  fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }).filter(text => text.length <= limit);
const digestArb = fc
  .uint8Array({ minLength: 32, maxLength: 32 })
  .map(bytes => `sha256:${Buffer.from(bytes).toString('hex')}`);
const countArb = fc.nat({ max: Number.MAX_SAFE_INTEGER });
const recordArb: fc.Arbitrary<AuditRecord> = fc.record(
  {
    v: fc.constant(1 as const),
    seq: countArb,
    time: fc.integer({ min: -1e12, max: 1e13 }),
    actor: textArb(256),
    action: fc.constantFrom(...ACTIONS),
    object: fc.record({ kind: fc.constantFrom('model' as const, 'scope' as const), id: textArb(512) }),
    decision: fc.constantFrom({ outcome: 'allow' as const }, { outcome: 'refuse' as const, reason: 'SCOPE_EXHAUSTED' }),
    purpose: fc.oneof(textArb(256), fc.constantFrom('\\ud800', '\\\\ud800', '\u2028', '\u0000', '\u007f')),
    request: textArb(128),
    policy: digestArb,
    model: digestArb,
    plugin: digestArb,
    program: digestArb,
    output: digestArb,
    mechanism: textArb(64),
    isolation: fc.constantFrom('none' as const, 'process' as const),
    layers: fc.array(fc.stringMatching(/^[a-z]{1,8}$/), { maxLength: 3 }),
    backend: textArb(64),
    predecessor: fc.record({ vkey: textArb(512), checkpoint: textArb(512) }),
    trace: fc.stringMatching(/^[0-9a-f]{31}[1-9a-f]$/),
    plugins: fc.uniqueArray(digestArb, { minLength: 1, maxLength: 3 }),
    budget: fc.record(
      {
        scope: textArb(512),
        before: countArb,
        after: countArb,
        limit: countArb,
        measure: fc.constantFrom('zcdp' as const, 'pure' as const),
      },
      { requiredKeys: ['scope', 'before', 'after'] },
    ),
    measures: fc.record({ wallMicros: countArb, calls: countArb }, { requiredKeys: [] }),
    commitments: fc.dictionary(fc.stringMatching(/^[a-z]{1,10}$/), digestArb, { maxKeys: 4, noNullPrototype: true }),
  },
  { requiredKeys: ['v', 'seq', 'time', 'actor', 'action', 'object', 'decision'] },
);

test('a record survives encoding, in canonical form whatever the order of its keys', () => {
  fc.assert(
    fc.property(recordArb, original => {
      const bytes = encodeRecord(original);
      expect(decodeRecord(bytes)).toEqual(original);
      const reversed = (value: unknown): unknown =>
        typeof value === 'object' && value !== null && !Array.isArray(value)
          ? Object.fromEntries(
              Object.entries(value)
                .map(([key, inner]) => [key, reversed(inner)])
                .reverse(),
            )
          : value;
      expect(encodeRecord(reversed(original) as AuditRecord)).toEqual(bytes);
      expect(Buffer.from(bytes).toString()).toBe(canonicalJson(original as unknown as Json));
    }),
  );
});

/** A common record in which one value or two, at any depth, are odd, missing or more than there should be. */
const oddRecordArb = fc
  .tuple(
    fc.nat({ max: 1e9 }),
    fc.array(
      fc.tuple(
        fc.constantFrom('', 'object', 'decision', 'budget'),
        fc.oneof(
          fc.constantFrom('v', 'seq', 'time', 'actor', 'action', 'object', 'decision', 'request', 'budget', 'model'),
          fc.constantFrom('id', 'kind', 'outcome', 'reason', 'scope', 'before', 'after', 'limit', 'measure', 'toJSON'),
        ),
        fc.oneof(
          fc.constantFrom<unknown>(undefined, null, '', 0, -0, -1, 0.5, 2 ** 53, Number.NaN, true, [], {}, ['a']),
          fc.constantFrom<unknown>('allow', 'refuse', 'scope', 'charge', 'zcdp', '1', '\ud800', '\\ud800', '\u2028é"'),
          fc.constantFrom<unknown>(1, new String('x'), new Date(0), () => 1, 10n, Symbol('x'), DELETED),
          fc.constantFrom(128, 129, 256, 257, 512, 513).map(length => 'x'.repeat(length)),
        ),
      ),
      { maxLength: 2 },
    ),
  )
  .map(([number, changes]) => {
    const odd = structuredClone(record(number)) as unknown as Record<string, unknown>;
    for (const [parent, key, value] of changes) {
      const target = (parent === '' ? odd : odd[parent]) as Record<string, unknown> | null | undefined;
      if (typeof target !== 'object' || target === null) continue;
      if (value === DELETED) delete target[key];
      else target[key] = value;
    }
    return odd;
  });

test('what is checked by hand is what the schema accepts, spelt alike', () => {
  let accepted = 0;
  const runs = 20_000;
  fc.assert(
    fc.property(oddRecordArb, odd => {
      const checked = auditRecordSchema.safeParse(odd);
      const spelt = checked.success ? attempt(() => canonicalJson(JSON.parse(JSON.stringify(odd)) as Json)) : undefined;
      const bytes = attempt(() => encodeRecord(odd as unknown as AuditRecord));
      expect(bytes && Buffer.from(bytes).toString()).toBe(spelt);
      if (bytes !== undefined) accepted++;
    }),
    { numRuns: runs },
  );
  expect(accepted).toBeGreaterThan(runs / 20);
  expect(accepted).toBeLessThan(runs);
});

test('the canonical form is what RFC 8785 says', () => {
  expect(new TextDecoder().decode(encodeRecord({ ...record(3), actor: 'Ärztin "3"\n' }))).toBe(
    '{"action":"charge","actor":"Ärztin \\"3\\"\\n","budget":{"after":4000,"before":3000,"scope":"clinic-a/2026-q4"},' +
      '"decision":{"outcome":"allow"},"object":{"id":"clinic-a/2026-q4","kind":"scope"},"request":"r-3","seq":3,' +
      '"time":1767225600000,"v":1}',
  );
});

test('any other spelling of a record is refused', () => {
  const spelt = new TextDecoder().decode(encodeRecord(record()));
  const others = [
    ` ${spelt}`,
    `\uFEFF${spelt}`,
    spelt.replace(':', ': '),
    spelt.replace('"v":1', '"v":1.0'),
    spelt.replace('"v":1', '"v":1,"v":1'),
    spelt.replace('ward', '\\u0077ard'),
    `${spelt}\n`,
  ];
  for (const other of others)
    expect(() => decodeRecord(new TextEncoder().encode(other)), other).toThrow(/not an audit record/);
});

describe('what does not belong into a record is refused', () => {
  test.each([
    ['an unknown key', { outputs: [1, 2, 3] }],
    ['an unknown action', { action: 'peek' }],
    ['a refusal without a reason', { decision: { outcome: 'refuse' } }],
    ['a reason in prose', { decision: { outcome: 'refuse', reason: 'too much for Mr Smith' } }],
    ['an empty actor', { actor: '' }],
    ['a fraction of a micro-epsilon', { budget: { scope: 's', before: 0, after: 0.5 } }],
    ['a negative amount', { budget: { scope: 's', before: -1, after: 0 } }],
    ['an amount beyond 2^53', { budget: { scope: 's', before: 0, after: 2 ** 53 } }],
    ['not a number', { budget: { scope: 's', before: Number.NaN, after: 0 } }],
    ['personal data in the clear among the commitments', { commitments: { subject: 'Jane' } }],
    [
      'too many commitments',
      { commitments: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`c${i}`, `sha256:${'0'.repeat(64)}`])) },
    ],
    ['a lone surrogate', { actor: '\ud800' }],
    ['a trace id in capitals', { trace: 'A'.repeat(32) }],
    ['a trace id of zeros', { trace: '0'.repeat(32) }],
    ['a plugin twice', { plugins: [`sha256:${'0'.repeat(64)}`, `sha256:${'0'.repeat(64)}`] }],
    ['no plugins, said', { plugins: [] }],
    ['an unknown measure', { budget: { scope: 's', before: 0, after: 0, measure: 'renyi' } }],
    ['another version', { v: 2 }],
    ['a time that is no integer', { time: 0.5 }],
  ])('%s', (_, change) => {
    expect(() => encodeRecord({ ...record(), ...change } as unknown as AuditRecord)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
    );
  });

  test('more bytes than the limit', () => {
    const wide = '\u0001'; // six bytes in JSON, so that a record within its schema can be too large
    const commitments = Object.fromEntries(Array.from({ length: 16 }, (_, i) => [`c${i}`, `sha256:${'0'.repeat(64)}`]));
    const large = { ...record(), actor: wide.repeat(256), purpose: wide.repeat(256), commitments };
    expect(encodeRecord(large).length).toBeLessThan(RECORD_LIMIT_BYTES);
    const huge = {
      ...large,
      object: { kind: 'scope' as const, id: wide.repeat(512) },
      budget: { scope: wide.repeat(512), before: 0, after: 0 },
      request: wide.repeat(128),
    };
    const size = new TextEncoder().encode(JSON.stringify(huge)).length;
    if (size <= RECORD_LIMIT_BYTES) expect(encodeRecord(huge).length).toBe(size);
    else expect(() => encodeRecord(huge)).toThrow(/16384 bytes/);
  });
});

test('any bytes are refused as a record with a typed error', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array(),
        fc.json().map(text => new TextEncoder().encode(text)),
      ),
      bytes => {
        expect(() => decodeRecord(bytes)).toThrow(expect.objectContaining({ code: 'AUDIT_INVALID' }));
      },
    ),
  );
});

test('a commitment binds the value and the salt, and needs a real salt', () => {
  const salt = new Uint8Array(16).fill(7);
  expect(commit(salt, 'subject-1')).toMatch(/^sha256:[0-9a-f]{64}$/);
  expect(commit(salt, 'subject-1')).not.toBe(commit(salt, 'subject-2'));
  expect(commit(new Uint8Array(16), 'subject-1')).not.toBe(commit(salt, 'subject-1'));
  expect(() => commit(new Uint8Array(8), 'subject-1')).toThrow(/at least 16 bytes/);
});

function attempt<T>(body: () => T): T | undefined {
  try {
    return body();
  } catch (error) {
    expect(error).toBeInstanceOf(Error);
    return undefined;
  }
}
