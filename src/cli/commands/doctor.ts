/**
 * `cloister doctor`: what this machine has, what is missing, and the command that mends it.
 * @module
 */
import { Command } from 'commander';
import { diagnose } from '../../service/index.ts';
import { EXIT_CODES } from '../exit-codes.ts';
import { dirOption, jsonOption } from '../options.ts';
import { emit, paint } from '../output.ts';

const MARK = { ok: ['green', '✓'], degraded: ['yellow', '!'], missing: ['red', '✗'] } as const;

/** Builds the command. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .description('check Node, kernels, sandbox and storage; say what is missing and how to mend it')
    .addOption(dirOption())
    .addOption(jsonOption())
    .action(async ({ dir, json }: { dir: string; json: boolean }) => {
      const report = await diagnose({ dir });
      emit(json, report, () => {
        const width = Math.max(...report.checks.map(check => check.name.length));
        const lines = report.checks.flatMap(({ name, state, found, mend }) => {
          const [style, mark] = MARK[state];
          const line = `${paint(style, mark)} ${name.padEnd(width)}  ${found}`;
          return mend ? [line, `${' '.repeat(width + 4)}${paint('dim', `mend: ${mend}`)}`] : [line];
        });
        return lines.join('\n');
      });
      process.exitCode = report.ok ? EXIT_CODES.ok : EXIT_CODES.missing;
    });
}
