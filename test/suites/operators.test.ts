import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { CloisterError, isCloisterError } from '../../src/base/index.ts';
import { bytesSource, parseOnnx, parseTensorProto } from '../../src/formats/index.ts';
import {
  defineOp,
  GRADIENTS,
  OPERATORS,
  type OpDefinition,
  type Operator,
  operatorKey,
  type RunContext,
} from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { findCases } from '../conformance/cases.ts';
import { CASES } from '../graph/autodiff/cases.ts';
import { fill, randomSource } from '../graph/autodiff/check.ts';
import {
  casesOf,
  OPERATOR_CHECKS,
  type OperatorCase,
  type OperatorCheck,
  operatorFaults,
  operatorSuite,
} from './operator.ts';

/** Cases of every operator: those of the gradients, and those of the nodes in the ONNX tests where they are here. */
const cases = new Map<string, OperatorCase[]>();
const add = (key: string, given: OperatorCase): void => {
  cases.set(key, [...(cases.get(key) ?? []), given]);
};
const random = randomSource(1);
for (const { domain = '', op, inputs, attributes = {}, opset, outputs = 1 } of CASES) {
  add(operatorKey(domain, op), {
    inputs: inputs.map(given => (given === undefined || given instanceof Tensor ? given : fill(given, random))),
    attributes,
    outputs,
    gradient: inputs.flatMap((given, i) => (given === undefined || given instanceof Tensor ? [] : [i])),
    ...(opset === undefined ? {} : { opset }),
  });
}
const corpus = process.env['CLOISTER_CORPUS'];
for (const { name, path } of corpus ? findCases(join(corpus, 'onnx')) : []) {
  const folder = join(path, 'test_data_set_0');
  try {
    const graph = parseOnnx(bytesSource(readFileSync(join(path, 'model.onnx'))));
    const files = readdirSync(folder).filter(file => file.startsWith('input_'));
    const tensors = graph.inputs.map(
      (_, i) => parseTensorProto(bytesSource(readFileSync(join(folder, `input_${i}.pb`)))).tensor,
    );
    if (files.length !== tensors.length) continue;
    for (const [key, found] of casesOf(graph, tensors)) {
      for (const given of found) {
        const small = given.inputs.every(tensor => !tensor || tensor.size <= 3000);
        if (small && (cases.get(key)?.length ?? 0) < 12) add(key, { ...given, title: name, gradient: [] });
      }
    }
  } catch (error) {
    if (!isCloisterError(error)) throw error;
  }
}

/** What is left out, and why. */
const WITHOUT: Readonly<Record<string, readonly OperatorCheck[]>> = {
  // Without axes, how many are squeezed depends on sizes: one that has a name is taken for more than 1, and checked when it runs.
  ':Squeeze': ['infers the same from symbols'],
  // A model among the ONNX tests gives the axes as a scalar: that is taken for a list of one where it is known, and refused else.
  ':Unsqueeze': ['infers the same from symbols'],
};

for (const [key, operator] of OPERATORS) {
  if (cases.has(key)) operatorSuite(operator, cases.get(key)!, { without: WITHOUT[key] ?? [] });
}

test('every operator that has a gradient has cases, and of the others most where the ONNX tests are here', () => {
  const without = [...OPERATORS.keys()].filter(key => !cases.has(key));
  expect([...GRADIENTS.keys()].filter(key => without.includes(key))).toEqual([]);
  if (corpus) expect(without.length / OPERATORS.size).toBeLessThan(0.5);
});

