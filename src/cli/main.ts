#!/usr/bin/env -S node --no-node-snapshot
/**
 * The command line: `cloister COMMAND`.
 * @module
 */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { CloisterError } from '../base/index.ts';
import { auditCommand } from './commands/audit.ts';
import { budgetCommand } from './commands/budget.ts';
import { doctorCommand } from './commands/doctor.ts';
import { dpCommand } from './commands/dp.ts';
import { inspectCommand } from './commands/inspect.ts';
import { pluginCommand } from './commands/plugin.ts';
import { profileCommand } from './commands/profile.ts';
import { releaseCommand } from './commands/release.ts';
import { runCommand } from './commands/run.ts';
import { sandboxCommand } from './commands/sandbox.ts';
import { EXIT_CODES, EXIT_MEANINGS, type Exit, exitFor } from './exit-codes.ts';
import { paint, printable, say, toJson } from './output.ts';

/** The `version` of the nearest package.json above this file: the source tree's or the installed package's. */
function packageVersion(): string {
  for (const up of ['../../package.json', '../../../package.json']) {
    try {
      const manifest = JSON.parse(readFileSync(new URL(up, import.meta.url), 'utf8')) as {
        name?: string;
        version?: string;
      };
      if (manifest.name === 'cloister' && manifest.version) return manifest.version;
    } catch {}
  }
  return 'unknown';
}

function buildProgram(): Command {
  const exits = (Object.keys(EXIT_CODES) as Exit[])
    .map(name => `  ${EXIT_CODES[name]}  ${EXIT_MEANINGS[name]}`)
    .join('\n');
  const program = new Command('cloister')
    .description('Machine-learning inference on data that must not leak: sandboxed, budgeted, recorded.')
    .version(packageVersion(), '-V, --version')
    .showHelpAfterError('(add --help for the options)')
    .addHelpText('after', `\nExit codes:\n${exits}\n\nData goes to stdout, talk to stderr. NO_COLOR is honoured.`);
  for (const command of [
    runCommand(),
    releaseCommand(),
    inspectCommand(),
    profileCommand(),
    budgetCommand(),
    dpCommand(),
    auditCommand(),
    sandboxCommand(),
    pluginCommand(),
    doctorCommand(),
  ]) {
    program.addCommand(command);
  }
  return program;
}

/** Makes Commander throw instead of exiting, on every level: the exit code is decided in one place. */
function throwing(command: Command): Command {
  command.exitOverride();
  for (const child of command.commands) throwing(child);
  return command;
}

async function main(argv: readonly string[]): Promise<number> {
  try {
    await throwing(buildProgram()).parseAsync([...argv]);
    return Number(process.exitCode ?? EXIT_CODES.ok);
  } catch (error) {
    if (error instanceof CommanderError) {
      const asked = error.code === 'commander.helpDisplayed' || error.code === 'commander.version';
      return asked ? EXIT_CODES.ok : EXIT_CODES.usage;
    }
    if (argv.includes('--json') && error instanceof CloisterError) {
      process.stdout.write(`${toJson({ error: error.toJSON() })}\n`);
    }
    const code = error instanceof CloisterError ? ` ${paint('dim', `[${error.code}]`, process.stderr)}` : '';
    const message = (error instanceof Error ? error.message : String(error)).split('\n').map(printable).join('\n');
    say(`${paint('red', 'error', process.stderr)}: ${message}${code}`);
    const hint = hintFor(error);
    if (hint !== undefined) say(hint);
    return exitFor(error);
  }
}

/** What to pass, where an error says which sizes are open. */
function hintFor(error: unknown): string | undefined {
  const dims = error instanceof CloisterError ? error.detail['dims'] : undefined;
  if (!Array.isArray(dims) || dims.length === 0) return undefined;
  const names = dims.slice(0, 8).map(name => printable(String(name).slice(0, 80)));
  const options = names.map(name => (/^[\w.-]+$/.test(name) ? `--dim ${name}=SIZE` : `--dim '${name}=SIZE'`));
  return `try: ${options.join(' ')}`;
}

// A reader that closes the pipe early (`cloister … | head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT_CODES.ok);
  throw error;
});
process.stderr.on('error', () => {}); // nobody listens to the talk: the data matter
process.exitCode = await main(process.argv);
