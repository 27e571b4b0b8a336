/**
 * The layout of the ONNX backend tests: `SUITE/CASE/model.onnx` with `test_data_set_N/{input,output}_M.pb` beside it.
 * @module
 */
import { type Dirent, readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { isCloisterError } from '../../src/base/index.ts';
import type { Backend, NamedTensors } from '../../src/engine/index.ts';
import { bytesSource, parseOnnx, parseTensorProto } from '../../src/formats/index.ts';
import type { Graph } from '../../src/graph/index.ts';
import { DTYPES, formatShape, sameShape, type Tensor } from '../../src/tensor/index.ts';

/** How far a float may be from the expected one: `|came - expected| <= absolute + relative * |expected|`. */
export interface Tolerance {
  readonly relative: number;
  readonly absolute: number;
}

/** The tolerance of the ONNX project's own runner. */
export const TOLERANCE: Tolerance = { relative: 1e-3, absolute: 1e-5 };

/** What became of one case. A refusal with `UNSUPPORTED_MODEL` is a skip; anything else that is not agreement is a failure. */
export type Outcome =
  | { readonly kind: 'passed' }
  | { readonly kind: 'failed'; readonly reason: string }
  | { readonly kind: 'skipped'; readonly reason: string; readonly operators: readonly string[] };

/** Every folder below `dir` that holds a `model.onnx`, by name, in order. */
export function findCases(dir: string): readonly { readonly name: string; readonly path: string }[] {
  const found: { name: string; path: string }[] = [];
  const walk = (path: string): void => {
    const entries: Dirent[] = readdirSync(path, { withFileTypes: true });
    if (entries.some(entry => entry.isFile() && entry.name === 'model.onnx')) {
      found.push({ name: relative(dir, path) || path, path });
      return;
    }
    for (const entry of entries) if (entry.isDirectory()) walk(join(path, entry.name));
  };
  walk(dir);
  return found.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Runs all data sets of the case in folder `path`. */
export function runCase(path: string, backend: Backend, tolerance: Tolerance = TOLERANCE): Outcome {
  try {
    const source = bytesSource(readFileSync(join(path, 'model.onnx')));
    const folders = dataSets(path);
    if (folders.length === 0) return { kind: 'failed', reason: 'there is no test_data_set_* folder' };
    const graph = parseOnnx(source);
    const executable = backend.prepare(graph, { constants: source });
    try {
      for (const folder of folders) {
        const inputs = namedTensors(folder, 'input', graph, graph.inputs);
        const expected = namedTensors(folder, 'output', graph, graph.outputs);
        if (Object.keys(expected).length === 0) return { kind: 'failed', reason: 'there is no expected output' };
        const came = executable.runSync(inputs);
        for (const [name, tensor] of Object.entries(expected)) {
          const reason = difference(came[name], tensor, tolerance);
          if (reason) return { kind: 'failed', reason: `${name}: ${reason}` };
        }
      }
    } finally {
      executable.close();
    }
    return { kind: 'passed' };
  } catch (error) {
    if (!isCloisterError(error)) return { kind: 'failed', reason: `threw ${String(error)}` };
    if (error.code !== 'UNSUPPORTED_MODEL') return { kind: 'failed', reason: `${error.code}: ${error.message}` };
    const operators = Array.isArray(error.detail['operators']) ? (error.detail['operators'] as string[]) : [];
    return { kind: 'skipped', reason: error.message, operators };
  }
}

/**
 * Says how `came` differs from `expected`, or returns undefined when it does not. Integers and bools must be equal; floats agree
 * within the tolerance, and NaN and infinities only with themselves.
 */
export function difference(came: Tensor | undefined, expected: Tensor, tolerance: Tolerance): string | undefined {
  if (!came) return 'is missing';
  if (came.dtype !== expected.dtype || !sameShape(came.shape, expected.shape)) {
    const want = `${expected.dtype}${formatShape(expected.shape)}`;
    return `expected ${want}, got ${came.dtype}${formatShape(came.shape)}`;
  }
  const exact = DTYPES[expected.dtype].kind !== 'float';
  const [have, want] = [came.values(), expected.values()];
  for (let i = 0; i < want.length; i++) {
    const [a, b] = [have[i]!, want[i]!];
    if (a === b || (Number.isNaN(a) && Number.isNaN(b))) continue;
    const near =
      !exact && Math.abs(Number(a) - Number(b)) <= tolerance.absolute + tolerance.relative * Math.abs(Number(b));
    // An infinite expectation makes the bound infinite too; only equality will do there.
    if (!near || !Number.isFinite(b)) return `element ${i}: expected ${b}, got ${a}`;
  }
  return undefined;
}

function dataSets(path: string): readonly string[] {
  return readdirSync(path)
    .filter(name => name.startsWith('test_data_set_'))
    .sort()
    .map(name => join(path, name));
}

/**
 * The tensors `kind_0.pb`, `kind_1.pb` … by the names that the graph has for them: their own where the graph knows it, else those of
 * their places.
 */
function namedTensors(folder: string, kind: 'input' | 'output', graph: Graph, ids: readonly number[]): NamedTensors {
  const names = ids.map(id => graph.values[id]!.name);
  const entries: [string, Tensor][] = [];
  const files = readdirSync(folder).filter(file => file.startsWith(`${kind}_`) && file.endsWith('.pb'));
  for (const file of files) {
    const { name, tensor } = parseTensorProto(bytesSource(readFileSync(join(folder, file))));
    const place = Number(file.slice(kind.length + 1, -3));
    if (names.includes(name)) entries.push([name, tensor]);
    else if (files.length === names.length) entries.push([names[place]!, tensor]);
  }
  return Object.fromEntries(entries);
}
