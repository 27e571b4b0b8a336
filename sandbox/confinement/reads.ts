/**
 * What a worker may read: its own program, and what that program is loaded with. Nothing else of the machine.
 * @module
 */
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, join } from 'node:path';
import { packageRoot } from '../../native/index.ts';

/** The packages that a worker loads. What is missing here is missing there, which the first test that starts one tells. */
const PACKAGES = ['isolated-vm', 'node-gyp-build', '@noble/hashes', 'zod'] as const;

/** Folders and files of this package that a worker loads, from source and when built. */
const OF_SOURCE = ['package.json', 'src', 'sandbox', 'native', 'dist/guest.js'] as const;
const OF_BUILD = ['package.json', 'dist', 'native'] as const;

/** What the loader of the C library reads: glibc's cache, musl's search path. */
const LOADER = ['/etc/ld.so.cache', '/etc/ld-musl-x86_64.path', '/etc/ld-musl-aarch64.path'] as const;

/** Files and folders that a worker may read, and files that may be run: itself, and the loader of the C library. */
export interface WorkerFiles {
  readonly read: readonly string[];
  readonly run: readonly string[];
}

let known: WorkerFiles | undefined;

/** Looked up once: what a worker loads does not change while its supervisor runs. */
export function workerFiles(): WorkerFiles {
  known ??= lookUp();
  return known;
}

function lookUp(): WorkerFiles {
  const root = packageRoot();
  const own = import.meta.filename.endsWith('.ts') ? OF_SOURCE : OF_BUILD;
  const libraries = mappedLibraries();
  return {
    // Node reads the null device as its configuration of OpenSSL: see launch.ts.
    read: [
      ...own.map(path => join(root, path)),
      ...PACKAGES.flatMap(packageFolder),
      ...libraries,
      ...LOADER,
      '/dev/null',
    ],
    run: [process.execPath, ...libraries.filter(path => /^ld[-.]/.test(basename(path)))],
  };
}

function packageFolder(name: string): readonly string[] {
  const places = createRequire(import.meta.url).resolve.paths(name) ?? [];
  const place = places.find(folder => existsSync(join(folder, name, 'package.json')));
  return place === undefined ? [] : [realpathSync(join(place, name))];
}

/** The shared libraries of this very process: a worker is the same program. */
function mappedLibraries(): readonly string[] {
  const paths = readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .map(line => /^(?:\S+\s+){5}(\/.*\.so(?:\.[0-9.]+)?)$/.exec(line)?.[1])
    .filter(path => path !== undefined);
  return [...new Set(paths)];
}
