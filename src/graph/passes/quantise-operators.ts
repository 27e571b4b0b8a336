/**
 * Quantised operators recovered: an operator between DequantizeLinear and QuantizeLinear, as exporters write it, becomes one that
 * computes on the integers.
 *
 * QuantizeLinear is monotone, so a bound on a real number is a bound on its integer: Relu and Clip before it become a Clip after
 * it, or nothing where the integers cannot leave the bounds anyway.
 * @module
 */
import { type DType, Tensor } from '../../tensor/index.ts';
import type { Attribute, Graph, Node, ValueId } from '../graph.ts';
import { type PassOptions, type PassResult, type Replacement, type Rewriter, rewrite } from './rewriter.ts';

/**
 * Returns `graph` with operators on integers where it quantises the result of an operator on dequantised tensors: QLinearConv and
 * QLinearMatMul, the QLinear operators and QGemm of com.microsoft, and operators that only move elements as they are. Results stay
 * within one step of the scale of the output. Scales and zero points must be constants; what does not fit stays as it is.
 * @example
 * ```ts
 * const b = new GraphBuilder('pooled');
 * const [scale, zero] = [b.constant('scale', Tensor.of('f32', 0.5)), b.constant('zero', Tensor.of('u8', 128))];
 * const x = b.input('x', { dtype: 'u8', shape: ['N', 3, 8, 8] });
 * const real = b.node({ op: 'DequantizeLinear', inputs: [x, scale, zero] })[0]!;
 * const pooled = b.node({ op: 'GlobalAveragePool', inputs: [real] })[0]!;
 * b.output(b.node({ op: 'QuantizeLinear', inputs: [pooled, scale, zero] })[0]!);
 * quantiseOperators(b.build()).graph.nodes.map(node => node.op); // ['QLinearGlobalAveragePool']
 * ```
 */
export function quantiseOperators(graph: Graph, options: PassOptions = {}): PassResult {
  return rewrite(graph, { QuantizeLinear: recover, 'com.microsoft:QuantizeLinear': recover }, options);
}

/** A scale and a zero point that hold for a whole tensor of eight bits. */
interface Parameters {
  readonly dtype: 'i8' | 'u8';
  readonly scale: number;
  readonly zero: number;
  readonly scaleId: ValueId;
  /** Undefined where the node left it out: it is 0. */
  readonly zeroId: ValueId | undefined;
}

/** A quantised tensor, and what its integers mean. */
interface Operand extends Parameters {
  readonly id: ValueId;
}

/** A quantised matrix or kernel, whose scale may change along one axis. */
interface Weights {
  readonly id: ValueId;
  readonly scales: readonly number[];
  readonly scaleId: ValueId;
  readonly zeroId: ValueId;
  /** The largest distance of an integer from its zero point. */
  readonly reach: number;
}

/** Bounds of real numbers that activations set. */
interface Bounds {
  readonly low: number;
  readonly high: number;
}

/** What is to be put down: the node that computes on integers, before any bounds. */
type Core = { readonly kind: 'node'; readonly node: Replacement } | { readonly kind: 'value'; readonly id: ValueId };

function recover(r: Rewriter, quantise: Node): boolean {
  const out = quantise.outputs[0];
  if (out === undefined) return false;
  const to = parametersOf(r, quantise, out);
  if (to === undefined) return false;
  let source = quantise.inputs[0]!;
  let bounds: Bounds = { low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY };
  for (let node = r.ownProducer(source, 'Relu', 'Clip'); node; node = r.ownProducer(source, 'Relu', 'Clip')) {
    const next = boundsOf(r, node);
    if (next === undefined) return false;
    // What comes later in the graph has the last word, and it is met first here.
    bounds = {
      low: Math.min(Math.max(next.low, bounds.low), bounds.high),
      high: Math.min(Math.max(next.high, bounds.low), bounds.high),
    };
    source = node.inputs[0]!;
  }
  const core = coreOf(r, source, to);
  return core !== undefined && putDown(r, quantise, core, bounds, to);
}

/** Reads the parameters of a quantising or dequantising node whose integers are `integers`. */
function parametersOf(r: Rewriter, node: Node, integers: ValueId): Parameters | undefined {
  const { dtype } = r.facts(integers);
  const [, scaleId, zeroId] = node.inputs;
  const scale = r.scalar(scaleId);
  const zero = zeroId === undefined ? 0 : r.scalar(zeroId);
  if (dtype !== 'i8' && dtype !== 'u8') return undefined;
  if (scaleId === undefined || scale === undefined || zero === undefined) return undefined;
  if (r.facts(scaleId).dtype !== 'f32' || !isScale(scale)) return undefined;
  return { dtype, scale, zero, scaleId, zeroId };
}