describe('a planted fault is found', () => {
  const x = Tensor.of('f64', [
    [0.5, 1, 2],
    [3, 4, 5],
  ]);
  const double: OpDefinition = {
    domain: 'com.example',
    name: 'Double',
    inputs: ['x'],
    outputs: ['y'],
    attributes: { by: { type: 'float', default: 2 } },
    infer: c => {
      c.expect(0, ['f64']);
      return [c.input(0)];
    },
    run: c => [
      Tensor.from(
        'f64',
        c.shape(),
        Float64Array.from(c.operand(0).values(), v => Number(v) * c.number('by')),
      ),
    ],
    gradient: g => [g.mul(g.gradient(0)!, g.scalar(2))],
  };
  const found = (change: Partial<OpDefinition> | ((operator: Operator) => Operator)): readonly OperatorCheck[] => {
    const made = defineOp({ ...double, ...(typeof change === 'function' ? {} : change) });
    const operator = typeof change === 'function' ? change(made) : made;
    return [
      ...new Set(
        operatorFaults(operator, [
          {
            inputs: [x],
            expected: [
              Tensor.of('f64', [
                [1, 2, 4],
                [6, 8, 10],
              ]),
            ],
          },
        ]).map(fault => fault.check),
      ),
    ];
  };
  const data = (c: RunContext): Float64Array => c.operand(0).data as Float64Array;
  let calls = 0;
  const kept = Tensor.of('f64', [
    [1, 2, 4],
    [6, 8, 10],
  ]);

  test('and none where there is none', () => expect(found({})).toEqual([]));

  test.each<readonly [string, Partial<OpDefinition> | ((operator: Operator) => Operator), OperatorCheck]>([
    [
      'a kernel that writes its input',
      {
        run: c => {
          const view = c.operand(0);
          const out = double.run(c);
          (view.data as Float64Array).fill(0);
          return out;
        },
      },
      'leaves its inputs alone',
    ],
    [
      'a kernel that ignores strides',
      {
        run: c => [
          Tensor.from(
            'f64',
            c.shape(),
            data(c)
              .slice(0, 6)
              .map(v => 2 * v),
          ),
        ],
      },
      'reads views as what they show',
    ],
    [
      'a result that contradicts the rule',
      (operator: Operator) => ({
        ...operator,
        versions: operator.versions.map(version => ({ ...version, infer: () => [{ dtype: 'f32', shape: [2, 3] }] })),
      }),
      'computes what its rule says',
    ],
    ['a wrong result', { run: c => [c.operand(0).clone()] }, 'computes what its rule says'],
    [
      'a rule that takes a symbol for a size',
      {
        infer: c => [{ dtype: 'f64', shape: c.input(0).shape.map(dim => (typeof dim === 'number' ? dim : 1)) }],
      },
      'infers the same from symbols',
    ],
    [
      'a rule that confuses two symbols',
      {
        infer: c => [
          {
            dtype: 'f64',
            shape: c.input(0).shape.every(dim => typeof dim === 'string')
              ? c.input(0).shape.toReversed()
              : c.input(0).shape,
          },
        ],
      },
      'infers the same from symbols',
    ],
    [
      'a kernel that counts its calls',
      {
        run: c => [
          Tensor.from(
            'f64',
            c.shape(),
            Float64Array.from(c.operand(0).values(), v => 2 * Number(v) + calls++),
          ),
        ],
      },
      'repeats itself',
    ],
    ['a kernel that keeps what it returns', { run: () => [kept] }, 'repeats itself'],
    ['a kind that it is not', { kind: 'view' }, 'is of the kind that it says'],
    [
      'a sum that calls itself elementwise',
      {
        kind: 'elementwise',
        run: c => [
          Tensor.from(
            'f64',
            c.shape(),
            new Float64Array(c.operand(0).size).fill(
              c
                .operand(0)
                .values()
                .map(Number)
                .reduce((a, b) => a + b, 0),
            ),
          ),
        ],
      },
      'is of the kind that it says',
    ],
    [
      'a rule that fails on other dtypes with an error of JavaScript',
      {
        infer: c => {
          if (c.input(0).dtype !== 'f64') throw new TypeError('what is this');
          return [c.input(0)];
        },
      },
      'takes anything, or refuses it',
    ],
    [
      'an error that does not say where',
      {
        infer: c => {
          if (c.input(0).shape.length !== 2) throw new CloisterError('INVALID_GRAPH', 'expected a matrix');
          return [c.input(0)];
        },
      },
      'takes anything, or refuses it',
    ],
    [
      'an entry that allows an attribute which nobody asked for',
      (operator: Operator) => ({
        ...operator,
        versions: operator.versions.map(version => ({
          ...version,
          attributes: { ...version.attributes, an_attribute_that_no_operator_has: { type: 'int' as const } },
        })),
      }),
      'refuses what does not fit its entry',
    ],
    [
      'a wrong gradient',
      { gradient: g => [g.mul(g.gradient(0)!, g.scalar(2.001))] },
      'has the gradient that differences show',
    ],
  ])('%s', (_, change, check) => expect(found(change)).toContain(check));

  test('every check has one', () => expect(OPERATOR_CHECKS).toHaveLength(9));
});
