import { describe, expect, test } from 'vitest';
import { CloisterError, systemTimers } from '../../src/base/index.ts';
import {
  openScheduler,
  PRIORITY_CLASSES,
  type RequestOptions,
  type Scheduler,
  type SchedulerOptionsInput,
  type ServedExecutable,
  type ServeOptionsInput,
} from '../../src/engine/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import {
  type Behaviour,
  endingOf,
  FakeExecutable,
  FakeTimers,
  settled,
  type Watched,
  watch,
} from './scheduler-world.ts';

interface World {
  readonly timers: FakeTimers;
  readonly executable: FakeExecutable;
  readonly scheduler: Scheduler;
  readonly model: ServedExecutable;
  /** Submits request `id`. */
  ask(id: number, options?: RequestOptions & Behaviour & { readonly rows?: number }): Watched;
  /** The ids of each call, in order. */
  started(): readonly (readonly number[])[];
}

function open(options: SchedulerOptionsInput = {}, serve: ServeOptionsInput = {}): World {
  const timers = new FakeTimers();
  const executable = new FakeExecutable(timers);
  const scheduler = openScheduler({ ...options, timers });
  const model = scheduler.serve(executable, serve);
  return {
    ...{ timers, executable, scheduler, model },
    ask(id, { runMs, fails, deaf, rows, ...request } = {}) {
      const behaviour = { ...(runMs !== undefined && { runMs }), ...(fails && { fails }), ...(deaf && { deaf }) };
      return watch(model.run(executable.input(id, behaviour, rows), request));
    },
    started: () => executable.calls.map(({ ids }) => ids),
  };
}

const flat = (world: World): readonly number[] => world.started().flat();

describe('a request', () => {
  test('gets the outputs of the executable', async () => {
    const { model, executable, timers } = open();
    const answer = model.run(executable.input(7));
    await timers.exhaust();
    expect((await answer)['y']?.toArray()).toEqual([[14, 2]]);
  });

  test('gets what the executable throws, and nobody else does', async () => {
    const { ask, timers } = open();
    const [bad, good] = [ask(1, { fails: true }), ask(2)];
    await timers.exhaust();
    expect([bad.ending, good.ending]).toEqual(['thrown by 1', 'ok']);
  });

  test('does not see what the caller does with the record of inputs while it waits', async () => {
    const { model, executable, timers, ask } = open({}, { batch: { maxBatch: 8, checks: 0 } });
    ask(1);
    const inputs: { x: Tensor } = { ...executable.input(2) };
    const answer = model.run(inputs);
    const neighbour = model.run(executable.input(3));
    inputs.x = Tensor.zeros('f64', [5, 2]);
    await timers.exhaust();
    expect((await answer)['y']?.toArray()).toEqual([[4, 2]]);
    expect((await neighbour)['y']?.toArray()).toEqual([[6, 2]]);
  });

  test('may be made from within an executable', async () => {
    const world = open({ limitThreads: 2 });
    let inner: Watched | undefined;
    world.executable.onCall = () => {
      inner ??= world.ask(2);
    };
    const outer = world.ask(1);
    await world.timers.exhaust();
    expect([outer.ending, inner?.ending]).toEqual(['ok', 'ok']);
  });
});

