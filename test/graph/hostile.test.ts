/** Graphs that ask for more than they are worth: each is refused by its limit before memory is taken, or done in bounded time. */
import { execFileSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { CloisterError } from '../../src/base/index.ts';
import { planMemory, referenceBackend } from '../../src/engine/index.ts';
import { bytesSource } from '../../src/formats/index.ts';
import { type Attribute, type Graph, GraphBuilder, type ValueId } from '../../src/graph/index.ts';
import { type Nested, Tensor } from '../../src/tensor/index.ts';

const limitBytes = 64 * 2 ** 20;
const HUGE = 2 ** 31 - 1;

/** The code of the refusal, by which no memory was taken: what was would be too large to have been collected since. */
function codeOf(what: () => unknown): string {
  const before = process.memoryUsage().arrayBuffers;
  let code = 'nothing was refused';
  try {
    what();
  } catch (error) {
    if (!(error instanceof CloisterError)) throw error;
    code = error.code;
  }
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 * limitBytes);
  return code;
}

type Inputs = Readonly<Record<string, Tensor>>;
const prepared = (graph: Graph) =>
  referenceBackend.prepare(graph, { constants: bytesSource(new Uint8Array()), limitBytes });
const run = (graph: Graph, inputs: Inputs): unknown => prepared(graph).runSync(inputs);

/** One node between inputs and the output, so that nothing of it is known before it runs; or over constants. */
function oneNode(
  op: string,
  inputs: Inputs,
  attributes: Readonly<Record<string, Attribute>>,
  constant: boolean,
  opset = 17,
): Graph {
  const b = new GraphBuilder('one', { opset });
  const ids = Object.entries(inputs).map(([name, x]) =>
    constant ? b.constant(name, x) : b.input(name, { dtype: x.dtype, shape: x.shape }),
  );
  let out = b.node({ op, inputs: ids, attributes })[0]!;
  // A view is no memory yet.
  if (op === 'Expand') out = b.node({ op: 'Neg', inputs: [out] })[0]!;
  b.output(out);
  if (constant) b.output(b.input('x', { dtype: 'f32', shape: [1] }));
  return b.build();
}

const one = Tensor.of('f32', [1]);
const image = Tensor.of('f32', [[[[1]]]]);
const i64 = (values: Nested): Tensor => Tensor.of('i64', values);
const none = Tensor.of('f32', []);

/** Nodes that make the most elements there are of one. */
const GROWING: readonly (readonly [
  op: string,
  inputs: Inputs,
  attributes?: Readonly<Record<string, Attribute>>,
  opset?: number,
])[] = [
  ['Expand', { a: one, b: i64([HUGE]) }],
  ['Tile', { a: one, b: i64([HUGE]) }],
  ['ConstantOfShape', { b: i64([HUGE]) }],
  ['Pad', { a: one, b: i64([0, HUGE - 1]) }],
  ['Resize', { a: image, r: none, s: none, z: i64([1, 1, 1, HUGE]) }],
  ['Upsample', { a: image, s: Tensor.of('f32', [1, 1, 1, 2e9]) }, {}, 9],
  ['Range', { a: i64(0), b: i64(HUGE), c: i64(1) }],
  ['OneHot', { a: i64([0]), b: i64(HUGE), c: Tensor.of('f32', [0, 1]) }],
  ['CenterCropPad', { a: one, b: i64([HUGE]) }, {}, 18],
  ['BlackmanWindow', { a: i64(HUGE) }],
];

for (const [op, inputs, attributes = {}, opset = 17] of GROWING) {
  test(`${op} of one element to 2^31 - 1 is refused where it runs, before it allocates`, () => {
    const graph = oneNode(op, inputs, attributes, false, opset);
    expect(codeOf(() => run(graph, inputs))).toBe('OUT_OF_MEMORY');
  });

  test(`${op} over constants is not computed when a graph is made ready, and refused where it runs`, () => {
    expect(codeOf(() => run(oneNode(op, inputs, attributes, true, opset), { x: one }))).toBe('OUT_OF_MEMORY');
  });
}

