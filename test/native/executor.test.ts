import { MessageChannel } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { nativeStatus } from '../../native/index.ts';
import { loadBinding } from '../../native/loader.ts';
import { type NativeProgram, openProgramHost } from '../../native/program-host.ts';
import { isCloisterError } from '../../src/base/index.ts';
import { planProgram } from '../../src/engine/index.ts';
import {
  encodeProgram,
  type ProgramOperand,
  type ProgramSource,
  type ProgramStep,
  type Region,
  type Window,
  windowWords,
} from '../../src/engine/program.ts';
import { digits, filled, noFile } from './program-seeds.ts';

const LIMIT = 1 << 20;
const at = (space: Region['space'], offset: number, length: number): Region => ({ space, offset, length });
const temporary = (offset: number, length: number): Region => at('temporary', offset, length);
const port = (space: 'input' | 'output', offset: number, length: number, index = 0): ProgramOperand => ({
  space,
  port: index,
  offset,
  length,
});
const input = port('input', 0, 16);
const output = port('output', 0, 16);

/** The parameters of a product of (m,4) and (4,4). */
function gemmWords(m: number, other: Readonly<Record<string, number>> = {}): readonly number[] {
  const { bTransposed = 0, activation = 0, hasBias = 0, hasAddend = 0, batches = 1, aStride = 0, bStride = 0 } = other;
  const one = 0x3f800000;
  return [m, 4, 4, 0, bTransposed, one, activation, 0, 0, hasBias, hasAddend, 1, batches, aStride, bStride];
}

/** y = relu(x) + w, then z = y W + y0: 4 floats, a loaded constant and a packed weight. */
const valid: ProgramSource = {
  modelBytes: 80,
  permanentBytes: 64,
  temporaryBytes: 256,
  stagingBytes: 64,
  constants: [
    { kind: 'range', offset: 0, length: 16 },
    { kind: 'inline', bytes: new Uint8Array(Float32Array.from({ length: 16 }, (_, i) => i % 5).buffer) },
  ],
  packed: [{ layout: 'gemm', words: [4, 4, 0] }],
  inputs: [{ dtype: 'f32', length: 16 }],
  outputs: [{ dtype: 'f32', length: 16 }],
  setup: [
    { kind: 'load', operands: [at('permanent', 0, 16)], words: [0] },
    { kind: 'load', operands: [at('staging', 0, 64)], words: [1] },
    { kind: 'pack', operands: [at('staging', 0, 64)], words: [0] },
  ],
  run: [
    { kind: 'unary', operands: [input, temporary(0, 16)], words: [0, 0, 0] },
    { kind: 'binary', operands: [temporary(0, 16), at('permanent', 0, 16), temporary(64, 16)], words: [0, 1, 4, 1, 1] },
    {
      kind: 'gemm',
      operands: [temporary(64, 16), { space: 'packed', packed: 0 }, output],
      words: gemmWords(1),
    },
  ],
};
const model = new Uint8Array(80);
model.set(new Uint8Array(Float32Array.of(1, 2, 3, 4).buffer));

const pooling: Window = {
  batch: 1,
  inC: 1,
  inH: 2,
  inW: 2,
  outC: 1,
  outH: 2,
  outW: 2,
  kernelH: 1,
  kernelW: 1,
  strideH: 1,
  strideW: 1,
  dilationH: 1,
  dilationW: 1,
  padTop: 0,
  padLeft: 0,
  groups: 1,
};

/** `valid` with its run steps replaced by one, behind one that fills `x` and before one that fills the output. */
const only = (
  kind: ProgramStep['kind'],
  operands: ProgramStep['operands'],
  words: readonly number[],
): ProgramSource => ({
  ...valid,
  run: [
    { kind: 'unary', operands: [input, temporary(0, 16)], words: [0, 0, 0] },
    { kind, operands, words },
    { kind: 'unary', operands: [input, output], words: [0, 0, 0] },
  ],
});
const x = temporary(0, 16);
const y = temporary(64, 16);
const pool = (changes: Partial<Window>): ProgramSource =>
  only('pool', [x, y], [...windowWords({ ...pooling, ...changes }), 0]);
