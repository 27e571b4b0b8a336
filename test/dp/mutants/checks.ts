/**
 * What is asked of a build, mutated or not: each check says what is wrong, or nothing.
 * @module
 */
import {
  auditByEnumeration,
  auditByExperiment,
  type Bits,
  enumerateOutcomes,
  type OutcomeLaw,
} from '../../../privacy/dp/index.ts';
import type { RandomSource } from '../../../src/base/index.ts';
import type { Build } from './build.ts';

export type Check = (room: Build, random: RandomSource) => string | undefined | Promise<string | undefined>;

type Source = RandomSource & Partial<Bits>;

/** A mechanism built once, whose runs draw from the source of each run. */
function withSource<In, Out>(make: (random: RandomSource) => (input: In) => Out): (input: In, random: Source) => Out {
  let current: Source | undefined;
  const run = make({
    fill: target => current!.fill(target),
    take: (count: number) => current!.take!(count),
  } as RandomSource);
  return (input, random) => {
    current = random;
    return run(input);
  };
}

interface Claim<In> {
  readonly inputs: readonly [In, In];
  readonly epsilon: number;
  readonly depth?: number;
  readonly samples?: number;
}

/** The auditor's verdict: by enumeration if there is a depth, by experiment if there are samples. */
function audited<In>(
  run: (input: In, random: Source) => unknown,
  claim: Claim<In>,
  random: RandomSource,
): string | undefined {
  const { inputs, epsilon, depth, samples } = claim;
  if (depth !== undefined) {
    const { verdict, delta } = auditByEnumeration({ run, inputs, epsilon, depth });
    if (verdict === 'violated') return `enumeration: delta is at least ${delta.lower}`;
  }
  if (samples !== undefined) {
    const { verdict, findings } = auditByExperiment({ run, inputs, epsilon, samples, random });
    if (verdict === 'violated') return `experiment: epsilon is at least ${findings[0]!.epsilonLower}`;
  }
  return undefined;
}

/** Whether a law that was enumerated misses a probability. */
function misses(
  { mass, open, depth }: OutcomeLaw,
  truth: (outcome: number) => number,
  outcomes: readonly number[],
): string | undefined {
  for (const outcome of outcomes) {
    const low = Number(mass.get(String(outcome)) ?? 0n) / 2 ** depth;
    const slack = Number(open) / 2 ** depth;
    if (low > truth(outcome) + 1e-12 || low + slack < truth(outcome) - 1e-12)
      return `law: P[${outcome}] is ${low} to ${low + slack}, not ${truth(outcome)}`;
  }
  return undefined;
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);

/** The range of losses of a selection between scores (0, 0) and (1, -1), when its event claims a bounded one. */
const flipsAreAccountedAsTheyAre: Check = room => {
  const options = { sensitivity: room.lInfSensitivity(1), candidates: 2, cost: room.spendOf(2) };
  if (room.permuteAndFlip(options).event.kind !== 'bounded-range') return undefined;
  const [p, q] = [
    [0, 0],
    [1, -1],
  ].map(scores =>
    enumerateOutcomes(
      random => room.permuteAndFlip({ ...options, random }).release(room.holdPrivate<readonly number[]>(scores)).value,
      { depth: 18 },
    ),
  ) as [OutcomeLaw, OutcomeLaw];
  const least = (law: OutcomeLaw, i: number): number => Number(law.mass.get(String(i))) / 2 ** 18;
  const most = (law: OutcomeLaw, i: number): number => least(law, i) + Number(law.open) / 2 ** 18;
  const width = Math.log(least(p, 1) / most(q, 1)) - Math.log(most(p, 0) / least(q, 0));
  return width > 2 ? `enumeration: losses range over at least ${width}, claimed 2` : undefined;
};

const exponentialKeepsItsClaim: Check = (room, random) => {
  const run = withSource((source: RandomSource) => {
    const options = { sensitivity: room.lInfSensitivity(1), candidates: 4, cost: room.spendOf(1), random: source };
    const mechanism = room.exponentialMechanism(options);
    return (scores: readonly number[]) => mechanism.release(room.holdPrivate(scores)).value;
  });
  const inputs = [
    [1, 0, 0, 0],
    [0, 1, 1, 1],
  ] as const;
  return audited(run, { inputs, epsilon: 1, depth: 16 }, random);
};

