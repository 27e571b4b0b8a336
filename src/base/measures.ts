/**
 * Measures of privacy loss that a budget can count in, and how a limit in each is stated.
 * @module
 */

/**
 * The measures: pure differential privacy; epsilon and delta added up; zero-concentrated; Rényi curves; Gaussian. What each
 * counts stands in `privacy/budget/currency.ts`.
 */
export const MEASURES = ['pure', 'approx', 'zcdp', 'rdp', 'gdp'] as const;

/** What a scope counts in. */
export type Measure = (typeof MEASURES)[number];

/** What a person states as a limit: what its measure is made of, or a target of epsilon and delta. */
export interface Bound {
  readonly epsilon?: number | undefined;
  readonly delta?: number | undefined;
  readonly rho?: number | undefined;
  readonly mu?: number | undefined;
}

const TARGET = ['delta', 'epsilon'] as const;

/** Which numbers a limit in each measure is stated by: one of these lists, whole. */
export const BOUND_FORMS: Readonly<Record<Measure, readonly (readonly (keyof Bound)[])[]>> = Object.freeze({
  pure: [['epsilon']],
  approx: [TARGET],
  zcdp: [['rho'], TARGET],
  rdp: [TARGET],
  gdp: [['mu'], TARGET],
});

/** The most that each number of a {@link Bound} can be. All are above 0. */
export const MOST_BOUND: Readonly<Record<keyof Bound, number>> = Object.freeze({
  epsilon: 1e6,
  delta: 0.009,
  rho: 9000,
  mu: 90,
});

/** Why `bound` is no limit in `measure`, or `undefined` when it is one. */
export function boundProblem(measure: Measure, bound: Bound): string | undefined {
  const given = (Object.keys(MOST_BOUND) as (keyof Bound)[]).filter(name => bound[name] !== undefined).sort();
  const forms = BOUND_FORMS[measure];
  if (!forms.some(form => form.join() === given.join())) {
    const wanted = forms.map(form => [...form].reverse().join(' and ')).join(', or ');
    return `a limit in ${measure} is stated by ${wanted}, got ${given.join(' and ') || 'none of them'}`;
  }
  const wrong = given.find(name => {
    const value: unknown = bound[name];
    return typeof value !== 'number' || !(value >= 2 ** -1022 && value <= MOST_BOUND[name]);
  });
  if (wrong === undefined) return undefined;
  const came = typeof bound[wrong] === 'number' ? String(bound[wrong]) : typeof bound[wrong];
  return `${wrong} is a number above 0 and at most ${MOST_BOUND[wrong]}, got ${came}`;
}
