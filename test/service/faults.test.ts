import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { AuditLog } from '../../sandbox/audit/log.ts';
import { CloisterError, canonicalJson, type Json } from '../../src/base/index.ts';
import { count, histogram, openCloister, type ReleaseRecord, type ReleaseReply, verifyAudit } from '../../src/index.ts';
import { readAnchor } from '../../src/service/directory.ts';
import { digestOf } from '../../src/service/pipeline.ts';
import { openSqliteStore } from '../../src/store/index.ts';
import { COST, type Life, record, request, SCOPE, World } from './world.ts';

afterEach(() => void vi.restoreAllMocks());

/** One release under the key `k`; what came of it, and whether a record was read. */
async function attempt(life: Life): Promise<{ reply?: ReleaseReply; error?: unknown; read: boolean }> {
  let read = false;
  function* watched(): Generator<ReleaseRecord> {
    read = true;
    yield record('a');
  }
  try {
    return { reply: await life.model.release(request({ records: watched(), idempotencyKey: 'k' })), read };
  } catch (error) {
    return { error, read };
  }
}

/** Breaks the medium, releases, crashes, starts again, and holds the promises against what is left. */
async function ordeal(breakAt: (world: World, life: Life) => void, loss: 'lost' | 'kept'): Promise<boolean> {
  const world = new World();
  const life = await world.start();
  breakAt(world, life);
  const { reply, read } = await attempt(life);
  world.crash(loss);

  const next = await world.start(); // the log verifies, and extends its anchor
  const before = await next.records();
  const { spent, reserved } = await next.scope();
  expect(reserved).toBe(0);
  if (read || reply) expect(spent).toBe(COST);
  if (read) expect(before.map(({ action }) => action)).toContain('charge');
  if (reply) expect(before.map(({ action }) => action)).toContain('release');

  const again = await attempt(next);
  expect((await next.scope()).spent).toBe(COST); // charged by the first or by the second, never by both
  if (spent === COST) expect(again.read).toBe(false);
  if (reply?.kind === 'released') {
    expect(again.reply).toMatchObject({ kind: 'released', value: reply.value, replayed: true });
  } else if (again.reply === undefined) {
    expect(again.error).toMatchObject({ code: 'RELEASE_LOST' });
  }
  for (const answer of [reply, again.reply]) {
    if (answer?.kind !== 'released') continue;
    const { kind, value, event, cost, errorBar, nonNegative } = answer;
    const noised = canonicalJson({ kind, value, event, cost, errorBar, nonNegative } as unknown as Json);
    expect(answer.receipt.record?.output).toBe(digestOf(noised));
  }
  return reply !== undefined;
}

describe('a release, with a crash at every step of the medium', () => {
  test.each(['lost', 'kept'] as const)('of the store (unsynced bytes of the log %s)', async loss => {
    let answered = 0;
    for (let point = 0; answered < 3; point++) {
      expect(point).toBeLessThan(200);
      const breakAt = (_: World, { faulty }: Life): void => {
        faulty.failAt = faulty.reached + point;
      };
      if (await ordeal(breakAt, loss)) answered++;
    }
  });

  test.each(['lost', 'kept'] as const)('of the log (unsynced bytes %s)', { timeout: 60_000 }, async loss => {
    const rehearsal = new World();
    const life = await rehearsal.start();
    const from = rehearsal.directory.steps;
    await attempt(life);
    const ends = [...rehearsal.directory.boundaries].filter(at => at >= from).map(at => at - from);
    const points = new Set(ends.flatMap(at => [at - 1, at, at + 1, at + 100]).filter(at => at >= 0));
    const answers = [];
    for (const point of points) {
      const breakAt = ({ directory }: World): void => {
        directory.stepsLeft = directory.steps + point;
      };
      answers.push(await ordeal(breakAt, loss));
    }
    expect(answers).toContain(true);
    expect(answers).toContain(false);
  });
});

