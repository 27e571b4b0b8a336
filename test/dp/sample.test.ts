// The postcondition of privacy/dp/sample.proof.md.
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';

import {
  count,
  fixedSizeSampling,
  laplaceMechanism,
  type Mechanism,
  poissonSampling,
  releaseSample,
  type Sampling,
} from '../../privacy/dp/index.ts';
import { Private, takePrivate } from '../../privacy/dp/private.ts';
import type { Sample } from '../../privacy/dp/sample.ts';
import { type RandomSource, spendOf } from '../../src/base/index.ts';
import { seededRandom } from './noise/bits.ts';

/** Tells what it is given, exactly: for looking into a sample. */
function unitsOf<T>(sample: Sample<T, 'add-remove'> | Sample<T, 'replace-one'>): readonly T[] {
  const event = { kind: 'pure', epsilon: 1, neighboring: 'add-remove' } as const;
  const teller: Mechanism<readonly T[], readonly T[]> = {
    neighboring: 'add-remove',
    event,
    release: held => ({ kind: 'released', value: takePrivate(held), event }),
  };
  return releaseSample(sample as Sample<T, 'add-remove'>, teller, units => new Private<readonly T[]>(units)).value;
}

/** A source whose first bytes are `bytes`. */
const scripted = (bytes: readonly number[]): RandomSource => ({
  fill: target => target.set(bytes.slice(0, target.length)),
});

describe('Poisson sampling', () => {
  it('draws each unit with probability exactly its rate, over all bit strings', () => {
    for (const rate of [0.5, 0.25, 1, 2 ** -8, 0.1, 1 / 3, 1 - 2 ** -53]) {
      const { draw } = {
        draw: (bytes: readonly number[]) => unitsOf(poissonSampling(rate, { random: scripted(bytes) }).draw(['x'])),
      };
      // The first 24 bits decide but for one string; there the next 24 do, and so on.
      let rest = rate;
      const path: number[] = [];
      for (;;) {
        const digit = Math.floor(rest * 2 ** 24);
        const pieceOf = (piece: number): number[] => [...path, piece >> 16, (piece >> 8) & 255, piece & 255];
        if (digit > 0) expect(draw(pieceOf(digit - 1))).toEqual(['x']);
        if (digit < 2 ** 24 - 1) expect(draw(pieceOf(digit + 1))).toEqual([]);
        rest = rest * 2 ** 24 - digit; // exact
        if (rest === 0) {
          // No digit is left: the string of all digits is the rate itself, which is not below it.
          if (digit < 2 ** 24) expect(draw([...pieceOf(digit), 0, 0, 0])).toEqual([]);
          break;
        }
        path.push(digit >> 16, (digit >> 8) & 255, digit & 255);
      }
    }
  });

  it('draws independently, as often as it says', () => {
    const n = 30_000;
    const sampling = poissonSampling(0.3, { random: seededRandom(4) });
    const units = Array.from({ length: n }, (_, i) => i);
    const drawn = new Set(unitsOf(sampling.draw(units)));
    // Null: binomial; six standard deviations, a false alarm of 2e-9.
    expect(Math.abs(drawn.size - 0.3 * n)).toBeLessThan(6 * Math.sqrt(n * 0.3 * 0.7));
    const pairs = units.filter(i => drawn.has(i) && drawn.has(i + 1)).length;
    expect(Math.abs(pairs - 0.09 * n)).toBeLessThan(6 * Math.sqrt(n * 0.09));
    expect(unitsOf(poissonSampling(1).draw(units))).toHaveLength(n);
    expect(unitsOf(sampling.draw([]))).toEqual([]);
  });

  it('refuses rates that are none', () => {
    for (const rate of [0, -0, -1, 1.5, Number.NaN, Infinity, 5e-324, '0.5', 1n, undefined]) {
      expect(() => poissonSampling(rate as number)).toThrow(expect.objectContaining({ code: 'DP_INVALID_PARAMETER' }));
    }
  });
});

describe('sampling of a fixed size', () => {
  it('draws every set of a size equally often', () => {
    const seen = new Map<string, number>();
    const n = 12_000;
    const sampling = fixedSizeSampling({ size: 2, population: 4 }, { random: seededRandom(9) });
    for (let i = 0; i < n; i++) {
      const key = [...unitsOf(sampling.draw(['a', 'b', 'c', 'd']))].sort().join('');
      seen.set(key, (seen.get(key) ?? 0) + 1);
    }
    expect([...seen.keys()].sort()).toEqual(['ab', 'ac', 'ad', 'bc', 'bd', 'cd']);
    for (const times of seen.values()) expect(Math.abs(times - n / 6)).toBeLessThan(6 * Math.sqrt((n * 5) / 36));
  });

  it('draws from as many as it was told', () => {
    const sampling = fixedSizeSampling({ size: 3, population: 5 });
    const units = [1, 2, 3, 4, 5];
    expect(new Set(unitsOf(sampling.draw(units))).size).toBe(3);
    expect(units).toEqual([1, 2, 3, 4, 5]);
    expect(() => sampling.draw([1, 2])).toThrow(/from 5 units, got 2/);
    for (const [size, population] of [
      [0, 1],
      [2, 1],
      [0.5, 1],
      ['1', 2],
      [1, Infinity],
      [1, 1n],
      [Number.NaN, 1],
    ]) {
      expect(() => fixedSizeSampling({ size, population } as never)).toThrow(
        expect.objectContaining({ code: 'DP_INVALID_PARAMETER' }),
      );
    }
  });
});

describe('a sample', () => {
  const visitors = count({ of: 'subjects' });
  const mechanism = laplaceMechanism({ ...visitors, cost: spendOf(1) });
  const answer = (units: readonly string[]): Private<readonly number[]> => {
    const tally = visitors.start();
    for (const subject of units) visitors.accumulate(tally, subject, undefined);
    return visitors.finish(tally);
  };

  it('is used up by one release, also by one that fails', () => {
    const sample = poissonSampling(0.5).draw(['a', 'b']);
    const released = releaseSample(sample, mechanism, answer);
    expect(released.event).toEqual({ kind: 'poisson-subsampled', rate: 0.5, event: mechanism.event });
    expect(released.event).toEqual(poissonSampling(0.5).amplify(mechanism.event));
    expect(() => releaseSample(sample, mechanism, answer)).toThrow(/released from already/);
    const other = poissonSampling(0.5).draw(['a', 'b']);
    const fail = (): never => {
      throw new Error('no');
    };
    expect(() => releaseSample(other, mechanism, fail)).toThrow('no');
    expect(() => releaseSample(other, mechanism, answer)).toThrow(/released from already/);
  });

  it('shows nobody who was drawn', () => {
    const sample = poissonSampling(1).draw(['secret']);
    const shown = [
      inspect(sample, { depth: 9, showHidden: true, customInspect: false }),
      JSON.stringify(sample),
      JSON.stringify(structuredClone(sample)),
      Reflect.ownKeys(sample).join(),
    ];
    for (const seen of shown) expect(seen).not.toContain('secret');
  });

  it('goes with the neighbours of its sampling, or does not compile', () => {
    const misuse = (poisson: Sampling<'add-remove'>, fixed: Sampling<'replace-one'>): void => {
      // @ts-expect-error sampling of a fixed size amplifies for replace-one, this mechanism is for add-remove
      releaseSample(fixed.draw(['a']), mechanism, answer);
      // @ts-expect-error one cannot pass for the other
      const wrong: Sampling<'replace-one'> = poisson;
      void wrong;
    };
    expect(misuse).toBeTypeOf('function');
  });
});
