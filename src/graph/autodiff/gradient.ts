/**
 * Reverse-mode differentiation: a graph whose further outputs are gradients.
 *
 * Rules stand in a registry of their own, beside the operator table and not in it (tfjs separates kernels from gradients in
 * the same way): whoever only runs a model, guests among them, loads no rule; a plugin can bring a kernel without a gradient,
 * or a gradient for an operator that somebody else computes; and a rule needs no kernel at all, since it is written in
 * operators. So a gradient is a graph as any other, which passes rewrite and every backend runs, and whose gradient can be
 * taken again.
 * @module
 */
import { CloisterError } from '../../base/index.ts';
import { formatShape, Tensor } from '../../tensor/index.ts';
import type { Graph, Node, ValueId } from '../graph.ts';
import { OPERATORS } from '../ops/index.ts';
import { describeNode, type OperatorTable, operatorKey } from '../ops/operator.ts';
import { removeDeadNodes } from '../passes/index.ts';
import { GRADIENTS } from './registry.ts';
import { type Differentiation, GradientContext, type GradientTable } from './rule.ts';
import { Tape } from './tape.ts';

/** What {@link gradient} is told. Values are named, or given by id. */
export interface GradientOptions {
  /** The value to differentiate: a float of one element, or of any shape with a `seed`. */
  readonly of: string | ValueId;
  /** The float values to differentiate by: inputs, constants, or values between them and `of`. */
  readonly wrt: readonly (string | ValueId)[];
  /**
   * The gradient of something beyond `of` by `of`, of its shape and dtype: the result is then the product of this vector with
   * the Jacobian. A value of the graph, or the name of an input that is added. 1 where left out.
   */
  readonly seed?: string | ValueId;
  /** The rules to differentiate by; {@link GRADIENTS} where left out. */
  readonly rules?: GradientTable;
  /** The operators of the graph; the whole table where left out. */
  readonly operators?: OperatorTable;
}

/**
 * Returns `graph` with one more output per `wrt`, in that order after its own: the gradient of `of`, of the shape and dtype of
 * the value, named `d OF / d WRT`. Zeros where `of` does not depend on it. Inputs, outputs and value ids of `graph` stay.
 *
 * At a kink (Relu at 0) the gradient is one of the one-sided ones, where several elements share a maximum it is shared evenly,
 * and what is piecewise constant (Floor, comparison, anything of integers) has none. Nodes are added at the graph's opset, or
 * at 18 where that is older.
 *
 * The gradient of a loss over a batch is the sum over its examples: nothing in it tells one example from another. Where each
 * example's own gradient is needed, to bound it before it is added up, differentiate by a value that has one copy of the
 * parameters per example: `Expand` the parameter to `[batch, ...shape]`, use the copies in batched operators, and name the
 * expanded value in `wrt`. Its gradient has that shape, one row per example, and costs that much memory. Or run the graph once
 * per example, on batches of one.
 *
 * @throws {CloisterError} `UNSUPPORTED_MODEL` listing every node between `wrt` and `of` whose operator has no rule, or naming
 *   one in a form that has none; `INVALID_ARGUMENT` when a name is unknown, a value is no float, or `of` is no scalar and has
 *   no seed; `INVALID_GRAPH` as inference does.
 * @example
 * ```ts
 * const b = new GraphBuilder('square');
 * const x = b.input('x', { dtype: 'f64', shape: [] });
 * b.output(b.node({ op: 'Mul', inputs: [x, x], outputs: ['y'] })[0]!);
 * const slope = gradient(b.build(), { of: 'y', wrt: ['x'] });
 * slope.outputs.map(id => slope.values[id]?.name); // ['y', 'd y / d x']
 * runGraph(slope, [Tensor.of('f64', 3)]).map(y => y.toArray()); // [9, 6]
 * ```
 */
export function gradient(graph: Graph, options: GradientOptions): Graph {
  const rules = options.rules ?? GRADIENTS;
  const tape = new Tape(graph, options.operators ?? OPERATORS);
  const resolve = (what: string, key: string | ValueId): ValueId => {
    const id = typeof key === 'string' ? tape.find(key) : graph.values[key] && key;
    if (id === undefined) {
      throw new CloisterError('INVALID_ARGUMENT', `${what}: graph ${graph.name} has no value ${quote(String(key))}`);
    }
    return id;
  };
  const float = (what: string, key: string | ValueId): ValueId => {
    const id = resolve(what, key);
    if (tape.isFloat(id)) return id;
    const message = `${what}: ${quote(tape.name(id))} is ${tape.facts(id).dtype}; gradients are of floats`;
    throw new CloisterError('INVALID_ARGUMENT', message);
  };
  const of = float('of', options.of);
  const wrt = options.wrt.map(key => float('wrt', key));
  const seed = makeSeed(tape, of, options.seed, resolve);
  const totals = backward(tape, rules, graph.nodes, [[of, seed]], new Set(wrt));
  const outputs = outputsOf(tape, wrt, totals);
  outputs.forEach((id, i) => {
    tape.rename(id, `d ${tape.name(of)} / d ${tape.name(wrt[i]!)}`);
  });
  return prune(tape.graph([...graph.outputs, ...outputs]), graph);
}

