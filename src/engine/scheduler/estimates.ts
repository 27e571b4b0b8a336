/**
 * What earlier runs of an executable say about the next one.
 * @module
 */
import { DTYPES, Tensor } from '../../tensor/index.ts';
import type { MemoryReport, NamedTensors } from '../backend.ts';

/** How many runs are remembered. */
const REMEMBERED = 16;
/** Milliseconds after which they say nothing any more: otherwise one slow start would refuse short deadlines for good. */
const FORGOTTEN_MS = 10_000;
/** What the newest run counts in the mean. */
const NEWEST = 1 / 8;

/** How long runs take. */
export class Durations {
  readonly #recentMs: number[] = [];
  #next = 0;
  #lastAt = Number.NEGATIVE_INFINITY;
  #fastestMs = 0;
  #meanMs: number | undefined;

  /** Takes note of a run of `rows` rows that took `durationMs` and ended at `now`. */
  observe(durationMs: number, rows: number, now: number): void {
    this.#recentMs[this.#next] = durationMs;
    this.#next = (this.#next + 1) % REMEMBERED;
    this.#lastAt = now;
    this.#fastestMs = Math.min(...this.#recentMs);
    const each = durationMs / rows;
    this.#meanMs = this.#meanMs === undefined ? each : this.#meanMs + NEWEST * (each - this.#meanMs);
  }

  /** The shortest of the last runs in milliseconds: no run can be expected to take less. 0 where nothing recent is known. */
  fastestMs(now: number): number {
    return now - this.#lastAt <= FORGOTTEN_MS ? this.#fastestMs : 0;
  }

  /** Mean milliseconds of a row, the newest runs counting most; undefined before the first. */
  get meanMs(): number | undefined {
    return this.#meanMs;
  }
}

/** Bytes that a run with `inputs` may need beside the weights, as {@link ServeOptions.needBytes} says. */
export function estimateBytes(memory: MemoryReport | undefined, inputs: NamedTensors): number {
  let inputBytes = 0;
  for (const name in inputs) {
    const tensor = inputs[name];
    if (tensor instanceof Tensor) inputBytes += tensor.size * DTYPES[tensor.dtype].bytes;
  }
  const planned = memory ? memory.temporaryBytes + memory.scratchBytes : 0;
  return planned > 0 ? planned + inputBytes : 4 * inputBytes;
}
