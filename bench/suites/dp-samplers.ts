/**
 * Exact noise: draws a second, beside the same algorithm in C, and whether the time of a draw from a table tells about it.
 * @module
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  discreteGaussian,
  obliviousGaussian,
  obliviousLaplace,
  randomBits,
  type Sampler,
  sampleDiscreteLaplace,
} from '../../privacy/dp/index.ts';
import { osRandom } from '../../src/base/index.ts';
import { type Comparison, median, summarise } from '../measure.ts';
import { noiseTiming } from '../noise-timing.ts';
import { type Report, rateRow, type Target } from '../rows.ts';

const DRAWS = 100_000;
const ROUNDS = 11;

/** Samplers of this library, in draws a second. */
export async function benchSamplers(report: Report): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'cloister-sampler-'));
  try {
    const inC = buildInC(join(folder, 'discrete-gaussian'));
    if (!inC) report.note('no C compiler: the exact sampler has no rival');
    for (const [n, d, name] of [
      [100n, 1n, 'sigma 10'],
      [100_000n, 7n, 'sigma² 100000/7'],
    ] as const) {
      const draw = discreteGaussian({ numerator: n, denominator: d });
      const rival = inC && (() => inC(n, d));
      row(report, `discrete Gaussian, exact, ${name}`, draw, { atLeast: 500_000, ...(rival && { ratio: 0.9 }) }, rival);
    }
    row(
      report,
      'discrete Gaussian, exact, sigma 2^30, BigInts',
      discreteGaussian({ numerator: 1n << 60n, denominator: 1n }),
      { atLeast: 50_000 },
    );
    row(report, 'discrete Laplace, exact, scale 10', bits =>
      sampleDiscreteLaplace({ numerator: 10n, denominator: 1n }, bits),
    );
    row(report, 'discrete Gaussian, table, sigma 10', obliviousGaussian({ numerator: 100n, denominator: 1n })!, {
      atLeast: 700_000,
    });
    row(report, 'discrete Gaussian, table, sigma 32', obliviousGaussian({ numerator: 1024n, denominator: 1n })!);
    row(report, 'discrete Laplace, table, scale 2', obliviousLaplace({ numerator: 2n, denominator: 1n })!);
    timing(report);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Rounds of both sides in turn, in CPU time of one thread; the rival times itself, in a process of its own. */
function row(report: Report, name: string, draw: Sampler, holdTo?: Target, rival?: () => number): void {
  const bits = randomBits(osRandom);
  const ourMs = (): number => {
    const from = process.threadCpuUsage();
    for (let i = 0; i < DRAWS; i++) draw(bits);
    const { user, system } = process.threadCpuUsage(from);
    return (user + system) / 1e3;
  };
  ourMs();
  const rounds = Array.from({ length: ROUNDS }, (_, i) => {
    // Either first, in turns.
    if (i % 2 === 1) return [ourMs(), rival?.()] as const;
    const theirs = rival?.();
    return [ourMs(), theirs] as const;
  });
  const ours = rounds.map(([ms]) => ms);
  const theirs = rounds.flatMap(([, ms]) => (ms === undefined ? [] : [ms]));
  const comparison: Comparison = {
    ours: summarise(ours),
    ...(theirs.length > 0 && { peer: summarise(theirs), ratio: median(rounds.map(([a, b]) => b! / a)) }),
  };
  const head = { suite: 'dp', case: name, unit: 'draws/s', workPerCall: DRAWS, threads: 1 };
  report.row(rateRow({ ...head, peerName: rival ? 'the same in C' : '', ...(holdTo && { holdTo }) }, comparison));
}

/** The sampler in C, built: it returns the milliseconds of CPU time that its draws took. Undefined where there is no C compiler. */
function buildInC(program: string): ((n: bigint, d: bigint) => number) | undefined {
  const source = join(import.meta.dirname, '..', 'discrete-gaussian.c');
  try {
    execFileSync(process.env['CC'] ?? 'cc', ['-O2', '-o', program, source], { stdio: 'ignore' });
  } catch {
    return undefined;
  }
  return (n, d) => {
    const said = execFileSync(program, [n, d, DRAWS].map(String), { encoding: 'utf8' });
    const [nanoseconds, squares] = said.split(' ').map(Number) as [number, number];
    const expected = Number(n) / Number(d);
    // Six standard deviations of a mean of squares.
    if (!(Math.abs(squares / expected - 1) < 6 * Math.sqrt(2 / DRAWS))) throw new Error(`the C sampler draws ${said}`);
    return (nanoseconds * DRAWS) / 1e6;
  };
}

/** Small against large noise: a table must show nothing, the sampler by rejection must show that the bench can see. */
function timing(report: Report): void {
  const tables = [
    ['table, Gaussian of sigma 10', obliviousGaussian({ numerator: 100n, denominator: 1n })!, 5, 20],
    ['table, Laplace of scale 4', obliviousLaplace({ numerator: 4n, denominator: 1n })!, 2, 8],
  ] as const;
  const bits = randomBits(osRandom);
  for (const [name, draw, small, large] of tables) {
    const { t, nanoseconds } = noiseTiming(draw, bits, small, large, 40_000);
    report.check({
      name: `the time of a draw does not tell its size: ${name}`,
      ok: Math.abs(t) < 4.5,
      detail: `Welch t ${t.toFixed(2)} (within 4.5); ${nanoseconds.map(ns => ns.toFixed(1)).join(' and ')} ns, small and large noise`,
    });
  }
  const { t } = noiseTiming(discreteGaussian({ numerator: 100n, denominator: 1n }), bits, 5, 20, 20_000);
  report.check({
    name: 'that of a draw by rejection does: the control',
    ok: Math.abs(t) > 20,
    detail: `Welch t ${t.toFixed(1)} (beyond 20)`,
  });
}
