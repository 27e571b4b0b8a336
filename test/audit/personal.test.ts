import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type AuditLog, openDirectory } from '../../sandbox/audit/log.ts';
import { entriesOf, type PersonalData, type PersonalVerdict, revealIn } from '../../sandbox/audit/personal.ts';
import type { AuditRecord } from '../../sandbox/audit/record.ts';
import { verifyReceipt } from '../../sandbox/audit/verify.ts';
import { verifyDirectory } from '../../sandbox/audit/verify-directory.ts';
import { isCloisterError } from '../../src/base/errors.ts';
import { event, memoryLog, ORIGIN, SLOW } from './events.ts';
import type { MemoryDirectory } from './memory-directory.ts';

const JANE: PersonalData = { subject: 'Jane Doe, 1970-01-01', fields: { ward: 'C3', note: 'asked twice' } };
const JOHN: PersonalData = { subject: 'John Roe' };
const BY = { actor: 'privacy-desk', purpose: 'request 12' };

async function recordsOf(log: AuditLog): Promise<AuditRecord[]> {
  const records: AuditRecord[] = [];
  for await (const record of log.records()) records.push(record);
  return records;
}

function reveal(directory: MemoryDirectory, records: AuditRecord[]): PersonalVerdict[] {
  return revealIn(directory, records);
}

/** Everything that lies in a directory, names and bytes. */
function everything(directory: MemoryDirectory): string {
  return [...directory.files]
    .map(([name, { bytes }]) => `${name}\n${Buffer.from(bytes).toString('latin1')}`)
    .join('\n');
}

