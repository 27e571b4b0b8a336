import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CloisterError } from '../../../../src/base/index.ts';
import { type Attribute, OPERATORS } from '../../../../src/graph/index.ts';
import { MATMUL_N_BITS } from '../../../../src/graph/ops/linear/matmul-n-bits.ts';
import type { AttributeSpec } from '../../../../src/graph/ops/operator.ts';
import { ATTENTION } from '../../../../src/graph/ops/transformer/attention.ts';
import { GROUP_QUERY_ATTENTION } from '../../../../src/graph/ops/transformer/group-query-attention.ts';
import { MICROSOFT_ATTENTION } from '../../../../src/graph/ops/transformer/microsoft-attention.ts';
import { MICROSOFT_FUSED } from '../../../../src/graph/ops/transformer/microsoft-fused.ts';
import { MICROSOFT_NORMALISATION } from '../../../../src/graph/ops/transformer/microsoft-normalisation.ts';
import { NORMALISATION } from '../../../../src/graph/ops/transformer/normalisation.ts';
import { NORMALISATION_GROUPS } from '../../../../src/graph/ops/transformer/normalisation-groups.ts';
import { ROTARY } from '../../../../src/graph/ops/transformer/rotary.ts';
import type { DType, Tensor } from '../../../../src/tensor/index.ts';
import { random, run } from '../one-node.ts';

const VERSIONS = [
  ...ATTENTION,
  ...GROUP_QUERY_ATTENTION,
  ...MATMUL_N_BITS,
  ...MICROSOFT_ATTENTION,
  ...MICROSOFT_FUSED,
  ...MICROSOFT_NORMALISATION,
  ...NORMALISATION,
  ...NORMALISATION_GROUPS,
  ...ROTARY,
].flatMap(({ domain, name, versions }) => versions.map(version => ({ domain, name, version })));

const integer = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: -3, max: 4 }) },
  { weight: 1, arbitrary: fc.constantFrom(2 ** 31, 2 ** 40, Number.MAX_SAFE_INTEGER, -(2 ** 31)) },
);
const real = fc.oneof(fc.double(), fc.constantFrom(0, 1, -1));

function attributeOf(spec: AttributeSpec): fc.Arbitrary<Attribute> {
  switch (spec.type) {
    case 'int':
      return integer;
    case 'float':
      return real;
    case 'ints':
      return fc.array(integer, { maxLength: 5 });
    case 'floats':
      return fc.array(real, { maxLength: 3 });
    default:
      return fc.constantFrom('', 'Relu', 'Clip', 'linear', 'circular', 'SAME_UPPER', 'toString');
  }
}

const dtype: fc.Arbitrary<DType> = fc.oneof(
  { weight: 6, arbitrary: fc.constant('f32' as const) },
  { weight: 1, arbitrary: fc.constantFrom<DType>('f64', 'f16', 'bf16', 'i32', 'i64', 'u8', 'bool') },
);
/** Sizes that often agree by chance. */
const shape = fc.array(fc.constantFrom(0, 1, 2, 2, 2, 4), { maxLength: 5 });
const tensor = fc
  .tuple(dtype, shape, fc.nat(9))
  .map(([type, sizes, seed]) => (seed === 9 ? undefined : random(seed, sizes, 'f64').cast(type)));

function isGiven(entry: readonly [string, Attribute | undefined]): entry is readonly [string, Attribute] {
  return entry[1] !== undefined;
}

const application = fc.constantFrom(...VERSIONS).chain(({ domain, name, version }) => {
  const [least, most] = version.inputs;
  const attributes = Object.entries(version.attributes).map(([key, spec]) =>
    fc.option(attributeOf(spec), { nil: undefined, freq: spec.required ? 50 : 1 }).map(value => [key, value] as const),
  );
  return fc.record({
    domain: fc.constant(domain),
    name: fc.constant(name),
    opset: fc.constant(version.since),
    inputs: fc.array(tensor, { minLength: least, maxLength: most }),
    outputs: fc.integer({ min: 1, max: version.outputs[1] }),
    attributes: fc.tuple(...attributes).map(entries => Object.fromEntries(entries.filter(isGiven))),
  });
});

describe('operators of transformers', () => {
  test('are all in the table', () => {
    for (const { domain, name } of VERSIONS) expect(OPERATORS.has(`${domain}:${name}`)).toBe(true);
  });

  test('compute what inference says, or refuse by name, whatever they are given', () => {
    const outcomes = { computed: 0, refused: 0 };
    fc.assert(
      fc.property(application, ({ name, inputs, ...options }) => {
        try {
          run(name, inputs as readonly (Tensor | undefined)[], options);
          outcomes.computed++;
        } catch (error) {
          if (!(error instanceof CloisterError)) throw error;
          outcomes.refused++;
        }
      }),
      { numRuns: 20000 },
    );
    // Both happen often enough for the property to say something.
    expect(outcomes.computed).toBeGreaterThan(200);
    expect(outcomes.refused).toBeGreaterThan(200);
  });
});
