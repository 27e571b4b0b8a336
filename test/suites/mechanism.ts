/**
 * What a mechanism of differential privacy promises, put to the test from outside.
 * @module
 */
import {
  auditByEnumeration,
  auditByExperiment,
  type ExactAuditReport,
  type ExperimentReport,
} from '../../privacy/dp/index.ts';
import { osRandom, type RandomSource } from '../../src/base/index.ts';

/** A mechanism and its claim. */
export interface MechanismClaim<In> {
  /** One release on one input. Must take all its randomness from `random`. */
  readonly run: (input: In, random: RandomSource) => unknown;
  /** Pairs of neighbouring inputs. Choose extreme ones: what no pair shows is not seen. */
  readonly neighbors: readonly (readonly [In, In])[];
  /** The claim: (epsilon, delta)-differential privacy. Delta defaults to 0. */
  readonly epsilon: number;
  readonly delta?: number;
}

export interface CheckMechanismOptions {
  /** Runs on each input, default 50,000. */
  readonly samples?: number;
  /** Probability that a true claim is called a fault, over all pairs; default 1e-9. */
  readonly falseAlarm?: number;
  /** Longest string of bits that is enumerated, default 16; 0 for none. */
  readonly depth?: number;
  /** Default the operating system's generator. */
  readonly random?: RandomSource;
}

/** What {@link checkMechanism} found. */
export interface MechanismVerdict {
  /** One line for each fault; none says that nothing larger than `smallestEffect` was seen. */
  readonly faults: readonly string[];
  /** The least excess over the claim, of an event of probability 1/2, that the experiments show half of the time. */
  readonly smallestEffect: number;
  readonly experiments: readonly ExperimentReport[];
  readonly enumerations: readonly ExactAuditReport[];
}

/**
 * Checks a mechanism against its claim on each pair of neighbours, and returns what it found:
 *
 * - it throws on no input, for an error is a release;
 * - the same bytes of randomness give the same outcome, so nothing else is drawn from (an `Math.random`, a clock);
 * - enumeration of all strings of `depth` bits does not refute the claim: whatever this calls a fault is one;
 * - an experiment does not refute it, at the stated false-alarm rate.
 *
 * No fault is no proof: what is rarer than the experiments can see, needs other neighbours, or shows in the time a release
 * takes stays unseen.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when a number is out of range.
 * @example
 * ```ts
 * const poll = (truth: number, random: RandomSource) =>
 *   randomizedResponse({ categories: 2, cost: spendOf(1), random }).release(holdPrivate(truth, 'replace-one')).value;
 * checkMechanism({ run: poll, neighbors: [[0, 1]], epsilon: 1 }).faults; // []
 * checkMechanism({ run: poll, neighbors: [[0, 1]], epsilon: 0.5 }).faults.length; // 2: by enumeration and by experiment
 * ```
 */
export function checkMechanism<In>(claim: MechanismClaim<In>, options: CheckMechanismOptions = {}): MechanismVerdict {
  const { run, neighbors, epsilon, delta = 0 } = claim;
  const { samples = 50_000, falseAlarm = 1e-9, depth = 16, random = osRandom } = options;
  const faults: string[] = [];
  const experiments: ExperimentReport[] = [];
  const enumerations: ExactAuditReport[] = [];
  for (const [i, inputs] of neighbors.entries()) {
    const pair = `neighbours ${i}`;
    const failure = inputs.map(input => drawsElsewhere(run, input, random)).find(fault => fault !== undefined);
    if (failure !== undefined) {
      faults.push(`${pair}: ${failure}`);
      continue;
    }
    if (depth > 0) {
      const report = auditByEnumeration({ run, inputs, epsilon, delta, depth });
      enumerations.push(report);
      if (report.verdict === 'violated')
        faults.push(`${pair}: refuted by enumeration: delta is at least ${report.delta.lower} at epsilon ${epsilon}`);
    }
    const share = falseAlarm / neighbors.length;
    const report = auditByExperiment({ run, inputs, epsilon, delta, samples, falseAlarm: share, random });
    experiments.push(report);
    const strongest = report.findings[0];
    if (report.verdict === 'violated' && strongest) {
      const event = `${strongest.tester}, ${strongest.seen.join(' against ')} of ${strongest.trials}`;
      faults.push(`${pair}: refuted by experiment: epsilon is at least ${strongest.epsilonLower} (${event})`);
    }
  }
  const smallestEffect = Math.max(0, ...experiments.map(report => report.smallestEffect));
  return Object.freeze({
    faults: Object.freeze(faults),
    smallestEffect,
    experiments: Object.freeze(experiments),
    enumerations: Object.freeze(enumerations),
  });
}

/** A fault if the mechanism throws, or if the same bytes do not give the same outcome. */
function drawsElsewhere<In>(
  run: (input: In, random: RandomSource) => unknown,
  input: In,
  random: RandomSource,
): string | undefined {
  for (let round = 0; round < 20; round++) {
    const recorded: Uint8Array[] = [];
    const recording: RandomSource = {
      fill(target) {
        random.fill(target);
        recorded.push(target.slice());
      },
    };
    let at = 0;
    const replaying: RandomSource = {
      fill(target) {
        const bytes = recorded[at++];
        if (bytes?.length === target.length) target.set(bytes);
        else random.fill(target); // asked for otherwise than before: the outcome tells
      },
    };
    try {
      const first = JSON.stringify(run(input, recording), spellBigInts);
      if (JSON.stringify(run(input, replaying), spellBigInts) !== first || at !== recorded.length)
        return 'gives another outcome for the same bytes of randomness: it draws from elsewhere';
    } catch (error) {
      return `throws, and an error is a release: ${error instanceof Error ? error.message : String(error)}`;
    }
  }
  return undefined;
}

function spellBigInts(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? `${value}n` : value;
}
