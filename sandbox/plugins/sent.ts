/**
 * A plugin on its way to a guest: its files as one buffer, and what it is lent.
 * @module
 */
import { CloisterError } from '../../src/base/index.ts';
import type { CapabilityName, Lent } from '../lending/table.ts';
import { joinBytes } from '../tensors.ts';
import type { PluginKind } from './kinds.ts';
import type { AdmittedPlugin } from './registry.ts';

/**
 * What each kind can be lent at all. Operators and statistics see protected values and must give the same each time: a log would tell of
 * them, and whatever is kept would join one record to the next.
 */
const LENDABLE: Readonly<Record<PluginKind, readonly CapabilityName[]>> = {
  operator: ['wasm'],
  statistic: ['wasm'],
  processor: ['wasm', 'log', 'clock', 'random'],
  policy: ['wasm', 'log', 'clock', 'random'],
};

/** A plugin as a guest gets it. */
export interface SentPlugin {
  /** Name and version. */
  readonly id: string;
  readonly kind: PluginKind;
  /** `sha256:…` of the package. */
  readonly digest: string;
  /** The files in the order of their bytes, the entry first. */
  readonly parts: readonly { readonly name: string; readonly bytes: number }[];
  readonly lent: Lent;
  /** All files, one behind another. */
  readonly payload: Uint8Array;
}

/** What a model is loaded with beside its file. */
export interface ModelPlugins {
  readonly plugins: readonly SentPlugin[];
  /** Why the guest's interpreter runs it, where native kernels could, too. */
  readonly interpret: string | undefined;
}

/**
 * Makes a plugin ready to be sent. The files are copied.
 *
 * @throws {CloisterError} `POLICY_REFUSED` when it is to be lent what its kind cannot be lent.
 */
export function sendPlugin({ manifest, files, lent, digest }: AdmittedPlugin): SentPlugin {
  const { name, version, kind, entry } = manifest;
  const id = `${name}@${version}`;
  const other = Object.keys(lent).find(asked => !LENDABLE[kind].some(known => known === asked));
  if (other !== undefined) {
    const message = `${id} asks for the capability ${other}; a plugin of kind ${kind} can be lent ${LENDABLE[kind].join(', ')}`;
    throw new CloisterError('POLICY_REFUSED', message, { plugin: id, capability: other });
  }
  const names = [entry, ...[...files.keys()].filter(file => file !== entry)];
  const parts = names.map(file => ({ name: file, bytes: files.get(file)!.length }));
  const payload = joinBytes(names.map(file => files.get(file)!));
  return Object.freeze({ id, kind, digest, parts, lent, payload });
}

/** What the plugins of one model's guest are lent: they share it, and have together what the one has that may have most. */
export function lentTogether(plugins: readonly SentPlugin[]): Lent {
  const joined: Record<string, Record<string, number>> = {};
  for (const { lent } of plugins) {
    for (const [name, options] of Object.entries(lent)) {
      const known = joined[name] ?? {};
      const most = Object.entries(options ?? {}).map(([key, value]) => [key, Math.max(value, known[key] ?? 0)]);
      joined[name] = Object.fromEntries(most) as Record<string, number>;
    }
  }
  return joined as Lent;
}