function isScale(value: number): boolean {
  return value > 0 && Number.isFinite(value);
}

const DOMAINS: readonly string[] = ['', 'com.microsoft'];

/** The node that dequantises to `id` as float32. */
function dequantised(r: Rewriter, id: ValueId | undefined): Node | undefined {
  const node = r.maker(id);
  if (node?.op !== 'DequantizeLinear' || !DOMAINS.includes(node.domain)) return undefined;
  return r.facts(id!).dtype === 'f32' ? node : undefined;
}

/** What `id` is dequantised from, with one scale and zero point. */
function operand(r: Rewriter, id: ValueId | undefined): Operand | undefined {
  const node = dequantised(r, id);
  if (node === undefined) return undefined;
  const from = node.inputs[0]!;
  const parameters = parametersOf(r, node, from);
  return parameters && { ...parameters, id: from };
}

/** What `id` is dequantised from, where the scale is one, or one per place of `axis`. */
function weights(r: Rewriter, id: ValueId | undefined, axis: number): Weights | undefined {
  const node = dequantised(r, id);
  const [from, scaleId, zeroId] = node?.inputs ?? [];
  const scales = r.elements(scaleId);
  const zeros = zeroId === undefined ? [0] : r.elements(zeroId);
  if (node === undefined || from === undefined || scaleId === undefined || !scales || !zeros) return undefined;
  const { dtype, shape } = r.facts(from);
  if ((dtype !== 'i8' && dtype !== 'u8') || r.facts(scaleId).dtype !== 'f32' || !scales.every(isScale))
    return undefined;
  if (scales.length !== 1) {
    const given = node.attributes['axis'] ?? (node.domain === '' ? 1 : undefined);
    const along = typeof given === 'number' && given < 0 ? given + shape.length : given;
    const blocks = node.attributes['block_size'];
    if (along !== axis || r.shape(scaleId).length !== 1 || (blocks !== undefined && blocks !== 0)) return undefined;
  }
  const reach = zeros.reduce((most, zero) => Math.max(most, reachOf(dtype, zero)), 0);
  return { id: from, scales, scaleId, zeroId: zeroId ?? zeroPoint(r, dtype), reach };
}

/** The largest distance of a value of `dtype` from its zero point. */
function reachOf(dtype: DType, zero: number): number {
  const [least, most] = dtype === 'i8' ? [-128, 127] : [0, 255];
  return Math.max(most - zero, zero - least);
}

/** A zero point of 0 where a node leaves it out. */
function zeroPoint(r: Rewriter, dtype: DType): ValueId {
  return r.addConstant('zero point', Tensor.zeros(dtype, []));
}

/** Scale and zero point of an operand, as inputs of a node. */
function inputsOf(r: Rewriter, parameters: Parameters): readonly [ValueId, ValueId] {
  return [parameters.scaleId, parameters.zeroId ?? zeroPoint(r, parameters.dtype)];
}

/** An operand, its scale and its zero point, as inputs of a node. */
function triple(r: Rewriter, x: Operand): readonly ValueId[] {
  return [x.id, ...inputsOf(r, x)];
}

/** The bounds that an activation sets, where they are known. */
function boundsOf(r: Rewriter, node: Node): Bounds | undefined {
  if (node.op === 'Relu') return { low: 0, high: Number.POSITIVE_INFINITY };
  const bound = (name: string, input: number, none: number): number | undefined => {
    if (node.opset >= 11) return node.inputs[input] === undefined ? none : r.scalar(node.inputs[input]);
    const value = node.attributes[name];
    return typeof value === 'number' ? value : none;
  };
  const low = bound('min', 1, Number.NEGATIVE_INFINITY);
  const high = bound('max', 2, Number.POSITIVE_INFINITY);
  return low !== undefined && high !== undefined && low <= high ? { low, high } : undefined;
}

