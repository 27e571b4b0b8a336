/**
 * Control flow: If. A subgraph sees nothing but its inputs, so what it captures are inputs of the node.
 * @module
 */
import { isCloisterError } from '../../base/index.ts';
import type { Tensor } from '../../tensor/index.ts';
import type { Dim, Facts, Graph } from '../graph.ts';
import {
  define,
  type InferContext,
  MANY,
  type Operator,
  type OperatorVersion,
  type RunContext,
  required,
  subgraph,
} from './operator.ts';

const BRANCHES = ['then_branch', 'else_branch'] as const;

/** The facts of a branch for the captured values, or the error that says why it does not fit them. */
function factsOf(c: InferContext, branch: Graph, captured: readonly Facts[]): readonly Facts[] | Error {
  if (branch.inputs.length !== captured.length) {
    c.fail(`a branch has ${branch.inputs.length} inputs, the node captures ${captured.length} values`);
  }
  try {
    return c.outputsOf(branch, captured);
  } catch (error) {
    // At some sizes only one branch makes sense; that one is taken, or the other fails where it is run.
    if (isCloisterError(error)) return error as Error;
    throw error;
  }
}

function inferIf(c: InferContext): readonly Facts[] {
  c.expect(0, ['bool']);
  const captured = c.inputs.slice(1).map((_, i) => c.input(i + 1));
  const chosen = c.integers(0)?.[0];
  const names = chosen === undefined ? BRANCHES : [BRANCHES[chosen ? 0 : 1]];
  const branches = names.map(name => factsOf(c, c.graph(name), captured));
  const good = branches.filter(branch => !(branch instanceof Error)) as (readonly Facts[])[];
  if (good.length === 0) throw branches[0];
  const [first, second = first] = good as [readonly Facts[], (readonly Facts[])?];
  if (first.length !== second.length) c.fail(`the branches have ${first.length} and ${second.length} outputs`);
  return first.map((facts, i) => {
    const other = second[i]!;
    if (facts.dtype !== other.dtype)
      c.fail(`output ${i} is ${facts.dtype} in one branch and ${other.dtype} in the other`);
    if (facts.shape.length !== other.shape.length) {
      c.unsupported(
        `output ${i} has ${facts.shape.length} dimensions in one branch and ${other.shape.length} in the other: fix the sizes of the inputs on import (dims), if they decide it`,
      );
    }
    return {
      dtype: facts.dtype,
      shape: facts.shape.map((dim: Dim, axis) => (dim === other.shape[axis] ? dim : c.fresh())),
    };
  });
}

function runIf(c: RunContext): readonly Tensor[] {
  const condition = c.operand(0);
  if (condition.size !== 1) c.fail(`expected one condition, got ${condition.size}`);
  const branch = c.graph(condition.elements()[0] ? 'then_branch' : 'else_branch');
  return c.evaluate(branch, c.tensors.slice(1) as readonly Tensor[]);
}

const conditional: OperatorVersion = {
  since: 1,
  inputs: [1, MANY],
  outputs: [1, MANY],
  attributes: { then_branch: required(subgraph), else_branch: required(subgraph) },
  infer: inferIf,
  run: runIf,
};

/** The operators of this file. */
export const CONTROL: readonly Operator[] = [define('If', 'control', conditional)];
