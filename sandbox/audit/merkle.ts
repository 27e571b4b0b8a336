/**
 * The Merkle tree of RFC 6962 §2.1 (RFC 9162 §2.1): roots, proofs and their verification. Pure: it runs in a browser too.
 *
 * A leaf hash is SHA-256(0x00 || record), a node hash SHA-256(0x01 || left || right), so that no leaf can pass for a node.
 * Sizes and indexes are safe integers (up to 2^53 - 1), so nothing here uses 32-bit operators on them.
 * @module
 */
import { equalBytes } from '../../src/base/bytes.ts';
import { CloisterError } from '../../src/base/errors.ts';
import { sha256 } from '../../src/base/sha256.ts';

/** SHA-256 with the two domain prefixes. The writer passes one on node:crypto; the default here is pure. */
export interface Hasher {
  /** SHA-256(0x00 || record), 32 bytes. */
  leaf(record: Uint8Array): Uint8Array;
  /** SHA-256(0x01 || left || right), 32 bytes. */
  node(left: Uint8Array, right: Uint8Array): Uint8Array;
}

/** {@link Hasher} on `@noble/hashes`: no dependency on Node. */
export const pureHasher: Hasher = {
  leaf: record => sha256.create().update(LEAF_PREFIX).update(record).digest(),
  node: (left, right) => sha256.create().update(NODE_PREFIX).update(left).update(right).digest(),
};

/** What a verification found. A proof that does not hold is an ordinary outcome, not an exception. */
export type Verdict = { readonly ok: true } | { readonly ok: false; readonly reason: string };

/** Reads the hash of the complete subtree over leaves `[index * 2^level, (index + 1) * 2^level)`. */
export type NodeReader = (level: number, index: number) => Uint8Array;

/** The root of the tree without leaves: SHA-256 of the empty string (RFC 6962 §2.1). */
export const EMPTY_ROOT: Uint8Array = sha256(new Uint8Array(0));

/** Bytes in a hash. */
export const HASH_BYTES = 32;

/**
 * A tree that grows leaf by leaf and keeps only its compact range: the roots of the complete subtrees that it consists of, at
 * most one for each bit of its size.
 *
 * @example
 * ```ts
 * const tree = new TreeBuilder();
 * tree.append(pureHasher.leaf(new Uint8Array([1])));
 * tree.root().length; // 32
 * ```
 */
export class TreeBuilder {
  readonly #hasher: Hasher;
  readonly #range: Uint8Array[];
  #size: number;

  /**
   * @param hasher - Which SHA-256.
   * @param size - Leaves that the tree has already.
   * @param range - The complete subtrees that make up those leaves, leftmost (largest) first.
   * @throws {CloisterError} `INVALID_ARGUMENT` when `range` has not one hash for each one bit of `size`.
   */
  constructor(hasher: Hasher = pureHasher, size = 0, range: readonly Uint8Array[] = []) {
    assertSize(size);
    if (range.length !== popcount(size)) {
      throw new CloisterError(
        'INVALID_ARGUMENT',
        `a tree of ${size} leaves is ${popcount(size)} subtrees, got ${range.length}`,
      );
    }
    this.#hasher = hasher;
    this.#size = size;
    this.#range = [...range];
  }

  /** Leaves in the tree. */
  get size(): number {
    return this.#size;
  }

  /**
   * Adds a leaf and returns the nodes that it completes, from level 1 upwards: as many as the size before had trailing one bits.
   */
  append(leafHash: Uint8Array): Uint8Array[] {
    const completed: Uint8Array[] = [];
    let hash = leafHash;
    for (let left = this.#size; left % 2 === 1; left = (left - 1) / 2) {
      hash = this.#hasher.node(this.#range.pop()!, hash);
      completed.push(hash);
    }
    this.#range.push(hash);
    this.#size++;
    return completed;
  }

  /** The root hash of the leaves so far. */
  root(): Uint8Array {
    let hash: Uint8Array | undefined;
    for (let i = this.#range.length - 1; i >= 0; i--) {
      hash = hash === undefined ? this.#range[i]! : this.#hasher.node(this.#range[i]!, hash);
    }
    return hash ?? EMPTY_ROOT;
  }
}

/** The coordinates of the complete subtrees that a tree of `size` leaves consists of, leftmost first. */
export function compactRange(size: number): { readonly level: number; readonly index: number }[] {
  assertSize(size);
  const nodes: { level: number; index: number }[] = [];
  let start = 0;
  while (start < size) {
    let level = 0;
    while (2 ** (level + 1) <= size - start) level++;
    nodes.push({ level, index: start / 2 ** level });
    start += 2 ** level;
  }
  return nodes;
}

