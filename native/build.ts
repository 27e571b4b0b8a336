/**
 * Builds the addon and the launcher into `native/build/`. `npm ci` runs it; `npm run build:native` runs it again. An install never
 * fails for want of a compiler: it says so in one line, everything runs on the reference backend, and workers are not confined.
 * @module
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, dirname, join } from 'node:path';

const folder = import.meta.dirname;
const output = join(folder, 'build');
const binary = join(output, 'Release', 'cloister.node');
const stampFile = join(output, 'stamp');
const logFile = join(output, 'build.log');
const require = createRequire(import.meta.url);

/** What the launcher is made of. The addon has no part in it, so a change here does not build the addon again. */
const LAUNCHER_SOURCES = [join('os', 'launcher.cc'), join('os', 'syscalls.h')] as const;

if (import.meta.main && process.env['CLOISTER_NATIVE'] !== 'off') build();

function build(): void {
  const addon = buildAddon();
  const launcher = process.platform === 'linux' ? buildOwnLauncher() : undefined;
  const unconfined = 'workers are not confined by the system';
  const lost =
    addon === undefined
      ? launcher && `the launcher was not built: ${launcher}; ${unconfined}`
      : `native kernels were not built: ${addon}; everything runs on the reference backend${launcher ? `, and ${unconfined}` : ''}`;
  if (lost !== undefined) console.error(`cloister: ${lost}. To build later: npm run build:native`);
}

/** Builds the addon if its sources have changed. Returns what went wrong, if anything did. */
function buildAddon(): string | undefined {
  const stamp = sourcesDigest();
  if (existsSync(binary) && existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) return undefined;
  mkdirSync(output, { recursive: true });
  rmSync(stampFile, { force: true });

  const failure = attempt();
  // A binary of older sources does not stay behind: it would be loaded.
  if (failure === undefined) writeFileSync(stampFile, stamp);
  else rmSync(binary, { force: true });
  return failure;
}

/** Builds. Returns what went wrong, if anything did. */
function attempt(): string | undefined {
  const missing = missingTools();
  if (missing.length > 0) return `${missing.join(' and ')} not found`;
  const log = runNodeGyp();
  writeFileSync(logFile, log.text);
  return log.good && existsSync(binary) ? undefined : `the compiler failed (log: ${logFile})`;
}

/** What the binary depends on: every source, the compiler's name, the platform. */
function sourcesDigest(): string {
  const hash = createHash('sha256');
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter(name => /\.(cc|h|gyp)$/.test(name) && !/^(build|prebuilds|node)[\\/]/.test(name))
    .filter(name => !LAUNCHER_SOURCES.includes(name))
    .sort();
  for (const name of names)
    hash
      .update(`${name}\0`)
      .update(readFileSync(join(folder, name)))
      .update('\0');
  const addonApi: { version: string } = require('node-addon-api/package.json');
  hash.update(
    [process.platform, process.arch, process.env['CXX'] ?? '', process.env['CXXFLAGS'] ?? '', addonApi.version].join(
      ' ',
    ),
  );
  return hash.digest('hex');
}

/** The tools that node-gyp needs and this machine lacks. On Windows node-gyp looks for Visual Studio by itself. */
function missingTools(): string[] {
  if (process.platform === 'win32') return [];
  const needs: readonly (readonly [string, readonly string[]])[] = [
    [
      `a C++ compiler (${process.env['CXX'] ?? 'g++ or clang++'})`,
      process.env['CXX'] ? [process.env['CXX']] : ['c++', 'g++', 'clang++'],
    ],
    ['make', [process.env['MAKE'] ?? 'make', 'gmake']],
    ['python3', [process.env['PYTHON'] ?? 'python3', 'python']],
  ];
  return needs.filter(([, commands]) => !commands.some(answers)).map(([name]) => name);
}

/** Whether `command` (it may carry arguments, as `ccache g++` does) can be run. */
function answers(command: string): boolean {
  const [program = '', ...rest] = command.trim().split(/\s+/);
  return spawnSync(program, [...rest, '--version'], { stdio: 'ignore' }).status === 0;
}

