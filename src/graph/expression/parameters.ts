/**
 * How operators are called by name: which argument is which input or attribute.
 *
 * The operator table knows how many inputs a node has, not what they are called. Here the names and places are those of the ONNX
 * specification. A name is an attribute where the operator's version has one of that name, an input otherwise, so that
 * `reduceSum(x, axes)` is right on both sides of the opset that moved the axes.
 * @module
 */
import { DTYPES, type DType } from '../../tensor/index.ts';
import { type Operator, type OperatorTable, operatorKey } from '../ops/operator.ts';

/** One place in the list of arguments. */
export interface Parameter {
  readonly name: string;
  /** What a number or nested array becomes here. The dtype of the other operands where left out. */
  readonly dtype?: DType;
  /** A single number stands for a list of one. */
  readonly list: boolean;
  /** Takes all arguments from here on. */
  readonly rest: boolean;
}

/** An operator that says how its inputs are called, as those of `defineOp` do. */
export interface NamedOperator extends Operator {
  /** Names of the inputs, in order. */
  readonly parameters: readonly string[];
}

/** Parameters in order: `name`, `name:dtype`, `name:dtype[]` for a list, `...name` for the rest. */
const SIGNATURES: Readonly<Record<string, string>> = {
  ArgMax: 'data axis',
  ArgMin: 'data axis',
  Attention: 'Q K V attn_mask past_key past_value',
  AveragePool: 'X kernel_shape',
  BatchNormalization: 'X scale B input_mean input_var',
  Cast: 'input to',
  Celu: 'X alpha',
  Clip: 'input min max',
  Compress: 'input condition:bool[]',
  Concat: '...inputs',
  ConstantOfShape: 'input:i64[]',
  Conv: 'X W B',
  ConvTranspose: 'X W B',
  CumSum: 'x axis:i64',
  DepthToSpace: 'input blocksize',
  DequantizeLinear: 'x x_scale:f32 x_zero_point',
  Einsum: '...Inputs',
  Elu: 'X alpha',
  Expand: 'input shape:i64[]',
  Flatten: 'input axis',
  GRU: 'X W R B sequence_lens:i32[] initial_h',
  Gather: 'data indices:i64',
  GatherElements: 'data indices:i64',
  GatherND: 'data indices:i64',
  Gelu: 'X approximate',
  Gemm: 'A B C',
  GroupNormalization: 'X scale bias',
  HardSigmoid: 'X alpha beta',
  Hardmax: 'input axis',
  InstanceNormalization: 'input scale B',
  LSTM: 'X W R B sequence_lens:i32[] initial_h initial_c P',
  LayerNormalization: 'X Scale B',
  LeakyRelu: 'X alpha',
  LogSoftmax: 'input axis',
  LpNormalization: 'input axis p',
  MatMul: 'A B',
  Max: '...data_0',
  MaxPool: 'X kernel_shape',
  Mean: '...data_0',
  Min: '...data_0',
  Mod: 'A B fmod',
  OneHot: 'indices:i64 depth:i64 values',
  PRelu: 'X slope',
  Pad: 'data pads:i64[] constant_value axes:i64[]',
  Pow: 'X Y',
  QuantizeLinear: 'x y_scale y_zero_point:u8',
  RMSNormalization: 'X scale',
  RNN: 'X W R B sequence_lens:i32[] initial_h',
  Range: 'start limit delta',
  ReduceL1: 'data axes:i64[]',
  ReduceL2: 'data axes:i64[]',
  ReduceLogSum: 'data axes:i64[]',
  ReduceLogSumExp: 'data axes:i64[]',
  ReduceMax: 'data axes:i64[]',
  ReduceMean: 'data axes:i64[]',
  ReduceMin: 'data axes:i64[]',
  ReduceProd: 'data axes:i64[]',
  ReduceSum: 'data axes:i64[]',
  ReduceSumSquare: 'data axes:i64[]',
  Reshape: 'data shape:i64[]',
  Resize: 'X roi:f32 scales:f32 sizes:i64[]',
  RotaryEmbedding: 'X cos_cache sin_cache position_ids:i64',
  ScatterElements: 'data indices:i64 updates',
  ScatterND: 'data indices:i64 updates',
  Selu: 'X alpha gamma',
  Shape: 'data start end',
  Shrink: 'input bias lambd',
  SimplifiedLayerNormalization: 'X scale',
  Slice: 'data starts:i64[] ends:i64[] axes:i64[] steps:i64[]',
  Softmax: 'input axis',
  SpaceToDepth: 'input blocksize',
  Split: 'input split:i64[]',
  Squeeze: 'data axes:i64[]',
  Sum: '...data_0',
  Swish: 'X alpha',
  ThresholdedRelu: 'X alpha',
  Tile: 'input repeats:i64[]',
  TopK: 'X K:i64[]',
  Transpose: 'data perm',
  Trilu: 'input k:i64',
  Unsqueeze: 'data axes:i64[]',
  Upsample: 'X scales:f32',
  Where: 'condition:bool X Y',
};

