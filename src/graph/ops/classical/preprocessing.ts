/**
 * What classical models do to their inputs: scaling, imputing, encoding of labels and categories.
 * @module
 */
import type { DType, Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import { dense, isBig, type Numbers } from '../loops.ts';
import {
  type AttributeSpec,
  defineIn,
  float,
  floats,
  type InferContext,
  int,
  ints,
  MANY,
  type Operator,
  type OperatorVersion,
  type RunContext,
  string,
  strings,
  tensor,
} from '../operator.ts';
import { FEATURES, features, ML, rowsOf, stringList } from './scores.ts';

/** The last dimension of input 0, along which there is one value per feature. */
function featureCount(c: InferContext): Dim {
  const { shape } = c.input(0);
  return shape.at(-1) ?? c.fail('expected rows of features, got a single number');
}

/** Fails unless a list holds one value for all features, or one for each. */
function checkPerFeature(c: InferContext, name: string, values: readonly number[]): void {
  const width = featureCount(c);
  if (values.length !== 1 && c.differ(values.length, width)) {
    c.fail(`${name}: expected 1 value or one for each of ${width} features, got ${values.length}`);
  }
}

function scalerLists(c: InferContext): readonly [offset: readonly number[], scale: readonly number[]] {
  const offset = c.numbers('offset') ?? [0];
  const scale = c.numbers('scale') ?? [1];
  checkPerFeature(c, 'offset', offset);
  checkPerFeature(c, 'scale', scale);
  return [offset, scale];
}

const SCALER: OperatorVersion = {
  since: 1,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: { offset: floats, scale: floats },
  infer: c => {
    c.expect(0, FEATURES);
    scalerLists(c);
    return [{ dtype: 'f32', shape: c.input(0).shape }];
  },
  run: c => {
    const [offset, scale] = scalerLists(c);
    const x = features(c.operand(0));
    const width = featureCount(c) as number;
    const out = c.allocate();
    const to = out.data as Numbers;
    for (let i = 0; i < to.length; i++) {
      const feature = i % width;
      to[i] = (x[i]! - offset[offset.length === 1 ? 0 : feature]!) * scale[scale.length === 1 ? 0 : feature]!;
    }
    return [out];
  },
};

/** What each row is divided by. */
const NORMS: ReadonlyMap<string, (x: Numbers, at: number, width: number) => number> = new Map([
  [
    'MAX',
    (x: Numbers, at: number, width: number) => {
      let largest = Number.NEGATIVE_INFINITY;
      for (let i = at; i < at + width; i++) largest = Math.max(largest, x[i]!);
      return largest;
    },
  ],
  [
    'L1',
    (x: Numbers, at: number, width: number) => {
      let sum = 0;
      for (let i = at; i < at + width; i++) sum += Math.abs(x[i]!);
      return sum;
    },
  ],
  [
    'L2',
    (x: Numbers, at: number, width: number) => {
      let sum = 0;
      for (let i = at; i < at + width; i++) sum += x[i]! * x[i]!;
      return Math.sqrt(sum);
    },
  ],
]);

function normOf(c: InferContext): (x: Numbers, at: number, width: number) => number {
  const name = c.string('norm');
  return NORMS.get(name) ?? c.fail(`expected norm MAX, L1 or L2, got ${JSON.stringify(name.slice(0, 40))}`);
}

const NORMALIZER: OperatorVersion = {
  since: 1,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: { norm: string('MAX') },
  infer: c => {
    c.expect(0, FEATURES);
    normOf(c);
    rowsOf(c);
    return [{ dtype: 'f32', shape: c.input(0).shape }];
  },
  run: c => {
    const norm = normOf(c);
    const x = features(c.operand(0));
    const { rows, width } = rowsOf(c) as { rows: number; width: number };
    const out = c.allocate();
    const to = out.data as Numbers;
    for (let at = 0; at < rows * width; at += width) {
      // A row whose norm is zero stays as it is.
      const divisor = norm(x, at, width) || 1;
      for (let i = at; i < at + width; i++) to[i] = x[i]! / divisor;
    }
    return [out];
  },
};

function imputed(c: InferContext): readonly number[] {
  const whole = c.input(0).dtype === 'i64' || c.input(0).dtype === 'i32';
  const name = whole ? 'imputed_value_int64s' : 'imputed_value_floats';
  const values = c.numbers(name) ?? [];
  if (values.length === 0) c.fail(`${name} is missing`);
  checkPerFeature(c, name, values);
  const misfit = c.input(0).dtype === 'i32' ? values.find(value => value !== (value | 0)) : undefined;
  if (misfit !== undefined) c.fail(`${name}: ${misfit} is no i32`);
  return values;
}

const IMPUTER: OperatorVersion = {
  since: 1,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: {
    imputed_value_floats: floats,
    replaced_value_float: float(0),
    imputed_value_int64s: ints(),
    replaced_value_int64: int(0),
  },
  infer: c => {
    c.expect(0, FEATURES);
    imputed(c);
    return [c.input(0)];
  },
  run: c => {
    const values = imputed(c);
    const width = featureCount(c) as number;
    const x = c.operand(0);
    const out = x.clone();
    const valueAt = (i: number): number => values[values.length === 1 ? 0 : i % width]!;
    if (isBig(x)) {
      const to = out.data as BigInt64Array;
      const replaced = BigInt(c.number('replaced_value_int64'));
      for (let i = 0; i < to.length; i++) if (to[i] === replaced) to[i] = BigInt(valueAt(i));
      return [out];
    }
    const to = out.data as Numbers;
    const replaced = c.number(x.dtype === 'i32' ? 'replaced_value_int64' : 'replaced_value_float');
    const replacesNaN = Number.isNaN(replaced);
    for (let i = 0; i < to.length; i++) {
      if (to[i] === replaced || (replacesNaN && Number.isNaN(to[i]!))) to[i] = valueAt(i);
    }
    return [out];
  },
};

const BINARIZER: OperatorVersion = {
  since: 1,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: { threshold: float(0) },
  infer: c => {
    c.expect(0, FEATURES);
    return [c.input(0)];
  },
  run: c => {
    const threshold = c.number('threshold');
    const x = dense(c.operand(0));
    const out = c.allocate();
    if (isBig(out)) {
      const [from, to] = [x as unknown as BigInt64Array, out.data as BigInt64Array];
      for (let i = 0; i < to.length; i++) to[i] = from[i]! > threshold ? 1n : 0n;
    } else {
      const to = out.data as Numbers;
      for (let i = 0; i < to.length; i++) to[i] = x[i]! > threshold ? 1 : 0;
    }
    return [out];
  },
};

/** Selects by index along the last axis. Rows of a vector become a matrix of one row. */
const ARRAY_FEATURE_EXTRACTOR: OperatorVersion = {
  since: 1,
  inputs: [2, 2],
  outputs: [1, 1],
  attributes: {},
  infer: c => {
    c.expect(0, [...FEATURES, 'string']);
    c.expect(1, ['i64']);
    const { dtype, shape } = c.input(0);
    featureCount(c);
    const leading = shape.length === 1 ? [1] : shape.slice(0, -1);
    return [{ dtype, shape: [...leading, c.product(c.input(1).shape)] }];
  },
  run: c => {
    const x = c.operand(0);
    const width = featureCount(c) as number;
    const indices = Array.from(c.operand(1).elements() as BigInt64Array, Number);
    for (const index of indices) {
      if (index < 0 || index >= width) c.fail(`index ${index} in rows of ${width}`);
    }
    const out = c.allocate();
    // Elements of any kind are only moved.
    const [source, to] = [x.elements(), out.data] as unknown as [ArrayLike<number>, Record<number, number>];
    for (let row = 0, at = 0; at < out.size; row += width) {
      for (const index of indices) to[at++] = source[row + index]!;
    }
    return [out];
  },
};

function dimensionsOf(c: InferContext): readonly Dim[] {
  const widths = c.inputs.map((facts, i) => {
    const { shape } = facts ?? c.input(i);
    if (shape.length !== 1) c.rank(i, 2);
    return shape.at(-1)!;
  });
  const given = c.numbers('inputdimensions');
  if (given === undefined || given.length === 0) return widths;
  if (given.length !== widths.length) c.fail(`inputdimensions: ${given.length} for ${widths.length} inputs`);
  for (const size of given) if (size < 0) c.fail(`inputdimensions: ${size}`);
  return given;
}

/** Puts the features of all inputs side by side, each cut or filled with zeros to the width that is given for it. */
const FEATURE_VECTORIZER: OperatorVersion = {
  since: 1,
  inputs: [1, MANY],
  outputs: [1, 1],
  attributes: { inputdimensions: ints() },
  infer: c => {
    c.inputs.forEach((_, i) => {
      c.expect(i, FEATURES);
    });
    const widths = dimensionsOf(c);
    const rows = c.inputs
      .map((facts): Dim => (facts!.shape.length === 1 ? 1 : facts!.shape[0]!))
      .reduce((a, b) => c.same(a, b, 'rows of the inputs'));
    const total = c.derive(widths.join('+'), widths, (...sizes) => sizes.reduce((sum, size) => sum + size, 0));
    return [{ dtype: 'f32', shape: [rows, total] }];
  },
  run: c => {
    const widths = dimensionsOf(c) as readonly number[];
    const out = c.allocate();
    const [rows, total] = c.shape() as [number, number];
    const to = out.data as Numbers;
    let offset = 0;
    widths.forEach((width, index) => {
      const x = c.operand(index);
      const values = features(x);
      const own = x.shape.at(-1)!;
      const taken = Math.min(width, own);
      // Rows of nothing may be any number of rows.
      for (let row = 0; taken > 0 && row < rows; row++) {
        for (let i = 0; i < taken; i++) to[row * total + offset + i] = values[row * own + i]!;
      }
      offset += width;
    });
    return [out];
  },
};

function categories(c: InferContext): { readonly count: number; readonly text: boolean } {
  const [text, whole] = [stringList(c, 'cats_strings') ?? [], c.numbers('cats_int64s') ?? []];
  if (text.length > 0 === whole.length > 0) c.fail('expected categories in one of cats_int64s and cats_strings');
  const isText = c.input(0).dtype === 'string';
  if (isText !== text.length > 0) c.fail(`categories are no ${isText ? 'text' : 'integers'}`);
  return { count: Math.max(text.length, whole.length), text: isText };
}

const ONE_HOT_ENCODER: OperatorVersion = {
  since: 1,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: { cats_int64s: ints(), cats_strings: strings, zeros: int(1) },
  infer: c => {
    c.expect(0, [...FEATURES, 'string']);
    return [{ dtype: 'f32', shape: [...c.input(0).shape, categories(c).count] }];
  },
  run: c => {
    const { count, text } = categories(c);
    const x = c.operand(0);
    const names: readonly (number | string)[] = text ? stringList(c, 'cats_strings')! : c.numbers('cats_int64s')!;
    const places = new Map(names.map((name, i) => [name, i]));
    const values: ArrayLike<number | string> = text ? (x.elements() as string[]) : features(x);
    const out = c.allocate();
    const to = out.data as Numbers;
    for (let i = 0; i < x.size; i++) {
      const value = values[i]!;
      const place = places.get(typeof value === 'number' ? Math.trunc(value) : value);
      if (place !== undefined) to[i * count + place] = 1;
      else if (c.number('zeros') === 0) c.fail('a value that is none of the categories');
    }
    return [out];
  },
};

/** An element of any tensor of labels. */
type Label = string | number | bigint;

/** A table of labels: what stands for what, in which element types. */
interface Mapping {
  readonly from: DType;
  readonly to: DType;
  readonly keys: readonly Label[];
  readonly values: readonly Label[];
  readonly otherwise: Label;
}

function inferMapping(of: (c: InferContext) => Mapping): (c: InferContext) => readonly Facts[] {
  return c => {
    const { from: source, to, keys, values } = of(c);
    c.expect(0, [source]);
    if (keys.length !== values.length) c.fail(`${keys.length} keys for ${values.length} values`);
    return [{ dtype: to, shape: c.input(0).shape }];
  };
}

function runMapping(of: (c: InferContext) => Mapping): (c: RunContext) => readonly Tensor[] {
  return c => {
    const { keys, values, otherwise } = of(c);
    // The last of equal keys holds; NaN equals itself and -0 equals 0, as Map compares.
    const table = new Map(keys.map((key, i) => [key, values[i]!]));
    const source = c.operand(0).elements() as ArrayLike<Label>;
    const out = c.allocate();
    const data = out.data as Record<number, Label>;
    for (let i = 0; i < out.size; i++) data[i] = table.get(source[i]!) ?? otherwise;
    return [out];
  };
}

const whole = (values: readonly number[]): readonly bigint[] => values.map(BigInt);

/** LabelEncoder-1: a string stands for its index, and an index for its string. */
function indexMapping(c: InferContext): Mapping {
  c.expect(0, ['string', 'i64']);
  const classes = stringList(c, 'classes_strings') ?? [];
  const indices = classes.map((_, i) => BigInt(i));
  return c.input(0).dtype === 'string'
    ? { from: 'string', to: 'i64', keys: classes, values: indices, otherwise: BigInt(c.number('default_int64')) }
    : { from: 'i64', to: 'string', keys: indices, values: classes, otherwise: c.string('default_string') };
}

function categoryMapping(c: InferContext): Mapping {
  c.expect(0, ['string', 'i64']);
  const [text, numbers] = [stringList(c, 'cats_strings') ?? [], whole(c.numbers('cats_int64s') ?? [])];
  return c.input(0).dtype === 'string'
    ? { from: 'string', to: 'i64', keys: text, values: numbers, otherwise: BigInt(c.number('default_int64')) }
    : { from: 'i64', to: 'string', keys: numbers, values: text, otherwise: c.string('default_string') };
}

/** A list of labels that is given in one of several attributes, by element type. */
function labelList(c: InferContext, prefix: 'keys' | 'values'): readonly [DType, readonly Label[]] {
  const given: (readonly [DType, readonly Label[]])[] = [];
  const text = stringList(c, `${prefix}_strings`);
  if (text) given.push(['string', text]);
  const numbers = c.numbers(`${prefix}_int64s`);
  if (numbers) given.push(['i64', whole(numbers)]);
  const reals = c.numbers(`${prefix}_floats`);
  if (reals) given.push(['f32', reals.map(Math.fround)]);
  const any = c.tensor(`${prefix}_tensor`);
  if (any) given.push([any.dtype, any.values()]);
  const full = given.filter(([, labels]) => labels.length > 0);
  const chosen = full.length > 0 ? full : given;
  return chosen.length === 1 ? chosen[0]! : c.fail(`expected one list of ${prefix}, got ${chosen.length}`);
}

/** LabelEncoder from version 2 on: any of several element types on either side. */
function labelMapping(c: InferContext): Mapping {
  const [source, keys] = labelList(c, 'keys');
  const [to, values] = labelList(c, 'values');
  return { from: source, to, keys, values, otherwise: defaultLabel(c, to) };
}

function defaultLabel(c: InferContext, dtype: DType): Label {
  const given = c.tensor('default_tensor');
  if (given) {
    if (given.dtype !== dtype || given.size !== 1) c.fail(`default_tensor: expected one element of ${dtype}`);
    return given.values()[0]!;
  }
  switch (dtype) {
    case 'string':
      return c.string('default_string');
    case 'i64':
      return BigInt(c.number('default_int64'));
    case 'f32':
      return c.number('default_float');
    case 'f64':
      return -0;
    case 'i32':
    case 'i16':
      return -1;
    default:
      return c.unsupported(`labels of ${dtype}`);
  }
}

function mappingVersion(
  since: number,
  of: (c: InferContext) => Mapping,
  attributes: Readonly<Record<string, AttributeSpec>>,
): OperatorVersion {
  return { since, inputs: [1, 1], outputs: [1, 1], attributes, infer: inferMapping(of), run: runMapping(of) };
}

const DEFAULTS = { default_string: string('_Unused'), default_int64: int(-1) };
const LABELS = {
  ...DEFAULTS,
  default_float: float(-0),
  keys_strings: strings,
  keys_int64s: ints(),
  keys_floats: floats,
  values_strings: strings,
  values_int64s: ints(),
  values_floats: floats,
};
const LABEL_TENSORS = { keys_tensor: tensor, values_tensor: tensor, default_tensor: tensor };

/** An operator that takes a map, which no value of a graph is. */
function onMaps(name: string, attributes: Readonly<Record<string, AttributeSpec>>): Operator {
  const refuse = (c: InferContext): never => c.unsupported('its input is a map, and values are tensors here');
  return defineIn(ML, name, 'compute', {
    since: 1,
    inputs: [1, 1],
    outputs: [1, 1],
    attributes,
    infer: refuse,
    run: refuse,
  });
}

/** The operators of this file. */
export const ML_PREPROCESSING: readonly Operator[] = [
  defineIn(ML, 'ArrayFeatureExtractor', 'compute', ARRAY_FEATURE_EXTRACTOR),
  defineIn(ML, 'Binarizer', 'elementwise', BINARIZER),
  onMaps('CastMap', { cast_to: string('TO_FLOAT'), map_form: string('DENSE'), max_map: int(1) }),
  defineIn(
    ML,
    'CategoryMapper',
    'compute',
    mappingVersion(1, categoryMapping, { ...DEFAULTS, cats_strings: strings, cats_int64s: ints() }),
  ),
  onMaps('DictVectorizer', { string_vocabulary: strings, int64_vocabulary: ints() }),
  defineIn(ML, 'FeatureVectorizer', 'compute', FEATURE_VECTORIZER),
  defineIn(ML, 'Imputer', 'compute', IMPUTER),
  defineIn(
    ML,
    'LabelEncoder',
    'compute',
    mappingVersion(1, indexMapping, { ...DEFAULTS, classes_strings: strings }),
    mappingVersion(2, labelMapping, LABELS),
    mappingVersion(4, labelMapping, { ...LABELS, ...LABEL_TENSORS }),
  ),
  defineIn(ML, 'Normalizer', 'compute', NORMALIZER),
  defineIn(ML, 'OneHotEncoder', 'compute', ONE_HOT_ENCODER),
  defineIn(ML, 'Scaler', 'compute', SCALER),
];
