/**
 * Networks that are a list of layers: `model_type` `mlp` and `cnn`, a schema of our own. A configuration holds
 *
 * | field | meaning |
 * |---|---|
 * | `model_type` | `mlp` or `cnn` |
 * | `input.name`, `input.shape` | an f32 tensor, its sizes after the batch: one for `mlp`; (channels, rows, columns) for `cnn` |
 * | `output.name`, `output.labels` | both may be left out; the labels are of the columns of the result |
 * | `layers` | a list of objects, each with a `type` and the fields of that type |
 *
 * | type | fields (with what they are where left out) | tensors |
 * |---|---|---|
 * | `linear` | name, units, bias (true) | weight (units, inputs); bias (units) |
 * | `layer_norm` | name, epsilon (1e-5) | weight, bias (last size) |
 * | `batch_norm` | name, epsilon (1e-5) | weight, bias, running_mean, running_var (axis 1) |
 * | `activation` | function: relu, gelu, silu, sigmoid, tanh, softmax, log_softmax | |
 * | `dropout` | rate (0.5); does nothing here | |
 * | `conv2d`, of `cnn` | name, filters, kernel, stride (1), padding (0), dilation (1), groups (1), bias (true) | weight (filters, channels / groups, rows, columns); bias (filters) |
 * | `max_pool`, `average_pool`, of `cnn` | kernel, stride (the kernel), padding (0) | |
 * | `global_average_pool`, of `cnn` | leaves (channels) | |
 * | `flatten`, of `cnn` | all sizes after the batch as one | |
 *
 * Kernel, stride, padding and dilation are one number or (rows, columns). Pooling does not count what lies beyond the edge. Tensors are
 * called `NAME.weight` and so on, as PyTorch's `state_dict` calls them. Nothing is guessed: a field or a tensor that has no place here is
 * refused, but for the `num_batches_tracked` that PyTorch keeps.
 * @module
 */
import { CloisterError } from '../../base/index.ts';
import type { Attribute, Facts, GraphBuilder, ValueId } from '../../graph/index.ts';
import type { Fields } from './config.ts';
import type { Weights } from './weights.ts';

/** The model types of this schema. */
export const LAYERED: readonly string[] = ['mlp', 'cnn'];

const PLAIN = ['linear', 'layer_norm', 'batch_norm', 'activation', 'dropout'] as const;
const SPATIAL = ['conv2d', 'max_pool', 'average_pool', 'global_average_pool', 'flatten'] as const;
type LayerType = (typeof PLAIN)[number] | (typeof SPATIAL)[number];

const FUNCTIONS = {
  relu: ['Relu', {}],
  gelu: ['Gelu', {}],
  silu: ['Swish', {}],
  sigmoid: ['Sigmoid', {}],
  tanh: ['Tanh', {}],
  softmax: ['Softmax', { axis: 1 }],
  log_softmax: ['LogSoftmax', { axis: 1 }],
} as const satisfies Record<string, readonly [string, Readonly<Record<string, Attribute>>]>;

/** Adds the input, the layers and the output that `fields` describe. */
export function buildLayers(
  builder: GraphBuilder,
  weights: Weights,
  fields: Fields,
  { type, most }: { readonly type: string; readonly most: number },
): void {
  const input = fields.object('input');
  const shape = input.sizes('shape', { most: type === 'mlp' ? 1 : 3 });
  if (type === 'cnn' && shape.length !== 3) input.fail('shape', '3 sizes');
  const output = fields.has('output') ? fields.object('output') : undefined;
  const result = output?.text('name', 'output') ?? 'output';
  const labels = output?.texts('labels') ?? [];
  input.has('name');
  let x = builder.input(input.text('name', 'input'), { dtype: 'f32', shape: ['batch', ...shape] });
  const layers = fields.objects('layers', most);
  input.refuseOthers();
  output?.refuseOthers();
  fields.refuseOthers();
  const names = new Set<string>();
  const types: readonly LayerType[] = type === 'mlp' ? PLAIN : [...PLAIN, ...SPATIAL];
  layers.forEach((layer, i) => {
    x = new LayerDraft(builder, weights, layer, { names, label: `layers[${i}]` }).build(layer.choice('type', types), x);
    layer.refuseOthers();
  });
  const spare = weights.unused().filter(name => !name.endsWith('.num_batches_tracked'));
  if (spare.length > 0) {
    const shown = spare.slice(0, 5).map(name => JSON.stringify(name.slice(0, 80)));
    throw new CloisterError(
      'INVALID_MODEL',
      `${spare.length} tensors belong to no layer: ${shown.join(', ')}${spare.length > 5 ? ', …' : ''}`,
    );
  }
  const last = builder.node({ op: 'Identity', name: result, inputs: [x], outputs: [result] })[0]!;
  builder.output(last, labels.length > 0 ? { labels } : undefined);
}

/** One layer. */
class LayerDraft {
  readonly #b: GraphBuilder;
  readonly #weights: Weights;
  readonly #fields: Fields;
  readonly #names: Set<string>;
  /** What nodes of a layer without a name are called. */
  readonly #label: string;

