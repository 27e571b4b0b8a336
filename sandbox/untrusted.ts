/**
 * Reading what a guest or a worker said: everything it says is a claim until it was checked here.
 * @module
 */
import { CloisterError, type ErrorCode, errorFromJson } from '../src/base/index.ts';
import type { MemoryReport, Profile, ProfiledNode, ProfiledOperator } from '../src/engine/index.ts';
import type { Dim } from '../src/graph/index.ts';
import { DTYPES, type DType } from '../src/tensor/index.ts';

/** A value of a model, as far as it is known before a run. */
export interface ValueSummary {
  readonly name: string;
  readonly dtype: DType;
  /** A name stands for a size that the inputs fix. */
  readonly shape: readonly Dim[];
  /** For an output that stands for a map in each row: what each column is called, see `toMaps`. */
  readonly labels?: readonly (string | number)[];
}

/** One node of a model's graph. */
export interface NodeSummary {
  /** The name in the file, or `Op#index`. */
  readonly name: string;
  /** As in {@link ModelSummary.operators}. */
  readonly op: string;
  readonly outputs: readonly ValueSummary[];
}

/** What a model is, as the guest read it out of the file. Checked for form, not for truth: the file's author wrote it. */
export interface ModelSummary {
  /** The name in the file, or the empty string. */
  readonly name: string;
  /** Bytes of the model file. */
  readonly bytes: number;
  readonly inputs: readonly ValueSummary[];
  readonly outputs: readonly ValueSummary[];
  /** How many nodes apply each operator, the most used first. Operators of a domain other than ONNX's are `domain::op`. */
  readonly operators: readonly { readonly op: string; readonly count: number }[];
  readonly nodes: number;
  /** The first {@link MAX_OUTLINE} nodes, in the order in which they run. */
  readonly outline: readonly NodeSummary[];
  /** Elements of all constants. */
  readonly parameters: number;
  /** Bytes of all constants. */
  readonly parameterBytes: number;
}

/** What a prepared model needs, in bytes, and where it runs. */
export interface ModelReport {
  readonly summary: ModelSummary;
  readonly backend: 'native' | 'reference';
  /** Why this backend and not the other. */
  readonly why: string;
  readonly memory: MemoryReport;
}

/** What the activations of a model need in memory, where all its sizes are known. */
export interface ArenaSummary {
  readonly peakBytes: number;
  /** What no placement can go below. */
  readonly lowerBoundBytes: number;
  /** Values whose size depends on elements, so that no plan knows it. */
  readonly unplanned: number;
}

/** What one pass did to a model's graph. */
export interface PassSummary {
  readonly pass: string;
  readonly group: 'declutter' | 'lower';
  readonly nodesBefore: number;
  readonly nodesAfter: number;
  readonly rewrites: number;
  /** As the guest measured it, in steps of its clock. */
  readonly milliseconds: number;
}

/** What the passes did to a model's graph, and what is then needed to run it. */
export interface Optimisation {
  readonly passes: readonly PassSummary[];
  /** Undefined where a size of an input is open. */
  readonly arena: ArenaSummary | undefined;
}

/** Labels that one output may have. */
export const MAX_LABELS = 16_384;
/** Nodes that a summary lists. */
export const MAX_OUTLINE = 512;
const MAX_LIST = 100_000;
const MAX_RANK = 16;

/** Codes that a guest may report about itself and its model. Any other is a guest that lies. */
const GUEST_CODES: ReadonlySet<ErrorCode> = new Set([
  'INVALID_ARGUMENT',
  'INVALID_MODEL',
  'MODEL_TOO_LARGE',
  'UNSUPPORTED_MODEL',
  'INVALID_GRAPH',
  'SHAPE_MISMATCH',
  'DTYPE_MISMATCH',
  'INPUT_MISMATCH',
  'INVALID_PROGRAM',
  'OUT_OF_MEMORY',
  'LIMIT_EXCEEDED',
  'GUEST_FAILED',
  'MISSING_DEPENDENCY',
  'CLOSED',
]);

/** Whether `value` is an object with names, not an array. */
export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * Whether `value` is text that is safe to print and to compare: at most 1,000 characters, well formed, and without control
 * characters or overrides of the writing direction, which could make a terminal or a reader see another text. `__proto__` is
 * not: it is no key for a record of tensors.
 */
export function isSafeName(value: unknown): value is string {
  const unsafe = /[\p{Cc}\p{Bidi_Control}\u2028\u2029]/u;
  if (typeof value !== 'string' || value === '__proto__') return false;
  return value.length <= 1_000 && value.isWellFormed() && !unsafe.test(value);
}

/** The error of an answer that is not of the agreed form. */
export function refuseGuest(where: string, expected: string, came: unknown): CloisterError {
  const shown = typeof came === 'object' && came !== null ? 'an object' : String(came).slice(0, 40);
  return new CloisterError('GUEST_FAILED', `${where}: expected ${expected}, the guest said ${JSON.stringify(shown)}`);
}

