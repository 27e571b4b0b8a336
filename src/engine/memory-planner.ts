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
 * Assigns offsets: the largest buffer first, each into the tightest gap that is free for its whole life, or behind
 * everything that lives beside it. Two buffers that share a step never share a byte. Time is quadratic in the number of
 * buffers at worst.
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
  const offsets = new Array<number>(lifetimes.length).fill(0);
  const order = lifetimes.map((_, i) => i).sort((a, b) => sizes[b]! - sizes[a]! || a - b);
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
  return { offsets, peakBytes, lowerBoundBytes: lowerBound(lifetimes, sizes) };
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
