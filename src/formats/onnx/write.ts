/**
 * ONNX, written: a graph becomes the bytes of a ModelProto that this library and others read.
 * @module
 */
import { CloisterError, concatBytes, encodeUtf8 } from '../../base/index.ts';
import {
  type Attribute,
  type AttributeSpec,
  type ConstantReader,
  type Dim,
  describeNode,
  type Facts,
  findVersion,
  type Graph,
  isGraph,
  type LabelledColumns,
  type Node,
  ONNX_DTYPES,
  OPERATORS,
  type OperatorTable,
  type ValueId,
} from '../../graph/index.ts';
import { type DType, Tensor } from '../../tensor/index.ts';

/** What {@link writeOnnx} may be told. */
export interface WriteOnnxOptions {
  /** Where the bytes of the graph's `range` constants are; needed when it has any. */
  readonly constants?: ConstantReader;
  /** The operators that say which type an attribute has; the whole table where left out. */
  readonly operators?: OperatorTable;
  /** Written as the model's producer. */
  readonly producer?: string;
}

/**
 * Returns `graph` as the bytes of an ONNX file. One graph has one spelling: constants in the order of their ids, attributes by
 * name, elements as raw little-endian data.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when no one opset means what all nodes of a domain mean, an attribute has no form in ONNX, or
 *   `range` constants come without a reader.
 * @example
 * ```ts
 * const b = new GraphBuilder('double');
 * const x = b.input('x', { dtype: 'f32', shape: ['N'] });
 * b.output(b.node({ op: 'Add', inputs: [x, x], outputs: ['y'] })[0]!);
 * const bytes = writeOnnx(b.build());
 * parseOnnx(bytesSource(bytes)).name; // 'double'
 * ```
 */
export function writeOnnx(graph: Graph, options: WriteOnnxOptions = {}): Uint8Array {
  const operators = options.operators ?? OPERATORS;
  const opsets = collectOpsets(graph, operators);
  const names = graph.values.map(({ name }, id) => (graph.maps.has(id) ? `${name}/columns` : name));
  return concatBytes(
    // IR 10 came with opset 21; older readers know IR 8.
    varint(1, (opsets.get('') ?? 0) > 20 ? 10 : 8),
    ...(options.producer ? [text(2, options.producer)] : []),
    message(7, writeGraph({ graph, names, taken: new Set(names), constants: options.constants, operators }, true)),
    ...[...opsets].map(([domain, version]) => message(8, concatBytes(text(1, domain), varint(2, version)))),
  );
}

/** A graph on its way out: its values by the names that they have in the file. */
interface Writing {
  readonly graph: Graph;
  readonly names: readonly string[];
  /** Names in use in this graph and around it. ONNX knows no shadowing. */
  readonly taken: ReadonlySet<string>;
  readonly constants: ConstantReader | undefined;
  readonly operators: OperatorTable;
}

/** GraphProto: nodes (1), a name (2), initialisers (5), inputs (11), outputs (12). A subgraph sees its inputs by name, around it. */
function writeGraph(writing: Writing, outermost: boolean): Uint8Array {
  const { graph, names } = writing;
  return concatBytes(
    ...graph.nodes.map(node => message(1, writeNode(writing, node))),
    ...[...graph.maps].map(([id, columns]) => message(1, writeZipMap(names[id]!, graph.values[id]!.name, columns))),
    text(2, graph.name),
    ...[...graph.constants.keys()].map(id =>
      message(5, writeTensorProto(names[id]!, loadTensor(graph, id, writing.constants))),
    ),
    ...graph.inputs
      .filter(id => outermost && !graph.constants.has(id))
      .map(id => message(11, writePort(names[id]!, graph.values[id]!.facts))),
    ...graph.outputs.map(id => {
      const columns = graph.maps.get(id);
      if (columns) return message(12, writeMapPort(graph.values[id]!.name, columns));
      return message(12, writePort(names[id]!, graph.values[id]!.facts));
    }),
  );
}

/**
 * The opset of each domain: a file has one, nodes may come from several. The highest serves where no operator has changed between.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` naming the node that means something else at the opset of the others.
 */
