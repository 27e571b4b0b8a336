/**
 * What the types of selection, local reports and learning refuse: `tsc -p test` fails where one of these lines compiles. None
 * of it is run.
 * @module
 */
import {
  decodeTokens,
  exponentialMechanism,
  gnMax,
  gradientSum,
  holdPrivate,
  l1Sensitivity,
  lInfSensitivity,
  mixtureDecoder,
  poissonSampling,
  randomizedResponse,
  releaseSample,
} from '../../../privacy/dp/index.ts';
import { spendOf } from '../../../src/base/index.ts';

export function misuse(): void {
  const [candidates, cost] = [3, spendOf(1)];
  // @ts-expect-error the sum of what cells change by is not what one score changes by
  exponentialMechanism({ sensitivity: l1Sensitivity(1), candidates, cost });
  // @ts-expect-error a sensitivity under replace-one has to be said to be one
  exponentialMechanism({ sensitivity: lInfSensitivity(1, 'replace-one'), candidates, cost });
  const pick = exponentialMechanism({ sensitivity: lInfSensitivity(1), candidates, cost });
  // @ts-expect-error scores under another relation
  pick.release(holdPrivate([1, 2, 3], 'replace-one'));
  // @ts-expect-error a local report is about replacing a category, not about being there
  randomizedResponse({ categories: 3, cost }).release(holdPrivate(1));
  const vote = gnMax({ teachers: 3, classes: 2, sigma: 1 });
  // @ts-expect-error a Poisson sample does not amplify what holds for replacing a teacher
  releaseSample(poissonSampling(0.1).draw([1]), vote, () => holdPrivate([1, 1, 1], 'replace-one'));
  const step = gradientSum({ dimensions: 1, clip: 1, noiseMultiplier: 1 });
  // @ts-expect-error one gradient is no list of gradients
  step.release(holdPrivate([1, 2]));
  const decoder = mixtureDecoder({ models: 2, tokens: 2, beta: 1 }).beside([0.5, 0.5]);
  // @ts-expect-error probabilities that are held for the other relation
  decodeTokens(() => [decoder, holdPrivate([[0.5, 0.5]])], { most: 1 });
}