describe('the order', () => {
  test('is that of arrival within a tenant and class', async () => {
    const world = open();
    for (let id = 0; id < 20; id++) world.ask(id);
    await world.timers.exhaust();
    expect(flat(world)).toEqual(Array.from({ length: 20 }, (_, id) => id));
  });

  test('lets no executable that is busy hold up requests of the same tenant for others', async () => {
    const world = open({ limitThreads: 2 }, { limitRuns: 1 });
    const other = world.scheduler.serve(world.executable);
    world.ask(0, { runMs: 5 });
    world.ask(1);
    world.ask(2);
    watch(other.run(world.executable.input(3, { runMs: 5 })));
    watch(other.run(world.executable.input(4)));
    await settled();
    expect(flat(world)).toEqual([0, 3]);
    await world.timers.exhaust();
    expect(flat(world)).toEqual([0, 3, 1, 4, 2]);
  });

  test('is that of arrival among the executables that are not busy, too', async () => {
    const world = open({ limitThreads: 2 }, { limitRuns: 1 });
    world.ask(0, { runMs: 5 });
    world.ask(1);
    const others = [2, 3, 4].map(id => ({ id, model: world.scheduler.serve(world.executable) }));
    for (const { id, model } of others) watch(model.run(world.executable.input(id)));
    await world.timers.exhaust();
    expect(flat(world)).toEqual([0, 2, 3, 4, 1]);
  });

  test('puts more urgent classes first', async () => {
    const world = open();
    world.ask(0);
    world.ask(1, { priority: 'batch' });
    world.ask(2, { priority: 'standard' });
    world.ask(3, { priority: 'interactive' });
    await world.timers.exhaust();
    expect(flat(world)).toEqual([0, 3, 2, 1]);
  });

  test('gives a class that had no turn for its ageing time the next one', async () => {
    const world = open({ ageingMs: { standard: 10, batch: 20 } });
    world.ask(0, { priority: 'interactive' });
    world.ask(1, { priority: 'batch' });
    world.ask(2, { priority: 'batch' });
    for (let id = 100; id < 200; id++) world.ask(id, { priority: 'interactive' });
    await world.timers.exhaust();
    const order = flat(world);
    // A turn is due 20 ms after the one before it; runs take 1 ms, and others that are due no later come first.
    expect([order.indexOf(1), order.indexOf(2)]).toEqual([22, 44]);
  });

  test('leaves interactive work most of the machine where every run is longer than the ageing times', async () => {
    const world = open();
    for (let i = 0; i < 200; i++)
      for (const [k, priority] of PRIORITY_CLASSES.entries()) world.ask(3 * i + k, { priority, runMs: 1_000 });
    await world.timers.advance(200_000);
    const turns = [0, 0, 0];
    for (const id of flat(world)) turns[id % 3]!++;
    expect(turns[0]).toBeGreaterThan(130);
    expect(turns[1]).toBeGreaterThan(20);
    expect(turns[2]).toBeGreaterThan(5);
    await world.timers.exhaust();
  });

  test('shares between tenants by weight', async () => {
    const world = open({ weights: { b: 3 } }, { cost: 1 });
    for (let id = 0; id < 400; id++) world.ask(id, { tenant: id % 2 ? 'b' : 'a' });
    await world.timers.advance(200);
    const odd = flat(world).filter(id => id % 2).length;
    expect(odd / flat(world).length).toBeCloseTo(0.75, 1);
    await world.timers.exhaust();
  });

  test('counts the time that runs of an executable take, where no cost is given', async () => {
    const timers = new FakeTimers();
    const scheduler = openScheduler({ timers });
    const [quick, slow] = [new FakeExecutable(timers), new FakeExecutable(timers)];
    const [quickModel, slowModel] = [scheduler.serve(quick), scheduler.serve(slow)];
    await Promise.all([watch(quickModel.run(quick.input(0, { runMs: 1 }))), timers.advance(5)]);
    await Promise.all([watch(slowModel.run(slow.input(0, { runMs: 10 }))), timers.advance(15)]);
    for (let id = 1; id <= 200; id++) {
      watch(quickModel.run(quick.input(id, { runMs: 1 }), { tenant: 'quick' }));
      watch(slowModel.run(slow.input(id, { runMs: 10 }), { tenant: 'slow' }));
    }
    await timers.advance(400);
    expect(slow.calls.length).toBeLessThan(30);
    expect(quick.calls.length).toBeGreaterThan(150);
    await timers.exhaust();
  });

  test('lets no stream of new tenants hold up the others', async () => {
    const world = open({}, { cost: 1 });
    world.ask(0, { tenant: 'old' });
    const own = [world.ask(1, { tenant: 'old' }), world.ask(2, { tenant: 'old' })];
    for (let id = 10; id < 60; id++) {
      world.ask(id, { tenant: `new-${id}` });
      await world.timers.advance(1);
    }
    expect(own.map(({ ending }) => ending)).toEqual(['ok', 'ok']);
    await world.timers.exhaust();
  });
});

