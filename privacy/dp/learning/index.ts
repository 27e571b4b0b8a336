export {
  type ClippedDecoderOptions,
  clippedDecoder,
  type DecodeOptions,
  decodeTokens,
  type MixtureDecoder,
  type MixtureDecoderOptions,
  mixtureDecoder,
} from './decoding.ts';
export {
  type GradientOptions,
  gradientSum,
  type PrefixSums,
  type PrefixSumsOptions,
  prefixSums,
} from './gradients.ts';
export { type Example, type LinearModel, type LinearModelOptions, trainLinearModel } from './linear-model.ts';
export { type LabelledPoint, type NeighbourVoteOptions, neighbourVote } from './neighbours.ts';
export {
  type ConfidentAnswer,
  type ConfidentGnMaxOptions,
  confidentGnMax,
  type GnMaxOptions,
  gnMax,
} from './pate.ts';
export { type TestVotesOptions, testVotes, type VotesVerdict } from './pate-test.ts';
export {
  type SubjectRecord,
  type SubsampleAggregate,
  type SubsampleOptions,
  subsampleAndAggregate,
} from './subsample-aggregate.ts';
