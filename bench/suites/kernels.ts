/**
 * Square matrix products, C = A · B in f32, beside onnxruntime's MatMul.
 *
 * "B constant" is a layer of a model: B is packed before anything is timed, by us and, since it is an initialiser, by
 * onnxruntime as well. "both inputs" packs B in every call. Our kernel is called directly and writes into an array that is
 * there; onnxruntime is reached the only way that Node has, `session.run`, and makes a new array each time. What a whole call
 * of a model costs on our side is the third case, through the backend.
 * @module
 */
import { loadNative } from '../../native/index.ts';
import { type Graph, GraphBuilder } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { openNative, toOnnx } from '../engine-under-test.ts';
import { compare, type Subject } from '../measure.ts';
import { INSTALL_PEERS, loadOnnxRuntime, type OnnxRuntime } from '../peer.ts';
import { type Report, rateRow } from '../rows.ts';

const SIZES = [64, 128, 256, 512, 1024];

/** The suite `kernels`. */
export async function benchKernels(report: Report): Promise<void> {
  if (loadNative() === undefined) {
    report.note('skipped: there is no native binary (npm run build:native)');
    return;
  }
  const ort = loadOnnxRuntime();
  if (ort === undefined) report.note(`no rival: ${INSTALL_PEERS}`);
  for (const size of SIZES) await timeSize(size, ort, report);
}

async function timeSize(size: number, ort: OnnxRuntime | undefined, report: Report): Promise<void> {
  const native = loadNative()!;
  const [a, b] = [randomMatrix(size, 1), randomMatrix(size, 2)];
  const c = new Float32Array(size * size);
  const shape = { m: size, n: size, k: size };
  const packed = native.packGemm(shape, b);
  const [constant, both] = [matmul(size, b), matmul(size, undefined)];

  using executable = openNative(constant);
  const input = { a: Tensor.from('f32', [size, size], a) };
  const ours = {
    constant: { run: () => native.gemmPacked(shape, a, packed, c) },
    both: { run: () => native.gemm(shape, a, b, c) },
    model: { run: () => executable.runSync(input) },
  };
  const peers = await openPeers(ort, size, a, b, constant, both);

  ours.constant.run();
  const results: Float32Array[] = [c.slice()];
  ours.both.run();
  results.push(c.slice());
  results.push(executable.runSync(input)['c']!.elements() as Float32Array);
  if (peers !== undefined) {
    results.push((await peers.constant.run())['c']!.data, (await peers.both.run())['c']!.data);
  }
  const worst = Math.max(...results.map(result => error(size, a, b, result)));
  const detail = `errors are to be at most 1 of the bound, came to ${worst.toFixed(3)}`;
  report.check({ name: `sgemm ${size}, all sides`, ok: worst <= 1, detail });
  if (worst > 1) return;

  const head = { suite: 'kernels', unit: 'GFLOP/s', threads: 1, peerName: ort?.name ?? 'onnxruntime-node' };
  const workPerCall = (2 * size ** 3) / 1e9;
  const time = async (name: string, subject: Subject, peer: Subject | undefined): Promise<void> => {
    report.row(rateRow({ ...head, case: name, workPerCall }, await compare(subject, peer)));
  };
  await time(`sgemm ${size}, B constant`, ours.constant, peers?.constant);
  await time(`sgemm ${size}, both inputs`, ours.both, peers?.both);
  await time(`MatMul ${size} as a model`, ours.model, peers?.constant);
  await peers?.close();
}

async function openPeers(
  ort: OnnxRuntime | undefined,
  size: number,
  a: Float32Array,
  b: Float32Array,
  constant: Graph,
  both: Graph,
) {
  if (ort === undefined) return undefined;
  const [withConstant, withBoth] = [await ort.open(toOnnx(constant)), await ort.open(toOnnx(both))];
  const [tensorA, tensorB] = [ort.tensor(a, [size, size]), ort.tensor(b, [size, size])];
  return {
    constant: { run: () => withConstant.run({ a: tensorA }), async: true },
    both: { run: () => withBoth.run({ a: tensorA, b: tensorB }), async: true },
    close: async () => {
      await withConstant.release();
      await withBoth.release();
    },
  };
}

/** `a` (size, size) times `b`, which is a constant or an input. */
function matmul(size: number, b: Float32Array<ArrayBuffer> | undefined): Graph {
  const builder = new GraphBuilder('matmul', { opset: 17 });
  const facts = { dtype: 'f32', shape: [size, size] } as const;
  const left = builder.input('a', facts);
  const right =
    b === undefined ? builder.input('b', facts) : builder.constant('b', Tensor.from('f32', [size, size], b));
  builder.output(builder.node({ op: 'MatMul', inputs: [left, right], outputs: ['c'] })[0]!);
  return builder.build();
}

function randomMatrix(size: number, seed: number): Float32Array<ArrayBuffer> {
  let state = seed;
  return Float32Array.from({ length: size * size }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state / 2 ** 31;
  });
}

// The largest error as a part of its bound: |error| <= g * sum |a||b| with g = k*u/(1 - k*u) (Higham, Accuracy and Stability
// of Numerical Algorithms, 2nd ed., 3.1), against float64 sums, on 256 elements.
function error(size: number, a: Float32Array, b: Float32Array, c: Float32Array): number {
  if (c.length !== size * size) return Number.POSITIVE_INFINITY;
  const u = 2 ** -24;
  const g = (size * u) / (1 - size * u);
  let worst = 0;
  for (let sample = 0; sample < 256; sample++) {
    const [i, j] = [(sample * 37) % size, (sample * 101 + 5) % size];
    let [sum, bound] = [0, 0];
    for (let k = 0; k < size; k++) {
      const product = a[i * size + k]! * b[k * size + j]!;
      sum += product;
      bound += Math.abs(product);
    }
    worst = Math.max(worst, Math.abs(c[i * size + j]! - sum) / (g * bound));
  }
  return worst;
}