describe('a log that stops', () => {
  test('between charge and record: nothing is read, the key is told at once, and nothing more is charged', async () => {
    const world = new World();
    const life = await world.start();
    world.directory.failing = { operation: 'sync', file: 'wal/', system: 'EIO' };
    const first = await attempt(life);
    expect(first).toMatchObject({ error: { code: 'STORE_FAILED' }, read: false });
    expect(await life.scope()).toMatchObject({ spent: COST, reserved: 0 });
    const before = await life.ledger.history(SCOPE);
    expect(before.at(-1)).toMatchObject({ kind: 'FORFEIT' });
    await expect(life.model.release(request())).rejects.toMatchObject({ code: 'STORE_FAILED' });
    expect(await life.ledger.history(SCOPE)).toEqual(before);
    world.crash('kept');
    expect(await attempt(await world.start())).toMatchObject({ error: { code: 'RELEASE_LOST' }, read: false });
  });

  test('lets no refusal out that it does not hold', async () => {
    const world = new World();
    const life = await world.start();
    world.directory.failing = { operation: 'append', file: 'wal/', system: 'ENOSPC' };
    await expect(life.model.release(request({ scope: 'other' }))).rejects.toMatchObject({ code: 'STORE_FAILED' });
    await expect(life.model.run({ x: [1] }, { actor: 'a', purpose: 'p' })).rejects.toMatchObject({
      code: 'STORE_FAILED',
    });
  });
});

