/**
 * What onnxruntime's optimiser writes into models (`com.microsoft`): products, convolutions and sums with an activation.
 * @module
 */
import type { Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts, Node } from '../../graph.ts';
import {
  type Activation,
  clip,
  elu,
  gelu,
  geluTanh,
  hardSigmoid,
  hardSwish,
  leakyRelu,
  relu,
  sigmoid,
  softplus,
  softsign,
  swish,
  thresholdedRelu,
} from '../core/activations.ts';
import { MATMUL } from '../linear/matmul.ts';
import { mapInto, zipInto } from '../loops.ts';
import {
  defineIn,
  FLOATS,
  float,
  floats,
  InferContext,
  int,
  MAX_OPSET,
  type Operator,
  type OperatorVersion,
  RunContext,
  string,
} from '../operator.ts';
import { CONVOLUTION } from '../vision/convolution.ts';
import { fitsInto } from './normalisation.ts';

const DOMAIN = 'com.microsoft';

/** Activations by name. Parameters are alpha and beta (gamma for Selu), or the ones that ONNX gives the operator of this name. */
const ACTIVATIONS: Readonly<Record<string, (first?: number, second?: number) => Activation>> = {
  Relu: () => relu,
  Sigmoid: () => sigmoid,
  Tanh: () => Math.tanh,
  Softplus: () => softplus,
  Softsign: () => softsign,
  Gelu: () => gelu,
  HardSwish: () => hardSwish,
  LeakyRelu: (alpha = 0.01) => leakyRelu(alpha),
  ThresholdedRelu: (alpha = 1) => thresholdedRelu(alpha),
  Elu: (alpha = 1) => elu(alpha),
  Selu: (alpha = 1.6732631921768188, gamma = 1.0507010221481323) => elu(alpha, gamma),
  HardSigmoid: (alpha = 0.2, beta = 0.5) => hardSigmoid(alpha, beta),
  Clip: (low = Number.NEGATIVE_INFINITY, high = Number.POSITIVE_INFINITY) => clip(low, high),
};

/** The activation that the attributes name; none leaves elements as they are. */
function activationOf(c: InferContext): Activation | undefined {
  const name = c.has('activation') ? c.string('activation') : '';
  if (name === '') return undefined;
  const make = Object.hasOwn(ACTIVATIONS, name) ? ACTIVATIONS[name] : undefined;
  if (!make) return c.unsupported(`activation ${JSON.stringify(name.slice(0, 40))} has no kernel`);
  const given = (attribute: string): number | undefined => (c.has(attribute) ? c.number(attribute) : undefined);
  const [first, second] = c.numbers('activation_params') ?? [
    given('activation_alpha'),
    // Selu is of alpha and gamma, the others are of alpha and beta.
    given(name === 'Selu' ? 'activation_gamma' : 'activation_beta'),
  ];
  return make(first, second);
}

/** Applies an activation to a tensor that is this kernel's own. */
function activated(c: RunContext, x: Tensor): Tensor {
  const activation = activationOf(c);
  return activation ? mapInto(x, x, activation) : x;
}

function latest(operators: readonly Operator[], name: string): OperatorVersion {
  return operators.find(operator => operator.domain === '' && operator.name === name)!.versions.at(-1)!;
}

const MATMUL_VERSION = latest(MATMUL, 'MatMul');
const GEMM_VERSION = latest(MATMUL, 'Gemm');
const CONV_VERSION = latest(CONVOLUTION, 'Conv');

/** The node as one of the ONNX operator under it; errors still name the fused node. */
function inner(c: InferContext, version: OperatorVersion): Node {
  const attributes = Object.fromEntries(
    Object.entries(c.node.attributes).filter(([name]) => Object.hasOwn(version.attributes, name)),
  );
  return { ...c.node, opset: MAX_OPSET, attributes };
}

function inferInner(c: InferContext, version: OperatorVersion, inputs: readonly (Facts | undefined)[]): Facts {
  const known = (): undefined => undefined;
  const symbols = { fresh: () => c.fresh(), outputsOf: () => [] };
  return version.infer(new InferContext(inner(c, version), version, inputs, known, symbols))[0]!;
}

function runInner(c: RunContext, version: OperatorVersion, tensors: readonly (Tensor | undefined)[]): Tensor {
  return version.run(RunContext.prepare(inner(c, version), version, tensors))[0]!;
}

const fusedConv: OperatorVersion = {
  since: 1,
  inputs: [2, 4],
  outputs: [1, 1],
  attributes: { ...CONV_VERSION.attributes, activation: string(), activation_params: floats },
  infer: c => {
    activationOf(c);
    c.sameDType(0, 3);
    const facts = inferInner(c, CONV_VERSION, c.inputs.slice(0, 3));
    if (c.inputs[3]) {
      c.rank(3, facts.shape.length);
      for (const [i, dim] of c.input(3).shape.entries()) c.same(facts.shape[i]!, dim, `axis ${i} of the sum`);
    }
    return [facts];
  },
  run: c => {
    const product = runInner(c, CONV_VERSION, c.tensors.slice(0, 3));
    const sum = c.tensors[3] ? zipInto(c.allocate(), product, c.tensors[3], (x, z) => x + z) : product;
    return [activated(c, sum)];
  },
};

