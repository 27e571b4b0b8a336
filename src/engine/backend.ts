/**
 * The backend seam: an executor of graphs.
 * @module
 */
import type { ConstantReader, Facts, Graph, Node } from '../graph/index.ts';
import type { Tensor } from '../tensor/index.ts';

/** Tensors by the name of the graph value they are for. */
export type NamedTensors = Readonly<Record<string, Tensor>>;

/** What {@link Backend.prepare} may be told. */
export interface PrepareOptions {
  /** Where the bytes of the graph's `range` constants are. */
  readonly constants: ConstantReader;
  /** Digest of that file. A backend with a plan cache uses it: without it, nothing that depends on the file is cached. */
  readonly sourceDigest?: string;
  /** Sizes of the graph's symbolic dimensions, by name, where they are known in advance. */
  readonly dims?: Readonly<Record<string, number>>;
  /** The most bytes that one run may need: weights, activations, workspace, inputs and outputs together. */
  readonly limitBytes?: number;
}

/** What a prepared graph needs, known before it runs. */
export interface MemoryReport {
  /** Weights as they are kept, packed or not. */
  readonly permanentBytes: number;
  /** Activations at planned offsets; 0 where the backend does not plan. */
  readonly temporaryBytes: number;
  /** Kernel workspace. */
  readonly scratchBytes: number;
  /** Inputs and outputs of one run, which the caller holds and the limit counts; 0 where their sizes are not known yet. */
  readonly portBytes: number;
  /** Copies of inputs and outputs: of asynchronous runs that have not ended, and kept, wiped, for the next. They come and go. */
  readonly blockBytes: number;
}

/** The report of what is not loaded. */
export const NO_MEMORY: MemoryReport = Object.freeze({
  permanentBytes: 0,
  temporaryBytes: 0,
  scratchBytes: 0,
  portBytes: 0,
  blockBytes: 0,
});

/** One node of a running graph. */
export interface NodeEvent {
  readonly kind: 'start' | 'end';
  readonly node: Node;
  /** The place of the node in the order of the run, from 0. */
  readonly index: number;
  /** How many nodes the run has. */
  readonly total: number;
  /** At the end: dtype and shape of what the node computed; undefined for an output that is left out. */
  readonly outputs?: readonly (Facts | undefined)[];
}

/** What {@link Executable.run} may be told. */
export interface ExecuteOptions {
  /** Cancels the run at the next node. */
  readonly signal?: AbortSignal;
  /**
   * Called before and after each node, on the calling thread; what it throws ends the run. A backend that runs a whole program in
   * one call has no nodes to tell of, and says nothing.
   */
  readonly onNode?: (event: NodeEvent) => void;
}

/** A graph made ready on one backend. Several runs may share it. */
export interface Executable {
  readonly memory: MemoryReport;
  /**
   * Computes every output of the graph. Inputs are read, never kept; outputs are new tensors that the caller owns.
   *
   * @throws {CloisterError} `INPUT_MISMATCH`, `DTYPE_MISMATCH`, `SHAPE_MISMATCH` before anything is computed; `ABORTED`; `CLOSED`.
   */
  run(inputs: NamedTensors, options?: ExecuteOptions): Promise<NamedTensors>;
  /** {@link Executable.run} on the calling thread, without a promise; it cannot be cancelled. */
  runSync(inputs: NamedTensors, options?: Pick<ExecuteOptions, 'onNode'>): NamedTensors;
  /**
   * {@link Executable.runSync} into tensors of the caller: `outputs` has one for each output, dense over a buffer of its own, of
   * the same dtype and shape, and is overwritten whole. Allocates nothing that grows with the tensors.
   *
   * @throws {CloisterError} As {@link Executable.runSync}; the same codes where an output does not fit.
   */
  runInto(inputs: NamedTensors, outputs: NamedTensors): void;
  /** Frees what it holds. Later runs throw `CLOSED`. Calling it twice is harmless. */
  close(): void;
}

/** An executor of graphs. The contract suite in `test/suites/backend.ts` says what all of them keep. */
export interface Backend {
  readonly name: string;
  /** It answers asynchronously only: `runSync` and `runInto` of what it prepares throw `UNSUPPORTED_MODEL`. */
  readonly isAsync?: true;
  /** Whether this backend runs `node`, whose inputs and outputs have these facts. */
  supports(node: Node, inputs: readonly (Facts | undefined)[], outputs: readonly (Facts | undefined)[]): boolean;
  /**
   * Why it does not run a node, for each of `nodes` of `graph` that it does not, where that depends on more than the facts of the node.
   * Left out, {@link Backend.supports} says it all.
   */
  readonly refusals?: (graph: Graph, nodes: readonly Node[]) => ReadonlyMap<Node, string>;
  /** @throws {CloisterError} `UNSUPPORTED_MODEL` with every node that is not supported, by name; `OUT_OF_MEMORY`. */
  prepare(graph: Graph, options: PrepareOptions): Executable;
}
