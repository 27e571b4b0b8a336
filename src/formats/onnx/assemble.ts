/**
 * A graph from the records of a file. Scopes end here: what a subgraph takes from around it becomes inputs of the node that holds it.
 * @module
 */
import { CloisterError, isCloisterError } from '../../base/index.ts';
import {
  type Attribute,
  canonicalDim,
  describeNode,
  type Facts,
  type Graph,
  GraphBuilder,
  type LabelledColumns,
  namesOf,
  type OperatorTable,
  refuseUnknown,
  substituteDim,
  type ValueId,
} from '../../graph/index.ts';
import { formatShape, Tensor } from '../../tensor/index.ts';
import type { ModelSource } from '../source.ts';
import { renameNode } from './functions.ts';
import type { LimitCounter } from './limits.ts';
import type { AttributeRecord, GraphRecord, Integer, ModelRecord, NodeRecord, PortRecord } from './records.ts';
import { loadConstant, type TensorRecord } from './tensor.ts';

/** What the caller of the reader decides. */
export interface AssembleOptions {
  readonly source: ModelSource;
  readonly counter: LimitCounter;
  readonly operators: OperatorTable;
  readonly dims: Readonly<Record<string, number>>;
  readonly values: Readonly<Record<string, Tensor>>;
}

/** What holds for every graph of one file. */
interface Surroundings extends AssembleOptions {
  readonly model: ModelRecord;
}

/** A node with its opset, and the names that its subgraphs take from around it. */
interface PlacedNode extends NodeRecord {
  readonly opset: number;
  readonly captured: readonly string[];
}

/** Builds the graph from its records. */
export function assemble(model: ModelRecord, options: AssembleOptions): Graph {
  const { graph, columns } = takeZipMaps(model.graph);
  refuseUnknown(
    allNodes(graph).map((node, i) => ({ ...node, name: node.name || `${node.op}#${i}`, opset: opsetOf(model, node) })),
    options.operators,
  );
  checkDims(graph, options.dims);
  checkValues(graph, options.values);
  try {
    return buildGraph(graph, { ...options, model }, { columns });
  } catch (error) {
    throw isCloisterError(error, 'UNSUPPORTED_MODEL') && error.detail['decidedBy'] === 'inputs'
      ? namingSizes(error, graph, options.dims)
      : error;
  }
}

/** What is decided by sizes is told with the sizes that are open. */
function namingSizes(error: CloisterError, graph: GraphRecord, dims: AssembleOptions['dims']): CloisterError {
  const constants = new Set(graph.initialisers.map(({ name }) => name));
  const ports = graph.inputs.filter(({ name, type }) => type?.kind === 'tensor' && !constants.has(name)).slice(0, 16);
  const shapes = ports.map(({ type }) => (type?.kind === 'tensor' ? (type.shape ?? []) : []));
  const open = new Set(shapes.flat().filter(dim => typeof dim === 'string' && !Object.hasOwn(dims, dim)));
  const inputs = ports.map(({ name }, i) => `${quote(name)} [${shapes[i]!.map(dim => dim ?? '?').join(',')}]`);
  const message = `${error.message}; the inputs are ${inputs.join(', ')}`.slice(0, 2_000);
  return new CloisterError(error.code, message, { ...error.detail, dims: [...open].slice(0, 64) }, { cause: error });
}

/** Fails unless every name in `dims` is one of a dimension of an input. */
function checkDims(graph: GraphRecord, dims: Readonly<Record<string, number>>): void {
  const symbols = graph.inputs
    .flatMap(({ type }) => (type?.kind === 'tensor' ? (type.shape ?? []) : []))
    .flatMap(dim => (typeof dim === 'string' ? [symbolOf(dim)] : []));
  const names = new Set([...symbols, ...symbols.flatMap(namesOf)]);
  for (const [name, size] of Object.entries(dims)) {
    if (!names.has(name) || !Number.isSafeInteger(size) || size < 0) {
      const problem = names.has(name) ? `expected a size, got ${size}` : 'no input of the model has it';
      throw new CloisterError('INVALID_ARGUMENT', `dimension ${quote(name)}: ${problem}`);
    }
  }
}

