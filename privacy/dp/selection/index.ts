export { exponentialMechanism } from './exponential.ts';
export { reportNoisyMax } from './noisy-max.ts';
export { permuteAndFlip } from './permute-and-flip.ts';
export type { SelectionOptions } from './scores.ts';
export { type SparseAnswer, type SparseVector, type SparseVectorOptions, sparseVector } from './sparse-vector.ts';
export { type TopKOptions, topK } from './top-k.ts';
