import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { signCheckpoint } from '../../sandbox/audit/checkpoint.ts';
import { addSignatures, parseCosigner, verifyCosignatures } from '../../sandbox/audit/cosignature.ts';
import { nodeCosignature } from '../../sandbox/audit/cosigner.ts';
import { createLogKey } from '../../sandbox/audit/keys.ts';
import { consistencyProof, inclusionProof, type NodeReader, pureHasher, rootAt } from '../../sandbox/audit/merkle.ts';
import { formatWitnessRequest, openWitnessIn, parseWitnessRequest, type Witness } from '../../sandbox/audit/witness.ts';
import { toBase64 } from '../../src/base/bytes.ts';
import { MemoryDirectory } from './memory-directory.ts';

const signer = createLogKey(new MemoryDirectory(), 'example.com/log');
const clock = { now: () => 1_700_000_000_999 };

/** A tree of numbered leaves; `salt` makes another history. */
function tree(salt = 0): NodeReader {
  const node: NodeReader = (level, index) =>
    level === 0
      ? pureHasher.leaf(Uint8Array.of(index % 256, index >> 8, index >= 5 ? salt : 0))
      : pureHasher.node(node(level - 1, 2 * index), node(level - 1, 2 * index + 1));
  return node;
}

function request(
  old: number,
  size: number,
  { salt = 0, proof = undefined as string[] | undefined, by = signer } = {},
): string {
  const node = tree(salt);
  const hashes = proof ?? (old > 0 && old < size ? consistencyProof(old, size, node).map(toBase64) : []);
  return formatWitnessRequest({ old, proof: hashes, checkpoint: signCheckpoint(size, rootAt(size, node), by) });
}

function open(directory = new MemoryDirectory()): { witness: Witness; directory: MemoryDirectory } {
  return { witness: openWitnessIn(directory, { name: 'witness.example/w', logs: [signer.vkey], clock }), directory };
}

test('a witness cosigns what extends the last checkpoint, again and again, and remembers it when it is opened anew', async () => {
  const { witness, directory } = open();
  for (const [old, size] of [
    [0, 3],
    [3, 7],
    [7, 7],
    [7, 300],
  ] as const) {
    const asked = request(old, size);
    const reply = await witness.cosign(asked);
    expect(reply).toMatchObject({ ok: true, status: 200, size });
    if (!reply.ok) continue;
    const note = addSignatures(parseWitnessRequest(asked).checkpoint, [reply.body.trimEnd()]);
    expect(verifyCosignatures(note, [parseCosigner(witness.vkey)], nodeCosignature)).toMatchObject({
      ok: true,
      cosigned: [{ time: 1_700_000_000 }],
    });
  }
  await witness.close();
  const again = openWitnessIn(directory, { logs: [signer.vkey], clock });
  expect(again.vkey).toBe(witness.vkey);
  expect(await again.cosign(request(0, 300))).toMatchObject({ ok: false, status: 409, size: 300 });
  expect(await again.cosign(request(300, 301))).toMatchObject({ ok: true });
});

describe('a witness does not cosign', () => {
  const other = createLogKey(new MemoryDirectory(), 'example.com/log');
  const stranger = createLogKey(new MemoryDirectory(), 'example.com/stranger');
  const wrong = toBase64(new Uint8Array(32));
  test.each([
    ['another history', request(10, 20, { salt: 1 }), 422],
    ['another history of the same size', request(10, 10, { salt: 1 }), 409],
    ['a smaller tree', request(5, 9), 409],
    ['a smaller tree from the right size', formatWitnessRequest({ ...parse(request(5, 9)), old: 10 }), 400],
    ['a proof that is not one', request(10, 20, { proof: [wrong] }), 422],
    ['an empty proof', request(10, 20, { proof: [] }), 422],
    ['a proof of inclusion', request(10, 20, { proof: inclusionProof(10, 20, tree()).map(toBase64) }), 422],
    ['a proof for equal sizes', request(10, 10, { proof: [wrong] }), 422],
    ['what another key of that name signed', request(10, 20, { by: other }), 403],
    ['a log that it does not watch', request(0, 20, { by: stranger }), 404],
    ['a note that is no checkpoint', 'old 10\n\nhello\n\n— example.com/log AAAAAAAA\n', 400],
    ['a size with a leading zero', request(10, 20).replace('old 10', 'old 010'), 400],
    ['a negative size', request(10, 20).replace('old 10', 'old -1'), 400],
    ['64 hashes', `old 10\n${`${wrong}\n`.repeat(64)}\n${parse(request(10, 20)).checkpoint}`, 400],
    ['hashes that are not base64', request(10, 20).replace('\n', '\n!\n'), 400],
    ['nothing', '', 400],
  ])('%s', async (_, body, status) => {
    const { witness, directory } = open();
    expect((await witness.cosign(request(0, 10))).status).toBe(200);
    const before = [...directory.files].map(([name, { bytes }]) => [name, Buffer.from(bytes).toString('hex')]);
    expect(await witness.cosign(body)).toMatchObject({ ok: false, status });
    expect([...directory.files].map(([name, { bytes }]) => [name, Buffer.from(bytes).toString('hex')])).toEqual(before);
    expect(await witness.cosign(request(10, 20))).toMatchObject({ ok: true });
  });
});

