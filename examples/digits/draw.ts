/**
 * Sample digits that the project draws itself, in the framing of MNIST, and their pictures in a terminal.
 *
 * A digit is a skeleton of strokes (curves through a few points), bent by a seed: style, slant, width, wobble, thickness.
 * Its box is scaled to 20×20 pixels and its centre of mass is put in the middle of 28×28, as MNIST does (LeCun, Cortes &
 * Burges, http://yann.lecun.com/exdb/mnist/).
 * @module
 */
import { type SeededRandom, seededRandom } from './random.ts';

/** Width and height of an image, in pixels. */
export const SIDE = 28;

const BOX = 20;

/** x to the right, y down. In a skeleton the digit fills about 0 … 100 by 0 … 100. */
type Point = readonly [x: number, y: number];

/** A smooth curve through its points; two points are a line. */
type Stroke = readonly Point[];

/**
 * Draws one digit.
 *
 * The same digit and seed give the same image. Different seeds give different handwriting.
 *
 * @param digit - 0 … 9.
 * @param options.seed - any integer; its low 32 bits count.
 * @returns 784 values in 0 … 1 (multiples of 1/255), row by row; 0 is paper, 1 is ink.
 * @throws {RangeError} when `digit` is not 0 … 9.
 */
export function drawDigit(digit: number, options: { readonly seed: number }): Float32Array {
  const styles = SKELETONS[digit];
  if (styles === undefined) throw new RangeError(`drawDigit: expected a digit 0 to 9, got ${digit}`);
  const random = seededRandom(Math.imul(options.seed, 10) + digit);
  const radius = random.between(0.85, 1.65);
  const lines = frame(bend(pickStyle(styles, random), random), radius);
  return rasterise(lines, radius);
}

/** How {@link asText} shows images. */
export interface TextOptions {
  /** One line under each image, cut to its width. */
  readonly captions?: readonly string[];
  /** The width that a row of images may take, in characters; 150, which is five images, unless said otherwise. */
  readonly columns?: number;
  /**
   * `blocks` (default): half blocks, an image is 28 × 14 characters. `shades`: the same in 24 greys, by ANSI escape codes.
   * `dots`: Braille patterns, 14 × 7 characters, so that ten images take two rows of 80 columns.
   */
  readonly style?: 'blocks' | 'shades' | 'dots';
}

/**
 * Returns images as text for a terminal, side by side, in as many rows as it takes. Works on any 28×28 image in 0 … 1; in
 * `blocks` and `dots` a pixel is ink from 0.4 on.
 *
 * @example
 * ```ts
 * console.log(asText([3, 1, 4].map(digit => drawDigit(digit, { seed: 7 })), { captions: ['three', 'one', 'four'] }));
 * ```
 */
export function asText(images: readonly ArrayLike<number>[], options: TextOptions = {}): string {
  const { captions, columns = 150, style = 'blocks' } = options;
  const { line, pixels, characters } = STYLES[style];
  const gap = '  ';
  const perRow = Math.max(1, Math.floor((columns + gap.length) / (characters + gap.length)));
  const rows: string[] = [];
  for (let first = 0; first < images.length; first += perRow) {
    const row = images.slice(first, first + perRow);
    const lines: string[] = [];
    for (let y = 0; y < SIDE; y += pixels) lines.push(row.map(image => line(image, y)).join(gap));
    if (captions !== undefined) {
      lines.push(row.map((_, index) => centred(captions[first + index] ?? '', characters)).join(gap));
    }
    rows.push(lines.map(text => text.trimEnd()).join('\n'));
  }
  return rows.join('\n\n');
}

