/**
 * What a sandboxed model keeps to, whatever walls are around it.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { findLauncher, nativeStatus } from '../../native/index.ts';
import { type Isolation, openSandbox, type Sandbox } from '../../sandbox/index.ts';
import { type ErrorCode, isCloisterError } from '../../src/base/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { affineModel, unaryModel } from './tiny-model.ts';

const ISOLATIONS: readonly Isolation[] = ['process', 'isolate', 'none'];

async function codeOf(work: Promise<unknown>): Promise<ErrorCode | string> {
  const error = await work.then(
    () => undefined,
    (cause: unknown) => cause,
  );
  return isCloisterError(error) ? error.code : `no CloisterError: ${String(error)}`;
}

describe.each(ISOLATIONS)('a model under isolation %s', isolation => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await openSandbox({ isolation, warm: 1 });
  });
  afterAll(() => sandbox.close());

  it('computes what the model says, at every size of its symbolic dimension', async () => {
    await using model = await sandbox.load(affineModel(), { name: 'affine' });
    for (const n of [1, 3, 2, 3, 7, 8, 9, 1]) {
      const x = Tensor.of(
        'f32',
        Array.from({ length: n }, (_, i) => [i, 1, 20]),
      );
      const { y } = await model.run({ x });
      expect(y!.toArray()).toEqual(Array.from({ length: n }, (_, i) => [i + 103.5, 2 * i + 24]));
    }
  });

  it('is interpreted where there is no native kernel for it, and says why', async () => {
    await using model = await sandbox.load(unaryModel('Hardmax'));
    expect(model.backend).toBe('reference');
    expect(model.why).toContain(nativeStatus().kind === 'loaded' ? 'Hardmax' : 'no native kernels');
    for (const scale of [0, 1, -2]) {
      const { y } = await model.run({ x: Tensor.of('f32', [0, scale, 2 * scale, 3 * scale]) });
      expect(y!.toArray()).toEqual(scale > 0 ? [0, 0, 0, 1] : [1, 0, 0, 0]);
    }
  });

  it('tells what it is', async () => {
    await using model = await sandbox.load(affineModel(), { name: 'affine' });
    expect(model.summary).toEqual({
      name: 'affine',
      bytes: affineModel().length,
      inputs: [{ name: 'x', dtype: 'f32', shape: ['n', 3] }],
      outputs: [{ name: 'y', dtype: 'f32', shape: ['n', 2] }],
      operators: [
        { op: 'Add', count: 1 },
        { op: 'MatMul', count: 1 },
        { op: 'Relu', count: 1 },
      ],
      nodes: 3,
      outline: [
        {
          name: expect.any(String),
          op: 'MatMul',
          outputs: [{ name: expect.any(String), dtype: 'f32', shape: ['n', 2] }],
        },
        { name: expect.any(String), op: 'Add', outputs: [{ name: expect.any(String), dtype: 'f32', shape: ['n', 2] }] },
        { name: expect.any(String), op: 'Relu', outputs: [{ name: 'y', dtype: 'f32', shape: ['n', 2] }] },
      ],
      parameters: 8,
      parameterBytes: 32,
    });
    expect(model.why).not.toBe('');
    expect(model.memory.permanentBytes).toBeGreaterThanOrEqual(0);
  });

  it('takes views, and gives outputs that stay as they are', async () => {
    await using model = await sandbox.load(affineModel());
    const columns = Tensor.of('f32', [
      [1, 4],
      [2, 5],
      [3, 6],
    ]);
    const first = await model.run({ x: columns.transpose() });
    const copy = first['y']!.toArray();
    expect(copy).toEqual([
      [22.5, 0],
      [49.5, 0],
    ]);
    await model.run({ x: Tensor.zeros('f32', [2, 3]) });
    expect(first['y']!.toArray()).toEqual(copy);
  });

  it('serves concurrent runs, each with its own answer', async () => {
    await using model = await sandbox.load(affineModel());
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, i) => model.run({ x: Tensor.of('f32', [[i, 0, 0]]) })),
    );
    expect(answers.map(({ y }) => y!.values()[0])).toEqual(Array.from({ length: 50 }, (_, i) => i + 0.5));
  });

  it('refuses inputs that are not its own, by code, before anything runs', async () => {
    await using model = await sandbox.load(affineModel());
    const x = Tensor.zeros('f32', [1, 3]);
    expect(await codeOf(model.run({}))).toBe('INPUT_MISMATCH');
    expect(await codeOf(model.run({ x, z: x }))).toBe('INPUT_MISMATCH');
    expect(await codeOf(model.run({ x: [1, 2, 3] as never }))).toBe('INPUT_MISMATCH');
    expect(await codeOf(model.run({ x: Tensor.zeros('f64', [1, 3]) }))).toBe('DTYPE_MISMATCH');
    expect(await codeOf(model.run({ x: Tensor.zeros('f32', [1, 4]) }))).toBe('SHAPE_MISMATCH');
    expect(await codeOf(model.run({ x: Tensor.zeros('f32', [3]) }))).toBe('SHAPE_MISMATCH');
    expect((await model.run({ x }))['y']!.toArray()).toEqual([[0.5, 0]]);
  });

  it('refuses files that are none, by code', async () => {
    const good = affineModel();
    expect(await codeOf(sandbox.load(new Uint8Array(0)))).toBe('INVALID_MODEL');
    expect(await codeOf(sandbox.load(good.slice(0, 40)))).toBe('INVALID_MODEL');
    expect(await codeOf(sandbox.load(good, { limits: { modelBytes: 10 } }))).toBe('MODEL_TOO_LARGE');
    expect(await codeOf(sandbox.load(unaryModel('NoSuchOperator')))).toBe('UNSUPPORTED_MODEL');
    expect(await codeOf(sandbox.load('a path' as never))).toBe('INVALID_ARGUMENT');
    expect(await codeOf(sandbox.load(good, { limits: { wallMs: -1 } }))).toBe('INVALID_ARGUMENT');
    expect(await codeOf(sandbox.load(good, { limits: { walMs: 1 } as never }))).toBe('INVALID_ARGUMENT');
  });

  it('refuses names that a terminal would obey', async () => {
    expect(await codeOf(sandbox.load(affineModel('y\u001b[2J')))).toBe('INVALID_MODEL');
    expect(await codeOf(sandbox.load(affineModel('y\u202etxt')))).toBe('INVALID_MODEL');
    expect(await codeOf(sandbox.load(affineModel('__proto__')))).toBe('INVALID_MODEL');
    await using model = await sandbox.load(affineModel('constructor'));
    const outputs = await model.run({ x: Tensor.zeros('f32', [1, 3]) });
    expect(Object.keys(outputs)).toEqual(['constructor']);
  });

  it('keeps to the bytes that it was given, whatever becomes of them afterwards', async () => {
    const bytes = affineModel();
    const loading = sandbox.load(bytes);
    bytes.fill(0);
    await using model = await loading;
    expect((await model.run({ x: Tensor.zeros('f32', [1, 3]) }))['y']!.toArray()).toEqual([[0.5, 0]]);
  });

  it('stops at outputBytes and goes on', async () => {
    await using model = await sandbox.load(affineModel(), { limits: { outputBytes: 64 } });
    expect(await codeOf(model.run({ x: Tensor.zeros('f32', [9, 3]) }))).toBe('LIMIT_EXCEEDED');
    expect((await model.run({ x: Tensor.zeros('f32', [8, 3]) }))['y']!.shape).toEqual([8, 2]);
  });

  it('hears an abort', async () => {
    await using model = await sandbox.load(affineModel());
    const x = Tensor.zeros('f32', [1, 3]);
    expect(await codeOf(model.run({ x }, { signal: AbortSignal.abort() }))).toBe('ABORTED');
    expect(await codeOf(sandbox.load(affineModel(), { signal: AbortSignal.abort() }))).toBe('ABORTED');
    expect((await model.run({ x }))['y']!.toArray()).toEqual([[0.5, 0]]);
  });

  it('takes tensors that another thread shares', async () => {
    await using model = await sandbox.load(affineModel());
    const shared = new Float32Array(new SharedArrayBuffer(12));
    expect((await model.run({ x: Tensor.from('f32', [1, 3], shared) }))['y']!.toArray()).toEqual([[0.5, 0]]);
  });

  it('is not left open when its sandbox is closed while it is loaded', async () => {
    const other = await openSandbox({ isolation, warm: 0 });
    const loading = codeOf(other.load(affineModel()));
    await other.close();
    expect(await loading).toBe('CLOSED');
  });

  it('is closed for good, twice if need be', async () => {
    const model = await sandbox.load(affineModel());
    await model.close();
    await model.close();
    expect(await codeOf(model.run({ x: Tensor.zeros('f32', [1, 3]) }))).toBe('CLOSED');
    const other = await openSandbox({ isolation, warm: 0 });
    const inside = await other.load(affineModel());
    await other.close();
    await other.close();
    expect(await codeOf(inside.run({ x: Tensor.zeros('f32', [1, 3]) }))).toBe('CLOSED');
    expect(await codeOf(other.load(affineModel()))).toBe('CLOSED');
    expect(await codeOf(other.evaluate('1'))).toBe('CLOSED');
  });

  it('says honestly what protects its host', () => {
    const { layers } = sandbox.capabilities();
    expect(layers.isolate.status).toBe(isolation === 'none' ? 'not requested' : 'active');
    expect(layers.process.status).toBe(isolation === 'process' ? 'active' : 'not requested');
    const launched = isolation === 'process' && findLauncher().kind === 'found';
    expect(layers.filesystem.status).toBe(
      launched ? 'active' : isolation === 'process' ? 'unavailable' : 'not requested',
    );
  });
});

describe('without native kernels', () => {
  beforeAll(() => vi.stubEnv('CLOISTER_NATIVE', 'off'));
  afterAll(() => vi.unstubAllEnvs());

  it('a model in a worker is interpreted, with the same answers', async () => {
    await using sandbox = await openSandbox({ warm: 0 });
    await using model = await sandbox.load(affineModel());
    expect(model).toMatchObject({ backend: 'reference', why: expect.stringContaining('CLOISTER_NATIVE=off') });
    const { y } = await model.run({ x: Tensor.of('f32', [[1, 1, 1]]) });
    expect(y!.toArray()).toEqual([[9.5, 0]]);
  });
});

const models = join(process.env['CLOISTER_CORPUS'] ?? '', 'models');

describe.skipIf(!existsSync(models))('real models', () => {
  it.each(['mnist-8', 'mnist-cnn-pytorch'])('%s gives the same bytes behind all walls', async name => {
    const bytes = readFileSync(join(models, name, 'model.onnx'));
    const answers: Uint8Array[] = [];
    for (const isolation of ISOLATIONS) {
      await using sandbox = await openSandbox({ isolation, warm: 0 });
      await using model = await sandbox.load(bytes);
      const [input] = model.summary.inputs;
      const image = Float32Array.from({ length: 784 }, (_, i) => (i * 37) % 256);
      const outputs = await model.run({ [input!.name]: Tensor.from('f32', [1, 1, 28, 28], image) });
      const [scores] = Object.values(outputs);
      expect(scores!.shape).toEqual([1, 10]);
      answers.push(scores!.toBytes());
    }
    expect(answers[1]).toEqual(answers[0]);
    expect(answers[2]).toEqual(answers[0]);
  });
});

it('options that do not fit are refused', async () => {
  expect(await codeOf(openSandbox({ isolation: 'vm' as never }))).toBe('INVALID_ARGUMENT');
  expect(await codeOf(openSandbox({ wram: 1 } as never))).toBe('INVALID_ARGUMENT');
  expect(await codeOf(openSandbox({ limits: { memoryMb: Number.NaN } }))).toBe('INVALID_ARGUMENT');
});

it('a script without walls is not run', async () => {
  await using sandbox = await openSandbox({ isolation: 'none' });
  expect(await codeOf(sandbox.evaluate('1'))).toBe('INVALID_ARGUMENT');
});

it('a script in an isolate of this process is heard, and a plain loop stopped', async () => {
  await using sandbox = await openSandbox({ isolation: 'isolate', limits: { wallMs: 200, memoryMb: 32 } });
  expect(await sandbox.evaluate('6 * 7')).toMatchObject({ outcome: 'ok', value: '42' });
  expect((await sandbox.evaluate('for (;;);')).outcome).toBe('limit:wallMs');
  expect((await sandbox.evaluate('new Promise(() => {})')).outcome).toBe('limit:wallMs');
  expect((await sandbox.evaluate("throw new TypeError('no')")).outcome).toBe('error');
});