/** The error that a guest reported, cut to what a guest may say. */
export function guestError(value: unknown): CloisterError {
  const error = errorFromJson(value, 'GUEST_FAILED');
  const detail = JSON.stringify(error.detail).length <= 16_384 ? error.detail : {};
  const code = GUEST_CODES.has(error.code) ? error.code : 'GUEST_FAILED';
  return new CloisterError(code, printable(error.message), detail);
}

/** `text` with everything that is not printable replaced by U+FFFD. */
export function printable(text: string): string {
  return text.toWellFormed().replace(/[^\P{Cc}\n]|\p{Bidi_Control}/gu, '\ufffd');
}

/**
 * Returns `value` as a summary, every field checked.
 *
 * @throws {CloisterError} `GUEST_FAILED` at the first field that is not of its form.
 */
export function parseSummary(value: unknown): ModelSummary {
  if (!isRecord(value)) throw refuseGuest('summary', 'an object', value);
  const operators = list(value['operators'], 'summary.operators').map(item => {
    if (!isRecord(item)) throw refuseGuest('summary.operators', 'an object', item);
    return Object.freeze({
      op: text(item['op'], 'summary.operators.op'),
      count: count(item['count'], 'summary.operators.count'),
    });
  });
  const outline = list(value['outline'], 'summary.outline').map(item => {
    if (!isRecord(item)) throw refuseGuest('summary.outline', 'an object', item);
    return Object.freeze({
      name: text(item['name'], 'summary.outline.name'),
      op: text(item['op'], 'summary.outline.op'),
      outputs: values(item['outputs'], 'summary.outline.outputs'),
    });
  });
  return Object.freeze({
    name: text(value['name'], 'summary.name'),
    bytes: count(value['bytes'], 'summary.bytes'),
    inputs: values(value['inputs'], 'summary.inputs'),
    outputs: values(value['outputs'], 'summary.outputs'),
    operators: Object.freeze(operators),
    nodes: count(value['nodes'], 'summary.nodes'),
    outline: Object.freeze(outline),
    parameters: count(value['parameters'], 'summary.parameters'),
    parameterBytes: count(value['parameterBytes'], 'summary.parameterBytes'),
  });
}

/**
 * Returns `value` as a model's report, every field checked.
 *
 * @throws {CloisterError} `GUEST_FAILED` at the first field that is not of its form.
 */
export function parseReport(value: unknown): ModelReport {
  if (!isRecord(value)) throw refuseGuest('report', 'an object', value);
  const { backend, memory } = value;
  if (backend !== 'native' && backend !== 'reference')
    throw refuseGuest('report.backend', 'native or reference', backend);
  if (!isRecord(memory)) throw refuseGuest('report.memory', 'an object', memory);
  return Object.freeze({
    summary: parseSummary(value['summary']),
    backend,
    why: text(value['why'], 'report.why'),
    memory: Object.freeze({
      permanentBytes: count(memory['permanentBytes'], 'report.memory.permanentBytes'),
      temporaryBytes: count(memory['temporaryBytes'], 'report.memory.temporaryBytes'),
      scratchBytes: count(memory['scratchBytes'], 'report.memory.scratchBytes'),
      portBytes: count(memory['portBytes'], 'report.memory.portBytes'),
      blockBytes: count(memory['blockBytes'], 'report.memory.blockBytes'),
    }),
  });
}

/** Reads a list of at most 4,096 value descriptions with distinct names. */
function values(value: unknown, where: string): readonly ValueSummary[] {
  const items = list(value, where);
  const names = new Set<string>();
  if (items.length > 4_096) throw refuseGuest(where, 'at most 4096 values', items.length);
  return Object.freeze(
    items.map(item => {
      if (!isRecord(item)) throw refuseGuest(where, 'an object', item);
      const name = text(item['name'], `${where}.name`);
      if (names.has(name)) throw refuseGuest(where, 'distinct names', name);
      names.add(name);
      const dtype = item['dtype'];
      if (typeof dtype !== 'string' || !Object.hasOwn(DTYPES, dtype))
        throw refuseGuest(`${where}.dtype`, 'a dtype', dtype);
      const shape = list(item['shape'], `${where}.shape`);
      if (shape.length > MAX_RANK) throw refuseGuest(`${where}.shape`, `at most ${MAX_RANK} dimensions`, shape.length);
      for (const dim of shape) if (!isSafeName(dim)) count(dim, `${where}.shape`);
      const labels = item['labels'] === undefined ? {} : { labels: labelsOf(item['labels'], shape, where) };
      return Object.freeze({ name, dtype: dtype as DType, shape: Object.freeze(shape as Dim[]), ...labels });
    }),
  );
}

