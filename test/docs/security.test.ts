/**
 * The table of isolation levels in SECURITY.md: each row is held by tests that exist under the names that it gives.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '..', '..');
const page = readFileSync(join(root, 'SECURITY.md'), 'utf8');
const section = /^## What each isolation stops\n([\s\S]*?)^## /m.exec(page)![1]!;
const rows = section.split('\n').filter(line => line.startsWith('|'));
const cells = (row: string): readonly string[] =>
  row
    .split('|')
    .slice(1, -1)
    .map(cell => cell.trim());

/** What `[n]` stands for: files, and names of tests in them. */
function heldBy(number: string): readonly { readonly file: string; readonly name: string }[] {
  const [, text = ''] = new RegExp(`^- \\[${number}\\] ([\\s\\S]*?)(?=^- \\[|^$)`, 'm').exec(section) ?? [];
  return [...text.matchAll(/`(test\/[^`]+)`\s+«([^»]+)»/g)].map(([, file, name]) => ({ file: file!, name: name! }));
}

test('the table has a column for each level, and in each row a word on each', () => {
  const [head, , ...body] = rows.map(cells);
  expect(head).toHaveLength(6);
  expect(body.length).toBeGreaterThan(10);
  for (const row of body) for (const cell of [row.length, ...row]) expect(cell).not.toBe('');
  for (const row of body) expect(row).toHaveLength(6);
});

test.each(rows.slice(2).map(row => [cells(row)[0]!, cells(row)[5]!]))('%s: held by tests that exist', (_, marks) => {
  const numbers = [...marks.matchAll(/\[(\d+)\]/g)].map(match => match[1]!);
  expect(numbers).not.toEqual([]);
  for (const number of numbers) {
    const tests = heldBy(number);
    expect(tests).not.toEqual([]);
    for (const { file, name } of tests) {
      expect(existsSync(join(root, file)), file).toBe(true);
      expect(readFileSync(join(root, file), 'utf8')).toContain(name.replaceAll(/\s+/g, ' '));
    }
  }
});
