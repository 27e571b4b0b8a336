/**
 * Rotary position embedding: pairs of elements turned by an angle that grows with the position.
 * @module
 */
import { formatShape, type Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import { dense, type Numbers } from '../loops.ts';
import {
  define,
  defineIn,
  FLOATS,
  float,
  type InferContext,
  int,
  type Operator,
  type OperatorVersion,
  type RunContext,
} from '../operator.ts';
import { headSize } from './attention.ts';

/** Which input is which: the two domains order them differently. */
interface Roles {
  readonly cos: number;
  readonly sin: number;
  readonly positions: number;
}

const ONNX: Roles = { cos: 1, sin: 2, positions: 3 };
const MICROSOFT: Roles = { positions: 1, cos: 2, sin: 3 };

interface RotarySizes<Size> {
  readonly batch: Size;
  readonly rows: Size;
  readonly heads: Size;
  readonly size: Size;
  /** How many leading elements of each head are turned. */
  readonly turned: Size;
}

/** (batch, heads, rows, size), or (batch, rows, heads * size) with the number of heads in an attribute. */
function rotarySizes(c: InferContext, roles: Roles): RotarySizes<Dim> {
  const { shape } = c.input(0);
  if (shape.length !== 3 && shape.length !== 4) c.fail(`expected 3 or 4 dimensions, got ${formatShape(shape)}`);
  const declared = c.number('num_heads');
  const part = c.number('rotary_embedding_dim');
  if (declared < 0 || part < 0) c.fail('attributes num_heads and rotary_embedding_dim: expected at least 0');
  const half = c.input(roles.cos).shape.at(-1) ?? c.fail(`input ${roles.cos}: a scalar is no cache`);
  const whole = part > 0 ? part : c.derive(`(2*${half})`, [half], size => 2 * size);
  let sizes: RotarySizes<Dim>;
  if (shape.length === 4) {
    const size = shape[3]!;
    sizes = { batch: shape[0]!, heads: shape[1]!, rows: shape[2]!, size, turned: part > 0 ? part : size };
  } else {
    // Without a number of heads, the cache says how large one is, if it turns whole heads.
    if (declared === 0 && (roles === ONNX || part > 0)) c.fail('attribute num_heads is required with 3 dimensions');
    const heads = declared > 0 ? declared : c.derive(`(${shape[2]}/${whole})`, [shape[2]!, whole], wholeHeads(c));
    const size = declared > 0 ? headSize(c, shape[2]!, declared) : whole;
    sizes = { batch: shape[0]!, rows: shape[1]!, heads, size, turned: part > 0 ? part : size };
  }
  const { size, turned } = sizes;
  if (typeof turned === 'number' && (turned % 2 !== 0 || (typeof size === 'number' && turned > size))) {
    c.fail(`${turned} elements of heads of ${size} cannot be turned in pairs`);
  }
  if (typeof turned === 'number') c.same(half, turned / 2, `pairs in input ${roles.cos} and in a head`);
  return sizes;
}

const wholeHeads =
  (c: InferContext) =>
  (hidden: number, size: number): number =>
    size > 0 && hidden % size === 0 ? hidden / size : c.fail(`${hidden} cannot be cut into heads of ${size}`);

/** Caches are (positions, pairs) where positions are given, else (batch, rows, pairs). */
function inferRotary(roles: Roles): (c: InferContext) => readonly Facts[] {
  return c => {
    c.expect(0, FLOATS);
    c.expect(roles.positions, ['i64']);
    const { batch, rows } = rotarySizes(c, roles);
    for (const index of [roles.cos, roles.sin]) {
      c.sameDType(0, index);
      c.rank(index, c.inputs[roles.positions] ? 2 : 3);
    }
    const [cos, sin] = [c.input(roles.cos).shape, c.input(roles.sin).shape];
    for (const [i, dim] of cos.entries()) c.same(dim, sin[i]!, `axis ${i} of the caches`);
    const positions = c.inputs[roles.positions]?.shape;
    if (!positions) {
      for (const [i, dim] of [batch, rows].entries()) c.same(dim, cos[i]!, `axis ${i} of inputs 0 and ${roles.cos}`);
    } else if (positions.length === 2) {
      for (const [i, dim] of [batch, rows].entries()) c.same(dim, positions[i]!, `axis ${i} of the positions`);
    } else if (roles === ONNX || positions.length !== 1 || c.differ(positions[0]!, 1)) {
      c.fail(`positions of shape ${formatShape(positions)}`);
    }
    return [c.input(0)];
  };
}

function runRotary(roles: Roles): (c: RunContext) => readonly Tensor[] {
  return c => {
    const { batch, rows, heads, size, turned } = rotarySizes(c, roles) as RotarySizes<number>;
    const out = c.allocate();
    const caches = { cos: dense(c.operand(roles.cos)), sin: dense(c.operand(roles.sin)), pairs: turned / 2 };
    const headsFirst = c.operand(0).shape.length === 4;
    const at = positionsOf(c, roles);
    const [from, to] = [dense(c.operand(0)), out.data as Numbers];
    const interleaved = c.number('interleaved') !== 0;
    for (let b = 0; b < batch; b++) {
      for (let row = 0; row < rows; row++) {
        const position = at(b, row);
        for (let h = 0; h < heads; h++) {
          const start = (headsFirst ? (b * heads + h) * rows + row : (b * rows + row) * heads + h) * size;
          turn(from, to, start, caches, position, interleaved);
          for (let i = start + turned; i < start + size; i++) to[i] = from[i]!;
        }
      }
    }
    return [out];
  };
}

/** Where in the caches the angles of a row are. One position alone is that of the first row. */
function positionsOf(c: RunContext, roles: Roles): (batch: number, row: number) => number {
  const rows = c.operand(0).shape.at(c.operand(0).shape.length === 4 ? 2 : 1)!;
  const given = c.tensors[roles.positions];
  if (!given) return (batch, row) => batch * rows + row;
  const positions = given.values().map(Number);
  const known = c.operand(roles.cos).shape[0]!;
  return (batch, row) => {
    const position = given.shape.length === 1 ? positions[0]! + row : positions[batch * rows + row]!;
    if (position < 0 || position >= known) c.fail(`a position is outside a cache of ${known}`);
    return position;
  };
}

/** Cosines and sines of the angles, `pairs` for each position. */
export interface RotaryCaches {
  readonly cos: Numbers;
  readonly sin: Numbers;
  readonly pairs: number;
}

/** Turns the pairs that begin at `start`: neighbours where `interleaved`, else elements of the first and the second half. */
export function turn(
  from: Numbers,
  to: Numbers,
  start: number,
  { cos, sin, pairs }: RotaryCaches,
  position: number,
  interleaved: boolean,
): void {
  for (let i = 0, angle = position * pairs; i < pairs; i++, angle++) {
    const first = start + (interleaved ? 2 * i : i);
    const second = interleaved ? first + 1 : first + pairs;
    const [x, y] = [from[first]!, from[second]!];
    to[first] = cos[angle]! * x - sin[angle]! * y;
    to[second] = sin[angle]! * x + cos[angle]! * y;
  }
}

const rotary: OperatorVersion = {
  since: 23,
  inputs: [3, 4],
  outputs: [1, 1],
  attributes: { interleaved: int(0), num_heads: int(0), rotary_embedding_dim: int(0) },
  infer: inferRotary(ONNX),
  run: runRotary(ONNX),
};

const microsoftRotary: OperatorVersion = {
  since: 1,
  inputs: [4, 4],
  outputs: [1, 1],
  attributes: { ...rotary.attributes, is_packed_batching: int(0), scale: float(1) },
  infer: c => {
    if (c.number('is_packed_batching') !== 0) c.unsupported('packed batches have no kernel');
    if (c.number('scale') !== 1) c.unsupported('only a scale of 1 has a kernel');
    return inferRotary(MICROSOFT)(c);
  },
  run: runRotary(MICROSOFT),
};

/** The operators of this file. */
export const ROTARY: readonly Operator[] = [
  define('RotaryEmbedding', 'compute', rotary),
  defineIn('com.microsoft', 'RotaryEmbedding', 'compute', microsoftRotary),
];
