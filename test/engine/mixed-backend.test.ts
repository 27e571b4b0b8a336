import { createRequire } from 'node:module';
import { describe, expect, test } from 'vitest';
import { loadBinding, nativeStatus, openProgramHost } from '../../native/index.ts';
import { CloisterError } from '../../src/base/index.ts';
import {
  assignNodes,
  type Backend,
  type CostTable,
  cutSegments,
  measureCosts,
  mixedBackend,
  nativeBackend,
  type OnnxRuntimeModule,
  onnxRuntimeBackend,
  referenceBackend,
} from '../../src/engine/index.ts';
import { writeOnnx } from '../../src/formats/index.ts';
import { type Graph, GraphBuilder, type Node } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { filled, noFile, Sketch } from '../native/program-seeds.ts';
import { backendSuite } from '../suites/backend.ts';

const options = { constants: noFile };

/** A backend that runs the operators of a list only, on the reference backend. */
const onlyOps = (name: string, ...ops: readonly string[]): Backend => ({
  name,
  supports: ({ op }: Node) => ops.includes(op),
  prepare: (graph, prepare) => {
    expect(graph.nodes.map(({ op }) => op).filter(op => !ops.includes(op))).toEqual([]);
    return referenceBackend.prepare(graph, prepare);
  },
});

/** y = relu(tanh(x w) + x), and z = exp(tanh(x w)). */
function branching(rows: number | string = 3): Graph {
  const g = new Sketch('branching');
  const x = g.input('x', [rows, 4]);
  const t = g.op('Tanh', [g.op('MatMul', [x, g.weight(4, 4)])]);
  return g.build(g.op('Relu', [g.op('Add', [t, x])]), g.op('Exp', [t]));
}

backendSuite('mixed', () => mixedBackend([onlyOps('first', 'Add', 'Relu', 'Mul'), referenceBackend]));

