/**
 * The guest: the engine inside an isolate. Speaks strings and buffers, and has nothing but what {@link connect} is lent.
 *
 * | request | header | payload | answer |
 * |---|---|---|---|
 * | `load` | bytes | | `summary` of the model |
 * | `plan` | kernels, dims | | `inputs`, `outputs`; the program |
 * | `prepare` | limitBytes | | `memory`: from now on `run` interprets |
 * | `run` | tensors | their elements | `tensors` and their elements |
 * | `show` | form, limitBytes | | the model as text or as a picture, UTF-8 |
 *
 * An answer is one buffer: `u32 headerBytes (little-endian) | header, JSON in UTF-8, spaces up to a multiple of 64 | payload`.
 * Whatever goes wrong is a header with `error`.
 * @module
 */
import { CloisterError, encodeUtf8 } from '../../src/base/index.ts';
import { type Executable, type KernelInfo, planProgram, referenceBackend } from '../../src/engine/index.ts';
import { type ModelSource, parseOnnx } from '../../src/formats/index.ts';
import type { Graph } from '../../src/graph/index.ts';
import { encodeShown } from '../drawing.ts';
import { isShownForm } from '../shown.ts';
import { summarise } from '../summary.ts';
import { joinParts, packTensors, unpackTensors } from '../tensors.ts';
import { lentSource, type Read } from './source.ts';

interface Answer {
  readonly header: object;
  readonly payload?: Uint8Array;
}

/** What the host calls. */
export type Dispatch = (op: string, header: string, payload: ArrayBuffer | undefined) => ArrayBuffer;

/** Returns the guest's one entry. `read` reaches the model file, and nothing else outside does. */
export function connect(read: Read): Dispatch {
  let source: ModelSource | undefined;
  let graph: Graph | undefined;
  let executable: Executable | undefined;

  const ops: Record<string, (header: Record<string, unknown>, payload: Uint8Array) => Answer> = {
    load({ bytes }) {
      source = lentSource(bytes as number, read);
      graph = parseOnnx(source);
      return { header: { summary: summarise(graph, source.size) } };
    },
    plan({ kernels, dims }) {
      const { graph: known, constants } = loaded();
      const planned = planProgram(known, {
        kernel: kernels as KernelInfo,
        constants,
        modelBytes: constants.size,
        dims: dims as Record<string, number>,
      });
      return { header: { inputs: planned.inputs, outputs: planned.outputs }, payload: planned.program };
    },
    prepare({ limitBytes }) {
      const { graph: known, constants } = loaded();
      executable = referenceBackend.prepare(known, { constants, limitBytes: limitBytes as number });
      const { permanentBytes, temporaryBytes, scratchBytes } = executable.memory;
      return { header: { memory: { permanentBytes, temporaryBytes, scratchBytes } } };
    },
    run({ tensors }, payload) {
      if (executable === undefined) throw new CloisterError('INVALID_ARGUMENT', 'run comes after prepare');
      const packed = packTensors(executable.runSync(unpackTensors(tensors, payload)));
      return { header: { tensors: packed.heads }, payload: joinParts(packed) };
    },
    show({ form, limitBytes }) {
      if (!isShownForm(form)) throw new CloisterError('INVALID_ARGUMENT', 'a guest has no such form');
      return { header: {}, payload: encodeShown(loaded().graph, form, limitBytes as number) };
    },
  };

  function loaded(): { graph: Graph; constants: ModelSource } {
    if (graph === undefined || source === undefined) throw new CloisterError('INVALID_ARGUMENT', 'no model is loaded');
    return { graph, constants: source };
  }

  return (op, header, payload) => {
    try {
      const handle = ops[op];
      if (handle === undefined) throw new CloisterError('INVALID_ARGUMENT', `a guest has no ${op}`);
      const answer = handle(
        JSON.parse(header) as Record<string, unknown>,
        new Uint8Array(payload ?? new ArrayBuffer(0)),
      );
      return encode(answer.header, answer.payload);
    } catch (error) {
      return encode({ error: describe(error) });
    }
  };
}

function describe(error: unknown): object {
  if (error instanceof CloisterError) return error.toJSON();
  // A stack overflow or an allocation that fails while a file is read comes from the file.
  const message = error instanceof Error ? `${error.name}: ${error.message}`.slice(0, 2_000) : 'no error was thrown';
  return { code: 'GUEST_FAILED', message };
}

function encode(header: object, payload: Uint8Array = new Uint8Array(0)): ArrayBuffer {
  const text = encodeUtf8(JSON.stringify(header));
  const headerBytes = Math.ceil((4 + text.length) / 64) * 64 - 4;
  const answer = new Uint8Array(4 + headerBytes + payload.length);
  new DataView(answer.buffer).setUint32(0, headerBytes, true);
  answer.fill(0x20, 4, 4 + headerBytes);
  answer.set(text, 4);
  answer.set(payload, 4 + headerBytes);
  return answer.buffer;
}
