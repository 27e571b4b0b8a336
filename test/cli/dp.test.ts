import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const root = join(import.meta.dirname, '..', '..');

function cloister(input: string, ...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [join(root, 'src/cli/main.ts'), ...args], { encoding: 'utf8', input });
}

const QUESTION = { mechanism: 'gaussian', params: { noise_multiplier: 1 }, delta: 1e-5 };

describe('cloister dp', () => {
  it('answers one question, from its argument or from standard input', () => {
    const text = JSON.stringify(QUESTION);
    for (const { status, stdout } of [
      cloister('', 'dp', 'epsilon', '--json', text),
      cloister(text, 'dp', 'epsilon', '-', '--json'),
    ]) {
      expect(status).toBe(0);
      const { epsilon, method } = JSON.parse(stdout) as { epsilon: { upper: number; lower: number }; method: string };
      expect(epsilon.upper).toBeCloseTo(4.377178, 6);
      expect(epsilon.lower).toBeLessThanOrEqual(epsilon.upper);
      expect(method).toBe('gdp');
    }
  });

  it('answers each of a list, and says which has no answer, with the exit code of a wrong parameter', () => {
    const wrong = { ...QUESTION, params: { noise_multiplier: -1 } };
    const { status, stdout } = cloister(JSON.stringify([QUESTION, wrong]), 'dp', 'epsilon', '-', '--json');
    expect(status).toBe(2);
    expect(JSON.parse(stdout)).toMatchObject([{ method: 'gdp' }, { error: { code: 'DP_INVALID_PARAMETER' } }]);
  });

  it('calibrates what is missing, and prints a table for a reader', () => {
    const { status, stdout } = cloister(
      '',
      'dp',
      'calibrate',
      JSON.stringify({ ...QUESTION, params: { target_epsilon: 1 } }),
    );
    expect(status).toBe(0);
    expect(stdout).toMatch(/question +answer +at least +method/);
    expect(stdout).toMatch(/noise_multiplier = 3\.730632/);
  });

  it('refuses what is no JSON', () => {
    const { status, stderr } = cloister('', 'dp', 'epsilon', '{"mechanism":');
    expect(status).toBe(2);
    expect(stderr).toMatch(/is no JSON/);
  });
});
