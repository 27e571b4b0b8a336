/**
 * The law of a sampler by going through all strings of bits, and what it says of privacy, exactly.
 * @module
 */
import { CloisterError, type RandomSource } from '../../../src/base/index.ts';
import type { Bits } from '../noise/bits.ts';

/**
 * A source of randomness that is asked bit by bit, so that whoever plays it sees how many were used. `randomBits` reads it
 * without a buffer.
 */
export type BitOracle = RandomSource & Bits;

/** How often each outcome comes over all strings of at most `depth` bits: exact, in units of `2^-depth`. */
export interface OutcomeLaw {
  readonly depth: number;
  /** Outcome to mass. The true probability of an outcome is at least its mass, and at most that plus `open`. */
  readonly mass: ReadonlyMap<string, bigint>;
  /** The mass of the strings after which the sampler asked for more bits than `depth`. */
  readonly open: bigint;
  /** Runs that it took. */
  readonly runs: number;
}

/** What {@link enumerateOutcomes} is told. */
export interface EnumerationOptions {
  /** The longest string of bits, 1 to 40. Time doubles with each; 20 is about a second for a small sampler. */
  readonly depth: number;
}

const MOST_DEPTH = 40;
const exhausted = new Error('the oracle has no bit left'); // one for all: a stack for each would cost more than the rest

/**
 * Returns the law of `draw`, by running it on every string of at most `depth` bits. Outcomes are told apart by their JSON
 * (big integers and numbers that JSON lacks included).
 *
 * `draw` must take all its randomness from the oracle; one that does not gives masses that mean nothing, which nobody here
 * can see. What it throws is thrown on, except the oracle's own refusal.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when the depth is out of range.
 * @example
 * A fair die by rejection: three bits, two strings of eight start again.
 * ```ts
 * const die = (bits: { take(count: number): number }): number => {
 *   for (;;) {
 *     const face = bits.take(3);
 *     if (face < 6) return face + 1;
 *   }
 * };
 * const { mass, open } = enumerateOutcomes(die, { depth: 6 });
 * mass.get('1'); // 10n: 8/64 at the first try, 2/64 at the second
 * open; // 4n: of 64
 * ```
 */
export function enumerateOutcomes(draw: (oracle: BitOracle) => unknown, options: EnumerationOptions): OutcomeLaw {
  const { depth } = options;
  if (!Number.isInteger(depth) || depth < 1 || depth > MOST_DEPTH) {
    throw new CloisterError('INVALID_ARGUMENT', `depth is an integer from 1 to ${MOST_DEPTH}, got ${String(depth)}`);
  }
  const script = new Uint8Array(depth);
  let length = 0; // of the script; what lies behind is drawn as 0 and becomes part of it
  let at = 0;
  const next = (): number => {
    if (at === depth) throw exhausted;
    if (at === length) script[length++] = 0;
    return script[at++]!;
  };
  const oracle: BitOracle = {
    take(count) {
      let value = 0;
      for (let i = 0; i < count; i++) value = 2 * value + next();
      return value;
    },
    fill(target) {
      for (let i = 0; i < target.length; i++) target[i] = oracle.take(8);
    },
  };
  const mass = new Map<string, bigint>();
  const counts = new Map<string, number[]>(); // by the number of bits used
  let open = 0n;
  let runs = 0;
  for (;;) {
    at = 0;
    runs++;
    try {
      const outcome = outcomeKey(draw(oracle));
      const lengths = counts.get(outcome) ?? counts.set(outcome, new Array<number>(depth + 1).fill(0)).get(outcome)!;
      lengths[at]!++;
      length = at;
    } catch (error) {
      if (error !== exhausted) throw error;
      open++;
    }
    while (length > 0 && script[length - 1] === 1) length--;
    if (length === 0) break;
    script[length - 1] = 1;
  }
  for (const [outcome, lengths] of counts) {
    mass.set(
      outcome,
      lengths.reduce((sum, count, used) => sum + (BigInt(count) << BigInt(depth - used)), 0n),
    );
  }
  return Object.freeze({ depth, mass, open, runs });
}

/** A bracket of `sup_E P[E] - e^epsilon Q[E]`, the least delta for which P is (epsilon, delta)-close to Q in this direction. */
export interface DeltaBracket {
  readonly lower: number;
  readonly upper: number;
}

/**
 * Returns a bracket of the hockey-stick divergence of order `e^epsilon` from `p` to `q`: certain but for a relative 2^-48,
 * which the bracket includes.
 *
 * With masses `p_o <= P[o]` and `q_o <= Q[o]`, `sum max(0, p_o - e^epsilon q_o)` is at most `open(p)` below the divergence
 * and at most `e^epsilon open(q)` above it.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when epsilon is negative or no number.
 * @example
 * ```ts
 * const fair = enumerateOutcomes(bits => bits.take(1), { depth: 4 });
 * const biased = enumerateOutcomes(bits => Number(bits.take(2) === 0), { depth: 4 });
 * hockeyStick(fair, biased, 0).lower > 0.2499; // true: P[1] is 1/2 here and 1/4 there
 * ```
 */
