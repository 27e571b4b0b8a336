import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type ArchiveFile, readArchive, writeArchive } from '../../../sandbox/plugins/archive.ts';
import { encodeManifest } from '../../../sandbox/plugins/manifest.ts';
import { encodePackage, PACKAGE_LIMIT_BYTES, packPlugin, readPackage } from '../../../sandbox/plugins/package.ts';
import { encodeUtf8 } from '../../../src/base/index.ts';
import { cut, FUZZ_TIMEOUT_MS, flipped, runsOf, spliced, typedWithin } from '../../formats/fuzz.ts';
import { freshFolder, freshKey, MAIN, packed, SOURCE, signed, TABLE } from './packages.ts';

const refusal = (reason: RegExp) =>
  expect.objectContaining({ code: 'INVALID_PLUGIN', message: expect.stringMatching(reason) });

/** A package with the header of its second file changed, and a checksum that is right again. */
function withHeader(change: (header: Uint8Array) => void): Uint8Array {
  const bytes = packed();
  const at = 512 + Math.ceil(readArchive(bytes, 9)[0]!.bytes.length / 512) * 512;
  const header = bytes.subarray(at, at + 512);
  expect(Buffer.from(header).toString('latin1', 0, 7)).toBe('main.js');
  change(header);
  header.fill(0x20, 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.set(encodeUtf8(`${sum.toString(8).padStart(6, '0')}\x00 `), 148);
  return bytes;
}

const named = (name: string) => (header: Uint8Array) => {
  header.fill(0, 0, 100);
  header.set(Buffer.from(name), 0);
};

const typed =
  (type: string, link = '') =>
  (header: Uint8Array) => {
    header[156] = type.charCodeAt(0);
    header.set(encodeUtf8(link), 157);
  };

/** The archive that a package is, with other files. */
function repacked(change: (files: ArchiveFile[]) => ArchiveFile[]): Uint8Array {
  return writeArchive(change([...readArchive(packed(), 9)]));
}

describe('a package', () => {
  const contents = fc.dictionary(
    fc.stringMatching(/^[a-z0-9]{1,5}(\/[a-z0-9]{1,5})?\.[a-z]{1,3}$/),
    fc.uint8Array({ maxLength: 1500 }),
    { maxKeys: 8 },
  );

  test('gives back what was packed, to the byte, and in one spelling', () => {
    fc.assert(
      fc.property(contents, others => {
        const files = new Map([...Object.entries(others), ['main.js', MAIN] as const]);
        const bytes = packPlugin({ ...SOURCE, files: [...files.keys()] }, files);
        const read = readPackage(bytes);
        expect(Object.fromEntries(read.files)).toEqual(Object.fromEntries(files));
        expect([...read.files.keys()]).toEqual([...files.keys()].sort());
        expect(Buffer.from(encodePackage(read.manifest, read.files)).equals(bytes)).toBe(true);
        // The order in which an author names files is no part of it.
        const reversed = packPlugin({ ...SOURCE, files: [...files.keys()].reverse() }, files);
        expect(Buffer.from(reversed).equals(bytes)).toBe(true);
      }),
    );
  });

  test('is a tar archive that tar lists and unpacks', () => {
    const folder = freshFolder();
    writeFileSync(join(folder, 'a.cloister-plugin'), signed(freshKey()));
    const list = spawnSync('tar', ['-tvf', 'a.cloister-plugin'], { cwd: folder, encoding: 'utf8' });
    expect(list.status).toBe(0);
    expect(list.stdout.match(/\S+$/gm)).toEqual(['plugin.json', 'plugin.sig', 'main.js', 'tables/lower.bin']);
    const out = spawnSync('tar', ['-xOf', 'a.cloister-plugin', 'tables/lower.bin'], { cwd: folder });
    expect(out.stdout.equals(TABLE)).toBe(true);
  });

  test('keeps to its limits when it is made', () => {
    const big = new Uint8Array(16 * 2 ** 20);
    const over = new Map([
      ['main.js', MAIN],
      ['big.bin', big],
    ]);
    expect(() => packPlugin({ ...SOURCE, files: ['main.js', 'big.bin'] }, over)).toThrow(refusal(/in all, the limit/));
    const fits = new Map([
      ['main.js', MAIN],
      ['big.bin', big.subarray(MAIN.length)],
    ]);
    const bytes = packPlugin({ ...SOURCE, files: ['main.js', 'big.bin'] }, fits);
    expect(bytes.length).toBeLessThan(PACKAGE_LIMIT_BYTES);
    expect(readPackage(bytes).files.get('big.bin')!.length).toBe(big.length - MAIN.length);
  });

  test('is not made where a file is missing', () => {
    expect(() => packPlugin(SOURCE, new Map([['main.js', MAIN]]))).toThrow(refusal(/tables\/lower.bin .* not there/));
  });
});

describe('is refused as a package:', () => {
  test('the control is read', () => {
    expect(readPackage(withHeader(() => {})).manifest.name).toBe('@acme/lower');
    expect(readPackage(repacked(files => files)).files.size).toBe(2);
  });

  test.each<[string, () => Uint8Array, RegExp]>([
    ['a symbolic link', () => withHeader(typed('2', '/etc/passwd')), /symbolic link/],
    ['a hard link', () => withHeader(typed('1', 'plugin.json')), /hard link/],
    ['a character device', () => withHeader(typed('3')), /character device/],
    ['a block device', () => withHeader(typed('4')), /block device/],
    ['a folder', () => withHeader(typed('5')), /folder/],
    ['a pipe', () => withHeader(typed('6')), /pipe/],
    ['a sparse file', () => withHeader(typed('S')), /sparse file/],
    ['a long name', () => withHeader(typed('L')), /long name/],
    ['an extended header, which could rename what follows', () => withHeader(typed('x')), /extended header/],
    ['an old header without a type', () => withHeader(header => header.fill(0, 156, 157)), /header/],
    ['a link that hides behind the type of a file', () => withHeader(typed('0', '/etc/passwd')), /header/],
    [
      'a file that others may write, or that runs as its owner',
      () => withHeader(h => h.set(encodeUtf8('4777'), 103)),
      /header/,
    ],
    ['an owner', () => withHeader(header => header.set(encodeUtf8('root'), 265)), /header/],
    ['a prefix, which would go before the name', () => withHeader(h => h.set(encodeUtf8('../..'), 345)), /header/],
    ['a size in base 256', () => withHeader(header => header.set([0x80, 0, 0, 0], 124)), /header/],
    ['a size that is negative', () => withHeader(header => header.set(encodeUtf8('-0000000003'), 124)), /header/],
    ['a size beyond the end', () => withHeader(h => h.set(encodeUtf8('77777777777'), 124)), /after the end/],
    ['something behind the name', () => withHeader(header => header.set(encodeUtf8('x'), 90)), /header/],
  ])('%s', (_, make, reason) => {
    expect(() => readPackage(make())).toThrow(refusal(reason));
  });

  test.each([
    ['..', '../main.js'],
    ['.. inside', 'a/../main.js'],
    ['an absolute path', '/etc/passwd'],
    ['back slashes', '..\\main.js'],
    ['another name that folds to the same', 'MAIN.js'],
    ['a letter that folds to the same', '\u017fain.js'],
    ['a name that Unicode composes', 'e\u0301.js'],
    ['an escape sequence', '\x1b[2Jmain.js'],
    ['a mark that turns writing', 'main\u202esj'],
    ['a space at its end', 'main.js '],
  ])('a name with %s', (_, name) => {
    expect(() => readPackage(withHeader(named(name)))).toThrow(refusal(/header|printable|not named/));
  });

  test.each<[string, () => Uint8Array, RegExp]>([
    [
      'a file that the manifest does not name',
      () => repacked(f => [...f, { name: 'z.js', bytes: MAIN }]),
      /z.js is not named/,
    ],
    [
      'a hidden file that it does not name',
      () => repacked(f => [f[0]!, { name: '.npmrc', bytes: MAIN }, f[1]!, f[2]!]),
      /not named/,
    ],
    ['a file that is named and is not there', () => repacked(([a, b]) => [a!, b!]), /not there/],
    ['files in another order', () => repacked(([a, b, c]) => [a!, c!, b!]), /place/],
    ['a file twice', () => repacked(([a, b, c]) => [a!, b!, b!, c!]), /two files are named main.js/],
    ['two manifests', () => repacked(([a, b, c]) => [a!, a!, b!, c!]), /two files are named plugin.json/],
    ['no manifest', () => repacked(([, b, c]) => [b!, c!]), /first file is not plugin.json/],
    ['a manifest that is not the first', () => repacked(([a, b, c]) => [b!, a!, c!]), /first file/],
    ['no files', () => writeArchive([]), /first file/],
    [
      'a file that was changed',
      () => repacked(([a, b, c]) => [a!, { ...b!, bytes: encodeUtf8('define({ operators: [1] });') }, c!]),
      /main.js .* changed/,
    ],
    [
      'a file that is longer',
      () => repacked(([a, b, c]) => [a!, { ...b!, bytes: Buffer.concat([MAIN, MAIN]) }, c!]),
      /main.js .* changed/,
    ],
    [
      'a hundred files',
      () => repacked(f => [...f, ...Array.from({ length: 100 }, (_, i) => ({ name: `${i}.js`, bytes: MAIN }))]),
      /more than 66 files/,
    ],
    [
      'a signature of a megabyte',
      () => repacked(([a, ...rest]) => [a!, { name: 'plugin.sig', bytes: new Uint8Array(2 ** 20) }, ...rest]),
      /plugin.sig has 1048576 bytes/,
    ],
    [
      'a manifest of a megabyte',
      () => repacked(([, ...rest]) => [{ name: 'plugin.json', bytes: new Uint8Array(2 ** 20) }, ...rest]),
      /1048576 bytes, the limit is 32768/,
    ],
    ['more bytes than a package may have', () => new Uint8Array(PACKAGE_LIMIT_BYTES + 1), /the limit is/],
    ['what npm packs: compressed, so that it could expand', () => gzipSync(packed()), /compressed/],
    ['a zip archive', () => Buffer.concat([encodeUtf8('PK\x03\x04'), new Uint8Array(2000)]), /zip/],
    ['bytes behind its end', () => Buffer.concat([packed(), Uint8Array.of(0)]), /follows its end/],
    ['another archive behind its end', () => Buffer.concat([packed(), packed()]), /follows its end/],
    ['an end of one block', () => packed().subarray(0, -512), /cut off/],
    [
      'an end that is not zeros',
      () => {
        const b = packed();
        b[b.length - 1] = 1;
        return b;
      },
      /not zeros/,
    ],
    [
      'bytes between files',
      () => {
        const b = packed();
        b[512 + readArchive(b, 9)[0]!.bytes.length] = 1;
        return b;
      },
      /between files/,
    ],
    ['nothing', () => new Uint8Array(0), /cut off/],
    ['zeros', () => new Uint8Array(1024), /first file/],
  ])('%s', (_, make, reason) => {
    expect(() => readPackage(make())).toThrow(refusal(reason));
  });

  test('a manifest that was changed after packing is another manifest, whose files must be its own', () => {
    const { manifest, files } = readPackage(packed());
    const other = encodeManifest({ ...manifest, files: { 'main.js': manifest.files['main.js']! } });
    const bytes = writeArchive([
      { name: 'plugin.json', bytes: other },
      ...[...files].map(([name, content]) => ({ name, bytes: content })),
    ]);
    expect(() => readPackage(bytes)).toThrow(refusal(/tables\/lower.bin is not named/));
  });

  test('any bytes, at once, with a typed error; what is read has one spelling', { timeout: FUZZ_TIMEOUT_MS }, () => {
    const key = freshKey();
    const whole = fc.constantFrom<Uint8Array>(packed(), signed(key), packed({ kind: 'policy' }));
    const blocks = fc.array(
      fc.oneof(
        fc.uint8Array({ minLength: 512, maxLength: 512 }),
        fc.constant(new Uint8Array(512)),
        fc.tuple(fc.string({ maxLength: 12 }), fc.nat(600)).map(([name, size]) => {
          return writeArchive([{ name: `a${name}`, bytes: new Uint8Array(size) }]).subarray(0, 512);
        }),
      ),
      { maxLength: 12 },
    );
    const bytes = fc.oneof(
      flipped(whole, 3),
      cut(whole),
      spliced(whole),
      blocks.map(list => Buffer.concat(list)),
      fc.uint8Array({ maxLength: 3000 }),
    );
    const run = (data: Uint8Array): void => {
      const read = typedWithin(1000, () => readPackage(data));
      if (read) expect(Buffer.from(encodePackage(read.manifest, read.files, read.signature)).equals(data)).toBe(true);
    };
    fc.assert(fc.property(bytes, run), { numRuns: runsOf(500) });
  });
});
