/**
 * An adapter over OpenBLAS: products of f32 matrices as a backend.
 * @module
 */
import {
  describeNode,
  type Facts,
  findVersion,
  type Graph,
  type Node,
  OPERATORS,
  type Operator,
  operatorKey,
  type RunContext,
  tableOf,
} from '../../graph/index.ts';
import type { Tensor } from '../../tensor/index.ts';
import type { Backend } from '../backend.ts';
import { throwUnsupported } from '../plan.ts';
import { referenceBackendOf } from '../reference.ts';

/** What is used of OpenBLAS. Implemented by `openBlas` of `cloister/native`; faked in tests. */
export interface BlasLibrary {
  /**
   * Computes `C = alpha * op(A) * op(B) + beta * C`, row-major f32, where op(A) is m x k, op(B) is k x n and op transposes where it is
   * asked to. Sizes are at least 1, and 32-bit integers as those of every tensor. With `beta` 0 it does not read C.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when sizes and arrays do not fit, with nothing computed.
   */
  multiply(product: {
    readonly m: number;
    readonly n: number;
    readonly k: number;
    readonly alpha: number;
    readonly a: BlasMatrix;
    readonly b: BlasMatrix;
    readonly beta: number;
    readonly c: Omit<BlasMatrix, 'transpose'>;
  }): void;
}

/** Where a matrix lies: in `data`, from `offset` on, `ld` elements from row to row, as it is or transposed. */
export interface BlasMatrix {
  readonly data: Float32Array;
  readonly offset: number;
  readonly ld: number;
  readonly transpose: boolean;
}

/**
 * Returns a backend that computes MatMul and Gemm in f32 with `library`, which is what `openBlas()` of `cloister/native` gives, and runs
 * nothing else: list it in {@link mixedBackend} with `costs`, and it gets the nodes at which it was measured to be fastest. All of a run is
 * on the calling thread and those of the library; a signal is heard between nodes. Weights stay as they are. The library's own workspace
 * counts towards no limit.
 *
 * Results differ from those of other backends in rounding, and may differ with the number of threads: what the library promises holds.
 * @example
 * ```ts
 * const status = openBlas();
 * const blas = status.kind === 'loaded' ? [openBlasBackend(status.library)] : [];
 * const source = bytesSource(await readFile('digits.onnx'));
 * const model = mixedBackend([...blas, referenceBackend]).prepare(parseOnnx(source), { constants: source });
 * const { logits } = await model.run({ image: Tensor.zeros('f32', [2, 1, 28, 28]) });
 * logits?.shape; // [2, 10]
 * ```
 */
export function openBlasBackend(library: BlasLibrary): Backend {
  // The reference executor walks the graph; its two products are computed here.
  const operators = tableOf([withKernel('MatMul', c => matMul(library, c)), withKernel('Gemm', c => gemm(library, c))]);
  const executor = referenceBackendOf(operators);
  return Object.freeze({
    name: 'openblas',
    supports: (node, inputs) => refusal(node, inputs) === undefined,
    refusals,
    prepare(graph, options) {
      const lines = [...refusals(graph, graph.nodes).values()];
      if (lines.length > 0) throwUnsupported(lines, 'by OpenBLAS');
      return executor.prepare(graph, options);
    },
  } satisfies Backend);
}

function refusals(graph: Graph, nodes: readonly Node[]): ReadonlyMap<Node, string> {
  const lines = new Map<Node, string>();
  for (const node of nodes) {
    const why = refusal(
      node,
      node.inputs.map(id => (id === undefined ? undefined : graph.values[id]!.facts)),
    );
    if (why !== undefined) lines.set(node, `${describeNode(node)}: ${why}`);
  }
  return lines;
}

/** Why the library does not compute `node`. */
function refusal(node: Node, inputs: readonly (Facts | undefined)[]): string | undefined {
  const isProduct = node.domain === '' && (node.op === 'MatMul' || node.op === 'Gemm');
  if (!isProduct || findVersion(OPERATORS, node) === undefined) return 'OpenBLAS has MatMul and Gemm only';
  const given = inputs.filter(facts => facts !== undefined);
  const other = given.find(({ dtype }) => dtype !== 'f32');
  if (other !== undefined) return `computed in f32, got ${other.dtype}`;
  if (given.slice(0, 2).some(({ shape }) => shape.length < 2)) return 'computed of matrices, got a vector';
  // Libraries do not read what is multiplied by 0, so that NaN would get lost.
  return node.attributes['alpha'] === 0 ? 'not computed where it is scaled by 0' : undefined;
}

