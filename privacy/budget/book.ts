/**
 * The ledger's book: what one transaction reads and writes.
 *
 * | collection | key | holds |
 * |---|---|---|
 * | `budget.scope` | scope | terms, limits, totals, length and digest of the history |
 * | `budget.account` | `[scope, kind, name]` | what a block, tenant or period has spent and reserved |
 * | `budget.subject` | hash of scope and subject | what a subject has spent |
 * | `budget.open` | `epoch/id` | what is reserved or charged, and not settled |
 * | `budget.settled` | id | what was released or forfeited |
 * | `budget.output` | id | released bytes |
 * | `budget.key` | hash of scope and idempotency key | epoch and id |
 * | `budget.answer` | hash of scope and request digest | id whose output answers the same request |
 * | `budget.holder` | epoch | process |
 * | `budget.epoch` | `last` | the last epoch, and the version of this layout |
 *
 * Streams `budget/<scope>` are the histories. Every step changes the scope's row and appends its entry in one transaction.
 * @module
 */
import { hash } from 'node:crypto';

import { type Clock, CloisterError, canonicalJson, type Json } from '../../src/base/index.ts';
import type { Transaction } from '../../src/store/index.ts';
import type { DpEvent } from '../dp/event.ts';
import { type Amount, add, fits, larger, smaller, subtract, zeroOf } from './currency.ts';
import {
  type Account,
  type AuditHead,
  type EntryBody,
  type LedgerEntry,
  NO_ENTRY,
  type Parties,
  type ScopeLimits,
  type ScopeTerms,
  type Totals,
} from './entry.ts';
import type { Liveness } from './liveness.ts';

/** What one transaction of the ledger works with. */
export interface Book {
  readonly tx: Transaction;
  readonly clock: Clock;
  readonly epoch: number;
  readonly auditHead: (() => AuditHead) | undefined;
}

/** A scope's row. */
export interface ScopeRow extends Totals {
  readonly terms: ScopeTerms;
  readonly limits: ScopeLimits;
  /** Length of the history, so that a row and a stream that do not belong together are found out. */
  readonly entries: number;
  /** Digest of the last entry. */
  readonly head: string;
  /** Time of the last entry: the clock's high-water mark. */
  readonly at: number;
}

/** A reservation or charge. */
export interface HeldRow extends Parties {
  readonly id: string;
  readonly scope: string;
  readonly cost: Amount;
  readonly epoch: number;
  readonly state: 'reserved' | 'charged' | 'released' | 'forfeited';
  readonly requestDigest: string;
  readonly event: DpEvent;
  /** Hash of the idempotency key, if there was one. */
  readonly keyHash?: string;
  /** Where the output answers the same request again. */
  readonly answerHash?: string;
  /** The accounts that it was taken from, beside the lifetime. */
  readonly accounts: readonly Account[];
  readonly steps?: number;
  readonly stepsTaken?: number;
  readonly outputDigest?: string;
}

/** What is wanted of a scope, checked. */
export interface Wanted extends Parties {
  readonly scope: string;
  readonly cost: Amount;
  readonly event: DpEvent;
  readonly requestDigest: string;
  readonly keyHash?: string;
  readonly answerHash?: string;
  readonly steps?: number;
  /** Up to when a jump of the clock is known to be right. */
  readonly clockKnownUntil?: number;
}

/** What an account has spent and reserved. */
export interface AccountRow {
  readonly spent: Amount;
  readonly reserved: Amount;
}

const LAYOUT = 2;

/** Takes the next epoch, and writes down who has it. */
export async function openBook(book: Omit<Book, 'epoch'>, liveness: Liveness): Promise<Book> {
  const { tx } = book;
  const row = await tx.get('budget.epoch', 'last');
  const last = row && decode<{ epoch: number; layout?: number }>(row.value);
  if (last && last.layout !== LAYOUT) {
    const message = `the ledger has layout ${last.layout ?? 1}, this version of Cloister reads and writes ${LAYOUT}`;
    throw new CloisterError('STORE_FAILED', message, { layout: last.layout ?? 1, known: LAYOUT });
  }
  const epoch = (last?.epoch ?? 0) + 1;
  await tx.put('budget.epoch', 'last', encode({ epoch, layout: LAYOUT }), row?.revision ?? 0);
  await tx.put('budget.holder', String(epoch), encode({ holder: liveness.self }), 0);
  return { ...book, epoch };
}

