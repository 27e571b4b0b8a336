/**
 * The ground floor: errors, amounts, canonical encoding, and the seams of time and randomness. Pure.
 * @module
 */
export { limitOf, MICRO_PER_EPSILON, type MicroEpsilon, microEpsilon, spendOf, toEpsilon } from './amounts.ts';
export type { Brand } from './brand.ts';
export { concatBytes, decodeUtf8, encodeUtf8, equalBytes, fromBase64, fromHex, toBase64, toHex } from './bytes.ts';
export { canonicalJson, type Json } from './canonical.ts';
export { type Clock, isoTime, systemClock, systemTimers, type Timers } from './clock.ts';
export {
  CloisterError,
  ERROR_CODES,
  type ErrorCode,
  type ErrorDetail,
  errorFromJson,
  isCloisterError,
} from './errors.ts';
export { BOUND_FORMS, type Bound, boundProblem, MEASURES, type Measure, MOST_BOUND } from './measures.ts';
export { osRandom, type RandomSource } from './random.ts';
