/**
 * Sums of clipped gradients with Gaussian noise: the step of DP-SGD and of DP-FTRL.
 * @module
 */
import { CloisterError, osRandom, type RandomSource } from '../../../src/base/index.ts';
import type { GaussianEvent, TreeGaussianEvent } from '../event.ts';
import type { Mechanism } from '../mechanism.ts';
import { type Bits, randomBits } from '../noise/bits.ts';
import { sampleRoundedGaussian } from '../noise/rounded-gaussian.ts';
import { type Private, type Released, takePrivate } from '../private.ts';
import { wholeParameter } from './votes.ts';

/** What {@link gradientSum} is told. */
export interface GradientOptions {
  /** Length of a gradient, 1 to 2^20. */
  readonly dimensions: number;
  /** The longest a gradient may be, in the L2 norm: a longer one is scaled down to it. 2^-60 to 2^60. */
  readonly clip: number;
  /** Standard deviation of the noise on each coordinate over `clip`: 1/32 to 2^15 (less in many dimensions). */
  readonly noiseMultiplier: number;
  /** Default the operating system's generator. Tests alone give another. */
  readonly random?: RandomSource;
}

/** The deviation of the noise is 2^20 steps of the grid that gradients are rounded to. */
const SHIFT = 20;

/**
 * Returns the mechanism that scales each gradient down to the norm `clip`, rounds it to a grid, sums all, and adds Gaussian
 * noise of deviation `noiseMultiplier * clip` that is rounded to the grid exactly (`gradients.proof.md`). One gradient for
 * each subject; neighbours have one more or one less. The sum is in the unit of the gradients.
 *
 * With Poisson sampling it is the step of DP-SGD: `poissonSampling(rate).amplify(mechanism.event)`, once for each step, is
 * what it costs. {@link trainLinearModel} does all of it.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when an option is out of range. `release` throws `INVALID_ARGUMENT` when its
 *   argument was released before; never because of gradients: one that is of another length or not finite adds nothing.
 * @see Abadi et al. 2016, https://arxiv.org/abs/1607.00133
 * @example
 * ```ts
 * const step = gradientSum({ dimensions: 2, clip: 1, noiseMultiplier: 1.1 });
 * step.event; // { kind: 'gaussian', noiseMultiplier: 1.1, neighboring: 'add-remove' }
 * step.release(holdPrivate([[3, 4], [0, 0.5]])).value.length; // 2
 * ```
 */
export function gradientSum(
  options: GradientOptions,
): Mechanism<readonly ArrayLike<number>[], readonly number[], 'add-remove'> {
  const { random = osRandom } = options;
  const grid = gradientGrid(options);
  const event: GaussianEvent = Object.freeze({
    kind: 'gaussian',
    noiseMultiplier: options.noiseMultiplier,
    neighboring: 'add-remove',
  });
  return Object.freeze({
    neighboring: 'add-remove',
    event,
    release(held: Private<readonly ArrayLike<number>[], 'add-remove'>): Released<readonly number[]> {
      const sum = sumClipped(takePrivate(held), grid);
      addNoise(sum, randomBits(random));
      return Object.freeze({ kind: 'released', value: inUnits(sum, grid), event });
    },
  });
}

/** What {@link prefixSums} is told. `noiseMultiplier` is that of one node of the tree. */
export interface PrefixSumsOptions extends GradientOptions {
  /** How many sums will be released at most: 1 to 2^30. */
  readonly steps: number;
}

/** Sums over all steps so far, released after each. */
export interface PrefixSums {
  readonly neighboring: 'add-remove';
  /** All that it may ever cost, if each subject takes part in one step: to be charged before the first. */
  readonly event: TreeGaussianEvent;
  /** How many more steps there may be. */
  readonly remaining: number;
  /**
   * Adds the gradients of one step and releases the noised sum of all steps so far. Never throws because of gradients.
   *
   * @throws {CloisterError} `POLICY_REFUSED` when no step remains, before anything is read; `INVALID_ARGUMENT` when `held` was
   *   released before.
   */
  add(held: Private<readonly ArrayLike<number>[], 'add-remove'>): Released<readonly number[]>;
}

/**
 * Returns running sums of clipped gradients by the binary tree of DP-FTRL: each node of the tree gets its noise once, and a
 * sum has the noise of at most `log2(steps) + 1` nodes, so many sums cost little more than one and no sampling is needed
 * (`gradients.proof.md`).
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when an option is out of range.
 * @see Kairouz et al. 2021, https://arxiv.org/abs/2103.00039; Chan, Shi & Song 2011; Dwork et al. 2010
 * @example
 * ```ts
 * const sums = prefixSums({ dimensions: 1, clip: 1, noiseMultiplier: 8, steps: 1000 });
 * sums.event; // { kind: 'tree-gaussian', noiseMultiplier: 8, steps: 1000, neighboring: 'add-remove' }
 * sums.add(holdPrivate([[0.5], [-2]])).value.length; // 1
 * sums.remaining; // 999
 * ```
 */
