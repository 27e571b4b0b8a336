/**
 * The draft of a program: steps over buffers that have no offsets yet.
 * @module
 */
import type { ConstantReader, Facts, Graph, Node, ValueId } from '../graph/index.ts';
import { DTYPES, elementCount, formatShape, Tensor } from '../tensor/index.ts';
import {
  BINARY_OPS,
  CHANNEL_BLOCK,
  floatWord,
  type PackedWeight,
  PROGRAM_LIMITS,
  type ProgramConstant,
  type StepKind,
} from './program.ts';

/** A stretch of a buffer, in bytes. */
export interface View {
  readonly buffer: number;
  readonly offset: number;
  readonly length: number;
}

/** What a draft step reads or writes. */
export type DraftOperand = View | { readonly packed: number };

/** A step before memory is planned. */
export interface DraftStep {
  readonly kind: StepKind;
  readonly operands: readonly DraftOperand[];
  readonly words: readonly number[];
  /** Operands whose bytes the result may take over when nobody needs them afterwards. */
  readonly inPlace: readonly number[];
  /** The graph node that this step is part of. */
  readonly node: string;
}

/** An input or output by its index. */
export interface DraftPort {
  readonly kind: 'input' | 'output';
  readonly index: number;
}

/** Bytes that steps read and write. */
export interface DraftBuffer {
  readonly bytes: number;
  /** Filled once, at setup, or anew in each run. */
  readonly phase: 'setup' | 'run';
  /** A setup buffer that a run step or an output reads. */
  kept: boolean;
  /** An input or output of the program, whose bytes are the caller's. */
  port?: DraftPort;
}

/** Why a node cannot be lowered. Caught by the planner, which lists every node. */
export class Unsupported extends Error {}

/** Collects steps while the nodes of a graph with concrete facts are lowered one by one. */
export class Draft {
  readonly graph: Graph;
  readonly buffers: DraftBuffer[] = [];
  readonly setup: DraftStep[] = [];
  readonly run: DraftStep[] = [];
  readonly constants: ProgramConstant[] = [];
  readonly packed: PackedWeight[] = [];
  readonly #reader: ConstantReader;
  readonly #bufferOf = new Map<ValueId, number>();
  readonly #blocksOf = new Map<ValueId, number>();
  readonly #deferred = new Map<ValueId, () => void>();
  readonly #packedOf = new Map<string, number>();
  readonly #constant: ReadonlySet<ValueId>;
  readonly #uses: ReadonlyMap<ValueId, number>;
  readonly #consumer: ReadonlyMap<ValueId, Node>;
  readonly #absorbed = new Set<Node>();
  #phase: 'setup' | 'run' = 'run';
  #node = '';

  /**
   * @param nodes - The nodes that will be lowered: what the outputs need.
   * @param constant - Values that do not depend on the inputs.
   */
  constructor(graph: Graph, reader: ConstantReader, nodes: readonly Node[], constant: ReadonlySet<ValueId>) {
    this.graph = graph;
    this.#reader = reader;
    this.#constant = constant;
    const uses = new Map<ValueId, number>();
    const consumer = new Map<ValueId, Node>();
    for (const node of nodes) {
      for (const id of node.inputs) {
        if (id === undefined) continue;
        uses.set(id, (uses.get(id) ?? 0) + 1);
        consumer.set(id, node);
      }
    }
    for (const id of graph.outputs) uses.set(id, (uses.get(id) ?? 0) + 1);
    this.#uses = uses;
    this.#consumer = consumer;
  }

  /** Begins `node`; false when an earlier node has absorbed it. */
  begin(node: Node): boolean {
    this.#node = node.name;
    this.#phase = node.outputs.every(id => id === undefined || this.#constant.has(id)) ? 'setup' : 'run';
    return !this.#absorbed.has(node);
  }

  facts(id: ValueId): Facts {
    const value = this.graph.values[id];
    // Most kernels write all outputs of their operator, whether or not anybody asked for them.
    if (value === undefined) throw new Unsupported('one of its outputs is left out');
    return value.facts;
  }

  /** The concrete shape of a value. */
  shape(id: ValueId): readonly number[] {
    return this.facts(id).shape as readonly number[];
  }

  /** Bytes of a value. */
  bytes(id: ValueId): number {
    return elementCount(this.shape(id)) * DTYPES[this.facts(id).dtype].bytes;
  }

  /** Whether a value is the same in every run. */
  isConstant(id: ValueId): boolean {
    return this.#constant.has(id);
  }

  /** Whether what is lowered now runs once, at setup. */
  get inSetup(): boolean {
    return this.#phase === 'setup';
  }

  /** Lowers `body` into the setup steps. What it reads must be constant. */
  atSetup<T>(body: () => T): T {
    const phase = this.#phase;
    this.#phase = 'setup';
    const result = body();
    this.#phase = phase;
    return result;
  }