function collectOpsets(graph: Graph, operators: OperatorTable): Map<string, number> {
  const opsets = new Map<string, number>();
  const nodes: Node[] = [];
  // As deep as subgraphs lie in each other, which inference has bounded.
  const visit = (each: Graph): void => {
    for (const node of each.nodes) {
      nodes.push(node);
      opsets.set(node.domain, Math.max(opsets.get(node.domain) ?? 1, node.opset));
      for (const value of Object.values(node.attributes)) if (isGraph(value)) visit(value);
    }
  };
  visit(graph);
  for (const node of nodes) {
    const opset = opsets.get(node.domain)!;
    if (findVersion(operators, node) === findVersion(operators, { ...node, opset })) continue;
    const message = `${describeNode(node)} is of opset ${node.opset} and means something else at ${opset}, which other nodes of its domain need: a file has one opset`;
    throw new CloisterError('INVALID_ARGUMENT', message, { node: node.name });
  }
  if (graph.maps.size > 0 && !opsets.has('ai.onnx.ml')) opsets.set('ai.onnx.ml', 1);
  if (opsets.size === 0) opsets.set('', 1);
  return opsets;
}

function writeNode(writing: Writing, node: Node): Uint8Array {
  const { names } = writing;
  const specs = findVersion(writing.operators, node)?.attributes ?? {};
  const attributes = Object.entries(node.attributes).sort(([a], [b]) => (a < b ? -1 : 1));
  // What the subgraphs capture is not listed: they name it.
  const captured = attributes.reduce(
    (most, [, value]) => (isGraph(value) ? Math.max(most, value.inputs.length) : most),
    0,
  );
  const inputs = node.inputs.slice(0, node.inputs.length - captured);
  const outside = node.inputs.slice(node.inputs.length - captured).map(id => names[id!]!);
  return concatBytes(
    ...inputs.map(id => text(1, id === undefined ? '' : names[id]!)),
    ...node.outputs.map(id => text(2, id === undefined ? '' : names[id]!)),
    text(3, node.name),
    text(4, node.op),
    ...attributes.map(([name, value]) =>
      message(
        5,
        isGraph(value)
          ? concatBytes(text(1, name), message(6, writeSubgraph(writing, value, outside)), varint(20, 5))
          : writeAttribute(node, name, value, specs[name]?.type),
      ),
    ),
    ...(node.domain === '' ? [] : [text(7, node.domain)]),
  );
}

/** A subgraph whose inputs have the names `outside` in the graph around it; its own values step aside where a name is taken. */
function writeSubgraph(around: Writing, graph: Graph, outside: readonly string[]): Uint8Array {
  const taken = new Set(around.taken);
  const names: string[] = [];
  graph.inputs.forEach((id, i) => {
    names[id] = outside[i]!;
  });
  graph.values.forEach(({ name }, id) => {
    if (names[id] !== undefined) return;
    let free = name;
    while (taken.has(free)) free += "'";
    taken.add(free);
    names[id] = free;
  });
  return writeGraph({ ...around, graph, names, taken }, false);
}

/** ZipMap of ai.onnx.ml: columns become a map for each row. */
function writeZipMap(from: string, to: string, { labels }: LabelledColumns): Uint8Array {
  const strings = typeof labels[0] === 'string';
  const attribute = strings
    ? [text(1, 'classlabels_strings'), ...labels.map(label => text(9, label as string)), varint(20, 8)]
    : [text(1, 'classlabels_int64s'), ...labels.map(label => varint(8, label as number)), varint(20, 7)];
  return concatBytes(
    text(1, from),
    text(2, to),
    text(3, `ZipMap ${to}`),
    text(4, 'ZipMap'),
    message(5, concatBytes(...attribute)),
    text(7, 'ai.onnx.ml'),
  );
}

