/**
 * `cloister budget`: what each scope has, has spent, and why.
 * @module
 */
import { Command } from 'commander';
import { isoTime } from '../../base/index.ts';
import { readBudgets, readHistory } from '../../service/index.ts';
import { dirOption, jsonOption } from '../options.ts';
import { bar, emit, formatEpsilon, paint, table } from '../output.ts';

interface Options {
  dir: string;
  json: boolean;
}

/** Builds the command. */
export function budgetCommand(): Command {
  return new Command('budget')
    .description('show privacy budgets: all scopes, or the history of one')
    .argument('[scope]', 'show the history of this scope')
    .addOption(dirOption())
    .addOption(jsonOption())
    .action(async (scope: string | undefined, { dir, json }: Options) => {
      if (scope !== undefined) {
        const history = await readHistory(dir, scope);
        emit(json, history, () =>
          table(
            ['seq', 'time', 'entry', 'cost', 'spent', 'limit'],
            history.map(entry => [
              String(entry.seq),
              isoTime(entry.at),
              entry.kind,
              'cost' in entry ? formatEpsilon(entry.cost) : '–',
              formatEpsilon(entry.spent),
              formatEpsilon(entry.limit),
            ]),
          ),
        );
        return;
      }
      const scopes = await readBudgets(dir);
      emit(json, scopes, () => {
        if (scopes.length === 0) return 'no budget scopes yet: name them under "budgets" in the policy';
        const rows = scopes.map(state => [
          state.scope,
          bar(state.limit === 0 ? 1 : (state.spent + state.reserved) / state.limit, 20),
          formatEpsilon(state.spent),
          formatEpsilon(state.reserved),
          formatEpsilon(state.remaining),
          formatEpsilon(state.limit),
        ]);
        return `${table(['scope', 'used', 'spent', 'reserved', 'left', 'limit'], rows)}\n${paint('dim', 'epsilon; pure, per subject, add-remove')}`;
      });
    });
}
