/**
 * Normalisations recovered from the arithmetic that exporters write for them: LayerNormalization, RMSNormalization, Softmax.
 * @module
 */
import type { Graph, Node, ValueId } from '../graph.ts';
import { areTrailing, keptAxes } from './patterns.ts';
import { isFloat, type PassOptions, type PassResult, type Rewriter, type Rule, rewrite, tensorOf } from './rewriter.ts';

/** Returns `graph` with means, deviations and scales that spell a normalisation as that normalisation. */
export function recoverNormalisations(graph: Graph, options: PassOptions = {}): PassResult {
  return rewrite(graph, RULES, options);
}

/** Returns `graph` with exponentials over their sum, the largest element taken off before, as Softmax. */
export function recoverSoftmax(graph: Graph, options: PassOptions = {}): PassResult {
  return rewrite(graph, { Div: softmax }, options);
}

const RULES: Readonly<Record<string, Rule>> = {
  Div: (r, node) => node.opset >= 7 && normalised(r, node),
  Mul: (r, node) => node.opset >= 7 && (normalised(r, node) || scaled(r, node)),
  Add: (r, node) => node.opset >= 7 && (shifted(r, node) || tensorflowLayer(r, node)),
};

/** The most elements of a scale of ones that is made. */
const MAX_ONES = 4096;

/** `1 / sqrt(mean of squares + epsilon)` over the last axes, of x or of what is left of it without its mean. */
interface Deviation {
  readonly x: ValueId;
  /** The mean that was taken off before squaring; undefined where none was. */
  readonly mean: ValueId | undefined;
  /** What was squared. */
  readonly centred: ValueId;
  readonly axis: number;
  readonly epsilon: number;
}

/** What is under the fraction line: `sqrt(mean of squares + epsilon)`. */
function deviation(r: Rewriter, id: ValueId | undefined): Deviation | undefined {
  const sum = r.producer(r.producer(id, 'Sqrt')?.inputs[0], 'Add');
  if (sum === undefined || sum.opset < 7) return undefined;
  const swapped = r.scalar(sum.inputs[0]) !== undefined;
  const epsilon = r.scalar(sum.inputs[swapped ? 0 : 1]);
  const mean = r.producer(sum.inputs[swapped ? 1 : 0], 'ReduceMean');
  const axes = keptAxes(r, mean);
  const centred = squared(r, mean?.inputs[0]);
  if (epsilon === undefined || !(epsilon >= 0) || axes === undefined || centred === undefined) return undefined;
  const rank = r.shape(centred).length;
  if (!areTrailing(axes, rank) || !isFloat(r.facts(centred))) return undefined;
  const difference = r.producer(centred, 'Sub');
  const middle = r.producer(difference?.inputs[1], 'ReduceMean');
  const same = keptAxes(r, middle);
  const isMean =
    difference !== undefined &&
    difference.opset >= 7 &&
    middle?.inputs[0] === difference.inputs[0] &&
    same?.join() === axes.join();
  const axis = rank - axes.length;
  if (!isMean) return { x: centred, mean: undefined, centred, axis, epsilon };
  return { x: difference.inputs[0]!, mean: difference.inputs[1], centred, axis, epsilon };
}

/** What a square is the square of. */
function squared(r: Rewriter, id: ValueId | undefined): ValueId | undefined {
  const node = r.producer(id, 'Mul', 'Pow');
  if (node === undefined || node.opset < 7) return undefined;
  const [a, b] = node.inputs;
  return (node.op === 'Mul' && a === b) || (node.op === 'Pow' && r.scalar(b) === 2) ? a : undefined;
}

/** `v / d` or `v * (1 / d)`: a normalisation with a scale of ones, until a product follows. */
function normalised(r: Rewriter, node: Node): boolean {
  const [a, b] = node.inputs as readonly [ValueId, ValueId];
  const ways =
    node.op === 'Div'
      ? [[a, deviation(r, b)] as const]
      : [[a, inverseDeviation(r, b)] as const, [b, inverseDeviation(r, a)] as const];
  return ways.some(([value, by]) => {
    if (by === undefined || value !== by.centred || !r.sameFacts(value, node.outputs[0]!)) return false;
    const { x, mean, axis, epsilon } = by;
    const sizes = r.shape(x).slice(axis);
    const { dtype } = r.facts(x);
    const count = sizes.reduce<number>((product, dim) => (typeof dim === 'number' ? product * dim : Number.NaN), 1);
    if (!(count <= MAX_ONES)) return false;
    const ones = r.addConstant('ones', tensorOf(dtype, sizes as readonly number[], new Array<number>(count).fill(1)));
    const attributes = { axis, epsilon };
    return mean === undefined
      ? r.become({ op: 'RMSNormalization', opset: 23, inputs: [x, ones], attributes })
      : r.become({ op: 'LayerNormalization', opset: 17, inputs: [x, ones], attributes });
  });
}

