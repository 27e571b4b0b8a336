/**
 * A linear head taught by DP-SGD: linear or logistic regression on features that a model made.
 * @module
 */
import { CloisterError, osRandom, type RandomSource } from '../../../src/base/index.ts';
import type { DpEvent } from '../event.ts';
import type { Mechanism } from '../mechanism.ts';
import { holdPrivate, type Private, type Released, takePrivate } from '../private.ts';
import { poissonSampling, releaseSample } from '../sample.ts';
import { gradientSum } from './gradients.ts';
import { wholeParameter } from './votes.ts';

/** What {@link trainLinearModel} is told. */
export interface LinearModelOptions {
  /**
   * `logistic`: a score for each of `outputs` classes, by softmax and cross-entropy. `linear`: `outputs` numbers, by squared
   * error.
   */
  readonly kind: 'logistic' | 'linear';
  /** Length of an example's features, 1 to 65,536. */
  readonly features: number;
  /** Classes of a logistic model (at least 2), numbers of a linear one (at least 1); at most 65,536. */
  readonly outputs: number;
  /** Number of examples, roughly: a public fact, by which the step is scaled. */
  readonly population: number;
  /** Share of the examples that each step is taken on; each is drawn independently. */
  readonly rate: number;
  /** Number of steps: 1 to 10^6. */
  readonly steps: number;
  readonly learningRate: number;
  /** As for {@link gradientSum}. */
  readonly clip: number;
  readonly noiseMultiplier: number;
  /** Default the operating system's generator. Tests alone give another. */
  readonly random?: RandomSource;
}

/** One subject's example. `target` is a class of a logistic model, or the numbers that a linear one is to give. */
export interface Example {
  readonly features: ArrayLike<number>;
  readonly target: number | ArrayLike<number>;
}

/** A trained head: score j is `bias[j] + sum over i of weights[j][i] * features[i]`. */
export interface LinearModel {
  readonly weights: readonly (readonly number[])[];
  readonly bias: readonly number[];
}

/**
 * Returns the mechanism that teaches a linear head by DP-SGD, starting from nought: in each step a Poisson sample, the
 * gradient of each example, {@link gradientSum}, and a step against it. One example for each subject; neighbours have one
 * more or one less.
 *
 * Its event is `steps` times Gaussian noise on a Poisson sample: `epsilonOf` and `calibrate` take it, before anything is
 * charged or read.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` or `INVALID_ARGUMENT` when an option is out of range. `release` throws
 *   `INVALID_ARGUMENT` when its argument was released before; never because of examples: one that does not fit has no
 *   gradient.
 * @see Abadi et al. 2016, Algorithm 1, https://arxiv.org/abs/1607.00133
 * @example
 * ```ts
 * const head = trainLinearModel({
 *   ...{ kind: 'logistic', features: 2, outputs: 2, population: 1000, rate: 0.1, steps: 20 },
 *   ...{ learningRate: 1, clip: 1, noiseMultiplier: 1 },
 * });
 * const examples = Array.from({ length: 1000 }, (_, i) => ({ features: [i % 2, 1], target: i % 2 }));
 * const { weights, bias } = head.release(holdPrivate(examples)).value;
 * weights[1]![0]! > weights[0]![0]!; // true: class 1 is where the first feature is
 * bias.length; // 2
 * ```
 */