describe('the mixed backend', () => {
  const x = filled([3, 4], 7);

  test('computes what one backend computes, wherever the nodes lie', async () => {
    const graph = branching();
    const wanted = Object.values(referenceBackend.prepare(graph, options).runSync({ x })).map(t => t.toBytes());
    for (const ops of [['Tanh'], ['MatMul', 'Exp'], ['Add', 'Relu'], ['Tanh', 'Relu', 'Exp'], []]) {
      const model = mixedBackend([onlyOps('some', ...ops), referenceBackend]).prepare(graph, options);
      expect(Object.values(model.runSync({ x })).map(t => t.toBytes())).toEqual(wanted);
      expect(Object.values(await model.run({ x })).map(t => t.toBytes())).toEqual(wanted);
      expect(new Set(model.choices.map(({ backend }) => backend.name))).toEqual(
        new Set(ops.length > 0 ? ['some', 'reference'] : ['reference']),
      );
    }
  });

  test('follows sizes that runs bring', () => {
    const model = mixedBackend([onlyOps('some', 'Tanh'), referenceBackend]).prepare(branching('N'), options);
    for (const rows of [1, 5, 2, 7, 3, 1]) {
      const [y] = Object.values(model.runSync({ x: filled([rows, 4], rows) }));
      expect(y!.shape).toEqual([rows, 4]);
    }
  });

  test('an output that is an input is a tensor of its own', () => {
    const b = new GraphBuilder('through', { opset: 17 });
    const id = b.input('x', { dtype: 'f32', shape: [2] });
    b.output(id);
    b.output(b.node({ op: 'Neg', inputs: [id], outputs: ['y'] })[0]!);
    const given = Tensor.of('f32', [1, 2]);
    const { x: same, y } = mixedBackend([referenceBackend]).prepare(b.build(), options).runSync({ x: given });
    expect(same!.toArray()).toEqual([1, 2]);
    expect(same!.buffer).not.toBe(given.buffer);
    expect(y!.toArray()).toEqual([-1, -2]);
  });

  test('an output that is a constant of the graph is a copy of it', () => {
    const b = new GraphBuilder('constant', { opset: 17 });
    const constant = Tensor.of('f32', [1, 2]);
    const id = b.constant('c', constant);
    b.output(id);
    b.output(b.node({ op: 'Neg', inputs: [b.input('x', { dtype: 'f32', shape: [2] })], outputs: ['y'] })[0]!);
    const { c } = mixedBackend([referenceBackend]).prepare(b.build(), options).runSync({ x: constant });
    expect(c!.toArray()).toEqual([1, 2]);
    expect(c!.buffer).not.toBe(constant.buffer);
  });

  test('closes what it drops: for old sizes, with itself, and when a later part cannot be made', () => {
    const open = new Set<object>();
    const counting: Backend = {
      ...onlyOps('counting', 'MatMul', 'Tanh', 'Exp'),
      prepare: (graph, prepare) => {
        const executable = referenceBackend.prepare(graph, prepare);
        open.add(executable);
        const close = (): void => void open.delete(executable);
        return new Proxy(executable, {
          get(target, name) {
            if (name === 'close') return close;
            const value: unknown = Reflect.get(target, name, target);
            return typeof value === 'function' ? value.bind(target) : value;
          },
        });
      },
    };
    const model = mixedBackend([counting, referenceBackend]).prepare(branching('N'), options);
    for (const rows of [1, 2, 3, 4]) model.runSync({ x: filled([rows, 4], rows) });
    const each = open.size / 4;
    expect(each).toBeGreaterThan(0);
    for (const rows of [5, 6, 7, 1]) model.runSync({ x: filled([rows, 4], rows) });
    expect(open.size).toBe(4 * each);
    model.close();
    expect(open.size).toBe(0);

    const failing: Backend = {
      name: 'failing',
      supports: () => true,
      prepare: () => {
        throw new CloisterError('OUT_OF_MEMORY', 'no room');
      },
    };
    expect(() => mixedBackend([onlyOps('none'), counting, failing]).prepare(branching(), options)).toThrow('no room');
    const first: Backend = { ...failing, supports: ({ op }) => op === 'MatMul' };
    expect(() => mixedBackend([first, { ...counting, supports: () => true }]).prepare(branching(), options)).toThrow(
      'no room',
    );
    expect(open.size).toBe(0);
  });

  test('hands over what a later part or the caller reads, and nothing else', () => {
    const graph = branching();
    const some = onlyOps('some', 'MatMul', 'Tanh', 'Exp');
    const [before, after] = cutSegments(graph, assignNodes(graph, [some, referenceBackend]));
    const names = (of: Graph, ids: readonly number[]): string[] =>
      ids.map(id => of.nodes.find(({ outputs }) => outputs.includes(id))!.op).sort();
    expect(names(before!.graph, before!.graph.outputs)).toEqual(['Exp', 'Tanh']);
    expect(names(after!.graph, after!.graph.outputs)).toEqual(['Relu']);
  });

  test('a node that is needed for a shape only is computed as well', () => {
    const g = new Sketch('shaped');
    const x = g.input('x', [2, 3]);
    const size = g.op('Sub', [g.input('n', [2], 'i64'), g.ints(1, 1)]);
    const graph = g.build(g.op('Neg', [g.op('Reshape', [x, size])]));
    const inputs = { x: filled([2, 3], 5), n: Tensor.of('i64', [4, 3]) };
    const [wanted] = Object.values(referenceBackend.prepare(graph, options).runSync(inputs));
    const native = nativeStatus().kind === 'loaded' ? [nativeBackend(openProgramHost(loadBinding()!))] : [];
    for (const backends of [
      [...native, referenceBackend],
      [onlyOps('some', 'Neg'), referenceBackend],
    ]) {
      const [came] = Object.values(mixedBackend(backends).prepare(graph, options).runSync(inputs));
      expect(came!.toArray()).toEqual(wanted!.toArray());
    }
  });

  test('what a backend refuses only when it plans goes to the last one, which says why', () => {
    const late: Backend = {
      name: 'late',
      supports: ({ op }) => op === 'Tanh',
      prepare: () => {
        throw new CloisterError('UNSUPPORTED_MODEL', 'its bounds are computed');
      },
    };
    const model = mixedBackend([late, referenceBackend]).prepare(branching(), options);
    expect(Object.values(model.runSync({ x })).map(t => t.toBytes())).toEqual(
      Object.values(referenceBackend.prepare(branching(), options).runSync({ x })).map(t => t.toBytes()),
    );
    expect(model.choices.find(({ node }) => node.op === 'Tanh')).toMatchObject({
      backend: referenceBackend,
      reason: 'its bounds are computed',
    });
    expect(model.choices.filter(({ reason }) => reason === 'its bounds are computed')).toHaveLength(1);
    expect(() => mixedBackend([late]).prepare(branching(), options)).toThrow('its bounds are computed');
  });

  test('what a backend finds too large when it plans goes to the last one', () => {
    const small: Backend = {
      name: 'small',
      supports: () => true,
      prepare: () => {
        throw new CloisterError('MODEL_TOO_LARGE', 'its program is too long');
      },
    };
    const model = mixedBackend([small, referenceBackend]).prepare(branching(), options);
    expect(new Set(model.choices.map(({ backend, reason }) => `${backend.name}: ${reason}`))).toEqual(
      new Set(['reference: its program is too long']),
    );
    expect(() => mixedBackend([small]).prepare(branching(), options)).toThrow('its program is too long');
  });

  test('a backend that failed when it was measured is chosen only where every other fails as well', async () => {
    const failing = (name: string): Backend => ({
      name,
      supports: ({ op }: Node) => op === 'Tanh',
      prepare: () => {
        throw new CloisterError('OUT_OF_MEMORY', 'no room');
      },
    });
    const [first, last] = [failing('first'), failing('last')];
    const graph = branching();
    let time = 0;
    const chosen = async (...backends: readonly Backend[]) => {
      const costs = await measureCosts(graph, backends, { ...options, now: () => time++ });
      return assignNodes(graph, backends, costs).find(({ node }) => node.op === 'Tanh')!;
    };
    expect(await chosen(first, referenceBackend)).toMatchObject({
      backend: referenceBackend,
      reason: 'measured: first fails, reference 1000.0 us',
    });
    const others = onlyOps('others', 'MatMul', 'Add', 'Relu', 'Exp');
    expect((await chosen(first, others, last)).backend).toBe(first);
  });

  test('takes the cheapest way, hand-overs included', () => {
    const graph = branching();
    const [a, b] = [onlyOps('a', 'MatMul', 'Tanh', 'Add', 'Relu', 'Exp'), onlyOps('b', 'Tanh')];
    const table = (tanhOnB: number, handOverUs: number): CostTable => ({
      handOverUs,
      costs: {
        get: (key: string) =>
          new Map(
            key.includes('"Tanh"')
              ? [
                  [a, 10],
                  [b, tanhOnB],
                ]
              : [[a, 1]],
          ),
      } as unknown as CostTable['costs'],
    });
    const chosen = (costs: CostTable): string[] =>
      assignNodes(graph, [a, b], costs).map(({ node, backend }) => `${node.op} ${backend.name}`);
    expect(chosen(table(1, 2))).toContain('Tanh b');
    expect(chosen(table(1, 5))).toContain('Tanh a');
    expect(chosen(table(20, 0))).toContain('Tanh a');
  });

  test('measures each node on each backend that runs it, once for those that are alike', async () => {
    const g = new Sketch('alike');
    const graph = g.build(g.op('Tanh', [g.op('Tanh', [g.input('x', [8])])]));
    let runs = 0;
    const counting: Backend = {
      ...referenceBackend,
      prepare: (part, prepare) => {
        runs++;
        return referenceBackend.prepare(part, prepare);
      },
    };
    let time = 0;
    const { costs } = await measureCosts(graph, [counting, onlyOps('none')], { ...options, now: () => time++ });
    expect(runs).toBe(1);
    expect([...costs.values()].map(each => [...each.keys()].map(({ name }) => name))).toEqual([['reference']]);
    expect([...[...costs.values()][0]!.values()]).toEqual([1_000]); // one tick of this clock
  });

  test.skipIf(nativeStatus().kind !== 'loaded')('runs natively what kernels know, and says why the rest is not', () => {
    const native = nativeBackend(openProgramHost(loadBinding()!));
    const g = new Sketch('det');
    const x = g.input('x', [3, 3]);
    const graph = g.build(g.op('Relu', [g.op('Det', [g.op('MatMul', [x, g.weight(3, 3)])])]));
    const model = mixedBackend([native, referenceBackend]).prepare(graph, options);
    expect(model.choices.map(({ node, backend }) => `${node.op} ${backend.name}`)).toEqual([
      'MatMul native',
      'Det reference',
      'Relu native',
    ]);
    expect(model.choices[1]!.reason).toContain('no native kernel for Det');
    const input = filled([3, 3], 2);
    const [wanted] = Object.values(referenceBackend.prepare(graph, options).runSync({ x: input }));
    const [came] = Object.values(model.runSync({ x: input }));
    expect(came!.values()[0]).toBeCloseTo(Number(wanted!.values()[0]), 5);
  });
});

