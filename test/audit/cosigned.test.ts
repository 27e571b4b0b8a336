import { describe, expect, test } from 'vitest';
import { keepIn, requestFrom, verifyWitnessesIn } from '../../sandbox/audit/cosigned.ts';
import { openDirectory } from '../../sandbox/audit/log.ts';
import { verifyDirectory } from '../../sandbox/audit/verify-directory.ts';
import { openWitnessIn, type Witness } from '../../sandbox/audit/witness.ts';
import { witnessPolicy } from '../../sandbox/audit/witness-policy.ts';
import { appendGroups, memoryLog, ORIGIN } from './events.ts';
import { MemoryDirectory } from './memory-directory.ts';

function witnessOf(name: string, ...logs: string[]): Witness {
  return openWitnessIn(new MemoryDirectory(), { name: `witness.example/${name}`, logs });
}

/** Asks a witness, from what it has seen. */
async function ask(directory: MemoryDirectory, witness: Witness): Promise<void> {
  let request = requestFrom(directory);
  let reply = await witness.cosign(request);
  if (!reply.ok && reply.size !== undefined) {
    request = requestFrom(directory, { old: reply.size });
    reply = await witness.cosign(request);
  }
  if (!reply.ok) throw new Error(reply.reason);
  await keepIn(directory, request, reply.body, [witness.vkey]);
}

