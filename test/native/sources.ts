/**
 * What the addon is made of, as `native/binding.gyp` says, for builds of parts of it with other flags.
 * @module
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runInNewContext } from 'node:vm';

/** The folder of the sources. */
export const NATIVE: string = join(import.meta.dirname, '..', '..', 'native');

/** One file to compile, with the flags of its row. */
export interface Source {
  /** Relative to {@link NATIVE}. */
  readonly file: string;
  /** A name that no other source has. */
  readonly name: string;
  readonly flags: readonly string[];
}

interface Target {
  readonly target_name: string;
  readonly sources: readonly string[];
  readonly defines?: readonly string[];
  readonly cflags_cc: readonly string[];
}

interface Gyp {
  readonly variables: Readonly<Record<string, readonly string[]>>;
  readonly targets: readonly Target[];
  readonly conditions: readonly (readonly [string, { readonly targets?: readonly Target[] }])[];
}

/** The files that need no Node: kernels for this CPU's architecture, verifier, executor, pool. */
export function sourcesWithoutNode(): readonly Source[] {
  // Comments aside, a gyp file is an object literal.
  const text = readFileSync(join(NATIVE, 'binding.gyp'), 'utf8').replaceAll(/^\s*#.*$/gm, '');
  const gyp = runInNewContext(`(${text})`) as Gyp;
  const here = gyp.conditions.filter(([condition]) => condition === `target_arch=="${process.arch}"`);
  const targets = [...gyp.targets, ...here.flatMap(([, { targets = [] }]) => targets)];
  return targets.flatMap(target => {
    const sources = target.sources.flatMap(source =>
      source.startsWith('<@(') ? gyp.variables[source.slice(3, -1)]! : [source],
    );
    const flags = [
      ...(target.defines ?? []).filter(define => define.startsWith('CLOISTER_')).map(define => `-D${define}`),
      ...target.cflags_cc.filter(flag => flag.startsWith('-m')),
    ];
    return sources
      .filter(file => !/(^|\/)(addon|(\w+_)?binding|mapping)\.cc$/.test(file))
      .map(file => ({ file, name: `${target.target_name}-${file.replaceAll(/[./]/g, '-')}`, flags }));
  });
}