/** AttributeProto: name (1), the value in the field of its type, and the type (20). */
function writeAttribute(
  node: Node,
  name: string,
  value: Attribute,
  type: AttributeSpec['type'] | undefined,
): Uint8Array {
  const all = (code: number, fields: readonly Uint8Array[]): Uint8Array =>
    concatBytes(text(1, name), ...fields, varint(20, code));
  if (value instanceof Tensor) return all(4, [message(5, writeTensorProto('', value))]);
  if (typeof value === 'string') return all(3, [text(4, value)]);
  if (typeof value === 'number') {
    if (type === 'int') return all(2, [varint(3, value)]);
    if (type === 'float') return all(1, [float(2, value)]);
  } else if (type === 'ints') {
    return all(
      7,
      (value as readonly number[]).map(item => varint(8, item)),
    );
  } else if (type === 'floats') {
    return all(
      6,
      (value as readonly number[]).map(item => float(7, item)),
    );
  } else if (type === 'strings') {
    return all(
      8,
      (value as readonly string[]).map(item => text(9, item)),
    );
  }
  throw new CloisterError('INVALID_ARGUMENT', `${describeNode(node)}: attribute ${name} has no known type`, {
    node: node.name,
  });
}

/**
 * Returns `tensor` as the bytes of a TensorProto, as test cases store their inputs and outputs.
 * @example
 * ```ts
 * const bytes = writeTensorProto('x', Tensor.of('i64', [1, 2, 3]));
 * parseTensorProto(bytesSource(bytes)).tensor.toArray(); // [1n, 2n, 3n]
 * ```
 */
export function writeTensorProto(name: string, tensor: Tensor): Uint8Array {
  return concatBytes(
    ...tensor.shape.map(dim => varint(1, dim)),
    varint(2, dtypeCode(tensor.dtype)),
    ...(name === '' ? [] : [text(8, name)]),
    ...(tensor.dtype === 'string'
      ? tensor.values().map(item => text(6, item as string))
      : [message(9, tensor.toBytes())]),
  );
}

/** ValueInfoProto: a name, and a type that is a tensor with an element type and a shape. */
function writePort(name: string, { dtype, shape }: Facts): Uint8Array {
  const dims = shape.map((dim: Dim) => message(1, typeof dim === 'number' ? varint(1, dim) : text(2, dim)));
  const tensorType = concatBytes(varint(1, dtypeCode(dtype)), message(2, concatBytes(...dims)));
  return concatBytes(text(1, name), message(2, message(1, tensorType)));
}

/** A sequence (4) of maps (5) from labels (key type 1) to f32 (value type 2). */
function writeMapPort(name: string, { labels }: LabelledColumns): Uint8Array {
  const value = message(1, varint(1, dtypeCode('f32')));
  const map = concatBytes(varint(1, dtypeCode(typeof labels[0] === 'string' ? 'string' : 'i64')), message(2, value));
  return concatBytes(text(1, name), message(2, message(4, message(1, message(5, map)))));
}

function loadTensor(graph: Graph, id: ValueId, reader: ConstantReader | undefined): Tensor {
  const constant = graph.constants.get(id)!;
  if (constant.kind === 'inline') return constant.tensor;
  if (!reader) {
    const { name } = graph.values[id]!;
    throw new CloisterError(
      'INVALID_ARGUMENT',
      `constant ${JSON.stringify(name)} is in a file: pass the file as options.constants`,
    );
  }
  const { dtype, shape } = graph.values[id]!.facts;
  return Tensor.fromBytes(dtype, shape as readonly number[], reader.read(constant.offset, constant.length));
}

function dtypeCode(dtype: DType): number {
  for (const [code, name] of ONNX_DTYPES) if (name === dtype) return code;
  throw new CloisterError('INVALID_ARGUMENT', `${dtype} has no number in ONNX`);
}

/** A base-128 integer; negative ones take ten bytes, as 64-bit two's complement. */
function base128(value: number): Uint8Array {
  const out: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  for (; rest > 127n; rest >>= 7n) out.push(Number(rest & 127n) | 128);
  out.push(Number(rest));
  return Uint8Array.from(out);
}

function varint(field: number, value: number): Uint8Array {
  return concatBytes(base128(field * 8), base128(value));
}

function float(field: number, value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setFloat32(0, value, true);
  return concatBytes(base128(field * 8 + 5), bytes);
}

function message(field: number, bytes: Uint8Array): Uint8Array {
  return concatBytes(base128(field * 8 + 2), base128(bytes.length), bytes);
}

function text(field: number, value: string): Uint8Array {
  return message(field, encodeUtf8(value));
}
