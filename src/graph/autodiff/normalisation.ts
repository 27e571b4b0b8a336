/**
 * Gradients of normalisation. Softmax has its own; the others are formulas, differentiated as such.
 * @module
 */
import type { ValueId } from '../graph.ts';
import { type GradientContext, type GradientRule, range } from './rule.ts';

/** The axes that were normalised together: before opset 13 all from `axis` on. A scalar has none. */
function softmaxAxes(g: GradientContext): readonly number[] {
  const rank = g.rankOf(g.input(0));
  if (rank === 0) return [];
  const axis = g.axis(g.number('axis'), rank);
  return g.node.opset < 13 ? range(rank - axis, axis) : [axis];
}

const softmax: GradientRule = g => {
  const weighted = g.mul(g.dy, g.output());
  return [g.sub(weighted, g.mul(g.output(), g.sum(weighted, softmaxAxes(g), true)))];
};

const logSoftmax: GradientRule = g => {
  const total = g.sum(g.dy, softmaxAxes(g), true);
  return [g.sub(g.dy, g.mul(g.op('Exp', [g.output()]), total))];
};

const mean = (g: GradientContext, x: ValueId, axes: readonly number[]): ValueId =>
  axes.length === 0 ? x : g.op('ReduceMean', [x, g.list(axes)]);

/** Mean and variance along axes, which stay as ones. */
function statistics(
  g: GradientContext,
  x: ValueId,
  axes: readonly number[],
): { readonly average: ValueId; readonly centred: ValueId; readonly variance: ValueId } {
  const average = mean(g, x, axes);
  const centred = g.sub(x, average);
  return { average, centred, variance: mean(g, g.mul(centred, centred), axes) };
}

const inverse = (g: GradientContext, variance: ValueId, epsilon: number): ValueId =>
  g.op('Reciprocal', [g.op('Sqrt', [g.shift(variance, epsilon)])]);

/** A value per channel, with ones for the axes after it, in the dtype of x. */
function perChannel(g: GradientContext, id: ValueId, axes: number): ValueId {
  const { dtype } = g.facts(g.input(0));
  const cast = g.facts(id).dtype === dtype ? id : g.op('CastLike', [id, g.input(0)]);
  return g.unsqueeze(cast, range(axes, g.rankOf(id)));
}

const batchNormalization: GradientRule = g => {
  const { opset, outputs } = g.node;
  const trains =
    opset >= 14
      ? g.flag('training_mode')
      : opset >= 7
        ? outputs.slice(1).some(id => id !== undefined)
        : !g.flag('is_test');
  return g.through(([x, scale, bias, runningMean, runningVariance]) => {
    const rank = g.rankOf(x!);
    if (rank < 2) g.unsupported('a batch without channels');
    const place = (id: ValueId): ValueId => perChannel(g, id, rank - 1 - g.rankOf(id));
    const epsilon = g.number('epsilon');
    const apply = (centred: ValueId, variance: ValueId): ValueId =>
      g.add(g.mul(g.mul(centred, inverse(g, variance, epsilon)), place(scale!)), place(bias!));
    if (!trains) return [apply(g.sub(x!, place(runningMean!)), place(runningVariance!))];
    // One statistic per channel, over the batch and all places; or one per element of a sample.
    const axes = [0, ...range(rank - 1 - g.rankOf(scale!), 1 + g.rankOf(scale!))];
    const { average, centred, variance } = statistics(g, x!, axes);
    const flat = (id: ValueId, like: ValueId): ValueId => {
      const own = g.op('Squeeze', [id, g.list(axes)]);
      return g.facts(like).dtype === g.facts(own).dtype ? own : g.op('CastLike', [own, like]);
    };
    const running = (old: ValueId, now: ValueId): ValueId =>
      g.add(g.scale(old, g.number('momentum')), g.scale(now, 1 - g.number('momentum')));
    const [batchMean, batchVariance] = [flat(average, runningMean!), flat(variance, runningVariance!)];
    const updated = [running(runningMean!, batchMean), running(runningVariance!, batchVariance)];
    return [apply(centred, variance), ...updated, ...(opset < 14 ? [batchMean, batchVariance] : [])];
  });
};

