/**
 * Derivatives by differences: what a gradient is held against.
 * @module
 */
import { type Graph, type RunOptions, runGraph } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';

/**
 * The derivative of the one element of output `output` by every element of f64 input `index`, in row-major order, by a five-point
 * difference: where the graph is smooth within 0.002 of the input, it errs by about 1e-11 of the size of the result.
 */
export function centralDifference(
  graph: Graph,
  inputs: readonly Tensor[],
  index: number,
  output: number,
  options: RunOptions = {},
): number[] {
  const h = 1e-3;
  const base = inputs[index]!.contiguous();
  const at = (element: number, step: number): number => {
    const moved = Float64Array.from(base.elements() as Float64Array);
    moved[element] = moved[element]! + step;
    const tensors = inputs.with(index, Tensor.from('f64', base.shape, moved));
    return Number(runGraph(graph, tensors, options)[output]!.values()[0]);
  };
  return Array.from({ length: base.size }, (_, i) => {
    const near = at(i, h) - at(i, -h);
    const far = at(i, 2 * h) - at(i, -2 * h);
    return (8 * near - far) / (12 * h);
  });
}
