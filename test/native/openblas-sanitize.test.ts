import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { compileStub } from './blas-stubs.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const SOURCES = ['test/native/openblas-sizes.cc', 'native/blas/openblas.cc'].map(name => join(ROOT, name));
const FLAGS = ['-g', '-O1', '-fsanitize=address,undefined', '-fno-sanitize-recover=all'];

// CLOISTER_SANITIZE=1 npx vitest run test/native/openblas-sanitize.test.ts: needs g++.
test.skipIf(process.env['CLOISTER_SANITIZE'] !== '1' || process.platform === 'win32')(
  'no sizes, offsets or arrays make a library read or write beside them',
  { timeout: 600_000 },
  () => {
    const folder = mkdtempSync(join(tmpdir(), 'cloister-blas-'));
    try {
      const binary = join(folder, 'sizes');
      const compiler = process.env['CXX'] ?? 'g++';
      execFileSync(compiler, ['-std=gnu++20', '-fno-exceptions', '-fno-rtti', ...FLAGS, ...SOURCES, '-o', binary]);
      const library = compileStub(folder, 'good', FLAGS);
      const { computed, refused } = JSON.parse(execFileSync(binary, [library, '1000000', '1'], { encoding: 'utf8' }));
      expect(computed).toBeGreaterThan(10_000);
      expect(refused).toBeGreaterThan(10_000);
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
);
