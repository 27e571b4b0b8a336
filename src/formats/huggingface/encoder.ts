/**
 * Encoders of the BERT family: BERT, RoBERTa (and XLM-RoBERTa), DistilBERT.
 *
 * Token rows stand below one another, (batch * sequence, hidden), wherever nothing looks along a sequence, so that every linear layer is
 * one Gemm on the weight as the file has it, (outputs, inputs): nothing is transposed, and backends pack it once. Attention is spelt out
 * as MatMul, Softmax, MatMul, which every executor has, encrypted ones included; the pass `attention` makes one operator of it for those
 * that have a kernel. LayerNormalization and Gelu are the operators of those names: that is what passes recover from exporters' arithmetic.
 * @module
 */
import { CloisterError } from '../../base/index.ts';
import type { Attribute, GraphBuilder, ValueId } from '../../graph/index.ts';
import type { Fields } from './config.ts';
import { Numbers, type Weights } from './weights.ts';

/** How one family of models names its weights, and what is particular about it. */
interface Family {
  /** Before the names of the encoder where a model has a head. */
  readonly prefix: string;
  readonly layer: string;
  readonly query: string;
  readonly key: string;
  readonly value: string;
  readonly project: string;
  readonly attentionNorm: string;
  readonly widen: string;
  readonly narrow: string;
  readonly outputNorm: string;
}

const BERT: Family = {
  prefix: 'bert.',
  layer: 'encoder.layer.',
  query: 'attention.self.query',
  key: 'attention.self.key',
  value: 'attention.self.value',
  project: 'attention.output.dense',
  attentionNorm: 'attention.output.LayerNorm',
  widen: 'intermediate.dense',
  narrow: 'output.dense',
  outputNorm: 'output.LayerNorm',
};
const ROBERTA: Family = { ...BERT, prefix: 'roberta.' };
const DISTILBERT: Family = {
  prefix: 'distilbert.',
  layer: 'transformer.layer.',
  query: 'attention.q_lin',
  key: 'attention.k_lin',
  value: 'attention.v_lin',
  project: 'attention.out_lin',
  attentionNorm: 'sa_layer_norm',
  widen: 'ffn.lin1',
  narrow: 'ffn.lin2',
  outputNorm: 'output_layer_norm',
};

/** What the model computes from its encoder, by the end of the architecture's name. */
const HEADS = [
  'Model',
  'ForPreTraining',
  'ForMaskedLM',
  'ForSequenceClassification',
  'ForTokenClassification',
  'ForQuestionAnswering',
] as const;
type Head = (typeof HEADS)[number];

/** Model types, with how their architectures' names begin. */
export const ENCODERS: ReadonlyMap<string, { readonly family: Family; readonly name: string }> = new Map([
  ['bert', { family: BERT, name: 'Bert' }],
  ['roberta', { family: ROBERTA, name: 'Roberta' }],
  ['xlm-roberta', { family: ROBERTA, name: 'XLMRoberta' }],
  ['distilbert', { family: DISTILBERT, name: 'DistilBert' }],
]);

/** Nodes of the activation functions, by the names that configurations use. */
const TANH_GELU: readonly Step[] = [['Gelu', { approximate: 'tanh' }]];
const ACTIVATIONS = {
  gelu: [['Gelu', {}]],
  gelu_python: [['Gelu', {}]],
  gelu_new: TANH_GELU,
  gelu_fast: TANH_GELU,
  gelu_accurate: TANH_GELU,
  gelu_pytorch_tanh: TANH_GELU,
  quick_gelu: [['Swish', { alpha: 1.702 }]],
  silu: [['Swish', {}]],
  swish: [['Swish', {}]],
  mish: [['Mish', {}]],
  relu: [['Relu', {}]],
  sigmoid: [['Sigmoid', {}]],
  tanh: [['Tanh', {}]],
  linear: [],
} as const satisfies Record<string, readonly Step[]>;
type Activation = keyof typeof ACTIVATIONS;
type Step = readonly [op: string, attributes: Readonly<Record<string, Attribute>>];