/** One value per `wrt`, computed for it alone: its gradient, or zeros. */
function outputsOf(tape: Tape, wrt: readonly ValueId[], totals: ReadonlyMap<ValueId, ValueId>): readonly ValueId[] {
  const outputs = new Set<ValueId>();
  for (const id of wrt) {
    const total = totals.get(id) ?? zeros(tape, id);
    // An output of its own, also where the gradient is an input, a constant, or that of another value.
    const own = tape.isAdded(total) && !outputs.has(total);
    outputs.add(own ? total : tape.emit({ op: 'Identity', inputs: [total] })[0]!);
  }
  return [...outputs];
}

/** See {@link Differentiation.ofGraph}. Subgraphs nest no deeper than inference, which has been here, allows. */
function gradientOfSubgraph(
  graph: Graph,
  of: readonly number[],
  wrt: readonly number[],
  rules: GradientTable,
  operators: OperatorTable,
): Graph {
  const tape = new Tape(graph, operators);
  const seeds = of.map(i => {
    const id = graph.outputs[i]!;
    return [id, tape.input(tape.facts(id))] as const;
  });
  const ids = wrt.map(i => graph.inputs[i]!);
  const totals = backward(tape, rules, graph.nodes, seeds, new Set(ids));
  return removeDeadNodes(tape.graph(outputsOf(tape, ids, totals)));
}

/** Adds up contributions to values, and the total of each once it is asked for. */
class Totals {
  readonly #tape: Tape;
  readonly #parts = new Map<ValueId, ValueId[]>();

  constructor(tape: Tape) {
    this.#tape = tape;
  }

  add(id: ValueId, part: ValueId): void {
    const parts = this.#parts.get(id);
    if (parts) parts.push(part);
    else this.#parts.set(id, [part]);
  }

  get(id: ValueId): ValueId | undefined {
    const parts = this.#parts.get(id);
    if (!parts || parts.length < 2) return parts?.[0];
    const total = this.#tape.emit({ op: parts.length === 2 ? 'Add' : 'Sum', inputs: parts })[0]!;
    this.#parts.set(id, [total]);
    return total;
  }
}

/** Pulls `seeds` back through `nodes`, last to first, to the values of `wrt`. */
function backward(
  tape: Tape,
  rules: GradientTable,
  nodes: readonly Node[],
  seeds: readonly (readonly [ValueId, ValueId])[],
  wrt: ReadonlySet<ValueId>,
): ReadonlyMap<ValueId, ValueId> {
  const active = between(
    tape,
    nodes,
    wrt,
    seeds.map(([output]) => output),
  );
  refuseWithoutRule(nodes, active, rules);
  const totals = new Totals(tape);
  for (const [output, seed] of seeds) totals.add(output, seed);
  const differentiation: Differentiation = {
    through: (inner, innerSeeds, innerWrt) => backward(tape, rules, inner, innerSeeds, new Set(innerWrt)),
    ofGraph: (graph, outputs, inputs) => gradientOfSubgraph(graph, outputs, inputs, rules, tape.operators),
  };
  for (const node of nodes.toReversed()) {
    if (!passes(node, active)) continue;
    const gradients = node.outputs.map(id => (id !== undefined && active.has(id) ? totals.get(id) : undefined));
    if (gradients.every(id => id === undefined)) continue;
    const context = new GradientContext(node, tape, gradients, active, differentiation);
    const parts = rules.get(operatorKey(node.domain, node.op))!(context);
    node.inputs.forEach((id, i) => {
      const part = parts[i];
      if (id === undefined || part === undefined || !active.has(id)) return;
      checkPart(tape, context, i, id, part);
      totals.add(id, part);
    });
  }
  const found = new Map<ValueId, ValueId>();
  for (const id of wrt) {
    const total = totals.get(id);
    if (total !== undefined) found.set(id, total);
  }
  return found;
}