const noisyMaxKeepsItsClaim: Check = (room, random) => {
  const run = withSource((source: RandomSource) => {
    const options = { sensitivity: room.lInfSensitivity(1), candidates: 4, cost: room.spendOf(1), random: source };
    const mechanism = room.reportNoisyMax(options);
    return (scores: readonly number[]) => mechanism.release(room.holdPrivate(scores)).value;
  });
  const inputs = [
    [1, 0, 0, 0],
    [0, 1, 1, 1],
  ] as const;
  return audited(run, { inputs, epsilon: 1, samples: 12_000 }, random);
};

const local = (make: (room: Build, random: RandomSource) => { release(held: unknown): { value: unknown } }): Check => {
  return (room, random) => {
    const run = withSource((source: RandomSource) => {
      const mechanism = make(room, source);
      return (category: number) => mechanism.release(room.holdPrivate(category, 'replace-one')).value;
    });
    return audited(run, { inputs: [0, 1], epsilon: 1, depth: 13, samples: 16_000 }, random);
  };
};
const options = (room: Build, random: RandomSource) => ({ categories: 3, cost: room.spendOf(1), random });
const responseKeepsItsClaim = local((room, random) => room.randomizedResponse(options(room, random)) as never);
const rapporKeepsItsClaim = local(
  (room, random) => room.unaryEncoding({ ...options(room, random), categories: 2, scheme: 'symmetric' }) as never,
);
const hadamardIsUnbiased: Check = (room, random) => {
  const mechanism = room.hadamardResponse({ categories: 3, cost: room.spendOf(3), random });
  const reports = Array.from({ length: 3000 }, () => mechanism.release(room.holdPrivate(0, 'replace-one')).value);
  const { counts, errorBars } = mechanism.estimate(reports);
  // Three times the 95% bar: six standard deviations, a false alarm of 2e-9.
  const far = counts.findIndex((count, v) => Math.abs(count - (v === 0 ? 3000 : 0)) > 3.1 * errorBars[v]!);
  return far < 0 ? undefined : `estimate: category ${far} is ${counts[far]}`;
};

/** Alternating answers around the threshold, the other way round for the neighbour. */
const sparseVectorKeepsItsClaim: Check = (room, random) => {
  const run = (answers: readonly number[], source: RandomSource): boolean[] => {
    const vector = room.sparseVector({
      sensitivity: room.lInfSensitivity(1),
      positives: 4,
      cost: room.spendOf(2),
      random: source,
    });
    return answers.map(answer => vector.remaining > 0 && vector.ask(room.holdPrivate(answer), 0).value.above);
  };
  const answers = range(1, 8).map(i => i % 2);
  const inputs = [answers, answers.map(answer => 1 - answer)] as const;
  return audited(run, { inputs, epsilon: 2, samples: 10_000 }, random);
};

const sparseVectorEnds: Check = (room, random) => {
  const vector = room.sparseVector({
    sensitivity: room.lInfSensitivity(1),
    positives: 2,
    cost: room.spendOf(1000),
    random,
  });
  let positives = 0;
  try {
    for (let i = 0; i < 10; i++) if (vector.ask(room.holdPrivate(1_000_000), 0).value.above) positives++;
  } catch {
    // The refusal that must come.
  }
  return positives === 2 ? undefined : `structure: ${positives} positives were answered where 2 were paid for`;
};

/** With numbers that are next to free of noise, what comes is the truth: no noise of the comparison is in it. */
const sparseNumbersHaveNoiseOfTheirOwn: Check = (room, random) => {
  for (let i = 0; i < 20; i++) {
    const cost = { cost: room.spendOf(0.01), numericCost: room.spendOf(1000) };
    const vector = room.sparseVector({ sensitivity: room.lInfSensitivity(1), positives: 1, ...cost, random });
    const { value } = vector.ask(room.holdPrivate(1_000_000), 0);
    if (value.above && value.value !== 1_000_000) return `structure: a number came with the noise of its comparison`;
  }
  return undefined;
};

