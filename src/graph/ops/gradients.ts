/**
 * Gradients that ONNX has no operators for, in the domain `cloister`: ConvInputGradient, ConvWeightGradient,
 * AveragePoolGradient, SliceGradient. Each undoes one linear operator, and takes that operator's attributes; so the gradient of
 * each is that operator again, or a sibling.
 * @module
 */
import { formatShape, sameShape, type Tensor } from '../../tensor/index.ts';
import type { Dim } from '../graph.ts';
import { shapeFromInput } from './core/constant.ts';
import { dense, type Numbers } from './loops.ts';
import {
  ANY,
  defineIn,
  FLOATS,
  type InferContext,
  int,
  ints,
  type Operator,
  type OperatorVersion,
  type RunContext,
  required,
  string,
} from './operator.ts';
import { checkAutoPad, concreteWindow, threeAxes, threeSizes, type Window, windowShape } from './vision/window.ts';

const WINDOW = {
  auto_pad: string('NOTSET'),
  dilations: ints(),
  kernel_shape: required(ints()),
  pads: ints(),
  strides: ints(),
} as const;

/** Fails unless a convolution takes images `x` and weights `w` to `y`: what the operators here start from. */
function checkConvolution(c: InferContext, x: readonly Dim[], w: readonly Dim[], y: readonly Dim[]): void {
  c.expect(0, FLOATS);
  c.sameDType(0, 1);
  checkAutoPad(c);
  if (x.length < 3 || x.length > 5) c.unsupported(`kernels are for 1 to 3 spatial axes, got ${formatShape(x)}`);
  if (y.length !== x.length || w.length !== x.length) {
    c.fail(`images of ${formatShape(x)}, weights of ${formatShape(w)} and results of ${formatShape(y)} differ in rank`);
  }
  const kernel = c.numbers('kernel_shape')!;
  if (kernel.length !== x.length - 2) c.fail(`attribute kernel_shape: expected ${x.length - 2} sizes`);
  kernel.forEach((size, i) => {
    c.same(size, w[i + 2]!, `kernel axis ${i}`);
  });
  const groups = c.number('group');
  const [channels, perGroup, outputs] = [x[1]!, w[1]!, w[0]!];
  if (groups < 1 || (typeof outputs === 'number' && outputs % groups !== 0)) {
    c.fail(`${outputs} output channels cannot be cut into ${groups} groups`);
  }
  if (typeof channels === 'number' && typeof perGroup === 'number' && channels !== perGroup * groups) {
    c.fail(`the images have ${channels} channels, the weights want ${perGroup} x ${groups} groups`);
  }
  c.same(x[0]!, y[0]!, 'images and results');
  c.same(outputs, y[1]!, 'channels of weights and results');
  windowShape(c, x.slice(2), kernel).forEach((size, i) => {
    c.same(size, y[i + 2]!, `axis ${i + 2} of the results`);
  });
}

/** Everything the two loops over a convolution need. */
interface Convolution {
  readonly batch: number;
  readonly groups: number;
  readonly perIn: number;
  readonly perOut: number;
  readonly window: Window;
  readonly inSizes: readonly [number, number, number];
  readonly outSizes: readonly [number, number, number];
}

function convolution(c: RunContext, x: readonly number[], y: readonly number[]): Convolution {
  const groups = c.number('group');
  const kernel = c.numbers('kernel_shape')!;
  return {
    batch: x[0]!,
    groups,
    perIn: x[1]! / groups,
    perOut: y[1]! / groups,
    window: threeAxes(concreteWindow(c, x.slice(2), y.slice(2), kernel)),
    inSizes: threeSizes(x.slice(2)),
    outSizes: threeSizes(y.slice(2)),
  };
}

/**
 * For one kernel place, the pairs of lines (an output line and the input line under it) that meet inside the image:
 * `visit(input line, output line, first, last, shift)`, where output places from `first` up to `last` meet the input places
 * `x * stride + shift`.
 */
