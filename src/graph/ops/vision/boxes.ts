/**
 * Boxes in pictures: NonMaxSuppression.
 * @module
 */
import { Tensor } from '../../../tensor/index.ts';
import { singleValue } from '../core/constant.ts';
import { dense, type Numbers } from '../loops.ts';
import { define, type InferContext, int, type Operator, type OperatorVersion, type RunContext } from '../operator.ts';

/** Corners of a box, lower ones first. */
type Corners = readonly [top: number, left: number, bottom: number, right: number];

/** Reads box `i`: two opposite corners in any order as y, x, y, x, or the centre with the size as x, y, width, height. */
function cornersAt(boxes: Numbers, i: number, centred: boolean): Corners {
  const [a, b, d, e] = [boxes[i * 4]!, boxes[i * 4 + 1]!, boxes[i * 4 + 2]!, boxes[i * 4 + 3]!];
  if (centred) return [b - e / 2, a - d / 2, b + e / 2, a + d / 2];
  return [Math.min(a, d), Math.min(b, e), Math.max(a, d), Math.max(b, e)];
}

/** Intersection over union; 0 where one of the boxes is empty. */
function overlap(p: Corners, q: Corners): number {
  const height = Math.min(p[2], q[2]) - Math.max(p[0], q[0]);
  const width = Math.min(p[3], q[3]) - Math.max(p[1], q[1]);
  if (!(height > 0 && width > 0)) return 0;
  const area = (box: Corners): number => (box[2] - box[0]) * (box[3] - box[1]);
  return (height * width) / (area(p) + area(q) - height * width);
}

function runSuppression(c: RunContext): readonly Tensor[] {
  const [boxes, scores] = [dense(c.operand(0)), dense(c.operand(1))];
  const [batches, classes, count] = c.operand(1).shape as [number, number, number];
  const value = (input: number): number | undefined =>
    c.tensors[input] ? Number(c.operand(input).values()[0]) : undefined;
  const most = value(2) ?? 0;
  const threshold = value(3) ?? 0;
  const least = value(4);
  if (!(threshold >= 0 && threshold <= 1)) c.fail(`an overlap threshold of ${threshold}: expected 0 to 1`);
  const centred = c.number('center_point_box') !== 0;
  const found: number[] = [];
  for (let batch = 0; batch < batches; batch++) {
    const corners = Array.from({ length: count }, (_, i) => cornersAt(boxes, batch * count + i, centred));
    for (let label = 0; label < classes; label++) {
      const start = (batch * classes + label) * count;
      const candidates: number[] = [];
      for (let i = 0; i < count; i++) if (least === undefined || scores[start + i]! > least) candidates.push(i);
      candidates.sort((a, b) => scores[start + b]! - scores[start + a]! || a - b);
      const kept: number[] = [];
      for (const i of candidates) {
        if (kept.length >= most) break;
        if (kept.some(other => overlap(corners[other]!, corners[i]!) > threshold)) continue;
        kept.push(i);
        found.push(batch, label, i);
      }
    }
  }
  return [Tensor.from('i64', [found.length / 3, 3], BigInt64Array.from(found, BigInt))];
}

function checkShapes(c: InferContext): void {
  c.rank(0, 3);
  c.rank(1, 3);
  const [boxes, scores] = [c.input(0).shape, c.input(1).shape];
  c.same(boxes[0]!, scores[0]!, 'batches of boxes and scores');
  c.same(boxes[1]!, scores[2]!, 'boxes and their scores');
  c.same(boxes[2]!, 4, 'the numbers of a box');
  for (const [input, dtype] of [
    [2, 'i64'],
    [3, 'f32'],
    [4, 'f32'],
  ] as const) {
    c.expect(input, [dtype]);
    singleValue(c, input);
  }
}

const nonMaxSuppression: OperatorVersion = {
  since: 10,
  inputs: [2, 5],
  outputs: [1, 1],
  attributes: { center_point_box: int(0) },
  infer: c => {
    c.expect(0, ['f32']);
    c.expect(1, ['f32']);
    checkShapes(c);
    return [{ dtype: 'i64', shape: [c.fresh(), 3] }];
  },
  run: runSuppression,
};

/** The operators of this file. */
export const BOXES: readonly Operator[] = [define('NonMaxSuppression', 'compute', nonMaxSuppression)];
