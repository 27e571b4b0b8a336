/**
 * Builds the binary of this platform into `native/prebuilds/<platform>-<arch>/`, which the published package carries. A
 * release runs it on each platform and gathers the folders: a Node-API binary serves every Node from 24 on. It builds
 * from nothing, so the binary in `native/build/` goes; `npm run build:native` brings it back.
 * @module
 */
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { buildLauncher, headersPrefix, toolEnvironment } from './build.ts';

const require = createRequire(import.meta.url);
const prebuildify = require.resolve('prebuildify/bin.js');
const headers = headersPrefix();

// --napi: one file for all versions of Node. --tag-libc: glibc or musl in the file's name.
const flags = ['--napi', '--strip', '--tag-libc', '--name', 'cloister', '--target', process.versions.node];
const run = spawnSync(process.execPath, [prebuildify, ...flags], {
  cwd: import.meta.dirname,
  stdio: 'inherit',
  env: { ...toolEnvironment(), ...(headers !== undefined && { npm_config_nodedir: headers }) },
});
process.exitCode = run.status ?? 1;
if (run.status === 0 && process.platform === 'linux') {
  const target = join(import.meta.dirname, 'prebuilds', `linux-${process.arch}`, 'cloister-launch');
  const failure = buildLauncher(target);
  if (failure !== undefined) {
    console.error(`cloister: the launcher was not built: ${failure}`);
    process.exitCode = 1;
  }
}
