/**
 * How much less a batch of votes cost because the teachers agreed, tested without giving away how much they did.
 * @module
 */
import { CloisterError, type MicroEpsilon, osRandom, type RandomSource, toEpsilon } from '../../../src/base/index.ts';
import { rdpEpsilon } from '../accounting/conversion.ts';
import type { DpEvent } from '../event.ts';
import type { Mechanism } from '../mechanism.ts';
import { randomBits } from '../noise/bits.ts';
import { sampleDiscreteLaplace } from '../noise/discrete-laplace.ts';
import { rational } from '../noise/rational.ts';
import { delta as checkDelta, epsilon as checkEpsilon } from '../parameters.ts';
import { type Private, type Released, takePrivate } from '../private.ts';
import { positiveCost } from '../selection/scores.ts';
import { classesParameter, countVotes, sigmaParameter, wholeParameter } from './votes.ts';

/** What {@link testVotes} is told. */
export interface TestVotesOptions {
  /** As {@link gnMax} was told. */
  readonly teachers: number;
  readonly classes: number;
  readonly sigma: number;
  /** Number of votes that were taken: 1 to 2^20. */
  readonly queries: number;
  /** The delta at which the votes are accounted for. */
  readonly delta: number;
  /** The epsilon that they are proposed to have cost, at most. */
  readonly epsilon: number;
  /** What the test itself costs. */
  readonly cost: MicroEpsilon;
  /** Probability that the test passes though it should not. Add it to delta. */
  readonly failure: number;
  /** Default the operating system's generator. Tests alone give another. */
  readonly random?: RandomSource;
}

/** Whether the votes are known to have cost no more than was proposed. */
export interface VotesVerdict {
  readonly passed: boolean;
}

/**
 * Returns a test whether `queries` votes by {@link gnMax} cost at most (`epsilon`, `delta`) on the data they were taken on.
 * Where teachers agree, a vote costs far less than `1 / sigma^2`; but how much less depends on the votes, and so must not be
 * shown as it is. The test asks how many teachers would have to change their minds before the proposal became false, a number
 * that one teacher moves by one, adds noise to it, and passes if it is still far from nought (`pate-test.proof.md`).
 *
 * Takes the labels of every query: a list of `queries` lists of one label for each teacher, in the order of the teachers. A
 * pass holds between these data and every neighbour, with probability `1 - failure`, if the queries were chosen without
 * looking at the votes; it is a data-dependent guarantee, and no event for a filter.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when an option is out of range. `release` throws `INVALID_ARGUMENT` when its
 *   argument was released before; never because of votes.
 * @see Papernot et al. 2018, Theorem 6, https://arxiv.org/abs/1802.08908; Dwork & Lei 2009 for propose, test, release
 * @example
 * ```ts
 * const votes = Array(100).fill(Array(1000).fill(3)); // a thousand teachers of one mind
 * const test = testVotes({
 *   ...{ teachers: 1000, classes: 10, sigma: 100, queries: 100, delta: 1e-6, epsilon: 0.1 },
 *   ...{ cost: spendOf(0.5), failure: 1e-7 },
 * });
 * test.release(holdPrivate(votes, 'replace-one')).value.passed; // true: by the parameters alone, epsilon is 0.5
 * ```
 */
export function testVotes(
  options: TestVotesOptions,
): Mechanism<readonly (readonly number[])[], VotesVerdict, 'replace-one'> {
  const teachers = wholeParameter('teachers', options.teachers, 1, 2 ** 20);
  const queries = wholeParameter('queries', options.queries, 1, 2 ** 20);
  const classes = classesParameter(options.classes);
  const sigma = sigmaParameter('sigma', options.sigma);
  const cost = positiveCost(options.cost);
  const delta = checkDelta(options.delta);
  const proposed = checkEpsilon(options.epsilon);
  const failure = checkDelta(options.failure);
  const { random = osRandom } = options;
  const scale = rational(1_000_000n, BigInt(cost));
  // P[noise >= needed - 1] <= failure: with a distance of 0 or less it hardly ever passes.
  const needed = Math.ceil(-Math.log(failure) / toEpsilon(cost)) + 1;
  if (needed > 2 ** 40) {
    throw new CloisterError('DP_INVALID_PARAMETER', 'at this cost and failure no number of teachers would pass');
  }
  const event: DpEvent = Object.freeze({ kind: 'pure', epsilon: toEpsilon(cost), neighboring: 'replace-one' });
  const costs = voteCosts(sigma, classes);
  return Object.freeze({
    neighboring: 'replace-one',
    event,
    release(held: Private<readonly (readonly number[])[], 'replace-one'>): Released<VotesVerdict> {
      const given = takePrivate(held);
      const counts = Array.from({ length: queries }, (_, i) => countVotes(given[i] ?? [], teachers, classes));
      const epsilonAfter = (changed: number): number => totalEpsilon(counts, changed, costs, delta);
      const distance = changesUntil(epsilonAfter, proposed, teachers);
      const noised = BigInt(distance) + sampleDiscreteLaplace(scale, randomBits(random));
      const value = Object.freeze({ passed: noised >= BigInt(needed) });
      return Object.freeze({ kind: 'released', value, event });
    },
  });
}

/**
 * The most teachers that may change their minds, in any way, with epsilon still known to be at most `proposed`; -1 where it
 * is not now.
 */
