import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { costIn, limitIn, MEASURES, type Measure, openFilter, RDP_ORDERS } from '../../privacy/budget/index.ts';
import { picoUp, ratioOf, unitsOf } from '../../privacy/budget/units.ts';
import type { DpEvent } from '../../privacy/dp/index.ts';
import type { Bound } from '../../src/base/index.ts';

const neighboring = 'add-remove';
const adjacency = { adjacency: neighboring } as const;
const gaussian = (noiseMultiplier: number): DpEvent => ({ kind: 'gaussian', noiseMultiplier, neighboring });
const anyLimit = (measure: Measure): Bound =>
  measure === 'pure'
    ? { epsilon: 2 }
    : measure === 'zcdp'
      ? { rho: 0.5 }
      : measure === 'gdp'
        ? { mu: 1 }
        : { epsilon: 2, delta: 1e-6 };

/** A float64 as an exact quotient, by its bits. */
function exactly(value: number): { numerator: bigint; denominator: bigint } {
  let denominator = 1n;
  let scaled = value;
  while (!Number.isInteger(scaled)) {
    scaled *= 2;
    denominator *= 2n;
  }
  return { numerator: BigInt(scaled), denominator };
}

describe('whole units', () => {
  it('of a computed loss are never less than it, and never a whole unit more', () => {
    const loss = fc.double({ min: 2 ** -899, max: 9000, noNaN: true });
    fc.assert(
      fc.property(loss, value => {
        const { numerator, denominator } = exactly(value);
        const expected = (numerator * 10n ** 12n + denominator - 1n) / denominator;
        expect(BigInt(picoUp(value))).toBe(expected);
      }),
      { examples: [[0.5], [0.1], [1e-12], [1 / 3], [8999.999]], numRuns: 2000 },
    );
  });

  it('of a loss that cannot be counted are the most there are, and of a subnormal one', () => {
    expect(picoUp(Number.POSITIVE_INFINITY)).toBe(Number.MAX_SAFE_INTEGER);
    expect(picoUp(1e6)).toBe(Number.MAX_SAFE_INTEGER);
    expect(picoUp(5e-324)).toBe(1);
    expect(picoUp(0)).toBe(0);
    for (const bad of [Number.NaN, -1, -5e-324]) expect(() => picoUp(bad)).toThrow(/a loss is a number/);
  });

  it('of a stated number read its shortest decimal: three tenths are thrice a tenth', () => {
    expect(unitsOf(ratioOf(0.1), 12, 'up') * 3).toBe(unitsOf(ratioOf(0.3), 12, 'down'));
    fc.assert(
      fc.property(fc.double({ min: 1e-300, max: 1e300, noNaN: true }), value => {
        const { numerator, denominator } = ratioOf(value);
        expect(Number(`${numerator}`) / Number(`${denominator}`)).toBeCloseTo(value, -Infinity);
        expect(unitsOf({ numerator, denominator }, 12, 'down')).toBeLessThanOrEqual(
          unitsOf({ numerator, denominator }, 12, 'up'),
        );
      }),
    );
  });
});