function runNodeGyp(): { good: boolean; text: string } {
  const headers = headersPrefix();
  const flags = ['--directory', folder, '--jobs', 'max', ...(headers === undefined ? [] : ['--nodedir', headers])];
  const env = toolEnvironment();
  let text = '';
  for (const command of ['configure', 'build']) {
    const run = spawnSync(process.execPath, [require.resolve('node-gyp/bin/node-gyp.js'), command, ...flags], {
      env,
      encoding: 'utf8',
      maxBuffer: 64 * 2 ** 20,
    });
    text += `${run.stdout ?? ''}${run.stderr ?? ''}${run.error ? `${run.error.message}\n` : ''}`;
    if (run.status !== 0) return { good: false, text };
  }
  return { good: true, text };
}

/** As {@link buildAddon}, for the launcher. */
function buildOwnLauncher(): string | undefined {
  const launcher = join(output, 'Release', 'cloister-launch');
  const stampOfLauncher = join(output, 'launcher-stamp');
  const hash = createHash('sha256').update(`${process.arch} ${process.env['CXX'] ?? ''}`);
  for (const name of LAUNCHER_SOURCES) hash.update(readFileSync(join(folder, name)));
  const stamp = hash.digest('hex');
  if (existsSync(launcher) && existsSync(stampOfLauncher) && readFileSync(stampOfLauncher, 'utf8') === stamp)
    return undefined;
  rmSync(launcher, { force: true });
  const failure = buildLauncher(launcher);
  if (failure === undefined) writeFileSync(stampOfLauncher, stamp);
  return failure;
}

/**
 * Compiles the launcher to `target`: without libraries where the machine has them to link with, so that it starts in less than a
 * millisecond and runs on any Linux. Returns what went wrong, if anything did.
 */
export function buildLauncher(target: string): string | undefined {
  const compilers = process.env['CXX'] ? [process.env['CXX']] : ['c++', 'g++', 'clang++'];
  const compiler = compilers.find(answers);
  if (compiler === undefined) return 'a C++ compiler (g++ or clang++) not found';
  mkdirSync(dirname(target), { recursive: true });
  const [program = '', ...rest] = compiler.trim().split(/\s+/);
  const flags = ['-std=gnu++20', '-O2', '-fno-exceptions', '-fno-rtti', '-fstack-protector-strong', '-Wall', '-Wextra'];
  let text = '';
  for (const linking of [['-static'], ['-static-libgcc', '-pie', '-fPIE', '-Wl,-z,relro,-z,now']]) {
    const source = join(folder, 'os', 'launcher.cc');
    const run = spawnSync(program, [...rest, ...flags, ...linking, '-o', target, source], { encoding: 'utf8' });
    if (run.status === 0) return undefined;
    text = run.stderr ?? run.error?.message ?? '';
  }
  writeFileSync(join(folder, 'build', 'launcher.log'), text);
  return `the compiler failed (log: ${join(folder, 'build', 'launcher.log')})`;
}

/** The environment of the tools: binding.gyp asks `node` where node-addon-api is, and that must be this one. */
export function toolEnvironment(): NodeJS.ProcessEnv {
  return { ...process.env, PATH: `${dirname(process.execPath)}${delimiter}${process.env['PATH'] ?? ''}` };
}

/**
 * Where headers lie already, so that nothing is downloaded: the running Node's own, or those of the Node that this
 * repository carries (Node-API is the same in both). Undefined leaves the search to node-gyp.
 */
export function headersPrefix(): string | undefined {
  const carried = join(
    folder,
    '..',
    'node_modules',
    `node-${process.platform === 'win32' ? 'win' : process.platform}-${process.arch}`,
  );
  return [dirname(dirname(realpathSync(process.execPath))), carried].find(prefix =>
    existsSync(join(prefix, 'include', 'node', 'node_api.h')),
  );
}
