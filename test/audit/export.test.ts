import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ACTIONS } from '../../sandbox/audit/actions.ts';
import { CSV_HEADER, csvRow, jsonLine, toOcsf } from '../../sandbox/audit/export.ts';
import { type AuditRecord, decodeRecord, encodeRecord } from '../../sandbox/audit/record.ts';
import { event, ORIGIN } from './events.ts';

function recordOf(more: Partial<AuditRecord> = {}): AuditRecord {
  return { ...event(3), v: 1, seq: 3, time: Date.UTC(2026, 10, 21), ...more };
}

/** RFC 4180, read by the letter: the cells of one line. */
function cellsOf(line: string): string[] {
  const cells: string[] = [];
  for (let at = 0; at <= line.length; at++) {
    let cell = '';
    if (line[at] === '"') {
      for (at++; line[at] !== '"' || line[at + 1] === '"'; at++) {
        if (line[at] === '"') at++;
        if (at >= line.length) throw new Error('a quote is not closed');
        cell += line[at];
      }
      at++;
    } else {
      for (; at < line.length && line[at] !== ','; at++) cell += line[at];
    }
    if (at < line.length && line[at] !== ',') throw new Error(`expected a comma at ${at}`);
    cells.push(cell);
  }
  return cells;
}

const anyText = fc.oneof(
  fc.string({ unit: 'binary', minLength: 1, maxLength: 40 }),
  fc.constantFrom(
    '=1+1',
    '+1',
    '-1',
    '@SUM(A1)',
    '\t=1',
    '\r=1',
    ' =1',
    '＝1',
    '"',
    '",=1,"',
    'a\nb',
    '\u202e',
    '\u009b2J',
  ),
);

describe('CSV', () => {
  const columns = cellsOf(CSV_HEADER);
  const cell = (record: AuditRecord, column: string): string | undefined =>
    cellsOf(csvRow(record))[columns.indexOf(column)];

  test('has a cell for each column, with what the record says', () => {
    const record = recordOf({
      decision: { outcome: 'refuse', reason: 'SCOPE_EXHAUSTED' },
      purpose: 'audit, "yearly"',
      measures: { wallMicros: 12, calls: 0 },
      commitments: { subject: `sha256:${'0'.repeat(64)}` },
    });
    expect(cellsOf(csvRow(record))).toHaveLength(columns.length);
    expect(cell(record, 'time')).toBe('2026-11-21T00:00:00.000Z');
    expect(cell(record, 'reason')).toBe('SCOPE_EXHAUSTED');
    expect(cell(record, 'purpose')).toBe('audit, "yearly"');
    expect(cell(record, 'budget_after')).toBe('4000');
    expect(cell(record, 'wall_micros')).toBe('12');
    expect(cell(record, 'cpu_micros')).toBe('');
    expect(cell(record, 'calls')).toBe('0');
    expect(JSON.parse(cell(record, 'commitments')!)).toEqual(record.commitments);
    expect(cell(recordOf({ time: Number.MAX_SAFE_INTEGER }), 'time')).toBe('9007199254740991');
  });

  test('is one line a record, and no cell is a formula, whatever the texts are', () => {
    fc.assert(
      fc.property(anyText, anyText, anyText, (actor, id, purpose) => {
        const row = csvRow(recordOf({ actor, object: { kind: 'session', id }, purpose }));
        expect(row).not.toMatch(/[\p{Cc}\u2028\u2029]/u);
        const cells = cellsOf(row);
        expect(cells).toHaveLength(columns.length);
        for (const text of cells) expect(text).not.toMatch(/^\s*[=+\-@＝＋－＠]/u);
      }),
      { numRuns: 1000 },
    );
    expect(cell(recordOf({ actor: '=1+1' }), 'actor')).toBe("'=1+1");
    expect(cell(recordOf({ actor: 'ward=1' }), 'actor')).toBe('ward=1'); // what is no formula stays as it is
  });
});

describe('JSON Lines', () => {
  test('hold the record whole, on one line without control characters', () => {
    fc.assert(
      fc.property(
        anyText.filter(text => text.isWellFormed()),
        actor => {
          const record = recordOf({ actor });
          const line = jsonLine(record);
          expect(line).not.toMatch(/\p{Cc}/u);
          expect(encodeRecord(JSON.parse(line) as AuditRecord)).toEqual(encodeRecord(record));
        },
      ),
    );
    const record = recordOf();
    expect(decodeRecord(new TextEncoder().encode(jsonLine(record)))).toEqual(record); // the leaf itself, letter by letter
  });
});

describe('OCSF', () => {
  test.each(ACTIONS.map(action => [action] as const))(
    '%s is an API Activity with all that the class requires',
    action => {
      const refused = action === 'refuse';
      const decision = refused
        ? ({ outcome: 'refuse', reason: 'POLICY_REFUSED' } as const)
        : ({ outcome: 'allow' } as const);
      const event = toOcsf(recordOf({ action, decision }), ORIGIN);
      expect(event).toMatchObject({ category_uid: 6, class_uid: 6003, type_uid: 600_300 + event.activity_id });
      expect([1, 2, 3, 4, 99]).toContain(event.activity_id);
      expect(event.activity_name).not.toBe('');
      for (const required of ['actor', 'api', 'metadata', 'severity_id', 'src_endpoint', 'time'] as const)
        expect(event[required], required).toBeDefined();
      expect(event.time).toBe(Date.UTC(2026, 10, 21));
      expect(event.status_id).toBe(refused || action === 'fail' || action === 'kill' ? 2 : 1);
      expect(event.status_code).toBe(refused ? 'POLICY_REFUSED' : undefined);
      expect(event.metadata).toMatchObject({ version: '1.3.0', sequence: 3, uid: `${ORIGIN}#3` });
    },
  );

  test('loses nothing of a record', () => {
    const record = recordOf({ purpose: 'care', model: `sha256:${'1'.repeat(64)}`, measures: { calls: 2 } });
    const { api, actor, resources, unmapped, ...rest } = toOcsf(record, ORIGIN);
    const [object] = resources;
    expect({
      ...unmapped,
      seq: rest.metadata.sequence,
      time: rest.time,
      actor: actor.user.name,
      action: api.operation,
      object: { kind: object!.type, id: object!.name },
      decision: { outcome: rest.status_id === 1 ? 'allow' : 'refuse' },
      request: api.request?.uid,
      purpose: rest.message,
    }).toEqual(record);
  });
});
