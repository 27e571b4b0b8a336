/**
 * The idx format of MNIST, gzipped: a magic number, big-endian sizes, then bytes.
 *
 * | offset | bytes | meaning |
 * |---|---|---|
 * | 0 | 4 | 0x00000803 images, 0x00000801 labels |
 * | 4 | 4 | count |
 * | 8 | 8 | rows, columns (images only) |
 * | 16 or 8 | … | one byte per pixel, or per label |
 *
 * @see http://yann.lecun.com/exdb/mnist/, "File formats for the MNIST database"
 * @module
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';

/** Images and their labels. */
export interface Digits {
  readonly count: number;
  /** 784 bytes per image, row by row; 0 is paper, 255 is ink. */
  readonly pixels: Uint8Array;
  /** 0 … 9, one per image. */
  readonly labels: Uint8Array;
}

/**
 * Reads the 8,000 digits of the corpus folder `dir` (`datasets/mnist-8000-*-ubyte.gz`).
 *
 * @throws {Error} when a file is missing, or is not idx of 28×28 images with as many labels.
 */
export function readCorpusDigits(dir: string): Digits {
  const images = gunzipSync(readFileSync(join(dir, 'datasets', 'mnist-8000-images-idx3-ubyte.gz')));
  const labels = gunzipSync(readFileSync(join(dir, 'datasets', 'mnist-8000-labels-idx1-ubyte.gz')));
  const count = images.readUInt32BE(4);
  const fits =
    images.readUInt32BE(0) === 0x803 &&
    images.readUInt32BE(8) === 28 &&
    images.readUInt32BE(12) === 28 &&
    images.length === 16 + count * 784 &&
    labels.readUInt32BE(0) === 0x801 &&
    labels.readUInt32BE(4) === count &&
    labels.length === 8 + count;
  if (!fits) throw new Error(`${dir}: expected idx files of 28×28 images and one label each`);
  return { count, pixels: images.subarray(16), labels: labels.subarray(8) };
}
