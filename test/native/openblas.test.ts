import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { type MatrixProduct, nativeStatus, type OpenBlas, openBlas } from '../../native/index.ts';
import { canCompile, compileStub } from './blas-stubs.ts';
import { numbers } from './program-seeds.ts';

const entry = join(import.meta.dirname, '..', '..', 'native', 'index.ts');
const isLoaded = nativeStatus().kind === 'loaded';
const before = process.env['CLOISTER_OPENBLAS'];
const folder = mkdtempSync(join(tmpdir(), 'cloister-blas-'));
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => name(before));

function name(library: string | undefined): void {
  if (library === undefined) delete process.env['CLOISTER_OPENBLAS'];
  else process.env['CLOISTER_OPENBLAS'] = library;
}

/** What `openBlas` says of `library`. */
function opened(library: string): ReturnType<typeof openBlas> {
  name(library);
  return openBlas();
}

function libraryAt(path: string): OpenBlas {
  const status = opened(path);
  if (status.kind !== 'loaded') expect.fail(status.reason);
  return status.library;
}

const a = Float32Array.of(1, 2, 3, 4);
const product = (more: Partial<MatrixProduct> = {}): MatrixProduct => ({
  m: 2,
  n: 2,
  k: 2,
  alpha: 1,
  a: { data: a, offset: 0, ld: 2, transpose: false },
  b: { data: a, offset: 0, ld: 2, transpose: true },
  beta: 0,
  c: { data: new Float32Array(4), offset: 0, ld: 2 },
  ...more,
});

test('without the native binary no library is opened', () => {
  const code = `const { openBlas } = await import(${JSON.stringify(entry)}); console.log(JSON.stringify(openBlas()));`;
  const env = { ...process.env, CLOISTER_NATIVE: 'off' };
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', code], { env, encoding: 'utf8' });
  expect(JSON.parse(stdout)).toMatchObject({ kind: 'missing', mend: 'unset CLOISTER_NATIVE' });
});

describe.skipIf(!isLoaded)('a library that is not there', () => {
  test('is missing, with its name', () => {
    const status = opened(join(folder, 'nowhere.so'));
    expect(status).toMatchObject({ kind: 'missing', reason: expect.stringContaining('nowhere.so') });
  });

  test('or is no library is missing, with what the loader says', () => {
    const path = join(folder, 'text.so');
    writeFileSync(path, 'not a library');
    expect(opened(path)).toMatchObject({ kind: 'missing', reason: expect.stringContaining('text.so') });
  });

  test('in the usual places is there, or missing with the command that brings it', () => {
    const status = opened('');
    if (status.kind === 'loaded') expect(status.library.path).toMatch(/openblas/);
    else expect(status).toMatchObject({ kind: 'missing', mend: expect.stringMatching(/install .*openblas/) });
  });
});

describe.skipIf(!isLoaded || !canCompile)('a library of no use', () => {
  test.each([
    ['empty', /it has no cblas_sgemm/],
    ['suffixed', /64-bit integers \(ILP64\)/],
    ['wide', /64-bit integers \(USE64BITINT\)/],
    ['wrong', /computes a small product wrongly/],
    ['spilling', /computes a small product wrongly/],
  ] as const)('is refused: %s', (stub, why) => {
    const path = compileStub(folder, stub);
    expect(opened(path)).toMatchObject({
      kind: 'unusable',
      reason: expect.stringMatching(why),
      mend: expect.stringContaining('CLOISTER_OPENBLAS'),
    });
    // The same way in, and one that is of use.
    expect(opened(compileStub(folder, 'good')).kind).toBe('loaded');
  });
});

describe.skipIf(!isLoaded || !canCompile)('a library that is opened', () => {
  const path = canCompile ? compileStub(folder, 'good') : '';

  test('says what it is, and one that says nothing is taken as well', () => {
    expect(libraryAt(path)).toMatchObject({ path, config: 'OpenBLAS 0.0.1 STUB', core: 'Naive' });
    const bare = libraryAt(compileStub(folder, 'bare'));
    expect(bare).toMatchObject({ config: '', core: '' });
    const one = product();
    bare.multiply(one);
    expect([...one.c.data]).toEqual([5, 11, 11, 25]);
  });

  test('is given as many threads as kernels have', () => {
    const code = `const { openBlas, threadInfo } = await import(${JSON.stringify(entry)});
      console.log(openBlas().kind, threadInfo().limit, process.env.STUB_THREADS);`;
    const env = { ...process.env, CLOISTER_OPENBLAS: path, CLOISTER_THREADS: '3' };
    const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', code], { env, encoding: 'utf8' });
    expect(stdout).toBe('loaded 3 3\n');
  });

  test('serves several threads at once, and stays when one of them ends', async () => {
    const code = `
      const { parentPort, workerData } = require('node:worker_threads');
      import(workerData).then(({ openBlas }) => {
        const { library } = openBlas();
        const data = new Float32Array(64 * 64).fill(1);
        const c = new Float32Array(64 * 64);
        const of = { data, offset: 0, ld: 64, transpose: false };
        for (let i = 0; i < 50; i++)
          library.multiply({ m: 64, n: 64, k: 64, alpha: 1, a: of, b: of, beta: 0, c: { data: c, offset: 0, ld: 64 } });
        parentPort.postMessage(c.every(value => value === 64));
      });`;
    const library = libraryAt(path);
    const workers = [1, 2, 3].map(() => new Worker(code, { eval: true, workerData: entry, env: { ...process.env } }));
    const answers = workers.map(worker => new Promise(done => worker.once('message', done).once('error', done)));
    const ends = workers.map(worker => new Promise(done => worker.once('exit', done)));
    expect(await Promise.all(answers)).toEqual([true, true, true]);
    await Promise.all(ends);
    const one = product();
    library.multiply(one);
    expect([...one.c.data]).toEqual([5, 11, 11, 25]);
  });
});

