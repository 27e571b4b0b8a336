/**
 * Runs the pages of `docs/` as their readers would: the `ts` blocks of a page are one module, against the built package; lines of
 * its `sh` blocks that begin with `npx cloister` are run in order. Comments with a literal are checked, as in the examples of
 * docstrings.
 * @module
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { withCheck } from './checked-lines.ts';
import { operatorTables, passTable, replaceTable, tablesOf } from './tables.ts';

const root = join(import.meta.dirname, '..', '..');
// Below the package's root, so that `cloister` means the built package itself, as it does for a consumer.
const folder = mkdtempSync(join(import.meta.dirname, 'quickstart-pages-'));
const main = join(root, 'dist', 'src', 'cli', 'main.js');

const pages = globSync('docs/*.md', { cwd: root })
  .sort()
  .map(file => ({ name: basename(file, '.md'), text: readFileSync(join(root, file), 'utf8') }));

const blocks = (text: string, language: string): readonly string[] =>
  [...text.matchAll(new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(match => match[1]!);

const placeOf = (name: string): string => join(folder, name);

// `testing.test.ts` runs that page, as it needs a test runner.
const withCode = pages.filter(({ name, text }) => name !== 'testing' && blocks(text, 'ts').length > 0);
const commandsOf = (text: string): readonly string[] =>
  blocks(text, 'sh').flatMap(block =>
    block
      .split('\n')
      .filter(line => line.startsWith('npx cloister '))
      .map(line => line.replace(/\s+#.*$/, '').slice('npx cloister '.length)),
  );
const withCommands = pages.filter(({ text }) => commandsOf(text).length > 0);

beforeAll(() => {
  expect(existsSync(main), 'run `npm run build` first').toBe(true);
  for (const name of new Set([...withCode, ...withCommands].map(page => page.name))) {
    mkdirSync(placeOf(name));
    symlinkSync(join(root, 'examples'), join(placeOf(name), 'examples'));
  }
  for (const { name, text } of withCode) {
    const lines = blocks(text, 'ts').join('\n').split('\n').map(withCheck);
    writeFileSync(join(placeOf(name), 'page.ts'), ["import assert from 'node:assert/strict';", ...lines].join('\n'));
  }
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the code of each page runs against the built package', () => {
  test.each(withCode.map(({ name }) => name))('docs/%s.md', name => {
    const ran = spawnSync(process.execPath, ['--no-node-snapshot', 'page.ts'], {
      cwd: placeOf(name),
      encoding: 'utf8',
    });
    expect(ran.stderr).toBe('');
    expect(ran.status).toBe(0);
  });

  test('as TypeScript, with the strictness of the library', () => {
    const config = {
      extends: '../../tsconfig.json',
      compilerOptions: { noUnusedLocals: false },
      include: ['*/page.ts'],
    };
    mkdirSync(placeOf('control'));
    writeFileSync(join(placeOf('control'), 'page.ts'), "const wrong: number = 'text';\nexport { wrong };\n");
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config));
    const { stdout } = spawnSync(
      process.execPath,
      [join(root, 'node_modules/typescript/bin/tsc'), '-p', folder, '--pretty', 'false'],
      { encoding: 'utf8' },
    );
    // What the sources themselves have is for `npm run check` to say. The control shows that errors are heard.
    const heard = stdout.split('\n').filter(line => line.includes('page.ts('));
    expect(heard).toEqual([expect.stringMatching(/control\/page\.ts\(1,7\): error TS2322/)]);
  });
});

describe('the commands of each page run', () => {
  test.each(withCommands.map(page => [page.name, page] as const))('%s', (name, { text }) => {
    for (const command of commandsOf(text)) {
      const said = execFileSync(process.execPath, ['--no-node-snapshot', main, ...command.split(/\s+/)], {
        cwd: placeOf(name),
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      expect(said, command).not.toBe('');
    }
  });
});

describe('the tables of pages say what the code says', () => {
  const textOf = (name: string): string => pages.find(page => page.name === name)!.text;

  test('docs/operators.md lists every operator, its opsets, and whether it has a gradient', () => {
    expect(tablesOf(textOf('operators')), 'run `node test/docs/tables.ts`').toEqual(operatorTables());
  });

  test('docs/passes.md lists every pass in order', () => {
    expect(tablesOf(textOf('passes')), 'run `node test/docs/tables.ts`').toEqual([passTable()]);
  });

  test('a table that is not right is replaced, and nothing else', () => {
    const page = 'before\n\n<!-- table -->\n| a |\n<!-- end -->\n\nafter\n';
    expect(replaceTable(page, ['| b |'])).toBe(page.replace('| a |', '| b |'));
  });
});
