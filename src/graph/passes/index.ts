/**
 * Passes: `Graph -> Graph`, each keeping what the graph computes. Value ids and the names of inputs and outputs stay.
 * @module
 */
export { liveNodes, removeDeadNodes } from './dead-nodes.ts';
export { type FoldOptions, foldConstants } from './fold-constants.ts';
export {
  type Optimised,
  type OptimiseOptions,
  optimise,
  PASSES,
  type Pass,
  type PassReport,
} from './optimise.ts';
export { quantiseOperators } from './quantise-operators.ts';
export type { PassOptions, PassResult, Supports } from './rewriter.ts';
