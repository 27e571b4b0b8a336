import { expect, test } from 'vitest';
import { type Executable, type NamedTensors, referenceBackend } from '../../src/engine/index.ts';
import { type Graph, GraphBuilder, type ValueId } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { noFile } from '../native/program-seeds.ts';

const SIZE = 1000;
const facts = { dtype: 'f32', shape: [SIZE] } as const;
const prepare = (graph: Graph, limitBytes?: number): Executable =>
  referenceBackend.prepare(graph, { constants: noFile, ...(limitBytes === undefined ? {} : { limitBytes }) });

/** x with its sign turned `count` times. */
function turned(b: GraphBuilder, x: ValueId, count: number): ValueId {
  let value = x;
  for (let i = 0; i < count; i++) value = b.node({ op: 'Neg', inputs: [value] })[0]!;
  return value;
}

/** `count` conditions one after another, of which both branches are the same `count` nodes. */
function conditions(count: number): Graph {
  const inner = new GraphBuilder('branch');
  inner.output(turned(inner, inner.input('x', facts), count));
  const branch = inner.build();
  const b = new GraphBuilder('conditions');
  const c = b.input('c', { dtype: 'bool', shape: [] });
  let value = b.input('x', facts);
  for (let i = 0; i < count; i++) {
    value = b.node({ op: 'If', inputs: [c, value], attributes: { then_branch: branch, else_branch: branch } })[0]!;
  }
  b.output(value);
  return b.build();
}

test('a run gives back what no later node reads: a chain needs as much as two of its values', () => {
  const b = new GraphBuilder('chain');
  b.output(turned(b, b.input('x', facts), 20));
  const graph = b.build();
  const inputs = { x: Tensor.zeros('f32', [SIZE]) };
  expect(() => prepare(graph, 8 * SIZE - 1).runSync(inputs)).toThrow(/needs 8000 bytes, the limit is 7999/);
  expect(Object.keys(prepare(graph, 8 * SIZE).runSync(inputs))).toHaveLength(1);
});

test('a run gives back what a subgraph held once it is done', () => {
  const inputs = { c: Tensor.of('bool', true), x: Tensor.zeros('f32', [SIZE]) };
  const once = prepare(conditions(5), 4 * SIZE * 5 * 2);
  expect(Object.keys(once.runSync(inputs))).toHaveLength(1);
  expect(() => prepare(conditions(5), 4 * SIZE).runSync(inputs)).toThrow(/OUT_OF_MEMORY|the limit is/);
});

test('constants of a subgraph that several nodes share count once', () => {
  const inner = new GraphBuilder('branch');
  const w = inner.constant('w', Tensor.zeros('f32', [SIZE]));
  inner.output(inner.node({ op: 'Add', inputs: [inner.input('x', facts), w] })[0]!);
  const branch = inner.build();
  const b = new GraphBuilder('shared');
  const c = b.input('c', { dtype: 'bool', shape: [] });
  const attributes = { then_branch: branch, else_branch: branch };
  const first = b.node({ op: 'If', inputs: [c, b.input('x', facts)], attributes })[0]!;
  b.output(b.node({ op: 'If', inputs: [c, first], attributes })[0]!);
  expect(prepare(b.build()).memory.permanentBytes).toBe(4 * SIZE);
});

test('what the caller does to one output changes no other output, no input and no later run', () => {
  const b = new GraphBuilder('outputs');
  const x = b.input('x', { dtype: 'f32', shape: [2, 2] });
  const y = b.node({ op: 'Neg', inputs: [x], outputs: ['y'] })[0]!;
  const flat = (id: ValueId, name: string): ValueId =>
    b.node({ op: 'Reshape', inputs: [id, b.constant(`${name} shape`, Tensor.of('i64', [-1]))], outputs: [name] })[0]!;
  const w = b.constant('w', Tensor.of('f32', [[5, 6]]));
  for (const id of [x, y, flat(y, 'flat y'), flat(x, 'flat x'), w, flat(w, 'flat w')]) b.output(id);
  const model = prepare(b.build());
  const input = Tensor.of('f32', [
    [1, 2],
    [3, 4],
  ]);
  const values = (results: NamedTensors): unknown =>
    Object.fromEntries(Object.entries(results).map(([name, tensor]) => [name, tensor.values()]));
  const [x4, y4, w2] = [
    [1, 2, 3, 4],
    [-1, -2, -3, -4],
    [5, 6],
  ];
  const wanted = { x: x4, y: y4, 'flat y': y4, 'flat x': x4, w: w2, 'flat w': w2 };
  for (const name of Object.keys(wanted)) {
    const results = model.runSync({ x: input });
    expect(values(results)).toEqual(wanted);
    (results[name]!.data as Float32Array).fill(99);
    expect(values({ ...results, [name]: Tensor.of('f32', 0) })).toEqual({ ...wanted, [name]: [0] });
    expect(input.values()).toEqual(x4);
  }
});
