import { type Graph, GraphBuilder, type ValueId } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';

/** Numbers from -1/2 to 1/2, the same for the same seed. */
export function numbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32 - 0.5;
  };
}

/** Builds a small model from pieces that each take a value and give one. */
export class Pieces {
  readonly b: GraphBuilder;
  readonly #next: () => number;
  #count = 0;

  constructor(name: string, seed: number) {
    this.b = new GraphBuilder(name, { opset: 20 });
    this.#next = numbers(seed);
  }

  input(...shape: readonly (number | string)[]): ValueId {
    return this.b.input('x', { dtype: 'f32', shape });
  }

  weights(shape: readonly number[], size: number): ValueId {
    const count = shape.reduce((all, extent) => all * extent, 1);
    const values = Float32Array.from({ length: count }, () => this.#next() * size);
    return this.b.constant(`w${this.#count++}`, Tensor.from('f32', shape, values));
  }

  /** Variances. */
  positive(size: number): ValueId {
    return this.b.constant(
      `w${this.#count++}`,
      Tensor.from(
        'f32',
        [size],
        Float32Array.from({ length: size }, () => this.#next() + 1),
      ),
    );
  }

  node(op: string, inputs: readonly ValueId[], attributes: Record<string, number | number[] | string> = {}): ValueId {
    return this.b.node({ op, inputs, attributes })[0]!;
  }

  square(x: ValueId): ValueId {
    return this.node('Mul', [x, x]);
  }

  dense(x: ValueId, from: number, to: number): ValueId {
    return this.node('Gemm', [x, this.weights([to, from], 2 / Math.sqrt(from)), this.weights([to], 0.4)], {
      transB: 1,
    });
  }

  conv(
    x: ValueId,
    from: number,
    to: number,
    kernel: number,
    attributes: Record<string, number | number[]> = {},
  ): ValueId {
    const size = 2 / (Math.sqrt(from) * kernel);
    return this.node('Conv', [x, this.weights([to, from, kernel, kernel], size), this.weights([to], 0.4)], attributes);
  }

  build(y: ValueId): Graph {
    this.b.output(y);
    return this.b.build();
  }
}

/** No file behind the graph. */
export const NO_FILE = {
  read(): never {
    throw new RangeError('the model has no file');
  },
};
