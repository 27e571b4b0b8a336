import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatCheckpoint, parseCheckpoint, signCheckpoint, verifyCheckpoint } from '../../sandbox/audit/checkpoint.ts';
import { createLogKey, loadLogKey, parseSigner } from '../../sandbox/audit/keys.ts';
import { nodeEd25519 } from '../../sandbox/audit/node-crypto.ts';
import { parseNote, parseVkey, pureEd25519, signNote, verifyNote } from '../../sandbox/audit/note.ts';
import { fromHex } from '../../src/base/bytes.ts';
import { isCloisterError } from '../../src/base/errors.ts';
import { MemoryDirectory } from './memory-directory.ts';

const corpus = path.join(process.env['CLOISTER_CORPUS'] ?? '/nowhere', 'merkle');
const vectors = (name: string) => JSON.parse(readFileSync(path.join(corpus, name), 'utf8'));

describe.skipIf(!existsSync(corpus))('third-party notes', () => {
  test('every case of golang.org/x/mod/sumdb/note has its expected outcome, with both Ed25519 implementations', () => {
    for (const c of vectors('signed-note.json').open) {
      const note: Uint8Array | string = c.noteHex === undefined ? c.note : fromHex(c.noteHex);
      for (const verify of [pureEd25519, nodeEd25519]) {
        const verdict = verifyNote(note, c.vkeys.map(parseVkey), verify);
        expect(verdict.ok, c.name).toBe(c.ok);
        if (verdict.ok) expect(verdict.signedBy.map(key => key.name)).toEqual(c.verified);
        else expect(verdict.reason, c.name).toMatch(REASONS[c.err as keyof typeof REASONS] ?? c.err);
      }
    }
  });

  test('the signature by the reference key is the reference signature, byte for byte', () => {
    const { skey, vkey, text, signed } = vectors('signed-note.json').signer;
    const signer = parseSigner(skey);
    expect(signer.vkey).toBe(vkey);
    expect(signNote(text, signer)).toBe(signed);
  });

  test('no mangled vkey or signing key is accepted: no substring, no character raised by one', () => {
    const { signer, badVkeys } = vectors('signed-note.json');
    for (const bad of badVkeys) expect(() => parseVkey(bad), bad).toThrow();
    for (const [good, parse] of [
      [signer.vkey, parseVkey],
      [signer.skey, parseSigner],
    ] as const) {
      parse(good);
      for (let i = 0; i < good.length; i++) {
        expect(() =>
          parse(good.slice(0, i) + String.fromCharCode(good.charCodeAt(i) + 1) + good.slice(i + 1)),
        ).toThrow();
        for (let j = i + 1; j <= good.length; j++)
          if (i > 0 || j < good.length) expect(() => parse(good.slice(i, j))).toThrow();
      }
    }
  });

  test('checkpoints of the C2SP specification and of a public log are read', () => {
    const { c2spExample, romeStaticCT } = vectors('checkpoints.json');
    const example = parseCheckpoint(parseNote(c2spExample).text);
    expect(example).toMatchObject({ origin: 'example.com/behind-the-sofa', size: 20_852_163, extensions: [] });
    expect(formatCheckpoint(example)).toBe(parseNote(c2spExample).text);
    expect(parseCheckpoint(parseNote(romeStaticCT.checkpoint).text)).toMatchObject({
      origin: 'rome.ct.filippo.io/2024h1',
      size: 115_474_666,
    });
    expect(() => parseVkey(romeStaticCT.vkey)).toThrow(/Ed25519/); // its key is of type 5, which a log of ours never is
  });
});

/** What the Go package says, and what ours says. */
const REASONS = {
  'note has no verifiable signatures': /no signature by a known key/,
  'malformed note': /malformed note/,
  'invalid signature': /invalid signature/,
};

