/**
 * The seams of time: nothing below the service reads the clock, or waits, by itself.
 * @module
 */

/** Where time comes from. */
export interface Clock {
  /** Milliseconds since 1970-01-01T00:00:00Z, an integer. May jump. */
  now(): number;
}

/** The machine's wall clock. */
export const systemClock: Clock = { now: () => Date.now() };

/**
 * Returns a time of a {@link Clock} in ISO 8601, UTC; the number itself where it is beyond the dates that there are, as a time that was
 * read out of a file may be.
 * @example
 * ```ts
 * isoTime(0); // '1970-01-01T00:00:00.000Z'
 * isoTime(1e16); // '10000000000000000'
 * ```
 */
export function isoTime(ms: number): string {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? String(ms) : date.toISOString();
}

/** Time that only goes forward, and that calls back: what waiting is measured with. */
export interface Timers {
  /** Milliseconds since some moment, with fractions. Never goes back. */
  now(): number;
  /** Calls `callback` once, about `delayMs` from now and not within this call. What it returns calls that off; harmless later. */
  after(delayMs: number, callback: () => void): () => void;
}

/** What `setTimeout` can count: above it, it fires at once. */
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

/** The machine's monotonic clock, and its timers. A pending one keeps the process alive. */
export const systemTimers: Timers = {
  now: () => performance.now(),
  after(delayMs, callback) {
    let handle: ReturnType<typeof setTimeout>;
    const wait = (leftMs: number): void => {
      const stepMs = Math.min(leftMs, LONGEST_TIMEOUT_MS);
      handle = setTimeout(() => (leftMs > stepMs ? wait(leftMs - stepMs) : callback()), stepMs);
    };
    wait(delayMs);
    return () => clearTimeout(handle);
  },
};
