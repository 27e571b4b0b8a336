/**
 * The reference backend: walks the graph in order and computes each node with the kernel of its operator. It is the oracle for
 * every other executor, and what runs where there is no native binary.
 * @module
 */
import { CloisterError, isCloisterError } from '../base/index.ts';
import {
  bindSizes,
  type ConstantReader,
  describeNode,
  type Facts,
  findVersion,
  type Graph,
  inferFacts,
  isGraph,
  type MemoryAccount,
  type Node,
  namesOf,
  OPERATORS,
  type OperatorTable,
  type RunOptions,
  refuseUnknown,
  runGraph,
  runNode,
  type ValueId,
} from '../graph/index.ts';
import { DTYPES, elementCount, formatShape, Tensor } from '../tensor/index.ts';
import {
  type Backend,
  type Executable,
  type ExecuteOptions,
  type NamedTensors,
  NO_MEMORY,
  type PrepareOptions,
} from './backend.ts';
import { fillOutputs } from './outputs.ts';

/**
 * Runs any graph whose operators are in the table, on the calling thread, in plain TypeScript.
 * @example
 * ```ts
 * const b = new GraphBuilder('double');
 * const x = b.input('x', { dtype: 'f32', shape: ['N'] });
 * b.output(b.node({ op: 'Add', inputs: [x, x], outputs: ['y'] })[0]!);
 * const constants = bytesSource(new Uint8Array()); // no weights in a file
 * const model = referenceBackend.prepare(b.build(), { constants });
 * const { y } = await model.run({ x: Tensor.of('f32', [1, 2]) });
 * y?.toArray(); // [2, 4]
 * ```
 */
export const referenceBackend: Backend = referenceBackendOf(OPERATORS);

/**
 * The reference backend over another table: the operators of the library with one's own.
 * @example
 * ```ts
 * referenceBackendOf(tableOf(OPERATORS.values())).name; // 'reference'
 * ```
 */
export function referenceBackendOf(operators: OperatorTable): Backend {
  return {
    name: 'reference',
    supports: node => findVersion(operators, node) !== undefined,
    prepare: (graph, options) => new ReferenceExecutable(graph, operators, options),
  };
}

/**
 * Lets timers, messages and aborts happen between two nodes. A bare isolate has no event loop of its own to wait for; there only
 * pending promises go on.
 */
const turn: () => Promise<void> =
  typeof setImmediate === 'function'
    ? () => new Promise(resolve => setImmediate(resolve))
    : typeof setTimeout === 'function'
      ? () => new Promise(resolve => setTimeout(resolve))
      : async () => {};

/** What a run has to do at one node. */
interface Step {
  readonly node: Node;
  /** Values that no later node reads, and that are no outputs. */
  readonly release: readonly ValueId[];
}

class ReferenceExecutable implements Executable {
  readonly memory: Executable['memory'];
  readonly #graph: Graph;
  readonly #steps: readonly Step[];
  readonly #limitBytes: number;
  readonly #options: RunOptions;
  #constants: ReadonlyMap<ValueId, Tensor> | undefined;

