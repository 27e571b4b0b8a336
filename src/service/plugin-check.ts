/**
 * The check of a plugin that is a file or the folder of its author: nothing is installed, nothing recorded.
 * @module
 */
import { CAPABILITY_LIST } from '../../sandbox/lending/table.ts';
import { admissionRules, admit } from '../../sandbox/plugins/admission.ts';
import { checkPlugin, type PluginVerdict } from '../../sandbox/plugins/check.ts';
import { type PluginPackage, readPackage } from '../../sandbox/plugins/package.ts';
import { pluginPolicySchema } from '../../sandbox/plugins/policy.ts';
import type { AdmittedPlugin } from '../../sandbox/plugins/registry.ts';
import { openSandbox } from '../../sandbox/sandbox.ts';
import { CloisterError } from '../base/index.ts';
import { type PolicyInput, parsePolicy } from './policy.ts';

/** A verdict on a plugin, and which plugin it is on. */
export interface PluginFileVerdict extends PluginVerdict {
  /** Name and version, where the package could be read. */
  readonly plugin?: string;
  /** `sha256:…` of the package. */
  readonly digest?: string;
}

/** The verdict on the package that `read` gives: see `checkPluginFile`. */
export async function checkPackage(bytes: () => Promise<Uint8Array>, policy?: PolicyInput): Promise<PluginFileVerdict> {
  let read: PluginPackage | undefined;
  let admitted: AdmittedPlugin;
  try {
    read = readPackage(await bytes());
    admitted = policy === undefined ? admittedByAuthor(read) : { ...read, ...admit(read, rulesOf(policy)) };
    return { ...(await checked(admitted)), ...named(read) };
  } catch (error) {
    const refused =
      error instanceof CloisterError && (error.code === 'INVALID_PLUGIN' || error.code === 'POLICY_REFUSED');
    if (!refused) throw error;
    const violations = [{ check: 'is admitted' as const, problem: error.message }];
    return { verdict: 'refused', violations, limits: {}, calls: 0, ...(read && named(read)) };
  }
}

async function checked(admitted: AdmittedPlugin): Promise<PluginVerdict> {
  await using sandbox = await openSandbox();
  return await checkPlugin(sandbox, admitted);
}

function rulesOf(policy: PolicyInput): ReturnType<typeof admissionRules> {
  return admissionRules(parsePolicy(policy).plugins);
}

/** A plugin as its author would have it admitted. */
function admittedByAuthor(read: PluginPackage): AdmittedPlugin {
  const ceilings = CAPABILITY_LIST.map(({ name, options }) => {
    return [name, Object.fromEntries(Object.entries(options).map(([option, { most }]) => [option, most]))];
  });
  const capabilities = Object.fromEntries(ceilings) as Record<string, Record<string, number>>;
  const rules = admissionRules(pluginPolicySchema.parse({ unsigned: true, capabilities }));
  const { publisher: _, ...manifest } = read.manifest;
  const { signature: __, ...unsigned } = read;
  return { ...read, ...admit({ ...unsigned, manifest }, rules) };
}

function named({ manifest: { name, version }, digest }: PluginPackage): Pick<PluginFileVerdict, 'plugin' | 'digest'> {
  return { plugin: `${name}@${version}`, digest };
}