export function prefixSums(options: PrefixSumsOptions): PrefixSums {
  const grid = gradientGrid(options);
  const steps = wholeParameter('steps', options.steps, 1, 2 ** 30);
  const { noiseMultiplier, random = osRandom } = options;
  const bits = randomBits(random);
  const event: TreeGaussianEvent = Object.freeze({
    kind: 'tree-gaussian',
    noiseMultiplier,
    steps,
    neighboring: 'add-remove',
  });
  /** For each level the node that is complete and not yet part of a larger one: its sum, and its sum with noise. */
  const exact: (Float64Array | undefined)[] = [];
  const noised: (Float64Array | undefined)[] = [];
  let done = 0;
  return Object.freeze({
    neighboring: 'add-remove',
    event,
    get remaining() {
      return steps - done;
    },
    add(held: Private<readonly ArrayLike<number>[], 'add-remove'>): Released<readonly number[]> {
      if (done === steps)
        throw new CloisterError('POLICY_REFUSED', `all ${steps} sums were released; nothing was read`);
      const node = sumClipped(takePrivate(held), grid);
      done++;
      let level = 0;
      for (; exact[level]; level++) {
        addTo(node, exact[level]!);
        exact[level] = undefined;
        noised[level] = undefined;
      }
      exact[level] = node;
      noised[level] = node.slice();
      addNoise(noised[level]!, bits);
      const sum = new Float64Array(grid.dimensions);
      for (const part of noised) if (part) addTo(sum, part);
      return Object.freeze({ kind: 'released', value: inUnits(sum, grid), event });
    },
  });
}

/** The grid that gradients are rounded to, from public parameters. */
export interface GradientGrid {
  readonly dimensions: number;
  readonly clip: number;
  /** One step of the grid, in the unit of gradients. */
  readonly step: number;
  /**
   * The squared length that no rounded gradient may pass, in squared steps: the deviation is `noiseMultiplier` times its root.
   */
  readonly mostSquared: number;
}

/** @throws {CloisterError} `DP_INVALID_PARAMETER` when an option is out of range. */
export function gradientGrid({ dimensions, clip, noiseMultiplier }: GradientOptions): GradientGrid {
  wholeParameter('dimensions', dimensions, 1, 2 ** 20);
  if (typeof clip !== 'number' || !(clip >= 2 ** -60 && clip <= 2 ** 60)) {
    const came = typeof clip === 'number' ? String(clip) : typeof clip;
    throw new CloisterError('DP_INVALID_PARAMETER', `clip is a number from 2^-60 to 2^60, got ${came}`);
  }
  // Rounded down, so that the noise is at least `noiseMultiplier` times the length.
  const most = typeof noiseMultiplier === 'number' ? (2 ** SHIFT / noiseMultiplier) * (1 - 2 ** -50) : Number.NaN;
  // Rounding to the nearest step moves a vector by at most half the root of its dimensions.
  const length = (most - Math.sqrt(dimensions) / 2) * (1 - 2 ** -20);
  if (!(noiseMultiplier >= 2 ** -5) || !(length >= 16)) {
    const came = typeof noiseMultiplier === 'number' ? String(noiseMultiplier) : typeof noiseMultiplier;
    const message = `noiseMultiplier is a number from 1/32 to 2^15, and less in many dimensions, got ${came}`;
    throw new CloisterError('DP_INVALID_PARAMETER', message);
  }
  return { dimensions, clip, step: clip / length, mostSquared: Math.floor(most * most * (1 - 2 ** -50)) };
}

/** The sum in steps: integers, exact below 2^53. */
function sumClipped(gradients: readonly ArrayLike<number>[], grid: GradientGrid): Float64Array {
  const sum = new Float64Array(grid.dimensions);
  for (const gradient of gradients) {
    const rounded = clipToGrid(gradient, grid);
    if (rounded) addTo(sum, rounded);
  }
  return sum;
}

/** The gradient in whole steps, scaled to the clipping norm where it is longer; `undefined` where it is none. */
export function clipToGrid(gradient: ArrayLike<number>, grid: GradientGrid): Float64Array | undefined {
  const { dimensions, clip, step, mostSquared } = grid;
  if (gradient === null || typeof gradient !== 'object' || gradient.length !== dimensions) return undefined;
  let largest = 0;
  for (let i = 0; i < dimensions; i++) {
    const value: unknown = gradient[i];
    if (typeof value !== 'number' || !Number.isFinite(value)) return undefined;
    const size = Math.abs(value);
    if (size > largest) largest = size;
  }
  const rounded = new Float64Array(dimensions);
  if (largest === 0) return rounded;
  let squares = 0; // over the largest, so that nothing overflows
  for (let i = 0; i < dimensions; i++) squares += (gradient[i]! / largest) ** 2;
  const shrink = Math.min(1, clip / largest / Math.sqrt(squares));
  let length = 0;
  for (let i = 0; i < dimensions; i++) {
    rounded[i] = Math.round((gradient[i]! * shrink) / step) + 0;
    length += rounded[i]! * rounded[i]!;
  }
  // Exact: integers below 2^53. Whatever floats did before, nothing longer than this is summed.
  return length <= mostSquared ? rounded : undefined;
}

function inUnits(sum: Float64Array, { step }: GradientGrid): readonly number[] {
  return Object.freeze(Array.from(sum, value => value * step));
}

function addNoise(sum: Float64Array, bits: Bits): void {
  for (let i = 0; i < sum.length; i++) sum[i]! += sampleRoundedGaussian(SHIFT, bits);
}

function addTo(sum: Float64Array, part: Float64Array): void {
  for (let i = 0; i < sum.length; i++) sum[i]! += part[i]!;
}
