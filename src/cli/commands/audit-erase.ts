/**
 * `cloister audit erase`, `rotate` and `continue`: what changes a log that no service has open.
 * @module
 */
import { text } from 'node:stream/consumers';
import { Command } from 'commander';
import { continueAudit, eraseSubject, rotateAuditKey } from '../../service/index.ts';
import { dirOption, jsonOption } from '../options.ts';
import { emit, paint } from '../output.ts';

/** `cloister audit erase SUBJECT`. */
export function eraseCommand(): Command {
  return new Command('erase')
    .description("destroy the key of a person's data, so that nobody can read them again; records and proofs stay")
    .argument('<subject>', 'the person, as named when the data were kept; - reads it from stdin, past the history')
    .option('--actor <name>', 'who does it, for the audit log', 'cli')
    .option('--purpose <text>', 'why, for the audit log')
    .addOption(dirOption())
    .addOption(jsonOption())
    .action(async (subject: string, options: { actor: string; purpose?: string; dir: string; json: boolean }) => {
      const { actor, purpose, dir } = options;
      const who = subject === '-' ? (await text(process.stdin)).replace(/\r?\n$/, '') : subject;
      const receipt = await eraseSubject(dir, who, { actor, purpose });
      const said = receipt
        ? `${paint('green', '✓')} erased; entry ${receipt.index} in the audit log says so, and names nobody`
        : 'there are no data of that person: nothing was done';
      emit(options.json, { erased: receipt !== undefined, ...(receipt && { receipt }) }, () => said);
    });
}

/** `cloister audit rotate`. */
export function rotateCommand(): Command {
  return new Command('rotate')
    .description('give the log a new key: the old one is destroyed, so that it can sign nothing anew')
    .addOption(dirOption())
    .addOption(jsonOption())
    .action(async ({ dir, json }: { dir: string; json: boolean }) => {
      const vkey = await rotateAuditKey(dir);
      emit(
        json,
        { vkey },
        () => `${vkey}\n${paint('dim', 'auditors keep the key that they have: it leads to this one')}`,
      );
    });
}

/** `cloister audit continue LOG TO`. */
export function continueCommand(): Command {
  return new Command('continue')
    .description('close a log that stands by itself for good, and begin another that continues it')
    .argument('<log>', 'its directory, with `checkpoint` in it')
    .argument('<to>', 'directory of the new log, empty as yet')
    .requiredOption('--origin <name>', 'name of the new log, as clinic.example/2027')
    .addOption(jsonOption())
    .action(async (log: string, to: string, { origin, json }: { origin: string; json: boolean }) => {
      const vkey = await continueAudit(log, to, origin);
      emit(json, { vkey }, () => vkey);
    });
}
