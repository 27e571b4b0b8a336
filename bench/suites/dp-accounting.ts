/**
 * How fast privacy accounting is, beside Google's dp_accounting where a Python has it (`CLOISTER_PYTHON`, or `python3` in the path).
 * @module
 */
import { spawnSync } from 'node:child_process';
import { pairOf } from '../../privacy/dp/accounting/pair.ts';
import { pldEpsilon } from '../../privacy/dp/accounting/pld.ts';
import { calibrate, type DpEvent, epsilonOf } from '../../privacy/dp/index.ts';
import { compare } from '../measure.ts';
import { amountRow, latencyRow, type Report } from '../rows.ts';

const HEAD = { suite: 'dp', threads: 1 } as const;
const STEP: DpEvent = {
  kind: 'poisson-subsampled',
  rate: 0.01,
  event: { kind: 'gaussian', noiseMultiplier: 1, neighboring: 'add-remove' },
};
const STEPS = 10_000;
const DELTA = 1e-5;
/** What dp_accounting 0.6.0 says at a grid of 1e-4. */
const KNOWN = 6.187745;

const PEER = `
import json, time
import dp_accounting
from dp_accounting.pld import privacy_loss_distribution as pld
best, epsilon = 1e9, 0
for _ in range(4):
    start = time.perf_counter()
    one = pld.from_gaussian_mechanism(1.0, value_discretization_interval=1e-4, sampling_prob=0.01)
    epsilon = one.self_compose(10000).get_epsilon_for_delta(1e-5)
    best = min(best, time.perf_counter() - start)
print(json.dumps({'ms': 1e3 * best, 'epsilon': epsilon}))
`;

/** Rows of the suite `dp` that are about accounting. */
export async function benchAccounting(report: Report): Promise<void> {
  const parts = [{ pair: pairOf(STEP)!, count: STEPS }];
  const fixed = { step: 1e-4, lower: false };
  const at = pldEpsilon(parts, DELTA, fixed)!.upper;
  report.check({
    name: 'the epsilon that is timed is the known one',
    ok: Math.abs(at - KNOWN) < 2e-6,
    detail: `${KNOWN} expected, ${at} came`,
  });
  const python = spawnSync(process.env['CLOISTER_PYTHON'] ?? 'python3', ['-c', PEER], { encoding: 'utf8' });
  const peer = python.status === 0 ? (JSON.parse(python.stdout) as { ms: number; epsilon: number }) : undefined;
  if (peer === undefined) report.note('dp_accounting is not at hand: pip install dp-accounting');
  const grid = await compare({ run: () => pldEpsilon(parts, DELTA, fixed) }, undefined, { rounds: 5, calls: 1 });
  report.row(
    amountRow(
      {
        ...HEAD,
        case: 'losses of 10,000 subsampled Gaussians, grid 1e-4',
        unit: 'ms',
        peerName: 'dp_accounting',
        best: grid.ours.best,
        holdTo: { ratio: 3 },
        note: 'best of either; sigma 1, rate 0.01, delta 1e-5, both directions',
      },
      grid.ours.best,
      peer?.ms ?? null,
    ),
  );
  const adaptive = { relative: 4e-4, lower: false };
  const found = pldEpsilon(parts, DELTA, adaptive)!.upper;
  report.check({
    name: 'the adaptive grid is within 0.05 %',
    ok: found >= KNOWN - 1e-4 && found <= KNOWN * 1.0005,
    detail: `at most ${KNOWN * 1.0005} expected, ${found} came`,
  });
  report.row(
    latencyRow(
      { ...HEAD, case: 'the same to 0.05 %, adaptive grid', unit: 'ms', peerName: '–', holdTo: { atMost: 40 } },
      await compare({ run: () => pldEpsilon(parts, DELTA, adaptive) }, undefined, { rounds: 7, calls: 1 }),
    ),
  );
  const training: DpEvent = { kind: 'self-composition', event: STEP, count: STEPS };
  report.row(
    latencyRow(
      { ...HEAD, case: 'epsilonOf: least of all methods, and a lower bound', unit: 'ms', peerName: '–' },
      await compare({ run: () => epsilonOf(training, { delta: DELTA }) }, undefined, { rounds: 5, calls: 1 }),
    ),
  );
  const gaussians = (): void => {
    const events: DpEvent[] = [];
    for (let i = 1; i <= 20; i++) {
      events.push({ kind: 'gaussian', noiseMultiplier: 9 + i, neighboring: 'add-remove' });
      epsilonOf({ kind: 'composition', events }, { delta: 1e-6 });
    }
  };
  report.row(
    latencyRow(
      { ...HEAD, case: '20 times: compose a Gaussian, ask epsilon', unit: 'ms', peerName: '–', holdTo: { atMost: 2 } },
      await compare({ run: gaussians }, undefined, { rounds: 7 }),
    ),
  );
  const noise = (): void => {
    calibrate(
      x => ({
        kind: 'self-composition',
        count: 1000,
        event: {
          kind: 'poisson-subsampled',
          rate: 0.01,
          event: { kind: 'gaussian', noiseMultiplier: x, neighboring: 'add-remove' },
        },
      }),
      { epsilon: 2, delta: 1e-5 },
    );
  };
  report.row(
    latencyRow(
      {
        ...HEAD,
        case: 'noise for epsilon 2, 1,000 steps at rate 0.01',
        unit: 'ms',
        peerName: '–',
        holdTo: { atMost: 1000 },
      },
      await compare({ run: noise }, undefined, { rounds: 3, calls: 1 }),
    ),
  );
}
