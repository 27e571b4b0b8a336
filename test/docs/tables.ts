/**
 * The tables of `docs/` that are made from the code. `node test/docs/tables.ts` writes them into their pages.
 * @module
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { GRADIENTS, OPERATORS, type Operator, operatorKey, PASSES } from '../../src/graph/index.ts';

/** The domains in the order of the page. */
const DOMAINS = ['', 'ai.onnx.ml', 'com.microsoft', 'cloister'];

const TABLE = /(<!-- table -->\n)([\s\S]*?)(\n<!-- end -->)/g;

/** One table for each domain. */
export function operatorTables(): readonly string[] {
  const operators = [...OPERATORS.values()];
  const others = new Set(operators.map(({ domain }) => domain));
  for (const domain of DOMAINS) others.delete(domain);
  if (others.size > 0) throw new Error(`docs/operators.md has no place for ${[...others].join(', ')}`);
  return DOMAINS.map(domain =>
    tableOf(
      ['operator', 'versions', 'gradient'],
      operators
        .filter(operator => operator.domain === domain)
        .sort((a, b) => (a.name < b.name ? -1 : 1))
        .map(operator => [
          operator.name,
          versionsOf(operator),
          GRADIENTS.has(operatorKey(domain, operator.name)) ? 'yes' : '',
        ]),
    ),
  );
}

/** The passes in their order. */
export function passTable(): string {
  return tableOf(
    ['pass', 'group', 'does', 'keeps'],
    PASSES.map(({ name, group, does, keeps }) => [`\`${name}\``, group, does, keeps]),
  );
}

/** The tables that a page has. */
export function tablesOf(page: string): readonly string[] {
  return [...page.matchAll(TABLE)].map(match => match[2]!);
}

/** `page` with these tables in the place of its own. */
export function replaceTable(page: string, tables: readonly string[]): string {
  let next = 0;
  return page.replace(TABLE, (_, before: string, __, after: string) => `${before}${tables[next++]}${after}`);
}

function versionsOf({ versions }: Operator): string {
  return versions.map(({ since }) => since).join(', ');
}

function tableOf(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`.replaceAll('  ', ' ');
  return [line(head), `|${'---|'.repeat(head.length)}`, ...rows.map(line)].join('\n');
}

if (import.meta.main) {
  for (const [name, tables] of [
    ['operators', operatorTables()],
    ['passes', [passTable()]],
  ] as const) {
    const file = join(import.meta.dirname, '..', '..', 'docs', `${name}.md`);
    writeFileSync(file, replaceTable(readFileSync(file, 'utf8'), tables));
  }
}
