/**
 * Builds the addon into `native/build/`. `npm ci` runs it; `npm run build:native` runs it again. An install never fails
 * for want of a compiler: it says so in one line, and everything runs on the reference backend.
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

if (import.meta.main) build();

function build(): void {
  if (process.env['CLOISTER_NATIVE'] === 'off') return;
  const stamp = sourcesDigest();
  if (existsSync(binary) && existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) return;
  mkdirSync(output, { recursive: true });
  rmSync(stampFile, { force: true });

  const failure = attempt();
  if (failure === undefined) {
    writeFileSync(stampFile, stamp);
    return;
  }
  // A binary of older sources does not stay behind: it would be loaded.
  rmSync(binary, { force: true });
  console.error(
    `cloister: native kernels were not built: ${failure}; everything runs on the reference backend. ` +
      'To build later: npm run build:native',
  );
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
