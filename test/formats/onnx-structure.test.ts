import { describe, expect, test } from 'vitest';
import { CloisterError } from '../../src/base/index.ts';
import { referenceBackend } from '../../src/engine/index.ts';
import { bytesSource, type OnnxOptions, parseOnnx, withExternalData, writeOnnx } from '../../src/formats/index.ts';
import { type Graph, GraphBuilder } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { field, message, model, node, port } from './onnx-bytes.ts';

const parse = (bytes: Uint8Array, options?: OnnxOptions): Graph => parseOnnx(bytesSource(bytes), options);

function run(bytes: Uint8Array, inputs: Readonly<Record<string, Tensor>>): Record<string, unknown> {
  const constants = bytesSource(bytes);
  const outputs = referenceBackend.prepare(parse(bytes), { constants }).runSync(inputs);
  return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, tensor.toArray()]));
}

function codeOf(call: () => unknown): string {
  try {
    call();
    return 'nothing was refused';
  } catch (error) {
    if (error instanceof CloisterError) return `${error.code}: ${error.message}`;
    throw error;
  }
}

const again = (bytes: Uint8Array): Uint8Array => writeOnnx(parse(bytes), { constants: bytesSource(bytes) });
const floats = (name: string, ...values: readonly number[]): Uint8Array =>
  message(
    field(1, values.length),
    field(2, 1),
    field(8, name),
    field(9, new Uint8Array(Float32Array.from(values).buffer)),
  );
const graphAttribute = (name: string, ...graph: readonly Uint8Array[]): Uint8Array =>
  field(5, message(field(1, name), field(6, message(...graph)), field(20, 5)));
const reference = (name: string, of: string, type: number): Uint8Array =>
  field(5, message(field(1, name), field(21, of), field(20, type)));
const intAttribute = (name: string, value: number): Uint8Array =>
  field(5, message(field(1, name), field(3, value), field(20, 2)));

