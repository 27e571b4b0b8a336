import { type ChildProcess, fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { drawDigit } from '../../examples/digits/draw.ts';
import { verifyReceipt } from '../../sandbox/audit/index.ts';
import {
  count,
  histogram,
  openCloister,
  type PolicyInput,
  type ReleaseRecord,
  readAudit,
  readBudgets,
  readHistory,
  verifyAudit,
  verifyOutputs,
} from '../../src/index.ts';
import { Tensor } from '../../src/tensor/index.ts';

const MODEL = join(import.meta.dirname, '..', '..', 'examples', 'digits', 'digits.onnx');
const SCOPE = 'clinic-a/2026-q4';
// The walls have their own tests; `isolate` starts faster, and the service does not know the difference.
const POLICY: PolicyInput = { isolation: 'isolate', rawOutputs: 'allow', budgets: { [SCOPE]: { epsilon: 1 } } };
const DIGITS = histogram({ of: 'argmax', classes: 10 });
const image = drawDigit(7, { seed: 3 });

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'cloister-service-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** What is in all files of a folder. */
const everything = (folder: string): string =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => readFileSync(join(entry.parentPath, entry.name), 'latin1'))
    .join('\n');

const records = (n: number): ReleaseRecord[] =>
  Array.from({ length: n }, (_, i) => ({ subject: `s${i}`, inputs: { image: drawDigit(i % 10, { seed: 50 + i }) } }));

async function actions(): Promise<string[]> {
  const all: string[] = [];
  for await (const record of readAudit(dir))
    all.push(record.decision.reason ? `${record.action} ${record.decision.reason}` : record.action);
  return all;
}

