import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, describe, expect, test } from 'vitest';
import { kernelInfo, nativeStatus } from '../../native/index.ts';

const root = join(import.meta.dirname, '..', '..');
const entry = join(root, 'native', 'index.ts');
const native = kernelInfo();

/** Runs `code`, in which `native` is the module, in a Node of its own, and returns what it printed. */
function inChild(code: string, env: Record<string, string>): { status: number | null; stdout: string; stderr: string } {
  const module = `import * as native from ${JSON.stringify(entry)};\n${code}`;
  const { CLOISTER_ISA: _, CLOISTER_NATIVE: __, ...rest } = process.env;
  return spawnSync(process.execPath, ['--input-type=module', '-e', module], {
    encoding: 'utf8',
    env: { ...rest, ...env },
  });
}

/** What a checkout has before anything is built, in a folder of its own. */
function packageCopy(): string {
  const folder = mkdtempSync(join(tmpdir(), 'cloister-native-'));
  const sources = (from: string): boolean => !/[\\/](build|prebuilds)$/.test(from);
  cpSync(join(root, 'native'), join(folder, 'native'), { recursive: true, filter: sources });
  cpSync(join(root, 'src', 'base'), join(folder, 'src', 'base'), { recursive: true });
  cpSync(join(root, 'package.json'), join(folder, 'package.json'));
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'), 'junction');
  return folder;
}

const REPORT = 'console.log(JSON.stringify({ info: native.kernelInfo() ?? null, status: native.nativeStatus() }));';

