/**
 * Plugins as files: read from a package or from the folder of their author, signed, and looked at without opening the service.
 * @module
 */
import { realpath, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type {
  InstalledPlugin,
  PluginCheck,
  PluginManifest,
  PluginRegistry,
  SourceManifest,
} from '../../sandbox/index.ts';
import { CloisterError } from '../base/index.ts';
import { openInside } from './beside.ts';
import { paths } from './directory.ts';
import { readOpenFile, readRegularFile } from './files.ts';
import type { PluginFileVerdict } from './plugin-check.ts';
import { type PolicyInput, parsePolicy } from './policy.ts';

/** A package that was made. */
export interface PackedPlugin {
  readonly manifest: PluginManifest;
  /** `sha256:…` of the package. */
  readonly digest: string;
  readonly bytes: Uint8Array;
}

/**
 * Returns the package at `path`: its bytes, if that is a file; a package of what the folder holds, not signed, if it is a folder.
 * Nothing of it is run. What is in a file is not looked at here: `install` does.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when it cannot be read, or holds more than a package may; as {@link packPluginFolder}.
 */
export async function readPlugin(path: string): Promise<Uint8Array> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory()) return (await packPluginFolder(path)).bytes;
  const { PACKAGE_LIMIT_BYTES } = await import('../../sandbox/plugins/package.ts');
  return await readRegularFile(path, PACKAGE_LIMIT_BYTES);
}

/**
 * Packs the folder of an author: the files that its `plugin.json` names, and nothing else. Only regular files that lie in the folder or
 * below it are read, and no links.
 *
 * @throws {CloisterError} `INVALID_PLUGIN` when the folder has no `plugin.json`, that is malformed, or a file that it names is missing,
 *   a link, or too large; `INVALID_ARGUMENT` when there is no such folder.
 */
export async function packPluginFolder(path: string): Promise<PackedPlugin> {
  const { packPlugin, readPackage } = await import('../../sandbox/plugins/package.ts');
  const { MANIFEST_FILE, MANIFEST_LIMIT_BYTES, PLUGIN_BYTES_LIMIT } = await import('../../sandbox/plugins/manifest.ts');
  const folder = await realpath(path).catch((cause: NodeJS.ErrnoException) => {
    throw new CloisterError('INVALID_ARGUMENT', `cannot read ${path}: ${cause.code}`, { path }, { cause });
  });
  const source = await parsePluginSource(await readInside(folder, MANIFEST_FILE, MANIFEST_LIMIT_BYTES));
  const files = new Map<string, Uint8Array>();
  let room = PLUGIN_BYTES_LIMIT;
  for (const name of source.files) {
    const bytes = await readInside(folder, name, room);
    room -= bytes.length;
    files.set(name, bytes);
  }
  const bytes = packPlugin(source, files);
  const { manifest, digest } = readPackage(bytes);
  return { manifest, digest, bytes };
}

/**
 * Reads the `plugin.json` that an author wrote.
 *
 * @throws {CloisterError} `INVALID_PLUGIN` when the bytes are none.
 */
export async function parsePluginSource(bytes: Uint8Array): Promise<SourceManifest> {
  const { parseSourceManifest } = await import('../../sandbox/plugins/manifest.ts');
  return parseSourceManifest(bytes);
}

/**
 * Makes a key in the folder `directory`, which is made: `key`, which its owner alone may read, and `vkey`, the public part.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when `name` cannot be the name of a publisher; `LOCKED` when there is a key already;
 *   `STORE_FAILED`.
 */
export async function makePublisherKey(
  directory: string,
  name: string,
): Promise<{ readonly publisher: string; readonly vkey: string }> {
  const { createPublisherKey, publisherOf } = await import('../../sandbox/plugins/signature.ts');
  const key = createPublisherKey(directory, name);
  return { publisher: publisherOf(key), vkey: key.vkey };
}

async function readInside(folder: string, name: string, limitBytes: number): Promise<Uint8Array> {
  const refuse = (why: string, cause?: unknown): CloisterError =>
    new CloisterError('INVALID_PLUGIN', `${join(folder, name)}: ${why}`, { file: name }, { cause });
  const opened = await openInside(folder, name, refuse);
  if (opened === undefined) throw refuse('there is no such file');
  await using file = opened.file;
  const { size } = await file.stat();
  if (size > limitBytes) throw refuse(`it has ${size} bytes, and there is room for ${limitBytes}`);
  return await readOpenFile(file, name, limitBytes);
}

