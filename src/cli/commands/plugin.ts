/**
 * `cloister plugin …`: plugins made, signed, installed and looked at.
 * @module
 */
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { Command, Option } from 'commander';
import { CloisterError } from '../../base/index.ts';
import {
  checkPluginFile,
  type InstalledPlugin,
  listPlugins,
  makePublisherKey,
  openCloister,
  PLUGIN_KINDS,
  type PluginKind,
  packPluginFolder,
  parsePluginSource,
  readPlugin,
  signPluginFile,
  verifyPlugins,
} from '../../service/index.ts';
import { EXIT_CODES } from '../exit-codes.ts';
import { dirOption, jsonOption, policyOption, readPolicy } from '../options.ts';
import { emit, formatBytes, paint, printable, say, table } from '../output.ts';
import { pluginTemplate } from '../plugin-templates.ts';

/** Builds the command with its subcommands. */
export function pluginCommand(): Command {
  return new Command('plugin')
    .description('make, check, sign, install and verify plugins')
    .addCommand(newCommand())
    .addCommand(keygenCommand())
    .addCommand(checkCommand())
    .addCommand(packCommand())
    .addCommand(signCommand())
    .addCommand(installCommand())
    .addCommand(listCommand())
    .addCommand(verifyCommand())
    .addCommand(removeCommand())
    .addHelpText(
      'after',
      '\nExamples:\n  $ cloister plugin new lower --kind operator\n  $ cloister plugin pack lower --output lower.cloister-plugin\n  $ cloister plugin install lower.cloister-plugin --policy policy.json',
    );
}

const actorOption = (): Option => new Option('--actor <name>', 'who asks, for the audit log').default('cli');

function newCommand(): Command {
  return new Command('new')
    .description('write the template of a plugin: manifest, entry and a test')
    .argument('<folder>', 'a folder that is not there yet, or is empty')
    .addOption(new Option('--kind <kind>', 'what it is').choices([...PLUGIN_KINDS]).makeOptionMandatory())
    .option('--name <name>', "its name, as npm spells names; default: the folder's")
    .addOption(jsonOption())
    .action(async (folder: string, options: { kind: PluginKind; name?: string; json: boolean }) => {
      const name = options.name ?? basename(resolve(folder)).toLowerCase();
      const files = pluginTemplate(options.kind, name);
      await parsePluginSource(new TextEncoder().encode(files['plugin.json'])); // the name may be none
      await mkdir(folder, { recursive: true });
      if ((await readdir(folder)).length > 0) {
        throw new CloisterError('INVALID_ARGUMENT', `${folder} is not empty: name a folder that is not there yet`);
      }
      for (const [file, text] of Object.entries(files)) await writeFile(join(folder, file), text);
      const written = Object.keys(files).map(file => join(folder, file));
      emit(options.json, { name, kind: options.kind, files: written }, () => written.map(printable).join('\n'));
      say(paint('dim', 'test it with `node --test`, pack it with `cloister plugin pack`', process.stderr));
    });
}

function keygenCommand(): Command {
  return new Command('keygen')
    .description('make a key to sign plugins with')
    .argument('<folder>', 'where the key goes: `key`, which its owner alone may read, and `vkey`, the public part')
    .requiredOption('--name <name>', 'the name of the publisher')
    .addOption(jsonOption())
    .action(async (folder: string, options: { name: string; json: boolean }) => {
      const key = await makePublisherKey(folder, options.name);
      emit(options.json, key, () => key.vkey);
      say(paint('dim', 'that is the public key: it goes under plugins.publishers of a policy', process.stderr));
    });
}

/** How `plugin check` ends. */
const CHECK_EXITS = {
  pass: EXIT_CODES.ok,
  fail: EXIT_CODES.failed,
  refused: EXIT_CODES.verification,
} as const;

function checkCommand(): Command {
  return new Command('check')
    .description('run a plugin under the contract of its kind and under hostile inputs, behind the walls')
    .argument('<plugin>', 'a package, or the folder of a plugin; it is not trusted')
    .addOption(policyOption())
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `\nExit code ${CHECK_EXITS.pass}: nothing was found. ${CHECK_EXITS.fail}: it does not keep what it promises. ${CHECK_EXITS.refused}: it is no package, or the policy does not\nadmit it, and nothing of it was run. Without a policy, capabilities are lent as it asks for them, and signatures are not looked at.`,
    )
    .action(async (path: string, options: { policy?: string; json: boolean }) => {
      const policy = options.policy === undefined ? undefined : await readPolicy(options.policy, {});
      const report = await checkPluginFile(path, policy);
      const { verdict, violations, limits, plugin = path, calls } = report;
      emit(options.json, report, () => {
        const rows = violations.map(({ check, problem }) => `${paint('red', '✗')} ${check}: ${printable(problem)}`);
        const uses = Object.entries(limits).map(
          ([limit, { used, allowed }]) => `${limit} ${used ?? 'unknown'} of ${allowed}`,
        );
        const ran = calls > 0 ? [`${calls} calls; the most in one: ${uses.join(', ')}`] : [];
        const mark = verdict === 'pass' ? paint('green', 'pass') : paint('red', verdict);
        return [...rows, ...ran, `${mark}: ${printable(plugin)}`].join('\n');
      });
      process.exitCode = CHECK_EXITS[verdict];
    });
}

