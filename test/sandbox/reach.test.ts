/**
 * What a sandboxed model can be told and asked, alike behind all walls: sizes, files beside it, profiles, passes, maps, text, plans.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { nativeStatus } from '../../native/index.ts';
import { type Isolation, openSandbox, type Sandbox } from '../../sandbox/index.ts';
import { isCloisterError } from '../../src/base/index.ts';
import { PlanCache, type PlanStore } from '../../src/engine/index.ts';
import { writeOnnx } from '../../src/formats/index.ts';
import { GraphBuilder, toMaps } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { affineModel, externalModel, externalWeights, unaryModel } from './tiny-model.ts';

const ISOLATIONS: readonly Isolation[] = ['process', 'isolate', 'none'];
const native = nativeStatus().kind === 'loaded';
const x = Tensor.of('f32', [[1, 1, 1]]);
const y = [[9.5, 0]];

async function failure(work: Promise<unknown>): Promise<{ code: string; message: string }> {
  return work.then(
    () => ({ code: 'none', message: 'it did not fail' }),
    (error: unknown) => (isCloisterError(error) ? error : { code: 'another', message: String(error) }),
  );
}

function classifier(): Uint8Array {
  const b = new GraphBuilder('classifier');
  const scores = b.input('x', { dtype: 'f32', shape: ['n', 2] });
  const [out] = b.node({ op: 'Abs', inputs: [scores], outputs: ['scores'] });
  b.output(out!, { labels: ['no', 'yes'] });
  return writeOnnx(b.build(), { constants: { read: () => new Uint8Array(0) } });
}

function echo(): Uint8Array {
  const b = new GraphBuilder('echo');
  const words = b.input('words', { dtype: 'string', shape: ['n'] });
  b.output(b.node({ op: 'Identity', inputs: [words], outputs: ['same'] })[0]!);
  return writeOnnx(b.build(), { constants: { read: () => new Uint8Array(0) } });
}

describe.each(ISOLATIONS)('a model under isolation %s', isolation => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await openSandbox({ isolation, warm: 1 });
  });
  afterAll(() => sandbox.close());

  it('takes sizes that are fixed for good', async () => {
    await using model = await sandbox.load(affineModel(), { dims: { n: 2 } });
    expect(model.dims).toEqual({ n: 2 });
    expect(model.summary.inputs).toEqual([{ name: 'x', dtype: 'f32', shape: [2, 3] }]);
    const out = await model.run({ x: Tensor.zeros('f32', [2, 3]) });
    expect(out['y']!.shape).toEqual([2, 2]);
    expect((await failure(model.run({ x }))).code).toBe('SHAPE_MISMATCH');
  });

  it('refuses sizes that are none, or that no input has', async () => {
    for (const dims of [{ m: 2 }, { n: -1 }, { n: 1.5 }, { n: '2' }, { 'a\u001b': 1 }, [1], 'n=2']) {
      expect(await failure(sandbox.load(affineModel(), { dims: dims as never }))).toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
    }
  });

  it('finds its weights in a file beside it, whose bytes its digest covers', async () => {
    const bytes = externalModel('weights/w.bin', 8);
    const file = externalWeights(8);
    const asked: string[] = [];
    const external = (location: string) => {
      asked.push(location);
      return file;
    };
    await using model = await sandbox.load(bytes, { external });
    expect(asked).toEqual(['weights/w.bin']);
    expect(model.summary).toMatchObject({ bytes: bytes.length, parameters: 8, parameterBytes: 32 });
    file.fill(0);
    expect((await model.run({ x }))['y']!.toArray()).toEqual(y);
    expect((await model.run({ x: Tensor.zeros('f32', [3, 3]) }))['y']!.shape).toEqual([3, 2]);

    const sha = (part: Uint8Array | string) => createHash('sha256').update(part).digest('hex');
    const lines = [`${sha(bytes)} ${bytes.length} ""`, `${sha(externalWeights(8))} 32 "weights/w.bin"`];
    expect(model.digest).toBe(`sha256:${sha(`cloister model 1\n${lines.join('\n')}\n`)}`);
    await using alone = await sandbox.load(affineModel());
    expect(alone.digest).toBe(`sha256:${sha(affineModel())}`);
  });

  it('says which file is missing, too short or too large', async () => {
    const load = (external?: ReadonlyMap<string, Uint8Array>, modelBytes = 2 ** 20) =>
      failure(sandbox.load(externalModel('w.bin'), { ...(external && { external }), limits: { modelBytes } }));
    expect(await load()).toMatchObject({ code: 'INVALID_MODEL', message: expect.stringContaining('w.bin') });
    expect(await load(new Map())).toMatchObject({ code: 'INVALID_MODEL', message: expect.stringContaining('w.bin') });
    expect((await load(new Map([['w.bin', new Uint8Array(23)]]))).code).toBe('INVALID_MODEL');
    expect((await load(new Map([['w.bin', new Uint8Array(2 ** 20)]]))).code).toBe('MODEL_TOO_LARGE');
    expect((await load(new Map([['w.bin', 'text' as never]]))).code).toBe('INVALID_ARGUMENT');
  });

  it.each(['../w.bin', '/etc/passwd', 'a/../../w', 'C:w.bin', 'a\\\\b', './w', 'a//b', 'a\u0000b', ''])(
    'never asks for %j',
    async location => {
      const asked: string[] = [];
      const external = (path: string) => {
        asked.push(path);
        return externalWeights();
      };
      expect((await failure(sandbox.load(externalModel(location), { external }))).code).toBe('INVALID_MODEL');
      expect(asked).toEqual([]);
    },
  );

  it('tells where the time goes, and of progress', async () => {
    await using model = await sandbox.load(affineModel());
    const seen: number[] = [];
    const profile = await model.profile({ x }, { runs: 7, onProgress: done => seen.push(done) });
    expect(profile.runs).toBe(7);
    expect(profile.nodes.length).toBeGreaterThan(0);
    expect(profile.operators.reduce((sum, row) => sum + row.nodes, 0)).toBe(profile.nodes.length);
    const sum = profile.nodes.reduce((ms, node) => ms + node.totalMs, 0);
    expect(sum).toBeLessThanOrEqual(profile.totalMs + 1e-6);
    expect(profile.nodes.at(-1)!.outputs).toBe('f32[1,2]');
    expect(seen.at(-1)).toBe(7);
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    expect((await model.run({ x }))['y']!.toArray()).toEqual(y);
    for (const runs of [0, 1.5, 2e6])
      expect((await failure(model.profile({ x }, { runs }))).code).toBe('INVALID_ARGUMENT');
    expect((await failure(model.profile({}))).code).toBe('INPUT_MISMATCH');
    const signal = AbortSignal.abort();
    expect((await failure(model.profile({ x }, { signal }))).code).toBe('ABORTED');
    await model.close();
    expect((await failure(model.profile({ x }))).code).toBe('CLOSED');
    expect((await failure(model.passes())).code).toBe('CLOSED');
  });

  it('tells what the passes do, and what memory is needed where sizes are known', async () => {
    await using open = await sandbox.load(affineModel());
    expect((await open.passes()).arena).toBeUndefined();
    await using model = await sandbox.load(affineModel(), { dims: { n: 4 } });
    const { passes, arena } = await model.passes();
    expect(passes.map(row => row.pass)).toContain('product');
    expect(passes.find(row => row.pass === 'product')).toMatchObject({ nodesBefore: 3, nodesAfter: 1, group: 'lower' });
    expect(arena).toEqual({ peakBytes: 64, lowerBoundBytes: 64, unplanned: 0 }); // 32 bytes, aligned
  });

  it('says which outputs stand for maps', async () => {
    await using model = await sandbox.load(classifier());
    expect(model.summary.outputs).toEqual([{ name: 'scores', dtype: 'f32', shape: ['n', 2], labels: ['no', 'yes'] }]);
    const { scores } = await model.run({ x: Tensor.of('f32', [[-1, 2]]) });
    expect(toMaps(scores!, { labels: ['no', 'yes'] })).toEqual([
      new Map([
        ['no', 1],
        ['yes', 2],
      ]),
    ]);
  });

  it('takes text, and gives it back', async () => {
    await using model = await sandbox.load(echo());
    const words = Tensor.of('string', ['', 'é', 'a\u0000b\n']);
    expect((await model.run({ words }))['same']!.toArray()).toEqual(['', 'é', 'a\u0000b\n']);
  });
});

describe.skipIf(!native).each(['process', 'isolate'] as const)('a plan that is kept, under isolation %s', isolation => {
  function memoryPlans(): PlanStore & { readonly map: Map<string, Uint8Array>; reads: number } {
    const map = new Map<string, Uint8Array>();
    return {
      map,
      reads: 0,
      get(key) {
        const found = map.get(key);
        if (found) this.reads++;
        return found;
      },
      set: (key, bytes) => void map.set(key, bytes.slice()),
      delete: key => void map.delete(key),
    };
  }

  it('serves the next load of the same model at the same sizes, and no other', async () => {
    const plans = memoryPlans();
    await using sandbox = await openSandbox({ isolation, warm: 0, plans });
    const load = async (bytes: Uint8Array, dims = {}) => {
      await using model = await sandbox.load(bytes, { dims });
      expect(model.backend).toBe('native');
      return await model.run({ x });
    };
    expect((await load(affineModel()))['y']!.toArray()).toEqual(y);
    expect([plans.map.size, plans.reads]).toEqual([1, 0]);
    expect((await load(affineModel()))['y']!.toArray()).toEqual(y);
    expect([plans.map.size, plans.reads]).toEqual([1, 1]);
    await load(affineModel(), { n: 1 });
    await load(affineModel('z'));
    expect([plans.map.size, plans.reads]).toEqual([3, 1]);
  });

  it('is of the load alone: sizes that runs bring leave no trace', async () => {
    const plans = memoryPlans();
    await using sandbox = await openSandbox({ isolation, warm: 0, plans });
    await using model = await sandbox.load(affineModel());
    const before = [...plans.map.keys()];
    await model.run({ x: Tensor.zeros('f32', [17, 3]) });
    expect([...plans.map.keys()]).toEqual(before);
  });

  it('that is damaged, or is of another model, is made anew', async () => {
    const plans = memoryPlans();
    await using sandbox = await openSandbox({ isolation, warm: 0, plans });
    await (await sandbox.load(affineModel())).close();
    const [[key, good]] = plans.map as unknown as [[string, Uint8Array]];
    await (await sandbox.load(unaryModel('Relu'))).close();
    const other = [...plans.map].find(([name]) => name !== key)![1];
    const damaged = [other, good.slice(0, 40), new Uint8Array(0), Uint8Array.of(1, 2, 3)];
    for (const at of [8, 60, good.length >> 1, good.length - 4]) {
      const flipped = good.slice();
      flipped[at]! ^= 0xff;
      damaged.push(flipped);
    }
    for (const bytes of damaged) {
      plans.map.set(key, bytes);
      await using model = await sandbox.load(affineModel());
      const run = await model.run({ x }).then(({ y: out }) => out!.shape);
      expect(run).toEqual([1, 2]);
    }
    plans.map.set(key, good.slice(0, 40));
    await (await sandbox.load(affineModel())).close();
    expect(plans.map.get(key)).toEqual(good);
  });

  it('says as well that there is none, and why', async () => {
    const plans = memoryPlans();
    await using sandbox = await openSandbox({ isolation, warm: 0, plans });
    const whys: string[] = [];
    for (let i = 0; i < 2; i++) {
      await using model = await sandbox.load(unaryModel('Hardmax'));
      expect(model.backend).toBe('reference');
      whys.push(model.why);
      expect((await model.run({ x: Tensor.zeros('f32', [4]) }))['y']!.toArray()).toEqual([1, 0, 0, 0]);
    }
    expect(plans.reads).toBe(1);
    expect(whys[0]).toContain('Hardmax');
    expect(whys[1]).toBe(whys[0]);
  });

  it('does not keep a model from being loaded where the store fails', async () => {
    const fail = (): never => {
      throw new Error('the disk is gone');
    };
    await using sandbox = await openSandbox({ isolation, warm: 0, plans: { get: fail, set: fail, delete: fail } });
    await using model = await sandbox.load(affineModel());
    expect((await model.run({ x }))['y']!.toArray()).toEqual(y);
  });
});

it('a store of plans that is none is refused', async () => {
  expect((await failure(openSandbox({ plans: {} as never }))).code).toBe('INVALID_ARGUMENT');
  expect(
    (await failure(openSandbox({ plans: new PlanCache() as never, warm: 0 }).then(sandbox => sandbox.close()))).code,
  ).toBe('none');
});

const silero = join(process.env['CLOISTER_CORPUS'] ?? '', 'models', 'silero-vad', 'model.onnx');

describe.skipIf(!existsSync(silero))('a model whose control flow depends on sizes', () => {
  it('says which sizes to fix, and runs with them in a worker', async () => {
    await using sandbox = await openSandbox({ warm: 0 });
    const bytes = readFileSync(silero);
    const refused = await failure(sandbox.load(bytes));
    expect(refused).toMatchObject({ code: 'UNSUPPORTED_MODEL', detail: { dims: ['batch', 'sequence'] } });
    expect(refused.message).toContain('"input" [batch,sequence]');
    await using model = await sandbox.load(bytes, { dims: { batch: 1, sequence: 576 } });
    const outputs = await model.run({
      input: Tensor.zeros('f32', [1, 576]),
      state: Tensor.zeros('f32', [2, 1, 128]),
      sr: Tensor.of('i64', 16_000n),
    });
    expect(outputs['output']!.shape).toEqual([1, 1]);
    expect(Number(outputs['output']!.values()[0])).toBeLessThan(0.1);
  });
});
