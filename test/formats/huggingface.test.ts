import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CloisterError, encodeUtf8 } from '../../src/base/index.ts';
import { type NamedTensors, referenceBackend } from '../../src/engine/index.ts';
import {
  bytesSource,
  type HuggingFaceModel,
  type HuggingFaceOptions,
  parseHuggingFace,
  parseOnnx,
  writeOnnx,
  writeSafetensors,
} from '../../src/formats/index.ts';
import { optimise } from '../../src/graph/index.ts';
import { elementCount, Tensor } from '../../src/tensor/index.ts';
import { corpusModel } from '../engine/corpus-models.ts';
import {
  BERT_NAMES,
  DISTILBERT_NAMES,
  EncoderOracle,
  type EncoderSizes,
  encoderShapes,
  erf,
  type LayerNames,
  type Matrix,
} from './encoder-oracle.ts';
import { FUZZ_TIMEOUT_MS, runsOf, typedWithin } from './fuzz.ts';

type Files = Readonly<Record<string, unknown>>;

/** Opens files that are bytes, or values that are written as JSON. */
function parse(files: Files, options?: HuggingFaceOptions): HuggingFaceModel {
  return parseHuggingFace(name => {
    if (!Object.hasOwn(files, name)) return undefined;
    const file = files[name];
    return bytesSource(file instanceof Uint8Array ? file : encodeUtf8(JSON.stringify(file)));
  }, options);
}

function run({ graph, source }: HuggingFaceModel, inputs: NamedTensors): NamedTensors {
  return referenceBackend.prepare(graph, { constants: source }).runSync(inputs);
}

function problem(call: () => unknown): string {
  try {
    call();
    return 'nothing was refused';
  } catch (error) {
    if (error instanceof CloisterError) return `${error.code}: ${error.message}`;
    throw error;
  }
}

/** Numbers from -1 to 1, the same on every run. */
function numbersFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}

/** Weights of these shapes. Scales of normalisations are near one. */
function randomWeights(shapes: ReadonlyMap<string, readonly number[]>, seed = 1): Map<string, Tensor> {
  const next = numbersFrom(seed);
  return new Map(
    [...shapes].map(([name, shape]) => {
      const middle = /norm\.weight$/i.test(name) ? 1 : 0;
      const values = Float32Array.from({ length: elementCount(shape) }, () => middle + next() / 2);
      return [name, Tensor.from('f32', shape, values)] as const;
    }),
  );
}

const renamed = (weights: ReadonlyMap<string, Tensor>, rename: (name: string) => string): Map<string, Tensor> =>
  new Map([...weights].map(([name, tensor]) => [rename(name), tensor]));

const SIZES: EncoderSizes = {
  vocabulary: 11,
  hidden: 12,
  layers: 2,
  heads: 3,
  wide: 7,
  positions: 10,
  types: 2,
  epsilon: 1e-5,
  activation: x => 0.5 * x * (1 + erf(x / Math.SQRT2)),
};
const CONFIG = {
  model_type: 'bert',
  architectures: ['BertModel'],
  vocab_size: 11,
  hidden_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 3,
  intermediate_size: 7,
  hidden_act: 'gelu',
  max_position_embeddings: 10,
  type_vocab_size: 2,
  layer_norm_eps: 1e-5,
  transformers_version: '4.0.0',
};
const POOLER: readonly (readonly [string, readonly number[]])[] = [
  ['pooler.dense.weight', [12, 12]],
  ['pooler.dense.bias', [12]],
];
const IDS = [
  [3, 1, 4, 1, 5],
  [9, 2, 6, 0, 0],
];
const MASK = [
  [1, 1, 1, 1, 1],
  [1, 1, 1, 0, 0],
];
const TYPES = [
  [0, 0, 0, 1, 1],
  [0, 1, 1, 0, 0],
];
const PLACES = [0, 1, 2, 3, 4];
const INPUTS = {
  input_ids: Tensor.of('i64', IDS),
  attention_mask: Tensor.of('i64', MASK),
  token_type_ids: Tensor.of('i64', TYPES),
};

/** A small BERT, and the states that the oracle computes of the inputs above. */
function smallBert(sizes: EncoderSizes = SIZES): {
  weights: Map<string, Tensor>;
  oracle: EncoderOracle;
  states: Matrix[];
} {
  const weights = randomWeights(new Map([...encoderShapes(sizes, BERT_NAMES), ...POOLER]));
  const oracle = new EncoderOracle(sizes, BERT_NAMES, weights);
  return { weights, oracle, states: IDS.map((ids, b) => oracle.states(ids, MASK[b]!, PLACES, TYPES[b])) };
}

function expectNear(actual: Tensor | undefined, expected: unknown, tolerance = 2e-5): void {
  const want = (expected as readonly unknown[]).flat(9) as number[];
  const got = actual!.values().map(Number);
  expect(got.length).toBe(want.length);
  const worst = Math.max(...got.map((value, i) => Math.abs(value - want[i]!) / (1 + Math.abs(want[i]!))));
  expect(worst).toBeLessThan(tolerance);
}

