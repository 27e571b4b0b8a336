import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { optimalDelta, optimalEpsilon } from '../../../privacy/dp/accounting/composition.ts';
import { zcdpDelta } from '../../../privacy/dp/accounting/conversion.ts';
import { inverse, transform, transformError } from '../../../privacy/dp/accounting/fft.ts';
import { gaussianDelta, gaussianEpsilon } from '../../../privacy/dp/accounting/gdp.ts';
import { cut, dominated, dominating, extent } from '../../../privacy/dp/accounting/grid.ts';
import { type LossPair, pairOf } from '../../../privacy/dp/accounting/pair.ts';
import { pldDelta, pldEpsilon } from '../../../privacy/dp/accounting/pld.ts';
import { subsampledGaussian } from '../../../privacy/dp/accounting/renyi.ts';
import { shuffledDelta, shuffledEpsilon } from '../../../privacy/dp/accounting/shuffle.ts';
import {
  type Adjacency,
  calibrate,
  type DpEvent,
  deltaOf,
  epsilonOf,
  gdpLoss,
  rdpLoss,
  zcdpLoss,
} from '../../../privacy/dp/index.ts';

interface Vectors {
  readonly renyi: readonly { rate: string; sigma: string; order: string; value: string }[];
  readonly gaussian: readonly { mu: string; delta: string; epsilon: string }[];
}

const vectors = JSON.parse(
  readFileSync(join(import.meta.dirname, '../../vectors/mpmath-dp/values.json'), 'utf8'),
) as Vectors;

const gaussian = (noiseMultiplier: number, neighboring: Adjacency = 'add-remove'): DpEvent => ({
  kind: 'gaussian',
  noiseMultiplier,
  neighboring,
});
const laplace = (scale: number): DpEvent => ({ kind: 'laplace', scale, neighboring: 'add-remove' });
const poisson = (rate: number, event: DpEvent): DpEvent => ({ kind: 'poisson-subsampled', rate, event });
const times = (count: number, event: DpEvent): DpEvent => ({ kind: 'self-composition', count, event });
const all = (...events: DpEvent[]): DpEvent => ({ kind: 'composition', events });
const invalid: unknown = expect.objectContaining({ code: 'DP_INVALID_PARAMETER' });

describe('the Rényi divergence of a Poisson-subsampled Gaussian', () => {
  it.each(vectors.renyi)(
    'at rate $rate, sigma $sigma, order $order is exact to 1e-13',
    ({ rate, sigma, order, value }) => {
      expect(Math.abs(subsampledGaussian(Number(rate), Number(sigma), Number(order)) / Number(value) - 1)).toBeLessThan(
        1e-13,
      );
    },
  );

  it('is finite and rises with the order, whole or not, where sums overflow', () => {
    for (const sigma of [0.05, 0.3, 1, 30]) {
      let last = 0;
      for (const order of [1.01, 1.5, 2, 2.0001, 7, 7.7, 31.5, 256, 300.5, 1024]) {
        const loss = subsampledGaussian(0.01, sigma, order);
        expect(loss).toBeGreaterThan(last * (1 - 1e-12));
        expect(loss).toBeLessThanOrEqual((order / (2 * sigma * sigma)) * (1 + 1e-12));
        last = loss;
      }
    }
  });
});

describe('the closed form of Gaussian noise', () => {
  it.each(vectors.gaussian)('brackets the epsilon of mu $mu at delta $delta within 1e-11', ({ mu, delta, epsilon }) => {
    const { upper, lower } = gaussianEpsilon(Number(mu), Number(delta));
    const truth = Number(epsilon);
    expect(lower).toBeLessThanOrEqual(truth);
    expect(upper).toBeGreaterThanOrEqual(truth);
    expect(upper / lower - 1).toBeLessThan(1e-11);
  });

  it('inverts itself from the safe side', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.01, max: 10, noNaN: true }),
        fc.double({ min: -100, max: -0.1, noNaN: true }),
        (mu, log) => {
          const delta = 10 ** log;
          const { upper, lower } = gaussianEpsilon(mu, delta);
          expect(gaussianDelta(mu, upper).upper).toBeLessThanOrEqual(delta);
          if (lower > 0) expect(gaussianDelta(mu, lower).upper).toBeGreaterThanOrEqual(delta * (1 - 1e-9));
        },
      ),
    );
  });
});