/** Fails unless every name in `values` is one of an input. */
function checkValues(graph: GraphRecord, values: Readonly<Record<string, Tensor>>): void {
  for (const name of Object.keys(values)) {
    if (graph.inputs.some(port => port.name === name)) continue;
    throw new CloisterError('INVALID_ARGUMENT', `value ${quote(name)}: no input of the model has this name`);
  }
}

/** A copy of a value that an input is fixed to, which must be one that the input takes. */
function fixedValue(port: PortRecord, { dtype, shape }: Facts, tensor: Tensor): Tensor {
  const fits =
    tensor.dtype === dtype &&
    tensor.shape.length === shape.length &&
    shape.every((dim, i) => typeof dim === 'string' || dim === tensor.shape[i]);
  if (fits) return tensor.clone();
  const came = `${tensor.dtype}${formatShape(tensor.shape)}`;
  const message = `value ${quote(port.name)}: expected ${dtype}${formatShape(shape)}, got ${came}`;
  throw new CloisterError('INVALID_ARGUMENT', message, { value: port.name });
}

/** All nodes that a graph and its subgraphs have. */
function allNodes(graph: GraphRecord): readonly NodeRecord[] {
  const nested = (node: NodeRecord): readonly NodeRecord[] =>
    node.attributes.flatMap(({ value }) => (value.kind === 'graph' ? allNodes(value.record) : []));
  return graph.nodes.flatMap(node => [node, ...nested(node)]);
}

/** What a graph inside another sees of it: values by name, which become its inputs. */
interface Outer {
  readonly builder: GraphBuilder;
  readonly captured: readonly string[];
}

function buildGraph(
  graph: GraphRecord,
  around: Surroundings,
  options: { readonly columns?: ReadonlyMap<string, LabelledColumns>; readonly outer?: Outer },
): Graph {
  const { outer } = options;
  const builder = new GraphBuilder(graph.name || 'graph', {
    operators: around.operators,
    ...(outer ? { within: outer.builder } : {}),
  });
  if (outer) {
    for (const name of outer.captured) builder.capture(outer.builder.find(name)!);
  }
  const constants = new Set(graph.initialisers.map(record => record.name));
  const dimNames = new Set(
    graph.inputs.flatMap(({ type }) =>
      type?.kind === 'tensor' ? (type.shape?.filter(dim => typeof dim === 'string') ?? []) : [],
    ),
  );
  for (const port of graph.inputs) {
    if (constants.has(port.name)) continue;
    const fixed = !outer && Object.hasOwn(around.values, port.name) ? around.values[port.name] : undefined;
    const facts = inputFacts(port, dimNames, around.dims);
    if (fixed) builder.constant(port.name, fixedValue(port, facts, fixed));
    else builder.input(port.name, facts);
  }
  for (const record of graph.initialisers) addConstant(builder, record, record.name);
  for (const port of graph.inputs) {
    if (constants.has(port.name)) checkDeclared(port, builder.facts(builder.find(port.name)!));
  }
  addNodes(builder, graph.nodes, around);
  for (const port of graph.outputs) {
    const id = builder.find(port.name);
    if (id === undefined) {
      throw new CloisterError('INVALID_GRAPH', `graph output ${quote(port.name)} is not defined`, { value: port.name });
    }
    const labels = options.columns?.get(port.name);
    // What a subgraph declares of its outputs is often left from other sizes, and nobody relies on it.
    if (!labels && !outer) checkDeclared(port, builder.facts(id));
    builder.output(id, labels);
  }
  return builder.build();
}

