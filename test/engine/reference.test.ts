import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CloisterError, type ErrorCode } from '../../src/base/index.ts';
import { referenceBackend } from '../../src/engine/index.ts';
import { bytesSource } from '../../src/formats/index.ts';
import { type Attribute, GraphBuilder, OPERATORS } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';

const nothing = { constants: bytesSource(new Uint8Array(0)) };

/** One node, run. */
function compute(
  op: string,
  inputs: readonly Tensor[],
  attributes: Readonly<Record<string, Attribute>> = {},
  opset = 17,
): Tensor {
  const b = new GraphBuilder('one', { opset });
  const ids = inputs.map((x, i) => b.input(`x${i}`, { dtype: x.dtype, shape: x.shape }));
  b.output(b.node({ op, inputs: ids, attributes, outputs: ['y'] })[0]!);
  const named = Object.fromEntries(inputs.map((x, i) => [`x${i}`, x]));
  return referenceBackend.prepare(b.build(), nothing).runSync(named)['y']!;
}

async function codeOf(run: () => unknown): Promise<ErrorCode | undefined> {
  try {
    await run();
  } catch (error) {
    if (error instanceof CloisterError) return error.code;
    throw error;
  }
  return undefined;
}

const small = fc.integer({ min: -8, max: 8 });

/** Small integers: sums of products are exact, so agreement is equality. */
const tensorOf = (shape: readonly number[]): fc.Arbitrary<Tensor<'f32'>> => {
  const size = shape.reduce((product, dim) => product * dim, 1);
  return fc
    .array(small, { minLength: size, maxLength: size })
    .map(values => Tensor.from('f32', shape, Float32Array.from(values)));
};

