/**
 * The weights of a folder: one safetensors file, or several with an index that says which tensor is where. What is read of them is
 * their headers.
 * @module
 */
import { CloisterError } from '../../base/index.ts';
import type { GraphBuilder, ValueId } from '../../graph/index.ts';
import { type DType, formatShape, Tensor } from '../../tensor/index.ts';
import { entriesOf, parseJsonObject } from '../json.ts';
import { type ExternalData, staysInFolder } from '../onnx/external.ts';
import { parseSafetensors, type SafetensorsLimits, type StoredTensor } from '../safetensors.ts';
import type { ModelSource } from '../source.ts';

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';

/** What a folder may ask of its reader. The limit of tensors is for all files together. */
export interface FolderLimits extends SafetensorsLimits {
  /** Bytes of `config.json`. */
  readonly configBytes: number;
  /** Bytes of `model.safetensors.index.json`. */
  readonly indexBytes: number;
  /** Files with weights. */
  readonly files: number;
  /** Layers that a configuration lists. */
  readonly layers: number;
}

/** The files of a folder as parts of one address space. */
export type Folder = ModelSource & ExternalData;

/** Every tensor of the folder by name, with offsets in its address space. */
export function openWeights(folder: Folder, limits: FolderLimits): ReadonlyMap<string, StoredTensor> {
  if (folder.locate(SINGLE)) return readFile(folder, SINGLE, limits);
  if (!folder.locate(INDEX)) fail(`expected ${SINGLE} or ${INDEX} in the folder; weights in other forms are not read`);
  const placed = readIndex(folder, limits);
  const files = new Map<string, ReadonlyMap<string, StoredTensor>>();
  const tensors = new Map<string, StoredTensor>();
  let count = 0; // of all files, whether the index names them or not
  for (const [name, file] of placed) {
    let held = files.get(file);
    if (!held) {
      if (files.size === limits.files) tooLarge('files', limits.files);
      held = readFile(folder, file, limits);
      files.set(file, held);
      count += held.size;
      if (count > limits.tensors) tooLarge('tensors', limits.tensors);
    }
    const tensor = held.get(name) ?? fail(`${INDEX}: tensor ${quote(name)} is not in ${quote(file)}`);
    tensors.set(name, tensor);
  }
  return tensors;
}

function readFile(folder: Folder, name: string, limits: FolderLimits): ReadonlyMap<string, StoredTensor> {
  const file = part(folder, name);
  const { tensors } = parseSafetensors(file.source, limits);
  return new Map([...tensors].map(([key, tensor]) => [key, { ...tensor, offset: tensor.offset + file.offset }]));
}

/** The file of each tensor. */
function readIndex(folder: Folder, limits: FolderLimits): ReadonlyMap<string, string> {
  const { source } = part(folder, INDEX);
  const index = parseJsonObject(readAll(source, INDEX, 'indexBytes', limits), INDEX);
  const map = entriesOf(index.get('weight_map')) ?? fail(`${INDEX}: weight_map is not an object`);
  if (map.size > limits.tensors) tooLarge('tensors', limits.tensors);
  for (const [name, file] of map) {
    if (typeof file !== 'string' || !staysInFolder(file)) {
      const shown = typeof file === 'string' ? quote(file) : typeof file;
      fail(`${INDEX}: tensor ${quote(name)}: expected the name of a file in the folder, got ${shown}`);
    }
  }
  return map as ReadonlyMap<string, string>;
}

/** One file of the folder by itself, and where it begins. */
function part(folder: Folder, name: string): { readonly source: ModelSource; readonly offset: number } {
  const place = folder.locate(name);
  if (!place) return fail(`there is no ${quote(name)} in the folder`);
  const { offset, size } = place;
  return { offset, source: { size, read: (at, length) => folder.read(offset + at, length) } };
}

/** All bytes of a small file. @throws {CloisterError} `MODEL_TOO_LARGE` naming the limit. */
export function readAll(
  source: ModelSource,
  name: string,
  limit: 'configBytes' | 'indexBytes',
  limits: FolderLimits,
): Uint8Array {
  if (source.size <= limits[limit]) return source.read(0, source.size);
  const message = `${name} has ${source.size} bytes, the limit is ${limits[limit]}`;
  throw new CloisterError('MODEL_TOO_LARGE', message, { limit, most: limits[limit], came: source.size });
}

