/**
 * The same values in another element type: Cast, CastLike; and the same bits: BitCast.
 * @module
 */
import { DTYPES, type DType, Tensor } from '../../../tensor/index.ts';
import { ONNX_DTYPES } from '../../element-types.ts';
import {
  ANY,
  type AttributeSpec,
  define,
  type InferContext,
  int,
  type Operator,
  type OperatorVersion,
  type RunContext,
  required,
  string,
} from '../operator.ts';

/** Names of element types as Cast had them before opset 6. */
const CAST_NAMES: Readonly<Record<string, number>> = {
  FLOAT: 1,
  UINT8: 2,
  INT8: 3,
  UINT16: 4,
  INT16: 5,
  INT32: 6,
  INT64: 7,
  BOOL: 9,
  FLOAT16: 10,
  DOUBLE: 11,
  UINT32: 12,
  UINT64: 13,
};

function castTarget(c: InferContext, code: number): DType {
  return ONNX_DTYPES.get(code) ?? c.unsupported(`element type ${code} has no dtype here`);
}

/** A number as people write it, or undefined. JavaScript's own reading takes blanks and hexadecimals too. */
function readNumber(text: string): number | undefined {
  if (/^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?$/.test(text)) return Number(text);
  const word = text.toLowerCase();
  if (word === 'nan') return Number.NaN;
  if (/^[+-]?inf(?:inity)?$/.test(word))
    return word.startsWith('-') ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  return undefined;
}

/** At most so many digits are read as an exact integer: reading a long one costs more than its length. */
const MAX_DIGITS = 40;

function fromStrings(c: RunContext, x: Tensor, dtype: DType): Tensor {
  const values = (x.values() as string[]).map(text => {
    if (DTYPES[dtype].kind === 'int' && text.length <= MAX_DIGITS && /^[+-]?\d+$/.test(text)) {
      return BigInt(text.startsWith('+') ? text.slice(1) : text);
    }
    return readNumber(text) ?? c.fail('a string is not a number');
  });
  return Tensor.of(dtype, values).reshape(x.shape);
}

/** The fewest digits that tell `value` from the other float32 numbers, without an exponent where it is of ordinary size. */
function writeFloat(value: number, single: boolean): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? 'INF' : '-INF';
  if (value === 0) return Object.is(value, -0) ? '-0' : '0';
  if (!single) return String(value);
  for (let digits = 1; digits < 9; digits++) {
    const shorter = Number(value.toPrecision(digits));
    if (Math.fround(shorter) === value) return String(shorter);
  }
  return String(Number(value.toPrecision(9)));
}

function toStrings(x: Tensor): Tensor<'string'> {
  const single = x.dtype === 'f32' || x.dtype === 'f16' || x.dtype === 'bf16';
  const float = DTYPES[x.dtype].kind === 'float';
  const texts = x.values().map(value => (float ? writeFloat(value as number, single) : String(value)));
  return Tensor.from('string', x.shape, texts);
}

function castTo(c: RunContext, x: Tensor, dtype: DType): Tensor {
  if (x.dtype === dtype) return x;
  if (x.dtype === 'string') return fromStrings(c, x, dtype);
  return dtype === 'string' ? toStrings(x) : x.cast(dtype);
}

/** Opset 19 said what becomes of values too large for an 8-bit float, opset 24 how such a float without a mantissa is rounded. */
const SATURATE = { saturate: int(1) } as const;
const ROUND_MODE = { ...SATURATE, round_mode: string('up') } as const;

const ROUND_MODES: readonly string[] = ['up', 'down', 'nearest'];

function castVersion(
  since: number,
  attributes: Readonly<Record<string, AttributeSpec>>,
  inputs: 1 | 2,
  target: (c: InferContext) => DType,
): OperatorVersion {
  return {
    since,
    inputs: [inputs, inputs],
    outputs: [1, 1],
    attributes,
    infer: c => {
      c.expect(0, ANY);
      if (c.has('round_mode') && !ROUND_MODES.includes(c.string('round_mode'))) {
        c.fail(`attribute round_mode: expected ${ROUND_MODES.join(', ')}`);
      }
      return [{ dtype: target(c), shape: c.input(0).shape }];
    },
    // Sizes stay what they are; elements that are all known are cast as any are.
    known: c => {
      const known = ['i32', 'i64', 'u32', 'u64'].includes(target(c)) ? c.known(0) : undefined;
      return known?.some(dim => typeof dim === 'string') ? known : undefined;
    },
    run: c => [castTo(c, c.operand(0), c.outputs[0]!.dtype)],
  };
}

const TO = { to: required(int()) } as const;
const byCode = (c: InferContext): DType => castTarget(c, c.number('to'));
const byInput = (c: InferContext): DType => c.input(1).dtype;

const bitCast: OperatorVersion = {
  since: 26,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: TO,
  infer: c => {
    const { dtype, shape } = c.input(0);
    const target = byCode(c);
    if (dtype === 'string' || target === 'string') c.fail('strings have no bits to be read as another type');
    if (DTYPES[dtype].bytes !== DTYPES[target].bytes) {
      c.fail(`${dtype} has ${DTYPES[dtype].bytes} bytes, ${target} has ${DTYPES[target].bytes}`);
    }
    return [{ dtype: target, shape }];
  },
  run: c => {
    const x = c.operand(0);
    const { dtype } = c.outputs[0]!;
    // A bool here is 0 or 1, whatever bits come in.
    if (dtype === 'bool') return [x.dtype === 'bool' ? x : Tensor.fromBytes('u8', x.shape, x.bytes()).cast('bool')];
    return [Tensor.fromBytes(dtype, x.shape, x.bytes())];
  },
};

/** The operators of this file. */
export const CAST: readonly Operator[] = [
  define(
    'Cast',
    'elementwise',
    castVersion(1, { to: required(string()) }, 1, c => castTarget(c, CAST_NAMES[c.string('to')] ?? 0)),
    castVersion(6, TO, 1, byCode),
    castVersion(19, { ...TO, ...SATURATE }, 1, byCode),
    castVersion(24, { ...TO, ...ROUND_MODE }, 1, byCode),
  ),
  define(
    'CastLike',
    'elementwise',
    castVersion(15, {}, 2, byInput),
    castVersion(19, SATURATE, 2, byInput),
    castVersion(24, ROUND_MODE, 2, byInput),
  ),
  define('BitCast', 'view', bitCast),
];
