/**
 * `cloister audit witness …`: both sides of witnessing, through files: the log asks, a witness answers, the log keeps the answer.
 * @module
 */
import { Command, Option } from 'commander';
import { CloisterError } from '../../base/index.ts';
import { answerAsWitness, auditWitnessRequest, keepWitnessReply, makeWitness } from '../../service/index.ts';
import { EXIT_CODES } from '../exit-codes.ts';
import { readKey, readText } from '../keys.ts';
import { dirOption, jsonOption, parseNumber } from '../options.ts';
import { emit, paint, printable, say } from '../output.ts';

const HELP = `
One round; the second line is for the machine of the witness, which has the file \`request\`, and whose answer goes back:
  cloister audit witness request > request
  cloister audit witness cosign request --state ./witness --log VKEY > reply
  cloister audit witness keep request reply --witness VKEY
  cloister audit verify --witness VKEY`;

/** Builds the command with its subcommands. */
export function witnessCommand(): Command {
  return new Command('witness')
    .description('have checkpoints cosigned by others, or cosign those of others (C2SP tlog-witness)')
    .addHelpText('after', HELP)
    .addCommand(requestCommand())
    .addCommand(keepCommand())
    .addCommand(initCommand())
    .addCommand(cosignCommand());
}

function requestCommand(): Command {
  return new Command('request')
    .description('print what to ask a witness: to cosign the checkpoint that the log has now')
    .addOption(dirOption())
    .option('--old <size>', 'records that the witness has seen already; it says so where this is wrong', '0')
    .addOption(jsonOption())
    .action(async (options: { dir: string; old: string; json: boolean }) => {
      const request = await auditWitnessRequest(options.dir, parseNumber('--old', options.old));
      emit(options.json, { request }, () => request.trimEnd());
    });
}

function keepCommand(): Command {
  return new Command('keep')
    .description('keep what a witness answered, if it holds, beside the log')
    .argument('<request>', 'file with what it was asked')
    .argument('<reply>', 'file with its answer')
    .addOption(witnessOption('public key of a witness whose answer it is; once for each').makeOptionMandatory())
    .addOption(dirOption())
    .addOption(jsonOption())
    .action(
      async (
        requestFile: string,
        replyFile: string,
        options: { witness: readonly string[]; dir: string; json: boolean },
      ) => {
        const witnesses = await Promise.all(options.witness.map(one => readKey('--witness', one)));
        const [request, reply] = [await readText('REQUEST', requestFile), await readText('REPLY', replyFile)];
        const cosigned = await keepWitnessReply(options.dir, request, reply, witnesses);
        emit(options.json, { cosigned }, () => `${paint('green', '✓')} kept; cosigned by ${cosigned} of them`);
      },
    );
}

function initCommand(): Command {
  return new Command('init')
    .description('make a witness with a key of its own (ML-DSA-44), and print its public key')
    .argument('<state>', 'its directory: keep it where the operator of the log cannot write')
    .option('--name <name>', 'name of its key, as witness.example/w1; needed for a new one')
    .addOption(jsonOption())
    .action(async (state: string, options: { name?: string; json: boolean }) => {
      const vkey = await makeWitness(state, options.name);
      emit(options.json, { vkey }, () => vkey);
    });
}

function cosignCommand(): Command {
  return new Command('cosign')
    .description('answer a request as a witness: print a cosignature if the log extends what was seen of it')
    .argument('<request>', 'file with the request')
    .requiredOption('--state <dir>', 'directory of the witness, see `audit witness init`')
    .addOption(
      new Option('--log <vkey|file>', 'public key of a log that it watches; once for each key')
        .argParser((value: string, all: string[] = []) => [...all, value])
        .makeOptionMandatory(),
    )
    .addOption(jsonOption())
    .action(async (file: string, options: { state: string; log: readonly string[]; json: boolean }) => {
      const logs = await Promise.all(options.log.map(one => readKey('--log', one)));
      const reply = await answerAsWitness(options.state, await readText('REQUEST', file), logs);
      if (!reply.ok) process.exitCode = EXIT_CODES.verification;
      if (options.json) return emit(true, reply, () => '');
      if (reply.ok) process.stdout.write(reply.body);
      else {
        const again = reply.size === undefined ? '' : `; ask again with --old ${reply.size}`;
        say(`${paint('red', '✗', process.stderr)} ${printable(reply.reason)}${again}`);
      }
    });
}

/** `--witness VKEY|FILE`, as often as needed. */
export function witnessOption(description: string): Option {
  return new Option('--witness <vkey|file>', description).argParser((value: string, all: string[] = []) => [
    ...all,
    value,
  ]);
}

/**
 * What `--witness` of a verification demands: a policy where it is a file that holds one, else keys.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when a policy is given beside keys.
 */
export async function demandedWitnesses(options: readonly string[]): Promise<readonly string[] | string> {
  const texts = await Promise.all(options.map(one => readKey('--witness', one)));
  const policy = texts.find(text => /^\s*(#|(log|witness|group|quorum)[ \t])/.test(text));
  if (policy === undefined) return texts;
  if (texts.length > 1) throw new CloisterError('INVALID_ARGUMENT', '--witness: a policy stands alone');
  return `${policy}\n`;
}
