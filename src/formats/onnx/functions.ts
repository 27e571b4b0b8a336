/**
 * Functions of a model: the nodes of a function's body take the place of every call.
 * @module
 */
import { CloisterError } from '../../base/index.ts';
import type { LimitCounter, OnnxLimits } from './limits.ts';
import type { AttributeRecord, FunctionRecord, GraphRecord, ModelRecord, NodeRecord, PortRecord } from './records.ts';

/** What takes the place of a call costs what it would cost in the file: of these limits. */
type Weight = Record<'nodes' | 'edges' | 'attributes' | 'listItems' | 'inlineBytes', number>;

/** A name is kept to so many characters before it is put in front of others. */
const MAX_PREFIX = 200;

/** How deep functions may call each other: also the end of one that calls itself. */
const MAX_CALLS = 16;

/**
 * Returns `model` without calls of its functions. What a body holds counts as what the model holds, with each call, so that functions
 * which call each other twice do not multiply without end.
 *
 * @throws {CloisterError} `INVALID_MODEL` when a function is defined twice or a call does not fit; `MODEL_TOO_LARGE`;
 *   `UNSUPPORTED_MODEL` when calls lie too deep.
 */
export function inlineFunctions(model: ModelRecord, counter: LimitCounter): ModelRecord {
  if (model.functions.length === 0) return model;
  const functions = new Map<string, FunctionRecord>();
  for (const each of model.functions) {
    const key = keyOf(each.domain, each.name, each.overload);
    if (functions.has(key)) {
      throw new CloisterError('INVALID_MODEL', `function ${quote(each.name)} is defined twice (at byte ${each.at})`);
    }
    functions.set(key, each);
  }
  return { ...model, graph: new Inliner(functions, counter).graph(model.graph, 0), functions: [] };
}

class Inliner {
  readonly #functions: ReadonlyMap<string, FunctionRecord>;
  readonly #counter: LimitCounter;
  readonly #weights = new Map<FunctionRecord, Weight>();
  #calls = 0;

  constructor(functions: ReadonlyMap<string, FunctionRecord>, counter: LimitCounter) {
    this.#functions = functions;
    this.#counter = counter;
  }