describe('memory that a run holds', () => {
  /** A branch that fills `size` elements, so often, and returns their least. */
  const filling = (outside: GraphBuilder, size: ValueId, times: number): Graph => {
    const b = new GraphBuilder('branch', { opset: 17, within: outside });
    const shape = b.capture(size);
    const parts = Array.from({ length: times }, () => {
      const full = b.node({ op: 'ConstantOfShape', inputs: [shape] })[0]!;
      return b.node({ op: 'ReduceMin', inputs: [full], attributes: { keepdims: 0 } })[0]!;
    });
    b.output(b.node({ op: 'Sum', inputs: parts })[0]!);
    return b.build();
  };
  const conditional = (times: number): Graph => {
    const b = new GraphBuilder('outside', { opset: 17 });
    const condition = b.input('c', { dtype: 'bool', shape: [] });
    const size = b.input('n', { dtype: 'i64', shape: [1] });
    const attributes = { then_branch: filling(b, size, times), else_branch: filling(b, size, times) };
    b.output(b.node({ op: 'If', inputs: [condition, size], attributes, outputs: ['y'] })[0]!);
    return b.build();
  };
  const on = (elements: number): Inputs => ({ c: Tensor.of('bool', true), n: i64([elements]) });

  test('counts what a branch makes', () => {
    expect(codeOf(() => run(conditional(1), on(HUGE)))).toBe('OUT_OF_MEMORY');
    // 5 x 16 MiB, which a branch holds until it is done.
    expect(codeOf(() => run(conditional(5), on(2 ** 22)))).toBe('OUT_OF_MEMORY');
  });

  test('is given back when the branch is done', () => {
    const model = prepared(conditional(3));
    for (let i = 0; i < 3; i++) expect(model.runSync(on(2 ** 22))['y']!.toArray()).toBe(0);
  });

  test('is no list of numbers where halves are read', () => {
    const tensors = new URL('../../src/tensor/index.ts', import.meta.url).href;
    const code = `import { Tensor } from '${tensors}'; console.log(Tensor.zeros('f16', [2e7]).cast('f32').size)`;
    // A list of 20 million numbers takes at least 160 MB of the heap, which has 64.
    const flags = ['--max-old-space-size=64', '--no-warnings', '--input-type=module', '-e', code];
    expect(execFileSync(process.execPath, flags, { encoding: 'utf8', timeout: 60_000 }).trim()).toBe('20000000');
  });

  test('counts the wider copies in which halves are computed', () => {
    const b = new GraphBuilder('half', { opset: 17 });
    b.output(b.node({ op: 'Exp', inputs: [b.input('x', { dtype: 'f16', shape: ['n'] })], outputs: ['y'] })[0]!);
    // 20 MiB of results, and 40 MiB each of inputs and results as f32.
    expect(codeOf(() => run(b.build(), { x: Tensor.zeros('f16', [10 * 2 ** 20]) }))).toBe('OUT_OF_MEMORY');
  });
});

describe('time', () => {
  test('of planning 100,000 buffers is bounded, and no two that live together share a byte', () => {
    let state = 1;
    const random = (below: number): number => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    const lifetimes = Array.from({ length: 100_000 }, (_, first) => ({
      bytes: random(5000),
      first,
      last: first + (random(50) === 0 ? random(20_000) : random(8)),
    }));
    const start = performance.now();
    const { offsets, peakBytes, lowerBoundBytes } = planMemory(lifetimes);
    expect(performance.now() - start).toBeLessThan(5000);
    expect(peakBytes).toBeLessThan(2 * lowerBoundBytes);
    // Walks the steps with the bytes that are taken, in lines of 64.
    const owner = new Int32Array(peakBytes / 64).fill(-1);
    for (const [i, { bytes, first }] of lifetimes.entries()) {
      for (let line = offsets[i]! / 64; line < (offsets[i]! + bytes) / 64; line++) {
        const other = owner[line]!;
        if (other >= 0 && lifetimes[other]!.last >= first) expect.fail(`buffers ${other} and ${i} share a line`);
        owner[line] = i;
      }
    }
  });

  test('of inferring sizes with long names is in proportion to the nodes', () => {
    const b = new GraphBuilder('long names');
    const x = b.input('x', { dtype: 'f32', shape: Array.from({ length: 8 }, (_, i) => `${'d'.repeat(4000)}${i}`) });
    const start = performance.now();
    for (let i = 0; i < 10_000; i++) b.node({ op: 'Flatten', inputs: [x] });
    expect(performance.now() - start).toBeLessThan(4000);
  });

  test('of making a value an output does not grow with those that are', () => {
    const b = new GraphBuilder('wide');
    const x = b.input('x', { dtype: 'f32', shape: [1] });
    const ids = Array.from({ length: 60_000 }, () => b.node({ op: 'Neg', inputs: [x] })[0]!);
    const start = performance.now();
    for (const id of ids) b.output(id);
    expect(performance.now() - start).toBeLessThan(500);
  });
});