describe('an encoder', () => {
  test('computes what the mathematics say, in states and pooler', () => {
    const { weights, oracle, states } = smallBert();
    const model = parse({ 'config.json': CONFIG, 'model.safetensors': writeSafetensors(weights) });
    const { last_hidden_state, pooler_output } = run(model, INPUTS);
    expectNear(last_hidden_state, states);
    expectNear(
      pooler_output,
      states.map(([first]) => oracle.linear(first!, 'pooler.dense').map(Math.tanh)),
    );
    expect(model.unused).toEqual([]);
  });

  test('has symbolic batch and sequence everywhere, and its weights in the file', () => {
    const { weights } = smallBert();
    const { graph } = parse({ 'config.json': CONFIG, 'model.safetensors': writeSafetensors(weights) });
    const shapes = (ids: readonly number[]): unknown => ids.map(id => graph.values[id]!.facts.shape);
    expect(shapes(graph.inputs)).toEqual([
      ['batch', 'sequence'],
      ['batch', 'sequence'],
      ['batch', 'sequence'],
    ]);
    expect(shapes(graph.outputs)).toEqual([
      ['batch', 'sequence', 12],
      ['batch', 12],
    ]);
    expect(graph.values.flatMap(({ facts }) => facts.shape).filter(dim => String(dim).includes('?'))).toEqual([]);
    const ranges = [...graph.constants.values()].filter(({ kind }) => kind === 'range');
    expect(ranges.length).toBe(weights.size);
  });

  test('stays what it is under every pass, which find its attention', () => {
    const { weights, states } = smallBert();
    const model = parse({ 'config.json': CONFIG, 'model.safetensors': writeSafetensors(weights) });
    const { graph } = optimise(model.graph, { constants: model.source });
    expect(graph.nodes.filter(({ op }) => op === 'Attention').length).toBe(2);
    expectNear(run({ ...model, graph }, INPUTS)['last_hidden_state'], states);
  });

  test('written as ONNX is the same model', () => {
    const { weights } = smallBert();
    const model = parse({ 'config.json': CONFIG, 'model.safetensors': writeSafetensors(weights) });
    const source = bytesSource(writeOnnx(model.graph, { constants: model.source }));
    const graph = parseOnnx(source);
    const [ours, theirs] = [run(model, INPUTS), run({ graph, source, unused: [] }, INPUTS)];
    for (const [name, tensor] of Object.entries(ours)) expect(theirs[name]?.toBytes()).toEqual(tensor.toBytes());
  });

  test('takes names with the prefix of the model, and the old names of scale and shift', () => {
    const { weights, states } = smallBert();
    const old = renamed(weights, name =>
      `bert.${name}`.replace('LayerNorm.weight', 'LayerNorm.gamma').replace('LayerNorm.bias', 'LayerNorm.beta'),
    );
    const model = parse({ 'config.json': CONFIG, 'model.safetensors': writeSafetensors(old) });
    expectNear(run(model, INPUTS)['last_hidden_state'], states);
  });

  test.each(['f16', 'bf16'] as const)('with weights in %s computes in f32 from what they say', dtype => {
    const { weights } = smallBert();
    const narrow = new Map([...weights].map(([name, tensor]) => [name, tensor.cast(dtype)]));
    const oracle = new EncoderOracle(SIZES, BERT_NAMES, narrow);
    const model = parse({ 'config.json': CONFIG, 'model.safetensors': writeSafetensors(narrow) });
    const states = IDS.map((ids, b) => oracle.states(ids, MASK[b]!, PLACES, TYPES[b]));
    expectNear(run(model, INPUTS)['last_hidden_state'], states);
  });

  const tanhGelu = (x: number): number => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
  test.each([
    ['gelu_new', tanhGelu],
    ['gelu_pytorch_tanh', tanhGelu],
    ['quick_gelu', (x: number): number => x / (1 + Math.exp(-1.702 * x))],
    ['silu', (x: number): number => x / (1 + Math.exp(-x))],
    ['relu', (x: number): number => Math.max(x, 0)],
    ['mish', (x: number): number => x * Math.tanh(Math.log1p(Math.exp(x)))],
    ['tanh', Math.tanh],
    ['linear', (x: number): number => x],
  ])('has the activation %s', (hidden_act, activation) => {
    const { weights, states } = smallBert({ ...SIZES, activation });
    const model = parse({ 'config.json': { ...CONFIG, hidden_act }, 'model.safetensors': writeSafetensors(weights) });
    expectNear(run(model, INPUTS)['last_hidden_state'], states);
  });

  test('in several files is the one that it is in one', () => {
    const { weights, states } = smallBert();
    const names = [...weights.keys()];
    const shard = (rest: number): Uint8Array =>
      writeSafetensors(new Map([...weights].filter((_, i) => i % 3 === rest)));
    const files = {
      'config.json': CONFIG,
      'model.safetensors.index.json': {
        metadata: { total_size: 1 },
        weight_map: Object.fromEntries(names.map((name, i) => [name, `model-${i % 3}.safetensors`])),
      },
      'model-0.safetensors': shard(0),
      'model-1.safetensors': shard(1),
      'model-2.safetensors': shard(2),
    };
    const model = parse(files);
    expectNear(run(model, INPUTS)['last_hidden_state'], states);
    expect(problem(() => parse(files, { limits: { files: 2 } }))).toMatch(/^MODEL_TOO_LARGE: .* 2 files/);
    const sparse = { weight_map: { [names[0]!]: 'model-0.safetensors', [names[1]!]: 'model-1.safetensors' } };
    const few = (): unknown => parse({ ...files, 'model.safetensors.index.json': sparse }, { limits: { tensors: 20 } });
    expect(problem(few)).toMatch(/^MODEL_TOO_LARGE: .* 20 tensors/);
  });

  test('refuses tokens past the last position, by name', () => {
    const { weights } = smallBert();
    const model = parse({ 'config.json': CONFIG, 'model.safetensors': writeSafetensors(weights) });
    const long = Tensor.zeros('i64', [1, 11]);
    const inputs = { input_ids: long, attention_mask: long, token_type_ids: long };
    expect(problem(() => run(model, inputs))).toMatch(/position_embeddings/);
  });
});

