import { expect } from 'vitest';
import { referenceBackend } from '../../../src/engine/index.ts';
import { type Graph, inferFacts, PASSES, type PassOptions } from '../../../src/graph/index.ts';
import { Tensor } from '../../../src/tensor/index.ts';
import { noFile, Sketch } from '../../native/program-seeds.ts';
import { sampleTensor } from '../../suites/graphs.ts';
import { disagreement } from '../../suites/passes.ts';

/** Operators of a graph, in order; those of other domains with their domain. */
export const ops = (graph: Graph): string =>
  graph.nodes.map(node => (node.domain === '' ? node.op : `${node.domain}.${node.op}`)).join(' ');

/** Runs one pass, checks that outputs agree, and gives the operators that are left. */
export function leftOf(name: string, graph: Graph, options: PassOptions = {}): string {
  const pass = PASSES.find(candidate => candidate.name === name)!;
  const result = pass.run(inferFacts(graph), options).graph;
  expect(result.outputs.map(id => result.values[id]!.name)).toEqual(graph.outputs.map(id => graph.values[id]!.name));
  const inputs = Object.fromEntries(
    graph.inputs
      .filter(id => !graph.constants.has(id))
      .map((id, i) => {
        const { dtype, shape } = graph.values[id]!.facts;
        const sizes = shape.map(dim => (typeof dim === 'number' ? dim : 2));
        return [graph.values[id]!.name, sampleTensor(sizes, i + 1).cast(dtype)];
      }),
  );
  const run = (which: Graph) => referenceBackend.prepare(which, { constants: noFile }).runSync(inputs);
  expect(disagreement(run(result), run(graph), pass.keeps)).toBeUndefined();
  return ops(result);
}

export type Build = (g: Sketch) => number | readonly number[];

/** A graph over whatever `build` makes. */
export function graphOf(build: Build, opset = 18): Graph {
  const g = new Sketch('case', opset);
  const made = build(g);
  return g.build(...(typeof made === 'number' ? [made] : made));
}

/** A constant of one number. */
export const scalar = (g: Sketch, value: number): number =>
  g.builder.constant(`s${value}:${g.builder.find(`s${value}`) ?? Math.random()}`, Tensor.of('f32', value));
/** The input `x`, f32 [2,3]. */
export const x23 = (g: Sketch): number => g.input('x', [2, 3]);
/** A constant of positive numbers: 0.5, 1.5 and so on. */
export const positive = (g: Sketch, ...shape: number[]): number =>
  g.builder.constant(
    `p${shape.join()}`,
    Tensor.from(
      'f32',
      shape,
      Float32Array.from({ length: shape[0]! }, (_, i) => i + 0.5),
    ),
  );