/** The limit that refuses a spend, and what it has. */
export interface Shortage extends Totals {
  readonly by: Account;
  readonly remaining: Amount;
}

/** A step that was written: the row as it is now, its entry's place and digest. */
export interface Written {
  readonly row: ScopeRow;
  readonly seq: number;
  /** What the scope had spent before. */
  readonly spentBefore: Amount;
}

/** Writes a scope's row and the entry that explains the change. */
export async function record(
  book: Book,
  scope: string,
  after: ScopeRow,
  body: EntryBody,
  spentBefore: Amount = after.spent,
): Promise<Written> {
  const { limit, spent, reserved } = after;
  const at = Math.max(book.clock.now(), after.entries === 0 ? Number.NEGATIVE_INFINITY : after.at);
  const audit = book.auditHead?.();
  const entry = {
    ...body,
    ...{ limit, spent, reserved, at, epoch: book.epoch, prev: after.head },
    ...(audit && { audit: { size: audit.size, root: audit.root } }),
  };
  const text = canonicalJson(entry as unknown as Json);
  const seq = await book.tx.append(streamOf(scope), encoder.encode(text));
  if (seq !== after.entries) {
    const message = `scope '${scope}' should have ${after.entries} entries, and has ${seq}: the store was changed from outside`;
    throw new CloisterError('STORE_FAILED', message, { scope });
  }
  const row: ScopeRow = { ...after, entries: seq + 1, head: hash('sha256', text), at };
  // Each entry writes the row once, so the row's revision is the number of entries.
  await book.tx.put('budget.scope', scope, encode(row), after.entries);
  return { row, seq, spentBefore };
}

/** An account with its limit. */
interface LimitedAccount extends Account {
  readonly limit: Amount;
}

/**
 * The limits that a spend has to keep, beside that of the lifetime.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when the request does not say which block or tenant it is of, where that has a limit.
 */
function accountsOf(row: ScopeRow, { blocks, tenant }: Parties, period: string | undefined): LimitedAccount[] {
  const { limits, terms } = row;
  const accounts: LimitedAccount[] = [];
  if (limits.perBlock !== undefined || terms.disjointBlocks) {
    if (!blocks?.length)
      throw new CloisterError('INVALID_ARGUMENT', 'a spend in this scope names the blocks that it reads');
    const limit = terms.disjointBlocks
      ? smaller(limits.perBlock ?? limits.lifetime, limits.lifetime)
      : limits.perBlock!;
    for (const name of blocks) accounts.push({ kind: 'block', name, limit });
  }
  if (limits.perTenant !== undefined) {
    if (tenant === undefined) throw new CloisterError('INVALID_ARGUMENT', 'a spend in this scope names its tenant');
    accounts.push({ kind: 'tenant', name: tenant, limit: limits.perTenant });
  }
  if (limits.perPeriod !== undefined && period !== undefined) {
    accounts.push({ kind: 'period', name: period, limit: limits.perPeriod });
  }
  return accounts;
}

/**
 * Which period it is by the later of the clock and the scope's last entry.
 *
 * @throws {CloisterError} `POLICY_REFUSED` when that is more than one period after the last entry, and nobody has said that it is so.
 */
function periodOf(book: Book, row: ScopeRow, knownUntil: number): string | undefined {
  const { periodMs } = row.terms;
  if (periodMs === undefined) return undefined;
  const now = Math.max(book.clock.now(), row.at);
  const [period, last] = [Math.floor(now / periodMs), Math.floor(row.at / periodMs)];
  if (period > last + 1 && now > knownUntil) {
    const message =
      `the clock is ${period - last} periods after the scope's last entry: if it is right, say so by acknowledgeClockUntil ` +
      `in the policy, ${new Date(now).toISOString()} or later`;
    throw new CloisterError('POLICY_REFUSED', message, { now, last: row.at });
  }
  return String(period);
}

