import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Tensor } from '../../../../src/tensor/index.ts';
import { compute } from '../any-node.ts';
import { refusal } from '../one-node.ts';

test('StringConcat joins what broadcasts', () => {
  const y = compute('StringConcat', [Tensor.of('string', [['a'], ['b']]), Tensor.of('string', ['1', '2'])]);
  expect(y[0]!.toArray()).toEqual([
    ['a1', 'a2'],
    ['b1', 'b2'],
  ]);
  expect(refusal(() => compute('StringConcat', [Tensor.of('f32', [1]), Tensor.of('string', ['a'])]))).toContain(
    'string',
  );
});

test('StringSplit is undone by joining, and fills short rows with empty text', () => {
  fc.assert(
    fc.property(
      fc.array(fc.array(fc.constantFrom('a', '', 'bc', ' '), { minLength: 1, maxLength: 4 }), { maxLength: 4 }),
      rows => {
        const x = Tensor.from(
          'string',
          [rows.length],
          rows.map(row => row.join(',')),
        );
        const [pieces, counts] = compute('StringSplit', [x], { outputs: 2, attributes: { delimiter: ',' } });
        const width = Math.max(0, ...rows.map(row => row.length));
        expect(pieces!.shape).toEqual([rows.length, width]);
        expect(pieces!.toArray()).toEqual(rows.map(row => [...row, ...new Array(width - row.length).fill('')]));
        expect(counts!.toArray()).toEqual(rows.map(row => BigInt(row.length)));
      },
    ),
  );
});

test('StringSplit parts words at blanks without a delimiter, and stops when told', () => {
  const x = Tensor.of('string', ['  hello  wide world ', '', 'one']);
  const split = (attributes: Readonly<Record<string, number | string>>): unknown =>
    compute('StringSplit', [x], { outputs: 2, attributes })[0]!.toArray();
  expect(split({})).toEqual([
    ['hello', 'wide', 'world'],
    ['', '', ''],
    ['one', '', ''],
  ]);
  expect(split({ maxsplit: 1 })).toEqual([
    ['hello', 'wide world '],
    ['', ''],
    ['one', ''],
  ]);
});
