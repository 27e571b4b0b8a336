import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { continueAudit, openCloister, rotateAuditKey, verifyAudit } from '../../src/service/index.ts';
import { hasLedger, openExistingStore } from '../../src/service/ledger-store.ts';
import { newSchema, onServer, postgresUrl as url } from '../store/schemas.ts';

const policy = { budgets: { 'clinic-a': { epsilon: 2 } } };
let home: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'cloister-shared-'));
});
afterEach(() => {
  delete process.env['CLOISTER_STORE_URL'];
  rmSync(home, { recursive: true, force: true });
});

describe.skipIf(url === '')('a ledger on a PostgreSQL server', () => {
  it('is shared by cloisters with logs of their own, each anchored in it', async () => {
    const schema = newSchema();
    const dirs = [join(home, 'a'), join(home, 'b')];
    for (let round = 0; round < 2; round++) {
      const [a, b] = await Promise.all(dirs.map(dir => openCloister({ dir, policy, store: { url, schema } })));
      expect(a!.auditKey).not.toBe(b!.auditKey);
      await Promise.all([a!.close(), b!.close()]);
    }
    const anchors = await onServer(client =>
      client.query(`SELECT key FROM ${schema}.row WHERE collection = 'audit' AND key LIKE 'head/%'`),
    );
    expect(anchors.rows).toHaveLength(2);
    const written = readFileSync(join(home, 'a', 'store.json'), 'utf8');
    expect(JSON.parse(written)).toEqual({ v: 1, id: expect.any(String), schema });
    expect(written).not.toContain('postgres');
    expect(existsSync(join(home, 'a', 'ledger.sqlite'))).toBe(false);

    // Without the URL a log is still verified from its files; with it, also against what the ledger saw.
    expect([hasLedger(dirs[0]!), await verifyAudit(dirs[0]!)]).toMatchObject([false, { ok: true }]);
    process.env['CLOISTER_STORE_URL'] = url;
    expect([hasLedger(dirs[0]!), await verifyAudit(dirs[0]!)]).toMatchObject([true, { ok: true }]);
    rmSync(join(home, 'a', 'audit'), { recursive: true });
    renameSync(join(home, 'b', 'audit'), join(home, 'a', 'audit'));
    await expect(openCloister({ dir: dirs[0]!, policy })).rejects.toMatchObject({ code: 'AUDIT_INVALID' });
  });

  it('keeps the anchor of a log whose key changes; a log of a cloister is not continued elsewhere', async () => {
    process.env['CLOISTER_STORE_URL'] = url;
    await (await openCloister({ dir: home, policy, store: { url, schema: newSchema() } })).close();
    await rotateAuditKey(home);
    const cloister = await openCloister({ dir: home, policy });
    await cloister.close();
    expect(await verifyAudit(home)).toMatchObject({ ok: true });
    const away = continueAudit(join(home, 'audit'), join(home, 'next'), 'clinic.example/next');
    await expect(away).rejects.toThrow(/is the log of a cloister/);
  });

  it('is found again by what the directory says and the URL in the environment, and nowhere else', async () => {
    const schema = newSchema();
    await (await openCloister({ dir: home, policy, store: { url, schema } })).close();
    await expect(openCloister({ dir: home, policy })).rejects.toThrow(/give its URL in CLOISTER_STORE_URL/);
    const elsewhere = openCloister({ dir: home, policy, store: { url, schema: newSchema() } });
    await expect(elsewhere).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    process.env['CLOISTER_STORE_URL'] = url;
    await (await openCloister({ dir: home, policy })).close();
    await onServer(client => client.query(`TRUNCATE ${schema}.row, ${schema}.entry`));
    await expect(openCloister({ dir: home, policy })).rejects.toThrow(/has never seen any/);
    writeFileSync(join(home, 'store.json'), '{"v":2}');
    await expect(openCloister({ dir: home, policy })).rejects.toMatchObject({ code: 'STORE_FAILED' });
  });
});

describe('the ledger of a directory', () => {
  it('stays where it is: another store is refused, and none is made by looking', async () => {
    await expect(openExistingStore(home)).rejects.toThrow(/there is no ledger/);
    await (await openCloister({ dir: home, policy })).close();
    const store = { url: 'postgresql://127.0.0.1:1/d' };
    await expect(openCloister({ dir: home, policy, store })).rejects.toThrow(/would forget what was spent/);
    process.env['CLOISTER_STORE_URL'] = store.url;
    await (await openCloister({ dir: home, policy })).close();
  });

  it('is not settled by a database that could not be opened', async () => {
    const store = { url: 'postgresql://127.0.0.1:1/d' };
    await expect(openCloister({ dir: home, policy, store })).rejects.toMatchObject({ code: 'STORE_FAILED' });
    await (await openCloister({ dir: home, policy })).close();
  });
});
