/**
 * Which walls stand: an honest list, layer by layer.
 * @module
 */
import { CloisterError } from '../src/base/index.ts';
import type { Isolation } from './walls.ts';

/** Whether one layer of protection stands. `how`: by what means, in words. `mend`: what would bring it up. */
export type Layer =
  | { readonly status: 'active'; readonly how?: string }
  | { readonly status: 'unavailable'; readonly why: string; readonly mend: string }
  | { readonly status: 'not requested' };

/** The names of the layers, from the innermost to the outermost. */
export const LAYERS = [
  'isolate',
  'process',
  'wallWatch',
  'cpuWatch',
  'memoryWatch',
  'noNewPrivileges',
  'filesystem',
  'systemCalls',
  'network',
  'namespaces',
  'resourceLimits',
  'parentDeath',
  'noDump',
  'memoryCap',
  'taskCap',
  'cpuShare',
] as const;

/** One of {@link LAYERS}. */
export type LayerName = (typeof LAYERS)[number];

/**
 * What protects this sandbox's host from its guests:
 * - `isolate`: guest code has a heap of its own and no host object;
 * - `process`: guests and native kernels are in a process of their own, with an empty environment;
 * - `wallWatch`, `cpuWatch`, `memoryWatch`: a watch outside the guest's reach ends what passes these limits;
 * - `noNewPrivileges`: the worker has no capability of the kernel, and no program that it starts would get any;
 * - `filesystem`: it reads its own program, and writes nothing (Landlock);
 * - `systemCalls`: of the kernel's calls it may make those of a list (seccomp);
 * - `network`: it cannot make a socket, nor reach a network;
 * - `namespaces`: it has users, network, IPC and a host name of its own;
 * - `resourceLimits`: no core dump, no growing file, bounded descriptors and tasks;
 * - `parentDeath`: the kernel ends it when its supervisor ends;
 * - `noDump`: it leaves no core dump, and other processes of its user cannot look into it, as far as `how` says;
 * - `memoryCap`, `taskCap`, `cpuShare`: a control group bounds its memory and tasks, and what it gets of a busy processor.
 *
 * All but `cpuShare` come up unasked where the machine has them; that one has to be required, since it costs each call some
 * microseconds. From `noNewPrivileges` on, `active` is what the launcher reports of a process that it confined; for `noDump`, that the worker
 * can ask the kernel for it. Every worker is then confined as far, or not used.
 */
export interface Capabilities {
  readonly isolation: Isolation;
  readonly layers: Readonly<Record<LayerName, Layer>>;
}

/** The names of the layers that are active. */
export function activeLayers({ layers }: Capabilities): readonly LayerName[] {
  return LAYERS.filter(name => layers[name].status === 'active');
}

/** @throws {CloisterError} `LAYER_UNAVAILABLE` when one of `required` is not active, with the reason of each. */
export function requireLayers({ isolation, layers }: Capabilities, required: readonly LayerName[]): void {
  const missing = LAYERS.filter(name => required.includes(name) && layers[name].status !== 'active');
  if (missing.length === 0) return;
  const reasons = missing.map(name => {
    const layer = layers[name];
    if (layer.status === 'unavailable') return `${name} (${layer.why}; ${layer.mend})`;
    return `${name} (isolation ${isolation} does not have it; use isolation process)`;
  });
  throw new CloisterError('LAYER_UNAVAILABLE', `layers that are required are not active here: ${reasons.join(', ')}`, {
    layers: missing,
  });
}
