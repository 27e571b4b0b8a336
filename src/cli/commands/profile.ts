/**
 * `cloister profile MODEL`: where the time of a run goes, node by node, measured in the sandbox and recorded.
 * @module
 */
import { writeFile } from 'node:fs/promises';
import { Command } from 'commander';
import { openCloister, type ProfileReply, toTrace } from '../../service/index.ts';
import { readInputs } from '../inputs.ts';
import {
  dimOption,
  dirOption,
  inputOption,
  jsonOption,
  parseNumber,
  policyOption,
  readDims,
  readPolicy,
} from '../options.ts';
import { bar, emit, formatMs, paint, printable, say, startProgress, table } from '../output.ts';

interface Options {
  readonly input?: string[];
  readonly dim?: string[];
  readonly runs: string;
  readonly trace?: string;
  readonly dir: string;
  readonly policy?: string;
  readonly actor: string;
  readonly purpose: string;
  readonly json: boolean;
}

/** Nodes that are shown for people, at most. */
const MAX_NODES = 20;
const BAR_WIDTH = 20;

/** Builds the command. */
export function profileCommand(): Command {
  return new Command('profile')
    .description('measure where the time of a run goes: on the reference backend, in the sandbox, recorded')
    .argument('<model>', 'an .onnx file; it is not trusted')
    .addOption(inputOption())
    .addOption(dimOption())
    .option('--runs <n>', 'runs that are measured, after one that is not', '10')
    .option('--trace <file>', 'write the last run as a trace that chrome://tracing and Perfetto open')
    .addOption(dirOption())
    .addOption(policyOption())
    .option('--actor <name>', 'who asks, for the audit log', 'cli')
    .option('--purpose <text>', 'why, for the audit log', 'cli profile')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      '\nTimes depend on the inputs, so a policy that refuses raw outputs refuses profiles; use sample inputs. Native kernels run a whole\nmodel in one call, so what is measured is the reference backend.\n\nExample:\n  $ cloister profile digits.onnx --input image=digit.npy --runs 50 --trace digits.json',
    )
    .action(async (model: string, options: Options) => {
      const policy = await readPolicy(options.policy, { rawOutputs: 'allow' });
      const dims = readDims(options.dim);
      const runs = parseNumber('--runs', options.runs);
      const inputs = await readInputs(options.input ?? []);
      const { actor, purpose } = options;
      await using cloister = await openCloister({ dir: options.dir, policy });
      const loaded = await cloister.load(model, { actor, dims });
      const progress = startProgress('runs');
      let reply: ProfileReply;
      try {
        reply = await loaded.profile(inputs, { actor, purpose, runs, onProgress: progress.update });
      } finally {
        progress.end();
      }
      const { profile, profileSalt, receipt } = reply;
      if (options.trace !== undefined) await writeFile(options.trace, `${JSON.stringify(toTrace(profile))}\n`);
      emit(options.json, { backend: 'reference', ...profile, profileSalt, receipt }, () => render(profile));
      say(paint('dim', `entry ${receipt.index} in the audit log`, process.stderr));
    });
}

function render(profile: ProfileReply['profile']): string {
  const { runs, totalMs } = profile;
  const measured = profile.nodes.reduce((sum, node) => sum + node.totalMs, 0);
  const share = (ms: number): number => (measured > 0 ? ms / measured : 0);
  const percent = (ms: number): string => (100 * share(ms)).toFixed(1);
  const cells = (ms: number): string[] => [formatMs(ms / runs), percent(ms), bar(share(ms), BAR_WIDTH).trimEnd()];
  const operators = profile.operators.map(row => [printable(row.op), String(row.nodes), ...cells(row.totalMs)]);
  const slowest = profile.nodes.toSorted((a, b) => b.totalMs - a.totalMs).slice(0, MAX_NODES);
  const nodes = slowest.map(node => [
    printable(node.name),
    printable(node.op),
    printable(node.outputs),
    ...cells(node.totalMs),
  ]);
  const more = profile.nodes.length - nodes.length;
  return [
    `${paint('bold', `${formatMs(totalMs / runs)} a run`)}  ${runs} ${runs === 1 ? 'run' : 'runs'} of ${profile.nodes.length} nodes, after the passes, on the reference backend in the sandbox`,
    '',
    table(['operator', 'nodes', 'a run', '%', ''], operators),
    '',
    table(['node', 'operator', 'gives', 'a run', '%', ''], nodes),
    ...(more > 0 ? [paint('dim', `… ${more} more nodes`)] : []),
  ].join('\n');
}
