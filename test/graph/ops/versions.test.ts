import { describe, expect, test } from 'vitest';
import { checkNode, findVersion, MAX_OPSET, type Node, OPERATORS } from '../../../src/graph/index.ts';
import type { AttributeSpec, OperatorVersion } from '../../../src/graph/ops/operator.ts';
import { Tensor } from '../../../src/tensor/index.ts';
import { refusal } from './one-node.ts';

/**
 * The operators of the default domain, and the opsets at which the ONNX specification changed one in a way that a node can show:
 * `opset: inputs > outputs attributes`. `1-3` is one to three, `1-` one or more; `!` marks an attribute without which there is
 * no node. A sparse value of Constant is refused where the file is read.
 */
const SPECIFICATION = `
Abs 1: 1 > 1 consumed_inputs; 6: 1 > 1
Acos 7: 1 > 1
Acosh 9: 1 > 1
Add 1: 2 > 1 axis broadcast consumed_inputs; 6: 2 > 1 axis broadcast; 7: 2 > 1
AffineGrid 20: 2 > 1 align_corners
And 1: 2 > 1 axis broadcast; 7: 2 > 1
ArgMax 1: 1 > 1 axis keepdims; 12: 1 > 1 axis keepdims select_last_index
ArgMin 1: 1 > 1 axis keepdims; 12: 1 > 1 axis keepdims select_last_index
Asin 7: 1 > 1
Asinh 9: 1 > 1
Atan 7: 1 > 1
Atanh 9: 1 > 1
Attention 23: 3-6 > 1-4 is_causal kv_num_heads q_num_heads qk_matmul_output_mode scale softcap softmax_precision;
    24: 3-7 > 1-4 is_causal kv_num_heads q_num_heads qk_matmul_output_mode scale softcap softmax_precision
AveragePool 1: 1 > 1 auto_pad kernel_shape! pads strides;
    7: 1 > 1 auto_pad count_include_pad kernel_shape! pads strides;
    10: 1 > 1 auto_pad ceil_mode count_include_pad kernel_shape! pads strides;
    19: 1 > 1 auto_pad ceil_mode count_include_pad dilations kernel_shape! pads strides
BatchNormalization 1: 5 > 1-5 consumed_inputs! epsilon is_test momentum spatial;
    6: 5 > 1-5 epsilon is_test momentum spatial; 7: 5 > 1-5 epsilon momentum spatial; 9: 5 > 1-5 epsilon momentum;
    14: 5 > 1-3 epsilon momentum training_mode
Bernoulli 15: 1 > 1 dtype seed
BitCast 26: 1 > 1 to!
BitShift 11: 2 > 1 direction!
BitwiseAnd 18: 2 > 1
BitwiseNot 18: 1 > 1
BitwiseOr 18: 2 > 1
BitwiseXor 18: 2 > 1
BlackmanWindow 17: 1 > 1 output_datatype periodic
Cast 1: 1 > 1 to!; 19: 1 > 1 saturate to!; 24: 1 > 1 round_mode saturate to!
CastLike 15: 2 > 1; 19: 2 > 1 saturate; 24: 2 > 1 round_mode saturate
CausalConvWithState 27: 2-4 > 1-2 activation
Ceil 1: 1 > 1 consumed_inputs; 6: 1 > 1
Celu 12: 1 > 1 alpha
CenterCropPad 18: 2 > 1 axes
Clip 1: 1 > 1 consumed_inputs max min; 6: 1 > 1 max min; 11: 1-3 > 1
Col2Im 18: 3 > 1 dilations pads strides
Compress 9: 2 > 1 axis
Concat 1: 1- > 1 axis; 4: 1- > 1 axis!
ConcatFromSequence 11: 1 > 1 axis! new_axis
Constant 1: 0 > 1 value!; 11: 0 > 1 value;
    12: 0 > 1 value value_float value_floats value_int value_ints value_string value_strings
ConstantOfShape 9: 1 > 1 value
Conv 1: 2-3 > 1 auto_pad dilations group kernel_shape pads strides
ConvInteger 10: 2-4 > 1 auto_pad dilations group kernel_shape pads strides
ConvTranspose 1: 2-3 > 1 auto_pad dilations group kernel_shape output_padding output_shape pads strides
Cos 7: 1 > 1
Cosh 9: 1 > 1
CumProd 26: 2 > 1 exclusive reverse
CumSum 11: 2 > 1 exclusive reverse
DFT 17: 1-2 > 1 axis inverse onesided
DeformConv 19: 3-5 > 1 dilations group kernel_shape offset_group pads strides
DepthToSpace 1: 1 > 1 blocksize!; 11: 1 > 1 blocksize! mode
DequantizeLinear 10: 2-3 > 1; 13: 2-3 > 1 axis; 21: 2-3 > 1 axis block_size; 23: 2-3 > 1 axis block_size output_dtype
Det 11: 1 > 1
Div 1: 2 > 1 axis broadcast consumed_inputs; 6: 2 > 1 axis broadcast; 7: 2 > 1
Dropout 1: 1 > 1-2 consumed_inputs is_test ratio; 6: 1 > 1-2 is_test ratio; 7: 1 > 1-2 ratio; 12: 1-3 > 1-2 seed
DynamicQuantizeLinear 11: 1 > 3
Einsum 12: 1- > 1 equation!
Elu 1: 1 > 1 alpha consumed_inputs; 6: 1 > 1 alpha
Equal 1: 2 > 1 axis broadcast; 7: 2 > 1
Erf 9: 1 > 1
Exp 1: 1 > 1 consumed_inputs; 6: 1 > 1
Expand 8: 2 > 1
EyeLike 9: 1 > 1 dtype k
Flatten 1: 1 > 1 axis
Floor 1: 1 > 1 consumed_inputs; 6: 1 > 1
GRU 1: 3-6 > 2 activation_alpha activation_beta activations clip direction hidden_size output_sequence;
    3: 3-6 > 0-2 activation_alpha activation_beta activations clip direction hidden_size linear_before_reset output_sequence;
    7: 3-6 > 0-2 activation_alpha activation_beta activations clip direction hidden_size linear_before_reset;
    14: 3-6 > 0-2 activation_alpha activation_beta activations clip direction hidden_size layout linear_before_reset
Gather 1: 2 > 1 axis
GatherElements 11: 2 > 1 axis
GatherND 11: 2 > 1; 12: 2 > 1 batch_dims
Gelu 20: 1 > 1 approximate
Gemm 1: 3 > 1 alpha beta broadcast transA transB; 7: 3 > 1 alpha beta transA transB;
    11: 2-3 > 1 alpha beta transA transB
GlobalAveragePool 1: 1 > 1
GlobalLpPool 1: 1 > 1 p
GlobalMaxPool 1: 1 > 1
Greater 1: 2 > 1 axis broadcast; 7: 2 > 1
GreaterOrEqual 12: 2 > 1
GridSample 16: 2 > 1 align_corners mode padding_mode
GroupNormalization 18: 3 > 1 epsilon num_groups!; 21: 3 > 1 epsilon num_groups! stash_type
HammingWindow 17: 1 > 1 output_datatype periodic
HannWindow 17: 1 > 1 output_datatype periodic
HardSigmoid 1: 1 > 1 alpha beta consumed_inputs; 6: 1 > 1 alpha beta
HardSwish 14: 1 > 1
Hardmax 1: 1 > 1 axis
Identity 1: 1 > 1
If 1: 1 > 1- else_branch! then_branch!
InstanceNormalization 1: 3 > 1 consumed_inputs epsilon; 6: 3 > 1 epsilon
IsInf 10: 1 > 1 detect_negative detect_positive
IsNaN 9: 1 > 1
LRN 1: 1 > 1 alpha beta bias size!
LSTM 1: 3-8 > 0-3 activation_alpha activation_beta activations clip direction hidden_size input_forget output_sequence;
    7: 3-8 > 0-3 activation_alpha activation_beta activations clip direction hidden_size input_forget;
    14: 3-8 > 0-3 activation_alpha activation_beta activations clip direction hidden_size input_forget layout
LayerNormalization 17: 2-3 > 1-3 axis epsilon stash_type
LeakyRelu 1: 1 > 1 alpha consumed_inputs; 6: 1 > 1 alpha
Less 1: 2 > 1 axis broadcast; 7: 2 > 1
LessOrEqual 12: 2 > 1
LinearAttention 27: 3-6 > 1-2 chunk_size kv_num_heads! q_num_heads! scale update_rule
Log 1: 1 > 1 consumed_inputs; 6: 1 > 1
LogSoftmax 1: 1 > 1 axis
Loop 1: 3- > 1- body!; 11: 2- > 1- body!
LpNormalization 1: 1 > 1 axis p
LpPool 1: 1 > 1 auto_pad kernel_shape p pads strides; 2: 1 > 1 auto_pad kernel_shape! p pads strides;
    18: 1 > 1 auto_pad ceil_mode dilations kernel_shape! p pads strides
MatMul 1: 2 > 1
MatMulInteger 10: 2-4 > 1
Max 1: 1- > 1 consumed_inputs; 6: 1- > 1
MaxPool 1: 1 > 1 auto_pad kernel_shape! pads strides; 8: 1 > 1-2 auto_pad kernel_shape! pads storage_order strides;
    10: 1 > 1-2 auto_pad ceil_mode dilations kernel_shape! pads storage_order strides
MaxRoiPool 1: 2 > 1 pooled_shape! spatial_scale
MaxUnpool 9: 2-3 > 1 kernel_shape! pads strides
Mean 1: 1- > 1 consumed_inputs; 6: 1- > 1
MeanVarianceNormalization 9: 1 > 1 axes
MelWeightMatrix 17: 5 > 1 output_datatype
Min 1: 1- > 1 consumed_inputs; 6: 1- > 1
Mish 18: 1 > 1
Mod 10: 2 > 1 fmod
Mul 1: 2 > 1 axis broadcast consumed_inputs; 6: 2 > 1 axis broadcast; 7: 2 > 1
Multinomial 7: 1 > 1 dtype sample_size seed
Neg 1: 1 > 1 consumed_inputs; 6: 1 > 1
NegativeLogLikelihoodLoss 12: 2-3 > 1 ignore_index reduction
NonMaxSuppression 10: 2-5 > 1 center_point_box
NonZero 9: 1 > 1
Not 1: 1 > 1
OneHot 9: 3 > 1 axis
Optional 15: 0-1 > 1 type
OptionalGetElement 15: 1 > 1
OptionalHasElement 15: 1 > 1
Or 1: 2 > 1 axis broadcast; 7: 2 > 1
PRelu 1: 2 > 1 consumed_inputs; 6: 2 > 1
Pad 1: 1 > 1 mode paddings! value; 2: 1 > 1 mode pads! value; 11: 2-3 > 1 mode; 18: 2-4 > 1 mode
Pow 1: 2 > 1 axis broadcast; 7: 2 > 1
QLinearConv 10: 8-9 > 1 auto_pad dilations group kernel_shape pads strides
QLinearMatMul 10: 8 > 1
QuantizeLinear 10: 2-3 > 1; 13: 2-3 > 1 axis; 19: 2-3 > 1 axis saturate;
    21: 2-3 > 1 axis block_size output_dtype saturate; 23: 2-3 > 1 axis block_size output_dtype precision saturate
RMSNormalization 23: 2 > 1 axis epsilon stash_type
RNN 1: 3-6 > 0-2 activation_alpha activation_beta activations clip direction hidden_size output_sequence;
    7: 3-6 > 0-2 activation_alpha activation_beta activations clip direction hidden_size;
    14: 3-6 > 0-2 activation_alpha activation_beta activations clip direction hidden_size layout
RandomNormal 1: 0 > 1 dtype mean scale seed shape!
RandomNormalLike 1: 1 > 1 dtype mean scale seed
RandomUniform 1: 0 > 1 dtype high low seed shape!
RandomUniformLike 1: 1 > 1 dtype high low seed
Range 11: 3 > 1
Reciprocal 1: 1 > 1 consumed_inputs; 6: 1 > 1
ReduceL1 1: 1 > 1 axes keepdims; 18: 1-2 > 1 keepdims noop_with_empty_axes
ReduceL2 1: 1 > 1 axes keepdims; 18: 1-2 > 1 keepdims noop_with_empty_axes
ReduceLogSum 1: 1 > 1 axes keepdims; 18: 1-2 > 1 keepdims noop_with_empty_axes
ReduceLogSumExp 1: 1 > 1 axes keepdims; 18: 1-2 > 1 keepdims noop_with_empty_axes
ReduceMax 1: 1 > 1 axes keepdims; 18: 1-2 > 1 keepdims noop_with_empty_axes
ReduceMean 1: 1 > 1 axes keepdims; 18: 1-2 > 1 keepdims noop_with_empty_axes
ReduceMin 1: 1 > 1 axes keepdims; 18: 1-2 > 1 keepdims noop_with_empty_axes
ReduceProd 1: 1 > 1 axes keepdims; 18: 1-2 > 1 keepdims noop_with_empty_axes
ReduceSum 1: 1 > 1 axes keepdims; 13: 1-2 > 1 keepdims noop_with_empty_axes
ReduceSumSquare 1: 1 > 1 axes keepdims; 18: 1-2 > 1 keepdims noop_with_empty_axes
RegexFullMatch 20: 1 > 1 pattern
Relu 1: 1 > 1 consumed_inputs; 6: 1 > 1
Reshape 1: 1 > 1 consumed_inputs shape; 5: 2 > 1; 14: 2 > 1 allowzero
Resize 10: 2 > 1 mode;
    11: 3-4 > 1 coordinate_transformation_mode cubic_coeff_a exclude_outside extrapolation_value mode nearest_mode;
    13: 1-4 > 1 coordinate_transformation_mode cubic_coeff_a exclude_outside extrapolation_value mode nearest_mode;
    18: 1-4 > 1 antialias axes coordinate_transformation_mode cubic_coeff_a exclude_outside extrapolation_value keep_aspect_ratio_policy mode nearest_mode
ReverseSequence 10: 2 > 1 batch_axis time_axis
RoiAlign 10: 3 > 1 mode output_height output_width sampling_ratio spatial_scale;
    16: 3 > 1 coordinate_transformation_mode mode output_height output_width sampling_ratio spatial_scale
RotaryEmbedding 23: 3-4 > 1 interleaved num_heads rotary_embedding_dim
Round 11: 1 > 1
STFT 17: 2-4 > 1 onesided
Scan 8: 2- > 1- body! directions num_scan_inputs!;
    9: 1- > 1- body! num_scan_inputs! scan_input_axes scan_input_directions scan_output_axes scan_output_directions
Scatter 9: 3 > 1 axis
ScatterElements 11: 3 > 1 axis; 16: 3 > 1 axis reduction
ScatterND 11: 3 > 1; 16: 3 > 1 reduction
Selu 1: 1 > 1 alpha consumed_inputs gamma; 6: 1 > 1 alpha gamma
SequenceAt 11: 2 > 1
SequenceConstruct 11: 1- > 1
SequenceEmpty 11: 0 > 1 dtype
SequenceErase 11: 1-2 > 1
SequenceInsert 11: 2-3 > 1
SequenceLength 11: 1 > 1
SequenceMap 17: 1- > 1- body!
Shape 1: 1 > 1; 15: 1 > 1 end start
Shrink 9: 1 > 1 bias lambd
Sigmoid 1: 1 > 1 consumed_inputs; 6: 1 > 1
Sign 9: 1 > 1
Sin 7: 1 > 1
Sinh 9: 1 > 1
Size 1: 1 > 1
Slice 1: 1 > 1 axes ends! starts!; 10: 3-5 > 1
Softmax 1: 1 > 1 axis
SoftmaxCrossEntropyLoss 12: 2-3 > 1-2 ignore_index reduction
Softplus 1: 1 > 1
Softsign 1: 1 > 1
SpaceToDepth 1: 1 > 1 blocksize!
Split 1: 1-2 > 1- axis split; 2: 1 > 1- axis split; 13: 1-2 > 1- axis; 18: 1-2 > 1- axis num_outputs
SplitToSequence 11: 1-2 > 1 axis keepdims
Sqrt 1: 1 > 1 consumed_inputs; 6: 1 > 1
Squeeze 1: 1 > 1 axes; 13: 1-2 > 1
StringConcat 20: 2 > 1
StringNormalizer 10: 1 > 1 case_change_action is_case_sensitive locale stopwords
StringSplit 20: 1 > 2 delimiter maxsplit
Sub 1: 2 > 1 axis broadcast consumed_inputs; 6: 2 > 1 axis broadcast; 7: 2 > 1
Sum 1: 1- > 1 consumed_inputs; 6: 1- > 1
SwiGLU 28: 2 > 1 alpha
Swish 24: 1 > 1 alpha
Tan 7: 1 > 1
Tanh 1: 1 > 1 consumed_inputs; 6: 1 > 1
TensorScatter 24: 2-3 > 1 axis mode
TfIdfVectorizer 9: 1 > 1 max_gram_length! max_skip_count! min_gram_length! mode! ngram_counts! ngram_indexes! pool_int64s pool_strings weights
ThresholdedRelu 10: 1 > 1 alpha
Tile 1: 3 > 1; 6: 2 > 1
TopK 1: 1 > 2 axis k!; 10: 2 > 2 axis; 11: 2 > 2 axis largest sorted
Transpose 1: 1 > 1 perm
Trilu 14: 1-2 > 1 upper
Unique 11: 1 > 1-4 axis sorted
Unsqueeze 1: 1 > 1 axes!; 13: 2 > 1
Upsample 1: 1 > 1 height_scale! mode width_scale!; 7: 1 > 1 mode scales!; 9: 2 > 1 mode
Where 9: 3 > 1
Xor 1: 2 > 1 axis broadcast; 7: 2 > 1
`;

