/**
 * The two 16-bit floats, as bits: IEEE 754 binary16 and bfloat16. Rounding is to nearest, ties to even.
 * @module
 */

const word = new DataView(new ArrayBuffer(4));

/**
 * The binary16 bits nearest to `value`. NaN becomes the quiet NaN 0x7e00; what is too large becomes infinite.
 * @example
 * ```ts
 * toF16Bits(1); // 0x3c00
 * fromF16Bits(toF16Bits(0.1)); // 0.0999755859375: eleven bits of precision
 * ```
 */
export function toF16Bits(value: number): number {
  if (Number.isNaN(value)) return 0x7e00;
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (size >= 65520) return sign | 0x7c00; // half way between the largest finite 65504 and 65536: the tie goes to even
  if (size < 2 ** -14) return sign | roundEven(size * 2 ** 24); // subnormal; a carry gives the smallest normal
  const exponent = Math.floor(Math.log2(size));
  // log2 may round up just under a power of two, or down at one; the mantissa tells.
  const e = size >= 2 ** (exponent + 1) ? exponent + 1 : size < 2 ** exponent ? exponent - 1 : exponent;
  // An addition, not an or: a mantissa that rounds up to 1024 carries into the exponent.
  return sign | ((e + 14) * 1024 + roundEven(size * 2 ** (10 - e)));
}

/** The value of binary16 `bits`. Exact. */
export function fromF16Bits(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const mantissa = bits & 1023;
  if (exponent === 31) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  return sign * (1024 + mantissa) * 2 ** (exponent - 25);
}

/**
 * The bfloat16 bits nearest to `value` after it is rounded to float32. NaN becomes the quiet NaN 0x7fc0.
 * @example
 * ```ts
 * toBf16Bits(1); // 0x3f80
 * fromBf16Bits(toBf16Bits(0.1)); // 0.10009765625: eight bits of precision
 * ```
 */
export function toBf16Bits(value: number): number {
  if (Number.isNaN(value)) return 0x7fc0;
  word.setFloat32(0, value);
  const bits = word.getUint32(0);
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) / 65536) & 0xffff; // a double, so that the sum cannot wrap
}

/** The value of bfloat16 `bits`. Exact. */
export function fromBf16Bits(bits: number): number {
  word.setUint32(0, (bits << 16) >>> 0);
  return word.getFloat32(0);
}

/** Rounds a non-negative number below 2^12 to the nearest integer, ties to even. Exact, as the argument is scaled by 2^n. */
function roundEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}
