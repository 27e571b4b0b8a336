/**
 * `cloister run MODEL`: one inference, recorded.
 * @module
 */
import { writeFile } from 'node:fs/promises';
import { Command, Option } from 'commander';
import { openCloister } from '../../service/index.ts';
import { readInputs } from '../inputs.ts';
import { dirOption, jsonOption, policyOption, readPolicy } from '../options.ts';
import { emit, formatMs, paint, printable, say } from '../output.ts';

interface Options {
  input?: string[];
  dir: string;
  policy?: string;
  actor: string;
  purpose: string;
  receipt?: string;
  json: boolean;
}

/** Builds the command. */
export function runCommand(): Command {
  const collect = (value: string, all: string[] = []): string[] => [...all, value];
  return new Command('run')
    .description('run a model on inputs from files, in the sandbox, and record it')
    .argument('<model>', 'an .onnx file; it is not trusted')
    .addOption(
      new Option(
        '-i, --input <name=file>',
        'an input: .json (nested arrays), .pb (TensorProto), or raw little-endian; once for each input',
      ).argParser(collect),
    )
    .addOption(dirOption())
    .addOption(policyOption())
    .option('--actor <name>', 'who asks, for the audit log', 'cli')
    .option('--purpose <text>', 'why, for the audit log', 'cli run')
    .option('--receipt <file>', 'write the receipt (record, inclusion proof, signed checkpoint) to a file')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      '\nWithout a policy file raw outputs are allowed: they are yours.\n\nExample:\n  $ cloister run digits.onnx --input image=digit.json',
    )
    .action(async (model: string, options: Options) => {
      // Whoever runs this command owns the inputs, so without a policy file raw outputs are theirs to see.
      const policy = await readPolicy(options.policy, { rawOutputs: 'allow' });
      const inputs = await readInputs(options.input ?? []);
      await using cloister = await openCloister({ dir: options.dir, policy });
      const loaded = await cloister.load(model, { actor: options.actor });
      const { outputs, outputSalt, receipt, timings } = await loaded.run(inputs, {
        actor: options.actor,
        purpose: options.purpose,
      });
      if (options.receipt) await writeFile(options.receipt, `${JSON.stringify(receipt, null, 2)}\n`);
      const data = Object.fromEntries(
        Object.entries(outputs).map(([name, tensor]) => [
          name,
          { dtype: tensor.dtype, shape: tensor.shape, data: tensor.toArray() },
        ]),
      );
      emit(options.json, { outputs: data, outputSalt, receipt, timings }, () =>
        Object.entries(outputs)
          .map(
            ([name, tensor]) =>
              `${paint('bold', printable(name))} ${tensor.dtype}[${tensor.shape.join(',')}]\n${preview(tensor.values())}`,
          )
          .join('\n'),
      );
      const total = Object.values(timings).reduce((sum, ms) => sum + ms, 0);
      say(paint('dim', `entry ${receipt.index} in the audit log, ${formatMs(total)}`, process.stderr));
    });
}

/** The elements, eight to a line, at most 64 of them; and the place of the largest, where they are scores. */
function preview(values: readonly (number | bigint | string)[]): string {
  const shown = values
    .slice(0, 64)
    .map(value => (typeof value === 'number' ? value.toPrecision(6) : String(value)).padStart(13));
  const lines: string[] = [];
  for (let i = 0; i < shown.length; i += 8) lines.push(shown.slice(i, i + 8).join(''));
  if (values.length > 64) lines.push(`… ${values.length - 64} more`);
  const numbers = values.map(Number);
  if (values.length > 1 && values.length <= 1000)
    lines.push(paint('dim', `largest at ${numbers.indexOf(Math.max(...numbers))}`));
  return lines.join('\n');
}
