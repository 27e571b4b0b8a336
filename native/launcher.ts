/**
 * Finds `cloister-launch`, the program that closes every door which a worker does not need and then becomes the worker.
 * @module
 */
import { accessSync, constants, existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Where the launcher is, or why there is none and what mends that. */
export type Launcher =
  | { readonly kind: 'found'; readonly path: string }
  | { readonly kind: 'missing'; readonly reason: string; readonly mend: string };

/** The architectures whose system calls the launcher knows. */
const ARCHITECTURES: readonly string[] = ['x64', 'arm64'];

/** Looks for the launcher that was built here, then for the one that the package carries. */
export function findLauncher(): Launcher {
  if (process.platform !== 'linux' || !ARCHITECTURES.includes(process.arch)) {
    const reason = `the launcher is for Linux on ${ARCHITECTURES.join(' and ')}, this is ${process.platform}-${process.arch}`;
    return { kind: 'missing', reason, mend: 'run it on Linux' };
  }
  const folder = join(packageRoot(), 'native');
  const places = [join('build', 'Release'), join('prebuilds', `${process.platform}-${process.arch}`)];
  const path = places.map(place => join(folder, place, 'cloister-launch')).find(isExecutable);
  if (path !== undefined) return { kind: 'found', path };
  const mend = existsSync(join(folder, 'build.ts')) ? 'npm run build:native' : 'npm install cloister';
  return { kind: 'missing', reason: 'the launcher was not built', mend };
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** The folder with this package's package.json, above `native/` in the sources and above `dist/native/` when built. */
export function packageRoot(): string {
  let folder = import.meta.dirname;
  while (!existsSync(join(folder, 'package.json')) && dirname(folder) !== folder) folder = dirname(folder);
  return folder;
}