/** The configuration, checked. Defaults are those of the configuration classes: files leave out what is usual. */
interface EncoderConfig {
  readonly vocabulary: number;
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  readonly wide: number;
  readonly positions: number;
  /** Kinds of tokens; 0 where the model does not tell them apart. */
  readonly types: number;
  readonly activation: Activation;
  readonly epsilon: number;
  readonly padding: number;
  /** The head's classes. */
  readonly classes: number;
  readonly labels: readonly string[] | undefined;
  readonly tied: boolean;
}

function readConfig(fields: Fields, family: Family): EncoderConfig {
  const distil = family === DISTILBERT;
  refuseVariants(fields);
  const labels = fields.numbered('id2label');
  const config: EncoderConfig = {
    vocabulary: fields.size('vocab_size'),
    hidden: fields.size(distil ? 'dim' : 'hidden_size', { absent: 768 }),
    layers: fields.size(distil ? 'n_layers' : 'num_hidden_layers', { absent: distil ? 6 : 12 }),
    heads: fields.size(distil ? 'n_heads' : 'num_attention_heads', { absent: 12 }),
    wide: fields.size(distil ? 'hidden_dim' : 'intermediate_size', { absent: 3072 }),
    positions: fields.size('max_position_embeddings', { absent: 512 }),
    types: distil ? 0 : fields.size('type_vocab_size', { absent: 2 }),
    activation: fields.choice(
      distil ? 'activation' : 'hidden_act',
      Object.keys(ACTIVATIONS) as readonly Activation[],
      'gelu',
    ),
    epsilon: distil ? 1e-12 : fields.fraction('layer_norm_eps', 1e-12),
    padding: family === ROBERTA ? fields.size('pad_token_id', { least: 0, absent: 1 }) : 0,
    classes: labels?.length ?? fields.size('num_labels', { absent: 2 }),
    labels,
    tied: fields.flag('tie_word_embeddings', true),
  };
  if (config.hidden % config.heads !== 0) {
    fields.fail(distil ? 'n_heads' : 'num_attention_heads', `a divisor of the hidden size ${config.hidden}`);
  }
  return config;
}

/** Refuses settings under which the same weights would mean another computation. */
function refuseVariants(fields: Fields): void {
  const refuse = (key: string, what: string): never => {
    throw new CloisterError('UNSUPPORTED_MODEL', `${fields.pathOf(key)}: ${what} is not supported`);
  };
  for (const key of ['is_decoder', 'add_cross_attention', 'is_encoder_decoder']) {
    if (fields.flag(key, false)) refuse(key, 'a decoder');
  }
  if (fields.text('position_embedding_type', 'absolute') !== 'absolute')
    refuse('position_embedding_type', 'relative positions');
  if (fields.has('quantization_config')) refuse('quantization_config', 'a quantised model');
}

/** The head that the configuration (or the caller) names. */
function headOf(fields: Fields, prefix: string, wanted: string | undefined): Head {
  const given = fields.texts('architectures');
  const architecture = wanted ?? given[0] ?? `${prefix}Model`;
  const head = HEADS.find(end => architecture === prefix + end);
  // BERT alone was trained to tell whether two sentences follow one another.
  if (head && (head !== 'ForPreTraining' || prefix === 'Bert')) return head;
  const known = HEADS.filter(end => end !== 'ForPreTraining' || prefix === 'Bert').map(end => prefix + end);
  const message = `${fields.pathOf('architectures')}: ${JSON.stringify(architecture.slice(0, 80))} is not supported; there are ${known.join(', ')}`;
  throw new CloisterError('UNSUPPORTED_MODEL', message);
}

/** Adds inputs, nodes and outputs of the model that `fields` describe. */
export function buildEncoder(
  builder: GraphBuilder,
  weights: Weights,
  fields: Fields,
  { type, architecture }: { readonly type: string; readonly architecture?: string | undefined },
): void {
  const { family, name } = ENCODERS.get(type)!;
  const head = headOf(fields, name, architecture);
  new EncoderDraft(builder, weights, family, readConfig(fields, family)).build(head);
}

/** One model while it is put together. */
class EncoderDraft {
  readonly #b: GraphBuilder;
  readonly #weights: Weights;
  readonly #numbers: Numbers;
  readonly #family: Family;
  readonly #config: EncoderConfig;
  /** Before every name of the encoder: that of a model with a head, or nothing. */
  readonly #prefix: string;
  readonly #ids: ValueId;
  /** (2): batch, sequence. */
  readonly #size: ValueId;

