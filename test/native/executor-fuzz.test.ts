import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { nativeStatus } from '../../native/index.ts';

// CLOISTER_FUZZ_RUNS=100000 npx vitest run test/native/executor-fuzz.test.ts takes some ten seconds.
const runs = Number(process.env['CLOISTER_FUZZ_RUNS'] ?? 4000);

test.skipIf(nativeStatus().kind !== 'loaded')(
  `refuses ${runs} corrupted programs, or runs them without harm and without reading what no one wrote`,
  { timeout: 120_000 + runs * 5 },
  () => {
    const child = spawnSync(process.execPath, [join(import.meta.dirname, 'executor-fuzz.ts'), String(runs), '2026'], {
      encoding: 'utf8',
      timeout: 100_000 + runs * 5,
    });
    expect(child.stderr).toBe('');
    expect(child.status).toBe(0);
    const count = JSON.parse(child.stdout) as Record<string, number>;
    expect(count).toMatchObject({ runs, leaks: 0, unexpected: 0 });
    expect(count['refused']! + count['harmless']!).toBe(runs);
    // Both kinds occur, or the corruptions are too coarse or too fine to show anything.
    expect(count['refused']).toBeGreaterThan(runs / 4);
    expect(count['harmless']).toBeGreaterThan(runs / 50);
  },
);
