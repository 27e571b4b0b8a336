/**
 * What the page and its worker say to each other. All checking is done in the worker.
 * @module
 */
import type { CheckedRecord, Failure, Knowledge, LogHead, WholeVerdict } from '../check/log-check.ts';

/** A question to the worker, and what it answers. */
export interface Questions {
  /** Fetches and checks the checkpoint as it is now. */
  open: { readonly ask: { readonly base: string; readonly knowledge: Knowledge }; readonly answer: Opened };
  rows: { readonly ask: { readonly seqs: readonly number[] }; readonly answer: readonly CheckedRecord[] };
  proof: { readonly ask: { readonly seq: number }; readonly answer: readonly string[] };
  checkAll: { readonly ask: Record<never, never>; readonly answer: WholeVerdict };
}

/** What is known after a look at the checkpoint; neither head nor failure: the log has no checkpoint yet. */
export interface Opened {
  readonly head?: LogHead | undefined;
  readonly failure?: Failure | undefined;
  /** Whether records can be checked against a signed root. */
  readonly checkable: boolean;
}

export type Question = keyof Questions;

/** A question with its number. */
export type Asked = {
  readonly [Q in Question]: { readonly id: number; readonly question: Q; readonly ask: Questions[Q]['ask'] };
}[Question];

/** An answer, a failure to give one, or how far a check is. */
export type Told =
  | { readonly id: number; readonly answer: Questions[Question]['answer'] }
  | { readonly id: number; readonly error: string }
  | { readonly id: number; readonly done: number };