/** The root of the first `size` leaves of the tree that `node` reads. */
export function rootAt(size: number, node: NodeReader, hasher: Hasher = pureHasher): Uint8Array {
  assertSize(size);
  return size === 0 ? EMPTY_ROOT : subtree(0, size, node, hasher);
}

/**
 * Returns the audit path of leaf `index` in the tree of the first `size` leaves (RFC 6962 §2.1.1), lowest sibling first.
 *
 * @param spine - Hashes of the incomplete subtrees [lo, size) by lo, as far as they are known. Pass one map for several proofs
 *   of one size, and each such hash is computed once.
 * @throws {CloisterError} `INVALID_ARGUMENT` unless `0 <= index < size`.
 * @example
 * ```ts
 * const leaves = [1, 2].map(byte => pureHasher.leaf(Uint8Array.of(byte)));
 * const read = (level: number, index: number) => (level === 0 ? leaves[index]! : pureHasher.node(leaves[0]!, leaves[1]!));
 * const proof = inclusionProof(0, 2, read);
 * verifyInclusion(0, 2, leaves[0]!, proof, rootAt(2, read)); // { ok: true }
 * ```
 */
export function inclusionProof(
  index: number,
  size: number,
  node: NodeReader,
  hasher: Hasher = pureHasher,
  spine: Map<number, Uint8Array> = new Map(),
): Uint8Array[] {
  assertSize(size);
  if (!Number.isSafeInteger(index) || index < 0 || index >= size) {
    throw new CloisterError('INVALID_ARGUMENT', `a leaf index must be from 0 to ${size - 1}, got ${index}`, {
      index,
      size,
    });
  }
  const path: Uint8Array[] = [];
  let lo = 0;
  let hi = size;
  while (hi - lo > 1) {
    const split = lo + largestPowerBelow(hi - lo);
    if (index < split) {
      const known = hi === size ? spine.get(split) : undefined;
      const sibling = known ?? subtree(split, hi, node, hasher);
      if (hi === size) spine.set(split, sibling);
      path.push(sibling);
      hi = split;
    } else {
      path.push(subtree(lo, split, node, hasher));
      lo = split;
    }
  }
  return path.reverse();
}

/**
 * Returns the proof that the first `size1` leaves of the tree of `size2` leaves are the tree of `size1` (RFC 6962 §2.1.2).
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` unless `1 <= size1 <= size2`: a proof from the empty tree would say nothing.
 */
export function consistencyProof(
  size1: number,
  size2: number,
  node: NodeReader,
  hasher: Hasher = pureHasher,
): Uint8Array[] {
  assertSize(size1);
  assertSize(size2);
  if (size1 < 1 || size1 > size2) {
    throw new CloisterError('INVALID_ARGUMENT', `expected 1 <= size1 <= size2, got ${size1} and ${size2}`, {
      size1,
      size2,
    });
  }
  const path: Uint8Array[] = [];
  let lo = 0;
  let hi = size2;
  let whole = true; // RFC 6962 §2.1.2: b, whether the verifier holds the hash of [lo, size1) already
  while (hi !== size1) {
    const split = lo + largestPowerBelow(hi - lo);
    if (size1 <= split) {
      path.push(subtree(split, hi, node, hasher));
      hi = split;
    } else {
      path.push(subtree(lo, split, node, hasher));
      lo = split;
      whole = false;
    }
  }
  if (!whole) path.push(subtree(lo, hi, node, hasher));
  return path.reverse();
}

/**
 * Verifies that `leafHash` is leaf `index` of the tree with `size` leaves and root `root`.
 *
 * @see RFC 9162 §2.1.3.2
 */
