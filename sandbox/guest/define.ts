/**
 * Plugins inside the guest: their entry evaluated, what it defines copied and checked, and what its functions return copied and checked
 * each time. Pure.
 *
 * Nothing of a plugin reaches the engine but through here, and plugin code gets plain objects and copies only. Whatever it throws,
 * however its values are made (getters, proxies, promises), what comes out is values of ours or a `GUEST_FAILED`.
 * @module
 */
import { CloisterError, decodeUtf8 } from '../../src/base/index.ts';
import type { NamedTensors } from '../../src/engine/index.ts';
import {
  type Attribute,
  type CustomOperator,
  defineOp,
  type Facts,
  type InferContext,
  type OpDefinition,
  type RunContext,
} from '../../src/graph/index.ts';
import { type ArrayOf, DTYPES, type DType, MAX_RANK, Tensor } from '../../src/tensor/index.ts';
import { isBounds, MAX_CELLS } from '../plugins/bounds.ts';
import { isSafeName } from '../untrusted.ts';

/** What a plugin may define, each with a bound: more would be no plugin but a flood. */
const MAX_OPERATORS = 256;
const MAX_NAMES = 64;
const MAX_TENSORS = 4_096;
/** Characters of what a plugin throws. */
const MAX_THROWN = 500;
const ATTRIBUTE_TYPES: ReadonlySet<unknown> = new Set(['int', 'float', 'string', 'ints', 'floats', 'strings']);

/** A plugin as it is handed to the guest. */
export interface Entry {
  /** Name and version, for messages. */
  readonly id: string;
  readonly kind: 'operator' | 'processor' | 'policy' | 'statistic';
  readonly source: string;
  readonly files: ReadonlyMap<string, Uint8Array>;
}

/** What an entry defined. */
export interface Defined {
  readonly operators: readonly CustomOperator[];
  /** What is said of it outside. */
  readonly definition: object;
  /** `before` and `after` of a processor. */
  map(method: string, given: Given): NamedTensors;
  /** `choose` of a policy. */
  choose(summary: unknown, backends: readonly string[]): string;
  /** `contribute` of a statistic. */
  contribute(given: Given): Float64Array;
}

/** Tensors by name, as a plugin is given them. */
export interface Given {
  readonly tensors: NamedTensors;
  /** The first of them is there by every name: for checks, which do not know the names that a plugin looks for. */
  readonly anyName: boolean;
}

type Callback = (...given: readonly unknown[]) => unknown;

/** Why a plugin is at fault. Plugin code never gets hold of one. */
class Fault extends Error {}

const { apply, defineProperty, deleteProperty, getOwnPropertyDescriptor, ownKeys } = Reflect;
/** Tells what a typed array is by its internal slot: it runs no plugin code, and is undefined for a proxy. */
const tagOf = getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag)!.get!;
const evaluate = (globalThis as unknown as Record<string, (source: string) => unknown>)['eval']!;

/**
 * Makes what the global object has now its own for good: a plugin cannot replace what the engine, or another plugin, goes by.
 */
export function keepGlobals(): void {
  for (const key of ownKeys(globalThis)) {
    const descriptor = getOwnPropertyDescriptor(globalThis, key);
    if (descriptor?.configurable !== true) continue;
    const writable = 'value' in descriptor ? { writable: false } : {};
    defineProperty(globalThis, key, { ...writable, configurable: false });
  }
}

/**
 * Evaluates an entry, which calls `define` once, and makes what it defines ready.
 *
 * @throws {CloisterError} `GUEST_FAILED` when it throws, defines nothing, twice or something of another form.
 */
