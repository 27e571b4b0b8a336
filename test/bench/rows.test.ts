import { describe, expect, test } from 'vitest';
import type { Comparison } from '../../bench/measure.ts';
import {
  amountRow,
  formatRows,
  formatTarget,
  isHeld,
  latencyRow,
  rateRow,
  refusedRow,
  summariseHeld,
  type Target,
} from '../../bench/rows.ts';

const head = { suite: 'kernels', case: 'sgemm', threads: 1, peerName: 'rival' };
// Ours takes 2 ms, the rival 3 ms.
const comparison: Comparison = {
  ours: { median: 2, spread: 0.1, best: 1.5 },
  peer: { median: 3, spread: 0.1, best: 2.25 },
  ratio: 1.45,
};

describe('a row', () => {
  test('of times is in microseconds, with the ratio of the rounds and that of the best calls', () => {
    expect(latencyRow(head, comparison)).toMatchObject({
      unit: 'µs/call',
      ours: 2000,
      peer: 3000,
      best: 1500,
      ratio: 1.45,
      bestRatio: 1.5,
    });
  });

  test('of rates is work per second, and the ratio still says how much faster we are', () => {
    const row = rateRow({ ...head, unit: 'GFLOP/s', workPerCall: 0.1 }, comparison);
    expect(row).toMatchObject({ ours: 50, ratio: 1.45, bestRatio: 1.5 });
    expect(row.peer).toBeCloseTo(100 / 3);
  });

  test('of amounts is ahead when it is smaller', () => {
    expect(amountRow({ ...head, unit: 'MB' }, 10, 25)).toMatchObject({ ratio: 2.5, bestRatio: null });
    expect(amountRow({ ...head, unit: 'MB' }, 10).ratio).toBeNull();
  });

  test.each([
    [{ ratio: 1.45 }, true],
    [{ ratio: 1.46 }, false],
    [{ atMost: 2000 }, true],
    [{ atMost: 1999 }, false],
    [{ atLeast: 2000 }, true],
    [{ atLeast: 2001 }, false],
    [{ ratio: 1.4, atMost: 1999 }, false],
    [{ ratio: 1.5, atMost: 2001 }, false],
    [{ ratio: 1.4, atLeast: 1, atMost: 2001 }, true],
  ] satisfies [Target, boolean][])('held to %o meets it: %s', (holdTo, met) => {
    expect(isHeld(latencyRow({ ...head, holdTo }, comparison))).toBe(met);
  });

  test('meets nothing without our side, whatever the rival did, and says why', () => {
    const row = refusedRow(latencyRow({ ...head, holdTo: { ratio: 1 } }, comparison), 'no kernel');
    expect(row).toMatchObject({ ours: null, ratio: null, bestRatio: null, peer: 3000, note: 'no kernel' });
    expect(isHeld(row)).toBe(false);
  });

  test('is held to no ratio where there is no rival, but to its bounds', () => {
    const alone: Comparison = { ours: comparison.ours };
    expect(isHeld(latencyRow({ ...head, holdTo: { ratio: 4 } }, alone))).toBeUndefined();
    expect(isHeld(latencyRow({ ...head, holdTo: { ratio: 4, atMost: 1 } }, alone))).toBe(false);
    expect(isHeld(latencyRow(head, comparison))).toBeUndefined();
  });
});

test('the rows that meet what they are held to are counted', () => {
  const row = (holdTo?: Target) => latencyRow({ ...head, ...(holdTo && { holdTo }) }, comparison);
  const rows = [row({ ratio: 1 }), row({ ratio: 2 }), row(), refusedRow(row({ ratio: 1 }), 'no kernel')];
  expect(summariseHeld(rows)).toBe('1 of 3 rows meet what they are held to; 1 of the others are not run yet');
  expect(summariseHeld([row()])).toBeUndefined();
});

test('the table shows what a row is held to, and the reason of a refusal', () => {
  const holdTo = { ratio: 1.25, atLeast: 88.66 };
  expect(formatTarget(holdTo)).toBe('1.25×, ≥ 88.7');
  const table = formatRows([refusedRow(latencyRow({ ...head, holdTo }, comparison), 'no kernel')]);
  expect(table).toMatch(/sgemm +µs\/call +- .*1\.25×, ≥ 88\.7 +NO/);
  expect(table).toContain('kernels/sgemm: no kernel');
});
