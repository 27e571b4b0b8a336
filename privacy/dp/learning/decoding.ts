/**
 * Text from language models that saw private prompts or private training data: every token is a selection that is paid for.
 * @module
 */
import { CloisterError, type MicroEpsilon, osRandom, type RandomSource } from '../../../src/base/index.ts';
import type { DpEvent, PureEvent } from '../event.ts';
import type { Mechanism } from '../mechanism.ts';
import { uniform } from '../noise/bernoulli.ts';
import { randomBits } from '../noise/bits.ts';
import { lInfSensitivity } from '../parameters.ts';
import { holdPrivate, type Private, type Released, takePrivate } from '../private.ts';
import { exponentialMechanism } from '../selection/exponential.ts';
import { wholeParameter } from './votes.ts';

/** What {@link clippedDecoder} is told. */
export interface ClippedDecoderOptions {
  /** Size of the vocabulary, 2 to 2^20. */
  readonly tokens: number;
  /** How far below the best a logit may count, halved: after centring, logits lie from `-clip` to `clip`. 2^-20 to 2^20. */
  readonly clip: number;
  /** What one token costs. */
  readonly cost: MicroEpsilon;
  /** Default the operating system's generator. Tests alone give another. */
  readonly random?: RandomSource;
}

/** A logit is counted in steps of `clip / 2^20`. */
const STEPS = 2 ** 20;

/**
 * Returns the clipped exponential mechanism for one token: the logits that the model gives for each subject's prompt are
 * centred, clipped to `[-clip, clip]` and summed, and a token is drawn with odds `exp(e sum / (2 clip))`, where `e = cost /
 * 10^6` (`decoding.proof.md`). With s prompts that is sampling from their mean logits at temperature `2 clip / (s e)`.
 * Neighbours have one prompt more or less.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when an option is out of range. `release` throws `INVALID_ARGUMENT` when its
 *   argument was released before; never because of logits: NaN counts as the least, a list of another length as nothing.
 * @see Amin et al. 2024, https://arxiv.org/abs/2407.12108
 * @example
 * ```ts
 * const next = clippedDecoder({ tokens: 4, clip: 10, cost: spendOf(0.1) });
 * next.event; // { kind: 'bounded-range', epsilon: 0.1, neighboring: 'add-remove' }
 * const logits = Array(1000).fill([0, 1, 9, 2]); // a thousand prompts that agree
 * next.release(holdPrivate(logits)).value; // 2
 * ```
 */
export function clippedDecoder(
  options: ClippedDecoderOptions,
): Mechanism<readonly ArrayLike<number>[], number, 'add-remove'> {
  const tokens = wholeParameter('tokens', options.tokens, 2, 2 ** 20);
  const { clip, cost, random = osRandom } = options;
  if (typeof clip !== 'number' || !(clip >= 2 ** -20 && clip <= 2 ** 20)) {
    const came = typeof clip === 'number' ? String(clip) : typeof clip;
    throw new CloisterError('DP_INVALID_PARAMETER', `clip is a number from 2^-20 to 2^20, got ${came}`);
  }
  const pick = exponentialMechanism({ sensitivity: lInfSensitivity(STEPS), candidates: tokens, cost, random });
  return Object.freeze({
    neighboring: 'add-remove',
    event: pick.event,
    release(held: Private<readonly ArrayLike<number>[], 'add-remove'>): Released<number> {
      return pick.release(holdPrivate(sumOfClipped(takePrivate(held), tokens, clip)));
    },
  });
}

/** The sum of centred and clipped logits in steps: integers, exact for up to 2^32 prompts. */
export function sumOfClipped(rows: readonly ArrayLike<number>[], tokens: number, clip: number): number[] {
  const sum = new Array<number>(tokens).fill(0);
  for (const row of rows) {
    if (row === null || typeof row !== 'object' || row.length !== tokens) continue;
    const logits = Float64Array.from({ length: tokens }, (_, t) => logitOf(row[t]));
    const most = logits.reduce((a, b) => Math.max(a, b));
    for (let t = 0; t < tokens; t++) {
      // The best is worth `clip`; whatever lies more than twice that below it, `-clip`.
      const below = most === Number.NEGATIVE_INFINITY ? Number.POSITIVE_INFINITY : most - logits[t]!;
      sum[t]! += Math.round(Math.max(-1, 1 - below / clip) * STEPS);
    }
  }
  return sum;
}

function logitOf(value: unknown): number {
  if (typeof value !== 'number' || Number.isNaN(value)) return Number.NEGATIVE_INFINITY;
  return Math.min(value, Number.MAX_VALUE);
}

