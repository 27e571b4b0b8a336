/**
 * The builder: the one way a graph comes into being. It checks SSA and infers facts as it goes.
 * @module
 */
import { CloisterError } from '../base/index.ts';
import { DTYPES, elementCount, formatShape, type Tensor } from '../tensor/index.ts';
import type { Attribute, Constant, Facts, Graph, LabelledColumns, Node, Value, ValueId } from './graph.ts';
import { declaredFacts, Inference } from './infer.ts';
import { OPERATORS } from './ops/index.ts';
import { MAX_OPSET, type OperatorTable } from './ops/operator.ts';

/** What {@link GraphBuilder} may be told. */
export interface GraphBuilderOptions {
  /** The opset of nodes that name none. */
  readonly opset?: number;
  /** The operators that nodes may use; the whole table where left out. */
  readonly operators?: OperatorTable;
  /** The builder of the graph that this one is to be a subgraph of: no size that is unknown here is taken for one there. */
  readonly within?: GraphBuilder;
}

/** A node to be added. */
export interface NodeSpec {
  readonly op: string;
  /** `undefined` leaves an optional input out. */
  readonly inputs: readonly (ValueId | undefined)[];
  /** Names of the outputs; `undefined` leaves an optional output out. One made-up name where left out. */
  readonly outputs?: readonly (string | undefined)[];
  readonly attributes?: Readonly<Record<string, Attribute>>;
  readonly name?: string;
  readonly domain?: string;
  readonly opset?: number;
}

/**
 * Builds a {@link Graph} in steps. Values are handled by the ids that the methods return.
 *
 * @example
 * ```ts
 * const b = new GraphBuilder('affine');
 * const x = b.input('x', { dtype: 'f32', shape: ['N', 3] });
 * const w = b.constant('w', Tensor.of('f32', [[1], [2], [3]]));
 * b.output(b.node({ op: 'MatMul', inputs: [x, w], outputs: ['y'] })[0]!);
 * const graph = b.build();
 * graph.values[graph.outputs[0]!]?.facts.shape; // ['N', 1]
 * ```
 */
export class GraphBuilder {
  readonly #name: string;
  readonly #opset: number;
  readonly #inference: Inference;
  readonly #within: GraphBuilder | undefined;
  readonly #values: Value[] = [];
  readonly #ids = new Map<string, ValueId>();
  readonly #nodes: Node[] = [];
  readonly #inputs: ValueId[] = [];
  readonly #outputs = new Set<ValueId>();
  readonly #constants = new Map<ValueId, Constant>();
  readonly #maps = new Map<ValueId, LabelledColumns>();

