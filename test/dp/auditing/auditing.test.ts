import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import {
  auditByEnumeration,
  auditByExperiment,
  clopperPearson,
  enumerateOutcomes,
  hockeyStick,
} from '../../../privacy/dp/auditing/index.ts';
import { osRandom, type RandomSource } from '../../../src/base/index.ts';
import { seededRandom } from '../noise/bits.ts';

interface Taker {
  take(count: number): number;
}

describe('Clopper-Pearson bounds', () => {
  /** P[X >= k] for X binomial, by summing in BigInt rationals: p = numerator / 2^20. */
  const upperTail = (k: number, n: number, p: number): number => {
    const scale = 2 ** 20;
    const [a, b] = [BigInt(Math.round(p * scale)), BigInt(scale - Math.round(p * scale))];
    let sum = 0n;
    let choose = 1n;
    for (let i = 0; i <= n; i++) {
      if (i >= k) sum += choose * a ** BigInt(i) * b ** BigInt(n - i);
      choose = (choose * BigInt(n - i)) / BigInt(i + 1);
    }
    const shift = 20n * BigInt(n) - 1000n;
    return shift > 0n ? Number(sum >> shift) / 2 ** 1000 : Number(sum) / 2 ** (20 * n);
  };

  it('are where the binomial tails have the stated error', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 200 }).chain(n => fc.tuple(fc.constant(n), fc.integer({ min: 0, max: n }))),
        fc.constantFrom(0.05, 1e-3, 1e-9),
        ([n, k], error) => {
          const { lower, upper } = clopperPearson(k, n, error);
          // Within one step of the rational grid the tail passes the error.
          if (k > 0) {
            expect(upperTail(k, n, Math.max(0, lower - 2 ** -20))).toBeLessThanOrEqual(error * 1.000001);
            expect(upperTail(k, n, lower + 2 ** -19)).toBeGreaterThan(error * 0.999999);
          } else expect(lower).toBe(0);
          if (k < n) expect(1 - upperTail(k + 1, n, Math.min(1, upper + 2 ** -20))).toBeLessThanOrEqual(error + 1e-12);
          else expect(upper).toBe(1);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('agree with scipy.stats.beta.ppf', () => {
    // scipy 1.17: beta.ppf(error, k, n - k + 1), beta.isf(error, k + 1, n - k)
    const known = [
      [10, 100, 0.025, 0.04900468922148595, 0.1762225977400227],
      [50_000, 100_000, 1e-9, 0.49051251216723796, 0.509487487832762],
      [1, 1_000_000, 1e-9, 1.0000000004999996e-15, 2.393945328218574e-5],
    ] as const;
    for (const [k, n, error, lower, upper] of known) {
      const came = clopperPearson(k, n, error);
      expect(came.lower / lower).toBeCloseTo(1, 8);
      expect(came.upper / upper).toBeCloseTo(1, 8);
    }
  });

  it('refuse what is no count', () => {
    for (const [k, n, error] of [
      [1, 0, 0.1],
      [2, 1, 0.1],
      [-1, 1, 0.1],
      [0.5, 1, 0.1],
      [0, 1, 0],
      [0, 1, 0.5],
      [0, 1, Number.NaN],
      [0, 2 ** 31, 0.1],
    ] as const)
      expect(() => clopperPearson(k, n, error)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  });
});

describe('enumeration', () => {
  it('gives each outcome of a table its exact share, whatever the table', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 64, maxLength: 64 }), table => {
        const { mass, open, runs } = enumerateOutcomes(bits => table[bits.take(6)], { depth: 8 });
        expect(open).toBe(0n);
        expect(runs).toBe(64);
        for (const [outcome, share] of mass)
          expect(share).toBe(4n * BigInt(table.filter(value => String(value) === outcome).length));
      }),
    );
  });

  it('adds up to one with what stays open, for samplers that loop', () => {
    const draw = (bits: Taker): number => {
      let n = 0;
      while (bits.take(1) === 1) n++;
      return n;
    };
    const { mass, open } = enumerateOutcomes(draw, { depth: 12 });
    expect(open).toBe(1n);
    expect([...mass.values()].reduce((sum, share) => sum + share, 0n) + open).toBe(4096n);
    expect(mass.get('3')).toBe(256n);
  });

  it('tells outcomes apart that plain JSON takes for one', () => {
    const values = [0, -0, Number.NaN, Number.POSITIVE_INFINITY, null, 'NaN2', 1n];
    const { mass } = enumerateOutcomes(bits => values[bits.take(3) % values.length], { depth: 3 });
    expect(mass.size).toBe(7);
  });

  it('passes on what the sampler throws', () => {
    expect(() =>
      enumerateOutcomes(
        bits => {
          if (bits.take(2) === 3) throw new RangeError('mine');
        },
        { depth: 3 },
      ),
    ).toThrow('mine');
  });

  it('brackets the hockey-stick divergence of two tables, computed in rationals', () => {
    const table = fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 32, maxLength: 32 });
    fc.assert(
      fc.property(table, table, fc.double({ min: 0, max: 3, noNaN: true }), (p, q, epsilon) => {
        const [a, b] = [p, q].map(values => enumerateOutcomes(bits => values[bits.take(5)], { depth: 5 }));
        let truth = 0;
        for (let value = 0; value < 4; value++) {
          const share = (values: number[]): number => values.filter(v => v === value).length / 32;
          truth += Math.max(0, share(p) - Math.exp(epsilon) * share(q));
        }
        const { lower, upper } = hockeyStick(a!, b!, epsilon);
        expect(lower).toBeLessThanOrEqual(truth + 1e-15);
        expect(upper).toBeGreaterThanOrEqual(truth - 1e-15);
        expect(upper - lower).toBeLessThan(1e-12);
      }),
    );
  });

  it('says open, not violated, where bits run out', () => {
    const run = (truth: number, bits: Taker): number => {
      for (let i = 0; i < 30; i++) if (bits.take(1) === 1) return (truth + i) % 2;
      return truth;
    };
    expect(auditByEnumeration({ run, inputs: [0, 1], epsilon: Math.log(2), depth: 4 }).verdict).toBe('open');
    expect(auditByEnumeration({ run, inputs: [0, 1], epsilon: 0.6, depth: 12 }).verdict).toBe('violated');
    const report = auditByEnumeration({ run, inputs: [0, 1], epsilon: Math.log(2), delta: 0.001, depth: 12 });
    expect(report.verdict).toBe('holds');
  });

  it('refuses depths and claims that are none', () => {
    const refused = expect.objectContaining({ code: 'INVALID_ARGUMENT' });
    for (const depth of [0, 41, 1.5, Number.NaN, '3' as unknown as number])
      expect(() => enumerateOutcomes(() => 0, { depth })).toThrow(refused);
    const audit = { run: () => 0, inputs: [0, 1] as [number, number] };
    for (const epsilon of [-1, Number.NaN, 701])
      expect(() => auditByEnumeration({ ...audit, epsilon })).toThrow(refused);
    for (const delta of [-0.1, 1, Number.NaN])
      expect(() => auditByEnumeration({ ...audit, epsilon: 1, delta })).toThrow(refused);
  });
});

