/**
 * ONNX: bytes that nobody vouches for become a graph, or a typed error.
 *
 * ModelProto holds GraphProto (field 7) and opset imports (8); GraphProto holds nodes (1), initialisers (5), inputs (11) and
 * outputs (12). The reader descends a fixed chain of messages (model, graph, node, attribute, tensor), so the depth of its calls
 * does not depend on the input; subgraphs are not entered. Facts of values between inputs and outputs are inferred, not believed.
 * @see https://github.com/onnx/onnx/blob/v1.18.0/onnx/onnx.proto
 * @module
 */
import { CloisterError } from '../../base/index.ts';
import {
  type Attribute,
  type Dim,
  describeNode,
  type Facts,
  type Graph,
  GraphBuilder,
  ONNX_DTYPES,
  OPERATORS,
  type OperatorTable,
  refuseUnknown,
  type ValueId,
} from '../../graph/index.ts';
import { formatShape, MAX_RANK, Tensor } from '../../tensor/index.ts';
import { type ByteRange, type Field, WireReader } from '../protobuf.ts';
import type { ModelSource } from '../source.ts';
import { DEFAULT_ONNX_LIMITS, LimitCounter, type OnnxLimits } from './limits.ts';
import { loadConstant, readTensor, type TensorRecord } from './tensor.ts';

/** What {@link parseOnnx} may be told. */
export interface OnnxOptions {
  /** Limits that differ from {@link DEFAULT_ONNX_LIMITS}. */
  readonly limits?: Partial<OnnxLimits>;
  /** The operators that the model may use; the whole table where left out. */
  readonly operators?: OperatorTable;
}

/**
 * Returns the graph that an ONNX file holds. Weights that the file holds as plain bytes stay there: they become ranges, which
 * whoever runs the graph reads from the same source. Initialisers that are also listed as inputs are constants.
 *
 * @throws {CloisterError} `INVALID_MODEL` with the byte where the file stops making sense; `MODEL_TOO_LARGE` naming the limit;
 *   `UNSUPPORTED_MODEL` listing every node whose operator is not in the table, or naming what else is missing here (external
 *   data, strings, subgraphs, values that are no tensors); `INVALID_GRAPH` naming the node or value that does not fit.
 * @example
 * ```ts
 * const source = bytesSource(await readFile('digits.onnx'));
 * const graph = parseOnnx(source);
 * const model = referenceBackend.prepare(graph, { constants: source });
 * const { logits } = await model.run({ image: Tensor.zeros('f32', [1, 1, 28, 28]) });
 * logits?.shape; // [1, 10]
 * ```
 */
export function parseOnnx(source: ModelSource, options: OnnxOptions = {}): Graph {
  const limits = { ...DEFAULT_ONNX_LIMITS, ...options.limits };
  if (source.size > limits.bytes) {
    const message = `the file has ${source.size} bytes, the limit is ${limits.bytes}`;
    throw new CloisterError('MODEL_TOO_LARGE', message, { limit: 'bytes', most: limits.bytes, came: source.size });
  }
  const reader = new OnnxReader(new WireReader(source), new LimitCounter(limits));
  return assemble(reader.model(), source, options.operators ?? OPERATORS);
}

interface ModelRecord {
  readonly irVersion: number;
  readonly opsets: ReadonlyMap<string, number>;
  readonly graph: GraphRecord;
}

interface GraphRecord {
  readonly name: string;
  readonly nodes: readonly NodeRecord[];
  readonly initialisers: readonly TensorRecord[];
  readonly inputs: readonly PortRecord[];
  readonly outputs: readonly PortRecord[];
}

interface NodeRecord {
  readonly name: string;
  readonly op: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: readonly AttributeRecord[];
  readonly at: number;
}

/** An attribute whose integers and tensors are still as the file has them. */
interface AttributeRecord {
  readonly name: string;
  readonly value:
    | { readonly kind: 'plain'; readonly value: Attribute }
    | { readonly kind: 'ints'; readonly values: readonly bigint[]; readonly list: boolean }
    | { readonly kind: 'tensor'; readonly record: TensorRecord }
    | { readonly kind: 'other'; readonly what: string };
  readonly at: number;
}

