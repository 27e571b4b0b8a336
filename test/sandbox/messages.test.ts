/**
 * Messages of a guest during a call, and the credit that they are held to.
 */
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { type LimitsInput, parseLimits } from '../../sandbox/limits.ts';
import { outcomeOf } from '../../sandbox/outcome.ts';
import { MAX_MESSAGE_BYTES } from '../../sandbox/worker/credit.ts';
import { WorkerProcess } from '../../sandbox/worker/process.ts';
import { type CloisterError, isCloisterError } from '../../src/base/index.ts';

const TALKER = fileURLToPath(new URL('talking-worker.ts', import.meta.url));
/** Frames by hand: what an honest worker would not send. */
const LIAR = `
  const fs = require('node:fs');
  const say = (id, text) => {
    const b = Buffer.alloc(16 + text.length);
    b.write('CLF1'); b.writeUInt32LE(id, 4); b.writeUInt32LE(text.length, 8); b.write(text, 16);
    for (let at = 0; at < b.length;) at += fs.writeSync(3, b, at);
  };
  say(0, '{}'); fs.readSync(3, Buffer.alloc(65536));
`;

let worker: WorkerProcess | undefined;
afterEach(() => worker?.close());

function talker(): WorkerProcess {
  worker = new WorkerProcess({ file: process.execPath, args: ['--no-warnings', TALKER] });
  return worker;
}

function liar(script: string): WorkerProcess {
  worker = new WorkerProcess({ file: process.execPath, args: ['-e', LIAR + script] });
  return worker;
}

const says = (messages: number, text = 'x') => ({ says: { messages, text } });
const limited = (limits: LimitsInput) => parseLimits({ wallMs: 20_000, ...limits });
const sleep = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms));

async function failure(work: Promise<unknown>): Promise<CloisterError> {
  const error = await work.then(
    () => undefined,
    (cause: unknown) => cause,
  );
  if (!isCloisterError(error)) throw new Error(`expected a CloisterError, got ${String(error)}`);
  return error;
}

describe('messages of a call', () => {
  it('come in order and before its answer, many windows of them', async () => {
    const seen: unknown[] = [];
    const request = talker().request(says(900), [], limited({}), message => void seen.push(message));
    expect((await request).header).toEqual({});
    expect(seen).toEqual(Array.from({ length: 900 }, (_, i) => ({ i, text: 'x' })));
  });

  it('hold the worker back until they were dealt with, and the answer too', async () => {
    let underWay = 0;
    let most = 0;
    let done = 0;
    const request = talker().request(says(400), [], limited({}), async () => {
      most = Math.max(most, ++underWay);
      await sleep(5);
      underWay--;
      done++;
    });
    await request;
    expect(done).toBe(400);
    expect(most).toBeLessThanOrEqual(64);
  });

  it('may be followed by other calls at once, each with its own', async () => {
    const one = talker();
    const seen: number[][] = [[], [], []];
    const calls = seen.map((list, i) =>
      i === 1
        ? one.request(says(0), [], limited({}))
        : one.request(says(200 + i), [], limited({}), message => void list.push((message as { i: number }).i)),
    );
    await Promise.all(calls);
    expect(seen.map(list => list.length)).toEqual([200, 0, 202]);
  });

  it('are refused when they are larger than one may be, and the call goes on', async () => {
    const big = 'x'.repeat(MAX_MESSAGE_BYTES);
    const { header } = await talker().request(says(1, big), [], limited({}), () => {});
    expect(header).toEqual({ refused: 'INVALID_ARGUMENT' });
    const fits = 'x'.repeat(MAX_MESSAGE_BYTES - 30);
    const answer = await worker!.request(says(9, fits), [], limited({}), () => {});
    expect(answer.header).toEqual({});
  });

  it('whose taker throws end the call with what it threw, and the worker with it', async () => {
    const thrown = new Error('no room');
    const taker = (): void => {
      throw thrown;
    };
    const request = talker().request(says(3), [], limited({}), taker);
    expect(await request.catch((error: unknown) => error)).toBe(thrown);
    await worker!.exited;
    expect(worker!.isAlive).toBe(false);
  });

  it('whose taker throws late are no answer', async () => {
    const thrown = new Error('no room');
    const taker = async (): Promise<void> => {
      await sleep(20);
      throw thrown;
    };
    const request = talker().request(says(1), [], limited({}), taker);
    expect(await request.catch((error: unknown) => error)).toBe(thrown);
  });
});

