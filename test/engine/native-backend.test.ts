import { describe, expect, test } from 'vitest';
import { nativeStatus } from '../../native/index.ts';
import { loadBinding } from '../../native/loader.ts';
import { openProgramHost } from '../../native/program-host.ts';
import { CloisterError } from '../../src/base/index.ts';
import { nativeBackend, type ProgramHost } from '../../src/engine/index.ts';
import { type Graph, GraphBuilder } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { noFile } from '../native/program-seeds.ts';

function doubled(): Graph {
  const b = new GraphBuilder('doubled', { opset: 17 });
  const x = b.input('x', { dtype: 'f32', shape: ['N'] });
  b.output(b.node({ op: 'Add', inputs: [x, x], outputs: ['y'] })[0]!);
  return b.build();
}

describe.skipIf(nativeStatus().kind !== 'loaded')('an executable of the native backend', () => {
  /** The host, counting what is loaded and still open; its runs on another thread end when `gate` does. */
  function countingHost(gate: () => Promise<void> = async () => {}) {
    const host = openProgramHost(loadBinding()!);
    const counts = { loaded: 0, open: 0 };
    const counting: ProgramHost = {
      info: host.info,
      load(program, model, limitBytes) {
        const loaded = host.load(program, model, limitBytes);
        counts.loaded++;
        counts.open++;
        return {
          inputBytes: loaded.inputBytes,
          outputBytes: loaded.outputBytes,
          work: 2 ** 40,
          memory: loaded.memory,
          run: (inputs, outputs) => loaded.run(inputs, outputs),
          async runAsync(inputs, outputs) {
            await loaded.runAsync(inputs, outputs);
            await gate();
          },
          close() {
            counts.open--;
            loaded.close();
          },
        };
      },
    };
    return { counts, host: counting };
  }

  test('closes the program that was unused for longest, not the one that was loaded first', () => {
    const { counts, host } = countingHost();
    const model = nativeBackend(host, { programs: 2 }).prepare(doubled(), { constants: noFile });
    const sizes = [1, 2, 1, 3, 1];
    for (const size of sizes) {
      expect(model.runSync({ x: Tensor.zeros('f32', [size]) })['y']!.shape).toEqual([size]);
    }
    expect(counts).toEqual({ loaded: 3, open: 2 });
    model.close();
    expect(counts.open).toBe(0);
  });

  test('runs inline constants of any size, however they lie, beside those of the file', () => {
    const [rows, columns] = [1_024, 1_500]; // 5.9 MiB each, and a program holds 16 MiB
    const shape = [rows, columns] as const;
    const each = (value: (i: number, j: number) => number, data: Float32Array): Float32Array => {
      for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) data[i * columns + j] = value(i, j);
      return data;
    };
    const shared = new Float32Array(new SharedArrayBuffer(4 * rows * columns));
    const file = new Uint8Array(each((i, j) => 3 * i + j, new Float32Array(rows * columns)).buffer);
    const g = new GraphBuilder('large', { opset: 17 });
    const x = g.input('x', { dtype: 'f32', shape });
    const constants = [
      g.range('in-file', { dtype: 'f32', shape }, { offset: 0, length: file.length }),
      g.constant(
        'dense',
        Tensor.from(
          'f32',
          shape,
          each((i, j) => i - j, new Float32Array(rows * columns)),
        ),
      ),
      g.constant(
        'turned',
        Tensor.from(
          'f32',
          [columns, rows],
          each(() => 5, new Float32Array(rows * columns)),
        ).transpose(),
      ),
      g.constant(
        'shared',
        Tensor.from(
          'f32',
          shape,
          each((i, j) => i * 7 + j, shared),
        ),
      ),
    ];
    g.output(constants.reduce((sum, id) => g.node({ op: 'Add', inputs: [sum, id] })[0]!, x));
    const readers = {
      read: { read: (offset: number, length: number) => file.subarray(offset, offset + length) },
      readInto: {
        read: (offset: number, length: number) => file.subarray(offset, offset + length),
        readInto: (offset: number, target: Uint8Array) => target.set(file.subarray(offset, offset + target.length)),
      },
    };
    for (const reader of Object.values(readers)) {
      const model = nativeBackend(openProgramHost(loadBinding()!)).prepare(g.build(), { constants: reader });
      const [y] = Object.values(model.runSync({ x: Tensor.zeros('f32', shape) }));
      const wanted = each((i, j) => 3 * i + j + (i - j) + 5 + i * 7 + j, new Float32Array(rows * columns));
      expect(Buffer.compare(y!.bytes(), new Uint8Array(wanted.buffer))).toBe(0);
      model.close();
    }
  });

  test('gives up what it keeps for other sizes before a load fails for want of memory, and tries once', () => {
    const { counts, host } = countingHost();
    let tries = 0;
    let most = 1;
    const tight: ProgramHost = {
      info: host.info,
      load(...what) {
        tries++;
        if (counts.open >= most) throw new CloisterError('OUT_OF_MEMORY', 'needs 2 bytes, the limit is 1');
        return host.load(...what);
      },
    };
    const model = nativeBackend(tight, { programs: 3 }).prepare(doubled(), { constants: noFile });
    for (const size of [1, 2, 1]) {
      expect(model.runSync({ x: Tensor.zeros('f32', [size]) })['y']!.shape).toEqual([size]);
      expect(counts.open).toBe(1);
    }
    most = 0;
    tries = 0;
    expect(() => model.runSync({ x: Tensor.zeros('f32', [5]) })).toThrow('needs 2 bytes, the limit is 1');
    expect(tries).toBe(2);
    model.close();
    expect(counts.open).toBe(0);
  });

  test('drops the result of a run that was aborted while it computed', async () => {
    const abort = new AbortController();
    const { host } = countingHost(async () => abort.abort('enough'));
    const model = nativeBackend(host).prepare(doubled(), { constants: noFile });
    const running = model.run({ x: Tensor.zeros('f32', [4]) }, { signal: abort.signal });
    await expect(running).rejects.toMatchObject({ code: 'ABORTED', cause: 'enough' });
    model.close();
  });

  test('takes inputs that lie in shared memory', () => {
    const shared = new Float32Array(new SharedArrayBuffer(12));
    shared.set([1, 2, 3]);
    const model = nativeBackend(countingHost().host).prepare(doubled(), { constants: noFile });
    expect(model.runSync({ x: Tensor.from('f32', [3], shared) })['y']!.toArray()).toEqual([2, 4, 6]);
    model.close();
  });

  test('is refused before any sizes are known where a node has no native form', () => {
    const b = new GraphBuilder('foreign', { opset: 17 });
    const x = b.input('x', { dtype: 'f64', shape: ['N'] });
    b.output(
      b.node({
        op: 'Det',
        name: 'it',
        inputs: [b.node({ op: 'Reshape', inputs: [x, b.constant('s', Tensor.of('i64', [-1, 2, 2]))] })[0]!],
      })[0]!,
    );
    const { counts, host } = countingHost();
    expect(() => nativeBackend(host).prepare(b.build(), { constants: noFile })).toThrow(/Det "it"/);
    expect(counts.loaded).toBe(0);
  });
});