interface PortRecord {
  readonly name: string;
  /** Undefined where the file declares no type. */
  readonly type: PortType | undefined;
  readonly at: number;
}

interface PortType {
  readonly dtype: Facts['dtype'];
  /** Undefined where not even the rank is declared; an undefined dimension is one without a size or name. */
  readonly shape: readonly (Dim | undefined)[] | undefined;
}

/** AttributeProto.AttributeType. */
const ATTRIBUTE_TYPES: Readonly<Record<number, string>> = {
  1: 'float',
  2: 'int',
  3: 'string',
  4: 'tensor',
  5: 'subgraph',
  6: 'floats',
  7: 'ints',
  8: 'strings',
  9: 'list of tensors',
  10: 'list of subgraphs',
  11: 'sparse tensor',
  12: 'list of sparse tensors',
  13: 'type',
  14: 'list of types',
};

/** The field of AttributeProto that holds a value of each type. */
const ATTRIBUTE_FIELDS: Readonly<Record<number, string>> = {
  2: 'float',
  3: 'int',
  4: 'string',
  5: 'tensor',
  6: 'subgraph',
  7: 'floats',
  8: 'ints',
  9: 'strings',
  10: 'list of tensors',
  11: 'list of subgraphs',
  14: 'type',
  15: 'list of types',
  22: 'sparse tensor',
  23: 'list of sparse tensors',
};

const MAX_OPSET_IMPORTS = 64;

/** Turns messages into records, one method per message. */
class OnnxReader {
  readonly #wire: WireReader;
  readonly #counter: LimitCounter;

  constructor(wire: WireReader, counter: LimitCounter) {
    this.#wire = wire;
    this.#counter = counter;
  }

  model(): ModelRecord {
    const once = this.#once();
    let irVersion = 0;
    let graph: ByteRange | undefined;
    const opsets = new Map<string, number>();
    for (const field of this.#wire.fields(this.#wire.all)) {
      if (field.number === 1) {
        once(field);
        irVersion = this.#wire.int(field);
      } else if (field.number === 7) {
        once(field);
        graph = this.#wire.message(field);
      } else if (field.number === 8) {
        const { domain, version } = this.#opset(field);
        if (opsets.has(domain)) this.#wire.fail(`domain ${JSON.stringify(domain)} is imported twice`, field.start);
        if (opsets.size === MAX_OPSET_IMPORTS) this.#wire.fail(`more than ${MAX_OPSET_IMPORTS} imports`, field.start);
        opsets.set(domain, version);
      }
    }
    if (!graph) this.#wire.fail('expected an ONNX model: there is no graph in this file', 0);
    return { irVersion, opsets, graph: this.#graph(graph) };
  }

  #opset(field: Field): { domain: string; version: number } {
    const once = this.#once();
    let domain = '';
    let version: number | undefined;
    for (const part of this.#wire.fields(this.#wire.message(field))) {
      if (part.number === 1) {
        once(part);
        domain = this.#domain(part);
      } else if (part.number === 2) {
        once(part);
        version = this.#wire.int(part);
      }
    }
    if (version === undefined || version < 1)
      this.#wire.fail(`an opset of version ${version ?? 'unknown'}`, field.start);
    return { domain, version };
  }

