/**
 * A model as a caller gives it, checked and copied once, before any walls.
 * @module
 */
import { CloisterError } from '../src/base/index.ts';
import type { Limits } from './limits.ts';
import type { FixedDims, OpenExternal } from './model-files.ts';
import { isSafeName } from './untrusted.ts';
import type { ReloadOptions } from './walls.ts';

/** A model that belongs to whoever loads it. */
export interface GivenModel {
  readonly bytes: Uint8Array;
  readonly dims: FixedDims;
  readonly external: OpenExternal | undefined;
}

/**
 * Takes over what a caller gave.
 *
 * @param fixed - The sizes of dimensions, where the options fix none.
 * @throws {CloisterError} `INVALID_ARGUMENT`; `MODEL_TOO_LARGE`; `ABORTED` when the signal is.
 */
export function takeModel(
  model: Uint8Array,
  { dims, external, signal }: ReloadOptions,
  limits: Limits,
  fixed: FixedDims,
): GivenModel {
  assertUnaborted(signal);
  const given = { dims: dims === undefined ? fixed : checkDims(dims), external: openerOf(external) };
  return { bytes: copyOfModel(model, limits), ...given };
}

/**
 * A copy of the bytes of a model file, so that whoever passed them in may change theirs.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when they are none; `MODEL_TOO_LARGE`.
 */
export function copyOfModel(model: unknown, { modelBytes }: Pick<Limits, 'modelBytes'>): Uint8Array {
  if (!(model instanceof Uint8Array)) {
    throw new CloisterError('INVALID_ARGUMENT', 'model: expected the bytes of a model as a Uint8Array');
  }
  if (model.length > modelBytes) {
    const message = `the model has ${model.length} bytes, over the limit modelBytes of ${modelBytes}`;
    throw new CloisterError('MODEL_TOO_LARGE', message, { bytes: model.length, allowed: modelBytes });
  }
  return new Uint8Array(model);
}

/** @throws {CloisterError} `ABORTED` when the signal is. */
export function assertUnaborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new CloisterError('ABORTED', 'the caller cancelled', {}, { cause: signal.reason });
}

/** @throws {CloisterError} `INVALID_ARGUMENT` when `dims` is no record of sizes by name. */
function checkDims(dims: unknown): FixedDims {
  const wrong = (what: string): CloisterError => new CloisterError('INVALID_ARGUMENT', `dims: ${what}`);
  if (typeof dims !== 'object' || dims === null || Array.isArray(dims)) throw wrong('expected sizes by name');
  const entries = Object.entries(dims);
  if (entries.length > 1_000) throw wrong(`expected at most 1000 sizes, got ${entries.length}`);
  for (const [name, size] of entries) {
    if (!isSafeName(name)) throw wrong('a name is not printable, longer than 1000 characters, or __proto__');
    if (!Number.isSafeInteger(size) || (size as number) < 0) {
      throw wrong(`${JSON.stringify(name.slice(0, 80))}: expected a size, got ${String(size).slice(0, 40)}`);
    }
  }
  return Object.freeze(Object.fromEntries(entries)) as FixedDims;
}

function openerOf(external: ReloadOptions['external']): OpenExternal | undefined {
  if (external === undefined) return undefined;
  if (external instanceof Map) return location => external.get(location);
  if (typeof external === 'function') return external;
  throw new CloisterError('INVALID_ARGUMENT', 'external: expected a Map of files by path, or a function');
}
