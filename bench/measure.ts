/**
 * Timing of two rivals side by side: short tinybench runs, A B, B A, A B … in one process, so that whatever else the
 * machine does meets both.
 * @module
 */
import { Bench } from 'tinybench';

/** What is timed: a function, and whether its promise is part of the work. */
export interface Subject {
  readonly run: () => unknown;
  readonly async?: boolean;
}

/** Latency of one subject over all rounds, in milliseconds. */
export interface Latency {
  /** Median of the rounds' medians. */
  readonly median: number;
  /** Median absolute deviation of the rounds' medians from their median. */
  readonly spread: number;
  /** The shortest single call. */
  readonly best: number;
}

/** Latencies of both sides. */
export interface Comparison {
  readonly ours: Latency;
  readonly peer?: Latency;
  /** Median over the rounds of (peer's median ÷ our median in the same round): above 1, we are faster. */
  readonly ratio?: number;
  /** Median over the rounds of (our median − peer's median in the same round), in milliseconds. */
  readonly added?: number;
}

/** How long to measure. */
export interface MeasureOptions {
  /** Rounds of both sides; 15 unless said otherwise. */
  readonly rounds?: number;
  /** Time of one side in one round, in milliseconds; 40 unless said otherwise. */
  readonly roundMs?: number;
  /** Calls of one side in one round at least; 5 unless said otherwise. */
  readonly calls?: number;
}

/**
 * Times `ours`, and `peer` if there is one, in alternating rounds. Both are warmed up first. What they throw passes through:
 * a number from a failing call would mean nothing.
 */
export async function compare(
  ours: Subject,
  peer: Subject | undefined,
  options: MeasureOptions = {},
): Promise<Comparison> {
  const { rounds = 15, roundMs = 40, calls = 5 } = options;
  const sides = peer === undefined ? [ours] : [ours, peer];
  for (const side of sides) await timeOnce(side, roundMs, calls);
  const medians: number[][] = sides.map(() => []);
  const best = sides.map(() => Number.POSITIVE_INFINITY);
  for (let round = 0; round < rounds; round++) {
    const order = sides.map((_, index) => (round % 2 === 0 ? index : sides.length - 1 - index));
    for (const index of order) {
      const { p50, min } = await timeOnce(sides[index]!, roundMs, calls);
      medians[index]!.push(p50);
      best[index] = Math.min(best[index]!, min);
    }
  }
  const [a, b] = medians.map((values, index) => summarise(values, best[index]!));
  if (b === undefined) return { ours: a! };
  const pairs = medians[0]!.map((value, round) => [value, medians[1]![round]!] as const);
  return {
    ours: a!,
    peer: b,
    ratio: median(pairs.map(([mine, theirs]) => theirs / mine)),
    added: median(pairs.map(([mine, theirs]) => mine - theirs)),
  };
}

/** The middle of `values`, or the mean of the two middles. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/** Sums up `values`, in milliseconds. */
export function summarise(values: readonly number[], best: number = Math.min(...values)): Latency {
  const middle = median(values);
  return { median: middle, spread: median(values.map(value => Math.abs(value - middle))), best };
}

async function timeOnce(subject: Subject, time: number, iterations: number): Promise<{ p50: number; min: number }> {
  const bench = new Bench({ time, iterations, warmup: false, throws: true, timestampProvider: 'hrtimeNow' });
  bench.add('subject', subject.run, { async: subject.async ?? false });
  if (subject.async === true) await bench.run();
  else bench.runSync();
  const result = bench.tasks[0]!.result;
  if (result.state !== 'completed') throw new Error(`the bench did not complete: ${result.state}`);
  return result.latency;
}
