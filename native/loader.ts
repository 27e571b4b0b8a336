/**
 * Finds and loads the binary, once per environment (the main thread or a worker), and tells what came of it.
 * @module
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { CloisterError } from '../src/base/index.ts';
import { packageRoot } from './launcher.ts';

/** What came of loading the binary. */
export type NativeStatus =
  | { readonly kind: 'loaded'; readonly path: string }
  /** `CLOISTER_NATIVE=off` asks for the reference backend. */
  | { readonly kind: 'off'; readonly reason: string; readonly mend: string }
  /** There is no binary for this platform, or it does not load. */
  | { readonly kind: 'missing'; readonly reason: string; readonly mend: string };

/** The addon's exports, untyped: `kernels.ts` and `program-host.ts` each know their part. */
export type Binding = Readonly<Record<string, unknown>>;

let cached: { readonly status: NativeStatus; readonly binding: Binding | undefined } | undefined;

/**
 * Returns the addon's exports, or `undefined` where everything has to run on the reference backend; {@link
 * nativeStatus} then says why. The first call decides for the life of this thread.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when `CLOISTER_ISA` names a row that this build or this CPU does not have, or
 *   `CLOISTER_THREADS` is no integer from 1 to 64.
 */
export function loadBinding(): Binding | undefined {
  cached ??= open();
  return cached.binding;
}

/** Returns what came of loading the binary (loading it now if nobody has), and the command that mends a failure. */
export function nativeStatus(): NativeStatus {
  cached ??= open();
  return cached.status;
}

function open(): NonNullable<typeof cached> {
  if (process.env['CLOISTER_NATIVE'] === 'off') {
    const status: NativeStatus = { kind: 'off', reason: 'CLOISTER_NATIVE=off', mend: 'unset CLOISTER_NATIVE' };
    return { status, binding: undefined };
  }
  const require = createRequire(import.meta.url);
  const root = packageRoot();
  let path: string;
  let binding: Binding;
  try {
    const finder = require('node-gyp-build') as { resolve(folder: string): string };
    path = finder.resolve(join(root, 'native'));
    binding = require(path) as Binding;
  } catch (error) {
    const reason = (error instanceof Error ? error.message : String(error)).split('\n')[0] ?? '';
    // An installed package carries binaries and no sources.
    const mend = existsSync(join(root, 'native', 'build.ts')) ? 'npm run build:native' : 'npm install cloister';
    return { status: { kind: 'missing', reason, mend }, binding: undefined };
  }
  applyEnvironment(binding);
  return { status: { kind: 'loaded', path }, binding };
}

function applyEnvironment(binding: Binding): void {
  const name = process.env['CLOISTER_ISA'];
  if (name !== undefined && name !== '') selectIsa(binding, name, 'CLOISTER_ISA');
  const threads = process.env['CLOISTER_THREADS'];
  if (threads === undefined || threads === '') return;
  const { setThreads } = binding as { setThreads(threads: number): void };
  setThreads(checkThreads(/^\d+$/.test(threads) ? Number(threads) : threads, 'CLOISTER_THREADS'));
}

/**
 * Returns `threads`, a number of threads for kernels.
 *
 * @param source - What named it, for the message.
 * @throws {CloisterError} `INVALID_ARGUMENT` when it is no integer from 1 to 64.
 */
export function checkThreads(threads: unknown, source: string): number {
  if (typeof threads === 'number' && Number.isInteger(threads) && threads >= 1 && threads <= 64) return threads;
  throw new CloisterError(
    'INVALID_ARGUMENT',
    `${source}: expected an integer from 1 to 64, got ${String(threads).slice(0, 40)}`,
  );
}

/**
 * Makes the row `name` run in the whole process; `null` returns to the best one.
 *
 * @param source - What named the row, for the message.
 * @throws {CloisterError} `INVALID_ARGUMENT` when this build or this CPU does not have it.
 */
export function selectIsa(binding: Binding, name: string | null, source: string): void {
  const { forceIsa, info } = binding as { forceIsa(name: string | null): boolean; info(): { supported: string[] } };
  if (forceIsa(name)) return;
  const { supported } = info();
  const came = String(name).slice(0, 40);
  throw new CloisterError(
    'INVALID_ARGUMENT',
    `${source}: expected one of ${supported.join(', ')} (what this CPU runs), got ${JSON.stringify(came)}`,
    { isa: came, supported },
  );
}
