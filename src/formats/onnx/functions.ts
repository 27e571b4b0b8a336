/**
 * Functions of a model: the nodes of a function's body take the place of every call.
 * @module
 */
import { CloisterError } from '../../base/index.ts';
import type { LimitCounter } from './limits.ts';
import type { AttributeRecord, FunctionRecord, GraphRecord, ModelRecord, NodeRecord, PortRecord } from './records.ts';

/** How deep functions may call each other: also the end of one that calls itself. */
const MAX_CALLS = 16;

/**
 * Returns `model` without calls of its functions. Each node of a body counts as a node of the model, so that functions which call
 * each other twice do not multiply without end.
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
    this.#counter.take('nodes', countNodes(called.nodes), node.at);
    const prefix = `${node.name || called.name}#${this.#calls++}/`;
    const names = new Map<string, string>();
    called.outputs.forEach((name, i) => {
      if (node.outputs[i]) names.set(name, node.outputs[i]);
    });
    called.inputs.forEach((name, i) => {
      names.set(name, node.inputs[i] ?? '');
    });
    const given = new Map([...called.defaults, ...node.attributes].map(attribute => [attribute.name, attribute]));
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
    const passed = called.outputs.flatMap((name, i): NodeRecord[] =>
      called.inputs.includes(name) && node.outputs[i]
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

/** Nodes with those of their subgraphs. */
function countNodes(nodes: readonly NodeRecord[]): number {
  let count = nodes.length;
  for (const { attributes } of nodes) {
    for (const { value } of attributes) if (value.kind === 'graph') count += countNodes(value.record.nodes);
  }
  return count;
}

function keyOf(domain: string, name: string, overload: string): string {
  return JSON.stringify([domain, name, overload]);
}

function quote(name: string): string {
  return JSON.stringify(name.slice(0, 80));
}
