/**
 * Records in the forms that other programs read: CSV for spreadsheets, OCSF for security tools. Pure.
 * @module
 */
import { canonicalJson, type Json } from '../../src/base/canonical.ts';
import { isoTime } from '../../src/base/clock.ts';
import type { AuditAction } from './actions.ts';
import type { AuditRecord } from './record.ts';

/** The forms of an export: JSON Lines in full, CSV, and JSON Lines of OCSF events. */
export type ExportFormat = 'jsonl' | 'csv' | 'ocsf';

/** Canonical JSON on one line that a terminal takes as text: U+007F to U+009F, which it leaves as they are, are escaped. */
export function jsonLine(value: unknown): string {
  return canonicalJson(value as Json).replace(
    /[\u007f-\u009f]/g,
    mark => `\\u${mark.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

type Cell = (record: AuditRecord) => string | number | undefined;

/** The columns of {@link csvRow}, in their order. Columns may be added at the end. */
const COLUMNS: Readonly<Record<string, Cell>> = {
  seq: record => record.seq,
  time: record => isoTime(record.time),
  actor: record => record.actor,
  action: record => record.action,
  object_kind: record => record.object.kind,
  object_id: record => record.object.id,
  outcome: record => record.decision.outcome,
  reason: record => record.decision.reason,
  purpose: record => record.purpose,
  request: record => record.request,
  policy: record => record.policy,
  model: record => record.model,
  plugin: record => record.plugin,
  program: record => record.program,
  output: record => record.output,
  budget_scope: record => record.budget?.scope,
  budget_before: record => record.budget?.before,
  budget_after: record => record.budget?.after,
  mechanism: record => record.mechanism,
  isolation: record => record.isolation,
  backend: record => record.backend,
  wall_micros: record => record.measures?.wallMicros,
  cpu_micros: record => record.measures?.cpuMicros,
  memory_bytes: record => record.measures?.memoryBytes,
  output_bytes: record => record.measures?.outputBytes,
  cut_bytes: record => record.measures?.cutBytes,
  calls: record => record.measures?.calls,
  commitments: record => record.commitments && JSON.stringify(record.commitments),
  trace: record => record.trace,
  plugins: record => record.plugins?.join(' '),
  budget_limit: record => record.budget?.limit,
  budget_measure: record => record.budget?.measure,
  layers: record => record.layers?.join(' '),
};

/** The first line of a CSV file, without its end. */
export const CSV_HEADER: string = Object.keys(COLUMNS).join(',');

/**
 * A record as a line of CSV (RFC 4180), without its end. A spreadsheet takes no cell for a formula: text that begins with `=`, `+`,
 * `-`, `@` or their wide forms gets a `'` in front. Control characters and marks that turn the direction of writing are spelt
 * `\u{…}`, so a record is one line. JSON Lines keeps text as it is; this form does not.
 *
 * @example
 * ```ts
 * const object = { kind: 'session', id: 'triage' } as const;
 * const record = { v: 1, seq: 7, time: 0, actor: '=1+1', action: 'run', object, decision: { outcome: 'allow' } } as const;
 * csvRow(record).split(',')[2]; // '"\'=1+1"'
 * ```
 */
export function csvRow(record: AuditRecord): string {
  return Object.values(COLUMNS)
    .map(cell => cellText(cell(record)))
    .join(',');
}

function cellText(value: string | number | undefined): string {
  if (value === undefined) return '';
  if (typeof value === 'number') return String(value);
  const visible = value.replace(
    /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu,
    mark => `\\u{${mark.codePointAt(0)!.toString(16)}}`,
  );
  // Some spreadsheets pass over white space before they look for a formula.
  const guarded = /^\p{White_Space}*[=+\-@＝＋－＠]/u.test(visible) ? `'${visible}` : visible;
  return `"${guarded.replaceAll('"', '""')}"`;
}

/** The version of OCSF that {@link toOcsf} is written for. */
export const OCSF_VERSION = '1.3.0';

/** An event of the class API Activity (6003) of the Open Cybersecurity Schema Framework. */
export interface OcsfEvent {
  readonly category_uid: 6;
  readonly category_name: 'Application Activity';
  readonly class_uid: 6003;
  readonly class_name: 'API Activity';
  /** 1 create, 2 read, 3 update, 4 delete, 99 other. */
  readonly activity_id: ActivityId;
  readonly activity_name: string;
  /** `class_uid * 100 + activity_id`. */
  readonly type_uid: number;
  readonly type_name: string;
  /** Milliseconds since 1970. */
  readonly time: number;
  /** 1 informational, 2 low, 3 medium. */
  readonly severity_id: 1 | 2 | 3;
  readonly severity: 'Informational' | 'Low' | 'Medium';
  /** 1 success, 2 failure. */
  readonly status_id: 1 | 2;
  readonly status: 'Success' | 'Failure';
  readonly status_code?: string;
  readonly message?: string;
  readonly actor: { readonly user: { readonly name: string; readonly type_id: 0 } };
  readonly src_endpoint: { readonly name: string };
  readonly api: {
    readonly operation: AuditAction;
    readonly service: { readonly name: 'cloister' };
    readonly request?: { readonly uid: string };
  };
  readonly resources: readonly { readonly type: string; readonly name: string }[];
  readonly metadata: {
    readonly version: string;
    readonly product: { readonly name: 'Cloister'; readonly vendor_name: 'Cloister' };
    readonly log_name: string;
    /** `log_name` and position: the same record always has the same. */
    readonly uid: string;
    readonly sequence: number;
  };
  /** What OCSF has no place for, as the record has it. */
  readonly unmapped: Partial<
    Omit<AuditRecord, 'seq' | 'time' | 'actor' | 'action' | 'object' | 'decision' | 'request' | 'purpose'>
  >;
}

type ActivityId = 1 | 2 | 3 | 4 | 99;

const ACTIVITY_NAMES: Readonly<Record<ActivityId, string>> = {
  1: 'Create',
  2: 'Read',
  3: 'Update',
  4: 'Delete',
  99: 'Other',
};

const ACTIVITIES: Readonly<Record<AuditAction, ActivityId>> = {
  open: 99,
  recover: 3,
  policy: 3,
  load: 2,
  install: 1,
  remove: 4,
  run: 2,
  reserve: 3,
  charge: 3,
  release: 2,
  refuse: 99,
  kill: 99,
  fail: 99,
  key: 3,
  erase: 4,
  close: 99,
};

/**
 * A record as an event of OCSF. Its status is what was decided; a stage that failed and a guest that was stopped are failures too. A
 * refusal is of low severity, those two are of medium.
 *
 * @param logName - Name of the log.
 * @example
 * ```ts
 * const object = { kind: 'scope', id: 'clinic-a' } as const;
 * const decision = { outcome: 'refuse', reason: 'SCOPE_EXHAUSTED' } as const;
 * const event = toOcsf({ v: 1, seq: 7, time: 0, actor: 'ward-3', action: 'refuse', object, decision }, 'clinic.example/audit');
 * event.type_uid; // 600399
 * event.status_code; // 'SCOPE_EXHAUSTED'
 * ```
 */
export function toOcsf(record: AuditRecord, logName: string): OcsfEvent {
  const { seq, time, actor, action, object, decision, request, purpose, ...unmapped } = record;
  const activity = ACTIVITIES[action];
  const broke = action === 'fail' || action === 'kill';
  const refused = decision.outcome === 'refuse';
  return {
    category_uid: 6,
    category_name: 'Application Activity',
    class_uid: 6003,
    class_name: 'API Activity',
    activity_id: activity,
    activity_name: activity === 99 ? action : ACTIVITY_NAMES[activity],
    type_uid: 600_300 + activity,
    type_name: `API Activity: ${ACTIVITY_NAMES[activity]}`,
    time,
    severity_id: broke ? 3 : refused ? 2 : 1,
    severity: broke ? 'Medium' : refused ? 'Low' : 'Informational',
    status_id: broke || refused ? 2 : 1,
    status: broke || refused ? 'Failure' : 'Success',
    ...(decision.reason !== undefined && { status_code: decision.reason }),
    ...(purpose !== undefined && { message: purpose }),
    actor: { user: { name: actor, type_id: 0 } },
    src_endpoint: { name: actor },
    api: {
      operation: action,
      service: { name: 'cloister' },
      ...(request !== undefined && { request: { uid: request } }),
    },
    resources: [{ type: object.kind, name: object.id }],
    metadata: {
      version: OCSF_VERSION,
      product: { name: 'Cloister', vendor_name: 'Cloister' },
      log_name: logName,
      uid: `${logName}#${seq}`,
      sequence: seq,
    },
    unmapped,
  };
}
