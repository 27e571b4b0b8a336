import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { referenceBackend } from '../../src/engine/index.ts';
import {
  bytesSource,
  type ExternalData,
  type ModelSource,
  parseOnnx,
  parseTensorProto,
  withExternalData,
  writeOnnx,
} from '../../src/formats/index.ts';
import { type Graph, GraphBuilder, isGraph } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { cut, FUZZ_TIMEOUT_MS, flipped, runsOf, spliced, typedWithin } from './fuzz.ts';
import { field, message, model, node, port } from './onnx-bytes.ts';

/** A model with most shapes of message in it: ports, symbols, weights, typed and raw constants, every kind of attribute. */
function sample(): Uint8Array {
  const b = new GraphBuilder('fuzz', { opset: 17 });
  const x = b.input('x', { dtype: 'f32', shape: ['N', 1, 8, 8] });
  const w = b.constant(
    'w',
    Tensor.from(
      'f32',
      [4, 1, 3, 3],
      Float32Array.from({ length: 36 }, (_, i) => i / 36),
    ),
  );
  const conv = b.node({
    op: 'Conv',
    inputs: [x, w],
    attributes: { pads: [1, 1, 1, 1], auto_pad: 'NOTSET', group: 1 },
  })[0]!;
  const act = b.node({ op: 'LeakyRelu', inputs: [conv], attributes: { alpha: 0.1 } })[0]!;
  const pool = b.node({ op: 'MaxPool', inputs: [act], attributes: { kernel_shape: [2, 2], strides: [2, 2] } })[0]!;
  const flat = b.node({ op: 'Reshape', inputs: [pool, b.constant('shape', Tensor.of('i64', [-1, 64]))] })[0]!;
  const fc = b.constant('fc', Tensor.from('f32', [64, 2], new Float32Array(128).fill(0.5)));
  const bias = b.node({
    op: 'ConstantOfShape',
    inputs: [b.constant('ten', Tensor.of('i64', [2]))],
    attributes: { value: Tensor.of('f32', [1]) },
  })[0]!;
  b.output(b.node({ op: 'Gemm', inputs: [flat, fc, bias], outputs: ['y'] })[0]!);
  return writeOnnx(b.build());
}

const rawFloats = (...values: readonly number[]): Uint8Array => new Uint8Array(Float32Array.from(values).buffer);
const initialiser = (name: string, ...more: readonly Uint8Array[]): Uint8Array =>
  field(5, message(field(1, 2), field(2, 1), field(8, name), ...more));
const attribute = (name: string, type: number, ...more: readonly Uint8Array[]): Uint8Array =>
  field(5, message(field(1, name), ...more, field(20, type)));
const branch = (name: string, ...graph: readonly Uint8Array[]): Uint8Array =>
  attribute(name, 5, field(6, message(...graph)));

/** An If in an If, whose branches capture values of both graphs around them. */
function conditional(): Uint8Array {
  const leaf = (op: string): readonly Uint8Array[] => [
    field(1, node('Add', ['x', 'w'], ['sum'])),
    field(1, node(op, ['sum'], ['out'])),
    field(12, port('out')),
  ];
  const inner = node('If', ['c'], ['z'], branch('then_branch', ...leaf('Neg')), branch('else_branch', ...leaf('Abs')));
  const outer = [
    initialiser('own', field(9, rawFloats(5, 6))),
    field(1, inner),
    field(1, node('Mul', ['z', 'own'], ['t'])),
  ];
  return model([
    field(
      1,
      node(
        'If',
        ['c'],
        ['y'],
        branch('then_branch', ...outer, field(12, port('t'))),
        branch('else_branch', ...leaf('Identity')),
      ),
    ),
    initialiser('w', field(9, rawFloats(1, 2))),
    field(11, port('c', 9, [])),
  ]);
}

/** A function that calls another and hands on an attribute, called twice. */
function functional(): Uint8Array {
  const ours = field(7, 'ours');
  const opsets = [field(9, message(field(1, ''), field(2, 13))), field(9, message(field(1, 'ours'), field(2, 1)))];
  const leak = node('LeakyRelu', ['a'], ['b'], field(5, message(field(1, 'alpha'), field(21, 'slope'), field(20, 1))));
  const slope = field(11, message(field(1, 'slope'), Uint8Array.of(2 * 8 + 5), rawFloats(0.25), field(20, 1)));
  const soften = [
    field(1, 'Soften'),
    field(4, 'a'),
    field(5, 'b'),
    field(7, leak),
    slope,
    ...opsets,
    field(10, 'ours'),
  ];
  const call = node('Soften', ['p'], ['q'], ours);
  const twice = [
    field(1, 'Twice'),
    field(4, 'p'),
    field(5, 'r'),
    field(7, call),
    field(7, node('Add', ['q', 'q'], ['r'])),
    ...opsets,
    field(10, 'ours'),
  ];
  return model(
    [field(1, node('Twice', ['x'], ['t'], ours)), field(1, node('Soften', ['t'], ['y'], ours))],
    field(8, message(field(1, 'ours'), field(2, 1))),
    field(25, message(...soften)),
    field(25, message(...twice)),
  );
}