const often = (program: ProgramSource): ProgramSource => ({ ...program, run: new Array(20).fill(program.run).flat() });
const unary = (operands: ProgramStep['operands'], words: readonly number[] = [0, 0, 0]): ProgramSource =>
  only('unary', operands, words);
const gemm = (words: readonly number[]): ProgramSource => ({
  ...valid,
  run: [...valid.run.slice(0, 2), { ...valid.run[2]!, words }],
});
const setup = (...steps: readonly ProgramStep[]): ProgramSource => ({ ...valid, setup: steps });
/** `valid` with one 32-bit word of its bytes replaced. */
const patched = (offset: number, word: number): Uint8Array => {
  const bytes = encodeProgram(valid);
  new DataView(bytes.buffer).setUint32(offset, word, true);
  return bytes;
};

/** Where `valid` says which packed weight its product reads: behind tables of 232 bytes, three setup steps and two run steps. */
const PACKED_OPERAND = 232 + 3 * 48 + 80 + 112 + 16 + 24;

const [load, loadWeight, pack] = valid.setup as [ProgramStep, ProgramStep, ProgramStep];

/** One way, or several, to break each invariant of native/executor/INVARIANTS.md. */
const broken: readonly (readonly [invariant: string, program: ProgramSource | Uint8Array])[] = [
  ['header', patched(0, 0x12345678)],
  ['header', patched(4, 1)],
  ['header', patched(76, 1)],
  ['exact-length', encodeProgram(valid).slice(0, -8)],
  ['exact-length', new Uint8Array([...encodeProgram(valid), 0, 0, 0, 0, 0, 0, 0, 0])],
  ['exact-length', new Uint8Array(72)],
  ['exact-length', patched(8, 4096)],
  ['count', patched(48, 65_537)],
  ['count', patched(68, 0xffffffff)],
  ['model-length', { ...valid, modelBytes: 79 }],
  ['arena-size', patched(44, 0x200)],
  ['total-memory', { ...valid, temporaryBytes: LIMIT }],
  ['total-memory', { ...valid, packed: [{ layout: 'gemm', words: [4096, 4096, 0] }] }],
  ['constant', { ...valid, constants: [{ kind: 'range', offset: 72, length: 16 }, valid.constants[1]!] }],
  ['constant', { ...valid, constants: [{ kind: 'range', offset: 0, length: 0 }, valid.constants[1]!] }],
  ['constant', setup({ ...load, words: [2] }, loadWeight, pack)],
  ['packed-layout', setup(load, loadWeight, { ...pack, words: [1] })],
  [
    'packed-layout',
    {
      ...valid,
      run: [...valid.run.slice(0, 2), { ...valid.run[2]!, operands: [y, { space: 'packed', packed: 1 }, output] }],
    },
  ],
  ['packed-layout', only('conv', [x, { space: 'packed', packed: 0 }, y], [...windowWords(pooling), 0, 0, 0])],
  ['packed-layout', gemm(gemmWords(1, { bTransposed: 1 }))],
  ['packed-layout', patched(PACKED_OPERAND + 8, 4)],
  ['packed-layout', patched(PACKED_OPERAND + 16, 64)],
  ['packed-once', setup(load, loadWeight, pack, pack)],
  ['packed-once', setup(load, loadWeight)],
  ['port', { ...valid, inputs: [{ dtype: 'f32', length: 15 }] }],
  ['port', patched(80 + 2 * 24 + 72, 13)],
  ['port', patched(80 + 2 * 24 + 72 + 4, 1)],
  ['port', unary([port('input', 0, 16, 1), y])],
  ['port', unary([x, port('output', 0, 16, 1)])],
  ['step-form', patched(80 + 2 * 24 + 72 + 2 * 16, 99)],
  ['step-form', patched(80 + 2 * 24 + 72 + 2 * 16 + 16 + 4, 1)],
  ['step-form', { ...valid, run: [load] }],
  ['step-form', unary([x])],
  ['step-form', unary([x, y], [0, 0])],
  ['step-form', only('binary', [x, x, y], [0])],
  ['space', unary([x, at('permanent', 0, 16)])],
  ['space', unary([x, input])],
  ['space', setup({ kind: 'unary', operands: [input, at('staging', 0, 16)], words: [0, 0, 0] })],
  ['space', setup(load, { kind: 'unary', operands: [at('permanent', 0, 16), output], words: [0, 0, 0] })],
  ['space', unary([at('staging', 0, 16), y])],
  ['space', setup({ kind: 'unary', operands: [x, at('staging', 0, 16)], words: [0, 0, 0] })],
  ['space', unary([{ space: 'packed', packed: 0 }, y])],
  ['operand-in-arena', unary([temporary(248, 16), y])],
  ['operand-in-arena', unary([temporary(2 ** 52, 16), y])],
  ['operand-in-arena', unary([port('input', 4, 16), y])],
  ['operand-in-arena', unary([x, port('output', 4, 16)])],
  ['operand-size', unary([temporary(0, 12), y])],
  ['operand-size', unary([temporary(0, 0), temporary(64, 0)])],
  ['operand-size', only('binary', [x, x, y], [0, 1, 4, 2, 1])],
  ['operand-size', only('softmax', [x, y], [2, 2, 2, 0])],
  ['operand-size', only('reduce', [x, temporary(64, 4)], [0, 2 ** 30, 2 ** 30, 2 ** 30])],
  ['operand-size', only('copy', [x, y], [4, 1, 4, 2, 0])],
  ['operand-size', only('concat', [y, x], [3])],
  ['operand-size', gemm(gemmWords(2))],
  ['operand-size', gemm(gemmWords(1, { batches: 2 }))],
  ['operand-size', gemm(gemmWords(1, { batches: 2, aStride: 1 }))],
  ['packed-layout', gemm(gemmWords(1, { batches: 2, bStride: 1 }))],
  ['step-form', gemm([...gemmWords(1), 0])],
  ['step-form', gemm(gemmWords(1, { hasBias: 1 }))],
  ['step-form', gemm(gemmWords(1, { hasAddend: 1 }))],
  ['operand-size', pool({ inH: 3 })],
  ['alignment', unary([temporary(2, 12), temporary(64, 12)])],
  ['alignment', only('gather', [x, temporary(4, 8), temporary(64, 4)], [1, 4, 4, 1, 1, 4])],
  ['dimension', gemm(gemmWords(0))],
  ['dimension', only('binary', [x, x, y], [0, 9, ...new Array<number>(27).fill(1)])],
  ['dimension', only('copy', [x, y], [4, 1, 4, 0, 0x40000000])],
  ['dimension', only('gatherElements', [x, temporary(0, 24), temporary(64, 24)], [4, 0, 2, 1, 2, 2, 3, 2])],
  ['window', pool({ padTop: 1 })],
  ['window', pool({ strideW: 2 })],
  ['window', pool({ groups: 2 })],
  ['window', pool({ outC: 2 })],
  ['dimension', pool({ strideH: 0 })],
  ['no-overflow', pool({ kernelH: 2 ** 29, kernelW: 2 ** 29 })],
  ['enum', unary([x, y], [42, 0, 0])],
  ['enum', unary([x, y], [12, 0x3f800000, 0])],
  ['enum', unary([x, y], [12, 0x7fc00000, 0x7fc00000])],
  ['enum', gemm(gemmWords(1, { activation: 3 }))],
  ['enum', only('copy', [x, y], [3, 1, 4, 1, 0])],
  ['enum', only('softmax', [x, y], [1, 4, 1, 2])],
  ['aliasing', unary([x, temporary(4, 16)])],
  ['aliasing', only('binary', [x, temporary(0, 4), x], [0, 1, 4, 1, 0])],
  ['aliasing', only('reduce', [x, temporary(0, 4)], [0, 1, 4, 1])],
  ['aliasing', only('copy', [x, temporary(0, 16)], [4, 1, 4, 1, 0])],
  ['defined', unary([y, x])],
  ['defined', unary([output, y])],
  ['defined', { ...valid, outputs: [{ dtype: 'f32', length: 20 }] }],
  ['defined', { ...valid, run: valid.run.slice(0, 2) }],
  ['defined', setup(load, pack, loadWeight)],
  ['defined', setup(loadWeight, pack)],
  ['bounded-work', often(pool({ kernelH: 2 ** 18, kernelW: 2 ** 20 }))],
];

