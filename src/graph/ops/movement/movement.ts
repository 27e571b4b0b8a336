/**
 * Elements taken from one place and put in another: Concat, Split, Slice, Gather, Pad, Tile.
 * @module
 */
import { type AxisSlice, formatShape, MAX_ELEMENTS, newArray, sliceRange, Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import { singleValue } from '../core/constant.ts';
import { around, copyRun, dense, type Numbers } from '../loops.ts';
import {
  define,
  float,
  from,
  type InferContext,
  int,
  ints,
  MANY,
  MAX_KNOWN,
  type Operator,
  type OperatorVersion,
  type RunContext,
  required,
  string,
} from '../operator.ts';
import { indicesInto } from './gather.ts';

const concat: OperatorVersion = {
  since: 4,
  inputs: [1, MANY],
  outputs: [1, 1],
  attributes: { axis: required(int()) },
  infer: c => {
    const first = c.input(0);
    const axis = c.axis(c.number('axis'), first.shape.length);
    const shape = [...first.shape];
    for (let i = 1; i < c.inputs.length; i++) {
      c.sameDType(0, i);
      c.rank(i, first.shape.length);
      const other = c.input(i).shape;
      for (let at = 0; at < shape.length; at++) {
        shape[at] =
          at === axis
            ? c.derive(`(${shape[at]}+${other[at]})`, [shape[at]!, other[at]!], (a, b) => a + b)
            : c.same(shape[at]!, other[at]!, `axis ${at} of inputs 0 and ${i}`);
      }
    }
    return [{ dtype: first.dtype, shape }];
  },
  known: c => {
    if (c.input(0).shape.length !== 1) return undefined;
    const all: Dim[] = [];
    for (let i = 0; i < c.inputs.length; i++) {
      const part = c.known(i);
      if (!part || all.length + part.length > MAX_KNOWN) return undefined;
      all.push(...part);
    }
    return all;
  },
  run: c => {
    const out = c.allocate();
    const axis = c.axis(c.number('axis'), c.shape().length);
    const { outer, n, inner } = around(c.shape(), axis);
    let start = 0;
    for (let i = 0; i < c.tensors.length; i++) {
      const part = c.operand(i);
      const width = part.shape[axis]! * inner;
      const from = dense(part);
      for (let o = 0; o < outer; o++) {
        copyRun(out.data as Numbers, o * n * inner + start, from, o * width, width);
      }
      start += width;
    }
    return [out];
  },
};

/** How wide each part is: given, or the axis cut evenly with the last part smaller. Undefined where an input is not known. */
function splitSizes(c: InferContext): readonly Dim[] | undefined {
  const { shape } = c.input(0);
  const parts = c.node.outputs.length;
  const size = shape[c.axis(c.number('axis'), shape.length)]!;
  const given = c.numbers('split') ?? (c.inputs[1] ? c.integers(1) : undefined);
  if (c.has('num_outputs') && (c.inputs[1] || c.number('num_outputs') !== parts)) {
    c.fail(`num_outputs is ${c.number('num_outputs')}, the node has ${parts}${c.inputs[1] ? ' and their sizes' : ''}`);
  }
  if (given) {
    const sum = given.reduce((total, part) => total + part, 0);
    if (given.length !== parts || given.some(part => part < 0) || c.differ(sum, size)) {
      c.fail(`cannot split ${size} into ${parts} parts of the ${given.length} sizes that are given`);
    }
    return given;
  }
  if (c.inputs[1]) return undefined;
  if (parts === 1) return [size];
  return Array.from({ length: parts }, (_, i) =>
    // Opset 18 made the last part smaller where the axis cannot be cut evenly.
    c.node.opset < 18
      ? c.derive(`(${size}/${parts})`, [size], known => {
          if (known % parts !== 0) c.fail(`cannot cut ${known} into ${parts} equal parts`);
          return known / parts;
        })
      : c.derive(`part(${size},${parts},${i})`, [size], known => {
          const width = Math.ceil(known / parts);
          return Math.max(0, Math.min(width, known - i * width));
        }),
  );
}

const split: OperatorVersion = {
  since: 2,
  inputs: [1, 1],
  outputs: [1, MANY],
  attributes: { axis: int(0), split: ints() },
  infer: c => {
    const { dtype, shape } = c.input(0);
    const axis = c.axis(c.number('axis'), shape.length);
    const sizes = splitSizes(c) ?? c.node.outputs.map(() => c.fresh());
    return sizes.map(size => ({ dtype, shape: shape.map((dim, i) => (i === axis ? size : dim)) }));
  },
  run: c => {
    const x = c.operand(0);
    const axis = c.axis(c.number('axis'), x.shape.length);
    let start = 0;
    const sizes = (splitSizes(c) ?? c.fail('more sizes than parts')) as readonly number[];
    return sizes.map(size => {
      start += size;
      return x.slice({ axis, start: start - size, end: start });
    });
  },
};

interface Cut {
  readonly axis: number;
  readonly start: Dim;
  readonly end: Dim;
  readonly step: number;
}

/** The cuts of a Slice node, or undefined where an input is not known. */
function cuts(c: InferContext): readonly Cut[] | undefined {
  const rank = c.input(0).shape.length;
  const fromInputs = c.node.opset >= 10;
  const starts = fromInputs ? c.known(1) : c.numbers('starts');
  const ends = fromInputs ? c.known(2) : c.numbers('ends');
  const named = fromInputs ? (c.inputs[3] ? c.integers(3) : null) : (c.numbers('axes') ?? null);
  const steps = fromInputs && c.inputs[4] ? c.integers(4) : null;
  if (!starts || !ends || named === undefined || steps === undefined) return undefined;
  const axes = c.axes(named ?? starts.map((_, i) => i), rank);
  if (ends.length !== starts.length || axes.length !== starts.length || (steps && steps.length !== starts.length)) {
    c.fail(`expected as many ends, axes and steps as starts, got ${starts.length} starts`);
  }
  return starts.map((start, i) => {
    const step = steps?.[i] ?? 1;
    if (step === 0) c.fail('a step of 0');
    return { axis: axes[i]!, start, end: ends[i]!, step };
  });
}

const slice: OperatorVersion = {
  since: 10,
  inputs: [3, 5],
  outputs: [1, 1],
  attributes: {},
  infer: c => {
    for (let i = 1; i < c.inputs.length; i++) {
      c.expect(i, ['i32', 'i64']);
      c.rank(i, 1);
    }
    const { dtype, shape } = c.input(0);
    const list = cuts(c);
    if (!list) {
      // Axes that are not cut stay as they are, where the node says which are.
      const named = c.node.opset >= 10 && c.inputs[3] ? c.integers(3) : undefined;
      const touched = named && c.axes(named, shape.length);
      return [{ dtype, shape: shape.map((dim, i) => (touched && !touched.includes(i) ? dim : c.fresh())) }];
    }
    const result = [...shape];
    for (const { axis, start, end, step } of list) {
      const size = shape[axis]!;
      const whole = start === 0 && step === 1 && (end === size || (typeof end === 'number' && end >= MAX_ELEMENTS));
      if (whole) continue;
      result[axis] = c.derive(
        `slice(${size},${start},${end},${step})`,
        [size, start, end],
        (known, from, to) => sliceRange(known, from, to, step).length,
      );
    }
    return [{ dtype, shape: result }];
  },
  known: c => {
    const data = c.known(0);
    const cut = cuts(c)?.[0];
    if (!data || typeof cut?.start !== 'number' || typeof cut.end !== 'number') return undefined;
    if (c.input(0).shape.length !== 1) return undefined;
    const { first, length, step } = sliceRange(data.length, cut.start, cut.end, cut.step);
    return Array.from({ length }, (_, i) => data[first + i * step]!);
  },
  run: c => [c.operand(0).slice(...((cuts(c) ?? c.fail('more starts than axes')) as readonly AxisSlice[]))],
};

const sliceAttributes = from(1, slice, {
  inputs: [1, 1],
  attributes: { axes: ints(), starts: required(ints()), ends: required(ints()) },
});

const gather: OperatorVersion = {
  since: 1,
  inputs: [2, 2],
  outputs: [1, 1],
  attributes: { axis: int(0) },
  infer: c => {
    c.expect(1, ['i32', 'i64']);
    const { dtype, shape } = c.input(0);
    const axis = c.axis(c.number('axis'), shape.length);
    return [{ dtype, shape: [...shape.slice(0, axis), ...c.input(1).shape, ...shape.slice(axis + 1)] }];
  },
  known: c => {
    const data = c.known(0);
    const indices = c.integers(1);
    if (!data || !indices || c.input(0).shape.length !== 1) return undefined;
    return indices.map(index => data.at(index) ?? c.fail(`an index is outside a list of ${data.length}`));
  },
  run: c => {
    const x = c.operand(0);
    const axis = c.axis(c.number('axis'), x.shape.length);
    const { outer, n, inner } = around(x.shape, axis);
    const indices = indicesInto(c, 1, n);
    const out = c.allocate();
    const from = dense(x);
    let at = 0;
    for (let o = 0; o < outer; o++) {
      for (const index of indices) {
        copyRun(out.data as Numbers, at, from, (o * n + index) * inner, inner);
        at += inner;
      }
    }
    return [out];
  },
};

/** The padding of each axis, before and after; negative padding cuts. Undefined where an input is not known. */
function paddings(c: InferContext): readonly (readonly [number, number])[] | undefined {
  const rank = c.input(0).shape.length;
  const flat = c.node.opset < 2 ? c.numbers('paddings') : c.node.opset < 11 ? c.numbers('pads') : c.integers(1);
  if (!flat) return undefined;
  const named = c.inputs[3] ? c.integers(3) : Array.from({ length: rank }, (_, i) => i);
  if (!named) return undefined;
  const axes = c.axes(named, rank);
  if (flat.length !== 2 * axes.length) c.fail(`expected ${2 * axes.length} paddings, got ${flat.length}`);
  return Array.from({ length: rank }, (_, i) => {
    const at = axes.indexOf(i);
    return at < 0 ? ([0, 0] as const) : ([flat[at]!, flat[at + axes.length]!] as const);
  });
}

const MODES: readonly string[] = ['constant', 'reflect', 'edge', 'wrap'];

function inferPad(c: InferContext): readonly Facts[] {
  c.expect(1, ['i64']);
  c.expect(3, ['i32', 'i64']);
  c.sameDType(0, 2);
  const mode = c.string('mode');
  if (!MODES.includes(mode) || (mode === 'wrap' && c.node.opset < 19))
    c.fail(`attribute mode: ${JSON.stringify(mode.slice(0, 20))} is unknown`);
  const { dtype, shape } = c.input(0);
  const pads = paddings(c);
  if (!pads) return [{ dtype, shape: shape.map(() => c.fresh()) }];
  const result = shape.map((size, i): Dim => {
    const [before, after] = pads[i]!;
    if (before === 0 && after === 0) return size;
    return c.derive(`(${size}+${before + after})`, [size], known => {
      if (known + before + after < 0) c.fail(`axis ${i}: ${known} cannot be cut by ${-before - after}`);
      if (known === 0 && mode !== 'constant') c.fail(`axis ${i} is empty: there is nothing to repeat`);
      return known + before + after;
    });
  });
  return [{ dtype, shape: result }];
}

function runPad(c: RunContext): readonly Tensor[] {
  const x = c.operand(0);
  const mode = c.string('mode');
  const pads = paddings(c) ?? c.fail('more paddings than axes have sides');
  const shape = c.shape();
  const out = c.allocate();
  const to = out.data as Numbers;
  const fill = c.node.opset >= 11 ? c.tensors[2]?.elements()[0] : Tensor.of(x.dtype, c.number('value')).elements()[0];
  if (out.size === 0) return [out];
  const rank = shape.length;
  const source = x.data as Numbers;
  if (rank === 0) return [x];
  // How far from the first element each output index of each axis reads; NaN is padding, and so is a sum with it.
  const offsets = shape.map((size, axis) => {
    const steps = newArray('f64', size);
    for (let i = 0; i < size; i++) {
      const from = sourceIndex(i - pads[axis]![0], x.shape[axis]!, mode);
      steps[i] = from < 0 ? Number.NaN : from * x.strides[axis]!;
    }
    return steps;
  });
  if (fill !== undefined) to.fill(fill as number);
  const inner = offsets[rank - 1]!;
  const index = new Array<number>(rank - 1).fill(0);
  for (let at = 0; at < to.length; at += inner.length) {
    let line = x.offset;
    for (let axis = 0; axis < rank - 1; axis++) line += offsets[axis]![index[axis]!]!;
    if (!Number.isNaN(line)) {
      for (let i = 0; i < inner.length; i++) {
        const from = inner[i]!;
        if (!Number.isNaN(from)) to[at + i] = source[line + from]!;
      }
    }
    for (let axis = rank - 2; axis >= 0 && ++index[axis]! === shape[axis]; axis--) index[axis] = 0;
  }
  return [out];
}

function sourceIndex(index: number, size: number, mode: string): number {
  if (index >= 0 && index < size) return index;
  if (mode === 'constant') return -1;
  if (mode === 'edge') return index < 0 ? 0 : size - 1;
  if (mode === 'wrap') return ((index % size) + size) % size;
  if (size === 1) return 0;
  const period = 2 * (size - 1); // reflect does not repeat the edge
  const inside = ((index % period) + period) % period;
  return inside < size ? inside : period - inside;
}

const pad: OperatorVersion = {
  since: 11,
  inputs: [2, 3],
  outputs: [1, 1],
  attributes: { mode: string('constant') },
  infer: inferPad,
  run: runPad,
};

const padAttributes = from(2, pad, {
  inputs: [1, 1],
  attributes: { mode: string('constant'), pads: required(ints()), value: float(0) },
});

const tile: OperatorVersion = {
  since: 6,
  inputs: [2, 2],
  outputs: [1, 1],
  attributes: {},
  infer: c => {
    c.expect(1, ['i64']);
    const { dtype, shape } = c.input(0);
    const repeats = c.known(1);
    if (!repeats) return [{ dtype, shape: shape.map(() => c.fresh()) }];
    if (repeats.length !== shape.length || repeats.some(times => typeof times === 'number' && times < 0)) {
      c.fail(`expected ${shape.length} repeats of at least 0, got ${formatShape(repeats)}`);
    }
    return [{ dtype, shape: shape.map((dim, i) => c.product([dim, repeats[i]!])) }];
  },
  run: c => {
    const x = c.operand(0);
    const out = c.allocate();
    const to = out.data as Numbers;
    const from = dense(x);
    const index = new Array<number>(x.shape.length).fill(0);
    const steps = x.contiguous().strides;
    for (let at = 0; at < to.length; at++) {
      let source = 0;
      for (let axis = 0; axis < index.length; axis++) source += (index[axis]! % x.shape[axis]!) * steps[axis]!;
      to[at] = from[source]!;
      for (let axis = index.length - 1; axis >= 0 && ++index[axis]! === c.shape()[axis]; axis--) index[axis] = 0;
    }
    return [out];
  },
};

/** Opset 1 repeats one axis, which it names, and takes both numbers in the dtype of the data. */
const tileAxis = from(1, tile, {
  inputs: [3, 3],
  infer: c => {
    for (const input of [1, 2]) {
      c.sameDType(0, input);
      singleValue(c, input);
    }
    const { dtype, shape } = c.input(0);
    const [times, axis] = [1, 2].map(i => (c.integers(i) ?? c.floats(i))?.[0]);
    if (times === undefined || axis === undefined) return [{ dtype, shape: shape.map(() => c.fresh()) }];
    if (!Number.isInteger(times) || times < 0) c.fail('expected a number of tiles of at least 0');
    const at = c.axis(axis, shape.length);
    return [{ dtype, shape: shape.map((dim, i) => (i === at ? c.product([dim, times]) : dim)) }];
  },
});

/** The operators of this file. */
export const MOVEMENT: readonly Operator[] = [
  define('Concat', 'compute', from(1, concat, { attributes: { axis: int(1) } }), concat),
  define(
    'Split',
    'compute',
    from(1, split, { inputs: [1, 2] }),
    split,
    from(13, split, { inputs: [1, 2], attributes: { axis: int(0) } }),
    from(18, split, { inputs: [1, 2], attributes: { axis: int(0), num_outputs: int() } }),
  ),
  define('Slice', 'compute', sliceAttributes, slice),
  define('Gather', 'compute', gather),
  define(
    'Pad',
    'compute',
    from(1, padAttributes, { attributes: { mode: string('constant'), paddings: required(ints()), value: float(0) } }),
    padAttributes,
    pad,
    from(18, pad, { inputs: [2, 4] }),
  ),
  define('Tile', 'compute', tileAxis, tile),
];
