/**
 * Whether workers hide themselves from other processes of their user. The launcher has no part in it: the kernel forgets the wish when a
 * program starts, so the worker makes it, through the addon, as the first thing it does.
 * @module
 */
import { canForbidDump, nativeStatus } from '../../native/index.ts';
import type { Layer } from '../layers.ts';
import type { Confinement } from './confinement.ts';

const ALONE = 'PR_SET_DUMPABLE 0: its user can neither trace nor read it';
const OWNED =
  'PR_SET_DUMPABLE 0: its user cannot open its memory and environment in /proc, but can trace it, as maker of its user namespace';

/** The layer `noDump` of workers that are confined by `confinement`. */
export function dumpLayer({ layers: { namespaces } }: Confinement): Layer {
  // Whoever switches kernels off after they were loaded here starts workers without the addon.
  if (process.env['CLOISTER_NATIVE'] === 'off') {
    return { status: 'unavailable', why: 'no native binary: CLOISTER_NATIVE=off', mend: 'unset CLOISTER_NATIVE' };
  }
  try {
    if (canForbidDump()) {
      const owned = namespaces.status === 'active' && namespaces.how?.startsWith('user') === true;
      return { status: 'active', how: owned ? OWNED : ALONE };
    }
    const status = nativeStatus();
    return status.kind === 'loaded'
      ? { status: 'unavailable', why: `${process.platform}, or a binary older than this`, mend: 'npm run build:native' }
      : { status: 'unavailable', why: `no native binary: ${status.reason}`, mend: status.mend };
  } catch (error) {
    // kernels that were asked for are missing here
    return { status: 'unavailable', why: (error as Error).message, mend: 'unset CLOISTER_ISA and CLOISTER_THREADS' };
  }
}