/** Adds nodes with every producer before its users. */
function addNodes(builder: GraphBuilder, nodes: readonly NodeRecord[], around: Surroundings): void {
  const placed = nodes.map((node, i) => ({
    ...node,
    name: node.name || `${node.op}#${i}`,
    opset: opsetOf(around.model, node),
    captured: capturedBy(node),
  }));
  for (const node of inOrder(placed)) {
    const branch = takenBranch(builder, node);
    if (branch) addBranch(builder, node, branch, around);
    else addNode(builder, node, around);
  }
}

/** The branch of an If whose condition is the same whatever the model is given. At these sizes the other may not even have types. */
function takenBranch(builder: GraphBuilder, { domain, op, inputs, attributes }: NodeRecord): GraphRecord | undefined {
  if (domain !== '' || op !== 'If' || inputs.length !== 1) return undefined;
  const id = builder.find(inputs[0]!);
  const condition = id === undefined ? undefined : builder.known(id);
  if (condition?.dtype !== 'bool' || condition.size !== 1) return undefined;
  const wanted = condition.elements()[0] ? 'then_branch' : 'else_branch';
  const found = attributes.find(({ name }) => name === wanted)?.value;
  return found?.kind === 'graph' && found.record.inputs.length === 0 ? found.record : undefined;
}

/** Puts a branch in the place of its If. Its values take the names of the outputs of the If, or names of their own. */
function addBranch(builder: GraphBuilder, node: PlacedNode, branch: GraphRecord, around: Surroundings): void {
  if (node.outputs.length !== branch.outputs.length) {
    const message = `${describeNode(node)}: has ${node.outputs.length} outputs, its branch ${branch.outputs.length}`;
    throw new CloisterError('INVALID_GRAPH', message, { node: node.name });
  }
  const prefix = `${node.name}/`;
  const made = new Set(branch.nodes.flatMap(({ outputs }) => outputs));
  // Names grow with each branch in a branch.
  const renamed = made.size + branch.initialisers.length + branch.nodes.length;
  around.counter.take('inlineBytes', prefix.length * renamed, node.at);
  const names = new Map(
    [...made, ...branch.initialisers.map(({ name }) => name)]
      .filter(name => name !== '')
      .map(name => [name, prefix + name]),
  );
  const direct = new Set<string>();
  branch.outputs.forEach(({ name }, i) => {
    const outside = node.outputs[i]!;
    if (outside === '' || !made.has(name) || direct.has(name)) return;
    direct.add(name);
    names.set(name, outside);
  });
  const rename = (name: string): string => names.get(name) ?? name;
  for (const record of branch.initialisers) addConstant(builder, record, rename(record.name));
  const inside = branch.nodes.map((each, i) =>
    renameNode({ ...each, name: each.name || `${each.op}#${i}` }, rename, prefix, new Map()),
  );
  const copies = branch.outputs.flatMap(({ name }, i): NodeRecord[] => {
    const outside = node.outputs[i]!;
    if (outside === '' || rename(name) === outside) return [];
    const copy = { op: 'Identity', domain: '', overload: '', opset: 1, attributes: [], at: node.at };
    return [{ ...copy, name: `${prefix}output ${i}`, inputs: [rename(name)], outputs: [outside] }];
  });
  addNodes(builder, [...inside, ...copies], around);
}

/** The names that the subgraphs of a node use and do not define, in the order of their first use. */
function capturedBy(node: NodeRecord): readonly string[] {
  const free = new Set<string>();
  for (const { value } of node.attributes) {
    if (value.kind !== 'graph') continue;
    const { nodes, initialisers, inputs, outputs } = value.record;
    const defined = new Set([
      ...initialisers.map(record => record.name),
      ...inputs.map(port => port.name),
      ...nodes.flatMap(inner => inner.outputs),
    ]);
    const use = (name: string): void => {
      if (name !== '' && !defined.has(name)) free.add(name);
    };
    for (const inner of nodes) {
      inner.inputs.forEach(use);
      capturedBy(inner).forEach(use);
    }
    for (const port of outputs) use(port.name);
  }
  return [...free];
}

