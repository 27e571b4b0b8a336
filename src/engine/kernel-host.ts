/**
 * The kernel-host seam: what the engine, wherever it runs, sees of native code. The guest's engine plans against
 * {@link KernelInfo} and hands over a program; only the host ever holds a {@link ProgramHost}.
 * @module
 */
import type { MemoryReport } from './backend.ts';

/** What the planner must know of the machine: plain data, so that it can cross into an isolate as JSON. */
export interface KernelInfo {
  /** The row of the dispatch table that runs: `scalar`, `avx2`, `avx512`, `neon`. */
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
   * Runs on the calling thread. `inputs` are read; `outputs` are overwritten whole. Sizes must be exact.
   *
   * @throws {CloisterError} `INPUT_MISMATCH` on another size or number, or a buffer that is shared or detached;
   *   `CLOSED`.
   */
  run(inputs: readonly Uint8Array[], outputs: readonly Uint8Array[]): void;
  /**
   * {@link LoadedProgram.run} on another thread: inputs are copied at once, outputs written just before it resolves.
   */
  runAsync(inputs: readonly Uint8Array[], outputs: readonly Uint8Array[]): Promise<void>;
  close(): void;
}

/** The native side, as the engine sees it. Implemented by `native/index.ts`; faked in tests. */
export interface ProgramHost {
  readonly info: KernelInfo;
  /**
   * Verifies `program` as if a hostile guest had written it, copies the weight ranges out of `model`, runs the setup
   * steps.
   *
   * @throws {CloisterError} `INVALID_PROGRAM` with the first violation; `OUT_OF_MEMORY` over `limitBytes`.
   */
  load(program: Uint8Array, model: Uint8Array, limitBytes: number): LoadedProgram;
}