function packCommand(): Command {
  return new Command('pack')
    .description('make a package of the files that a plugin.json names')
    .argument('<folder>', 'the folder of the plugin')
    .option('-o, --output <file>', 'default: NAME-VERSION.cloister-plugin')
    .addOption(jsonOption())
    .action(async (folder: string, options: { output?: string; json: boolean }) => {
      const { manifest, digest, bytes } = await packPluginFolder(folder);
      const { name, version, files } = manifest;
      const output = options.output ?? `${name.replace('@', '').replace('/', '-')}-${version}.cloister-plugin`;
      await writeFile(output, bytes);
      emit(options.json, { name, version, file: output, digest, bytes: bytes.length, files }, () =>
        table(
          ['file', 'bytes', 'sha256'],
          Object.entries(files).map(([file, { bytes: size, sha256 }]) => [file, String(size), sha256]),
        ),
      );
      say(paint('dim', `${printable(output)}, ${formatBytes(bytes.length)}, not signed`, process.stderr));
    });
}

function signCommand(): Command {
  return new Command('sign')
    .description('sign a package, in place')
    .argument('<package>', 'a file that `cloister plugin pack` made')
    .requiredOption('--key <folder>', 'the folder that `cloister plugin keygen` made')
    .addOption(jsonOption())
    .action(async (file: string, options: { key: string; json: boolean }) => {
      const signed = await signPluginFile(file, options.key);
      emit(options.json, signed, () => `${signed.name}@${signed.version} signed by ${signed.publisher}`);
    });
}

interface InstallOptions {
  readonly allowEscalation?: true;
  readonly dir: string;
  readonly policy?: string;
  readonly actor: string;
  readonly json: boolean;
}

function installCommand(): Command {
  return new Command('install')
    .description('install a plugin, if the policy admits it, and make it the active version')
    .argument('<plugin>', 'a package, or the folder of a plugin; it is not trusted, and nothing of it is run')
    .option('--allow-escalation', 'also where it asks for capabilities or limits that the active version did not')
    .addOption(dirOption())
    .addOption(policyOption())
    .addOption(actorOption())
    .addOption(jsonOption())
    .addHelpText('after', '\nWithout a policy file nothing is admitted: name publishers under plugins.publishers.')
    .action(async (path: string, options: InstallOptions) => {
      const policy = await readPolicy(options.policy, {});
      const bytes = await readPlugin(path);
      await using cloister = await openCloister({ dir: options.dir, policy });
      const report = await cloister
        .plugins(options.actor)
        .install(bytes, { allowEscalation: options.allowEscalation === true });
      emit(options.json, report, () => {
        const { name, version, publisher, replaced, downgrade, lent: loan } = report;
        const lent = Object.keys(loan).join(', ') || 'nothing';
        const before = replaced === undefined ? '' : `, ${downgrade ? 'a downgrade from' : 'after'} ${replaced}`;
        return `${name}@${version} is active${before}; signed by ${publisher ?? 'nobody'}; is lent ${lent}`;
      });
      if (report.downgrade) {
        say(`${paint('yellow', 'downgrade', process.stderr)}: ${report.replaced} was active before`);
      }
    });
}

function listCommand(): Command {
  return new Command('list')
    .description('list the plugins that are installed')
    .addOption(dirOption())
    .addOption(jsonOption())
    .action(async (options: { dir: string; json: boolean }) => {
      const plugins = await listPlugins(options.dir);
      emit(options.json, plugins, () => {
        if (plugins.length === 0) return 'no plugins are installed';
        return table(['name', 'version', '', 'kind', 'publisher', 'asks for', 'licence'], plugins.map(rowOf));
      });
    });
}

function rowOf({ name, version, active, manifest }: InstalledPlugin): readonly string[] {
  const { kind, publisher, capabilities, licence } = manifest;
  const asked = Object.keys(capabilities).join(', ') || 'nothing';
  return [name, version, active ? paint('green', 'active') : '', kind, publisher ?? 'nobody', asked, licence];
}

function verifyCommand(): Command {
  return new Command('verify')
    .description('check digests and signatures of what is installed again, and that the policy admits it')
    .addOption(dirOption())
    .addOption(policyOption())
    .addOption(jsonOption())
    .action(async (options: { dir: string; policy?: string; json: boolean }) => {
      const checks = await verifyPlugins(options.dir, await readPolicy(options.policy, {}));
      const ok = checks.every(check => check.ok);
      emit(options.json, { ok, plugins: checks }, () => {
        if (checks.length === 0) return 'no plugins are installed';
        return checks
          .map(({ ok: good, name, version, reason = '' }) => {
            const id = `${name}@${version}`;
            if (good) return `${paint('green', '✓')} ${id}`;
            return `${paint('red', '✗')} ${printable(reason.startsWith(id) ? reason : `${id}: ${reason}`)}`;
          })
          .join('\n');
      });
      process.exitCode = ok ? EXIT_CODES.ok : EXIT_CODES.verification;
    });
}

function removeCommand(): Command {
  return new Command('remove')
    .description('remove a plugin: one version, or all')
    .argument('<name[@version]>', 'as `cloister plugin list` names it')
    .addOption(dirOption())
    .addOption(policyOption())
    .addOption(actorOption())
    .addOption(jsonOption())
    .action(async (id: string, options: Omit<InstallOptions, 'allowEscalation'>) => {
      const at = id.indexOf('@', 1); // a scope begins with one
      const policy = await readPolicy(options.policy, {});
      await using cloister = await openCloister({ dir: options.dir, policy });
      const report = await cloister
        .plugins(options.actor)
        .remove(at < 0 ? id : id.slice(0, at), at < 0 ? undefined : id.slice(at + 1));
      emit(options.json, report, () => {
        const removed = report.removed.map(version => `${report.name}@${version}`).join(', ');
        return `${removed} removed; ${report.active === undefined ? 'no version is left' : `${report.active} is active`}`;
      });
    });
}