// The ways to write each digit, by eye: how often, and the points of each stroke. Strokes that share a point make a corner.
const SKELETONS: readonly (readonly (readonly [weight: number, strokes: string])[])[] = [
  [
    [3, '55,0 22,14 5,50 20,87 50,100 82,85 95,48 80,13 50,0'],
    [1, '68,6 35,4 10,35 8,72 38,100 75,85 92,45 78,12 52,2'],
  ],
  [
    [5, '50,0 50,100'],
    [2, '26,22 52,0; 52,0 52,100'],
    [1, '26,22 52,0; 52,0 52,100; 25,100 80,100'],
  ],
  [
    [3, '12,25 30,4 65,3 84,25 70,52 36,80 8,99; 8,99 92,97'],
    [2, '14,22 36,2 70,6 80,30 60,60 34,88 14,97 6,86 22,78 48,90 70,98 95,92'],
    [1, '10,12 45,0 78,14 78,40 45,75 8,97; 8,97 50,92 95,98'],
  ],
  [
    [3, '10,14 38,0 74,10 74,34 36,46; 36,46 78,54 86,78 56,100 20,98 4,84'],
    [1, '8,4 82,4; 82,4 40,40; 40,40 80,52 86,78 56,100 8,90'],
    [2, '12,8 50,0 78,18 66,40 42,48 78,58 80,84 48,100 8,92'],
  ],
  [
    [3, '20,2 12,34 10,56; 10,56 48,58 90,50; 78,4 72,50 68,100'],
    [2, '62,0 4,64; 4,64 94,62; 64,2 62,100'],
    [1, '16,6 12,40 40,54 76,44; 82,0 76,44 66,100'],
  ],
  [
    [3, '86,2 26,4; 26,4 16,44; 16,44 50,36 84,54 80,82 48,100 8,92'],
    [1, '92,0 34,8; 34,8 22,48; 22,48 62,46 74,70 54,94 6,98'],
  ],
  [
    [3, '70,0 34,22 10,60 18,90 48,100 80,84 74,60 46,54 16,72'],
    [1, '52,0 22,40 14,78 40,100 70,90 72,66 46,60 18,80'],
  ],
  [
    [4, '6,6 90,4; 90,4 64,42 42,100'],
    [1, '6,6 90,4; 90,4 62,42 44,100; 30,52 82,48'],
    [1, '6,22 10,6; 10,6 50,8 90,3; 90,3 70,38 54,100'],
  ],
  [
    [3, '78,14 46,0 18,18 38,42 76,66 74,92 44,100 14,86 28,60 66,38 82,18 70,6'],
    [1, '48,0 20,22 46,46 80,22 50,0; 48,46 12,74 46,100 84,76 50,46'],
  ],
  [
    [3, '82,18 54,2 20,14 14,38 42,50 72,36 83,14; 83,14 80,52 70,100'],
    [1, '80,20 54,2 20,16 18,40 46,50 76,34 81,14; 81,14 86,60 62,97 24,95'],
    [1, '70,8 34,2 14,26 36,48 70,30 76,6; 76,6 66,54 46,100'],
  ],
];

function pickStyle(styles: (typeof SKELETONS)[number], random: SeededRandom): readonly Stroke[] {
  const tickets = styles.flatMap(([weight, strokes]) => Array.from({ length: weight }, () => strokes));
  const strokes = tickets[random.below(tickets.length)]!;
  return strokes
    .split('; ')
    .map(stroke => stroke.split(' ').map(point => point.split(',').map(Number) as [number, number]));
}

// Moves each control point a little, runs curves through them, and gives the whole a hand: width, slant, turn, wobble.
function bend(strokes: readonly Stroke[], random: SeededRandom): readonly Stroke[] {
  const jitter = random.between(0.5, 3.5);
  const moved = new Map<string, Point>();
  const move = (point: Point): Point => {
    const key = point.join(); // a corner stays joined
    const known = moved.get(key) ?? [point[0] + random.normal(jitter), point[1] + random.normal(jitter)];
    moved.set(key, known);
    return known;
  };
  const width = random.between(0.5, 0.9);
  const slant = random.normal(0.16) + 0.08;
  const turn = random.normal(0.08);
  const [cos, sin] = [Math.cos(turn), Math.sin(turn)];
  const [swing, wave, phase] = [random.between(0, 2.2), random.between(0.03, 0.09), random.between(0, 2 * Math.PI)];
  return strokes.map(stroke =>
    curve(stroke.map(move)).map(([px, py]): Point => {
      const x = (px - 50 + swing * Math.sin(wave * py + phase)) * width;
      const y = py - 50 + swing * Math.cos(wave * px + phase);
      const leaning = x - slant * y;
      return [cos * leaning - sin * y, sin * leaning + cos * y];
    }),
  );
}

// Catmull-Rom through the points (Catmull & Rom 1974), eight pieces between two of them; the ends repeat.
function curve(points: Stroke): Stroke {
  if (points.length < 3) return points;
  const at = (index: number): Point => points[Math.min(Math.max(index, 0), points.length - 1)]!;
  const result: Point[] = [at(0)];
  for (let i = 0; i + 1 < points.length; i++) {
    for (let step = 1; step <= 8; step++) {
      const t = step / 8;
      const weights = [
        ((2 - t) * t - 1) * t * 0.5,
        ((3 * t - 5) * t * t + 2) * 0.5,
        ((4 - 3 * t) * t + 1) * t * 0.5,
        (t - 1) * t * t * 0.5,
      ];
      let [x, y] = [0, 0];
      weights.forEach((weight, k) => {
        const [px, py] = at(i - 1 + k);
        x += weight * px;
        y += weight * py;
      });
      result.push([x, y]);
    }
  }
  return result;
}

