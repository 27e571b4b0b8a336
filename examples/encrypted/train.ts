/**
 * Trains the networks of this folder by the library's own gradients, and writes them as ONNX.
 *
 *     node examples/encrypted/train.ts --corpus DIR [--only NAME] [--steps N] [--seed N] [--out DIR]
 *
 * `DIR/datasets` holds 8,000 MNIST digits and the Wisconsin breast cancer data. The digits 7,000 to 7,999 are held out, and every
 * fifth row of the other: nothing here looks at them before the last lines, which say how the finished models do on them.
 * @module
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { loadBinding, openProgramHost } from '../../native/index.ts';
import { type Executable, mixedBackend, nativeBackend, referenceBackend } from '../../src/engine/index.ts';
import { writeOnnx } from '../../src/formats/index.ts';
import { type Expr, type Graph, gradient, graphOf } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { augment } from '../digits/augment.ts';
import { readCorpusDigits } from '../digits/idx.ts';
import { type SeededRandom, seededRandom } from '../digits/random.ts';
import { modelOf, NETWORKS, type Network, WDBC } from './networks.ts';

const BATCH = 64;
const RATE = 2e-3;
const DECAY = 1e-4;
/** The norm that the gradient of all parameters is cut to: squares of squares run away otherwise. */
const GRADIENT_NORM = 1;

type Values = Record<string, Float32Array>;

const prepared = new Map<Graph, Executable>();

const { values: options } = parseArgs({
  options: {
    corpus: { type: 'string' },
    only: { type: 'string' },
    steps: { type: 'string', default: '4000' },
    seed: { type: 'string', default: '1' },
    out: { type: 'string', default: import.meta.dirname },
  },
});
if (options.corpus === undefined) {
  console.error(
    'usage: node examples/encrypted/train.ts --corpus DIR [--only NAME] [--steps N] [--seed N] [--out DIR]',
  );
  process.exit(2);
}
const [steps, seed] = [Number(options.steps), Number(options.seed)];
const chosen = [...NETWORKS, WDBC].filter(({ name }) => options.only === undefined || name === options.only);
for (const network of chosen) {
  if (network === WDBC) trainWdbc(join(options.corpus, 'datasets', 'wdbc-BreastCancerWI.csv'));
  else trainDigits(network);
}

function trainDigits(network: Network): void {
  const digits = readCorpusDigits(options.corpus!);
  const random = seededRandom(seed);
  const image = new Float64Array(784);
  const pixels = (index: number): Float64Array =>
    Float64Array.from({ length: 784 }, (_, i) => digits.pixels[index * 784 + i]! / 255);
  const order = Array.from({ length: 7000 }, (_, i) => i);
  let next = order.length;
  const batch = (): [Float32Array, Int32Array] => {
    const x = new Float32Array(BATCH * 784);
    const labels = new Int32Array(BATCH);
    for (let b = 0; b < BATCH; b++) {
      if (next === order.length) {
        shuffle(order, random);
        next = 0;
      }
      const index = order[next++]!;
      augment(pixels(index), image, random);
      x.set(image, b * 784);
      labels[b] = digits.labels[index]!;
    }
    return [x, labels];
  };
  const loss = (logits: Expr, labels: Expr): Expr => labels.graph.op('SoftmaxCrossEntropyLoss', [logits, labels])[0]!;
  const trained = descend(network, loss, batch, random);
  const held = Array.from({ length: 1000 }, (_, i) => 7000 + i);
  const model = modelOf(network, tensors(network, trained));
  const right = held.filter(
    index => argmax(infer(model, network, Float32Array.from(pixels(index)))) === digits.labels[index],
  );
  console.log(`${network.name}: ${right.length} of ${held.length} held-out digits right`);
  write(network, model);
}

function trainWdbc(file: string): void {
  const lines = readFileSync(file, 'utf8').trim().split(/\r?\n/);
  const header = lines[0]!.split(',');
  const label = header.findIndex(name => /diagnosis|class|^y$/i.test(name.replaceAll('"', '')));
  const rows = lines.slice(1).map(line => line.split(',').map(cell => cell.replaceAll('"', '')));
  const features = header
    .map((_, i) => i)
    .filter(i => rows.every(row => i !== label && isFeature(row[i]!, header[i]!)));
  if (label < 0 || features.length !== 30) throw new RangeError(`${file}: a diagnosis and 30 features are expected`);
  const all = rows.map(row => ({
    x: features.map(i => Number(row[i])),
    malignant: /^(M|1|malignant)$/i.test(row[label]!),
  }));
  const training = all.filter((_, i) => i % 5 !== 4);
  const held = all.filter((_, i) => i % 5 === 4);
  const mean = features.map((_, i) => training.reduce((sum, { x }) => sum + x[i]!, 0) / training.length);
  const spread = features.map((_, i) =>
    Math.sqrt(training.reduce((sum, { x }) => sum + (x[i]! - mean[i]!) ** 2, 0) / training.length),
  );
  const random = seededRandom(seed);
  const batch = (): [Float32Array, Int32Array] => {
    const picked = Array.from({ length: BATCH }, () => training[random.below(training.length)]!);
    const x = picked.flatMap(row => row.x.map((value, i) => (value - mean[i]!) / spread[i]!));
    return [Float32Array.from(x), Int32Array.from(picked, row => Number(row.malignant))];
  };
  // log(1 + e^-z) where malignant, log(1 + e^z) elsewhere.
  const loss = (logits: Expr, labels: Expr): Expr =>
    logits
      .mul(labels.cast('f32').reshape([-1, 1]).mul(-2).add(1))
      .softplus()
      .reduceMean();
  const trained = descend(WDBC, loss, batch, random);
  // What scales the features goes into the weights, so that the model takes them as they are.
  const [weight, bias] = [trained['last.weight']!, trained['last.bias']!];
  const raw = { 'last.weight': weight.map((w, i) => w / spread[i]!), 'last.bias': bias.map(b => b) };
  raw['last.bias'][0]! -= weight.reduce((sum, w, i) => sum + (w * mean[i]!) / spread[i]!, 0);
  const model = modelOf(WDBC, tensors(WDBC, raw), x => x.sigmoid());
  const right = held.filter(({ x, malignant }) => infer(model, WDBC, Float32Array.from(x))[0]! > 0.5 === malignant);
  console.log(`${WDBC.name}: ${right.length} of ${held.length} held-out rows right`);
  write(WDBC, model);
}

