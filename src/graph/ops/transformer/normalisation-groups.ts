/**
 * Normalisation by channels: BatchNormalization, InstanceNormalization, GroupNormalization, MeanVarianceNormalization, LRN.
 * @module
 */
import { elementCount, formatShape, Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import { dense, type Numbers } from '../loops.ts';
import {
  define,
  defineIn,
  FLOATS,
  float,
  from,
  type InferContext,
  int,
  ints,
  type Operator,
  type OperatorVersion,
  type RunContext,
  required,
} from '../operator.ts';

/** A batch whose statistics are taken together: each of `channels` over `outer` runs of `inner` neighbours. */
interface Channels<Size> {
  readonly outer: Size;
  readonly channels: Size;
  readonly inner: Size;
}

/** Whether the node asks for the statistics of the batch itself, which each version says in another way. */
function trains(c: InferContext): boolean {
  const { opset, outputs } = c.node;
  if (opset >= 14) return c.number('training_mode') !== 0;
  if (opset >= 7) return outputs.slice(1).some(id => id !== undefined);
  return c.number('is_test') === 0;
}

/** The shape of the statistics: one per channel, or (`spatial` = 0) one per element of a sample. A vector is of one channel. */
function statisticsShape(c: InferContext): readonly Dim[] {
  const { shape } = c.input(0);
  if (shape.length === 0) c.fail('expected a batch, got a scalar');
  if (shape.length === 1) return [1];
  return c.has('spatial') && c.number('spatial') === 0 ? shape.slice(1) : [shape[1]!];
}

function inferBatchNormalization(c: InferContext): readonly Facts[] {
  c.expect(0, FLOATS);
  const { opset, outputs } = c.node;
  if (opset < 15) for (const index of [1, 2]) c.sameDType(0, index);
  if (opset < 14) for (const index of [3, 4]) c.sameDType(0, index);
  c.sameDType(1, 2);
  c.sameDType(3, 4);
  const statistics = statisticsShape(c);
  for (const index of [1, 2, 3, 4]) {
    c.expect(index, FLOATS);
    c.rank(index, statistics.length);
    for (const [i, dim] of c.input(index).shape.entries()) {
      c.same(statistics[i]!, dim, `channels of inputs 0 and ${index}`);
    }
  }
  if (!trains(c) && outputs.slice(1).some(id => id !== undefined)) c.fail('outputs of training without training');
  const statistic: Facts = { dtype: c.input(3).dtype, shape: statistics };
  return [c.input(0), ...Array.from({ length: trains(c) ? (opset < 14 ? 4 : 2) : 0 }, () => statistic)];
}

function batchChannels(c: RunContext): Channels<number> {
  const shape = c.shape();
  if (shape.length === 1) return { outer: shape[0]!, channels: 1, inner: 1 };
  const channels = elementCount(statisticsShape(c) as readonly number[]);
  const inner = elementCount(shape.slice(statisticsShape(c).length + 1));
  return { outer: shape[0]!, channels, inner };
}

function runBatchNormalization(c: RunContext): readonly Tensor[] {
  const out = c.allocate();
  const [x, scale, bias, mean, variance] = [0, 1, 2, 3, 4].map(i => dense(c.operand(i)));
  const form = batchChannels(c);
  const epsilon = c.number('epsilon');
  const to = out.data as Numbers;
  if (!trains(c)) {
    applyToChannels(x!, to, form, channel => {
      const factor = scale![channel]! / Math.sqrt(variance![channel]! + epsilon);
      return { factor, shift: bias![channel]! - mean![channel]! * factor };
    });
    return [out];
  }
  const current = channelStatistics(x!, form);
  applyToChannels(x!, to, form, channel => {
    const factor = scale![channel]! / Math.sqrt(current.variances[channel]! + epsilon);
    return { factor, shift: bias![channel]! - current.means[channel]! * factor };
  });
  const momentum = c.number('momentum');
  const statistic = (values: Float64Array, running?: Numbers): Tensor =>
    Tensor.from(
      'f64',
      c.shape(1),
      running ? values.map((value, i) => running[i]! * momentum + value * (1 - momentum)) : values,
    ).cast(c.outputs[1]!.dtype);
  const running = [statistic(current.means, mean!), statistic(current.variances, variance!)];
  const saved = c.node.opset < 14 ? [statistic(current.means), statistic(current.variances)] : [];
  return [out, ...running, ...saved];
}

/** `y = x * factor + shift`, with one factor and shift per channel. */
function applyToChannels(
  x: Numbers,
  y: Numbers,
  { outer, channels, inner }: Channels<number>,
  of: (channel: number) => { readonly factor: number; readonly shift: number },
): void {
  for (let channel = 0; channel < channels; channel++) {
    const { factor, shift } = of(channel);
    for (let o = 0; o < outer; o++) {
      const start = (o * channels + channel) * inner;
      for (let at = start; at < start + inner; at++) y[at] = x[at]! * factor + shift;
    }
  }
}

/** The mean and the variance (over all, not over all but one) of each channel. */
function channelStatistics(
  x: Numbers,
  { outer, channels, inner }: Channels<number>,
): { readonly means: Float64Array; readonly variances: Float64Array } {
  const [means, variances] = [new Float64Array(channels), new Float64Array(channels)];
  const count = outer * inner;
  for (let channel = 0; channel < channels; channel++) {
    let sum = 0;
    for (let o = 0; o < outer; o++) {
      const start = (o * channels + channel) * inner;
      for (let at = start; at < start + inner; at++) sum += x[at]!;
    }
    const mean = sum / count;
    let squares = 0;
    for (let o = 0; o < outer; o++) {
      const start = (o * channels + channel) * inner;
      for (let at = start; at < start + inner; at++) squares += (x[at]! - mean) ** 2;
    }
    means[channel] = mean;
    variances[channel] = squares / count;
  }
  return { means, variances };
}

const batch9: OperatorVersion = {
  since: 9,
  inputs: [5, 5],
  outputs: [1, 5],
  attributes: { epsilon: float(1e-5), momentum: float(0.9) },
  infer: inferBatchNormalization,
  run: runBatchNormalization,
};

const batch7 = from(7, batch9, { attributes: { ...batch9.attributes, spatial: int(1) } });
const batch6 = from(6, batch7, { attributes: { ...batch7.attributes, is_test: int(0) } });
const batch14 = from(14, batch9, { outputs: [1, 3], attributes: { ...batch9.attributes, training_mode: int(0) } });

/** Fails unless the input is a batch of samples of channels; returns how many channels. */
function channelsOf(c: InferContext): Dim {
  c.expect(0, FLOATS);
  const { shape } = c.input(0);
  if (shape.length < 2) c.fail(`expected a batch and channels, got ${formatShape(shape)}`);
  return shape[1]!;
}

/** Fails unless inputs 1 and 2, a factor and a shift, hold `count` values of the dtype of input 0. */
function checkScale(c: InferContext, count: Dim, what: string): void {
  for (const index of [1, 2]) {
    c.sameDType(0, index);
    c.rank(index, 1);
    c.same(count, c.input(index).shape[0]!, `${what} of inputs 0 and ${index}`);
  }
}

/**
 * Normalises `runs` of `length` neighbours, each by its own statistics. A run is of equally long `parts`, and `scaleAt` says by
 * what the elements of a part are then multiplied and what is added.
 */
function normaliseRuns(
  x: Numbers,
  y: Numbers,
  { runs, length, parts }: { readonly runs: number; readonly length: number; readonly parts: number },
  epsilon: number,
  scaleAt: (run: number, part: number) => { readonly scale: number; readonly bias: number },
): void {
  const inner = parts === 0 ? 0 : length / parts;
  for (let run = 0; run < runs; run++) {
    const start = run * length;
    let sum = 0;
    for (let at = start; at < start + length; at++) sum += x[at]!;
    const mean = sum / length;
    let squares = 0;
    for (let at = start; at < start + length; at++) squares += (x[at]! - mean) ** 2;
    const inverse = 1 / Math.sqrt(squares / length + epsilon);
    for (let part = 0, at = start; part < parts; part++) {
      const { scale, bias } = scaleAt(run, part);
      for (let i = 0; i < inner; i++, at++) y[at] = (x[at]! - mean) * inverse * scale + bias;
    }
  }
}

const instanceNormalization: OperatorVersion = {
  since: 6,
  inputs: [3, 3],
  outputs: [1, 1],
  attributes: { epsilon: float(1e-5) },
  infer: c => {
    checkScale(c, channelsOf(c), 'channels');
    return [c.input(0)];
  },
  run: c => {
    const out = c.allocate();
    const [x, scale, bias] = [0, 1, 2].map(i => dense(c.operand(i)));
    const [batch, channels] = c.shape() as [number, number];
    const runs = { runs: batch * channels, length: elementCount(c.shape().slice(2)), parts: 1 };
    normaliseRuns(x!, out.data as Numbers, runs, c.number('epsilon'), run => ({
      scale: scale![run % channels]!,
      bias: bias![run % channels]!,
    }));
    return [out];
  },
};

function groupsOf(c: InferContext): number {
  const [groups, channels] = [c.number('num_groups'), channelsOf(c)];
  if (groups < 1 || (typeof channels === 'number' && channels % groups !== 0)) {
    c.fail(`${channels} channels cannot be cut into ${groups} groups`);
  }
  return groups;
}

/** Opset 18 scales by group, opset 21 by channel. */
const groupNormalization: OperatorVersion = {
  since: 18,
  inputs: [3, 3],
  outputs: [1, 1],
  attributes: { epsilon: float(1e-5), num_groups: required(int()) },
  infer: c => {
    const groups = groupsOf(c);
    if (c.node.opset < 21) checkScale(c, groups, 'groups');
    else checkScale(c, channelsOf(c), 'channels');
    return [c.input(0)];
  },
  run: c => {
    const out = c.allocate();
    const [x, scale, bias] = [0, 1, 2].map(i => dense(c.operand(i)));
    const [batch, channels] = c.shape() as [number, number];
    const groups = groupsOf(c);
    const parts = channels / groups;
    const runs = { runs: batch * groups, length: parts * elementCount(c.shape().slice(2)), parts };
    const byGroup = c.node.opset < 21;
    normaliseRuns(x!, out.data as Numbers, runs, c.number('epsilon'), (run, part) => {
      const group = run % groups;
      const at = byGroup ? group : group * parts + part;
      return { scale: scale![at]!, bias: bias![at]! };
    });
    return [out];
  },
};

/** Channels lie last by default, and a sigmoid linear unit may follow. Scales may be of another dtype than the input. */
const microsoftGroupNorm: OperatorVersion = {
  since: 1,
  inputs: [3, 3],
  outputs: [1, 1],
  attributes: {
    activation: required(int()),
    channels_last: int(1),
    epsilon: float(1e-5),
    groups: required(int()),
  },
  infer: c => {
    c.expect(0, FLOATS);
    c.rank(0, 4);
    const channels = c.input(0).shape[c.number('channels_last') ? 3 : 1]!;
    const groups = c.number('groups');
    if (groups < 1 || (typeof channels === 'number' && channels % groups !== 0)) {
      c.fail(`${channels} channels cannot be cut into ${groups} groups`);
    }
    c.sameDType(1, 2);
    for (const index of [1, 2]) {
      c.expect(index, FLOATS);
      c.rank(index, 1);
      c.same(channels, c.input(index).shape[0]!, `channels of inputs 0 and ${index}`);
    }
    if (c.number('activation') !== 0 && c.number('activation') !== 1) {
      c.fail(`attribute activation: expected 0 or 1, got ${c.number('activation')}`);
    }
    return [c.input(0)];
  },
  run: c => {
    const last = c.number('channels_last') !== 0;
    const x = last ? c.operand(0).transpose([0, 3, 1, 2]) : c.operand(0);
    const [scale, bias] = [dense(c.operand(1)), dense(c.operand(2))];
    const out = Tensor.zeros(c.outputs[0]!.dtype, x.shape);
    const [batch, channels] = x.shape as readonly [number, number];
    const groups = c.number('groups');
    const parts = channels / groups;
    const runs = { runs: batch * groups, length: parts * elementCount(x.shape.slice(2)), parts };
    const y = out.data as Numbers;
    normaliseRuns(dense(x), y, runs, c.number('epsilon'), (run, part) => {
      const at = (run % groups) * parts + part;
      return { scale: scale[at]!, bias: bias[at]! };
    });
    if (c.number('activation') === 1) for (let i = 0; i < y.length; i++) y[i]! /= 1 + Math.exp(-y[i]!);
    return [last ? out.transpose([0, 2, 3, 1]) : out];
  },
};

/** Keeps a deviation of zero from dividing: the function body of the operator adds it to the deviation. */
const DEVIATION_EPSILON = 1e-9;

/** Over the named axes; before opset 9 over all axes, or over all but the channels. */
function meanVarianceAxes(c: InferContext): readonly number[] {
  const rank = c.input(0).shape.length;
  const named = c.numbers('axes');
  if (named) return c.axes(named, rank);
  const across = c.number('across_channels') !== 0;
  return Array.from({ length: rank }, (_, i) => i).filter(i => i !== 1 || across);
}

const meanVariance: OperatorVersion = {
  since: 9,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: { axes: ints([0, 2, 3]) },
  infer: c => {
    c.expect(0, FLOATS);
    meanVarianceAxes(c);
    return [c.input(0)];
  },
  run: c => {
    const axes = meanVarianceAxes(c);
    const rest = c.shape().flatMap((_, i) => (axes.includes(i) ? [] : [i]));
    const order = [...rest, ...axes];
    const rows = c.operand(0).transpose(order);
    const x = dense(rows);
    const n = elementCount(axes.map(axis => c.shape()[axis]!));
    const result = Tensor.zeros(c.outputs[0]!.dtype, rows.shape);
    const y = result.data as Numbers;
    const divide = !c.has('normalize_variance') || c.number('normalize_variance') !== 0;
    for (let start = 0; start < y.length; start += n) {
      let sum = 0;
      for (let at = start; at < start + n; at++) sum += x[at]!;
      const mean = sum / n;
      let squares = 0;
      for (let at = start; at < start + n; at++) squares += (x[at]! - mean) ** 2;
      const deviation = divide ? Math.sqrt(squares / n) + DEVIATION_EPSILON : 1;
      for (let at = start; at < start + n; at++) y[at] = (x[at]! - mean) / deviation;
    }
    return [result.transpose(order.map((_, axis) => order.indexOf(axis)))];
  },
};

/** Local response normalisation: divides by a power of the squares in a window over neighbouring channels. */
const lrn: OperatorVersion = {
  since: 1,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: { alpha: float(1e-4), beta: float(0.75), bias: float(1), size: required(int()) },
  infer: c => {
    channelsOf(c);
    if (c.number('size') < 1) c.fail(`attribute size: expected at least 1 channel, got ${c.number('size')}`);
    return [c.input(0)];
  },
  run: c => {
    const out = c.allocate();
    const [x, y] = [dense(c.operand(0)), out.data as Numbers];
    const [batch, channels] = c.shape() as [number, number];
    const inner = elementCount(c.shape().slice(2));
    const [size, bias, beta] = [c.number('size'), c.number('bias'), c.number('beta')];
    const factor = c.number('alpha') / size;
    const [before, after] = [Math.floor((size - 1) / 2), Math.ceil((size - 1) / 2)];
    const squares = new Float64Array(inner);
    for (let n = 0; n < batch; n++) {
      for (let channel = 0; channel < channels; channel++) {
        squares.fill(0);
        const last = Math.min(channels - 1, channel + after);
        for (let near = Math.max(0, channel - before); near <= last; near++) {
          const start = (n * channels + near) * inner;
          for (let i = 0; i < inner; i++) squares[i]! += x[start + i]! ** 2;
        }
        const start = (n * channels + channel) * inner;
        for (let i = 0; i < inner; i++) y[start + i] = x[start + i]! / (bias + factor * squares[i]!) ** beta;
      }
    }
    return [out];
  },
};

/** The operators of this file. */
export const NORMALISATION_GROUPS: readonly Operator[] = [
  define(
    'BatchNormalization',
    'compute',
    from(1, batch6, { attributes: { ...batch6.attributes, consumed_inputs: ints() } }),
    batch6,
    batch7,
    batch9,
    batch14,
  ),
  define(
    'InstanceNormalization',
    'compute',
    from(1, instanceNormalization, { attributes: { epsilon: float(1e-5), consumed_inputs: ints() } }),
    instanceNormalization,
  ),
  define(
    'GroupNormalization',
    'compute',
    groupNormalization,
    from(21, groupNormalization, { attributes: { ...groupNormalization.attributes, stash_type: int(1) } }),
  ),
  define(
    'MeanVarianceNormalization',
    'compute',
    from(1, meanVariance, { attributes: { across_channels: int(0), normalize_variance: int(1) } }),
    meanVariance,
  ),
  define('LRN', 'compute', lrn),
  defineIn('com.microsoft', 'GroupNorm', 'compute', microsoftGroupNorm),
];
