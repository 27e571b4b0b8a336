import fs from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  compactRange,
  inclusionProof,
  pureHasher,
  rootAt,
  TreeBuilder,
  verifyInclusion,
} from '../../sandbox/audit/merkle.ts';
import { nodeHasher } from '../../sandbox/audit/node-crypto.ts';
import { RECORD_LIMIT_BYTES } from '../../sandbox/audit/record.ts';
import { readTile, surplusRecords, TileReader, TileWriter } from '../../sandbox/audit/tile-store.ts';
import {
  decodeBundle,
  encodeBundle,
  parseTilePath,
  TILE_WIDTH,
  type TileLevel,
  tilePath,
  tilesAt,
  tileWidth,
} from '../../sandbox/audit/tiles.ts';
import { toHex } from '../../src/base/bytes.ts';
import { MemoryDirectory } from './memory-directory.ts';

const CORPUS = process.env['CLOISTER_CORPUS'];

describe('the path of a tile', () => {
  test.skipIf(CORPUS === undefined)('is the one of the vectors of sumdb/tlog, which name the height first', () => {
    const file = path.join(CORPUS!, 'merkle', 'tlog-tiles.json');
    const { tilePaths } = JSON.parse(fs.readFileSync(file, 'utf8')) as {
      tilePaths: { path: string; HLNW: [number, number, number, number] | null }[];
    };
    expect(tilePaths.length).toBeGreaterThan(5);
    for (const { path: theirs, HLNW } of tilePaths) {
      // tlog-tiles drops the height, and calls data entries.
      const ours = theirs.replace(/^tile\/\d+\//, 'tile/').replace('/data/', '/entries/');
      if (HLNW === null) {
        expect(parseTilePath(ours), ours).toBeUndefined();
        continue;
      }
      const [height, level, index, width] = HLNW;
      const full = width === 2 ** height;
      const name = { level: level === -1 ? 'entries' : level, index, width: full ? TILE_WIDTH : width } as const;
      expect(parseTilePath(ours), ours).toEqual(name);
      expect(tilePath(name.level, index, name.width)).toBe(ours);
    }
  });

  test('is read back from its one spelling, and nothing else is', () => {
    const level = fc.oneof(fc.constant<TileLevel>('entries'), fc.integer({ min: 0, max: 6 }));
    const index = fc.oneof(fc.nat(1100), fc.maxSafeInteger().map(Math.abs));
    fc.assert(
      fc.property(level, index, fc.integer({ min: 1, max: 256 }), (l, i, w) => {
        const name = tilePath(l, i, w);
        expect(parseTilePath(name)).toEqual({ level: l, index: i, width: w });
        for (const other of [`/${name}`, `${name}/`, `${name}.p/0`, name.replace('tile/', 'tile/0'), `${name}\n`])
          expect(parseTilePath(other), other).toBeUndefined();
      }),
    );
    for (const bad of [
      'tile/0/1',
      'tile/0/x000/001',
      'tile/00/001',
      'tile/7/001',
      'tile/64/001',
      'tile/0/001.p/256',
      'tile/0/001.p/01',
      'tile/0/x001/x067',
      'tile/0/001.p',
      'tile/-1/001',
      'tile/entries',
      'tile/0/../../vkey',
      'TILE/0/001',
      `tile/0/${'x999/'.repeat(20)}999`,
    ])
      expect(parseTilePath(bad), bad).toBeUndefined();
  });

  test('any text is a path with one spelling, or none', () => {
    const piece = fc.constantFrom(
      'tile',
      'entries',
      '/',
      '0',
      '1',
      'x',
      '000',
      '067',
      '.p/',
      '..',
      '255',
      '256',
      '\n',
      '-',
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.array(piece).map(all => all.join('')),
        ),
        text => {
          const name = parseTilePath(text);
          if (name !== undefined) expect(tilePath(name.level, name.index, name.width)).toBe(text);
        },
      ),
      { numRuns: Number(process.env['CLOISTER_FUZZ_RUNS'] ?? 2000) },
    );
  });

  test('numbers that name no tile are refused', () => {
    for (const [level, index, width] of [
      [7, 0, 1],
      [0, -1, 1],
      [0, 0.5, 1],
      [0, 0, 0],
      [0, 0, 257],
      [0, 2 ** 53, 1],
    ] as const)
      expect(() => tilePath(level, index, width)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  });
});

