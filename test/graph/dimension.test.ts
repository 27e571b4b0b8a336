import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  bindSizes,
  canonicalDim,
  type Dim,
  evaluateDim,
  exactQuotient,
  GraphBuilder,
  inferFacts,
  namesOf,
  productOf,
  substituteDim,
  sumOf,
} from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';

/** An expression as text, and what it is for given sizes. */
interface Expression {
  readonly text: string;
  readonly value: (sizes: Readonly<Record<string, number>>) => number;
}

const { expression } = fc.letrec<{ expression: Expression }>(tie => ({
  expression: fc.oneof(
    { maxDepth: 4, depthSize: 'small' },
    fc.nat(9).map((n): Expression => ({ text: `${n}`, value: () => n })),
    fc
      .constantFrom('n', 'm', 'seq-len', 'unk__4')
      .map((name): Expression => ({ text: name, value: sizes => sizes[name]! })),
    fc.tuple(fc.constantFrom('+', ' - ', '*'), tie('expression'), tie('expression')).map(
      ([sign, a, b]): Expression => ({
        text: `(${a.text}${sign}${b.text})`,
        value: sizes => {
          const [x, y] = [a.value(sizes), b.value(sizes)];
          return sign === '+' ? x + y : sign === '*' ? x * y : x - y;
        },
      }),
    ),
  ),
}));
const sizes = fc.record({ n: fc.nat(9), m: fc.nat(9), 'seq-len': fc.nat(9), unk__4: fc.nat(9) });

describe('a symbolic size', () => {
  test('has one spelling, which is worth what the expression is worth', () => {
    fc.assert(
      fc.property(expression, sizes, ({ text, value }, given) => {
        const dim = canonicalDim(text);
        fc.pre(dim !== text || text.length < 12); // past the bounds it stays a name
        expect(evaluateDim(dim, given)).toBe(value(given) + 0); // not -0
        expect(canonicalDim(String(dim))).toBe(dim);
      }),
      { numRuns: 1000 },
    );
  });

  test('is the same however it was computed', () => {
    const spellings = ['2*n+1', '1 + n*2', 'n+n+1', '(n+1)*2-1', '2*(n+1) - 1'];
    expect(new Set(spellings.map(canonicalDim))).toEqual(new Set(['2*n+1']));
    expect(canonicalDim('a*(b+c)')).toBe(canonicalDim('c*a+b*a'));
    expect(canonicalDim('4*n/2')).toBe('2*n');
    expect(canonicalDim('(n/2)*2')).toBe('2*(n/2)');
  });

  test('is a name where it is no expression: exporters write anything', () => {
    for (const name of ['batch size', 'input:0.0', 'seq-len', 'a..b', '?0', 'größe', '(', '1.5*n', 'a+', '\u0001']) {
      expect(canonicalDim(name)).toBe(name);
      expect(namesOf(name)).toEqual([name]);
    }
    expect(evaluateDim('batch size', { 'batch size': 3 })).toBe(3);
  });

  test('adds and multiplies as its values do, and divides only without rest', () => {
    fc.assert(
      fc.property(expression, expression, sizes, (a, b, given) => {
        const [x, y] = [canonicalDim(a.text), canonicalDim(b.text)];
        fc.pre(
          [x, y].every((dim, i) => typeof dim === 'number' || evaluateDim(dim, given) === [a, b][i]!.value(given)),
        );
        const [sum, product] = [sumOf([x, y]), productOf([x, y])];
        if (sum !== undefined) expect(evaluateDim(sum, given)).toBe(a.value(given) + b.value(given) + 0);
        if (product === undefined) return;
        expect(evaluateDim(product, given)).toBe(a.value(given) * b.value(given) + 0);
        const back = exactQuotient(product, y);
        if (back !== undefined && b.value(given) !== 0) expect(evaluateDim(back, given)).toBe(a.value(given) + 0);
      }),
    );
    expect(exactQuotient('6*a*b+3*a', '3*a')).toBe('2*b+1');
    expect(exactQuotient('a+1', 'a')).toBeUndefined();
    expect(exactQuotient('3*a', 2)).toBeUndefined();
    expect(exactQuotient('a', 0)).toBeUndefined();
    expect(substituteDim('2*n+m', { n: 4 })).toBe('m+8');
  });

  test('costs little, whatever its text is', () => {
    const hostile = [
      '('.repeat(10_000),
      `${'a+'.repeat(5000)}a`,
      `(${'(a+b)*'.repeat(30)}1)`,
      'f('.repeat(60),
      '9'.repeat(300),
      `${'a*'.repeat(90)}a`,
    ];
    const start = performance.now();
    for (const text of hostile) canonicalDim(text);
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'ab1()*+-/ ,.'), maxLength: 80 }), text => {
        const dim = canonicalDim(text);
        expect(canonicalDim(String(dim))).toBe(dim);
      }),
    );
    expect(performance.now() - start).toBeLessThan(5_000);
  });
});

