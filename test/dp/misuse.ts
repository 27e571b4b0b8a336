/**
 * What the types of the room refuse: each line below a `@ts-expect-error` must not compile, and `tsc -p test` fails where one
 * does. None of it is run.
 * @module
 */
import {
  type Delta,
  type Epsilon,
  epsilon,
  type L1Sensitivity,
  l1Sensitivity,
  laplaceMechanism,
  type Mechanism,
  type Mu,
  mu,
  type Rho,
  rho,
  type SquaredL2Sensitivity,
  squaredL2Sensitivity,
} from '../../privacy/dp/index.ts';
import { Private } from '../../privacy/dp/private.ts';
import { spendOf } from '../../src/base/index.ts';

export function misuse(): void {
  const take = {
    epsilon: (value: Epsilon) => value,
    delta: (value: Delta) => value,
    rho: (value: Rho) => value,
    mu: (value: Mu) => value,
    l1: (value: L1Sensitivity) => value,
    l2: (value: SquaredL2Sensitivity) => value,
  };
  // @ts-expect-error a plain number is no epsilon
  take.epsilon(0.5);
  // @ts-expect-error a rho is no epsilon
  take.epsilon(rho(0.5));
  // @ts-expect-error an epsilon is no delta
  take.delta(epsilon(0.5));
  // @ts-expect-error a mu is no rho
  take.rho(mu(1));
  // @ts-expect-error an L1 sensitivity is no L2 sensitivity
  take.l2(l1Sensitivity(1));
  // @ts-expect-error an L2 sensitivity is no L1 sensitivity
  take.l1(squaredL2Sensitivity(1));
  // @ts-expect-error a sensitivity under replace-one is none under add-remove
  take.l1(l1Sensitivity(1, 'replace-one'));
  // @ts-expect-error a loss in units of epsilon is no amount in micro-epsilons
  laplaceMechanism({ sensitivity: l1Sensitivity(1), cells: 1, cost: epsilon(1) });
  // @ts-expect-error the noise for an L1 sensitivity is not the noise for a squared L2 sensitivity
  laplaceMechanism({ sensitivity: squaredL2Sensitivity(1), cells: 1, cost: spendOf(1) });
  const mechanism = laplaceMechanism({ sensitivity: l1Sensitivity(1), cells: 1, cost: spendOf(1) });
  // @ts-expect-error an answer whose sensitivity is known under replace-one is not released under add-remove
  mechanism.release(new Private<readonly number[], 'replace-one'>([1]));
  // @ts-expect-error and neither is a mechanism for one relation a mechanism for another
  const other: Mechanism<readonly number[], readonly number[], 'replace-one'> = mechanism;
  const [sensitivity, cells, cost] = [l1Sensitivity(2, 'replace-one'), 1, spendOf(1)] as const;
  // @ts-expect-error what is not add-remove has to be said, as the event says it
  laplaceMechanism({ sensitivity, cells, cost });
  // @ts-expect-error and it has to be what the sensitivity was derived under
  laplaceMechanism({ sensitivity, cells, cost, neighboring: 'add-remove' });
  const replace = laplaceMechanism({ sensitivity, cells, cost, neighboring: 'replace-one' });
  // @ts-expect-error the other way about
  replace.release(new Private<readonly number[]>([1]));
  replace.release(new Private<readonly number[], 'replace-one'>([1]));
  // @ts-expect-error a noised value is no private value
  mechanism.release(mechanism.release(new Private<readonly number[]>([1])));
  void other;
}
