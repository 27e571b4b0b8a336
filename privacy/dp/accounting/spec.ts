/**
 * What-if questions in the words that tables of reference values use: a mechanism, its parameters, how often, for which neighbours.
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';
import { type DpEvent, parseEvent } from '../event.ts';
import type { Adjacency } from '../parameters.ts';
import { type Account, deltaOf, epsilonOf } from './account.ts';
import { adjacencyOf } from './adjacency.ts';
import { calibrate } from './calibrate.ts';
import { rdpEpsilon } from './conversion.ts';
import { gnmaxDivergence } from './gnmax.ts';
import { rdpOf } from './rdp.ts';
import {
  discreteLaplaceThresholdDelta,
  gaussianSigma,
  gaussianThreshold,
  gaussianThresholdDelta,
  keepProbability,
  laplaceThreshold,
  laplaceThresholdDelta,
} from './threshold.ts';

/** An answer: the quantity that was asked for, under its own name, and where it is an account the method and all bounds. */
export type SpecAnswer = Readonly<Record<string, unknown>>;

/** Parameters that are sought rather than given. */
const SOUGHT = ['noise_multiplier', 'sigma', 'scale', 'noise_parameter', 'sampling_probability'] as const;

/**
 * Returns the answer to one question `{mechanism, params, composition, neighboring, delta, quantity}`: `{epsilon: {upper, lower}, method,
 * bounds}` for epsilon (the default), `{delta: {upper, lower}, ...}`, or the quantity by its name (`rdp`, `noise_multiplier`, `sigma`,
 * `scale`, `noise_parameter`, `threshold`, `keep_probability`). `{event}` instead of mechanism and params asks about an event as it is.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when a mechanism, parameter or quantity is unknown, missing or out of range, or the
 *   combination has no sound bound.
 * @example
 * ```ts
 * const answer = answerSpec({ mechanism: 'gaussian', params: { noise_multiplier: 1 }, delta: 1e-5 });
 * answer['method']; // 'gdp'
 * ```
 */