describe('a bundle', () => {
  const record = fc.uint8Array({ minLength: 1, maxLength: 600 });

  test('gives back the records that were put in, as many as are asked for', () => {
    fc.assert(
      fc.property(fc.array(record, { maxLength: 20 }), fc.nat(25), (records, count) => {
        const bundle = decodeBundle(encodeBundle(records), count);
        expect(bundle.records.map(one => Uint8Array.from(one))).toEqual(records.slice(0, count));
      }),
    );
    const largest = new Uint8Array(RECORD_LIMIT_BYTES).fill(7);
    expect(decodeBundle(encodeBundle([largest]), 1).records[0]).toEqual(largest);
  });

  test('has lengths of two bytes, the high one first', () => {
    expect(encodeBundle([Uint8Array.of(9), new Uint8Array(258).fill(1)]).slice(0, 6)).toEqual(
      Uint8Array.of(0, 1, 9, 1, 2, 1),
    );
  });

  test('of any bytes is read up to the first record that is not whole, in bounded time', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), fc.nat(300), (bytes, count) => {
        const { records, end } = decodeBundle(bytes, count);
        expect(records.length).toBeLessThanOrEqual(count);
        expect(end).toBe(records.reduce((sum, { length }) => sum + 2 + length, 0));
        expect(encodeBundle(records)).toEqual(bytes.slice(0, end));
      }),
      { numRuns: Number(process.env['CLOISTER_FUZZ_RUNS'] ?? 1000) },
    );
  });

  test('does not hold an empty record, nor one over the limit', () => {
    expect(decodeBundle(Uint8Array.of(0, 0, 0, 1, 5), 2).records).toEqual([]);
    const over = new Uint8Array(2 + RECORD_LIMIT_BYTES + 1);
    over[0] = (RECORD_LIMIT_BYTES + 1) >>> 8;
    over[1] = (RECORD_LIMIT_BYTES + 1) & 255;
    expect(decodeBundle(over, 1).records).toEqual([]);
  });
});

/** A tree of records of a few bytes, its tiles written with a checkpoint at each of `sizes`. */
async function grown(sizes: readonly number[], tidy = true) {
  const directory = new MemoryDirectory();
  const writer = new TileWriter(new TileReader(directory, 0));
  const builder = new TreeBuilder(nodeHasher);
  const leaves: Uint8Array[] = [];
  for (const size of sizes) {
    while (builder.size < size) {
      const record = new TextEncoder().encode(`record ${builder.size}`);
      const leafHash = nodeHasher.leaf(record);
      leaves.push(record);
      writer.add(record, leafHash, builder.append(leafHash));
    }
    await directory.writeAll(writer.files());
    const superfluous = writer.settle();
    if (tidy) directory.remove(superfluous);
  }
  return { directory, builder, leaves };
}

