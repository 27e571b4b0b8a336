/**
 * Differential privacy: exact noise, mechanisms, events, and statistics of predictions.
 * @module
 */
export { type MicroEpsilon, microEpsilon, spendOf } from '../../src/base/index.ts';
export * from './accounting/index.ts';
export * from './auditing/index.ts';
export {
  type ApproxEvent,
  type BoundedRangeEvent,
  type CompositionEvent,
  type DiscreteGaussianEvent,
  type DiscreteLaplaceEvent,
  type DpEvent,
  type FixedSizeSubsampledEvent,
  type GaussianEvent,
  type GaussianMixtureEvent,
  type GdpEvent,
  type GnMaxEvent,
  type LaplaceEvent,
  type PoissonSubsampledEvent,
  type PureEvent,
  parseEvent,
  pureLoss,
  type RandomizedResponseEvent,
  type Rational,
  type RdpEvent,
  type RepeatAndSelectEvent,
  type SelfCompositionEvent,
  type ShuffledEvent,
  type TreeGaussianEvent,
  type TruncatedPoissonSubsampledEvent,
  type ZcdpEvent,
} from './event.ts';
export * from './learning/index.ts';
export * from './local/index.ts';
export type { Mechanism } from './mechanism.ts';
export type { AdditiveMechanism, AnswerOptions } from './noise/additive.ts';
export { type Bits, randomBits } from './noise/bits.ts';
export { discreteGaussian, gaussianErrorBar, type Sampler } from './noise/discrete-gaussian.ts';
export { errorBar, type NoiseScale, sampleDiscreteLaplace } from './noise/discrete-laplace.ts';
export { type GaussianMechanism, type GaussianOptions, gaussianMechanism } from './noise/gaussian-mechanism.ts';
export {
  floatGrid,
  type Grid,
  type GridOptions,
  gridL1Sensitivity,
  gridSquaredL2Sensitivity,
  quantise,
} from './noise/grid.ts';
export { type LaplaceMechanism, type LaplaceOptions, laplaceMechanism } from './noise/laplace-mechanism.ts';
export { type ObliviousSampler, obliviousGaussian, obliviousLaplace } from './noise/oblivious.ts';
export { type RoundedGaussianMechanism, roundedGaussianMechanism } from './noise/rounded-gaussian-mechanism.ts';
export {
  type Adjacency,
  type Delta,
  delta,
  type Epsilon,
  epsilon,
  type L1Sensitivity,
  type LInfSensitivity,
  l1Sensitivity,
  lInfSensitivity,
  type Mu,
  mu,
  type Rho,
  rho,
  type SquaredL2Sensitivity,
  squaredL2Sensitivity,
} from './parameters.ts';
export { holdPrivate, type Noised, type Private, type Released } from './private.ts';
export {
  fixedSizeSampling,
  poissonSampling,
  releaseSample,
  type Sample,
  type Sampling,
  type SamplingOptions,
} from './sample.ts';
export * from './selection/index.ts';
export {
  type CountOptions,
  count,
  type HistogramBounds,
  type HistogramOptions,
  histogram,
} from './statistics/histogram.ts';
export {
  type NamedPartition,
  type OptimalSelection,
  type OptimalSelectionOptions,
  optimalSelection,
  type ThresholdSelection,
  type ThresholdSelectionOptions,
  thresholdSelection,
} from './statistics/partition-selection.ts';
export {
  type PartitionCount,
  type PartitionCountOptions,
  type PartitionTally,
  partitionCount,
} from './statistics/partitions.ts';
export { type Quantile, type QuantileOptions, quantile } from './statistics/quantile.ts';
export type { Prediction, Statistic } from './statistics/statistic.ts';
export { mean, type RecordBounds, type SumOptions, sum, type ValueOptions, variance } from './statistics/sums.ts';
export type { Tally } from './statistics/tally.ts';
