import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { drawDigit } from '../../examples/digits/draw.ts';
import { type Cloister, count, openCloister, type PolicyInput, readAudit } from '../../src/index.ts';
import { endingOf } from '../engine/scheduler-world.ts';

const MODEL = join(import.meta.dirname, '..', '..', 'examples', 'digits', 'digits.onnx');
const SCOPE = 'ward';
const POLICY: PolicyInput = { isolation: 'isolate', rawOutputs: 'allow', budgets: { [SCOPE]: { epsilon: 1 } } };
const image = drawDigit(7, { seed: 3 });
const caller = { actor: 'ward-3', purpose: 'triage' };

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'cloister-scheduling-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

async function reasons(cloister: Cloister): Promise<readonly string[]> {
  await cloister.close();
  const all: string[] = [];
  for await (const { action, decision } of readAudit(dir))
    all.push(decision.reason ? `${action} ${decision.reason}` : action);
  return all;
}

describe('a cloister with a scheduler', () => {
  test('refuses runs that there is no room for, and records that', async () => {
    await using cloister = await openCloister({ dir, policy: POLICY, scheduling: { capacity: { standard: 1 } } });
    const model = await cloister.load(MODEL);
    const answers = await Promise.all([0, 1, 2].map(() => endingOf(model.run({ image }, caller))));
    expect(answers.toSorted()).toEqual(['OVERLOADED', 'ok', 'ok']);
    expect(cloister.scheduling()?.classes.standard).toMatchObject({ accepted: 2, refused: { OVERLOADED: 1 } });
    expect(await reasons(cloister)).toContain('refuse OVERLOADED');
  });

  test('joins the runs of one actor where the model was loaded so', async () => {
    await using cloister = await openCloister({ dir, policy: POLICY, scheduling: {} });
    const model = await cloister.load(MODEL, { serve: { batch: { maxBatch: 8, maxDelayMs: 50 } } });
    const images = [1, 2, 3, 4].map(digit => drawDigit(digit, { seed: digit }));
    const alone = await model.run({ image: images[2]! }, caller);
    const replies = await Promise.all(images.map(one => model.run({ image: one }, caller)));
    // Not to the last bit: sums are taken in another order where the kernels see more rows.
    const [joined, single] = [replies[2]!, alone].map(({ outputs }) => outputs['logits']!.values() as number[]);
    for (const [i, score] of single!.entries()) expect(joined![i]).toBeCloseTo(score, 4);
    expect(cloister.scheduling()?.batches).toEqual({ count: 1, requests: 4, rows: 4, retried: 0 });
  });

  test('ends runs at their deadline, and releases do not go through it', async () => {
    const scheduling = { capacity: { standard: 1 } };
    await using cloister = await openCloister({ dir, policy: POLICY, scheduling });
    const model = await cloister.load(MODEL, { serve: { batch: { maxBatch: 2 } } });
    expect(await endingOf(model.run({ image }, { ...caller, timeoutMs: 1e-6 }))).toBe('DEADLINE_EXCEEDED');
    const records = Array.from({ length: 3 }, (_, i) => ({ subject: `s${i}`, inputs: { image } }));
    const runs = [0, 1, 2].map(() => endingOf(model.run({ image }, caller)));
    const reply = await model.release({
      records,
      statistic: count({ of: 'argmax', classes: 10, equals: 7 }),
      epsilon: 0.5,
      scope: SCOPE,
    });
    expect(reply.kind).toBe('released');
    expect((await Promise.all(runs)).toSorted()).toEqual(['OVERLOADED', 'ok', 'ok']);
  });

  test('refuses what waits when it is closed', async () => {
    const cloister = await openCloister({ dir, policy: POLICY, scheduling: {} });
    const model = await cloister.load(MODEL);
    const answers = [0, 1, 2].map(() => endingOf(model.run({ image }, caller)));
    await cloister.close();
    expect((await Promise.all(answers)).slice(1)).toEqual(['CLOSED', 'CLOSED']);
  });

  test('says which option is wrong before anything is opened', async () => {
    const opened = openCloister({ dir, scheduling: { limitThreads: 0 } });
    await expect(opened).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await using cloister = await openCloister({ dir, policy: POLICY, scheduling: {} });
    const wrong = cloister.load(MODEL, { serve: { threads: 9 } });
    await expect(wrong).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});

test('without a scheduler, what only a scheduler keeps is refused', async () => {
  await using cloister = await openCloister({ dir, policy: POLICY });
  expect(cloister.scheduling()).toBeUndefined();
  expect(await endingOf(cloister.load(MODEL, { serve: {} }))).toBe('INVALID_ARGUMENT');
  const model = await cloister.load(MODEL);
  for (const more of [{ timeoutMs: 5 }, { priority: 'batch' }] as const)
    expect(await endingOf(model.run({ image }, { ...caller, ...more }))).toBe('INVALID_ARGUMENT');
  expect(await endingOf(model.run({ image }, caller))).toBe('ok');
});
