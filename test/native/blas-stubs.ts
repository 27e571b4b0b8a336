/**
 * Small shared libraries that stand for OpenBLAS, compiled where there is a compiler.
 * @module
 */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Whether libraries can be compiled and opened here. */
export const canCompile: boolean =
  process.platform !== 'win32' && spawnSync('cc', ['--version'], { stdio: 'ignore' }).status === 0;

/** cblas_sgemm as it is defined, under `name`, with integers of type `int_type`. `after` is run at its end. */
const product = (name: string, int_type: string, after = ''): string => `
  void ${name}(int order, int ta, int tb, ${int_type} m, ${int_type} n, ${int_type} k, float alpha, const float *a,
               ${int_type} lda, const float *b, ${int_type} ldb, float beta, float *c, ${int_type} ldc) {
    for (long i = 0; i < m; i++) for (long j = 0; j < n; j++) {
      float sum = 0;
      for (long p = 0; p < k; p++)
        sum += (ta == 112 ? a[p * lda + i] : a[i * lda + p]) * (tb == 112 ? b[j * ldb + p] : b[p * ldb + j]);
      c[i * ldc + j] = (beta == 0 ? 0 : beta * c[i * ldc + j]) + alpha * sum;
    }
    ${after}
  }`;

const config = (text: string): string => `char *openblas_get_config(void) { return "${text}"; }`;

/** The sources of the libraries. */
const SOURCES = {
  /** Says in its environment how many threads it was given. */
  good: `
    #include <stdio.h>
    #include <stdlib.h>
    ${product('cblas_sgemm', 'int')}
    ${config('OpenBLAS 0.0.1 STUB')}
    char *openblas_get_corename(void) { return "Naive"; }
    void openblas_set_num_threads(int threads) {
      char text[16];
      snprintf(text, sizeof text, "%d", threads);
      setenv("STUB_THREADS", text, 1);
    }`,
  bare: product('cblas_sgemm', 'int'),
  empty: 'int nothing_of_use = 1;',
  suffixed: product('cblas_sgemm64_', 'long'),
  wide: product('cblas_sgemm', 'long') + config('OpenBLAS 0.0.1 USE64BITINT STUB'),
  wrong: product('cblas_sgemm', 'int', 'c[0] += 1;'),
  spilling: product('cblas_sgemm', 'int', 'c[n] = 0;'),
} as const;

/** Compiles a library into `folder`, with `flags` besides, and returns its path. */
export function compileStub(folder: string, name: keyof typeof SOURCES, flags: readonly string[] = []): string {
  const [source, library] = [join(folder, `${name}.c`), join(folder, `${name}.so`)];
  writeFileSync(source, SOURCES[name]);
  const { status, stderr } = spawnSync('cc', ['-shared', '-fPIC', '-O1', ...flags, source, '-o', library], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`cc: ${stderr}`);
  return library;
}
