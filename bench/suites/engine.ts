/**
 * Whole models, one call at a time, beside onnxruntime-node.
 *
 * Ours is a prepared graph on the native backend, computing into tensors that the caller owns. onnxruntime is reached by
 * `session.run` with its input tensors made in advance; it has no synchronous call.
 * @module
 */
import { loadNative } from '../../native/index.ts';
import { type Comparison, compare } from '../measure.ts';
import { type BenchModel, models } from '../models/index.ts';
import { INSTALL_PEERS, loadOnnxRuntime, type OnnxRuntime } from '../peer.ts';
import { latencyRow, type Report } from '../rows.ts';
import { openReady, subjectOf, timeSideBySide } from '../side-by-side.ts';
import { benchDigits } from './digits.ts';
import { benchThreads } from './threads.ts';

/** The suite `engine`. */
export async function benchEngine(report: Report): Promise<void> {
  const ort = loadOnnxRuntime();
  if (ort === undefined) report.note(`no rival: ${INSTALL_PEERS}`);
  if (loadNative() === undefined)
    report.note('there is no native binary (npm run build:native): the reference backend is timed');
  const corpus = process.env['CLOISTER_CORPUS'];
  if (corpus === undefined) report.note('CLOISTER_CORPUS is not set: the corpus models and digits are skipped');
  await benchDigits(ort, corpus, report);
  for (const model of models(corpus)) await benchModel(model, ort, report);
  await againstFloat(corpus, report);
  await benchThreads(report);
}

async function benchModel(model: BenchModel, ort: OnnxRuntime | undefined, report: Report): Promise<void> {
  const bytes = model.read();
  for (const { name, inputs, holdTo } of model.calls()) {
    await timeSideBySide(
      {
        suite: 'engine',
        case: name,
        bytes,
        inputs,
        ...(holdTo !== undefined && { holdTo: { ratio: holdTo } }),
        ...(model.exact && { exact: model.exact }),
      },
      ort,
      report,
    );
  }
}

/** MobileNetV2 in int8 beside the same network in f32, both ours. */
async function againstFloat(corpus: string | undefined, report: Report): Promise<void> {
  const [small, large] = ['mobilenet-v2 int8', 'mobilenet-v2-like f32'].map(name =>
    models(corpus).find(model => model.name === name),
  );
  if (small === undefined || large === undefined) return;
  const head = { suite: 'engine', case: 'mobilenet-v2 int8 against f32', threads: 1, peerName: 'ours in f32' };
  const opened = [small, large].map(model => openReady(model.read(), model.calls()[0]!.inputs));
  const sides = opened.map((side, i) =>
    'ready' in side ? subjectOf(side.ready, { inputs: [small, large][i]!.calls()[0]!.inputs }) : undefined,
  );
  const refused = opened.find(side => 'refused' in side);
  const comparison: Comparison | undefined = sides[0] && sides[1] && (await compare(sides[0], sides[1]));
  const nothing = { ours: { median: Number.NaN, spread: Number.NaN, best: Number.NaN } };
  const row = latencyRow({ ...head, holdTo: { ratio: 1 } }, comparison ?? nothing);
  report.row(
    refused && 'refused' in refused ? { ...row, ours: null, spread: null, best: null, note: refused.refused } : row,
  );
  for (const side of opened) if ('ready' in side) side.ready.close();
}
