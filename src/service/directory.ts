/**
 * What lies where in a cloister's directory, and how the audit log is anchored in the ledger's store.
 *
 * | place | what |
 * |---|---|
 * | `ledger.sqlite` (and `-wal`, `-shm`) | budgets, and the anchor of the log |
 * | `store.json` | instead of it where the ledger is in a database: which schema, and the name of this cloister there |
 * | `plans/` | what models were planned to; may be deleted at any time |
 * | `plugins/` | the plugins that are installed, see `sandbox/plugins/registry.ts` |
 * | `audit/` | the log, see `sandbox/audit/layout.ts`; its private keys have mode 0600 |
 * @module
 */
import { join } from 'node:path';
import type { Head } from '../../sandbox/audit/index.ts';
import { canonicalJson, decodeUtf8, encodeUtf8 } from '../base/index.ts';
import type { Store, Transaction } from '../store/index.ts';

/** The places in `dir`. */
export function paths(dir: string): {
  readonly ledgerFile: string;
  readonly storeFile: string;
  readonly auditDir: string;
  readonly plansDir: string;
  readonly pluginsDir: string;
} {
  return {
    ledgerFile: join(dir, 'ledger.sqlite'),
    storeFile: join(dir, 'store.json'),
    auditDir: join(dir, 'audit'),
    plansDir: join(dir, 'plans'),
    pluginsDir: join(dir, 'plugins'),
  };
}

/** The row of a store that holds the head of a log. */
export type Anchor = readonly [collection: string, key: string];

/** Where a store keeps the head of the log of the cloister with this name, if several share the store. */
export function anchorOf(id?: string): Anchor {
  return ['audit', id === undefined ? 'head' : `head/${id}`];
}

/** The head of the log as the store last saw it, or `undefined` in a new store. */
export async function readAnchor(store: Store, anchor: Anchor = anchorOf()): Promise<Head | undefined> {
  const row = await store.transaction(tx => tx.get(...anchor));
  return row && (JSON.parse(decodeUtf8(row.value)) as Head);
}

/** Writes the head of the log, in the transaction of whatever made it move. */
export async function writeAnchor(tx: Transaction, { size, root }: Head, anchor: Anchor = anchorOf()): Promise<void> {
  const row = await tx.get(...anchor);
  await tx.put(...anchor, encodeUtf8(canonicalJson({ size, root })), row?.revision ?? 0);
}
