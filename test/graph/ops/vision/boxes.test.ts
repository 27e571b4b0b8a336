import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Tensor } from '../../../../src/tensor/index.ts';
import { compute } from '../any-node.ts';
import { random, refusal } from '../one-node.ts';

interface Box {
  readonly y: number;
  readonly x: number;
  readonly h: number;
  readonly w: number;
}

/** Areas counted on a fine grid of cells: boxes have corners on whole numbers. */
function overlap(a: Box, b: Box): number {
  let [both, either] = [0, 0];
  for (let y = 0; y < 8; y++) {
    for (let x = 0; x < 8; x++) {
      const inside = (box: Box): boolean => y >= box.y && y < box.y + box.h && x >= box.x && x < box.x + box.w;
      if (inside(a) && inside(b)) both++;
      if (inside(a) || inside(b)) either++;
    }
  }
  return both / either;
}

const box = fc.record({
  y: fc.nat(3),
  x: fc.nat(3),
  h: fc.integer({ min: 1, max: 4 }),
  w: fc.integer({ min: 1, max: 4 }),
});
const scalar = (dtype: 'f32' | 'i64', value: number): Tensor => Tensor.of(dtype, [value]);

test('keeps the best boxes that do not overlap better ones, class by class', () => {
  fc.assert(
    fc.property(
      fc.array(box, { minLength: 1, maxLength: 6 }),
      fc.nat(5),
      fc.boolean(),
      fc.nat(99),
      (list, most, centred, seed) => {
        const boxes = Tensor.of('f32', [
          list.map(({ y, x, h, w }) => (centred ? [x + w / 2, y + h / 2, w, h] : [y + h, x, y, x + w])),
        ]);
        const scores = random(seed, [1, 2, list.length], 'f32');
        const inputs = [boxes, scores, scalar('i64', most), scalar('f32', 0.3), scalar('f32', -0.5)];
        const wanted: bigint[][] = [];
        [0, 1].forEach(label => {
          const score = scores.slice({ axis: 1, start: label, end: label + 1 }).values() as number[];
          const order = list.map((_, i) => i).filter(i => score[i]! > -0.5);
          order.sort((a, b) => score[b]! - score[a]!);
          const kept: number[] = [];
          for (const i of order) {
            if (kept.length < most && kept.every(other => overlap(list[other]!, list[i]!) <= Math.fround(0.3)))
              kept.push(i);
          }
          for (const i of kept) wanted.push([0n, BigInt(label), BigInt(i)]);
        });
        const [y] = compute('NonMaxSuppression', inputs, { attributes: { center_point_box: Number(centred) } });
        expect(y!.shape).toEqual([wanted.length, 3]);
        expect(y!.toArray()).toEqual(wanted);
      },
    ),
  );
});

test('keeps nothing unless told how many, and refuses shapes and thresholds that make no sense', () => {
  const [boxes, scores] = [random(1, [1, 4, 4], 'f32'), random(2, [1, 1, 4], 'f32')];
  expect(compute('NonMaxSuppression', [boxes, scores])[0]!.shape).toEqual([0, 3]);
  const of = (...inputs: readonly (Tensor | undefined)[]): string =>
    refusal(() => compute('NonMaxSuppression', inputs));
  expect(of(boxes, random(2, [1, 1, 3], 'f32'))).toContain('boxes and their scores');
  expect(of(random(1, [1, 4, 3], 'f32'), scores)).toContain('the numbers of a box');
  expect(of(boxes, scores, undefined, scalar('f32', 1.5))).toContain('expected 0 to 1');
  expect(of(boxes, scores, scalar('f32', 1))).toContain('expected one of i64');
});