/**
 * The graph without ZipMap nodes, and how to read the outputs that they made: ZipMap turns a row of scores into a map from label to
 * score, which is for people, not for executors.
 *
 * @throws {CloisterError} `UNSUPPORTED_MODEL` where a ZipMap is followed by anything; `INVALID_GRAPH` where its labels are missing.
 */
function takeZipMaps(graph: GraphRecord): {
  readonly graph: GraphRecord;
  readonly columns: ReadonlyMap<string, LabelledColumns>;
} {
  const isZipMap = ({ domain, op }: NodeRecord): boolean => domain === 'ai.onnx.ml' && op === 'ZipMap';
  const zips = graph.nodes.filter(isZipMap);
  if (zips.length === 0) return { graph, columns: new Map() };
  const uses = new Map<string, number>();
  const use = (name: string): void => void uses.set(name, (uses.get(name) ?? 0) + 1);
  for (const node of graph.nodes) {
    node.inputs.forEach(use);
    capturedBy(node).forEach(use);
  }
  for (const port of graph.outputs) use(port.name);
  const made = new Set(graph.nodes.flatMap(node => node.outputs));
  const columns = new Map<string, LabelledColumns>();
  const renamed = new Map<string, string>();
  const copies: NodeRecord[] = [];
  for (const node of zips) {
    const [from = '', to = ''] = [node.inputs[0], node.outputs[0]];
    if (node.inputs.length !== 1 || node.outputs.length !== 1 || from === '' || to === '') {
      throw new CloisterError('INVALID_GRAPH', `${describeNode(node)}: expected one input and one output`);
    }
    const isOutput = graph.outputs.some(port => port.name === to);
    if (!isOutput || uses.get(to) !== 1) {
      const message = `${describeNode(node)}: a map that is not simply an output of the model is not supported`;
      throw new CloisterError('UNSUPPORTED_MODEL', message, { node: node.name });
    }
    columns.set(to, labelsOf(node));
    // The scores take the name of the output, unless something else knows them by their own.
    if (uses.get(from) === 1 && made.has(from)) renamed.set(from, to);
    else copies.push({ ...node, op: 'Identity', domain: '', opset: 1, attributes: [] });
  }
  const rename = (name: string): string => renamed.get(name) ?? name;
  const nodes = [
    ...graph.nodes.filter(node => !isZipMap(node)).map(node => ({ ...node, outputs: node.outputs.map(rename) })),
    ...copies,
  ];
  return { graph: { ...graph, nodes }, columns };
}

function labelsOf(node: NodeRecord): LabelledColumns {
  for (const { name, value } of node.attributes) {
    if (name === 'classlabels_int64s' && value.kind === 'ints' && value.values.length > 0) {
      return { labels: numbersOf(value.values) };
    }
    if (
      name === 'classlabels_strings' &&
      value.kind === 'plain' &&
      Array.isArray(value.value) &&
      value.value.length > 0
    ) {
      return { labels: value.value as readonly string[] };
    }
  }
  throw new CloisterError('INVALID_GRAPH', `${describeNode(node)}: has no labels`, { node: node.name });
}

/**
 * The nodes with every producer before its users. ONNX asks for that order, and not every exporter keeps it; where it is kept,
 * nothing moves.
 *
 * @throws {CloisterError} `INVALID_GRAPH` naming a node of a cycle.
 */
