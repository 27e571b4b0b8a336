/**
 * What one audit record says, and its one spelling. Pure.
 *
 * A record holds who did what to which object, whether it was allowed, and digests; never an input, an output or a raw
 * result. Personal data (a subject's name, say) enters only as a commitment, see `commit`.
 * @module
 */
import { canonicalJson, type Json } from '../../src/base/canonical.ts';
import { CloisterError } from '../../src/base/errors.ts';
import * as z from '../../src/base/zod.ts';
import { ACTIONS, type AuditAction } from './actions.ts';

/** Bytes that one encoded record may have. */
export const RECORD_LIMIT_BYTES = 16_384;

/** What a caller reports; {@link AuditRecord} adds version, position and time. */
export interface AuditEvent {
  /** Who asked: a service account, a ward, a tenant. Not a data subject; that goes into `commitments`. */
  readonly actor: string;
  readonly action: AuditAction;
  /** What it was done to: a model by its digest, a scope by its name, a plugin by name and version, a subject by a commitment. */
  readonly object: {
    readonly kind: 'model' | 'plugin' | 'scope' | 'session' | 'policy' | 'worker' | 'log' | 'key' | 'subject';
    readonly id: string;
  };
  /** Whether it was allowed, and the reason code (`SCOPE_EXHAUSTED`); a refusal must have one. */
  readonly decision: { readonly outcome: 'allow' | 'refuse'; readonly reason?: string | undefined };
  /** Why the actor asked. */
  readonly purpose?: string | undefined;
  /** Joins the records of one request. */
  readonly request?: string | undefined;
  /** Trace id of the request, as W3C Trace Context has it: 32 hexadecimal digits, lower case, not all zero. */
  readonly trace?: string | undefined;
  /** The policy that decided: `sha256:` and 64 hexadecimal digits, here and below. */
  readonly policy?: string | undefined;
  readonly model?: string | undefined;
  /** The plugin that the record is about. */
  readonly plugin?: string | undefined;
  /** The plugins that were at work, each once, in the order in which they were loaded. */
  readonly plugins?: readonly string[] | undefined;
  readonly program?: string | undefined;
  readonly output?: string | undefined;
  /**
   * What a charge did to a scope, or what a refusal or a change of its limit found there: then `before` and `after` are alike. In whole units of `measure`
   * (micro-epsilon where there is none); of a measure with several parts, the part that is nearest its limit.
   */
  readonly budget?:
    | {
        readonly scope: string;
        readonly before: number;
        readonly after: number;
        readonly limit?: number | undefined;
        readonly measure?: 'pure' | 'approx' | 'zcdp' | 'rdp' | 'gdp' | undefined;
      }
    | undefined;
  /** Name of the randomised map that made a release. */
  readonly mechanism?: string | undefined;
  readonly isolation?: 'none' | 'isolate' | 'process' | undefined;
  /** Names of the layers of protection that were active, from the innermost to the outermost. */
  readonly layers?: readonly string[] | undefined;
  readonly backend?: string | undefined;
  /** Costs and counts that depend on no protected value. */
  readonly measures?:
    | {
        readonly wallMicros?: number | undefined;
        readonly cpuMicros?: number | undefined;
        readonly memoryBytes?: number | undefined;
        readonly outputBytes?: number | undefined;
        readonly cutBytes?: number | undefined;
        readonly calls?: number | undefined;
      }
    | undefined;
  /** In the first record of a log that continues another, see `continueLog`: key and last checkpoint of that one. */
  readonly predecessor?: { readonly vkey: string; readonly checkpoint: string } | undefined;
  /** Salted commitments to personal data, by name: `{ subject: commit(salt, name) }`. */
  readonly commitments?: Readonly<Record<string, string>> | undefined;
}

/** One entry of the log. */
export interface AuditRecord extends AuditEvent {
  /** Version of this schema. */
  readonly v: 1;
  /** Position in the log, from 0. */
  readonly seq: number;
  /** Milliseconds since 1970-01-01T00:00:00Z by the writer's clock, which may jump: order is by `seq`. */
  readonly time: number;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

const text = (limit: number) => z.string().min(1).max(limit);
const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/, 'expected sha256: and 64 hexadecimal digits');

