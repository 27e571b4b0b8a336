/**
 * Amplification by shuffling: reports of many subjects, each locally private, in random order.
 * @module
 */
import { leastHolding, logBinomial } from './special.ts';

const BUCKETS = 256;

/**
 * Returns an upper bound on delta at `epsilon` for `population` shuffled reports, each `local`-private, when one subject's report is
 * replaced: C ~ Bin(n - 1, e^-local) others are clones of either report, A ~ Bin(C, 1/2) of them of the first, and one more falls on
 * the right side with probability e^local / (e^local + 1) (Feldman, McMillan & Talwar 2020, Theorem 3.2).
 */
export function shuffledDelta(population: number, local: number, epsilon: number): number {
  if (epsilon >= local) return 0;
  const trials = population - 1;
  const chance = Math.exp(-local);
  const mean = trials * chance;
  // More clones hide more: each bucket of counts is taken at its least, and counts below all buckets at none.
  const reach = Math.sqrt(2 * mean * 60);
  const lowest = Math.max(0, Math.floor(mean - reach));
  const highest = Math.min(trials, Math.ceil(mean + reach + 60));
  const width = Math.max(1, Math.ceil((highest - lowest + 1) / BUCKETS));
  // Chernoff: P(C < mean - reach) <= e^(-reach^2 / 2 mean) = e^-60.
  let sum = lowest > 0 ? Math.exp(-60) * atClones(0, local, epsilon) : 0;
  for (let from = lowest; from <= highest; from += width) {
    let share = 0;
    for (let c = from; c < from + width && c <= highest; c++) {
      share += Math.exp(logBinomial(trials, c) + c * Math.log(chance) + (trials - c) * Math.log1p(-chance));
    }
    sum += share * atClones(from, local, epsilon);
  }
  // Counts above all buckets hide at least what the last of them does.
  sum += Math.exp(-60) * atClones(highest, local, epsilon);
  return Math.min(1, sum * (1 + 1e-9));
}

/** Returns the least epsilon that {@link shuffledDelta} allows at `delta`, at most `local`. */
export function shuffledEpsilon(population: number, local: number, delta: number): number {
  if (delta <= 0) return local;
  return leastHolding(epsilon => shuffledDelta(population, local, epsilon) <= delta, 0, local, 1e-7);
}

/** delta at `epsilon` given the number of clones: a tail of Bin(clones, 1/2), as the likelihood ratio rises with the count. */
function atClones(clones: number, local: number, epsilon: number): number {
  const right = 1 / (1 + Math.exp(-local));
  const wrong = 1 / (1 + Math.exp(local));
  const gain = right - Math.exp(epsilon) * wrong;
  const loss = Math.exp(epsilon) * right - wrong;
  // Counted when a / (clones + 1 - a) > loss / gain.
  const from = Math.floor(((clones + 1) * loss) / (gain + loss)) + 1;
  if (from > clones + 1) return 0;
  return Math.max(0, gain * halfTail(clones, from - 1) - loss * halfTail(clones, from));
}

/** P(Bin(n, 1/2) >= k). */
function halfTail(n: number, k: number): number {
  if (k <= 0) return 1;
  if (k > n) return 0;
  const below = 2 * k <= n;
  // Summed away from the middle, where terms fall.
  let at = below ? k - 1 : k;
  let term = Math.exp(logBinomial(n, at) - n * Math.LN2);
  let sum = 0;
  while (at >= 0 && at <= n && term > 1e-20 * sum) {
    sum += term;
    term *= below ? at / (n - at + 1) : (n - at) / (at + 1);
    at += below ? -1 : 1;
  }
  return below ? 1 - sum : sum;
}
