/**
 * What local mechanisms have in common: each subject's own answer is randomised before anyone sees it.
 * @module
 */
import {
  CloisterError,
  type MicroEpsilon,
  microEpsilon,
  osRandom,
  type RandomSource,
  toEpsilon,
} from '../../../src/base/index.ts';
import type { DpEvent } from '../event.ts';
import type { Mechanism } from '../mechanism.ts';
import { type Bits, randomBits } from '../noise/bits.ts';
import { rational } from '../noise/rational.ts';
import { type Private, type Released, takePrivate } from '../private.ts';

/** What a local mechanism is told. */
export interface LocalOptions {
  /** Number of categories that an answer may fall into, 2 to 65,535. */
  readonly categories: number;
  /** What one report costs its subject. */
  readonly cost: MicroEpsilon;
  /** Default the operating system's generator. Tests alone give another. */
  readonly random?: RandomSource;
}

/** Counts that many reports speak for. */
export interface LocalEstimate {
  /** Number of reports. */
  readonly reports: number;
  /** How many subjects hold each category: unbiased, so some may be negative, and no integers. */
  readonly counts: readonly number[];
  /**
   * The true count lies within this of the estimate, about 19 times in 20 (normal approximation: some hundred reports or
   * more).
   */
  readonly errorBars: readonly number[];
}

/**
 * A mechanism that each subject runs on its own category, 0 to `categories - 1`. Neighbours are any two categories, so the
 * relation is `replace-one`. A category that is none counts as 0: `release` never throws because of it.
 */
export interface LocalMechanism<Report> extends Mechanism<number, Report, 'replace-one'> {
  readonly categories: number;
  /**
   * Estimates from reports of this very mechanism how many subjects hold each category. Costs nothing.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when a report is none of this mechanism's.
   */
  estimate(reports: Iterable<Report>): LocalEstimate;
}

const MOST_CATEGORIES = 65_535;

/** The parts in which local mechanisms differ. */
interface Parts<Report> {
  readonly name: string;
  /** Defaults to a pure loss of the cost. */
  readonly event?: DpEvent;
  draw(category: number, bits: Bits): Report;
  /** How many of the reports support each category, and how many there are. `undefined` for a report that is none. */
  support(reports: Iterable<Report>): { readonly counts: ArrayLike<number>; readonly reports: number } | undefined;
  /** Probability that a report supports the category of its subject, and that it supports another. */
  readonly own: number;
  readonly other: number;
}

/** @throws {CloisterError} `DP_INVALID_PARAMETER` when an option is out of range. */
export function checkLocal(options: LocalOptions): void {
  const { categories } = options;
  if (!Number.isInteger(categories) || categories < 2 || categories > MOST_CATEGORIES) {
    throw new CloisterError('DP_INVALID_PARAMETER', `categories are 2 to 65,535, got ${String(categories)}`);
  }
  if (microEpsilon(options.cost) === 0)
    throw new CloisterError('DP_INVALID_PARAMETER', 'a report costs at least one micro-epsilon, got 0');
}

/** A probability exp(-n/d), as integers below 2^53 in lowest terms. */
export interface Odds {
  readonly n: number;
  readonly d: number;
}

/** The odds exp(-cost / unit), `unit` being what stands for a loss of 1. */
export function oddsOf(cost: MicroEpsilon, unit: bigint): Odds {
  const { numerator, denominator } = rational(BigInt(cost), unit);
  return { n: Number(numerator), d: Number(denominator) };
}

export function localMechanism<Report>(options: LocalOptions, parts: Parts<Report>): LocalMechanism<Report> {
  const { categories, cost, random = osRandom } = options;
  const neighboring = 'replace-one';
  const event = parts.event ?? Object.freeze({ kind: 'pure', epsilon: toEpsilon(cost), neighboring });
  return Object.freeze({
    neighboring,
    event,
    categories,
    release(held: Private<number, 'replace-one'>): Released<Report> {
      const given = takePrivate(held);
      const category = Number.isInteger(given) && given >= 0 && given < categories ? given : 0;
      return Object.freeze({ kind: 'released', value: parts.draw(category, randomBits(random)), event });
    },
    estimate(given: Iterable<Report>) {
      const support = parts.support(given);
      if (!support)
        throw new CloisterError('INVALID_ARGUMENT', `a report is none of ${parts.name} of ${categories} categories`);
      const { reports } = support;
      const { own, other } = parts;
      const counts = Array.from(support.counts, seen => (seen - reports * other) / (own - other));
      const errorBars = counts.map(count => {
        // The variance depends on the true count, for which the estimate stands, cut to what is possible.
        const likely = Math.min(reports, Math.max(0, count));
        const variance = likely * own * (1 - own) + (reports - likely) * other * (1 - other);
        return (1.96 * Math.sqrt(variance)) / (own - other);
      });
      return Object.freeze({ reports, counts: Object.freeze(counts), errorBars: Object.freeze(errorBars) });
    },
  });
}
