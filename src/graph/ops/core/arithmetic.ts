/**
 * Arithmetic on two or more tensors that broadcast: Add, Sub, Mul, Div, Pow, Mod, Min, Max, Sum, Mean.
 * @module
 */
import { type DType, formatShape, Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import { isBig, zipInto } from '../loops.ts';
import {
  define,
  FLOATS,
  from,
  INTS,
  type InferContext,
  int,
  ints,
  MANY,
  NUMBERS,
  type Operator,
  type OperatorVersion,
  type RunContext,
} from '../operator.ts';

/** One binary function: on floats, on integers of at most 32 bits, and on the 64-bit ones (the result is wrapped when stored). */
interface Binary {
  readonly float: (a: number, b: number) => number;
  readonly int?: (a: number, b: number) => number;
  readonly big: (a: bigint, b: bigint) => bigint;
  /** On sizes, where shapes are computed in the graph. */
  readonly sizes?: (a: number, b: number) => number;
}

const add: Binary = { float: (a, b) => a + b, big: (a, b) => a + b, sizes: (a, b) => a + b };
const sub: Binary = { float: (a, b) => a - b, big: (a, b) => a - b, sizes: (a, b) => a - b };
const mul: Binary = { float: (a, b) => a * b, int: Math.imul, big: (a, b) => a * b, sizes: (a, b) => a * b };
const div: Binary = {
  float: (a, b) => a / b,
  // Integer division by zero has no meaning in ONNX; 0 here, never an exception.
  int: (a, b) => (b === 0 ? 0 : Math.trunc(a / b)),
  big: (a, b) => (b === 0n ? 0n : a / b),
  sizes: (a, b) => (b === 0 ? 0 : Math.trunc(a / b)),
};
const min: Binary = { float: Math.min, big: (a, b) => (a < b ? a : b) };
const max: Binary = { float: Math.max, big: (a, b) => (a > b ? a : b) };
const pow: Binary = { float: (a, b) => a ** b, int: wrappingPower32, big: wrappingPower };

/** The dtype of a binary result, computed with the function that fits it. */
function apply(f: Binary, out: Tensor, a: Tensor, b: Tensor): Tensor {
  if (isBig(out)) return zipInto(out, a, b, f.big as unknown as (a: number, b: number) => number);
  const whole = f.int && out.dtype !== 'f32' && out.dtype !== 'f64';
  return zipInto(out, a, b, whole ? f.int! : f.float);
}

function inferBinary(dtypes: readonly DType[]): (c: InferContext) => readonly Facts[] {
  return c => {
    c.expect(0, dtypes);
    c.sameDType(0, 1);
    return [{ dtype: c.input(0).dtype, shape: c.broadcast(c.input(0).shape, c.input(1).shape) }];
  };
}

/** Before opset 7 the second operand broadcast only on request, and was aligned at `axis` instead of at the end. */
export function legacyShape(c: InferContext): readonly Dim[] {
  const a = c.input(0).shape;
  const b = c.input(1).shape;
  if (c.number('broadcast') === 0) {
    if (a.length !== b.length) c.fail(`${formatShape(a)} and ${formatShape(b)} differ and broadcast is 0`);
    a.forEach((dim, i) => {
      c.same(dim, b[i]!, `without broadcast, axis ${i}`);
    });
    return b;
  }
  if (b.length > a.length) c.fail(`cannot broadcast ${formatShape(b)} into ${formatShape(a)}`);
  const axis = c.has('axis') ? c.axis(c.number('axis'), Math.max(a.length, 1)) : a.length - b.length;
  if (axis + b.length > a.length) c.fail(`cannot align ${formatShape(b)} with ${formatShape(a)} at axis ${axis}`);
  return [...b, ...new Array<number>(a.length - axis - b.length).fill(1)];
}

function inferLegacy(c: InferContext): readonly Facts[] {
  c.expect(0, NUMBERS);
  c.sameDType(0, 1);
  const { dtype, shape } = c.input(0);
  const result = c.broadcast(shape, legacyShape(c));
  if (result.length !== shape.length || result.some((dim, i) => c.differ(dim, shape[i]!))) {
    c.fail(`${formatShape(c.input(1).shape)} does not broadcast into ${formatShape(shape)}`);
  }
  return [{ dtype, shape }];
}

/** The attributes that opsets before 7 put on binary operators. */
export const LEGACY_BROADCAST: OperatorVersion['attributes'] = { axis: int(), broadcast: int(0) };

function binary(name: string, f: Binary, sizesSymbol?: string): Operator {
  const known = (c: InferContext): readonly Dim[] | undefined => {
    const [a, b] = [c.known(0), c.known(1)];
    if (!f.sizes || !a || !b || (a.length !== b.length && a.length !== 1 && b.length !== 1)) return undefined;
    return Array.from({ length: Math.max(a.length, b.length) }, (_, i) => {
      const [x, y] = [a.length === 1 ? a[0]! : a[i]!, b.length === 1 ? b[0]! : b[i]!];
      if ((sizesSymbol === '*' || sizesSymbol === '/') && y === 1) return x;
      return c.derive(`(${x}${sizesSymbol}${y})`, [x, y], f.sizes!);
    });
  };
  const modern: OperatorVersion = {
    since: 7,
    inputs: [2, 2],
    outputs: [1, 1],
    attributes: {},
    infer: inferBinary(NUMBERS),
    known,
    run: c => [apply(f, c.allocate(), c.operand(0), c.operand(1))],
  };
  const legacy = from(6, modern, {
    attributes: LEGACY_BROADCAST,
    infer: inferLegacy,
    known: () => undefined,
    run: c => [apply(f, c.allocate(), c.operand(0), c.operand(1).reshape(legacyShape(c) as readonly number[]))],
  });
  // Opset 1 let a node say which inputs it may overwrite; the hint has no meaning here.
  const first = from(1, legacy, { attributes: { ...LEGACY_BROADCAST, consumed_inputs: ints() } });
  return define(name, 'elementwise', first, legacy, modern);
}

/** Pow-12 let the exponent have a dtype of its own; the result has the base's. */
function runPow(c: RunContext): readonly Tensor[] {
  const base = c.operand(0);
  const exponent = c.operand(1);
  if (base.dtype === exponent.dtype) return [apply(pow, c.allocate(), base, exponent)];
  if (INTS.includes(base.dtype) && INTS.includes(exponent.dtype)) {
    // In 64 bits, of which the base's dtype keeps the lower ones.
    const long = (x: Tensor): Tensor => (isBig(x) ? x : x.cast('i64'));
    return [apply(pow, Tensor.zeros('i64', c.shape()), long(base), long(exponent)).cast(base.dtype)];
  }
  const wide = Tensor.zeros('f64', c.shape());
  return [zipInto(wide, base.cast('f64'), exponent.cast('f64'), pow.float).cast(base.dtype)];
}

const powModern: OperatorVersion = {
  since: 7,
  inputs: [2, 2],
  outputs: [1, 1],
  attributes: {},
  infer: inferBinary(NUMBERS),
  run: runPow,
};

const powFree = from(12, powModern, {
  infer: c => {
    c.expect(0, NUMBERS);
    c.expect(1, NUMBERS);
    return [{ dtype: c.input(0).dtype, shape: c.broadcast(c.input(0).shape, c.input(1).shape) }];
  },
});

/** A function folded over any number of inputs. Before opset 8 all shapes had to be the same. */
function variadic(
  name: string,
  f: Binary,
  dtypes: readonly DType[],
  finish?: (sum: Tensor, count: number) => void,
): Operator {
  const fold = (c: RunContext): readonly Tensor[] => {
    const first = c.operand(0).expand(c.shape()).clone();
    for (let i = 1; i < c.tensors.length; i++) apply(f, first, first, c.operand(i));
    finish?.(first, c.tensors.length);
    return [first];
  };
  const infer = (c: InferContext): readonly Facts[] => {
    let shape = c.input(0).shape;
    for (let i = 0; i < c.inputs.length; i++) {
      c.expect(i, dtypes);
      c.sameDType(0, i);
      shape = c.broadcast(shape, c.input(i).shape);
    }
    return [{ dtype: c.input(0).dtype, shape }];
  };
  const modern: OperatorVersion = { since: 8, inputs: [1, MANY], outputs: [1, 1], attributes: {}, infer, run: fold };
  const legacy = from(6, modern, {
    infer: c => {
      const { dtype, shape } = c.input(0);
      for (let i = 1; i < c.inputs.length; i++) {
        const other = c.input(i).shape;
        c.sameDType(0, i);
        if (other.length !== shape.length || other.some((dim, axis) => c.differ(dim, shape[axis]!))) {
          c.fail(`before opset 8 all shapes must be the same, got ${formatShape(shape)} and ${formatShape(other)}`);
        }
      }
      c.expect(0, dtypes);
      return [{ dtype, shape }];
    },
  });
  return define(name, 'elementwise', from(1, legacy, { attributes: { consumed_inputs: ints() } }), legacy, modern);
}

const mod: OperatorVersion = {
  since: 10,
  inputs: [2, 2],
  outputs: [1, 1],
  attributes: { fmod: int(0) },
  infer: c => {
    if (FLOATS.includes(c.input(0).dtype) && c.number('fmod') !== 1) c.fail('of floats only fmod 1 is defined');
    return inferBinary(NUMBERS)(c);
  },
  run: c => {
    // fmod 1 takes the sign of the dividend, as C does; 0 that of the divisor, as Python does.
    const c99 = c.number('fmod') === 1;
    const float = (a: number, b: number): number => a % b;
    const whole = c99
      ? (a: number, b: number) => (b === 0 ? 0 : a % b)
      : (a: number, b: number) => (b === 0 ? 0 : ((a % b) + b) % b);
    const big = (a: bigint, b: bigint): bigint => (b === 0n ? 0n : c99 ? a % b : ((a % b) + b) % b);
    return [apply({ float, int: whole, big }, c.allocate(), c.operand(0), c.operand(1))];
  },
};

/** Square and multiply modulo 2^32: an exponent of any size costs at most 32 steps. */
function wrappingPower32(base: number, exponent: number): number {
  if (exponent < 0) return base === 1 ? 1 : base === -1 ? (exponent % 2 === 0 ? 1 : -1) : 0;
  let result = 1;
  let square = base;
  for (let rest = exponent; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) result = Math.imul(result, square);
    square = Math.imul(square, square);
  }
  return result;
}