export function evaluateEntry(entry: Entry): Defined {
  const { id, kind } = entry;
  const fail = failing(id);
  let defined: unknown[] | undefined = [];
  const define = (value: unknown): void => {
    if (defined === undefined) throw new TypeError('define: the entry was evaluated before');
    defined.push(value);
  };
  const file = (name: unknown): Uint8Array => {
    const bytes = typeof name === 'string' ? entry.files.get(name) : undefined;
    if (bytes === undefined) throw new TypeError(`file: the plugin has no file of this name`);
    return bytes.slice();
  };
  for (const [name, value] of Object.entries({ define: Object.freeze(define), file: Object.freeze(file) })) {
    defineProperty(globalThis, name, { value, configurable: true });
  }
  try {
    evaluate(`${entry.source}\n//# sourceURL=plugin.js`);
  } catch (thrown) {
    throw fail(`its entry threw ${shown(thrown)}`);
  } finally {
    deleteProperty(globalThis, 'define');
    deleteProperty(globalThis, 'file');
  }
  const [value] = defined;
  const times = defined.length;
  defined = undefined;
  if (times !== 1) throw fail(`it called define ${times} times, expected once, while its entry is evaluated`);
  return reading(fail, 'define', () => {
    const definition = record(value, 'define');
    if (kind === 'operator') return operatorsOf(definition, id);
    if (kind === 'processor') return processorOf(definition, id);
    return kind === 'policy' ? policyOf(definition, id) : statisticOf(definition, id);
  });
}

function operatorsOf(definition: object, id: string): Defined {
  only(definition, ['operators'], 'define');
  const list = items(own(definition, 'operators'), 'operators', MAX_OPERATORS);
  const operators = list.map((item, i) => operatorOf(record(item, `operators[${i}]`), `operators[${i}]`, id));
  const keys = operators.map(({ domain, name }) => `${domain}:${name}`);
  if (new Set(keys).size !== keys.length) throw new Fault('two operators have one domain and name');
  if (keys.length === 0) throw new Fault('it defines no operator');
  const said = operators.map(({ domain, name, versions }) => {
    const [{ since, inputs, outputs, attributes }] = versions as [(typeof versions)[0]];
    const specs = Object.entries(attributes).map(([attribute, { type, default: value, required }]) => {
      return { name: attribute, type, ...(value !== undefined && { default: value }), required: required === true };
    });
    const most = inputs[1] === Number.POSITIVE_INFINITY ? null : inputs[1];
    return { domain, name, since, inputs: [inputs[0], most], outputs: outputs[1], attributes: specs };
  });
  return { ...NOTHING, operators, definition: { operators: said } };
}

function operatorOf(item: object, where: string, id: string): CustomOperator {
  only(item, ['domain', 'name', 'since', 'inputs', 'outputs', 'attributes', 'shape', 'run'], where);
  const attributes = attributesOf(own(item, 'attributes'), `${where}.attributes`);
  const since = own(item, 'since');
  const definition = {
    domain: own(item, 'domain') as string,
    name: own(item, 'name') as string,
    ...(since !== undefined && { since: since as number }),
    inputs: items(own(item, 'inputs'), `${where}.inputs`, MAX_NAMES) as string[],
    outputs: items(own(item, 'outputs'), `${where}.outputs`, MAX_NAMES) as string[],
    attributes,
  };
  const shape = callback(own(item, 'shape'), `${where}.shape`);
  const run = callback(own(item, 'run'), `${where}.run`);
  if (![...definition.inputs, ...definition.outputs, definition.domain, definition.name].every(isString)) {
    throw new Fault(`${where}: domain, name, inputs and outputs are strings`);
  }
  const { name, outputs } = definition;
  const fail = failing(id, name);
  const infer = (c: InferContext): readonly Facts[] => inferred(c, fail, shape, attributes, outputs.length);
  const compute = (c: RunContext): readonly Tensor[] => {
    const given = c.tensors.map(tensor => tensor && plain(tensor));
    const came = calling(fail, 'run', run, given, attributesNow(c, attributes));
    return reading(fail, 'run', () =>
      items(came, 'its result', outputs.length).map((one, i) => tensorOf(one, `result ${i}`)),
    );
  };
  try {
    return defineOp({ ...definition, infer, run: compute });
  } catch (error) {
    throw new Fault((error as Error).message);
  }
}