describe('a log with witnesses', () => {
  test('holds to a policy once enough of them have cosigned, and goes on growing', async () => {
    const { directory, log } = await memoryLog();
    const [a, b, c] = [witnessOf('a', log.vkey), witnessOf('b', log.vkey), witnessOf('c', log.vkey)] as const;
    const policy = witnessPolicy(2, [a.vkey, b.vkey, c.vkey]);
    await appendGroups(log, [300]);
    await log.checkpoint();
    expect(await verifyWitnessesIn(directory, policy)).toMatchObject({
      ok: false,
      message: /no checkpoint .* was cosigned/,
    });
    await ask(directory, a);
    expect(await verifyWitnessesIn(directory, policy)).toMatchObject({ ok: false, message: /too few witnesses/ });
    await ask(directory, b);
    expect(await verifyWitnessesIn(directory, policy)).toMatchObject({
      ok: true,
      witnessedSize: 300,
      size: 300,
      witnessed: [{ witness: 'witness.example/a' }, { witness: 'witness.example/b' }],
    });
    await appendGroups(log, [700], 300);
    await log.checkpoint();
    await ask(directory, c); // one of them has seen more: the older checkpoint is still the one that two have cosigned
    expect(await verifyWitnessesIn(directory, policy)).toMatchObject({ ok: true, witnessedSize: 300, size: 1000 });
    await ask(directory, b);
    expect(await verifyWitnessesIn(directory, policy)).toMatchObject({ ok: true, witnessedSize: 1000 });
    await log.close();
    expect((await verifyDirectory(directory)).ok).toBe(true);
  });

  test('that shows another history is found out, whoever signs for it', async () => {
    const { directory, log } = await memoryLog();
    const witness = witnessOf('a', log.vkey);
    await appendGroups(log, [20]);
    await log.checkpoint();
    const before = directory.clone();
    await appendGroups(log, [20], 20);
    await log.checkpoint();
    await ask(directory, witness);
    // The operator goes back, writes other records with the same key, and asks again.
    const forked = await openDirectory(before, { origin: ORIGIN });
    await appendGroups(forked, [20], 1000);
    await forked.checkpoint();
    await expect(ask(before, witness)).rejects.toThrow(/another tree of 40 records was cosigned/);
    await appendGroups(forked, [20], 2000);
    await forked.checkpoint();
    await expect(ask(before, witness)).rejects.toThrow(/does not extend the last checkpoint/);
    // Nor does it help to bring along the cosigned checkpoint.
    const policy = witnessPolicy(1, [witness.vkey]);
    before.set(directory.names('cosigned/')[0]!, directory.bytes(directory.names('cosigned/')[0]!));
    expect(await verifyWitnessesIn(before, policy)).toMatchObject({ ok: false, kind: 'forked' });
    expect(await verifyWitnessesIn(directory, policy)).toMatchObject({ ok: true });
  });

  test('that was rolled back behind what they have seen is found out', async () => {
    const { directory, log } = await memoryLog();
    const witness = witnessOf('a', log.vkey);
    await appendGroups(log, [20]);
    await log.checkpoint();
    const before = directory.clone();
    await appendGroups(log, [20], 20);
    await log.checkpoint();
    await ask(directory, witness);
    for (const name of directory.names('cosigned/')) before.set(name, directory.bytes(name));
    const policy = witnessPolicy(1, [witness.vkey]);
    expect(await verifyWitnessesIn(before, policy)).toMatchObject({ ok: false, kind: 'rolled-back' });
  });

  test('goes on with them over a change of its key', async () => {
    const { directory, log } = await memoryLog();
    await appendGroups(log, [5]);
    const next = await log.rotateKey();
    const directoryOfWitness = new MemoryDirectory();
    const old = openWitnessIn(directoryOfWitness, { name: 'witness.example/a', logs: [log.vkey] });
    await appendGroups(log, [5], 5);
    await log.checkpoint();
    expect(await old.cosign(requestFrom(directory))).toMatchObject({ ok: false, status: 403 });
    await old.close();
    const told = openWitnessIn(directoryOfWitness, { logs: [log.vkey, next] });
    await ask(directory, told);
    expect(await verifyWitnessesIn(directory, witnessPolicy(1, [told.vkey]), log.vkey)).toMatchObject({ ok: true });
  });

  test('keeps nothing that does not hold', async () => {
    const { directory, log } = await memoryLog();
    const [a, b] = [witnessOf('a', log.vkey), witnessOf('b', log.vkey)] as const;
    await appendGroups(log, [5]);
    await log.checkpoint();
    const request = requestFrom(directory);
    const reply = await a.cosign(request);
    if (!reply.ok) throw new Error(reply.reason);
    const files = [...directory.files.keys()];
    await expect(keepIn(directory, request, reply.body, [b.vkey])).rejects.toThrow(/no cosignature by these witnesses/);
    await expect(keepIn(directory, request, '', [a.vkey])).rejects.toThrow(/no cosignature/);
    await expect(keepIn(directory, request, `${reply.body}\nhello\n`, [a.vkey])).rejects.toThrow(/malformed note/);
    await expect(keepIn(directory, 'hello', reply.body, [a.vkey])).rejects.toThrow(/malformed request/);
    const other = await memoryLog();
    await appendGroups(other.log, [5]);
    await other.log.checkpoint();
    const theirs = requestFrom(other.directory);
    await expect(keepIn(directory, theirs, reply.body, [a.vkey])).rejects.toThrow(/does not extend/);
    await appendGroups(log, [5]);
    await log.checkpoint();
    await expect(keepIn(directory, requestFrom(directory), reply.body, [a.vkey])).rejects.toThrow(/does not verify/);
    expect([...directory.files.keys()].filter(name => name.startsWith('cosigned'))).toEqual([]);
    expect(files.some(name => name.startsWith('cosigned'))).toBe(false);
    expect(() => requestFrom(directory, { old: 11 })).toThrow(/cannot have seen 11/);
  });

  test('keeps the newest 64 cosigned checkpoints', async () => {
    const { directory, log } = await memoryLog();
    const witness = openWitnessIn(new MemoryDirectory(), { name: 'w', type: 'ed25519', logs: [log.vkey] });
    for (let i = 0; i < 70; i++) {
      await appendGroups(log, [1], i);
      await log.checkpoint();
      await ask(directory, witness);
    }
    expect(directory.names('cosigned/')).toHaveLength(64);
    expect(await verifyWitnessesIn(directory, witnessPolicy(1, [witness.vkey]))).toMatchObject({ witnessedSize: 70 });
  });
});
