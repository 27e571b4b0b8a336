/**
 * Windows that taper a signal: HannWindow, HammingWindow, BlackmanWindow.
 * @module
 */
import { Tensor } from '../../../tensor/index.ts';
import { ONNX_DTYPES } from '../../element-types.ts';
import type { Facts } from '../../graph.ts';
import { define, type InferContext, int, NUMBERS, type Operator } from '../operator.ts';
import { singleValue } from './constant.ts';

function inferWindow(c: InferContext): readonly Facts[] {
  c.expect(0, ['i32', 'i64']);
  singleValue(c, 0);
  const code = c.number('output_datatype');
  const dtype = ONNX_DTYPES.get(code);
  if (!dtype || !NUMBERS.includes(dtype)) c.unsupported(`a window of element type ${code}`);
  const size = c.known(0)?.[0] ?? c.fresh();
  if (typeof size === 'number' && size < 0) c.fail(`a window of ${size} elements`);
  return [{ dtype, shape: [size] }];
}

/**
 * A sum of cosines: element n of a window of period N is the sum of `weights[k] * cos(2 * pi * k * n / N)`. A periodic window
 * repeats after its size, a symmetric one ends on the value that it began with.
 */
function window(name: string, weights: readonly number[]): Operator {
  return define(name, 'compute', {
    since: 17,
    inputs: [1, 1],
    outputs: [1, 1],
    attributes: { output_datatype: int(1), periodic: int(1) },
    infer: inferWindow,
    run: c => {
      const [size] = c.shape() as readonly [number];
      const period = c.number('periodic') === 0 ? size - 1 : size;
      const values = Tensor.zeros('f64', [size]);
      for (let n = 0; n < size; n++) {
        let sum = 0;
        for (const [k, weight] of weights.entries()) sum += weight * Math.cos((2 * Math.PI * k * n) / period);
        values.data[n] = sum;
      }
      return [values.cast(c.outputs[0]!.dtype)];
    },
  });
}

/** The operators of this file. */
export const SIGNAL_WINDOWS: readonly Operator[] = [
  window('HannWindow', [0.5, -0.5]),
  window('HammingWindow', [25 / 46, -21 / 46]),
  window('BlackmanWindow', [0.42, -0.5, 0.08]),
];
