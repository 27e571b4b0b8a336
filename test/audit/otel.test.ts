import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ACTIONS } from '../../sandbox/audit/actions.ts';
import { emitTo, type OtelLogRecord, toLogRecord } from '../../sandbox/audit/otel.ts';
import { type AuditRecord, decodeRecord } from '../../sandbox/audit/record.ts';
import { event, ORIGIN } from './events.ts';

function recordOf(more: Partial<AuditRecord> = {}): AuditRecord {
  return { ...event(3), v: 1, seq: 3, time: Date.UTC(2026, 10, 21), ...more };
}

test('the body is the Merkle leaf, so that a receiver can check it against the log', () => {
  const record = recordOf({ purpose: 'Ärztin "3"\n' });
  expect(decodeRecord(new TextEncoder().encode(toLogRecord(record, ORIGIN).body))).toEqual(record);
});

test('every field of a record is an attribute: none is left out, none is undefined', () => {
  const digest = `sha256:${'7'.repeat(64)}`;
  const record = recordOf({
    decision: { outcome: 'refuse', reason: 'SCOPE_EXHAUSTED' },
    purpose: 'purpose-value',
    trace: '0af7651916cd43dd8448eb211c80319c',
    policy: digest,
    model: digest,
    plugin: digest,
    plugins: [digest],
    program: digest,
    output: digest,
    budget: { scope: 'scope-value', before: 11, after: 12, limit: 13, measure: 'zcdp' },
    mechanism: 'mechanism-value',
    isolation: 'process',
    layers: ['landlock', 'seccomp'],
    backend: 'native',
    measures: { wallMicros: 21, cpuMicros: 22, memoryBytes: 23, outputBytes: 24, cutBytes: 25, calls: 26 },
    commitments: { subject: digest, name: digest },
    predecessor: { vkey: 'vkey-value', checkpoint: 'checkpoint-value' },
  });
  const { attributes } = toLogRecord(record, ORIGIN);
  const leaves = (value: unknown): unknown[] =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.values(value).flatMap(leaves)
      : [value];
  const { v, time, seq, ...said } = record;
  expect([v, time]).toEqual([1, record.time]);
  expect(Object.values(attributes)).toEqual(expect.arrayContaining([...leaves(said), seq, `${ORIGIN}#3`]));
  expect(Object.keys(attributes)).toHaveLength(leaves(said).length + 3); // the number, the log and their join
  expect(Object.values(attributes)).not.toContain(undefined);
});

test('what was allowed is INFO, a refusal WARN, a failure ERROR', () => {
  const refused = { outcome: 'refuse', reason: 'X' } as const;
  for (const action of ACTIONS) {
    const broke = action === 'fail' || action === 'kill';
    expect(toLogRecord(recordOf({ action }), ORIGIN).severityText).toBe(broke ? 'ERROR' : 'INFO');
    expect(toLogRecord(recordOf({ action, decision: refused }), ORIGIN).severityNumber).toBe(broke ? 17 : 13);
  }
});

test('any time, also before 1970, is seconds and nanoseconds that give it back', () => {
  fc.assert(
    fc.property(fc.integer({ min: -8.64e15, max: 8.64e15 }), time => {
      const [seconds, nanoseconds] = toLogRecord(recordOf({ time }), ORIGIN).timestamp;
      expect(nanoseconds).toBeGreaterThanOrEqual(0);
      expect(nanoseconds).toBeLessThan(1e9);
      expect(seconds * 1000 + nanoseconds / 1e6).toBe(time);
    }),
  );
});

test('a logger gets each record once', () => {
  const seen: OtelLogRecord[] = [];
  const emit = emitTo({ emit: record => seen.push(record) }, ORIGIN);
  for (const action of ACTIONS) emit(recordOf({ action }));
  expect(seen.map(record => record.eventName)).toEqual(ACTIONS.map(action => `cloister.audit.${action}`));
});
