/**
 * The toolkit of the passes: one forward walk over a graph in which nodes are replaced, values stand in for others, and what nobody
 * needs any more goes.
 * @module
 */
import { CloisterError, isCloisterError } from '../../base/index.ts';
import { DTYPES, elementCount, Tensor } from '../../tensor/index.ts';
import type { Attribute, Constant, ConstantReader, Dim, Facts, Graph, Node, Value, ValueId } from '../graph.ts';
import { Inference } from '../infer.ts';
import { OPERATORS } from '../ops/index.ts';
import type { OperatorTable } from '../ops/operator.ts';

/** Whether the target runs `node`, whose inputs and outputs have these facts: `supports` of the backend seam. */
export type Supports = (
  node: Node,
  inputs: readonly (Facts | undefined)[],
  outputs: readonly (Facts | undefined)[],
) => boolean;

/** What every pass may be told. */
export interface PassOptions {
  /** Where the bytes of `range` constants are: passes look at short ones only. Left out, at none. */
  readonly constants?: ConstantReader;
  /** What the target runs; where left out, everything in `operators`. */
  readonly supports?: Supports;
  /** The operators that nodes are inferred by; the whole table where left out. */
  readonly operators?: OperatorTable;
  /** The most bytes that a folded value may have, or a constant that is read for it. Default 64 KiB: shapes, not weights. */
  readonly limitBytes?: number;
}

/** What a pass gives back: the same graph, and no rewrites, where it found nothing to do. */
export interface PassResult {
  readonly graph: Graph;
  /** Nodes that were replaced or dropped; for a pass that only learns, 1 where it learnt something. */
  readonly rewrites: number;
}

/** A node to be put in; its name comes from the node that it stands for. */
export interface Replacement {
  readonly op: string;
  readonly domain?: string;
  readonly opset: number;
  readonly inputs: readonly (ValueId | undefined)[];
  readonly attributes?: Readonly<Record<string, Attribute>>;
}

/**
 * Rewrites the node that the walk is at. Returns whether it did: by {@link Rewriter.become} or {@link Rewriter.alias}, once, as the
 * last thing.
 */
export type Rule = (r: Rewriter, node: Node) => boolean;

/** Rules by operator; `domain:name` for those of other domains. */
export type Rules = Readonly<Record<string, Rule>>;

/** The most elements of a constant that a rule looks at. */
const MAX_ELEMENTS = 4096;

/** Returns `graph` after one walk with `rules`, and how often one applied. `graph` itself where none did. */
export function rewrite(graph: Graph, rules: Rules, options: PassOptions): PassResult {
  if (!graph.nodes.some(node => ruleFor(rules, node) !== undefined)) return { graph, rewrites: 0 };
  const rewriter = new Rewriter(graph, options);
  rewriter.walk(node => ruleFor(rules, node)?.(rewriter, node) ?? false);
  return rewriter.finish();
}

function ruleFor(rules: Rules, node: Node): Rule | undefined {
  const key = node.domain === '' ? node.op : `${node.domain}:${node.op}`;
  return Object.hasOwn(rules, key) ? rules[key] : undefined;
}

/**
 * One walk over a graph. Patterns are matched at their last node and look back: everything that they need is defined before it, so
 * what takes its place stands where it stood and the order stays right. Ids and names of values stay; new values come after the old.
 * Each step costs what the nodes it touches cost, so a walk is linear in the graph.
 */
export class Rewriter {
  readonly options: PassOptions;
  readonly #graph: Graph;
  readonly #operators: OperatorTable;
  readonly #values: Value[];
  readonly #constants: Map<ValueId, Constant>;
  readonly #inputs: ReadonlySet<ValueId>;
  readonly #outputs: ReadonlySet<ValueId>;
  /** The nodes so far; undefined where one has gone. */
  readonly #out: (Node | undefined)[] = [];
  /** Where in `#out` a value is made; -1 for inputs, constants and what the walk has not reached. */
  readonly #madeBy: number[];
  readonly #uses: number[];
  readonly #standIns = new Map<ValueId, ValueId>();
  readonly #elements = new Map<ValueId, readonly number[] | undefined>();
  #names: Set<string> | undefined;
  #fresh = 0;
  #rewrites = 0;
  /** The node at which the walk is. */
  #at: Node | undefined;

