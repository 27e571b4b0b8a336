import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { seedPrograms } from './program-seeds.ts';
import { NATIVE, sourcesWithoutNode } from './sources.ts';

const SANITIZE = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
const COMMON = ['-std=gnu++20', '-O1', '-g', '-fno-exceptions', '-fno-rtti', ...SANITIZE];

// CLOISTER_SANITIZE=1 npx vitest run test/native/executor-sanitize.test.ts: needs g++ and a quarter of an hour.
const runs = Number(process.env['CLOISTER_FUZZ_RUNS'] ?? 20_000);

test.skipIf(process.env['CLOISTER_SANITIZE'] !== '1')(
  'no corrupted program makes a sanitised executor touch what it must not',
  { timeout: 3_600_000 },
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'cloister-sanitize-'));
    try {
      const compiler = process.env['CXX'] ?? 'g++';
      const fuzz = { file: '../test/native/executor-fuzz.cc', name: 'fuzz', flags: [] };
      const sources = [fuzz, ...sourcesWithoutNode()];
      const objects = sources.map(({ name }) => join(folder, `${name}.o`));
      const todo = sources.entries();
      const compile = async (): Promise<void> => {
        for (const [i, { file, flags }] of todo) {
          await promisify(execFile)(compiler, [...COMMON, ...flags, '-c', join(NATIVE, file), '-o', objects[i]!]);
        }
      };
      await Promise.all(Array.from({ length: availableParallelism() }, compile));
      const binary = join(folder, 'executor-fuzz');
      execFileSync(compiler, [...COMMON, ...objects, '-pthread', '-o', binary]);
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
