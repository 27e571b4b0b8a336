/**
 * Inputs against a model's summary: the check that comes before any work.
 * @module
 */
import { CloisterError } from '../src/base/index.ts';
import type { NamedTensors } from '../src/engine/index.ts';
import { bindSizes, evaluateDim } from '../src/graph/dimension.ts';
import { Tensor } from '../src/tensor/index.ts';
import type { ValueSummary } from './untrusted.ts';

/** Sizes of a model's symbolic dimensions, by name. */
export type Dims = Readonly<Record<string, number>>;

/**
 * Checks that `inputs` are exactly those of the model, and returns the sizes that they give to its symbolic dimensions.
 *
 * @throws {CloisterError} `INPUT_MISMATCH` on a missing or unknown input; `DTYPE_MISMATCH`; `SHAPE_MISMATCH` on another rank or
 *   size, or when two inputs give one dimension two sizes.
 */
export function bindInputs(values: readonly ValueSummary[], inputs: NamedTensors): Dims {
  const given = Object.keys(inputs);
  const expected = values.map(value => value.name);
  for (const name of given) {
    if (!expected.includes(name)) {
      const message = `the model has no input ${JSON.stringify(name)}; its inputs are ${expected.join(', ') || 'none'}`;
      throw new CloisterError('INPUT_MISMATCH', message, { unknown: name, expected });
    }
  }
  for (const { name, dtype, shape } of values) {
    const tensor = Object.hasOwn(inputs, name) ? inputs[name] : undefined;
    if (!(tensor instanceof Tensor)) {
      const came = tensor === undefined ? 'nothing' : 'something else';
      const message = `input ${JSON.stringify(name)}: expected a ${dtype} tensor [${shape.join(',')}], got ${came}`;
      throw new CloisterError('INPUT_MISMATCH', message, { missing: name, expected });
    }
    if (tensor.dtype !== dtype) {
      const message = `input ${JSON.stringify(name)}: expected ${dtype}, got ${tensor.dtype}`;
      throw new CloisterError('DTYPE_MISMATCH', message, { input: name, expected: dtype, got: tensor.dtype });
    }
  }
  const pairs = values.map(({ name, shape }) => ({ declared: shape, actual: inputs[name]!.shape }));
  const { sizes, conflict } = bindSizes(pairs);
  if (conflict !== undefined) {
    const { name } = values[conflict]!;
    const { declared, actual } = pairs[conflict]!;
    const message = `input ${JSON.stringify(name)}: expected [${declared.join(',')}], got [${actual.join(',')}]`;
    throw new CloisterError('SHAPE_MISMATCH', message, { input: name, expected: [...declared], got: [...actual] });
  }
  return sizes;
}

/**
 * Checks that `outputs`, which came from a guest or worker, are the outputs that the summary promised.
 *
 * @throws {CloisterError} `GUEST_FAILED` when one is missing, unknown, or of another dtype, rank or size.
 */
export function assertOutputs(values: readonly ValueSummary[], outputs: NamedTensors, dims: Dims): void {
  const fits =
    Object.keys(outputs).length === values.length &&
    values.every(({ name, dtype, shape }) => {
      const tensor = outputs[name];
      if (tensor === undefined || tensor.dtype !== dtype || tensor.shape.length !== shape.length) return false;
      return shape.every((dim, i) => {
        const size = evaluateDim(dim, dims);
        return size === undefined || size === tensor.shape[i];
      });
    });
  if (!fits) throw new CloisterError('GUEST_FAILED', 'the outputs are not those that the model declares');
}

/** One spelling for one set of sizes. */
export function dimsKey(dims: Dims): string {
  return Object.keys(dims)
    .sort()
    .map(name => `${JSON.stringify(name)}:${dims[name]}`)
    .join();
}