describe('a run', () => {
  test('gives outputs and a receipt that verifies alone, under the isolation by default a worker process', async () => {
    await using cloister = await openCloister({ dir, policy: { rawOutputs: 'allow' } });
    const model = await cloister.load(MODEL);
    const { permanentBytes, temporaryBytes, scratchBytes } = model.memory();
    // 46 KB of weights, kept packed where kernels run.
    expect(permanentBytes).toBeGreaterThan(40_000);
    expect(permanentBytes + temporaryBytes + scratchBytes).toBeLessThan(2 ** 20);
    const { outputs, receipt } = await model.run({ image }, { actor: 'ward-3', purpose: 'triage' });
    expect(outputs['logits']?.shape).toEqual([1, 10]);
    const scores = outputs['logits']!.values() as number[];
    expect(scores.indexOf(Math.max(...scores))).toBe(7);
    expect(verifyReceipt(JSON.parse(JSON.stringify(receipt)), cloister.auditKey)).toMatchObject({
      ok: true,
      index: receipt.index,
    });
    expect(receipt.record).toMatchObject({
      actor: 'ward-3',
      purpose: 'triage',
      action: 'run',
      model: model.digest,
      isolation: 'process',
      layers: expect.arrayContaining(['isolate', 'process', 'wallWatch']),
    });
  });

  test('is recorded with a commitment to its outputs that only the salt opens', async () => {
    await using cloister = await openCloister({ dir, policy: POLICY });
    const model = await cloister.load(MODEL);
    const caller = { actor: 'a', purpose: 'p' };
    const { outputs, outputSalt, receipt } = await model.run({ image }, caller);
    const again = await model.run({ image }, caller);
    const digest = createHash('sha256').update('["logits","f32",[1,10]]').update(outputs['logits']!.toBytes());
    const opened = createHash('sha256').update(Buffer.from(outputSalt, 'hex')).update(digest.digest('hex'));
    expect(receipt.record?.commitments).toEqual({ output: `sha256:${opened.digest('hex')}` });
    expect(verifyOutputs(receipt.record!, outputs, outputSalt)).toBe(true);
    // The same input tells the reader of the log nothing: neither that it was the same, nor which.
    expect(again.receipt.record?.commitments).not.toEqual(receipt.record?.commitments);
    expect(verifyOutputs(receipt.record!, outputs, again.outputSalt)).toBe(false);
    const other = Tensor.from(
      'f32',
      [1, 10],
      Float32Array.from(outputs['logits']!.values() as number[], v => v + 1),
    );
    expect(verifyOutputs(receipt.record!, { logits: other }, outputSalt)).toBe(false);
    expect(everything(join(dir, 'audit'))).not.toContain(outputSalt);
  });

  test('has the trace id of its caller in its record, and takes nothing else for one', async () => {
    await using cloister = await openCloister({ dir, policy: POLICY });
    const model = await cloister.load(MODEL);
    const trace = '0af7651916cd43dd8448eb211c80319c';
    expect((await model.run({ image }, { actor: 'a', purpose: 'p', trace })).receipt.record?.trace).toBe(trace);
    const refused = expect.objectContaining({ code: 'INVALID_ARGUMENT' });
    for (const bad of ['0'.repeat(32), trace.toUpperCase(), `00-${trace}-b7ad6b7169203331-01`])
      await expect(model.run({ image }, { actor: 'a', purpose: 'p', trace: bad })).rejects.toThrow(refused);
  });

  test('takes tensors, typed arrays, raw bytes and nested arrays alike', async () => {
    await using cloister = await openCloister({ dir, policy: POLICY });
    const model = await cloister.load(readFileSync(MODEL));
    const tensor = Tensor.from('f32', [1, 1, 28, 28], image);
    const forms = [tensor, image, new Uint8Array(image.buffer.slice(0)), tensor.toArray()];
    const answers = [];
    for (const form of forms)
      answers.push((await model.run({ image: form }, { actor: 'a', purpose: 'p' })).outputs['logits']!.toArray());
    for (const answer of answers) expect(answer).toEqual(answers[0]);
  });

  test.each([
    ['a missing input', {}, 'INPUT_MISMATCH'],
    ['an unknown input', { image, other: image }, 'INPUT_MISMATCH'],
    ['no record of inputs', image as never, 'INPUT_MISMATCH'],
    ['another dtype', { image: new Float64Array(784) }, 'DTYPE_MISMATCH'],
    ['a tensor of another dtype', { image: Tensor.zeros('f64', [1, 1, 28, 28]) }, 'DTYPE_MISMATCH'],
    ['another number of elements', { image: new Float32Array(783) }, 'SHAPE_MISMATCH'],
    ['another shape', { image: Tensor.zeros('f32', [1, 28, 28, 1]) }, 'SHAPE_MISMATCH'],
    ['ragged rows', { image: [[[[1, 2], [3]]]] }, 'SHAPE_MISMATCH'],
    ['text', { image: 'seven' as never }, 'INVALID_ARGUMENT'],
  ])('with %s is refused by code, names no element, and is recorded', async (_, inputs, code) => {
    const cloister = await openCloister({ dir, policy: POLICY });
    const model = await cloister.load(MODEL);
    const attempt = model.run(inputs as never, { actor: 'a', purpose: 'p' });
    await expect(attempt).rejects.toMatchObject({ name: 'CloisterError', code });
    await expect(attempt).rejects.not.toThrow(/seven/);
    await cloister.close();
    expect(await actions()).toEqual(['open', 'load', `fail ${code}`, 'close']);
  });

  test('is refused, and the refusal recorded, where the policy lets no raw output leave', async () => {
    const cloister = await openCloister({ dir, policy: { isolation: 'isolate' } });
    const model = await cloister.load(MODEL);
    await expect(model.run({ image }, { actor: 'a', purpose: 'p' })).rejects.toMatchObject({ code: 'POLICY_REFUSED' });
    await cloister.close();
    expect(await actions()).toEqual(['open', 'load', 'refuse POLICY_REFUSED', 'close']);
  });
});