/** The float values on some way from `wrt` to `outputs`, both included. */
function between(
  tape: Tape,
  nodes: readonly Node[],
  wrt: ReadonlySet<ValueId>,
  outputs: readonly ValueId[],
): ReadonlySet<ValueId> {
  const depends = new Set<ValueId>(wrt);
  for (const node of nodes) {
    if (!node.inputs.some(id => id !== undefined && depends.has(id))) continue;
    for (const id of node.outputs) if (id !== undefined && tape.isFloat(id)) depends.add(id);
  }
  const active = new Set<ValueId>(outputs.filter(id => depends.has(id)));
  for (const node of nodes.toReversed()) {
    if (!node.outputs.some(id => id !== undefined && active.has(id))) continue;
    for (const id of node.inputs) if (id !== undefined && depends.has(id)) active.add(id);
  }
  return active;
}

/** Whether a gradient has to pass this node. */
function passes(node: Node, active: ReadonlySet<ValueId>): boolean {
  const one = (ids: Node['inputs']): boolean => ids.some(id => id !== undefined && active.has(id));
  return one(node.inputs) && one(node.outputs);
}

/** An error lists at most so many nodes: a hostile model may have any number. */
const MAX_LISTED = 1000;

function refuseWithoutRule(nodes: readonly Node[], active: ReadonlySet<ValueId>, rules: GradientTable): void {
  const without = nodes.filter(node => passes(node, active) && !rules.has(operatorKey(node.domain, node.op)));
  if (without.length === 0) return;
  const operators = [...new Set(without.map(node => `${node.domain === '' ? '' : `${node.domain}.`}${node.op}`))];
  const shown = without.slice(0, 8).map(describeNode).join(', ');
  const rest = without.length > 8 ? ` and ${without.length - 8} more` : '';
  throw new CloisterError(
    'UNSUPPORTED_MODEL',
    `no gradient for ${operators.slice(0, 32).join(' ')}: needed by ${shown}${rest}`,
    { operators: operators.slice(0, MAX_LISTED), nodes: without.slice(0, MAX_LISTED).map(node => node.name) },
  );
}

/** A rule that returns something of another rank or dtype is wrong, whoever wrote it. */
function checkPart(tape: Tape, context: GradientContext, index: number, input: ValueId, part: ValueId): void {
  const [want, got] = [tape.facts(input), tape.facts(part)];
  const fits =
    want.dtype === got.dtype &&
    want.shape.length === got.shape.length &&
    want.shape.every((dim, i) => typeof dim === 'string' || typeof got.shape[i] === 'string' || dim === got.shape[i]);
  if (fits) return;
  const [wanted, came] = [want, got].map(facts => `${facts.dtype}${formatShape(facts.shape)}`);
  context.fail(`its rule gave ${came} for input ${index}, which is ${wanted}`);
}

function makeSeed(
  tape: Tape,
  of: ValueId,
  given: GradientOptions['seed'],
  resolve: (what: string, key: string | ValueId) => ValueId,
): ValueId {
  const { dtype, shape } = tape.facts(of);
  const name = quote(tape.name(of));
  if (given === undefined) {
    if (shape.some(dim => dim !== 1)) {
      const message = `of: ${name} is ${formatShape(shape)}: expected one element, or a seed of that shape`;
      throw new CloisterError('INVALID_ARGUMENT', message);
    }
    return tape.constant(`seed ${dtype}${formatShape(shape)}`, () => Tensor.of(dtype, [1]).reshape(shape.map(() => 1)));
  }
  if (typeof given === 'string' && tape.find(given) === undefined) return tape.input({ dtype, shape }, given);
  const id = resolve('seed', given);
  const seed = tape.facts(id);
  const fits =
    seed.dtype === dtype &&
    seed.shape.length === shape.length &&
    shape.every((dim, i) => typeof dim === 'string' || typeof seed.shape[i] === 'string' || dim === seed.shape[i]);
  if (!fits) {
    const message = `seed: ${seed.dtype}${formatShape(seed.shape)} for ${name}, which is ${dtype}${formatShape(shape)}`;
    throw new CloisterError('INVALID_ARGUMENT', message);
  }
  return id;
}

/** A name as messages show it: it comes from the model file. */
function quote(name: string): string {
  return JSON.stringify(name.slice(0, 80));
}

function zeros(tape: Tape, like: ValueId): ValueId {
  const { dtype } = tape.facts(like);
  const shape = tape.shapeOf(like);
  return tape.emit({ op: 'ConstantOfShape', inputs: [shape], attributes: { value: Tensor.of(dtype, [0]) } })[0]!;
}

/** Removes what was added to `original` and nothing needs: rules may write more than is asked for. */
function prune(graph: Graph, original: Graph): Graph {
  const live = removeDeadNodes(graph);
  const nodes = new Set([...original.nodes, ...live.nodes]);
  return Object.freeze({
    ...graph,
    nodes: Object.freeze(graph.nodes.filter(node => nodes.has(node))),
    constants: new Map([...graph.constants].filter(([id]) => id < original.values.length || live.constants.has(id))),
  });
}
