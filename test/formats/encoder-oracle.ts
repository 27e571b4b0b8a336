/** An encoder of the BERT family, written straight from its papers: loops over numbers in double precision, one token at a time. */
import type { Tensor } from '../../src/tensor/index.ts';

export type Matrix = readonly (readonly number[])[];

/** What the oracle needs to know of a model. */
export interface EncoderSizes {
  readonly vocabulary: number;
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  readonly wide: number;
  readonly positions: number;
  readonly types: number;
  readonly epsilon: number;
  readonly activation: (x: number) => number;
}

/** How the family calls the parts of a layer, in the order query, key, value, project, norm, widen, narrow, norm. */
export type LayerNames = (layer: number) => readonly [string, string, string, string, string, string, string, string];

export const BERT_NAMES: LayerNames = i => {
  const at = `encoder.layer.${i}`;
  return [
    `${at}.attention.self.query`,
    `${at}.attention.self.key`,
    `${at}.attention.self.value`,
    `${at}.attention.output.dense`,
    `${at}.attention.output.LayerNorm`,
    `${at}.intermediate.dense`,
    `${at}.output.dense`,
    `${at}.output.LayerNorm`,
  ];
};

export const DISTILBERT_NAMES: LayerNames = i => {
  const at = `transformer.layer.${i}`;
  return [
    `${at}.attention.q_lin`,
    `${at}.attention.k_lin`,
    `${at}.attention.v_lin`,
    `${at}.attention.out_lin`,
    `${at}.sa_layer_norm`,
    `${at}.ffn.lin1`,
    `${at}.ffn.lin2`,
    `${at}.output_layer_norm`,
  ];
};

/** The shapes of all tensors of an encoder. */
export function encoderShapes(sizes: EncoderSizes, names: LayerNames): Map<string, readonly number[]> {
  const { hidden, wide } = sizes;
  const shapes = new Map<string, readonly number[]>();
  const linear = (name: string, inputs: number, outputs: number): void => {
    shapes.set(`${name}.weight`, [outputs, inputs]);
    shapes.set(`${name}.bias`, [outputs]);
  };
  const norm = (name: string): void => {
    shapes.set(`${name}.weight`, [hidden]);
    shapes.set(`${name}.bias`, [hidden]);
  };
  shapes.set('embeddings.word_embeddings.weight', [sizes.vocabulary, hidden]);
  shapes.set('embeddings.position_embeddings.weight', [sizes.positions, hidden]);
  if (sizes.types > 0) shapes.set('embeddings.token_type_embeddings.weight', [sizes.types, hidden]);
  norm('embeddings.LayerNorm');
  for (let i = 0; i < sizes.layers; i++) {
    const [query, key, value, project, norm1, widen, narrow, norm2] = names(i);
    for (const name of [query, key, value, project]) linear(name, hidden, hidden);
    norm(norm1);
    linear(widen, hidden, wide);
    linear(narrow, wide, hidden);
    norm(norm2);
  }
  return shapes;
}

/** The mathematics, over weights that `weight` gives by name. */
export class EncoderOracle {
  readonly #sizes: EncoderSizes;
  readonly #names: LayerNames;
  readonly #weight: (name: string) => readonly number[];

  constructor(sizes: EncoderSizes, names: LayerNames, weights: ReadonlyMap<string, Tensor>) {
    this.#sizes = sizes;
    this.#names = names;
    const values = new Map<string, readonly number[]>();
    this.#weight = name => {
      const known = values.get(name) ?? weights.get(name)!.values().map(Number);
      values.set(name, known);
      return known;
    };
  }

  linear(x: readonly number[], name: string): readonly number[] {
    const bias = this.#weight(`${name}.bias`);
    return this.product(x, `${name}.weight`).map((sum, i) => sum + bias[i]!);
  }

  product(x: readonly number[], name: string): readonly number[] {
    const weight = this.#weight(name);
    const out: number[] = [];
    for (let i = 0; i < weight.length / x.length; i++) {
      let sum = 0;
      for (let j = 0; j < x.length; j++) sum += weight[i * x.length + j]! * x[j]!;
      out.push(sum);
    }
    return out;
  }

  norm(x: readonly number[], name: string): readonly number[] {
    const mean = x.reduce((sum, value) => sum + value, 0) / x.length;
    const variance = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / x.length;
    const [scale, shift] = [this.#weight(`${name}.weight`), this.#weight(`${name}.bias`)];
    return x.map((value, i) => ((value - mean) / Math.sqrt(variance + this.#sizes.epsilon)) * scale[i]! + shift[i]!);
  }

  activate(x: readonly number[]): readonly number[] {
    return x.map(this.#sizes.activation);
  }

  /** The states of the last layer for one sequence. `positions` and `types` index their tables. */
  states(
    ids: readonly number[],
    mask: readonly number[],
    positions: readonly number[],
    types: readonly number[] | undefined,
  ): Matrix {
    const { hidden, heads, layers } = this.#sizes;
    const row = (table: string, index: number): readonly number[] =>
      this.#weight(`embeddings.${table}_embeddings.weight`).slice(index * hidden, (index + 1) * hidden);
    let x: Matrix = ids.map((id, t) => {
      const [word, position] = [row('word', id), row('position', positions[t]!)];
      const type = types && row('token_type', types[t]!);
      return this.norm(
        word.map((value, i) => value + position[i]! + (type?.[i] ?? 0)),
        'embeddings.LayerNorm',
      );
    });
    const size = hidden / heads;
    for (let layer = 0; layer < layers; layer++) {
      const [query, key, value, project, norm1, widen, narrow, norm2] = this.#names(layer);
      const [q, k, v] = [query, key, value].map(name => x.map(token => this.linear(token, name)));
      x = x.map((token, t) => {
        const context: number[] = [];
        for (let head = 0; head < heads; head++) {
          const part = (vector: readonly number[]): readonly number[] => vector.slice(head * size, (head + 1) * size);
          const scores = k!.map((other, s) => {
            const dot = part(other).reduce((sum, value, i) => sum + value * part(q![t]!)[i]!, 0);
            return mask[s] === 0 ? Number.NEGATIVE_INFINITY : dot / Math.sqrt(size);
          });
          const top = Math.max(...scores);
          const shares = scores.map(score => Math.exp(score - top));
          const total = shares.reduce((sum, share) => sum + share, 0);
          for (let i = 0; i < size; i++) {
            context.push(shares.reduce((sum, share, s) => sum + (share / total) * part(v![s]!)[i]!, 0));
          }
        }
        const attended = this.norm(
          this.linear(context, project).map((value, i) => value + token[i]!),
          norm1,
        );
        const lowered = this.linear(this.activate(this.linear(attended, widen)), narrow);
        return this.norm(
          lowered.map((value, i) => value + attended[i]!),
          norm2,
        );
      });
    }
    return x;
  }
}

/** The error function by its Maclaurin series, to double precision for |x| < 4. */
export function erf(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; n < 200; n++) {
    term *= (-x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}
