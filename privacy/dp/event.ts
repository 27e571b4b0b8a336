/**
 * What a mechanism did, as data, and what it cost.
 * @module
 */
import { CloisterError, MICRO_PER_EPSILON, type MicroEpsilon, microEpsilon } from '../../src/base/index.ts';

/** Discrete Laplace noise of scale `numerator / denominator` on an integer vector. Decimal digits, as JSON has no big integers. */
export interface DiscreteLaplaceEvent {
  readonly kind: 'discrete-laplace';
  /** L1 sensitivity of the vector, under adding or removing one subject. */
  readonly sensitivity: number;
  readonly scale: { readonly numerator: string; readonly denominator: string };
}

/** Several events on the same data, each free to depend on the outcomes before it. */
export interface CompositionEvent {
  readonly kind: 'composition';
  readonly events: readonly DpEvent[];
}

/** What a mechanism did. Plain JSON. */
export type DpEvent = DiscreteLaplaceEvent | CompositionEvent;

/**
 * Returns the pure differential-privacy loss of `event`, rounded up to whole micro-epsilons at each noise addition.
 *
 * For the discrete Laplace it is `sensitivity / scale`, which is tight; losses of a composition add up (Dwork & Roth 2014,
 * Theorem 3.16), which holds for adaptive choices too, and is not tight when a positive delta would be allowed.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when a part is not a positive integer or the sum is over 2^53 - 1.
 * @example
 * ```ts
 * const { event } = laplaceMechanism({ sensitivity: l1Sensitivity(1), cells: 10, cost: spendOf(0.5) });
 * pureLoss({ kind: 'composition', events: [event, event] }); // 1000000: twice 0.5
 * ```
 */
export function pureLoss(event: DpEvent): MicroEpsilon {
  switch (event.kind) {
    case 'discrete-laplace': {
      const t = positive(event.scale.numerator);
      const loss = positive(String(event.sensitivity)) * MICRO_PER_EPSILON * positive(event.scale.denominator);
      return microEpsilon(Number((loss + t - 1n) / t));
    }
    case 'composition':
      return microEpsilon(event.events.reduce((sum, part) => sum + pureLoss(part), 0));
    default:
      event satisfies never;
      throw new CloisterError('DP_INVALID_PARAMETER', 'an event of unknown kind has no known loss');
  }
}

function positive(digits: string): bigint {
  if (!/^[1-9][0-9]{0,39}$/.test(digits)) {
    throw new CloisterError(
      'DP_INVALID_PARAMETER',
      `an event holds positive integers of at most 40 digits, got '${digits.slice(0, 50)}'`,
    );
  }
  return BigInt(digits);
}
