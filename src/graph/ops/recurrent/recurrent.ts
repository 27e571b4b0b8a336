/**
 * Recurrent networks over sequences: RNN, GRU, LSTM.
 * @module
 */
import type { Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import type { Activation } from '../core/activations.ts';
import { dense, type Numbers } from '../loops.ts';
import {
  type AttributeSpec,
  define,
  FLOATS,
  float,
  floats,
  from,
  type InferContext,
  int,
  type Operator,
  type OperatorVersion,
  type RunContext,
  string,
  strings,
} from '../operator.ts';
import {
  activations,
  type CellSettings,
  type CellWeights,
  gruCell,
  lstmCell,
  rnnCell,
  type Step,
} from './recurrent-cells.ts';

/** What tells one recurrent operator from another. */
interface Family {
  /** Gates, whose weights lie one after the other. */
  readonly gates: number;
  /** The activations of one direction when the node names none. */
  readonly functions: readonly string[];
  /** Whether there is a cell state beside the hidden one: inputs 6 (initial) and 7 (peepholes), output 2. */
  readonly cellState: boolean;
  readonly cell: (weights: CellWeights, settings: CellSettings) => Step;
}

const RNN: Family = { gates: 1, functions: ['Tanh'], cellState: false, cell: rnnCell };
const GRU: Family = { gates: 3, functions: ['Sigmoid', 'Tanh'], cellState: false, cell: gruCell };
const LSTM: Family = { gates: 4, functions: ['Sigmoid', 'Tanh', 'Tanh'], cellState: true, cell: lstmCell };

/** The sizes of a node. */
interface Sizes<D extends Dim> {
  readonly sequence: D;
  readonly batch: D;
  readonly input: D;
  readonly hidden: D;
  readonly directions: 1 | 2;
  /** Layout 1: the batch is the first axis. */
  readonly batchFirst: boolean;
}

const DIRECTIONS: Readonly<Record<string, 1 | 2>> = { forward: 1, reverse: 1, bidirectional: 2 };

function flag(c: InferContext, name: string): boolean {
  const value = c.has(name) ? c.number(name) : 0;
  if (value !== 0 && value !== 1) c.fail(`attribute ${name}: expected 0 or 1, got ${value}`);
  return value === 1;
}

function directionsOf(c: InferContext): 1 | 2 {
  const direction = c.string('direction');
  if (!Object.hasOwn(DIRECTIONS, direction)) {
    c.fail(`expected direction forward, reverse or bidirectional, got ${JSON.stringify(direction.slice(0, 40))}`);
  }
  return DIRECTIONS[direction]!;
}

/** The sizes that the inputs and attributes agree on. */
function sizesOf(c: InferContext, family: Family): Sizes<Dim> {
  for (const [index, rank] of [3, 3, 3, 2, 1, 3, 3, 2].entries()) c.rank(index, rank);
  const directions = directionsOf(c);
  const batchFirst = flag(c, 'layout');
  const x = c.input(0).shape;
  const [w, r] = [c.input(1).shape, c.input(2).shape];
  let hidden = r[2]!;
  if (c.has('hidden_size')) hidden = c.same(c.number('hidden_size'), hidden, 'hidden_size and columns of R');
  if (typeof hidden === 'number' && hidden < 1) c.fail(`expected a hidden size of at least 1, got ${hidden}`);
  const times = (factor: number): Dim => c.derive(`${factor}*(${hidden})`, [hidden], size => factor * size);
  const sequence = x[batchFirst ? 1 : 0]!;
  let batch = x[batchFirst ? 0 : 1]!;
  const input = c.same(x[2]!, w[2]!, 'features of X and columns of W');
  c.same(w[0]!, directions, 'W and the number of directions');
  c.same(r[0]!, directions, 'R and the number of directions');
  c.same(w[1]!, times(family.gates), 'rows of W and gates');
  c.same(r[1]!, times(family.gates), 'rows of R and gates');
  const bias = c.inputs[3]?.shape;
  if (bias) {
    c.same(bias[0]!, directions, 'B and the number of directions');
    c.same(bias[1]!, times(2 * family.gates), 'columns of B and gates');
  }
  const lengths = c.inputs[4]?.shape;
  if (lengths) batch = c.same(batch, lengths[0]!, 'the batches of X and sequence_lens');
  for (const index of family.cellState ? [5, 6] : [5]) {
    const state = c.inputs[index]?.shape;
    if (!state) continue;
    batch = c.same(batch, state[batchFirst ? 0 : 1]!, `the batches of X and input ${index}`);
    c.same(state[batchFirst ? 1 : 0]!, directions, `input ${index} and the number of directions`);
    c.same(state[2]!, hidden, `input ${index} and the hidden size`);
  }
  const peepholes = c.inputs[7]?.shape;
  if (peepholes) {
    c.same(peepholes[0]!, directions, 'P and the number of directions');
    c.same(peepholes[1]!, times(3), 'columns of P and gates');
  }
  return { sequence, batch, input, hidden, directions, batchFirst };
}

/** The activations of each direction, from attributes. */
function functionsOf(c: InferContext, family: Family): readonly (readonly Activation[])[] {
  const directions = directionsOf(c);
  const perDirection = family.functions.length;
  const given = (c.numbers('activations') ?? []) as readonly unknown[] as readonly string[];
  const names = given.length > 0 ? given : Array.from({ length: directions }, () => family.functions).flat();
  if (names.length !== directions * perDirection) {
    c.fail(`expected ${directions * perDirection} activations, got ${names.length}`);
  }
  const found = activations(names, c.numbers('activation_alpha') ?? [], c.numbers('activation_beta') ?? []);
  const unknown = found.indexOf(undefined);
  if (unknown >= 0) c.unsupported(`no activation ${JSON.stringify(names[unknown]!.slice(0, 40))}`);
  return Array.from({ length: directions }, (_, d) =>
    (found as readonly Activation[]).slice(d * perDirection, (d + 1) * perDirection),
  );
}

function clipOf(c: InferContext): number {
  if (!c.has('clip')) return Number.POSITIVE_INFINITY;
  const clip = c.number('clip');
  return clip > 0 ? clip : c.fail(`expected a clip over 0, got ${clip}`);
}

function inferRecurrent(family: Family): (c: InferContext) => readonly Facts[] {
  return c => {
    for (const index of [0, 1, 2, 3, 5, 6, 7]) {
      c.expect(index, FLOATS);
      c.sameDType(0, index);
    }
    c.expect(4, ['i32']);
    functionsOf(c, family);
    clipOf(c);
    const { sequence, batch, hidden, directions, batchFirst } = sizesOf(c, family);
    const { dtype } = c.input(0);
    const state = { dtype, shape: batchFirst ? [batch, directions, hidden] : [directions, batch, hidden] };
    const all = {
      dtype,
      shape: batchFirst ? [batch, sequence, directions, hidden] : [sequence, directions, batch, hidden],
    };
    return family.cellState ? [all, state, state] : [all, state];
  };
}

function runRecurrent(family: Family): (c: RunContext) => readonly Tensor[] {
  return c => {
    const sizes = sizesOf(c, family) as Sizes<number>;
    const { sequence, batch, input, hidden, directions, batchFirst } = sizes;
    const functions = functionsOf(c, family);
    const lengths = sequenceLengths(c, sizes);
    const x = dense(c.operand(0));
    const optional = (index: number): Numbers | undefined => {
      const tensor = c.tensors[index];
      return tensor && dense(tensor);
    };
    const [w, r, b, p] = [dense(c.operand(1)), dense(c.operand(2)), optional(3), optional(7)];
    const initial = [optional(5), family.cellState ? optional(6) : undefined];
    const outputs = c.outputs.map((_, i) => c.allocate(i));
    const [y, lastH, lastC] = outputs.map(out => out.data as Numbers);
    const [h, cell] = [new Float64Array(hidden), new Float64Array(hidden)];
    for (let d = 0; d < directions; d++) {
      const rows = family.gates * hidden;
      const part = (all: Numbers, size: number): Numbers => all.subarray(d * size, (d + 1) * size);
      const weights: CellWeights = {
        inputSize: input,
        hidden,
        w: part(w, rows * input),
        r: part(r, rows * hidden),
        b: b && part(b, 2 * rows),
        p: p && part(p, 3 * hidden),
      };
      const step = family.cell(weights, {
        functions: functions[d]!,
        clip: clipOf(c),
        inputForget: flag(c, 'input_forget'),
        linearBeforeReset: c.has('linear_before_reset') && c.number('linear_before_reset') !== 0,
      });
      const backwards = d === 1 || c.string('direction') === 'reverse';
      for (let n = 0; n < batch; n++) {
        const stateAt = (batchFirst ? n * directions + d : d * batch + n) * hidden;
        load(h, initial[0], stateAt);
        load(cell, initial[1], stateAt);
        const length = lengths ? lengths[n]! : sequence;
        for (let s = 0; s < length; s++) {
          const t = backwards ? length - 1 - s : s;
          step(x, (batchFirst ? n * sequence + t : t * batch + n) * input, h, cell);
          const place = batchFirst ? (n * sequence + t) * directions + d : (t * directions + d) * batch + n;
          y!.set(h, place * hidden);
        }
        lastH!.set(h, stateAt);
        lastC?.set(cell, stateAt);
      }
    }
    return outputs;
  };
}

/** How long each sequence is; what lies behind its end is not read, and zero in the result. */
function sequenceLengths(c: RunContext, { sequence }: Sizes<number>): Numbers | undefined {
  const tensor = c.tensors[4];
  if (!tensor) return undefined;
  const lengths = dense(tensor);
  for (const length of lengths) {
    if (length < 0 || length > sequence) c.fail(`a sequence of length ${length} in an input of length ${sequence}`);
  }
  return lengths;
}

function load(state: Float64Array, initial: Numbers | undefined, at: number): void {
  if (initial) state.set(initial.subarray(at, at + state.length));
  else state.fill(0);
}

const SHARED: Readonly<Record<string, AttributeSpec>> = {
  activation_alpha: floats,
  activation_beta: floats,
  activations: strings,
  clip: float(),
  direction: string('forward'),
  hidden_size: int(),
};
/** Until opset 7 an attribute said whether the whole sequence is wanted; that the node names the output says so too. */
const EARLY: Readonly<Record<string, AttributeSpec>> = { ...SHARED, output_sequence: int(0) };
const WITH_LAYOUT: Readonly<Record<string, AttributeSpec>> = { ...SHARED, layout: int(0) };

function first(family: Family, own: Readonly<Record<string, AttributeSpec>> = {}): OperatorVersion {
  return {
    since: 1,
    inputs: family.cellState ? [3, 8] : [3, 6],
    outputs: family.cellState ? [0, 3] : [0, 2],
    attributes: { ...EARLY, ...own },
    infer: inferRecurrent(family),
    run: runRecurrent(family),
  };
}

/** The versions from 7 on, with the attributes that this operator alone has. */
function later(
  version: OperatorVersion,
  own: Readonly<Record<string, AttributeSpec>> = {},
): readonly OperatorVersion[] {
  return [
    from(7, version, { attributes: { ...SHARED, ...own } }),
    from(14, version, { attributes: { ...WITH_LAYOUT, ...own } }),
    from(22, version, { attributes: { ...WITH_LAYOUT, ...own } }),
  ];
}

const FORGET = { input_forget: int(0) };
const RESET = { linear_before_reset: int(0) };

/** The operators of this file. */
export const RECURRENT: readonly Operator[] = [
  define('RNN', 'compute', first(RNN), ...later(first(RNN))),
  define(
    'GRU',
    'compute',
    first(GRU),
    from(3, first(GRU), { attributes: { ...EARLY, ...RESET } }),
    ...later(first(GRU), RESET),
  ),
  define('LSTM', 'compute', first(LSTM, FORGET), ...later(first(LSTM), FORGET)),
];