describe('a head', () => {
  const { weights: encoder, oracle: plain, states } = smallBert();
  const prefixed = renamed(encoder, name => `bert.${name}`);
  const pooled = states.map(([first]) => plain.linear(first!, 'pooler.dense').map(Math.tanh));
  const withHead = (
    architecture: string,
    shapes: readonly (readonly [string, readonly number[]])[],
    more: object = {},
  ): { model: HuggingFaceModel; head: EncoderOracle } => {
    const weights = randomWeights(new Map(shapes), 7);
    const file = writeSafetensors(new Map([...prefixed, ...weights]));
    const config = { ...CONFIG, architectures: [architecture], ...more };
    return {
      model: parse({ 'config.json': config, 'model.safetensors': file }),
      head: new EncoderOracle(SIZES, BERT_NAMES, new Map([...encoder, ...weights])),
    };
  };

  test('for sequences gives one row of classes, with their labels', () => {
    const { model, head } = withHead(
      'BertForSequenceClassification',
      [
        ['classifier.weight', [3, 12]],
        ['classifier.bias', [3]],
      ],
      { id2label: { 0: 'no', 1: 'maybe', 2: 'yes' } },
    );
    expectNear(
      run(model, INPUTS)['logits'],
      pooled.map(row => head.linear(row, 'classifier')),
    );
    expect(model.graph.maps.get(model.graph.outputs[0]!)?.labels).toEqual(['no', 'maybe', 'yes']);
  });

  test('for tokens gives classes for each', () => {
    const { model, head } = withHead(
      'BertForTokenClassification',
      [
        ['classifier.weight', [4, 12]],
        ['classifier.bias', [4]],
      ],
      { num_labels: 4 },
    );
    expectNear(
      run(model, INPUTS)['logits'],
      states.map(rows => rows.map(row => head.linear(row, 'classifier'))),
    );
    expect(model.unused).toEqual(['bert.pooler.dense.bias', 'bert.pooler.dense.weight']);
  });

  test('for answers gives where they start and end', () => {
    const { model, head } = withHead('BertForQuestionAnswering', [
      ['qa_outputs.weight', [2, 12]],
      ['qa_outputs.bias', [2]],
    ]);
    const { start_logits, end_logits } = run(model, INPUTS);
    const both = states.map(rows => rows.map(row => head.linear(row, 'qa_outputs')));
    expectNear(
      start_logits,
      both.map(rows => rows.map(([start]) => start)),
    );
    expectNear(
      end_logits,
      both.map(rows => rows.map(([, end]) => end)),
    );
  });

  const transform: readonly (readonly [string, readonly number[]])[] = [
    ['cls.predictions.transform.dense.weight', [12, 12]],
    ['cls.predictions.transform.dense.bias', [12]],
    ['cls.predictions.transform.LayerNorm.weight', [12]],
    ['cls.predictions.transform.LayerNorm.bias', [12]],
    ['cls.predictions.bias', [11]],
  ];
  const words = (
    head: EncoderOracle,
    table: string,
    row: readonly number[],
    bias: readonly number[],
  ): readonly number[] => {
    const raised = head.activate(head.linear(row, 'cls.predictions.transform.dense'));
    const normal = head.norm(raised, 'cls.predictions.transform.LayerNorm');
    return head.product(normal, table).map((value, i) => value + bias[i]!);
  };

  test('for words takes the table of the embeddings, or its own where the configuration says so', () => {
    const bias = randomWeights(new Map([...transform]), 7)
      .get('cls.predictions.bias')!
      .values()
      .map(Number);
    const tied = withHead('BertForMaskedLM', transform);
    expectNear(
      run(tied.model, INPUTS)['logits'],
      states.map(rows => rows.map(row => words(tied.head, 'embeddings.word_embeddings.weight', row, bias))),
    );
    const own = withHead('BertForMaskedLM', [...transform, ['cls.predictions.decoder.weight', [11, 12]]], {
      tie_word_embeddings: false,
    });
    expectNear(
      run(own.model, INPUTS)['logits'],
      states.map(rows => rows.map(row => words(own.head, 'cls.predictions.decoder.weight', row, bias))),
    );
  });

  test('that the caller asks for goes before the one of the file', () => {
    const file = writeSafetensors(prefixed);
    const config = { ...CONFIG, architectures: ['BertForMaskedLM'] };
    const model = parse({ 'config.json': config, 'model.safetensors': file }, { architecture: 'BertModel' });
    expectNear(run(model, INPUTS)['last_hidden_state'], states);
  });

  test('that is unknown is refused with those that are known', () => {
    const call = (): unknown => withHead('BertForMultipleChoice', []);
    expect(problem(call)).toMatch(/^UNSUPPORTED_MODEL: .*"BertForMultipleChoice".* BertModel, BertForPreTraining/);
    const roberta = { ...CONFIG, model_type: 'roberta', architectures: ['RobertaForPreTraining'] };
    expect(problem(() => parse({ 'config.json': roberta, 'model.safetensors': writeSafetensors(prefixed) }))).toMatch(
      /^UNSUPPORTED_MODEL: .*RobertaModel, RobertaForMaskedLM/,
    );
  });

  test('whose weights are missing is refused with their names', () => {
    expect(problem(() => withHead('BertForQuestionAnswering', []))).toMatch(
      /^INVALID_MODEL: tensor "qa_outputs.weight" is missing: expected \[2,12\]/,
    );
  });
});

