import { describe, expect, test } from 'vitest';
import { loadBinding, nativeStatus, openProgramHost } from '../../native/index.ts';
import { type Backend, mixedBackend, nativeBackend, referenceBackend } from '../../src/engine/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { filled, noFile, Sketch } from '../native/program-seeds.ts';

const native = nativeStatus().kind === 'loaded' ? [nativeBackend(openProgramHost(loadBinding()!))] : [];
const backends: readonly Backend[] = [referenceBackend, ...native, mixedBackend([...native, referenceBackend])];

describe.each(backends.map(backend => [backend.name, backend] as const))('runInto on %s', (_, backend) => {
  const g = new Sketch('into');
  const graph = g.build(g.op('Neg', [g.op('Tanh', [g.input('x', [2, 3])])]));
  const name = graph.values[graph.outputs[0]!]!.name;
  const model = backend.prepare(graph, { constants: noFile });
  const x = filled([2, 3], 3);

  test('fills the tensor of the caller, also one that lies behind others in its buffer, and over its own input', () => {
    const wanted = model.runSync({ x })[name]!.toArray();
    const into = Tensor.zeros('f32', [2, 3]);
    model.runInto({ x }, { [name]: into });
    expect(into.toArray()).toEqual(wanted);
    const buffer = new ArrayBuffer(64);
    const within = Tensor.external('f32', [2, 3], buffer, { byteOffset: 20 });
    model.runInto({ x }, { [name]: within });
    expect(within.toArray()).toEqual(wanted);
    expect([...new Float32Array(buffer, 0, 5), ...new Float32Array(buffer, 44)]).toEqual(new Array(10).fill(0));
    const own = x.clone();
    model.runInto({ x: own }, { [name]: own });
    expect(own.toArray()).toEqual(wanted);
  });

  test.each<[string, string, () => Record<string, Tensor>]>([
    ['none', 'INPUT_MISMATCH', () => ({})],
    ['one by another name', 'INPUT_MISMATCH', () => ({ [`${name}?`]: Tensor.zeros('f32', [2, 3]) })],
    ['one too many', 'INPUT_MISMATCH', () => ({ [name]: Tensor.zeros('f32', [2, 3]), more: Tensor.zeros('f32', [1]) })],
    ['another dtype', 'DTYPE_MISMATCH', () => ({ [name]: Tensor.zeros('i32', [2, 3]) })],
    ['another shape', 'SHAPE_MISMATCH', () => ({ [name]: Tensor.zeros('f32', [3, 2]) })],
    ['another rank', 'SHAPE_MISMATCH', () => ({ [name]: Tensor.zeros('f32', [2, 3, 1]) })],
    ['a view across', 'INPUT_MISMATCH', () => ({ [name]: Tensor.zeros('f32', [3, 2]).transpose() })],
    ['shared memory', 'INPUT_MISMATCH', () => ({ [name]: Tensor.external('f32', [2, 3], new SharedArrayBuffer(24)) })],
  ])('refuses %s', (_what, code, outputs) => {
    const given = outputs();
    expect(() => model.runInto({ x }, given)).toThrow(expect.objectContaining({ code }));
    for (const tensor of Object.values(given)) expect(tensor.values().every(value => value === 0)).toBe(true);
  });
});
