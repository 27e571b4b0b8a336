/**
 * The memory planner: gives buffers that do not live at the same time the same bytes of one arena.
 * @module
 */

/** A buffer: its size, and the first and last step (both included) at which its bytes matter. */
export interface Lifetime {
  readonly bytes: number;
  readonly first: number;
  readonly last: number;
}

/** Where each buffer lies. */
export interface MemoryPlan {
  /** Offset of each buffer in bytes, a multiple of {@link ARENA_ALIGNMENT}, in the order of the lifetimes. */
  readonly offsets: readonly number[];
  /** Bytes of the whole arena. */
  readonly peakBytes: number;
  /** What no plan can go below: the most bytes, each buffer rounded up to the alignment, that live at one step. */
  readonly lowerBoundBytes: number;
}

/** Every buffer starts at a multiple of this: a cache line, and the widest vector register. */
export const ARENA_ALIGNMENT = 64;

/**
 * Assigns offsets: buffers in some order, each into the tightest gap that is free for its whole life, or behind everything that
 * lives beside it. Two buffers that share a step never share a byte. The order decides how tight it gets: several are tried, and
 * then small changes of the best one, until nothing could be tighter or the time is spent, which is bounded and does not depend on
 * the clock. Of more buffers than that time allows to compare, each takes a gap between those that live when it is born. The same lifetimes
 * always give the same plan.
 *
 * @see Pisarchyk & Lee 2020, Efficient Memory Management for Deep Neural Net Inference, §5.2 (greedy by size),
 *   https://arxiv.org/abs/2001.03288
 * @example
 * ```ts
 * const [early, middle, late] = [0, 1, 2].map(step => ({ bytes: 100, first: step, last: step + 1 }));
 * planMemory([early!, middle!, late!]); // { offsets: [0, 128, 0], peakBytes: 256, lowerBoundBytes: 256 }
 * ```
 */
export function planMemory(lifetimes: readonly Lifetime[]): MemoryPlan {
  const sizes = lifetimes.map(({ bytes }) => alignUp(bytes));
  const lowerBoundBytes = lowerBound(lifetimes, sizes);
  if (lifetimes.length ** 2 > MAX_WORK) return { ...placeInTime(lifetimes, sizes), lowerBoundBytes };
  let best: Placement | undefined;
  let bestOrder: readonly number[] = [];
  const attempt = (order: readonly number[]): void => {
    const placement = place(lifetimes, sizes, order);
    if (best && placement.peakBytes >= best.peakBytes) return;
    best = placement;
    bestOrder = order;
  };
  for (const rank of ORDERS) {
    const key = lifetimes.map((life, i) => rank(life, sizes[i]!));
    attempt(lifetimes.map((_, i) => i).sort((a, b) => key[b]! - key[a]! || sizes[b]! - sizes[a]! || a - b));
    if (best!.peakBytes === lowerBoundBytes) break;
  }
  // Move one buffer to the front of the best order: whatever did not fit well gets the first choice.
  const tries = Math.min(MAX_TRIES, Math.floor(MAX_WORK / Math.max(1, lifetimes.length ** 2)));
  for (let i = 0; i < tries && best!.peakBytes > lowerBoundBytes; i++) {
    const { offsets, peakBytes } = best!;
    const highest = bestOrder.filter(each => offsets[each]! + sizes[each]! === peakBytes);
    const moved = i % 2 === 0 ? highest[(i / 2) % highest.length]! : bestOrder[(i * 7919) % bestOrder.length]!;
    attempt([moved, ...bestOrder.filter(each => each !== moved)]);
  }
  const { offsets, peakBytes } = best!;
  return { offsets, peakBytes, lowerBoundBytes };
}

/** What comes first, the larger the earlier: size, time in use, their product, early birth. */
const ORDERS: readonly ((life: Lifetime, size: number) => number)[] = [
  (_, size) => size,
  ({ first, last }, size) => size * (last - first + 1),
  ({ first, last }) => last - first,
  ({ first }) => -first,
];

