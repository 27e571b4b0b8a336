/**
 * A made-up clinic's log: a few wards, two budgets that run out, refusals, and now and then a hostile text.
 * @module
 */
import type { AuditRecord } from '../../sandbox/audit/record.ts';

const MODELS = ['a', 'b', 'c'].map(letter => `sha256:${letter.repeat(4)}${'0123456789abcdef'.repeat(4).slice(4)}`);
const PURPOSES = ['weekly report', 'triage', 'bed planning', 'audit', 'second opinion'];
const SCOPES = ['clinic-a/2026-q4', 'clinic-b/2026-q4', 'research/cohort-7'];
const LIMIT = 2_500_000;
const BEGIN = Date.UTC(2026, 9, 1);

/** Text that tries to look like something else. */
export const HOSTILE = 'ward-\u202e9\u0007 <img src=x onerror=alert(1)>';

/** Record `seq` of `size` over the last quarter of 2026; `spans` in milliseconds. */
export function clinicRecord(seq: number, size: number, spanMs: number = 50 * 86_400_000): AuditRecord {
  const day = spanMs / size;
  // More by day than by night.
  const time = Math.round(BEGIN + seq * day + 3_600_000 * Math.sin((seq * day) / 13_750_987));
  const actor = seq % 97 === 13 ? HOSTILE : `ward-${(seq * 7) % 9}`;
  const model = MODELS[seq % 3]!;
  const request = `r-${seq.toString(36)}`;
  const common = { v: 1 as const, seq, time, actor, purpose: PURPOSES[seq % 5]!, request };
  const turn = Math.floor(seq / 10);
  const scope = SCOPES[turn % 7 === 6 ? 2 : turn % 2]!;
  const before = Math.floor(seq / 10) * Math.floor(2_000_000 / (size / 10 + 1));
  if (seq === 0) {
    const object = { kind: 'session', id: 'clinic' } as const;
    return { v: 1, seq, time, actor: 'service', action: 'open', object, decision: { outcome: 'allow' } };
  }
  switch (seq % 10) {
    case 1:
      return { ...common, action: 'load', object: { kind: 'model', id: model }, decision: { outcome: 'allow' }, model };
    case 4:
      return {
        ...common,
        action: 'charge',
        object: { kind: 'scope', id: scope },
        decision: { outcome: 'allow' },
        budget: { scope, before, after: before + Math.floor(2_000_000 / (size / 10 + 1)), limit: LIMIT },
        mechanism: 'discrete-laplace',
      };
    case 7:
      if (seq % 30 !== 7) break;
      return {
        ...common,
        action: 'refuse',
        object: { kind: 'scope', id: scope },
        decision: { outcome: 'refuse', reason: seq % 60 === 7 ? 'SCOPE_EXHAUSTED' : 'POLICY_REFUSED' },
        budget: { scope, before, after: before, limit: LIMIT },
      };
  }
  return {
    ...common,
    action: seq % 10 === 5 ? 'release' : 'run',
    object: { kind: 'session', id: 'triage' },
    decision: { outcome: 'allow' },
    model,
    isolation: 'process',
    layers: ['isolate', 'seccomp', 'landlock'],
    measures: { wallMicros: 900 + (seq % 400), outputBytes: 40 },
  };
}
