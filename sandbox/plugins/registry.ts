/**
 * The plugins that are installed in a directory: several versions side by side, one of each name active.
 *
 * | file | what |
 * |---|---|
 * | `installed.json` | which packages are installed and which are active; replaced as a whole |
 * | `HEX.cloister-plugin` | a package, named by the SHA-256 of its bytes, never changed |
 * | `lock` | held while one of them changes |
 *
 * What counts is `installed.json`: a package is written and durable before it is named there, and goes after it is not. So a crash at
 * any moment leaves what was installed before or what is installed after, and at most a package that nobody names, which the next
 * change sweeps away.
 * @module
 */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  CloisterError,
  canonicalJson,
  decodeUtf8,
  encodeUtf8,
  isCloisterError,
  type Json,
} from '../../src/base/index.ts';
import * as z from '../../src/base/zod.ts';
import { type LogDirectory, nodeDirectory } from '../audit/directory.ts';
import type { AuditEvent } from '../audit/index.ts';
import { type Admission, type AdmissionRules, admissionRules, admit, escalation } from './admission.ts';
import { compareVersions, MANIFEST_LIMIT_BYTES, type PluginManifest, pluginManifestSchema } from './manifest.ts';
import { PACKAGE_LIMIT_BYTES, type PluginPackage, readPackage, sha256Hex } from './package.ts';
import type { PluginPolicy } from './policy.ts';

/** What becomes of a plugin, as the audit log has it. */
export type PluginEvent = Pick<AuditEvent, 'action' | 'object' | 'decision'> & { readonly plugin?: string };

/** What {@link openPluginRegistry} is told. */
export interface RegistryOptions {
  readonly policy: PluginPolicy;
  /** Makes a record durable. It is called before anything changes; where it throws, nothing changes. */
  readonly record: (event: PluginEvent) => Promise<void>;
}

/** One version of a plugin that is installed. */
export interface InstalledPlugin {
  readonly name: string;
  readonly version: string;
  readonly active: boolean;
  /** `sha256:…` of the package. */
  readonly digest: string;
  readonly manifest: PluginManifest;
}

/** What {@link PluginRegistry.install} did. */
export interface InstallReport extends Admission {
  readonly name: string;
  readonly version: string;
  readonly digest: string;
  /** The version that was active before; undefined when there was none, or it was this one. */
  readonly replaced?: string;
  /** Whether the version that was active before is a later one. */
  readonly downgrade: boolean;
}

/** What {@link PluginRegistry.remove} did. */
export interface RemoveReport {
  readonly name: string;
  readonly removed: readonly string[];
  /** The version that is active now; undefined when none is left. */
  readonly active?: string;
}

/** What {@link PluginRegistry.verify} found of one version. */
export interface PluginCheck {
  readonly name: string;
  readonly version: string;
  readonly active: boolean;
  readonly ok: boolean;
  /** Code and reason, where it is not ok. */
  readonly code?: string;
  readonly reason?: string;
}

/** A plugin that was read and admitted, ready to be run. */
export interface AdmittedPlugin extends PluginPackage, Admission {}

const INDEX_FILE = 'installed.json';
const LOCK_FILE = 'lock';
const SUFFIX = '.cloister-plugin';

/** Versions that may be installed, of all plugins together, and bytes of the index that names them. */
const VERSIONS_LIMIT = 1000;
const INDEX_LIMIT_BYTES: number = VERSIONS_LIMIT * (MANIFEST_LIMIT_BYTES + 1024);

/** Milliseconds that a change waits for another one, which takes some milliseconds, and steps of the waiting. */
const LOCK_WAIT_MS = 5000;
const LOCK_STEP_MS = 10;

interface Index {
  readonly v: 1;
  readonly plugins: Readonly<Record<string, Entry>>;
}

interface Entry {
  readonly active: string;
  readonly versions: Readonly<Record<string, { readonly sha256: string; readonly manifest: PluginManifest }>>;
}

const indexSchema: z.ZodType<Index> = z.strictObject({
  v: z.literal(1),
  plugins: z.record(
    z.string(),
    z
      .strictObject({
        active: z.string(),
        versions: z.record(
          z.string(),
          z.strictObject({ sha256: z.string().regex(/^[0-9a-f]{64}$/), manifest: pluginManifestSchema }),
        ),
      })
      .refine(({ active, versions }) => Object.hasOwn(versions, active), 'the active version is not installed'),
  ),
});

