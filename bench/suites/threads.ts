/**
 * What a second thread brings: the same call with two threads beside one, on our side alone.
 * @module
 */
import { openNative, parseModel, threadsOnOffer } from '../engine-under-test.ts';
import { compare } from '../measure.ts';
import { models } from '../models/index.ts';
import { latencyRow, type Report } from '../rows.ts';
import { subjectOf } from '../side-by-side.ts';

/** Models of more than two milliseconds. */
const LARGE = ['squeezenet', 'mobilenet-v2-like f32', 'mobilenet-v2 int8', 'bert-like L6 H384 S128'];

/** How many times as fast two threads are to be, on an idle machine. */
const LEAST_GAIN = 1.7;

/** The rows of two threads. A note where the backend has only the caller's. */
export async function benchThreads(report: Report): Promise<void> {
  if (threadsOnOffer() < 2) {
    report.note('rows of 2 threads are skipped: the backend computes on one');
    return;
  }
  const corpus = process.env['CLOISTER_CORPUS'];
  for (const model of models(corpus).filter(({ name }) => LARGE.includes(name))) {
    const bytes = model.read();
    const [call] = model.calls();
    const graph = parseModel(bytes);
    using one = openNative(graph, bytes, { threads: 1 });
    using two = openNative(graph, bytes, { threads: 2 });
    const comparison = await compare(subjectOf(two, call!), subjectOf(one, call!));
    const head = { suite: 'engine', case: `${call!.name}, 2 threads`, threads: 2, peerName: 'ours, 1 thread' };
    report.row(latencyRow({ ...head, holdTo: { ratio: LEAST_GAIN } }, comparison));
  }
}