/** What {@link mixtureDecoder} is told. */
export interface MixtureDecoderOptions {
  /** Number of models that were tuned on private parts of the data, 2 to 2^20. */
  readonly models: number;
  /** Size of the vocabulary, 2 to 2^20. */
  readonly tokens: number;
  /** How far, in logarithms, a tuned model may lead away from the public one at any token: 2^-20 to 20. */
  readonly beta: number;
  /** Default the operating system's generator. Tests alone give another. */
  readonly random?: RandomSource;
}

/** A decoder that mixes tuned models with a public one. */
export interface MixtureDecoder {
  /** What one token costs: `ln((N - 1 + exp(2 beta)) / N)`, rounded up. */
  readonly event: PureEvent;
  /**
   * The mechanism of the next token, beside what the public model gives for it. Takes the probabilities of each tuned model.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when these are not `tokens` probabilities.
   */
  beside(publicProbabilities: ArrayLike<number>): Mechanism<readonly ArrayLike<number>[], number, 'replace-one'>;
}

/** The weights of one model add up to this. */
const WEIGHT = 2 ** 32;

/**
 * Returns PMixED in its pure form: each of the tuned models is mixed with the public model, as much of it as keeps every
 * token within a factor `exp(beta)` of the public probability; the mixtures are averaged, and a token is drawn from the
 * average, in exact integer weights (`decoding.proof.md`). Each subject's data tuned one model; neighbours differ in one
 * model (`replace-one`).
 *
 * The paper bounds a Rényi divergence where this bounds every ratio, which costs accuracy on rare tokens and needs no order.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when an option is out of range.
 * @see Flemings, Razaviyayn & Annavaram 2024, https://arxiv.org/abs/2403.15638
 * @example
 * ```ts
 * const decoder = mixtureDecoder({ models: 100, tokens: 3, beta: 1 });
 * decoder.event.epsilon < 0.0620; // true: ln((99 + e^2) / 100)
 * const next = decoder.beside([0.2, 0.3, 0.5]);
 * next.release(holdPrivate(Array(100).fill([0.9, 0.05, 0.05]), 'replace-one')).value < 3; // true
 * ```
 */
export function mixtureDecoder(options: MixtureDecoderOptions): MixtureDecoder {
  const models = wholeParameter('models', options.models, 2, 2 ** 20);
  const tokens = wholeParameter('tokens', options.tokens, 2, 2 ** 20);
  const { beta, random = osRandom } = options;
  if (typeof beta !== 'number' || !(beta >= 2 ** -20 && beta <= 20)) {
    const came = typeof beta === 'number' ? String(beta) : typeof beta;
    throw new CloisterError('DP_INVALID_PARAMETER', `beta is a number from 2^-20 to 20, got ${came}`);
  }
  const event: PureEvent = Object.freeze({
    kind: 'pure',
    epsilon: Math.log1p(Math.expm1(2 * beta) / models) * (1 + 2 ** -40),
    neighboring: 'replace-one',
  });
  return Object.freeze({
    event,
    beside(publicProbabilities: ArrayLike<number>) {
      const base = publicWeights(publicProbabilities, tokens);
      return Object.freeze({
        neighboring: 'replace-one' as const,
        event,
        release(held: Private<readonly ArrayLike<number>[], 'replace-one'>): Released<number> {
          const rows = takePrivate(held);
          const total = new Float64Array(tokens); // at most 2^20 2^32: exact
          for (let i = 0; i < models; i++) {
            const weights = mixedWeights(rows[i], base, beta);
            for (let t = 0; t < tokens; t++) total[t]! += weights[t]!;
          }
          let left = uniform(models * WEIGHT, randomBits(random));
          let token = 0;
          while (left >= total[token]!) left -= total[token++]!;
          return Object.freeze({ kind: 'released' as const, value: token, event });
        },
      });
    },
  });
}

/** Whole weights of at least 1 that add up to {@link WEIGHT}. */
function publicWeights(probabilities: ArrayLike<number>, tokens: number): Float64Array {
  const weights = new Float64Array(tokens);
  let sum = 0;
  let largest = 0;
  const known = probabilities !== null && typeof probabilities === 'object' && probabilities.length === tokens;
  for (let t = 0; known && t < tokens; t++) {
    const p: unknown = probabilities[t];
    if (typeof p !== 'number' || !(p >= 0 && p <= 1 + 1e-6)) break;
    weights[t] = Math.max(1, Math.floor(p * (WEIGHT - tokens)));
    sum += weights[t]!;
    if (weights[t]! > weights[largest]!) largest = t;
  }
  weights[largest]! += WEIGHT - sum;
  if (!known || !(weights[largest]! >= 1) || Math.abs(sum / WEIGHT - 1) > 0.01 || weights.includes(0)) {
    throw new CloisterError('INVALID_ARGUMENT', `a public model gives ${tokens} probabilities that add up to 1`);
  }
  return weights;
}

