/**
 * Whether a plugin may be here at all: who made it, what it asks to be lent, and which limits it wants, against the policy.
 *
 * The same question is asked when a plugin is installed, whenever it is verified, and before it runs: a policy may have changed
 * meanwhile.
 * @module
 */
import { CloisterError } from '../../src/base/index.ts';
import { type NoteVerifier, parseVkey } from '../audit/index.ts';
import { type Lent, lentSchema } from '../lending/index.ts';
import { type Limits, parseLimits } from '../limits.ts';
import { assertApi, type PluginManifest } from './manifest.ts';
import type { PluginPackage } from './package.ts';
import type { PluginPolicy } from './policy.ts';
import { verifyPublisher } from './signature.ts';

/** A policy on plugins, ready to be held against them. */
export interface AdmissionRules {
  readonly keys: readonly NoteVerifier[];
  readonly unsigned: boolean;
  /** The most that may be lent. */
  readonly lent: Lent;
  /** The most that a plugin may use. */
  readonly limits: Limits;
}

/** What a plugin that was admitted is given. */
export interface Admission {
  /** Who signed it; undefined when nobody did, and the policy allows that. */
  readonly publisher?: string;
  /** The limits that it runs under. */
  readonly limits: Limits;
  /** What it is lent. */
  readonly lent: Lent;
}

/**
 * Returns the rules that a policy makes.
 *
 * @throws {CloisterError} `INVALID_POLICY` when a publisher's key is none, or a capability or option does not exist or is out of range.
 */
export function admissionRules({ publishers, unsigned, capabilities, limits }: PluginPolicy): AdmissionRules {
  const keys = publishers.map((text, i) => {
    try {
      return parseVkey(text);
    } catch (cause) {
      const message = `the policy does not fit its schema: plugins.publishers.${i}: ${(cause as Error).message}`;
      throw new CloisterError('INVALID_POLICY', message, {}, { cause });
    }
  });
  const lent = lentSchema.safeParse(capabilities);
  if (!lent.success) {
    const issues = issuesOf(lent.error, 'plugins.capabilities');
    throw new CloisterError('INVALID_POLICY', `the policy does not fit its schema: ${issues.join('; ')}`, { issues });
  }
  return { keys, unsigned, lent: lent.data, limits };
}

/**
 * Checks a package against the policy.
 *
 * @throws {CloisterError} `INVALID_PLUGIN` when it is for another version of the plugin interface, asks for a capability that does not
 *   exist, or its signature does not hold; `POLICY_REFUSED` when the policy does not name its publisher, allows no unsigned plugins, or
 *   allows less than it asks for.
 */
export function admit(plugin: PluginPackage, rules: AdmissionRules): Admission {
  const { manifest } = plugin;
  const id = `${manifest.name}@${manifest.version}`;
  assertApi(manifest);
  const verdict = verifyPublisher(plugin, rules.keys);
  if (verdict.kind === 'invalid') {
    const message = `${id}: ${verdict.reason}: get it anew from its publisher`;
    throw new CloisterError('INVALID_PLUGIN', message, { plugin: id });
  }
  if (verdict.kind === 'unknown') {
    const { publisher } = verdict;
    refuse(id, `signed by ${publisher}, whose key is not under plugins.publishers of the policy`, { publisher });
  }
  if (verdict.kind === 'unsigned' && !rules.unsigned) {
    refuse(id, 'nobody signed it, and plugins.unsigned of the policy is false');
  }
  const limits = capped(parseLimits(manifest.limits), manifest.limits, rules.limits, (name, asked, cap) =>
    refuse(id, `asks for ${name} ${asked}, plugins.limits of the policy allows ${cap}`, { limit: name }),
  );
  const most = rules.lent as Loans;
  const lent = Object.entries(lentOf(manifest)).map(([name, asked]) => {
    const allowed = most[name];
    if (allowed === undefined) {
      const message = `asks for the capability ${name}, which is not under plugins.capabilities of the policy`;
      return refuse(id, message, { capability: name });
    }
    const options = capped(asked, manifest.capabilities[name]!, allowed, (option, value, cap) =>
      refuse(id, `asks for ${option} ${value} of the capability ${name}, the policy allows ${cap}`, {
        capability: name,
        option,
      }),
    );
    return [name, options] as const;
  });
  return {
    limits: limits as unknown as Limits,
    lent: Object.freeze(Object.fromEntries(lent)) as Lent,
    ...(verdict.kind === 'signed' && { publisher: verdict.publisher }),
  };
}

/** What `next` asks for that `earlier` did not: for each a phrase, none where it asks for the same or less. */
export function escalation(earlier: PluginManifest, next: PluginManifest): readonly string[] {
  const [had, has] = [lentOf(earlier), lentOf(next)];
  const lent = Object.entries(has).flatMap(([name, options]) => {
    const before = had[name];
    return before === undefined ? [`capability ${name}`] : raised(`capability ${name}, `, before, options);
  });
  return [...lent, ...raised('limit ', parseLimits(earlier.limits), parseLimits(next.limits))];
}

type Amounts = Readonly<Record<string, number>>;

/** {@link Lent} without its names. */
type Loans = Readonly<Record<string, Amounts>>;

function raised(what: string, before: object, after: object): readonly string[] {
  return Object.entries(after as Amounts)
    .filter(([name, value]) => value > (before as Amounts)[name]!)
    .map(([name, value]) => `${what}${name}: ${value}, was ${(before as Amounts)[name]}`);
}

/** `asked` within `most`: an amount that was named must be, one that was not is lowered. */
function capped(
  asked: object,
  named: object,
  most: object,
  refuseAmount: (name: string, asked: number, most: number) => never,
): Amounts {
  const amounts = Object.entries(asked as Amounts).map(([name, value]) => {
    const cap = (most as Amounts)[name]!;
    if (value > cap && Object.hasOwn(named, name)) refuseAmount(name, value, cap);
    return [name, Math.min(value, cap)];
  });
  return Object.freeze(Object.fromEntries(amounts) as Amounts);
}

/** What a manifest asks to be lent, complete. */
function lentOf({ name, version, capabilities }: PluginManifest): Loans {
  const lent = lentSchema.safeParse(capabilities);
  if (lent.success) return lent.data as Loans;
  const id = `${name}@${version}`;
  const message = `${id}: ${issuesOf(lent.error, 'capabilities').join('; ')}`;
  throw new CloisterError('INVALID_PLUGIN', message, { plugin: id });
}

function issuesOf(
  { issues }: { readonly issues: readonly { readonly path: readonly PropertyKey[]; readonly message: string }[] },
  at: string,
): readonly string[] {
  return issues.slice(0, 16).map(({ path, message }) => `${[at, ...path.map(String)].join('.')}: ${message}`);
}

function refuse(id: string, why: string, detail: Readonly<Record<string, unknown>> = {}): never {
  throw new CloisterError('POLICY_REFUSED', `${id}: ${why}`, { plugin: id, ...detail });
}
