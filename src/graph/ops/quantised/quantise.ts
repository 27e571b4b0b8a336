/**
 * Between real numbers and quantised integers: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear.
 * @module
 */
import {
  type DType,
  formatShape,
  fromBf16Bits,
  fromF16Bits,
  Tensor,
  toBf16Bits,
  toF16Bits,
} from '../../../tensor/index.ts';
import { ONNX_DTYPES } from '../../element-types.ts';
import type { Facts } from '../../graph.ts';
import { around, dense, type Numbers } from '../loops.ts';
import {
  define,
  defineIn,
  from,
  type InferContext,
  int,
  type Operator,
  type OperatorVersion,
  type RunContext,
} from '../operator.ts';
import { quantisedRange, roundEven, saturate } from './quantisation.ts';

/** Numbers of TensorProto.DataType that quantisation may name and that no tensor here has. */
const NARROW: ReadonlyMap<number, string> = new Map([
  [17, 'float8e4m3fn'],
  [18, 'float8e4m3fnuz'],
  [19, 'float8e5m2'],
  [20, 'float8e5m2fnuz'],
  [21, 'uint4'],
  [22, 'int4'],
  [23, 'float4e2m1'],
  [24, 'float8e8m0'],
  [25, 'uint2'],
  [26, 'int2'],
]);

/** The dtype that an attribute names by its number in ONNX; undefined where it is left out or 0. */
function namedDType(c: InferContext, attribute: string, allowed: readonly DType[]): DType | undefined {
  const code = c.has(attribute) ? c.number(attribute) : 0;
  if (code === 0) return undefined;
  const narrow = NARROW.get(code);
  if (narrow) c.unsupported(`attribute ${attribute}: ${narrow} has no tensors here, only integers of 8 and 16 bits`);
  const dtype = ONNX_DTYPES.get(code);
  if (dtype === undefined || !allowed.includes(dtype)) {
    c.fail(`attribute ${attribute}: expected one of ${allowed.join(' ')}, got ${dtype ?? code}`);
  }
  return dtype;
}

/** How far one scale reaches: the whole tensor, one place of an axis, or a block of places along an axis. */
type Grain = { readonly kind: 'tensor' } | { readonly kind: 'axis' | 'block'; readonly axis: number };

/** Reads the granularity from the shapes of the scale (input 1) and the zero point (input 2), and checks them. */
function grainOf(c: InferContext): Grain {
  const [x, scale] = [c.input(0).shape, c.input(1).shape];
  const zero = c.inputs[2]?.shape;
  const single = (shape: readonly unknown[]): boolean => shape.every(dim => dim === 1) && shape.length < 2;
  if (
    zero &&
    !(single(zero) && single(scale)) &&
    (zero.length !== scale.length || zero.some((dim, i) => c.differ(dim, scale[i]!)))
  ) {
    c.fail(`scale and zero point must be of one shape, got ${formatShape(scale)} and ${formatShape(zero)}`);
  }
  const size = c.has('block_size') ? c.number('block_size') : 0;
  if (size < 0) c.fail(`attribute block_size: expected at least 0, got ${size}`);
  if (single(scale)) return { kind: 'tensor' };
  if (!c.has('axis')) c.fail(`expected one scale for the whole tensor, got ${formatShape(scale)}`);
  const axis = c.axis(c.number('axis'), x.length);
  if (size === 0) {
    if (scale.length !== 1) c.fail(`expected a scale per place of axis ${axis} or only one, got ${formatShape(scale)}`);
    c.same(x[axis]!, scale[0]!, `axis ${axis} and the scales along it`);
    return { kind: 'axis', axis };
  }
  const fits =
    scale.length === x.length &&
    x.every((dim, i) => {
      if (i !== axis) return !c.differ(dim, scale[i]!);
      return typeof dim === 'string' || typeof scale[i] === 'string' || Math.ceil(dim / size) === scale[i];
    });
  if (!fits)
    c.fail(`blocks of ${size} along axis ${axis} of ${formatShape(x)} do not need scales of ${formatShape(scale)}`);
  return { kind: 'block', axis };
}

/** Calls `visit(at, count, scale, step)` for runs of elements: element `at + i` has the parameters at `scale + i * step`. */
function eachRun(
  c: RunContext,
  grain: Grain,
  visit: (at: number, count: number, scale: number, step: number) => void,
): void {
  const { shape, size } = c.operand(0);
  if (size === 0) return;
  if (grain.kind === 'tensor') {
    visit(0, size, 0, 0);
    return;
  }
  const { outer, n, inner } = around(shape, grain.axis);
  const block = grain.kind === 'block' ? c.number('block_size') : 1;
  const blocks = Math.ceil(n / block);
  for (let o = 0, at = 0; o < outer; o++) {
    for (let i = 0; i < n; i++, at += inner) {
      if (grain.kind === 'axis') visit(at, inner, i, 0);
      else visit(at, inner, (o * blocks + Math.floor(i / block)) * inner, 1);
    }
  }
}

