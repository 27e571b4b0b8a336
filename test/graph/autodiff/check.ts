/**
 * Gradients against differences: a case is a node, and what is checked is the gradient of a random weighting of its outputs.
 * @module
 */
import { expect } from 'vitest';
import {
  type Attribute,
  type Graph,
  GraphBuilder,
  gradient,
  runGraph,
  type ValueId,
} from '../../../src/graph/index.ts';
import { Tensor } from '../../../src/tensor/index.ts';
import { centralDifference } from '../../suites/difference.ts';

export { centralDifference as difference };

/** A float input of random values. */
export interface Operand {
  readonly shape: readonly number[];
  readonly from: number;
  readonly to: number;
  /** Values to stay away from by 0.05. */
  readonly kinks: readonly number[];
  /** All values at least 0.05 apart, for what picks the largest. */
  readonly distinct: boolean;
  readonly values?: readonly number[];
}

/** What the float inputs of a node are; integers and conditions are tensors. */
export type Given = Operand | Tensor | undefined;

export interface Case {
  readonly op: string;
  readonly domain?: string;
  readonly opset?: number;
  readonly inputs: readonly Given[];
  readonly attributes?: Readonly<Record<string, Attribute>>;
  /** How many outputs the node names, and which of them count; one, and all of them where left out. */
  readonly outputs?: number;
  readonly weigh?: readonly number[];
  /** Inputs whose sizes the operator has to know before it runs. */
  readonly fixed?: readonly number[];
  /** Why the integers of this case have to be known before the graph runs. */
  readonly needsIntegers?: string;
  /** Why this case has no second derivative. */
  readonly once?: string;
}

/** An operand of values in a range. */
export function x(shape: readonly number[], from = -2, to = 2, more: Partial<Operand> = {}): Operand {
  return { shape, from, to, kinks: [], distinct: false, ...more };
}

