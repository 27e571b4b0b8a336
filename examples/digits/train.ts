/**
 * Trains the digit classifier and writes `digits.onnx`.
 *
 *     node examples/digits/train.ts --corpus DIR [--seed N] [--steps N] [--held-out FIRST] [--out FILE]
 *
 * `DIR/datasets` holds 8,000 MNIST digits. The last 1,000 (7,000 … 7,999) are held out, or the 1,000 from FIRST on: nothing
 * here looks at them before the last lines, which say how many of them the finished model gets right. The other 7,000,
 * varied afresh each time one is used, are 7 in 10 of what the network sees; the rest are digits that `draw.ts` draws, with
 * seeds from 1,000,000 on (samples in the demo and in the tests have seeds below), so that it reads the project's own
 * samples as well.
 *
 * One thread, under four minutes, no dependency; the same seed on the same Node gives the same file.
 * @module
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { writeOnnx } from '../../src/formats/index.ts';
import { augment } from './augment.ts';
import { drawDigit } from './draw.ts';
import { type Digits, readCorpusDigits } from './idx.ts';
import { toGraph } from './model.ts';
import { createNetwork, initialise, type Network, type Parameters, zeros } from './network.ts';
import { seededRandom } from './random.ts';

const HELD_OUT = 1000;
const DRAWN_SHARE = 0.3;
const FIRST_DRAWN_SEED = 1_000_000;
const BATCH = 32;
const PEAK_RATE = 3e-3;
const SMOOTHING = 0.05;
const DECAY = 1e-4;
// The model that is written is a moving average of the parameters over about the last 200 steps.
const AVERAGE = 0.995;
const NAMES = ['weight1', 'bias1', 'weight2', 'bias2', 'weight3', 'bias3'] as const;

const { values: options } = parseArgs({
  options: {
    corpus: { type: 'string' },
    seed: { type: 'string', default: '1' },
    steps: { type: 'string', default: '9000' },
    'held-out': { type: 'string', default: '7000' },
    out: { type: 'string', default: new URL('digits.onnx', import.meta.url).pathname },
  },
});
if (options.corpus === undefined) {
  console.error(
    'usage: node examples/digits/train.ts --corpus DIR [--seed N] [--steps N] [--held-out FIRST] [--out FILE]',
  );
  process.exit(2);
}

const digits = readCorpusDigits(options.corpus);
const heldOut = Array.from({ length: HELD_OUT }, (_, index) => Number(options['held-out']) + index);
const isHeldOut = new Set(heldOut);
const training = Array.from({ length: digits.count }, (_, index) => index).filter(index => !isHeldOut.has(index));
if (training.length !== digits.count - HELD_OUT)
  throw new RangeError(`--held-out: no ${HELD_OUT} digits from there on`);

const network = createNetwork();
const trained = train(network, digits, training, Number(options.seed), Number(options.steps));
const right = heldOut.filter(
  index => classify(network, trained, scaled(digits, index)) === digits.labels[index],
).length;
console.log(`held-out digits ${heldOut[0]} to ${heldOut.at(-1)}: ${right} of ${HELD_OUT} right`);
const drawn = Array.from({ length: 2000 }, (_, seed) => seed);
const readable = drawn.filter(seed => classify(network, trained, drawDigit(seed % 10, { seed })) === seed % 10).length;
console.log(`drawn digits with seeds 0 to ${drawn.length - 1}: ${readable} of ${drawn.length} right`);
writeFileSync(options.out, writeOnnx(toGraph(trained), { producer: 'cloister examples/digits/train.ts' }));

function train(network: Network, digits: Digits, training: readonly number[], seed: number, steps: number): Parameters {
  const random = seededRandom(seed);
  const parameters = initialise(random);
  const average = zeros();
  const gradients = zeros();
  const optimiser = createAdam();
  const image = new Float64Array(784);
  const order = [...training];
  let next = order.length;
  let drawnSeed = FIRST_DRAWN_SEED;
  const started = performance.now();
  let [lossSum, rightSum, seen] = [0, 0, 0];
  for (let step = 0; step < steps; step++) {
    for (const gradient of Object.values(gradients)) gradient.fill(0);
    for (let i = 0; i < BATCH; i++) {
      let label: number;
      if (random.uniform() < DRAWN_SHARE) {
        label = random.below(10);
        augment(drawDigit(label, { seed: drawnSeed++ }), image, random);
      } else {
        if (next === order.length) {
          shuffle(order, random.below);
          next = 0;
        }
        const index = order[next++]!;
        label = digits.labels[index]!;
        augment(scaled(digits, index), image, random);
      }
      const guess = classify(network, parameters, image);
      lossSum += network.backward(parameters, gradients, label, SMOOTHING);
      rightSum += guess === label ? 1 : 0;
      seen++;
    }
    // A short warm-up, then half a cosine down to zero (Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983).
    const warmUp = Math.min(1, (step + 1) / 100);
    optimiser(parameters, gradients, PEAK_RATE * warmUp * 0.5 * (1 + Math.cos((Math.PI * step) / steps)));
    const keep = Math.min(AVERAGE, step / (step + 10));
    for (const name of NAMES) {
      const [from, to] = [parameters[name], average[name]];
      for (let i = 0; i < to.length; i++) to[i] = keep * to[i]! + (1 - keep) * from[i]!;
    }
    if ((step + 1) % 250 === 0) {
      const seconds = ((performance.now() - started) / 1000).toFixed(0);
      const accuracy = ((100 * rightSum) / seen).toFixed(2);
      console.error(
        `step ${step + 1}/${steps}  loss ${(lossSum / seen).toFixed(4)}  training accuracy ${accuracy} %  ${seconds} s`,
      );
      [lossSum, rightSum, seen] = [0, 0, 0];
    }
  }
  return average;
}

// Adam with decoupled weight decay (Kingma & Ba 2015, https://arxiv.org/abs/1412.6980; Loshchilov & Hutter 2019).
function createAdam(): (parameters: Parameters, gradients: Parameters, rate: number) => void {
  const [mean, variance] = [zeros(), zeros()];
  let step = 0;
  return (parameters, gradients, rate) => {
    step++;
    const meanScale = 1 / (1 - 0.9 ** step);
    const varianceScale = 1 / (1 - 0.999 ** step);
    for (const name of NAMES) {
      const [p, g, m, v] = [parameters[name], gradients[name], mean[name], variance[name]];
      for (let i = 0; i < p.length; i++) {
        const gradient = g[i]! / BATCH;
        m[i] = 0.9 * m[i]! + 0.1 * gradient;
        v[i] = 0.999 * v[i]! + 0.001 * gradient * gradient;
        p[i]! -= rate * ((m[i]! * meanScale) / (Math.sqrt(v[i]! * varianceScale) + 1e-8) + DECAY * p[i]!);
      }
    }
  };
}

function scaled(digits: Digits, index: number): Float64Array {
  const image = new Float64Array(784);
  for (let i = 0; i < 784; i++) image[i] = digits.pixels[index * 784 + i]! / 255;
  return image;
}

function classify(network: Network, parameters: Parameters, image: ArrayLike<number>): number {
  return argmax(network.forward(parameters, image));
}

function argmax(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}

function shuffle(order: number[], below: (count: number) => number): void {
  for (let i = order.length - 1; i > 0; i--) {
    const j = below(i + 1);
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
}