function isFeature(cell: string, name: string): boolean {
  return cell !== '' && Number.isFinite(Number(cell)) && !/^(id|rownames|unnamed.*|)$/i.test(name.replaceAll('"', ''));
}

/** Adam on the gradient graph of the network's loss. */
function descend(
  network: Network,
  loss: (logits: Expr, labels: Expr) => Expr,
  batch: () => [Float32Array, Int32Array],
  random: SeededRandom,
): Values {
  const g = graphOf(`${network.name} training`);
  const x = g.input('x', 'f32', [BATCH, ...network.input.shape]);
  const labels = g.input('labels', 'i32', [BATCH]);
  const inputs = Object.fromEntries(network.parameters.map(({ name, shape }) => [name, g.input(name, 'f32', shape)]));
  g.output('loss', loss(network.forward(x, inputs), labels));
  const names = network.parameters.map(({ name }) => name);
  const graph = gradient(g.build(), { of: 'loss', wrt: names });
  const results = graph.outputs.map(id => graph.values[id]!.name);
  const executable = prepare(graph);

  const values: Values = {};
  const moments: Record<string, [Float64Array, Float64Array]> = {};
  for (const { name, shape, fanIn } of network.parameters) {
    const size = shape.reduce((all, extent) => all * extent, 1);
    // Squares double every deviation of what goes in: weights start at half the size that Relu wants.
    values[name] = Float32Array.from({ length: size }, () => (fanIn === 0 ? 0 : random.normal(Math.sqrt(0.5 / fanIn))));
    moments[name] = [new Float64Array(size), new Float64Array(size)];
  }
  let seen = 0;
  let total = 0;
  for (let step = 0; step < steps; step++) {
    const [pixels, targets] = batch();
    const out = executable.runSync({
      x: Tensor.from('f32', [BATCH, ...network.input.shape], pixels),
      labels: Tensor.from('i32', [BATCH], targets),
      ...tensors(network, values),
    });
    total += Number(out['loss']!.values()[0]);
    seen++;
    const slopes = names.map((_, i) => out[results[i + 1]!]!.elements() as Float32Array);
    const norm = Math.sqrt(slopes.reduce((sum, s) => sum + s.reduce((square, value) => square + value * value, 0), 0));
    const cut = Math.min(1, GRADIENT_NORM / norm);
    const rate = RATE * Math.min(1, (step + 1) / 100) * 0.5 * (1 + Math.cos((Math.PI * step) / steps));
    names.forEach((name, n) => {
      const [mean, variance] = moments[name]!;
      const [value, slope] = [values[name]!, slopes[n]!];
      for (let i = 0; i < value.length; i++) {
        const d = slope[i]! * cut;
        mean[i] = 0.9 * mean[i]! + 0.1 * d;
        variance[i] = 0.999 * variance[i]! + 0.001 * d * d;
        const [m, v] = [mean[i]! / (1 - 0.9 ** (step + 1)), variance[i]! / (1 - 0.999 ** (step + 1))];
        value[i]! -= rate * (m / (Math.sqrt(v) + 1e-8)) + rate * DECAY * value[i]!;
      }
    });
    if ((step + 1) % 250 === 0) {
      console.error(`${network.name}: step ${step + 1}/${steps}  loss ${(total / seen).toFixed(4)}`);
      [seen, total] = [0, 0];
    }
  }
  executable.close();
  return values;
}

function prepare(graph: Graph): Executable {
  const constants = {
    read: (): never => {
      throw new RangeError('the graph has no file');
    },
  };
  const binding = loadBinding();
  const natives = binding === undefined ? [] : [nativeBackend(openProgramHost(binding))];
  return mixedBackend([...natives, referenceBackend]).prepare(graph, { constants });
}

function infer(model: Graph, network: Network, x: Float32Array): Float32Array {
  let ready = prepared.get(model);
  if (ready === undefined) {
    ready = prepare(model);
    prepared.set(model, ready);
  }
  const { logits } = ready.runSync({ [network.input.name]: Tensor.from('f32', [1, ...network.input.shape], x) });
  return logits!.elements() as Float32Array;
}

function tensors(network: Network, values: Readonly<Values>): Record<string, Tensor> {
  return Object.fromEntries(
    network.parameters.map(({ name, shape }) => [name, Tensor.from('f32', shape, values[name]!)]),
  );
}

function write(network: Network, model: Graph): void {
  writeFileSync(
    join(options.out, `${network.name}.onnx`),
    writeOnnx(model, { producer: 'cloister examples/encrypted/train.ts' }),
  );
}

function argmax(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}

function shuffle(order: number[], random: SeededRandom): void {
  for (let i = order.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
}
