/**
 * What the service adds to profiles, sizes, maps and plans: the policy, the record, the receipt.
 */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { drawDigit } from '../../examples/digits/draw.ts';
import { nativeStatus } from '../../native/index.ts';
import { verifyReceipt } from '../../sandbox/audit/index.ts';
import { writeOnnx } from '../../src/formats/index.ts';
import { GraphBuilder } from '../../src/graph/index.ts';
import { diagnose, openCloister, type PolicyInput, readAudit } from '../../src/index.ts';
import { histogram } from '../../src/service/index.ts';
import { commitProfile } from '../../src/service/output-commitment.ts';

const MODEL = join(import.meta.dirname, '..', '..', 'examples', 'digits', 'digits.onnx');
const POLICY: PolicyInput = { isolation: 'isolate', rawOutputs: 'allow', budgets: { ward: { epsilon: 2 } } };
const WHO = { actor: 'dev', purpose: 'tuning' };
const image = drawDigit(7, { seed: 3 });

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'cloister-profile-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

test('a profile is recorded as runs, with a commitment that its salt opens', async () => {
  await using cloister = await openCloister({ dir, policy: POLICY });
  const model = await cloister.load(MODEL);
  const { profile, profileSalt, receipt } = await model.profile({ image }, { ...WHO, runs: 3 });
  expect(profile.runs).toBe(3);
  expect(verifyReceipt(JSON.parse(JSON.stringify(receipt)), cloister.auditKey).ok).toBe(true);
  expect(receipt.record).toMatchObject({
    ...WHO,
    action: 'run',
    measures: { calls: 4 },
    commitments: { profile: commitProfile(profile, Buffer.from(profileSalt, 'hex')) },
  });
});

test('a profile is refused, and the refusal recorded, where no raw output may leave: times tell about inputs', async () => {
  await using cloister = await openCloister({ dir, policy: { ...POLICY, rawOutputs: 'refuse' } });
  const model = await cloister.load(MODEL);
  await expect(model.profile({ image }, WHO)).rejects.toMatchObject({ code: 'POLICY_REFUSED' });
  await expect(model.profile({}, WHO)).rejects.toMatchObject({ code: 'INPUT_MISMATCH' });
  const refusals: unknown[] = [];
  for await (const { action, decision } of readAudit(dir))
    if (decision.reason) refusals.push([action, decision.reason]);
  expect(refusals).toEqual([
    ['refuse', 'POLICY_REFUSED'],
    ['fail', 'INPUT_MISMATCH'],
  ]);
});

test('outputs that stand for maps are given as maps beside their tensors', async () => {
  const b = new GraphBuilder('classifier');
  const [out] = b.node({ op: 'Abs', inputs: [b.input('x', { dtype: 'f32', shape: ['n', 2] })], outputs: ['scores'] });
  b.output(out!, { labels: [7, 9] });
  await using cloister = await openCloister({ dir, policy: POLICY });
  const model = await cloister.load(writeOnnx(b.build()));
  const rows = [
    [-1, 2],
    [3, -4],
  ];
  const { outputs, maps } = await model.run({ x: rows }, WHO);
  expect(outputs['scores']!.toArray()).toEqual([
    [1, 2],
    [3, 4],
  ]);
  expect(maps).toEqual({
    scores: [
      new Map([
        [7, 1],
        [9, 2],
      ]),
      new Map([
        [7, 3],
        [9, 4],
      ]),
    ],
  });
});

test('text goes in as nested arrays, never as bytes', async () => {
  const b = new GraphBuilder('echo');
  const words = b.input('words', { dtype: 'string', shape: ['n'] });
  b.output(b.node({ op: 'Identity', inputs: [words], outputs: ['same'] })[0]!);
  await using cloister = await openCloister({ dir, policy: POLICY });
  const model = await cloister.load(writeOnnx(b.build()));
  expect((await model.run({ words: ['a', 'ü'] }, WHO)).outputs['same']!.toArray()).toEqual(['a', 'ü']);
  await expect(model.run({ words: new Uint8Array(4) }, WHO)).rejects.toMatchObject({ code: 'DTYPE_MISMATCH' });
  await expect(model.run({ words: [1, 2] }, WHO)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
});

test('sizes that are fixed make another request of a release under the same key', async () => {
  await using cloister = await openCloister({ dir, policy: POLICY });
  const request = {
    records: [{ subject: 'a', inputs: { image } }],
    statistic: histogram({ of: 'argmax', classes: 10 }),
    epsilon: 0.5,
    scope: 'ward',
    idempotencyKey: 'k',
  };
  const open = await cloister.load(MODEL);
  const fixed = await cloister.load(MODEL, { dims: { batch: 1 } });
  expect(fixed.digest).toBe(open.digest);
  expect((await open.release(request)).kind).toBe('released');
  await expect(fixed.release(request)).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
  expect((await fixed.release({ ...request, idempotencyKey: 'other' })).kind).toBe('released');
});

test.skipIf(nativeStatus().kind !== 'loaded')('the plan of a load is kept; what runs bring is not', async () => {
  await using cloister = await openCloister({ dir, policy: POLICY });
  const model = await cloister.load(MODEL);
  const kept = readdirSync(join(dir, 'plans'));
  expect(kept).toHaveLength(1);
  const two = new Float32Array(2 * 784);
  expect((await model.run({ image: two }, WHO)).outputs['logits']!.shape).toEqual([2, 10]);
  expect(readdirSync(join(dir, 'plans'))).toEqual(kept);
  const { checks } = await diagnose({ dir });
  expect(checks.find(({ name }) => name === 'plans')).toMatchObject({
    state: 'ok',
    found: expect.stringMatching(/^1 kept/),
  });
});
