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
