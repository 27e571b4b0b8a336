/**
 * Where the elements of a value lie in the slots of a ciphertext, and how a matrix moves them there. Pure.
 *
 * A matrix is applied as a sum of diagonals, each a plaintext times a rotation of the input, followed by folds: rotations that add
 * the parts of each row up. Which diagonals there are depends on where inputs and outputs lie, so several places for the outputs are
 * tried, and the cheapest stays (Halevi & Shoup 2014, https://eprint.iacr.org/2014/106, section 4; the hybrid of Juvekar et al. 2018,
 * https://arxiv.org/abs/1801.05507, section 4.2 is the candidate `stride 1, no narrow fold`).
 * @module
 */
import type { Sparse } from './sparse.ts';

/** Element e lies in the slots `place[e] + k * period`. What lies in the other slots nobody knows, unless the layout is clean. */
export interface Layout {
  /** A power of two that divides the number of slots. */
  readonly period: number;
  readonly place: Int32Array;
  /** Slots without an element hold 0. */
  readonly clean: boolean;
}

/** Where the outputs of a matrix go, and which folds bring them there. */
export interface Placement {
  readonly place: Int32Array;
  /** Slots after which the plaintexts repeat. */
  readonly ring: number;
  /** The sum over `narrow` slots side by side; a power of two, 1 for none. */
  readonly narrow: number;
  /** The sum over all slots that are `wide` apart in the ring; `ring` for none. */
  readonly wide: number;
}

/** One diagonal: `value[s]` times slot `s + offset` of the input. */
export interface Diagonal {
  readonly offset: number;
  readonly value: Float64Array;
}

/** Where the diagonals of a matrix are for a placement; undefined when rows would run into one another. */
export function offsetsOf(map: Sparse, input: Layout, to: Placement): Set<number> {
  const offsets = new Set<number>();
  for (let r = 0; r < map.rows; r++) {
    for (let k = map.start[r]!; k < map.start[r + 1]!; k++) offsets.add(locate(input, to, r, map.column[k]!).offset);
  }
  return offsets;
}

/** The diagonals of a matrix for a placement, by ascending offset. */
export function diagonalsOf(map: Sparse, input: Layout, to: Placement): readonly Diagonal[] {
  const found = new Map<number, Float64Array>();
  for (let r = 0; r < map.rows; r++) {
    for (let k = map.start[r]!; k < map.start[r + 1]!; k++) {
      const { offset, slot } = locate(input, to, r, map.column[k]!);
      let value = found.get(offset);
      if (value === undefined) {
        value = new Float64Array(to.ring);
        found.set(offset, value);
      }
      value[slot] = value[slot]! + map.value[k]!;
    }
  }
  return [...found].map(([offset, value]) => ({ offset, value })).sort((a, b) => a.offset - b.offset);
}

/**
 * Of the ways in which row r can take in column c, the one that all rows share: the folds take as much of the distance as they can,
 * so that few offsets are left.
 */
function locate(input: Layout, to: Placement, r: number, c: number): { offset: number; slot: number } {
  const from = to.place[r]!;
  const distance = mod(input.place[c]! - from, input.period);
  const side = distance % to.narrow;
  const rest = distance - side;
  const apart = to.wide < to.ring ? rest - (rest % to.wide) : 0;
  return { offset: rest - apart, slot: mod(from + side + apart, to.ring) };
}

/** The layout after the folds. */
export function layoutAfter(to: Placement): Layout {
  const period = Math.min(to.wide, to.ring);
  return { period, place: to.place.map(slot => slot % period), clean: to.narrow === 1 };
}

/** How a set of offsets is reached: `baby` rotations of the input, then one rotation for each giant step. */
export interface Steps {
  readonly giant: number;
  readonly babies: number;
  readonly giants: number;
}

/** The split of offsets into baby and giant steps with the fewest rotations. */
export function splitSteps(offsets: Iterable<number>, slots: number): Steps {
  const all = [...offsets];
  let best: Steps | undefined;
  for (let giant = 1; giant <= slots; giant *= 2) {
    const babies = new Set(all.map(offset => offset % giant));
    const giants = new Set(all.map(offset => Math.floor(offset / giant)));
    const steps = { giant, babies: babies.size - Number(babies.has(0)), giants: giants.size - Number(giants.has(0)) };
    if (best === undefined || steps.babies + steps.giants < best.babies + best.giants) best = steps;
  }
  return best!;
}

/** Powers of two, up. */
export function powerOfTwo(least: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(1, least)));
}

/** The elements of a value one after the other. */
export function naturalLayout(size: number): Layout {
  return { period: powerOfTwo(size), place: Int32Array.from({ length: size }, (_, i) => i), clean: true };
}

/** The placements that are tried for `rows` outputs of inputs with these periods. */
export function placements(
  rows: number,
  inputs: readonly Layout[],
  slots: number,
  grid: Grid | undefined,
): readonly Placement[] {
  const period = Math.max(...inputs.map(input => input.period));
  const padded = powerOfTwo(rows);
  const found: Placement[] = [];
  for (let stride = 1; padded * stride <= slots; stride *= 2) {
    const place = Int32Array.from({ length: rows }, (_, r) => r * stride);
    const ring = Math.max(period, padded * stride);
    for (const narrow of stride === 1 ? [1] : [1, stride]) {
      found.push({ place, ring, narrow, wide: padded * stride });
      if (padded * stride < ring) found.push({ place, ring, narrow, wide: ring });
    }
  }
  if (grid !== undefined && inputs.length === 1) found.push(...gridPlacements(grid, inputs[0]!, period, slots));
  return found;
}

/** Planes of an input (channels, height, width) and of an output; a vector is a plane of one column. */
export interface Grid {
  readonly input: readonly [number, number, number];
  readonly output: readonly [number, number, number];
}

/** Outputs of a window over planes at the places of the window's corner, planes one behind the other. */
function gridPlacements(grid: Grid, input: Layout, period: number, slots: number): readonly Placement[] {
  const [, height, width] = grid.input;
  const [planes, rows, columns] = grid.output;
  const found: Placement[] = [];
  for (let step = 1; step <= Math.max(1, Math.floor(height / rows)); step++) {
    if ((rows - 1) * step >= height || (columns - 1) * step >= width) break;
    const corner = (y: number, x: number): number => input.place[y * step * width + x * step]!;
    const plane = powerOfTwo(1 + Math.max(corner(0, 0), corner(rows - 1, columns - 1)));
    const ring = Math.max(period, powerOfTwo(planes * plane));
    if (ring > slots) continue;
    const place = Int32Array.from({ length: planes * rows * columns }, (_, i) => {
      const p = Math.floor(i / (rows * columns));
      return p * plane + corner(Math.floor(i / columns) % rows, i % columns);
    });
    if (new Set(place).size < place.length) continue;
    const span = powerOfTwo(planes * plane);
    found.push({ place, ring, narrow: 1, wide: ring });
    if (span < ring) found.push({ place, ring, narrow: 1, wide: span });
  }
  return found;
}

function mod(a: number, n: number): number {
  return ((a % n) + n) % n;
}
