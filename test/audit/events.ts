/**
 * Events and logs for the tests.
 * @module
 */
import { type AuditLog, type LogOptions, openDirectory } from '../../sandbox/audit/log.ts';
import type { AuditEvent } from '../../sandbox/audit/record.ts';
import { MemoryDirectory } from './memory-directory.ts';

/** Whether the long counts are asked for. */
export const SLOW: boolean = process.env['CLOISTER_SLOW'] !== undefined;

export const ORIGIN = 'clinic.example/audit';

/** An event that differs from those with another number. */
export function event(number: number, more: Partial<AuditEvent> = {}): AuditEvent {
  return {
    actor: `ward-${number % 5}`,
    action: 'charge',
    object: { kind: 'scope', id: 'clinic-a/2026-q4' },
    decision: { outcome: 'allow' },
    request: `r-${number}`,
    budget: { scope: 'clinic-a/2026-q4', before: 1000 * number, after: 1000 * number + 1000 },
    ...more,
  };
}

/** An open log in memory. A long interval: no test waits for a timer. */
export async function memoryLog(options: LogOptions = {}): Promise<{ directory: MemoryDirectory; log: AuditLog }> {
  const directory = new MemoryDirectory();
  return { directory, log: await openDirectory(directory, { origin: ORIGIN, checkpointMs: 3_600_000, ...options }) };
}

/** Appends events in groups of the given sizes. */
export async function appendGroups(log: AuditLog, sizes: readonly number[], from = 0): Promise<void> {
  let number = from;
  for (const size of sizes) await Promise.all(Array.from({ length: size }, () => log.append(event(number++))));
}

/** Name of the one file of a kind in a log of fewer than 256 records: its last segment, its bundle, its hash tile. */
export function onlyFile(directory: MemoryDirectory, kind: 'wal' | 'tile/entries' | 'tile/0'): string {
  const name = directory.names(`${kind}/`).at(-1);
  if (name === undefined) throw new Error(`there is no ${kind}`);
  return name;
}
