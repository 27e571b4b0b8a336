/**
 * The graph: immutable SSA over typed values. Every executor reads it; nothing writes it.
 * @module
 */
import type { DType, Tensor } from '../tensor/index.ts';

/**
 * One dimension: a size, or the name of a size that the caller fixes at run time. The same name means the same size
 * everywhere in one graph.
 */
export type Dim = number | string;

/** What is known of a value before it exists. */
export interface Facts {
  readonly dtype: DType;
  readonly shape: readonly Dim[];
}

/** The index of a value in its graph's `values`. */
export type ValueId = number;

/** A value: an input, a constant, or the output of exactly one node. */
export interface Value {
  /** The name in the source file; unique in the graph. */
  readonly name: string;
  readonly facts: Facts;
}

/**
 * What an attribute can hold. Integers are checked to be safe before they get here. A graph is a subgraph, as control flow has
 * them: it sees nothing but its inputs, so what it captures are inputs of the node that holds it.
 */
export type Attribute = number | string | readonly number[] | readonly string[] | Tensor | Graph;

/** One application of an operator. */
export interface Node {
  /** For people: the name in the source file, or `Op#index`. */
  readonly name: string;
  /** `''` is the ONNX default domain. */
  readonly domain: string;
  readonly op: string;
  /** The opset of the domain in the model: which version of the operator this is. */
  readonly opset: number;
  /** An optional input that is left out is `undefined`. */
  readonly inputs: readonly (ValueId | undefined)[];
  readonly outputs: readonly (ValueId | undefined)[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

/**
 * A value that the model file brings. A `range` says where its little-endian bytes lie in the file and is never loaded by
 * whoever only plans; an `inline` constant is here (made by a pass, or stored in the file in a form that is not raw bytes).
 */
export type Constant =
  | { readonly kind: 'inline'; readonly tensor: Tensor }
  | { readonly kind: 'range'; readonly offset: number; readonly length: number };

/**
 * How a person reads an output whose tensor has one column per label: as a map from label to number for each row (ONNX-ML's
 * ZipMap). Executors see the tensor only.
 */
export interface LabelledColumns {
  readonly labels: readonly string[] | readonly number[];
}

/** A whole model. Frozen; nodes stand in an order in which every input is defined before its use. */
export interface Graph {
  readonly name: string;
  readonly values: readonly Value[];
  readonly nodes: readonly Node[];
  readonly inputs: readonly ValueId[];
  readonly outputs: readonly ValueId[];
  readonly constants: ReadonlyMap<ValueId, Constant>;
  /** Outputs that stand for maps. */
  readonly maps: ReadonlyMap<ValueId, LabelledColumns>;
}

/** Whether an attribute holds a subgraph. */
export function isGraph(value: unknown): value is Graph {
  return typeof value === 'object' && value !== null && 'nodes' in value;
}

/** Reads the bytes of `range` constants: the model file behind a graph. Returns a copy or a view; the caller does not write it. */
export interface ConstantReader {
  /** Exactly `length` bytes from `offset`. @throws {CloisterError} `INVALID_MODEL` when the file is shorter. */
  read(offset: number, length: number): Uint8Array;
  /**
   * Writes the `target.length` bytes from `offset` into `target`. For readers that would have to copy: whoever reads much piece by
   * piece then needs one buffer. Errors as {@link ConstantReader.read}.
   */
  readInto?(offset: number, target: Uint8Array): void;
}
