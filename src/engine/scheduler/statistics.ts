/**
 * What a scheduler counts. Sums over all tenants: no name of a tenant is kept, and nothing that grows with their number.
 * @module
 */
import type { ErrorCode } from '../../base/index.ts';
import { PRIORITY_CLASSES, type PriorityClass } from './options.ts';

/** Upper bounds of the buckets of waits, in milliseconds; one more bucket is without a bound. */
export const WAIT_BUCKETS_MS: readonly number[] = [0.1, 1, 5, 10, 50, 100, 500, 1_000, 5_000, 30_000];

/** How a request that was accepted ended: exactly one of these. */
export const ENDINGS = ['completed', 'failed', 'aborted', 'expired', 'displaced', 'closed'] as const;

/**
 * `completed` with outputs; `failed` with what the executable threw; `aborted` by the caller; `expired` at its deadline; `displaced`
 * by a request of a tenant that had less waiting; `closed` with the scheduler or its executable, before it ran.
 */
export type Ending = (typeof ENDINGS)[number];

/** Times in milliseconds. */
export interface WaitHistogram {
  readonly count: number;
  readonly sumMs: number;
  readonly maxMs: number;
  /** How many are at most as long as the bound of {@link WAIT_BUCKETS_MS} at the same place, and longer than the one before. */
  readonly buckets: readonly number[];
}

/** Of one priority class. */
export interface ClassStatistics {
  /** Waiting now. */
  readonly waiting: number;
  /** The most that waited at once. */
  readonly waitingPeak: number;
  /** Requests that got a place in the queue. Each of them is waiting, running, or ended. */
  readonly accepted: number;
  readonly ended: Readonly<Record<Ending, number>>;
  /** Requests that got none, by code. */
  readonly refused: Readonly<Partial<Record<ErrorCode, number>>>;
  /** From arrival to start, of requests that started. */
  readonly waits: WaitHistogram;
}

/** A moment of a scheduler. Counts only grow. */
export interface SchedulerStatistics {
  readonly classes: Readonly<Record<PriorityClass, ClassStatistics>>;
  /** Requests, threads and bytes of runs that go on now, and the most that there were. */
  readonly running: {
    readonly requests: number;
    readonly threads: number;
    readonly bytes: number;
    readonly threadsPeak: number;
    readonly bytesPeak: number;
  };
  /** Runs of more than one request. `retried` of them failed, and their requests ran one by one. */
  readonly batches: {
    readonly count: number;
    readonly requests: number;
    readonly rows: number;
    readonly retried: number;
  };
}

/** Counts of one class. */
export class ClassCounts {
  waitingPeak = 0;
  accepted = 0;
  readonly ended: Record<Ending, number> = Object.fromEntries(ENDINGS.map(ending => [ending, 0])) as Record<
    Ending,
    number
  >;
  readonly refused: Partial<Record<ErrorCode, number>> = {};
  readonly #buckets: number[] = new Array<number>(WAIT_BUCKETS_MS.length + 1).fill(0);
  #count = 0;
  #sumMs = 0;
  #maxMs = 0;

  refuse(code: ErrorCode): void {
    this.refused[code] = (this.refused[code] ?? 0) + 1;
  }

  waited(ms: number): void {
    this.#count++;
    this.#sumMs += ms;
    this.#maxMs = Math.max(this.#maxMs, ms);
    let bucket = 0;
    while (bucket < WAIT_BUCKETS_MS.length && ms > WAIT_BUCKETS_MS[bucket]!) bucket++;
    this.#buckets[bucket]!++;
  }

  snapshot(waiting: number): ClassStatistics {
    return {
      waiting,
      waitingPeak: this.waitingPeak,
      accepted: this.accepted,
      ended: { ...this.ended },
      refused: { ...this.refused },
      waits: { count: this.#count, sumMs: this.#sumMs, maxMs: this.#maxMs, buckets: [...this.#buckets] },
    };
  }
}

/** One `T` for each priority class. */
export function perClass<T>(make: (priority: PriorityClass) => T): Record<PriorityClass, T> {
  return Object.fromEntries(PRIORITY_CLASSES.map(priority => [priority, make(priority)])) as Record<PriorityClass, T>;
}
