/**
 * The same elements in another shape, or the shape itself: Reshape, Flatten, Transpose, Squeeze, Unsqueeze, Expand, Shape, Size.
 * @module
 */
import { formatShape, Tensor } from '../../../tensor/index.ts';
import { exactQuotient } from '../../dimension.ts';
import type { Dim, Facts } from '../../graph.ts';
import { shapeFromInput } from '../core/constant.ts';
import {
  define,
  from,
  type InferContext,
  int,
  ints,
  lengthOf,
  type Operator,
  type OperatorVersion,
  required,
} from '../operator.ts';

/** The shape that Reshape asks for: 0 copies a size (unless `allowzero`), -1 takes what is left. */
function reshaped(c: InferContext, wanted: readonly Dim[]): readonly Dim[] {
  const { shape } = c.input(0);
  const copyZero = !(c.has('allowzero') && c.number('allowzero') !== 0);
  const open = wanted.indexOf(-1);
  const target = wanted.map((dim, i): Dim => {
    if (dim === -1 && i === open) return 1;
    if (typeof dim === 'number' && dim < 0)
      c.fail(`expected sizes of at least 0 and at most one -1, got ${formatShape(wanted)}`);
    if (dim !== 0 || !copyZero) return dim;
    return shape[i] ?? c.fail(`size ${i} is to be copied from ${formatShape(shape)}`);
  });
  if (open >= 0 && !copyZero && wanted.includes(0))
    c.fail(`with allowzero, 0 and -1 in ${formatShape(wanted)} say nothing`);
  if (open < 0) {
    const [have, wants] = [c.product(shape), c.product(target)];
    if (c.differ(have, wants))
      c.fail(`${formatShape(shape)} has ${have} elements, ${formatShape(target)} has ${wants}`);
    return target;
  }
  return target.map((dim, i) => (i === open ? quotient(c, shape, target) : dim));
}

/** What is left for -1: the product of the sizes that are there, divided by that of the others. */
function quotient(c: InferContext, from: readonly Dim[], to: readonly Dim[]): Dim {
  const [have, known] = [c.product(from), c.product(to)];
  if (known === 0) return 0;
  const left = exactQuotient(have, known);
  if (left !== undefined) return left;
  if (typeof have === 'number' && typeof known === 'number') {
    c.fail(`${have} elements of ${formatShape(from)} cannot be cut into ${formatShape(to)}`);
  }
  return c.fresh();
}

const reshape: OperatorVersion = {
  since: 5,
  inputs: [2, 2],
  outputs: [1, 1],
  attributes: {},
  infer: c => {
    c.expect(1, ['i64']);
    c.rank(1, 1);
    const known = c.known(1);
    if (known) return [{ dtype: c.input(0).dtype, shape: reshaped(c, known) }];
    // A shape that is computed from data may hold 0 or -1, which say nothing before they are seen.
    const { dtype } = c.input(0);
    return [{ dtype, shape: shapeFromInput(c, 1).map(() => c.fresh()) }];
  },
  // The value of a shape vector does not change with its rank.
  known: c => c.known(0),
  run: c => [c.operand(0).reshape(c.shape())],
};

const reshapeAttribute = from(1, reshape, {
  inputs: [1, 1],
  attributes: { shape: ints(), consumed_inputs: ints() },
  infer: c => {
    const wanted = c.numbers('shape') ?? c.fail('attribute shape is missing');
    return [{ dtype: c.input(0).dtype, shape: reshaped(c, wanted) }];
  },
});

const flatten: OperatorVersion = {
  since: 1,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: { axis: int(1) },
  infer: c => {
    const { dtype, shape } = c.input(0);
    const axis = c.number('axis');
    // The axis may be the rank itself: everything goes to the left.
    const at = axis === shape.length ? axis : c.axis(axis, shape.length);
    return [{ dtype, shape: [c.product(shape.slice(0, at)), c.product(shape.slice(at))] }];
  },
  run: c => [c.operand(0).reshape(c.shape())],
};

const transpose: OperatorVersion = {
  since: 1,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: { perm: ints() },
  infer: c => {
    const { dtype, shape } = c.input(0);
    return [{ dtype, shape: transposeOrder(c).map(axis => shape[axis]!) }];
  },
  run: c => [c.operand(0).transpose(transposeOrder(c))],
};

function transposeOrder(c: InferContext): readonly number[] {
  const rank = c.input(0).shape.length;
  const order = c.numbers('perm');
  if (!order) return Array.from({ length: rank }, (_, i) => rank - 1 - i);
  if (order.length !== rank) c.fail(`attribute perm: expected ${rank} axes, got ${formatShape(order)}`);
  return c.axes(order, rank);
}