/**
 * A strict object whose output has its keys in canonical order, whatever the order of the input: `JSON.stringify` then spells it as RFC 8785
 * does, in a third of the time. A test holds the two to each other.
 */
const inOrder: typeof z.strictObject = (shape, ...more) => {
  const sorted = Object.entries(shape).sort(([a], [b]) => (a < b ? -1 : 1));
  return z.strictObject(Object.fromEntries(sorted) as typeof shape, ...more);
};

const EVENT_SHAPE = {
  actor: text(256),
  action: z.enum(ACTIONS),
  object: inOrder({
    kind: z.enum(['model', 'plugin', 'scope', 'session', 'policy', 'worker', 'log', 'key', 'subject']),
    id: text(512),
  }),
  decision: inOrder({
    outcome: z.enum(['allow', 'refuse']),
    reason: z
      .string()
      .regex(/^[A-Z][A-Z0-9_]{0,63}$/)
      .optional(),
  }).refine(decision => decision.outcome === 'allow' || decision.reason !== undefined, 'a refusal needs a reason'),
  purpose: text(256).optional(),
  request: text(128).optional(),
  trace: z
    .string()
    .regex(/^(?!0{32})[0-9a-f]{32}$/, 'expected 32 hexadecimal digits, not all zero')
    .optional(),
  policy: digest.optional(),
  model: digest.optional(),
  plugin: digest.optional(),
  plugins: z
    .array(digest)
    .min(1)
    .max(16)
    .refine(all => new Set(all).size === all.length, 'a plugin is named twice')
    .optional(),
  program: digest.optional(),
  output: digest.optional(),
  budget: inOrder({
    scope: text(512),
    before: count,
    after: count,
    limit: count.optional(),
    measure: z.enum(['pure', 'approx', 'zcdp', 'rdp', 'gdp']).optional(),
  }).optional(),
  mechanism: text(64).optional(),
  isolation: z.enum(['none', 'isolate', 'process']).optional(),
  layers: z
    .array(z.string().regex(/^[a-z][a-zA-Z0-9]{0,31}$/))
    .max(32)
    .optional(),
  backend: text(64).optional(),
  measures: inOrder({
    wallMicros: count.optional(),
    cpuMicros: count.optional(),
    memoryBytes: count.optional(),
    outputBytes: count.optional(),
    cutBytes: count.optional(),
    calls: count.optional(),
  }).optional(),
  predecessor: inOrder({ vkey: text(512), checkpoint: text(8192) }).optional(),
  commitments: z
    .record(z.string().regex(/^[a-z][a-zA-Z0-9-]{0,31}$/), digest)
    .refine(all => Object.keys(all).length <= 16, 'at most 16 commitments')
    .optional(),
};

/** Checks an event at the boundary. Unknown keys are refused. */
export const auditEventSchema: z.ZodType<AuditEvent> = inOrder(EVENT_SHAPE);

/** Checks a whole record. Unknown keys are refused. */
export const auditRecordSchema: z.ZodType<AuditRecord> = inOrder({
  ...EVENT_SHAPE,
  v: z.literal(1),
  seq: count,
  time: z.number().int().min(Number.MIN_SAFE_INTEGER).max(Number.MAX_SAFE_INTEGER),
});

/**
 * Encodes a record: canonical JSON (RFC 8785) in UTF-8. These bytes are the Merkle leaf.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when the record does not fit its schema or is over {@link RECORD_LIMIT_BYTES}.
 */
export function encodeRecord(record: AuditRecord): Uint8Array {
  const bytes = encoder.encode(spellCommon(record) ?? spellChecked(record));
  if (bytes.length > RECORD_LIMIT_BYTES) {
    throw new CloisterError(
      'INVALID_ARGUMENT',
      `an audit record may have ${RECORD_LIMIT_BYTES} bytes, this one has ${bytes.length}`,
      {
        bytes: bytes.length,
        limitBytes: RECORD_LIMIT_BYTES,
      },
    );
  }
  return bytes;
}

