/**
 * ONNX: bytes that nobody vouches for become a graph, or a typed error. `records.ts` reads what the file says, `functions.ts` puts
 * the bodies of functions where they are called, `assemble.ts` builds the graph. Facts of values between inputs and outputs are
 * inferred, not believed.
 * @module
 */
import { CloisterError } from '../../base/index.ts';
import { type Graph, OPERATORS, type OperatorTable } from '../../graph/index.ts';
import type { Tensor } from '../../tensor/index.ts';
import type { ModelSource } from '../source.ts';
import { assemble } from './assemble.ts';
import type { ExternalData } from './external.ts';
import { inlineFunctions } from './functions.ts';
import { DEFAULT_ONNX_LIMITS, LimitCounter, type OnnxLimits } from './limits.ts';
import { OnnxReader } from './records.ts';

/** What {@link parseOnnx} may be told. */
export interface OnnxOptions {
  /** Limits that differ from {@link DEFAULT_ONNX_LIMITS}. */
  readonly limits?: Partial<OnnxLimits>;
  /** The operators that the model may use; the whole table where left out. */
  readonly operators?: OperatorTable;
  /**
   * Sizes of symbolic dimensions of the inputs, by name, that are fixed here for good. A model whose control flow depends on sizes
   * may need them, as the ranks of its values do.
   */
  readonly dims?: Readonly<Record<string, number>>;
  /**
   * Inputs that are fixed here for good, by name: they become constants. A model whose shapes or control flow depend on the elements
   * of an input (a target size) may need it.
   */
  readonly values?: Readonly<Record<string, Tensor>>;
  /** Where the weights are that the model keeps in other files; a model that has such is refused where left out. */
  readonly external?: ExternalData;
}

/**
 * Returns the graph that an ONNX file holds. Weights that the file holds as plain bytes stay there: they become ranges, which
 * whoever runs the graph reads from the same source. Initialisers that are also listed as inputs are constants. Functions of the
 * model are put in place of their calls. A ZipMap at an output becomes labels of that output's columns (`graph.maps`).
 *
 * @throws {CloisterError} `INVALID_MODEL` with the byte where the file stops making sense; `MODEL_TOO_LARGE` naming the limit;
 *   `UNSUPPORTED_MODEL` listing every node whose operator is not in the table, or naming what else is missing here (sparse
 *   tensors, values that are no tensors); `INVALID_ARGUMENT` when `dims` or `values` holds what no input has; `INVALID_GRAPH` naming the node or value that does not fit.
 * @example
 * ```ts
 * const source = bytesSource(await readFile('digits.onnx'));
 * const graph = parseOnnx(source);
 * const model = referenceBackend.prepare(graph, { constants: source });
 * const { logits } = await model.run({ image: Tensor.zeros('f32', [1, 1, 28, 28]) });
 * logits?.shape; // [1, 10]
 * ```
 */
export function parseOnnx(source: ModelSource, options: OnnxOptions = {}): Graph {
  const limits = { ...DEFAULT_ONNX_LIMITS, ...options.limits };
  if (source.size > limits.bytes) {
    const message = `the file has ${source.size} bytes, the limit is ${limits.bytes}`;
    throw new CloisterError('MODEL_TOO_LARGE', message, { limit: 'bytes', most: limits.bytes, came: source.size });
  }
  const counter = new LimitCounter(limits);
  const model = inlineFunctions(new OnnxReader(source, counter, options.external).model(), counter);
  return assemble(model, {
    source,
    counter,
    operators: options.operators ?? OPERATORS,
    dims: options.dims ?? {},
    values: options.values ?? {},
  });
}

/**
 * Returns where an ONNX file says that its weights lie: the relative paths of the files beside it, each once, in the order in which
 * the file names them. Builds no graph, and needs none of those files.
 *
 * @throws {CloisterError} `INVALID_MODEL`, also when a path leaves the folder of the model; `MODEL_TOO_LARGE`; `UNSUPPORTED_MODEL`.
 * @example
 * ```ts
 * listExternalData(bytesSource(await readFile('digits.onnx'))); // []: all weights are in the file
 * ```
 */
export function listExternalData(source: ModelSource, options: Pick<OnnxOptions, 'limits'> = {}): readonly string[] {
  const locations = new Set<string>();
  // Behind the file lie zeros without end: nothing that is read of them decides where other weights are.
  const endless: ModelSource = {
    size: source.size,
    read: (offset, length) => (offset < source.size ? source.read(offset, length) : new Uint8Array(length)),
  };
  const external: ExternalData = {
    locate(location) {
      locations.add(location);
      return { offset: source.size, size: Number.MAX_SAFE_INTEGER };
    },
  };
  new OnnxReader(endless, new LimitCounter({ ...DEFAULT_ONNX_LIMITS, ...options.limits }), external).model();
  return [...locations];
}
