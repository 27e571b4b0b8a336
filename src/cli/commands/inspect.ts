/**
 * `cloister inspect MODEL`: what a model file is, read inside the sandbox.
 * @module
 */
import { writeFile } from 'node:fs/promises';
import { Command } from 'commander';
import { inspectModel } from '../../service/index.ts';
import { jsonOption, policyOption, readPolicy } from '../options.ts';
import { emit, formatBytes, paint, printable, say, table } from '../output.ts';

interface InspectFlags {
  readonly policy?: string;
  readonly json: boolean;
  readonly text?: boolean;
  readonly svg?: string;
  readonly dot?: string;
}

/** Builds the command. */
export function inspectCommand(): Command {
  return new Command('inspect')
    .description('show graph, facts, operators and size of a model; the file is parsed in the sandbox')
    .argument('<model>', 'an .onnx file; it is not trusted')
    .option('--text', 'print every node of the graph, one a line')
    .option('--svg <file>', 'draw the graph into this file')
    .option('--dot <file>', 'write the graph for Graphviz into this file')
    .addOption(policyOption())
    .addOption(jsonOption())
    .action(async (model: string, options: InspectFlags) => {
      const policy = await readPolicy(options.policy, {});
      const show = (['text', 'svg', 'dot'] as const).filter(form => options[form] !== undefined);
      const { shown: forms, ...report } = await inspectModel(model, { policy, show });
      for (const form of ['svg', 'dot'] as const) {
        const file = options[form];
        if (file === undefined) continue;
        await writeFile(file, forms[form]!);
        say(`${file}: ${formatBytes(Buffer.byteLength(forms[form]!))}`);
      }
      emit(options.json, forms.text === undefined ? report : { ...report, text: forms.text }, () => {
        // The guest wrote it: what is not printable was refused, and again what a terminal acts on is spelt out.
        if (forms.text !== undefined) return forms.text.trimEnd().split('\n').map(printable).join('\n');
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
