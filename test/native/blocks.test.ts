import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { loadBinding, type NativeProgram, openProgramHost } from '../../native/index.ts';
import { planProgram } from '../../src/engine/index.ts';
import { type Graph, GraphBuilder } from '../../src/graph/index.ts';

const binding = loadBinding();
const linux = process.platform === 'linux';
const MiB = 2 ** 20;
const LIMIT = 2 ** 32;
const nowhere = {
  read: (): never => {
    throw new Error('no weights in a file');
  },
};

/** y = relu(x), of `size` f32. */
function relu(size: number): Graph {
  const b = new GraphBuilder('relu');
  const x = b.input('x', { dtype: 'f32', shape: [size] });
  b.output(b.node({ op: 'Relu', inputs: [x], outputs: ['y'] })[0]!);
  return b.build();
}

function load(size: number, limitBytes = LIMIT): NativeProgram {
  const host = openProgramHost(binding!, { threads: 1 });
  const { program } = planProgram(relu(size), { kernel: host.info, constants: nowhere, modelBytes: 0 });
  return host.load(program, new Uint8Array(0), limitBytes);
}

async function runAsync(program: NativeProgram, input: Float32Array): Promise<Float32Array> {
  const output = new Float32Array(input.length).fill(Number.NaN);
  await program.runAsync([input], [output]);
  return output;
}

const turn = (): Promise<void> => new Promise(resolve => setImmediate(resolve));