/** Three answers have the joint law of one threshold noise and three of their own, at the scales of the proof. */
const sparseVectorHasItsLaw: Check = (room, random) => {
  const answers = [-1, 1, 0];
  const n = 12_000;
  const counts = new Array<number>(8).fill(0);
  for (let i = 0; i < n; i++) {
    const vector = room.sparseVector({
      sensitivity: room.lInfSensitivity(1),
      positives: 3,
      cost: room.spendOf(2),
      random,
    });
    const word = answers.reduce(
      (sum, answer) => 2 * sum + Number(vector.ask(room.holdPrivate(answer), 0).value.above),
      0,
    );
    counts[word]!++;
  }
  const { thresholdCost, answerCost } = room.splitCost(2_000_000, 3, false);
  const [p, q] = [Math.exp(-thresholdCost / 1e6), Math.exp(-answerCost / 6e6)];
  const reaches = (gap: number): number => (gap > 0 ? q ** gap / (1 + q) : 1 - q ** (1 - gap) / (1 + q));
  for (const [word, seen] of counts.entries()) {
    const share = range(-200, 200).reduce((sum, z) => {
      const mass = ((1 - p) / (1 + p)) * p ** Math.abs(z);
      return (
        sum +
        answers.reduce((product, answer, i) => {
          const yes = reaches(z - answer);
          return product * ((word >> (2 - i)) & 1 ? yes : 1 - yes);
        }, mass)
      );
    }, 0);
    // Binomial, 6.5 standard deviations over 8 words: a false alarm of 1e-9.
    if (Math.abs(seen / n - share) > 6.5 * Math.sqrt((share * (1 - share)) / n))
      return `law: the pattern ${word.toString(2)} came ${seen} times of ${n}, with probability ${share}`;
  }
  return undefined;
};

const laplaceHasItsLaw: Check = room => {
  for (const [t, s] of [
    [1, 1],
    [2, 2],
  ] as const) {
    const law = enumerateOutcomes(bits => Number(room.sampleInNumbers(t, s, bits)), { depth: 17 });
    const p = Math.exp(-s / t);
    const fault = misses(law, y => ((1 - p) / (1 + p)) * p ** Math.abs(y), range(-12, 12));
    if (fault) return fault;
  }
  return undefined;
};

const gaussianHasItsLaw: Check = (room, random) => {
  const bits = room.randomBits(random);
  const n = 30_000;
  const counts = new Map<number, number>();
  for (let i = 0; i < n; i++) {
    const y = Number(room.gaussianInNumbers(1, 1, 2, bits));
    counts.set(y, (counts.get(y) ?? 0) + 1);
  }
  const total = range(-30, 30).reduce((sum, y) => sum + Math.exp((-y * y) / 2), 0);
  for (const y of range(-2, 2)) {
    const share = Math.exp((-y * y) / 2) / total;
    // Binomial, 6.5 standard deviations over 5 values: a false alarm of 1e-9; sees 2% of the mass.
    const seen = counts.get(y) ?? 0;
    if (Math.abs(seen / n - share) > 6.5 * Math.sqrt((share * (1 - share)) / n))
      return `law: ${y} came ${seen} times of ${n}, with probability ${share}`;
  }
  return undefined;
};

/** Two neighbours of a vector, audited at the loss that its own event is charged for. */
const laplaceMechanismKeepsItsClaim: Check = (room, random) => {
  const run = withSource((source: RandomSource) => {
    const sensitivity = room.l1Sensitivity(2);
    const mechanism = room.laplaceMechanism({ sensitivity, cells: 1, cost: room.spendOf(1), random: source });
    return (counts: readonly number[]) => mechanism.release(room.holdPrivate(counts)).value;
  });
  return audited(run, { inputs: [[0], [2]], epsilon: 1, samples: 12_000 }, random);
};

