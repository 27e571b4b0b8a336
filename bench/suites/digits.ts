/**
 * Digit models, one call at a time, beside onnxruntime-node; and how many of the 8,000 corpus digits each executor gets right.
 *
 * Ours is `runSync` of a prepared graph on the native backend, and `run` besides. onnxruntime is reached by `session.run` with
 * its input tensor made in advance; it has no synchronous call.
 * @module
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { drawDigit } from '../../examples/digits/draw.ts';
import { type Digits, readCorpusDigits } from '../../examples/digits/idx.ts';
import type { Graph } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { openNative, openReference, parseModel } from '../engine-under-test.ts';
import { compare } from '../measure.ts';
import type { OnnxRuntime, OnnxSession } from '../peer.ts';
import { latencyRow, type Report } from '../rows.ts';

interface Model {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** From a pixel, 0 … 255, to what the model wants. */
  readonly scale: (pixel: number) => number;
  /** Digits of 8,000 that onnxruntime 1.30 gets right, where that was written down. */
  readonly right?: number;
  /** What a reader must know of its number of right digits. */
  readonly note?: string;
  /** The least ratio of a single call. */
  readonly holdTo?: number;
}

const CLASSES = 10;
const PIXELS = 784;

/** The part of the suite `engine` that reads digits. `corpus`: where it is, if there is one. */
export async function benchDigits(
  ort: OnnxRuntime | undefined,
  corpus: string | undefined,
  report: Report,
): Promise<void> {
  const digits = corpus === undefined ? undefined : readCorpusDigits(corpus);
  for (const model of models(corpus)) await benchModel(model, digits, ort, report);
}

function models(corpus: string | undefined): readonly Model[] {
  const ours: Model = {
    name: 'digits',
    bytes: readFileSync(new URL('../../examples/digits/digits.onnx', import.meta.url)),
    scale: pixel => pixel / 255,
    note: 'it was trained on the first 7,000 of them',
  };
  if (corpus === undefined) return [ours];
  const read = (name: string): Uint8Array => readFileSync(join(corpus, 'models', name, 'model.onnx'));
  return [
    { name: 'mnist-8', bytes: read('mnist-8'), scale: pixel => pixel, right: 7900, holdTo: 1.5 },
    {
      name: 'mnist-cnn-pytorch',
      bytes: read('mnist-cnn-pytorch'),
      scale: pixel => (pixel / 255 - 0.1307) / 0.3081,
      right: 7918,
      holdTo: 1.5,
    },
    ours,
  ];
}

async function benchModel(
  model: Model,
  digits: Digits | undefined,
  ort: OnnxRuntime | undefined,
  report: Report,
): Promise<void> {
  const graph = parseModel(model.bytes);
  const [input, output] = [nameOf(graph, graph.inputs), nameOf(graph, graph.outputs)];
  using fast = openNative(graph, model.bytes);
  using reference = openReference(graph, model.bytes);
  const session = await ort?.open(model.bytes);

  const images = Array.from({ length: 20 }, (_, seed) =>
    drawDigit(seed % 10, { seed }).map(ink => model.scale(ink * 255)),
  );
  const execute = {
    native: (x: Float32Array<ArrayBuffer>) => fast.runSync({ [input]: tensorOf(x) })[output]!.data as Float32Array,
    reference: (x: Float32Array<ArrayBuffer>) =>
      reference.runSync({ [input]: tensorOf(x) })[output]!.data as Float32Array,
  };
  for (const [index, image] of images.entries()) {
    const expected = execute.reference(image);
    const others: [string, Float32Array][] = [['native', execute.native(image)]];
    if (ort && session) others.push([ort.name, await runPeer(ort, session, image)]);
    for (const [name, result] of others) {
      const worst = distance(expected, result);
      if (index > 0 && worst <= 1) continue;
      const detail = `within rtol 1e-3, atol 1e-5 of the reference: ${worst.toPrecision(2)} of the tolerance`;
      report.check({ name: `${model.name} on ${name}`, ok: worst <= 1, detail });
      if (worst > 1) return;
    }
  }
  if (digits !== undefined) await countRight(model, digits, execute, ort && session && [ort, session], report);

  const head = { suite: 'engine', threads: 1, peerName: ort?.name ?? 'onnxruntime-node' };
  for (const batch of graph.values[graph.inputs[0]!]!.facts.shape[0] === 1 ? [1] : [1, 32]) {
    const x = Float32Array.from(
      { length: batch * PIXELS },
      (_, i) => images[Math.floor(i / PIXELS) % 20]![i % PIXELS]!,
    );
    const feeds = { [input]: Tensor.from('f32', [batch, 1, 28, 28], x) };
    const peerFeeds = ort && { [input]: ort.tensor(x, [batch, 1, 28, 28]) };
    const peer = session && peerFeeds && { run: () => session.run(peerFeeds), async: true };
    const label = batch === 1 ? model.name : `${model.name} batch ${batch}`;
    const sync = await compare({ run: () => fast.runSync(feeds) }, peer);
    const held = model.holdTo === undefined || batch > 1 ? {} : { holdTo: { ratio: model.holdTo } };
    report.row(latencyRow({ ...head, ...held, case: `${label}, runSync` }, sync));
    const asynchronous = await compare({ run: () => fast.run(feeds), async: true }, peer);
    report.row(latencyRow({ ...head, case: `${label}, run` }, asynchronous));
  }
  await session?.release();
}