function inOrder(nodes: readonly PlacedNode[]): readonly PlacedNode[] {
  const producer = new Map<string, number>();
  nodes.forEach((node, i) => {
    for (const output of node.outputs) if (output !== '') producer.set(output, i);
  });
  const needs = nodes.map(node => (node.captured.length > 0 ? [...node.inputs, ...node.captured] : node.inputs));
  const order: PlacedNode[] = [];
  const state = new Uint8Array(nodes.length); // 0 not seen, 1 on the path, 2 placed
  for (let root = 0; root < nodes.length; root++) {
    const path: { node: number; input: number }[] = state[root] === 0 ? [{ node: root, input: 0 }] : [];
    while (path.length > 0) {
      const top = path.at(-1)!;
      const node = nodes[top.node]!;
      state[top.node] = 1;
      const names = needs[top.node]!;
      const next = top.input < names.length ? producer.get(names[top.input++]!) : -1;
      if (next === -1) {
        state[top.node] = 2;
        order.push(node);
        path.pop();
      } else if (next !== undefined && state[next] === 1) {
        throw new CloisterError('INVALID_GRAPH', `${describeNode(node)} needs its own result: the nodes have a cycle`, {
          node: node.name,
        });
      } else if (next !== undefined && state[next] === 0) {
        path.push({ node: next, input: 0 });
      }
    }
  }
  return order;
}

/** Files before IR 3 named no opset: they mean the first. */
function opsetOf(model: ModelRecord, node: NodeRecord): number {
  const opset = node.opset ?? model.opsets.get(node.domain);
  if (opset !== undefined) return opset;
  if (model.irVersion < 3 && model.opsets.size === 0 && node.domain === '') return 1;
  const domain = node.domain === '' ? 'ai.onnx' : node.domain;
  const message = `${describeNode(node)}: the model imports no opset of domain ${quote(domain)} (at byte ${node.at})`;
  throw new CloisterError('INVALID_MODEL', message, { node: node.name, at: node.at });
}

function inputFacts(port: PortRecord, dimNames: Set<string>, dims: Readonly<Record<string, number>>): Facts {
  if (!port.type) {
    const message = `graph input ${quote(port.name)} has no type (at byte ${port.at})`;
    throw new CloisterError('INVALID_MODEL', message, { value: port.name, at: port.at });
  }
  if (port.type.kind === 'other') unsupported(`graph input ${quote(port.name)}, which is ${port.type.what},`, port.at);
  if (!port.type.shape) unsupported(`graph input ${quote(port.name)} of unknown rank`, port.at);
  const shape = port.type.shape.map((dim, axis) => {
    if (dim !== undefined) return typeof dim === 'string' ? substituteDim(symbolOf(dim), dims) : dim;
    let name = `${port.name}.${axis}`;
    while (dimNames.has(name)) name += "'";
    dimNames.add(name);
    return name;
  });
  return { dtype: port.type.dtype, shape };
}

/** A symbol of a file. One that is spelt as a number is a name all the same. */
function symbolOf(name: string): string {
  const dim = canonicalDim(name);
  return typeof dim === 'string' ? dim : `dim_${name}`;
}

/** What a file declares of a value that is known otherwise must not contradict it. */
function checkDeclared(port: PortRecord, facts: Facts): void {
  const { type } = port;
  if (!type) return;
  if (type.kind === 'other') {
    const message = `${quote(port.name)} is declared as ${type.what} and is ${facts.dtype}${formatShape(facts.shape)}`;
    throw new CloisterError('INVALID_GRAPH', message, { value: port.name });
  }
  const shape = type.shape;
  const differs =
    type.dtype !== facts.dtype ||
    (shape !== undefined &&
      (shape.length !== facts.shape.length ||
        shape.some(
          (dim, i) => typeof dim === 'number' && typeof facts.shape[i] === 'number' && dim !== facts.shape[i],
        )));
  if (differs) {
    const declared = `${type.dtype}${shape ? formatShape(shape.map(dim => dim ?? '?')) : ''}`;
    const message = `${quote(port.name)} is declared as ${declared} and is ${facts.dtype}${formatShape(facts.shape)}`;
    throw new CloisterError('INVALID_GRAPH', message, { value: port.name });
  }
}

function addConstant(builder: GraphBuilder, record: TensorRecord, name: string): ValueId {
  const { constant, facts } = record;
  return constant.kind === 'inline' ? builder.constant(name, constant.tensor) : builder.range(name, facts, constant);
}

