/**
 * Operators that carry a state from one stretch of a sequence to the next: CausalConvWithState, LinearAttention.
 * @module
 */
import { Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import { dense, type Numbers } from '../loops.ts';
import {
  define,
  FLOATS,
  float,
  type InferContext,
  int,
  type Operator,
  type OperatorVersion,
  type RunContext,
  required,
  string,
} from '../operator.ts';
import { headSize } from '../transformer/attention.ts';

const ACTIVATIONS: readonly string[] = ['none', 'silu', 'swish'];

/** Each channel is convolved with its own kernel, which sees what came before and nothing after. */
const causalConv: OperatorVersion = {
  since: 27,
  inputs: [2, 4],
  outputs: [1, 2],
  attributes: { activation: string('none') },
  infer: c => {
    c.expect(0, FLOATS);
    for (const index of [1, 2, 3]) c.sameDType(0, index);
    for (const index of [0, 1, 3]) c.rank(index, 3);
    c.rank(2, 1);
    const { dtype, shape } = c.input(0);
    const [batch, channels] = shape as readonly [Dim, Dim, Dim];
    const [outputs, perGroup, kernel] = c.input(1).shape as readonly [Dim, Dim, Dim];
    c.same(channels, outputs, 'channels of inputs 0 and 1');
    c.same(perGroup, 1, 'axis 1 of the weights');
    if (c.inputs[2]) c.same(channels, c.input(2).shape[0]!, 'channels and biases');
    if (kernel === 0) c.fail('a kernel without elements');
    const state: readonly Dim[] = [batch, channels, c.derive(`(${kernel}-1)`, [kernel], size => size - 1)];
    c.inputs[3]?.shape.forEach((dim, i) => {
      c.same(dim, state[i]!, `axis ${i} of the state`);
    });
    if (!ACTIVATIONS.includes(c.string('activation'))) {
      c.fail(`attribute activation: ${JSON.stringify(c.string('activation').slice(0, 20))} is unknown`);
    }
    return [
      { dtype, shape },
      { dtype, shape: state },
    ];
  },
  run: runCausalConv,
};

function runCausalConv(c: RunContext): readonly Tensor[] {
  const [out, state] = [c.allocate(), c.allocate(1)];
  const [batch, channels, length] = c.shape() as readonly [number, number, number];
  const before = c.shape(1)[2]!;
  const [x, weights] = [dense(c.operand(0)), dense(c.operand(1))];
  const bias = c.tensors[2] && dense(c.tensors[2]);
  const past = c.tensors[3] && dense(c.tensors[3]);
  const gated = c.string('activation') !== 'none';
  const [to, last] = [out.data as Numbers, state.data as Numbers];
  // With nothing to write, no tensor bounds the batch either.
  if (out.size === 0 && state.size === 0) return [out, state];
  // What the kernel runs over: the past, zero where there is none, and then the input.
  const lane = Tensor.zeros('f64', [before + length]).data;
  for (let row = 0; row < batch * channels; row++) {
    const channel = row % channels;
    for (let i = 0; i < before; i++) lane[i] = past ? past[row * before + i]! : 0;
    for (let i = 0; i < length; i++) lane[before + i] = x[row * length + i]!;
    for (let i = 0; i < length; i++) {
      let sum = bias ? bias[channel]! : 0;
      for (let k = 0; k <= before; k++) sum += lane[i + k]! * weights[channel * (before + 1) + k]!;
      to[row * length + i] = gated ? sum / (1 + Math.exp(-sum)) : sum;
    }
    for (let i = 0; i < before; i++) last[row * before + i] = lane[length + i]!;
  }
  return [out, state];
}

/** Whether the state fades at each step, and whether a step writes only what the state does not say already. */
const UPDATE_RULES: Readonly<Record<string, { readonly gated: boolean; readonly delta: boolean }>> = {
  linear: { gated: false, delta: false },
  gated: { gated: true, delta: false },
  delta: { gated: false, delta: true },
  gated_delta: { gated: true, delta: true },
};

interface LinearSizes<Size = Dim> {
  readonly batch: Size;
  readonly steps: Size;
  readonly heads: number;
  readonly kvHeads: number;
  readonly size: Size;
  readonly valueSize: Size;
}

function linearSizes(c: InferContext): LinearSizes {
  const [heads, kvHeads] = [c.number('q_num_heads'), c.number('kv_num_heads')];
  if (heads < 1 || kvHeads < 1 || heads % kvHeads !== 0) c.fail(`${heads} heads cannot share ${kvHeads}`);
  for (const index of [0, 1, 2]) c.rank(index, 3);
  let [batch, steps] = c.input(0).shape as readonly [Dim, Dim, Dim];
  for (const index of [1, 2]) {
    batch = c.same(batch, c.input(index).shape[0]!, `batches of inputs 0 and ${index}`);
    steps = c.same(steps, c.input(index).shape[1]!, `lengths of inputs 0 and ${index}`);
  }
  const [q, k, v] = [0, 1, 2].map(index => headSize(c, c.input(index).shape[2]!, index === 0 ? heads : kvHeads)) as [
    Dim,
    Dim,
    Dim,
  ];
  return { batch, steps, heads, kvHeads, size: c.same(q, k, 'head sizes of inputs 0 and 1'), valueSize: v };
}

function updateRule(c: InferContext): { readonly gated: boolean; readonly delta: boolean } {
  const name = c.string('update_rule');
  return Object.hasOwn(UPDATE_RULES, name)
    ? UPDATE_RULES[name]!
    : c.fail(`attribute update_rule: ${JSON.stringify(name.slice(0, 20))} is unknown`);
}

/** Inputs beside queries, keys and values: (batch, heads, size, valueSize), then one row of numbers for each step. */
function inferLinear(c: InferContext): readonly Facts[] {
  c.expect(0, FLOATS);
  c.expect(3, FLOATS);
  for (const index of [1, 2, 4, 5]) c.sameDType(0, index);
  const sizes = linearSizes(c);
  const { batch, steps, heads, kvHeads, size, valueSize } = sizes;
  const rule = updateRule(c);
  for (const [index, needed, what] of [
    [4, rule.gated, 'decay'],
    [5, rule.delta, 'beta'],
  ] as const) {
    const facts = c.inputs[index];
    if (!facts !== !needed) c.fail(`update_rule ${c.string('update_rule')} ${needed ? 'needs a' : 'takes no'} ${what}`);
    if (!facts) continue;
    c.rank(index, 3);
    c.same(facts.shape[0]!, batch, `batches of inputs 0 and ${index}`);
    c.same(facts.shape[1]!, steps, `lengths of inputs 0 and ${index}`);
    const width = facts.shape[2]!;
    const widths: readonly Dim[] = [kvHeads, index === 4 ? c.product([kvHeads, size]) : 1];
    if (widths.every(each => c.differ(each, width))) c.fail(`a ${what} of ${width} numbers for each step`);
  }
  const state: readonly Dim[] = [batch, kvHeads, size, valueSize];
  if (c.inputs[3]) {
    c.rank(3, 4);
    for (const [i, dim] of c.input(3).shape.entries()) c.same(dim, state[i]!, `axis ${i} of the state`);
  }
  const { dtype } = c.input(0);
  return [
    { dtype, shape: [batch, steps, c.product([heads, valueSize])] },
    { dtype: c.inputs[3]?.dtype ?? dtype, shape: state },
  ];
}

/**
 * The state of a head is a matrix from keys to values. A step fades it, writes its value under its key, and reads what is written
 * under its queries.
 */
function runLinear(c: RunContext): readonly Tensor[] {
  const sizes = linearSizes(c) as LinearSizes<number>;
  const { batch, steps, heads, kvHeads, size, valueSize } = sizes;
  const { gated, delta } = updateRule(c);
  const [out, present] = [c.allocate(), c.allocate(1)];
  const [query, key, value] = [0, 1, 2].map(index => dense(c.operand(index))) as [Numbers, Numbers, Numbers];
  const past = c.tensors[3] && dense(c.tensors[3]);
  const decay = gated ? dense(c.operand(4)) : undefined;
  const decayWidth = c.tensors[4]?.shape[2] ?? 0;
  const beta = delta ? dense(c.operand(5)) : undefined;
  const betaWidth = c.tensors[5]?.shape[2] ?? 0;
  const scale = c.number('scale') === 0 ? 1 / Math.sqrt(size) : c.number('scale');
  const group = heads / kvHeads;
  const cells = size * valueSize;
  const [to, last] = [out.data as Numbers, present.data as Numbers];
  // Without a value there is no state to keep, however many keys there are.
  if (cells === 0) return [out, present];
  const state = Tensor.zeros('f64', [cells]).data;
  const written = Tensor.zeros('f64', [valueSize]).data;
  for (let b = 0; b < batch; b++) {
    for (let head = 0; head < kvHeads; head++) {
      const at = (b * kvHeads + head) * cells;
      for (let i = 0; i < cells; i++) state[i] = past ? past[at + i]! : 0;
      for (let step = b * steps; step < (b + 1) * steps; step++) {
        const k = (step * kvHeads + head) * size;
        const v = (step * kvHeads + head) * valueSize;
        if (decay) {
          const perHead = decayWidth === kvHeads;
          for (let d = 0; d < size; d++) {
            const fade = Math.exp(decay[step * decayWidth + (perHead ? head : head * size + d)]!);
            for (let m = 0; m < valueSize; m++) state[d * valueSize + m]! *= fade;
          }
        }
        for (let m = 0; m < valueSize; m++) {
          let known = 0;
          if (beta) for (let d = 0; d < size; d++) known += state[d * valueSize + m]! * key[k + d]!;
          const rate = beta ? beta[step * betaWidth + (betaWidth === 1 ? 0 : head)]! : 1;
          written[m] = rate * (value[v + m]! - known);
        }
        for (let d = 0; d < size; d++) {
          for (let m = 0; m < valueSize; m++) state[d * valueSize + m]! += key[k + d]! * written[m]!;
        }
        for (let h = head * group; h < (head + 1) * group; h++) {
          for (let m = 0; m < valueSize; m++) {
            let sum = 0;
            for (let d = 0; d < size; d++) sum += query[(step * heads + h) * size + d]! * state[d * valueSize + m]!;
            to[(step * heads + h) * valueSize + m] = scale * sum;
          }
        }
      }
      for (let i = 0; i < cells; i++) last[at + i] = state[i]!;
    }
  }
  return [out, present];
}

const linearAttention: OperatorVersion = {
  since: 27,
  inputs: [3, 6],
  outputs: [1, 2],
  attributes: {
    // How many steps a faster kernel would take at once; it changes no result.
    chunk_size: int(64),
    kv_num_heads: required(int()),
    q_num_heads: required(int()),
    scale: float(0),
    update_rule: string('gated_delta'),
  },
  infer: inferLinear,
  run: runLinear,
};

/** The operators of this file. */
export const STATE_SPACE: readonly Operator[] = [
  define('CausalConvWithState', 'compute', causalConv),
  define('LinearAttention', 'compute', linearAttention),
];
