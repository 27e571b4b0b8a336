/**
 * The kernel-host seam: what the engine, wherever it runs, sees of native code. The guest's engine plans against
 * {@link KernelInfo} and hands over a program; only the host ever holds a {@link ProgramHost}.
 * @module
 */
import type { MemoryReport } from './backend.ts';

/** What the planner must know of the machine: plain data, so that it can cross into an isolate as JSON. */
export interface KernelInfo {
  /** The row of the dispatch table that runs: `scalar`, `avx2`, `avx512`, `avx512vnni`, `neon`. */
  readonly isa: string;
  /** Version of the program format that the executor verifies. */
  readonly programVersion: number;
  /** Panel width of packed GEMM operands on this row, in elements. For reports: programs are the same on every row. */
  readonly gemmPanel: number;
}

/** A program that was verified and whose setup steps have run. */
export interface LoadedProgram {
  /** Bytes of each input and output, in the program's order. */
  readonly inputBytes: readonly number[];
  readonly outputBytes: readonly number[];
  /** Multiply-adds and element visits of its setup and of one run, as the verifier counted them. */
  readonly work: number;
  /** What it holds, and the most that was held at once so far, overlapping runs and setup included. */
  readonly memory: MemoryReport & { readonly peakBytes: number };
  /**
   * Runs on the calling thread, on the arrays where they lie. `inputs` are read; `outputs` are overwritten whole. Sizes must be exact.
   *
   * @throws {CloisterError} `INPUT_MISMATCH` on another size or number, a buffer that is shared or detached, or an index or a length among the
   *   data that lies outside its axis; `CLOSED`.
   */
  run(inputs: readonly ArrayBufferView[], outputs: readonly ArrayBufferView[]): void;
  /**
   * {@link LoadedProgram.run} on another thread: inputs are copied at once, outputs written just before it resolves.
   */
  runAsync(inputs: readonly ArrayBufferView[], outputs: readonly ArrayBufferView[]): Promise<void>;
  close(): void;
}

/** A model file, read piece by piece, so that no weight is held twice while it is packed. */
export interface ModelReader {
  /** Bytes. */
  readonly size: number;
  /** Exactly `length` bytes from `offset`. What it throws, loading throws. */
  read(offset: number, length: number): Uint8Array;
  /** The same into `target`, for readers that would have to copy. Used where it is there. */
  readInto?(offset: number, target: Uint8Array): void;
}

/** The native side, as the engine sees it. Implemented by `native/index.ts`; faked in tests. */
export interface ProgramHost {
  readonly info: KernelInfo;
  /**
   * Verifies `program` as if a hostile guest had written it, reads the weights out of `model` piece by piece, runs the setup
   * steps.
   *
   * @throws {CloisterError} `INVALID_PROGRAM` with the first violation; `OUT_OF_MEMORY` over `limitBytes`.
   */
  load(program: Uint8Array, model: Uint8Array | ModelReader, limitBytes: number): LoadedProgram;
}
