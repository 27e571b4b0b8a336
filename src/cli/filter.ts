/**
 * A filter over records of the audit log as arguments of a command.
 * @module
 */
import type { Command } from 'commander';
import { CloisterError } from '../base/index.ts';

const HELP = `
Filter: qualifiers and words, all of which must hold; quote a filter for the shell where it has spaces or quotes.
  actor:ward-3  action:refuse  decision:allow|refuse|SCOPE_EXHAUSTED  request:ID
  object:NAME|KIND  scope:NAME  model:sha256:0123abcd…  (a digest may be cut to eight digits)
  since:2026-11-21  since:2026-11-21T09:30Z  until:7d  (s, m, h, d, w ago; since is inclusive, until is not; UTC)
  -action:load  leaves out what it names; the same qualifier twice means either; object:"a b" quotes a value
  anything else is searched for in the whole record`;

/** Gives `command` the arguments of a filter, and its help. What begins with one dash and is no option is part of the filter. */
export function takesFilter(command: Command): Command {
  return command.argument('[filter...]', 'which records, see below').allowUnknownOption().addHelpText('after', HELP);
}

/**
 * The filter that the arguments are; undefined where there are none.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when one is an option that the command does not have.
 */
export function filterOf(words: readonly string[]): string | undefined {
  const option = words.find(word => word.startsWith('--'));
  if (option !== undefined) throw new CloisterError('INVALID_ARGUMENT', `unknown option ${option} (--help lists them)`);
  return words.length === 0 ? undefined : words.join(' ');
}