describe('the loader', () => {
  test('CLOISTER_NATIVE=off turns the binary off', () => {
    const { info, status } = JSON.parse(inChild(REPORT, { CLOISTER_NATIVE: 'off' }).stdout);
    expect(info).toBeNull();
    expect(status.kind).toBe('off');
    const { stdout } = inChild("try { native.forceIsa('scalar') } catch (error) { console.log(error.code) }", {
      CLOISTER_NATIVE: 'off',
    });
    expect(stdout.trim()).toBe('MISSING_DEPENDENCY');
  });

  test('without a binary, or with a broken one, there are no kernels, and the status says what mends it', () => {
    const folder = packageCopy();
    try {
      const code = `import * as native from ${JSON.stringify(join(folder, 'native', 'index.ts'))};\n${REPORT}`;
      const report = () =>
        JSON.parse(
          spawnSync(process.execPath, ['--input-type=module', '-e', code], {
            encoding: 'utf8',
            env: { ...process.env, CLOISTER_NATIVE: '' },
          }).stdout,
        );
      expect(report()).toMatchObject({ info: null, status: { kind: 'missing', mend: 'npm run build:native' } });
      expect(report().status.reason).toMatch(/No native build was found/);
      cpSync(join(root, 'package.json'), join(folder, 'native', 'build', 'Release', 'cloister.node'));
      expect(report()).toMatchObject({ info: null, status: { kind: 'missing', mend: 'npm run build:native' } });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  describe.skipIf(native === undefined)('with a binary', () => {
    test('says where it is and what runs', () => {
      expect(nativeStatus().kind).toBe('loaded');
      expect(native!.supported).toContain(native!.isa);
      expect(native!.supported.at(-1)).toBe('scalar');
      expect(native!.gemmPanel).toBeGreaterThan(0);
      expect(Number.isInteger(native!.programVersion)).toBe(true);
    });

    test('CLOISTER_ISA chooses each row that the CPU runs', () => {
      for (const isa of native!.supported) {
        const { info } = JSON.parse(inChild(REPORT, { CLOISTER_ISA: isa }).stdout);
        expect(info.isa).toBe(isa);
        expect(info.supported).toEqual(native!.supported);
      }
    });

    test('CLOISTER_ISA with any other name is an error that lists the rows', () => {
      const code =
        'try { native.loadNative(); console.log("served") } catch (error) { console.log(error.code, error.message) }';
      for (const isa of ['sse9', 'AVX2', process.arch === 'arm64' ? 'avx2' : 'neon']) {
        const { stdout } = inChild(code, { CLOISTER_ISA: isa });
        expect(stdout).toMatch(/^INVALID_ARGUMENT CLOISTER_ISA: expected one of /);
        for (const name of native!.supported) expect(stdout).toContain(name);
        expect(stdout).toContain(JSON.stringify(isa));
      }
    });

    test('two worker threads at a time load it, compute, and go, again and again', async () => {
      const code = `
        const { parentPort } = require('node:worker_threads');
        import(${JSON.stringify(entry)}).then(({ loadNative }) => {
          const c = new Float32Array(40 * 40);
          const a = new Float32Array(40 * 40).fill(1);
          for (let i = 0; i < 50; i++) loadNative().gemm({ m: 40, n: 40, k: 40 }, a, a, c);
          parentPort.postMessage(c.every(v => v === 40));
        });`;
      const run = (): Promise<boolean> =>
        new Promise((resolve, reject) => {
          let answer = false;
          const worker = new Worker(code, { eval: true });
          worker.on('message', value => {
            answer = value as boolean;
          });
          worker.on('error', reject);
          worker.on('exit', () => resolve(answer));
        });
      for (let round = 0; round < 3; round++) expect(await Promise.all([run(), run()])).toEqual([true, true]);
    });

    test('rows share no code: the library of an ISA defines its table and nothing else to link to', context => {
      const objects = join(root, 'native', 'build', 'Release', 'obj.target');
      const names = native!.supported.filter(isa => isa !== 'scalar');
      for (const isa of names) {
        const object = join(objects, `kernels_${isa}`, 'kernels', `${isa}.o`);
        const nm = spawnSync('nm', ['--defined-only', '--extern-only', object], { encoding: 'utf8' });
        if (!existsSync(object) || nm.status !== 0) return context.skip('no object files or no nm here');
        expect(nm.stdout.trim().split('\n')).toEqual([expect.stringMatching(/Kernels/)]);
      }
    });
  });
});

describe('the build', () => {
  const folder = packageCopy();
  afterAll(() => rmSync(folder, { recursive: true }));

  const build = (env: Record<string, string>) =>
    spawnSync(process.execPath, [join(folder, 'native', 'build.ts')], {
      encoding: 'utf8',
      env: { ...process.env, CLOISTER_NATIVE: '', ...env },
    });
  const unconfined = process.platform === 'linux' ? ', and workers are not confined by the system' : '';
  const oneLine = (missing: string): RegExp =>
    new RegExp(
      `^cloister: native kernels were not built: ${missing}; everything runs on the reference backend${unconfined}\\. ` +
        'To build later: npm run build:native\\n$',
    );

  test.skipIf(process.platform === 'win32')('without a compiler succeeds, and says so in one line', () => {
    const { status, stdout, stderr } = build({ CXX: '/nonexistent/g++' });
    expect({ status, stdout }).toEqual({ status: 0, stdout: '' });
    expect(stderr).toMatch(
      oneLine('a C\\+\\+ compiler \\(/nonexistent/g\\+\\+\\)( and make)?( and python3)? not found'),
    );
  });

  test.skipIf(process.platform === 'win32')('names everything that is missing on a bare machine', () => {
    const { CXX: _, ...env } = process.env;
    const PATH = [join(folder, 'empty'), dirname(process.execPath)].join(delimiter);
    const { status, stderr } = spawnSync(process.execPath, [join(folder, 'native', 'build.ts')], {
      encoding: 'utf8',
      env: { ...env, CLOISTER_NATIVE: '', PATH },
    });
    expect(status).toBe(0);
    expect(stderr).toMatch(oneLine('a C\\+\\+ compiler \\(g\\+\\+ or clang\\+\\+\\) and make and python3 not found'));
  });

  test.skipIf(process.platform === 'win32' || native === undefined)(
    'when the compiler fails succeeds, says so in one line, and keeps the log',
    () => {
      for (const name of readdirSync(join(folder, 'native'), { recursive: true, encoding: 'utf8' })) {
        if (name.endsWith('.cc')) writeFileSync(join(folder, 'native', name), '#error "this is not C++"\n');
      }
      const { status, stderr } = build({});
      expect(status).toBe(0);
      expect(stderr).toMatch(oneLine('the compiler failed \\(log: .*build\\.log\\)'));
      expect(readFileSync(join(folder, 'native', 'build', 'build.log'), 'utf8')).toContain('this is not C++');
    },
    60_000,
  );

  test('is skipped with CLOISTER_NATIVE=off', () => {
    expect(build({ CLOISTER_NATIVE: 'off', CXX: '/nonexistent/g++' })).toMatchObject({
      status: 0,
      stdout: '',
      stderr: '',
    });
  });
});
