import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';

test('verifying a receipt needs nothing of Node: no file that verify.ts reaches imports node: or names a global of Node', () => {
  const root = path.resolve(import.meta.dirname, '../../sandbox/audit');
  const seen = new Set<string>();
  const visit = (file: string): void => {
    if (seen.has(file)) return;
    seen.add(file);
    const source = readFileSync(file, 'utf8').replace(/\/\*[\s\S]*?\*\//g, '');
    expect(source, file).not.toMatch(/from 'node:|\bBuffer\b|\bprocess\.|\brequire\(/);
    for (const [, target = ''] of source.matchAll(/from '(\.[^']+)'/g)) visit(path.resolve(path.dirname(file), target));
    for (const [, name = ''] of source.matchAll(/from '([^.'][^']*)'/g)) expect(name).toMatch(/^(@noble\/|zod$)/);
  };
  for (const name of [
    'merkle.ts',
    'note.ts',
    'checkpoint.ts',
    'cosignature.ts',
    'witness-policy.ts',
    'record.ts',
    'verify.ts',
    'filter.ts',
    'bundle.ts',
    'export.ts',
    'otel.ts',
  ])
    visit(path.join(root, name));
  expect(seen.size).toBeGreaterThan(6);
});