describe('the Fourier transform', () => {
  it('stays within its stated error of the definition, and goes back', () => {
    fc.assert(
      fc.property(
        fc
          .integer({ min: 2, max: 8 })
          .chain(log =>
            fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 2 ** log, maxLength: 2 ** log }),
          ),
        list => {
          const n = list.length;
          const { re, im } = transform(Float64Array.from(list));
          const size = list.reduce((a, b) => a + b, 0);
          for (let k = 0; k <= n / 2; k++) {
            let [r, i] = [0, 0];
            for (let j = 0; j < n; j++) {
              r += list[j]! * Math.cos((2 * Math.PI * ((j * k) % n)) / n);
              i -= list[j]! * Math.sin((2 * Math.PI * ((j * k) % n)) / n);
            }
            // The sum that checks it is off by n units itself.
            expect(Math.hypot(r - re[k]!, i - im[k]!)).toBeLessThanOrEqual((transformError(n) + n * 2 ** -52) * size);
          }
          const back = inverse({ re, im }, n);
          for (let j = 0; j < n; j++)
            expect(Math.abs(back[j]! - list[j]!)).toBeLessThanOrEqual(2 * transformError(n) * (size + 1));
        },
      ),
      { numRuns: 30 },
    );
  });
});

/** delta of masses on a grid, straight from the definition. */
function hockeyStick(
  { first, masses, infinite }: ReturnType<typeof dominating>,
  step: number,
  epsilon: number,
): number {
  let sum = infinite;
  for (const [i, mass] of masses.entries()) {
    const y = (first + i) * step - epsilon;
    if (y > 0) sum += mass * -Math.expm1(-y);
  }
  return sum;
}

describe('losses on a grid', () => {
  const pairs: readonly (readonly [string, LossPair])[] = [
    ['Gaussian', pairOf(gaussian(1))!],
    ['subsampled Gaussian', pairOf(poisson(0.1, gaussian(0.7)))!],
    ['Laplace', pairOf(laplace(0.8))!],
    ['subsampled Laplace', pairOf(poisson(0.3, laplace(0.8)))!],
    [
      'randomised response',
      pairOf({ kind: 'randomized-response', categories: 4, p: 0.4, neighboring: 'replace-special' })!,
    ],
    ['approximate', pairOf({ kind: 'approx', epsilon: 1, delta: 0.01, neighboring: 'add-remove' })!],
    [
      'fixed size',
      pairOf({ kind: 'fixed-size-subsampled', size: 10, population: 100, event: gaussian(1, 'replace-one') })!,
    ],
    [
      'mixture',
      pairOf({
        kind: 'gaussian-mixture',
        sigma: 1,
        sensitivities: [0, 1, 2],
        probabilities: [0.5, 0.3, 0.2],
        neighboring: 'add-remove',
      })!,
    ],
  ];

  it.each(pairs)('of a %s pair lie on either side of the pair, in both directions, at every epsilon', (_, pair) => {
    const { low, high } = extent(pair, 1e-15);
    for (const step of [0.5, 0.07, 0.011]) {
      const cells = cut(pair, step, low, high);
      for (const direction of ['forth', 'back'] as const) {
        const [above, below] = [dominating(cells, direction), dominated(cells, direction)];
        for (let epsilon = 0; epsilon < 5; epsilon += 0.0831) {
          const [upper, lower] = [hockeyStick(above, step, epsilon), hockeyStick(below, step, epsilon)];
          const truth = exactDelta(pair, direction, epsilon);
          expect(upper).toBeGreaterThanOrEqual(truth * (1 - 1e-12) - 1e-15);
          expect(lower).toBeLessThanOrEqual(truth * (1 + 1e-12) + 1e-15);
        }
      }
    }
  });

  it('come closer with the square of the step', () => {
    const pair = pairOf(poisson(0.1, gaussian(0.7)))!;
    const gap = (step: number): number => {
      const { upper, lower } = pldEpsilon([{ pair, count: 50 }], 1e-6, { step })!;
      return upper - lower;
    };
    const ratio = gap(0.02) / gap(0.005);
    // 16, were it not for the cells at the mode, whose share of the gap shrinks faster.
    expect(ratio).toBeGreaterThan(10);
  });
});

