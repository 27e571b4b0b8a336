import { execFileSync } from 'node:child_process';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { OPERATORS, PASSES } from '../../src/graph/index.ts';

const root = join(import.meta.dirname, '..', '..');
const documents = ['*.md', 'docs/**/*.md', 'bench/*.md', 'examples/**/*.md', 'native/**/*.md', 'privacy/**/*.md']
  .flatMap(pattern => globSync(pattern, { cwd: root, exclude: ['**/node_modules/**'] }))
  .sort();
const textOf = (file: string): string => readFileSync(join(root, file), 'utf8');

describe.each(documents)('%s', file => {
  test('links to files that exist', () => {
    const links = [...textOf(file).matchAll(/\]\((?!https?:)([^)#]+)/g)].map(match => match[1]!);
    expect(links.filter(link => !existsSync(join(root, dirname(file), link)))).toEqual([]);
  });

  test('names files that exist', () => {
    // `src/graph/ops/`, `.ci/run`; a name with a placeholder in capitals is none.
    const named = [
      ...textOf(file).matchAll(/`((?:src|privacy|sandbox|native|test|docs|bench|examples|\.ci)\/[^`\s]+)`/g),
    ]
      .map(match => match[1]!)
      .filter(name => !/[A-Z]{4}\b/.test(name.replace(/[A-Z]+\.md$/, '')));
    expect(named.filter(name => globSync(name, { cwd: root }).length === 0)).toEqual([]);
  });

  test('keeps its prose within 140 columns', () => {
    const long = textOf(file)
      .split('\n')
      .filter(line => line.length > 140 && !line.startsWith('|'));
    expect(long).toEqual([]);
  });
});

test('README and changelog say how many operators and passes there are', () => {
  const of = (wanted: string): number => [...OPERATORS.values()].filter(({ domain }) => domain === wanted).length;
  const readme = textOf('README.md');
  expect(readme).toContain(`${OPERATORS.size} operators run on the reference backend`);
  expect(readme).toContain(
    `${OPERATORS.size} operators: ${of('')} of ONNX, ${of('com.microsoft')} of \`com.microsoft\`, ${of('ai.onnx.ml')} of \`ai.onnx.ml\`, ${of('cloister')} of our own`,
  );
  expect(readme).toContain(`${PASSES.length} passes`);
  expect(textOf('CHANGELOG.md')).toContain(`${OPERATORS.size} operators`);
  expect(textOf('CHANGELOG.md')).toContain(`${PASSES.length} passes`);
});

test('the list of decisions is complete, in order, under their own titles', () => {
  const titles = globSync('docs/adr/0*.md', { cwd: root })
    .sort()
    .map(file => /^# (\d{4}) (.+)$/m.exec(textOf(file))!.slice(1));
  const listed = [...textOf('docs/adr/README.md').matchAll(/^\| \[(\d{4})\]\(\1-[\w-]+\.md\) \| (.+) \|$/gm)];
  expect(listed.map(match => match.slice(1))).toEqual(titles);
});

test('every command of npm that a document names is a script', () => {
  const { scripts } = JSON.parse(textOf('package.json')) as { scripts: Record<string, string> };
  const named = documents.flatMap(file =>
    [...textOf(file).matchAll(/npm run (?:-s )?([\w:]+)/g)].map(match => match[1]!),
  );
  expect(named.filter(name => !(name in scripts))).toEqual([]);
});

test('every command and option that the README shows is in the help', () => {
  const main = join(root, 'dist', 'src', 'cli', 'main.js');
  const shown = [...textOf('README.md').matchAll(/`cloister (run|release) MODEL ([^`]*)`/g)];
  expect(shown).toHaveLength(2);
  for (const [, command, options] of shown) {
    const help = execFileSync(process.execPath, [main, command!, '--help'], { encoding: 'utf8' });
    for (const [option] of options!.matchAll(/--\w+/g)) expect(help).toContain(option);
  }
});
