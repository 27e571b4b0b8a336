/**
 * A script run as a guest: what `cloister sandbox run` does.
 * @module
 */
import type { CapabilityName, Evaluation, Isolation, LentInput, LimitsInput } from '../../sandbox/index.ts';
import { CloisterError } from '../base/index.ts';
import { readRegularFile } from './files.ts';

/** Bytes of a script, at most. */
const SCRIPT_LIMIT_BYTES = 16 * 1_048_576;

const NAMES: Readonly<Record<CapabilityName, true>> = {
  log: true,
  clock: true,
  random: true,
  kv: true,
  readModel: true,
  kernels: true,
  wasm: true,
};

/** The names of what a script can be lent. To name them loads no part of the sandbox. */
export const CAPABILITY_NAMES: readonly string[] = Object.keys(NAMES);

/** What {@link runScript} may be told. */
export interface ScriptOptions {
  /** Default `process`. */
  readonly isolation?: Isolation;
  readonly limits?: LimitsInput;
  /** Names of capabilities, each lent with the defaults of its options. Default none. */
  readonly lend?: readonly string[];
}

/**
 * Runs a file as a script inside the sandbox and says how it ended and what it used. Nothing is recorded, nothing is kept.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when the file cannot be read or is no text, on a capability that does not exist, on limits
 *   that do not fit, and under isolation `none`; `MISSING_DEPENDENCY`.
 * @example
 * ```ts
 * await writeFile('guest.js', "lent.log('hello'); 6 * 7");
 * const { outcome, value, messages } = await runScript('guest.js', { lend: ['log'] });
 * outcome; // 'ok'
 * value; // '42'
 * messages; // ['hello']
 * ```
 */
export async function runScript(file: string, options: ScriptOptions = {}): Promise<Evaluation> {
  const { isolation = 'process', limits = {}, lend = [] } = options;
  const source = textOf(await readRegularFile(file, SCRIPT_LIMIT_BYTES), file);
  const { openSandbox } = await import('../../sandbox/index.ts');
  await using sandbox = await openSandbox({ isolation, limits, warm: 0 });
  return await sandbox.evaluate(source, { capabilities: lentOf(lend) });
}

function lentOf(names: readonly string[]): LentInput {
  for (const name of names) {
    if (CAPABILITY_NAMES.includes(name)) continue;
    const message = `there is no capability ${JSON.stringify(name.slice(0, 80))}: there are ${CAPABILITY_NAMES.join(', ')}`;
    throw new CloisterError('INVALID_ARGUMENT', message, { capabilities: CAPABILITY_NAMES });
  }
  return Object.fromEntries(names.map(name => [name, {}]));
}

function textOf(bytes: Uint8Array, file: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new CloisterError('INVALID_ARGUMENT', `${file}: expected a script in UTF-8`, { file }, { cause });
  }
}
