import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { inclusionProof, pureHasher, rootAt, verifyInclusion } from '../../sandbox/audit/merkle.ts';
import { project } from '../../src/web/page/burn-down.ts';
import { formatPlace, readPlace } from '../../src/web/page/location.ts';
import { proofSteps } from '../../src/web/page/proof-steps.ts';
import { HEIGHT_LIMIT_PX, scrollWindow } from '../../src/web/page/scroll-window.ts';
import { markedParts, speltOut } from '../../src/web/page/spelt-out.ts';

describe('the window on a long table', () => {
  const tableArb = fc.record({
    rows: fc.integer({ min: 1, max: 2_000_000 }),
    rowPx: fc.constantFrom(32, 54),
    viewPx: fc.integer({ min: 60, max: 2000 }),
  });

  test('every row can be brought wholly into view, and is drawn there', () => {
    fc.assert(
      fc.property(
        tableArb,
        fc.nat(),
        fc.double({ min: 0, max: 1, noNaN: true }),
        ({ rows, rowPx, viewPx }, nat, at) => {
          const view = scrollWindow(rows, rowPx, viewPx);
          const row = nat % rows;
          const offset = view.offsetFor(row, at * view.maxOffsetPx);
          expect(offset).toBeGreaterThanOrEqual(0);
          expect(offset).toBeLessThanOrEqual(view.maxOffsetPx);
          expect(row * rowPx).toBeGreaterThanOrEqual(offset);
          expect((row + 1) * rowPx).toBeLessThanOrEqual(offset + Math.max(viewPx, rowPx) + 1e-6);
          const { from, to } = view.rowsAt(offset);
          expect(from <= row && row < to).toBe(true);
          expect(to - from).toBeLessThanOrEqual(viewPx / rowPx + 18);
        },
      ),
    );
  });

  test('no browser is asked for an element that it cannot lay out, and the bar reaches both ends', () => {
    fc.assert(
      fc.property(tableArb, ({ rows, rowPx, viewPx }) => {
        const view = scrollWindow(rows, rowPx, viewPx);
        expect(view.heightPx).toBeLessThanOrEqual(HEIGHT_LIMIT_PX);
        const bar = Math.max(0, view.heightPx - viewPx);
        expect(bar * view.ratio).toBeCloseTo(view.maxOffsetPx, 3);
        if (rows * rowPx <= HEIGHT_LIMIT_PX) expect(view.ratio).toBe(1);
      }),
    );
  });
});

describe('text of a record', () => {
  test.each([
    '\u202e',
    '\u2066',
    '\u0007',
    '\u200b',
    '\ufeff',
    '\u2028',
    '\u00ad',
    '\u00a0',
    '\u3164',
    '\ud800',
    '\u{e0041}',
  ])('a mark that hides or turns is spelt out: %j', mark => {
    expect(markedParts(`a${mark}b`)).toEqual(['a', mark, 'b']);
    expect(speltOut(mark)).toBe(`\\u{${mark.codePointAt(0)!.toString(16)}}`);
  });

  test('nothing else is, and nothing is lost', () => {
    expect(markedParts('ward-3 – Größe 病院 שלום 😀')).toHaveLength(1);
    fc.assert(fc.property(fc.string({ unit: 'binary' }), text => markedParts(text).join('') === text));
  });
});

describe('the address', () => {
  test('says what is shown, and is read back', () => {
    const placeArb = fc.record({
      q: fc.string({ unit: 'grapheme' }),
      view: fc.constantFrom('records' as const, 'budgets' as const),
      record: fc.option(fc.nat(1e12), { nil: undefined }),
    });
    fc.assert(
      fc.property(placeArb, place => {
        expect(readPlace(formatPlace(place))).toEqual(place);
      }),
    );
  });

  test('whatever it holds, there is a place', () => {
    fc.assert(fc.property(fc.string(), hash => ['records', 'budgets'].includes(readPlace(`#${hash}`).view)));
    expect(readPlace('#record=-1&view=x')).toEqual({ q: '', view: 'records', record: undefined });
  });
});

describe('the drawing of a proof', () => {
  test('has a step for each hash of the path, over the records that the hash covers', () => {
    const leaf = (seq: number) => pureHasher.leaf(Uint8Array.of(seq & 255, seq >> 8));
    const node = (level: number, index: number): Uint8Array =>
      level === 0 ? leaf(index) : pureHasher.node(node(level - 1, 2 * index), node(level - 1, 2 * index + 1));
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 70 }), fc.nat(), (size, nat) => {
        const index = nat % size;
        const path = inclusionProof(index, size, node);
        const steps = proofSteps(index, size);
        expect(steps).toHaveLength(path.length);
        expect(verifyInclusion(index, size, leaf(index), path, rootAt(size, node))).toEqual({ ok: true });
        const covered = steps.flatMap(({ from, to }) => Array.from({ length: to - from }, (_, i) => from + i));
        expect([...covered, index].sort((a, b) => a - b)).toEqual(Array.from({ length: size }, (_, i) => i));
        for (const { side, from } of steps) expect(side).toBe(from > index ? 'right' : 'left');
      }),
      { numRuns: 60 },
    );
  });
});

describe('the projection of a budget', () => {
  const DAY = 86_400_000;
  const charge = (day: number, before: number, after: number) => ({ seq: day, time: day * DAY, before, after });

  test('goes on at the rate of the later half', () => {
    const charges = [charge(0, 0, 10), charge(4, 10, 20), charge(6, 20, 40), charge(8, 40, 60)];
    expect(project({ charges }, 100)).toEqual({ perDay: 10, from: 4 * DAY, to: 8 * DAY, exhausted: 12 * DAY });
    expect(project({ charges }, undefined)).toMatchObject({ perDay: 10, exhausted: undefined });
    expect(project({ charges }, 50)).toMatchObject({ exhausted: 8 * DAY });
  });

  test('says nothing where nothing can be said', () => {
    expect(project({ charges: [] }, 100)).toBeUndefined();
    expect(project({ charges: [charge(1, 0, 5)] }, 100)).toBeUndefined();
    expect(project({ charges: [charge(5, 0, 5), charge(2, 5, 9)] }, 100)).toBeUndefined(); // the clock went back
  });
});