  graph(graph: GraphRecord, depth: number): GraphRecord {
    return { ...graph, nodes: graph.nodes.flatMap(node => this.#node(node, depth)) };
  }

  #node(node: NodeRecord, depth: number): readonly NodeRecord[] {
    const called = this.#functions.get(keyOf(node.domain, node.op, node.overload));
    if (called) return this.#call(called, node, depth);
    if (!node.attributes.some(({ value }) => value.kind === 'graph')) return [node];
    const attributes = node.attributes.map(({ name, value, at }) =>
      value.kind === 'graph'
        ? { name, value: { ...value, record: this.graph(value.record, depth) }, at }
        : { name, value, at },
    );
    return [{ ...node, attributes }];
  }

  #call(called: FunctionRecord, node: NodeRecord, depth: number): readonly NodeRecord[] {
    const fail = (code: 'INVALID_MODEL' | 'UNSUPPORTED_MODEL', what: string): never => {
      throw new CloisterError(code, `function ${quote(called.name)}: ${what} (at byte ${node.at})`, {
        node: node.name,
      });
    };
    if (depth === MAX_CALLS) fail('UNSUPPORTED_MODEL', `calls lie more than ${MAX_CALLS} deep`);
    if (node.inputs.length > called.inputs.length || node.outputs.length > called.outputs.length) {
      const has = `${called.inputs.length} inputs and ${called.outputs.length} outputs`;
      fail('INVALID_MODEL', `has ${has}, a call gives ${node.inputs.length} and ${node.outputs.length}`);
    }
    const weight = this.#weights.get(called) ?? weigh(called);
    this.#weights.set(called, weight);
    for (const [limit, amount] of Object.entries(weight)) {
      this.#counter.take(limit as keyof Weight & keyof OnnxLimits, amount, node.at);
    }
    const prefix = `${(node.name || called.name).slice(-MAX_PREFIX)}#${this.#calls++}/`;
    this.#counter.take('inlineBytes', prefix.length * (weight.nodes + weight.edges), node.at);
    const names = new Map<string, string>();
    called.outputs.forEach((name, i) => {
      if (node.outputs[i]) names.set(name, node.outputs[i]);
    });
    called.inputs.forEach((name, i) => {
      names.set(name, node.inputs[i] ?? '');
    });
    const given = new Map([...called.defaults, ...node.attributes].map(attribute => [attribute.name, attribute]));
    for (const name of referencesOf(called.nodes)) {
      const found = given.get(name);
      if (!found) continue;
      const counted = weighAttributes([found]);
      for (const [limit, amount] of Object.entries(counted)) {
        this.#counter.take(limit as keyof Weight & keyof OnnxLimits, amount, node.at);
      }
    }
    const rename = (name: string): string => (name === '' ? '' : (names.get(name) ?? prefix + name));
    const body = called.nodes.map(each => {
      const renamed = renameNode(each, rename, prefix, given);
      const opset = called.opsets.get(each.domain) ?? each.opset;
      if (opset === undefined && !this.#functions.has(keyOf(each.domain, each.op, each.overload))) {
        fail('INVALID_MODEL', `imports no opset of domain ${quote(each.domain === '' ? 'ai.onnx' : each.domain)}`);
      }
      return { ...renamed, opset };
    });
    // An output that is an input is written as one more node.
    const taken = new Set(called.inputs);
    const passed = called.outputs.flatMap((name, i): NodeRecord[] =>
      taken.has(name) && node.outputs[i]
        ? [
            {
              name: `${prefix}output ${i}`,
              op: 'Identity',
              domain: '',
              overload: '',
              opset: 1,
              inputs: [rename(name)],
              outputs: [node.outputs[i]],
              attributes: [],
              at: node.at,
            },
          ]
        : [],
    );
    return [...body, ...passed].flatMap(each => this.#node(each, depth + 1));
  }
}

/** A node by other names, with attributes that refer to a function replaced by those that are `given`. */
export function renameNode(
  node: NodeRecord,
  rename: (name: string) => string,
  prefix: string,
  given: ReadonlyMap<string, AttributeRecord>,
): NodeRecord {
  return {
    ...node,
    name: prefix + (node.name || node.op),
    inputs: node.inputs.map(rename),
    outputs: node.outputs.map(rename),
    attributes: node.attributes.flatMap((attribute): AttributeRecord[] => {
      const { name, value, at } = attribute;
      if (value.kind === 'reference') {
        const found = given.get(value.name);
        return found ? [{ name, value: found.value, at }] : [];
      }
      if (value.kind !== 'graph') return [attribute];
      return [{ name, value: { ...value, record: renameGraph(value.record, rename, prefix, given) }, at }];
    }),
  };
}

function renameGraph(
  graph: GraphRecord,
  rename: (name: string) => string,
  prefix: string,
  given: ReadonlyMap<string, AttributeRecord>,
): GraphRecord {
  const port = (each: PortRecord): PortRecord => ({ ...each, name: rename(each.name) });
  return {
    name: graph.name,
    nodes: graph.nodes.map(node => renameNode(node, rename, prefix, given)),
    initialisers: graph.initialisers.map(each => ({ ...each, name: rename(each.name) })),
    inputs: graph.inputs.map(port),
    outputs: graph.outputs.map(port),
  };
}

/** What one call of a function brings. */
function weigh({ inputs, outputs, defaults, nodes }: FunctionRecord): Weight {
  const weight = weighAttributes(defaults);
  weight.edges += inputs.length + outputs.length;
  addNodes(weight, nodes);
  return weight;
}

function addNodes(weight: Weight, nodes: readonly NodeRecord[]): void {
  weight.nodes += nodes.length;
  for (const { name, inputs, outputs, attributes } of nodes) {
    weight.edges += inputs.length + outputs.length;
    weight.inlineBytes += outputs.reduce((sum, output) => sum + output.length, name.length);
    addAttributes(weight, attributes);
  }
}

function weighAttributes(attributes: readonly AttributeRecord[]): Weight {
  const weight: Weight = { nodes: 0, edges: 0, attributes: 0, listItems: 0, inlineBytes: 0 };
  addAttributes(weight, attributes);
  return weight;
}

function addAttributes(weight: Weight, attributes: readonly AttributeRecord[]): void {
  weight.attributes += attributes.length;
  for (const { value } of attributes) {
    if (value.kind === 'plain' && Array.isArray(value.value)) weight.listItems += value.value.length;
    else if (value.kind === 'ints' && value.list) weight.listItems += value.values.length;
    else if (value.kind === 'graph') {
      const { nodes, initialisers, inputs, outputs } = value.record;
      weight.edges += initialisers.length + inputs.length + outputs.length;
      addNodes(weight, nodes);
    }
  }
}

/** The attributes of its function that a body asks for, once for each time. */
function referencesOf(nodes: readonly NodeRecord[]): readonly string[] {
  return nodes.flatMap(({ attributes }) =>
    attributes.flatMap(({ value }) => {
      if (value.kind === 'reference') return [value.name];
      return value.kind === 'graph' ? referencesOf(value.record.nodes) : [];
    }),
  );
}

function keyOf(domain: string, name: string, overload: string): string {
  return JSON.stringify([domain, name, overload]);
}

function quote(name: string): string {
  return JSON.stringify(name.slice(0, 80));
}