export function answerSpec(spec: unknown, options: { readonly tight?: boolean } = {}): SpecAnswer {
  const question = new Reader(spec, 'the question');
  const quantity = question.text('quantity') ?? 'epsilon';
  const delta = question.number('delta');
  const asked = { question, quantity, delta, tight: options.tight ?? false };
  if (question.has('event')) return ask(parseEvent(question.value('event')), asked, new Reader({}, 'params'));
  // «name (remark)» is the name.
  const mechanism = (question.text('mechanism') ?? missing('the question', 'mechanism'))
    .replace(/\s*\(.*$/s, '')
    .toLowerCase();
  const params = new Reader(question.value('params') ?? {}, 'params');
  const special = thresholds(mechanism, params, asked);
  if (special !== undefined) return special;
  const neighboring = adjacencyNamed(question.text('neighboring')) ?? impliedAdjacency(mechanism);
  const count = compositionOf(question, mechanism, params);
  if (mechanism === 'pate_gnmax_data_dependent') return dataDependent(params, count, asked);
  const make = (sought?: readonly [string, number]): DpEvent =>
    repeated(eventNamed(mechanism, sought === undefined ? params : params.with(...sought), neighboring), count);
  const target = targetEpsilon(question, params);
  if ((SOUGHT as readonly string[]).includes(quantity)) {
    if (delta === undefined) missing('the question', 'delta');
    if (target === undefined) missing('params', 'target_epsilon');
    const rate = mechanism.includes('discrete_laplace') || mechanism.includes('randomized');
    const rising =
      quantity === 'sampling_probability' ||
      (quantity === 'noise_parameter' && rate && !mechanism.includes('randomized'));
    const { value, account } = calibrate(x => make([quantity, x]), {
      epsilon: target,
      delta,
      cost: rising ? 'rising' : 'falling',
      ...(quantity === 'noise_parameter' && { between: rising ? ([1e-9, 700] as const) : ([1e-9, 1] as const) }),
    });
    return { [quantity]: value, ...shown('epsilon', account) };
  }
  return ask(make(), asked, params);
}

interface Asked {
  readonly question: Reader;
  readonly quantity: string;
  readonly delta: number | undefined;
  readonly tight: boolean;
}

function ask(event: DpEvent, { question, quantity, delta, tight }: Asked, params: Reader): SpecAnswer {
  switch (quantity) {
    case 'epsilon':
      if (delta === undefined) missing('the question', 'delta');
      return shown('epsilon', epsilonOf(event, { delta, tight }));
    case 'delta': {
      const epsilon = targetEpsilon(question, params);
      if (epsilon !== undefined) return shown('delta', deltaOf(event, { epsilon, tight }));
      if (delta === undefined) missing('params', 'epsilon');
      // Only a delta to compare with: at the epsilon that goes with it.
      return shown('delta', deltaOf(event, { epsilon: epsilonOf(event, { delta, tight }).upper, tight }));
    }
    case 'rdp': {
      adjacencyOf(event);
      const order =
        params.number('order') ?? params.number('alpha') ?? question.number('order') ?? missing('params', 'order');
      if (!(order > 1 && order <= 1e6)) refuse(`params.order: an order is above 1 and at most 1e6, got ${order}`);
      const known = rdpOf(event, [order]);
      const loss = known?.losses[0];
      if (known === undefined || known.delta > 0 || loss === undefined || !Number.isFinite(loss)) {
        refuse('no Rényi divergence is known for this event at this order');
      }
      return { rdp: loss, order, method: 'rdp' };
    }
    default:
      return refuse(`quantity: unknown: '${quantity.slice(0, 50)}'`);
  }
}

function shown(quantity: 'epsilon' | 'delta', { upper, lower, method, bounds }: Account): SpecAnswer {
  if (method === 'none' || (quantity === 'epsilon' && upper === Number.POSITIVE_INFINITY)) {
    refuse(`no finite ${quantity} is known for this event here`);
  }
  return { [quantity]: { upper, lower }, method, bounds };
}

function targetEpsilon(question: Reader, params: Reader): number | undefined {
  return (
    params.number('target_epsilon') ??
    question.number('target_epsilon') ??
    question.number('epsilon') ??
    (params.has('epsilon') && !question.has('expected_epsilon') ? params.number('epsilon') : undefined) ??
    question.number('expected_epsilon')
  );
}

/** Rules that select partitions: their delta and probabilities are closed forms. */
function thresholds(mechanism: string, params: Reader, { question, quantity, delta }: Asked): SpecAnswer | undefined {
  const l0 = params.number('l0') ?? 1;
  const linf = params.number('linf') ?? 1;
  const positive = (name: string, value: number | undefined): number => {
    if (value === undefined) missing('params', name);
    if (!(value > 0 && value < Number.POSITIVE_INFINITY))
      refuse(`params.${name}: a finite number above 0 is needed, got ${value}`);
    return value;
  };
  const probability = (name: string, value: number | undefined): number => {
    if (value === undefined) missing('the question', name);
    if (!(value > 0 && value < 1)) refuse(`${name}: a number between 0 and 1 is needed, got ${value}`);
    return value;
  };
  const epsilon = (): number => positive('epsilon', params.number('epsilon') ?? targetEpsilon(question, params));
  if (/partition|threshold/.test(mechanism)) {
    positive('l0', l0);
    positive('linf', linf);
  }
  const kind = mechanism.replace(/_partition_selection$/, '');
  if (kind === 'laplace_threshold') {
    if (quantity === 'threshold')
      return { threshold: laplaceThreshold(epsilon(), probability('delta', delta), l0, linf), method: 'exact' };
    if (quantity === 'delta') {
      const value = laplaceThresholdDelta(epsilon(), positive('threshold', params.number('threshold')), l0, linf);
      return { delta: { upper: value, lower: value }, method: 'exact' };
    }
  }
  if (kind === 'gaussian_threshold') {
    const noiseDelta = params.number('noise_delta', 'delta_noise', 'noiseDelta') ?? delta;
    const sigma =
      params.number('sigma') ?? gaussianSigma(epsilon(), probability('noise_delta', noiseDelta), linf * Math.sqrt(l0));
    const ownDelta = params.number('threshold_delta', 'delta_threshold', 'thresholdDelta') ?? delta;
    if (quantity === 'threshold') {
      return { threshold: gaussianThreshold(sigma, probability('delta', ownDelta), l0, linf), sigma, method: 'exact' };
    }
    if (quantity === 'delta') {
      const value = gaussianThresholdDelta(sigma, positive('threshold', params.number('threshold')), l0, linf);
      return { delta: { upper: value, lower: value }, sigma, method: 'exact' };
    }
  }
  if (kind === 'discrete_laplace_threshold') {
    const scale = positive('scale', params.number('scale'));
    if (quantity === 'delta') {
      // Counts above the threshold are released; with `release_at_threshold` counts equal to it too, which costs more.
      const strictly = params.value('release_at_threshold') !== true;
      const value = discreteLaplaceThresholdDelta(scale, positive('threshold', params.number('threshold')), strictly);
      return { delta: { upper: value, lower: value }, method: 'exact' };
    }
    if (quantity === 'epsilon') return { epsilon: { upper: 1 / scale, lower: 1 / scale }, method: 'pure' };
  }
  if (kind === 'optimal' || quantity === 'keep_probability') {
    if (quantity !== 'keep_probability')
      refuse(`quantity: the optimal selection answers keep_probability, got '${quantity.slice(0, 50)}'`);
    const count = params.number('user_count', 'count', 'id_count') ?? missing('params', 'user_count');
    if (!(count >= 0 && count <= 1e9)) refuse(`params.user_count: a number from 0 to 1e9 is needed, got ${count}`);
    return { keep_probability: keepProbability(count, epsilon(), probability('delta', delta), l0), method: 'exact' };
  }
  if (/threshold|partition/.test(mechanism))
    refuse(`no ${quantity.slice(0, 50)} is known for ${mechanism.slice(0, 80)}`);
  if (quantity === 'sigma' && mechanism === 'gaussian' && params.has('l0')) {
    return { sigma: gaussianSigma(epsilon(), probability('delta', delta), linf * Math.sqrt(l0)), method: 'gdp' };
  }
  return undefined;
}

function adjacencyNamed(name: string | undefined): Adjacency | undefined {
  if (name === undefined) return undefined;
  const plain = name.toLowerCase();
  if (/add|remove|unbounded/.test(plain)) return 'add-remove';
  if (/special|zero/.test(plain)) return 'replace-special';
  if (/replace|substitut|change|swap|bounded/.test(plain)) return 'replace-one';
  return refuse(`neighboring: unknown: '${name.slice(0, 50)}'`);
}

/** Where nothing is said of neighbours: what the mechanism can only mean. */
function impliedAdjacency(mechanism: string): Adjacency {
  if (/randomized_response|fixed_size|_wor_|shuffl/.test(mechanism)) return 'replace-one';
  return /ftrl|tree/.test(mechanism) ? 'replace-special' : 'add-remove';
}

function compositionOf(question: Reader, mechanism: string, params: Reader): number {
  const composition = new Reader(question.value('composition') ?? {}, 'composition');
  const type = composition.text('type') ?? 'self';
  if (!['self', 'single', 'sequence', 'sequential', 'homogeneous', 'heterogeneous', 'none'].includes(type)) {
    refuse(`composition.type: unknown or not sequential: '${type.slice(0, 50)}'`);
  }
  const own = /pate/.test(mechanism)
    ? params.number('queries')
    : /ftrl|tree/.test(mechanism)
      ? undefined
      : params.number('steps');
  const count = composition.number('count') ?? question.number('count') ?? own ?? 1;
  if (!Number.isInteger(count) || count < 1 || count > 1e12)
    refuse(`composition.count: an integer from 1 to 1e12 is needed, got ${count}`);
  return count;
}

function repeated(event: DpEvent, count: number): DpEvent {
  return count === 1 ? event : { kind: 'self-composition', event, count };
}

/** A decimal as an exact rational, which is what events of integer noise hold. */
function rational(value: number): { numerator: string; denominator: string } {
  const [mantissa = '0', exponent = '0'] = value.toExponential().split('e');
  const [whole = '0', fraction = ''] = mantissa.split('.');
  const power = Number(exponent) - fraction.length;
  const digits = BigInt(whole + fraction);
  if (!(value > 0) || Math.abs(power) > 22)
    refuse(`a parameter of integer noise is between 1e-6 and 1e15, got ${value}`);
  return power >= 0
    ? { numerator: String(digits * 10n ** BigInt(power)), denominator: '1' }
    : { numerator: String(digits), denominator: String(10n ** BigInt(-power)) };
}

function eventNamed(mechanism: string, params: Reader, neighboring: Adjacency): DpEvent {
  const need = (...names: string[]): number => params.number(...names) ?? missing('params', names[0]!);
  const multiplier = (): number => {
    const given = params.number('noise_multiplier');
    if (given !== undefined) return given;
    const sensitivity =
      params.number('sensitivity') ?? (params.number('linf') ?? 1) * Math.sqrt(params.number('l0') ?? 1);
    return need('noise_multiplier', 'sigma', 'standard_deviation', 'scale') / sensitivity;
  };
  const rate = (): number =>
    params.number('sampling_probability', 'sampling_prob', 'sample_rate', 'q') ?? batchShare(params);
  const gaussian = (): DpEvent => ({ kind: 'gaussian', noiseMultiplier: multiplier(), neighboring });
  const sensitivity = (): number =>
    params.number('sensitivity') ?? (params.number('l0') ?? 1) * (params.number('linf') ?? 1);
  const laplace = (): DpEvent => ({
    kind: 'laplace',
    scale: need('scale', 'noise_multiplier', 'parameter') / sensitivity(),
    neighboring,
  });
  const parsed = (event: unknown): DpEvent => parseEvent(event);
  const poisson = (inner: DpEvent): DpEvent => {
    const q = rate();
    return q === 1 ? inner : { kind: 'poisson-subsampled', rate: q, event: inner };
  };
  const all = (name: string, one: (value: number) => unknown): DpEvent =>
    parsed({
      kind: 'composition',
      events: (params.numbers(name) ?? refuse(`params.${name}: a list of finite numbers is needed`)).map(one),
    });
  switch (mechanism) {
    case 'gaussian':
      if ((params.number('sampling_probability') ?? 1) !== 1) {
        refuse(
          'params.sampling_probability: say how the sample is drawn: poisson_subsampled_gaussian or fixed_size_wor_subsampled_gaussian',
        );
      }
      return parsed(gaussian());
    case 'poisson_subsampled_gaussian':
    case 'dp_sgd':
      return parsed(poisson(gaussian()));
    case 'poisson_subsampled_laplace':
      return parsed(poisson(laplace()));
    case 'laplace':
      if (params.has('scales'))
        return all('scales', scale => ({ kind: 'laplace', scale: scale / sensitivity(), neighboring }));
      return parsed(laplace());
    case 'discrete_laplace':
    case 'geometric': {
      const one = (parameter: number): unknown => {
        const { numerator, denominator } = rational(parameter);
        return {
          kind: 'discrete-laplace',
          sensitivity: sensitivity(),
          scale: { numerator: denominator, denominator: numerator },
          cells: 1,
          neighboring,
        };
      };
      if (params.has('noise_parameters')) return all('noise_parameters', one);
      const scale = params.number('scale');
      return parsed(
        one(
          params.number('noise_parameter', 'parameter') ??
            (scale === undefined ? missing('params', 'noise_parameter') : 1 / scale),
        ),
      );
    }
    case 'discrete_gaussian': {
      const squared =
        params.number('sigma2', 'sigma_squared', 'variance') ??
        need('sigma', 'noise_multiplier', 'standard_deviation') ** 2;
      return parsed({
        kind: 'discrete-gaussian',
        sensitivitySquared: sensitivity() ** 2,
        sigmaSquared: rational(squared),
        cells: 1,
        neighboring,
      });
    }
    case 'k_randomized_response':
    case 'randomized_response':
      return parsed({
        kind: 'randomized-response',
        categories: params.number('num_buckets', 'categories', 'k') ?? 2,
        p: need('noise_parameter', 'p'),
        neighboring,
      });
    case 'epsilon_delta':
    case 'approx':
    case 'approx_dp':
      return parsed({ kind: 'approx', epsilon: need('epsilon'), delta: params.number('delta') ?? 0, neighboring });
    case 'pure':
    case 'pure_dp':
    case 'permute_and_flip':
      return parsed({ kind: 'pure', epsilon: need('epsilon'), neighboring });
    case 'exponential':
    case 'exponential_mechanism':
    case 'bounded_range':
      return parsed({ kind: 'bounded-range', epsilon: need('epsilon'), neighboring });
    case 'zcdp':
      return parsed({
        kind: 'zcdp',
        rho: need('rho'),
        xi: params.number('xi') ?? 0,
        delta: params.number('delta') ?? 0,
        neighboring,
      });
    case 'gdp':
      return parsed({ kind: 'gdp', mu: need('mu'), neighboring });
    case 'rdp':
    case 'renyi':
      return parsed({
        kind: 'rdp',
        orders: params.numbers('orders') ?? [need('order')],
        losses: params.numbers('losses', 'rdp') ?? [need('loss', 'epsilon')],
        neighboring,
      });
    case 'fixed_size_wor_subsampled_gaussian':
    case 'sampled_without_replacement_gaussian':
      return parsed({
        kind: 'fixed-size-subsampled',
        size: need('batch', 'batch_size', 'sample_size', 'size'),
        population: need('dataset_size', 'population', 'n'),
        event: gaussian(),
      });
    case 'truncated_poisson_subsampled_gaussian':
    case 'truncated_subsampled_gaussian':
      return parsed({
        kind: 'truncated-poisson-subsampled',
        rate: rate(),
        size: need('truncated_batch_size', 'batch', 'size'),
        population: need('dataset_size', 'population', 'n'),
        event: gaussian(),
      });
    case 'mixture_of_gaussians':
    case 'gaussian_mixture':
      return parsed({
        kind: 'gaussian-mixture',
        sigma: need('standard_deviation', 'sigma', 'noise_multiplier'),
        sensitivities: params.numbers('sensitivities') ?? missing('params', 'sensitivities'),
        probabilities:
          params.numbers('sampling_probs', 'probabilities', 'sampling_probabilities') ??
          missing('params', 'probabilities'),
        neighboring,
      });
    case 'dp_ftrl_single_epoch_tree':
    case 'single_epoch_tree':
    case 'tree_aggregation': {
      const steps = params.numbers('steps', 'step_counts');
      return parsed({
        kind: 'tree-gaussian',
        noiseMultiplier: multiplier(),
        steps: steps ? Math.max(...steps) : need('steps', 'step_counts'),
        neighboring,
      });
    }
    case 'repeat_and_select': {
      const inner = params.has('noise_multiplier')
        ? gaussian()
        : params.has('scale')
          ? laplace()
          : params.has('rho')
            ? { kind: 'zcdp', rho: need('rho'), neighboring }
            : { kind: 'pure', epsilon: need('epsilon'), neighboring };
      const shape = params.value('shape');
      const poissonRuns = shape === 'poisson' || shape === 'inf' || shape === 'Infinity' || shape === null;
      return parsed({
        kind: 'repeat-and-select',
        mean: need('mean'),
        shape: poissonRuns ? 'poisson' : need('shape'),
        event: inner,
      });
    }
    case 'pate_gnmax_data_independent':
    case 'gnmax':
      return parsed({ kind: 'gnmax', sigma: need('sigma'), neighboring });
    case 'shuffled':
    case 'shuffle':
      return parsed({
        kind: 'shuffled',
        population: need('population', 'n', 'dataset_size'),
        epsilon: need('epsilon0', 'local_epsilon', 'epsilon'),
        neighboring: 'replace-one',
      });
    case 'heterogeneous':
    case 'composition':
      return parsed({ kind: 'composition', events: components(params, neighboring) });
    default:
      return refuse(`mechanism: unknown: '${mechanism.slice(0, 80)}'`);
  }
}

const SHORT: Readonly<Record<string, string>> = { sg: 'poisson_subsampled_gaussian', rr: 'k_randomized_response' };

/** `[name, parameter or parameters, count]` each, or a question of its own. */
function components(params: Reader, neighboring: Adjacency): readonly DpEvent[] {
  const list = params.value('components');
  if (!Array.isArray(list) || list.length === 0 || list.length > 10_000) {
    refuse('params.components: a list of 1 to 10,000 [mechanism, parameters, count] is needed');
  }
  return list.map((entry: unknown, i) => {
    const [name, values, count = 1] = Array.isArray(entry)
      ? (entry as readonly unknown[])
      : [
          (entry as Record<string, unknown> | null)?.['mechanism'],
          (entry as Record<string, unknown> | null)?.['params'],
          (entry as Record<string, unknown> | null)?.['count'],
        ];
    if (typeof name !== 'string' || typeof count !== 'number')
      refuse(`params.components[${i}]: [mechanism, parameters, count] is needed`);
    const mechanism = SHORT[name] ?? name;
    const given =
      typeof values === 'object' && values !== null && !Array.isArray(values) ? values : named(mechanism, values, i);
    return parseEvent(
      repeated(eventNamed(mechanism, new Reader(given, `params.components[${i}]`), neighboring), count),
    );
  });
}

/** Parameters by their place. */
function named(mechanism: string, values: unknown, i: number): Record<string, unknown> {
  const places: Readonly<Record<string, readonly string[]>> = {
    gaussian: ['noise_multiplier'],
    laplace: ['scale', 'sensitivity'],
    poisson_subsampled_gaussian: ['noise_multiplier', 'sampling_probability'],
    poisson_subsampled_laplace: ['scale', 'sampling_probability'],
    discrete_laplace: ['noise_parameter', 'sensitivity'],
    discrete_gaussian: ['sigma', 'sensitivity'],
    k_randomized_response: ['noise_parameter', 'num_buckets'],
    epsilon_delta: ['epsilon', 'delta'],
    pure: ['epsilon'],
    exponential_mechanism: ['epsilon'],
    zcdp: ['rho', 'xi'],
    gdp: ['mu'],
  };
  const list = Array.isArray(values) ? values : [values];
  const names = places[mechanism];
  if (names === undefined || list.length > names.length) {
    refuse(`params.components[${i}]: parameters by place are not known for '${mechanism.slice(0, 50)}'`);
  }
  return Object.fromEntries(list.map((value, k) => [names[k]!, value]));
}

function batchShare(params: Reader): number {
  const batch = params.number('batch', 'batch_size');
  const population = params.number('n', 'dataset_size', 'population');
  return batch !== undefined && population !== undefined
    ? batch / population
    : missing('params', 'sampling_probability');
}

/** The divergence of given votes, query by query. It depends on them: an answer for the one who holds the votes, and not for release. */
function dataDependent(params: Reader, count: number, { delta, quantity }: Asked): SpecAnswer {
  if (quantity !== 'epsilon') refuse('quantity: votes answer epsilon alone');
  if (delta === undefined || !(delta > 0 && delta < 1))
    refuse(`delta: a number between 0 and 1 is needed, got ${String(delta)}`);
  const sigma = params.number('sigma') ?? missing('params', 'sigma');
  if (!(sigma > 0 && sigma < 1e9)) refuse(`params.sigma: a number above 0 is needed, got ${sigma}`);
  const votes = votesOf(params.value('votes'), params.number('queries') ?? count);
  const orders = [
    ...Array.from({ length: 196 }, (_, i) => 2 + i / 2),
    ...Array.from({ length: 100 }, (_, i) => 100 * 5 ** (i / 99)),
  ];
  const sum = new Float64Array(orders.length);
  for (const counts of votes) {
    const own = gnmaxDivergence(counts, sigma, orders);
    for (let i = 0; i < sum.length; i++) sum[i]! += own[i]!;
  }
  const upper = rdpEpsilon(orders, sum, delta) * (1 + 1e-11);
  return {
    epsilon: { upper, lower: 0 },
    method: 'rdp',
    bounds: { rdp: upper },
    remark: 'depends on the votes: must not be released without smooth sensitivity',
  };
}

function votesOf(given: unknown, queries: number): readonly (readonly number[])[] {
  if (given === 'confident' || given === 'uncertain') {
    if (!Number.isInteger(queries) || queries < 1 || queries > 1e6) refuse(`params.queries: 1 to 1e6, got ${queries}`);
    return Array.from({ length: queries }, (_, i) => syntheticVotes(given, i));
  }
  const votes = Array.isArray(given) && given.every(row => typeof row === 'number') ? [given] : given;
  const sound =
    Array.isArray(votes) &&
    votes.length > 0 &&
    votes.every(row => Array.isArray(row) && row.length >= 2 && row.every(n => Number.isInteger(n) && n >= 0));
  if (!sound) refuse("params.votes: rows of counts, 'confident' or 'uncertain' are needed");
  return votes as readonly (readonly number[])[];
}

/** The fixed votes of the reference values: 250 teachers, 10 labels; the top falls in sevens, the rest is even, the remainder goes to label 1. */
function syntheticVotes(kind: 'confident' | 'uncertain', i: number): readonly number[] {
  const top = kind === 'confident' ? 240 - ((7 * i) % 60) : 120 - ((7 * i) % 40);
  const each = Math.floor((250 - top) / 9);
  const votes = [top, ...Array.from({ length: 9 }, () => each)];
  votes[1]! += 250 - top - 9 * each;
  return votes;
}

/** Reads fields of an object that somebody typed. */
class Reader {
  readonly #fields: Readonly<Record<string, unknown>>;
  readonly #name: string;

  constructor(value: unknown, name: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) refuse(`${name}: an object is needed`);
    this.#fields = value as Record<string, unknown>;
    this.#name = name;
  }

  value(name: string): unknown {
    return Object.hasOwn(this.#fields, name) ? this.#fields[name] : undefined;
  }

  has(name: string): boolean {
    return this.value(name) !== undefined && this.value(name) !== null;
  }

  /** The first of `names` that is there, as a number; `undefined` when none is. */
  number(...names: string[]): number | undefined {
    const name = names.find(one => this.has(one));
    if (name === undefined) return undefined;
    const value = this.value(name);
    if (Array.isArray(value)) return undefined;
    if (typeof value !== 'number' || !Number.isFinite(value) || Object.is(value, -0)) {
      const came = typeof value === 'number' ? String(value) : typeof value;
      return refuse(`${this.#name}.${name}: a finite number is needed, got ${came}`);
    }
    return value;
  }

  numbers(...names: string[]): readonly number[] | undefined {
    const name = names.find(one => Array.isArray(this.value(one)));
    if (name === undefined) return undefined;
    const list = this.value(name) as readonly unknown[];
    if (
      list.length === 0 ||
      list.length > 100_000 ||
      !list.every(one => typeof one === 'number' && Number.isFinite(one))
    ) {
      refuse(`${this.#name}.${name}: a list of finite numbers is needed`);
    }
    return list as readonly number[];
  }

  text(name: string): string | undefined {
    const value = this.value(name);
    if (value === undefined || value === null) return undefined;
    return typeof value === 'string' ? value : refuse(`${this.#name}.${name}: text is needed, got ${typeof value}`);
  }

  with(name: string, value: number): Reader {
    return new Reader({ ...this.#fields, [name]: value }, this.#name);
  }
}

function missing(where: string, name: string): never {
  return refuse(`${where}: '${name}' is missing`);
}

function refuse(message: string): never {
  throw new CloisterError('DP_INVALID_PARAMETER', message);
}
