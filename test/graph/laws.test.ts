import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type NamedTensors, referenceBackend } from '../../src/engine/index.ts';
import { type Attribute, type Graph, inferFacts, OPERATORS, runNode } from '../../src/graph/index.ts';
import { broadcastShapes, type DType, Tensor } from '../../src/tensor/index.ts';
import { graphs } from '../suites/graphs.ts';
import { type Agreement, disagreement } from '../suites/passes.ts';
import { broadcastableShapes, DTYPE_NAMES, tensors } from '../suites/tensors.ts';

/** Output 0, or all, of one node at the newest opset. */
function all(
  op: string,
  inputs: readonly (Tensor | undefined)[],
  attributes: Record<string, Attribute> = {},
  outputs = 1,
) {
  const ids = inputs.map((tensor, i) => (tensor ? i : undefined));
  const made = Array.from({ length: outputs }, (_, i) => 100 + i);
  return runNode({ name: 'it', domain: '', op, opset: 24, inputs: ids, outputs: made, attributes }, inputs);
}
const op = (
  name: string,
  inputs: readonly (Tensor | undefined)[],
  attributes: Record<string, Attribute> = {},
): Tensor => all(name, inputs, attributes)[0]!;
const i64 = (...values: number[]): Tensor => Tensor.from('i64', [values.length], BigInt64Array.from(values, BigInt));
const same = (came: Tensor, wanted: Tensor, agreement: Agreement = 'bits'): void =>
  expect(disagreement({ y: came }, { y: wanted }, agreement)).toBeUndefined();
const law = <T>(of: fc.Arbitrary<T>, body: (value: T) => void): void =>
  fc.assert(
    fc.property(of, value => {
      body(value);
    }),
    { numRuns: 100 },
  );

const FLOATS: readonly DType[] = ['f32', 'f64', 'f16', 'bf16'];
const WIDE: readonly DType[] = ['f32', 'f64', 'i32', 'i64'];
const solid = { minRank: 1, minSize: 1 } as const;
/** A tensor and one of its axes. */
const withAxis = (dtypes: readonly DType[] = DTYPE_NAMES) =>
  fc.tuple(tensors({ dtypes, ...solid }), fc.nat()).map(([x, n]) => ({ x, axis: n % x.shape.length }));
/** `count` tensors of one dtype that broadcast to one shape. */
const together = (count: number, dtypes: readonly DType[]) =>
  fc
    .tuple(fc.constantFrom(...dtypes), broadcastableShapes(count))
    .chain(([dtype, of]) => fc.tuple(...of.map(shape => tensors({ dtypes: [dtype], shape }))));

describe('moving elements', () => {
  test('transposing there and back is nothing, and two transpositions are one', () => {
    const turned = tensors().chain(x => {
      const order = fc.shuffledSubarray(
        x.shape.map((_, i) => i),
        { minLength: x.shape.length },
      );
      return fc.record({ x: fc.constant(x), p: order, q: order });
    });
    law(turned, ({ x, p, q }) => {
      const once = op('Transpose', [x], { perm: p });
      same(op('Transpose', [once], { perm: p.map((_, i) => p.indexOf(i)) }), x);
      same(op('Transpose', [once], { perm: q }), op('Transpose', [x], { perm: q.map(i => p[i]!) }));
    });
  });
  test('reshaping twice is reshaping once, also from views', () => {
    law(tensors(solid), x => {
      const flat = op('Reshape', [x, i64(-1)]);
      same(op('Reshape', [flat, i64(...x.shape)]), x);
      same(op('Reshape', [op('Reshape', [x, i64(1, -1)]), i64(x.size)]), flat);
    });
  });
  test('broadcasting is expanding first', () => {
    law(together(2, WIDE), ([a, b]) => {
      const to = i64(...broadcastShapes(a!.shape, b!.shape));
      for (const name of ['Add', 'Sub', 'Mul', 'Min', 'Max'])
        same(op(name, [a, b]), op(name, [op('Expand', [a, to]), op('Expand', [b, to])]));
    });
  });
  test('a slice of a concatenation is what was concatenated, and Split then Concat is nothing', () => {
    law(withAxis(), ({ x, axis }) => {
      const n = x.shape[axis]!;
      const both = op('Concat', [x, x, x], { axis });
      same(op('Slice', [both, i64(n), i64(2 * n), i64(axis)]), x);
      for (const part of all('Split', [both, i64(n, n, n)], { axis }, 3)) same(part, x);
      const cut = Math.floor(n / 2);
      same(op('Concat', all('Split', [x, i64(cut, n - cut)], { axis }, 2), { axis }), x);
    });
  });
  test('padding and slicing it off is nothing, and so is reversing twice', () => {
    law(withAxis(WIDE), ({ x, axis }) => {
      const pads = [...x.shape.map((_, i) => i), ...x.shape.map(() => 2)];
      const padded = op('Pad', [x, i64(...pads)]);
      const [starts, ends] = [x.shape.map((_, i) => i), x.shape.map((size, i) => i + size)];
      same(op('Slice', [padded, i64(...starts), i64(...ends)]), x);
      const back = (of: Tensor): Tensor => op('Slice', [of, i64(-1), i64(-1000), i64(axis), i64(-1)]);
      same(back(back(x)), x);
    });
  });
  test('gathering a range is a slice, and gathering in a permutation and back is nothing', () => {
    law(withAxis(), ({ x, axis }) => {
      const n = x.shape[axis]!;
      const of = (v: number): Tensor => Tensor.of('i64', v);
      same(op('Gather', [x, op('Range', [of(0), of(n), of(1)])], { axis }), x);
      const turn = i64(...Array.from({ length: n }, (_, i) => (i + 1) % n));
      const back = i64(...Array.from({ length: n }, (_, i) => (i + n - 1) % n));
      same(op('Gather', [op('Gather', [x, turn], { axis }), back], { axis }), x);
    });
  });
  test('Unsqueeze then Squeeze, Identity, and Tile by ones are nothing', () => {
    law(withAxis(), ({ x, axis }) => {
      same(op('Squeeze', [op('Unsqueeze', [x, i64(axis)]), i64(axis)]), x);
      same(op('Identity', [x]), x);
      same(op('Tile', [x, i64(...x.shape.map(() => 1))]), x);
    });
  });
});

