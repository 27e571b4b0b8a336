import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isoTime } from '../../src/base/index.ts';

test('a time is written in ISO 8601 as far as there are dates, and as its number beyond them', () => {
  expect(isoTime(8.64e15)).toBe('+275760-09-13T00:00:00.000Z');
  expect(isoTime(8.64e15 + 1)).toBe('8640000000000001');
  fc.assert(fc.property(fc.maxSafeInteger(), ms => [Date.parse(isoTime(ms)), Number(isoTime(ms))].includes(ms)));
});
