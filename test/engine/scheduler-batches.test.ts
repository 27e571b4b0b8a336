import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CloisterError } from '../../src/base/index.ts';
import {
  type Executable,
  type NamedTensors,
  openScheduler,
  referenceBackend,
  type Scheduler,
  type ServedExecutable,
  type ServeOptionsInput,
} from '../../src/engine/index.ts';
import { agree, joinRows, rowsOf, splitRows } from '../../src/engine/scheduler/batching.ts';
import { type Graph, GraphBuilder } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { FakeExecutable, FakeTimers, settled, watch } from './scheduler-world.ts';

const together = { batch: { maxBatch: 4, maxDelayMs: 10, tenants: 'together', checks: 0 } } as const;

function open(serve: ServeOptionsInput, limits: { readonly limitBytes?: number } = {}) {
  const timers = new FakeTimers();
  const executable = new FakeExecutable(timers);
  const scheduler: Scheduler = openScheduler({ ...limits, timers });
  const model: ServedExecutable = scheduler.serve(executable, serve);
  return { timers, executable, scheduler, model, started: () => executable.calls.map(({ ids }) => ids) };
}

describe('requests for one executable', () => {
  test('wait for others to join them, and no longer than the delay', async () => {
    const { timers, executable, model, started } = open(together);
    watch(model.run(executable.input(0)));
    await timers.advance(6);
    watch(model.run(executable.input(1)));
    await timers.advance(3);
    expect(started()).toEqual([]);
    await timers.advance(1);
    expect(started()).toEqual([[0, 1]]);
    expect(executable.calls[0]!.at).toBe(10);
    await timers.exhaust();
  });

  test('wait no longer once the batch is full; rows count, not requests', async () => {
    const { timers, executable, model, started } = open(together);
    watch(model.run(executable.input(0, {}, 3)));
    await settled();
    expect(started()).toEqual([]);
    watch(model.run(executable.input(1, {}, 2)));
    // Five rows: the first does not wait any more, but the second does not fit beside it, and waits for others.
    await timers.advance(5);
    expect(started()).toEqual([[0]]);
    watch(model.run(executable.input(2, {}, 2)));
    await settled();
    expect(started()).toEqual([[0], [1, 2]]);
    watch(model.run(executable.input(3, {}, 4)));
    await timers.advance(1);
    expect(started()).toEqual([[0], [1, 2], [3]]);
    await timers.exhaust();
  });

  test('spend no more than half of their time waiting for others', async () => {
    const { timers, executable, model } = open(together);
    const tight = watch(model.run(executable.input(0), { timeoutMs: 4 }));
    await timers.exhaust();
    expect([tight.ending, executable.calls[0]!.at]).toEqual(['ok', 2]);
  });

  test('of different tenants stay apart unless the executable was served otherwise', async () => {
    for (const tenants of ['apart', 'together'] as const) {
      const { timers, executable, model, started } = open({
        batch: { maxBatch: 4, maxDelayMs: 10, tenants, checks: 0 },
      });
      for (const [id, tenant] of ['a', 'b', 'a', 'b'].entries()) watch(model.run(executable.input(id), { tenant }));
      await timers.exhaust();
      expect(started()).toEqual(
        tenants === 'apart'
          ? [
              [0, 2],
              [1, 3],
            ]
          : [[0, 1, 2, 3]],
      );
    }
  });

  test('of different classes, dtypes or row shapes stay apart', async () => {
    const timers = new FakeTimers();
    const shapes: string[] = [];
    const scheduler = openScheduler({ timers });
    const model = scheduler.serve(
      {
        async run(inputs) {
          shapes.push(
            Object.entries(inputs)
              .map(([name, { dtype, shape }]) => `${name} ${dtype} ${shape}`)
              .join(),
          );
          return { y: inputs['x']! };
        },
      },
      together,
    );
    const ask = (dtype: 'f32' | 'i32', shape: readonly number[], options = {}): unknown =>
      watch(model.run({ x: Tensor.zeros(dtype, shape) }, options));
    ask('f32', [1, 2]);
    ask('f32', [1, 2]);
    ask('f32', [1, 3]);
    ask('i32', [1, 2]);
    ask('f32', [1, 2, 1]);
    ask('f32', []);
    ask('f32', [0, 2]);
    ask('f32', [1, 2], { priority: 'interactive' });
    await timers.exhaust();
    expect(shapes.sort()).toEqual(
      ['x f32 2,2', 'x f32 1,3', 'x i32 1,2', 'x f32 1,2,1', 'x f32 ', 'x f32 0,2', 'x f32 1,2'].sort(),
    );
  });

  test('join in fair order: a flood of one tenant does not fill the batches of the others', async () => {
    const { timers, executable, model, started } = open({ ...together, cost: 1 });
    for (let id = 0; id < 40; id++) watch(model.run(executable.input(id), { tenant: 'flood' }));
    for (let id = 40; id < 52; id++) watch(model.run(executable.input(id), { tenant: 'guest' }));
    await timers.exhaust();
    // The first batch was on its way before the guest came.
    const guests = started().map(ids => ids.filter(id => id >= 40).length);
    expect(guests.slice(1, 7)).toEqual([2, 2, 2, 2, 2, 2]);
  });

  test('join only as far as there are bytes for all of them', async () => {
    const { timers, executable, model, started, scheduler } = open({ ...together, needBytes: 40 }, { limitBytes: 100 });
    for (let id = 0; id < 4; id++) watch(model.run(executable.input(id)));
    await timers.exhaust();
    expect(started()).toEqual([
      [0, 1],
      [2, 3],
    ]);
    expect(scheduler.statistics().running.bytesPeak).toBe(80);
  });
});

