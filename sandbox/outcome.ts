/**
 * Errors as outcomes of an evaluation.
 * @module
 */
import type { CloisterError } from '../src/base/index.ts';
import type { Evaluation } from './walls.ts';

/** The outcome that an error stands for. */
export function outcomeOf(error: CloisterError): Evaluation['outcome'] {
  const limit = error.code === 'LIMIT_EXCEEDED' ? error.detail['limit'] : undefined;
  if (limit === 'wallMs' || limit === 'cpuMs' || limit === 'memoryMb' || limit === 'outputBytes')
    return `limit:${limit}`;
  return error.code === 'WORKER_CRASHED' ? 'killed' : 'error';
}
