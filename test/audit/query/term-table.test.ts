import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeTermTable, TermTable, type TextMatch } from '../../../sandbox/audit/query/term-table.ts';
import { isCloisterError } from '../../../src/base/errors.ts';

const RECORDS = 300;
const runs = Number(process.env['CLOISTER_FUZZ_RUNS'] ?? 500);

const text = fc.oneof(
  fc.string({ unit: fc.constantFrom('a', 'b', '\u00ff', '\u{1f600}'), maxLength: 4 }),
  fc.string({ unit: 'binary', maxLength: 6 }),
);
const termsArb = fc
  .array(fc.tuple(text, fc.uniqueArray(fc.nat(RECORDS - 1), { maxLength: 5 })), { maxLength: 40 })
  .map(pairs => new Map(pairs));

const HOLDS: Readonly<Record<TextMatch, (text: string, value: string) => boolean>> = {
  is: (text, value) => text === value,
  begins: (text, value) => text.startsWith(value),
  has: (text, value) => text.includes(value),
};

describe('a term table', () => {
  it('gives back what was put into it', () => {
    fc.assert(
      fc.property(termsArb, terms => {
        const table = new TermTable(encodeTermTable(terms), RECORDS);
        expect(new Map([...table.all()].map(({ text, places }) => [text, [...places]]))).toEqual(terms);
      }),
    );
  });

  it('finds texts as a search of each of them does', () => {
    fc.assert(
      fc.property(termsArb, text, fc.constantFrom<TextMatch>('is', 'begins', 'has'), (terms, value, match) => {
        const table = new TermTable(encodeTermTable(terms), RECORDS);
        const found = [...table.find(match, value)].map(index => table.text(index));
        expect(found).toEqual([...terms.keys()].filter(text => HOLDS[match](text, value)));
      }),
      { examples: [[new Map([['', [1]]]), '', 'is']] },
    );
  });

  it('refuses bytes that are none, or reads what is in bounds: any bytes, and damaged tables above all', () => {
    let refused = 0;
    const bytesArb = fc.oneof(
      fc.uint8Array({ maxLength: 80 }),
      fc
        .tuple(termsArb, fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { maxLength: 3 }), fc.nat(500))
        .map(([terms, changes, cut]) => {
          const bytes = encodeTermTable(terms);
          for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
          return bytes.subarray(0, cut % 3 === 0 ? cut : undefined);
        }),
    );
    fc.assert(
      fc.property(bytesArb, text, (bytes, value) => {
        try {
          const table = new TermTable(bytes, RECORDS);
          for (const match of ['is', 'begins', 'has'] as const)
            for (const index of table.find(match, value))
              for (const place of table.places(index)) expect(place).toBeLessThan(RECORDS);
        } catch (error) {
          if (!isCloisterError(error, 'STORE_FAILED')) throw error;
          refused++;
        }
      }),
      { numRuns: runs },
    );
    expect(refused).toBeGreaterThan(10);
  });
});
