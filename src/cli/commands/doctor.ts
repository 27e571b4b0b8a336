/**
 * `cloister doctor`: what this machine has, what is missing, and the command that mends it.
 * @module
 */
import { Command } from 'commander';
import {
  type BackendReport,
  compareBackends,
  diagnose,
  type KernelTestReport,
  testKernels,
} from '../../service/index.ts';
import { EXIT_CODES } from '../exit-codes.ts';
import { dirOption, jsonOption } from '../options.ts';
import { emit, paint } from '../output.ts';

const MARK = { ok: ['green', '✓'], degraded: ['yellow', '!'], missing: ['red', '✗'] } as const;

interface Options {
  readonly dir: string;
  readonly json: boolean;
  readonly backends?: true;
  readonly selfTest?: true;
}

/** Builds the command. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .description('check Node, kernels, sandbox and storage; say what is missing and how to mend it')
    .addOption(dirOption())
    .addOption(jsonOption())
    .option('--self-test', 'compare every kernel with the reference on random sizes; exit 1 where one differs')
    .option('--backends', 'run some common work on every backend that is here; say which is chosen, and why')
    .action(async ({ dir, json, backends, selfTest }: Options) => {
      if (selfTest === true) {
        const report = await testKernels();
        emit(json, report, () => showSelfTest(report));
        process.exitCode = report.ok ? EXIT_CODES.ok : EXIT_CODES.failed;
        return;
      }
      if (backends === true) {
        const report = await compareBackends();
        emit(json, report, () => showBackends(report));
        return;
      }
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

function showSelfTest({ isa, checked, refused, failures }: KernelTestReport): string {
  const lacking = refused.length > 0 ? `; not run natively: ${refused.join(', ')}` : '';
  if (failures.length === 0)
    return `${paint('green', '✓')} row ${isa}: ${checked} cases agree with the reference${lacking}`;
  const lines = failures.map(
    ({ operator, inputs, why }) => `${paint('red', '✗')} ${operator} on ${inputs.join(', ')}: ${why}`,
  );
  return [
    ...lines,
    `row ${isa}: ${failures.length} of ${checked} cases differ; set CLOISTER_ISA to another row, or CLOISTER_NATIVE=off`,
  ].join('\n');
}

function showBackends({ backends, choices }: BackendReport): string {
  const width = Math.max(...backends.map(({ name }) => name.length));
  const found = backends.flatMap(({ name, state, found, mend }) => {
    const [style, mark] = MARK[state === 'ok' ? 'ok' : 'degraded'];
    const line = `${paint(style, mark)} ${name.padEnd(width)}  ${found}`;
    return mend ? [line, `${' '.repeat(width + 4)}${paint('dim', `mend: ${mend}`)}`] : [line];
  });
  const column = Math.max(...choices.map(({ work }) => work.length));
  const chosen = choices.map(({ work, chosen: name, reason }) => {
    return `${work.padEnd(column)}  ${name.padEnd(width)}  ${paint('dim', reason)}`;
  });
  return [...found, '', ...chosen].join('\n');
}