describe('personal data', () => {
  test('open to what was kept, and the record holds commitments alone', async () => {
    const { directory, log } = await memoryLog();
    const receipt = await log.append(event(0), { personal: JANE });
    await log.append(event(1));
    await log.append(event(2, { commitments: { output: `sha256:${'7'.repeat(64)}` } }), { personal: JOHN });
    expect(verifyReceipt(receipt, log.vkey).ok).toBe(true);
    const records = await recordsOf(log);
    expect(Object.keys(records[0]!.commitments!).sort()).toEqual(['note', 'subject', 'ward']);
    expect(Object.keys(records[2]!.commitments!).sort()).toEqual(['output', 'subject']);
    expect(reveal(directory, records)).toEqual([
      { kind: 'opened', ...JANE },
      { kind: 'none' },
      { kind: 'opened', subject: JOHN.subject, fields: {} },
    ]);
    await log.close();
    const found = everything(directory);
    for (const secret of ['Jane', 'C3', 'asked twice', 'John', '1970']) expect(found, secret).not.toContain(secret);
  });

  test('of one person under two records have commitments that nobody can tell are of one', async () => {
    const { log } = await memoryLog();
    await log.append(event(0), { personal: JANE });
    await log.append(event(0), { personal: JANE });
    const [a, b] = await recordsOf(log);
    for (const name of ['subject', 'ward', 'note']) expect(a!.commitments![name]).not.toBe(b!.commitments![name]);
  });

  test('are durable before the append resolves, whatever the disk loses then', async () => {
    const { directory, log } = await memoryLog();
    await Promise.all([JANE, JOHN, JANE].map((personal, i) => log.append(event(i), { personal })));
    const left = directory.afterPowerLoss('lost');
    const again = await openDirectory(left, { origin: ORIGIN });
    expect(reveal(left, await recordsOf(again)).map(({ kind }) => kind)).toEqual(['opened', 'opened', 'opened']);
  });

  test('of many appends at once share writes and syncs', async () => {
    const { directory, log } = await memoryLog();
    await log.append(event(0), { personal: JANE });
    const before = directory.boundaries.size;
    await Promise.all(Array.from({ length: 200 }, (_, i) => log.append(event(i), { personal: JANE })));
    expect(directory.boundaries.size - before).toBeLessThan(40); // one by one it would be 800
    expect(new Set(reveal(directory, await recordsOf(log)).map(({ kind }) => kind))).toEqual(new Set(['opened']));
  });

  test('that do not fit are refused without a word of them, and the log goes on', async () => {
    const { log } = await memoryLog();
    const bad: [string, unknown][] = [
      ['no subject', {}],
      ['an empty subject', { subject: '' }],
      ['a lone surrogate', { subject: 'Jane\ud800' }],
      ['a field named subject', { subject: 'Jane', fields: { subject: 'x' } }],
      ['a field with a bad name', { subject: 'Jane', fields: { 'Date of birth': 'x' } }],
      ['a field that is no text', { subject: 'Jane', fields: { age: 7 } }],
      [
        'fifteen fields',
        { subject: 'Jane', fields: Object.fromEntries(Array.from({ length: 15 }, (_, i) => [`f${i}`, ''])) },
      ],
      [
        'a megabyte',
        {
          subject: 'Jane',
          fields: Object.fromEntries(Array.from({ length: 14 }, (_, i) => [`f${i}`, '€'.repeat(65_000)])),
        },
      ],
      ['an unknown key', { subject: 'Jane', name: 'x' }],
    ];
    for (const [what, personal] of bad) {
      const error = await log
        .append(event(0), { personal: personal as PersonalData })
        .catch((thrown: unknown) => thrown);
      expect(isCloisterError(error, 'INVALID_ARGUMENT'), what).toBe(true);
      expect(String(error), what).not.toContain('Jane');
    }
    const twice = event(0, { commitments: { subject: `sha256:${'7'.repeat(64)}` } });
    await expect(log.append(twice, { personal: JANE })).rejects.toThrow(/commitment subject of its own/);
    await log.append(event(0), { personal: JANE });
    expect(log.head().size).toBe(1);
  });

  test('any bytes in any file of theirs give a verdict or a typed error, never other data', async () => {
    const { directory, log } = await memoryLog();
    await log.append(event(0), { personal: JANE });
    await log.append(event(1), { personal: JOHN });
    const records = await recordsOf(log);
    const files = [...directory.files.keys()].filter(name => name.startsWith('personal/') && !name.endsWith('/index'));
    fc.assert(
      fc.property(
        fc.constantFrom(...files),
        fc.nat(),
        fc.uint8Array({ minLength: 1, maxLength: 40 }),
        (name, at, bytes) => {
          const copy = directory.clone();
          const content = copy.bytes(name).slice();
          const from = at % content.length;
          content.set(bytes.subarray(0, content.length - from), from);
          copy.set(name, content);
          let verdicts: PersonalVerdict[];
          try {
            verdicts = reveal(copy, records);
          } catch (error) {
            expect(isCloisterError(error, 'AUDIT_INVALID')).toBe(true);
            return;
          }
          verdicts.forEach((verdict, i) => {
            if (verdict.kind === 'opened') expect(verdict.subject).toBe([JANE, JOHN][i]!.subject);
          });
        },
      ),
    );
  });

  test('that were exchanged between two records are found out', async () => {
    const { directory, log } = await memoryLog();
    await log.append(event(0), { personal: JANE });
    await log.append(event(1), { personal: JANE });
    const records = await recordsOf(log);
    const mixed = records.map((record, i) => {
      const commitments = { ...record.commitments, ward: records[1 - i]!.commitments!['ward']! };
      return { ...record, commitments };
    });
    expect(reveal(directory, mixed)).toEqual([
      { kind: 'damaged', reason: 'ward is not what the record commits to' },
      { kind: 'damaged', reason: 'ward is not what the record commits to' },
    ]);
  });
});

