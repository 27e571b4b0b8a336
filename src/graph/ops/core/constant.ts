/**
 * Values from nothing, and values in another form: Constant, ConstantOfShape, Range, Identity, Dropout.
 * @module
 */
import { DTYPES, formatShape, type Nested, Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import { isBig } from '../loops.ts';
import {
  ANY,
  define,
  FLOATS,
  float,
  floats,
  from,
  type InferContext,
  int,
  ints,
  lengthOf,
  MAX_KNOWN,
  type Operator,
  type OperatorVersion,
  required,
  string,
  strings,
  tensor,
} from '../operator.ts';

/** The tensor that a Constant node's attribute says, in any of the forms that opset 12 added. */
export function constantTensor(c: InferContext): Tensor {
  const given = VALUES.filter(name => c.has(name));
  if (given.length !== 1) c.fail(`expected exactly one value, got ${given.length}`);
  const value = c.tensor('value');
  if (value) return value;
  const name = given[0]!;
  const list = c.node.attributes[name] as Nested;
  if (name.startsWith('value_string')) return Tensor.of('string', list);
  return Tensor.of(name.startsWith('value_float') ? 'f32' : 'i64', list);
}

const VALUES = [
  'value',
  'value_float',
  'value_floats',
  'value_int',
  'value_ints',
  'value_string',
  'value_strings',
] as const;

const constant: OperatorVersion = {
  since: 1,
  inputs: [0, 0],
  outputs: [1, 1],
  attributes: { value: required(tensor) },
  infer: c => {
    const { dtype, shape } = constantTensor(c);
    return [{ dtype, shape }];
  },
  known: c => {
    const value = constantTensor(c);
    const whole = DTYPES[value.dtype].kind === 'int' || value.dtype === 'bool';
    return whole && value.size <= MAX_KNOWN ? value.values().map(Number) : undefined;
  },
  run: c => [constantTensor(c)],
};

/** Opset 11 brought a sparse value beside the dense one; the reader of the file refuses it. */
const constant11 = from(11, constant, { attributes: { value: tensor } });

const constant12 = from(12, constant, {
  attributes: {
    value: tensor,
    value_float: float(),
    value_floats: floats,
    value_int: int(),
    value_ints: ints(),
    value_string: string(),
    value_strings: strings,
  },
});

/** Fails unless input `index`, where present, can be a single value, of whatever rank. */
export function singleValue(c: InferContext, index: number): void {
  const shape = c.inputs[index]?.shape ?? [];
  if (shape.some(dim => typeof dim === 'number' && dim !== 1)) {
    c.fail(`input ${index}: expected a single value, got ${formatShape(shape)}`);
  }
}

/** A shape given by the elements of an input: as many unknown sizes as the input is long, where they are not known. */
export function shapeFromInput(c: InferContext, index: number): readonly Dim[] {
  c.expect(index, ['i64']);
  c.rank(index, 1);
  const known = c.known(index);
  if (known) {
    for (const dim of known) if (typeof dim === 'number' && dim < 0) c.fail(`input ${index}: a size of ${dim}`);
    return known;
  }
  return Array.from({ length: lengthOf(c, index) }, () => c.fresh());
}

const constantOfShape: OperatorVersion = {
  since: 9,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: { value: tensor },
  infer: c => {
    const value = c.tensor('value');
    if (value && value.size !== 1) c.fail(`attribute value: expected one element, got ${value.size}`);
    if (value?.dtype === 'string') c.unsupported('attribute value: strings are not filled in');
    return [{ dtype: value?.dtype ?? 'f32', shape: shapeFromInput(c, 0) }];
  },
  run: c => {
    const out = c.allocate();
    const value = c.tensor('value');
    if (value) (out.data as Float32Array).fill(value.elements()[0] as number);
    return [out];
  },
};

/** How many steps of `delta` lead from `start` up to `limit`. */
function countSteps(c: InferContext, start?: Dim, limit?: Dim, delta?: Dim): Dim {
  if (start === undefined || limit === undefined || delta === undefined) return c.fresh();
  // Up to a size, step by step: so many. A difference of sizes, which its sign shows, may be negative and then is none.
  if (start === 0 && delta === 1 && typeof limit === 'string' && !limit.includes('-')) return limit;
  return c.derive(`range(${start},${limit},${delta})`, [start, limit, delta], (from, to, by) =>
    Math.max(0, Math.ceil((to - from) / by)),
  );
}

const range: OperatorVersion = {
  since: 11,
  inputs: [3, 3],
  outputs: [1, 1],
  attributes: {},
  infer: c => {
    c.expect(0, ['f32', 'f64', 'f16', 'bf16', 'i16', 'i32', 'i64']);
    c.sameDType(0, 1);
    c.sameDType(0, 2);
    for (const input of [0, 1, 2]) singleValue(c, input);
    const [start, limit, delta] = [0, 1, 2].map(i => (c.known(i) ?? c.floats(i))?.[0]);
    if (delta === 0) c.fail('a step of 0 never ends');
    return [{ dtype: c.input(0).dtype, shape: [countSteps(c, start, limit, delta)] }];
  },
  known: c => {
    const [start, limit, delta] = [0, 1, 2].map(i => (c.integers(i) ?? c.floats(i))?.[0]);
    if (start === undefined || limit === undefined || !delta) return undefined;
    const length = Math.max(0, Math.ceil((limit - start) / delta));
    return length <= MAX_KNOWN ? Array.from({ length }, (_, i) => start + i * delta) : undefined;
  },
  run: c => {
    const out = c.allocate();
    const [start, delta] = [c.operand(0).elements()[0]!, c.operand(2).elements()[0]!];
    if (isBig(out)) {
      const to = out.data as BigInt64Array;
      for (let i = 0; i < to.length; i++) to[i] = (start as bigint) + BigInt(i) * (delta as bigint);
    } else {
      const to = out.data as Float32Array;
      for (let i = 0; i < to.length; i++) to[i] = (start as number) + i * (delta as number);
    }
    return [out];
  },
};

const identity: OperatorVersion = {
  since: 1,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: {},
  infer: c => [c.input(0)],
  known: c => c.known(0),
  run: c => [c.operand(0)],
};

/**
 * Dropout as inference has it: the identity, with a mask of ones. Until opset 6 an attribute told inference from training, and most
 * models that were meant for inference left it at its default, which is training.
 */
const dropout: OperatorVersion = {
  since: 1,
  inputs: [1, 1],
  outputs: [1, 2],
  attributes: { ratio: float(0.5), is_test: int(0), consumed_inputs: ints() },
  infer: c => {
    c.expect(0, FLOATS);
    return [c.input(0), c.input(0)];
  },
  run: c => {
    if (c.node.outputs[1] === undefined) return [c.operand(0)];
    return [c.operand(0), Tensor.of(c.outputs[1]!.dtype, 1).expand(c.shape())];
  },
};

const dropoutBool = from(10, dropout, {
  attributes: { ratio: float(0.5) },
  infer: c => {
    c.expect(0, FLOATS);
    return [c.input(0), { dtype: 'bool', shape: c.input(0).shape }];
  },
});

const dropoutInputs = from(12, dropoutBool, {
  inputs: [1, 3],
  attributes: { seed: int() },
  infer: c => {
    c.expect(0, FLOATS);
    c.expect(1, FLOATS);
    c.expect(2, ['bool']);
    for (const input of [1, 2]) singleValue(c, input);
    const ratio = c.inputs[1] ? c.floats(1)?.[0] : 0.5;
    if (c.integers(2)?.[0] === 1 && ratio) refuseTraining(c, ratio);
    return [c.input(0), { dtype: 'bool', shape: c.input(0).shape }];
  },
  run: c => {
    const value = (input: number, none: number): number =>
      c.tensors[input] ? Number(c.operand(input).values()[0]) : none;
    if (value(2, 0) !== 0 && value(1, 0.5) !== 0) refuseTraining(c, value(1, 0.5));
    return dropout.run(c);
  },
});

function refuseTraining(c: InferContext, ratio: number): never {
  return c.unsupported(`training mode with a ratio of ${ratio} has no kernel`);
}

function expectAny(version: OperatorVersion): OperatorVersion {
  return {
    ...version,
    infer: (c): readonly Facts[] => {
      c.expect(0, ANY);
      return version.infer(c);
    },
  };
}

/** The operators of this file. */
export const CONSTANT: readonly Operator[] = [
  define('Constant', 'compute', constant, constant11, constant12),
  define('ConstantOfShape', 'compute', constantOfShape),
  define('Range', 'compute', range),
  define('Identity', 'view', expectAny(identity)),
  define(
    'Dropout',
    'view',
    dropout,
    from(6, dropout, { attributes: { ratio: float(0.5), is_test: int(0) } }),
    from(7, dropout, { attributes: { ratio: float(0.5) } }),
    dropoutBool,
    dropoutInputs,
  ),
];
