/**
 * Privacy losses on a grid: a coarser pair that dominates a given one, and one that it dominates (`pld.proof.md`, §1 and §2).
 * @module
 */
import type { ContinuousPair, DiscretePair, LossPair, Tails } from './pair.ts';
import { TAIL_UNITS, UNIT } from './special.ts';

/** Masses of losses `(first + i) * step`, and of an infinite loss. */
export interface GridLoss {
  readonly first: number;
  readonly masses: Float64Array;
  readonly infinite: number;
}

/** Which of two directions: P against Q or Q against P. */
export type Direction = 'forth' | 'back';

/**
 * A pair cut into cells `(i * step, (i + 1) * step]` of loss, `i = first + index`: the mass of each is split among its two ends such that
 * its probability under Q stays what it is too (connect the dots: Doroshenko et al. 2022).
 */
export interface Cells {
  readonly step: number;
  readonly first: number;
  /** Mass under P that goes to the upper end, and to the lower. */
  readonly rise: Float64Array;
  readonly fall: Float64Array;
  /** Most that rounding shifted from one end to the other. */
  readonly shifted: Float64Array;
  /** Most that rounding lost of a cell, under P and under Q. */
  readonly lostP: Float64Array;
  readonly lostQ: Float64Array;
  /** Beyond the last cell, before the first. */
  readonly aboveP: number;
  readonly aboveQ: number;
  readonly belowP: number;
  readonly belowQ: number;
  /** What of these is an infinite loss in truth, not only a large one. */
  readonly infiniteP: number;
  readonly infiniteQ: number;
  readonly symmetric: boolean;
  /** Most that a loss was moved onto a grid point that it lay on but for rounding. */
  readonly snapped: number;
}

/** Losses this near to a grid point, in steps, lie on it. */
const SNAP = 2 ** -36;

/** Returns losses between which all but `negligible` of the mass lies: above under P, below under Q. */
export function extent(pair: LossPair, negligible: number): { readonly low: number; readonly high: number } {
  if (pair.kind === 'discrete') {
    let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    for (let i = 0; i < pair.losses.length; i++) {
      const loss = pair.losses[i]!;
      if (pair.masses[i]! > negligible / pair.losses.length) high = Math.max(high, loss);
      if (pair.masses[i]! * Math.exp(-loss) > negligible / pair.losses.length) low = Math.min(low, loss);
    }
    return low <= high ? { low, high } : { low: 0, high: 0 };
  }
  const out: Tails = { aboveP: 0, aboveQ: 0, belowP: 0, belowQ: 0 };
  const reach = (limit: number, sign: 1 | -1, tail: (at: Tails) => number): number => {
    const small = (size: number): boolean => {
      pair.tails(sign * size, out);
      return tail(out) <= negligible;
    };
    let [bad, good] = [0, 1e-3];
    while (good < Math.abs(limit) && good < 1e9 && !small(good)) [bad, good] = [good, 2 * good];
    for (let i = 0; i < 12; i++) {
      const middle = (bad + good) / 2;
      if (small(middle)) good = middle;
      else bad = middle;
    }
    return Math.min(good, Math.max(0, Math.abs(limit)));
  };
  return {
    low: pair.lowest >= 0 ? pair.lowest : -reach(pair.lowest, -1, at => at.belowQ),
    high: pair.highest <= 0 ? pair.highest : reach(pair.highest, 1, at => at.aboveP),
  };
}

/** Cuts `pair` into cells of width `step` that cover `low` to `high`. */
export function cut(pair: LossPair, step: number, low: number, high: number): Cells {
  const first = Math.floor(low / step) - 1;
  const count = Math.max(1, Math.ceil(high / step) + 1 - first);
  const cells = {
    step,
    first,
    rise: new Float64Array(count),
    fall: new Float64Array(count),
    shifted: new Float64Array(count),
    lostP: new Float64Array(count),
    lostQ: new Float64Array(count),
    infiniteP: pair.kind === 'discrete' ? pair.infiniteP : 0,
    infiniteQ: pair.kind === 'discrete' ? pair.infiniteQ : 0,
    symmetric: pair.symmetric,
    snapped: SNAP * step,
  };
  return { ...cells, ...(pair.kind === 'continuous' ? cutContinuous(pair, cells) : cutDiscrete(pair, cells)) };
}

type Beyond = Pick<Cells, 'aboveP' | 'aboveQ' | 'belowP' | 'belowQ'>;

