/**
 * The program format: how a plan for native kernels is written as bytes. The executor verifies them before it runs
 * them; nothing here is trusted.
 *
 * Little-endian; every section starts 8-byte aligned; sections follow one another with nothing between them.
 *
 * | offset | size | header (80 bytes) |
 * |---|---|---|
 * | 0 | 4 | magic `CLPR` |
 * | 4 | 4 | version, {@link PROGRAM_VERSION} |
 * | 8 | 8 | length of the whole program in bytes, at most 64 MiB |
 * | 16 | 8 | length of the model file that the constants are read from |
 * | 24, 32, 40 | 8 each | bytes of the permanent, temporary and staging arena, each at most 2^40 |
 * | 48 | 4 | constants, at most 65,536 |
 * | 52 | 4 | packed weights, at most 65,536 |
 * | 56, 60 | 4 each | inputs, outputs, each at most 1,024 |
 * | 64, 68 | 4 each | setup steps, run steps, each at most 65,536 |
 * | 72 | 4 | bytes of the inline section, at most 16 MiB |
 * | 76 | 4 | zero |
 *
 * | section | record |
 * |---|---|
 * | constants | 24: u32 source (0 model file, 1 inline section), u32 zero, u64 offset, u64 length |
 * | packed weights | 72: u32 layout, u32 zero, u32[16]: what the layout says ({@link PACKED_LAYOUTS}), then zeros |
 * | inputs, outputs | 16: u32 dtype (its place in `DTYPES`), u32 zero, u64 length |
 * | setup steps, run steps | u32 kind, u32 operands (at most 1,024), u32 parameter words (at most 1,024), u32 zero; operands, 24 each: u32 space, u32 index (of a packed weight, an input or an output), u64 offset, u64 length; u32 words, one zero word after an odd number |
 * | inline | bytes, zeros up to a multiple of 8; the program ends here |
 *
 * Spaces: 1 temporary, 2 permanent, 3 staging (setup only), 4 packed, 5 input, 6 output: a run reads the caller's inputs where they lie
 * and writes the caller's outputs. A window is 16 words: batch, inC, inH, inW, outC,
 * outH, outW, kernelH, kernelW, strideH, strideW, dilationH, dilationW, padTop, padLeft, groups. The steps and their
 * parameters are in {@link STEP_KINDS}.
 *
 * Sizes that depend on the machine (packed weights, workspace) are not in a program: the executor computes them while
 * it verifies, so a plan needs no knowledge of instruction sets, and one program runs on every row of the dispatch
 * table.
 * @module
 */
import { CloisterError } from '../base/index.ts';
import { DTYPES, type DType } from '../tensor/index.ts';

/** The version that {@link encodeProgram} writes. */
export const PROGRAM_VERSION = 2;

/** Limits of the format. The executor refuses what is over them. */
export const PROGRAM_LIMITS: Readonly<
  Record<
    | 'programBytes'
    | 'arenaBytes'
    | 'constants'
    | 'packed'
    | 'ports'
    | 'steps'
    | 'operands'
    | 'inlineBytes'
    | 'dim'
    | 'rank',
    number
  >
> = {
  programBytes: 64 * 2 ** 20,
  arenaBytes: 2 ** 40,
  constants: 2 ** 16,
  packed: 2 ** 16,
  ports: 2 ** 10,
  steps: 2 ** 16,
  operands: 2 ** 10,
  inlineBytes: 16 * 2 ** 20,
  dim: 2 ** 30,
  rank: 8,
};

/**
 * The steps: their numbers. What each takes stands in `native/steps`. `f32` words are IEEE 754 bits; an epilogue is `activation (0 none, 1 relu, 2 clip), lo, hi`.
 */
