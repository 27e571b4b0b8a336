/**
 * The classifier and its gradients, in plain TypeScript: two blocks of convolution, ReLU and pooling, and one dense layer.
 *
 * Sums run in float64, one image at a time. A block's input is unfolded into patches whose rows come in groups of four, the
 * four pixels of one pooling window, so that a window's maximum is taken from registers and its gradient touches one patch.
 * @module
 */
import type { SeededRandom } from './random.ts';

/** The parameters of the whole network, or anything of their shapes (gradients, moments). */
export interface Parameters {
  /** (8, 1, 5, 5) and (8). */
  readonly weight1: Float64Array;
  readonly bias1: Float64Array;
  /** (16, 8, 5, 5) and (16). */
  readonly weight2: Float64Array;
  readonly bias2: Float64Array;
  /** (10, 784) and (10); a column is channel × 49 + row × 7 + column of the second block's output. */
  readonly weight3: Float64Array;
  readonly bias3: Float64Array;
}

/** Channels of the two convolution blocks. */
export const CHANNELS = [8, 16] as const;

/** Width and height of both convolution kernels; they are padded by `KERNEL >> 1` so that the size stays. */
export const KERNEL = 5;

const PAD = KERNEL >> 1;
const CLASSES = 10;
const FEATURES = CHANNELS[1] * 7 * 7;

/** Parameters that are all zero. */
export function zeros(): Parameters {
  const taps = KERNEL * KERNEL;
  return {
    weight1: new Float64Array(CHANNELS[0] * taps),
    bias1: new Float64Array(CHANNELS[0]),
    weight2: new Float64Array(CHANNELS[1] * CHANNELS[0] * taps),
    bias2: new Float64Array(CHANNELS[1]),
    weight3: new Float64Array(CLASSES * FEATURES),
    bias3: new Float64Array(CLASSES),
  };
}

/** Random weights with variance 2 / fan-in (He et al. 2015, https://arxiv.org/abs/1502.01852); zero biases. */
export function initialise(random: SeededRandom): Parameters {
  const parameters = zeros();
  const taps = KERNEL * KERNEL;
  for (const [weights, fanIn] of [
    [parameters.weight1, taps],
    [parameters.weight2, CHANNELS[0] * taps],
    [parameters.weight3, FEATURES],
  ] as const) {
    for (let i = 0; i < weights.length; i++) weights[i] = random.normal(Math.sqrt(2 / fanIn));
  }
  return parameters;
}

/** Runs the network on one image at a time; holds the working memory for that. */
export interface Network {
  /** The ten logits of `image` (784 values in 0 … 1): a view that the next call overwrites. */
  forward(parameters: Parameters, image: ArrayLike<number>): Float64Array;
  /**
   * Adds to `gradients` those of the cross-entropy between the softmax of the last {@link Network.forward}'s logits and
   * `label`, smoothed: the label has probability 1 − `smoothing`, the rest is spread over all ten classes.
   *
   * @returns the loss, in nats.
   */
  backward(parameters: Parameters, gradients: Parameters, label: number, smoothing: number): number;
}

/** Makes a {@link Network}. */
export function createNetwork(): Network {
  const first = createBlock(1, CHANNELS[0], 28);
  const second = createBlock(CHANNELS[0], CHANNELS[1], 14);
  const logits = new Float64Array(CLASSES);
  const logitGradients = new Float64Array(CLASSES);
  return {
    forward(parameters, image) {
      first.load(image);
      first.forward(parameters.weight1, parameters.bias1);
      second.load(first.output);
      second.forward(parameters.weight2, parameters.bias2);
      const { weight3, bias3 } = parameters;
      const features = second.output;
      for (let c = 0; c < CLASSES; c++) {
        let sum = bias3[c]!;
        for (let i = 0, w = c * FEATURES; i < FEATURES; i++) sum += weight3[w + i]! * features[i]!;
        logits[c] = sum;
      }
      return logits;
    },

    backward(parameters, gradients, label, smoothing) {
      const top = Math.max(...logits);
      let total = 0;
      for (let c = 0; c < CLASSES; c++) total += Math.exp(logits[c]! - top);
      let loss = 0;
      const features = second.output;
      const featureGradients = second.outputGradients.fill(0);
      for (let c = 0; c < CLASSES; c++) {
        const target = smoothing / CLASSES + (c === label ? 1 - smoothing : 0);
        const logProbability = logits[c]! - top - Math.log(total);
        loss -= target * logProbability;
        const g = Math.exp(logProbability) - target;
        logitGradients[c] = g;
        gradients.bias3[c]! += g;
        for (let i = 0, w = c * FEATURES; i < FEATURES; i++) {
          gradients.weight3[w + i]! += g * features[i]!;
          featureGradients[i]! += g * parameters.weight3[w + i]!;
        }
      }
      second.backward(parameters.weight2, gradients.weight2, gradients.bias2, first.outputGradients);
      first.backward(parameters.weight1, gradients.weight1, gradients.bias1, undefined);
      return loss;
    },
  };
}

