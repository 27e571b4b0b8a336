export {
  type ConfidentAnswer,
  type ConfidentGnMaxOptions,
  confidentGnMax,
  type GnMaxOptions,
  gnMax,
} from './pate.ts';
export { type TestVotesOptions, testVotes, type VotesVerdict } from './pate-test.ts';