describe('arithmetic', () => {
  test('negating twice is nothing, in integers that wrap as well', () => {
    law(tensors({ dtypes: [...FLOATS, 'i8', 'i16', 'i32', 'i64'] }), x => same(op('Neg', [op('Neg', [x])]), x));
  });
  test('these commute, bit for bit where no NaN has a payload', () => {
    law(together(2, WIDE), ([a, b]) => {
      for (const name of ['Add', 'Mul', 'Min', 'Max', 'Equal']) same(op(name, [a, b]), op(name, [b, a]));
      same(op('Less', [a, b]), op('Greater', [b, a]));
      same(op('Not', [op('LessOrEqual', [a, b])]), op('Not', [op('GreaterOrEqual', [b, a])]));
    });
  });
  test('De Morgan, and exclusive or by its definition', () => {
    law(together(2, ['bool']), ([a, b]) => {
      const [na, nb] = [op('Not', [a]), op('Not', [b])];
      same(op('Not', [op('And', [a, b])]), op('Or', [na, nb]));
      same(op('Not', [op('Or', [a, b])]), op('And', [na, nb]));
      same(op('Xor', [a, b]), op('Or', [op('And', [a, nb]), op('And', [na, b])]));
    });
    law(together(2, ['u8', 'i16', 'u32', 'i64', 'u64']), ([a, b]) => {
      const not = (x: Tensor): Tensor => op('BitwiseNot', [x]);
      same(not(op('BitwiseAnd', [a, b])), op('BitwiseOr', [not(a!), not(b!)]));
    });
  });
  test('once is twice for what is idempotent', () => {
    law(tensors({ dtypes: FLOATS }), x => {
      for (const name of ['Relu', 'Abs', 'Floor', 'Ceil', 'Round', 'Sign']) {
        const once = op(name, [x]);
        same(op(name, [once]), once);
      }
    });
  });
  test('Where picks, and absorbs; Clip is Min of Max', () => {
    law(together(2, WIDE), ([a, b]) => {
      const [yes, no] = [Tensor.of('bool', true), Tensor.of('bool', false)];
      const to = i64(...broadcastShapes(a!.shape, b!.shape));
      same(op('Where', [yes, a, b]), op('Expand', [a, to]));
      same(op('Where', [no, a, b]), op('Expand', [b, to]));
      same(op('Max', [a, a]), a!);
    });
    law(tensors({ dtypes: WIDE, range: [-8, 8] }), x => {
      const [low, high] = [Tensor.of(x.dtype, -2), Tensor.of(x.dtype, 3)];
      same(op('Clip', [x, low, high]), op('Min', [op('Max', [x, low]), high]));
    });
  });
  test('a cast to a wider type and back is nothing', () => {
    const pairs: readonly (readonly [DType, number])[] = [
      ['f16', 1],
      ['bf16', 1],
      ['f32', 11],
      ['i8', 6],
      ['u8', 6],
      ['i16', 7],
      ['u16', 7],
      ['i32', 11],
      ['u32', 11],
      ['bool', 9],
    ];
    const onnx: Partial<Record<DType, number>> = {
      f16: 10,
      bf16: 16,
      f32: 1,
      i8: 3,
      u8: 2,
      i16: 5,
      u16: 4,
      i32: 6,
      u32: 12,
      bool: 9,
    };
    for (const [dtype, wider] of pairs)
      law(tensors({ dtypes: [dtype] }), x =>
        same(op('Cast', [op('Cast', [x], { to: wider })], { to: onnx[dtype]! }), x),
      );
  });
});