/** The parameters of `operator` in order, or undefined where every argument is an input of the same dtype. */
export function parametersOf(operator: Operator): readonly Parameter[] | undefined {
  if ('parameters' in operator) {
    return (operator as NamedOperator).parameters.map(name => ({ name, list: false, rest: false }));
  }
  const signature = Object.hasOwn(SIGNATURES, operator.name) ? SIGNATURES[operator.name] : undefined;
  return operator.domain === '' ? signature?.split(' ').map(parseParameter) : undefined;
}

function parseParameter(text: string): Parameter {
  const [, rest, name, dtype, list] = /^(\.\.\.)?(\w+)(?::(\w+))?(\[\])?$/.exec(text)!;
  const base = { name: name!, list: list !== undefined, rest: rest !== undefined };
  return dtype !== undefined && Object.hasOwn(DTYPES, dtype) ? { ...base, dtype: dtype as DType } : base;
}

/** Names that are not the operator's own with a small first letter. */
const SPELLINGS: Readonly<Record<string, string>> = { MatMul: 'matmul', PRelu: 'prelu' };

/** The operator's name as that of a method: `ReduceSum` is `reduceSum`, `LSTM` is `lstm`, `MatMul` is `matmul`. */
export function methodName(operator: string): string {
  if (Object.hasOwn(SPELLINGS, operator)) return SPELLINGS[operator]!;
  return operator.replace(/^[A-Z]+(?![a-z])|^[A-Z]/, capitals => capitals.toLowerCase());
}

const INDEXES = new WeakMap<OperatorTable, ReadonlyMap<string, Operator>>();

const OPSETS = new WeakMap<OperatorTable, ReadonlyMap<string, number>>();

/** The newest opset of a domain other than ONNX's own that the table knows: one for all its nodes, as in a file. */
export function opsetOf(table: OperatorTable, domain: string): number {
  let opsets = OPSETS.get(table);
  if (!opsets) {
    const newest = new Map<string, number>();
    for (const operator of table.values()) {
      const since = operator.versions.at(-1)?.since ?? 1;
      newest.set(operator.domain, Math.max(since, newest.get(operator.domain) ?? 1));
    }
    opsets = newest;
    OPSETS.set(table, opsets);
  }
  return opsets.get(domain) ?? 1;
}

/** Whose operator a bare name means where several domains have one. */
const PREFERENCE: readonly string[] = ['com.microsoft', 'ai.onnx.ml'];

/**
 * The operator that `name` means: `reduceSum`, `ReduceSum` and `reduce_sum` are one, and `domain::Name` says the domain. A bare
 * name means ONNX's own operator where there is one, then that of a domain that is not widely known, then of those that are.
 */
export function findOperator(table: OperatorTable, name: string): Operator | undefined {
  const [domain, own] = name.includes('::') ? (name.split('::', 2) as [string, string]) : [undefined, name];
  if (domain !== undefined) return table.get(operatorKey(domain === 'ai.onnx' ? '' : domain, own));
  let index = INDEXES.get(table);
  if (!index) {
    index = indexOf(table);
    INDEXES.set(table, index);
  }
  return index.get(plain(own));
}

function indexOf(table: OperatorTable): ReadonlyMap<string, Operator> {
  const index = new Map<string, Operator>();
  for (const operator of table.values()) {
    const key = plain(operator.name);
    const other = index.get(key);
    if (!other || precedence(operator) >= precedence(other)) index.set(key, operator);
  }
  return index;
}

function precedence({ domain }: Operator): number {
  if (domain === '') return PREFERENCE.length + 1;
  const place = PREFERENCE.indexOf(domain);
  return place === -1 ? PREFERENCE.length : place;
}

function plain(name: string): string {
  return name.replaceAll('_', '').toLowerCase();
}