/** The operator `name` with another kernel in all of its versions. */
function withKernel(name: 'MatMul' | 'Gemm', run: (c: RunContext) => readonly Tensor[]): Operator {
  const operator = OPERATORS.get(operatorKey('', name))!;
  return { ...operator, versions: operator.versions.map(version => ({ ...version, run })) };
}

function matMul(library: BlasLibrary, c: RunContext): readonly Tensor[] {
  const out = c.allocate();
  const batch = out.shape.slice(0, -2);
  const [a, b] = [laidOut(c.operand(0)), laidOut(c.operand(1))];
  const [m, n, k] = [a.shape.at(-2)!, b.shape.at(-1)!, a.shape.at(-1)!];
  if (out.size === 0 || k === 0) return [out];
  const count = out.size / (m * n);
  const multiply = (rows: number, left: BlasMatrix, right: BlasMatrix, offset: number): void =>
    library.multiply({
      ...{ m: rows, n, k, alpha: 1, a: left, b: right, beta: 0 },
      c: { data: out.data as Float32Array, offset, ld: n },
    });
  // One B for matrices that lie one below the other: they are one matrix.
  if (b.size === k * n && a.size === count * m * k && a.isContiguous) {
    multiply(count * m, matrixOf(a, a.offset), matrixOf(b, b.offset), 0);
    return [out];
  }
  const left = a.expand([...batch, m, k]);
  const right = b.expand([...batch, k, n]);
  for (let i = 0; i < count; i++) {
    multiply(m, matrixOf(a, offsetOf(left, batch, i)), matrixOf(b, offsetOf(right, batch, i)), i * m * n);
  }
  return [out];
}

function gemm(library: BlasLibrary, c: RunContext): readonly Tensor[] {
  const a = laidOut(c.number('transA') ? c.operand(0).transpose() : c.operand(0));
  const b = laidOut(c.number('transB') ? c.operand(1).transpose() : c.operand(1));
  const [m, n] = c.shape() as [number, number];
  const k = a.shape[1]!;
  const beta = c.number('beta');
  const bias = beta === 0 ? undefined : c.tensors[2];
  const out = bias === undefined ? c.allocate() : bias.expand([m, n]).clone();
  const data = out.data as Float32Array;
  if (out.size === 0) return [out];
  if (k === 0) {
    if (beta !== 1) for (let i = 0; i < data.length; i++) data[i]! *= beta;
    return [out];
  }
  library.multiply({
    ...{ m, n, k, alpha: c.number('alpha'), beta: bias === undefined ? 0 : beta },
    ...{ a: matrixOf(a, a.offset), b: matrixOf(b, b.offset), c: { data, offset: 0, ld: n } },
  });
  return [out];
}

/** `tensor`, or a dense copy where its matrices lie neither by rows nor by columns. */
function laidOut(tensor: Tensor): Tensor {
  return layoutOf(tensor) === undefined ? tensor.clone() : tensor;
}

/** How the matrices of `tensor`, its last two axes, lie: undefined for every other element, backwards and the like. */
function layoutOf({ shape, strides }: Tensor): { readonly ld: number; readonly transpose: boolean } | undefined {
  const [rows, columns] = [shape.at(-2)!, shape.at(-1)!];
  const [byRow, byColumn] = [strides.at(-2)!, strides.at(-1)!];
  const ld = rows === 1 ? columns : byRow;
  if ((columns === 1 || byColumn === 1) && ld >= columns) return { ld, transpose: false };
  const ldTransposed = columns === 1 ? rows : byColumn;
  if ((rows === 1 || byRow === 1) && ldTransposed >= rows) return { ld: ldTransposed, transpose: true };
  return undefined;
}

/** The matrix at `offset` of a tensor that {@link laidOut} returned. */
function matrixOf(tensor: Tensor, offset: number): BlasMatrix {
  return { data: tensor.data as Float32Array, offset, ...layoutOf(tensor)! };
}

/** Where the `index`-th matrix of a batch begins. */
function offsetOf({ offset, strides }: Tensor, batch: readonly number[], index: number): number {
  let [at, rest] = [offset, index];
  for (let axis = batch.length - 1; axis >= 0; axis--) {
    at += (rest % batch[axis]!) * strides[axis]!;
    rest = Math.floor(rest / batch[axis]!);
  }
  return at;
}
