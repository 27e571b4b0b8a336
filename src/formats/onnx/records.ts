/**
 * ONNX messages as records: what a file says, before anybody asks whether it makes sense.
 *
 * ModelProto holds GraphProto (field 7), opset imports (8) and functions (25); GraphProto holds nodes (1), initialisers (5), inputs
 * (11) and outputs (12); an attribute may hold another graph. The reader descends at most {@link MAX_NESTING} graphs deep, so the
 * depth of its calls does not depend on the input.
 * @see https://github.com/onnx/onnx/blob/v1.18.0/onnx/onnx.proto
 * @module
 */
import { CloisterError } from '../../base/index.ts';
import { type Attribute, type Dim, type Facts, MAX_NESTING, ONNX_DTYPES } from '../../graph/index.ts';
import { MAX_RANK } from '../../tensor/index.ts';
import { type ByteRange, type Field, WireReader } from '../protobuf.ts';
import type { ModelSource } from '../source.ts';
import type { ExternalData } from './external.ts';
import type { LimitCounter } from './limits.ts';
import { readTensor, type TensorRecord } from './tensor.ts';

export interface ModelRecord {
  readonly irVersion: number;
  readonly opsets: ReadonlyMap<string, number>;
  readonly graph: GraphRecord;
  readonly functions: readonly FunctionRecord[];
}

/** A function of the model: nodes that stand for a call. */
export interface FunctionRecord {
  readonly domain: string;
  readonly name: string;
  readonly overload: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Attributes that have a default. */
  readonly defaults: readonly AttributeRecord[];
  readonly nodes: readonly NodeRecord[];
  readonly opsets: ReadonlyMap<string, number>;
  readonly at: number;
}

export interface GraphRecord {
  readonly name: string;
  readonly nodes: readonly NodeRecord[];
  readonly initialisers: readonly TensorRecord[];
  readonly inputs: readonly PortRecord[];
  readonly outputs: readonly PortRecord[];
}

export interface NodeRecord {
  readonly name: string;
  readonly op: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: readonly AttributeRecord[];
  readonly overload: string;
  /** The opset of the node's domain where it is not the model's: inside a function. */
  readonly opset: number | undefined;
  readonly at: number;
}

/** An integer of 64 bits: a number where it is exact as one, which takes a quarter of the memory. */
export type Integer = number | bigint;

/** An attribute whose integers and tensors are still as the file has them. */
export interface AttributeRecord {
  readonly name: string;
  readonly value:
    | { readonly kind: 'plain'; readonly value: Attribute }
    | { readonly kind: 'ints'; readonly values: readonly Integer[]; readonly list: boolean }
    | { readonly kind: 'tensor'; readonly record: TensorRecord }
    | { readonly kind: 'graph'; readonly record: GraphRecord }
    /** The attribute of this name of the function that the node is in. */
    | { readonly kind: 'reference'; readonly name: string }
    | { readonly kind: 'other'; readonly what: string };
  readonly at: number;
}

export interface PortRecord {
  readonly name: string;
  /** Undefined where the file declares no type. */
  readonly type: PortType | undefined;
  readonly at: number;
}

export type PortType =
  | {
      readonly kind: 'tensor';
      readonly dtype: Facts['dtype'];
      /** Undefined where not even the rank is declared; an undefined dimension is one without a size or name. */
      readonly shape: readonly (Dim | undefined)[] | undefined;
    }
  | { readonly kind: 'other'; readonly what: string };

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

/** The field of TypeProto for values that are no tensors. */
const OTHER_TYPES: Readonly<Record<number, string>> = {
  4: 'a sequence',
  5: 'a map',
  8: 'a sparse tensor',
  9: 'an optional value',
};

const MAX_OPSET_IMPORTS = 64;
const MAX_WORDS = 1000;
/** What a string takes beside its characters. */
const STRING_BYTES = 24;

/** Turns messages into records, one method per message. */
export class OnnxReader {
  readonly #source: ModelSource;
  readonly #wire: WireReader;
  readonly #counter: LimitCounter;
  readonly #external: ExternalData | undefined;
  /** The first texts of list items, each once. */
  readonly #words = new Map<string, string>();

  constructor(source: ModelSource, counter: LimitCounter, external?: ExternalData) {
    this.#source = source;
    this.#wire = new WireReader(source);
    this.#counter = counter;
    this.#external = external;
  }