describe('subgraphs', () => {
  /** y = c ? x + w : -(x + w), where w is outside and both branches name their values alike. */
  const branch = (op: string): readonly Uint8Array[] => [
    field(1, node('Add', ['x', 'w'], ['sum'])),
    field(1, node(op, ['sum'], ['out'])),
    field(12, port('out')),
  ];
  const conditional = model([
    field(
      1,
      node(
        'If',
        ['c'],
        ['y'],
        graphAttribute('then_branch', ...branch('Identity')),
        graphAttribute('else_branch', ...branch('Neg')),
      ),
    ),
    field(5, floats('w', 10, 20)),
    field(11, port('c', 9, [])),
  ]);

  test.each([
    [1, [11, 22]],
    [0, [-11, -22]],
  ])('run the branch of condition %s over what they capture', (condition, y) => {
    const inputs = { x: Tensor.of('f32', [1, 2]), c: Tensor.of('bool', condition) };
    expect(run(conditional, inputs)).toEqual({ y });
    expect(run(again(conditional), inputs)).toEqual({ y });
  });

  test.each([true, false])(
    'step aside in a file, where names of the graphs around them are taken, on %s',
    condition => {
      // Every graph names its values alike: a subgraph sees nothing but its inputs here, and in a file all that is around it.
      const branch = (op: string, inner?: Graph): Graph => {
        const b = new GraphBuilder('branch', { opset: 17 });
        const [own, given] = ['y', "sum'"].map(name => b.input(name, { dtype: 'f32', shape: [2] }));
        const sum = b.node({ op, inputs: [own, given], outputs: ['sum'] })[0]!;
        const ten = b.constant('x', Tensor.of('f32', [10, 20]));
        const taken = b.node({ op: 'Mul', inputs: [sum, ten], outputs: ["sum''"] })[0]!;
        if (!inner) b.output(taken);
        else {
          const c = b.constant('c', Tensor.of('bool', condition));
          const branches = { then_branch: inner, else_branch: inner };
          b.output(b.node({ op: 'If', inputs: [c, sum, own], outputs: ['out'], attributes: branches })[0]!);
        }
        return b.build();
      };
      const b = new GraphBuilder('outer', { opset: 17 });
      const c = b.input('c', { dtype: 'bool', shape: [] });
      const x = b.input('x', { dtype: 'f32', shape: [2] });
      const sum = b.node({ op: 'Add', inputs: [x, x], outputs: ['sum'] })[0]!;
      const attributes = { then_branch: branch('Sub', branch('Sub')), else_branch: branch('Add') };
      b.output(b.node({ op: 'If', inputs: [c, x, sum], outputs: ['y'], attributes })[0]!);
      b.output(sum);
      const graph = b.build();
      const source = bytesSource(writeOnnx(graph));
      const inputs = { c: Tensor.of('bool', condition), x: Tensor.of('f32', [1, 2]) };
      const [before, after] = [graph, parseOnnx(source)].map(each => {
        const results = referenceBackend.prepare(each, { constants: source }).runSync(inputs);
        return Object.fromEntries(Object.entries(results).map(([name, tensor]) => [name, tensor.toArray()]));
      });
      expect(before).toEqual({ y: condition ? [-20, -80] : [30, 120], sum: [2, 4] });
      expect(after).toEqual(before);
    },
  );

  test('have what they capture as inputs, in the order of the node', () => {
    const graph = parse(conditional);
    const [only] = graph.nodes;
    const named = only!.inputs.map(id => graph.values[id!]!.name);
    expect(named).toEqual(['c', 'x', 'w']);
    for (const branch of Object.values(only!.attributes) as readonly Graph[]) {
      expect(branch.inputs.map(id => branch.values[id]!.name)).toEqual(['x', 'w']);
      expect([...branch.constants]).toEqual([]);
    }
  });

  test('are written once and read the same', () => {
    const once = again(conditional);
    expect(again(once)).toEqual(once);
  });

  test('may be nested, and name every operator that is unknown in them', () => {
    const inner = graphAttribute('then_branch', field(1, node('Frob', ['x'], ['z'])), field(12, port('z')));
    const other = graphAttribute('else_branch', field(1, node('Neg', ['x'], ['z'])), field(12, port('z')));
    const nested = [field(1, node('If', ['c'], ['out'], inner, other)), field(12, port('out'))];
    const bytes = model([
      field(
        1,
        node(
          'If',
          ['c'],
          ['y'],
          graphAttribute('then_branch', ...nested),
          graphAttribute('else_branch', ...branch('Blur')),
        ),
      ),
      field(5, floats('w', 1, 1)),
      field(11, port('c', 9, [])),
    ]);
    expect(codeOf(() => parse(bytes))).toMatch(/UNSUPPORTED_MODEL: no kernel for Frob-13 Blur-13/);
  });

  test('deeper than the limit are refused, not followed', () => {
    let inside = [field(1, node('Neg', ['x'], ['z'])), field(12, port('z'))];
    for (let i = 0; i < 40; i++) {
      const both = ['then_branch', 'else_branch'].map((name, j) =>
        graphAttribute(name, ...(j === 0 ? inside : [field(1, node('Neg', ['x'], ['z'])), field(12, port('z'))])),
      );
      inside = [field(1, node('If', ['c'], ['z'], ...both)), field(12, port('z'))];
    }
    const bytes = model([...inside.slice(0, 1), field(1, node('Neg', ['z'], ['y'])), field(11, port('c', 9, []))]);
    expect(codeOf(() => parse(bytes))).toMatch(/UNSUPPORTED_MODEL: a subgraph more than 8 deep/);
  });

  test('whose branches differ in rank need the sizes that decide it', () => {
    const then = [
      field(1, node('ReduceSum', ['x'], ['out'], intAttribute('keepdims', 0))),
      field(12, port('out', 1, [])),
    ];
    const otherwise = [field(1, node('Identity', ['x'], ['out'])), field(12, port('out'))];
    const index = message(field(2, 7), field(8, 'zero'), field(7, Uint8Array.of(0)));
    const one = message(field(2, 7), field(8, 'one'), field(7, Uint8Array.of(1)));
    const bytes = message(
      field(8, field(2, 13)),
      field(
        7,
        message(
          field(1, node('Shape', ['x'], ['shape'])),
          field(1, node('Gather', ['shape', 'zero'], ['n'])),
          field(1, node('Equal', ['n', 'one'], ['c'])),
          field(
            1,
            node(
              'If',
              ['c'],
              ['y'],
              graphAttribute('then_branch', ...then),
              graphAttribute('else_branch', ...otherwise),
            ),
          ),
          field(5, index),
          field(5, one),
          field(11, port('x', 1, ['N'])),
          field(12, field(1, 'y')),
        ),
      ),
    );
    expect(codeOf(() => parse(bytes))).toMatch(
      /UNSUPPORTED_MODEL: If "If#3": output 0 has 0 dimensions .* fix them on import/,
    );
    const shapeFor = (N: number): unknown => {
      const graph = parse(bytes, { dims: { N } });
      return graph.values[graph.outputs[0]!]!.facts.shape;
    };
    expect([shapeFor(1), shapeFor(5)]).toEqual([[], [5]]);
    expect(codeOf(() => parse(bytes, { dims: { M: 1 } }))).toMatch(/INVALID_ARGUMENT: dimension "M"/);
    expect(parse(bytes, { dims: { N: 5 } }).nodes.map(({ op }) => op)).toEqual([
      'Shape',
      'Gather',
      'Equal',
      'Identity',
    ]);
  });

  test('whose condition is known give way to the branch, and the other need not fit', () => {
    const fits = [field(1, node('Neg', ['x'], ['out'])), field(12, port('out'))];
    const not = [field(1, node('Split', ['x'], ['a', 'b', 'out'])), field(12, port('out'))];
    const bytes = (condition: number): Uint8Array =>
      model([
        field(
          1,
          node('If', ['c'], ['y'], graphAttribute('then_branch', ...fits), graphAttribute('else_branch', ...not)),
        ),
        field(5, message(field(2, 9), field(8, 'c'), field(9, Uint8Array.of(condition)))),
      ]);
    expect(run(bytes(1), { x: Tensor.of('f32', [1, 2]) })).toEqual({ y: [-1, -2] });
    expect(codeOf(() => parse(bytes(0)))).toMatch(/^INVALID_GRAPH/);
  });

  test('may be nested, and capture what lies around both', () => {
    const inner = ['then_branch', 'else_branch'].map((name, i) =>
      graphAttribute(name, field(1, node(i === 0 ? 'Add' : 'Sub', ['x', 'w'], ['z'])), field(12, port('z'))),
    );
    const nested = [field(1, node('If', ['d'], ['out'], ...inner)), field(12, port('out'))];
    const otherwise = [field(1, node('Neg', ['x'], ['out'])), field(12, port('out'))];
    const both = [graphAttribute('then_branch', ...nested), graphAttribute('else_branch', ...otherwise)];
    const bytes = model([
      field(1, node('If', ['c'], ['y'], ...both)),
      field(5, floats('w', 10, 20)),
      field(11, port('c', 9, [])),
      field(11, port('d', 9, [])),
    ]);
    const x = Tensor.of('f32', [1, 2]);
    for (const file of [bytes, again(bytes)]) {
      const pick = (c: number, d: number): unknown =>
        run(file, { x, c: Tensor.of('bool', c), d: Tensor.of('bool', d) })['y'];
      expect([pick(1, 1), pick(1, 0), pick(0, 0)]).toEqual([
        [11, 22],
        [-9, -18],
        [-1, -2],
      ]);
    }
  });

  test('whose condition is known may give one value twice', () => {
    const twice = [field(1, node('Neg', ['x'], ['out'])), field(12, port('out')), field(12, port('out'))];
    const both = [graphAttribute('then_branch', ...twice), graphAttribute('else_branch', ...twice)];
    const bytes = model([
      field(1, node('If', ['c'], ['a', 'b'], ...both)),
      field(1, node('Mul', ['a', 'b'], ['y'])),
      field(5, message(field(2, 9), field(8, 'c'), field(9, Uint8Array.of(1)))),
    ]);
    expect(run(bytes, { x: Tensor.of('f32', [2, 3]) })).toEqual({ y: [4, 9] });
  });

  test('do not see what becomes of a value that was fixed on import', () => {
    const c = Tensor.of('bool', [1]).reshape([]);
    const w = Tensor.of('f32', [1, 2]);
    const graph = parse(conditional, { values: { c, x: w } });
    w.data[0] = 100;
    const { y } = referenceBackend.prepare(graph, { constants: bytesSource(conditional) }).runSync({});
    expect(y?.toArray()).toEqual([11, 22]);
  });

  test('may be decided by an input that is fixed on import', () => {
    const graph = parse(conditional, { values: { c: Tensor.of('bool', 0) } });
    expect(graph.nodes.map(({ op }) => op)).toEqual(['Add', 'Neg']);
    expect(graph.inputs.map(id => graph.values[id]!.name)).toEqual(['x']);
    const refused = (values: Readonly<Record<string, Tensor>>): string => codeOf(() => parse(conditional, { values }));
    expect(refused({ c: Tensor.of('f32', 0) })).toMatch(/INVALID_ARGUMENT: value "c": expected bool/);
    expect(refused({ d: Tensor.of('bool', 0) })).toMatch(/INVALID_ARGUMENT: value "d": no input/);
  });
});

