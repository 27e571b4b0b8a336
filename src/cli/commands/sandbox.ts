/**
 * `cloister sandbox run FILE.js`: a script that nobody trusts, run as a guest.
 * @module
 */
import { Command, Option } from 'commander';
import { CloisterError } from '../../base/index.ts';
import { CAPABILITY_NAMES, runScript, type ScriptOptions } from '../../service/index.ts';
import { EXIT_CODES } from '../exit-codes.ts';
import { jsonOption, parseNumber } from '../options.ts';
import { emit, formatMs, paint, printable, table } from '../output.ts';

interface RunFlags {
  readonly limits?: string;
  readonly lend?: string;
  readonly isolation: NonNullable<ScriptOptions['isolation']>;
  readonly json: boolean;
}

/** Characters of a value that are shown for people, at most. */
const MAX_SHOWN = 2_000;

/** Builds the command. */
export function sandboxCommand(): Command {
  const run = new Command('run')
    .description('run a script as a guest; say how it ended and what it used')
    .argument('<script>', 'a .js file; it is not trusted')
    .option(
      '--limits <name=number,…>',
      'limits of the script: wallMs, cpuMs, memoryMb, outputBytes, messages, messageBytes',
    )
    .option(
      '--lend <name,…>',
      `what it may use of its host, in the global \`lent\`: ${CAPABILITY_NAMES.join(', ')}. Default nothing`,
    )
    .addOption(
      new Option('--isolation <level>', 'the walls around it').choices(['process', 'isolate']).default('process'),
    )
    .addOption(jsonOption())
    .addHelpText(
      'after',
      [
        '',
        'The outcome is ok (exit code 0), error: the script threw (1), limit:NAME: it was stopped at that limit, or killed: its',
        'process died of something else (6). With --json: outcome, value (its last value as text, or what it threw, or why it was',
        'stopped), messages (the lines that it logged), uses (of each capability: calls, refused, bytes), wallMs, cpuMs, peakMb (the',
        'last two where the system tells).',
        '',
        'Example:',
        '  $ cloister sandbox run guest.js --limits wallMs=500,memoryMb=64 --lend log,clock',
      ].join('\n'),
    )
    .action(async (script: string, { limits, lend, isolation, json }: RunFlags) => {
      const evaluation = await runScript(script, {
        isolation,
        limits: readLimits(limits),
        lend: lend === undefined ? [] : lend.split(','),
      });
      emit(json, evaluation, () => show(evaluation));
      process.exitCode = exitOf(evaluation.outcome);
    });
  return new Command('sandbox').description('run scripts that nobody trusts').addCommand(run);
}

/** `wallMs=500,memoryMb=64` as limits; which there are, the sandbox knows. */
function readLimits(text = ''): Readonly<Record<string, number>> {
  const limits = new Map<string, number>();
  for (const part of text.split(',').filter(part => part !== '')) {
    const [name = '', value = ''] = part.split('=', 2);
    if (limits.has(name)) throw new CloisterError('INVALID_ARGUMENT', `--limits: ${printable(name)} is given twice`);
    limits.set(name, parseNumber(`--limits ${printable(name)}`, value));
  }
  return Object.fromEntries(limits);
}

function exitOf(outcome: string): number {
  if (outcome === 'ok') return EXIT_CODES.ok;
  return outcome === 'error' ? EXIT_CODES.failed : EXIT_CODES.sandbox;
}

function show({
  outcome,
  value,
  messages,
  uses,
  wallMs,
  cpuMs,
  peakMb,
}: Awaited<ReturnType<typeof runScript>>): string {
  const used = [
    `wall ${formatMs(wallMs)}`,
    ...(cpuMs === undefined ? [] : [`processor ${formatMs(cpuMs)}`]),
    ...(peakMb === undefined ? [] : [`peak ${peakMb.toFixed(1)} MiB`]),
  ];
  const rows = Object.entries(uses).map(([name, use]) => [
    name,
    String(use.calls),
    String(use.refused),
    String(use.bytes),
  ]);
  return [
    `${paint(outcome === 'ok' ? 'green' : 'red', outcome)}  ${used.join(', ')}`,
    ...(value === undefined ? [] : [printable(value.slice(0, MAX_SHOWN))]),
    ...messages.map(line => `${paint('dim', 'log')} ${printable(line)}`),
    ...(rows.length > 0 ? [table(['lent', 'calls', 'refused', 'bytes'], rows)] : []),
  ].join('\n');
}
