/**
 * The manifest of a plugin: what it is, what its files are, and what it asks for. Nothing of a plugin is implicit: a file that the
 * manifest does not name, or a capability that it does not ask for, does not exist.
 *
 * In a package the manifest is canonical JSON (RFC 8785), so that one manifest has one spelling, and its digest means one thing.
 * @module
 */
import semver from 'semver';
import { CloisterError, canonicalJson, decodeUtf8, encodeUtf8, type Json } from '../../src/base/index.ts';
import * as z from '../../src/base/zod.ts';
import { type LimitsInput, limitsSchema } from '../limits.ts';
import { PLUGIN_KINDS, type PluginKind } from './kinds.ts';
import { type CapabilityRequests, capabilitiesSchema } from './policy.ts';

/** Version of the interface between plugins and this library, as `api` of a manifest means it. See `docs/plugins.md`. */
export const PLUGIN_API_VERSION = '1.0.0';

/** Files that a plugin may have. A plugin is a script with, perhaps, some WebAssembly and tables: no tree of modules. */
export const PLUGIN_FILES_LIMIT = 64;

/** Bytes of all files of a plugin, at most: they are held in memory, and sent to each worker that loads the plugin. */
export const PLUGIN_BYTES_LIMIT: number = 16 * 2 ** 20;

/** Bytes of a manifest, at most: sixty-four files at two hundred bytes each, and as much again for what it asks for. */
export const MANIFEST_LIMIT_BYTES = 32_768;

/** Name of the manifest in a package and in the folder of its author. */
export const MANIFEST_FILE = 'plugin.json';

/** Name of the signature in a package. */
export const SIGNATURE_FILE = 'plugin.sig';

/** What one file of a plugin is. */
export interface PluginFile {
  readonly bytes: number;
  /** SHA-256 in hexadecimal. */
  readonly sha256: string;
}

/** What a manifest says and what a source manifest says alike. */
interface ManifestBase {
  /** As npm spells names: `lower`, or `@acme/lower`. At most 128 characters. */
  readonly name: string;
  /** Semantic version, without build metadata. */
  readonly version: string;
  /** The versions of the plugin interface that it works with, as a range of semantic versions: `^1.0.0`. */
  readonly api: string;
  readonly kind: PluginKind;
  /** The file that is evaluated. */
  readonly entry: string;
  /** An SPDX licence expression. */
  readonly licence: string;
}

/** What a plugin is and asks for. */
export interface PluginManifest extends ManifestBase {
  /** Every file of the plugin by name, but for manifest and signature. */
  readonly files: Readonly<Record<string, PluginFile>>;
  /** Capabilities that it must be lent, by name, with their options. */
  readonly capabilities: CapabilityRequests;
  /** Limits that differ from the defaults. */
  readonly limits: LimitsInput;
  /** Who signs it: name and id of an Ed25519 key, `NAME+8 hexadecimal digits`. A plugin without one is not signed. */
  readonly publisher?: string | undefined;
}

/** A manifest as its author writes it: files are only named, and what is not asked for may be left out. */
export interface SourceManifest extends ManifestBase {
  readonly files: readonly string[];
  readonly capabilities?: CapabilityRequests | undefined;
  readonly limits?: LimitsInput | undefined;
}

/** Plain names joined by slashes, in ASCII: no `..`, no hidden file, nothing that folds onto another name but by case. */
const fileName = z
  .string()
  .max(100, 'a file name has at most 100 characters')
  .regex(
    /^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?(?:\/[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?)*$/,
    'a file name is plain names of A-Z a-z 0-9 . _ - joined by /, each beginning with a letter or digit',
  )
  .refine(name => name !== MANIFEST_FILE && name !== SIGNATURE_FILE, 'manifest and signature are not named as files');

/** The names of a plugin's files: none is another one, or the folder of another one, on any file system. */
function assertNames(names: readonly string[], context: z.RefinementCtx): void {
  if (names.length > PLUGIN_FILES_LIMIT) {
    context.addIssue({ code: 'custom', message: `${names.length} files, the limit is ${PLUGIN_FILES_LIMIT}` });
  }
  const seen = new Set<string>();
  for (const name of names) {
    const folded = name.toLowerCase();
    if (seen.has(folded)) context.addIssue({ code: 'custom', message: `two files are named ${name}` });
    seen.add(folded);
  }
  for (const name of seen) {
    for (let at = name.indexOf('/'); at > 0; at = name.indexOf('/', at + 1)) {
      if (seen.has(name.slice(0, at))) {
        context.addIssue({ code: 'custom', message: `${name.slice(0, at)} is a file and a folder` });
      }
    }
  }
}

const limitsInput: z.ZodType<LimitsInput, LimitsInput> = z
  .record(z.string(), z.number())
  .superRefine((value, context) => {
    const checked = limitsSchema.safeParse(value);
    for (const { path, message } of checked.error?.issues ?? []) context.addIssue({ code: 'custom', path, message });
  });

const BASE_SHAPE = {
  name: z
    .string()
    .max(128, 'a name has at most 128 characters')
    .regex(
      /^(?:@[a-z0-9][a-z0-9._-]*\/)?[a-z0-9][a-z0-9._-]*$/,
      'a name is a-z 0-9 . _ -, beginning with a letter or digit; or @scope/name',
    ),
  version: z
    .string()
    .max(64, { abort: true, error: 'a version has at most 64 characters' })
    .refine(text => semver.valid(text) === text, 'expected a semantic version without build metadata, such as 1.2.0'),
  api: z
    .string()
    .min(1)
    .max(64, { abort: true, error: 'a range has at most 64 characters' }) // before anything looks at its structure
    .refine(text => semver.validRange(text) !== null, 'expected a range of semantic versions, such as ^1.0.0'),
  kind: z.enum(PLUGIN_KINDS),
  entry: fileName.refine(name => name.endsWith('.js'), 'the entry is a .js file'),
  licence: z
    .string()
    .min(1)
    .max(128)
    .regex(/^[A-Za-z0-9][A-Za-z0-9.+() -]*$/, 'expected an SPDX licence expression, such as Apache-2.0'),
};

/** The schema of {@link PluginManifest}. Unknown keys are refused. */
export const pluginManifestSchema: z.ZodType<PluginManifest> = z
  .strictObject({
    ...BASE_SHAPE,
    files: z
      .record(
        fileName,
        z.strictObject({
          bytes: z.int().min(0).max(PLUGIN_BYTES_LIMIT),
          sha256: z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 hexadecimal digits'),
        }),
      )
      .superRefine((files, context) => {
        assertNames(Object.keys(files), context);
        const bytes = Object.values(files).reduce((sum, file) => sum + file.bytes, 0);
        if (bytes > PLUGIN_BYTES_LIMIT) {
          context.addIssue({ code: 'custom', message: `${bytes} bytes in all, the limit is ${PLUGIN_BYTES_LIMIT}` });
        }
      }),
    capabilities: capabilitiesSchema,
    limits: limitsInput,
    publisher: z
      .string()
      .regex(/^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,127}\+[0-9a-f]{8}$/, 'a publisher is the name of a key, + and its id')
      .optional(),
  })
  .refine(({ entry, files }) => Object.hasOwn(files, entry), { path: ['entry'], message: 'no file of this name' });

