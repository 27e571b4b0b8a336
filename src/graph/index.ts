/**
 * The graph: typed SSA values, nodes, constants; the operator table; inference of facts. Pure.
 * @module
 */
export type {
  Attribute,
  Constant,
  ConstantReader,
  Dim,
  Facts,
  Graph,
  Node,
  Value,
  ValueId,
} from './graph.ts';
