/**
 * What holds for every sequence of arrivals: random requests against a scheduler whose time is the test's.
 * @module
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { openScheduler, PRIORITY_CLASSES, type PriorityClass, type RequestOptions } from '../../src/engine/index.ts';
import { FairQueue, type Waiting } from '../../src/engine/scheduler/fair-queue.ts';
import { FakeExecutable, FakeTimers, settled, type Watched, watch } from './scheduler-world.ts';

interface Arrival {
  readonly afterMs: number;
  readonly tenant: string;
  readonly priority: PriorityClass;
  readonly model: number;
  readonly rows: number;
  readonly needBytes: number;
  readonly runMs: number;
  readonly fails: boolean;
  readonly deaf: boolean;
  readonly timeoutMs: number | undefined;
  readonly abortAfterMs: number | undefined;
}

const rarely = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.option(arbitrary, { nil: undefined, freq: 3 });

const arrival: fc.Arbitrary<Arrival> = fc.record({
  afterMs: fc.constantFrom(0, 0, 0, 1, 3, 20),
  tenant: fc.constantFrom('a', 'b', 'c', 'd'),
  priority: fc.constantFrom(...PRIORITY_CLASSES),
  model: fc.integer({ min: 0, max: 2 }),
  rows: fc.integer({ min: 1, max: 4 }),
  needBytes: fc.integer({ min: 0, max: 110 }), // some need more than there is
  runMs: fc.constantFrom(1, 2, 5, 30),
  fails: fc.constantFrom(false, false, false, true),
  deaf: fc.boolean(),
  timeoutMs: rarely(fc.integer({ min: 1, max: 80 })),
  abortAfterMs: rarely(fc.integer({ min: 0, max: 60 })),
});

const LIMIT_BYTES = 100;
const LIMIT_THREADS = 3;
const BATCH_DELAY_MS = 4;

/** Model 0 runs requests alone, two at a time; 1 joins those of a tenant, 2 those of all and uses two threads. */
const SERVED = [
  { threads: 1, limitRuns: 2 },
  { threads: 1, batch: { maxBatch: 5, maxDelayMs: BATCH_DELAY_MS } },
  { threads: 2, batch: { maxBatch: 6, tenants: 'together' } },
] as const;

interface Submitted extends Arrival {
  readonly id: number;
  readonly watched: Watched;
  readonly at: number;
  readonly answer: Promise<unknown>;
}

type Ending = 'run to the end' | 'drain' | 'close';

