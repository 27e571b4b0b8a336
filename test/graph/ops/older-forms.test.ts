import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { GraphBuilder } from '../../../src/graph/index.ts';
import { Tensor } from '../../../src/tensor/index.ts';
import { at, compute, indicesOf } from './any-node.ts';
import { distance, infer, random, refusal, run } from './one-node.ts';

const f32 = (values: Parameters<typeof Tensor.of>[1]): Tensor => Tensor.of('f32', values);
const i64 = (values: Parameters<typeof Tensor.of>[1]): Tensor => Tensor.of('i64', values);

describe('before opset 7', () => {
  test('the second operand stands at an axis of the first', () => {
    const [x, y] = [random(1, [2, 3, 4]), random(2, [3])];
    const old = compute('Sub', [x, y], { opset: 6, attributes: { broadcast: 1, axis: 1 } })[0]!;
    expect(distance(old, compute('Sub', [x, y.reshape([3, 1])])[0]!)).toBe(0);
    const at2 = compute('Greater', [x, random(3, [4])], { opset: 1, attributes: { broadcast: 1 } })[0]!;
    expect(at2.toArray()).toEqual(compute('Greater', [x, random(3, [4])])[0]!.toArray());
  });

  test('shapes that differ need the attribute, and fit inside', () => {
    const of = (y: Tensor, attributes = {}): string =>
      refusal(() => compute('Mul', [random(1, [2, 3]), y], { opset: 6, attributes }));
    expect(of(random(2, [3]))).toContain('broadcast is 0');
    expect(of(random(2, [3]), { broadcast: 1 })).toBe('none');
    expect(of(random(2, [3]), { broadcast: 1, axis: 0 })).toContain('differ');
    expect(of(random(2, [2, 3]), { broadcast: 1, axis: 1 })).toContain('cannot align');
    expect(of(random(2, [1, 2, 3]), { broadcast: 1 })).toContain('cannot broadcast');
  });

  test('Sum, Mean, Max and Min take no shapes that differ, up to opset 7', () => {
    const inputs = [Tensor.of('f32', [[1, 2]]), Tensor.of('f32', [3, 4])];
    for (const op of ['Sum', 'Mean', 'Max', 'Min']) {
      expect(refusal(() => run(op, inputs, { opset: 7 }))).toMatch(/before opset 8 all shapes must be the same/);
      expect(run(op, inputs, { opset: 8 })[0]!.shape).toEqual([1, 2]);
    }
  });

  test('PRelu has one slope, or one per channel', () => {
    const x = f32([
      [
        [-1, 2],
        [-3, -4],
      ],
    ]);
    expect(compute('PRelu', [x, f32([0.5, 2])], { opset: 6 })[0]!.toArray()).toEqual([
      [
        [-0.5, 2],
        [-6, -8],
      ],
    ]);
    expect(compute('PRelu', [x, f32([2])], { opset: 1 })[0]!.toArray()).toEqual([
      [
        [-2, 2],
        [-6, -8],
      ],
    ]);
    // From opset 7 on, slopes stand at the end.
    expect(compute('PRelu', [x, f32([0.5, 2])], { opset: 7 })[0]!.toArray()).toEqual([
      [
        [-0.5, 2],
        [-1.5, -8],
      ],
    ]);
    expect(refusal(() => compute('PRelu', [x, f32([1, 2, 3])], { opset: 6 }))).toContain('slopes and channels');
    expect(refusal(() => compute('PRelu', [x, random(1, [2, 1, 2], 'f32')]))).toContain('does not broadcast into');
    expect(compute('PRelu', [Tensor.of('i64', [-2n, 3n]), i64([3])])[0]!.toArray()).toEqual([-6n, 3n]);
  });

  test('Tile repeats one axis', () => {
    const x = f32([[1, 2]]);
    expect(compute('Tile', [x, f32(2), f32(1)], { opset: 1 })[0]!.toArray()).toEqual([[1, 2, 1, 2]]);
    expect(refusal(() => compute('Tile', [x, f32(1.5), f32(0)], { opset: 1 }))).toContain('number of tiles');
  });

  test('Split takes its sizes as floats, Concat stands at axis 1, Reshape has an attribute', () => {
    const x = f32([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    const parts = compute('Split', [x, f32([1, 2])], { opset: 1, outputs: 2, attributes: { axis: 1 } });
    expect(parts.map(part => part.toArray())).toEqual([
      [[1], [4]],
      [
        [2, 3],
        [5, 6],
      ],
    ]);
    expect(compute('Concat', parts, { opset: 1 })[0]!.toArray()).toEqual(x.toArray());
    expect(compute('Reshape', [x], { opset: 1, attributes: { shape: [-1, 2] } })[0]!.shape).toEqual([3, 2]);
    expect(refusal(() => compute('Reshape', [x], { opset: 1 }))).toContain('attribute shape is missing');
  });

  test('Selu has five digits, and Clip the bounds of float32 from opset 6 to 10', () => {
    expect(compute('Selu', [Tensor.of('f64', [1])], { opset: 1 })[0]!.toArray()).toEqual([1.0507]);
    expect(compute('Selu', [Tensor.of('f64', [1])], { opset: 6 })[0]!.toArray()).toEqual([1.0507010221481323]);
    const infinite = f32([Infinity, -Infinity]);
    const largest = 3.4028234663852886e38;
    expect(compute('Clip', [infinite], { opset: 6 })[0]!.toArray()).toEqual([largest, -largest]);
    expect(compute('Clip', [infinite], { opset: 11 })[0]!.toArray()).toEqual([Infinity, -Infinity]);
  });
});

describe('Split', () => {
  test('cuts evenly, and from opset 18 on with a smaller last part', () => {
    const x = random(1, [7]);
    const parts = compute('Split', [x], { opset: 18, outputs: 3, attributes: { num_outputs: 3 } });
    expect(parts.map(({ size }) => size)).toEqual([3, 3, 1]);
    expect(compute('Concat', parts, { attributes: { axis: 0 } })[0]!.toArray()).toEqual(x.toArray());
    expect(refusal(() => compute('Split', [x], { opset: 13, outputs: 3 }))).toContain(
      'cannot cut 7 into 3 equal parts',
    );
    expect(
      refusal(() => compute('Split', [x, i64([3, 4])], { opset: 18, outputs: 2, attributes: { num_outputs: 2 } })),
    ).toContain('num_outputs');
  });
});

describe('Dropout', () => {
  test('drops nothing at a ratio of 0, even in training, and is refused at any other', () => {
    const x = random(1, [2, 2], 'f32');
    const yes = Tensor.of('bool', 1);
    const [y, mask] = compute('Dropout', [x, Tensor.of('f32', 0), yes], { outputs: 2 });
    expect([y!.toArray(), mask!.toArray()]).toEqual([
      x.toArray(),
      [
        [1, 1],
        [1, 1],
      ],
    ]);
    expect(refusal(() => compute('Dropout', [x, Tensor.of('f32', 0.1), yes]))).toMatch(
      /^UNSUPPORTED_MODEL.*ratio of 0.1/,
    );
    expect(refusal(() => compute('Dropout', [x, undefined, yes]))).toContain('ratio of 0.5');
    expect(compute('Dropout', [x, undefined, Tensor.of('bool', 0)])[0]!.toArray()).toEqual(x.toArray());
    expect(compute('Dropout', [x], { opset: 7, outputs: 2 })[1]!.dtype).toBe('f32');
    expect(compute('Dropout', [x], { opset: 10, outputs: 2 })[1]!.dtype).toBe('bool');
  });
});

describe('arithmetic', () => {
  test('powers of integers are exact modulo their width', () => {
    fc.assert(
      fc.property(fc.integer(), fc.nat(60), (base, exponent) => {
        const wanted = BigInt(base) ** BigInt(exponent);
        const both = (a: 'i32' | 'i64' | 'u8', b: 'i32' | 'i64' | 'f64'): unknown =>
          compute('Pow', [Tensor.of(a, [BigInt(base)]), Tensor.of(b, [exponent])])[0]!.values()[0];
        expect(both('i32', 'i32')).toBe(Number(BigInt.asIntN(32, wanted)));
        expect(both('i32', 'i64')).toBe(Number(BigInt.asIntN(32, wanted)));
        expect(both('i64', 'i32')).toBe(BigInt.asIntN(64, wanted));
        expect(both('i64', 'i64')).toBe(BigInt.asIntN(64, wanted));
      }),
    );
    expect(compute('Pow', [f32([2]), i64([3])])[0]!.toArray()).toEqual([8]);
    expect(compute('Pow', [Tensor.of('i32', [4]), f32([0.5])])[0]!.toArray()).toEqual([2]);
  });

  test('Mod takes the sign of the divisor, fmod that of the dividend, and floats have fmod alone', () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer().filter(Boolean), (a, b) => {
        for (const dtype of ['i32', 'i64'] as const) {
          const inputs = [Tensor.of(dtype, [BigInt(a)]), Tensor.of(dtype, [BigInt(b)])];
          const of = (fmod: number): number => Number(compute('Mod', inputs, { attributes: { fmod } })[0]!.values()[0]);
          expect(of(1) + 0).toBe((a % b) + 0);
          expect(of(0) + 0).toBe(a - Math.floor(a / b) * b + 0);
        }
      }),
    );
    expect(compute('Mod', [f32([-4.5]), f32([2])], { attributes: { fmod: 1 } })[0]!.toArray()).toEqual([-0.5]);
    expect(refusal(() => compute('Mod', [f32([1]), f32([2])]))).toContain('only fmod 1');
  });
});

