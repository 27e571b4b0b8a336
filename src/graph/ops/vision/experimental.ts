/**
 * Operators of the first opset that were called experimental and left the standard; old exporters still write them.
 * @module
 */
import { formatShape } from '../../../tensor/index.ts';
import type { Dim } from '../../graph.ts';
import { dense, mapInto, type Numbers } from '../loops.ts';
import {
  define,
  FLOATS,
  float,
  floats,
  ints,
  type Operator,
  type OperatorVersion,
  type RunContext,
  required,
} from '../operator.ts';

/** A function of one element with parameters. */
function activation(
  name: string,
  attributes: OperatorVersion['attributes'],
  make: (c: RunContext) => (x: number) => number,
): Operator {
  return define(name, 'elementwise', {
    since: 1,
    inputs: [1, 1],
    outputs: [1, 1],
    attributes,
    infer: c => {
      c.expect(0, FLOATS);
      return [c.input(0)];
    },
    run: c => [mapInto(c.allocate(), c.operand(0), make(c))],
  });
}

const ALPHA_BETA = { alpha: required(float()), beta: required(float()) } as const;

/** Scales an image and adds to each of its channels. */
const imageScaler: OperatorVersion = {
  since: 1,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: { bias: floats, scale: float(1) },
  infer: c => {
    c.expect(0, FLOATS);
    c.rank(0, 4);
    const bias = c.numbers('bias');
    if (bias && c.differ(c.input(0).shape[1]!, bias.length)) {
      c.fail(`a bias of ${bias.length} elements for ${c.input(0).shape[1]} channels`);
    }
    return [c.input(0)];
  },
  run: c => {
    const out = c.allocate();
    const [to, source] = [out.data as Numbers, dense(c.operand(0))];
    const [bias, scale] = [c.numbers('bias'), c.number('scale')];
    const [, channels, height, width] = c.shape() as readonly [number, number, number, number];
    const size = height * width;
    for (let plane = 0; plane * size < to.length; plane++) {
      const shift = bias?.[plane % channels] ?? 0;
      for (let i = plane * size; i < (plane + 1) * size; i++) to[i] = source[i]! * scale + shift;
    }
    return [out];
  },
};

/** Cuts off a border: left, top, right, bottom. With `scale`, takes that height and width from the left and top border on. */
const crop: OperatorVersion = {
  since: 1,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: { border: ints(), scale: ints() },
  infer: c => {
    c.expect(0, FLOATS);
    c.rank(0, 4);
    const border = c.numbers('border') ?? c.fail('attribute border is required');
    if (border.length !== 4 || border.some(size => size < 0)) {
      c.fail(`attribute border: expected 4 sizes of at least 0, got ${formatShape(border)}`);
    }
    const wanted = c.numbers('scale');
    if (wanted && (wanted.length !== 2 || wanted.some(size => size < 0))) {
      c.fail(`attribute scale: expected a height and a width, got ${formatShape(wanted)}`);
    }
    const { dtype, shape } = c.input(0);
    const [left, top, right, bottom] = border as readonly [number, number, number, number];
    const cut = (axis: number, before: number, after: number, size: number | undefined): Dim =>
      c.derive(`crop(${shape[axis]},${before},${size ?? after})`, [shape[axis]!], known => {
        const rest = size ?? known - before - after;
        return rest >= 0 && before + rest <= known
          ? rest
          : c.fail(`axis ${axis}: a border of ${before} and ${after} does not leave ${size ?? 'anything'} of ${known}`);
      });
    return [
      { dtype, shape: [shape[0]!, shape[1]!, cut(2, top, bottom, wanted?.[0]), cut(3, left, right, wanted?.[1])] },
    ];
  },
  run: c => {
    const [left, top] = c.numbers('border') as readonly [number, number];
    const [, , height, width] = c.shape() as readonly [number, number, number, number];
    const cuts = [
      { axis: 2, start: top, end: top + height },
      { axis: 3, start: left, end: left + width },
    ];
    return [c.operand(0).slice(...cuts)];
  },
};

/** The operators of this file. */
export const EXPERIMENTAL: readonly Operator[] = [
  activation('Affine', { alpha: float(1), beta: float(0) }, c => {
    const [alpha, beta] = [c.number('alpha'), c.number('beta')];
    return x => alpha * x + beta;
  }),
  activation('ParametricSoftplus', ALPHA_BETA, c => {
    const [alpha, beta] = [c.number('alpha'), c.number('beta')];
    // log1p of the smaller exponential: a large argument does not overflow.
    return x => alpha * (Math.max(beta * x, 0) + Math.log1p(Math.exp(-Math.abs(beta * x))));
  }),
  activation('ScaledTanh', ALPHA_BETA, c => {
    const [alpha, beta] = [c.number('alpha'), c.number('beta')];
    return x => alpha * Math.tanh(beta * x);
  }),
  activation('Scale', { scale: float(1) }, c => {
    const scale = c.number('scale');
    return x => scale * x;
  }),
  define('Crop', 'compute', crop),
  define('ImageScaler', 'compute', imageScaler),
];
