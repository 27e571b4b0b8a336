/**
 * `cloister run MODEL`: one inference, recorded.
 * @module
 */
import { writeFile } from 'node:fs/promises';
import { Command } from 'commander';
import { openCloister, type RunReply } from '../../service/index.ts';
import { readInputs } from '../inputs.ts';
import { dimOption, dirOption, inputOption, jsonOption, policyOption, readDims, readPolicy } from '../options.ts';
import { emit, formatMs, paint, printable, say } from '../output.ts';

interface Options {
  input?: string[];
  dim?: string[];
  dir: string;
  policy?: string;
  actor: string;
  purpose: string;
  receipt?: string;
  json: boolean;
}

/** Builds the command. */
export function runCommand(): Command {
  return new Command('run')
    .description('run a model on inputs from files, in the sandbox, and record it')
    .argument('<model>', 'an .onnx file; it is not trusted')
    .addOption(inputOption())
    .addOption(dimOption())
    .addOption(dirOption())
    .addOption(policyOption())
    .option('--actor <name>', 'who asks, for the audit log', 'cli')
    .option('--purpose <text>', 'why, for the audit log', 'cli run')
    .option('--receipt <file>', 'write the receipt (record, inclusion proof, signed checkpoint) to a file')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      '\nWithout a policy file raw outputs are allowed: they are yours.\n\nExamples:\n  $ cloister run digits.onnx --input image=digit.json\n  $ cloister run speech.onnx --dim batch=1 --dim samples=576 --input inputs.npz',
    )
    .action(async (model: string, options: Options) => {
      // Whoever runs this command owns the inputs, so without a policy file raw outputs are theirs to see.
      const policy = await readPolicy(options.policy, { rawOutputs: 'allow' });
      const dims = readDims(options.dim);
      const inputs = await readInputs(options.input ?? []);
      await using cloister = await openCloister({ dir: options.dir, policy });
      const loaded = await cloister.load(model, { actor: options.actor, dims });
      const { outputs, maps, outputSalt, receipt, timings } = await loaded.run(inputs, {
        actor: options.actor,
        purpose: options.purpose,
      });
      if (options.receipt) await writeFile(options.receipt, `${JSON.stringify(receipt, null, 2)}\n`);
      const data = Object.fromEntries(
        Object.entries(outputs).map(([name, tensor]) => [
          name,
          {
            dtype: tensor.dtype,
            shape: tensor.shape,
            data: tensor.toArray(),
            ...(Object.hasOwn(maps, name) && { maps: maps[name] }),
          },
        ]),
      );
      emit(options.json, { outputs: data, outputSalt, receipt, timings }, () =>
        Object.entries(outputs)
          .map(
            ([name, tensor]) =>
              `${paint('bold', printable(name))} ${tensor.dtype}[${tensor.shape.join(',')}]\n${Object.hasOwn(maps, name) ? labelled(maps[name]!) : preview(tensor.values())}`,
          )
          .join('\n'),
      );
      const total = Object.values(timings).reduce((sum, ms) => sum + ms, 0);
      say(paint('dim', `entry ${receipt.index} in the audit log, ${formatMs(total)}`, process.stderr));
    });
}

/** Rows and labels that are shown for people, at most. */
const MAX_ROWS = 16;
const MAX_LABELS = 16;

/** The scores of each row by label, the largest first. */
function labelled(rows: RunReply['maps'][string]): string {
  const lines = rows.slice(0, MAX_ROWS).map((row, i) => {
    const scores = [...row].sort(([, a], [, b]) => Number(b) - Number(a));
    const shown = scores.slice(0, MAX_LABELS).map(([label, score]) => `${printable(String(label))}: ${spell(score)}`);
    const more = scores.length > MAX_LABELS ? `, … ${scores.length - MAX_LABELS} more` : '';
    return `${rows.length > 1 ? paint('dim', `row ${i}  `) : '  '}${shown.join(', ')}${more}`;
  });
  if (rows.length > MAX_ROWS) lines.push(paint('dim', `… ${rows.length - MAX_ROWS} more rows`));
  return lines.join('\n');
}

/** A value as people read it. The guest wrote it: what a terminal acts on is spelt out. */
function spell(value: number | bigint | string): string {
  if (typeof value === 'number') return value.toPrecision(6);
  return typeof value === 'bigint' ? value.toString() : JSON.stringify(printable(value.slice(0, 200)));
}

/** The elements, eight to a line, at most 64 of them; strings one to a line; and the place of the largest, where they are scores. */
function preview(values: readonly (number | bigint | string)[]): string {
  const text = values.some(value => typeof value === 'string');
  const shown = values.slice(0, 64).map(value => (text ? `  ${spell(value)}` : spell(value).padStart(13)));
  const lines: string[] = [];
  for (let i = 0; i < shown.length; i += text ? 1 : 8) lines.push(shown.slice(i, i + (text ? 1 : 8)).join(''));
  if (values.length > 64) lines.push(`… ${values.length - 64} more`);
  if (!text && values.length > 1 && values.length <= 1000) {
    const numbers = values.map(Number);
    lines.push(paint('dim', `largest at ${numbers.indexOf(Math.max(...numbers))}`));
  }
  return lines.join('\n');
}