describe('reductions', () => {
  test('of nothing are the least, the largest, or the neutral element of the dtype', () => {
    const of = (op: string, dtype: 'f32' | 'i8' | 'u16' | 'i64' | 'u64' | 'bool'): unknown =>
      compute(op, [Tensor.zeros(dtype, [0])], { attributes: { keepdims: 0 } })[0]!.toArray();
    expect((['f32', 'i8', 'u16', 'i64', 'u64', 'bool'] as const).map(dtype => of('ReduceMax', dtype))).toEqual([
      -Infinity,
      -128,
      0,
      -(2n ** 63n),
      0n,
      0,
    ]);
    expect((['f32', 'i8', 'u16', 'i64', 'u64', 'bool'] as const).map(dtype => of('ReduceMin', dtype))).toEqual([
      Infinity,
      127,
      65535,
      2n ** 63n - 1n,
      2n ** 64n - 1n,
      1,
    ]);
    expect([of('ReduceSum', 'f32'), of('ReduceProd', 'i64'), of('ReduceLogSum', 'f32')]).toEqual([0, 1n, -Infinity]);
  });

  test('wrap in integers, and give roots and logarithms as whole numbers', () => {
    const of = (op: string, x: Tensor): unknown => compute(op, [x], { attributes: { keepdims: 0 } })[0]!.toArray();
    expect(of('ReduceProd', Tensor.of('i32', [123456789, 987654321, 3]))).toBe(
      Number(BigInt.asIntN(32, 123456789n * 987654321n * 3n)),
    );
    expect(of('ReduceSumSquare', Tensor.of('u32', [4294967295, 65537]))).toBe(
      Number(BigInt.asUintN(32, 4294967295n ** 2n + 65537n ** 2n)),
    );
    expect(of('ReduceSum', Tensor.of('i8', [100, 100]))).toBe(-56);
    expect(of('ReduceL2', Tensor.of('i32', [3, 4]))).toBe(5);
    expect(of('ReduceL2', i64([6n, 8n]))).toBe(10n);
    expect(of('ReduceLogSum', i64([50n, 50n]))).toBe(4n);
    expect(of('ReduceLogSumExp', Tensor.of('i32', [3, 3]))).toBe(3);
    expect(of('ReduceMean', i64([1n, 2n]))).toBe(1n);
  });

  test('over no axes leave the shape and still apply their function', () => {
    const form = { attributes: { noop_with_empty_axes: 1 } };
    expect(compute('ReduceSum', [f32([1, -2])], form)[0]!.toArray()).toEqual([1, -2]);
    expect(compute('ReduceSumSquare', [f32([1, -2]), i64([])], form)[0]!.toArray()).toEqual([1, 4]);
    expect(compute('ReduceSum', [f32([1, -2]), i64([])])[0]!.toArray()).toEqual([-1]);
  });
});

