import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parsePolicy } from '../../src/service/policy.ts';
import { file, policySchemaText } from './policy-schema.ts';

test('docs/policy.schema.json is the schema that policies are read by', () => {
  const text = readFileSync(file, 'utf8');
  expect(JSON.parse(text), 'run `node test/docs/policy-schema.ts`, then `npm run format`').toEqual(
    JSON.parse(policySchemaText()),
  );
});

test('a policy may name the schema, which changes nothing in it', () => {
  const budgets = { ward: { epsilon: 1 } };
  expect(parsePolicy({ $schema: './policy.schema.json', budgets })).toEqual(parsePolicy({ budgets }));
});

test.each([
  [{ measure: 'zcdp', epsilon: 1 }, /stated by rho, or epsilon and delta/],
  [{ measure: 'gdp', rho: 1 }, /stated by mu, or epsilon and delta/],
  [{ epsilon: 1, perBlock: { rho: 1 } }, /perBlock: a limit in pure is stated by epsilon/],
  [{ measure: 'approx', epsilon: 1, delta: 1 }, /delta: delta is a number above 0 and at most 0.009, got 1/],
  [{ epsilon: 1, perPeriod: { epsilon: 1, days: 30 } }, /acknowledgeLifetimeGrowth/],
  [{ epsilon: 1, perPeriod: { epsilon: 1, days: 0.5, acknowledgeLifetimeGrowth: true } }, /days/],
  [{ epsilon: 1, perMonth: { epsilon: 1 } }, /perMonth/],
  [{ measure: 'renyi', epsilon: 1 }, /measure/],
])('a policy with the budget %j is refused, and says why', (ward, reason) => {
  expect(() => parsePolicy({ budgets: { ward } })).toThrow(expect.objectContaining({ code: 'INVALID_POLICY' }));
  expect(() => parsePolicy({ budgets: { ward } })).toThrow(reason);
});