/** Where more is taken than the specification has, and why. */
const LENIENT = `
BatchNormalization 1: 5 > 1-5 consumed_inputs epsilon is_test momentum spatial; 6: 5 > 1-5 epsilon is_test momentum spatial;
    7: 5 > 1-5 epsilon momentum spatial; 9: 5 > 1-5 epsilon momentum; 14: 5 > 1-3 epsilon momentum training_mode
GRU 1: 3-6 > 0-2 activation_alpha activation_beta activations clip direction hidden_size output_sequence;
    3: 3-6 > 0-2 activation_alpha activation_beta activations clip direction hidden_size linear_before_reset output_sequence;
    7: 3-6 > 0-2 activation_alpha activation_beta activations clip direction hidden_size linear_before_reset;
    14: 3-6 > 0-2 activation_alpha activation_beta activations clip direction hidden_size layout linear_before_reset
If 1: 1- > 1- else_branch! then_branch!
LayerNormalization 1: 2-3 > 1-3 axis epsilon stash_type
MeanVarianceNormalization 1: 1 > 1 across_channels normalize_variance; 9: 1 > 1 axes
Resize 10: 2 > 1 mode;
    11: 1-4 > 1 coordinate_transformation_mode cubic_coeff_a exclude_outside extrapolation_value mode nearest_mode;
    18: 1-4 > 1 antialias axes coordinate_transformation_mode cubic_coeff_a exclude_outside extrapolation_value keep_aspect_ratio_policy mode nearest_mode
`;