/** `1 / d`, as Reciprocal or as a division. */
function inverseDeviation(r: Rewriter, id: ValueId | undefined): Deviation | undefined {
  const node = r.producer(id, 'Reciprocal', 'Div');
  if (node?.op === 'Reciprocal') return deviation(r, node.inputs[0]);
  return node !== undefined && r.scalar(node.inputs[0]) === 1 ? deviation(r, node.inputs[1]) : undefined;
}

/** A product after a normalisation whose scale is ones. */
function scaled(r: Rewriter, node: Node): boolean {
  return [0, 1].some(i => {
    const before = r.ownProducer(node.inputs[i], 'LayerNormalization', 'RMSNormalization');
    const scale = node.inputs[1 - i]!;
    if (before === undefined || before.inputs[2] !== undefined || before.outputs.length > 1) return false;
    if (r.elements(before.inputs[1])?.every(element => element === 1) !== true) return false;
    if (!r.sameFacts(node.inputs[i]!, node.outputs[0]!) || !fitsInside(r, scale, before)) return false;
    return r.become({ ...before, inputs: [before.inputs[0], scale] });
  });
}

/** Whether `id` has the axes that `layer` normalises, or fewer, each of its size or 1. */
function fitsInside(r: Rewriter, id: ValueId, layer: Pick<Node, 'inputs' | 'attributes'>): boolean {
  const whole = r.shape(layer.inputs[0]!);
  const axis = Number(layer.attributes['axis'] ?? -1);
  const shape = r.shape(id);
  return (
    shape.length <= (axis < 0 ? -axis : whole.length - axis) &&
    shape.every((dim, i) => dim === 1 || dim === whole[whole.length - shape.length + i])
  );
}

/** A sum after a LayerNormalization that has no bias. */
function shifted(r: Rewriter, node: Node): boolean {
  return [0, 1].some(i => {
    const before = r.ownProducer(node.inputs[i], 'LayerNormalization');
    const shift = node.inputs[1 - i]!;
    if (before === undefined || before.inputs[2] !== undefined || before.outputs.length > 1) return false;
    if (!r.sameFacts(node.inputs[i]!, node.outputs[0]!) || !fitsInside(r, shift, before)) return false;
    return r.become({ ...before, inputs: [...before.inputs.slice(0, 2), shift] });
  });
}

/** `x i + (shift - mean i)` with `i = scale / deviation`: how TensorFlow spells it. */
function tensorflowLayer(r: Rewriter, node: Node): boolean {
  return [0, 1].some(i => {
    const product = r.ownProducer(node.inputs[i], 'Mul');
    const rest = r.ownProducer(node.inputs[1 - i], 'Sub');
    const taken = r.ownProducer(rest?.inputs[1], 'Mul');
    if (product === undefined || rest === undefined || taken === undefined) return false;
    return [0, 1].some(j => {
      const inverse = product.inputs[j]!;
      const x = product.inputs[1 - j]!;
      const scaled = r.producer(inverse, 'Mul');
      if (scaled === undefined || !taken.inputs.includes(inverse)) return false;
      return [0, 1].some(k => {
        const by = inverseDeviation(r, scaled.inputs[k]);
        if (by?.mean === undefined || by.x !== x) return false;
        if (!taken.inputs.includes(by.mean) || taken.inputs[0] === taken.inputs[1]) return false;
        const layer = {
          inputs: [x, scaled.inputs[1 - k]!, rest.inputs[0]!],
          attributes: { axis: by.axis, epsilon: by.epsilon },
        };
        if (!r.sameFacts(x, node.outputs[0]!)) return false;
        if (!layer.inputs.slice(1).every(id => fitsInside(r, id, layer))) return false;
        return r.become({ op: 'LayerNormalization', opset: 17, ...layer });
      });
    });
  });
}

/** `exp(x - max) / sum(exp(x - max))` over one axis. */
function softmax(r: Rewriter, node: Node): boolean {
  if (node.opset < 7) return false;
  const [above, below] = node.inputs;
  const power = r.producer(above, 'Exp');
  const sum = r.ownProducer(below, 'ReduceSum');
  const difference = r.ownProducer(power?.inputs[0], 'Sub');
  const largest = r.producer(difference?.inputs[1], 'ReduceMax');
  const x = difference?.inputs[0];
  if (power === undefined || difference === undefined || largest === undefined || x === undefined) return false;
  const axes = keptAxes(r, sum);
  if (sum?.inputs[0] !== above || largest.inputs[0] !== x || axes?.length !== 1 || !isFloat(r.facts(x))) return false;
  if (keptAxes(r, largest)?.join() !== axes.join() || difference.opset < 7) return false;
  if (!r.sameFacts(x, node.outputs[0]!)) return false;
  return r.become({ op: 'Softmax', opset: 13, inputs: [x], attributes: { axis: axes[0]! } });
}