function eachLine(
  { window, inSizes, outSizes }: Convolution,
  place: number,
  visit: (inLine: number, outLine: number, first: number, last: number, shift: number) => void,
): void {
  const [depth, height, width] = inSizes;
  const [outDepth, outHeight, outWidth] = outSizes;
  const { kernel, strides, dilations, padBegin } = window;
  const kx = place % kernel[2]!;
  const ky = Math.floor(place / kernel[2]!) % kernel[1]!;
  const kz = Math.floor(place / (kernel[2]! * kernel[1]!));
  const shift = kx * dilations[2]! - padBegin[2]!;
  const first = Math.max(0, Math.ceil(-shift / strides[2]!));
  const last = Math.min(outWidth, Math.floor((width - 1 - shift) / strides[2]!) + 1);
  if (first >= last) return;
  for (let oz = 0; oz < outDepth; oz++) {
    const z = oz * strides[0]! + kz * dilations[0]! - padBegin[0]!;
    if (z < 0 || z >= depth) continue;
    for (let oy = 0; oy < outHeight; oy++) {
      const y = oy * strides[1]! + ky * dilations[1]! - padBegin[1]!;
      if (y < 0 || y >= height) continue;
      visit((z * height + y) * width, (oz * outHeight + oy) * outWidth, first, last, shift);
    }
  }
}

const product = (sizes: readonly number[]): number => sizes.reduce((size, dim) => size * dim, 1);

/** `dX` from `dY`, the weights and the shape of X. Sums are kept in double precision, one plane at a time. */
const convInputGradient: OperatorVersion = {
  since: 1,
  inputs: [3, 3],
  outputs: [1, 1],
  attributes: { ...WINDOW, group: int(1) },
  infer: c => {
    const x = shapeFromInput(c, 2);
    checkConvolution(c, x, c.input(1).shape, c.input(0).shape);
    return [{ dtype: c.input(0).dtype, shape: x }];
  },
  run: c => {
    const out = c.allocate();
    const form = convolution(c, c.shape(), c.operand(0).shape);
    const { batch, groups, perIn, perOut, window } = form;
    const [dy, w, dx] = [dense(c.operand(0)), dense(c.operand(1)), out.data as Numbers];
    const [inVolume, outVolume, places] = [product(form.inSizes), product(form.outSizes), product(window.kernel)];
    const stride = window.strides[2]!;
    const plane = new Float64Array(inVolume);
    for (let n = 0; n < batch; n++) {
      for (let channel = 0; channel < groups * perIn; channel++) {
        const group = Math.floor(channel / perIn);
        plane.fill(0);
        for (let o = group * perOut; o < (group + 1) * perOut; o++) {
          const source = (n * groups * perOut + o) * outVolume;
          const weights = (o * perIn + (channel % perIn)) * places;
          for (let place = 0; place < places; place++) {
            const weight = w[weights + place]!;
            eachLine(form, place, (inLine, outLine, first, last, shift) => {
              let to = inLine + first * stride + shift;
              const from = source + outLine;
              for (let x = first; x < last; x++, to += stride) plane[to] = plane[to]! + weight * dy[from + x]!;
            });
          }
        }
        dx.set(plane, (n * groups * perIn + channel) * inVolume);
      }
    }
    return [out];
  },
};