  constructor(graph: Graph, options: PassOptions = {}) {
    this.options = options;
    this.#graph = graph;
    this.#operators = options.operators ?? OPERATORS;
    this.#values = [...graph.values];
    this.#constants = new Map(graph.constants);
    this.#inputs = new Set(graph.inputs);
    this.#outputs = new Set(graph.outputs);
    this.#madeBy = new Array<number>(graph.values.length).fill(-1);
    this.#uses = new Array<number>(graph.values.length).fill(0);
    for (const node of graph.nodes) for (const id of node.inputs) if (id !== undefined) this.#uses[id]!++;
  }

  /** Visits each node that is still needed, with the inputs that it has by then. `visit` says whether it replaced it. */
  walk(visit: (node: Node) => boolean): void {
    for (const original of this.#graph.nodes) {
      const node = this.#current(original);
      this.#at = node;
      if (!node.outputs.some(id => id !== undefined && this.#needed(id))) {
        // Dead code goes along where something else is to be done; by itself it is not worth a new graph.
        this.#letGo(node.inputs);
      } else {
        const before = this.#out.length;
        if (visit(node)) this.#rewrites++;
        else {
          this.#takeBack(before);
          this.#push(node);
        }
      }
    }
    this.#at = undefined;
  }

  /** Drops what a rule emitted before it gave up. */
  #takeBack(before: number): void {
    while (this.#out.length > before) {
      const node = this.#out.pop();
      if (node === undefined) continue;
      for (const id of node.outputs) if (id !== undefined) this.#madeBy[id] = -1;
      for (const id of node.inputs) if (id !== undefined) this.#uses[id]!--;
    }
  }

