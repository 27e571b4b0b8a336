import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';

const root = join(import.meta.dirname, '..', '..');
const page = readFileSync(join(root, 'docs', 'testing.md'), 'utf8');
// Below the package's root, so that `cloister` means the built package itself, as it does for a consumer.
const folder = mkdtempSync(join(root, 'test', 'docs', 'quickstart-'));

afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly testResults: readonly {
    readonly name: string;
    readonly assertionResults: readonly { readonly title: string }[];
  }[];
}

/** Runs these files as a consumer's tests. */
function vitest(files: Readonly<Record<string, string>>): Report {
  for (const [name, code] of Object.entries(files)) writeFileSync(join(folder, name), code);
  writeFileSync(join(folder, 'vitest.config.js'), 'export default { test: { include: ["*.test.ts"] } };\n');
  const vite = join(root, 'node_modules', 'vitest', 'vitest.mjs');
  try {
    execFileSync(process.execPath, [vite, 'run', '--root', folder, '--reporter=json', '--outputFile=report.json'], {
      cwd: folder,
      stdio: 'pipe',
    });
  } catch {
    // A failed test is in the report.
  }
  return JSON.parse(readFileSync(join(folder, 'report.json'), 'utf8')) as Report;
}

describe('the page on testing', () => {
  const blocks = [...page.matchAll(/^```ts\n\/\/ (\S+\.test\.ts)\n([\s\S]*?)^```/gm)].map(
    match => [match[1]!, match[2]!] as const,
  );

  test('its code passes as it stands, against the built package, and fails where the operator is wrong', () => {
    expect(existsSync(join(root, 'dist', 'test', 'suites', 'index.js')), 'run `npm run build` first').toBe(true);
    expect(blocks.map(([name]) => name)).toEqual(['scale-by.test.ts', 'counting.test.ts', 'poll.test.ts']);
    const [[, operator]] = blocks as [readonly [string, string]];
    const wrong = operator.replace('.elements() as', '.data as');
    expect(wrong).not.toBe(operator);
    const { testResults } = vitest({ ...Object.fromEntries(blocks), 'wrong.test.ts': wrong });
    const failed = testResults.flatMap(({ name, assertionResults }) =>
      (assertionResults as readonly { status: string; title: string }[])
        .filter(({ status }) => status !== 'passed')
        .map(({ title }) => `${name.split('/').at(-1)}: ${title}`),
    );
    expect(failed).toEqual([
      'wrong.test.ts: reads views as what they show',
      ...failed.slice(1).filter(line => line.startsWith('wrong.test.ts')),
    ]);
    const counts = testResults.map(
      ({ name, assertionResults }) => [name.split('/').at(-1), assertionResults.length] as const,
    );
    for (const [name, count] of counts) expect(count).toBeGreaterThanOrEqual(name === 'poll.test.ts' ? 2 : 10);
  }, 60_000);

  test('lists every check of an operator', async () => {
    const { OPERATOR_CHECKS } = await import('../suites/operator.ts');
    const listed = [...page.matchAll(/^\| ([a-z ,]+) \|/gm)].map(match => match[1]).filter(name => name !== 'check');
    expect(listed).toEqual(OPERATOR_CHECKS);
  });
});