function cutContinuous(
  pair: ContinuousPair,
  cells: Pick<Cells, 'step' | 'first' | 'rise' | 'fall' | 'shifted' | 'lostP' | 'lostQ'>,
): Beyond {
  const { step, first, rise, fall, shifted, lostP, lostQ } = cells;
  const width = -Math.expm1(-step);
  let low: Tails = { aboveP: 0, aboveQ: 0, belowP: 0, belowQ: 0 };
  let high: Tails = { aboveP: 0, aboveQ: 0, belowP: 0, belowQ: 0 };
  pair.tails(first * step, low);
  const { belowP, belowQ } = low;
  for (let i = 0; i < rise.length; i++) {
    pair.tails((first + i + 1) * step, high);
    // Differences of the smaller tails, whose error is relative to them.
    const byBelowP = high.belowP < low.aboveP;
    const byBelowQ = high.belowQ < low.aboveQ;
    const p = Math.max(0, byBelowP ? high.belowP - low.belowP : low.aboveP - high.aboveP);
    const q = Math.max(0, byBelowQ ? high.belowQ - low.belowQ : low.aboveQ - high.aboveQ);
    const offP = TAIL_UNITS * UNIT * (byBelowP ? high.belowP : low.aboveP);
    const offQ = TAIL_UNITS * UNIT * (byBelowQ ? high.belowQ : low.aboveQ);
    const odds = Math.exp((first + i) * step);
    const up = Math.min(p, Math.max(0, (p - q * odds) / width));
    rise[i] = up;
    fall[i] = p - up;
    // The ends themselves are a few units off as well.
    shifted[i] = (offP + offQ * odds + 8 * UNIT * p * (1 + Math.abs((first + i) * step))) / width;
    lostP[i] = offP;
    lostQ[i] = offQ;
    [low, high] = [high, low];
  }
  return { aboveP: low.aboveP, aboveQ: low.aboveQ, belowP, belowQ };
}

function cutDiscrete(
  pair: DiscretePair,
  cells: Pick<Cells, 'step' | 'first' | 'rise' | 'fall' | 'shifted' | 'lostP' | 'lostQ'>,
): Beyond {
  const { step, first, rise, fall, shifted, lostP, lostQ } = cells;
  const width = -Math.expm1(-step);
  const beyond = { aboveP: pair.infiniteP, aboveQ: 0, belowP: 0, belowQ: pair.infiniteQ };
  for (let i = 0; i < pair.losses.length; i++) {
    const mass = pair.masses[i]!;
    const near = Math.round(pair.losses[i]! / step);
    const loss = Math.abs(pair.losses[i]! / step - near) < SNAP ? near * step : pair.losses[i]!;
    const cell = loss === near * step ? near : Math.floor(loss / step);
    const at = cell - first;
    if (at < 0) {
      beyond.belowP += mass;
      beyond.belowQ += mass * Math.exp(-loss);
    } else if (at >= rise.length) {
      beyond.aboveP += mass;
      beyond.aboveQ += mass * Math.exp(-loss);
    } else {
      const up = mass * Math.min(1, Math.max(0, -Math.expm1(cell * step - loss) / width));
      rise[at]! += up;
      fall[at]! += mass - up;
      shifted[at]! += (8 * UNIT * mass * (1 + Math.abs(loss))) / width;
      lostP[at]! += 16 * UNIT * mass;
      lostQ[at]! += 32 * UNIT * mass * Math.exp(-loss);
    }
  }
  return beyond;
}

/** The same cells with P and Q in each other's place. */
function swapped(cells: Cells): Cells {
  const count = cells.rise.length;
  const { step, first } = cells;
  const out = {
    rise: new Float64Array(count),
    fall: new Float64Array(count),
    shifted: new Float64Array(count),
    lostP: new Float64Array(count),
    lostQ: new Float64Array(count),
  };
  for (let i = 0; i < count; i++) {
    const j = count - 1 - i;
    const atLow = Math.exp(-(first + i) * step);
    out.rise[j] = cells.fall[i]! * atLow;
    out.fall[j] = cells.rise[i]! * Math.exp(-(first + i + 1) * step);
    out.shifted[j] = cells.shifted[i]! * atLow;
    out.lostP[j] = cells.lostQ[i]!;
    out.lostQ[j] = cells.lostP[i]!;
  }
  return {
    step,
    first: -(first + count),
    ...out,
    aboveP: cells.belowQ,
    aboveQ: cells.belowP,
    belowP: cells.aboveQ,
    belowQ: cells.aboveP,
    infiniteP: cells.infiniteQ,
    infiniteQ: cells.infiniteP,
    symmetric: cells.symmetric,
    snapped: cells.snapped,
  };
}