/** What came of a {@link debit}. */
export type Debit = { readonly written: Written } & (
  | { readonly kind: 'held'; readonly held: HeldRow }
  | { readonly kind: 'refused'; readonly shortage: Shortage }
);

/** Sets the cost aside, or spends it at once, in every account or in none; answers which refuses, if one does. */
export async function debit(book: Book, wanted: Wanted, how: 'reserve' | 'charge'): Promise<Debit> {
  const { scope, cost, event, requestDigest, blocks, tenant, steps, clockKnownUntil, keyHash, answerHash } = wanted;
  const before = await loadScope(book.tx, scope);
  const { measure, disjointBlocks } = before.terms;
  const period = periodOf(book, before, clockKnownUntil ?? Number.NEGATIVE_INFINITY);
  const accounts = accountsOf(before, wanted, period);
  const loaded = await Promise.all(accounts.map(account => loadAccount(book.tx, before, scope, account)));
  const parties = { ...(blocks && { blocks }), ...(tenant !== undefined && { tenant }) };
  const lifetime = { account: { kind: 'lifetime', name: '', limit: before.limit } as const, row: before };
  const limits = [
    ...(disjointBlocks ? [] : [lifetime]),
    ...accounts.map((account, i) => ({ account, row: loaded[i]!.row })),
  ];
  for (const { account, row } of limits) {
    if (fits(measure, account.limit, add(row.spent, row.reserved), cost)) continue;
    const by: Account = { kind: account.kind, name: account.name };
    const written = await record(book, scope, before, { kind: 'REFUSE', cost, requestDigest, event, by, ...parties });
    const { spent, reserved } = row;
    const remaining = subtract(account.limit, add(spent, reserved));
    return { kind: 'refused', shortage: { by, limit: account.limit, spent, reserved, remaining }, written };
  }
  const direct = how === 'charge';
  let after: ScopeRow = direct ? before : { ...before, reserved: add(before.reserved, cost) };
  if (direct && !disjointBlocks) after = { ...after, spent: add(before.spent, cost) };
  for (const { key, row, revision, account } of loaded) {
    const next = direct ? { ...row, spent: add(row.spent, cost) } : { ...row, reserved: add(row.reserved, cost) };
    if (direct && disjointBlocks && account.kind === 'block')
      after = { ...after, spent: larger(after.spent, next.spent) };
    await book.tx.put('budget.account', key, encode(next), revision);
  }
  const id = `${scope}#${before.entries}`; // the place of its first entry
  const spend = { id, cost, requestDigest, event, ...parties, ...(steps !== undefined && { steps }) };
  const written = await record(
    book,
    scope,
    after,
    direct ? { kind: 'CHARGE', direct, ...spend } : { kind: 'RESERVE', ...spend },
    before.spent,
  );
  const held: HeldRow = {
    ...{ ...spend, scope, epoch: book.epoch, state: direct ? 'charged' : 'reserved' },
    ...(steps !== undefined && { stepsTaken: 0 }),
    ...(keyHash !== undefined && { keyHash }),
    ...(answerHash !== undefined && { answerHash }),
    accounts: accounts.map(({ kind, name }) => ({ kind, name })),
  };
  await book.tx.put('budget.open', openKey(held), encode(held), 0);
  if (keyHash !== undefined) await book.tx.put('budget.key', keyHash, encode({ id, epoch: book.epoch }), 0);
  return { kind: 'held', held, written };
}

/** Turns a reservation into a debit. */
export async function charge(book: Book, held: HeldRow): Promise<Written> {
  const { id, cost, requestDigest, event, steps } = held;
  const { before, after } = await moveReserved(book, held, 'spent');
  const spend = {
    id,
    cost,
    requestDigest,
    event,
    ...partiesOf(held),
    ...(steps !== undefined && { steps }),
  };
  const written = await record(book, held.scope, after, { kind: 'CHARGE', direct: false, ...spend }, before.spent);
  await putOpen(book, { ...held, state: 'charged' });
  return written;
}