/** The schema of {@link SourceManifest}. Unknown keys are refused. */
const sourceManifestSchema: z.ZodType<SourceManifest> = z
  .strictObject({
    ...BASE_SHAPE,
    files: z.array(fileName).superRefine(assertNames),
    capabilities: capabilitiesSchema.optional(),
    limits: limitsInput.optional(),
  })
  .refine(({ entry, files }) => files.includes(entry), { path: ['entry'], message: 'not among the files' });

/**
 * Reads the manifest of a package. It must be spelt canonically.
 *
 * @throws {CloisterError} `INVALID_PLUGIN` when the bytes are not the canonical spelling of a manifest.
 */
export function parseManifest(bytes: Uint8Array): PluginManifest {
  const text = textOf(bytes);
  const manifest = checked(pluginManifestSchema, text);
  // Also refuses what JSON.parse makes of a repeated key, and what the schema passes over: `__proto__`.
  if (canonicalJson(manifest as unknown as Json) !== text) {
    refuse('it is not spelt as canonical JSON: pack the plugin with `cloister plugin pack`');
  }
  return manifest;
}

/**
 * Reads the manifest that an author wrote, in any spelling.
 *
 * @throws {CloisterError} `INVALID_PLUGIN` when the bytes are not a source manifest.
 */
export function parseSourceManifest(bytes: Uint8Array): SourceManifest {
  return checked(sourceManifestSchema, textOf(bytes));
}

/** The canonical spelling of a manifest, which is what is digested and signed. */
export function encodeManifest(manifest: PluginManifest): Uint8Array {
  return encodeUtf8(canonicalJson(manifest as unknown as Json));
}

/**
 * Checks that this library offers a version of the plugin interface that the plugin works with.
 *
 * @throws {CloisterError} `INVALID_PLUGIN` when it does not.
 */
export function assertApi({ name, version, api }: PluginManifest): void {
  if (semver.satisfies(PLUGIN_API_VERSION, api)) return;
  throw new CloisterError(
    'INVALID_PLUGIN',
    `${name}@${version} works with version ${api} of the plugin interface, this library has ${PLUGIN_API_VERSION}: ` +
      'get a version of the plugin for it',
    { name, version, api, has: PLUGIN_API_VERSION },
  );
}

/** -1, 0 or 1, as version `a` comes before, is, or comes after `b` (semver 2.0.0 §11). */
export function compareVersions(a: string, b: string): number {
  return semver.compare(a, b);
}

function textOf(bytes: Uint8Array): string {
  if (bytes.length > MANIFEST_LIMIT_BYTES) {
    refuse(`it has ${bytes.length} bytes, the limit is ${MANIFEST_LIMIT_BYTES}`);
  }
  try {
    return decodeUtf8(bytes);
  } catch {
    return refuse('it is not UTF-8');
  }
}

function checked<T>(schema: z.ZodType<T>, text: string): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return refuse('it is not JSON');
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issues = result.error.issues.slice(0, 16).map(issue => {
    const reason = issue.code === 'invalid_key' ? (issue.issues[0]?.message ?? issue.message) : issue.message;
    return `${issue.path.length > 0 ? issue.path.join('.') : 'manifest'}: ${reason}`.slice(0, 400);
  });
  return refuse(issues.join('; '));
}

function refuse(why: string): never {
  throw new CloisterError('INVALID_PLUGIN', `${MANIFEST_FILE}: ${why}`, { file: MANIFEST_FILE });
}