/** Operators that were experimental when opsets were young, or that exporters write into the default domain all the same. */
const OUTSIDE = [
  'Affine',
  'Crop',
  'ImageScaler',
  'ParametricSoftplus',
  'Scale',
  'ScaledTanh',
  'SimplifiedLayerNormalization',
];

interface Form {
  readonly since: number;
  readonly inputs: readonly [number, number];
  readonly outputs: readonly [number, number];
  readonly attributes: readonly string[];
  readonly required: readonly string[];
}

function arity(text: string): readonly [number, number] {
  const [least, most = least] = text.split('-');
  return [Number(least), most === '' ? Number.POSITIVE_INFINITY : Number(most)];
}

function parse(text: string): ReadonlyMap<string, readonly Form[]> {
  const lines = text
    .trim()
    .replace(/\n {4}/g, '')
    .split('\n');
  return new Map(
    lines.map(line => {
      const [, name, rest] = /^(\w+) (.*)$/.exec(line)!;
      const forms = rest!.split(/; */).map((form): Form => {
        const [, since, inputs, outputs, attributes] = /^(\d+): (\S+) > (\S+) ?(.*)$/.exec(form)!;
        const names = attributes!.split(' ').filter(Boolean);
        return {
          since: Number(since),
          inputs: arity(inputs!),
          outputs: arity(outputs!),
          attributes: names.map(attribute => attribute.replace('!', '')),
          required: names.filter(attribute => attribute.endsWith('!')).map(attribute => attribute.slice(0, -1)),
        };
      });
      return [name!, forms];
    }),
  );
}