describe('relatives of BERT', () => {
  const family = (
    names: LayerNames,
    prefix: string,
    types: number,
    head: readonly (readonly [string, readonly number[]])[],
  ): { file: Uint8Array; oracle: EncoderOracle } => {
    const sizes = { ...SIZES, types, epsilon: prefix === 'distilbert.' ? 1e-12 : SIZES.epsilon };
    const encoder = randomWeights(encoderShapes(sizes, names), 3);
    const weights = randomWeights(new Map(head), 5);
    const file = writeSafetensors(new Map([...renamed(encoder, name => prefix + name), ...weights]));
    return { file, oracle: new EncoderOracle(sizes, names, new Map([...encoder, ...weights])) };
  };
  const { token_type_ids: _, ...inputs } = INPUTS;

  test.each(['roberta', 'xlm-roberta'])('%s counts positions from its padding on, and reads the first token', type => {
    const { file, oracle } = family(BERT_NAMES, 'roberta.', 1, [
      ['classifier.dense.weight', [12, 12]],
      ['classifier.dense.bias', [12]],
      ['classifier.out_proj.weight', [2, 12]],
      ['classifier.out_proj.bias', [2]],
    ]);
    const architectures = [
      type === 'roberta' ? 'RobertaForSequenceClassification' : 'XLMRobertaForSequenceClassification',
    ];
    const config = { ...CONFIG, model_type: type, architectures, type_vocab_size: 1, pad_token_id: 0 };
    const { logits } = run(parse({ 'config.json': config, 'model.safetensors': file }), inputs);
    const places = [
      [1, 2, 3, 4, 5],
      [1, 2, 3, 0, 0],
    ];
    const expected = IDS.map((ids, b) => {
      const [first] = oracle.states(ids, MASK[b]!, places[b]!, [0, 0, 0, 0, 0]);
      return oracle.linear(oracle.linear(first!, 'classifier.dense').map(Math.tanh), 'classifier.out_proj');
    });
    expectNear(logits, expected);
  });

  test('distilbert has its own names in file and configuration', () => {
    const { file, oracle } = family(DISTILBERT_NAMES, 'distilbert.', 0, [
      ['pre_classifier.weight', [12, 12]],
      ['pre_classifier.bias', [12]],
      ['classifier.weight', [2, 12]],
      ['classifier.bias', [2]],
    ]);
    const config = {
      model_type: 'distilbert',
      architectures: ['DistilBertForSequenceClassification'],
      vocab_size: 11,
      dim: 12,
      n_layers: 2,
      n_heads: 3,
      hidden_dim: 7,
      activation: 'gelu',
      max_position_embeddings: 10,
    };
    const { logits } = run(parse({ 'config.json': config, 'model.safetensors': file }), inputs);
    const expected = IDS.map((ids, b) => {
      const [first] = oracle.states(ids, MASK[b]!, PLACES, undefined);
      const raised = oracle.linear(first!, 'pre_classifier').map(value => Math.max(value, 0));
      return oracle.linear(raised, 'classifier');
    });
    expectNear(logits, expected);
  });
});

const corpus = process.env['CLOISTER_CORPUS'];

describe.skipIf(!corpus)('models that others exported', () => {
  /** The weights of an ONNX graph by name. */
  const weightsOf = ({
    graph,
    source,
  }: Pick<ReturnType<typeof corpusModel>, 'graph' | 'source'>): Map<string, Tensor> =>
    new Map(
      [...graph.constants].map(([id, constant]) => {
        const { name, facts } = graph.values[id]!;
        if (constant.kind === 'inline') return [name, constant.tensor];
        const bytes = source.read(constant.offset, constant.length);
        return [name, Tensor.fromBytes(facts.dtype, facts.shape as number[], bytes)];
      }),
    );
  const transposed = '.weight_transposed';

  test('give the same outputs from configuration and weights: bert-toy-5layer', () => {
    const { inputs, outputs, ...model } = corpusModel('bert-toy-5layer');
    const weights = new Map<string, Tensor>();
    for (const [name, tensor] of weightsOf(model)) {
      if (!/^(bert|cls)\./.test(name)) continue;
      if (name.endsWith(transposed)) weights.set(name.replace(transposed, '.weight'), tensor.transpose());
      else weights.set(name, tensor);
    }
    const config = {
      model_type: 'bert',
      architectures: ['BertForPreTraining'],
      vocab_size: 99,
      hidden_size: 32,
      num_hidden_layers: 5,
      num_attention_heads: 4,
      intermediate_size: 37,
      hidden_act: 'gelu',
      max_position_embeddings: 512,
      type_vocab_size: 16,
    };
    const parsed = parse({ 'config.json': config, 'model.safetensors': writeSafetensors(weights) });
    expect(parsed.unused).toEqual([]);
    const { input_ids, token_type_ids, input_mask } = inputs as Record<string, Tensor>;
    const { prediction_logits, seq_relationship_logits } = run(parsed, {
      input_ids: input_ids!,
      token_type_ids: token_type_ids!,
      attention_mask: input_mask!,
    });
    expectNear(prediction_logits, outputs['prediction_scores']!.values().map(Number), 1e-4);
    expectNear(seq_relationship_logits, outputs['seq_relationship_score']!.values().map(Number), 1e-4);
  });

  test('give the same outputs from configuration and weights: tf-bert-qa', () => {
    const { inputs, outputs, ...model } = corpusModel('tf-bert-qa');
    const rows: readonly (readonly [RegExp, string, boolean])[] = [
      [/^bert\/embeddings\/Gather\/resource:0/, 'bert/embeddings/word_embeddings.weight', false],
      [/^(.*\/(?:position|token_type)_embeddings)\/embedding_lookup\/\d+:0/, '$1.weight', false],
      [/^(.*)\/Tensordot\/Reshape_1:0_resize$/, '$1.weight', true],
      [/^(.*)\/BiasAdd\/ReadVariableOp\/resource:0.*$/, '$1.bias', false],
      [/^(.*\/LayerNorm)\/batchnorm\/ReadVariableOp\/resource:0.*$/, '$1.beta', false],
      [/^(.*\/LayerNorm)\/batchnorm\/mul\/ReadVariableOp\/resource:0.*$/, '$1.gamma', false],
    ];
    const weights = new Map<string, Tensor>();
    for (const [name, tensor] of weightsOf(model)) {
      const short = name.replace('tf_bert_for_question_answering/', '');
      const row = tensor.dtype === 'f32' ? rows.find(([pattern]) => pattern.test(short)) : undefined;
      if (!row) continue;
      const [pattern, to, turned] = row;
      const own = short.replace(pattern, to).replace('_resize', '').replaceAll('/', '.').replace('layer_._', 'layer.');
      weights.set(own, turned ? tensor.transpose() : tensor);
    }
    const config = {
      model_type: 'bert',
      architectures: ['BertForQuestionAnswering'],
      vocab_size: 20,
      hidden_size: 8,
      num_hidden_layers: 24,
      num_attention_heads: 2,
      intermediate_size: 32,
      hidden_act: 'gelu',
      max_position_embeddings: 10,
      type_vocab_size: 2,
    };
    const parsed = parse({ 'config.json': config, 'model.safetensors': writeSafetensors(weights) });
    expect(parsed.unused).toEqual([]);
    const wide = Object.fromEntries(Object.entries(inputs).map(([name, tensor]) => [name, tensor.cast('i64')]));
    const { start_logits, end_logits } = run(parsed, wide);
    expectNear(start_logits, outputs['output_1']!.values().map(Number), 1e-4);
    expectNear(end_logits, outputs['output_2']!.values().map(Number), 1e-4);
  });

  test('give the same outputs from configuration and weights: mnist-cnn-pytorch', () => {
    const { inputs, outputs, ...model } = corpusModel('mnist-cnn-pytorch');
    const weights = new Map([...weightsOf(model)].filter(([name]) => /\.(weight|bias)$/.test(name)));
    const relu = { type: 'activation', function: 'relu' };
    const pool = { type: 'max_pool', kernel: 2 };
    const config = layersConfig(
      'cnn',
      [1, 28, 28],
      [
        { type: 'conv2d', name: 'conv1', filters: 10, kernel: 5 },
        pool,
        relu,
        { type: 'conv2d', name: 'conv2', filters: 20, kernel: [5, 5] },
        { type: 'dropout' },
        pool,
        relu,
        { type: 'flatten' },
        { type: 'linear', name: 'fc1', units: 50 },
        relu,
        { type: 'dropout', rate: 0.2 },
        { type: 'linear', name: 'fc2', units: 10 },
        relu,
        { type: 'activation', function: 'log_softmax' },
      ],
    );
    const parsed = parse({ 'config.json': config, 'model.safetensors': writeSafetensors(weights) });
    const { output } = run(parsed, { input: inputs['0']! });
    expectNear(output, outputs['21']!.values().map(Number), 1e-5);
  });
});

