import { describe, expect, test } from 'vitest';
import {
  type Executable,
  joinProfiles,
  type Profile,
  profileRun,
  referenceBackend,
  toTrace,
} from '../../src/engine/index.ts';
import { GraphBuilder, type Node } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';

const constants = { read: () => new Uint8Array() };

function model(): Executable {
  const b = new GraphBuilder('three');
  const x = b.input('x', { dtype: 'f32', shape: ['N'] });
  const two = b.constant('two', Tensor.of('f32', 2));
  const doubled = b.node({ op: 'Mul', inputs: [x, two], name: 'double' })[0]!;
  const sum = b.node({ op: 'Add', inputs: [doubled, x], name: 'sum' })[0]!;
  b.output(b.node({ op: 'Mul', inputs: [sum, sum], outputs: ['y'], name: 'square' })[0]!);
  return referenceBackend.prepare(b.build(), { constants });
}

/** A clock that goes on by one millisecond at each look. */
function ticking(): () => number {
  let time = 100;
  return () => time++;
}

describe('a profile', () => {
  const inputs = { x: Tensor.of('f32', [1, 2, 3]) };

  test('gives each node its own time, and operators their sum', () => {
    const progress: number[] = [];
    const profile = profileRun(model(), inputs, { now: ticking(), runs: 4, onProgress: done => progress.push(done) });
    expect(profile.nodes).toEqual([
      { name: 'double', op: 'Mul', outputs: 'f32[3]', startMs: 1, lastMs: 1, totalMs: 4 },
      { name: 'sum', op: 'Add', outputs: 'f32[3]', startMs: 3, lastMs: 1, totalMs: 4 },
      { name: 'square', op: 'Mul', outputs: 'f32[3]', startMs: 5, lastMs: 1, totalMs: 4 },
    ]);
    expect(profile.operators).toEqual([
      { op: 'Mul', nodes: 2, totalMs: 8 },
      { op: 'Add', nodes: 1, totalMs: 4 },
    ]);
    expect(profile.totalMs).toBe(28);
    expect(progress).toEqual([1, 2, 3, 4]);
  });

  test('runs once more than it measures, unless it is told that the executable has run before', () => {
    for (const [warm, count] of [
      [false, 3],
      [true, 2],
    ] as const) {
      const executable = model();
      let runs = 0;
      const counting: Executable = {
        memory: executable.memory,
        run: async () => ({}),
        runInto: () => {},
        close: () => {},
        runSync(given, options) {
          runs++;
          return executable.runSync(given, options);
        },
      };
      profileRun(counting, inputs, { now: ticking(), runs: 2, warm });
      expect(runs).toBe(count);
    }
  });

  test('names operators with their domain, and the most expensive first', () => {
    const nodeOf = (op: string, domain: string): Node => ({
      name: `${domain}/${op}`,
      op,
      domain,
      opset: 1,
      inputs: [],
      outputs: [],
      attributes: {},
    });
    const nodes = [nodeOf('Gelu', ''), nodeOf('Gelu', 'com.microsoft'), nodeOf('Add', '')];
    let time = 0;
    const executable: Executable = {
      memory: model().memory,
      run: async () => ({}),
      runInto: () => {},
      close: () => {},
      runSync(_, { onNode } = {}) {
        nodes.forEach((node, index) => {
          onNode?.({ kind: 'start', node, index, total: 3 });
          time += [1, 5, 3][index]!;
          onNode?.({ kind: 'end', node, index, total: 3, outputs: [] });
        });
        return {};
      },
    };
    const { operators } = profileRun(executable, {}, { now: () => time });
    expect(operators).toEqual([
      { op: 'com.microsoft.Gelu', nodes: 1, totalMs: 5 },
      { op: 'Add', nodes: 1, totalMs: 3 },
      { op: 'Gelu', nodes: 1, totalMs: 1 },
    ]);
  });

  test('is joined with another of the same nodes only', () => {
    const rows = (...names: readonly (readonly [name: string, op: string])[]): Profile => {
      const nodes = names.map(([name, op]) => ({ name, op, outputs: '', startMs: 0, lastMs: 2, totalMs: 2 }));
      return { runs: 1, totalMs: 3, nodes, operators: [] };
    };
    const base = rows(['a', 'Add'], ['b', 'Mul']);
    const { runs, totalMs, nodes } = joinProfiles(base, base);
    expect([runs, totalMs, nodes.map(node => node.totalMs)]).toEqual([2, 6, [4, 4]]);
    for (const other of [
      rows(['a', 'Add']),
      rows(['a', 'Add'], ['b', 'Mul'], ['c', 'Neg']),
      rows(['a', 'Add'], ['b', 'Div']),
      rows(['a', 'Add'], ['c', 'Mul']),
    ]) {
      expect(() => joinProfiles(base, other)).toThrow(/different nodes/);
    }
  });

  test('becomes complete events in microseconds, in order and not overlapping', () => {
    const { traceEvents } = toTrace(profileRun(model(), inputs, { now: () => performance.now() }));
    expect(traceEvents.map(event => event.args['node'])).toEqual(['double', 'sum', 'square']);
    traceEvents.forEach((event, i) => {
      const next = traceEvents[i + 1];
      expect(event.ph).toBe('X');
      expect(event.dur).toBeGreaterThanOrEqual(0);
      if (next) expect(event.ts + event.dur).toBeLessThanOrEqual(next.ts);
    });
    expect(JSON.parse(JSON.stringify({ traceEvents }))).toEqual({ traceEvents });
  });

  test('holds no elements of inputs or outputs', () => {
    const secret = 1234567.5;
    const profile = profileRun(model(), { x: Tensor.of('f32', [secret]) }, { now: ticking() });
    expect(JSON.stringify([profile, toTrace(profile)])).not.toContain(String(secret));
  });

  test('refuses what cannot be measured, and stops when it is told to', () => {
    const silent: Executable = {
      ...model(),
      memory: model().memory,
      runSync: () => ({}),
      run: async () => ({}),
      runInto: () => {},
      close: () => {},
    };
    expect(() => profileRun(silent, inputs, { now: ticking() })).toThrow(/runs as one call/);
    expect(() => profileRun(model(), inputs, { now: ticking(), runs: 0 })).toThrow(/positive integer/);
    expect(() => profileRun(model(), inputs, { now: ticking(), signal: AbortSignal.abort() })).toThrow(/cancelled/);
  });
});

