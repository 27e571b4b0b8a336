/**
 * The classifier as a graph, for every executor that reads graphs and for ONNX.
 * @module
 */
import { type Graph, GraphBuilder, type ValueId } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { CHANNELS, KERNEL, type Parameters } from './network.ts';

const OPSET = 17;

/**
 * Returns the network with these parameters, rounded to float32: `image` (batch, 1, 28, 28) in 0 … 1 to `logits`
 * (batch, 10).
 */
export function toGraph(parameters: Parameters): Graph {
  const builder = new GraphBuilder('digits', { opset: OPSET });
  const constant = (name: keyof Parameters, shape: readonly number[]): ValueId =>
    builder.constant(name, Tensor.from('f32', shape, Float32Array.from(parameters[name])));
  const node = (op: string, inputs: readonly ValueId[], output: string, attributes = {}): ValueId =>
    builder.node({ op, inputs, outputs: [output], attributes, name: output })[0]!;

  const image = builder.input('image', { dtype: 'f32', shape: ['batch', 1, 28, 28] });
  const block = (input: ValueId, index: 1 | 2, inC: number, outC: number): ValueId => {
    const weight = constant(`weight${index}`, [outC, inC, KERNEL, KERNEL]);
    const bias = constant(`bias${index}`, [outC]);
    const pad = KERNEL >> 1;
    const kernel = { kernel_shape: [KERNEL, KERNEL], pads: [pad, pad, pad, pad] };
    const conv = node('Conv', [input, weight, bias], `conv${index}`, kernel);
    const relu = node('Relu', [conv], `relu${index}`);
    return node('MaxPool', [relu], `pool${index}`, { kernel_shape: [2, 2], strides: [2, 2] });
  };
  const features = block(block(image, 1, 1, CHANNELS[0]), 2, CHANNELS[0], CHANNELS[1]);
  const flat = node('Flatten', [features], 'flat', { axis: 1 });
  const weight = constant('weight3', [10, CHANNELS[1] * 49]);
  builder.output(node('Gemm', [flat, weight, constant('bias3', [10])], 'logits', { transB: 1 }));
  return builder.build();
}