describe('sizes from shapes', () => {
  test('come from names that stand alone, then from expressions of one unknown', () => {
    const found = bindSizes([
      { declared: ['batch', 'past+seq'], actual: [2, 9] },
      { declared: ['seq', 2], actual: [4, 2] },
    ]);
    expect([found.conflict, { ...found.sizes }]).toEqual([undefined, { batch: 2, seq: 4, past: 5 }]);
  });

  test('must agree, and each name have a size that can be', () => {
    const conflictOf = (...pairs: readonly (readonly [readonly Dim[], readonly number[]])[]): number | undefined =>
      bindSizes(pairs.map(([declared, actual]) => ({ declared, actual }))).conflict;
    expect(
      conflictOf([
        ['n', 'n'],
        [2, 3],
      ]),
    ).toBe(0);
    expect(conflictOf([['n'], [2]], [['2*n+1'], [6]])).toBe(1);
    expect(conflictOf([['n'], [2]], [['2*n+1'], [5]])).toBeUndefined();
    expect(conflictOf([['2*n'], [3]])).toBe(0);
    expect(conflictOf([['n+5'], [3]])).toBe(0);
    expect(conflictOf([['n'], [2, 2]])).toBe(0);
    expect(conflictOf([['a*b'], [6]], [['a*b'], [7]])).toBe(1);
  });

  test('never come from the prototype of a record', () => {
    expect(evaluateDim('constructor', {})).toBeUndefined();
    expect({ ...bindSizes([{ declared: ['__proto__', 'toString'], actual: [1, 2] }]).sizes }).toHaveProperty(
      'toString',
      2,
    );
  });
});

describe('inference with symbolic sizes', () => {
  const shapeOf = (build: (b: GraphBuilder) => number): readonly Dim[] => {
    const b = new GraphBuilder('g', { opset: 17 });
    return b.facts(build(b)).shape;
  };

  test('keeps sums, products and what cancels', () => {
    const input = (b: GraphBuilder, ...shape: Dim[]): number => b.input(`x${shape}`, { dtype: 'f32', shape });
    const concat = shapeOf(b => {
      const x = input(b, 'n', 2);
      return b.node({ op: 'Concat', inputs: [x, x, input(b, 1, 2)], attributes: { axis: 0 } })[0]!;
    });
    expect(concat).toEqual(['2*n+1', 2]);
    const folded = shapeOf(b => {
      const x = input(b, 'n', 'm', 6);
      const shape = b.constant('s', Tensor.of('i64', [-1, 3]));
      return b.node({ op: 'Reshape', inputs: [x, shape] })[0]!;
    });
    expect(folded).toEqual(['2*m*n', 3]);
    const convolved = shapeOf(b => {
      const w = b.constant('w', Tensor.zeros('f32', [4, 3, 3, 3]));
      const attributes = { pads: [1, 1, 0, 0] };
      return b.node({ op: 'Conv', inputs: [input(b, 'n', 3, 'h', 'w'), w], attributes })[0]!;
    });
    expect(convolved).toEqual(['n', 4, 'h-1', 'w-1']);
  });

  test('refuses sizes that never agree, with the node and both sides', () => {
    const b = new GraphBuilder('g');
    const x = b.input('x', { dtype: 'f32', shape: ['n', 'k+1'] });
    const y = b.input('y', { dtype: 'f32', shape: ['k', 4] });
    expect(() => b.node({ op: 'MatMul', inputs: [x, y], name: 'product' })).toThrow(
      /MatMul "product": .*k\+1.* and k differ/,
    );
  });

  test('computes expressions of the inputs when their names are bound', () => {
    const b = new GraphBuilder('g');
    const mask = b.input('mask', { dtype: 'f32', shape: ['batch', 'past + 1'] });
    b.output(b.node({ op: 'Neg', inputs: [mask] })[0]!);
    const graph = b.build();
    expect(graph.values[mask]!.facts.shape).toEqual(['batch', 'past+1']);
    const bound = inferFacts(graph, { dims: { past: 8 } });
    expect(bound.values[graph.outputs[0]!]!.facts.shape).toEqual(['batch', 9]);
    expect(() => inferFacts(graph, { dims: { future: 8 } })).toThrow(/no input .* "future"/);
  });
});