/** Lets `arrivals` come, and checks at every step what must hold. */
async function play(arrivals: readonly Arrival[], ending: Ending): Promise<void> {
  const timers = new FakeTimers();
  const scheduler = openScheduler({
    ...{ timers, limitBytes: LIMIT_BYTES, limitThreads: LIMIT_THREADS },
    ...{ capacity: { interactive: 4, standard: 5, batch: 6 }, ageingMs: { standard: 5, batch: 10 }, overtakeMs: 8 },
    weights: { a: 2 },
  });
  const requests: Submitted[] = [];
  const started: number[] = [];
  let [bytes, threads] = [0, 0];
  const runs = SERVED.map(() => 0);
  const models = SERVED.map((options, k) => {
    const executable = new FakeExecutable(timers);
    const needOf = (ids: readonly number[]): number => ids.reduce((sum, id) => sum + arrivals[id]!.needBytes, 0);
    executable.onCall = ({ ids }) => {
      bytes += needOf(ids);
      threads += options.threads;
      runs[k]!++;
      if ('limitRuns' in options) expect(runs[k]).toBeLessThanOrEqual(options.limitRuns);
      expect(bytes).toBeLessThanOrEqual(LIMIT_BYTES);
      expect(threads).toBeLessThanOrEqual(LIMIT_THREADS);
      for (const id of ids) {
        expect(arrivals[id]!.model).toBe(k);
        expect(requests[id]?.watched.ending).toBeUndefined(); // nothing runs that has ended
      }
      const first = ids.filter(id => !started.includes(id));
      started.push(...first); // a request that runs again has started before
      if (!('batch' in options)) expect(ids).toHaveLength(1);
      else if (ids.length > 1) {
        const rows = ids.reduce((sum, id) => sum + arrivals[id]!.rows, 0);
        expect(rows).toBeLessThanOrEqual(options.batch.maxBatch);
        expect(new Set(ids.map(id => arrivals[id]!.priority)).size).toBe(1);
        if (k === 1) expect(new Set(ids.map(id => arrivals[id]!.tenant)).size).toBe(1);
      }
    };
    executable.onEnd = ({ ids }) => {
      bytes -= needOf(ids);
      threads -= options.threads;
      runs[k]!--;
    };
    return { executable, model: scheduler.serve(executable, options) };
  });
  const consistent = (): void => {
    const { classes, running } = scheduler.statistics();
    const all = Object.values(classes);
    for (const { accepted, waiting, ended } of all)
      expect(accepted).toBeGreaterThanOrEqual(waiting + Object.values(ended).reduce((a, b) => a + b, 0));
    const open = all.reduce(
      (sum, { accepted, ended }) => sum + accepted - Object.values(ended).reduce((a, b) => a + b, 0),
      0,
    );
    expect(open).toBe(running.requests + all.reduce((sum, { waiting }) => sum + waiting, 0));
    expect(open).toBe(requests.filter(({ watched }) => watched.ending === undefined).length);
    // Nobody waits before an idle machine for anything but company.
    if (running.threads === 0)
      for (const { watched, at } of requests)
        if (watched.ending === undefined) expect(timers.now() - at).toBeLessThan(BATCH_DELAY_MS);
  };
  for (const [id, entry] of arrivals.entries()) {
    await timers.advance(entry.afterMs);
    const { executable, model } = models[entry.model]!;
    const controller = new AbortController();
    const options: RequestOptions = {
      ...{ tenant: entry.tenant, priority: entry.priority, needBytes: entry.needBytes },
      ...(entry.timeoutMs !== undefined && { timeoutMs: entry.timeoutMs }),
      ...(entry.abortAfterMs !== undefined && { signal: controller.signal }),
    };
    const answer = model.run(executable.input(id, entry, entry.rows), options);
    requests[id] = { ...entry, id, watched: watch(answer), at: timers.now(), answer };
    if (entry.abortAfterMs !== undefined) timers.after(entry.abortAfterMs, () => controller.abort());
    await settled();
    consistent();
  }
  const closing = ending === 'close' ? scheduler.close() : ending === 'drain' ? scheduler.drain() : undefined;
  const closed = closing && watch(closing);
  await timers.exhaust();
  consistent();
  if (closed) expect(closed).toEqual({ ending: 'ok', times: 1 });
  expect([bytes, threads]).toEqual([0, 0]);
  expect(scheduler.statistics().running).toMatchObject({ requests: 0, bytes: 0, threads: 0 });
  for (const request of requests) await checkEnding(request, ending, started);
  checkOrder(requests, started);
}

/** Each request ended once, in a way that it had a reason for. */
async function checkEnding(request: Submitted, ending: Ending, started: readonly number[]): Promise<void> {
  const { id, watched, answer } = request;
  const reasons: Readonly<Record<string, boolean>> = {
    ok: !request.fails && started.includes(id),
    [`thrown by ${id}`]: request.fails && started.includes(id),
    ABORTED: request.abortAfterMs !== undefined,
    DEADLINE_EXCEEDED: request.timeoutMs !== undefined,
    OUT_OF_MEMORY: request.needBytes > LIMIT_BYTES,
    OVERLOADED: !started.includes(id),
    CLOSED: ending === 'close' && !started.includes(id),
  };
  expect(watched.times).toBe(1);
  expect(reasons, `request ${id} ended with ${watched.ending}`).toMatchObject({ [watched.ending!]: true });
  if (watched.ending !== 'ok') return;
  const { y } = (await answer) as { y: { toArray(): number[][] } };
  expect(y.toArray()).toEqual(Array.from({ length: request.rows }, (_, i) => [2 * id, 2 * (2 * i + 1)]));
}

