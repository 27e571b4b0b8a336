/**
 * MobileNetV2 with random weights, as PyTorch exports it for inference: batch normalisation already in the convolutions, Relu6 as Clip.
 * @module
 */
import type { Graph, ValueId } from '../../src/graph/index.ts';
import { Network } from './network.ts';

/** Expansion, channels, repeats, first stride of each stage. Sandler et al. 2018, table 2, https://arxiv.org/abs/1801.04381 */
const STAGES = [
  [1, 16, 1, 1],
  [6, 24, 2, 2],
  [6, 32, 3, 2],
  [6, 64, 4, 2],
  [6, 96, 3, 1],
  [6, 160, 3, 2],
  [6, 320, 1, 1],
] as const;

/** The network for square images: `input` (batch, 3, size, size) to `output` (batch, classes). `size` is a multiple of 32. */
export function mobileNetV2({ size = 224, classes = 1000, width = 1, batch = 1, seed = 4 } = {}): Graph {
  const net = new Network('mobilenet-v2-like', seed);
  const channels = (count: number): number => Math.max(8, Math.round((count * width) / 8) * 8);
  const [low, high] = [net.scalar(0), net.scalar(6)];
  const conv = (x: ValueId, from: number, to: number, kernel: number, options: { stride?: number; group?: number }) => {
    const { stride = 1, group = 1 } = options;
    const pad = (kernel - 1) / 2;
    const fanIn = (from / group) * kernel * kernel;
    const inputs = [
      x,
      net.weights([to, from / group, kernel, kernel], Math.sqrt(2 / fanIn)),
      net.weights([to], 0.1, 0.1),
    ];
    return net.add('Conv', inputs, {
      kernel_shape: [kernel, kernel],
      strides: [stride, stride],
      pads: [pad, pad, pad, pad],
      dilations: [1, 1],
      group,
    });
  };
  const relu6 = (x: ValueId): ValueId => net.add('Clip', [x, low, high]);

  let x = net.input('input', 'f32', [batch, 3, size, size]);
  let depth = channels(32);
  x = relu6(conv(x, 3, depth, 3, { stride: 2 }));
  for (const [expansion, out, repeats, first] of STAGES) {
    for (let repeat = 0; repeat < repeats; repeat++) {
      const stride = repeat === 0 ? first : 1;
      const [wide, to] = [depth * expansion, channels(out)];
      let y = expansion === 1 ? x : relu6(conv(x, depth, wide, 1, {}));
      y = relu6(conv(y, wide, wide, 3, { stride, group: wide }));
      y = conv(y, wide, to, 1, {});
      x = stride === 1 && depth === to ? net.add('Add', [x, y]) : y;
      depth = to;
    }
  }
  const last = channels(1280);
  x = relu6(conv(x, depth, last, 1, {}));
  x = net.add('Flatten', [net.add('GlobalAveragePool', [x])], { axis: 1 });
  const inputs = [x, net.weights([classes, last], 1 / Math.sqrt(last)), net.weights([classes], 0.1)];
  return net.build(net.add('Gemm', inputs, { transB: 1 }, { output: 'output' }));
}