  constructor(
    builder: GraphBuilder,
    weights: Weights,
    fields: Fields,
    { names, label }: { readonly names: Set<string>; readonly label: string },
  ) {
    this.#b = builder;
    this.#weights = weights;
    this.#fields = fields;
    this.#names = names;
    this.#label = label;
  }

  build(type: LayerType, x: ValueId): ValueId {
    const fields = this.#fields;
    switch (type) {
      case 'linear': {
        const { shape } = this.#facts(x, [2], 'one size after the batch; flatten comes before linear');
        const name = this.#name();
        const units = fields.size('units');
        const weight = this.#weights.take(`${name}.weight`, [units, shape[1]!]);
        const bias = this.#bias(name, units);
        return this.#node('Gemm', [x, weight, ...bias], name, { transB: 1 });
      }
      case 'conv2d':
        return this.#convolution(x);
      case 'layer_norm': {
        const size = this.#facts(x, [2], 'one size after the batch').shape[1]!;
        const name = this.#name();
        const inputs = ['weight', 'bias'].map(part => this.#weights.take(`${name}.${part}`, [size]));
        return this.#node('LayerNormalization', [x, ...inputs], name, {
          axis: -1,
          epsilon: fields.fraction('epsilon', 1e-5),
        });
      }
      case 'batch_norm': {
        const size = this.#facts(x, [2, 4], 'sizes after the batch').shape[1]!;
        const name = this.#name();
        const parts = ['weight', 'bias', 'running_mean', 'running_var'];
        const inputs = parts.map(part => this.#weights.take(`${name}.${part}`, [size]));
        return this.#node('BatchNormalization', [x, ...inputs], name, { epsilon: fields.fraction('epsilon', 1e-5) });
      }
      case 'activation': {
        const names = Object.keys(FUNCTIONS) as readonly (keyof typeof FUNCTIONS)[];
        const [op, attributes] = FUNCTIONS[fields.choice('function', names)];
        return this.#node(op, [x], this.#label, attributes);
      }
      case 'dropout':
        fields.fraction('rate', 0.5);
        return x;
      case 'max_pool':
      case 'average_pool': {
        this.#images(x);
        const kernel = this.#pair('kernel');
        const strides = fields.has('stride') ? this.#pair('stride') : kernel;
        const op = type === 'max_pool' ? 'MaxPool' : 'AveragePool';
        return this.#node(op, [x], this.#label, { kernel_shape: kernel, strides, pads: this.#pads() });
      }
      case 'global_average_pool': {
        this.#images(x);
        const means = this.#node('GlobalAveragePool', [x], this.#label);
        return this.#node('Flatten', [means], `${this.#label}.flat`, { axis: 1 });
      }
      case 'flatten':
        return this.#node('Flatten', [x], this.#label, { axis: 1 });
      default:
        return type satisfies never;
    }
  }

  #convolution(x: ValueId): ValueId {
    const fields = this.#fields;
    const channels = this.#images(x).shape[1]!;
    const name = this.#name();
    const filters = fields.size('filters');
    const groups = fields.size('groups', { absent: 1 });
    if (channels % groups !== 0 || filters % groups !== 0) {
      fields.fail('groups', `a divisor of ${channels} channels and ${filters} filters`);
    }
    const kernel = this.#pair('kernel');
    const weight = this.#weights.take(`${name}.weight`, [filters, channels / groups, ...kernel]);
    return this.#node('Conv', [x, weight, ...this.#bias(name, filters)], name, {
      kernel_shape: kernel,
      strides: this.#pair('stride', 1),
      dilations: this.#pair('dilation', 1),
      pads: this.#pads(),
      group: groups,
    });
  }

  #bias(name: string, size: number): readonly ValueId[] {
    return this.#fields.flag('bias', true) ? [this.#weights.take(`${name}.bias`, [size])] : [];
  }

  #pair(key: string, absent?: number): readonly number[] {
    return this.#fields.sizes(key, { most: 2, spread: true, ...(absent === undefined ? {} : { absent }) });
  }

  /** The same at both ends of an axis. */
  #pads(): readonly number[] {
    const [rows, columns] = this.#fields.sizes('padding', { least: 0, most: 2, spread: true, absent: 0 }) as [
      number,
      number,
    ];
    return [rows, columns, rows, columns];
  }

  /** The name of a layer that has weights: two layers cannot share them. */
  #name(): string {
    const name = this.#fields.text('name');
    if (this.#names.has(name)) this.#fields.fail('name', 'a name that no other layer has');
    this.#names.add(name);
    return name;
  }

  #images(x: ValueId): { readonly shape: readonly number[] } {
    return this.#facts(x, [4], 'channels, rows and columns');
  }

  /** The facts of what a layer takes, where it has one of these ranks. All sizes but the batch are known. */
  #facts(x: ValueId, ranks: readonly number[], expected: string): { readonly shape: readonly number[] } {
    const { shape }: Facts = this.#b.facts(x);
    if (!ranks.includes(shape.length))
      this.#fields.fail('type', `a layer for (${shape.slice(1).join(', ')}): this one takes ${expected}`);
    return { shape: shape as readonly number[] };
  }

  #node(
    op: string,
    inputs: readonly ValueId[],
    name: string,
    attributes: Readonly<Record<string, Attribute>> = {},
  ): ValueId {
    return this.#b.node({ op, name, inputs, attributes })[0]!;
  }
}
