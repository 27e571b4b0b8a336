/**
 * The program host: verified programs on the native executor.
 * @module
 */
import { CloisterError, ERROR_CODES, type ErrorCode } from '../src/base/index.ts';
import type { Binding } from './loader.ts';

/** What a loaded program holds, in bytes. */
export interface ProgramMemory {
  /** Constants and packed weights. */
  readonly permanentBytes: number;
  /** Activations of one run. */
  readonly temporaryBytes: number;
  /** Kernel workspace of one run. */
  readonly scratchBytes: number;
  /** High-water mark: the most that was held at once so far, setup and overlapping runs included. */
  readonly peakBytes: number;
}

/** A program that was verified and whose setup steps have run. Fits the engine's `LoadedProgram` seam. */
export interface NativeProgram {
  /** Bytes of each input and output, in the program's order. */
  readonly inputBytes: readonly number[];
  readonly outputBytes: readonly number[];
  /** Multiply-adds and element visits of its setup and of one run, as the verifier counted them. */
  readonly work: number;
  /** @throws {CloisterError} `CLOSED`. */
  readonly memory: ProgramMemory;
  /**
   * Runs on the calling thread. `inputs` are read; `outputs` are overwritten whole. Waits for an asynchronous run only
   * where the memory limit leaves one workspace.
   *
   * @throws {CloisterError} `INPUT_MISMATCH` when an array is not a Uint8Array of the exact size over an ArrayBuffer of
   *   its own (shared, detached and resized ones are refused), having computed nothing; `CLOSED`.
   */
  run(inputs: readonly Uint8Array[], outputs: readonly Uint8Array[]): void;
  /**
   * Runs on a thread of the pool. The inputs are copied before it returns; the outputs are written on the calling
   * thread, just before the promise resolves. Closing the program meanwhile does not disturb the run.
   *
   * @throws {CloisterError} As {@link NativeProgram.run}; `OUT_OF_MEMORY`.
   */
  runAsync(inputs: readonly Uint8Array[], outputs: readonly Uint8Array[]): Promise<void>;
  /** {@link NativeProgram.run}, and how long each run step took, in nanoseconds (about 40 of them are the clock's). */
  time(inputs: readonly Uint8Array[], outputs: readonly Uint8Array[]): Float64Array;
  /**
   * Frees the arenas, wiped, as soon as no run needs them. Later calls throw `CLOSED`. Calling it twice is harmless.
   */
  close(): void;
}

/** Loads programs. Fits the engine's `ProgramHost` seam. */
export interface NativeProgramHost {
  readonly info: { readonly isa: string; readonly programVersion: number; readonly gemmPanel: number };
  /**
   * Verifies `program` as if a hostile guest had written it (`executor/INVARIANTS.md`), copies its constants out of
   * `model`, runs its setup steps. Neither array is needed afterwards.
   *
   * @param limitBytes - The most that constants, packed weights, one run's activations and workspace, and what setup
   *   needs besides, may take together. Overlapping runs share what is left of it, or wait for one another.
   * @throws {CloisterError} `INVALID_PROGRAM` with the first violation: the step, the operand, what was expected, what
   *   came and the invariant's name; `OUT_OF_MEMORY` over `limitBytes`, before anything is allocated, or when the
   *   system refuses; `INVALID_ARGUMENT` when an argument is no such thing.
   */
  load(program: Uint8Array, model: Uint8Array, limitBytes: number): NativeProgram;
}

/** What {@link openProgramHost} may be told. */
export interface ProgramHostOptions {
  /**
   * The most operations (multiply-adds, bytes moved) that setup and one run of a program may come to, together. Default
   * and most: 2^44, which is minutes; who wants less sets a deadline as well.
   */
  readonly limitWork?: number;
  /** For tests: a byte that each workspace is filled with before each run: no result may depend on it. */
  readonly fill?: number;
}

/** The executor's part of the addon's exports. A returned string is an error: `CODE: message`. */
interface ExecutorBinding {
  readonly programVersion: number;
  readonly Program: new (
    program: Uint8Array,
    model: Uint8Array,
    limitBytes: number,
    limitWork: number,
    fill: number,
  ) => ProgramObject;
  info(): { isa: string; gemmPanel: number };
}

interface ProgramObject {
  run(inputs: readonly Uint8Array[], outputs: readonly Uint8Array[]): undefined | string;
  runAsync(inputs: readonly Uint8Array[], outputs: readonly Uint8Array[]): Promise<undefined | string> | string;
  time(inputs: readonly Uint8Array[], outputs: readonly Uint8Array[]): Float64Array | string;
  ports(): { inputs: number[]; outputs: number[]; work: number };
  memory(): ProgramMemory | string;
  close(): void;
}

/** Version of the program format that the executor of `binding` verifies. */
export function programVersion(binding: Binding): number {
  return (binding as unknown as ExecutorBinding).programVersion;
}

/**
 * Returns the host that loads programs into the executor of `binding`. Its `info` tells which row runs at this moment;
 * a program stays on the row on which it was loaded.
 */
export function openProgramHost(binding: Binding, options: ProgramHostOptions = {}): NativeProgramHost {
  const addon = binding as unknown as ExecutorBinding;
  return {
    get info() {
      const { isa, gemmPanel } = addon.info();
      return Object.freeze({ isa, programVersion: addon.programVersion, gemmPanel });
    },
    load(program, model, limitBytes) {
      let object: ProgramObject;
      try {
        object = new addon.Program(program, model, limitBytes, options.limitWork ?? 2 ** 44, options.fill ?? -1);
      } catch (error) {
        throw toError(error instanceof Error ? error.message : String(error));
      }
      return wrap(object);
    },
  };
}

function wrap(object: ProgramObject): NativeProgram {
  const { inputs, outputs, work } = object.ports();
  return Object.freeze({
    inputBytes: Object.freeze(inputs),
    outputBytes: Object.freeze(outputs),
    work,
    get memory() {
      const memory = object.memory();
      if (typeof memory === 'string') throw toError(memory);
      return memory;
    },
    run(from, to) {
      const wrong = object.run(from, to);
      if (wrong !== undefined) throw toError(wrong);
    },
    async runAsync(from, to) {
      const wrong = await object.runAsync(from, to);
      if (wrong !== undefined) throw toError(wrong);
    },
    time(from, to) {
      const durations = object.time(from, to);
      if (typeof durations === 'string') throw toError(durations);
      return durations;
    },
    close() {
      object.close();
    },
  } satisfies NativeProgram);
}

/** The typed error of an addon's `CODE: message`. */
function toError(text: string): CloisterError {
  const colon = text.indexOf(': ');
  const code = text.slice(0, colon);
  if (colon < 0 || !Object.hasOwn(ERROR_CODES, code)) return new CloisterError('INVALID_PROGRAM', text);
  return new CloisterError(code as ErrorCode, text.slice(colon + 2));
}