export const STEP_KINDS = {
  /** out · constant. Setup only. */
  load: 1,
  /** in · packed weight. Setup only. */
  pack: 2,
  /** a, b, c, [bias], [addend] · m, n, k, aTransposed, bTransposed, alpha, epilogue, hasBias, hasAddend, rank, dims, aStrides, bStrides. */
  gemm: 3,
  /** x, w, y, [bias] · window, epilogue. */
  conv: 4,
  /** x, y · window, op. */
  pool: 5,
  /** x, y · op, p0, p1. */
  unary: 6,
  /** a, b, y · op, rank, dims, aStrides, bStrides. */
  binary: 7,
  /** x, y · outer, n, inner, log. */
  softmax: 8,
  /** x, y · op, outer, n, inner. */
  reduce: 9,
  /** x, y · elementBytes, rank, dims, strides (each two words, low first). */
  copy: 10,
  /** y, x… · outer. */
  concat: 11,
  /** q, k, v, out, [mask] · sizes, which operands have their rows first, scale, softcap, causal, past, axes of the mask. */
  attention: 12,
  /** x, y · form, batch, keys, filter. */
  attentionMask: 13,
  /** x, r, y, h, c, h0, c0, stateBias, peepholes, lengths · cell, flags, sizes, functions, clip. */
  recurrent: 14,
  /** x, table, scores, voted · rows, aggregate, what the table is. */
  trees: 15,
  /** x, voted, base, labels, y, best · rows, targets, transform, form, voter, positive. */
  scores: 16,
  /** x, w, y, [bias], [residual] · window, form, has bias, has residual, activation, a, b. */
  blockedConv: 17,
  /** x, y · window, op. */
  blockedPool: 18,
  /** x, y · op, batch, channels, pixels. */
  blockedPoolAll: 19,
  /** x, y · batch, channels, pixels. */
  toBlocks: 20,
  /** x, y · batch, channels, pixels. */
  fromBlocks: 21,
  /** y, x… · operands, instructions, rank, dims, dtype and dims of each operand, instructions of four words. */
  chain: 22,
  /** y, x, scale, [bias], [residual], [residualBias] · rows, n, epsilon, centred, which of the three there are. */
  rowNorm: 23,
  /** y, sum, x, scale, [bias], residual, [residualBias] · the same. */
  rowNormSum: 24,
  /** y, x, scale, [bias] · groups in all, groups, channels, inner, epsilon. */
  groupNorm: 25,
  /** x, indices, y · outer, n, innerBytes, count, wide, elementBytes. */
  gather: 26,
  /** x, indices, y · elementBytes, wide, rank, axis, xDims, yDims. */
  gatherElements: 27,
  /** x, value, y · elementBytes, mode, rank, xDims, yDims, before. */
  pad: 28,
  /** x, y · smallest, last, outer, n, inner. */
  arg: 29,
  /** a, b, y, [aZero], [bZeros], [bias], [factors] · m, n, k, batches, aShared, bShared, bTransposed, aSigned, bSigned, sums. */
  int8Gemm: 30,
  /** x, w, y, [xZero], [wZeros], [bias], [factors] · window, xSigned, wSigned, sums. */
  int8Conv: 31,
  /** x, w, y, [xZero], [bias], [factors] · window, xSigned, wSigned, sums. */
  int8Depthwise: 32,
  /** x, y, scales, [zeros] · outer, n, inner, least, most. */
  quantize: 33,
  /** x, y, scales, [zeros] · outer, n, inner, type. */
  dequantize: 34,
  /** x, y, scale, zero. */
  dynamicQuantize: 35,
  /** a, b, y · op, signed, aZero, bZero, aScale, bScale, scale, zero, least, most. */
  int8Binary: 36,
  /** x, table, y. */
  int8Lookup: 37,
  /** x, y · batch, places, channels, signed, xZero, factor (two words), zero, least, most. */
  int8Mean: 38,
} as const;

/** Which operands each step writes, by their places; `pack` writes its packed weight. */
export const STEP_WRITES: Readonly<Record<StepKind, readonly number[]>> = {
  load: [0],
  pack: [],
  gemm: [2],
  conv: [2],
  pool: [1],
  unary: [1],
  binary: [2],
  softmax: [1],
  reduce: [1],
  copy: [1],
  concat: [0],
  attention: [3],
  attentionMask: [1],
  recurrent: [2, 3, 4],
  trees: [2, 3],
  scores: [4, 5],
  blockedConv: [2],
  blockedPool: [1],
  blockedPoolAll: [1],
  toBlocks: [1],
  fromBlocks: [1],
  chain: [0],
  rowNorm: [0],
  rowNormSum: [0, 1],
  groupNorm: [0],
  gather: [2],
  gatherElements: [2],
  pad: [2],
  arg: [1],
  int8Gemm: [2],
  int8Conv: [2],
  int8Depthwise: [2],
  quantize: [1],
  dequantize: [1],
  dynamicQuantize: [1, 2, 3],
  int8Binary: [2],
  int8Lookup: [2],
  int8Mean: [1],
};

