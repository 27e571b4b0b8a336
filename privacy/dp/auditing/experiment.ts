/**
 * A claim of privacy put to the test from outside: many runs on two neighbours, and events whose odds betray too much.
 * @module
 */
import { CloisterError, osRandom, type RandomSource } from '../../../src/base/index.ts';
import { randomBits } from '../noise/bits.ts';
import { clopperPearson } from './binomial.ts';
import { learnDirection, numericFeatures } from './classifier.ts';
import { outcomeKey } from './enumeration.ts';

/** What {@link auditByExperiment} is told. */
export interface Experiment<In> {
  /** The mechanism, on one of the inputs. */
  readonly run: (input: In, random: RandomSource) => unknown;
  /** Two neighbouring inputs. Both directions are examined. */
  readonly inputs: readonly [In, In];
  /** The claim: (epsilon, delta)-differential privacy. Delta defaults to 0. */
  readonly epsilon: number;
  readonly delta?: number;
  /** Runs on each of the two inputs, default 100,000: half to choose events, half to test them. At least 100. */
  readonly samples?: number;
  /** Probability that a mechanism for which the claim is true is accused; default 1e-9. */
  readonly falseAlarm?: number;
  /** Default the operating system's generator. */
  readonly random?: RandomSource;
}

/** One event, as chosen on the first half of the runs and counted on the second. */
export interface Finding {
  /** How outcomes were looked at: `outcome`, `bins`, `granularity`, `classifier`; and which events of these were chosen. */
  readonly tester: string;
  /** Whether the event is likelier on the first input or on the second. */
  readonly likelierOn: 'first' | 'second';
  /** How often the event came, among `trials` runs on the input where it is likelier, and on the other. */
  readonly seen: readonly [number, number];
  readonly trials: number;
  /** With the confidence of the report, the loss is at least this (at the claimed delta). At most 0 says nothing. */
  readonly epsilonLower: number;
  /** With the same confidence, the least delta that is true at the claimed epsilon is at least this. */
  readonly deltaLower: number;
}

/** What an experiment shows. */
export interface ExperimentReport {
  /**
   * `violated`: the claim is refuted, at the stated false-alarm rate. `not refuted`: nothing larger than `smallestEffect` was
   * seen.
   */
  readonly verdict: 'violated' | 'not refuted';
  /** The hypothesis that is put to the test. */
  readonly null: string;
  readonly samples: number;
  readonly falseAlarm: number;
  /**
   * The least excess `P[E] - e^epsilon Q[E] - delta` of an event E with P[E] = 1/2 that these numbers of runs show half of the
   * time. Rarer events show smaller excesses; an event that the testers do not think of shows none.
   */
  readonly smallestEffect: number;
  /** The strongest first. */
  readonly findings: readonly Finding[];
}

/** A way to look at outcomes: a label for each, or a number whose upper tails are the events. */
interface View {
  readonly name: string;
  readonly labels: readonly [readonly string[], readonly string[]];
}

const VIEWS = 4;
const EVENTS = 2; // chosen for each view and direction

/**
 * Puts a claim of privacy to the test: runs the mechanism on two neighbours, chooses on half of the runs the events that
 * speak most against the claim, and counts them on the other half, with exact (Clopper-Pearson) bounds shared out over all
 * events tested.
 *
 * Outcomes are seen in four ways: as they are; their numbers in bins; the powers of two that their numbers are multiples of,
 * which tell floating-point noise; and the score of a logistic classifier that was taught to tell the two inputs apart. For
 * each, the set of labels with the largest excess `P - e^epsilon Q` is one event (hockey-stick), and the set with the best
 * bound on the loss the other (after DP-Sniper).
 *
 * A claim that is not refuted is not proved. Events rarer than some `ln(1/falseAlarm) / samples` cannot be seen at all, and
 * neither can anything that needs other inputs.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when a number is out of range; whatever `run` throws.
 * @see Ding et al. 2018, https://arxiv.org/abs/1805.10559; Bichsel et al. 2021, https://doi.org/10.1109/SP40001.2021.00081
 * @example
 * Randomised response with 3/4 on the truth loses ln 3, not 1.
 * ```ts
 * const run = (truth: number, random: { fill(target: Uint8Array): void }): number => {
 *   const byte = new Uint8Array(1);
 *   random.fill(byte);
 *   return byte[0]! < 64 ? 1 - truth : truth;
 * };
 * auditByExperiment({ run, inputs: [0, 1], epsilon: 1 }).verdict; // 'violated'
 * auditByExperiment({ run, inputs: [0, 1], epsilon: Math.log(3) }).verdict; // 'not refuted'
 * ```
 */
