/**
 * Bugs that published libraries have had, each as a patch of the code here and the check that must see it.
 * @module
 */
import type { Patch } from './build.ts';
import type { CHECKS } from './checks.ts';

export interface Mutant {
  readonly name: string;
  readonly patches: readonly Patch[];
  readonly caughtBy: keyof typeof CHECKS;
}

const SPARSE = 'privacy/dp/selection/sparse-vector.ts';
const ANSWER_SCALE = 'unit * BigInt(positives) * (monotonic ? 1n : 2n)';

const mutant = (name: string, caughtBy: Mutant['caughtBy'], file: string, find: string, replace: string): Mutant => ({
  name,
  caughtBy,
  patches: [{ file, find, replace }],
});

export const MUTANTS: readonly Mutant[] = [
  mutant(
    'permute-and-flip accounted as the exponential mechanism',
    'flipsAreAccountedAsTheyAre',
    'privacy/dp/selection/permute-and-flip.ts',
    "const event: DpEvent = Object.freeze({ kind: 'pure'",
    "const event: DpEvent = Object.freeze({ kind: 'bounded-range'",
  ),
  mutant(
    'scores that move both ways taken for monotonic',
    'exponentialKeepsItsClaim',
    'privacy/dp/selection/scores.ts',
    '(monotonic ? 1n : 2n)',
    '1n',
  ),
  mutant(
    'noisy max with the noise of one score',
    'noisyMaxKeepsItsClaim',
    'privacy/dp/selection/noisy-max.ts',
    '{ numerator: denominator, denominator: numerator }',
    '{ numerator: denominator, denominator: 4n * numerator }',
  ),
  mutant(
    'a randomised response that is off by one',
    'responseKeepsItsClaim',
    'privacy/dp/local/randomized-response.ts',
    'uniform(categories, bits)',
    'uniform(categories + 1, bits)',
  ),
  mutant(
    'flips at epsilon where two bits differ',
    'rapporKeepsItsClaim',
    'privacy/dp/local/unary-encoding.ts',
    '2n * MICRO_PER_EPSILON',
    'MICRO_PER_EPSILON',
  ),
  mutant(
    'Hadamard rows from 0 on',
    'hadamardIsUnbiased',
    'privacy/dp/local/hadamard-response.ts',
    'isPositive(category + 1, column)',
    'isPositive(category, column)',
  ),
  // The wrong variants that Lyu, Su & Li 2017 tell apart, by their numbers there.
  {
    name: 'sparse vector that shows the noised answer it compared (Algorithm 3)',
    caughtBy: 'sparseNumbersHaveNoiseOfTheirOwn',
    patches: [
      {
        file: SPARSE,
        find: 'const above = isAbove(truth, BigInt(threshold) + thresholdNoise, answerScale, bits);',
        replace:
          'const noised = truth + sampleDiscreteLaplace(answerScale, bits); const above = noised >= BigInt(threshold) + thresholdNoise;',
      },
      { file: SPARSE, find: 'clamp(truth + sampleDiscreteLaplace(numericScale, bits))', replace: 'clamp(noised)' },
    ],
  },
  mutant(
    'sparse vector with noise that does not grow with the positives (Algorithm 4)',
    'sparseVectorKeepsItsClaim',
    SPARSE,
    ANSWER_SCALE,
    'unit',
  ),
  mutant(
    'sparse vector without noise on the answers (Algorithm 5)',
    'sparseVectorKeepsItsClaim',
    SPARSE,
    'return truth + sampleDiscreteLaplace(scale, bits) >= noisedThreshold;',
    'return truth >= noisedThreshold;',
  ),
  mutant(
    'sparse vector without an end (Algorithm 6)',
    'sparseVectorEnds',
    SPARSE,
    'if (above) remaining--;',
    'if (above && remaining > 1) remaining--;',
  ),
  mutant(
    'sparse vector that draws the noise of its threshold for each question',
    'sparseVectorHasItsLaw',
    SPARSE,
    'BigInt(threshold) + thresholdNoise, answerScale',
    'BigInt(threshold) + sampleDiscreteLaplace(thresholdScale, bits), answerScale',
  ),
  mutant(
    'sparse vector that forgets the factor two',
    'sparseVectorHasItsLaw',
    SPARSE,
    ANSWER_SCALE,
    'unit * BigInt(positives)',
  ),
  mutant(
    'a division that rounds to the nearest',
    'laplaceHasItsLaw',
    'privacy/dp/noise/discrete-laplace.ts',
    'BigInt((x - (x % s)) / s)',
    'BigInt(Math.round(x / s))',
  ),
  mutant(
    'a zero with two signs',
    'laplaceHasItsLaw',
    'privacy/dp/noise/discrete-laplace.ts',
    '/ BigInt(s);\n    if (negative && y === 0n) continue;',
    '/ BigInt(s);',
  ),
  mutant(
    'a Gaussian whose exponent lacks the half',
    'gaussianHasItsLaw',
    'privacy/dp/noise/discrete-gaussian.ts',
    'const scale = 2 * n * d * t * t;',
    'const scale = n * d * t * t;',
  ),
  mutant(
    'a Gaussian whose acceptance is centred at zero',
    'gaussianHasItsLaw',
    'privacy/dp/noise/discrete-gaussian.ts',
    'const a = y * step - n;',
    'const a = y * step;',
  ),
  mutant(
    'noise for a sensitivity of one',
    'laplaceMechanismKeepsItsClaim',
    'privacy/dp/noise/laplace-mechanism.ts',
    'BigInt(sensitivity) * MICRO_PER_EPSILON',
    'MICRO_PER_EPSILON',
  ),
  mutant(
    'noise added to the float, not to its place on the grid',
    'gridHidesTheValue',
    'privacy/dp/noise/additive.ts',
    'draw(bits)))) * step;',
    'draw(bits)))) * step + (grid ? (answer[i] as number) - (wholeOf(answer[i]) as number) * step : 0);',
  ),
  mutant(
    'an answer that is released twice for one charge',
    'privateValuesAreReadOnce',
    'privacy/dp/private.ts',
    'held.#held = undefined;',
    '',
  ),
  mutant(
    'a sample that is released twice',
    'samplesAreUsedOnce',
    'privacy/dp/sample.ts',
    'sample.#drawn = undefined;',
    '',
  ),
  mutant(
    'a threshold that is passed with >= and accounted with >',
    'thresholdsKeepTheirDelta',
    'privacy/dp/statistics/partition-selection.ts',
    'const threshold = 1 + leastTail(',
    'const threshold = leastTail(',
  ),
  mutant(
    'a tree whose nodes get fresh noise for each sum',
    'nodesAreNoisedOnce',
    'privacy/dp/learning/gradients.ts',
    'for (const part of noised) if (part) addTo(sum, part);',
    'for (const part of exact) if (part) { const fresh = part.slice(); addNoise(fresh, bits); addTo(sum, fresh); }',
  ),
  mutant(
    'a subnormal spend that costs nothing',
    'spendsRoundUp',
    'src/base/amounts.ts',
    'micro(exact ? scaled : scaled + 1n)',
    'micro(scaled)',
  ),
  mutant(
    'a limit that is rounded up',
    'limitsRoundDown',
    'src/base/amounts.ts',
    "micro(scale(epsilon, 'a limit').scaled)",
    "micro(scale(epsilon, 'a limit').scaled + 1n)",
  ),
  mutant(
    'a subject that counts with each of its records',
    'oneSubjectMovesOne',
    'privacy/dp/statistics/histogram.ts',
    'if (!subjects.take(subject, RECORDS, records)) return;',
    '',
  ),
  mutant(
    'a local report accounted under adding and removing',
    'eventsNameTheirNeighbours',
    'privacy/dp/event.ts',
    "throw new CloisterError('DP_INVALID_PARAMETER', 'a randomised response is there or not: it has no add-remove loss');",
    'return keeps;',
  ),
  mutant(
    'a conversion that lacks a logarithm',
    'conversionsAreSound',
    'privacy/dp/accounting/conversion.ts',
    'loss + Math.log1p(-1 / order) - (Math.log(delta) + Math.log(order)) / (order - 1)',
    'loss + Math.log1p(-1 / order) - (delta + Math.log(order)) / (order - 1)',
  ),
  mutant(
    'fixed-size batches accounted as Poisson samples',
    'batchesAreNoPoissonSamples',
    'privacy/dp/accounting/rdp.ts',
    'at(fixedSizeGaussian(event.size, event.population, sigma))',
    'at(order => subsampledGaussian(event.size / event.population, sigma, order))',
  ),
  mutant(
    'a sensitivity that is not squared',
    'gaussianLossIsNoLess',
    'privacy/dp/accounting/rdp.ts',
    'event.sensitivitySquared / (2 * toNumber(event.sigmaSquared))',
    'Math.sqrt(event.sensitivitySquared) / (2 * toNumber(event.sigmaSquared))',
  ),
  {
    name: 'a refund after the data was touched',
    caughtBy: 'chargesAreNotRefunded',
    patches: [
      {
        file: 'privacy/budget/ledger.ts',
        find: "giveBack(book, await loadHeld(book, reservation?.id, 'reserved'))",
        replace: "giveBack(book, await loadHeld(book, reservation?.id, 'reserved', 'charged'))",
      },
      {
        file: 'privacy/budget/book.ts',
        find: ': row.spent,',
        replace: ': subtract(row.spent, held.cost),',
      },
    ],
  },
  mutant(
    'a spend that is compared with the limit, not with what remains of it',
    'limitsHold',
    'privacy/budget/book.ts',
    'add(row.spent, row.reserved), cost)) continue;',
    'zeroOf(measure), cost)) continue;',
  ),
];
