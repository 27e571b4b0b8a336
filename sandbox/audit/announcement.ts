/**
 * The record that announces the next key of a log: the last of its epoch, see `epochs.ts`. Its object is the vkey; in a log with a second
 * key (`second-key.ts`) a space and the digest of that key's vkey follow, which is too long for a record. Pure.
 * @module
 */
import { type NoteVerifier, parseVkey } from './note.ts';
import type { AuditEvent, AuditRecord } from './record.ts';

/** A key that a record announces. */
export interface AnnouncedKey extends NoteVerifier {
  /** `sha256:` and the digest of the vkey of the second key, in a log that has one. */
  readonly secondDigest?: string;
}

/** The event that announces the next key of a log, and its second key by a digest. */
export function announcement(vkey: string, secondDigest?: string): AuditEvent {
  const id = secondDigest === undefined ? vkey : `${vkey} ${secondDigest}`;
  return { actor: 'log', action: 'key', object: { kind: 'key', id }, decision: { outcome: 'allow' } };
}

/** The key that a record announces for a log; undefined when it is any other record. */
export function announcedKey(record: Pick<AuditRecord, 'action' | 'object'>, origin: string): AnnouncedKey | undefined {
  if (record.action !== 'key' || record.object.kind !== 'key') return undefined;
  const [, vkey = '', secondDigest] = /^(.*?)(?: (sha256:[0-9a-f]{64}))?$/u.exec(record.object.id) ?? [];
  try {
    const key = parseVkey(vkey);
    if (key.name !== origin) return undefined;
    return secondDigest === undefined ? key : { ...key, secondDigest };
  } catch {
    return undefined;
  }
}
