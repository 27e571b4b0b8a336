/**
 * The package of a plugin: its manifest, its signature where it has one, and the files that the manifest names, in one archive.
 *
 * | place | file | what |
 * |---|---|---|
 * | first | `plugin.json` | the manifest: canonical JSON, with the SHA-256 of every file |
 * | second | `plugin.sig` | a signed note over the digest of the manifest; may be missing |
 * | then | all others | in the order of their names |
 *
 * A package is never unpacked to a disk: it is one file, read into memory, checked, and handed on.
 * @module
 */
import { createHash } from 'node:crypto';
import { CloisterError } from '../../src/base/index.ts';
import { type ArchiveFile, archiveBytes, readArchive, writeArchive } from './archive.ts';
import {
  encodeManifest,
  MANIFEST_FILE,
  MANIFEST_LIMIT_BYTES,
  PLUGIN_BYTES_LIMIT,
  PLUGIN_FILES_LIMIT,
  type PluginManifest,
  parseManifest,
  pluginManifestSchema,
  SIGNATURE_FILE,
  type SourceManifest,
} from './manifest.ts';

/** Bytes of a signature, at most: one line of text and one of signature. */
export const SIGNATURE_LIMIT_BYTES = 1024;

/** Bytes of a package, at most: what its parts may have, and their headers and filling. */
export const PACKAGE_LIMIT_BYTES: number =
  archiveBytes([MANIFEST_LIMIT_BYTES, SIGNATURE_LIMIT_BYTES, PLUGIN_BYTES_LIMIT]) + PLUGIN_FILES_LIMIT * 1024;

/** A package, read: what it holds is what its manifest says. Who made it is another question, see `signature.ts`. */
export interface PluginPackage {
  readonly manifest: PluginManifest;
  /** SHA-256 of the manifest as it is spelt in the package; what a signature is about. */
  readonly manifestDigest: string;
  /** Every file by name, views of the package. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** A signed note, not verified. */
  readonly signature?: Uint8Array;
  /** `sha256:` and the SHA-256 of the package. */
  readonly digest: string;
}

/** SHA-256 in hexadecimal. */
export function sha256Hex(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/**
 * Reads a package and checks it against its manifest: every file that is named is there, with its size and digest, and none else.
 * The bytes are not copied; the caller must not change them.
 *
 * @throws {CloisterError} `INVALID_PLUGIN` when it is not a package.
 */
export function readPackage(bytes: Uint8Array): PluginPackage {
  if (bytes.length > PACKAGE_LIMIT_BYTES) {
    refuse(`it has ${bytes.length} bytes, the limit is ${PACKAGE_LIMIT_BYTES}`, { limitBytes: PACKAGE_LIMIT_BYTES });
  }
  const [first, ...rest] = readArchive(bytes, PLUGIN_FILES_LIMIT + 2);
  if (first?.name !== MANIFEST_FILE) refuse(`its first file is not ${MANIFEST_FILE}`);
  const manifest = parseManifest(first.bytes);
  const signature = rest[0]?.name === SIGNATURE_FILE ? rest.shift()!.bytes : undefined;
  if (signature && signature.length > SIGNATURE_LIMIT_BYTES) {
    refuse(`${SIGNATURE_FILE} has ${signature.length} bytes, the limit is ${SIGNATURE_LIMIT_BYTES}`);
  }
  const expected = Object.entries(manifest.files).sort(byName);
  for (const [i, { name, bytes: content }] of rest.entries()) {
    const wanted = expected[i];
    if (wanted?.[0] !== name) {
      refuse(
        Object.hasOwn(manifest.files, name)
          ? `${name} is not in its place`
          : `${name} is not named in ${MANIFEST_FILE}`,
      );
    }
    const { bytes: size, sha256 } = wanted[1];
    if (content.length !== size || sha256Hex(content) !== sha256) {
      refuse(`${name} is not the file that ${MANIFEST_FILE} names: it was changed after it was packed`, { file: name });
    }
  }
  const missing = expected[rest.length];
  if (missing) refuse(`${missing[0]} is named in ${MANIFEST_FILE} and is not there`, { file: missing[0] });
  return {
    manifest,
    manifestDigest: sha256Hex(first.bytes),
    files: new Map(rest.map(file => [file.name, file.bytes])),
    ...(signature && { signature }),
    digest: `sha256:${sha256Hex(bytes)}`,
  };
}

/**
 * Makes a package of what an author wrote, without a signature.
 *
 * @param files - The bytes of every file that `source` names.
 * @throws {CloisterError} `INVALID_PLUGIN` when a file is missing, or there are more bytes than a plugin may have.
 */
export function packPlugin(source: SourceManifest, files: ReadonlyMap<string, Uint8Array>): Uint8Array<ArrayBuffer> {
  const named = source.files.map(name => {
    const bytes = files.get(name);
    if (bytes === undefined) return refuse(`${name} is named in ${MANIFEST_FILE} and is not there`, { file: name });
    return [name, { bytes: bytes.length, sha256: sha256Hex(bytes) }] as const;
  });
  const { capabilities = {}, limits = {} } = source;
  const manifest = { ...source, files: Object.fromEntries(named), capabilities, limits };
  const checked = pluginManifestSchema.safeParse(manifest);
  if (!checked.success) refuse(checked.error.issues.map(issue => issue.message).join('; '));
  return encodePackage(checked.data, files);
}

/** Spells a package. What it is made of fits together: this is not checked here. */
export function encodePackage(
  manifest: PluginManifest,
  files: ReadonlyMap<string, Uint8Array>,
  signature?: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const all: ArchiveFile[] = [{ name: MANIFEST_FILE, bytes: encodeManifest(manifest) }];
  if (signature) all.push({ name: SIGNATURE_FILE, bytes: signature });
  for (const [name] of Object.entries(manifest.files).sort(byName)) all.push({ name, bytes: files.get(name)! });
  return writeArchive(all);
}

/** The order of files: by the bytes of their names, which are ASCII. */
function byName([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number {
  return a < b ? -1 : 1;
}

function refuse(why: string, detail: Readonly<Record<string, unknown>> = {}): never {
  throw new CloisterError('INVALID_PLUGIN', `the package does not hold: ${why}`, detail);
}
