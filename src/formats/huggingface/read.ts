/**
 * The folder layout of Hugging Face: `config.json` says what a model is, `model.safetensors` (or several files and an index) holds its
 * weights. There is no graph in such a folder: it is built here, from the configuration.
 * @see https://huggingface.co/docs/transformers/main_classes/configuration
 * @module
 */
import { CloisterError } from '../../base/index.ts';
import { type Graph, GraphBuilder } from '../../graph/index.ts';
import { parseJsonObject } from '../json.ts';
import { DEFAULT_SAFETENSORS_LIMITS } from '../safetensors.ts';
import { type ModelSource, withExternalData } from '../source.ts';
import { Fields } from './config.ts';
import { buildEncoder, ENCODERS } from './encoder.ts';
import { buildLayers, LAYERED } from './layers.ts';
import { type FolderLimits, openWeights, readAll, Weights } from './weights.ts';

/** Limits that real models stay far below. */
export const DEFAULT_FOLDER_LIMITS: FolderLimits = Object.freeze({
  ...DEFAULT_SAFETENSORS_LIMITS,
  configBytes: 2 ** 20,
  indexBytes: 16 * 2 ** 20,
  files: 1000,
  layers: 10_000,
});

/** What {@link parseHuggingFace} may be told. */
export interface HuggingFaceOptions {
  /** Limits that differ from {@link DEFAULT_FOLDER_LIMITS}. */
  readonly limits?: Partial<FolderLimits>;
  /** The architecture to build, such as `BertModel`; the first that `config.json` names where left out. */
  readonly architecture?: string;
}

/** What a folder holds. */
export interface HuggingFaceModel {
  readonly graph: Graph;
  /** Where the graph's constants are: `config.json`, and behind it the files with weights. */
  readonly source: ModelSource;
  /** Names of tensors that the graph has no use for: weights of another head, for example. */
  readonly unused: readonly string[];
}

/**
 * Returns the graph of a model in the folder layout of Hugging Face. Weights stay in their files, as ranges of `source`; those in f16
 * and bf16 are cast where they are used, for the graph computes in f32.
 *
 * Encoders (`model_type` bert, roberta, xlm-roberta, distilbert) take `input_ids`, `attention_mask` and, for bert, `token_type_ids`, all
 * i64 (batch, sequence). The first of `architectures` decides what comes out: `…Model` (`last_hidden_state`, and `pooler_output` where
 * the weights of a pooler are there), `…ForMaskedLM`, `…ForSequenceClassification`, `…ForTokenClassification` (`logits`),
 * `…ForQuestionAnswering` (`start_logits`, `end_logits`), `BertForPreTraining` (`prediction_logits`, `seq_relationship_logits`). Weights
 * may have the encoder's prefix or not, and the old names `gamma` and `beta`. Fields of the configuration that change nothing are
 * ignored; those that would change the computation into another one are refused. Tensors without a use are listed.
 *
 * Networks of layers (`model_type` mlp, cnn) are a schema of this library, in which everything must have a use: see `layers.ts`.
 *
 * @param open - The file of this name in the folder; undefined where there is none. Names have been checked for their form.
 * @throws {CloisterError} `INVALID_MODEL` naming the field of the configuration, or the tensor, that is missing or not as expected;
 *   `UNSUPPORTED_MODEL` for other models and architectures; `MODEL_TOO_LARGE` naming the limit; `INVALID_GRAPH` naming the layer that
 *   does not fit.
 * @example
 * ```ts
 * const files = new Map([
 *   ['config.json', encodeUtf8('{"model_type":"mlp","input":{"shape":[2]},"layers":[{"type":"linear","name":"fc","units":1}]}')],
 *   ['model.safetensors', writeSafetensors({ 'fc.weight': Tensor.of('f32', [[1, 2]]), 'fc.bias': Tensor.of('f32', [3]) })],
 * ]);
 * const { graph, source } = parseHuggingFace(name => {
 *   const bytes = files.get(name);
 *   return bytes && bytesSource(bytes);
 * });
 * const model = referenceBackend.prepare(graph, { constants: source });
 * const { output } = await model.run({ input: Tensor.of('f32', [[10, 20]]) });
 * output?.toArray(); // [[53]]
 * ```
 */
export function parseHuggingFace(
  open: (name: string) => ModelSource | undefined,
  options: HuggingFaceOptions = {},
): HuggingFaceModel {
  const limits = { ...DEFAULT_FOLDER_LIMITS, ...options.limits };
  const config = open('config.json');
  if (!config) throw new CloisterError('INVALID_MODEL', 'there is no config.json in the folder');
  const fields = new Fields(parseJsonObject(readAll(config, 'config.json', 'configBytes', limits), 'config.json'));
  const type = fields.text('model_type');
  if (!ENCODERS.has(type) && !LAYERED.includes(type)) {
    const known = [...ENCODERS.keys(), ...LAYERED].join(', ');
    const message = `config.json: model_type ${JSON.stringify(type)} is not supported; there are ${known}`;
    throw new CloisterError('UNSUPPORTED_MODEL', message);
  }
  const source = withExternalData(config, open);
  const builder = new GraphBuilder(type);
  const weights = new Weights(builder, openWeights(source, limits));
  if (LAYERED.includes(type)) buildLayers(builder, weights, fields, { type, most: limits.layers });
  else buildEncoder(builder, weights, fields, { type, architecture: options.architecture });
  return { graph: builder.build(), source, unused: weights.unused() };
}
