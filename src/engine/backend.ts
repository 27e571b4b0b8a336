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
  /** Sizes of the graph's symbolic dimensions, by name, where they are known in advance. */
  readonly dims?: Readonly<Record<string, number>>;
  /** The most bytes that one run may need (weights, activations and workspace together). */
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
}

/** A graph made ready on one backend. Several runs may share it. */
export interface Executable {
  readonly memory: MemoryReport;
  /**
   * Computes every output of the graph. Inputs are read, never kept; outputs are new tensors that the caller owns.
   *
   * @throws {CloisterError} `INPUT_MISMATCH`, `DTYPE_MISMATCH`, `SHAPE_MISMATCH` before anything is computed; `ABORTED`; `CLOSED`.
   */
  run(inputs: NamedTensors, signal?: AbortSignal): Promise<NamedTensors>;
  /** {@link Executable.run} on the calling thread, without a promise. */
  runSync(inputs: NamedTensors): NamedTensors;
  /** Frees what it holds. Later runs throw `CLOSED`. Calling it twice is harmless. */
  close(): void;
}

/** An executor of graphs. The contract suite in `test/suites/backend.ts` says what all of them keep. */
export interface Backend {
  readonly name: string;
  /** Whether this backend runs `node`, whose inputs and outputs have these facts. */
  supports(node: Node, inputs: readonly (Facts | undefined)[], outputs: readonly (Facts | undefined)[]): boolean;
  /** @throws {CloisterError} `UNSUPPORTED_MODEL` with every node that is not supported, by name; `OUT_OF_MEMORY`. */
  prepare(graph: Graph, options: PrepareOptions): Executable;
}
