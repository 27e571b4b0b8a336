/**
 * Does a sampler of integers fit a symmetric law?
 * @module
 */

/**
 * Pearson's chi-square over the values whose expected count is at least 20, with the tails as two cells, turned into a standard
 * normal by Wilson and Hilferty: above 6 the null (the samples have this law) is rejected, with a false alarm of 1e-9.
 *
 * @param probability - `P[Y = y]` for y >= 0; the law is symmetric.
 */
export function misfit(n: number, draw: () => number, probability: (y: number) => number): number {
  const counts = new Map<number, number>();
  for (let i = 0; i < n; i++) {
    const y = draw();
    counts.set(y, (counts.get(y) ?? 0) + 1);
  }
  let edge = 0;
  while (n * probability(edge + 1) >= 20) edge++;
  let statistic = 0;
  let middle = 0;
  let middleSeen = 0;
  let cells = 0;
  for (let y = -edge; y <= edge; y++) {
    const expected = n * probability(Math.abs(y));
    const seen = counts.get(y) ?? 0;
    statistic += (seen - expected) ** 2 / expected;
    middle += expected;
    middleSeen += seen;
    cells++;
  }
  const tail = (n - middle) / 2;
  const right = [...counts].reduce((sum, [y, seen]) => (y > edge ? sum + seen : sum), 0);
  if (tail >= 5) {
    for (const seen of [right, n - middleSeen - right]) statistic += (seen - tail) ** 2 / tail;
    cells += 2;
  }
  const freedom = cells - 1;
  return (Math.cbrt(statistic / freedom) - (1 - 2 / (9 * freedom))) / Math.sqrt(2 / (9 * freedom));
}

/** `P[Y = y]` of the discrete Gaussian, in floats. */
export function gaussianLaw(sigmaSquared: number): (y: number) => number {
  const weight = (y: number): number => Math.exp(-(y * y) / (2 * sigmaSquared));
  let total = 1;
  for (let y = 1; weight(y) > 0; y++) total += 2 * weight(y);
  return y => weight(y) / total;
}

/** `P[Y = y]` of the discrete Laplace, in floats. */
export function laplaceLaw(scale: number): (y: number) => number {
  return y => Math.tanh(1 / scale / 2) * Math.exp(-y / scale);
}