/**
 * Runs the plugin at `path`, a package or the folder of its author, under the contract of its kind and under hostile inputs, in a sandbox
 * of isolation `process`, and says what it does not keep. Passing means that nothing was found. Nothing is installed or recorded.
 *
 * @param policy - What it must be admitted by. Without one it may ask for every capability there is, up to their ceilings, and for the
 *   default limits; who signed it is not looked at.
 * @returns `refused` when it is no package, or is not admitted: then nothing of it was run.
 * @throws {CloisterError} `INVALID_ARGUMENT` when it cannot be read; `INVALID_POLICY`; `MISSING_DEPENDENCY`.
 * @example
 * ```ts
 * await writeFile('mine.cloister-plugin', 'no package');
 * const { verdict, calls } = await checkPluginFile('mine.cloister-plugin');
 * verdict; // 'refused'
 * calls; // 0
 * ```
 */
export async function checkPluginFile(path: string, policy?: PolicyInput): Promise<PluginFileVerdict> {
  return await (await import('./plugin-check.ts')).checkPackage(() => readPlugin(path), policy);
}

/** What {@link signPluginFile} did. */
export interface SignedPlugin {
  readonly name: string;
  readonly version: string;
  readonly publisher: string;
  /** The public key, for the policy of whoever installs it. */
  readonly vkey: string;
  /** `sha256:…` of the package as it is now. */
  readonly digest: string;
}

/**
 * Signs the package in `file` with the key in `keyDir`, and replaces the file.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when the file or the key cannot be read, or the package names another publisher;
 *   `INVALID_PLUGIN` when it is no package; `AUDIT_INVALID` on a malformed key; `STORE_FAILED`, also when others may read the key.
 */
export async function signPluginFile(file: string, keyDir: string): Promise<SignedPlugin> {
  const { loadPublisherKey, publisherOf, signPackage } = await import('../../sandbox/plugins/signature.ts');
  const { PACKAGE_LIMIT_BYTES, readPackage } = await import('../../sandbox/plugins/package.ts');
  const { nodeDirectory } = await import('../../sandbox/audit/directory.ts');
  const key = loadPublisherKey(keyDir);
  const signed = signPackage(await readRegularFile(file, PACKAGE_LIMIT_BYTES), key);
  await nodeDirectory(dirname(file), false).replace(basename(file), signed, 0o644);
  const { manifest, digest } = readPackage(signed);
  const { name, version } = manifest;
  return { name, version, publisher: publisherOf(key), vkey: key.vkey, digest };
}

/**
 * Returns the plugins that are installed in `dir`, by name, the latest version first. May run beside the service.
 *
 * @throws {CloisterError} `STORE_FAILED` when the list cannot be read.
 * @example
 * ```ts
 * await listPlugins('./cloister-data'); // []
 * ```
 */
export async function listPlugins(dir: string): Promise<readonly InstalledPlugin[]> {
  return (await openOffline(dir, {})).list();
}

/**
 * Reads every plugin in `dir` again and checks digests, signatures, and that `policy` admits it. May run beside the service.
 *
 * @throws {CloisterError} `INVALID_POLICY`; `STORE_FAILED` when the list cannot be read.
 * @example
 * ```ts
 * await verifyPlugins('./cloister-data', { plugins: { unsigned: true } }); // []
 * ```
 */
export async function verifyPlugins(dir: string, policy: PolicyInput): Promise<readonly PluginCheck[]> {
  return (await openOffline(dir, policy)).verify();
}

async function openOffline(dir: string, policy: PolicyInput): Promise<PluginRegistry> {
  const { openPluginRegistry } = await import('../../sandbox/plugins/registry.ts');
  const record = (): Promise<void> => Promise.reject(new CloisterError('CLOSED', 'the service is not open'));
  return openPluginRegistry(paths(dir).pluginsDir, { policy: parsePolicy(policy).plugins, record });
}
