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
 * | packed weights | 72: u32 layout (0 GEMM B, 1 convolution), u32 zero, u32[16]: k, n, transposed, 13 zeros; or a window |
 * | inputs, outputs | 24: u32 dtype (its place in `DTYPES`), u32 space, u64 offset, u64 length |
 * | setup steps, run steps | u32 kind, u32 operands (at most 1,024), u32 parameter words (at most 64), u32 zero; operands, 24 each: u32 space, u32 packed index, u64 offset, u64 length; u32 words, one zero word after an odd number |
 * | inline | bytes, zeros up to a multiple of 8; the program ends here |
 *
 * Spaces: 1 temporary, 2 permanent, 3 staging (setup only), 4 packed. A window is 16 words: batch, inC, inH, inW, outC,
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
export const PROGRAM_VERSION = 1;

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
 * The steps: number, operands in order, parameter words. `f32` words are IEEE 754 bits; an epilogue is
 * `activation (0 none, 1 relu, 2 clip), lo, hi`.
 */
export const STEP_KINDS = {
  /** out · constant. Setup only. */
  load: 1,
  /** in · packed weight. Setup only. */
  pack: 2,
  /** a, b, c, [bias] · m, n, k, aTransposed, bTransposed, batches, aShared, bShared, epilogue. */
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
} as const;

/** Numbers of the elementwise functions of two arguments. */
export const BINARY_OPS = { add: 0, sub: 1, mul: 2, div: 3, min: 4, max: 5, pow: 6 } as const;

/** Numbers of the reductions. */
export const REDUCE_OPS = { sum: 0, mean: 1, max: 2, min: 3 } as const;

/** Numbers of the poolings. */
export const POOL_OPS = { max: 0, average: 1, averageIncludePad: 2 } as const;

const SPACES = { temporary: 1, permanent: 2, staging: 3, packed: 4 } as const;

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

/** What a step reads or writes: bytes of an arena, or a packed weight by its index. */
export type ProgramOperand = Region | { readonly space: 'packed'; readonly packed: number };

/** Bytes that the executor loads: a range of the model file, or bytes inside the program. */
export type ProgramConstant =
  | { readonly kind: 'range'; readonly offset: number; readonly length: number }
  | { readonly kind: 'inline'; readonly bytes: Uint8Array };

/** A weight that the executor keeps in its own layout. */
export type PackedWeight =
  | { readonly layout: 'gemm'; readonly k: number; readonly n: number; readonly transposed: boolean }
  | { readonly layout: 'conv'; readonly window: Window };

/** One kernel call. `words` are u32. */
export interface ProgramStep {
  readonly kind: StepKind;
  readonly operands: readonly ProgramOperand[];
  readonly words: readonly number[];
}

/** An input or an output. */
export interface ProgramPort {
  readonly dtype: DType;
  readonly region: Region;
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
    24 * ports.length +
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
    out.u32(weight.layout === 'gemm' ? 0 : 1, 0);
    if (weight.layout === 'gemm')
      out.u32(weight.k, weight.n, weight.transposed ? 1 : 0, ...new Array<number>(13).fill(0));
    else out.u32(...windowWords(weight.window));
  }
  const dtypes = Object.keys(DTYPES);
  for (const { dtype, region } of ports) {
    out.u32(dtypes.indexOf(dtype), SPACES[region.space]);
    out.u64(region.offset, region.length);
  }
  for (const { kind, operands, words } of steps) {
    out.u32(STEP_KINDS[kind], operands.length, words.length, 0);
    for (const operand of operands) {
      out.u32(SPACES[operand.space], operand.space === 'packed' ? operand.packed : 0);
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