/**
 * Decodes a record and refuses every spelling but the canonical one.
 *
 * @throws {CloisterError} `AUDIT_INVALID` when the bytes are not the encoding of a record.
 */
export function decodeRecord(bytes: Uint8Array): AuditRecord {
  try {
    if (bytes.length > RECORD_LIMIT_BYTES) throw new CloisterError('AUDIT_INVALID', `over ${RECORD_LIMIT_BYTES} bytes`);
    const spelt = decoder.decode(bytes);
    const record = auditRecordSchema.parse(JSON.parse(spelt));
    if (spell(record) !== spelt) throw new CloisterError('AUDIT_INVALID', 'not in canonical form');
    return record;
  } catch (cause) {
    throw new CloisterError(
      'AUDIT_INVALID',
      `the bytes are not an audit record of version 1: ${(cause as Error).message}`,
      {},
      { cause },
    );
  }
}

function spellChecked(record: AuditRecord): string {
  const checked = auditRecordSchema.safeParse(record);
  if (checked.success) return spell(checked.data);
  const why = z.prettifyError(checked.error);
  throw new CloisterError('INVALID_ARGUMENT', `an audit record does not fit its schema: ${why}`);
}

/**
 * The spelling of a record as most are, allowed and without much beside its budget, checked by hand in a fraction of the time that the
 * schema takes. Undefined for every other, also for one that is wrong: the schema judges those. A test holds the two to each other.
 */
function spellCommon(record: AuditRecord): string | undefined {
  if (Array.isArray(record)) return undefined;
  for (const key in record) if (!COMMON_KEYS.has(key)) return undefined;
  const { action, actor, budget, decision, object, request, seq, time, v } = record;
  if (v !== 1 || !isCount(seq) || !Number.isSafeInteger(time) || !KNOWN_ACTIONS.has(action)) return undefined;
  if (!isText(actor, 256) || (request !== undefined && !isText(request, 128))) return undefined;
  if (!hasOnly(decision, DECISION_KEYS) || decision.outcome !== 'allow' || !hasOnly(object, OBJECT_KEYS))
    return undefined;
  const { id, kind } = object;
  if (!isText(id, 512) || !KINDS.has(kind)) return undefined;
  const head = { action, actor };
  const tail = { decision: { outcome: 'allow' }, object: { id, kind }, request, seq, time, v };
  let spelt: string;
  if (budget === undefined) {
    spelt = JSON.stringify({ ...head, ...tail });
  } else {
    if (!hasOnly(budget, BUDGET_KEYS)) return undefined;
    const { after, before, limit, scope } = budget;
    if (!isCount(after) || !isCount(before) || !isText(scope, 512)) return undefined;
    if (limit !== undefined && !isCount(limit)) return undefined;
    spelt = JSON.stringify({ ...head, budget: { after, before, limit, scope }, ...tail });
  }
  return spelt.includes('\\ud') ? undefined : spelt; // see spell
}

const COMMON_KEYS = new Set(['action', 'actor', 'budget', 'decision', 'object', 'request', 'seq', 'time', 'v']);
const DECISION_KEYS = new Set(['outcome']);
const OBJECT_KEYS = new Set(['id', 'kind']);
const BUDGET_KEYS = new Set(['after', 'before', 'limit', 'scope']);
const KNOWN_ACTIONS: ReadonlySet<string> = new Set(ACTIONS);
const KINDS: ReadonlySet<string> = new Set(EVENT_SHAPE.object.shape.kind.options);

function hasOnly(value: unknown, keys: ReadonlySet<string>): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  for (const key in value) if (!keys.has(key)) return false;
  return true;
}

function isText(value: unknown, limit: number): boolean {
  return typeof value === 'string' && value.length >= 1 && value.length <= limit;
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** Canonical JSON of what the schema gave. */
function spell(record: AuditRecord): string {
  // Names of commitments are in no order of a schema.
  if (record.commitments !== undefined) return canonicalJson(record as unknown as Json);
  const spelt = JSON.stringify(record);
  // How a lone surrogate is spelt, which canonical JSON refuses; a text may also say so itself.
  return spelt.includes('\\ud') ? canonicalJson(record as unknown as Json) : spelt;
}
