import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { HeClient, openClient } from '../../privacy/he/client.ts';
import { parseClientPlan } from '../../privacy/he/client-plan.ts';
import { evaluateLayers, type PlannedModel, planInference } from '../../privacy/he/plan/index.ts';
import { type HeServer, openServer } from '../../privacy/he/server.ts';
import { simulate } from '../../privacy/he/simulate.ts';
import { NO_FILE, numbers, Pieces } from './models.ts';

const MODEL = `sha256:${'0'.repeat(64)}`;
const SIZE = 36;

function sampleOf(seed: number): { x: Float64Array } {
  const next = numbers(seed);
  return { x: Float64Array.from({ length: SIZE }, () => next() + 0.5) };
}

let planned: PlannedModel;
let server: HeServer;
let client: HeClient;
let keys: Uint8Array;

beforeAll(async () => {
  const p = new Pieces('small', 1);
  const maps = p.square(p.conv(p.input('N', 1, 6, 6), 1, 2, 3));
  const hidden = p.square(p.dense(p.node('Flatten', [maps]), 32, 8));
  const graph = p.build(p.node('Softmax', [p.dense(hidden, 8, 3)]));
  planned = planInference(graph, { constants: NO_FILE, samples: [0, 1, 2].map(sampleOf) });
  server = await openServer(planned, { model: MODEL });
  client = await openClient(JSON.parse(JSON.stringify(server.clientPlan)));
  keys = client.evaluationKeys();
});

afterAll(() => {
  client[Symbol.dispose]();
  server[Symbol.dispose]();
});

