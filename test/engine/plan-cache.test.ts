import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { nativeStatus } from '../../native/index.ts';
import { loadBinding } from '../../native/loader.ts';
import { openProgramHost } from '../../native/program-host.ts';
import { isCloisterError } from '../../src/base/index.ts';
import {
  decodePlan,
  encodePlan,
  nativeBackend,
  PlanCache,
  type PlannedProgram,
  type PlanOrigin,
  type PlanStore,
} from '../../src/engine/index.ts';
import { bytesSource, parseOnnx, writeOnnx } from '../../src/formats/index.ts';
import { type Graph, GraphBuilder, graphDigest } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';

function plan(bytes: number): PlannedProgram {
  return {
    program: new Uint8Array(bytes).fill(7),
    inputs: [{ name: 'x', dtype: 'f32', shape: [2, 3] }],
    outputs: [{ name: 'y', dtype: 'f32', shape: [] }],
    memory: { permanentBytes: 1, temporaryBytes: 2, temporaryLowerBoundBytes: 2, stagingBytes: 0 },
    steps: [{ kind: 'gemm', node: 'MatMul "m"' }],
  };
}

const origin = (n: number): PlanOrigin => ({ graph: `${n}`, source: 's', backend: { name: 'native' }, dims: { N: 1 } });

/** A store in memory that counts what is asked of it. */
function memoryStore(): PlanStore & { readonly files: Map<string, Uint8Array>; gets: number; sets: number } {
  const files = new Map<string, Uint8Array>();
  const store = {
    files,
    gets: 0,
    sets: 0,
    get(key: string) {
      store.gets++;
      return files.get(key);
    },
    set(key: string, bytes: Uint8Array) {
      store.sets++;
      files.set(key, bytes);
    },
    delete(key: string) {
      files.delete(key);
    },
  };
  return store;
}

