/**
 * `cloister budget`: what each scope has, has spent, and why; what a spend would cost; a new limit.
 * @module
 */
import { writeFile } from 'node:fs/promises';
import { Command, Option } from 'commander';
import { CloisterError, isoTime } from '../../base/index.ts';
import { readRegularFile } from '../../service/files.ts';
import {
  type BudgetReport,
  type LimitOptions,
  type PlanQuestion,
  planBudget,
  readBudgets,
  readHistory,
  reportBudget,
  setBudgetLimit,
} from '../../service/index.ts';
import { burnDownSvg, drawBurnDown } from '../burn-down.ts';
import { EXIT_CODES } from '../exit-codes.ts';
import { dirOption, jsonOption, parseNumber } from '../options.ts';
import { bar, emit, formatEpsilon, paint, printable, say, table } from '../output.ts';

interface Common {
  dir: string;
  json: boolean;
}

/** Builds the command with its subcommands. */
export function budgetCommand(): Command {
  const budget = new Command('budget')
    .description('show privacy budgets, ask what a spend would cost, change a limit')
    .argument('[scope]', 'show the history of this scope; without one, list all')
    .addOption(dirOption())
    .addOption(jsonOption())
    .action(async (scope: string | undefined, options: Common) => {
      if (scope === undefined) await list(options);
      else await history(scope, options);
    });
  const subcommand = (name: string, description: string): Command =>
    budget.command(name).description(description).addOption(dirOption()).addOption(jsonOption());
  subcommand('list', 'list every scope: what it has spent, what it has left').action(
    async (_: Common, command: Command) => list(command.optsWithGlobals()),
  );
  subcommand('show', 'show one scope: its terms, limits, blocks and tenants, and how it burned down')
    .argument('<scope>')
    .option('--svg <file>', 'write the burn-down chart to a file')
    .option('--periods <n>', 'periods of the worst case, where there is a limit for each', '12')
    .action(async (scope: string, _: Common, command: Command) => show(scope, command.optsWithGlobals()));
  subcommand('history', 'show the entries of one scope, and check that each holds the one before it')
    .argument('<scope>')
    .action(async (scope: string, _: Common, command: Command) => history(scope, command.optsWithGlobals()));
  subcommand('plan', 'ask what a spend would cost and how often it fits; charges nothing')
    .argument('<scope>')
    .option('--epsilon <e>', 'an epsilon of pure differential privacy (Laplace noise)')
    .option('--rho <r>', 'a zCDP rho (Gaussian noise)')
    .option('--event <file>', 'an event as JSON, in a file or as it is')
    .option('--delta <d>', 'in an approx scope: the delta at which it is charged')
    .option('--steps <n>', 'a plan of so many steps, accounted as one')
    .addHelpText(
      'after',
      '\nExample:\n  $ cloister budget plan ward-3 --steps 200 --event \'{"kind":"gaussian","noiseMultiplier":40,"neighboring":"add-remove"}\'',
    )
    .action(async (scope: string, _: Common, command: Command) => plan(scope, command.optsWithGlobals()));
  subcommand('limit', 'set the lifetime limit of a scope, on the record; while no service runs')
    .argument('<scope>')
    .option('--epsilon <e>', 'epsilon, in scopes that count it, or as a target with --delta')
    .option('--delta <d>', 'delta')
    .option('--rho <r>', 'rho, in zcdp scopes')
    .option('--mu <m>', 'mu, in gdp scopes')
    .option('--actor <name>', 'who does it, for the audit log', 'cli')
    .option('--purpose <text>', 'why, for the audit log')
    .addOption(new Option('--acknowledge-raise', 'the limit rises, and that is meant').default(false))
    .action(async (scope: string, _: Common, command: Command) => limit(scope, command.optsWithGlobals()));
  return budget;
}

async function list({ dir, json }: Common): Promise<void> {
  const scopes = await readBudgets(dir);
  emit(json, scopes, () => {
    if (scopes.length === 0) return 'no budget scopes yet: name them under "budgets" in the policy';
    const rows = scopes.map(({ scope, measure, usedShare, limit, spent, reserved, remaining, shown, active: _ }) => {
      const pure = measure === 'pure';
      const cells = pure
        ? [spent, reserved, remaining, limit].map(amount => formatEpsilon(amount as number))
        : [shown.spent, shown.reserved, shown.remaining, shown.limit];
      return [printable(scope), bar(usedShare, 20), ...cells];
    });
    return `${table(['scope', 'used', 'spent', 'reserved', 'left', 'limit'], rows)}\n${paint('dim', 'plain numbers are epsilon, pure; per subject')}`;
  });
}

async function history(scope: string, { dir, json }: Common): Promise<void> {
  const entries = await readHistory(dir, scope);
  const { chain, scope: state } = await reportBudget(dir, scope);
  emit(json, entries, () =>
    table(
      ['seq', 'time', 'entry', 'cost', 'spent', 'limit'],
      entries.map(entry => [
        String(entry.seq),
        isoTime(entry.at),
        entry.kind,
        'cost' in entry ? amount(entry.cost) : '–',
        amount(entry.spent),
        amount(entry.limit),
      ]),
    ),
  );
  if (chain.ok)
    say(
      paint('dim', `${chain.entries} entries, each holds the one before it; ${unitOf(state.measure)}`, process.stderr),
    );
  else {
    say(`${paint('red', 'the history is broken', process.stderr)}: ${chain.reason}`);
    process.exitCode = EXIT_CODES.verification;
  }

  function amount(value: number | readonly number[]): string {
    if (typeof value === 'number') return formatEpsilon(state.measure === 'pure' ? value : value / 1e6);
    if (state.measure === 'approx') return `${formatEpsilon(value[0]!)}, ${Number((value[1]! / 1e18).toPrecision(3))}`;
    return formatEpsilon(value[11]! / 1e6);
  }
}

