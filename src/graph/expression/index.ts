/**
 * Writing graphs by hand: fluent values, layers, formulas.
 * @module
 */
export {
  type Expr,
  type FluentGraph,
  GraphValue,
  graphOf,
  type Hole,
  type Index,
  type IndexRange,
  isExpr,
  type Layer,
  type NamedArguments,
  OpenGraph,
  type Operand,
} from './fluent.ts';
export { type Bindings, expr, type Formula, parseFormula } from './formula.ts';
export {
  type Activation,
  activation,
  averagePool2d,
  batchNorm,
  conv2d,
  dense,
  embedding,
  flatten,
  layerNorm,
  maxPool2d,
  operator,
  parallel,
  residual,
  sequential,
  type Weights,
  type WindowOptions,
} from './layers.ts';
export type { GraphFunctions, Operands, OperatorMethods } from './methods.ts';