/** Puts the node down in place of `quantise`, with the bounds where they are not met by themselves. */
function putDown(r: Rewriter, quantise: Node, core: Core, bounds: Bounds, to: Parameters): boolean {
  const [least, most] = to.dtype === 'i8' ? [-128, 127] : [0, 255];
  const whole = (real: number): number => {
    const steps = Math.min(Math.max(real / to.scale, least - to.zero), most - to.zero);
    const below = Math.floor(steps);
    const rest = steps - below;
    return below + (rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? 1 : 0) + to.zero;
  };
  const [low, high] = [whole(bounds.low), whole(bounds.high)];
  if (low === least && high === most) {
    return core.kind === 'node' ? r.become(core.node) : r.alias(core.id);
  }
  const opset = core.kind === 'node' && !core.node.domain ? core.node.opset : quantise.opset;
  // Clip takes integers from opset 12 on.
  if (quantise.domain !== '' || opset < 12) return false;
  const id = core.kind === 'value' ? core.id : r.emit(core.node);
  if (id === undefined) return false;
  const bound = (value: number): ValueId => r.addConstant('bound', tensorOfByte(to.dtype, value));
  const [min, max] = [low > least ? bound(low) : undefined, high < most ? bound(high) : undefined];
  return r.become({ op: 'Clip', opset, inputs: max === undefined ? [id, min] : [id, min, max] });
}

function tensorOfByte(dtype: 'i8' | 'u8', value: number): Tensor {
  return Tensor.of(dtype, value);
}

/**
 * The node on integers that computes what `source` is before it is quantised as `to` says. All that is dequantised here is float32, so
 * `source` is: no operator below changes the type.
 */
function coreOf(r: Rewriter, source: ValueId, to: Parameters): Core | undefined {
  const passed = operand(r, source);
  if (passed) return agree(passed, to) ? { kind: 'value', id: passed.id } : undefined;
  const node = r.isOwn(source) ? r.maker(source) : undefined;
  if (node?.domain !== '' || node.outputs.slice(1).some(id => id !== undefined)) return undefined;
  const found = forms(r, node, to);
  return found && { kind: 'node', node: found };
}

function forms(r: Rewriter, node: Node, to: Parameters): Replacement | undefined {
  switch (node.op) {
    case 'Conv':
      return convolution(r, node, to);
    case 'MatMul':
      return product(r, node, to);
    case 'Gemm':
      return gemm(r, node, to);
    case 'Add':
    case 'Mul':
      return node.opset < 7 ? undefined : binary(r, node, to);
    case 'GlobalAveragePool':
      return unary(r, node, to, 'QLinearGlobalAveragePool', {});
    case 'AveragePool': {
      const { dilations, ...attributes } = node.attributes;
      const plain = !Array.isArray(dilations) || dilations.every(step => step === 1);
      return plain ? unary(r, node, to, 'QLinearAveragePool', attributes) : undefined;
    }
    case 'LeakyRelu':
      return unary(r, node, to, 'QLinearLeakyRelu', node.attributes);
    case 'Sigmoid':
      return unary(r, node, to, 'QLinearSigmoid', {});
    case 'Softmax':
      return unary(r, node, to, 'QLinearSoftmax', {
        axis: node.attributes['axis'] ?? (node.opset < 13 ? 1 : -1),
        opset: node.opset,
      });
    case 'ReduceMean':
      return reduceMean(r, node, to);
    case 'Concat':
      return concat(r, node, to);
    case 'Where':
      return where(r, node, to);
    default:
      return moved(r, node, to);
  }
}

/** Sums of so many products must stay below this, or the integers would wrap where the real numbers did not. */
const MAX_SUM = 2 ** 31;

/** Whether `depth` products and a bias stay within 32 bits. */
function fits(depth: number, x: Operand, w: Weights, bias: number): boolean {
  return depth * reachOf(x.dtype, x.zero) * w.reach + bias < MAX_SUM;
}

function convolution(r: Rewriter, node: Node, to: Parameters): Replacement | undefined {
  const x = operand(r, node.inputs[0]);
  const w = weights(r, node.inputs[1], 0);
  if (x === undefined || w === undefined || node.opset < 10) return undefined;
  const [outputs, ...rest] = r.shape(w.id);
  if (typeof outputs !== 'number' || rest.some(dim => typeof dim !== 'number')) return undefined;
  const units = unitsOf(x, w, outputs);
  const bias = units && wholeBias(r, node.inputs[2], units);
  if (bias === undefined) return undefined;
  const depth = (rest as readonly number[]).reduce((size, dim) => size * dim, 1);
  if (!fits(depth, x, w, bias.reach)) return undefined;
  return {
    op: 'QLinearConv',
    opset: node.opset,
    inputs: [
      ...triple(r, x),
      w.id,
      w.scaleId,
      w.zeroId,
      ...inputsOf(r, to),
      ...(bias.id === undefined ? [] : [bias.id]),
    ],
    attributes: node.attributes,
  };
}