function layersConfig(
  model_type: string,
  shape: readonly number[],
  layers: readonly object[],
  more: object = {},
): object {
  return { model_type, input: { shape }, layers, ...more };
}

describe('a list of layers', () => {
  const filled = (shapes: readonly (readonly [string, readonly number[]])[]): Map<string, Tensor> =>
    randomWeights(new Map(shapes), 11);
  const flat = (tensor: Tensor): readonly number[] => tensor.values().map(Number);

  test('mlp computes what the mathematics say', () => {
    const weights = filled([
      ['a.weight', [5, 3]],
      ['a.bias', [5]],
      ['bn.weight', [5]],
      ['bn.bias', [5]],
      ['bn.running_mean', [5]],
      ['n.weight', [5]],
      ['n.bias', [5]],
      ['b.weight', [2, 5]],
    ]);
    weights.set('bn.running_var', Tensor.of('f32', [0.5, 1, 2, 0.25, 4]));
    weights.set('bn.num_batches_tracked', Tensor.of('i64', 7));
    const config = layersConfig(
      'mlp',
      [3],
      [
        { type: 'linear', name: 'a', units: 5 },
        { type: 'batch_norm', name: 'bn', epsilon: 1e-3 },
        { type: 'activation', function: 'tanh' },
        { type: 'layer_norm', name: 'n' },
        { type: 'linear', name: 'b', units: 2, bias: false },
        { type: 'activation', function: 'softmax' },
      ],
      { input: { shape: [3], name: 'features' }, output: { name: 'risk', labels: ['low', 'high'] } },
    );
    const model = parse({ 'config.json': config, 'model.safetensors': writeSafetensors(weights) });
    const x = [0.5, -1, 2];
    const of = (name: string): readonly number[] => flat(weights.get(name)!);
    const product = (v: readonly number[], name: string): number[] => {
      const w = of(name);
      return Array.from({ length: w.length / v.length }, (_, i) =>
        v.reduce((sum, a, j) => sum + a * w[i * v.length + j]!, 0),
      );
    };
    let y = product(x, 'a.weight').map((value, i) => value + of('a.bias')[i]!);
    y = y.map((value, i) => {
      const normal = (value - of('bn.running_mean')[i]!) / Math.sqrt(of('bn.running_var')[i]! + 1e-3);
      return Math.tanh(normal * of('bn.weight')[i]! + of('bn.bias')[i]!);
    });
    const mean = y.reduce((sum, value) => sum + value, 0) / 5;
    const spread = Math.sqrt(y.reduce((sum, value) => sum + (value - mean) ** 2, 0) / 5 + 1e-5);
    y = y.map((value, i) => ((value - mean) / spread) * of('n.weight')[i]! + of('n.bias')[i]!);
    const powers = product(y, 'b.weight').map(Math.exp);
    expectNear(
      run(model, { features: Tensor.of('f32', [x]) })['risk'],
      powers.map(power => power / (powers[0]! + powers[1]!)),
      1e-6,
    );
    expect(model.graph.maps.get(model.graph.outputs[0]!)?.labels).toEqual(['low', 'high']);
  });

  test('cnn moves its windows by stride, padding, dilation and groups', () => {
    const weights = filled([
      ['c.weight', [4, 1, 3, 2]],
      ['c.bias', [4]],
    ]);
    const conv = {
      type: 'conv2d',
      name: 'c',
      filters: 4,
      kernel: [3, 2],
      stride: [2, 1],
      padding: [1, 0],
      dilation: [1, 2],
      groups: 2,
    };
    const config = layersConfig('cnn', [2, 6, 7], [conv, { type: 'average_pool', kernel: 2, stride: 1, padding: 1 }]);
    const model = parse({ 'config.json': config, 'model.safetensors': writeSafetensors(weights) });
    const image = randomWeights(new Map([['x', [1, 2, 6, 7]]]), 13).get('x')!;
    const [x, w, bias] = [flat(image), flat(weights.get('c.weight')!), flat(weights.get('c.bias')!)];
    // 6 rows at stride 2 with one row of padding: 3; 7 columns with a window 3 wide: 5.
    const convolved = [0, 1, 2, 3].map(f =>
      [0, 1, 2].map(row =>
        [0, 1, 2, 3, 4].map(column => {
          let sum = bias[f]!;
          for (let i = 0; i < 3; i++) {
            for (let j = 0; j < 2; j++) {
              const [r, c] = [row * 2 - 1 + i, column + j * 2];
              if (r >= 0 && r < 6) sum += x[Math.floor(f / 2) * 42 + r * 7 + c]! * w[f * 6 + i * 2 + j]!;
            }
          }
          return sum;
        }),
      ),
    );
    const pooled = convolved.map(plane =>
      [0, 1, 2, 3].map(row =>
        [0, 1, 2, 3, 4, 5].map(column => {
          const inside = [-1, 0]
            .flatMap(i => [-1, 0].map(j => plane[row + i]?.[column + j]))
            .filter(v => v !== undefined);
          return inside.reduce((sum, value) => sum + value, 0) / inside.length;
        }),
      ),
    );
    expectNear(run(model, { input: image })['output'], pooled, 1e-6);
  });

  const good = { type: 'linear', name: 'a', units: 1 };
  const file = writeSafetensors(
    filled([
      ['a.weight', [1, 2]],
      ['a.bias', [1]],
    ]),
  );
  test.each<readonly [string, object, RegExp]>([
    [
      'a field that no layer of the type has',
      layersConfig('mlp', [2], [{ ...good, unit: 3 }]),
      /layers\[0\]\.unit: no such field here; there are type, name, units, bias/,
    ],
    ['a field that no model has', layersConfig('mlp', [2], [good], { seed: 1 }), /config\.json: seed: no such field/],
    [
      'a field that no input has',
      layersConfig('mlp', [2], [good], { input: { shape: [2], dtype: 'f16' } }),
      /input\.dtype: no such field/,
    ],
    [
      'a layer of images in an mlp',
      layersConfig('mlp', [2], [{ type: 'flatten' }]),
      /layers\[0\]\.type: expected one of linear/,
    ],
    [
      'a layer that is none',
      layersConfig('mlp', [2], [good, 3 as unknown as object]),
      /layers\[1\]: expected an object, got 3/,
    ],
    ['no layers', layersConfig('mlp', [2], []), /layers: expected a list of objects/],
    ['a name given twice', layersConfig('mlp', [2], [good, good]), /layers\[1\]\.(name|type)/],
    ['a shape of another rank', layersConfig('cnn', [2, 3], [good]), /input\.shape: expected 3 sizes/],
    ['an absurd size', layersConfig('mlp', [1e300], [good]), /input\.shape: expected 1 to 1 integers/],
    [
      'units that are no number',
      layersConfig('mlp', [2], [{ ...good, units: '1' }]),
      /layers\[0\]\.units: expected an integer .*, got "1"/,
    ],
    ['linear on images', layersConfig('cnn', [2, 2, 2], [good]), /layers\[0\]\.type: expected a layer for \(2, 2, 2\)/],
    [
      'weights of another shape',
      layersConfig('mlp', [3], [good]),
      /tensor "a\.weight": expected \[1,3\], got f32\[1,2\]/,
    ],
    [
      'a tensor that no layer has',
      layersConfig('mlp', [2], [{ ...good, bias: false }]),
      /1 tensors belong to no layer: "a\.bias"/,
    ],
    [
      'a window larger than the image',
      layersConfig('cnn', [1, 2, 2], [{ type: 'max_pool', kernel: 3 }]),
      /layers\[0\]/,
    ],
    ['a product past every limit', layersConfig('cnn', [2 ** 20, 2 ** 20, 2 ** 20], [{ type: 'flatten' }]), /limit/],
    [
      'padding without bounds',
      layersConfig('cnn', [1, 2, 2], [{ type: 'max_pool', kernel: 2, padding: 2 ** 26 }]),
      /layers\[0\]|limit/,
    ],
  ])('refuses %s', (_, config, pattern) => {
    const message = problem(() => parse({ 'config.json': config, 'model.safetensors': file }));
    expect(message).toMatch(/^(INVALID_MODEL|INVALID_GRAPH|MODEL_TOO_LARGE|SHAPE_MISMATCH): /);
    expect(message).toMatch(pattern);
  });

  test('keeps its limit of layers', () => {
    const config = layersConfig('mlp', [2], [good, good, good]);
    const call = (): unknown => parse({ 'config.json': config, 'model.safetensors': file }, { limits: { layers: 2 } });
    expect(problem(call)).toMatch(/^MODEL_TOO_LARGE: config\.json: layers: 3 items, the limit is 2/);
  });
});