describe('kernels', () => {
  test('MatMul is the sum of products, at every size around a block', () => {
    const size = fc.integer({ min: 1, max: 9 });
    const pair = fc.tuple(size, size, size).chain(([m, k, n]) => fc.tuple(tensorOf([m, k]), tensorOf([k, n])));
    fc.assert(
      fc.property(pair, fc.boolean(), fc.boolean(), ([a, b], flipA, flipB) => {
        const [m, k, n] = [a.shape[0]!, a.shape[1]!, b.shape[1]!];
        const [x, y] = [a.values(), b.values()];
        const expected = Array.from({ length: m }, (_, i) =>
          Array.from({ length: n }, (_, j) => {
            let sum = 0;
            for (let p = 0; p < k; p++) sum += x[i * k + p]! * y[p * n + j]!;
            return sum;
          }),
        );
        const want = Tensor.of('f32', expected).toArray();
        expect(compute('MatMul', [a, b]).toArray()).toEqual(want);
        const flipped = [flipA ? a.transpose().clone() : a, flipB ? b.transpose().clone() : b];
        const gemm = compute('Gemm', flipped, { transA: Number(flipA), transB: Number(flipB) });
        expect(gemm.toArray()).toEqual(want);
      }),
      { numRuns: 300 },
    );
  });

  test('Conv is the definition, over groups, strides, dilations and padding', () => {
    const settings = fc.record({
      groups: fc.integer({ min: 1, max: 2 }),
      perGroup: fc.integer({ min: 1, max: 2 }),
      perOut: fc.integer({ min: 1, max: 5 }),
      size: fc.tuple(fc.integer({ min: 3, max: 7 }), fc.integer({ min: 3, max: 7 })),
      kernel: fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 })),
      strides: fc.tuple(fc.integer({ min: 1, max: 2 }), fc.integer({ min: 1, max: 3 })),
      dilations: fc.tuple(fc.integer({ min: 1, max: 2 }), fc.constant(1)),
      pads: fc.tuple(fc.nat(2), fc.nat(2), fc.nat(2), fc.nat(2)),
    });
    const cases = settings.chain(s =>
      fc.record({
        s: fc.constant(s),
        x: tensorOf([2, s.groups * s.perGroup, ...s.size]),
        w: tensorOf([s.groups * s.perOut, s.perGroup, ...s.kernel]),
        bias: tensorOf([s.groups * s.perOut]),
      }),
    );
    fc.assert(
      fc.property(cases, ({ s, x, w, bias }) => {
        const out = [0, 1].map(i => {
          const room = s.size[i]! + s.pads[i]! + s.pads[i + 2]! - ((s.kernel[i]! - 1) * s.dilations[i]! + 1);
          return Math.floor(room / s.strides[i]!) + 1;
        }) as [number, number];
        fc.pre(out[0] > 0 && out[1] > 0);
        const [image, weights, shift] = [x.values(), w.values(), bias.values()];
        const [height, width] = s.size;
        const expected: number[] = [];
        for (let n = 0; n < 2; n++) {
          for (let o = 0; o < s.groups * s.perOut; o++) {
            for (let oy = 0; oy < out[0]; oy++) {
              for (let ox = 0; ox < out[1]; ox++) {
                let sum = shift[o]!;
                for (let c = 0; c < s.perGroup; c++) {
                  const channel = Math.floor(o / s.perOut) * s.perGroup + c;
                  for (let ky = 0; ky < s.kernel[0]; ky++) {
                    for (let kx = 0; kx < s.kernel[1]; kx++) {
                      const iy = oy * s.strides[0] + ky * s.dilations[0] - s.pads[0];
                      const ix = ox * s.strides[1] + kx * s.dilations[1] - s.pads[1];
                      if (iy < 0 || ix < 0 || iy >= height || ix >= width) continue;
                      const pixel = image[((n * s.groups * s.perGroup + channel) * height + iy) * width + ix]!;
                      sum += pixel * weights[((o * s.perGroup + c) * s.kernel[0] + ky) * s.kernel[1] + kx]!;
                    }
                  }
                }
                expected.push(sum);
              }
            }
          }
        }
        const { strides, dilations, pads, groups } = s;
        const y = compute('Conv', [x, w, bias], { strides, dilations, pads, group: groups });
        expect(y.shape).toEqual([2, groups * s.perOut, ...out]);
        expect(y.values().map(value => Number(value) + 0)).toEqual(expected.map(value => value + 0));
      }),
      { numRuns: 300 },
    );
  });

  test('a broadcast operand gives what its explicit expansion gives', () => {
    const shapes = fc.array(fc.tuple(fc.integer({ min: 1, max: 3 }), fc.boolean(), fc.boolean()), { maxLength: 4 });
    const cases = shapes.chain(dims =>
      fc.record({
        full: fc.constant(dims.map(([dim]) => dim)),
        a: tensorOf(dims.map(([dim, one]) => (one ? 1 : dim))),
        b: tensorOf(dims.map(([dim, , one]) => (one ? 1 : dim))),
      }),
    );
    fc.assert(
      fc.property(cases, fc.constantFrom('Add', 'Sub', 'Mul', 'Max', 'Min'), ({ a, b, full }, op) => {
        const direct = compute(op, [a, b]);
        fc.pre(direct.shape.every((dim, i) => dim === full[i]));
        const explicit = compute(op, [a.expand(full).clone(), b.expand(full).clone()]);
        expect(direct.toArray()).toEqual(explicit.toArray());
      }),
    );
  });

  test('pooling leaves padding out of a maximum and an average', () => {
    const x = Tensor.of('f32', [
      [
        [
          [-1, -2],
          [-3, -4],
        ],
      ],
    ]);
    const pool = { kernel_shape: [2, 2], pads: [1, 1, 0, 0] };
    expect(compute('MaxPool', [x], pool).toArray()).toEqual([
      [
        [
          [-1, -1],
          [-1, -1],
        ],
      ],
    ]);
    expect(compute('AveragePool', [x], pool).toArray()).toEqual([
      [
        [
          [-1, -1.5],
          [-2, -2.5],
        ],
      ],
    ]);
    expect(compute('AveragePool', [x], { ...pool, count_include_pad: 1 }).toArray()).toEqual([
      [
        [
          [-0.25, -0.75],
          [-1, -2.5],
        ],
      ],
    ]);
  });

  test('Softmax changed its meaning in opset 13', () => {
    const x = Tensor.of('f32', [
      [
        [0, 0],
        [0, 0],
      ],
    ]);
    expect(compute('Softmax', [x], {}, 11).toArray()).toEqual([
      [
        [0.25, 0.25],
        [0.25, 0.25],
      ],
    ]);
    expect(compute('Softmax', [x], {}, 13).toArray()).toEqual([
      [
        [0.5, 0.5],
        [0.5, 0.5],
      ],
    ]);
    const large = compute('Softmax', [Tensor.of('f32', [1000, 1000])]).toArray();
    expect(large).toEqual([0.5, 0.5]);
  });

  test('integers wrap and divide as integers', () => {
    expect(compute('Mul', [Tensor.of('i32', [65537]), Tensor.of('i32', [65537])]).toArray()).toEqual([131073]);
    expect(compute('Div', [Tensor.of('i32', [-7, 7]), Tensor.of('i32', [2, 0])]).toArray()).toEqual([-3, 0]);
    expect(compute('Div', [Tensor.of('i64', [-7n, 7n]), Tensor.of('i64', [2n, 0n])]).toArray()).toEqual([-3n, 0n]);
    expect(compute('Pow', [Tensor.of('i64', [3n]), Tensor.of('i64', [2n ** 62n])]).dtype).toBe('i64');
    expect(compute('Mod', [Tensor.of('i32', [-7]), Tensor.of('i32', [3])]).toArray()).toEqual([2]);
  });

  test('Erf agrees with values of the tables', () => {
    // Abramowitz & Stegun, table 7.1, to ten places.
    const table: readonly (readonly [number, number])[] = [
      [0.5, 0.5204998778],
      [1, 0.8427007929],
      [2, 0.995322265],
    ];
    const y = compute('Erf', [
      Tensor.of(
        'f64',
        table.map(([x]) => x),
      ),
    ]).values();
    table.forEach(([, value], i) => {
      expect(y[i]).toBeCloseTo(value, 10);
    });
    const seam = compute('Erf', [Tensor.of('f64', [3 - 1e-12, 3, 6 - 1e-12, 6, -3])]).values();
    expect(Number(seam[0])).toBeCloseTo(Number(seam[1]), 14);
    expect(Number(seam[2])).toBeCloseTo(Number(seam[3]), 14);
    expect(seam[4]).toBe(-Number(seam[1]));
  });
});

