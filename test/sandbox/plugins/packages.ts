/** Packages and keys for the tests of plugins. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SourceManifest } from '../../../sandbox/index.ts';
import { packPlugin } from '../../../sandbox/plugins/package.ts';
import { createPublisherKey, type PublisherKey, signPackage } from '../../../sandbox/plugins/signature.ts';
import { encodeUtf8 } from '../../../src/base/index.ts';

export const MAIN = encodeUtf8('define({ operators: [] });\n');
export const TABLE = Uint8Array.from({ length: 700 }, (_, i) => i % 256);

/** What an author writes. */
export const SOURCE: SourceManifest = {
  name: '@acme/lower',
  version: '1.0.0',
  api: '^1.0.0',
  kind: 'operator',
  entry: 'main.js',
  licence: 'Apache-2.0',
  files: ['main.js', 'tables/lower.bin'],
};

/** A package of {@link SOURCE}, with changes. */
export function packed(change: Partial<SourceManifest> = {}, main: Uint8Array = MAIN): Uint8Array<ArrayBuffer> {
  const files = new Map([
    ['main.js', main],
    ['tables/lower.bin', TABLE],
  ]);
  return packPlugin({ ...SOURCE, ...change }, files);
}

/** A folder of its own, below the temporary one of the system. */
export function freshFolder(): string {
  return mkdtempSync(join(tmpdir(), 'cloister-plugins-'));
}

/** A key that is made for the test. */
export function freshKey(name = 'acme'): PublisherKey {
  return createPublisherKey(join(freshFolder(), 'keys'), name);
}

/** {@link packed}, signed. */
export function signed(
  key: PublisherKey,
  change: Partial<SourceManifest> = {},
  main?: Uint8Array,
): Uint8Array<ArrayBuffer> {
  return signPackage(packed(change, main), key);
}