describe('a load', () => {
  const model = existsSync(MODEL) ? readFileSync(MODEL) : Buffer.alloc(0);
  test.each([
    ['empty', new Uint8Array(0)],
    ['text', new TextEncoder().encode('this is no model')],
    ['truncated', model.subarray(0, model.length - 100)],
    ['nested without end', new Uint8Array(10_000).fill(0x3a)],
  ])('of a file that is %s is a typed error, is recorded, and leaves the service alive', async (_, bytes) => {
    const cloister = await openCloister({ dir, policy: POLICY });
    await expect(cloister.load(bytes)).rejects.toMatchObject({
      name: 'CloisterError',
      code: expect.stringMatching(/^(INVALID_MODEL|MODEL_TOO_LARGE|INVALID_GRAPH)$/),
    });
    const good = await cloister.load(MODEL);
    expect((await good.run({ image }, { actor: 'a', purpose: 'p' })).receipt.index).toBe(3);
    await cloister.close();
    expect((await actions()).map(line => line.split(' ')[0])).toEqual(['open', 'fail', 'load', 'run', 'close']);
  });

  test.each([
    ['a number', 5 as never],
    ['an array', [1, 2] as never],
    ['a device that never ends', '/dev/zero'],
    ['a directory', tmpdir()],
  ])('of %s is refused', async (_, source) => {
    await using cloister = await openCloister({ dir, policy: POLICY });
    await expect(cloister.load(source)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  test('of a file over the limit, or for an actor that the log cannot name, is refused', async () => {
    const cloister = await openCloister({ dir, policy: { ...POLICY, limits: { modelBytes: 100 } } });
    await expect(cloister.load(MODEL)).rejects.toMatchObject({ code: 'MODEL_TOO_LARGE' });
    await expect(cloister.load(MODEL, { actor: '' })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await cloister.close();
    expect(await actions()).toEqual(['open', 'fail MODEL_TOO_LARGE', 'close']);
    await expect(cloister.load(MODEL)).rejects.toMatchObject({ code: 'CLOSED' });
  });

  test('of a missing file says so', async () => {
    await using cloister = await openCloister({ dir, policy: POLICY });
    await expect(cloister.load(join(dir, 'nothing.onnx'))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});

describe('a release', () => {
  test('is near the truth, within its error bar often enough, and charged once', async () => {
    await using cloister = await openCloister({ dir, policy: { ...POLICY, budgets: { [SCOPE]: { epsilon: 100 } } } });
    const model = await cloister.load(MODEL);
    const reply = await model.release({ records: records(100), statistic: DIGITS, epsilon: 20, scope: SCOPE });
    if (reply.kind !== 'released') throw new Error('refused');
    // At epsilon 20 the noise is 0 but for 1 in 10^8 draws: the exact histogram of what the model says comes out.
    expect(reply.value.reduce((sum, cell) => sum + cell, 0)).toBe(100);
    expect(await cloister.budgets()).toMatchObject([{ scope: SCOPE, spent: 20_000_000, reserved: 0 }]);
    expect(reply.receipt.record).toMatchObject({
      action: 'release',
      mechanism: 'discrete-laplace',
      object: { kind: 'scope', id: SCOPE },
    });
  });

  test('counts a subject once, however many records it has', async () => {
    await using cloister = await openCloister({ dir, policy: { ...POLICY, budgets: { [SCOPE]: { epsilon: 100 } } } });
    const model = await cloister.load(MODEL);
    const same = records(30).map(record => ({ ...record, subject: 'only' }));
    const reply = await model.release({
      records: same,
      statistic: count({ of: 'subjects' }),
      epsilon: 20,
      scope: SCOPE,
    });
    expect(reply).toMatchObject({ kind: 'released', value: [1] });
  });

  test('reads its first record only after the charge is durable, in the ledger and in the log', async () => {
    const cloister = await openCloister({ dir, policy: POLICY });
    const model = await cloister.load(MODEL);
    const seen: unknown[] = [];
    async function* watched(): AsyncGenerator<ReleaseRecord> {
      seen.push((await readBudgets(dir))[0]?.spent, (await actions()).includes('charge'));
      yield* records(3);
    }
    await model.release({ records: watched(), statistic: DIGITS, epsilon: 0.25, scope: SCOPE });
    expect(seen).toEqual([250_000, true]);
    await cloister.close();
  });

  test('is refused as a result when the scope has too little left; nothing is read or charged, and it is recorded', async () => {
    const cloister = await openCloister({ dir, policy: POLICY });
    const model = await cloister.load(MODEL);
    expect((await model.release({ records: records(5), statistic: DIGITS, epsilon: 0.7, scope: SCOPE })).kind).toBe(
      'released',
    );
    let read = 0;
    function* counted(): Generator<ReleaseRecord> {
      read++;
      yield* records(5);
    }
    const reply = await model.release({ records: counted(), statistic: DIGITS, epsilon: 0.300001, scope: SCOPE });
    expect(reply).toMatchObject({ kind: 'refused', requested: 300_001, remaining: 300_000, spent: 700_000 });
    expect(verifyReceipt(reply.receipt, cloister.auditKey).ok).toBe(true);
    expect(read).toBe(0);
    expect((await model.release({ records: records(5), statistic: DIGITS, epsilon: 0.3, scope: SCOPE })).kind).toBe(
      'released',
    );
    await cloister.close();
    expect(await actions()).toEqual([
      'open',
      'load',
      'charge',
      'release',
      'refuse SCOPE_EXHAUSTED',
      'charge',
      'release',
      'close',
    ]);
    expect((await readHistory(dir, SCOPE)).map(entry => entry.kind)).toContain('REFUSE');
  });

  test('under one key gives the same bytes for one charge, also after a restart', async () => {
    const request = { statistic: DIGITS, epsilon: 0.5, scope: SCOPE, idempotencyKey: 'report-1' };
    const ask = async (data: ReleaseRecord[]) => {
      await using cloister = await openCloister({ dir, policy: POLICY });
      const model = await cloister.load(MODEL);
      return await model.release({ ...request, records: data });
    };
    const first = await ask(records(20));
    const second = await ask([]);
    if (first.kind !== 'released' || second.kind !== 'released') throw new Error('refused');
    expect(second.value).toEqual(first.value);
    expect([first.replayed, second.replayed]).toEqual([false, true]);
    expect(await readBudgets(dir)).toMatchObject([{ spent: 500_000 }]);
    await using cloister = await openCloister({ dir, policy: POLICY });
    const model = await cloister.load(MODEL);
    await expect(model.release({ ...request, epsilon: 0.4, records: [] })).rejects.toMatchObject({
      code: 'IDEMPOTENCY_CONFLICT',
    });
  });

  test('is silent about records that fail: no error, no count, the same charge', async () => {
    await using cloister = await openCloister({ dir, policy: { ...POLICY, budgets: { [SCOPE]: { epsilon: 100 } } } });
    const model = await cloister.load(MODEL);
    const bad = [
      { subject: 'a', inputs: {} },
      { subject: 'b', inputs: { image: new Float32Array(3) } },
      { subject: 'c', inputs: { image: new Float32Array(784).fill(Number.NaN) } },
      { subject: 5, inputs: { image } },
      null,
      { subject: 'd' },
      { subject: 'e', inputs: { image } },
    ] as unknown as ReleaseRecord[];
    const reply = await model.release({ records: bad, statistic: DIGITS, epsilon: 20, scope: SCOPE });
    if (reply.kind !== 'released') throw new Error('refused');
    expect(reply.value.reduce((sum, cell) => sum + cell, 0)).toBe(1);
  });

  test.each([NaN, Infinity, -1, 0, -0, '0.5' as never, 1e7])(
    'at epsilon %s is refused before anything is read or charged',
    async epsilon => {
      const cloister = await openCloister({ dir, policy: POLICY });
      const model = await cloister.load(MODEL);
      await expect(
        model.release({ records: records(1), statistic: DIGITS, epsilon, scope: SCOPE }),
      ).rejects.toMatchObject({ code: 'DP_INVALID_PARAMETER' });
      expect(await cloister.budgets()).toMatchObject([{ spent: 0, reserved: 0 }]);
      await cloister.close();
      expect(await actions()).toEqual(['open', 'load', 'refuse DP_INVALID_PARAMETER', 'close']);
    },
  );

  test('of the least positive epsilon costs one micro-epsilon, never nothing', async () => {
    await using cloister = await openCloister({ dir, policy: POLICY });
    const model = await cloister.load(MODEL);
    await model.release({ records: [], statistic: count({ of: 'subjects' }), epsilon: Number.MIN_VALUE, scope: SCOPE });
    expect(await cloister.budgets()).toMatchObject([{ spent: 1 }]);
  });

  test('from an unknown scope is refused, and the scopes are named', async () => {
    await using cloister = await openCloister({ dir, policy: POLICY });
    const model = await cloister.load(MODEL);
    await expect(
      model.release({ records: [], statistic: DIGITS, epsilon: 0.1, scope: 'toString' }),
    ).rejects.toMatchObject({
      code: 'UNKNOWN_SCOPE',
      detail: { scopes: [SCOPE] },
    });
  });

  test('whose records break off keeps its charge, and hands the error on', async () => {
    const cloister = await openCloister({ dir, policy: POLICY });
    const model = await cloister.load(MODEL);
    function* broken(): Generator<ReleaseRecord> {
      yield* records(2);
      throw new Error('the database went away');
    }
    const request = { statistic: DIGITS, epsilon: 0.5, scope: SCOPE, idempotencyKey: 'once' };
    await expect(model.release({ ...request, records: broken() })).rejects.toThrow('the database went away');
    // The same key neither waits for what will never come, nor computes again for free.
    await expect(model.release({ ...request, records: [] })).rejects.toMatchObject({ code: 'RELEASE_LOST' });
    await cloister.close();
    expect(await readBudgets(dir)).toMatchObject([{ spent: 500_000, reserved: 0 }]);
    expect(await actions()).toEqual(['open', 'load', 'charge', 'fail UNEXPECTED', 'refuse RELEASE_LOST', 'close']);
    expect(everything(join(dir, 'audit'))).not.toContain('database');
  });

  test('never shows a subject in the log or in the ledger', async () => {
    const cloister = await openCloister({ dir, policy: POLICY });
    const model = await cloister.load(MODEL);
    await model.release({
      records: [{ subject: 'SECRET-SUBJECT', inputs: { image } }],
      statistic: DIGITS,
      epsilon: 0.5,
      scope: SCOPE,
    });
    await cloister.close();
    expect(everything(dir)).toContain('clinic');
    expect(everything(dir)).not.toContain('SECRET-SUBJECT');
  });
});

describe('a directory', () => {
  test('belongs to one process at a time', async () => {
    await using _cloister = await openCloister({ dir, policy: POLICY });
    await expect(openCloister({ dir, policy: POLICY })).rejects.toMatchObject({ code: 'LOCKED' });
  });

  test('whose log was put back to an earlier copy does not open', async () => {
    const work = async (): Promise<void> => {
      await using cloister = await openCloister({ dir, policy: POLICY });
      const model = await cloister.load(MODEL);
      await model.release({ records: [], statistic: DIGITS, epsilon: 0.1, scope: SCOPE });
    };
    await work();
    const copy = join(dir, 'copy');
    cpSync(join(dir, 'audit'), copy, { recursive: true });
    await work();
    rmSync(join(dir, 'audit'), { recursive: true });
    cpSync(copy, join(dir, 'audit'), { recursive: true });
    await expect(openCloister({ dir, policy: POLICY })).rejects.toMatchObject({ code: 'AUDIT_INVALID' });
    expect(await verifyAudit(dir)).toMatchObject({ ok: false });
  });

  test('whose ledger was put back to an earlier copy does not open, and forgets nothing', async () => {
    const spend = async (): Promise<void> => {
      await using cloister = await openCloister({ dir, policy: POLICY });
      const model = await cloister.load(MODEL);
      await model.release({ records: [], statistic: DIGITS, epsilon: 0.4, scope: SCOPE });
    };
    await spend();
    const ledger = join(dir, 'ledger.sqlite');
    const copy = readFileSync(ledger); // a closed SQLite file holds everything
    await spend();
    for (const suffix of ['-wal', '-shm']) rmSync(`${ledger}${suffix}`, { force: true });
    writeFileSync(ledger, copy);
    await expect(openCloister({ dir, policy: POLICY })).rejects.toMatchObject({
      code: 'STORE_FAILED',
      message: expect.stringContaining('earlier copy'),
    });
  });

  test('that is closed under releases and runs hands out nothing more, and opens again', async () => {
    const cloister = await openCloister({ dir, policy: POLICY });
    const model = await cloister.load(MODEL);
    async function* endless(): AsyncGenerator<ReleaseRecord> {
      for (let i = 0; ; i++) yield { subject: `s${i}`, inputs: { image } };
    }
    const request = { statistic: DIGITS, epsilon: 0.2, scope: SCOPE };
    const started = [
      ...[1, 2, 3].map(() => model.release({ ...request, records: endless() })),
      ...[1, 2, 3].map(() => model.run({ image }, { actor: 'a', purpose: 'p' })),
    ].map(promise =>
      promise.then(
        () => 'answered',
        (error: unknown) => (error as { code?: string }).code,
      ),
    );
    await started.at(-1); // its answer comes behind those of the runs before it
    const loading = cloister.load(MODEL).catch((error: unknown) => expect(error).toMatchObject({ code: 'CLOSED' }));
    await cloister.close();
    expect(await Promise.all(started)).toEqual([...Array(3).fill('CLOSED'), ...Array(3).fill('answered')]);
    await loading; // it was in time, or is refused
    await expect(model.run({ image }, { actor: 'a', purpose: 'p' })).rejects.toMatchObject({ code: 'CLOSED' });
    expect(await verifyAudit(dir)).toMatchObject({ ok: true });
    await using again = await openCloister({ dir, policy: POLICY });
    expect((await again.budgets())[0]).toMatchObject({ reserved: 0 });
    expect((await actions()).filter(action => action === 'release')).toEqual([]);
  });

  test('whose ledger is gone does not open with a fresh budget', async () => {
    await (await openCloister({ dir, policy: POLICY })).close();
    for (const suffix of ['', '-wal', '-shm']) rmSync(join(dir, `ledger.sqlite${suffix}`), { force: true });
    await expect(openCloister({ dir, policy: POLICY })).rejects.toMatchObject({ code: 'STORE_FAILED' });
  });

  test.each([
    [{ isolaton: 'process' }, /isolaton/],
    [{ budgets: { a: { epsilon: 1, delta: 0 } } }, /budgets\.a/],
    [{ limits: { wallMs: -1 } }, /limits\.wallMs/],
    [{ budgets: { '../x y': { epsilon: 1 } } }, /scope name/],
    [{ budgets: { a: { epsilon: -1 } } }, /budgets\.a\.epsilon/],
    [{ budgets: { a: { epsilon: Number.NaN } } }, /budgets\.a\.epsilon/],
    [JSON.parse('{"budgets":{"__proto__":{"epsilon":1}}}'), /__proto__/],
    ['policy', /expected object/i],
  ])('with the policy %j is refused, and the place named', async (policy, where) => {
    await expect(openCloister({ dir, policy: policy as never })).rejects.toMatchObject({
      code: 'INVALID_POLICY',
      message: expect.stringMatching(where),
    });
    expect(readdirSync(dir)).toEqual([]);
  });

  test('keeps a lowered limit, and takes a raised one only when the policy says so', async () => {
    const open = async (epsilon: number, acknowledgeRaise?: boolean): Promise<number> => {
      const budget = acknowledgeRaise === undefined ? { epsilon } : { epsilon, acknowledgeRaise };
      await using cloister = await openCloister({ dir, policy: { ...POLICY, budgets: { [SCOPE]: budget } } });
      return Number((await cloister.budgets())[0]!.limit);
    };
    expect(await open(2)).toBe(2_000_000);
    expect(await open(1)).toBe(1_000_000);
    await expect(open(2)).rejects.toMatchObject({ code: 'POLICY_REFUSED' });
    expect(await open(2, true)).toBe(2_000_000);
  });
});

describe('kill -9 at any moment', () => {
  const rounds = process.env['CLOISTER_SLOW'] ? 60 : 6;

  test('leaves no charge unpaid, no budget overspent, and a log that verifies', async () => {
    let acknowledged = 0;
    for (let round = 0; round < rounds; round++) {
      const child = fork(join(import.meta.dirname, 'releaser.ts'), [dir, MODEL, SCOPE], {
        execArgv: ['--no-node-snapshot'],
        stdio: 'ignore',
      });
      acknowledged += await reap(child, 150 + ((round * 97) % 700));
      const [state] = existsSync(join(dir, 'ledger.sqlite')) ? await readBudgets(dir) : [];
      if (state) {
        expect(state.usedShare).toBeLessThanOrEqual(1);
        expect(state.spent).toBeGreaterThanOrEqual(acknowledged * 1000);
      }
      if (existsSync(join(dir, 'audit', 'checkpoint'))) expect(await verifyAudit(dir)).toMatchObject({ ok: true });
    }
    await using cloister = await openCloister({ dir, policy: { ...POLICY, budgets: { [SCOPE]: { epsilon: 1000 } } } });
    const released = (await actions()).filter(action => action === 'release').length;
    expect(released).toBeGreaterThanOrEqual(acknowledged);
    expect(acknowledged).toBeGreaterThan(0);
    expect((await cloister.budgets())[0]!.reserved).toBe(0);
  }, 240_000);
});

/** Kills the child `ms` after its first acknowledged release; resolves to how many it acknowledged. */
async function reap(child: ChildProcess, ms: number): Promise<number> {
  let count = 0;
  return new Promise((resolve, reject) => {
    const patience = setTimeout(() => child.kill('SIGKILL'), 20_000);
    child.on('message', () => {
      if (count++ === 0) setTimeout(() => child.kill('SIGKILL'), ms);
    });
    child.on('error', reject);
    child.on('exit', () => {
      clearTimeout(patience);
      resolve(count);
    });
  });
}
