/**
 * Gradients of pooling: a maximum goes back to where it was found, a mean spreads evenly.
 * @module
 */
import type { Attribute } from '../graph.ts';
import { type GradientContext, type GradientRule, range } from './rule.ts';

/** The attributes of the node without those named. */
function without(g: GradientContext, ...names: readonly string[]): Record<string, Attribute> {
  return Object.fromEntries(Object.entries(g.node.attributes).filter(([name]) => !names.includes(name)));
}

const maxPool: GradientRule = g => {
  const x = g.input(0);
  // Indices count the whole tensor in row-major order, unless the node asks for columns first.
  const columns = g.attribute('storage_order') === 1;
  const indices =
    !columns && g.node.outputs[1] !== undefined
      ? g.output(1)
      : g.ops('MaxPool', 2, [x], without(g, 'storage_order'))[1]!;
  const flat = g.list([-1]);
  const size = g.op('Reshape', [g.op('Size', [x]), g.list([1])]);
  const zeros = g.reshape(g.zeros(x), size);
  const summed = g.op('ScatterElements', [zeros, g.op('Reshape', [indices, flat]), g.op('Reshape', [g.dy, flat])], {
    axis: 0,
    reduction: 'add',
  });
  return [g.reshapeLike(summed, x)];
};

/** The spatial axes of an input of batch and channels. */
const spatial = (g: GradientContext): readonly number[] => range(g.rankOf(g.input(0)) - 2, 2);

/** The rules of this file. */
export const POOLING: Readonly<Record<string, GradientRule>> = {
  MaxPool: maxPool,
  AveragePool: g => [g.own('AveragePoolGradient', [g.dy, g.shapeOf(g.input(0))], g.node.attributes)],
  GlobalAveragePool: g => g.through(([x]) => [g.op('ReduceMean', [x, g.list(spatial(g))])]),
  GlobalMaxPool: g => g.through(([x]) => [g.op('ReduceMax', [x, g.list(spatial(g))])]),
};