const BESIDE = bytesSource(rawFloats(...Array.from({ length: 64 }, (_, i) => i)));

/** Weights in the file beside the model, one so small that it is read at once. */
function external(): Uint8Array {
  const entry = (key: string, value: string): Uint8Array => field(13, message(field(1, key), field(2, value)));
  const outside = (name: string, offset: string): Uint8Array =>
    initialiser(name, entry('location', 'w.bin'), entry('offset', offset), entry('length', '8'), field(14, 1));
  const large = message(field(1, 32), field(2, 1), field(8, 'large'), entry('location', 'w.bin'), field(14, 1));
  return model([
    field(1, node('Add', ['x', 'a'], ['s'])),
    field(1, node('ReduceSum', ['large'], ['total'], attribute('keepdims', 2, field(3, 0)))),
    field(1, node('Mul', ['s', 'total'], ['y'])),
    outside('a', '16'),
    field(5, large),
  ]);
}

/** A linear classifier whose scores are read as maps. */
function zipMap(): Uint8Array {
  const labels = attribute('classlabels_strings', 8, field(9, 'no'), field(9, 'yes'));
  const floats = (name: string, ...values: readonly number[]): Uint8Array =>
    attribute(name, 6, field(7, rawFloats(...values)));
  const ml = field(7, 'ai.onnx.ml');
  const classify = node(
    'LinearClassifier',
    ['rows'],
    ['label', 'scores'],
    ml,
    attribute('classlabels_ints', 7, field(8, Uint8Array.of(0, 1))),
    floats('coefficients', 1, -1, 0.5, 2),
    floats('intercepts', 0, 1),
    attribute('post_transform', 3, field(4, 'SOFTMAX')),
  );
  const map = message(
    field(1, 'maps'),
    field(2, message(field(5, message(field(1, 8), field(2, field(1, message(field(1, 1)))))))),
  );
  return message(
    field(8, field(2, 13)),
    field(8, message(field(1, 'ai.onnx.ml'), field(2, 3))),
    field(
      7,
      message(
        field(1, classify),
        field(1, node('ZipMap', ['scores'], ['maps'], ml, labels)),
        field(11, port('rows', 1, ['n', 2])),
        field(12, port('label', 7, ['n'])),
        field(12, map),
      ),
    ),
  );
}

function open(bytes: Uint8Array): ModelSource & ExternalData {
  return withExternalData(bytesSource(bytes), location => (location.includes('w') ? BESIDE : undefined));
}

/** The reader may give a graph or a CloisterError, and takes at most `limitMs`. */
function readWithin(limitMs: number, bytes: Uint8Array): void {
  const source = open(bytes);
  const graph = typedWithin(limitMs, () => parseOnnx(source, { external: source }));
  if (graph) expect(graph.outputs.length).toBeGreaterThan(0);
}

const structured = [conditional(), functional(), external(), zipMap()];
const seeds = [sample(), ...structured];
const corpus = process.env['CLOISTER_CORPUS'];
if (corpus) {
  for (const name of ['mnist-8', 'mnist-cnn-pytorch', 'silero-vad']) {
    seeds.push(readFileSync(join(corpus, 'models', name, 'model.onnx')));
  }
  const cases = readdirSync(join(corpus, 'onnx/node')).filter((_, i) => i % 20 === 0);
  for (const name of cases) seeds.push(readFileSync(join(corpus, 'onnx/node', name, 'model.onnx')));
}

const seed = fc.constantFrom(...seeds);
const tensorProto = message(field(1, 2), field(2, 1), field(4, rawFloats(1, 2)), field(8, 'w'));
const LIMIT_MS = 2000; // generous: these files parse in a few milliseconds, on a machine that is not ours

