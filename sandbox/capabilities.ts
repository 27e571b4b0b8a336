/**
 * Which walls stand: an honest list, layer by layer.
 * @module
 */

import type { Isolation } from './walls.ts';
import { canMeter } from './worker/process.ts';

/** Whether one layer of protection stands. */
export type Layer =
  | { readonly status: 'active' }
  | { readonly status: 'unavailable'; readonly why: string }
  | { readonly status: 'not requested' };

/** The names of the layers, from the innermost to the outermost. */
export const LAYERS = [
  'isolate',
  'process',
  'wallWatch',
  'cpuWatch',
  'memoryWatch',
  'filesystem',
  'systemCalls',
  'memoryCap',
] as const;

/**
 * What protects this sandbox's host from its guests:
 * - `isolate`: guest code has a heap of its own and no host object;
 * - `process`: guests and native kernels are in a process of their own, with an empty environment;
 * - `wallWatch`, `cpuWatch`, `memoryWatch`: a watch outside the guest's reach ends what passes these limits;
 * - `filesystem`, `systemCalls`, `memoryCap`: the operating system confines the worker (Landlock, seccomp, a cgroup).
 */
export interface Capabilities {
  readonly isolation: Isolation;
  readonly layers: Readonly<Record<(typeof LAYERS)[number], Layer>>;
}

/** Looks at what this machine and this isolation give. */
export function probeCapabilities(isolation: Isolation): Capabilities {
  const active: Layer = { status: 'active' };
  const unrequested: Layer = { status: 'not requested' };
  const inProcess = isolation === 'process';
  const metered: Layer = canMeter()
    ? active
    : { status: 'unavailable', why: `${process.platform} has no /proc to read usage from` };
  const confined: Layer = {
    status: 'unavailable',
    why: 'this version does not confine its workers by the operating system',
  };
  const layers = {
    isolate: isolation === 'none' ? unrequested : active,
    process: inProcess ? active : unrequested,
    wallWatch: inProcess ? active : unrequested,
    cpuWatch: inProcess ? metered : unrequested,
    memoryWatch: inProcess ? metered : unrequested,
    filesystem: inProcess ? confined : unrequested,
    systemCalls: inProcess ? confined : unrequested,
    memoryCap: inProcess ? confined : unrequested,
  };
  return Object.freeze({ isolation, layers: Object.freeze(layers) });
}
