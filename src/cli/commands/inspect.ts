/**
 * `cloister inspect MODEL`: what a model file is, read inside the sandbox.
 * @module
 */
import { Command } from 'commander';
import { inspectModel } from '../../service/index.ts';
import { jsonOption, policyOption, readPolicy } from '../options.ts';
import { emit, formatBytes, paint, printable, table } from '../output.ts';

/** Builds the command. */
export function inspectCommand(): Command {
  return new Command('inspect')
    .description('show graph, facts, operators and size of a model; the file is parsed in the sandbox')
    .argument('<model>', 'an .onnx file; it is not trusted')
    .addOption(policyOption())
    .addOption(jsonOption())
    .action(async (model: string, options: { policy?: string; json: boolean }) => {
      const policy = await readPolicy(options.policy, {});
      const report = await inspectModel(model, { policy });
      emit(options.json, report, () => {
        const fact = ({ dtype, shape }: { dtype: string; shape: readonly (string | number)[] }): string =>
          `${dtype}[${printable(shape.join(','))}]`;
        const values = (title: string, list: typeof report.inputs): string =>
          list.map(value => `${title.padEnd(8)} ${paint('bold', printable(value.name))}  ${fact(value)}`).join('\n');
        const most = Math.max(1, ...report.operators.map(row => row.count));
        const operators = table(
          ['operator', 'nodes', ''],
          report.operators.map(row => [
            printable(row.op),
            String(row.count),
            '▪'.repeat(Math.max(1, Math.round((row.count / most) * 20))),
          ]),
        );
        const shown = report.outline.map(node => [
          printable(node.name),
          printable(node.op),
          node.outputs.map(fact).join(' '),
        ]);
        const more = report.nodes - shown.length;
        return [
          `${paint('bold', printable(report.name))}  ${formatBytes(report.bytes)}  ${report.parameters.toLocaleString('en')} parameters  ${report.nodes} nodes`,
          `digest   ${report.digest}`,
          values('input', report.inputs),
          values('output', report.outputs),
          `runs on  ${report.backend}${report.backend === 'reference' ? `: ${printable(report.why)}` : ` kernels (${printable(report.why).replace(/^native kernels \((.*)\)$/, '$1')})`}`,
          '',
          operators,
          '',
          table(['node', 'operator', 'gives'], shown),
          ...(more > 0 ? [paint('dim', `… ${more} more nodes`)] : []),
        ].join('\n');
      });
    });
}