describe('costs', () => {
  it('of Gaussian noise are exact in zcdp and gdp', () => {
    expect(costIn('zcdp', gaussian(2), adjacency)).toBe(125_000_000_000);
    expect(costIn('gdp', gaussian(2), adjacency)).toBe(250_000_000_000);
    const discrete: DpEvent = {
      kind: 'discrete-gaussian',
      sensitivitySquared: 3,
      sigmaSquared: { numerator: '7', denominator: '2' },
      neighboring,
    };
    expect(costIn('zcdp', discrete, adjacency)).toBe(Math.ceil((3 * 2 * 1e12) / (2 * 7)));
  });

  it('are the same whether a request is one composition or its parts one by one', () => {
    const parts = [gaussian(3), gaussian(7), gaussian(0.9)];
    for (const measure of ['zcdp', 'gdp', 'rdp'] as const) {
      const whole = openFilter({
        measure,
        limit: limitIn(
          measure,
          measure === 'rdp' ? { epsilon: 90, delta: 1e-6 } : measure === 'gdp' ? { mu: 90 } : { rho: 90 },
        ),
      });
      const single = openFilter({ measure, limit: whole.limit });
      expect(whole.spend(whole.cost({ kind: 'composition', events: parts }))).toBe(true);
      for (const part of parts) expect(single.spend(single.cost(part))).toBe(true);
      expect(whole.spent()).toEqual(single.spent());
    }
  });

  it('are refused where a measure has no sound one: Gaussian in pure, Laplace in gdp, replace-one in add-remove', () => {
    const laplace: DpEvent = { kind: 'laplace', scale: 1, neighboring };
    const code = { code: 'DP_INVALID_PARAMETER' };
    const refusal = (measure: Measure, event: unknown): unknown => {
      try {
        return costIn(measure, event as DpEvent, adjacency);
      } catch (error) {
        return error;
      }
    };
    expect(refusal('pure', gaussian(1))).toMatchObject(code);
    expect(refusal('approx', gaussian(1))).toMatchObject(code);
    expect(refusal('gdp', laplace)).toMatchObject(code);
    expect(refusal('zcdp', { kind: 'approx', epsilon: 1, delta: 1e-9, neighboring })).toMatchObject(code);
    for (const measure of MEASURES) {
      expect(refusal(measure, { ...laplace, neighboring: 'replace-one' })).toMatchObject(code);
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, 0, -0, -1, 5e-324, 1n, '1', null, undefined]) {
        expect(refusal(measure, { kind: 'pure', epsilon: bad, neighboring })).toMatchObject(code);
      }
      for (const bad of [null, undefined, {}, [], 'pure', { kind: 'nothing' }]) {
        expect(refusal(measure, bad)).toMatchObject(code);
      }
    }
  });

  it('of a smallest spend are one unit, never nothing', () => {
    const tiny: DpEvent = { kind: 'pure', epsilon: 1e-149, neighboring };
    expect(costIn('pure', tiny, adjacency)).toBe(1);
    expect(costIn('zcdp', tiny, adjacency)).toBe(1);
    expect(costIn('rdp', tiny, adjacency)).toEqual(RDP_ORDERS.map(() => 1));
    expect(costIn('zcdp', gaussian(1e100), adjacency)).toBe(1);
    expect(costIn('zcdp', gaussian(1e-100), adjacency)).toBe(Number.MAX_SAFE_INTEGER);
  });
});

describe('limits', () => {
  it('are refused outside their range, and when another measure has their form', () => {
    const bad: [Measure, Bound][] = [
      ['pure', {}],
      ['pure', { epsilon: 1, delta: 1e-9 }],
      ['pure', { rho: 1 }],
      ['approx', { epsilon: 1 }],
      ['zcdp', { mu: 1 }],
      ['gdp', { rho: 1 }],
      ['rdp', { rho: 1 }],
      ['approx', { epsilon: 1, delta: 1 }],
      ['approx', { epsilon: 1, delta: 0 }],
      ['approx', { epsilon: 1, delta: 5e-324 }],
      ['zcdp', { rho: Number.NaN }],
      ['zcdp', { rho: -0 }],
      ['zcdp', { rho: 9001 }],
      ['gdp', { mu: Number.POSITIVE_INFINITY }],
      ['pure', { epsilon: '1' as unknown as number }],
      ['pure', { epsilon: 1n as unknown as number }],
    ];
    for (const [measure, bound] of bad) {
      expect(() => limitIn(measure, bound), `${measure} ${JSON.stringify(Object.keys(bound))}`).toThrow(
        expect.objectContaining({ code: 'DP_INVALID_PARAMETER' }),
      );
    }
  });

  it('of a target in zcdp keep it: the best conversion of that rho is at most epsilon, and little less', () => {
    for (const [epsilon, delta] of [
      [1, 1e-6],
      [0.1, 1e-9],
      [8, 1e-5],
      [20, 1e-12],
    ] as const) {
      const rho = (limitIn('zcdp', { epsilon, delta }) as number) / 1e12;
      // Canonne, Kamath & Steinke 2020, Proposition 12, on a grid of orders far denser than the one that found rho.
      let best = Number.POSITIVE_INFINITY;
      for (let step = 1; step < 200_000; step++) {
        const order = 1 + 1e-4 * 1.0001 ** step;
        best = Math.min(best, order * rho + Math.log1p(-1 / order) - (Math.log(delta) + Math.log(order)) / (order - 1));
      }
      expect(best).toBeLessThanOrEqual(epsilon);
      expect(best).toBeGreaterThan(epsilon * 0.999);
    }
  });

  it('of a target in gdp are the largest mu that keeps it', () => {
    // Dong, Roth & Su 2019, Corollary 2.13, from a table of the normal distribution: mu 0.5 has delta
    // 0.04005916 - e * 0.01222447 = 0.0068296 at epsilon 1.
    const mu = Math.sqrt((limitIn('gdp', { epsilon: 1, delta: 0.0068296 }) as number) / 1e12);
    expect(mu).toBeCloseTo(0.5, 5);
  });

  it('of an rdp target hold delta shared among the orders', () => {
    const curve = limitIn('rdp', { epsilon: 2, delta: 1e-6 }) as readonly number[];
    RDP_ORDERS.forEach((order, i) => {
      const share = 1e-6 / RDP_ORDERS.length;
      const least = 2 + (Math.log(share) + Math.log(order)) / (order - 1) - Math.log1p(-1 / order);
      expect(curve[i]! / 1e12).toBeLessThanOrEqual(Math.max(0, least));
      if (least > 0) expect(curve[i]! / 1e12).toBeGreaterThan(least * (1 - 1e-9));
    });
    expect(Math.max(...curve)).toBeGreaterThan(1.5e12);
  });
});