const FORMS = new Map([...parse(SPECIFICATION), ...parse(LENIENT)]);
const OURS = [...OPERATORS.values()].filter(({ domain, name }) => domain === '' && !OUTSIDE.includes(name));

/** Some value that an attribute of this type can have. */
function sample(spec: AttributeSpec): Node['attributes'][string] {
  switch (spec.type) {
    case 'int':
    case 'float':
      return 1;
    case 'string':
      return 'x';
    case 'ints':
    case 'floats':
      return [1];
    case 'strings':
      return ['x'];
    case 'tensor':
      return Tensor.of('f32', [1]);
    case 'graph':
      return {
        name: 'g',
        values: [],
        nodes: [],
        inputs: [],
        outputs: [],
        constants: new Map(),
        maps: new Map(),
      } as never;
  }
}

/** The smallest node that `version` takes, with these changes. */
function nodeOf(op: string, opset: number, version: OperatorVersion, changes: Partial<Node>): Node {
  const required = Object.entries(version.attributes).filter(([, spec]) => spec.required);
  return {
    name: 'it',
    domain: '',
    op,
    opset,
    inputs: Array.from({ length: version.inputs[0] }, (_, i) => i),
    outputs: Array.from({ length: Math.max(1, version.outputs[0]) }, (_, i) => 100 + i),
    ...changes,
    attributes: { ...Object.fromEntries(required.map(([name, spec]) => [name, sample(spec)])), ...changes.attributes },
  };
}

