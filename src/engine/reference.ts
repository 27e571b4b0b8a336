/**
 * The reference backend: walks the graph in order and computes each node with the kernel of its operator. It is the oracle for
 * every other executor, and what runs where there is no native binary.
 * @module
 */
import { CloisterError } from '../base/index.ts';
import {
  type ConstantReader,
  type Facts,
  findVersion,
  type Graph,
  inferFacts,
  type Node,
  OPERATORS,
  refuseUnknown,
  runNode,
  type ValueId,
} from '../graph/index.ts';
import { DTYPES, elementCount, formatShape, Tensor } from '../tensor/index.ts';
import type { Backend, Executable, NamedTensors, PrepareOptions } from './backend.ts';

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
export const referenceBackend: Backend = {
  name: 'reference',
  supports: node => findVersion(OPERATORS, node) !== undefined,
  prepare: (graph, options) => new ReferenceExecutable(graph, options),
};

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
  #constants: ReadonlyMap<ValueId, Tensor> | undefined;

  constructor(graph: Graph, options: PrepareOptions) {
    refuseUnknown(graph.nodes, OPERATORS);
    this.#graph = inferFacts(graph, options.dims ? { dims: options.dims } : {});
    this.#limitBytes = options.limitBytes ?? Number.POSITIVE_INFINITY;
    const permanentBytes = [...graph.constants.keys()].reduce((sum, id) => sum + bytesOf(graph.values[id]!.facts), 0);
    if (permanentBytes > this.#limitBytes) throw overLimit(permanentBytes, this.#limitBytes);
    this.#constants = new Map([...graph.constants.keys()].map(id => [id, loadConstant(graph, id, options.constants)]));
    this.#steps = planReleases(graph);
    this.memory = Object.freeze({ permanentBytes, temporaryBytes: 0, scratchBytes: 0 });
  }

  async run(inputs: NamedTensors, signal?: AbortSignal): Promise<NamedTensors> {
    const walk = this.#walk(inputs);
    for (;;) {
      if (signal?.aborted) throw new CloisterError('ABORTED', 'the run was cancelled', {}, { cause: signal.reason });
      const { done, value } = walk.next();
      if (done) return value;
      await turn();
    }
  }

  runSync(inputs: NamedTensors): NamedTensors {
    const walk = this.#walk(inputs);
    for (;;) {
      const { done, value } = walk.next();
      if (done) return value;
    }
  }

  close(): void {
    this.#constants = undefined;
  }

  /** Yields after each node. */
  *#walk(inputs: NamedTensors): Generator<void, NamedTensors> {
    if (!this.#constants) throw new CloisterError('CLOSED', 'the model was closed');
    const graph = this.#graph;
    const tensors = new Map<ValueId, Tensor>(this.#constants);
    for (const [id, tensor] of checkInputs(graph, inputs)) tensors.set(id, tensor);
    let bytes = this.memory.permanentBytes;
    for (const { node, release } of this.#steps) {
      const ahead = node.outputs.reduce<number>(
        (sum, id) => sum + (id === undefined ? 0 : leastBytes(graph.values[id]!.facts)),
        0,
      );
      if (bytes + ahead > this.#limitBytes) throw overLimit(bytes + ahead, this.#limitBytes);
      const results = runNode(
        node,
        node.inputs.map(id => (id === undefined ? undefined : tensors.get(id))),
      );
      node.outputs.forEach((id, i) => {
        if (id === undefined) return;
        const result = results[i];
        if (!result) throw new CloisterError('UNSUPPORTED_MODEL', `${node.op} ${node.name}: output ${i} has no kernel`);
        tensors.set(id, result);
        bytes += bytesOf(result);
      });
      if (bytes > this.#limitBytes) throw overLimit(bytes, this.#limitBytes);
      for (const id of release) {
        bytes -= bytesOf(tensors.get(id)!);
        tensors.delete(id);
      }
      yield;
    }
    return collectOutputs(graph, tensors);
  }
}

/** The steps of a run: after each node, the values that were used for the last time. */
function planReleases(graph: Graph): readonly Step[] {
  const keep = new Set<ValueId>([...graph.outputs, ...graph.inputs, ...graph.constants.keys()]);
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
  const sizes = new Map<string, { readonly size: number; readonly input: string }>();
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
    const fits =
      tensor.shape.length === shape.length &&
      shape.every((dim, i) => {
        const size = tensor.shape[i]!;
        if (typeof dim === 'number') return dim === size;
        const bound = sizes.get(dim);
        if (!bound) sizes.set(dim, { size, input: name });
        return bound === undefined || bound.size === size;
      });
    if (!fits) {
      const bound = shape.flatMap(dim =>
        typeof dim === 'string' && sizes.has(dim) ? [`${dim} = ${sizes.get(dim)!.size}`] : [],
      );
      const where = bound.length > 0 ? ` with ${[...new Set(bound)].join(', ')}` : '';
      const message = `input ${JSON.stringify(name)}: expected shape ${formatShape(shape)}${where}, got ${formatShape(tensor.shape)}`;
      throw new CloisterError('SHAPE_MISMATCH', message, {
        input: name,
        expected: [...shape],
        came: [...tensor.shape],
      });
    }
    out.set(id, tensor);
  }
  return out;
}

/** The graph's outputs as tensors that share no memory with inputs, constants or each other. */
function collectOutputs(graph: Graph, tensors: ReadonlyMap<ValueId, Tensor>): NamedTensors {
  const taken = new Set<unknown>();
  for (const id of [...graph.inputs, ...graph.constants.keys()]) taken.add(tensors.get(id)?.buffer);
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

function loadConstant(graph: Graph, id: ValueId, reader: ConstantReader): Tensor {
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
