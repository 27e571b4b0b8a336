import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ARENA_ALIGNMENT, type Lifetime, planMemory } from '../../src/engine/index.ts';

const lifetimes: fc.Arbitrary<Lifetime[]> = fc.array(
  fc.record({ bytes: fc.nat(5000), first: fc.nat(40), length: fc.nat(12) }).map(({ bytes, first, length }) => ({
    bytes,
    first,
    last: first + length,
  })),
  { maxLength: 60 },
);

describe('memory planner', () => {
  test('gives no byte to two buffers that live at the same step, and aligns every one', () => {
    fc.assert(
      fc.property(lifetimes, list => {
        const { offsets, peakBytes } = planMemory(list);
        list.forEach((a, i) => {
          expect(offsets[i]! % ARENA_ALIGNMENT).toBe(0);
          expect(offsets[i]! + a.bytes).toBeLessThanOrEqual(peakBytes);
          for (let j = 0; j < i; j++) {
            const b = list[j]!;
            if (a.first > b.last || b.first > a.last || a.bytes === 0 || b.bytes === 0) continue;
            expect(offsets[i]! >= offsets[j]! + b.bytes || offsets[j]! >= offsets[i]! + a.bytes).toBe(true);
          }
        });
      }),
    );
  });

  test('never claims less than what lives at one step, and the bound is what lives', () => {
    fc.assert(
      fc.property(lifetimes, list => {
        const live = (step: number): number =>
          list
            .filter(({ first, last }) => first <= step && step <= last)
            .reduce((sum, { bytes }) => sum + Math.ceil(bytes / 64) * 64, 0);
        const most = Math.max(0, ...list.map(({ first }) => live(first)));
        const { peakBytes, lowerBoundBytes } = planMemory(list);
        expect(lowerBoundBytes).toBe(most);
        expect(peakBytes).toBeGreaterThanOrEqual(lowerBoundBytes);
      }),
    );
  });

  test('reaches the bound on a chain, where each buffer lives until the next is made', () => {
    const chain = [100, 5000, 300, 4000, 20, 900].map((bytes, i) => ({ bytes, first: i, last: i + 1 }));
    const { peakBytes, lowerBoundBytes } = planMemory(chain);
    expect(peakBytes).toBe(lowerBoundBytes);
  });
});
