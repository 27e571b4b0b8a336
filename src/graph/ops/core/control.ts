/**
 * Control flow: If. A subgraph sees nothing but its inputs, so what it captures are inputs of the node.
 * @module
 */
import { CloisterError, isCloisterError } from '../../../base/index.ts';
import type { Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts, Graph } from '../../graph.ts';
import {
  define,
  describeNode,
  type InferContext,
  MANY,
  type Operator,
  type OperatorVersion,
  type RunContext,
  required,
  subgraph,
} from '../operator.ts';

const BRANCHES = ['then_branch', 'else_branch'] as const;

/** The facts of a branch for the captured values, or the error that says why it does not fit them. */
function factsOf(c: InferContext, branch: Graph): readonly Facts[] | Error {
  const captured = c.inputs.length - 1;
  if (branch.inputs.length !== captured) {
    c.fail(`a branch has ${branch.inputs.length} inputs, the node captures ${captured} values`);
  }
  try {
    return c.outputsOf(branch, 1);
  } catch (error) {
    // At some sizes only one branch makes sense; that one is taken, or the other fails where it is run.
    if (isCloisterError(error)) return error as Error;
    throw error;
  }
}

function inferIf(c: InferContext): readonly Facts[] {
  c.expect(0, ['bool']);
  for (let i = 0; i < c.inputs.length; i++) c.input(i);
  const chosen = c.integers(0)?.[0];
  const names = chosen === undefined ? BRANCHES : [BRANCHES[chosen ? 0 : 1]];
  const branches = names.map(name => factsOf(c, c.graph(name)));
  const good = branches.filter(branch => !(branch instanceof Error)) as (readonly Facts[])[];
  if (good.length === 0) throw branches[0];
  const [first, second = first] = good as [readonly Facts[], (readonly Facts[])?];
  if (first.length !== second.length) c.fail(`the branches have ${first.length} and ${second.length} outputs`);
  return first.map((facts, i) => {
    const other = second[i]!;
    if (facts.dtype !== other.dtype)
      c.fail(`output ${i} is ${facts.dtype} in one branch and ${other.dtype} in the other`);
    if (facts.shape.length !== other.shape.length) {
      // Whatever follows has a type only once the condition is known, which inputs may decide.
      const ranks = `${facts.shape.length} dimensions in one branch and ${other.shape.length} in the other`;
      const message = `${describeNode(c.node)}: output ${i} has ${ranks}: if sizes or elements of inputs decide it, fix them on import (dims, values)`;
      throw new CloisterError('UNSUPPORTED_MODEL', message, { node: c.node.name, decidedBy: 'inputs' });
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
