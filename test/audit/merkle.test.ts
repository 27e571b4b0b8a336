import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { crc32c } from '../../sandbox/audit/crc32c.ts';
import {
  compactRange,
  consistencyProof,
  EMPTY_ROOT,
  inclusionProof,
  type NodeReader,
  popcount,
  pureHasher,
  rootAt,
  TreeBuilder,
  verifyConsistency,
  verifyInclusion,
} from '../../sandbox/audit/merkle.ts';
import { nodeHasher } from '../../sandbox/audit/node-crypto.ts';
import { fromHex, toHex } from '../../src/base/bytes.ts';

const corpus = path.join(process.env['CLOISTER_CORPUS'] ?? '/nowhere', 'merkle');
const suite = path.join(corpus, 'transparency-dev-merkle', 'testdata');

describe('RFC 6962 vectors', () => {
  test.skipIf(!existsSync(corpus))('roots and nodes of the eight reference leaves', () => {
    const vectors = JSON.parse(readFileSync(path.join(corpus, 'rfc6962-merkle.json'), 'utf8'));
    const leaves: Uint8Array[] = vectors.leafInputsHex.map(fromHex);
    for (const hasher of [pureHasher, nodeHasher]) {
      const tree = new TreeBuilder(hasher);
      expect(toHex(tree.root())).toBe(vectors.rootBySizeHex[0]);
      leaves.forEach((leaf, i) => {
        tree.append(hasher.leaf(leaf));
        expect(toHex(tree.root())).toBe(vectors.rootBySizeHex[i + 1]);
      });
    }
    const node = readerOf(leaves.map(pureHasher.leaf));
    const nodes = [0, 1, 2, 3].flatMap(level =>
      Array.from({ length: 8 >> level }, (_, index) => toHex(node(level, index))),
    );
    expect(nodes).toEqual(vectors['nodeHashesLevel0..3']);
  });

  test.skipIf(!existsSync(suite))(
    'every inclusion and consistency case of transparency-dev/merkle has its expected verdict',
    () => {
      let cases = 0;
      for (const kind of ['inclusion', 'consistency']) {
        for (const file of readdirSync(path.join(suite, kind), { recursive: true, encoding: 'utf8' })) {
          if (!file.endsWith('.json')) continue;
          const c = JSON.parse(readFileSync(path.join(suite, kind, file), 'utf8'));
          const bytes = (text: string | null): Uint8Array => new Uint8Array(Buffer.from(text ?? '', 'base64'));
          const proof = (c.proof ?? []).map(bytes);
          const verdict =
            kind === 'inclusion'
              ? verifyInclusion(c.leafIdx, c.treeSize, bytes(c.leafHash), proof, bytes(c.root))
              : verifyConsistency(c.size1, c.size2, bytes(c.root1), bytes(c.root2), proof);
          expect(verdict.ok, `${kind}/${file}: ${c.desc}`).toBe(!c.wantErr);
          cases++;
        }
      }
      expect(cases).toBe(196);
    },
  );

  test('consistency with the empty tree proves nothing', () => {
    const root = pureHasher.leaf(new Uint8Array(1));
    expect(verifyConsistency(0, 0, EMPTY_ROOT, EMPTY_ROOT, []).ok).toBe(false);
    expect(verifyConsistency(0, 1, EMPTY_ROOT, root, []).ok).toBe(false);
    expect(() => consistencyProof(0, 1, () => root)).toThrow(/1 <= size1/);
  });
});