test('requests that race are served one after the other, so that the kept head never shrinks', async () => {
  const { witness } = open();
  await witness.cosign(request(0, 5));
  const replies = await Promise.all(
    [request(5, 9), request(5, 12), request(9, 12), request(5, 7)].map(body => witness.cosign(body)),
  );
  expect(replies.map(reply => reply.status)).toEqual([200, 409, 200, 409]);
});

test('two histories of one size, or of sizes that grow, never both get a cosignature', async () => {
  const step = fc.record({ old: fc.nat({ max: 40 }), more: fc.nat({ max: 40 }), salt: fc.constantFrom(0, 1) });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 8 }), async steps => {
      const { witness } = open();
      const signed: { size: number; salt: number }[] = [];
      for (const { old, more, salt } of steps) {
        const reply = await witness.cosign(request(old, old + more, { salt }));
        if (reply.ok) signed.push({ size: old + more, salt });
      }
      const salts = new Set(signed.filter(({ size }) => size > 5).map(({ salt }) => salt)); // up to five they are alike
      expect(salts.size).toBeLessThan(2);
      expect(signed.map(({ size }) => size)).toEqual(signed.map(({ size }) => size).sort((a, b) => a - b));
    }),
    { numRuns: 30 },
  );
}, 30_000);

test('the head is durable before the cosignature is given: a power cut at any step loses no promise', async () => {
  const rehearsal = open();
  await rehearsal.witness.cosign(request(0, 10));
  const before = rehearsal.directory.steps;
  await rehearsal.witness.cosign(request(10, 20));
  const steps = rehearsal.directory.steps;
  for (let cut = before; cut <= steps; cut++) {
    const { witness, directory } = open();
    await witness.cosign(request(0, 10));
    directory.stepsLeft = cut;
    const reply = await witness.cosign(request(10, 20)).catch(() => undefined);
    const left = openWitnessIn(directory.afterPowerLoss('lost'), { logs: [signer.vkey], clock });
    const asked = await left.cosign(request(0, 30));
    if (reply?.ok) expect(asked).toMatchObject({ status: 409, size: 20 });
    expect(await left.cosign(request(10, 21, { salt: 1 }))).toMatchObject({ ok: false });
  }
});

test('any bytes get an answer', async () => {
  const { witness } = open();
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.string({ unit: 'binary', maxLength: 300 })),
      async bytes => {
        expect(await witness.cosign(bytes)).toMatchObject({ ok: false, status: 400 });
      },
    ),
  );
});

test('a request survives its spelling', () => {
  const asked = request(10, 20);
  expect(formatWitnessRequest(parse(asked))).toBe(asked);
});

test('a witness is one process, one name; a new one needs a name', () => {
  const { directory } = open();
  expect(() => openWitnessIn(directory, { logs: [] })).toThrow(expect.objectContaining({ code: 'LOCKED' }));
  expect(() => openWitnessIn(new MemoryDirectory(), { logs: [] })).toThrow(/needs a name/);
  expect(() => openWitnessIn(directory.clone(), { name: 'witness.example/x', logs: [] })).toThrow(
    /is witness.example\/w/,
  );
});

function parse(body: string): ReturnType<typeof parseWitnessRequest> {
  return parseWitnessRequest(body);
}