/** One label for each column of the last axis. */
function labelsOf(value: unknown, shape: readonly unknown[], where: string): readonly (string | number)[] {
  const labels = list(value, `${where}.labels`);
  const width = shape.at(-1);
  const fits = shape.length >= 1 && shape.length <= 2 && (typeof width !== 'number' || width === labels.length);
  if (!fits || labels.length > MAX_LABELS) throw refuseGuest(`${where}.labels`, 'one for each column', labels.length);
  for (const label of labels) {
    if (!isSafeName(label) && !Number.isSafeInteger(label)) throw refuseGuest(`${where}.labels`, 'a label', label);
  }
  return Object.freeze(labels as (string | number)[]);
}

/**
 * Returns `value` as what the passes did, every field checked.
 *
 * @throws {CloisterError} `GUEST_FAILED` at the first field that is not of its form.
 */
export function parseOptimisation(value: unknown): Optimisation {
  if (!isRecord(value)) throw refuseGuest('passes', 'an object', value);
  const rows = list(value['passes'], 'passes');
  if (rows.length > 1_000) throw refuseGuest('passes', 'at most 1000 passes', rows.length);
  const passes = rows.map(row => {
    if (!isRecord(row)) throw refuseGuest('passes', 'an object', row);
    const { group } = row;
    if (group !== 'declutter' && group !== 'lower') throw refuseGuest('passes.group', 'declutter or lower', group);
    return Object.freeze({
      pass: text(row['pass'], 'passes.pass'),
      group: group as PassSummary['group'],
      nodesBefore: count(row['nodesBefore'], 'passes.nodesBefore'),
      nodesAfter: count(row['nodesAfter'], 'passes.nodesAfter'),
      rewrites: count(row['rewrites'], 'passes.rewrites'),
      milliseconds: duration(row['milliseconds'], 'passes.milliseconds'),
    });
  });
  const { arena } = value;
  if (arena === undefined) return Object.freeze({ passes: Object.freeze(passes), arena });
  if (!isRecord(arena)) throw refuseGuest('arena', 'an object', arena);
  const sizes = Object.freeze({
    peakBytes: count(arena['peakBytes'], 'arena.peakBytes'),
    lowerBoundBytes: count(arena['lowerBoundBytes'], 'arena.lowerBoundBytes'),
    unplanned: count(arena['unplanned'], 'arena.unplanned'),
  });
  return Object.freeze({ passes: Object.freeze(passes), arena: sizes });
}

/**
 * Returns `value` as a profile of `runs` runs, every field checked.
 *
 * @throws {CloisterError} `GUEST_FAILED` at the first field that is not of its form.
 */
export function parseProfile(value: unknown, runs: number): Profile {
  if (!isRecord(value)) throw refuseGuest('profile', 'an object', value);
  if (value['runs'] !== runs) throw refuseGuest('profile.runs', `${runs}`, value['runs']);
  const nodes = list(value['nodes'], 'profile.nodes').map((node): ProfiledNode => {
    if (!isRecord(node)) throw refuseGuest('profile.nodes', 'an object', node);
    return Object.freeze({
      name: text(node['name'], 'profile.nodes.name'),
      op: text(node['op'], 'profile.nodes.op'),
      outputs: text(node['outputs'], 'profile.nodes.outputs'),
      startMs: duration(node['startMs'], 'profile.nodes.startMs'),
      lastMs: duration(node['lastMs'], 'profile.nodes.lastMs'),
      totalMs: duration(node['totalMs'], 'profile.nodes.totalMs'),
    });
  });
  const operators = list(value['operators'], 'profile.operators').map((row): ProfiledOperator => {
    if (!isRecord(row)) throw refuseGuest('profile.operators', 'an object', row);
    return Object.freeze({
      op: text(row['op'], 'profile.operators.op'),
      nodes: count(row['nodes'], 'profile.operators.nodes'),
      totalMs: duration(row['totalMs'], 'profile.operators.totalMs'),
    });
  });
  return Object.freeze({
    runs,
    totalMs: duration(value['totalMs'], 'profile.totalMs'),
    nodes: Object.freeze(nodes),
    operators: Object.freeze(operators),
  });
}

/** Milliseconds, not negative, of at most a day. */
function duration(value: unknown, where: string): number {
  if (typeof value !== 'number' || !(value >= 0 && value <= 86_400_000))
    throw refuseGuest(where, 'milliseconds', value);
  return value;
}

function list(value: unknown, where: string): readonly unknown[] {
  if (!Array.isArray(value) || value.length > MAX_LIST) throw refuseGuest(where, 'a list', value);
  return value;
}

function text(value: unknown, where: string): string {
  if (!isSafeName(value)) throw refuseGuest(where, 'printable text of at most 1000 characters', value);
  return value;
}

/** A non-negative safe integer. */
export function count(value: unknown, where: string): number {
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw refuseGuest(where, 'a count', value);
  return value as number;
}