  #graph(range: ByteRange): GraphRecord {
    const once = this.#once();
    let name = '';
    const nodes: NodeRecord[] = [];
    const initialisers: TensorRecord[] = [];
    const inputs: PortRecord[] = [];
    const outputs: PortRecord[] = [];
    for (const field of this.#wire.fields(range)) {
      switch (field.number) {
        case 1:
          this.#counter.take('nodes', 1, field.start);
          nodes.push(this.#node(field));
          break;
        case 2:
          once(field);
          name = this.#text(field);
          break;
        case 5:
          this.#counter.take('constants', 1, field.start);
          initialisers.push(readTensor(this.#wire, this.#wire.message(field), this.#counter));
          break;
        case 11:
          this.#counter.take('ports', 1, field.start);
          inputs.push(this.#port(field));
          break;
        case 12:
          this.#counter.take('ports', 1, field.start);
          outputs.push(this.#port(field));
          break;
        case 15:
          unsupported('a sparse initialiser', field.start);
      }
    }
    return { name, nodes, initialisers, inputs, outputs };
  }

  #node(field: Field): NodeRecord {
    const once = this.#once();
    const inputs: string[] = [];
    const outputs: string[] = [];
    const attributes: AttributeRecord[] = [];
    let [name, op, domain] = ['', '', ''];
    for (const part of this.#wire.fields(this.#wire.message(field))) {
      switch (part.number) {
        case 1:
          this.#counter.take('edges', 1, part.start);
          inputs.push(this.#text(part));
          break;
        case 2:
          this.#counter.take('edges', 1, part.start);
          outputs.push(this.#text(part));
          break;
        case 3:
          once(part);
          name = this.#text(part);
          break;
        case 4:
          once(part);
          op = this.#text(part);
          break;
        case 5:
          this.#counter.take('attributes', 1, part.start);
          attributes.push(this.#attribute(part));
          break;
        case 7:
          once(part);
          domain = this.#domain(part);
          break;
      }
    }
    if (op === '') this.#wire.fail('a node without an operator', field.start);
    return { name, op, domain, inputs, outputs, attributes, at: field.start };
  }

  #attribute(field: Field): AttributeRecord {
    const wire = this.#wire;
    const once = this.#once();
    let name = '';
    let declared: string | undefined;
    let found: string | undefined;
    let single: Attribute = 0;
    let integer = 0n;
    let record: TensorRecord | undefined;
    const floats: number[] = [];
    const integers: bigint[] = [];
    const strings: string[] = [];
    for (const part of wire.fields(wire.message(field))) {
      const kind = ATTRIBUTE_FIELDS[part.number];
      if (kind !== undefined) {
        if (found !== undefined && found !== kind) wire.fail(`an attribute is both ${found} and ${kind}`, part.start);
        found = kind;
      }
      switch (part.number) {
        case 1:
          once(part);
          name = this.#text(part);
          break;
        case 2:
          once(part);
          single = wire.float(part);
          break;
        case 3:
          once(part);
          integer = wire.int64(part);
          break;
        case 4:
          once(part);
          single = this.#text(part);
          break;
        case 5:
          once(part);
          this.#counter.take('constants', 1, part.start);
          record = readTensor(wire, wire.message(part), this.#counter);
          break;
        case 7:
          wire.eachFloat(part, 4, value => {
            this.#counter.take('listItems', 1, part.start);
            floats.push(value);
          });
          break;
        case 8:
          wire.eachInt64(part, (value, at) => {
            this.#counter.take('listItems', 1, at);
            integers.push(value);
          });
          break;
        case 9:
          this.#counter.take('listItems', 1, part.start);
          strings.push(this.#text(part));
          break;
        case 20: {
          once(part);
          const type = wire.int(part);
          declared = ATTRIBUTE_TYPES[type] ?? `value of type ${type}`;
          break;
        }
        case 21:
          if (part.end > part.start) unsupported('an attribute that refers to a function', part.start);
          break;
      }
    }
    if (name === '') wire.fail('an attribute without a name', field.start);
    const type = declared ?? found ?? wire.fail(`attribute ${JSON.stringify(name)} has no value`, field.start);
    if (found !== undefined && found !== type) {
      wire.fail(`attribute ${JSON.stringify(name)} says it is a ${type}, and holds a ${found}`, field.start);
    }
    const value = ((): AttributeRecord['value'] => {
      switch (type) {
        case 'float':
          return { kind: 'plain', value: single };
        case 'string':
          return { kind: 'plain', value: found === undefined ? '' : single };
        case 'int':
          return { kind: 'ints', values: [integer], list: false };
        case 'ints':
          return { kind: 'ints', values: integers, list: true };
        case 'floats':
          return { kind: 'plain', value: Object.freeze(floats) };
        case 'strings':
          return { kind: 'plain', value: Object.freeze(strings) };
        case 'tensor':
          return record
            ? { kind: 'tensor', record }
            : wire.fail(`attribute ${JSON.stringify(name)} has no tensor`, field.start);
        default:
          return { kind: 'other', what: type };
      }
    })();
    return { name, value, at: field.start };
  }

  #port(field: Field): PortRecord {
    const once = this.#once();
    let name = '';
    let type: PortType | undefined;
    for (const part of this.#wire.fields(this.#wire.message(field))) {
      if (part.number === 1) {
        once(part);
        name = this.#text(part);
      } else if (part.number === 2) {
        once(part);
        type = this.#type(part);
      }
    }
    if (name === '') this.#wire.fail('a graph input or output without a name', field.start);
    return { name, type, at: field.start };
  }

  /** TypeProto: field 1 is a tensor, with an element type (1) and a shape (2). */
  #type(field: Field): PortType | undefined {
    const once = this.#once();
    let type: PortType | undefined;
    for (const part of this.#wire.fields(this.#wire.message(field))) {
      if (part.number === 6) continue; // denotation
      if (part.number !== 1) unsupported('a value that is not a tensor', part.start);
      once(part);
      type = this.#tensorType(part);
    }
    return type;
  }

  #tensorType(field: Field): PortType {
    const once = this.#once();
    let elementType = 0;
    let shape: readonly (Dim | undefined)[] | undefined;
    for (const part of this.#wire.fields(this.#wire.message(field))) {
      if (part.number === 1) {
        once(part);
        elementType = this.#wire.int(part);
      } else if (part.number === 2) {
        once(part);
        shape = this.#shape(part);
      }
    }
    const dtype = ONNX_DTYPES.get(elementType) ?? unsupported(`element type ${elementType}`, field.start);
    return { dtype, shape };
  }

  /** TensorShapeProto: dimensions (1), each a size (1), a name (2), or nothing. */
  #shape(field: Field): readonly (Dim | undefined)[] {
    const dims: (Dim | undefined)[] = [];
    for (const part of this.#wire.fields(this.#wire.message(field))) {
      if (part.number !== 1) continue;
      if (dims.length === MAX_RANK) unsupported(`a value of more than ${MAX_RANK} dimensions`, part.start);
      let dim: Dim | undefined;
      for (const inner of this.#wire.fields(this.#wire.message(part))) {
        if (inner.number === 1) {
          const size = this.#wire.int(inner);
          dim = size < 0 ? undefined : size; // exporters write -1 for «any»
        } else if (inner.number === 2) dim = this.#text(inner) || undefined;
      }
      dims.push(dim);
    }
    return dims;
  }

  #domain(field: Field): string {
    const domain = this.#text(field);
    return domain === 'ai.onnx' ? '' : domain;
  }

  #text(field: Field): string {
    return this.#wire.text(field, this.#counter.limits.stringBytes);
  }

  /** Refuses a second occurrence of a field that has one value: readers disagree on which would count. */
  #once(): (field: Field) => void {
    let seen = 0;
    return field => {
      const bit = 1 << field.number; // field numbers here are below 32
      if (seen & bit) this.#wire.fail(`field ${field.number} is given twice`, field.start);
      seen |= bit;
    };
  }
}