const MAX_TRIES = 200;
/** About a tenth of a second. */
const MAX_WORK = 20_000_000;

interface Placement {
  readonly offsets: readonly number[];
  readonly peakBytes: number;
}

/** Places buffers in `order`. Time is quadratic in their number at worst. */
function place(lifetimes: readonly Lifetime[], sizes: readonly number[], order: readonly number[]): Placement {
  const offsets = new Array<number>(lifetimes.length).fill(0);
  const placed: number[] = []; // by offset
  let peakBytes = 0;
  for (const i of order) {
    const { first, last } = lifetimes[i]!;
    const size = sizes[i]!;
    if (size === 0) continue;
    let best = -1;
    let bestGap = Number.POSITIVE_INFINITY;
    let end = 0; // of what lives beside it, so far
    for (const j of placed) {
      const other = lifetimes[j]!;
      if (other.last < first || other.first > last) continue;
      const gap = offsets[j]! - end;
      if (gap >= size && gap < bestGap) {
        best = end;
        bestGap = gap;
      }
      end = Math.max(end, offsets[j]! + sizes[j]!);
    }
    const offset = best < 0 ? end : best;
    offsets[i] = offset;
    peakBytes = Math.max(peakBytes, offset + size);
    let at = placed.length;
    while (at > 0 && offsets[placed[at - 1]!]! > offset) at--;
    placed.splice(at, 0, i);
  }
  return { offsets, peakBytes };
}

/**
 * Places buffers in the order of their birth, each into the tightest gap between those that live then. Time is the sum of how many live
 * at each birth; where that passes its bound, the rest lie behind each other.
 */
function placeInTime(lifetimes: readonly Lifetime[], sizes: readonly number[]): Placement {
  const offsets = new Array<number>(lifetimes.length).fill(0);
  const births = lifetimes.map((_, i) => i).filter(i => sizes[i]! > 0);
  births.sort((a, b) => lifetimes[a]!.first - lifetimes[b]!.first || sizes[b]! - sizes[a]! || a - b);
  const living: number[] = []; // by offset
  let peakBytes = 0;
  let work = 0;
  for (const i of births) {
    const size = sizes[i]!;
    work += living.length;
    if (work > 2 * MAX_WORK) {
      offsets[i] = peakBytes;
      peakBytes += size;
      continue;
    }
    let kept = 0;
    let best = -1; // the place in `living` before which the gap is
    let bestGap = Number.POSITIVE_INFINITY;
    let bestOffset = 0;
    let end = 0;
    for (const j of living) {
      if (lifetimes[j]!.last < lifetimes[i]!.first) continue;
      const gap = offsets[j]! - end;
      if (gap >= size && gap < bestGap) [best, bestGap, bestOffset] = [kept, gap, end];
      end = offsets[j]! + sizes[j]!;
      living[kept++] = j;
    }
    living.length = kept;
    offsets[i] = best < 0 ? end : bestOffset;
    living.splice(best < 0 ? kept : best, 0, i);
    peakBytes = Math.max(peakBytes, offsets[i]! + size);
  }
  return { offsets, peakBytes };
}

/** `bytes`, rounded up to {@link ARENA_ALIGNMENT}. */
export function alignUp(bytes: number): number {
  return Math.ceil(bytes / ARENA_ALIGNMENT) * ARENA_ALIGNMENT;
}

function lowerBound(lifetimes: readonly Lifetime[], sizes: readonly number[]): number {
  const changes = lifetimes.flatMap(({ first, last }, i) => [
    { at: first, bytes: sizes[i]! },
    { at: last + 1, bytes: -sizes[i]! },
  ]);
  changes.sort((a, b) => a.at - b.at || a.bytes - b.bytes);
  let live = 0;
  let most = 0;
  for (const { bytes } of changes) {
    live += bytes;
    most = Math.max(most, live);
  }
  return most;
}