  /** The elements of a constant of the graph, read now; undefined for anything that is computed. */
  tensor(id: ValueId | undefined): Tensor | undefined {
    const constant = id === undefined ? undefined : this.graph.constants.get(id);
    if (constant === undefined || id === undefined) return undefined;
    if (constant.kind === 'inline') return constant.tensor;
    return Tensor.fromBytes(this.facts(id).dtype, this.shape(id), this.#reader.read(constant.offset, constant.length));
  }

  /** The bytes of a value that a node before this one made, or that the graph brings. */
  read(id: ValueId): View {
    const blocks = this.#blocksOf.get(id);
    if (blocks !== undefined && !this.#bufferOf.has(id)) this.#fromBlocks(id, blocks);
    const make = this.#deferred.get(id);
    this.#deferred.delete(id);
    make?.();
    let buffer = this.#bufferOf.get(id);
    const constant = this.graph.constants.get(id);
    if (buffer === undefined && constant !== undefined) {
      const view = this.#load(
        constant.kind === 'range'
          ? { kind: 'range', offset: constant.offset, length: constant.length }
          : { kind: 'inline', bytes: constant.tensor.toBytes() },
      );
      buffer = view.buffer;
      this.#bufferOf.set(id, buffer);
    }
    if (buffer === undefined) throw new Unsupported(`${this.graph.values[id]!.name} is not computed natively`);
    return this.#whole(buffer);
  }

  /** Whether what is lowered now may read `id`: it is a constant, or made by a node before this one in the same phase. */
  isReady(id: ValueId): boolean {
    return this.isConstant(id)
      ? this.graph.constants.has(id) || this.#bufferOf.has(id)
      : !this.inSetup && this.#bufferOf.has(id);
  }

  /** New bytes for a value. */
  write(id: ValueId): View {
    const view = this.temporary(this.bytes(id));
    this.#bufferOf.set(id, view.buffer);
    return view;
  }

  /**
   * Whether a value is there in the blocked layout: its second dimension, the channels, in blocks of {@link CHANNEL_BLOCK}. Whoever can
   * goes on in it, so that a region of the graph is converted at its borders only; {@link Draft.read} converts for whoever cannot.
   */
  inBlocks(id: ValueId): boolean {
    return this.#blocksOf.has(id);
  }

  /** Whether a value was computed by now, or is a constant. */
  isThere(id: ValueId): boolean {
    return this.#bufferOf.has(id) || this.#blocksOf.has(id) || this.graph.constants.has(id);
  }

  /** Bytes of a value in the blocked layout. */
  blockedBytes(id: ValueId): number {
    const channels = this.shape(id)[1]!;
    return (this.bytes(id) / channels) * CHANNEL_BLOCK * Math.ceil(channels / CHANNEL_BLOCK);
  }

  /** A value of at least one element and two dimensions in the blocked layout; converted where it is not there yet. */
  readBlocks(id: ValueId): View {
    const known = this.#blocksOf.get(id);
    if (known !== undefined) return this.#whole(known);
    const plain = this.read(id);
    const y = this.temporary(this.blockedBytes(id));
    this.emit('toBlocks', [plain, y], this.#image(id));
    if (!this.inSetup) this.#blocksOf.set(id, y.buffer);
    return y;
  }

  /** New bytes for a value in the blocked layout. Not in setup. */
  writeBlocks(id: ValueId): View {
    const view = this.temporary(this.blockedBytes(id));
    this.#blocksOf.set(id, view.buffer);
    return view;
  }

  #fromBlocks(id: ValueId, blocks: number): void {
    const [batch, channels, pixels] = this.#image(id);
    if (pixels === 1 && channels % CHANNEL_BLOCK === 0) {
      this.#bufferOf.set(id, blocks); // the same bytes
      return;
    }
    const phase = this.#phase;
    this.#phase = 'run';
    const y = this.write(id);
    this.emit('fromBlocks', [this.#whole(blocks), y], [batch, channels, pixels]);
    this.#phase = phase;
  }

  /** Batch, channels, pixels. */
  #image(id: ValueId): readonly [number, number, number] {
    const [batch, channels, ...rest] = this.shape(id);
    return [batch!, channels!, elementCount(rest)];
  }

  /** Makes `id` another name of the bytes of `of`. */
  alias(id: ValueId, of: ValueId): void {
    const blocks = this.#blocksOf.get(of);
    if (blocks !== undefined && formatShape(this.shape(id)) === formatShape(this.shape(of))) {
      this.#blocksOf.set(id, blocks);
      return;
    }
    this.#bufferOf.set(id, this.read(of).buffer);
  }

  /** Leaves the bytes of `id` to `make`, which writes them when somebody reads them, if anybody does. */
  defer(id: ValueId, make: () => void): void {
    this.#deferred.set(id, make);
  }

  /** New bytes that are no value of the graph. */
  temporary(bytes: number): View {
    this.buffers.push({ bytes, phase: this.#phase, kept: false });
    return this.#whole(this.buffers.length - 1);
  }

  /** The bytes of input `index` of the program: the graph's `id`. */
  input(id: ValueId, index: number): void {
    this.#phase = 'run';
    const { buffer } = this.write(id);
    this.buffers[buffer]!.port = { kind: 'input', index };
  }

  /**
   * Makes the bytes of `id` output `index` of the program: those that a step writes anyway, or, where they are constant, an
   * input or another output, a copy.
   */
  output(id: ValueId, index: number): void {
    const view = this.read(id);
    const buffer = this.buffers[view.buffer]!;
    if (buffer.phase === 'run' && buffer.port === undefined) {
      buffer.port = { kind: 'output', index };
      return;
    }
    this.#phase = 'run';
    const copy = this.temporary(view.length);
    this.buffers[copy.buffer]!.port = { kind: 'output', index };
    if (view.length > 0) this.emit('concat', [copy, view], [1]);
  }

  /** A float32 that every run reads. */
  scalar(value: number): View {
    return this.inline(new Uint8Array(Float32Array.of(value).buffer));
  }

  /** Bytes that are the same in every run. */
  inline(bytes: Uint8Array): View {
    return this.#load({ kind: 'inline', bytes });
  }

  /** Marks what a run step or an output reads as permanent. */
  keep(view: View): View {
    const buffer = this.buffers[view.buffer]!;
    if (buffer.phase === 'setup') buffer.kept = true;
    return view;
  }

  /** Adds a step to the phase that is being lowered. */
  emit(
    kind: StepKind,
    operands: readonly DraftOperand[],
    words: readonly number[],
    inPlace: readonly number[] = [],
  ): void {
    const step: DraftStep = { kind, operands, words, inPlace, node: this.#node };
    if (this.#phase === 'setup') this.setup.push(step);
    else {
      for (const operand of operands) if ('buffer' in operand) this.keep(operand);
      this.run.push(step);
    }
  }

  /** The index of `weight` in the executor's own layout; packs it at setup when nobody has. */
  pack(source: View, weight: PackedWeight): number {
    const key = `${source.buffer} ${source.offset} ${JSON.stringify(weight)}`;
    let index = this.#packedOf.get(key);
    if (index === undefined) {
      index = this.packed.push(weight) - 1;
      this.#packedOf.set(key, index);
      const packed = index;
      this.atSetup(() => this.emit('pack', [source], [packed]));
    }
    return index;
  }

  /** The only node that reads `id`, where nothing else needs its bytes. */
  soleConsumer(id: ValueId): Node | undefined {
    return this.#uses.get(id) === 1 ? this.#consumer.get(id) : undefined; // outputs are uses
  }

  /** Marks `node` as computed by the step that is being lowered. */
  absorb(node: Node): void {
    this.#absorbed.add(node);
  }

  /** `a op b` over vectors of `count` float32, as new bytes; a shorter operand is one element that repeats. */
  vector(op: keyof typeof BINARY_OPS, a: View, b: View, count: number): View {
    const y = this.temporary(4 * count);
    const stride = (view: View): number => (view.length === 4 ? 0 : 1);
    this.emit('binary', [a, b, y], [BINARY_OPS[op], 1, count, stride(a), stride(b)]);
    return y;
  }

  #load(constant: ProgramConstant): View {
    const length = constant.kind === 'range' ? constant.length : constant.bytes.length;
    return this.atSetup(() => {
      const view = this.temporary(length);
      if (length > 0) this.emit('load', [view], [this.constants.push(constant) - 1]);
      return view;
    });
  }

  #whole(buffer: number): View {
    return { buffer, offset: 0, length: this.buffers[buffer]!.bytes };
  }
}

/** What a GEMM or a convolution does to each result: words of an epilogue. */
export function epilogueWords(activation: 'none' | 'relu' | 'clip', lo = 0, hi = 0): readonly number[] {
  return [activation === 'none' ? 0 : activation === 'relu' ? 1 : 2, floatWord(lo), floatWord(hi)];
}

/**
 * The loop over `dims` with these strides, with as few dimensions as tell the same: sizes of 1 are dropped, neighbours
 * that every operand walks in one go are joined. At least one dimension is left.
 */
export function collapse(
  dims: readonly number[],
  ...operands: readonly (readonly number[])[]
): { dims: readonly number[]; strides: readonly (readonly number[])[] } {
  const outDims: number[] = [];
  const outStrides: number[][] = operands.map(() => []);
  for (let i = 0; i < dims.length; i++) {
    const size = dims[i]!;
    if (size === 1) continue;
    const last = outDims.length - 1;
    const joins =
      last >= 0 &&
      outDims[last]! * size <= PROGRAM_LIMITS.dim &&
      operands.every((strides, j) => outStrides[j]![last] === strides[i]! * size);
    if (joins) {
      outDims[last]! *= size;
      operands.forEach((strides, j) => {
        outStrides[j]![last] = strides[i]!;
      });
    } else {
      outDims.push(size);
      operands.forEach((strides, j) => {
        outStrides[j]!.push(strides[i]!);
      });
    }
  }
  if (outDims.length > 0) return { dims: outDims, strides: outStrides };
  return { dims: [1], strides: operands.map(() => [0]) };
}

/** Strides, in elements, that read a dense tensor of `shape` as if it had the broadcast shape `out`. */
export function broadcastStrides(shape: readonly number[], out: readonly number[]): readonly number[] {
  const strides = new Array<number>(out.length).fill(0);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== 1) strides[out.length - shape.length + i] = step;
    step *= shape[i]!;
  }
  return strides;
}