describe('a filter', () => {
  it.each(MEASURES)('in %s never admits more than its limit, and refuses nothing that fits', measure => {
    const limit = limitIn(measure, anyLimit(measure));
    const event = fc.oneof(
      fc
        .double({ min: 0.01, max: 0.5, noNaN: true })
        .map((epsilon): DpEvent => ({ kind: 'pure', epsilon, neighboring })),
      fc.double({ min: 2, max: 60, noNaN: true }).map(gaussian),
    );
    fc.assert(
      fc.property(fc.array(event, { maxLength: 60 }), events => {
        const filter = openFilter({ measure, limit });
        const sums = [limit].flat().map(() => 0n);
        for (const one of events) {
          let cost: readonly number[];
          try {
            cost = [filter.cost(one)].flat();
          } catch {
            continue; // no sound cost here
          }
          const next = sums.map((sum, i) => sum + BigInt(cost[i]!));
          const under = next.map((sum, i) => sum <= BigInt([limit].flat()[i]!));
          const expected = measure === 'rdp' ? under.includes(true) : !under.includes(false);
          expect(filter.spend(filter.cost(one))).toBe(expected);
          if (expected) sums.splice(0, sums.length, ...next);
        }
        expect([filter.spent()].flat().map(BigInt)).toEqual(sums);
      }),
    );
  });

  it('in rdp goes on at one order after the others are used up, and never wraps', () => {
    const filter = openFilter({ measure: 'rdp', limit: limitIn('rdp', { epsilon: 5, delta: 1e-6 }) });
    let admitted = 0;
    while (filter.spend(filter.cost(gaussian(20)))) admitted++;
    const spent = filter.spent() as readonly number[];
    const limit = filter.limit as readonly number[];
    expect(spent.some((sum, i) => sum > limit[i]!)).toBe(true);
    expect(spent.some((sum, i) => sum <= limit[i]!)).toBe(true);
    // In zcdp terms: rho of the target over rho of a query, less what the shared delta costs.
    const zcdp = (limitIn('zcdp', { epsilon: 5, delta: 1e-6 }) as number) / 1.25e9;
    expect(admitted).toBeLessThanOrEqual(zcdp);
    expect(admitted).toBeGreaterThan(zcdp * 0.75);
    expect(filter.spend(RDP_ORDERS.map(() => Number.MAX_SAFE_INTEGER))).toBe(false);
  });

  it('refuses what is no amount', () => {
    const filter = openFilter({ measure: 'zcdp', limit: 100 });
    for (const bad of [-1, -0, 0.5, Number.NaN, 2 ** 53, [1], '1', 1n, null] as number[]) {
      expect(() => filter.spend(bad)).toThrow(expect.objectContaining({ code: 'DP_INVALID_PARAMETER' }));
    }
    expect(() => openFilter({ measure: 'approx', limit: 1 })).toThrow(/2 integers/);
    expect(filter.spent()).toBe(0);
  });
});
