/**
 * Accounting by privacy loss distributions: bounds on epsilon and delta of any composition whose parameters are fixed beforehand.
 * @module
 */
import {
  deltaAt,
  epsilonFor,
  type Repeated,
  type Saddle,
  type Side,
  saddleForDelta,
  saddleForEpsilon,
  type TiltedSum,
  tiltedSum,
} from './compose.ts';
import type { Bounds } from './gdp.ts';
import { type Cells, cut, type Direction, dominated, dominating, extent } from './grid.ts';
import type { LossPair, Tails } from './pair.ts';
import { leastHolding, TAIL_UNITS, UNIT } from './special.ts';

/** A pair and how many times it is composed. */
export interface Part {
  readonly pair: LossPair;
  readonly count: number;
}

/** How fine the grid is: from the error of the upper bound that is aimed at, or as given. */
export interface Fineness {
  /** Relative error of epsilon (of delta for {@link pldDelta}) that discretisation may add. */
  readonly relative?: number;
  /** Width of a cell, instead. */
  readonly step?: number;
  /** Whether a lower bound is wanted too. */
  readonly lower?: boolean;
}

/** Above this epsilon the error that is aimed at no longer grows with it. */
const LARGE = 10;
/** Most cells of one part. */
const MOST_CELLS = 2 ** 21;

/** Returns bounds on the least epsilon at `delta` > 0 of all parts together; `undefined` when no window holds them. */
export function pldEpsilon(parts: readonly Part[], delta: number, fineness: Fineness): Bounds | undefined {
  const single = parts.length === 1 && parts[0]!.count === 1 ? parts[0]!.pair : undefined;
  if (single !== undefined) return singleEpsilon(single, delta);
  return solve(parts, {
    negligible: delta,
    fineness,
    saddle: (losses, step) => saddleForDelta(losses, step, delta),
    // Splitting a loss among the ends of its cell multiplies a step's moments by at most 1 + tilt (tilt + 1) step^2 / 8: epsilon grows
    // by count (tilt + 1) step^2 / 12 where losses are spread evenly within a cell.
    step: ({ tilt, epsilon }, count, relative) => {
      const allowed = Math.min(relative * Math.max(epsilon, 1e-6), relative * LARGE);
      return Math.sqrt((12 * allowed) / (count * (tilt + 1)));
    },
    bound: (sum, side, snapped) =>
      side === 'upper' ? epsilonFor(sum, delta, side) + snapped : Math.max(0, epsilonFor(sum, delta, side) - snapped),
    none: Number.POSITIVE_INFINITY,
  });
}

/** Returns bounds on delta at `epsilon` >= 0 of all parts together; `undefined` when no window holds them. */
export function pldDelta(parts: readonly Part[], epsilon: number, fineness: Fineness): Bounds | undefined {
  const single = parts.length === 1 && parts[0]!.count === 1 ? parts[0]!.pair : undefined;
  if (single !== undefined) return singleDelta(single, epsilon);
  return solve(parts, {
    negligible: undefined,
    fineness,
    saddle: (losses, step) => saddleForEpsilon(losses, step, epsilon),
    step: ({ tilt }, count, relative) => Math.sqrt((12 * relative) / (count * tilt * (tilt + 1))),
    bound: (sum, side, snapped) => deltaAt(sum, side === 'upper' ? epsilon - snapped : epsilon + snapped, side),
    none: 1,
  });
}

interface Question {
  /** Delta that is asked about, if known. */
  readonly negligible: number | undefined;
  readonly fineness: Fineness;
  saddle(losses: readonly Repeated[], step: number): Saddle;
  step(saddle: Saddle, count: number, relative: number): number;
  /** `snapped` is how far the sum of all losses may have been moved. */
  bound(sum: TiltedSum, side: Side, snapped: number): number;
  readonly none: number;
}