export function auditByExperiment<In>(experiment: Experiment<In>): ExperimentReport {
  const { run, inputs, epsilon, delta = 0, samples = 100_000, falseAlarm = 1e-9, random = osRandom } = experiment;
  check(epsilon >= 0 && epsilon <= 700, 'epsilon is a number from 0 to 700', epsilon);
  check(delta >= 0 && delta < 1, 'delta is at least 0 and below 1', delta);
  check(Number.isInteger(samples) && samples >= 100 && samples <= 2 ** 26, 'samples is 100 to 2^26', samples);
  check(falseAlarm > 0 && falseAlarm < 0.5, 'falseAlarm lies between 0 and 1/2', falseAlarm);
  // One reader for all runs: a block of random bytes for each would cost more than most mechanisms.
  const bits = randomBits(random);
  const source = { fill: random.fill.bind(random), take: (count: number) => bits.take(count) };
  const outcomes = inputs.map(input => Array.from({ length: samples }, () => run(input, source))) as [
    unknown[],
    unknown[],
  ];
  const half = samples >> 1;
  const trials = samples - half;
  // Two bounds for each event, in two directions.
  const error = falseAlarm / (2 * 2 * VIEWS * EVENTS);
  const factor = Math.exp(epsilon);
  const findings: Finding[] = [];
  for (const view of viewsOf(outcomes, half)) {
    const counts = view.labels.map(labels => countBy(labels.slice(0, half))) as [
      Map<string, number>,
      Map<string, number>,
    ];
    for (const [p, q] of [
      [0, 1],
      [1, 0],
    ] as const) {
      for (const [kind, event] of eventsOf(counts[p], counts[q], half, factor, delta, error)) {
        const among = (labels: readonly string[]): number =>
          labels.slice(half).filter(label => event.has(label)).length;
        const seen = [among(view.labels[p]), among(view.labels[q])] as const;
        const least = clopperPearson(seen[0], trials, error).lower;
        const most = clopperPearson(seen[1], trials, error).upper;
        findings.push({
          tester: `${view.name}: ${kind}`,
          likelierOn: p === 0 ? 'first' : 'second',
          seen,
          trials,
          epsilonLower: least > delta ? Math.log((least - delta) / most) : Number.NEGATIVE_INFINITY,
          deltaLower: Math.max(0, least - factor * most),
        });
      }
    }
  }
  findings.sort((x, y) => y.deltaLower - x.deltaLower || y.epsilonLower - x.epsilonLower);
  return Object.freeze({
    verdict: findings.some(({ deltaLower }) => deltaLower > delta) ? 'violated' : 'not refuted',
    null: `these neighbours are (${epsilon}, ${delta})-indistinguishable`,
    samples,
    falseAlarm,
    smallestEffect: smallestEffect(trials, factor, error),
    findings: Object.freeze(findings),
  });
}

/** The labels of all outcomes, seen in {@link VIEWS} ways. What a view learns, it learns from the first `half` of each. */
function viewsOf(outcomes: readonly [unknown[], unknown[]], half: number): View[] {
  const plain = { name: 'outcome', labels: both(outcomes, outcomeKey) };
  const numbers = both(outcomes, numericFeatures);
  const taught = [numbers[0].slice(0, half), numbers[1].slice(0, half)] as const;
  const edges = quantileEdges([...taught[0], ...taught[1]]);
  const score = learnDirection(taught);
  const scores = both(numbers, score);
  const cuts = cutsOf([...scores[0].slice(0, half), ...scores[1].slice(0, half)], 64);
  return [
    plain,
    {
      name: 'bins',
      labels: both(numbers, row => edges.map((edge, i) => binOf(row[i] ?? 0, edge)).join()),
    },
    { name: 'granularity', labels: both(numbers, row => String(Math.max(-1, ...row.map(granularity)))) },
    { name: 'classifier', labels: both(scores, value => String(binOf(value, cuts))) },
  ];
}

