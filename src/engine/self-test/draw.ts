/**
 * Random numbers for the self-test: the same for the same seed, on every machine.
 * @module
 */
import { DTYPES, type DType, elementCount, Tensor } from '../../tensor/index.ts';

/** A source of numbers in [0, 1). */
export type Draw = () => number;

/** Mulberry32: 32 bits of state, good enough to pick shapes and fill tensors; nothing here is secret. */
export function drawFrom(seed: number): Draw {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** An integer from `least` to `most`. */
export function between(draw: Draw, least: number, most: number): number {
  return least + Math.floor(draw() * (most - least + 1));
}

/** One of `items`. */
export function oneOf<T>(draw: Draw, items: readonly T[]): T {
  return items[Math.floor(draw() * items.length)]!;
}

/** A shape of `rank` sizes, each from 1 to `most`. */
export function drawShape(draw: Draw, rank: number, most: number): readonly number[] {
  return Array.from({ length: rank }, () => between(draw, 1, most));
}

/** Numbers in [least, most): whole ones where the dtype is. */
export function drawTensor(draw: Draw, dtype: DType, shape: readonly number[], least = -2, most = 2): Tensor {
  const float = DTYPES[dtype].kind === 'float';
  const values = Array.from({ length: elementCount(shape) }, () => {
    const value = least + draw() * (most - least);
    return float ? Math.fround(value) : Math.floor(value);
  });
  return Tensor.of('f64', values).reshape(shape).cast(dtype);
}
