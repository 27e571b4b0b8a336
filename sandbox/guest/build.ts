/**
 * Builds the guest bundle: the pure rooms and the guest entry as one script for a bare isolate, `dist/guest.js`.
 * @module
 */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** Bundles `sandbox/guest/entry.ts` into `dist/guest.js`; fails if a `node:` module is reached. */
export async function buildGuest(): Promise<void> {
  await build({
    entryPoints: [join(root, 'sandbox/guest/entry.ts')],
    outfile: join(root, 'dist/guest.js'),
    bundle: true,
    globalName: 'guest',
    format: 'iife',
    platform: 'neutral',
    target: 'es2024',
    legalComments: 'none',
    minifySyntax: true,
    minifyWhitespace: true,
    logLevel: 'warning',
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildGuest();