/** Element types of weights. The graph computes in f32. */
const WEIGHT_DTYPES: readonly DType[] = ['f32', 'f16', 'bf16'];
const TO_F32 = { to: 1 };

/** Puts tensors of the folder into a graph, each checked when it is asked for. */
export class Weights {
  readonly #builder: GraphBuilder;
  readonly #tensors: ReadonlyMap<string, StoredTensor>;
  readonly #stored = new Map<string, ValueId>();
  readonly #f32 = new Map<string, ValueId>();

  constructor(builder: GraphBuilder, tensors: ReadonlyMap<string, StoredTensor>) {
    this.#builder = builder;
    this.#tensors = tensors;
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  /** The one of `names` that is there; the first where none is, for the error that follows. */
  either(...names: readonly [string, ...string[]]): string {
    const there = names.filter(name => this.has(name));
    if (there.length > 1) fail(`the same weight is there as ${there.map(quote).join(' and ')}`);
    return there[0] ?? names[0];
  }

  /** The tensor of this name and shape, in f32. */
  take(name: string, shape: readonly number[]): ValueId {
    const known = this.#f32.get(name);
    const stored = this.#take(name, shape);
    if (known !== undefined) return known;
    const value = this.#toF32(stored, `${name}.f32`);
    this.#f32.set(name, value);
    return value;
  }

  /** The rows of a table that `indices` name, in f32: only they are converted. */
  rows(name: string, shape: readonly number[], indices: ValueId, node: string): ValueId {
    const table = this.#take(name, shape);
    const rows = this.#builder.node({ op: 'Gather', name: node, inputs: [table, indices] })[0]!;
    return this.#toF32(rows, `${node}.f32`);
  }

  /** The names of tensors that nobody asked for. */
  unused(): readonly string[] {
    return [...this.#tensors.keys()].filter(name => !this.#stored.has(name));
  }

  #take(name: string, shape: readonly number[]): ValueId {
    const tensor = this.#tensors.get(name) ?? fail(`tensor ${quote(name)} is missing: expected ${formatShape(shape)}`);
    const came = `${tensor.dtype}${formatShape(tensor.shape)}`;
    if (!WEIGHT_DTYPES.includes(tensor.dtype)) {
      fail(`tensor ${quote(name)}: expected ${WEIGHT_DTYPES.join(', ')}, got ${came}`);
    }
    if (tensor.shape.length !== shape.length || tensor.shape.some((size, axis) => size !== shape[axis])) {
      fail(`tensor ${quote(name)}: expected ${formatShape(shape)}, got ${came}`);
    }
    const known = this.#stored.get(name);
    if (known !== undefined) return known;
    const { dtype, offset, length } = tensor;
    const value = this.#builder.range(name, { dtype, shape }, { offset, length });
    this.#stored.set(name, value);
    return value;
  }

  #toF32(value: ValueId, name: string): ValueId {
    if (this.#builder.facts(value).dtype === 'f32') return value;
    return this.#builder.node({ op: 'Cast', name, inputs: [value], attributes: TO_F32 })[0]!;
  }
}

/** Constants that a graph needs beside its weights, each once. */
export class Numbers {
  readonly #builder: GraphBuilder;
  readonly #made = new Map<string, ValueId>();

  constructor(builder: GraphBuilder) {
    this.#builder = builder;
  }

  /** A scalar. */
  f32(value: number): ValueId {
    return this.#make(`f32 ${value}`, () => Tensor.of('f32', value));
  }

  /** A scalar, or a vector. */
  i64(value: number | readonly number[]): ValueId {
    return this.#make(`i64 ${typeof value === 'number' ? value : `[${value.join(', ')}]`}`, () =>
      Tensor.of('i64', value),
    );
  }

  #make(name: string, tensor: () => Tensor): ValueId {
    const id = this.#made.get(name) ?? this.#builder.constant(name, tensor());
    this.#made.set(name, id);
    return id;
  }
}

function tooLarge(limit: keyof FolderLimits, most: number): never {
  throw new CloisterError('MODEL_TOO_LARGE', `the folder passes the limit of ${most} ${limit}`, { limit, most });
}

function quote(name: string): string {
  return JSON.stringify(name.slice(0, 80));
}

function fail(message: string): never {
  throw new CloisterError('INVALID_MODEL', message);
}