describe('a full queue', () => {
  test('refuses with a code, how many wait, and when to try again', async () => {
    const world = open({ capacity: { standard: 2 } });
    await Promise.all([world.ask(0, { runMs: 8 }), world.timers.advance(10)]);
    for (let id = 1; id <= 3; id++) world.ask(id);
    const refused = world.model.run(world.executable.input(4));
    await expect(refused).rejects.toMatchObject({
      code: 'OVERLOADED',
      detail: { priority: 'standard', waiting: 2, retryAfterMs: 16 },
    });
    const other = world.ask(5, { priority: 'interactive' });
    await world.timers.exhaust();
    expect(other.ending).toBe('ok');
    expect(world.scheduler.statistics().classes.standard).toMatchObject({
      ...{ accepted: 4, waitingPeak: 2, refused: { OVERLOADED: 1 } },
    });
  });

  test('makes room for a tenant that has less waiting, at the cost of the one that has most', async () => {
    const world = open({ capacity: { standard: 4 } });
    world.ask(0);
    const flood = [1, 2, 3, 4].map(id => world.ask(id, { tenant: 'flood' }));
    const guest = world.ask(5, { tenant: 'guest' });
    const again = world.ask(6, { tenant: 'flood' });
    await world.timers.exhaust();
    expect(flood.map(({ ending }) => ending)).toEqual(['ok', 'ok', 'ok', 'OVERLOADED']);
    expect([guest.ending, again.ending]).toEqual(['ok', 'OVERLOADED']);
    expect(world.scheduler.statistics().classes.standard.ended).toMatchObject({ displaced: 1, completed: 5 });
  });
});

describe('a deadline', () => {
  test('ends a request that waits when it passes', async () => {
    const world = open();
    world.ask(0, { runMs: 100 });
    const late = world.ask(1, { timeoutMs: 50 });
    await world.timers.advance(49);
    expect(late.ending).toBeUndefined();
    await world.timers.advance(1);
    expect(late.ending).toBe('DEADLINE_EXCEEDED');
    await world.timers.exhaust();
    expect(flat(world)).toEqual([0]);
  });

  test('cancels a request that runs, and rejects when its inputs are let go of', async () => {
    const world = open();
    const [late, deaf] = [
      world.ask(0, { runMs: 100, timeoutMs: 50 }),
      world.ask(1, { runMs: 100, timeoutMs: 120, deaf: true }),
    ];
    await world.timers.advance(50);
    expect(late.ending).toBe('DEADLINE_EXCEEDED');
    await world.timers.advance(99);
    expect(deaf.ending).toBeUndefined(); // its time was over at 120, its run goes on to 150
    await world.timers.advance(1);
    expect(deaf.ending).toBe('DEADLINE_EXCEEDED');
    expect(world.timers.pending).toBe(0);
  });

  test('is refused at once when no recent run was as short', async () => {
    const world = open();
    world.ask(0, { runMs: 30 });
    await world.timers.advance(30);
    const refused = world.ask(1, { timeoutMs: 29, runMs: 30 });
    await settled();
    expect(refused.ending).toBe('DEADLINE_EXCEEDED');
    const waiting = [world.ask(2, { runMs: 30 }), world.ask(3, { timeoutMs: 55, runMs: 30 })];
    await world.timers.exhaust();
    // When its turn comes, 25 of its 55 ms are left: it is not even started.
    expect(waiting.map(({ ending }) => ending)).toEqual(['ok', 'DEADLINE_EXCEEDED']);
    expect(flat(world)).toEqual([0, 2]);
    // What is known grows old, or one slow run would refuse short deadlines for good.
    await world.timers.advance(10_001);
    const later = world.ask(4, { timeoutMs: 20, runMs: 5 });
    await world.timers.exhaust();
    expect(later.ending).toBe('ok');
  });
});