describe('a hostile folder', () => {
  const { weights } = smallBert();
  const file = writeSafetensors(weights);
  const refusal = (config: unknown, more: Files = { 'model.safetensors': file }): string =>
    problem(() => parse({ 'config.json': config, ...more }));

  test.each<readonly [string, object, RegExp]>([
    ['no model type', { ...CONFIG, model_type: undefined }, /^INVALID_MODEL: config\.json: model_type: .* got nothing/],
    [
      'another model type',
      { ...CONFIG, model_type: 'gpt2' },
      /^UNSUPPORTED_MODEL: .*"gpt2" is not supported; there are bert/,
    ],
    [
      'a hidden size of 2^53',
      { ...CONFIG, hidden_size: 2 ** 53 },
      /hidden_size: expected an integer from 1 to 67108864/,
    ],
    [
      'a hidden size of another model',
      { ...CONFIG, hidden_size: (2 ** 25 * 3) / 3 },
      /num_attention_heads: expected a divisor/,
    ],
    ['a hidden size below one', { ...CONFIG, hidden_size: -12 }, /hidden_size: .* got -12/],
    ['a hidden size with a fraction', { ...CONFIG, hidden_size: 12.5 }, /hidden_size: .* got 12.5/],
    [
      'more layers than there are',
      { ...CONFIG, num_hidden_layers: 2 ** 26 },
      /tensor "encoder\.layer\.2\.attention\.self\.query\.weight" is missing/,
    ],
    [
      'heads that do not divide',
      { ...CONFIG, num_attention_heads: 5 },
      /num_attention_heads: expected a divisor of the hidden size 12, got 5/,
    ],
    [
      'another vocabulary',
      { ...CONFIG, vocab_size: 12 },
      /tensor "embeddings\.word_embeddings\.weight": expected \[12,12\], got f32\[11,12\]/,
    ],
    [
      'an unknown activation',
      { ...CONFIG, hidden_act: 'constructor' },
      /hidden_act: expected one of gelu, .*, got "constructor"/,
    ],
    [
      'an epsilon that is no number',
      { ...CONFIG, layer_norm_eps: '1e-5' },
      /layer_norm_eps: expected a number from 0 to 1/,
    ],
    ['a decoder', { ...CONFIG, is_decoder: true }, /^UNSUPPORTED_MODEL: config\.json: is_decoder/],
    [
      'relative positions',
      { ...CONFIG, position_embedding_type: 'relative_key' },
      /^UNSUPPORTED_MODEL: config\.json: position_embedding_type/,
    ],
    [
      'quantised weights',
      { ...CONFIG, quantization_config: {} },
      /^UNSUPPORTED_MODEL: config\.json: quantization_config/,
    ],
    [
      'labels with holes',
      { ...CONFIG, id2label: { 0: 'a', 2: 'b' } },
      /id2label: expected an object with texts for "0", "1"/,
    ],
    ['architectures that are no list', { ...CONFIG, architectures: 'BertModel' }, /architectures: expected a list/],
  ])('with %s is refused', (_, config, pattern) => {
    expect(refusal(config)).toMatch(pattern);
  });

  test('whose configuration is no object of JSON, or says a thing twice, is refused', () => {
    expect(refusal([])).toMatch(/^INVALID_MODEL: config\.json is not an object/);
    expect(refusal(encodeUtf8('{'))).toMatch(/^INVALID_MODEL: config\.json is not JSON/);
    expect(refusal(encodeUtf8('{"a":1,"a":2}'))).toMatch(/^INVALID_MODEL: config\.json: the key "a" is given twice/);
    expect(refusal(encodeUtf8(`{"model_type":${'['.repeat(4e5)}${']'.repeat(4e5)}}`))).toMatch(
      /model_type: .* got a list/,
    );
    expect(refusal(new Uint8Array(2 ** 20 + 1))).toMatch(/^MODEL_TOO_LARGE: config\.json has 1048577 bytes/);
  });

  test('without a file that it needs is refused', () => {
    expect(problem(() => parse({}))).toBe('INVALID_MODEL: there is no config.json in the folder');
    expect(refusal(CONFIG, {})).toMatch(
      /^INVALID_MODEL: expected model\.safetensors or model\.safetensors\.index\.json/,
    );
  });

  const changed = (name: string, tensor: Tensor | undefined): string => {
    const others = new Map(weights);
    if (tensor) others.set(name, tensor);
    else others.delete(name);
    return refusal(CONFIG, { 'model.safetensors': writeSafetensors(others) });
  };

  test('without any one of its tensors is refused with the name of it', () => {
    for (const name of weights.keys()) {
      const message = changed(name, undefined);
      if (name.includes('word_embeddings')) expect(message).toContain('word_embeddings.weight" is missing');
      else expect(message).toContain(`tensor ${JSON.stringify(name)} is missing: expected [`);
    }
  });

  test('with any one of its tensors of another shape or type is refused with the name of it', () => {
    for (const [name, { shape }] of weights) {
      expect(changed(name, Tensor.zeros('f32', [...shape, 1]))).toContain(
        `INVALID_MODEL: tensor ${JSON.stringify(name)}: expected`,
      );
      expect(
        changed(
          name,
          Tensor.zeros(
            'f32',
            shape.map(size => size + 1),
          ),
        ),
      ).toContain(`tensor ${JSON.stringify(name)}: expected`);
      expect(changed(name, Tensor.zeros('f64', shape))).toContain(
        `tensor ${JSON.stringify(name)}: expected f32, f16, bf16, got f64`,
      );
    }
  });

  test('with a weight under both of its names is refused', () => {
    expect(changed('embeddings.LayerNorm.gamma', Tensor.zeros('f32', [12]))).toMatch(/the same weight is there as/);
    expect(changed('bert.embeddings.word_embeddings.weight', Tensor.zeros('f32', [11, 12]))).toMatch(/the same weight/);
  });

  const index = (weight_map: unknown): string =>
    refusal(CONFIG, { 'model.safetensors.index.json': { weight_map }, 'a.safetensors': file });
  test.each([
    '../a.safetensors',
    '/a.safetensors',
    'b/../a.safetensors',
    'C:a.safetensors',
    'b\\a.safetensors',
    '',
    '.',
    'a\0',
  ])('whose index leads to %j is refused before anything is opened', path => {
    const opened: string[] = [];
    const call = (): unknown =>
      parseHuggingFace(name => {
        opened.push(name);
        if (name === 'config.json') return bytesSource(encodeUtf8(JSON.stringify(CONFIG)));
        if (!name.endsWith('.json')) return undefined;
        return bytesSource(encodeUtf8(JSON.stringify({ weight_map: { good: 'a.safetensors', bad: path } })));
      });
    expect(problem(call)).toMatch(/^INVALID_MODEL: .*tensor "bad": expected the name of a file in the folder/);
    expect(opened).toEqual(['config.json', 'model.safetensors', 'model.safetensors.index.json']);
  });

  test('whose index does not tell the truth is refused', () => {
    expect(index(7)).toMatch(/weight_map is not an object/);
    expect(index({ 'pooler.dense.bias': 7 })).toMatch(/tensor "pooler.dense.bias": expected the name of a file/);
    expect(index({ x: 'a.safetensors' })).toMatch(/tensor "x" is not in "a.safetensors"/);
    expect(index({ x: 'b.safetensors' })).toMatch(/there is no "b.safetensors" in the folder/);
    expect(index({ x: 'config.json' })).toMatch(/^INVALID_MODEL: safetensors: /);
    const long = { 'model.safetensors.index.json': new Uint8Array(2 ** 24 + 1) };
    expect(refusal(CONFIG, long)).toMatch(/^MODEL_TOO_LARGE: model\.safetensors\.index\.json has/);
  });
});