/** Where Squeeze and Unsqueeze take their axes from: an attribute before opset 13, an input from then on. */
function axesOf(c: InferContext): readonly number[] | undefined {
  if (!c.inputs[1]) return c.numbers('axes');
  c.expect(1, ['i64']);
  return c.integers(1);
}

function squeezed(c: InferContext): readonly number[] {
  const { shape } = c.input(0);
  const axes = axesOf(c);
  if (axes) return c.axes(axes, shape.length);
  // A size that is not known is taken not to be 1, or the rank would not be known; where it is, the run says so.
  return shape.flatMap((dim, i) => (dim === 1 ? [i] : []));
}

const squeeze: OperatorVersion = {
  since: 13,
  inputs: [1, 2],
  outputs: [1, 1],
  attributes: {},
  infer: c => {
    const { dtype, shape } = c.input(0);
    if (c.inputs[1] && !c.integers(1)) {
      const gone = lengthOf(c, 1);
      if (gone > shape.length) c.fail(`${gone} axes of a rank ${shape.length} tensor`);
      return [{ dtype, shape: Array.from({ length: shape.length - gone }, () => c.fresh()) }];
    }
    const axes = squeezed(c);
    for (const axis of axes) c.same(shape[axis]!, 1, `axis ${axis} of ${formatShape(shape)}`);
    return [{ dtype, shape: shape.filter((_, i) => !axes.includes(i)) }];
  },
  known: c => c.known(0),
  run: c => [c.operand(0).reshape(c.shape())],
};

const unsqueeze: OperatorVersion = {
  since: 13,
  inputs: [2, 2],
  outputs: [1, 1],
  attributes: {},
  infer: c => {
    const { dtype, shape } = c.input(0);
    if (c.inputs[1] && !c.integers(1)) {
      return [{ dtype, shape: Array.from({ length: shape.length + lengthOf(c, 1) }, () => c.fresh()) }];
    }
    const given = axesOf(c) ?? c.fail('attribute axes is missing');
    const axes = c.axes(given, shape.length + given.length);
    let next = 0;
    const result = Array.from(
      { length: shape.length + axes.length },
      (_, i): Dim => (axes.includes(i) ? 1 : shape[next++]!),
    );
    return [{ dtype, shape: result }];
  },
  known: c => c.known(0),
  run: c => [c.operand(0).reshape(c.shape())],
};

const expand: OperatorVersion = {
  since: 8,
  inputs: [2, 2],
  outputs: [1, 1],
  attributes: {},
  infer: c => {
    const { dtype, shape } = c.input(0);
    return [{ dtype, shape: c.broadcast(shape, shapeFromInput(c, 1)) }];
  },
  run: c => [c.operand(0).expand(c.shape())],
};

/** The part of the shape that opset 15's `start` and `end` pick; they are clamped. */
function shapePart(c: InferContext): readonly Dim[] {
  const { shape } = c.input(0);
  return shape.slice(c.has('start') ? c.number('start') : 0, c.has('end') ? c.number('end') : shape.length);
}

const shapeOf: OperatorVersion = {
  since: 1,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: {},
  infer: c => [{ dtype: 'i64', shape: [shapePart(c).length] }],
  known: shapePart,
  run: c => [Tensor.of('i64', shapePart(c) as readonly number[])],
};

const sizeOf: OperatorVersion = {
  since: 1,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: {},
  infer: (): readonly Facts[] => [{ dtype: 'i64', shape: [] }],
  known: c => [c.product(c.input(0).shape)],
  run: c => [Tensor.of('i64', c.operand(0).size)],
};

/** The operators of this file. */
export const SHAPE: readonly Operator[] = [
  define('Reshape', 'view', reshapeAttribute, reshape, from(14, reshape, { attributes: { allowzero: int(0) } })),
  define('Flatten', 'view', flatten),
  define('Transpose', 'compute', transpose),
  define('Squeeze', 'view', from(1, squeeze, { inputs: [1, 1], attributes: { axes: ints() } }), squeeze),
  define(
    'Unsqueeze',
    'view',
    from(1, unsqueeze, { inputs: [1, 1], attributes: { axes: required(ints()) } }),
    unsqueeze,
  ),
  define('Expand', 'compute', expand),
  define('Shape', 'compute', shapeOf, from(15, shapeOf, { attributes: { start: int(0), end: int() } })),
  define('Size', 'compute', sizeOf),
];