describe('the operator table and the specification', () => {
  test('know the same operators', () => {
    expect(OURS.filter(({ name }) => !FORMS.has(name)).map(({ name }) => name)).toEqual([]);
    expect(OUTSIDE.filter(name => FORMS.has(name))).toEqual([]);
  });

  test.each(OURS.map(({ name }) => name))('agree on %s at every opset', name => {
    const forms = FORMS.get(name) ?? [];
    const { versions } = OPERATORS.get(`:${name}`)!;
    const specs = new Map(versions.flatMap(version => Object.entries(version.attributes)));
    for (let opset = 1; opset <= MAX_OPSET; opset++) {
      const where = `${name} at opset ${opset}`;
      const form = forms.findLast(({ since }) => since <= opset);
      const version = findVersion(OPERATORS, { domain: '', op: name, opset });
      if (!form || !version) {
        expect(version, where).toBe(form);
        continue;
      }
      expect({ inputs: version.inputs, outputs: version.outputs }, where).toEqual({
        inputs: form.inputs,
        outputs: form.outputs,
      });
      const check = (changes: Partial<Node>): string =>
        refusal(() => checkNode(nodeOf(name, opset, version, changes), version));
      expect(check({}), where).toBe('none');
      // Every attribute that the operator ever had is taken where the specification has it, and nowhere else.
      for (const attribute of new Set([...specs.keys(), ...forms.flatMap(({ attributes }) => attributes)])) {
        const spec = version.attributes[attribute] ?? specs.get(attribute);
        expect(spec, `${where}: ${attribute} is in some version`).toBeDefined();
        const verdict = check({ attributes: { [attribute]: sample(spec!) } });
        if (form.attributes.includes(attribute)) expect(verdict, `${where}: ${attribute}`).toBe('none');
        else expect(verdict, `${where}: ${attribute}`).toContain(`"${attribute}" is unknown at opset ${opset}`);
        const needed = version.attributes[attribute]?.required === true;
        expect(needed, `${where}: ${attribute} is required`).toBe(form.required.includes(attribute));
      }
      const [least, most] = form.inputs;
      if (least > 0) expect(check({ inputs: new Array(least - 1).fill(0) }), where).toContain('inputs, got');
      if (Number.isFinite(most)) expect(check({ inputs: new Array(most + 1).fill(0) }), where).toContain('inputs, got');
      const outputs = form.outputs[1];
      if (Number.isFinite(outputs)) {
        expect(check({ outputs: Array.from({ length: outputs + 1 }, (_, i) => i) }), where).toContain('outputs, got');
      }
    }
  });
});
