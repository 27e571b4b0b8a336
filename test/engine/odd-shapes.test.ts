import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { forceIsa, kernelInfo } from '../../native/index.ts';
import { loadBinding } from '../../native/loader.ts';
import { openProgramHost } from '../../native/program-host.ts';
import { isCloisterError } from '../../src/base/index.ts';
import { nativeBackend, referenceBackend } from '../../src/engine/index.ts';
import { type Attribute, type Graph, GraphBuilder, type ValueId } from '../../src/graph/index.ts';
import { elementCount, Tensor } from '../../src/tensor/index.ts';
import { noFile } from '../native/program-seeds.ts';

const SPECIAL = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0, 0];

/** Small numbers; where `special` is over 0, about one in that many is NaN, an infinity or a zero. */
function tensor(shape: readonly number[], seed: number, special: number): Tensor {
  const values = Float32Array.from({ length: elementCount(shape) }, (_, i) => {
    const mixed = Math.imul((i + 1) * 0x9e3779b1 + seed, 0x85ebca6b) >>> 8;
    return special > 0 && mixed % special === 0 ? SPECIAL[(mixed >>> 5) % SPECIAL.length]! : (mixed % 1000) / 250 - 2;
  });
  return Tensor.from('f32', shape, values);
}

/** One node over `shapes`: each an input, or a constant where `fixed` says so. */
interface Case {
  readonly op: string;
  readonly opset: number;
  readonly shapes: readonly (readonly number[])[];
  readonly fixed: readonly boolean[];
  readonly attributes: Readonly<Record<string, Attribute>>;
  readonly special: number;
  readonly seed: number;
  /** Followed by a Relu, which the native backend may compute with the node. */
  readonly relu: boolean;
}

function build({ op, opset, shapes, fixed, attributes, special, seed, relu }: Case): Graph {
  const b = new GraphBuilder('odd', { opset });
  const ids = shapes.map((shape, i) =>
    fixed[i] ? b.constant(`c${i}`, tensor(shape, seed + i, special)) : b.input(`x${i}`, { dtype: 'f32', shape }),
  );
  let out: ValueId = b.node({ op, inputs: ids, attributes })[0]!;
  if (relu) out = b.node({ op: 'Relu', inputs: [out] })[0]!;
  b.output(out);
  return b.build();
}

const size = (min: number, max: number) => fc.integer({ min, max });
const flag = fc.boolean();
const common = {
  special: fc.constantFrom(0, 0, 7, 3),
  seed: fc.nat(1000),
  relu: flag,
  fixed: fc.tuple(flag, flag, flag),
};

/** Geometry of one to two axes, from a few sizes that suit either. */
const geometry = fc.record({
  axes: size(1, 2),
  spatial: fc.tuple(size(1, 9), size(1, 9)),
  kernel: fc.tuple(size(1, 4), size(1, 4)),
  strides: fc.tuple(size(1, 4), size(1, 4)),
  dilations: fc.tuple(size(1, 3), size(1, 3)),
  pads: fc.tuple(size(0, 3), size(0, 3), size(0, 3), size(0, 3)),
  auto: fc.constantFrom('NOTSET', 'NOTSET', 'NOTSET', 'SAME_UPPER', 'SAME_LOWER', 'VALID'),
});

const windowed = fc
  .record({
    ...common,
    g: geometry,
    kind: fc.constantFrom('Conv', 'MaxPool', 'AveragePool'),
    batch: size(0, 2),
    groups: size(1, 4),
    perGroup: size(1, 3),
    outPerGroup: size(1, 9),
    bias: flag,
    ceil: flag,
    includePad: flag,
  })
  .map(({ g, kind, batch, groups, perGroup, outPerGroup, bias, ceil, includePad, ...rest }): Case => {
    const cut = (list: readonly number[]): number[] => list.slice(0, g.axes);
    const pads = [...cut(g.pads), ...g.pads.slice(2, 2 + g.axes)];
    const attributes: Record<string, Attribute> = {
      strides: cut(g.strides),
      dilations: cut(g.dilations),
      ...(g.auto === 'NOTSET' ? { pads } : { auto_pad: g.auto }),
    };
    const x = [batch, groups * perGroup, ...cut(g.spatial)];
    if (kind !== 'Conv') {
      attributes['kernel_shape'] = cut(g.kernel);
      attributes['ceil_mode'] = Number(ceil);
      if (kind === 'AveragePool') attributes['count_include_pad'] = Number(includePad);
      return { op: kind, opset: 19, shapes: [x], attributes, ...rest, fixed: [false] };
    }
    attributes['group'] = groups;
    const w = [groups * outPerGroup, perGroup, ...cut(g.kernel)];
    return { op: kind, opset: 19, shapes: [x, w, ...(bias ? [[w[0]!]] : [])], attributes, ...rest };
  });

const product = fc
  .record({
    ...common,
    m: size(0, 5),
    n: size(0, 35),
    k: size(0, 5),
    transA: flag,
    transB: flag,
    alpha: fc.constantFrom(1, 1, 0.5, -2, 0),
    beta: fc.constantFrom(1, 1, 0, 0.25, -1),
    c: fc.constantFrom('none', 'scalar', 'one', 'n', '1n', 'm1', 'mn', '11'),
  })
  .map(({ m, n, k, transA, transB, alpha, beta, c, ...rest }): Case => {
    const cs: Record<string, number[] | undefined> = {
      scalar: [],
      one: [1],
      n: [n],
      '1n': [1, n],
      m1: [m, 1],
      mn: [m, n],
      '11': [1, 1],
    };
    const bias = cs[c];
    return {
      op: 'Gemm',
      opset: 13,
      shapes: [transA ? [k, m] : [m, k], transB ? [n, k] : [k, n], ...(bias === undefined ? [] : [bias])],
      attributes: { transA: Number(transA), transB: Number(transB), alpha, beta },
      ...rest,
    };
  });