/** Noise on a grid of floats: the answer is a multiple of the step, and no more can be told. */
const gridHidesTheValue: Check = (room, random) => {
  const run = withSource((source: RandomSource) => {
    const grid = room.floatGrid({ exponent: -3, low: -100, high: 100 });
    const sensitivity = room.gridL1Sensitivity(grid, { change: 0.5, cells: 1 });
    const mechanism = room.laplaceMechanism({ sensitivity, cells: 1, cost: room.spendOf(1), grid, random: source });
    return (values: readonly number[]) => mechanism.release(room.holdPrivate(values)).value;
  });
  return audited(run, { inputs: [[0], [0.3]], epsilon: 1, samples: 4000 }, random);
};

const privateValuesAreReadOnce: Check = room => {
  const held = room.holdPrivate([1, 2]);
  room.takePrivate(held);
  try {
    room.takePrivate(held);
  } catch {
    return undefined;
  }
  return 'structure: a private value was released twice';
};

const samplesAreUsedOnce: Check = (room, random) => {
  const mechanism = room.laplaceMechanism({
    sensitivity: room.l1Sensitivity(1),
    cells: 1,
    cost: room.spendOf(1),
    random,
  });
  const sample = room.poissonSampling(0.5, { random }).draw([1, 2, 3, 4]);
  const release = () => room.releaseSample(sample, mechanism, drawn => room.holdPrivate([drawn.length]));
  release();
  try {
    release();
  } catch {
    return undefined;
  }
  return 'structure: two releases were amplified by one sample';
};

/** A partition with one subject is named with a probability of at most delta: the noised count 1 + Y reaches the threshold. */
const thresholdsKeepTheirDelta: Check = room => {
  const p = Math.exp(-0.5); // scale 2
  for (const delta of [1e-3, 8e-7, 1e-9]) {
    const options = { noise: 'laplace', partitions: 1, cost: room.spendOf(0.5), delta: room.delta(delta) } as const;
    const { threshold } = room.thresholdSelection(options);
    const named = p ** (threshold - 1) / (1 + p);
    if (named > delta * (1 + 1e-9)) return `threshold: ${threshold} is passed with ${named}, claimed ${delta}`;
  }
  return undefined;
};

/** Between the sums after four and five empty steps lies the noise of one node, that of the fifth step. */
const nodesAreNoisedOnce: Check = (room, random) => {
  const sums = room.prefixSums({ dimensions: 2000, clip: 1, noiseMultiplier: 1, steps: 8, random });
  const released = Array.from({ length: 5 }, () => sums.add(room.holdPrivate([])).value);
  const variance = released[4]!.reduce((sum, value, i) => sum + (value - released[3]![i]!) ** 2, 0) / 2000;
  // Null: 1. Chi-square with 2,000 degrees: 1.3 is nine standard deviations; fresh noise gives 3.
  return variance > 1.3 ? `structure: the noise of a node was drawn anew, ${variance} for 1` : undefined;
};

const spendsRoundUp: Check = room => {
  for (const [epsilon, least] of [
    [5e-324, 1],
    [1e-7, 1],
    [0.1 + 0.2, 300_001],
  ] as const)
    if (room.spendOf(epsilon) < least) return `rounding: spending ${epsilon} is charged ${room.spendOf(epsilon)}`;
  return undefined;
};

const limitsRoundDown: Check = room => (room.limitOf(0.0000019) > 1 ? 'rounding: a limit was rounded up' : undefined);

/** One subject, however many records, moves a histogram by one. */
const oneSubjectMovesOne: Check = (room, random) => {
  const statistic = room.histogram({ of: 'argmax', classes: 2 });
  const tally = statistic.start();
  for (let i = 0; i < 50; i++) statistic.accumulate(tally, 'one subject', [0, 1]);
  const mechanism = room.laplaceMechanism({ ...statistic, cost: room.spendOf(1000), random });
  const { value } = mechanism.release(statistic.finish(tally) as never);
  return value[1]! > 1 ? `sensitivity: 50 records of one subject count ${value[1]}` : undefined;
};

const eventsNameTheirNeighbours: Check = room => {
  const event = { kind: 'randomized-response', categories: 2, p: 0.5, neighboring: 'add-remove' } as const;
  try {
    return `adjacency: a local report was accounted under add-remove: ${room.pureLoss(event)}`;
  } catch {
    return undefined;
  }
};

