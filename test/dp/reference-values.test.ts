import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

import { type DpEvent, pureLoss } from '../../privacy/dp/index.ts';
import { toEpsilon } from '../../src/base/index.ts';

interface ReferenceRow {
  readonly id: string;
  readonly mechanism: string;
  readonly quantity: string;
  readonly params: Readonly<Record<string, number & readonly number[]>>;
  readonly composition: { readonly count?: number };
  readonly delta: number;
  readonly expected: number;
  readonly tolerance: number;
}

const corpus = process.env['CLOISTER_CORPUS'];

describe.skipIf(!corpus)('reference values for Laplace noise (third-party accountants)', () => {
  const rows = corpus
    ? (JSON.parse(readFileSync(join(corpus, 'dp', 'reference-values.json'), 'utf8')) as ReferenceRow[])
    : [];
  // Epsilon of plain Laplace noise, continuous or discrete: the loss sensitivity / scale is the same. Thresholds, scales that
  // are calibrated at a positive delta, and every other mechanism have no pure answer.
  const ours = rows.filter(
    row => row.quantity === 'epsilon' && ['laplace', 'discrete_laplace'].includes(row.mechanism),
  );

  it('are five rows of the corpus', () => {
    expect(ours.map(row => row.id).sort()).toEqual(['r059', 'r061', 'r150', 'r151', 'r159']);
  });

  it('equal the pure loss where delta is (next to) nought, and never exceed it', () => {
    let equal = 0;
    for (const row of ours) {
      const { scales, scale, noise_parameters, noise_parameter, sensitivity } = row.params;
      const rates = scales?.map(one => 1 / one) ?? noise_parameters ?? [scale ? 1 / scale : noise_parameter!];
      // Every rate in these rows is a decimal with one digit.
      const event = (rate: number): DpEvent => ({
        kind: 'discrete-laplace',
        sensitivity: sensitivity!,
        scale: { numerator: '10', denominator: String(Math.round(10 * rate)) },
      });
      const events = Array.from({ length: row.composition.count ?? 1 }, () => rates.map(event)).flat();
      const loss = toEpsilon(pureLoss({ kind: 'composition', events }));
      expect(row.expected).toBeLessThanOrEqual(loss + row.tolerance);
      if (row.delta <= 1e-14) {
        expect(Math.abs(loss - row.expected)).toBeLessThanOrEqual(row.tolerance);
        equal++;
      }
    }
    expect(equal).toBe(2);
  });
});

describe('pure loss', () => {
  it('rounds up, adds up, and refuses what is no event', () => {
    const third: DpEvent = { kind: 'discrete-laplace', sensitivity: 1, scale: { numerator: '3', denominator: '1' } };
    expect(pureLoss(third)).toBe(333_334);
    expect(pureLoss({ kind: 'composition', events: [third, { kind: 'composition', events: [third] }] })).toBe(666_668);
    expect(pureLoss({ kind: 'composition', events: [] })).toBe(0);
    const loss =
      (numerator: string, denominator = '1', sensitivity = 1) =>
      () =>
        pureLoss({ kind: 'discrete-laplace', sensitivity, scale: { numerator, denominator } });
    for (const bad of ['0', '-1', '', '1.5', '1e3', '0x1', '9'.repeat(41)]) {
      expect(loss(bad)).toThrow(/positive integers/);
      expect(loss('1', bad)).toThrow(/positive integers/);
    }
    for (const bad of [0, -1, 0.5, Number.NaN, Number.POSITIVE_INFINITY])
      expect(loss('1', '1', bad)).toThrow(/positive integers/);
    expect(loss('1', '9'.repeat(40))).toThrow(expect.objectContaining({ code: 'DP_INVALID_PARAMETER' }));
    expect(() => pureLoss({ kind: 'gaussian' } as unknown as DpEvent)).toThrow(/no known pure loss/);
  });
});