describe('reductions and products', () => {
  const range = [-4, 4] as const;
  test('reducing one axis after the other is reducing both', () => {
    law(tensors({ dtypes: WIDE, range, minRank: 2, minSize: 1 }), x => {
      for (const name of ['ReduceSum', 'ReduceMax', 'ReduceMin', 'ReduceProd']) {
        const keep = { keepdims: 1 };
        const split = op(name, [op(name, [x, i64(0)], keep), i64(1)], keep);
        same(split, op(name, [x, i64(0, 1)], keep), 'rounding');
      }
    });
  });
  test('(a b)ᵀ is bᵀ aᵀ, and (a b) c is a (b c)', () => {
    const matrices = fc
      .tuple(
        fc.constantFrom<DType>('f32', 'f64', 'i32'),
        fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 4, maxLength: 4 }),
      )
      .chain(([dtype, n]) =>
        fc.tuple(...[0, 1, 2].map(i => tensors({ dtypes: [dtype], range, shape: [n[i]!, n[i + 1]!] }))),
      );
    law(matrices, ([a, b, c]) => {
      const ab = op('MatMul', [a, b]);
      const t = (x: Tensor): Tensor => op('Transpose', [x]);
      same(t(ab), op('MatMul', [t(b!), t(a!)]), 'rounding');
      const [left, right] = [op('MatMul', [ab, c]), op('MatMul', [a, op('MatMul', [b, c])])];
      // Products of up to 4·4·4·25: the sum may cancel, so errors are relative to that.
      const [l, r] = [left.values().map(Number), right.values().map(Number)];
      l.forEach((value, i) => {
        expect(Math.abs(value - r[i]!)).toBeLessThan(1600 * 2 ** -20);
      });
    });
  });
  test('Softmax sums to 1 and does not see a shift', () => {
    law(fc.tuple(tensors({ dtypes: ['f64'], range, ...solid }), fc.integer({ min: -50, max: 50 })), ([x, shift]) => {
      const y = op('Softmax', [x], { axis: -1 });
      same(op('Softmax', [op('Add', [x, Tensor.of('f64', shift)])], { axis: -1 }), y, 'rounding');
      for (const sum of op('ReduceSum', [y, i64(-1)]).values()) expect(Number(sum)).toBeCloseTo(1, 12);
      same(op('Exp', [op('LogSoftmax', [x], { axis: -1 })]), y, 'rounding');
    });
  });
  test('TopK of everything sorts, and its indices gather what it found', () => {
    law(
      withAxis(['f32', 'f64', 'i32', 'i64']).filter(({ x }) => !x.values().some(v => Number.isNaN(v))),
      ({ x, axis }) => {
        const [values, indices] = all('TopK', [x, i64(x.shape[axis]!)], { axis }, 2);
        const close = op('GatherElements', [x, indices!], { axis });
        expect(
          op('Equal', [close, values!])
            .values()
            .every(value => value === 1),
        ).toBe(true);
        const order = [...x.shape.keys()].filter(i => i !== axis);
        const rows = op('Transpose', [values!], { perm: [...order, axis] })
          .values()
          .map(Number);
        const n = x.shape[axis]!;
        rows.forEach((value, i) => {
          if (i % n > 0) expect(rows[i - 1]).toBeGreaterThanOrEqual(value);
        });
      },
    );
  });
});

describe('random graphs over the whole table', () => {
  test('run to what was inferred, whatever the batch was called', () => {
    const used = new Set<string>();
    fc.assert(
      fc.property(graphs({ operators: OPERATORS, symbolic: true, maxSteps: 20 }), ({ graph, inputs }) => {
        for (const node of graph.nodes) used.add(node.op);
        const constants = { read: () => new Uint8Array() };
        const batch = inputs['x']!.shape[0]!;
        const bound = inferFacts(graph, { dims: { batch } });
        const run = (known: Graph) => referenceBackend.prepare(known, { constants }).runSync(inputs);
        let outputs: NamedTensors;
        try {
          outputs = run(graph);
        } catch (error) {
          // Without axes, Squeeze takes a batch of 1 away too, which nobody knows beforehand: the advice of the refusal helps.
          expect(batch).toBe(1);
          expect(error).toMatchObject({
            code: 'SHAPE_MISMATCH',
            detail: { op: 'Squeeze' },
            message: expect.stringContaining('fix the sizes that are unknown on import'),
          });
          outputs = run(bound);
        }
        for (const id of bound.outputs) {
          const { name, facts } = bound.values[id]!;
          expect(outputs[name]!.dtype).toBe(facts.dtype);
          const fits = facts.shape.every((dim, axis) => typeof dim === 'string' || dim === outputs[name]!.shape[axis]);
          expect([facts.shape.length, fits]).toEqual([outputs[name]!.shape.length, true]);
        }
      }),
      { numRuns: 300 },
    );
    expect(used.size).toBeGreaterThan(80);
  });
});
