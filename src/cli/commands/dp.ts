/**
 * `cloister dp`: what a mechanism costs, and which parameter costs no more than a target.
 * @module
 */
import { text as readAll } from 'node:stream/consumers';
import { Command } from 'commander';
import { CloisterError } from '../../base/index.ts';
import { readRegularFile } from '../../service/files.ts';
import { answerPrivacyQuestions, type PrivacyAnswer } from '../../service/index.ts';
import { EXIT_CODES } from '../exit-codes.ts';
import { jsonOption } from '../options.ts';
import { emit, paint, printable, table } from '../output.ts';

interface Flags {
  readonly json?: boolean;
  readonly tight?: boolean;
}

const LIMIT_BYTES = 67_108_864;
const SOUGHT = ['noise_multiplier', 'sigma', 'scale', 'noise_parameter', 'sampling_probability'];

const SPEC_HELP = `
SPEC is JSON, a file of it, or - for standard input: one question or an array.
  mechanism    gaussian, laplace, discrete_gaussian, discrete_laplace, poisson_subsampled_gaussian,
               fixed_size_wor_subsampled_gaussian, k_randomized_response, zcdp, epsilon_delta, heterogeneous, ...
  params       its parameters by name: noise_multiplier, sampling_probability, scale, sensitivity, ...
  composition  {"count": 1000}; 1 when left out
  neighboring  add_or_remove_one, replace_one or replace_special
  delta        probability that the bound may fail
  quantity     epsilon when left out; delta, rdp, threshold, keep_probability, or a parameter to calibrate`;

/** Builds the command with its subcommands. */
export function dpCommand(): Command {
  const dp = new Command('dp').description('ask what a mechanism would cost; touches no data and no budget');
  dp.command('epsilon')
    .description('bounds on epsilon (or delta, or another quantity) of a mechanism')
    .argument('<spec>', 'JSON, a file, or - for standard input')
    .option('--tight', 'aim at a discretisation error of 0.0003 % instead of 0.008 %; slower')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `${SPEC_HELP}

Example:
  $ cloister dp epsilon '{"mechanism": "poisson_subsampled_gaussian", "params": {"noise_multiplier": 1,
      "sampling_probability": 0.01}, "composition": {"count": 10000}, "delta": 1e-5}'`,
    )
    .action(async (spec: string, options: Flags) => answer(await readSpec(spec), options));
  dp.command('calibrate')
    .description('the noise (or sampling rate) at which a mechanism costs at most a target epsilon; never overshoots')
    .argument('<spec>', 'JSON, a file, or - for standard input; params.target_epsilon is the target')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `${SPEC_HELP}

The quantity is the parameter that is sought: ${SOUGHT.join(', ')}.
Left out, it is noise_multiplier, or scale for Laplace noise.

Example:
  $ cloister dp calibrate '{"mechanism": "gaussian", "params": {"target_epsilon": 1}, "delta": 1e-5}'`,
    )
    .action(async (spec: string, options: Flags) => {
      const questions = await readSpec(spec);
      await answer(Array.isArray(questions) ? questions.map(sought) : sought(questions), options);
    });
  return dp;
}

/** A question about the parameter that is missing. */
function sought(question: unknown): unknown {
  if (typeof question !== 'object' || question === null) return question;
  const { quantity, mechanism } = question as Record<string, unknown>;
  if (typeof quantity === 'string' && quantity !== 'epsilon') return question;
  const name =
    typeof mechanism === 'string' && /^discrete_laplace|^geometric|randomized/.test(mechanism)
      ? 'noise_parameter'
      : undefined;
  return {
    ...question,
    quantity: name ?? (typeof mechanism === 'string' && /laplace/.test(mechanism) ? 'scale' : 'noise_multiplier'),
  };
}

async function readSpec(spec: string): Promise<unknown> {
  const inline = /^\s*[[{]/.test(spec);
  const source = inline ? 'SPEC' : spec === '-' ? 'standard input' : spec;
  const text = inline
    ? spec
    : spec === '-'
      ? await readAll(process.stdin)
      : new TextDecoder().decode(await readRegularFile(spec, LIMIT_BYTES));
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new CloisterError('INVALID_ARGUMENT', `${source} is no JSON: ${(error as Error).message.slice(0, 200)}`);
  }
}

async function answer(questions: unknown, { json, tight = false }: Flags): Promise<void> {
  const answers = await answerPrivacyQuestions(questions, { tight });
  const rows = Array.isArray(answers) ? (answers as readonly PrivacyAnswer[]) : [answers as PrivacyAnswer];
  if (rows.some(row => 'error' in row)) process.exitCode = EXIT_CODES.usage;
  const asked = Array.isArray(questions) ? (questions as readonly unknown[]) : [questions];
  emit(json, answers, () =>
    table(
      ['question', 'answer', 'at least', 'method'],
      rows.map((row, i) => shown(asked[i], row)),
    ),
  );
}

function shown(question: unknown, row: PrivacyAnswer): readonly string[] {
  const { id, mechanism } = (typeof question === 'object' && question !== null ? question : {}) as Record<
    string,
    unknown
  >;
  const name = printable(String(id ?? mechanism ?? 'event').slice(0, 60));
  if ('error' in row) {
    const { message } = row.error as { message: string };
    return [name, paint('red', printable(message)), '', ''];
  }
  const fields = row as Record<string, unknown>;
  const quantity = Object.keys(fields).find(key => !['method', 'bounds', 'remark', 'order'].includes(key))!;
  const value = fields[quantity];
  const bounds = (typeof value === 'object' ? value : { upper: value, lower: undefined }) as {
    upper: number;
    lower: number | undefined;
  };
  return [
    name,
    `${quantity} ${typeof value === 'object' ? '<= ' : '= '}${digits(bounds.upper, 1)}`,
    bounds.lower === undefined || bounds.lower === 0 ? '–' : digits(bounds.lower, -1),
    String(fields['method']),
  ];
}

/** Seven digits, rounded away from the truth that the bound is on the far side of. */
function digits(value: number, side: 1 | -1): string {
  const shown = Number(value.toPrecision(7));
  const off = side > 0 ? shown < value : shown > value;
  return off ? String(Number((value + side * Math.abs(value) * 5e-7).toPrecision(7))) : String(shown);
}
