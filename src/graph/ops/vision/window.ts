/**
 * The geometry that convolution and pooling share: kernel, strides, dilations, padding, and the output size they give.
 * @module
 */
import { formatShape } from '../../../tensor/index.ts';
import type { Dim } from '../../graph.ts';
import { type AttributeSpec, type InferContext, int, ints, type RunContext, string } from '../operator.ts';

/** A window over the spatial axes, one entry per axis. */
export interface Window {
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  /** Padding before and after. */
  readonly padBegin: readonly number[];
  readonly padEnd: readonly number[];
}

/** The attributes of every convolution. */
export const CONVOLUTION_ATTRIBUTES: Readonly<Record<string, AttributeSpec>> = {
  auto_pad: string('NOTSET'),
  dilations: ints(),
  group: int(1),
  kernel_shape: ints(),
  pads: ints(),
  strides: ints(),
};

/** Every size in a window is at most this, so that their sums stay exact integers. */
const MAX_EXTENT = 2 ** 31;

/** The sizes of a kernel whose weights have the spatial `dims`, which the attribute may repeat. */
export function kernelOfWeights(c: InferContext, dims: readonly Dim[]): readonly number[] {
  const declared = c.numbers('kernel_shape');
  if (declared && declared.length !== dims.length) c.fail(`attribute kernel_shape: expected ${dims.length} sizes`);
  return dims.map((dim, i) => {
    const size = declared?.[i] ?? dim;
    if (typeof size === 'string') c.unsupported(`size ${size} of the kernel must be known before the model runs`);
    return typeof size === 'number' && !c.differ(size, dim)
      ? size
      : c.fail(`kernel axis ${i}: ${size} is not ${dim} of the weights`);
  });
}

/** Reads the window attributes. `kernel` is given where a weight tensor decides it. */
export function readWindow(c: InferContext, axes: number, kernel: readonly number[]): Window {
  const list = (name: string, length: number, least: number, none: number): readonly number[] => {
    const values = c.numbers(name) ?? [];
    if (values.length === 0) return new Array<number>(length).fill(none);
    if (values.length !== length || values.some(value => value < least || value > MAX_EXTENT)) {
      c.fail(`attribute ${name}: expected ${length} sizes of at least ${least}, got ${formatShape(values)}`);
    }
    return values;
  };
  if (kernel.some(size => size < 1 || size > MAX_EXTENT)) c.fail(`a kernel of ${formatShape(kernel)} covers nothing`);
  const pads = list('pads', 2 * axes, 0, 0);
  return {
    kernel,
    strides: list('strides', axes, 1, 1),
    dilations: list('dilations', axes, 1, 1),
    padBegin: pads.slice(0, axes),
    padEnd: pads.slice(axes),
  };
}

/** The output sizes of a window over `spatial`. `ceil` rounds up, as long as the last window starts inside the padded input. */
export function windowShape(
  c: InferContext,
  spatial: readonly Dim[],
  kernel: readonly number[],
  ceil = false,
): readonly Dim[] {
  const window = readWindow(c, spatial.length, kernel);
  const auto = c.has('auto_pad') ? c.string('auto_pad') : 'NOTSET';
  return spatial.map((size, i) => {
    const [stride, begin] = [window.strides[i]!, window.padBegin[i]!];
    const extent = (window.kernel[i]! - 1) * window.dilations[i]! + 1;
    const padding = auto === 'VALID' ? 0 : begin + window.padEnd[i]!;
    const out = (known: number): number => {
      if (auto === 'SAME_UPPER' || auto === 'SAME_LOWER') return Math.ceil(known / stride);
      const steps = (known + padding - extent) / stride;
      if (steps < 0) c.fail(`axis ${i + 2}: a window of ${extent} does not fit in ${known} with padding ${padding}`);
      if (!ceil) return Math.floor(steps) + 1;
      const rounded = Math.ceil(steps) + 1;
      return (rounded - 1) * stride >= known + begin ? rounded - 1 : rounded;
    };
    // With steps of one, the size is a sum, and often the same.
    if (stride === 1 && auto.startsWith('SAME')) return size;
    if (stride === 1 && !ceil) return c.derive(`${size}+(${padding - extent + 1})`, [size], out);
    return c.derive(
      `win(${size},${extent},${stride},${auto === 'NOTSET' ? padding : auto}${ceil ? `,c${begin}` : ''})`,
      [size],
      out,
    );
  });
}

/** The window with its padding resolved for concrete input and output sizes. */
export function concreteWindow(
  c: RunContext,
  spatial: readonly number[],
  out: readonly number[],
  kernel: readonly number[],
): Window {
  const window = readWindow(c, spatial.length, kernel);
  const auto = c.string('auto_pad');
  if (auto === 'NOTSET') return window;
  const total = spatial.map((size, i) => {
    if (auto === 'VALID') return 0;
    const extent = (kernel[i]! - 1) * window.dilations[i]! + 1;
    return Math.max(0, (out[i]! - 1) * window.strides[i]! + extent - size);
  });
  const less = total.map(pad => Math.floor(pad / 2));
  const more = total.map((pad, i) => pad - less[i]!);
  return auto === 'SAME_LOWER'
    ? { ...window, padBegin: more, padEnd: less }
    : { ...window, padBegin: less, padEnd: more };
}

/** Fails on an `auto_pad` that ONNX does not define. */
export function checkAutoPad(c: InferContext): void {
  if (!['NOTSET', 'SAME_UPPER', 'SAME_LOWER', 'VALID'].includes(c.string('auto_pad'))) {
    c.fail(`attribute auto_pad: expected NOTSET, SAME_UPPER, SAME_LOWER or VALID`);
  }
}

/** A window over three axes, the outer ones trivial: kernels loop over three whatever the rank. */
export function threeAxes(window: Window): Window {
  const lead = 3 - window.kernel.length;
  const pad = (values: readonly number[], fill: number): readonly number[] => [
    ...new Array<number>(lead).fill(fill),
    ...values,
  ];
  return {
    kernel: pad(window.kernel, 1),
    strides: pad(window.strides, 1),
    dilations: pad(window.dilations, 1),
    padBegin: pad(window.padBegin, 0),
    padEnd: pad(window.padEnd, 0),
  };
}

/** Spatial sizes over three axes, the outer ones 1. */
export function threeSizes(sizes: readonly number[]): readonly [number, number, number] {
  return [...new Array<number>(3 - sizes.length).fill(1), ...sizes] as unknown as [number, number, number];
}

/** How many places there are in all. */
export function volume(sizes: readonly number[]): number {
  return sizes.reduce((product, size) => product * size, 1);
}