const libraries: Record<string, () => OpenBlas> = {};
if (isLoaded && canCompile) libraries['a stub'] = () => libraryAt(compileStub(folder, 'good'));
const real = openBlas();
if (real.kind === 'loaded') libraries['OpenBLAS of this machine'] = () => real.library;

describe.each(Object.entries(libraries))('products by %s', (_name, open) => {
  const library = open();

  test('are those of the definition, and nothing but C is written', () => {
    const size = fc.integer({ min: 1, max: 40 });
    const slack = fc.integer({ min: 0, max: 5 });
    const factor = fc.constantFrom(0, 1, -1, 0.5, 2);
    fc.assert(
      fc.property(
        fc.record({ m: size, n: size, k: size, alpha: factor, beta: factor, seed: fc.nat() }),
        fc.tuple(slack, slack, slack, slack, slack, slack),
        fc.tuple(fc.boolean(), fc.boolean()),
        ({ m, n, k, alpha, beta, seed }, [pa, pb, pc, oa, ob, oc], [ta, tb]) => {
          const next = numbers(seed + 1);
          const matrix = (rows: number, columns: number, pad: number, offset: number, transpose: boolean) => {
            const [high, wide] = transpose ? [columns, rows] : [rows, columns];
            const ld = wide + pad;
            return { data: Float32Array.from({ length: offset + high * ld }, next), offset, ld, transpose };
          };
          const [left, right] = [matrix(m, k, pa, oa, ta), matrix(k, n, pb, ob, tb)];
          const c = matrix(m, n, pc, oc, false);
          const was = c.data.slice();
          const at = ({ data, offset, ld, transpose }: typeof c, row: number, column: number): number =>
            data[offset + (transpose ? column * ld + row : row * ld + column)]!;
          library.multiply({ m, n, k, alpha, a: left, b: right, beta, c });
          const unit = (k + 3) * 2 ** -23;
          for (let i = 0; i < c.data.length; i++) {
            const [row, column] = [Math.floor((i - oc) / c.ld), (i - oc) % c.ld];
            if (i < oc || column >= n) {
              expect(c.data[i]).toBe(was[i]);
              continue;
            }
            let [sum, magnitude] = [beta * was[i]!, Math.abs(beta * was[i]!)];
            for (let p = 0; p < k; p++) {
              const term = alpha * at(left, row, p) * at(right, p, column);
              sum += term;
              magnitude += Math.abs(term);
            }
            expect(Math.abs(c.data[i]! - sum)).toBeLessThanOrEqual(unit * magnitude + 1e-30);
          }
        },
      ),
      { numRuns: 100 },
    );
  });

  test('with beta 0 do not read C', () => {
    const one = product({ c: { data: new Float32Array(4).fill(Number.NaN), offset: 0, ld: 2 } });
    library.multiply(one);
    expect([...one.c.data]).toEqual([5, 11, 11, 25]);
  });

  test('are computed exactly where the arrays are large enough, and refused untouched where they are not', () => {
    const small = fc.integer({ min: 0, max: 6 });
    fc.assert(
      fc.property(fc.array(small, { minLength: 9, maxLength: 9 }), fc.boolean(), fc.boolean(), (sizes, ta, tb) => {
        const [m, n, k, lda, ldb, ldc, oa, ob, oc] = sizes as [
          number,
          number,
          number,
          number,
          number,
          number,
          number,
          number,
          number,
        ];
        const lengths = { a: 20, b: 20, c: 20 };
        const needs = (rows: number, columns: number, ld: number, offset: number): number =>
          Math.min(rows, columns, ld) > 0 && ld >= columns ? offset + (rows - 1) * ld + columns : Infinity;
        const fits =
          needs(ta ? k : m, ta ? m : k, lda, oa) <= lengths.a &&
          needs(tb ? n : k, tb ? k : n, ldb, ob) <= lengths.b &&
          needs(m, n, ldc, oc) <= lengths.c;
        const c = new Float32Array(lengths.c).fill(7);
        const run = (): void =>
          library.multiply({
            ...{ m, n, k, alpha: 1, beta: 0 },
            a: { data: new Float32Array(lengths.a), offset: oa, ld: lda, transpose: ta },
            b: { data: new Float32Array(lengths.b), offset: ob, ld: ldb, transpose: tb },
            c: { data: c, offset: oc, ld: ldc },
          });
        if (fits) run();
        else expect(run).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
        expect(c.filter(value => value === 0)).toHaveLength(fits ? m * n : 0);
      }),
      { numRuns: 1_000 },
    );
  });

  const detached = (): Float32Array => {
    const data = new Float32Array(4);
    data.buffer.transfer();
    return data;
  };
  const of = (data: unknown) => ({ data: data as Float32Array, offset: 0, ld: 2, transpose: false });
  const both = new Float32Array(8);
  const resizable = new ArrayBuffer(16, { maxByteLength: 64 });
  const outside = new Float32Array(resizable, 4, 2);

  test.each<[string, Partial<MatrixProduct>, RegExp]>([
    ['a size of 0', { m: 0 }, /from 1 to 2\^31-1/],
    ['a negative size', { n: -2 }, /from 1 to 2\^31-1/],
    ['a size that is no integer', { k: 1.5 }, /from 1 to 2\^31-1/],
    ['a size that is NaN', { k: Number.NaN }, /from 1 to 2\^31-1/],
    ['a size beyond 32 bits', { m: 2 ** 31 }, /from 1 to 2\^31-1/],
    ['a size that would wrap to a small one', { m: 2 ** 32 + 2 }, /from 1 to 2\^31-1/],
    ['a size that is text', { m: '2' as unknown as number }, /from 1 to 2\^31-1/],
    ['a leading dimension beyond 32 bits', { a: { ...of(a), ld: 2 ** 31 } }, /from 1 to 2\^31-1/],
    ['sizes whose product wraps', { m: 2 ** 31 - 1, a: { ...of(a), ld: 2 ** 31 - 1 } }, /too small/],
    ['a leading dimension below the columns', { b: { ...of(a), ld: 1 } }, /ldb/],
    ['an offset that is negative', { a: { ...of(a), offset: -1 } }, /offsets/],
    ['an offset that is no integer', { c: { ...of(both), offset: 0.5 } }, /offsets/],
    ['an offset beyond the array', { a: { ...of(a), offset: 1 } }, /a is detached or too small/],
    ['an offset beyond 2^53', { a: { ...of(a), offset: 2 ** 63 } }, /offsets/],
    ['A in a detached buffer', { a: of(detached()) }, /a is detached/],
    ['B in a detached buffer', { b: of(detached()) }, /b is detached/],
    ['C in a detached buffer', { c: of(detached()) }, /c is detached/],
    ['an array that is out of bounds', { a: of(outside) }, /a is detached/],
    ['other numbers', { a: of(new Float64Array(4)) }, /a is detached or too small/],
    ['a plain array', { b: of([1, 2, 3, 4]) }, /b is detached or too small/],
    ['a flag that is no boolean', { a: { ...of(a), transpose: 1 as unknown as boolean } }, /booleans/],
    ['a factor that is no number', { alpha: null as unknown as number }, /numbers/],
    ['C over A', { a: of(both), c: { ...of(both), offset: 1 } }, /overlap/],
    ['C over B', { b: of(both), c: { ...of(both), offset: 3 } }, /overlap/],
  ])('are refused: %s', (_what, more, why) => {
    resizable.resize(4);
    const c = new Float32Array(4).fill(7);
    const error = { code: 'INVALID_ARGUMENT', message: expect.stringMatching(why) };
    expect(() => library.multiply(product({ c: { data: c, offset: 0, ld: 2 }, ...more }))).toThrow(
      expect.objectContaining(error),
    );
    expect([...c]).toEqual([7, 7, 7, 7]);
    expect([...both]).toEqual(new Array(8).fill(0));
    library.multiply(product({ c: { data: c, offset: 0, ld: 2 } }));
    expect([...c]).toEqual([5, 11, 11, 25]);
  });

  test('may be of parts of one array that lie beside each other', () => {
    const data = Float32Array.of(1, 2, 3, 4, 0, 0, 0, 0);
    const part = { data, offset: 0, ld: 2, transpose: false };
    library.multiply(product({ a: part, b: { ...part, transpose: true }, c: { ...part, offset: 4 } }));
    expect([...data]).toEqual([1, 2, 3, 4, 5, 11, 11, 25]);
  });
});
