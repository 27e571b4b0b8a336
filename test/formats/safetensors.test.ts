import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CloisterError, concatBytes, type ErrorCode, encodeUtf8 } from '../../src/base/index.ts';
import { bytesSource, parseSafetensors, writeSafetensors } from '../../src/formats/index.ts';
import { type DType, Tensor } from '../../src/tensor/index.ts';
import { cut, FUZZ_TIMEOUT_MS, flipped, runsOf, spliced, typedWithin } from './fuzz.ts';

/** A file of this header text and data. */
function file(header: string, data: Uint8Array = new Uint8Array(0)): Uint8Array {
  const text = encodeUtf8(header);
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(text.length), true);
  return concatBytes(length, text, data);
}

describe('parseSafetensors', () => {
  test('gives ranges of the file, in the order of their bytes', () => {
    const header = JSON.stringify({
      b: { dtype: 'F32', shape: [1, 2], data_offsets: [3, 11] },
      __metadata__: { format: 'pt' },
      a: { dtype: 'U8', shape: [3], data_offsets: [0, 3] },
      none: { dtype: 'I64', shape: [0, 4], data_offsets: [3, 3] },
    });
    const data = concatBytes(Uint8Array.of(1, 2, 3), new Uint8Array(Float32Array.of(0.5, -1).buffer));
    const source = bytesSource(file(header, data));
    const { tensors, metadata } = parseSafetensors(source);
    expect([...tensors.keys()]).toEqual(['a', 'none', 'b']);
    expect(metadata.get('format')).toBe('pt');
    const { dtype, shape, offset, length } = tensors.get('b')!;
    expect(Tensor.fromBytes(dtype, shape, source.read(offset, length)).toArray()).toEqual([[0.5, -1]]);
  });

  const one = (entry: string, data = 4): Uint8Array => file(`{"t":${entry}}`, new Uint8Array(data));
  const good = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}';
  const refused: readonly (readonly [string, Uint8Array, ErrorCode, RegExp])[] = [
    ['too few bytes', new Uint8Array(7), 'INVALID_MODEL', /8 bytes, the file has 7/],
    ['a header past the end', Uint8Array.of(9, 0, 0, 0, 0, 0, 0, 0), 'INVALID_MODEL', /header of 9 bytes/],
    ['a header length of 2^64 - 1', new Uint8Array(8).fill(255), 'INVALID_MODEL', /header of 18446744073709551615/],
    ['a header that is an array', file('[]'), 'INVALID_MODEL', /does not begin with/],
    ['a header that is not JSON', file('{'), 'INVALID_MODEL', /not JSON/],
    ['an unknown dtype', one('{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}'), 'UNSUPPORTED_MODEL', /F8_E4M3/],
    [
      'an unknown key',
      one('{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}'),
      'INVALID_MODEL',
      /unknown key "x"/,
    ],
    [
      'a length that is not the shape',
      one('{"dtype":"F32","shape":[2],"data_offsets":[0,4]}'),
      'INVALID_MODEL',
      /needs 8 bytes/,
    ],
    [
      'offsets past the end',
      one('{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'),
      'INVALID_MODEL',
      /not a range of 4 bytes/,
    ],
    ['offsets in reverse', one('{"dtype":"F32","shape":[1],"data_offsets":[4,0]}'), 'INVALID_MODEL', /not a range/],
    [
      'a hole before',
      one('{"dtype":"F32","shape":[1],"data_offsets":[4,8]}', 8),
      'INVALID_MODEL',
      /the bytes before it end/,
    ],
    ['bytes after the last', one(good, 5), 'INVALID_MODEL', /the tensors end at/],
    ['an overlap', file(`{"a":${good},"b":${good}}`, new Uint8Array(4)), 'INVALID_MODEL', /begins at byte/],
    ['a duplicate key', file(`{"t":${good},"t":${good}}`, new Uint8Array(4)), 'INVALID_MODEL', /"t" is given twice/],
    [
      'a duplicate key in two spellings',
      file(`{"t":${good},"\\u0074":${good}}`, new Uint8Array(4)),
      'INVALID_MODEL',
      /given twice/,
    ],
    [
      'a negative size',
      one('{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}'),
      'INVALID_MODEL',
      /integers of at least 0/,
    ],
    [
      'a product past 2^31',
      one('{"dtype":"F32","shape":[65536,65536],"data_offsets":[0,4]}'),
      'INVALID_MODEL',
      /limit/,
    ],
    ['metadata that is not strings', file('{"__metadata__":{"a":1}}'), 'INVALID_MODEL', /not a string/],
  ];
  test.each(refused)('refuses %s', (_, bytes, code, pattern) => {
    const run = (): unknown => parseSafetensors(bytesSource(bytes));
    expect(run).toThrow(pattern);
    expect(run).toThrow(expect.objectContaining({ code }));
  });

  test('keeps its limits', () => {
    const bytes = one(good);
    expect(() => parseSafetensors(bytesSource(bytes), { headerBytes: 10 })).toThrow(CloisterError);
    expect(() => parseSafetensors(bytesSource(bytes), { tensors: 0 })).toThrow(/more than 0 tensors/);
  });

  test('does not run out of stack on a deep or long header', () => {
    expect(() => parseSafetensors(bytesSource(file(`{"a":${'['.repeat(1e5)}${']'.repeat(1e5)}}`)))).toThrow(
      CloisterError,
    );
    expect(() => parseSafetensors(bytesSource(file(`{"${'a'.repeat(5e6)}":1}`)))).toThrow(CloisterError);
  });

  const corpus = process.env['CLOISTER_CORPUS'];
  test.skipIf(!corpus)('reads a real file', () => {
    const { tensors } = parseSafetensors(
      bytesSource(readFileSync(join(corpus!, 'models/silero-vad/model.safetensors'))),
    );
    expect(tensors.size).toBe(15);
    expect(tensors.get('stft_conv.weight')).toMatchObject({ dtype: 'f32', offset: 1216, length: 264_192 });
  });
});

