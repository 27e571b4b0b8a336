import { describe, expect, it } from 'vitest';

import { holdPrivate, l1Sensitivity, laplaceMechanism, randomizedResponse } from '../../../privacy/dp/index.ts';
import { type RandomSource, spendOf } from '../../../src/base/index.ts';
import { checkMechanism } from '../../suites/mechanism.ts';
import { seededRandom } from '../noise/bits.ts';

const quick = { samples: 20_000, depth: 12, random: seededRandom(1) };
const poll = (truth: number, random: RandomSource): number =>
  randomizedResponse({ categories: 2, cost: spendOf(1), random }).release(holdPrivate(truth, 'replace-one')).value;

describe('checkMechanism', () => {
  it('finds no fault in what is shipped', () => {
    const noisy = (counts: readonly number[], random: RandomSource): readonly number[] =>
      laplaceMechanism({ sensitivity: l1Sensitivity(1), cells: 2, cost: spendOf(1), random }).release(
        holdPrivate(counts),
      ).value;
    const neighbors = [
      [
        [3, 0],
        [4, 0],
      ],
      [
        [0, 0],
        [0, 1],
      ],
    ] as const;
    // Each run builds a mechanism with its error bar, which takes longer than its release.
    const verdict = checkMechanism({ run: noisy, neighbors, epsilon: 1 }, { ...quick, samples: 1000, depth: 10 });
    expect(verdict.faults).toEqual([]);
    expect([verdict.experiments.length, verdict.enumerations.length]).toEqual([2, 2]);
    expect(checkMechanism({ run: poll, neighbors: [[0, 1]], epsilon: 1 }, quick).faults).toEqual([]);
  });

  it('finds a claim that is too small, by enumeration and by experiment', () => {
    const { faults } = checkMechanism({ run: poll, neighbors: [[0, 1]], epsilon: 0.5 }, quick);
    expect(faults).toEqual([
      expect.stringMatching(/^neighbours 0: refuted by enumeration: delta is at least 0\.2/),
      expect.stringMatching(/^neighbours 0: refuted by experiment: epsilon is at least 0\.[89]/),
    ]);
  });

  it('finds randomness from elsewhere, and errors that depend on data', () => {
    const elsewhere = (truth: number): number => truth + Math.random();
    expect(checkMechanism({ run: elsewhere, neighbors: [[0, 1]], epsilon: 1 }, quick).faults).toEqual([
      expect.stringMatching(/draws from elsewhere/),
    ]);
    const throwing = (truth: number, random: RandomSource): number => {
      if (truth === 1) throw new RangeError('a truth of 1');
      return poll(truth, random);
    };
    expect(checkMechanism({ run: throwing, neighbors: [[0, 1]], epsilon: 1 }, quick).faults).toEqual([
      expect.stringMatching(/an error is a release: a truth of 1/),
    ]);
  });

  it('shares the false-alarm rate over the pairs', () => {
    const { experiments } = checkMechanism(
      {
        run: poll,
        neighbors: [
          [0, 1],
          [1, 0],
        ],
        epsilon: 1,
      },
      { ...quick, depth: 0, falseAlarm: 1e-6 },
    );
    expect(experiments.map(({ falseAlarm }) => falseAlarm)).toEqual([5e-7, 5e-7]);
  });
});
