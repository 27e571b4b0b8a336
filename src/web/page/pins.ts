/**
 * What this browser remembers of logs between visits: for each, its key and the head that was seen last; and what the auditor gave.
 * @module
 */
import { parseCheckpoint } from '../../../sandbox/audit/checkpoint.ts';
import { type NoteVerifier, parseNote, parseVkey, verifyNote } from '../../../sandbox/audit/note.ts';
import { toBase64 } from '../../base/bytes.ts';
import type { Knowledge, LogHead, Pin } from '../check/log-check.ts';

const SEEN = 'cloister-audit-seen';
const GIVEN = 'cloister-audit-given';

/** What the auditor gave: keys, and heads that others vouch for. */
interface Given {
  readonly vkeys: readonly string[];
  readonly heads: readonly Pin[];
}

/** What is known of the log `origin`, or of whichever log is served where the name is not known yet. */
export function knowledge(): Knowledge {
  const given = readGiven();
  return { vkeys: given.vkeys, pins: [...given.heads, ...readSeen()] };
}

/** Remembers a head that was found to extend all that was known. */
export function remember(head: LogHead): void {
  const { origin, vkey, size, root } = head;
  const pin: Pin = { origin, vkey, size, root, seen: Date.now() };
  write(SEEN, [pin, ...readSeen().filter(other => other.origin !== origin)].slice(0, 50));
}

/** The head that was seen last of a log. */
export function lastSeen(origin: string): Pin | undefined {
  return readSeen().find(pin => pin.origin === origin);
}

/** Forgets what was seen of a log and what was given for it. */
export function forget(origin: string): void {
  write(
    SEEN,
    readSeen().filter(pin => pin.origin !== origin),
  );
  const { vkeys, heads } = readGiven();
  write(GIVEN, {
    vkeys: vkeys.filter(vkey => nameOf(vkey) !== origin),
    heads: heads.filter(head => head.origin !== origin),
  });
}

/**
 * Takes a public key or a signed checkpoint that the auditor kept elsewhere; a checkpoint is checked with a key that was given, or with
 * one of `served`, the keys of the log.
 *
 * @returns What was taken, for the auditor to read.
 * @throws {Error} When it is neither, or is signed by another key.
 */
export function give(text: string, served: readonly string[]): string {
  const trimmed = text.trim();
  const { vkeys, heads } = readGiven();
  if (!trimmed.includes('\n')) {
    const { name } = parseVkey(trimmed);
    write(GIVEN, { vkeys: [trimmed, ...vkeys.filter(vkey => nameOf(vkey) !== name)], heads });
    return `key of ${name}`;
  }
  const note = `${trimmed}\n`;
  const { origin } = parseCheckpoint(parseNote(note).text);
  const keys = [...new Set([...vkeys, ...served])].filter(vkey => nameOf(vkey) === origin);
  const [vkey] = keys;
  if (vkey === undefined) throw new Error(`no key of ${origin} is known; give it first`);
  const verdict = verifyNote(note, keys.map(parseVkey));
  if (!verdict.ok) throw new Error(verdict.reason);
  const { size, root } = parseCheckpoint(verdict.text);
  write(GIVEN, { vkeys, heads: [...heads, { origin, vkey, size, root: toBase64(root), seen: Date.now() }].slice(-50) });
  return `checkpoint of ${origin} over ${size.toLocaleString('en')} records`;
}

function nameOf(vkey: string): string {
  return parsed(vkey)?.name ?? '';
}

function parsed(vkey: string): NoteVerifier | undefined {
  try {
    return parseVkey(vkey);
  } catch {
    return undefined;
  }
}

function readSeen(): readonly Pin[] {
  const value = read(SEEN);
  return Array.isArray(value) ? value.filter(isPin) : [];
}

function readGiven(): Given {
  const value = read(GIVEN) as Partial<Record<keyof Given, unknown>> | undefined;
  const vkeys = Array.isArray(value?.vkeys) ? value.vkeys.filter(vkey => parsed(vkey) !== undefined) : [];
  return { vkeys, heads: Array.isArray(value?.heads) ? value.heads.filter(isPin) : [] };
}

function isPin(value: unknown): value is Pin {
  const pin = value as Partial<Pin> | null;
  return (
    typeof pin === 'object' &&
    typeof pin?.origin === 'string' &&
    typeof pin.vkey === 'string' &&
    parsed(pin.vkey) !== undefined &&
    Number.isSafeInteger(pin.size) &&
    typeof pin.root === 'string' &&
    /^[A-Za-z0-9+/]{43}=$/.test(pin.root) &&
    typeof pin.seen === 'number'
  );
}

function read(key: string): unknown {
  try {
    return JSON.parse(localStorage.getItem(key) ?? 'null') ?? undefined;
  } catch {
    return undefined;
  }
}

function write(key: string, value: unknown): void {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // A browser that keeps nothing: every visit is the first.
  }
}
