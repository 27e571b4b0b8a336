/**
 * Builds the review page into static files, `dist/src/web/static/`; `--watch` builds again whenever a source changes.
 * @module
 */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'vite';

const page = dirname(fileURLToPath(import.meta.url));

await build({
  root: page,
  configFile: false,
  base: './', // the page may be mounted anywhere
  logLevel: 'warn',
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  worker: { format: 'es' },
  build: {
    outDir: join(page, '..', '..', '..', 'dist', 'src', 'web', 'static'),
    emptyOutDir: true,
    target: 'es2024',
    assetsInlineLimit: 0, // the content security policy takes no data: addresses
    modulePreload: false,
    watch: process.argv.includes('--watch') ? {} : null,
  },
});
