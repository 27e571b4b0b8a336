import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PLUGIN_KINDS, type PluginManifest } from '../../../sandbox/index.ts';
import {
  assertApi,
  compareVersions,
  encodeManifest,
  PLUGIN_API_VERSION,
  parseManifest,
  parseSourceManifest,
} from '../../../sandbox/plugins/manifest.ts';
import { encodeUtf8 } from '../../../src/base/index.ts';
import { FUZZ_TIMEOUT_MS, runsOf, typedWithin } from '../../formats/fuzz.ts';

const MANIFEST: PluginManifest = {
  name: '@acme/lower',
  version: '1.2.0',
  api: '^1.0.0',
  kind: 'operator',
  entry: 'main.js',
  files: { 'main.js': { bytes: 3, sha256: 'ab'.repeat(32) } },
  capabilities: { log: { calls: 10 } },
  limits: { wallMs: 500 },
  licence: 'Apache-2.0',
  publisher: 'acme+0123abcd',
};
const { files: _files, publisher: _publisher, ...REST } = MANIFEST;
const SOURCE = { ...REST, files: ['main.js'] };

const bytesOf = (value: unknown): Uint8Array => encodeUtf8(JSON.stringify(value));

describe('a manifest', () => {
  const name = fc.stringMatching(/^(@[a-z0-9][a-z0-9._-]{0,8}\/)?[a-z0-9][a-z0-9._-]{0,8}$/);
  const number = fc.nat(999);
  const manifests: fc.Arbitrary<PluginManifest> = fc
    .record({
      name,
      version: fc.tuple(number, number, number).map(parts => parts.join('.')),
      api: fc.constantFrom('^1.0.0', '1', '>=1 <3', '1.x || 2.x'),
      kind: fc.constantFrom(...PLUGIN_KINDS),
      files: fc.dictionary(
        fc.stringMatching(/^[a-z0-9]{1,4}(\/[a-z0-9]{1,4})?\.(js|wasm)$/),
        fc.record({ bytes: fc.nat(1000), sha256: fc.stringMatching(/^[0-9a-f]{64}$/) }),
        { maxKeys: 6 },
      ),
      capabilities: fc.dictionary(
        fc.stringMatching(/^[a-z][A-Za-z0-9]{0,8}$/),
        fc.dictionary(fc.stringMatching(/^[a-z][a-z]{0,8}$/), number),
        { maxKeys: 4 },
      ),
      limits: fc.record({ wallMs: fc.integer({ min: 1, max: 1000 }) }, { requiredKeys: [] }),
      licence: fc.constantFrom('MIT', 'Apache-2.0 OR MIT', 'LicenseRef-own'),
    })
    .map(rest => ({
      ...rest,
      entry: 'main.js',
      files: { ...rest.files, 'main.js': { bytes: 1, sha256: '0'.repeat(64) } },
    }));

  test('comes back from its spelling as it was', () => {
    fc.assert(
      fc.property(manifests, manifest => {
        expect(parseManifest(encodeManifest(manifest))).toEqual(JSON.parse(JSON.stringify(manifest)));
      }),
    );
  });

  test('has one spelling: the same with white space, in another order, or with a repeated key is refused', () => {
    const text = Buffer.from(encodeManifest(MANIFEST)).toString();
    expect(parseManifest(encodeUtf8(text)).name).toBe('@acme/lower');
    const others = [
      JSON.stringify(JSON.parse(text), null, 1),
      JSON.stringify(Object.fromEntries(Object.entries(JSON.parse(text) as object).reverse())),
      text.replace('{', '{"version":"9.9.9",'),
      text.replace('"capabilities":{', '"capabilities":{"__proto__":{},'),
      `${text}\n`,
      `\ufeff${text}`,
    ];
    for (const other of others) {
      expect(() => parseManifest(encodeUtf8(other))).toThrow(expect.objectContaining({ code: 'INVALID_PLUGIN' }));
    }
  });

  test.each<[string, object, RegExp]>([
    ['a key that nobody knows', { postinstall: 'x' }, /postinstall/],
    ['a name in capitals', { name: 'Lower' }, /a name is/],
    ['a name that climbs', { name: '../lower' }, /a name is/],
    ['a name of 200 characters', { name: 'a'.repeat(200) }, /at most 128/],
    ['a version that is none', { version: '1.2' }, /semantic version/],
    ['a version in another spelling', { version: 'v1.2.0' }, /semantic version/],
    ['build metadata, which would give one version two names', { version: '1.2.0+1' }, /build metadata/],
    ['a range that is none', { api: 'newest' }, /range/],
    ['a range that takes long to read', { api: '>='.repeat(10_000) }, /64 characters/],
    ['another kind', { kind: 'driver' }, /kind/],
    ['an entry that is no script', { entry: 'main.wasm' }, /\.js/],
    ['an entry that is no file of it', { entry: 'other.js' }, /entry/],
    ['a capability by the name of a prototype', { capabilities: { constructor: 1 } }, /capabilities/],
    ['an option that is text', { capabilities: { log: { calls: '1' } } }, /capabilities/],
    ['an option below nothing', { capabilities: { log: { calls: -1 } } }, /capabilities/],
    ['options that nest', { capabilities: { log: { calls: { least: 1 } } } }, /capabilities/],
    ['a limit that does not exist', { limits: { secondsMs: 1 } }, /limits/],
    ['a limit out of range', { limits: { wallMs: 0 } }, /limits.wallMs/],
    ['no licence', { licence: '' }, /licence/],
    ['a licence with a line in it', { licence: 'MIT\nand more' }, /SPDX/],
  ])('with %s is refused, and so is its source', (_, change, reason) => {
    expect(() => parseManifest(bytesOf({ ...MANIFEST, ...change }))).toThrow(reason);
    expect(() => parseSourceManifest(bytesOf({ ...SOURCE, ...change }))).toThrow(reason);
  });

  test.each([
    ['..', '../main.js'],
    ['.. inside', 'a/../main.js'],
    ['an absolute path', '/etc/passwd'],
    ['a drive', 'C:\\main.js'],
    ['a back slash', 'a\\b.js'],
    ['a hidden file', '.npmrc'],
    ['a hidden folder', '.git/config'],
    ['an empty part', 'a//b.js'],
    ['a dot at its end, which Windows drops', 'a.'],
    ['a space', 'a b.js'],
    ['NUL', 'a\0.js'],
    ['a mark that turns writing', 'a\u202e.js'],
    ['a letter that another letter looks like', 'm\u0430in.js'],
    ['the name of the manifest', 'plugin.json'],
    ['the name of the signature', 'plugin.sig'],
    ['101 characters', 'a'.repeat(101)],
  ])('does not name a file with %s', (_, file) => {
    const files = { ...MANIFEST.files, [file]: { bytes: 0, sha256: '0'.repeat(64) } };
    expect(() => parseManifest(bytesOf({ ...MANIFEST, files }))).toThrow(/files/);
    expect(() => parseSourceManifest(bytesOf({ ...SOURCE, files: ['main.js', file] }))).toThrow(/files/);
  });

  test('does not name one file twice on a disk that folds case, nor a file as a folder', () => {
    for (const [files, reason] of [
      [['main.js', 'A.js', 'a.js'], /two files are named a.js/],
      [['main.js', 'main.js'], /two files are named main.js/],
      [['main.js', 'MAIN.JS/x.js'], /main.js is a file and a folder/],
      [Array.from({ length: 65 }, (_, i) => `${i}.js`), /65 files, the limit is 64/],
    ] as const) {
      expect(() => parseSourceManifest(bytesOf({ ...SOURCE, entry: files[0], files }))).toThrow(reason);
    }
  });

  test('does not name more bytes than a package may have', () => {
    const half = { bytes: 9 * 2 ** 20, sha256: '0'.repeat(64) };
    const files = { 'main.js': half, 'table.bin': half };
    expect(() => parseManifest(bytesOf({ ...MANIFEST, files }))).toThrow(/18874368 bytes in all/);
  });

  test('of any bytes is read or refused with a typed error, at once', { timeout: FUZZ_TIMEOUT_MS }, () => {
    const spelt = Buffer.from(encodeManifest(MANIFEST)).toString();
    const pieces = fc.array(fc.oneof(fc.string(), fc.constantFrom('{', '}', '"', '"files":', '[', '1e999', spelt)));
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 2000 }),
      fc.json().map(encodeUtf8),
      pieces.map(list => encodeUtf8(list.join(''))),
      fc.tuple(fc.nat(spelt.length - 1), fc.string({ maxLength: 3 })).map(([at, text]) => {
        return encodeUtf8(spelt.slice(0, at) + text + spelt.slice(at + 1));
      }),
    );
    const run = (data: Uint8Array): void => {
      const manifest = typedWithin(1000, () => parseManifest(data));
      // What is read is spelt back to the same bytes.
      if (manifest) expect(Buffer.from(encodeManifest(manifest)).equals(data)).toBe(true);
      typedWithin(1000, () => parseSourceManifest(data));
    };
    fc.assert(fc.property(bytes, run), { numRuns: runsOf(500) });
  });
});

describe('the version of the interface', () => {
  test('is held against the range of a plugin', () => {
    expect(() => assertApi({ ...MANIFEST, api: `^${PLUGIN_API_VERSION}` })).not.toThrow();
    for (const api of ['^2.0.0', '<1.0.0', '0.x']) {
      expect(() => assertApi({ ...MANIFEST, api })).toThrow(
        expect.objectContaining({ code: 'INVALID_PLUGIN', message: expect.stringContaining(PLUGIN_API_VERSION) }),
      );
    }
  });

  test('versions are ordered as semver orders them', () => {
    const ordered = ['1.0.0-alpha', '1.0.0-alpha.1', '1.0.0-beta', '1.0.0', '1.9.0', '1.10.0', '2.0.0'];
    expect([...ordered].reverse().sort(compareVersions)).toEqual(ordered);
  });
});
