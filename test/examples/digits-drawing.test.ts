import { describe, expect, it } from 'vitest';
import { asText, drawDigit } from '../../examples/digits/draw.ts';

const ALL = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

describe('drawn digits', () => {
  it('depend on digit and seed alone', () => {
    for (const digit of ALL) {
      expect(drawDigit(digit, { seed: 42 })).toEqual(drawDigit(digit, { seed: 42 }));
      expect(drawDigit(digit, { seed: 42 })).not.toEqual(drawDigit(digit, { seed: 43 }));
    }
    expect(drawDigit(1, { seed: 10 })).not.toEqual(drawDigit(0, { seed: 11 }));
  });

  it('are framed as MNIST is: 8-bit grey, about 20 pixels long, centred by mass', () => {
    for (let seed = 0; seed < 60; seed++) {
      const image = drawDigit(seed % 10, { seed });
      expect(image.length).toBe(784);
      let [mass, x, y, top, bottom, left, right] = [0, 0, 0, 28, -1, 28, -1];
      image.forEach((ink, index) => {
        expect(ink * 255).toBeCloseTo(Math.round(ink * 255), 4);
        expect(ink >= 0 && ink <= 1).toBe(true);
        const [px, py] = [index % 28, Math.floor(index / 28)];
        mass += ink;
        x += ink * (px + 0.5);
        y += ink * (py + 0.5);
        if (ink < 0.5) return;
        [top, bottom] = [Math.min(top, py), Math.max(bottom, py)];
        [left, right] = [Math.min(left, px), Math.max(right, px)];
      });
      expect(Math.abs(x / mass - 14), `seed ${seed}`).toBeLessThan(1);
      expect(Math.abs(y / mass - 14), `seed ${seed}`).toBeLessThan(1);
      const longer = Math.max(bottom - top, right - left) + 1;
      expect(longer).toBeGreaterThanOrEqual(18);
      expect(longer).toBeLessThanOrEqual(22);
      expect(Math.max(...image)).toBe(1);
    }
  });

  it('refuse what is no digit', () => {
    for (const digit of [-1, 10, 1.5, Number.NaN]) {
      expect(() => drawDigit(digit, { seed: 1 })).toThrow(RangeError);
    }
  });
});

describe('pictures of digits', () => {
  const images = ALL.map(digit => drawDigit(digit, { seed: 1 }));

  it('are 14 lines of half blocks with a caption, five to a row', () => {
    const lines = asText(images, { captions: ALL.map(digit => `a ${digit}`) }).split('\n');
    expect(lines.length).toBe(15 + 1 + 15);
    expect(Math.max(...lines.map(line => line.length))).toBeLessThanOrEqual(5 * 28 + 4 * 2);
    expect(lines[14]).toMatch(/^ +a 0 +a 1 +a 2 +a 3 +a 4$/);
    expect(lines.slice(0, 14).join('')).toMatch(/^[ ▀▄█]+$/);
  });

  it('show each pixel where it is', () => {
    const image = new Float32Array(784);
    image[0] = 1; // (0, 0)
    image[28 + 1] = 1; // (1, 1)
    image[2] = 1;
    image[28 + 2] = 1;
    image[3] = 0.3; // too pale
    expect(asText([image]).split('\n')[0]).toBe('▀▄█');
    expect(asText([image], { style: 'dots' }).split('\n')[0]).toBe('⠑⠃');
    expect(asText([image], { style: 'shades' }).split('\n')[0]).toContain('\x1b[38;5;255;48;5;232m▀');
  });

  it('fit as many into a row as the terminal has columns for', () => {
    const linesOf = (columns: number): number => asText(images, { columns, style: 'dots' }).split('\n').length;
    expect(linesOf(80)).toBe(2 * 7 + 1);
    expect(linesOf(158)).toBe(7);
    expect(linesOf(5)).toBe(10 * 7 + 9);
  });
});
