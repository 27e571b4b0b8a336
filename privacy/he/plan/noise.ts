/**
 * The error of an encrypted run, predicted. Pure.
 * @module
 */
import { rootMeanSquare, simulate } from '../simulate.ts';
import type { HePlan } from './plan.ts';

/** Standard deviation of SEAL's errors, in coefficients. */
const SIGMA = 3.2;

/**
 * Returns an error that outputs are predicted to stay within: six standard deviations of the noise that encryption, encoding, key
 * switching and rescaling add, carried through sums with the root mean square of the values that `samples` show, and through products
 * with the largest of them.
 *
 * Noises are taken to be independent and spread evenly over the slots, which is how they behave on average (Cheon et al. 2017,
 * https://eprint.iacr.org/2016/421, lemmas 1 to 4); it is a prediction, not a bound.
 */
export function predictError(plan: HePlan, samples: readonly Readonly<Record<string, ArrayLike<number>>>[]): number {
  const { degree, primes } = plan.parameters;
  const size = new Float64Array(plan.steps.length);
  const largest = new Float64Array(plan.steps.length);
  for (const sample of samples.slice(0, 4)) {
    const { means, magnitudes } = simulate(plan, sample);
    for (let id = 0; id < size.length; id++) {
      size[id] = Math.max(size[id]!, means[id]!);
      largest[id] = Math.max(largest[id]!, magnitudes[id]!);
    }
  }
  // What an error of deviation 1 in every coefficient comes to in a slot, in the unit of scaled values.
  const spread = Math.sqrt(degree / 2);
  const special = Number(primes.at(-1)!);
  // Dividing by a prime rounds both polynomials; the second meets the ternary key.
  const rounding = Math.sqrt((1 + (2 * degree) / 3) / 12);
  const encoding = Math.sqrt(1 / 12);
  const switching = (level: number): number => {
    const digits = primes.slice(0, level + 1).map(Number);
    // SEAL does not centre the digits: they are even between 0 and the prime.
    const squares = digits.reduce((sum, prime) => sum + (prime * prime * degree) / 3, 0);
    return Math.hypot((Math.sqrt(squares) * SIGMA) / special, rounding);
  };
  const error = new Float64Array(plan.steps.length);
  plan.steps.forEach((step, id) => {
    const at = (coefficients: number, scale = step.scale): number => (coefficients * spread) / scale;
    switch (step.op) {
      case 'input':
        error[id] = at(Math.hypot(SIGMA, encoding));
        break;
      case 'rotate':
      case 'relinearise':
        error[id] = Math.hypot(error[step.of]!, at(switching(step.level)));
        break;
      case 'multiplyPlain': {
        const { values, scale } = plan.plains[step.plain]!;
        error[id] = Math.hypot(rootMeanSquare(values) * error[step.of]!, size[step.of]! * at(encoding, scale));
        break;
      }
      case 'addPlain':
        error[id] = Math.hypot(error[step.of]!, at(encoding));
        break;
      case 'add':
        // Twice the same ciphertext has twice its error.
        error[id] = step.of === step.by ? 2 * error[step.of]! : Math.hypot(error[step.of]!, error[step.by]!);
        break;
      case 'multiply':
        error[id] =
          step.of === step.by
            ? 2 * largest[step.of]! * error[step.of]!
            : Math.hypot(largest[step.by]! * error[step.of]!, largest[step.of]! * error[step.by]!);
        break;
      case 'rescale':
        error[id] = Math.hypot(error[step.of]!, at(rounding));
        break;
      case 'modSwitch':
        error[id] = Math.hypot(error[step.of]!, at(rounding));
        break;
      default:
        step satisfies never;
    }
  });
  return 6 * Math.max(...plan.outputs.map(({ cipher }) => error[cipher]!));
}
