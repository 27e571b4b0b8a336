import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '..', '..');
const SOURCES = ['test/native/pool-stress.cc', 'native/pool/pool.cc', 'native/pool/cpus.cc'];
const seconds = process.env['CLOISTER_STRESS_SECONDS'] ?? '10';

// CLOISTER_SANITIZE=1 npx vitest run test/native/pool-sanitize.test.ts: needs g++. Sanitisers do not follow forks of
// processes with threads, so that part runs without.
test.skipIf(process.env['CLOISTER_SANITIZE'] !== '1' || process.platform === 'win32').each([
  ['thread', ['-O1', '-fsanitize=thread'], []],
  ['address and undefined', ['-O1', '-fsanitize=address,undefined', '-fno-sanitize-recover=all'], []],
  ['no', ['-O2'], ['fork']],
] as const)('random graphs come out right on the pool, with %s sanitiser', { timeout: 3_600_000 }, (_, flags, more) => {
  const folder = mkdtempSync(join(tmpdir(), 'cloister-pool-'));
  try {
    const binary = join(folder, 'pool-stress');
    const compiler = process.env['CXX'] ?? 'g++';
    const common = ['-std=gnu++20', '-g', '-fno-exceptions', '-fno-rtti', '-pthread'];
    execFileSync(compiler, [...common, ...flags, ...SOURCES.map(name => join(ROOT, name)), '-o', binary]);
    const count = JSON.parse(execFileSync(binary, [seconds, '1', ...more], { encoding: 'utf8' }));
    expect(count.runs).toBeGreaterThan(20);
    expect(count.joined).toBeGreaterThan(20);
    expect(count.stops + count.forks).toBeGreaterThan(2);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