/** What the shape rule of a plugin says: what it throws is a refusal of the inputs, as an operator of ours refuses them. */
function inferred(
  c: InferContext,
  fail: Failing,
  shape: Callback,
  attributes: NonNullable<OpDefinition['attributes']>,
  count: number,
): readonly Facts[] {
  const names = new Set(c.inputs.flatMap(facts => facts?.shape.filter(isString) ?? []));
  const given = c.inputs.map(facts => facts && { dtype: facts.dtype, shape: [...facts.shape] });
  let came: unknown;
  try {
    came = shape(given, attributesNow(c, attributes));
  } catch (thrown) {
    return c.fail(`its plugin refuses the inputs: ${shown(thrown)}`);
  }
  return reading(fail, 'shape', () => {
    const list = items(came, 'its result', count);
    if (list.length !== count) throw new Fault(`expected ${count} results, got ${list.length}`);
    return list.map(item => {
      const facts = record(item, 'a result');
      const dtype = dtypeOf(own(facts, 'dtype'));
      const dims = items(own(facts, 'shape'), 'a shape', MAX_RANK).map(dim => {
        if (dim === null) return c.fresh();
        if (typeof dim === 'string' && names.has(dim)) return dim;
        if (Number.isSafeInteger(dim) && (dim as number) >= 0) return dim as number;
        throw new Fault('a size is a whole number, a name that an input has, or null where it is not known');
      });
      return { dtype, shape: dims };
    });
  });
}

function attributesOf(value: unknown, where: string): NonNullable<OpDefinition['attributes']> {
  if (value === undefined) return {};
  const specs = record(value, where);
  const names = keysOf(specs, where, MAX_NAMES);
  return Object.fromEntries(
    names.map(name => {
      const spec = record(own(specs, name), `${where}.${name}`);
      only(spec, ['type', 'default', 'required'], `${where}.${name}`);
      const type = own(spec, 'type');
      const given = own(spec, 'default');
      const required = own(spec, 'required');
      if (!ATTRIBUTE_TYPES.has(type)) throw new Fault(`${where}.${name}: no such type`);
      if (required !== undefined && typeof required !== 'boolean')
        throw new Fault(`${where}.${name}: required is a flag`);
      const copy = Array.isArray(given) ? items(given, `${where}.${name}.default`, MAX_CELLS) : given;
      // What does not fit its type is refused by defineOp.
      const initial = copy === undefined ? {} : { default: copy as number };
      return [name, { type: type as 'int', ...initial, ...(required === true && { required }) }];
    }),
  );
}

/** The attributes of a node, with defaults, as plugin code sees them. */
function attributesNow(c: InferContext, specs: NonNullable<OpDefinition['attributes']>): Record<string, unknown> {
  const given: Record<string, Attribute | undefined> = { ...c.node.attributes };
  const entries = Object.entries(specs).map(([name, spec]) => {
    const value = given[name] ?? spec.default;
    return [name, Array.isArray(value) ? [...(value as readonly unknown[])] : value];
  });
  return Object.fromEntries(entries) as Record<string, unknown>;
}

function processorOf(definition: object, id: string): Defined {
  only(definition, ['before', 'after'], 'define');
  const methods = keysOf(definition, 'define', 2);
  if (methods.length === 0) throw new Fault('a processor defines before, after or both');
  const callbacks = new Map(methods.map(name => [name, callback(own(definition, name), name)]));
  const fail = failing(id);
  return {
    ...NOTHING,
    definition: { methods },
    map(method, given) {
      const run = callbacks.get(method);
      if (run === undefined) throw fail(`it defines no ${method}`);
      const came = calling(fail, method, run, plainTensors(given));
      return reading(fail, method, () => tensorsOf(came));
    },
  };
}

function policyOf(definition: object, id: string): Defined {
  only(definition, ['choose'], 'define');
  const choose = callback(own(definition, 'choose'), 'choose');
  const fail = failing(id);
  return {
    ...NOTHING,
    definition: {},
    choose(summary, backends) {
      const came = calling(fail, 'choose', choose, summary, [...backends]);
      if (typeof came !== 'string' || !isSafeName(came)) throw fail('choose returned no name of a backend');
      return came;
    },
  };
}

