/**
 * The clock seam: nothing below the service reads the time by itself.
 * @module
 */

/** Where time comes from. */
export interface Clock {
  /** Milliseconds since 1970-01-01T00:00:00Z, an integer. May jump. */
  now(): number;
}

/** The machine's wall clock. */
export const systemClock: Clock = { now: () => Date.now() };
