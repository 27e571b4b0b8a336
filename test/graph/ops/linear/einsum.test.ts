import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Tensor } from '../../../../src/tensor/index.ts';
import { at, compute, indicesOf } from '../any-node.ts';
import { distance, infer, random, refusal } from '../one-node.ts';

const einsum = (equation: string, ...operands: readonly Tensor[]): Tensor =>
  compute('Einsum', operands, { attributes: { equation } })[0]!;

/** One loop over every label at once. */
function slow(
  terms: readonly string[],
  result: string,
  sizes: Readonly<Record<string, number>>,
  operands: readonly Tensor[],
) {
  const labels = [...new Set([...result, ...terms.join('')])];
  const out = Tensor.zeros(
    'f64',
    [...result].map(label => sizes[label]!),
  );
  for (const index of indicesOf(labels.map(label => sizes[label]!))) {
    const where = (term: string): number[] => [...term].map(label => index[labels.indexOf(label)]!);
    const product = terms.reduce((p, term, i) => p * (at(operands[i]!, where(term)) as number), 1);
    const flat = where(result).reduce((sum, i, axis) => sum * out.shape[axis]! + i, 0);
    out.data[flat] = out.data[flat]! + product;
  }
  return out;
}

const term = fc.array(fc.constantFrom(...'abcd'), { maxLength: 3 }).map(letters => letters.join(''));

describe('Einsum', () => {
  test('equals one loop over all its labels', () => {
    fc.assert(
      fc.property(fc.array(term, { minLength: 1, maxLength: 4 }), fc.nat(), fc.nat(99), (terms, pick, seed) => {
        const sizes = { a: 2, b: 3, c: 1, d: 2 };
        const used = [...new Set(terms.join(''))];
        const result = used.filter((_, i) => (pick >> i) & 1).join('');
        const operands = terms.map((text, i) =>
          random(
            seed + i,
            [...text].map(label => sizes[label as 'a']),
          ),
        );
        const y = einsum(`${terms.join(' , ')}->${result}`, ...operands);
        expect(distance(y, slow(terms, result, sizes, operands))).toBeLessThan(1e-12);
      }),
    );
  });

  test('is what other operators are', () => {
    const [a, b] = [random(1, [2, 3, 4]), random(2, [2, 4, 5])];
    expect(distance(einsum('bij,bjk->bik', a, b), compute('MatMul', [a, b])[0]!)).toBeLessThan(1e-14);
    expect(distance(einsum('...ij,...jk', a, b), compute('MatMul', [a, b])[0]!)).toBeLessThan(1e-14);
    expect(distance(einsum('ijk->kij', a), a.transpose([2, 0, 1]))).toBe(0);
    expect(
      einsum(
        'ii->i',
        Tensor.of('f32', [
          [1, 2],
          [3, 4],
        ]),
      ).toArray(),
    ).toEqual([1, 4]);
    expect(
      einsum(
        'ii',
        Tensor.of('f32', [
          [1, 2],
          [3, 4],
        ]),
      ).toArray(),
    ).toBe(5);
    expect(einsum('i,i', Tensor.of('i64', [2n ** 40n, 3n]), Tensor.of('i64', [2n ** 20n, 5n])).toArray()).toBe(
      2n ** 60n + 15n,
    );
  });

  test('puts the letters that stand once in order of the alphabet', () => {
    expect(einsum('ba', random(1, [2, 3])).shape).toEqual([3, 2]);
    expect(einsum('zB,yz', random(1, [2, 3]), random(2, [4, 2])).shape).toEqual([3, 4]);
  });

  test('stretches sizes of 1 and aligns ellipses at their ends', () => {
    const [x, y] = [random(1, [2, 1, 3]), random(2, [4, 3])];
    expect(distance(einsum('...,...->...', x, y), compute('Mul', [x, y])[0]!)).toBe(0);
    expect(
      distance(
        einsum('...i->...', x),
        compute('ReduceSum', [x, Tensor.of('i64', [2])], { attributes: { keepdims: 0 } })[0]!,
      ),
    ).toBeLessThan(1e-15);
    const outer = einsum('i...,j...->ij...', random(3, [2, 3]), random(4, [5, 1]));
    expect(outer.shape).toEqual([2, 5, 3]);
  });

  test('sums empty axes to zero', () => {
    expect(einsum('ij->i', Tensor.zeros('f32', [2, 0])).toArray()).toEqual([0, 0]);
    expect(einsum('ij,jk->ik', Tensor.zeros('f32', [2, 0]), Tensor.zeros('f32', [0, 1])).toArray()).toEqual([[0], [0]]);
    expect(einsum('ij,jk->ik', Tensor.zeros('f32', [0, 2]), Tensor.zeros('f32', [2, 1])).shape).toEqual([0, 1]);
  });

  test('sums a label as soon as nothing needs it, so that a chain of many factors stays small', () => {
    const letters = 'abcdefghijklmnopqrstuvwxyz';
    const terms = [...letters].slice(0, -1).map((letter, i) => letter + letters[i + 1]);
    const factors = terms.map((_, i) => random(i, [9, 9]));
    // A loop over all labels at once would take 9^26 steps.
    const y = einsum(`${terms.join(',')}->az`, ...factors);
    const wanted = factors.reduce((product, factor) => compute('MatMul', [product, factor])[0]!);
    expect(distance(y, wanted)).toBeLessThan(1e-6 * Math.max(...(wanted.values() as number[]).map(Math.abs), 1));
  });

  test('refuses an intermediate result that is much larger than what comes in and goes out', () => {
    const [list, square] = [Tensor.of('f32', 1).expand([300]), Tensor.of('f32', 1).expand([300, 300])];
    expect(refusal(() => einsum('a,b,c,ab,bc,ca->', list, list, list, square, square, square))).toMatch(
      /^UNSUPPORTED_MODEL: Einsum "it": an intermediate result/,
    );
  });

  test('leaves an axis of 1 out of the work', () => {
    const list = Tensor.of('f64', 1).expand([3000]);
    expect(einsum('a,b,c,abc->', list, list, list, Tensor.of('f64', 2).expand([3000, 1, 1])).toArray()).toBe(
      2 * 3000 ** 3,
    );
  });

  test('refuses equations that it cannot read or that do not fit', () => {
    const x = random(1, [2, 3]);
    const of = (equation: string, ...more: readonly Tensor[]): string => refusal(() => einsum(equation, x, ...more));
    expect(of('ij,jk->ik')).toContain('2 terms for 1 inputs');
    expect(of('ijk->i')).toContain('term 0 "ijk" for [2,3]');
    expect(of('i1->i')).toContain('cannot read');
    expect(of('i.j->i')).toContain('cannot read');
    expect(of('......->')).toContain('cannot read');
    expect(of('ij->k')).toContain('no operand has the label k');
    expect(of('ij->ii')).toContain('names a label twice');
    expect(of('ij->i->j')).toContain('terms');
    expect(of('ij,jk->ik', random(2, [2, 2]))).toContain('sizes 3 and 2 differ');
  });

  test('keeps symbolic sizes', () => {
    const [facts] = infer(
      'Einsum',
      [
        { dtype: 'f32', shape: ['B', 'H', 'T', 64] },
        { dtype: 'f32', shape: ['B', 'H', 'S', 64] },
      ],
      { attributes: { equation: 'bhtd,bhsd->bhts' } },
    );
    expect(facts!.shape).toEqual(['B', 'H', 'T', 'S']);
  });
});
