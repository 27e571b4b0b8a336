/**
 * Gradients of functions of one element, and of the activations.
 * @module
 */
import type { ValueId } from '../graph.ts';
import type { GradientContext, GradientRule } from './rule.ts';

/** 2 / sqrt(pi). */
const TWO_OVER_SQRT_PI = 1.1283791670955126;
/** 1 / sqrt(2 pi). */
const INVERSE_SQRT_TWO_PI = 0.3989422804014327;

/** A rule from the derivative: `slope` writes f'(x), where y = f(x) is at hand too. */
function derivative(slope: (g: GradientContext, x: ValueId) => ValueId): GradientRule {
  return g => [g.mul(g.dy, slope(g, g.input(0)))];
}

/** A rule from the formula: the gradient is that of the nodes which `forward` writes. */
function formula(forward: (g: GradientContext, x: ValueId) => ValueId): GradientRule {
  return g => g.through(([x]) => [forward(g, x!)]);
}

/** The gradient passes unchanged where the condition holds, and is 0 elsewhere. */
function gate(open: (g: GradientContext, x: ValueId) => ValueId): GradientRule {
  return g => [g.mask(open(g, g.input(0)), g.dy)];
}

const piecewiseConstant: GradientRule = () => [undefined];

const square = (g: GradientContext, x: ValueId): ValueId => g.mul(x, x);
const greater = (g: GradientContext, x: ValueId, than: number): ValueId => g.op('Greater', [x, g.scalar(than, x)]);
const less = (g: GradientContext, x: ValueId, than: number): ValueId => g.op('Less', [x, g.scalar(than, x)]);
/** `a + b x` */
const linear = (g: GradientContext, a: number, b: number, x: ValueId): ValueId => g.shift(g.scale(x, b), a);
const reciprocal = (g: GradientContext, x: ValueId): ValueId => g.op('Reciprocal', [x]);

/** `1 / sqrt(a + b x^2)` */
const inverseRoot = (a: number, b: number): GradientRule =>
  derivative((g, x) => reciprocal(g, g.op('Sqrt', [linear(g, a, b, square(g, x))])));

/** Elu and its scaled form: `gamma alpha e^x` left of 0, which is `y + gamma alpha`. */
function elu(g: GradientContext, alpha: number, gamma: number): readonly ValueId[] {
  const x = g.input(0);
  const left = g.mul(g.dy, g.shift(g.output(), alpha * gamma));
  return [g.where(less(g, x, 0), left, g.scale(g.dy, gamma))];
}

const gelu: GradientRule = g =>
  g.string('approximate') === 'tanh'
    ? g.through(([x]) => {
        const cubic = g.scale(g.mul(square(g, x!), x!), 0.044715);
        const bent = g.op('Tanh', [g.scale(g.add(x!, cubic), Math.sqrt(2 / Math.PI))]);
        return [g.mul(g.scale(x!, 0.5), g.shift(bent, 1))];
      })
    : [g.mul(g.dy, gaussianSlope(g, g.input(0)))];

/** Of `x Phi(x)`, with the distribution function of the standard normal: `Phi(x) + x phi(x)`. */
function gaussianSlope(g: GradientContext, x: ValueId): ValueId {
  const below = linear(g, 0.5, 0.5, g.op('Erf', [g.scale(x, Math.SQRT1_2)]));
  const density = g.scale(g.op('Exp', [g.scale(square(g, x), -0.5)]), INVERSE_SQRT_TWO_PI);
  return g.add(below, g.mul(x, density));
}

/** Bounds as inputs (from opset 11), or as attributes. The maximum is applied last. */
const clip: GradientRule = g => {
  const x = g.input(0);
  const bound = (index: number, name: string): ValueId | undefined => {
    if (g.node.opset >= 11) return g.has(index) ? g.op('Reshape', [g.input(index), g.list([])]) : undefined;
    return g.attribute(name) === undefined ? undefined : g.scalar(g.number(name));
  };
  const [low, high] = [bound(1, 'min'), bound(2, 'max')];
  const raised = low === undefined ? x : g.op('Max', [x, low]);
  const under = low === undefined ? undefined : g.op('Less', [x, low]);
  const over = high === undefined ? undefined : g.op('Greater', [raised, high]);
  const none = g.scalar(0);
  const outside = (place: ValueId | undefined, id: ValueId): ValueId =>
    place === undefined ? id : g.where(place, none, id);
  const toBound = (index: number, part: () => ValueId): ValueId | undefined =>
    g.needs(index) ? g.reshapeLike(g.op('ReduceSum', [part()], { keepdims: 0 }), g.input(index)) : undefined;
  return [
    outside(under, outside(over, g.dy)),
    toBound(1, () => outside(over, g.mask(under!, g.dy))),
    toBound(2, () => g.mask(over!, g.dy)),
  ];
};

