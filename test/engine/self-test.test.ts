import { describe, expect, test } from 'vitest';
import { loadBinding, openProgramHost } from '../../native/index.ts';
import { type Backend, nativeBackend, type ProgramHost, referenceBackend, selfTest } from '../../src/engine/index.ts';
import { onEachRow } from './native-rows.ts';

const rounds = process.env['CLOISTER_SLOW'] === '1' ? 200 : 12;

onEachRow('the self-test of native kernels', () => {
  test('finds every kernel in agreement with the reference', { timeout: 1_200_000 }, () => {
    const report = selfTest(nativeBackend(openProgramHost(loadBinding()!)), { rounds, seed: rounds });
    expect(report.failures).toEqual([]);
    expect(report.checked).toBeGreaterThan(20 * rounds);
  });
});

test.skipIf(loadBinding() === undefined)(
  'a native backend that is asked to test itself does so before it runs anything',
  () => {
    const host = openProgramHost(loadBinding()!);
    expect(nativeBackend(host, { selfTest: true }).name).toBe('native');
    const broken: ProgramHost = {
      info: host.info,
      load(program, model, limitBytes) {
        const loaded = host.load(program, model, limitBytes);
        return {
          ...loaded,
          memory: loaded.memory,
          run(inputs, outputs) {
            loaded.run(inputs, outputs);
            const [first] = outputs as readonly Uint8Array[];
            new Uint8Array(first!.buffer)[0]! ^= 0x80;
          },
        };
      },
    };
    expect(() => nativeBackend(broken, { selfTest: true })).toThrow(
      /cases differ from the reference; .*expected .* got /,
    );
  },
);

describe('the self-test', () => {
  /** The reference backend, with one element of every result of `op` changed by `by`. */
  const wrong = (op: string, by: number): Backend => ({
    ...referenceBackend,
    name: 'wrong',
    prepare(graph, options) {
      const executable = referenceBackend.prepare(graph, options);
      return {
        ...executable,
        memory: executable.memory,
        close: () => executable.close(),
        runSync(inputs, more) {
          const outputs = executable.runSync(inputs, more);
          if (graph.nodes[0]!.op === op) {
            const last = Object.values(outputs).at(-1)!;
            const data = last.data as { [i: number]: number };
            data[last.size - 1] = data[last.size - 1]! + by;
          }
          return outputs;
        },
      };
    },
  });

  test('agrees with itself', () => {
    expect(selfTest(referenceBackend)).toMatchObject({ ok: true, refused: [], failures: [] });
  });

  test.each([
    ['Tanh', 1e-5],
    ['MatMul', 0.01],
    ['Conv', 0.01],
    ['Concat', 1],
    ['MatMulInteger', 1],
    ['GRU', 0.001],
  ])('a wrong element of %s does not pass', (op, by) => {
    const { ok, failures } = selfTest(wrong(op, by));
    expect(ok).toBe(false);
    expect(new Set(failures.map(({ operator }) => operator.split(',')[0]))).toEqual(new Set([op]));
    expect(failures[0]!.why).toMatch(/expected .* got /);
  });

  test('what a backend refuses is named, not failed', () => {
    const { ok, refused, checked } = selfTest({
      ...referenceBackend,
      prepare(graph, options) {
        if (graph.nodes[0]!.op === 'Gather')
          return referenceBackend.prepare({ ...graph, nodes: [{ ...graph.nodes[0]!, op: 'Unknown' }] }, options);
        return referenceBackend.prepare(graph, options);
      },
    });
    expect({ ok, refused }).toEqual({ ok: true, refused: ['Gather'] });
    expect(checked).toBeGreaterThan(100);
  });

  test('draws the same cases from the same seed', () => {
    const shapes = (seed: number): string => {
      const seen: string[] = [];
      selfTest(
        {
          ...referenceBackend,
          prepare(graph, options) {
            seen.push(JSON.stringify(graph.values.map(({ facts }) => facts)));
            return referenceBackend.prepare(graph, options);
          },
        },
        { seed, rounds: 1 },
      );
      return seen.join();
    };
    expect(shapes(3)).toBe(shapes(3));
    expect(shapes(3)).not.toBe(shapes(4));
  });
});
