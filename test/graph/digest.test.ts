import { expect, test } from 'vitest';
import { type Attribute, type Graph, GraphBuilder, graphDigest } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';

interface Parts {
  readonly name?: string;
  readonly input?: string;
  readonly size?: number | string;
  readonly op?: string;
  readonly opset?: number;
  readonly attributes?: Readonly<Record<string, Attribute>>;
  readonly labels?: readonly string[];
  readonly swapped?: boolean;
  readonly weight?: Tensor;
  readonly offset?: number;
  readonly inner?: number;
}

/** A graph with one of everything. */
function graphOf(parts: Parts = {}): Graph {
  const b = new GraphBuilder(parts.name ?? 'g', { opset: parts.opset ?? 18 });
  const x = b.input(parts.input ?? 'x', { dtype: 'f32', shape: [parts.size ?? 'n', 2] });
  const weight = b.constant('w', parts.weight ?? Tensor.of('f32', [1, 2]));
  const far = b.range('far', { dtype: 'f32', shape: [2] }, { offset: parts.offset ?? 0, length: 8 });
  const node = (op: string, inputs: readonly number[], attributes: Readonly<Record<string, Attribute>> = {}): number =>
    b.node({ op, inputs, attributes })[0]!;
  const sum = node('Add', [node('Mul', [x, weight]), far]);
  const y = node(parts.op ?? 'LeakyRelu', [sum], parts.op ? {} : (parts.attributes ?? { alpha: 0.5 }));
  const branch = (value: number): Graph => {
    const inner = new GraphBuilder('branch', { within: b });
    inner.output(inner.constant('inner', Tensor.of('f32', value)));
    return inner.build();
  };
  const attributes = { then_branch: branch(parts.inner ?? 1), else_branch: branch(2) };
  const z = node('If', [b.constant('c', Tensor.of('bool', true))], attributes);
  b.output(parts.swapped ? z : y, parts.swapped ? undefined : { labels: parts.labels ?? ['yes', 'no'] });
  b.output(parts.swapped ? y : z, parts.swapped ? { labels: ['yes', 'no'] } : undefined);
  return b.build();
}

test('the digest of a graph is that of an equal one', () => {
  expect(graphDigest(graphOf())).toBe(graphDigest(graphOf()));
  expect(graphDigest(graphOf())).toMatch(/^[0-9a-f]{64}$/);
});

test.each<readonly [string, Parts]>([
  ['its name', { name: 'h' }],
  ['the name of an input', { input: 'image' }],
  ['a symbol', { size: 'm' }],
  ['a size', { size: 3 }],
  ['an operator', { op: 'Relu' }],
  ['an opset', { opset: 17 }],
  ['an attribute', { attributes: { alpha: 0.25 } }],
  ['an attribute that is left out', { attributes: {} }],
  ['the labels of an output', { labels: ['no', 'yes'] }],
  ['the order of outputs', { swapped: true }],
  ['an element of a constant', { weight: Tensor.of('f32', [1, 3]) }],
  ['the shape of a constant', { weight: Tensor.of('f32', [[1, 2]]) }],
  ['the place of a constant', { offset: 8 }],
  ['a constant of a subgraph', { inner: 3 }],
])('the digest changes with %s', (_, parts) => {
  expect(graphDigest(graphOf(parts))).not.toBe(graphDigest(graphOf()));
});

test('the digest tells numbers apart that JSON does not', () => {
  const { NaN: nan, POSITIVE_INFINITY: infinite, NEGATIVE_INFINITY: negative } = Number;
  const digests = [0, -0, nan, infinite, negative].map(alpha => graphDigest(graphOf({ attributes: { alpha } })));
  expect(new Set(digests).size).toBe(5);
});
