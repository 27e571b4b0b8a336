import { Buffer } from 'node:buffer';
import { describe, expect, test } from 'vitest';
import { DTYPES, type DType, fromTensor, MEMORY_TYPES, Tensor, toTensor } from '../../src/tensor/index.ts';

/** The constructors that the libraries have, as far as the table uses them. */
const ort = {
  Tensor: class {
    readonly location = 'cpu';
    disposed = false;
    readonly type: string;
    readonly data: unknown;
    readonly dims: readonly number[];
    constructor(type: string, data: unknown, dims: readonly number[]) {
      this.type = type;
      this.data = data;
      this.dims = dims;
    }
    dispose(): void {
      this.disposed = true;
    }
  },
};
const tf = {
  tensor: (data: ArrayLike<number>, shape: readonly number[], dtype: string) => {
    const own = Array.isArray(data) ? [...data] : (data as Float32Array).slice();
    const made = {
      dtype,
      shape,
      dataSync: () => own,
      disposed: false,
      dispose() {
        made.disposed = true;
      },
    };
    return made;
  },
};
const arrow = {
  makeVector: (data: ArrayLike<number>) => ({ length: data.length, nullCount: 0, type: {}, toArray: () => data }),
};
const LIBRARIES: Readonly<Record<string, object>> = { onnxruntime: ort, tfjs: tf, arrow, buffer: { Buffer } };

const sample = (dtype: DType): Tensor =>
  dtype === 'string' ? Tensor.of('string', ['a', '', 'é']) : Tensor.of(dtype, [0, 1, 1]);

describe('the table of memory types', () => {
  test('has complete rows of distinct names, each with at least one dtype', () => {
    expect(new Set(MEMORY_TYPES.map(row => row.name)).size).toBe(MEMORY_TYPES.length);
    for (const row of MEMORY_TYPES) {
      expect(Object.keys(row.dtypes).length, row.name).toBeGreaterThan(0);
      for (const dtype of Object.keys(row.dtypes)) expect(Object.keys(DTYPES), row.name).toContain(dtype);
      for (const member of ['recognises', 'read', 'write', 'toTensor', 'fromTensor', 'free'] as const) {
        expect(typeof row[member], `${row.name}.${member}`).toBe('function');
      }
    }
  });

  const cells = MEMORY_TYPES.flatMap(row => Object.keys(row.dtypes).map(dtype => [row.name, dtype as DType] as const));

  test('what TensorFlow.js may write again is not shared', () => {
    const data = Float32Array.of(1, 2);
    const tensor = toTensor({ dtype: 'float32', shape: [2], dataSync: () => data, dispose: () => {} });
    data[0] = 100;
    expect(tensor.toArray()).toEqual([1, 2]);
  });

  test('an array is read as another dtype only where that dtype is stored in such arrays', () => {
    expect(toTensor(Uint16Array.of(0x3c00), { dtype: 'f16' }).toArray()).toEqual([1]);
    expect(() => toTensor(Int32Array.of(1), { dtype: 'f32' })).toThrow(/holds i32, not f32/);
    expect(() => toTensor(Int16Array.of(1), { dtype: 'f16' })).toThrow(/holds i16, not f16/);
  });

  test.each(cells)('%s of %s goes out and comes back, shared or copied as the row says', (name, dtype) => {
    const row = MEMORY_TYPES.find(each => each.name === name)!;
    const tensor = sample(dtype);
    const value = fromTensor(tensor, name, LIBRARIES[name]);
    expect(MEMORY_TYPES.find(each => each.recognises(value))?.name).toBe(name);
    const back = toTensor(value, { dtype });
    expect([back.dtype, [...back.shape], back.toArray()]).toEqual([dtype, [3], tensor.toArray()]);
    const shared = row.write(dtype) === 'view' && row.read(dtype) === 'view';
    if (dtype !== 'string') expect(back.buffer === tensor.buffer).toBe(shared);
    row.free(value as never);
    if (name === 'onnxruntime' || name === 'tfjs') expect((value as { disposed: boolean }).disposed).toBe(true);
  });

  test('reads shapes from the value, or from the hint', () => {
    expect(
      toTensor([
        [1, 2],
        [3, 4],
      ]).shape,
    ).toEqual([2, 2]);
    expect(toTensor(Int32Array.of(1, 2, 3, 4), { shape: [2, 2] }).toArray()).toEqual([
      [1, 2],
      [3, 4],
    ]);
    expect(toTensor(new ort.Tensor('int64', BigInt64Array.of(1n, 2n), [1, 2])).toArray()).toEqual([[1n, 2n]]);
    expect(toTensor(Buffer.from([1, 0, 2, 0]), { dtype: 'u16' }).toArray()).toEqual([1, 2]);
    expect(toTensor(Uint16Array.of(0x3c00), { dtype: 'f16' }).toArray()).toEqual([1]);
    expect(toTensor(new Uint8ClampedArray([7])).dtype).toBe('u8');
    expect([toTensor(1.5).dtype, toTensor([1n]).dtype, toTensor([true]).dtype, toTensor(['x']).dtype]).toEqual([
      'f32',
      'i64',
      'bool',
      'string',
    ]);
  });

  test.each([
    ['a map', () => toTensor(new Map()), /a Map is no memory of a known type/],
    ['null', () => toTensor(null), /a null is no memory/],
    ['a wrong shape', () => toTensor(new Float32Array(4), { shape: [5] }), /needs 20 bytes, got 16/],
    ['a shape that nested arrays do not have', () => toTensor([1, 2], { shape: [3] }), /reshape/],
    [
      'a dtype that the array does not hold',
      () => toTensor(new Float32Array(1), { dtype: 'i64' }),
      /holds f32, not i64/,
    ],
    [
      'a dtype that the value contradicts',
      () => toTensor(new ort.Tensor('int32', Int32Array.of(1), [1]), { dtype: 'f32' }),
      /expected f32/,
    ],
    [
      'an element type that is unknown',
      () => toTensor(new ort.Tensor('complex64', new Float32Array(2), [1])),
      /"complex64" has no dtype/,
    ],
    [
      'an onnxruntime tensor whose dims lie',
      () => toTensor(new ort.Tensor('float32', new Float32Array(2), [3])),
      /needs 12 bytes, got 8/,
    ],
    [
      'a column with nulls',
      () => toTensor({ length: 1, nullCount: 1, type: {}, toArray: () => new Float32Array(1) }),
      /1 nulls/,
    ],
    ['a matrix as a column', () => fromTensor(Tensor.zeros('f32', [1, 1]), 'arrow', arrow), /one-dimensional/],
    ['a dtype that the library lacks', () => fromTensor(sample('i64'), 'tfjs', tf), /tfjs has no i64/],
    ['a library that was not passed', () => fromTensor(sample('f32'), 'onnxruntime'), /pass the module/],
    ['a type that nobody knows', () => fromTensor(sample('f32'), 'tape'), /no memory is called "tape"/],
  ])('refuses %s', (_, call, pattern) => {
    expect(call).toThrow(pattern);
  });
});
