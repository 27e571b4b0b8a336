/**
 * Gradients of elements that move: what was taken from a place goes back there, what was taken twice adds up.
 * @module
 */
import type { ValueId } from '../graph.ts';
import { type GradientRule, range } from './rule.ts';

const concat: GradientRule = g => {
  const { inputs } = g.node;
  if (inputs.length === 1) return [g.dy];
  const axis = g.axis(g.number('axis'), g.rankOf(g.input(0)));
  const sizes = inputs.map(id => g.shape(id!)[axis]!);
  const split = sizes.every(size => typeof size === 'number')
    ? g.list(sizes as readonly number[])
    : g.op(
        'Concat',
        inputs.map(id => g.sizeOf(id!, axis)),
        { axis: 0 },
      );
  return g.ops('Split', inputs.length, [g.dy, split], { axis });
};

const split: GradientRule = g => {
  const { outputs } = g.node;
  const parts = outputs.map((_, i) => g.gradient(i) ?? g.zeros(g.output(i)));
  return [parts.length === 1 ? parts[0] : g.op('Concat', parts, { axis: g.number('axis') })];
};

/** Where steps are 1 and places known, padding puts the slice back; elsewhere the operator that is made for it. */
const slice: GradientRule = g => {
  const x = g.input(0);
  const [rank, shape] = [g.rankOf(x), g.shape(x)];
  const later = g.node.opset >= 10;
  const given = (index: number, name: string): ValueId | undefined => {
    if (later) return g.has(index) ? g.input(index) : undefined;
    const values = g.numbers(name);
    return values && g.list(values);
  };
  const [starts, ends, axes] = [given(1, 'starts')!, given(2, 'ends')!, given(3, 'axes')];
  const steps = later ? given(4, '') : undefined;
  const [from, to] = [g.integers(starts), g.integers(ends)];
  const named = axes === undefined ? from?.map((_, i) => i) : g.integers(axes)?.map(axis => g.axis(axis, rank));
  const single = steps === undefined || g.integers(steps)?.every(step => step === 1);
  const sizes = named?.map(axis => shape[axis]!);
  if (single && from && to && named && sizes?.every(size => typeof size === 'number')) {
    const pads = new Array<number>(2 * rank).fill(0);
    named.forEach((axis, i) => {
      const size = sizes[i] as number;
      const place = (index: number): number => Math.min(Math.max(index < 0 ? index + size : index, 0), size);
      const first = place(from[i]!);
      pads[axis] = first;
      pads[axis + rank] = size - Math.max(first, place(to[i]!));
    });
    return [pads.every(pad => pad === 0) ? g.dy : g.op('Pad', [g.dy, g.list(pads)])];
  }
  return [g.own('SliceGradient', [g.dy, g.shapeOf(x), starts, ends, axes, steps])];
};

/** The axis of the picks comes first, so that each pick is one slice. */
const gather: GradientRule = g => {
  const [x, indices] = [g.input(0), g.input(1)];
  const axis = g.axis(g.number('axis'), g.rankOf(x));
  const [picks, rest] = [range(g.rankOf(indices), axis), range(g.rankOf(g.dy) - axis - g.rankOf(indices), axis)];
  const lead = range(axis);
  const first = g.transpose(g.dy, [...picks, ...lead, ...rest.map(i => i + picks.length)]);
  const order = [axis, ...lead, ...rest.map(i => i + 1)];
  const zeros = g.transpose(g.zeros(x), order);
  const tuples = g.op('Cast', [g.unsqueeze(indices, [g.rankOf(indices)])], { to: INT64 });
  const summed = g.op('ScatterND', [zeros, tuples, first], { reduction: 'add' });
  return [
    g.transpose(
      summed,
      range(order.length).map(i => order.indexOf(i)),
    ),
  ];
};

/** The number of i64 in ONNX's list of element types. */
const INT64 = 7;

const gatherElements: GradientRule = g => {
  const attributes = { axis: g.number('axis'), reduction: 'add' };
  return [g.op('ScatterElements', [g.zeros(g.input(0)), g.input(1), g.dy], attributes)];
};

/** Batch axes become indices in front of the others, so that one scatter serves all batches. */
const gatherNd: GradientRule = g => {
  const [x, indices] = [g.input(0), g.input(1)];
  const batch = typeof g.attribute('batch_dims') === 'number' ? g.number('batch_dims') : 0;
  const lead = g.op('Slice', [g.shapeOf(indices), g.list([0]), g.list([-1])]);
  const counters = range(batch).map(axis => {
    const size = g.op('Squeeze', [g.sizeOf(indices, axis), g.list([0])]);
    const [zero, one] = [g.op('Sub', [size, size]), g.op('Squeeze', [g.list([1]), g.list([0])])];
    const count = g.op('Range', [zero, size, one]);
    const along = g.unsqueeze(count, range(g.rankOf(indices) - 2 - axis, 1));
    return g.unsqueeze(g.op('Expand', [along, lead]), [g.rankOf(indices) - 1]);
  });
  const tuples = batch === 0 ? indices : g.op('Concat', [...counters, indices], { axis: -1 });
  return [g.op('ScatterND', [g.zeros(x), tuples, g.dy], { reduction: 'add' })];
};