/** Of one tenant, class and model, those that came first start first. */
function checkOrder(requests: readonly Submitted[], started: readonly number[]): void {
  const lanes = Map.groupBy(started, id => {
    const { tenant, priority, model } = requests[id]!;
    return `${tenant} ${priority} ${model}`;
  });
  for (const ids of lanes.values()) expect(ids).toEqual(ids.toSorted((a, b) => a - b));
}

describe('for every sequence of arrivals', () => {
  test.each<Ending>(['run to the end', 'drain', 'close'])(
    'limits hold, each request ends once and for a reason, with its own rows, in order (%s)',
    async ending => {
      await fc.assert(
        fc.asyncProperty(fc.array(arrival, { minLength: 1, maxLength: 40 }), arrivals => play(arrivals, ending)),
        { numRuns: 150 },
      );
    },
    120_000,
  );

  test('the same arrivals give the same starts', async () => {
    const run = async (arrivals: readonly Arrival[]): Promise<unknown> => {
      const timers = new FakeTimers();
      const executable = new FakeExecutable(timers);
      const scheduler = openScheduler({ timers, limitThreads: 2 });
      const model = scheduler.serve(executable, { batch: { maxBatch: 6, maxDelayMs: 3 } });
      for (const [id, entry] of arrivals.entries()) {
        await timers.advance(entry.afterMs);
        const { tenant, priority, timeoutMs } = entry;
        const options = { tenant, priority, ...(timeoutMs !== undefined && { timeoutMs }) };
        watch(model.run(executable.input(id, entry, entry.rows), options));
      }
      await timers.exhaust();
      return executable.calls;
    };
    await fc.assert(
      fc.asyncProperty(fc.array(arrival, { maxLength: 20 }), async arrivals => {
        expect(await run(arrivals)).toEqual(await run(arrivals));
      }),
      { numRuns: 30 },
    );
  });
});

describe('between tenants', () => {
  test('that have something waiting all the time, service over weight differs by one request of each at most', async () => {
    const tenant = fc.record({
      weight: fc.constantFrom(0.5, 1, 2, 3),
      costs: fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 30, maxLength: 30 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(tenant, { minLength: 2, maxLength: 5 }), async tenants => {
        const timers = new FakeTimers();
        const executable = new FakeExecutable(timers);
        const weights = Object.fromEntries(tenants.map(({ weight }, k) => [`t${k}`, weight]));
        const scheduler = openScheduler({ timers, weights });
        const model = scheduler.serve(executable);
        watch(model.run(executable.input(-1), { priority: 'interactive' })); // all of them come while it runs
        for (const [k, { costs }] of tenants.entries())
          for (const [i, cost] of costs.entries())
            watch(model.run(executable.input(100 * k + i), { tenant: `t${k}`, cost }));
        const served = tenants.map(() => 0);
        const left = tenants.map(({ costs }) => costs.length);
        await timers.exhaust();
        for (const [id] of executable.calls.slice(1).map(({ ids }) => ids)) {
          const k = Math.floor(id! / 100);
          served[k]! += tenants[k]!.costs[id! % 100]! / tenants[k]!.weight;
          left[k]!--;
          if (left.includes(0)) break; // not all have something waiting any more
          for (const [a, one] of tenants.entries())
            for (const [b, other] of tenants.entries()) {
              const most = Math.max(...one.costs) / one.weight + Math.max(...other.costs) / other.weight;
              expect(Math.abs(served[a]! - served[b]!)).toBeLessThanOrEqual(most + 1e-9);
            }
        }
      }),
      { numRuns: 60 },
    );
  });

  test('a place is found by whoever has less than an equal share of them waiting', () => {
    const steps = fc.array(fc.tuple(fc.integer({ min: 0, max: 5 }), fc.boolean()), { maxLength: 200 });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 20 }), steps, (capacity, sequence) => {
        const queue = new FairQueue<Waiting>(capacity, () => 1);
        const waiting = new Map<string, Waiting[]>();
        for (const [order, [k, serve]] of sequence.entries()) {
          const tenant = `t${k}`;
          if (serve) {
            const [head] = queue.heads();
            if (!head) continue;
            queue.take(head);
            expect(waiting.get(head.tenant)!.shift()).toBe(head);
            continue;
          }
          const request = { tenant, order, cost: 1, lane: 0, group: undefined, rows: 1 };
          const own = waiting.get(tenant) ?? [];
          waiting.set(tenant, own);
          const busy = [...waiting].filter(([name, list]) => name === tenant || list.length > 0).length;
          const dropped = queue.add(request);
          if (dropped === request) expect(own.length + 1).toBeGreaterThan(capacity / busy);
          else own.push(request);
          if (dropped && dropped !== request) {
            const list = waiting.get(dropped.tenant)!;
            expect(list.length).toBeGreaterThan(own.length); // of two that wait alike, the newcomer goes
            expect(list.pop()).toBe(dropped); // the newest of that tenant
          }
          expect(queue.size).toBeLessThanOrEqual(capacity);
        }
        expect(queue.all()).toHaveLength([...waiting.values()].flat().length);
      }),
    );
  });

  test('that come once and never again are not kept', () => {
    const queue = new FairQueue<Waiting>(100, () => 1);
    const add = (tenant: string, order: number): void =>
      void queue.add({ tenant, order, cost: 1, lane: 0, group: 'g', rows: 1 });
    for (let order = 0; order < 5_000; order++) {
      add(`t${order}`, order);
      if (order < 10) continue;
      const [head] = queue.heads();
      queue.take(head!);
      if (order % 3 === 0 && queue.takeCompanion(head!, () => true)) add(`u${order}`, order);
      expect(queue.flows).toBeLessThan(60);
    }
  });
});