// Scales the inked box to 20 pixels on its longer side and puts the centre of mass of the strokes at (14, 14).
function frame(strokes: readonly Stroke[], radius: number): readonly Stroke[] {
  const points = strokes.flat();
  const xs = points.map(point => point[0]);
  const ys = points.map(point => point[1]);
  const extent = Math.max(Math.max(...xs) - Math.min(...xs), Math.max(...ys) - Math.min(...ys));
  const scale = (BOX - 2 * radius) / extent;
  let [mass, massX, massY] = [0, 0, 0];
  for (const stroke of strokes) {
    for (let i = 0; i + 1 < stroke.length; i++) {
      const [[ax, ay], [bx, by]] = [stroke[i]!, stroke[i + 1]!];
      const length = Math.hypot(bx - ax, by - ay);
      mass += length;
      massX += (length * (ax + bx)) / 2;
      massY += (length * (ay + by)) / 2;
    }
  }
  const [midX, midY] = [massX / mass, massY / mass];
  const half = SIDE / 2;
  return strokes.map(stroke => stroke.map(([x, y]): Point => [half + (x - midX) * scale, half + (y - midY) * scale]));
}

// Ink falls off over about one pixel at the edge of the pen; the darkest stroke over a pixel counts.
function rasterise(strokes: readonly Stroke[], radius: number): Float32Array {
  const image = new Float32Array(SIDE * SIDE);
  const reach = radius + 0.6;
  for (const stroke of strokes) {
    for (let i = 0; i + 1 < stroke.length; i++) {
      const [[ax, ay], [bx, by]] = [stroke[i]!, stroke[i + 1]!];
      const [dx, dy] = [bx - ax, by - ay];
      const squared = Math.max(dx * dx + dy * dy, 1e-9);
      const [top, bottom] = [
        Math.max(0, Math.floor(Math.min(ay, by) - reach)),
        Math.min(SIDE, Math.max(ay, by) + reach),
      ];
      const [left, right] = [
        Math.max(0, Math.floor(Math.min(ax, bx) - reach)),
        Math.min(SIDE, Math.max(ax, bx) + reach),
      ];
      for (let y = top; y < bottom; y++) {
        for (let x = left; x < right; x++) {
          const [px, py] = [x + 0.5 - ax, y + 0.5 - ay];
          const along = Math.min(1, Math.max(0, (px * dx + py * dy) / squared));
          const distance = Math.hypot(px - along * dx, py - along * dy);
          const ink = Math.min(1, Math.max(0, (reach - distance) / 1.2));
          const index = y * SIDE + x;
          if (ink > image[index]!) image[index] = ink;
        }
      }
    }
  }
  return image.map(ink => Math.round(ink * 255) / 255);
}

const STYLES = {
  blocks: { line: blockLine, pixels: 2, characters: SIDE },
  shades: { line: shadedLine, pixels: 2, characters: SIDE },
  dots: { line: dottedLine, pixels: 4, characters: SIDE / 2 },
} as const;

function isInk(image: ArrayLike<number>, x: number, y: number): boolean {
  return image[y * SIDE + x]! >= 0.4;
}

function blockLine(image: ArrayLike<number>, y: number): string {
  let line = '';
  for (let x = 0; x < SIDE; x++) {
    line += ' ▀▄█'[(isInk(image, x, y) ? 1 : 0) + (isInk(image, x, y + 1) ? 2 : 0)]!;
  }
  return line;
}

function shadedLine(image: ArrayLike<number>, y: number): string {
  const grey = (index: number): number => 232 + Math.round(Math.min(1, Math.max(0, image[index]!)) * 23);
  let line = '';
  for (let x = 0; x < SIDE; x++) {
    line += `\x1b[38;5;${grey(y * SIDE + x)};48;5;${grey((y + 1) * SIDE + x)}m▀`;
  }
  return `${line}\x1b[0m`;
}

// Unicode 15, chapter 21.1: in U+2800 + bits, bits 0 to 5 go down the left column, then the right; 6 and 7 are the last row.
const DOTS = [
  [0, 0, 0x01],
  [0, 1, 0x02],
  [0, 2, 0x04],
  [1, 0, 0x08],
  [1, 1, 0x10],
  [1, 2, 0x20],
  [0, 3, 0x40],
  [1, 3, 0x80],
] as const;

function dottedLine(image: ArrayLike<number>, y: number): string {
  let line = '';
  for (let x = 0; x < SIDE; x += 2) {
    const bits = DOTS.reduce((sum, [dx, dy, bit]) => sum + (isInk(image, x + dx, y + dy) ? bit : 0), 0);
    line += bits === 0 ? ' ' : String.fromCodePoint(0x2800 + bits);
  }
  return line;
}

function centred(text: string, width: number): string {
  const cut = text.slice(0, width);
  return cut.padStart(Math.floor((width + cut.length) / 2)).padEnd(width);
}