  constructor(builder: GraphBuilder, weights: Weights, family: Family, config: EncoderConfig) {
    this.#b = builder;
    this.#weights = weights;
    this.#numbers = new Numbers(builder);
    this.#family = family;
    this.#config = config;
    const words = 'embeddings.word_embeddings.weight';
    this.#prefix = weights.either(words, family.prefix + words).slice(0, -words.length);
    this.#ids = builder.input('input_ids', { dtype: 'i64', shape: ['batch', 'sequence'] });
    this.#size = this.#node('Shape', [this.#ids], 'size');
  }

  build(head: Head): void {
    const bias = this.#maskBias(this.#b.input('attention_mask', { dtype: 'i64', shape: ['batch', 'sequence'] }));
    let x = this.#embed();
    for (let i = 0; i < this.#config.layers; i++) x = this.#layer(x, bias, `${this.#prefix}${this.#family.layer}${i}.`);
    const outputs = this.#outputs(x, head);
    // A person reads classes by their labels, as long as no two have the same.
    const { labels } = this.#config;
    const named = head === 'ForSequenceClassification' && labels && new Set(labels).size === labels.length;
    for (const id of outputs) this.#b.output(id, named ? { labels } : undefined);
  }

  /** (batch, 1, 1, sequence): 0 where a token counts, the lowest float where it does not. */
  #maskBias(mask: ValueId): ValueId {
    const counts = this.#node('Cast', [mask], 'mask', { to: 1 });
    const hidden = this.#node('Sub', [this.#numbers.f32(1), counts], 'mask.hidden');
    const bias = this.#node('Mul', [hidden, this.#numbers.f32(-3.4028234663852886e38)], 'mask.bias');
    return this.#node('Unsqueeze', [bias, this.#numbers.i64([1, 2])], 'mask.broadcast');
  }

  /** (batch * sequence, hidden). */
  #embed(): ValueId {
    const { vocabulary, hidden, types, positions } = this.#config;
    const at = `${this.#prefix}embeddings.`;
    const rows = (name: string, count: number, indices: ValueId): ValueId =>
      this.#weights.rows(`${at}${name}.weight`, [count, hidden], indices, at + name);
    let x = rows('word_embeddings', vocabulary, this.#ids);
    if (types > 0) x = this.#node('Add', [x, rows('token_type_embeddings', types, this.#types())], `${at}add_types`);
    x = this.#node('Add', [x, rows('position_embeddings', positions, this.#positions())], `${at}add_positions`);
    return this.#rows(this.#norm(x, `${at}LayerNorm`), `${at}rows`);
  }

  /** The kind of each token. RoBERTa's tokens are all of the first. */
  #types(): ValueId {
    if (this.#family === ROBERTA) return this.#numbers.i64(0);
    return this.#b.input('token_type_ids', { dtype: 'i64', shape: ['batch', 'sequence'] });
  }