  constructor(graph: Graph, operators: OperatorTable, options: PrepareOptions) {
    refuseUnknown(graph.nodes, operators);
    this.#graph = inferFacts(graph, { operators, ...(options.dims ? { dims: options.dims } : {}) });
    this.#limitBytes = options.limitBytes ?? Number.POSITIVE_INFINITY;
    const inner = subgraphConstants(graph, options.constants);
    const constantBytes = [...graph.constants.keys()].reduce((sum, id) => sum + bytesOf(graph.values[id]!.facts), 0);
    if (constantBytes + inner.bytes > this.#limitBytes) throw overLimit(constantBytes + inner.bytes, this.#limitBytes);
    this.#options = { operators, constant: inner.read };
    const { constants, nodes } = this.#setUp(options.constants, inner.bytes);
    this.#constants = constants;
    this.#steps = planReleases({ ...this.#graph, nodes });
    const permanentBytes = [...constants.values()].reduce((sum, tensor) => sum + bytesOf(tensor), inner.bytes);
    const { inputs, outputs, values } = this.#graph;
    const portBytes = [...inputs, ...outputs].reduce((sum, id) => sum + leastBytes(values[id]!.facts), 0);
    this.memory = Object.freeze({ ...NO_MEMORY, permanentBytes, portBytes });
  }

  async run(inputs: NamedTensors, { signal, onNode }: ExecuteOptions = {}): Promise<NamedTensors> {
    const walk = this.#walk(inputs, onNode);
    for (;;) {
      if (signal?.aborted) throw new CloisterError('ABORTED', 'the run was cancelled', {}, { cause: signal.reason });
      const { done, value } = walk.next();
      if (done) return value;
      await turn();
    }
  }

  runSync(inputs: NamedTensors, { onNode }: Pick<ExecuteOptions, 'onNode'> = {}): NamedTensors {
    const walk = this.#walk(inputs, onNode);
    for (;;) {
      const { done, value } = walk.next();
      if (done) return value;
    }
  }

  runInto(inputs: NamedTensors, outputs: NamedTensors): void {
    fillOutputs(this.runSync(inputs), outputs);
  }

  close(): void {
    this.#constants = undefined;
  }

  /**
   * Computes what depends on constants alone, once for all runs, and returns the constants that runs read and the nodes that are
   * left. A node that fails stays: it fails where it is run.
   */
  #setUp(reader: ConstantReader, innerBytes: number): { constants: Map<ValueId, Tensor>; nodes: readonly Node[] } {
    const graph = this.#graph;
    const constants = new Map([...graph.constants.keys()].map(id => [id, loadConstant(graph, id, reader)]));
    const account = new Account(this.#limitBytes, innerBytes);
    account.holds([...constants.values()]);
    const options = runOptions(this.#options, account);
    const nodes: Node[] = [];
    for (const node of graph.nodes) {
      const ready = node.inputs.every(id => id === undefined || constants.has(id));
      if (!ready || !this.#compute(node, constants, account, options)) nodes.push(node);
    }
    const read = new Set<ValueId | undefined>([...graph.outputs, ...nodes.flatMap(node => node.inputs)]);
    for (const id of constants.keys()) if (!read.has(id)) constants.delete(id);
    return { constants, nodes };
  }

  /** Computes one node over constants and adds its outputs to them; false where it fails. */
  #compute(node: Node, constants: Map<ValueId, Tensor>, account: Account, options: RunOptions): boolean {
    try {
      const inputs = node.inputs.map(id => (id === undefined ? undefined : constants.get(id)));
      const results = runNode(node, inputs, options);
      if (node.outputs.some((id, i) => id !== undefined && !results[i])) return false;
      account.holds(named(node, results));
      node.outputs.forEach((id, i) => {
        if (id !== undefined) constants.set(id, results[i]!);
      });
      return true;
    } catch (error) {
      if (isCloisterError(error)) return false;
      throw error;
    }
  }

  /** Fails unless the results are what the graph says they are, where it says it: whatever follows was typed by it. */
  #check(node: Node, results: readonly Tensor[]): void {
    node.outputs.forEach((id, i) => {
      const result = results[i];
      if (id === undefined || !result) return;
      const { dtype, shape } = this.#graph.values[id]!.facts;
      const fits =
        dtype === result.dtype &&
        shape.length === result.shape.length &&
        shape.every((dim, axis) => typeof dim === 'string' || dim === result.shape[axis]);
      if (fits) return;
      const message = `${describeNode(node)}: output ${i} is ${result.dtype}${formatShape(result.shape)}, the graph says ${dtype}${formatShape(shape)}: fix the sizes that are unknown on import (dims)`;
      throw new CloisterError('SHAPE_MISMATCH', message, { node: node.name, op: node.op });
    });
  }

  /** Yields after each node. */
  *#walk(inputs: NamedTensors, onNode: ExecuteOptions['onNode']): Generator<void, NamedTensors> {
    const constants = this.#constants;
    if (!constants) throw new CloisterError('CLOSED', 'the model was closed');
    const graph = this.#graph;
    const tensors = new Map<ValueId, Tensor>(constants);
    for (const [id, tensor] of checkInputs(graph, inputs)) tensors.set(id, tensor);
    const total = this.#steps.length;
    const account = new Account(this.#limitBytes, this.memory.permanentBytes);
    const options = runOptions(this.#options, account);
    for (const [index, { node, release }] of this.#steps.entries()) {
      onNode?.({ kind: 'start', node, index, total });
      const results = runNode(
        node,
        node.inputs.map(id => (id === undefined ? undefined : tensors.get(id))),
        options,
      );
      onNode?.({
        kind: 'end',
        node,
        index,
        total,
        outputs: node.outputs.map((id, i) => (id === undefined ? undefined : describe(results[i]))),
      });
      node.outputs.forEach((id, i) => {
        if (id === undefined) return;
        const result = results[i];
        if (!result) throw new CloisterError('UNSUPPORTED_MODEL', `${node.op} ${node.name}: output ${i} has no kernel`);
        tensors.set(id, result);
      });
      this.#check(node, results);
      account.holds(named(node, results));
      for (const id of release) {
        account.bytes -= bytesOf(tensors.get(id)!);
        tensors.delete(id);
      }
      yield;
    }
    return collectOutputs(graph, tensors, constants);
  }
}

/** What one run holds, and may. */
class Account implements MemoryAccount {
  readonly #limitBytes: number;
  bytes: number;

  constructor(limitBytes: number, bytes = 0) {
    this.#limitBytes = limitBytes;
    this.bytes = bytes;
  }

  needs(facts: readonly Facts[]): void {
    const needed = this.bytes + facts.reduce((sum, each) => sum + leastBytes(each), 0);
    if (needed > this.#limitBytes) throw overLimit(needed, this.#limitBytes);
  }

  holds(results: readonly Tensor[]): void {
    this.needs(results);
    for (const result of results) this.bytes += bytesOf(result);
  }
}

/** How a run on this account computes. What a subgraph holds is given back when it is done. */
function runOptions(base: RunOptions, account: Account): RunOptions {
  const options: RunOptions = {
    ...base,
    memory: account,
    evaluate(graph, inputs) {
      const before = account.bytes;
      try {
        return runGraph(graph, inputs, options);
      } finally {
        account.bytes = before;
      }
    },
  };
  return options;
}

/** Those of the results that `node` names. */
function named(node: Node, results: readonly Tensor[]): readonly Tensor[] {
  return results.filter((_, i) => node.outputs[i] !== undefined);
}

/** The constants inside the subgraphs of `graph`: their bytes in all, and how to get one. Each is read from the file once. */
function subgraphConstants(
  graph: Graph,
  reader: ConstantReader,
): { readonly bytes: number; readonly read: (graph: Graph, id: ValueId) => Tensor } {
  const loaded = new Map<Graph, Map<ValueId, Tensor>>();
  let bytes = 0;
  const enter = (inner: Graph): void => {
    loaded.set(inner, new Map());
    for (const id of inner.constants.keys()) bytes += bytesOf(inner.values[id]!.facts);
    visit(inner);
  };
  // As deep as subgraphs lie in each other, which inference has bounded.
  const visit = (outer: Graph): void => {
    for (const { attributes } of outer.nodes) {
      for (const value of Object.values(attributes)) if (isGraph(value) && !loaded.has(value)) enter(value);
    }
  };
  visit(graph);
  return {
    bytes,
    read(inner, id) {
      const known = loaded.get(inner)?.get(id);
      if (known) return known;
      const tensor = loadConstant(inner, id, reader);
      loaded.get(inner)?.set(id, tensor);
      return tensor;
    },
  };
}

/** The steps of a run: after each node, the values that were used for the last time. */
function planReleases(graph: Graph): readonly Step[] {
  const made = new Set(graph.nodes.flatMap(node => node.outputs));
  const keep = new Set<ValueId>(graph.outputs);
  for (const { inputs } of graph.nodes) for (const id of inputs) if (id !== undefined && !made.has(id)) keep.add(id);
  const seen = new Set<ValueId>(keep);
  const steps: Step[] = [];
  for (const node of graph.nodes.toReversed()) {
    const release: ValueId[] = [];
    for (const id of [...node.inputs, ...node.outputs]) {
      if (id === undefined || seen.has(id)) continue;
      seen.add(id);
      release.push(id);
    }
    steps.push({ node, release });
  }
  return steps.reverse();
}

/**
 * Checks that `inputs` are exactly the inputs of `graph`, of its dtypes and shapes, and that each symbolic dimension has one
 * size; returns them by value id.
 *
 * @throws {CloisterError} `INPUT_MISMATCH`, `DTYPE_MISMATCH`, `SHAPE_MISMATCH`.
 */
export function checkInputs(graph: Graph, inputs: NamedTensors): ReadonlyMap<ValueId, Tensor> {
  const byName = new Map(graph.inputs.map(id => [graph.values[id]!.name, id]));
  for (const name of Object.keys(inputs)) {
    if (!byName.has(name)) {
      const message = `the model has no input ${JSON.stringify(name.slice(0, 80))}; it has ${[...byName.keys()].join(', ')}`;
      throw new CloisterError('INPUT_MISMATCH', message, { input: name });
    }
  }
  const out = new Map<ValueId, Tensor>();
  for (const [name, id] of byName) {
    const tensor = Object.hasOwn(inputs, name) ? inputs[name] : undefined;
    const { dtype, shape } = graph.values[id]!.facts;
    if (!(tensor instanceof Tensor)) {
      const message = `input ${JSON.stringify(name)} (${dtype}${formatShape(shape)}) is ${tensor === undefined ? 'missing' : 'not a tensor'}`;
      throw new CloisterError('INPUT_MISMATCH', message, { input: name });
    }
    if (tensor.dtype !== dtype) {
      const message = `input ${JSON.stringify(name)}: expected ${dtype}, got ${tensor.dtype}`;
      throw new CloisterError('DTYPE_MISMATCH', message, { input: name, expected: dtype, came: tensor.dtype });
    }
    out.set(id, tensor);
  }
  const entries = [...out];
  const pairs = entries.map(([id, tensor]) => ({ declared: graph.values[id]!.facts.shape, actual: tensor.shape }));
  const { sizes, conflict } = bindSizes(pairs);
  if (conflict !== undefined) {
    const { declared, actual } = pairs[conflict]!;
    const { name } = graph.values[entries[conflict]![0]]!;
    const bound = [...new Set(declared.flatMap(namesOf))].filter(symbol => Object.hasOwn(sizes, symbol));
    const where = bound.length > 0 ? ` with ${bound.map(symbol => `${symbol} = ${sizes[symbol]}`).join(', ')}` : '';
    const message = `input ${JSON.stringify(name)}: expected shape ${formatShape(declared)}${where}, got ${formatShape(actual)}`;
    throw new CloisterError('SHAPE_MISMATCH', message, { input: name, expected: [...declared], came: [...actual] });
  }
  return out;
}

/** The graph's outputs as tensors that share no memory with inputs, constants or each other. */
function collectOutputs(
  graph: Graph,
  tensors: ReadonlyMap<ValueId, Tensor>,
  constants: ReadonlyMap<ValueId, Tensor>,
): NamedTensors {
  const taken = new Set<unknown>();
  for (const id of graph.inputs) taken.add(tensors.get(id)?.buffer);
  for (const tensor of constants.values()) taken.add(tensor.buffer);
  const out = new Map<string, Tensor>();
  for (const id of graph.outputs) {
    const tensor = tensors.get(id)!;
    const own = tensor.buffer && !taken.has(tensor.buffer) && tensor.isContiguous && tensor.data.length === tensor.size;
    const result = own ? tensor : tensor.clone();
    taken.add(result.buffer);
    out.set(graph.values[id]!.name, result);
  }
  return Object.fromEntries(out);
}

function describe(tensor: Tensor | undefined): Facts | undefined {
  return tensor && { dtype: tensor.dtype, shape: tensor.shape };
}

/** The tensor of constant `id`. */
export function loadConstant(graph: Graph, id: ValueId, reader: ConstantReader): Tensor {
  const constant = graph.constants.get(id)!;
  if (constant.kind === 'inline') return constant.tensor;
  const { dtype, shape } = graph.values[id]!.facts;
  return Tensor.fromBytes(dtype, shape as readonly number[], reader.read(constant.offset, constant.length));
}

function bytesOf(facts: Facts | Tensor): number {
  return elementCount(facts.shape as readonly number[]) * DTYPES[facts.dtype].bytes;
}

/** The bytes of a value as far as they are known before it is computed. */
function leastBytes({ dtype, shape }: Facts): number {
  return shape.every(dim => typeof dim === 'number') ? bytesOf({ dtype, shape }) : 0;
}

function overLimit(needed: number, limitBytes: number): CloisterError {
  return new CloisterError('OUT_OF_MEMORY', `the run needs ${needed} bytes, the limit is ${limitBytes}`, {
    needed,
    limitBytes,
  });
}