/** Square and multiply modulo 2^64: an exponent of any size costs at most 64 steps. */
function wrappingPower(base: bigint, exponent: bigint): bigint {
  if (exponent < 0n) return base === 1n ? 1n : base === -1n ? (exponent % 2n === 0n ? 1n : -1n) : 0n;
  let result = 1n;
  let square = base;
  for (let rest = exponent; rest > 0n; rest >>= 1n) {
    if (rest & 1n) result = BigInt.asIntN(64, result * square);
    square = BigInt.asIntN(64, square * square);
  }
  return result;
}

/** The operators of this file. */
export const ARITHMETIC: readonly Operator[] = [
  binary('Add', add, '+'),
  binary('Sub', sub, ' - '),
  binary('Mul', mul, '*'),
  binary('Div', div, '/'),
  define(
    'Pow',
    'elementwise',
    from(1, powModern, {
      attributes: LEGACY_BROADCAST,
      infer: inferLegacy,
      run: c => [apply(pow, c.allocate(), c.operand(0), c.operand(1).reshape(legacyShape(c) as readonly number[]))],
    }),
    powModern,
    powFree,
  ),
  define('Mod', 'elementwise', mod),
  variadic('Min', min, NUMBERS),
  variadic('Max', max, NUMBERS),
  variadic('Sum', add, FLOATS),
  variadic('Mean', add, FLOATS, (sum, count) => {
    const data = sum.data as Float32Array;
    for (let i = 0; i < data.length; i++) data[i] = data[i]! / count;
  }),
];
