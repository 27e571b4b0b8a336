/**
 * Writes a whole log as its files would be, without the writer: as many records as a test or a bench wants, in a second or a few, and
 * with whatever in them. Tiles are those of C2SP tlog-tiles; the checkpoint is signed.
 * @module
 */
import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { signCheckpoint } from '../../sandbox/audit/checkpoint.ts';
import { type Hasher, TreeBuilder } from '../../sandbox/audit/merkle.ts';
import { formatVkey, type NoteSigner, parseVkey } from '../../sandbox/audit/note.ts';
import type { AuditRecord } from '../../sandbox/audit/record.ts';
import { encodeBundle, TILE_HEIGHT, TILE_WIDTH, tilePath } from '../../sandbox/audit/tiles.ts';
import { canonicalJson, type Json } from '../../src/base/canonical.ts';

const hasher: Hasher = {
  leaf: record => createHash('sha256').update(ZERO).update(record).digest(),
  node: (left, right) => createHash('sha256').update(ONE).update(left).update(right).digest(),
};
const ZERO = Buffer.of(0);
const ONE = Buffer.of(1);

/** A signer with its public key. */
export interface TestSigner extends NoteSigner {
  readonly vkey: string;
}

/** A key that nobody keeps. */
export function testSigner(name: string): TestSigner {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const raw = new Uint8Array(publicKey.export({ format: 'der', type: 'spki' }).subarray(-32));
  const vkey = formatVkey(name, raw);
  return { name, id: parseVkey(vkey).id, vkey, sign: text => signWith(privateKey, text) };
}

function signWith(key: KeyObject, text: Uint8Array): Uint8Array {
  return new Uint8Array(sign(null, text, key));
}

/** The bytes of a record, unchecked. */
export function recordBytes(record: AuditRecord): Uint8Array {
  return Buffer.from(canonicalJson(record as unknown as Json));
}

/** Writes the log of `size` records into `dir`, which is made; old files that are in the way are replaced. */
export function writeTiledLog(
  dir: string,
  size: number,
  recordAt: (seq: number) => Uint8Array,
  signer: TestSigner,
): void {
  const tree = new TreeBuilder(hasher);
  const rows: Buffer[][] = []; // by tile level: hashes of the tile that is being filled
  const done: number[] = [];
  let bundle: Uint8Array[] = [];
  const put = (path: string, bytes: Uint8Array | string): void => {
    const file = join(dir, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, bytes);
  };
  const push = (level: number, hash: Uint8Array): void => {
    rows[level] ??= [];
    const row = rows[level];
    row.push(Buffer.from(hash));
    if (row.length < TILE_WIDTH) return;
    put(tilePath(level, done[level] ?? 0), Buffer.concat(row));
    done[level] = (done[level] ?? 0) + 1;
    rows[level] = [];
  };
  for (let seq = 0; seq < size; seq++) {
    const bytes = recordAt(seq);
    bundle.push(bytes);
    const leaf = hasher.leaf(bytes);
    const completed = tree.append(leaf);
    push(0, leaf);
    for (let level = TILE_HEIGHT; level <= completed.length; level += TILE_HEIGHT)
      push(level / TILE_HEIGHT, completed[level - 1]!);
    if (bundle.length < TILE_WIDTH) continue;
    put(tilePath('entries', (seq + 1) / TILE_WIDTH - 1), encodeBundle(bundle));
    bundle = [];
  }
  rows.forEach((row, level) => {
    if (row.length > 0) put(tilePath(level, done[level] ?? 0, row.length), Buffer.concat(row));
  });
  if (bundle.length > 0) put(tilePath('entries', Math.floor(size / TILE_WIDTH), bundle.length), encodeBundle(bundle));
  put('vkey', `${signer.vkey}\n`);
  put('checkpoint', signCheckpoint(size, tree.root(), signer));
}
