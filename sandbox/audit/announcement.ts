/**
 * The record that announces the next key of a log: the last of its epoch, see `epochs.ts`. Pure.
 * @module
 */
import { type NoteVerifier, parseVkey } from './note.ts';
import type { AuditEvent, AuditRecord } from './record.ts';

/** The event that announces the next key of a log. */
export function announcement(vkey: string): AuditEvent {
  return { actor: 'log', action: 'key', object: { kind: 'key', id: vkey }, decision: { outcome: 'allow' } };
}

/** The key that a record announces for a log; undefined when it is any other record. */
export function announcedKey(record: Pick<AuditRecord, 'action' | 'object'>, origin: string): NoteVerifier | undefined {
  if (record.action !== 'key' || record.object.kind !== 'key') return undefined;
  try {
    const key = parseVkey(record.object.id);
    return key.name === origin ? key : undefined;
  } catch {
    return undefined;
  }
}