/** The same numbers in every run. */
export function randomSource(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function fill({ shape, from, to, kinks, distinct, values }: Operand, random: () => number): Tensor<'f64'> {
  const size = shape.reduce((product, dim) => product * dim, 1);
  if (values) return Tensor.from('f64', shape, Float64Array.from(values));
  const data = new Float64Array(size);
  if (distinct) {
    const order = Array.from({ length: size }, (_, i) => [random(), i] as const).sort((a, b) => a[0] - b[0]);
    order.forEach(([, place], i) => {
      data[place] = from + ((i + 0.5) * (to - from)) / size;
    });
    return Tensor.from('f64', shape, data);
  }
  for (let i = 0; i < size; i++) {
    do data[i] = from + random() * (to - from);
    while (kinks.some(kink => Math.abs(data[i]! - kink) < 0.05));
  }
  return Tensor.from('f64', shape, data);
}

/** How much of a case is known before the graph runs: everything; not the sizes; neither sizes nor integers. */
export const KNOWLEDGE = ['everything', 'no sizes', 'no sizes and no integers'] as const;
export type Knowledge = (typeof KNOWLEDGE)[number];

export interface Problem {
  readonly graph: Graph;
  readonly inputs: readonly Tensor[];
  readonly wrt: readonly ValueId[];
}

/** The case as a graph with one scalar output: the weighted sum of the node's outputs. */
export function problemOf(given: Case, knowledge: Knowledge, random: () => number): Problem {
  const b = new GraphBuilder(given.op, given.opset === undefined || given.domain ? {} : { opset: given.opset });
  const inputs: Tensor[] = [];
  const wrt: ValueId[] = [];
  const symbols = (shape: readonly number[], name: string, fixed: boolean): readonly (string | number)[] =>
    fixed || knowledge === 'everything' ? shape : shape.map((_, axis) => `${name}${axis}`);
  const ids = given.inputs.map((operand, i) => {
    if (operand === undefined) return undefined;
    if (operand instanceof Tensor && knowledge !== 'no sizes and no integers') return b.constant(`c${i}`, operand);
    const tensor = operand instanceof Tensor ? operand : fill(operand, random);
    const fixed = operand instanceof Tensor || (given.fixed?.includes(i) ?? false);
    const id = b.input(`x${i}`, { dtype: tensor.dtype, shape: symbols(tensor.shape, `x${i}`, fixed) });
    inputs.push(tensor);
    if (!(operand instanceof Tensor)) wrt.push(id);
    return id;
  });
  const outputs = b.node({
    op: given.op,
    ...(given.domain === undefined ? {} : { domain: given.domain }),
    ...(given.opset === undefined ? {} : { opset: given.opset }),
    inputs: ids,
    outputs: Array.from({ length: given.outputs ?? 1 }, (_, i) => `y${i}`),
    attributes: given.attributes ?? {},
    name: 'it',
  });
  const weighed = (given.weigh ?? outputs.map((_, i) => i)).map(i => outputs[i]!);
  const terms = weighed.map((id, i) => {
    const weights = b.input(`w${i}`, b.facts(id));
    const product = b.node({ op: 'Mul', inputs: [id, weights], opset: 18 })[0]!;
    return b.node({ op: 'ReduceSum', inputs: [product], attributes: { keepdims: 0 }, opset: 18 })[0]!;
  });
  const loss = b.node({ op: 'Sum', inputs: terms, outputs: ['loss'], opset: 18 })[0]!;
  b.output(loss);
  const graph = b.build();
  const shapes = runGraph({ ...graph, nodes: graph.nodes.slice(0, 1), outputs: weighed }, inputs).map(
    tensor => tensor.shape,
  );
  for (const shape of shapes) inputs.push(fill(x(shape, 0.5, 1.5), random));
  return { graph, inputs, wrt };
}

/** How far a gradient may be from the difference, relative to the larger of it and 1. */
export const TOLERANCE = 1e-8;

export function expectClose(got: Tensor, wanted: readonly number[], shape: readonly number[], what: string): void {
  expect(got.shape, `${what}: shape`).toEqual(shape);
  (got.values() as number[]).forEach((value, i) => {
    const error = Math.abs(value - wanted[i]!) / Math.max(1, Math.abs(wanted[i]!));
    if (!(error < TOLERANCE)) expect.fail(`${what}[${i}]: gradient ${value}, difference ${wanted[i]}`);
  });
}

/** Checks the gradient of `loss` by every operand, and of a weighting of the gradients once more. */
export function checkGradients(given: Case, knowledge: Knowledge, seed: number): void {
  const random = randomSource(seed);
  const { graph, inputs, wrt } = problemOf(given, knowledge, random);
  const first = gradient(graph, { of: 'loss', wrt });
  const results = runGraph(first, inputs).slice(1);
  wrt.forEach((id, i) => {
    const index = graph.inputs.indexOf(id);
    const name = `d ${graph.values[id]!.name}`;
    expectClose(results[i]!, centralDifference(graph, inputs, index, 0), inputs[index]!.shape, name);
  });
  if (given.once !== undefined) return;
  const { graph: slope, inputs: more } = weighted(first, results, inputs, random);
  // By name: the copy counts its values anew.
  const second = gradient(slope, { of: 'slope', wrt: wrt.map(id => graph.values[id]!.name) });
  const again = runGraph(second, more).slice(slope.outputs.length);
  wrt.forEach((id, i) => {
    const index = graph.inputs.indexOf(id);
    const name = `second d ${graph.values[id]!.name}`;
    expectClose(again[i]!, centralDifference(slope, more, index, slope.outputs.length - 1), more[index]!.shape, name);
  });
}

/** The graph with one more output `slope`: its gradients, weighted and summed. Written as any user would, on a copy. */
function weighted(
  graph: Graph,
  gradients: readonly Tensor[],
  inputs: readonly Tensor[],
  random: () => number,
): { readonly graph: Graph; readonly inputs: readonly Tensor[] } {
  const b = new GraphBuilder('slope');
  const map = new Map<ValueId, ValueId>();
  for (const id of graph.inputs) map.set(id, b.input(graph.values[id]!.name, graph.values[id]!.facts));
  for (const [id, constant] of graph.constants) {
    if (constant.kind === 'inline') map.set(id, b.constant(graph.values[id]!.name, constant.tensor));
  }
  for (const node of graph.nodes) {
    const names = node.outputs.map(id => (id === undefined ? undefined : graph.values[id]!.name));
    const ids = b.node({
      ...node,
      inputs: node.inputs.map(id => (id === undefined ? id : map.get(id))),
      outputs: names,
    });
    node.outputs.forEach((id, i) => {
      if (id !== undefined) map.set(id, ids[i]!);
    });
  }
  for (const id of graph.outputs) b.output(map.get(id)!);
  const more = [...inputs];
  const terms = gradients.map((tensor, i) => {
    const id = map.get(graph.outputs[i + 1]!)!;
    const weights = b.input(`v${i}`, b.facts(id));
    more.push(fill(x(tensor.shape, 0.5, 1.5), random));
    const product = b.node({ op: 'Mul', inputs: [id, weights] })[0]!;
    return b.node({ op: 'ReduceSum', inputs: [product], attributes: { keepdims: 0 } })[0]!;
  });
  b.output(b.node({ op: 'Sum', inputs: terms, outputs: ['slope'] })[0]!);
  return { graph: b.build(), inputs: more };
}