/** What one unit of a sum stands for in each of `lines` columns. */
function unitsOf(x: Operand, w: Weights, lines: number, alpha = 1): readonly number[] | undefined {
  if (w.scales.length !== 1 && w.scales.length !== lines) return undefined;
  if (w.scales.length === 1 && lines > MAX_LINES) return undefined;
  return Array.from({ length: lines }, (_, i) => alpha * x.scale * w.scales[w.scales.length === 1 ? 0 : i]!);
}

/** As many elements as the toolkit reads of a constant; a longer bias could not be looked at. */
const MAX_LINES = 4096;

/** Scales this close stand for each other: over all of 8 bits the difference is below a hundredth of a step. */
const CLOSE = 1e-5;

/**
 * A bias in units of the sums: as it is where it is quantised so, else rounded to the nearest unit, which is far below one step of
 * the output. Undefined where it is no constant, or does not fit.
 */
function wholeBias(
  r: Rewriter,
  id: ValueId | undefined,
  units: readonly number[],
  factor = 1,
): { readonly id: ValueId | undefined; readonly reach: number } | undefined {
  if (id === undefined) return { id, reach: 0 };
  const node = dequantised(r, id);
  if (node) {
    const [from, scaleId, zeroId] = node.inputs;
    const [elements, scales] = [r.elements(from), r.elements(scaleId)];
    const zeros = zeroId === undefined ? [0] : r.elements(zeroId);
    if (from === undefined || !elements || !scales || !zeros || r.facts(from).dtype !== 'i32') return undefined;
    if (node.attributes['block_size'] || (scales.length !== 1 && scales.length !== elements.length)) return undefined;
    if (!scales.every(isScale) || !zeros.every(zero => zero === 0)) return undefined;
    const scaleAt = (i: number): number => scales[scales.length === 1 ? 0 : i]!;
    const near = units.every((unit, i) => Math.abs(factor * scaleAt(i) - unit) <= CLOSE * Math.abs(unit));
    if (near && elements.length === units.length) return { id: from, reach: largest(elements) };
    return rounded(
      r,
      elements.map((value, i) => value * scaleAt(i) * factor),
      units,
    );
  }
  const values = r.facts(id).dtype === 'f32' ? r.elements(id) : undefined;
  return (
    values &&
    rounded(
      r,
      values.map(value => value * factor),
      units,
    )
  );
}

function rounded(
  r: Rewriter,
  values: readonly number[],
  units: readonly number[],
): { readonly id: ValueId; readonly reach: number } | undefined {
  if (values.length !== 1 && values.length !== units.length) return undefined;
  const whole = units.map((unit, i) => Math.round(values[values.length === 1 ? 0 : i]! / unit));
  const reach = largest(whole);
  if (!(reach < MAX_SUM)) return undefined;
  return { id: r.addConstant('bias', Tensor.from('i32', [whole.length], Int32Array.from(whole))), reach };
}

function largest(values: readonly number[]): number {
  return values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
}

function product(r: Rewriter, node: Node, to: Parameters): Replacement | undefined {
  const x = operand(r, node.inputs[0]);
  const shape = node.inputs[1] === undefined ? [] : r.shape(node.inputs[1]);
  // A scale per column is a plain list for a single matrix only.
  const w = weights(r, node.inputs[1], shape.length === 2 ? 1 : -1);
  const depth = shape.at(shape.length === 1 ? -1 : -2);
  if (x === undefined || w === undefined || typeof depth !== 'number' || node.opset < 10) return undefined;
  if (!fits(depth, x, w, 0)) return undefined;
  const inputs = [...triple(r, x), w.id, w.scaleId, w.zeroId, ...inputsOf(r, to)];
  return { op: 'QLinearMatMul', opset: node.opset, inputs };
}

function gemm(r: Rewriter, node: Node, to: Parameters): Replacement | undefined {
  const { alpha = 1, beta = 1, transA = 0, transB = 0 } = node.attributes as Readonly<Record<string, number>>;
  const x = operand(r, node.inputs[0]);
  const w = weights(r, node.inputs[1], transB ? 0 : 1);
  if (x === undefined || w === undefined || !isScale(alpha)) return undefined;
  const [rows, columns] = r.shape(w.id);
  const [depth, lines] = transB ? [columns, rows] : [rows, columns];
  if (typeof depth !== 'number' || typeof lines !== 'number') return undefined;
  const units = unitsOf(x, w, lines, alpha);
  const given = node.inputs[2];
  // One row that is added to every row of the product.
  if (given !== undefined && !r.shape(given).every((dim, i, all) => i === all.length - 1 || dim === 1))
    return undefined;
  const bias = units && wholeBias(r, beta === 0 ? undefined : given, units, beta);
  if (bias === undefined || !fits(depth, x, w, bias.reach)) return undefined;
  return {
    op: 'QGemm',
    domain: 'com.microsoft',
    opset: 1,
    inputs: [...triple(r, x), w.id, w.scaleId, w.zeroId, bias.id, ...inputsOf(r, to)],
    attributes: { alpha, transA, transB },
  };
}

