/**
 * Elementwise operators and reductions.
 * @module
 */
import type { Facts, Node } from '../../graph/index.ts';
import { elementCount } from '../../tensor/index.ts';
import { type Draft, Unsupported } from '../draft.ts';
import { type BINARY_OPS, REDUCE_OPS, UNARY_OPS } from '../program.ts';
import { emitBlockedBinary } from './blocks.ts';
import { ELEMENTWISE_OPERATORS } from './chain.ts';
import {
  clipBounds,
  emitBinary,
  emitUnary,
  fromEnd,
  type Lowering,
  type Lowerings,
  number,
  numbers,
} from './lowering.ts';

const UNARY = {
  Relu: 'relu',
  Neg: 'neg',
  Abs: 'abs',
  Sqrt: 'sqrt',
  Exp: 'exp',
  Log: 'log',
  Tanh: 'tanh',
  Sigmoid: 'sigmoid',
  Erf: 'erf',
  Floor: 'floor',
  Ceil: 'ceil',
  Reciprocal: 'reciprocal',
} as const;
const BINARY = { Add: 'add', Sub: 'sub', Mul: 'mul', Div: 'div', Pow: 'pow' } as const;
const VARIADIC = { Sum: 'add', Mean: 'add', Min: 'min', Max: 'max' } as const;
const REDUCTIONS = { ReduceSum: 'sum', ReduceMean: 'mean', ReduceMax: 'max', ReduceMin: 'min' } as const;
const MORE_REDUCTIONS = {
  ReduceProd: 'product',
  ReduceL1: 'l1',
  ReduceSumSquare: 'sumSquare',
  ReduceL2: 'l2',
} as const;

/** Lowerings of `src/graph/ops/core`. */
export const CORE: Lowerings = {
  ...ELEMENTWISE_OPERATORS,
  ...mapped(UNARY, unary),
  ...mapped(BINARY, binary),
  ...mapped(VARIADIC, variadic),
  ...mapped(REDUCTIONS, reduction),
  ...mapped(MORE_REDUCTIONS, reduction),
  ArgMax: { float: false, refuses: refuseArg, lower: (d, node) => lowerArg(d, node, false) },
  ArgMin: { float: false, refuses: refuseArg, lower: (d, node) => lowerArg(d, node, true) },
  Clip: { float: true, parameters: [1, 2], lower: lowerClip },
  LeakyRelu: { float: true, lower: lowerLeakyRelu },
  Softmax: { float: true, lower: (d, node) => lowerSoftmax(d, node, false) },
  LogSoftmax: { float: true, lower: (d, node) => lowerSoftmax(d, node, true) },
};

function mapped<K extends string>(
  names: Readonly<Record<string, K>>,
  make: (op: K) => Lowering,
): Record<string, Lowering> {
  return Object.fromEntries(Object.entries(names).map(([name, op]) => [name, make(op)]));
}

function unary(op: keyof typeof UNARY_OPS): Lowering {
  return { float: true, lower: (d, node) => emitUnary(d, node, op, 0, 0) };
}

function lowerClip(d: Draft, node: Node): void {
  const { lo, hi } = clipBounds(d, node);
  emitUnary(d, node, 'clip', lo, hi);
}

function lowerLeakyRelu(d: Draft, node: Node): void {
  emitUnary(d, node, 'leakyRelu', number(node, 'alpha', 0.01), 0);
}

/** Of f32 as a step of its own, of integers as a chain. */
function binary(op: keyof typeof BINARY_OPS): Lowering {
  return {
    float: false,
    refuses: (node, inputs) => ELEMENTWISE_OPERATORS[node.op]!.refuses?.(node, inputs),
    lower: (d, node) => {
      if (d.facts(node.outputs[0]!).dtype !== 'f32') return ELEMENTWISE_OPERATORS[node.op]!.lower(d, node);
      const [a, b] = [node.inputs[0]!, node.inputs[1]!];
      const out = node.outputs[0]!;
      if (emitBlockedBinary(d, op, a, b, out)) return;
      emitBinary(d, op, d.read(a), d.shape(a), d.read(b), d.shape(b), d.write(out), d.shape(out));
    },
  };
}

function variadic(op: keyof typeof BINARY_OPS): Lowering {
  return {
    float: false,
    refuses: (node, inputs) =>
      node.opset < 8 ? 'before opset 8 it does not broadcast' : ELEMENTWISE_OPERATORS[node.op]!.refuses?.(node, inputs),
    lower: (d, node) => {
      if (d.facts(node.outputs[0]!).dtype !== 'f32') return ELEMENTWISE_OPERATORS[node.op]!.lower(d, node);
      const out = node.outputs[0]!;
      const shape = d.shape(out);
      const [first, ...rest] = node.inputs.filter(id => id !== undefined);
      if (rest.length === 0) {
        d.alias(out, first!);
        return;
      }
      let sum = d.read(first!);
      let sumShape = d.shape(first!);
      rest.forEach((id, i) => {
        const last = i === rest.length - 1 && node.op !== 'Mean';
        const y = last ? d.write(out) : d.temporary(4 * elementCount(shape));
        emitBinary(d, op, sum, sumShape, d.read(id), d.shape(id), y, shape);
        sum = y;
        sumShape = shape;
      });
      if (node.op === 'Mean') emitBinary(d, 'div', sum, shape, d.scalar(rest.length + 1), [], d.write(out), shape);
    },
  };
}

