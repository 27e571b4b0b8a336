/**
 * What the recovering passes look for in the same way: products as a set of factors, reductions with their axes, constants that are near
 * a number.
 * @module
 */
import type { Node, ValueId } from '../graph.ts';
import type { Rewriter } from './rewriter.ts';

/** A product: a number times values, each as often as it occurs. */
export interface Product {
  readonly factor: number;
  readonly values: readonly ValueId[];
}

/** The most factors that a pattern has. */
const MAX_FACTORS = 8;

/**
 * The product that `id` is: through Mul, Div by a number, and squares and cubes, as far as nothing else needs what lies between. Every
 * value is a product of itself.
 */
export function productOf(r: Rewriter, id: ValueId): Product {
  return gather(r, [id]);
}

/** {@link productOf} of the result of `node`. */
export function productAt(r: Rewriter, node: Node): Product {
  return gather(r, node.inputs as readonly ValueId[]);
}

function gather(r: Rewriter, ids: readonly ValueId[]): Product {
  let factor = 1;
  const values: ValueId[] = [];
  const open = [...ids];
  for (let id = open.pop(); id !== undefined; id = open.pop()) {
    const number = r.scalar(id);
    if (number !== undefined) {
      factor *= number;
      continue;
    }
    const node = values.length + open.length < MAX_FACTORS ? r.ownProducer(id, 'Mul', 'Div', 'Pow') : undefined;
    const second = r.scalar(node?.inputs[1]);
    if (node === undefined || node.opset < 7) values.push(id);
    else if (node.op === 'Mul') open.push(node.inputs[0]!, node.inputs[1]!);
    else if (node.op === 'Div' && second !== undefined && second !== 0) {
      factor /= second;
      open.push(node.inputs[0]!);
    } else if (node.op === 'Pow' && (second === 2 || second === 3)) {
      open.push(...new Array<ValueId>(second).fill(node.inputs[0]!));
    } else values.push(id);
  }
  return { factor, values };
}

/** Whether a product is `factor` times `x`, `times` times. */
export function isPower(
  product: Product,
  facts: { readonly dtype: string },
  factor: number,
  x: ValueId,
  times = 1,
): boolean {
  return (
    product.values.length === times && product.values.every(value => value === x) && near(product.factor, factor, facts)
  );
}

/** Whether a constant of a model is meant to be `wanted`: off by no more than rounding it to its dtype explains. */
export function near(came: number, wanted: number, { dtype }: { readonly dtype: string }): boolean {
  const tolerance = dtype === 'f16' ? 1e-3 : dtype === 'bf16' ? 8e-3 : 1e-6;
  return Math.abs(came - wanted) <= tolerance * Math.abs(wanted);
}

/** The other operand of a sum with a number; undefined where neither is `wanted`. */
export function besides(r: Rewriter, node: Node | undefined, wanted: number): ValueId | undefined {
  if (node === undefined || node.opset < 7) return undefined;
  const [a, b] = node.inputs as readonly [ValueId, ValueId];
  const facts = r.facts(a);
  const is = (id: ValueId): boolean => {
    const number = r.scalar(id);
    return number !== undefined && near(number, wanted, facts);
  };
  return is(b) ? a : is(a) ? b : undefined;
}

/** The axes that a reduction takes away, counted from 0 and ascending, where sizes of 1 are left in their place. */
export function keptAxes(r: Rewriter, node: Node | undefined): readonly number[] | undefined {
  if (node === undefined || node.domain !== '' || Number(node.attributes['keepdims'] ?? 1) === 0) return undefined;
  return reducedAxes(r, node);
}

/** The axes that a reduction takes away, counted from 0 and ascending. */
export function reducedAxes(r: Rewriter, node: Node): readonly number[] | undefined {
  const rank = r.shape(node.inputs[0]!).length;
  const given =
    node.inputs[1] === undefined ? ((node.attributes['axes'] ?? []) as readonly number[]) : r.elements(node.inputs[1]);
  if (given === undefined) return undefined;
  if (given.length === 0) {
    return Number(node.attributes['noop_with_empty_axes'] ?? 0) === 0 ? Array.from({ length: rank }, (_, i) => i) : [];
  }
  return given.map(axis => (axis < 0 ? axis + rank : axis)).sort((a, b) => a - b);
}

/** Whether these are the axes from some axis to the last. */
export function areTrailing(axes: readonly number[], rank: number): boolean {
  return axes.length > 0 && axes.every((axis, i) => axis === rank - axes.length + i);
}
