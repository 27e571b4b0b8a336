import fc from 'fast-check';
import { expect, test } from 'vitest';
import { nativeStatus } from '../../native/index.ts';
import { loadBinding } from '../../native/loader.ts';
import { openProgramHost } from '../../native/program-host.ts';
import { nativeBackend, planProgram, referenceBackend } from '../../src/engine/index.ts';
import { noFile } from '../native/program-seeds.ts';
import { graphs, PLAIN_STEPS } from '../suites/graphs.ts';

test.skipIf(nativeStatus().kind !== 'loaded')(
  'random graphs: native equals reference, whatever the arenas held before',
  () => {
    const binding = loadBinding()!;
    const hosts = [0x00, 0xff].map(fill => nativeBackend(openProgramHost(binding, { fill })));
    const info = openProgramHost(binding).info;
    fc.assert(
      fc.property(graphs({ steps: PLAIN_STEPS }), ({ graph, inputs }) => {
        const expected = referenceBackend.prepare(graph, { constants: noFile }).runSync(inputs);
        const [zeros, ones] = hosts.map(backend => {
          const executable = backend.prepare(graph, { constants: noFile });
          const outputs = executable.runSync(inputs);
          executable.close();
          return outputs;
        });
        for (const [name, tensor] of Object.entries(expected)) {
          expect(ones![name]!.toBytes()).toEqual(zeros![name]!.toBytes());
          expect(zeros![name]!.shape).toEqual(tensor.shape);
          const want = tensor.values() as number[];
          const got = zeros![name]!.values() as number[];
          const off = want.findIndex((value, i) => !(Math.abs(got[i]! - value) <= 1e-5 * (1 + Math.abs(value))));
          expect({ name, off, want: want[off], got: got[off] }).toEqual({
            name,
            off: -1,
            want: undefined,
            got: undefined,
          });
        }
        const plan = () => planProgram(graph, { kernel: info, constants: noFile, modelBytes: 0 });
        expect(plan().program).toEqual(plan().program);
        expect(plan().memory.temporaryBytes).toBeGreaterThanOrEqual(plan().memory.temporaryLowerBoundBytes);
      }),
      { numRuns: 300 },
    );
  },
);
