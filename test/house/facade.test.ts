import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join, sep } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { parsePolicy, policySchema } from '../../src/service/policy.ts';

const dist = join(import.meta.dirname, '..', '..', 'dist');
const built = (module: string): string => JSON.stringify(pathToFileURL(join(dist, module)).href);
const INLINED = ['src/base/zod.js', 'src/base/sha256.js', 'src/formats/inflate.js', 'sandbox/audit/ed25519.js'];

beforeAll(() => {
  expect(existsSync(join(dist, 'src', 'index.js')), 'run `npm run build` first').toBe(true);
});

/** Runs `code` in a fresh process and returns what it prints, read as JSON. */
function say(code: string): unknown {
  const root = join(dist, '..');
  return JSON.parse(
    execFileSync(process.execPath, ['--input-type=module', '--eval', code], { cwd: root, encoding: 'utf8' }),
  );
}

interface Loaded {
  readonly files: readonly (readonly [url: string, bytes: number])[];
  readonly builtins: readonly string[];
}

/** What an import of a built module loads: files by their place in `dist` (or as they are, outside of it), and parts of Node. */
function loadedBy(module: string): {
  readonly files: ReadonlyMap<string, number>;
  readonly builtins: readonly string[];
} {
  const { files, builtins } = say(`
    import { registerHooks } from 'node:module';
    const files = [];
    registerHooks({
      load(url, context, next) {
        const loaded = next(url, context);
        if (url.startsWith('file:')) files.push([url, loaded.source?.length ?? 0]);
        return loaded;
      },
    });
    const before = new Set(process.moduleLoadList);
    await import(${built(module)});
    const builtins = process.moduleLoadList.filter(name => !before.has(name)).map(name => name.replace(/^\\w+ /, ''));
    console.log(JSON.stringify({ files, builtins }));`) as Loaded;
  const place = (url: string): string => {
    const path = fileURLToPath(url);
    return path.startsWith(dist + sep) ? path.slice(dist.length + 1).replaceAll(sep, '/') : path;
  };
  return { files: new Map(files.map(([url, bytes]) => [place(url), bytes])), builtins };
}

describe('importing the facade', () => {
  const HEAVY = ['crypto', 'sqlite', 'child_process', 'net', 'worker_threads', 'zlib'];
  const facade = loadedBy('src/index.js');

  test('loads no package, only files of ours', () => {
    expect([...facade.files.keys()].filter(file => !/^(src|privacy|sandbox|native)\//.test(file))).toEqual([]);
  });

  test.each([
    ['the log, its keys and its curve', /^sandbox\/audit\/(?!actions|commitment)/],
    ['the ledger', /^privacy\/budget\//],
    ['the store', /^src\/store\//],
    ['the sandbox and its workers', /^sandbox\/(?!audit\/|binding|layers|limits|plugins\/(policy|kinds))/],
    ['the kernels', /^native\//],
    ['operators, passes and gradients', /^src\/graph\/(?!maps|dimension|element-types)/],
    ['the reader of models', /^src\/formats\/(index|json|safetensors|huggingface|onnx\/(?!tensor|external|limits))/],
    ['backends, plans and the scheduler', /^src\/engine\/(?!profile)/],
    ['mechanisms', /^privacy\/dp\/.*(mechanism|laplace)/],
  ])('loads no part of %s', (_, rooms) => {
    expect([...facade.files.keys()].filter(file => rooms.test(file))).toEqual([]);
  });

  test('loads no part of Node that takes long', () => {
    expect(facade.builtins.filter(name => HEAVY.includes(name))).toEqual([]);
  });

  test('stays small: 64 files, 450,000 bytes', () => {
    expect(facade.files.size).toBeLessThanOrEqual(64);
    expect([...facade.files.values()].reduce((sum, bytes) => sum + bytes, 0)).toBeLessThanOrEqual(450_000);
  });

  test('is watched by something that sees what other rooms load', () => {
    const audit = loadedBy('sandbox/audit/index.js');
    expect([...audit.files.keys()]).toEqual(
      expect.arrayContaining(['sandbox/audit/log.js', 'sandbox/audit/ed25519.js']),
    );
    expect(audit.builtins).toEqual(expect.arrayContaining(['crypto', 'sqlite']));
    expect(loadedBy('src/engine/index.js').files.size).toBeGreaterThan(60);
    const cli = [...loadedBy('src/cli/options.js').files.keys()];
    expect(cli.some(file => file.includes(join('node_modules', 'commander')))).toBe(true);
  });
});

describe('the built rooms', () => {
  test('share one class of errors, also with what is loaded later', () => {
    const said = say(`
      import { CloisterError, openCloister } from ${built('src/index.js')};
      import { Tensor } from ${built('src/tensor/index.js')};
      const caught = async run => { try { await run(); } catch (error) { return error instanceof CloisterError && error.code; } };
      console.log(JSON.stringify([
        await caught(() => Tensor.of('f32', [[1], [2, 3]])),
        await caught(() => openCloister({ dir: 'unused', scheduling: { limitThreads: -1 } })),
      ]));`);
    expect(said).toEqual(['SHAPE_MISMATCH', 'INVALID_ARGUMENT']);
  });
});

describe.each(INLINED)('%s', file => {
  test('imports nothing', () => {
    expect([...loadedBy(file).files.keys()]).toEqual([file]);
  });

  test('carries the licence of what it holds', () => {
    expect(readFileSync(join(dist, file), 'utf8')).toMatch(/Permission is hereby granted[\s\S]*\*\/\n$/);
  });
});

describe('the schemas of the built package', () => {
  const WRONG = { isolation: 'cell', rawOutputs: 1, limits: { wallMs: 0.5, cpuMs: 'x' }, budgets: { '': {} }, more: 1 };

  test('refuse with the messages that zod has as a whole', () => {
    const said = say(`
      import { parsePolicy } from ${built('src/index.js')};
      try { parsePolicy(${JSON.stringify(WRONG)}); } catch ({ message }) { console.log(JSON.stringify(message)); }`);
    expect(said).toMatch(/isolation: Invalid option: expected one of .*limits\.cpuMs: Invalid input: expected number/);
    expect(() => parsePolicy(WRONG)).toThrow(said as string);
  });

  test('are schemas to a zod that the caller brings', () => {
    const said = say(`
      import { z } from 'zod';
      import { policySchema } from ${built('src/index.js')};
      const outer = z.strictObject({ policy: policySchema });
      const { error } = outer.safeParse({ policy: { isolation: 'cell' } });
      console.log(JSON.stringify([
        policySchema instanceof z.ZodType,
        outer.parse({ policy: {} }).policy.isolation,
        error instanceof z.ZodError && error.issues[0].path,
        z.toJSONSchema(policySchema, { io: 'input', unrepresentable: 'any' }),
      ]));`);
    const schema = z.toJSONSchema(policySchema, { io: 'input', unrepresentable: 'any' });
    expect(said).toEqual([true, 'process', ['policy', 'isolation'], JSON.parse(JSON.stringify(schema))]);
  });
});