describe('the reference backend', () => {
  const b = new GraphBuilder('g');
  const x = b.input('x', { dtype: 'f32', shape: ['N', 2] });
  const y = b.input('y', { dtype: 'f32', shape: ['N', 2] });
  const sum = b.node({ op: 'Add', inputs: [x, y], outputs: ['sum'] })[0]!;
  b.output(sum);
  b.output(b.node({ op: 'Identity', inputs: [x], outputs: ['same'] })[0]!);
  b.output(b.node({ op: 'Transpose', inputs: [sum], outputs: ['turned'] })[0]!);
  const graph = b.build();
  const run = referenceBackend.prepare(graph, nothing);
  const two = Tensor.of('f32', [
    [1, 2],
    [3, 4],
  ]);

  test('computes every output, as dense tensors that the caller owns', async () => {
    const outputs = await run.run({ x: two, y: two });
    expect(Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, tensor.toArray()]))).toEqual({
      sum: [
        [2, 4],
        [6, 8],
      ],
      same: [
        [1, 2],
        [3, 4],
      ],
      turned: [
        [2, 6],
        [4, 8],
      ],
    });
    const buffers = [two, ...Object.values(outputs)].map(tensor => tensor.buffer);
    expect(new Set(buffers).size).toBe(4);
    expect(Object.values(outputs).every(tensor => tensor.isContiguous)).toBe(true);
    expect(run.runSync({ x: two, y: two })).toEqual(outputs);
  });

  test('checks inputs before it computes', async () => {
    const code = (inputs: Readonly<Record<string, unknown>>): Promise<ErrorCode | undefined> =>
      codeOf(() => run.run(inputs as Readonly<Record<string, Tensor>>));
    expect(await code({ x: two })).toBe('INPUT_MISMATCH');
    expect(await code({ x: two, y: two, z: two })).toBe('INPUT_MISMATCH');
    expect(await code({ x: two, y: [1, 2] })).toBe('INPUT_MISMATCH');
    expect(await code({ x: two, y: two.cast('f64') })).toBe('DTYPE_MISMATCH');
    expect(await code({ x: two, y: two.reshape([4]) })).toBe('SHAPE_MISMATCH');
    expect(await code({ x: two, y: two.slice({ axis: 0, end: 1 }) })).toBe('SHAPE_MISMATCH');
    expect(() => run.runSync({ x: two, y: two.slice({ axis: 0, end: 1 }) })).toThrow(
      'input "y": expected shape [N,2] with N = 2, got [1,2]',
    );
  });

  test('takes inputs that are views', () => {
    const wide = Tensor.of('f32', [
      [1, 3],
      [2, 4],
    ]).transpose();
    expect(run.runSync({ x: wide, y: two })['sum']!.toArray()).toEqual([
      [2, 4],
      [6, 8],
    ]);
  });

  test('stops when it is told to', async () => {
    const gone = AbortSignal.abort();
    expect(await codeOf(() => run.run({ x: two, y: two }, { signal: gone }))).toBe('ABORTED');
    const controller = new AbortController();
    const started = run.run({ x: two, y: two }, { signal: controller.signal });
    controller.abort();
    expect(await codeOf(() => started)).toBe('ABORTED');
  });

  test('lets a timer stop it between two nodes', async () => {
    const long = new GraphBuilder('long');
    let value = long.input('x', { dtype: 'f32', shape: [1000] });
    for (let i = 0; i < 20_000; i++) value = long.node({ op: 'Tanh', inputs: [value] })[0]!;
    long.output(value);
    const slow = referenceBackend.prepare(long.build(), nothing);
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 1);
    expect(await codeOf(() => slow.run({ x: Tensor.zeros('f32', [1000]) }, { signal: controller.signal }))).toBe(
      'ABORTED',
    );
  });

  test('keeps its memory limit, and is closed when it is closed', async () => {
    const tight = referenceBackend.prepare(graph, { ...nothing, limitBytes: 20 });
    expect(await codeOf(() => tight.run({ x: two, y: two }))).toBe('OUT_OF_MEMORY');
    const done = referenceBackend.prepare(graph, nothing);
    done.close();
    done.close();
    expect(await codeOf(() => done.run({ x: two, y: two }))).toBe('CLOSED');
  });

  test('binds dimensions that are known in advance', async () => {
    const fixed = referenceBackend.prepare(graph, { ...nothing, dims: { N: 1 } });
    expect(await codeOf(() => fixed.run({ x: two, y: two }))).toBe('SHAPE_MISMATCH');
  });

  test('supports exactly what the table has', () => {
    for (const op of ['Relu', 'Conv', 'Loop']) {
      const node = { name: 'n', domain: '', op, opset: 17, inputs: [], outputs: [], attributes: {} };
      expect(referenceBackend.supports(node, [], []), op).toBe(OPERATORS.has(`:${op}`));
    }
  });
});
