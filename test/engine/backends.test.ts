import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { forceIsa, kernelInfo } from '../../native/index.ts';
import { loadBinding } from '../../native/loader.ts';
import { openProgramHost } from '../../native/program-host.ts';
import { CloisterError } from '../../src/base/index.ts';
import { nativeBackend, PROGRAM_VERSION, pickBackend, referenceBackend } from '../../src/engine/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { filled, noFile, Sketch, seedGraphs } from '../native/program-seeds.ts';
import { backendSuite } from '../suites/backend.ts';

backendSuite('reference', () => referenceBackend);

describe.each(kernelInfo()?.supported ?? [])('native on %s', isa => {
  beforeAll(() => forceIsa(isa));
  afterAll(() => forceIsa(null));
  const open = () => nativeBackend(openProgramHost(loadBinding()!));

  backendSuite(`native ${isa}`, open);

  test.each(Object.entries(seedGraphs()))('agrees with the reference backend on %s', (_name, graph) => {
    const inputs = Object.fromEntries(
      graph.inputs.map((id, i) => {
        const { name, facts } = graph.values[id]!;
        return [name, filled(facts.shape as readonly number[], 40 + i).cast(facts.dtype)];
      }),
    );
    const expected = referenceBackend.prepare(graph, { constants: noFile }).runSync(inputs);
    const actual = open().prepare(graph, { constants: noFile }).runSync(inputs);
    expect(Object.keys(actual)).toEqual(Object.keys(expected));
    for (const [name, tensor] of Object.entries(expected)) {
      expect(actual[name]!.dtype).toBe(tensor.dtype);
      expect(actual[name]!.shape).toEqual(tensor.shape);
      const want = tensor.values().map(Number);
      actual[name]!.values().forEach((value, i) => {
        const bound = 1e-5 + 1e-5 * Math.abs(want[i]!);
        if (!(Math.abs(Number(value) - want[i]!) <= bound) && !Object.is(Number(value), want[i]!)) {
          expect.fail(`${name}[${i}]: expected ${want[i]} within ${bound}, got ${value}`);
        }
      });
    }
  });
});

test('picks the native backend for a graph that it runs whole, and says which node is missing for another', () => {
  const host = {
    info: { isa: 'none', programVersion: PROGRAM_VERSION, gemmPanel: 8 },
    load: () => expect.fail('nothing is loaded'),
  };
  const native = nativeBackend(host);
  const whole = pickBackend(seedGraphs()['digits']!, { native, reference: referenceBackend });
  expect(whole.backend.name).toBe('native');
  const g = new Sketch('odd');
  const odd = g.build(g.op('Det', [g.input('x', [2, 2])]));
  const partly = pickBackend(odd, { native, reference: referenceBackend });
  expect(partly.backend.name).toBe('reference');
  expect(partly.reasons).toEqual(['Det "Det#0": no native kernel for Det']);
  const h = new Sketch('led by data');
  const led = h.build(h.op('Reshape', [h.input('x', [4]), h.input('shape', [2], 'i64')]));
  const choice = pickBackend(led, { native, reference: referenceBackend });
  expect(choice.backend.name).toBe('reference');
  expect(choice.reasons).toEqual(['Reshape "Reshape#0": "shape" depends on data']);
  expect(pickBackend(odd, { native: undefined, reference: referenceBackend }).backend.name).toBe('reference');
  expect(() => native.prepare(odd, { constants: noFile })).toThrow(/Det "Det#0": no native kernel/);
});

test.skipIf(kernelInfo() === undefined)('sizes that cannot be loaded leave the program before them out of use', () => {
  const real = openProgramHost(loadBinding()!);
  let full = false;
  const host: typeof real = {
    info: real.info,
    load(...given) {
      if (full) throw new CloisterError('OUT_OF_MEMORY', 'full');
      return real.load(...given);
    },
  };
  const g = new Sketch('sizes');
  const executable = nativeBackend(host, { programs: 1 }).prepare(g.build(g.op('Neg', [g.input('x', ['n'])])), {
    constants: noFile,
  });
  const run = (n: number) => Object.values(executable.runSync({ x: filled([n], 1) }))[0]!.shape;
  expect(run(2)).toEqual([2]);
  full = true;
  expect(() => run(3)).toThrow('full');
  full = false;
  expect(run(2)).toEqual([2]);
});

test.skipIf(kernelInfo() === undefined)('a model that meets hundreds of batch sizes does not keep their memory', () => {
  const g = new Sketch('batches');
  const x = g.input('x', ['n', 1, 28, 28]);
  const pads = [1, 1, 1, 1];
  const graph = g.build(
    g.op('GlobalMaxPool', [g.op('Conv', [g.op('Conv', [x, g.weight(8, 1, 3, 3)], { pads }), g.weight(8, 8, 3, 3)])]),
  );
  const executable = nativeBackend(openProgramHost(loadBinding()!)).prepare(graph, { constants: noFile });
  const pixels = new Float32Array(400 * 784);
  const before = process.memoryUsage().rss;
  for (let i = 0; i < 250; i++) {
    const n = 1 + ((i * 7) % 397);
    executable.runSync({ x: Tensor.from('f32', [n, 1, 28, 28], pixels.subarray(0, n * 784)) });
  }
  executable.close();
  // Four programs of the largest batch take 80 MiB.
  expect(process.memoryUsage().rss - before).toBeLessThan(300 * 2 ** 20);
});