export function verifyInclusion(
  index: number,
  size: number,
  leafHash: Uint8Array,
  proof: readonly Uint8Array[],
  root: Uint8Array,
  hasher: Hasher = pureHasher,
): Verdict {
  if (!isSize(index) || !isSize(size) || index >= size) return refuse(`index ${index} is not below size ${size}`);
  if (leafHash.length !== HASH_BYTES || root.length !== HASH_BYTES)
    return refuse('a leaf hash and a root are 32 bytes');
  if (!proof.every(hash => hash.length === HASH_BYTES)) return refuse('a proof consists of hashes of 32 bytes');
  let fn = index;
  let sn = size - 1;
  let hash = leafHash;
  for (const sibling of proof) {
    if (sn === 0) return refuse('the proof is too long');
    if (fn % 2 === 1 || fn === sn) {
      hash = hasher.node(sibling, hash);
      while (fn % 2 === 0 && fn !== 0) {
        fn = half(fn);
        sn = half(sn);
      }
    } else {
      hash = hasher.node(hash, sibling);
    }
    fn = half(fn);
    sn = half(sn);
  }
  if (sn !== 0) return refuse('the proof is too short');
  return equalBytes(hash, root) ? { ok: true } : refuse('the proof leads to another root');
}

/**
 * Verifies that the tree with root `root1` and `size1` leaves is a prefix of the tree with root `root2` and `size2` leaves.
 * A `size1` of 0 does not verify: any tree extends the empty one, so such a proof proves nothing.
 *
 * @see RFC 9162 §2.1.4.2
 */
export function verifyConsistency(
  size1: number,
  size2: number,
  root1: Uint8Array,
  root2: Uint8Array,
  proof: readonly Uint8Array[],
  hasher: Hasher = pureHasher,
): Verdict {
  if (!isSize(size1) || !isSize(size2) || size1 > size2) return refuse(`size ${size1} is not at most size ${size2}`);
  if (size1 === 0) return refuse('consistency with the empty tree proves nothing');
  if (size1 === size2) {
    if (proof.length > 0) return refuse('equal sizes need no proof');
    return equalBytes(root1, root2) ? { ok: true } : refuse('two roots for one size');
  }
  if (proof.length === 0) return refuse('the proof is empty');
  if (!proof.every(hash => hash.length === HASH_BYTES)) return refuse('a proof consists of hashes of 32 bytes');
  let fn = size1 - 1;
  let sn = size2 - 1;
  while (fn % 2 === 1) {
    fn = half(fn);
    sn = half(sn);
  }
  // When size1 is a power of two its root is a node of the larger tree, and the proof leaves it out.
  const path = fn === 0 ? [root1, ...proof] : proof;
  let hash1 = path[0]!;
  let hash2 = path[0]!;
  for (const sibling of path.slice(1)) {
    if (sn === 0) return refuse('the proof is too long');
    if (fn % 2 === 1 || fn === sn) {
      hash1 = hasher.node(sibling, hash1);
      hash2 = hasher.node(sibling, hash2);
      while (fn % 2 === 0 && fn !== 0) {
        fn = half(fn);
        sn = half(sn);
      }
    } else {
      hash2 = hasher.node(hash2, sibling);
    }
    fn = half(fn);
    sn = half(sn);
  }
  if (sn !== 0) return refuse('the proof is too short');
  if (!equalBytes(hash1, root1)) return refuse('the proof leads to another first root');
  return equalBytes(hash2, root2) ? { ok: true } : refuse('the proof leads to another second root');
}

/** One bits of a safe integer. */
export function popcount(value: number): number {
  let low = value >>> 0;
  let high = (value - low) / 2 ** 32;
  let count = 0;
  for (; low !== 0; low = (low & (low - 1)) >>> 0) count++;
  for (; high !== 0; high = (high & (high - 1)) >>> 0) count++;
  return count;
}

/** RFC 6962 §2.1: the hash of leaves [lo, hi), where lo is a multiple of the smallest power of two that is >= hi - lo. */
function subtree(lo: number, hi: number, node: NodeReader, hasher: Hasher): Uint8Array {
  const width = hi - lo;
  const split = largestPowerBelow(width);
  if (width === 1) return node(0, lo);
  if (split * 2 === width) return node(Math.round(Math.log2(width)), lo / width);
  return hasher.node(subtree(lo, lo + split, node, hasher), subtree(lo + split, hi, node, hasher));
}

/** The largest power of two below `value`, for value >= 2; 1 for 1. */
function largestPowerBelow(value: number): number {
  let power = 1;
  while (power * 2 < value) power *= 2;
  return power;
}

function half(value: number): number {
  return Math.floor(value / 2);
}

function isSize(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

function assertSize(size: number): void {
  if (!isSize(size))
    throw new CloisterError('INVALID_ARGUMENT', `a tree size must be an integer from 0 to 2^53-1, got ${size}`);
}

function refuse(reason: string): Verdict {
  return { ok: false, reason };
}

const LEAF_PREFIX = Uint8Array.of(0);
const NODE_PREFIX = Uint8Array.of(1);