describe('text', () => {
  const letters = Tensor.of('string', [
    ['a', 'b'],
    ['c', 'd'],
  ]);

  test('goes through whatever only moves elements', () => {
    const of = (op: string, inputs: readonly Tensor[], attributes = {}): unknown =>
      compute(op, inputs, { attributes })[0]!.toArray();
    expect(of('Identity', [letters])).toEqual([
      ['a', 'b'],
      ['c', 'd'],
    ]);
    expect(of('Transpose', [letters])).toEqual([
      ['a', 'c'],
      ['b', 'd'],
    ]);
    expect(of('Concat', [letters, letters], { axis: 1 })).toEqual([
      ['a', 'b', 'a', 'b'],
      ['c', 'd', 'c', 'd'],
    ]);
    expect(of('Slice', [letters, i64([1]), i64([2])])).toEqual([['c', 'd']]);
    expect(of('Tile', [letters, i64([1, 2])])).toEqual([
      ['a', 'b', 'a', 'b'],
      ['c', 'd', 'c', 'd'],
    ]);
    expect(of('Expand', [Tensor.of('string', ['x']), i64([2, 2])])).toEqual([
      ['x', 'x'],
      ['x', 'x'],
    ]);
    expect(of('Reshape', [letters, i64([4])])).toEqual(['a', 'b', 'c', 'd']);
    expect(of('Where', [Tensor.of('bool', [1, 0]), letters, Tensor.of('string', '-')])).toEqual([
      ['a', '-'],
      ['c', '-'],
    ]);
    expect(of('Equal', [letters, Tensor.of('string', ['a', 'd'])])).toEqual([
      [1, 0],
      [0, 1],
    ]);
    expect(of('Shape', [letters])).toEqual([2n, 2n]);
    expect(of('Size', [letters])).toBe(4n);
    expect(of('Unsqueeze', [letters, i64([0])])).toEqual([
      [
        ['a', 'b'],
        ['c', 'd'],
      ],
    ]);
  });

  test('is a constant, one word or a list', () => {
    expect(compute('Constant', [], { attributes: { value_string: 'hello' } })[0]!.toArray()).toBe('hello');
    expect(compute('Constant', [], { attributes: { value_strings: ['a', 'b'] } })[0]!.toArray()).toEqual(['a', 'b']);
    expect(refusal(() => compute('Constant', [], { attributes: { value_string: 'a', value_int: 1 } }))).toContain(
      'got 2',
    );
    expect(refusal(() => compute('Add', [letters, letters]))).toContain('expected one of');
  });
});