  model(): ModelRecord {
    const once = this.#once();
    let irVersion = 0;
    let graph: ByteRange | undefined;
    const functions: Field[] = [];
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
      } else if (field.number === 25) {
        this.#counter.take('nodes', 1, field.start);
        functions.push(field);
      }
    }
    if (!graph) this.#wire.fail('expected an ONNX model: there is no graph in this file', 0);
    return {
      irVersion,
      opsets,
      graph: this.#graph(graph, 0),
      functions: functions.map(field => this.#function(field)),
    };
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

  /** FunctionProto: name (1), inputs (4), outputs (5), nodes (7), opsets (9), domain (10), attribute defaults (11), overload (13). */
  #function(field: Field): FunctionRecord {
    const once = this.#once();
    let [name, domain, overload] = ['', '', ''];
    const inputs: string[] = [];
    const outputs: string[] = [];
    const defaults: AttributeRecord[] = [];
    const nodes: NodeRecord[] = [];
    const opsets = new Map<string, number>();
    for (const part of this.#wire.fields(this.#wire.message(field))) {
      switch (part.number) {
        case 1:
          once(part);
          name = this.#text(part);
          break;
        case 4:
        case 5:
          this.#counter.take('edges', 1, part.start);
          (part.number === 4 ? inputs : outputs).push(this.#text(part));
          break;
        case 7:
          this.#counter.take('nodes', 1, part.start);
          nodes.push(this.#node(part, 0));
          break;
        case 9: {
          const { domain: of, version } = this.#opset(part);
          if (opsets.has(of)) this.#wire.fail(`domain ${JSON.stringify(of)} is imported twice`, part.start);
          if (opsets.size === MAX_OPSET_IMPORTS) this.#wire.fail(`more than ${MAX_OPSET_IMPORTS} imports`, part.start);
          opsets.set(of, version);
          break;
        }
        case 10:
          once(part);
          domain = this.#domain(part);
          break;
        case 11:
          this.#counter.take('attributes', 1, part.start);
          defaults.push(this.#attribute(part, 0));
          break;
        case 13:
          once(part);
          overload = this.#text(part);
          break;
      }
    }
    if (name === '') this.#wire.fail('a function without a name', field.start);
    return { domain, name, overload, inputs, outputs, defaults, nodes, opsets, at: field.start };
  }

  #graph(range: ByteRange, depth: number): GraphRecord {
    if (depth > MAX_NESTING) unsupported(`a subgraph more than ${MAX_NESTING} deep`, range.start);
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
          nodes.push(this.#node(field, depth));
          break;
        case 2:
          once(field);
          name = this.#text(field);
          break;
        case 5:
          this.#counter.take('constants', 1, field.start);
          initialisers.push(this.#tensor(field));
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

  #tensor(field: Field): TensorRecord {
    return readTensor(this.#wire, this.#wire.message(field), {
      counter: this.#counter,
      source: this.#source,
      external: this.#external,
    });
  }

  #node(field: Field, depth: number): NodeRecord {
    const once = this.#once();
    const inputs: string[] = [];
    const outputs: string[] = [];
    const attributes: AttributeRecord[] = [];
    let [name, op, domain, overload] = ['', '', '', ''];
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
          attributes.push(this.#attribute(part, depth));
          break;
        case 7:
          once(part);
          domain = this.#domain(part);
          break;
        case 8:
          once(part);
          overload = this.#text(part);
          break;
      }
    }
    if (op === '') this.#wire.fail('a node without an operator', field.start);
    return { name, op, domain, overload, opset: undefined, inputs, outputs, attributes, at: field.start };
  }

  #attribute(field: Field, depth: number): AttributeRecord {
    const wire = this.#wire;
    const once = this.#once();
    let name = '';
    let declared: string | undefined;
    let found: string | undefined;
    let single: Attribute = 0;
    let integer: Integer = 0;
    let record: TensorRecord | undefined;
    let graph: GraphRecord | undefined;
    let reference = '';
    const floats: number[] = [];
    const integers: Integer[] = [];
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
          integer = compact(wire.int64(part));
          break;
        case 4:
          once(part);
          single = this.#text(part);
          break;
        case 5:
          once(part);
          this.#counter.take('constants', 1, part.start);
          record = this.#tensor(part);
          break;
        case 6:
          once(part);
          graph = this.#graph(wire.message(part), depth + 1);
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
            integers.push(compact(value));
          });
          break;
        case 9:
          this.#counter.take('listItems', 1, part.start);
          strings.push(this.#listText(part));
          break;
        case 20: {
          once(part);
          const type = wire.int(part);
          declared = ATTRIBUTE_TYPES[type] ?? `value of type ${type}`;
          break;
        }
        case 21:
          once(part);
          reference = this.#text(part);
          break;
      }
    }
    if (name === '') wire.fail('an attribute without a name', field.start);
    if (reference !== '') {
      if (found !== undefined) wire.fail(`attribute ${JSON.stringify(name)} has a value and a reference`, field.start);
      return { name, value: { kind: 'reference', name: reference }, at: field.start };
    }
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
        case 'subgraph':
          return graph
            ? { kind: 'graph', record: graph }
            : wire.fail(`attribute ${JSON.stringify(name)} has no graph`, field.start);
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

  /** TypeProto: a tensor (1), with an element type (1) and a shape (2); or a sequence, a map, a sparse or an optional value. */
  #type(field: Field): PortType | undefined {
    const once = this.#once();
    let type: PortType | undefined;
    for (const part of this.#wire.fields(this.#wire.message(field))) {
      if (part.number === 6) continue; // denotation
      const other = OTHER_TYPES[part.number];
      if (part.number !== 1 && other === undefined) continue;
      if (type) this.#wire.fail('a value of two types', part.start);
      once(part);
      type = other === undefined ? this.#tensorType(part) : { kind: 'other', what: other };
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
    return { kind: 'tensor', dtype, shape };
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

  /** The text of a list item. The lists of trees say the same few words again and again: they are kept once. */
  #listText(field: Field): string {
    const text = this.#text(field);
    const known = this.#words.get(text);
    if (known !== undefined) return known;
    this.#counter.take('inlineBytes', STRING_BYTES + 2 * text.length, field.start);
    if (this.#words.size < MAX_WORDS) this.#words.set(text, text);
    return text;
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

function compact(value: bigint): Integer {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

function unsupported(what: string, at: number): never {
  throw new CloisterError('UNSUPPORTED_MODEL', `${what} is not supported (at byte ${at})`, { at });
}