  constructor(name: string, options: GraphBuilderOptions = {}) {
    this.#name = name;
    this.#opset = options.opset ?? MAX_OPSET;
    this.#within = options.within;
    this.#inference = new Inference(
      options.operators ?? OPERATORS,
      options.within ? options.within.#inference : undefined,
    );
  }

  /** Adds an input of the graph. @throws {CloisterError} `INVALID_GRAPH` on a name in use or a shape that cannot exist. */
  input(name: string, facts: Facts): ValueId {
    const id = this.#value(name, declaredFacts(name, facts));
    this.#inference.define(id, this.#values[id]!.facts);
    this.#inputs.push(id);
    return id;
  }

  /**
   * Adds an input of a subgraph: value `outside` of the graph around it, by the same name.
   *
   * @throws {CloisterError} `INVALID_GRAPH` when the builder is not `within` another that has the value.
   */
  capture(outside: ValueId): ValueId {
    const value = this.#within ? this.#within.#values[outside] : undefined;
    if (!value) throw new CloisterError('INVALID_GRAPH', `there is no value ${outside} around this graph`);
    const id = this.#value(value.name, value.facts);
    this.#inference.capture(id, outside);
    this.#inputs.push(id);
    return id;
  }

  /** Adds a constant whose elements are here. The tensor is shared, not copied. */
  constant(name: string, tensor: Tensor): ValueId {
    return this.#constant(name, { dtype: tensor.dtype, shape: tensor.shape }, { kind: 'inline', tensor });
  }

  /**
   * Adds a constant whose little-endian bytes lie in the model file.
   *
   * @throws {CloisterError} `INVALID_GRAPH` when `range.length` is not what `facts` needs, or a size is symbolic.
   */
  range(name: string, facts: Facts, range: { readonly offset: number; readonly length: number }): ValueId {
    const { shape } = declaredFacts(name, facts);
    const needed = shape.every(dim => typeof dim === 'number')
      ? elementCount(shape as readonly number[]) * DTYPES[facts.dtype].bytes
      : Number.NaN;
    if (needed !== range.length || !Number.isSafeInteger(range.offset) || range.offset < 0) {
      const message = `constant ${JSON.stringify(name)} needs ${needed} bytes, its range has ${range.length} at ${range.offset}`;
      throw new CloisterError('INVALID_GRAPH', message, { value: name });
    }
    return this.#constant(name, facts, { kind: 'range', offset: range.offset, length: range.length });
  }

  /**
   * Adds a node after all that are there, and returns the ids of its outputs in order (`undefined` where left out).
   *
   * @throws {CloisterError} `INVALID_GRAPH` naming the node when it does not fit its operator or its inputs;
   *   `UNSUPPORTED_MODEL` when the operator is not in the table.
   */
  node(spec: NodeSpec): readonly (ValueId | undefined)[] {
    const name = spec.name || `${spec.op}#${this.#nodes.length}`;
    for (const id of spec.inputs) {
      if (id !== undefined && this.#values[id] === undefined) {
        const message = `${spec.op} ${JSON.stringify(name)}: input ${id} is not defined yet`;
        throw new CloisterError('INVALID_GRAPH', message, { node: name });
      }
    }
    const names = spec.outputs ?? [`${name}:0`];
    const first = this.#values.length;
    const outputs: (ValueId | undefined)[] = [];
    let next = first;
    for (const output of names) outputs.push(output === undefined ? undefined : next++);
    const node: Node = Object.freeze({
      name,
      domain: spec.domain ?? '',
      op: spec.op,
      opset: spec.opset ?? this.#opset,
      inputs: Object.freeze([...spec.inputs]),
      outputs: Object.freeze(outputs),
      attributes: Object.freeze({ ...spec.attributes }),
    });
    const facts = this.#inference.node(node);
    names.forEach((output, i) => {
      if (output !== undefined) this.#value(output, facts[i]!);
    });
    this.#nodes.push(node);
    return node.outputs;
  }

  /**
   * Makes a value an output of the graph, which may be read as a map for each row.
   *
   * @throws {CloisterError} `INVALID_GRAPH` when it does not exist or is one already, or has not one column per label.
   */
  output(id: ValueId, columns?: LabelledColumns): void {
    if (this.#values[id] === undefined || this.#outputs.has(id)) {
      const problem = this.#values[id] ? `${JSON.stringify(this.#values[id].name)} is one already` : 'no such value';
      throw new CloisterError('INVALID_GRAPH', `graph output ${id}: ${problem}`);
    }
    if (columns) {
      const { dtype, shape } = this.#values[id]!.facts;
      const width = shape.at(-1);
      if (shape.length < 1 || shape.length > 2 || (typeof width === 'number' && width !== columns.labels.length)) {
        const message = `output ${JSON.stringify(this.#values[id]!.name)} is ${dtype}${formatShape(shape)}: expected a row of ${columns.labels.length} columns, one per label`;
        throw new CloisterError('INVALID_GRAPH', message);
      }
      this.#maps.set(id, Object.freeze({ labels: Object.freeze([...columns.labels]) as LabelledColumns['labels'] }));
    }
    this.#outputs.add(id);
  }

  /** The facts of a value so far. */
  facts(id: ValueId): Facts {
    const value = this.#values[id];
    if (!value) throw new CloisterError('INVALID_GRAPH', `no value ${id}`);
    return value.facts;
  }

  /** A value of a few elements that is the same whatever the model is given; undefined where that is not known, or it is large. */
  known(id: ValueId): Tensor | undefined {
    return this.#values[id] ? this.#inference.tensor(id) : undefined;
  }

  /** The value of this name, if there is one. */
  find(name: string): ValueId | undefined {
    return this.#ids.get(name);
  }

  /** Gives a value another name. @throws {CloisterError} `INVALID_GRAPH` on a name in use, or where there is no such value. */
  rename(id: ValueId, name: string): void {
    const { name: old } = this.#values[id] ?? { name: undefined };
    if (old === undefined || name === '' || this.#ids.has(name)) {
      const problem = name === '' ? 'a value needs a name' : `value ${JSON.stringify(name)} is defined twice`;
      throw new CloisterError('INVALID_GRAPH', old === undefined ? `no value ${id}` : problem, { value: name });
    }
    this.#ids.delete(old);
    this.#ids.set(name, id);
    this.#values[id] = Object.freeze({ name, facts: this.facts(id) });
  }

  /** The finished graph, frozen. @throws {CloisterError} `INVALID_GRAPH` when it has no output. */
  build(): Graph {
    if (this.#outputs.size === 0) throw new CloisterError('INVALID_GRAPH', `graph ${this.#name} has no output`);
    return Object.freeze({
      name: this.#name,
      values: Object.freeze([...this.#values]),
      nodes: Object.freeze([...this.#nodes]),
      inputs: Object.freeze([...this.#inputs]),
      outputs: Object.freeze([...this.#outputs]),
      constants: new Map(this.#constants),
      maps: new Map(this.#maps),
    });
  }

  #constant(name: string, facts: Facts, constant: Constant): ValueId {
    const id = this.#value(name, declaredFacts(name, facts));
    this.#constants.set(id, Object.freeze(constant));
    this.#inference.define(id, this.#values[id]!.facts, constant);
    return id;
  }

  #value(name: string, facts: Facts): ValueId {
    if (name === '' || this.#ids.has(name)) {
      const problem = name === '' ? 'a value needs a name' : `value ${JSON.stringify(name)} is defined twice`;
      throw new CloisterError('INVALID_GRAPH', problem, { value: name });
    }
    const id = this.#values.length;
    this.#ids.set(name, id);
    this.#values.push(Object.freeze({ name, facts }));
    return id;
  }
}
