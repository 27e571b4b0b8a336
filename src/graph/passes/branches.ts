/**
 * Branches: an If whose condition is a constant becomes the nodes of the branch that it takes.
 * @module
 */
import { type Constant, type Graph, isGraph, type Node, type Value, type ValueId } from '../graph.ts';
import { inferFacts } from '../infer.ts';
import { removeDeadNodes } from './dead-nodes.ts';
import { type PassOptions, type PassResult, Rewriter } from './rewriter.ts';

/**
 * Returns `graph` with the branch in place of each If that always takes the same one. One level: an If inside the branch is for the
 * next walk. Facts are inferred anew, as one branch may know more than two.
 */
export function inlineBranches(graph: Graph, options: PassOptions = {}): PassResult {
  if (!graph.nodes.some(node => node.op === 'If' && node.domain === '')) return { graph, rewrites: 0 };
  const rewriter = new Rewriter(graph, options);
  const names = new Set(graph.values.map(value => value.name));
  const values: Value[] = [...graph.values];
  const constants = new Map<ValueId, Constant>(graph.constants);
  let rewrites = 0;
  const nodes = graph.nodes.flatMap((node): readonly Node[] => {
    const condition = node.op === 'If' && node.domain === '' ? rewriter.scalar(node.inputs[0]) : undefined;
    const branch = node.attributes[condition ? 'then_branch' : 'else_branch'];
    if (condition === undefined || !isGraph(branch)) return [node];
    rewrites++;
    return inlined(node, branch, values, names, constants);
  });
  if (rewrites === 0) return { graph, rewrites: 0 };
  const merged: Graph = Object.freeze({
    ...graph,
    values: Object.freeze(values),
    nodes: Object.freeze(nodes),
    constants,
  });
  const { operators } = options;
  return { graph: inferFacts(removeDeadNodes(merged), operators ? { operators } : {}), rewrites };
}

/** The nodes of `branch` over the values that `node` captures, giving the outputs of `node`. */
function inlined(
  node: Node,
  branch: Graph,
  values: Value[],
  names: Set<string>,
  constants: Map<ValueId, Constant>,
): readonly Node[] {
  const ids = new Map<ValueId, ValueId>();
  branch.inputs.forEach((id, i) => {
    ids.set(id, node.inputs[i + 1]!);
  });
  // An output that a node of the branch makes takes the id of the If's; the others are copied to it.
  const made = new Set(branch.nodes.flatMap(inner => inner.outputs));
  const copies: Node[] = [];
  branch.outputs.forEach((id, i) => {
    const out = node.outputs[i];
    if (out !== undefined && made.has(id) && !ids.has(id)) ids.set(id, out);
  });
  const idOf = (id: ValueId): ValueId => {
    const there = ids.get(id);
    if (there !== undefined) return there;
    const value = branch.values[id]!;
    let name = `${node.name}/${value.name}`.slice(0, 200);
    while (names.has(name)) name += `~${values.length}`;
    names.add(name);
    ids.set(id, values.length);
    return values.push(Object.freeze({ name, facts: value.facts })) - 1;
  };
  const captured = new Set(branch.inputs);
  for (const [id, constant] of branch.constants) {
    if (!captured.has(id)) constants.set(idOf(id), constant);
  }
  const nodes = branch.nodes.map(inner =>
    Object.freeze({
      ...inner,
      name: `${node.name}/${inner.name}`.slice(0, 200),
      inputs: Object.freeze(inner.inputs.map(id => (id === undefined ? undefined : idOf(id)))),
      outputs: Object.freeze(inner.outputs.map(id => (id === undefined ? undefined : idOf(id)))),
    }),
  );
  branch.outputs.forEach((id, i) => {
    const out = node.outputs[i];
    const from = idOf(id);
    if (out === undefined || from === out) return;
    const [inputs, outputs] = [[from], [out]].map(list => Object.freeze(list)) as [ValueId[], ValueId[]];
    copies.push(
      Object.freeze({
        name: node.name,
        domain: '',
        op: 'Identity',
        opset: 13,
        inputs,
        outputs,
        attributes: Object.freeze({}),
      }),
    );
  });
  return [...nodes, ...copies];
}
