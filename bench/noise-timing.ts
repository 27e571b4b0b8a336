/**
 * Does the time of a draw tell how large it is? As dudect asks (Reparaz, Balasch & Verbauwhede 2017): two classes of inputs in random
 * order, and Welch's t between their times.
 * @module
 */
import type { Bits, Sampler } from '../privacy/dp/index.ts';

/** What came of it. */
export interface TimingVerdict {
  /** Welch's t between the times of small and of large noise: within 4.5, no difference is seen. */
  readonly t: number;
  /** Mean time of a draw in nanoseconds: small noise, large noise. */
  readonly nanoseconds: readonly [number, number];
}

const TAPES = 256;
const DRAWS = 32;

/**
 * Times `draw` on bits that make noise of at most `small` in size, and on bits that make it at least `large`: `trials` groups of 32 draws,
 * of either class at random. The slowest tenth of all groups, when something else had the machine, is left out.
 */
export function noiseTiming(draw: Sampler, fresh: Bits, small: number, large: number, trials: number): TimingVerdict {
  const classes = [
    record(draw, fresh, y => y <= small && y >= -small),
    record(draw, fresh, y => y >= large || y <= -large),
  ];
  let tape: readonly number[] = [];
  let at = 0;
  const replay: Bits = { take: () => tape[at++]! };
  const run = (): number => {
    at = 0;
    let sum = 0;
    for (let i = 0; i < DRAWS; i++) sum += Number(draw(replay));
    return sum;
  };
  const times: [number, bigint][] = [];
  let sink = 0;
  for (let i = -2000; i < trials; i++) {
    const which = Math.random() < 0.5 ? 0 : 1;
    tape = classes[which]![Math.floor(Math.random() * TAPES)]!;
    sink += run(); // the tape and the table are in the caches now, whichever it is
    const from = process.hrtime.bigint();
    sink += run();
    const to = process.hrtime.bigint();
    if (i >= 0) times.push([which, to - from]);
  }
  if (Number.isNaN(sink)) throw new Error('the draws were not made');
  const sorted = times.map(([, time]) => time).sort((a, b) => (a < b ? -1 : 1));
  const most = sorted[Math.floor(0.9 * sorted.length)]!;
  const kept = [0, 1].map(which =>
    times.filter(([of, time]) => of === which && time <= most).map(([, time]) => Number(time)),
  );
  const [a, b] = kept.map(values => moments(values)) as [Moments, Moments];
  return {
    t: (a.mean - b.mean) / Math.sqrt(a.variance / a.n + b.variance / b.n),
    nanoseconds: [a.mean / DRAWS, b.mean / DRAWS],
  };
}

/** The answers that `fresh` gave for draws that `wanted` takes, 32 of them on each tape. */
function record(draw: Sampler, fresh: Bits, wanted: (y: number) => boolean): readonly (readonly number[])[] {
  return Array.from({ length: TAPES }, () => {
    const tape: number[] = [];
    for (let found = 0; found < DRAWS; ) {
      const asked: number[] = [];
      const y = Number(
        draw({
          take(count) {
            const bits = fresh.take(count);
            asked.push(bits);
            return bits;
          },
        }),
      );
      if (!wanted(y)) continue;
      tape.push(...asked);
      found++;
    }
    return tape;
  });
}

interface Moments {
  readonly n: number;
  readonly mean: number;
  readonly variance: number;
}

function moments(values: readonly number[]): Moments {
  const n = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  return { n, mean, variance: values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1) };
}
