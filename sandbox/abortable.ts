/**
 * Waiting that a signal ends.
 * @module
 */
import { CloisterError } from '../src/base/index.ts';

/** Stops waiting when the signal is aborted; what is under way goes on, under its limits, and its answer is dropped. */
export async function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  const aborted = Promise.withResolvers<never>();
  const abort = (): void =>
    aborted.reject(new CloisterError('ABORTED', 'the caller cancelled', {}, { cause: signal.reason }));
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', abort);
    work.catch(() => {});
    aborted.promise.catch(() => {});
  }
}

/** Resolves after `ms` milliseconds, and keeps the caller's event loop alive until then. */
export function delay(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms));
}
