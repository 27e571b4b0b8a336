/**
 * The program host: verified programs on the native executor.
 * @module
 */
import { CloisterError, ERROR_CODES, type ErrorCode } from '../src/base/index.ts';
import { type Binding, checkThreads } from './loader.ts';

/** A model file that is read piece by piece. Fits the engine's `ModelReader` seam. */
export interface ModelReader {
  /** Bytes. */
  readonly size: number;
  /** Exactly `length` bytes from `offset`. */
  read(offset: number, length: number): Uint8Array;
  /** The same into `target`, for readers that would have to copy. Used where it is there, with one buffer for all pieces. */
  readInto?(offset: number, target: Uint8Array): void;
}

/** What a loaded program holds, in bytes. */
export interface ProgramMemory {
  /** Constants and packed weights. */
  readonly permanentBytes: number;
  /** Activations of one run. */
  readonly temporaryBytes: number;
  /** Kernel workspace of one run. */
  readonly scratchBytes: number;
  /** Inputs and outputs of one run, each rounded up to 64 bytes. The caller holds them, and the limit counts them. */
  readonly portBytes: number;
  /**
   * Copies of inputs and outputs, `portBytes` for each asynchronous run that has not ended, and those of ended runs that are kept, wiped,
   * for the next: at most 64 MiB, and what `limitBytes` leaves. They are freed before memory is refused to any program.
   */
  readonly blockBytes: number;
  /**
   * High-water mark of what `limitBytes` counts: arenas, setup, what the callers of overlapping runs hold, kept blocks. A load on one
   * thread passes with a limit of its `peakBytes`, and with no less.
   */
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
   * Runs on the calling thread, on the arrays where they lie: typed arrays of any kind, of the exact number of bytes.
   * `inputs` are read; `outputs` are overwritten whole. Only an array that is not aligned to its elements, and an output
   * that overlaps another array, is copied. Waits for an asynchronous run only where the memory limit leaves one
   * workspace.
   *
   * @throws {CloisterError} `INPUT_MISMATCH` when an array is no typed array of the exact size over an ArrayBuffer
   *   (shared, detached and resized ones are refused), having computed nothing; or when an index or a length among the data lies
   *   outside its axis: outputs then hold anything; `CLOSED`.
   */
  run(inputs: readonly ArrayBufferView[], outputs: readonly ArrayBufferView[]): void;
  /**
   * Runs on a thread of the pool. The inputs are copied before it returns; the outputs are written on the calling
   * thread, just before the promise resolves. Closing the program meanwhile does not disturb the run.
   *
   * @throws {CloisterError} As {@link NativeProgram.run}; `OUT_OF_MEMORY`.
   */
  runAsync(inputs: readonly ArrayBufferView[], outputs: readonly ArrayBufferView[]): Promise<void>;
  /** {@link NativeProgram.run}, and how long each run step took, in nanoseconds (about 40 of them are the clock's). */
  time(inputs: readonly ArrayBufferView[], outputs: readonly ArrayBufferView[]): Float64Array;
  /**
   * Frees the arenas, wiped, as soon as no run needs them. Later calls throw `CLOSED`. Calling it twice is harmless.
   */
  close(): void;
}

/** Loads programs. Fits the engine's `ProgramHost` seam. */
export interface NativeProgramHost {
  readonly info: { readonly isa: string; readonly programVersion: number; readonly gemmPanel: number };
  /**
   * Verifies `program` as if a hostile guest had written it (`executor/INVARIANTS.md`), reads its constants out of
   * `model`, at most 256 KiB at a time, runs its setup steps. Neither is needed afterwards.
   *
   * @param limitBytes - The most that constants, packed weights, one run's activations, workspace, inputs and outputs, and
   *   what setup needs besides, may take together. Overlapping runs share what is left of it, or wait for one another.
   * @throws {CloisterError} `INVALID_PROGRAM` with the first violation: the step, the operand, what was expected, what
   *   came and the invariant's name; `OUT_OF_MEMORY` over `limitBytes`, before anything is allocated, or when the
   *   system refuses; `INVALID_ARGUMENT` when an argument is no such thing. What reading `model` throws is thrown as it is.
   */
  load(program: Uint8Array, model: Uint8Array | ModelReader, limitBytes: number): NativeProgram;
}

