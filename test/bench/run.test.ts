import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { Row } from '../../bench/rows.ts';

const root = join(import.meta.dirname, '..', '..');
const folder = mkdtempSync(join(tmpdir(), 'cloister-bench-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const bench = (...args: string[]) =>
  spawnSync(process.execPath, ['--no-node-snapshot', join(root, 'bench', 'run.ts'), ...args], {
    cwd: folder,
    encoding: 'utf8',
  });

describe('the benches', () => {
  test('name the suites when asked for another, with exit code 2', () => {
    const { status, stderr } = bench('fast');
    expect(status).toBe(2);
    expect(stderr).toMatch(/engine\|kernels\|memory\|sandbox\|ledger/);
  });

  test('write rows of the agreed form, after their checks passed', () => {
    const { status, stdout } = bench('ledger', '--json', 'rows.json');
    expect(status).toBe(0);
    expect(stdout).toMatch(/ok {6}the ledger holds every charge that was timed/);
    const rows = JSON.parse(readFileSync(join(folder, 'rows.json'), 'utf8')) as Row[];
    expect(rows.length).toBeGreaterThanOrEqual(3);
    for (const row of rows) {
      expect(row).toMatchObject({ suite: 'ledger', case: expect.any(String), threads: 1 });
      expect(['charges/s', 'checks/s', 'events/s']).toContain(row.unit);
      expect(row.ours).toBeGreaterThan(0);
      expect(row.peerName).toEqual(expect.any(String));
      // Rows of a server have no peer here.
      if (row.peer === null) expect(row).toMatchObject({ ratio: null, case: expect.stringContaining('PostgreSQL') });
      else expect(row.ratio).toBeGreaterThan(0);
    }
  }, 120_000);
});
