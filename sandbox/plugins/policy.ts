/**
 * What a policy says of plugins. Here its form alone: that keys are keys, and that capabilities of these names exist, is checked by
 * `admission.ts`, which loads both.
 * @module
 */
import * as z from '../../src/base/zod.ts';
import { type Limits, type LimitsInput, limitsSchema } from '../limits.ts';

/** Capabilities by name, and options of each, which are whole numbers: see `sandbox/lending`. */
export type CapabilityRequests = Readonly<Record<string, Readonly<Record<string, number>>>>;

/** What a policy says of plugins. */
export interface PluginPolicy {
  /** Public keys (vkeys) of those whose plugins may be installed. Default none. */
  readonly publishers: readonly string[];
  /** Whether plugins that nobody signed may be installed. Default false. */
  readonly unsigned: boolean;
  /**
   * Capabilities that plugins may be lent, by name, and the most that they may ask for of each option; where an option is left out, that
   * is its default. Default none.
   */
  readonly capabilities: CapabilityRequests;
  /** The most that a plugin may ask for. Default: the defaults of limits. */
  readonly limits: Limits;
}

/** A policy on plugins as a person writes it. */
export interface PluginPolicyInput {
  readonly publishers?: readonly string[] | undefined;
  readonly unsigned?: boolean | undefined;
  readonly capabilities?: CapabilityRequests | undefined;
  readonly limits?: LimitsInput | undefined;
}

const word = z.string().regex(/^[a-z][A-Za-z0-9]{0,31}$/, 'expected letters and digits, the first in lower case');

/** The form of capabilities with options, as manifests and policies have it. */
export const capabilitiesSchema: z.ZodType<CapabilityRequests, CapabilityRequests> = z.record(
  word,
  z.record(word, z.int().min(0)),
);

/** The schema of {@link PluginPolicy}, with its defaults. Unknown keys are refused. */
export const pluginPolicySchema: z.ZodType<PluginPolicy, PluginPolicyInput> = z.strictObject({
  publishers: z
    .array(
      z.string().regex(/^[^+]+\+[0-9a-f]{8}\+[A-Za-z0-9+/=]+$/, 'a public key is NAME+8 hexadecimal digits+base64'),
    )
    .default([]),
  unsigned: z.boolean().default(false),
  capabilities: capabilitiesSchema.default({}),
  limits: limitsSchema.prefault({}),
});
