/**
 * Random samples that amplify privacy, each good for one release.
 *
 * A mechanism on a secret sample costs less than on everybody. That holds for the sampling that was really done, for the relation
 * between neighbours that it goes with, and once: what is released twice from one sample is not two samples. So the library
 * draws, the type says which neighbours, and a sample is used up by its release.
 * @module
 */
import { CloisterError, osRandom, type RandomSource } from '../../src/base/index.ts';
import type { DpEvent } from './event.ts';
import type { Mechanism } from './mechanism.ts';
import { uniform } from './noise/bernoulli.ts';
import { type Bits, randomBits } from './noise/bits.ts';
import { rationalOf } from './noise/rational.ts';
import type { Adjacency } from './parameters.ts';
import type { Private, Released } from './private.ts';

interface Drawn<T> {
  readonly units: readonly T[];
  readonly amplify: (event: DpEvent) => DpEvent;
}

let takeSample: <T>(sample: Sample<T, Adjacency>) => Drawn<T>;

/** Who was drawn: a secret that one release uses up. Nothing of it shows in JSON, in a console or in a clone. */
export class Sample<T, A extends Adjacency> {
  /** Exists for the compiler alone. */
  declare readonly neighboring: A;
  #drawn: Drawn<T> | undefined;

  static {
    takeSample = sample => {
      const drawn = sample.#drawn;
      if (!drawn) throw new CloisterError('INVALID_ARGUMENT', 'this sample was released from already: draw another');
      sample.#drawn = undefined;
      return drawn;
    };
  }

  /** Drawn by a {@link Sampling} alone. */
  constructor(drawn: Drawn<T>) {
    this.#drawn = drawn;
    Object.freeze(this);
  }
}

/** A way to sample: public parameters, from which the cost of a release is known before anybody is drawn. */
export interface Sampling<A extends Adjacency> {
  readonly neighboring: A;
  /** What `event` on a sample amounts to: what is to be charged. */
  amplify(event: DpEvent): DpEvent;
  /**
   * Draws from `units`, each of which is all that belongs to one subject. Anew for each release.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when `units` is not as long as the sampling was told.
   */
  draw<T>(units: readonly T[]): Sample<T, A>;
}

/** Options of a sampling. */
export interface SamplingOptions {
  /** Default the operating system's generator. Tests alone give another. */
  readonly random?: RandomSource;
}

/**
 * Returns Poisson sampling: each unit is drawn with probability exactly `rate` (the rational that the float64 is), independently. For
 * neighbours by adding or removing one.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when the rate is not from 2^-60 to 1.
 * @example
 * ```ts
 * const visitors = count({ of: 'subjects' });
 * const mechanism = laplaceMechanism({ ...visitors, cost: spendOf(1) });
 * const sampling = poissonSampling(0.1);
 * sampling.amplify(mechanism.event).kind; // 'poisson-subsampled': charge this
 * const sample = sampling.draw(Array.from({ length: 1000 }, (_, i) => `subject-${i}`));
 * const { value } = releaseSample(sample, mechanism, drawn => {
 *   const tally = visitors.start();
 *   for (const subject of drawn) visitors.accumulate(tally, subject, undefined);
 *   return visitors.finish(tally);
 * });
 * Math.abs(value[0]! - 100) < 90; // true
 * ```
 */
export function poissonSampling(rate: number, { random = osRandom }: SamplingOptions = {}): Sampling<'add-remove'> {
  if (typeof rate !== 'number' || !(rate >= 2 ** -60 && rate <= 1)) {
    const came = typeof rate === 'number' ? String(rate) : typeof rate;
    throw new CloisterError('DP_INVALID_PARAMETER', `a sampling rate is a number from 2^-60 to 1, got ${came}`);
  }
  const amplify = (event: DpEvent): DpEvent => Object.freeze({ kind: 'poisson-subsampled', rate, event });
  const digits = digitsOf(rate);
  return Object.freeze({
    neighboring: 'add-remove',
    amplify,
    draw<T>(units: readonly T[]): Sample<T, 'add-remove'> {
      const bits = randomBits(random);
      return new Sample({ units: units.filter(() => isBelow(digits, bits)), amplify });
    },
  });
}

/**
 * Returns sampling without replacement: `size` units of `population`, every set of that many equally likely. For neighbours by
 * replacing one: both numbers are public.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when they are no integers with `1 <= size <= population < 2^53`.
 * @example
 * ```ts
 * const sampling = fixedSizeSampling({ size: 100, population: 1000 });
 * sampling.neighboring; // 'replace-one'
 * ```
 */
export function fixedSizeSampling(
  { size, population }: { readonly size: number; readonly population: number },
  { random = osRandom }: SamplingOptions = {},
): Sampling<'replace-one'> {
  if (!Number.isSafeInteger(size) || !Number.isSafeInteger(population) || size < 1 || size > population) {
    const came = [size, population].map(value => (typeof value === 'number' ? value : typeof value)).join(' of ');
    throw new CloisterError('DP_INVALID_PARAMETER', `a sample is of 1 to as many units as there are, got ${came}`);
  }
  const amplify = (event: DpEvent): DpEvent =>
    Object.freeze({ kind: 'fixed-size-subsampled', size, population, event });
  return Object.freeze({
    neighboring: 'replace-one',
    amplify,
    draw<T>(units: readonly T[]): Sample<T, 'replace-one'> {
      if (units.length !== population) {
        const message = `the sampling is from ${population} units, got ${units.length}`;
        throw new CloisterError('INVALID_ARGUMENT', message);
      }
      const bits = randomBits(random);
      const left = [...units];
      for (let i = 0; i < size; i++) {
        const at = i + uniform(population - i, bits);
        [left[i], left[at]] = [left[at]!, left[i]!];
      }
      return new Sample({ units: left.slice(0, size), amplify });
    },
  });
}

/**
 * Runs `mechanism` on what `answer` makes of a sample, and uses the sample up. The event of the release is the amplified one.
 *
 * @param answer - What the mechanism's sensitivity is of, computed from the units that were drawn.
 * @throws {CloisterError} `INVALID_ARGUMENT` when the sample, or the answer, was released before; whatever `answer` throws: the
 *   sample is used up then too.
 */
export function releaseSample<T, In, Out, A extends Adjacency>(
  sample: Sample<T, A>,
  mechanism: Mechanism<In, Out, NoInfer<A>>,
  answer: (units: readonly T[]) => Private<In, NoInfer<A>>,
): Released<Out> {
  const { units, amplify } = takeSample(sample);
  const released = mechanism.release(answer(units));
  return Object.freeze({ ...released, event: amplify(released.event) });
}

/** The binary digits of a rate below 1, in pieces of 24; `[2^24]` for 1, which every piece is below. */
function digitsOf(rate: number): readonly number[] {
  const { numerator, denominator } = rationalOf(rate);
  const digits: number[] = [];
  for (let rest = numerator; rest > 0n; ) {
    const piece = (rest << 24n) / denominator;
    digits.push(Number(piece));
    rest = (rest << 24n) - piece * denominator;
  }
  return digits;
}

/** Whether a uniform number in [0, 1), drawn as far as it takes, is below the number with these digits. */
function isBelow(digits: readonly number[], bits: Bits): boolean {
  for (const digit of digits) {
    const drawn = bits.take(24);
    if (drawn !== digit) return drawn < digit;
  }
  return false; // all digits equal: at least the rate
}
