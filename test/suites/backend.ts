/**
 * What every {@link Backend} promises, as tests. An implementation runs it with a function that opens it.
 * @module
 */
import { afterEach, describe, expect, it } from 'vitest';
import { isCloisterError } from '../../src/base/index.ts';
import type { Backend, Executable, NodeEvent, PrepareOptions } from '../../src/engine/index.ts';
import { type Graph, GraphBuilder } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';

/** What the suite may be told. */
export interface BackendSuiteOptions {
  /** Whether the backend plans at sizes of its own choosing only; symbolic sizes are then left out. */
  readonly fixedSizes?: boolean;
}

const constants = {
  read(): never {
    throw new Error('nothing here lies in a file');
  },
};

/** `y = relu(x w + b)`, with x of (rows, 3) and y of (rows, 2); and x itself as a second output. */
function affine(rows: number | string): Graph {
  const b = new GraphBuilder('affine', { opset: 17 });
  const x = b.input('x', { dtype: 'f32', shape: [rows, 3] });
  const w = b.constant(
    'w',
    Tensor.of('f32', [
      [1, 2],
      [3, 4],
      [5, 6],
    ]),
  );
  const bias = b.constant('b', Tensor.of('f32', [-20, 1]));
  const product = b.node({ op: 'MatMul', inputs: [x, w] })[0]!;
  const sum = b.node({ op: 'Add', inputs: [product, bias] })[0]!;
  b.output(b.node({ op: 'Relu', inputs: [sum], outputs: ['y'] })[0]!);
  b.output(b.node({ op: 'Identity', inputs: [x], outputs: ['same'] })[0]!);
  return b.build();
}