/** Rounds a quotient to the precision in which the division is to be made. */
function quotientRounding(c: RunContext): (value: number) => number {
  switch (namedDType(c, 'precision', ['f32', 'f16', 'bf16', 'f64'])) {
    case 'f16':
      return value => fromF16Bits(toF16Bits(value));
    case 'bf16':
      return value => fromBf16Bits(toBf16Bits(value));
    case 'f64':
      return value => value;
    default:
      // Without a stated precision it is that of the operands; whole numbers divide as doubles.
      return c.operand(0).dtype === 'f32' ? Math.fround : value => value;
  }
}

/** What a version of QuantizeLinear takes. */
interface QuantizeTypes {
  readonly x: readonly DType[];
  readonly scale: readonly DType[];
  readonly y: readonly DType[];
  /** Whether the scale must be of the dtype of x; before opset 19 it was always float32. */
  readonly same: boolean;
}

function inferQuantize(types: QuantizeTypes): (c: InferContext) => readonly Facts[] {
  return c => {
    c.expect(0, types.x);
    c.expect(1, types.scale);
    c.expect(2, types.y);
    if (types.same) c.sameDType(0, 1);
    grainOf(c);
    namedDType(c, 'precision', ['f32', 'f16', 'bf16', 'f64']);
    const named = namedDType(c, 'output_dtype', types.y);
    const given = c.inputs[2]?.dtype;
    if (named && given && named !== given) c.fail(`output_dtype is ${named}, the zero point is ${given}`);
    return [{ dtype: given ?? named ?? 'u8', shape: c.input(0).shape }];
  };
}

function runQuantize(c: RunContext): readonly Tensor[] {
  const out = c.allocate();
  const to = out.data as Numbers;
  const [x, scales] = [dense(c.operand(0)), dense(c.operand(1))];
  const zeros = c.tensors[2] ? dense(c.tensors[2]) : undefined;
  const [least, most] = quantisedRange(out.dtype);
  const rounded = quotientRounding(c);
  eachRun(c, grainOf(c), (start, count, first, step) => {
    for (let at = start, s = first; at < start + count; at++, s += step) {
      to[at] = saturate(rounded(x[at]! / scales[s]!), zeros ? zeros[s]! : 0, least, most);
    }
  });
  return [out];
}

const quantize10: OperatorVersion = {
  since: 10,
  inputs: [2, 3],
  outputs: [1, 1],
  attributes: {},
  infer: inferQuantize({ x: ['f32', 'i32'], scale: ['f32'], y: ['i8', 'u8'], same: false }),
  run: runQuantize,
};

const quantize13 = from(13, quantize10, { attributes: { axis: int(1) } });

const quantize19 = from(19, quantize13, {
  // `saturate` is about float8 only: integers always saturate.
  attributes: { axis: int(1), saturate: int(1) },
  infer: inferQuantize({
    x: ['f32', 'f16', 'bf16', 'i32'],
    scale: ['f32', 'f16', 'bf16', 'i32'],
    y: ['i8', 'u8'],
    same: true,
  }),
});

const quantize21 = from(21, quantize19, {
  attributes: { ...quantize19.attributes, block_size: int(0), output_dtype: int(0) },
  infer: inferQuantize({
    x: ['f32', 'f16', 'bf16', 'i32'],
    scale: ['f32', 'f16', 'bf16', 'i32'],
    y: ['i8', 'u8', 'i16', 'u16'],
    same: true,
  }),
});

const quantize23 = from(23, quantize21, {
  attributes: { ...quantize21.attributes, precision: int(0) },
  infer: inferQuantize({
    x: ['f32', 'f16', 'bf16', 'i32'],
    scale: ['f32', 'f16', 'bf16', 'i32'],
    y: ['i8', 'u8', 'i16', 'u16'],
    same: false,
  }),
});

function inferDequantize(x: readonly DType[], scale: readonly DType[]): (c: InferContext) => readonly Facts[] {
  return c => {
    c.expect(0, x);
    c.expect(1, scale);
    c.sameDType(0, 2);
    grainOf(c);
    const dtype = namedDType(c, 'output_dtype', ['f32', 'f16', 'bf16']) ?? c.input(1).dtype;
    return [{ dtype, shape: c.input(0).shape }];
  };
}