describe('a cancelled request', () => {
  test('is refused when it was cancelled before', async () => {
    const { ask } = open();
    const refused = ask(1, { signal: AbortSignal.abort() });
    await settled();
    expect(refused.ending).toBe('ABORTED');
  });

  test('leaves the queue, and the place to others', async () => {
    const world = open({ capacity: { standard: 1 } });
    const controller = new AbortController();
    world.ask(0);
    const cancelled = world.ask(1, { signal: controller.signal });
    const refused = world.ask(2);
    controller.abort();
    controller.abort();
    const accepted = world.ask(3);
    await world.timers.exhaust();
    expect([cancelled.ending, refused.ending, accepted.ending]).toEqual(['ABORTED', 'OVERLOADED', 'ok']);
    expect(cancelled.times).toBe(1);
    expect(flat(world)).toEqual([0, 3]);
  });

  test('frees its slot when its run has ended, and says why', async () => {
    const world = open();
    const controller = new AbortController();
    const cancelled = world.model.run(world.executable.input(0, { runMs: 1_000 }), { signal: controller.signal });
    const ended = watch(cancelled);
    const next = world.ask(1);
    await world.timers.advance(10);
    controller.abort('enough');
    await settled();
    expect(ended.ending).toBe('ABORTED');
    await expect(cancelled).rejects.toMatchObject({ cause: 'enough' });
    await world.timers.advance(1);
    expect(next.ending).toBe('ok');
    expect(world.scheduler.statistics().running).toMatchObject({ requests: 0, threads: 0, bytes: 0 });
  });

  test('hears of it even if its run ends well all the same', async () => {
    const world = open();
    const controller = new AbortController();
    const cancelled = world.ask(0, { runMs: 10, deaf: true, signal: controller.signal });
    controller.abort();
    await world.timers.advance(9);
    expect(cancelled.ending).toBeUndefined();
    await world.timers.exhaust();
    expect(cancelled.ending).toBe('ABORTED');
  });

  test('leaves no listener behind', async () => {
    const world = open();
    const controller = new AbortController();
    let listeners = 0;
    const { signal } = controller;
    const [add, remove] = [signal.addEventListener, signal.removeEventListener];
    signal.addEventListener = (...args: Parameters<typeof add>) => {
      listeners++;
      add.apply(signal, args);
    };
    signal.removeEventListener = (...args: Parameters<typeof remove>) => {
      listeners--;
      remove.apply(signal, args);
    };
    for (let id = 0; id < 5; id++) world.ask(id, { signal, timeoutMs: 1_000 });
    await world.timers.advance(10);
    expect(listeners).toBe(0);
    expect(world.timers.pending).toBe(0);
  });
});

describe('admission', () => {
  test('keeps the needs of running requests under the limit', async () => {
    const world = open({ limitBytes: 100, limitThreads: 8 });
    for (let id = 0; id < 6; id++) world.ask(id, { needBytes: 40 });
    await settled();
    expect(flat(world)).toEqual([0, 1]);
    expect(world.scheduler.statistics().running).toMatchObject({ requests: 2, bytes: 80, threads: 2 });
    await world.timers.exhaust();
    expect(world.scheduler.statistics().running).toMatchObject({ bytes: 0, bytesPeak: 80, threadsPeak: 2 });
  });

  test('refuses at once what could never run', async () => {
    const world = open({ limitBytes: 100 });
    await expect(world.model.run(world.executable.input(0), { needBytes: 101 })).rejects.toMatchObject({
      ...{ code: 'OUT_OF_MEMORY', detail: { needBytes: 101, limitBytes: 100 } },
    });
    // Four times the 16 bytes of one row.
    await expect(world.model.run(world.executable.input(0, {}, 7))).rejects.toMatchObject({
      detail: { needBytes: 448 },
    });
    const code = (body: () => unknown): unknown => {
      try {
        return body();
      } catch (error) {
        return (error as CloisterError).code;
      }
    };
    expect(code(() => world.scheduler.serve(world.executable, { threads: 2 }))).toBe('INVALID_ARGUMENT');
  });

  test('takes the need from what the executable says of its memory', async () => {
    const world = open({ limitBytes: 1_000 });
    const memory = { permanentBytes: 5_000, temporaryBytes: 900, scratchBytes: 80, portBytes: 0, blockBytes: 0 };
    const model = world.scheduler.serve({ run: inputs => world.executable.run(inputs), memory });
    watch(model.run(world.executable.input(0)));
    expect(world.scheduler.statistics().running.bytes).toBe(900 + 80 + 16);
    await expect(model.run(world.executable.input(0, {}, 2))).rejects.toMatchObject({ code: 'OUT_OF_MEMORY' });
    await world.timers.exhaust();
  });

  test('lets small requests overtake a large one for a while, then none', async () => {
    const world = open({ limitBytes: 100, limitThreads: 8, overtakeMs: 20 }, { cost: 1 });
    world.ask(0, { needBytes: 30, runMs: 5, tenant: 'small' });
    const large = world.ask(1, { needBytes: 100, tenant: 'large' });
    for (let id = 10; id < 60; id++) {
      world.ask(id, { needBytes: 30, runMs: 5, tenant: 'small' });
      await world.timers.advance(2);
    }
    expect(large.ending).toBe('ok');
    const startedAt = world.executable.calls.find(({ ids }) => ids[0] === 1)!.at;
    expect(startedAt).toBeGreaterThanOrEqual(20);
    expect(startedAt).toBeLessThanOrEqual(20 + 5 + 2);
    await world.timers.exhaust();
  });

  test('lets nobody in before a large one whose patience has ended, not even who would be due first', async () => {
    const world = open({ limitBytes: 100, limitThreads: 8, overtakeMs: 0 });
    world.ask(0, { needBytes: 50, runMs: 10 });
    world.ask(1, { needBytes: 100, cost: 100, tenant: 'large' });
    world.ask(2, { needBytes: 10, cost: 0.001, tenant: 'small' });
    world.ask(3, { needBytes: 10, priority: 'interactive' });
    await world.timers.exhaust();
    expect(flat(world)).toEqual([0, 1, 3, 2]);
  });

  test('goes on when the large one that held the others is cancelled', async () => {
    const world = open({ limitBytes: 100, limitThreads: 8, overtakeMs: 0 }, { cost: 1 });
    const controller = new AbortController();
    world.ask(0, { needBytes: 50, runMs: 50 });
    world.ask(1, { needBytes: 100, signal: controller.signal });
    const held = world.ask(2, { needBytes: 10 });
    await world.timers.advance(10);
    expect(flat(world)).toEqual([0]);
    controller.abort();
    await world.timers.advance(1);
    expect(held.ending).toBe('ok');
    await world.timers.exhaust();
  });
});

