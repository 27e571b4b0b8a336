/** What the fuzz targets of the readers share. */
import fc from 'fast-check';
import { expect } from 'vitest';
import { CloisterError } from '../../src/base/index.ts';

/** Runs of a property: `usual`, or as many as CLOISTER_FUZZ_RUNS says. */
export function runsOf(usual: number): number {
  return Number(process.env['CLOISTER_FUZZ_RUNS'] ?? usual);
}

/** Milliseconds that a property may take at that many runs. */
export const FUZZ_TIMEOUT_MS: number = process.env['CLOISTER_FUZZ_RUNS'] === undefined ? 30_000 : 3_600_000;

/** What `call` returns; undefined where it throws a CloisterError. Fails on any other error, and after `limitMs`. */
export function typedWithin<T>(limitMs: number, call: () => T): T | undefined {
  const start = performance.now();
  try {
    return call();
  } catch (error) {
    if (!(error instanceof CloisterError)) throw error;
    return undefined;
  } finally {
    expect(performance.now() - start).toBeLessThan(limitMs);
  }
}

/** A place in a file, as a share of its length: evenly. (Half of all doubles between 0 and 1 are below 1e-150.) */
export const position: fc.Arbitrary<number> = fc.noBias(fc.nat(2 ** 20 - 1)).map(place => place / 2 ** 20);

/** One of `files`, with up to `most` bits flipped. */
export function flipped(files: fc.Arbitrary<Uint8Array>, most: number): fc.Arbitrary<Uint8Array> {
  const flips = fc.array(fc.tuple(position, fc.nat(7)), { minLength: 1, maxLength: most });
  return fc.tuple(files, flips).map(([bytes, list]) => {
    const copy = new Uint8Array(bytes);
    for (const [where, bit] of list) copy[Math.floor(where * (copy.length - 1))]! ^= 1 << bit;
    return copy;
  });
}

/** One of `files`, cut short. */
export function cut(files: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Uint8Array> {
  return fc.tuple(files, position).map(([bytes, where]) => bytes.subarray(0, Math.floor(where * bytes.length)));
}

/** One of `files` with a piece of another inside. */
export function spliced(files: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Uint8Array> {
  return fc.tuple(files, files, position, position, fc.nat(200)).map(([a, b, at, from, length]) => {
    const place = Math.floor(at * a.length);
    const start = Math.floor(from * b.length);
    return Buffer.concat([a.subarray(0, place), b.subarray(start, start + length), a.subarray(place)]);
  });
}
