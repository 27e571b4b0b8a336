import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ARENA_ALIGNMENT, type Lifetime, planMemory } from '../../src/engine/index.ts';
import { numbers } from '../native/program-seeds.ts';

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

  test('nor among thousands of buffers, of which few or all live at a time', () => {
    const next = numbers(11);
    const below = (n: number): number => Math.floor(((next() + 1) / 2) * n);
    const many: Readonly<Record<string, readonly Lifetime[]>> = {
      few: Array.from({ length: 5_000 }, (_, i) => ({ bytes: below(5_000), first: i >> 2, last: (i >> 2) + below(9) })),
      all: Array.from({ length: 9_200 }, (_, i) => ({ bytes: 1 + below(300), first: i, last: 9_200 })),
    };
    for (const [name, list] of Object.entries(many)) {
      const { offsets, peakBytes, lowerBoundBytes } = planMemory(list);
      expect(peakBytes, name).toBeGreaterThanOrEqual(lowerBoundBytes);
      expect(peakBytes, name).toBeLessThan(2 * lowerBoundBytes);
      // Those that live at one step, by offset: each begins where the one before has ended, or later.
      for (const step of name === 'all' ? [9_200] : Array.from({ length: 1_260 }, (_, i) => i)) {
        const living = list.flatMap(({ first, last, bytes }, i) =>
          first <= step && step <= last && bytes > 0 ? [{ from: offsets[i]!, to: offsets[i]! + bytes }] : [],
        );
        living.sort((a, b) => a.from - b.from);
        const clash = living.findIndex(({ from }, i) => i > 0 && from < living[i - 1]!.to);
        expect(clash, `${name}, step ${step}`).toBe(-1);
        expect(living.at(-1)?.to ?? 0).toBeLessThanOrEqual(peakBytes);
      }
    }
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
