import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const root = join(import.meta.dirname, '..', '..');
const MODEL = join(root, 'examples', 'digits', 'digits.onnx');

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'cloister-consumer-'));
  npm(['pack', '--ignore-scripts', '--pack-destination', folder], root);
  const [tarball] = readdirSync(folder).filter(name => name.endsWith('.tgz'));
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'consumer', private: true, type: 'module' }));
  npm(['install', '--prefer-offline', '--no-audit', '--no-fund', `./${tarball}`], folder);
}, 300_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function npm(args: readonly string[], cwd: string): string {
  return execFileSync('npm', [...args], {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    shell: process.platform === 'win32',
  });
}

const consumer = (code: string): string =>
  execFileSync(process.execPath, ['--no-node-snapshot', '--input-type=module', '--eval', code], {
    cwd: folder,
    encoding: 'utf8',
  });

describe('the packed package, installed into an empty folder', () => {
  test('brings no Node, no compiler and no test tool to its consumer', () => {
    const installed = readdirSync(join(folder, 'node_modules'));
    expect(installed).toContain('cloister');
    expect(
      installed.filter(name =>
        /^node-(linux|win|darwin|bin)|^node$|^typescript$|^vitest$|^esbuild$|^node-gyp$|^vite$|^preact$|^uplot$|^playwright/.test(
          name,
        ),
      ),
    ).toEqual([]);
    expect(existsSync(join(folder, 'node_modules', '.bin', 'node'))).toBe(false);
  });

  test('holds what it needs and nothing of the repository beside it', () => {
    const files = readdirSync(join(folder, 'node_modules', 'cloister'));
    expect(
      files.filter(name =>
        ['test', 'bench', 'examples', 'src', 'sandbox', 'privacy', '.ci', 'node_modules'].includes(name),
      ),
    ).toEqual([]);
    expect(files).toEqual(expect.arrayContaining(['dist', 'package.json', 'README.md', 'LICENSE']));
    expect(statSync(join(folder, 'node_modules', 'cloister', 'dist', 'guest.js')).size).toBeLessThan(1_000_000);
    const page = readdirSync(join(folder, 'node_modules', 'cloister', 'dist', 'src', 'web', 'static'));
    expect(page).toEqual(expect.arrayContaining(['assets', 'index.html', 'licences.txt']));
  });

  test('every subpath imports, and a deep path does not', () => {
    const rooms = [
      '',
      '/tensor',
      '/graph',
      '/formats',
      '/engine',
      '/native',
      '/store',
      '/sandbox',
      '/audit',
      '/dp',
      '/budget',
      '/web',
    ];
    const said =
      consumer(`for (const room of ${JSON.stringify(rooms)}) console.log(Object.keys(await import('cloister' + room)).length > 0);
      await import('cloister/dist/src/index.js').catch(error => console.log(error.code));`);
    expect(said.trim().split('\n')).toEqual([...rooms.map(() => 'true'), 'ERR_PACKAGE_PATH_NOT_EXPORTED']);
  });

  test('the suites for plugin authors are there, and ask for the test tools that they need', () => {
    expect(existsSync(join(folder, 'node_modules', 'cloister', 'dist', 'test', 'suites', 'index.d.ts'))).toBe(true);
    expect(readdirSync(join(folder, 'node_modules', 'cloister', 'dist', 'test')).sort()).toEqual([
      'conformance',
      'suites',
    ]);
    const said = consumer(
      `await import('cloister/testing').catch(error => console.log(error.code, /'(vitest|fast-check)'/.test(error.message)));`,
    );
    expect(said.trim()).toBe('ERR_MODULE_NOT_FOUND true');
  });

  test('importing the facade loads no isolate, no database and no addon', () => {
    const said = consumer(`await import('cloister');
      console.log(process.report.getReport().sharedObjects.filter(name => /isolated|sqlite|cloister[^/]*\\.node/.test(name)).length);`);
    expect(said.trim()).toBe('0');
  });

  test('runs the main job', () => {
    const said = consumer(`
      import { openCloister, histogram } from 'cloister';
      await using cloister = await openCloister({ dir: 'data', policy: { rawOutputs: 'allow', budgets: { a: { epsilon: 1 } } } });
      const model = await cloister.load(${JSON.stringify(MODEL)});
      const image = new Float32Array(784);
      const { outputs } = await model.run({ image }, { actor: 'a', purpose: 'p' });
      const reply = await model.release({ records: [{ subject: 's', inputs: { image } }], statistic: histogram({ of: 'argmax', classes: 10 }), epsilon: 0.5, scope: 'a' });
      console.log(outputs.logits.shape.join(), reply.kind);`);
    expect(said.trim()).toBe('1,10 released');
  });

  test('its command line answers', () => {
    const bin = join(folder, 'node_modules', '.bin', 'cloister');
    const version = execFileSync(process.execPath, [bin, '--version'], { cwd: folder, encoding: 'utf8' });
    expect(version).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});
