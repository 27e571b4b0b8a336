import { describe, expect, test } from 'vitest';
import { toOnnx } from '../../bench/engine-under-test.ts';
import { mlp } from '../../bench/models/dense.ts';
import { normalTensor } from '../../bench/models/network.ts';
import { oneNode } from '../../bench/models/one-node.ts';
import type { OnnxRuntime } from '../../bench/peer.ts';
import type { Check, Row } from '../../bench/rows.ts';
import { timeSideBySide } from '../../bench/side-by-side.ts';
import { seededRandom } from '../../examples/digits/random.ts';
import { loadNative } from '../../native/index.ts';
import { Tensor } from '../../src/tensor/index.ts';

const collect = () => {
  const [rows, checks, notes]: [Row[], Check[], string[]] = [[], [], []];
  const report = {
    row: (row: Row) => void rows.push(row),
    check: (check: Check) => void checks.push(check),
    note: (line: string) => void notes.push(line),
  };
  return { rows, checks, report };
};

/** A rival that answers every call with `data` of `shape`. */
const rival = (name: string, data: number[], shape: number[]): OnnxRuntime => ({
  name: 'rival',
  open: async () => ({
    inputNames: [],
    outputNames: [name],
    run: async () => ({ [name]: { data: Float32Array.from(data), dims: shape } }),
    release: async () => {},
  }),
  tensor: () => undefined,
  fromTensor: () => undefined,
});

const work = (extra: object = {}) => ({
  suite: 'engine',
  case: 'small',
  bytes: toOnnx(mlp([4, 3, 2])),
  inputs: { x: normalTensor(seededRandom(1), [1, 4]) },
  ...extra,
});

describe('a model on both sides', () => {
  test('is compared with the reference backend where there is no rival, then timed', async () => {
    const { rows, checks, report } = collect();
    await timeSideBySide(work({ holdTo: { atMost: 1e6 } }), undefined, report);
    expect(checks).toMatchObject([
      { name: 'small', ok: true, detail: expect.stringContaining('the reference backend') },
    ]);
    expect(rows).toMatchObject([{ case: 'small', unit: 'µs/call', peer: null, ratio: null, holdTo: { atMost: 1e6 } }]);
    expect(rows[0]!.ours).toBeGreaterThan(0);
  });

  test('gets no row when the outputs differ', async () => {
    const { rows, checks, report } = collect();
    await timeSideBySide(work(), rival('y', [1, 2], [1, 2]), report);
    expect(checks).toMatchObject([{ ok: false }]);
    expect(rows).toEqual([]);
  });

  test.each(['into', 'sync', 'async'] as const)('is called %s beside the rival', async call => {
    const { rows, checks, report } = collect();
    const relu = {
      suite: 'kernels',
      case: 'relu',
      bytes: toOnnx(oneNode('Relu', [{ name: 'x', dtype: 'f32', shape: [2] }])),
      inputs: { x: normalTensor(seededRandom(1), [2], 0, 3) },
      rate: { unit: 'GB/s', perCall: 16e-9 },
      call,
    };
    await timeSideBySide(relu, rival('y', [3, 3], [2]), report);
    expect(checks).toMatchObject([{ ok: true, detail: expect.stringContaining('rival') }]);
    expect(rows).toMatchObject([{ unit: 'GB/s', peerName: 'rival' }]);
    expect(rows[0]!.ratio).toBeGreaterThan(0);
  });

  test('says when the rival is too near to the peak for what a row is held to', async () => {
    const { rows, report } = collect();
    const relu = {
      suite: 'kernels',
      case: 'relu',
      bytes: toOnnx(oneNode('Relu', [{ name: 'x', dtype: 'f32', shape: [1] }])),
      inputs: { x: normalTensor(seededRandom(1), [1], 0, 3) },
      rate: { unit: 'GFLOP/s', perCall: 1 },
      holdTo: { ratio: 1.5 },
      ceiling: 1e-9,
    };
    await timeSideBySide(relu, rival('y', [3], [1]), report);
    expect(rows[0]!.note).toMatch(/the rival is at \d+% of the measured peak, which leaves .*× at most/);
  });

  test.skipIf(loadNative() === undefined)('keeps a row of the rival where ours refuses the model', async () => {
    const { rows, checks, report } = collect();
    // No native kernel computes in f64.
    const bytes = toOnnx(oneNode('Relu', [{ name: 'x', dtype: 'f64', shape: [2] }]));
    const inputs = { x: Tensor.of('f64', [3, 3]) };
    await timeSideBySide({ ...work(), bytes, inputs, holdTo: { ratio: 1 } }, rival('y', [3, 3], [2]), report);
    expect(checks).toEqual([]);
    expect(rows).toMatchObject([
      { ours: null, ratio: null, holdTo: { ratio: 1 }, note: expect.stringContaining('f64') },
    ]);
    expect(rows[0]!.peer).toBeGreaterThan(0);
  });
});