/** `dW` from X and `dY`; the size of the kernel is the attribute's. */
const convWeightGradient: OperatorVersion = {
  since: 1,
  inputs: [2, 2],
  outputs: [1, 1],
  attributes: { ...WINDOW, group: int(1) },
  infer: c => {
    const [x, y] = [c.input(0).shape, c.input(1).shape];
    const [channels, groups] = [x[1] ?? 0, c.number('group')];
    if (typeof channels === 'number' && channels % groups !== 0) {
      c.fail(`${channels} channels cannot be cut into ${groups} groups`);
    }
    const perGroup = c.derive(`(${channels}/${groups})`, [channels], known => known / groups);
    const w = [y[1] ?? 0, perGroup, ...c.numbers('kernel_shape')!];
    checkConvolution(c, x, w, y);
    return [{ dtype: c.input(0).dtype, shape: w }];
  },
  run: c => {
    const out = c.allocate();
    const form = convolution(c, c.operand(0).shape, c.operand(1).shape);
    const { batch, groups, perIn, perOut, window } = form;
    const [image, dy, dw] = [dense(c.operand(0)), dense(c.operand(1)), out.data as Numbers];
    const [inVolume, outVolume, places] = [product(form.inSizes), product(form.outSizes), product(window.kernel)];
    const stride = window.strides[2]!;
    for (let o = 0, at = 0; o < groups * perOut; o++) {
      const group = Math.floor(o / perOut);
      for (let i = 0; i < perIn; i++) {
        for (let place = 0; place < places; place++, at++) {
          let sum = 0;
          eachLine(form, place, (inLine, outLine, first, last, shift) => {
            for (let n = 0; n < batch; n++) {
              let from = (n * groups * perIn + group * perIn + i) * inVolume + inLine + first * stride + shift;
              const source = (n * groups * perOut + o) * outVolume + outLine;
              for (let x = first; x < last; x++, from += stride) sum += image[from]! * dy[source + x]!;
            }
          });
          dw[at] = sum;
        }
      }
    }
    return [out];
  },
};

/** Where the windows along one axis begin and end inside the input, and how many places each counts. */
interface AxisWindows {
  readonly first: Int32Array;
  readonly last: Int32Array;
  readonly count: Int32Array;
}

function axisWindows(window: Window, axis: number, size: number, out: number, includePad: boolean): AxisWindows {
  const [first, last, count] = [new Int32Array(out), new Int32Array(out), new Int32Array(out)];
  const step = window.dilations[axis]!;
  for (let o = 0; o < out; o++) {
    const start = o * window.strides[axis]! - window.padBegin[axis]!;
    const stop = start + window.kernel[axis]! * step;
    first[o] = start < 0 ? start + Math.ceil(-start / step) * step : start;
    last[o] = Math.min(stop, size);
    const places = (from: number, to: number): number => Math.max(0, Math.ceil((to - from) / step));
    count[o] = includePad ? places(start, Math.min(stop, size + window.padEnd[axis]!)) : places(first[o]!, last[o]!);
  }
  return { first, last, count };
}

/** `dX` from `dY` and the shape of X: each result spreads evenly over the places it was the mean of. */
const averagePoolGradient: OperatorVersion = {
  since: 1,
  inputs: [2, 2],
  outputs: [1, 1],
  attributes: { ...WINDOW, ceil_mode: int(0), count_include_pad: int(0) },
  infer: c => {
    c.expect(0, FLOATS);
    checkAutoPad(c);
    const [x, { dtype, shape }] = [shapeFromInput(c, 1), c.input(0)];
    if (x.length < 3 || x.length > 5)
      c.unsupported(`pooling has kernels for 1 to 3 spatial axes, got ${formatShape(x)}`);
    const kernel = c.numbers('kernel_shape')!;
    if (kernel.length !== x.length - 2) c.fail(`attribute kernel_shape: expected ${x.length - 2} sizes`);
    c.rank(0, x.length);
    const pooled = windowShape(c, x.slice(2), kernel, c.number('ceil_mode') !== 0);
    [...x.slice(0, 2), ...pooled].forEach((size, i) => {
      c.same(size, shape[i]!, `axis ${i} of the results`);
    });
    return [{ dtype, shape: x }];
  },
  run: c => {
    const out = c.allocate();
    const [x, y] = [c.shape(), c.operand(0).shape];
    const kernel = c.numbers('kernel_shape')!;
    const window = threeAxes(concreteWindow(c, x.slice(2), y.slice(2), kernel));
    const [inSizes, outSizes] = [threeSizes(x.slice(2)), threeSizes(y.slice(2))];
    const includePad = c.number('count_include_pad') !== 0;
    const [wz, wy, wx] = [0, 1, 2].map(i => axisWindows(window, i, inSizes[i]!, outSizes[i]!, includePad)) as [
      AxisWindows,
      AxisWindows,
      AxisWindows,
    ];
    const [dz, dh, dw] = window.dilations as [number, number, number];
    const [, height, width] = inSizes;
    const [dy, dx] = [dense(c.operand(0)), out.data as Numbers];
    const volume = product(inSizes);
    const sums = new Float64Array(volume);
    for (let plane = 0, at = 0; plane < x[0]! * x[1]!; plane++) {
      sums.fill(0);
      for (let oz = 0; oz < outSizes[0]; oz++) {
        for (let oy = 0; oy < outSizes[1]; oy++) {
          for (let ox = 0; ox < outSizes[2]; ox++, at++) {
            const share = dy[at]! / (wz.count[oz]! * wy.count[oy]! * wx.count[ox]!);
            for (let z = wz.first[oz]!; z < wz.last[oz]!; z += dz) {
              for (let row = wy.first[oy]!; row < wy.last[oy]!; row += dh) {
                const line = (z * height + row) * width;
                for (let i = wx.first[ox]!; i < wx.last[ox]!; i += dw) sums[line + i] = sums[line + i]! + share;
              }
            }
          }
        }
      }
      dx.set(sums, plane * volume);
    }
    return [out];
  },
};

