/**
 * Where the time of a run goes: node by node, as a table for people and as a trace for a viewer.
 * @module
 */
import { CloisterError } from '../base/index.ts';
import type { Facts } from '../graph/index.ts';
import { formatShape } from '../tensor/index.ts';
import type { Executable, NamedTensors, NodeEvent } from './backend.ts';

/** What {@link profileRun} needs and may be told. */
export interface ProfileOptions {
  /** Milliseconds from any start, with fractions: `() => performance.now()`. */
  readonly now: () => number;
  /** Runs that are measured, after one that is not. Default 1. */
  readonly runs?: number;
  /** The executable has run before: all runs are measured. */
  readonly warm?: boolean;
  /** Stops between two runs. */
  readonly signal?: AbortSignal;
  /** Called after each measured run. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** One node over all measured runs. */
export interface ProfiledNode {
  readonly name: string;
  /** With its domain, where that is not the default one. */
  readonly op: string;
  /** What it computed in the last run, for people: `f32[1,10]`. */
  readonly outputs: string;
  /** When it began in the last run, in milliseconds from the start of that run. */
  readonly startMs: number;
  /** Milliseconds of the last run. */
  readonly lastMs: number;
  /** Milliseconds of all runs together. */
  readonly totalMs: number;
}

/** All nodes of one operator. */
export interface ProfiledOperator {
  readonly op: string;
  readonly nodes: number;
  readonly totalMs: number;
}

/** What {@link profileRun} measured. */
export interface Profile {
  readonly runs: number;
  /** Milliseconds of all runs together, what lies between the nodes included. */
  readonly totalMs: number;
  /** In the order of the run. */
  readonly nodes: readonly ProfiledNode[];
  /** The most expensive first. */
  readonly operators: readonly ProfiledOperator[];
}

/**
 * Runs `executable` and measures each node.
 *
 * @throws {CloisterError} `UNSUPPORTED_MODEL` when the executable tells of no nodes, as one that runs a native program in one call;
 *   `INVALID_ARGUMENT` when `runs` is no positive integer; whatever the run throws; `ABORTED`.
 * @example
 * ```ts
 * const source = bytesSource(await readFile('digits.onnx'));
 * const model = referenceBackend.prepare(parseOnnx(source), { constants: source });
 * const image = Tensor.zeros('f32', [1, 1, 28, 28]);
 * const profile = profileRun(model, { image }, { now: () => performance.now(), runs: 3 });
 * profile.nodes.length; // 8
 * ```
 */
export function profileRun(executable: Executable, inputs: NamedTensors, options: ProfileOptions): Profile {
  const { now, signal } = options;
  const runs = options.runs ?? 1;
  if (!Number.isSafeInteger(runs) || runs < 1) {
    throw new CloisterError('INVALID_ARGUMENT', `runs: expected a positive integer, got ${runs}`);
  }
  const nodes: { name: string; op: string; outputs: string; startMs: number; lastMs: number; totalMs: number }[] = [];
  let runStart = 0;
  let started = 0;
  const onNode = ({ kind, node, index, outputs }: NodeEvent): void => {
    if (kind === 'start') {
      started = now();
      return;
    }
    const ended = now();
    const op = node.domain === '' ? node.op : `${node.domain}.${node.op}`;
    const row = nodes[index] ?? { name: node.name, op, outputs: '', startMs: 0, lastMs: 0, totalMs: 0 };
    nodes[index] = row;
    row.outputs = (outputs ?? []).map(formatFacts).join(' ');
    row.startMs = started - runStart;
    row.lastMs = ended - started;
    row.totalMs += row.lastMs;
  };
  if (!options.warm) executable.runSync(inputs);
  let totalMs = 0;
  for (let run = 0; run < runs; run++) {
    if (signal?.aborted) throw new CloisterError('ABORTED', 'profiling was cancelled', {}, { cause: signal.reason });
    runStart = now();
    executable.runSync(inputs, { onNode });
    totalMs += now() - runStart;
    options.onProgress?.(run + 1, runs);
  }
  if (nodes.length === 0) {
    throw new CloisterError(
      'UNSUPPORTED_MODEL',
      'this executable runs as one call: profile it on the reference backend',
    );
  }
  return { runs, totalMs, nodes, operators: sumByOperator(nodes) };
}

/**
 * Returns two profiles of the same executable as one: what was measured first, and what was measured after it.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when they have not the same nodes.
 * @example
 * ```ts
 * const node = { name: 'sum', op: 'Add', outputs: 'f32[2]', startMs: 0, lastMs: 2, totalMs: 2 };
 * const once = { runs: 1, totalMs: 3, nodes: [node], operators: [{ op: 'Add', nodes: 1, totalMs: 2 }] };
 * const twice = joinProfiles(once, once);
 * twice.operators; // [{ op: 'Add', nodes: 1, totalMs: 4 }]
 * ```
 */
export function joinProfiles(first: Profile, second: Profile): Profile {
  const same =
    first.nodes.length === second.nodes.length &&
    first.nodes.every(({ name, op }, i) => name === second.nodes[i]!.name && op === second.nodes[i]!.op);
  if (!same) throw new CloisterError('INVALID_ARGUMENT', 'the two profiles are of different nodes');
  const nodes = second.nodes.map((node, i) => ({ ...node, totalMs: first.nodes[i]!.totalMs + node.totalMs }));
  const totalMs = first.totalMs + second.totalMs;
  return { runs: first.runs + second.runs, totalMs, nodes, operators: sumByOperator(nodes) };
}

function sumByOperator(nodes: readonly ProfiledNode[]): readonly ProfiledOperator[] {
  const operators = new Map<string, ProfiledOperator>();
  for (const { op, totalMs } of nodes) {
    const row = operators.get(op) ?? { op, nodes: 0, totalMs: 0 };
    operators.set(op, { op, nodes: row.nodes + 1, totalMs: row.totalMs + totalMs });
  }
  return [...operators.values()].sort((a, b) => b.totalMs - a.totalMs);
}

/** One complete event of the Trace Event Format: times in microseconds. */
export interface TraceEvent {
  readonly name: string;
  readonly cat: string;
  readonly ph: 'X';
  readonly ts: number;
  readonly dur: number;
  readonly pid: 1;
  readonly tid: 1;
  readonly args: Readonly<Record<string, string>>;
}

/**
 * The last measured run as a trace that chrome://tracing and Perfetto open: one event per node, named by its operator.
 *
 * @see Trace Event Format, https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
 * @example
 * ```ts
 * const node = { name: 'sum', op: 'Add', outputs: 'f32[2]', startMs: 0.5, lastMs: 0.25, totalMs: 0.25 };
 * toTrace({ runs: 1, totalMs: 1, nodes: [node], operators: [] }).traceEvents[0]?.dur; // 250
 * ```
 */
export function toTrace(profile: Profile): { readonly traceEvents: readonly TraceEvent[] } {
  return {
    traceEvents: profile.nodes.map(({ name, op, outputs, startMs, lastMs }) => ({
      name: op,
      cat: 'node',
      ph: 'X',
      ts: startMs * 1000,
      dur: lastMs * 1000,
      pid: 1,
      tid: 1,
      args: { node: name, outputs },
    })),
  };
}

function formatFacts(facts: Facts | undefined): string {
  return facts ? `${facts.dtype}${formatShape(facts.shape)}` : '-';
}
