export {
  type GradientOptions,
  gradientSum,
  type PrefixSums,
  type PrefixSumsOptions,
  prefixSums,
} from './gradients.ts';
export { type Example, type LinearModel, type LinearModelOptions, trainLinearModel } from './linear-model.ts';
export {
  type ConfidentAnswer,
  type ConfidentGnMaxOptions,
  confidentGnMax,
  type GnMaxOptions,
  gnMax,
} from './pate.ts';
export { type TestVotesOptions, testVotes, type VotesVerdict } from './pate-test.ts';
