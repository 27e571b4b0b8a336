/** Plugins at work, behind each of the walls that they can be behind. */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Isolation, openSandbox, type PluginOperator, type Sandbox } from '../../../sandbox/index.ts';
import { isCloisterError } from '../../../src/base/index.ts';
import { Tensor } from '../../../src/tensor/index.ts';
import { affineModel } from '../tiny-model.ts';
import { plugin, scale, scaledModel } from './working.ts';

const ISOLATIONS: readonly Isolation[] = ['process', 'isolate'];
const f32 = (...values: number[]): Tensor => Tensor.of('f32', values);
const refused = (code: string, message: RegExp) =>
  expect.objectContaining({ code, message: expect.stringMatching(message) });

describe.each(ISOLATIONS)('under isolation %s', isolation => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await openSandbox({ isolation });
  });
  afterAll(() => sandbox.close());

  describe('an operator', () => {
    it('computes its nodes of a model, which runs in the guest, and says so', async () => {
      await using model = await sandbox.load(scaledModel(), { plugins: [scale()] });
      expect(model.backend).toBe('reference');
      expect(model.why).toMatch(/plugins run in the guest/);
      for (const values of [[1], [1, -2, 0.5]]) {
        const { y } = await model.run({ x: f32(...values) });
        expect(y!.toArray()).toEqual(values.map(value => Math.max(0, 6 * value)));
      }
      const { operators } = await model.profile({ x: f32(1, 2) }, { runs: 2 });
      expect(operators.map(({ op }) => op)).toContain('com.example.ScaleBy');
    });

    it('is there for models that it was given to alone', async () => {
      await expect(sandbox.load(scaledModel())).rejects.toEqual(refused('UNSUPPORTED_MODEL', /Scale/));
    });

    it('leaves native kernels to a model without nodes of it', async () => {
      await using plain = await sandbox.load(affineModel());
      await using model = await sandbox.load(affineModel(), { plugins: [scale()] });
      expect(model.backend).toBe(plain.backend);
    });

    it('stays when the model is reloaded', async () => {
      await using model = await sandbox.load(scaledModel(), { plugins: [scale()] });
      await model.reload(scaledModel());
      expect((await model.run({ x: f32(1) }))['y']!.toArray()).toEqual([6]);
    });

    it('may have its kernel in WebAssembly, from a file of its own, where that is lent', async () => {
      // (func (export "double") (param f32) (result f32) local.get 0 local.get 0 f32.add)
      const wasm = Uint8Array.of(
        ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 6, 1, 0x60, 1, 0x7d, 1, 0x7d, 3, 2, 1, 0],
        ...[7, 10, 1, 6, 0x64, 0x6f, 0x75, 0x62, 0x6c, 0x65, 0, 0, 10, 9, 1, 7, 0, 0x20, 0, 0x20, 0, 0x92, 0x0b],
      );
      const change = 'run: ([x]) => [{ ...x, data: x.data.map(v => kernel.exports.double(v)) }]';
      const doubling = scale(change, { files: { 'double.wasm': wasm }, capabilities: { wasm: {} } });
      const main = new TextDecoder().decode(doubling.files.get('main.js'));
      const entry = `const kernel = new WebAssembly.Instance(new WebAssembly.Module(file('double.wasm')));${main}`;
      const given = plugin('operator', entry, { files: { 'double.wasm': wasm }, capabilities: { wasm: {} } });
      await using model = await sandbox.load(scaledModel(), { plugins: [given] });
      expect((await model.run({ x: f32(1, 2) }))['y']!.toArray()).toEqual([4, 8]);
      const bare = plugin('operator', entry, { files: { 'double.wasm': wasm } });
      await expect(sandbox.load(scaledModel(), { plugins: [bare] })).rejects.toEqual(
        refused('GUEST_FAILED', /WebAssembly is not defined/),
      );
    });

    it('computes what the same kernel computes outside', async () => {
      await using working = await sandbox.plug(scale());
      const { operators } = working.definition as { operators: readonly PluginOperator[] };
      const values = fc.array(fc.float({ noNaN: true }), { maxLength: 20 });
      await fc.assert(
        fc.asyncProperty(values, fc.float({ noNaN: true, noDefaultInfinity: true }), async (data, by) => {
          const [y] = (await working.kernel(operators[0]!, { by }, [f32(...data)]))!;
          expect(y!.values()).toEqual(Array.from(Float32Array.from(data, value => value * by)));
        }),
        { numRuns: 30 },
      );
    });
  });

  describe('a processor', () => {
    const halves = `define({
      before: ({ raw }) => ({ x: { dtype: 'f32', shape: raw.shape, data: Float32Array.from(raw.data, v => v / 2) } }),
      after: ({ y }) => ({ y, largest: { dtype: 'f32', shape: [], data: Float32Array.of(Math.max(...y.data)) } }),
    });`;

    it('stands before and after the runs of a model', async () => {
      await using model = await sandbox.load(affineModel(), { plugins: [plugin('processor', halves)] });
      const raw = Tensor.of('u8', [[2, 4, 40]]);
      const { y, largest } = await model.run({ raw });
      expect(y!.toArray()).toEqual([[107.5, 28 - 18]].map(row => [row[0], 1 * 2 + 2 * 4 + 20 * 6 - 100]));
      expect(largest!.toArray()).toBe(107.5);
    });

    it('sees inputs in order and outputs in reverse', async () => {
      const adds = (n: number) =>
        plugin(
          'processor',
          `const add = t => ({ ...t, data: t.data.map(v => v * 10 + ${n}) });
           define({ before: ({ x }) => ({ x: add(x) }), after: ({ y }) => ({ y: add(y) }) });`,
          { name: `adds-${n}` },
        );
      await using model = await sandbox.load(scaledModel(), { plugins: [adds(1), scale(), adds(2)] });
      expect((await model.run({ x: f32(0) }))['y']!.toArray()).toEqual([(12 * 6 * 10 + 2) * 10 + 1]);
    });

    it('does not change what the caller holds', async () => {
      const writes = 'define({ before(inputs) { inputs.x.data.fill(7); return inputs; } });';
      await using working = await sandbox.plug(plugin('processor', writes));
      const x = f32(1, 2);
      expect((await working.map('before', { x }))['x']!.toArray()).toEqual([7, 7]);
      expect(x.toArray()).toEqual([1, 2]);
      const same = await working.map('after', { x });
      expect(same['x']).toBe(x);
    });

    it('is lent what it was admitted with, each use counted, and its lines are heard', async () => {
      const lines: string[] = [];
      const logs = "define({ before(inputs) { lent.log('seen ' + Object.keys(inputs)); return inputs; } });";
      const given = plugin('processor', logs, { capabilities: { log: { calls: 2 } } });
      await using working = await sandbox.plug(given, { onLine: line => lines.push(line) });
      await working.map('before', { x: f32(1) });
      await working.map('before', { a: f32(1), b: f32(2) });
      expect(lines).toEqual(['seen x', 'seen a,b']);
      expect(working.uses).toMatchObject({ log: { calls: 2 } });
      await expect(working.map('before', {})).rejects.toEqual(refused('GUEST_FAILED', /over calls \(2\)/));
    });

    it('gives every dtype back as it came', async () => {
      await using working = await sandbox.plug(plugin('processor', 'define({ before: inputs => inputs });'));
      const tensors = {
        f32: f32(1, Number.NaN),
        f16: Tensor.of('f16', [1.5]),
        i64: Tensor.of('i64', [[1], [-2]]),
        bool: Tensor.of('bool', [1, 0]),
        string: Tensor.of('string', ['a', 'ü']),
        empty: Tensor.zeros('i8', [0, 3]),
      };
      const came = await working.map('before', tensors);
      for (const [name, tensor] of Object.entries(tensors)) {
        expect(came[name]).toMatchObject({ dtype: tensor.dtype, shape: tensor.shape });
        expect(came[name]!.toArray()).toEqual(tensor.toArray());
      }
    });
  });

  describe('a policy', () => {
    const chooses = (body: string) => plugin('policy', `define({ choose(summary, backends) { ${body} } });`);

    it('chooses the backend of a model', async () => {
      await using model = await sandbox.load(affineModel(), {
        plugins: [chooses("return summary.parameters < 100 ? 'reference' : backends[0];")],
      });
      expect(model.backend).toBe('reference');
      expect(model.why).toMatch(/tested@1.0.0 chose it/);
      expect((await model.run({ x: Tensor.of('f32', [[0, 1, 20]]) }))['y']!.toArray()).toEqual([[103.5, 24]]);
    });

    it.each(["return 'gpu';", "return { toString: () => 'reference' };", 'throw 1;', 'return;', 'for (;;);'])(
      'that says %s leaves the default',
      async body => {
        const given = plugin('policy', `define({ choose() { ${body} } });`, {
          limits: { wallMs: 1_000, memoryMb: 64 },
        });
        await using plain = await sandbox.load(affineModel());
        await using model = await sandbox.load(affineModel(), { plugins: [given] });
        expect(model.backend).toBe(plain.backend);
        if (model.backend === 'native') expect(model.why).toMatch(/the policy tested@1.0.0 failed/);
      },
    );
  });

  describe('a statistic', () => {
    const counts = 'bounds: { length: 3, low: 0, high: 1 }';

    it('contributes what it says, within its bounds', async () => {
      await using working = await sandbox.plug(
        plugin('statistic', `define({ ${counts}, contribute: ({ y }) => y.data });`),
      );
      expect(working.bounds).toEqual({ length: 3, low: 0, high: 1 });
      expect(await working.contribute({ y: f32(0, 0.5, 1) })).toEqual([0, 0.5, 1]);
    });

    it('never contributes more than its bounds, whatever it says', async () => {
      const lies = 'define({ bounds: { length: 3, low: -1, high: 2 }, contribute: ({ y }) => y.data });';
      await using working = await sandbox.plug(plugin('statistic', lies));
      for (const y of [f32(Number.NaN, 3, -3), f32(Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1e38)]) {
        const contribution = await working.contribute({ y });
        expect(contribution).toHaveLength(3);
        for (const value of contribution!) expect(value).toBeGreaterThanOrEqual(-1);
        for (const value of contribution!) expect(value).toBeLessThanOrEqual(2);
      }
    });

    it.each([
      '[1]',
      '[1, 2, 3, 4]',
      '"123"',
      'null',
      '[0, 0, {}]',
      'Promise.resolve([0, 0, 0])',
      '(() => { throw 1 })()',
    ])('that answers %s contributes nothing, and the next record is met as if there had been none', async answer => {
      const odd = `define({ ${counts}, contribute: ({ y }) => y.data[0] > 0 ? ${answer} : [0, 1, 0] });`;
      await using working = await sandbox.plug(plugin('statistic', odd));
      expect(await working.contribute({ y: f32(1) })).toBeUndefined();
      expect(await working.contribute({ y: f32(0) })).toEqual([0, 1, 0]);
    });

    it('keeps nothing from one record to the next', async () => {
      const keeps = `let seen = 0; define({ ${counts}, contribute: () => [seen++ / 10, globalThis.kept = (globalThis.kept ?? 0) + 0.1, 0] });`;
      await using working = await sandbox.plug(plugin('statistic', keeps));
      const first = await working.contribute({ y: f32(1) });
      expect(first).toEqual([0, 0.1, 0]);
      for (let i = 0; i < 3; i++) expect(await working.contribute({ y: f32(i) })).toEqual(first);
    });

    it('is no part of a model', async () => {
      const given = plugin('statistic', `define({ ${counts}, contribute: () => [0, 0, 0] });`);
      await expect(sandbox.load(affineModel(), { plugins: [given] })).rejects.toEqual(
        refused('INVALID_ARGUMENT', /is a statistic/),
      );
    });
  });

  it('what sees protected values is lent no way to tell of them, or to keep them', async () => {
    for (const kind of ['operator', 'statistic'] as const) {
      for (const capability of ['log', 'clock', 'random', 'kv']) {
        await expect(sandbox.plug(plugin(kind, '', { capabilities: { [capability]: {} } }))).rejects.toEqual(
          refused('POLICY_REFUSED', new RegExp(`capability ${capability}`)),
        );
      }
    }
  });

  it('a version takes the place of another without a call that fails', async () => {
    const says = (n: number, version: string) =>
      plugin('processor', `define({ after: () => ({ n: { dtype: 'i32', shape: [], data: Int32Array.of(${n}) } }) });`, {
        version,
      });
    await using working = await sandbox.plug(says(0, '1.0.0'));
    let going = true;
    const seen: number[] = [];
    const calling = (async () => {
      while (going) seen.push(Number((await working.map('after', {}))['n']!.toArray()));
    })();
    for (let n = 1; n <= 3; n++) {
      await working.reload(says(n, `1.0.${n}`));
      expect(Number((await working.map('after', {}))['n']!.toArray())).toBe(n);
    }
    going = false;
    await calling;
    expect(seen).toEqual(seen.toSorted());
    expect(new Set(seen).size).toBeGreaterThan(1);
    expect(working.id).toBe('tested@1.0.3');
    await expect(working.reload(plugin('processor', 'define(1)', { version: '1.1.0' }))).rejects.toEqual(
      refused('GUEST_FAILED', /expected an object/),
    );
    await expect(working.reload(plugin('policy', 'define({ choose: () => 1 })'))).rejects.toEqual(
      refused('INVALID_ARGUMENT', /expected a version of tested, of kind processor/),
    );
    expect(Number((await working.map('after', {}))['n']!.toArray())).toBe(3);
  });

  it('is asked what its kind can be asked alone, and nothing once it is closed', async () => {
    const working = await sandbox.plug(plugin('processor', 'define({ before: inputs => inputs });'));
    await expect(working.contribute({})).rejects.toEqual(refused('INVALID_ARGUMENT', /is no statistic/));
    await expect(working.choose({} as never, ['native'])).rejects.toEqual(refused('INVALID_ARGUMENT', /is no policy/));
    expect(() => working.bounds).toThrow(refused('INVALID_ARGUMENT', /is no statistic/));
    await working.close();
    await working.close();
    await expect(working.map('before', {})).rejects.toEqual(refused('CLOSED', /tested@1.0.0/));
  });
});

it('plugins are not run without walls', async () => {
  await using sandbox = await openSandbox({ isolation: 'none' });
  const error = await sandbox.load(scaledModel(), { plugins: [scale()] }).catch((cause: unknown) => cause);
  expect(isCloisterError(error, 'INVALID_ARGUMENT')).toBe(true);
  await expect(sandbox.plug(scale())).rejects.toEqual(refused('INVALID_ARGUMENT', /without walls/));
});
