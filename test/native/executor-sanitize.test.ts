import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { seedPrograms } from './program-seeds.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const SANITIZE = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
const COMMON = ['-std=gnu++20', '-O1', '-g', '-fno-exceptions', '-fno-rtti', ...SANITIZE];
const AVX512 = ['-mavx512f', '-mavx512dq', '-mavx512bw', '-mavx512vl', '-mfma'];
const ISA: readonly (readonly [string, readonly string[]])[] =
  process.arch === 'x64'
    ? [
        ['avx2', ['-mavx2', '-mfma']],
        ['avx512', AVX512],
      ]
    : process.arch === 'arm64'
      ? [['neon', []]]
      : [];

// CLOISTER_SANITIZE=1 npx vitest run test/native/executor-sanitize.test.ts: needs g++ and a minute or more.
const runs = Number(process.env['CLOISTER_FUZZ_RUNS'] ?? 20_000);

test.skipIf(process.env['CLOISTER_SANITIZE'] !== '1')(
  'no corrupted program makes a sanitised executor touch what it must not',
  { timeout: 3_600_000 },
  () => {
    const folder = mkdtempSync(join(tmpdir(), 'cloister-sanitize-'));
    try {
      const compiler = process.env['CXX'] ?? 'g++';
      const objects = [
        ...[['kernels/scalar', []] as const, ...ISA.map(([name, flags]) => [`kernels/${name}`, flags] as const)],
        ...['dispatch', 'executor/executor', 'executor/program'].map(name => [name, []] as const),
        ['../test/native/executor-fuzz', []] as const,
      ].map(([name, flags]) => {
        const object = join(folder, `${name.replaceAll(/[./]/g, '-')}.o`);
        execFileSync(compiler, [...COMMON, ...flags, '-c', join(ROOT, 'native', `${name}.cc`), '-o', object]);
        return object;
      });
      const binary = join(folder, 'executor-fuzz');
      execFileSync(compiler, [...COMMON, ...objects, '-o', binary]);
      const files = seedPrograms().flatMap(({ name, program, model }) => {
        const paths = [join(folder, `${name}.program`), join(folder, `${name}.model`)] as const;
        writeFileSync(paths[0], program);
        writeFileSync(paths[1], model);
        return paths;
      });
      const count = JSON.parse(execFileSync(binary, [String(runs), '1', ...files], { cwd: folder, encoding: 'utf8' }));
      expect(count.refused + count.harmless).toBe(runs);
      expect(count.harmless).toBeGreaterThan(runs / 50);
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
);
