/**
 * Common subexpressions: what is computed twice is computed once, and equal constants are one.
 * @module
 */
import { toHex } from '../../base/index.ts';
import { sha256 } from '../../base/sha256.ts';
import { Tensor } from '../../tensor/index.ts';
import { type Attribute, type Constant, type Graph, isGraph, type Node, type ValueId } from '../graph.ts';
import { type PassOptions, type PassResult, Rewriter } from './rewriter.ts';

/** Operators that give something else each time. */
const RANDOM: ReadonlySet<string> = new Set([
  'Bernoulli',
  'Multinomial',
  'RandomNormal',
  'RandomNormalLike',
  'RandomUniform',
  'RandomUniformLike',
]);

/**
 * Returns `graph` with one node in place of several that apply the same operator, of the same opset and attributes, to the same
 * inputs; and with one constant in place of several with the same dtype, shape and bytes (or place in the model file).
 */
export function shareSubexpressions(graph: Graph, options: PassOptions = {}): PassResult {
  const same = equalConstants(graph);
  const constantOf = (id: ValueId): ValueId => same.get(id) ?? id;
  const keys = new Keys();
  const seen = new Map<string, Node>();
  const rewriter = new Rewriter(graph, options);
  rewriter.walk(node => {
    if (RANDOM.has(node.op) || node.inputs.length === 0) return false;
    const inputs = node.inputs.map(id => (id === undefined ? undefined : constantOf(id)));
    const key = keys.of(node, inputs);
    const earlier = seen.get(key);
    if (earlier === undefined) {
      seen.set(key, node);
      return inputs.some((id, i) => id !== node.inputs[i]) && rewriter.rewire(inputs);
    }
    // Outputs that the first node does not have are not to be had from it.
    const pairs: [ValueId, ValueId][] = [];
    for (const [i, id] of node.outputs.entries()) {
      if (id === undefined || (rewriter.uses(id) === 0 && !rewriter.isOutput(id))) continue;
      const other = rewriter.maker(earlier.outputs[i]) ? earlier.outputs[i] : undefined;
      if (other === undefined) return false;
      pairs.push([id, other]);
    }
    if (rewriter.aliasAll(pairs)) return true;
    // Two outputs of the graph with one value: the second is a copy.
    const copies = node.op !== 'Identity' && pairs.length === 1 && node.outputs.length === 1;
    return copies && rewriter.become({ op: 'Identity', opset: 13, inputs: [pairs[0]![1]] });
  });
  return rewriter.finish();
}

/** What tells nodes apart, as text. */
class Keys {
  readonly #objects = new Map<object, number>();

  of(node: Node, inputs: readonly (ValueId | undefined)[]): string {
    const names = Object.keys(node.attributes).sort();
    const attributes = names.map(name => `${JSON.stringify(name)}:${this.#attribute(node.attributes[name]!)}`);
    return `${JSON.stringify([node.domain, node.op, node.opset])}(${inputs.join()})${attributes.join()}`;
  }

  #attribute(value: Attribute): string {
    if (typeof value === 'number') return Object.is(value, -0) ? '-0' : String(value);
    if (value instanceof Tensor) return value.size <= 1024 ? tensorKey(value) : this.#object(value);
    if (isGraph(value)) return this.#object(value);
    if (Array.isArray(value) && typeof value[0] === 'number') {
      return `[${(value as readonly number[]).map(item => this.#attribute(item)).join()}]`;
    }
    return JSON.stringify(value);
  }

  /** Large ones are the same where they are the same object. */
  #object(value: object): string {
    if (!this.#objects.has(value)) this.#objects.set(value, this.#objects.size);
    return `#${this.#objects.get(value)}`;
  }
}

/** Hashes of tensors that graphs hold: they are shared between graphs, and are not written. */
const hashes = new WeakMap<Tensor, string>();

function tensorKey(tensor: Tensor): string {
  const known = hashes.get(tensor);
  if (known !== undefined) return known;
  const content = tensor.dtype === 'string' ? JSON.stringify(tensor.values()) : toHex(sha256(tensor.toBytes()));
  const key = `${tensor.dtype}[${tensor.shape.join()}]${content}`;
  hashes.set(tensor, key);
  return key;
}

/** For each constant that equals an earlier one: that one. What callers can override is left out. */
function equalConstants(graph: Graph): ReadonlyMap<ValueId, ValueId> {
  const inputs = new Set(graph.inputs);
  const groups = new Map<string, [ValueId, Constant][]>();
  for (const [id, constant] of graph.constants) {
    if (inputs.has(id)) continue;
    const { dtype, shape } = graph.values[id]!.facts;
    const place = constant.kind === 'range' ? `@${constant.offset}+${constant.length}` : '';
    const key = `${dtype}[${shape.join()}]${place}`;
    const group = groups.get(key);
    if (group) group.push([id, constant]);
    else groups.set(key, [[id, constant]]);
  }
  const same = new Map<ValueId, ValueId>();
  for (const group of groups.values()) {
    // Nothing is hashed that has nothing to be equal to.
    if (group.length < 2) continue;
    const first = new Map<string, ValueId>();
    for (const [id, constant] of group) {
      const key = constant.kind === 'inline' ? tensorKey(constant.tensor) : '';
      const earlier = first.get(key);
      if (earlier === undefined) first.set(key, id);
      else same.set(id, earlier);
    }
  }
  return same;
}
