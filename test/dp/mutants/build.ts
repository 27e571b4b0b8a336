/**
 * The mechanisms with a bug put in: sources are patched while they are bundled, and the bundle is loaded beside the real ones.
 * @module
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';

const root = join(import.meta.dirname, '..', '..', '..');
// Below the package's root, so that packages are found.
const folder = mkdtempSync(join(import.meta.dirname, 'bundle-'));

/** What checks see of a build: the public rooms and a few internals. */
const ENTRY = `
  export * from './src/base/index.ts';
  export * from './privacy/dp/index.ts';
  export * from './privacy/budget/index.ts';
  export { memoryStore } from './src/store/index.ts';
  export { sampleInNumbers } from './privacy/dp/noise/discrete-laplace.ts';
  export { gaussianInNumbers } from './privacy/dp/noise/discrete-gaussian.ts';
  export { splitCost } from './privacy/dp/selection/sparse-vector.ts';
  export { rdpEpsilon } from './privacy/dp/accounting/conversion.ts';
  export { takePrivate } from './privacy/dp/private.ts';`;

export type Build = typeof import('../../../src/base/index.ts') &
  typeof import('../../../privacy/dp/index.ts') &
  typeof import('../../../privacy/budget/index.ts') &
  Pick<typeof import('../../../src/store/index.ts'), 'memoryStore'> &
  Pick<typeof import('../../../privacy/dp/noise/discrete-laplace.ts'), 'sampleInNumbers'> &
  Pick<typeof import('../../../privacy/dp/noise/discrete-gaussian.ts'), 'gaussianInNumbers'> &
  Pick<typeof import('../../../privacy/dp/selection/sparse-vector.ts'), 'splitCost'> &
  Pick<typeof import('../../../privacy/dp/accounting/conversion.ts'), 'rdpEpsilon'> &
  Pick<typeof import('../../../privacy/dp/private.ts'), 'takePrivate'>;

/** A text in one source, which must stand there exactly once, and what takes its place. */
export interface Patch {
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

let builds = 0;

/** The rooms with `patches` applied. Throws when a patch does not fit: the source has changed and the mutant is stale. */
export async function buildWith(patches: readonly Patch[]): Promise<Build> {
  const outfile = join(folder, `build-${builds++}.mjs`);
  const applied = new Set<Patch>();
  await build({
    stdin: { contents: ENTRY, resolveDir: root, loader: 'ts' },
    outfile,
    bundle: true,
    format: 'esm',
    platform: 'node',
    packages: 'external',
    logLevel: 'silent',
    plugins: [
      {
        name: 'patch',
        setup({ onLoad }) {
          onLoad({ filter: /\.ts$/ }, ({ path }) => {
            const file = relative(root, path).replaceAll(sep, '/');
            let contents = readFileSync(path, 'utf8');
            for (const patch of patches.filter(one => one.file === file)) {
              if (contents.split(patch.find).length !== 2)
                throw new Error(`${file} does not hold «${patch.find}» once`);
              contents = contents.replace(patch.find, () => patch.replace);
              applied.add(patch);
            }
            return { contents, loader: 'ts' };
          });
        },
      },
    ],
  });
  const missed = patches.find(patch => !applied.has(patch));
  if (missed) throw new Error(`${missed.file} is not part of the build`);
  return (await import(pathToFileURL(outfile).href)) as Build;
}

export function removeBuilds(): void {
  rmSync(folder, { recursive: true, force: true });
}
