/**
 * Differential privacy: exact noise, mechanisms, events, and statistics of predictions.
 * @module
 */
export { type Bits, randomBits } from './bits.ts';
export { errorBar, type NoiseScale, sampleDiscreteLaplace } from './discrete-laplace.ts';
export { type CompositionEvent, type DiscreteLaplaceEvent, type DpEvent, pureLoss } from './event.ts';
export { type LaplaceMechanism, type LaplaceOptions, laplaceMechanism } from './laplace-mechanism.ts';
export type { Private, Released } from './private.ts';
export { type L1Sensitivity, l1Sensitivity } from './sensitivity.ts';
export {
  type CountOptions,
  count,
  type HistogramOptions,
  histogram,
  type Prediction,
  type Statistic,
} from './statistic.ts';
export type { Tally } from './tally.ts';
