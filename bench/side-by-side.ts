/**
 * One model on both sides: checked, then timed in alternating rounds.
 * @module
 */
import { isCloisterError } from '../src/base/index.ts';
import type { NamedTensors } from '../src/engine/index.ts';
import { disagreement, type Output, type Tolerance } from './agreement.ts';
import { openNative, openReference, parseModel, type Ready } from './engine-under-test.ts';
import { type Comparison, compare, type MeasureOptions, type Subject } from './measure.ts';
import type { OnnxRuntime, OnnxSession } from './peer.ts';
import { formatRatio, latencyRow, type Report, type Row, rateRow, refusedRow, type Target } from './rows.ts';

/** A model, what it is given, and what its row says. */
export interface Work {
  readonly suite: string;
  readonly case: string;
  /** An ONNX file. */
  readonly bytes: Uint8Array;
  readonly inputs: NamedTensors;
  /** What is reported as work per second; microseconds per call where left out. */
  readonly rate?: { readonly unit: string; readonly perCall: number };
  readonly holdTo?: Target;
  /** The most work per second that the machine can do, where that was measured and no trick does with less work. */
  readonly ceiling?: number;
  readonly tolerance?: Tolerance;
  /**
   * Our outputs are compared with the reference backend's, to the bit, instead of the rival's. Where a sum lies between two steps of a
   * scale the rival, which adds in f32, may round to the other one, and on noise a deep int8 model carries that on: results then differ
   * by several steps though both are right. Recorded inputs are compared with the rival's outputs by the tests.
   */
  readonly exact?: true;
  /** How our side is called; by default `into` tensors that the caller owns. */
  readonly call?: 'into' | 'sync' | 'async';
  /** What a reader must know to judge the row. */
  readonly note?: string;
}

/** A call shorter than this is timed in groups, so that the clock is small beside it. */
const GROUP_MS = 0.05;
/** Where a call takes longer than this, fewer calls make a round. */
const LONG_MS = 15;

/**
 * Reports the row of `work`. Our outputs are compared first with the rival's, or with the reference backend's where there is no
 * rival; a model that the native backend refuses gets a row without our side, and the refusal as its note.
 *
 * @returns The row, or undefined when the check failed.
 */
export async function timeSideBySide(
  work: Work,
  ort: OnnxRuntime | undefined,
  report: Report,
): Promise<Row | undefined> {
  const session = await ort?.open(work.bytes);
  const feeds = ort && mapValues(work.inputs, tensor => ort.fromTensor(tensor));
  const peer = session && feeds && { run: () => session.run(feeds), async: true };
  const opened = openReady(work.bytes, work.inputs);
  try {
    if ('refused' in opened) {
      if (!opened.expected) report.check({ name: `${work.case}, prepared`, ok: false, detail: opened.refused });
      const comparison = peer ? await measure(peer, undefined) : NOTHING;
      const { ours, ...row } = rowOf(work, ort, comparison);
      const refused = refusedRow({ ...row, ours, peer: peer ? ours : null }, opened.refused);
      report.row(refused);
      return refused;
    }
    const { ready } = opened;
    const came = await outputsOf(ready, work);
    const rival = session && feeds && work.exact === undefined;
    const expected = rival ? await peerOutputs(session, feeds) : referenceOutputs(work);
    const worst = disagreement(expected, came, work.exact ? { relative: 0, ofLargest: 0 } : work.tolerance);
    const against = rival ? ort!.name : 'the reference backend';
    const detail = `agrees with ${against}: ${worst.toPrecision(2)} of the tolerance`;
    report.check({ name: work.case, ok: worst <= 1, detail });
    if (!(worst <= 1)) return undefined;
    const row = rowOf(work, ort, await measure(subjectOf(ready, work), peer));
    report.row(row);
    return row;
  } finally {
    if ('ready' in opened) opened.ready.close();
    await session?.release();
  }
}

/**
 * The model on our side, after a first call with `inputs`; or why it is refused. `expected`: the backend says so itself, as of a model
 * that it does not support.
 */
export function openReady(
  bytes: Uint8Array,
  inputs: NamedTensors,
): { readonly ready: Ready } | { readonly refused: string; readonly expected: boolean } {
  let ready: Ready | undefined;
  try {
    ready = openNative(parseModel(bytes), bytes);
    ready.runSync(inputs); // what depends on sizes that are known only now may be refused only now
    return { ready };
  } catch (error) {
    ready?.close();
    const expected = isCloisterError(error, 'UNSUPPORTED_MODEL');
    return { refused: error instanceof Error ? error.message.slice(0, 160) : String(error), expected };
  }
}