describe('trees of random leaves', () => {
  const leavesArb = fc.array(fc.uint8Array({ maxLength: 40 }), { minLength: 1, maxLength: 70 });

  test('roots and proofs agree with the recursive definition of RFC 6962, and proofs verify', () => {
    fc.assert(
      fc.property(leavesArb, fc.nat(), fc.nat(), (leaves, a, b) => {
        const hashes = leaves.map(pureHasher.leaf);
        const node = readerOf(hashes);
        const size = 1 + (a % hashes.length);
        const index = b % size;
        const root = rootAt(size, node);
        expect(toHex(root)).toBe(toHex(definition(leaves.slice(0, size))));
        const range = compactRange(size).map(({ level, index: at }) => node(level, at));
        expect(toHex(new TreeBuilder(pureHasher, size, range).root())).toBe(toHex(root));
        expect(verifyInclusion(index, size, hashes[index]!, inclusionProof(index, size, node), root)).toEqual({
          ok: true,
        });
        const size1 = index + 1;
        const proof = consistencyProof(size1, size, node);
        expect(verifyConsistency(size1, size, rootAt(size1, node), root, proof)).toEqual({ ok: true });
      }),
    );
  });

  test('any bit changed in an inclusion proof, leaf or root makes it fail; so does another index or size of another shape', () => {
    fc.assert(
      fc.property(leavesArb, fc.nat(), fc.nat(), (leaves, a, bit) => {
        const hashes = leaves.map((leaf, i) => pureHasher.leaf(Uint8Array.of(i, ...leaf)));
        const node = readerOf(hashes);
        const size = hashes.length;
        const index = a % size;
        const parts = [hashes[index]!, rootAt(size, node), ...inclusionProof(index, size, node)];
        const broken = flip(parts, bit);
        expect(verifyInclusion(index, size, broken[0]!, broken.slice(2), broken[1]!).ok).toBe(false);
        for (let other = 0; other < size; other++) {
          expect(verifyInclusion(other, size, parts[0]!, parts.slice(2), parts[1]!).ok).toBe(other === index);
        }
        expect(verifyInclusion(index, size, parts[0]!, [...parts.slice(2), parts[0]!], parts[1]!).ok).toBe(false);
        if (parts.length > 2) expect(verifyInclusion(index, size, parts[0]!, parts.slice(3), parts[1]!).ok).toBe(false);
      }),
    );
  });

  test('any bit changed in a consistency proof or root makes it fail', () => {
    fc.assert(
      fc.property(leavesArb, fc.nat(), fc.nat(), (leaves, a, bit) => {
        const hashes = leaves.map(pureHasher.leaf);
        const node = readerOf(hashes);
        const size = hashes.length;
        const size1 = 1 + (a % size);
        const parts = [rootAt(size1, node), rootAt(size, node), ...consistencyProof(size1, size, node)];
        const broken = flip(parts, bit);
        expect(verifyConsistency(size1, size, broken[0]!, broken[1]!, broken.slice(2)).ok).toBe(false);
        expect(verifyConsistency(size1, size, parts[0]!, parts[1]!, [...parts.slice(2), parts[0]!]).ok).toBe(false);
      }),
    );
  });

  test('the hashers on node:crypto and @noble/hashes agree', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 16_384 }),
        fc.uint8Array({ minLength: 64, maxLength: 64 }),
        (record, pair) => {
          const [left, right] = [pair.subarray(0, 32), pair.subarray(32)];
          expect(toHex(nodeHasher.leaf(record))).toBe(toHex(pureHasher.leaf(record)));
          expect(toHex(nodeHasher.node(left, right))).toBe(toHex(pureHasher.node(left, right)));
        },
      ),
    );
  });

  test('sizes beyond 32 bits keep their arithmetic', () => {
    const size = 2 ** 40 + 2 ** 33 + 5;
    const node: NodeReader = (level, index) => pureHasher.leaf(new TextEncoder().encode(`${level}/${index}`));
    // The last leaf is a subtree of its own, so its path has only nodes that this made-up reader gives directly.
    const proof = inclusionProof(size - 1, size, node);
    expect(proof).toHaveLength(3);
    expect(verifyInclusion(size - 1, size, node(0, size - 1), proof, rootAt(size, node))).toEqual({ ok: true });
    const size1 = 2 ** 40 + 2 ** 33;
    expect(
      verifyConsistency(size1, size, rootAt(size1, node), rootAt(size, node), consistencyProof(size1, size, node)).ok,
    ).toBe(true);
    expect(popcount(size)).toBe(4);
    expect(popcount(Number.MAX_SAFE_INTEGER)).toBe(53);
    for (const bad of [-1, 1.5, Number.NaN, 2 ** 53])
      expect(verifyInclusion(0, bad, EMPTY_ROOT, [], EMPTY_ROOT).ok).toBe(false);
  });
});

test('CRC-32C has its check value and the vectors of RFC 3720 B.4, in one piece or two', () => {
  const vectors: [Uint8Array, number][] = [
    [new TextEncoder().encode('123456789'), 0xe3069283],
    [new Uint8Array(32), 0x8a9136aa],
    [new Uint8Array(32).fill(0xff), 0x62a8ab43],
    [Uint8Array.from({ length: 32 }, (_, i) => i), 0x46dd794e],
    [Uint8Array.from({ length: 32 }, (_, i) => 31 - i), 0x113fdb5c],
  ];
  for (const [bytes, crc] of vectors) {
    expect(crc32c(bytes)).toBe(crc);
    for (let cut = 0; cut <= bytes.length; cut++)
      expect(crc32c(bytes, cut, bytes.length, crc32c(bytes, 0, cut))).toBe(crc);
  }
});

/** MTH of RFC 6962 §2.1, word by word, on node:crypto. */
function definition(leaves: readonly Uint8Array[]): Uint8Array {
  const sha = (...parts: Uint8Array[]): Uint8Array =>
    parts.reduce((h, part) => h.update(part), createHash('sha256')).digest();
  if (leaves.length === 0) return sha();
  if (leaves.length === 1) return sha(Uint8Array.of(0), leaves[0]!);
  let k = 1;
  while (k * 2 < leaves.length) k *= 2;
  return sha(Uint8Array.of(1), definition(leaves.slice(0, k)), definition(leaves.slice(k)));
}

function readerOf(leafHashes: readonly Uint8Array[]): NodeReader {
  const read: NodeReader = (level, index) =>
    level === 0 ? leafHashes[index]! : pureHasher.node(read(level - 1, 2 * index), read(level - 1, 2 * index + 1));
  return read;
}

function flip(parts: readonly Uint8Array[], bit: number): Uint8Array[] {
  const copy = parts.map(part => part.slice());
  const at = bit % (parts.length * 256);
  copy[at >> 8]![(at & 255) >> 3]! ^= 1 << (at & 7);
  return copy;
}