function statisticOf(definition: object, id: string): Defined {
  only(definition, ['bounds', 'contribute'], 'define');
  const contribute = callback(own(definition, 'contribute'), 'contribute');
  const said = record(own(definition, 'bounds'), 'bounds');
  only(said, ['length', 'low', 'high'], 'bounds');
  const bounds = { length: own(said, 'length'), low: own(said, 'low'), high: own(said, 'high') };
  if (!isBounds(bounds)) {
    throw new Fault(`bounds: expected length from 1 to ${MAX_CELLS}, and finite numbers low and high, low < high`);
  }
  const { length } = bounds;
  const fail = failing(id);
  return {
    ...NOTHING,
    definition: { bounds },
    contribute(given) {
      const came = calling(fail, 'contribute', contribute, plainTensors(given));
      return reading(fail, 'contribute', () => {
        const list = items(came, 'the contribution', length);
        if (list.length !== length || !list.every(value => typeof value === 'number')) {
          throw new Fault(`expected ${length} numbers`);
        }
        return Float64Array.from(list as number[]);
      });
    },
  };
}

const NOTHING: Pick<Defined, 'operators' | 'map' | 'choose' | 'contribute'> = {
  operators: [],
  map: noSuchCall,
  choose: noSuchCall,
  contribute: noSuchCall,
};

function noSuchCall(): never {
  throw new CloisterError('INVALID_ARGUMENT', 'a plugin of this kind has no such call');
}

/** Calls plugin code. Whatever it throws is its fault. */
function calling(fail: Failing, what: string, run: Callback, ...given: readonly unknown[]): unknown {
  try {
    return run(...given);
  } catch (thrown) {
    throw fail(`${what} threw ${shown(thrown)}`, true);
  }
}

/** Reads what plugin code made. Whatever is thrown meanwhile is its fault, too: a trap of a proxy may throw anything. */
function reading<T>(fail: Failing, what: string, body: () => T): T {
  try {
    return body();
  } catch (thrown) {
    throw fail(`${what}: ${thrown instanceof Fault ? thrown.message : `reading it threw ${shown(thrown)}`}`);
  }
}

/** Makes the error of a plugin; `threw` says that a call of it threw, which may be its way to refuse. */
type Failing = (problem: string, threw?: boolean) => CloisterError;

function failing(id: string, operator?: string): Failing {
  const what = operator === undefined ? `the plugin ${id}` : `the plugin ${id}, ${operator}`;
  return (problem, threw = false) => new CloisterError('GUEST_FAILED', `${what}: ${problem}`, { plugin: id, threw });
}

function shown(thrown: unknown): string {
  try {
    return JSON.stringify(String(thrown).slice(0, MAX_THROWN));
  } catch {
    return 'a value that cannot be shown';
  }
}

function plain(tensor: Tensor): { dtype: DType; shape: number[]; data: unknown } {
  const { dtype, shape, data } = tensor.clone();
  return { dtype, shape: [...shape], data };
}

function plainTensors({ tensors, anyName }: Given): Record<string, unknown> {
  const given = Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, plain(tensor)]));
  const [first] = Object.values(given);
  if (!anyName || first === undefined) return given;
  return new Proxy(given, { get: (known, name) => (typeof name === 'string' ? (known[name] ?? first) : undefined) });
}

function tensorsOf(value: unknown): NamedTensors {
  const given = record(value, 'its result');
  const tensors: Record<string, Tensor> = Object.create(null);
  for (const name of keysOf(given, 'its result', MAX_TENSORS)) {
    if (!isSafeName(name)) throw new Fault('a tensor has a name that is not printable');
    tensors[name] = tensorOf(own(given, name), name);
  }
  return tensors;
}

/** A tensor of ours with a copy of the elements. */
function tensorOf(value: unknown, where: string): Tensor {
  const given = record(value, where);
  only(given, ['dtype', 'shape', 'data'], where);
  const dtype = dtypeOf(own(given, 'dtype'));
  const shape = items(own(given, 'shape'), `${where}.shape`, MAX_RANK) as number[];
  if (!shape.every(size => Number.isSafeInteger(size) && size >= 0)) throw new Fault(`${where}: no shape`);
  const size = shape.reduce((product, dim) => product * dim, 1);
  const data = own(given, 'data');
  try {
    return Tensor.from(dtype, shape, elementsOf(dtype, size, data, where));
  } catch (error) {
    throw error instanceof CloisterError ? new Fault(`${where}: ${error.message}`) : error;
  }
}

