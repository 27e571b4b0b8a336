import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { nativeStatus } from '../../native/index.ts';
import { compareBackends, findBackends } from '../../src/service/backends.ts';
import { canCompile, compileStub } from '../native/blas-stubs.ts';

const before = process.env['CLOISTER_OPENBLAS'];
const folder = mkdtempSync(join(tmpdir(), 'cloister-backends-'));
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => {
  if (before === undefined) delete process.env['CLOISTER_OPENBLAS'];
  else process.env['CLOISTER_OPENBLAS'] = before;
});

describe.skipIf(nativeStatus().kind !== 'loaded' || !canCompile)('OpenBLAS among the backends', () => {
  test('is found with version, processor and file, behind native and before reference', async () => {
    const path = compileStub(folder, 'good');
    process.env['CLOISTER_OPENBLAS'] = path;
    const { backends, found } = await findBackends();
    expect(found.find(({ name }) => name === 'openblas')).toEqual({
      name: 'openblas',
      state: 'ok',
      found: `OpenBLAS 0.0.1 STUB, core Naive (${path})`,
    });
    const names = backends.map(({ name }) => name).filter(name => name !== 'onnxruntime');
    expect(names).toEqual(['native', 'openblas', 'reference']);
  });

  test('is missing, with why and what mends it, where it is not there or of no use', async () => {
    process.env['CLOISTER_OPENBLAS'] = join(folder, 'nowhere.so');
    const missing = await findBackends();
    expect(missing.found.find(({ name }) => name === 'openblas')).toMatchObject({
      state: 'missing',
      found: expect.stringContaining('nowhere.so'),
      mend: expect.stringContaining('CLOISTER_OPENBLAS'),
    });
    process.env['CLOISTER_OPENBLAS'] = compileStub(folder, 'suffixed');
    const unusable = await findBackends();
    expect(unusable.found.find(({ name }) => name === 'openblas')).toMatchObject({
      state: 'missing',
      found: expect.stringMatching(/^found but of no use: .*64-bit integers/),
    });
    for (const { backends } of [missing, unusable]) expect(backends.map(({ name }) => name)).not.toContain('openblas');
  });

  test('is measured at products and at nothing else', async () => {
    process.env['CLOISTER_OPENBLAS'] = compileStub(folder, 'good');
    const { choices } = await compareBackends();
    for (const { work, us, chosen } of choices) {
      expect('openblas' in us).toBe(work.startsWith('MatMul'));
      expect(us[chosen]).toBe(Math.min(...Object.values(us)));
    }
  });
});
