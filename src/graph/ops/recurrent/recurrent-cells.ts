/**
 * The cells of recurrent operators: one step in time of one sequence, in double precision.
 *
 * Weights of a direction are matrices of `gates * hidden` rows, row-major; the rows of a gate follow each other. The letters are those
 * of the ONNX specification: W and R weigh input and state, Wb and Rb are their biases, P the peepholes.
 * @module
 */
import {
  type Activation,
  elu,
  hardSigmoid,
  leakyRelu,
  relu,
  sigmoid,
  softplus,
  softsign,
} from '../core/activations.ts';
import type { Numbers } from '../loops.ts';

/** Which of alpha and beta a function takes, with the values that they have when nothing is given, and the function itself. */
interface ActivationEntry {
  readonly alpha?: number;
  readonly beta?: number;
  readonly make: (alpha: number, beta: number) => Activation;
}

/** By lower-case name: exporters differ in how they spell them. */
const ACTIVATIONS: ReadonlyMap<string, ActivationEntry> = new Map<string, ActivationEntry>([
  ['relu', { make: () => relu }],
  ['tanh', { make: () => Math.tanh }],
  ['sigmoid', { make: () => sigmoid }],
  ['affine', { alpha: 1, beta: 0, make: (alpha, beta) => x => alpha * x + beta }],
  ['leakyrelu', { alpha: 0.01, make: leakyRelu }],
  // Unlike the operator of this name, a gate lets the threshold itself through.
  ['thresholdedrelu', { alpha: 1, make: alpha => x => (x >= alpha ? x : 0) }],
  ['scaledtanh', { alpha: 1, beta: 1, make: (alpha, beta) => x => alpha * Math.tanh(beta * x) }],
  ['hardsigmoid', { alpha: 0.2, beta: 0.5, make: hardSigmoid }],
  ['elu', { alpha: 1, make: alpha => elu(alpha) }],
  ['softsign', { make: () => softsign }],
  ['softplus', { make: () => softplus }],
]);

/** A function of a gate by its lower-case name; a parameter that it has not got is 0. */
export interface CellFunction {
  readonly name: string;
  readonly alpha: number;
  readonly beta: number;
}

/**
 * The functions that `names` spell. `alphas` and `betas` are taken in order by those functions that have such a parameter; where they
 * run out, the defaults hold. Undefined in place of a name that is none.
 */
export function cellFunctions(
  names: readonly string[],
  alphas: readonly number[],
  betas: readonly number[],
): readonly (CellFunction | undefined)[] {
  let [alphaAt, betaAt] = [0, 0];
  return names.map(spelt => {
    const name = spelt.toLowerCase();
    const entry = ACTIVATIONS.get(name);
    if (!entry) return undefined;
    const alpha = entry.alpha === undefined ? 0 : (alphas[alphaAt++] ?? entry.alpha);
    const beta = entry.beta === undefined ? 0 : (betas[betaAt++] ?? entry.beta);
    return { name, alpha, beta };
  });
}

/** {@link cellFunctions} to be called. */
export function activations(
  names: readonly string[],
  alphas: readonly number[],
  betas: readonly number[],
): readonly (Activation | undefined)[] {
  return cellFunctions(names, alphas, betas).map(
    found => found && ACTIVATIONS.get(found.name)!.make(found.alpha, found.beta),
  );
}

/** The weights of one direction. */
export interface CellWeights {
  readonly inputSize: number;
  readonly hidden: number;
  /** gates * hidden x inputSize. */
  readonly w: Numbers;
  /** gates * hidden x hidden. */
  readonly r: Numbers;
  /** Wb, then Rb: gates * hidden each. Zero where undefined. */
  readonly b: Numbers | undefined;
  /** Peepholes of the gates i, o, f: 3 * hidden. Zero where undefined. */
  readonly p: Numbers | undefined;
}

/** What the attributes say of one direction. */
export interface CellSettings {
  readonly functions: readonly Activation[];
  /** Arguments of activations are brought into [-clip, clip]; infinite where nothing is clipped. */
  readonly clip: number;
  /** LSTM: the forget gate is one minus the input gate. */
  readonly inputForget: boolean;
  /** GRU: the reset gate is applied after the state was multiplied by its weights. */
  readonly linearBeforeReset: boolean;
}

/** Advances the state `h` (and `c`, where the cell has one) over the input that starts at `x[at]`. */
export type Step = (x: Numbers, at: number, h: Float64Array, c: Float64Array) => void;

/** H = f(W x + R h + Wb + Rb). */
export function rnnCell({ w, r, b, inputSize, hidden }: CellWeights, { functions, clip }: CellSettings): Step {
  const f = clipped(functions[0]!, clip);
  const bias = sumOfBiases(b, hidden);
  const gate = new Float64Array(hidden);
  return (x, at, h) => {
    gate.set(bias);
    addProduct(gate, 0, hidden, inputSize, w, 0, x, at);
    addProduct(gate, 0, hidden, hidden, r, 0, h, 0);
    for (let i = 0; i < hidden; i++) h[i] = f(gate[i]!);
  };
}