describe('an encrypted session', () => {
  test('answers what the model answers, within the predicted error, and as the simulator says', async () => {
    using session = server.openSession(keys);
    for (let seed = 10; seed < 13; seed++) {
      const sample = sampleOf(seed);
      const { outputs, head } = client.decrypt(await session.run(client.encrypt(sample)));
      const { base } = planned.layers.outputs[0]!;
      const want = evaluateLayers(planned.layers, sample)[base]!;
      const [name] = Object.keys(outputs);
      const simulated = simulate(planned.plan, sample).outputs[name!]!;
      outputs[name!]!.forEach((value, i) => {
        expect(Math.abs(value - want[i]!)).toBeLessThan(4 * planned.error);
        expect(Math.abs(simulated[i]! - want[i]!)).toBeLessThan(1e-9);
      });
      expect(head[name!]!.reduce((sum, value) => sum + value, 0)).toBeCloseTo(1, 9);
    }
  });

  test('has messages of exactly the sizes that were told before a key was made', async () => {
    const bytes = HeClient.bytes(server.clientPlan);
    using session = server.openSession(keys);
    const request = client.encrypt(sampleOf(1));
    expect({ keys: keys.length, request: request.length, reply: (await session.run(request)).length }).toEqual(bytes);
  });

  test('never encrypts the same twice: two requests and two replies of one input differ', async () => {
    using session = server.openSession(keys);
    const [a, b] = [client.encrypt(sampleOf(1)), client.encrypt(sampleOf(1))];
    expect(a).not.toEqual(b);
    expect((await session.run(a)).subarray(61)).not.toEqual((await session.run(b)).subarray(61));
  });

  test('refuses replays, other sessions and other kinds, and goes on', async () => {
    using session = server.openSession(keys);
    const request = client.encrypt(sampleOf(1));
    const reply = await session.run(request);
    await expect(session.run(request)).rejects.toThrow(/request \d+ was answered before/);
    await expect(session.run(reply)).rejects.toThrow(expect.objectContaining({ code: 'HE_INVALID_MESSAGE' }));
    using other = await openClient(server.clientPlan);
    using otherSession = server.openSession(other.evaluationKeys());
    const second = client.encrypt(sampleOf(2));
    await expect(otherSession.run(second)).rejects.toThrow(/of another session/);
    expect(() => client.decrypt(reply)).toThrow(/not to request \d+ of this session/);
    expect(Object.keys(client.decrypt(await session.run(second)).outputs)).toHaveLength(1);
  });

  test('answers with nothing but noise to who has another key', async () => {
    using other = await openClient(server.clientPlan);
    using session = server.openSession(keys);
    const reply = await session.run(client.encrypt(sampleOf(1)));
    // The right name of session and number, and the wrong key.
    const others = other.evaluationKeys();
    other.encrypt(sampleOf(1));
    const forged = reply.slice();
    forged.set(others.subarray(37, 53), 37);
    forged.set(new Uint8Array(8), 53);
    forged[53] = 1;
    const [values] = Object.values(other.decrypt(forged).outputs);
    expect(Math.max(...values!.map(Math.abs))).toBeGreaterThan(4);
  });

  test('refuses hostile bytes of every part without harm to the next request', async () => {
    using session = server.openSession(keys);
    const next = numbers(3);
    for (let i = 0; i < 12; i++) {
      const request = client.encrypt(sampleOf(1));
      const hostile = request.slice();
      if (i % 3 === 0) hostile.fill(0xff, 61 + Math.floor((next() + 0.5) * 1000));
      if (i % 3 === 1) hostile[Math.floor((next() + 0.5) * 61)]! ^= 1 + Math.floor((next() + 0.5) * 254);
      const cut = i % 3 === 2 ? hostile.subarray(0, Math.floor((next() + 0.5) * hostile.length)) : hostile;
      await session.run(cut).then(
        () => undefined, // a changed number of the request is another request
        error => expect(error).toMatchObject({ code: 'HE_INVALID_MESSAGE' }),
      );
    }
    session[Symbol.dispose]();
    expect(() => server.openSession(keys.subarray(0, -1))).toThrow(/is due/);
    expect(() => server.openSession(keys.map((byte, i) => (i > 1000 ? 0xff : byte)))).toThrow(/below its prime/);
    using again = server.openSession(keys);
    client.decrypt(await again.run(client.encrypt(sampleOf(1))));
  });

  test('can be cancelled, tells how far it is, and is closed for good', async () => {
    const session = server.openSession(keys);
    const steps: number[] = [];
    await session.run(client.encrypt(sampleOf(1)), { onProgress: ({ step }) => steps.push(step) });
    expect(steps).toEqual(planned.plan.steps.map((_, i) => i + 1));
    const request = client.encrypt(sampleOf(1));
    await expect(session.run(request, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ABORTED' });
    session[Symbol.dispose]();
    await expect(session.run(client.encrypt(sampleOf(1)))).rejects.toMatchObject({ code: 'CLOSED' });
  });

  test('has a limit of sessions', async () => {
    using small = await openServer(planned, { model: MODEL, sessionLimit: 1 });
    using first = await openClient(small.clientPlan);
    using second = await openClient(small.clientPlan);
    using _ = small.openSession(first.evaluationKeys());
    const others = second.evaluationKeys();
    expect(() => small.openSession(others)).toThrow(expect.objectContaining({ code: 'OVERLOADED' }));
  });
});

describe("a client's plan", () => {
  test('is refused when it is insecure, contradicts itself, or has more in it', () => {
    const plan = server.clientPlan;
    const port = plan.inputs[0]!;
    const insecure = { ...plan, bits: plan.bits.map(() => 60) };
    expect(() => parseClientPlan(insecure)).toThrow(expect.objectContaining({ code: 'HE_INSECURE_PARAMETERS' }));
    for (const bad of [
      { ...plan, weights: [1] },
      { ...plan, rotations: [5, 5] },
      { ...plan, rotations: [plan.degree] },
      { ...plan, inputs: [{ ...port, place: port.place.map(() => 0) }] },
      { ...plan, inputs: [{ ...port, place: port.place.slice(1) }] },
      { ...plan, inputs: [{ ...port, period: 3 }] },
      { ...plan, model: 'sha256:0' },
      null,
      [],
    ])
      expect(() => parseClientPlan(bad)).toThrow(expect.objectContaining({ code: 'HE_INVALID_MESSAGE' }));
  });

  test('holds no weight: it is the same for other weights of the same shapes', () => {
    const build = (seed: number): PlannedModel => {
      const p = new Pieces('twin', seed);
      return planInference(p.build(p.dense(p.input(1, 4), 4, 2)), { constants: NO_FILE });
    };
    const [a, b] = [build(1), build(2)].map(({ plan }) => ({ ...plan, plains: [], parameters: 0 }));
    expect({ ...a, steps: a!.steps.length }).toEqual({ ...b, steps: b!.steps.length });
  });

  test('encrypts what fits it, and says what does not', () => {
    expect(() => client.encrypt({})).toThrow(expect.objectContaining({ code: 'INPUT_MISMATCH' }));
    expect(() => client.encrypt({ x: [1, 2] })).toThrow(/36 elements/);
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, 1e9])
      expect(() => client.encrypt({ x: new Array(SIZE).fill(bad) })).toThrow(/not below 2\^20/);
  });

  test('a kept key decrypts as the one that it is of', async () => {
    using again = await openClient(server.clientPlan, { secretKey: client.secretKey() });
    using session = server.openSession(again.evaluationKeys());
    const [got] = Object.values(again.decrypt(await session.run(again.encrypt(sampleOf(1)))).outputs);
    const want = evaluateLayers(planned.layers, sampleOf(1))[planned.layers.outputs[0]!.base]!;
    got!.forEach((value, i) => {
      expect(Math.abs(value - want[i]!)).toBeLessThan(4 * planned.error);
    });
    await expect(openClient(server.clientPlan, { secretKey: new Uint8Array(8) })).rejects.toThrow(
      /secret key of these/,
    );
  });
});