describe('notes', () => {
  const signer = createLogKey(new MemoryDirectory(), 'clinic.example/audit');
  const key = parseVkey(signer.vkey);
  const note = signNote('one\n\ntwo\n', signer);

  test('a note verifies under its key, and under no other', () => {
    const other = parseVkey(createLogKey(new MemoryDirectory(), 'clinic.example/audit').vkey);
    expect(verifyNote(note, [key])).toMatchObject({ ok: true, text: 'one\n\ntwo\n' });
    expect(verifyNote(note, [other]).ok).toBe(false);
    expect(verifyNote(note, [{ ...other, id: key.id }])).toMatchObject({
      ok: false,
      reason: expect.stringMatching(/invalid signature/),
    });
  });

  test('no single bit of a note can change', () => {
    const bytes = Buffer.from(note);
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const copy = Buffer.from(bytes);
      copy[bit >> 3]! ^= 1 << (bit & 7);
      expect(verifyNote(copy, [key], nodeEd25519).ok, `bit ${bit}`).toBe(false);
    }
  });

  test('any bytes are refused, not thrown on', () => {
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.string({ unit: 'binary', maxLength: 300 })), bytes => {
        expect(verifyNote(bytes, [key]).ok).toBe(false);
        expect(verifyCheckpoint(bytes, key).ok).toBe(false);
      }),
    );
  });

  test('16 signatures are accepted, 101 and oversized notes are not', () => {
    const line = note.slice(note.lastIndexOf('\n— ') + 1);
    expect(verifyNote(note + line.repeat(15), [key]).ok).toBe(true);
    expect(verifyNote(note + line.repeat(100), [key]).ok).toBe(false);
    expect(verifyNote(`${'x'.repeat(140_000)}\n${note}`, [key]).ok).toBe(false);
  });

  test.each([
    ['no newline at the end', 'a\n0\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='],
    ['an empty origin', '\n0\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n'],
    ['a leading zero', 'a\n01\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n'],
    ['a sign', 'a\n+1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n'],
    ['a size of 2^53', 'a\n9007199254740992\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n'],
    ['a root of 31 bytes', 'a\n0\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==\n'],
    ['unused bits in base64', 'a\n0\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=\n'],
    ['an empty extension line', 'a\n0\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n'],
    ['two lines', 'a\n0\n'],
  ])('a checkpoint with %s is refused', (_, text) => {
    expect(() => parseCheckpoint(text)).toThrow(/malformed checkpoint/);
  });

  test('a checkpoint under another name than its key does not verify', () => {
    const text = formatCheckpoint({ origin: 'another.example', size: 1, root: new Uint8Array(32) });
    expect(verifyCheckpoint(signNote(text, signer), key)).toMatchObject({
      ok: false,
      reason: expect.stringMatching(/another.example/),
    });
    expect(verifyCheckpoint(signCheckpoint(1, new Uint8Array(32), signer), key).ok).toBe(true);
  });
});

describe('keys', () => {
  test('a stored key is read back, and the public part restored when a crash lost it', () => {
    const directory = new MemoryDirectory();
    const made = createLogKey(directory, 'a.example');
    expect(directory.mode('key')).toBe(0o600);
    expect(loadLogKey(directory)?.vkey).toBe(made.vkey);
    directory.files.delete('vkey');
    expect(loadLogKey(directory)?.vkey).toBe(made.vkey);
    expect(Buffer.from(directory.bytes('vkey')).toString()).toBe(`${made.vkey}\n`);
    expect(() => createLogKey(directory, 'a.example')).toThrow(/has a key already/);
  });

  test('a key that others may read, that is damaged, or whose public part is another is refused', () => {
    const directory = new MemoryDirectory();
    createLogKey(directory, 'a.example');
    directory.files.get('key')!.mode = 0o640;
    expect(() => loadLogKey(directory)).toThrow(/chmod 600/);
    const swapped = new MemoryDirectory();
    createLogKey(swapped, 'a.example');
    const other = new MemoryDirectory();
    createLogKey(other, 'a.example');
    swapped.set('vkey', other.bytes('vkey'));
    expect(() => loadLogKey(swapped)).toThrow(/does not belong/);
    const whole = other.bytes('key').slice();
    for (let i = 0; i < whole.length - 1; i++) {
      const broken = whole.slice();
      broken[i]! ^= 1;
      other.set('key', broken);
      let thrown: unknown;
      try {
        loadLogKey(other);
      } catch (error) {
        thrown = error;
      }
      expect(isCloisterError(thrown, 'AUDIT_INVALID'), `byte ${i}`).toBe(true);
    }
  });
});