describe('a guest that floods', () => {
  it.each([
    ['messages', { messages: 150 }],
    ['messageBytes', { messageBytes: 20_000 }],
  ] as const)('is stopped at %s, having been heard up to there', async (limit, limits) => {
    const heard = { messages: 0, messageBytes: 0 };
    const take = (message: unknown): void => {
      heard.messages++;
      heard.messageBytes += JSON.stringify({ message }).length;
    };
    const error = await failure(talker().request(says(1e9, 'x'.repeat(100)), [], limited(limits), take));
    expect(error).toMatchObject({ code: 'LIMIT_EXCEEDED', detail: { limit } });
    expect(outcomeOf(error)).toBe(`limit:${limit}`);
    const { [limit]: allowed } = limited(limits);
    const next = limit === 'messages' ? 1 : 130;
    expect(heard[limit]).toBeLessThanOrEqual(allowed);
    expect(heard[limit] + next).toBeGreaterThan(allowed);
    await worker!.exited;
  });

  it('may send nothing where the call takes no messages', async () => {
    const error = await failure(talker().request(says(1), [], limited({})));
    expect(error).toMatchObject({ code: 'LIMIT_EXCEEDED', detail: { limit: 'messages', allowed: 0 } });
  });

  it('is held, and does not make the supervisor grow, however slow that is', async () => {
    const before = process.memoryUsage().rss;
    const limits = limited({ wallMs: 1_500, messages: 1_000_000, messageBytes: 2 ** 31 });
    const request = talker().request(says(1e9, 'x'.repeat(60_000)), [], limits, () => sleep(60_000));
    expect((await failure(request)).detail).toMatchObject({ limit: 'wallMs' });
    expect(process.memoryUsage().rss - before).toBeLessThan(20 * 1_048_576);
  });
});

describe('a worker that lies about messages', () => {
  it.each([
    ['without credit', 'for (let i = 0; i < 2000; i++) say(1, \'{"message":1}\')'],
    ['that are too large', `say(1, '{"message":"' + 'x'.repeat(${MAX_MESSAGE_BYTES}) + '"}')`],
    ['in a call that waits behind another', 'say(2, \'{"message":1}\')'],
    ['in a call that nobody made', 'say(9, \'{"message":1}\')'],
    ['before its greeting is over', 'say(0, \'{"message":1}\')'],
  ])('%s is ended', async (_, script) => {
    let heard = 0;
    const take = (): Promise<void> => {
      heard++;
      return sleep(60_000);
    };
    const one = liar(`${script}; setTimeout(() => {}, 10_000)`);
    // The second waits behind the first, and was not even sent.
    const calls = [0, 1].map(() => one.request({}, [], limited({}), take));
    const [error] = await Promise.all(calls.map(failure));
    expect(error).toMatchObject({ code: 'WORKER_CRASHED' });
    expect(error!.message).toContain('broke the protocol');
    expect(heard).toBeLessThanOrEqual(64);
  });

  it('in a call that takes none is ended', async () => {
    const one = liar('say(1, \'{"message":1}\'); setTimeout(() => {}, 10_000)');
    const error = await failure(one.request({}, [], limited({})));
    expect(error.message).toContain('broke the protocol');
  });

  it('and floods without end does not make the supervisor grow', async () => {
    const before = process.memoryUsage().rss;
    const flood = liar("const m = '{\"message\":\"' + 'x'.repeat(50_000) + '\"}'; for (;;) say(1, m)");
    const error = await failure(flood.request({}, [], limited({}), () => sleep(60_000)));
    expect(error.message).toContain('broke the protocol');
    expect(process.memoryUsage().rss - before).toBeLessThan(20 * 1_048_576);
  });
});