/**
 * As much of `row` mixed into `base` as keeps each weight within `exp(+-beta)`, in whole weights of the same sum; `base`
 * itself if nothing fits.
 */
export function mixedWeights(row: ArrayLike<number> | undefined, base: Float64Array, beta: number): Float64Array {
  if (row === null || typeof row !== 'object' || row.length !== base.length) return base;
  let sum = 0;
  for (let t = 0; t < base.length; t++) {
    const p: unknown = row[t];
    if (typeof p !== 'number' || !(p >= 0 && p <= 1e6)) return base;
    sum += p;
  }
  if (!(sum > 0)) return base;
  let share = 1;
  for (let t = 0; t < base.length; t++) {
    const ratio = ((row[t]! / sum) * WEIGHT) / base[t]!;
    if (ratio > 1) share = Math.min(share, Math.expm1(beta) / (ratio - 1));
    else if (ratio < 1) share = Math.min(share, -Math.expm1(-beta) / (1 - ratio));
  }
  // Rounded inwards: floats may err, the limits below are what counts.
  const least = base.map(weight => Math.ceil(weight * Math.exp(-beta) * (1 + 1e-12)));
  const most = base.map(weight => Math.floor(weight * Math.exp(beta) * (1 - 1e-12)));
  const mixed = base.map((weight, t) => {
    const wanted = Math.round(weight + share * ((row[t]! / sum) * WEIGHT - weight));
    return Math.max(least[t]!, Math.min(most[t]!, wanted));
  });
  let missing = WEIGHT - mixed.reduce((total, weight) => total + weight, 0);
  for (let t = 0; t < mixed.length && missing !== 0; t++) {
    const room = missing > 0 ? Math.min(missing, most[t]! - mixed[t]!) : Math.max(missing, least[t]! - mixed[t]!);
    mixed[t]! += room;
    missing -= room;
  }
  const fits = missing === 0 && mixed.every((weight, t) => weight >= least[t]! && weight <= most[t]!);
  return fits ? mixed : base;
}

/** What {@link decodeTokens} is told. */
export interface DecodeOptions {
  /** The most tokens: each is paid for beforehand. 1 to 2^20. */
  readonly most: number;
  /** A token after which decoding ends; it is part of the text. */
  readonly stop?: number;
}

/**
 * Draws tokens one after the other: `next` is given the tokens so far, which are public, and returns the mechanism of the
 * next token and what it reads. Any model will do that gives logits or probabilities for a prefix.
 *
 * To be charged beforehand: `most` times the event of the mechanism, which must be the same for each token. The event of the
 * release counts the tokens that were drawn.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when `most` is out of range; whatever `next` throws.
 * @example
 * ```ts
 * const decoder = clippedDecoder({ tokens: 3, clip: 5, cost: spendOf(1) });
 * const { value, event } = await decodeTokens(
 *   prefix => [decoder, holdPrivate(Array(100).fill(prefix.length < 2 ? [0, 9, 0] : [0, 0, 9]))],
 *   { most: 10, stop: 2 },
 * );
 * value; // [1, 1, 2]
 * pureLoss(event); // 3000000
 * ```
 */
export async function decodeTokens<In, A extends 'add-remove' | 'replace-one'>(
  next: (
    prefix: readonly number[],
  ) =>
    | readonly [Mechanism<In, number, A>, Private<In, NoInfer<A>>]
    | Promise<readonly [Mechanism<In, number, A>, Private<In, NoInfer<A>>]>,
  { most, stop }: DecodeOptions,
): Promise<Released<readonly number[]>> {
  wholeParameter('most', most, 1, 2 ** 20);
  const tokens: number[] = [];
  const events: DpEvent[] = [];
  while (tokens.length < most && (tokens.length === 0 || tokens.at(-1) !== stop)) {
    const [mechanism, held] = await next(Object.freeze([...tokens]));
    const released = mechanism.release(held);
    tokens.push(released.value);
    events.push(released.event);
  }
  const event: DpEvent = Object.freeze({ kind: 'composition', events: Object.freeze(events) });
  return Object.freeze({ kind: 'released', value: Object.freeze(tokens), event });
}
