/**
 * All capabilities there are. What is not lent by name is not there.
 * @module
 */
import type { Capability } from './capability.ts';
import { CLOCK } from './clock.ts';
import { KERNELS } from './kernels.ts';
import { KV } from './kv.ts';
import { LOG } from './log.ts';
import { RANDOM } from './random.ts';
import { READ_MODEL } from './read-model.ts';
import { WASM } from './wasm.ts';

/** Every capability, by its name. */
export const CAPABILITIES: {
  readonly log: typeof LOG;
  readonly clock: typeof CLOCK;
  readonly random: typeof RANDOM;
  readonly kv: typeof KV;
  readonly readModel: typeof READ_MODEL;
  readonly kernels: typeof KERNELS;
  readonly wasm: typeof WASM;
} = { log: LOG, clock: CLOCK, random: RANDOM, kv: KV, readModel: READ_MODEL, kernels: KERNELS, wasm: WASM };

/** The name of a capability. */
export type CapabilityName = keyof typeof CAPABILITIES;

/** The options of a capability, complete. */
export type CapabilityOptions<N extends CapabilityName> = Readonly<
  Record<keyof (typeof CAPABILITIES)[N]['options'], number>
>;

/** What is lent: a capability that is not named is not lent. */
export type Lent = { readonly [N in CapabilityName]?: CapabilityOptions<N> | undefined };

/** {@link Lent} as a person writes it: an option that is left out takes its default. */
export type LentInput = { readonly [N in CapabilityName]?: Partial<CapabilityOptions<N>> | undefined };

/** The capabilities as a list, whose types are those that all have. */
export const CAPABILITY_LIST: readonly Capability[] = Object.values(CAPABILITIES) as readonly Capability[];
