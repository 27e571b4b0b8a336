// The postcondition of privacy/dp/noise/gaussian-mechanism.proof.md.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import {
  discreteGaussian,
  gaussianMechanism,
  obliviousGaussian,
  parseEvent,
  randomBits,
  rho,
  squaredL2Sensitivity,
} from '../../../privacy/dp/index.ts';
import { Private } from '../../../privacy/dp/private.ts';
import { seededRandom } from './bits.ts';

const held = (...cells: number[]): Private<readonly number[]> => new Private<readonly number[]>(cells);
const losses = fc.oneof(
  fc.double({ min: 1e-6, max: 10, noNaN: true }),
  fc.double({ min: 2 ** -60, max: 1e6, noNaN: true }),
  fc.constantFrom(2 ** -60, 1e6, 0.5, 0.1),
);
const sensitivities = fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }));

/** A float as a rational: `[numerator, 2^power]`. */
function exact(value: number): [bigint, bigint] {
  let scaled = value;
  let denominator = 1n;
  while (!Number.isInteger(scaled)) {
    scaled *= 2;
    denominator *= 2n;
  }
  return [BigInt(scaled), denominator];
}

describe('discrete Gaussian mechanism', () => {
  it('has a loss of at most its rho, in rational arithmetic, and less by at most 2^-60', () => {
    fc.assert(
      fc.property(sensitivities, losses, fc.integer({ min: 1, max: 3 }), (square, loss, cells) => {
        const options = { squaredL2Sensitivity: squaredL2Sensitivity(square), cells, rho: rho(loss) };
        const { sigmaSquared, event } = gaussianMechanism(options);
        // S / (2 sigma^2) against the float
        const [n, d] = [BigInt(square) * sigmaSquared.denominator, 2n * sigmaSquared.numerator];
        const [a, b] = exact(loss);
        expect(n * b <= a * d).toBe(true);
        expect((a * d - n * b) * 2n ** 60n < b * d).toBe(true);
        expect(parseEvent(JSON.parse(JSON.stringify(event)))).toEqual(event);
      }),
    );
  });

  it('adds what the sampler draws, cell by cell', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1000 }),
        losses,
        fc.array(fc.integer(), { minLength: 1, maxLength: 20 }),
        fc.integer(),
        (square, loss, cells, seed) => {
          const options = { squaredL2Sensitivity: squaredL2Sensitivity(square), cells: cells.length, rho: rho(loss) };
          const mechanism = gaussianMechanism({ ...options, random: seededRandom(seed) });
          const bits = randomBits(seededRandom(seed));
          const draw = obliviousGaussian(mechanism.sigmaSquared) ?? discreteGaussian(mechanism.sigmaSquared);
          const most = BigInt(Number.MAX_SAFE_INTEGER);
          const expected = cells
            .map(cell => BigInt(cell) + BigInt(draw(bits)))
            .map(cell => Number(cell > most ? most : cell < -most ? -most : cell));
          expect(mechanism.release(held(...cells)).value).toEqual(expected);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('says what it did', () => {
    const mechanism = gaussianMechanism({ squaredL2Sensitivity: squaredL2Sensitivity(2), cells: 2, rho: rho(0.25) });
    const released = mechanism.release(held(1000, 0));
    expect(released).toEqual({
      kind: 'released',
      value: [expect.any(Number), expect.any(Number)],
      event: {
        kind: 'discrete-gaussian',
        sensitivitySquared: 2,
        sigmaSquared: { numerator: '4', denominator: '1' },
        neighboring: 'add-remove',
      },
      errorBar: 4,
      nonNegative: false,
    });
    expect(Object.isFrozen(released) && Object.isFrozen(released.value)).toBe(true);
    const options = { squaredL2Sensitivity: squaredL2Sensitivity(2, 'replace-one'), cells: 1, rho: rho(1) };
    expect(gaussianMechanism({ ...options, neighboring: 'replace-one' }).event).toMatchObject({
      cells: 1,
      neighboring: 'replace-one',
    });
  });

  it('takes whatever the answer holds without a word', () => {
    const mechanism = gaussianMechanism({ squaredL2Sensitivity: squaredL2Sensitivity(1), cells: 8, rho: rho(1e6) });
    const odd = [Number.NaN, Infinity, -Infinity, 0.5, 2 ** 53, undefined, '7', 4, 9, 9] as number[];
    expect(mechanism.release(held(...odd)).value).toEqual([0, 0, 0, 0, 0, 0, 0, 4]);
    expect(mechanism.release(held()).value).toEqual(Array(8).fill(0));
    const answer = held(1);
    mechanism.release(answer);
    expect(() => mechanism.release(answer)).toThrow(/one charge, one release/);
  });

  it('refuses parameters that are none', () => {
    const good = { squaredL2Sensitivity: squaredL2Sensitivity(1), cells: 1, rho: rho(1) };
    const bad = [Number.NaN, Infinity, -Infinity, 0, -0, -1, 5e-324, 2 ** 53, '1', null, 1n];
    for (const name of ['squaredL2Sensitivity', 'cells', 'rho']) {
      for (const value of bad) {
        expect(() => gaussianMechanism({ ...good, [name]: value } as never)).toThrow(
          expect.objectContaining({ code: 'DP_INVALID_PARAMETER' }),
        );
      }
    }
  });
});
