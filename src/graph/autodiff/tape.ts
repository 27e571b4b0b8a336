/**
 * The tape: a graph that grows at its end. Values and nodes that were there keep their ids.
 * @module
 */
import { CloisterError } from '../../base/index.ts';
import { DTYPES, type DType, type Tensor } from '../../tensor/index.ts';
import type { Attribute, Constant, Dim, Facts, Graph, Node, Value, ValueId } from '../graph.ts';
import { declaredFacts, Inference } from '../infer.ts';
import { findVersion, type OperatorTable, type OperatorVersion } from '../ops/operator.ts';

/** The oldest opset at which rules may write their nodes: from here on axes are inputs and scatters can add. */
const LEAST_OPSET = 18;

/** A node to be written at the end. */
export interface Emission {
  readonly op: string;
  readonly domain?: string;
  readonly opset?: number;
  readonly inputs: readonly (ValueId | undefined)[];
  /** How many outputs; 1 where left out. */
  readonly outputs?: number;
  readonly attributes?: Readonly<Record<string, Attribute>>;
}

/** The facts of an output until its node is inferred. */
const UNKNOWN: Facts = { dtype: 'f32', shape: [] };

/** Collects what is added to a graph, and infers it as it comes. */
export class Tape {
  readonly nodes: Node[];
  readonly operators: OperatorTable;
  readonly #graph: Graph;
  readonly #inference: Inference;
  readonly #names: string[];
  readonly #taken: Set<string>;
  readonly #facts: Facts[];
  readonly #inputs: ValueId[];
  readonly #constants: Map<ValueId, Constant>;
  readonly #pool = new Map<string, ValueId>();
  readonly #opset: number;
  readonly #computed = new Set<ValueId>();
  readonly #declared = new Map<ValueId, Facts>();
  #count = 0;

  constructor(graph: Graph, operators: OperatorTable) {
    this.#graph = graph;
    this.operators = operators;
    this.nodes = [...graph.nodes];
    this.#names = graph.values.map(value => value.name);
    this.#taken = new Set(this.#names);
    this.#facts = graph.values.map(value => value.facts);
    this.#inputs = [...graph.inputs];
    this.#constants = new Map(graph.constants);
    this.#opset = graph.nodes.reduce(
      (opset, node) => (node.domain === '' ? Math.max(opset, node.opset) : opset),
      LEAST_OPSET,
    );
    this.#inference = new Inference(operators);
    // An input with a default is not known: the caller may give another.
    const open = new Set(graph.inputs);
    for (const id of open) this.#inference.define(id, this.#facts[id]!);
    for (const [id, constant] of graph.constants) {
      if (!open.has(id)) this.#inference.define(id, this.#facts[id]!, constant);
    }
    for (const node of graph.nodes) this.#infer(node);
  }

  facts(id: ValueId): Facts {
    return this.#facts[id]!;
  }

  name(id: ValueId): string {
    return this.#names[id]!;
  }

  /** Whether a value is the output of a node that was added. */
  isAdded(id: ValueId): boolean {
    return this.#computed.has(id);
  }

  isFloat(id: ValueId): boolean {
    return DTYPES[this.#facts[id]!.dtype].kind === 'float';
  }

  /** The elements of an integer value where inference has followed them. */
  known(id: ValueId): readonly Dim[] | undefined {
    return this.#inference.known(id);
  }

  /** The version of a node's operator. Inference has found it there. */
  version(node: Node): OperatorVersion {
    return findVersion(this.operators, node)!;
  }

  find(name: string): ValueId | undefined {
    const id = this.#names.indexOf(name);
    return id < 0 ? undefined : id;
  }

  /** Adds an input of the graph; without a name, of any that is free. */
  input(facts: Facts, name: string = this.#fresh()): ValueId {
    const id = this.#value(name, declaredFacts(name, facts));
    this.#inference.define(id, this.#facts[id]!);
    this.#inputs.push(id);
    // Sizes that inference made up are no names for a caller, and the next inference makes up others.
    const shape = facts.shape.map((dim, i) => (String(dim).includes('?') ? `${name}.${i}` : dim));
    this.#declared.set(id, declaredFacts(name, { dtype: facts.dtype, shape }));
    return id;
  }

  /** Adds a constant, or returns the one that was added for the same `key`. */
  constant(key: string, make: () => Tensor): ValueId {
    return this.#once(`constant ${key}`, () => {
      const tensor = make();
      const constant: Constant = Object.freeze({ kind: 'inline', tensor });
      const id = this.#value(this.#fresh(), declaredFacts(key, tensor));
      this.#constants.set(id, constant);
      this.#inference.define(id, this.#facts[id]!, constant);
      return id;
    });
  }

  /** The shape of a value as an i64 vector, made once. */
  shapeOf(id: ValueId): ValueId {
    return this.#once(`shape ${id}`, () => this.emit({ op: 'Shape', inputs: [id] })[0]!);
  }

  /** Adds a node and returns its outputs. */
  emit(emission: Emission): readonly ValueId[] {
    const { op, domain = '', inputs, outputs = 1, attributes = {} } = emission;
    const ids = Array.from({ length: outputs }, (_, i) => this.#names.length + i);
    const node: Node = Object.freeze({
      name: `${op}#${this.nodes.length}`,
      domain,
      op,
      opset: emission.opset ?? (domain === '' ? this.#opset : 1),
      inputs: Object.freeze([...inputs]),
      outputs: Object.freeze(ids),
      attributes: Object.freeze({ ...attributes }),
    });
    for (const _ of ids) this.#value(this.#fresh(), UNKNOWN);
    this.#infer(node);
    this.nodes.push(node);
    for (const id of ids) this.#computed.add(id);
    return ids;
  }

  /** Gives a value a name, or where that is taken the first free `name (n)`. */
  rename(id: ValueId, name: string): void {
    let free = name;
    for (let n = 2; this.#taken.has(free); n++) free = `${name} (${n})`;
    this.#taken.add(free);
    this.#names[id] = free;
  }

  /** The graph with all that was added, and with these outputs. */
  graph(outputs: readonly ValueId[]): Graph {
    const values: readonly Value[] = this.#names.map((name, id) =>
      Object.freeze({ name, facts: this.#declared.get(id) ?? this.#facts[id]! }),
    );
    return Object.freeze({
      ...this.#graph,
      values: Object.freeze(values),
      nodes: Object.freeze([...this.nodes]),
      inputs: Object.freeze([...this.#inputs]),
      outputs: Object.freeze([...outputs]),
      constants: new Map(this.#constants),
    });
  }

  #infer(node: Node): void {
    this.#inference.node(node).forEach((facts, i) => {
      const id = node.outputs[i];
      if (id !== undefined) this.#facts[id] = facts;
    });
  }

  #once(key: string, make: () => ValueId): ValueId {
    const id = this.#pool.get(key) ?? make();
    this.#pool.set(key, id);
    return id;
  }

  #value(name: string, facts: Facts): ValueId {
    if (this.#taken.has(name)) {
      throw new CloisterError('INVALID_ARGUMENT', `value ${JSON.stringify(name)} is there already`, { value: name });
    }
    this.#taken.add(name);
    this.#facts.push(facts);
    return this.#names.push(name) - 1;
  }

  /** A name for a value that nobody will ask for. */
  #fresh(): string {
    while (this.#taken.has(`gradient:${this.#count}`)) this.#count++;
    return `gradient:${this.#count++}`;
  }
}

/** The constant pool's key of one number. */
export function scalarKey(dtype: DType, value: number): string {
  return `${dtype} ${Object.is(value, -0) ? '-0' : value}`;
}