/** The layouts of packed weights: their numbers. */
export const PACKED_LAYOUTS = {
  /** k, n, transposed. */
  gemm: 0,
  /** The window. */
  conv: 1,
  /** cell, hidden. */
  recurrent: 2,
  /** features, slots, targets, trees, nodes, leaves, votes, depth, single. */
  trees: 3,
  /** The window; of {@link BLOCKED_FORMS}. */
  blockedFull: 4,
  blockedFromPlain: 5,
  blockedDepthwise: 6,
  /** groups, taps, depth, n, transposed, signed. */
  int8: 7,
  /** channels, kernelH, kernelW, signed. */
  int8Depthwise: 8,
} as const;

/** The name of a step's kind. */
export type StepKind = keyof typeof STEP_KINDS;

/** Numbers of the elementwise functions of one argument, as the kernels count them. */
export const UNARY_OPS = {
  relu: 0,
  neg: 1,
  abs: 2,
  sqrt: 3,
  exp: 4,
  log: 5,
  tanh: 6,
  sigmoid: 7,
  erf: 8,
  floor: 9,
  ceil: 10,
  reciprocal: 11,
  /** Clamps to [p0, p1]. */
  clip: 12,
  /** `x < 0 ? p0 * x : x`. */
  leakyRelu: 13,
  round: 14,
  sign: 15,
  gelu: 16,
  geluTanh: 17,
  /** `x * sigmoid(p0 * x)`. */
  swish: 18,
  /** `p0 * x + p1` clamped to [0, 1]. */
  hardSigmoid: 19,
  hardSwish: 20,
  softplus: 21,
  softsign: 22,
  /** `p1 * (x < 0 ? p0 * (e^x - 1) : x)`. */
  elu: 23,
  /** `x < 0 ? p0 * (e^(x / p0) - 1) : x`. */
  celu: 24,
  mish: 25,
  /** `x > p0 ? x : 0`. */
  thresholdedRelu: 26,
  /** `x < -p1 ? x + p0 : x > p1 ? x - p0 : 0`. */
  shrink: 27,
  not: 28,
  isNan: 29,
  /** Of +infinity where p0 is not 0, of -infinity where p1 is not. */
  isInf: 30,
  sin: 31,
  cos: 32,
  tan: 33,
  asin: 34,
  acos: 35,
  atan: 36,
  sinh: 37,
  cosh: 38,
  asinh: 39,
  acosh: 40,
  atanh: 41,
} as const;

/** Numbers of the elementwise functions of two arguments. */
export const BINARY_OPS = {
  add: 0,
  sub: 1,
  mul: 2,
  div: 3,
  min: 4,
  max: 5,
  pow: 6,
  /** `a < 0 ? b * a : a`. */
  prelu: 7,
  /** With the sign of `a`. */
  fmod: 8,
  less: 9,
  lessOrEqual: 10,
  greater: 11,
  greaterOrEqual: 12,
  equal: 13,
  and: 14,
  or: 15,
  xor: 16,
} as const;

/** Numbers of the functions of two integers. */
export const INTEGER_OPS = {
  add: 0,
  sub: 1,
  mul: 2,
  div: 3,
  min: 4,
  max: 5,
  /** With the sign of the divisor. */
  mod: 6,
  /** With the sign of the dividend. */
  rem: 7,
  and: 8,
  or: 9,
  xor: 10,
  less: 11,
  lessOrEqual: 12,
  greater: 13,
  greaterOrEqual: 14,
  equal: 15,
} as const;

/** Numbers of the ways in which a tensor is padded. */
export const PAD_MODES = { constant: 0, edge: 1, reflect: 2, wrap: 3 } as const;

/** Numbers of the reductions. */
export const REDUCE_OPS = { sum: 0, mean: 1, max: 2, min: 3, product: 4, l1: 5, sumSquare: 6, l2: 7 } as const;

/** What an `attentionMask` is made from. */
export const MASK_FORMS = { flags: 0, numbers: 1, ends: 2, ranges: 3 } as const;

/** Numbers of the recurrent cells. */
export const CELLS = { rnn: 0, gru: 1, gruLate: 2, lstm: 3 } as const;

/** Numbers of the functions of their gates, by the names of ONNX in lower case. */
export const CELL_FUNCTIONS = {
  sigmoid: 0,
  tanh: 1,
  relu: 2,
  affine: 3,
  leakyrelu: 4,
  thresholdedrelu: 5,
  scaledtanh: 6,
  hardsigmoid: 7,
  softsign: 8,
} as const;

