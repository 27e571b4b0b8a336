/**
 * npy: one array of NumPy.
 *
 * | offset | size | meaning |
 * |---|---|---|
 * | 0 | 6 | `\x93NUMPY` |
 * | 6 | 2 | version: 1.0, 2.0 or 3.0 |
 * | 8 | 2, or 4 from version 2.0 on | H, the length of the header: unsigned, little-endian |
 * | then | H | a Python dictionary: `descr`, `fortran_order`, `shape`; Latin-1, from version 3.0 on UTF-8 |
 * | then | rest | the elements |
 *
 * Refused: structured types, and objects, which are pickles: programs, not data.
 * @see https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
 * @module
 */
import { CloisterError, concatBytes, decodeUtf8, encodeUtf8 } from '../base/index.ts';
import { type BufferDType, DTYPES, elementCount, MAX_RANK, Tensor } from '../tensor/index.ts';

const MAGIC = Uint8Array.of(0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59);
const MAX_HEADER = 65_536;
/** Characters of one string, so that an absurd width is no absurd allocation. */
const MAX_WIDTH = 1 << 20;

/** Element types by kind and width of a type string; `f2` stands for f16. There is none for bf16. */
const NAMES: Readonly<Record<string, BufferDType>> = {
  f4: 'f32',
  f8: 'f64',
  f2: 'f16',
  i1: 'i8',
  u1: 'u8',
  i2: 'i16',
  u2: 'u16',
  i4: 'i32',
  u4: 'u32',
  i8: 'i64',
  u8: 'u64',
  b1: 'bool',
};

/**
 * Returns the array that `bytes` hold. Little-endian elements are shared where they are aligned, and an array in Fortran order is a
 * view with its strides; big-endian elements and strings are copied.
 *
 * @throws {CloisterError} `INVALID_MODEL` with what breaks the format; `UNSUPPORTED_MODEL` for a type that has no dtype here, objects
 *   among them; `MODEL_TOO_LARGE` for a header of more than 64 KiB.
 * @example
 * ```ts
 * parseNpy(writeNpy(Tensor.of('f32', [[1, 2], [3, 4]]))).toArray(); // [[1, 2], [3, 4]]
 * ```
 */
export function parseNpy(bytes: Uint8Array): Tensor {
  const plain = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength); // a Node Buffer slices differently
  if (plain.length < 10 || MAGIC.some((byte, i) => plain[i] !== byte)) fail('the magic number is not that of npy');
  const major = plain[6]!;
  if (major < 1 || major > 3 || plain[7] !== 0) fail(`version ${major}.${plain[7]} is unknown`);
  const view = new DataView(plain.buffer, plain.byteOffset, plain.length);
  const start = major === 1 ? 10 : 12;
  if (plain.length < start) fail('the header is cut off');
  const length = major === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  if (length > MAX_HEADER) {
    throw new CloisterError('MODEL_TOO_LARGE', `a header of ${length} bytes passes the limit of ${MAX_HEADER}`);
  }
  if (start + length > plain.length) fail(`a header of ${length} bytes, in a file of ${plain.length}`);
  const text = plain.subarray(start, start + length);
  const header = new Header(major === 3 ? utf8(text) : String.fromCharCode(...text)).parse();
  const shape = header.fortran ? header.shape.toReversed() : header.shape;
  const dense = readElements(header.descr, shape, plain.subarray(start + length));
  return header.fortran ? dense.transpose() : dense;
}

function readElements(descr: string, shape: readonly number[], bytes: Uint8Array): Tensor {
  const count = countOf(shape);
  const match = /^([<>|=])([a-zA-Z])(\d{0,7})$/.exec(descr);
  if (!match) unsupported(`type ${quote(descr)}`);
  const [, order = '', kind = '', digits = ''] = match;
  const need = (width: number): void => {
    if (bytes.length !== count * width)
      fail(`${count} elements of ${descr} need ${count * width} bytes, got ${bytes.length}`);
  };
  if (kind === 'O') unsupported('an array of Python objects, which is a pickle,');
  if (kind === 'U' || kind === 'S') {
    const width = Number(digits);
    if (width > MAX_WIDTH) fail(`strings of ${width} characters`);
    need(kind === 'U' ? width * 4 : width);
    return readStrings(shape, bytes, kind, width, order === '>');
  }
  const dtype = NAMES[kind + digits] ?? unsupported(`type ${quote(descr)}`);
  const { bytes: width } = DTYPES[dtype];
  need(width);
  if (dtype === 'bool' && bytes.some(byte => byte > 1)) fail('a bool is neither 0 nor 1');
  return Tensor.fromBytes(dtype, shape, order === '>' ? swapped(bytes, width) : bytes);
}

/** Fixed-width strings: UCS-4 (`U`) or bytes (`S`), filled up with zeros. */
function readStrings(
  shape: readonly number[],
  bytes: Uint8Array,
  kind: 'U' | 'S',
  width: number,
  big: boolean,
): Tensor {
  const out = Tensor.zeros('string', shape);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let i = 0; i < out.size; i++) {
    const points: number[] = [];
    for (let j = 0; j < width; j++) {
      const at = i * width + j;
      const point = kind === 'S' ? bytes[at]! : view.getUint32(at * 4, !big);
      if (point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) fail(`character ${j} of element ${i} is none`);
      points.push(point);
    }
    while (points.at(-1) === 0) points.pop();
    // In pieces: a call takes so many arguments.
    let text = '';
    for (let j = 0; j < points.length; j += 4096) text += String.fromCodePoint(...points.slice(j, j + 4096));
    out.data[i] = text;
  }
  return out;
}

