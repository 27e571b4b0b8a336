import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CloisterError } from '../../../../src/base/index.ts';
import { type Attribute, GraphBuilder, runNode } from '../../../../src/graph/index.ts';
import { Tensor } from '../../../../src/tensor/index.ts';

type Inputs = readonly (Tensor | undefined)[];
type Attributes = Readonly<Record<string, Attribute>>;

/** Checks one node against its operator, runs it, and returns its outputs. */
function run(op: string, inputs: Inputs, attributes: Attributes, opset = 22): readonly Tensor[] {
  const b = new GraphBuilder('one', { opset });
  const ids = inputs.map((x, i) => x && b.input(`x${i}`, { dtype: x.dtype, shape: x.shape }));
  const outputs = op === 'LSTM' ? ['y', 'h', 'c'] : ['y', 'h'];
  for (const id of b.node({ op, inputs: ids, attributes, outputs })) b.output(id!);
  return runNode(b.build().nodes[0]!, inputs);
}

function refusal(of: () => unknown): string {
  try {
    of();
  } catch (error) {
    if (error instanceof CloisterError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'none';
}

/** The functions of the specification, by name. */
const FUNCTIONS: Readonly<Record<string, (x: number, alpha: number, beta: number) => number>> = {
  Relu: x => (x > 0 ? x : 0),
  Tanh: x => (Math.exp(x) - Math.exp(-x)) / (Math.exp(x) + Math.exp(-x)),
  Sigmoid: x => 1 / (1 + Math.exp(-x)),
  Affine: (x, a, b) => a * x + b,
  LeakyRelu: (x, a) => (x >= 0 ? x : a * x),
  ThresholdedRelu: (x, a) => (x >= a ? x : 0),
  ScaledTanh: (x, a, b) => a * Math.tanh(b * x),
  HardSigmoid: (x, a, b) => Math.min(1, Math.max(0, a * x + b)),
  Elu: (x, a) => (x >= 0 ? x : a * (Math.exp(x) - 1)),
  Softsign: x => x / (1 + Math.abs(x)),
  Softplus: x => Math.log(1 + Math.exp(x)),
};
const TAKES_ALPHA = ['Affine', 'LeakyRelu', 'ThresholdedRelu', 'ScaledTanh', 'HardSigmoid', 'Elu'];
const TAKES_BETA = ['Affine', 'ScaledTanh', 'HardSigmoid'];
const GATES = { RNN: 1, GRU: 3, LSTM: 4 } as const;
const COUNT = { RNN: 1, GRU: 2, LSTM: 3 } as const;

interface Case {
  readonly op: 'RNN' | 'GRU' | 'LSTM';
  readonly direction: 'forward' | 'reverse' | 'bidirectional';
  readonly layout: 0 | 1;
  readonly sizes: readonly [sequence: number, batch: number, input: number, hidden: number];
  readonly functions: readonly { readonly name: string; readonly alpha: number; readonly beta: number }[];
  readonly clip: number | undefined;
  readonly flags: readonly [inputForget: boolean, linearBeforeReset: boolean];
  readonly optional: readonly [bias: boolean, lengths: boolean, h: boolean, c: boolean, peepholes: boolean];
  readonly seed: number;
}

/** A sequence of numbers in [-1, 1] that depends on `seed` only. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state / 0x7fffffff) * 2 - 1;
  };
}

/** One time step after another, each gate as the specification writes it, with nested arrays. */
function oracle(
  test: Case,
  x: number[][][],
  tensors: Record<'w' | 'r' | 'b' | 'p', number[][][]>,
  lengths: number[],
  h0: number[][][],
  c0: number[][][],
) {
  const [sequence, batch, , hidden] = test.sizes;
  const directions = test.direction === 'bidirectional' ? 2 : 1;
  const y = Array.from({ length: sequence }, () =>
    Array.from({ length: directions }, () => Array.from({ length: batch }, () => new Array<number>(hidden).fill(0))),
  );
  const lastH = structuredClone(h0);
  const lastC = structuredClone(c0);
  for (let d = 0; d < directions; d++) {
    const of = (index: number) => (value: number) => {
      const { name, alpha, beta } = test.functions[d * COUNT[test.op] + index]!;
      const clip = test.clip ?? Number.POSITIVE_INFINITY;
      return FUNCTIONS[name]!(Math.max(-clip, Math.min(clip, value)), alpha, beta);
    };
    const [f, g, squash] = [of(0), test.op === 'RNN' ? of(0) : of(1), test.op === 'LSTM' ? of(2) : of(0)];
    const row = (matrix: number[][], gate: number, j: number, v: number[]) =>
      matrix[gate * hidden + j]!.reduce((sum, weight, k) => sum + weight * v[k]!, 0);
    const [w, r] = [tensors.w[d]!, tensors.r[d]!];
    const [b, p] = [tensors.b[d]!.flat(), tensors.p[d]!.flat()];
    const all = Array.from({ length: hidden }, (_, j) => j);
    for (let n = 0; n < batch; n++) {
      let h = h0[d]![n]!;
      let c = c0[d]![n]!;
      const wb = (gate: number, j: number) => b[gate * hidden + j]!;
      const rb = (gate: number, j: number) => b[(GATES[test.op] + gate) * hidden + j]!;
      const times = Array.from({ length: lengths[n]! }, (_, t) => t);
      if (d === 1 || test.direction === 'reverse') times.reverse();
      for (const t of times) {
        const v = x[t]![n]!;
        const plain = (gate: number, j: number) => row(w, gate, j, v) + row(r, gate, j, h) + wb(gate, j) + rb(gate, j);
        if (test.op === 'RNN') h = all.map(j => f(plain(0, j)));
        else if (test.op === 'GRU') {
          const z = all.map(j => f(plain(0, j)));
          const reset = all.map(j => f(plain(1, j)));
          const past = h;
          const masked = past.map((value, j) => value * reset[j]!);
          const candidate = all.map(j =>
            test.flags[1]
              ? g(row(w, 2, j, v) + reset[j]! * (row(r, 2, j, past) + rb(2, j)) + wb(2, j))
              : g(row(w, 2, j, v) + row(r, 2, j, masked) + rb(2, j) + wb(2, j)),
          );
          h = all.map(j => (1 - z[j]!) * candidate[j]! + z[j]! * past[j]!);
        } else {
          const input = all.map(j => f(plain(0, j) + p[j]! * c[j]!));
          const forget = all.map(j => (test.flags[0] ? 1 - input[j]! : f(plain(2, j) + p[2 * hidden + j]! * c[j]!)));
          const candidate = all.map(j => g(plain(3, j)));
          const next = all.map(j => forget[j]! * c[j]! + input[j]! * candidate[j]!);
          const output = all.map(j => f(plain(1, j) + p[hidden + j]! * next[j]!));
          h = all.map(j => output[j]! * squash(next[j]!));
          c = next;
        }
        y[t]![d]![n] = h;
      }
      lastH[d]![n] = h;
      lastC[d]![n] = c;
    }
  }
  return { y, lastH, lastC };
}

const swap = (a: number[][][]): number[][][] => a[0]!.map((_, j) => a.map(row => row[j]!));

const cases: fc.Arbitrary<Case> = fc
  .record({
    op: fc.constantFrom('RNN' as const, 'GRU' as const, 'LSTM' as const),
    direction: fc.constantFrom('forward' as const, 'reverse' as const, 'bidirectional' as const),
    layout: fc.constantFrom(0 as const, 1 as const),
    sizes: fc.tuple(
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 1, max: 3 }),
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 1, max: 6 }),
    ),
    names: fc.array(fc.constantFrom(...Object.keys(FUNCTIONS)), { minLength: 6, maxLength: 6 }),
    clip: fc.option(fc.constantFrom(0.1, 0.5, 2), { nil: undefined }),
    flags: fc.tuple(fc.boolean(), fc.boolean()),
    optional: fc.tuple(fc.boolean(), fc.boolean(), fc.boolean(), fc.boolean(), fc.boolean()),
    seed: fc.integer({ min: 1, max: 1_000_000 }),
  })
  .map(({ names, ...rest }) => {
    const count = COUNT[rest.op] * (rest.direction === 'bidirectional' ? 2 : 1);
    const next = numbers(rest.seed + 17);
    const functions = names.slice(0, count).map(name => ({
      name,
      alpha: TAKES_ALPHA.includes(name) ? Math.abs(next()) : 0,
      beta: TAKES_BETA.includes(name) ? next() : 0,
    }));
    return { ...rest, functions };
  });