function exactDelta(pair: LossPair, direction: 'forth' | 'back', epsilon: number): number {
  if (pair.kind === 'continuous') {
    const out = { aboveP: 0, aboveQ: 0, belowP: 0, belowQ: 0 };
    pair.tails(direction === 'forth' ? epsilon : -epsilon, out);
    return direction === 'forth'
      ? Math.max(0, out.aboveP - Math.exp(epsilon) * out.aboveQ)
      : Math.max(0, out.belowQ - Math.exp(epsilon) * out.belowP);
  }
  let sum = direction === 'forth' ? pair.infiniteP : pair.infiniteQ;
  for (const [i, loss] of pair.losses.entries()) {
    const p = pair.masses[i]!;
    const q = p * Math.exp(-loss);
    sum += Math.max(0, direction === 'forth' ? p - Math.exp(epsilon) * q : q - Math.exp(epsilon) * p);
  }
  return sum;
}

describe('privacy loss distributions', () => {
  it('hold the exact Gaussian between them down to delta 1e-100, within 2e-5 above', () => {
    for (const delta of [1e-2, 1e-5, 1e-9, 1e-16, 1e-40, 1e-100]) {
      const { upper, lower } = pldEpsilon([{ pair: pairOf(gaussian(30))!, count: 900 }], delta, { relative: 8e-6 })!;
      const exact = gaussianEpsilon(1, delta);
      expect(lower).toBeLessThanOrEqual(exact.upper);
      expect(upper).toBeGreaterThanOrEqual(exact.lower);
      expect(upper / exact.upper - 1).toBeLessThan(2e-5);
    }
  });

  it('hold the exact delta of Gaussians between them', () => {
    for (const epsilon of [0, 0.1, 1, 4, 12]) {
      const { upper, lower } = pldDelta([{ pair: pairOf(gaussian(10))!, count: 100 }], epsilon, { relative: 2e-4 })!;
      const exact = gaussianDelta(1, epsilon);
      expect(lower).toBeLessThanOrEqual(exact.upper);
      expect(upper).toBeGreaterThanOrEqual(exact.lower);
      expect(upper / exact.upper - 1).toBeLessThan(2e-3);
    }
  });

  it('agree with the binomial sum of optimal composition', () => {
    for (const [epsilon, delta, count, total] of [
      [1, 0, 10, 1e-3],
      [0.1, 1e-10, 400, 1e-6],
      [1, 0.001, 30, 0.1],
      [0.5, 0, 1000, 1e-30],
    ] as const) {
      const exact = optimalEpsilon({ epsilon, delta }, count, total);
      const { upper, lower } = epsilonOf(times(count, { kind: 'approx', epsilon, delta, neighboring: 'add-remove' }), {
        delta: total,
      });
      expect(Math.abs(upper / exact - 1)).toBeLessThan(1e-7);
      expect(lower / exact).toBeGreaterThan(1 - 1e-7);
      expect(lower).toBeLessThanOrEqual(exact);
      expect(optimalDelta({ epsilon, delta }, count, exact)).toBeLessThanOrEqual(total);
    }
  });

  it('find what an 80-bit brute force over outcomes finds', () => {
    // Three answers of one four-way response: 64 outcomes, each with its two probabilities.
    const p = 0.4;
    const own = 1 - p + p / 4;
    const other = p / 4;
    const outcomes = Array.from({ length: 64 }, (_, i) => [i % 4, Math.floor(i / 4) % 4, Math.floor(i / 16)]);
    const chance = (outcome: readonly number[], truth: number): number =>
      outcome.reduce((product, at) => product * (at === truth ? own : other), 1);
    for (const epsilon of [0, 0.7, 2, 3.9, 5.5]) {
      const exact = outcomes.reduce(
        (sum, at) => sum + Math.max(0, chance(at, 0) - Math.exp(epsilon) * chance(at, 1)),
        0,
      );
      const event: DpEvent = { kind: 'randomized-response', categories: 4, p, neighboring: 'replace-one' };
      const { upper, lower } = deltaOf(times(3, event), { epsilon });
      expect(upper).toBeGreaterThanOrEqual(exact * (1 - 1e-9));
      expect(lower).toBeLessThanOrEqual(exact * (1 + 1e-9));
      expect(upper - lower).toBeLessThan(1e-6);
    }
  });
});