/** What a `scores` step makes of sums. */
export const SCORE_FORMS = { regression: 0, classes: 1, pair: 2 } as const;

/**
 * Channels of one block of the blocked layout, N (C/16) H W 16, whose last block is filled up. The same on every row of kernels, so that
 * programs are.
 */
export const CHANNEL_BLOCK = 16;

/** Numbers of the forms of a blocked convolution: x blocked; x plain; x blocked, and one filter per channel. */
export const BLOCKED_FORMS = { full: 0, fromPlain: 1, depthwise: 2 } as const;

/** Numbers of the activations of a blocked convolution, of its sums v with parameters a and b. */
export const BLOCKED_ACTIVATIONS = {
  /** Within [a, b]. */
  clip: 0,
  /** a v below 0. */
  leakyRelu: 1,
  sigmoid: 2,
  tanh: 3,
  /** a v + b within [0, 1]. */
  hardSigmoid: 4,
  /** v times hardSigmoid. */
  hardSwish: 5,
  /** v sigmoid(a v). */
  swish: 6,
} as const;

/** Numbers of the poolings. */
export const POOL_OPS = { max: 0, average: 1, averageIncludePad: 2 } as const;

const SPACES = { temporary: 1, permanent: 2, staging: 3, packed: 4, input: 5, output: 6 } as const;

/** Geometry of a 2-D convolution or pooling over NCHW; bottom and right padding follow from the output's size. */
export interface Window {
  readonly batch: number;
  readonly inC: number;
  readonly inH: number;
  readonly inW: number;
  readonly outC: number;
  readonly outH: number;
  readonly outW: number;
  readonly kernelH: number;
  readonly kernelW: number;
  readonly strideH: number;
  readonly strideW: number;
  readonly dilationH: number;
  readonly dilationW: number;
  readonly padTop: number;
  readonly padLeft: number;
  readonly groups: number;
}

/** A stretch of an arena, in bytes. */
export interface Region {
  readonly space: 'temporary' | 'permanent' | 'staging';
  readonly offset: number;
  readonly length: number;
}

/** What a step reads or writes: bytes of an arena, of an input or output by its index, or a packed weight by its index. */
export type ProgramOperand =
  | Region
  | { readonly space: 'input' | 'output'; readonly port: number; readonly offset: number; readonly length: number }
  | { readonly space: 'packed'; readonly packed: number };

/** Bytes that the executor loads: a range of the model file, or bytes inside the program. */
export type ProgramConstant =
  | { readonly kind: 'range'; readonly offset: number; readonly length: number }
  | { readonly kind: 'inline'; readonly bytes: Uint8Array };

/** A weight that the executor keeps in its own layout. `words`: at most 16 u32. */
export interface PackedWeight {
  readonly layout: keyof typeof PACKED_LAYOUTS;
  readonly words: readonly number[];
}

/** One kernel call. `words` are u32. */
export interface ProgramStep {
  readonly kind: StepKind;
  readonly operands: readonly ProgramOperand[];
  readonly words: readonly number[];
}

/** An input or an output, in bytes. */
export interface ProgramPort {
  readonly dtype: DType;
  readonly length: number;
}

/** A program before it is bytes. */
export interface ProgramSource {
  readonly modelBytes: number;
  readonly permanentBytes: number;
  readonly temporaryBytes: number;
  readonly stagingBytes: number;
  readonly constants: readonly ProgramConstant[];
  readonly packed: readonly PackedWeight[];
  readonly inputs: readonly ProgramPort[];
  readonly outputs: readonly ProgramPort[];
  readonly setup: readonly ProgramStep[];
  readonly run: readonly ProgramStep[];
}

/**
 * Writes `source` as bytes. The same source gives the same bytes. Checks limits only: whether a program makes sense is
 * for the executor to say.
 *
 * @throws {CloisterError} `MODEL_TOO_LARGE` when a count or a size is over {@link PROGRAM_LIMITS}.
 */