function unitOf(measure: BudgetReport['scope']['measure']): string {
  return {
    pure: 'amounts in epsilon',
    approx: 'amounts in epsilon, delta',
    zcdp: 'amounts in rho',
    gdp: 'amounts in mu squared',
    rdp: 'amounts are Rényi divergences at order 32',
  }[measure];
}

async function show(scope: string, options: Common & { svg?: string; periods: string }): Promise<void> {
  const periods = parseNumber('--periods', options.periods);
  const report = await reportBudget(options.dir, scope, { periods });
  if (options.svg !== undefined) await writeFile(options.svg, burnDownSvg(report));
  emit(options.json, report, () => describe(report));
  if (options.svg !== undefined) say(`${paint('dim', 'written:', process.stderr)} ${options.svg}`);
}

function describe({ scope, accounts, chain, burnDown, worstCase }: BudgetReport): string {
  const { shown, measure, adjacency, unit, disjointBlocks, active: _ } = scope;
  const lines = [
    `${paint('bold', printable(scope.scope))}  ${measure}, per ${unit}, ${adjacency}${disjointBlocks ? ', blocks are disjoint' : ''}`,
    `${bar(scope.usedShare, 30)} ${shown.remaining} left of ${shown.limit}; ${shown.spent} spent, ${shown.reserved} reserved`,
  ];
  if (accounts.length > 0) {
    const rows = accounts.map(account => [
      account.kind,
      printable(account.kind === 'period' ? periodText(account.name, scope.periodMs) : account.name),
      bar(account.usedShare, 20),
      account.shown.spent,
      account.shown.remaining,
      account.shown.limit,
    ]);
    lines.push('', table(['limit of', 'name', 'used', 'spent', 'left', 'limit'], rows));
  }
  if (worstCase) {
    const { periods, lost } = worstCase;
    lines.push('', `over ${periods} periods at most ${lost} is lost: the data stay the same, so periods add up`);
  }
  lines.push('', drawBurnDown(burnDown), '');
  lines.push(
    chain.ok
      ? paint('dim', `${chain.entries} entries, each holds the one before it`)
      : `${paint('red', 'the history is broken')}: ${chain.reason}`,
  );
  return lines.join('\n');
}

function periodText(index: string, periodMs = 0): string {
  return `from ${isoTime(Number(index) * periodMs).slice(0, 10)}`;
}

async function plan(
  scope: string,
  options: Common & { epsilon?: string; rho?: string; event?: string; delta?: string; steps?: string },
): Promise<void> {
  const question: PlanQuestion = {
    event: await readEvent(options),
    ...(options.delta !== undefined && { delta: parseNumber('--delta', options.delta) }),
    ...(options.steps !== undefined && { steps: parseNumber('--steps', options.steps) }),
  };
  const answer = await planBudget(options.dir, scope, question);
  const { shown, times } = answer;
  emit(options.json, answer, () =>
    table(
      ['cost', 'left', 'limit', 'fits'],
      [[shown.cost, shown.remaining, shown.limit, times === 0 ? paint('red', 'not once') : `${times} times`]],
    ),
  );
  if (times === 0) process.exitCode = EXIT_CODES.budget;
}

const EVENT_LIMIT_BYTES = 1_048_576;

async function readEvent(options: { epsilon?: string; rho?: string; event?: string }): Promise<PlanQuestion['event']> {
  const { epsilon, rho, event } = options;
  if ([epsilon, rho, event].filter(given => given !== undefined).length !== 1) {
    throw new CloisterError('INVALID_ARGUMENT', 'expected one of --epsilon, --rho and --event');
  }
  const neighboring = 'add-remove';
  if (epsilon !== undefined) return { kind: 'pure', epsilon: parseNumber('--epsilon', epsilon), neighboring };
  if (rho !== undefined) return { kind: 'zcdp', rho: parseNumber('--rho', rho), neighboring };
  const given = event as string;
  const text = given.trimStart().startsWith('{')
    ? given
    : new TextDecoder().decode(await readRegularFile(given, EVENT_LIMIT_BYTES));
  try {
    return JSON.parse(text) as PlanQuestion['event'];
  } catch (cause) {
    throw new CloisterError('INVALID_ARGUMENT', `--event: ${(cause as Error).message}`, {}, { cause });
  }
}

async function limit(
  scope: string,
  options: Common & Partial<Record<'epsilon' | 'delta' | 'rho' | 'mu' | 'purpose', string>> & LimitOptions,
): Promise<void> {
  const bound = Object.fromEntries(
    (['epsilon', 'delta', 'rho', 'mu'] as const).flatMap(name => {
      const text = options[name];
      return text === undefined ? [] : [[name, parseNumber(`--${name}`, text)]];
    }),
  );
  const state = await setBudgetLimit(options.dir, scope, bound, options);
  emit(options.json, state, () => `${printable(scope)} has ${state.shown.remaining} left of ${state.shown.limit}`);
}