describe('an account', () => {
  const anyEvent = fc.oneof(
    fc.double({ min: 0.6, max: 20, noNaN: true }).map(sigma => gaussian(sigma)),
    fc.double({ min: 0.5, max: 20, noNaN: true }).map(scale => laplace(scale)),
    fc
      .tuple(fc.double({ min: 0.001, max: 0.9, noNaN: true }), fc.double({ min: 0.6, max: 5, noNaN: true }))
      .map(([rate, sigma]) => poisson(rate, gaussian(sigma))),
    fc
      .double({ min: 0.01, max: 2, noNaN: true })
      .map((epsilon): DpEvent => ({ kind: 'pure', epsilon, neighboring: 'add-remove' })),
  );

  it('has its lower bound below its upper, and each method above the lower bound', () => {
    fc.assert(
      fc.property(
        anyEvent,
        fc.integer({ min: 1, max: 300 }),
        fc.double({ min: -12, max: -1, noNaN: true }),
        (event, count, log) => {
          const { upper, lower, bounds } = epsilonOf(times(count, event), { delta: 10 ** log });
          expect(lower).toBeLessThanOrEqual(upper);
          for (const bound of Object.values(bounds)) expect(bound).toBeGreaterThanOrEqual(lower);
          expect(upper).toBe(Math.min(...Object.values(bounds)));
        },
      ),
      { numRuns: 20 },
    );
  });

  it('does not shrink with more steps, less noise or a smaller delta', () => {
    fc.assert(
      fc.property(anyEvent, fc.integer({ min: 1, max: 100 }), (event, count) => {
        const least = (steps: number, delta: number) => epsilonOf(times(steps, event), { delta });
        const base = least(count, 1e-6);
        expect(least(2 * count, 1e-6).upper).toBeGreaterThanOrEqual(base.lower);
        expect(least(count, 1e-8).upper).toBeGreaterThanOrEqual(base.lower);
        expect(epsilonOf(all(times(count, event), laplace(5)), { delta: 1e-6 }).upper).toBeGreaterThanOrEqual(
          base.lower,
        );
      }),
      { numRuns: 8, examples: [[laplace(0.5), 1]] },
    );
  });

  it('is not contradicted by delta at the epsilon it gives, nor by one step alone, near the largest loss and far below', () => {
    const tricky = fc.oneof(
      fc
        .tuple(fc.double({ min: 0.005, max: 1, noNaN: true }), fc.double({ min: 0.1, max: 30, noNaN: true }))
        .map(([rate, scale]) => poisson(rate, laplace(scale))),
      fc.double({ min: 0.1, max: 500, noNaN: true }).map(laplace),
      anyEvent,
    );
    fc.assert(
      fc.property(
        tricky,
        fc.integer({ min: 2, max: 40 }),
        fc.double({ min: -25, max: -1, noNaN: true }),
        (event, count, log) => {
          const delta = 10 ** log;
          const { upper, bounds } = epsilonOf(times(count, event), { delta });
          // Bounds by the same method at another tilt and grid: a lower one above delta would refute the epsilon.
          expect(deltaOf(times(count, event), { epsilon: upper }).lower).toBeLessThanOrEqual(delta * (1 + 1e-6));
          const once = epsilonOf(event, { delta }).lower;
          for (const bound of Object.values(bounds)) expect(bound).toBeGreaterThanOrEqual(once * (1 - 1e-9));
        },
      ),
      {
        numRuns: process.env['CLOISTER_SLOW'] ? 2000 : 12,
        // Two atoms a hair below the largest loss, where a difference of sums once lost them.
        examples: [[poisson(0.10981286661679081, laplace(0.37477999587171373)), 5, Math.log10(1.5747954232461276e-12)]],
      },
    );
  }, 3_600_000);

  it('is the same however a composition is written', () => {
    const [a, b] = [poisson(0.01, gaussian(1)), laplace(10)];
    const first = epsilonOf(all(times(3, all(a, b)), a), { delta: 1e-6 });
    const second = epsilonOf(all(times(4, a), b, times(2, b)), { delta: 1e-6 });
    expect(first.upper).toBe(second.upper);
    expect(epsilonOf(all(), { delta: 1e-6 }).upper).toBe(0);
    expect(epsilonOf(all(gaussian(3), gaussian(4)), { delta: 1e-6 }).upper).toBeCloseTo(
      epsilonOf(gaussian(2.4), { delta: 1e-6 }).upper,
      12,
    );
  });

  it('of a sample costs no more than of the whole, and a whole sample exactly that', () => {
    const whole = epsilonOf(times(10, gaussian(1)), { delta: 1e-6 }).upper;
    expect(epsilonOf(times(10, poisson(0.5, gaussian(1))), { delta: 1e-6 }).upper).toBeLessThan(whole);
    expect(epsilonOf(times(10, poisson(1, gaussian(1))), { delta: 1e-6 }).upper).toBeCloseTo(whole, 2);
    // Amplification of a pure loss, in closed form.
    const amplified = epsilonOf(poisson(0.1, { kind: 'pure', epsilon: 1, neighboring: 'add-remove' }), {
      delta: 0,
    }).upper;
    expect(amplified).toBeCloseTo(Math.log1p(0.1 * Math.expm1(1)), 12);
  });

  it('of a fixed-size sample lies above that of a Poisson sample of the same rate', () => {
    const fixed = epsilonOf(
      times(500, { kind: 'fixed-size-subsampled', size: 10, population: 1000, event: gaussian(2, 'replace-one') }),
      { delta: 1e-5 },
    );
    const free = epsilonOf(times(500, poisson(0.01, gaussian(2))), { delta: 1e-5 });
    expect(fixed.lower).toBeGreaterThan(free.upper);
  });

  it('of a truncated sample lies above that of a Poisson sample, and near it when nothing is cut', () => {
    const truncated = (size: number): number =>
      epsilonOf(
        times(100, { kind: 'truncated-poisson-subsampled', rate: 0.01, size, population: 10_000, event: gaussian(1) }),
        { delta: 1e-5 },
      ).upper;
    const free = epsilonOf(times(100, poisson(0.01, gaussian(1))), { delta: 1e-5 });
    expect(truncated(10_000)).toBeCloseTo(free.upper, 6);
    expect(truncated(180)).toBeGreaterThan(free.lower);
    expect(truncated(110)).toBe(Number.POSITIVE_INFINITY);
  });

  it('of a million steps at a tiny rate beats the orders of old tables', () => {
    const { upper } = epsilonOf(times(10_000, poisson(0.00033, gaussian(4))), { delta: 1.1e-18 });
    expect(upper).toBeLessThan(0.0673);
    expect(upper).toBeGreaterThan(0.0671);
  });

  it('is refused for what no bound holds for', () => {
    const delta = 1e-6;
    const refused = (event: DpEvent): void => {
      expect(() => epsilonOf(event, { delta })).toThrow(invalid);
      for (const loss of [zcdpLoss, gdpLoss, (one: DpEvent) => rdpLoss(one, [2])])
        expect(() => loss(event)).toThrow(invalid);
    };
    refused(all(gaussian(1), gaussian(1, 'replace-one')));
    refused(poisson(0.1, gaussian(1, 'replace-one')));
    refused({ kind: 'fixed-size-subsampled', size: 1, population: 10, event: gaussian(1) });
    refused({ kind: 'fixed-size-subsampled', size: 11, population: 10, event: gaussian(1, 'replace-one') });
    refused({ kind: 'gaussian-mixture', sigma: 1, sensitivities: [1], probabilities: [1], neighboring: 'replace-one' });
    refused({ kind: 'randomized-response', categories: 2, p: 0.5, neighboring: 'add-remove' });
    for (const bad of [Number.NaN, -1, -0, 1, 2, Number.POSITIVE_INFINITY, 1e-300]) {
      expect(() => epsilonOf(gaussian(1), { delta: bad })).toThrow(invalid);
    }
    for (const bad of [Number.NaN, -1, Number.POSITIVE_INFINITY])
      expect(() => deltaOf(gaussian(1), { epsilon: bad })).toThrow(invalid);
    for (const bad of [1, 0, Number.NaN, 1e7]) expect(() => rdpLoss(gaussian(1), [bad])).toThrow(invalid);
  });
});

