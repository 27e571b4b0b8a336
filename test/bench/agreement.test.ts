import { expect, test } from 'vitest';
import { disagreement } from '../../bench/agreement.ts';

const output = (...data: number[]) => ({ y: { data, shape: [data.length] } });

test.each([
  ['equal ones', output(1, -2, 0), output(1, -2, 0), 0],
  ['a difference of half the tolerance', output(1000, 0), output(1000.505, 0), 0.5],
  ['one of twice the tolerance', output(1000, 0), output(1002.02, 0), 2],
  ['infinities and NaN in the same places', output(Infinity, NaN, 1), output(Infinity, NaN, 1), 0],
])('%s', (_, expected, came, part) => {
  expect(disagreement(expected, came)).toBeCloseTo(part, 3);
});

test.each([
  ['NaN', output(NaN)],
  ['an infinity', output(Infinity)],
  ['another shape', output(1, 2)],
  ['a missing output', {}],
])('%s where 1 is expected never agrees', (_, came) => {
  expect(disagreement(output(1), came)).toBe(Infinity);
});

test('a number where NaN is expected never agrees', () => {
  expect(disagreement(output(NaN, 1), output(0, 1))).toBe(Infinity);
  expect(disagreement(output(Infinity, 1), output(7, 1))).toBe(Infinity);
});

test('integers agree when they are equal, where nothing else is allowed', () => {
  const exact = { relative: 0, ofLargest: 0 };
  expect(disagreement(output(5, 0), output(5, 0), exact)).toBe(0);
  expect(disagreement(output(5, 0), output(6, 0), exact)).toBe(Infinity);
});
