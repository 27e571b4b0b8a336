/**
 * Outputs that the caller owns.
 * @module
 */
import { CloisterError } from '../base/index.ts';
import { type DType, formatShape, Tensor } from '../tensor/index.ts';
import type { NamedTensors } from './backend.ts';

/** What an output is to be. */
export interface OutputForm {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
}

/**
 * Checks that `outputs` are exactly `forms`, each a tensor of its dtype and shape, dense, over a buffer that is not shared.
 *
 * @throws {CloisterError} `INPUT_MISMATCH`, `DTYPE_MISMATCH`, `SHAPE_MISMATCH`.
 */
export function checkOutputs(forms: readonly OutputForm[], outputs: NamedTensors): void {
  let count = 0;
  for (const _ in outputs) count++;
  for (const { name, dtype, shape } of forms) {
    const tensor = Object.hasOwn(outputs, name) ? outputs[name] : undefined;
    if (!(tensor instanceof Tensor)) throw mismatch('INPUT_MISMATCH', name, 'a tensor', 'none');
    if (tensor.dtype !== dtype) throw mismatch('DTYPE_MISMATCH', name, dtype, tensor.dtype);
    if (tensor.shape.length !== shape.length || shape.some((size, i) => size !== tensor.shape[i])) {
      throw mismatch('SHAPE_MISMATCH', name, formatShape(shape), formatShape(tensor.shape));
    }
    if (!tensor.isContiguous || (dtype !== 'string' && !(tensor.buffer instanceof ArrayBuffer))) {
      throw mismatch('INPUT_MISMATCH', name, 'a dense tensor over an ArrayBuffer', 'another');
    }
  }
  if (count === forms.length) return;
  const names = forms.map(({ name }) => name).join(', ');
  throw new CloisterError('INPUT_MISMATCH', `expected one tensor for each output (${names}), got ${count}`);
}

/**
 * Copies `results` into `outputs`, for executors that cannot compute into them.
 *
 * @throws {CloisterError} As {@link checkOutputs}.
 */
export function fillOutputs(results: NamedTensors, outputs: NamedTensors): void {
  checkOutputs(
    Object.entries(results).map(([name, { dtype, shape }]) => ({ name, dtype, shape })),
    outputs,
  );
  for (const [name, result] of Object.entries(results)) {
    const target = outputs[name]!.elements() as { [i: number]: unknown };
    const source = result.elements() as ArrayLike<unknown>;
    for (let i = 0; i < source.length; i++) target[i] = source[i];
  }
}

function mismatch(
  code: 'INPUT_MISMATCH' | 'DTYPE_MISMATCH' | 'SHAPE_MISMATCH',
  output: string,
  expected: string,
  came: string,
): CloisterError {
  const message = `output ${JSON.stringify(output)}: expected ${expected}, got ${came}`;
  return new CloisterError(code, message, { output, expected, came });
}
