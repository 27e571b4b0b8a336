/**
 * Variations of a digit that leave its label alone.
 * @module
 */
import { SIDE } from './draw.ts';
import type { SeededRandom } from './random.ts';

/**
 * Overwrites `target` (784 values) with a variation of `source` (784 values in 0 … 1): turned by up to about 12°, scaled by
 * up to 15 % in each direction, slanted, shifted by up to 2 pixels; strokes thickened or thinned; faint noise. Everything
 * outside the source is paper.
 */
export function augment(source: ArrayLike<number>, target: Float64Array, random: SeededRandom): void {
  const turn = random.between(-0.21, 0.21);
  const slant = random.between(-0.2, 0.2);
  const scaleX = random.between(0.85, 1.15);
  const scaleY = random.between(0.85, 1.15);
  const shiftX = random.between(-2, 2);
  const shiftY = random.between(-2, 2);
  const cos = Math.cos(turn);
  const sin = Math.sin(turn);
  // Ink above a level grows to full black, or pales: v -> clamp(gain * v - cut).
  const gain = random.between(0.8, 1.5);
  const cut = random.between(0, 0.25) * (gain - 0.7);
  const noise = random.uniform() < 0.3 ? random.between(0, 0.06) : 0;
  const middle = (SIDE - 1) / 2;
  for (let y = 0; y < SIDE; y++) {
    for (let x = 0; x < SIDE; x++) {
      const dx = (x - middle - shiftX) * scaleX;
      const dy = (y - middle - shiftY) * scaleY;
      const fromX = cos * dx - sin * dy + slant * dy + middle;
      const fromY = sin * dx + cos * dy + middle;
      const value = gain * bilinear(source, fromX, fromY) - cut + (noise === 0 ? 0 : random.normal(noise));
      target[y * SIDE + x] = Math.min(1, Math.max(0, value));
    }
  }
}

function bilinear(image: ArrayLike<number>, x: number, y: number): number {
  const left = Math.floor(x);
  const top = Math.floor(y);
  if (left < 0 || top < 0 || left >= SIDE - 1 || top >= SIDE - 1) return 0;
  const right = x - left;
  const down = y - top;
  const index = top * SIDE + left;
  const upper = image[index]! * (1 - right) + image[index + 1]! * right;
  const lower = image[index + SIDE]! * (1 - right) + image[index + SIDE + 1]! * right;
  return upper * (1 - down) + lower * down;
}