describe('any configuration gives a graph that runs, or a typed error', () => {
  const runs = runsOf(600);
  const { weights } = smallBert();
  const layerFile = writeSafetensors(
    randomWeights(
      new Map([
        ['a.weight', [2, 3]],
        ['a.bias', [2]],
        ['c.weight', [2, 1, 2, 2]],
        ['c.bias', [2]],
      ]),
    ),
  );
  const files = [writeSafetensors(weights), writeSafetensors(renamed(weights, name => `roberta.${name}`)), layerFile];
  const any = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.constantFrom<unknown>(0, 1, 2, 3, 7, 12, -1, 1.5, 2 ** 26, 2 ** 53, null, true, '', 'gelu'),
    },
    { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 3 }) },
  );
  const one = fc.record(
    {
      type: fc.constantFrom(
        'linear',
        'conv2d',
        'max_pool',
        'average_pool',
        'flatten',
        'activation',
        'dropout',
        'layer_norm',
        'global_average_pool',
      ),
      name: fc.constantFrom('a', 'c', 'input', 'output'),
      units: fc.constantFrom<unknown>(2, 3, 2 ** 26),
      filters: fc.constantFrom<unknown>(2, 0),
      kernel: fc.constantFrom<unknown>(1, 2, [2, 2], [1, 3], 2 ** 26),
      stride: fc.constantFrom<unknown>(1, [2, 1], 0),
      padding: fc.constantFrom<unknown>(0, 1, [1, 0], 2 ** 26),
      dilation: fc.constantFrom<unknown>(1, 2, 2 ** 26),
      function: fc.constantFrom('relu', 'softmax', 'no'),
      bias: fc.boolean(),
    },
    { requiredKeys: ['type'] },
  );
  const trimmed = one.map(layer => {
    const fits: Readonly<Record<string, readonly string[]>> = {
      linear: ['name', 'units', 'bias'],
      conv2d: ['name', 'filters', 'kernel', 'stride', 'padding', 'dilation', 'bias'],
      max_pool: ['kernel', 'stride', 'padding'],
      average_pool: ['kernel', 'stride', 'padding'],
      activation: ['function'],
    };
    const keys = ['type', ...(fits[layer.type] ?? [])];
    return Object.fromEntries(Object.entries(layer).filter(([key]) => keys.includes(key)));
  });
  const layered = fc.record({
    model_type: fc.constantFrom('mlp', 'cnn'),
    input: fc.record({ shape: fc.constantFrom<unknown>([3], [1, 3, 3], [2, 2], [1, 2 ** 26, 2 ** 26], 3) }),
    layers: fc.array(
      fc.oneof({ weight: 9, arbitrary: trimmed }, { weight: 1, arbitrary: one }, { weight: 1, arbitrary: any }),
      {
        maxLength: 4,
      },
    ),
  });
  const encoder = fc
    .tuple(
      fc.dictionary(fc.constantFrom(...Object.keys(CONFIG), 'pad_token_id', 'id2label', 'tie_word_embeddings'), any, {
        maxKeys: 2,
      }),
      fc.constantFrom('bert', 'roberta', 'distilbert'),
    )
    .map(([changes, model_type]) => ({ ...CONFIG, model_type, architectures: undefined, ...changes }));

  /** 1 where the graph ran. */
  function attempt(config: Uint8Array, weightFile: Uint8Array): number {
    const outputs = typedWithin(2000, () => {
      const { graph, source } = parse({ 'config.json': config, 'model.safetensors': weightFile });
      const executable = referenceBackend.prepare(graph, { constants: source, limitBytes: 2 ** 24 });
      const inputs = graph.inputs.map(id => {
        const { name, facts } = graph.values[id]!;
        const shape = facts.shape.map(dim => (typeof dim === 'number' ? Math.min(dim, 8) : 2));
        return [name, Tensor.zeros(facts.dtype, shape)];
      });
      return executable.runSync(Object.fromEntries(inputs));
    });
    return outputs ? 1 : 0;
  }

  test(
    'of an encoder or of layers',
    () => {
      let ran = 0;
      fc.assert(
        fc.property(fc.oneof(encoder, layered), fc.constantFrom(...files), (config, weightFile) => {
          ran += attempt(encodeUtf8(JSON.stringify(config)), weightFile);
        }),
        { numRuns: runs },
      );
      expect(ran).toBeGreaterThan(runs / 50); // the property is not vacuous
    },
    FUZZ_TIMEOUT_MS,
  );

  test(
    'of any JSON, or of bytes',
    () => {
      const text = fc.oneof(fc.json(), fc.string()).map(encodeUtf8);
      fc.assert(
        fc.property(
          fc.oneof(text, fc.uint8Array({ maxLength: 200 })),
          fc.constantFrom(...files),
          (config, weightFile) => {
            attempt(config, weightFile);
          },
        ),
        { numRuns: runs },
      );
    },
    FUZZ_TIMEOUT_MS,
  );

  test(
    'with any index',
    () => {
      const name = fc.oneof(fc.constantFrom('pooler.dense.bias', 'x'), fc.string());
      const path = fc.oneof(fc.constantFrom<unknown>('a.safetensors', 'b', '../a.safetensors', 3), fc.string());
      const index = fc.oneof(
        fc.json(),
        fc.dictionary(name, path).map(weight_map => JSON.stringify({ weight_map })),
      );
      fc.assert(
        fc.property(index, text => {
          const call = (): unknown =>
            parse({
              'config.json': CONFIG,
              'model.safetensors.index.json': encodeUtf8(text),
              'a.safetensors': files[0],
            });
          expect(problem(call)).toMatch(/^(INVALID_MODEL|UNSUPPORTED_MODEL|MODEL_TOO_LARGE): /);
        }),
        { numRuns: runs },
      );
    },
    FUZZ_TIMEOUT_MS,
  );
});