/** Runs the contract on the backend that `open` gives. */
export function backendSuite(name: string, open: () => Backend, options: BackendSuiteOptions = {}): void {
  describe(`backend contract: ${name}`, () => {
    const held: Executable[] = [];
    const prepare = (graph: Graph, more: Partial<PrepareOptions> = {}): Executable => {
      const executable = open().prepare(graph, { constants, ...more });
      held.push(executable);
      return executable;
    };
    afterEach(() => {
      for (const executable of held.splice(0)) executable.close();
    });
    const x = Tensor.of('f32', [
      [1, 2, 3],
      [0, 0, 1],
    ]);
    const code = (body: () => unknown): string | undefined => {
      try {
        body();
      } catch (error) {
        return isCloisterError(error) ? error.code : String(error);
      }
      return undefined;
    };

    it('computes the same on the calling thread and off it', async () => {
      const executable = prepare(affine(2));
      const expected = {
        y: [
          [2, 29],
          [0, 7],
        ],
        same: [
          [1, 2, 3],
          [0, 0, 1],
        ],
      };
      const sync = executable.runSync({ x });
      expect(sync['y']!.toArray()).toEqual(expected.y);
      expect(sync['same']!.toArray()).toEqual(expected.same);
      const { y, same } = await executable.run({ x });
      expect(y!.toArray()).toEqual(expected.y);
      expect(same!.toArray()).toEqual(expected.same);
      expect(Object.keys(sync)).toEqual(['y', 'same']);
    });

    it('reads views as what they show', () => {
      const wide = Tensor.of('f32', [
        [9, 1, 9, 2, 9, 3],
        [9, 0, 9, 0, 9, 1],
      ]);
      const view = wide.slice({ axis: 1, start: 1, step: 2 });
      expect(prepare(affine(2)).runSync({ x: view })['y']!.toArray()).toEqual([
        [2, 29],
        [0, 7],
      ]);
    });

    it('gives outputs to the caller and leaves inputs alone', async () => {
      const executable = prepare(affine(2));
      const first = executable.runSync({ x });
      for (const output of Object.values(first)) (output.data as Float32Array).fill(99);
      expect(x.toArray()).toEqual([
        [1, 2, 3],
        [0, 0, 1],
      ]);
      const second = await executable.run({ x });
      expect(second['y']!.toArray()).toEqual([
        [2, 29],
        [0, 7],
      ]);
      expect((first['y']!.data as Float32Array).every(value => value === 99)).toBe(true);
    });

    it('does not see what is written to an input after run was called', async () => {
      const mine = x.clone();
      const running = prepare(affine(2)).run({ x: mine });
      const before = (await running)['y']!.toArray();
      mine.data.fill(7);
      expect(before).toEqual([
        [2, 29],
        [0, 7],
      ]);
    });

    it('repeats itself bit for bit, and many runs at once agree', async () => {
      const executable = prepare(affine(2));
      const inputs = Array.from({ length: 32 }, (_, i) => ({
        x: Tensor.of('f32', [
          [i, 0.1, 3],
          [1 / (i + 1), 2, i],
        ]),
      }));
      const once = inputs.map(input => executable.runSync(input)['y']!.toBytes());
      const together = await Promise.all(inputs.map(async input => (await executable.run(input))['y']!.toBytes()));
      expect(together).toEqual(once);
    });

    it.skipIf(options.fixedSizes === true)('runs at every size of a symbolic dimension', () => {
      const executable = prepare(affine('rows'));
      for (const rows of [1, 3, 2, 5, 4, 7, 6, 1]) {
        const y = executable.runSync({ x: Tensor.zeros('f32', [rows, 3]) })['y']!;
        expect(y.toArray()).toEqual(Array.from({ length: rows }, () => [0, 1]));
      }
    });

    it.each<[string, Record<string, Tensor>, string]>([
      ['a missing input', {}, 'INPUT_MISMATCH'],
      ['an unknown input', { x, z: x }, 'INPUT_MISMATCH'],
      ['an input that only the prototype has', Object.create({ x }), 'INPUT_MISMATCH'],
      ['something that is no tensor', { x: [[1, 2, 3]] as unknown as Tensor }, 'INPUT_MISMATCH'],
      ['another dtype', { x: x.cast('f64') }, 'DTYPE_MISMATCH'],
      ['another size', { x: Tensor.zeros('f32', [2, 4]) }, 'SHAPE_MISMATCH'],
      ['another rank', { x: Tensor.zeros('f32', [6]) }, 'SHAPE_MISMATCH'],
    ])('refuses %s before it computes', async (_what, inputs, expected) => {
      const executable = prepare(affine(2));
      expect(code(() => executable.runSync(inputs))).toBe(expected);
      await expect(executable.run(inputs)).rejects.toMatchObject({ code: expected });
      expect(executable.runSync({ x })['y']!.toArray()).toEqual([
        [2, 29],
        [0, 7],
      ]);
    });

    it('refuses a size that contradicts the one it was prepared for', () => {
      if (options.fixedSizes) return expect(options.fixedSizes).toBe(true);
      const executable = prepare(affine('rows'), { dims: { rows: 2 } });
      expect(code(() => executable.runSync({ x: Tensor.zeros('f32', [3, 3]) }))).toBe('SHAPE_MISMATCH');
      return expect(executable.runSync({ x })['y']!.shape).toEqual([2, 2]);
    });

    it('refuses an aborted run', async () => {
      const executable = prepare(affine(2));
      await expect(executable.run({ x }, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ABORTED' });
      const controller = new AbortController();
      const running = executable.run({ x }, { signal: controller.signal });
      controller.abort();
      await expect(running).rejects.toMatchObject({ code: 'ABORTED' });
    });

    it('tells of nodes in the order in which they run, or of none; what is thrown there ends the run', async () => {
      const executable = prepare(affine(2));
      const told: NodeEvent[] = [];
      const onNode = (event: NodeEvent): void => void told.push(event);
      const { y } = executable.runSync({ x }, { onNode });
      const sync = told.splice(0);
      const later = await executable.run({ x }, { onNode });
      expect(later['y']!.toBytes()).toEqual(y!.toBytes());
      const short = (events: readonly NodeEvent[]) => events.map(({ kind, index, node }) => [kind, index, node.op]);
      expect(short(told)).toEqual(short(sync));
      const ended = sync.filter(({ kind }) => kind === 'end');
      sync.forEach((event, i) => {
        expect(event).toMatchObject({
          kind: i % 2 === 0 ? 'start' : 'end',
          index: Math.floor(i / 2),
          total: ended.length,
        });
      });
      expect(sync).toHaveLength(2 * ended.length);
      for (const { node, outputs } of ended) expect(outputs).toHaveLength(node.outputs.length);
      if (ended.length === 0) return;
      const stop = (): never => {
        throw new RangeError('enough');
      };
      expect(() => executable.runSync({ x }, { onNode: stop })).toThrow(RangeError);
      await expect(executable.run({ x }, { onNode: stop })).rejects.toThrow(RangeError);
      expect(executable.runSync({ x })['y']!.toBytes()).toEqual(y!.toBytes());
    });

    it('stops at the next node when it is cancelled from one', async () => {
      const executable = prepare(affine(2));
      const controller = new AbortController();
      let nodes = 0;
      const onNode = ({ kind }: NodeEvent): void => {
        if (kind === 'start') nodes++;
        controller.abort();
      };
      const [result] = await Promise.allSettled([executable.run({ x }, { signal: controller.signal, onNode })]);
      // A backend that runs a whole program in one call has no nodes to tell of.
      if (nodes === 0) expect(result.status).toBe('fulfilled');
      else {
        expect(nodes).toBe(1);
        expect(result).toMatchObject({ status: 'rejected', reason: { code: 'ABORTED' } });
      }
    });

    it('names the outputs in the order of the graph, each in memory of its own', () => {
      const b = new GraphBuilder('aliases', { opset: 17 });
      const id = b.input('x', { dtype: 'f32', shape: [2, 3] });
      b.output(b.node({ op: 'Identity', inputs: [id], outputs: ['b'] })[0]!);
      b.output(b.node({ op: 'Identity', inputs: [id], outputs: ['a'] })[0]!);
      const outputs = prepare(b.build()).runSync({ x });
      expect(Object.keys(outputs)).toEqual(['b', 'a']);
      (outputs['b']!.data as Float32Array).fill(99);
      expect(outputs['a']!.toArray()).toEqual(x.toArray());
    });

    it('refuses a graph with an operator that nobody has, with the node named, when it is prepared', () => {
      const graph = affine(2);
      const strange = {
        ...graph,
        nodes: graph.nodes.map((node, i) => (i === 1 ? { ...node, op: 'Strange', name: 'odd one' } : node)),
      };
      expect(() => prepare(strange)).toThrow(/odd one/);
      expect(code(() => prepare(strange))).toBe('UNSUPPORTED_MODEL');
    });

    it('refuses everything once closed, and closing twice is harmless', async () => {
      const executable = prepare(affine(2));
      executable.runSync({ x });
      executable.close();
      executable.close();
      expect(code(() => executable.runSync({ x }))).toBe('CLOSED');
      await expect(executable.run({ x })).rejects.toMatchObject({ code: 'CLOSED' });
    });

    it('survives being closed while it runs', async () => {
      const executable = prepare(affine(2));
      const running = Array.from({ length: 8 }, () => executable.run({ x }));
      executable.close();
      for (const result of await Promise.allSettled(running)) {
        if (result.status === 'fulfilled')
          expect(result.value['y']!.toArray()).toEqual([
            [2, 29],
            [0, 7],
          ]);
        else expect(result.reason).toMatchObject({ code: 'CLOSED' });
      }
    });

    it('refuses a memory limit that the weights alone pass', () => {
      expect(code(() => prepare(affine(2), { limitBytes: 16 }))).toBe('OUT_OF_MEMORY');
    });

    it('says what it holds', () => {
      const { memory } = prepare(affine(2));
      expect(memory.permanentBytes).toBeGreaterThanOrEqual(8);
      expect(memory.temporaryBytes).toBeGreaterThanOrEqual(0);
      expect(memory.scratchBytes).toBeGreaterThanOrEqual(0);
    });
  });
}