describe('a run', () => {
  test('tells of each node before and after it, and ends with what the observer throws', async () => {
    const seen: string[] = [];
    await model().run(
      { x: Tensor.of('f32', [1]) },
      { onNode: ({ kind, node, index, total }) => seen.push(`${kind} ${node.name} ${index}/${total}`) },
    );
    expect(seen).toEqual([
      'start double 0/3',
      'end double 0/3',
      'start sum 1/3',
      'end sum 1/3',
      'start square 2/3',
      'end square 2/3',
    ]);
    const stop = new Error('enough');
    const running = model().run(
      { x: Tensor.of('f32', [1]) },
      {
        onNode: () => {
          throw stop;
        },
      },
    );
    await expect(running).rejects.toBe(stop);
  });

  test('computes what depends on constants alone once, when the model is prepared', () => {
    const b = new GraphBuilder('folded');
    const x = b.input('x', { dtype: 'f32', shape: [2] });
    const w = b.constant('w', Tensor.of('f32', [3, 4]));
    const scaled = b.node({ op: 'Mul', inputs: [w, w], name: 'setup' })[0]!;
    b.output(b.node({ op: 'Add', inputs: [x, scaled], outputs: ['y'], name: 'run' })[0]!);
    b.output(scaled);
    const executable = referenceBackend.prepare(b.build(), { constants });
    const seen: string[] = [];
    const run = (): Readonly<Record<string, Tensor>> =>
      executable.runSync({ x: Tensor.of('f32', [1, 1]) }, { onNode: ({ node }) => seen.push(node.name) });
    const first = run();
    expect(first['y']?.toArray()).toEqual([10, 17]);
    expect(new Set(seen)).toEqual(new Set(['run']));
    (first['setup:0'] as Tensor<'f32'>).data.fill(0);
    expect(run()['setup:0']?.toArray()).toEqual([9, 16]);
  });
});
