/**
 * The graph: typed SSA values, nodes, constants; the operator table; inference of facts. Pure.
 * @module
 */
export {
  GRADIENTS,
  GradientContext,
  type GradientOptions,
  type GradientRule,
  type GradientTable,
  gradient,
} from './autodiff/index.ts';
export { GraphBuilder, type GraphBuilderOptions, type NodeSpec } from './builder.ts';
export { type CustomOperator, defineOp, gradientsWith, type OpDefinition } from './define-op.ts';
export { graphDigest } from './digest.ts';
export {
  type BoundSizes,
  bindSizes,
  canonicalDim,
  evaluateDim,
  exactQuotient,
  namesOf,
  productOf,
  type ShapePair,
  substituteDim,
  sumOf,
} from './dimension.ts';
export { ONNX_DTYPES } from './element-types.ts';
export {
  type Activation,
  activation,
  averagePool2d,
  type Bindings,
  batchNorm,
  conv2d,
  dense,
  type Expr,
  embedding,
  expr,
  type FluentGraph,
  type Formula,
  flatten,
  graphOf,
  type Hole,
  type Index,
  type IndexRange,
  isExpr,
  type Layer,
  layerNorm,
  maxPool2d,
  type NamedArguments,
  type Operand,
  type OperatorMethods,
  operator,
  parallel,
  parseFormula,
  residual,
  sequential,
  type Weights,
  type WindowOptions,
} from './expression/index.ts';
export type {
  Attribute,
  Constant,
  ConstantReader,
  Dim,
  Facts,
  Graph,
  LabelledColumns,
  Node,
  Value,
  ValueId,
} from './graph.ts';
export { isGraph } from './graph.ts';
export { type InferOptions, inferFacts, MAX_NESTING, refuseUnknown } from './infer.ts';
export { type LabelledRow, toMaps } from './maps.ts';
export { TRANSFORMS } from './ops/classical/scores.ts';
export { AGGREGATES, BRANCH_MODES, type TreeTable } from './ops/classical/tree-table.ts';
export { type Classifier, type Ensemble, ensembleOfNode } from './ops/classical/trees.ts';
export { constantTensor } from './ops/core/constant.ts';
export { OPERATORS, tableOf } from './ops/index.ts';
export {
  type Arity,
  type AttributeSpec,
  checkNode,
  describeNode,
  type Evaluate,
  findVersion,
  InferContext,
  MAX_OPSET,
  type Operator,
  type OperatorKind,
  type OperatorTable,
  type OperatorVersion,
  operatorKey,
  RunContext,
  type SymbolSource,
} from './ops/operator.ts';
export { type CellFunction, cellFunctions } from './ops/recurrent/recurrent-cells.ts';
export {
  type FoldOptions,
  foldConstants,
  liveNodes,
  type Optimised,
  type OptimiseOptions,
  optimise,
  PASSES,
  type Pass,
  type PassOptions,
  type PassReport,
  type PassResult,
  quantiseOperators,
  removeDeadNodes,
  type Supports,
} from './passes/index.ts';
export { type PrintOptions, printGraph, toDot, toSvg } from './print/index.ts';
export { type MemoryAccount, type RunOptions, runGraph, runNode } from './run.ts';
