/**
 * `cloister release MODEL`: a private histogram of predictions, charged to a scope.
 * @module
 */
import { writeFile } from 'node:fs/promises';
import { Command } from 'commander';
import { histogram, openCloister } from '../../service/index.ts';
import { EXIT_CODES } from '../exit-codes.ts';
import { dimOption, dirOption, jsonOption, parseNumber, policyOption, readDims, readPolicy } from '../options.ts';
import { bar, emit, paint, say, table } from '../output.ts';
import { openRecords } from '../records.ts';

interface Options {
  records: string;
  dim?: string[];
  classes: string;
  epsilon?: string;
  rho?: string;
  delta?: string;
  block?: string[];
  dataset?: string;
  scope: string;
  key?: string;
  dir: string;
  policy?: string;
  actor: string;
  purpose: string;
  receipt?: string;
  json: boolean;
}

/** Builds the command. */
export function releaseCommand(): Command {
  return new Command('release')
    .description('publish a private histogram of the predictions over records, charged to a budget scope')
    .argument('<model>', 'an .onnx file; it is not trusted')
    .requiredOption('--records <file>', 'JSON lines: {"subject": "…", "inputs": {"name": [...]}} (required)')
    .requiredOption('--classes <n>', 'number of classes, the bins of the histogram (required)')
    .requiredOption('--scope <name>', 'budget scope to spend it from (required)')
    .option('--epsilon <e>', 'epsilon to spend: Laplace noise. This or --rho')
    .option('--rho <r>', 'zCDP rho to spend: Gaussian noise, for scopes that count in zcdp, rdp or approx')
    .option('--delta <d>', 'in an approx scope: the delta at which --rho is charged')
    .option('--block <name...>', 'blocks of data that the records are of, where the scope has limits by block')
    .option(
      '--dataset <version>',
      'names these data as they are: the same question on them again gets the stored answer, free',
    )
    .option('--key <key>', 'idempotency key: the same key gives the same answer and is charged once')
    .addOption(dimOption())
    .addOption(dirOption())
    .addOption(policyOption())
    .option('--actor <name>', 'who asks, for the audit log', 'cli')
    .option('--purpose <text>', 'why, for the audit log', 'cli release')
    .option('--receipt <file>', 'write the receipt to a file')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      '\nExample:\n  $ cloister release digits.onnx --records week.jsonl --classes 10 --epsilon 0.5 --scope ward-3 --policy policy.json',
    )
    .action(async (model: string, options: Options) => {
      const policy = await readPolicy(options.policy, {});
      const statistic = histogram({ of: 'argmax', classes: parseNumber('--classes', options.classes) });
      const loss = Object.fromEntries(
        (['epsilon', 'rho', 'delta'] as const).flatMap(name => {
          const text = options[name];
          return text === undefined ? [] : [[name, parseNumber(`--${name}`, text)]];
        }),
      );
      const dims = readDims(options.dim);
      await using records = await openRecords(options.records);
      await using cloister = await openCloister({ dir: options.dir, policy });
      const loaded = await cloister.load(model, { actor: options.actor, dims });
      const { timings: _, ...reply } = await loaded.release({
        records: records.records(),
        statistic,
        ...loss,
        ...(options.block && { blocks: options.block }),
        ...(options.dataset !== undefined && { dataset: options.dataset }),
        scope: options.scope,
        actor: options.actor,
        purpose: options.purpose,
        ...(options.key === undefined ? {} : { idempotencyKey: options.key }),
      });
      // After the answer, which was paid for: a receipt that cannot be written must not take it along.
      const saveReceipt = async (): Promise<void> => {
        if (options.receipt) await writeFile(options.receipt, `${JSON.stringify(reply.receipt, null, 2)}\n`);
      };
      if (reply.kind === 'refused') {
        emit(options.json, reply, () => `${paint('red', 'refused')}: ${reply.message}`);
        process.exitCode = EXIT_CODES.budget;
        await saveReceipt();
        return;
      }
      emit(options.json, reply, () => {
        const most = Math.max(1, ...reply.value);
        const rows = reply.value.map((count, i) => [
          String(i),
          String(count),
          `±${reply.errorBar}`,
          bar(count / most, 30),
        ]);
        return table(['class', 'count', '95 %', ''], rows);
      });
      say(
        paint(
          'dim',
          `entry ${reply.receipt.index} in the audit log; ${reply.replayed ? 'the stored answer: nothing was' : `${options.epsilon ? `epsilon ${options.epsilon}` : `rho ${options.rho}`}`} charged to ${options.scope}`,
          process.stderr,
        ),
      );
      await saveReceipt();
    });
}