function both<A, B>(pair: readonly [readonly A[], readonly A[]], map: (value: A) => B): [B[], B[]] {
  return [pair[0].map(map), pair[1].map(map)];
}

const DIMENSIONS = 3; // bins in more are too many to be seen twice

/** Edges that cut each of the first few coordinates into parts of about equal counts. */
function quantileEdges(rows: readonly (readonly number[])[]): number[][] {
  const dimensions = Math.min(DIMENSIONS, rows[0]?.length ?? 0);
  const bins = [0, 32, 8, 4][dimensions]!;
  return Array.from({ length: dimensions }, (_, i) =>
    cutsOf(
      rows.map(row => row[i] ?? 0),
      bins,
    ),
  );
}

function cutsOf(values: readonly number[], bins: number): number[] {
  const sorted = Float64Array.from(values).sort();
  const cuts = Array.from({ length: bins - 1 }, (_, i) => sorted[Math.floor(((i + 1) * sorted.length) / bins)]!);
  return [...new Set(cuts)];
}

function binOf(value: number, cuts: readonly number[]): number {
  let [low, high] = [0, cuts.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (value >= cuts[middle]!) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The k for which `value` is an odd multiple of 2^-k, at least 0: how finely a number is divided. */
function granularity(value: number): number {
  if (!Number.isFinite(value)) return 0;
  let k = 0;
  for (let scaled = value; k < 1100 && !Number.isInteger(scaled); k++) scaled *= 2;
  return k;
}

/** The two sets of labels that speak most against the claim, chosen by the counts of `half` runs on each input. */
function eventsOf(
  p: ReadonlyMap<string, number>,
  q: ReadonlyMap<string, number>,
  half: number,
  factor: number,
  delta: number,
  error: number,
): [string, Set<string>][] {
  // What came fewer than four times promises nothing for the other half.
  const labels = [...p]
    .filter(([, count]) => count >= 4)
    .map(([label, count]) => ({ label, count, other: q.get(label) ?? 0 }));
  labels.sort((x, y) => y.count * (x.other + 1) - x.count * (y.other + 1));
  const hockey = new Set(labels.filter(({ count, other }) => count > factor * other).map(({ label }) => label));
  // How far the bound of each prefix is expected to lie above the claim, in standard deviations.
  const margin = Math.log(1 / error);
  let [best, length, a, b] = [Number.NEGATIVE_INFINITY, 0, 0, 0];
  for (const [i, { count, other }] of labels.entries()) {
    a += count / half;
    b += other / half;
    const spread = Math.sqrt((a * (1 - a) + factor * factor * b) / half) + (factor * margin) / half;
    const power = (a - factor * b - delta) / spread;
    if (power > best) [best, length] = [power, i + 1];
  }
  const sniper = new Set(labels.slice(0, length).map(({ label }) => label));
  return [
    ['hockey-stick', hockey],
    ['best odds', sniper],
  ];
}

function countBy(labels: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const label of labels) counts.set(label, (counts.get(label) ?? 0) + 1);
  return counts;
}

function smallestEffect(trials: number, factor: number, error: number): number {
  const a = Math.floor(trials / 2);
  const b = Math.floor(trials / 2 / factor);
  const low = a / trials - clopperPearson(a, trials, error).lower;
  const high = clopperPearson(b, trials, error).upper - b / trials;
  return Math.min(1, low + factor * high);
}

function check(met: boolean, rule: string, came: unknown): void {
  if (!met) throw new CloisterError('INVALID_ARGUMENT', `${rule}, got ${String(came)}`);
}