describe('a release', () => {
  test('whose model is closed meanwhile fails, rather than count what is left', async () => {
    const life = await new World().start();
    async function* closing(): AsyncGenerator<ReleaseRecord> {
      yield record('a');
      await life.model.close();
      yield record('b');
    }
    await expect(life.model.release(request({ records: closing() }))).rejects.toMatchObject({ code: 'CLOSED' });
    expect((await life.records()).map(({ action }) => action)).toEqual(['charge', 'fail']);
    await expect(life.model.release(request())).rejects.toMatchObject({ code: 'CLOSED' });
    expect((await life.scope()).spent).toBe(COST);
  });

  test('that is cancelled before its charge costs nothing', async () => {
    const life = await new World().start();
    await expect(life.model.release(request({ signal: AbortSignal.abort() }))).rejects.toMatchObject({
      code: 'ABORTED',
    });
    expect((await life.scope()).spent).toBe(0);
  });

  test('of more classes than the model has scores costs nothing', async () => {
    const life = await new World().start();
    const statistic = histogram({ of: 'argmax', classes: 10 });
    await expect(life.model.release(request({ statistic }))).rejects.toMatchObject({ code: 'SHAPE_MISMATCH' });
    expect((await life.scope()).spent).toBe(0);
  });

  test('is the one that was asked for, whatever becomes of the request object', async () => {
    const life = await new World().start();
    const asked = { ...request() };
    const reply = life.model.release(asked);
    Object.assign(asked, { scope: 'other', epsilon: 1, statistic: histogram({ of: 'argmax', classes: 1 }) });
    expect(await reply).toMatchObject({ kind: 'released', cost: COST, scope: SCOPE });
  });

  test.each([
    ['another statistic', { statistic: count({ of: 'argmax', classes: 1, equals: 0 }) }],
    ['another price', { epsilon: 0.25 }],
  ])('under a used key and with %s is a conflict', async (_, more) => {
    const life = await new World().start();
    await life.model.release(request({ idempotencyKey: 'k' }));
    const other = life.model.release(request({ idempotencyKey: 'k', ...more }));
    await expect(other).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
    expect((await life.scope()).spent).toBe(COST);
  });

  test('under the key that another model used is a conflict', async () => {
    const world = new World();
    const life = await world.start();
    await life.model.release(request({ idempotencyKey: 'k' }));
    await life.log.close();
    const next = await world.start({ digest: `sha256:${'1'.repeat(64)}` });
    const other = next.model.release(request({ idempotencyKey: 'k' }));
    await expect(other).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
  });

  test('of a model that fails on zeros costs nothing', async () => {
    const run = () => Promise.reject(new CloisterError('GUEST_FAILED', 'it fails'));
    const life = await new World().start({ run });
    await expect(life.model.release(request())).rejects.toMatchObject({ code: 'GUEST_FAILED' });
    expect((await life.scope()).spent).toBe(0);
  });

  test('is silent about records whose reading throws', async () => {
    const life = await new World().start();
    const fail = (): never => {
      throw new Error('seen');
    };
    const hostile = [
      Object.defineProperty({ inputs: {} }, 'subject', { get: fail }),
      Object.defineProperty({ subject: 'b' }, 'inputs', { get: fail }),
      { subject: 'c', inputs: new Proxy({}, { ownKeys: fail }) },
      {
        subject: 'd',
        inputs: {
          x: {
            get length() {
              return fail();
            },
          },
        },
      },
    ] as unknown as ReleaseRecord[];
    async function* records(): AsyncGenerator<ReleaseRecord> {
      yield* hostile;
    }
    expect(await life.model.release(request({ records: records() }))).toMatchObject({ kind: 'released' });
  });

  test.each([
    ['nothing', undefined],
    ['null', null],
    ['no statistic', request({ statistic: undefined as never })],
    ['no records', request({ records: 5 as never })],
    ['a number as key', request({ idempotencyKey: 5 as never })],
    ['an empty key', request({ idempotencyKey: '' })],
    ['an actor that is too long', { ...request(), actor: 'x'.repeat(257) }],
    ['half an emoji as purpose', { ...request(), purpose: '\ud83d' }],
  ])('of %s is a typed error, and costs nothing', async (_, asked) => {
    const life = await new World().start();
    await expect(life.model.release(asked as never)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect((await life.scope()).spent).toBe(0);
  });

  test('at once with many others, some under one key, spends what was answered and no more', async () => {
    const life = await new World().start();
    const replies = await Promise.all(
      Array.from({ length: 12 }, (_, i) =>
        life.model.release(request(i % 2 === 0 ? { idempotencyKey: 'shared', epsilon: 0.2 } : { epsilon: 0.5 })),
      ),
    );
    const shared = replies.filter((_, i) => i % 2 === 0);
    expect(new Set(shared.map(reply => JSON.stringify('value' in reply && reply.value))).size).toBe(1);
    expect(replies.filter(reply => reply.kind === 'released')).toHaveLength(6 + 3);
    expect(await life.scope()).toMatchObject({ spent: 200_000 + 3 * COST, reserved: 0 });
  });
});

describe('the anchor', () => {
  test('moves with each charge and each release, to the last durable record', async () => {
    const world = new World();
    const { model } = await world.start();
    const sizes: unknown[] = [];
    async function* watched(): AsyncGenerator<ReleaseRecord> {
      sizes.push((await readAnchor(world.store))?.size);
      yield record('a');
    }
    await model.release(request({ records: watched() }));
    sizes.push((await readAnchor(world.store))?.size);
    await model.release(request({ records: watched() }));
    // Empty before the first charge; then with the first charge's record; then with the first release's.
    expect(sizes).toEqual([0, 1, 2]);
  });

  test('covers the last record of a service that was closed', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'cloister-anchor-'));
    await (await openCloister({ dir, policy: { isolation: 'isolate' } })).close();
    await using store = await openSqliteStore({ path: join(dir, 'ledger.sqlite') });
    expect(await verifyAudit(dir)).toMatchObject({ ok: true, size: (await readAnchor(store))?.size });
    rmSync(dir, { recursive: true });
  });
});

test('a crash right after the first record of a new directory leaves one that opens', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'cloister-first-'));
  const original = AuditLog.prototype.append;
  vi.spyOn(AuditLog.prototype, 'append').mockImplementation(async function (this: AuditLog, event) {
    await original.call(this, event);
    throw new Error('the process died');
  });
  await expect(openCloister({ dir, policy: { isolation: 'isolate' } })).rejects.toThrow('the process died');
  vi.restoreAllMocks();
  await (await openCloister({ dir, policy: { isolation: 'isolate' } })).close();
  rmSync(dir, { recursive: true });
});
