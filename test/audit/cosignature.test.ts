import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { verifyCheckpoint } from '../../sandbox/audit/checkpoint.ts';
import {
  addSignatures,
  cosign,
  formatCosigner,
  parseCosigner,
  pureCosignature,
  verifyCosignatures,
} from '../../sandbox/audit/cosignature.ts';
import { createCosigner, nodeCosignature, parseCosignSigner } from '../../sandbox/audit/cosigner.ts';
import { createLogKey, parseSigner } from '../../sandbox/audit/keys.ts';
import { parseNote, parseVkey, signNote, verifyNote } from '../../sandbox/audit/note.ts';
import { parseWitnessPolicy, verifyWitnessed, witnessPolicy } from '../../sandbox/audit/witness-policy.ts';
import { isCloisterError } from '../../src/base/errors.ts';
import { MemoryDirectory } from './memory-directory.ts';

const vector = (name: string): string =>
  readFileSync(path.join(import.meta.dirname, '../vectors/torchwood', name), 'utf8');
const corpus = path.join(process.env['CLOISTER_CORPUS'] ?? '/nowhere', 'merkle');

const log = createLogKey(new MemoryDirectory(), 'example.com/log');
const ROOT = 'f+7CoKgXKE/tNys9TTXcr/ad6U/K3xvznmzew9y6SP0=';
const TEXT = `example.com/log\n123\n${ROOT}\n`;
const NOTE = signNote(TEXT, log);
const TIME = 1_679_315_147;
const ed = createCosigner('witness.example/w1', 'ed25519');
const pq = createCosigner('witness.example/w2', 'ml-dsa-44');
const both = [ed.signer, pq.signer];

describe('third-party signatures', () => {
  test('the ML-DSA-44 line of a log of another implementation verifies, and no changed head does', () => {
    const key = parseCosigner(vector('mldsa-log.vkey').trim());
    const note = vector('mldsa-log.checkpoint');
    expect(verifyCosignatures(note, [key], nodeCosignature)).toMatchObject({
      ok: true,
      checkpoint: { origin: 'example.com/mldsa-log', size: 1 },
      cosigned: [{ time: 0 }],
    });
    expect(verifyWitnessed(note, witnessPolicy(1, [vector('mldsa-log.vkey').trim()]), { vkey: log.vkey }).ok).toBe(
      false,
    );
    const text = note.slice(0, note.indexOf('\n\n') + 1);
    for (const [from, to] of [
      ['mldsa-log\n', 'mldsa-lag\n'],
      ['\n1\n', '\n2\n'],
      ['+zoE', 'AzoE'],
    ] as const) {
      expect(verifyCosignatures(note.replace(text, text.replace(from, to)), [key], nodeCosignature)).toMatchObject({
        ok: false,
      });
    }
  });
});

describe.skipIf(!existsSync(corpus))('cases of golang.org/x/mod/sumdb/note that the corpus leaves out', () => {
  const { open, signer } = JSON.parse(readFileSync(path.join(corpus, 'signed-note.json'), 'utf8'));
  const text: string = signer.text;
  const peter = parseVkey(signer.vkey);
  const line: string = signer.signed.slice(text.length + 1);
  const enoch: string = open
    .find((c: { name: string }) => c.name === 'both verified')
    .note.split('\n')
    .at(-2);

  test('101 signatures are malformed also where no key is known', () => {
    expect(verifyNote(`${text}\n${line.repeat(101)}`, [])).toMatchObject({ ok: false, reason: /malformed/ });
    expect(verifyNote(`${text}\n${line.repeat(100)}`, [peter]).ok).toBe(true);
  });

  test('a broken signature by an unknown key does no harm', () => {
    const broken = `${enoch.slice(0, 60)}ABCD${enoch.slice(60)}\n`;
    expect(verifyNote(`${text}\n${line}${line}${enoch}\n${enoch}\n${broken}`, [peter])).toMatchObject({
      ok: true,
      signedBy: [peter],
    });
  });

  test('a known key under another name, and a known name with another id, are ignored', () => {
    for (const other of [line.replace('PeterNeumann', 'CarmenSandiego'), line.replace('x08g', 'xxxx')]) {
      expect(verifyNote(`${text}\n${other}`, [peter])).toMatchObject({
        ok: false,
        reason: /no signature by a known key/,
      });
    }
  });

  test('a text without a newline at its end is not signed', () => {
    expect(() => signNote('abc', parseSigner(signer.skey))).toThrow(/newline/);
  });
});

