/**
 * Builds the review page into static files, `dist/src/web/static/`, with the licences of what they hold; `--watch` builds again whenever
 * a source changes.
 * @module
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type Plugin } from 'vite';

const page = dirname(fileURLToPath(import.meta.url));
const outDir = join(page, '..', '..', '..', 'dist', 'src', 'web', 'static');
const packages = new Set<string>();

/** Notes the packages whose code is in a bundle; page and worker are bundled apart. */
function notePackages(): Plugin {
  return {
    name: 'note-packages',
    generateBundle(_, bundle) {
      for (const chunk of Object.values(bundle)) {
        for (const id of chunk.type === 'chunk' ? chunk.moduleIds : []) {
          const folder = /^\0?(.*node_modules\/(?:@[^/]+\/)?[^/]+)/.exec(id.replaceAll('\\', '/'))?.[1];
          if (folder !== undefined) packages.add(folder);
        }
      }
    },
  };
}

await build({
  root: page,
  configFile: false,
  base: './', // the page may be mounted anywhere
  logLevel: 'warn',
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  plugins: [notePackages()],
  worker: { format: 'es', plugins: () => [notePackages()] },
  build: {
    outDir,
    emptyOutDir: true,
    target: 'es2024',
    assetsInlineLimit: 0, // the content security policy takes no data: addresses
    modulePreload: false,
    watch: process.argv.includes('--watch') ? {} : null,
  },
});
const licences = [...packages]
  .sort()
  .map(
    folder => `${folder.replace(/^.*node_modules\//, '')}\n\n${readFileSync(join(folder, 'LICENSE'), 'utf8').trim()}`,
  );
writeFileSync(join(outDir, 'licences.txt'), `${licences.join('\n\n')}\n`);