test('with allowzero a 0 is a size, beside which -1 says nothing', () => {
  const none = Tensor.zeros('f32', [0, 3]);
  expect(compute('Reshape', [none, i64([3, 0])], { attributes: { allowzero: 1 } })[0]!.shape).toEqual([3, 0]);
  expect(compute('Reshape', [none, i64([0, 0])])[0]!.shape).toEqual([0, 3]);
  expect(refusal(() => compute('Reshape', [none, i64([0, -1])], { attributes: { allowzero: 1 } }))).toContain(
    'say nothing',
  );
});

describe('symbolic sizes', () => {
  /** The facts of `op` on a list of `N` elements and what `more` adds, where sizes and constants are known. */
  function sizes(build: (b: GraphBuilder, x: number) => number): readonly (number | string)[] {
    const b = new GraphBuilder('sizes', { opset: 18 });
    const id = build(b, b.input('x', { dtype: 'f32', shape: ['N', 8] }));
    return b.facts(id).shape;
  }
  let count = 0;
  const list = (b: GraphBuilder, ...values: readonly number[]): number => b.constant(`list${count++}`, i64(values));
  const sizeOf = (b: GraphBuilder, x: number): number => {
    const shape = b.node({ op: 'Shape', inputs: [x] })[0]!;
    return b.node({ op: 'Gather', inputs: [shape, b.constant('zero', i64(0))] })[0]!;
  };

  test('survive a Slice to the end, and a Range up to them', () => {
    expect(sizes((b, x) => b.node({ op: 'Slice', inputs: [x, list(b, 0, 2), list(b, 2 ** 31 - 1, 6)] })[0]!)).toEqual([
      'N',
      4,
    ]);
    const range = sizes((b, x) => {
      const [zero, one] = [b.constant('from', i64(0)), b.constant('by', i64(1))];
      return b.node({ op: 'Range', inputs: [zero, sizeOf(b, x), one] })[0]!;
    });
    expect(range).toEqual(['N']);
  });

  test('survive being cut out of a shape, from any place and backwards', () => {
    const cut = (from: number, to: number, step: number): readonly (number | string)[] =>
      sizes((b, x) => {
        const wide = b.node({ op: 'Unsqueeze', inputs: [x, list(b, 0)] })[0]!;
        const shape = b.node({ op: 'Shape', inputs: [wide] })[0]!;
        const part = b.node({
          op: 'Slice',
          inputs: [shape, list(b, from), list(b, to), list(b, 0), list(b, step)],
        })[0]!;
        return b.node({ op: 'ConstantOfShape', inputs: [part] })[0]!;
      });
    expect(cut(1, 3, 1)).toEqual(['N', 8]);
    expect(cut(-1, -(2 ** 40), -1)).toEqual([8, 'N', 1]);
    expect(cut(0, 3, 2)).toEqual([1, 8]);
  });

  test('name the same cut of the same size the same', () => {
    const cut = (b: GraphBuilder, x: number): number => {
      const end = b.node({ op: 'Unsqueeze', inputs: [sizeOf(b, x), list(b, 0)] })[0]!;
      const mask = b.constant('mask', random(1, [16, 16], 'f32'));
      const y = b.node({ op: 'Slice', inputs: [mask, list(b, 0), end, list(b, 0)] })[0]!;
      return b.node({ op: 'Concat', inputs: [y, y], attributes: { axis: 1 } })[0]!;
    };
    const shape = sizes(cut);
    expect(shape).toEqual([shape[0], 32]);
    expect(shape[0]).toContain('N');
  });

  test('are divided by Split', () => {
    const split =
      (opset: number, op: (parts: readonly (number | undefined)[]) => number) => (b: GraphBuilder, x: number) =>
        op(b.node({ op: 'Split', opset, inputs: [x], outputs: ['p', 'q'] }));
    expect(sizes(split(13, ([p]) => p!))).toEqual(['(N/2)', 8]);
    expect(sizes(split(13, ([, q]) => q!))).toEqual(['(N/2)', 8]);
    expect(sizes(split(18, ([p]) => p!))).not.toEqual(sizes(split(18, ([, q]) => q!)));
  });
});

