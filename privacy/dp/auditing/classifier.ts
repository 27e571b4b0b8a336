/**
 * A linear score that tells the outcomes on two inputs apart.
 * @module
 */

const MOST_FEATURES = 64;

/** The numbers that an outcome holds, in order, at most 64: booleans count as 0 and 1, whatever is no number as nothing. */
export function numericFeatures(outcome: unknown): number[] {
  const numbers: number[] = [];
  const visit = (value: unknown): void => {
    if (numbers.length >= MOST_FEATURES) return;
    if (typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean')
      numbers.push(Number(value));
    else if (Array.isArray(value) || ArrayBuffer.isView(value))
      for (const part of value as Iterable<unknown>) visit(part);
    else if (typeof value === 'object' && value !== null) for (const part of Object.values(value)) visit(part);
  };
  visit(outcome);
  return numbers;
}

/**
 * A logistic regression by gradient descent on standardised features, each also as its distance from the middle, so that a
 * change of spread shows as well as one of place. What it learns is used to order outcomes only: a bad fit costs power, not
 * soundness.
 */
export function learnDirection(
  samples: readonly [readonly (readonly number[])[], readonly (readonly number[])[]],
): (row: readonly number[]) => number {
  const rows = [...samples[0].slice(0, 4000), ...samples[1].slice(0, 4000)];
  const first = Math.min(4000, samples[0].length);
  const width = Math.min(MOST_FEATURES, Math.max(0, ...rows.map(row => row.length)));
  const centre = new Float64Array(width);
  const spread = new Float64Array(width);
  for (let j = 0; j < width; j++) {
    const column = Float64Array.from(rows, row => finite(row[j])).sort();
    centre[j] = column[column.length >> 1]!;
    spread[j] = column[Math.floor(0.9 * column.length)]! - column[Math.floor(0.1 * column.length)]! || 1;
  }
  const features = (row: readonly number[]): Float64Array => {
    const z = new Float64Array(2 * width);
    for (let j = 0; j < width; j++) {
      const scaled = Math.max(-5, Math.min(5, (finite(row[j]) - centre[j]!) / spread[j]!));
      z[j] = scaled;
      z[width + j] = Math.abs(scaled);
    }
    return z;
  };
  const table = rows.map(features);
  const weights = new Float64Array(2 * width);
  const dot = (z: Float64Array): number => z.reduce((sum, value, j) => sum + value * weights[j]!, 0);
  for (let step = 0; step < 40; step++) {
    const gradient = new Float64Array(2 * width);
    for (const [i, z] of table.entries()) {
      const miss = (i < first ? 1 : 0) - 1 / (1 + Math.exp(-dot(z)));
      for (let j = 0; j < z.length; j++) gradient[j]! += miss * z[j]!;
    }
    for (let j = 0; j < weights.length; j++) weights[j]! += (2 * gradient[j]!) / table.length;
  }
  return row => dot(features(row));
}

function finite(value: number | undefined): number {
  return value !== undefined && Number.isFinite(value) ? value : 0;
}