describe('closing', () => {
  test('drain refuses new requests and lets those that wait run', async () => {
    const world = open({}, { batch: { maxBatch: 4, maxDelayMs: 1_000, checks: 0 } });
    const accepted = [world.ask(0), world.ask(1, { rows: 9 }), world.ask(2)];
    const drained = watch(world.scheduler.drain());
    const refused = world.ask(3);
    await world.timers.advance(3);
    expect(accepted.map(({ ending }) => ending)).toEqual(['ok', 'ok', 'ok']);
    expect([drained.ending, refused.ending]).toEqual(['ok', 'CLOSED']);
    expect(world.timers.pending).toBe(0);
  });

  test('close refuses those that wait as well, and resolves when those that run have ended', async () => {
    const world = open();
    const [running, waiting] = [world.ask(0, { runMs: 10 }), world.ask(1)];
    const closings = [watch(world.scheduler.close()), watch(world.scheduler.close())];
    await world.timers.advance(9);
    expect([running.ending, waiting.ending, closings[0]!.ending]).toEqual([undefined, 'CLOSED', undefined]);
    await world.timers.advance(1);
    expect(running.ending).toBe('ok');
    expect(closings.map(({ ending }) => ending)).toEqual(['ok', 'ok']);
    expect(world.scheduler.statistics().classes.standard).toMatchObject({ ended: { closed: 1, completed: 1 } });
  });

  test('close after drain cuts it short; nothing to wait for is no wait', async () => {
    const world = open();
    const [, waiting] = [world.ask(0), world.ask(1)];
    const drained = watch(world.scheduler.drain());
    await Promise.all([world.scheduler.close(), world.timers.exhaust()]);
    expect([waiting.ending, drained.ending]).toEqual(['CLOSED', 'ok']);
    await openScheduler().close();
    expect(() => world.scheduler.serve(world.executable)).toThrow(CloisterError);
  });

  test('of one executable leaves the others alone, and does not close it', async () => {
    const world = open({ limitThreads: 2 });
    const other = world.scheduler.serve(world.executable);
    const [running, kept] = [world.ask(0, { runMs: 10 }), watch(other.run(world.executable.input(1)))];
    const [waiting, keptWaiting] = [world.ask(2), watch(other.run(world.executable.input(3)))];
    const closed = watch(world.model.close());
    const refused = world.ask(4);
    await world.timers.advance(9);
    expect([waiting.ending, refused.ending, kept.ending, keptWaiting.ending]).toEqual(['CLOSED', 'CLOSED', 'ok', 'ok']);
    expect([running.ending, closed.ending]).toEqual([undefined, undefined]);
    await world.timers.advance(1);
    expect([running.ending, closed.ending]).toEqual(['ok', 'ok']);
    await world.model[Symbol.asyncDispose]();
  });

  test('within a batch waits for the batch, not for those who left it', async () => {
    const world = open({}, { batch: { maxBatch: 4, checks: 0 } });
    const controller = new AbortController();
    world.ask(0);
    const leaver = world.ask(1, { runMs: 20, signal: controller.signal });
    world.ask(2, { runMs: 20 });
    await world.timers.advance(2);
    controller.abort();
    await settled();
    expect(leaver.ending).toBe('ABORTED');
    const closed = watch(world.model.close());
    await world.timers.advance(17);
    expect(closed.ending).toBeUndefined();
    await world.timers.advance(2);
    expect(closed.ending).toBe('ok');
  });

  test('of the executable itself reaches the requests that still come to it', async () => {
    let closed = false;
    const timers = new FakeTimers();
    const scheduler = openScheduler({ timers });
    const model = scheduler.serve({
      async run() {
        if (closed) throw new CloisterError('CLOSED', 'the model was closed');
        await settled();
        return {};
      },
    });
    const answers = [watch(model.run({})), watch(model.run({}))];
    closed = true;
    for (let i = 0; i < 5; i++) await settled();
    expect(answers.map(({ ending }) => ending)).toEqual(['ok', 'CLOSED']);
  });
});

