/**
 * Families of operators, and the colours that tell them apart in pictures.
 * @module
 */
import type { Node } from '../graph.ts';

/** How a family looks on a light and on a dark page. Text on fill has a contrast of at least 7 to 1. */
export interface Family {
  /** For legends. */
  readonly label: string;
  readonly light: Colours;
  readonly dark: Colours;
}

/** Colours as `#rrggbb`. */
export interface Colours {
  readonly fill: string;
  readonly stroke: string;
  readonly text: string;
}

/** The name of a family: also its class in an SVG. */
export type FamilyName =
  | 'linear'
  | 'activation'
  | 'arithmetic'
  | 'norm'
  | 'pool'
  | 'shape'
  | 'logic'
  | 'quant'
  | 'sequence'
  | 'classic'
  | 'other';

/** Every family. */
export const FAMILIES: Readonly<Record<FamilyName, Family>> = {
  linear: family('linear algebra', ['#d6e4ff', '#2f5fb3', '#0d2550'], ['#1d3358', '#7fa8ee', '#e3edff']),
  activation: family('activation', ['#ffe2cc', '#b35a12', '#4a2000'], ['#4d2a10', '#f0a868', '#ffeadb']),
  arithmetic: family('arithmetic', ['#e6e8eb', '#5d6672', '#1c2127'], ['#30363d', '#a6afba', '#eef1f4']),
  norm: family('normalisation', ['#d5f2e3', '#1f7a4d', '#06321c'], ['#123d29', '#69cf9c', '#dcf7e9']),
  pool: family('pooling, reduction', ['#cff0f5', '#17707e', '#04323a'], ['#0f3b43', '#62c6d6', '#d9f5f9']),
  shape: family('shape, movement', ['#f1e9fb', '#7a55ad', '#301756'], ['#38264f', '#bf9eea', '#f2e9ff']),
  logic: family('logic, control', ['#fff0b8', '#8a6a00', '#382b00'], ['#41370d', '#dec258', '#fff6d3']),
  quant: family('quantisation', ['#fbdcec', '#a83272', '#4b0c2f'], ['#4a1936', '#ea88bb', '#ffe4f2']),
  sequence: family('recurrence, attention', ['#dcdcff', '#4a49b8', '#191860'], ['#2a2961', '#a09ff2', '#e9e9ff']),
  classic: family('trees, linear models', ['#e3efc8', '#5b7a15', '#243204'], ['#303d10', '#aecb62', '#f0f7dc']),
  other: family('other', ['#ffffff', '#6b7280', '#1f2328'], ['#22262b', '#9aa3ad', '#f0f2f4']),
};

const MEMBERS: Readonly<Record<Exclude<FamilyName, 'classic' | 'other' | 'quant'>, string>> = {
  linear: 'MatMul Gemm FusedMatMul Conv ConvTranspose Einsum DeformConv Det FusedConv FusedGemm',
  activation:
    'Relu LeakyRelu PRelu Elu Selu Celu Gelu FastGelu BiasGelu QuickGelu Sigmoid HardSigmoid HardSwish Tanh Softplus Softsign Mish Swish ThresholdedRelu Shrink Clip Softmax LogSoftmax Hardmax Erf',
  arithmetic:
    'Add Sub Mul Div Pow Mod Neg Abs Sqrt Exp Log Reciprocal Floor Ceil Round Sign Sum Mean Max Min Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh CumSum BitShift BitwiseAnd BitwiseOr BitwiseXor BitwiseNot ImageScaler',
  norm: 'BatchNormalization LayerNormalization SimplifiedLayerNormalization SkipLayerNormalization SkipSimplifiedLayerNormalization EmbedLayerNormalization InstanceNormalization GroupNormalization RMSNormalization LpNormalization MeanVarianceNormalization LRN Dropout',
  pool: 'MaxPool AveragePool LpPool GlobalMaxPool GlobalAveragePool GlobalLpPool MaxRoiPool RoiAlign ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare ArgMax ArgMin TopK',
  shape:
    'Reshape Transpose Flatten Squeeze Unsqueeze Expand Tile Concat Split Slice Gather GatherElements GatherND Scatter ScatterElements ScatterND Pad Shape Size Identity Cast CastLike Constant ConstantOfShape Range Resize Upsample DepthToSpace SpaceToDepth OneHot EyeLike Trilu NonZero Compress Unique ReverseSequence CenterCropPad TensorScatter',
  logic: 'Equal Less LessOrEqual Greater GreaterOrEqual And Or Xor Not Where IsNaN IsInf If Loop Scan',
  sequence: 'LSTM GRU RNN Attention MultiHeadAttention QAttention RotaryEmbedding',
};

const FAMILY_OF: ReadonlyMap<string, FamilyName> = new Map(
  Object.entries(MEMBERS).flatMap(([name, members]) => members.split(' ').map(op => [op, name as FamilyName] as const)),
);

/** The family of a node's operator. */
export function familyOf({ domain, op }: Pick<Node, 'domain' | 'op'>): FamilyName {
  if (domain === 'ai.onnx.ml') return 'classic';
  if (/^(QLinear|DynamicQuantize|Quantize|Dequantize)|Integer$/.test(op)) return 'quant';
  return FAMILY_OF.get(op) ?? 'other';
}

function family(
  label: string,
  light: readonly [string, string, string],
  dark: readonly [string, string, string],
): Family {
  const colours = ([fill, stroke, text]: readonly [string, string, string]): Colours => ({ fill, stroke, text });
  return { label, light: colours(light), dark: colours(dark) };
}
