import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { parsePolicy } from '../../src/service/index.ts';

const root = join(import.meta.dirname, '..', '..');
const readme = readFileSync(join(root, 'README.md'), 'utf8');
// Below the package's root, so that `cloister` means the built package itself, as it does for a consumer.
const main = join(root, 'dist', 'src', 'cli', 'main.js');
const folder = mkdtempSync(join(root, 'test', 'docs', 'quickstart-'));

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const blocks = (language: string): string[] =>
  [...readme.matchAll(new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(match => match[1]!);

describe('the README', () => {
  test('its code runs as it stands, in order, against the built package', () => {
    expect(existsSync(join(root, 'dist', 'src', 'index.js')), 'run `npm run build` first').toBe(true);
    symlinkSync(join(root, 'examples'), join(folder, 'examples'));
    const said = blocks('ts').map((code, i) => {
      const file = join(folder, `block-${i}.ts`);
      writeFileSync(file, code);
      return execFileSync(process.execPath, ['--no-node-snapshot', file], { cwd: folder, encoding: 'utf8' });
    });
    expect(said).toHaveLength(3);
    expect(said[0]).toMatch(/^\[ 1, 10 \] \d+\n\[[^\]]*\] ±6\n$/);
    expect(said[1]).toMatch(/^\d+ records verify\n$/);
    expect(said[2]).toContain('= Gemm-28(%x, ');
  });

  test('its commands run, in order, on what its code has left', () => {
    const commands = blocks('sh').flatMap(block => [...block.matchAll(/^npx cloister (.*?)(?:\s+#.*)?$/gm)]);
    expect(commands).toHaveLength(4);
    const said = commands.map(([, command]) =>
      execFileSync(process.execPath, ['--no-node-snapshot', main, ...command!.split(' ')], {
        cwd: folder,
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      }),
    );
    expect(said[0]).toContain('= Conv-17(%image, %weight1, %bias1)');
    expect(said[1]).toMatch(/^convolution +lower +8 +6 +2 /m);
    expect(said[2]).toContain('logits');
    expect(said[3]).toMatch(/10 runs of \d+ nodes/);
    const trace = JSON.parse(readFileSync(join(folder, 'digits.json'), 'utf8')) as { traceEvents: { ph: string }[] };
    expect(new Set(trace.traceEvents.map(({ ph }) => ph))).toEqual(new Set(['X']));
    expect(readFileSync(join(folder, 'digits.svg'), 'utf8')).toBe(
      readFileSync(join(root, 'docs', 'digits.svg'), 'utf8'),
    );
  });

  test('its policy fits the schema, and says the defaults right', () => {
    const [policy] = blocks('json');
    expect(parsePolicy(JSON.parse(policy!))).toMatchObject({ isolation: 'process', rawOutputs: 'refuse' });
    expect(parsePolicy({})).toMatchObject({
      isolation: 'process',
      rawOutputs: 'refuse',
      budgets: {},
      limits: { wallMs: 30_000, memoryMb: 512 },
    });
  });

  test('every command that it lists exists', () => {
    const help = execFileSync(process.execPath, [main, '--help'], {
      encoding: 'utf8',
    });
    for (const [, command] of readme.matchAll(/^\| `cloister (\w+)/gm))
      expect(help).toMatch(new RegExp(`^  ${command}\\b`, 'm'));
  });
});