export function changesUntil(epsilonAfter: (changed: number) => number, proposed: number, teachers: number): number {
  let [low, high] = [-1, teachers + 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (epsilonAfter(middle) <= proposed) low = middle;
    else high = middle;
  }
  return low;
}

const ORDERS = [1.5, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 50, 64, 80, 100, 128, 200, 300, 500];
/** Bounds on the probability of another label are rounded up to powers of 2^(1/4), down to 2^-1000. */
const STEPS_PER_BIT = 4;
const LEAST_BITS = 1000;

/** What one vote costs at each order, by a bound on the probability that noise changed its outcome. */
export interface VoteCosts {
  readonly sigma: number;
  readonly classes: number;
  /** Losses by order for outcome bounds 2^(-i/4), never falling as the bound rises: the last is what any vote costs. */
  readonly table: readonly Float64Array[];
}

export function voteCosts(sigma: number, classes: number): VoteCosts {
  const table: Float64Array[] = [];
  // From the rarest to certain; the running maximum makes the cost rise with the bound, which the distance rests on.
  for (let i = LEAST_BITS * STEPS_PER_BIT; i >= 0; i--) {
    const before = table[i + 1];
    const log = (-i / STEPS_PER_BIT) * Math.LN2;
    table[i] = Float64Array.from(ORDERS, (order, k) => Math.max(before?.[k] ?? 0, dependentLoss(order, sigma, log)));
  }
  return { sigma, classes, table };
}

/**
 * The Rényi divergence at `order` of a vote whose outcome is another than the plurality with probability at most `exp(log)`:
 * Papernot et al. 2018, Theorem 6, for a mechanism that is (mu, mu / sigma^2)-Rényi private at every order mu.
 */
function dependentLoss(order: number, sigma: number, log: number): number {
  const variance = sigma * sigma;
  const plain = order / variance;
  if (log >= 0) return plain;
  const second = sigma * Math.sqrt(-log);
  const first = second + 1;
  if (!(order <= first && second > 1)) return plain;
  const [loss1, loss2] = [first / variance, second / variance];
  const limit = (second - 1) * loss2 - second * (Math.log(first / (first - 1)) + Math.log(second / (second - 1)));
  if (!(log <= limit && -log > loss2)) return plain;
  const kept = Math.log1p(-Math.exp(log));
  const agreed = kept + (order - 1) * (kept - Math.log1p(-Math.exp((log + loss2) * (1 - 1 / second))));
  const outvoted = log + (order - 1) * (loss1 - log / (first - 1));
  const high = Math.max(agreed, outvoted);
  const sum = high + Math.log1p(Math.exp(Math.min(agreed, outvoted) - high));
  return Math.min(plain, (sum / (order - 1)) * (1 + 1e-9) + 1e-15); // moved up, for the rounding of floats
}

/** The epsilon of all votes, had `changed` teachers voted in the worst way: it never falls as `changed` grows. */
export function totalEpsilon(
  counts: readonly (readonly number[])[],
  changed: number,
  { sigma, table }: VoteCosts,
  delta: number,
): number {
  const losses = new Float64Array(ORDERS.length);
  for (const votes of counts) {
    const log = logOutvoted(votes, changed, sigma);
    const bits = Math.floor((-log / Math.LN2) * STEPS_PER_BIT);
    const own = table[Math.max(0, Math.min(bits, LEAST_BITS * STEPS_PER_BIT))]!;
    for (let k = 0; k < losses.length; k++) losses[k]! += own[k]!;
  }
  return rdpEpsilon(ORDERS, losses, delta);
}

/**
 * log of a bound on the probability that noise makes another label win, when every lead is smaller by `2 changed`. The
 * difference of two discrete Gaussians is at least g with probability at most `sum over d >= g of exp(-d^2 / (4 sigma^2)) /
 * (2 sqrt(pi) sigma) (1 + tiny)`.
 */
function logOutvoted(votes: readonly number[], changed: number, sigma: number): number {
  const most = votes.reduce((best, count) => Math.max(best, count), 0);
  const winner = votes.indexOf(most);
  let sum = 0;
  for (const [i, count] of votes.entries()) {
    if (i === winner) continue;
    const lead = most - count - 2 * changed;
    if (lead <= 0) return 0; // nothing is known
    sum += tailOfDifference(lead, sigma);
  }
  return Math.min(0, Math.log(sum));
}

/** A bound on P[Z - Z' >= lead] for discrete Gaussians Z, Z' of deviation `sigma`, `lead >= 1`. */
function tailOfDifference(lead: number, sigma: number): number {
  // The terms fall faster than a geometric series of ratio exp(-(2 lead + 1) / (4 sigma^2)), and also lie below the integral from lead - 1.
  const variance = 4 * sigma * sigma;
  const first = Math.exp((-lead * lead) / variance);
  const geometric = first / -Math.expm1(-(2 * lead + 1) / variance);
  const gaussian = first + first * Math.sqrt(Math.PI) * sigma; // integral from lead on: at most first times half the whole one
  const rounding = (1 + 4 * Math.exp(-((Math.PI * sigma) ** 2))) * (1 + 1e-12);
  return (Math.min(geometric, gaussian) / (2 * Math.sqrt(Math.PI) * sigma)) * rounding;
}
