/**
 * A network under construction: a graph builder with seeded weights, for the models that the benches make themselves.
 * @module
 */
import { type SeededRandom, seededRandom } from '../../examples/digits/random.ts';
import { type Attribute, type Dim, type Graph, GraphBuilder, type ValueId } from '../../src/graph/index.ts';
import { type DType, Tensor } from '../../src/tensor/index.ts';

/** Opset of the generated models: the last one that common exporters write by default. */
export const OPSET = 17;

/** Builds one graph. The same calls after the same seed give the same graph, to the bit. */
export class Network {
  readonly random: SeededRandom;
  readonly #builder: GraphBuilder;
  #constants = 0;

  constructor(name: string, seed: number) {
    this.random = seededRandom(seed);
    this.#builder = new GraphBuilder(name, { opset: OPSET });
  }

  /** Adds an input. */
  input(name: string, dtype: DType, shape: readonly Dim[]): ValueId {
    return this.#builder.input(name, { dtype, shape });
  }

  /** Adds a constant. */
  constant(tensor: Tensor): ValueId {
    return this.#builder.constant(`c${this.#constants++}`, tensor);
  }

  /** A constant float of no dimensions. */
  scalar(value: number): ValueId {
    return this.constant(Tensor.from('f32', [], Float32Array.of(value)));
  }

  /** A constant vector of sizes or axes. */
  sizes(...values: readonly number[]): ValueId {
    return this.constant(Tensor.from('i64', [values.length], BigInt64Array.from(values, BigInt)));
  }

  /** Constant weights, normal with standard deviation `sigma` around `mean`. */
  weights(shape: readonly number[], sigma: number, mean: number = 0): ValueId {
    return this.constant(normalTensor(this.random, shape, sigma, mean));
  }

  /** Adds a node of one output, and returns that. */
  add(
    op: string,
    inputs: readonly (ValueId | undefined)[],
    attributes: Readonly<Record<string, Attribute>> = {},
    options: { readonly domain?: string; readonly opset?: number; readonly output?: string } = {},
  ): ValueId {
    const { output, ...rest } = options;
    const spec = { op, inputs, attributes, ...rest, ...(output !== undefined && { outputs: [output] }) };
    return this.#builder.node(spec)[0]!;
  }

  /** The graph, with these outputs. */
  build(...outputs: readonly ValueId[]): Graph {
    for (const id of outputs) this.#builder.output(id);
    return this.#builder.build();
  }
}

/** A tensor of normal numbers. */
export function normalTensor(
  random: SeededRandom,
  shape: readonly number[],
  sigma: number = 1,
  mean: number = 0,
): Tensor<'f32'> {
  const length = shape.reduce((product, dim) => product * dim, 1);
  return Tensor.from(
    'f32',
    shape,
    Float32Array.from({ length }, () => mean + random.normal(sigma)),
  );
}

/** A tensor of uniform integers, `low` … `high` inclusive. */
export function integerTensor<D extends 'i8' | 'u8' | 'i64'>(
  random: SeededRandom,
  dtype: D,
  shape: readonly number[],
  low: number,
  high: number,
): Tensor {
  const length = shape.reduce((product, dim) => product * dim, 1);
  const next = (): number => low + random.below(high - low + 1);
  if (dtype === 'i64')
    return Tensor.from(
      'i64',
      shape,
      BigInt64Array.from({ length }, () => BigInt(next())),
    );
  if (dtype === 'i8') return Tensor.from('i8', shape, Int8Array.from({ length }, next));
  return Tensor.from('u8', shape, Uint8Array.from({ length }, next));
}
