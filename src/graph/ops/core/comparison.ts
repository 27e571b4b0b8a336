/**
 * Comparison, logic and choice: Equal, Less, Greater and their closures, And, Or, Xor, Not, Where, IsNaN, IsInf.
 * @module
 */
import { type DType, formatShape, Tensor } from '../../../tensor/index.ts';
import type { Facts } from '../../graph.ts';
import { mapInto, type Numbers, zipInto } from '../loops.ts';
import {
  ANY,
  define,
  FLOATS,
  from,
  type InferContext,
  int,
  NUMBERS,
  type Operator,
  type OperatorVersion,
} from '../operator.ts';
import { LEGACY_BROADCAST, legacyShape } from './arithmetic.ts';

/** JavaScript compares bigints and strings with these operators too, so one function serves every dtype. */
type Predicate = (a: number, b: number) => number;

function inferPredicate(dtypes: readonly DType[]): (c: InferContext) => readonly Facts[] {
  return c => {
    c.expect(0, dtypes);
    c.sameDType(0, 1);
    return [{ dtype: 'bool', shape: c.broadcast(c.input(0).shape, c.input(1).shape) }];
  };
}

function predicate(name: string, dtypes: readonly DType[], test: Predicate, since: number): Operator {
  const modern: OperatorVersion = {
    since: Math.max(since, 7),
    inputs: [2, 2],
    outputs: [1, 1],
    attributes: {},
    infer: inferPredicate(dtypes),
    run: c => [zipInto(c.allocate(), c.operand(0), c.operand(1), test)],
  };
  if (since > 1) return define(name, 'elementwise', modern);
  const legacy = from(1, modern, {
    attributes: LEGACY_BROADCAST,
    infer: c => {
      c.expect(0, dtypes);
      c.sameDType(0, 1);
      const { shape } = c.input(0);
      if (c.broadcast(shape, legacyShape(c)).some((dim, i) => c.differ(dim, shape[i]!))) {
        c.fail(`${formatShape(c.input(1).shape)} does not broadcast into ${formatShape(shape)}`);
      }
      return [{ dtype: 'bool', shape }];
    },
    run: c => [zipInto(c.allocate(), c.operand(0), c.operand(1).reshape(legacyShape(c) as readonly number[]), test)],
  });
  return define(name, 'elementwise', legacy, modern);
}

const where: OperatorVersion = {
  since: 9,
  inputs: [3, 3],
  outputs: [1, 1],
  attributes: {},
  infer: c => {
    c.expect(0, ['bool']);
    c.expect(1, ANY);
    c.sameDType(1, 2);
    const shape = c.broadcast(c.broadcast(c.input(0).shape, c.input(1).shape), c.input(2).shape);
    return [{ dtype: c.input(1).dtype, shape }];
  },
  run: c => {
    const out = c.allocate();
    const to = out.data as Numbers;
    const [pick, yes, no] = [0, 1, 2].map(i => c.operand(i).expand(c.shape()).elements() as Numbers);
    for (let i = 0; i < to.length; i++) to[i] = pick![i] ? yes![i]! : no![i]!;
    return [out];
  },
};

const not: OperatorVersion = {
  since: 1,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: {},
  infer: c => {
    c.expect(0, ['bool']);
    return [c.input(0)];
  },
  run: c => [mapInto(c.allocate(), c.operand(0), x => (x ? 0 : 1))],
};

/** A question asked of each float: the answer is a bool. */
function question(
  name: string,
  since: number,
  attributes: OperatorVersion['attributes'],
  ask: (positive: boolean, negative: boolean) => (x: number) => number,
): Operator {
  return define(name, 'elementwise', {
    since,
    inputs: [1, 1],
    outputs: [1, 1],
    attributes,
    infer: c => {
      c.expect(0, FLOATS);
      return [{ dtype: 'bool', shape: c.input(0).shape }];
    },
    run: c => {
      const flag = (attribute: string): boolean => c.has(attribute) && c.number(attribute) !== 0;
      const test = ask(flag('detect_positive'), flag('detect_negative'));
      return [mapInto(Tensor.zeros('bool', c.shape()), c.operand(0), test)];
    },
  });
}

/** The operators of this file. */
export const COMPARISON: readonly Operator[] = [
  predicate('Equal', ANY, (a, b) => (a === b ? 1 : 0), 1),
  predicate('Less', NUMBERS, (a, b) => (a < b ? 1 : 0), 1),
  predicate('Greater', NUMBERS, (a, b) => (a > b ? 1 : 0), 1),
  predicate('LessOrEqual', NUMBERS, (a, b) => (a <= b ? 1 : 0), 12),
  predicate('GreaterOrEqual', NUMBERS, (a, b) => (a >= b ? 1 : 0), 12),
  predicate('And', ['bool'], (a, b) => a & b, 1),
  predicate('Or', ['bool'], (a, b) => a | b, 1),
  predicate('Xor', ['bool'], (a, b) => a ^ b, 1),
  define('Not', 'elementwise', not),
  define('Where', 'elementwise', where),
  question('IsNaN', 9, {}, () => x => (Number.isNaN(x) ? 1 : 0)),
  question('IsInf', 10, { detect_negative: int(1), detect_positive: int(1) }, (positive, negative) => x => {
    if (x === Number.POSITIVE_INFINITY) return positive ? 1 : 0;
    return x === Number.NEGATIVE_INFINITY && negative ? 1 : 0;
  }),
];
