/**
 * Requests joined along the first dimension of their inputs, and the outputs taken apart again.
 * @module
 */
import { CloisterError } from '../../base/index.ts';
import {
  type ArrayOf,
  type DType,
  elementCount,
  formatShape,
  newArray,
  sameShape,
  Tensor,
} from '../../tensor/index.ts';
import type { NamedTensors } from '../backend.ts';

/** What makes requests joinable, and how many rows one has. */
export interface Rows {
  /** Equal for inputs that agree in names, dtypes, and every dimension but the first. */
  readonly form: string;
  readonly rows: number;
}

/** The rows of `inputs`; undefined where they have no common first dimension, or it is 0. */
export function rowsOf(inputs: NamedTensors): Rows | undefined {
  let rows: number | undefined;
  const forms: string[] = [];
  for (const name of Object.keys(inputs)) {
    const tensor = inputs[name];
    if (!(tensor instanceof Tensor)) return undefined;
    const first = tensor.shape[0];
    if (first === undefined || first === 0 || (rows !== undefined && rows !== first)) return undefined;
    rows = first;
    // Names are the model's, and may hold anything.
    forms.push(`${JSON.stringify(name)} ${tensor.dtype} ${tensor.shape.slice(1)}`);
  }
  if (rows === undefined) return undefined;
  return { form: forms.length === 1 ? forms[0]! : forms.sort().join(';'), rows };
}

/** The inputs of requests of one form as those of one run: the rows of each behind those of the one before. Copies. */
export function joinRows(requests: readonly NamedTensors[]): NamedTensors {
  const joined: Record<string, Tensor> = Object.create(null) as Record<string, Tensor>;
  for (const name of Object.keys(requests[0]!)) {
    const parts = requests.map(inputs => inputs[name]!);
    const { dtype, shape } = parts[0]!;
    const rows = parts.reduce((sum, part) => sum + part.shape[0]!, 0);
    const whole = [rows, ...shape.slice(1)];
    const data = newArray(dtype, elementCount(whole));
    let at = 0;
    for (const part of parts) {
      put(data, part.elements(), at);
      at += part.size;
    }
    joined[name] = Tensor.from(dtype, whole, data);
  }
  return joined;
}

/**
 * The outputs of a joined run for each of its requests. Copies: no request holds a view of the rows of another.
 *
 * @param rows - Of each request, in the order in which they were joined.
 * @throws {CloisterError} `SHAPE_MISMATCH` when an output does not have one row for each row of the inputs.
 */
export function splitRows(outputs: NamedTensors, rows: readonly number[]): NamedTensors[] {
  const total = rows.reduce((sum, count) => sum + count, 0);
  const parts = rows.map((): [string, Tensor][] => []);
  for (const [name, tensor] of Object.entries(outputs)) {
    if (tensor.shape[0] !== total) {
      const message = `output ${name}: expected ${total} rows for a batch of ${total}, got shape ${formatShape(tensor.shape)}`;
      throw new CloisterError('SHAPE_MISMATCH', message, { shape: [...tensor.shape], rows: total });
    }
    let start = 0;
    rows.forEach((count, i) => {
      parts[i]!.push([name, tensor.slice({ axis: 0, start, end: start + count }).clone()]);
      start += count;
    });
  }
  return parts.map(entries => Object.fromEntries(entries));
}

/** How far outputs of a batch may lie from those of a request alone: sums may be taken in another order. */
const RELATIVE = 1e-3;
const ABSOLUTE = 1e-5;

/** Whether two runs on the same inputs gave the same, but for rounding. */
export function agree(a: NamedTensors, b: NamedTensors): boolean {
  const names = Object.keys(a);
  return (
    names.length === Object.keys(b).length && names.every(name => Object.hasOwn(b, name) && near(a[name]!, b[name]!))
  );
}

function near(a: Tensor, b: Tensor): boolean {
  if (a.dtype !== b.dtype || !sameShape(a.shape, b.shape)) return false;
  const others = b.values();
  return a.values().every((value, i) => {
    const other = others[i]!;
    if (Object.is(value, other)) return true;
    if (typeof value !== 'number' || typeof other !== 'number') return false;
    if (!Number.isFinite(value) || !Number.isFinite(other)) return false;
    return Math.abs(value - other) <= ABSOLUTE + RELATIVE * Math.max(Math.abs(value), Math.abs(other));
  });
}

function put(target: ArrayOf<DType>, elements: ArrayOf<DType>, at: number): void {
  if (Array.isArray(target)) for (let i = 0; i < elements.length; i++) target[at + i] = elements[i] as string;
  else (target as Uint8Array).set(elements as Uint8Array, at);
}