describe('functions of a model', () => {
  /** scaled(a; by) = a * by + a, with by = 3 where a call gives none. */
  const scaled = field(
    25,
    message(
      field(1, 'Scaled'),
      field(10, 'mine'),
      field(4, 'a'),
      field(5, 'b'),
      field(7, node('Constant', [], ['k'], reference('value_float', 'by', 1))),
      field(7, node('Mul', ['a', 'k'], ['t'])),
      field(7, node('Add', ['t', 'a'], ['b'])),
      field(11, message(field(1, 'by'), Uint8Array.of(2 * 8 + 5, 0, 0, 64, 64), field(20, 1))),
      field(9, field(2, 13)),
    ),
  );
  const call = (input: string, output: string, ...more: readonly Uint8Array[]): Uint8Array =>
    field(1, node('Scaled', [input], [output], field(7, 'mine'), ...more));
  const by5 = field(5, message(field(1, 'by'), Uint8Array.of(2 * 8 + 5, 0, 0, 160, 64), field(20, 1)));

  test('take the place of their calls, with the attributes of the call or their defaults', () => {
    const bytes = model([call('x', 'm'), call('m', 'y', by5)], scaled);
    expect(run(bytes, { x: Tensor.of('f32', [1, 2]) })).toEqual({ y: [24, 48] });
    const once = ['Constant', 'Mul', 'Add'];
    expect(parse(bytes).nodes.map(({ op }) => op)).toEqual([...once, ...once]);
  });

  test('may pass an input through, and leave optional inputs out', () => {
    const pass = field(
      25,
      message(field(1, 'Pass'), field(10, 'mine'), field(4, 'a'), field(4, 'b'), field(5, 'a'), field(9, field(2, 13))),
    );
    const bytes = model([field(1, node('Pass', ['x'], ['y'], field(7, 'mine')))], pass);
    expect(run(bytes, { x: Tensor.of('f32', [1, 2]) })).toEqual({ y: [1, 2] });
  });

  test('see no input that a call leaves out', () => {
    const bounded = field(
      25,
      message(
        field(1, 'Bounded'),
        field(10, 'mine'),
        ...['a', 'low', 'high'].map(name => field(4, name)),
        field(5, 'b'),
        field(7, node('Clip', ['a', 'low', 'high'], ['b'])),
        field(9, field(2, 13)),
      ),
    );
    const bytes = model([field(1, node('Bounded', ['x'], ['y'], field(7, 'mine')))], bounded);
    expect(run(bytes, { x: Tensor.of('f32', [-1, 2]) })).toEqual({ y: [-1, 2] });
    expect(parse(bytes).nodes[0]!.inputs.slice(1)).toEqual([undefined, undefined]);
  });

  test('that call themselves, or each other without end, are refused in bounded time', () => {
    const body = Array.from({ length: 40 }, (_, i) =>
      field(7, node('Loop', [i === 0 ? 'a' : `t${i}`], [i === 39 ? 'b' : `t${i + 1}`], field(7, 'mine'))),
    );
    const loop = field(25, message(field(1, 'Loop'), field(10, 'mine'), field(4, 'a'), field(5, 'b'), ...body));
    const bytes = model([field(1, node('Loop', ['x'], ['y'], field(7, 'mine')))], loop);
    expect(codeOf(() => parse(bytes))).toMatch(/^(MODEL_TOO_LARGE|UNSUPPORTED_MODEL):/);
  });

  test.each([
    ['two functions of one name', [scaled, scaled], [call('x', 'y')], /defined twice/],
    ['too many inputs', [scaled], [field(1, node('Scaled', ['x', 'x'], ['y'], field(7, 'mine')))], /has 1 inputs/],
    [
      'a reference outside of a function',
      [],
      [field(1, node('LeakyRelu', ['x'], ['y'], reference('alpha', 'by', 1)))],
      /outside of one/,
    ],
  ])('%s are refused', (_, functions, nodes, pattern) => {
    const refusal = codeOf(() => parse(model(nodes, ...functions)));
    expect(refusal).toMatch(/^INVALID_MODEL/);
    expect(refusal).toMatch(pattern);
  });
});