const fusedGemm: OperatorVersion = {
  since: 1,
  inputs: [2, 3],
  outputs: [1, 1],
  attributes: {
    ...GEMM_VERSION.attributes,
    activation: string(),
    activation_alpha: float(),
    activation_beta: float(),
    activation_gamma: float(),
  },
  infer: c => {
    c.expect(0, FLOATS);
    activationOf(c);
    return [inferInner(c, GEMM_VERSION, c.inputs)];
  },
  run: c => [activated(c, runInner(c, GEMM_VERSION, c.tensors))],
};

/** The axes of an operand in the order in which it is multiplied. */
function productOrder(c: InferContext, index: number, letter: string): readonly number[] {
  const order = c.input(index).shape.map((_, i) => i);
  if (c.has(`transBatch${letter}`) && c.number(`transBatch${letter}`) !== 0) {
    if (order.length < 3) c.fail(`transBatch${letter} needs at least 3 dimensions, got ${order.length}`);
    // The rows come before the batch.
    order.splice(order.length - 2, 0, order.shift()!);
  }
  if (c.number(`trans${letter}`) !== 0 && order.length > 1) order.push(order.splice(order.length - 2, 1)[0]!);
  return order;
}

const fusedMatMul: OperatorVersion = {
  since: 1,
  inputs: [2, 2],
  outputs: [1, 1],
  attributes: { alpha: float(1), transA: int(0), transB: int(0), transBatchA: int(0), transBatchB: int(0) },
  infer: c => {
    c.expect(0, FLOATS);
    const facts = ['A', 'B'].map((letter, i): Facts => {
      const { dtype, shape } = c.input(i);
      return { dtype, shape: productOrder(c, i, letter).map(axis => shape[axis]!) };
    });
    return [inferInner(c, MATMUL_VERSION, facts)];
  },
  run: c => {
    const operands = ['A', 'B'].map((letter, i) => c.operand(i).transpose(productOrder(c, i, letter)));
    const product = runInner(c, MATMUL_VERSION, operands);
    const alpha = c.number('alpha');
    return [alpha === 1 ? product : mapInto(product, product, x => alpha * x)];
  },
};

/** A function of each element, after a bias along the last axis. */
function biased(
  name: string,
  activation: (c: RunContext) => Activation,
  bias: 'none' | 'optional' | 'required',
): Operator {
  return defineIn(DOMAIN, name, 'elementwise', {
    since: 1,
    inputs: [bias === 'required' ? 2 : 1, bias === 'none' ? 1 : 2],
    outputs: [1, 1],
    attributes: name === 'QuickGelu' ? { alpha: float(1.702) } : {},
    infer: c => {
      c.expect(0, FLOATS);
      c.sameDType(0, 1);
      fitsInto(c, 1, c.input(0).shape);
      return [c.input(0)];
    },
    run: c => {
      const sum = c.tensors[1] ? zipInto(c.allocate(), c.operand(0), c.tensors[1], (x, b) => x + b) : c.operand(0);
      return [mapInto(c.tensors[1] ? sum : c.allocate(), sum, activation(c))];
    },
  });
}

const biasAdd: OperatorVersion = {
  since: 1,
  inputs: [3, 3],
  outputs: [1, 1],
  attributes: {},
  infer: c => {
    c.expect(0, FLOATS);
    const { dtype, shape } = c.input(0);
    c.rank(0, 3);
    c.rank(2, 3);
    for (const index of [1, 2]) c.sameDType(0, index);
    c.rank(1, 1);
    c.same(shape[2]!, c.input(1).shape[0]!, 'channels of inputs 0 and 1');
    return [
      { dtype, shape: shape.map((dim, i): Dim => c.same(dim, c.input(2).shape[i]!, `axis ${i} of inputs 0 and 2`)) },
    ];
  },
  run: c => {
    const sum = zipInto(c.allocate(), c.operand(0), c.operand(1), (x, b) => x + b);
    return [zipInto(sum, sum, c.operand(2), (x, y) => x + y)];
  },
};

const gemmFastGelu: OperatorVersion = {
  since: 1,
  inputs: [2, 3],
  outputs: [1, 1],
  attributes: {},
  infer: c => {
    c.expect(0, FLOATS);
    c.sameDType(0, 2);
    const facts = inferInner(c, MATMUL_VERSION, c.inputs.slice(0, 2));
    fitsInto(c, 2, facts.shape);
    return [facts];
  },
  run: c => {
    const product = runInner(c, MATMUL_VERSION, c.tensors.slice(0, 2));
    const sum = c.tensors[2] ? zipInto(product, product, c.tensors[2], (x, b) => x + b) : product;
    return [mapInto(sum, sum, geluTanh)];
  },
};

/** The operators of this file. */
export const MICROSOFT_FUSED: readonly Operator[] = [
  defineIn(DOMAIN, 'FusedConv', 'compute', fusedConv),
  defineIn(DOMAIN, 'FusedGemm', 'compute', fusedGemm),
  defineIn(DOMAIN, 'FusedMatMul', 'compute', fusedMatMul),
  defineIn(DOMAIN, 'TransposeMatMul', 'compute', {
    ...fusedMatMul,
    attributes: { alpha: float(1), transA: int(0), transB: int(0) },
  }),
  defineIn(DOMAIN, 'GemmFastGelu', 'compute', gemmFastGelu),
  biased('Gelu', () => gelu, 'none'),
  biased('QuickGelu', c => swish(c.number('alpha')), 'none'),
  biased('BiasGelu', () => gelu, 'required'),
  biased('FastGelu', () => geluTanh, 'optional'),
  defineIn(DOMAIN, 'BiasAdd', 'elementwise', biasAdd),
];
