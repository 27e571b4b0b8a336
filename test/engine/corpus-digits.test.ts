import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { kernelInfo } from '../../native/index.ts';
import { loadBinding } from '../../native/loader.ts';
import { openProgramHost } from '../../native/program-host.ts';
import { type Backend, nativeBackend, pickBackend, referenceBackend } from '../../src/engine/index.ts';
import { bytesSource, parseOnnx } from '../../src/formats/index.ts';
import { Tensor } from '../../src/tensor/index.ts';

const corpus = process.env['CLOISTER_CORPUS'] ?? '';
const COUNT = 8000;
const PIXELS = 784;

/** An IDX file's elements: big-endian magic and sizes, then bytes (LeCun et al., the MNIST file format). */
function readIdx(name: string, header: number): Uint8Array {
  return new Uint8Array(gunzipSync(readFileSync(join(corpus, 'datasets', name))).subarray(header));
}

function readModel(name: string): Uint8Array {
  const folder = join(corpus, 'models', name);
  const file = readdirSync(folder).find(entry => entry.endsWith('.onnx'))!;
  return new Uint8Array(readFileSync(join(folder, file)));
}

function argmax(scores: readonly number[]): number {
  return scores.indexOf(Math.max(...scores));
}

// CLOISTER_CORPUS_FULL=1 puts all 8,000 digits through the reference backend as well, which takes a minute or more.
const referenceStep = process.env['CLOISTER_CORPUS_FULL'] === '1' ? 1 : 8;

describe.skipIf(!existsSync(join(corpus, 'datasets')))('digits of the corpus', () => {
  const native = kernelInfo() === undefined ? undefined : nativeBackend(openProgramHost(loadBinding()!));

  test.each([
    { name: 'mnist-8', right: 7900, scale: (pixel: number) => pixel },
    { name: 'mnist-cnn-pytorch', right: 7918, scale: (pixel: number) => (pixel / 255 - 0.1307) / 0.3081 },
  ])('$name recognises $right of 8,000, give or take one, and the backends agree', { timeout: 300_000 }, model => {
    const pixels = readIdx('mnist-8000-images-idx3-ubyte.gz', 16);
    const labels = readIdx('mnist-8000-labels-idx1-ubyte.gz', 8);
    const source = bytesSource(readModel(model.name));
    const graph = parseOnnx(source);
    const { name, facts } = graph.values[graph.inputs[0]!]!;
    const output = graph.values[graph.outputs[0]!]!.name;
    const shape = facts.shape.map(dim => (typeof dim === 'number' ? dim : 1));
    const predictions = (backend: Backend, step: number): readonly number[] => {
      const executable = backend.prepare(graph, { constants: source });
      const found: number[] = [];
      for (let i = 0; i < COUNT; i += step) {
        const data = Float32Array.from(pixels.subarray(i * PIXELS, (i + 1) * PIXELS), model.scale);
        const scores = executable.runSync({ [name]: Tensor.from('f32', shape, data) })[output]!;
        found.push(argmax(scores.values().map(Number)));
      }
      executable.close();
      return found;
    };

    const slow = predictions(referenceBackend, native ? referenceStep : 1);
    const fast = native && predictions(native, 1);
    const all = fast ?? slow;
    const correct = all.filter((digit, i) => digit === labels[i]).length;
    expect(Math.abs(correct - model.right)).toBeLessThanOrEqual(1);
    if (fast) expect(fast.filter((_, i) => i % referenceStep === 0)).toEqual(slow);
    const choice = pickBackend(graph, { native, reference: referenceBackend, constants: source });
    expect(choice.backend).toBe(native ?? referenceBackend);
  });
});