describe('RNN, GRU and LSTM', () => {
  test('are the equations of the specification, for every setting', () => {
    fc.assert(
      fc.property(cases, testCase => {
        const { op, direction, layout, sizes, functions, clip, flags, optional, seed } = testCase;
        const [sequence, batch, input, hidden] = sizes;
        const directions = direction === 'bidirectional' ? 2 : 1;
        const next = numbers(seed);
        const make = (a: number, b: number, c: number, zero = false): number[][][] =>
          Array.from({ length: a }, () =>
            Array.from({ length: b }, () => Array.from({ length: c }, () => (zero ? 0 : next()))),
          );
        const rows = GATES[op] * hidden;
        const x = make(sequence, batch, input);
        const w = make(directions, rows, input);
        const r = make(directions, rows, hidden);
        const b = make(directions, 1, 2 * rows, !optional[0]);
        const lengths = Array.from({ length: batch }, () =>
          optional[1] ? Math.floor(Math.abs(next()) * (sequence + 0.99)) : sequence,
        );
        const h0 = make(directions, batch, hidden, !optional[2]);
        const c0 = make(directions, batch, hidden, !(op === 'LSTM' && optional[3]));
        const p = make(directions, 1, 3 * hidden, !(op === 'LSTM' && optional[4]));
        const flip = (a: number[][][]) => (layout === 1 ? swap(a) : a);
        const f64 = (a: number[][][], given: boolean) => (given ? Tensor.of('f64', a) : undefined);
        const inputs: Inputs = [
          f64(flip(x), true),
          f64(w, true),
          f64(r, true),
          f64(b, optional[0])?.squeeze([1]),
          optional[1] ? Tensor.of('i32', lengths) : undefined,
          f64(flip(h0), optional[2]),
          ...(op === 'LSTM' ? [f64(flip(c0), optional[3]), f64(p, optional[4])?.squeeze([1])] : []),
        ];
        const attributes: Attributes = {
          direction,
          layout,
          hidden_size: hidden,
          activations: functions.map(({ name }) => name),
          activation_alpha: functions.filter(({ name }) => TAKES_ALPHA.includes(name)).map(({ alpha }) => alpha),
          activation_beta: functions.filter(({ name }) => TAKES_BETA.includes(name)).map(({ beta }) => beta),
          ...(clip === undefined ? {} : { clip }),
          ...(op === 'LSTM' ? { input_forget: Number(flags[0]) } : {}),
          ...(op === 'GRU' ? { linear_before_reset: Number(flags[1]) } : {}),
        };
        const want = oracle(testCase, x, { w, r, b, p }, lengths, h0, c0);
        // Unbounded functions (Relu, Softplus) can grow without end and make a state's last bits anything:
        // how far a nudge of 2^-40 moves the oracle is what rounding, 4,000 times smaller, may move the kernel.
        const nudge = (a: number[][][]) => a.map(m => m.map(row => row.map(value => value * (1 + next() * 2 ** -40))));
        const nudged = oracle(testCase, nudge(x), { w: nudge(w), r: nudge(r), b: nudge(b), p }, lengths, h0, c0);
        const came = run(op, inputs, attributes);
        const y = layout === 1 ? came[0]!.transpose([1, 2, 0, 3]) : came[0]!;
        const near = (tensor: Tensor, expected: unknown, moved: unknown): void => {
          const [flat, other] = [expected, moved].map(
            nested => (nested as number[][][]).flat(4) as unknown as number[],
          );
          expect(tensor.size).toBe(flat!.length);
          tensor.values().forEach((value, i) => {
            const allowed = 1e-9 * (1 + Math.abs(flat![i]!)) + Math.abs(other![i]! - flat![i]!);
            expect(Math.abs(Number(value) - flat![i]!)).toBeLessThanOrEqual(allowed);
          });
        };
        near(y, want.y, nudged.y);
        near(came[1]!, flip(want.lastH), flip(nudged.lastH));
        if (op === 'LSTM') near(came[2]!, flip(want.lastC), flip(nudged.lastC));
      }),
      { numRuns: 400 },
    );
  });

  const x = Tensor.zeros('f32', [2, 1, 3]);
  const w = Tensor.zeros('f32', [1, 4, 3]);
  const r = Tensor.zeros('f32', [1, 4, 4]);

  test('take the defaults of functions whose parameters are not given', () => {
    const one = (activation: string): number => {
      const inputs = [Tensor.of('f64', [[[-1]]]), Tensor.of('f64', [[[1]]]), Tensor.of('f64', [[[0]]])];
      return Number(run('RNN', inputs, { activations: [activation] })[1]!.values()[0]);
    };
    expect(one('LeakyRelu')).toBe(-0.01);
    expect(one('HardSigmoid')).toBeCloseTo(0.3, 12);
    expect(one('Elu')).toBeCloseTo(Math.exp(-1) - 1, 12);
    expect(one('Affine')).toBe(-1);
    expect(one('tanh')).toBe(Math.tanh(-1));
  });

  test('keep the state of a sequence of length zero, and write nothing for it', () => {
    const state = Tensor.of('f32', [[[1, 2, 3, 4]]]);
    const [y, h] = run('RNN', [x, w, r, undefined, Tensor.of('i32', [0]), state], {});
    expect(y!.values()).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
    expect(h!.toArray()).toEqual(state.toArray());
  });

  test('compute an empty batch', () => {
    const [y, h] = run('RNN', [Tensor.zeros('f32', [2, 0, 3]), w, r], {});
    expect([y!.shape, h!.shape]).toEqual([
      [2, 1, 0, 4],
      [1, 0, 4],
    ]);
  });

  test('round half precision once, at the end', () => {
    const half = (tensor: Tensor) => tensor.cast('f16');
    const wide = [Tensor.of('f32', [[[0.5]], [[-0.25]]]), Tensor.of('f32', [[[0.75]]]), Tensor.of('f32', [[[0.5]]])];
    const [y] = run('RNN', wide.map(half), {});
    expect(y!.dtype).toBe('f16');
    expect(y!.values()).toEqual(run('RNN', wide, {})[0]!.cast('f16').values());
  });

  test('carry unknown sizes through shapes', () => {
    const b = new GraphBuilder('open', { opset: 14 });
    const ids = [
      b.input('x', { dtype: 'f32', shape: ['T', 'N', 3] }),
      b.input('w', { dtype: 'f32', shape: [2, 16, 3] }),
      b.input('r', { dtype: 'f32', shape: [2, 16, 'H'] }),
    ];
    const attributes = { direction: 'bidirectional', hidden_size: 4 };
    const [y, h, c] = b.node({ op: 'LSTM', inputs: ids, attributes, outputs: ['y', 'h', 'c'] });
    expect([y, h, c].map(id => b.facts(id!).shape)).toEqual([
      ['T', 2, 'N', 4],
      [2, 'N', 4],
      [2, 'N', 4],
    ]);
  });

  test.each([
    ['direction', { direction: 'sideways' }, 'INVALID_GRAPH'],
    ['clip', { clip: 0 }, 'INVALID_GRAPH'],
    ['clip', { clip: Number.NaN }, 'INVALID_GRAPH'],
    ['hidden_size', { hidden_size: 5 }, 'INVALID_GRAPH'],
    ['hidden_size', { hidden_size: -1 }, 'INVALID_GRAPH'],
    ['activations', { activations: ['Tanh', 'Tanh'] }, 'INVALID_GRAPH'],
    ['activation', { activations: ['Swish'] }, 'UNSUPPORTED_MODEL'],
    ['layout', { layout: 2 }, 'INVALID_GRAPH'],
    ['linear_before_reset', { linear_before_reset: 1 }, 'INVALID_GRAPH'],
  ] as const)('refuse a bad %s with the node named', (what, attributes, code) => {
    const message = refusal(() => run('RNN', [x, w, r], attributes as unknown as Attributes));
    expect(message).toContain(`${code}: RNN "RNN#0"`);
    expect(message).toContain(what);
  });

  test('refuse weights and states that do not fit', () => {
    expect(refusal(() => run('GRU', [x, w, r], {}))).toContain('rows of W and gates: 4 and 12 differ');
    const bias = Tensor.zeros('f32', [1, 4]);
    expect(refusal(() => run('RNN', [x, w, r, bias], {}))).toContain('columns of B and gates: 4 and 8 differ');
    const state = Tensor.zeros('f32', [1, 2, 4]);
    expect(refusal(() => run('RNN', [x, w, r, undefined, undefined, state], {}))).toContain('1 and 2 differ');
    expect(refusal(() => run('RNN', [x, w.cast('f64'), r], {}))).toContain('must be of one dtype');
  });

  test('refuse a sequence that is longer than the input, when they run', () => {
    for (const length of [3, -1]) {
      const message = refusal(() => run('RNN', [x, w, r, undefined, Tensor.of('i32', [length])], {}));
      expect(message).toContain(`SHAPE_MISMATCH: RNN "RNN#0": a sequence of length ${length}`);
    }
  });

  test('know their attributes opset by opset', () => {
    const gru = [x, Tensor.zeros('f32', [1, 12, 3]), Tensor.zeros('f32', [1, 12, 4])];
    expect(run('GRU', gru, { output_sequence: 1 }, 1)[0]!.shape).toEqual([2, 1, 1, 4]);
    expect(refusal(() => run('GRU', gru, { linear_before_reset: 1 }, 1))).toContain('unknown at opset 1');
    expect(run('GRU', gru, { linear_before_reset: 1 }, 3)[1]!.shape).toEqual([1, 1, 4]);
    expect(refusal(() => run('GRU', gru, { output_sequence: 1 }, 7))).toContain('unknown at opset 7');
    expect(refusal(() => run('GRU', gru, { layout: 0 }, 13))).toContain('unknown at opset 13');
    expect(run('GRU', gru, { layout: 0 }, 14)[1]!.shape).toEqual([1, 1, 4]);
  });
});