describe('a batch that fails', () => {
  test('runs again one by one: only the request at fault hears of it', async () => {
    const { timers, executable, model, started, scheduler } = open(together);
    const answers = [0, 1, 2, 3].map(id => watch(model.run(executable.input(id, { fails: id === 2 }))));
    await timers.exhaust();
    expect(answers.map(({ ending }) => ending)).toEqual(['ok', 'ok', 'thrown by 2', 'ok']);
    expect(started()).toEqual([[0, 1, 2, 3], [0], [1], [2], [3]]);
    expect(scheduler.statistics().batches).toEqual({ count: 1, requests: 4, rows: 4, retried: 1 });
    expect(scheduler.statistics().running).toMatchObject({ requests: 0, threads: 0, threadsPeak: 1 });
  });

  test('is not run again for those that left meanwhile', async () => {
    const { timers, executable, model, started } = open(together);
    const controller = new AbortController();
    const { signal } = controller;
    const answers = [0, 1, 2].map(id =>
      watch(model.run(executable.input(id, { fails: id === 0, runMs: 5 }), id === 1 ? { signal } : {})),
    );
    const late = watch(model.run(executable.input(3, { runMs: 5 }), { timeoutMs: 12 }));
    await timers.advance(3);
    controller.abort();
    await settled();
    expect(answers[1]!.ending).toBe('ABORTED'); // at once: the batch has a copy of its inputs
    await timers.exhaust();
    expect(started()).toEqual([[0, 1, 2, 3], [0], [2]]);
    expect(late.ending).toBe('DEADLINE_EXCEEDED');
  });

  test('because the outputs have no rows is the last one', async () => {
    const timers = new FakeTimers();
    const scheduler = openScheduler({ timers });
    const sizes: number[] = [];
    const model = scheduler.serve(
      {
        async run(inputs) {
          sizes.push(inputs['x']!.shape[0]!);
          return { sum: Tensor.of('f32', 1) };
        },
      },
      together,
    );
    for (let round = 0; round < 2; round++) {
      const answers = [0, 1, 2, 3].map(() => watch(model.run({ x: Tensor.zeros('f32', [1, 2]) })));
      await timers.exhaust();
      expect(answers.map(({ ending }) => ending)).toEqual(['ok', 'ok', 'ok', 'ok']);
    }
    expect(sizes).toEqual([4, 1, 1, 1, 1, 1, 1, 1, 1]);
    expect(scheduler.statistics().batches.count).toBe(1);
  });

  test('because the inputs of one were given back fails that one alone', async () => {
    const { timers, executable, model } = open(together);
    const lost = Tensor.of('f64', [[9, 1]]);
    const answers = [model.run({ x: lost }), model.run(executable.input(1))].map(watch);
    lost[Symbol.dispose]();
    await timers.exhaust();
    expect(answers.map(({ ending }) => ending)).toEqual(['CLOSED', 'ok']);
  });
});