/**
 * Gates z, r, h: z = f(W x + R h + Wb + Rb), r likewise, n = g(W x + R (r * h) + Rb + Wb), or n = g(W x + r * (R h + Rb) + Wb) where
 * linear before reset; H = (1 - z) n + z h.
 */
export function gruCell({ w, r, b, inputSize, hidden }: CellWeights, settings: CellSettings): Step {
  const f = clipped(settings.functions[0]!, settings.clip);
  const g = clipped(settings.functions[1]!, settings.clip);
  const late = settings.linearBeforeReset;
  const bias = sumOfBiases(b, 3 * hidden);
  const stateBias = new Float64Array(hidden);
  if (late && b) {
    for (let i = 0; i < hidden; i++) {
      stateBias[i] = b[5 * hidden + i]!;
      bias[2 * hidden + i] = b[2 * hidden + i]!;
    }
  }
  const gates = new Float64Array(3 * hidden);
  const weighed = new Float64Array(hidden);
  return (x, at, h) => {
    gates.set(bias);
    addProduct(gates, 0, 3 * hidden, inputSize, w, 0, x, at);
    addProduct(gates, 0, 2 * hidden, hidden, r, 0, h, 0);
    const newAt = 2 * hidden;
    for (let i = 0; i < newAt; i++) gates[i] = f(gates[i]!);
    if (late) {
      weighed.set(stateBias);
      addProduct(weighed, 0, hidden, hidden, r, newAt * hidden, h, 0);
      for (let i = 0; i < hidden; i++) gates[newAt + i] = gates[newAt + i]! + gates[hidden + i]! * weighed[i]!;
    } else {
      for (let i = 0; i < hidden; i++) weighed[i] = gates[hidden + i]! * h[i]!;
      addProduct(gates, newAt, hidden, hidden, r, newAt * hidden, weighed, 0);
    }
    for (let i = 0; i < hidden; i++) h[i] = (1 - gates[i]!) * g(gates[newAt + i]!) + gates[i]! * h[i]!;
  };
}

/**
 * Gates i, o, f, c: i = f(W x + R h + P c + Wb + Rb), f likewise (or 1 - i), n = g(W x + R h + Wb + Rb), C = f c + i n,
 * o = f(W x + R h + P C + Wb + Rb), H = o h(C).
 */
export function lstmCell({ w, r, b, p, inputSize, hidden }: CellWeights, settings: CellSettings): Step {
  const f = clipped(settings.functions[0]!, settings.clip);
  const g = clipped(settings.functions[1]!, settings.clip);
  const squash = clipped(settings.functions[2]!, settings.clip);
  const coupled = settings.inputForget;
  const bias = sumOfBiases(b, 4 * hidden);
  const peepholes = p ?? new Float64Array(3 * hidden);
  const gates = new Float64Array(4 * hidden);
  return (x, at, h, c) => {
    gates.set(bias);
    addProduct(gates, 0, 4 * hidden, inputSize, w, 0, x, at);
    addProduct(gates, 0, 4 * hidden, hidden, r, 0, h, 0);
    for (let i = 0; i < hidden; i++) {
      const before = c[i]!;
      const input = f(gates[i]! + peepholes[i]! * before);
      const forget = coupled ? 1 - input : f(gates[2 * hidden + i]! + peepholes[2 * hidden + i]! * before);
      const after = forget * before + input * g(gates[3 * hidden + i]!);
      c[i] = after;
      h[i] = f(gates[hidden + i]! + peepholes[hidden + i]! * after) * squash(after);
    }
  };
}

function clipped(f: Activation, clip: number): Activation {
  return clip === Number.POSITIVE_INFINITY ? f : x => f(Math.min(Math.max(x, -clip), clip));
}

/** Wb + Rb of `count` rows. */
function sumOfBiases(b: Numbers | undefined, count: number): Float64Array {
  const out = new Float64Array(count);
  if (b) for (let i = 0; i < count; i++) out[i] = b[i]! + b[count + i]!;
  return out;
}

/** `out[to + i] += sum_j matrix[from + i * columns + j] * x[at + j]` for i < rows, four rows at a time. */
function addProduct(
  out: Float64Array,
  to: number,
  rows: number,
  columns: number,
  matrix: Numbers,
  from: number,
  x: Numbers,
  at: number,
): void {
  let i = 0;
  for (; i + 4 <= rows; i += 4) {
    let a = from + i * columns;
    let b = a + columns;
    let c = b + columns;
    let d = c + columns;
    let [s0, s1, s2, s3] = [0, 0, 0, 0];
    for (let j = at; j < at + columns; j++) {
      const value = x[j]!;
      s0 += matrix[a++]! * value;
      s1 += matrix[b++]! * value;
      s2 += matrix[c++]! * value;
      s3 += matrix[d++]! * value;
    }
    out[to + i] = out[to + i]! + s0;
    out[to + i + 1] = out[to + i + 1]! + s1;
    out[to + i + 2] = out[to + i + 2]! + s2;
    out[to + i + 3] = out[to + i + 3]! + s3;
  }
  for (; i < rows; i++) {
    let sum = 0;
    for (let j = 0, a = from + i * columns; j < columns; j++) sum += matrix[a + j]! * x[at + j]!;
    out[to + i] = out[to + i]! + sum;
  }
}
