/**
 * Changes of limits are on the record: in the audit log before they are in the ledger, by whoever makes them.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { verifyHistory } from '../../privacy/budget/index.ts';
import type { AuditRecord } from '../../sandbox/audit/index.ts';
import { openCloister, readAudit, readBudgets, readHistory, verifyAudit } from '../../src/index.ts';
import { setBudgetLimit } from '../../src/service/index.ts';
import type { BudgetInput } from '../../src/service/policy.ts';

const DESK = { actor: 'privacy-desk', purpose: 'ethics board, 14 November' };

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'cloister-limits-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const open = (ward: BudgetInput) => openCloister({ dir, policy: { isolation: 'isolate', budgets: { ward } } });

async function use(ward: BudgetInput): Promise<void> {
  await (await open(ward)).close();
}

async function changes(): Promise<AuditRecord[]> {
  const all: AuditRecord[] = [];
  for await (const record of readAudit(dir)) if (record.action === 'policy') all.push(record);
  return all;
}

test('a limit that is set by hand is in the log, with who did it and the entry that has all limits', async () => {
  await use({ epsilon: 2, perBlock: { epsilon: 1 } });
  await setBudgetLimit(dir, 'ward', { epsilon: 1.5 }, DESK);
  await setBudgetLimit(dir, 'ward', { epsilon: 3 }, { ...DESK, acknowledgeRaise: true });
  const budget = { scope: 'ward', measure: 'pure', before: 0, after: 0 };
  const said = { ...DESK, object: { kind: 'scope', id: 'ward' } };
  expect(await changes()).toMatchObject([
    { ...said, decision: { outcome: 'allow', reason: 'LIMIT_LOWERED' }, budget: { ...budget, limit: 1_500_000 } },
    { ...said, decision: { outcome: 'allow', reason: 'LIMIT_RAISED' }, budget: { ...budget, limit: 3_000_000 } },
  ]);
  const history = await readHistory(dir, 'ward');
  expect(history.slice(1)).toMatchObject([
    { kind: 'LIMIT', before: { lifetime: 2_000_000 }, limits: { lifetime: 1_500_000, perBlock: 1_000_000 } },
    { kind: 'LIMIT', before: { lifetime: 1_500_000 }, limits: { lifetime: 3_000_000, perBlock: 1_000_000 } },
  ]);
  const digests = (await changes()).map(({ commitments }) => commitments!['ledger']!.slice(7));
  expect(verifyHistory(history)).toEqual({ ok: true, head: digests[1] });
  expect(history[2]!.prev).toBe(digests[0]);
  expect(await verifyAudit(dir)).toMatchObject({ ok: true });
  await use({ epsilon: 3, perBlock: { epsilon: 1 } });
});

test('a limit that the policy changes when it is opened is in the log; one that it leaves as it is, is not', async () => {
  await use({ epsilon: 2 });
  await use({ epsilon: 2 });
  expect(await changes()).toEqual([]);
  await use({ epsilon: 1 });
  await use({ epsilon: 2, acknowledgeRaise: true });
  await use({ epsilon: 2, perTenant: { epsilon: 1 } });
  const policy = expect.stringMatching(/^sha256:/);
  expect(await changes()).toMatchObject([
    { actor: 'service', policy, decision: { reason: 'LIMIT_LOWERED' }, budget: { limit: 1_000_000 } },
    { actor: 'service', policy, decision: { reason: 'LIMIT_RAISED' }, budget: { limit: 2_000_000 } },
    { actor: 'service', policy, decision: { reason: 'LIMIT_LOWERED' }, budget: { limit: 2_000_000 } },
  ]);
  await expect(open({ epsilon: 3 })).rejects.toMatchObject({ code: 'POLICY_REFUSED' });
  expect(await changes()).toHaveLength(3);
  expect(await verifyAudit(dir)).toMatchObject({ ok: true });
}, 20_000);

test('a change that is refused changes neither the ledger nor the log', async () => {
  await use({ epsilon: 2 });
  const before = await readHistory(dir, 'ward');
  await expect(setBudgetLimit(dir, 'ward', { epsilon: 3 }, DESK)).rejects.toMatchObject({ code: 'POLICY_REFUSED' });
  await expect(setBudgetLimit(dir, 'ward', { rho: 1 }, DESK)).rejects.toMatchObject({ code: 'DP_INVALID_PARAMETER' });
  await expect(setBudgetLimit(dir, 'icu', { epsilon: 1 }, DESK)).rejects.toMatchObject({ code: 'UNKNOWN_SCOPE' });
  await expect(setBudgetLimit(dir, 'ward', { epsilon: 1 }, { actor: '' })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
  });
  expect(await readHistory(dir, 'ward')).toEqual(before);
  expect(await changes()).toEqual([]);
});

test('while a service has the log, a limit stays, and the error says what to do', async () => {
  await using cloister = await open({ epsilon: 2 });
  await expect(setBudgetLimit(dir, 'ward', { epsilon: 1 }, DESK)).rejects.toMatchObject({
    code: 'LOCKED',
    message: expect.stringMatching(/stop the service, or set the limit in its policy.*nothing was changed/i),
  });
  expect(await readBudgets(dir)).toMatchObject([{ scope: 'ward', limit: 2_000_000, entries: 1 }]);
  await cloister.close();
  expect((await setBudgetLimit(dir, 'ward', { epsilon: 1 }, DESK)).limit).toBe(1_000_000);
});