test('the files that damage is done to are models, with all that the reader knows of', () => {
  const graphs = structured.map(bytes => {
    const source = open(bytes);
    return { graph: parseOnnx(source, { external: source }), source };
  });
  const ops = ({ nodes }: Graph): readonly string[] => nodes.map(({ op }) => op);
  const [branches, calls, outside, labelled] = graphs.map(({ graph }) => graph) as [Graph, Graph, Graph, Graph];
  const inner = branches.nodes[0]!.attributes['then_branch'];
  expect(isGraph(inner) && ops(inner)).toEqual(['If', 'Mul']);
  expect(ops(calls)).toEqual(['LeakyRelu', 'Add', 'LeakyRelu']);
  expect([...outside.constants.values()].map(({ kind }) => kind).sort()).toEqual(['inline', 'range']);
  expect(labelled.maps.size).toBe(1);
  expect(graphs.map(({ graph, source }) => runs(graph, source))).toEqual([true, true, true, true]);
});

describe('any bytes give a graph or a typed error', () => {
  const readable = (files: fc.Arbitrary<Uint8Array>, usual: number): void =>
    fc.assert(
      fc.property(files, bytes => readWithin(LIMIT_MS, bytes)),
      { numRuns: runsOf(usual) },
    );
  const small = fc.constantFrom(...structured);

  test.each<readonly [string, fc.Arbitrary<Uint8Array>, number]>([
    ['random', fc.uint8Array({ maxLength: 2000 }), 2000],
    ['a model with bits flipped', flipped(seed, 8), 3000],
    ['a model with subgraphs, functions, external data or maps with bits flipped', flipped(small, 4), 4000],
    ['a model cut short', cut(seed), 1000],
    ['a piece of one model inside another', spliced(seed), 1500],
    ['a piece of a model with subgraphs and the like inside another', spliced(small), 2000],
  ])('%s', (_, files, usual) => readable(files, usual), FUZZ_TIMEOUT_MS);

  test('every byte of a small model set to values that mean much', () => {
    for (const bytes of [sample(), ...structured]) {
      for (let at = 0; at < bytes.length; at++) {
        for (const value of [0, 0x7f, 0x80, 0xff]) {
          const copy = new Uint8Array(bytes);
          copy[at] = value;
          readWithin(LIMIT_MS, copy);
        }
      }
    }
  });

  test(
    'as a TensorProto',
    () => {
      const bytes = fc.oneof(fc.uint8Array({ maxLength: 200 }), flipped(fc.constant(tensorProto), 4));
      fc.assert(
        fc.property(bytes, value => {
          typedWithin(LIMIT_MS, () => parseTensorProto(bytesSource(value)));
        }),
        { numRuns: runsOf(2000) },
      );
    },
    FUZZ_TIMEOUT_MS,
  );
});

/** Whether a graph runs, on zeros of the sizes that it asks for. */
function runs(graph: Graph, source: ModelSource): boolean {
  const ran = typedWithin(LIMIT_MS, () => {
    const executable = referenceBackend.prepare(graph, { constants: source, limitBytes: 2 ** 24 });
    const inputs = graph.inputs.map(id => {
      const { name, facts } = graph.values[id]!;
      const shape = facts.shape.map(dim => (typeof dim === 'number' ? Math.min(dim, 64) : 2));
      return [name, Tensor.zeros(facts.dtype, shape)] as const;
    });
    return executable.runSync(Object.fromEntries(inputs));
  });
  return ran !== undefined;
}

test.each([
  ['of layers', [sample()], 1500],
  ['with subgraphs, functions, external data or maps', structured, 2000],
] as const)(
  'a graph that a damaged file %s gives runs, or is refused by type',
  (_, files, usual) => {
    let ran = 0;
    fc.assert(
      fc.property(flipped(fc.constantFrom(...files), 2), bytes => {
        const source = open(bytes);
        const graph = typedWithin(LIMIT_MS, () => parseOnnx(source, { external: source }));
        if (graph && runs(graph, source)) ran++;
      }),
      { numRuns: runsOf(usual) },
    );
    expect(ran).toBeGreaterThan(runsOf(usual) / 20); // the property is not vacuous
  },
  FUZZ_TIMEOUT_MS,
);

test('a chain that doubles a symbolic size at each node stays cheap', () => {
  const b = new GraphBuilder('g', { opset: 17 });
  let x = b.input('x', { dtype: 'f32', shape: ['N'] });
  for (let i = 0; i < 2000; i++) x = b.node({ op: 'Concat', inputs: [x, x], attributes: { axis: 0 } })[0]!;
  b.output(x);
  readWithin(LIMIT_MS, writeOnnx(b.build()));
});
