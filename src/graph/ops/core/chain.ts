/**
 * Chain: several elementwise operators as one node of our own, so that what lies between them never leaves the cache.
 * @module
 */
import { Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import {
  ALL,
  defineIn,
  type InferContext,
  MANY,
  type Operator,
  type OperatorVersion,
  type RunContext,
  required,
  subgraph,
} from '../operator.ts';

/**
 * Operators that a chain may hold: each element of the result depends on the elements at its place alone, whatever the shape is.
 * Which opset they are of does not matter from 7 on.
 */
export const CHAINABLE: ReadonlySet<string> = new Set(
  `Abs Acos Acosh Add And Asin Asinh Atan Atanh Cast Ceil Celu Clip Cos Cosh Div Elu Equal Erf Exp Floor Gelu Greater
   GreaterOrEqual HardSigmoid HardSwish IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or Pow PRelu
   Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where
   Xor`.split(/\s+/),
);

/** Elements that a chain is computed for at a time: a few such blocks lie in a second-level cache together. */
const BLOCK = 16_384;

/** Half-precision values are rounded after each operator, which a chain over wide numbers would not do. */
const WHOLE = ALL.filter(dtype => dtype !== 'f16' && dtype !== 'bf16');

function inferChain(c: InferContext): readonly Facts[] {
  const body = c.graph('body');
  if (body.inputs.length !== c.inputs.length || body.outputs.length !== 1) {
    c.fail(
      `expected a body of ${c.inputs.length} inputs and 1 output, got ${body.inputs.length} and ${body.outputs.length}`,
    );
  }
  for (const node of body.nodes) {
    if (node.domain !== '' || !CHAINABLE.has(node.op) || node.opset < 7) {
      c.fail(`${node.op.slice(0, 80)}-${node.opset} is not computed element by element`);
    }
  }
  let shape: readonly Dim[] = [];
  for (const [i, id] of body.inputs.entries()) {
    c.expect(i, WHOLE);
    const { dtype } = body.values[id]!.facts;
    if (dtype !== c.input(i).dtype) c.fail(`input ${i} is ${c.input(i).dtype}, the body expects ${dtype}`);
    shape = c.broadcast(shape, c.input(i).shape);
  }
  return [{ dtype: body.values[body.outputs[0]!]!.facts.dtype, shape }];
}

function runChain(c: RunContext): readonly Tensor[] {
  const body = c.graph('body');
  const out = c.allocate();
  const sources = c.tensors.map((_, i) => blocksOf(c.operand(i), c.shape()));
  for (let start = 0; start < out.size; start += BLOCK) {
    const length = Math.min(BLOCK, out.size - start);
    const [block] = c.evaluate(
      body,
      sources.map(next => next(length)),
    );
    if (block === undefined || block.dtype !== out.dtype || block.size !== length) c.fail('its body is no chain');
    (out.data as Float32Array).set(block!.elements() as Float32Array, start);
  }
  return [out];
}

/** Gives the elements of `x`, spread to `shape`, block after block, as vectors; a single number each time as it is. */
function blocksOf(x: Tensor, shape: readonly number[]): (length: number) => Tensor {
  if (x.size === 1) {
    const number = x.reshape([]);
    return () => number;
  }
  const size = shape.reduce((product, dim) => product * dim, 1);
  if (x.size === size) {
    const flat = x.contiguous().reshape([size]);
    let at = 0;
    return length => {
      at += length;
      return flat.slice({ axis: 0, start: at - length, end: at });
    };
  }
  const { data, strides, offset } = x.expand(shape);
  const source = data as Float32Array;
  const index = new Array<number>(shape.length).fill(0);
  const last = shape.length - 1;
  let from = offset;
  return length => {
    const vector = Tensor.zeros(x.dtype, [length]);
    const to = vector.data as Float32Array;
    for (let at = 0; at < length; ) {
      // As much of the last axis as is left of it, or of the block.
      const run = Math.min(length - at, shape[last]! - index[last]!);
      const step = strides[last]!;
      for (let i = 0; i < run; i++, from += step) to[at++] = source[from]!;
      index[last]! += run;
      for (let axis = last; axis > 0 && index[axis] === shape[axis]; axis--) {
        from += strides[axis - 1]! - shape[axis]! * strides[axis]!;
        index[axis] = 0;
        index[axis - 1]!++;
      }
    }
    return vector;
  };
}

const chain: OperatorVersion = {
  since: 1,
  inputs: [1, MANY],
  outputs: [1, 1],
  attributes: { body: required(subgraph) },
  infer: inferChain,
  run: runChain,
};

/** The operators of this file. */
export const CHAIN: readonly Operator[] = [defineIn('cloister', 'Chain', 'elementwise', chain)];
