/**
 * The built page: all its files, read once, so that no request opens a file.
 * @module
 */
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CloisterError } from '../base/index.ts';

/** A file of the page. */
export interface Asset {
  readonly bytes: Uint8Array;
  readonly type: string;
  /** Whether its name holds a digest of its content. */
  readonly immutable: boolean;
}

/**
 * Reads the page by the paths under which it is served; '' is the page itself.
 *
 * @throws {CloisterError} `MISSING_DEPENDENCY` when it was not built.
 */
export async function readAssets(): Promise<ReadonlyMap<string, Asset>> {
  const folder = BUILT.map(place => fileURLToPath(new URL(place, import.meta.url))).find(existsSync);
  if (folder === undefined)
    throw new CloisterError(
      'MISSING_DEPENDENCY',
      'the review page is not built; run `npm run build` in the repository',
    );
  const assets = new Map<string, Asset>();
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = join(entry.parentPath, entry.name);
    const path = file.slice(folder.length).replaceAll('\\', '/').replace(/^\//, '');
    const type = TYPES[path.slice(path.lastIndexOf('.') + 1)] ?? 'application/octet-stream';
    const asset = { bytes: await readFile(file), type, immutable: path.startsWith('assets/') };
    assets.set(path === 'index.html' ? '' : path, asset);
  }
  return assets;
}

/** Where the build puts the page: seen from the built module, and from its source. */
const BUILT = ['./static/', '../../dist/src/web/static/'];

const TYPES: Readonly<Record<string, string>> = {
  html: 'text/html; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  css: 'text/css; charset=utf-8',
  svg: 'image/svg+xml',
};
