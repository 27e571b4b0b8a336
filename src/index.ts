/**
 * Inference on data that must not leak: sandboxed, budgeted, recorded.
 * @module
 */
export { histogram } from '../privacy/dp/statistics/histogram.ts';
export { CloisterError, ERROR_CODES, type ErrorCode, isCloisterError } from './base/index.ts';
export type { Graph } from './graph/index.ts';
export * from './service/index.ts';
export { Tensor } from './tensor/index.ts';
