import { describe, expect, test } from 'vitest';
import { findVersion, GRADIENTS, isGraph, MAX_OPSET, OPERATORS, operatorKey } from '../../../src/graph/index.ts';
import { Tensor } from '../../../src/tensor/index.ts';
import { CASES } from './cases.ts';
import { type Case, checkGradients, KNOWLEDGE, type Knowledge } from './check.ts';

const keyOf = ({ domain = '', op }: Case): string => operatorKey(domain, op);

test('every rule is of an operator in the table, and has a case', () => {
  const covered = new Set(CASES.map(keyOf));
  expect([...GRADIENTS.keys()].filter(key => !covered.has(key))).toEqual([]);
  expect([...GRADIENTS.keys()].filter(key => !OPERATORS.has(key))).toEqual([]);
  expect([...covered].filter(key => !GRADIENTS.has(key))).toEqual([]);
});

test('every case is of a version that the table has', () => {
  const missing = CASES.filter(
    ({ domain = '', op, opset = MAX_OPSET }) => findVersion(OPERATORS, { domain, op, opset }) === undefined,
  );
  expect(missing).toEqual([]);
});

/** Which states of knowledge make a difference to a case, and can be run. */
function states(given: Case): readonly Knowledge[] {
  const integers = given.inputs.some(operand => operand instanceof Tensor);
  return KNOWLEDGE.filter(
    state => state !== 'no sizes and no integers' || (integers && given.needsIntegers === undefined),
  );
}

function title(given: Case): string {
  const inputs = given.inputs.map(operand => {
    if (operand === undefined) return '-';
    return operand instanceof Tensor
      ? `${operand.dtype}${JSON.stringify(operand.shape)}`
      : JSON.stringify(operand.shape);
  });
  const entries = Object.entries(given.attributes ?? {}).filter(([, value]) => !isGraph(value));
  const attributes = entries.length > 0 ? ` ${JSON.stringify(Object.fromEntries(entries))}` : '';
  return `${given.op}${given.opset === undefined ? '' : `-${given.opset}`} ${inputs.join(' ')}${attributes}`;
}

for (const state of KNOWLEDGE) {
  describe(`gradients agree with differences, ${state} known`, () => {
    CASES.forEach((given, i) => {
      if (states(given).includes(state)) test(title(given), () => checkGradients(given, state, i + 1));
    });
  });
}
