/**
 * What other processes of the same user may see of this one.
 * @module
 */
import { loadBinding } from './loader.ts';

/** The part of the addon's exports that hides. */
interface DumpBinding {
  forbidDump(): boolean;
}

/**
 * Whether {@link forbidDump} can do it here: on Linux, with the native binary.
 *
 * @throws {CloisterError} As {@link loadBinding}.
 */
export function canForbidDump(): boolean {
  return process.platform === 'linux' && binding() !== undefined;
}

/**
 * Takes from other processes of the same user what the kernel lets them do to this one, for the rest of its life: read its memory and
 * its environment, trace it; and it leaves no core dump. `prctl(PR_SET_DUMPABLE, 0)`, see prctl(2). Root still may, and so may, but for
 * the files of `/proc` that only the owner reads, whoever made the user namespace that this process is in.
 *
 * @returns Whether it is so now: `false` without the native binary, and off Linux.
 * @throws {CloisterError} As {@link loadBinding}.
 */
export function forbidDump(): boolean {
  return binding()?.forbidDump() ?? false;
}

/** Undefined without the binary, and with one that is older than this. */
function binding(): DumpBinding | undefined {
  const native = loadBinding() as unknown as DumpBinding | undefined;
  return native?.forbidDump === undefined ? undefined : native;
}