/** `dX` from `dY`, the shape of X, and the starts, ends, axes and steps of the slice: zeros where nothing was taken. */
const sliceGradient: OperatorVersion = {
  since: 1,
  inputs: [4, 6],
  outputs: [1, 1],
  attributes: {},
  infer: c => {
    c.expect(0, ANY);
    const { dtype, shape } = c.input(0);
    for (let i = 2; i < c.inputs.length; i++) {
      c.expect(i, ['i32', 'i64']);
      c.rank(i, 1);
    }
    const x = shapeFromInput(c, 1);
    c.rank(0, x.length);
    shape.forEach((size, i) => {
      const whole = x[i]!;
      if (typeof size === 'number' && typeof whole === 'number' && size > whole) {
        c.fail(`a slice of ${formatShape(shape)} is more than ${formatShape(x)}`);
      }
    });
    return [{ dtype, shape: x }];
  },
  run: c => {
    const [out, dy] = [c.allocate(), c.operand(0)];
    const rank = dy.shape.length;
    const list = (index: number): readonly number[] | undefined => (c.tensors[index] ? c.integers(index) : undefined);
    const starts = list(2) ?? c.fail('input 2 holds no short list of integers');
    const ends = list(3) ?? c.fail('input 3 holds no short list of integers');
    const axes = c.axes(list(4) ?? starts.map((_, i) => i), rank);
    const steps = list(5) ?? starts.map(() => 1);
    if ([ends, axes, steps].some(other => other.length !== starts.length) || steps.includes(0)) {
      c.fail(`expected as many ends, axes and steps other than 0 as starts, got ${starts.length} starts`);
    }
    const cut = out.slice(...axes.map((axis, i) => ({ axis, start: starts[i]!, end: ends[i]!, step: steps[i]! })));
    if (!sameShape(cut.shape, dy.shape)) {
      c.fail(`a slice of ${formatShape(c.shape())} is ${formatShape(cut.shape)}, not ${formatShape(dy.shape)}`);
    }
    writeView(cut, dense(dy));
    return [out];
  },
};

/** Writes dense row-major elements through a view. */
function writeView(view: Tensor, values: Numbers): void {
  const to = view.data as Numbers;
  const { shape, strides } = view;
  const index = new Array<number>(shape.length).fill(0);
  let at = view.offset;
  for (let i = 0; i < values.length; i++) {
    to[at] = values[i]!;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at += strides[axis]!;
      if (++index[axis]! < shape[axis]!) break;
      at -= shape[axis]! * strides[axis]!;
      index[axis] = 0;
    }
  }
}

/** The operators of this file. */
export const GRADIENT_OPERATORS: readonly Operator[] = [
  defineIn('cloister', 'ConvInputGradient', 'compute', convInputGradient),
  defineIn('cloister', 'ConvWeightGradient', 'compute', convWeightGradient),
  defineIn('cloister', 'AveragePoolGradient', 'compute', averagePoolGradient),
  defineIn('cloister', 'SliceGradient', 'compute', sliceGradient),
];