/** How our side of `work` is called. */
export function subjectOf(ready: Ready, { inputs, call = 'into' }: Pick<Work, 'inputs' | 'call'>): Subject {
  if (call === 'async') return { run: () => ready.run(inputs), async: true };
  if (call === 'sync') return { run: () => ready.runSync(inputs) };
  const outputs = ready.runSync(inputs);
  return { run: () => ready.runInto(inputs, outputs) };
}

/** {@link compare} with rounds and groups of calls that fit how long a call takes. */
export async function measure(ours: Subject, peer: Subject | undefined): Promise<Comparison> {
  const longest = Math.max(await probe(ours), peer === undefined ? 0 : await probe(peer));
  const shortest = Math.min(await probe(ours), peer === undefined ? Number.POSITIVE_INFINITY : await probe(peer));
  const group = shortest >= GROUP_MS ? 1 : Math.ceil(GROUP_MS / Math.max(shortest, GROUP_MS / 100));
  const options: MeasureOptions = longest > LONG_MS ? { rounds: 9, roundMs: 1, calls: 2 } : {};
  const comparison = await compare(grouped(ours, group), peer && grouped(peer, group), options);
  return group === 1 ? comparison : perCall(comparison, group);
}

const NOTHING: Comparison = { ours: { median: Number.NaN, spread: Number.NaN, best: Number.NaN } };

async function outputsOf(ready: Ready, work: Work): Promise<Record<string, Output>> {
  let outputs = work.call === 'async' ? await ready.run(work.inputs) : ready.runSync(work.inputs);
  if ((work.call ?? 'into') === 'into') {
    outputs = mapValues(outputs, tensor => tensor.clone());
    for (const tensor of Object.values(outputs)) tensor.bytes().fill(0);
    ready.runInto(work.inputs, outputs);
  }
  return mapValues(outputs, tensor => ({
    data: tensor.elements() as ArrayLike<number | bigint>,
    shape: tensor.shape,
  }));
}

async function peerOutputs(
  session: OnnxSession,
  feeds: Readonly<Record<string, unknown>>,
): Promise<Record<string, Output>> {
  return mapValues(await session.run(feeds), ({ data, dims }) => ({ data, shape: dims }));
}

function referenceOutputs(work: Work): Record<string, Output> {
  using reference = openReference(parseModel(work.bytes), work.bytes);
  return mapValues(reference.runSync(work.inputs), tensor => ({
    data: tensor.elements() as ArrayLike<number | bigint>,
    shape: tensor.shape,
  }));
}

function rowOf(work: Work, ort: OnnxRuntime | undefined, comparison: Comparison): Row {
  const { suite, rate, holdTo } = work;
  const head = {
    suite,
    case: work.case,
    threads: 1,
    peerName: ort?.name ?? 'onnxruntime-node',
    ...(holdTo !== undefined && { holdTo }),
  };
  const row =
    rate === undefined
      ? latencyRow(head, comparison)
      : rateRow({ ...head, unit: rate.unit, workPerCall: rate.perCall }, comparison);
  const note = [work.note, outOfReach(row, work.ceiling)].filter(part => part !== undefined).join('; ');
  return note === '' ? row : { ...row, note };
}

/** Says so where the rival is too near to the peak of the machine for the ratio that a row is held to. */
function outOfReach({ peer, holdTo }: Row, ceiling: number | undefined): string | undefined {
  if (ceiling === undefined || peer === null || holdTo?.ratio === undefined || peer * holdTo.ratio <= ceiling)
    return undefined;
  const most = formatRatio(ceiling / peer);
  return `the rival is at ${Math.round((100 * peer) / ceiling)}% of the measured peak, which leaves ${most} at most`;
}

/** The shortest of three calls after one that warms up, in milliseconds. */
async function probe({ run }: Subject): Promise<number> {
  await run();
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 3; i++) {
    const start = performance.now();
    await run();
    best = Math.min(best, performance.now() - start);
  }
  return best;
}

function grouped({ run, async = false }: Subject, times: number): Subject {
  if (times === 1) return { run, async };
  if (!async) {
    return {
      run: () => {
        for (let i = 0; i < times; i++) run();
      },
    };
  }
  return {
    run: async () => {
      for (let i = 0; i < times; i++) await run();
    },
    async,
  };
}

function perCall({ ours, peer, ratio, added }: Comparison, group: number): Comparison {
  const one = ({ median, spread, best }: Comparison['ours']) => ({
    median: median / group,
    spread: spread / group,
    best: best / group,
  });
  return {
    ours: one(ours),
    ...(peer && { peer: one(peer) }),
    ...(ratio !== undefined && { ratio }),
    ...(added !== undefined && { added: added / group }),
  };
}

function mapValues<A, B>(record: Readonly<Record<string, A>>, change: (value: A) => B): Record<string, B> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, change(value)]));
}