const matmul = fc
  .record({
    ...common,
    lead: fc.array(size(0, 3), { maxLength: 2 }),
    drop: fc.constantFrom('none', 'none', 'a', 'b', 'onesA', 'onesB', 'rowA', 'columnB'),
    m: size(1, 4),
    n: size(1, 18),
    k: size(0, 4),
  })
  .map(({ lead, drop, m, n, k, ...rest }): Case => {
    const ones = lead.map(() => 1);
    const a = drop === 'rowA' ? [k] : [...(drop === 'a' ? [] : drop === 'onesA' ? ones : lead), m, k];
    const b = drop === 'columnB' ? [k] : [...(drop === 'b' ? [] : drop === 'onesB' ? ones : lead), k, n];
    return { op: 'MatMul', opset: 13, shapes: [a, b], attributes: {}, ...rest };
  });

const alongAxis = fc
  .record({
    ...common,
    op: fc.constantFrom('Softmax', 'LogSoftmax', 'ReduceSum', 'ReduceMean', 'ReduceMax', 'ReduceMin', 'GlobalMaxPool'),
    opset: fc.constantFrom(8, 11, 13),
    shape: fc.array(size(0, 5), { minLength: 1, maxLength: 4 }),
    axis: size(-4, 3),
    keep: flag,
  })
  .map(({ op, opset, shape, axis, keep, ...rest }): Case => {
    const at = Math.max(-shape.length, Math.min(axis, shape.length - 1));
    const version = op.startsWith('Reduce') ? 11 : opset;
    const attributes: Record<string, Attribute> =
      op === 'GlobalMaxPool' ? {} : op.startsWith('Reduce') ? { axes: [at], keepdims: Number(keep) } : { axis: at };
    return { op, opset: version, shapes: [shape], attributes, ...rest, fixed: [false] };
  });

const elementwise = fc
  .record({
    ...common,
    op: fc.constantFrom('Relu', 'LeakyRelu', 'Clip', 'Min', 'Max', 'Div', 'Sqrt', 'Log', 'Exp', 'Sigmoid', 'Tanh'),
    shape: fc.array(size(0, 5), { maxLength: 3 }),
    lo: fc.constantFrom(-1, 0.5, -Infinity, Number.NaN),
    hi: fc.constantFrom(1, -0.5, Infinity, Number.NaN),
  })
  .map(({ op, shape, lo, hi, ...rest }): Case => {
    const two = ['Min', 'Max', 'Div'].includes(op);
    const shapes = two ? [shape, shape.map((dim, i) => (i === 0 ? 1 : dim))] : [shape];
    // Old forms, in which the bounds are attributes.
    const attributes: Record<string, Attribute> = op === 'Clip' ? { min: lo, max: hi } : {};
    return { op, opset: op === 'Clip' ? 6 : 13, shapes, attributes, ...rest, fixed: [false, rest.fixed[1]] };
  });

const same = (want: number, got: number): boolean =>
  Number.isFinite(want) ? Math.abs(got - want) <= 2e-5 * (1 + Math.abs(want)) : Object.is(want, got);

const families = { windowed, product, matmul, alongAxis, elementwise };

const rows = kernelInfo()?.supported ?? [];

// Without native kernels the cases are counted as skipped.
describe.each(rows.length > 0 ? rows : ['a machine without kernels'])('on %s', isa => {
  beforeAll(() => forceIsa(isa));
  afterAll(() => forceIsa(null));

  test.skipIf(rows.length === 0).each(Object.entries(families))(
    '%s, in odd shapes and with odd numbers: native equals reference, or says what it does not run',
    (_, cases) => {
      const host = openProgramHost(loadBinding()!, { fill: 0xff });
      let ran = 0;
      fc.assert(
        fc.property(cases, one => {
          let graph: Graph;
          try {
            graph = build(one);
          } catch (error) {
            if (isCloisterError(error)) return; // shapes that do not fit together
            throw error;
          }
          const inputs = Object.fromEntries(
            graph.inputs.map((id, i) => {
              const { name, facts } = graph.values[id]!;
              return [name, tensor(facts.shape as readonly number[], one.seed + 10 * i, one.special)];
            }),
          );
          const expected = referenceBackend.prepare(graph, { constants: noFile }).runSync(inputs);
          let executable: ReturnType<typeof referenceBackend.prepare>;
          try {
            executable = nativeBackend(host).prepare(graph, { constants: noFile });
          } catch (error) {
            if (isCloisterError(error, 'UNSUPPORTED_MODEL')) return;
            throw error;
          }
          const outputs = executable.runSync(inputs);
          executable.close();
          ran++;
          for (const [name, want] of Object.entries(expected)) {
            const got = outputs[name]!;
            expect(got.shape).toEqual(want.shape);
            const [a, b] = [want.values() as number[], got.values() as number[]];
            const off = a.findIndex((value, i) => !same(value, b[i]!));
            expect({ off, want: a[off], got: b[off] }).toEqual({ off: -1, want: undefined, got: undefined });
          }
        }),
        { numRuns: Number(process.env['CLOISTER_PROPERTY_RUNS'] ?? 400) },
      );
      expect(ran).toBeGreaterThan(50);
    },
  );
});