// Convolution (KERNEL × KERNEL, same size), bias, 2 × 2 max pooling, ReLU, over (inC, size, size).
interface Block {
  /** (outC, size/2, size/2) */
  readonly output: Float64Array;
  readonly outputGradients: Float64Array;
  /** Unfolds an input of (inC, size, size). */
  load(input: ArrayLike<number>): void;
  forward(weights: Float64Array, bias: Float64Array): void;
  /** Reads `outputGradients`; adds to the parameters' gradients; overwrites `inputGradients` unless there is none. */
  backward(
    weights: Float64Array,
    weightGradients: Float64Array,
    biasGradients: Float64Array,
    inputGradients: Float64Array | undefined,
  ): void;
}

function createBlock(inC: number, outC: number, size: number): Block {
  const half = size / 2;
  const windows = half * half;
  const depth = inC * KERNEL * KERNEL;
  const padded = size + 2 * PAD;
  const plane = padded * padded;
  const input = new Float64Array(inC * plane);
  const inputGradients = new Float64Array(inC * plane);
  const patches = new Float64Array(4 * windows * depth); // (window, pixel of the window, depth)
  const winners = new Uint8Array(outC * windows);
  const output = new Float64Array(outC * windows);
  const outputGradients = new Float64Array(outC * windows);
  const starts = new Int32Array(4 * windows); // where each patch begins in the padded input
  for (let patch = 0; patch < starts.length; patch++) {
    const window = patch >> 2;
    const y = 2 * Math.floor(window / half) + ((patch >> 1) & 1);
    const x = 2 * (window % half) + (patch & 1);
    starts[patch] = y * padded + x;
  }
  const taps = new Int32Array(depth); // where each element of a patch lies from its start
  for (let k = 0; k < depth; k++) {
    const tap = k % (KERNEL * KERNEL);
    taps[k] = Math.floor(k / (KERNEL * KERNEL)) * plane + Math.floor(tap / KERNEL) * padded + (tap % KERNEL);
  }

  return {
    output,
    outputGradients,

    load(source) {
      for (let c = 0; c < inC; c++) {
        for (let y = 0; y < size; y++) {
          const to = c * plane + (y + PAD) * padded + PAD;
          const from = (c * size + y) * size;
          for (let x = 0; x < size; x++) input[to + x] = source[from + x]!;
        }
      }
      for (let patch = 0, to = 0; patch < starts.length; patch++) {
        const start = starts[patch]!;
        for (let k = 0; k < depth; k++) patches[to++] = input[start + taps[k]!]!;
      }
    },

    forward(weights, bias) {
      for (let window = 0; window < windows; window++) {
        const p0 = 4 * window * depth;
        const p1 = p0 + depth;
        const p2 = p1 + depth;
        const p3 = p2 + depth;
        for (let o = 0; o < outC; o += 2) {
          // Two channels by the four pixels of the window: eight sums in registers.
          const wa = o * depth;
          const wb = wa + depth;
          let a0 = 0;
          let a1 = 0;
          let a2 = 0;
          let a3 = 0;
          let b0 = 0;
          let b1 = 0;
          let b2 = 0;
          let b3 = 0;
          for (let k = 0; k < depth; k++) {
            const a = weights[wa + k]!;
            const b = weights[wb + k]!;
            const x0 = patches[p0 + k]!;
            const x1 = patches[p1 + k]!;
            const x2 = patches[p2 + k]!;
            const x3 = patches[p3 + k]!;
            a0 += a * x0;
            a1 += a * x1;
            a2 += a * x2;
            a3 += a * x3;
            b0 += b * x0;
            b1 += b * x1;
            b2 += b * x2;
            b3 += b * x3;
          }
          settle(o * windows + window, bias[o]!, a0, a1, a2, a3);
          settle((o + 1) * windows + window, bias[o + 1]!, b0, b1, b2, b3);
        }
      }
    },

    backward(weights, weightGradients, biasGradients, target) {
      if (target !== undefined) inputGradients.fill(0);
      for (let o = 0; o < outC; o++) {
        const w = o * depth;
        for (let window = 0; window < windows; window++) {
          const index = o * windows + window;
          const g = outputGradients[index]!;
          // ReLU after the maximum: a window that gave 0 passes nothing back.
          if (g === 0 || output[index] === 0) continue;
          biasGradients[o]! += g;
          const patch = 4 * window + winners[index]!;
          const p = patch * depth;
          for (let k = 0; k < depth; k++) weightGradients[w + k]! += g * patches[p + k]!;
          if (target === undefined) continue;
          const start = starts[patch]!;
          for (let k = 0; k < depth; k++) inputGradients[start + taps[k]!]! += g * weights[w + k]!;
        }
      }
      if (target === undefined) return;
      for (let c = 0; c < inC; c++) {
        for (let y = 0; y < size; y++) {
          const from = c * plane + (y + PAD) * padded + PAD;
          const to = (c * size + y) * size;
          for (let x = 0; x < size; x++) target[to + x] = inputGradients[from + x]!;
        }
      }
    },
  };

  function settle(index: number, bias: number, s0: number, s1: number, s2: number, s3: number): void {
    const best = Math.max(s0, s1, s2, s3);
    winners[index] = best === s0 ? 0 : best === s1 ? 1 : best === s2 ? 2 : 3;
    output[index] = Math.max(0, best + bias);
  }
}
