/**
 * Noise added to the cells of an answer: what the Laplace and the Gaussian mechanism have in common.
 * @module
 */
import { CloisterError, type MicroEpsilon, osRandom, type RandomSource } from '../../../src/base/index.ts';
import type { DpEvent } from '../event.ts';
import type { Mechanism } from '../mechanism.ts';
import type { Adjacency } from '../parameters.ts';
import { type Noised, type Private, takePrivate } from '../private.ts';
import { randomBits } from './bits.ts';
import type { Sampler } from './discrete-gaussian.ts';
import { type Grid, quantise } from './grid.ts';

/** What a mechanism is told about the answer. A `Statistic` holds all of it. */
export interface AnswerOptions {
  /** Number of cells in the answer: a public fact, 1 to 65,536. */
  readonly cells: number;
  /**
   * The grid that floats are rounded to; the sensitivity is in its steps, and so is the noise. Left out, cells are integers, and
   * what is none counts as 0.
   */
  readonly grid?: Grid | undefined;
  /** Sets negative cells to 0 after the noise. Free of cost, and biased upwards; the default leaves counts unbiased. */
  readonly nonNegative?: boolean;
  /** Default the operating system's generator. Tests alone give another. */
  readonly random?: RandomSource;
}

/** A mechanism that adds independent integer noise to each cell. */
export interface AdditiveMechanism<A extends Adjacency = 'add-remove'>
  extends Mechanism<readonly number[], readonly number[], A> {
  /** Half-width of the 95% error bar of one cell, in the unit of the answer. */
  readonly errorBar: number;
  /**
   * Adds noise to each cell and returns the sum. Takes the answer out of `held`, so nothing can be released twice.
   *
   * Never throws because of what `held` holds: a cell that is missing or no number counts as 0, or as what the grid imputes;
   * cells beyond the last are dropped; a sum beyond 2^53 - 1 steps is cut there.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when `held` was released before.
   */
  release(held: Private<readonly number[], A>): Noised<readonly number[]>;
}

/** What tells one additive mechanism from another. */
export interface AdditiveNoise<A extends Adjacency> {
  readonly neighboring: A;
  readonly event: DpEvent;
  /** Half-width of the 95% error bar of the noise, in steps. */
  readonly bar: bigint;
  readonly draw: Sampler;
  readonly cost?: MicroEpsilon;
}

const LARGEST = Number.MAX_SAFE_INTEGER;

/** @throws {CloisterError} `DP_INVALID_PARAMETER` when the number of cells is out of range. */
export function checkCells(cells: unknown): number {
  if (!Number.isInteger(cells) || (cells as number) < 1 || (cells as number) > 65_536) {
    throw new CloisterError('DP_INVALID_PARAMETER', `an answer has 1 to 65,536 cells, got ${String(cells)}`);
  }
  return cells as number;
}

/** The mechanism that adds what `draw` draws to each cell. The sum is exact; cutting it is post-processing. */
export function additive<A extends Adjacency>(
  { cells, grid, nonNegative = false, random = osRandom }: AnswerOptions,
  { neighboring, event, bar, draw, cost }: AdditiveNoise<A>,
): AdditiveMechanism<A> {
  checkCells(cells);
  const step = grid?.step ?? 1;
  const wholeOf = grid
    ? (cell: unknown) => quantise(grid, cell)
    : (cell: unknown) => (Number.isSafeInteger(cell) ? (cell as number) : 0);
  const least = nonNegative ? 0 : -LARGEST;
  // A value between two points of the grid may lie half a step from the one that was noised.
  const errorBar = (Number(bar) + (grid ? 0.5 : 0)) * step;
  return Object.freeze({
    neighboring,
    event,
    errorBar,
    release(held: Private<readonly number[], A>): Noised<readonly number[]> {
      const answer = takePrivate(held);
      const bits = randomBits(random);
      const value = Array.from({ length: cells }, (_, i) => {
        return Math.min(LARGEST, Math.max(least, plus(wholeOf(answer[i]), draw(bits)))) * step;
      });
      return Object.freeze({
        kind: 'released',
        value: Object.freeze(value),
        event,
        ...(cost !== undefined && { cost }),
        errorBar,
        nonNegative,
      });
    },
  });
}

/** The sum of a safe integer and noise: exact, or beyond the safe integers where the exact one is. */
function plus(cell: number, noise: bigint | number): number {
  // Two numbers of this size are added exactly below 2^53, and not rounded to below it above.
  return typeof noise === 'number' ? cell + noise : Number(BigInt(cell) + noise);
}