/** What {@link openProgramHost} may be told. */
export interface ProgramHostOptions {
  /**
   * The most operations (multiply-adds, bytes moved) that setup and one run of a program may come to, together. Default
   * and most: 2^44, which is minutes; who wants less sets a deadline as well.
   */
  readonly limitWork?: number;
  /**
   * The most threads that work on one run, the calling one among them; each needs a workspace of its own for the kernel
   * that it is at, so there may be fewer under a tight `limitBytes`. Results are the same for every number. Default:
   * what {@link threadInfo} says that there may be; 1 uses no thread but the caller's.
   */
  readonly threads?: number;
  /** For tests: a byte that each workspace is filled with before each run: no result may depend on it. */
  readonly fill?: number;
  /**
   * For tests: unless 0, each run takes its steps, and the parts of each, in another order that their reads and writes
   * allow, on the calling thread: no result may depend on it.
   */
  readonly shuffle?: number;
}

/** The executor's part of the addon's exports. A returned string is an error: `CODE: message`. */
interface ExecutorBinding {
  readonly programVersion: number;
  readonly Program: new (
    program: Uint8Array,
    modelBytes: number,
    read: (offset: number, length: number) => Uint8Array,
    limitBytes: number,
    limitWork: number,
    threads: number,
    fill: number,
    shuffle: number,
  ) => ProgramObject;
  info(): { isa: string; gemmPanel: number };
}

interface ProgramObject {
  run(inputs: readonly ArrayBufferView[], outputs: readonly ArrayBufferView[]): undefined | string;
  runAsync(
    inputs: readonly ArrayBufferView[],
    outputs: readonly ArrayBufferView[],
  ): Promise<undefined | string> | string;
  time(inputs: readonly ArrayBufferView[], outputs: readonly ArrayBufferView[]): Float64Array | string;
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
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when `threads` is no integer from 1 to 64.
 */
export function openProgramHost(binding: Binding, options: ProgramHostOptions = {}): NativeProgramHost {
  const addon = binding as unknown as ExecutorBinding;
  const { limitWork = 2 ** 44, fill = -1, shuffle = 0 } = options;
  const threads = options.threads === undefined ? 0 : checkThreads(options.threads, 'threads');
  return {
    get info() {
      const { isa, gemmPanel } = addon.info();
      return Object.freeze({ isa, programVersion: addon.programVersion, gemmPanel });
    },
    load(program, model, limitBytes) {
      let object: ProgramObject;
      const { size, read, free } = readerOf(model);
      let unread: { readonly error: unknown } | undefined;
      const reading = (offset: number, length: number): Uint8Array => {
        try {
          return read(offset, length);
        } catch (error) {
          unread = { error };
          throw error;
        }
      };
      try {
        object = new addon.Program(program, size, reading, limitBytes, limitWork, threads, fill, shuffle);
      } catch (error) {
        if (unread !== undefined) throw unread.error;
        throw toError(error instanceof Error ? error.message : String(error));
      } finally {
        free();
      }
      return wrap(object);
    },
  };
}

/** What the executor reads a model with. `free` gives back what that took. */
function readerOf(model: Uint8Array | ModelReader): ModelReader & { free(): void } {
  const free = (): void => {};
  if (model instanceof Uint8Array) {
    return { size: model.length, read: (offset, length) => model.subarray(offset, offset + length), free };
  }
  if (typeof model?.size !== 'number' || typeof model.read !== 'function') {
    throw new CloisterError(
      'INVALID_ARGUMENT',
      'the model: expected a Uint8Array, or a size and a function that reads it',
    );
  }
  if (model.readInto === undefined) {
    return { size: model.size, read: (offset, length) => model.read(offset, length), free };
  }
  let piece = new Uint8Array(0); // the executor copies each piece before it asks for the next
  return {
    size: model.size,
    read(offset, length) {
      if (piece.length < length) piece = new Uint8Array(length);
      const target = piece.subarray(0, length);
      model.readInto!(offset, target);
      return target;
    },
    // At once: what waits for the garbage collector lies between blocks that live on, and models are loaded by the thousand.
    free: () => void piece.buffer.transfer(0),
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