function swapped(bytes: Uint8Array, width: number): Uint8Array {
  const out = new Uint8Array(bytes.length);
  for (let i = 0; i < bytes.length; i += width) for (let j = 0; j < width; j++) out[i + j] = bytes[i + width - 1 - j]!;
  return out;
}

/**
 * Returns `tensor` as the bytes of an npy file of version 1.0, little-endian, in C order, its
 * elements at a multiple of 64 bytes. Strings are written as `U` of the width of the longest.
 *
 * @throws {CloisterError} `UNSUPPORTED_MODEL` for bf16, which NumPy has not; `INVALID_ARGUMENT` for strings that end in U+0000, which
 *   the format cannot tell from shorter ones.
 * @example
 * ```ts
 * writeNpy(Tensor.zeros('i64', [3])).length; // 152: 128 of header, 24 of elements
 * ```
 */
export function writeNpy(tensor: Tensor): Uint8Array {
  const { descr, bytes } = elementsOf(tensor);
  const { shape } = tensor;
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(', ')})`;
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': ${tuple}, }`;
  const length = Math.ceil((10 + text.length + 1) / 64) * 64 - 10;
  const head = encodeUtf8(`${text.padEnd(length - 1)}\n`);
  return concatBytes(MAGIC, Uint8Array.of(1, 0, length & 255, length >> 8), head, bytes);
}

function elementsOf(tensor: Tensor): { readonly descr: string; readonly bytes: Uint8Array } {
  if (tensor.dtype === 'string') return stringElements(tensor.values() as string[]);
  const name = Object.entries(NAMES).find(([, dtype]) => dtype === tensor.dtype)?.[0];
  if (name === undefined) return unsupported(`npy has no ${tensor.dtype}: cast to f32 first; that`);
  return { descr: `${DTYPES[tensor.dtype].bytes === 1 ? '|' : '<'}${name}`, bytes: tensor.bytes() };
}

function stringElements(values: readonly string[]): { readonly descr: string; readonly bytes: Uint8Array } {
  const points = values.map(value => Array.from(value.toWellFormed(), character => character.codePointAt(0)!));
  if (points.some(list => list.at(-1) === 0)) {
    throw new CloisterError('INVALID_ARGUMENT', 'npy cannot hold strings that end in U+0000');
  }
  const width = points.reduce((most, list) => Math.max(most, list.length), 1);
  const bytes = new Uint8Array(values.length * width * 4);
  const view = new DataView(bytes.buffer);
  points.forEach((list, i) => {
    list.forEach((point, j) => {
      view.setUint32((i * width + j) * 4, point, true);
    });
  });
  return { descr: `<U${width}`, bytes };
}

/** The dictionary of a header, which may hold these three entries in any order, and nothing else. */
class Header {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  parse(): { readonly descr: string; readonly fortran: boolean; readonly shape: readonly number[] } {
    let descr: string | undefined;
    let fortran: boolean | undefined;
    let shape: readonly number[] | undefined;
    this.#take(/\{/y, 'a dictionary');
    while (!this.#try(/\}/y)) {
      const key = this.#string();
      this.#take(/:/y, 'a colon');
      if (key === 'descr' && descr === undefined) descr = this.#descr();
      else if (key === 'fortran_order' && fortran === undefined) {
        fortran = this.#take(/True|False/y, 'True or False') === 'True';
      } else if (key === 'shape' && shape === undefined) shape = this.#tuple();
      else fail(`entry ${quote(key)} of the header is unknown, or given twice`);
      if (!this.#try(/,/y)) {
        this.#take(/\}/y, 'the end of the dictionary');
        break;
      }
    }
    this.#take(/\s*$/y, 'nothing more');
    if (descr === undefined || fortran === undefined || shape === undefined) {
      return fail('the header needs descr, fortran_order and shape');
    }
    return { descr, fortran, shape };
  }

  #descr(): string {
    if (this.#try(/\[/y)) unsupported('a structured type');
    return this.#string();
  }

  #string(): string {
    return this.#take(/'[^'\\]*'|"[^"\\]*"/y, 'a string').slice(1, -1);
  }

  #tuple(): readonly number[] {
    const sizes: number[] = [];
    this.#take(/\(/y, 'a tuple');
    while (!this.#try(/\)/y)) {
      if (sizes.length === MAX_RANK) unsupported(`an array of more than ${MAX_RANK} dimensions`);
      sizes.push(Number(this.#take(/\d{1,16}L?/y, 'a size').replace('L', '')));
      if (!this.#try(/,/y)) {
        this.#take(/\)/y, 'the end of the tuple');
        break;
      }
    }
    return sizes;
  }

  #try(pattern: RegExp): string | undefined {
    while (this.#text[this.#at] === ' ') this.#at++;
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (!match) return undefined;
    this.#at = pattern.lastIndex;
    return match[0];
  }

  #take(pattern: RegExp, what: string): string {
    return this.#try(pattern) ?? fail(`the header has not ${what} at character ${this.#at}`);
  }
}

function countOf(shape: readonly number[]): number {
  try {
    return elementCount(shape);
  } catch (cause) {
    return fail('the dimensions are too large', cause);
  }
}

function utf8(bytes: Uint8Array): string {
  try {
    return decodeUtf8(bytes);
  } catch (cause) {
    return fail('the header is not UTF-8', cause);
  }
}

function quote(text: string): string {
  return JSON.stringify(text.slice(0, 80));
}

function fail(what: string, cause?: unknown): never {
  throw new CloisterError('INVALID_MODEL', `npy: ${what}`, {}, { cause });
}

function unsupported(what: string): never {
  throw new CloisterError('UNSUPPORTED_MODEL', `npy: ${what} is not supported`);
}