test('Slice leaves the sizes of axes that it does not name, where cuts are not known', () => {
  const list = { dtype: 'i64', shape: [1] } as const;
  const b = infer('Slice', [{ dtype: 'f32', shape: ['N', 4] }, list, list]);
  expect(b[0]!.shape.every(dim => typeof dim === 'string' && dim !== 'N')).toBe(true);
});

test('Range counts in every dtype that has steps', () => {
  for (const dtype of ['f32', 'f64', 'i16', 'i32', 'i64', 'f16', 'bf16'] as const) {
    const of = (value: number): Tensor => Tensor.of(dtype, value);
    expect(
      compute('Range', [of(10), of(3), of(-3)])[0]!
        .values()
        .map(Number),
      dtype,
    ).toEqual([10, 7, 4]);
    expect(compute('Range', [of(0), of(0), of(1)])[0]!.shape).toEqual([0]);
    expect(refusal(() => compute('Range', [of(0), of(1), of(0)]))).toContain('never ends');
  }
  expect(refusal(() => compute('Range', [f32(0), f32(Infinity), f32(1)]))).toContain('cannot exist');
});

test('Gelu knows two forms and refuses a third', () => {
  const x = Tensor.of('f64', [1]);
  const of = (approximate: string): number =>
    compute('Gelu', [x], { attributes: { approximate } })[0]!.values()[0] as number;
  expect(of('none')).toBeCloseTo(0.8413447460685429, 14);
  expect(of('tanh')).toBeCloseTo(0.8411919906082768, 14);
  expect(refusal(() => of('sigmoid'))).toContain('expected none or tanh');
});

test('Shrink and Erf serve integers', () => {
  expect(
    compute('Shrink', [Tensor.of('i32', [-3, 0, 3])], { attributes: { bias: 1, lambd: 1.5 } })[0]!.toArray(),
  ).toEqual([-2, 0, 2]);
  expect(compute('Shrink', [i64([-3, 0, 3])], { attributes: { bias: 1, lambd: 1.5 } })[0]!.toArray()).toEqual([
    -2n,
    0n,
    2n,
  ]);
  expect(compute('Erf', [i64([-9, 0, 9])])[0]!.toArray()).toEqual([-1n, 0n, 1n]);
});

test('Where picks element by element, as far as three shapes broadcast', () => {
  const side = fc.constantFrom([], [1], [3], [2, 1], [2, 3]);
  fc.assert(
    fc.property(side, side, side, (a, b, c) => {
      const pick = random(1, a).cast('f32');
      const mask = compute('Greater', [pick, f32(0)])[0]!;
      const [x, y] = [random(2, b), random(3, c)];
      const [out] = compute('Where', [mask, x, y]);
      const reach = (tensor: Tensor): Tensor => tensor.expand(out!.shape).clone();
      for (const index of indicesOf(out!.shape)) {
        expect(at(out!, index)).toBe(at(reach(mask), index) ? at(reach(x), index) : at(reach(y), index));
      }
    }),
  );
});