function runDequantize(c: RunContext): readonly Tensor[] {
  const { shape, size } = c.operand(0);
  const to = new Float32Array(size);
  const [x, scales] = [dense(c.operand(0)), dense(c.operand(1))];
  const zeros = c.tensors[2] ? dense(c.tensors[2]) : undefined;
  eachRun(c, grainOf(c), (start, count, first, step) => {
    for (let at = start, s = first; at < start + count; at++, s += step) {
      to[at] = (x[at]! - (zeros ? zeros[s]! : 0)) * scales[s]!;
    }
  });
  const real = Tensor.from('f32', shape, to);
  return [c.outputs[0]!.dtype === 'f32' ? real : real.cast(c.outputs[0]!.dtype)];
}

const dequantize10: OperatorVersion = {
  since: 10,
  inputs: [2, 3],
  outputs: [1, 1],
  attributes: {},
  infer: inferDequantize(['i8', 'u8', 'i32'], ['f32']),
  run: runDequantize,
};

const dequantize13 = from(13, dequantize10, { attributes: { axis: int(1) } });
const dequantize19 = from(19, dequantize13, {
  infer: inferDequantize(['i8', 'u8', 'i32'], ['f32', 'f16', 'bf16']),
});
const dequantize21 = from(21, dequantize19, {
  attributes: { axis: int(1), block_size: int(0) },
  infer: inferDequantize(['i8', 'u8', 'i16', 'u16', 'i32'], ['f32', 'f16', 'bf16']),
});
const dequantize23 = from(23, dequantize21, {
  attributes: { ...dequantize21.attributes, output_dtype: int(0) },
});

/**
 * Quantises float32 numbers to unsigned bytes with a scale and zero point of their own: 0 is always exact, and the smallest and
 * the largest number fit. Returns the bytes too. NaN widens no range.
 */
export function quantiseDynamically(x: ArrayLike<number>): {
  readonly bytes: Uint8Array;
  readonly scale: number;
  readonly zero: number;
} {
  let [least, most] = [0, 0];
  for (let i = 0; i < x.length; i++) {
    const value = x[i]!;
    if (value < least) least = value;
    if (value > most) most = value;
  }
  // No range, or one so small that its scale would be 0, holds nothing but zeros at the scale 1.
  const scale = Math.fround(Math.fround(most - least) / 255) || 1;
  const zero = roundEven(Math.min(Math.max(Math.fround(-least / scale), 0), 255));
  const bytes = new Uint8Array(x.length);
  for (let i = 0; i < x.length; i++) bytes[i] = saturate(Math.fround(x[i]! / scale), zero, 0, 255);
  return { bytes, scale, zero };
}

const dynamicQuantize: OperatorVersion = {
  since: 11,
  inputs: [1, 1],
  outputs: [3, 3],
  attributes: {},
  infer: c => {
    c.expect(0, ['f32']);
    return [
      { dtype: 'u8', shape: c.input(0).shape },
      { dtype: 'f32', shape: [] },
      { dtype: 'u8', shape: [] },
    ];
  },
  run: c => {
    const { bytes, scale, zero } = quantiseDynamically(dense(c.operand(0)));
    return [Tensor.from('u8', c.shape(), bytes), Tensor.of('f32', scale), Tensor.of('u8', zero)];
  },
};

const SIXTEEN: readonly DType[] = ['i8', 'u8', 'i16', 'u16'];

/** The operators of this file. Without an axis, those of com.microsoft have one scale for the whole tensor. */
export const QUANTISE: readonly Operator[] = [
  define(
    'QuantizeLinear',
    'compute',
    quantize10,
    quantize13,
    quantize19,
    quantize21,
    quantize23,
    from(24, quantize23),
    from(25, quantize23),
  ),
  define(
    'DequantizeLinear',
    'compute',
    dequantize10,
    dequantize13,
    dequantize19,
    dequantize21,
    dequantize23,
    from(24, dequantize23),
    from(25, dequantize23),
  ),
  define('DynamicQuantizeLinear', 'compute', dynamicQuantize),
  defineIn(
    'com.microsoft',
    'QuantizeLinear',
    'compute',
    from(1, quantize10, {
      attributes: { axis: int(), block_size: int(0) },
      infer: inferQuantize({ x: ['f32', 'f16', 'i32'], scale: ['f32', 'f16'], y: SIXTEEN, same: false }),
    }),
  ),
  defineIn(
    'com.microsoft',
    'DequantizeLinear',
    'compute',
    from(1, dequantize10, {
      attributes: { axis: int(), block_size: int(0) },
      infer: inferDequantize([...SIXTEEN, 'i32'], ['f32', 'f16']),
    }),
  ),
];
