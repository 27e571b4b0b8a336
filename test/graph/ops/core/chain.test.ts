import { describe, expect, test } from 'vitest';
import { isCloisterError } from '../../../../src/base/index.ts';
import { type Attribute, type Graph, GraphBuilder, type Node, runNode } from '../../../../src/graph/index.ts';
import { type DType, Tensor } from '../../../../src/tensor/index.ts';
import { sampleTensor } from '../../../suites/graphs.ts';

/** A Chain node over as many inputs as the body has. */
function chain(body: Graph): Node {
  const inputs = body.inputs.map((_, i) => i);
  const attributes: Record<string, Attribute> = { body };
  return { name: 'chain', domain: 'cloister', op: 'Chain', opset: 1, inputs, outputs: [inputs.length], attributes };
}

type Step = readonly [
  op: string,
  inputs: readonly (number | undefined)[],
  attributes?: Readonly<Record<string, Attribute>>,
];

/** A body whose values are its inputs, then the result of each step. */
function bodyOf(inputs: readonly (readonly [DType, readonly number[]])[], steps: readonly Step[]): Graph {
  const b = new GraphBuilder('body', { opset: 18 });
  for (const [i, [dtype, shape]] of inputs.entries()) b.input(`in${i}`, { dtype, shape });
  let last = 0;
  for (const [op, from, attributes] of steps) last = b.node({ op, inputs: from, attributes: attributes ?? {} })[0]!;
  b.output(last);
  return b.build();
}

const codeOf = (body: () => unknown): string | undefined => {
  try {
    body();
  } catch (error) {
    return isCloisterError(error) ? error.code : String(error);
  }
  return undefined;
};

describe('Chain', () => {
  test.each([
    ['in one block', [3, 5, 7]],
    ['in blocks that end inside a row', [11, 13, 401]],
    ['of one row that is longer than a block', [1, 1, 40_001]],
    ['of columns of one', [40_001, 1, 1]],
    ['that is empty', [3, 0, 7]],
    ['of no axes', []],
  ])('gives what its nodes give one by one, in a tensor %s', (_, shape) => {
    const shapes = [shape, shape.slice(-1), shape.map((size, i) => (i === 1 ? size : 1)), []];
    const tensors = shapes.map((sizes, i) => sampleTensor(sizes, i + 1));
    const steps: readonly Step[] = [
      ['Add', [0, 1]],
      ['Mul', [4, 2]],
      ['Less', [5, 3]],
      ['Where', [6, 5, 0]],
      ['Tanh', [7]],
    ];
    const values: Tensor[] = [...tensors];
    for (const [op, inputs] of steps) {
      const node: Node = { name: op, domain: '', op, opset: 18, inputs, outputs: [0], attributes: {} };
      values.push(
        runNode(
          node,
          inputs.map(id => values[id!]),
        )[0]!,
      );
    }
    const body = bodyOf(
      shapes.map(sizes => ['f32', sizes] as const),
      steps,
    );
    const [came] = runNode(chain(body), tensors);
    expect(came!.shape).toEqual(shape);
    expect(came!.toBytes()).toEqual(values.at(-1)!.toBytes());
  });

  test('reads views, leaves inputs as they are and gives a tensor of its own', () => {
    const x = sampleTensor([200, 300], 1);
    const before = x.toBytes();
    const turned = x.transpose();
    const body = bodyOf(
      [['f32', [300, 200]]],
      [
        ['Neg', [0]],
        ['Neg', [1]],
      ],
    );
    const [came] = runNode(chain(body), [turned]);
    expect(came!.toBytes()).toEqual(turned.toBytes());
    expect(x.toBytes()).toEqual(before);
    expect(came!.buffer).not.toBe(x.buffer);
  });

  test('goes through dtypes: integers, bools and numbers', () => {
    const body = bodyOf(
      [
        ['i64', [3]],
        ['i64', []],
      ],
      [
        ['Add', [0, 1]],
        ['Greater', [2, 1]],
        ['Cast', [3], { to: 1 }],
      ],
    );
    const big = Tensor.from('i64', [3], BigInt64Array.of(-9_007_199_254_740_993n, 0n, 9_007_199_254_740_993n));
    const [came] = runNode(chain(body), [big, Tensor.from('i64', [], BigInt64Array.of(1n))]);
    expect(came!.toArray()).toEqual([0, 0, 1]);
    expect(came!.dtype).toBe('f32');
  });

  test.each<readonly [string, Graph, readonly Tensor[]]>([
    ['a body that sums along an axis', bodyOf([['f32', [4]]], [['Softmax', [0]]]), [sampleTensor([4], 1)]],
    ['a body of other dtypes', bodyOf([['f32', [4]]], [['Neg', [0]]]), [Tensor.zeros('i32', [4])]],
    ['a body of fewer inputs', { ...bodyOf([['f32', [4]]], [['Neg', [0]]]), inputs: [] }, [sampleTensor([4], 1)]],
    [
      'inputs that do not broadcast',
      bodyOf(
        [
          ['f32', [4]],
          ['f32', [4]],
        ],
        [['Add', [0, 1]]],
      ),
      [sampleTensor([4], 1), sampleTensor([3], 2)],
    ],
  ])('refuses %s', (_, body, tensors) => {
    const node = { ...chain(body), inputs: tensors.map((_, i) => i) };
    expect(codeOf(() => runNode(node, tensors))).toMatch(/^(SHAPE_MISMATCH|UNSUPPORTED_MODEL)$/);
  });
});