/** The conversion against its formula, at one order. */
const conversionsAreSound: Check = room => {
  // Pure Gaussian, sigma 1: the exact epsilon at delta 1e-5 is 4.3777 (Balle & Wang 2018, by bisection on normal tails).
  const orders = [1.5, 2, 3, 4, 5, 6, 8, 10, 16];
  const epsilon = room.rdpEpsilon(
    orders,
    orders.map(order => order / 2),
    1e-5,
  );
  return epsilon < 4.377 ? `accounting: epsilon ${epsilon} is below the exact 4.3777` : undefined;
};

/** At the same noise and rate, replacing one of a fixed number moves more than adding one to a Poisson sample. */
const batchesAreNoPoissonSamples: Check = room => {
  const event = { kind: 'gaussian', noiseMultiplier: 1.1 } as const;
  const [batch] = room.rdpLoss(
    { kind: 'fixed-size-subsampled', size: 256, population: 60_000, event: { ...event, neighboring: 'replace-one' } },
    [8],
  )!;
  const [poisson] = room.rdpLoss(
    { kind: 'poisson-subsampled', rate: 256 / 60_000, event: { ...event, neighboring: 'add-remove' } },
    [8],
  )!;
  return batch! < 1.5 * poisson! ? `accounting: a batch costs ${batch}, a Poisson sample ${poisson}` : undefined;
};

const gaussianLossIsNoLess: Check = room => {
  const event = room.gaussianMechanism({
    squaredL2Sensitivity: room.squaredL2Sensitivity(4),
    cells: 2,
    rho: room.rho(0.5),
  }).event;
  const loss = room.zcdpLoss(event);
  return loss !== undefined && loss < 0.5 ? `accounting: rho ${loss} for noise of rho 0.5` : undefined;
};

const THREE_QUARTERS = { kind: 'pure', epsilon: 0.75, neighboring: 'add-remove' } as const;

const chargesAreNotRefunded: Check = async room => {
  const ledger = await room.openLedger({
    store: room.memoryStore(),
    clock: room.systemClock,
    budgets: [{ scope: 'a', limit: room.limitOf(1) }],
  });
  const request = { scope: 'a', event: THREE_QUARTERS, requestDigest: '0'.repeat(64) };
  const charge = await ledger.spend(request);
  if (charge.kind !== 'charged') return 'ledger: the first charge was refused';
  await ledger.void(charge as never).catch(() => undefined);
  const [state] = await ledger.scopes();
  return Number(state!.remaining) > 250_000 ? `ledger: ${state!.remaining} remains after data was touched` : undefined;
};

const limitsHold: Check = async room => {
  const ledger = await room.openLedger({
    store: room.memoryStore(),
    clock: room.systemClock,
    budgets: [{ scope: 'a', limit: room.limitOf(1) }],
  });
  const request = { scope: 'a', event: THREE_QUARTERS, requestDigest: '0'.repeat(64) };
  await ledger.spend(request);
  return (await ledger.spend(request)).kind === 'refused' ? undefined : 'ledger: 1.5 was spent of 1';
};

export const CHECKS = {
  flipsAreAccountedAsTheyAre,
  exponentialKeepsItsClaim,
  noisyMaxKeepsItsClaim,
  responseKeepsItsClaim,
  rapporKeepsItsClaim,
  hadamardIsUnbiased,
  sparseVectorKeepsItsClaim,
  sparseVectorEnds,
  sparseNumbersHaveNoiseOfTheirOwn,
  sparseVectorHasItsLaw,
  laplaceHasItsLaw,
  gaussianHasItsLaw,
  laplaceMechanismKeepsItsClaim,
  gridHidesTheValue,
  privateValuesAreReadOnce,
  samplesAreUsedOnce,
  thresholdsKeepTheirDelta,
  nodesAreNoisedOnce,
  spendsRoundUp,
  limitsRoundDown,
  oneSubjectMovesOne,
  eventsNameTheirNeighbours,
  conversionsAreSound,
  batchesAreNoPoissonSamples,
  gaussianLossIsNoLess,
  chargesAreNotRefunded,
  limitsHold,
} satisfies Record<string, Check>;