function lowerSoftmax(d: Draft, node: Node, log: boolean): void {
  const shape = d.shape(node.inputs[0]!);
  const x = d.read(node.inputs[0]!);
  const y = d.write(node.outputs[0]!);
  if (y.length === 0) return;
  // Before opset 13 everything from the axis on is one long axis.
  const flattens = node.opset < 13;
  const axis = fromEnd(number(node, 'axis', flattens ? 1 : -1), shape.length);
  const n = flattens ? elementCount(shape.slice(axis)) : (shape[axis] ?? 1);
  const inner = flattens ? 1 : elementCount(shape.slice(axis + 1));
  d.emit('softmax', [x, y], [elementCount(shape.slice(0, axis)), n, inner, Number(log)], [0]);
}

function reduction(op: keyof typeof REDUCE_OPS): Lowering {
  return { float: true, parameters: [1], lower: (d, node) => lowerReduce(d, node, op) };
}

function lowerReduce(d: Draft, node: Node, op: keyof typeof REDUCE_OPS): void {
  const [xId, out] = [node.inputs[0]!, node.outputs[0]!];
  const shape = d.shape(xId);
  const given = node.inputs[1] === undefined ? numbers(node, 'axes') : d.tensor(node.inputs[1])?.values().map(Number);
  if (node.inputs[1] !== undefined && given === undefined) throw new Unsupported('its axes are computed');
  if ((given ?? []).length === 0 && number(node, 'noop_with_empty_axes', 0) !== 0) {
    d.alias(out, xId);
    return;
  }
  const all = (given ?? []).length === 0;
  const axes = new Set((given ?? []).map(axis => fromEnd(axis, shape.length)));
  // Neighbouring axes of the same fate are one axis; then each reduced one is a step, the innermost first.
  const runs: { size: number; reduced: boolean }[] = [];
  shape.forEach((size, i) => {
    if (size === 1) return;
    const reduced = all || axes.has(i);
    const last = runs.at(-1);
    if (last?.reduced === reduced) last.size *= size;
    else runs.push({ size, reduced });
  });
  if (d.bytes(out) > 0 && d.bytes(xId) === 0) throw new Unsupported('it reduces nothing');
  const reduced = runs.filter(run => run.reduced).length;
  if (reduced === 0 && (op === 'l1' || op === 'l2')) {
    emitUnary(d, node, 'abs', 0, 0);
    return;
  }
  if (reduced === 0 && op === 'sumSquare') {
    const x = d.read(xId);
    emitBinary(d, 'mul', x, shape, x, shape, d.write(out), shape);
    return;
  }
  if (reduced === 0) {
    d.alias(out, xId);
    return;
  }
  if (d.bytes(out) === 0) {
    d.write(out);
    return;
  }
  let x = d.read(xId);
  // Squares are taken by the first step, and their root after the last.
  const apart = op === 'l2' && reduced > 1;
  for (let left = reduced; left > 0; left--) {
    const at = runs.findLastIndex(run => run.reduced);
    const outer = runs.slice(0, at).reduce((product, run) => product * run.size, 1);
    const inner = runs.slice(at + 1).reduce((product, run) => product * run.size, 1);
    const y = left === 1 && !apart ? d.write(out) : d.temporary(4 * outer * inner);
    const squares = apart || op === 'sumSquare';
    const step = squares ? (left === reduced ? 'sumSquare' : 'sum') : op;
    d.emit('reduce', [x, y], [REDUCE_OPS[step], outer, runs[at]!.size, inner]);
    runs.splice(at, 1);
    x = y;
  }
  if (apart) d.emit('unary', [x, d.write(out)], [UNARY_OPS.sqrt, 0, 0], [0]);
}

function refuseArg(_: Node, inputs: readonly (Facts | undefined)[]): string | undefined {
  return inputs[0]?.dtype === 'f32' ? undefined : `native kernels compute in f32, not ${inputs[0]?.dtype}`;
}

function lowerArg(d: Draft, node: Node, smallest: boolean): void {
  const shape = d.shape(node.inputs[0]!);
  const axis = fromEnd(number(node, 'axis', 0), shape.length);
  const x = d.read(node.inputs[0]!);
  const y = d.write(node.outputs[0]!);
  if (y.length === 0) return;
  if (x.length === 0) throw new Unsupported('it searches nothing');
  const last = number(node, 'select_last_index', 0) !== 0;
  const sizes = [elementCount(shape.slice(0, axis)), shape[axis] ?? 1, elementCount(shape.slice(axis + 1))];
  d.emit('arg', [x, y], [Number(smallest), Number(last), ...sizes]);
}
