/**
 * An evaluation between supervisor and worker: the request, what is said meanwhile, and the answer.
 *
 * The request's header holds `memoryMb`, `outputBytes`, `lines` and `lineBytes` (the limits of messages), `lent`, `seed`, and the bytes
 * of each part of the payload: `sourceBytes`, `entryBytes`, and the model behind them. A message is `{"line": text}` or
 * `{"uses": {…}}`; the latter comes when a capability has been used 1, 2, 4, 8 … times. The answer's header holds `kind`, `uses` and
 * `valueBytes`; its payload is the value, and behind it what `kv` is to keep. Source and value are UTF-8; entries and changes are
 * JSON, `[[key, value], …]`, where `null` stands for a key that is deleted.
 * @module
 */
import type { EvaluateOptions, GuestVerdict } from './evaluation.ts';
import { sizeOf } from './lending/kv.ts';
import { changesBetween, type KvChanges } from './lending/kv-store.ts';
import type { Use, Uses } from './lending/lending.ts';
import { CAPABILITY_LIST, type CapabilityOptions, type Lent } from './lending/table.ts';
import type { Limits } from './limits.ts';
import { count, isRecord, printable, refuseGuest } from './untrusted.ts';
import type { EvaluateRequest } from './walls.ts';

/** Messages that say how much was used: one for each power of two, for each capability. */
const USE_MESSAGES = 64 * CAPABILITY_LIST.length;
const USE_MESSAGE_BYTES = 2_048;
/** Bytes around a line in its message. */
const LINE_FRAME_BYTES = 64;
/** Bytes of the text of what was thrown: 2,000 characters. */
const ERROR_BYTES = 8_000;
const NO_CHANGE_BYTES = '[]'.length;
/** Brackets, quotes, commas and `null` around a key and a value. */
const CHANGE_FRAME_BYTES = 16;

/** What a worker is asked. */
export function encodeRequest({ source, limits, lent, seed, entries, model }: EvaluateRequest): {
  readonly header: object;
  readonly parts: readonly Uint8Array[];
} {
  const script = Buffer.from(source);
  const kept = Buffer.from(JSON.stringify([...entries]));
  const { memoryMb, outputBytes, messages: lines, messageBytes: lineBytes } = limits;
  const sizes = { sourceBytes: script.length, entryBytes: kept.length };
  return {
    header: { op: 'evaluate', memoryMb, outputBytes, lines, lineBytes, lent, seed, ...sizes },
    parts: [script, kept, model],
  };
}

/**
 * The limits that the request itself is held to: those of the call, and room for what the worker says besides the lines and the value.
 * The worker holds its guest to the limits of the call.
 */
export function requestLimits({ limits, lent, entries }: EvaluateRequest): Limits {
  const lines = lent.log === undefined ? 0 : limits.messages;
  const changes = lent.kv === undefined ? NO_CHANGE_BYTES : changeBytes(entries, lent.kv);
  return {
    ...limits,
    messages: lines + USE_MESSAGES,
    messageBytes: limits.messageBytes + lines * LINE_FRAME_BYTES + USE_MESSAGES * USE_MESSAGE_BYTES,
    outputBytes: Math.min(0xffff_ffff, Math.max(limits.outputBytes, ERROR_BYTES) + changes),
  };
}

/** All that there was may be deleted, and as much written as there may be. JSON spells a byte in six at most. */
function changeBytes(before: ReadonlyMap<string, string>, after: CapabilityOptions<'kv'>): number {
  const bytes = 6 * (sizeOf(before) + after.totalBytes);
  return bytes + CHANGE_FRAME_BYTES * (before.size + after.entries) + NO_CHANGE_BYTES;
}

/** What the worker makes of a request. */
export function decodeRequest(
  header: Readonly<Record<string, unknown>>,
  payload: Uint8Array,
): { readonly source: string; readonly options: Omit<EvaluateOptions, 'onLine'> } {
  const sourceBytes = count(header['sourceBytes'], 'sourceBytes');
  const modelStart = sourceBytes + count(header['entryBytes'], 'entryBytes');
  const { seed } = header;
  const kept = JSON.parse(textOf(payload.subarray(sourceBytes, modelStart))) as [string, string][];
  return {
    source: textOf(payload.subarray(0, sourceBytes)),
    options: {
      memoryMb: count(header['memoryMb'], 'memoryMb'),
      outputBytes: count(header['outputBytes'], 'outputBytes'),
      messages: count(header['lines'], 'lines'),
      messageBytes: count(header['lineBytes'], 'lineBytes'),
      lent: header['lent'] as Lent,
      seed: typeof seed === 'string' ? seed : undefined,
      entries: new Map(kept),
      model: payload.subarray(modelStart),
    },
  };
}