describe('a batch', () => {
  test('is cancelled when all of its requests have left, not before', async () => {
    const { timers, executable, model, scheduler } = open(together);
    const controllers = [0, 1, 2, 3].map(() => new AbortController());
    const answers = controllers.map(({ signal }, id) =>
      watch(model.run(executable.input(id, { runMs: 1_000 }), { signal })),
    );
    await timers.advance(1);
    for (const controller of controllers.slice(1)) controller.abort();
    await timers.advance(1);
    expect(executable.calls[0]!.endedAt).toBeUndefined();
    controllers[0]!.abort();
    await settled();
    expect(executable.calls[0]!.endedAt).toBe(2);
    expect(answers.map(({ ending }) => ending)).toEqual(Array(4).fill('ABORTED'));
    expect(scheduler.statistics().running).toMatchObject({ requests: 0, threads: 0, bytes: 0 });
    expect(scheduler.statistics().classes.standard.ended).toMatchObject({ aborted: 4, completed: 0 });
  });

  test('hands each request memory of its own, with nothing but its rows', async () => {
    const { timers, executable, model } = open(together);
    const answers = [1, 2].map(id => model.run(executable.input(id, {}, 2), { tenant: `t${id}` }));
    await timers.exhaust();
    const [first, second] = (await Promise.all(answers)).map(outputs => outputs['y']!);
    expect([...(first!.data as Float64Array)]).toEqual([2, 2, 2, 6]);
    expect([...(second!.data as Float64Array)]).toEqual([4, 2, 4, 6]);
    expect(first!.buffer!.byteLength).toBe(32);
    expect(first!.buffer).not.toBe(second!.buffer);
  });
});

describe('the first batches', () => {
  /** Adds up the rows: each row of the output depends on those before it. */
  const mixing = {
    async run({ x }: NamedTensors): Promise<NamedTensors> {
      await settled();
      let sum = 0;
      return {
        y: Tensor.of(
          'f32',
          (x!.values() as number[]).map(value => (sum += value)),
        ),
      };
    },
  };
  const serve = { batch: { maxBatch: 4, tenants: 'together' } } as const;

  test('that mix rows of different requests are noticed before anyone gets such an output', async () => {
    const scheduler = openScheduler({ timers: new FakeTimers(), limitThreads: 2 });
    const model = scheduler.serve(mixing, serve);
    const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => model.run({ x: Tensor.of('f32', [i]) })));
    expect(answers.map(({ y }) => y!.toArray())).toEqual(Array.from({ length: 20 }, (_, i) => [i]));
    expect(scheduler.statistics().batches.count).toBeLessThanOrEqual(2); // one on each thread, and none after that
  });

  test('of a graph with independent rows are checked, and then no more', async () => {
    const { timers, executable, model, started, scheduler } = open(serve);
    const answers = Array.from({ length: 25 }, (_, id) => model.run(executable.input(id)));
    await timers.exhaust();
    expect((await Promise.all(answers)).map(({ y }) => (y!.toArray() as number[][])[0]![0])).toEqual(
      Array.from({ length: 25 }, (_, id) => 2 * id),
    );
    expect(started().map(ids => ids.length)).toEqual([1, ...Array(3).fill([4, 1, 1, 1, 1]).flat(), 4, 4, 4]);
    expect(scheduler.statistics().batches).toMatchObject({ count: 6, retried: 0 });
  });

  test('may differ in rounding, and in nothing else', () => {
    const of = (value: number | string, dtype: 'f32' | 'string' | 'i32' = 'f32') => ({ y: Tensor.of(dtype, [value]) });
    expect(agree(of(1), of(1.0005))).toBe(true);
    expect(agree(of(Number.NaN), of(Number.NaN))).toBe(true);
    expect(agree(of('a', 'string'), of('a', 'string'))).toBe(true);
    expect(agree(of(1), of(1.01))).toBe(false);
    expect(agree(of(1), of(Number.NaN))).toBe(false);
    expect(agree(of(Number.POSITIVE_INFINITY), of(1))).toBe(false);
    expect(agree(of(1), of(1, 'i32'))).toBe(false);
    expect(agree(of('a', 'string'), of('b', 'string'))).toBe(false);
    expect(agree(of(1), { y: Tensor.of('f32', [1, 1]) })).toBe(false);
    expect(agree(of(1), { z: Tensor.of('f32', [1]) })).toBe(false);
  });
});

/** Rows through a product, a normalisation over each row, an activation; and the rows themselves, and a class for each. */
function rowwise(): Graph {
  const b = new GraphBuilder('rowwise', { opset: 17 });
  const x = b.input('x', { dtype: 'f32', shape: ['N', 3] });
  const z = b.input('z', { dtype: 'f32', shape: ['N', 1] });
  const w = b.constant(
    'w',
    Tensor.of('f32', [
      [1, -2],
      [0.5, 4],
      [3, 0.25],
    ]),
  );
  const scaled = b.node({ op: 'Mul', inputs: [x, z] })[0]!;
  const product = b.node({ op: 'MatMul', inputs: [scaled, w] })[0]!;
  b.output(b.node({ op: 'Softmax', inputs: [product], attributes: { axis: -1 }, outputs: ['p'] })[0]!);
  b.output(b.node({ op: 'ArgMax', inputs: [product], attributes: { axis: 1, keepdims: 0 }, outputs: ['class'] })[0]!);
  b.output(b.node({ op: 'Identity', inputs: [x], outputs: ['same'] })[0]!);
  return b.build();
}

