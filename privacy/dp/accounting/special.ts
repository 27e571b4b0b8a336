/**
 * Normal tails, binomials and sums of exponentials that keep their relative accuracy where the plain formulas lose it.
 * @module
 */

/** Half the distance from 1 to the next float64: the error of one rounded operation, relative. */
export const UNIT: number = 2 ** -53;

/** Most that {@link upperTail} and {@link scaledTail} are off, relative, in units of {@link UNIT} (measured against 50 digits: 6). */
export const TAIL_UNITS = 16;

const KNEE = 5;

/** Chebyshev coefficients of (x + KNEE) e^(x^2/2) Q(x) in t = (x - KNEE) / (x + KNEE), from 50-digit values; the next is 1.5e-17. */
const TAIL = Float64Array.of(
  1.0849974311281507,
  -0.9451212330235238,
  0.3395428248397067,
  -0.10080114900127923,
  0.02434161739194819,
  -0.0045780677530837645,
  0.0005962634793872587,
  -3.0034572403998326e-5,
  -6.9582080289731465e-6,
  1.6616222750752958e-6,
  -4.290591277534993e-8,
  -3.778472668407595e-8,
  4.656555405437076e-9,
  7.26731898119583e-10,
  -1.876070956044788e-10,
  -1.3548475355194436e-11,
  6.754835393421318e-12,
  2.8389774843955563e-13,
  -2.470501242837e-13,
  -9.045031546724195e-15,
  9.451160470487844e-15,
  4.824922073332497e-16,
  -3.7452977100599564e-16,
  -3.1738537383334686e-17,
);

/** Returns e^(x^2/2) times the probability that a standard normal is above `x`, for `x >= 0`: between 0 and 1/2, never underflows. */
export function scaledTail(x: number): number {
  const t = (x - KNEE) / (x + KNEE);
  let b1 = 0;
  let b2 = 0;
  for (let i = TAIL.length - 1; i > 0; i--) {
    const b = 2 * t * b1 - b2 + TAIL[i]!;
    b2 = b1;
    b1 = b;
  }
  return (t * b1 - b2 + TAIL[0]!) / (x + KNEE);
}

/** Returns e^(-x^2/2); the square is taken in two parts, as its rounding error would be magnified. */
export function bell(x: number): number {
  const high = Math.fround(x);
  return Math.exp(-0.5 * high * high) * Math.exp(-0.5 * (x - high) * (x + high));
}

/** Returns the probability that a standard normal is above `x`. */
export function upperTail(x: number): number {
  if (x >= 0) return x > 40 ? 0 : bell(x) * scaledTail(x);
  return x < -40 ? 1 : 1 - bell(x) * scaledTail(-x);
}

/** Returns log(e^a + e^b). */
export function logAdd(a: number, b: number): number {
  const high = Math.max(a, b);
  return high === Number.NEGATIVE_INFINITY || high === Number.POSITIVE_INFINITY
    ? high
    : high + Math.log1p(Math.exp(Math.min(a, b) - high));
}

/** Returns log(e^x - 1) for `x > 0`, finite where e^x is not. */
export function logExpm1(x: number): number {
  return x > 30 ? x + Math.log1p(-Math.exp(-x)) : Math.log(Math.expm1(x));
}

// Lanczos's approximation would do; Stirling's series after shifting the argument past 12 is shorter and as exact.
const STIRLING = [1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156];

/** Returns log Gamma(x) for `x > 0`. */
export function logGamma(x: number): number {
  let shift = 0;
  let z = x;
  if (z < 12) {
    let product = 1;
    while (z < 12) product *= z++;
    shift = Math.log(product);
  }
  let series = 0;
  let power = 1 / z;
  for (const term of STIRLING) {
    series += term * power;
    power /= z * z;
  }
  return (z - 0.5) * Math.log(z) - z + 0.5 * Math.log(2 * Math.PI) + series - shift;
}

/** Returns log of the binomial coefficient (`n` over `k`). */
export function logBinomial(n: number, k: number): number {
  return logGamma(n + 1) - logGamma(k + 1) - logGamma(n - k + 1);
}

/**
 * Returns the least `x` in [`low`, `high`] with `holds(x)`, from above: the returned value holds itself. `holds` is monotone and
 * true at `high`. Halves the ratio where both ends are positive and far apart, the difference elsewhere.
 */
export function leastHolding(holds: (x: number) => boolean, low: number, high: number, relative = 1e-13): number {
  let [bad, good] = [low, high];
  for (let i = 0; i < 2000; i++) {
    const middle = bad > 0 && good > 4 * bad ? Math.sqrt(bad) * Math.sqrt(good) : bad + (good - bad) / 2;
    if (!(good - bad > relative * Math.abs(good)) || middle <= bad || middle >= good) return good;
    if (holds(middle)) good = middle;
    else bad = middle;
  }
  return good;
}
