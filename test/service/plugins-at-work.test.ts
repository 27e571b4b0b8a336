/** Models of a cloister with plugins, and what the log has of them. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { packPlugin } from '../../sandbox/index.ts';
import { encodeUtf8 } from '../../src/base/index.ts';
import { type AuditRecord, histogram, openCloister, type PolicyInput, readAudit } from '../../src/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { affineModel } from '../sandbox/tiny-model.ts';

const SCOPE = 'clinic-a/2026-q4';
const POLICY: PolicyInput = {
  isolation: 'isolate',
  rawOutputs: 'allow',
  budgets: { [SCOPE]: { epsilon: 1 } },
  plugins: { unsigned: true },
};
const CALLER = { actor: 'ward-3', purpose: 'triage' };
const x = Tensor.of('f32', [[0, 1, 20]]);

function packed(kind: 'processor' | 'policy', main: string): Uint8Array {
  const files = new Map([['main.js', encodeUtf8(main)]]);
  const base = { name: '@acme/mine', version: '1.0.0', api: '^1.0.0', licence: 'MIT', limits: { wallMs: 5_000 } };
  return packPlugin({ ...base, kind, entry: 'main.js', files: ['main.js'] }, files);
}

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'cloister-plugins-at-work-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

async function recordsOf(action: string): Promise<AuditRecord[]> {
  const all: AuditRecord[] = [];
  for await (const record of readAudit(dir)) if (record.action === action) all.push(record);
  return all;
}

const doubled = 'define({ after: ({ y }) => ({ y: { ...y, data: y.data.map(v => 2 * v) } }) });';

describe('a model of a cloister', () => {
  test('runs through the plugins that it is loaded with, and the log has them', async () => {
    await using cloister = await openCloister({ dir, policy: POLICY });
    const { digest } = await cloister.plugins().install(packed('processor', doubled));
    const model = await cloister.load(affineModel(), { plugins: ['@acme/mine'], actor: 'dev' });
    const { outputs } = await model.run({ x }, CALLER);
    expect(outputs['y']!.toArray()).toEqual([[207, 48]]);
    expect(await recordsOf('load')).toMatchObject([
      { actor: 'dev', object: { kind: 'plugin', id: '@acme/mine@1.0.0' }, plugin: digest, model: model.digest },
      { actor: 'dev', object: { kind: 'model', id: model.digest } },
    ]);
    await expect(cloister.load(affineModel(), { plugins: ['@acme/mine@2.0.0'] })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('1.0.0 is'),
    });
  });

  test('records the plugin that a failure is about', async () => {
    await using cloister = await openCloister({ dir, policy: POLICY });
    const throws = 'define({ after({ y }) { if (y.data[0] > 100) throw 1; return { y }; } });';
    const { digest } = await cloister.plugins().install(packed('processor', throws));
    await using model = await cloister.load(affineModel(), { plugins: ['@acme/mine'] });
    await expect(model.run({ x }, CALLER)).rejects.toMatchObject({ code: 'GUEST_FAILED' });
    const small = Tensor.of('f32', [[0, 0, 0]]);
    expect((await model.run({ x: small }, CALLER)).outputs['y']!.toArray()).toEqual([[0.5, 0]]);
    expect(await recordsOf('fail')).toMatchObject([
      { plugin: digest, object: { kind: 'model', id: model.digest }, decision: { reason: 'GUEST_FAILED' } },
    ]);
  });

  test('records a plugin that does not open', async () => {
    await using cloister = await openCloister({ dir, policy: POLICY });
    const { digest } = await cloister.plugins().install(packed('processor', 'define(1); define(2);'));
    await expect(cloister.load(affineModel(), { plugins: ['@acme/mine'] })).rejects.toMatchObject({
      code: 'GUEST_FAILED',
    });
    expect(await recordsOf('fail')).toMatchObject([{ plugin: digest, decision: { reason: 'GUEST_FAILED' } }]);
  });

  test('takes no plugin that the policy does not admit any more', async () => {
    {
      await using cloister = await openCloister({ dir, policy: POLICY });
      await cloister.plugins().install(packed('processor', doubled));
    }
    await using cloister = await openCloister({ dir, policy: { ...POLICY, plugins: {} } });
    await expect(cloister.load(affineModel(), { plugins: ['@acme/mine'] })).rejects.toMatchObject({
      code: 'POLICY_REFUSED',
    });
    expect(await recordsOf('refuse')).toMatchObject([{ decision: { reason: 'POLICY_REFUSED' } }]);
  });

  test('makes no releases through code that sees every record, and spends nothing', async () => {
    await using cloister = await openCloister({ dir, policy: POLICY });
    await cloister.plugins().install(packed('processor', doubled));
    const request = {
      records: [{ subject: 'a', inputs: { x } }],
      statistic: histogram({ of: 'argmax', classes: 2 }),
      epsilon: 0.5,
      scope: SCOPE,
    };
    await using model = await cloister.load(affineModel(), { plugins: ['@acme/mine'] });
    await expect(model.release(request)).rejects.toMatchObject({
      code: 'POLICY_REFUSED',
      detail: { plugin: '@acme/mine@1.0.0' },
    });
    expect((await cloister.budgets())[0]).toMatchObject({ spent: 0 });
    await cloister.plugins().remove('@acme/mine');
    await cloister.plugins().install(packed('policy', 'define({ choose: (_, backends) => backends.at(-1) });'));
    await using chosen = await cloister.load(affineModel(), { plugins: ['@acme/mine'] });
    expect(chosen.backend).toBe('reference');
    expect((await chosen.release(request)).kind).toBe('released');
  });
});