async function countRight(
  model: Model,
  digits: Digits,
  execute: Readonly<Record<'native' | 'reference', (x: Float32Array<ArrayBuffer>) => Float32Array>>,
  peer: readonly [OnnxRuntime, OnnxSession] | undefined,
  report: Report,
): Promise<void> {
  const right = { native: 0, reference: 0, peer: 0 };
  const image = new Float32Array(PIXELS);
  for (let i = 0; i < digits.count; i++) {
    for (let k = 0; k < PIXELS; k++) image[k] = model.scale(digits.pixels[i * PIXELS + k]!);
    const label = digits.labels[i];
    if (argmax(execute.native(image)) === label) right.native++;
    if (argmax(execute.reference(image)) === label) right.reference++;
    if (peer && argmax(await runPeer(peer[0], peer[1], image)) === label) right.peer++;
  }
  for (const backend of ['native', 'reference'] as const) {
    const ours = right[backend];
    report.row({
      suite: 'engine',
      case: `${model.name}, right of ${digits.count} (${backend})`,
      unit: 'digits',
      ours,
      peer: peer ? right.peer : null,
      peerName: peer?.[0].name ?? 'onnxruntime-node',
      ratio: peer ? ours / right.peer : null,
      threads: 1,
      spread: null,
      best: null,
      bestRatio: null,
      ...(model.note !== undefined && { note: model.note }),
    });
    const expected = model.right ?? (peer ? right.peer : undefined);
    if (expected === undefined) continue;
    const name = `${model.name} on ${digits.count} digits (${backend})`;
    report.check({ name, ok: Math.abs(ours - expected) <= 1, detail: `expected ${expected} ± 1 right, got ${ours}` });
  }
}

function nameOf(graph: Graph, ids: readonly number[]): string {
  if (ids.length !== 1) throw new Error(`expected one input and one output, got ${ids.length}`);
  return graph.values[ids[0]!]!.name;
}

function tensorOf(image: Float32Array<ArrayBuffer>): Tensor<'f32'> {
  return Tensor.from('f32', [1, 1, 28, 28], image);
}

async function runPeer(ort: OnnxRuntime, session: OnnxSession, image: Float32Array): Promise<Float32Array> {
  const outputs = await session.run({ [session.inputNames[0]!]: ort.tensor(image, [1, 1, 28, 28]) });
  return outputs[session.outputNames[0]!]!.data;
}

/** The largest |a − b| as a part of 1e-5 + 1e-3 |a|. */
function distance(a: Float32Array, b: Float32Array): number {
  if (a.length !== CLASSES || b.length !== CLASSES) return Number.POSITIVE_INFINITY;
  return Math.max(...a.map((value, i) => Math.abs(value - b[i]!) / (1e-5 + 1e-3 * Math.abs(value))));
}

function argmax(values: Float32Array): number {
  return values.indexOf(Math.max(...values));
}