describe('external data', () => {
  const entry = (key: string, value: string): Uint8Array => field(13, message(field(1, key), field(2, value)));
  const stored = (location: string, ...more: readonly Uint8Array[]): Uint8Array =>
    model([
      field(1, node('Add', ['x', 'w'], ['y'])),
      field(5, message(field(1, 2), field(2, 1), field(8, 'w'), field(14, 1), entry('location', location), ...more)),
    ]);
  const weights = bytesSource(new Uint8Array(Float32Array.of(0, 7, 8, 0).buffer));
  const open = (bytes: Uint8Array): Graph => {
    const source = withExternalData(bytesSource(bytes), name => (name === 'w/weights.bin' ? weights : undefined));
    return parseOnnx(source, { external: source });
  };

  test('is read from the file beside the model, at its offset', () => {
    const graph = open(stored('w/weights.bin', entry('offset', '4'), entry('length', '8')));
    const y = referenceBackend.prepare(graph, { constants: weights }).runSync({ x: Tensor.of('f32', [1, 2]) });
    expect(y['y']?.toArray()).toEqual([8, 10]);
  });

  const big = bytesSource(new Uint8Array(Float32Array.from({ length: 66 }, (_, i) => i).buffer));
  /** The negated 64 floats of a file, as many bytes into it. */
  const large = (...more: readonly Uint8Array[]): Uint8Array =>
    message(
      field(8, field(2, 13)),
      field(
        7,
        message(
          field(1, node('Neg', ['w'], ['y'])),
          field(5, message(field(1, 64), field(2, 1), field(8, 'w'), field(14, 1), entry('location', 'w'), ...more)),
          field(12, port('y', 1, [64])),
        ),
      ),
    );

  test.each([
    ['', 0, []],
    [', at its offset', 8, [entry('offset', '8')]],
  ])('stays in its file where it is large, as a range behind the model%s', (_, offset, more) => {
    const bytes = large(...more);
    const source = withExternalData(bytesSource(bytes), () => big);
    const graph = parseOnnx(source, { external: source });
    expect([...graph.constants.values()]).toEqual([{ kind: 'range', offset: bytes.length + offset, length: 256 }]);
    const { y } = referenceBackend.prepare(graph, { constants: source }).runSync({});
    expect(y?.values()[63]).toBe(-63 - offset / 4);
  });

  test('that is large and ends behind its file is refused', () => {
    const source = withExternalData(bytesSource(large(entry('offset', '12'))), () => big);
    expect(codeOf(() => parseOnnx(source, { external: source }))).toMatch(
      /^INVALID_MODEL: .*256 bytes at 12 of a file of 264/,
    );
  });

  test.each([
    '../w/weights.bin',
    '/etc/passwd',
    'w/../../weights.bin',
    'w//weights.bin',
    './w/weights.bin',
    'w\\weights.bin',
    'C:weights.bin',
    'w/weights.bin\u0000.txt',
    '',
    'x'.repeat(2000),
  ])('at %j is refused before anything is opened', location => {
    const opened: string[] = [];
    const source = withExternalData(bytesSource(stored(location)), name => {
      opened.push(name);
      return weights;
    });
    expect(codeOf(() => parseOnnx(source, { external: source }))).toMatch(/^INVALID_MODEL: .* not a path inside/);
    expect(opened).toEqual([]);
  });

  test.each([
    ['past the end', [entry('offset', '12')]],
    ['of another length', [entry('length', '4')]],
    ['at no number', [entry('offset', '-4')]],
    ['at an absurd number', [entry('offset', '99999999999999999999')]],
    ['given twice', [entry('offset', '0'), entry('offset', '4')]],
    ['given here as well', [field(9, new Uint8Array(8))]],
  ])('%s is refused', (_, more) => {
    expect(codeOf(() => open(stored('w/weights.bin', ...more)))).toMatch(/^INVALID_MODEL/);
  });

  test('that is missing is refused with its name', () => {
    expect(codeOf(() => open(stored('other.bin')))).toMatch(/"other.bin": there is no such file/);
  });
});

