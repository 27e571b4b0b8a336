/**
 * One node at a time: checked as part of a graph, then run by its reference kernel.
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';
import { type Attribute, type Facts, GraphBuilder, runNode } from '../../../src/graph/index.ts';
import { type DType, Tensor } from '../../../src/tensor/index.ts';

export interface NodeOptions {
  readonly attributes?: Readonly<Record<string, Attribute>>;
  readonly opset?: number;
  readonly domain?: string;
  /** How many outputs the node names; 1 where left out. */
  readonly outputs?: number;
}

export type Inputs = readonly (Tensor | undefined)[];

/** The outputs of `op` on these inputs. What inference says of each must be what comes; a size that it does not know may be any. */
export function run(op: string, inputs: Inputs, options: NodeOptions = {}): readonly Tensor[] {
  const { node, facts } = build(
    op,
    inputs.map(x => x && { dtype: x.dtype, shape: x.shape }),
    options,
  );
  const results = runNode(node, inputs).slice(0, facts.length);
  results.forEach((result, i) => {
    const { dtype, shape } = facts[i]!;
    const fits = (dim: number, axis: number): boolean => typeof shape[axis] === 'string' || shape[axis] === dim;
    if (result.dtype !== dtype || result.shape.length !== shape.length || !result.shape.every(fits)) {
      throw new Error(`${op}: output ${i} is ${result.dtype}[${result.shape}], not ${JSON.stringify(facts[i])}`);
    }
  });
  return results;
}

/** The facts that inference finds for the outputs. */
export function infer(op: string, inputs: readonly (Facts | undefined)[], options: NodeOptions = {}): readonly Facts[] {
  return build(op, inputs, options).facts;
}

function build(op: string, inputs: readonly (Facts | undefined)[], options: NodeOptions) {
  const b = new GraphBuilder('one');
  const ids = inputs.map((facts, i) => facts && b.input(`x${i}`, facts));
  const outputs = b.node({
    op,
    name: 'it',
    domain: options.domain ?? '',
    opset: options.opset ?? (options.domain ? 1 : 24),
    inputs: ids,
    outputs: Array.from({ length: options.outputs ?? 1 }, (_, i) => `y${i}`),
    attributes: options.attributes ?? {},
  });
  for (const id of outputs) b.output(id!);
  const graph = b.build();
  return { node: graph.nodes[0]!, facts: outputs.map(id => graph.values[id!]!.facts) };
}

/** `CODE: message` of the refusal, or `none`. */
export function refusal(of: () => unknown): string {
  try {
    of();
  } catch (error) {
    if (error instanceof CloisterError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'none';
}

/** Numbers in [-1, 1) that depend on `seed` only. */
export function random(seed: number, shape: readonly number[], dtype: DType = 'f64'): Tensor {
  let state = (seed * 2654435761 + 12345) >>> 0;
  const size = shape.reduce((product, dim) => product * dim, 1);
  const values = Float64Array.from({ length: size }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
  return Tensor.from('f64', shape, values).cast(dtype);
}

/** The elements of a tensor of floats. */
export function numbers(x: Tensor): readonly number[] {
  return x.values() as number[];
}

/** The largest distance between elements of two tensors of one shape. */
export function distance(a: Tensor, b: Tensor): number {
  if (a.shape.join() !== b.shape.join()) return Number.POSITIVE_INFINITY;
  const [x, y] = [numbers(a), numbers(b)];
  return x.reduce((most, value, i) => (Object.is(value, y[i]) ? most : Math.max(most, Math.abs(value - y[i]!))), 0);
}