  /** The graph as it is now. */
  finish(): PassResult {
    if (this.#rewrites === 0) return { graph: this.#graph, rewrites: 0 };
    const nodes: Node[] = [];
    for (const node of this.#out) if (node !== undefined) nodes.push(this.#current(node));
    const constants = new Map<ValueId, Constant>();
    for (const [id, constant] of this.#constants) {
      if (this.#needed(id) || this.#inputs.has(id)) constants.set(id, constant);
    }
    const graph = Object.freeze({
      ...this.#graph,
      values: Object.freeze(this.#values),
      nodes: Object.freeze(nodes),
      constants,
    });
    return { graph, rewrites: this.#rewrites };
  }

  // ---- looking ----

  facts(id: ValueId): Facts {
    return this.#values[id]!.facts;
  }

  shape(id: ValueId): readonly Dim[] {
    return this.#values[id]!.facts.shape;
  }

  /** How many inputs of nodes a value feeds. */
  uses(id: ValueId): number {
    return this.#uses[id]!;
  }

  isOutput(id: ValueId): boolean {
    return this.#outputs.has(id);
  }

  /** The node that makes a value, if it is one of these operators of the ONNX domain. */
  producer(id: ValueId | undefined, ...ops: readonly string[]): Node | undefined {
    const node = this.maker(id);
    return node?.domain === '' && ops.includes(node.op) ? node : undefined;
  }

  /** The node that makes a value. */
  maker(id: ValueId | undefined): Node | undefined {
    if (id === undefined) return undefined;
    const at = this.#madeBy[id]!;
    if (at < 0) return undefined;
    const node = this.#out[at]!;
    const current = this.#current(node);
    if (current !== node) this.#out[at] = current;
    return current;
  }

  /** {@link Rewriter.producer}, where nothing but one input of one node needs the value. */
  ownProducer(id: ValueId | undefined, ...ops: readonly string[]): Node | undefined {
    return id !== undefined && this.isOwn(id) ? this.producer(id, ...ops) : undefined;
  }

  /** Whether one input of one node is all that needs the value. */
  isOwn(id: ValueId): boolean {
    return this.#uses[id] === 1 && !this.#outputs.has(id);
  }

  /** A constant that no caller can override. */
  constant(id: ValueId | undefined): Constant | undefined {
    return id === undefined || this.#inputs.has(id) ? undefined : this.#constants.get(id);
  }

  /**
   * Whether the value is the same in every run: a constant, or made of constants by a node of four inputs at most, whose inputs may be
   * made so as well. Deeper arithmetic is left to constant folding, so that an answer costs little.
   */
  isConstant(id: ValueId | undefined, depth = 2): boolean {
    if (id === undefined) return false;
    if (this.constant(id)) return true;
    const node = depth > 0 ? this.maker(id) : undefined;
    return (
      node !== undefined &&
      node.inputs.length <= 4 &&
      node.inputs.some(input => input !== undefined) &&
      node.inputs.every(input => input === undefined || this.isConstant(input, depth - 1))
    );
  }

  /** The elements of a short numeric constant. */
  elements(id: ValueId | undefined): readonly number[] | undefined {
    const constant = this.constant(id);
    if (id === undefined || constant === undefined) return undefined;
    if (this.#elements.has(id)) return this.#elements.get(id);
    const values = this.#read(this.facts(id), constant);
    this.#elements.set(id, values);
    return values;
  }

  #read({ dtype, shape }: Facts, constant: Constant): readonly number[] | undefined {
    if (dtype === 'string' || shape.some(dim => typeof dim === 'string')) return undefined;
    if (elementCount(shape as readonly number[]) > MAX_ELEMENTS) return undefined;
    if (constant.kind === 'inline') return constant.tensor.values().map(Number);
    if (this.options.constants === undefined) return undefined;
    const bytes = this.options.constants.read(constant.offset, constant.length);
    return Tensor.fromBytes(dtype, shape as readonly number[], bytes)
      .values()
      .map(Number);
  }

  /** The value of a constant of one element, of any rank. */
  scalar(id: ValueId | undefined): number | undefined {
    const values = this.elements(id);
    return values?.length === 1 ? values[0] : undefined;
  }

  /** Whether two values have the same dtype and shape, symbols included. */
  sameFacts(a: ValueId, b: ValueId): boolean {
    return this.facts(a).dtype === this.facts(b).dtype && sameDims(this.shape(a), this.shape(b));
  }

  // ---- changing ----

  /** Adds a constant. The tensor is shared. */
  addConstant(name: string, tensor: Tensor): ValueId {
    const id = this.#newValue(name, { dtype: tensor.dtype, shape: tensor.shape });
    this.#constants.set(id, Object.freeze({ kind: 'inline', tensor }));
    return id;
  }

  /** A constant that lists integers. */
  integers(name: string, values: readonly number[]): ValueId {
    const data = BigInt64Array.from(values, BigInt);
    return this.addConstant(name, Tensor.from('i64', [values.length], data));
  }

  /**
   * Puts a new node before the one that the walk is at, and returns its output. Undefined where it would not fit its inputs or the
   * target does not take it; nothing has changed then.
   */
  emit(replacement: Replacement): ValueId | undefined {
    const draft = this.#node(replacement, [this.#values.length]);
    const facts = this.#infer(draft);
    if (facts?.[0] === undefined || !this.#supported(draft, [facts[0]])) return undefined;
    const id = this.#newValue(`${this.#at!.name}~${replacement.op}`, facts[0]);
    this.#use(draft.inputs);
    this.#push(draft);
    return id;
  }

  /**
   * Puts another node in place of the one that the walk is at; the outputs keep their ids. Returns false, and leaves all as it is,
   * where the new node would not fit its inputs, would not give what the old one gave, or is not taken by the target.
   */
  become(replacement: Replacement, outputs: readonly (ValueId | undefined)[] = this.#at!.outputs): boolean {
    const draft = this.#node(replacement, outputs);
    const facts = this.#infer(draft);
    if (facts === undefined) return false;
    const keeps = outputs.every((id, i) => id === undefined || (facts[i] && mayBe(facts[i], this.facts(id))));
    if (
      !keeps ||
      !this.#supported(
        draft,
        outputs.map(id => (id === undefined ? undefined : this.facts(id))),
      )
    ) {
      return false;
    }
    const before = this.#at!;
    this.#use(draft.inputs);
    this.#letGo(before.inputs);
    this.#push(draft);
    return true;
  }

  /** Gives the node that the walk is at other inputs with the facts of those it had. */
  rewire(inputs: readonly (ValueId | undefined)[]): boolean {
    const before = this.#at!;
    this.#use(inputs);
    this.#letGo(before.inputs);
    this.#push(Object.freeze({ ...before, inputs: Object.freeze([...inputs]) }));
    return true;
  }

  /**
   * Drops the node that the walk is at: `to` stands in for its only needed output. Where that is an output of the graph, `to` takes
   * its id and name if it is made by a node and is no output itself; otherwise nothing changes and the answer is false.
   */
  alias(to: ValueId): boolean {
    const node = this.#at!;
    const needed = node.outputs.filter(id => id !== undefined && this.#needed(id)) as ValueId[];
    if (needed.length !== 1) return false;
    return this.aliasAll([[needed[0]!, to]]);
  }

  /** {@link Rewriter.alias} for several outputs of the node: all of them, or none. */
  aliasAll(pairs: readonly (readonly [from: ValueId, to: ValueId])[]): boolean {
    for (const [from, to] of pairs) {
      if (!this.#outputs.has(from)) continue;
      if (pairs.length > 1 || this.#outputs.has(to) || this.#madeBy[to]! < 0) return false;
    }
    for (const [from, to] of pairs) {
      if (this.#outputs.has(from)) this.#takeOver(from, to);
      else {
        this.#standIns.set(from, to);
        this.#uses[to]! += this.#uses[from]!;
        this.#uses[from] = 0;
      }
    }
    this.#letGo(this.#at!.inputs);
    return true;
  }

  /** The node that makes `to` makes `from` instead. */
  #takeOver(from: ValueId, to: ValueId): void {
    const at = this.#madeBy[to]!;
    const node = this.#out[at]!;
    this.#out[at] = Object.freeze({
      ...node,
      outputs: Object.freeze(node.outputs.map(id => (id === to ? from : id))),
    });
    this.#madeBy[from] = at;
    this.#madeBy[to] = -1;
    this.#uses[from]! += this.#uses[to]!;
    this.#uses[to] = 0;
    this.#standIns.set(to, from);
    // Those that read `to` are resolved as they are looked at; the node that is dropped counts as one of them.
    this.#at = this.#current(this.#at!);
  }

  #node(replacement: Replacement, outputs: readonly (ValueId | undefined)[]): Node {
    return Object.freeze({
      name: this.#at!.name,
      domain: replacement.domain ?? '',
      op: replacement.op,
      opset: replacement.opset,
      inputs: Object.freeze([...replacement.inputs]),
      outputs: Object.freeze([...outputs]),
      attributes: Object.freeze({ ...replacement.attributes }),
    });
  }

  /** The facts of the outputs of a new node. New sizes get names that no other value has. */
  #infer(node: Node): readonly Facts[] | undefined {
    const inference = new Inference(this.#operators);
    const symbols = new Set<string>();
    for (const id of node.inputs) {
      if (id === undefined) continue;
      inference.define(id, this.facts(id), this.constant(id));
      for (const dim of this.shape(id)) if (typeof dim === 'string') symbols.add(dim);
    }
    try {
      const renamed = new Map<string, string>();
      return inference.node(node).map(({ dtype, shape }) => ({
        dtype,
        shape: shape.map(dim => {
          if (typeof dim === 'number' || !dim.startsWith('?') || symbols.has(dim)) return dim;
          if (!renamed.has(dim)) renamed.set(dim, `?${this.#values.length}.${this.#fresh++}`);
          return renamed.get(dim)!;
        }),
      }));
    } catch (error) {
      if (isCloisterError(error)) return undefined;
      throw error;
    }
  }

  #supported(node: Node, outputs: readonly (Facts | undefined)[]): boolean {
    const facts = node.inputs.map(id => (id === undefined ? undefined : this.facts(id)));
    return this.options.supports?.(node, facts, outputs) ?? true;
  }

  #newValue(name: string, facts: Facts): ValueId {
    this.#names ??= new Set(this.#values.map(value => value.name));
    const id = this.#values.length;
    // The id is new, so one more mark at most makes the name new as well.
    let unique = `${name.slice(0, 120)}~${id}`;
    while (this.#names.has(unique)) unique += '~';
    this.#names.add(unique);
    const shape = Object.freeze([...facts.shape]);
    this.#values.push(Object.freeze({ name: unique, facts: Object.freeze({ dtype: facts.dtype, shape }) }));
    this.#madeBy.push(-1);
    this.#uses.push(0);
    return id;
  }

  #needed(id: ValueId): boolean {
    return this.#uses[id]! > 0 || this.#outputs.has(id);
  }

  #push(node: Node): void {
    for (const id of node.outputs) if (id !== undefined) this.#madeBy[id] = this.#out.length;
    this.#out.push(node);
  }

  #use(ids: readonly (ValueId | undefined)[]): void {
    for (const id of ids) if (id !== undefined) this.#uses[id]!++;
  }

  /** One use less of each; what makes a value that nobody needs goes too. */
  #letGo(ids: readonly (ValueId | undefined)[]): void {
    const open = [...ids];
    for (let id = open.pop(); id !== undefined || open.length > 0; id = open.pop()) {
      if (id === undefined) continue;
      if (--this.#uses[id]! > 0 || this.#needed(id)) continue;
      const at = this.#madeBy[id]!;
      const node = at < 0 ? undefined : this.#out[at];
      if (node === undefined || node.outputs.some(other => other !== undefined && this.#needed(other))) continue;
      this.#out[at] = undefined;
      for (const other of node.outputs) if (other !== undefined) this.#madeBy[other] = -1;
      for (const input of node.inputs) if (input !== undefined) open.push(this.#standIn(input));
    }
  }

  /** The node with each input that has a stand-in replaced by it. */
  #current(node: Node): Node {
    if (this.#standIns.size === 0) return node;
    if (!node.inputs.some(id => id !== undefined && this.#standIns.has(id))) return node;
    const inputs = node.inputs.map(id => (id === undefined ? undefined : this.#standIn(id)));
    return Object.freeze({ ...node, inputs: Object.freeze(inputs) });
  }

  #standIn(id: ValueId): ValueId {
    let end = id;
    for (let next = this.#standIns.get(end); next !== undefined; next = this.#standIns.get(end)) end = next;
    // Chains are shortened as they are followed, so that a long one is walked once.
    for (let at = id; at !== end; ) {
      const next = this.#standIns.get(at)!;
      this.#standIns.set(at, end);
      at = next;
    }
    return end;
  }
}

/** Whether two shapes are equal, symbols included. */
export function sameDims(a: readonly Dim[], b: readonly Dim[]): boolean {
  return a.length === b.length && a.every((dim, i) => dim === b[i]);
}

/** Whether a value of facts `a` can be one of facts `b`. */
function mayBe(a: Facts, b: Facts): boolean {
  return (
    a.dtype === b.dtype &&
    a.shape.length === b.shape.length &&
    a.shape.every((dim, i) => typeof dim !== 'number' || typeof b.shape[i] !== 'number' || dim === b.shape[i])
  );
}

/** A dense tensor of one dtype that holds these numbers. */
export function tensorOf(dtype: Facts['dtype'], shape: readonly number[], values: readonly number[]): Tensor {
  if (dtype === 'string') throw new CloisterError('INVALID_ARGUMENT', 'expected a numeric dtype');
  const wide = Tensor.from('f64', shape, Float64Array.from(values));
  return dtype === 'f64' ? wide : wide.cast(dtype);
}

/** Whether elements of the dtype are floating-point numbers. */
export function isFloat(facts: Facts): boolean {
  return DTYPES[facts.dtype].kind === 'float';
}