function addNode(builder: GraphBuilder, node: PlacedNode, around: Surroundings): void {
  // A Constant node is a constant: its weights stay in the file, and its integers keep all their bits.
  if (node.op === 'Constant' && node.domain === '' && node.attributes.length === 1 && node.outputs.length === 1) {
    const [{ name, value }] = node.attributes as [AttributeRecord];
    if (node.inputs.length === 0 && value.kind === 'tensor' && name === 'value') {
      addConstant(builder, value.record, node.outputs[0]!);
      return;
    }
    if (node.inputs.length === 0 && value.kind === 'ints' && (name === 'value_int' || name === 'value_ints')) {
      const elements = BigInt64Array.from(value.values, BigInt);
      builder.constant(node.outputs[0]!, Tensor.from('i64', value.list ? [elements.length] : [], elements));
      return;
    }
  }
  const inputs = [...node.inputs, ...node.captured].map(name => {
    if (name === '') return undefined;
    const id = builder.find(name);
    if (id !== undefined) return id;
    throw new CloisterError('INVALID_GRAPH', `${describeNode(node)}: input ${quote(name)} is not defined`, {
      node: node.name,
    });
  });
  builder.node({
    op: node.op,
    domain: node.domain,
    opset: node.opset,
    name: node.name,
    inputs,
    outputs: node.outputs.map(name => (name === '' ? undefined : name)),
    attributes: attributesOf(node, around, builder),
  });
}

function attributesOf(
  node: PlacedNode,
  around: Surroundings,
  builder: GraphBuilder,
): Readonly<Record<string, Attribute>> {
  const out = new Map<string, Attribute>();
  for (const { name, value, at } of node.attributes) {
    if (out.has(name)) {
      const message = `${describeNode(node)}: attribute ${quote(name)} is given twice (at byte ${at})`;
      throw new CloisterError('INVALID_MODEL', message, { node: node.name, at });
    }
    switch (value.kind) {
      case 'plain':
        out.set(name, value.value);
        break;
      case 'ints': {
        const values = numbersOf(value.values);
        out.set(name, value.list ? Object.freeze(values) : values[0]!);
        break;
      }
      case 'tensor':
        out.set(name, loadConstant(value.record, around.source));
        break;
      case 'graph': {
        const { record } = value;
        if (record.inputs.length > 0) {
          const message = `${describeNode(node)}: subgraph ${quote(name)} has inputs of its own (at byte ${at})`;
          throw new CloisterError('UNSUPPORTED_MODEL', message, { node: node.name, at });
        }
        out.set(name, buildGraph(record, around, { outer: { builder, captured: node.captured } }));
        break;
      }
      case 'reference': {
        const message = `${describeNode(node)}: attribute ${quote(name)} refers to a function, outside of one (at byte ${at})`;
        throw new CloisterError('INVALID_MODEL', message, { node: node.name, at });
      }
      case 'other':
        throw new CloisterError(
          'UNSUPPORTED_MODEL',
          `${describeNode(node)}: attribute ${quote(name)} is a ${value.what}`,
          {
            node: node.name,
            at,
          },
        );
      default:
        value satisfies never;
    }
  }
  return Object.fromEntries(out);
}

/** The same list where all are numbers already: lists may be long. */
function numbersOf(values: readonly Integer[]): readonly number[] {
  return values.every(value => typeof value === 'number') ? values : values.map(safeInteger);
}

/** int64 limits mean «to the end» where attributes hold them; the nearest safe integer means the same. */
function safeInteger(value: Integer): number {
  if (typeof value === 'number') return value;
  return value < 0n ? Number.MIN_SAFE_INTEGER : Number.MAX_SAFE_INTEGER;
}

function quote(name: string): string {
  return JSON.stringify(name.slice(0, 80));
}

function unsupported(what: string, at: number): never {
  throw new CloisterError('UNSUPPORTED_MODEL', `${what} is not supported (at byte ${at})`, { at });
}