export function encodeProgram(source: ProgramSource): Uint8Array {
  const inline = source.constants.reduce((sum, constant) => sum + inlineLength(constant), 0);
  const limits = PROGRAM_LIMITS;
  within('constants', source.constants.length, limits.constants);
  within('packed weights', source.packed.length, limits.packed);
  within('inputs', source.inputs.length, limits.ports);
  within('outputs', source.outputs.length, limits.ports);
  within('setup steps', source.setup.length, limits.steps);
  within('run steps', source.run.length, limits.steps);
  within('inline bytes', inline, limits.inlineBytes);
  for (const key of ['permanentBytes', 'temporaryBytes', 'stagingBytes'] as const)
    within(key, source[key], limits.arenaBytes);

  const ports = [...source.inputs, ...source.outputs];
  const steps = [...source.setup, ...source.run];
  const stepBytes = steps.reduce(
    (sum, step) => sum + 16 + 24 * step.operands.length + 8 * Math.ceil(step.words.length / 2),
    0,
  );
  const length =
    80 +
    24 * source.constants.length +
    72 * source.packed.length +
    16 * ports.length +
    stepBytes +
    8 * Math.ceil(inline / 8);
  within('program bytes', length, limits.programBytes);

  const out = new Writer(length);
  out.u32(0x52504c43, PROGRAM_VERSION);
  out.u64(length, source.modelBytes, source.permanentBytes, source.temporaryBytes, source.stagingBytes);
  out.u32(source.constants.length, source.packed.length, source.inputs.length, source.outputs.length);
  out.u32(source.setup.length, source.run.length, inline, 0);

  let inlineAt = 0;
  for (const constant of source.constants) {
    out.u32(constant.kind === 'range' ? 0 : 1, 0);
    if (constant.kind === 'range') out.u64(constant.offset, constant.length);
    else out.u64(inlineAt, constant.bytes.length);
    inlineAt += inlineLength(constant);
  }
  for (const weight of source.packed) {
    out.u32(PACKED_LAYOUTS[weight.layout], 0);
    out.u32(...weight.words, ...new Array<number>(16 - weight.words.length).fill(0));
  }
  const dtypes = Object.keys(DTYPES);
  for (const { dtype, length } of ports) {
    out.u32(dtypes.indexOf(dtype), 0);
    out.u64(length);
  }
  for (const { kind, operands, words } of steps) {
    out.u32(STEP_KINDS[kind], operands.length, words.length, 0);
    for (const operand of operands) {
      const index = operand.space === 'packed' ? operand.packed : 'port' in operand ? operand.port : 0;
      out.u32(SPACES[operand.space], index);
      if (operand.space === 'packed') out.u64(0, 0);
      else out.u64(operand.offset, operand.length);
    }
    out.u32(...words);
    if (words.length % 2 === 1) out.u32(0);
  }
  for (const constant of source.constants) if (constant.kind === 'inline') out.bytes(constant.bytes);
  return out.done();
}

/** The 16 words of a window, in the format's order. */
export function windowWords(window: Window): readonly number[] {
  const { batch, inC, inH, inW, outC, outH, outW, kernelH, kernelW } = window;
  const { strideH, strideW, dilationH, dilationW, padTop, padLeft, groups } = window;
  return [
    ...[batch, inC, inH, inW, outC, outH, outW, kernelH, kernelW],
    ...[strideH, strideW, dilationH, dilationW, padTop, padLeft, groups],
  ];
}

/** The bits of `value` rounded to float32, as a parameter word. */
export function floatWord(value: number): number {
  return new Uint32Array(Float32Array.of(value).buffer)[0]!;
}

/** The two words, low first, of a 64-bit stride in elements. */
export function strideWords(stride: number): readonly [number, number] {
  return [stride >>> 0, Math.floor(stride / 2 ** 32) >>> 0];
}

function inlineLength(constant: ProgramConstant): number {
  return constant.kind === 'inline' ? constant.bytes.length : 0;
}

function within(what: string, value: number, limit: number): void {
  if (value <= limit) return;
  throw new CloisterError('MODEL_TOO_LARGE', `a program holds at most ${limit} ${what}, this one needs ${value}`, {
    what,
    limit,
    value,
  });
}

class Writer {
  readonly #view: DataView;
  #at = 0;

  constructor(length: number) {
    this.#view = new DataView(new ArrayBuffer(length));
  }

  u32(...values: readonly number[]): void {
    for (const value of values) {
      this.#view.setUint32(this.#at, value, true);
      this.#at += 4;
    }
  }

  u64(...values: readonly number[]): void {
    for (const value of values) this.u32(value >>> 0, Math.floor(value / 2 ** 32));
  }

  bytes(bytes: Uint8Array): void {
    new Uint8Array(this.#view.buffer).set(bytes, this.#at);
    this.#at += bytes.length;
  }

  done(): Uint8Array {
    return new Uint8Array(this.#view.buffer);
  }
}
