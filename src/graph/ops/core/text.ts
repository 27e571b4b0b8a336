/**
 * Strings: StringConcat, StringSplit.
 * @module
 */
import { elementCount, Tensor } from '../../../tensor/index.ts';
import { zipInto } from '../loops.ts';
import { define, int, type Operator, type OperatorVersion, string } from '../operator.ts';

const stringConcat: OperatorVersion = {
  since: 20,
  inputs: [2, 2],
  outputs: [1, 1],
  attributes: {},
  infer: c => {
    c.expect(0, ['string']);
    c.expect(1, ['string']);
    return [{ dtype: 'string', shape: c.broadcast(c.input(0).shape, c.input(1).shape) }];
  },
  run: c => [zipInto(c.allocate(), c.operand(0), c.operand(1), (a, b) => a + b)],
};

/** Cuts `text` at most `most` times; the rest stays in one piece. Blank runs part words where there is no delimiter. */
function cut(text: string, delimiter: string, most: number): readonly string[] {
  const pieces: string[] = [];
  let rest = delimiter === '' ? text.trimStart() : text;
  while (pieces.length < most) {
    const at = delimiter === '' ? rest.search(/\s/) : rest.indexOf(delimiter);
    if (at < 0) break;
    pieces.push(rest.slice(0, at));
    rest = delimiter === '' ? rest.slice(at).trimStart() : rest.slice(at + delimiter.length);
  }
  if (delimiter !== '' || rest !== '') pieces.push(rest);
  return pieces;
}

/** The most pieces, those that fill up short rows counted too. */
const MAX_PIECES = 2 ** 26;

const stringSplit: OperatorVersion = {
  since: 20,
  inputs: [1, 1],
  outputs: [2, 2],
  attributes: { delimiter: string(), maxsplit: int() },
  infer: c => {
    c.expect(0, ['string']);
    const { shape } = c.input(0);
    return [
      { dtype: 'string', shape: [...shape, c.fresh()] },
      { dtype: 'i64', shape },
    ];
  },
  run: c => {
    const x = c.operand(0);
    const delimiter = c.has('delimiter') ? c.string('delimiter') : '';
    const most = c.has('maxsplit') && c.number('maxsplit') >= 0 ? c.number('maxsplit') : Number.POSITIVE_INFINITY;
    const rows = (x.values() as string[]).map(text => cut(text, delimiter, most));
    const width = rows.reduce((widest, row) => Math.max(widest, row.length), 0);
    // One long string makes every row as long.
    elementCount([...x.shape, width], MAX_PIECES);
    const texts = rows.flatMap(row => [...row, ...new Array<string>(width - row.length).fill('')]);
    const counts = BigInt64Array.from(rows, row => BigInt(row.length));
    return [Tensor.from('string', [...x.shape, width], texts), Tensor.from('i64', x.shape, counts)];
  },
};

/** The operators of this file. */
export const TEXT: readonly Operator[] = [
  define('StringConcat', 'elementwise', stringConcat),
  define('StringSplit', 'compute', stringSplit),
];
