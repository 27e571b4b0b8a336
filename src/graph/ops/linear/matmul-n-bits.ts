/**
 * MatMulNBits (`com.microsoft`): a product with weights of a few bits each, in blocks with a scale and a zero point.
 * @module
 */
import { elementCount, formatShape, Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import { dense, type Numbers } from '../loops.ts';
import {
  defineIn,
  FLOATS,
  type InferContext,
  int,
  type Operator,
  type OperatorVersion,
  type RunContext,
  required,
} from '../operator.ts';
import { matmulInto } from './gemm.ts';

/** The inputs, in order. */
const [INPUT, WEIGHTS, SCALES, ZEROS, GROUPS, BIAS] = [0, 1, 2, 3, 4, 5];

interface Blocks {
  /** Rows (outputs) and columns (inputs) of the weights. */
  readonly rows: number;
  readonly columns: number;
  readonly bits: number;
  /** Elements in a block, and blocks in a row. */
  readonly block: number;
  readonly perRow: number;
}

function blocksOf(c: InferContext): Blocks {
  const [rows, columns, bits, block] = ['N', 'K', 'bits', 'block_size'].map(name => c.number(name)) as [
    number,
    number,
    number,
    number,
  ];
  if (rows < 1 || columns < 1) c.fail(`weights of ${rows} x ${columns}`);
  if (![2, 4, 8].includes(bits)) c.unsupported(`weights of ${bits} bits have no kernel`);
  if (block < 16 || !Number.isInteger(Math.log2(block)))
    c.fail(`block_size: expected a power of 2 from 16 on, got ${block}`);
  return { rows, columns, bits, block, perRow: Math.ceil(columns / block) };
}

/** How many bytes hold `count` elements of `bits` each. */
function bytesFor(count: number, bits: number): number {
  return Math.ceil((count * bits) / 8);
}

function inferMatMulNBits(c: InferContext): readonly Facts[] {
  c.expect(INPUT, FLOATS);
  for (const index of [SCALES, BIAS]) c.sameDType(INPUT, index);
  c.expect(WEIGHTS, ['u8']);
  if (c.inputs[GROUPS]) c.unsupported('groups in another order have no kernel');
  if (c.number('weight_prepacked') !== 0) c.unsupported('weights in the layout of a device have no kernel');
  const { rows, columns, bits, block, perRow } = blocksOf(c);
  const holds = (index: number, count: number): void => {
    const { shape } = c.input(index);
    c.same(c.product(shape), count, `input ${index} of ${formatShape(shape)}`);
  };
  holds(WEIGHTS, rows * perRow * bytesFor(block, bits));
  holds(SCALES, rows * perRow);
  if (c.inputs[BIAS]) holds(BIAS, rows);
  if (c.inputs[ZEROS]) {
    if (c.input(ZEROS).dtype === 'u8') holds(ZEROS, rows * bytesFor(perRow, bits));
    else {
      c.sameDType(INPUT, ZEROS);
      holds(ZEROS, rows * perRow);
    }
  }
  const { dtype, shape } = c.input(INPUT);
  c.same(shape.at(-1) ?? c.fail('a scalar is no row'), columns, 'columns of input 0 and K');
  return [{ dtype, shape: [...shape.slice(0, -1), rows] satisfies Dim[] }];
}

function runMatMulNBits(c: RunContext): readonly Tensor[] {
  const blocks = blocksOf(c);
  const { rows, columns } = blocks;
  const x = dense(c.operand(INPUT));
  const count = elementCount(c.shape().slice(0, -1));
  const out = c.tensors[BIAS] ? c.tensors[BIAS].reshape([rows]).expand(c.shape()).clone() : c.allocate();
  matmulInto(
    count,
    rows,
    columns,
    { data: x, offset: 0, rowStride: columns, columnStride: 1 },
    { data: dequantise(c, blocks), offset: 0, rowStride: 1, columnStride: columns },
    { data: out.data as Numbers, offset: 0 },
  );
  return [out];
}

/** The weights as (rows, columns): `(element - zero) * scale`, where the zero of unsigned elements is in their middle. */
function dequantise(c: RunContext, { rows, columns, bits, block, perRow }: Blocks): Numbers {
  const out = Tensor.zeros('f32', [rows, columns]).data;
  const [packed, scales] = [dense(c.operand(WEIGHTS)), dense(c.operand(SCALES))];
  const zeros = c.tensors[ZEROS] && dense(c.tensors[ZEROS]);
  const packedZeros = c.tensors[ZEROS]?.dtype === 'u8';
  const mask = 2 ** bits - 1;
  const blob = bytesFor(block, bits);
  /** The `i`-th element of those that begin at a byte; the first are in the lowest bits. */
  const element = (bytes: Numbers, start: number, i: number): number =>
    (bytes[start + ((i * bits) >> 3)]! >> ((i * bits) & 7)) & mask;
  for (let row = 0; row < rows; row++) {
    for (let b = 0; b < perRow; b++) {
      const at = row * perRow + b;
      const zero = !zeros
        ? 2 ** (bits - 1)
        : packedZeros
          ? element(zeros, row * bytesFor(perRow, bits), b)
          : zeros[at]!;
      const scale = scales[at]!;
      const end = Math.min(block, columns - b * block);
      const to = row * columns + b * block;
      for (let i = 0; i < end; i++) out[to + i] = (element(packed, at * blob, i) - zero) * scale;
    }
  }
  return out;
}

const matMulNBits: OperatorVersion = {
  since: 1,
  inputs: [3, 6],
  outputs: [1, 1],
  attributes: {
    K: required(int()),
    N: required(int()),
    accuracy_level: int(0),
    bits: int(4),
    block_size: required(int()),
    weight_prepacked: int(0),
  },
  infer: inferMatMulNBits,
  run: runMatMulNBits,
};

/** The operators of this file. */
export const MATMUL_N_BITS: readonly Operator[] = [defineIn('com.microsoft', 'MatMulNBits', 'compute', matMulNBits)];