describe.skipIf(nativeStatus().kind !== 'loaded')('program executor', () => {
  const host = openProgramHost(loadBinding()!);
  const floats = (bytes: Uint8Array): number[] => [
    ...new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4),
  ];
  const bytesOf = (...values: readonly number[]): Uint8Array => new Uint8Array(Float32Array.from(values).buffer);
  const codeOf = (body: () => unknown): string | undefined => {
    try {
      body();
    } catch (error) {
      return isCloisterError(error) ? error.code : String(error);
    }
    return undefined;
  };
  const big = (): NativeProgram => {
    const graph = digits(64);
    const { program } = planProgram(graph, { kernel: host.info, constants: noFile, modelBytes: 0 });
    return host.load(program, new Uint8Array(0), 64 * LIMIT);
  };

  test('runs a valid program', () => {
    const program = host.load(encodeProgram(valid), model, LIMIT);
    const out = new Uint8Array(16);
    program.run([bytesOf(-1, 1, 0, 2)], [out]);
    const rows = [0, 1, 2, 3].map(row => [0, 1, 2, 3].map(column => (4 * row + column) % 5));
    const sum = [1, 3, 3, 6];
    expect(floats(out)).toEqual(
      [0, 1, 2, 3].map(column => sum.reduce((acc, s, row) => acc + s * rows[row]![column]!, 0)),
    );
    expect(program.inputBytes).toEqual([16]);
    expect(program.outputBytes).toEqual([16]);
    expect(program.memory.temporaryBytes).toBe(256);
    expect(program.memory.peakBytes).toBeGreaterThan(program.memory.permanentBytes + 256);
  });

  test.each(broken)('refuses what breaks %s', (invariant, program) => {
    const bytes = program instanceof Uint8Array ? program : encodeProgram(program);
    const code = invariant === 'total-memory' ? 'OUT_OF_MEMORY' : 'INVALID_PROGRAM';
    try {
      host.load(bytes, model, LIMIT);
      expect.fail('it was accepted');
    } catch (error) {
      expect(error).toMatchObject({ code, message: expect.stringContaining(`[${invariant}]`) });
    }
  });

  test('says which step and operand, what was expected and what came', () => {
    expect(() => host.load(encodeProgram(unary([temporary(0, 12), y])), model, LIMIT)).toThrow(
      'run step 1 (unary): operand 0: expected 16 bytes, got 12 [operand-size]',
    );
  });

  test('refuses work over the limit that the host sets', () => {
    const strict = openProgramHost(loadBinding()!, { limitWork: 100 });
    expect(() => strict.load(encodeProgram(valid), model, LIMIT)).toThrow(/at most 100 operations .*\[bounded-work\]/);
  });

  test('counts the padding that a convolution has to lay around its images', () => {
    const spread = { ...pooling, batch: 4, inH: 1, inW: 1, outH: 1, outW: 1, kernelH: 2, kernelW: 2 };
    const words = [...windowWords({ ...spread, dilationH: 256, dilationW: 256 }), 0, 0, 0];
    const padded = encodeProgram(only('conv', [x, at('permanent', 0, 16), y], words));
    const strict = openProgramHost(loadBinding()!, { limitWork: 1_000_000 });
    expect(() => strict.load(padded, model, LIMIT)).toThrow(/\[bounded-work\]/);
    host.load(padded, model, LIMIT).close();
  });

  /** An array whose only element runs `trap` when it is read. */
  const trapped = (bytes: Uint8Array, trap: () => void): Uint8Array[] =>
    Object.defineProperty([], 0, {
      get: () => {
        trap();
        return bytes;
      },
    });

  test('an array that detaches a buffer while it is read reaches no freed memory', async () => {
    const program = host.load(encodeProgram(valid), model, LIMIT);
    const both = (): [Uint8Array[], Uint8Array[]] => {
      const input = new Uint8Array(new ArrayBuffer(16));
      return [[input], trapped(new Uint8Array(16), () => input.buffer.transfer())];
    };
    expect(codeOf(() => program.run(...both()))).toBe('INPUT_MISMATCH');
    await expect(program.runAsync(...both())).rejects.toMatchObject({ code: 'INPUT_MISMATCH' });
    expect(codeOf(() => program.time(...both()))).toBe('INPUT_MISMATCH');
  });

  test('an array that closes the program while it is read does not take it away under the run', async () => {
    for (const way of ['run', 'runAsync', 'time'] as const) {
      const program = host.load(encodeProgram(valid), model, LIMIT);
      const out = new Uint8Array(16);
      await program[way](
        trapped(bytesOf(-1, 1, 0, 2), () => program.close()),
        [out],
      );
      expect(floats(out)).not.toEqual([0, 0, 0, 0]);
      expect(codeOf(() => program.memory)).toBe('CLOSED');
    }
  });

  test('an array is read once: what it says after an asynchronous run does not matter', async () => {
    const program = big();
    const output = new Uint8Array(program.outputBytes[0]!);
    let reads = 0;
    const outputs = trapped(output, () => {
      if (++reads > 1) throw new Error('read again');
    });
    await program.runAsync([new Uint8Array(program.inputBytes[0]!).fill(1)], outputs);
    expect(reads).toBe(1);
    expect(output.some(byte => byte !== 0)).toBe(true);
  });

  test.each<[string, () => [readonly Uint8Array[], readonly Uint8Array[]]]>([
    ['too few inputs', () => [[], [new Uint8Array(16)]]],
    ['an input that is too short', () => [[new Uint8Array(12)], [new Uint8Array(16)]]],
    ['an output that is too long', () => [[new Uint8Array(16)], [new Uint8Array(20)]]],
    [
      'a view that is no array',
      () => [[new DataView(new ArrayBuffer(16)) as unknown as Uint8Array], [new Uint8Array(16)]],
    ],
    ['something else', () => [['' as unknown as Uint8Array], [new Uint8Array(16)]]],
    ['a shared input', () => [[new Uint8Array(new SharedArrayBuffer(16))], [new Uint8Array(16)]]],
    ['a shared output', () => [[new Uint8Array(16)], [new Uint8Array(new SharedArrayBuffer(16))]]],
    ['a detached input', () => [[detached()], [new Uint8Array(16)]]],
    ['no array', () => [undefined as unknown as Uint8Array[], [new Uint8Array(16)]]],
  ])('refuses %s, on both ways to run', async (_what, buffers) => {
    const program = host.load(encodeProgram(valid), model, LIMIT);
    expect(codeOf(() => program.run(...buffers()))).toBe('INPUT_MISMATCH');
    await expect(program.runAsync(...buffers())).rejects.toMatchObject({ code: 'INPUT_MISMATCH' });
  });

  test('refuses a program or model that is shared or no array, and limits that are no number', () => {
    const bytes = encodeProgram(valid);
    const shared = new Uint8Array(new SharedArrayBuffer(bytes.length));
    expect(codeOf(() => host.load(shared, model, LIMIT))).toBe('INVALID_ARGUMENT');
    for (const none of ['model', null, undefined, {}, { size: 80 }, { size: 80n, read: () => model }]) {
      expect(codeOf(() => host.load(bytes, none as unknown as Uint8Array, LIMIT))).toBe('INVALID_ARGUMENT');
    }
    for (const limit of [Number.NaN, -1, Number.POSITIVE_INFINITY]) {
      expect(codeOf(() => host.load(bytes, model, limit))).toBe('INVALID_ARGUMENT');
    }
  });

  test.each([new Error('OUT_OF_MEMORY: it only says so'), new TypeError('no such file'), 'text', undefined])(
    'what reading the model throws is thrown as it is: %s',
    thrown => {
      const reader = {
        size: model.length,
        read: (): never => {
          throw thrown;
        },
      };
      let came: unknown = 'nothing';
      try {
        host.load(encodeProgram(valid), reader, LIMIT);
      } catch (error) {
        came = error;
      }
      expect(came).toBe(thrown);
    },
  );

  test('runs off the thread on a copy of its inputs, and may be closed meanwhile', async () => {
    const program = big();
    const image = filled([64, 1, 28, 28], 3);
    const input = new Uint8Array(image.data.buffer);
    const expected = new Uint8Array(program.outputBytes[0]!);
    program.run([input], [expected]);
    const outputs = Array.from({ length: 6 }, () => new Uint8Array(expected.length));
    const runs = outputs.map(output => program.runAsync([input], [output]));
    input.fill(0);
    program.close();
    await Promise.all(runs);
    for (const output of outputs) expect(Buffer.compare(output, expected)).toBe(0);
    expect(codeOf(() => program.run([input], [expected]))).toBe('CLOSED');
    expect(codeOf(() => program.memory)).toBe('CLOSED');
  });

  test('writes nowhere when an output was detached during the run', async () => {
    const program = big();
    const output = new Uint8Array(program.outputBytes[0]!);
    const running = program.runAsync([new Uint8Array(program.inputBytes[0]!)], [output]);
    structuredClone(output, { transfer: [output.buffer] });
    await expect(running).rejects.toMatchObject({ code: 'INPUT_MISMATCH' });
  });

  test('overlapping runs share one workspace when the limit leaves no more, and still agree', async () => {
    const graph = digits(8);
    const { program: bytes } = planProgram(graph, { kernel: host.info, constants: noFile, modelBytes: 0 });
    const measured = host.load(bytes, new Uint8Array(0), 64 * LIMIT);
    const { permanentBytes, temporaryBytes, scratchBytes, portBytes, peakBytes } = measured.memory;
    expect(portBytes).toBe(aligned(measured.inputBytes[0]!) + aligned(measured.outputBytes[0]!));
    expect(peakBytes).toBeLessThan(permanentBytes + 2 * (temporaryBytes + scratchBytes + portBytes));
    const program = host.load(bytes, new Uint8Array(0), peakBytes);
    const inputs = Array.from({ length: 12 }, (_, i) => new Uint8Array(filled([8, 1, 28, 28], i + 1).data.buffer));
    const outputs = inputs.map(() => new Uint8Array(program.outputBytes[0]!));
    await Promise.all(inputs.map((input, i) => program.runAsync([input], [outputs[i]!])));
    inputs.forEach((input, i) => {
      const alone = new Uint8Array(program.outputBytes[0]!);
      program.run([input], [alone]);
      expect(Buffer.compare(alone, outputs[i]!)).toBe(0);
    });
    expect(program.memory.peakBytes).toBe(peakBytes);
    expect(program.memory.blockBytes).toBe(0); // no room to keep one
  });

  test('the peak that a load reports is the least limit that it passes with', () => {
    const alone = openProgramHost(loadBinding()!, { threads: 1 });
    const none = new Uint8Array(0);
    for (const batch of [1, 3, 8]) {
      const { program } = planProgram(digits(batch), { kernel: alone.info, constants: noFile, modelBytes: 0 });
      const loaded = alone.load(program, none, 64 * LIMIT);
      const { permanentBytes, temporaryBytes, scratchBytes, portBytes, peakBytes } = loaded.memory;
      expect(peakBytes).toBeGreaterThanOrEqual(permanentBytes + temporaryBytes + scratchBytes + portBytes);
      const least = alone.load(program, none, peakBytes);
      expect(least.memory.peakBytes).toBe(peakBytes);
      expect(() => alone.load(program, none, peakBytes - 1)).toThrow(/\[total-memory\]/);
      least.run(
        least.inputBytes.map(bytes => new Uint8Array(bytes)),
        least.outputBytes.map(bytes => new Uint8Array(bytes)),
      );
      expect(least.memory.peakBytes).toBe(peakBytes);
    }
  });

  test('times each run step', () => {
    const program = host.load(encodeProgram(valid), model, LIMIT);
    const durations = program.time([bytesOf(1, 2, 3, 4)], [new Uint8Array(16)]);
    expect(durations.length).toBe(3);
    expect(durations.every(ns => ns >= 0 && ns < 1e9)).toBe(true);
  });

  test('a closed program gives its memory back', () => {
    const before = process.memoryUsage().external;
    for (let i = 0; i < 50; i++) big().close();
    expect(process.memoryUsage().external - before).toBeLessThan(20 * LIMIT);
  });
});

function detached(): Uint8Array {
  const bytes = new Uint8Array(16);
  const { port1, port2 } = new MessageChannel();
  port1.postMessage(bytes, [bytes.buffer]);
  port1.close();
  port2.close();
  return bytes;
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / 64) * 64;
}