function elementsOf(dtype: DType, size: number, data: unknown, where: string): ArrayOf<DType> {
  if (dtype === 'string') {
    const texts = items(data, `${where}.data`, size);
    if (!texts.every(text => isString(text) && text.isWellFormed())) throw new Fault(`${where}: expected strings`);
    return texts as string[];
  }
  const { array } = DTYPES[dtype];
  if (typeof data !== 'object' || apply(tagOf, data, []) !== array.name) {
    throw new Fault(`${where}: the elements of ${dtype} are in a ${array.name}`);
  }
  // Copied by internal slots: no iterator, getter or species of the plugin's.
  const copy = new (array as Float32ArrayConstructor)(data as Float32Array) as ArrayOf<DType>;
  if (dtype === 'bool' && (copy as Uint8Array).some(byte => byte > 1)) throw new Fault(`${where}: booleans are 0 or 1`);
  return copy;
}

function dtypeOf(value: unknown): DType {
  if (typeof value !== 'string' || !Object.hasOwn(DTYPES, value)) throw new Fault('expected a dtype');
  return value as DType;
}

function record(value: unknown, where: string): object {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    if (typeof own(value, 'then') !== 'undefined' || value instanceof Promise) {
      throw new Fault(`${where}: a promise came, and nobody waits for it: return the value`);
    }
    return value;
  }
  throw new Fault(`${where}: expected an object, got ${value === null ? 'null' : typeof value}`);
}

/** The own value of a key; undefined where there is none. */
function own(value: object, key: string): unknown {
  const descriptor = getOwnPropertyDescriptor(value, key);
  if (descriptor === undefined) return undefined;
  if (!Object.hasOwn(descriptor, 'value')) throw new Fault(`${key} is a getter, expected a value`);
  return descriptor.value;
}

function only(value: object, known: readonly string[], where: string): void {
  const other = ownKeys(value).find(key => !known.includes(key as string));
  if (other !== undefined) throw new Fault(`${where}: unknown key ${shown(other)}, expected ${known.join(', ')}`);
}

function keysOf(value: object, where: string, most: number): readonly string[] {
  const keys = ownKeys(value);
  if (keys.length > most) throw new Fault(`${where}: ${keys.length} keys, at most ${most}`);
  if (!keys.every(isString)) throw new Fault(`${where}: a key is no string`);
  return keys as string[];
}

/** A copy of a list, each item read once. Typed arrays of numbers are lists, too. */
function items(value: unknown, where: string, most: number): readonly unknown[] {
  const typed = typeof value === 'object' && value !== null && apply(tagOf, value, []) !== undefined;
  if (!Array.isArray(value) && !typed) {
    throw new Fault(`${where}: expected a list, got ${value === null ? 'null' : typeof value}`);
  }
  const { length } = value as readonly unknown[];
  if (!(length <= most)) throw new Fault(`${where}: ${length} items, at most ${most}`);
  return Array.from({ length }, (_, i) => own(value as object, String(i)));
}

function callback(value: unknown, where: string): Callback {
  if (typeof value !== 'function') throw new Fault(`${where}: expected a function`);
  return value as Callback;
}

function isString(value: unknown): value is string {
  return typeof value === 'string';
}

/** The files of a plugin, from one buffer: its entry is the first. */
export function readEntry(header: Readonly<Record<string, unknown>>, payload: Uint8Array): Entry {
  const { id, kind, parts } = header as {
    id: string;
    kind: Entry['kind'];
    parts: readonly { readonly name: string; readonly bytes: number }[];
  };
  const files = new Map<string, Uint8Array>();
  let at = 0;
  for (const { name, bytes } of parts) {
    files.set(name, payload.slice(at, at + bytes));
    at += bytes;
  }
  let source: string;
  try {
    source = decodeUtf8(files.get(parts[0]!.name)!);
  } catch {
    throw failing(id)('its entry is not UTF-8');
  }
  return { id, kind, source, files };
}