  /** The position of each token: (sequence), or (batch, sequence) where padding does not count. */
  #positions(): ValueId {
    if (this.#family !== ROBERTA) {
      const length = this.#node('Gather', [this.#size, this.#numbers.i64(1)], 'length');
      return this.#node('Range', [this.#numbers.i64(0), length, this.#numbers.i64(1)], 'positions');
    }
    // Tokens are counted from the one after the padding's number on; padding has that number itself.
    const padding = this.#numbers.i64(this.#config.padding);
    const isPadding = this.#node('Equal', [this.#ids, padding], 'positions.padding');
    const counts = this.#node('Cast', [this.#node('Not', [isPadding], 'positions.tokens')], 'positions.ones', {
      to: 7,
    });
    const sums = this.#node('CumSum', [counts, this.#numbers.i64(1)], 'positions.sums');
    return this.#node('Add', [this.#node('Mul', [sums, counts], 'positions.counted'), padding], 'positions');
  }

  /** One layer on (batch * sequence, hidden). */
  #layer(x: ValueId, bias: ValueId, at: string): ValueId {
    const { query, key, value, project, attentionNorm, widen, narrow, outputNorm } = this.#family;
    const { hidden, heads, wide } = this.#config;
    const size = hidden / heads;
    const split = (name: string, order: readonly number[]): ValueId => {
      const flat = this.#linear(x, at + name, hidden, hidden);
      const cut = this.#node('Reshape', [flat, this.#sized([heads, size])], `${at}${name}.heads`);
      return this.#node('Transpose', [cut], `${at}${name}.order`, { perm: order });
    };
    const q = split(query, [0, 2, 1, 3]); // (batch, heads, sequence, size)
    const k = split(key, [0, 2, 3, 1]); // (batch, heads, size, sequence)
    const v = split(value, [0, 2, 1, 3]);
    const products = this.#node('MatMul', [q, k], `${at}attention.products`);
    const scaled = this.#node(
      'Div',
      [products, this.#numbers.f32(Math.fround(Math.sqrt(size)))],
      `${at}attention.scaled`,
    );
    const masked = this.#node('Add', [scaled, bias], `${at}attention.masked`);
    const shares = this.#node('Softmax', [masked], `${at}attention.softmax`, { axis: -1 });
    const mixed = this.#node('MatMul', [shares, v], `${at}attention.mixed`);
    const context = this.#node('Transpose', [mixed], `${at}attention.order`, { perm: [0, 2, 1, 3] });
    const projected = this.#linear(this.#rows(context, `${at}attention.rows`), at + project, hidden, hidden);
    const attended = this.#norm(this.#node('Add', [projected, x], `${at}attention.add`), at + attentionNorm);
    const raised = this.#activate(this.#linear(attended, at + widen, hidden, wide), at + widen);
    const lowered = this.#linear(raised, at + narrow, wide, hidden);
    return this.#norm(this.#node('Add', [lowered, attended], `${at}output.add`), at + outputNorm);
  }

  /** What the model gives, from the rows of its last layer. */
  #outputs(x: ValueId, head: Head): readonly ValueId[] {
    const { hidden, classes } = this.#config;
    switch (head) {
      case 'Model': {
        const states = this.#sequences(x, 'last_hidden_state');
        return this.#hasPooler() ? [states, this.#pool(x, 'pooler_output')] : [states];
      }
      case 'ForPreTraining': {
        const words = this.#words(x, 'prediction_logits');
        const pooled = this.#pool(x, 'pooler');
        return [words, this.#linear(pooled, 'cls.seq_relationship', hidden, 2, 'seq_relationship_logits')];
      }
      case 'ForMaskedLM':
        return [this.#words(x, 'logits')];
      case 'ForSequenceClassification':
        return [this.#classify(x)];
      case 'ForTokenClassification':
        return [this.#sequences(this.#linear(x, 'classifier', hidden, classes), 'logits')];
      case 'ForQuestionAnswering': {
        const both = this.#sequences(this.#linear(x, 'qa_outputs', hidden, 2), 'qa_outputs.sequences');
        const pick = (i: number, name: string): ValueId =>
          this.#node('Gather', [both, this.#numbers.i64(i)], name, { axis: 2 }, name);
        return [pick(0, 'start_logits'), pick(1, 'end_logits')];
      }
      default:
        return head satisfies never;
    }
  }

  /** A class for the whole sequence, from its first token. */
  #classify(x: ValueId): ValueId {
    const { hidden, classes } = this.#config;
    if (this.#family === BERT) return this.#linear(this.#pool(x, 'pooler'), 'classifier', hidden, classes, 'logits');
    const [dense, op, out] =
      this.#family === ROBERTA
        ? (['classifier.dense', 'Tanh', 'classifier.out_proj'] as const)
        : (['pre_classifier', 'Relu', 'classifier'] as const);
    const first = this.#linear(this.#firstTokens(x), dense, hidden, hidden);
    return this.#linear(this.#node(op, [first], `${dense}.${op}`), out, hidden, classes, 'logits');
  }

  #hasPooler(): boolean {
    const name = `${this.#prefix}pooler.dense.`;
    return this.#family !== DISTILBERT && (this.#weights.has(`${name}weight`) || this.#weights.has(`${name}bias`));
  }

  /** (batch, hidden). */
  #pool(x: ValueId, output: string): ValueId {
    const { hidden } = this.#config;
    const dense = this.#linear(this.#firstTokens(x), `${this.#prefix}pooler.dense`, hidden, hidden);
    return this.#node('Tanh', [dense], `${this.#prefix}pooler.activation`, {}, output);
  }

  /** (batch, sequence, vocabulary): how well each word of the vocabulary fits at each place. */
  #words(x: ValueId, output: string): ValueId {
    const { vocabulary, hidden, tied } = this.#config;
    const [dense, norm, decoder, bias] = (
      this.#family === BERT
        ? [
            'cls.predictions.transform.dense',
            'cls.predictions.transform.LayerNorm',
            'cls.predictions.decoder',
            'cls.predictions.bias',
          ]
        : this.#family === ROBERTA
          ? ['lm_head.dense', 'lm_head.layer_norm', 'lm_head.decoder', 'lm_head.bias']
          : ['vocab_transform', 'vocab_layer_norm', 'vocab_projector', 'vocab_projector.bias']
    ) as readonly [string, string, string, string];
    const transformed = this.#linear(x, dense, hidden, hidden);
    const raised = this.#activate(transformed, dense, this.#family === ROBERTA ? 'gelu' : undefined);
    const table = tied ? `${this.#prefix}embeddings.word_embeddings.weight` : `${decoder}.weight`;
    // One bias under two names is written once, under either.
    const biasName = this.#weights.has(bias) ? bias : this.#weights.either(bias, `${decoder}.bias`);
    const inputs = [
      this.#norm(raised, norm),
      this.#weights.take(table, [vocabulary, hidden]),
      this.#weights.take(biasName, [vocabulary]),
    ];
    return this.#sequences(this.#node('Gemm', inputs, decoder, { transB: 1 }), output);
  }

  /** `x w^T + b` on rows. */
  #linear(x: ValueId, name: string, inputs: number, outputs: number, output?: string): ValueId {
    const weight = this.#weights.take(`${name}.weight`, [outputs, inputs]);
    const bias = this.#weights.take(`${name}.bias`, [outputs]);
    return this.#node('Gemm', [x, weight, bias], name, { transB: 1 }, output);
  }

  /** The scale and the shift may have the names that they had in TensorFlow. */
  #norm(x: ValueId, name: string): ValueId {
    const { hidden, epsilon } = this.#config;
    const scale = this.#weights.take(this.#weights.either(`${name}.weight`, `${name}.gamma`), [hidden]);
    const shift = this.#weights.take(this.#weights.either(`${name}.bias`, `${name}.beta`), [hidden]);
    return this.#node('LayerNormalization', [x, scale, shift], name, { axis: -1, epsilon });
  }

  #activate(x: ValueId, after: string, name: Activation = this.#config.activation): ValueId {
    const steps: readonly Step[] = ACTIVATIONS[name];
    return steps.reduce((value, [op, attributes]) => this.#node(op, [value], `${after}.${op}`, attributes), x);
  }

  /** All axes but the last, or the heads in it, as one: rows of tokens. */
  #rows(x: ValueId, name: string): ValueId {
    return this.#node('Flatten', [x], name, { axis: 2 });
  }

  /** Rows of tokens as (batch, sequence, width). */
  #sequences(x: ValueId, output: string): ValueId {
    const width = this.#b.facts(x).shape[1] as number;
    return this.#node('Reshape', [x, this.#sized([width])], output, {}, output);
  }

  /** (batch, hidden). */
  #firstTokens(x: ValueId): ValueId {
    const states = this.#sequences(x, 'states');
    return this.#node('Gather', [states, this.#numbers.i64(0)], 'first_tokens', { axis: 1 });
  }

  readonly #shapes = new Map<string, ValueId>();

  /** The shape (batch, sequence, ...rest), computed once. */
  #sized(rest: readonly number[]): ValueId {
    const name = `sized.${rest.join('x')}`;
    const shape =
      this.#shapes.get(name) ?? this.#node('Concat', [this.#size, this.#numbers.i64(rest)], name, { axis: 0 });
    this.#shapes.set(name, shape);
    return shape;
  }

  #node(
    op: string,
    inputs: readonly ValueId[],
    name: string,
    attributes: Readonly<Record<string, Attribute>> = {},
    output?: string,
  ): ValueId {
    return this.#b.node({ op, name, inputs, attributes, ...(output === undefined ? {} : { outputs: [output] }) })[0]!;
  }
}