describe('a plan as bytes', () => {
  test('is read as it was written', () => {
    expect(decodePlan(encodePlan(plan(100)))).toEqual(plan(100));
  });

  test('is refused, and nothing else happens, whatever was changed in its head', () => {
    const good = encodePlan(plan(16));
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.nat(255), fc.nat(good.length), (at, byte, cut) => {
        const bytes = good.slice(0, cut);
        if (at < cut) bytes[at] = byte;
        try {
          const { inputs } = decodePlan(bytes);
          expect(inputs.every(({ shape }) => shape.every(dim => Number.isSafeInteger(dim) && dim >= 0))).toBe(true);
        } catch (error) {
          expect(isCloisterError(error, 'INVALID_PROGRAM')).toBe(true);
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('is read from the middle of a buffer', () => {
    const good = encodePlan(plan(16));
    const around = new Uint8Array(good.length + 20).fill(255);
    around.set(good, 11);
    expect(decodePlan(around.subarray(11, 11 + good.length))).toEqual(plan(16));
  });

  test.each<readonly [string, Partial<PlannedProgram>]>([
    ['less memory than none', { memory: { ...plan(0).memory, stagingBytes: -1 } }],
    ['a shape of less than none', { inputs: [{ name: 'x', dtype: 'f32', shape: [2, -1] }] }],
    ['more elements than there can be', { outputs: [{ name: 'y', dtype: 'f32', shape: [2 ** 40, 2 ** 40] }] }],
  ])('is refused with %s', (_, change) => {
    expect(() => decodePlan(encodePlan({ ...plan(8), ...change }))).toThrow('the bytes are not those of a plan');
  });

  test('is refused with a head that ends after the bytes do', () => {
    const bytes = encodePlan(plan(0));
    bytes[4]!++;
    expect(() => decodePlan(bytes)).toThrow('the bytes are not those of a plan');
  });
});

describe('the plan cache', () => {
  test('keeps plans within its limit and forgets the longest unused', () => {
    const size = encodePlan(plan(1000)).length;
    const cache = new PlanCache({ limitBytes: 2 * size });
    for (const n of [1, 2]) cache.set(origin(n), plan(1000));
    expect(cache.get(origin(1))).toBeDefined();
    cache.set(origin(3), plan(1000));
    expect([1, 2, 3].map(n => cache.get(origin(n)) !== undefined)).toEqual([true, false, true]);
    expect(cache.bytes).toBe(2 * size);
    cache.set(origin(4), plan(10_000));
    expect(cache.get(origin(4))).toBeUndefined();
    expect(cache.bytes).toBe(2 * size);
  });

  test('tells origins apart by each of their parts', () => {
    const cache = new PlanCache();
    const base: PlanOrigin = { graph: 'g', source: 's', backend: { isa: 'avx2' }, dims: { N: 1 } };
    cache.set(base, plan(8));
    const others = [
      { ...base, graph: 'h' },
      { ...base, source: 't' },
      { ...base, backend: { isa: 'avx512' } },
      { ...base, dims: { N: 2 } },
      { ...base, dims: { M: 1 } },
    ];
    expect(others.map(other => cache.get(other))).toEqual(others.map(() => undefined));
    expect(cache.get({ ...base, dims: { N: 1 } })).toEqual(plan(8));
  });

  test('finds what another process stored, and deletes what is not a plan', () => {
    const store = memoryStore();
    new PlanCache({ store }).set(origin(1), plan(8));
    expect(new PlanCache({ store }).get(origin(1))).toEqual(plan(8));
    for (const key of store.files.keys()) store.files.set(key, new Uint8Array(40));
    expect(new PlanCache({ store }).get(origin(1))).toBeUndefined();
    expect(store.files.size).toBe(0);
  });

  test('forgets a plan that was refused, in the store as well', () => {
    const store = memoryStore();
    const cache = new PlanCache({ store });
    for (const n of [1, 2]) cache.set(origin(n), plan(8));
    const { bytes } = cache;
    cache.delete(origin(1));
    expect([cache.get(origin(1)), cache.get(origin(2))]).toEqual([undefined, plan(8)]);
    expect([cache.bytes, store.files.size]).toEqual([bytes / 2, 1]);
  });
});

describe('the digest of a graph', () => {
  const graph = (change: { weight?: number; name?: string; attribute?: number } = {}): Graph => {
    const b = new GraphBuilder(change.name ?? 'g');
    const x = b.input('x', { dtype: 'f32', shape: ['N', 2] });
    const w = b.constant('w', Tensor.of('f32', [1, change.weight ?? 2]));
    const y = b.node({ op: 'Add', inputs: [x, w] })[0]!;
    b.output(b.node({ op: 'LeakyRelu', inputs: [y], attributes: { alpha: change.attribute ?? 0.5 } })[0]!);
    return b.build();
  };

  test('is the same for the same graph, and another for any change', () => {
    expect(graphDigest(graph())).toBe(graphDigest(graph()));
    const all = [
      graph(),
      graph({ weight: 3 }),
      graph({ name: 'h' }),
      graph({ attribute: 0.25 }),
      graph({ attribute: -0 }),
      graph({ attribute: 0 }),
      graph({ attribute: Number.NaN }),
    ];
    expect(new Set(all.map(graphDigest)).size).toBe(all.length);
  });
});

describe.skipIf(nativeStatus().kind !== 'loaded')('the native backend', () => {
  const b = new GraphBuilder('affine', { opset: 17 });
  const input = b.input('x', { dtype: 'f32', shape: ['N', 32] });
  const weights = Tensor.from(
    'f32',
    [32, 16],
    Float32Array.from({ length: 512 }, (_, i) => (i % 7) - 3),
  );
  b.output(b.node({ op: 'MatMul', inputs: [input, b.constant('w', weights)], outputs: ['y'] })[0]!);
  const file = writeOnnx(b.build());
  const source = bytesSource(file);
  const x = Tensor.from(
    'f32',
    [2, 32],
    Float32Array.from({ length: 64 }, (_, i) => i),
  );

  const run = (store: PlanStore, sourceDigest?: string, given: Tensor = x) => {
    const backend = nativeBackend(openProgramHost(loadBinding()!), { plans: new PlanCache({ store }) });
    const prepared = backend.prepare(parseOnnx(source), {
      constants: source,
      ...(sourceDigest ? { sourceDigest } : {}),
    });
    const y = prepared.runSync({ x: given })['y']!.toBytes();
    prepared.close();
    return y;
  };

  test('plans a model once for one file, and gives the same result from the stored plan', () => {
    const store = memoryStore();
    const first = run(store, 'digest');
    expect([store.sets, store.files.size]).toEqual([1, 1]);
    expect(run(store, 'digest')).toEqual(first);
    expect(store.sets).toBe(1);
    run(store, 'another file');
    expect(store.sets).toBe(2);
  });

  test('caches nothing of a file that it cannot tell from others', () => {
    const store = memoryStore();
    run(store);
    expect([store.gets, store.sets]).toEqual([0, 0]);
  });

  test('never runs a stored program that its verifier refuses, nor one of other ports', () => {
    const store = memoryStore();
    const first = run(store, 'digest');
    const [key, bytes] = [...store.files][0]!;
    const others = memoryStore();
    run(others, 'digest', Tensor.zeros('f32', [3, 32]));
    const ofOtherSizes = decodePlan([...others.files.values()][0]!).program;
    const damages: ((plan: PlannedProgram) => PlannedProgram)[] = [
      good => ({ ...good, program: new Uint8Array(good.program.length) }),
      good => ({ ...good, program: good.program.slice(0, -1) }),
      good => ({ ...good, program: ofOtherSizes }),
      good => ({ ...good, outputs: good.outputs.map(port => ({ ...port, name: 'other' })) }),
      good => ({ ...good, outputs: good.outputs.map(port => ({ ...port, shape: [1, 16] })) }),
      good => ({ ...good, inputs: [] }),
    ];
    for (const damage of damages) {
      store.files.set(key, encodePlan(damage(decodePlan(bytes))));
      expect(run(store, 'digest')).toEqual(first);
      expect(store.files.get(key)).toEqual(bytes);
    }
  });
});