describe('losses for a filter', () => {
  it('are never below the definition, and within 1e-10 of it', () => {
    fc.assert(
      fc.property(fc.double({ min: 1e-3, max: 1e6, noNaN: true }), sigma => {
        const exact = 1 / (sigma * sigma);
        expect(gdpLoss(gaussian(sigma))).toBeGreaterThanOrEqual(exact);
        expect(zcdpLoss(gaussian(sigma))).toBeGreaterThanOrEqual(exact / 2);
        expect(rdpLoss(gaussian(sigma), [3])![0]).toBeGreaterThanOrEqual((3 * exact) / 2);
        expect(zcdpLoss(gaussian(sigma))! / (exact / 2) - 1).toBeLessThan(1e-10);
      }),
    );
  });

  it('are unknown where a sum of them would not hold', () => {
    const pld = poisson(0.01, gaussian(1));
    expect(gdpLoss(pld)).toBeUndefined();
    expect(gdpLoss(laplace(1))).toBeUndefined();
    expect(gdpLoss({ kind: 'zcdp', rho: 1, neighboring: 'add-remove' })).toBeUndefined();
    expect(zcdpLoss({ kind: 'approx', epsilon: 1, delta: 1e-9, neighboring: 'add-remove' })).toBeUndefined();
    expect(zcdpLoss({ kind: 'zcdp', rho: 1, xi: 0.1, neighboring: 'add-remove' })).toBeUndefined();
    expect(rdpLoss({ kind: 'approx', epsilon: 1, delta: 1e-9, neighboring: 'add-remove' }, [2])).toBeUndefined();
    expect(rdpLoss({ kind: 'shuffled', population: 100, epsilon: 1, neighboring: 'replace-one' }, [2])).toBeUndefined();
  });

  it('hold what the best bound is below', () => {
    const event = times(20, gaussian(5));
    const best = epsilonOf(event, { delta: 1e-6 }).upper;
    const rho = zcdpLoss(event)!;
    expect(zcdpDelta(rho, 0, best)).toBeGreaterThan(1e-6);
  });
});