function binary(r: Rewriter, node: Node, to: Parameters): Replacement | undefined {
  const [a, b] = [operand(r, node.inputs[0]), operand(r, node.inputs[1])];
  if (a?.dtype !== to.dtype || b?.dtype !== to.dtype) return undefined;
  const inputs = [...triple(r, a), ...triple(r, b), ...inputsOf(r, to)];
  return { op: `QLinear${node.op}`, domain: 'com.microsoft', opset: 1, inputs };
}

function unary(
  r: Rewriter,
  node: Node,
  to: Parameters,
  op: string,
  attributes: Readonly<Record<string, Attribute>>,
): Replacement | undefined {
  const x = operand(r, node.inputs[0]);
  if (x?.dtype !== to.dtype) return undefined;
  return { op, domain: 'com.microsoft', opset: 1, inputs: [...triple(r, x), ...inputsOf(r, to)], attributes };
}

function reduceMean(r: Rewriter, node: Node, to: Parameters): Replacement | undefined {
  const { axes, keepdims = 1, noop_with_empty_axes: noop = 0 } = node.attributes;
  const given = node.opset < 18 ? axes : node.inputs[1] === undefined ? undefined : r.elements(node.inputs[1]);
  if (noop !== 0 || (node.inputs[1] !== undefined && !given) || (Array.isArray(given) && given.length === 0)) {
    return undefined;
  }
  return unary(r, node, to, 'QLinearReduceMean', { ...(given === undefined ? {} : { axes: given }), keepdims });
}

function concat(r: Rewriter, node: Node, to: Parameters): Replacement | undefined {
  const axis = node.attributes['axis'] ?? (node.opset < 4 ? 1 : undefined);
  const parts = node.inputs.map(id => operand(r, id));
  if (axis === undefined || !parts.every(part => part?.dtype === to.dtype)) return undefined;
  const there = parts as readonly Operand[];
  if (there.every(part => agree(part, to))) {
    return { op: 'Concat', opset: node.opset, inputs: there.map(part => part.id), attributes: { axis } };
  }
  const inputs = [...inputsOf(r, to), ...there.flatMap(part => triple(r, part))];
  return { op: 'QLinearConcat', domain: 'com.microsoft', opset: 1, inputs, attributes: { axis } };
}

function where(r: Rewriter, node: Node, to: Parameters): Replacement | undefined {
  const [a, b] = [operand(r, node.inputs[1]), operand(r, node.inputs[2])];
  if (a?.dtype !== to.dtype || b?.dtype !== to.dtype) return undefined;
  const inputs = [node.inputs[0], ...triple(r, a), ...triple(r, b), ...inputsOf(r, to)];
  return { op: 'QLinearWhere', domain: 'com.microsoft', opset: 1, inputs };
}

/**
 * Operators that put elements somewhere else or pick some of them, and the opset from which they take bytes. Inference would refuse
 * MaxPool before that as well; not every operator is so strict there.
 */
const MOVERS: Readonly<Record<string, number>> = {
  DepthToSpace: 1,
  Expand: 8,
  Flatten: 9,
  Gather: 1,
  GatherElements: 11,
  Identity: 1,
  MaxPool: 12,
  ReduceMax: 12,
  ReduceMin: 12,
  Reshape: 5,
  Slice: 1,
  SpaceToDepth: 1,
  Squeeze: 1,
  Tile: 6,
  Transpose: 1,
  Unsqueeze: 1,
};

/** An operator that changes no element gives the same integers, where they mean the same before and after. */
function moved(r: Rewriter, node: Node, to: Parameters): Replacement | undefined {
  const since = Object.hasOwn(MOVERS, node.op) ? MOVERS[node.op]! : Number.POSITIVE_INFINITY;
  const x = operand(r, node.inputs[0]);
  if (node.opset < since || x === undefined || !agree(x, to)) return undefined;
  return { op: node.op, opset: node.opset, inputs: [x.id, ...node.inputs.slice(1)], attributes: node.attributes };
}

/** Whether an integer means the same number under both. */
function agree(a: Parameters, b: Parameters): boolean {
  return a.dtype === b.dtype && a.scale === b.scale && a.zero === b.zero;
}
