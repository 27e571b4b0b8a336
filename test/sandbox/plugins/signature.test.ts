import { chmodSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseVkey, signNote } from '../../../sandbox/audit/index.ts';
import { encodePackage, readPackage } from '../../../sandbox/plugins/package.ts';
import {
  createPublisherKey,
  loadPublisherKey,
  type PublisherVerdict,
  publisherOf,
  signPackage,
  verifyPublisher,
} from '../../../sandbox/plugins/signature.ts';
import { decodeUtf8, encodeUtf8, isCloisterError } from '../../../src/base/index.ts';
import { freshFolder, freshKey, packed, signed } from './packages.ts';

const acme = freshKey('acme');
const other = freshKey('other.example');

/** What verifying says, also of bytes that are no package. */
function verdictOf(
  bytes: Uint8Array,
  publishers: readonly string[] = [acme.vkey, other.vkey],
): PublisherVerdict['kind'] {
  try {
    return verifyPublisher(readPackage(bytes), publishers.map(parseVkey)).kind;
  } catch (error) {
    if (isCloisterError(error, 'INVALID_PLUGIN')) return 'invalid';
    throw error;
  }
}

/** The package with another signature. */
function withSignature(bytes: Uint8Array, signature: string | undefined): Uint8Array {
  const { manifest, files } = readPackage(bytes);
  return encodePackage(manifest, files, signature === undefined ? undefined : encodeUtf8(signature));
}

describe('a signature', () => {
  test('says which key signed', () => {
    const verdict = verifyPublisher(readPackage(signed(acme)), [other.vkey, acme.vkey].map(parseVkey));
    expect(verdict).toEqual({ kind: 'signed', publisher: publisherOf(acme) });
    expect(publisherOf(acme)).toBe(publisherOf(parseVkey(acme.vkey)));
  });

  test('by a key that nobody trusts says so, and a package without one is not signed', () => {
    expect(verdictOf(signed(acme), [other.vkey])).toBe('unknown');
    expect(verdictOf(signed(acme), [])).toBe('unknown');
    expect(verdictOf(packed())).toBe('unsigned');
  });

  test('does not survive the change of any bit of the package', () => {
    const bytes = signed(acme);
    expect(verdictOf(bytes)).toBe('signed');
    const place = fc.tuple(fc.nat(bytes.length - 1), fc.nat(7));
    fc.assert(
      fc.property(place, ([at, bit]) => {
        const copy = new Uint8Array(bytes);
        copy[at]! ^= 1 << bit;
        expect(['invalid', 'unknown']).toContain(verdictOf(copy));
      }),
      { numRuns: 2000 },
    );
  });

  test('cannot be stripped, moved, doubled, or made by a key of the same name', () => {
    const bytes = signed(acme);
    const { signature } = readPackage(bytes);
    const note = decodeUtf8(signature!);
    const later = signed(acme, { version: '1.0.1' });
    const impostor = freshKey('acme');
    const text = note.slice(0, note.indexOf('\n\n') + 1);
    expect(verdictOf(withSignature(bytes, note))).toBe('signed');
    for (const hostile of [
      withSignature(bytes, undefined),
      withSignature(later, note),
      withSignature(bytes, note + note.slice(note.indexOf('— '))),
      withSignature(bytes, signNote(text, impostor)),
      // The line of the right key with the signature of another one.
      withSignature(bytes, signNote(text, { ...impostor, name: acme.name, id: acme.id })),
      // A note of the right key that says something else, as a log's key would sign.
      withSignature(bytes, signNote(`acme\n12\n${text.split('\n')[1]}\n`, acme)),
      withSignature(bytes, note.trimEnd()),
      withSignature(bytes, ''),
    ]) {
      expect(verdictOf(hostile)).toBe('invalid');
    }
    // Signed, but by nobody that the manifest names.
    const { manifest, files } = readPackage(packed());
    expect(verdictOf(encodePackage(manifest, files, signature))).toBe('invalid');
  });

  test('is made anew by the same key, and not by another one', () => {
    const bytes = signed(acme);
    expect(Buffer.from(signPackage(bytes, acme)).equals(bytes)).toBe(true);
    expect(() => signPackage(bytes, other)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    expect(() => signPackage(encodeUtf8('no package'), acme)).toThrow(
      expect.objectContaining({ code: 'INVALID_PLUGIN' }),
    );
  });
});

describe('the key of a publisher', () => {
  test('is made once, and read back by its owner alone', () => {
    const folder = join(freshFolder(), 'keys');
    const key = createPublisherKey(folder, 'acme');
    expect(loadPublisherKey(folder).vkey).toBe(key.vkey);
    expect(() => createPublisherKey(folder, 'acme')).toThrow(expect.objectContaining({ code: 'LOCKED' }));
    chmodSync(join(folder, 'key'), 0o644);
    expect(() => loadPublisherKey(folder)).toThrow(expect.objectContaining({ code: 'STORE_FAILED' }));
    rmSync(join(folder, 'key'));
    expect(() => loadPublisherKey(folder)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  });

  test.each(['', 'a b', 'a+b', 'a\n', '-a', 'a'.repeat(129), 'ä'])('is not named %j', name => {
    expect(() => createPublisherKey(join(freshFolder(), 'keys'), name)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
    );
  });
});
