/**
 * `cloister inspect MODEL`: what a model file is, read inside the sandbox.
 * @module
 */
import { writeFile } from 'node:fs/promises';
import { Command } from 'commander';
import { inspectModel } from '../../service/index.ts';
import { dimOption, jsonOption, policyOption, readDims, readPolicy } from '../options.ts';
import { emit, formatBytes, formatMs, paint, printable, say, table } from '../output.ts';

interface InspectFlags {
  readonly policy?: string;
  readonly json: boolean;
  readonly dim?: string[];
  readonly passes?: boolean;
  readonly text?: boolean;
  readonly svg?: string;
  readonly dot?: string;
}

/** Builds the command. */
export function inspectCommand(): Command {
  return new Command('inspect')
    .description('show graph, facts, operators and size of a model; the file is parsed in the sandbox')
    .argument('<model>', 'an .onnx file; it is not trusted')
    .option('--passes', 'say what each pass makes of the graph')
    .option('--text', 'print every node of the graph, one a line')
    .option('--svg <file>', 'draw the graph into this file')
    .option('--dot <file>', 'write the graph for Graphviz into this file')
    .addOption(dimOption())
    .addOption(policyOption())
    .addOption(jsonOption())
    .addHelpText('after', '\nExample:\n  $ cloister inspect digits.onnx --passes --dim batch=1')
    .action(async (model: string, options: InspectFlags) => {
      const policy = await readPolicy(options.policy, {});
      const show = (['text', 'svg', 'dot'] as const).filter(form => options[form] !== undefined);
      const dims = readDims(options.dim);
      const { shown: forms, passes, ...report } = await inspectModel(model, { policy, show, dims });
      for (const form of ['svg', 'dot'] as const) {
        const file = options[form];
        if (file === undefined) continue;
        await writeFile(file, forms[form]!);
        say(`${file}: ${formatBytes(Buffer.byteLength(forms[form]!))}`);
      }
      const data = {
        ...report,
        ...(options.passes && { passes }),
        ...(forms.text !== undefined && { text: forms.text }),
      };
      emit(options.json, data, () => {
        // The guest wrote it: what is not printable was refused, and again what a terminal acts on is spelt out.
        if (forms.text !== undefined) return forms.text.trimEnd().split('\n').map(printable).join('\n');
        const fact = ({ dtype, shape }: { dtype: string; shape: readonly (string | number)[] }): string =>
          `${dtype}[${printable(shape.join(','))}]`;
        const values = (title: string, list: typeof report.inputs): string =>
          list
            .map(value => {
              const { labels } = value;
              const shown = labels?.slice(0, 8).map(label => printable(String(label)));
              const map = shown ? `  a map of ${shown.join(', ')}${labels!.length > 8 ? ', …' : ''}` : '';
              return `${title.padEnd(8)} ${paint('bold', printable(value.name))}  ${fact(value)}${map}`;
            })
            .join('\n');
        const open = [...new Set(report.inputs.flatMap(({ shape }) => shape.filter(dim => typeof dim === 'string')))];
        const { arena } = report;
        const activations =
          arena === undefined
            ? `sizes are open: ${open.map(dim => `--dim ${printable(String(dim))}=SIZE`).join(' ')}`
            : `${formatBytes(arena.peakBytes)} of activations after the passes; no plan needs less than ${formatBytes(arena.lowerBoundBytes)}${arena.unplanned > 0 ? `; ${arena.unplanned} values of a size that depends on elements` : ''}`;
        const passRows = passes.map(row => [
          printable(row.pass),
          row.group,
          String(row.nodesBefore),
          String(row.nodesAfter),
          String(row.rewrites),
          formatMs(row.milliseconds),
        ]);
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
          `memory   ${activations}`,
          `runs on  ${report.backend}${report.backend === 'reference' ? `: ${printable(report.why)}` : ` kernels (${printable(report.why).replace(/^native kernels \((.*)\)$/, '$1')})`}`,
          '',
          ...(options.passes
            ? [table(['pass', 'group', 'nodes before', 'after', 'rewrites', 'time'], passRows), '']
            : []),
          operators,
          '',
          table(['node', 'operator', 'gives'], shown),
          ...(more > 0 ? [paint('dim', `… ${more} more nodes`)] : []),
        ].join('\n');
      });
    });
}