describe('a request that waits', () => {
  test('starts within its place times the ageing time of its class, whatever else comes', async () => {
    const scenario = fc.record({
      priority: fc.constantFrom('standard', 'batch'),
      ageing: fc.integer({ min: 5, max: 40 }),
      runs: fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 400, maxLength: 400 }),
      own: fc.integer({ min: 1, max: 6 }),
      others: fc.array(fc.constantFrom(...PRIORITY_CLASSES), { minLength: 1, maxLength: 4 }),
    });
    await fc.assert(
      fc.asyncProperty(scenario, async ({ priority, ageing, runs, own, others }) => {
        const timers = new FakeTimers();
        const executable = new FakeExecutable(timers);
        const scheduler = openScheduler({ timers, ageingMs: { standard: ageing, batch: ageing } });
        const model = scheduler.serve(executable, { cost: 1 });
        const startedAt = new Map<number, number>();
        let next = 1_000;
        const flood = (): void => {
          // Of every class but the one that is looked at, there is always something waiting.
          for (const [k, other] of others.entries())
            if (other !== priority && scheduler.statistics().classes[other].waiting < 2)
              watch(
                model.run(executable.input(next++, { runMs: runs[(next + k) % runs.length]! }), { priority: other }),
              );
        };
        flood();
        executable.onCall = ({ ids, at }) => void startedAt.set(ids[0]!, at);
        executable.onEnd = flood;
        flood();
        for (let id = 0; id < own; id++) watch(model.run(executable.input(id), { priority }));
        for (let step = 0; step < 600 && !startedAt.has(own - 1); step++) await timers.advance(1);
        const closing = scheduler.close();
        await timers.exhaust();
        await closing;
        // At most one turn of each of the two other classes, and the run that goes on, come after it is due; the mean of runs is at most 4.
        const turn = Math.max(ageing, 16 * 4) + 3 * 4;
        for (let id = 0; id < own; id++) expect(startedAt.get(id)).toBeLessThanOrEqual((id + 1) * turn);
      }),
      { numRuns: 40 },
    );
  });
});