export function hockeyStick(p: OutcomeLaw, q: OutcomeLaw, epsilon: number): DeltaBracket {
  if (!(epsilon >= 0) || epsilon > 700)
    throw new CloisterError('INVALID_ARGUMENT', `epsilon is a number from 0 to 700, got ${String(epsilon)}`);
  const factor = Math.exp(epsilon);
  let sum = 0;
  for (const [outcome, mass] of p.mass) {
    const other = share(q.mass.get(outcome) ?? 0n, q.depth);
    sum += Math.max(0, share(mass, p.depth) - factor * other);
  }
  const slack = (1 + factor) * 2 ** -48; // exp, products and the sum: each within an ulp or so of a total below 1 + factor
  return Object.freeze({
    lower: Math.max(0, sum - factor * share(q.open, q.depth) - slack),
    upper: Math.min(1, sum + share(p.open, p.depth) + slack),
  });
}

/** What {@link auditByEnumeration} is told. */
export interface ExactAudit<In> {
  /** The mechanism, on one of the inputs, with all its randomness from the oracle. */
  readonly run: (input: In, oracle: BitOracle) => unknown;
  /** Two neighbouring inputs. Both directions are examined. */
  readonly inputs: readonly [In, In];
  /** The claim: (epsilon, delta)-differential privacy. Delta defaults to 0. */
  readonly epsilon: number;
  readonly delta?: number;
  /** Bits for each run, default 18. */
  readonly depth?: number;
}

/** What an enumeration shows. */
export interface ExactAuditReport {
  /**
   * `violated`: these neighbours refute the claim, with certainty. `holds`: the claim is true for these neighbours (of others
   * nothing is said). `open`: the strings were too short to tell.
   */
  readonly verdict: 'violated' | 'holds' | 'open';
  /** The least delta that is true for these neighbours at the claimed epsilon, over both directions. */
  readonly delta: DeltaBracket;
  /** The larger of the two masses that stayed open. */
  readonly open: number;
  readonly depth: number;
}

/**
 * Examines a claim of privacy for two neighbours by enumerating both laws. Nothing is estimated: a violation that it reports
 * is one. A verdict of `open` is usual for pure claims about samplers that loop, where `delta.upper` is what is left to doubt.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when a number is out of range; whatever `run` throws.
 * @example
 * Randomised response with one fair coin: the truth with probability 3/4. Its loss is ln 3, not 1.
 * ```ts
 * const run = (truth: number, bits: { take(count: number): number }): number => (bits.take(2) === 0 ? 1 - truth : truth);
 * auditByEnumeration({ run, inputs: [0, 1], epsilon: 1, depth: 4 }).verdict; // 'violated'
 * auditByEnumeration({ run, inputs: [0, 1], epsilon: 1.1, depth: 4 }).delta.upper < 1e-12; // true
 * ```
 */
export function auditByEnumeration<In>(audit: ExactAudit<In>): ExactAuditReport {
  const { run, inputs, epsilon, delta = 0, depth = 18 } = audit;
  if (!(delta >= 0 && delta < 1))
    throw new CloisterError('INVALID_ARGUMENT', `delta is at least 0 and below 1, got ${String(delta)}`);
  const [a, b] = inputs.map(input => enumerateOutcomes(oracle => run(input, oracle), { depth })) as [
    OutcomeLaw,
    OutcomeLaw,
  ];
  const there = hockeyStick(a, b, epsilon);
  const back = hockeyStick(b, a, epsilon);
  const lower = Math.max(there.lower, back.lower);
  const upper = Math.max(there.upper, back.upper);
  const rounding = (1 + Math.exp(epsilon)) * 2 ** -47; // a claim that is met with equality still holds
  const verdict = lower > delta ? 'violated' : upper <= delta + rounding ? 'holds' : 'open';
  const open = Math.max(share(a.open, depth), share(b.open, depth));
  return Object.freeze({ verdict, delta: Object.freeze({ lower, upper }), open, depth });
}

/** One text for one outcome: JSON, with big integers and numbers that JSON lacks told apart. */
export function outcomeKey(outcome: unknown): string {
  if (typeof outcome === 'number' && Number.isFinite(outcome) && !Object.is(outcome, -0)) return String(outcome);
  const text = JSON.stringify(outcome, (_, value: unknown) => {
    if (typeof value === 'bigint') return `${value}n`;
    if (typeof value === 'number' && (!Number.isFinite(value) || Object.is(value, -0)))
      return Object.is(value, -0) ? '-0' : String(value);
    return value;
  });
  return text ?? typeof outcome;
}

/** `mass / 2^depth`, correctly rounded: masses are below 2^53. */
function share(mass: bigint, depth: number): number {
  return Number(mass) / 2 ** depth;
}