function solve(parts: readonly Part[], question: Question): Bounds | undefined {
  const { fineness } = question;
  const count = parts.reduce((sum, part) => sum + part.count, 0);
  const directions: readonly Direction[] = parts.every(({ pair }) => pair.symmetric) ? ['forth'] : ['forth', 'back'];
  // What may be left to an infinite loss; without a delta, what is left to one when 1e-120 would be.
  const negligible = Math.max(1e-290, (1e-7 * (question.negligible ?? 1e-120)) / count);
  const ranges = parts.map(({ pair }) => extent(pair, negligible));
  const span = Math.max(...ranges.map(({ low, high }) => high - low), 1e-12);
  const cells = (step: number): readonly Cells[] =>
    parts.map(({ pair }, i) => cut(pair, step, ranges[i]!.low, ranges[i]!.high));
  const gridded = (at: readonly Cells[], direction: Direction, side: Side): readonly Repeated[] =>
    at.map((own, i) => ({
      loss: side === 'upper' ? dominating(own, direction) : dominated(own, direction),
      count: parts[i]!.count,
    }));

  let step = fineness.step;
  if (step === undefined) {
    // Three rounds, as the tilt at a coarse grid is only near that at a fine one.
    step = span / 512;
    const relative = fineness.relative ?? 2e-4;
    for (let round = 0; round < 3; round++) {
      const rough = cells(step);
      // The direction that costs more is the one whose digits are seen.
      const [worst] = directions
        .map(direction => question.saddle(gridded(rough, direction, 'upper'), step!))
        .sort((one, other) => other.epsilon - one.epsilon || one.tilt - other.tilt);
      const finest = question.step(worst!, count, relative);
      const next = Math.max(finest, span / MOST_CELLS);
      if (next > 0.8 * step) break;
      step = round < 2 ? Math.max(next, step / 64) : next;
    }
    step = aligned(parts, step);
  }
  for (let tries = 0; tries < 6; tries++, step *= 2) {
    const found = atStep(step);
    if (found !== undefined || fineness.step !== undefined) return found;
  }
  return undefined;

  function atStep(width: number): Bounds | undefined {
    const at = cells(width);
    const snapped = at.reduce((sum, own, i) => sum + own.snapped * parts[i]!.count, 0);
    // Balancing costs a lower bound more than splitting costs an upper one, so its cells are smaller where that is cheap.
    const size = at.reduce((sum, own) => sum + own.rise.length, 0);
    const finer = size > 2 ** 12 ? 2 : 4;
    const fine =
      fineness.lower === false || fineness.step !== undefined || size > 2 ** 16 ? undefined : cells(width / finer);
    let [upper, lower] = [0, 0];
    for (const direction of directions) {
      const losses = gridded(at, direction, 'upper');
      const { tilt } = question.saddle(losses, width);
      const sum = tiltedSum(losses, width, tilt);
      if (sum === undefined) return undefined;
      upper = Math.max(upper, question.bound(sum, 'upper', snapped));
      if (fineness.lower === false) continue;
      const below = tiltedSum(
        gridded(fine ?? at, direction, 'lower'),
        fine === undefined ? width : width / finer,
        tilt,
      );
      if (below !== undefined) lower = Math.max(lower, question.bound(below, 'lower', snapped));
    }
    if (Number.isNaN(upper) || Number.isNaN(lower)) return undefined;
    return { upper: Math.min(upper, question.none), lower: Math.min(lower, upper) };
  }
}

/** A slightly smaller step of which the largest of equally spaced losses is a multiple, so that a lattice stays one. */
function aligned(parts: readonly Part[], step: number): number {
  const first = parts[0]!.pair;
  if (parts.length !== 1) return step;
  const top = first.kind === 'discrete' ? Math.max(...first.losses.subarray(0, 4)) : first.highest;
  if (!(top > 0 && top < 1e6)) return step;
  const within = first.kind === 'discrete' && first.losses.length <= 3 ? 1 : Math.ceil(top / step);
  return top / within;
}

/** delta of one pair on its own, in both directions: P(loss > epsilon) - e^epsilon Q(loss > epsilon). */
function singleDelta(pair: LossPair, epsilon: number): Bounds {
  let [value, slack] = [0, 0];
  if (pair.kind === 'continuous') {
    const out: Tails = { aboveP: 0, aboveQ: 0, belowP: 0, belowQ: 0 };
    pair.tails(epsilon, out);
    value = out.aboveP - Math.exp(epsilon) * out.aboveQ;
    slack = out.aboveP * (2 * TAIL_UNITS + 8 * epsilon) * UNIT;
    if (!pair.symmetric) {
      pair.tails(-epsilon, out);
      value = Math.max(value, out.belowQ - Math.exp(epsilon) * out.belowP);
      slack = Math.max(slack, out.belowQ * (2 * TAIL_UNITS + 8 * epsilon) * UNIT);
    }
  } else {
    let [forth, back] = [pair.infiniteP, pair.infiniteQ];
    for (let i = 0; i < pair.losses.length; i++) {
      const [loss, mass] = [pair.losses[i]!, pair.masses[i]!];
      if (loss > epsilon) forth += mass * -Math.expm1(epsilon - loss);
      else if (-loss > epsilon) back += mass * Math.exp(-loss) * -Math.expm1(epsilon + loss);
    }
    value = Math.max(forth, back);
    slack = value * 64 * (1 + epsilon) * UNIT + pair.losses.length * UNIT * value;
  }
  return { upper: Math.min(1, Math.max(0, value) + slack), lower: Math.max(0, value - slack) };
}

function singleEpsilon(pair: LossPair, delta: number): Bounds {
  const least = (side: Side): number => {
    const holds = (epsilon: number): boolean => singleDelta(pair, epsilon)[side] <= delta;
    if (holds(0)) return 0;
    let high = 1;
    while (!holds(high)) {
      high *= 2;
      if (high > 1e9) return Number.POSITIVE_INFINITY;
    }
    return leastHolding(holds, 0, high, 4 * UNIT);
  };
  return { upper: least('upper'), lower: least('lower') * (1 - 8 * UNIT) };
}