/**
 * Opens the registry in `directory`. Nothing is read or made until something is asked of it.
 *
 * @throws {CloisterError} `INVALID_POLICY` when a publisher's key is none, or a capability or option does not exist or is out of range.
 * @example
 * Look at what is installed; nothing is recorded, because nothing changes.
 * ```ts
 * const policy = pluginPolicySchema.parse({ unsigned: true });
 * const registry = openPluginRegistry('./plugins', { policy, record: async () => {} });
 * registry.list(); // []
 * ```
 */
export function openPluginRegistry(directory: string, options: RegistryOptions): PluginRegistry {
  return new PluginRegistry(directory, options);
}

/** The plugins of a directory. Any number of processes may have it open; changes wait for one another. */
export class PluginRegistry {
  readonly #path: string;
  readonly #rules: AdmissionRules;
  readonly #record: RegistryOptions['record'];

  /** @internal Call {@link openPluginRegistry}. */
  constructor(directory: string, { policy, record }: RegistryOptions) {
    this.#path = directory;
    this.#rules = admissionRules(policy);
    this.#record = record;
  }

  /**
   * Installs a package, if the policy admits it, and makes it the active version of its name. When this resolves, it is durable and
   * recorded. To install the active version again changes nothing; to install another one that is there makes it active.
   *
   * @param source - The package (copied); it is not trusted, and nothing of it is run.
   * @param options.allowEscalation - Install it also where it asks for capabilities or limits that the active version did not.
   * @throws {CloisterError} `INVALID_ARGUMENT` when it is no bytes; `INVALID_PLUGIN` when it is malformed, does not verify, is for another
   *   version of the plugin interface, or the same version is installed with other content; `POLICY_REFUSED` when the policy does not admit it, it asks for more than the
   *   active version without `allowEscalation`, or another publisher signed the versions that are there; `LOCKED`, `STORE_FAILED`;
   *   what the log throws. Each is recorded.
   */
  async install(source: Uint8Array, options: { readonly allowEscalation?: boolean } = {}): Promise<InstallReport> {
    if (!(source instanceof Uint8Array)) {
      throw new CloisterError('INVALID_ARGUMENT', `install: expected the bytes of a package, got ${typeof source}`);
    }
    const bytes = source.slice(); // what is checked is what is kept, whatever the caller does meanwhile
    const seen = { digest: `sha256:${sha256Hex(bytes)}`, id: '' };
    return await this.#recorded(seen, async () => {
      const plugin = readPackage(bytes);
      const { manifest, digest } = plugin;
      const { name, version } = manifest;
      seen.id = `${name}@${version}`;
      const admission = admit(plugin, this.#rules);
      return await this.#change(async (directory, index) => {
        const entry = ownOf(index.plugins, name);
        const sha256 = digest.slice('sha256:'.length);
        if (entry) assertFits(entry, manifest, sha256, options.allowEscalation === true);
        assertRoom(index, manifest);
        const replaced = entry && entry.active !== version ? entry.active : undefined;
        const report = {
          ...{ name, version, digest, ...admission },
          ...(replaced !== undefined && { replaced }),
          downgrade: replaced !== undefined && compareVersions(version, replaced) < 0,
        };
        await this.#record({
          action: 'install',
          object: { kind: 'plugin', id: seen.id },
          decision: { outcome: 'allow' },
          plugin: digest,
        });
        await directory.replace(`${sha256}${SUFFIX}`, bytes, 0o600);
        const versions = { ...entry?.versions, [version]: { sha256, manifest } };
        return [{ ...index.plugins, [name]: { active: version, versions } }, report];
      });
    });
  }

  /**
   * Removes one version of a plugin, or all of them. Where the active version goes and others are left, the latest of them is active
   * from then on. When this resolves, it is durable and recorded.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when it is not installed; `LOCKED`, `STORE_FAILED`; what the log throws. Each is
   *   recorded.
   */
  async remove(name: string, version?: string): Promise<RemoveReport> {
    const id = version === undefined ? name : `${name}@${version}`;
    return await this.#recorded({ id }, () =>
      this.#change(async (_directory, index) => {
        const entry = entryOf(index, name, version);
        const removed = version === undefined ? Object.keys(entry.versions) : [version];
        const versions = Object.fromEntries(
          Object.entries(entry.versions).filter(([installed]) => !removed.includes(installed)),
        );
        const left = Object.keys(versions).sort(compareVersions);
        const active = left.includes(entry.active) ? entry.active : left.at(-1);
        await this.#record({
          action: 'remove',
          object: { kind: 'plugin', id },
          decision: { outcome: 'allow' },
          ...(version !== undefined && { plugin: `sha256:${entry.versions[version]!.sha256}` }),
        });
        const others = Object.entries(index.plugins).filter(([other]) => other !== name);
        const plugins = Object.fromEntries([...others, ...(active ? [[name, { active, versions }] as const] : [])]);
        return [plugins, { name, removed: removed.sort(compareVersions), ...(active !== undefined && { active }) }];
      }),
    );
  }

  /**
   * Every version that is installed, by name, the latest first. Says what the index says; {@link verify} looks at the packages.
   *
   * @throws {CloisterError} `STORE_FAILED` when the index cannot be read, or is not one.
   */
  list(): readonly InstalledPlugin[] {
    return Object.entries(readIndex(nodeDirectory(this.#path, false)).plugins)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .flatMap(([name, { active, versions }]) =>
        Object.entries(versions)
          .sort(([a], [b]) => compareVersions(b, a))
          .map(([version, { sha256, manifest }]) => {
            return { name, version, active: version === active, digest: `sha256:${sha256}`, manifest };
          }),
      );
  }

  /**
   * Reads every package again, and checks its digest, its files, its signature, and that the policy as it is now admits it. Nothing is
   * thrown for a package that does not hold: its check says why.
   *
   * @throws {CloisterError} as {@link list}.
   */
  verify(): readonly PluginCheck[] {
    return this.list().map(installed => {
      const { name, version, active } = installed;
      try {
        this.#read(installed);
        return { name, version, active, ok: true };
      } catch (error) {
        if (!(error instanceof CloisterError)) throw error;
        return { name, version, active, ok: false, code: error.code, reason: error.message };
      }
    });
  }

  /**
   * Reads a plugin to run it: its active version, or the one that is named. It is checked as {@link verify} checks.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when it is not installed; `INVALID_PLUGIN` when it does not hold; `POLICY_REFUSED` when
   *   the policy does not admit it; `STORE_FAILED`.
   */
  open(name: string, version?: string): AdmittedPlugin {
    const { active, versions } = entryOf(readIndex(nodeDirectory(this.#path, false)), name, version);
    const { sha256, manifest } = versions[version ?? active]!;
    return this.#read({ digest: `sha256:${sha256}`, manifest });
  }

  #read({ digest, manifest }: Pick<InstalledPlugin, 'digest' | 'manifest'>): AdmittedPlugin {
    const id = `${manifest.name}@${manifest.version}`;
    const file = `${digest.slice('sha256:'.length)}${SUFFIX}`;
    const bytes = nodeDirectory(this.#path, false).read(file, PACKAGE_LIMIT_BYTES + 1);
    if (!bytes) {
      const message = `the package of ${id} is gone from ${this.#path}: install it again`;
      throw new CloisterError('STORE_FAILED', message, { plugin: id, file });
    }
    if (`sha256:${sha256Hex(bytes)}` !== digest) {
      const message = `the package of ${id} was changed after it was installed: remove it, and install it again`;
      throw new CloisterError('INVALID_PLUGIN', message, { plugin: id, file });
    }
    const plugin = readPackage(bytes);
    if (canonicalJson(plugin.manifest as unknown as Json) !== canonicalJson(manifest as unknown as Json)) {
      const message = `${INDEX_FILE} says of ${id} what its package does not: remove it, and install it again`;
      throw new CloisterError('INVALID_PLUGIN', message, { plugin: id });
    }
    return { ...plugin, ...admit(plugin, this.#rules) };
  }

  /** Runs one change at a time, over all processes: what `body` returns becomes the index, then files that nobody names go. */
  async #change<T>(
    body: (directory: LogDirectory, index: Index) => Promise<readonly [Index['plugins'], T]>,
  ): Promise<T> {
    const directory = nodeDirectory(this.#path, true);
    const release = await lockWithin(directory);
    try {
      const [plugins, result] = await body(directory, readIndex(directory));
      const text = canonicalJson({ v: 1, plugins } as unknown as Json);
      await directory.replace(INDEX_FILE, encodeUtf8(text), 0o600);
      this.#sweep(plugins);
      return result;
    } finally {
      release();
    }
  }

  #sweep(plugins: Index['plugins']): void {
    const kept = new Set(
      Object.values(plugins).flatMap(({ versions }) =>
        Object.values(versions).map(({ sha256 }) => `${sha256}${SUFFIX}`),
      ),
    );
    for (const name of readdirSync(this.#path)) {
      const draft = name.endsWith('.tmp');
      if (draft || (name.endsWith(SUFFIX) && !kept.has(name))) rmSync(join(this.#path, name), { force: true });
    }
  }

  /** What `body` does; a refusal or failure is recorded before it is thrown. */
  async #recorded<T>(seen: { readonly id: string; readonly digest?: string }, body: () => Promise<T>): Promise<T> {
    try {
      return await body();
    } catch (error) {
      const reason = error instanceof CloisterError ? error.code : 'UNEXPECTED';
      const id = seen.id || seen.digest || 'unknown';
      await this.#record({
        action: isCloisterError(error, 'POLICY_REFUSED') ? 'refuse' : 'fail',
        object: { kind: 'plugin', id: id.slice(0, 512) },
        decision: { outcome: 'refuse', reason },
        ...(seen.digest !== undefined && { plugin: seen.digest }),
      });
      throw error;
    }
  }
}

/** Checks a version against those of its name that are installed. */
function assertFits(entry: Entry, manifest: PluginManifest, sha256: string, allowEscalation: boolean): void {
  const { name, version } = manifest;
  const id = `${name}@${version}`;
  const same = ownOf(entry.versions, version);
  if (same && same.sha256 !== sha256) {
    const message = `${id} is installed with other content: give what was changed a version of its own, or remove the one that is there`;
    throw new CloisterError('INVALID_PLUGIN', message, { plugin: id });
  }
  const active = entry.versions[entry.active]!.manifest;
  if (active.publisher !== manifest.publisher) {
    const [was, is] = [active.publisher ?? 'nobody', manifest.publisher ?? 'nobody'];
    const message = `${id} is signed by ${is}, and ${entry.active}, which is active, by ${was}: remove the versions that are there first, if that is right`;
    throw new CloisterError('POLICY_REFUSED', message, { plugin: id, was, is });
  }
  const more = escalation(active, manifest);
  if (more.length > 0 && !allowEscalation) {
    const message = `${id} asks for more than ${entry.active}, which is active: ${more.join('; ')}. If it shall have that, allow it`;
    throw new CloisterError('POLICY_REFUSED', message, { plugin: id, more });
  }
}

function assertRoom({ plugins }: Index, { name, version }: PluginManifest): void {
  const known = Object.entries(plugins).flatMap(([plugin, { versions }]) =>
    Object.keys(versions).map(installed => `${plugin}@${installed}`),
  );
  if (known.length < VERSIONS_LIMIT || known.includes(`${name}@${version}`)) return;
  const message = `${known.length} versions of plugins are installed, which is the limit: remove some`;
  throw new CloisterError('STORE_FAILED', message, { limit: VERSIONS_LIMIT });
}

function entryOf(index: Index, name: string, version: string | undefined): Entry {
  const entry = ownOf(index.plugins, name);
  if (entry && (version === undefined || Object.hasOwn(entry.versions, version))) return entry;
  const found = entry ? `${Object.keys(entry.versions).sort(compareVersions).join(', ')} is` : 'no version of it is';
  const id = version === undefined ? name : `${name}@${version}`;
  throw new CloisterError('INVALID_ARGUMENT', `${id} is not installed: ${found}`, { plugin: id });
}

function readIndex(directory: LogDirectory): Index {
  const bytes = directory.read(INDEX_FILE, INDEX_LIMIT_BYTES);
  if (bytes === undefined) return { v: 1, plugins: {} };
  try {
    return indexSchema.parse(JSON.parse(decodeUtf8(bytes)));
  } catch (cause) {
    const message = `${join(directory.path, INDEX_FILE)} is not a list of plugins: restore it from backup, or delete the folder`;
    throw new CloisterError('STORE_FAILED', message, {}, { cause });
  }
}

/** Takes the lock as soon as it is free; `LOCKED` when that takes too long. */
async function lockWithin(directory: LogDirectory): Promise<() => void> {
  for (const end = performance.now() + LOCK_WAIT_MS; ; await sleep(LOCK_STEP_MS)) {
    try {
      return directory.lock(LOCK_FILE);
    } catch (error) {
      if (!isCloisterError(error, 'LOCKED') || performance.now() > end) throw error;
    }
  }
}

function ownOf<T>(record: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(record, key) ? record[key] : undefined;
}