/** Gives back what was reserved. */
export async function giveBack(book: Book, held: HeldRow): Promise<void> {
  const { id, cost, scope } = held;
  const { after } = await moveReserved(book, held, 'nowhere');
  await record(book, scope, after, { kind: 'VOID', id, cost, ...partiesOf(held) });
  await removeOpen(book, held);
  if (held.keyHash === undefined) return;
  const key = await book.tx.get('budget.key', held.keyHash);
  if (key) await book.tx.remove('budget.key', held.keyHash, key.revision);
}

/** Ends a reservation or charge that has no output: it counts as spent. */
export async function forfeit(book: Book, held: HeldRow): Promise<void> {
  const { id, cost, scope } = held;
  const was = held.state === 'charged' ? 'charged' : 'reserved';
  const after = was === 'charged' ? await loadScope(book.tx, scope) : (await moveReserved(book, held, 'spent')).after;
  await record(book, scope, after, { kind: 'FORFEIT', id, cost, was, ...partiesOf(held) });
  await settle(book, { ...held, state: 'forfeited' });
}

/** Ends an epoch: what it left open is forfeited, or, if its own ledger says that it closes, given back where uncharged. */
export async function settleHolder(book: Book, epoch: number, why: 'dead' | 'closing'): Promise<void> {
  for (const { value } of await book.tx.list('budget.open', `${epoch}/`)) {
    const held = decode<HeldRow>(value);
    if (why === 'closing' && held.state === 'reserved') await giveBack(book, held);
    else await forfeit(book, held);
  }
  const holder = await book.tx.get('budget.holder', String(epoch));
  if (holder) await book.tx.remove('budget.holder', String(epoch), holder.revision);
}

/** Takes a reserved amount out of every account, and spends it there unless it goes nowhere; returns the scope's row before and after. */
async function moveReserved(
  book: Book,
  held: HeldRow,
  to: 'spent' | 'nowhere',
): Promise<{ before: ScopeRow; after: ScopeRow }> {
  const before = await loadScope(book.tx, held.scope);
  const move = <T extends AccountRow>(row: T): T => ({
    ...row,
    reserved: subtract(row.reserved, held.cost),
    spent: to === 'spent' ? add(row.spent, held.cost) : row.spent,
  });
  const { disjointBlocks } = before.terms;
  let after = disjointBlocks ? { ...before, reserved: subtract(before.reserved, held.cost) } : move(before);
  for (const account of held.accounts) {
    const { key, row, revision } = await loadAccount(book.tx, before, held.scope, account);
    const next = move(row);
    if (disjointBlocks && account.kind === 'block') after = { ...after, spent: larger(after.spent, next.spent) };
    await book.tx.put('budget.account', key, encode(next), revision);
  }
  return { before, after };
}

/** Debits each subject's own limit where it still holds the cost. Which did is for nobody to see. */
export async function admit(book: Book, held: HeldRow, subjects: readonly string[]): Promise<readonly boolean[]> {
  const { limits, terms } = await loadScope(book.tx, held.scope);
  if (limits.perSubject === undefined) return subjects.map(() => true);
  const admitted: boolean[] = [];
  for (const subject of subjects) {
    const key = hashOf(held.scope, subject);
    const stored = await book.tx.get('budget.subject', key);
    const spent = stored ? decode<{ spent: Amount }>(stored.value).spent : zeroOf(terms.measure);
    const enough = fits(terms.measure, limits.perSubject, spent, held.cost);
    // Written either way, so that the time it takes says nothing about who has how much left.
    const next = enough ? add(spent, held.cost) : spent;
    await book.tx.put('budget.subject', key, encode({ spent: next }), stored?.revision ?? 0);
    admitted.push(enough);
  }
  return admitted;
}