describe('writeSafetensors', () => {
  const tensor: fc.Arbitrary<Tensor> = fc
    .tuple(
      fc.constantFrom<DType>('f64', 'f32', 'f16', 'bf16', 'i64', 'u8', 'bool', 'u32'),
      fc.array(fc.nat(3), { maxLength: 3 }),
    )
    .map(([dtype, shape]) => Tensor.zeros(dtype, shape));

  test('is read back, each tensor at a multiple of its element size, and has one spelling', () => {
    const names = fc.string().filter(name => name !== '__metadata__' && name !== '__proto__');
    fc.assert(
      fc.property(fc.dictionary(names, tensor, { maxKeys: 6 }), tensors => {
        const bytes = writeSafetensors(tensors, { metadata: { format: 'pt' } });
        const read = parseSafetensors(bytesSource(bytes));
        expect([...read.metadata]).toEqual([['format', 'pt']]);
        expect([...read.tensors.keys()].sort()).toEqual(Object.keys(tensors).sort());
        for (const [name, { dtype, shape, offset, length }] of read.tensors) {
          const view = Tensor.fromBytes(dtype, shape, bytes.subarray(offset, offset + length));
          expect(view.toBytes()).toEqual(tensors[name]!.toBytes());
          if (length > 0) expect(view.buffer).toBe(bytes.buffer);
        }
        const shuffled = Object.fromEntries(Object.entries(tensors).reverse());
        expect(writeSafetensors(shuffled, { metadata: { format: 'pt' } })).toEqual(bytes);
      }),
    );
  });

  test('refuses what the format has no words for', () => {
    expect(() => writeSafetensors({ s: Tensor.of('string', ['a']) })).toThrow(/cannot hold "s" of string/);
    expect(() => writeSafetensors({ __metadata__: Tensor.zeros('u8', [1]) })).toThrow(/cannot hold/);
  });

  test.skipIf(!process.env['CLOISTER_CORPUS'])('writes real weights anew without changing one', () => {
    const path = join(process.env['CLOISTER_CORPUS']!, 'models/silero-vad/model.safetensors');
    const source = bytesSource(readFileSync(path));
    const stored = parseSafetensors(source).tensors;
    const load = (from: ReturnType<typeof bytesSource>, of: typeof stored): Map<string, Tensor> =>
      new Map(
        [...of].map(([name, { dtype, shape, offset, length }]) => [
          name,
          Tensor.fromBytes(dtype, shape, from.read(offset, length)),
        ]),
      );
    const tensors = load(source, stored);
    const again = bytesSource(writeSafetensors(tensors));
    const back = load(again, parseSafetensors(again).tensors);
    expect(back.size).toBe(tensors.size);
    for (const [name, tensor] of tensors) expect(back.get(name)!.toBytes()).toEqual(tensor.toBytes());
  });
});

describe('safetensors, damaged', () => {
  const LIMIT_MS = 2000; // generous: these files are read in microseconds
  const seeds = [
    writeSafetensors({ w: Tensor.zeros('f32', [10, 20]), b: Tensor.of('bf16', [1]) }, { metadata: { format: 'pt' } }),
    writeSafetensors({ ids: Tensor.zeros('i64', [100]), none: Tensor.zeros('u8', [0, 3]), s: Tensor.of('bool', 1) }),
  ];

  /** Fails unless every range lies in the file and has the bytes that its facts need. */
  const read = (bytes: Uint8Array): boolean => {
    const file = typedWithin(LIMIT_MS, () => parseSafetensors(bytesSource(bytes)));
    for (const { dtype, shape, offset, length } of file?.tensors.values() ?? []) {
      expect(Tensor.fromBytes(dtype, shape, bytes.slice(offset, offset + length)).bytes().length).toBe(length);
    }
    return file !== undefined;
  };

  test(
    'any bytes give ranges of the file or a typed error',
    () => {
      const files = fc.constantFrom(...seeds);
      const bytes = fc.oneof(flipped(files, 4), cut(files), spliced(files), fc.uint8Array({ maxLength: 200 }));
      let good = 0;
      fc.assert(
        fc.property(bytes, value => {
          if (read(value)) good++;
        }),
        { numRuns: runsOf(3000) },
      );
      expect(good).toBeGreaterThan(runsOf(3000) / 50); // the property is not vacuous
    },
    FUZZ_TIMEOUT_MS,
  );

  test(
    'any header gives ranges of the file or a typed error',
    () => {
      const entry = fc.record(
        {
          dtype: fc.constantFrom('F32', 'U8', 'X'),
          shape: fc.array(fc.integer({ min: -1, max: 4 })),
          data_offsets: fc.array(fc.nat(20)),
        },
        { requiredKeys: [] },
      );
      const bytes = fc.nat(8).map(size => ({ dtype: 'U8', shape: [size], data_offsets: [0, size] }));
      const header = fc.oneof(
        fc.dictionary(fc.string(), fc.oneof(entry, bytes)).map(value => JSON.stringify(value)),
        fc.json(),
        fc.string(),
      );
      fc.assert(
        fc.property(header, fc.uint8Array({ maxLength: 40 }), (text, data) => {
          read(file(text, data));
        }),
        { numRuns: runsOf(2000) },
      );
    },
    FUZZ_TIMEOUT_MS,
  );
});