describe('map outputs', () => {
  const labels = field(5, message(field(1, 'classlabels_strings'), field(9, 'no'), field(9, 'yes'), field(20, 8)));
  const zip = field(1, node('ZipMap', ['scores'], ['p'], field(7, 'ai.onnx.ml'), labels));
  const mapType = field(2, field(4, field(1, field(5, message(field(1, 8), field(2, field(1, field(1, 1))))))));
  const classifier = (...more: readonly Uint8Array[]): Uint8Array =>
    message(
      field(8, field(2, 13)),
      field(8, message(field(1, 'ai.onnx.ml'), field(2, 1))),
      field(
        7,
        message(
          field(1, node('Softmax', ['x'], ['scores'])),
          zip,
          field(11, port('x', 1, ['N', 2])),
          field(12, message(field(1, 'p'), mapType)),
          ...more,
        ),
      ),
    );

  test('stay tensors that know the labels of their columns', () => {
    const graph = parse(classifier());
    expect(graph.nodes.map(({ op }) => op)).toEqual(['Softmax']);
    expect(graph.outputs.map(id => graph.values[id]!.name)).toEqual(['p']);
    expect([...graph.maps.values()]).toEqual([{ labels: ['no', 'yes'] }]);
    const once = again(classifier());
    expect(again(once)).toEqual(once);
    expect([...parse(once).maps.values()]).toEqual([{ labels: ['no', 'yes'] }]);
  });

  test('leave the scores alone where the model gives them too', () => {
    const graph = parse(classifier(field(12, port('scores', 1, ['N', 2]))));
    expect(graph.outputs.map(id => graph.values[id]!.name)).toEqual(['p', 'scores']);
    expect(graph.nodes.map(({ op }) => op)).toEqual(['Softmax', 'Identity']);
  });

  test('that other nodes read are refused', () => {
    expect(codeOf(() => parse(classifier(field(1, node('Neg', ['p'], ['q'])), field(12, field(1, 'q')))))).toMatch(
      /UNSUPPORTED_MODEL: ZipMap .* not simply an output/,
    );
  });
});