/** Returns losses on the grid that dominate those of `cells`: every rounding makes them larger. */
export function dominating(cells: Cells, direction: Direction): GridLoss {
  const { first, rise, fall, shifted, lostP, aboveP, belowP } = direction === 'forth' ? cells : swapped(cells);
  const masses = new Float64Array(rise.length + 1);
  for (let i = 0; i < rise.length; i++) {
    const whole = rise[i]! + fall[i]! + lostP[i]!;
    const up = Math.min(whole, rise[i]! + shifted[i]! + lostP[i]!);
    masses[i]! += whole - up;
    masses[i + 1]! += up;
  }
  masses[0]! += belowP;
  return trimmed({ first, masses, infinite: aboveP * (1 + TAIL_UNITS * UNIT) });
}

/**
 * Returns losses on the grid that those of `cells` dominate. Each end of a cell becomes one outcome, to which the cell below it and the
 * cell above it contribute shares that balance at exactly its loss; what cannot be balanced goes down a step. Balancing starts where the
 * density is low and goes to where it is high, as errors shrink in that direction and grow in the other.
 */
export function dominated(cells: Cells, direction: Direction): GridLoss {
  const { first, rise, fall, shifted, lostP, step, aboveP, infiniteP } = direction === 'forth' ? cells : swapped(cells);
  const count = rise.length;
  const up = new Float64Array(count);
  const down = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const whole = Math.max(0, rise[i]! + fall[i]! - lostP[i]!);
    up[i] = Math.min(whole, Math.max(0, rise[i]! - shifted[i]! - lostP[i]!));
    down[i] = (whole - up[i]!) * Math.exp(step);
  }
  // Shares of cell i: `lower[i]` to its lower end, `upper[i]` to its upper, the rest a step down.
  const lower = new Float64Array(count).fill(Number.NaN);
  const upper = new Float64Array(count).fill(Number.NaN);
  // End e lies between cells e - 1 and e; balance: upper[e - 1] * down[e - 1] = lower[e] * up[e].
  const rising = (end: number): boolean => down[end - 1]! <= up[end]!;
  let end = 1;
  while (end < count) {
    const from = end;
    if (rising(end)) {
      for (; end < count && rising(end); end++) {
        const given = Number.isNaN(lower[end - 1]!) ? 0.5 : 1 - lower[end - 1]!;
        const taken = up[end]! > 0 ? (given * down[end - 1]!) / up[end]! : 0;
        upper[end - 1] = down[end - 1]! > 0 && !(taken <= 1) ? up[end]! / down[end - 1]! : given;
        lower[end] = Math.min(1, taken);
      }
    } else {
      while (end < count && !rising(end)) end++;
      for (let e = end - 1; e >= from; e--) {
        const free = Number.isNaN(upper[e]!) ? (e === end - 1 ? 0.5 : 1) : 1 - upper[e]!;
        let given = free;
        let taken = down[e - 1]! > 0 ? (given * up[e]!) / down[e - 1]! : 0;
        const most = Number.isNaN(lower[e - 1]!) ? 1 : 1 - lower[e - 1]!;
        if (taken > most) {
          taken = most;
          given = up[e]! > 0 ? (taken * down[e - 1]!) / up[e]! : 0;
        }
        lower[e] = given;
        upper[e - 1] = taken;
      }
    }
  }
  const masses = new Float64Array(count + 1);
  let above = 0; // the share of cell i + 1 that goes up
  for (let i = count - 1; i >= 0; i--) {
    const whole = up[i]! + down[i]! * Math.exp(-step);
    // Whatever the shares above came to, no more goes up than what comes down to meet it.
    const met = i + 1 < count ? (1 - above) * up[i + 1]! : 0;
    const most = down[i]! > 0 ? met / down[i]! : 1;
    // A cell whose mass sits at its upper end goes there whole.
    const wanted = down[i]! <= 1e-9 * up[i]! ? 1 : Number.isNaN(upper[i]!) ? 0 : upper[i]!;
    const goingUp = Math.max(0, Math.min(wanted, most, 1));
    masses[i + 1]! += goingUp * whole;
    masses[i]! += (1 - goingUp) * whole;
    above = goingUp;
  }
  masses[count]! += Math.max(0, aboveP - infiniteP);
  // Rounding: shares are a few units off, which a factor on everything covers.
  for (let i = 0; i <= count; i++) masses[i]! *= 1 - 16 * UNIT;
  return trimmed({ first, masses, infinite: infiniteP * (1 - 4 * UNIT) });
}

/** Without empty ends: a tilt would magnify them past all others. */
function trimmed({ first, masses, infinite }: GridLoss): GridLoss {
  let [from, to] = [0, masses.length];
  while (to > 1 && masses[to - 1] === 0) to--;
  while (from < to - 1 && masses[from] === 0) from++;
  return { first: first + from, masses: masses.subarray(from, to), infinite };
}