const ort = loadOnnxRuntime();

describe.skipIf(ort === undefined)('the onnxruntime adapter', () => {
  test('computes what the reference backend computes', async () => {
    const backend = onnxRuntimeBackend(ort!, { encode: writeOnnx });
    const model = backend.prepare(branching('N'), options);
    const x = filled([5, 4], 3);
    const wanted = referenceBackend.prepare(branching('N'), options).runSync({ x });
    for (const [name, tensor] of Object.entries(await model.run({ x }))) {
      const expected = wanted[name]!.values();
      tensor.values().forEach((value, i) => {
        expect(Number(value)).toBeCloseTo(Number(expected[i]), 5);
      });
    }
    expect(() => model.runSync({ x })).toThrow(/asynchronously only/);
    await expect(model.run({ x: filled([5, 3], 3) })).rejects.toMatchObject({ code: 'SHAPE_MISMATCH' });
    model.close();
    model.close();
    await expect(model.run({ x })).rejects.toMatchObject({ code: 'CLOSED' });
  });

  test('refuses what it cannot run with the first run', async () => {
    const g = new Sketch('odd', 23);
    const graph = g.build(g.op('Det', [g.input('x', [2, 3, 3], 'f64')]));
    const model = onnxRuntimeBackend(ort!, { encode: writeOnnx }).prepare(graph, options);
    await expect(model.run({ x: Tensor.zeros('f64', [2, 3, 3]) })).rejects.toMatchObject({ code: 'UNSUPPORTED_MODEL' });
  });
});

/** The module, where the rivals of the benches are installed. */
function loadOnnxRuntime(): OnnxRuntimeModule | undefined {
  try {
    return createRequire(new URL('../../bench/peers/package.json', import.meta.url))(
      'onnxruntime-node',
    ) as OnnxRuntimeModule;
  } catch {
    return undefined;
  }
}
