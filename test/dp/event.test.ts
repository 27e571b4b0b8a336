import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { type DpEvent, parseEvent, pureLoss } from '../../privacy/dp/index.ts';
import { CloisterError } from '../../src/base/index.ts';

const neighboring = 'add-remove';
const gaussian: DpEvent = { kind: 'gaussian', noiseMultiplier: 2, neighboring };

const EVENTS: readonly DpEvent[] = [
  { kind: 'discrete-laplace', sensitivity: 1, scale: { numerator: '2', denominator: '1' } },
  { kind: 'laplace', scale: 2, neighboring },
  gaussian,
  {
    kind: 'discrete-gaussian',
    sensitivitySquared: 1,
    sigmaSquared: { numerator: '4', denominator: '1' },
    cells: 1,
    neighboring,
  },
  { kind: 'randomized-response', categories: 4, p: 0.5, neighboring: 'replace-one' },
  { kind: 'pure', epsilon: 1, neighboring },
  { kind: 'bounded-range', epsilon: 1, neighboring },
  { kind: 'approx', epsilon: 1, delta: 1e-9, neighboring },
  { kind: 'zcdp', rho: 0.1, neighboring },
  { kind: 'rdp', orders: [2, 4], losses: [0.1, 0.2], neighboring },
  { kind: 'gdp', mu: 1, neighboring },
  { kind: 'poisson-subsampled', rate: 0.01, event: gaussian },
  {
    kind: 'fixed-size-subsampled',
    size: 10,
    population: 1000,
    event: { ...gaussian, neighboring: 'replace-one' },
  },
  { kind: 'truncated-poisson-subsampled', rate: 0.01, size: 20, population: 1000, event: gaussian },
  { kind: 'gaussian-mixture', sigma: 1, sensitivities: [0, 1], probabilities: [0.9, 0.1], neighboring },
  { kind: 'shuffled', population: 1000, epsilon: 1, neighboring: 'replace-one' },
  { kind: 'tree-gaussian', noiseMultiplier: 2, steps: 100, neighboring },
  { kind: 'repeat-and-select', mean: 10, shape: 1, event: gaussian },
  { kind: 'gnmax', sigma: 40, neighboring },
  { kind: 'composition', events: [gaussian, gaussian] },
  { kind: 'self-composition', event: gaussian, count: 100 },
];

describe('an event', () => {
  it('of every kind survives JSON', () => {
    for (const event of EVENTS) expect(parseEvent(JSON.parse(JSON.stringify(event)))).toEqual(event);
  });

  it('is refused when a number is NaN, infinite, negative, nought or text', () => {
    for (const event of EVENTS) {
      for (const [key, value] of Object.entries(event)) {
        if (typeof value !== 'number' || key === 'cells') continue;
        for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, -1, '1', null, 1n]) {
          expect(() => parseEvent({ ...event, [key]: bad })).toThrow(
            expect.objectContaining({ code: 'DP_INVALID_PARAMETER' }),
          );
        }
      }
    }
  });

  it('is refused with a key too many or too few', () => {
    for (const event of EVENTS) {
      expect(() => parseEvent({ ...event, more: 1 })).toThrow(CloisterError);
      for (const key of Object.keys(event)) {
        if (event.kind === 'discrete-gaussian' && key === 'cells') continue;
        const { [key as 'kind']: _, ...rest } = event;
        expect(() => parseEvent(rest)).toThrow(CloisterError);
      }
    }
  });

  it('is a value or a typed error, whatever came in', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.anything(),
          fc.tuple(fc.constantFrom(...EVENTS), fc.object()).map(([a, b]) => ({ ...a, ...b })),
        ),
        value => {
          try {
            parseEvent(value);
          } catch (error) {
            expect(error).toBeInstanceOf(CloisterError);
          }
        },
      ),
    );
  });

  it('is refused when it is nested too deep, or in itself', () => {
    let deep: unknown = gaussian;
    for (let i = 0; i < 100_000; i++) deep = { kind: 'composition', events: [deep] };
    expect(() => parseEvent(deep)).toThrow(/nested/);
    const own: { kind: string; events: unknown[] } = { kind: 'composition', events: [] };
    own.events.push(own);
    expect(() => parseEvent(own)).toThrow(/nested/);
  });
});

describe('the pure loss', () => {
  it('of a randomised response depends on what a neighbour is', () => {
    const event: DpEvent = {
      kind: 'randomized-response',
      categories: 2,
      p: Math.exp(-1),
      neighboring: 'replace-special',
    };
    expect(pureLoss(event)).toBe(1_000_001); // exactly 1, rounded up past the error of the logarithm
    expect(pureLoss({ ...event, neighboring: 'replace-one' })).toBe(1_489_881);
    expect(() => pureLoss({ ...event, neighboring: 'add-remove' })).toThrow(/no add-remove loss/);
  });

  it('is unknown where there is none', () => {
    expect(() => pureLoss(gaussian)).toThrow(/no known pure loss/);
    expect(() => pureLoss({ kind: 'self-composition', event: gaussian, count: 2 })).toThrow(/no known pure loss/);
  });
});
