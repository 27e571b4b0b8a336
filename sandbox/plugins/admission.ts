/**
 * Whether a plugin may be here at all: who made it, what it asks to be lent, and which limits it wants, against the policy.
 *
 * The same question is asked when a plugin is installed, whenever it is verified, and before it runs: a policy may have changed
 * meanwhile.
 * @module
 */
import { CloisterError } from '../../src/base/index.ts';
import * as z from '../../src/base/zod.ts';
import { parseVkey } from '../audit/index.ts';
import { type Limits, type LimitsInput, limitsSchema, parseLimits } from '../limits.ts';
import {
  assertApi,
  type CapabilityRequest,
  type CapabilityRequests,
  capabilitiesSchema,
  type PluginManifest,
} from './manifest.ts';
import type { PluginPackage } from './package.ts';
import { verifyPublisher } from './signature.ts';

/** What a policy says of plugins. */
export interface PluginPolicy {
  /** Public keys (vkeys) of those whose plugins may be installed. Default none. */
  readonly publishers: readonly string[];
  /** Whether plugins that nobody signed may be installed. Default false. */
  readonly unsigned: boolean;
  /**
   * Capabilities that plugins may be lent, by name. A number among the options is the most that a plugin may ask for, any other value the
   * only one; a plugin that leaves an option open gets what stands here. Default none.
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

/** The schema of {@link PluginPolicy}, with its defaults. Unknown keys are refused. */
export const pluginPolicySchema: z.ZodType<PluginPolicy, PluginPolicyInput> = z.strictObject({
  publishers: z
    .array(
      z.string().superRefine((text, context) => {
        try {
          parseVkey(text);
        } catch (error) {
          context.addIssue({ code: 'custom', message: (error as Error).message });
        }
      }),
    )
    .max(1000)
    .default([]),
  unsigned: z.boolean().default(false),
  capabilities: capabilitiesSchema.default({}),
  limits: limitsSchema.prefault({}),
});

/** What a plugin that was admitted is given. */
export interface Admission {
  /** Who signed it; undefined when nobody did, and the policy allows that. */
  readonly publisher?: string;
  readonly limits: Limits;
  /** What it may be lent: what it asked for, and the policy's word where it left something open. */
  readonly capabilities: CapabilityRequests;
}

/**
 * Checks a package against the policy.
 *
 * @throws {CloisterError} `INVALID_PLUGIN` when it is for another version of the plugin interface, or its signature does not hold;
 *   `POLICY_REFUSED` when the policy does not name its publisher, allows no unsigned plugins, or allows less than it asks for.
 */
export function admit(plugin: PluginPackage, policy: PluginPolicy): Admission {
  const { manifest } = plugin;
  const id = `${manifest.name}@${manifest.version}`;
  assertApi(manifest);
  const verdict = verifyPublisher(plugin, policy.publishers);
  if (verdict.kind === 'invalid') {
    throw new CloisterError('INVALID_PLUGIN', `${id}: ${verdict.reason}: get it anew from its publisher`, {
      plugin: id,
    });
  }
  if (verdict.kind === 'unknown') {
    const { publisher } = verdict;
    refuse(id, `signed by ${publisher}, whose key is not under plugins.publishers of the policy`, { publisher });
  }
  if (verdict.kind === 'unsigned' && !policy.unsigned) {
    refuse(id, 'nobody signed it, and plugins.unsigned of the policy is false');
  }
  const limits = cappedLimits(id, manifest, policy.limits);
  const capabilities = Object.fromEntries(
    Object.entries(manifest.capabilities).map(([name, request]) => [name, cappedRequest(id, name, request, policy)]),
  );
  return { limits, capabilities, ...(verdict.kind === 'signed' && { publisher: verdict.publisher }) };
}

/** What `next` asks for that `earlier` did not: for each a phrase, none where it asks for the same or less. */
export function escalation(earlier: PluginManifest, next: PluginManifest): readonly string[] {
  const more: string[] = [];
  for (const [name, request] of Object.entries(next.capabilities)) {
    const before = ownOf(earlier.capabilities, name);
    if (before === undefined) {
      more.push(`capability ${name}`);
      continue;
    }
    // What an open option comes to is not known here, so to open one is more, and so is to name one that was open.
    for (const option of new Set([...Object.keys(before), ...Object.keys(request)])) {
      const [was, is] = [ownOf(before, option), ownOf(request, option)];
      if (was === is || (typeof was === 'number' && typeof is === 'number' && is <= was)) continue;
      more.push(`capability ${name}, ${option}: ${is ?? 'open'}, was ${was ?? 'open'}`);
    }
  }
  const [was, is] = [parseLimits(earlier.limits), parseLimits(next.limits)];
  for (const [name, value] of Object.entries(is)) {
    const before = was[name as keyof Limits];
    if (value > before) more.push(`limit ${name}: ${value}, was ${before}`);
  }
  return more;
}

/** The limits that a plugin runs under. One that it names must be within the cap; one that it does not name keeps to it. */
function cappedLimits(id: string, manifest: PluginManifest, cap: Limits): Limits {
  const asked = parseLimits(manifest.limits);
  const capped = Object.entries(asked).map(([name, value]) => {
    const most = cap[name as keyof Limits];
    if (value > most && Object.hasOwn(manifest.limits, name)) {
      refuse(id, `asks for ${name} ${value}, plugins.limits of the policy allows ${most}`, { limit: name });
    }
    return [name, Math.min(value, most)];
  });
  return Object.freeze(Object.fromEntries(capped) as unknown as Limits);
}

/** What is lent of one capability. */
function cappedRequest(id: string, name: string, asked: CapabilityRequest, policy: PluginPolicy): CapabilityRequest {
  const allowed = ownOf(policy.capabilities, name);
  if (allowed === undefined) {
    return refuse(id, `asks for the capability ${name}, which is not under plugins.capabilities of the policy`, {
      capability: name,
    });
  }
  for (const [option, most] of Object.entries(allowed)) {
    const value = ownOf(asked, option);
    if (value === undefined || value === most) continue;
    if (typeof value === 'number' && typeof most === 'number' && value <= most) continue;
    refuse(id, `asks for ${option} ${value} of the capability ${name}, the policy allows ${most}`, {
      capability: name,
      option,
    });
  }
  return { ...allowed, ...asked };
}

function ownOf<T>(record: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(record, key) ? record[key] : undefined;
}

function refuse(id: string, why: string, detail: Readonly<Record<string, unknown>> = {}): never {
  throw new CloisterError('POLICY_REFUSED', `${id}: ${why}`, { plugin: id, ...detail });
}