/** In the order of LayerNormalization's outputs: the result, the mean, the inverse deviation. */
const layerNormalization: GradientRule = g =>
  g.through(([x, scale, bias]) => {
    const rank = g.rankOf(x!);
    const axis = g.axis(g.number('axis'), rank);
    const { average, centred, variance } = statistics(g, x!, range(rank - axis, axis));
    const factor = inverse(g, variance, g.number('epsilon'));
    const scaled = g.mul(g.mul(centred, factor), scale!);
    return [bias === undefined ? scaled : g.add(scaled, bias), stash(g, 1, average), stash(g, 2, factor)];
  });

/** A statistic in the dtype of the output that it is. */
function stash(g: GradientContext, output: number, id: ValueId): ValueId | undefined {
  const own = g.node.outputs[output];
  if (own === undefined || g.facts(own).dtype === g.facts(id).dtype) return id;
  return g.op('CastLike', [id, own]);
}

const rmsNormalization: GradientRule = g =>
  g.through(([x, scale]) => {
    const rank = g.rankOf(x!);
    const axis = g.axis(g.number('axis'), rank);
    const square = mean(g, g.mul(x!, x!), range(rank - axis, axis));
    const factor = inverse(g, square, g.number('epsilon'));
    const normal = g.mul(x!, factor);
    // The result is of the scale's dtype.
    const same = g.facts(x!).dtype === g.facts(scale!).dtype;
    return [g.mul(same ? normal : g.op('CastLike', [normal, scale]), scale!), stash(g, 1, factor)];
  });

const lpNormalization: GradientRule = g =>
  g.through(([x]) => [g.div(x!, g.op(g.number('p') === 1 ? 'ReduceL1' : 'ReduceL2', [x, g.list([g.number('axis')])]))]);

/** What the operator adds to the deviation, so that one of zero does not divide. */
const DEVIATION_EPSILON = 1e-9;

const meanVarianceNormalization: GradientRule = g =>
  g.through(([x]) => {
    const rank = g.rankOf(x!);
    // Before opset 9 all axes, or all but the channels.
    const all = range(rank).filter(axis => axis !== 1 || g.flag('across_channels'));
    const axes = g.numbers('axes')?.map(axis => g.axis(axis, rank)) ?? all;
    const { centred, variance } = statistics(g, x!, axes);
    if (g.attribute('normalize_variance') === 0) return [centred];
    return [g.div(centred, g.shift(g.op('Sqrt', [variance]), DEVIATION_EPSILON))];
  });

const instanceNormalization: GradientRule = g =>
  g.through(([x, scale, bias]) => {
    const rank = g.rankOf(x!);
    const { centred, variance } = statistics(g, x!, range(rank - 2, 2));
    const normal = g.mul(centred, inverse(g, variance, g.number('epsilon')));
    return [g.add(g.mul(normal, perChannel(g, scale!, rank - 2)), perChannel(g, bias!, rank - 2))];
  });

/** Groups of channels are rows of their own; before opset 21 scale and bias are one per group. */
const groupNormalization: GradientRule = g =>
  g.through(([x, scale, bias]) => {
    const rank = g.rankOf(x!);
    const groups = g.number('num_groups');
    const channels = g.sizeOf(x!, 1);
    const per = g.op('Div', [channels, g.list([groups])]);
    const rest = range(rank - 2, 2).map(axis => g.sizeOf(x!, axis));
    const sizes = [g.sizeOf(x!, 0), g.list([groups]), per, ...rest];
    const grouped = g.reshape(x!, g.op('Concat', sizes, { axis: 0 }));
    const { centred, variance } = statistics(g, grouped, range(rank - 1, 2));
    const normal = g.mul(centred, inverse(g, variance, g.number('epsilon')));
    const place = (id: ValueId): ValueId => {
      if (g.node.opset < 21) return g.unsqueeze(id, range(rank - 1, 1));
      return g.unsqueeze(g.reshape(id, g.op('Concat', [g.list([groups]), per], { axis: 0 })), range(rank - 2, 2));
    };
    return [g.reshapeLike(g.add(g.mul(normal, place(scale!)), place(bias!)), x!)];
  });

/** The rules of this file. */
export const NORMALISATION: Readonly<Record<string, GradientRule>> = {
  Softmax: softmax,
  LogSoftmax: logSoftmax,
  Hardmax: () => [undefined],
  BatchNormalization: batchNormalization,
  LayerNormalization: layerNormalization,
  RMSNormalization: rmsNormalization,
  SimplifiedLayerNormalization: rmsNormalization,
  LpNormalization: lpNormalization,
  MeanVarianceNormalization: meanVarianceNormalization,
  InstanceNormalization: instanceNormalization,
  GroupNormalization: groupNormalization,
};
