import { expect, test } from 'vitest';
import type { Machine } from '../../bench/machine.ts';
import { replaceTables } from '../../bench/markdown.ts';
import { amountRow, refusedRow } from '../../bench/rows.ts';

const machine: Machine = {
  cpu: 'Some CPU',
  cores: 2,
  memoryGiB: 8,
  system: 'Linux 6.1.2-flavour',
  node: 'v24.0.0',
  commit: 'abc',
  features: [],
  isa: 'avx2',
  load: 0.5,
};
const row = (suite: string, name: string, ours: number) =>
  amountRow({ suite, case: name, unit: 'MB', threads: 1, peerName: 'rival', holdTo: { atMost: 2 } }, ours, 3);

test('tables are rewritten where they stand, and what is around them stays', () => {
  const page =
    'Above.\n\n<!-- bench a -->\nold\n<!-- /bench a -->\n\nBelow.\n\n<!-- bench b -->\nkept\n<!-- /bench b -->\n';
  const once = replaceTables(page, machine, [row('a', 'size', 1), refusedRow(row('a', 'other', 1), 'not | yet')]);
  expect(once).toMatch(/^Above\.\n\n<!-- bench a -->\nCommit abc, Some CPU, 2 cores, 8 GiB, Linux 6\.1, Node v24/);
  expect(once).toContain('| size | MB | 1 | 3 | 3.00× | - | ≤ 2 | yes |');
  expect(once).toContain('| other | MB | - | 3 | - | - | ≤ 2 | **no** |');
  expect(once).toContain('- other: not | yet');
  expect(once.replaceAll('\n', ' ')).toContain('1 of 2 rows meet what they are held to');
  expect(once).not.toContain('old');
  expect(once).toContain('<!-- /bench a -->\n\nBelow.\n\n<!-- bench b -->\nkept\n<!-- /bench b -->');
  expect(replaceTables(once, machine, [row('a', 'size', 1), refusedRow(row('a', 'other', 1), 'not | yet')])).toBe(once);
});

test('a suite that the page does not have yet comes at its end', () => {
  expect(replaceTables('Above.\n', machine, [row('c', 'size', 3)])).toMatch(
    /^Above\.\n\n<!-- bench c -->\n[\s\S]*<!-- \/bench c -->\n$/,
  );
});