interface Outcome {
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `code` in a Node of its own: it sees `load(size)`, `fs`, `status(name)` in bytes, and `turn`. */
function inChild(code: string): Outcome {
  const room = (name: string): string => JSON.stringify(pathToFileURL(join(import.meta.dirname, '..', '..', name)));
  const module = `
    import * as fs from 'node:fs';
    import { spawnSync } from 'node:child_process';
    import { loadBinding, openProgramHost } from ${room('native/index.ts')};
    import { planProgram } from ${room('src/engine/index.ts')};
    import { GraphBuilder } from ${room('src/graph/index.ts')};
    const host = openProgramHost(loadBinding(), { threads: 1 });
    const load = size => {
      const b = new GraphBuilder('relu');
      const x = b.input('x', { dtype: 'f32', shape: [size] });
      b.output(b.node({ op: 'Relu', inputs: [x], outputs: ['y'] })[0]);
      const { program } = planProgram(b.build(), { kernel: host.info, constants: {}, modelBytes: 0 });
      return host.load(program, new Uint8Array(0), ${LIMIT});
    };
    const status = name => 1024 * Number(new RegExp(name + ':\\\\s+(\\\\d+)').exec(fs.readFileSync('/proc/self/status', 'latin1'))[1]);
    const turn = () => new Promise(resolve => setImmediate(resolve));
    ${code}`;
  return spawnSync(process.execPath, ['--expose-gc', '--input-type=module', '-e', module], {
    encoding: 'utf8',
    timeout: 60_000,
  });
}

describe.skipIf(!binding)('blocks for asynchronous runs', () => {
  test('no run sees a byte of another, in whatever order they overlap', async () => {
    const size = 5_000;
    const program = load(size);
    const run = fc.record({ seed: fc.integer({ min: 1, max: 1_000 }), wait: fc.boolean(), turns: fc.nat(2) });
    await fc.assert(
      fc.asyncProperty(fc.array(run, { minLength: 1, maxLength: 12 }), async runs => {
        const pending: Promise<void>[] = [];
        for (const { seed, wait, turns } of runs) {
          // Below zero relu gives zeros: what shines through would be of an earlier run.
          const input = Float32Array.from({ length: size }, (_, i) => (i % seed === 0 ? seed + i : -seed));
          const expected = input.map(value => Math.max(value, 0));
          const checked = runAsync(program, input).then(output => {
            expect(Buffer.compare(Buffer.from(output.buffer), Buffer.from(expected.buffer))).toBe(0);
          });
          input.fill(1e9); // it was copied
          pending.push(checked);
          if (wait) await checked;
          for (let i = 0; i < turns; i++) await turn();
        }
        await Promise.all(pending);
      }),
      { numRuns: 40 },
    );
    program.close();
  });

  test('are counted while they are in use, kept for the next run, and gone with the program', async () => {
    const program = load(100_000);
    const { portBytes } = program.memory;
    expect(portBytes).toBe(2 * 400_000);
    expect(program.memory.blockBytes).toBe(0);
    const input = new Float32Array(100_000);
    const runs = [runAsync(program, input), runAsync(program, input), runAsync(program, input)];
    expect(program.memory.blockBytes).toBe(3 * portBytes);
    await Promise.all(runs);
    await turn();
    expect(program.memory.blockBytes).toBe(3 * portBytes);
    await runAsync(program, input);
    await turn();
    expect(program.memory.blockBytes).toBe(3 * portBytes); // one of those that were kept
    program.run([input], [new Float32Array(100_000)]);
    expect(program.memory.blockBytes).toBe(3 * portBytes); // a run on this thread needs none
    program.close();
  });

  test('are kept up to 64 MiB, and up to what the limit leaves', async () => {
    const size = 2 * MiB; // 16 MiB a block
    const input = new Float32Array(size);
    const keptAfter = async (program: NativeProgram, count: number): Promise<number> => {
      await Promise.all(Array.from({ length: count }, () => runAsync(program, input)));
      await turn();
      const { blockBytes, portBytes, peakBytes } = program.memory;
      program.close();
      expect(blockBytes % portBytes).toBe(0);
      expect(peakBytes).toBeLessThanOrEqual(LIMIT);
      return blockBytes / portBytes;
    };
    expect(await keptAfter(load(size), 6)).toBe(4);
    const { peakBytes } = load(size).memory;
    for (const room of [0, 1, 2]) {
      const limit = peakBytes + room * 16 * MiB;
      const program = load(size, limit);
      expect(await keptAfter(program, 1)).toBe(Math.min(room, 1));
    }
  });

  test('a run that fails gives its block back', async () => {
    const b = new GraphBuilder('gather');
    const x = b.input('x', { dtype: 'f32', shape: [50_000] });
    const at = b.input('at', { dtype: 'i64', shape: [1] });
    b.output(b.node({ op: 'Gather', inputs: [x, at], outputs: ['y'] })[0]!);
    const host = openProgramHost(binding!, { threads: 1 });
    const { program } = planProgram(b.build(), { kernel: host.info, constants: nowhere, modelBytes: 0 });
    const loaded = host.load(program, new Uint8Array(0), LIMIT);
    const run = (index: bigint): Promise<void> =>
      loaded.runAsync([new Float32Array(50_000), BigInt64Array.of(index)], [new Float32Array(1)]);
    await run(3n);
    await expect(run(50_000n)).rejects.toMatchObject({ code: 'INPUT_MISMATCH' });
    await turn();
    expect(loaded.memory.blockBytes).toBe(loaded.memory.portBytes);
    loaded.close();
  });

  test.skipIf(!linux)('that are kept hold nothing of the runs that had them', context => {
    // Words that grow by 37, as bits of positive numbers, which relu keeps: no thousand others in a row do.
    const code = `
      const size = 300_000;
      const program = load(size);
      const chunk = new Uint32Array(1 << 18);
      const found = () => {
        let hits = 0;
        const memory = fs.openSync('/proc/self/mem', 'r');
        for (const line of fs.readFileSync('/proc/self/maps', 'latin1').split('\\n')) {
          const match = /^([0-9a-f]+)-([0-9a-f]+) rw.. \\S+ \\S+ 0\\s*(\\[heap\\])?$/.exec(line);
          if (!match) continue;
          const [from, to] = [match[1], match[2]].map(text => parseInt(text, 16));
          for (let at = from; at < to; at += chunk.byteLength) {
            try { fs.readSync(memory, chunk, 0, Math.min(chunk.byteLength, to - at), at); } catch { break; }
            for (let i = 1, run = 0; i < chunk.length; i++) {
              run = chunk[i] - chunk[i - 1] === 37 ? run + 1 : 0;
              if (run === 1000) hits++;
            }
            chunk.fill(0);
          }
        }
        fs.closeSync(memory);
        return hits;
      };
      const input = new Uint32Array(size);
      for (let i = 0; i < size; i++) input[i] = 0x30000000 + 37 * i;
      const output = new Uint32Array(size);
      await program.runAsync([input], [output]);
      await turn();
      const held = found(); // in input and in output, each in one piece of memory or two: the control
      input.fill(0);
      output.fill(0);
      console.log(JSON.stringify({ kept: program.memory.blockBytes, held, left: found() }));`;
    const { stdout, stderr } = inChild(code);
    if (stderr.includes('EACCES') || stderr.includes('EPERM')) return context.skip('no /proc/self/mem here');
    expect(stderr).toBe('');
    const { kept, held, left } = JSON.parse(stdout) as { kept: number; held: number; left: number };
    expect(kept).toBeGreaterThan(2 * 4 * 300_000 - 64);
    expect(held).toBeGreaterThanOrEqual(2);
    expect(left).toBe(0);
  });

  test.skipIf(!linux)('are freed, of all programs, before memory is refused; then the error says how much', context => {
    const code = `
      // 4 programs that keep 48 MiB each.
      const keep = [];
      for (let i = 0; i < 4; i++) {
        const program = load(6 * ${MiB});
        await program.runAsync([new Float32Array(6 * ${MiB})], [new Float32Array(6 * ${MiB})]);
        keep.push(program);
      }
      await turn();
      gc();
      await turn();
      const kept = () => keep.reduce((sum, { memory }) => sum + memory.blockBytes, 0) / ${MiB};
      const before = kept();
      const small = load(10 * ${MiB}); // a block of 80 MiB
      const input = new Float32Array(10 * ${MiB});
      const output = new Float32Array(10 * ${MiB});
      const huge = load(60 * ${MiB}); // a block of 480 MiB
      const hugeInput = new Float32Array(60 * ${MiB});
      const hugeOutput = new Float32Array(60 * ${MiB});
      const limit = status('VmSize') + 40 * ${MiB};
      if (spawnSync('prlimit', ['--pid', String(process.pid), '--as=' + limit]).status !== 0) console.log('no prlimit');
      else {
        await small.runAsync([input], [output]);
        const after = kept();
        let refused;
        try {
          await huge.runAsync([hugeInput], [hugeOutput]);
        } catch ({ code, message }) {
          refused = { code, message };
        }
        console.log(JSON.stringify({ before, after, refused }));
      }`;
    const { stdout, stderr } = inChild(code);
    if (stdout === 'no prlimit\n') return context.skip('no prlimit here');
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toEqual({
      before: 4 * 48,
      after: 0,
      refused: { code: 'OUT_OF_MEMORY', message: expect.stringContaining(`${480 * MiB} bytes`) },
    });
  });
});