/** What was overwritten has no gradient, what was added to keeps it; the update has that of its place. */
function scatter(gather: string, scatters: string): GradientRule {
  return g => {
    const reduction = g.attribute('reduction') ?? 'none';
    if (reduction !== 'none' && reduction !== 'add') g.unsupported(`reduction ${JSON.stringify(reduction)} has none`);
    const attributes = scatters === 'ScatterElements' ? { axis: g.number('axis') } : {};
    const [indices, updates] = [g.input(1), g.input(2)];
    return [
      reduction === 'add' ? g.dy : g.op(scatters, [g.dy, indices, g.zeros(updates)], attributes),
      undefined,
      g.needs(2) ? g.op(gather, [g.dy, indices], attributes) : undefined,
    ];
  };
}

/** Constant padding is cut off again; what the other modes repeat is gathered along each axis in turn. */
const pad: GradientRule = g => {
  const rank = g.rankOf(g.input(0));
  const pads = g.node.opset >= 11 ? g.input(1) : g.list(g.numbers(g.node.opset < 2 ? 'paddings' : 'pads') ?? []);
  if (g.string('mode') === 'constant') {
    const dx = g.op('Pad', [g.dy, g.neg(pads), ...(g.has(3) ? [undefined, g.input(3)] : [])]);
    const all = (id: ValueId): ValueId => g.op('ReduceSum', [id], { keepdims: 0 });
    // What did not come from the input is what the constant filled.
    return [dx, undefined, g.needs(2) ? g.reshapeLike(g.sub(all(g.dy), all(dx)), g.input(2)) : undefined];
  }
  const named =
    (g.has(3) ? g.integers(g.input(3)) : range(rank)) ??
    g.unsupported('which axes are padded must be known before the graph runs');
  return g.through(([x]) => {
    const padded = named.reduce((value, axis, i) => {
      const size = g.op('Squeeze', [g.sizeOf(value, g.axis(axis, rank)), g.list([0])]);
      const [zero, one] = [0, 1].map(n => g.op('Squeeze', [g.list([n]), g.list([0])]));
      const places = g.op('Range', [zero, size, one]);
      const own = g.op('Gather', [pads, g.list([i, i + named.length])]);
      const sources = g.op('Pad', [places, own], { mode: g.string('mode') });
      return g.op('Gather', [value, sources], { axis });
    }, x!);
    return [padded];
  });
};

/** Each axis is cut into its repeats, which are summed. */
const tile: GradientRule = g => {
  const x = g.input(0);
  const [repeats, shape] = [g.input(1), g.shape(x)];
  const known = g.integers(repeats);
  return [
    shape.reduce<ValueId>((sum, _, axis) => {
      if (known?.[axis] === 1) return sum;
      const sizes = shape.map((__, i) => (i < axis ? g.sizeOf(x, i) : g.sizeOf(sum, i)));
      sizes.splice(axis, 1, g.op('Gather', [repeats, g.list([axis])]), g.sizeOf(x, axis));
      return g.sum(g.reshape(sum, g.op('Concat', sizes, { axis: 0 })), [axis]);
    }, g.dy),
  ];
};

/** A running sum the other way. */
const cumSum: GradientRule = g => [
  g.op('CumSum', [g.dy, g.input(1)], { exclusive: g.number('exclusive'), reverse: g.flag('reverse') ? 0 : 1 }),
];

const topK: GradientRule = g => {
  const attributes = { axis: g.number('axis') };
  return [g.op('ScatterElements', [g.zeros(g.input(0)), g.output(1), g.dy], attributes)];
};

/** A gather of the places where the condition holds. */
const compress: GradientRule = g =>
  g.through(([x, condition]) => {
    const whole = g.attribute('axis') === undefined;
    const data = whole ? g.op('Reshape', [x, g.list([-1])]) : x;
    const places = g.op('Squeeze', [g.op('NonZero', [condition]), g.list([0])]);
    return [g.op('Gather', [data, places], { axis: whole ? 0 : g.number('axis') })];
  });

/** The same blocks, cut the other way. Columns first (CRD) has no operator that undoes it. */
const depthToSpace: GradientRule = g => {
  if (g.attribute('mode') === 'CRD') g.unsupported('mode CRD has none');
  return [g.op('SpaceToDepth', [g.dy], { blocksize: g.number('blocksize') })];
};

/** The rules of this file: of the families `movement`, `gather`, `scatter`, `pattern`, `scan`, `selection` and `spatial`. */
export const MOVEMENT: Readonly<Record<string, GradientRule>> = {
  Concat: concat,
  Split: split,
  Slice: slice,
  Gather: gather,
  GatherElements: gatherElements,
  GatherND: gatherNd,
  Scatter: scatter('GatherElements', 'ScatterElements'),
  ScatterElements: scatter('GatherElements', 'ScatterElements'),
  ScatterND: scatter('GatherND', 'ScatterND'),
  Pad: pad,
  Tile: tile,
  CumSum: cumSum,
  Trilu: g => [g.op('Trilu', [g.dy, ...g.node.inputs.slice(1)], { upper: g.number('upper') })],
  TopK: topK,
  Compress: compress,
  ReverseSequence: g => [g.op('ReverseSequence', [g.dy, g.input(1)], g.node.attributes)],
  DepthToSpace: depthToSpace,
  SpaceToDepth: g => [g.op('DepthToSpace', [g.dy], { blocksize: g.number('blocksize') })],
};