export function trainLinearModel(
  options: LinearModelOptions,
): Mechanism<readonly Example[], LinearModel, 'add-remove'> {
  const { kind, clip, noiseMultiplier, learningRate, rate, random = osRandom } = options;
  if (kind !== 'logistic' && kind !== 'linear')
    throw new CloisterError('INVALID_ARGUMENT', `kind is 'logistic' or 'linear', got ${String(kind)}`);
  const features = wholeParameter('features', options.features, 1, 65_536);
  const outputs = wholeParameter('outputs', options.outputs, kind === 'logistic' ? 2 : 1, 65_536);
  const population = wholeParameter('population', options.population, 1, 2 ** 40);
  const steps = wholeParameter('steps', options.steps, 1, 1_000_000);
  if (typeof learningRate !== 'number' || !(learningRate >= 1e-9 && learningRate <= 1e9))
    throw new CloisterError('INVALID_ARGUMENT', `learningRate is 1e-9 to 1e9, got ${String(learningRate)}`);
  const width = features + 1; // the last is the bias
  const mechanism = gradientSum({ dimensions: outputs * width, clip, noiseMultiplier, random });
  const sampling = poissonSampling(rate, { random });
  const event: DpEvent = Object.freeze({
    kind: 'self-composition',
    event: sampling.amplify(mechanism.event),
    count: steps,
  });
  return Object.freeze({
    neighboring: 'add-remove',
    event,
    release(held: Private<readonly Example[], 'add-remove'>): Released<LinearModel> {
      const examples = takePrivate(held);
      const parameters = new Float64Array(outputs * width);
      for (let step = 0; step < steps; step++) {
        const { value } = releaseSample(sampling.draw(examples), mechanism, drawn =>
          holdPrivate(drawn.map(example => gradientOf(example, parameters, { kind, features, outputs }))),
        );
        for (let i = 0; i < parameters.length; i++) parameters[i]! -= (learningRate * value[i]!) / (rate * population);
      }
      const row = (j: number): number[] => Array.from(parameters.subarray(j * width, (j + 1) * width));
      const value = Object.freeze({
        weights: Object.freeze(Array.from({ length: outputs }, (_, j) => Object.freeze(row(j).slice(0, features)))),
        bias: Object.freeze(Array.from({ length: outputs }, (_, j) => row(j)[features]!)),
      });
      return Object.freeze({ kind: 'released', value, event });
    },
  });
}

type Shape = Pick<LinearModelOptions, 'kind' | 'features' | 'outputs'>;

/**
 * The gradient of one example's loss by all parameters; one that {@link gradientSum} leaves out where the example does not
 * fit.
 */
export function gradientOf(example: Example, parameters: Float64Array, shape: Shape): Float64Array {
  const { features, outputs } = shape;
  const nothing = new Float64Array(0);
  const x = example?.features;
  if (!isNumbers(x, features)) return nothing;
  const width = features + 1;
  const scores = new Float64Array(outputs);
  for (let j = 0; j < outputs; j++) {
    let sum = parameters[j * width + features]!;
    for (let i = 0; i < features; i++) sum += parameters[j * width + i]! * x[i]!;
    scores[j] = sum;
  }
  const errors = errorsOf(scores, example.target, shape);
  if (!errors) return nothing;
  const gradient = new Float64Array(outputs * width);
  for (let j = 0; j < outputs; j++) {
    for (let i = 0; i < features; i++) gradient[j * width + i] = errors[j]! * x[i]!;
    gradient[j * width + features] = errors[j]!;
  }
  return gradient;
}

/** The derivative of the loss by each score. */
function errorsOf(scores: Float64Array, target: Example['target'], { kind, outputs }: Shape): Float64Array | undefined {
  if (kind === 'linear') {
    const wanted = typeof target === 'number' ? [target] : target;
    if (!isNumbers(wanted, outputs)) return undefined;
    return scores.map((score, j) => score - wanted[j]!);
  }
  if (typeof target !== 'number' || !Number.isInteger(target) || target < 0 || target >= outputs) return undefined;
  const most = scores.reduce((a, b) => Math.max(a, b));
  const odds = scores.map(score => Math.exp(score - most));
  const total = odds.reduce((a, b) => a + b);
  return odds.map((odd, j) => odd / total - (j === target ? 1 : 0));
}

function isNumbers(values: ArrayLike<number>, length: number): boolean {
  if (values === null || typeof values !== 'object' || values.length !== length) return false;
  for (let i = 0; i < length; i++) if (typeof values[i] !== 'number') return false;
  return true;
}