describe('tiles that a tree writes as it grows', () => {
  test('are those that the specification has for its size, and no others, whatever the steps', async () => {
    for (const sizes of [
      [1],
      [1, 2, 255, 256],
      [300],
      [256, 257, 511, 512, 513],
      [70, 65_537],
      [65_535, 65_536, 66_000],
    ]) {
      const { directory } = await grown(sizes);
      const size = sizes.at(-1)!;
      const expected: string[] = [];
      for (const level of ['entries', 0, 1, 2] as const) {
        const { full, partial } = tilesAt(level, size);
        for (let index = 0; index < full; index++) expected.push(tilePath(level, index));
        if (partial > 0) expected.push(tilePath(level, full, partial));
      }
      expect(directory.names('tile/')).toEqual(expected.sort());
      for (const name of directory.names('tile/0')) expect(directory.bytes(name).length % 32).toBe(0);
    }
  });

  test('give every node, every leaf, and proofs that hold under the root', { timeout: 60_000 }, async () => {
    for (const sizes of [[1], [255], [256], [257, 513], [1000], [65_800]]) {
      const size = sizes.at(-1)!;
      const { directory, builder, leaves } = await grown(sizes);
      const reader = new TileReader(directory, size);
      expect(toHex(rootAt(size, reader.node, nodeHasher))).toBe(toHex(builder.root()));
      for (const { level, index } of compactRange(size)) expect(reader.node(level, index)).toHaveLength(32);
      for (let i = 0; i < size; i += size > 2000 ? 4999 : 37) {
        expect(reader.leaf(i)).toEqual(leaves[i]);
        const proof = inclusionProof(i, size, reader.node, nodeHasher);
        expect(verifyInclusion(i, size, pureHasher.leaf(leaves[i]!), proof, builder.root())).toEqual({ ok: true });
      }
      expect(() => reader.leaf(size)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
      expect(() => reader.node(0, size)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    }
  });

  test('are read at an earlier size as well, from wider tiles where the narrow ones are gone', async () => {
    for (const tidy of [true, false]) {
      const { directory, leaves } = await grown([3, 200, 256, 300, 700], tidy);
      for (const size of [3, 200, 256, 300, 511]) {
        const reader = new TileReader(directory, size);
        const tree = new TreeBuilder(nodeHasher);
        for (const leaf of leaves.slice(0, size)) tree.append(nodeHasher.leaf(leaf));
        expect(toHex(rootAt(size, reader.node, nodeHasher))).toBe(toHex(tree.root()));
        expect(reader.records(Math.floor((size - 1) / TILE_WIDTH))).toHaveLength(((size - 1) % TILE_WIDTH) + 1);
      }
    }
  });

  test('go on where they ended', async () => {
    const { directory, builder, leaves } = await grown([300]);
    const writer = new TileWriter(new TileReader(directory, 300));
    for (let i = 300; i < 800; i++) {
      const record = new TextEncoder().encode(`record ${i}`);
      writer.add(record, nodeHasher.leaf(record), builder.append(nodeHasher.leaf(record)));
      leaves.push(record);
    }
    expect(writer.waiting).toBe(500);
    await directory.writeAll(writer.files());
    expect(writer.settle().sort()).toEqual(['tile/0/001.p/44', 'tile/1/000.p/1', 'tile/entries/001.p/44']);
    expect(writer.waiting).toBe(0);
    const { directory: atOnce } = await grown([800]);
    for (const name of atOnce.names('tile/')) expect(directory.bytes(name), name).toEqual(atOnce.bytes(name));
  });

  test('that are missing or short are refused, and what is beyond a size is found', async () => {
    const { directory, leaves } = await grown([300]);
    expect([...surplusRecords(directory, 250)]).toEqual(leaves.slice(250));
    expect([...surplusRecords(directory, 300)]).toEqual([]);
    expect([...surplusRecords(directory, 5000)]).toEqual([]);
    expect(readTile(directory, 0, 1, 45)).toBeUndefined();
    expect(readTile(directory, 0, 1, 40)).toMatchObject({ width: 44 });
    directory.set('tile/0/000', directory.bytes('tile/0/000').slice(0, -1));
    expect(() => new TileReader(directory, 300).node(0, 0)).toThrow(expect.objectContaining({ code: 'AUDIT_INVALID' }));
    directory.delete('tile/entries/000');
    expect(() => new TileReader(directory, 300).leaf(0)).toThrow(
      expect.objectContaining({ code: 'AUDIT_INVALID', detail: { kind: 'truncated', index: 0 } }),
    );
    expect(() => new TileWriter(new TileReader(directory, 301))).toThrow(
      expect.objectContaining({ code: 'AUDIT_INVALID' }),
    );
  });

  test('have the width that the size gives them', () => {
    expect([0, 1, 2].map(index => tileWidth('entries', index, 300))).toEqual([256, 44, 0]);
    expect([0, 1].map(index => tileWidth(1, index, 65_536))).toEqual([256, 0]);
  });
});
