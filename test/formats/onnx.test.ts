import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { CloisterError, concatBytes, type ErrorCode, encodeUtf8 } from '../../src/base/index.ts';
import { referenceBackend } from '../../src/engine/index.ts';
import {
  bytesSource,
  type ModelSource,
  parseOnnx,
  parseTensorProto,
  writeOnnx,
  writeTensorProto,
} from '../../src/formats/index.ts';
import { type Graph, GraphBuilder } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { findCases } from '../conformance/cases.ts';
import { field, message, node, port } from './onnx-bytes.ts';

const corpus = process.env['CLOISTER_CORPUS'];

/** What a call is refused with. */
function refusal(run: () => unknown): CloisterError {
  try {
    run();
  } catch (error) {
    if (error instanceof CloisterError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

/** A model of these graph fields, with input x and output y of shape [2]. */
function model(...graph: readonly Uint8Array[]): Uint8Array {
  const ports = [field(11, port('x')), field(12, port('y'))];
  return message(field(1, 8), field(8, field(2, 13)), field(7, message(...graph, ...ports)));
}

const parse = (bytes: Uint8Array): Graph => parseOnnx(bytesSource(bytes));

describe('parseOnnx', () => {
  const relu = field(1, node('Relu', ['x'], ['y']));

  test('reads a minimal model', () => {
    const graph = parse(model(relu));
    expect(graph.nodes.map(({ op, opset, name }) => ({ op, opset, name }))).toEqual([
      { op: 'Relu', opset: 13, name: 'Relu#0' },
    ]);
    expect(graph.values.map(value => value.name)).toEqual(['x', 'y']);
  });

  test('leaves weights in the file, and decodes what decides shapes', () => {
    const b = new GraphBuilder('g', { opset: 17 });
    const x = b.input('x', { dtype: 'f32', shape: ['N', 64] });
    const w = b.constant(
      'w',
      Tensor.from(
        'f32',
        [64, 4],
        Float32Array.from({ length: 256 }, (_, i) => i),
      ),
    );
    const y = b.node({ op: 'MatMul', inputs: [x, w] })[0]!;
    b.output(
      b.node({ op: 'Reshape', inputs: [y, b.constant('shape', Tensor.of('i64', [-1, 2]))], outputs: ['y'] })[0]!,
    );
    const bytes = writeOnnx(b.build());
    const reads: number[] = [];
    const inner = bytesSource(bytes);
    const source: ModelSource = {
      size: inner.size,
      read: (offset, length) => {
        reads.push(length);
        return inner.read(offset, length);
      },
    };
    const graph = parseOnnx(source);
    const constant = [...graph.constants].map(([id, { kind }]) => [graph.values[id]!.name, kind]);
    expect(constant).toEqual([
      ['w', 'range'],
      ['shape', 'inline'],
    ]);
    const range = graph.constants.get(graph.values.findIndex(value => value.name === 'w'))!;
    if (range.kind !== 'range') throw new Error('w is not a range');
    expect(Tensor.fromBytes('f32', [64, 4], source.read(range.offset, range.length)).values()[255]).toBe(255);
    expect(Math.max(...reads.slice(0, -1))).toBeLessThanOrEqual(32_768);
  });

  test('does not read a large blob at all', () => {
    const size = 2 ** 20;
    const b = new GraphBuilder('g');
    const x = b.input('x', { dtype: 'f32', shape: [size] });
    b.output(b.node({ op: 'Add', inputs: [x, b.constant('w', Tensor.zeros('f32', [size]))], outputs: ['y'] })[0]!);
    const inner = bytesSource(writeOnnx(b.build()));
    let read = 0;
    parseOnnx({
      size: inner.size,
      read: (offset, length) => {
        read += length;
        return inner.read(offset, length);
      },
    });
    expect(inner.size).toBeGreaterThan(4 * size);
    expect(read).toBeLessThan(200_000);
  });

  test('puts nodes in order, and refuses a cycle by name', () => {
    const shuffled = parse(model(field(1, node('Neg', ['t'], ['y'])), field(1, node('Relu', ['x'], ['t']))));
    expect(shuffled.nodes.map(({ op }) => op)).toEqual(['Relu', 'Neg']);
    const cycle = model(
      field(1, node('Add', ['x', 'y'], ['t'], field(3, 'a'))),
      field(1, node('Relu', ['t'], ['y'], field(3, 'b'))),
    );
    const error = refusal(() => parse(cycle));
    expect(error.code).toBe('INVALID_GRAPH');
    expect(error.message).toMatch(/"[ab]" needs its own result: the nodes have a cycle/);
  });

  test('lists every unsupported node in one error', () => {
    const error = refusal(() =>
      parse(
        model(
          field(1, node('Frob', ['x'], ['t'], field(3, 'f'))),
          field(1, node('Twist', ['t'], ['y'], field(3, 'g'))),
        ),
      ),
    );
    expect(error.code).toBe('UNSUPPORTED_MODEL');
    expect(error.detail).toMatchObject({ operators: ['Frob-13', 'Twist-13'], nodes: ['f', 'g'] });
  });

  const tensor = (...fields: readonly Uint8Array[]): Uint8Array => field(5, message(...fields, field(8, 'w')));
  const add = field(1, node('Add', ['x', 'w'], ['y']));
  const hostile: readonly (readonly [string, Uint8Array, ErrorCode, RegExp])[] = [
    ['nothing', new Uint8Array(0), 'INVALID_MODEL', /no graph/],
    ['text', encodeUtf8('<html>not a model</html>'), 'INVALID_MODEL', /at byte/],
    [
      'a length past the end',
      Uint8Array.of(0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f),
      'INVALID_MODEL',
      /passes the end of its message/,
    ],
    ['an endless varint', new Uint8Array(16).fill(0xff), 'INVALID_MODEL', /varint/],
    ['a group', Uint8Array.of(0x0b, 0x0c), 'INVALID_MODEL', /wire type 3/],
    ['two graphs', concatBytes(model(relu), model(relu)), 'INVALID_MODEL', /given twice/],
    ['a name that is not UTF-8', model(field(2, Uint8Array.of(0xff)), relu), 'INVALID_MODEL', /not UTF-8/],
    ['a value defined twice', model(relu, relu), 'INVALID_GRAPH', /"y" is defined twice/],
    ['an undefined input', model(field(1, node('Relu', ['z'], ['y']))), 'INVALID_GRAPH', /"z" is not defined/],
    ['an undefined output', model(field(1, node('Relu', ['x'], ['t']))), 'INVALID_GRAPH', /output "y" is not defined/],
    [
      'no opset',
      message(field(1, 8), field(7, message(relu, field(11, port('x')), field(12, port('y'))))),
      'INVALID_MODEL',
      /no opset/,
    ],
    [
      'a complex input',
      message(field(8, field(2, 13)), field(7, field(11, port('x', 14)))),
      'UNSUPPORTED_MODEL',
      /element type 14/,
    ],
    [
      'a contradicting output',
      model(field(1, node('Concat', ['x', 'x'], ['y'], field(5, message(field(1, 'axis'), field(3, 0)))))),
      'INVALID_GRAPH',
      /declared as f32\[2\] and is f32\[4\]/,
    ],
    ['weights without data', model(tensor(field(1, 2), field(2, 1)), add), 'INVALID_MODEL', /2 elements without data/],
    [
      'weights too short',
      model(tensor(field(1, 2), field(2, 1), field(9, new Uint8Array(7))), add),
      'INVALID_MODEL',
      /needs 8 bytes, got 7/,
    ],
    [
      'huge dimensions',
      model(tensor(field(1, 2 ** 31), field(1, 2 ** 31), field(2, 1), field(9, new Uint8Array(8))), add),
      'INVALID_MODEL',
      /too large/,
    ],
    [
      'an element count without bytes',
      model(tensor(field(1, 2 ** 30), field(2, 7), field(7, new Uint8Array(4))), add),
      'INVALID_MODEL',
      /with 4 bytes of data/,
    ],
    [
      'external data without a path',
      model(tensor(field(1, 2), field(2, 1), field(14, 1)), add),
      'INVALID_MODEL',
      /location/,
    ],
    [
      'external data that nobody gave',
      model(
        tensor(field(1, 2), field(2, 1), field(13, message(field(1, 'location'), field(2, 'w.bin'))), field(14, 1)),
        add,
      ),
      'INVALID_MODEL',
      /weights are in "w.bin": only the model file was given/,
    ],
    [
      'an attribute given twice',
      model(
        field(
          1,
          node(
            'Flatten',
            ['x'],
            ['y'],
            field(5, message(field(1, 'axis'), field(3, 1))),
            field(5, message(field(1, 'axis'), field(3, 0))),
          ),
        ),
      ),
      'INVALID_MODEL',
      /"axis" is given twice/,
    ],
    [
      'an attribute of another type',
      model(field(1, node('Flatten', ['x'], ['y'], field(5, message(field(1, 'axis'), field(4, 'one')))))),
      'INVALID_GRAPH',
      /attribute axis: expected int/,
    ],
  ];
  test.each(hostile)('refuses %s', (_, bytes, code, pattern) => {
    const error = refusal(() => parse(bytes));
    expect([error.code, error.message]).toEqual([code, expect.stringMatching(pattern)]);
  });

  test('keeps its limits', () => {
    const bytes = model(relu);
    for (const limit of ['bytes', 'nodes', 'ports', 'edges', 'stringBytes'] as const) {
      const error = refusal(() => parseOnnx(bytesSource(bytes), { limits: { [limit]: 0 } }));
      expect(error.code, limit).toBe('MODEL_TOO_LARGE');
    }
    const weights = model(tensor(field(1, 2), field(2, 1), field(9, new Uint8Array(8))), add);
    expect(refusal(() => parseOnnx(bytesSource(weights), { limits: { constants: 0 } })).code).toBe('MODEL_TOO_LARGE');
    expect(refusal(() => parseOnnx(bytesSource(weights), { limits: { inlineBytes: 7 } })).code).toBe('MODEL_TOO_LARGE');
  });

  test('reads unsigned integers of 64 bits from their field, the largest too', () => {
    const largest = Uint8Array.of(...new Array<number>(9).fill(255), 1);
    const bytes = message(field(1, 2), field(2, 13), field(11, concatBytes(largest, Uint8Array.of(5))));
    expect(parseTensorProto(bytesSource(bytes)).tensor.toArray()).toEqual([2n ** 64n - 1n, 5n]);
  });

  test('reads elements from typed fields as from raw bytes', () => {
    const typed = (type: number, ...data: readonly Uint8Array[]): unknown =>
      parseTensorProto(bytesSource(message(field(1, 2), field(2, type), ...data))).tensor.toArray();
    const floats = new Uint8Array(Float32Array.of(1.5, -2).buffer);
    expect(typed(1, field(4, floats))).toEqual([1.5, -2]);
    expect(typed(6, field(5, 3), field(5, 4))).toEqual([3, 4]);
    expect(typed(7, field(7, Uint8Array.of(5, 6)))).toEqual([5n, 6n]);
    expect(typed(10, field(5, message(Uint8Array.of(0x80, 0x78, 0x80, 0x08))))).toEqual([1, 2 ** -14]);
    expect(typed(9, field(9, Uint8Array.of(1, 0)))).toEqual([1, 0]);
    expect(refusal(() => typed(2, field(5, 300), field(5, 1))).message).toContain('300 is no u8');
    expect(refusal(() => typed(1, field(5, 1), field(5, 1))).code).toBe('INVALID_MODEL');
  });
});

describe('writeOnnx', () => {
  test('round-trips a TensorProto', () => {
    const tensor = Tensor.of('bf16', [
      [1, 2],
      [3, -0.5],
    ]);
    const { name, tensor: back } = parseTensorProto(bytesSource(writeTensorProto('t', tensor)));
    expect([name, back.dtype, back.toArray()]).toEqual(['t', 'bf16', tensor.toArray()]);
  });

  test('refuses opsets that one file cannot hold, and ranges without their file', () => {
    const b = new GraphBuilder('g');
    const x = b.input('x', { dtype: 'f32', shape: [1, 2] });
    const w = b.range('w', { dtype: 'f32', shape: [2] }, { offset: 0, length: 8 });
    const t = b.node({ op: 'Add', inputs: [x, w], opset: 13 })[0]!;
    b.output(t);
    expect(refusal(() => writeOnnx(b.build())).message).toContain('pass the file');
    // Softmax took another default axis at opset 13; Relu means the same at both.
    const soft = b.node({ op: 'Softmax', inputs: [t], opset: 12, name: 'old' })[0]!;
    b.output(b.node({ op: 'Relu', inputs: [soft], opset: 14 })[0]!);
    const { code, message } = refusal(() => writeOnnx(b.build(), { constants: bytesSource(new Uint8Array(8)) }));
    expect([code, message]).toEqual(['INVALID_ARGUMENT', expect.stringContaining('Softmax "old" is of opset 12')]);
  });

  test('writes nodes of several opsets as one that means the same', () => {
    const b = new GraphBuilder('g');
    const x = b.input('x', { dtype: 'f32', shape: [2] });
    const y = b.node({ op: 'Relu', inputs: [x], opset: 6 })[0]!;
    b.output(
      b.node({ op: 'LayerNormalization', inputs: [y, b.constant('w', Tensor.of('f32', [1, 2]))], opset: 17 })[0]!,
    );
    const back = parse(writeOnnx(b.build()));
    expect(back.nodes.map(({ op, opset }) => [op, opset])).toEqual([
      ['Relu', 17],
      ['LayerNormalization', 17],
    ]);
  });
});

/** What must survive a round trip. Ranges move, so constants are compared by their elements. */
function essence(graph: Graph, source: ModelSource): unknown {
  const elements = [...graph.constants].map(([id, constant]) => {
    const { dtype, shape } = graph.values[id]!.facts;
    if (constant.kind === 'inline') return [graph.values[id]!.name, dtype, constant.tensor.toBytes()];
    const bytes = source.read(constant.offset, constant.length);
    return [graph.values[id]!.name, dtype, Tensor.fromBytes(dtype, shape as readonly number[], bytes).toBytes()];
  });
  const name = (id: number | undefined): string | undefined => (id === undefined ? undefined : graph.values[id]!.name);
  const nodes = graph.nodes.map(({ inputs, outputs, attributes, ...rest }) => ({
    ...rest,
    inputs: inputs.map(name),
    outputs: outputs.map(name),
    attributes: Object.fromEntries(
      Object.entries(attributes).map(([key, value]) => [key, value instanceof Tensor ? value.toArray() : value]),
    ),
  }));
  const facts = Object.fromEntries(graph.values.map(value => [value.name, value.facts]));
  return { name: graph.name, nodes, inputs: graph.inputs.map(name), outputs: graph.outputs.map(name), elements, facts };
}

describe.skipIf(!corpus)('the corpus', () => {
  const models = corpus
    ? readdirSync(join(corpus, 'models')).map(name => join(corpus, 'models', name, 'model.onnx'))
    : [];
  const files = corpus
    ? [
        ...models.filter(file => existsSync(file)),
        ...findCases(join(corpus, 'onnx')).map(({ path }) => join(path, 'model.onnx')),
      ]
    : [];

  test('is read, or refused as unsupported, and what is read survives being written', () => {
    let read = 0;
    for (const file of files) {
      const source = bytesSource(readFileSync(file));
      let graph: Graph;
      try {
        graph = parseOnnx(source);
      } catch (error) {
        if (error instanceof CloisterError && error.code === 'UNSUPPORTED_MODEL') continue;
        throw new Error(`${file}: ${String(error)}`, { cause: error });
      }
      read++;
      const again = bytesSource(writeOnnx(graph, { constants: source }));
      expect(essence(parseOnnx(again), again), file).toEqual(essence(graph, source));
    }
    expect(files.length).toBeGreaterThan(700);
    expect(read).toBeGreaterThan(500);
  });

  test('is written so that it computes the same', async () => {
    const source = bytesSource(readFileSync(join(corpus!, 'models/mnist-cnn-pytorch/model.onnx')));
    const graph = parseOnnx(source);
    const again = bytesSource(writeOnnx(graph, { constants: source }));
    const x = Tensor.from(
      'f32',
      [1, 1, 28, 28],
      Float32Array.from({ length: 784 }, (_, i) => Math.sin(i)),
    );
    const [first, second] = [
      referenceBackend.prepare(graph, { constants: source }).runSync({ 0: x }),
      referenceBackend.prepare(parseOnnx(again), { constants: again }).runSync({ 0: x }),
    ];
    expect(second['21']!.toArray()).toEqual(first['21']!.toArray());
  });
});