describe('bad input', () => {
  const { POSITIVE_INFINITY: infinity, NaN: nan } = Number;

  test.each<[string, object]>([
    ['limitBytes: 0', { limitBytes: 0 }],
    ['limitBytes: NaN', { limitBytes: nan }],
    ['limitThreads: 0', { limitThreads: 0 }],
    ['limitThreads: 1.5', { limitThreads: 1.5 }],
    ['capacity of 0', { capacity: { batch: 0 } }],
    ['capacity of an unknown class', { capacity: { urgent: 1 } }],
    ['ageing below 0', { ageingMs: { standard: -1 } }],
    ['ageing of interactive', { ageingMs: { interactive: 1 } }],
    ['an infinite overtakeMs', { overtakeMs: infinity }],
    ['a weight of 0', { weights: { a: 0 } }],
    ['a weight of NaN', { weights: { a: nan } }],
    ['an unknown key', { limitByte: 1 }],
  ])('a scheduler with %s is refused', (_, options) => {
    expect(() => openScheduler(options)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  });

  test.each<[string, object]>([
    ['threads: 0', { threads: 0 }],
    ['limitRuns: 0', { limitRuns: 0 }],
    ['needBytes below 0', { needBytes: -1 }],
    ['a cost of 0', { cost: 0 }],
    ['batches of one row', { batch: { maxBatch: 1 } }],
    ['a delay of NaN', { batch: { maxBatch: 2, maxDelayMs: nan } }],
    ['tenants of another kind', { batch: { maxBatch: 2, tenants: 'mixed' } }],
    ['an unknown key', { maxBatch: 2 }],
  ])('serving with %s is refused', (_, options) => {
    const world = open();
    expect(() => world.scheduler.serve(world.executable, options)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
    );
  });

  test('serving what does not run is refused', () => {
    for (const runnable of [undefined, null, {}, { run: 1 }] as never[])
      expect(() => open().scheduler.serve(runnable)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  });

  test.each<[string, object]>([
    ['timeoutMs: NaN', { timeoutMs: nan }],
    ['timeoutMs: 0', { timeoutMs: 0 }],
    ['timeoutMs below 0', { timeoutMs: -5 }],
    ['timeoutMs as text', { timeoutMs: '5' }],
    ['an empty tenant', { tenant: '' }],
    ['a tenant of 257 characters', { tenant: 'x'.repeat(257) }],
    ['a tenant that is no text', { tenant: 5 }],
    ['an unknown class', { priority: 'urgent' }],
    ['a class that every object has', { priority: 'constructor' }],
    ['a signal that is none', { signal: {} }],
    ['needBytes: NaN', { needBytes: nan }],
    ['needBytes below 0', { needBytes: -1 }],
    ['a cost of NaN', { cost: nan }],
    ['a cost of 0', { cost: 0 }],
    ['an infinite cost', { cost: infinity }],
    ['an unknown key', { timeout: 5 }],
  ])('a request with %s is refused, and counts nowhere', async (_, options) => {
    const world = open();
    expect(await endingOf(world.model.run(world.executable.input(0), options))).toBe('INVALID_ARGUMENT');
    expect(flat(world)).toEqual([]);
    expect(world.scheduler.statistics().classes.standard.accepted).toBe(0);
  });

  test('inputs that are none are refused, or left to the executable', async () => {
    const world = open({}, { batch: { maxBatch: 4, checks: 0 } });
    expect(await endingOf(world.model.run(null as never))).toBe('INVALID_ARGUMENT');
    expect(await endingOf(world.model.run({}, null as never))).toBe('INVALID_ARGUMENT');
    const refusing = world.scheduler.serve({
      run: () => {
        throw new CloisterError('INPUT_MISMATCH', 'not a tensor');
      },
    });
    for (const inputs of [{}, { x: 5 }, { x: null }] as never[])
      expect(await endingOf(refusing.run(inputs))).toBe('INPUT_MISMATCH');
  });

  test('a deadline that never comes is none', async () => {
    const world = open();
    const answers = [world.ask(0, { timeoutMs: infinity }), world.ask(1, { timeoutMs: Number.MAX_VALUE })];
    await world.timers.advance(10);
    expect(answers.map(({ ending }) => ending)).toEqual(['ok', 'ok']);
  });

  test('tenants with the names of what objects have are tenants', async () => {
    const world = open({ weights: { constructor: 2 } });
    const names = ['__proto__', 'constructor', 'toString'];
    const answers = names.map((tenant, id) => world.ask(id, { tenant }));
    await world.timers.exhaust();
    expect(answers.map(({ ending }) => ending)).toEqual(['ok', 'ok', 'ok']);
  });
});

describe('the statistics', () => {
  test('put waits into buckets and name no tenant', async () => {
    const world = open();
    for (let id = 0; id < 3; id++) world.ask(id, { tenant: 'secret', runMs: 7 });
    await world.timers.exhaust();
    const { waits } = world.scheduler.statistics().classes.standard;
    expect(waits).toEqual({ count: 3, sumMs: 21, maxMs: 14, buckets: [1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0] });
    expect(JSON.stringify(world.scheduler.statistics())).not.toContain('secret');
  });

  test('are a copy', () => {
    const { scheduler } = open();
    const before = scheduler.statistics();
    (before.classes.batch.ended as Record<string, number>)['completed'] = 5;
    expect(scheduler.statistics().classes.batch.ended.completed).toBe(0);
  });
});

describe('the timers of the machine', () => {
  test('call back once, later, and not when called off', async () => {
    const started = systemTimers.now();
    let calls = 0;
    const cancel = systemTimers.after(5, () => calls++);
    systemTimers.after(0, () => calls++);
    expect(calls).toBe(0);
    cancel();
    await new Promise<void>(resolve => void systemTimers.after(20, resolve));
    expect(calls).toBe(1);
    expect(systemTimers.now() - started).toBeGreaterThan(15);
  });

  test('do not take a wait of a month for none', async () => {
    let called = false;
    const cancel = systemTimers.after(40 * 86_400_000, () => {
      called = true;
    });
    await new Promise(resolve => setTimeout(resolve, 10));
    expect(called).toBe(false);
    cancel();
  });

  test('serve a scheduler', async () => {
    await using scheduler = openScheduler();
    const { promise: gate, resolve: openGate } = Promise.withResolvers<void>();
    const run = (): Promise<Record<string, Tensor>> => gate.then(() => ({}));
    const model = scheduler.serve({ run }, { batch: { maxBatch: 2, maxDelayMs: 5 } });
    const slow = watch(model.run({ x: Tensor.zeros('f32', [1]) }));
    const late = await endingOf(model.run({ x: Tensor.zeros('f32', [4]) }, { timeoutMs: 20 }));
    expect([slow.ending, late]).toEqual([undefined, 'DEADLINE_EXCEEDED']);
    openGate();
    await scheduler.drain();
    expect(slow.ending).toBe('ok');
  });
});