describe('an erased subject', () => {
  test('is read by nobody, their name is nowhere, and every proof still holds', async () => {
    const { directory, log } = await memoryLog();
    const receipt = await log.append(event(0), { personal: JANE });
    await log.append(event(1), { personal: JOHN });
    const erased = await log.eraseSubject(JANE.subject, BY);
    const records = await recordsOf(log);
    expect(erased?.record).toMatchObject({
      ...BY,
      action: 'erase',
      object: { kind: 'subject' },
      decision: { outcome: 'allow' },
    });
    expect(reveal(directory, records).map(({ kind }) => kind)).toEqual(['erased', 'opened', 'none']);
    expect(verifyReceipt(receipt, log.vkey).ok).toBe(true);
    await log.close();
    expect((await verifyDirectory(directory)).ok).toBe(true);
    expect([...directory.files.keys()].filter(name => /erasing|tmp/.test(name))).toEqual([]);
    expect([...directory.files.keys()].filter(name => name.startsWith('personal/keys/'))).toHaveLength(1);
    expect([...directory.files.keys()].filter(name => name.startsWith('personal/subjects/'))).toHaveLength(1);
  });

  test('cannot be told from the commitment in the record of the erasure', async () => {
    const { log } = await memoryLog();
    await log.append(event(0), { personal: JANE });
    const erased = await log.eraseSubject(JANE.subject, BY);
    const [first] = await recordsOf(log);
    expect(Object.values(first!.commitments!)).not.toContain(erased!.record!.object.id);
  });

  test('was never there: nothing is recorded', async () => {
    const { directory, log } = await memoryLog();
    await log.append(event(0), { personal: JANE });
    expect(await log.eraseSubject('Nobody', BY)).toBeUndefined();
    expect(await log.eraseSubject(JANE.subject, BY)).toBeDefined();
    expect(await log.eraseSubject(JANE.subject, BY)).toBeUndefined();
    expect(log.head().size).toBe(2);
    await expect(log.eraseSubject('', BY)).rejects.toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    expect(reveal(directory, await recordsOf(log))[0]).toEqual({ kind: 'erased' });
  });

  test('may come back: what is kept then has a new key, what was erased stays so', async () => {
    const { directory, log } = await memoryLog();
    await log.append(event(0), { personal: JANE });
    await log.eraseSubject(JANE.subject, BY);
    await log.append(event(1), { personal: JANE });
    expect(reveal(directory, await recordsOf(log)).map(({ kind }) => kind)).toEqual(['erased', 'none', 'opened']);
  });

  test('is not touched where the log could not say who did it, and the log opens again', async () => {
    const { directory, log } = await memoryLog();
    await log.append(event(0), { personal: JANE });
    for (const by of [{ actor: '' }, { actor: 'x'.repeat(257) }, { actor: 'desk', purpose: '' }])
      await expect(log.eraseSubject(JANE.subject, by)).rejects.toThrow(
        expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
      );
    expect(reveal(directory, await recordsOf(log))[0]).toMatchObject({ kind: 'opened' });
    await log.close();
    const again = await openDirectory(directory, { origin: ORIGIN });
    expect(await again.eraseSubject(JANE.subject, { actor: 'desk' })).toBeDefined();
  });

  test('of whom the erasure broke off is kept no more, until the next start has finished it', async () => {
    const { directory, log } = await memoryLog();
    await log.append(event(0), { personal: JANE });
    const [key] = directory.names('personal/keys/');
    directory.failing = { operation: 'erase', file: key!, system: 'EIO' };
    await expect(log.eraseSubject(JANE.subject, BY)).rejects.toThrow(/EIO/);
    directory.failing = undefined;
    await expect(log.append(event(1), { personal: JANE })).rejects.toThrow(/EIO/);
    await log.append(event(1));
    await log.close();
    const again = await openDirectory(directory, { origin: ORIGIN });
    await again.append(event(2), { personal: JANE });
    expect(reveal(directory, await recordsOf(again)).map(({ kind }) => kind)).toEqual([
      'erased',
      'none',
      'none',
      'opened',
    ]);
  });

  test('and appends of others that are under way when the log is closed end before it is', async () => {
    const { directory, log } = await memoryLog();
    await log.append(event(0), { personal: JANE });
    const under = [log.append(event(1), { personal: JOHN }), log.eraseSubject(JANE.subject, BY)].map(one =>
      one.then(
        () => 'done',
        (error: unknown) => isCloisterError(error, 'CLOSED'),
      ),
    );
    await log.close();
    for (const ended of await Promise.all(under)) expect(['done', true]).toContain(ended);
    const again = await openDirectory(directory, { origin: ORIGIN });
    const records = await recordsOf(again);
    expect(['opened', 'erased']).toContain(reveal(directory, records)[0]!.kind);
    await again.close();
    expect((await verifyDirectory(directory)).ok).toBe(true);
  });

  test('whose appends race with the erasure: those before it are erased, those after it are not', async () => {
    const { directory, log } = await memoryLog();
    const appended = (n: number) => log.append(event(n), { personal: JANE });
    await Promise.all([appended(0), appended(1), log.eraseSubject(JANE.subject, BY), appended(2), appended(3)]);
    const records = await recordsOf(log);
    const at = records.findIndex(({ action }) => action === 'erase');
    expect(reveal(directory, records).map(({ kind }) => kind)).toEqual([
      'erased',
      'erased',
      'none',
      'opened',
      'opened',
    ]);
    expect(at).toBe(2);
  });

  test('is erased or is not, at whatever step the power goes, and the log says so once', {
    timeout: 900_000,
  }, async () => {
    const prepare = async (): Promise<{ directory: MemoryDirectory; log: AuditLog }> => {
      const opened = await memoryLog();
      await opened.log.append(event(0), { personal: JANE });
      await opened.log.append(event(1), { personal: JOHN });
      return opened;
    };
    const rehearsal = await prepare();
    const begin = rehearsal.directory.steps;
    await rehearsal.log.eraseSubject(JANE.subject, BY);
    const end = rehearsal.directory.steps;
    let seen = '';
    const { boundaries } = rehearsal.directory;
    for (let cut = begin; cut <= end; cut++) {
      if (!SLOW && ![cut - 1, cut, cut + 1].some(step => boundaries.has(step))) continue;
      for (const loss of ['lost', 'kept'] as const) {
        const { directory, log } = await prepare();
        directory.stepsLeft = cut;
        const acknowledged = await log.eraseSubject(JANE.subject, BY).then(
          () => true,
          () => false,
        );
        const left = directory.afterPowerLoss(loss);
        const again = await openDirectory(left, { origin: ORIGIN });
        const records = await recordsOf(again);
        const [jane, john] = reveal(left, records);
        const said = records.filter(({ action }) => action === 'erase').length;
        expect(john, `cut ${cut}`).toMatchObject({ kind: 'opened' });
        expect(said, `cut ${cut}: ${jane?.kind}`).toBe(jane?.kind === 'erased' ? 1 : 0);
        if (acknowledged) expect(jane?.kind).toBe('erased');
        expect([...left.files.keys()].filter(name => name.includes('erasing'))).toEqual([]);
        await again.close();
        expect((await verifyDirectory(left)).ok).toBe(true);
        seen += jane?.kind === 'erased' ? 'E' : 'o';
      }
    }
    expect(seen).toMatch(/^o+E+$/); // one step decides
  });

  test('by many, in any order, with crashes between', { timeout: 900_000 }, async () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant('keep' as const), who: fc.nat({ max: 3 }) }),
      fc.record({ kind: fc.constant('erase' as const), who: fc.nat({ max: 3 }) }),
      fc.record({ kind: fc.constant('crash' as const), who: fc.nat({ max: 12 }) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 15 }), async steps => {
        let { directory, log } = await memoryLog();
        const model: { who: number; erased: boolean; sure: boolean }[] = [];
        for (const { kind, who } of steps) {
          if (kind === 'keep') {
            const receipt = await log.append(event(who), { personal: { subject: `person ${who}` } });
            model[receipt.index] = { who, erased: false, sure: true };
          } else if (kind === 'erase') {
            await log.eraseSubject(`person ${who}`, BY);
            for (const entry of model) if (entry?.who === who) entry.erased = true;
          } else {
            directory.stepsLeft = directory.steps + who;
            await log.eraseSubject('person 0', BY).catch(() => undefined);
            directory = directory.afterPowerLoss('lost');
            log = await openDirectory(directory, { origin: ORIGIN });
            for (const entry of model) if (entry?.who === 0 && !entry.erased) entry.sure = false;
            const now = reveal(directory, await recordsOf(log));
            model.forEach((entry, i) => {
              if (!entry.sure) entry.erased = now[i]!.kind === 'erased';
              entry.sure = true;
            });
          }
        }
        const verdicts = reveal(directory, await recordsOf(log));
        for (const [i, entry] of model.entries())
          if (entry) expect(verdicts[i]!.kind).toBe(entry.erased ? 'erased' : 'opened');
      }),
      { numRuns: SLOW ? 1000 : 40 },
    );
  });
});

test('no nonce is used twice', async () => {
  const { directory, log } = await memoryLog();
  await Promise.all(Array.from({ length: 500 }, (_, i) => log.append(event(i), { personal: JANE })));
  const nonces = [...entriesOf(directory)].map(entry => Buffer.from(entry.subarray(48, 60)).toString('hex'));
  expect(new Set(nonces).size).toBe(500);
});