describe('what a file declares', () => {
  test('of its outputs must be what they are', () => {
    const bytes = (type: number): Uint8Array =>
      message(
        field(8, field(2, 13)),
        field(7, message(field(1, node('Neg', ['x'], ['y'])), field(11, port('x')), field(12, port('y', type)))),
      );
    expect(codeOf(() => parse(bytes(1)))).toBe('nothing was refused');
    expect(codeOf(() => parse(bytes(7)))).toMatch(/^INVALID_GRAPH: "y" is declared as i64\[2\] and is f32\[2\]/);
  });

  test('of opsets may be left out by the oldest files alone', () => {
    const bytes = (version: number): Uint8Array =>
      message(
        field(1, version),
        field(7, message(field(1, node('Neg', ['x'], ['y'])), field(11, port('x')), field(12, port('y')))),
      );
    expect(parse(bytes(2)).nodes[0]!.opset).toBe(1);
    expect(codeOf(() => parse(bytes(3)))).toMatch(/^INVALID_MODEL: .*imports no opset of domain "ai.onnx"/);
  });

  test('gives sizes without a name one that no other has', () => {
    const bytes = message(
      field(8, field(2, 13)),
      field(
        7,
        message(
          field(1, node('Neg', ['x'], ['y'])),
          field(11, port('x', 1, [-1, 'x.0'])),
          field(12, port('y', 1, [-1, 'x.0'])),
        ),
      ),
    );
    const graph = parse(bytes);
    const { shape } = graph.values[graph.inputs[0]!]!.facts;
    expect(shape[1]).toBe('x.0');
    expect(new Set(shape).size).toBe(2);
  });

  test('as an integer constant is a scalar, and as integers a list', () => {
    const constant = (name: string, attribute: Uint8Array): Uint8Array =>
      field(1, node('Constant', [], [name], field(5, attribute)));
    const bytes = model([
      constant('one', message(field(1, 'value_int'), field(3, 1), field(20, 2))),
      constant('list', message(field(1, 'value_ints'), field(8, 1), field(8, 2), field(20, 7))),
      field(1, node('Identity', ['x'], ['y'])),
      field(12, port('one', 7, [])),
      field(12, port('list', 7, [2])),
    ]);
    const { one, list } = run(bytes, { x: Tensor.of('f32', [0, 0]) });
    expect([one, list]).toEqual([1n, [1n, 2n]]);
  });
});