/** Writes an open reservation's next state. */
export async function putOpen(book: Book, held: HeldRow): Promise<void> {
  const stored = await book.tx.get('budget.open', openKey(held));
  await book.tx.put('budget.open', openKey(held), encode(held), stored?.revision ?? 0);
}

/** Writes a reservation's last state. */
export async function settle(book: Book, held: HeldRow): Promise<void> {
  await removeOpen(book, held);
  await book.tx.put('budget.settled', held.id, encode(held), 0);
}

/** The open reservation `id` of `epoch`, if there is one. */
export async function loadOpen(tx: Transaction, epoch: number, id: string): Promise<HeldRow | undefined> {
  const row = await tx.get('budget.open', openKey({ epoch, id }));
  return row && decode<HeldRow>(row.value);
}

/** The settled reservation `id`, if there is one. */
export async function loadSettled(tx: Transaction, id: string): Promise<HeldRow | undefined> {
  const row = await tx.get('budget.settled', id);
  return row && decode<HeldRow>(row.value);
}

export async function loadScope(tx: Transaction, scope: string): Promise<ScopeRow> {
  const row = await tx.get('budget.scope', scope);
  if (!row) throw new CloisterError('STORE_FAILED', `scope '${scope}' is gone from the store`, { scope });
  return decode<ScopeRow>(row.value);
}

/** A scope that has nothing yet. */
export function newScope(terms: ScopeTerms, limits: ScopeLimits): ScopeRow {
  const zero = zeroOf(terms.measure);
  return { terms, limits, limit: limits.lifetime, spent: zero, reserved: zero, entries: 0, head: NO_ENTRY, at: 0 };
}

/** Every account of a scope that anything was taken from, by kind and name. */
export async function listAccounts(tx: Transaction, scope: string): Promise<readonly (Account & AccountRow)[]> {
  const rows = await tx.list('budget.account', canonicalJson([scope]).slice(0, -1).concat(','));
  return rows.map(({ key, value }) => {
    const [, kind, name] = JSON.parse(key) as [string, Account['kind'], string];
    return { kind, name, ...decode<AccountRow>(value) };
  });
}

/** What a scope's stream of entries is called. */
export function streamOf(scope: string): string {
  return `budget/${scope}`;
}

/** One hash for the parts: no name that somebody gives stands in a key. */
export function hashOf(...parts: readonly string[]): string {
  return hash('sha256', JSON.stringify(parts)); // which spells what is not well-formed, too
}

/** An entry as it stands in its stream. */
export function decodeEntry(seq: number, value: Uint8Array): LedgerEntry {
  return Object.freeze({ ...decode<LedgerEntry>(value), seq });
}

export function decode<T>(bytes: Uint8Array): T {
  return JSON.parse(decoder.decode(bytes)) as T;
}

export function encode(value: unknown): Uint8Array {
  return encoder.encode(JSON.stringify(value));
}

// The platform's own, several times as fast as the portable ones of the ground floor.
const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true });

async function loadAccount<T extends Account>(
  tx: Transaction,
  { terms }: ScopeRow,
  scope: string,
  account: T,
): Promise<{ account: T; key: string; row: AccountRow; revision: number }> {
  const key = canonicalJson([scope, account.kind, account.name]);
  const stored = await tx.get('budget.account', key);
  const zero = zeroOf(terms.measure);
  const row = stored ? decode<AccountRow>(stored.value) : { spent: zero, reserved: zero };
  return { account, key, row, revision: stored?.revision ?? 0 };
}

async function removeOpen(book: Book, held: HeldRow): Promise<void> {
  const stored = await book.tx.get('budget.open', openKey(held));
  await book.tx.remove('budget.open', openKey(held), stored?.revision ?? 0);
}

function openKey({ epoch, id }: { epoch: number; id: string }): string {
  return `${epoch}/${id}`;
}

function partiesOf({ blocks, tenant }: HeldRow): Parties {
  return { ...(blocks && { blocks }), ...(tenant !== undefined && { tenant }) };
}
