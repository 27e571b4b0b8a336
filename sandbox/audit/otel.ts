/**
 * Records as log records of OpenTelemetry. Pure, and without a dependency: whoever has a logger of `@opentelemetry/api-logs` passes it.
 * @module
 * @see https://opentelemetry.io/docs/specs/otel/logs/data-model/
 */
import { canonicalJson, type Json } from '../../src/base/canonical.ts';
import type { AuditRecord } from './record.ts';

/** An attribute: a text, a number, or a list of texts. */
export type OtelValue = string | number | string[];

/** A log record as `Logger.emit` of `@opentelemetry/api-logs` takes it. */
export interface OtelLogRecord {
  /** `cloister.audit.` and the action. */
  readonly eventName: string;
  /** Seconds since 1970 and nanoseconds, by the clock of the log. */
  readonly timestamp: [seconds: number, nanoseconds: number];
  /** 9 INFO for what was allowed, 13 WARN for a refusal, 17 ERROR for a stage that failed or a guest that was stopped. */
  readonly severityNumber: 9 | 13 | 17;
  readonly severityText: 'INFO' | 'WARN' | 'ERROR';
  /** The canonical JSON of the record: the Merkle leaf, so that whoever receives it can check it against the log. */
  readonly body: string;
  /** What the record says, flat; names of the semantic conventions where they have one, else under `cloister.`. */
  readonly attributes: Record<string, OtelValue>;
}

/** What {@link emitTo} needs of a logger. */
export interface OtelLogger {
  emit(record: OtelLogRecord): void;
}

/**
 * A record as a log record of OpenTelemetry.
 *
 * @param logName - Name of the log.
 * @example
 * ```ts
 * const object = { kind: 'scope', id: 'clinic-a' } as const;
 * const decision = { outcome: 'refuse', reason: 'SCOPE_EXHAUSTED' } as const;
 * const record = { v: 1, seq: 7, time: 1500, actor: 'ward-3', action: 'refuse', object, decision } as const;
 * const { eventName, timestamp, severityText } = toLogRecord(record, 'clinic.example/audit');
 * eventName; // 'cloister.audit.refuse'
 * timestamp; // [1, 500000000]
 * severityText; // 'WARN'
 * ```
 */
export function toLogRecord(record: AuditRecord, logName: string): OtelLogRecord {
  const { time, action, decision } = record;
  const seconds = Math.floor(time / 1000);
  const broke = action === 'fail' || action === 'kill';
  const severity = broke ? ERROR : decision.outcome === 'refuse' ? WARN : INFO;
  return {
    eventName: `cloister.audit.${action}`,
    timestamp: [seconds, (time - 1000 * seconds) * 1e6],
    severityNumber: severity[0],
    severityText: severity[1],
    body: canonicalJson(record as unknown as Json),
    attributes: attributesOf(record, logName),
  };
}

/**
 * What hands records to a logger of OpenTelemetry, such as `logs.getLogger('cloister')` of `@opentelemetry/api-logs`.
 *
 * @param logName - Name of the log.
 * @example
 * ```ts
 * await using log = await openLog('./cloister-data/audit');
 * const object = { kind: 'model', id: 'digits' } as const;
 * await log.append({ actor: 'ward-3', action: 'load', object, decision: { outcome: 'allow' } });
 * const names: string[] = [];
 * const emit = emitTo({ emit: record => void names.push(record.eventName) }, log.origin);
 * for await (const record of log.records()) emit(record);
 * names; // ['cloister.audit.load']
 * ```
 */
export function emitTo(logger: OtelLogger, logName: string): (record: AuditRecord) => void {
  return record => logger.emit(toLogRecord(record, logName));
}

const INFO = [9, 'INFO'] as const;
const WARN = [13, 'WARN'] as const;
const ERROR = [17, 'ERROR'] as const;

function attributesOf(record: AuditRecord, logName: string): Record<string, OtelValue> {
  const { actor, object, decision, budget, measures, commitments } = record;
  const attributes: Record<string, OtelValue | undefined> = {
    'log.record.uid': `${logName}#${record.seq}`,
    'cloister.log.name': logName,
    'cloister.log.seq': record.seq,
    'user.name': actor,
    'cloister.action': record.action,
    'cloister.object.kind': object.kind,
    'cloister.object.id': object.id,
    'cloister.decision.outcome': decision.outcome,
    'error.type': decision.reason,
    'cloister.purpose': record.purpose,
    'cloister.request.id': record.request,
    'cloister.trace.id': record.trace,
    'cloister.policy': record.policy,
    'cloister.model': record.model,
    'cloister.plugin': record.plugin,
    'cloister.plugins': record.plugins && [...record.plugins],
    'cloister.program': record.program,
    'cloister.output': record.output,
    'cloister.budget.scope': budget?.scope,
    'cloister.budget.before': budget?.before,
    'cloister.budget.after': budget?.after,
    'cloister.budget.limit': budget?.limit,
    'cloister.budget.measure': budget?.measure,
    'cloister.mechanism': record.mechanism,
    'cloister.isolation': record.isolation,
    'cloister.layers': record.layers && [...record.layers],
    'cloister.backend': record.backend,
    'cloister.predecessor.vkey': record.predecessor?.vkey,
    'cloister.predecessor.checkpoint': record.predecessor?.checkpoint,
  };
  for (const [name, value] of Object.entries(measures ?? {})) attributes[`cloister.measures.${name}`] = value;
  for (const [name, value] of Object.entries(commitments ?? {})) attributes[`cloister.commitments.${name}`] = value;
  return Object.fromEntries(
    Object.entries(attributes).filter((entry): entry is [string, OtelValue] => entry[1] !== undefined),
  );
}
