/**
 * Runs the example of every docstring: each `ts` fence below an `@example` is one test, named after its place.
 *
 * An example is a module. Names that it uses and does not declare come from the public indexes, those of its own room first,
 * so examples stay short and can use nothing that a reader could not import. A statement on one line with a literal in the
 * comment behind it, as in `spendOf(0.5); // 500000: integers only`, is checked against that literal; an object or array may
 * leave things out with `…`. Each example runs in a folder of its own that holds `digits.onnx`.
 * @module
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { withCheck } from './checked-lines.ts';

interface Example {
  readonly file: string;
  readonly line: number;
  readonly code: string;
}

const root = join(import.meta.dirname, '..', '..');
// Below this folder, so that the relative imports of the generated modules reach the sources.
const folder = mkdtempSync(join(import.meta.dirname, 'examples-'));
const home = process.cwd();

afterAll(() => {
  process.chdir(home);
  rmSync(folder, { recursive: true, force: true });
});

const slashes = (path: string): string => path.split(sep).join('/');

/** The sources of the library, as paths from the root. */
const sources = ['src/**/*.ts', 'privacy/**/*.ts', 'sandbox/**/*.ts', 'native/*.ts']
  .flatMap(pattern => globSync(pattern, { cwd: root }))
  .map(slashes)
  .sort();

/** What each public index exports at run time: path from the root -> names. */
const indexes = new Map<string, readonly string[]>();
for (const file of sources.filter(source => source.endsWith('/index.ts')))
  indexes.set(file, Object.keys((await import(join(root, file))) as object));
const builtins = { readFile: 'node:fs/promises', writeFile: 'node:fs/promises' } as const;

function examplesOf(file: string): Example[] {
  const found: Example[] = [];
  const text = readFileSync(join(root, file), 'utf8');
  for (const match of text.matchAll(/@example\b(?:(?!@\w|\*\/)[\s\S])*?\* ```ts\n([\s\S]*?)^\s*\* ```$/gm)) {
    const code = match[1]!.replaceAll(/^\s*\* ?/gm, '');
    found.push({ file, line: text.slice(0, match.index).split('\n').length, code });
  }
  return found;
}

/** The public index of the room that holds `file`. */
function indexOf(file: string): string | undefined {
  for (let at = dirname(file); at !== '.'; at = dirname(at)) if (indexes.has(`${at}/index.ts`)) return `${at}/index.ts`;
  return undefined;
}

/** Where an example of `file` takes each public name from: its own room, then the facade, then the other rooms. */
function origins(file: string): Map<string, string> {
  const from = new Map<string, string>(Object.entries(builtins));
  const own = indexOf(file);
  const order = [...indexes.keys()].filter(index => index !== own && index !== 'src/index.ts');
  for (const index of [...order, 'src/index.ts', ...(own ? [own] : [])])
    for (const name of indexes.get(index)!) from.set(name, index);
  return from;
}

/** The example as a module that stands in `at`. */
function moduleOf({ file, code }: Example, at: string): string {
  const bare = code.replaceAll(/'(?:[^'\\\n]|\\.)*'|\/\/.*$/gm, '');
  const declares = (name: string): boolean => new RegExp(`\\b(?:const|let|function|class) ${name}\\b`).test(bare);
  const uses = (name: string): boolean => new RegExp(`(?<![.\\w])${name}\\b(?!:)`).test(bare);
  const imports = [...origins(file)]
    .filter(([name]) => uses(name) && !declares(name))
    .map(([name, from]) => {
      const path = from.startsWith('node:') ? from : slashes(relative(at, join(root, from)));
      return `import { ${name} } from '${path}';`;
    });
  const body = code.split('\n').map(withCheck);
  return ["import assert from 'node:assert/strict';", ...imports, '', ...body].join('\n');
}

const examples = sources.flatMap(examplesOf);

const placeOf = ({ file, line }: Example): string => `${file}:${line}`;
const folderOf = (example: Example): string => join(folder, placeOf(example).replaceAll(/[^\w-]/g, '-'));

beforeAll(() => {
  for (const example of examples) {
    const at = folderOf(example);
    mkdirSync(at);
    copyFileSync(join(root, 'examples', 'digits', 'digits.onnx'), join(at, 'digits.onnx'));
    writeFileSync(join(at, 'example.ts'), moduleOf(example, at));
  }
});

describe('the example of every docstring runs', () => {
  test.each(examples.map(example => [placeOf(example), example] as const))('%s', async (_, example) => {
    process.chdir(folderOf(example));
    await expect(import(join(folderOf(example), 'example.ts'))).resolves.toBeDefined();
  });

  test('as TypeScript, with the strictness of the library', () => {
    const config = {
      extends: '../../tsconfig.json',
      compilerOptions: { noUnusedLocals: false },
      include: ['*/example.ts'],
    };
    mkdirSync(join(folder, 'control'));
    writeFileSync(join(folder, 'control', 'example.ts'), "const wrong: number = 'text';\nexport { wrong };\n");
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config));
    const { stdout } = spawnSync(
      process.execPath,
      [join(root, 'node_modules/typescript/bin/tsc'), '-p', folder, '--pretty', 'false'],
      {
        encoding: 'utf8',
      },
    );
    // What the sources themselves have is for `npm run check` to say. The control shows that errors are heard.
    const heard = stdout.split('\n').filter(line => line.includes('example.ts('));
    expect(heard).toEqual([expect.stringMatching(/control\/example\.ts\(1,7\): error TS2322/)]);
  });

  test('no `ts` fence of an `@example` is overlooked', () => {
    const fences = sources.map(file => readFileSync(join(root, file), 'utf8').split('@example').length - 1);
    expect(examples).toHaveLength(fences.reduce((sum, count) => sum + count, 0));
  });

  test('a wrong value is caught', () => {
    expect(withCheck('spendOf(0.5); // 500000: integers')).toBe('assert.deepStrictEqual(spendOf(0.5), 500000);');
    expect(withCheck("const { ok } = f(); // { kind: 'x', … }")).toBe(
      "const { ok } = f(); assert.partialDeepStrictEqual(ok, { kind: 'x' });",
    );
    expect(withCheck('tree.root(); // 32 bytes')).toBe('tree.root(); // 32 bytes');
    expect(withCheck('g(); // undefinedName')).toBe('g(); // undefinedName');
  });
});
