/**
 * Single kernels, each as a model of one node beside the same model in onnxruntime; and our matrix product without a model around it.
 *
 * Ours is one call of the prepared model, into tensors that the caller owns. onnxruntime is reached the only way
 * that Node has, `session.run` with input tensors made in advance, and makes new outputs each time. Weights are constants on both
 * sides, so that either packs them before anything is timed.
 * @module
 */
import { seededRandom } from '../../examples/digits/random.ts';
import { loadNative } from '../../native/index.ts';
import { toOnnx } from '../engine-under-test.ts';
import { compare } from '../measure.ts';
import { kernelCases } from '../models/kernel-cases.ts';
import { normalTensor } from '../models/network.ts';
import { measurePeak } from '../peak.ts';
import { INSTALL_PEERS, loadOnnxRuntime } from '../peer.ts';
import { amountRow, type Report, rateRow } from '../rows.ts';
import { timeSideBySide } from '../side-by-side.ts';

/** The suite `kernels`. */
export async function benchKernels(report: Report): Promise<void> {
  const ort = loadOnnxRuntime();
  if (ort === undefined) report.note(`no rival: ${INSTALL_PEERS}`);
  if (loadNative() === undefined)
    report.note('there is no native binary (npm run build:native): the reference backend is timed');
  const peak = measurePeak();
  if (peak === undefined) report.note('no C compiler, so no peak: the rows are held to ratios only');
  else {
    const head = { suite: 'kernels', threads: 1, peerName: '-' };
    report.row(amountRow({ ...head, case: 'peak, f32 multiply-add', unit: 'GFLOP/s' }, peak.fmaGflops));
    if (peak.dotGops !== undefined) {
      report.row(amountRow({ ...head, case: 'peak, u8 x s8 dot product', unit: 'GOP/s' }, peak.dotGops));
    }
    report.row(
      amountRow({ ...head, case: 'peak, copy of 64 MiB', unit: 'GB/s', note: 'read and written' }, peak.copyGbytes),
    );
  }
  for (const { make, ...rest } of kernelCases(peak?.fmaGflops)) {
    const { graph, inputs } = make();
    await timeSideBySide({ suite: 'kernels', ...rest, bytes: toOnnx(graph), inputs }, ort, report);
  }
  for (const size of [64, 256, 512, 1024, 2048]) await timeGemmAlone(size, report);
}

/** The kernel by itself, on packed B: what a model could reach. */
async function timeGemmAlone(size: number, report: Report): Promise<void> {
  const native = loadNative();
  if (native === undefined) return;
  const random = seededRandom(size);
  const [a, b] = [normalTensor(random, [size, size]).data, normalTensor(random, [size, size]).data];
  const c = new Float32Array(size * size);
  const shape = { m: size, n: size, k: size };
  const packed = native.packGemm(shape, b);
  native.gemmPacked(shape, a, packed, c);
  const worst = errorOf(size, a, b, c);
  const detail = `errors are to be at most 1 of the bound, came to ${worst.toFixed(3)}`;
  report.check({ name: `sgemm ${size}, kernel alone`, ok: worst <= 1, detail });
  if (!(worst <= 1)) return;
  const comparison = await compare({ run: () => native.gemmPacked(shape, a, packed, c) }, undefined);
  const head = { suite: 'kernels', case: `sgemm ${size}, kernel alone`, threads: 1, peerName: '-' };
  report.row(rateRow({ ...head, unit: 'GFLOP/s', workPerCall: (2 * size ** 3) / 1e9 }, comparison));
}

// The largest error as a part of its bound: |error| <= g * sum |a||b| with g = k*u/(1 - k*u) (Higham, Accuracy and Stability
// of Numerical Algorithms, 2nd ed., 3.1), against float64 sums, on 256 elements.
function errorOf(size: number, a: Float32Array, b: Float32Array, c: Float32Array): number {
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