describe.each(both)('cosignatures of type $type', signer => {
  const line = cosign(TEXT, signer, TIME);
  const note = addSignatures(NOTE, [line]);
  const key = parseCosigner(signer.vkey);

  test('verify, with their time, and leave the signature of the log as it was', () => {
    expect(verifyCosignatures(note, [key], nodeCosignature)).toMatchObject({
      ok: true,
      checkpoint: { origin: 'example.com/log', size: 123 },
      cosigned: [{ cosigner: key, time: TIME }],
    });
    expect(verifyCheckpoint(note, parseVkey(log.vkey)).ok).toBe(true);
    expect(note.startsWith(NOTE)).toBe(true);
  });

  test('no single bit of the text, the time or the signature can change', () => {
    const { signatures } = parseNote(note);
    const { signature } = signatures[1]!;
    for (let bit = 0; bit < signature.length * 8; bit += signer.type === 'ed25519' ? 1 : 61) {
      const changed = signature.slice();
      changed[bit >> 3]! ^= 1 << (bit & 7);
      const forged = addSignatures(NOTE, [spelt(signer.name, key.id, changed)]);
      expect(verifyCosignatures(forged, [key], nodeCosignature).ok, `bit ${bit}`).toBe(false);
    }
    for (let i = 0; i < TEXT.length; i++) {
      const text = TEXT.slice(0, i) + String.fromCharCode(TEXT.charCodeAt(i) ^ 1) + TEXT.slice(i + 1);
      expect(verifyCosignatures(note.replace(TEXT, text), [key], nodeCosignature).ok, `character ${i}`).toBe(false);
    }
  });

  test('a name is part of the key: another witness with the same key is another', () => {
    const { publicKey } = key;
    const other = parseCosigner(formatCosigner('witness.example/other', signer.type, publicKey));
    expect(other.id).not.toBe(key.id);
    expect(verifyCosignatures(note, [other], nodeCosignature)).toMatchObject({ ok: true, cosigned: [] });
    const renamed = addSignatures(NOTE, [line.replace(signer.name, other.name)]);
    expect(verifyCosignatures(renamed, [other], nodeCosignature)).toMatchObject({ ok: true, cosigned: [] }); // its id is another
  });

  test('private keys survive their spelling, and no changed one is taken', () => {
    const { secret } = signer === ed.signer ? ed : pq;
    expect(parseCosignSigner(secret).vkey).toBe(signer.vkey);
    for (let i = 0; i < secret.length; i++) {
      const changed = secret.slice(0, i) + String.fromCharCode(secret.charCodeAt(i) + 1) + secret.slice(i + 1);
      expect(() => parseCosignSigner(changed), `character ${i}`).toThrow(/private key|base64|key name|id/);
    }
    expect(() => parseVkey(signer.vkey)).toThrow(/Ed25519 key \(type 1/);
  });
});

test('the message after Ed25519 is the header, the time and the whole text; after ML-DSA-44 it is the structure', () => {
  const messages: Uint8Array[] = [];
  for (const type of ['ed25519', 'ml-dsa-44'] as const) {
    const bytes = new Uint8Array(type === 'ed25519' ? 64 : 2420);
    const sign = (message: Uint8Array): Uint8Array => {
      messages.push(message);
      return bytes;
    };
    cosign(TEXT, { name: 'w', id: 1, type, vkey: '', sign }, 7);
  }
  expect(Buffer.from(messages[0]!).toString()).toBe(`cosignature/v1\ntime 7\n${TEXT}`);
  const end = Buffer.from(ROOT, 'base64').toString('hex');
  expect(Buffer.from(messages[1]!).toString('hex')).toBe(
    `${Buffer.from('subtree/v1\n\0').toString('hex')}0177${'00'.repeat(7)}07` +
      `0f${Buffer.from('example.com/log').toString('hex')}${'00'.repeat(8)}${'00'.repeat(7)}7b${end}`,
  );
});

test('extension lines are covered by Ed25519, and refused by ML-DSA-44, which would leave them out', () => {
  const text = `${TEXT}extension\n`;
  const extended = signNote(text, log);
  const key = parseCosigner(ed.signer.vkey);
  const note = addSignatures(extended, [cosign(text, ed.signer, TIME)]);
  expect(verifyCosignatures(note, [key])).toMatchObject({ ok: true, cosigned: [{ time: TIME }] });
  expect(verifyCosignatures(note.replace('extension', 'Extension'), [key]).ok).toBe(false);
  expect(() => cosign(text, pq.signer, TIME)).toThrow(/extension lines/);
  const smuggled = addSignatures(extended, [cosign(TEXT, pq.signer, TIME)]);
  expect(verifyCosignatures(smuggled, [parseCosigner(pq.signer.vkey)], nodeCosignature).ok).toBe(false);
});

test('a later line of the same key takes the place of the older', () => {
  const older = addSignatures(NOTE, [cosign(TEXT, ed.signer, 1)]);
  const later = addSignatures(older, [cosign(TEXT, ed.signer, 2), cosign(TEXT, ed.signer, 3)]);
  expect(parseNote(later).signatures).toHaveLength(2);
  expect(verifyCosignatures(later, [parseCosigner(ed.signer.vkey)])).toMatchObject({ cosigned: [{ time: 3 }] });
  expect(() => addSignatures(NOTE, ['no line'])).toThrow(/malformed note/);
});

test('without a verifier for ML-DSA-44 there is an error, not a verdict', () => {
  const note = addSignatures(NOTE, [cosign(TEXT, pq.signer, TIME)]);
  expect(() => verifyCosignatures(note, [parseCosigner(pq.signer.vkey)], pureCosignature)).toThrow(/nodeCosignature/);
});

describe('policies', () => {
  const [a, b, c] = ['a', 'b', 'c'].map(name => createCosigner(`witness.example/${name}`, 'ed25519').signer);
  const names = { a: a!, b: b!, c: c! };
  const define = `witness A ${a!.vkey}\nwitness B ${b!.vkey} https://b.example\n\twitness  C ${c!.vkey}\n# done\n\n`;
  const noteBy = (...by: (keyof typeof names)[]): string =>
    addSignatures(
      NOTE,
      by.map(one => cosign(TEXT, names[one], TIME)),
    );
  const options = { vkey: log.vkey };

  test.each([
    ['quorum none\n', [], true],
    ['quorum A\n', ['b'], false],
    ['quorum A\n', ['a'], true],
    ['group g 2 A B C\nquorum g\n', ['a'], false],
    ['group g 2 A B C\nquorum g\n', ['c', 'a'], true],
    ['group g all A B C\nquorum g\n', ['a', 'b'], false],
    ['group g any A B C\nquorum g\n', ['c'], true],
    ['group g any B C\ngroup h all A g\nquorum h\n', ['a'], false],
    ['group g any B C\ngroup h all A g\nquorum h\n', ['a', 'c'], true],
  ] as const)('%j with cosignatures by %j: %s', (rules, by, ok) => {
    const policy = parseWitnessPolicy(define + rules);
    const verdict = verifyWitnessed(noteBy(...by), policy, options);
    expect(verdict.ok, verdict.ok ? '' : verdict.reason).toBe(ok);
    if (verdict.ok) expect(verdict.witnessed).toHaveLength(by.length);
  });

  test('the logs that a policy lists are those that are accepted', () => {
    const other = createLogKey(new MemoryDirectory(), 'example.com/other');
    const policy = (vkeys: string[]) =>
      parseWitnessPolicy(`${vkeys.map(vkey => `log ${vkey}\n`).join('')}quorum none\n`);
    expect(verifyWitnessed(NOTE, policy([other.vkey, log.vkey])).ok).toBe(true);
    expect(verifyWitnessed(NOTE, policy([other.vkey])).ok).toBe(false);
    expect(() => verifyWitnessed(NOTE, policy([]))).toThrow(/lists no log/);
  });

  test('k of n by their vkeys; a broken cosignature spoils the note, whoever else has signed', () => {
    const policy = witnessPolicy(2, [a!.vkey, b!.vkey, c!.vkey]);
    expect(verifyWitnessed(noteBy('a', 'c'), policy, options)).toMatchObject({
      ok: true,
      witnessed: [{ witness: 'witness.example/a', time: TIME }, { witness: 'witness.example/c' }],
    });
    expect(verifyWitnessed(noteBy('b'), policy, options)).toMatchObject({ ok: false, reason: /too few witnesses/ });
    const stolen = cosign(TEXT.replace('123', '124'), b!, TIME);
    expect(verifyWitnessed(addSignatures(noteBy('a', 'c'), [stolen]), policy, options).ok).toBe(false);
    for (const bad of [0, 4, 1.5])
      expect(() => witnessPolicy(bad, [a!.vkey, b!.vkey, c!.vkey])).toThrow(/of the witnesses/);
    expect(() => witnessPolicy(1, [a!.vkey, a!.vkey])).toThrow(/twice/);
  });

  test.each([
    ['no quorum', define],
    ['two quorums', `${define}quorum A\nquorum B\n`],
    ['a name that is not defined', `${define}quorum D\n`],
    ['a group before its members', `group g any A\n${define}quorum g\n`],
    ['a name taken twice', `${define}group A any B\nquorum A\n`],
    ['a witness twice', `${define}witness D ${a!.vkey}\nquorum A\n`],
    ['a member of two groups', `${define}group g any A\ngroup h any A\nquorum h\n`],
    ['a member twice', `${define}group g 2 A A\nquorum g\n`],
    ['none as a member', `${define}group g any none\nquorum g\n`],
    ['none as a name', `witness none ${a!.vkey}\nquorum none\n`],
    ['a threshold of 0', `${define}group g 0 A B\nquorum g\n`],
    ['a threshold above the members', `${define}group g 3 A B\nquorum g\n`],
    ['a threshold with a leading zero', `${define}group g 01 A B\nquorum g\n`],
    ['the key of a log for a witness', `witness A ${log.vkey}\nquorum A\n`],
    ['the key of a witness for a log', `log ${a!.vkey}\nquorum none\n`],
    ['an unknown item', `${define}quorums A\n`],
    ['a control character', `${define}quorum A\r\n`],
    ['words left over', `${define}quorum A B\n`],
  ])('%s is refused, with its line', (_, text) => {
    expect(() => parseWitnessPolicy(text)).toThrow(/witness policy, line \d+: /);
  });

  test('any text is read or refused with a typed error', () => {
    const word = fc.constantFrom(
      'log',
      'witness',
      'group',
      'quorum',
      'any',
      'all',
      '2',
      'A',
      'B',
      'none',
      a!.vkey,
      '#',
      '\t',
    );
    const lines = fc.array(fc.array(fc.oneof(word, fc.string({ unit: 'binary', maxLength: 8 })), { maxLength: 6 }), {
      maxLength: 8,
    });
    fc.assert(
      fc.property(lines, all => {
        try {
          parseWitnessPolicy(all.map(words => words.join(' ')).join('\n'));
        } catch (error) {
          expect(isCloisterError(error, 'INVALID_ARGUMENT')).toBe(true);
        }
      }),
    );
  });
});

test('any bytes are refused as a cosigned checkpoint, a key or a line, with a verdict or a typed error', () => {
  const key = parseCosigner(ed.signer.vkey);
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.string({ unit: 'binary', maxLength: 300 })), bytes => {
      expect(verifyCosignatures(bytes, [key]).ok).toBe(false);
      const text = typeof bytes === 'string' ? bytes : Buffer.from(bytes).toString('latin1');
      for (const read of [parseCosigner, parseCosignSigner]) {
        expect(() => read(text)).toThrow(expect.objectContaining({ name: 'CloisterError' }));
      }
      const mixed = `${NOTE}— witness.example/w1 ${Buffer.from(text).toString('base64')}\n`;
      expect(verifyCosignatures(mixed, [key])).not.toMatchObject({ cosigned: [{}] });
    }),
  );
});

function spelt(name: string, id: number, signature: Uint8Array): string {
  const prefix = Buffer.alloc(4);
  prefix.writeUInt32BE(id);
  return `— ${name} ${Buffer.concat([prefix, signature]).toString('base64')}`;
}