/** What the worker answers, to a script that ended by itself. */
export function encodeAnswer(
  verdict: Exclude<GuestVerdict, { kind: 'limit' }>,
  before: ReadonlyMap<string, string>,
  after: ReadonlyMap<string, string>,
): { readonly header: object; readonly parts: readonly Uint8Array[] } {
  const changes = verdict.kind === 'ok' ? changesBetween(before, after) : new Map<string, undefined>();
  const value = Buffer.from(verdict.value);
  const kept = [...changes].map(([key, now]) => [key, now ?? null]);
  const header = { kind: verdict.kind, uses: verdict.uses, valueBytes: value.length };
  return { header, parts: [value, Buffer.from(JSON.stringify(kept))] };
}

/** What the supervisor heard of one evaluation. */
export class Heard {
  readonly lines: string[] = [];
  readonly #lent: Lent;
  #uses: Uses;

  constructor(lent: Lent) {
    this.#lent = lent;
    this.#uses = Object.freeze(Object.fromEntries(Object.keys(lent).map(name => [name, NO_USE])));
  }

  /** The uses, as they were said last. */
  get uses(): Uses {
    return this.#uses;
  }

  /** @throws {CloisterError} `GUEST_FAILED` on a message of another form. */
  take(message: unknown): void {
    if (!isRecord(message)) throw refuseGuest('message', 'an object', message);
    if (message['uses'] !== undefined) {
      this.uses = message['uses'];
      return;
    }
    const { line } = message;
    if (typeof line !== 'string' || this.#lent.log === undefined) throw refuseGuest('message', 'a line', line);
    this.lines.push(printable(line).replaceAll('\n', '\ufffd'));
  }

  /** @throws {CloisterError} `GUEST_FAILED` when they are not of their form. */
  set uses(value: unknown) {
    if (!isRecord(value)) throw refuseGuest('uses', 'an object', value);
    const uses = Object.keys(this.#lent).map(name => [name, parseUse(value[name])] as const);
    this.#uses = Object.freeze(Object.fromEntries(uses));
  }
}

const NO_USE: Use = Object.freeze({ calls: 0, refused: 0, bytes: 0 });

function parseUse(value: unknown): Use {
  if (!isRecord(value)) throw refuseGuest('uses', 'a use of each capability that was lent', value);
  const { calls, refused, bytes } = value;
  return Object.freeze({
    calls: count(calls, 'uses.calls'),
    refused: count(refused, 'uses.refused'),
    bytes: count(bytes, 'uses.bytes'),
  });
}

/**
 * Reads an answer.
 *
 * @throws {CloisterError} `GUEST_FAILED` when it is not of its form.
 */
export function parseAnswer(
  header: Readonly<Record<string, unknown>>,
  payload: Uint8Array,
  outputBytes: number,
): { readonly outcome: 'ok' | 'error'; readonly value: string; readonly changes: KvChanges } {
  const valueBytes = count(header['valueBytes'], 'valueBytes');
  const outcome = header['kind'] === 'ok' ? 'ok' : 'error';
  const most = Math.min(payload.length, outcome === 'ok' ? outputBytes : ERROR_BYTES);
  if (valueBytes > most) throw refuseGuest('valueBytes', `at most ${most}`, valueBytes);
  return {
    outcome,
    value: textOf(payload.subarray(0, valueBytes)),
    changes: parseChanges(textOf(payload.subarray(valueBytes))),
  };
}

function parseChanges(text: string): KvChanges {
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch {
    throw refuseGuest('changes', 'JSON', 'something else');
  }
  if (!Array.isArray(list)) throw refuseGuest('changes', 'a list', list);
  const changes = new Map<string, string | undefined>();
  for (const item of list as readonly unknown[]) {
    const [key, value] = Array.isArray(item) ? (item as readonly unknown[]) : [];
    if (typeof key !== 'string' || (typeof value !== 'string' && value !== null)) {
      throw refuseGuest('changes', 'a key with a value or null', item);
    }
    changes.set(key, value ?? undefined);
  }
  return changes;
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
}