const prelu: GradientRule = g => {
  const [x, slope] = [g.input(0), g.input(1)];
  const negative = less(g, x, 0);
  return [
    g.where(negative, g.mul(g.dy, slope), g.dy),
    g.needs(1) ? g.reduceTo(g.mask(negative, g.mul(g.dy, x)), slope) : undefined,
  ];
};

/** The rules of this file. */
export const UNARY: Readonly<Record<string, GradientRule>> = {
  Floor: piecewiseConstant,
  Ceil: piecewiseConstant,
  Round: piecewiseConstant,
  Sign: piecewiseConstant,
  Neg: g => [g.neg(g.dy)],
  Abs: derivative((g, x) => g.op('Sign', [x])),
  Sqrt: g => [g.div(g.dy, g.scale(g.output(), 2))],
  Exp: derivative(g => g.output()),
  Log: g => [g.div(g.dy, g.input(0))],
  Reciprocal: derivative(g => g.neg(square(g, g.output()))),
  Sigmoid: derivative(g => g.mul(g.output(), linear(g, 1, -1, g.output()))),
  Tanh: derivative(g => linear(g, 1, -1, square(g, g.output()))),
  Erf: derivative((g, x) => g.scale(g.op('Exp', [g.neg(square(g, x))]), TWO_OVER_SQRT_PI)),
  Sin: derivative((g, x) => g.op('Cos', [x])),
  Cos: derivative((g, x) => g.neg(g.op('Sin', [x]))),
  Tan: derivative(g => linear(g, 1, 1, square(g, g.output()))),
  Asin: inverseRoot(1, -1),
  Acos: derivative((g, x) => g.neg(reciprocal(g, g.op('Sqrt', [linear(g, 1, -1, square(g, x))])))),
  Atan: derivative((g, x) => reciprocal(g, linear(g, 1, 1, square(g, x)))),
  Sinh: derivative((g, x) => g.op('Cosh', [x])),
  Cosh: derivative((g, x) => g.op('Sinh', [x])),
  Asinh: inverseRoot(1, 1),
  Acosh: inverseRoot(-1, 1),
  Atanh: derivative((g, x) => reciprocal(g, linear(g, 1, -1, square(g, x)))),
  Relu: gate((g, x) => greater(g, x, 0)),
  LeakyRelu: g => [g.where(less(g, g.input(0), 0), g.scale(g.dy, g.number('alpha')), g.dy)],
  PRelu: prelu,
  Elu: g => elu(g, g.number('alpha'), 1),
  Selu: g => elu(g, g.number('alpha'), g.number('gamma')),
  // y = alpha (e^(x/alpha) - 1) left of 0.
  Celu: g => [g.where(less(g, g.input(0), 0), g.mul(g.dy, linear(g, 1, 1 / g.number('alpha'), g.output())), g.dy)],
  HardSigmoid: g => {
    const line = linear(g, g.number('beta'), g.number('alpha'), g.input(0));
    return [g.mask(g.op('And', [greater(g, line, 0), less(g, line, 1)]), g.scale(g.dy, g.number('alpha')))];
  },
  HardSwish: g => {
    const x = g.input(0);
    const middle = g.mul(g.dy, linear(g, 0.5, 1 / 3, x));
    return [g.where(greater(g, x, 3), g.dy, g.mask(greater(g, x, -3), middle))];
  },
  Softplus: derivative((g, x) => g.op('Sigmoid', [x])),
  Softsign: derivative((g, x) => reciprocal(g, square(g, g.shift(g.op('Abs', [x]), 1)))),
  Mish: formula((g, x) => g.mul(x, g.op('Tanh', [g.op('Softplus', [x])]))),
  Swish: formula((g, x) => g.mul(x, g.op('Sigmoid', [g.scale(x, g.number('alpha'))]))),
  Gelu: gelu,
  ThresholdedRelu: gate((g, x) => greater(g, x, g.number('alpha'))),
  Shrink: gate((g, x) => g.op('Or', [greater(g, x, g.number('lambd')), less(g, x, -g.number('lambd'))])),
  Clip: clip,
};
