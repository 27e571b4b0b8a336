/**
 * Errors as outcomes of an evaluation.
 * @module
 */
import type { CloisterError } from '../src/base/index.ts';
import { limitOf } from './limit-error.ts';
import type { Evaluation } from './walls.ts';

/** The outcome that an error stands for. */
export function outcomeOf(error: CloisterError): Evaluation['outcome'] {
  const limit = limitOf(error);
  if (limit !== undefined) return `limit:${limit}`;
  return error.code === 'WORKER_CRASHED' ? 'killed' : 'error';
}
