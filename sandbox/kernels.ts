/**
 * The native side of a sandbox, or the reason why there is none.
 * @module
 */
import { loadBinding, type NativeProgramHost, nativeStatus, openProgramHost } from '../native/index.ts';

/** What runs programs here. */
export interface Kernels {
  readonly host: NativeProgramHost | undefined;
  /** Why native code runs, or why it does not. */
  readonly why: string;
}

/**
 * Loads the native binary if there is one; without it the reference backend serves.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when `CLOISTER_ISA` names a row that does not run here.
 */
export function loadKernels(): Kernels {
  const binding = loadBinding();
  if (binding !== undefined) {
    const host = openProgramHost(binding);
    return { host, why: `native kernels (${host.info.isa})` };
  }
  const status = nativeStatus();
  return { host: undefined, why: status.kind === 'loaded' ? '' : `no native kernels: ${status.reason.slice(0, 400)}` };
}