/** Builds the graph from its records. */
function assemble(model: ModelRecord, source: ModelSource, operators: OperatorTable): Graph {
  const { graph } = model;
  const nodes = graph.nodes.map((node, i) => ({
    ...node,
    name: node.name || `${node.op}#${i}`,
    opset: opsetOf(model, node),
  }));
  refuseUnknown(nodes, operators);
  const builder = new GraphBuilder(graph.name || 'graph', { operators });
  const constants = new Set(graph.initialisers.map(record => record.name));
  const dimNames = new Set(
    graph.inputs.flatMap(port => port.type?.shape?.filter(dim => typeof dim === 'string') ?? []),
  );
  for (const port of graph.inputs) {
    if (!constants.has(port.name)) builder.input(port.name, inputFacts(port, dimNames));
  }
  for (const record of graph.initialisers) {
    addConstant(builder, record, record.name);
  }
  for (const port of graph.inputs) {
    if (constants.has(port.name)) checkDeclared(port, builder.facts(builder.find(port.name)!));
  }
  for (const node of inOrder(nodes)) addNode(builder, node, source);
  for (const port of graph.outputs) {
    const id = builder.find(port.name);
    if (id === undefined) {
      throw new CloisterError('INVALID_GRAPH', `graph output ${quote(port.name)} is not defined`, { value: port.name });
    }
    checkDeclared(port, builder.facts(id));
    builder.output(id);
  }
  return builder.build();
}

