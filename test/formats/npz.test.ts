import { deflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { concatBytes, encodeUtf8, isCloisterError } from '../../src/base/index.ts';
import { parseNpy, parseNpz, writeNpy, writeNpz } from '../../src/formats/index.ts';
import { type DType, Tensor } from '../../src/tensor/index.ts';
import { cut, FUZZ_TIMEOUT_MS, flipped, runsOf, spliced, typedWithin } from './fuzz.ts';

const refusal = (call: () => unknown): string => {
  try {
    call();
    return 'nothing was refused';
  } catch (error) {
    if (isCloisterError(error)) return `${error.code}: ${error.message}`;
    throw error;
  }
};

const LIMIT_MS = 2000; // generous: these files are read in microseconds

/** An npy file of this header and these elements. */
function npy(header: string, data: Uint8Array, major = 1): Uint8Array {
  const text = encodeUtf8(header);
  const length = major === 1 ? [text.length & 255, text.length >> 8] : [text.length & 255, text.length >> 8, 0, 0];
  return concatBytes(Uint8Array.of(0x93, 78, 85, 77, 80, 89, major, 0, ...length), text, data);
}

const head = (descr: string, shape: string, fortran = 'False'): string =>
  `{'descr': '${descr}', 'fortran_order': ${fortran}, 'shape': ${shape}, }`;

const DTYPES_OF_NPY = ['f32', 'f64', 'f16', 'i8', 'u8', 'i16', 'u16', 'i32', 'u32', 'i64', 'u64', 'bool'] as const;
const tensors: fc.Arbitrary<Tensor> = fc
  .tuple(fc.constantFrom<DType>(...DTYPES_OF_NPY), fc.array(fc.nat(3), { maxLength: 3 }))
  .chain(([dtype, shape]) => {
    const size = shape.reduce((product, dim) => product * dim, 1);
    return fc
      .array(fc.integer({ min: 0, max: 1 }), { minLength: size, maxLength: size })
      .map(values => Tensor.of(dtype, values).reshape(shape));
  });

describe('npy', () => {
  test('gives back what was written, and one array has one spelling', () => {
    fc.assert(
      fc.property(tensors, tensor => {
        const bytes = writeNpy(tensor);
        const back = parseNpy(bytes);
        expect([back.dtype, back.shape, back.toArray()]).toEqual([tensor.dtype, tensor.shape, tensor.toArray()]);
        expect(writeNpy(back)).toEqual(bytes);
        expect((bytes.length - tensor.bytes().length) % 64).toBe(0);
      }),
    );
    const words = Tensor.of('string', ['', 'b\u0000c', '\u{1f600}é']);
    expect(parseNpy(writeNpy(words)).toArray()).toEqual(words.toArray());
  });

  test('reads every version, byte order and memory order', () => {
    const two = Uint8Array.of(1, 2, 3, 4);
    for (const major of [1, 2, 3])
      expect(parseNpy(npy(head('|u1', '(2, 2)'), two, major)).toArray()).toEqual([
        [1, 2],
        [3, 4],
      ]);
    expect(parseNpy(npy(head('>u2', '(2,)'), two)).toArray()).toEqual([0x0102, 0x0304]);
    expect(parseNpy(npy(head('<u2', '(2,)'), two)).toArray()).toEqual([0x0201, 0x0403]);
    expect(parseNpy(npy(head('|u1', '(2, 2)', 'True'), two)).toArray()).toEqual([
      [1, 3],
      [2, 4],
    ]);
    expect(parseNpy(npy(head('|u1', '()'), Uint8Array.of(9))).toArray()).toBe(9);
    expect(parseNpy(npy(head('|S2', '(2,)'), Uint8Array.of(97, 98, 99, 0))).toArray()).toEqual(['ab', 'c']);
    expect(parseNpy(npy("{'shape': (1L,), 'descr': '|b1', 'fortran_order': False}  \n", Uint8Array.of(1))).dtype).toBe(
      'bool',
    );
  });

  test('shares aligned elements', () => {
    const file = writeNpy(Tensor.of('f32', [1, 2]));
    expect(parseNpy(file).buffer).toBe(file.buffer);
  });

  test.each([
    ['another magic number', () => parseNpy(encodeUtf8('not an array at all')), /^INVALID_MODEL: .*magic/],
    ['an unknown version', () => parseNpy(npy('{}', new Uint8Array(), 9)), /^INVALID_MODEL: .*version 9/],
    [
      'objects: they are pickles',
      () => parseNpy(npy(head('|O', '(1,)'), new Uint8Array(8))),
      /^UNSUPPORTED_MODEL: .*pickle/,
    ],
    [
      'structured types',
      () => parseNpy(npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", new Uint8Array(4))),
      /^UNSUPPORTED_MODEL: .*structured/,
    ],
    ['complex numbers', () => parseNpy(npy(head('<c8', '(1,)'), new Uint8Array(8))), /^UNSUPPORTED_MODEL/],
    ['too few elements', () => parseNpy(npy(head('<f4', '(3,)'), new Uint8Array(8))), /need 12 bytes, got 8/],
    ['too many elements', () => parseNpy(npy(head('<f4', '(1,)'), new Uint8Array(8))), /need 4 bytes, got 8/],
    [
      'absurd dimensions',
      () => parseNpy(npy(head('<f4', '(9999999999999999, 9999999999999999)'), new Uint8Array())),
      /too large/,
    ],
    [
      'too many dimensions',
      () => parseNpy(npy(head('|u1', '(1,1,1,1,1,1,1,1,1)'), new Uint8Array(1))),
      /more than 8 dimensions/,
    ],
    ['absurd strings', () => parseNpy(npy(head('<U9999999', '(1,)'), new Uint8Array(4))), /strings of 9999999/],
    [
      'a character that is none',
      () => parseNpy(npy(head('<U1', '(1,)'), Uint8Array.of(0, 0, 17, 0))),
      /character 0 of element 0/,
    ],
    ['a bool of 2', () => parseNpy(npy(head('|b1', '(1,)'), Uint8Array.of(2))), /neither 0 nor 1/],
    [
      'code in the header',
      () => parseNpy(npy("{'descr': __import__('os'), 'fortran_order': False, 'shape': ()}", new Uint8Array())),
      /^INVALID_MODEL/,
    ],
    [
      'an entry twice',
      () => parseNpy(npy("{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': ()}", Uint8Array.of(1))),
      /given twice/,
    ],
    ['a missing entry', () => parseNpy(npy("{'descr': '|u1'}", Uint8Array.of(1))), /needs descr/],
    [
      'something behind the dictionary',
      () => parseNpy(npy(`${head('|u1', '()')}; x`, Uint8Array.of(1))),
      /nothing more/,
    ],
    ['bf16', () => writeNpy(Tensor.zeros('bf16', [1])), /npy has no bf16/],
    ['strings that end in U+0000', () => writeNpy(Tensor.of('string', ['a\u0000'])), /end in U\+0000/],
  ])('refuses %s', (_, call, pattern) => {
    expect(refusal(call)).toMatch(pattern);
  });
});

describe('npz', () => {
  /** Made with zipfile of CPython 3: `ramp` deflated and with a zip64 local header as numpy.savez writes, `names` stored. */
  const FROM_PYTHON = [
    'UEsDBC0AAAAIAAAAIQCWKdVn//////////8IABQAcmFtcC5ucHkBABAAgAEAAAAAAAC9AAAAAAAAAJ3Ky07CUACE4QIiIqigXJSbR0APl4IotWAp',
    'sGOHYcOCFWmgBhJDSWvcEJ+CF+bnFZjkW8xk9l/T8WTmU/6UnVza3sKVhpDmWpOqkN+O++tam7njLu3jPrJ+PJvdW1lbm17RNbWqin9xei4V4oMf',
    'AZwhiHOEcIEwjscIorjCNW4QQxy3uEMCSaSQxj0ekEEWOeRRwCMEnlBECWU84wUSFVRRQx0qGmjiFS284R1taPiAjg66+ISBHkz0McAQB1BLAwQU',
    'AAAAAAAAACFQHfgtjJgAAACYAAAACQAAAG5hbWVzLm5weZNOVU1QWQEAdgB7J2Rlc2NyJzogJzxVMycsICdmb3J0cmFuX29yZGVyJzogRmFsc2Us',
    'ICdzaGFwZSc6ICgyLCksIH0gICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAKYQAAAGIA',
    'AAAAAAAAeAAAAHkAAAB6AAAAUEsBAi0DLQAAAAgAAAAhAJYp1We9AAAAgAEAAAgAAAAAAAAAAAAAAIABAAAAAHJhbXAubnB5UEsBAhQDFAAAAAAA',
    'AAAhUB34LYyYAAAAmAAAAAkAAAAAAAAAAAAAAIAB9wAAAG5hbWVzLm5weVBLBQYAAAAAAgACAG0AAAC2AQAAAAA=',
  ].join('');

  test('reads what another writer made', () => {
    const arrays = parseNpz(Buffer.from(FROM_PYTHON, 'base64'));
    expect([...arrays.keys()].sort()).toEqual(['names', 'ramp']);
    expect(arrays.get('ramp')!.toArray()).toEqual(Array.from({ length: 64 }, (_, i) => i));
    expect(arrays.get('names')!.toArray()).toEqual(['ab', 'xyz']);
  });

  test('gives back what was written', () => {
    fc.assert(
      fc.property(
        fc.dictionary(
          fc.string({ minLength: 1 }).filter(name => name !== '__proto__'),
          tensors,
          { maxKeys: 4 },
        ),
        arrays => {
          const bytes = writeNpz(arrays);
          const back = parseNpz(bytes);
          expect([...back.keys()].sort()).toEqual(Object.keys(arrays).sort());
          for (const [name, tensor] of Object.entries(arrays))
            expect(back.get(name)!.toBytes()).toEqual(tensor.toBytes());
          expect(writeNpz(arrays)).toEqual(bytes);
        },
      ),
    );
  });

  /** An archive of one deflated entry whose directory says what `change` makes of it. */
  function deflated(data: Uint8Array, change: (directory: DataView) => void = () => {}): Uint8Array {
    const stored = writeNpz({ x: Tensor.of('u8', [...data]) });
    const view = new DataView(stored.buffer);
    const [nameBytes, size] = [view.getUint16(26, true), view.getUint32(22, true)];
    const body = stored.subarray(30 + nameBytes, 30 + nameBytes + size);
    const packed = new Uint8Array(deflateRawSync(body));
    const directory = stored.slice(30 + nameBytes + size);
    const entry = new DataView(directory.buffer);
    entry.setUint16(10, 8, true);
    entry.setUint32(20, packed.length, true);
    const end = directory.length - 22;
    entry.setUint32(end + 16, 30 + nameBytes + packed.length, true);
    change(entry);
    return concatBytes(stored.subarray(0, 30 + nameBytes), packed, directory);
  }

  test.each([
    [
      'a size that deflate cannot reach',
      (d: DataView) => d.setUint32(24, 0x7fffffff, true),
      /cannot unpack to 2147483647/,
    ],
    [
      'a size that is not true',
      (d: DataView) => d.setUint32(24, d.getUint32(24, true) + 1, true),
      /its directory says/,
    ],
    ['a wrong checksum', (d: DataView) => d.setUint32(16, 1, true), /checksum/],
    ['an encrypted entry', (d: DataView) => d.setUint16(8, 1, true), /encrypted/],
    ['an unknown method', (d: DataView) => d.setUint16(10, 12, true), /method 12/],
    ['an entry behind the end', (d: DataView) => d.setUint32(42, 0x00ffffff, true), /no header/],
    ['zip64', (d: DataView) => d.setUint32(20, 0xffffffff, true), /zip64/],
    ['several disks', (d: DataView) => d.setUint16(d.byteLength - 18, 1, true), /several disks/],
    [
      'a directory that is longer than the file',
      (d: DataView) => d.setUint32(d.byteLength - 10, 0x7fffffff, true),
      /passes its end/,
    ],
  ])('refuses %s', (_, change, pattern) => {
    const data = new Uint8Array(100).fill(7);
    expect(parseNpz(deflated(data)).get('x')!.size).toBe(100);
    expect(refusal(() => parseNpz(deflated(data, change)))).toMatch(pattern);
  });

  test('refuses an archive that unpacks to more than its limit, before it unpacks anything', () => {
    const bomb = deflated(new Uint8Array(1_000_000));
    expect(bomb.length).toBeLessThan(2_000);
    expect(refusal(() => parseNpz(bomb, { bytes: 100_000 }))).toMatch(/^MODEL_TOO_LARGE: .*unpack to 1000\d{3} bytes/);
    expect(refusal(() => parseNpz(writeNpz({ a: Tensor.of('u8', 1), b: Tensor.of('u8', 1) }), { entries: 1 }))).toMatch(
      /^MODEL_TOO_LARGE/,
    );
  });

  test('refuses entries that share bytes', () => {
    const two = writeNpz({ a: Tensor.of('u8', 1), b: Tensor.of('u8', 2) });
    const view = new DataView(two.buffer);
    const start = view.getUint32(two.length - 6, true);
    const second = start + 46 + view.getUint16(start + 28, true);
    view.setUint32(second + 42, 0, true);
    expect(refusal(() => parseNpz(two))).toMatch(/overlaps another/);
  });

  test(
    'any bytes give arrays or a typed error',
    () => {
      const files = fc.constantFrom(
        writeNpz({ a: Tensor.of('f32', [1, 2, 3]), b: Tensor.of('string', ['x']) }),
        deflated(Uint8Array.from({ length: 300 }, (_, i) => i)),
      );
      const bytes = fc.oneof(flipped(files, 6), cut(files), spliced(files), fc.uint8Array({ maxLength: 200 }));
      let read = 0;
      fc.assert(
        fc.property(bytes, file => {
          if (typedWithin(LIMIT_MS, () => parseNpz(file))) read++;
        }),
        { numRuns: runsOf(3000) },
      );
      expect(read).toBeGreaterThan(0);
    },
    FUZZ_TIMEOUT_MS,
  );
});

describe('npy, damaged', () => {
  const files = fc.constantFrom(
    writeNpy(Tensor.zeros('f32', [20, 10])),
    writeNpy(Tensor.zeros('i64', [50])),
    writeNpy(Tensor.of('string', ['x', 'yz'])),
    npy(head('<f8', '(20, 2)', 'True'), new Uint8Array(320)),
  );

  test(
    'any bytes give an array or a typed error',
    () => {
      const bytes = fc.oneof(flipped(files, 6), cut(files), spliced(files), fc.uint8Array({ maxLength: 200 }));
      let read = 0;
      fc.assert(
        fc.property(bytes, file => {
          if (typedWithin(LIMIT_MS, () => parseNpy(file))) read++;
        }),
        { numRuns: runsOf(3000) },
      );
      expect(read).toBeGreaterThan(runsOf(3000) / 20); // the property is not vacuous
    },
    FUZZ_TIMEOUT_MS,
  );

  test(
    'any header gives an array or a typed error',
    () => {
      const size = fc.oneof(fc.nat(4), fc.constantFrom(-1, 2 ** 31, 1e300, 2 ** 53));
      const shape = fc.oneof(
        fc.array(size, { maxLength: 4 }).map(sizes => `(${sizes.join(', ')}${sizes.length === 1 ? ',' : ''})`),
        fc.string(),
      );
      const type = fc.oneof(fc.constantFrom('<f4', '|u1', '>i8', '<U3', '<U99999999999', '|O', '<c8'), fc.string());
      const header = fc.oneof(
        fc.tuple(type, shape, fc.constantFrom('True', 'False', '1')).map(parts => head(...parts)),
        fc.string(),
        fc.constantFrom('('.repeat(5000), `{${"'a': ".repeat(3000)}`),
      );
      fc.assert(
        fc.property(header, fc.uint8Array({ maxLength: 64 }), (text, data) => {
          typedWithin(LIMIT_MS, () => parseNpy(npy(text, data)));
        }),
        { numRuns: runsOf(3000) },
      );
    },
    FUZZ_TIMEOUT_MS,
  );
});
