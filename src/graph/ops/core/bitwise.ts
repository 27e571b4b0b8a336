/**
 * Integers as rows of bits: BitShift, BitwiseAnd, BitwiseOr, BitwiseXor, BitwiseNot.
 * @module
 */
import type { DType } from '../../../tensor/index.ts';
import { isBig, mapInto, zipInto } from '../loops.ts';
import { define, INTS, type InferContext, type Operator, type OperatorVersion, required, string } from '../operator.ts';

/** JavaScript's bit operators serve bigints too, so one function serves every dtype; what is stored wraps. */
type Bits = (a: number, b: number) => number;

function inferBits(dtypes: readonly DType[]): OperatorVersion['infer'] {
  return c => {
    c.expect(0, dtypes);
    c.sameDType(0, 1);
    return [{ dtype: c.input(0).dtype, shape: c.broadcast(c.input(0).shape, c.input(1).shape) }];
  };
}

function bitwise(name: string, f: Bits): Operator {
  return define(name, 'elementwise', {
    since: 18,
    inputs: [2, 2],
    outputs: [1, 1],
    attributes: {},
    infer: inferBits(INTS),
    run: c => [zipInto(c.allocate(), c.operand(0), c.operand(1), f)],
  });
}

function shiftsLeft(c: InferContext): boolean {
  const direction = c.string('direction');
  if (direction !== 'LEFT' && direction !== 'RIGHT') {
    c.fail(`attribute direction: expected LEFT or RIGHT, got ${JSON.stringify(direction.slice(0, 20))}`);
  }
  return direction === 'LEFT';
}

// A shift by the width or more leaves nothing; JavaScript would take it modulo 32.
const left: Bits = (a, b) => (b >= 32 ? 0 : a << b);
const right: Bits = (a, b) => (b >= 32 ? 0 : a >>> b);
const leftBig = (a: bigint, b: bigint): bigint => (b >= 64n ? 0n : a << b);
const rightBig = (a: bigint, b: bigint): bigint => (b >= 64n ? 0n : a >> b);

const shift: OperatorVersion = {
  since: 11,
  inputs: [2, 2],
  outputs: [1, 1],
  attributes: { direction: required(string()) },
  infer: c => {
    shiftsLeft(c);
    return inferBits(['u8', 'u16', 'u32', 'u64'])(c);
  },
  run: c => {
    const out = c.allocate();
    const f = shiftsLeft(c) ? [left, leftBig] : [right, rightBig];
    return [zipInto(out, c.operand(0), c.operand(1), f[isBig(out) ? 1 : 0] as Bits)];
  },
};

const not: OperatorVersion = {
  since: 18,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: {},
  infer: c => {
    c.expect(0, INTS);
    return [c.input(0)];
  },
  run: c => [mapInto(c.allocate(), c.operand(0), a => ~a)],
};

/** The operators of this file. */
export const BITWISE: readonly Operator[] = [
  define('BitShift', 'elementwise', shift),
  bitwise('BitwiseAnd', (a, b) => a & b),
  bitwise('BitwiseOr', (a, b) => a | b),
  bitwise('BitwiseXor', (a, b) => a ^ b),
  define('BitwiseNot', 'elementwise', not),
];