/**
 * The nodes with every producer before its users. ONNX asks for that order, and not every exporter keeps it; where it is kept,
 * nothing moves.
 *
 * @throws {CloisterError} `INVALID_GRAPH` naming a node of a cycle.
 */
function inOrder<N extends NodeRecord>(nodes: readonly N[]): readonly N[] {
  const producer = new Map<string, number>();
  nodes.forEach((node, i) => {
    for (const output of node.outputs) if (output !== '') producer.set(output, i);
  });
  const order: N[] = [];
  const state = new Uint8Array(nodes.length); // 0 not seen, 1 on the path, 2 placed
  for (let root = 0; root < nodes.length; root++) {
    const path: { node: number; input: number }[] = state[root] === 0 ? [{ node: root, input: 0 }] : [];
    while (path.length > 0) {
      const top = path.at(-1)!;
      const node = nodes[top.node]!;
      state[top.node] = 1;
      const next = top.input < node.inputs.length ? producer.get(node.inputs[top.input++]!) : -1;
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
  const opset = model.opsets.get(node.domain);
  if (opset !== undefined) return opset;
  if (model.irVersion < 3 && model.opsets.size === 0 && node.domain === '') return 1;
  const domain = node.domain === '' ? 'ai.onnx' : node.domain;
  const message = `${describeNode(node)}: the model imports no opset of domain ${quote(domain)} (at byte ${node.at})`;
  throw new CloisterError('INVALID_MODEL', message, { node: node.name, at: node.at });
}

function inputFacts(port: PortRecord, dimNames: Set<string>): Facts {
  if (!port.type) {
    const message = `graph input ${quote(port.name)} has no type (at byte ${port.at})`;
    throw new CloisterError('INVALID_MODEL', message, { value: port.name, at: port.at });
  }
  if (!port.type.shape) unsupported(`graph input ${quote(port.name)} of unknown rank`, port.at);
  const shape = port.type.shape.map((dim, axis) => {
    if (dim !== undefined) return dim;
    let name = `${port.name}.${axis}`;
    while (dimNames.has(name)) name += "'";
    dimNames.add(name);
    return name;
  });
  return { dtype: port.type.dtype, shape };
}

/** What a file declares of a value that is known otherwise must not contradict it. */
function checkDeclared(port: PortRecord, facts: Facts): void {
  const { type } = port;
  if (!type) return;
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

function addNode(builder: GraphBuilder, node: NodeRecord & { readonly opset: number }, source: ModelSource): void {
  // A Constant node is a constant: its weights stay in the file, and its integers keep all their bits.
  if (node.op === 'Constant' && node.domain === '' && node.attributes.length === 1 && node.outputs.length === 1) {
    const [{ name, value }] = node.attributes as [AttributeRecord];
    if (node.inputs.length === 0 && value.kind === 'tensor' && name === 'value') {
      addConstant(builder, value.record, node.outputs[0]!);
      return;
    }
    if (node.inputs.length === 0 && value.kind === 'ints' && (name === 'value_int' || name === 'value_ints')) {
      const elements = BigInt64Array.from(value.values);
      builder.constant(node.outputs[0]!, Tensor.from('i64', value.list ? [elements.length] : [], elements));
      return;
    }
  }
  const inputs = node.inputs.map(name => {
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
    attributes: attributesOf(node, source),
  });
}

function attributesOf(node: NodeRecord, source: ModelSource): Readonly<Record<string, Attribute>> {
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
        const values = value.values.map(safeInteger);
        out.set(name, value.list ? Object.freeze(values) : values[0]!);
        break;
      }
      case 'tensor':
        out.set(name, loadConstant(value.record, source));
        break;
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

/** int64 limits mean «to the end» where attributes hold them; the nearest safe integer means the same. */
function safeInteger(value: bigint): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) return Number.MAX_SAFE_INTEGER;
  return value < BigInt(Number.MIN_SAFE_INTEGER) ? Number.MIN_SAFE_INTEGER : Number(value);
}

function quote(name: string): string {
  return JSON.stringify(name.slice(0, 80));
}

function unsupported(what: string, at: number): never {
  throw new CloisterError('UNSUPPORTED_MODEL', `${what} is not supported (at byte ${at})`, { at });
}