const constants = {
  read(): never {
    throw new CloisterError('INVALID_ARGUMENT', 'nothing here lies in a file');
  },
};

const plain = (outputs: NamedTensors): unknown =>
  Object.fromEntries(
    Object.entries(outputs).map(([name, { dtype, shape, ...tensor }]) => [
      name,
      { dtype, shape, data: [...(tensor.data as Float32Array)] },
    ]),
  );

test('on a real graph, batches of any requests give bit for bit what each gives alone', async () => {
  const executable: Executable = referenceBackend.prepare(rowwise(), { constants });
  const value = fc.float({ noNaN: true, min: -100, max: 100 });
  const request = fc.record({
    rows: fc
      .integer({ min: 1, max: 5 })
      .chain(rows => fc.array(fc.tuple(value, value, value, value), { minLength: rows, maxLength: rows })),
    tenant: fc.constantFrom('a', 'b'),
  });
  let batches = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(request, { minLength: 1, maxLength: 12 }),
      fc.constantFrom('apart', 'together'),
      fc.integer({ min: 2, max: 9 }),
      async (requests, tenants, maxBatch) => {
        await using scheduler = openScheduler();
        const model = scheduler.serve(executable, { batch: { maxBatch, tenants, checks: 0 } });
        const inputs = requests.map(({ rows }) => ({
          x: Tensor.of(
            'f32',
            rows.map(row => row.slice(0, 3)),
          ),
          z: Tensor.of(
            'f32',
            rows.map(row => row.slice(3)),
          ),
        }));
        const answers = await Promise.all(inputs.map((input, i) => model.run(input, { tenant: requests[i]!.tenant })));
        for (const [i, answer] of answers.entries())
          expect(plain(answer)).toEqual(plain(executable.runSync(inputs[i]!)));
        batches += scheduler.statistics().batches.count;
      },
    ),
    { numRuns: 60 },
  );
  expect(batches).toBeGreaterThan(20);
});

describe('joining rows', () => {
  const dtypes = ['f32', 'i64', 'bool', 'f16', 'string'] as const;

  test('and splitting them again gives what there was', () => {
    const tensor = fc.record({
      dtype: fc.constantFrom(...dtypes),
      inner: fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 2 }),
      rows: fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 5 }),
    });
    fc.assert(
      fc.property(tensor, ({ dtype, inner, rows }) => {
        const width = inner.reduce((product, dim) => product * dim, 1);
        const nested = (count: number, seed: number): NamedTensors => {
          const flat = Array.from({ length: count * width }, (_, i) =>
            dtype === 'string' ? `s${seed + i}` : (seed + i) % 2,
          );
          return {
            x: width === 0 ? Tensor.zeros(dtype, [count, ...inner]) : Tensor.of(dtype, flat).reshape([count, ...inner]),
          };
        };
        const parts = rows.map((count, i) => nested(count, 100 * i));
        const joined = joinRows(parts);
        expect(joined['x']!.shape).toEqual([rows.reduce((a, b) => a + b, 0), ...inner]);
        const split = splitRows(joined, rows);
        expect(split.map(({ x }) => [x!.dtype, x!.shape, x!.toArray()])).toEqual(
          parts.map(({ x }) => [x!.dtype, x!.shape, x!.toArray()]),
        );
      }),
    );
  });

  test('reads views as they are', () => {
    const whole = Tensor.of('i32', [
      [1, 2],
      [3, 4],
      [5, 6],
    ]);
    const joined = joinRows([
      { x: whole.slice({ axis: 0, start: 1 }) },
      { x: whole.transpose().slice({ axis: 1, end: 2 }) },
    ]);
    expect(joined['x']!.toArray()).toEqual([
      [3, 4],
      [5, 6],
      [1, 3],
      [2, 4],
    ]);
  });

  test('tells forms apart, whatever the names', () => {
    const of = (inputs: NamedTensors): string | undefined => rowsOf(inputs)?.form;
    const [one, two] = [Tensor.zeros('f32', [2, 1]), Tensor.zeros('f32', [2, 2])];
    expect(of({ a: one, b: two })).toBe(of({ b: two, a: one }));
    const forms = [
      { a: one, b: two },
      { a: two, b: one },
      { a: one },
      { 'a" f32 ': one },
      { 'a" f32 1;"b': two },
      { a: one, b: two, c: one },
    ];
    expect(new Set(forms.map(of)).size).toBe(forms.length);
    expect(of({ a: one, b: Tensor.zeros('f32', [3, 1]) })).toBeUndefined();
    expect(of({})).toBeUndefined();
  });
});
