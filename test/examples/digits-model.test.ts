import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { drawDigit } from '../../examples/digits/draw.ts';
import { readCorpusDigits } from '../../examples/digits/idx.ts';
import { referenceBackend } from '../../src/engine/index.ts';
import { bytesSource, parseOnnx } from '../../src/formats/index.ts';
import { Tensor } from '../../src/tensor/index.ts';

const corpus = process.env['CLOISTER_CORPUS'];
const file = readFileSync(new URL('../../examples/digits/digits.onnx', import.meta.url));
const source = bytesSource(file);
const graph = parseOnnx(source);
const executable = referenceBackend.prepare(graph, { constants: source });

/** The digits that the model sees in `images` (count, 784). */
function classify(images: Float32Array<ArrayBuffer>): number[] {
  const count = images.length / 784;
  const { logits } = executable.runSync({ image: Tensor.from('f32', [count, 1, 28, 28], images) });
  expect(logits?.shape).toEqual([count, 10]);
  const scores = logits!.elements() as Float32Array;
  return Array.from({ length: count }, (_, i) => {
    const row = scores.subarray(i * 10, i * 10 + 10);
    return row.indexOf(Math.max(...row));
  });
}

describe('digits.onnx', () => {
  it('is small, and takes a batch of any size', () => {
    expect(file.length).toBeLessThanOrEqual(150_000);
    const [image] = graph.inputs.map(id => graph.values[id]!);
    const [logits] = graph.outputs.map(id => graph.values[id]!);
    expect(image).toMatchObject({ name: 'image', facts: { dtype: 'f32', shape: ['batch', 1, 28, 28] } });
    expect(logits).toMatchObject({ name: 'logits', facts: { dtype: 'f32', shape: ['batch', 10] } });
  });

  it('reads at least 97 % of 2,000 drawn digits that training did not see', () => {
    let right = 0;
    for (let first = 0; first < 2000; first += 100) {
      const images = new Float32Array(100 * 784);
      for (let i = 0; i < 100; i++) images.set(drawDigit(i % 10, { seed: first + i }), i * 784);
      right += classify(images).filter((digit, i) => digit === i % 10).length;
    }
    expect(right).toBeGreaterThanOrEqual(1940);
  });

  it.skipIf(corpus === undefined)('reads at least 97 % of the 1,000 corpus digits that training did not see', () => {
    const digits = readCorpusDigits(corpus!);
    let right = 0;
    for (let first = digits.count - 1000; first < digits.count; first += 100) {
      const images = Float32Array.from(digits.pixels.subarray(first * 784, (first + 100) * 784), pixel => pixel / 255);
      right += classify(images).filter((digit, i) => digit === digits.labels[first + i]).length;
    }
    expect(right).toBeGreaterThanOrEqual(970);
  });
});