describe('experiment', () => {
  const uniform = (random: RandomSource): number => {
    const bytes = new Uint8Array(7);
    random.fill(bytes);
    return bytes.reduce((value, byte, i) => value + byte * 2 ** (-8 * (i + 1)), 2 ** -60);
  };
  /** Textbook Laplace noise in floats: the low bits tell which number it was added to. */
  const floatLaplace = (truth: number, random: RandomSource): number => {
    const u = uniform(random) - 0.5;
    return truth - Math.sign(u) * Math.log(1 - 2 * Math.abs(u));
  };
  const response = (truth: number, random: RandomSource): number => (uniform(random) < 0.75 ? truth : 1 - truth);
  /** Gaussian noise, rounded to a grid after it was added, so that the granularity tells nothing. */
  const gaussian = (truth: number, random: RandomSource): number[] =>
    [truth, -truth, truth].map(mean => {
      const noise = Math.sqrt(-2 * Math.log(uniform(random))) * Math.cos(2 * Math.PI * uniform(random));
      return Math.round(256 * (mean + noise)) / 256;
    });

  it('refutes a loss that is claimed too small, and not the true one', () => {
    const audit = { run: response, inputs: [0, 1] as const, samples: 60_000, random: seededRandom(1) };
    const caught = auditByExperiment({ ...audit, epsilon: 1 });
    expect(caught.verdict).toBe('violated');
    expect(caught.findings[0]!.epsilonLower).toBeGreaterThan(1);
    expect(caught.findings[0]!.epsilonLower).toBeLessThan(Math.log(3));
    expect(auditByExperiment({ ...audit, epsilon: Math.log(3) }).verdict).toBe('not refuted');
  });

  it('sees floating-point noise by its granularity, where the values themselves look right', () => {
    const report = auditByExperiment({
      run: floatLaplace,
      inputs: [0, 1],
      epsilon: 1,
      samples: 20_000,
      random: seededRandom(2),
    });
    expect(report.verdict).toBe('violated');
    expect(report.findings[0]!.tester).toMatch(/granularity|outcome/);
    const rounded = (truth: number, random: RandomSource): number => Math.round(8 * floatLaplace(truth, random)) / 8;
    expect(
      auditByExperiment({ run: rounded, inputs: [0, 1], epsilon: 1, samples: 20_000, random: seededRandom(2) }).verdict,
    ).toBe('not refuted');
  });

  it('sees by the classifier what is spread over coordinates', () => {
    // Three coordinates: mu = sqrt(3). At epsilon 0.5 the true delta is 0.5136.
    const report = auditByExperiment({
      run: gaussian,
      inputs: [0, 1],
      epsilon: 0.5,
      delta: 0.1,
      samples: 10_000,
      random: seededRandom(3),
    });
    expect(report.verdict).toBe('violated');
    expect(report.findings.find(({ tester }) => tester.startsWith('classifier'))!.deltaLower).toBeGreaterThan(0.3);
    const honest = { run: gaussian, inputs: [0, 1] as const, epsilon: 0.5, delta: 0.52, samples: 10_000 };
    expect(auditByExperiment({ ...honest, random: seededRandom(4) }).verdict).toBe('not refuted');
  });

  it('raises no alarm for equal laws in 40 trials at a false-alarm rate of 1 in 1,000', () => {
    let alarms = 0;
    for (let seed = 0; seed < 40; seed++) {
      const { verdict } = auditByExperiment({
        run: (_, random) => [uniform(random) < 0.3, Math.floor(8 * uniform(random))],
        inputs: [0, 1],
        epsilon: 0,
        samples: 1000,
        falseAlarm: 1e-3,
        random: seededRandom(seed),
      });
      if (verdict === 'violated') alarms++;
    }
    expect(alarms).toBeLessThanOrEqual(1); // three or more: 1e-5
  });

  it('says what it could have seen', () => {
    const audit = { run: response, inputs: [0, 1] as const, epsilon: Math.log(3) };
    const few = auditByExperiment({ ...audit, samples: 2000 });
    const many = auditByExperiment({ ...audit, samples: 50_000 });
    expect(many.smallestEffect).toBeLessThan(few.smallestEffect / 3);
    expect(many.null).toMatch(/indistinguishable/);
    expect(many.falseAlarm).toBe(1e-9);
    // A mechanism that goes further than that over the claim is caught at that size.
    const over = (truth: number, random: RandomSource): number =>
      uniform(random) < 0.5 + many.smallestEffect ? truth : 1 - truth;
    expect(
      auditByExperiment({ run: over, inputs: [0, 1], epsilon: 0, samples: 200_000, random: osRandom }).verdict,
    ).toBe('violated');
  });

  it('takes outcomes of any form', () => {
    for (const outcome of [null, undefined, 'text', [], {}, [Number.NaN], 5n, new Float64Array(100)]) {
      const report = auditByExperiment({ run: () => outcome, inputs: [0, 1], epsilon: 0, samples: 100 });
      expect(report.verdict).toBe('not refuted');
    }
  });

  it('refuses numbers that are none', () => {
    const audit = { run: () => 0, inputs: [0, 1] as const, epsilon: 1 };
    for (const bad of [{ epsilon: -1 }, { epsilon: Number.NaN }, { delta: 1 }, { samples: 99 }, { falseAlarm: 0 }])
      expect(() => auditByExperiment({ ...audit, ...bad })).toThrow(
        expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
      );
  });
});