describe('shuffling', () => {
  it('is what counting over all outcomes gives', () => {
    // n = 6: every number of clones and every split of them, from the definition.
    const [n, local] = [6, 1.2];
    const choose = (m: number, k: number): number => (k === 0 ? 1 : (choose(m, k - 1) * (m - k + 1)) / k);
    const right = Math.exp(local) / (1 + Math.exp(local));
    for (const epsilon of [0, 0.3, 0.9, 1.1]) {
      let exact = 0;
      for (let c = 0; c < n; c++) {
        const weight = choose(n - 1, c) * Math.exp(-local) ** c * (1 - Math.exp(-local)) ** (n - 1 - c);
        for (let a = 0; a <= c + 1; a++) {
          const half = (k: number): number => (k < 0 || k > c ? 0 : choose(c, k) / 2 ** c);
          const [p, q] = [right * half(a - 1) + (1 - right) * half(a), (1 - right) * half(a - 1) + right * half(a)];
          exact += weight * Math.max(0, p - Math.exp(epsilon) * q);
        }
      }
      expect(shuffledDelta(n, local, epsilon)).toBeGreaterThanOrEqual(exact);
      expect(shuffledDelta(n, local, epsilon) - exact).toBeLessThan(1e-8);
    }
  });

  it('amplifies with the crowd and never costs more than one report', () => {
    const at = [10, 1000, 100_000].map(n => shuffledEpsilon(n, 1, 1e-6));
    expect(at[0]).toBeLessThanOrEqual(1);
    expect(at[1]).toBeLessThan(at[0]!);
    expect(at[2]).toBeLessThan(at[1]!);
  });
});

describe('calibration', () => {
  it('never overshoots, and would with a little less noise', () => {
    for (const [make, slack] of [
      [(x: number) => gaussian(x), 1e-8],
      [(x: number) => times(500, laplace(x)), 1e-3],
      [(x: number) => times(1000, poisson(0.01, gaussian(x))), 1e-3],
    ] as const) {
      const { value, account } = calibrate(make, { epsilon: 2, delta: 1e-5 });
      expect(account.upper).toBeLessThanOrEqual(2);
      expect(epsilonOf(make(value), { delta: 1e-5 }).lower).toBeLessThanOrEqual(2);
      expect(epsilonOf(make(value * (1 - slack)), { delta: 1e-5 }).upper).toBeGreaterThan(2);
    }
  });

  it('finds a sampling rate as well', () => {
    const make = (rate: number): DpEvent => times(1000, poisson(rate, gaussian(1)));
    const { value, account } = calibrate(make, { epsilon: 1, delta: 1e-5, cost: 'rising' });
    expect(account.upper).toBeLessThanOrEqual(1);
    expect(epsilonOf(make(value * 1.01), { delta: 1e-5 }).upper).toBeGreaterThan(1);
  });

  it('says when a target is out of reach', () => {
    const always: DpEvent = { kind: 'pure', epsilon: 3, neighboring: 'add-remove' };
    expect(() => calibrate(() => always, { epsilon: 1, delta: 1e-9 })).toThrow(/no parameter/);
    for (const epsilon of [0, -1, Number.NaN])
      expect(() => calibrate(() => always, { epsilon, delta: 0 })).toThrow(invalid);
  });
});
